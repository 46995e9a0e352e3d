//! What the books of a run should hold, and how it is read from the server's answers.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

use crate::catalog::Price;

/// Sums of many sales, in millionths. What is taken back is a posting, too.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sums {
    pub postings: u64,
    pub payout: i128,
    pub revenue: i128,
}

/// What accepted sales have earned, by the affiliate's number.
pub type Earned = BTreeMap<u32, Sums>;

/// How the comparison of money came out.
#[derive(Clone, Debug, Default, Serialize)]
pub struct MoneyVerdict {
    /// Sums over all sales of the run that were not taken back, by the generator's own model.
    pub payout: String,
    pub revenue: String,
    /// Affiliates whose balances were held against the model.
    pub affiliates: u64,
}

impl Sums {
    /// Adds one sale.
    pub fn add(&mut self, price: Price) {
        self.postings += 1;
        self.payout += i128::from(price.payout);
        self.revenue += i128::from(price.revenue);
    }

    /// Takes one back.
    pub fn take_back(&mut self, price: Price) {
        self.postings += 1;
        self.payout -= i128::from(price.payout);
        self.revenue -= i128::from(price.revenue);
    }

    /// Adds other sums.
    pub fn add_all(&mut self, other: &Self) {
        self.postings += other.postings;
        self.payout += other.payout;
        self.revenue += other.revenue;
    }

    /// What came since `before`.
    #[must_use]
    pub const fn since(&self, before: &Self) -> Self {
        Self {
            postings: self.postings.wrapping_sub(before.postings),
            payout: self.payout - before.payout,
            revenue: self.revenue - before.revenue,
        }
    }
}

impl fmt::Display for Sums {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { postings, payout, revenue } = self;
        write!(f, "{postings} postings, payout {}, revenue {}", dollars(*payout), dollars(*revenue))
    }
}

/// Millionths as dollars, all six decimals of them.
pub fn dollars(micros: i128) -> String {
    let (sign, micros) = (if micros < 0 { "-" } else { "" }, micros.unsigned_abs());
    format!("{sign}{}.{:06}", micros / 1_000_000, micros % 1_000_000)
}

/// Reads an amount such as `-12.3456`; `None` if it is none, or has more than six decimals.
pub fn micros(text: &str) -> Option<i128> {
    let (sign, digits) = text.strip_prefix('-').map_or((1, text), |rest| (-1, rest));
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, "0"));
    let all_digits = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    if !all_digits(whole) || !all_digits(fraction) || fraction.len() > 6 {
        return None;
    }
    let (whole, fraction): (i128, i128) =
        (whole.parse().ok()?, format!("{fraction:0<6}").parse().ok()?);
    Some(sign * (whole.checked_mul(1_000_000)? + fraction))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_read_exactly_or_not_at_all() {
        let check = |text, expected| assert_eq!(micros(text), expected, "{text}");
        check("15.00", Some(15_000_000));
        check("-0.000001", Some(-1));
        check("7", Some(7_000_000));
        for wrong in ["", "-", "1.", ".5", "1.0000001", "1,5", "1e3", "--1", "+1"] {
            check(wrong, None);
        }
        assert_eq!((dollars(-1), dollars(15_000_000)), ("-0.000001".into(), "15.000000".into()));
    }
}
