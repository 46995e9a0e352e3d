//! What is hashed of a posting and of a seal: bytes that never change. `docs/ledger.md` has them
//! for those who check a proof by themselves.
//!
//! An affiliate is shown its own entry, not what the network earns by it. So a leaf holds the
//! affiliate's entry in clear and the network's two entries behind a keyed hash: the network can
//! show that they belong to it, and nobody can guess them from it.

use super::merkle::{leaf_hash, tagged};
use crate::model::ids::AffiliateNumber;
use crate::model::rate::Day;
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
