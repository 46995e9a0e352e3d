//! Letting go of what is old: range deletes by time, and a cut-off for the dedupe entries.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::keys;
use super::schema::Table;
use super::ticket::{Outcome, Ticket};
use super::{Store, SubmitError};

/// How long each kind of record lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// Clicks.
    pub clicks: Duration,
    /// Conversions and their dedupe entries.
    pub conversions: Duration,
}

impl Store {
    /// Drops what was minted longer ago than `retention` says; true when that is durable.
    ///
    /// The index from a click to its conversions is dropped when both lifetimes are over, since a
    /// click's conversions follow it.
    ///
    /// # Errors
    /// When the store takes no writes.
    pub async fn expire(&self, now_ms: u64, retention: Retention) -> Result<bool, SubmitError> {
        let before = |age: Duration| now_ms.saturating_sub(millis(age));
        let ticket = Arc::new(Ticket::default());
        // What was let go once is gone, even if from now on more is kept.
        let conversions_ms = before(retention.conversions);
        let before_ms = self.expired_before_ms.fetch_max(conversions_ms, Ordering::Relaxed);
        let expired = keys::first_at(before_ms.max(conversions_ms));
        self.writer.submit(Arc::clone(&ticket) as _, |batch| {
            for (table, before_ms) in [
                (Table::Clicks, before(retention.clicks)),
                (Table::Conversions, before(retention.conversions)),
                (Table::ByClick, before(retention.clicks + retention.conversions)),
            ] {
                batch.delete_range(table, &[], &keys::first_at(before_ms));
            }
            batch.put(Table::Meta, keys::META_EXPIRED, |out| out.extend_from_slice(&expired));
        })?;
        self.clicks_from_ms.fetch_max(before(retention.clicks), Ordering::Relaxed);
        self.engine.expire_dedupe(before(retention.conversions));
        Ok(self.settled(&ticket).await == Outcome::Durable)
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
