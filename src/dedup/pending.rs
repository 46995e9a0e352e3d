// Hot path: one allocation per new conversion, no lock held across an await.
//! Taking claims: cache, pending, store, in this order, and the wait for somebody else's outcome.

use std::sync::Arc;
use std::sync::atomic::AtomicU8;

use dashmap::DashMap;
use dashmap::mapref::entry::Entry;

use super::cache::{AsIs, Cache, Known, Original};
use super::held::{Held, Key, Pending, Purpose};
use super::repeats::{ClaimError, Receipt, Repeats};
use super::stored::stored;
use super::warming::Warming;
use crate::click_id::RecordId;
use crate::limits::CLAIMS_PER_POSTBACK_MAX;
use crate::store::claim::{Claim, ClaimSet};
use crate::store::engine::Lookup;
use crate::store::records::Binding;
use crate::store::ticket::Outcome;
use crate::store::{Progress, ReadError, Store};

type PendingMap = DashMap<Key, Arc<Pending>, AsIs>;

/// What all claims share.
pub(super) struct Memory {
    pub(super) seed: u64,
    pub(super) settled: Cache,
    pub(super) pending: PendingMap,
    pub(super) warming: Warming,
}

type Ordered<'c> = [Option<(Key, Claim<'c>)>; CLAIMS_PER_POSTBACK_MAX];

/// What memory says of a claim.
enum Recalled {
    /// A conversion holds it.
    Held(Original),
    /// Only the store can tell when what has the claim was received: this conversion, or another.
    Unsure(Option<RecordId>),
    /// Nothing.
    Nothing,
}

/// How far one claim could be taken without waiting.
enum Step {
    /// Nobody had it; it is ours.
    Free,
    /// A conversion holds it.
    Taken(Original),
    /// Another postback's commit is on its way.
    Pending(Arc<Pending>),
    /// It is ours unless the disk knows better; first of this conversion, if memory names one.
    AskDisk(Option<RecordId>),
}

/// How an attempt to take one claim ended.
enum Taken {
    /// It is ours.
    ByNobody,
    /// A conversion holds it.
    By(Original),
    /// A conversion holds it whose change has to be waited for.
    Changing(Arc<Pending>),
    /// As [`Acquired::MintAnew`].
    MintAnew,
}

/// How an attempt to take claims ended.
pub enum Acquired {
    /// Nobody has them; they are ours until the writer settles them or [`Held`] is dropped.
    Held(Held),
    /// A conversion holds one of them.
    Duplicate(Original),
    /// One of the same event was minted after the conversion that was to be taken from the log. Of
    /// the two the store would take that one for the last.
    MintAnew,
}

/// Keeps each conversion from being counted twice.
#[derive(Clone)]
pub struct Deduplicator {
    memory: Arc<Memory>,
}

impl Repeats {
    /// How the attempt of one from the log to take its event ends.
    fn taken(&self, key: Key, held: &Held) -> Taken {
        if let Some(same) = self.same {
            // Memory does not learn it: there may be a later one.
            return Taken::By(same.original);
        }
        if self.newest > Some(held.original().conversion) {
            return Taken::MintAnew;
        }
        if !self.is_last {
            held.leave_to_later(key);
        }
        Taken::ByNobody
    }
}

impl Deduplicator {
    /// A deduplicator that remembers `entries_max` settled claims per generation; `seed` is the
    /// process's own, so that nobody can aim at a collision. Claims that the store has not filed
    /// yet, by its `progress`, are remembered beyond that.
    #[must_use]
    pub fn new(entries_max: usize, seed: u64, progress: Arc<Progress>) -> Self {
        let settled = Cache::new(entries_max, progress);
        let memory = Memory {
            seed,
            settled,
            pending: PendingMap::with_hasher(AsIs),
            warming: Warming::default(),
        };
        Self { memory: Arc::new(memory) }
    }

    /// The conversion that holds a claim, as far as memory knows.
    #[must_use]
    pub fn known(&self, claim: &Claim<'_>, receipt: Receipt<'_>) -> Option<Original> {
        self.remembered(claim, &self.key(claim), receipt)
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
        receipt: Receipt<'_>,
    ) -> Result<Acquired, ClaimError> {
        loop {
            let changing = match self.acquire_or_wait(store, claims, original, receipt).await? {
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
        receipt: Receipt<'_>,
    ) -> Result<Result<Acquired, Arc<Pending>>, ClaimError> {
        let (ordered, held) = self.prepare(claims, original, Purpose::of(receipt));
        let (mut of_click, mut is_unsure) = (None, false);
        for (key, claim) in ordered.into_iter().flatten() {
            let original = match self.take(store, key, &claim, &held, receipt).await {
                Ok(Taken::ByNobody) => continue,
                Ok(Taken::Changing(changing)) => return Ok(Err(changing)),
                Ok(Taken::MintAnew) => return Ok(Ok(Acquired::MintAnew)),
                Ok(Taken::By(original)) => original,
                // If the click is held, it is a duplicate whatever the event's claim says.
                Err(ClaimError::SentAgain) => {
                    is_unsure = true;
                    continue;
                }
                Err(error) => return Err(error),
            };
            match claim {
                Claim::Customer { .. } => held.pending().lose_soft(original.conversion),
                Claim::Click(_) => of_click = Some(original),
                _ => return Ok(Ok(Acquired::Duplicate(original))),
            }
        }
        if is_unsure && of_click.is_none() {
            return Err(ClaimError::SentAgain);
        }
        Ok(Ok(of_click.map_or(Acquired::Held(held), Acquired::Duplicate)))
    }

    /// As [`Deduplicator::acquire`] of what was received now, without waiting: `None`, and nothing
    /// held, where another postback's outcome or the disk would have to be waited for.
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
        let (ordered, held) = self.prepare(claims, original, Purpose::New);
        let mut of_click = None;
        for (key, claim) in ordered.into_iter().flatten() {
            match (self.step(store, key, &claim, &held, Receipt::Now(now_ms))?, claim) {
                (Step::Free, _) => {}
                (Step::Taken(original), Claim::Customer { .. }) => {
                    held.pending().lose_soft(original.conversion);
                }
                (Step::Taken(original), Claim::Click(_)) => of_click = Some(original),
                (Step::Taken(original), _) => return Ok(Some(Acquired::Duplicate(original))),
                (Step::Pending(_) | Step::AskDisk(_), _) => return Ok(None),
            }
        }
        Ok(Some(of_click.map_or(Acquired::Held(held), Acquired::Duplicate)))
    }

    /// Claims in ascending order of their keys, none of them taken yet.
    fn prepare<'c>(
        &self,
        claims: ClaimSet<'c>,
        original: Original,
        purpose: Purpose,
    ) -> (Ordered<'c>, Held) {
        let mut ordered = [None; CLAIMS_PER_POSTBACK_MAX];
        for (place, claim) in ordered.iter_mut().zip(claims.iter()) {
            *place = Some((self.key(&claim), claim));
        }
        let soft = ordered.iter().flatten().find(|(_, claim)| claim.is_soft());
        let soft = soft.map(|(key, _)| *key);
        ordered.sort_by_key(|place| place.map_or([0xFF; 16], |(key, _)| key));
        let keys = ordered.map(|place| place.map(|(key, _)| key));
        let held = Held::new(keys, soft, original, purpose, Arc::clone(&self.memory));
        (ordered, held)
    }

    /// Takes one claim as far as memory goes. `AskDisk` leaves it with `held`.
    fn step(
        &self,
        store: &Store,
        key: Key,
        claim: &Claim<'_>,
        held: &Held,
        receipt: Receipt<'_>,
    ) -> Result<Step, ReadError> {
        // Nobody is kept waiting by a claim that is not to be had.
        if claim.is_soft()
            && let Some(original) = self.remembered(claim, &key, receipt)
        {
            return Ok(Step::Taken(original));
        }
        if let Err(other) = self.hold(key, held) {
            return Ok(Step::Pending(other));
        }
        // Only now: a claim settled since the first look has left the pending map for the cache.
        match self.recall(claim, &key, receipt) {
            Recalled::Held(original) => return Ok(Step::Taken(original)),
            Recalled::Unsure(named) => return Ok(Step::AskDisk(named)),
            Recalled::Nothing => {}
        }
        Ok(match store.find_claim_now(claim)? {
            Lookup::Absent => Step::Free,
            Lookup::Found(_) | Lookup::Unknown => Step::AskDisk(None),
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
            let unchanged = Purpose::Change(AtomicU8::new(known.status.code()));
            let (ordered, held) = self.prepare(claims, known, unchanged);
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
        receipt: Receipt<'_>,
    ) -> Result<Taken, ClaimError> {
        loop {
            match self.step(store, key, claim, held, receipt)? {
                Step::Free => return Ok(Taken::ByNobody),
                Step::Taken(original) => return Ok(Taken::By(original)),
                Step::Pending(other) => {
                    let outcome = other.ticket.settled().await;
                    // Received at another time, it may be the same or not.
                    let is_unsure = claim.repeats_after_ms().is_some()
                        && (receipt.is_past() || other.is_from_log());
                    if outcome == Outcome::Durable && !is_unsure && other.is_holder(&key) {
                        // It may have changed since.
                        let now = self.memory.settled.get(&key).map(|known| known.original);
                        let same = |now: &Original| now.conversion == other.original.conversion;
                        return Ok(Taken::By(now.filter(same).unwrap_or(other.original)));
                    }
                }
                Step::AskDisk(named) => {
                    if let Some(window_ms) = claim.repeats_after_ms().filter(|_| receipt.is_past())
                    {
                        let repeats = Repeats::look_up(store, claim, window_ms, receipt).await?;
                        return Ok(repeats.taken(key, held));
                    }
                    return match stored(store, claim, named, receipt).await? {
                        None => Ok(Taken::ByNobody),
                        Some((it, true)) => Ok(self.taken_by_erased(store, claim, it.original)?),
                        Some((known, false)) => {
                            self.memory.settled.insert_stored(key, known);
                            Ok(Taken::By(known.original))
                        }
                    };
                }
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
        store.health().unless_poisoned()?;
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
        receipt: Receipt<'_>,
    ) -> Result<Option<Original>, ClaimError> {
        let mut is_unsure = false;
        for claim in claims.hard() {
            let named = match self.recall(&claim, &self.key(&claim), receipt) {
                Recalled::Held(original) => return Ok(Some(original)),
                Recalled::Unsure(named) => named,
                Recalled::Nothing => None,
            };
            match stored(store, &claim, named, receipt).await {
                Ok(Some((known, _))) => return Ok(Some(known.original)),
                Ok(None) => {}
                Err(ClaimError::SentAgain) => is_unsure = true,
                Err(error) => return Err(error),
            }
        }
        if is_unsure { Err(ClaimError::SentAgain) } else { Ok(None) }
    }

    /// As [`Deduplicator::find`], of one claim; who is about to take it is waited for.
    ///
    /// # Errors
    /// When the store cannot be asked.
    pub async fn find_settled(
        &self,
        store: &Store,
        claim: Claim<'_>,
        receipt: Receipt<'_>,
    ) -> Result<Option<Original>, ClaimError> {
        self.settled(&self.key(&claim)).await;
        self.find(store, ClaimSet::new(claim, None), receipt).await
    }

    /// Whether somebody is about to take a claim.
    #[must_use]
    pub fn is_pending(&self, claim: &Claim<'_>) -> bool {
        self.memory.pending.contains_key(&self.key(claim))
    }

    /// Waits until nobody is about to take or to change what has this key.
    async fn settled(&self, key: &Key) {
        loop {
            let pending = self.memory.pending.get(key).map(|pending| Arc::clone(&pending));
            let Some(pending) = pending else { break };
            pending.ticket.settled().await;
        }
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
        self.settled(&key).await;
        let known = self.memory.settled.get(&key).map(|known| known.original.conversion);
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
        store.health().unless_poisoned()?;
        Ok(stored.into_iter().chain(remembered).max_by_key(|binding| binding.conversion))
    }

    /// The conversion that holds a claim, as far as memory knows; `None`: it does not.
    #[must_use]
    pub fn holder_now(&self, claim: &Claim<'_>, now_ms: u64) -> Option<RecordId> {
        let key = self.key(claim);
        if self.memory.pending.contains_key(&key) {
            return None;
        }
        self.remembered(claim, &key, Receipt::Now(now_ms)).map(|original| original.conversion)
    }

    /// Puts a conversion's claims into memory where they are not yet, as a restart does with the
    /// newest conversions, newest first. What may have changed since it was read, or was read
    /// before its change was durable, is left out.
    pub fn remember(&self, claims: &ClaimSet<'_>, known: Known) {
        self.memory.warming.unless_changed(known.original.conversion, || {
            for claim in claims.iter() {
                self.memory.settled.insert_older(self.key(&claim), known);
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

    fn remembered(&self, claim: &Claim<'_>, key: &Key, receipt: Receipt<'_>) -> Option<Original> {
        let Recalled::Held(original) = self.recall(claim, key, receipt) else { return None };
        Some(original)
    }

    fn recall(&self, claim: &Claim<'_>, key: &Key, receipt: Receipt<'_>) -> Recalled {
        let known = self.memory.settled.get(key);
        let is_past = receipt.is_past() || known.is_some_and(|known| known.is_from_log);
        if is_past && claim.repeats_after_ms().is_some() {
            return Recalled::Unsure(known.map(|known| known.original.conversion));
        }
        match known {
            Some(Known { original, .. }) if claim.is_held(original.conversion, receipt.ms()) => {
                Recalled::Held(original)
            }
            _ => Recalled::Nothing,
        }
    }
}
