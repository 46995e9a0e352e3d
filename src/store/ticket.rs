//! What a writer of the store holds until the disk has confirmed.

use std::pin::pin;
use std::sync::atomic::{AtomicU8, Ordering};

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

/// Hears from the writer how a commit ended; called exactly once, on a writer thread.
pub trait Settle: Send + Sync {
    /// Takes the outcome. Must not block.
    fn settle(&self, outcome: Outcome);
}

const PENDING: u8 = 0;

/// An outcome that will be known; any number of tasks may wait for it.
#[derive(Debug, Default)]
pub struct Ticket {
    state: AtomicU8,
    known: Notify,
}

impl Ticket {
    /// The outcome, if it is known by now.
    #[must_use]
    pub fn get(&self) -> Option<Outcome> {
        match self.state.load(Ordering::Acquire) {
            1 => Some(Outcome::Durable),
            2 => Some(Outcome::NotDone),
            3 => Some(Outcome::Unknown),
            _ => None,
        }
    }

    /// Waits for the outcome.
    pub async fn outcome(&self) -> Outcome {
        loop {
            // Enlisted before looking, so that an outcome in between is not missed.
            let mut known = pin!(self.known.notified());
            known.as_mut().enable();
            if let Some(outcome) = self.get() {
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
}
