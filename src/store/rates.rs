//! Exchange rates, by day.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use super::engine::Engine;
use super::records::{RatesRecord, RecordError};
use super::schema::Table;
use super::{AuditEntry, ReadError, Store, WriteError, keys};
use crate::limits::RATE_DAYS_PER_COMMIT_MAX;
use crate::model::period::Day;

/// Days whose conversions are still to be priced, by the commits that have set their rates.
pub type ToPrice = BTreeMap<u64, Vec<Day>>;

impl Store {
    /// The rates of every day.
    ///
    /// # Errors
    /// When the store cannot be read or a record is damaged.
    pub async fn rates(&self) -> Result<Vec<(Day, RatesRecord)>, ReadError> {
        let read = |engine: &dyn Engine| {
            let (from, to) = keys::rates_range();
            let mut rates = Vec::new();
            engine.walk(Table::Catalog, &from, &to, |key, value| {
                if let Some(day) = keys::rates_day(key) {
                    rates.push((day, RatesRecord::decode(value)?));
                }
                Ok::<_, ReadError>(ControlFlow::Continue(()))
            })?;
            Ok(rates)
        };
        self.readers.run(read).await?
    }

    /// Sets the rates of some days, in one commit with the entries about it; durable when this
    /// returns. `commit` is a number that is not among those of [`Store::to_price`]: the days are
    /// there under it until [`Store::priced`].
    ///
    /// # Errors
    /// When the store takes no writes or the disk did not confirm.
    pub async fn set_rates(
        &self,
        days: &[(Day, RatesRecord)],
        commit: u64,
        audit: &[AuditEntry<'_>],
    ) -> Result<(), WriteError> {
        debug_assert!(days.len() <= RATE_DAYS_PER_COMMIT_MAX, "one commit holds no more");
        self.change(|batch| {
            for (day, rates) in days {
                batch.put(Table::Catalog, &keys::rates(*day), |out| rates.encode(out));
            }
            batch.put(Table::Meta, &keys::to_price(commit), |out| {
                encode_to_price(days.iter().map(|(day, _)| *day), out);
            });
            audit.iter().for_each(|entry| self.audit_keys.put(batch, entry));
        })
        .await
    }

    /// What rates were set for and is still to be priced, or was when a server was killed.
    ///
    /// # Errors
    /// When the store cannot be read or a row is damaged.
    pub async fn to_price(&self) -> Result<ToPrice, ReadError> {
        let read = |engine: &dyn Engine| {
            let (from, to) = keys::all_to_price();
            let mut all = ToPrice::new();
            engine.walk(Table::Meta, from, to, |key, value| {
                let row = keys::to_price_of(key).zip(days_to_price(value));
                let (commit, days) = row.ok_or(RecordError::Corrupt)?;
                all.insert(commit, days);
                Ok::<_, ReadError>(ControlFlow::Continue(()))
            })?;
            Ok(all)
        };
        self.readers.run(read).await?
    }

    /// Says that the conversions of these commits are priced, as far as there are rates.
    ///
    /// # Errors
    /// When the store takes no writes or the disk did not confirm.
    pub async fn priced(&self, commits: impl Iterator<Item = u64>) -> Result<(), WriteError> {
        self.change(|batch| {
            commits.for_each(|commit| batch.delete(Table::Meta, &keys::to_price(commit)));
        })
        .await
    }
}

/// Appends days, as in a row of what is to be priced.
pub(super) fn encode_to_price(days: impl IntoIterator<Item = Day>, out: &mut Vec<u8>) {
    days.into_iter().for_each(|day| out.extend(day.get().to_be_bytes()));
}

/// The days in a row of what is to be priced.
#[must_use]
pub fn days_to_price(row: &[u8]) -> Option<Vec<Day>> {
    let (days, rest) = row.as_chunks();
    let day = |bytes: &[u8; 4]| Day::new(u32::from_be_bytes(*bytes));
    rest.is_empty().then(|| days.iter().map(day).collect())
}
