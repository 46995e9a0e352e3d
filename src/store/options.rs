//! RocksDB's options: the database's, and each column family's by its profile.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rocksdb::compaction_filter::Decision;
use rocksdb::{
    BlockBasedOptions, Cache, ColumnFamilyDescriptor, DBCompressionType, DBRecoveryMode, Env,
    Options,
};

use super::keys;
use super::records::dedupe_minted_ms;
use super::schema::{Profile, Table};
use crate::limits::{LOG_FILE_BYTES, LOG_FILES_READY_MAX, TABLE_FILES_OPEN_MAX};

/// Memtable of a busy column family, bytes: what a log file holds does not fill it, so that it is
/// written out with all others, when that is full.
const WRITE_BUFFER_BYTES: usize = 2 * LOG_FILE_BYTES as usize;
/// Memtable of a small column family, and of one that is written in bulk, bytes.
const SMALL_WRITE_BUFFER_BYTES: usize = 4 << 20;
/// Log kept for replay, bytes: bounds the start after a kill to about a second.
const WAL_BYTES_MAX: u64 = 256 << 20;
/// Old log files kept to be overwritten. Overwriting needs no file system journal commit: an
/// fsync then takes 0.15 ms instead of 0.25 ms on an idle machine, and instead of 4 ms on a busy one.
const WAL_RECYCLED_FILES: usize = LOG_FILES_READY_MAX as usize;
/// Bytes written before the kernel is asked to start writing table files back.
const TABLE_BYTES_PER_SYNC: u64 = 1 << 20;
/// Filter, in bits of a Bloom filter: 1 % false positives.
const FILTER_BITS: f64 = 10.0;
/// The same where most look-ups find nothing: 0.05 % false positives a file. Each of them sends a
/// postback to a reader thread.
const ABSENCE_FILTER_BITS: f64 = 16.0;
/// What RocksDB writes down of its own work, for people: files kept, and the bytes of each.
const INFO_LOGS_KEPT: usize = 3;
const INFO_LOG_BYTES_MAX: usize = 16 << 20;
const LARGE_BLOCK_BYTES: usize = 16 << 10;
const SMALL_BLOCK_BYTES: usize = 4 << 10;
/// Zstandard's quickest level but for the negative ones. Level 3 makes files of clicks 4 % smaller.
const ZSTD_LEVEL: i32 = 1;
/// What RocksDB takes for Zstandard's window unless told otherwise.
const ZSTD_WINDOW_BITS: i32 = -14;
/// After so long a table file is compacted even if nothing was added to its keys: by about so much
/// rows of conversions that were let go may outlive them. Sooner would rewrite the table for little.
const ROWS_COMPACTED_EVERY_SECONDS: u64 = 30 * 24 * 60 * 60;

/// Options of the database as a whole.
pub(super) fn database() -> Options {
    let mut options = Options::default();
    // Flushes and compactions can wait, a fsync cannot: without this they take its processor.
    if let Ok(mut env) = Env::new() {
        env.lower_thread_pool_cpu_priority();
        env.lower_high_priority_thread_pool_cpu_priority();
        options.set_env(&env);
    }
    options.create_if_missing(true);
    options.create_missing_column_families(true);
    options.set_manual_wal_flush(true);
    options.set_wal_recovery_mode(DBRecoveryMode::PointInTime);
    options.set_recycle_log_file_num(WAL_RECYCLED_FILES);
    options.set_max_total_wal_size(WAL_BYTES_MAX);
    options.set_max_open_files(TABLE_FILES_OPEN_MAX as i32);
    options.set_bytes_per_sync(TABLE_BYTES_PER_SYNC);
    options.set_max_background_jobs(2);
    // One append thread writes: no other writer to share a memtable with.
    options.set_allow_concurrent_memtable_write(false);
    options.set_enable_write_thread_adaptive_yield(false);
    options.set_skip_stats_update_on_db_open(true);
    options.set_stats_dump_period_sec(0);
    options.set_keep_log_file_num(INFO_LOGS_KEPT);
    options.set_max_log_file_size(INFO_LOG_BYTES_MAX);
    options
}

/// Every column family with its options, all sharing `cache`. Rows that lead to conversions minted
/// before `rows_before_ms` go when they are compacted; a customer's binding stays.
pub(super) fn column_families(
    cache: &Cache,
    rows_before_ms: &Arc<AtomicU64>,
) -> Vec<ColumnFamilyDescriptor> {
    let describe = |table: Table| {
        let mut options = of_profile(table.profile(), cache);
        let minted_ms: Option<MintedMs> = match table {
            Table::Dedupe => Some(|_key, value| dedupe_minted_ms(value)),
            Table::ByClick | Table::Customers => {
                Some(|key, _value| keys::conversion_of(key).map(|conversion| conversion.time_ms()))
            }
            _ => None,
        };
        if let Some(minted_ms) = minted_ms {
            drop_expired(&mut options, rows_before_ms, minted_ms);
        }
        ColumnFamilyDescriptor::new(table.name(), options)
    };
    Table::ALL.into_iter().map(describe).collect()
}

/// When the conversion was minted to which a row, key and value, leads.
type MintedMs = fn(&[u8], &[u8]) -> Option<u64>;

/// Lets compactions drop rows whose conversions were minted before `before_ms`.
fn drop_expired(options: &mut Options, before_ms: &Arc<AtomicU64>, minted_ms: MintedMs) {
    let before_ms = Arc::clone(before_ms);
    let decide = move |_level, key: &[u8], value: &[u8]| match minted_ms(key, value) {
        Some(minted) if minted < before_ms.load(Ordering::Relaxed) => Decision::Remove,
        _ => Decision::Keep,
    };
    options.set_compaction_filter("expiry", decide);
    // Nor does it leave rows where nothing is ever added any more.
    options.set_periodic_compaction_seconds(ROWS_COMPACTED_EVERY_SECONDS);
}

/// Options of a file of rows that RocksDB takes over: as its column family's, but for compression.
/// Rows in no order overlap others and are merged soon. A file that overlaps none comes to rest at
/// once, and then stays as it was written.
pub(super) fn filed_rows(profile: Profile, cache: &Cache) -> Options {
    let mut options = of_profile(profile, cache);
    options.set_bottommost_compression_type(match profile {
        Profile::Scattered => DBCompressionType::None,
        Profile::TimeOrdered | Profile::Ranges | Profile::Small => DBCompressionType::Lz4,
    });
    options
}

fn of_profile(profile: Profile, cache: &Cache) -> Options {
    let mut options = Options::default();
    let mut blocks = BlockBasedOptions::default();
    blocks.set_block_cache(cache);
    blocks.set_cache_index_and_filter_blocks(true);
    blocks.set_cache_index_and_filter_blocks_with_high_priority(true);
    blocks.set_pin_l0_filter_and_index_blocks_in_cache(true);
    blocks.set_format_version(6);
    options.set_compression_options(ZSTD_WINDOW_BITS, ZSTD_LEVEL, 0, 0);
    // What will be merged again is compressed little until it comes to rest.
    options.set_compression_type(DBCompressionType::Lz4);
    options.set_bottommost_compression_type(DBCompressionType::Zstd);
    match profile {
        Profile::TimeOrdered => {
            options.set_write_buffer_size(WRITE_BUFFER_BYTES);
            blocks.set_block_size(LARGE_BLOCK_BYTES);
            blocks.set_bloom_filter(FILTER_BITS, false);
            // As at the bottom: so files that overlap no others are moved there, and never rewritten.
            options.set_compression_type(DBCompressionType::Zstd);
        }
        Profile::Scattered => {
            options.set_write_buffer_size(SMALL_WRITE_BUFFER_BYTES);
            blocks.set_block_size(SMALL_BLOCK_BYTES);
            blocks.set_bloom_filter(ABSENCE_FILTER_BITS, false);
        }
        Profile::Ranges => {
            options.set_write_buffer_size(WRITE_BUFFER_BYTES);
            blocks.set_block_size(LARGE_BLOCK_BYTES);
        }
        Profile::Small => {
            options.set_write_buffer_size(SMALL_WRITE_BUFFER_BYTES);
            blocks.set_block_size(SMALL_BLOCK_BYTES);
            blocks.set_bloom_filter(FILTER_BITS, false);
        }
    }
    options.set_block_based_table_factory(&blocks);
    options
}
