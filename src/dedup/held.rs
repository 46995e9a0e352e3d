// Hot path: no allocation.
//! Claims that are ours, and their way into the writer's hands.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::cache::Original;
use super::pending::Pending;
use crate::click_id::RecordId;
use crate::model::status::Status;
use crate::store::claim::ClaimSet;
use crate::store::ticket::{Outcome, Settle, Waiting};

/// Claims that are ours. Dropped before they are submitted, they are free again.
pub struct Held {
    pending: Arc<Pending>,
    submitted: bool,
}

impl Held {
    pub(super) const fn new(pending: Arc<Pending>) -> Self {
        Self { pending, submitted: false }
    }

    pub(super) const fn pending(&self) -> &Arc<Pending> {
        &self.pending
    }

    /// The conversion they are held for.
    #[must_use]
    pub fn original(&self) -> Original {
        self.pending.original
    }

    /// The other conversion that holds the soft claim; `None` if it is ours, or none was wanted.
    #[must_use]
    pub fn bound_by(&self) -> Option<RecordId> {
        self.pending.lost_to()
    }

    /// Hands the claims to the writer by `submit`, which queues the commit with the given ticket.
    /// From then on the outcome is the writer's; this side may only wait for it.
    ///
    /// # Errors
    /// What `submit` returns; the claims are free again then.
    pub fn submit<E>(
        mut self,
        submit: impl FnOnce(Arc<dyn Settle>) -> Result<(), E>,
    ) -> Result<Submitted, E> {
        submit(Arc::clone(&self.pending) as _)?;
        self.submitted = true;
        Ok(Submitted(Arc::clone(&self.pending) as _))
    }

    /// As [`Held::submit`], together with changes of known conversions that leave them with these
    /// statuses: all or none.
    ///
    /// # Errors
    /// As [`Held::submit`].
    pub fn submit_with<E>(
        self,
        mut known: Vec<(Self, Status)>,
        submit: impl FnOnce(Arc<dyn Settle>) -> Result<(), E>,
    ) -> Result<Submitted, E> {
        known.iter().for_each(|(held, status)| held.becomes(*status));
        let others = known.iter().map(|(held, _)| Arc::clone(&held.pending)).collect();
        let submitted = self.submit(|own| submit(Arc::new(Together { own, others })))?;
        known.iter_mut().for_each(|(held, _)| held.submitted = true);
        Ok(submitted)
    }

    fn becomes(&self, status: Status) {
        debug_assert!(self.pending.change.is_some(), "held to be changed");
        // From the submission on it may be readable, and not durable.
        self.pending.memory.warming.changed(self.pending.original.conversion);
        if let Some(code) = &self.pending.change {
            code.store(status.code(), Ordering::Release);
        }
    }

    /// As [`Held::submit`], for a change that leaves the conversion with this status.
    ///
    /// # Errors
    /// As [`Held::submit`].
    pub fn submit_change<E>(
        self,
        status: Status,
        submit: impl FnOnce(Arc<dyn Settle>) -> Result<(), E>,
    ) -> Result<Changing, E> {
        self.becomes(status);
        let pending = Arc::clone(&self.pending);
        self.submit(submit)?;
        Ok(Changing(pending))
    }

    /// As [`Held::submit_change`], for a change that erases the texts of which some of `claims` are
    /// made: memory forgets these, once the store is known to have them.
    ///
    /// # Errors
    /// As [`Held::submit`].
    pub fn submit_erasure<E>(
        self,
        claims: &ClaimSet<'_>,
        status: Status,
        submit: impl FnOnce(Arc<dyn Settle>) -> Result<(), E>,
    ) -> Result<Changing, E> {
        let pending = Arc::clone(&self.pending);
        let seed = pending.memory.seed;
        let mut of_text = claims.hard().filter(|claim| claim.is_of_text());
        let forgotten = of_text.next().map(|claim| claim.cache_key(seed));
        self.submit_change(status, |_| submit(Arc::new(Erasing { pending, forgotten })))
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if !self.submitted {
            self.pending.settle(Outcome::NotDone);
        }
    }
}

/// Claims in the writer's hands.
pub struct Submitted(Arc<dyn Settle>);

impl Submitted {
    /// Waits until the disk has confirmed, or not.
    pub async fn outcome(&self, waiting: &Waiting) -> Outcome {
        // Without a deadline there always is one.
        waiting.outcome(&self.0, None).await.unwrap_or(Outcome::Unknown)
    }
}

/// A change in the writer's hands.
pub struct Changing(Arc<Pending>);

impl Changing {
    /// Waits until the disk has confirmed, or not, where no worker attends to it.
    pub async fn settled(&self) -> Outcome {
        self.0.ticket.settled().await
    }
}

impl From<Changing> for Submitted {
    fn from(changing: Changing) -> Self {
        Self(changing.0 as _)
    }
}

/// A new conversion, and the known ones that one commit changes with it.
struct Together {
    own: Arc<dyn Settle>,
    others: Vec<Arc<Pending>>,
}

/// A change after which memory must not answer for a claim any more.
struct Erasing {
    pending: Arc<Pending>,
    forgotten: Option<[u8; 16]>,
}

impl Settle for Erasing {
    /// Forgotten while the claim is still pending: whoever comes next asks the store.
    fn settle(&self, outcome: Outcome) {
        if let (Outcome::Durable, Some(key)) = (outcome, &self.forgotten) {
            self.pending.memory.settled.forget(key, self.pending.original.conversion);
        }
        self.pending.settle(outcome);
    }

    fn outcome(&self) -> Option<Outcome> {
        self.pending.outcome()
    }
}

impl Settle for Together {
    /// Whoever hears of the new one finds the others changed.
    fn settle(&self, outcome: Outcome) {
        self.others.iter().for_each(|other| other.settle(outcome));
        self.own.settle(outcome);
    }

    fn outcome(&self) -> Option<Outcome> {
        self.own.outcome()
    }
}
