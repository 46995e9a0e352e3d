//! Filing: index rows of conversions, written in bulk behind the conversions themselves.
//!
//! A conversion's record says all that its rows in tables of scattered keys say: its claims in
//! `dedupe`, its place in `by_click`. So only the record goes through the log. Its rows are derived
//! later, for many conversions at once, sorted, and put into their tables as finished files, which
//! costs a fraction of an insert each. `meta` keeps up to which conversion that is done; what is
//! above it is derived again when the store is opened, and deriving twice changes nothing.
//!
//! Two promises hold it together:
//!
//! - Whoever commits a conversion below the bound of a round that has begun brings its rows along
//!   in the same batch ([`Writer::submit_conversion`]), so no round misses one. The round ends when
//!   those, too, are settled, so that none files the rows of a conversion that a crash may undo.
//! - Until a conversion's claims are filed, memory may not forget them ([`Progress`]).

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::claim::ClaimSet;
use super::engine::{Batch, Direction, Engine, EngineError};
use super::health::Health;
use super::keys::{self, BY_CLICK_KEY_BYTES, DEDUPE_KEY_BYTES, RecordKey};
use super::records::{self, ConversionRecord, DEDUPE_VALUE_BYTES};
use super::schema::Table;
use super::ticket::Ticket;
use super::writer::{Mark, Writer};
use crate::click_id::RecordId;
use crate::limits::{
    CLAIMS_PER_POSTBACK_MAX, FILED_AT_ONCE_MAX, FILING_TURN, FILING_TURNS_IDLE,
    UNFILED_WORTH_FILING,
};

/// How many conversions were submitted in this life of the store, and how many of the first of
/// them are filed, or never will be.
#[derive(Debug, Default)]
pub struct Progress {
    submitted: AtomicU64,
    filed: AtomicU64,
}

impl Progress {
    /// Conversions handed to the writer so far.
    #[must_use]
    pub fn submitted(&self) -> u64 {
        self.submitted.load(Ordering::Acquire)
    }

    /// Of these, the first so many need no memory any more.
    #[must_use]
    pub fn filed(&self) -> u64 {
        self.filed.load(Ordering::Acquire)
    }

    /// Conversions whose rows are not filed yet.
    #[must_use]
    pub fn unfiled(&self) -> u64 {
        self.submitted().saturating_sub(self.filed())
    }

    pub(super) fn set_submitted(&self, submitted: u64) {
        self.submitted.store(submitted, Ordering::Release);
    }

    fn set_filed(&self, filed: u64) {
        self.filed.store(filed, Ordering::Release);
    }
}

/// The lowest priority of a thread.
const NICE_MAX: i32 = 19;

/// A claim's row in `dedupe`: key, value.
type DedupeRow = [u8; DEDUPE_KEY_BYTES + DEDUPE_VALUE_BYTES];
/// A conversion's row in `by_click`: all key.
type ByClickRow = [u8; BY_CLICK_KEY_BYTES];

/// The index rows of one conversion.
struct IndexRows {
    dedupe: [Option<DedupeRow>; CLAIMS_PER_POSTBACK_MAX],
    by_click: ByClickRow,
}

impl IndexRows {
    /// Derived from the record alone: the same record gives the same rows, whenever it is asked.
    fn of(conversion: RecordId, record: &ConversionRecord<'_>) -> Self {
        let claims = ClaimSet::of_record(record);
        let mut claims = claims.iter();
        let value = records::encode_dedupe(conversion);
        let row = |key: keys::DedupeKey| {
            let mut row = [0; DEDUPE_KEY_BYTES + DEDUPE_VALUE_BYTES];
            row[..DEDUPE_KEY_BYTES].copy_from_slice(&key.0);
            row[DEDUPE_KEY_BYTES..].copy_from_slice(&value);
            row
        };
        Self {
            dedupe: std::array::from_fn(|_| claims.next().map(|claim| row(claim.store_key()))),
            by_click: keys::by_click(RecordId::from_bytes(record.click), conversion),
        }
    }
}

/// Adds the index rows of one conversion to the batch that carries it.
pub(super) fn put_rows(batch: &mut Batch, conversion: RecordId, record: &ConversionRecord<'_>) {
    let rows = IndexRows::of(conversion, record);
    for row in rows.dedupe.iter().flatten() {
        let (key, value) = row.split_at(DEDUPE_KEY_BYTES);
        batch.put(Table::Dedupe, key, |out| out.extend_from_slice(value));
    }
    batch.put(Table::ByClick, &rows.by_click, |_| {});
}

/// Files one range after the other.
pub struct Filing {
    progress: Arc<Progress>,
    state: Mutex<State>,
}

struct State {
    /// Everything below is filed.
    below: RecordKey,
    /// What the writer had at the last turn. A round goes no further than that: a conversion
    /// minted since may still be on its way to the writer.
    mark: Mark,
    /// The round under way.
    round: Option<Round>,
}

/// A range whose conversions are no longer added to, waited for until all are settled.
#[derive(Clone, Copy)]
struct Round {
    mark: Mark,
    batch: u64,
}

impl Filing {
    /// Everything below `below` is filed.
    pub(super) fn new(below: RecordKey, progress: Arc<Progress>) -> Self {
        let mark = Mark { below, submitted: 0 };
        Self { progress, state: Mutex::new(State { below, mark, round: None }) }
    }

    /// How far it is.
    pub fn progress(&self) -> &Arc<Progress> {
        &self.progress
    }

    /// Everything below is filed.
    pub fn below(&self) -> RecordKey {
        self.lock().below
    }

    /// One turn: begins a round if enough is unfiled, or if there is anything and `now` is true;
    /// ends the round under way if all of its conversions are settled.
    ///
    /// # Errors
    /// When the engine fails; the store is poisoned then.
    pub fn turn(&self, writer: &Writer, engine: &dyn Engine, now: bool) -> Result<(), EngineError> {
        let mut state = self.lock();
        let Some(round) = state.round else {
            let before = std::mem::replace(&mut state.mark, writer.mark());
            let unfiled = before.submitted.saturating_sub(self.progress.filed());
            if unfiled >= UNFILED_WORTH_FILING || (now && unfiled > 0) {
                state.round = Some(Round { mark: before, batch: writer.close_below(before.below) });
            }
            return Ok(());
        };
        if !writer.is_settled(round.batch) {
            return Ok(());
        }
        // The lock is the filing thread's own; whoever lists conversions takes it for a copy.
        let (from, to) = (state.below, round.mark.below);
        drop(state);
        file(engine, from, to)?;
        self.progress.set_filed(round.mark.submitted);
        let mut state = self.lock();
        (state.below, state.round) = (to, None);
        drop(state);
        // Lost with a crash, it is done again; so nobody waits for it.
        let _ = writer.submit(Arc::new(Ticket::default()), |batch| {
            batch.put(Table::Meta, keys::META_FILED, |out| out.extend_from_slice(&to));
        });
        Ok(())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Takes turns until the writer is closed or the store fails.
pub(super) fn file_until_closed(
    filing: &Filing,
    writer: &Writer,
    engine: &dyn Engine,
    health: &Health,
) {
    // Filing is never urgent. On Linux this is the calling thread's own priority; where it cannot be
    // set, filing competes with everybody.
    let _ = rustix::process::setpriority_process(None, NICE_MAX);
    let mut idle = 0;
    while !writer.wait_closed(FILING_TURN) && health.poison_reason().is_none() {
        let filed = filing.progress.filed();
        if let Err(error) = filing.turn(writer, engine, idle >= FILING_TURNS_IDLE) {
            health.poison("filing", &error);
        }
        idle = if filing.progress.filed() == filed { idle + 1 } else { 0 };
    }
}

/// Files the index rows of all conversions in `from..to`, so many at a time.
///
/// # Errors
/// When the engine fails.
pub(super) fn file(
    engine: &dyn Engine,
    mut from: RecordKey,
    to: RecordKey,
) -> Result<(), EngineError> {
    while from < to {
        let rows = Rows::read(engine, &from, &to)?;
        let next = rows.next;
        rows.write(engine)?;
        from = next;
    }
    Ok(())
}

/// The rows of some conversions.
struct Rows {
    dedupe: Vec<DedupeRow>,
    by_click: Vec<ByClickRow>,
    /// Where the conversions after them begin.
    next: RecordKey,
}

impl Rows {
    fn read(engine: &dyn Engine, from: &RecordKey, to: &RecordKey) -> Result<Self, EngineError> {
        let mut rows = Self { dedupe: Vec::new(), by_click: Vec::new(), next: *to };
        let mut damaged = 0_usize;
        engine.scan(Table::Conversions, from, to, Direction::Ascending, &mut |key, value| {
            if rows.by_click.len() == FILED_AT_ONCE_MAX
                && let Ok(next) = <RecordKey>::try_from(key)
            {
                rows.next = next;
                return ControlFlow::Break(());
            }
            match (keys::record(key), ConversionRecord::decode(value)) {
                (Some(id), Ok(record)) => rows.add(&IndexRows::of(id, &record)),
                _ => damaged += 1,
            }
            ControlFlow::Continue(())
        })?;
        if damaged > 0 {
            tracing::error!(damaged, "conversions that cannot be read were not indexed");
        }
        Ok(rows)
    }

    fn add(&mut self, rows: &IndexRows) {
        self.dedupe.extend(rows.dedupe.iter().flatten());
        self.by_click.push(rows.by_click);
    }

    fn write(mut self, engine: &dyn Engine) -> Result<(), EngineError> {
        // A row sorts by its key, then by its conversion: of several that held a claim one after
        // the other, the newest comes last and stays.
        self.dedupe.sort_unstable();
        let newest = last_of_each(&self.dedupe, |row| row.split_at(DEDUPE_KEY_BYTES));
        engine.file(Table::Dedupe, &mut newest.into_iter())?;
        self.by_click.sort_unstable();
        engine.file(Table::ByClick, &mut self.by_click.iter().map(|row| (&row[..], &[][..])))
    }
}

/// Of neighbours with the same key, the last.
fn last_of_each<'r, R>(
    rows: &'r [R],
    split: impl Fn(&'r R) -> (&'r [u8], &'r [u8]),
) -> Vec<(&'r [u8], &'r [u8])> {
    let mut last: Vec<(&[u8], &[u8])> = Vec::with_capacity(rows.len());
    for row in rows.iter().map(split) {
        match last.last_mut() {
            Some(before) if before.0 == row.0 => *before = row,
            _ => last.push(row),
        }
    }
    last
}
