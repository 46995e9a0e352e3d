//! The catalog in force and those before it, kept so that they can be read again until they are too
//! many; the oldest texts may go earlier, where all are too much, and leave their records.
//!
//! A text of many megabytes is written chunk by chunk, each a commit of its own between those of
//! clicks and conversions, where nobody reads it yet; then one small commit makes it the newest.

use std::ops::ControlFlow;

use super::engine::{Batch, Direction, Engine};
use super::keys;
use super::records::{CatalogRecord, RecordError};
use super::schema::Table;
use super::{AuditEntry, ChangeError, ReadError, Store};
use crate::limits::{CATALOG_CHUNK_BYTES, CATALOG_TEXTS_BYTES_MAX, CATALOG_VERSIONS_KEPT};

/// A catalog that came into force.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CatalogVersion {
    /// What is known of it.
    pub record: CatalogRecord,
    /// Whether its text is kept.
    pub has_text: bool,
}

impl Store {
    /// What is known of the catalogs kept last, the newest first; it is the one in force.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn catalog_versions(&self) -> Result<Vec<CatalogVersion>, ReadError> {
        let rows = |engine: &dyn Engine| {
            let first = first_text(engine)?;
            let of = |(sequence, record)| CatalogVersion {
                record,
                has_text: first.is_some_and(|first| first <= sequence),
            };
            Ok(versions(engine)?.into_iter().map(of).collect())
        };
        self.readers.run(rows).await?
    }

    /// The newest catalog and its text; `None` if none was ever kept. Callers take turns with
    /// [`Store::keep_catalog`].
    ///
    /// # Errors
    /// When the store cannot be read, or the text is damaged.
    pub async fn catalog(&self) -> Result<Option<(CatalogRecord, String)>, ReadError> {
        let newest = |engine: &dyn Engine| match versions(engine)?.first() {
            Some((sequence, record)) => Ok(Some((*record, text(engine, *sequence, record)?))),
            None => Ok(None),
        };
        self.readers.run(newest).await?
    }

    /// As [`Store::catalog`], of one version; `None` if its text is not kept.
    ///
    /// # Errors
    /// When the store cannot be read, or the text is damaged.
    pub async fn catalog_of(
        &self,
        version: u64,
    ) -> Result<Option<(CatalogRecord, String)>, ReadError> {
        let of_version = move |engine: &dyn Engine| {
            let first = first_text(engine)?;
            let with_text = |sequence: u64| first.is_some_and(|first| first <= sequence);
            let mut rows = versions(engine)?.into_iter();
            match rows.find(|(sequence, record)| record.version == version && with_text(*sequence))
            {
                Some((sequence, record)) => Ok(Some((record, text(engine, sequence, &record)?))),
                None => Ok(None),
            }
        };
        self.readers.run(of_version).await?
    }

    /// Makes `text` the newest catalog, in one commit with the entry about it and with the end of
    /// the oldest, if there is no room for them; durable, whole, before this returns. Callers take
    /// turns: two catalogs are never kept at once.
    ///
    /// # Errors
    /// When the store cannot be read or written; the newest catalog is then the one before.
    pub async fn keep_catalog(
        &self,
        text: &str,
        record: CatalogRecord,
        audit: &AuditEntry<'_>,
    ) -> Result<(), ChangeError> {
        let known =
            |engine: &dyn Engine| Ok::<_, ReadError>((versions(engine)?, first_text(engine)?));
        let (before, first) = self.readers.run(known).await.map_err(ReadError::from)??;
        let sequence = before.first().map_or(0, |(sequence, _)| sequence + 1);
        let oldest = oldest_text(sequence, text.len() as u64, &before);
        let record = CatalogRecord { text_bytes: text.len() as u64, ..record };
        let chunks: Vec<&[u8]> = text.as_bytes().chunks(CATALOG_CHUNK_BYTES).collect();
        let nothing: &[u8] = &[];
        let (last, others) = chunks.split_last().unwrap_or((&nothing, &[]));
        for (number, chunk) in (0..).zip(others) {
            self.change(|batch| put_chunk(batch, sequence, number, chunk)).await?;
        }
        self.change(|batch| {
            let number = u32::try_from(others.len()).expect("a text fits into memory");
            put_chunk(batch, sequence, number, last);
            let key = keys::catalog_version(sequence);
            batch.put(Table::Catalog, &key, |out| record.encode(out));
            if let Some(first) = first.filter(|first| *first < oldest) {
                let (from, to) = (keys::catalog_chunk(first, 0), keys::catalog_chunk(oldest, 0));
                batch.delete_range(Table::Catalog, &from, &to);
            }
            let oldest = (sequence + 1).saturating_sub(CATALOG_VERSIONS_KEPT as u64);
            let (first, oldest) = (keys::catalog_version(0), keys::catalog_version(oldest));
            batch.delete_range(Table::Catalog, &first, &oldest);
            self.audit_keys.put(batch, audit);
        })
        .await?;
        Ok(())
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

/// The oldest version that may keep its text beside a new one of `text_bytes`.
fn oldest_text(sequence: u64, text_bytes: u64, before: &[(u64, CatalogRecord)]) -> u64 {
    let mut bytes = text_bytes;
    let fit = before.iter().take(CATALOG_VERSIONS_KEPT - 1).take_while(|(_, record)| {
        bytes = bytes.saturating_add(record.text_bytes);
        bytes <= CATALOG_TEXTS_BYTES_MAX
    });
    fit.last().map_or(sequence, |(sequence, _)| *sequence)
}

/// The oldest version that has its text: those after it have theirs, too.
fn first_text(engine: &dyn Engine) -> Result<Option<u64>, ReadError> {
    let (from, to) = (keys::catalog_chunk(0, 0), keys::catalog_chunk(u64::MAX, 0));
    let first = engine.first(Table::Catalog, &from, &to, Direction::Ascending, |key, _| {
        keys::catalog_chunk_of(key).ok_or(RecordError::Corrupt)
    })?;
    Ok(first.transpose()?)
}

fn text(engine: &dyn Engine, sequence: u64, record: &CatalogRecord) -> Result<String, ReadError> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_texts_go_first_and_the_newest_stays() {
        let half = CATALOG_TEXTS_BYTES_MAX / 2;
        let check = |text_bytes: u64, before: &[u64], expected: u64| {
            let sequence = 10_000;
            let rows: Vec<_> = (1..)
                .zip(before)
                .map(|(age, bytes)| {
                    let text_bytes = *bytes;
                    (sequence - age, CatalogRecord { text_bytes, ..CatalogRecord::default() })
                })
                .collect();
            assert_eq!(oldest_text(sequence, text_bytes, &rows), sequence - expected);
        };
        check(1, &[], 0);
        check(0, &[1, 1], 2);
        check(half, &[half], 1);
        check(half, &[half, 0, 1], 2);
        check(half, &[half + 1, 0], 0);
        check(1, &[half, half, 1], 1);
        check(2 * half + 1, &[0], 0);
        check(1, &[1; 2 * CATALOG_VERSIONS_KEPT], CATALOG_VERSIONS_KEPT as u64 - 1);
    }
}
