//! Every value's bytes. The first byte is the record's version, the rest is postcard's stable
//! wire format of the struct of that version. Old versions stay readable; `tests/fixtures` pins
//! them.

use serde::{Deserialize, Serialize};

use super::engine::EngineError;
use crate::click_id::RecordId;
use crate::model::ids::AffiliateNumber;
use crate::model::reasons::Flag;
use crate::model::status::Status;

const CLICK_VERSION: u8 = 3;
const CONVERSION_VERSION: u8 = 4;
/// Of conversions whose texts were erased: version 4, and then what stands for the texts.
const ERASED_CONVERSION_VERSION: u8 = 5;
/// Of conversions with steps that are posted later: version 4, and then whether texts were erased,
/// and which steps.
const DEFERRED_CONVERSION_VERSION: u8 = 6;
const RATES_VERSION: u8 = 1;
const DEDUPE_VERSION: u8 = 1;
const BINDING_VERSION: u8 = 1;
const CATALOG_VERSION: u8 = 1;

/// A dedupe entry's value.
pub const DEDUPE_VALUE_BYTES: usize = 17;
/// A customer's binding.
pub const BINDING_VALUE_BYTES: usize = 33;

/// Number of `sub` parameters a click carries.
pub const SUBS: usize = 10;

/// A value that cannot be read: corrupt, or written by a newer release.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// The version byte is missing or unknown.
    #[error(
        "record version {0:?} is unknown to this release: a later one has written it, or it is damaged"
    )]
    Version(Option<u8>),
    /// The bytes do not decode.
    #[error("record is corrupt")]
    Corrupt,
}

impl RecordError {
    /// Whether it looks like the work of a later release: then whatever is derived from such records
    /// would lack this one, and nobody would know. So it is no record to pass over.
    #[must_use]
    pub const fn is_newer(self) -> bool {
        matches!(self, Self::Version(Some(_)))
    }
}

/// Why a walk over records came to no end.
#[derive(Clone, Debug, thiserror::Error)]
pub enum WalkError {
    /// The engine failed.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// A record must not be passed over.
    #[error(transparent)]
    Record(#[from] RecordError),
}

/// Records that have had one version.
macro_rules! coded {
    ($version:ident: $($name:ident $(<$life:lifetime>)?)*) => {$(
        impl $(<$life>)? $name $(<$life>)? {
            /// Appends the record's bytes.
            pub fn encode(&self, out: &mut Vec<u8>) {
                append($version, self, out);
            }

            /// Reads a record back; its texts, if it has some, borrow from `bytes`.
            ///
            /// # Errors
            /// When the version is unknown or the bytes do not decode.
            pub fn decode(bytes: &$($life)? [u8]) -> Result<Self, RecordError> {
                match bytes.split_first() {
                    Some((&$version, rest)) => read(rest),
                    other => Err(unknown(other)),
                }
            }
        }
    )*};
}

/// The visitor's address, as much of it as the configuration lets us keep.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum StoredIp {
    /// Not kept.
    #[default]
    None,
    /// An IPv4 address, full or with the last byte cut off.
    V4([u8; 4]),
    /// An IPv6 address, full or cut after 48 bits.
    V6([u8; 16]),
    /// A keyed hash of the address.
    Hashed([u8; 8]),
}

/// What is kept of a click beside its key.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClickRecord<'a> {
    /// `sub1`..`sub10`; empty where absent.
    #[serde(borrow)]
    pub subs: [&'a str; SUBS],
    /// The offer's other passed parameters that came with the click.
    #[serde(borrow)]
    pub passed: Vec<(&'a str, &'a str)>,
    /// The visitor's address.
    pub ip: StoredIp,
    /// `User-Agent`, cut to its limit.
    pub user_agent: &'a str,
    /// `Referer`, cut to its limit.
    pub referrer: &'a str,
    /// `gdpr`.
    pub gdpr: &'a str,
    /// `gdpr_consent`.
    pub gdpr_consent: &'a str,
    /// `us_privacy` or `ccpa_optout`.
    pub us_privacy: &'a str,
    /// Why the visitor went to a fallback; empty if the offer was reached.
    pub fallback: &'a str,
    /// Where the visitor is, [`Country::to_bytes`]; `None` if nobody told, and in records of
    /// version 1.
    ///
    /// [`Country::to_bytes`]: crate::model::country::Country::to_bytes
    pub country: Option<[u8; 2]>,
    /// The fraud rules that it breaks, bits of [`Flag`]; none in records before version 3.
    pub flags: u32,
}

/// Clicks as earlier versions wrote them.
mod old_clicks;

impl<'a> ClickRecord<'a> {
    /// Appends the record's bytes.
    pub fn encode(&self, out: &mut Vec<u8>) {
        append(CLICK_VERSION, self, out);
    }

    /// Reads a record back; texts borrow from `bytes`.
    ///
    /// # Errors
    /// When the version is unknown or the bytes do not decode.
    pub fn decode(bytes: &'a [u8]) -> Result<Self, RecordError> {
        match bytes.split_first() {
            Some((&CLICK_VERSION, rest)) => read(rest),
            Some((&2, rest)) => old_clicks::decode_v2(rest),
            Some((&1, rest)) => old_clicks::decode_v1(rest),
            other => Err(unknown(other)),
        }
    }
}

/// A conversion, complete: what the answer said, what the books need, what a trace shows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConversionRecord<'a> {
    /// The click's record ID.
    pub click: [u8; 16],
    /// The click ID's MAC, so that it can be printed again after its key is gone.
    pub click_mac: [u8; 8],
    /// Advertiser, offer, affiliate and event by their catalog IDs.
    pub advertiser: &'a str,
    /// See `advertiser`.
    pub offer: &'a str,
    /// See `advertiser`.
    pub affiliate: &'a str,
    /// See `advertiser`.
    pub event: &'a str,
    /// The advertiser's transaction ID; empty if none was sent.
    pub txn_id: &'a str,
    /// The advertiser's customer ID; empty if none was sent.
    pub customer_id: &'a str,
    /// [`Status::code`] of the last history entry.
    pub status: u8,
    /// What the customer spent, micro-units; `None` if not sent.
    pub amount: Option<i64>,
    /// Currency of `amount`, if sent; else that is `currency`.
    pub amount_currency: Option<[u8; 3]>,
    /// What the network earns by its price, micro-units of `currency`; see [`Self::earned`].
    pub revenue: i64,
    /// What the affiliate earns by its price, micro-units of `currency`; see [`Self::earned`].
    pub payout: i64,
    /// Currency of `revenue` and `payout`.
    pub currency: [u8; 3],
    /// Number of items, if sent.
    pub quantity: Option<u64>,
    /// Bits of [`Flag`].
    pub flags: u32,
    /// When the advertiser says it happened, Unix milliseconds.
    pub event_time_ms: u64,
    /// When the postback arrived, Unix milliseconds.
    pub received_ms: u64,
    /// The catalog in force.
    pub catalog_version: u64,
    /// Custom parameters as given.
    #[serde(borrow)]
    pub params: Vec<(&'a str, &'a str)>,
    /// Statuses, oldest first.
    #[serde(borrow)]
    pub history: Vec<HistoryEntry<'a>>,
    /// Which claims it holds, [`ClaimSet::bits`]; none in records of version 1, whose claims were
    /// written with them.
    ///
    /// [`ClaimSet::bits`]: super::claim::ClaimSet::bits
    pub claims: u8,
    /// What its price took from the postback's own amounts and from other currencies; `None` if
    /// nothing.
    pub exchanged: Option<Box<Exchanged>>,
    /// How much of `amount` has been taken back by negative events that did not take back all,
    /// micro-units. Price and amounts stay what they were; what is left of them is derived.
    pub reversed_amount: i64,
    /// What stands for the texts that were erased; `None`: none was. Written behind all else, by
    /// versions 5 and 6.
    #[serde(skip)]
    pub erased: Option<Box<ErasedTexts>>,
    /// Steps that are posted later than on the day of their receipt, in order; hardly ever any.
    /// Written behind all else, by version 6 alone.
    #[serde(skip)]
    pub deferred: Vec<Deferred>,
}

/// The rates of one day, as stored beside its key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RatesRecord {
    /// The currency that the rates are of.
    pub base: [u8; 3],
    /// Currency, and billionths of it that one unit of the base buys.
    pub rates: Vec<([u8; 3], u64)>,
}

coded! { RATES_VERSION: RatesRecord }

mod audit;
mod counters;
mod deferred;
mod earned;
mod erased;
mod history;
mod inbound;
mod ledger;
/// Conversions as earlier versions wrote them.
mod old_conversions;

pub use audit::AuditRecord;
pub use counters::{
    CapSum, CapsRecord, ChangeRecord, Contribution, Counted, Counts, EventCounts, FallbackCounts,
    LateClickRecord, PlaceRecord, RefusedCounts, RefusedRecord, SubRecord, Tally,
};
pub use deferred::Deferred;
pub use earned::{Earned, EarnedInBase, Exchanged, InBase, PinnedRate};
pub use erased::{ErasedTexts, ErasureRecord};
pub use history::{HistoryEntry, reason_from_log};
pub use inbound::{
    InboundForm, InboundHead, InboundRow, begin_inbound_page, decode_inbound_page, encode_inbound,
    inbound_flags, pack_auth, unpack_auth,
};
pub use ledger::{Balance, Converted, Entries, Hash, PostingRecord, SealRecord};

impl<'a> ConversionRecord<'a> {
    /// Appends the record's bytes.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match &self.erased {
            _ if !self.deferred.is_empty() => {
                let behind = (&self.erased, &self.deferred);
                append(DEFERRED_CONVERSION_VERSION, &(self, behind), out);
            }
            None => append(CONVERSION_VERSION, self, out),
            Some(erased) => append(ERASED_CONVERSION_VERSION, &(self, erased), out),
        }
    }

    /// Reads a record back; texts borrow from `bytes`.
    ///
    /// # Errors
    /// When the version is unknown or the bytes do not decode.
    pub fn decode(bytes: &'a [u8]) -> Result<Self, RecordError> {
        match bytes.split_first() {
            Some((&CONVERSION_VERSION, rest)) => read(rest),
            Some((&ERASED_CONVERSION_VERSION, rest)) => erased::decode(rest),
            Some((&DEFERRED_CONVERSION_VERSION, rest)) => deferred::decode(rest),
            Some((&3, rest)) => old_conversions::decode_v3(rest),
            Some((&2, rest)) => old_conversions::decode_v2(rest),
            Some((&1, rest)) => old_conversions::decode_v1(rest),
            other => Err(unknown(other)),
        }
    }

    /// The status as a word; `None` if a newer release wrote it.
    #[must_use]
    pub fn status(&self) -> Option<Status> {
        Status::from_code(self.status)
    }

    /// Whose it is, whether its name was known or not: the click's affiliate.
    #[must_use]
    pub fn affiliate_number(&self) -> AffiliateNumber {
        RecordId::from_bytes(self.click).affiliate()
    }

    /// The flags that are set.
    pub fn flags(&self) -> impl Iterator<Item = Flag> {
        Flag::in_bits(self.flags)
    }
}

/// The bits of an encoded click's flags; none if it does not decode, which is no reason to lose a
/// conversion.
#[must_use]
pub fn click_flags(click: &[u8]) -> u32 {
    ClickRecord::decode(click).map_or(0, |record| record.flags)
}

/// Whether an encoded conversion says what is booked in the network's currency: records before
/// version 4 do not.
#[must_use]
pub fn has_base_booked(conversion: &[u8]) -> bool {
    conversion.first().is_some_and(|version| *version >= CONVERSION_VERSION)
}

/// The click that an encoded conversion belongs to, without a look at the rest.
#[must_use]
pub fn click_of(conversion: &[u8]) -> Option<RecordId> {
    conversion.get(1..17)?.try_into().ok().map(RecordId::from_bytes)
}

/// The value of a dedupe entry: version, conversion ID.
#[must_use]
pub fn encode_dedupe(conversion: RecordId) -> [u8; DEDUPE_VALUE_BYTES] {
    let mut value = [DEDUPE_VERSION; DEDUPE_VALUE_BYTES];
    value[1..].copy_from_slice(conversion.as_bytes());
    value
}

/// Reads the value of a dedupe entry.
///
/// # Errors
/// When the version is unknown or the length is wrong.
pub fn decode_dedupe(bytes: &[u8]) -> Result<RecordId, RecordError> {
    match bytes.split_first() {
        Some((&DEDUPE_VERSION, rest)) => {
            rest.try_into().map(RecordId::from_bytes).map_err(|_| RecordError::Corrupt)
        }
        other => Err(unknown(other)),
    }
}

/// What a customer is bound to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Binding {
    /// The conversion that bound it; it may be gone by now.
    pub conversion: RecordId,
    /// That conversion's click.
    pub click: RecordId,
}

impl Binding {
    /// The value of its row: version, conversion ID, click's record ID.
    #[must_use]
    pub fn encode(&self) -> [u8; BINDING_VALUE_BYTES] {
        let mut value = [BINDING_VERSION; BINDING_VALUE_BYTES];
        value[1..17].copy_from_slice(self.conversion.as_bytes());
        value[17..].copy_from_slice(self.click.as_bytes());
        value
    }

    /// Reads the value of its row.
    ///
    /// # Errors
    /// When the version is unknown or the length is wrong.
    pub fn decode(bytes: &[u8]) -> Result<Self, RecordError> {
        match bytes.split_first() {
            Some((&BINDING_VERSION, rest)) => {
                let (conversion, click) = rest.split_at_checked(16).ok_or(RecordError::Corrupt)?;
                let id = |bytes: &[u8]| bytes.try_into().map(RecordId::from_bytes);
                let corrupt = |_| RecordError::Corrupt;
                let (conversion, click) = (id(conversion), id(click));
                Ok(Self {
                    conversion: conversion.map_err(corrupt)?,
                    click: click.map_err(corrupt)?,
                })
            }
            other => Err(unknown(other)),
        }
    }
}

/// When the conversion of a dedupe entry was minted, Unix milliseconds.
#[must_use]
pub fn dedupe_minted_ms(bytes: &[u8]) -> Option<u64> {
    decode_dedupe(bytes).ok().map(|conversion| conversion.time_ms())
}

/// What is kept of a catalog beside its text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CatalogRecord {
    /// The version that is stamped on decisions.
    pub version: u64,
    /// When it came into force, Unix milliseconds.
    pub applied_ms: u64,
    /// Where it came from: 1 a file, 2 the API.
    pub source: u8,
    /// Language of its text: 1 TOML, 2 JSON.
    pub format: u8,
    /// Length of its text.
    pub text_bytes: u64,
    /// Advertisers in it.
    pub advertisers: u32,
    /// Offers in it.
    pub offers: u32,
    /// Affiliates in it.
    pub affiliates: u32,
    /// Links in it.
    pub links: u32,
}

coded! { CATALOG_VERSION: CatalogRecord }

impl CatalogRecord {
    /// The version of a text that was hashed: the first 8 bytes of its BLAKE3; 0 if it is empty.
    #[must_use]
    pub fn version_of(text: &blake3::Hasher) -> u64 {
        if text.count() == 0 {
            return 0;
        }
        let mut version = [0; 8];
        version.copy_from_slice(&text.finalize().as_bytes()[..8]);
        u64::from_be_bytes(version)
    }
}

/// A record behind its version byte.
fn read<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, RecordError> {
    postcard::from_bytes(bytes).map_err(|_| RecordError::Corrupt)
}

/// What a value begins with, and what comes behind it.
fn behind<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<(T, &'a [u8]), RecordError> {
    postcard::take_from_bytes(bytes).map_err(|_| RecordError::Corrupt)
}

/// What is wrong with a value of no version that this release knows.
fn unknown(value: Option<(&u8, &[u8])>) -> RecordError {
    RecordError::Version(value.map(|(version, _)| *version))
}

fn append<T: Serialize>(version: u8, record: &T, out: &mut Vec<u8>) {
    out.push(version);
    *out = postcard::to_extend(record, std::mem::take(out))
        .expect("records hold no type that postcard cannot write, and a Vec grows");
}
