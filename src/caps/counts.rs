// Hot path of offers with caps or tiers: no clock, no I/O; it allocates for new affiliates only.
//! What one offer has paid for: by event and affiliate, in the day and month of the newest
//! conversion and in those right before, whether they had any or not, and if it is wanted, in
//! total.
//!
//! A conversion belongs to the day and month in which its ID was minted. IDs never go back, not
//! even with the clock, so periods only ever move on; the ones before are kept for conversions
//! that were minted just before the change and counted just after it.

use std::collections::HashMap;

use super::terms::{Cap, Whose};
use crate::click_id::RecordId;
use crate::model::ids::AffiliateNumber;
use crate::model::period::{Calendar, Period, Span};
use crate::store::counters::in_caps;
use crate::store::records::{CapSum, ConversionRecord};

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
    /// A stored conversion; `None` if it is not counted.
    #[must_use]
    pub fn of(conversion: RecordId, record: &ConversionRecord<'a>) -> Option<Self> {
        Some(Self {
            minted_ms: conversion.time_ms(),
            event: record.event,
            currency: record.currency,
            affiliate: conversion.affiliate(),
            payout: in_caps(record)?,
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

impl Added {
    fn sum(&self) -> Sum {
        Sum { count: 1, payout: self.payout.into() }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Sum {
    count: u64,
    payout: i128,
}

impl Sum {
    const ZERO: Self = Self { count: 0, payout: 0 };

    // What a damaged row says may be beyond any that conversions can cause.
    fn add(&mut self, other: Self) {
        self.count = self.count.saturating_add(other.count);
        self.payout = self.payout.saturating_add(other.payout);
    }

    fn subtract(&mut self, other: Self) {
        self.count = self.count.saturating_sub(other.count);
        self.payout = self.payout.saturating_sub(other.payout);
    }
}

/// Sums of a period and of the one before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Sums([Sum; 2]);

impl Sums {
    fn of(&self, age: usize) -> Sum {
        self.0.get(age).copied().unwrap_or_default()
    }

    /// Begins with another period; the current one is the one before it, or older.
    fn move_on(&mut self, is_next: bool) {
        self.0 = [Sum::ZERO, if is_next { self.0[0] } else { Sum::ZERO }];
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Tally {
    day: Sums,
    month: Sums,
}

impl Tally {
    fn each(&mut self, age: Age, mut change: impl FnMut(&mut Sum)) {
        for (sums, age) in [(&mut self.day, age.day), (&mut self.month, age.month)] {
            sums.0.get_mut(age).into_iter().for_each(&mut change);
        }
    }
}

/// Which day and month a conversion belongs to: 0 the newest, 1 the one before, 2 none of these.
#[derive(Clone, Copy, Debug)]
struct Age {
    day: usize,
    month: usize,
}

#[derive(Debug)]
struct EventCounts {
    event: Box<str>,
    currency: [u8; 3],
    all: Tally,
    affiliates: HashMap<AffiliateNumber, Tally>,
    total: Sum,
    totals: HashMap<AffiliateNumber, Sum>,
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

    fn each_total(&mut self, affiliate: AffiliateNumber, change: impl Fn(&mut Sum)) {
        change(&mut self.total);
        change(self.totals.entry(affiliate).or_default());
    }

    /// What has been counted of one affiliate, or of all, in a period.
    fn sum(&self, affiliate: Option<AffiliateNumber>, period: Period, age: Age) -> Sum {
        let tally = match affiliate {
            None => Some(&self.all),
            Some(one) => self.affiliates.get(&one),
        };
        match period {
            Period::Day => tally.map_or(Sum::ZERO, |tally| tally.day.of(age.day)),
            Period::Month => tally.map_or(Sum::ZERO, |tally| tally.month.of(age.month)),
            Period::Total => match affiliate {
                None => self.total,
                Some(one) => self.totals.get(&one).copied().unwrap_or_default(),
            },
        }
    }
}

/// The counts of one offer.
#[derive(Debug)]
pub struct Counts {
    calendar: Calendar,
    /// The day of the newest conversion, and the one before.
    days: [Span; 2],
    /// The same of months.
    months: [Span; 2],
    /// A handful; an event whose currency was changed is there twice.
    events: Vec<EventCounts>,
    /// Whether totals are counted. An affiliate with a total is never forgotten.
    in_total: bool,
}

impl Counts {
    /// Counts that begin with the first conversion; with totals if they are wanted.
    pub fn new(calendar: Calendar, in_total: bool) -> Self {
        let never = Span { from_ms: 0, to_ms: 0 };
        Self { calendar, days: [never; 2], months: [never; 2], events: Vec::new(), in_total }
    }

    /// Whether there are totals.
    pub const fn in_total(&self) -> bool {
        self.in_total
    }

    /// Moves on to the day and month of a moment, if it is later than the current ones. Time zone
    /// arithmetic is done here only: once a day.
    pub fn move_on(&mut self, time_ms: u64) {
        if time_ms < self.days[0].to_ms {
            return;
        }
        let is_next = move_on(&mut self.days, &self.calendar, Period::Day, time_ms);
        self.events.iter_mut().for_each(|event| event.move_on(|tally| tally.day.move_on(is_next)));
        if time_ms >= self.months[0].to_ms {
            let is_next = move_on(&mut self.months, &self.calendar, Period::Month, time_ms);
            let change = |tally: &mut Tally| tally.month.move_on(is_next);
            self.events.iter_mut().for_each(|event| event.move_on(change));
        }
    }

    fn age(&self, time_ms: u64) -> Age {
        let among = |spans: &[Span; 2]| {
            spans.iter().position(|span| span.contains(time_ms)).unwrap_or(spans.len())
        };
        Age { day: among(&self.days), month: among(&self.months) }
    }

    /// Takes a conversion in whose total is counted apart, by [`Self::add_total`].
    pub fn add_in_periods(&mut self, one: &Counted<'_>) {
        self.move_on(one.minted_ms);
        let added = self.prepare(one);
        self.change_in_periods(&added, Sum::add);
    }

    /// Takes in what conversions of an affiliate come to, in total alone, if there are totals.
    pub fn add_total(&mut self, affiliate: AffiliateNumber, sum: &CapSum<'_>) {
        if self.in_total {
            let event = self.event(&sum.event, sum.currency);
            self.events[event].each_total(affiliate, |total| {
                total.count = total.count.saturating_add_signed(sum.conversions);
                total.payout = total.payout.saturating_add(sum.payout);
            });
        }
    }

    /// Takes a conversion in. It can be taken out again.
    pub fn add(&mut self, one: &Counted<'_>) -> Added {
        let added = self.prepare(one);
        self.add_prepared(&added);
        added
    }

    /// A conversion as it would be in the counts; it is not taken in.
    pub fn prepare(&mut self, one: &Counted<'_>) -> Added {
        let Counted { minted_ms, affiliate, payout, .. } = *one;
        Added { event: self.event(one.event, one.currency), minted_ms, affiliate, payout }
    }

    /// Takes in what was prepared; into its day and month if they are still known.
    pub fn add_prepared(&mut self, added: &Added) {
        self.move_on(added.minted_ms);
        self.change(added, |total, sum| total.add(sum));
    }

    /// Takes a conversion out again; out of its day and month if they are still known.
    pub fn remove(&mut self, added: &Added) {
        self.change(added, Sum::subtract);
    }

    fn change(&mut self, added: &Added, change: impl Fn(&mut Sum, Sum)) {
        self.change_in_periods(added, &change);
        if self.in_total {
            let sum = added.sum();
            self.events[added.event].each_total(added.affiliate, |total| change(total, sum));
        }
    }

    fn change_in_periods(&mut self, added: &Added, change: impl Fn(&mut Sum, Sum)) {
        let (age, sum) = (self.age(added.minted_ms), added.sum());
        self.events[added.event].each(added.affiliate, age, |total| change(total, sum));
    }

    /// The place of an event among the counts; it stays there.
    fn event(&mut self, event: &str, currency: [u8; 3]) -> usize {
        let known = |known: &EventCounts| *known.event == *event && known.currency == currency;
        self.events.iter().position(known).unwrap_or_else(|| {
            self.events.push(EventCounts {
                event: event.into(),
                currency,
                all: Tally::default(),
                affiliates: HashMap::new(),
                total: Sum::ZERO,
                totals: HashMap::new(),
            });
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
        let over = sum.payout.saturating_add(one.payout.into()) > i128::from(most.get());
        over.then_some(&*cap.over_payout)
    }

    /// The end of the period in which a cap is full by now; `None` if it has room.
    pub fn full_until(&self, cap: &Cap, one: &Counted<'_>) -> Option<u64> {
        let sum = self.sum(cap, one);
        let full = cap.count.is_some_and(|most| sum.count >= most)
            || cap.payout.is_some_and(|most| sum.payout >= i128::from(most.get()));
        let age = self.age(one.minted_ms);
        let span = match cap.period {
            Period::Day => self.days.get(age.day),
            Period::Month => self.months.get(age.month),
            Period::Total => return full.then_some(u64::MAX),
        };
        full.then_some(span?.to_ms)
    }

    /// What a cap has counted in the period of one more conversion. Payouts in a currency that
    /// the event no longer has are not among them.
    fn sum(&self, cap: &Cap, one: &Counted<'_>) -> Sum {
        let age = self.age(one.minted_ms);
        let affiliate = (!matches!(cap.whose, Whose::Offer)).then_some(one.affiliate);
        let mut sum = Sum::ZERO;
        for event in self.events.iter().filter(|event| cap.counts_event(&event.event)) {
            let counted = event.sum(affiliate, cap.period, age);
            let payout = if event.currency == one.currency { counted.payout } else { 0 };
            sum.add(Sum { count: counted.count, payout });
        }
        sum
    }
}

/// Moves on to the period of a moment, and to the one before that; whether that is the one that was
/// current.
fn move_on(spans: &mut [Span; 2], calendar: &Calendar, period: Period, time_ms: u64) -> bool {
    let current = calendar.span(period, time_ms);
    let before = calendar.span(period, current.from_ms.saturating_sub(1));
    let was = std::mem::replace(spans, [current, before]);
    was[0] == before
}

#[cfg(test)]
#[path = "counts_tests.rs"]
mod tests;
