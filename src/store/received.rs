//! Postbacks as received, read: by time, by the click that they name, by what they made.
//!
//! A page that does not decode is passed over and named: it hides some postbacks, not all.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::ControlFlow;
use std::sync::Arc;

use super::engine::{Direction, Engine, EngineError};
use super::keys::{self, InboundId, RecordKey};
use super::records::{InboundRow, RecordError, decode_inbound_page};
use super::schema::Table;
use super::{ReadError, Store};
use crate::click_id::RecordId;
use crate::limits::{
    INBOUND_DAYS_TRACED_MAX, INBOUND_PAGES_LOOKED_AT_MAX, INBOUND_ROWS_OF_DAMAGED,
    INBOUND_WAITED_MS_MAX, PAGE_BYTES_MAX, PAGE_ROWS_SCANNED_MAX, TRACE_INBOUND_MAX,
};
use crate::model::period::Day;

/// A page of postbacks as it was stored, and which of its rows is meant.
#[derive(Clone, Debug)]
pub struct StoredInbound {
    /// Which.
    pub id: InboundId,
    page: Arc<[u8]>,
}

impl StoredInbound {
    /// All of its page.
    pub(super) fn page(&self) -> &[u8] {
        &self.page
    }

    /// The row.
    ///
    /// # Errors
    /// When the page does not decode.
    pub fn row(&self) -> Result<InboundRow<'_>, ReadError> {
        let rows = decode_inbound_page(&self.page)?;
        let row = rows.get(usize::from(self.id.row)).copied();
        Ok(row.ok_or(RecordError::Corrupt)?)
    }
}

/// Decides whether a postback belongs on a page of a listing.
pub type InboundFilter = Arc<dyn Fn(&InboundRow<'_>) -> bool + Send + Sync>;

/// A page of a listing.
#[derive(Debug, Default)]
pub struct InboundListing {
    /// The rows, in the order in which they were written down.
    pub rows: Vec<StoredInbound>,
    /// The last one looked at, if there may be more after it.
    pub next: Option<InboundId>,
    /// Pages that do not decode, and were passed over.
    pub damaged: Vec<RecordKey>,
    /// Pages that did not, and were emptied.
    pub emptied: Vec<RecordKey>,
}

/// Postbacks that belong to something.
#[derive(Debug, Default)]
pub struct FoundInbound {
    /// Where they were found.
    pub rows: Vec<StoredInbound>,
    /// Pages that do not decode, and may have held further ones.
    pub damaged: BTreeSet<RecordKey>,
    /// Pages that did not, and were emptied.
    pub emptied: BTreeSet<RecordKey>,
}

impl FoundInbound {
    /// Adds what was found elsewhere.
    pub fn extend(&mut self, other: Self) {
        self.rows.extend(other.rows);
        self.damaged.extend(other.damaged);
        self.emptied.extend(other.emptied);
    }
}

impl Store {
    /// Postbacks received in `from_ms..to_ms` that `filter` lets through, at most `limit`, after
    /// `cursor`. A page may be short and still have a next one.
    ///
    /// # Errors
    /// When the store cannot be read now.
    pub async fn inbound(
        &self,
        from_ms: u64,
        to_ms: u64,
        cursor: Option<InboundId>,
        limit: usize,
        filter: InboundFilter,
    ) -> Result<InboundListing, ReadError> {
        let from = keys::inbound_page(&cursor.map_or(keys::first_at(from_ms), |id| id.page));
        let to = keys::first_at(to_ms.saturating_add(INBOUND_WAITED_MS_MAX));
        let read = move |engine: &dyn Engine| {
            let (mut listing, mut scanned, mut bytes_found) = (InboundListing::default(), 0, 0);
            each_page(engine, &from, &keys::inbound_page(&to), |page, rows, bytes| {
                let Ok(rows) = rows else {
                    let last = InboundId { page, row: u16::MAX };
                    if cursor.is_none_or(|cursor| cursor < last) {
                        listing.damaged.push(page);
                        // As much work as others, which have rows.
                        scanned += INBOUND_ROWS_OF_DAMAGED;
                    }
                    if scanned >= PAGE_ROWS_SCANNED_MAX {
                        listing.next = Some(last);
                        return ControlFlow::Break(());
                    }
                    return ControlFlow::Continue(());
                };
                if rows.is_empty() {
                    listing.emptied.push(page);
                }
                let mut shared = None;
                for (row, place) in rows.iter().zip(0..) {
                    let id = InboundId { page, row: place };
                    if cursor.is_some_and(|cursor| id <= cursor) {
                        continue;
                    }
                    scanned += 1;
                    if (from_ms..to_ms).contains(&row.head.time_ms) && filter(row) {
                        let page = shared.get_or_insert_with(|| Arc::from(bytes));
                        listing.rows.push(StoredInbound { id, page: Arc::clone(page) });
                        bytes_found += row.text.len();
                    }
                    let is_full = listing.rows.len() == limit || bytes_found >= PAGE_BYTES_MAX;
                    if is_full || scanned >= PAGE_ROWS_SCANNED_MAX {
                        listing.next = Some(id);
                        return ControlFlow::Break(());
                    }
                }
                ControlFlow::Continue(())
            })?;
            Ok(listing)
        };
        self.readers.run(read).await?
    }

    /// The newest postbacks that `filter` lets through, at most `limit`, of as many as a page of
    /// [`Store::inbound`] looks at.
    ///
    /// # Errors
    /// When the store cannot be read now.
    pub async fn newest_inbound(
        &self,
        limit: usize,
        filter: InboundFilter,
    ) -> Result<FoundInbound, ReadError> {
        let (from, to) = (keys::first_at(0), keys::first_at(u64::MAX));
        let read = move |engine: &dyn Engine| {
            let (mut found, mut scanned) = (FoundInbound::default(), 0);
            let (from, to) = (keys::inbound_page(&from), keys::inbound_page(&to));
            let down = Direction::Descending;
            each_page_towards(engine, &from, &to, down, |page, rows, bytes| {
                match rows {
                    Err(_) => {
                        found.damaged.insert(page);
                        scanned += INBOUND_ROWS_OF_DAMAGED;
                    }
                    Ok(rows) => {
                        let mut shared = None;
                        for (place, row) in rows.iter().enumerate().rev() {
                            scanned += 1;
                            let Ok(place) = u16::try_from(place) else { continue };
                            if found.rows.len() < limit && filter(row) {
                                let id = InboundId { page, row: place };
                                let page = shared.get_or_insert_with(|| Arc::from(bytes));
                                found.rows.push(StoredInbound { id, page: Arc::clone(page) });
                            }
                        }
                    }
                }
                let ends = found.rows.len() == limit || scanned >= PAGE_ROWS_SCANNED_MAX;
                if ends { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            })?;
            found.rows.reverse();
            Ok(found)
        };
        self.readers.run(read).await?
    }

    /// The postbacks that name a click and made nothing, oldest first. Of whatever day: clocks are
    /// set, and neither when a click was minted nor what day it is bounds when they came.
    ///
    /// # Errors
    /// When the store cannot be read now.
    pub async fn inbound_of_click(&self, click: RecordId) -> Result<FoundInbound, ReadError> {
        let read = move |engine: &dyn Engine| {
            let mut ids = BTreeSet::new();
            for day in days_of_clicks(engine)? {
                let (from, to) = keys::inbound_click_range(day, click);
                engine.scan(Table::Inbound, &from, &to, Direction::Ascending, &mut |key, _| {
                    ids.extend(keys::inbound_click_of(key).map(|(_, row)| row));
                    match ids.len() < TRACE_INBOUND_MAX {
                        true => ControlFlow::Continue(()),
                        false => ControlFlow::Break(()),
                    }
                })?;
            }
            let mut found = FoundInbound::default();
            let mut read: Option<(RecordKey, Arc<[u8]>, usize)> = None;
            for id in ids {
                if read.as_ref().is_none_or(|(page, ..)| *page != id.page) {
                    let page = engine.value(Table::Inbound, &keys::inbound_page(&id.page))?;
                    // Retention takes both, but not in the same moment.
                    let Some(page) = page else { continue };
                    let Ok(rows) = decode_inbound_page(&page).map(|rows| rows.len()) else {
                        found.damaged.insert(id.page);
                        continue;
                    };
                    read = Some((id.page, page.into(), rows));
                }
                match &read {
                    Some((_, page, rows)) if usize::from(id.row) < *rows => {
                        found.rows.push(StoredInbound { id, page: Arc::clone(page) });
                    }
                    Some((page, _, 0)) => _ = found.emptied.insert(*page),
                    _ => {}
                }
            }
            Ok(found)
        };
        self.readers.run(read).await?
    }

    /// The postbacks behind the steps of some conversions, of which each has its time.
    ///
    /// # Errors
    /// When the store cannot be read now.
    pub async fn inbound_of_conversions(
        &self,
        conversions: Vec<(RecordId, BTreeMap<u64, usize>)>,
    ) -> Result<FoundInbound, ReadError> {
        let read = move |engine: &dyn Engine| {
            let (mut found, mut last) = (FoundInbound::default(), None);
            for (conversion, steps_ms) in conversions {
                for (time_ms, steps) in steps_ms {
                    let step = Step { conversion: *conversion.as_bytes(), time_ms, steps };
                    step.find(engine, &mut last, &mut found)?;
                }
            }
            Ok(found)
        };
        self.readers.run(read).await?
    }
}

/// What happened to a conversion at a time.
struct Step {
    conversion: RecordKey,
    time_ms: u64,
    /// By so many postbacks.
    steps: usize,
}

impl Step {
    /// Finds the postbacks in a page that made it.
    fn places(&self, rows: &[InboundRow<'_>]) -> impl Iterator<Item = u16> {
        let is_it = |row: &InboundRow<'_>| {
            row.head.conversion == Some(self.conversion)
                && row.head.time_ms == self.time_ms
                && row.head.result().is_some_and(|result| result.is_effective())
        };
        rows.iter().zip(0..).filter(move |(row, _)| is_it(row)).map(|(_, place)| place)
    }

    /// Looks first into the page in which the last one was found: neighbours in time are
    /// neighbours there.
    fn find(
        &self,
        engine: &dyn Engine,
        last: &mut Option<(RecordKey, Arc<[u8]>)>,
        found: &mut FoundInbound,
    ) -> Result<(), EngineError> {
        let take = |page: RecordKey, bytes: &Arc<[u8]>, row| StoredInbound {
            id: InboundId { page, row },
            page: Arc::clone(bytes),
        };
        if let Some((page, bytes)) = last
            && let Ok(rows) = decode_inbound_page(bytes)
        {
            let places: Vec<_> = self.places(&rows).collect();
            if places.len() >= self.steps {
                found.rows.extend(places.into_iter().map(|place| take(*page, bytes, place)));
                return Ok(());
            }
        }
        let to = keys::first_at(self.time_ms.saturating_add(INBOUND_WAITED_MS_MAX));
        let (from, to) =
            (keys::inbound_page(&keys::first_at(self.time_ms)), keys::inbound_page(&to));
        let (mut looked_at, all) = (0, found.rows.len() + self.steps);
        each_page(engine, &from, &to, |page, rows, bytes| {
            looked_at += 1;
            match rows {
                Err(_) => _ = found.damaged.insert(page),
                Ok([]) => _ = found.emptied.insert(page),
                Ok(rows) => {
                    let mut shared = None;
                    for place in self.places(rows) {
                        let (_, bytes) = shared.get_or_insert_with(|| (page, Arc::from(bytes)));
                        found.rows.push(take(page, bytes, place));
                    }
                    if shared.is_some() {
                        *last = shared;
                    }
                }
            }
            let ends = found.rows.len() >= all || looked_at == INBOUND_PAGES_LOOKED_AT_MAX;
            if ends { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })
    }
}

/// The days on which there are rows that lead from clicks to postbacks, the newest ones.
fn days_of_clicks(engine: &dyn Engine) -> Result<VecDeque<Day>, EngineError> {
    let (mut days, up) = (VecDeque::new(), Direction::Ascending);
    let [mut from, to] = [0, u32::MAX].map(Day::new).map(keys::inbound_clicks_from);
    loop {
        let next =
            engine.first(Table::Inbound, &from, &to, up, |key, _| keys::inbound_click_day(key))?;
        let Some(day) = next.flatten() else { return Ok(days) };
        days.push_back(day);
        if days.len() > INBOUND_DAYS_TRACED_MAX {
            days.pop_front();
        }
        from = keys::inbound_clicks_from(day.next());
    }
}

/// Shows `visit` the pages of a range: ID, rows, bytes.
fn each_page(
    engine: &dyn Engine,
    from: &[u8],
    to: &[u8],
    visit: impl FnMut(RecordKey, Result<&[InboundRow<'_>], RecordError>, &[u8]) -> ControlFlow<()>,
) -> Result<(), EngineError> {
    each_page_towards(engine, from, to, Direction::Ascending, visit)
}

fn each_page_towards(
    engine: &dyn Engine,
    from: &[u8],
    to: &[u8],
    direction: Direction,
    mut visit: impl FnMut(RecordKey, Result<&[InboundRow<'_>], RecordError>, &[u8]) -> ControlFlow<()>,
) -> Result<(), EngineError> {
    engine.scan(Table::Inbound, from, to, direction, &mut |key, value| {
        let Some(page) = keys::inbound_page_of(key) else { return ControlFlow::Continue(()) };
        let rows = decode_inbound_page(value);
        visit(page, rows.as_deref().map_err(|error| *error), value)
    })
}
