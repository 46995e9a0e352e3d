// Hot path of offers with fraud rules: pure. No clock, no randomness, no I/O.
//! What the catalog says of an offer's fraud rules, and what follows from it.

use std::fmt::Write as _;

use crate::model::reasons::{FRAUD, Flag};
use crate::model::rule::Percent;

/// An offer's rules; `None` is off.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fraud {
    /// The least time from click to conversion, milliseconds.
    pub too_fast: Option<u64>,
    /// The most time from click to conversion, milliseconds.
    pub too_slow: Option<u64>,
    /// The range of an affiliate's conversion rate.
    pub conversion_rate: Option<ConversionRate>,
    /// How many clicks one network may make.
    pub click_flood: Option<Flood>,
    /// How many clicks one address may make.
    pub repeated_ip: Option<Flood>,
    /// Whether programs are suspect.
    pub bot_user_agent: bool,
    /// For how long a customer's conversion makes one through another click suspect, milliseconds.
    pub repeated_customer: Option<u64>,
    /// The bits of the rules that do more than flag.
    pub rejects: u32,
}

/// So many clicks are fine; the next one in the same time is not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flood {
    /// Clicks.
    pub clicks: u64,
    /// In so much time, milliseconds.
    pub period_ms: u64,
}

/// The range of an affiliate's conversion rate, conversions for each hundred clicks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConversionRate {
    /// The lowest.
    pub min: Option<Percent>,
    /// The highest.
    pub max: Option<Percent>,
    /// With fewer clicks nothing is judged.
    pub clicks: u64,
    /// Over how much time both are counted, milliseconds.
    pub period_ms: u64,
    /// The events that count and are judged; none stands for all of the offer.
    pub events: Vec<Box<str>>,
}

impl ConversionRate {
    /// Whether an event counts.
    #[must_use]
    pub fn counts(&self, event: &str) -> bool {
        self.events.is_empty() || self.events.iter().any(|counted| **counted == *event)
    }

    /// Whether so many conversions of so many clicks are out of range, both having been counted
    /// for so long. What was counted for less than the whole time lacks conversions, so it can be
    /// too many of them and never too few.
    #[must_use]
    pub fn is_broken_by(&self, conversions: u64, clicks: u64, counted_ms: u64) -> bool {
        if clicks < self.clicks {
            return false;
        }
        let rate = i128::from(conversions) * i128::from(Percent::HUNDRED.get());
        let share = |percent: Percent| i128::from(clicks) * i128::from(percent.get());
        self.max.is_some_and(|max| rate > share(max))
            || counted_ms >= self.period_ms && self.min.is_some_and(|min| rate < share(min))
    }
}

impl Fraud {
    /// Whether no rule is on.
    #[must_use]
    pub fn is_off(&self) -> bool {
        *self == Self { rejects: self.rejects, ..Self::default() }
    }

    /// The bits of the rules that judge clicks and are on.
    #[must_use]
    pub fn of_clicks(&self) -> u32 {
        Flag::ClickFlood.bit_if(self.click_flood.is_some())
            | Flag::RepeatedIp.bit_if(self.repeated_ip.is_some())
            | Flag::BotUserAgent.bit_if(self.bot_user_agent)
    }

    /// Whether clicks have to be looked at.
    #[must_use]
    pub fn watches_clicks(&self) -> bool {
        self.of_clicks() != 0 || self.conversion_rate.is_some()
    }

    /// The bits of the rules that the time from click to conversion breaks. `is_timed`: the sender
    /// says when it happened.
    #[must_use]
    pub fn of_time(&self, click_ms: u64, event_ms: u64, is_timed: bool) -> u32 {
        // Whole seconds were cut off: it may have happened up to the next one.
        let at_most = event_ms + if is_timed && event_ms.is_multiple_of(1000) { 999 } else { 0 };
        // Received before it was clicked: the clock was ahead, and how long it took nobody knows.
        let is_known = is_timed || event_ms >= click_ms;
        let too_fast = self.too_fast.filter(|_| is_known);
        let fast = too_fast.is_some_and(|min| at_most.saturating_sub(click_ms) < min);
        let slow = self.too_slow.is_some_and(|max| event_ms.saturating_sub(click_ms) > max);
        Flag::TooFast.bit_if(fast) | Flag::TooSlow.bit_if(slow)
    }

    /// The bits of a conversion's flags that reject it.
    #[must_use]
    pub const fn rejecting(&self, flags: u32) -> u32 {
        flags & self.rejects
    }

    /// Why a conversion with these flags is rejected, in one word: `fraud:` and the rules; `None`
    /// if none of them rejects.
    #[must_use]
    pub fn reason(&self, flags: u32) -> Option<String> {
        let rejecting = self.rejecting(flags);
        let mut reason = None;
        for rule in Flag::FRAUD_RULES.iter().filter(|rule| rejecting & rule.bit() != 0) {
            match &mut reason {
                None => reason = Some(format!("{FRAUD}:{rule}")),
                // Writing to a text cannot fail.
                Some(reason) => _ = write!(reason, ",{rule}"),
            }
        }
        reason
    }
}

/// The bits of the rules that a history's reason names as having rejected the conversion.
#[must_use]
pub fn rejected_by(reason: &str) -> u32 {
    let rules = reason.strip_prefix(FRAUD).and_then(|rest| rest.strip_prefix(':'));
    let rules = rules.into_iter().flat_map(|rules| rules.split(','));
    let known = rules.filter_map(Flag::parse).filter(|rule| Flag::FRAUD_RULES.contains(rule));
    known.fold(0, |bits, rule| bits | rule.bit())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_time_from_click_to_conversion_has_bounds_that_are_fine_themselves() {
        let fraud = Fraud { too_fast: Some(1000), too_slow: Some(60_000), ..Fraud::default() };
        let check = |event_ms, is_timed, expected: &[Flag]| {
            let bits = expected.iter().fold(0, |bits, rule| bits | rule.bit());
            assert_eq!(fraud.of_time(5_500, event_ms, is_timed), bits, "{event_ms} {is_timed}");
        };
        for is_timed in [false, true] {
            check(5_500, is_timed, &[Flag::TooFast]);
            check(6_499, is_timed, &[Flag::TooFast]);
            check(6_500, is_timed, &[]);
            check(65_500, is_timed, &[]);
            check(65_501, is_timed, &[Flag::TooSlow]);
        }
        // Before the click by the sender's clock; by ours, which was ahead when it was clicked.
        check(4_900, true, &[Flag::TooFast]);
        check(4_900, false, &[]);
        check(5_499, false, &[]);
        // Whole seconds, as most clocks have them.
        check(6_000, true, &[]);
        check(6_000, false, &[Flag::TooFast]);
        check(5_000, true, &[Flag::TooFast]);
        assert_eq!(Fraud::default().of_time(5_500, 5_500, false), 0);
    }

    #[test]
    fn a_rate_is_judged_by_enough_clicks_and_too_low_only_after_the_whole_time() {
        let percent = |text| Percent::parse(text).ok();
        let rate = ConversionRate {
            min: percent("0.5"),
            max: percent("10"),
            clicks: 200,
            period_ms: 1000,
            events: Vec::new(),
        };
        let check = |conversions, clicks, counted_ms, expected| {
            let broken = rate.is_broken_by(conversions, clicks, counted_ms);
            assert_eq!(broken, expected, "{conversions} of {clicks} in {counted_ms}");
        };
        check(199, 199, 5000, false);
        check(20, 200, 0, false);
        check(21, 200, 0, true);
        check(1, 200, 1000, false);
        check(1, 201, 1000, true);
        check(1, 201, 999, false);
        check(0, 10_000, 999, false);
        let open = ConversionRate { min: None, max: None, ..rate };
        assert!(!open.is_broken_by(u64::MAX, u64::MAX, u64::MAX));
    }

    #[test]
    fn a_reason_names_every_rule_that_rejects_and_is_read_back() {
        let mut fraud = Fraud::default();
        let all = Flag::FRAUD_RULES.iter().fold(0, |bits, rule| bits | rule.bit());
        assert_eq!(fraud.reason(all), None);
        fraud.rejects = Flag::RepeatedIp.bit();
        assert_eq!(fraud.reason(Flag::TooFast.bit()), None);
        assert_eq!(fraud.reason(all).as_deref(), Some("fraud:repeated_ip"));
        fraud.rejects |= Flag::TooFast.bit();
        let reason = fraud.reason(all).expect("two reject");
        assert_eq!(reason, "fraud:too_fast,repeated_ip");
        assert_eq!(rejected_by(&reason), Flag::TooFast.bit() | Flag::RepeatedIp.bit());
        fraud.rejects = Flag::TooFast.bit();
        assert_eq!(fraud.reason(all).as_deref(), Some("fraud:too_fast"));
        for other in ["postback", "fraud", "fraud:", "fraud:late", "fraudulent:too_fast", "held"] {
            assert_eq!(rejected_by(other), 0, "{other}");
        }
    }

    proptest! {
        #[test]
        fn what_rejects_is_what_a_reason_says(flags: u32, rejects: u32) {
            let rejects = rejects & Flag::FRAUD_RULES.iter().fold(0, |bits, rule| bits | rule.bit());
            let fraud = Fraud { rejects, ..Fraud::default() };
            let said = fraud.reason(flags).map_or(0, |reason| rejected_by(&reason));
            prop_assert_eq!(said, fraud.rejecting(flags));
        }

        #[test]
        fn a_rate_is_compared_as_a_fraction(
            conversions in 0..100_000_u64,
            clicks in 1..100_000_u64,
            max in 0..200_000_000_i64,
        ) {
            let max = Percent::new(max);
            let rate = ConversionRate {
                min: None, max: Some(max), clicks: 0, period_ms: 1, events: Vec::new(),
            };
            let above = u128::from(conversions) * 100_000_000
                > u128::from(clicks) * u128::from(max.get().unsigned_abs());
            prop_assert_eq!(rate.is_broken_by(conversions, clicks, 0), above);
        }
    }
}
