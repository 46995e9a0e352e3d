// Hot path: no allocation, no panics.
//! What a postback claims: the keys under which its conversion may exist only once.

use xxhash_rust::xxh3::xxh3_128_with_seed;

use super::keys::DedupeKey;
use super::records::ConversionRecord;
use crate::click_id::RecordId;
use crate::limits::{CLAIMS_PER_POSTBACK_MAX, TXN_ID_BYTES_MAX};
use crate::model::ids::ID_BYTES_MAX;

/// Longest canonical form of a claim: tag, two lengths, three texts.
const CANONICAL_BYTES_MAX: usize = 1 + 2 + 2 + 2 * ID_BYTES_MAX + TXN_ID_BYTES_MAX;

/// One key that a conversion occupies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claim<'a> {
    /// The advertiser's transaction: one conversion per (advertiser, event, `txn_id`), for ever.
    Transaction {
        /// Advertiser's ID.
        advertiser: &'a str,
        /// Event's ID.
        event: &'a str,
        /// Transaction ID, at most [`TXN_ID_BYTES_MAX`] bytes.
        txn_id: &'a str,
    },
    /// An event of a click, for a postback without transaction ID.
    Event {
        /// The click.
        click: RecordId,
        /// Event's ID.
        event: &'a str,
        /// How long one acceptance holds, milliseconds; `None`: for ever.
        window_ms: Option<u64>,
    },
    /// The click itself, where the offer allows one conversion per click.
    Click(RecordId),
}

impl Claim<'_> {
    /// Whether a conversion minted at `minted_ms` still holds this claim at `now_ms`.
    #[must_use]
    pub fn is_held(&self, minted_ms: u64, now_ms: u64) -> bool {
        match self {
            Self::Event { window_ms: Some(window), .. } => {
                now_ms < minted_ms.saturating_add(*window)
            }
            _ => true,
        }
    }

    /// The claim's bit in [`ConversionRecord::claims`]. Part of the store format.
    const fn bit(&self) -> u8 {
        match self {
            Self::Transaction { .. } => 1,
            Self::Event { .. } => 2,
            Self::Click(_) => 4,
        }
    }

    /// The key in the cache: 128 bits of xxh3 under the process's own seed.
    #[must_use]
    pub fn cache_key(&self, seed: u64) -> [u8; 16] {
        self.canonical(|bytes| xxh3_128_with_seed(bytes, seed).to_ne_bytes())
    }

    /// The key in the store: 128 bits of BLAKE3.
    #[must_use]
    pub fn store_key(&self) -> DedupeKey {
        self.canonical(|bytes| {
            let mut key = [0; 16];
            key.copy_from_slice(&blake3::hash(bytes).as_bytes()[..16]);
            DedupeKey(key)
        })
    }

    /// Unambiguous bytes: a tag, then every text but the last with its length before it. Part of
    /// the store format.
    fn canonical<T>(&self, hash: impl FnOnce(&[u8]) -> T) -> T {
        let mut buffer = Canonical { bytes: [0; CANONICAL_BYTES_MAX], len: 0 };
        match self {
            Self::Transaction { advertiser, event, txn_id } => {
                buffer.push(b"t");
                buffer.push_counted(advertiser);
                buffer.push_counted(event);
                buffer.push(txn_id.as_bytes());
            }
            Self::Event { click, event, .. } => {
                buffer.push(b"e");
                buffer.push(click.as_bytes());
                buffer.push(event.as_bytes());
            }
            Self::Click(click) => {
                buffer.push(b"c");
                buffer.push(click.as_bytes());
            }
        }
        hash(&buffer.bytes[..buffer.len])
    }
}

struct Canonical {
    bytes: [u8; CANONICAL_BYTES_MAX],
    len: usize,
}

impl Canonical {
    fn push(&mut self, bytes: &[u8]) {
        debug_assert!(self.len + bytes.len() <= CANONICAL_BYTES_MAX, "texts are checked before");
        let end = (self.len + bytes.len()).min(CANONICAL_BYTES_MAX);
        let room = end - self.len;
        self.bytes[self.len..end].copy_from_slice(&bytes[..room]);
        self.len = end;
    }

    fn push_counted(&mut self, text: &str) {
        self.push(&(text.len() as u16).to_be_bytes());
        self.push(text.as_bytes());
    }
}

/// All claims of one postback.
#[derive(Clone, Copy, Debug)]
pub struct ClaimSet<'a> {
    claims: [Option<Claim<'a>>; CLAIMS_PER_POSTBACK_MAX],
}

impl<'a> ClaimSet<'a> {
    /// The transaction's or event's claim, and the click's where the offer wants it.
    #[must_use]
    pub fn new(first: Claim<'a>, click: Option<RecordId>) -> Self {
        Self { claims: [Some(first), click.map(Claim::Click)] }
    }

    /// The claims that a stored conversion holds, by what its record says alone. A window is the
    /// catalog's to know and not part of any key.
    #[must_use]
    pub fn of_record(record: &ConversionRecord<'a>) -> Self {
        let click = RecordId::from_bytes(record.click);
        let ConversionRecord { advertiser, event, txn_id, .. } = *record;
        let all = [
            Claim::Transaction { advertiser, event, txn_id },
            Claim::Event { click, event, window_ms: None },
            Claim::Click(click),
        ];
        let mut held = all.into_iter().filter(|claim| record.claims & claim.bit() != 0);
        Self { claims: std::array::from_fn(|_| held.next()) }
    }

    /// The claims to hold while a stored conversion is changed: those that it holds, or, where its
    /// record does not say, those that it may hold.
    #[must_use]
    pub fn to_change(record: &ConversionRecord<'a>) -> Self {
        if record.claims != 0 {
            return Self::of_record(record);
        }
        let click = RecordId::from_bytes(record.click);
        let ConversionRecord { advertiser, event, txn_id, .. } = *record;
        let first = if txn_id.is_empty() {
            Claim::Event { click, event, window_ms: None }
        } else {
            Claim::Transaction { advertiser, event, txn_id }
        };
        Self::new(first, Some(click))
    }

    /// The transaction's or event's claim alone.
    #[must_use]
    pub const fn first(&self) -> Self {
        Self { claims: [self.claims[0], None] }
    }

    /// Which claims these are, for [`ConversionRecord::claims`].
    #[must_use]
    pub fn bits(&self) -> u8 {
        self.iter().fold(0, |bits, claim| bits | claim.bit())
    }

    /// The claims.
    pub fn iter(&self) -> impl Iterator<Item = Claim<'a>> {
        self.claims.iter().flatten().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn transaction<'a>(advertiser: &'a str, event: &'a str, txn_id: &'a str) -> Claim<'a> {
        Claim::Transaction { advertiser, event, txn_id }
    }

    #[test]
    fn texts_cannot_be_shifted_between_fields() {
        let check = |a: Claim<'_>, b: Claim<'_>| {
            assert_ne!(a.store_key(), b.store_key(), "{a:?} {b:?}");
            assert_ne!(a.cache_key(1), b.cache_key(1), "{a:?} {b:?}");
        };
        check(transaction("ab", "c", "d"), transaction("a", "bc", "d"));
        check(transaction("a", "bc", "d"), transaction("a", "b", "cd"));
        check(transaction("a", "b", ""), transaction("a", "", "b"));
        let click = RecordId::from_bytes([1; 16]);
        let event = |event| Claim::Event { click, event, window_ms: None };
        check(event("sale"), event("sal"));
        check(event(""), Claim::Click(click));
    }

    #[test]
    fn the_store_key_is_pinned() {
        // Part of the store format: if this changes, every conversion could be counted again.
        let key = transaction("acme", "sale", "T-1").store_key();
        let hash = blake3::hash(b"t\x00\x04acme\x00\x04saleT-1");
        assert_eq!(key.0, hash.as_bytes()[..16]);
    }

    #[test]
    fn only_a_windowed_event_can_be_claimed_anew() {
        let click = RecordId::from_bytes([1; 16]);
        let event = Claim::Event { click, event: "deposit", window_ms: Some(100) };
        assert!(event.is_held(1000, 1099));
        assert!(!event.is_held(1000, 1100));
        assert!(event.is_held(1000, 900), "a clock set back does not open it");
        assert!(transaction("a", "b", "c").is_held(0, u64::MAX));
        assert!(Claim::Click(click).is_held(0, u64::MAX));
    }

    #[test]
    fn the_longest_claim_fits() {
        let id = "x".repeat(ID_BYTES_MAX);
        let txn = "y".repeat(TXN_ID_BYTES_MAX);
        let one = transaction(&id, &id, &txn).store_key();
        let other = transaction(&id, &id, &txn[1..]).store_key();
        assert_ne!(one, other);
    }
}
