//! What a writer of the store holds until the disk has confirmed.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};
use std::time::Instant;

use tokio::sync::Notify;
use tokio::time::timeout_at;

/// How a commit ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// On disk: fsync returned.
    Durable,
    /// Certainly not done and never will be.
    NotDone,
    /// The disk failed half-way: it may be there after a restart, or not.
    Unknown,
}

/// A commit on its way: the writer says how it ended, exactly once, and whoever waits asks.
pub trait Settle: Send + Sync {
    /// Takes the outcome, on a writer thread. Must not block.
    fn settle(&self, outcome: Outcome);

    /// The outcome, if it is known by now.
    fn outcome(&self) -> Option<Outcome>;
}

const PENDING: u8 = 0;

/// An outcome that will be known; any number of tasks may wait for it.
#[derive(Debug, Default)]
pub struct Ticket {
    state: AtomicU8,
    known: Notify,
}

impl Ticket {
    /// Waits for the outcome, from any thread. [`Waiting::outcome`] is cheaper where the task
    /// belongs to a worker.
    pub async fn settled(&self) -> Outcome {
        loop {
            // Enlisted before looking, so that an outcome in between is not missed.
            let mut known = pin!(self.known.notified());
            known.as_mut().enable();
            if let Some(outcome) = self.outcome() {
                return outcome;
            }
            known.await;
        }
    }
}

impl Settle for Ticket {
    fn settle(&self, outcome: Outcome) {
        let state = match outcome {
            Outcome::Durable => 1,
            Outcome::NotDone => 2,
            Outcome::Unknown => 3,
        };
        let before = self.state.swap(state, Ordering::Release);
        debug_assert_eq!(before, PENDING, "settled twice");
        self.known.notify_waiters();
    }

    fn outcome(&self) -> Option<Outcome> {
        match self.state.load(Ordering::Acquire) {
            1 => Some(Outcome::Durable),
            2 => Some(Outcome::NotDone),
            3 => Some(Outcome::Unknown),
            _ => None,
        }
    }
}

/// The tasks of one worker that wait for the disk.
///
/// To wake a task of another thread costs a system call, and a timer for each task costs more
/// than the wait. So one task a worker, [`Waiting::attend`], does for all of them what has to do
/// with other threads: it hands what they have submitted to the writer once a turn of the
/// worker's event loop, the writer wakes it once an fsync, and it wakes whose outcome is known or
/// whose deadline has passed.
#[derive(Default)]
pub struct Waiting {
    tasks: Mutex<Tasks>,
    called: Notify,
    /// The writer has settled commits since the last look.
    settled: AtomicBool,
}

#[derive(Default)]
struct Tasks {
    enlisted: Vec<Enlisted>,
    /// The earliest deadline among them.
    earliest: Option<Instant>,
    /// [`Waiting::attend`] has been called and has not come yet.
    called: bool,
}

struct Enlisted {
    commit: Arc<dyn Settle>,
    until: Option<Instant>,
    waker: Waker,
}

impl Enlisted {
    /// Wakes the task if its outcome is known or its deadline has passed.
    fn wake_if_due(&self, now: Instant) -> bool {
        let due = self.commit.outcome().is_some() || self.until.is_some_and(|until| until <= now);
        if due {
            self.waker.wake_by_ref();
        }
        due
    }
}

impl Waiting {
    /// Waits for the outcome of a commit, no longer than `until`; `None` if that has passed.
    pub async fn outcome(
        &self,
        commit: &Arc<dyn Settle>,
        until: Option<Instant>,
    ) -> Option<Outcome> {
        let mut enlisted: Option<Waker> = None;
        poll_fn(|context| {
            if let Some(outcome) = commit.outcome() {
                return Poll::Ready(Some(outcome));
            }
            let waker = context.waker();
            if enlisted.is_some() && until.is_some_and(|until| until <= Instant::now()) {
                return Poll::Ready(None);
            }
            if !enlisted.as_ref().is_some_and(|enlisted| enlisted.will_wake(waker)) {
                enlisted = Some(waker.clone());
                self.enlist(Enlisted { commit: Arc::clone(commit), until, waker: waker.clone() });
            }
            // Once more: it may have been settled between the look and the list.
            commit.outcome().map_or(Poll::Pending, |outcome| Poll::Ready(Some(outcome)))
        })
        .await
    }

    /// Says that a task of this worker has submitted a commit.
    pub fn submitted(&self) {
        self.call(self.lock());
    }

    fn enlist(&self, task: Enlisted) {
        let mut tasks = self.lock();
        tasks.earliest = earlier(tasks.earliest, task.until);
        tasks.enlisted.push(task);
        self.call(tasks);
    }

    fn call(&self, mut tasks: MutexGuard<'_, Tasks>) {
        let first = !std::mem::replace(&mut tasks.called, true);
        drop(tasks);
        if first {
            self.called.notify_one();
        }
    }

    /// Runs for ever on the worker. `flush` tells the writer that it may begin.
    ///
    /// A task that calls puts this one behind all that are ready to run: what they submit meanwhile
    /// goes into the same batch, and if there are none, nobody waits.
    pub async fn attend(&self, flush: impl Fn()) {
        let mut tasks = Vec::new();
        loop {
            let earliest = self.lock().earliest;
            match earliest {
                // Passed or called, both lead to the same look.
                Some(until) => drop(timeout_at(until.into(), self.called.notified()).await),
                None => self.called.notified().await,
            }
            let now = Instant::now();
            {
                let mut shared = self.lock();
                shared.called = false;
                let passed = shared.earliest.is_some_and(|until| until <= now);
                if self.settled.swap(false, Ordering::Acquire) || passed {
                    std::mem::swap(&mut shared.enlisted, &mut tasks);
                    shared.earliest = None;
                }
            }
            flush();
            if tasks.is_empty() {
                continue;
            }
            tasks.retain(|task: &Enlisted| !task.wake_if_due(now));
            let mut shared = self.lock();
            for task in tasks.drain(..) {
                shared.earliest = earlier(shared.earliest, task.until);
                shared.enlisted.push(task);
            }
        }
    }

    /// Says that commits have been settled; called by the writer after a batch.
    pub(super) fn notify(&self) {
        self.settled.store(true, Ordering::Release);
        self.called.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, Tasks> {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn earlier(one: Option<Instant>, other: Option<Instant>) -> Option<Instant> {
    one.into_iter().chain(other).min()
}
