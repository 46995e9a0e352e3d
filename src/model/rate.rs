//! Exchange rates: exact decimals, of one day.

use std::fmt;

use super::money::{Micros, MoneyError, rounded_quotient, scaled};

/// Digits after the point that a rate can have.
const DECIMALS_MAX: usize = 9;

/// How much of a currency one unit of the day's base buys, in billionths. Never zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Rate(u64);

impl Rate {
    /// Of the base itself.
    pub const ONE: Self = Self(1_000_000_000);

    /// From billionths, as stored; `None` for zero.
    #[must_use]
    pub const fn new(billionths: u64) -> Option<Self> {
        if billionths == 0 { None } else { Some(Self(billionths)) }
    }

    /// Billionths, as stored.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }

    /// Reads decimal text such as `"149.53"`, with at most 9 decimals; above zero.
    ///
    /// # Errors
    /// When the text has another form, too many decimals, or too large or too small a value.
    pub fn parse(text: &str) -> Result<Self, MoneyError> {
        let billionths = scaled(text, DECIMALS_MAX)?;
        u64::try_from(billionths).ok().and_then(Self::new).ok_or(MoneyError::NotAboveZero)
    }
}

impl fmt::Display for Rate {
    /// As few decimals as the value needs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (units, fraction) = (self.0 / Self::ONE.0, self.0 % Self::ONE.0);
        let decimals = format!("{fraction:0DECIMALS_MAX$}");
        match decimals.trim_end_matches('0') {
            "" => write!(f, "{units}"),
            decimals => write!(f, "{units}.{decimals}"),
        }
    }
}

/// A way from one currency to another: the rates of both, of one day and base.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exchange {
    /// Of the currency that is given.
    pub from: Rate,
    /// Of the currency that is wanted.
    pub to: Rate,
}

impl Exchange {
    /// Between a currency and itself.
    pub const NONE: Self = Self { from: Rate::ONE, to: Rate::ONE };

    /// The amount in the wanted currency, rounded once, half to even; `None` if it does not fit.
    #[must_use]
    pub fn apply(self, amount: Micros) -> Option<Micros> {
        // 63 bits times 64 bits fit into 127.
        let product = i128::from(amount.get()) * i128::from(self.to.0);
        i64::try_from(rounded_quotient(product, i128::from(self.from.0))).ok().map(Micros::new)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn rate(text: &str) -> Rate {
        Rate::parse(text).expect("a rate")
    }

    fn amount(text: &str) -> Micros {
        Micros::parse(text).expect("an amount")
    }

    #[test]
    fn rates_are_exact_decimals_above_zero() {
        let check = |text: &str, expected: Option<&str>| {
            let shown = Rate::parse(text).ok().map(|rate| rate.to_string());
            assert_eq!(shown.as_deref(), expected, "{text}");
        };
        check("1", Some("1"));
        check("0.920000001", Some("0.920000001"));
        check("149.530", Some("149.53"));
        check("9223372036.854775807", Some("9223372036.854775807"));
        for text in ["0", "0.000", "-1", "1,5", "1e3", "", "0.0000000001", "9223372036.854775808"] {
            check(text, None);
        }
    }

    #[test]
    fn amounts_are_exchanged_through_the_base() {
        let check = |given: &str, from: &str, to: &str, expected: Option<&str>| {
            let exchange = Exchange { from: rate(from), to: rate(to) };
            assert_eq!(exchange.apply(amount(given)), expected.map(amount), "{given} {from} {to}");
        };
        check("100", "1", "0.92", Some("92"));
        check("92", "0.92", "1", Some("100"));
        check("14953", "149.53", "0.92", Some("92"));
        check("-100", "1", "0.92", Some("-92"));
        check("1", "3", "1", Some("0.333333"));
        check("0.000001", "2", "1", Some("0"));
        check("0.000003", "2", "1", Some("0.000002"));
        check("9223372036854.775807", "1", "1", Some("9223372036854.775807"));
        check("9223372036854.775807", "1", "2", None);
    }

    proptest! {
        #[test]
        fn there_and_back_is_off_by_no_more_than_rounding(
            micros in -1_000_000_000_000..1_000_000_000_000_i64,
            one in 1..1_000_000_000_000_u64,
            other in 1..1_000_000_000_000_u64,
        ) {
            let (from, to) = (Rate(one), Rate(other));
            if let Some(there) = (Exchange { from, to }).apply(Micros::new(micros)) {
                let back = Exchange { from: to, to: from }.apply(there).expect("as large as before");
                // Half a millionth there is worth `from/to` halves here, and there is one more.
                let off = i128::from(micros - back.get()).abs() * 2 * i128::from(other);
                prop_assert!(off <= i128::from(one) + i128::from(other));
            }
        }

        #[test]
        fn no_rate_leaves_the_sign_or_order_of_amounts(low: i64, high: i64, one in 1..u64::MAX, other in 1..u64::MAX) {
            let exchange = Exchange { from: Rate(one), to: Rate(other) };
            let (low, high) = (low.min(high), low.max(high));
            if let (Some(less), Some(more)) = (exchange.apply(Micros::new(low)), exchange.apply(Micros::new(high))) {
                prop_assert!(less <= more);
            }
            prop_assert_eq!(exchange.apply(Micros::ZERO), Some(Micros::ZERO));
            prop_assert_eq!(Exchange::NONE.apply(Micros::new(low)), Some(Micros::new(low)));
        }
    }
}
