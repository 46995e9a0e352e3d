// Hot path of offers with caps or tiers: no clock, no I/O; it allocates for new affiliates only.
//! What one offer has paid for: by event and affiliate, in the day and month of the newest
//! conversion, and in those before.
//!
//! A conversion belongs to the day and month in which its ID was minted. IDs never go back, not
//! even with the clock, so periods only ever move on; the ones before are kept for conversions
//! that were minted just before the change and counted just after it.

use std::collections::HashMap;

use super::terms::{Cap, Whose};
use crate::click_id::RecordId;
use crate::model::ids::AffiliateNumber;
use crate::model::period::{Calendar, Period, Span};
use crate::model::reasons::{Flag, NEGATIVE_EVENT};
use crate::model::status::Status;
use crate::store::records::ConversionRecord;

/// A conversion, as far as it is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counted<'a> {
    /// When its ID was minted, Unix milliseconds.
    pub minted_ms: u64,
    /// The event's catalog ID.
    pub event: &'a str,
    /// The payout's currency.
    pub currency: [u8; 3],
    /// The affiliate.
    pub affiliate: AffiliateNumber,
    /// Micro-units.
    pub payout: i64,
}

impl<'a> Counted<'a> {
    /// A stored conversion; `None` if it is not counted: a negative event, or one that was never
    /// but rejected, late, or over a cap. What is taken back later does not matter.
    #[must_use]
    pub fn of(conversion: RecordId, record: &ConversionRecord<'a>) -> Option<Self> {
        let unpaid = Flag::OverCap.bit() | Flag::Late.bit();
        let negative = record.history.first()?.reason == NEGATIVE_EVENT;
        let rejected = record.history.iter().all(|step| step.status == Status::Rejected.code());
        let counts = !negative && !rejected && record.flags & unpaid == 0;
        counts.then(|| Self {
            minted_ms: conversion.time_ms(),
            event: record.event,
            currency: record.currency,
            affiliate: conversion.affiliate(),
            payout: record.payout,
        })
    }
}

/// A conversion in the counts, or one that may be taken in.
#[derive(Clone, Copy, Debug)]
pub struct Added {
    event: usize,
    minted_ms: u64,
    affiliate: AffiliateNumber,
    payout: i64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Sum {
    count: u64,
    payout: i128,
}

impl Sum {
    const ZERO: Self = Self { count: 0, payout: 0 };

    fn add(&mut self, other: Self) {
        self.count += other.count;
        self.payout += other.payout;
    }

    fn subtract(&mut self, other: Self) {
        self.count = self.count.saturating_sub(other.count);
        self.payout -= other.payout;
    }
}

/// Sums of a period and of the one before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Sums([Sum; 2]);

impl Sums {
    fn of(&self, age: usize) -> Sum {
        self.0.get(age).copied().unwrap_or_default()
    }

    fn move_on(&mut self) {
        self.0 = [Sum::ZERO, self.0[0]];
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Tally {
    day: Sums,
    month: Sums,
}

impl Tally {
    const fn of(&self, period: Period) -> &Sums {
        match period {
            Period::Day => &self.day,
            Period::Month => &self.month,
        }
    }

    fn each(&mut self, age: Age, mut change: impl FnMut(&mut Sum)) {
        for (sums, age) in [(&mut self.day, age.day), (&mut self.month, age.month)] {
            sums.0.get_mut(age).into_iter().for_each(&mut change);
        }
    }
}

/// Which day and month a conversion belongs to: 0 the newest, 1 the one before, 2 none of them.
#[derive(Clone, Copy, Debug)]
struct Age {
    day: usize,
    month: usize,
}

impl Age {
    const fn of(self, period: Period) -> usize {
        match period {
            Period::Day => self.day,
            Period::Month => self.month,
        }
    }
}

#[derive(Debug)]
struct EventCounts {
    event: Box<str>,
    currency: [u8; 3],
    all: Tally,
    affiliates: HashMap<AffiliateNumber, Tally>,
}

impl EventCounts {
    fn move_on(&mut self, change: impl Fn(&mut Tally)) {
        change(&mut self.all);
        self.affiliates.retain(|_, tally| {
            change(tally);
            *tally != Tally::default()
        });
    }

    fn each(&mut self, affiliate: AffiliateNumber, age: Age, change: impl Fn(&mut Sum)) {
        self.all.each(age, &change);
        self.affiliates.entry(affiliate).or_default().each(age, &change);
    }
}

/// The counts of one offer.
#[derive(Debug)]
pub struct Counts {
    calendar: Calendar,
    /// The day of the newest conversion, and the one before that had any.
    days: [Span; 2],
    /// The same of months.
    months: [Span; 2],
    /// A handful; an event whose currency was changed is there twice.
    events: Vec<EventCounts>,
}

impl Counts {
    /// Counts that begin with the first conversion.
    pub fn new(calendar: Calendar) -> Self {
        let never = Span { from_ms: 0, to_ms: 0 };
        Self { calendar, days: [never; 2], months: [never; 2], events: Vec::new() }
    }

    /// Moves on to the day and month of a moment, if it is later than the current ones. Time zone
    /// arithmetic is done here only: once a day.
    pub fn move_on(&mut self, time_ms: u64) {
        if time_ms < self.days[0].to_ms {
            return;
        }
        self.days = [self.calendar.span(Period::Day, time_ms), self.days[0]];
        self.events.iter_mut().for_each(|event| event.move_on(|tally| tally.day.move_on()));
        if time_ms >= self.months[0].to_ms {
            self.months = [self.calendar.span(Period::Month, time_ms), self.months[0]];
            self.events.iter_mut().for_each(|event| event.move_on(|tally| tally.month.move_on()));
        }
    }

    fn age(&self, time_ms: u64) -> Age {
        let after = |spans: &[Span; 2]| spans.iter().filter(|span| time_ms < span.from_ms).count();
        Age { day: after(&self.days), month: after(&self.months) }
    }

    /// Takes a conversion in. It can be taken out again.
    pub fn add(&mut self, one: &Counted<'_>) -> Added {
        self.move_on(one.minted_ms);
        let added = self.prepare(one);
        self.add_prepared(&added);
        added
    }

    /// A conversion as it would be in the counts; it is not taken in.
    pub fn prepare(&mut self, one: &Counted<'_>) -> Added {
        let Counted { minted_ms, affiliate, payout, .. } = *one;
        Added { event: self.event(one), minted_ms, affiliate, payout }
    }

    /// Takes in what was prepared, if its day or month is still known.
    pub fn add_prepared(&mut self, added: &Added) {
        self.change(added, |total, sum| total.add(sum));
    }

    /// Takes a conversion out again, if its day or month is still known.
    pub fn remove(&mut self, added: &Added) {
        self.change(added, |total, sum| total.subtract(sum));
    }

    fn change(&mut self, added: &Added, change: impl Fn(&mut Sum, Sum)) {
        let age = self.age(added.minted_ms);
        let sum = Sum { count: 1, payout: added.payout.into() };
        self.events[added.event].each(added.affiliate, age, |total| change(total, sum));
    }

    /// The place of an event among the counts; it stays there.
    fn event(&mut self, of: &Counted<'_>) -> usize {
        let known =
            |known: &EventCounts| *known.event == *of.event && known.currency == of.currency;
        self.events.iter().position(known).unwrap_or_else(|| {
            let (event, currency) = (of.event.into(), of.currency);
            let affiliates = HashMap::new();
            self.events.push(EventCounts { event, currency, all: Tally::default(), affiliates });
            self.events.len() - 1
        })
    }

    /// How many conversions of an event an affiliate has in the month of a moment.
    pub fn in_month(&self, event: &str, affiliate: AffiliateNumber, time_ms: u64) -> u64 {
        let age = self.age(time_ms).month;
        let of_event = self.events.iter().filter(|known| *known.event == *event);
        let tallies = of_event.filter_map(|known| known.affiliates.get(&affiliate));
        tallies.map(|tally| tally.month.of(age).count).sum()
    }

    /// The word of the cap that leaves no room for one more conversion; `None` if there is room.
    pub fn lacks_room<'c>(&self, cap: &'c Cap, one: &Counted<'_>) -> Option<&'c str> {
        if !cap.counts_event(one.event) || !cap.counts_affiliate(one.affiliate) {
            return None;
        }
        let sum = self.sum(cap, one);
        if cap.count.is_some_and(|most| sum.count >= most) {
            return Some(&cap.over_count);
        }
        let most = cap.payout.filter(|_| one.payout > 0)?;
        let over = sum.payout + i128::from(one.payout) > i128::from(most.get());
        over.then_some(&*cap.over_payout)
    }

    /// The end of the period in which a cap is full by now; `None` if it has room.
    pub fn full_until(&self, cap: &Cap, one: &Counted<'_>) -> Option<u64> {
        let sum = self.sum(cap, one);
        let full = cap.count.is_some_and(|most| sum.count >= most)
            || cap.payout.is_some_and(|most| sum.payout >= i128::from(most.get()));
        let spans = match cap.period {
            Period::Day => &self.days,
            Period::Month => &self.months,
        };
        full.then_some(spans.get(self.age(one.minted_ms).of(cap.period))?.to_ms)
    }

    /// What a cap has counted in the period of one more conversion. Payouts in a currency that
    /// the event no longer has are not among them.
    fn sum(&self, cap: &Cap, one: &Counted<'_>) -> Sum {
        let age = self.age(one.minted_ms).of(cap.period);
        let mut sum = Sum::ZERO;
        for event in self.events.iter().filter(|event| cap.counts_event(&event.event)) {
            let tally = match cap.whose {
                Whose::Offer => Some(&event.all),
                Whose::EachAffiliate | Whose::Affiliate(..) => event.affiliates.get(&one.affiliate),
            };
            let Some(counted) = tally.map(|tally| tally.of(cap.period).of(age)) else { continue };
            let payout = if event.currency == one.currency { counted.payout } else { 0 };
            sum.add(Sum { count: counted.count, payout });
        }
        sum
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use jiff::tz::TimeZone;
    use proptest::prelude::*;

    use super::*;
    use crate::model::money::Micros;

    const EVENTS: [&str; 3] = ["sale", "lead", "deposit"];

    fn affiliate(number: u32) -> AffiliateNumber {
        AffiliateNumber::new(number).expect("24 bits")
    }

    fn berlin() -> Counts {
        Counts::new(Calendar::new(TimeZone::get("Europe/Berlin").expect("bundled")))
    }

    fn one(minted: &str, payout: i64) -> Counted<'static> {
        let moment: jiff::Timestamp = minted.parse().expect("a time");
        let minted_ms = u64::try_from(moment.as_millisecond()).expect("after 1970");
        let affiliate = affiliate(7);
        Counted { minted_ms, event: "sale", currency: *b"USD", affiliate, payout }
    }

    fn a_day(count: u64) -> Cap {
        Cap::new(Whose::Offer, Vec::new(), Period::Day, Some(count), None)
    }

    #[test]
    fn a_cap_opens_anew_at_the_midnight_of_the_time_zone() {
        let (mut counts, cap) = (berlin(), a_day(2));
        let mut check = |minted: &str, has_room: bool| {
            let one = one(minted, 1);
            counts.move_on(one.minted_ms);
            assert_eq!(counts.lacks_room(&cap, &one).is_none(), has_room, "{minted}");
            if has_room {
                counts.add(&one);
            }
        };
        check("2026-03-28T22:59:59.999Z", true);
        // 23 hours of summer time's first day.
        check("2026-03-28T23:00:00Z", true);
        check("2026-03-29T01:00:00Z", true);
        check("2026-03-29T21:59:59.999Z", false);
        check("2026-03-29T22:00:00Z", true);
        // Minted before the change, counted after it: the day before is full, too.
        check("2026-03-29T21:59:59.999Z", false);
        check("2026-03-30T00:00:00Z", true);
        check("2026-03-30T21:00:00Z", false);
        // 25 hours.
        check("2026-10-24T22:00:00Z", true);
        check("2026-10-25T22:59:59Z", true);
        check("2026-10-25T22:59:59.999Z", false);
        check("2026-10-25T23:00:00Z", true);
    }

    #[test]
    fn what_is_given_back_after_the_change_of_day_makes_no_room_in_the_next() {
        let (mut counts, cap) = (berlin(), a_day(1));
        let before = counts.add(&one("2026-03-28T22:59:59Z", 1));
        let next = one("2026-03-28T23:00:00Z", 1);
        counts.move_on(next.minted_ms);
        counts.add(&next);
        counts.remove(&before);
        assert!(counts.lacks_room(&cap, &next).is_some());
        assert!(counts.lacks_room(&cap, &one("2026-03-28T22:59:59Z", 1)).is_none());
    }

    #[test]
    fn a_payout_cap_pays_what_fits_whole_and_nothing_of_the_rest() {
        let payout = Some(Micros::new(10));
        let cap = Cap::new(Whose::Offer, Vec::new(), Period::Month, None, payout);
        let mut counts = berlin();
        let mut check = |payout, has_room: bool| {
            let one = one("2026-03-28T12:00:00Z", payout);
            counts.move_on(one.minted_ms);
            assert_eq!(counts.lacks_room(&cap, &one).is_none(), has_room, "{payout}");
            if has_room {
                counts.add(&one);
            }
        };
        check(7, true);
        check(4, false);
        check(3, true);
        check(1, false);
        check(0, true);
        check(-2, true);
        check(2, true);
    }

    /// A conversion in the simplest words: when, event, currency, affiliate, payout.
    type Plain = (u64, usize, bool, u32, i64);

    fn counted((minted_ms, event, euros, number, payout): Plain) -> Counted<'static> {
        let currency = if euros { *b"EUR" } else { *b"USD" };
        let affiliate = affiliate(number);
        Counted { minted_ms, event: EVENTS[event], currency, affiliate, payout }
    }

    fn caps() -> Vec<Cap> {
        let mut caps = Vec::new();
        for whose in
            [Whose::Offer, Whose::EachAffiliate, Whose::Affiliate("2".into(), affiliate(2))]
        {
            for events in [&[][..], &["sale"], &["sale", "lead"]] {
                for period in [Period::Day, Period::Month] {
                    let events = events.iter().map(|event| Box::from(*event)).collect();
                    let payout = Some(Micros::new(60));
                    caps.push(Cap::new(whose.clone(), events, period, Some(7), payout));
                }
            }
        }
        caps
    }

    /// What a cap allows, by looking at everything that was taken in.
    fn lacks_room_plainly(cap: &Cap, taken: &BTreeMap<usize, Plain>, next: Plain) -> bool {
        let calendar = Calendar::new(TimeZone::get("Europe/Berlin").expect("bundled"));
        let span = calendar.span(cap.period, next.0);
        let next = counted(next);
        if !cap.counts_event(next.event) || !cap.counts_affiliate(next.affiliate) {
            return false;
        }
        let same = |one: &Counted<'_>| {
            span.contains(one.minted_ms)
                && cap.counts_event(one.event)
                && (cap.whose == Whose::Offer || one.affiliate == next.affiliate)
        };
        let all: Vec<_> = taken.values().map(|one| counted(*one)).filter(same).collect();
        let in_currency = all.iter().filter(|one| one.currency == next.currency);
        let payout = in_currency.map(|one| one.payout).sum::<i64>() + next.payout;
        all.len() >= 7 || (next.payout > 0 && payout > 60)
    }

    proptest! {
        #[test]
        fn counts_agree_with_a_count_of_everything(
            steps in prop::collection::vec(
                (0..40_000_000_u64, 0..3_usize, any::<bool>(), 1..4_u32, -3..20_i64, any::<u8>()),
                1..120,
            ),
        ) {
            // The end of March, when clocks change, so that days and the month end.
            let mut now_ms = one("2026-03-27T12:00:00Z", 0).minted_ms;
            let (mut counts, caps) = (berlin(), caps());
            let (mut taken, mut places) = (BTreeMap::new(), BTreeMap::new());
            for (number, (step, event, euros, who, payout, choice)) in steps.into_iter().enumerate() {
                now_ms += step;
                let next = (now_ms, event, euros, who, payout);
                counts.move_on(now_ms);
                for cap in &caps {
                    let lacks = counts.lacks_room(cap, &counted(next)).is_some();
                    prop_assert_eq!(lacks, lacks_room_plainly(cap, &taken, next), "{:?}", cap);
                }
                let month = Cap::new(Whose::EachAffiliate, vec![EVENTS[event].into()], Period::Month, None, None);
                let of_month = counts.in_month(EVENTS[event], affiliate(who), now_ms);
                prop_assert_eq!(of_month, counts.sum(&month, &counted(next)).count);
                places.insert(number, counts.add(&counted(next)));
                taken.insert(number, next);
                if choice < 80 && let Some(gone) = taken.keys().nth(usize::from(choice) % taken.len()).copied() {
                    taken.remove(&gone);
                    counts.remove(&places[&gone]);
                }
            }
        }
    }
}
