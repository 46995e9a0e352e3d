//! Proofs that a conversion's postings are in the ledger: made from the store, checked without it.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::merkle::{Tree, root_of};
use super::seal::{Blinding, Leaf, PayableConverted, leaf, seal_hash};
use crate::click_id::RecordId;
use crate::model::currency::code_text;
use crate::model::hex::{hex, unhex};
use crate::model::ids::AffiliateNumber;
use crate::model::period::Day;
use crate::store::keys::{self, PostingKey};
use crate::store::postings::{Posting, postings};
use crate::store::records::{Balance, Converted, Entries, Hash, SealRecord};
use crate::store::{OpenError, ReadError, View};

/// The form of a proof; its number changes with what is hashed.
const FORMAT: &str = "postbackd-ledger-proof-2";
/// The form of before, in which nothing was converted; what it has of the other is the same.
const PLAIN_FORMAT: &str = "postbackd-ledger-proof-1";

/// A proof, as JSON. It says nothing that the affiliate may not know.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Proof {
    format: String,
    conversion_id: String,
    affiliate_number: u32,
    /// The conversion's postings on sealed days.
    postings: Vec<Proved>,
    /// Days of its postings that are not sealed yet.
    unsealed_days: Vec<String>,
    /// The seals from the first posting's day to the newest.
    seals: Vec<Sealed>,
}

impl Proof {
    /// Whether no day of the conversion's postings is sealed yet, or it has none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.postings.is_empty()
    }
}

/// One posting and its way to the root of its day.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Proved {
    day: String,
    step: u16,
    currency: String,
    payable_micros: String,
    hidden: String,
    index: u64,
    path: Vec<String>,
    #[serde(default)]
    converted: Vec<ProvedConverted>,
}

/// What a posting converts to a network's currency, or what of a balance is converted: of the
/// affiliate's account.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProvedConverted {
    base: String,
    postings: i64,
    own_payable_micros: String,
    payable_micros: String,
}

/// One seal, as far as it is hashed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sealed {
    day: String,
    previous_day: Option<String>,
    previous: String,
    postings: u64,
    root: String,
    balances: Vec<SealedBalance>,
    hash: String,
}

/// What the affiliate's account holds at the end of a day.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SealedBalance {
    currency: String,
    payable_micros: String,
    #[serde(default)]
    converted: Vec<ProvedConverted>,
}

/// Why there is no proof.
#[derive(Debug, thiserror::Error)]
pub enum ProveError {
    /// There is no such conversion, or retention has let it go.
    #[error("no such conversion")]
    NoConversion,
    /// The store could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The store's own key could not be read.
    #[error(transparent)]
    Key(#[from] OpenError),
    /// A sealed day lacks the posting: the ledger is damaged.
    #[error("the ledger lacks a posting of {0}; run verify")]
    Missing(Day),
}

/// Why a proof proves nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CheckError {
    /// A member is not what it should be.
    #[error("{0} is malformed")]
    Malformed(&'static str),
    /// What was said of a seal does not have its hash.
    #[error("the seal of {0} does not have the hash that is given for it")]
    Seal(String),
    /// The seals are not each other's neighbours.
    #[error("the seal of {0} does not follow the one before it")]
    Chain(String),
    /// A posting names a day without a seal.
    #[error("there is no seal of {0}")]
    NoSeal(String),
    /// The path of a posting does not lead to the root of its day.
    #[error("step {step} is not among the postings of {day}")]
    NotIncluded {
        /// The posting's day.
        day: String,
        /// The posting's step.
        step: u16,
    },
}

/// Proves the postings of a conversion. Blocks, for as long as it takes to read the affiliate's
/// days on which they were posted.
///
/// # Errors
/// When there is no such conversion, or the store cannot be read.
pub fn prove(view: &View<'_>, conversion: RecordId) -> Result<Proof, ProveError> {
    let stored = view.conversion(conversion).map_err(ReadError::from)?;
    let stored = stored.ok_or(ProveError::NoConversion)?;
    let record = stored.record().map_err(ReadError::from)?;
    let affiliate = record.affiliate_number();
    let mut proof = Proof {
        format: FORMAT.to_owned(),
        conversion_id: conversion.to_text().to_string(),
        affiliate_number: affiliate.get(),
        postings: Vec::new(),
        unsealed_days: Vec::new(),
        seals: Vec::new(),
    };
    let all: Vec<Posting> = postings(conversion, &record).collect();
    let Some(first) = all.first() else { return Ok(proof) };
    let seals = view.seals(affiliate, first.key.day, Day::new(u32::MAX))?;
    proof.seals = seals.iter().map(|(day, seal)| sealed(affiliate, *day, seal)).collect();
    let blinding = Blinding::new(&view.click_key()?);
    for posting in &all {
        if seals.last().is_none_or(|(day, _)| *day < posting.key.day) {
            let day = posting.key.day.to_string();
            if !proof.unsealed_days.contains(&day) {
                proof.unsealed_days.push(day);
            }
            continue;
        }
        proof.postings.push(proved(view, posting, &blinding)?);
    }
    Ok(proof)
}

fn proved(view: &View<'_>, posting: &Posting, blinding: &Blinding) -> Result<Proved, ProveError> {
    let PostingKey { affiliate, day, step, .. } = posting.key;
    let (mut tree, mut found) = (Tree::default(), None);
    let (from, to) = (keys::postings_from(affiliate, day), day.next());
    view.postings(affiliate, &from, to, &mut |other| {
        let leaf = leaf(&other, blinding);
        let hash = leaf.hash();
        if other.key == posting.key {
            found = Some((leaf, tree.prove_next()));
        }
        tree.push(hash);
        ControlFlow::Continue(())
    })?;
    let (leaf, index) = found.ok_or(ProveError::Missing(day))?;
    Ok(Proved {
        day: day.to_string(),
        step,
        currency: code_text(leaf.currency),
        payable_micros: leaf.payable.to_string(),
        hidden: hex(&leaf.hidden),
        index,
        path: tree.finish().1.iter().map(|hash| hex(hash)).collect(),
        converted: leaf.converted.iter().map(shown).collect(),
    })
}

fn shown(converted: &PayableConverted) -> ProvedConverted {
    ProvedConverted {
        base: code_text(converted.base),
        postings: converted.postings,
        own_payable_micros: converted.own.to_string(),
        payable_micros: converted.worth.to_string(),
    }
}

/// A seal as a proof shows it.
pub(super) fn sealed(affiliate: AffiliateNumber, day: Day, seal: &SealRecord) -> Sealed {
    let converted_of = |currency| {
        let converted = seal.converted.iter().filter(move |(of, _)| *of == currency);
        converted.map(|(_, converted)| shown(&PayableConverted::of(converted))).collect()
    };
    let balance = |balance: &Balance| SealedBalance {
        currency: code_text(balance.currency),
        payable_micros: balance.entries.payable.to_string(),
        converted: converted_of(balance.currency),
    };
    Sealed {
        day: day.to_string(),
        previous_day: seal.previous_day.map(|day| Day::new(day).to_string()),
        previous: hex(&seal.previous),
        postings: seal.postings,
        root: hex(&seal.root),
        balances: seal.balances.iter().map(balance).collect(),
        hash: hex(&seal_hash(affiliate, day, seal)),
    }
}

/// What a proof has proved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checked {
    /// The conversion.
    pub conversion_id: String,
    /// Its postings.
    pub postings: Vec<CheckedPosting>,
    /// Days of it that are not sealed yet, as they were said.
    pub unsealed_days: Vec<Day>,
    /// Day and hash of the newest seal.
    pub newest_seal: Option<(Day, String)>,
}

/// A posting that is proved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckedPosting {
    /// The day on which it was sealed.
    pub day: Day,
    /// Which step it is.
    pub step: u16,
    /// Its currency.
    pub currency: String,
    /// What the affiliate is owed more by it, micro-units.
    pub owed: i128,
    /// The same in the network's currency, at the day's rate: currency, micro-units. None where it
    /// is the same currency or there is no rate; then a later step has the worth of both.
    pub worth: Vec<(String, i128)>,
}

/// Checks a proof by itself.
///
/// # Errors
/// The first thing that does not hold.
pub fn check(proof: &Proof) -> Result<Checked, CheckError> {
    if ![FORMAT, PLAIN_FORMAT].contains(&&*proof.format) {
        return Err(CheckError::Malformed("format"));
    }
    let affiliate = AffiliateNumber::new(proof.affiliate_number);
    let affiliate = affiliate.ok_or(CheckError::Malformed("affiliate_number"))?;
    let conversion = RecordId::parse(proof.conversion_id.as_bytes());
    let conversion = conversion.ok_or(CheckError::Malformed("conversion_id"))?;
    let seals = check_seals(affiliate, &proof.seals)?;
    let mut postings = Vec::new();
    for proved in &proof.postings {
        let (leaf, path) = read_leaf(affiliate, conversion, proved)?;
        let day = leaf.place.day;
        let seal = seals.get(&day).ok_or_else(|| CheckError::NoSeal(proved.day.clone()))?;
        let root = root_of(leaf.hash(), proved.index, seal.postings, &path);
        if root != Some(seal.root) {
            return Err(CheckError::NotIncluded { day: proved.day.clone(), step: proved.step });
        }
        let owed =
            |micros: i128| micros.checked_neg().ok_or(CheckError::Malformed("payable_micros"));
        let worth = proved.converted.iter().zip(&leaf.converted);
        let worth = worth.map(|(said, read)| Ok((said.base.clone(), owed(read.worth)?)));
        postings.push(CheckedPosting {
            day,
            step: proved.step,
            currency: proved.currency.clone(),
            owed: owed(leaf.payable)?,
            worth: worth.collect::<Result<_, CheckError>>()?,
        });
    }
    let unsealed = proof.unsealed_days.iter().map(|day| Day::parse(day));
    let unsealed: Option<_> = unsealed.collect();
    let newest = proof.seals.last().zip(seals.keys().last());
    Ok(Checked {
        conversion_id: proof.conversion_id.clone(),
        postings,
        unsealed_days: unsealed.ok_or(CheckError::Malformed("unsealed_days"))?,
        newest_seal: newest.map(|(seal, day)| (*day, seal.hash.clone())),
    })
}

/// The seals by day, if each has its hash and follows the one before it.
fn check_seals(
    affiliate: AffiliateNumber,
    sealed: &[Sealed],
) -> Result<BTreeMap<Day, SealRecord>, CheckError> {
    let mut seals = BTreeMap::new();
    let mut before: Option<(Day, Hash)> = None;
    for said in sealed {
        let (day, seal) = read_seal(said)?;
        let hash = seal_hash(affiliate, day, &seal);
        if hash != hash_in(&said.hash, "hash")? {
            return Err(CheckError::Seal(said.day.clone()));
        }
        let follows = before.is_none_or(|(day_before, hash_before)| {
            day > day_before
                && seal.previous_day == Some(day_before.get())
                && seal.previous == hash_before
        });
        if !follows {
            return Err(CheckError::Chain(said.day.clone()));
        }
        before = Some((day, hash));
        seals.insert(day, seal);
    }
    Ok(seals)
}

fn read_seal(said: &Sealed) -> Result<(Day, SealRecord), CheckError> {
    // Of the network's accounts nothing is said, and nothing is hashed.
    let payable = |payable| Entries { payable, ..Entries::default() };
    let (mut balances, mut converted) = (Vec::new(), Vec::new());
    for said in &said.balances {
        let (currency, entries) =
            (currency(&said.currency)?, payable(micros(&said.payable_micros)?));
        balances.push(Balance { currency, entries, ..Balance::default() });
        for said in &said.converted {
            let PayableConverted { base, postings, own, worth } = read_converted(said)?;
            let (own, worth) = (payable(own), payable(worth));
            converted.push((currency, Converted { base, postings, own, worth }));
        }
    }
    let previous_day = said.previous_day.as_deref().map(|text| day(text).map(Day::get));
    let seal = SealRecord {
        previous_day: previous_day.transpose()?,
        previous: hash_in(&said.previous, "previous")?,
        postings: said.postings,
        root: hash_in(&said.root, "root")?,
        balances,
        converted,
    };
    Ok((day(&said.day)?, seal))
}

fn read_converted(said: &ProvedConverted) -> Result<PayableConverted, CheckError> {
    Ok(PayableConverted {
        base: currency(&said.base)?,
        postings: said.postings,
        own: micros(&said.own_payable_micros)?,
        worth: micros(&said.payable_micros)?,
    })
}

fn read_leaf(
    affiliate: AffiliateNumber,
    conversion: RecordId,
    said: &Proved,
) -> Result<(Leaf, Vec<Hash>), CheckError> {
    let leaf = Leaf {
        place: PostingKey { affiliate, day: day(&said.day)?, conversion, step: said.step },
        currency: currency(&said.currency)?,
        payable: micros(&said.payable_micros)?,
        hidden: hash_in(&said.hidden, "hidden")?,
        converted: said.converted.iter().map(read_converted).collect::<Result<_, _>>()?,
    };
    let path = said.path.iter().map(|hash| hash_in(hash, "path")).collect::<Result<_, _>>()?;
    Ok((leaf, path))
}

fn day(text: &str) -> Result<Day, CheckError> {
    Day::parse(text).ok_or(CheckError::Malformed("day"))
}

fn currency(text: &str) -> Result<[u8; 3], CheckError> {
    text.as_bytes().try_into().map_err(|_| CheckError::Malformed("currency"))
}

fn micros(text: &str) -> Result<i128, CheckError> {
    text.parse().map_err(|_| CheckError::Malformed("payable_micros"))
}

fn hash_in(text: &str, member: &'static str) -> Result<Hash, CheckError> {
    unhex(text).ok_or(CheckError::Malformed(member))
}
