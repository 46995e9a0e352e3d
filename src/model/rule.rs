//! What an event earns: `fixed + percent × amount + per_unit × quantity`, within `min` and `max`.
//!
//! Everything is whole millionths in 128 bits, so the sum is exact but for the share of the
//! amount, which is rounded once, half to even. A result that 64 bits do not hold is none.

use super::money::{DECIMALS_MAX, Micros, MoneyError, rounded_quotient, scaled};

/// Millionths of a percent in the whole.
const WHOLE: i64 = 100 * 1_000_000;
/// Items in a conversion that does not say how many.
const QUANTITY_DEFAULT: u64 = 1;

/// An exact percentage, in millionths of a percent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Percent(i64);

impl Percent {
    /// Nothing.
    pub const ZERO: Self = Self(0);
    /// All of it.
    pub const HUNDRED: Self = Self(WHOLE);

    /// From millionths of a percent.
    #[must_use]
    pub const fn new(millionths: i64) -> Self {
        Self(millionths)
    }

    /// Millionths of a percent.
    #[must_use]
    pub const fn get(self) -> i64 {
        self.0
    }

    /// Reads decimal text such as `"12.5"`, of the same form as [`Micros::parse`].
    ///
    /// # Errors
    /// When the text has another form, too many decimals or too large a value.
    pub fn parse(text: &str) -> Result<Self, MoneyError> {
        scaled(text, DECIMALS_MAX).map(Self)
    }

    /// The share of an amount in micro-units, rounded half to even.
    fn of(self, amount: Micros) -> i128 {
        rounded_quotient(i128::from(amount.get()) * i128::from(self.0), i128::from(WHOLE))
    }
}

/// One formula for flat, share, per-item and hybrid deals; all amounts are of one currency.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rule {
    /// For each conversion.
    pub fixed: Micros,
    /// Of the amount.
    pub percent: Percent,
    /// For each item.
    pub per_unit: Micros,
    /// The least that is earned.
    pub min: Option<Micros>,
    /// The most that is earned; not below `min`.
    pub max: Option<Micros>,
}

impl Rule {
    /// Whether the result depends on the amount.
    #[must_use]
    pub fn needs_amount(&self) -> bool {
        self.percent != Percent::ZERO
    }

    /// What every conversion earns; `None` if it depends on amount or quantity.
    #[must_use]
    pub fn flat(&self) -> Option<Micros> {
        let flat = self.percent == Percent::ZERO && self.per_unit == Micros::ZERO;
        flat.then(|| self.within(self.fixed))
    }

    /// What a conversion of this amount and quantity earns. An amount that is not known counts as
    /// nothing, a quantity that is not known as one. `None` if the result is beyond what
    /// [`Micros`] can hold.
    #[must_use]
    pub fn apply(&self, amount: Option<Micros>, quantity: Option<u64>) -> Option<Micros> {
        if let Some(flat) = self.flat() {
            return Some(flat);
        }
        let quantity = i128::from(quantity.unwrap_or(QUANTITY_DEFAULT));
        let sum = i128::from(self.fixed.get()) + self.percent.of(amount.unwrap_or_default());
        // Saturating is exact here: at the ends of 128 bits it is capped or refused below.
        let sum = sum.saturating_add(i128::from(self.per_unit.get()) * quantity);
        i64::try_from(self.bounded(sum)).ok().map(Micros::new)
    }

    /// A value from elsewhere, kept within `min` and `max`.
    #[must_use]
    pub fn within(&self, value: Micros) -> Micros {
        let at_least = self.min.map_or(value, |min| value.max(min));
        self.max.map_or(at_least, |max| at_least.min(max))
    }

    fn bounded(&self, sum: i128) -> i128 {
        let at_least = self.min.map_or(sum, |min| sum.max(i128::from(min.get())));
        self.max.map_or(at_least, |max| at_least.min(i128::from(max.get())))
    }

    /// Whether it never earns less than another rule on the same conversion, amounts being
    /// positive, and earns more on some.
    #[must_use]
    pub fn is_above(&self, other: &Self) -> bool {
        let parts = |rule: &Self| {
            let max = rule.max.map_or(i64::MAX, Micros::get);
            let min = rule.min.map_or(i64::MIN, Micros::get);
            [rule.fixed.get(), rule.percent.0, rule.per_unit.get(), min, max]
        };
        let (ours, theirs) = (parts(self), parts(other));
        ours != theirs && ours.iter().zip(theirs).all(|(ours, theirs)| *ours >= theirs)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn amount(text: &str) -> Micros {
        Micros::parse(text).expect("an amount")
    }

    /// `"fixed percent per_unit"`, and `min` and `max` if they follow.
    fn rule(text: &str) -> Rule {
        let mut words = text.split(' ');
        let mut next = || words.next().filter(|word| *word != "-");
        Rule {
            fixed: amount(next().expect("fixed")),
            percent: Percent::parse(next().expect("percent")).expect("a percentage"),
            per_unit: amount(next().expect("per_unit")),
            min: next().map(amount),
            max: next().map(amount),
        }
    }

    #[test]
    fn one_formula_covers_every_deal() {
        let check =
            |of: &str, spent: Option<&str>, quantity: Option<u64>, expected: Option<&str>| {
                let earned = rule(of).apply(spent.map(amount), quantity);
                assert_eq!(earned, expected.map(amount), "{of} of {spent:?} × {quantity:?}");
            };
        check("15 0 0", None, None, Some("15"));
        check("15 0 0", Some("99.90"), Some(7), Some("15"));
        check("0 12.5 0", Some("200"), None, Some("25"));
        check("0 12.5 0", None, None, Some("0"));
        check("0 12.5 0", Some("-200"), None, Some("-25"));
        check("0 0 0.30", None, Some(10), Some("3"));
        check("0 0 0.30", None, None, Some("0.30"));
        check("0 0 0.30", None, Some(0), Some("0"));
        check("1 2 0.5", Some("50"), Some(4), Some("4"));
        check("0 10 0 2 30", Some("5"), None, Some("2"));
        check("0 10 0 2 30", Some("100"), None, Some("10"));
        check("0 10 0 2 30", Some("1000"), None, Some("30"));
        check("0 10 0 0", Some("-5"), None, Some("0"));
        check("0 10 0 - 30", None, None, Some("0"));
        check("0 0 9000000000000", None, Some(2), None);
        check("0 0 9000000000000 - 50", None, Some(u64::MAX), Some("50"));
        let most = "0 9223372036854.775807 9223372036854.775807 - 50";
        check(most, Some("9223372036854.775807"), Some(u64::MAX), Some("50"));
        check("9000000000000 9000000000000 0", Some("9000000000000"), None, None);
        check("0 9000000000000 0", Some("-9000000000000"), None, None);
    }

    #[test]
    fn a_share_is_rounded_once_to_the_nearest_and_a_half_to_even() {
        let check = |percent: &str, micros: i64, expected: i128| {
            let percent = Percent::parse(percent).expect("a percentage");
            assert_eq!(percent.of(Micros::new(micros)), expected, "{percent:?} of {micros}");
        };
        check("50", 1, 0);
        check("50", 3, 2);
        check("50", 5, 2);
        check("50", -1, 0);
        check("50", -3, -2);
        check("50", -5, -2);
        check("50.000001", 1, 1);
        check("49.999999", 1, 0);
        check("33.333333", 3, 1);
        check("0.000001", 49_999_999, 0);
        check("0.000001", 50_000_000, 0);
        check("0.000001", 50_000_001, 1);
        check("100", i64::MAX, i128::from(i64::MAX));
        check("100", i64::MIN, i128::from(i64::MIN));
    }

    #[test]
    fn a_rule_is_above_another_only_where_it_is_so_in_every_part() {
        let check = |one: &str, other: &str, expected: bool| {
            assert_eq!(rule(one).is_above(&rule(other)), expected, "{one} above {other}");
        };
        check("2 0 0", "1 0 0", true);
        check("1 0 0", "1 0 0", false);
        check("0 10 0", "0 8 0", true);
        check("1 10 0", "0 12 0", false);
        check("0 10 0 - 50", "0 8 0", false);
        check("0 10 0 5", "0 8 0", true);
    }

    fn rules() -> impl Strategy<Value = Rule> {
        let parts = (any::<i64>(), any::<i64>(), any::<i64>());
        let small = (-10_000_000_i64..10_000_000, 0..300_000_000_i64, -1_000_000..1_000_000_i64);
        let bounds = any::<(Option<i64>, Option<i64>)>();
        (prop_oneof![parts, small], bounds).prop_map(
            |((fixed, percent, per_unit), (one, other))| {
                let (min, max) = match (one, other) {
                    (Some(one), Some(other)) => (Some(one.min(other)), Some(one.max(other))),
                    bounds => bounds,
                };
                Rule {
                    fixed: Micros::new(fixed),
                    percent: Percent(percent),
                    per_unit: Micros::new(per_unit),
                    min: min.map(Micros::new),
                    max: max.map(Micros::new),
                }
            },
        )
    }

    /// Any number, and numbers whose products often lie exactly between two millionths.
    fn with_halves() -> impl Strategy<Value = i64> {
        let quarters = (-9..9_i64).prop_map(|n| n * 25_000_000);
        prop_oneof![any::<i64>(), quarters, -9..9_i64]
    }

    fn unbounded(rule: Rule) -> Rule {
        Rule { min: None, max: None, ..rule }
    }

    /// An integer of any size in digits of 10^8, lowest first, and its sign: long addition and
    /// multiplication as on paper, which can neither overflow nor round.
    #[derive(Clone)]
    struct Paper {
        negative: bool,
        digits: Vec<u64>,
    }

    const BASE: u64 = 100_000_000;

    impl Paper {
        fn of(value: i128) -> Self {
            let (mut rest, mut digits) = (value.unsigned_abs(), Vec::new());
            while rest > 0 {
                digits.push((rest % u128::from(BASE)) as u64);
                rest /= u128::from(BASE);
            }
            Self { negative: value < 0, digits }
        }

        fn times(&self, other: &Self) -> Self {
            let mut digits = vec![0; self.digits.len() + other.digits.len() + 1];
            for (i, a) in self.digits.iter().enumerate() {
                for (j, b) in other.digits.iter().enumerate() {
                    let mut carry = a * b;
                    let mut place = i + j;
                    while carry > 0 {
                        carry += digits[place];
                        digits[place] = carry % BASE;
                        carry /= BASE;
                        place += 1;
                    }
                }
            }
            Self { negative: self.negative != other.negative, digits }
        }

        /// Its hundred-millionth, rounded half to even: the lowest digit decides.
        fn hundred_millionth(&self) -> i128 {
            let rest = self.digits.first().copied().unwrap_or(0);
            let whole = self.digits.iter().skip(1).rev();
            let whole =
                whole.fold(0_i128, |sum, digit| sum * i128::from(BASE) + i128::from(*digit));
            let up = rest > BASE / 2 || (rest == BASE / 2 && whole % 2 == 1);
            let magnitude = whole + i128::from(up);
            if self.negative { -magnitude } else { magnitude }
        }
    }

    proptest! {
        #[test]
        fn a_share_equals_long_multiplication_on_paper(percent in with_halves(), micros in with_halves()) {
            let product = Paper::of(percent.into()).times(&Paper::of(micros.into()));
            prop_assert_eq!(Percent(percent).of(Micros::new(micros)), product.hundred_millionth());
        }

        #[test]
        fn a_quotient_is_off_by_no_more_than_half_and_even_at_a_half(
            (dividend, divisor) in prop_oneof![(any::<i64>(), 1..i64::MAX), (-99..99_i64, 1..9_i64)],
        ) {
            let (dividend, divisor) = (i128::from(dividend), i128::from(divisor));
            let quotient = rounded_quotient(dividend, divisor);
            let off = (quotient * divisor - dividend).abs() * 2;
            prop_assert!(off <= divisor);
            prop_assert!(off < divisor || quotient % 2 == 0);
        }

        #[test]
        fn the_result_is_the_sum_of_the_parts_each_alone(rule in rules(), micros: i64, quantity: u64) {
            let rule = unbounded(rule);
            let (spent, items) = (Some(Micros::new(micros)), Some(quantity));
            let alone = |part: Rule| part.apply(spent, items).map(|earned| i128::from(earned.get()));
            let parts = [
                alone(Rule { fixed: rule.fixed, ..Rule::default() }),
                alone(Rule { percent: rule.percent, ..Rule::default() }),
                alone(Rule { per_unit: rule.per_unit, ..Rule::default() }),
            ];
            if let [Some(fixed), Some(share), Some(items)] = parts {
                let expected = i64::try_from(fixed + share + items).ok();
                prop_assert_eq!(rule.apply(spent, Some(quantity)).map(Micros::get), expected);
            }
        }

        #[test]
        fn more_spent_or_more_items_never_earn_less(
            rule in rules(),
            (low, high) in any::<(i64, i64)>(),
            (few, many) in any::<(u64, u64)>(),
        ) {
            prop_assume!(rule.percent >= Percent::ZERO && rule.per_unit >= Micros::ZERO);
            let earned = |micros, quantity| rule.apply(Some(Micros::new(micros)), Some(quantity));
            let less = earned(low.min(high), few.min(many));
            let more = earned(low.max(high), few.max(many));
            if let (Some(less), Some(more)) = (less, more) {
                prop_assert!(less <= more);
            }
        }

        #[test]
        fn nothing_is_below_the_minimum_or_above_the_maximum(rule in rules(), micros: i64, quantity: u64) {
            let within = |earned: Micros| {
                rule.min.is_none_or(|min| earned >= min) && rule.max.is_none_or(|max| earned <= max)
            };
            if let Some(earned) = rule.apply(Some(Micros::new(micros)), Some(quantity)) {
                prop_assert!(within(earned));
                prop_assert_eq!(rule.within(earned), earned);
            }
            prop_assert!(within(rule.within(Micros::new(micros))));
            let free = unbounded(rule).apply(Some(Micros::new(micros)), Some(quantity));
            if let Some(free) = free {
                prop_assert_eq!(rule.apply(Some(Micros::new(micros)), Some(quantity)), Some(rule.within(free)));
            }
        }

        #[test]
        fn payout_and_margin_make_the_revenue(payout in rules(), revenue in rules(), micros: i64, quantity: u64) {
            let earned = |rule: Rule| rule.apply(Some(Micros::new(micros)), Some(quantity));
            if let (Some(payout), Some(revenue)) = (earned(payout), earned(revenue))
                && let Some(margin) = revenue.checked_sub(payout)
            {
                prop_assert_eq!(payout.checked_add(margin), Some(revenue));
            }
        }

        #[test]
        fn two_shares_of_a_whole_lose_and_create_at_most_the_half_that_rounding_may(
            micros: i64,
            first in 0..=100_000_000_i64,
        ) {
            let of = |percent| Percent(percent).of(Micros::new(micros));
            let whole = i128::from(micros);
            prop_assert!((of(first) + of(100_000_000 - first) - whole).abs() <= 1);
            prop_assert_eq!(of(0), 0);
            prop_assert_eq!(of(100_000_000), whole);
        }
    }
}
