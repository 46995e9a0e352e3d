// Hot path: every postback passes here, by a copy of its row or by one atomic addition.
//! Postbacks as received. Those that make or change a conversion are in its batch; of the others
//! as many as the limits say, without anybody waiting for them.
//!
//! Rows are gathered with the batch being collected, and written as pages of about a hundred: one
//! insert each, and neighbours compress together. What leads from a click to a row is only there
//! for rows that made nothing: what made a conversion or a step of it is found by its time.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::sync::Arc;

use super::engine::{Batch, Direction, Engine};
use super::keys::{self, InboundId, RecordKey};
use super::records::{
    InboundHead, InboundRow, StoredIp, begin_inbound_page, decode_inbound_page, encode_inbound,
    inbound_flags,
};
use super::sampling::Sampling;
use super::schema::Table;
use super::{EraseError, ReadError, Store, SubmitError};
use crate::click_id::RecordId;
use crate::limits::{
    INBOUND_DAYS_TRACED_MAX, INBOUND_PAGE_BYTES, INBOUND_PAGES_LOOKED_AT_MAX,
    INBOUND_WAITED_MS_MAX, PAGE_ROWS_SCANNED_MAX, TRACE_INBOUND_MAX,
};
use crate::model::rate::Day;
use crate::model::reasons::Refusal;

/// A postback to be written down.
#[derive(Clone, Copy)]
pub struct Arrival<'a> {
    /// What is kept beside its parameters.
    pub head: InboundHead<'a>,
    /// Appends its parameters, returns flags.
    pub text: &'a dyn Fn(&mut Vec<u8>) -> u8,
}

/// Postbacks as received of the batch being collected.
#[derive(Default)]
pub(super) struct Arrivals {
    bytes: Vec<u8>,
    rows: Vec<Row>,
}

struct Row {
    end: usize,
    time_ms: u64,
    /// The click that leads here.
    click: Option<RecordKey>,
}

impl Arrivals {
    /// Adds a postback that makes or changes a conversion, which leads to it.
    pub fn push(&mut self, arrival: &Arrival<'_>) {
        encode_inbound(&arrival.head, arrival.text, &mut self.bytes);
        self.end_row(&arrival.head, None);
    }

    /// Adds a row that is encoded already, to which its click leads.
    fn add(&mut self, head: &InboundHead<'_>, row: &[u8]) {
        self.bytes.extend_from_slice(row);
        self.end_row(head, head.click);
    }

    fn end_row(&mut self, head: &InboundHead<'_>, click: Option<RecordKey>) {
        self.rows.push(Row { end: self.bytes.len(), time_ms: head.time_ms, click });
    }

    /// Their size.
    pub fn bytes(&self) -> usize {
        self.bytes.len()
    }

    /// Moves all of them into the batch, as pages.
    pub fn write(&mut self, batch: &mut Batch, start: u64, number: u64) {
        let (mut rows, mut from, mut page) = (self.rows.as_slice(), 0, 0);
        while !rows.is_empty() {
            let fits = |row: &&Row| row.end - from <= INBOUND_PAGE_BYTES;
            let count = rows.iter().take_while(fits).count().clamp(1, usize::from(u16::MAX));
            let (own, others) = rows.split_at(count);
            let end = own.last().map_or(from, |row| row.end);
            let newest_ms = own.iter().map(|row| row.time_ms).max().unwrap_or_default();
            let id = keys::inbound_page_id(newest_ms, start, number, page);
            batch.put(Table::Inbound, &keys::inbound_page(&id), |out| {
                begin_inbound_page(out);
                out.extend_from_slice(&self.bytes[from..end]);
            });
            for (row, place) in own.iter().zip(0..) {
                if let Some(click) = &row.click {
                    let (day, to) = (Day::of_ms(row.time_ms), InboundId { page: id, row: place });
                    batch.put(Table::Inbound, &keys::inbound_click(day, click, to), |_| {});
                }
            }
            (rows, from, page) = (others, end, page + 1);
        }
        self.bytes.clear();
        self.rows.clear();
    }
}

/// A page of postbacks as it was stored, and which of its rows is meant.
#[derive(Clone, Debug)]
pub struct StoredInbound {
    /// Which.
    pub id: InboundId,
    page: Arc<[u8]>,
}

impl StoredInbound {
    /// The row.
    ///
    /// # Errors
    /// When the page does not decode.
    pub fn row(&self) -> Result<InboundRow<'_>, ReadError> {
        let rows = decode_inbound_page(&self.page)?;
        let row = rows.get(usize::from(self.id.row)).copied();
        Ok(row.ok_or(super::records::RecordError::Corrupt)?)
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
}

impl Store {
    /// Which postbacks that make nothing are written down.
    #[must_use]
    pub const fn sampling(&self) -> &Sampling {
        &self.sampling
    }

    /// Writes down a postback that made nothing, refused for `reason` or else a duplicate, with
    /// the next commit. Nobody waits for it.
    pub fn note_arrival(&self, arrival: &Arrival<'_>, reason: Option<Refusal>) {
        match self.note(arrival, reason) {
            Ok(bytes) => self.sampling.wrote(bytes, reason),
            Err(_) => self.sampling.missed(reason),
        }
    }

    /// Returns how many bytes it takes.
    fn note(&self, arrival: &Arrival<'_>, reason: Option<Refusal>) -> Result<usize, SubmitError> {
        if self.health().is_disk_full() {
            return Err(SubmitError::DiskFull);
        }
        if !self.sampling.has_room(reason) {
            return Err(SubmitError::Full);
        }
        // Before the writer's lock is taken: strangers choose how long it takes.
        let mut row = Vec::new();
        encode_inbound(&arrival.head, arrival.text, &mut row);
        self.writer().note(|arrivals| arrivals.add(&arrival.head, &row))?;
        Ok(row.len() + arrival.head.click.map_or(0, |_| keys::INBOUND_CLICK_KEY_BYTES))
    }

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
            let (mut listing, mut scanned) = (InboundListing::default(), 0);
            each_page(engine, &from, &keys::inbound_page(&to), |page, rows, bytes| {
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
                    }
                    if listing.rows.len() == limit || scanned == PAGE_ROWS_SCANNED_MAX {
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

    /// The postbacks that name a click and made nothing, oldest first, of the days up to `now_ms`.
    ///
    /// # Errors
    /// When the store cannot be read now.
    pub async fn inbound_of_click(
        &self,
        click: RecordId,
        now_ms: u64,
    ) -> Result<Vec<StoredInbound>, ReadError> {
        let last = Day::of_ms(now_ms).get().saturating_add(1);
        let first = Day::of_ms(click.time_ms()).get().saturating_sub(1);
        let first = first.max(last.saturating_sub(INBOUND_DAYS_TRACED_MAX));
        let read = move |engine: &dyn Engine| {
            let mut ids = BTreeSet::new();
            for day in (first..=last).map(Day::new) {
                let (from, to) = keys::inbound_click_range(day, click);
                engine.scan(Table::Inbound, &from, &to, Direction::Ascending, &mut |key, _| {
                    ids.extend(keys::inbound_click_of(key).map(|(_, row)| row));
                    match ids.len() < TRACE_INBOUND_MAX {
                        true => ControlFlow::Continue(()),
                        false => ControlFlow::Break(()),
                    }
                })?;
            }
            let mut rows = Vec::new();
            for id in ids {
                // Retention takes both, but not in the same moment.
                let page = engine.value(Table::Inbound, &keys::inbound_page(&id.page))?;
                rows.extend(page.map(|page| StoredInbound { id, page: page.into() }));
            }
            Ok(rows)
        };
        self.readers.run(read).await?
    }

    /// The postbacks behind the steps of a conversion, of which each has its time.
    ///
    /// # Errors
    /// When the store cannot be read now.
    pub async fn inbound_of_conversion(
        &self,
        conversion: RecordId,
        steps_ms: BTreeMap<u64, usize>,
    ) -> Result<Vec<StoredInbound>, ReadError> {
        let read = move |engine: &dyn Engine| {
            let mut found = Vec::new();
            for (time_ms, steps) in steps_ms {
                let to = keys::first_at(time_ms.saturating_add(INBOUND_WAITED_MS_MAX));
                let (from, to) =
                    (keys::inbound_page(&keys::first_at(time_ms)), keys::inbound_page(&to));
                let (mut looked_at, all) = (0, found.len() + steps);
                each_page(engine, &from, &to, |page, rows, bytes| {
                    looked_at += 1;
                    for (row, place) in rows.iter().zip(0..) {
                        let is_it = row.head.conversion == Some(*conversion.as_bytes())
                            && row.head.time_ms == time_ms
                            && row.head.result().is_some_and(|result| result.is_effective());
                        if is_it {
                            let id = InboundId { page, row: place };
                            found.push(StoredInbound { id, page: bytes.into() });
                        }
                    }
                    let ends = found.len() >= all || looked_at == INBOUND_PAGES_LOOKED_AT_MAX;
                    if ends { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
                })?;
            }
            Ok(found)
        };
        self.readers.run(read).await?
    }
}

impl Store {
    /// Removes parameters, paths and addresses of rows that were just read; each page is a commit.
    /// Returns how many were not erased before. Only one erasure may be under way.
    ///
    /// # Errors
    /// When a page does not decode, the store takes no writes or the disk did not confirm.
    pub async fn erase_inbound(&self, found: &[StoredInbound]) -> Result<u64, EraseError> {
        let mut pages: BTreeMap<RecordKey, (&[u8], BTreeSet<u16>)> = BTreeMap::new();
        for row in found {
            let page = pages.entry(row.id.page).or_insert((&row.page, BTreeSet::new()));
            page.1.insert(row.id.row);
        }
        let mut erased = 0;
        for (id, (bytes, meant)) in pages {
            let rows = decode_inbound_page(bytes).map_err(ReadError::from)?;
            let is_left = |row: &InboundRow<'_>, place: u16| {
                meant.contains(&place) && row.flags & inbound_flags::ERASED == 0
            };
            let left = rows.iter().zip(0..).filter(|(row, place)| is_left(row, *place)).count();
            if left == 0 {
                continue;
            }
            if self.health().is_disk_full() {
                return Err(SubmitError::DiskFull.into());
            }
            let mut page = Vec::with_capacity(bytes.len());
            begin_inbound_page(&mut page);
            for (row, place) in rows.iter().zip(0..) {
                let anew = if is_left(row, place) { erased_row(row) } else { *row };
                let text = |out: &mut Vec<u8>| {
                    out.extend_from_slice(anew.text.as_bytes());
                    anew.flags
                };
                encode_inbound(&anew.head, text, &mut page);
            }
            let key = keys::inbound_page(&id);
            let put = |batch: &mut Batch| {
                batch.put(Table::Inbound, &key, |out| out.extend_from_slice(&page));
            };
            self.change(put).await?;
            erased += left as u64;
        }
        Ok(erased)
    }
}

fn erased_row<'a>(row: &InboundRow<'a>) -> InboundRow<'a> {
    let head = InboundHead { ip: StoredIp::None, path: "", ..row.head };
    InboundRow { head, flags: row.flags | inbound_flags::ERASED, text: "" }
}

/// Shows `visit` the pages of a range: ID, rows, bytes.
fn each_page(
    engine: &dyn Engine,
    from: &[u8],
    to: &[u8],
    mut visit: impl FnMut(RecordKey, &[InboundRow<'_>], &[u8]) -> ControlFlow<()>,
) -> Result<(), ReadError> {
    let mut damaged = None;
    engine.scan(Table::Inbound, from, to, Direction::Ascending, &mut |key, value| {
        let Some(page) = keys::inbound_page_of(key) else { return ControlFlow::Continue(()) };
        match decode_inbound_page(value) {
            Ok(rows) => visit(page, &rows, value),
            Err(error) => {
                damaged = Some(error);
                ControlFlow::Break(())
            }
        }
    })?;
    damaged.map_or(Ok(()), |error| Err(error.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_hold_all_rows_in_order_and_clicks_lead_to_theirs() {
        let (mut arrivals, mut batch) = (Arrivals::default(), Batch::default());
        for n in 0..300_u64 {
            let text = |out: &mut Vec<u8>| {
                out.resize(out.len() + 200, b'x');
                0
            };
            let click = (n % 100 == 0).then_some([n as u8; 16]);
            let head = InboundHead { time_ms: n, click, ..InboundHead::default() };
            let mut row = Vec::new();
            encode_inbound(&head, text, &mut row);
            arrivals.add(&head, &row);
        }
        arrivals.write(&mut batch, 1, 2);
        assert_eq!(arrivals.bytes(), 0);
        let (mut times, mut pages, mut clicks) = (Vec::new(), 0, Vec::new());
        for change in batch.changes() {
            let super::super::engine::Change::Put(Table::Inbound, key, value) = change else {
                panic!("{change:?}")
            };
            if let Some((click, row)) = keys::inbound_click_of(key) {
                clicks.push((click.as_bytes()[0], row.row));
                continue;
            }
            let id = keys::inbound_page_of(key).expect("a page");
            let rows = decode_inbound_page(value).expect("decodes");
            assert!(value.len() <= INBOUND_PAGE_BYTES + 1);
            assert_eq!(
                rows.last().map(|row| row.head.time_ms),
                Some(RecordId::from_bytes(id).time_ms())
            );
            times.extend(rows.iter().map(|row| row.head.time_ms));
            pages += 1;
        }
        assert_eq!(times, (0..300).collect::<Vec<_>>());
        assert!(pages > 3);
        assert_eq!(clicks.iter().map(|(click, _)| *click).collect::<Vec<_>>(), [0, 100, 200]);
    }
}
