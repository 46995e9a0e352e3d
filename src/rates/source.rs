//! Where rates come from: the store at start, the admin API afterwards.

use std::sync::Arc;

use tokio::sync::{Mutex, mpsc};

use super::{DayRates, Market, Rates};
use crate::limits::{RATE_DAYS_MAX, REPRICE_QUEUE_MAX};
use crate::model::currency::Currency;
use crate::model::rate::{Day, Rate};
use crate::store::records::{RatesRecord, RecordError};
use crate::store::{ChangeError, ReadError, Store};

/// Days whose rates have changed, for whoever prices their conversions anew.
pub type Reprice = mpsc::Receiver<Day>;

/// Why rates did not come into force.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PutError {
    /// There are rates of [`RATE_DAYS_MAX`] days already.
    #[error("there are rates of {RATE_DAYS_MAX} days already")]
    TooManyDays,
    /// The store did not keep them.
    #[error(transparent)]
    Store(#[from] ChangeError),
}

/// Keeps rates and brings them into force.
pub struct RatesSource {
    market: Market,
    store: Arc<Store>,
    changed: mpsc::Sender<Day>,
    /// Who changes rates takes turns: each change is made to the table that the last one left.
    turn: Mutex<()>,
}

impl RatesSource {
    /// Reads the rates that the store keeps, and brings them into force.
    ///
    /// # Errors
    /// When the store cannot be read or a day is damaged.
    pub async fn load(market: Market, store: Arc<Store>) -> Result<(Self, Reprice), ReadError> {
        let mut rates = Rates::default();
        for (day, record) in store.rates().await? {
            rates.set(day, day_rates(&record).ok_or(RecordError::Corrupt)?);
        }
        market.rates.store(Arc::new(rates));
        let (changed, reprice) = mpsc::channel(REPRICE_QUEUE_MAX);
        Ok((Self { market, store, changed, turn: Mutex::default() }, reprice))
    }

    /// The network's currency.
    #[must_use]
    pub const fn base(&self) -> Currency {
        self.market.base
    }

    /// The rates of a day.
    #[must_use]
    pub fn of(&self, day: Day) -> Option<Arc<DayRates>> {
        self.market.rates.load().of(day).map(Arc::clone)
    }

    /// Sets the rates of a day. They are on disk and in force when this returns; conversions that
    /// waited for them are priced afterwards.
    ///
    /// # Errors
    /// When they did not come into force.
    pub async fn put(&self, day: Day, rates: DayRates) -> Result<(), PutError> {
        let turn = self.turn.lock().await;
        let mut table = Rates::clone(&self.market.rates.load());
        if table.of(day).is_none() && table.days() >= RATE_DAYS_MAX {
            return Err(PutError::TooManyDays);
        }
        self.store.set_rates(day, &record(&rates)).await?;
        table.set(day, rates);
        self.market.rates.store(Arc::new(table));
        drop(turn);
        // Without a receiver the server is about to stop; the next start prices what is left.
        let _ = self.changed.send(day).await;
        Ok(())
    }
}

fn record(day: &DayRates) -> RatesRecord {
    let pair = |(currency, rate): &(Currency, Rate)| (currency.to_bytes(), rate.get());
    RatesRecord { base: day.base.to_bytes(), rates: day.rates.iter().map(pair).collect() }
}

fn day_rates(record: &RatesRecord) -> Option<DayRates> {
    let pair =
        |(code, rate): &([u8; 3], u64)| Some((Currency::from_bytes(*code)?, Rate::new(*rate)?));
    let rates: Option<Vec<_>> = record.rates.iter().map(pair).collect();
    DayRates::new(Currency::from_bytes(record.base)?, rates?)
}
