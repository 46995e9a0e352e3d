//! Erasing what the store knows of a person: of a click here, of conversions by changing them, and
//! at last from the files.
//!
//! A click's sums by `sub1` have to follow it, because a value of `sub1` may be personal and is
//! part of their keys. So whoever erases clicks takes a turn at counting: their records, the sums
//! without them, and those of their conversions are one commit, and nobody else changes sums
//! meanwhile. What of a click is not counted yet finds it without `sub1` when it is. Sums that do not
//! decode go with the first click of theirs: their key has the value, and they say nothing any more.

use std::collections::{BTreeSet, HashMap};
use std::ops::ControlFlow;
use std::sync::Arc;

use super::counters::Sign;
use super::counting::Exchange;
use super::engine::{Batch, Direction, Engine, EngineError, KeyRange};
use super::keys::{self, DedupeKey, Place, RecordKey, Subject};
use super::records::{
    self, Binding, ChangeRecord, ClickRecord, Contribution, ConversionRecord, Counted, Counts,
    ErasureRecord, LateClickRecord, SubRecord, click_of,
};
use super::schema::Table;
use super::sum_rows::sub_counts;
use super::ticket::Ticket;
use super::{ChangeError, ReadError, Store, SubmitError, WriteError};
use crate::click_id::RecordId;
use crate::limits::{ERASURES_UNDER_WAY_MAX, PURGED_RANGES_MAX};
use crate::model::period::Quarter;

/// How far the erasure of some clicks has come.
pub enum ClickErasure {
    /// What is left of them is to be erased by this commit, which is on its way, unless there is
    /// none.
    Begun(Option<Arc<Ticket>>, ErasedClicks),
    /// The sums are being changed by this commit, or looked at: it must be tried again.
    Later(Option<Arc<Ticket>>),
}

/// What one commit erases.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ErasedClicks {
    /// How many clicks.
    pub clicks: u64,
    /// Those that are left as they are: they do not decode, or a later release has written sums that
    /// they are in.
    pub damaged: Vec<RecordId>,
    /// Keys of sums that they were in and that do not decode, without the value of `sub1`. They are
    /// removed.
    pub damaged_sums: Vec<Vec<u8>>,
}

/// Where rows were written anew or removed. Their number does not grow beyond a bound: neighbours
/// are taken together.
#[derive(Debug, Default)]
pub struct Touched {
    ranges: Vec<KeyRange>,
}

impl Touched {
    /// A click's record, and what its sums may have been.
    pub fn click(&mut self, click: RecordId) {
        self.add(Table::Clicks, click.as_bytes().to_vec(), click.as_bytes().to_vec());
        let late = keys::late_click(click).to_vec();
        self.add(Table::Counters, late.clone(), late);
        self.sums(click);
    }

    /// A conversion's record, and what its click's sums may have been.
    pub fn conversion(&mut self, conversion: RecordId) {
        let key = conversion.as_bytes().to_vec();
        self.add(Table::Conversions, key.clone(), key);
        self.sums(conversion);
    }

    /// A page of postbacks as received.
    pub fn inbound(&mut self, page: &RecordKey) {
        let key = keys::inbound_page(page).to_vec();
        self.add(Table::Inbound, key.clone(), key);
    }

    /// The ranges, at most [`PURGED_RANGES_MAX`] of each table.
    #[must_use]
    pub fn ranges(mut self) -> Vec<KeyRange> {
        self.take_together();
        self.ranges
    }

    fn sums(&mut self, id: RecordId) {
        let (from, to) = keys::sub_counters_of(Place::of(id));
        self.add(Table::Counters, from, to);
    }

    fn add(&mut self, table: Table, from: Vec<u8>, to: Vec<u8>) {
        let range = KeyRange { table, from, to };
        if self.ranges.last() != Some(&range) {
            self.ranges.push(range);
        }
        if self.ranges.len() >= 16 * PURGED_RANGES_MAX {
            self.take_together();
        }
    }

    fn take_together(&mut self) {
        self.ranges.sort_unstable();
        self.ranges.dedup();
        for table in Table::ALL {
            let number = self.ranges.iter().filter(|range| range.table == table).count();
            let together = number.div_ceil(PURGED_RANGES_MAX);
            if together <= 1 {
                continue;
            }
            let (its, mut ranges): (Vec<_>, Vec<_>) =
                std::mem::take(&mut self.ranges).into_iter().partition(|it| it.table == table);
            ranges.extend(its.chunks(together).map(|some| {
                let to = some.iter().map(|range| &range.to).max().cloned().unwrap_or_default();
                KeyRange { table, from: some[0].from.clone(), to }
            }));
            self.ranges = ranges;
        }
    }
}

impl Store {
    /// Keeps durably that an erasure is under way, until [`Store::end_erasure`].
    ///
    /// # Errors
    /// When the store takes no writes or the disk did not confirm.
    pub async fn begin_erasure(&self, subject: Subject, now_ms: u64) -> Result<(), WriteError> {
        let record = ErasureRecord { asked_ms: now_ms };
        let key = keys::erasure(subject);
        self.change(|batch| batch.put(Table::Meta, &key, |out| record.encode(out))).await
    }

    /// Whether an erasure was begun and has not come to its end.
    ///
    /// # Errors
    /// When the store cannot be read now.
    pub async fn is_erasing(&self, subject: Subject) -> Result<bool, ReadError> {
        let key = keys::erasure(subject);
        let read = move |engine: &dyn Engine| engine.value(Table::Meta, &key);
        Ok(self.readers.run(read).await??.is_some())
    }

    /// Says that nothing is left to erase.
    ///
    /// # Errors
    /// As [`Store::begin_erasure`].
    pub async fn end_erasure(&self, subject: Subject) -> Result<(), WriteError> {
        let key = keys::erasure(subject);
        self.change(|batch| batch.delete(Table::Meta, &key)).await
    }

    /// Erasures that are under way, or were when the server was stopped; some of them, if there
    /// are many.
    ///
    /// # Errors
    /// When the store cannot be read now.
    pub async fn erasures(&self) -> Result<Vec<Subject>, ReadError> {
        let read = |engine: &dyn Engine| {
            let (mut subjects, (from, to)) = (Vec::new(), keys::erasures());
            engine.scan(Table::Meta, from, to, Direction::Ascending, &mut |key, _| {
                subjects.extend(keys::erasure_of(key));
                if subjects.len() < ERASURES_UNDER_WAY_MAX {
                    ControlFlow::Continue(())
                } else {
                    ControlFlow::Break(())
                }
            })?;
            Ok(subjects)
        };
        self.readers.run(read).await?
    }

    /// What the customer with this key is bound to, once that is filed.
    ///
    /// # Errors
    /// When the store cannot tell now.
    pub async fn binding_by_key(&self, customer: DedupeKey) -> Result<Option<Binding>, ReadError> {
        Ok(self.read(Table::Customers, customer.0, Binding::decode).await?.transpose()?)
    }

    /// One attempt to have clicks' records written anew without what tells of their visitors, and
    /// the sums by `sub1` without them. Blocks while it reads; the commit has to be flushed.
    ///
    /// # Errors
    /// When the store cannot be read or takes no writes.
    pub fn erase_clicks(&self, clicks: &[RecordId]) -> Result<ClickErasure, ChangeError> {
        if self.health.is_disk_full() {
            return Err(SubmitError::DiskFull.into());
        }
        let engine = &*self.engine;
        // Most clicks that are looked at have been erased already, with another conversion.
        let mut left = Vec::with_capacity(clicks.len());
        for click in clicks {
            let record = engine.value(Table::Clicks, click.as_bytes())?;
            let is_left = |bytes: &Vec<u8>| records::click_flags(bytes) & ERASED == 0;
            left.extend(record.filter(is_left).map(|_| *click));
        }
        left.sort_unstable();
        left.dedup();
        let (filed_below, mut erased) = (self.filing.below(), ErasedClicks::default());
        if left.is_empty() {
            return Ok(ClickErasure::Begun(None, erased));
        }
        let exchange = self.counting.exchange(&self.writer, |counted, subs_from| {
            let mut it = Erasing::new(engine, filed_below, counted, subs_from);
            for click in left {
                match it.click(click) {
                    Ok(is_erased) => erased.clicks += u64::from(is_erased),
                    Err(ChangeError::Read(ReadError::Record(_))) => erased.damaged.push(click),
                    Err(error) => return Err(error),
                }
            }
            erased.damaged_sums = it.damaged_sums();
            Ok((erased.clicks > 0).then(|| it.batch()))
        })?;
        Ok(match exchange {
            Exchange::Nothing => ClickErasure::Begun(None, erased),
            Exchange::Submitted(ticket) => ClickErasure::Begun(Some(ticket), erased),
            Exchange::Later(ticket) => ClickErasure::Later(ticket),
        })
    }

    /// Writes out everything that was touched, so that what was erased is in no file any more.
    /// Blocks, for as long as it takes to read and write the files concerned.
    ///
    /// # Errors
    /// When the engine could not.
    pub fn purge(&self, touched: Touched) -> Result<(), EngineError> {
        self.engine.purge(&touched.ranges())
    }
}

const ERASED: u32 = crate::model::reasons::Flag::Erased.bit();

/// Clicks that are about to be erased, while nobody else changes sums.
struct Erasing<'e> {
    engine: &'e dyn Engine,
    filed_below: RecordKey,
    counted: Counted,
    subs_from: Quarter,
    batch: Batch,
    /// Rows of the sums as they are to be, by their keys.
    rows: HashMap<Vec<u8>, Counts<'static>>,
    /// Those that do not decode.
    damaged: BTreeSet<Vec<u8>>,
}

impl<'e> Erasing<'e> {
    fn new(
        engine: &'e dyn Engine,
        filed_below: RecordKey,
        counted: Counted,
        subs_from: Quarter,
    ) -> Self {
        let (batch, rows, damaged) = Default::default();
        Self { engine, filed_below, counted, subs_from, batch, rows, damaged }
    }

    /// Erases one of them; false if it is gone, or that was done meanwhile.
    fn click(&mut self, click: RecordId) -> Result<bool, ChangeError> {
        let Some(bytes) = self.engine.value(Table::Clicks, click.as_bytes())? else {
            return Ok(false);
        };
        let record = ClickRecord::decode(&bytes).map_err(ReadError::from)?;
        if record.is_erased() {
            return Ok(false);
        }
        let late = keys::late_click(click);
        let is_late = self.engine.value(Table::Counters, &late)?.is_some();
        let taken_away = self.counted(click, &record, is_late)?;
        // Nothing fails any more.
        self.batch.put(Table::Clicks, click.as_bytes(), |out| record.erased().encode(out));
        if is_late {
            let anew = LateClickRecord { fallback: record.fallback, sub1: "" };
            self.batch.put(Table::Counters, &late, |out| anew.encode(out));
        }
        for (key, counts) in taken_away {
            self.rows.entry(key).or_default().add(&counts, Sign::Minus);
        }
        Ok(true)
    }

    /// What of a click is in the sums by `sub1`, and in which rows.
    fn counted(
        &mut self,
        click: RecordId,
        record: &ClickRecord<'_>,
        is_late: bool,
    ) -> Result<Vec<(Vec<u8>, Counts<'static>)>, ChangeError> {
        let (sub1, mut rows) = (record.subs[0], Vec::new());
        if sub1.is_empty() {
            return Ok(rows);
        }
        let mut sums: HashMap<Place, Counts<'static>> = HashMap::new();
        if !is_late && click.as_bytes() < &self.counted.clicks {
            sums.entry(Place::of(click)).or_default().click(record.fallback);
        }
        self.conversions(click, &mut sums)?;
        for (place, counts) in sums {
            if place.quarter >= self.subs_from {
                rows.extend(self.row(place, sub1)?.map(|key| (key, counts)));
            }
        }
        Ok(rows)
    }

    /// The row in which a value of `sub1` is counted: its own, or that of all others. From one that
    /// does not decode nothing can be taken away.
    fn row(&mut self, place: Place, sub1: &str) -> Result<Option<Vec<u8>>, ChangeError> {
        for sub in [Some(sub1), None] {
            let key = keys::sub_counter(place, sub);
            if !self.rows.contains_key(&key) {
                let Some(stored) = self.engine.value(Table::Counters, &key)? else { continue };
                match sub_counts(&stored) {
                    Ok(counts) => self.rows.insert(key.clone(), counts.to_owned()),
                    Err(error) if error.is_newer() => return Err(ReadError::from(error).into()),
                    Err(_) => {
                        self.damaged.insert(key);
                        return Ok(None);
                    }
                };
            }
            return Ok(Some(key));
        }
        Ok(None)
    }

    fn damaged_sums(&self) -> Vec<Vec<u8>> {
        let places = self.damaged.iter().filter_map(|key| keys::sub_of(key));
        places.map(|(place, sub)| keys::sub_counter(place, sub.map(|_| ""))).collect()
    }

    fn batch(self) -> Batch {
        let mut batch = self.batch;
        for key in self.damaged {
            batch.delete(Table::Counters, &key);
        }
        for (key, counts) in self.rows {
            if counts.is_zero() {
                batch.delete(Table::Counters, &key);
            } else {
                batch.put(Table::Counters, &key, |out| SubRecord { counts }.encode(out));
            }
        }
        batch
    }

    /// Adds up what of the click's conversions is in the sums.
    fn conversions(
        &self,
        click: RecordId,
        sums: &mut HashMap<Place, Counts<'static>>,
    ) -> Result<(), EngineError> {
        let (mut ids, up) = (Vec::new(), Direction::Ascending);
        let (from, to) = keys::by_click_range(click);
        self.engine.scan(Table::ByClick, &from, &to, up, &mut |key, _| {
            ids.extend(keys::conversion_of(key));
            ControlFlow::Continue(())
        })?;
        let counted = &self.counted.conversions;
        if self.filed_below < *counted {
            let unfiled = &mut |key: &[u8], value: &[u8]| {
                ids.extend(keys::record(key).filter(|_| click_of(value) == Some(click)));
                ControlFlow::Continue(())
            };
            self.engine.scan(Table::Conversions, &self.filed_below, counted, up, unfiled)?;
        }
        ids.sort_unstable();
        ids.dedup();
        for id in ids.into_iter().filter(|id| id.as_bytes() < counted) {
            self.conversion(id, sums.entry(Place::of(id)).or_default())?;
        }
        Ok(())
    }

    /// Adds what of a conversion is in the sums: what it is, less those of its changes that are still
    /// to be added.
    fn conversion(&self, id: RecordId, counts: &mut Counts<'static>) -> Result<(), EngineError> {
        let Some(bytes) = self.engine.value(Table::Conversions, id.as_bytes())? else {
            return Ok(());
        };
        let Ok(record) = ConversionRecord::decode(&bytes) else { return Ok(()) };
        counts.conversion(&Contribution::of(&record), Sign::Plus);
        let (from, to) = (keys::changes_from(id.as_bytes()), keys::changes_from(&keys::after(id)));
        let up = Direction::Ascending;
        let steps = record.history.len();
        self.engine.scan(Table::Counters, &from, &to, up, &mut |key, value| {
            // A change that was made since the record was read is not part of it.
            let is_part = keys::change_of(key).is_some_and(|(_, step)| usize::from(step) < steps);
            if let (true, Ok(change)) = (is_part, ChangeRecord::decode(value)) {
                counts.conversion(&change.after, Sign::Minus);
                if let Some(before) = &change.before {
                    counts.conversion(before, Sign::Plus);
                }
            }
            ControlFlow::Continue(())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(minute: u64, last: u8) -> RecordId {
        let mut bytes = keys::first_at(1_700_000_000_000 + minute * 60_000);
        bytes[15] = last;
        RecordId::from_bytes(bytes)
    }

    #[test]
    fn what_was_touched_lies_in_few_ranges_and_none_is_left_out() {
        let mut touched = Touched::default();
        let conversions: Vec<_> = (0..5000).map(|n| id(n * 7919 % 5000, n as u8)).collect();
        touched.click(id(3, 9));
        conversions.iter().for_each(|id| touched.conversion(*id));
        let ranges = touched.ranges();
        let is_in = |table, key: &[u8]| {
            let mut its = ranges.iter().filter(|range| range.table == table);
            its.any(|range| &range.from[..] <= key && key <= &range.to[..])
        };
        for id in &conversions {
            assert!(is_in(Table::Conversions, id.as_bytes()));
            assert!(is_in(Table::Counters, &keys::sub_counter(Place::of(*id), Some("x"))));
        }
        assert!(is_in(Table::Clicks, id(3, 9).as_bytes()));
        assert!(is_in(Table::Counters, &keys::late_click(id(3, 9))));
        for table in Table::ALL {
            let number = ranges.iter().filter(|range| range.table == table).count();
            assert!(number <= PURGED_RANGES_MAX, "{table:?}: {number}");
        }
    }
}
