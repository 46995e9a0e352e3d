//! What a conversion's history does to the books, by its record alone.
//!
//! Each step posts the difference to the step before. Debits are positive: what the advertiser
//! owes more is debited to `advertiser receivable`, what the affiliate is owed more is credited to
//! `affiliate payable`, and the rest is credited to `network margin`. Taking back is the same with
//! the signs turned. A step without a difference posts nothing.

use std::collections::BTreeMap;

use super::keys::{POSTING_KEY_BYTES, PostingKey};
use super::records::{
    Balance, ConversionRecord, POSTING_VALUE_BYTES_MAX, PostingRecord, SealRecord,
};
use crate::click_id::RecordId;
use crate::model::rate::Day;

/// One posting: where it stands in the ledger, and its three entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Posting {
    /// Its place.
    pub key: PostingKey,
    /// Its entries.
    pub record: PostingRecord,
}

/// A posting's row: key, value, and how long the value is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct PostingRow {
    key: [u8; POSTING_KEY_BYTES],
    value: [u8; POSTING_VALUE_BYTES_MAX],
    len: usize,
}

impl PostingRow {
    pub fn split(&self) -> (&[u8], &[u8]) {
        (&self.key, &self.value[..self.len])
    }
}

impl Posting {
    pub(super) fn row(&self) -> PostingRow {
        let mut value = [0; POSTING_VALUE_BYTES_MAX];
        let len = self.record.encode(&mut value);
        let len = len.expect("the difference of two i64 has 65 bits, which take ten bytes");
        PostingRow { key: self.key.encode(), value, len }
    }
}

/// The postings of a conversion, oldest first.
///
/// A step is posted on the day of its receipt, in UTC. A clock that was set back posts to no
/// earlier day than the conversion's own ID or an earlier step names.
pub fn postings<'r>(
    conversion: RecordId,
    record: &'r ConversionRecord<'_>,
) -> impl Iterator<Item = Posting> + 'r {
    let affiliate = RecordId::from_bytes(record.click).affiliate();
    let (mut before, mut time_ms) = ((0, 0), conversion.time_ms());
    (0..=u16::MAX).zip(&record.history).filter_map(move |(step, entry)| {
        time_ms = time_ms.max(entry.time_ms);
        let booked = (i128::from(entry.booked_revenue), i128::from(entry.booked_payout));
        let (was_revenue, was_payout) = std::mem::replace(&mut before, booked);
        let (revenue, payout) = (booked.0 - was_revenue, booked.1 - was_payout);
        let key = PostingKey { affiliate, day: Day::of_ms(time_ms), conversion, step };
        let record = PostingRecord {
            currency: record.currency,
            receivable: revenue,
            payable: -payout,
            margin: payout - revenue,
        };
        ((revenue, payout) != (0, 0)).then_some(Posting { key, record })
    })
}

/// Sums of postings by currency.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Balances(BTreeMap<[u8; 3], Balance>);

impl Balances {
    /// Those at the end of a sealed day.
    #[must_use]
    pub fn of_seal(seal: &SealRecord) -> Self {
        Self(seal.balances.iter().map(|balance| (balance.currency, *balance)).collect())
    }

    /// Adds a posting.
    pub fn add(&mut self, posting: &PostingRecord) {
        self.add_balance(&Balance {
            currency: posting.currency,
            postings: 1,
            receivable: posting.receivable,
            payable: posting.payable,
            margin: posting.margin,
        });
    }

    /// Adds other sums.
    pub fn add_all(&mut self, other: &Self) {
        other.0.values().for_each(|balance| self.add_balance(balance));
    }

    /// What is left of these sums without others; currencies in which nothing was posted are left
    /// out.
    #[must_use]
    pub fn less(&self, other: &Self) -> Self {
        let rest = self.0.values().filter_map(|balance| {
            let was = other.of(balance.currency);
            let rest = Balance {
                currency: balance.currency,
                postings: balance.postings.wrapping_sub(was.postings),
                receivable: balance.receivable.wrapping_sub(was.receivable),
                payable: balance.payable.wrapping_sub(was.payable),
                margin: balance.margin.wrapping_sub(was.margin),
            };
            (rest.postings > 0).then_some((balance.currency, rest))
        });
        Self(rest.collect())
    }

    fn add_balance(&mut self, other: &Balance) {
        let fresh = Balance { currency: other.currency, ..Balance::default() };
        let sum = self.0.entry(other.currency).or_insert(fresh);
        // Damaged amounts may be beyond any that a conversion can cause.
        sum.postings = sum.postings.wrapping_add(other.postings);
        sum.receivable = sum.receivable.wrapping_add(other.receivable);
        sum.payable = sum.payable.wrapping_add(other.payable);
        sum.margin = sum.margin.wrapping_add(other.margin);
    }

    /// The sums, by currency.
    pub fn iter(&self) -> impl Iterator<Item = &Balance> {
        self.0.values()
    }

    /// As a seal keeps them.
    #[must_use]
    pub fn to_vec(&self) -> Vec<Balance> {
        self.0.values().copied().collect()
    }

    /// The sum in one currency; zero if there is none.
    #[must_use]
    pub fn of(&self, currency: [u8; 3]) -> Balance {
        self.0.get(&currency).copied().unwrap_or(Balance { currency, ..Balance::default() })
    }
}

#[cfg(test)]
#[path = "postings_tests.rs"]
mod tests;
