//! Letting go of what is old: range deletes by time, and a cut-off for the rows that lead to it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::engine::Engine;
use super::keys::{self, RecordKey};
use super::retention_time::RetentionTime;
use super::schema::Table;
use super::ticket::{Outcome, Ticket};
use super::{OpenError, Store, SubmitError, WriteError, meta};
use crate::click_id::RecordId;
use crate::model::period::{Day, Quarter};

/// How long each kind of record lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// Clicks.
    pub clicks: Duration,
    /// Conversions and the rows that lead to them.
    pub conversions: Duration,
    /// The audit log.
    pub audit: Duration,
    /// Postbacks as received.
    pub inbound: Duration,
}

/// What retention has let go, by the keys below which nothing is left.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Expired {
    /// Clicks, and with them sums by `sub1`.
    pub clicks: RecordKey,
    /// Conversions, and with them the rows that lead to them.
    pub conversions: RecordKey,
}

impl Expired {
    pub(super) fn read(engine: &dyn Engine) -> Result<Self, OpenError> {
        let read = |key, name| Ok::<_, OpenError>(meta(engine, key, name)?.unwrap_or_default());
        Ok(Self {
            clicks: read(keys::META_EXPIRED_CLICKS, "expired_clicks")?,
            conversions: read(keys::META_EXPIRED, "expired")?,
        })
    }

    /// Sums by `sub1` of earlier quarters of an hour are gone: those that ended before the clicks
    /// that are kept.
    #[must_use]
    pub fn subs_before(&self) -> Quarter {
        Quarter::of_ms(RecordId::from_bytes(self.clicks).time_ms())
    }

    fn raise(&mut self, to: &Self) {
        self.clicks = self.clicks.max(to.clicks);
        self.conversions = self.conversions.max(to.conversions);
    }
}

/// What was let go, and by which time.
pub(super) struct LetGo {
    expired: Mutex<Expired>,
    /// Postbacks as received before, Unix milliseconds: earlier again when a clock is corrected that
    /// was ahead and believed.
    pub inbound_before_ms: AtomicU64,
    /// `None` until a store without records is first looked through.
    time: Mutex<Option<RetentionTime>>,
}

impl LetGo {
    /// `newest_ms` is when the newest record was minted, 0 if there is none.
    pub(super) fn read(engine: &dyn Engine, newest_ms: u64) -> Result<Self, OpenError> {
        let time = meta(engine, keys::META_RETENTION_TIME, "retention_time")?;
        let newest = (newest_ms > 0).then(|| RetentionTime::at(newest_ms));
        Ok(Self {
            expired: Mutex::new(Expired::read(engine)?),
            inbound_before_ms: AtomicU64::new(0),
            time: Mutex::new(time.map(RetentionTime::decode).or(newest)),
        })
    }

    pub(super) fn expired(&self) -> Expired {
        *self.lock_expired()
    }

    fn lock_expired(&self) -> MutexGuard<'_, Expired> {
        self.expired.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_time(&self) -> MutexGuard<'_, Option<RetentionTime>> {
        self.time.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Store {
    /// Drops what was minted longer ago than `retention` says; true when that is durable.
    ///
    /// So much time has `passed` since this was last called in this process, whatever the clock
    /// says; by how much the clock is believed, `RetentionTime` says.
    ///
    /// Rows that lead to a conversion go when they are next compacted. What is not counted yet is
    /// kept until it is: sums of reports and of caps in total have to outlive it.
    ///
    /// # Errors
    /// When the store takes no writes.
    pub async fn expire(
        &self,
        clock_ms: u64,
        passed: Duration,
        retention: Retention,
    ) -> Result<bool, SubmitError> {
        let time = {
            let mut time = self.let_go.lock_time();
            let first = RetentionTime::at(clock_ms);
            let later = time.map_or(first, |time| time.later(clock_ms, millis(passed)));
            *time.insert(later)
        };
        let now_ms = time.of_cut_offs(clock_ms);
        let counted = self.counting.counted();
        // Two threads append: what is let go must not be off the disk before its sums are on it.
        match self.all_appended().await {
            Ok(()) => {}
            Err(WriteError::Submit(error)) => return Err(error),
            Err(WriteError::NotDurable) => return Ok(false),
        }
        let before = |age: Duration, counted: RecordKey| {
            let counted_ms = RecordId::from_bytes(counted).time_ms();
            keys::first_at(now_ms.saturating_sub(millis(age)).min(counted_ms))
        };
        let ticket = Arc::new(Ticket::default());
        // What was let go once is gone, even if from now on more is kept.
        let expired = {
            let mut expired = self.let_go.lock_expired();
            expired.raise(&Expired {
                clicks: before(retention.clicks, counted.clicks),
                conversions: before(retention.conversions, counted.conversions),
            });
            *expired
        };
        let subs_before = expired.subs_before();
        self.counting.forget_subs_before(subs_before);
        let received_ms = now_ms.saturating_sub(millis(retention.inbound));
        // Before it is submitted: whoever writes a page anew after that must know.
        self.let_go.inbound_before_ms.store(received_ms, Ordering::Release);
        self.writer.submit(Arc::clone(&ticket) as _, |batch| {
            for (table, below) in
                [(Table::Clicks, expired.clicks), (Table::Conversions, expired.conversions)]
            {
                batch.delete_range(table, &[], &below);
            }
            let [from, to] = [Quarter::default(), subs_before].map(keys::sub_counters_from);
            batch.delete_range(Table::Counters, &from, &to);
            let audit_from = now_ms.saturating_sub(millis(retention.audit));
            let [from, to] = [0, audit_from].map(keys::audit_from);
            batch.delete_range(Table::Meta, &from, &to);
            let (from, to) = ([0; 16], keys::first_at(received_ms));
            let [from, to] = [from, to].map(|page| keys::inbound_page(&page));
            batch.delete_range(Table::Inbound, &from, &to);
            let [from, to] = [Day::new(0), Day::of_ms(received_ms)].map(keys::inbound_clicks_from);
            batch.delete_range(Table::Inbound, &from, &to);
            for (name, below) in [
                (keys::META_EXPIRED_CLICKS, expired.clicks),
                (keys::META_EXPIRED, expired.conversions),
            ] {
                batch.put(Table::Meta, name, |out| out.extend_from_slice(&below));
            }
            batch.put(Table::Meta, keys::META_RETENTION_TIME, |out| out.extend(time.encode()));
        })?;
        let time_ms = |below| RecordId::from_bytes(below).time_ms();
        self.clicks_from_ms.fetch_max(time_ms(expired.clicks), Ordering::Relaxed);
        let is_durable = self.settled(&ticket).await == Outcome::Durable;
        if is_durable {
            // Not before: a conversion that a crash brings back has to be found by its claims.
            self.engine.expire_rows(time_ms(expired.conversions));
        }
        Ok(is_durable)
    }

    /// What was let go so far.
    pub(super) fn expired(&self) -> Expired {
        self.let_go.expired()
    }

    /// By how much the clock was ahead of what [`Store::expire`] believed of it last, milliseconds.
    #[must_use]
    pub fn clock_disbelieved_ms(&self) -> u64 {
        self.let_go.lock_time().map_or(0, |time| time.disbelieved_ms())
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
