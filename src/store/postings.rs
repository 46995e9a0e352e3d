//! What a conversion's history does to the books, by its record alone.
//!
//! Each step posts the difference to the step before. Debits are positive: what the advertiser
//! owes more is debited to `advertiser receivable`, what the affiliate is owed more is credited to
//! `affiliate payable`, and the rest is credited to `network margin`. Taking back is the same with
//! the signs turned. A step without a difference posts nothing.
//!
//! Beside its entries a posting says what is converted to the network's currency with it. That is a
//! difference, too: between what the conversion as a whole is worth after the step and before it.
//! So what is taken back in many parts, each rounded, sums to nothing in the end; and a rate that
//! comes late makes a posting of its own, without entries, which converts those before it.

use std::borrow::Cow;
use std::collections::BTreeMap;

use super::keys::PostingKey;
use super::records::{
    Balance, ConversionRecord, Converted, Deferred, Entries, HistoryEntry, PostingRecord,
    SealRecord,
};
use crate::click_id::RecordId;
use crate::model::period::Day;

/// One posting: where it stands in the ledger, and what it changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Posting {
    /// Its place.
    pub key: PostingKey,
    /// Its entries.
    pub record: PostingRecord,
}

/// The postings of a conversion, oldest first.
///
/// A step is posted on the day of its receipt, in UTC, or the one to which it was deferred. A clock
/// that was set back posts to no earlier day than the conversion's own ID or an earlier step names.
pub fn postings<'r>(
    conversion: RecordId,
    record: &'r ConversionRecord<'_>,
) -> impl Iterator<Item = Posting> + 'r {
    let affiliate = record.affiliate_number();
    let mut booked = Booked::default();
    days(conversion, record).zip(&record.history).filter_map(move |((step, day), entry)| {
        let (entries, converted) = booked.step(entry)?;
        let key = PostingKey { affiliate, day, conversion, step };
        Some(Posting {
            key,
            record: PostingRecord { currency: record.currency, entries, converted },
        })
    })
}

/// The steps of a conversion, and the day to which each is posted if it posts anything.
fn days<'r>(
    conversion: RecordId,
    record: &'r ConversionRecord<'_>,
) -> impl Iterator<Item = (u16, Day)> + 'r {
    let mut day = Day::of_ms(conversion.time_ms());
    (0..=u16::MAX).zip(&record.history).map(move |(step, entry)| {
        let deferred = record.deferred.iter().filter(|deferred| deferred.step == step);
        let deferred = deferred.map(|deferred| Day::new(deferred.day));
        day = deferred.fold(day.max(Day::of_ms(entry.time_ms)), Day::max);
        (step, day)
    })
}

/// The conversion with its steps from the `first` new one on deferred to a day, if they would be
/// posted before it. Those before the first keep their days.
#[must_use]
pub fn deferred<'r, 'a>(
    conversion: RecordId,
    record: &'r ConversionRecord<'a>,
    first: usize,
    to: Day,
) -> Cow<'r, ConversionRecord<'a>> {
    match days(conversion, record).nth(first) {
        Some((step, day)) if day < to => {
            let mut deferred = record.clone();
            deferred.deferred.push(Deferred { step, day: to.get() });
            Cow::Owned(deferred)
        }
        _ => Cow::Borrowed(record),
    }
}

/// What a conversion has in the books.
#[derive(Clone, Copy, Default)]
struct Booked {
    postings: i64,
    own: Entries,
    /// The network's currency, and what it is in that; `None` if it is not converted.
    base: Option<([u8; 3], Entries)>,
}

impl Booked {
    /// Goes on to a step; returns what it posts and what it converts, or `None` if it does not
    /// change anything.
    fn step(&mut self, entry: &HistoryEntry<'_>) -> Option<(Entries, Vec<Converted>)> {
        let entries = |revenue: i64, payout: i64| Entries::of(revenue.into(), payout.into());
        let own = entries(entry.booked_revenue, entry.booked_payout);
        let base = entry.booked_base;
        let base = base.map(|base| (base.currency, entries(base.revenue, base.payout)));
        // Nothing is nothing in whatever currency it was counted before.
        let kept = self.base.filter(|_| own == Entries::default());
        let base = base.or(kept.map(|(currency, _)| (currency, Entries::default())));
        let before = std::mem::replace(self, Self { own, base, ..*self });
        if self.own == before.own && self.converts(before).next().is_none() {
            return None;
        }
        self.postings += 1;
        Some((self.own.less(before.own), self.converts(before).collect()))
    }

    /// How what is converted differs from before.
    fn converts(self, before: Self) -> impl Iterator<Item = Converted> {
        let bases = [before.base, self.base].map(|base| base.map(|(currency, _)| currency));
        let bases = if bases[0] == bases[1] { [bases[0], None] } else { bases };
        let change = move |base| self.converted_to(base).less(&before.converted_to(base));
        bases.into_iter().flatten().map(change).filter(|change| !change.is_none())
    }

    fn converted_to(self, base: [u8; 3]) -> Converted {
        match self.base {
            Some((currency, worth)) if currency == base => {
                Converted { base, postings: self.postings, own: self.own, worth }
            }
            _ => Converted::none(base),
        }
    }
}

/// Sums of postings by currency, and what of them is converted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Balances {
    own: BTreeMap<[u8; 3], Balance>,
    /// By currency and base; none that is nothing.
    converted: BTreeMap<([u8; 3], [u8; 3]), Converted>,
}

/// Balances in the network's currency.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Total {
    /// The sum of all that is in that currency, or converted to it.
    pub entries: Entries,
    /// The rest, by currency.
    pub not_converted: Vec<Balance>,
}

impl Balances {
    /// Those at the end of a sealed day.
    #[must_use]
    pub fn of_seal(seal: &SealRecord) -> Self {
        Self {
            own: seal.balances.iter().map(|balance| (balance.currency, *balance)).collect(),
            converted: seal.converted.iter().map(|(of, it)| ((*of, it.base), *it)).collect(),
        }
    }

    /// Adds a posting.
    pub fn add(&mut self, posting: &PostingRecord) {
        let PostingRecord { currency, entries, ref converted } = *posting;
        self.add_balance(&Balance { currency, postings: 1, entries });
        converted.iter().for_each(|converted| self.add_converted(currency, converted));
    }

    /// Adds other sums.
    pub fn add_all(&mut self, other: &Self) {
        other.own.values().for_each(|balance| self.add_balance(balance));
        other.converted.iter().for_each(|((of, _), it)| self.add_converted(*of, it));
    }

    /// What is left of these sums without others; currencies in which nothing was posted are left
    /// out.
    #[must_use]
    pub fn less(&self, other: &Self) -> Self {
        let own = self.own.values().filter_map(|balance| {
            let was = other.of(balance.currency);
            let postings = balance.postings.wrapping_sub(was.postings);
            let entries = balance.entries.less(was.entries);
            (postings > 0).then_some((balance.currency, Balance { postings, entries, ..*balance }))
        });
        let mut rest = Self { own: own.collect(), converted: self.converted.clone() };
        for ((of, base), it) in &other.converted {
            rest.add_converted(*of, &Converted::none(*base).less(it));
        }
        rest
    }

    fn add_balance(&mut self, other: &Balance) {
        let fresh = Balance { currency: other.currency, ..Balance::default() };
        let sum = self.own.entry(other.currency).or_insert(fresh);
        sum.postings = sum.postings.wrapping_add(other.postings);
        sum.entries = sum.entries.plus(other.entries);
    }

    fn add_converted(&mut self, currency: [u8; 3], other: &Converted) {
        let key = (currency, other.base);
        let sum = self.converted.remove(&key).unwrap_or(Converted::none(other.base)).plus(other);
        if !sum.is_none() {
            self.converted.insert(key, sum);
        }
    }

    /// The sums, by currency.
    pub fn iter(&self) -> impl Iterator<Item = &Balance> {
        self.own.values()
    }

    /// As a seal keeps them.
    #[must_use]
    pub fn to_vec(&self) -> Vec<Balance> {
        self.own.values().copied().collect()
    }

    /// What of them is converted, by currency and base, as a seal keeps it.
    #[must_use]
    pub fn converted(&self) -> Vec<([u8; 3], Converted)> {
        self.converted.iter().map(|((of, _), it)| (*of, *it)).collect()
    }

    /// The sum in one currency; zero if there is none.
    #[must_use]
    pub fn of(&self, currency: [u8; 3]) -> Balance {
        self.own.get(&currency).copied().unwrap_or(Balance { currency, ..Balance::default() })
    }

    /// What the sum in one currency is in the network's, and what of it is not in that for want of
    /// a rate.
    #[must_use]
    pub fn in_base(&self, currency: [u8; 3], base: [u8; 3]) -> (Entries, Balance) {
        let own = self.of(currency);
        if currency == base {
            return (own.entries, Balance { currency, ..Balance::default() });
        }
        let converted = self.converted.get(&(currency, base)).copied().unwrap_or_default();
        let rest = Balance {
            currency,
            postings: own.postings.wrapping_add_signed(converted.postings.wrapping_neg()),
            entries: own.entries.less(converted.own),
        };
        (converted.worth, rest)
    }

    /// All of them in the network's currency, and what is not in that for want of a rate.
    #[must_use]
    pub fn total(&self, base: [u8; 3]) -> Total {
        let mut total = Total::default();
        for balance in self.own.values() {
            let (worth, rest) = self.in_base(balance.currency, base);
            total.entries = total.entries.plus(worth);
            if (rest.postings, rest.entries) != (0, Entries::default()) {
                total.not_converted.push(rest);
            }
        }
        total
    }
}

#[cfg(test)]
#[path = "postings_tests.rs"]
mod tests;
