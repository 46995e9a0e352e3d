//! The books: what the answers said, held against what the server says it stored.
//!
//! A request whose connection died may be stored or not, but never twice. Everything else is
//! exact: answered `accepted` means stored once under that ID, `duplicate` names the original,
//! and what was only refused is not there.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::catalog::{Catalog, Place, Price, sale_amount};
use crate::money::{Earned, MoneyVerdict, Sums, dollars, micros};
use crate::scenario::Outcome;
use crate::text::ShortText;

/// Mismatches kept in words; the rest is only counted.
const MISMATCHES_KEPT_MAX: usize = 20;

/// A click: its ID, where it went and who sent it.
#[derive(Clone, Copy, Debug)]
pub struct Click {
    pub id: ShortText,
    pub place: Place,
}

/// What the answers said about one transaction.
#[derive(Clone, Copy, Debug)]
struct Entry {
    click: u32,
    /// The conversion that the first answer named.
    named: Option<ShortText>,
    /// Another conversion that a later answer named.
    contradicted: Option<ShortText>,
    accepted: u16,
    duplicates: u16,
    denied: u16,
    unknown: u16,
    /// Whether it was taken back; `None` if the answer does not say.
    reversed: Option<bool>,
}

/// The answers to one thread's transactions.
#[derive(Debug)]
pub struct Book {
    prefix: String,
    clicks: Vec<Click>,
    entries: Vec<Entry>,
}

impl Book {
    /// An empty book for transactions named `run_id`-`shard`-number.
    pub fn new(run_id: &str, shard: usize, clicks: Vec<Click>) -> Self {
        Self { prefix: format!("{run_id}-{shard}-"), clicks, entries: Vec::new() }
    }

    /// The start of every transaction ID in this book.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// Remembers a click; the number stands for it.
    pub fn add_click(&mut self, click: Click) -> u32 {
        self.clicks.push(click);
        (self.clicks.len() - 1) as u32
    }

    /// The click that a transaction belongs to.
    pub fn click(&self, transaction: u32) -> Click {
        self.clicks[self.entries[transaction as usize].click as usize]
    }

    /// Opens the next transaction, about to be sent for the first time.
    pub fn open(&mut self, click: u32) -> u32 {
        self.entries.push(Entry {
            click,
            named: None,
            contradicted: None,
            accepted: 0,
            duplicates: 0,
            denied: 0,
            unknown: 0,
            reversed: Some(false),
        });
        (self.entries.len() - 1) as u32
    }

    /// Notes an answer and the conversion it named.
    pub fn note(&mut self, transaction: u32, outcome: Outcome, conversion: Option<ShortText>) {
        let entry = &mut self.entries[transaction as usize];
        let count = match outcome {
            Outcome::Accepted => &mut entry.accepted,
            Outcome::Duplicate => &mut entry.duplicates,
            Outcome::Refused | Outcome::Unavailable => &mut entry.denied,
            Outcome::Updated | Outcome::Other => &mut entry.unknown,
        };
        *count = count.saturating_add(1);
        if let (Some(id), Outcome::Accepted | Outcome::Duplicate) = (conversion, outcome) {
            match entry.named {
                None => entry.named = Some(id),
                Some(named) if named != id => entry.contradicted = Some(id),
                Some(_) => {}
            }
        }
    }

    /// Notes the answer to the reversal of a transaction; nothing if the book is not kept.
    pub fn note_reversal(&mut self, transaction: u32, outcome: Outcome) {
        if let Some(entry) = self.entries.get_mut(transaction as usize) {
            entry.reversed = match outcome {
                Outcome::Updated => Some(true),
                Outcome::Refused | Outcome::Unavailable => Some(false),
                Outcome::Accepted | Outcome::Duplicate | Outcome::Other => None,
            };
        }
    }

    /// Notes that a request was never answered.
    pub fn lost(&mut self, transaction: u32) {
        let unknown = &mut self.entries[transaction as usize].unknown;
        *unknown = unknown.saturating_add(1);
    }
}

/// A stored conversion, as far as the books care.
#[derive(Clone, Debug, Deserialize)]
pub struct Stored {
    pub conversion_id: String,
    pub click_id: Option<String>,
    pub txn_id: Option<String>,
    pub status: Option<String>,
    pub payout: Option<String>,
    pub revenue: Option<String>,
    pub currency: Option<String>,
}

/// One way in which answers and store disagree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mismatch {
    /// Answered as counted, but not stored.
    Missing { txn: String },
    /// Stored more than once.
    StoredTwice { txn: String, first: String, second: String },
    /// Two answers both said `accepted`.
    AcceptedTwice { txn: String },
    /// Answers named different conversions for one transaction.
    Contradicted { txn: String, first: ShortText, other: ShortText },
    /// Stored under another conversion ID than answered.
    OtherConversion { txn: String, answered: ShortText, stored: String },
    /// Stored for another click than sent.
    OtherClick { txn: String, sent: ShortText, stored: String },
    /// `duplicate`, though no request before it can have been counted.
    DuplicateOfNothing { txn: String },
    /// Counted by its answer, but the answer named no conversion.
    Unnamed { txn: String },
    /// Stored, though every answer denied it.
    StoredAlthoughDenied { txn: String },
    /// Stored, but never sent.
    NeverSent { txn: String },
    /// Reversed though nothing said so, or not reversed though it was answered.
    OtherStatus { txn: String, stored: String },
    /// Stored with other earnings than the catalog promises, or with ones that cannot be read.
    OtherMoney { txn: String, payout: String, revenue: String, stored: String },
    /// What the run has posted to an affiliate's accounts is not what its sales have earned.
    OtherBalance { affiliate: String, earned: Sums, posted: Sums },
    /// The totals have not grown by what the run's sales have earned.
    OtherTotals { earned: Sums, counted: Sums },
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing { txn } => write!(f, "{txn}: acknowledged but not stored"),
            Self::StoredTwice { txn, first, second } => {
                write!(f, "{txn}: stored twice, as {first} and {second}")
            }
            Self::AcceptedTwice { txn } => write!(f, "{txn}: answered accepted more than once"),
            Self::Contradicted { txn, first, other } => {
                write!(f, "{txn}: answers name {first} and {other}")
            }
            Self::OtherConversion { txn, answered, stored } => {
                write!(f, "{txn}: answered as {answered}, stored as {stored}")
            }
            Self::OtherClick { txn, sent, stored } => {
                write!(f, "{txn}: sent for click {sent}, stored for {stored}")
            }
            Self::DuplicateOfNothing { txn } => write!(f, "{txn}: duplicate of nothing accepted"),
            Self::Unnamed { txn } => write!(f, "{txn}: acknowledged without a conversion_id"),
            Self::StoredAlthoughDenied { txn } => {
                write!(f, "{txn}: stored although every answer denied it")
            }
            Self::NeverSent { txn } => write!(f, "{txn}: stored but never sent"),
            Self::OtherStatus { txn, stored } => {
                write!(f, "{txn}: stored as {stored}, which is not what was answered")
            }
            Self::OtherMoney { txn, payout, revenue, stored } => {
                write!(f, "{txn}: earns payout {payout}, revenue {revenue}; stored with {stored}")
            }
            Self::OtherBalance { affiliate, earned, posted } => {
                write!(f, "affiliate {affiliate}: earned {earned}; posted {posted}")
            }
            Self::OtherTotals { earned, counted } => {
                write!(f, "earned {earned}; the totals say {counted}")
            }
        }
    }
}

/// How the comparison came out.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Verdict {
    pub transactions: u64,
    pub acknowledged: u64,
    pub denied: u64,
    pub unknown: u64,
    pub repeats: u64,
    pub stored: u64,
    /// Of the stored ones.
    pub reversed: u64,
    pub mismatches: u64,
    /// Absent if money was not looked at.
    pub money: Option<MoneyVerdict>,
    /// The first mismatches, in words.
    pub first_mismatches: Vec<String>,
}

impl Verdict {
    /// Notes a mismatch.
    pub fn report(&mut self, mismatch: &Mismatch) {
        self.mismatches += 1;
        if self.first_mismatches.len() < MISMATCHES_KEPT_MAX {
            self.first_mismatches.push(mismatch.to_string());
        }
    }
}

/// What the store has of a transaction.
#[derive(Clone, Copy, Debug)]
struct Found {
    conversion: ShortText,
    is_reversed: bool,
}

/// Compares the books of one run with the store, one stored conversion after another.
#[derive(Debug)]
pub struct Audit<'b> {
    books: &'b [Book],
    run_prefix: String,
    /// By which sales earn; `None` leaves money out.
    catalog: Option<&'b Catalog>,
    /// Per book and transaction: the conversion found stored.
    found: Vec<Vec<Option<Found>>>,
    verdict: Verdict,
}

impl<'b> Audit<'b> {
    /// An audit of all threads' books of the run `run_id`, in the order of their shards.
    pub fn new(run_id: &str, books: &'b [Book], catalog: Option<&'b Catalog>) -> Self {
        let found = books.iter().map(|book| vec![None; book.entries.len()]).collect();
        let run_prefix = format!("{run_id}-");
        Self { books, run_prefix, catalog, found, verdict: Verdict::default() }
    }

    /// Takes one stored conversion; those of other runs are passed over.
    pub fn stored(&mut self, stored: &Stored) {
        let Some(txn) = stored.txn_id.as_deref() else { return };
        let Some(place) = txn.strip_prefix(&self.run_prefix) else { return };
        self.verdict.stored += 1;
        let own = place.split_once('-').and_then(|(shard, number)| {
            let (shard, number): (usize, usize) = (shard.parse().ok()?, number.parse().ok()?);
            let entry = self.books.get(shard)?.entries.get(number)?;
            Some((shard, number, entry))
        });
        let txn = txn.to_owned();
        let Some((shard, number, entry)) = own else {
            return self.verdict.report(&Mismatch::NeverSent { txn });
        };
        let Click { id: sent, place } = self.books[shard].clicks[entry.click as usize];
        let click = stored.click_id.clone().unwrap_or_default();
        if click.as_bytes() != sent.as_bytes() {
            self.verdict.report(&Mismatch::OtherClick { txn: txn.clone(), sent, stored: click });
        }
        let status = stored.status.clone().unwrap_or_default();
        let is_reversed = status == "reversed";
        self.verdict.reversed += u64::from(is_reversed);
        if entry.reversed.is_some_and(|reversed| reversed != is_reversed) {
            self.verdict.report(&Mismatch::OtherStatus { txn: txn.clone(), stored: status });
        }
        if let Some(catalog) = self.catalog {
            let price = catalog.price(place, sale_amount(number as u64));
            self.money(&txn, price, stored);
        }
        let id = stored.conversion_id.clone();
        match (&mut self.found[shard][number], entry.named) {
            (Some(first), _) => {
                let first = first.conversion.to_string();
                self.verdict.report(&Mismatch::StoredTwice { txn, first, second: id });
            }
            (place, named) => {
                let conversion = ShortText::new(id.as_bytes()).or(ShortText::new(b"?"));
                *place = conversion.map(|conversion| Found { conversion, is_reversed });
                if let Some(answered) = named.filter(|named| named.as_bytes() != id.as_bytes()) {
                    self.verdict.report(&Mismatch::OtherConversion { txn, answered, stored: id });
                }
            }
        }
    }

    fn money(&mut self, txn: &str, price: Price, stored: &Stored) {
        let Stored { payout, revenue, currency, .. } = stored;
        let read = |text: &Option<String>| micros(text.as_deref()?);
        let wanted = [price.payout, price.revenue].map(i128::from);
        let is_right = [read(payout), read(revenue)] == wanted.map(Some);
        if !is_right || currency.as_deref() != Some("USD") {
            let stored = format!("{payout:?}, {revenue:?}, {currency:?}");
            let [payout, revenue] = wanted.map(dollars);
            let txn = txn.to_owned();
            self.verdict.report(&Mismatch::OtherMoney { txn, payout, revenue, stored });
        }
    }

    /// Judges every transaction after the whole store has been seen; also answers what those that
    /// count have earned.
    pub fn finish(mut self) -> (Verdict, Earned) {
        let mut earned = Earned::new();
        for (book, found) in self.books.iter().zip(&self.found) {
            for (number, (entry, found)) in book.entries.iter().zip(found).enumerate() {
                self.verdict.transactions += 1;
                self.verdict.repeats += u64::from(entry.duplicates);
                let txn = || format!("{}{number}", book.prefix);
                judge(entry, found.is_some(), txn, &mut self.verdict);
                if let Some(catalog) = self.catalog.filter(|_| entry.counts(found.is_some())) {
                    let place = book.clicks[entry.click as usize].place;
                    let price = catalog.price(place, sale_amount(number as u64));
                    let sums = earned.entry(place.affiliate).or_default();
                    sums.add(price);
                    let is_found_reversed = found.is_some_and(|found| found.is_reversed);
                    if entry.reversed.unwrap_or(is_found_reversed) {
                        sums.take_back(price);
                    }
                }
            }
        }
        (self.verdict, earned)
    }
}

impl Entry {
    const fn is_acknowledged(&self) -> bool {
        self.accepted > 0 || self.duplicates > 0
    }

    /// Whether it must have been counted, or may have been and was.
    const fn counts(&self, is_stored: bool) -> bool {
        self.is_acknowledged() || (self.unknown > 0 && is_stored)
    }
}

fn judge(entry: &Entry, is_stored: bool, txn: impl Fn() -> String, verdict: &mut Verdict) {
    let acknowledged = entry.is_acknowledged();
    let uncertain = entry.unknown > 0;
    *match (acknowledged, uncertain) {
        (true, _) => &mut verdict.acknowledged,
        (false, true) => &mut verdict.unknown,
        (false, false) => &mut verdict.denied,
    } += 1;
    if acknowledged && !is_stored {
        verdict.report(&Mismatch::Missing { txn: txn() });
    }
    if acknowledged && entry.named.is_none() {
        verdict.report(&Mismatch::Unnamed { txn: txn() });
    }
    if entry.accepted > 1 {
        verdict.report(&Mismatch::AcceptedTwice { txn: txn() });
    }
    if let (Some(first), Some(other)) = (entry.named, entry.contradicted) {
        verdict.report(&Mismatch::Contradicted { txn: txn(), first, other });
    }
    if entry.duplicates > 0 && entry.accepted == 0 && !uncertain {
        verdict.report(&Mismatch::DuplicateOfNothing { txn: txn() });
    }
    if is_stored && !acknowledged && !uncertain && entry.denied > 0 {
        verdict.report(&Mismatch::StoredAlthoughDenied { txn: txn() });
    }
}

#[cfg(test)]
#[path = "books_tests.rs"]
mod tests;
