//! Copies of a store that no server serves: made for a backup, and made ready to be served.

use std::path::Path;

use super::audit::{AuditEntry, AuditKeys};
use super::engine::{Batch, Engine as _};
use super::keys;
use super::numbers::Numbers;
use super::schema::Table;
use super::{Archive, OpenError, RocksEngine, meta};
use crate::limits::{RESTORE_STARTS_SKIPPED, VERIFY_CACHE_BYTES};

/// Makes a copy of the store in `database`, which no process has open, in a folder that is not
/// there yet. Blocks.
///
/// # Errors
/// When there is no store, it is served, or it is of another format than this release writes.
pub fn copy_closed(database: &Path, folder: &Path) -> Result<(), OpenError> {
    // First to be read only, because opening makes what is not there.
    drop(Archive::open(database, VERIFY_CACHE_BYTES)?);
    Ok(RocksEngine::open(database, VERIFY_CACHE_BYTES)?.copy_to(folder)?)
}

/// Has a restored store leave out what may have been given away after it was copied, of which it
/// knows nothing: starts, which are part of every ID, and numbers of offers and affiliates. How
/// many numbers depends on the time of the restore, so that stores restored from one copy do not
/// give the same number to different offers. The entry about it, with that time, goes into its
/// audit log.
///
/// # Errors
/// When it cannot be opened, read or written.
pub fn part_from_lost_time(database: &Path, audit: &AuditEntry<'_>) -> Result<(), OpenError> {
    let engine = RocksEngine::open(database, VERIFY_CACHE_BYTES)?;
    let starts = meta(&engine, keys::META_STARTS, "starts")?.map_or(0, u64::from_be_bytes);
    let [a, b, c, d, ..] = *blake3::hash(&audit.time_ms.to_be_bytes()).as_bytes();
    let numbers = Numbers::read(&engine)?.skipped(u32::from_be_bytes([a, b, c, d]));
    let mut batch = Batch::default();
    batch.put(Table::Meta, keys::META_STARTS, |out| {
        out.extend((starts + RESTORE_STARTS_SKIPPED).to_be_bytes());
    });
    batch.put(Table::Meta, keys::META_NUMBERS_FROM, |out| out.extend(numbers.encode()));
    // A start of its own: those that are left out begin with the next.
    AuditKeys::of_start(starts + 1).put(&mut batch, audit);
    engine.append(&batch)?;
    Ok(engine.sync()?)
}
