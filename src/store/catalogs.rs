//! The catalog in force, kept so that it can be read again, and what is known of the ones before.
//!
//! A text of many megabytes is written chunk by chunk, each a commit of its own between those of
//! clicks and conversions, where nobody reads it yet; then one small commit makes it the newest.

use std::ops::ControlFlow;
use std::sync::Arc;

use super::engine::{Batch, Direction, Engine};
use super::keys;
use super::records::{CatalogRecord, RecordError};
use super::schema::Table;
use super::ticket::{Outcome, Ticket};
use super::{AuditEntry, ReadError, Store, SubmitError};
use crate::limits::{CATALOG_CHUNK_BYTES, CATALOG_VERSIONS_KEPT};

/// Why a catalog was not kept.
#[derive(Clone, Debug, thiserror::Error)]
pub enum KeepError {
    /// The store could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The store takes no writes.
    #[error(transparent)]
    Submit(#[from] SubmitError),
    /// The disk did not confirm.
    #[error("the disk did not confirm the catalog")]
    NotDurable,
}

impl Store {
    /// What is known of the catalogs kept last, the newest first; it is the one in force.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn catalog_versions(&self) -> Result<Vec<CatalogRecord>, ReadError> {
        let rows = self.readers.run(versions).await??;
        Ok(rows.into_iter().map(|(_, record)| record).collect())
    }

    /// The newest catalog and its text; `None` if none was ever kept. Callers take turns with
    /// [`Store::keep_catalog`].
    ///
    /// # Errors
    /// When the store cannot be read, or the text is damaged.
    pub async fn catalog(&self) -> Result<Option<(CatalogRecord, String)>, ReadError> {
        self.readers
            .run(|engine| {
                let Some((sequence, record)) = versions(engine)?.into_iter().next() else {
                    return Ok(None);
                };
                let text = text(engine, sequence, record)?;
                Ok(Some((record, text)))
            })
            .await?
    }

    /// Makes `text` the newest catalog, in one commit with the entry about it; durable, whole, before
    /// this returns. Callers take turns: two catalogs are never kept at once.
    ///
    /// # Errors
    /// When the store cannot be read or written; the newest catalog is then the one before.
    pub async fn keep_catalog(
        &self,
        text: &str,
        record: CatalogRecord,
        audit: &AuditEntry<'_>,
    ) -> Result<(), KeepError> {
        let newest = self.readers.run(versions).await.map_err(ReadError::from)?;
        let sequence = newest?.first().map_or(0, |(sequence, _)| sequence + 1);
        let record = CatalogRecord { text_bytes: text.len() as u64, ..record };
        let chunks: Vec<&[u8]> = text.as_bytes().chunks(CATALOG_CHUNK_BYTES).collect();
        let nothing: &[u8] = &[];
        let (last, before) = chunks.split_last().unwrap_or((&nothing, &[]));
        for (number, chunk) in (0..).zip(before) {
            self.commit(|batch| put_chunk(batch, sequence, number, chunk)).await?;
        }
        self.commit(|batch| {
            let number = u32::try_from(before.len()).expect("a text fits into memory");
            put_chunk(batch, sequence, number, last);
            let key = keys::catalog_version(sequence);
            batch.put(Table::Catalog, &key, |out| record.encode(out));
            // The texts of the versions before, and what is known of those long ago.
            let (first, own) = (keys::catalog_chunk(0, 0), keys::catalog_chunk(sequence, 0));
            batch.delete_range(Table::Catalog, &first, &own);
            let oldest = (sequence + 1).saturating_sub(CATALOG_VERSIONS_KEPT as u64);
            let (first, oldest) = (keys::catalog_version(0), keys::catalog_version(oldest));
            batch.delete_range(Table::Catalog, &first, &oldest);
            self.audit_keys.put(batch, audit);
        })
        .await
    }

    pub(super) async fn commit(&self, changes: impl FnOnce(&mut Batch)) -> Result<(), KeepError> {
        let ticket = Arc::new(Ticket::default());
        self.writer.submit(Arc::clone(&ticket) as _, changes)?;
        match self.settled(&ticket).await {
            Outcome::Durable => Ok(()),
            Outcome::NotDone | Outcome::Unknown => Err(KeepError::NotDurable),
        }
    }
}

fn put_chunk(batch: &mut Batch, sequence: u64, number: u32, chunk: &[u8]) {
    if number == 0 {
        // What an attempt that was cut short has left behind.
        let (from, to) = (keys::catalog_chunk(sequence, 0), keys::catalog_chunk(sequence + 1, 0));
        batch.delete_range(Table::Catalog, &from, &to);
    }
    let key = keys::catalog_chunk(sequence, number);
    batch.put(Table::Catalog, &key, |out| out.extend_from_slice(chunk));
}

/// All versions kept, the newest first.
fn versions(engine: &dyn Engine) -> Result<Vec<(u64, CatalogRecord)>, ReadError> {
    let mut rows = Vec::new();
    let (from, to) = keys::catalog_versions();
    engine.scan(Table::Catalog, &from, &to, Direction::Descending, &mut |key, value| {
        let row = keys::catalog_version_of(key).ok_or(RecordError::Corrupt);
        rows.push(row.and_then(|sequence| Ok((sequence, CatalogRecord::decode(value)?))));
        ControlFlow::Continue(())
    })?;
    Ok(rows.into_iter().collect::<Result<_, _>>()?)
}

fn text(engine: &dyn Engine, sequence: u64, record: CatalogRecord) -> Result<String, ReadError> {
    let mut text = Vec::with_capacity(usize::try_from(record.text_bytes).unwrap_or(0));
    let (from, to) = (keys::catalog_chunk(sequence, 0), keys::catalog_chunk(sequence + 1, 0));
    engine.scan(Table::Catalog, &from, &to, Direction::Ascending, &mut |_, chunk| {
        text.extend_from_slice(chunk);
        ControlFlow::Continue(())
    })?;
    if text.len() as u64 != record.text_bytes {
        return Err(RecordError::Corrupt.into());
    }
    String::from_utf8(text).map_err(|_| RecordError::Corrupt.into())
}
