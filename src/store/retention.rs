//! Letting go of what is old: range deletes by time, and a cut-off for the dedupe entries.

use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use super::engine::Engine;
use super::keys::{self, RecordKey};
use super::schema::Table;
use super::ticket::{Outcome, Ticket};
use super::{OpenError, Store, SubmitError, meta};

/// How long each kind of record lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// Clicks.
    pub clicks: Duration,
    /// Conversions and their dedupe entries.
    pub conversions: Duration,
}

/// What retention has let go, by the keys below which nothing is left.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Expired {
    /// Conversions, and with them their dedupe entries.
    pub conversions: RecordKey,
    /// Rows of `by_click`, by their clicks.
    pub by_click: RecordKey,
}

impl Expired {
    pub(super) fn read(engine: &dyn Engine) -> Result<Self, OpenError> {
        let read = |key, name| Ok::<_, OpenError>(meta(engine, key, name)?.unwrap_or_default());
        Ok(Self {
            conversions: read(keys::META_EXPIRED, "expired")?,
            by_click: read(keys::META_EXPIRED_BY_CLICK, "expired_by_click")?,
        })
    }

    fn raise(&mut self, to: &Self) {
        self.conversions = self.conversions.max(to.conversions);
        self.by_click = self.by_click.max(to.by_click);
    }
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
        let expired = {
            let mut expired = self.expired.lock().unwrap_or_else(PoisonError::into_inner);
            expired.raise(&Expired {
                conversions: keys::first_at(before(retention.conversions)),
                by_click: keys::first_at(before(retention.clicks + retention.conversions)),
            });
            *expired
        };
        self.writer.submit(Arc::clone(&ticket) as _, |batch| {
            for (table, before_ms) in [
                (Table::Clicks, before(retention.clicks)),
                (Table::Conversions, before(retention.conversions)),
                (Table::ByClick, before(retention.clicks + retention.conversions)),
            ] {
                batch.delete_range(table, &[], &keys::first_at(before_ms));
            }
            for (name, below) in [
                (keys::META_EXPIRED, expired.conversions),
                (keys::META_EXPIRED_BY_CLICK, expired.by_click),
            ] {
                batch.put(Table::Meta, name, |out| out.extend_from_slice(&below));
            }
        })?;
        self.clicks_from_ms.fetch_max(before(retention.clicks), Ordering::Relaxed);
        self.engine.expire_dedupe(before(retention.conversions));
        Ok(self.settled(&ticket).await == Outcome::Durable)
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
