//! Where rates come from: the store at start, then the file that the configuration names, and the
//! admin API for the days that the file does not name.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde_json::{Value, json};
use tokio::sync::{Mutex, mpsc};

use super::file::{self, Days, FileError};
use super::{DayRates, Market, Rates};
use crate::audit::{Author, Entry, Listed};
use crate::config::RatesFile;
use crate::limits::{RATE_DAYS_MAX, RATE_DAYS_PER_COMMIT_MAX, REPRICE_QUEUE_MAX};
use crate::model::admin::AuditAction;
use crate::model::currency::Currency;
use crate::model::period::Day;
use crate::model::rate::Rate;
use crate::store::records::{RatesRecord, RecordError};
use crate::store::{ReadError, Store, ToPrice, WriteError};

/// Days whose rates have changed, for whoever prices their conversions anew.
pub type Reprice = mpsc::Receiver<ToPrice>;

/// Why the rates of a day did not come into force.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PutError {
    /// The file has rates of this day.
    #[error("the rates of this day come from the file that the configuration names")]
    InFile,
    /// There would be rates of more days than [`RATE_DAYS_MAX`].
    #[error("there are rates of {RATE_DAYS_MAX} days at most")]
    TooManyDays,
    /// The store did not keep them.
    #[error(transparent)]
    Store(#[from] WriteError),
}

/// Why the file's rates did not come into force.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// They could not be read, or have mistakes.
    #[error(transparent)]
    File(#[from] FileError),
    /// They were not kept.
    #[error("the rates were not kept: {0}")]
    Put(#[from] PutError),
}

/// Keeps rates and brings them into force.
pub struct RatesSource {
    market: Market,
    store: Arc<Store>,
    file: Option<RatesFile>,
    changed: mpsc::Sender<ToPrice>,
    /// Who changes rates takes turns here, so that each change is made to the table that the last
    /// one left.
    turn: Mutex<Turn>,
}

struct Turn {
    /// The days that the file named last: they are its own.
    in_file: BTreeSet<Day>,
    /// No commit of rates had this number or a higher one, of those that the store remembers.
    next_commit: u64,
}

impl RatesSource {
    /// Reads the rates that the store keeps, and brings them into force. What a killed server left
    /// to be priced is the first to be heard of.
    ///
    /// # Errors
    /// When the store cannot be read or a day is damaged.
    pub async fn load(
        market: Market,
        store: Arc<Store>,
        file: Option<RatesFile>,
    ) -> Result<(Self, Reprice), ReadError> {
        let mut rates = Rates::default();
        for (day, record) in store.rates().await? {
            rates.set(day, day_rates(&record).ok_or(RecordError::Corrupt)?);
        }
        market.rates.store(Arc::new(rates));
        let left = store.to_price().await?;
        let next_commit = left.last_key_value().map_or(0, |(last, _)| last.saturating_add(1));
        let (changed, reprice) = mpsc::channel(REPRICE_QUEUE_MAX);
        let turn = Mutex::new(Turn { in_file: BTreeSet::new(), next_commit });
        let source = Self { market, store, file, changed, turn };
        source.announce(left).await;
        Ok((source, reprice))
    }

    /// The network's currency.
    #[must_use]
    pub const fn base(&self) -> Currency {
        self.market.base
    }

    /// Whether there is a file.
    #[must_use]
    pub const fn has_file(&self) -> bool {
        self.file.is_some()
    }

    /// The rates of a day.
    #[must_use]
    pub fn of(&self, day: Day) -> Option<Arc<DayRates>> {
        self.market.rates.load().of(day).map(Arc::clone)
    }

    /// Sets the rates of a day that the file does not name. They are on disk and in force when this
    /// returns; conversions that waited for them are priced afterwards.
    ///
    /// # Errors
    /// When they did not come into force.
    pub async fn put(
        &self,
        day: Day,
        rates: DayRates,
        by: &Author,
        now_ms: u64,
    ) -> Result<(), PutError> {
        let mut turn = self.turn.lock().await;
        if turn.in_file.contains(&day) {
            return Err(PutError::InFile);
        }
        let kept = self.keep(&mut turn, Days::from([(day, rates)]), by, now_ms).await?;
        drop(turn);
        self.announce(kept).await;
        Ok(())
    }

    /// Brings the file's rates into force, all or none; returns how many days have changed. Other
    /// days stay as they are, and what was exchanged keeps its rate. Blocks while it reads.
    ///
    /// # Errors
    /// When they did not come into force; the old ones then stay.
    pub async fn load_file(&self, by: &Author, now_ms: u64) -> Result<usize, LoadError> {
        let Some(file) = &self.file else { return Ok(0) };
        let mut turn = self.turn.lock().await;
        let mut days = file::read(file)?;
        let named: BTreeSet<Day> = days.keys().copied().collect();
        let in_force = self.market.rates.load_full();
        if file.table_base.is_some() {
            file::fill_before(&mut days, &in_force);
        }
        days.retain(|day, rates| in_force.of(*day).is_none_or(|known| **known != *rates));
        let count = days.len();
        let kept = self.keep(&mut turn, days, by, now_ms).await?;
        turn.in_file = named;
        drop(turn);
        self.announce(kept).await;
        Ok(count)
    }

    /// Keeps the rates of some days and brings them into force. After an error some are kept, which
    /// the next start brings into force, and all may be kept again.
    async fn keep(
        &self,
        turn: &mut Turn,
        days: Days,
        by: &Author,
        now_ms: u64,
    ) -> Result<ToPrice, PutError> {
        let in_force = self.market.rates.load_full();
        let mut table = Rates::clone(&in_force);
        let fresh = days.keys().filter(|day| table.of(**day).is_none()).count();
        if table.days() + fresh > RATE_DAYS_MAX {
            return Err(PutError::TooManyDays);
        }
        let records: Vec<_> = days.iter().map(|(day, rates)| (*day, record(rates))).collect();
        let entry = |(day, rates): (&Day, &DayRates)| {
            let details = changes(in_force.of(*day).map(|known| &**known), rates);
            by.entry(now_ms, AuditAction::Rates, &day.to_string(), &details)
        };
        let entries: Vec<_> = days.iter().map(entry).collect();
        let entries: Vec<_> = entries.iter().map(Entry::as_stored).collect();
        let entries = entries.chunks(RATE_DAYS_PER_COMMIT_MAX);
        let mut to_price = ToPrice::new();
        for (records, entries) in records.chunks(RATE_DAYS_PER_COMMIT_MAX).zip(entries) {
            let commit = turn.next_commit;
            turn.next_commit += 1;
            self.store.set_rates(records, commit, entries).await?;
            to_price.insert(commit, records.iter().map(|(day, _)| *day).collect());
        }
        for (day, rates) in days {
            table.set(day, rates);
        }
        self.market.rates.store(Arc::new(table));
        Ok(to_price)
    }

    async fn announce(&self, to_price: ToPrice) {
        if !to_price.is_empty() {
            // Without a receiver the server is about to stop; the next start prices what is left.
            let _ = self.changed.send(to_price).await;
        }
    }
}

/// What an entry says of a day: its base and the rates that differ, before and after.
fn changes(before: Option<&DayRates>, after: &DayRates) -> Value {
    let base = |day: &DayRates| day.base.to_string();
    let text = |rate: Option<Rate>| rate.map(|rate| rate.to_string());
    let named = |day: &DayRates| day.rates.iter().map(|(currency, _)| *currency).collect();
    let mut currencies: BTreeSet<Currency> = named(after);
    currencies.extend(before.map(named).unwrap_or_default());
    let mut rates = Listed::default();
    for currency in currencies {
        let [old, new] = [before, Some(after)].map(|day| text(day?.of(currency)));
        if old != new {
            rates.push(json!({ "currency": currency.to_string(), "before": old, "after": new }));
        }
    }
    let (rates, left_out) = rates.into_parts();
    json!({
        "base": { "before": before.map(base), "after": base(after) },
        "rates": rates,
        "left_out": left_out,
    })
}

fn record(day: &DayRates) -> RatesRecord {
    let pair = |(currency, rate): &(Currency, Rate)| (currency.to_bytes(), rate.get());
    RatesRecord { base: day.base.to_bytes(), rates: day.rates.iter().map(pair).collect() }
}

fn day_rates(record: &RatesRecord) -> Option<DayRates> {
    let pair =
        |(code, rate): &([u8; 3], u64)| Some((Currency::from_bytes(*code)?, Rate::new(*rate)?));
    let rates: Option<Vec<_>> = record.rates.iter().map(pair).collect();
    DayRates::new(Currency::from_bytes(record.base)?, rates?).ok()
}
