//! Files and folders that must outlive a power cut: a name is on disk when the folder it is in has
//! been synced.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

/// Makes the database's folder.
pub(super) fn create_folder(database: &Path) -> io::Result<()> {
    let missing = database.ancestors().take_while(|folder| !folder.exists()).count();
    std::fs::create_dir_all(database)?;
    // Also where nothing was missing: whoever made it may have been killed before it was synced.
    database.ancestors().skip(1).take(missing.max(2)).try_for_each(sync_folder)
}

/// Writes a file that only its owner may read, whole or not at all.
pub(super) fn write_secret(path: &Path, line: &str) -> io::Result<()> {
    let fresh = path.with_added_extension("new");
    let mut file = OpenOptions::new();
    let mut file = file.write(true).create(true).truncate(true).mode(0o600).open(&fresh)?;
    writeln!(file, "{line}")?;
    file.sync_all()?;
    std::fs::rename(&fresh, path)?;
    path.parent().map_or(Ok(()), sync_folder)
}

fn sync_folder(folder: &Path) -> io::Result<()> {
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    match File::open(folder).and_then(|folder| folder.sync_all()) {
        // It belongs to somebody else, or the file system syncs no folders.
        Err(error)
            if matches!(
                error.kind(),
                ErrorKind::PermissionDenied | ErrorKind::InvalidInput | ErrorKind::Unsupported
            ) =>
        {
            Ok(())
        }
        synced => synced,
    }
}
