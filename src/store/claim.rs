// Hot path: no allocation, no panics.
//! What a postback claims: the keys under which its conversion may exist only once.

use xxhash_rust::xxh3::xxh3_128_with_seed;

use super::keys::DedupeKey;
use super::records::ConversionRecord;
use super::schema::Table;
use crate::click_id::RecordId;
use crate::limits::{CLAIMS_PER_POSTBACK_MAX, HARD_CLAIMS_MAX, TXN_ID_BYTES_MAX};
use crate::model::ids::{ID_BYTES_MAX, OfferNumber};

/// Longest canonical form of a claim: tag, two lengths, three texts.
const CANONICAL_BYTES_MAX: usize = 1 + 2 + 2 + 2 * ID_BYTES_MAX + TXN_ID_BYTES_MAX;

/// For how long a customer stays bound, by the offer whose click it is bound to.
pub trait CustomerWindows: std::fmt::Debug + Sync {
    /// Milliseconds from the binding on; `None`: for ever.
    fn customer_window_ms(&self, offer: OfferNumber) -> Option<u64>;
}

/// One key that a conversion occupies.
///
/// All but the customer's are *hard*: whoever does not get one is a duplicate. Who does not get
/// the customer's is a conversion all the same.
#[derive(Clone, Copy, Debug)]
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
    /// The advertiser's own ID of a negative event: one per (advertiser, event, ID), for ever.
    Reversal {
        /// Advertiser's ID.
        advertiser: &'a str,
        /// Event's ID.
        event: &'a str,
        /// The ID, at most [`TXN_ID_BYTES_MAX`] bytes.
        reversal_id: &'a str,
    },
    /// The advertiser's customer: bound to the click of the first conversion that names it.
    Customer {
        /// Advertiser's ID.
        advertiser: &'a str,
        /// Customer ID, at most [`TXN_ID_BYTES_MAX`] bytes.
        customer_id: &'a str,
        /// For how long; `None`: for ever.
        windows: Option<&'a dyn CustomerWindows>,
    },
    /// One of a conversion whose texts were erased, by its key in the store alone. In memory it has
    /// a key of its own: who sends the text is answered by the store.
    Erased {
        /// Which kind it is of.
        kind: ErasedKind,
        /// Its key.
        key: DedupeKey,
    },
}

/// Kinds of claims that are made of texts that can be erased.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErasedKind {
    /// [`Claim::Transaction`].
    Transaction,
    /// [`Claim::Reversal`].
    Reversal,
    /// [`Claim::Customer`].
    Customer,
}

impl<'a> Claim<'a> {
    /// For how long one acceptance of an event holds, milliseconds, if it may be repeated.
    #[must_use]
    pub const fn repeats_after_ms(&self) -> Option<u64> {
        match self {
            Self::Event { window_ms, .. } => *window_ms,
            _ => None,
        }
    }

    /// Whether a stored conversion holds this claim, or may hold it where its record does not say.
    #[must_use]
    pub fn is_of(&self, record: &ConversionRecord<'_>) -> bool {
        let key = self.store_key();
        ClaimSet::to_change(record).hard().any(|held| held.store_key() == key)
    }

    /// Whether `conversion` still holds this claim at `now_ms`. One that was judged again counts
    /// from an earlier moment, which only its record knows.
    #[must_use]
    pub fn is_held(&self, conversion: RecordId, now_ms: u64) -> bool {
        let window_ms = match self {
            Self::Event { window_ms, .. } => *window_ms,
            Self::Customer { windows: Some(windows), .. } => {
                windows.customer_window_ms(conversion.offer())
            }
            _ => None,
        };
        window_ms.is_none_or(|window| now_ms < conversion.time_ms().saturating_add(window))
    }

    /// The claim of the customer that a record names, whether it holds it or not.
    #[must_use]
    pub fn customer_of(record: &ConversionRecord<'a>) -> Option<Self> {
        let [.., customer] = Self::all_of(record);
        let is_named = match &record.erased {
            Some(erased) => erased.customer.is_some(),
            None => !record.customer_id.is_empty(),
        };
        is_named.then_some(customer)
    }

    /// Whether a conversion can do without it.
    #[must_use]
    pub const fn is_soft(&self) -> bool {
        matches!(self, Self::Customer { .. } | Self::Erased { kind: ErasedKind::Customer, .. })
    }

    /// Whether it is made of a text that can be erased from its conversion.
    #[must_use]
    pub const fn is_of_text(&self) -> bool {
        matches!(self, Self::Transaction { .. } | Self::Reversal { .. } | Self::Customer { .. })
    }

    /// The same claim after its text was erased.
    #[must_use]
    pub fn without_text(&self) -> Self {
        let kind = match self {
            Self::Transaction { .. } => ErasedKind::Transaction,
            Self::Reversal { .. } => ErasedKind::Reversal,
            Self::Customer { .. } => ErasedKind::Customer,
            other => return *other,
        };
        Self::Erased { kind, key: self.store_key() }
    }

    /// The table that says which conversion holds it.
    #[must_use]
    pub const fn table(&self) -> Table {
        if self.is_soft() { Table::Customers } else { Table::Dedupe }
    }

    /// The claims that a record may hold by what it names, whether it does or not.
    fn all_of(record: &ConversionRecord<'a>) -> [Self; 5] {
        let click = RecordId::from_bytes(record.click);
        let ConversionRecord { advertiser, event, txn_id, customer_id, .. } = *record;
        if let Some(erased) = &record.erased {
            let erased_of = |kind, key: Option<_>| Self::Erased {
                kind,
                key: DedupeKey(key.unwrap_or_default()),
            };
            return [
                erased_of(ErasedKind::Transaction, erased.txn),
                Claim::Event { click, event, window_ms: None },
                erased_of(ErasedKind::Reversal, erased.txn),
                Claim::Click(click),
                erased_of(ErasedKind::Customer, erased.customer),
            ];
        }
        [
            Claim::Transaction { advertiser, event, txn_id },
            Claim::Event { click, event, window_ms: None },
            Claim::Reversal { advertiser, event, reversal_id: txn_id },
            Claim::Click(click),
            Claim::Customer { advertiser, customer_id, windows: None },
        ]
    }

    /// The claim's bit in [`ConversionRecord::claims`]. Part of the store format.
    const fn bit(&self) -> u8 {
        match self {
            Self::Transaction { .. } | Self::Erased { kind: ErasedKind::Transaction, .. } => 1,
            Self::Event { .. } => 2,
            Self::Click(_) => 4,
            Self::Reversal { .. } | Self::Erased { kind: ErasedKind::Reversal, .. } => 8,
            Self::Customer { .. } | Self::Erased { kind: ErasedKind::Customer, .. } => 16,
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
        if let Self::Erased { key, .. } = self {
            return *key;
        }
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
            Self::Reversal { advertiser, event, reversal_id } => {
                buffer.push(b"r");
                buffer.push_counted(advertiser);
                buffer.push_counted(event);
                buffer.push(reversal_id.as_bytes());
            }
            Self::Customer { advertiser, customer_id, .. } => {
                buffer.push(b"u");
                buffer.push_counted(advertiser);
                buffer.push(customer_id.as_bytes());
            }
            // Only in memory.
            Self::Erased { key, .. } => {
                buffer.push(b"x");
                buffer.push(&key.0);
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
    /// The hard ones first.
    claims: [Option<Claim<'a>>; CLAIMS_PER_POSTBACK_MAX],
}

impl<'a> ClaimSet<'a> {
    /// The transaction's, event's or reversal's claim, and the click's where the offer wants it.
    #[must_use]
    pub fn new(first: Claim<'a>, click: Option<RecordId>) -> Self {
        Self { claims: [Some(first), click.map(Claim::Click), None] }
    }

    /// The claim of a customer alone.
    #[must_use]
    pub const fn customer(customer: Claim<'a>) -> Self {
        Self { claims: [None, None, Some(customer)] }
    }

    /// And the customer's claim.
    #[must_use]
    pub const fn with_customer(mut self, customer: Claim<'a>) -> Self {
        self.claims[HARD_CLAIMS_MAX] = Some(customer);
        self
    }

    /// The claims that a stored conversion holds, by what its record says alone. A window is the
    /// catalog's to know and not part of any key.
    #[must_use]
    pub fn of_record(record: &ConversionRecord<'a>) -> Self {
        let [hard @ .., customer] = Claim::all_of(record);
        let is_held = |claim: &Claim<'_>| record.claims & claim.bit() != 0;
        let mut hard = hard.into_iter().filter(is_held);
        Self { claims: [hard.next(), hard.next(), Some(customer).filter(is_held)] }
    }

    /// The claims to hold while a stored conversion is changed: the hard ones that it holds, or,
    /// where its record does not say, those that it may hold.
    #[must_use]
    pub fn to_change(record: &ConversionRecord<'a>) -> Self {
        if record.claims != 0 {
            return Self::of_record(record).without_customer();
        }
        let [transaction, event, ..] = Claim::all_of(record);
        let has_txn = match &record.erased {
            Some(erased) => erased.txn.is_some(),
            None => !record.txn_id.is_empty(),
        };
        let first = if has_txn { transaction } else { event };
        Self::new(first, Some(RecordId::from_bytes(record.click)))
    }

    const fn without_customer(mut self) -> Self {
        self.claims[HARD_CLAIMS_MAX] = None;
        self
    }

    /// Which claims these are, for [`ConversionRecord::claims`]; the customer's only if it is
    /// `bound` by this conversion.
    #[must_use]
    pub fn bits(&self, bound: bool) -> u8 {
        let held = self.iter().filter(|claim| bound || !claim.is_soft());
        held.fold(0, |bits, claim| bits | claim.bit())
    }

    /// Whether the customer's claim is among them.
    #[must_use]
    pub const fn binds(&self) -> bool {
        self.claims[HARD_CLAIMS_MAX].is_some()
    }

    /// The claims, hard and soft.
    pub fn iter(&self) -> impl Iterator<Item = Claim<'a>> {
        self.claims.iter().flatten().copied()
    }

    /// The claims that make a duplicate of whoever does not get them.
    pub fn hard(&self) -> impl Iterator<Item = Claim<'a>> {
        self.claims[..HARD_CLAIMS_MAX].iter().flatten().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::super::keys;
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
        let (advertiser, customer_id) = ("a", "b");
        let customer = |customer_id| Claim::Customer { advertiser, customer_id, windows: None };
        check(customer("b"), customer("c"));
        check(customer("b"), Claim::Customer { advertiser: "ab", customer_id: "", windows: None });
        let reversal = Claim::Reversal { advertiser, event: customer_id, reversal_id: "c" };
        check(reversal, transaction("a", "b", "c"));
    }

    #[test]
    fn the_store_key_is_pinned() {
        // Part of the store format: if this changes, every conversion could be counted again.
        let key = transaction("acme", "sale", "T-1").store_key();
        let hash = blake3::hash(b"t\x00\x04acme\x00\x04saleT-1");
        assert_eq!(key.0, hash.as_bytes()[..16]);
    }

    #[test]
    fn only_what_has_a_window_can_be_claimed_anew() {
        let click = RecordId::from_bytes([1; 16]);
        let at_1000 = RecordId::from_bytes(keys::first_at(1000));
        let windowed = [
            Claim::Event { click, event: "deposit", window_ms: Some(100) },
            Claim::Customer { advertiser: "a", customer_id: "b", windows: Some(&Always(100)) },
        ];
        for claim in windowed {
            assert!(claim.is_held(at_1000, 1099));
            assert!(!claim.is_held(at_1000, 1100));
            assert!(claim.is_held(at_1000, 900), "a clock set back does not open it");
        }
        let customer = Claim::Customer { advertiser: "a", customer_id: "b", windows: None };
        for claim in [transaction("a", "b", "c"), Claim::Click(click), customer] {
            assert!(claim.is_held(at_1000, u64::MAX));
        }
    }

    #[derive(Debug)]
    struct Always(u64);

    impl CustomerWindows for Always {
        fn customer_window_ms(&self, _offer: OfferNumber) -> Option<u64> {
            Some(self.0)
        }
    }

    #[test]
    fn a_record_says_which_claims_it_holds() {
        let click = RecordId::from_bytes([1; 16]);
        let (advertiser, event, customer_id) = ("a", "b", "c");
        let customer = Claim::Customer { advertiser, customer_id, windows: None };
        let firsts = [
            transaction(advertiser, event, "t"),
            Claim::Event { click, event, window_ms: Some(1) },
            Claim::Reversal { advertiser, event, reversal_id: "t" },
        ];
        for (first, once, bound) in firsts.into_iter().flat_map(|first| {
            [(false, false), (false, true), (true, false), (true, true)].map(|(o, b)| (first, o, b))
        }) {
            let set = ClaimSet::new(first, once.then_some(click)).with_customer(customer);
            let record = ConversionRecord {
                click: *click.as_bytes(),
                advertiser,
                event,
                customer_id,
                txn_id: "t",
                claims: set.bits(bound),
                ..ConversionRecord::default()
            };
            let keys = |set: ClaimSet<'_>| set.iter().map(|it| it.store_key()).collect::<Vec<_>>();
            let mut held = keys(set);
            held.truncate(held.len() - usize::from(!bound));
            assert_eq!(keys(ClaimSet::of_record(&record)), held);
            held.truncate(1 + usize::from(once));
            assert_eq!(keys(ClaimSet::to_change(&record)), held, "who changes binds nobody");
        }
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
