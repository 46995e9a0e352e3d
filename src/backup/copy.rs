//! Files of a copy: read in small pieces, hashed, written and synced as they go, or linked.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::BackupError;
use super::list::Entry;
use crate::files::sync_folder;
use crate::limits::{BACKUP_BUFFER_BYTES, BACKUP_BYTES_PER_SYNC};

/// Asked again and again whether the work may go on.
pub(super) type MayGoOn<'g> = &'g dyn Fn() -> Result<(), BackupError>;

/// Moves the folder `from` to `to`, which is not there; false where they are on different file
/// systems.
pub(super) fn moved(from: &Path, to: &Path) -> Result<bool, BackupError> {
    match fs::rename(from, to) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::CrossesDevices => Ok(false),
        Err(error) => Err(BackupError::of(to)(error)),
    }
}

/// Bytes of all files of a folder.
pub(super) fn size_of(folder: &Path) -> Result<u64, BackupError> {
    let size = |path: PathBuf| Ok(fs::metadata(&path).map_err(BackupError::of(&path))?.len());
    files(folder)?.into_iter().map(size).sum()
}

/// Makes the files of a folder durable where they are, and lists them.
pub(super) fn list(folder: &Path, may_go_on: MayGoOn<'_>) -> Result<Vec<Entry>, BackupError> {
    let entries = files(folder)?.into_iter().map(|path| entry(&path, None, may_go_on)).collect();
    sync_folder(folder).map_err(BackupError::of(folder))?;
    entries
}

/// Copies the files of a folder into another, durably, and lists them.
pub(super) fn copy_all(
    from: &Path,
    to: &Path,
    may_go_on: MayGoOn<'_>,
) -> Result<Vec<Entry>, BackupError> {
    fs::create_dir(to).map_err(BackupError::of(to))?;
    let copied = |path: PathBuf| entry(&path, Some(to), may_go_on);
    let entries = files(from)?.into_iter().map(copied).collect();
    sync_folder(to).map_err(BackupError::of(to))?;
    entries
}

/// Copies one file into a folder, or with none only looks at it.
pub(super) fn entry(
    path: &Path,
    to: Option<&Path>,
    may_go_on: MayGoOn<'_>,
) -> Result<Entry, BackupError> {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
    let mut source = File::open(path).map_err(BackupError::of(path))?;
    let (copy, target) = match to.map(|to| to.join(&name)) {
        None => (path.to_owned(), None),
        Some(copy) => {
            let target = File::create_new(&copy).map_err(BackupError::of(&copy))?;
            (copy, Some(target))
        }
    };
    let mut hasher = blake3::Hasher::new();
    let mut buffer = vec![0; BACKUP_BUFFER_BYTES];
    let (mut bytes, mut looked_at) = (0, 0);
    loop {
        let read = match source.read(&mut buffer) {
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            read => read.map_err(BackupError::of(path))?,
        };
        if read == 0 {
            break;
        }
        hasher.update(&buffer[..read]);
        bytes += read as u64;
        if let Some(mut target) = target.as_ref() {
            target.write_all(&buffer[..read]).map_err(BackupError::of(&copy))?;
        }
        if bytes - looked_at >= BACKUP_BYTES_PER_SYNC {
            looked_at = bytes;
            may_go_on()?;
            target.as_ref().map_or(Ok(()), File::sync_data).map_err(BackupError::of(&copy))?;
        }
    }
    may_go_on()?;
    match target {
        Some(target) => target.sync_all(),
        None => sync_if_own(&source),
    }
    .map_err(BackupError::of(&copy))?;
    Ok(Entry { name, bytes, blake3: hasher.finalize().to_hex().to_string() })
}

/// A file that the store has, too, is a table, which the store has synced before it used it.
fn sync_if_own(file: &File) -> io::Result<()> {
    if file.metadata()?.nlink() > 1 { Ok(()) } else { file.sync_all() }
}

/// The files of a folder, by name.
fn files(folder: &Path) -> Result<Vec<PathBuf>, BackupError> {
    let failed = BackupError::of(folder);
    let mut paths = Vec::new();
    for entry in fs::read_dir(folder).map_err(&failed)? {
        let path = entry.map_err(&failed)?.path();
        if path.is_file() {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}
