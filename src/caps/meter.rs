// Hot path of offers with caps or tiers: one lock for a few sums, and one until the writer has a
// conversion; neither across an await.
//! Taking a place in an offer's counts, and giving it back.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::counts::{Added, Counted, Counts};
use super::meters::Still;
use super::terms::Cap;
use crate::model::ids::AffiliateNumber;
use crate::store::ticket::{Outcome, Settle};

/// Who asks for a place.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// The offer's caps.
    pub caps: &'a [Cap],
    /// When the conversion's ID was minted, Unix milliseconds.
    pub minted_ms: u64,
    /// The event's catalog ID.
    pub event: &'a str,
    /// The payout's currency.
    pub currency: [u8; 3],
    /// The affiliate.
    pub affiliate: AffiliateNumber,
}

/// What a conversion got.
#[derive(Debug)]
pub enum Place<'a> {
    /// It is counted, and is paid.
    Taken(Reserved),
    /// A cap left no room: it is not counted and pays nothing. The cap's word.
    Over(&'a str),
}

/// The counts of one offer.
#[derive(Debug)]
pub struct Meter {
    turn: Mutex<()>,
    counts: Mutex<Counts>,
    in_total: bool,
    /// Until when clicks go to the fallback because a cap is full, Unix milliseconds; or
    /// [`UNKNOWN`] or [`OPEN`].
    full_until_ms: AtomicU64,
}

/// Nobody has looked yet whether a cap is full.
const UNKNOWN: u64 = 0;
/// None is, until a conversion fills it.
const OPEN: u64 = 1;

impl Meter {
    /// A meter that has counted so much.
    pub(super) const fn new(counts: Counts) -> Self {
        let in_total = counts.in_total();
        Self {
            turn: Mutex::new(()),
            counts: Mutex::new(counts),
            in_total,
            full_until_ms: AtomicU64::new(UNKNOWN),
        }
    }

    /// Whether it serves an offer that is counted so.
    pub(super) const fn serves(&self, in_total: bool) -> bool {
        self.in_total || !in_total
    }

    /// Waits until nobody else is between a place and the writer, who may still refuse whoever
    /// has it: a place that comes back so is nobody's loss. Kept until the writer has decided.
    #[must_use]
    pub fn turn(self: &Arc<Self>) -> Turn<'_> {
        // Nothing is guarded but the order.
        Turn { meter: self, _turn: self.turn.lock().unwrap_or_else(PoisonError::into_inner) }
    }

    fn notice_full(&self, counts: &Counts, caps: &[Cap], one: &Counted<'_>) {
        let counting = redirecting(caps).filter(|cap| cap.counts_event(one.event));
        if let Some(until_ms) = counting.filter_map(|cap| counts.full_until(cap, one)).max() {
            self.full_until_ms.fetch_max(until_ms, Ordering::Relaxed);
        }
    }

    /// Whether a cap that sends clicks to the fallback is full. `currency` is that of the events
    /// that a cap counts, if it counts any. The counts are looked at where that is not known: after
    /// a start, another catalog, a change that may have made room, or the end of a period.
    #[must_use]
    pub fn is_full(
        &self,
        caps: &[Cap],
        currency: impl Fn(&Cap) -> Option<[u8; 3]>,
        now_ms: u64,
    ) -> bool {
        match self.full_until_ms.load(Ordering::Relaxed) {
            OPEN => return false,
            until_ms if now_ms < until_ms => return true,
            _ => {}
        }
        let counts = self.lock();
        let full_until = |cap: &Cap| {
            let (event, affiliate) = ("", AffiliateNumber::NONE);
            let currency = currency(cap)?;
            let next = Counted { minted_ms: now_ms, event, currency, affiliate, payout: 0 };
            counts.full_until(cap, &next)
        };
        let until_ms = redirecting(caps).filter_map(full_until).max().unwrap_or(OPEN);
        // Under the lock: whoever takes a place or gives one back comes before or after.
        self.full_until_ms.store(until_ms, Ordering::Relaxed);
        drop(counts);
        now_ms < until_ms
    }

    /// There may be room again: the next click looks.
    pub(super) fn reopen(&self) {
        self.full_until_ms.store(UNKNOWN, Ordering::Relaxed);
    }

    /// Goes with the commit of a change, which was begun while nobody counts the store: when the
    /// disk has confirmed it, the conversion counts by what it is then, if it counts at all.
    #[must_use]
    pub fn recount(
        self: &Arc<Self>,
        before: Option<&Counted<'_>>,
        after: Option<&Counted<'_>>,
        still: Still,
        commit: Arc<dyn Settle>,
    ) -> Arc<dyn Settle> {
        let mut counts = self.lock();
        let before = before.map(|one| counts.prepare(one));
        let after = after.map(|one| counts.prepare(one));
        drop(counts);
        let still = Mutex::new(Some(still));
        Arc::new(Recount { meter: Arc::clone(self), before, after, still, commit })
    }

    fn lock(&self) -> MutexGuard<'_, Counts> {
        // A panic under this lock leaves sums behind that are whole.
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The right to take a place, of one conversion at a time.
#[derive(Debug)]
pub struct Turn<'m> {
    meter: &'m Arc<Meter>,
    _turn: MutexGuard<'m, ()>,
}

impl Turn<'_> {
    /// Takes a place for a conversion under all caps at once, or none. `price` says what it pays,
    /// micro-units, by its number among the affiliate's of this event in this month, the first
    /// being 1.
    ///
    /// # Errors
    /// What `price` returns; nothing is taken then.
    pub fn take<'a, E>(
        &self,
        asked: &Asked<'a>,
        price: impl FnOnce(u64) -> Result<i64, E>,
    ) -> Result<Place<'a>, E> {
        let Asked { caps, minted_ms, event, currency, affiliate } = *asked;
        let meter = self.meter;
        let mut counts = meter.lock();
        counts.move_on(minted_ms);
        let payout = price(counts.in_month(event, affiliate, minted_ms) + 1)?;
        let one = Counted { minted_ms, event, currency, affiliate, payout };
        if let Some(word) = caps.iter().find_map(|cap| counts.lacks_room(cap, &one)) {
            meter.notice_full(&counts, caps, &one);
            return Ok(Place::Over(word));
        }
        let added = counts.add(&one);
        meter.notice_full(&counts, caps, &one);
        drop(counts);
        let (meter, open) = (Arc::clone(meter), AtomicBool::new(true));
        Ok(Place::Taken(Reserved { meter, added, open }))
    }
}

/// The caps that send clicks to the fallback; they are all of the whole offer.
fn redirecting(caps: &[Cap]) -> impl Iterator<Item = &Cap> {
    caps.iter().filter(|cap| cap.redirect_when_full)
}

/// A place in the counts. It is given back when this is dropped, unless the disk has confirmed
/// the conversion.
#[derive(Debug)]
pub struct Reserved {
    meter: Arc<Meter>,
    added: Added,
    open: AtomicBool,
}

impl Reserved {
    /// Goes with a commit: whoever settles it decides about the place as well.
    #[must_use]
    pub fn with(self, commit: Arc<dyn Settle>) -> Arc<dyn Settle> {
        Arc::new(WithPlace { place: self, commit })
    }

    fn give_back(&self) {
        if self.open.swap(false, Ordering::AcqRel) {
            let mut counts = self.meter.lock();
            counts.remove(&self.added);
            self.meter.reopen();
        }
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        self.give_back();
    }
}

struct WithPlace {
    place: Reserved,
    commit: Arc<dyn Settle>,
}

impl Settle for WithPlace {
    /// The place first: whoever takes the claims next finds it free.
    fn settle(&self, outcome: Outcome) {
        if outcome == Outcome::Durable {
            self.place.open.store(false, Ordering::Release);
        } else {
            self.place.give_back();
        }
        self.commit.settle(outcome);
    }

    fn outcome(&self) -> Option<Outcome> {
        self.commit.outcome()
    }
}

/// A change of a conversion on its way to the disk.
struct Recount {
    meter: Arc<Meter>,
    before: Option<Added>,
    after: Option<Added>,
    still: Mutex<Option<Still>>,
    commit: Arc<dyn Settle>,
}

impl Settle for Recount {
    /// The counts first: whoever hears of the change finds it counted.
    fn settle(&self, outcome: Outcome) {
        let still = self.still.lock().unwrap_or_else(PoisonError::into_inner).take();
        if still.is_some() && outcome == Outcome::Durable {
            let mut counts = self.meter.lock();
            self.before.iter().for_each(|before| counts.remove(before));
            self.after.iter().for_each(|after| counts.add_prepared(after));
            // It may pay less now.
            self.meter.reopen();
        }
        drop(still);
        self.commit.settle(outcome);
    }

    fn outcome(&self) -> Option<Outcome> {
        self.commit.outcome()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::caps::{Tier, Whose, tier_of};
    use crate::model::period::{Calendar, Period};
    use crate::model::rule::Rule;
    use crate::store::ticket::Ticket;

    fn meter() -> Arc<Meter> {
        Arc::new(Meter::new(Counts::new(Calendar::new(jiff::tz::TimeZone::UTC), true)))
    }

    fn take<'a>(meter: &Arc<Meter>, caps: &'a [Cap]) -> Place<'a> {
        let asked = Asked {
            caps,
            minted_ms: 1_700_000_000_000,
            event: "sale",
            currency: *b"USD",
            affiliate: AffiliateNumber::NONE,
        };
        meter.turn().take(&asked, |_| Ok::<_, ()>(1)).expect("a price")
    }

    fn one_a_day() -> [Cap; 1] {
        [Cap::new(Whose::Offer, Vec::new(), Period::Day, Some(1), None)]
    }

    #[test]
    fn a_place_belongs_to_its_commit() {
        let check = |ends: &dyn Fn(Reserved), has_room: bool| {
            let (meter, caps) = (meter(), one_a_day());
            let Place::Taken(place) = take(&meter, &caps) else { panic!("no room in nothing") };
            assert!(matches!(take(&meter, &caps), Place::Over("cap:offer:day:count")));
            ends(place);
            assert_eq!(matches!(take(&meter, &caps), Place::Taken(_)), has_room);
        };
        let settled = |place: Reserved, outcome| {
            let ticket = Arc::new(Ticket::default());
            let commit = place.with(Arc::clone(&ticket) as _);
            commit.settle(outcome);
            assert_eq!((commit.outcome(), ticket.outcome()), (Some(outcome), Some(outcome)));
        };
        check(&|place| settled(place, Outcome::Durable), false);
        check(&|place| settled(place, Outcome::NotDone), true);
        check(&|place| settled(place, Outcome::Unknown), true);
        // It never came to the writer.
        check(&drop, true);
        check(&|place| drop(place.with(Arc::new(Ticket::default()))), true);
    }

    #[test]
    fn nobody_is_over_a_cap_by_a_place_that_the_writer_may_still_refuse() {
        let (meter, caps) = (meter(), one_a_day());
        std::thread::scope(|scope| {
            let turn = meter.turn();
            let (begun, second_begins) = std::sync::mpsc::sync_channel(1);
            let (meter, caps) = (&meter, &caps);
            let second = scope.spawn(move || {
                begun.send(()).expect("it is waited for");
                matches!(take(meter, caps), Place::Taken(_))
            });
            let asked = Asked {
                caps,
                minted_ms: 1_700_000_000_000,
                event: "sale",
                currency: *b"USD",
                affiliate: AffiliateNumber::NONE,
            };
            let first = turn.take(&asked, |_| Ok::<_, ()>(1)).expect("a price");
            assert!(matches!(first, Place::Taken(_)));
            second_begins.recv().expect("it begins");
            // Time for the second to come in between, where nothing holds it back.
            std::thread::sleep(std::time::Duration::from_millis(20));
            drop(first);
            drop(turn);
            assert!(second.join().expect("no panic"), "there is room for the second");
        });
    }

    #[test]
    fn clicks_know_whether_a_cap_is_full_without_a_conversion() {
        const NOW_MS: u64 = 1_700_000_000_000;
        const DAY_MS: u64 = 24 * 60 * 60 * 1000;
        let redirecting = |period, count| {
            let mut cap = Cap::new(Whose::Offer, Vec::new(), period, Some(count), None);
            cap.redirect_when_full = true;
            cap
        };
        let meter = meter();
        let is_full = |caps: &[Cap], now_ms| meter.is_full(caps, |_| Some(*b"USD"), now_ms);
        let Place::Taken(place) = take(&meter, &[]) else { panic!("no cap") };
        // Counted without that cap, as after a start.
        let day = [redirecting(Period::Day, 1)];
        assert!(is_full(&day, NOW_MS) && is_full(&day, NOW_MS + 1));
        assert!(!is_full(&day, NOW_MS + DAY_MS), "its day is over");
        // Another catalog; of two caps the one that is full for longer counts.
        meter.reopen();
        assert!(!is_full(&[redirecting(Period::Day, 2)], NOW_MS));
        meter.reopen();
        let both = [redirecting(Period::Day, 1), redirecting(Period::Month, 1)];
        assert!(is_full(&both, NOW_MS + DAY_MS));
        // What is not of the whole offer, or says nothing of clicks, closes nothing.
        meter.reopen();
        assert!(!is_full(&one_a_day(), NOW_MS));
        // Given back: there is room.
        meter.reopen();
        assert!(is_full(&day, NOW_MS));
        drop(place);
        assert!(!is_full(&day, NOW_MS));
    }

    #[test]
    fn a_price_that_fails_takes_nothing() {
        let (meter, caps) = (meter(), one_a_day());
        let Place::Taken(place) = take(&meter, &caps) else { panic!("no room in nothing") };
        drop(place);
        let mut numbers = Vec::new();
        for _ in 0..2 {
            let asked = Asked {
                caps: &caps,
                minted_ms: 1_700_000_000_000,
                event: "sale",
                currency: *b"USD",
                affiliate: AffiliateNumber::NONE,
            };
            let failed = meter.turn().take(&asked, |number| {
                numbers.push(number);
                Err::<i64, _>("too large")
            });
            assert!(failed.is_err());
        }
        assert_eq!(numbers, [1, 1]);
    }

    #[test]
    fn a_tier_counts_from_its_number_on() {
        let tiers = [Tier::new(3, Rule::default()), Tier::new(10, Rule::default())];
        let check = |number, expected: Option<&str>| {
            let word = tier_of(&tiers, number).map(|tier| &*tier.word);
            assert_eq!(word, expected, "{number}");
        };
        check(1, None);
        check(2, None);
        check(3, Some("tier:3"));
        check(9, Some("tier:3"));
        check(10, Some("tier:10"));
        check(u64::MAX, Some("tier:10"));
    }
}
