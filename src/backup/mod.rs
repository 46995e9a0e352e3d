//! Backups: complete, durable, verified copies of the store, made while it is served or not, and
//! the way back.
//!
//! A backup is a folder. It is made under another name and gets its own when everything in it is
//! on the disk, so that what looks like a backup is one. Older ones are removed only after that.

mod copy;
mod list;
mod restore;

use std::fs::{self, File, TryLockError};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde::Serialize;

pub use list::List;
pub use restore::{restore, unfinished_restore};

use crate::config::Config;
use crate::files::{create_folder, remove_folder, sync_folder};
use crate::limits::{BACKUP_OVERHEAD_BYTES, VERIFY_CACHE_BYTES};
use crate::space::free_bytes;
use crate::store::engine::EngineError;
use crate::store::{Archive, FORMAT_VERSION, OpenError, database_folder};
use crate::verify::{Report, VerifyError, verify};
use copy::MayGoOn;
use list::{Kept, UNFINISHED, fingerprint, is_unfinished, kept};

/// The file in the folder of all backups that is locked.
const LOCK_NAME: &str = ".lock";

/// Why there is no backup, or nothing was restored.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// A file or folder.
    #[error("cannot use {}: {error}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// The store, or its copy, could not be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The copy could not be looked through.
    #[error(transparent)]
    Verify(#[from] VerifyError),
    /// The copy is not sound.
    #[error("the copy is not sound: {}", first_fault(.0))]
    Unsound(Box<Report>),
    /// It would not leave enough room.
    #[error(
        "the disk of {} has {free} bytes left; with what must stay free, {needed} are needed",
        path.display()
    )]
    NoSpace {
        /// On which disk.
        path: PathBuf,
        /// What is free.
        free: u64,
        /// What must be.
        needed: u64,
    },
    /// Backups of two stores in one folder.
    #[error("{} holds backups of another store; each store needs a folder of its own", .0.display())]
    OtherStore(PathBuf),
    /// The folder is no backup, or not all of one.
    #[error("{} is not a complete backup: {}", .0.display(), .1)]
    Incomplete(PathBuf, String),
    /// The backup is of a later release.
    #[error("the backup's store has format {found}, this release reads up to {FORMAT_VERSION}")]
    NewerFormat {
        /// The format found.
        found: u32,
    },
    /// There is something already.
    #[error(
        "{} is not empty; a backup is restored into a folder that is empty or not there",
        .0.display()
    )]
    Occupied(PathBuf),
    /// Another process is at it.
    #[error("another process is making a backup of the store")]
    UnderWay,
    /// The server stops.
    #[error("the server stops; the backup was given up")]
    Stopping,
}

impl BackupError {
    fn of(path: &Path) -> impl Fn(std::io::Error) -> Self {
        move |error| Self::File { path: path.to_owned(), error }
    }
}

impl From<EngineError> for BackupError {
    fn from(error: EngineError) -> Self {
        Self::Open(error.into())
    }
}

fn first_fault(report: &Report) -> String {
    let first = report.broken.first();
    let named = first.map(|broken| format!("{} {}: {}", broken.table, broken.key, broken.fault));
    let others = report.broken.len() as u64 + report.left_out;
    format!("{} ({others} faults)", named.unwrap_or_default())
}

/// A backup that was made.
#[derive(Clone, Debug, Serialize)]
pub struct Taken {
    /// Where it is.
    pub folder: PathBuf,
    /// Bytes of its files.
    pub bytes: u64,
    /// Number of its files.
    pub files: usize,
    /// How long it took, milliseconds.
    pub took_ms: u64,
    /// Whether its files are those of the store itself, by a second name.
    pub linked: bool,
    /// What was verified of it; none if that is switched off.
    pub verified: Option<Report>,
    /// Older backups that were removed after it.
    pub removed: Vec<PathBuf>,
}

/// Where backups go, and how they are made.
#[derive(Debug)]
pub struct Backups {
    /// The folder of all backups.
    path: PathBuf,
    /// How many are kept.
    keep: usize,
    verify: bool,
    /// The store's folder.
    store_path: PathBuf,
    /// Bytes that must stay free on either disk.
    reserve: u64,
    /// When the newest complete one was begun that the clock does not contradict; 0 if there is
    /// none, or nobody has looked yet.
    newest_ms: AtomicU64,
}

impl Backups {
    /// What a configuration says of them; `None` if it does not say where they go.
    #[must_use]
    pub fn configured(config: &Config) -> Option<Self> {
        let (backup, store) = (&config.backup, &config.store);
        let path = backup.path.clone()?;
        Some(Self {
            // Whoever is told where a backup is may be elsewhere.
            path: std::path::absolute(&path).unwrap_or(path),
            keep: backup.keep as usize,
            verify: backup.verify,
            store_path: store.path.clone(),
            reserve: store.free_space_reserve_bytes,
            newest_ms: AtomicU64::new(0),
        })
    }

    /// How old the newest complete backup is, milliseconds, as far as is known. One that is yet to
    /// come was begun under a clock that was ahead, or the clock is behind now: how old it is nobody
    /// knows, so it counts as none.
    #[must_use]
    pub fn age_ms(&self, now_ms: u64) -> Option<u64> {
        let newest_ms = Some(self.newest_ms.load(Ordering::Relaxed)).filter(|ms| *ms > 0);
        newest_ms.and_then(|ms| now_ms.checked_sub(ms))
    }

    /// Whether the next one is due, if they are made this often.
    #[must_use]
    pub fn is_due(&self, every: Duration, now_ms: u64) -> bool {
        self.age_ms(now_ms).is_none_or(|age_ms| u128::from(age_ms) >= every.as_millis())
    }

    /// Removes what backups left that were cut short, and looks for the newest complete one.
    /// What they left in the store's folder is for [`remove_copies`]. Blocks.
    ///
    /// # Errors
    /// When the folders cannot be read or changed.
    pub fn look(&self, now_ms: u64) -> Result<(), BackupError> {
        // What another process is at is not cut short.
        if self.path.is_dir() {
            let lock = self.lock()?;
            if lock.try_lock().is_ok() {
                self.clean()?;
            }
        }
        let taken_ms = kept(&self.path)?.into_iter().map(|kept| kept.list.taken_ms);
        let newest_ms = taken_ms.filter(|ms| *ms <= now_ms).max();
        self.newest_ms.store(newest_ms.unwrap_or(0), Ordering::Relaxed);
        Ok(())
    }

    /// Makes a backup of what `copy` puts into the folder that it is given. Blocks, and asks
    /// `may_go_on` now and then.
    ///
    /// # Errors
    /// When there is no complete backup; nothing is left of it, and older ones stay.
    pub fn take(
        &self,
        now_ms: u64,
        copy: impl FnOnce(&Path) -> Result<(), BackupError>,
        may_go_on: MayGoOn<'_>,
    ) -> Result<Taken, BackupError> {
        let begun = Instant::now();
        create_folder(&self.path).map_err(BackupError::of(&self.path))?;
        let lock = self.lock()?;
        lock.lock().map_err(BackupError::of(&self.path))?;
        self.clean()?;
        let store = File::open(&self.store_path).map_err(BackupError::of(&self.store_path))?;
        store.lock().map_err(BackupError::of(&self.store_path))?;
        remove_each(staging(&self.store_path))?;
        let folder = self.path.join(list::name(now_ms));
        let [made, _] = staging(&self.store_path);
        let unfinished = Unfinished([made, unfinished(&folder)]);
        let [staging, partial] = &unfinished.0;
        has_room(&self.store_path, self.reserve, BACKUP_OVERHEAD_BYTES)?;
        copy(staging)?;
        fs::DirBuilder::new().mode(0o700).create(partial).map_err(BackupError::of(partial))?;
        let database = database_folder(partial);
        let linked = copy::moved(staging, &database)?;
        let may_go_on = || {
            has_room(&self.store_path, self.reserve, 0)?;
            has_room(&self.path, self.reserve, 0)?;
            may_go_on()
        };
        let files = if linked {
            copy::list(&database, &may_go_on)?
        } else {
            has_room(&self.path, self.reserve, copy::size_of(staging)?)?;
            let files = copy::copy_all(staging, &database, &may_go_on)?;
            // From here on it holds no space of the store any more.
            remove_folder(staging).map_err(BackupError::of(staging))?;
            files
        };
        let (click_key, verified) = self.looked_through(&database)?;
        may_go_on()?;
        let others = kept(&self.path)?;
        if others.iter().any(|other| other.list.store != fingerprint(&click_key)) {
            return Err(BackupError::OtherStore(self.path.clone()));
        }
        let list = List::new((FORMAT_VERSION, &click_key), now_ms, verified.is_some(), files);
        list.write(partial)?;
        sync_folder(partial).map_err(BackupError::of(partial))?;
        fs::rename(partial, &folder).map_err(BackupError::of(&folder))?;
        sync_folder(&self.path).map_err(BackupError::of(&self.path))?;
        self.newest_ms.store(now_ms, Ordering::Relaxed);
        Ok(Taken {
            bytes: list.bytes(),
            files: list.files.len(),
            removed: self.remove_older(others, &list),
            took_ms: u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX),
            folder,
            linked,
            verified,
        })
    }

    /// The copy's click ID key, and what was verified.
    fn looked_through(&self, database: &Path) -> Result<([u8; 32], Option<Report>), BackupError> {
        let archive = Archive::open(database, VERIFY_CACHE_BYTES)?;
        let report = if self.verify { Some(sound(&archive)?) } else { None };
        Ok((archive.view().click_key()?, report))
    }

    /// Removes what is more than enough beside the new one; what cannot be removed is left to the
    /// next time.
    fn remove_older(&self, others: Vec<Kept>, new: &List) -> Vec<PathBuf> {
        let removed = superfluous(others, new, self.keep).into_iter().filter_map(|old| {
            let Kept { folder, list } = old;
            // Under another name first: cut short, it must not look like a backup.
            let hidden = unfinished(&self.path.join(list::name(list.taken_ms)));
            let removed = fs::rename(&folder, &hidden).and_then(|()| {
                sync_folder(&self.path)?;
                remove_folder(&hidden)
            });
            match removed {
                Ok(()) => Some(folder),
                Err(error) => {
                    tracing::warn!(%error, folder = %folder.display(), "an old backup was not removed");
                    None
                }
            }
        });
        removed.collect()
    }

    /// What a process locks while it works on the backups; the system lets go of it with the process.
    fn lock(&self) -> Result<File, BackupError> {
        let path = self.path.join(LOCK_NAME);
        File::create(&path).map_err(BackupError::of(&path))
    }

    fn clean(&self) -> Result<(), BackupError> {
        remove_each(list::entries(&self.path)?.into_iter().filter(|folder| is_unfinished(folder)))
    }
}

/// Where a server makes the copy of its store that it verifies.
#[must_use]
pub fn verified_copy(store_path: &Path) -> PathBuf {
    store_path.join("verify")
}

/// Where the store's files get their second names, on the store's own disk; and the name that the
/// engine gives that folder while it makes it.
fn staging(store_path: &Path) -> [PathBuf; 2] {
    with_engines_own(store_path.join(format!("backup{UNFINISHED}")))
}

fn with_engines_own(copy: PathBuf) -> [PathBuf; 2] {
    let unnamed = copy.with_added_extension("tmp");
    [copy, unnamed]
}

/// Removes the copies of a store in its folder that a kill has left there. Only for the process
/// that has the store open, while it makes none itself. Blocks.
///
/// # Errors
/// When one cannot be removed, or another process is making a backup, which it began before the
/// store was opened: that copy stays.
pub fn remove_copies(store_path: &Path) -> Result<(), BackupError> {
    remove_each(with_engines_own(verified_copy(store_path)))?;
    let store = File::open(store_path).map_err(BackupError::of(store_path))?;
    match store.try_lock() {
        Ok(()) => remove_each(staging(store_path)),
        Err(TryLockError::WouldBlock) => Err(BackupError::UnderWay),
        Err(TryLockError::Error(error)) => Err(BackupError::of(store_path)(error)),
    }
}

fn remove_each(folders: impl IntoIterator<Item = PathBuf>) -> Result<(), BackupError> {
    let remove = |folder: PathBuf| remove_folder(&folder).map_err(BackupError::of(&folder));
    folders.into_iter().try_for_each(remove)
}

/// Which of the others are more than are to be kept beside the new one: the oldest, but none that
/// is verified before a newer one is. What was begun later than the new one was begun under another
/// clock; it goes first, as nobody knows how old it is.
fn superfluous(mut others: Vec<Kept>, new: &List, keep: usize) -> Vec<Kept> {
    others.sort_by_key(|other| other.list.taken_ms <= new.taken_ms);
    let last_sound = others.iter().rposition(|other| other.list.verified && !new.verified);
    let last_sound = last_sound.map(|at| others[at].folder.clone());
    others.truncate((others.len() + 1).saturating_sub(keep));
    others.retain(|other| Some(&other.folder) != last_sound.as_ref());
    others
}

fn unfinished(folder: &Path) -> PathBuf {
    let mut name = folder.as_os_str().to_owned();
    name.push(UNFINISHED);
    name.into()
}

fn has_room(path: &Path, reserve: u64, bytes: u64) -> Result<(), BackupError> {
    let free = free_bytes(path).map_err(BackupError::of(path))?;
    let needed = reserve.saturating_add(bytes);
    if free >= needed {
        return Ok(());
    }
    Err(BackupError::NoSpace { path: path.to_owned(), free, needed })
}

fn sound(archive: &Archive) -> Result<Report, BackupError> {
    let report = verify(&archive.view())?;
    if report.broken.is_empty() { Ok(report) } else { Err(BackupError::Unsound(Box::new(report))) }
}

/// Folders that are removed, unless what is in them has got another name.
struct Unfinished<const N: usize>([PathBuf; N]);

impl<const N: usize> Drop for Unfinished<N> {
    fn drop(&mut self) {
        for folder in &self.0 {
            if let Err(error) = remove_folder(folder) {
                tracing::warn!(%error, folder = %folder.display(), "a part of a backup was left");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list((taken_ms, verified): (u64, bool)) -> List {
        List::new((FORMAT_VERSION, &[7; 32]), taken_ms, verified, Vec::new())
    }

    #[test]
    fn the_oldest_go_and_the_last_that_is_verified_stays() {
        let check = |others: &[(u64, bool)], new: (u64, bool), keep: usize, expected: &[u64]| {
            let kept =
                |one: &(u64, bool)| Kept { folder: one.0.to_string().into(), list: list(*one) };
            let gone = superfluous(others.iter().map(kept).collect(), &list(new), keep);
            let gone: Vec<_> = gone.iter().map(|old| old.list.taken_ms).collect();
            assert_eq!(gone, expected, "{others:?} {new:?} {keep}");
        };
        let (sound, not) = (|ms| (ms, true), |ms| (ms, false));
        check(&[], sound(9), 1, &[]);
        check(&[sound(1), sound(2), sound(3)], sound(9), 2, &[1, 2]);
        check(&[sound(1), sound(2), sound(3)], sound(9), 4, &[]);
        check(&[sound(1), sound(2), not(3)], sound(9), 1, &[1, 2, 3]);
        // What nobody has looked at pushes out no more than its like.
        check(&[sound(1), sound(2), not(3)], not(9), 1, &[1, 3]);
        check(&[sound(1), not(2), not(3)], not(9), 2, &[2]);
        check(&[not(1), not(2)], not(9), 1, &[1, 2]);
        // Begun under a clock that was ahead.
        check(&[sound(1), sound(2), sound(20), sound(30)], sound(9), 3, &[20, 30]);
        check(&[sound(1), sound(2), sound(20)], sound(9), 2, &[20, 1]);
        check(&[sound(1), sound(20)], not(9), 1, &[20]);
    }

    #[test]
    fn a_backup_that_is_yet_to_come_is_none() {
        let config = "[store]\npath = \"data\"\n[backup]\npath = \"backups\"\n";
        let (config, _) = Config::load(Some(config), "", []).expect("valid");
        let backups = Backups::configured(&config).expect("a folder");
        let every = Duration::from_millis(100);
        let check = |newest, now, age, due| {
            backups.newest_ms.store(newest, Ordering::Relaxed);
            assert_eq!((backups.age_ms(now), backups.is_due(every, now)), (age, due), "{newest}");
        };
        check(0, 1000, None, true);
        check(1000, 1099, Some(99), false);
        check(1000, 1100, Some(100), true);
        check(1001, 1000, None, true);
        check(u64::MAX, 1000, None, true);
    }
}
