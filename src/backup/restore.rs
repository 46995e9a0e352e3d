//! From a backup to a store that can be served.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::json;

use super::copy::entry;
use super::{BackupError, List, Unfinished, has_room, sound, unfinished};
use crate::audit::Author;
use crate::files::{create_folder, sync_folder};
use crate::limits::VERIFY_CACHE_BYTES;
use crate::model::admin::AuditAction;
use crate::store::{Archive, FORMAT_VERSION, database_folder, part_from_lost_time};
use crate::verify::Report;

/// Makes a store in the folder `to`, which is empty or not there, of the backup `from`. Blocks.
/// The time makes it another store than those restored before. Returns what was verified: nothing
/// of a store of an earlier format, which its first start brings up to date.
///
/// # Errors
/// When there is no sound store in `to`; what was made of it is removed.
pub fn restore(from: &Path, to: &Path, now_ms: u64) -> Result<Option<Report>, BackupError> {
    let list = List::read(from)?;
    if list.store_format > FORMAT_VERSION {
        return Err(BackupError::NewerFormat { found: list.store_format });
    }
    if !is_free(to)? {
        return Err(BackupError::Occupied(to.to_owned()));
    }
    let database = database_folder(to);
    let unfinished = Unfinished([unfinished(&database)]);
    let [partial] = &unfinished.0;
    create_folder(partial).map_err(BackupError::of(partial))?;
    has_room(to, 0, list.bytes())?;
    let source = database_folder(from);
    for listed in &list.files {
        let copied = entry(&source.join(&listed.name), Some(partial), &|| Ok(()))?;
        if copied != *listed {
            let why = format!("db/{} is not what was backed up", listed.name);
            return Err(BackupError::Incomplete(from.to_owned(), why));
        }
    }
    let details = json!({ "files": list.files.len(), "bytes": list.bytes() });
    let subject = from.display().to_string();
    let entry = Author::local("restore").entry(now_ms, AuditAction::Restore, &subject, &details);
    part_from_lost_time(partial, &entry.as_stored())?;
    let verified = if list.store_format == FORMAT_VERSION {
        Some(sound(&Archive::open(partial, VERIFY_CACHE_BYTES)?)?)
    } else {
        None
    };
    sync_folder(partial).map_err(BackupError::of(partial))?;
    fs::rename(partial, &database).map_err(BackupError::of(&database))?;
    sync_folder(to).map_err(BackupError::of(to))?;
    Ok(verified)
}

/// What a restore into this folder left that was cut short: a part of a store, and no store.
#[must_use]
pub fn unfinished_restore(store_path: &Path) -> Option<PathBuf> {
    let database = database_folder(store_path);
    let part = unfinished(&database);
    (part.exists() && !database.exists()).then_some(part)
}

fn is_free(folder: &Path) -> Result<bool, BackupError> {
    match fs::read_dir(folder) {
        Ok(mut entries) => Ok(entries.next().is_none()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(true),
        Err(error) => Err(BackupError::of(folder)(error)),
    }
}
