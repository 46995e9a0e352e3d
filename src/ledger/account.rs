//! An affiliate's accounts: balances, statements, and the postings one by one; exact to the last
//! commit.
//!
//! Sealed days are taken from their seals, so that only the postings of the last days are summed
//! up. Conversions that are not filed yet are read from their records.

use std::collections::BTreeMap;
use std::ops::{ControlFlow, Range};

use super::proof::{Sealed, sealed};
use crate::limits::POSTINGS_AT_ONCE_MAX;
use crate::model::ids::AffiliateNumber;
use crate::model::period::Day;
use crate::store::keys::{self, PostingKey};
use crate::store::postings::{Balances, Posting};
use crate::store::records::SealRecord;
use crate::store::{ReadError, Store, View};

const FIRST_DAY: Day = Day::new(0);
const END_OF_DAYS: Day = Day::new(u32::MAX);

/// One day of a statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// The day.
    pub day: Day,
    /// What was posted on it.
    pub posted: Balances,
    /// Whether it is sealed.
    pub sealed: bool,
}

/// What happened on an affiliate's accounts in some days.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Statement {
    /// What the accounts held before.
    pub opening: Balances,
    /// The days on which there were postings.
    pub lines: Vec<Line>,
    /// What they held afterwards: the opening balances and all lines together.
    pub closing: Balances,
}

/// What an affiliate's accounts hold now, and the newest of its seals.
///
/// # Errors
/// When the store cannot be read.
pub async fn balances(
    store: &Store,
    affiliate: AffiliateNumber,
) -> Result<(Balances, Option<Sealed>), ReadError> {
    let (newest, mut balances) = newest_seal(store, affiliate, END_OF_DAYS).await?;
    let unsealed = after(newest.as_ref())..END_OF_DAYS;
    for posted in sums_by_day(store, affiliate, unsealed).await?.values() {
        balances.add_all(posted);
    }
    Ok((balances, newest.map(|(day, seal)| sealed(affiliate, day, &seal))))
}

/// The statement of some days.
///
/// # Errors
/// When the store cannot be read.
pub async fn statement(
    store: &Store,
    affiliate: AffiliateNumber,
    days: Range<Day>,
) -> Result<Statement, ReadError> {
    let range = days.clone();
    let look = move |view: &View<'_>| view.seals(affiliate, range.start, range.end);
    let seals = store.read_view(store.filed_below(), look).await??;
    // Only now: days are sealed in their order, so these follow the one found here, even if some
    // were sealed in between.
    let (mut newest, opening) = newest_seal(store, affiliate, days.start).await?;
    let mut statement = Statement { closing: opening.clone(), opening, lines: Vec::new() };
    for (day, seal) in seals {
        let balances = Balances::of_seal(&seal);
        let posted = balances.less(&statement.closing);
        statement.lines.push(Line { day, posted, sealed: true });
        statement.closing = balances;
        newest = Some((day, seal));
    }
    for (day, posted) in sums_by_day(store, affiliate, after(newest.as_ref())..days.end).await? {
        statement.closing.add_all(&posted);
        if day < days.start {
            // Only where nothing from the first day on is sealed.
            statement.opening.add_all(&posted);
        } else {
            statement.lines.push(Line { day, posted, sealed: false });
        }
    }
    Ok(statement)
}

/// Postings after `cursor`, oldest day first, at most `limit`.
///
/// # Errors
/// When the store cannot be read.
pub async fn page(
    store: &Store,
    affiliate: AffiliateNumber,
    cursor: Option<PostingKey>,
    limit: usize,
) -> Result<Vec<Posting>, ReadError> {
    let look = move |view: &View<'_>| {
        let from = start(affiliate, FIRST_DAY, cursor);
        let mut rows = BTreeMap::new();
        view.postings(affiliate, &from, END_OF_DAYS, &mut |posting| {
            rows.insert(posting.key, posting);
            if rows.len() < limit { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        })?;
        view.unfiled_postings(affiliate, &mut |posting| {
            if cursor.is_none_or(|cursor| cursor < posting.key) {
                rows.insert(posting.key, posting);
            }
            if rows.len() > limit {
                rows.pop_last();
            }
        })?;
        Ok(rows.into_values().collect())
    };
    store.read_view(store.filed_below(), look).await?
}

/// The newest seal before a day, and the balances that it ends with.
async fn newest_seal(
    store: &Store,
    affiliate: AffiliateNumber,
    day: Day,
) -> Result<(Option<(Day, SealRecord)>, Balances), ReadError> {
    let look = move |view: &View<'_>| view.seal_before(affiliate, day);
    let seal = store.read_view(store.filed_below(), look).await??;
    let balances = seal.as_ref().map_or_else(Balances::default, |(_, it)| Balances::of_seal(it));
    Ok((seal, balances))
}

/// The first day after a seal.
fn after(seal: Option<&(Day, SealRecord)>) -> Day {
    seal.map_or(FIRST_DAY, |(day, _)| day.next())
}

/// Where postings after `cursor` begin.
fn start(affiliate: AffiliateNumber, day: Day, cursor: Option<PostingKey>) -> Vec<u8> {
    match cursor {
        None => keys::postings_from(affiliate, day).to_vec(),
        // The key right after it, since keys have one length.
        Some(cursor) => [&cursor.encode()[..], &[0]].concat(),
    }
}

/// What was posted on each of some days, with a few rows at a time on a reader's thread.
async fn sums_by_day(
    store: &Store,
    affiliate: AffiliateNumber,
    days: Range<Day>,
) -> Result<BTreeMap<Day, Balances>, ReadError> {
    // One bound for the whole walk: below it rows count, above it records do.
    let filed_below = store.filed_below();
    let mut sums: BTreeMap<Day, Balances> = BTreeMap::new();
    let mut cursor = None;
    loop {
        let (from, to) = (start(affiliate, days.start, cursor), days.end);
        let look = move |view: &View<'_>| {
            let mut sums: BTreeMap<Day, Balances> = BTreeMap::new();
            let (mut seen, mut last) = (0, None);
            view.postings(affiliate, &from, to, &mut |posting| {
                sums.entry(posting.key.day).or_default().add(&posting.record);
                seen += 1;
                if seen < POSTINGS_AT_ONCE_MAX {
                    return ControlFlow::Continue(());
                }
                last = Some(posting.key);
                ControlFlow::Break(())
            })?;
            Ok::<_, ReadError>((sums, last))
        };
        let (some, last) = store.read_view(filed_below, look).await??;
        merge(&mut sums, &some);
        cursor = last;
        if cursor.is_none() {
            break;
        }
    }
    let look = move |view: &View<'_>| {
        let mut sums: BTreeMap<Day, Balances> = BTreeMap::new();
        view.unfiled_postings(affiliate, &mut |posting| {
            if days.contains(&posting.key.day) {
                sums.entry(posting.key.day).or_default().add(&posting.record);
            }
        })?;
        Ok::<_, ReadError>(sums)
    };
    merge(&mut sums, &store.read_view(filed_below, look).await??);
    Ok(sums)
}

fn merge(sums: &mut BTreeMap<Day, Balances>, more: &BTreeMap<Day, Balances>) {
    for (day, posted) in more {
        sums.entry(*day).or_default().add_all(posted);
    }
}
