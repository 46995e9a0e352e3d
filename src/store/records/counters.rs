//! What `counters` keeps: sums, and what is still to be added to them.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use super::{RecordError, append, read, unknown};
use crate::store::keys::{RECORD_KEY_BYTES, RecordKey};

/// Version of every record in `counters` but two.
const VERSION: u8 = 1;
/// Version of changes: since it, they say what caps count.
const CHANGE_VERSION: u8 = 2;
/// Version of how far counting has come: since it, there are sums for caps.
const COUNTED_VERSION: u8 = 2;

/// Conversions of one status, and what they come to in micro-units.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    /// How many.
    pub conversions: i64,
    /// What the network earns by them.
    pub revenue: i128,
    /// What affiliates earn by them.
    pub payout: i128,
}

/// The conversions of an event whose amounts are in one currency.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventCounts<'a> {
    /// The event's ID.
    #[serde(borrow)]
    pub event: Cow<'a, str>,
    /// Currency of the amounts.
    pub currency: [u8; 3],
    /// How many took others back; they are in no tally.
    pub negative: i64,
    /// By status, in the order of [`Status::ALL`].
    ///
    /// [`Status::ALL`]: crate::model::status::Status::ALL
    pub by_status: [Tally; 4],
}

/// Clicks that went to a fallback for one reason.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FallbackCounts<'a> {
    /// The reason's word.
    #[serde(borrow)]
    pub reason: Cow<'a, str>,
    /// How many.
    pub clicks: i64,
}

/// Sums. Counts may be negative only while something is taken away from others.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts<'a> {
    /// Clicks that were redirected to the offer.
    pub clicks: i64,
    /// Clicks that went elsewhere.
    #[serde(borrow)]
    pub fallbacks: Vec<FallbackCounts<'a>>,
    /// Conversions.
    #[serde(borrow)]
    pub events: Vec<EventCounts<'a>>,
}

/// The sums of a place.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlaceRecord<'a> {
    /// How many values of `sub1` have a row of their own.
    pub subs: u32,
    /// The sums, over all values of `sub1`.
    #[serde(borrow)]
    pub counts: Counts<'a>,
}

/// The sums of a place for one value of `sub1`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SubRecord<'a> {
    /// The sums.
    #[serde(borrow)]
    pub counts: Counts<'a>,
}

/// What one conversion adds to the sums.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Contribution<'a> {
    /// Its event's ID.
    #[serde(borrow)]
    pub event: Cow<'a, str>,
    /// Currency of the amounts.
    pub currency: [u8; 3],
    /// [`Status::code`]; 0 if it takes another one back.
    ///
    /// [`Status::code`]: crate::model::status::Status::code
    pub standing: u8,
    /// What the network earns by it, micro-units.
    pub revenue: i64,
    /// What the affiliate earns by it, micro-units.
    pub payout: i64,
    /// What caps count it by: its payout by its price, micro-units; `None` if they do not count
    /// it, and in changes of version 1.
    pub in_caps: Option<i64>,
}

/// What caps have counted of an event whose payouts are in one currency.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CapSum<'a> {
    /// The event's ID.
    #[serde(borrow)]
    pub event: Cow<'a, str>,
    /// Currency of the payouts.
    pub currency: [u8; 3],
    /// How many conversions; negative only while something is taken away from others.
    pub conversions: i64,
    /// What they pay by their prices, micro-units.
    pub payout: i128,
}

/// What caps have counted of an offer and affiliate in some time.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CapsRecord<'a> {
    /// By event and currency.
    #[serde(borrow)]
    pub sums: Vec<CapSum<'a>>,
}

/// A change of a conversion that is counted, or may be.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChangeRecord<'a> {
    /// The click's record ID.
    pub click: [u8; 16],
    /// What it added before; nothing if it is new and came late.
    #[serde(borrow)]
    pub before: Option<Contribution<'a>>,
    /// What it adds now.
    #[serde(borrow)]
    pub after: Contribution<'a>,
}

/// A click that came too late to be counted with its neighbours.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LateClickRecord<'a> {
    /// As [`ClickRecord::fallback`].
    ///
    /// [`ClickRecord::fallback`]: super::ClickRecord::fallback
    pub fallback: &'a str,
    /// Its `sub1`.
    pub sub1: &'a str,
}

/// Postbacks refused for one reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefusedCounts<'a> {
    /// The reason's word.
    pub reason: &'a str,
    /// How many.
    pub postbacks: u64,
}

/// The postbacks of a place that one start of the server has refused.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefusedRecord<'a> {
    /// By reason.
    #[serde(borrow)]
    pub refused: Vec<RefusedCounts<'a>>,
}

coded! {
    VERSION: PlaceRecord<'a> SubRecord<'a> CapsRecord<'a> LateClickRecord<'a> RefusedRecord<'a>
}

/// Changes as version 1 wrote them.
mod change_v1;

impl<'a> ChangeRecord<'a> {
    /// Appends the record's bytes.
    pub fn encode(&self, out: &mut Vec<u8>) {
        append(CHANGE_VERSION, self, out);
    }

    /// Reads a record back; texts borrow from `bytes`.
    ///
    /// # Errors
    /// When the version is unknown or the bytes do not decode.
    pub fn decode(bytes: &'a [u8]) -> Result<Self, RecordError> {
        match bytes.split_first() {
            Some((&CHANGE_VERSION, rest)) => read(rest),
            Some((&change_v1::VERSION, rest)) => change_v1::decode(rest),
            other => Err(unknown(other)),
        }
    }
}

/// How far counting has come: what is below is in the sums.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counted {
    /// Clicks.
    pub clicks: RecordKey,
    /// Conversions.
    pub conversions: RecordKey,
}

impl Counted {
    /// Appends the record's bytes.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.push(COUNTED_VERSION);
        out.extend_from_slice(&self.clicks);
        out.extend_from_slice(&self.conversions);
    }

    /// Reads a record back.
    ///
    /// # Errors
    /// When the version is unknown or the length is wrong.
    pub fn decode(bytes: &[u8]) -> Result<Self, RecordError> {
        match bytes.split_first() {
            Some((&(VERSION | COUNTED_VERSION), rest)) => {
                let split = rest.split_at_checked(RECORD_KEY_BYTES).ok_or(RecordError::Corrupt)?;
                let key = |bytes: &[u8]| bytes.try_into().map_err(|_| RecordError::Corrupt);
                Ok(Self { clicks: key(split.0)?, conversions: key(split.1)? })
            }
            other => Err(unknown(other)),
        }
    }

    /// Whether there are sums for caps as far as an encoded record says.
    #[must_use]
    pub fn has_cap_sums(bytes: &[u8]) -> bool {
        bytes.first() != Some(&VERSION)
    }

    /// The later of both, each.
    #[must_use]
    pub fn max(self, other: Self) -> Self {
        Self {
            clicks: self.clicks.max(other.clicks),
            conversions: self.conversions.max(other.conversions),
        }
    }
}
