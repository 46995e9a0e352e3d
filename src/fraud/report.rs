//! What fraud rules have hit, and what it is worth: so that `flag` becomes `reject` by numbers.

use std::collections::BTreeMap;

use super::rules::rejected_by;
use crate::limits::FRAUD_REPORT_ROWS_MAX;
use crate::model::money::{Micros, Sum};
use crate::model::reasons::Flag;
use crate::model::status::Status;
use crate::store::records::ConversionRecord;

/// Conversions, and what they earn or would have earned.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Worth {
    /// How many.
    pub conversions: u64,
    /// The network's.
    pub revenue: Sum,
    /// The affiliates'.
    pub payout: Sum,
}

/// Conversions by what has become of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outcomes {
    /// Only flagged, and pending or approved: the rule would have rejected it.
    pub would_reject: Worth,
    /// The rule has rejected it.
    pub rejected: Worth,
    /// The rule had rejected it, and the network has approved it since.
    pub reinstated: Worth,
    /// Only flagged, and rejected or reversed all the same: by another rule or since.
    pub confirmed: Worth,
}

/// What one rule has hit of one offer, in one currency.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row<'r> {
    /// The rule.
    pub rule: Flag,
    /// The offer's ID.
    pub offer: &'r str,
    /// The conversions' currency.
    pub currency: [u8; 3],
    /// What it has hit.
    pub outcomes: Outcomes,
}

type ByOffer = BTreeMap<(usize, Box<str>, [u8; 3]), Outcomes>;

/// Sums over conversions.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// How many were looked at.
    pub conversions: u64,
    /// What would have needed a row of its own and found no room.
    pub left_out: u64,
    totals: BTreeMap<[u8; 3], Outcomes>,
    rows: ByOffer,
}

impl Report {
    /// Adds a conversion.
    pub fn add(&mut self, record: &ConversionRecord<'_>) {
        self.conversions += 1;
        let hit = Flag::FRAUD_RULES.iter().filter(|rule| record.flags & rule.bit() != 0);
        let rejected = record.history.first().map_or(0, |first| rejected_by(first.reason));
        let mut is_hit = false;
        for rule in hit {
            is_hit = true;
            let key = (rule.index(), record.offer.into(), record.currency);
            if self.rows.len() >= FRAUD_REPORT_ROWS_MAX && !self.rows.contains_key(&key) {
                self.left_out += 1;
                continue;
            }
            self.rows.entry(key).or_default().add(record, rejected & rule.bit() != 0);
        }
        // There are no more currencies than the standard has.
        if is_hit {
            self.totals.entry(record.currency).or_default().add(record, rejected != 0);
        }
    }

    /// Every conversion that any rule has hit, once, by currency.
    pub fn totals(&self) -> impl Iterator<Item = ([u8; 3], Outcomes)> {
        self.totals.iter().map(|(currency, outcomes)| (*currency, *outcomes))
    }

    /// By rule, offer and currency. What several rules have hit is in several rows.
    pub fn rows(&self) -> impl Iterator<Item = Row<'_>> {
        self.rows.iter().map(|((rule, offer, currency), outcomes)| Row {
            rule: Flag::ALL[*rule],
            offer,
            currency: *currency,
            outcomes: *outcomes,
        })
    }
}

impl Outcomes {
    /// Adds a conversion, `rejected` being whether the rule did more than flag.
    fn add(&mut self, record: &ConversionRecord<'_>, rejected: bool) {
        let earned = record.earned();
        // What has been taken back in part is worth the rest; what is lost, what it was.
        let (rest, whole) = ((earned.revenue, earned.payout), (record.revenue, record.payout));
        let (worth, (revenue, payout)) = match (rejected, record.status()) {
            (true, Some(Status::Rejected)) => (&mut self.rejected, rest),
            (true, _) => (&mut self.reinstated, rest),
            (false, Some(Status::Rejected | Status::Reversed)) => (&mut self.confirmed, whole),
            (false, _) => (&mut self.would_reject, rest),
        };
        worth.add(revenue, payout);
    }
}

impl Worth {
    /// Adds a conversion's, micro-units.
    pub fn add(&mut self, revenue: i64, payout: i64) {
        self.conversions += 1;
        self.revenue.add(Micros::new(revenue));
        self.payout.add(Micros::new(payout));
    }
}
