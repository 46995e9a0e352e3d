//! What is not in the sums yet: read from clicks, conversions and changes, a bounded part at once.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use super::counters::Sign;
use super::counting::AtOnce;
use super::engine::{Batch, Direction, Engine, EngineError, Tier};
use super::keys::{self, Place, RecordKey};
use super::records::{
    CapsRecord, ChangeRecord, ClickRecord, Contribution, ConversionRecord, Counted, Counts,
    LateClickRecord, PlaceRecord, RecordError, SubRecord, WalkError, click_of,
};
use super::schema::Table;
use super::sum_rows::{Sub, SubCounts, by_row, place_counts, stored_place, sub_counts, sum};
use crate::click_id::RecordId;
use crate::model::period::Quarter;

/// Rows of sums that a change may add to: of its place, of caps, of a `sub1`.
const ROWS_PER_CHANGE: usize = 3;

/// What is read.
#[derive(Clone, Copy, Debug)]
pub struct Range {
    /// Changes and late clicks from here on.
    pub since: RecordKey,
    /// Clicks and conversions from here on: what is below is in the sums, but for its changes.
    pub from: Counted,
    /// Everything before here.
    pub to: Counted,
    /// How much of it.
    pub at_once: AtOnce,
    /// Whether sums by `sub1` are wanted.
    pub subs: bool,
}

/// Some of what is not in the sums.
#[derive(Default)]
pub struct Chunk {
    /// In the order of their rows: neighbours are found in one block, and written in one go.
    places: BTreeMap<Place, Added>,
    /// What is added to the sums of caps.
    caps: BTreeMap<Place, CapsRecord<'static>>,
    /// Rows of the sums that are added to.
    rows: usize,
    /// Rows that are used up with this.
    spent: Vec<Vec<u8>>,
    /// Where the clicks and conversions after these begin.
    next: Counted,
    /// There are more changes or late clicks.
    more: bool,
    damaged: usize,
    /// A record that a later release has written.
    newer: Option<RecordError>,
}

/// What is added at a place.
#[derive(Default)]
struct Added {
    counts: Counts<'static>,
    subs: BTreeMap<Sub, Counts<'static>>,
}

/// A conversion that was read.
struct Met {
    id: RecordId,
    steps: usize,
    click: RecordId,
    contribution: Contribution<'static>,
}

/// A change that was read.
struct Change {
    id: RecordId,
    step: u16,
    click: RecordId,
    before: Option<Contribution<'static>>,
    after: Contribution<'static>,
}

/// What belongs to records that were read is read with them.
const ALL: AtOnce = AtOnce { records: usize::MAX, rows: usize::MAX };

/// The `sub1` of clicks, once looked up. In the order of their keys: neighbours lie in one block.
type Subs = BTreeMap<RecordId, Option<Sub>>;

impl Chunk {
    /// Reads as much of a range as is allowed at once.
    ///
    /// # Errors
    /// When the engine cannot read, or a later release has written some of it.
    pub fn read(engine: &dyn Engine, range: &Range) -> Result<Self, WalkError> {
        let Range { since, from, to, .. } = *range;
        let mut chunk = Self { next: from, ..Self::default() };
        let clicks = chunk.clicks(engine, range)?;
        let mut subs = Subs::new();
        let conversions = chunk.conversions(engine, range, &mut subs)?;
        // Looked at after the records. A change of what was read is part of it, or came since.
        let next = chunk.next;
        chunk.late_clicks(engine, &from.clicks, &next.clicks, ALL, &clicks)?;
        let (first, last) = (&from.conversions, &next.conversions);
        chunk.changes(engine, first, last, ALL, &conversions, &mut subs, range.subs)?;
        let older = (from.clicks.min(to.clicks), from.conversions.min(to.conversions));
        chunk.late_clicks(engine, &since, &older.0, range.at_once, &[])?;
        chunk.changes(engine, &since, &older.1, range.at_once, &[], &mut subs, range.subs)?;
        // It would be missing in the sums for good.
        if let Some(error) = chunk.newer {
            return Err(error.into());
        }
        if chunk.damaged > 0 {
            let damaged = chunk.damaged;
            tracing::error!(damaged, "records that cannot be read were not counted");
        }
        Ok(chunk)
    }

    /// Where the clicks and conversions after these begin.
    pub const fn next(&self) -> Counted {
        self.next
    }

    /// Whether there is more in the range that was read from.
    pub fn has_more(&self, range: &Range) -> bool {
        self.more || self.next.max(range.to) != self.next
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.places.is_empty() && self.spent.is_empty()
    }

    fn clicks(
        &mut self,
        engine: &dyn Engine,
        range: &Range,
    ) -> Result<Vec<RecordKey>, EngineError> {
        let (from, to) = (range.from.clicks, range.to.clicks);
        let mut seen: Vec<RecordKey> = Vec::new();
        if from >= to {
            return Ok(seen);
        }
        self.next.clicks = to;
        engine.scan(Table::Clicks, &from, &to, Direction::Ascending, &mut |key, value| {
            let Ok(key) = <RecordKey>::try_from(key) else { return ControlFlow::Continue(()) };
            if seen.len() >= range.at_once.records || self.rows >= range.at_once.rows {
                self.next.clicks = key;
                return ControlFlow::Break(());
            }
            seen.push(key);
            match ClickRecord::decode(value) {
                Ok(record) => {
                    let sub = range.subs.then_some(record.subs[0]);
                    self.click(RecordId::from_bytes(key), record.fallback, sub);
                }
                Err(error) => self.unreadable(error),
            }
            ControlFlow::Continue(())
        })?;
        Ok(seen)
    }

    fn conversions(
        &mut self,
        engine: &dyn Engine,
        range: &Range,
        subs: &mut Subs,
    ) -> Result<Vec<Met>, WalkError> {
        let (from, to) = (range.from.conversions, range.to.conversions);
        let mut met: Vec<Met> = Vec::new();
        if from >= to {
            return Ok(met);
        }
        self.next.conversions = to;
        engine.scan(Table::Conversions, &from, &to, Direction::Ascending, &mut |key, value| {
            let Some(id) = keys::record(key) else { return ControlFlow::Continue(()) };
            if met.len() >= range.at_once.records || self.rows + subs.len() >= range.at_once.rows {
                self.next.conversions = *id.as_bytes();
                return ControlFlow::Break(());
            }
            match (click_of(value), ConversionRecord::decode(value)) {
                (Some(click), Ok(record)) => {
                    let contribution = Contribution::of(&record).into_owned();
                    subs.insert(click, None);
                    self.counts(Place::of(id)).conversion(&contribution, Sign::Plus);
                    self.in_caps(id, &contribution, Sign::Plus);
                    met.push(Met { id, steps: record.history.len(), click, contribution });
                }
                (_, Err(error)) => self.unreadable(error),
                (None, Ok(_)) => self.damaged += 1,
            }
            ControlFlow::Continue(())
        })?;
        if range.subs {
            for (click, sub) in subs.iter_mut() {
                *sub = sub_of(engine, *click)?;
            }
            for one in &met {
                if let Some(sub) = subs.get(&one.click).cloned().flatten() {
                    let counts = self.sub_counts(Place::of(one.id), sub);
                    counts.conversion(&one.contribution, Sign::Plus);
                }
            }
        }
        Ok(met)
    }

    /// Adds clicks that came late, as far as is allowed; those of `seen` are counted already.
    fn late_clicks(
        &mut self,
        engine: &dyn Engine,
        from: &RecordKey,
        to: &RecordKey,
        at_once: AtOnce,
        seen: &[RecordKey],
    ) -> Result<(), EngineError> {
        let range = (keys::late_clicks_from(from), keys::late_clicks_from(to));
        if range.0 >= range.1 {
            return Ok(());
        }
        let mut read = 0;
        engine.scan(Table::Counters, &range.0, &range.1, Direction::Ascending, &mut |key, value| {
            if read >= at_once.records || self.rows >= at_once.rows {
                self.more = true;
                return ControlFlow::Break(());
            }
            read += 1;
            match (keys::late_click_of(key), LateClickRecord::decode(value)) {
                (Some(click), Ok(late)) => {
                    if seen.binary_search(click.as_bytes()).is_err() {
                        self.click(click, late.fallback, Some(late.sub1));
                    }
                    self.spent.push(key.to_vec());
                }
                (_, Err(error)) => self.unreadable(error),
                (None, Ok(_)) => self.damaged += 1,
            }
            ControlFlow::Continue(())
        })
    }

    /// Adds changes, as far as is allowed; of a conversion in `met`, those that were made when it was
    /// read are counted already.
    #[expect(clippy::too_many_arguments, reason = "two ranges of one kind of row")]
    fn changes(
        &mut self,
        engine: &dyn Engine,
        from: &RecordKey,
        to: &RecordKey,
        at_once: AtOnce,
        met: &[Met],
        subs: &mut Subs,
        with_subs: bool,
    ) -> Result<(), WalkError> {
        let range = (keys::changes_from(from), keys::changes_from(to));
        if range.0 >= range.1 {
            return Ok(());
        }
        // Each may be at a place of its own, which has sums of caps and of a `sub1` besides. Where
        // that leaves no room, something else was added.
        let room = at_once.rows.saturating_sub(self.rows);
        let most = at_once.records.min(room.div_ceil(ROWS_PER_CHANGE));
        let mut changes = Vec::new();
        engine.scan(
            Table::Counters,
            &range.0,
            &range.1,
            Direction::Ascending,
            &mut |key, value| {
                if changes.len() >= most {
                    self.more = true;
                    return ControlFlow::Break(());
                }
                match Change::read(key, value) {
                    Ok(change) => changes.push(change),
                    Err(error) => self.unreadable(error),
                }
                ControlFlow::Continue(())
            },
        )?;
        for change in changes {
            self.spent.push(keys::change(change.id, change.step).to_vec());
            let place = met.binary_search_by_key(&change.id, |one| one.id);
            if place.is_ok_and(|place| met[place].steps > usize::from(change.step)) {
                continue;
            }
            change.apply(self.counts(Place::of(change.id)));
            self.in_caps(change.id, &change.after, Sign::Plus);
            if let Some(before) = &change.before {
                self.in_caps(change.id, before, Sign::Minus);
            }
            if with_subs {
                let sub = match subs.get(&change.click) {
                    Some(sub) => sub.clone(),
                    None => sub_of(engine, change.click)?,
                };
                if let Some(sub) = &sub {
                    change.apply(self.sub_counts(Place::of(change.id), sub.clone()));
                }
                subs.insert(change.click, sub);
            }
        }
        Ok(())
    }

    fn unreadable(&mut self, error: RecordError) {
        match error.is_newer() {
            true => self.newer = Some(error),
            false => self.damaged += 1,
        }
    }

    fn click(&mut self, id: RecordId, fallback: &str, sub1: Option<&str>) {
        let place = Place::of(id);
        self.counts(place).click(fallback);
        if let Some(sub) = sub1.and_then(Sub::of) {
            self.sub_counts(place, sub).click(fallback);
        }
    }

    fn counts(&mut self, place: Place) -> &mut Counts<'static> {
        let rows = &mut self.rows;
        let added = self.places.entry(place).or_insert_with(|| {
            *rows += 1;
            Added::default()
        });
        &mut added.counts
    }

    /// Adds to the sums of caps what they count of a conversion, or takes it away.
    fn in_caps(&mut self, id: RecordId, contribution: &Contribution<'_>, sign: Sign) {
        if contribution.in_caps.is_some() {
            let rows = &mut self.rows;
            let sums = self.caps.entry(Place::of_caps(id)).or_insert_with(|| {
                *rows += 1;
                CapsRecord::default()
            });
            sums.conversion(contribution, sign);
        }
    }

    fn sub_counts(&mut self, place: Place, sub: Sub) -> &mut Counts<'static> {
        let rows = &mut self.rows;
        self.places.entry(place).or_default().subs.entry(sub).or_insert_with(|| {
            *rows += 1;
            Counts::default()
        })
    }

    /// Shows what is added at each place, and for which values of `sub1`.
    ///
    /// # Errors
    /// When the engine cannot read.
    pub fn each(
        self,
        engine: &dyn Engine,
        visit: &mut dyn FnMut(Place, &Counts<'_>, &[SubCounts]),
    ) -> Result<(), EngineError> {
        for (place, added) in self.places {
            let named = if added.subs.is_empty() { 0 } else { stored_place(engine, place)?.1 };
            let subs = by_row(engine, place, added.subs, &mut { named })?;
            visit(place, &added.counts, &subs);
        }
        Ok(())
    }

    /// The commit that adds all of it to the sums. Sums by `sub1` before `subs_from` are gone.
    ///
    /// # Errors
    /// When the engine cannot read, a later release has written sums that are to be added to, or what
    /// caps have counted is damaged.
    pub fn commit(self, engine: &dyn Engine, subs_from: Quarter) -> Result<Batch, WalkError> {
        let mut batch = Batch::default();
        for (place, mut added) in self.places {
            let (stored, mut named) = stored_place(engine, place)?;
            if place.quarter < subs_from {
                added.subs.clear();
            }
            for sub in by_row(engine, place, added.subs, &mut named)? {
                let key = keys::sub_counter(place, sub.sub.as_deref());
                let counts = sum(sub.stored.as_deref().map(sub_counts), &sub.counts)?;
                batch.put(Table::Counters, &key, |out| SubRecord { counts }.encode(out));
            }
            let counts = sum(stored.as_deref().map(place_counts), &added.counts)?;
            let record = PlaceRecord { subs: named, counts };
            batch.put(Table::Counters, &keys::counter(place), |out| record.encode(out));
        }
        for (place, added) in self.caps {
            let key = keys::cap_sums(place);
            let stored = engine.value(Table::Counters, &key)?;
            // To begin anew would forget what was paid. The next start counts it again.
            let mut sums =
                stored.as_deref().map(CapsRecord::decode).transpose()?.unwrap_or_default();
            sums.add(&added);
            batch.put(Table::Counters, &key, |out| sums.encode(out));
        }
        for key in &self.spent {
            batch.delete(Table::Counters, key);
        }
        batch.put(Table::Counters, keys::COUNTED, |out| self.next.encode(out));
        Ok(batch)
    }
}

impl Change {
    fn read(key: &[u8], value: &[u8]) -> Result<Self, RecordError> {
        let (id, step) = keys::change_of(key).ok_or(RecordError::Corrupt)?;
        let record = ChangeRecord::decode(value)?;
        Ok(Self {
            id,
            step,
            click: RecordId::from_bytes(record.click),
            before: record.before.map(Contribution::into_owned),
            after: record.after.into_owned(),
        })
    }

    fn apply(&self, counts: &mut Counts<'_>) {
        counts.conversion(&self.after, Sign::Plus);
        if let Some(before) = &self.before {
            counts.conversion(before, Sign::Minus);
        }
    }
}

/// The `sub1` of a click, if it has one.
fn sub_of(engine: &dyn Engine, click: RecordId) -> Result<Option<Sub>, WalkError> {
    let mut sub = Ok(Some(Sub::Other));
    let mut read = |bytes: &[u8]| match ClickRecord::decode(bytes) {
        Ok(record) => sub = Ok(Sub::of(record.subs[0])),
        Err(error) if error.is_newer() => sub = Err(error),
        Err(_) => {}
    };
    engine.get(Table::Clicks, click.as_bytes(), Tier::Disk, &mut read)?;
    Ok(sub?)
}
