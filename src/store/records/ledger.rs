//! The ledger's values: postings, and the seals over a day of them.

use serde::{Deserialize, Serialize};

use super::{RecordError, append};

const POSTING_VERSION: u8 = 1;
const SEAL_VERSION: u8 = 1;

/// A posting's value at most, bytes: version, currency, three amounts of up to ten bytes.
pub const POSTING_VALUE_BYTES_MAX: usize = 1 + 3 + 3 * 10;

/// What one step of a conversion changed in the books, micro-units. The three entries sum to
/// zero; debits are positive.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PostingRecord {
    /// Currency of the amounts.
    pub currency: [u8; 3],
    /// `advertiser receivable`: positive when the advertiser owes more.
    pub receivable: i128,
    /// `affiliate payable`: negative when the affiliate is owed more.
    pub payable: i128,
    /// `network margin`: negative when the network gains.
    pub margin: i128,
}

impl PostingRecord {
    /// Writes the record; returns how many bytes it has.
    ///
    /// # Errors
    /// When an amount is none that a conversion can cause: more than the difference of two `i64`.
    pub fn encode(&self, out: &mut [u8; POSTING_VALUE_BYTES_MAX]) -> Result<usize, RecordError> {
        out[0] = POSTING_VERSION;
        let written = postcard::to_slice(self, &mut out[1..]).map_err(|_| RecordError::Corrupt)?;
        Ok(1 + written.len())
    }

    /// Reads a record back.
    ///
    /// # Errors
    /// When the version is unknown or the bytes do not decode.
    pub fn decode(bytes: &[u8]) -> Result<Self, RecordError> {
        match bytes.split_first() {
            Some((&POSTING_VERSION, rest)) => {
                postcard::from_bytes(rest).map_err(|_| RecordError::Corrupt)
            }
            other => Err(RecordError::Version(other.map(|(version, _)| *version))),
        }
    }
}

/// What an affiliate's accounts hold in one currency, micro-units.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Balance {
    /// Its currency.
    pub currency: [u8; 3],
    /// Postings that lead to it.
    pub postings: u64,
    /// As [`PostingRecord::receivable`].
    pub receivable: i128,
    /// As [`PostingRecord::payable`].
    pub payable: i128,
    /// As [`PostingRecord::margin`].
    pub margin: i128,
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
}

impl SealRecord {
    /// Appends the record's bytes.
    pub fn encode(&self, out: &mut Vec<u8>) {
        append(SEAL_VERSION, self, out);
    }

    /// Reads a record back.
    ///
    /// # Errors
    /// When the version is unknown or the bytes do not decode.
    pub fn decode(bytes: &[u8]) -> Result<Self, RecordError> {
        match bytes.split_first() {
            Some((&SEAL_VERSION, rest)) => {
                postcard::from_bytes(rest).map_err(|_| RecordError::Corrupt)
            }
            other => Err(RecordError::Version(other.map(|(version, _)| *version))),
        }
    }
}
