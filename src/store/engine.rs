//! What the store asks of whatever keeps its bytes: RocksDB in the server, a simulated disk in
//! the crash tests.

use std::ops::ControlFlow;
use std::path::Path;
use std::time::Duration;

use super::schema::Table;

/// An engine failure, in the engine's own words.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{0}")]
pub struct EngineError(pub String);

/// How far a read may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tier {
    /// Memory only; answers [`Lookup::Unknown`] where the disk would have to be asked.
    Memory,
    /// Down to the disk; blocks.
    Disk,
}

/// The answer to a point look-up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lookup<T> {
    /// The key is there.
    Found(T),
    /// The key is not there.
    Absent,
    /// Memory alone cannot tell.
    Unknown,
}

/// Which way a scan walks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From the first key of the range upwards.
    Ascending,
    /// From the last key of the range downwards.
    Descending,
}

/// Called with each key and value of a scan.
pub type Visit<'v> = &'v mut dyn FnMut(&[u8], &[u8]) -> ControlFlow<()>;

/// The keys of a table from one to another, both included.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct KeyRange {
    /// Of which table.
    pub table: Table,
    /// The first key.
    pub from: Vec<u8>,
    /// The last key.
    pub to: Vec<u8>,
}

/// Keeps bytes under keys, in tables, in key order.
pub trait Engine: Send + Sync + 'static {
    /// Applies a batch, whole or not at all: readable at once, durable after the next [`sync`].
    ///
    /// [`sync`]: Engine::sync
    ///
    /// # Errors
    /// When the engine could not write; nothing may be retried then.
    fn append(&self, batch: &Batch) -> Result<(), EngineError>;

    /// Makes everything appended before the call durable.
    ///
    /// # Errors
    /// When the disk did not confirm; what was appended may or may not survive.
    fn sync(&self) -> Result<(), EngineError>;

    /// Makes `files` files of log ready to be overwritten, where that makes a sync cheaper; fewer
    /// if it takes longer than `most`. Nothing readable changes. Nobody else writes meanwhile.
    ///
    /// # Errors
    /// When the engine could not write; nothing may be retried then.
    fn prepare_log(&self, _files: usize, _most: Duration) -> Result<(), EngineError> {
        Ok(())
    }

    /// Puts rows into a table in bulk, past the log: readable and durable when it returns. Their
    /// keys ascend, none twice.
    ///
    /// # Errors
    /// When the engine could not write; nothing may be retried then.
    fn file<'r>(
        &self,
        table: Table,
        rows: &mut dyn Iterator<Item = (&'r [u8], &'r [u8])>,
    ) -> Result<(), EngineError>;

    /// Looks up one key; `read` sees the value in place.
    ///
    /// # Errors
    /// When the engine could not read.
    fn get(
        &self,
        table: Table,
        key: &[u8],
        tier: Tier,
        read: &mut dyn FnMut(&[u8]),
    ) -> Result<Lookup<()>, EngineError>;

    /// A value, read from the disk where memory does not have it; `None` if the key is not there.
    ///
    /// # Errors
    /// When the engine could not read.
    fn value(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, EngineError> {
        let mut value = None;
        self.get(table, key, Tier::Disk, &mut |bytes| value = Some(bytes.to_vec()))?;
        Ok(value)
    }

    /// Walks the keys of `from..to` (`to` excluded).
    ///
    /// # Errors
    /// When the engine could not read.
    fn scan(
        &self,
        table: Table,
        from: &[u8],
        to: &[u8],
        direction: Direction,
        visit: Visit<'_>,
    ) -> Result<(), EngineError>;

    /// Makes a copy of all that is readable at one moment, in a folder that is not there yet; cheap
    /// where both are on one file system.
    ///
    /// # Errors
    /// When the engine cannot copy.
    fn copy_to(&self, folder: &Path) -> Result<(), EngineError>;

    /// Lets the engine drop rows that lead to conversions minted before `before_ms`, at its leisure.
    fn expire_rows(&self, before_ms: u64);

    /// Writes out what lies in these ranges, so that nothing of what was there before is left in
    /// the files, nor in the log of anything up to now. Blocks, long.
    ///
    /// # Errors
    /// When the engine could not; what is readable stays as it is.
    fn purge(&self, ranges: &[KeyRange]) -> Result<(), EngineError>;

    /// Lets a purge come to no end: one that is under way fails between two ranges, and so does
    /// every other from now on. All else goes on.
    fn end_purges(&self) {}

    /// Cuts short what the engine does beside, a purge too. Nothing is appended any more. Blocks
    /// until it has ended; what is readable stays so.
    fn close(&self) {}

    /// The engine's own gauges, as (name, table, value), without a table if of all.
    fn gauges(&self, visit: &mut dyn FnMut(&'static str, Option<Table>, u64));
}

/// One change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change<'b> {
    /// Writes a value under a key.
    Put(Table, &'b [u8], &'b [u8]),
    /// Removes a key.
    Delete(Table, &'b [u8]),
    /// Removes the keys of a range, its end excluded.
    DeleteRange(Table, &'b [u8], &'b [u8]),
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    Put,
    Delete,
    DeleteRange,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    kind: Kind,
    table: Table,
    key_end: usize,
    end: usize,
}

/// Changes that take effect together; their bytes lie in one buffer that is used again.
#[derive(Debug, Default)]
pub struct Batch {
    bytes: Vec<u8>,
    entries: Vec<Entry>,
    by_table: [usize; Table::ALL.len()],
}

impl Batch {
    /// Adds a put; `encode` appends the value to the buffer.
    pub fn put(&mut self, table: Table, key: &[u8], encode: impl FnOnce(&mut Vec<u8>)) {
        self.bytes.extend_from_slice(key);
        let key_end = self.bytes.len();
        encode(&mut self.bytes);
        debug_assert!(self.bytes.len() >= key_end, "encoders only append");
        self.push(Entry { kind: Kind::Put, table, key_end, end: self.bytes.len() });
    }

    /// Adds the removal of a key.
    pub fn delete(&mut self, table: Table, key: &[u8]) {
        self.bytes.extend_from_slice(key);
        let end = self.bytes.len();
        self.push(Entry { kind: Kind::Delete, table, key_end: end, end });
    }

    /// Adds another batch's changes behind its own.
    pub fn append(&mut self, other: &Self) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&other.bytes);
        let moved = other.entries.iter().map(|entry| Entry {
            key_end: start + entry.key_end,
            end: start + entry.end,
            ..*entry
        });
        self.entries.extend(moved);
        for (all, more) in self.by_table.iter_mut().zip(other.by_table) {
            *all += more;
        }
    }

    /// Adds the removal of `from..to`.
    pub fn delete_range(&mut self, table: Table, from: &[u8], to: &[u8]) {
        self.bytes.extend_from_slice(from);
        let key_end = self.bytes.len();
        self.bytes.extend_from_slice(to);
        self.push(Entry { kind: Kind::DeleteRange, table, key_end, end: self.bytes.len() });
    }

    fn push(&mut self, entry: Entry) {
        self.by_table[entry.table as usize] += 1;
        self.entries.push(entry);
    }

    /// Number of changes to one table.
    #[must_use]
    pub fn changes_of(&self, table: Table) -> usize {
        self.by_table[table as usize]
    }

    /// The changes in the order they were added.
    pub fn changes(&self) -> impl Iterator<Item = Change<'_>> {
        let mut start = 0;
        self.entries.iter().map(move |entry| {
            let key = &self.bytes[start..entry.key_end];
            let value = &self.bytes[entry.key_end..entry.end];
            start = entry.end;
            match entry.kind {
                Kind::Put => Change::Put(entry.table, key, value),
                Kind::Delete => Change::Delete(entry.table, key),
                Kind::DeleteRange => Change::DeleteRange(entry.table, key, value),
            }
        })
    }

    /// Number of changes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is nothing in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Bytes of keys and values.
    #[must_use]
    pub fn size(&self) -> usize {
        self.bytes.len()
    }

    /// Empties it and keeps its buffers.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.entries.clear();
        self.by_table = Default::default();
    }
}

impl dyn Engine + '_ {
    /// Walks the keys of `from..to` upwards, of which there are none where `to` is not behind `from`,
    /// until `visit` has seen enough, or fails; whether it has seen enough.
    ///
    /// # Errors
    /// When the engine could not read, and as `visit`.
    pub fn walk<E: From<EngineError>>(
        &self,
        table: Table,
        from: &[u8],
        to: &[u8],
        mut visit: impl FnMut(&[u8], &[u8]) -> Result<ControlFlow<()>, E>,
    ) -> Result<bool, E> {
        let mut seen = Ok(ControlFlow::Continue(()));
        if from < to {
            self.scan(table, from, to, Direction::Ascending, &mut |key, value| {
                seen = visit(key, value);
                seen.as_ref().map_or(ControlFlow::Break(()), |flow| *flow)
            })?;
        }
        seen.map(|flow| flow.is_break())
    }

    /// What `read` makes of the first row of `from..to`, or, descending, of the last; `None` where
    /// there is none.
    ///
    /// # Errors
    /// When the engine could not read.
    pub fn first<T>(
        &self,
        table: Table,
        from: &[u8],
        to: &[u8],
        direction: Direction,
        mut read: impl FnMut(&[u8], &[u8]) -> T,
    ) -> Result<Option<T>, EngineError> {
        let mut first = None;
        if from < to {
            self.scan(table, from, to, direction, &mut |key, value| {
                first = Some(read(key, value));
                ControlFlow::Break(())
            })?;
        }
        Ok(first)
    }

    /// Whether there is a row in `from..to`.
    ///
    /// # Errors
    /// When the engine could not read.
    pub fn has_any(&self, table: Table, from: &[u8], to: &[u8]) -> Result<bool, EngineError> {
        Ok(self.first(table, from, to, Direction::Ascending, |_, _| ())?.is_some())
    }
}
