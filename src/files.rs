//! Files and folders that must outlive a power cut: a name is on disk when the folder it is in has
//! been synced.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

/// Makes a folder, and those above it that are missing, for their owner only.
///
/// # Errors
/// When one cannot be made or synced.
pub fn create_folder(folder: &Path) -> io::Result<()> {
    let missing = folder.ancestors().take_while(|above| !above.exists()).count();
    DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    // Also where nothing was missing: whoever made it may have been killed before it was synced.
    folder.ancestors().skip(1).take(missing.max(2)).try_for_each(sync_folder)
}

/// The permissions of a folder, if others than its owner have some.
///
/// # Errors
/// When it is not there.
pub fn open_to_others(folder: &Path) -> io::Result<Option<u32>> {
    let mode = std::fs::metadata(folder)?.permissions().mode() & 0o7777;
    Ok(Some(mode).filter(|mode| mode & 0o077 != 0))
}

/// Writes a file that only its owner may read, whole or not at all.
///
/// # Errors
/// When it cannot be written or synced.
pub fn write_secret(path: &Path, text: &str) -> io::Result<()> {
    let fresh = path.with_added_extension("new");
    // What is there is not ours: a link to somewhere else, or a file that others may read.
    match std::fs::remove_file(&fresh) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&fresh)?;
    writeln!(file, "{text}")?;
    file.sync_all()?;
    std::fs::rename(&fresh, path)?;
    path.parent().map_or(Ok(()), sync_folder)
}

/// Makes the names in a folder durable.
///
/// # Errors
/// When they cannot be synced.
pub fn sync_folder(folder: &Path) -> io::Result<()> {
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

/// Removes a folder with all that is in it, if it is there.
///
/// # Errors
/// When something of it cannot be removed.
pub fn remove_folder(folder: &Path) -> io::Result<()> {
    match std::fs::remove_dir_all(folder) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn folders_are_made_for_their_owner_only_and_left_as_they_are() {
        let above = tempfile::tempdir().expect("a folder");
        let (made, within) = (above.path().join("a"), above.path().join("a/b"));
        create_folder(&within).expect("made");
        for folder in [&made, &within] {
            let mode = std::fs::metadata(folder).expect("there").permissions().mode();
            assert_eq!((mode & 0o777, open_to_others(folder).expect("there")), (0o700, None));
        }
        for mode in [0o750, 0o701] {
            std::fs::set_permissions(&made, std::fs::Permissions::from_mode(mode)).expect("ours");
            create_folder(&within).expect("it is there");
            assert_eq!(open_to_others(&made).expect("there"), Some(mode));
        }
        open_to_others(&above.path().join("c")).expect_err("not there");
    }

    #[test]
    fn a_secret_is_written_to_a_file_of_its_own() {
        let folder = tempfile::tempdir().expect("a folder");
        let (path, fresh) = (folder.path().join("secret"), folder.path().join("secret.new"));
        let others = folder.path().join("others");
        let mode = || std::fs::metadata(&path).expect("there").permissions().mode() & 0o777;
        std::fs::write(&others, "theirs").expect("writable");
        symlink(&others, &fresh).expect("a link");
        write_secret(&path, "mine").expect("written");
        assert_eq!(std::fs::read_to_string(&others).expect("there"), "theirs", "not followed");
        assert_eq!(
            (std::fs::read_to_string(&path).expect("there").as_str(), mode()),
            ("mine\n", 0o600)
        );
        std::fs::write(&fresh, "left").expect("writable");
        std::fs::set_permissions(&fresh, std::fs::Permissions::from_mode(0o644)).expect("ours");
        write_secret(&path, "next").expect("written");
        assert_eq!(
            (std::fs::read_to_string(&path).expect("there").as_str(), mode()),
            ("next\n", 0o600)
        );
        assert!(!fresh.exists());
    }
}
