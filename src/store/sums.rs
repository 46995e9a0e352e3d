//! The sums as a report reads them: those that are made, and what is still to be added to them.

use std::ops::{ControlFlow, Range};
use std::time::{Duration, Instant};

use super::chunk::{self, Chunk};
use super::counting::{self, AtOnce, Hold, Turn};
use super::engine::{Engine, EngineError, Tier};
use super::keys::{self, Place, RecordKey};
use super::records::{
    Counted, Counts, PlaceRecord, RecordError, RefusedRecord, SubRecord, WalkError,
};
use super::schema::Table;
use super::{OpenError, ReadError, Store, View};
use crate::limits::REPORT_TAIL_MAX;
use crate::model::period::Quarter;

/// How long whoever waits for the counting thread sleeps between two looks.
const LOOK_AGAIN: Duration = Duration::from_millis(2);

/// Why sums have no answer.
#[derive(Debug, thiserror::Error)]
pub enum SumsError {
    /// The store could not be read, or a record is damaged.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The store does not say how far its sums go.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// Too much is not counted yet.
    #[error("the counters are behind")]
    Behind,
}

impl From<EngineError> for SumsError {
    fn from(error: EngineError) -> Self {
        Self::Read(error.into())
    }
}

impl From<WalkError> for SumsError {
    fn from(error: WalkError) -> Self {
        Self::Read(error.into())
    }
}

impl From<RecordError> for SumsError {
    fn from(error: RecordError) -> Self {
        Self::Read(error.into())
    }
}

/// Which sums.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Of which time, its end excluded.
    pub quarters: Range<Quarter>,
    /// Whether also by `sub1`.
    pub subs: bool,
}

/// What of a place is summed up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part<'p> {
    /// All of it.
    Whole,
    /// Clicks with this value of `sub1`, and their conversions; `None`: with any of those that are
    /// not told apart. Clicks without `sub1` are in none of these parts.
    Sub(Option<&'p str>),
}

/// Sees sums, several times for a place: they are to be added up.
pub type VisitSums<'v> = &'v mut dyn FnMut(Place, Part<'_>, &Counts<'_>) -> ControlFlow<()>;

/// The sums, which do not change while this is there.
pub struct Sums<'s> {
    engine: &'s dyn Engine,
    counted: Counted,
    subs_from: Quarter,
    _hold: Option<Hold>,
}

impl Sums<'_> {
    /// How far they are made.
    #[must_use]
    pub const fn counted(&self) -> Counted {
        self.counted
    }

    /// Sums by `sub1` of earlier quarters of an hour are gone.
    #[must_use]
    pub const fn subs_from(&self) -> Quarter {
        self.subs_from
    }

    /// Shows everything that belongs to a time, exact to the last commit. Blocks.
    ///
    /// # Errors
    /// When the store cannot be read, or too much is to be added.
    pub fn each(&self, wanted: &Wanted, visit: VisitSums<'_>) -> Result<(), SumsError> {
        if self.rest(wanted, visit)?.is_break() {
            return Ok(());
        }
        let Range { start, end } = wanted.quarters;
        let range = (keys::counters_from(start), keys::counters_from(end));
        let is_enough = self.engine.walk(Table::Counters, &range.0, &range.1, |key, value| {
            let place = keys::place_of(key).ok_or(RecordError::Corrupt)?;
            Ok::<_, SumsError>(visit(place, Part::Whole, &PlaceRecord::decode(value)?.counts))
        })?;
        if is_enough || !wanted.subs {
            return Ok(());
        }
        let range = (keys::sub_counters_from(start), keys::sub_counters_from(end));
        self.engine.walk(Table::Counters, &range.0, &range.1, |key, value| {
            let (place, sub) = keys::sub_of(key).ok_or(RecordError::Corrupt)?;
            Ok::<_, SumsError>(visit(place, Part::Sub(sub), &SubRecord::decode(value)?.counts))
        })?;
        Ok(())
    }

    /// Shows the refused postbacks of a time: what each start of the server has refused at a place.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn refused(
        &self,
        quarters: &Range<Quarter>,
        visit: &mut dyn FnMut(Place, &RefusedRecord<'_>) -> ControlFlow<()>,
    ) -> Result<(), SumsError> {
        let range = (keys::refused_from(quarters.start), keys::refused_from(quarters.end));
        self.engine.walk(Table::Counters, &range.0, &range.1, |key, value| {
            let (place, _) = keys::refused_of(key).ok_or(RecordError::Corrupt)?;
            Ok::<_, SumsError>(visit(place, &RefusedRecord::decode(value)?))
        })?;
        Ok(())
    }

    /// Shows what is still to be added.
    fn rest(&self, wanted: &Wanted, visit: VisitSums<'_>) -> Result<ControlFlow<()>, SumsError> {
        let Range { start, end } = wanted.quarters;
        let (start, end) = (keys::first_at(start.begins_ms()), keys::first_at(end.begins_ms()));
        let from = Counted { clicks: start, conversions: start };
        let range = chunk::Range {
            since: start,
            from: self.counted.max(from),
            to: Counted { clicks: end, conversions: end },
            at_once: AtOnce { records: REPORT_TAIL_MAX, rows: usize::MAX },
            subs: wanted.subs,
        };
        let chunk = Chunk::read(self.engine, &range)?;
        if chunk.has_more(&range) {
            return Err(SumsError::Behind);
        }
        let mut flow = ControlFlow::Continue(());
        chunk.each(self.engine, &mut |place, counts, subs| {
            if flow.is_continue() {
                flow = visit(place, Part::Whole, counts);
            }
            for sub in subs {
                if flow.is_continue() {
                    flow = visit(place, Part::Sub(sub.sub.as_deref()), &sub.counts);
                }
            }
        })?;
        Ok(flow)
    }
}

/// How far the sums go.
///
/// # Errors
/// When the engine cannot read, or the value is damaged.
pub(super) fn counted(engine: &dyn Engine) -> Result<Counted, OpenError> {
    let mut counted = Ok(Counted::default());
    let read = &mut |bytes: &[u8]| counted = Counted::decode(bytes);
    engine.get(Table::Counters, keys::COUNTED, Tier::Disk, read)?;
    counted.map_err(|_| OpenError::DamagedCounters)
}

impl<'e> View<'e> {
    /// The key below which conversions are in the sums of caps.
    ///
    /// # Errors
    /// When the store cannot be read, or does not say how far its sums go.
    pub fn counted_for_caps(&self) -> Result<RecordKey, OpenError> {
        let stored = self.engine().value(Table::Counters, keys::COUNTED)?;
        // One that is older has none, until it is opened for serving.
        if stored.is_none_or(|stored| !Counted::has_cap_sums(&stored)) {
            return Ok(RecordKey::default());
        }
        Ok(counted(self.engine())?.conversions)
    }

    /// The sums of a store that does not change.
    ///
    /// # Errors
    /// When the store cannot be read, or does not say how far they go.
    pub fn sums(&self) -> Result<Sums<'e>, OpenError> {
        let engine = self.engine();
        let subs_from = self.expired()?.subs_before();
        Ok(Sums { engine, counted: counted(engine)?, subs_from, _hold: None })
    }
}

impl Store {
    /// The sums, kept as they are; `None` while they are being changed, for a moment.
    ///
    /// # Errors
    /// When the store cannot be read, or does not say how far they go.
    pub fn sums(&self) -> Result<Option<Sums<'_>>, OpenError> {
        let Some(hold) = self.counting.try_hold() else { return Ok(None) };
        let counted = counted(&*self.engine)?;
        let subs_from = self.counting.subs_from();
        Ok(Some(Sums { engine: &*self.engine, counted, subs_from, _hold: Some(hold) }))
    }

    /// As [`Store::sums`]; waits while they are being changed, no longer than `until`. Blocks.
    ///
    /// # Errors
    /// As [`Store::sums`]; [`SumsError::Behind`] when they change for too long.
    pub fn sums_by(&self, until: Instant) -> Result<Sums<'_>, SumsError> {
        loop {
            if let Some(sums) = self.sums()? {
                return Ok(sums);
            }
            self.pause(until)?;
        }
    }

    /// Counts what is there, in place of the counting thread. Blocks, no longer than `until`.
    ///
    /// # Errors
    /// When the store cannot be read; [`SumsError::Behind`] when that takes too long.
    pub fn catch_up(&self, until: Instant) -> Result<(), SumsError> {
        let target = counting::newest(&*self.engine)?;
        loop {
            match self.count_once(true, AtOnce::default())? {
                Turn::Nothing => return Ok(()),
                Turn::Ended if self.counting.counted().max(target) == self.counting.counted() => {
                    return Ok(());
                }
                Turn::Ended => {}
                Turn::UnderWay => self.pause(until)?,
            }
        }
    }

    /// A moment for the writer.
    fn pause(&self, until: Instant) -> Result<(), SumsError> {
        if Instant::now() >= until {
            return Err(SumsError::Behind);
        }
        self.writer.flush();
        std::thread::sleep(LOOK_AGAIN);
        Ok(())
    }

    /// How far the counters are behind the newest click or conversion, milliseconds of their IDs.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn uncounted_ms(&self) -> Result<u64, ReadError> {
        let (newest, counted) = (counting::newest(&*self.engine)?, self.counting.counted());
        let time_ms = |key: RecordKey| crate::click_id::RecordId::from_bytes(key).time_ms();
        let behind = |newest, counted| time_ms(newest).saturating_sub(time_ms(counted));
        Ok(behind(newest.clicks, counted.clicks)
            .max(behind(newest.conversions, counted.conversions)))
    }
}
