// Hot path: every postback passes here, by a copy of its row or by one atomic addition.
//! Postbacks as received. Those that make or change a conversion are in its batch; of the others
//! as many as the limits say, without anybody waiting for them.
//!
//! Rows are gathered with the batch being collected, and written as pages of about a hundred: one
//! insert each, and neighbours compress together. What leads from a click to a row is only there
//! for rows that made nothing: what made a conversion or a step of it is found by its time.

use super::engine::Batch;
use super::keys::{self, InboundId, RecordKey};
use super::records::{InboundHead, begin_inbound_page, encode_inbound};
use super::sampling::Sampling;
use super::schema::Table;
use super::{Store, SubmitError};
use crate::limits::{INBOUND_PAGE_BYTES, INBOUND_WAITED_MS_MAX};
use crate::model::period::Day;
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
            let mut span: Option<(u64, u64)> = None;
            let fits = |row: &&Row| {
                let time_ms = row.time_ms;
                let (oldest_ms, newest_ms) = span.unwrap_or((time_ms, time_ms));
                let (oldest_ms, newest_ms) = (oldest_ms.min(time_ms), newest_ms.max(time_ms));
                let has_room = row.end - from <= INBOUND_PAGE_BYTES;
                // A page is named by its newest row; rows are looked for until so long after theirs.
                let is_near = newest_ms - oldest_ms < INBOUND_WAITED_MS_MAX;
                let fits = span.is_none() || has_room && is_near;
                if fits {
                    span = Some((oldest_ms, newest_ms));
                }
                fits
            };
            let count = rows.iter().take(usize::from(u16::MAX)).take_while(fits).count();
            let (own, others) = rows.split_at(count);
            let end = own.last().map_or(from, |row| row.end);
            let newest_ms = span.map_or(0, |(_, newest_ms)| newest_ms);
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
        if !self.health().has_room_for_strangers() {
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
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::click_id::RecordId;
    use crate::store::records::decode_inbound_page;

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

    #[test]
    fn what_waited_for_a_disk_is_in_pages_that_its_time_leads_to() {
        let (mut arrivals, mut batch) = (Arrivals::default(), Batch::default());
        // One a second for three minutes, with a clock that is set back in between.
        let times: Vec<u64> = (100..190).chain(70..160).map(|second| second * 1000).collect();
        for time_ms in &times {
            let head = InboundHead { time_ms: *time_ms, ..InboundHead::default() };
            arrivals.push(&Arrival { head, text: &|_| 0 });
        }
        arrivals.write(&mut batch, 1, 2);
        let mut found = Vec::new();
        for change in batch.changes() {
            let super::super::engine::Change::Put(Table::Inbound, key, value) = change else {
                panic!("{change:?}")
            };
            let page = keys::inbound_page_of(key).expect("a page");
            let page_ms = RecordId::from_bytes(page).time_ms();
            for row in decode_inbound_page(value).expect("decodes") {
                let time_ms = row.head.time_ms;
                let looked_at = time_ms..time_ms + INBOUND_WAITED_MS_MAX;
                assert!(looked_at.contains(&page_ms), "{time_ms} in the page of {page_ms}");
                found.push(time_ms);
            }
        }
        assert_eq!(found, times);
    }
}
