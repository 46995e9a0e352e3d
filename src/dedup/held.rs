// Hot path: no allocation.
//! Claims that are ours, and their way into the writer's hands.

use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, OnceLock};

use super::cache::{Known, Original};
use super::pending::Memory;
use super::repeats::Receipt;
use crate::click_id::RecordId;
use crate::limits::CLAIMS_PER_POSTBACK_MAX;
use crate::model::status::Status;
use crate::store::claim::ClaimSet;
use crate::store::ticket::{Outcome, Settle, Ticket, Waiting};

pub(super) type Key = [u8; 16];

/// What claims are held for.
pub(super) enum Purpose {
    /// A new conversion.
    New,
    /// One that is taken from the log; the key by which memory has to know one of the same event
    /// instead that was received later, if there is one.
    FromLog(OnceLock<Key>),
    /// The change of a known one: the code of its status afterwards.
    Change(AtomicU8),
}

/// A claim whose conversion is on its way to the disk. The writer settles it.
pub(super) struct Pending {
    pub(super) ticket: Ticket,
    keys: [Option<Key>; CLAIMS_PER_POSTBACK_MAX],
    /// The one among them that it can do without.
    soft: Option<Key>,
    /// The other conversion that holds that one, if it does without.
    lost_to: OnceLock<RecordId>,
    pub(super) original: Original,
    purpose: Purpose,
    memory: Arc<Memory>,
}

/// Claims that are ours. Dropped before they are submitted, they are free again.
pub struct Held {
    pending: Arc<Pending>,
    submitted: bool,
}

impl Held {
    pub(super) fn new(
        keys: [Option<Key>; CLAIMS_PER_POSTBACK_MAX],
        soft: Option<Key>,
        original: Original,
        purpose: Purpose,
        memory: Arc<Memory>,
    ) -> Self {
        let (ticket, lost_to) = (Ticket::default(), OnceLock::new());
        let pending = Pending { ticket, keys, soft, lost_to, original, purpose, memory };
        Self { pending: Arc::new(pending), submitted: false }
    }

    pub(super) const fn pending(&self) -> &Arc<Pending> {
        &self.pending
    }

    /// The conversion they are held for.
    #[must_use]
    pub fn original(&self) -> Original {
        self.pending.original
    }

    /// Has memory know a claim by another conversion of the same event, which was received later.
    pub(super) fn leave_to_later(&self, key: Key) {
        if let Purpose::FromLog(left) = &self.pending.purpose {
            // There is one such claim.
            let _ = left.set(key);
        }
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
        debug_assert!(matches!(self.pending.purpose, Purpose::Change(_)), "held to be changed");
        // From the submission on it may be readable, and not durable.
        self.pending.memory.warming.changed(self.pending.original.conversion);
        if let Purpose::Change(code) = &self.pending.purpose {
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

impl Purpose {
    pub(super) const fn of(receipt: Receipt<'_>) -> Self {
        match receipt {
            Receipt::Now(_) => Self::New,
            Receipt::Past { .. } => Self::FromLog(OnceLock::new()),
        }
    }
}

impl Pending {
    /// Leaves the soft claim to whoever holds it. Who waits for it here looks again.
    pub(super) fn lose_soft(&self, holder: RecordId) {
        // There is one soft claim, and it is lost once.
        let _ = self.lost_to.set(holder);
        if let Some(key) = &self.soft {
            self.let_go(key);
        }
    }

    /// The other conversion that holds the soft claim, if one does.
    fn lost_to(&self) -> Option<RecordId> {
        self.lost_to.get().copied()
    }

    fn has_lost(&self, key: &Key) -> bool {
        self.soft.as_ref() == Some(key) && self.lost_to().is_some()
    }

    /// Whether it holds the claim once it is durable. A change leaves everything to whoever held
    /// the claim before.
    pub(super) fn is_holder(&self, key: &Key) -> bool {
        !matches!(self.purpose, Purpose::Change(_)) && !self.has_lost(key)
    }

    pub(super) const fn is_from_log(&self) -> bool {
        matches!(self.purpose, Purpose::FromLog(_))
    }

    fn let_go(&self, key: &Key) {
        self.memory.pending.remove_if(key, |_, holder| std::ptr::eq(&**holder, self));
    }

    /// Lets memory know of what is on disk now.
    fn remember(&self, key: &Key) {
        let original = self.original;
        let known = |is_from_log| Known { original, is_from_log };
        match &self.purpose {
            Purpose::New => self.memory.settled.insert(*key, known(false)),
            Purpose::FromLog(left) if left.get() == Some(key) => {}
            Purpose::FromLog(_) => self.memory.settled.insert(*key, known(true)),
            Purpose::Change(code) => {
                if let Some(status) = Status::from_code(code.load(Ordering::Acquire)) {
                    self.memory.settled.follow(key, Original { status, ..original });
                }
            }
        }
    }
}

impl Settle for Pending {
    /// First into the cache, then out of the pending map: whoever takes the key in between sees
    /// one of the two.
    fn settle(&self, outcome: Outcome) {
        let durable = outcome == Outcome::Durable;
        for key in self.keys.iter().flatten() {
            if durable && !self.has_lost(key) {
                self.remember(key);
            }
            self.let_go(key);
        }
        self.ticket.settle(outcome);
    }

    fn outcome(&self) -> Option<Outcome> {
        self.ticket.outcome()
    }
}
