//! The audit log: entries go with the changes that they are about, in the same commit, or in one of
//! their own for what changes nothing in the store.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use super::engine::{Batch, Engine};
use super::keys::{self, AuditKey};
use super::records::{AuditRecord, RecordError};
use super::schema::Table;
use super::{ReadError, Store, WriteError};
use crate::limits::PAGE_ROWS_SCANNED_MAX;

/// An entry to be kept.
#[derive(Clone, Copy, Debug)]
pub struct AuditEntry<'a> {
    /// When, Unix milliseconds.
    pub time_ms: u64,
    /// What.
    pub record: AuditRecord<'a>,
}

/// An entry as it was stored.
#[derive(Clone, Debug)]
pub struct StoredAudit {
    /// Its key.
    pub key: AuditKey,
    bytes: Vec<u8>,
}

impl StoredAudit {
    /// The record.
    ///
    /// # Errors
    /// When the bytes do not decode.
    pub fn record(&self) -> Result<AuditRecord<'_>, RecordError> {
        AuditRecord::decode(&self.bytes)
    }
}

/// Some entries, and where the next page starts.
#[derive(Clone, Debug)]
pub struct AuditPage {
    /// The entries, oldest first.
    pub rows: Vec<StoredAudit>,
    /// The last one looked at, if there may be more after it.
    pub next: Option<AuditKey>,
}

/// Decides whether an entry belongs on a page; it hears who did what.
pub type AuditFilter = Arc<dyn Fn(&AuditRecord<'_>) -> bool + Send + Sync>;

/// Gives entries their keys.
pub(super) struct AuditKeys {
    start: u32,
    next: AtomicU32,
}

impl AuditKeys {
    #[expect(clippy::cast_possible_truncation, reason = "told apart by time, too")]
    pub(super) fn of_start(starts: u64) -> Self {
        Self { start: starts as u32, next: AtomicU32::new(0) }
    }

    fn next(&self, time_ms: u64) -> AuditKey {
        AuditKey { time_ms, start: self.start, number: self.next.fetch_add(1, Ordering::Relaxed) }
    }

    /// Adds an entry to a change.
    pub(super) fn put(&self, batch: &mut Batch, entry: &AuditEntry<'_>) {
        let key = self.next(entry.time_ms).encode();
        batch.put(Table::Meta, &key, |out| entry.record.encode(out));
    }
}

impl Store {
    /// Keeps an entry about something that is no change of the store; durable when this returns,
    /// and on its way as soon as it is called.
    ///
    /// # Errors
    /// When the store takes no writes or the disk did not confirm.
    pub async fn keep_audit(&self, entry: &AuditEntry<'_>) -> Result<(), WriteError> {
        self.change(|batch| self.audit_keys.put(batch, entry)).await
    }

    /// Entries of `from_ms..to_ms` that `filter` lets through, oldest first, at most `limit`,
    /// starting after `cursor`. A page may be short and still have a next one: a request looks at a
    /// bounded number of rows.
    ///
    /// # Errors
    /// When the store cannot be read now, or an entry does not decode.
    pub async fn audit(
        &self,
        from_ms: u64,
        to_ms: u64,
        cursor: Option<AuditKey>,
        limit: usize,
        filter: AuditFilter,
    ) -> Result<AuditPage, ReadError> {
        let mut from = keys::audit_from(from_ms).to_vec();
        if let Some(cursor) = cursor {
            // The key right after it.
            from = from.max([&cursor.encode()[..], &[0]].concat());
        }
        let to = keys::audit_from(to_ms);
        let read = move |engine: &dyn Engine| page(engine, &from, &to, limit, &filter);
        self.readers.run(read).await?
    }
}

fn page(
    engine: &dyn Engine,
    from: &[u8],
    to: &[u8],
    limit: usize,
    filter: &AuditFilter,
) -> Result<AuditPage, ReadError> {
    let mut page = AuditPage { rows: Vec::new(), next: None };
    let (mut scanned, mut last) = (0, None);
    engine.walk(Table::Meta, from, to, |key, value| {
        if page.rows.len() == limit || scanned == PAGE_ROWS_SCANNED_MAX {
            page.next = last;
            return Ok(ControlFlow::Break(()));
        }
        let key = AuditKey::decode(key).ok_or(RecordError::Corrupt)?;
        (scanned, last) = (scanned + 1, Some(key));
        if filter(&AuditRecord::decode(value)?) {
            page.rows.push(StoredAudit { key, bytes: value.to_vec() });
        }
        Ok::<_, ReadError>(ControlFlow::Continue(()))
    })?;
    Ok(page)
}
