// Hot path of offers with caps or tiers: the look-up. No allocation, no locks but a meter's own.
//! The meters of all offers that have one: how they come, by a count of the store, and go.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwap;
use tokio::sync::{Notify, OwnedRwLockReadGuard, RwLock};

use super::counts::{Counted, Counts};
use super::meter::Meter;
use super::terms::{Cap, Metered};
use crate::click_id::RecordId;
use crate::model::ids::OfferNumber;
use crate::model::period::{Calendar, Period};
use crate::store::records::ConversionRecord;
use crate::store::{ReadError, Store, SumsError, WriteError};

type ByOffer = HashMap<OfferNumber, Arc<Meter>>;

/// Why an offer's conversions were not counted.
#[derive(Debug, thiserror::Error)]
pub enum CountError {
    /// The store could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The sums of all that was paid could not be read.
    #[error(transparent)]
    Sums(#[from] SumsError),
    /// The store could not be waited for.
    #[error(transparent)]
    Wait(#[from] WriteError),
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

/// The offers that are to have a meter.
#[derive(Debug, Default)]
struct Wanted {
    catalogs: u64,
    of: HashMap<OfferNumber, Wish>,
}

/// A meter as it is to be, and since which catalog without a break. One that counts totals goes on
/// to do so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Wish {
    since: u64,
    in_total: bool,
}

impl Meters {
    /// No meters yet; periods are those of a calendar.
    #[must_use]
    pub fn new(calendar: Calendar) -> Self {
        let (ready, wanted) = (ArcSwap::default(), Mutex::default());
        Self { calendar, ready, changed: Notify::new(), wanted, turn: Default::default() }
    }

    /// The meter of an offer that is counted as a catalog wants it; `None` while it is being
    /// counted so.
    #[must_use]
    pub fn of(&self, offer: Metered) -> Option<Arc<Meter>> {
        let ready = self.ready.load();
        ready.get(&offer.offer).filter(|meter| meter.serves(offer.in_total)).map(Arc::clone)
    }

    /// Whether clicks of an offer go to the fallback because one of its caps is full, as
    /// [`Meter::is_full`]. While the offer is being counted, nobody knows, and they do not.
    #[must_use]
    pub fn is_full(
        &self,
        offer: OfferNumber,
        caps: &[Cap],
        currency: impl Fn(&Cap) -> Option<[u8; 3]>,
        now_ms: u64,
    ) -> bool {
        let ready = self.ready.load();
        ready.get(&offer).is_some_and(|meter| meter.is_full(caps, currency, now_ms))
    }

    /// As [`Self::of`], waiting for the count.
    pub async fn counted(&self, offer: Metered) -> Arc<Meter> {
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
    /// anew. One that lacks totals still serves those who decide by a catalog that wants none.
    /// Returns the catalog's place in time, for [`Self::count`].
    pub fn want(&self, offers: &[Metered]) -> u64 {
        let mut wanted = self.lock_wanted();
        wanted.catalogs += 1;
        let since = wanted.catalogs;
        let wish = |metered: &Metered| match wanted.of.get(&metered.offer) {
            Some(known) if known.in_total || !metered.in_total => *known,
            _ => Wish { since, in_total: metered.in_total },
        };
        wanted.of = offers.iter().map(|metered| (metered.offer, wish(metered))).collect();
        let mut ready = ByOffer::clone(&self.ready.load());
        ready.retain(|offer, _| wanted.of.contains_key(offer));
        // Its caps may be others now.
        ready.values().for_each(|meter| meter.reopen());
        self.ready.store(Arc::new(ready));
        since
    }

    /// Counts, from what the store has, the offers that have no meter yet, or none with the totals
    /// that they want, and are wanted so since a catalog or longer. Nobody may decide by an older
    /// catalog any more: what was accepted uncounted is in the writer's hands then. Counted is the
    /// month of `now_ms`, or that of the newest conversion if it is earlier, and what is later.
    ///
    /// # Errors
    /// When the store cannot be waited for or read; these offers then have no meter still.
    pub async fn count(&self, catalog: u64, store: &Store, now_ms: u64) -> Result<(), CountError> {
        let _turn = self.turn.write().await;
        // Somebody who decided by an older catalog may have found its cap full since.
        self.ready.load().values().for_each(|meter| meter.reopen());
        let missing = self.missing(catalog);
        if missing.is_empty() {
            return Ok(());
        }
        store.all_appended().await?;
        let counts = self.counts(&missing, store, now_ms).await?;
        let wanted = self.lock_wanted();
        let mut ready = ByOffer::clone(&self.ready.load());
        for (offer, counts) in counts {
            if wanted.of.get(&offer) == missing.get(&offer) {
                ready.insert(offer, Arc::new(Meter::new(counts)));
            }
        }
        self.ready.store(Arc::new(ready));
        drop(wanted);
        self.changed.notify_waiters();
        Ok(())
    }

    /// The counts of offers whose conversions neither come nor change meanwhile.
    async fn counts(
        &self,
        missing: &HashMap<OfferNumber, Wish>,
        store: &Store,
        now_ms: u64,
    ) -> Result<HashMap<OfferNumber, Counts>, CountError> {
        let fresh = |wish: &Wish| Counts::new(self.calendar.clone(), wish.in_total);
        let counts = missing.iter().map(|(offer, wish)| (*offer, fresh(wish))).collect();
        let mut folded = Folded { counts, total_from: RecordId::from_bytes([u8::MAX; 16]) };
        // A clock that is ahead, and corrected later, must not make a month begin anew.
        let newest = store.newest_conversion().await?;
        let in_month_ms = newest.map_or(now_ms, |newest| newest.time_ms().min(now_ms));
        let mut from_ms = self.calendar.span(Period::Month, in_month_ms).from_ms;
        let in_total = missing.iter().filter(|(_, wish)| wish.in_total);
        let in_total: BTreeSet<_> = in_total.map(|(offer, _)| *offer).collect();
        if in_total.is_empty() {
            return Ok(store.fold_conversions(from_ms, folded, count_one).await?.counts);
        }
        let sums = store.cap_sums(in_total).await?;
        for ((offer, affiliate), record) in &sums.of {
            if let Some(counts) = folded.counts.get_mut(offer) {
                record.sums.iter().for_each(|sum| counts.add_total(*affiliate, sum));
            }
        }
        folded.total_from = RecordId::from_bytes(sums.below);
        from_ms = from_ms.min(folded.total_from.time_ms());
        let folded = store.fold_conversions(from_ms, folded, count_one).await?;
        // Until here they have to stay as they are.
        drop(sums);
        Ok(folded.counts)
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

    fn missing(&self, catalog: u64) -> HashMap<OfferNumber, Wish> {
        let (wanted, ready) = (self.lock_wanted(), self.ready.load());
        let mut missing = wanted.of.clone();
        missing.retain(|offer, wish| {
            let lacks = ready.get(offer).is_none_or(|meter| !meter.serves(wish.in_total));
            wish.since <= catalog && lacks
        });
        missing
    }

    fn lock_wanted(&self) -> MutexGuard<'_, Wanted> {
        // Each change of what is behind the lock is one statement.
        self.wanted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Counts of the store under way.
struct Folded {
    counts: HashMap<OfferNumber, Counts>,
    /// What is before is in the totals already.
    total_from: RecordId,
}

fn count_one(folded: &mut Folded, id: RecordId, bytes: &[u8]) {
    let Some(counts) = folded.counts.get_mut(&id.offer()) else { return };
    // A record that cannot be read has been reported when it was filed.
    let Ok(record) = ConversionRecord::decode(bytes) else { return };
    let Some(one) = Counted::of(id, &record) else { return };
    if id < folded.total_from {
        counts.add_in_periods(&one);
    } else {
        counts.add(&one);
    }
}
