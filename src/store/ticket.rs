//! What a writer of the store holds until the disk has confirmed.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};

use tokio::sync::Notify;

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
/// To wake a task of another thread costs a system call. So the writer wakes one task a worker
/// and fsync, [`Waiting::wake_all_settled`], and that one wakes its neighbours.
#[derive(Default)]
pub struct Waiting {
    tasks: Mutex<Vec<(Arc<dyn Settle>, Waker)>>,
    settled: Notify,
}

impl Waiting {
    /// Waits for the outcome of a commit.
    pub async fn outcome(&self, commit: &Arc<dyn Settle>) -> Outcome {
        let mut enlisted: Option<Waker> = None;
        poll_fn(|context| {
            if let Some(outcome) = commit.outcome() {
                return Poll::Ready(outcome);
            }
            let waker = context.waker();
            if !enlisted.as_ref().is_some_and(|enlisted| enlisted.will_wake(waker)) {
                enlisted = Some(waker.clone());
                self.lock().push((Arc::clone(commit), waker.clone()));
            }
            // Once more: it may have been settled between the look and the list.
            commit.outcome().map_or(Poll::Pending, Poll::Ready)
        })
        .await
    }

    /// Runs for ever on the worker: after every fsync, wakes whoever has an outcome.
    pub async fn wake_all_settled(&self) {
        let mut tasks = Vec::new();
        loop {
            self.settled.notified().await;
            std::mem::swap(&mut *self.lock(), &mut tasks);
            tasks.retain(|(commit, waker)| {
                let settled = commit.outcome().is_some();
                if settled {
                    waker.wake_by_ref();
                }
                !settled
            });
            self.lock().append(&mut tasks);
        }
    }

    /// Says that commits have been settled; called by the writer after a batch.
    pub(super) fn notify(&self) {
        self.settled.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, Vec<(Arc<dyn Settle>, Waker)>> {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
