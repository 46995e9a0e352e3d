//! The engine's log files: one is begun for all tables when the last is full, and those that are
//! needed no more are emptied.

use std::collections::BTreeSet;
use std::fs;
use std::io::ErrorKind as IoErrorKind;
use std::os::unix::fs::DirEntryExt as _;
use std::sync::PoisonError;

use rocksdb::{ColumnFamily, ErrorKind, FlushOptions};

use super::{DELAYED_RATE, LEVEL0_FILES, NO_KEY, RocksEngine, failed, unusable};
use crate::limits::LOG_FILE_BYTES;
use crate::store::engine::EngineError;
use crate::store::schema::Table;

/// The property that counts memtables that are being written out.
const UNFLUSHED: &str = "rocksdb.num-immutable-mem-table";
/// Files of level 0 beyond which no table is written out for a full log: from 20 on RocksDB slows
/// writes, of 4 it begins to merge them.
const LEVEL0_FILES_MAX: u64 = 12;
/// What is appended until it is asked again whether tables can be written out, bytes.
const ASKED_AGAIN_BYTES: u64 = 4 << 20;
/// How often logs are begun to be rid of old ones: once, unless there is so much traffic that those
/// which were just emptied are full again.
const LOGS_CLEARED_IN: usize = 8;
/// The property that names the oldest log that is needed.
const NEEDED_LOG: &str = "rocksdb.min-log-number-to-keep";

impl RocksEngine {
    /// Has all tables written out, behind what is appended, when a log file is full: the next is
    /// begun, and this one is needed no more as soon as they are. So there are few logs, of one
    /// size, and each is written over the whole of an older one. Not yet where RocksDB would wait
    /// until nothing slows writes, however long that takes: appends go on, until it slows or stops
    /// them by itself and says so. `logged` is what was appended since, bytes.
    pub(super) fn begin_full_log(&self, logged: &mut u64) -> Result<(), EngineError> {
        if *logged >= LOG_FILE_BYTES {
            *logged = if self.begins_log()? { 0 } else { LOG_FILE_BYTES - ASKED_AGAIN_BYTES };
        }
        Ok(())
    }

    fn begins_log(&self) -> Result<bool, EngineError> {
        // That of all tables.
        if self.db.property_int_value(DELAYED_RATE).map_err(failed)?.unwrap_or(0) > 0 {
            return Ok(false);
        }
        let number = |family, property| {
            Ok(self.db.property_int_value_cf(family, property).map_err(failed)?.unwrap_or(0))
        };
        let families = Table::ALL.map(|table| self.family(table));
        for family in families {
            if number(family, UNFLUSHED)? > 0 || number(family, LEVEL0_FILES)? > LEVEL0_FILES_MAX {
                return Ok(false);
            }
        }
        let mut behind = FlushOptions::default();
        behind.set_wait(false);
        match self.db.flush_cfs_opt(&families.each_ref(), &behind) {
            Err(error) if error.kind() == ErrorKind::TryAgain => Ok(false),
            begun => begun.map(|()| true).map_err(failed),
        }
    }

    /// Begins another log file: with the memtable, which must not be empty for it.
    pub(super) fn switch_log(&self, family: &ColumnFamily) -> Result<(), EngineError> {
        self.db.delete_cf(family, NO_KEY).map_err(failed)?;
        self.db.flush_cf(family).map_err(failed)
    }

    /// Leaves nothing in the logs of what was written before, once it is in table files. RocksDB
    /// begins a log by writing over an old one, whose end stays until it is written over, too. So
    /// logs that are needed no more are emptied, and others are begun until none of those that
    /// were being written to is needed.
    pub(super) fn clear_logs(&self) -> Result<(), EngineError> {
        let mut old = self.empty_old_logs()?;
        for _ in 0..LOGS_CLEARED_IN {
            if old.is_empty() {
                return Ok(());
            }
            self.switch_log(self.family(Table::Meta))?;
            self.flush_all()?;
            let needed = self.empty_old_logs()?;
            old.retain(|log| needed.contains(log));
        }
        match old.is_empty() {
            true => Ok(()),
            false => Err(EngineError("logs are begun faster than old ones are emptied".to_owned())),
        }
    }

    /// Empties the logs that RocksDB needs no more and keeps to write over them, which may never
    /// happen. Whoever begins a log takes one of them, first its content, then its name; in between
    /// it must not be touched. Returns the others by what stays the same when they get another
    /// name: their inodes.
    fn empty_old_logs(&self) -> Result<BTreeSet<u64>, EngineError> {
        let (mut emptied, mut needed) = (Vec::new(), BTreeSet::new());
        let alone = self.logs.write().unwrap_or_else(PoisonError::into_inner);
        let needed_from = self.db.property_int_value(NEEDED_LOG).map_err(failed)?.unwrap_or(0);
        for entry in
            fs::read_dir(self.db.path()).map_err(|error| unusable(self.db.path(), error))?
        {
            let entry = entry.map_err(|error| unusable(self.db.path(), error))?;
            let path = entry.path();
            let is_log = path.extension().is_some_and(|extension| extension == "log");
            let number = path.file_stem().and_then(|stem| stem.to_str()?.parse::<u64>().ok());
            let Some(number) = number.filter(|_| is_log) else { continue };
            if number >= needed_from {
                needed.insert(entry.ino());
                continue;
            }
            match fs::OpenOptions::new().write(true).open(&path) {
                // RocksDB has removed it meanwhile.
                Err(error) if error.kind() == IoErrorKind::NotFound => {}
                Err(error) => return Err(unusable(&path, error)),
                Ok(file) => {
                    file.set_len(0).map_err(|error| unusable(&path, error))?;
                    emptied.push((path, file));
                }
            }
        }
        drop(alone);
        for (path, file) in emptied {
            file.sync_all().map_err(|error| unusable(&path, error))?;
        }
        Ok(needed)
    }
}
