// Hot path: every click and conversion passes `Inbox::submit`. No blocking beyond its short lock.
//! The one writer, in two stages on two threads.
//!
//! Workers encode their changes straight into the batch that is being collected. The *append*
//! stage takes the whole batch and applies it to log buffer and memtable. The *sync* stage takes
//! all tickets appended so far, does one flush and fsync, and settles them. While one batch is
//! on its way to the disk the next is appended and the one after that collected: the fsync
//! itself is the batching window, and no time is added.
//!
//! Each stage is a function that does one round, so that a simulation can run them in any order;
//! [`spawn`] gives each a thread.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::engine::{Batch, Engine};
use super::health::Health;
use super::ticket::{Outcome, Settle};
use crate::limits;

/// Why a commit was not even queued.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SubmitError {
    /// The batch being collected is full; the disk is slower than the traffic.
    #[error("the writer's queue is full")]
    Full,
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

/// Something passed from stage to stage; a lock held for a few instructions, and a way to wait.
struct Stage<T> {
    state: Mutex<State<T>>,
    changed: Condvar,
}

struct State<T> {
    work: T,
    closed: bool,
    waiting: bool,
}

impl<T: Default> Stage<T> {
    fn new() -> Self {
        let state = State { work: T::default(), closed: false, waiting: false };
        Self { state: Mutex::new(state), changed: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        // A panic under this lock leaves whole entries behind: each is added by its last statement.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wakes the waiting side, if it waits; a needless wake would cost a system call.
    fn changed(&self, mut state: MutexGuard<'_, State<T>>) {
        if std::mem::take(&mut state.waiting) {
            drop(state);
            self.changed.notify_all();
        }
    }

    /// Sleeps until `ready` or closed.
    fn wait(&self, ready: impl Fn(&T) -> bool) -> MutexGuard<'_, State<T>> {
        let mut state = self.lock();
        while !ready(&state.work) && !state.closed {
            state.waiting = true;
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state
    }

    fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        self.changed(state);
    }
}

type Tickets = Vec<Arc<dyn Settle>>;

/// A batch being collected.
#[derive(Default)]
struct Collected {
    batch: Batch,
    tickets: Tickets,
}

/// Both stages' shared state.
pub struct Writer {
    engine: Arc<dyn Engine>,
    health: Arc<Health>,
    observe: Arc<dyn Observe>,
    inbox: Stage<Collected>,
    appended: Stage<Tickets>,
}

/// Buffers of the append stage, used again for every batch.
#[derive(Default)]
pub struct AppendBuffers(Collected);

impl Writer {
    /// A writer to `engine`.
    #[must_use]
    pub fn new(engine: Arc<dyn Engine>, health: Arc<Health>, observe: Arc<dyn Observe>) -> Self {
        Self { engine, health, observe, inbox: Stage::new(), appended: Stage::new() }
    }

    /// Adds changes to the batch being collected; `ticket` will hear how they ended. On an
    /// error nothing was added and the ticket is not settled.
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
        let mut state = self.inbox.lock();
        if state.closed {
            return Err(SubmitError::Closed);
        }
        let collected = &mut state.work;
        if collected.tickets.len() >= limits::BATCH_COMMITS_MAX
            || collected.batch.size() >= limits::BATCH_BYTES_MAX
        {
            return Err(SubmitError::Full);
        }
        changes(&mut collected.batch);
        collected.tickets.push(ticket);
        self.inbox.changed(state);
        Ok(())
    }

    /// Commits waiting to be appended, and commits waiting for the fsync.
    #[must_use]
    pub fn queued(&self) -> (usize, usize) {
        (self.inbox.lock().work.tickets.len(), self.appended.lock().work.len())
    }

    /// Takes no more; the stages finish what they have.
    pub fn close(&self) {
        self.inbox.close();
    }

    /// One round of the append stage: takes what was collected, applies it, hands it on. Does
    /// nothing if nothing was collected.
    pub fn append_once(&self, buffers: &mut AppendBuffers) {
        let taken = &mut buffers.0;
        std::mem::swap(&mut self.inbox.lock().work, taken);
        if taken.tickets.is_empty() {
            return;
        }
        let started = Instant::now();
        let result = match self.health.poison_reason() {
            None => self.engine.append(&taken.batch),
            Some(_) => return settle(&mut taken.tickets, &mut taken.batch, Outcome::NotDone),
        };
        match result {
            Ok(()) => {
                self.observe.appended(taken.tickets.len(), taken.batch.size(), started.elapsed());
                taken.batch.clear();
                let mut appended = self.appended.lock();
                appended.work.append(&mut taken.tickets);
                self.appended.changed(appended);
            }
            Err(error) => {
                self.health.poison("append", &error);
                settle(&mut taken.tickets, &mut taken.batch, Outcome::Unknown);
            }
        }
    }

    /// One round of the sync stage: one fsync for everything appended so far. Does nothing if
    /// nothing was appended. `tickets` is a buffer.
    pub fn sync_once(&self, tickets: &mut Vec<Arc<dyn Settle>>) {
        let mut appended = self.appended.lock();
        std::mem::swap(&mut appended.work, tickets);
        self.appended.changed(appended);
        if tickets.is_empty() {
            return;
        }
        let started = Instant::now();
        let outcome = match self.health.poison_reason() {
            Some(_) => Outcome::Unknown,
            None => match self.engine.sync() {
                Ok(()) => {
                    self.observe.synced(tickets.len(), started.elapsed());
                    Outcome::Durable
                }
                Err(error) => {
                    self.health.poison("fsync", &error);
                    Outcome::Unknown
                }
            },
        };
        for ticket in tickets.drain(..) {
            ticket.settle(outcome);
        }
    }

    fn append_until_closed(&self) {
        let mut buffers = AppendBuffers::default();
        loop {
            let state = self.inbox.wait(|collected| !collected.tickets.is_empty());
            let finished = state.closed && state.work.tickets.is_empty();
            drop(state);
            if finished {
                return self.appended.close();
            }
            // A disk that hangs must not let the unsynced pile up: then the inbox fills and refuses.
            drop(self.appended.wait(|tickets| tickets.len() < limits::UNSYNCED_COMMITS_MAX));
            self.append_once(&mut buffers);
        }
    }

    fn sync_until_closed(&self) {
        let mut tickets = Vec::new();
        loop {
            let state = self.appended.wait(|tickets| !tickets.is_empty());
            let finished = state.closed && state.work.is_empty();
            drop(state);
            if finished {
                return;
            }
            self.sync_once(&mut tickets);
        }
    }
}

fn settle(tickets: &mut Tickets, batch: &mut Batch, outcome: Outcome) {
    batch.clear();
    for ticket in tickets.drain(..) {
        ticket.settle(outcome);
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
