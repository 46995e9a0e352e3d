//! Every key's bytes, encoded and decoded here only. Integers are big-endian, so keys sort as
//! their meaning does.

mod audit;
mod counters;
mod inbound;
mod owners;
mod pricing;

pub use audit::{AUDIT_KEY_BYTES, AuditKey, all_audit, audit_from};
pub use counters::{
    COUNTED, Place, cap_sums, cap_sums_end, cap_sums_from, cap_sums_of, change, change_of,
    changes_from, counter, counters, counters_from, late_click, late_click_of, late_clicks_from,
    place_of, refused, refused_from, refused_of, sub_counter, sub_counters_end, sub_counters_from,
    sub_counters_of, sub_of,
};
pub use inbound::{
    INBOUND_CLICK_KEY_BYTES, INBOUND_PAGE_KEY_BYTES, InboundId, inbound_click, inbound_click_day,
    inbound_click_of, inbound_click_range, inbound_clicks_from, inbound_page, inbound_page_id,
    inbound_page_of, inbound_pages_end,
};
pub use owners::{customer_window, customer_windows, owned_offer, owner, owners, windowed_offer};
pub use pricing::{all_to_price, to_price, to_price_of};

use crate::click_id::RecordId;
use crate::model::ids::AffiliateNumber;
use crate::model::period::Day;

/// Key of a click or a conversion: the record ID itself.
pub const RECORD_KEY_BYTES: usize = 16;
/// A click's or conversion's key.
pub type RecordKey = [u8; RECORD_KEY_BYTES];
/// Key of a row that leads from a click to one of its conversions.
pub const BY_CLICK_KEY_BYTES: usize = 2 * RECORD_KEY_BYTES;
/// Key of a posting: tag, affiliate's number, day, conversion, step.
pub const POSTING_KEY_BYTES: usize = LEDGER_DAY_BYTES + RECORD_KEY_BYTES + 2;
/// Key of a seal, and what the keys of a day's postings begin with: tag, affiliate's number, day.
pub const LEDGER_DAY_BYTES: usize = 1 + 3 + 4;
/// Key of a claim.
pub const DEDUPE_KEY_BYTES: usize = 16;
/// Key of a row that leads from a customer to one of its conversions.
pub const OF_CUSTOMER_KEY_BYTES: usize = DEDUPE_KEY_BYTES + RECORD_KEY_BYTES;

/// Sorts after every key of a fixed width that the store uses.
pub const KEY_END: [u8; BY_CLICK_KEY_BYTES + 1] = [0xFF; BY_CLICK_KEY_BYTES + 1];

/// `meta`: the store format's version, 4 bytes.
pub const META_FORMAT: &[u8] = b"format";
/// `meta`: how often the store was opened by a server, 8 bytes.
pub const META_STARTS: &[u8] = b"starts";
/// `meta`: the click ID key made at the first start, 32 bytes.
pub const META_CLICK_KEY: &[u8] = b"click_key";

/// `meta`: the record key below which index rows of conversions are filed, 16 bytes.
pub const META_FILED: &[u8] = b"filed";
/// `meta`: the record key below which conversions were let go by retention, 16 bytes.
pub const META_EXPIRED: &[u8] = b"expired";
/// `meta`: the record key below which clicks were let go by retention, 16 bytes.
pub const META_EXPIRED_CLICKS: &[u8] = b"expired_clicks";
/// `meta`: the time that retention goes by, 8 bytes, and its doubt of the clock, 8 bytes.
pub const META_RETENTION_TIME: &[u8] = b"retention_time";
/// `meta`: the first numbers that may be given to offers and affiliates, twice 4 bytes.
pub const META_NUMBERS_FROM: &[u8] = b"numbers_from";
/// `meta`: the first day to which may be posted, since none from it on is sealed, 4 bytes.
pub const META_UNSEALED: &[u8] = b"unsealed";
/// `meta`: first bytes of the keys of erasures that are under way.
const META_ERASURE: &[u8; 6] = b"erase_";
/// First byte of the `ledger` keys of postings.
const POSTING_TAG: u8 = b'p';
/// First byte of the `ledger` keys of seals.
const SEAL_TAG: u8 = b's';
/// First byte of the `catalog` keys that hold rates.
const RATES_TAG: u8 = b'r';

/// A claim on a conversion, as a collision-resistant hash: 128 bits of BLAKE3.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DedupeKey(pub [u8; DEDUPE_KEY_BYTES]);

/// Which numbers a `catalog` key assigns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Numbered {
    /// Offer ID → offer number.
    Offer,
    /// Affiliate ID → affiliate number.
    Affiliate,
}

impl Numbered {
    const fn tag(self) -> u8 {
        match self {
            Self::Offer => b'o',
            Self::Affiliate => b'a',
        }
    }
}

/// Whose data are erased.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Subject {
    /// Those of a click's visitor.
    Click(RecordId),
    /// Those of an advertiser's customer, by the key of its claim.
    Customer(DedupeKey),
}

impl Subject {
    /// Whose data they are, and nothing more.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Click(_) => "click",
            Self::Customer(_) => "customer",
        }
    }
}

/// The `meta` key of an erasure that is under way.
#[must_use]
pub fn erasure(subject: Subject) -> [u8; 23] {
    let mut key = [0; 23];
    let (kind, id) = match &subject {
        Subject::Click(click) => (b'c', click.as_bytes()),
        Subject::Customer(customer) => (b'u', &customer.0),
    };
    key[..6].copy_from_slice(META_ERASURE);
    key[6] = kind;
    key[7..].copy_from_slice(id);
    key
}

/// The range of all keys of [`erasure`].
#[must_use]
pub const fn erasures() -> (&'static [u8], &'static [u8]) {
    (META_ERASURE, b"erase`")
}

/// Whose erasure a key of [`erasure`] is.
#[must_use]
pub fn erasure_of(key: &[u8]) -> Option<Subject> {
    let (kind, id) = key.strip_prefix(META_ERASURE)?.split_first()?;
    let id = <[u8; 16]>::try_from(id).ok()?;
    match kind {
        b'c' => Some(Subject::Click(RecordId::from_bytes(id))),
        b'u' => Some(Subject::Customer(DedupeKey(id))),
        _ => None,
    }
}

/// The key under which `click` leads to `conversion`.
#[must_use]
pub fn by_click(click: RecordId, conversion: RecordId) -> [u8; BY_CLICK_KEY_BYTES] {
    leading(click.as_bytes(), conversion)
}

/// The conversion to which a key of `by_click`, or such a one of `customers`, leads.
#[must_use]
pub fn conversion_of(key: &[u8]) -> Option<RecordId> {
    record(key.get(RECORD_KEY_BYTES..)?)
}

/// The key under which a customer leads to `conversion`. The customer's binding has the key of
/// its claim alone.
#[must_use]
pub fn of_customer(customer: DedupeKey, conversion: RecordId) -> [u8; OF_CUSTOMER_KEY_BYTES] {
    leading(&customer.0, conversion)
}

/// The customer and the conversion of such a key; `None` for a binding's.
#[must_use]
pub fn customer_and_conversion(key: &[u8]) -> Option<(DedupeKey, RecordId)> {
    let (customer, conversion) = key.split_first_chunk()?;
    Some((DedupeKey(*customer), record(conversion)?))
}

/// The range of a customer's rows but its binding, from a conversion's key on.
#[must_use]
pub fn of_customer_range(
    customer: DedupeKey,
    from: RecordKey,
) -> ([u8; OF_CUSTOMER_KEY_BYTES], [u8; OF_CUSTOMER_KEY_BYTES + 1]) {
    let mut end = KEY_END;
    end[..DEDUPE_KEY_BYTES].copy_from_slice(&customer.0);
    (of_customer(customer, RecordId::from_bytes(from)), end)
}

/// The key under which something leads to `conversion`.
fn leading(from: &[u8; 16], conversion: RecordId) -> [u8; 32] {
    let mut key = [0; 32];
    key[..16].copy_from_slice(from);
    key[16..].copy_from_slice(conversion.as_bytes());
    key
}

/// Reads a record key.
#[must_use]
pub fn record(key: &[u8]) -> Option<RecordId> {
    key.try_into().ok().map(RecordId::from_bytes)
}

/// The key right after a record's.
#[must_use]
pub fn after(record: RecordId) -> RecordKey {
    u128::from_be_bytes(*record.as_bytes()).saturating_add(1).to_be_bytes()
}

/// The first possible record key of a millisecond.
#[must_use]
pub fn first_at(time_ms: u64) -> RecordKey {
    let mut key = [0; RECORD_KEY_BYTES];
    key[..6].copy_from_slice(&time_ms.min((1 << 48) - 1).to_be_bytes()[2..]);
    key
}

/// The first `by_click` key of a click, and the end of its range.
#[must_use]
pub fn by_click_range(click: RecordId) -> ([u8; RECORD_KEY_BYTES], [u8; BY_CLICK_KEY_BYTES + 1]) {
    let mut end = KEY_END;
    end[..RECORD_KEY_BYTES].copy_from_slice(click.as_bytes());
    (*click.as_bytes(), end)
}

/// The key under which an offer's or affiliate's number is kept.
#[must_use]
pub fn number(of: Numbered, id: &str) -> Vec<u8> {
    let mut key = Vec::with_capacity(1 + id.len());
    key.push(of.tag());
    key.extend_from_slice(id.as_bytes());
    key
}

/// The range of all keys of [`number`] of one kind.
#[must_use]
pub fn number_range(of: Numbered) -> ([u8; 1], [u8; 1]) {
    ([of.tag()], [of.tag() + 1])
}

/// The `catalog` key of a day's rates.
#[must_use]
pub fn rates(day: Day) -> [u8; 5] {
    let [a, b, c, d] = day.get().to_be_bytes();
    [RATES_TAG, a, b, c, d]
}

/// The range of all keys of [`rates`].
#[must_use]
pub const fn rates_range() -> ([u8; 1], [u8; 1]) {
    ([RATES_TAG], [RATES_TAG + 1])
}

/// The day in a key of [`rates`].
#[must_use]
pub fn rates_day(key: &[u8]) -> Option<Day> {
    let days = key.get(1..)?.try_into().ok()?;
    Some(Day::new(u32::from_be_bytes(days)))
}

/// The place of a posting in the ledger: an affiliate's postings lie together, day by day.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PostingKey {
    /// Whose.
    pub affiliate: AffiliateNumber,
    /// The day on which it was posted.
    pub day: Day,
    /// What it is for.
    pub conversion: RecordId,
    /// Which step of the conversion's history, the first being 0.
    pub step: u16,
}

impl PostingKey {
    /// The key's bytes.
    #[must_use]
    pub fn encode(&self) -> [u8; POSTING_KEY_BYTES] {
        let mut key = [0; POSTING_KEY_BYTES];
        let (day, rest) = key.split_at_mut(LEDGER_DAY_BYTES);
        day.copy_from_slice(&postings_from(self.affiliate, self.day));
        rest[..RECORD_KEY_BYTES].copy_from_slice(self.conversion.as_bytes());
        rest[RECORD_KEY_BYTES..].copy_from_slice(&self.step.to_be_bytes());
        key
    }

    /// Reads a posting's key.
    #[must_use]
    pub fn decode(key: &[u8]) -> Option<Self> {
        let key: &[u8; POSTING_KEY_BYTES] = key.try_into().ok()?;
        let (place, rest) = key.split_at(LEDGER_DAY_BYTES);
        let (affiliate, day) = ledger_day(POSTING_TAG, place)?;
        let (conversion, step) = rest.split_at(RECORD_KEY_BYTES);
        let step = u16::from_be_bytes(step.try_into().ok()?);
        Some(Self { affiliate, day, conversion: record(conversion)?, step })
    }
}

/// The first possible key of a posting of an affiliate on a day or later.
#[must_use]
pub fn postings_from(affiliate: AffiliateNumber, day: Day) -> [u8; LEDGER_DAY_BYTES] {
    ledger_key(POSTING_TAG, affiliate, day)
}

/// The key of the seal over an affiliate's day.
#[must_use]
pub fn seal(affiliate: AffiliateNumber, day: Day) -> [u8; LEDGER_DAY_BYTES] {
    ledger_key(SEAL_TAG, affiliate, day)
}

/// The affiliate and the day in a key of [`seal`].
#[must_use]
pub fn seal_of(key: &[u8]) -> Option<(AffiliateNumber, Day)> {
    ledger_day(SEAL_TAG, key)
}

/// The range of all postings.
#[must_use]
pub const fn all_postings() -> ([u8; 1], [u8; 1]) {
    ([POSTING_TAG], [POSTING_TAG + 1])
}

/// The range of all seals.
#[must_use]
pub const fn all_seals() -> ([u8; 1], [u8; 1]) {
    ([SEAL_TAG], [SEAL_TAG + 1])
}

fn ledger_key(tag: u8, affiliate: AffiliateNumber, day: Day) -> [u8; LEDGER_DAY_BYTES] {
    let ([x, y, z], [a, b, c, d]) = (affiliate.to_be_bytes(), day.get().to_be_bytes());
    [tag, x, y, z, a, b, c, d]
}

fn ledger_day(tag: u8, key: &[u8]) -> Option<(AffiliateNumber, Day)> {
    let [found, x, y, z, a, b, c, d]: [u8; LEDGER_DAY_BYTES] = key.try_into().ok()?;
    let place = (AffiliateNumber::from_be_bytes([x, y, z]), u32::from_be_bytes([a, b, c, d]));
    (found == tag).then_some((place.0, Day::new(place.1)))
}

/// The ID in a key of [`number`].
#[must_use]
pub fn numbered_id(key: &[u8]) -> Option<&str> {
    std::str::from_utf8(key.get(1..)?).ok()
}

/// `catalog`: what is known of one version of the catalog, by the order in which they came.
#[must_use]
pub fn catalog_version(sequence: u64) -> [u8; 9] {
    let mut key = [b'v'; 9];
    key[1..].copy_from_slice(&sequence.to_be_bytes());
    key
}

/// The range of all keys of [`catalog_version`].
#[must_use]
pub const fn catalog_versions() -> ([u8; 1], [u8; 1]) {
    ([b'v'], [b'v' + 1])
}

/// Which version a key of [`catalog_version`] names.
#[must_use]
pub fn catalog_version_of(key: &[u8]) -> Option<u64> {
    Some(u64::from_be_bytes(key.get(1..)?.try_into().ok()?))
}

/// `catalog`: one piece of a version's text.
#[must_use]
pub fn catalog_chunk(sequence: u64, number: u32) -> [u8; 13] {
    let mut key = [b't'; 13];
    key[1..9].copy_from_slice(&sequence.to_be_bytes());
    key[9..].copy_from_slice(&number.to_be_bytes());
    key
}

/// To which version a key of [`catalog_chunk`] belongs.
#[must_use]
pub fn catalog_chunk_of(key: &[u8]) -> Option<u64> {
    Some(u64::from_be_bytes(key.get(1..9)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(first: u8, rest: u8) -> RecordId {
        let mut bytes = [rest; 16];
        bytes[0] = first;
        RecordId::from_bytes(bytes)
    }

    #[test]
    fn a_clicks_rows_lie_in_its_range_and_no_other_clicks_do() {
        let click = id(5, 0xFF);
        let (from, to) = by_click_range(click);
        for conversion in [id(0, 0), id(0xFF, 0xFF)] {
            let key = by_click(click, conversion);
            assert!(key[..] >= from[..] && key[..] < to[..]);
            assert_eq!(conversion_of(&key), Some(conversion));
        }
        for other in [id(4, 0xFF), id(6, 0)] {
            let key = by_click(other, id(0xFF, 0xFF));
            assert!(key[..] < from[..] || key[..] >= to[..]);
        }
    }

    #[test]
    fn an_erasure_lies_in_its_range_and_names_its_subject() {
        let (from, to) = erasures();
        for subject in [Subject::Click(id(0, 0xFF)), Subject::Customer(DedupeKey([0xFF; 16]))] {
            let key = erasure(subject);
            assert!(&key[..] >= from && &key[..] < to);
            assert_eq!(erasure_of(&key), Some(subject));
        }
        for other in [META_FORMAT, META_EXPIRED, META_EXPIRED_CLICKS, META_FILED, b"erase_x"] {
            assert_eq!(erasure_of(other), None);
        }
    }

    #[test]
    fn record_keys_sort_by_time() {
        let at = |ms| first_at(ms);
        assert!(at(1) < at(2) && at(255) < at(256) && at((1 << 40) - 1) < at(1 << 40));
        assert_eq!(RecordId::from_bytes(at(77)).time_ms(), 77);
        assert!(at(u64::MAX)[..] < KEY_END[..]);
    }

    #[test]
    fn a_number_key_gives_its_id_back() {
        for of in [Numbered::Offer, Numbered::Affiliate] {
            let key = number(of, "spring");
            let (from, to) = number_range(of);
            assert!(key[..] >= from[..] && key[..] < to[..]);
            assert_eq!(numbered_id(&key), Some("spring"));
        }
    }

    #[test]
    fn a_catalogs_pieces_lie_in_order_beside_the_numbers() {
        let (from, to) = catalog_versions();
        for sequence in [0, 1, 255, 256, u64::MAX] {
            let key = catalog_version(sequence);
            assert_eq!(catalog_version_of(&key), Some(sequence));
            assert_eq!(catalog_chunk_of(&catalog_chunk(sequence, 3)), Some(sequence));
            assert!(key[..] >= from[..] && key[..] < to[..]);
        }
        assert!(catalog_chunk(7, 255) < catalog_chunk(7, 256));
        assert!(catalog_chunk(7, u32::MAX) < catalog_chunk(8, 0));
        for of in [Numbered::Offer, Numbered::Affiliate] {
            let (from, to) = number_range(of);
            for key in [&catalog_version(0)[..], &catalog_chunk(0, 0)[..]] {
                assert!(key < &from[..] || key >= &to[..]);
            }
        }
    }

    #[test]
    fn a_days_rates_are_found_by_the_day() {
        let (from, to) = rates_range();
        for day in [0, 1, 255, 256, u32::MAX].map(Day::new) {
            let key = rates(day);
            assert!(key[..] >= from[..] && key[..] < to[..]);
            assert_eq!(rates_day(&key), Some(day));
        }
        assert!(rates(Day::new(255)) < rates(Day::new(256)));
        assert_eq!(rates_day(b"r12345"), None);
    }

    #[test]
    fn an_affiliates_postings_lie_day_by_day_and_apart_from_seals() {
        let affiliate = |number| AffiliateNumber::new(number).expect("24 bits");
        let key = |number, day, first, step| PostingKey {
            affiliate: affiliate(number),
            day: Day::new(day),
            conversion: id(first, 0xFF),
            step,
        };
        let sorted = [key(1, 2, 9, 0), key(1, 2, 9, 1), key(1, 2, 10, 0), key(1, 300, 0, 0)];
        let later = [key(2, 0, 0, 0), key(256, 0, 0, 0)];
        let keys: Vec<_> = sorted.iter().chain(&later).map(PostingKey::encode).collect();
        assert!(keys.is_sorted());
        for (posting, bytes) in sorted.iter().chain(&later).zip(&keys) {
            assert_eq!(PostingKey::decode(bytes).as_ref(), Some(posting));
            let from = postings_from(posting.affiliate, posting.day);
            let to = postings_from(posting.affiliate, posting.day.next());
            assert!(bytes[..] >= from[..] && bytes[..] < to[..]);
            let seal = seal(posting.affiliate, posting.day);
            assert_eq!(seal_of(&seal), Some((posting.affiliate, posting.day)));
            assert_eq!((seal_of(bytes), PostingKey::decode(&seal)), (None, None));
            assert!(all_seals().0[..] > bytes[..]);
        }
    }

    #[test]
    fn keys_of_other_lengths_are_not_records() {
        assert_eq!(record(&[0; 15]), None);
        assert_eq!(record(&[0; 17]), None);
        assert_eq!(conversion_of(&[0; 16]), None);
    }
}
