// Hot path: every refused postback is counted here, by one atomic addition where nothing is known
// of its click.
//! Refused postbacks, which are not stored: counted in memory, and kept once a second as the sums
//! of this start of the server. Keeping a sum twice changes nothing; a kill loses the last second.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::keys::{self, Place};
use super::records::{RefusedCounts, RefusedRecord};
use super::schema::Table;
use super::ticket::{Settle, Ticket};
use super::{Store, SubmitError};
use crate::click_id::RecordId;
use crate::limits::REFUSED_PLACES_MAX;
use crate::model::ids::{AffiliateNumber, OfferNumber};
use crate::model::period::Quarter;
use crate::model::reasons::Refusal;

/// How many postbacks were refused, by reason.
type ByReason = [u64; Refusal::ALL.len()];
/// An offer and an affiliate.
type Whose = (OfferNumber, AffiliateNumber);

/// What is known of nobody.
const NOBODY: Whose = (OfferNumber::NONE, AffiliateNumber::NONE);

/// Counts refused postbacks.
pub struct Refusals {
    /// Which start of the server this is.
    start: u64,
    /// All of them, since the start.
    all: [AtomicU64; Refusal::ALL.len()],
    /// Those of genuine clicks, since the last look.
    fresh: Mutex<HashMap<Whose, ByReason>>,
    kept: Mutex<Kept>,
}

struct Kept {
    /// So many of nobody are in the sums.
    nobodys: ByReason,
    /// So many of genuine clicks are.
    known: ByReason,
    /// The quarter of an hour of the last look; time does not run backwards here.
    quarter: Quarter,
    /// The sums of this start, and whether they have grown since they were handed to the writer.
    sums: BTreeMap<Place, (ByReason, bool)>,
    /// The commit with the sums that were handed to the writer last. Two threads append, so a sum
    /// that is handed over before this one is settled might end up below it.
    last: Option<Arc<Ticket>>,
}

impl Default for Kept {
    fn default() -> Self {
        let none = [0; Refusal::ALL.len()];
        Self {
            nobodys: none,
            known: none,
            quarter: Quarter::default(),
            sums: BTreeMap::new(),
            last: None,
        }
    }
}

impl Refusals {
    /// Nothing is refused yet in this start of the server.
    #[must_use]
    pub fn new(start: u64) -> Self {
        Self {
            start,
            all: [const { AtomicU64::new(0) }; Refusal::ALL.len()],
            fresh: Mutex::default(),
            kept: Mutex::default(),
        }
    }

    /// Counts a postback, of a genuine click if that is known.
    pub fn count(&self, reason: Refusal, click: Option<RecordId>) {
        // In this order, so that whoever is among all is known as somebody's by then.
        if let Some(click) = click {
            self.count_of(click, reason);
        }
        self.all[reason.index()].fetch_add(1, Ordering::Release);
    }

    fn count_of(&self, click: RecordId, reason: Refusal) {
        let whose = (click.offer(), click.affiliate());
        let mut fresh = self.fresh.lock().unwrap_or_else(PoisonError::into_inner);
        // Those of too many offers and affiliates are among all, and nobody's.
        if fresh.len() < REFUSED_PLACES_MAX || fresh.contains_key(&whose) {
            fresh.entry(whose).or_insert([0; Refusal::ALL.len()])[reason.index()] += 1;
        }
    }

    /// Adds what is fresh to the sums of the quarter of an hour.
    fn look(&self, kept: &mut Kept, now_ms: u64) {
        let mut nobodys = self.all.each_ref().map(|all| all.load(Ordering::Acquire));
        let fresh = std::mem::take(&mut *self.fresh.lock().unwrap_or_else(PoisonError::into_inner));
        let all = |counts: &ByReason| counts.iter().sum::<u64>();
        let is_news = all(&nobodys) > all(&kept.nobodys) + all(&kept.known);
        // A clock that is ahead while nothing is refused moves nothing.
        if is_news || !fresh.is_empty() {
            kept.quarter = kept.quarter.max(Quarter::of_ms(now_ms));
        }
        for (whose, counts) in fresh {
            kept.known.iter_mut().zip(&counts).for_each(|(known, count)| *known += count);
            kept.add(whose, &counts);
        }
        for ((count, seen), known) in nobodys.iter_mut().zip(&mut kept.nobodys).zip(&kept.known) {
            // One that is somebody's already, and among all only later, must not be taken off now.
            let now = count.saturating_sub(*known);
            *count = now.saturating_sub(*seen);
            *seen += *count;
        }
        kept.add(NOBODY, &nobodys);
    }
}

impl Kept {
    fn add(&mut self, whose: Whose, counts: &ByReason) {
        if counts.iter().all(|count| *count == 0) {
            return;
        }
        let place = |(offer, affiliate)| Place { quarter: self.quarter, offer, affiliate };
        let mut place_of = place(whose);
        // Where the writer takes nothing, the sums pile up.
        if self.sums.len() >= 2 * REFUSED_PLACES_MAX && !self.sums.contains_key(&place_of) {
            place_of = place(NOBODY);
        }
        let (sums, has_grown) =
            self.sums.entry(place_of).or_insert(([0; Refusal::ALL.len()], false));
        sums.iter_mut().zip(counts).for_each(|(sum, count)| *sum += count);
        *has_grown = true;
    }
}

impl Store {
    /// Hands the sums of refused postbacks that have grown to the writer, and has it write down what
    /// waits for a commit; to be called once a second. Nobody waits for them. While the last ones
    /// are on their way, this does nothing but count.
    ///
    /// # Errors
    /// When the store takes no writes; they are kept another time then.
    pub fn keep_refusals(&self, now_ms: u64) -> Result<(), SubmitError> {
        let refusals = self.refusals();
        let mut kept = refusals.kept.lock().unwrap_or_else(PoisonError::into_inner);
        refusals.look(&mut kept, now_ms);
        self.sampling().tick(now_ms);
        if kept.last.as_ref().is_some_and(|last| last.outcome().is_none()) {
            return Ok(());
        }
        let has_grown = kept.sums.values().any(|(_, has_grown)| *has_grown);
        if !has_grown && !self.writer().has_noted() {
            return Ok(());
        }
        let ticket = Arc::new(Ticket::default());
        self.writer().submit(Arc::clone(&ticket) as _, |batch| {
            for (place, (sums, _)) in kept.sums.iter().filter(|(_, (_, has_grown))| *has_grown) {
                let named = Refusal::ALL.iter().zip(sums).filter(|(_, count)| **count > 0);
                let count = |(reason, count): (&Refusal, &u64)| RefusedCounts {
                    reason: reason.as_str(),
                    postbacks: *count,
                };
                let record = RefusedRecord { refused: named.map(count).collect() };
                let key = keys::refused(*place, refusals.start);
                batch.put(Table::Counters, &key, |out| record.encode(out));
            }
        })?;
        kept.last = Some(ticket);
        let quarter = kept.quarter;
        kept.sums.retain(|place, (_, has_grown)| {
            *has_grown = false;
            place.quarter == quarter
        });
        Ok(())
    }

    /// Waits until the sums that were handed to the writer last are on disk, or never will be.
    pub async fn refusals_kept(&self) {
        let last = self.refusals().kept.lock().unwrap_or_else(PoisonError::into_inner).last.clone();
        if let Some(last) = last {
            self.settled(&last).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR_MS: u64 = 4 * Quarter::MS;

    fn click(offer: u8) -> RecordId {
        let mut bytes = [0; 16];
        bytes[12] = offer;
        bytes[15] = 1;
        RecordId::from_bytes(bytes)
    }

    fn sums(kept: &Kept) -> Vec<(u32, u32, u64)> {
        let sum = |(place, (sums, _)): (&Place, &(ByReason, bool))| {
            (place.quarter.get(), place.offer.get(), sums.iter().sum())
        };
        kept.sums.iter().map(sum).collect()
    }

    #[test]
    fn each_refusal_is_in_one_sum() {
        let (refusals, mut kept) = (Refusals::new(1), Kept::default());
        refusals.count(Refusal::ForgedClickId, None);
        refusals.count(Refusal::ClickExpired, Some(click(2)));
        refusals.look(&mut kept, HOUR_MS);
        refusals.look(&mut kept, HOUR_MS);
        assert_eq!(sums(&kept), [(4, 0, 1), (4, 2, 1)]);
        refusals.count(Refusal::ForgedClickId, None);
        refusals.count(Refusal::UnknownEvent, Some(click(2)));
        refusals.look(&mut kept, HOUR_MS + 1);
        assert_eq!(sums(&kept), [(4, 0, 2), (4, 2, 2)]);
        refusals.count(Refusal::ForgedClickId, None);
        refusals.look(&mut kept, 2 * HOUR_MS);
        refusals.count(Refusal::ForgedClickId, None);
        refusals.look(&mut kept, HOUR_MS);
        assert_eq!(sums(&kept), [(4, 0, 2), (4, 2, 2), (8, 0, 2)], "a clock that was set back");
        // Ahead, and corrected before anything was refused.
        refusals.look(&mut kept, 9 * HOUR_MS);
        refusals.count(Refusal::ForgedClickId, None);
        refusals.look(&mut kept, 2 * HOUR_MS);
        assert_eq!(sums(&kept), [(4, 0, 2), (4, 2, 2), (8, 0, 3)]);
    }

    #[test]
    fn many_offers_do_not_fill_the_memory() {
        let (refusals, mut kept) = (Refusals::new(1), Kept::default());
        let mut bytes = [0; 16];
        for number in 0..REFUSED_PLACES_MAX as u16 + 10 {
            bytes[11..13].copy_from_slice(&number.to_be_bytes());
            refusals.count(Refusal::ClickExpired, Some(RecordId::from_bytes(bytes)));
        }
        refusals.look(&mut kept, 0);
        assert!(kept.sums.len() <= REFUSED_PLACES_MAX);
        let all: u64 = sums(&kept).iter().map(|(_, _, sum)| sum).sum();
        assert_eq!(all, REFUSED_PLACES_MAX as u64 + 10);
    }
}
