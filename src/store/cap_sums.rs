//! What caps have counted, from the first conversion on: read for their totals, and made at once
//! for a store that was counted before there were such sums.
//!
//! They are made with the other sums, in the same commits (`counting.rs`), so retention lets go of
//! no conversion that is not in them.

use std::collections::{BTreeSet, HashMap};
use std::ops::ControlFlow;
use std::sync::Arc;

use super::counters::Sign;
use super::counting::Hold;
use super::engine::{Batch, Direction, Engine};
use super::keys::{self, Place, RecordKey};
use super::records::{
    CapsRecord, ChangeRecord, Contribution, ConversionRecord, Counted, WalkError,
};
use super::retention::Expired;
use super::schema::Table;
use super::sums::{self, SumsError};
use super::ticket::Outcome;
use super::{OpenError, ReadError, Store};
use crate::limits::{CAP_SUMS_MENDED_MAX, COUNTED_ROWS_MAX, PAGE_ROWS_SCANNED_MAX};
use crate::model::hex::hex;
use crate::model::ids::{AffiliateNumber, OfferNumber};
use crate::model::period::Quarter;

/// An offer's sums, by affiliate.
pub type ByAffiliate = HashMap<(OfferNumber, AffiliateNumber), CapsRecord<'static>>;

/// What caps have counted of some offers, of every conversion below a key, those that retention has
/// let go included. While it is there, the sums stay as they are.
pub struct CapSums {
    /// The key. From it on, conversions are to be added.
    pub below: RecordKey,
    /// The sums.
    pub of: ByAffiliate,
    _hold: Hold,
}

impl Store {
    /// What caps have counted of some offers. Their conversions may neither come nor change
    /// meanwhile, nor until the rest is added: those from [`CapSums::below`] on.
    ///
    /// # Errors
    /// When the store cannot be read now.
    pub async fn cap_sums(&self, offers: BTreeSet<OfferNumber>) -> Result<CapSums, SumsError> {
        let hold = self.hold_sums().await?;
        let counted = self.readers.run(sums::counted).await.map_err(ReadError::from)??;
        let below = counted.conversions;
        let mut reading = Reading { offers, below, of: ByAffiliate::new() };
        let rows = keys::cap_sums_from(Quarter::default(), OfferNumber::NONE);
        let changes = keys::changes_from(&RecordKey::default());
        for (first, turn) in [
            (rows.to_vec(), Reading::rows as fn(&mut Reading, &dyn Engine, _) -> _),
            (changes.to_vec(), Reading::changes),
        ] {
            let mut next = Some(first);
            while let Some(from) = next {
                let read = move |engine: &dyn Engine| {
                    let next = turn(&mut reading, engine, from)?;
                    Ok::<_, WalkError>((reading, next))
                };
                (reading, next) = self.readers.run(read).await.map_err(ReadError::from)??;
            }
        }
        Ok(CapSums { below, of: reading.of, _hold: hold })
    }

    /// Keeps the sums as they are, waiting while they are being changed.
    async fn hold_sums(&self) -> Result<Hold, ReadError> {
        loop {
            let counting = Arc::clone(&self.counting);
            let held =
                self.readers.run(move |_| counting.try_hold().ok_or_else(|| counting.commit()));
            match held.await? {
                Ok(hold) => return Ok(hold),
                Err(Some(commit)) if self.settled(&commit).await != Outcome::Durable => {
                    return Err(ReadError::Poisoned);
                }
                Err(_) => {}
            }
        }
    }
}

/// Sums as they are read, so many rows in a turn.
struct Reading {
    offers: BTreeSet<OfferNumber>,
    below: RecordKey,
    of: ByAffiliate,
}

impl Reading {
    /// Adds up rows; returns where the next turn begins. Rows of other offers are passed over. One
    /// that cannot be read is no row to leave out: more would be paid than the cap allows.
    fn rows(
        &mut self,
        engine: &dyn Engine,
        mut from: Vec<u8>,
    ) -> Result<Option<Vec<u8>>, WalkError> {
        let to = keys::cap_sums_end();
        let mut left = PAGE_ROWS_SCANNED_MAX;
        loop {
            let mut next = None;
            engine.walk(Table::Counters, &from, &to, |key, value| {
                // A key of another kind says nothing of any offer.
                let Some(place) = keys::cap_sums_of(key) else {
                    return Ok(ControlFlow::Continue(()));
                };
                if left == 0 {
                    next = Some(key.to_vec());
                    return Ok(ControlFlow::Break(()));
                }
                left -= 1;
                if !self.offers.contains(&place.offer) {
                    next = self.next_wanted(&place);
                    return Ok(ControlFlow::Break(()));
                }
                self.at(place).add(&CapsRecord::decode(value)?);
                Ok::<_, WalkError>(ControlFlow::Continue(()))
            })?;
            match next {
                Some(next) if left > 0 => from = next,
                next => return Ok(next),
            }
        }
    }

    /// Where rows of offers that are asked for go on, after a place of another one.
    fn next_wanted(&self, place: &Place) -> Option<Vec<u8>> {
        let (quarter, offer) = match self.offers.range(place.offer..).next() {
            Some(offer) => (place.quarter, *offer),
            None => (place.after_caps()?, *self.offers.first()?),
        };
        Some(keys::cap_sums_from(quarter, offer).to_vec())
    }

    /// Adds changes of what is in the rows; returns where the next turn begins.
    fn changes(
        &mut self,
        engine: &dyn Engine,
        from: Vec<u8>,
    ) -> Result<Option<Vec<u8>>, WalkError> {
        let to = keys::changes_from(&self.below);
        let (mut left, mut next) = (PAGE_ROWS_SCANNED_MAX, None);
        engine.walk(Table::Counters, &from, &to, |key, value| {
            if left == 0 {
                next = Some(key.to_vec());
                return Ok(ControlFlow::Break(()));
            }
            left -= 1;
            if let Some((id, _)) = keys::change_of(key)
                && self.offers.contains(&id.offer())
            {
                ChangeRecord::decode(value)?.in_caps(self.at(Place::of(id)), Sign::Plus);
            }
            Ok::<_, WalkError>(ControlFlow::Continue(()))
        })?;
        Ok(next)
    }

    fn at(&mut self, place: Place) -> &mut CapsRecord<'static> {
        self.of.entry((place.offer, place.affiliate)).or_default()
    }
}

/// Makes the sums of a store that was counted before there were any; durable before it returns. A
/// crash in between has it done again, which changes nothing.
///
/// Changes that are still to be added are part of the conversions as they are read here; of that
/// time, they say nothing of caps.
pub(super) fn make(engine: &dyn Engine) -> Result<(), OpenError> {
    let Some(counted) = engine.value(Table::Counters, keys::COUNTED)? else { return Ok(()) };
    if Counted::has_cap_sums(&counted) {
        return Ok(());
    }
    let counted = Counted::decode(&counted).map_err(|_| OpenError::DamagedCounters)?;
    let (mut from, to) = (RecordKey::default(), counted.conversions);
    tracing::info!("counting what caps in total count, once: all conversions are read");
    while from < to {
        let (rows, next) = of_one_row(engine, &from, &to, None)?;
        let mut rows = rows.into_iter().peekable();
        while rows.peek().is_some() {
            let mut batch = Batch::default();
            for (place, sums) in rows.by_ref().take(COUNTED_ROWS_MAX) {
                batch.put(Table::Counters, &keys::cap_sums(place), |out| sums.encode(out));
            }
            engine.append(&batch)?;
        }
        from = next;
    }
    let mut batch = Batch::default();
    batch.put(Table::Counters, keys::COUNTED, |out| counted.encode(out));
    engine.append(&batch)?;
    engine.sync()?;
    tracing::info!("what caps in total count is counted");
    Ok(())
}

/// Counts rows that are damaged anew, from the conversions; durable before it returns. A row that
/// counts conversions of which retention has let some go cannot be counted: such a store is not
/// opened, since with a total that is too small more would be paid than a cap allows.
pub(super) fn mend(engine: &dyn Engine, expired: &Expired) -> Result<(), OpenError> {
    let mut damaged = Vec::new();
    let (begin, end) =
        (keys::cap_sums_from(Quarter::default(), OfferNumber::NONE), keys::cap_sums_end());
    engine.walk(Table::Counters, &begin, &end, |key, value| {
        match (keys::cap_sums_of(key), CapsRecord::decode(value)) {
            (_, Err(error)) if error.is_newer() => return Err(OpenError::from(error)),
            (Some(place), Err(_)) => damaged.push(place),
            _ => {}
        }
        Ok(match damaged.len() {
            CAP_SUMS_MENDED_MAX => ControlFlow::Break(()),
            _ => ControlFlow::Continue(()),
        })
    })?;
    let below = sums::counted(engine)?.conversions;
    for place in &damaged {
        let row = keys::cap_sums(*place);
        let from = keys::first_at(place.quarter.begins_ms());
        let to = place.after_caps().map_or(below, |after| keys::first_at(after.begins_ms()));
        if from < expired.conversions || damaged.len() == CAP_SUMS_MENDED_MAX {
            return Err(OpenError::DamagedCaps(hex(&row)));
        }
        let mut sums = CapsRecord::default();
        if from < to.min(below) {
            let (rows, _) = of_one_row(engine, &from, &to.min(below), Some(*place))?;
            sums.add(rows.get(place).unwrap_or(&CapsRecord::default()));
            // What is still to be added is part of the conversions as they were read.
            let (from, to) = (keys::changes_from(&from), keys::changes_from(&to.min(below)));
            engine.scan(Table::Counters, &from, &to, Direction::Ascending, &mut |key, value| {
                if let (Some((id, _)), Ok(change)) =
                    (keys::change_of(key), ChangeRecord::decode(value))
                    && Place::of_caps(id) == *place
                {
                    change.in_caps(&mut sums, Sign::Minus);
                }
                ControlFlow::Continue(())
            })?;
        }
        let mut batch = Batch::default();
        batch.put(Table::Counters, &row, |out| sums.encode(out));
        engine.append(&batch)?;
    }
    if !damaged.is_empty() {
        engine.sync()?;
        tracing::warn!(
            rows = damaged.len(),
            "what caps have counted was damaged and is counted anew"
        );
    }
    Ok(())
}

/// The sums of the conversions of a range that one time's rows count, or of a place alone, and where
/// the next ones begin.
fn of_one_row(
    engine: &dyn Engine,
    from: &RecordKey,
    to: &RecordKey,
    only: Option<Place>,
) -> Result<(HashMap<Place, CapsRecord<'static>>, RecordKey), WalkError> {
    let mut rows: HashMap<Place, CapsRecord<'static>> = HashMap::new();
    let (mut quarter, mut next) = (None, *to);
    engine.walk(Table::Conversions, from, to, |key, value| {
        // What is damaged has been reported when it was counted.
        let Some(id) = keys::record(key) else { return Ok(ControlFlow::Continue(())) };
        let place = Place::of_caps(id);
        if *quarter.get_or_insert(place.quarter) != place.quarter {
            next = *id.as_bytes();
            return Ok(ControlFlow::Break(()));
        }
        if only.is_some_and(|only| only != place) {
            return Ok(ControlFlow::Continue(()));
        }
        match ConversionRecord::decode(value) {
            Ok(record) => {
                let contribution = Contribution::of(&record);
                if contribution.in_caps.is_some() {
                    rows.entry(place).or_default().conversion(&contribution, Sign::Plus);
                }
            }
            Err(error) if error.is_newer() => return Err(WalkError::from(error)),
            Err(_) => {}
        }
        Ok(ControlFlow::Continue(()))
    })?;
    Ok((rows, next))
}
