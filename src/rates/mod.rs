// Hot path: the look-ups. No allocation, no locks.
//! Exchange rates by day: the table in force, how it is kept, and the conversions that had to
//! wait for it.

mod file;
mod source;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use arc_swap::ArcSwap;

pub use file::{Days, FileError, parse, read};
pub use source::{LoadError, PutError, RatesSource, Reprice};

use crate::model::currency::Currency;
use crate::model::period::Day;
use crate::model::rate::{Exchange, Rate};

/// Why rates of a day are none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadRates {
    /// The base has a rate of its own.
    #[error("{0} is the base, and worth 1 {0}")]
    Base(Currency),
    /// A currency has two.
    #[error("{0} is named twice")]
    Twice(Currency),
}

/// The rates of one day.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DayRates {
    base: Currency,
    /// By ascending currency; the base is not among them.
    rates: Vec<(Currency, Rate)>,
}

impl DayRates {
    /// What one unit of `base` buys.
    ///
    /// # Errors
    /// If the base is given a rate other than one, or a currency two.
    pub fn new(
        base: Currency,
        rates: impl IntoIterator<Item = (Currency, Rate)>,
    ) -> Result<Self, BadRates> {
        let (mut by_currency, mut twice) = (BTreeMap::new(), None);
        for (currency, rate) in rates {
            if currency == base && rate != Rate::ONE {
                return Err(BadRates::Base(base));
            }
            if by_currency.insert(currency, rate).is_some() {
                twice = Some(currency);
            }
        }
        by_currency.remove(&base);
        match twice {
            None => Ok(Self { base, rates: by_currency.into_iter().collect() }),
            Some(currency) => Err(BadRates::Twice(currency)),
        }
    }

    /// The currency that the rates are of.
    #[must_use]
    pub const fn base(&self) -> Currency {
        self.base
    }

    /// The rates, by ascending currency, without the base.
    #[must_use]
    pub fn rates(&self) -> &[(Currency, Rate)] {
        &self.rates
    }

    fn of(&self, currency: Currency) -> Option<Rate> {
        if currency == self.base {
            return Some(Rate::ONE);
        }
        let place = self.rates.binary_search_by_key(&currency, |(known, _)| *known);
        place.ok().map(|place| self.rates[place].1)
    }
}

/// All rates, by day.
#[derive(Clone, Debug, Default)]
pub struct Rates(HashMap<Day, Arc<DayRates>>);

impl Rates {
    /// The rates of a day.
    #[must_use]
    pub fn of(&self, day: Day) -> Option<&Arc<DayRates>> {
        self.0.get(&day)
    }

    /// How many days there are.
    #[must_use]
    pub fn days(&self) -> usize {
        self.0.len()
    }

    /// Sets the rates of a day.
    pub fn set(&mut self, day: Day, rates: DayRates) {
        self.0.insert(day, Arc::new(rates));
    }
}

/// Where amounts are exchanged, and what the network counts in.
#[derive(Clone)]
pub struct Market {
    /// The rates in force.
    pub rates: Arc<ArcSwap<Rates>>,
    /// The network's currency.
    pub base: Currency,
}

impl Market {
    /// A market without rates.
    #[must_use]
    pub fn closed(base: Currency) -> Self {
        Self { rates: Arc::default(), base }
    }

    /// The way from one currency to another on a day; `None` if one of them has no rate. The
    /// table is not even looked at where both are the same.
    #[must_use]
    pub fn exchange(&self, day: Day, from: Currency, to: Currency) -> Option<Exchange> {
        if from == to {
            return Some(Exchange::NONE);
        }
        let rates = self.rates.load();
        let day = rates.of(day)?;
        Some(Exchange { from: day.of(from)?, to: day.of(to)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn currency(code: &str) -> Currency {
        Currency::parse(code).expect("in the list")
    }

    fn rate(text: &str) -> Rate {
        Rate::parse(text).expect("a rate")
    }

    #[test]
    fn currencies_meet_through_the_days_base_or_not_at_all() {
        let market = Market::closed(Currency::USD);
        let rates = [("EUR", "0.92"), ("JPY", "149.53"), ("USD", "1")];
        let rates = rates.map(|(code, text)| (currency(code), rate(text)));
        let mut table = Rates::default();
        table.set(Day::new(7), DayRates::new(Currency::USD, rates).expect("a base of one"));
        market.rates.store(Arc::new(table));
        let check = |day, from: &str, to: &str, expected: Option<(&str, &str)>| {
            let found = market.exchange(Day::new(day), currency(from), currency(to));
            let expected = expected.map(|(from, to)| Exchange { from: rate(from), to: rate(to) });
            assert_eq!(found, expected, "day {day}, {from} to {to}");
        };
        check(7, "USD", "EUR", Some(("1", "0.92")));
        check(7, "EUR", "USD", Some(("0.92", "1")));
        check(7, "JPY", "EUR", Some(("149.53", "0.92")));
        check(7, "GBP", "EUR", None);
        check(7, "EUR", "GBP", None);
        check(8, "USD", "EUR", None);
        check(8, "GBP", "GBP", Some(("1", "1")));
    }

    #[test]
    fn a_base_is_worth_one_of_itself() {
        let bad = |rates: &[(Currency, Rate)]| DayRates::new(Currency::USD, rates.to_vec());
        let other = [(Currency::USD, rate("1.1"))];
        assert_eq!(bad(&other), Err(BadRates::Base(Currency::USD)));
        let twice = [(currency("EUR"), rate("0.9")), (currency("EUR"), rate("0.9"))];
        assert_eq!(bad(&twice), Err(BadRates::Twice(currency("EUR"))));
        let day = DayRates::new(Currency::USD, [(Currency::USD, rate("1.0"))]).expect("one");
        assert_eq!(day.rates(), []);
    }
}
