//! What a conversion has earned, in its own currency and in the network's.

use serde::{Deserialize, Serialize};

use super::ConversionRecord;
use crate::model::currency::Currency;
use crate::model::money::Micros;
use crate::model::rate::{Exchange, Rate};
use crate::model::reasons::Flag;

/// What a conversion has earned, micro-units of its currency.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Earned {
    /// By the network.
    pub revenue: i64,
    /// By the affiliate.
    pub payout: i64,
    /// The same in the network's currency; `None` if that is the conversion's own, or if there was
    /// no rate.
    pub base: Option<EarnedInBase>,
}

impl Earned {
    /// Amounts of a conversion, and what they are in the network's currency by its pinned rate.
    #[must_use]
    pub fn new(revenue: i64, payout: i64, exchanged: Option<&Exchanged>) -> Self {
        let base = exchanged.and_then(|exchanged| exchanged.base);
        Self { revenue, payout, base: base.and_then(|base| base.of(revenue, payout)) }
    }

    /// Nothing, in the same currencies.
    #[must_use]
    pub(super) fn void(self) -> Self {
        let base = self.base.map(|base| EarnedInBase { revenue: 0, payout: 0, ..base });
        Self { base, ..Self::default() }
    }
}

/// What a conversion has earned, in the network's currency.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EarnedInBase {
    /// The network's currency.
    pub currency: [u8; 3],
    /// Micro-units.
    pub revenue: i64,
    /// Micro-units.
    pub payout: i64,
}

/// A rate by which an amount was exchanged: times the second, by the first.
pub type PinnedRate = (u64, u64);

/// What a price took from the postback's own amounts and from other currencies, with the rates
/// pinned.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exchanged {
    /// The postback's amounts, from `amount_currency` to `currency`; `None` if there was no need
    /// or no rate.
    pub amounts: Option<PinnedRate>,
    /// The postback's own payout where it counts, in the currency of the amount: micro-units of
    /// `amount_currency`, or else of `currency`. Earlier builds kept it only where that is not
    /// `currency`.
    pub own_payout: Option<i64>,
    /// The same of its own revenue.
    pub own_revenue: Option<i64>,
    /// Revenue and payout in the network's currency; `None` if it is `currency` or has no rate.
    pub base: Option<InBase>,
}

impl Exchanged {
    /// As a record keeps it: `None` if there is nothing to keep.
    #[must_use]
    pub fn boxed(self) -> Option<Box<Self>> {
        (self != Self::default()).then(|| Box::new(self))
    }
}

/// What was earned by the price, in the network's currency.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InBase {
    /// The network's currency.
    pub currency: [u8; 3],
    /// From the conversion's `currency` to it.
    pub rate: PinnedRate,
    /// Micro-units.
    pub revenue: i64,
    /// Micro-units.
    pub payout: i64,
}

impl InBase {
    /// Amounts of the conversion's currency in the network's, by the pinned rate, each rounded
    /// once; `None` if that is more than a conversion can earn.
    ///
    /// What is left after a part was taken back is always exchanged as a whole: so no rounding adds
    /// up, and nothing is worth exactly nothing.
    #[must_use]
    pub fn of(&self, revenue: i64, payout: i64) -> Option<EarnedInBase> {
        let exchange = Exchange { from: Rate::new(self.rate.0)?, to: Rate::new(self.rate.1)? };
        let apply = |micros| exchange.apply(Micros::new(micros)).map(Micros::get);
        let currency = self.currency;
        Some(EarnedInBase { currency, revenue: apply(revenue)?, payout: apply(payout)? })
    }
}

impl ConversionRecord<'_> {
    /// The currency of its amount, and of an own payout and revenue.
    #[must_use]
    pub fn currency_of_amounts(&self) -> Option<Currency> {
        Currency::from_bytes(self.amount_currency.unwrap_or(self.currency))
    }

    /// Whether the affiliate earns nothing by it, whatever the terms.
    #[must_use]
    pub const fn is_unpaid(&self) -> bool {
        self.flags & (Flag::OverCap.bit() | Flag::Late.bit()) != 0
    }

    /// Whether anything of it was ever in the books: its currency must stay then.
    #[must_use]
    pub fn was_booked(&self) -> bool {
        self.history.iter().any(|step| (step.booked_revenue, step.booked_payout) != (0, 0))
    }

    /// Whether an exchange rate was missing: for its price, or for its worth to the network.
    #[must_use]
    pub const fn waits_for_rate(&self) -> bool {
        self.flags & (Flag::RateMissing.bit() | Flag::BaseRateMissing.bit()) != 0
    }

    /// Revenue and payout by its price, less the share of them that has been taken back.
    #[must_use]
    pub fn earned(&self) -> Earned {
        let (revenue, payout) = (self.left_of(self.revenue), self.left_of(self.payout));
        Earned::new(revenue, payout, self.exchanged.as_deref())
    }

    /// What is left of one of its amounts after what has been taken back.
    fn left_of(&self, micros: i64) -> i64 {
        let whole = Micros::new(self.amount.unwrap_or_default());
        Micros::new(micros).less_share(Micros::new(self.reversed_amount), whole).get()
    }

    /// Revenue and payout in a currency, micro-units, as the ledger counts them: their own, or the
    /// network's; `None` if what is known of them is not known in it.
    #[must_use]
    pub fn earned_in(&self, currency: [u8; 3]) -> Option<(i64, i64)> {
        let earned = self.earned();
        if self.currency == currency || (self.revenue, self.payout) == (0, 0) {
            return Some((earned.revenue, earned.payout));
        }
        let base = earned.base.filter(|base| base.currency == currency)?;
        Some((base.revenue, base.payout))
    }
}
