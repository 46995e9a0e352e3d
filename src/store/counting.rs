//! Counting: sums of clicks and conversions for reports, and of conversions for caps in total, made
//! behind them.
//!
//! Clicks and conversions lie in time order. A thread of the lowest priority walks over them, from
//! where it has come to a bound, and adds what they are to the sums of their places. One commit
//! holds the sums, how far they go, and the removal of what was used up for them; so after a
//! crash each record is in the sums or still to be counted, and never both.
//!
//! Three promises hold it together:
//!
//! - A bound is closed before anything below is read. Whoever commits a click or conversion below
//!   afterwards, or changes one, brings along a row of its own that says what to add
//!   ([`Writer::submit_derived`]).
//! - Nothing is read before every commit that came before the closing is on disk. So whatever is
//!   below the bound is read, or has its row.
//! - A conversion is counted as it is read, with all its steps. A row of one of these steps is
//!   already counted then, and only removed; a row of a later step is added. A record and its row
//!   come in one commit, so of a step that was read the row is there, too.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::chunk::{Chunk, Range};
use super::engine::{Batch, Engine, EngineError};
use super::filing::yield_to_others;
use super::health::Health;
use super::keys::{self, RecordKey};
use super::records::{
    ChangeRecord, ClickRecord, Contribution, ConversionRecord, Counted, LateClickRecord, WalkError,
};
use super::schema::Table;
use super::ticket::{Outcome, Settle, Ticket};
use super::writer::{SubmitError, Writer};
use crate::click_id::RecordId;
use crate::limits::{COUNTED_AT_ONCE_MAX, COUNTED_ROWS_MAX, COUNTING_TURN, COUNTING_TURNS_IDLE};
use crate::model::period::Quarter;

/// Adds to a conversion's batch what it changes in the sums, if its place is closed.
pub(super) fn put_change(
    batch: &mut Batch,
    conversion: RecordId,
    before: Option<&ConversionRecord<'_>>,
    after: &ConversionRecord<'_>,
) {
    let change = ChangeRecord {
        click: after.click,
        before: before.map(Contribution::of),
        after: Contribution::of(after),
    };
    if change.before.as_ref() == Some(&change.after) {
        return;
    }
    let step = after.history.len().saturating_sub(1);
    let key = keys::change(conversion, u16::try_from(step).unwrap_or(u16::MAX));
    batch.put(Table::Counters, &key, |out| change.encode(out));
}

/// Adds to a click's batch what it adds to the sums, if its place is closed.
pub(super) fn put_late_click(batch: &mut Batch, click: RecordId, record: &ClickRecord<'_>) {
    let late = LateClickRecord { fallback: record.fallback, sub1: record.subs[0] };
    batch.put(Table::Counters, &keys::late_click(click), |out| late.encode(out));
}

/// How much is counted at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AtOnce {
    /// Clicks, and conversions, that are read.
    pub records: usize,
    /// About how many rows of the sums one commit changes.
    pub rows: usize,
}

impl Default for AtOnce {
    fn default() -> Self {
        Self { records: COUNTED_AT_ONCE_MAX, rows: COUNTED_ROWS_MAX }
    }
}

/// How an attempt to change the sums has ended.
pub(super) enum Exchange {
    /// There was nothing to change.
    Nothing,
    /// The commit is on its way, and nobody else changes the sums before it is settled.
    Submitted(Arc<Ticket>),
    /// They are being changed by this commit, or looked at.
    Later(Option<Arc<Ticket>>),
}

/// How far a turn has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// There is nothing to count, or it is not due.
    Nothing,
    /// To the end of a round.
    Ended,
    /// Nowhere in particular.
    UnderWay,
}

/// Counts one range after the other.
pub struct Counting {
    /// Held for the whole of a turn.
    state: Mutex<State>,
    /// Everything below is in the sums, or on its way there. Changed while the state is held.
    counted: Mutex<Counted>,
    /// Sums by `sub1` before are gone.
    subs_from: AtomicU32,
}

struct State {
    /// What was there at the turn before. A round goes no further than that: a record minted since
    /// may still be on its way to the writer.
    mark: Option<Counted>,
    /// The round under way.
    round: Option<Round>,
    /// The commit under way.
    commit: Option<Arc<Ticket>>,
    /// Who looks at the sums meanwhile.
    held: usize,
}

/// A range that is no longer added to.
#[derive(Clone, Copy)]
struct Round {
    to: Counted,
    /// Waited for until it and all before it are settled.
    batch: u64,
}

/// While there is one, the sums stay as they are.
pub struct Hold(Arc<Counting>);

impl Drop for Hold {
    fn drop(&mut self) {
        self.0.lock().held -= 1;
    }
}

impl Counting {
    /// Everything below `counted` is in the sums.
    pub(super) fn new(counted: Counted, subs_from: Quarter) -> Self {
        let state = State { mark: None, round: None, commit: None, held: 0 };
        Self {
            state: Mutex::new(state),
            counted: Mutex::new(counted),
            subs_from: AtomicU32::new(subs_from.get()),
        }
    }

    /// Everything below is in the sums, or in a commit that was submitted.
    pub fn counted(&self) -> Counted {
        *self.lock_counted()
    }

    /// Sums by `sub1` before are gone.
    pub(super) fn subs_from(&self) -> Quarter {
        Quarter::new(self.subs_from.load(Ordering::Relaxed))
    }

    /// Says that sums by `sub1` before a quarter of an hour are gone.
    pub(super) fn forget_subs_before(&self, quarter: Quarter) {
        self.subs_from.fetch_max(quarter.get(), Ordering::Relaxed);
    }

    /// Keeps the sums as they are; `None` while they are being changed.
    pub fn try_hold(self: &Arc<Self>) -> Option<Hold> {
        let mut state = self.lock();
        if state.is_changing() {
            return None;
        }
        state.held += 1;
        Some(Hold(Arc::clone(self)))
    }

    /// The commit that is changing the sums, if there is one.
    pub(super) fn commit(&self) -> Option<Arc<Ticket>> {
        self.lock().commit.clone()
    }

    /// One turn: begins a round if there is something to count and `due`; takes the round under
    /// way one commit further.
    ///
    /// # Errors
    /// When the engine cannot read, or there is what must not be passed over.
    pub fn turn(
        &self,
        writer: &Writer,
        engine: &dyn Engine,
        due: bool,
        at_once: AtOnce,
    ) -> Result<Turn, WalkError> {
        let mut state = self.lock();
        if state.is_changing() || state.held > 0 {
            return Ok(Turn::UnderWay);
        }
        let Some(round) = state.round else {
            let counted = self.counted();
            let begun = if due { state.begin(counted, writer, engine)? } else { Turn::Nothing };
            return Ok(begun);
        };
        if !writer.is_settled(round.batch) {
            return Ok(Turn::UnderWay);
        }
        let from = self.counted();
        let range = Range { since: RecordKey::default(), from, to: round.to, at_once, subs: true };
        let chunk = Chunk::read(engine, &range)?;
        let (next, more) = (chunk.next(), chunk.has_more(&range));
        if !chunk.is_empty() || next != from {
            let batch = chunk.commit(engine, self.subs_from())?;
            let ticket = Arc::new(Ticket::default());
            if writer.submit(Arc::clone(&ticket) as _, |all| all.append(&batch)).is_err() {
                // The queue is full, or nothing is taken any more: another turn will tell.
                return Ok(Turn::UnderWay);
            }
            *self.lock_counted() = next;
            state.commit = Some(ticket);
        }
        if more {
            return Ok(Turn::UnderWay);
        }
        state.round = None;
        Ok(Turn::Ended)
    }

    /// Has a commit that changes the sums take its turn. It is made while nobody else changes them,
    /// and hears how far they go and which of those by `sub1` are gone.
    pub(super) fn exchange<E: From<SubmitError>>(
        &self,
        writer: &Writer,
        make: impl FnOnce(Counted, Quarter) -> Result<Option<Batch>, E>,
    ) -> Result<Exchange, E> {
        let mut state = self.lock();
        if state.is_changing() || state.held > 0 {
            return Ok(Exchange::Later(state.commit.clone()));
        }
        let Some(batch) = make(self.counted(), self.subs_from())? else {
            return Ok(Exchange::Nothing);
        };
        let ticket = Arc::new(Ticket::default());
        writer.submit(Arc::clone(&ticket) as _, |all| all.append(&batch))?;
        state.commit = Some(Arc::clone(&ticket));
        Ok(Exchange::Submitted(ticket))
    }

    fn lock_counted(&self) -> MutexGuard<'_, Counted> {
        self.counted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Whether a commit of the sums is on its way. One that has failed stays so: the store is
    /// poisoned.
    fn is_changing(&mut self) -> bool {
        let outcome = self.commit.as_ref().map(|ticket| ticket.outcome());
        if outcome == Some(Some(Outcome::Durable)) {
            self.commit = None;
        }
        self.commit.is_some()
    }

    fn begin(
        &mut self,
        counted: Counted,
        writer: &Writer,
        engine: &dyn Engine,
    ) -> Result<Turn, EngineError> {
        match self.mark.take() {
            Some(mark) => {
                let to = counted.max(mark);
                let batch = writer.close_counting(to);
                self.round = Some(Round { to, batch });
            }
            None => {
                let newest = newest(engine)?.max(counted);
                if newest == counted && !has_changes(engine, &newest)? {
                    return Ok(Turn::Nothing);
                }
                self.mark = Some(newest);
            }
        }
        Ok(Turn::UnderWay)
    }
}

/// Where the clicks and conversions that can be read end.
pub(super) fn newest(engine: &dyn Engine) -> Result<Counted, EngineError> {
    let after = |table| Ok(super::newest(engine, table)?.map_or(RecordKey::default(), keys::after));
    Ok(Counted { clicks: after(Table::Clicks)?, conversions: after(Table::Conversions)? })
}

/// Whether there are changes or late clicks of what is counted.
fn has_changes(engine: &dyn Engine, counted: &Counted) -> Result<bool, EngineError> {
    let nothing = RecordKey::default();
    let has_any = |from: &[u8], to: &[u8]| engine.has_any(Table::Counters, from, to);
    Ok(has_any(&keys::changes_from(&nothing), &keys::changes_from(&counted.conversions))?
        || has_any(&keys::late_clicks_from(&nothing), &keys::late_clicks_from(&counted.clicks))?)
}

/// Takes turns until the writer is closed or the store fails.
pub(super) fn count_until_closed(
    counting: &Counting,
    writer: &Writer,
    engine: &dyn Engine,
    health: &Health,
) {
    yield_to_others();
    let mut idle = 0;
    while !writer.wait_closed(COUNTING_TURN) && health.poison_reason().is_none() {
        // What is left of a full disk belongs to the conversions under way.
        if health.is_disk_full() {
            continue;
        }
        let due = idle >= COUNTING_TURNS_IDLE;
        match counting.turn(writer, engine, due, AtOnce::default()) {
            Ok(Turn::Nothing) if !due => idle += 1,
            Ok(Turn::Nothing | Turn::Ended) => idle = 0,
            Ok(Turn::UnderWay) => {}
            Err(WalkError::Engine(error)) => {
                tracing::error!(%error, "clicks and conversions were not counted");
                idle = 0;
            }
            // Nor will they ever be, and retention must not wait for it unheard.
            Err(WalkError::Record(error)) => health.poison("counting", &error),
        }
    }
}
