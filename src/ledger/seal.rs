//! What is hashed of a posting and of a seal: bytes that never change. `docs/ledger.md` has them
//! for those who check a proof by themselves.
//!
//! An affiliate is shown its own entry, not what the network earns by it. So a leaf holds the
//! affiliate's entry in clear and the network's two entries behind a keyed hash: the network can
//! show that they belong to it, and nobody can guess them from it.

use super::merkle::{leaf_hash, tagged};
use crate::model::ids::AffiliateNumber;
use crate::model::period::Day;
use crate::store::postings::Posting;
use crate::store::records::{Converted, Hash, PostingRecord, SealRecord};

const SEAL_TAG: &[u8] = &[2];
/// Of a seal over anything that is converted.
const CONVERTED_SEAL_TAG: &[u8] = &[3];
/// What the blinding key is for; part of the format.
const BLINDING_CONTEXT: &str = "postbackd 2026-11-26 ledger: entries of the network";

/// Hides the network's entries from whoever does not have the store.
#[derive(Clone)]
pub struct Blinding([u8; 32]);

impl Blinding {
    /// The blinding of the store with this click ID key.
    #[must_use]
    pub fn new(click_key: &[u8; 32]) -> Self {
        Self(blake3::derive_key(BLINDING_CONTEXT, click_key))
    }

    fn hide(&self, posting: &Posting) -> Hash {
        let PostingRecord { entries, converted, .. } = &posting.record;
        let mut hasher = blake3::Hasher::new_keyed(&self.0);
        hasher.update(&posting.key.encode());
        let converted = converted.iter().flat_map(|it| [&it.own, &it.worth]);
        for entries in std::iter::once(entries).chain(converted) {
            hasher.update(&entries.receivable.to_be_bytes());
            hasher.update(&entries.margin.to_be_bytes());
        }
        *hasher.finalize().as_bytes()
    }
}

/// What an affiliate may see of what is converted: its own account, micro-units.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PayableConverted {
    /// The network's currency.
    pub base: [u8; 3],
    /// How many postings.
    pub postings: i64,
    /// What they have of `affiliate payable` in their own currency.
    pub own: i128,
    /// What that is in `base`.
    pub worth: i128,
}

impl PayableConverted {
    /// Of three accounts, the affiliate's.
    #[must_use]
    pub fn of(converted: &Converted) -> Self {
        let Converted { base, postings, own, worth } = converted;
        Self { base: *base, postings: *postings, own: own.payable, worth: worth.payable }
    }

    fn append(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.base);
        out.extend_from_slice(&self.postings.to_be_bytes());
        out.extend_from_slice(&self.own.to_be_bytes());
        out.extend_from_slice(&self.worth.to_be_bytes());
    }
}

/// What a leaf is made of: what an affiliate may see of a posting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leaf {
    /// The posting, its network's entries left out.
    pub place: crate::store::keys::PostingKey,
    /// Currency of the amount.
    pub currency: [u8; 3],
    /// `affiliate payable`, micro-units; negative when the affiliate is owed more.
    pub payable: i128,
    /// The network's entries, hidden.
    pub hidden: Hash,
    /// What it converts.
    pub converted: Vec<PayableConverted>,
}

impl Leaf {
    /// Its hash in the tree: of key, currency, amount and hidden entries, one after the other, and
    /// what it converts.
    #[must_use]
    pub fn hash(&self) -> Hash {
        let (key, payable) = (self.place.encode(), self.payable.to_be_bytes());
        let mut converted = Vec::new();
        self.converted.iter().for_each(|it| it.append(&mut converted));
        leaf_hash(&[&key, &self.currency, &payable, &self.hidden, &converted])
    }
}

/// The leaf of a posting.
#[must_use]
pub fn leaf(posting: &Posting, blinding: &Blinding) -> Leaf {
    Leaf {
        place: posting.key,
        currency: posting.record.currency,
        payable: posting.record.entries.payable,
        hidden: blinding.hide(posting),
        converted: posting.record.converted.iter().map(PayableConverted::of).collect(),
    }
}

/// The hash of a seal: what an affiliate keeps, and what the next seal includes. Of the balances
/// and of what is converted only the affiliate's account counts.
#[must_use]
pub fn seal_hash(affiliate: AffiliateNumber, day: Day, seal: &SealRecord) -> Hash {
    let mut bytes = Vec::with_capacity(96 + 19 * seal.balances.len());
    bytes.extend_from_slice(&affiliate.to_be_bytes());
    bytes.extend_from_slice(&day.get().to_be_bytes());
    bytes.push(u8::from(seal.previous_day.is_some()));
    bytes.extend_from_slice(&seal.previous_day.unwrap_or_default().to_be_bytes());
    bytes.extend_from_slice(&seal.previous);
    bytes.extend_from_slice(&seal.postings.to_be_bytes());
    bytes.extend_from_slice(&seal.root);
    if !seal.converted.is_empty() {
        // Where the balances end, as the converted ones follow.
        bytes.extend_from_slice(&(seal.balances.len() as u64).to_be_bytes());
    }
    for balance in &seal.balances {
        bytes.extend_from_slice(&balance.currency);
        bytes.extend_from_slice(&balance.entries.payable.to_be_bytes());
    }
    for (currency, converted) in &seal.converted {
        bytes.extend_from_slice(currency);
        PayableConverted::of(converted).append(&mut bytes);
    }
    let tag = if seal.converted.is_empty() { SEAL_TAG } else { CONVERTED_SEAL_TAG };
    tagged(tag, &[&bytes])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::click_id::RecordId;
    use crate::store::keys::PostingKey;
    use crate::store::records::{Balance, Entries};

    fn affiliate() -> AffiliateNumber {
        AffiliateNumber::new(0x0001_0203).expect("24 bits")
    }

    fn posting(converted: Vec<Converted>) -> Posting {
        let (day, conversion) = (Day::new(20_000), RecordId::from_bytes([5; 16]));
        let key = PostingKey { affiliate: affiliate(), day, conversion, step: 7 };
        let record = PostingRecord { currency: *b"EUR", entries: Entries::of(20, 15), converted };
        Posting { key, record }
    }

    fn converted() -> Converted {
        let (own, worth) = (Entries::of(30, 22), Entries::of(33, 24));
        Converted { base: *b"USD", postings: 2, own, worth }
    }

    /// The bytes of the table in `docs/ledger.md`, put together by hand.
    fn hash(tag: u8, parts: &[&[u8]]) -> Hash {
        *blake3::hash(&[&[tag], &parts.concat()[..]].concat()).as_bytes()
    }

    const PLACE: &[u8] = b"p\x01\x02\x03\x00\x00\x4e\x20\
        \x05\x05\x05\x05\x05\x05\x05\x05\x05\x05\x05\x05\x05\x05\x05\x05\x00\x07";

    fn micros(amounts: &[i128]) -> Vec<u8> {
        amounts.iter().flat_map(|amount| amount.to_be_bytes()).collect()
    }

    fn in_dollars() -> Vec<u8> {
        [&b"USD"[..], &2_i64.to_be_bytes(), &micros(&[-22, -24])].concat()
    }

    #[test]
    fn a_leaf_is_hashed_as_it_always_was_and_what_it_converts_comes_last() {
        let blinding = Blinding::new(&[7; 32]);
        let key = blake3::derive_key(BLINDING_CONTEXT, &[7; 32]);
        let hidden = |network: &[i128]| {
            *blake3::keyed_hash(&key, &[PLACE, &micros(network)].concat()).as_bytes()
        };
        let plain = leaf(&posting(Vec::new()), &blinding).hash();
        let payable = micros(&[-15]);
        assert_eq!(plain, hash(0, &[PLACE, b"EUR", &payable, &hidden(&[20, -5])]));
        let network = hidden(&[20, -5, 30, -8, 33, -9]);
        let expected = hash(0, &[PLACE, b"EUR", &payable, &network, &in_dollars()]);
        assert_eq!(leaf(&posting(vec![converted()]), &blinding).hash(), expected);
    }

    #[test]
    fn a_seal_is_hashed_as_it_always_was_unless_something_is_converted() {
        let balance =
            |currency, payout| Balance { currency, postings: 9, entries: Entries::of(100, payout) };
        let mut seal = SealRecord {
            previous_day: Some(19_999),
            previous: [1; 32],
            postings: 3,
            root: [2; 32],
            balances: vec![balance(*b"EUR", 70), balance(*b"JPY", 80)],
            converted: Vec::new(),
        };
        let head = [
            &[1, 2, 3][..],
            &20_000_u32.to_be_bytes(),
            &[1],
            &19_999_u32.to_be_bytes(),
            &[1; 32],
            &3_u64.to_be_bytes(),
            &[2; 32],
        ]
        .concat();
        let balances = [&b"EUR"[..], &micros(&[-70]), b"JPY", &micros(&[-80])].concat();
        let hashed = |seal: &SealRecord| seal_hash(affiliate(), Day::new(20_000), seal);
        assert_eq!(hashed(&seal), hash(2, &[&head, &balances]));
        seal.converted = vec![(*b"EUR", converted())];
        let two = 2_u64.to_be_bytes();
        assert_eq!(hashed(&seal), hash(3, &[&head, &two, &balances, b"EUR", &in_dollars()]));
    }
}
