//! The ledger: its entries sum to zero, are those of the conversions and no others, and no sealed
//! day has changed.

use std::collections::BTreeSet;

use super::conversions::each;
use super::{Report, VerifyError};
use crate::ledger::{Blinding, Tree, leaf, seal_hash};
use crate::model::ids::AffiliateNumber;
use crate::model::period::Day;
use crate::store::engine::EngineError;
use crate::store::keys::{self, PostingKey};
use crate::store::postings::{Balances, Posting, postings};
use crate::store::records::{Converted, Entries, PostingRecord, SealRecord};
use crate::store::schema::Table;
use crate::store::{Expired, View};

/// The table's name for its postings and its seals in a report.
const POSTINGS: &str = "ledger_postings";
const SEALS: &str = "ledger_seals";

/// Walks over the ledger: postings first, then seals, as their keys lie. `booked` is what the
/// conversions come to.
pub fn walk(
    view: &View<'_>,
    expired: &Expired,
    booked: &Balances,
    report: &mut Report,
) -> Result<(), VerifyError> {
    let blinding = Blinding::new(&view.click_key()?);
    let unsealed = view.get(Table::Meta, keys::META_UNSEALED)?;
    // What else it is made of is named with the table.
    let unsealed = unsealed.and_then(|bytes| Some(u32::from_be_bytes(bytes.try_into().ok()?)));
    let (unsealed, found) = (unsealed.map(Day::new), Balances::default());
    let mut walk = Walk { view, expired, report, blinding, unsealed, found, day: None, seal: None };
    each(view, Table::Ledger, &mut |key, value| walk.row(key, value))?;
    walk.end_day()?;
    walk.compare(booked);
    Ok(())
}

struct Walk<'w> {
    view: &'w View<'w>,
    expired: &'w Expired,
    report: &'w mut Report,
    blinding: Blinding,
    /// No day from this one on is sealed.
    unsealed: Option<Day>,
    /// What the postings of conversions that are there come to.
    found: Balances,
    /// The affiliate's day under way.
    day: Option<OneDay>,
    /// The seal before.
    seal: Option<(AffiliateNumber, Day, SealRecord)>,
}

/// The postings of an affiliate on a day.
struct OneDay {
    affiliate: AffiliateNumber,
    day: Day,
    tree: Tree,
    posted: Balances,
}

impl Walk<'_> {
    fn row(&mut self, key: &[u8], value: &[u8]) -> Result<(), EngineError> {
        if let Some(place) = PostingKey::decode(key) {
            self.report.count(POSTINGS);
            match PostingRecord::decode(value) {
                Ok(record) => self.posting(key, &Posting { key: place, record })?,
                Err(error) => self.report.fault(Table::Ledger, key, error.to_string()),
            }
        } else if let Some((affiliate, day)) = keys::seal_of(key) {
            self.report.count(SEALS);
            match SealRecord::decode(value) {
                Ok(seal) => self.chain(key, affiliate, day, seal)?,
                Err(error) => self.report.fault(Table::Ledger, key, error.to_string()),
            }
        } else {
            self.report.fault(Table::Ledger, key, "the key is neither of a posting nor of a seal");
        }
        Ok(())
    }

    fn posting(&mut self, key: &[u8], posting: &Posting) -> Result<(), EngineError> {
        let (PostingKey { affiliate, day, conversion, step }, record) =
            (posting.key, &posting.record);
        let converted = record.converted.iter().flat_map(|it| [it.own, it.worth]);
        if !std::iter::once(record.entries).chain(converted).all(Entries::sum_to_zero) {
            self.report.fault(Table::Ledger, key, "the entries do not sum to zero");
        }
        if self.day.as_ref().is_none_or(|it| (it.affiliate, it.day) != (affiliate, day)) {
            self.end_day()?;
            let (tree, posted) = (Tree::default(), Balances::default());
            self.day = Some(OneDay { affiliate, day, tree, posted });
        }
        if let Some(under_way) = &mut self.day {
            under_way.tree.push(leaf(posting, &self.blinding).hash());
            under_way.posted.add(record);
        }
        let Some(stored) = self.view.conversion(conversion)? else {
            if *conversion.as_bytes() < self.expired.conversions {
                self.report.expired += 1;
            } else {
                self.report.fault(Table::Ledger, key, "there is no such conversion");
            }
            return Ok(());
        };
        self.found.add(record);
        // A conversion that does not decode is named already.
        let Ok(conversion) = stored.record() else { return Ok(()) };
        match postings(stored.id, &conversion).find(|derived| derived.key.step == step) {
            Some(derived) if derived == *posting => {}
            Some(_) => {
                self.report.fault(Table::Ledger, key, "its conversion says something else");
            }
            None => {
                self.report.fault(Table::Ledger, key, "its conversion has no such step to post");
            }
        }
        Ok(())
    }

    /// Compares a day's postings with their seal.
    fn end_day(&mut self) -> Result<(), EngineError> {
        let Some(OneDay { affiliate, day, tree, posted }) = self.day.take() else { return Ok(()) };
        let key = keys::seal(affiliate, day);
        let Some(value) = self.view.get(Table::Ledger, &key)? else {
            if self.view.is_sealed_after(affiliate, day)? {
                self.report.fault(Table::Ledger, &key, "is missing, and there is a later seal");
            }
            return Ok(());
        };
        // A seal that does not decode is named by its own row.
        let Ok(seal) = SealRecord::decode(&value) else { return Ok(()) };
        let postings = tree.leaves();
        if (seal.postings, seal.root) != (postings, tree.finish().0) {
            self.report.fault(Table::Ledger, &key, "the day's postings are not those sealed");
        }
        let before = self.view.seal_before(affiliate, day).ok().flatten();
        let mut balances = before.map_or_else(Balances::default, |(_, it)| Balances::of_seal(&it));
        balances.add_all(&posted);
        if (balances.to_vec(), balances.converted()) != (seal.balances, seal.converted) {
            self.report.fault(Table::Ledger, &key, "the balances are not those of the postings");
        }
        Ok(())
    }

    /// Compares a seal with the one before it.
    fn chain(
        &mut self,
        key: &[u8],
        affiliate: AffiliateNumber,
        day: Day,
        seal: SealRecord,
    ) -> Result<(), EngineError> {
        let before = self.seal.take().filter(|(of, ..)| *of == affiliate);
        let expected = before.as_ref().map_or((None, [0; 32]), |(_, day, seal)| {
            (Some(day.get()), seal_hash(affiliate, *day, seal))
        });
        if (seal.previous_day, seal.previous) != expected {
            self.report.fault(Table::Ledger, key, "does not follow the seal before it");
        }
        if self.unsealed.is_some_and(|unsealed| day >= unsealed) {
            self.report.fault(Table::Ledger, key, "seals a day that is still posted to");
        }
        if !self.view.has_postings(affiliate, day)? {
            self.report.fault(Table::Ledger, key, "seals a day without postings");
        }
        self.seal = Some((affiliate, day, seal));
        Ok(())
    }

    /// The balances recomputed from conversions are those of the ledger.
    fn compare(&mut self, booked: &Balances) {
        let currencies = booked.iter().chain(self.found.iter()).map(|balance| balance.currency);
        for currency in currencies.collect::<BTreeSet<_>>() {
            if booked.of(currency) != self.found.of(currency) {
                let fault = "the ledger's balance is not that of the conversions";
                self.report.fault(Table::Ledger, &currency, fault);
            }
        }
        let (booked, found) = (booked.converted(), self.found.converted());
        let only = |one: &[([u8; 3], Converted)], other: &[([u8; 3], Converted)]| {
            let one = one.iter().filter(|it| !other.contains(it));
            one.map(|(currency, it)| [*currency, it.base].concat()).collect::<Vec<_>>()
        };
        for key in BTreeSet::from_iter([only(&booked, &found), only(&found, &booked)].concat()) {
            let fault =
                "the ledger's balance in the network's currency is not that of the conversions";
            self.report.fault(Table::Ledger, &key, fault);
        }
    }
}
