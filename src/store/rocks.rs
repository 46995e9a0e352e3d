//! The engine on RocksDB. Nothing but this, its log files and the options names it.

mod logs;

use std::fs::{self, File};
use std::io::ErrorKind as IoErrorKind;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use rocksdb::checkpoint::Checkpoint;
use rocksdb::{
    BottommostLevelCompaction, Cache, ColumnFamily, CompactOptions, DB, ErrorKind,
    IngestExternalFileOptions, LiveFile, ReadOptions, ReadTier, SstFileWriter, WriteBatch,
    WriteOptions,
};
use rustix::process::{Flock, FlockType, fcntl_getlk};

use super::engine::{Batch, Change, Direction, Engine, EngineError, KeyRange, Lookup, Tier, Visit};
use super::options;
use super::schema::{Profile, Table};
use crate::limits::LOG_FILE_BYTES;

/// The property that counts table files that were not compacted yet.
const LEVEL0_FILES: &str = "rocksdb.num-files-at-level0";

/// Properties of each column family that are worth a gauge: metric suffix, RocksDB's name.
const GAUGES: [(&str, &str); 6] = [
    ("files_level0", LEVEL0_FILES),
    ("memtable_bytes", "rocksdb.cur-size-all-mem-tables"),
    ("table_bytes", "rocksdb.total-sst-files-size"),
    ("compaction_pending_bytes", "rocksdb.estimate-pending-compaction-bytes"),
    ("keys_estimate", "rocksdb.estimate-num-keys"),
    ("write_stopped", "rocksdb.is-write-stopped"),
];

/// The database's property that says to how many bytes a second it slows writes; 0: not at all.
const DELAYED_RATE: &str = "rocksdb.actual-delayed-write-rate";

/// A key that no row has.
const NO_KEY: &[u8] = b"";
/// What log files are filled with at once, bytes.
const LOG_FILLER_BYTES: usize = 1 << 20;
/// The property that counts failed flushes and compactions.
const BACKGROUND_ERRORS: &str = "rocksdb.background-errors";

/// A RocksDB database with all of the store's column families.
pub struct RocksEngine {
    db: DB,
    memory: ReadOptions,
    disk: ReadOptions,
    cache: Cache,
    rows_before_ms: Arc<AtomicU64>,
    /// Held by whoever may make RocksDB begin another log, for which it takes an old one; alone by
    /// who empties old ones.
    logs: RwLock<()>,
    /// What was appended since all tables were last written out, bytes.
    logged: Mutex<u64>,
    /// Held by who purges.
    purging: Mutex<()>,
    is_ending: AtomicBool,
}

/// The file that every database has.
const CURRENT: &str = "CURRENT";

/// Whether there is a database in `path`, sound or not.
#[must_use]
pub fn is_database(path: &Path) -> bool {
    path.join(CURRENT).is_file()
}

/// Whether another process has the database in `path` open to write to it, and so its lock.
#[must_use]
pub fn is_written_elsewhere(path: &Path) -> bool {
    // What cannot be looked into, opening it will say.
    let Ok(lock) = File::open(path.join("LOCK")) else { return false };
    matches!(fcntl_getlk(lock, &Flock::from(FlockType::WriteLock)), Ok(Some(_)))
}

impl RocksEngine {
    /// Opens or creates the database in `path`, with a block cache of `cache_bytes`.
    ///
    /// # Errors
    /// When RocksDB cannot open it.
    pub fn open(path: &Path, cache_bytes: usize) -> Result<Self, EngineError> {
        check_processor()?;
        let cache = Cache::new_hyper_clock_cache(cache_bytes, 0);
        let rows_before_ms = Arc::new(AtomicU64::new(0));
        let families = options::column_families(&cache, &rows_before_ms);
        let db =
            DB::open_cf_descriptors(&options::database(), path, families).map_err(not_opened)?;
        // Only now: until it is open, another process may be at work in it.
        for table in Table::ALL {
            remove_if_there(&filed_rows(path, table))?;
        }
        Ok(Self::on(db, cache, rows_before_ms))
    }

    fn on(db: DB, cache: Cache, rows_before_ms: Arc<AtomicU64>) -> Self {
        let (mut memory, disk) = (ReadOptions::default(), ReadOptions::default());
        memory.set_read_tier(ReadTier::BlockCache);
        let (logs, logged, purging, is_ending) = Default::default();
        Self { db, memory, disk, cache, rows_before_ms, logs, logged, purging, is_ending }
    }

    /// Opens the database in `path` to be read only: nothing in the folder changes. What is still
    /// in the log is read, too. A process that writes to it meanwhile is not seen.
    ///
    /// # Errors
    /// When RocksDB cannot open it.
    pub fn open_read_only(path: &Path, cache_bytes: usize) -> Result<Self, EngineError> {
        check_processor()?;
        // RocksDB makes the folder before it finds that there is nothing to read.
        if let Err(error) = fs::metadata(path.join(CURRENT)) {
            let folder = path.display();
            return Err(EngineError(match error.kind() {
                IoErrorKind::NotFound => format!("there is no database in {folder}"),
                _ => format!("cannot look into {folder}: {error}"),
            }));
        }
        let cache = Cache::new_hyper_clock_cache(cache_bytes, 0);
        let rows_before_ms = Arc::new(AtomicU64::new(0));
        let families = options::column_families(&cache, &rows_before_ms);
        let mut options = options::database();
        options.create_if_missing(false);
        options.create_missing_column_families(false);
        let db = DB::open_cf_descriptors_read_only(&options, path, families, false);
        Ok(Self::on(db.map_err(failed)?, cache, rows_before_ms))
    }

    fn unless_ending(&self) -> Result<(), EngineError> {
        if self.is_ending.load(Ordering::SeqCst) {
            return Err(EngineError("the server stops".to_owned()));
        }
        Ok(())
    }

    fn family(&self, table: Table) -> &ColumnFamily {
        self.db.cf_handle(table.name()).expect("every table is opened as a column family")
    }
}

impl RocksEngine {
    /// The table files that have found their place; those that were just flushed lie everywhere.
    fn sorted_files(&self) -> Result<Vec<LiveFile>, EngineError> {
        let mut files = self.db.live_files().map_err(failed)?;
        files.retain(|file| file.level > 0);
        Ok(files)
    }

    fn flush_all(&self) -> Result<(), EngineError> {
        for table in Table::ALL {
            self.unless_ending()?;
            self.db.flush_cf(self.family(table)).map_err(failed)?;
        }
        Ok(())
    }
}

impl Engine for RocksEngine {
    fn append(&self, batch: &Batch) -> Result<(), EngineError> {
        let families = Table::ALL.map(|table| self.family(table));
        let mut writes = WriteBatch::default();
        // Table by table, so that one memtable after the other is in the processor's cache.
        for table in Table::ALL.into_iter().filter(|table| batch.changes_of(*table) > 0) {
            let family = families[table as usize];
            for change in batch.changes() {
                match change {
                    Change::Put(of, key, value) if of == table => writes.put_cf(family, key, value),
                    Change::Delete(of, key) if of == table => writes.delete_cf(family, key),
                    Change::DeleteRange(of, from, to) if of == table => {
                        writes.delete_range_cf(family, from, to);
                    }
                    _ => {}
                }
            }
        }
        let _logs = self.logs.read().unwrap_or_else(PoisonError::into_inner);
        // Held until it is written: what came between two tables would begin a log of its own.
        let mut logged = self.logged.lock().unwrap_or_else(PoisonError::into_inner);
        self.begin_full_log(&mut logged)?;
        *logged += writes.size_in_bytes() as u64;
        self.db.write_opt(writes, &WriteOptions::default()).map_err(failed)
    }

    fn sync(&self) -> Result<(), EngineError> {
        self.db.flush_wal(true).map_err(failed)
    }

    fn prepare_log(&self, files: usize, most: Duration) -> Result<(), EngineError> {
        if files == 0 {
            return Ok(());
        }
        let started = Instant::now();
        // RocksDB recycles the log files that it has written since it was opened, once nothing in
        // them is needed. A deletion of what is not there is needed until its table is flushed.
        let (held, switched) = (self.family(Table::Catalog), self.family(Table::Meta));
        self.db.delete_cf(held, NO_KEY).map_err(failed)?;
        let filler = vec![0; LOG_FILLER_BYTES];
        for _ in 0..files {
            for _ in 0..LOG_FILE_BYTES / LOG_FILLER_BYTES as u64 {
                let mut writes = WriteBatch::default();
                writes.put_log_data(&filler);
                self.db.write_opt(writes, &WriteOptions::default()).map_err(failed)?;
                self.db.flush_wal(false).map_err(failed)?;
            }
            self.sync()?;
            self.switch_log(switched)?;
            if started.elapsed() > most {
                break;
            }
        }
        self.db.flush_cf(held).map_err(failed)?;
        // From here on the first of them is the log.
        self.switch_log(switched)
    }

    fn file<'r>(
        &self,
        table: Table,
        rows: &mut dyn Iterator<Item = (&'r [u8], &'r [u8])>,
    ) -> Result<(), EngineError> {
        let mut rows = rows.peekable();
        if rows.peek().is_none() {
            return Ok(());
        }
        let path = filed_rows(self.db.path(), table);
        let options = options::filed_rows(table.profile(), &self.cache);
        let mut writer = SstFileWriter::create(&options);
        writer.open(&path).map_err(failed)?;
        for (key, value) in rows {
            writer.put(key, value).map_err(failed)?;
        }
        // Ends with an fsync.
        writer.finish().map_err(failed)?;
        let mut ingest = IngestExternalFileOptions::default();
        ingest.set_move_files(true);
        let _logs = self.logs.read().unwrap_or_else(PoisonError::into_inner);
        self.db
            .ingest_external_file_cf_opts(self.family(table), &ingest, vec![path])
            .map_err(failed)
    }

    fn get(
        &self,
        table: Table,
        key: &[u8],
        tier: Tier,
        read: &mut dyn FnMut(&[u8]),
    ) -> Result<Lookup<()>, EngineError> {
        let options = match tier {
            Tier::Memory => &self.memory,
            Tier::Disk => &self.disk,
        };
        match self.db.get_pinned_cf_opt(self.family(table), key, options) {
            Ok(Some(value)) => {
                read(&value);
                Ok(Lookup::Found(()))
            }
            Ok(None) => Ok(Lookup::Absent),
            Err(error) if error.kind() == ErrorKind::Incomplete => Ok(Lookup::Unknown),
            Err(error) => Err(failed(error)),
        }
    }

    fn scan(
        &self,
        table: Table,
        from: &[u8],
        to: &[u8],
        direction: Direction,
        visit: Visit<'_>,
    ) -> Result<(), EngineError> {
        let mut options = ReadOptions::default();
        options.set_iterate_lower_bound(from);
        options.set_iterate_upper_bound(to);
        // What is read in long walks, and rarely: what it would push out is worth more.
        let is_walked = matches!(table, Table::Clicks | Table::Counters | Table::Inbound);
        options.fill_cache(table.profile() != Profile::Small && !is_walked);
        let mut rows = self.db.raw_iterator_cf_opt(self.family(table), options);
        match direction {
            Direction::Ascending => rows.seek_to_first(),
            Direction::Descending => rows.seek_to_last(),
        }
        while let Some((key, value)) = rows.item() {
            if let ControlFlow::Break(()) = visit(key, value) {
                return Ok(());
            }
            match direction {
                Direction::Ascending => rows.next(),
                Direction::Descending => rows.prev(),
            }
        }
        rows.status().map_err(failed)
    }

    fn copy_to(&self, folder: &Path) -> Result<(), EngineError> {
        let _logs = self.logs.read().unwrap_or_else(PoisonError::into_inner);
        let checkpoint = Checkpoint::new(&self.db).map_err(failed)?;
        checkpoint.create_checkpoint(folder).map_err(failed)
    }

    fn expire_rows(&self, before_ms: u64) {
        self.rows_before_ms.store(before_ms, Ordering::Relaxed);
    }

    fn purge(&self, ranges: &[KeyRange]) -> Result<(), EngineError> {
        let _purging = self.purging.lock().unwrap_or_else(PoisonError::into_inner);
        let failures = || self.db.property_int_value(BACKGROUND_ERRORS).map_err(failed);
        let before = failures()?;
        // From then on the log needs none of what came before.
        self.flush_all()?;
        let mut options = CompactOptions::default();
        options.set_exclusive_manual_compaction(false);
        options.set_bottommost_level_compaction(BottommostLevelCompaction::Force);
        let mut ranges = ranges.to_vec();
        ranges.sort_unstable();
        let mut ranges = ranges.into_iter().peekable();
        while let Some(KeyRange { table, from, mut to }) = ranges.next() {
            self.unless_ending()?;
            // Those that lie in the same files go with it: each would have all of them rewritten.
            let files = self.sorted_files()?;
            let is_in_same = |to: &[u8], next: &KeyRange| {
                let is_both = |file: &LiveFile| {
                    file.start_key.as_deref() <= Some(to)
                        && file.end_key.as_deref() >= Some(&next.from[..])
                };
                next.table == table
                    && files.iter().any(|it| it.column_family_name == table.name() && is_both(it))
            };
            while let Some(next) = ranges.next_if(|next| is_in_same(&to, next)) {
                to = next.to.max(to);
            }
            self.db.compact_range_cf_opt(self.family(table), Some(from), Some(to), &options);
        }
        // The last one may have been cut short.
        self.unless_ending()?;
        // A compaction itself does not say how it ended.
        if failures()? != before {
            return Err(EngineError("a compaction has failed".to_owned()));
        }
        self.clear_logs()
    }

    fn end_purges(&self) {
        self.is_ending.store(true, Ordering::SeqCst);
    }

    fn close(&self) {
        self.end_purges();
        // Only now: a memtable that is full could not be written out any more.
        self.db.cancel_all_background_work(true);
        drop(self.purging.lock().unwrap_or_else(PoisonError::into_inner));
    }

    fn gauges(&self, visit: &mut dyn FnMut(&'static str, Option<Table>, u64)) {
        for table in Table::ALL {
            for (name, property) in GAUGES {
                // A property that RocksDB does not know simply has no gauge.
                if let Ok(Some(value)) = self.db.property_int_value_cf(self.family(table), property)
                {
                    visit(name, Some(table), value);
                }
            }
        }
        if let Ok(Some(rate)) = self.db.property_int_value(DELAYED_RATE) {
            visit("write_delayed_bytes_per_second", None, rate);
        }
    }
}

/// RocksDB is built for processors that compute its checksums themselves (`.cargo/config.toml`);
/// without them it would be killed at the first one, and say nothing.
fn check_processor() -> Result<(), EngineError> {
    #[cfg(target_arch = "x86_64")]
    if option_env!("CXXFLAGS_x86_64_unknown_linux_gnu").is_some_and(|it| it.contains("-msse4.2"))
        && !(is_x86_feature_detected!("sse4.2") && is_x86_feature_detected!("pclmulqdq"))
    {
        return Err(EngineError(
            "this build needs a processor with SSE 4.2 and PCLMULQDQ, as all for servers have been \
             since 2011; a virtual machine may hide them. For others, build without the flags in \
             .cargo/config.toml"
                .to_owned(),
        ));
    }
    Ok(())
}

/// Where the file of rows is made that RocksDB then takes over; one left behind by a kill holds
/// nothing of worth.
fn filed_rows(folder: &Path, table: Table) -> PathBuf {
    folder.join(format!("filing-{}.sst", table.name()))
}

fn remove_if_there(path: &Path) -> Result<(), EngineError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != IoErrorKind::NotFound => {
            Err(EngineError(format!("cannot remove {}: {error}", path.display())))
        }
        _ => Ok(()),
    }
}

fn unusable(path: &Path, error: std::io::Error) -> EngineError {
    EngineError(format!("cannot use {}: {error}", path.display()))
}

/// RocksDB's words for a lock that is taken say nothing of who may have it.
fn not_opened(error: rocksdb::Error) -> EngineError {
    let is_taken = error.as_ref().contains("lock file")
        && error.as_ref().contains("Resource temporarily unavailable");
    let hint =
        if is_taken { "another process has it open, as a running server does: " } else { "" };
    EngineError(format!("{hint}{error}"))
}

fn failed(error: rocksdb::Error) -> EngineError {
    EngineError(error.into_string())
}
