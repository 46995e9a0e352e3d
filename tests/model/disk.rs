//! A disk in memory: what was appended is readable, what was synced survives a crash, and of what
//! was only appended a random prefix does.

use std::collections::{BTreeMap, VecDeque};
use std::ops::{ControlFlow, RangeBounds};
use std::sync::{Mutex, MutexGuard};

use postbackd::store::engine::{
    Batch, Change, Direction, Engine, EngineError, KeyRange, Lookup, Tier, Visit,
};
use postbackd::store::schema::Table;

use crate::rng::Rng;

pub type Rows = BTreeMap<Vec<u8>, Vec<u8>>;

/// A value for every table, and the conversions that were let go, which nobody but the tests
/// remembers.
#[derive(Clone, Default)]
pub struct Tables {
    tables: [Rows; Table::ALL.len()],
    let_go: Rows,
}

impl Tables {
    pub fn of(&self, table: Table) -> &Rows {
        &self.tables[table as usize]
    }

    /// Every conversion that there ever was, as it was last.
    pub fn ever(&self) -> impl Iterator<Item = (&Vec<u8>, &Vec<u8>)> {
        self.let_go.iter().chain(self.of(Table::Conversions))
    }

    pub fn let_go(&self) -> &Rows {
        &self.let_go
    }

    fn apply(&mut self, changes: &[Owned]) {
        for change in changes {
            match change {
                Owned::Put(table, key, value) => {
                    self.tables[*table as usize].insert(key.clone(), value.clone());
                    if *table == Table::Conversions {
                        // A change that was under way when it was let go.
                        self.let_go.remove(key);
                    }
                }
                Owned::Delete(table, key) => {
                    self.tables[*table as usize].remove(key);
                }
                Owned::DeleteRange(table, from, to) => {
                    let gone = |key: &Vec<u8>, _: &mut Vec<u8>| (from..to).contains(&key);
                    let gone = self.tables[*table as usize].extract_if(.., gone);
                    if *table == Table::Conversions {
                        self.let_go.extend(gone);
                    } else {
                        gone.for_each(drop);
                    }
                }
            }
        }
    }
}

enum Owned {
    Put(Table, Vec<u8>, Vec<u8>),
    Delete(Table, Vec<u8>),
    DeleteRange(Table, Vec<u8>, Vec<u8>),
}

fn owned(batch: &Batch) -> Vec<Owned> {
    let own = |change| match change {
        Change::Put(table, key, value) => Owned::Put(table, key.to_vec(), value.to_vec()),
        Change::Delete(table, key) => Owned::Delete(table, key.to_vec()),
        Change::DeleteRange(table, from, to) => {
            Owned::DeleteRange(table, from.to_vec(), to.to_vec())
        }
    };
    batch.changes().map(own).collect()
}

/// What goes wrong, and how often.
#[derive(Clone, Copy, Debug, Default)]
pub struct Faults {
    /// One in so many appends fails; 0 is never.
    pub append: usize,
    /// One in so many syncs fails.
    pub sync: usize,
    /// One in so many bulk writes fails.
    pub file: usize,
    /// One in so many reads fails.
    pub read: usize,
    /// One in so many reads is not answered from memory.
    pub miss: usize,
}

struct State {
    readable: Tables,
    durable: Tables,
    unsynced: VecDeque<Vec<Owned>>,
    faults: Faults,
    failed: bool,
    rng: Rng,
}

impl State {
    /// The oldest `count` of the unsynced batches reach the platter.
    fn persist(&mut self, count: usize) {
        for batch in self.unsynced.drain(..count) {
            self.durable.apply(&batch);
        }
    }

    fn persist_some(&mut self) {
        let count = self.rng.below(self.unsynced.len() + 1);
        self.persist(count);
    }
}

pub struct Disk(Mutex<State>);

impl Disk {
    pub fn new(durable: Tables, rng: Rng) -> Self {
        Self(Mutex::new(State {
            readable: durable.clone(),
            durable,
            unsynced: VecDeque::new(),
            faults: Faults::default(),
            failed: false,
            rng,
        }))
    }

    pub fn set_faults(&self, faults: Faults) {
        self.lock().faults = faults;
    }

    /// Whether a write or fsync has failed.
    pub fn has_failed(&self) -> bool {
        self.lock().failed
    }

    pub fn with_durable<T>(&self, look: impl FnOnce(&Tables) -> T) -> T {
        look(&self.lock().durable)
    }

    pub fn with_readable<T>(&self, look: impl FnOnce(&Tables) -> T) -> T {
        look(&self.lock().readable)
    }

    /// What is found after the power came back.
    pub fn crash(&self) -> Tables {
        let mut state = self.lock();
        state.persist_some();
        state.durable.clone()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.try_lock().expect("one thread, which looks once at a time")
    }
}

impl Engine for Disk {
    fn append(&self, batch: &Batch) -> Result<(), EngineError> {
        let mut state = self.lock();
        assert!(!state.failed, "a failed disk is never written to again");
        let changes = owned(batch);
        let (append, applied) = (state.faults.append, state.rng.once_in(2));
        let fails = state.rng.once_in(append);
        if !fails || applied {
            state.readable.apply(&changes);
            state.unsynced.push_back(changes);
        }
        state.failed = fails;
        if fails { Err(EngineError("injected append".into())) } else { Ok(()) }
    }

    fn sync(&self) -> Result<(), EngineError> {
        let mut state = self.lock();
        assert!(!state.failed, "a failed disk is never synced again");
        let sync = state.faults.sync;
        if state.rng.once_in(sync) {
            state.failed = true;
            state.persist_some();
            return Err(EngineError("injected fsync".into()));
        }
        let all = state.unsynced.len();
        state.persist(all);
        Ok(())
    }

    fn file<'r>(
        &self,
        table: Table,
        rows: &mut dyn Iterator<Item = (&'r [u8], &'r [u8])>,
    ) -> Result<(), EngineError> {
        let mut state = self.lock();
        assert!(!state.failed, "a failed disk is never written to again");
        let own = |(key, value): (&[u8], &[u8])| Owned::Put(table, key.to_vec(), value.to_vec());
        let changes: Vec<_> = rows.map(own).collect();
        let keys = changes.iter().map(|change| match change {
            Owned::Put(_, key, _) | Owned::Delete(_, key) | Owned::DeleteRange(_, key, _) => key,
        });
        assert!(keys.is_sorted_by(|one, other| one < other), "keys ascend, none twice");
        let (file, applied) = (state.faults.file, state.rng.once_in(2));
        let fails = state.rng.once_in(file);
        if !fails || applied {
            state.readable.apply(&changes);
            state.durable.apply(&changes);
        }
        state.failed = fails;
        if fails { Err(EngineError("injected bulk write".into())) } else { Ok(()) }
    }

    fn get(
        &self,
        table: Table,
        key: &[u8],
        tier: Tier,
        read: &mut dyn FnMut(&[u8]),
    ) -> Result<Lookup<()>, EngineError> {
        let mut state = self.lock();
        let Faults { read: fails, miss, .. } = state.faults;
        if state.rng.once_in(fails) {
            return Err(EngineError("injected read".into()));
        }
        if tier == Tier::Memory && state.rng.once_in(miss) {
            return Ok(Lookup::Unknown);
        }
        Ok(match state.readable.of(table).get(key) {
            None => Lookup::Absent,
            Some(value) => {
                read(value);
                Lookup::Found(())
            }
        })
    }

    fn scan(
        &self,
        table: Table,
        from: &[u8],
        to: &[u8],
        direction: Direction,
        visit: Visit<'_>,
    ) -> Result<(), EngineError> {
        let state = self.lock();
        let range = || state.readable.of(table).range::<[u8], _>(bounds(from, to));
        let mut show = |(key, value): (&Vec<u8>, &Vec<u8>)| match visit(key, value) {
            ControlFlow::Continue(()) => true,
            ControlFlow::Break(()) => false,
        };
        let _all_seen = match direction {
            Direction::Ascending => range().all(&mut show),
            Direction::Descending => range().rev().all(&mut show),
        };
        Ok(())
    }

    fn copy_to(&self, _folder: &std::path::Path) -> Result<(), EngineError> {
        Err(EngineError("a simulated disk has no folders".into()))
    }

    fn purge(&self, _ranges: &[KeyRange]) -> Result<(), EngineError> {
        Ok(())
    }

    fn expire_rows(&self, _before_ms: u64) {}

    fn gauges(&self, _visit: &mut dyn FnMut(&'static str, Option<Table>, u64)) {}
}

fn bounds<'k>(from: &'k [u8], to: &'k [u8]) -> impl RangeBounds<[u8]> + 'k {
    use std::ops::Bound::{Excluded, Included};
    (Included(from), Excluded(to))
}
