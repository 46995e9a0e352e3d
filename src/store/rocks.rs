//! The engine on RocksDB. The only file, beside the options, that names it.

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rocksdb::{
    Cache, ColumnFamily, DB, ErrorKind, IteratorMode, ReadOptions, ReadTier, WriteBatch,
    WriteOptions,
};

use super::engine::{Batch, Change, Direction, Engine, EngineError, Lookup, Tier, Visit};
use super::options;
use super::schema::{Profile, Table};

/// Properties of each column family that are worth a gauge: metric suffix, RocksDB's name.
const GAUGES: [(&str, &str); 6] = [
    ("files_level0", "rocksdb.num-files-at-level0"),
    ("memtable_bytes", "rocksdb.cur-size-all-mem-tables"),
    ("table_bytes", "rocksdb.total-sst-files-size"),
    ("compaction_pending_bytes", "rocksdb.estimate-pending-compaction-bytes"),
    ("keys_estimate", "rocksdb.estimate-num-keys"),
    ("write_stopped", "rocksdb.is-write-stopped"),
];

/// A RocksDB database with all of the store's column families.
pub struct RocksEngine {
    db: DB,
    memory: ReadOptions,
    disk: ReadOptions,
    dedupe_before_ms: Arc<AtomicU64>,
}

impl RocksEngine {
    /// Opens or creates the database in `path`, with a block cache of `cache_bytes`.
    ///
    /// # Errors
    /// When RocksDB cannot open it.
    pub fn open(path: &Path, cache_bytes: usize) -> Result<Self, EngineError> {
        let cache = Cache::new_hyper_clock_cache(cache_bytes, 0);
        let dedupe_before_ms = Arc::new(AtomicU64::new(0));
        let families = options::column_families(&cache, &dedupe_before_ms);
        let db = DB::open_cf_descriptors(&options::database(), path, families).map_err(failed)?;
        let mut memory = ReadOptions::default();
        memory.set_read_tier(ReadTier::BlockCache);
        Ok(Self { db, memory, disk: ReadOptions::default(), dedupe_before_ms })
    }

    fn family(&self, table: Table) -> &ColumnFamily {
        self.db.cf_handle(table.name()).expect("every table is opened as a column family")
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
                    Change::DeleteRange(of, from, to) if of == table => {
                        writes.delete_range_cf(family, from, to);
                    }
                    _ => {}
                }
            }
        }
        self.db.write_opt(writes, &WriteOptions::default()).map_err(failed)
    }

    fn sync(&self) -> Result<(), EngineError> {
        self.db.flush_wal(true).map_err(failed)
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
        // Small tables are read whole and rarely: what they would push out is worth more.
        options.fill_cache(table.profile() != Profile::Small);
        let mode = match direction {
            Direction::Ascending => IteratorMode::Start,
            Direction::Descending => IteratorMode::End,
        };
        for row in self.db.iterator_cf_opt(self.family(table), options, mode) {
            let (key, value) = row.map_err(failed)?;
            if let ControlFlow::Break(()) = visit(&key, &value) {
                break;
            }
        }
        Ok(())
    }

    fn expire_dedupe(&self, before_ms: u64) {
        self.dedupe_before_ms.store(before_ms, Ordering::Relaxed);
    }

    fn gauges(&self, visit: &mut dyn FnMut(&'static str, Table, u64)) {
        for table in Table::ALL {
            for (name, property) in GAUGES {
                // A property that RocksDB does not know simply has no gauge.
                if let Ok(Some(value)) = self.db.property_int_value_cf(self.family(table), property)
                {
                    visit(name, table, value);
                }
            }
        }
    }
}

fn failed(error: rocksdb::Error) -> EngineError {
    EngineError(error.into_string())
}
