//! What a backup says of itself: `backup.json`, written last, so that whoever finds it has found
//! a backup that is whole.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::path::{Component, Path, PathBuf};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::BackupError;
use crate::limits::BACKUP_LIST_BYTES_MAX;
use crate::model::hex::hex;
use crate::model::period::moment;

/// The file that makes a folder a backup.
const LIST_NAME: &str = "backup.json";
/// What the name of a folder ends with that is not whole yet, or is being removed.
pub(super) const UNFINISHED: &str = ".partial";
/// The version of the list that this release writes.
const LIST_VERSION: u32 = 1;

/// What is in a backup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct List {
    version: u32,
    /// The release that has written it.
    pub release: String,
    /// The store's format.
    pub store_format: u32,
    /// Tells one store from another: a hash of its click ID key.
    pub(super) store: String,
    /// When it was begun, Unix milliseconds.
    pub taken_ms: u64,
    /// Whether the copy was verified.
    pub verified: bool,
    /// The database's files.
    pub(super) files: Vec<Entry>,
}

/// One file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Entry {
    pub name: String,
    pub bytes: u64,
    /// BLAKE3 of its bytes, hex digits.
    pub blake3: String,
}

impl List {
    pub(super) fn new(
        (store_format, click_key): (u32, &[u8; 32]),
        taken_ms: u64,
        verified: bool,
        files: Vec<Entry>,
    ) -> Self {
        Self {
            version: LIST_VERSION,
            release: env!("CARGO_PKG_VERSION").to_owned(),
            store_format,
            store: fingerprint(click_key),
            taken_ms,
            verified,
            files,
        }
    }

    /// Bytes of all files.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.files.iter().fold(0, |sum, file| sum.saturating_add(file.bytes))
    }

    /// Writes it into a backup's folder, durably.
    pub(super) fn write(&self, folder: &Path) -> Result<(), BackupError> {
        let path = folder.join(LIST_NAME);
        let text = serde_json::to_string_pretty(self).expect("texts and numbers are JSON");
        let written = File::create(&path).and_then(|mut file| {
            file.write_all(text.as_bytes())?;
            file.sync_all()
        });
        written.map_err(BackupError::of(&path))
    }

    /// Reads that of a backup.
    ///
    /// # Errors
    /// When the folder is no complete backup, or a later release has written it.
    pub fn read(folder: &Path) -> Result<Self, BackupError> {
        let incomplete = |why: &str| BackupError::Incomplete(folder.to_owned(), why.to_owned());
        // However it is written: as `.` in it, too.
        let folder = folder.canonicalize().unwrap_or_else(|_| folder.to_owned());
        if folder.to_string_lossy().ends_with(UNFINISHED) {
            return Err(incomplete("it was never finished, or is being removed"));
        }
        let path = folder.join(LIST_NAME);
        let mut text = Vec::new();
        File::open(&path)
            .and_then(|file| file.take(BACKUP_LIST_BYTES_MAX + 1).read_to_end(&mut text))
            .map_err(|error| incomplete(&format!("cannot read {LIST_NAME}: {error}")))?;
        if text.len() as u64 > BACKUP_LIST_BYTES_MAX {
            return Err(incomplete("backup.json is too long"));
        }
        let list: Self = serde_json::from_slice(&text)
            .map_err(|error| incomplete(&format!("{LIST_NAME}: {error}")))?;
        if list.version > LIST_VERSION {
            return Err(incomplete("a later release has written it"));
        }
        // What it names lies beside it, whoever has written it.
        match list.files.iter().find(|file| !is_plain(&file.name)) {
            Some(file) => Err(incomplete(&format!("{:?} is no name of a file", file.name))),
            None => Ok(list),
        }
    }
}

/// A backup that is there.
#[derive(Clone, Debug)]
pub(super) struct Kept {
    pub folder: PathBuf,
    pub list: List,
}

/// All complete backups in a folder, the oldest first; none where the folder is not there.
pub(super) fn kept(folder: &Path) -> Result<Vec<Kept>, BackupError> {
    let mut all: Vec<_> = entries(folder)?
        .into_iter()
        .filter_map(|folder| List::read(&folder).ok().map(|list| Kept { folder, list }))
        .collect();
    all.sort_by(|a, b| (a.list.taken_ms, &a.folder).cmp(&(b.list.taken_ms, &b.folder)));
    Ok(all)
}

/// Folders in a folder; none where it is not there.
pub(super) fn entries(folder: &Path) -> Result<Vec<PathBuf>, BackupError> {
    let failed = BackupError::of(folder);
    let entries = match std::fs::read_dir(folder) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(&failed)?,
    };
    let paths: Result<Vec<_>, _> = entries.map(|entry| entry.map(|entry| entry.path())).collect();
    Ok(paths.map_err(failed)?.into_iter().filter(|path| path.is_dir()).collect())
}

/// Whether a folder is what was left of a backup, by its name: ours, and not whole.
pub(super) fn is_unfinished(folder: &Path) -> bool {
    // As `name` writes it; a later year has more digits.
    const FORM: &[u8] = b"0000-00-00T00-00-00.000Z";
    let name = folder.file_name().and_then(|name| name.to_str());
    name.and_then(|name| name.strip_suffix(UNFINISHED)).is_some_and(|name| {
        let digit_or_same = |(byte, form): (u8, &u8)| match form {
            b'0' => byte.is_ascii_digit(),
            _ => byte == *form,
        };
        name.len() == FORM.len() && name.bytes().zip(FORM).all(digit_or_same)
    })
}

/// The name of a backup that is begun now: sorts by time.
pub(super) fn name(now_ms: u64) -> String {
    let time = moment(now_ms).unwrap_or(Timestamp::MAX);
    format!("{}.{:03}Z", time.strftime("%Y-%m-%dT%H-%M-%S"), now_ms % 1000)
}

/// Tells stores apart without giving the key away.
pub(super) fn fingerprint(click_key: &[u8; 32]) -> String {
    let hash = blake3::derive_key("postbackd 2026 store of a backup", click_key);
    hex(&hash[..16])
}

fn is_plain(name: &str) -> bool {
    let mut parts = Path::new(name).components();
    matches!((parts.next(), parts.next()), (Some(Component::Normal(part)), None) if part == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_sort_by_time() {
        assert_eq!(name(1_764_175_505_042), "2025-11-26T16-45-05.042Z");
        assert!(name(1_764_175_505_042) < name(1_764_175_505_100));
        assert!(name(1_764_175_505_999) < name(1_764_175_506_000));
    }

    #[test]
    fn only_what_has_the_form_of_our_names_is_what_was_left_of_a_backup() {
        let check = |name: &str, expected: bool| {
            assert_eq!(is_unfinished(Path::new(name)), expected, "{name:?}");
        };
        check(&format!("/b/{}.partial", name(1_764_175_505_042)), true);
        check(&format!("/b/{}.partial", name(u64::MAX)), true);
        check("/b/2025-11-26T16-45-05.042Z.partial/", true);
        check("/b/2025-11-26T16-45-05.042Z", false);
        check("/b/2025-11-26T16-45-05.042Z.partial.partial", false);
        check("/b/x2025-11-26T16-45-05.042Z.partial", false);
        check("/b/download.partial", false);
        check("/b/.partial", false);
        check("/b.partial/2025-11-26T16-45-05.042Z", false);
    }

    #[test]
    fn a_list_that_says_too_much_of_its_size_is_no_overflow() {
        let file = |name: &str| Entry {
            name: name.to_owned(),
            bytes: u64::MAX - 1,
            blake3: String::new(),
        };
        let list = List::new((4, &[7; 32]), 5, true, vec![file("a"), file("b")]);
        assert_eq!(list.bytes(), u64::MAX);
    }

    #[test]
    fn a_list_names_files_beside_it_only() {
        let check = |name: &str, expected: bool| assert_eq!(is_plain(name), expected, "{name:?}");
        check("000012.sst", true);
        check("CURRENT", true);
        check("", false);
        check(".", false);
        check("..", false);
        check("../admin.token", false);
        check("/etc/passwd", false);
        check("a/b", false);
        check("a/", false);
    }

    #[test]
    fn a_folder_without_a_whole_list_is_no_backup() {
        let folder = tempfile::tempdir().expect("a folder");
        let list = List::new((4, &[7; 32]), 5, true, Vec::new());
        let check = |name: &str, text: Option<&str>, expected: bool| {
            let folder = folder.path().join(name);
            std::fs::create_dir_all(&folder).expect("writable");
            if let Some(text) = text {
                std::fs::write(folder.join(LIST_NAME), text).expect("writable");
            }
            assert_eq!(List::read(&folder).is_ok(), expected, "{name}");
        };
        let text = serde_json::to_string(&list).expect("plain data");
        check("whole", Some(&text), true);
        check("whole.partial", Some(&text), false);
        check("whole.partial/", Some(&text), false);
        check("whole.partial/.", Some(&text), false);
        check("whole/../whole.partial", Some(&text), false);
        check("empty", None, false);
        check("cut", Some(&text[..text.len() - 1]), false);
        check("later", Some(&text.replace("\"version\":1", "\"version\":2")), false);
        assert_eq!(kept(folder.path()).expect("readable").len(), 1);
        assert_eq!(
            kept(&folder.path().join("nowhere")).expect("nothing there is no error").len(),
            0
        );
    }
}
