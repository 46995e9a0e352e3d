//! Filing: rows derived from conversions, written in bulk behind the conversions themselves.
//!
//! A conversion's record says all that its rows in other tables say: its claims in `dedupe`, its
//! place in `by_click`, its customer in `customers`, its postings in `ledger`. So only the record
//! goes through the log. Its rows are derived later, for many conversions at once, sorted, and put
//! into their tables as finished files, which costs a fraction of an insert each. `meta` keeps up
//! to which conversion that is done; what is above it is derived again when the store is opened,
//! and deriving twice changes nothing.
//!
//! Three promises hold it together:
//!
//! - Whoever commits a conversion below the bound of a round that has begun brings its rows along
//!   in the same batch ([`Writer::submit_conversion`]), so no round misses one. Whoever rewrites
//!   one brings its postings along ([`Writer::submit_derived`]).
//! - A round writes nothing that a crash could still take back: what it has read waits until
//!   every commit that it may have seen is settled.
//! - A round leaves no row older than it found: if somebody brought rows along while it had read
//!   and not written, it reads and writes once more. A windowed claim may be of both.
//! - Until a conversion's claims are filed, memory may not forget them ([`Progress`]).

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::bounds::{Bounds, Mark};
use super::claim::{Claim, ClaimSet};
use super::counting;
use super::engine::{Batch, Engine, EngineError};
use super::health::Health;
use super::keys::{
    self, BY_CLICK_KEY_BYTES, DEDUPE_KEY_BYTES, OF_CUSTOMER_KEY_BYTES, POSTING_KEY_BYTES, RecordKey,
};
use super::postings::{deferred, postings};
use super::records::{
    self, BINDING_VALUE_BYTES, Binding, ConversionRecord, DEDUPE_VALUE_BYTES, WalkError,
};
use super::schema::Table;
use super::ticket::Ticket;
use super::writer::Writer;
use crate::click_id::RecordId;
use crate::limits::{
    FILED_AT_ONCE_MAX, FILING_TURN, FILING_TURNS_IDLE, HARD_CLAIMS_MAX, UNFILED_WORTH_FILING,
};

/// How many conversions were submitted in this life of the store, and how many of the first of
/// them are filed, or never will be.
#[derive(Debug, Default)]
pub struct Progress {
    submitted: AtomicU64,
    filed: AtomicU64,
    /// Conversions that brought their rows along.
    late: AtomicU64,
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

    pub(super) fn count_late(&self) {
        self.late.fetch_add(1, Ordering::AcqRel);
    }

    fn late(&self) -> u64 {
        self.late.load(Ordering::Acquire)
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
/// A conversion's row in `customers`: all key.
type OfCustomerRow = [u8; OF_CUSTOMER_KEY_BYTES];
/// A binding's row in `customers`: key, value.
type BindingRow = [u8; DEDUPE_KEY_BYTES + BINDING_VALUE_BYTES];
/// A posting's row in `ledger`: key, and where its value begins and ends among all values.
type PostingRow = ([u8; POSTING_KEY_BYTES], usize, usize);

/// The index rows of one conversion.
struct IndexRows {
    dedupe: [Option<DedupeRow>; HARD_CLAIMS_MAX],
    by_click: ByClickRow,
    of_customer: Option<OfCustomerRow>,
    binding: Option<BindingRow>,
}

impl IndexRows {
    /// Derived from the record alone: the same record gives the same rows, whenever it is asked.
    fn of(conversion: RecordId, record: &ConversionRecord<'_>) -> Self {
        let claims = ClaimSet::of_record(record);
        let mut hard = claims.hard();
        let click = RecordId::from_bytes(record.click);
        let value = records::encode_dedupe(conversion);
        let binding = Binding { conversion, click }.encode();
        let customer = Claim::customer_of(record).map(|claim| claim.store_key());
        let bound = customer.filter(|_| claims.binds());
        Self {
            dedupe: std::array::from_fn(|_| hard.next().map(|it| row(&it.store_key(), &value))),
            by_click: keys::by_click(click, conversion),
            of_customer: customer.map(|customer| keys::of_customer(customer, conversion)),
            binding: bound.map(|customer| row(&customer, &binding)),
        }
    }
}

/// A key and a value, one after the other.
fn row<const N: usize>(key: &keys::DedupeKey, value: &[u8]) -> [u8; N] {
    let mut row = [0; N];
    row[..DEDUPE_KEY_BYTES].copy_from_slice(&key.0);
    row[DEDUPE_KEY_BYTES..].copy_from_slice(value);
    row
}

/// Puts a new conversion's record into the batch that carries it; with all that is derived from
/// it, if no round will.
pub(super) fn put_conversion(
    batch: &mut Batch,
    conversion: RecordId,
    record: &ConversionRecord<'_>,
    bounds: &Bounds,
) {
    let record = deferred(conversion, record, 0, bounds.unsealed);
    batch.put(Table::Conversions, conversion.as_bytes(), |out| record.encode(out));
    if conversion.as_bytes() < &bounds.filed {
        put_rows(batch, conversion, &record);
    }
    if conversion.as_bytes() < &bounds.counted.conversions {
        counting::put_change(batch, conversion, None, &record);
    }
}

/// Adds the index rows of one conversion to the batch that carries it.
fn put_rows(batch: &mut Batch, conversion: RecordId, record: &ConversionRecord<'_>) {
    let rows = IndexRows::of(conversion, record);
    let mut put = |table, row: &[u8]| {
        let (key, value) = row.split_at(DEDUPE_KEY_BYTES);
        batch.put(table, key, |out| out.extend_from_slice(value));
    };
    rows.dedupe.iter().flatten().for_each(|row| put(Table::Dedupe, row));
    rows.binding.iter().for_each(|row| put(Table::Customers, row));
    batch.put(Table::ByClick, &rows.by_click, |_| {});
    if let Some(key) = &rows.of_customer {
        batch.put(Table::Customers, key, |_| {});
    }
    put_postings(batch, conversion, record);
}

/// Adds the postings of one conversion to the batch that carries it. Those of earlier steps are
/// there already, and are the same.
pub(super) fn put_postings(batch: &mut Batch, conversion: RecordId, record: &ConversionRecord<'_>) {
    for posting in postings(conversion, record) {
        batch.put(Table::Ledger, &posting.key.encode(), |out| posting.record.encode(out));
    }
}

/// Adds the row of the claim that a conversion holds by its erased text, filed or not: memory will
/// not answer for it any more. Nobody else ever holds it.
pub(super) fn put_erased_claim(
    batch: &mut Batch,
    conversion: RecordId,
    record: &ConversionRecord<'_>,
) {
    let erased = |claim: &Claim<'_>| matches!(claim, Claim::Erased { .. });
    for claim in ClaimSet::of_record(record).hard().filter(erased) {
        let value = records::encode_dedupe(conversion);
        batch.put(Table::Dedupe, &claim.store_key().0, |out| out.extend_from_slice(&value));
    }
}

/// Files one range after the other.
pub struct Filing {
    progress: Arc<Progress>,
    /// So many of the first that were submitted are to be filed, worth it or not.
    wanted: AtomicU64,
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

/// A range whose conversions are no longer added to.
struct Round {
    mark: Mark,
    /// Waited for until it and all before it are settled.
    batch: u64,
    /// Of those who brought rows along, how many are settled with it.
    late: u64,
    /// Read while nothing was to be waited for, and not written yet; and how many had brought rows
    /// along by then, all of them seen.
    rows: Option<(Rows, u64)>,
}

impl Filing {
    /// Everything below `below` is filed.
    pub(super) fn new(below: RecordKey, progress: Arc<Progress>) -> Self {
        let mark = Mark { below, submitted: 0 };
        let state = Mutex::new(State { below, mark, round: None });
        Self { progress, wanted: AtomicU64::new(0), state }
    }

    /// How far it is.
    pub fn progress(&self) -> &Arc<Progress> {
        &self.progress
    }

    /// Has all that was submitted so far filed soon, however few they are; returns how many.
    pub fn want_all(&self) -> u64 {
        let submitted = self.progress.submitted();
        self.wanted.fetch_max(submitted, Ordering::AcqRel);
        submitted
    }

    fn is_wanted(&self) -> bool {
        self.progress.filed() < self.wanted.load(Ordering::Acquire)
    }

    /// Everything below is filed.
    pub fn below(&self) -> RecordKey {
        self.lock().below
    }

    /// One turn: begins a round if enough is unfiled, or if there is anything and `now` is true;
    /// takes the round under way as far as it gets without waiting for a commit.
    ///
    /// # Errors
    /// When the engine fails, or a later release has written a conversion; the store is poisoned then.
    pub fn turn(&self, writer: &Writer, engine: &dyn Engine, now: bool) -> Result<(), WalkError> {
        let mut state = self.lock();
        let Some(mut round) = state.round.take() else {
            let before = std::mem::replace(&mut state.mark, writer.mark());
            let unfiled = before.submitted.saturating_sub(self.progress.filed());
            if unfiled >= UNFILED_WORTH_FILING || (now && unfiled > 0) {
                let late = self.progress.late();
                let batch = writer.close_below(before.below);
                state.round = Some(Round { mark: before, batch, late, rows: None });
            }
            return Ok(());
        };
        // The lock is the filing thread's own; whoever lists conversions takes it for a copy.
        let mut from = state.below;
        drop(state);
        let to = round.mark.below;
        while writer.is_settled(round.batch) {
            if let Some((rows, late)) = round.rows.take() {
                let next = rows.next;
                rows.write(engine)?;
                if self.progress.late() == late {
                    from = next;
                    self.lock().below = from;
                }
            }
            if from >= to {
                self.end(round.mark, writer);
                return Ok(());
            }
            round.rows = Some((Rows::read(engine, &from, &to)?, round.late));
            round.late = self.progress.late();
            round.batch = writer.batch();
        }
        self.lock().round = Some(round);
        Ok(())
    }

    fn end(&self, mark: Mark, writer: &Writer) {
        self.progress.set_filed(mark.submitted);
        // Lost with a crash, it is done again; so nobody waits for it.
        let _ = writer.submit(Arc::new(Ticket::default()), |batch| {
            batch.put(Table::Meta, keys::META_FILED, |out| out.extend_from_slice(&mark.below));
        });
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Gives the calling thread the lowest priority, for work that is never urgent. That is what it
/// means on Linux; where it cannot be set, the thread competes with everybody.
pub fn yield_to_others() {
    let _ = rustix::process::setpriority_process(None, NICE_MAX);
}

/// Takes turns until the writer is closed or the store fails.
pub(super) fn file_until_closed(
    filing: &Filing,
    writer: &Writer,
    engine: &dyn Engine,
    health: &Health,
) {
    yield_to_others();
    let mut idle = 0;
    while !writer.wait_closed(FILING_TURN) && health.poison_reason().is_none() {
        let filed = filing.progress.filed();
        let now = idle >= FILING_TURNS_IDLE || filing.is_wanted();
        if let Err(error) = filing.turn(writer, engine, now) {
            health.poison("filing", &error);
        }
        idle = if filing.progress.filed() == filed { idle + 1 } else { 0 };
    }
}

/// Files the index rows of all conversions in `from..to`, so many at a time.
///
/// # Errors
/// When the engine fails, or a later release has written a conversion.
pub(super) fn file(
    engine: &dyn Engine,
    mut from: RecordKey,
    to: RecordKey,
) -> Result<(), WalkError> {
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
    of_customer: Vec<OfCustomerRow>,
    bindings: Vec<BindingRow>,
    postings: Vec<PostingRow>,
    posting_values: Vec<u8>,
    /// Where the conversions after them begin.
    next: RecordKey,
}

impl Rows {
    fn read(engine: &dyn Engine, from: &RecordKey, to: &RecordKey) -> Result<Self, WalkError> {
        let mut rows = Self {
            dedupe: Vec::new(),
            by_click: Vec::new(),
            of_customer: Vec::new(),
            bindings: Vec::new(),
            postings: Vec::new(),
            posting_values: Vec::new(),
            next: *to,
        };
        let mut damaged = 0_usize;
        engine.walk(Table::Conversions, from, to, |key, value| {
            if rows.by_click.len() == FILED_AT_ONCE_MAX
                && let Ok(next) = <RecordKey>::try_from(key)
            {
                rows.next = next;
                return Ok(ControlFlow::Break(()));
            }
            match (keys::record(key), ConversionRecord::decode(value)) {
                (Some(id), Ok(record)) => rows.add(id, &record),
                // Its rows would be missing for good, and what it claims would count again.
                (_, Err(error)) if error.is_newer() => return Err(WalkError::from(error)),
                _ => damaged += 1,
            }
            Ok(ControlFlow::Continue(()))
        })?;
        if damaged > 0 {
            tracing::error!(damaged, "conversions that cannot be read were not indexed");
        }
        Ok(rows)
    }

    fn add(&mut self, conversion: RecordId, record: &ConversionRecord<'_>) {
        let rows = IndexRows::of(conversion, record);
        self.dedupe.extend(rows.dedupe.iter().flatten());
        self.by_click.push(rows.by_click);
        self.of_customer.extend(rows.of_customer);
        self.bindings.extend(rows.binding);
        for posting in postings(conversion, record) {
            let begins = self.posting_values.len();
            posting.record.encode(&mut self.posting_values);
            self.postings.push((posting.key.encode(), begins, self.posting_values.len()));
        }
    }

    fn write(mut self, engine: &dyn Engine) -> Result<(), EngineError> {
        // A row sorts by its key, then by its conversion: of several that held a claim one after
        // the other, the newest comes last and stays.
        self.dedupe.sort_unstable();
        let newest = last_of_each(&self.dedupe, |row| row.split_at(DEDUPE_KEY_BYTES));
        engine.file(Table::Dedupe, &mut newest.into_iter())?;
        self.bindings.sort_unstable();
        // A binding's key is the beginning of the keys of its customer's conversions.
        let mut customers = last_of_each(&self.bindings, |row| row.split_at(DEDUPE_KEY_BYTES));
        customers.extend(self.of_customer.iter().map(|row| (&row[..], &[][..])));
        customers.sort_unstable();
        engine.file(Table::Customers, &mut customers.into_iter())?;
        self.by_click.sort_unstable();
        engine.file(Table::ByClick, &mut self.by_click.iter().map(|row| (&row[..], &[][..])))?;
        self.postings.sort_unstable();
        let value = |begins: usize, ends: usize| &self.posting_values[begins..ends];
        let mut rows =
            self.postings.iter().map(|(key, begins, ends)| (&key[..], value(*begins, *ends)));
        engine.file(Table::Ledger, &mut rows)
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
