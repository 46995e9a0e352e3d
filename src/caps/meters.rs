// Hot path of offers with caps or tiers: the look-up. No allocation, no locks.
//! The meters of all offers that have one: how they come, by a count of the store, and go.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwap;
use tokio::sync::{Notify, OwnedRwLockReadGuard, RwLock};

use super::counts::{Counted, Counts};
use super::meter::Meter;
use crate::click_id::RecordId;
use crate::model::ids::OfferNumber;
use crate::model::period::{Calendar, Period};
use crate::store::records::ConversionRecord;
use crate::store::{ChangeError, ReadError, Store};

type ByOffer = HashMap<OfferNumber, Arc<Meter>>;

/// Why an offer's conversions were not counted.
#[derive(Debug, thiserror::Error)]
pub enum CountError {
    /// The store could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The store could not be waited for.
    #[error(transparent)]
    Wait(#[from] ChangeError),
}

/// One meter for each offer with caps or tiers.
#[derive(Debug)]
pub struct Meters {
    calendar: Calendar,
    ready: ArcSwap<ByOffer>,
    changed: Notify,
    wanted: Mutex<Wanted>,
    /// Whoever counts the store writes, whoever changes what is in it and counted reads.
    turn: Arc<RwLock<()>>,
}

/// As long as it is there, nobody counts the store.
#[derive(Debug)]
pub struct Still(#[expect(dead_code, reason = "held, not read")] OwnedRwLockReadGuard<()>);

/// The offers that are to have a meter, and since which catalog without a break.
#[derive(Debug, Default)]
struct Wanted {
    catalogs: u64,
    since: HashMap<OfferNumber, u64>,
}

impl Meters {
    /// No meters yet; periods are those of a calendar.
    #[must_use]
    pub fn new(calendar: Calendar) -> Self {
        let (ready, wanted) = (ArcSwap::default(), Mutex::default());
        Self { calendar, ready, changed: Notify::new(), wanted, turn: Default::default() }
    }

    /// An offer's meter; `None` while it is being counted.
    #[must_use]
    pub fn of(&self, offer: OfferNumber) -> Option<Arc<Meter>> {
        self.ready.load().get(&offer).map(Arc::clone)
    }

    /// Whether clicks of an offer go to the fallback because a cap is full.
    #[must_use]
    pub fn is_full(&self, offer: OfferNumber, now_ms: u64) -> bool {
        self.ready.load().get(&offer).is_some_and(|meter| meter.is_full(now_ms))
    }

    /// As [`Self::of`], waiting for the count.
    pub async fn counted(&self, offer: OfferNumber) -> Arc<Meter> {
        loop {
            // Enlisted before looking, so that a change in between is not missed.
            let mut changed = std::pin::pin!(self.changed.notified());
            changed.as_mut().enable();
            if let Some(meter) = self.of(offer) {
                return meter;
            }
            changed.await;
        }
    }

    /// Says which offers have caps or tiers in the catalog that has just come into force. Meters
    /// of all others go: what is not metered is not counted, so a meter that comes back counts
    /// anew. Returns the catalog's place in time, for [`Self::count`].
    pub fn want(&self, offers: &[OfferNumber]) -> u64 {
        let mut wanted = self.lock_wanted();
        wanted.catalogs += 1;
        let now = wanted.catalogs;
        let since = |offer: &OfferNumber| wanted.since.get(offer).copied().unwrap_or(now);
        wanted.since = offers.iter().map(|offer| (*offer, since(offer))).collect();
        let mut ready = ByOffer::clone(&self.ready.load());
        ready.retain(|offer, _| wanted.since.contains_key(offer));
        // Its caps may be others now.
        ready.values().for_each(|meter| meter.reopen());
        self.ready.store(Arc::new(ready));
        now
    }

    /// Counts, from the conversions in the store, the offers that have no meter yet and are
    /// wanted since a catalog or longer. Nobody may decide by an older catalog any more: what was
    /// accepted uncounted is in the writer's hands then. Counted is the month of `now_ms`, and
    /// what is later.
    ///
    /// # Errors
    /// When the store cannot be waited for or read; these offers then have no meter still.
    pub async fn count(&self, catalog: u64, store: &Store, now_ms: u64) -> Result<(), CountError> {
        let _turn = self.turn.write().await;
        let missing = self.missing(catalog);
        if missing.is_empty() {
            return Ok(());
        }
        let fresh = |offer: &OfferNumber| (*offer, Counts::new(self.calendar.clone()));
        let counts: HashMap<_, _> = missing.keys().map(fresh).collect();
        let from_ms = self.calendar.span(Period::Month, now_ms).from_ms;
        store.all_appended().await?;
        let counts = store.fold_conversions(from_ms, counts, count_one).await?;
        let wanted = self.lock_wanted();
        let mut ready = ByOffer::clone(&self.ready.load());
        for (offer, counts) in counts {
            if wanted.since.get(&offer) == missing.get(&offer) {
                ready.insert(offer, Arc::new(Meter::new(counts)));
            }
        }
        self.ready.store(Arc::new(ready));
        drop(wanted);
        self.changed.notify_waiters();
        Ok(())
    }

    /// For whoever changes what a stored conversion pays: nobody counts the store meanwhile.
    pub async fn hold_still(&self) -> Still {
        Still(Arc::clone(&self.turn).read_owned().await)
    }

    /// As [`Self::hold_still`]; `None` where that would wait.
    #[must_use]
    pub fn try_hold_still(&self) -> Option<Still> {
        Arc::clone(&self.turn).try_read_owned().ok().map(Still)
    }

    fn missing(&self, catalog: u64) -> HashMap<OfferNumber, u64> {
        let (wanted, ready) = (self.lock_wanted(), self.ready.load());
        let all = wanted.since.iter().map(|(offer, since)| (*offer, *since));
        all.filter(|(offer, since)| *since <= catalog && !ready.contains_key(offer)).collect()
    }

    fn lock_wanted(&self) -> MutexGuard<'_, Wanted> {
        // Each change of what is behind the lock is one statement.
        self.wanted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn count_one(counts: &mut HashMap<OfferNumber, Counts>, id: RecordId, bytes: &[u8]) {
    let Some(counts) = counts.get_mut(&id.offer()) else { return };
    // A record that cannot be read has been reported when it was filed.
    let Ok(record) = ConversionRecord::decode(bytes) else { return };
    if let Some(one) = Counted::of(id, &record) {
        counts.add(&one);
    }
}
