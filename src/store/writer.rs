// Hot path: every click and conversion passes `Writer::submit`. No blocking beyond its short lock.
//! The one writer, in two stages on two threads.
//!
//! Workers encode their changes straight into the batch that is being collected, and flush it
//! once a turn of their event loop. The *sync*
//! stage appends what was collected to log buffer and memtable, does one flush and fsync for
//! everything appended so far, and settles its tickets; the fsync itself is the batching window,
//! and no time is added. While the fsync is on its way, the *append* stage appends what is
//! collected meanwhile, in chunks large enough to be worth waking a thread: so the next fsync
//! finds most of its work done.
//!
//! Each stage is a function that does one round, so that a simulation can run them in any order;
//! [`spawn`] gives each a thread.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;

use super::engine::{Batch, Engine};
use super::health::Health;
use super::ticket::{Outcome, Settle, Waiting};
use crate::limits;

/// Why a commit was not even queued.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SubmitError {
    /// The batch being collected is full; the disk is slower than the traffic.
    #[error("the writer's queue is full")]
    Full,
    /// Too little is left of the disk.
    #[error("the disk is full")]
    DiskFull,
    /// A write or fsync has failed.
    #[error("the store is poisoned")]
    Poisoned,
    /// The store is shutting down.
    #[error("the store is closed")]
    Closed,
}

/// What the stages report; the metrics implement it.
pub trait Observe: Send + Sync {
    /// One batch was appended: number of commits, bytes, time it took.
    fn appended(&self, commits: usize, bytes: usize, took: Duration);
    /// One fsync returned: number of commits it made durable, time it took.
    fn synced(&self, commits: usize, took: Duration);
}

/// Observes nothing.
#[derive(Debug)]
pub struct Unobserved;

impl Observe for Unobserved {
    fn appended(&self, _: usize, _: usize, _: Duration) {}
    fn synced(&self, _: usize, _: Duration) {}
}

type Tickets = Vec<Arc<dyn Settle>>;

/// A batch being collected.
#[derive(Default)]
struct Collected {
    batch: Batch,
    tickets: Tickets,
}

/// What workers and both stages share, under one lock that is held for a few instructions.
#[derive(Default)]
struct State {
    collected: Collected,
    /// Appended, not yet taken by the sync stage.
    appended: Tickets,
    /// Batches taken from `collected` whose append has not returned.
    appending: usize,
    /// The sync stage is at work; only then is the append stage worth waking.
    syncing: bool,
    /// What was collected is worth an fsync.
    flush: bool,
    closed: bool,
    sync_waits: bool,
    append_waits: bool,
}

impl State {
    fn is_dry(&self) -> bool {
        self.collected.tickets.is_empty() && self.appended.is_empty() && self.appending == 0
    }

    fn has_work_for_sync(&self) -> bool {
        let collected = !self.collected.tickets.is_empty() && (self.flush || self.closed);
        collected || !self.appended.is_empty()
    }

    fn has_chunk(&self) -> bool {
        self.syncing
            && self.collected.tickets.len() >= limits::APPEND_CHUNK_COMMITS
            && self.appended.len() < limits::UNSYNCED_COMMITS_MAX
    }
}

/// Both stages' shared state.
pub struct Writer {
    engine: Arc<dyn Engine>,
    health: Arc<Health>,
    observe: Arc<dyn Observe>,
    state: Mutex<State>,
    sync_wakes: Condvar,
    append_wakes: Condvar,
    waiting: ArcSwap<Vec<Arc<Waiting>>>,
}

/// Buffers of the append stage, used again for every batch.
#[derive(Default)]
pub struct AppendBuffers(Collected);

impl Writer {
    /// A writer to `engine`.
    #[must_use]
    pub fn new(engine: Arc<dyn Engine>, health: Arc<Health>, observe: Arc<dyn Observe>) -> Self {
        Self {
            engine,
            health,
            observe,
            state: Mutex::default(),
            sync_wakes: Condvar::new(),
            append_wakes: Condvar::new(),
            waiting: ArcSwap::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic under this lock leaves whole entries behind: each is added by its last statement.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds changes to the batch being collected; `ticket` will hear how they ended. The batch
    /// goes to the disk when it is large enough or at the next [`Writer::flush`]. On an error
    /// nothing was added and the ticket is not settled.
    ///
    /// # Errors
    /// When the queue is full, the store poisoned or closed.
    pub fn submit(
        &self,
        ticket: Arc<dyn Settle>,
        changes: impl FnOnce(&mut Batch),
    ) -> Result<(), SubmitError> {
        if self.health.poison_reason().is_some() {
            return Err(SubmitError::Poisoned);
        }
        let mut state = self.lock();
        if state.closed {
            return Err(SubmitError::Closed);
        }
        let collected = &mut state.collected;
        if collected.tickets.len() >= limits::BATCH_COMMITS_MAX
            || collected.batch.size() >= limits::BATCH_BYTES_MAX
        {
            return Err(SubmitError::Full);
        }
        changes(&mut collected.batch);
        collected.tickets.push(ticket);
        if collected.tickets.len() >= limits::GATHER_COMMITS {
            state.flush = true;
            self.wake(state);
        }
        Ok(())
    }

    /// Lets the batch being collected go to the disk, however small.
    pub fn flush(&self) {
        let mut state = self.lock();
        if !state.collected.tickets.is_empty() {
            state.flush = true;
            self.wake(state);
        }
    }

    /// Wakes the stage that has something to do and waits; a needless wake costs a system call.
    fn wake(&self, mut state: MutexGuard<'_, State>) {
        let wanted = state.has_work_for_sync() || state.closed;
        let sync = wanted && std::mem::take(&mut state.sync_waits);
        let append = state.has_chunk() && std::mem::take(&mut state.append_waits);
        drop(state);
        if sync {
            self.sync_wakes.notify_one();
        }
        if append {
            self.append_wakes.notify_one();
        }
    }

    /// Commits waiting to be appended, and commits waiting for the fsync.
    #[must_use]
    pub fn queued(&self) -> (usize, usize) {
        let state = self.lock();
        (state.collected.tickets.len(), state.appended.len())
    }

    /// Takes no more; the stages finish what they have.
    pub fn close(&self) {
        self.lock().closed = true;
        self.sync_wakes.notify_one();
        self.append_wakes.notify_one();
    }

    /// One round of the append stage: takes what was collected, applies it, hands it on. Does
    /// nothing if nothing was collected.
    pub fn append_once(&self, buffers: &mut AppendBuffers) {
        let taken = &mut buffers.0;
        {
            let mut state = self.lock();
            if state.collected.tickets.is_empty() {
                return;
            }
            std::mem::swap(&mut state.collected, taken);
            state.appending += 1;
        }
        let result = self.append(&taken.batch, taken.tickets.len());
        taken.batch.clear();
        let mut state = self.lock();
        state.appending -= 1;
        match result {
            Ok(()) => {
                state.appended.append(&mut taken.tickets);
                self.wake(state);
            }
            Err(outcome) => {
                self.wake(state);
                self.settle(&mut taken.tickets, outcome);
            }
        }
    }

    fn append(&self, batch: &Batch, commits: usize) -> Result<(), Outcome> {
        if self.health.poison_reason().is_some() {
            return Err(Outcome::NotDone);
        }
        let started = Instant::now();
        self.engine.append(batch).map_err(|error| {
            self.health.poison("append", &error);
            Outcome::Unknown
        })?;
        self.observe.appended(commits, batch.size(), started.elapsed());
        Ok(())
    }

    /// One round of the sync stage: one fsync for everything appended so far. Does nothing if
    /// nothing was appended. `tickets` is a buffer.
    pub fn sync_once(&self, tickets: &mut Vec<Arc<dyn Settle>>) {
        std::mem::swap(&mut self.lock().appended, tickets);
        if tickets.is_empty() {
            return;
        }
        let outcome = self.sync(tickets.len());
        self.settle(tickets, outcome);
    }

    fn settle(&self, tickets: &mut Tickets, outcome: Outcome) {
        for ticket in tickets.drain(..) {
            ticket.settle(outcome);
        }
        for worker in self.waiting.load().iter() {
            worker.notify();
        }
    }

    /// Adds a worker whose tasks wait for outcomes.
    pub fn add_waiting(&self, worker: &Arc<Waiting>) {
        self.waiting.rcu(|workers| {
            workers.iter().chain(std::iter::once(worker)).cloned().collect::<Vec<_>>()
        });
    }

    fn sync(&self, commits: usize) -> Outcome {
        if self.health.poison_reason().is_some() {
            return Outcome::Unknown;
        }
        let started = Instant::now();
        match self.engine.sync() {
            Ok(()) => {
                self.observe.synced(commits, started.elapsed());
                Outcome::Durable
            }
            Err(error) => {
                self.health.poison("fsync", &error);
                Outcome::Unknown
            }
        }
    }

    fn append_until_closed(&self) {
        let mut buffers = AppendBuffers::default();
        loop {
            let mut state = self.lock();
            while !state.has_chunk() && !state.closed {
                state.append_waits = true;
                state = self.append_wakes.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
            if state.closed {
                // The sync stage appends what is left.
                return;
            }
            drop(state);
            self.append_once(&mut buffers);
        }
    }

    fn sync_until_closed(&self) {
        let mut buffers = AppendBuffers::default();
        let mut tickets = Vec::new();
        loop {
            let mut state = self.lock();
            state.syncing = false;
            while !state.has_work_for_sync() {
                if state.closed && state.is_dry() {
                    return;
                }
                state.sync_waits = true;
                let (woken, waited) = self
                    .sync_wakes
                    .wait_timeout(state, limits::UNFLUSHED_MAX)
                    .unwrap_or_else(PoisonError::into_inner);
                state = woken;
                // Nobody has to flush for a commit to get to the disk, only to get there soon.
                state.flush |= waited.timed_out() && !state.collected.tickets.is_empty();
            }
            state.syncing = true;
            state.flush = false;
            drop(state);
            self.append_once(&mut buffers);
            self.sync_once(&mut tickets);
        }
    }
}

/// Starts the two stages' threads. They end after [`Writer::close`], when all is settled.
///
/// # Errors
/// When the system gives no thread.
pub fn spawn(writer: &Arc<Writer>) -> std::io::Result<[JoinHandle<()>; 2]> {
    let append = Arc::clone(writer);
    let sync = Arc::clone(writer);
    Ok([
        std::thread::Builder::new()
            .name("store-append".into())
            .spawn(move || append.append_until_closed())?,
        std::thread::Builder::new()
            .name("store-sync".into())
            .spawn(move || sync.sync_until_closed())?,
    ])
}
