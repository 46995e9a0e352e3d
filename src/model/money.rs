//! Money: exact amounts in millionths. No floating point, no silent overflow, and one function
//! that rounds.

use std::fmt;

use super::currency::Currency;

/// Digits after the point that an amount can have.
pub(super) const DECIMALS_MAX: usize = 6;
/// Micro-units in one unit of a currency.
const MICROS_PER_UNIT: u128 = 1_000_000;

/// An amount in millionths of a currency's unit; the currency is kept beside it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Micros(i64);

/// A sum of amounts of one currency, in millionths. It has room for more amounts than a store has
/// records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sum(i128);

impl Sum {
    /// From millionths, as stored.
    #[must_use]
    pub const fn new(micros: i128) -> Self {
        Self(micros)
    }

    /// Adds an amount.
    pub fn add(&mut self, amount: Micros) {
        self.0 += i128::from(amount.0);
    }

    /// Takes an amount away.
    pub fn subtract(&mut self, amount: Micros) {
        self.0 -= i128::from(amount.0);
    }

    /// What is left of it without another.
    #[must_use]
    pub const fn less(self, other: Self) -> Self {
        Self(self.0 - other.0)
    }

    /// What each of so many has of it; `None` of none.
    #[must_use]
    pub fn per(self, number: i64) -> Option<Self> {
        (number > 0).then(|| Self(rounded_quotient(self.0, i128::from(number))))
    }

    /// A plain number, in millionths, without decimals that say nothing.
    #[must_use]
    pub fn plain(self) -> impl fmt::Display {
        Decimal { micros: self.0, decimals_min: 0 }
    }

    /// As [`Micros::display`].
    #[must_use]
    pub fn display(self, currency: Currency) -> impl fmt::Display {
        Decimal { micros: self.0, decimals_min: currency.decimals() }
    }
}

/// Why a text is no amount.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MoneyError {
    /// Anything but digits, one point between digits, and a minus in front.
    #[error("not a decimal amount such as \"15.00\"")]
    Malformed,
    /// Of a rate: nothing, or less.
    #[error("not above zero")]
    NotAboveZero,
    /// More digits after the point than are kept, zeros included: it is refused, never rounded.
    #[error("more than {0} decimals")]
    TooManyDecimals(usize),
    /// More than 64 bits hold; of amounts, beyond ±9,223,372,036,854.775807.
    #[error("too large")]
    TooLarge,
}

impl Micros {
    /// Nothing.
    pub const ZERO: Self = Self(0);

    /// From millionths, as stored.
    #[must_use]
    pub const fn new(micros: i64) -> Self {
        Self(micros)
    }

    /// Millionths, as stored.
    #[must_use]
    pub const fn get(self) -> i64 {
        self.0
    }

    /// Reads decimal text: `-`, digits, and up to six decimals after a point. No `+`, exponent,
    /// separators of thousands or white space.
    ///
    /// # Errors
    /// When the text has another form, too many decimals or too large a value.
    pub fn parse(text: &str) -> Result<Self, MoneyError> {
        scaled(text, DECIMALS_MAX).map(Self)
    }

    /// The sum, if it fits.
    #[must_use]
    pub fn checked_add(self, other: Self) -> Option<Self> {
        self.0.checked_add(other.0).map(Self)
    }

    /// The difference, if it fits.
    #[must_use]
    pub fn checked_sub(self, other: Self) -> Option<Self> {
        self.0.checked_sub(other.0).map(Self)
    }

    /// The opposite, if it fits.
    #[must_use]
    pub fn checked_neg(self) -> Option<Self> {
        self.0.checked_neg().map(Self)
    }

    /// What is left of it when `part` of a `whole` has been taken back: less the same share of it,
    /// rounded once; nothing when all has.
    #[must_use]
    pub fn less_share(self, part: Self, whole: Self) -> Self {
        if part.0 <= 0 {
            return self;
        }
        if part.0 >= whole.0 {
            return Self::ZERO;
        }
        let product = i128::from(self.0) * i128::from(part.0);
        let taken = rounded_quotient(product, i128::from(whole.0));
        // No share is larger than what it is of, so this is between the two.
        let left = i64::try_from(i128::from(self.0) - taken);
        Self(left.expect("between nothing and all of it"))
    }

    /// As text with the currency's number of decimals, or with more where the value needs them.
    #[must_use]
    pub fn display(self, currency: Currency) -> impl fmt::Display {
        Decimal { micros: self.0.into(), decimals_min: currency.decimals() }
    }
}

/// Reads decimal text as a whole number of its last of `decimals_max` decimals; the grammar is
/// that of [`Micros::parse`].
pub(super) fn scaled(text: &str, decimals_max: usize) -> Result<i64, MoneyError> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text),
    };
    let (units, decimals) = match digits.split_once('.') {
        Some((units, decimals)) if is_digits(decimals) => (units, decimals),
        Some(_) => return Err(MoneyError::Malformed),
        None => (digits, ""),
    };
    if !is_digits(units) {
        return Err(MoneyError::Malformed);
    }
    if decimals.len() > decimals_max {
        return Err(MoneyError::TooManyDecimals(decimals_max));
    }
    let zeros = std::iter::repeat_n(b'0', decimals_max - decimals.len());
    let magnitude = units
        .bytes()
        .chain(decimals.bytes())
        .chain(zeros)
        .try_fold(0_u64, |sum, digit| sum.checked_mul(10)?.checked_add(u64::from(digit - b'0')))
        .ok_or(MoneyError::TooLarge)?;
    signed(negative, magnitude).ok_or(MoneyError::TooLarge)
}

/// The quotient rounded to the nearest whole number, and to the even one of two that are equally
/// near. The only place where money is rounded.
pub(super) const fn rounded_quotient(dividend: i128, divisor: i128) -> i128 {
    let (below, rest) = (dividend.div_euclid(divisor), dividend.rem_euclid(divisor));
    // What is left to the next whole number, so that nothing has to be doubled.
    let short = divisor - rest;
    if rest > short || (rest == short && below & 1 == 1) { below + 1 } else { below }
}

fn is_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

fn signed(negative: bool, magnitude: u64) -> Option<i64> {
    if negative { 0_i64.checked_sub_unsigned(magnitude) } else { i64::try_from(magnitude).ok() }
}

struct Decimal {
    micros: i128,
    decimals_min: usize,
}

impl fmt::Display for Decimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let magnitude = self.micros.unsigned_abs();
        let (units, fraction) = (magnitude / MICROS_PER_UNIT, magnitude % MICROS_PER_UNIT);
        let sign = if self.micros < 0 { "-" } else { "" };
        let (mut shown, mut decimals) = (fraction, DECIMALS_MAX);
        while decimals > self.decimals_min && shown.is_multiple_of(10) {
            shown /= 10;
            decimals -= 1;
        }
        if decimals == 0 {
            write!(f, "{sign}{units}")
        } else {
            write!(f, "{sign}{units}.{shown:0decimals$}")
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn currency(code: &str) -> Currency {
        Currency::parse(code).expect("in the list")
    }

    /// The same grammar in arithmetic that cannot overflow.
    fn reference(text: &str) -> Option<i128> {
        let digits = text.strip_prefix('-').unwrap_or(text);
        let (units, decimals) = digits.split_once('.').unwrap_or((digits, "0"));
        let plain = |part: &str| !part.is_empty() && part.chars().all(|c| c.is_ascii_digit());
        if !plain(units) || !plain(decimals) || decimals.len() > 6 {
            return None;
        }
        let magnitude: i128 = format!("{units}{decimals:0<6}").parse().ok()?;
        Some(if text.starts_with('-') { -magnitude } else { magnitude })
    }

    #[test]
    fn amounts_are_read_exactly_or_refused() {
        let check = |text: &str, expected: Result<i64, MoneyError>| {
            assert_eq!(Micros::parse(text).map(Micros::get), expected, "{text:?}");
        };
        check("15", Ok(15_000_000));
        check("15.00", Ok(15_000_000));
        check("-3.5", Ok(-3_500_000));
        check("0.000001", Ok(1));
        check("-0", Ok(0));
        check("007", Ok(7_000_000));
        check("9223372036854.775807", Ok(i64::MAX));
        check("-9223372036854.775808", Ok(i64::MIN));
        check("9223372036854.775808", Err(MoneyError::TooLarge));
        check("-9223372036854.775809", Err(MoneyError::TooLarge));
        check("99999999999999999999999", Err(MoneyError::TooLarge));
        check("1.0000001", Err(MoneyError::TooManyDecimals(6)));
        check("1.0000000", Err(MoneyError::TooManyDecimals(6)));
        for text in [
            "", "-", ".", ".5", "5.", "--5", "+5", "1e3", "1,000", "1_0", " 1", "1 ", "1.2.3",
            "1.-2", "٣", "NaN",
        ] {
            check(text, Err(MoneyError::Malformed));
        }
    }

    #[test]
    fn amounts_show_the_currencys_decimals_or_more_never_fewer() {
        let check = |micros, code, expected: &str| {
            let shown = Micros::new(micros).display(currency(code)).to_string();
            assert_eq!(shown, expected);
        };
        check(15_000_000, "USD", "15.00");
        check(15_000_000, "JPY", "15");
        check(15_000_000, "KWD", "15.000");
        check(15_005_000, "USD", "15.005");
        check(500_000, "JPY", "0.5");
        check(-1, "USD", "-0.000001");
        check(0, "USD", "0.00");
        check(i64::MIN, "USD", "-9223372036854.775808");
    }

    #[test]
    fn a_sum_holds_more_than_an_amount() {
        let (mut sum, mut other) = (Sum::default(), Sum::default());
        for _ in 0..3 {
            sum.add(Micros::new(i64::MAX));
        }
        other.add(Micros::new(1));
        assert_eq!(sum.display(currency("USD")).to_string(), "27670116110564.327421");
        assert_eq!(sum.less(other).display(currency("USD")).to_string(), "27670116110564.32742");
        assert_eq!(other.less(sum).display(currency("JPY")).to_string(), "-27670116110564.32742");
    }

    #[test]
    fn sums_that_do_not_fit_are_refused() {
        let (most, least, one) = (Micros::new(i64::MAX), Micros::new(i64::MIN), Micros::new(1));
        assert_eq!(most.checked_add(one), None);
        assert_eq!(least.checked_sub(one), None);
        assert_eq!(least.checked_neg(), None);
        assert_eq!(one.checked_add(one), Some(Micros::new(2)));
        assert_eq!(one.checked_sub(one), Some(Micros::ZERO));
        assert_eq!(one.checked_neg(), Some(Micros::new(-1)));
    }

    #[test]
    fn what_is_left_is_rounded_once_and_the_last_part_takes_the_rest() {
        let check = |amount, part, whole, expected| {
            let left = Micros::new(amount).less_share(Micros::new(part), Micros::new(whole));
            assert_eq!(left.get(), expected, "{amount} less {part} of {whole}");
        };
        check(20, 25, 100, 15);
        check(10, 1, 3, 7);
        check(5, 1, 2, 3);
        check(7, 1, 2, 3);
        check(10, 3, 3, 0);
        check(10, 4, 3, 0);
        check(10, 0, 3, 10);
        check(-10, 1, 2, -5);
        check(10, 1, 0, 0);
    }

    proptest! {
        #[test]
        fn less_is_left_the_more_is_taken_and_never_less_than_nothing(
            amount: i64,
            (whole, more) in (1..=i64::MAX).prop_flat_map(|whole| (Just(whole), 0..=whole)),
            less in 0..=i64::MAX,
        ) {
            let left = |part| Micros::new(amount).less_share(Micros::new(part), Micros::new(whole));
            let less = less % (more + 1);
            prop_assert!(left(more).get().unsigned_abs() <= left(less).get().unsigned_abs());
            prop_assert!(left(more).get() == 0 || (left(more).get() < 0) == (amount < 0));
        }

        #[test]
        fn what_is_shown_is_read_back(micros: i64, code in prop::sample::select(vec!["USD", "JPY", "KWD", "CLF"])) {
            let shown = Micros::new(micros).display(currency(code)).to_string();
            prop_assert_eq!(Micros::parse(&shown), Ok(Micros::new(micros)));
        }

        #[test]
        fn no_text_panics(text: String) {
            let _ = Micros::parse(&text);
        }

        #[test]
        fn the_reference_agrees(text in "-?[0-9]{0,16}(\\.[0-9]{0,8})?") {
            let expected = reference(&text).and_then(|micros| i64::try_from(micros).ok());
            prop_assert_eq!(Micros::parse(&text).ok().map(Micros::get), expected);
        }
    }
}
