//! The ledger's values: postings, and the seals over a day of them. What has nothing in another
//! currency than its own is written as version 1, as it was before there was a version 2, so that
//! its bytes and all that is hashed of them stay what they were.

use serde::{Deserialize, Serialize};

use super::{RecordError, append, read, unknown};

const POSTING_VERSION: u8 = 2;
const SEAL_VERSION: u8 = 2;
/// Without anything converted.
const PLAIN_VERSION: u8 = 1;

/// The entries of a posting, or sums of them, micro-units. The three sum to zero; debits are
/// positive.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entries {
    /// `advertiser receivable`: positive when the advertiser owes more.
    pub receivable: i128,
    /// `affiliate payable`: negative when the affiliate is owed more.
    pub payable: i128,
    /// `network margin`: negative when the network gains.
    pub margin: i128,
}

impl Entries {
    /// Those of so much revenue and payout. The margin is what is left between the two, never an
    /// amount of its own.
    #[must_use]
    pub const fn of(revenue: i128, payout: i128) -> Self {
        Self { receivable: revenue, payable: -payout, margin: payout - revenue }
    }

    /// The sums of both. Damaged amounts may be beyond any that a conversion can cause, and wrap.
    #[must_use]
    pub const fn plus(self, other: Self) -> Self {
        Self {
            receivable: self.receivable.wrapping_add(other.receivable),
            payable: self.payable.wrapping_add(other.payable),
            margin: self.margin.wrapping_add(other.margin),
        }
    }

    /// What is left of these without the others.
    #[must_use]
    pub const fn less(self, other: Self) -> Self {
        Self {
            receivable: self.receivable.wrapping_sub(other.receivable),
            payable: self.payable.wrapping_sub(other.payable),
            margin: self.margin.wrapping_sub(other.margin),
        }
    }

    /// Whether they are as entries must be.
    #[must_use]
    pub fn sum_to_zero(self) -> bool {
        let sum = self.receivable.checked_add(self.payable);
        sum.and_then(|sum| sum.checked_add(self.margin)) == Some(0)
    }

    /// What the affiliate is owed by them.
    #[must_use]
    pub const fn owed(self) -> i128 {
        self.payable.wrapping_neg()
    }
}

/// What of postings in one currency is converted to a network's currency. A posting says by how
/// much that changes with it: mostly by its own entries; if a rate came late, also by those of
/// earlier postings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Converted {
    /// The network's currency.
    pub base: [u8; 3],
    /// How many postings.
    pub postings: i64,
    /// Their entries, in their own currency.
    pub own: Entries,
    /// What these are in `base`.
    pub worth: Entries,
}

impl Converted {
    /// Nothing yet.
    #[must_use]
    pub fn none(base: [u8; 3]) -> Self {
        Self { base, ..Self::default() }
    }

    /// The sums of both, which have one base.
    #[must_use]
    pub const fn plus(self, other: &Self) -> Self {
        Self {
            base: self.base,
            postings: self.postings.wrapping_add(other.postings),
            own: self.own.plus(other.own),
            worth: self.worth.plus(other.worth),
        }
    }

    /// What is left of it without the other, which has the same base.
    #[must_use]
    pub const fn less(self, other: &Self) -> Self {
        Self {
            base: self.base,
            postings: self.postings.wrapping_sub(other.postings),
            own: self.own.less(other.own),
            worth: self.worth.less(other.worth),
        }
    }

    /// Whether it changes nothing.
    #[must_use]
    pub fn is_none(&self) -> bool {
        *self == Self::none(self.base)
    }
}

/// What one step of a conversion changed in the books.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PostingRecord {
    /// Currency of the entries.
    pub currency: [u8; 3],
    /// What it posts.
    pub entries: Entries,
    /// What it converts, by network's currency: nothing where that is its own or has no rate, two
    /// only where the network has changed its currency.
    pub converted: Vec<Converted>,
}

impl PostingRecord {
    /// Appends the record's bytes.
    pub fn encode(&self, out: &mut Vec<u8>) {
        if self.converted.is_empty() {
            append(PLAIN_VERSION, &(self.currency, self.entries), out);
        } else {
            append(POSTING_VERSION, self, out);
        }
    }

    /// Reads a record back.
    ///
    /// # Errors
    /// When the version is unknown or the bytes do not decode.
    pub fn decode(bytes: &[u8]) -> Result<Self, RecordError> {
        match bytes.split_first() {
            Some((&POSTING_VERSION, rest)) => read(rest),
            Some((&PLAIN_VERSION, rest)) => {
                let (currency, entries) = read(rest)?;
                Ok(Self { currency, entries, converted: Vec::new() })
            }
            other => Err(unknown(other)),
        }
    }
}

/// What an affiliate's accounts hold in one currency.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Balance {
    /// Its currency.
    pub currency: [u8; 3],
    /// Postings that lead to it.
    pub postings: u64,
    /// Their sums.
    pub entries: Entries,
}

/// A hash of the ledger.
pub type Hash = [u8; 32];

/// The end of an affiliate's day: nothing is posted to it any more.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SealRecord {
    /// The day that was sealed before, counted from 1970-01-01; `None` of the first.
    pub previous_day: Option<u32>,
    /// Hash of the seal before; zeros if there is none.
    pub previous: Hash,
    /// Postings of the day.
    pub postings: u64,
    /// Merkle root over them, in the order of their keys.
    pub root: Hash,
    /// What the accounts hold at the end of the day, by currency.
    pub balances: Vec<Balance>,
    /// What of a currency's balance is converted, by currency and base.
    pub converted: Vec<([u8; 3], Converted)>,
}

impl SealRecord {
    /// Appends the record's bytes.
    pub fn encode(&self, out: &mut Vec<u8>) {
        if self.converted.is_empty() {
            let Self { previous_day, previous, postings, root, balances, .. } = self;
            let plain = (previous_day, previous, postings, root, balances);
            append(PLAIN_VERSION, &plain, out);
        } else {
            append(SEAL_VERSION, self, out);
        }
    }

    /// Reads a record back.
    ///
    /// # Errors
    /// When the version is unknown or the bytes do not decode.
    pub fn decode(bytes: &[u8]) -> Result<Self, RecordError> {
        match bytes.split_first() {
            Some((&SEAL_VERSION, rest)) => read(rest),
            Some((&PLAIN_VERSION, rest)) => {
                let (previous_day, previous, postings, root, balances) = read(rest)?;
                let converted = Vec::new();
                Ok(Self { previous_day, previous, postings, root, balances, converted })
            }
            other => Err(unknown(other)),
        }
    }
}
