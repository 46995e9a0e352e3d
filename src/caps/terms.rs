//! What the catalog says of caps and tiers.

use smol_str::SmolStr;

use crate::model::ids::{AffiliateNumber, OfferNumber};
use crate::model::money::Micros;
use crate::model::period::Period;
use crate::model::rule::Rule;

/// Whose conversions a cap counts together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Whose {
    /// All affiliates'.
    Offer,
    /// Each affiliate's on its own.
    EachAffiliate,
    /// One affiliate's: its catalog ID and its number in click IDs.
    Affiliate(SmolStr, AffiliateNumber),
}

/// How much of an offer is paid in a day, in a month or in total; beyond it, conversions pay nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cap {
    /// Whose conversions it counts.
    pub whose: Whose,
    /// The events that it counts; none stands for all of the offer.
    pub events: Vec<Box<str>>,
    /// Until when.
    pub period: Period,
    /// So many conversions at most.
    pub count: Option<u64>,
    /// So much payout at most, in the events' currency.
    pub payout: Option<Micros>,
    /// Whether clicks go to the fallback once it is full.
    pub redirect_when_full: bool,
    /// Why a conversion over `count` pays nothing, in one word of its history.
    pub over_count: Box<str>,
    /// The same of `payout`.
    pub over_payout: Box<str>,
}

impl Cap {
    /// A cap with its words: `cap:offer:day:count`, `cap:pub-7:month:payout`.
    #[must_use]
    pub fn new(
        whose: Whose,
        events: Vec<Box<str>>,
        period: Period,
        count: Option<u64>,
        payout: Option<Micros>,
    ) -> Self {
        let redirect_when_full = false;
        let word = |what: &str| {
            let whose = match &whose {
                Whose::Offer => "offer",
                Whose::EachAffiliate => "affiliate",
                Whose::Affiliate(id, _) => id,
            };
            format!("cap:{whose}:{period}:{what}").into()
        };
        let (over_count, over_payout) = (word("count"), word("payout"));
        Self { whose, events, period, count, payout, redirect_when_full, over_count, over_payout }
    }

    /// Whether it counts an event.
    #[must_use]
    pub fn counts_event(&self, event: &str) -> bool {
        self.events.is_empty() || self.events.iter().any(|counted| **counted == *event)
    }

    /// Whether it counts an affiliate's conversions.
    #[must_use]
    pub fn counts_affiliate(&self, affiliate: AffiliateNumber) -> bool {
        !matches!(self.whose, Whose::Affiliate(_, only) if only != affiliate)
    }
}

/// An offer with caps or tiers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metered {
    /// Which.
    pub offer: OfferNumber,
    /// Whether it has caps in total.
    pub in_total: bool,
}

/// A payout from some volume on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tier {
    /// From which conversion of the affiliate's month on.
    pub from: u64,
    /// What the affiliate earns instead.
    pub payout: Rule,
    /// The word of a conversion's history: `tier:100`.
    pub word: Box<str>,
}

impl Tier {
    /// A tier with its word.
    #[must_use]
    pub fn new(from: u64, payout: Rule) -> Self {
        Self { from, payout, word: format!("tier:{from}").into() }
    }
}

/// The tier of an affiliate's conversion of this number in its month, the first being 1; `None`
/// below all of them. `tiers` ascend.
#[must_use]
pub fn tier_of(tiers: &[Tier], number: u64) -> Option<&Tier> {
    tiers.iter().rfind(|tier| tier.from <= number)
}
