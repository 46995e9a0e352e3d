//! What fraud rules have hit, and what it is worth: so that `flag` becomes `reject` by numbers.

use std::collections::BTreeMap;

use super::rules::rejected_by;
use crate::limits::FRAUD_REPORT_ROWS_MAX;
use crate::model::money::{Micros, Sum};
use crate::model::reasons::Flag;
use crate::model::status::Status;
use crate::store::records::ConversionRecord;

/// What has become of a conversion that a rule has hit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Only flagged, and pending or approved: the rule would have rejected it.
    WouldReject,
    /// The rule has rejected it.
    Rejected,
    /// The rule had rejected it, and the network has approved it since.
    Reinstated,
    /// Only flagged, and rejected or reversed all the same: by another rule or since.
    Confirmed,
}

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
    /// [`Outcome::WouldReject`].
    pub would_reject: Worth,
    /// [`Outcome::Rejected`].
    pub rejected: Worth,
    /// [`Outcome::Reinstated`].
    pub reinstated: Worth,
    /// [`Outcome::Confirmed`].
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
            let outcome = outcome(record, rejected & rule.bit() != 0);
            self.rows.entry(key).or_default().add(outcome, record);
        }
        // There are no more currencies than the standard has.
        if is_hit {
            let outcome = outcome(record, rejected != 0);
            self.totals.entry(record.currency).or_default().add(outcome, record);
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

/// What has become of a conversion, `rejected` being whether the rule did more than flag.
fn outcome(record: &ConversionRecord<'_>, rejected: bool) -> Outcome {
    match (rejected, record.status()) {
        (true, Some(Status::Rejected)) => Outcome::Rejected,
        (true, _) => Outcome::Reinstated,
        (false, Some(Status::Rejected | Status::Reversed)) => Outcome::Confirmed,
        (false, _) => Outcome::WouldReject,
    }
}

impl Outcomes {
    fn add(&mut self, outcome: Outcome, record: &ConversionRecord<'_>) {
        let worth = match outcome {
            Outcome::WouldReject => &mut self.would_reject,
            Outcome::Rejected => &mut self.rejected,
            Outcome::Reinstated => &mut self.reinstated,
            Outcome::Confirmed => &mut self.confirmed,
        };
        // What has been taken back in part is worth the rest; what is lost, what it was.
        let (revenue, payout) = match outcome {
            Outcome::Confirmed => (record.revenue, record.payout),
            _ => (record.earned().revenue, record.earned().payout),
        };
        worth.conversions += 1;
        worth.revenue.add(Micros::new(revenue));
        worth.payout.add(Micros::new(payout));
    }
}
