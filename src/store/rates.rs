//! Exchange rates, by day.

use std::ops::ControlFlow;
use std::sync::Arc;

use super::engine::{Batch, Direction, Engine};
use super::records::RatesRecord;
use super::schema::Table;
use super::ticket::{Outcome, Ticket};
use super::{AuditEntry, ReadError, Store, SubmitError, keys};
use crate::limits::RATE_DAYS_PER_COMMIT_MAX;
use crate::model::rate::Day;

/// Why a change was not made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChangeError {
    /// The store takes no writes.
    #[error(transparent)]
    Submit(#[from] SubmitError),
    /// The disk did not confirm.
    #[error("the disk did not confirm the change")]
    NotDurable,
}

impl Store {
    /// The rates of every day.
    ///
    /// # Errors
    /// When the store cannot be read or a record is damaged.
    pub async fn rates(&self) -> Result<Vec<(Day, RatesRecord)>, ReadError> {
        let read = |engine: &dyn Engine| {
            let (from, to) = keys::rates_range();
            let mut rates = Vec::new();
            engine.scan(Table::Catalog, &from, &to, Direction::Ascending, &mut |key, value| {
                rates.extend(keys::rates_day(key).map(|day| (day, RatesRecord::decode(value))));
                ControlFlow::Continue(())
            })?;
            Ok::<_, ReadError>(rates)
        };
        let rates = self.readers.run(read).await??;
        rates.into_iter().map(|(day, record)| Ok((day, record?))).collect()
    }

    /// Sets the rates of some days, in one commit with the entries about it; durable when this
    /// returns.
    ///
    /// # Errors
    /// When the store takes no writes or the disk did not confirm.
    pub async fn set_rates(
        &self,
        days: &[(Day, RatesRecord)],
        audit: &[AuditEntry<'_>],
    ) -> Result<(), ChangeError> {
        debug_assert!(days.len() <= RATE_DAYS_PER_COMMIT_MAX, "one commit holds no more");
        self.change(|batch| {
            for (day, rates) in days {
                batch.put(Table::Catalog, &keys::rates(*day), |out| rates.encode(out));
            }
            audit.iter().for_each(|entry| self.audit_keys.put(batch, entry));
        })
        .await
    }

    /// Waits until everything submitted so far is on disk, and readable.
    ///
    /// # Errors
    /// When the store takes no writes or the disk did not confirm.
    pub async fn all_appended(&self) -> Result<(), ChangeError> {
        let batch = self.writer.batch();
        // Two threads append, so a later batch may be settled before an earlier one.
        loop {
            self.change(|_| ()).await?;
            if self.writer.is_settled(batch) {
                return Ok(());
            }
        }
    }

    pub(super) async fn change(&self, changes: impl FnOnce(&mut Batch)) -> Result<(), ChangeError> {
        let ticket = Arc::new(Ticket::default());
        self.writer.submit(Arc::clone(&ticket) as _, changes)?;
        self.durable(&ticket).await
    }

    pub(super) async fn durable(&self, ticket: &Ticket) -> Result<(), ChangeError> {
        match self.settled(ticket).await {
            Outcome::Durable => Ok(()),
            Outcome::NotDone | Outcome::Unknown => Err(ChangeError::NotDurable),
        }
    }
}
