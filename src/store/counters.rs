// Pure: no clock, no randomness, no I/O.
//! What clicks and conversions add to the sums, by their records alone.
//!
//! A conversion counts where its ID says, with the status and the amounts that it has now. So a
//! change moves it from one tally to another, at the place where it was from the beginning.

use std::borrow::Cow;

use super::records::{
    CapSum, CapsRecord, ChangeRecord, Contribution, ConversionRecord, Counts, EventCounts,
    FallbackCounts, Tally,
};
use crate::model::status::Status;

/// [`Contribution::standing`] of a negative event.
const NEGATIVE: u8 = 0;

/// Whether something is added to the sums or taken away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sign {
    /// Added.
    Plus,
    /// Taken away.
    Minus,
}

impl Sign {
    /// A number as it is added. Damaged counts may be beyond any that records can cause.
    #[must_use]
    pub const fn of(self, number: i64) -> i64 {
        match self {
            Self::Plus => number,
            Self::Minus => number.wrapping_neg(),
        }
    }

    const fn opposite(self) -> Self {
        match self {
            Self::Plus => Self::Minus,
            Self::Minus => Self::Plus,
        }
    }

    const fn of_sum(self, number: i128) -> i128 {
        match self {
            Self::Plus => number,
            Self::Minus => number.wrapping_neg(),
        }
    }
}

/// What caps and tiers count a conversion by: its payout by its price, micro-units. `None` if they
/// do not count it: a negative event, or one that was never but rejected, late, or over a cap. What
/// is taken back later does not matter.
#[must_use]
pub fn in_caps(record: &ConversionRecord<'_>) -> Option<i64> {
    let rejected = record.history.iter().all(|step| step.status == Status::Rejected.code());
    let counts = !record.is_negative() && !rejected && !record.is_unpaid();
    counts.then_some(record.payout)
}

impl<'a> Contribution<'a> {
    /// What a conversion adds as it is.
    #[must_use]
    pub fn of(record: &ConversionRecord<'a>) -> Self {
        let earned = record.earned();
        Self {
            event: Cow::Borrowed(record.event),
            currency: record.currency,
            standing: if record.is_negative() { NEGATIVE } else { record.status },
            revenue: earned.revenue,
            payout: earned.payout,
            in_caps: in_caps(record),
        }
    }

    /// The same, holding its texts.
    #[must_use]
    pub fn into_owned(self) -> Contribution<'static> {
        Contribution { event: Cow::Owned(self.event.into_owned()), ..self }
    }
}

impl Tally {
    /// Whether there is nothing in it.
    #[must_use]
    pub fn is_zero(&self) -> bool {
        *self == Self::default()
    }

    /// Adds another one.
    pub fn add(&mut self, other: &Self, sign: Sign) {
        self.conversions = self.conversions.wrapping_add(sign.of(other.conversions));
        self.revenue = self.revenue.wrapping_add(sign.of_sum(other.revenue));
        self.payout = self.payout.wrapping_add(sign.of_sum(other.payout));
    }
}

impl EventCounts<'_> {
    /// Whether there is nothing in it.
    #[must_use]
    pub fn is_zero(&self) -> bool {
        self.negative == 0 && self.by_status.iter().all(Tally::is_zero)
    }

    /// Adds what another one counts, whatever its event and currency.
    pub fn add(&mut self, other: &EventCounts<'_>, sign: Sign) {
        self.negative = self.negative.wrapping_add(sign.of(other.negative));
        for (tally, more) in self.by_status.iter_mut().zip(&other.by_status) {
            tally.add(more, sign);
        }
    }
}

impl<'a> Counts<'a> {
    /// Whether there is nothing in it.
    #[must_use]
    pub fn is_zero(&self) -> bool {
        self.clicks == 0 && self.fallbacks.is_empty() && self.events.is_empty()
    }

    /// Adds a click, which went to a fallback if `fallback` has a reason.
    pub fn click(&mut self, fallback: &str) {
        if fallback.is_empty() {
            self.clicks = self.clicks.wrapping_add(1);
        } else {
            self.fallen(fallback, 1);
        }
    }

    /// Adds a conversion, or takes it away.
    pub fn conversion(&mut self, contribution: &Contribution<'_>, sign: Sign) {
        let counts = self.event(&contribution.event, contribution.currency);
        if contribution.standing == NEGATIVE {
            counts.negative = counts.negative.wrapping_add(sign.of(1));
            return self.tidy();
        }
        if let Some(status) = Status::from_code(contribution.standing) {
            let one = Tally {
                conversions: 1,
                revenue: contribution.revenue.into(),
                payout: contribution.payout.into(),
            };
            counts.by_status[status.index()].add(&one, sign);
        }
        if sign == Sign::Minus {
            self.tidy();
        }
    }

    /// Adds other sums.
    pub fn add(&mut self, other: &Counts<'_>, sign: Sign) {
        self.clicks = self.clicks.wrapping_add(sign.of(other.clicks));
        for fallback in &other.fallbacks {
            self.fallen(&fallback.reason, sign.of(fallback.clicks));
        }
        for counts in &other.events {
            self.event(&counts.event, counts.currency).add(counts, sign);
        }
        self.tidy();
    }

    /// The same whatever came first.
    #[must_use]
    pub fn sorted(mut self) -> Self {
        self.tidy();
        self.fallbacks.sort_by(|one, other| one.reason.cmp(&other.reason));
        self.events
            .sort_by(|one, other| (&one.event, one.currency).cmp(&(&other.event, other.currency)));
        self
    }

    /// The same, holding its texts.
    #[must_use]
    pub fn to_owned(&self) -> Counts<'static> {
        let mut owned = Counts::default();
        owned.add(self, Sign::Plus);
        owned
    }

    /// Adds clicks that went to a fallback, or postbacks that were refused, for a reason.
    pub fn fallen(&mut self, reason: &str, clicks: i64) {
        match self.fallbacks.iter_mut().find(|fallback| fallback.reason == reason) {
            Some(fallback) => fallback.clicks = fallback.clicks.wrapping_add(clicks),
            None => {
                let reason = Cow::Owned(reason.to_owned());
                self.fallbacks.push(FallbackCounts { reason, clicks });
            }
        }
    }

    /// The conversions of an event in a currency. An offer has a handful of events.
    pub fn event(&mut self, event: &str, currency: [u8; 3]) -> &mut EventCounts<'a> {
        let is_meant =
            |counts: &EventCounts<'_>| counts.event == event && counts.currency == currency;
        let place = self.events.iter().position(is_meant).unwrap_or_else(|| {
            let event = Cow::Owned(event.to_owned());
            self.events.push(EventCounts { event, currency, ..EventCounts::default() });
            self.events.len() - 1
        });
        &mut self.events[place]
    }

    /// Leaves out what has become nothing.
    fn tidy(&mut self) {
        self.fallbacks.retain(|fallback| fallback.clicks != 0);
        self.events.retain(|counts| !counts.is_zero());
    }
}

impl ChangeRecord<'_> {
    /// Adds what the change makes of what caps have counted, or takes it away.
    pub fn in_caps(&self, sums: &mut CapsRecord<'_>, sign: Sign) {
        sums.conversion(&self.after, sign);
        if let Some(before) = &self.before {
            sums.conversion(before, sign.opposite());
        }
    }
}

impl CapsRecord<'_> {
    /// Adds a conversion that caps count, or takes it away.
    pub fn conversion(&mut self, contribution: &Contribution<'_>, sign: Sign) {
        if let Some(payout) = contribution.in_caps {
            let (conversions, payout) = (sign.of(1), sign.of_sum(payout.into()));
            self.sum(&contribution.event, contribution.currency, conversions, payout);
        }
    }

    /// Adds other sums.
    pub fn add(&mut self, other: &CapsRecord<'_>) {
        for CapSum { event, currency, conversions, payout } in &other.sums {
            self.sum(event, *currency, *conversions, *payout);
        }
    }

    /// The same whatever came first.
    #[must_use]
    pub fn sorted(mut self) -> Self {
        self.sums
            .sort_by(|one, other| (&one.event, one.currency).cmp(&(&other.event, other.currency)));
        self
    }

    fn sum(&mut self, event: &str, currency: [u8; 3], conversions: i64, payout: i128) {
        let is_meant = |sum: &CapSum<'_>| sum.event == event && sum.currency == currency;
        let place = self.sums.iter().position(is_meant).unwrap_or_else(|| {
            let event = Cow::Owned(event.to_owned());
            self.sums.push(CapSum { event, currency, ..CapSum::default() });
            self.sums.len() - 1
        });
        let sum = &mut self.sums[place];
        sum.conversions = sum.conversions.wrapping_add(conversions);
        sum.payout = sum.payout.wrapping_add(payout);
        if (sum.conversions, sum.payout) == (0, 0) {
            self.sums.swap_remove(place);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const REVENUE: i64 = 20_000_000;

    fn sale(status: Status, revenue: i64) -> Contribution<'static> {
        Contribution {
            event: Cow::Borrowed("sale"),
            currency: *b"USD",
            standing: status.code(),
            revenue,
            payout: revenue / 2,
            in_caps: None,
        }
    }

    #[test]
    fn a_change_moves_a_conversion_from_one_tally_to_another() {
        let mut counts = Counts::default();
        counts.conversion(&sale(Status::Pending, REVENUE), Sign::Plus);
        counts.conversion(&sale(Status::Approved, REVENUE), Sign::Plus);
        counts.conversion(&sale(Status::Pending, REVENUE), Sign::Minus);
        counts.conversion(&sale(Status::Rejected, REVENUE), Sign::Plus);
        let one = Tally { conversions: 1, revenue: 20_000_000, payout: 10_000_000 };
        let none = Tally::default();
        assert_eq!(counts.events[0].by_status, [none, one, one, none]);
        let negative = Contribution { standing: NEGATIVE, ..sale(Status::Approved, 0) };
        counts.conversion(&negative, Sign::Plus);
        assert_eq!((counts.events.len(), counts.events[0].negative), (1, 1));
        for gone in [&sale(Status::Approved, REVENUE), &sale(Status::Rejected, REVENUE), &negative]
        {
            counts.conversion(gone, Sign::Minus);
        }
        assert!(counts.is_zero(), "what has become nothing leaves nothing behind: {counts:?}");
    }

    #[test]
    fn currencies_never_mix() {
        let mut counts = Counts::default();
        let euros = Contribution { currency: *b"EUR", ..sale(Status::Approved, REVENUE) };
        counts.conversion(&euros, Sign::Plus);
        counts.conversion(&sale(Status::Approved, REVENUE), Sign::Plus);
        assert_eq!(counts.events.len(), 2);
    }

    #[test]
    fn amounts_are_summed_beyond_64_bits() {
        let mut counts = Counts::default();
        for _ in 0..3 {
            counts.conversion(&sale(Status::Approved, i64::MAX), Sign::Plus);
        }
        assert_eq!(counts.events[0].by_status[1].revenue, 3 * i128::from(i64::MAX));
    }

    fn contribution() -> impl Strategy<Value = Contribution<'static>> {
        (0..3_usize, 0..2_usize, 0..5_u8, any::<i64>(), any::<i64>()).prop_map(
            |(event, currency, standing, revenue, payout)| Contribution {
                event: Cow::Borrowed(["sale", "deposit", "refund"][event]),
                currency: [*b"USD", *b"EUR"][currency],
                standing,
                revenue,
                payout,
                in_caps: (standing > 1).then_some(payout),
            },
        )
    }

    proptest! {
        #[test]
        fn the_order_in_which_things_are_added_does_not_matter(
            all in prop::collection::vec(contribution(), 0..12),
            split in 0..12_usize,
        ) {
            let (mut one, mut in_caps) = (Counts::default(), CapsRecord::default());
            for it in &all {
                one.conversion(it, Sign::Plus);
                in_caps.conversion(it, Sign::Plus);
            }
            let (mut front, mut back) = (Counts::default(), Counts::default());
            let mut halves = [CapsRecord::default(), CapsRecord::default()];
            for (place, it) in all.iter().rev().enumerate() {
                let half = if place < split { &mut front } else { &mut back };
                half.conversion(it, Sign::Plus);
                halves[usize::from(place < split)].conversion(it, Sign::Plus);
            }
            let [mut some, others] = halves;
            some.add(&others);
            prop_assert_eq!(in_caps.clone().sorted(), some.clone().sorted());
            all.iter().for_each(|it| some.conversion(it, Sign::Minus));
            prop_assert_eq!(some, CapsRecord::default());
            front.add(&back, Sign::Plus);
            let sorted = one.to_owned().sorted();
            prop_assert_eq!(&sorted, &front.sorted());
            let mut nothing = one;
            nothing.add(&sorted, Sign::Minus);
            prop_assert!(nothing.is_zero(), "{:?}", nothing);
        }
    }
}
