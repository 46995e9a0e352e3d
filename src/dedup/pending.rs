// Hot path: one allocation per new conversion, no lock held across an await.
//! Taking claims: cache, pending, store, in this order, and the wait for somebody else's outcome.

use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, OnceLock};

use dashmap::DashMap;
use dashmap::mapref::entry::Entry;

use super::cache::{Cache, Original};
use super::held::Held;
use super::stored::{stored, unless_poisoned};
use super::warming::Warming;
use crate::click_id::RecordId;
use crate::limits::CLAIMS_PER_POSTBACK_MAX;
use crate::model::status::Status;
use crate::store::claim::{Claim, ClaimSet};
use crate::store::engine::Lookup;
use crate::store::records::Binding;
use crate::store::ticket::{Outcome, Settle, Ticket};
use crate::store::{Progress, ReadError, Store};

type Key = [u8; 16];
type PendingMap = DashMap<Key, Arc<Pending>>;

/// A claim whose conversion is on its way to the disk. The writer settles it.
pub(super) struct Pending {
    pub(super) ticket: Ticket,
    keys: [Option<Key>; CLAIMS_PER_POSTBACK_MAX],
    /// The one among them that it can do without.
    soft: Option<Key>,
    /// The other conversion that holds that one, if it does without.
    lost_to: OnceLock<RecordId>,
    pub(super) original: Original,
    /// `None`: a new conversion. Else the change of one: the code of its status afterwards.
    pub(super) change: Option<AtomicU8>,
    pub(super) memory: Arc<Memory>,
}

/// What all claims share.
pub(super) struct Memory {
    pub(super) seed: u64,
    pub(super) settled: Cache,
    pending: PendingMap,
    pub(super) warming: Warming,
}

type Ordered<'c> = [Option<(Key, Claim<'c>)>; CLAIMS_PER_POSTBACK_MAX];

/// How far one claim could be taken without waiting.
enum Step {
    /// Nobody had it; it is ours.
    Free,
    /// A conversion holds it.
    Taken(Original),
    /// Another postback's commit is on its way.
    Pending(Arc<Pending>),
    /// It is ours unless the disk knows better.
    AskDisk,
}

/// How an attempt to take one claim ended.
enum Taken {
    /// It is ours.
    ByNobody,
    /// A conversion holds it.
    By(Original),
    /// A conversion holds it whose change has to be waited for.
    Changing(Arc<Pending>),
}

/// How an attempt to take claims ended.
pub enum Acquired {
    /// Nobody has them; they are ours until the writer settles them or [`Held`] is dropped.
    Held(Held),
    /// A conversion holds one of them.
    Duplicate(Original),
}

/// Keeps each conversion from being counted twice.
#[derive(Clone)]
pub struct Deduplicator {
    memory: Arc<Memory>,
}

impl Deduplicator {
    /// A deduplicator that remembers `entries_max` settled claims per generation; `seed` is the
    /// process's own, so that nobody can aim at a collision. Claims that the store has not filed
    /// yet, by its `progress`, are remembered beyond that.
    #[must_use]
    pub fn new(entries_max: usize, seed: u64, progress: Arc<Progress>) -> Self {
        let settled = Cache::new(entries_max, progress);
        let memory =
            Memory { seed, settled, pending: PendingMap::new(), warming: Warming::default() };
        Self { memory: Arc::new(memory) }
    }

    /// The conversion that holds a claim, as far as memory knows.
    #[must_use]
    pub fn known(&self, claim: &Claim<'_>, now_ms: u64) -> Option<Original> {
        self.remembered(claim, &self.key(claim), now_ms)
    }

    /// Takes all claims for `original`, or finds the conversion that holds one: the first one's
    /// holder if it has one, else the click's. A soft claim that another conversion holds is left
    /// to it ([`Held::bound_by`]).
    ///
    /// Keys are taken in ascending order, so that two postbacks that want the same keys never
    /// wait for each other.
    ///
    /// # Errors
    /// When the store cannot be asked; nothing is held then.
    pub async fn acquire(
        &self,
        store: &Store,
        claims: ClaimSet<'_>,
        original: Original,
        now_ms: u64,
    ) -> Result<Acquired, ReadError> {
        loop {
            let changing = match self.acquire_or_wait(store, claims, original, now_ms).await? {
                Ok(acquired) => return Ok(acquired),
                Err(changing) => changing,
            };
            // With nothing held, so that nobody waits in a circle.
            changing.ticket.settled().await;
        }
    }

    /// As [`Deduplicator::acquire`]; or, with nothing held, the change on its way of the conversion
    /// that holds one of the claims by an erased text.
    async fn acquire_or_wait(
        &self,
        store: &Store,
        claims: ClaimSet<'_>,
        original: Original,
        now_ms: u64,
    ) -> Result<Result<Acquired, Arc<Pending>>, ReadError> {
        let (ordered, held) = self.prepare(claims, original, None);
        let mut of_click = None;
        for (key, claim) in ordered.into_iter().flatten() {
            let original = match self.take(store, key, &claim, &held, now_ms).await? {
                Taken::ByNobody => continue,
                Taken::Changing(changing) => return Ok(Err(changing)),
                Taken::By(original) => original,
            };
            match claim {
                Claim::Customer { .. } => held.pending().lose_soft(original.conversion),
                Claim::Click(_) => of_click = Some(original),
                _ => return Ok(Ok(Acquired::Duplicate(original))),
            }
        }
        Ok(Ok(of_click.map_or(Acquired::Held(held), Acquired::Duplicate)))
    }

    /// As [`Deduplicator::acquire`], without waiting: `None`, and nothing held, where another
    /// postback's outcome or the disk would have to be waited for.
    ///
    /// # Errors
    /// As [`Deduplicator::acquire`].
    pub fn acquire_now(
        &self,
        store: &Store,
        claims: ClaimSet<'_>,
        original: Original,
        now_ms: u64,
    ) -> Result<Option<Acquired>, ReadError> {
        let (ordered, held) = self.prepare(claims, original, None);
        let mut of_click = None;
        for (key, claim) in ordered.into_iter().flatten() {
            match (self.step(store, key, &claim, &held, now_ms)?, claim) {
                (Step::Free, _) => {}
                (Step::Taken(original), Claim::Customer { .. }) => {
                    held.pending().lose_soft(original.conversion);
                }
                (Step::Taken(original), Claim::Click(_)) => of_click = Some(original),
                (Step::Taken(original), _) => return Ok(Some(Acquired::Duplicate(original))),
                (Step::Pending(_) | Step::AskDisk, _) => return Ok(None),
            }
        }
        Ok(Some(of_click.map_or(Acquired::Held(held), Acquired::Duplicate)))
    }

    /// Claims in ascending order of their keys, none of them taken yet.
    fn prepare<'c>(
        &self,
        claims: ClaimSet<'c>,
        original: Original,
        change: Option<AtomicU8>,
    ) -> (Ordered<'c>, Held) {
        let mut ordered = [None; CLAIMS_PER_POSTBACK_MAX];
        for (place, claim) in ordered.iter_mut().zip(claims.iter()) {
            *place = Some((self.key(&claim), claim));
        }
        let soft = ordered.iter().flatten().find(|(_, claim)| claim.is_soft());
        let soft = soft.map(|(key, _)| *key);
        ordered.sort_by_key(|place| place.map_or([0xFF; 16], |(key, _)| key));
        let pending = Arc::new(Pending {
            ticket: Ticket::default(),
            keys: ordered.map(|place| place.map(|(key, _)| key)),
            soft,
            lost_to: OnceLock::new(),
            original,
            change,
            memory: Arc::clone(&self.memory),
        });
        (ordered, Held::new(pending))
    }

    /// Takes one claim as far as memory goes. `AskDisk` leaves it with `held`.
    fn step(
        &self,
        store: &Store,
        key: Key,
        claim: &Claim<'_>,
        held: &Held,
        now_ms: u64,
    ) -> Result<Step, ReadError> {
        // Nobody is kept waiting by a claim that is not to be had.
        if claim.is_soft()
            && let Some(original) = self.remembered(claim, &key, now_ms)
        {
            return Ok(Step::Taken(original));
        }
        if let Err(other) = self.hold(key, held) {
            return Ok(Step::Pending(other));
        }
        // Only now: a claim settled since the first look has left the pending map for the cache.
        if let Some(original) = self.remembered(claim, &key, now_ms) {
            return Ok(Step::Taken(original));
        }
        Ok(match store.find_claim_now(claim)? {
            Lookup::Absent => Step::Free,
            Lookup::Found(_) | Lookup::Unknown => Step::AskDisk,
        })
    }

    /// Enters one claim as pending, or returns who has done so before.
    fn hold(&self, key: Key, held: &Held) -> Result<(), Arc<Pending>> {
        match self.memory.pending.entry(key) {
            Entry::Vacant(vacant) => drop(vacant.insert(Arc::clone(held.pending()))),
            Entry::Occupied(occupied) => return Err(Arc::clone(occupied.get())),
        }
        Ok(())
    }

    /// Takes the claims of known conversions, so that nobody else changes them meanwhile; waits
    /// for whoever has them. Postbacks that want one of them wait in turn, unless memory has
    /// their answer. All are taken in one order; where several conversions have the same claim,
    /// one holds it for all.
    pub async fn hold_to_change(&self, known: Vec<(ClaimSet<'_>, Original)>) -> Vec<Held> {
        let (mut keys, mut all) = (Vec::new(), Vec::with_capacity(known.len()));
        for (place, (claims, known)) in known.into_iter().enumerate() {
            let unchanged = AtomicU8::new(known.status.code());
            let (ordered, held) = self.prepare(claims, known, Some(unchanged));
            keys.extend(ordered.into_iter().flatten().map(|(key, _)| (key, place)));
            all.push(held);
        }
        keys.sort_unstable();
        keys.dedup_by_key(|(key, _)| *key);
        for (key, place) in keys {
            while let Err(other) = self.hold(key, &all[place]) {
                other.ticket.settled().await;
            }
        }
        all
    }

    /// Takes one claim, or finds the conversion that holds it.
    async fn take(
        &self,
        store: &Store,
        key: Key,
        claim: &Claim<'_>,
        held: &Held,
        now_ms: u64,
    ) -> Result<Taken, ReadError> {
        loop {
            match self.step(store, key, claim, held, now_ms)? {
                Step::Free => return Ok(Taken::ByNobody),
                Step::Taken(original) => return Ok(Taken::By(original)),
                Step::Pending(other) => {
                    let outcome = other.ticket.settled().await;
                    // A change leaves everything to whoever held the claim before.
                    let is_holder = other.change.is_none() && !other.has_lost(&key);
                    if outcome == Outcome::Durable && is_holder {
                        // It may have changed since.
                        let now = self.memory.settled.get(&key);
                        let same = |now: &Original| now.conversion == other.original.conversion;
                        return Ok(Taken::By(now.filter(same).unwrap_or(other.original)));
                    }
                }
                Step::AskDisk => match stored(store, claim, now_ms).await? {
                    None => return Ok(Taken::ByNobody),
                    Some((original, true)) => return self.taken_by_erased(store, claim, original),
                    Some((original, false)) => {
                        self.memory.settled.insert_stored(key, original);
                        return Ok(Taken::By(original));
                    }
                },
            }
        }
    }

    /// A conversion that holds a claim by an erased text, as it was read. Memory does not keep it:
    /// whoever changes it holds another key than the text's. For the same reason that change, which
    /// may have been read before it was durable, is to be waited for.
    fn taken_by_erased(
        &self,
        store: &Store,
        claim: &Claim<'_>,
        original: Original,
    ) -> Result<Taken, ReadError> {
        let key = self.key(&claim.without_text());
        let changing = self.memory.pending.get(&key).map(|pending| Arc::clone(&pending));
        unless_poisoned(store)?;
        Ok(changing.map_or(Taken::By(original), Taken::Changing))
    }

    /// The conversion that holds one of the claims, the first one's before the click's, without
    /// taking any: memory, then the store.
    ///
    /// # Errors
    /// When the store cannot be asked.
    pub async fn find(
        &self,
        store: &Store,
        claims: ClaimSet<'_>,
        now_ms: u64,
    ) -> Result<Option<Original>, ReadError> {
        for claim in claims.hard() {
            if let Some(original) = self.known(&claim, now_ms) {
                return Ok(Some(original));
            }
            if let Some((original, _)) = stored(store, &claim, now_ms).await? {
                return Ok(Some(original));
            }
        }
        Ok(None)
    }

    /// What a customer is bound to, or was until its window ended. Whoever is about to bind it is
    /// waited for.
    ///
    /// # Errors
    /// When the store cannot be asked.
    pub async fn binding(
        &self,
        store: &Store,
        customer: &Claim<'_>,
        now_ms: u64,
    ) -> Result<Option<Binding>, ReadError> {
        let key = self.key(customer);
        // In this order: who settles it leaves the pending ones after it is remembered.
        loop {
            let pending = self.memory.pending.get(&key).map(|pending| Arc::clone(&pending));
            let Some(pending) = pending else { break };
            pending.ticket.settled().await;
        }
        let known = self.memory.settled.get(&key).map(|original| original.conversion);
        let remembered = match known {
            Some(conversion) => store.conversion(conversion).await?,
            None => None,
        };
        let remembered = remembered.map(|stored| {
            let click = RecordId::from_bytes(stored.record()?.click);
            Ok::<_, ReadError>(Binding { conversion: stored.id, click })
        });
        let remembered = remembered.transpose()?;
        if remembered.is_some_and(|binding| customer.is_held(binding.conversion, now_ms)) {
            return Ok(remembered);
        }
        // The binding outlives its conversion; and one that holds no more may be all that memory
        // has left of several.
        let stored = store.binding(customer).await?;
        unless_poisoned(store)?;
        Ok(stored.into_iter().chain(remembered).max_by_key(|binding| binding.conversion))
    }

    /// The conversion that holds a claim, as far as memory knows; `None`: it does not.
    #[must_use]
    pub fn holder_now(&self, claim: &Claim<'_>, now_ms: u64) -> Option<RecordId> {
        let key = self.key(claim);
        if self.memory.pending.contains_key(&key) {
            return None;
        }
        self.remembered(claim, &key, now_ms).map(|original| original.conversion)
    }

    /// Puts a conversion's claims into memory where they are not yet, as a restart does with the
    /// newest conversions, newest first. What may have changed since it was read, or was read
    /// before its change was durable, is left out.
    pub fn remember(&self, claims: &ClaimSet<'_>, original: Original) {
        self.memory.warming.unless_changed(original.conversion, || {
            for claim in claims.iter() {
                self.memory.settled.insert_if_vacant(self.key(&claim), original);
            }
        });
    }

    /// Says that nothing that was read is waiting to be remembered any more.
    pub fn warmed(&self) {
        self.memory.warming.end();
    }

    /// Settled claims that fit, settled claims remembered, pending claims.
    #[must_use]
    pub fn fill(&self) -> (usize, usize, usize) {
        let (capacity, entries) = self.memory.settled.fill();
        (capacity, entries, self.memory.pending.len())
    }

    fn key(&self, claim: &Claim<'_>) -> Key {
        claim.cache_key(self.memory.seed)
    }

    fn remembered(&self, claim: &Claim<'_>, key: &Key, now_ms: u64) -> Option<Original> {
        let original = self.memory.settled.get(key)?;
        claim.is_held(original.conversion, now_ms).then_some(original)
    }
}

impl Pending {
    /// Leaves the soft claim to whoever holds it. Who waits for it here looks again.
    fn lose_soft(&self, holder: RecordId) {
        // There is one soft claim, and it is lost once.
        let _ = self.lost_to.set(holder);
        if let Some(key) = &self.soft {
            self.let_go(key);
        }
    }

    /// The other conversion that holds the soft claim, if one does.
    pub(super) fn lost_to(&self) -> Option<RecordId> {
        self.lost_to.get().copied()
    }

    fn has_lost(&self, key: &Key) -> bool {
        self.soft.as_ref() == Some(key) && self.lost_to().is_some()
    }

    fn let_go(&self, key: &Key) {
        self.memory.pending.remove_if(key, |_, holder| std::ptr::eq(&**holder, self));
    }

    /// Lets memory know of what is on disk now.
    fn remember(&self, key: &Key) {
        let Some(code) = &self.change else {
            return self.memory.settled.insert(*key, self.original);
        };
        if let Some(status) = Status::from_code(code.load(Ordering::Acquire)) {
            self.memory.settled.follow(key, Original { status, ..self.original });
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
