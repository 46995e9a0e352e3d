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

mod state;

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;

use super::bounds::{Bounds, Mark};
use super::engine::{Batch, Engine};
use super::filing::Progress;
use super::health::Health;
use super::inbound::Arrivals;
use super::keys::{self, RecordKey};
use super::origin::Origin;
use super::records::Counted;
use super::ticket::{Outcome, Settle, Waiting};
use crate::click_id::RecordId;
use crate::limits;
use crate::model::period::Day;
pub use state::Appended;
use state::{Collected, State, Tickets};

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

/// Both stages' shared state.
pub struct Writer {
    engine: Arc<dyn Engine>,
    health: Arc<Health>,
    observe: Arc<dyn Observe>,
    progress: Arc<Progress>,
    state: Mutex<State>,
    sync_wakes: Condvar,
    append_wakes: Condvar,
    closes: Condvar,
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
            progress: Arc::default(),
            state: Mutex::default(),
            sync_wakes: Condvar::new(),
            append_wakes: Condvar::new(),
            closes: Condvar::new(),
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
        let mut state = self.open_for_one(Origin::Click)?;
        changes(&mut state.collected.batch);
        self.add(state, ticket);
        Ok(())
    }

    /// As [`Writer::submit`], for clicks, and for conversions that are there already. `changes`
    /// hears the bounds below which what is derived from them must be among the changes.
    ///
    /// # Errors
    /// As [`Writer::submit`].
    pub(super) fn submit_derived(
        &self,
        origin: Origin,
        ticket: Arc<dyn Settle>,
        changes: impl FnOnce(&mut Batch, &Bounds, &mut Arrivals),
    ) -> Result<(), SubmitError> {
        let mut state = self.open_for_one(origin)?;
        let State { collected, bounds, .. } = &mut *state;
        changes(&mut collected.batch, bounds, &mut collected.arrivals);
        self.add(state, ticket);
        Ok(())
    }

    /// As [`Writer::submit`], for a conversion that is new. `changes` hears the bounds below which what
    /// is derived from it must be among the changes.
    ///
    /// # Errors
    /// As [`Writer::submit`]; also when too many conversions are not filed yet.
    pub(super) fn submit_conversion(
        &self,
        conversion: RecordId,
        ticket: Arc<dyn Settle>,
        changes: impl FnOnce(&mut Batch, &Bounds, &mut Arrivals),
    ) -> Result<(), SubmitError> {
        let mut state = self.open_for_one(Origin::Postback)?;
        let Mark { below, submitted } = state.mark();
        if submitted - self.progress.filed() >= limits::UNFILED_MAX {
            return Err(SubmitError::Full);
        }
        let State { collected, bounds, .. } = &mut *state;
        if conversion.as_bytes() < &bounds.filed {
            self.progress.count_late();
        }
        changes(&mut collected.batch, bounds, &mut collected.arrivals);
        let below = below.max(keys::after(conversion));
        state.conversions = Some(Mark { below, submitted: submitted + 1 });
        self.progress.set_submitted(submitted + 1);
        self.add(state, ticket);
        Ok(())
    }

    /// The state, if one more commit can be collected.
    fn open_for_one(&self, origin: Origin) -> Result<MutexGuard<'_, State>, SubmitError> {
        if self.health.poison_reason().is_some() {
            return Err(SubmitError::Poisoned);
        }
        let state = self.lock();
        if state.closed {
            return Err(SubmitError::Closed);
        }
        let (commits_max, bytes_max) = origin.room();
        if state.collected.is_beyond(commits_max, bytes_max) {
            return Err(SubmitError::Full);
        }
        Ok(state)
    }

    /// Adds postbacks as received to the batch being collected, for which nobody waits: they go to
    /// the disk with the next commit.
    pub(super) fn note<T>(&self, add: impl FnOnce(&mut Arrivals) -> T) -> Result<T, SubmitError> {
        Ok(add(&mut self.open_for_one(Origin::Postback)?.collected.arrivals))
    }

    /// Whether such postbacks wait for a commit.
    pub(super) fn has_noted(&self) -> bool {
        self.lock().collected.arrivals.bytes() > 0
    }

    /// Says which start of the server this is.
    pub(super) fn number_start(&self, start: u64) {
        self.lock().start = start;
    }

    /// Ends a commit whose changes are in the batch.
    fn add(&self, mut state: MutexGuard<'_, State>, ticket: Arc<dyn Settle>) {
        state.collected.tickets.push(ticket);
        if state.collected.tickets.len() >= limits::GATHER_COMMITS {
            state.flush = true;
            self.wake(state);
        }
    }

    /// How many conversions were submitted and filed.
    #[must_use]
    pub fn progress(&self) -> &Arc<Progress> {
        &self.progress
    }

    /// Where the conversions submitted so far end.
    pub(super) fn mark(&self) -> Mark {
        self.lock().mark()
    }

    /// From now on conversions below bring their index rows along. Those that came before are in
    /// the batch with the number returned, or in earlier ones.
    pub(super) fn close_below(&self, below: RecordKey) -> u64 {
        let mut state = self.lock();
        state.bounds.filed = below;
        state.batch
    }

    /// From now on clicks and conversions below bring along what they add to the sums; as
    /// [`Writer::close_below`].
    pub(super) fn close_counting(&self, below: Counted) -> u64 {
        let mut state = self.lock();
        state.bounds.counted = below;
        state.batch
    }

    /// From now on nothing is posted to a day before `unsealed`. What was submitted before may be,
    /// and is in the batch being collected or in earlier ones.
    pub(super) fn close_days(&self, unsealed: Day) {
        self.lock().bounds.unsealed = unsealed;
    }

    /// The batch being collected: whatever is readable by now is in it or in earlier ones.
    pub(super) fn batch(&self) -> u64 {
        self.lock().batch
    }

    /// Whether a batch and all before it are on disk.
    pub(super) fn is_settled(&self, batch: u64) -> bool {
        let state = self.lock();
        let collected = state.batch > batch || state.collected.tickets.is_empty();
        let settled = collected && state.unsettled.iter().all(|unsettled| *unsettled > batch);
        // A failed batch is settled, too; the store is poisoned before it is.
        settled && self.health.poison_reason().is_none()
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

    /// Commits waiting to be appended, and commits waiting for the end of an fsync.
    #[must_use]
    pub fn queued(&self) -> (usize, usize) {
        let state = self.lock();
        (state.collected.tickets.len(), state.appended.tickets.len() + state.confirming)
    }

    /// Takes no more; the stages finish what they have.
    pub fn close(&self) {
        self.lock().closed = true;
        self.sync_wakes.notify_one();
        self.append_wakes.notify_one();
        self.closes.notify_all();
    }

    /// Waits for the writer to be closed, no longer than `most`; whether it is.
    pub(super) fn wait_closed(&self, most: Duration) -> bool {
        let state = self.lock();
        let waited = self.closes.wait_timeout_while(state, most, |state| !state.closed);
        waited.unwrap_or_else(PoisonError::into_inner).0.closed
    }

    /// One round of the append stage: takes what was collected, applies it, hands it on. Does
    /// nothing if nothing was collected.
    pub fn append_once(&self, buffers: &mut AppendBuffers) {
        let taken = &mut buffers.0;
        let (number, start) = {
            let mut state = self.lock();
            if state.collected.tickets.is_empty() {
                return;
            }
            std::mem::swap(&mut state.collected, taken);
            state.appending += 1;
            let number = state.batch;
            state.unsettled.push(number);
            state.batch += 1;
            (number, state.start)
        };
        taken.arrivals.write(&mut taken.batch, start, number);
        let result = self.append(&taken.batch, taken.tickets.len());
        taken.batch.clear();
        let mut state = self.lock();
        state.appending -= 1;
        match result {
            Ok(()) => {
                state.appended.tickets.append(&mut taken.tickets);
                state.appended.batches.push(number);
                self.wake(state);
            }
            Err(outcome) => {
                self.wake(state);
                self.settle(&mut taken.tickets, &mut vec![number], outcome);
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
    /// nothing was appended. `appended` is a buffer.
    pub fn sync_once(&self, appended: &mut Appended) {
        {
            let mut state = self.lock();
            std::mem::swap(&mut state.appended, appended);
            state.confirming = appended.tickets.len();
        }
        let Appended { tickets, batches } = appended;
        if tickets.is_empty() {
            return;
        }
        let outcome = self.sync(tickets.len());
        self.settle(tickets, batches, outcome);
    }

    fn settle(&self, tickets: &mut Tickets, batches: &mut Vec<u64>, outcome: Outcome) {
        for ticket in tickets.drain(..) {
            ticket.settle(outcome);
        }
        {
            let mut state = self.lock();
            state.settled(batches);
            // An append that failed comes here, too; then nothing of an fsync counts any more.
            state.confirming = 0;
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

    /// Takes such a worker away.
    pub fn remove_waiting(&self, gone: &Arc<Waiting>) {
        self.waiting.rcu(|workers| {
            let others = workers.iter().filter(|worker| !Arc::ptr_eq(worker, gone));
            others.cloned().collect::<Vec<_>>()
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
        let mut appended = Appended::default();
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
            self.sync_once(&mut appended);
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
