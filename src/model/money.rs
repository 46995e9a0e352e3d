//! Money: whole micro-units of a currency, exact or not at all. No floats, no rounding.

use std::fmt;
use std::str::FromStr;

use super::currency::decimals_of;

/// Decimals of a micro-unit.
const DECIMALS: usize = 6;

/// Why a text is not an amount.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AmountError {
    /// Not digits, an optional point and digits.
    #[error("not a decimal number")]
    Malformed,
    /// More than six decimals, be they zeros.
    #[error("more than {DECIMALS} decimals")]
    TooPrecise,
    /// Does not fit 64 bits of micro-units.
    #[error("too large")]
    TooLarge,
}

/// Why a text is not a currency.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an ISO 4217 currency code")]
pub struct CurrencyError;

/// An amount in millionths of a currency's unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Micros(i64);

impl Micros {
    /// Nothing.
    pub const ZERO: Self = Self(0);

    /// That many millionths.
    #[must_use]
    pub const fn new(micros: i64) -> Self {
        Self(micros)
    }

    /// The millionths.
    #[must_use]
    pub const fn get(self) -> i64 {
        self.0
    }

    /// The sum, if it fits.
    #[must_use]
    pub const fn checked_add(self, other: Self) -> Option<Self> {
        match self.0.checked_add(other.0) {
            Some(sum) => Some(Self(sum)),
            None => None,
        }
    }

    /// Decimal text with at least the currency's decimals, and as many more as the amount has.
    #[must_use]
    pub fn to_text(self, currency: Currency) -> String {
        let (sign, micros) = (if self.0 < 0 { "-" } else { "" }, self.0.unsigned_abs());
        let (whole, fraction) = (micros / 1_000_000, micros % 1_000_000);
        let mut digits = format!("{fraction:06}");
        let least = currency.decimals().min(DECIMALS);
        while digits.len() > least && digits.ends_with('0') {
            digits.pop();
        }
        let point = if digits.is_empty() { "" } else { "." };
        format!("{sign}{whole}{point}{digits}")
    }
}

impl FromStr for Micros {
    type Err = AmountError;

    /// Reads `-?[0-9]+(\.[0-9]{1,6})?`; nothing else, not even a plus sign.
    fn from_str(text: &str) -> Result<Self, AmountError> {
        let (negative, digits) = match text.strip_prefix('-') {
            Some(digits) => (true, digits),
            None => (false, text),
        };
        let (whole, fraction) = match digits.split_once('.') {
            Some((_, "")) => return Err(AmountError::Malformed),
            Some(parts) => parts,
            None => (digits, ""),
        };
        let plain = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        if whole.is_empty() || !plain(whole) || !plain(fraction) {
            return Err(AmountError::Malformed);
        }
        if fraction.len() > DECIMALS {
            return Err(AmountError::TooPrecise);
        }
        let zeros = DECIMALS - fraction.len();
        let magnitude = whole
            .bytes()
            .chain(fraction.bytes())
            .chain(std::iter::repeat_n(b'0', zeros))
            .try_fold(0i64, |sum, digit| {
                // Downwards, since the negative range is the larger one.
                sum.checked_mul(10)?.checked_sub(i64::from(digit - b'0'))
            })
            .ok_or(AmountError::TooLarge)?;
        if negative {
            return Ok(Self(magnitude));
        }
        magnitude.checked_neg().map(Self).ok_or(AmountError::TooLarge)
    }
}

/// An active ISO 4217 currency.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Currency([u8; 3]);

impl Currency {
    /// US dollar.
    pub const USD: Self = Self(*b"USD");

    /// Wraps what the store kept; it was checked when it came in.
    #[must_use]
    pub const fn from_bytes(code: [u8; 3]) -> Self {
        Self(code)
    }

    /// The three letters.
    #[must_use]
    pub const fn to_bytes(self) -> [u8; 3] {
        self.0
    }

    /// How many decimals its smallest unit has.
    #[must_use]
    pub fn decimals(self) -> usize {
        decimals_of(self.0).unwrap_or(2)
    }
}

impl FromStr for Currency {
    type Err = CurrencyError;

    /// Reads a three-letter code in either case.
    fn from_str(text: &str) -> Result<Self, CurrencyError> {
        let mut code: [u8; 3] = text.as_bytes().try_into().map_err(|_| CurrencyError)?;
        code.make_ascii_uppercase();
        decimals_of(code).map(|_| Self(code)).ok_or(CurrencyError)
    }
}

impl fmt::Display for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(std::str::from_utf8(&self.0).unwrap_or("???"))
    }
}

impl fmt::Debug for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn amounts_are_exact_or_refused() {
        let check = |text: &str, expected: Result<i64, AmountError>| {
            assert_eq!(text.parse::<Micros>().map(Micros::get), expected, "{text:?}");
        };
        check("15", Ok(15_000_000));
        check("15.00", Ok(15_000_000));
        check("-3.5", Ok(-3_500_000));
        check("0.000001", Ok(1));
        check("9223372036854.775807", Ok(i64::MAX));
        check("-9223372036854.775808", Ok(i64::MIN));
        check("9223372036854.775808", Err(AmountError::TooLarge));
        check("99999999999999999999999", Err(AmountError::TooLarge));
        check("0.0000001", Err(AmountError::TooPrecise));
        check("1.0000000", Err(AmountError::TooPrecise));
        for wrong in [
            "", "-", ".", ".5", "5.", "+5", "1e3", "1,000", " 1", "1 ", "--1", "1.2.3", "0x1",
            "NaN", "١",
        ] {
            check(wrong, Err(AmountError::Malformed));
        }
    }

    #[test]
    fn text_has_the_currencys_decimals_and_never_loses_one() {
        let check = |micros, code: &str, expected| {
            let currency = code.parse().expect("a currency");
            assert_eq!(Micros::new(micros).to_text(currency), expected);
        };
        check(15_000_000, "USD", "15.00");
        check(15_000_000, "JPY", "15");
        check(15_500_000, "JPY", "15.5");
        check(1, "USD", "0.000001");
        check(-2_500_000, "KWD", "-2.500");
        check(i64::MIN, "USD", "-9223372036854.775808");
    }

    #[test]
    fn currencies_are_the_active_iso_codes() {
        assert_eq!("usd".parse::<Currency>().map(|c| c.to_string()), Ok("USD".to_owned()));
        for wrong in ["", "US", "USDT", "XYZ", "DEM", "€€"] {
            assert_eq!(wrong.parse::<Currency>(), Err(CurrencyError), "{wrong:?}");
        }
    }

    proptest! {
        #[test]
        fn text_and_amount_are_one(micros: i64, jpy: bool) {
            let currency = if jpy { Currency(*b"JPY") } else { Currency::USD };
            let amount = Micros::new(micros);
            prop_assert_eq!(amount.to_text(currency).parse::<Micros>(), Ok(amount));
        }

        #[test]
        fn parsing_agrees_with_wide_integers(whole in 0u64.., fraction in "[0-9]{1,6}") {
            let text = format!("{whole}.{fraction}");
            let wide = i128::from(whole) * 1_000_000
                + format!("{fraction:0<6}").parse::<i128>().expect("digits");
            let expected = i64::try_from(wide).map_err(|_| AmountError::TooLarge);
            prop_assert_eq!(text.parse::<Micros>().map(Micros::get), expected);
        }

        #[test]
        fn no_text_panics(text: String) {
            let _ = text.parse::<Micros>();
            let _ = text.parse::<Currency>();
        }
    }
}
