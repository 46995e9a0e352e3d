//! Commits that are waited for.

use std::sync::Arc;

use super::engine::Batch;
use super::ticket::{Outcome, Ticket};
use super::{ChangeError, Store, WriteError};
use crate::limits::NUMBERS_PER_COMMIT_MAX;

impl Store {
    /// Waits until everything submitted so far is on disk, and readable.
    ///
    /// # Errors
    /// When the store takes no writes or the disk did not confirm.
    pub async fn all_appended(&self) -> Result<(), WriteError> {
        let batch = self.writer.batch();
        // Two threads append, so a later batch may be settled before an earlier one.
        loop {
            self.change(|_| ()).await?;
            if self.writer.is_settled(batch) {
                return Ok(());
            }
        }
    }

    /// Makes some changes in one commit; durable when this returns.
    pub(super) async fn change(&self, changes: impl FnOnce(&mut Batch)) -> Result<(), WriteError> {
        let ticket = Arc::new(Ticket::default());
        self.writer.submit(Arc::clone(&ticket) as _, changes)?;
        self.durable(&ticket).await
    }

    /// Makes a change for each of some rows of the catalog, so many in one commit; durable before
    /// this returns.
    pub(super) async fn change_each<R>(
        &self,
        rows: &[R],
        change: impl Fn(&mut Batch, &R),
    ) -> Result<(), ChangeError> {
        for rows in rows.chunks(NUMBERS_PER_COMMIT_MAX) {
            self.change(|batch| rows.iter().for_each(|row| change(batch, row))).await?;
        }
        Ok(())
    }

    pub(super) async fn durable(&self, ticket: &Ticket) -> Result<(), WriteError> {
        match self.settled(ticket).await {
            Outcome::Durable => Ok(()),
            Outcome::NotDone | Outcome::Unknown => Err(WriteError::NotDurable),
        }
    }

    /// Waits for a commit that no worker attends to.
    pub(super) async fn settled(&self, ticket: &Ticket) -> Outcome {
        self.writer.flush();
        ticket.settled().await
    }
}
