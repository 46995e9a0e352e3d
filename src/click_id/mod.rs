// Hot path: no allocation, no locks beyond one atomic, no panics on input.
//! The click ID that proves itself, and the conversion ID that shares its first half.
//!
//! | bytes | what |
//! |---|---|
//! | 0–5 | Unix time, milliseconds, big-endian |
//! | 6–9 | version (2 bits), node (10), start (6), sequence (14), big-endian |
//! | 10–12 | offer number |
//! | 13–15 | affiliate number |
//! | 16–23 | keyed BLAKE3 of bytes 0–15, first 8 bytes |
//!
//! Printed as 33 base62 digits, most significant first, so text sorts as bytes do. The first 16
//! bytes are the store's key. *Start* counts the process's starts: two processes that lived
//! through the same millisecond (a restart, a clock set back) still differ.

mod base62;

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

pub use base62::Text;
use base62::{decode, limb};

use crate::model::ids::{AffiliateNumber, OfferNumber};

/// Printed length of a click ID, in characters.
pub const CLICK_ID_CHARS: usize = 33;
/// Printed length of a conversion ID, in characters.
pub const CONVERSION_ID_CHARS: usize = 22;
/// Highest node number; ten bits.
pub const NODE_MAX: u16 = 1023;

const VERSION: u32 = 0;
const SEQUENCE_BITS: u32 = 14;
const START_BITS: u32 = 6;
const NODE_BITS: u32 = 10;
const TIME_MS_MAX: u64 = (1 << 48) - 1;

const _: () = assert!(NODE_MAX as u32 == (1 << NODE_BITS) - 1);
const _: () = assert!(2 + NODE_BITS + START_BITS + SEQUENCE_BITS == 32);

/// The 16 bytes that name a click or a conversion in the store: time, origin, offer, affiliate.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RecordId([u8; 16]);

impl RecordId {
    /// Wraps bytes read back from the store.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// The store's key.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }

    /// When it was minted, Unix milliseconds.
    #[must_use]
    pub fn time_ms(&self) -> u64 {
        let b = &self.0;
        u64::from_be_bytes([0, 0, b[0], b[1], b[2], b[3], b[4], b[5]])
    }

    /// The offer it belongs to.
    #[must_use]
    pub fn offer(&self) -> OfferNumber {
        OfferNumber::from_be_bytes([self.0[10], self.0[11], self.0[12]])
    }

    /// The affiliate it belongs to.
    #[must_use]
    pub fn affiliate(&self) -> AffiliateNumber {
        AffiliateNumber::from_be_bytes([self.0[13], self.0[14], self.0[15]])
    }

    /// Its 22 base62 characters: the printed form of a conversion ID.
    #[must_use]
    pub fn to_text(&self) -> Text<CONVERSION_ID_CHARS> {
        let r = &self.0;
        Text::encode([limb(r, 0), limb(r, 4), limb(r, 8), limb(r, 12)])
    }

    /// Reads the 22 characters of a conversion ID.
    #[must_use]
    pub fn parse(text: &[u8]) -> Option<Self> {
        let [high, low]: [u64; 2] = decode::<2>(text, CONVERSION_ID_CHARS)?;
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&high.to_be_bytes());
        bytes[8..].copy_from_slice(&low.to_be_bytes());
        Some(Self(bytes))
    }
}

impl fmt::Debug for RecordId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.to_text().as_str())
    }
}

/// A click ID: a record ID and the MAC that proves this network minted it.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct ClickId {
    record: RecordId,
    mac: [u8; 8],
    /// What travels; kept because it is sent back with most answers.
    text: Text<CLICK_ID_CHARS>,
}

impl ClickId {
    /// The part that is stored and looked up.
    #[must_use]
    pub const fn record(&self) -> RecordId {
        self.record
    }

    /// The part that proves it.
    #[must_use]
    pub const fn mac(&self) -> [u8; 8] {
        self.mac
    }

    /// Puts together what was verified once and stored in two parts.
    #[must_use]
    pub fn from_parts(record: RecordId, mac: [u8; 8]) -> Self {
        let r = &record.0;
        let (low, m) = (limb(r, 12), &mac);
        let text = Text::encode([limb(r, 0), limb(r, 4), limb(r, 8), low, limb(m, 0), limb(m, 4)]);
        Self { record, mac, text }
    }

    /// The 33 characters that travel.
    #[must_use]
    pub const fn to_text(&self) -> Text<CLICK_ID_CHARS> {
        self.text
    }
}

impl fmt::Debug for ClickId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text.as_str())
    }
}

/// Why a text is not a click ID of this network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClickIdError {
    /// Another number of characters than 33; carries how many there were.
    #[error("{0} characters instead of 33")]
    Length(usize),
    /// A character outside `0-9A-Za-z`, a number too large, or an unknown version.
    #[error("not a base62 click ID")]
    Malformed,
    /// Well-formed, but no key of this network signed it.
    #[error("not signed by this network")]
    Forged,
}

/// The keys that sign and verify click IDs: the first signs, all verify.
#[derive(Clone)]
pub struct Keyring {
    signing: [u8; 32],
    retired: Vec<[u8; 32]>,
}

impl Keyring {
    /// `signing` signs new click IDs; `retired` keys still verify old ones.
    #[must_use]
    pub fn new(signing: [u8; 32], retired: Vec<[u8; 32]>) -> Self {
        Self { signing, retired }
    }

    /// Signs a record ID.
    #[must_use]
    pub fn sign(&self, record: RecordId) -> ClickId {
        ClickId::from_parts(record, mac(&self.signing, &record))
    }

    /// Reads and verifies the text of a click ID.
    ///
    /// # Errors
    /// When the text is not a click ID, or none of the keys signed it.
    pub fn verify(&self, text: &[u8]) -> Result<ClickId, ClickIdError> {
        self.verify_beside(text, |_| ()).map(|(id, ())| id)
    }

    /// As [`Keyring::verify`]; `look_up` is asked before the ID is known to be genuine, so that
    /// memory answers while the check computes. What it finds is given away only if it is.
    ///
    /// # Errors
    /// As [`Keyring::verify`].
    #[inline]
    pub fn verify_beside<T>(
        &self,
        text: &[u8],
        look_up: impl FnOnce(RecordId) -> T,
    ) -> Result<(ClickId, T), ClickIdError> {
        let Some(text) = text.first_chunk().filter(|_| text.len() == CLICK_ID_CHARS) else {
            return Err(ClickIdError::Length(text.len()));
        };
        let [high, middle, low]: [u64; 3] =
            decode::<3>(text, CLICK_ID_CHARS).ok_or(ClickIdError::Malformed)?;
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&high.to_be_bytes());
        bytes[8..].copy_from_slice(&middle.to_be_bytes());
        if u32::from(bytes[6] >> 6) != VERSION {
            return Err(ClickIdError::Malformed);
        }
        // What decodes is made of base62 digits only.
        let text = Text(*text);
        let id = ClickId { record: RecordId(bytes), mac: low.to_be_bytes(), text };
        let found = look_up(id.record);
        let genuine = std::iter::once(&self.signing)
            .chain(&self.retired)
            .any(|key| same(&mac(key, &id.record), &id.mac));
        if genuine { Ok((id, found)) } else { Err(ClickIdError::Forged) }
    }

    /// The first genuine click ID in a text: a word of letters and digits, or its start or end.
    #[must_use]
    pub fn find(&self, text: &[u8]) -> Option<ClickId> {
        let ends = |word: &[u8]| {
            let [start, end] = [word.first_chunk(), word.last_chunk::<CLICK_ID_CHARS>()];
            start.and_then(|it| self.verify(it).ok()).or_else(|| self.verify(end?).ok())
        };
        text.split(|byte| !byte.is_ascii_alphanumeric()).find_map(ends)
    }
}

impl fmt::Debug for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Keyring({} keys)", 1 + self.retired.len())
    }
}

/// Mints record IDs that are unique to this node and never run backwards.
///
/// The last time and sequence are one number: the next is the larger of "now, sequence 0" and
/// "last plus one". A clock that steps back, or a millisecond with more than 16,384 mints,
/// borrows from the future instead of repeating.
#[derive(Debug)]
pub struct Minter {
    origin: u32,
    last: AtomicU64,
}

impl Minter {
    /// A minter for `node`, in its `start`-th process, that continues after `last_time_ms`, the
    /// time of the newest record in the store.
    #[must_use]
    pub fn new(node: u16, start: u64, last_time_ms: u64) -> Self {
        let start = (start & ((1 << START_BITS) - 1)) as u32;
        let node = u32::from(node.min(NODE_MAX));
        let origin = VERSION << 30 | node << (START_BITS + SEQUENCE_BITS) | start << SEQUENCE_BITS;
        let last = last_time_ms.min(TIME_MS_MAX) << SEQUENCE_BITS | ((1 << SEQUENCE_BITS) - 1);
        let last = AtomicU64::new(if last_time_ms == 0 { 0 } else { last });
        Self { origin, last }
    }

    /// Whether the ID, if it is genuine, is of this node and start. Starts repeat after 64, and
    /// begin anew with an empty store; whoever relies on it looks at the time, too.
    #[must_use]
    pub fn is_of_this_start(&self, id: RecordId) -> bool {
        limb(&id.0, 6) & !((1 << SEQUENCE_BITS) - 1) == self.origin
    }

    /// How far the next ID runs ahead of a clock that shows `now_ms`, milliseconds.
    #[must_use]
    pub fn ahead_ms(&self, now_ms: u64) -> u64 {
        ((self.last.load(Ordering::Relaxed) + 1) >> SEQUENCE_BITS).saturating_sub(now_ms)
    }

    /// The next record ID at `now_ms`.
    pub fn mint(&self, now_ms: u64, offer: OfferNumber, affiliate: AffiliateNumber) -> RecordId {
        let floor = now_ms.min(TIME_MS_MAX) << SEQUENCE_BITS;
        let next = |last: u64| (last + 1).max(floor);
        let mut last = self.last.load(Ordering::Relaxed);
        while let Err(seen) =
            self.last.compare_exchange_weak(last, next(last), Ordering::Relaxed, Ordering::Relaxed)
        {
            last = seen;
        }
        let minted = next(last);
        let mut bytes = [0; 16];
        bytes[..6].copy_from_slice(&(minted >> SEQUENCE_BITS).to_be_bytes()[2..]);
        let sequence = (minted & ((1 << SEQUENCE_BITS) - 1)) as u32;
        bytes[6..10].copy_from_slice(&(self.origin | sequence).to_be_bytes());
        bytes[10..13].copy_from_slice(&offer.to_be_bytes());
        bytes[13..].copy_from_slice(&affiliate.to_be_bytes());
        RecordId(bytes)
    }
}

fn mac(key: &[u8; 32], record: &RecordId) -> [u8; 8] {
    let mut out = [0; 8];
    out.copy_from_slice(&blake3::keyed_hash(key, &record.0).as_bytes()[..8]);
    out
}

/// Compares without leaking through time where the first difference is.
fn same(a: &[u8; 8], b: &[u8; 8]) -> bool {
    u64::from_ne_bytes(*a) ^ u64::from_ne_bytes(*b) == 0
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn offer(n: u32) -> OfferNumber {
        OfferNumber::new(n).expect("24 bits")
    }

    fn affiliate(n: u32) -> AffiliateNumber {
        AffiliateNumber::new(n).expect("24 bits")
    }

    fn keyring() -> Keyring {
        Keyring::new([7; 32], vec![])
    }

    #[test]
    fn a_minter_knows_the_ids_of_its_start() {
        let (offer, affiliate) = (OfferNumber::NONE, AffiliateNumber::NONE);
        let minter = Minter::new(3, 7, 1_000);
        for _ in 0..20_000 {
            assert!(minter.is_of_this_start(minter.mint(2_000, offer, affiliate)));
        }
        for other in [Minter::new(4, 7, 1_000), Minter::new(3, 8, 1_000)] {
            assert!(!minter.is_of_this_start(other.mint(2_000, offer, affiliate)));
        }
    }

    #[test]
    fn a_click_id_carries_time_offer_and_affiliate() {
        let minter = Minter::new(1023, 63, 0);
        let record = minter.mint(1_763_712_000_123, offer(0xABCDEF), affiliate(3));
        let id = keyring().sign(record);
        let back = keyring().verify(id.to_text().as_str().as_bytes()).expect("our own");
        assert_eq!(back.record().time_ms(), 1_763_712_000_123);
        assert_eq!(back.record().offer(), offer(0xABCDEF));
        assert_eq!(back.record().affiliate(), affiliate(3));
    }

    #[test]
    fn changing_any_character_is_noticed() {
        let id =
            keyring().sign(Minter::new(1, 1, 0).mint(1_763_712_000_000, offer(1), affiliate(2)));
        let text = id.to_text();
        for place in 0..CLICK_ID_CHARS {
            for &digit in super::base62::DIGITS {
                let mut changed = text.0;
                if changed[place] == digit {
                    continue;
                }
                changed[place] = digit;
                assert!(keyring().verify(&changed).is_err(), "place {place} digit {digit}");
            }
        }
    }

    #[test]
    fn each_mistake_has_its_own_error() {
        let check = |text: &str, expected| {
            assert_eq!(keyring().verify(text.as_bytes()), Err(expected), "{text}")
        };
        check("", ClickIdError::Length(0));
        check("TEST_123", ClickIdError::Length(8));
        check("zzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzz", ClickIdError::Malformed);
        check("_00000000000000000000000000000000", ClickIdError::Malformed);
        check("000000000000000000000000000000000", ClickIdError::Forged);
    }

    #[test]
    fn a_retired_key_still_verifies_and_a_foreign_one_never() {
        let record = Minter::new(0, 0, 0).mint(1, offer(1), affiliate(1));
        let old = keyring().sign(record).to_text();
        let rotated = Keyring::new([8; 32], vec![[7; 32]]);
        assert!(rotated.verify(old.as_str().as_bytes()).is_ok());
        assert_eq!(
            Keyring::new([9; 32], vec![]).verify(old.as_str().as_bytes()),
            Err(ClickIdError::Forged)
        );
    }

    #[test]
    fn ids_stay_unique_and_ascending_when_the_clock_steps_back() {
        let minter = Minter::new(5, 1, 0);
        let mut last = minter.mint(10_000, offer(1), affiliate(1));
        for now in [10_000, 9_000, 10_001, 3, 10_001, 10_002] {
            for _ in 0..20_000 {
                let next = minter.mint(now, offer(1), affiliate(1));
                assert!(next > last);
                last = next;
            }
        }
    }

    #[test]
    fn ids_run_ahead_of_a_clock_that_was_set_back_until_it_has_caught_up() {
        let minter = Minter::new(5, 1, 0);
        assert_eq!(minter.ahead_ms(0), 0);
        minter.mint(10_000, offer(1), affiliate(1));
        let ahead = [10_000, 9_000, 10_001].map(|now_ms| minter.ahead_ms(now_ms));
        assert_eq!(ahead, [0, 1_000, 0]);
        let again = Minter::new(5, 2, 10_000);
        assert_eq!(again.ahead_ms(4_000), 6_001, "after the last ID of that millisecond");
        assert_eq!(again.mint(4_000, offer(1), affiliate(1)).time_ms(), 10_001);
    }

    #[test]
    fn a_restart_continues_after_the_newest_record_and_differs_from_it() {
        let before = Minter::new(5, 1, 0).mint(10_000, offer(1), affiliate(1));
        let after = Minter::new(5, 2, 10_000).mint(9_000, offer(1), affiliate(1));
        assert!(after > before);
        let same_ms = Minter::new(5, 2, 0).mint(10_000, offer(1), affiliate(1));
        assert_ne!(same_ms, before, "the start counter tells them apart");
    }

    #[test]
    fn threads_never_mint_the_same_id() {
        let minter = Minter::new(0, 0, 0);
        let mut all: Vec<RecordId> = std::thread::scope(|scope| {
            let mint =
                || (0..10_000).map(|_| minter.mint(7, offer(1), affiliate(1))).collect::<Vec<_>>();
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(mint)).collect();
            threads.into_iter().flat_map(|t| t.join().expect("no panic")).collect()
        });
        all.sort();
        all.dedup();
        assert_eq!(all.len(), 40_000);
    }

    proptest! {
        #[test]
        fn text_and_bytes_agree_and_sort_alike(a: [u8; 16], b: [u8; 16], mac_a: u64) {
            let (ra, rb) = (RecordId(a), RecordId(b));
            prop_assert_eq!(RecordId::parse(ra.to_text().as_str().as_bytes()), Some(ra));
            prop_assert_eq!(ra.cmp(&rb), ra.to_text().as_str().cmp(rb.to_text().as_str()));
            let id = ClickId::from_parts(ra, mac_a.to_be_bytes());
            let [h, m, l] = decode::<3>(id.to_text().as_str().as_bytes(), CLICK_ID_CHARS).expect("round trip");
            prop_assert_eq!([h.to_be_bytes(), m.to_be_bytes()].concat(), a.to_vec());
            prop_assert_eq!(l, mac_a);
        }

        #[test]
        fn no_input_panics(bytes: Vec<u8>) {
            let _ = keyring().verify(&bytes);
            let _ = RecordId::parse(&bytes);
        }
    }
}
