//! What a power cut takes back, as POSIX lets it.
//!
//! - A write is durable when a sync of its file that began after it has ended.
//! - A name that is given, taken away or changed is durable when a sync of its folder that began
//!   after it has ended. A sync of the file does nothing for its name, and a name does nothing for
//!   what is in the file.
//! - What is not durable may be there or not, piece by piece: of a file's writes none, all, the
//!   first ones up to some byte, or any of them; of names any, but for one name in order.
//!
//! That is stricter than ext4 and XFS are with a journal, which keep names in order, and a file's
//! bytes before its length. Two things are taken from them, because RocksDB needs them: of a
//! manifest's writes the first ones stay, and the file ends there; and `CURRENT` does not change
//! where a manifest's name before it is lost. With a hole in what was not synced of its manifest, or
//! without the file that `CURRENT` names, RocksDB does not open the database.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{File, OpenOptions};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;

use crate::rng::Rng;

/// The names in a folder and the files they stand for, by inode.
pub type Names = BTreeMap<String, u64>;

/// What is in a folder, if it is there, but for RocksDB's own log and lock.
pub fn names(folder: &Path) -> Names {
    let Ok(entries) = std::fs::read_dir(folder) else { return Names::new() };
    let entry = |entry: std::io::Result<std::fs::DirEntry>| {
        let entry = entry.expect("an entry");
        let name = entry.file_name().into_string().expect("UTF-8");
        (name, entry.metadata().expect("metadata").ino())
    };
    entries.map(entry).filter(|(name, _)| !name.starts_with("LO")).collect()
}

/// Files and folders that are none of the database's and were synced, in order, by the names that
/// they had then.
pub fn synced_elsewhere(mut notes: &[u8]) -> Vec<String> {
    let mut paths = Vec::new();
    while let Some((note, rest)) = Note::first(notes) {
        notes = rest;
        paths.extend((note.kind == b'o').then(|| note.path.to_owned()));
    }
    paths
}

/// Kinds of files of the database; `disk.c` has the same numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum FileKind {
    /// The write-ahead log.
    Log = 1,
    /// Which tables there are.
    Manifest = 2,
    /// Which manifest counts; also while it is still called otherwise.
    Current = 3,
    /// Rows in order.
    Table = 4,
    /// Options, identity.
    Other = 5,
    /// The folder, and those above it.
    Folder = 6,
}

impl FileKind {
    fn of(name: &str) -> Self {
        match name.rsplit_once('.') {
            _ if name.starts_with("MANIFEST-") => Self::Manifest,
            _ if name.starts_with("OPTIONS-") => Self::Other,
            _ if name.starts_with("CURRENT") => Self::Current,
            Some((_, "dbtmp")) => Self::Current,
            Some((_, "log")) => Self::Log,
            Some((_, "sst")) => Self::Table,
            _ => Self::Other,
        }
    }
}

/// What was lost of one kind of file.
#[derive(Clone, Copy, Debug, Default)]
pub struct Loss {
    /// Cuts at which something of it was not durable.
    pub cuts: usize,
    /// Bytes written that are gone.
    pub bytes: u64,
    /// Names given, taken away or changed in vain.
    pub names: u64,
}

/// What was lost, by kind.
#[derive(Clone, Debug, Default)]
pub struct Losses(BTreeMap<FileKind, Loss>);

impl Losses {
    /// What was lost of a kind.
    pub fn of(&self, kind: FileKind) -> Loss {
        self.0.get(&kind).copied().unwrap_or_default()
    }

    pub fn add(&mut self, other: &Self) {
        for (kind, loss) in &other.0 {
            let sum = self.0.entry(*kind).or_default();
            *sum = Loss {
                cuts: sum.cuts + loss.cuts,
                bytes: sum.bytes + loss.bytes,
                names: sum.names + loss.names,
            };
        }
    }

    /// Counts what one cut has taken of what was not durable.
    fn count(&mut self, kind: FileKind, bytes: u64, names: u64) {
        let loss = self.0.entry(kind).or_default();
        *loss = Loss { cuts: 1, bytes: loss.bytes + bytes, names: loss.names + names };
    }
}

impl std::fmt::Display for Losses {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (kind, Loss { cuts, bytes, names }) in &self.0 {
            writeln!(f, "{kind:?}: at stake in {cuts} cuts; lost {bytes} bytes, {names} names")?;
        }
        Ok(())
    }
}

/// A write that was not synced: where, how much, how large the file was, what was there. One of
/// no bytes cuts the file off.
struct Write<'n> {
    at: u64,
    length: u64,
    size: u64,
    old: &'n [u8],
}

#[derive(Default)]
struct Unsynced<'n> {
    writes: Vec<Write<'n>>,
    /// So many of them when the sync began that is under way.
    syncing: usize,
}

/// A change of names: which stand for which file now, or for none.
type Naming = Vec<(String, Option<u64>)>;

/// What a process has done since all was durable.
#[derive(Default)]
struct Done<'n> {
    files: BTreeMap<u64, Unsynced<'n>>,
    /// What each file was called first.
    called: BTreeMap<u64, &'n str>,
    naming: Vec<Naming>,
    syncing: usize,
    /// So many of them are durable.
    synced: usize,
    /// Folders that were made, and whose own names are not durable.
    made: BTreeSet<&'n Path>,
}

impl<'n> Done<'n> {
    fn read(mut notes: &'n [u8]) -> Self {
        let mut done = Self::default();
        while let Some((note, rest)) = Note::first(notes) {
            notes = rest;
            done.add(note);
        }
        done
    }

    fn add(&mut self, note: Note<'n>) {
        let Note { kind, path, inode, write } = note;
        let name = path.rsplit('/').next().expect("a name");
        let old = write.old;
        match kind {
            b'w' => {
                self.called.entry(inode).or_insert(name);
                self.files.entry(inode).or_default().writes.push(write);
            }
            b'b' => {
                let file = self.files.entry(inode).or_default();
                file.syncing = file.writes.len();
            }
            b's' => {
                let file = self.files.entry(inode).or_default();
                file.writes.drain(..std::mem::take(&mut file.syncing));
            }
            b'c' => self.naming.push(vec![(name.to_owned(), Some(inode))]),
            b'd' => self.naming.push(vec![(name.to_owned(), None)]),
            b'r' => {
                let to = std::str::from_utf8(old).expect("a path in UTF-8");
                let to = to.rsplit('/').next().expect("a name").to_owned();
                self.naming.push(vec![(name.to_owned(), None), (to, Some(inode))]);
            }
            b'm' => _ = self.made.insert(Path::new(path)),
            b'B' if Path::new(path).ends_with("data/db") => self.syncing = self.naming.len(),
            b'S' if Path::new(path).ends_with("data/db") => {
                self.synced = self.synced.max(self.syncing)
            }
            b'B' | b'o' => {}
            b'S' => self.made.retain(|made| made.parent() != Some(Path::new(path))),
            kind => panic!("no kind of note: {kind}"),
        }
    }
}

/// What `disk.c` notes.
struct Note<'n> {
    kind: u8,
    path: &'n str,
    inode: u64,
    write: Write<'n>,
}

impl<'n> Note<'n> {
    /// The first of some notes. The last one of a process may be incomplete: then what it
    /// announces was not done.
    fn first(notes: &'n [u8]) -> Option<(Self, &'n [u8])> {
        let (kind, rest) = notes.split_first()?;
        let (numbers, rest) = rest.split_at_checked(48)?;
        let number =
            |n: usize| u64::from_ne_bytes(numbers[8 * n..][..8].try_into().expect("eight bytes"));
        let [path_length, inode, at, length, size, old_length] = std::array::from_fn(number);
        let (path, rest) = rest.split_at_checked(path_length as usize)?;
        let (old, rest) = rest.split_at_checked(old_length as usize)?;
        let path = std::str::from_utf8(path).expect("a path in UTF-8");
        let write = Write { at, length, size, old };
        Some((Self { kind: *kind, path, inode, write }, rest))
    }
}

/// Decides what of that which is not durable is lost.
pub struct Cut<'r> {
    chance: Option<&'r mut Rng>,
    /// Names are lost once in so many times, not at all for 0.
    names: usize,
}

impl<'r> Cut<'r> {
    /// Loses everything.
    pub fn whole() -> Self {
        Self { chance: None, names: 1 }
    }

    /// Loses by chance: all names, none or some, and of each file as much as comes.
    pub fn by_chance(rng: &'r mut Rng) -> Self {
        let names = [0, 1, 2, 4][rng.below(4)];
        Self { chance: Some(rng), names }
    }

    fn loses_name(&mut self) -> bool {
        let names = self.names;
        self.chance.as_mut().is_none_or(|rng| rng.once_in(names))
    }

    /// Takes back what `notes` say was done in the folder `database` since its files had the
    /// names that are `durable`. Every file that was changed or renamed is in `kept`.
    pub fn take_back(
        &mut self,
        database: &Path,
        kept: &Path,
        durable: &Names,
        notes: &[u8],
    ) -> Losses {
        let done = Done::read(notes);
        let mut losses = Losses::default();
        for (inode, file) in done.files.iter().filter(|(_, file)| !file.writes.is_empty()) {
            let kind = FileKind::of(done.called.get(inode).unwrap_or(&""));
            let lost = self.take_back_writes(kind, &kept.join(inode.to_string()), &file.writes);
            losses.count(kind, lost, 0);
        }
        let names_left = self.names_left(&done, durable.clone(), &mut losses);
        if let Some(made) = done.made.first().filter(|_| self.loses_name()) {
            losses.count(FileKind::Folder, 0, 1);
            std::fs::remove_dir_all(made).expect("removable");
            return losses;
        }
        rename_all(database, kept, &names_left);
        losses
    }

    fn names_left(&mut self, done: &Done<'_>, mut names: Names, losses: &mut Losses) -> Names {
        let mut touched: BTreeSet<&String> = BTreeSet::new();
        for (number, naming) in done.naming.iter().enumerate() {
            let is_current = naming.iter().any(|(name, _)| FileKind::of(name) == FileKind::Current);
            let hangs_on_lost = naming.iter().any(|(name, _)| touched.contains(name))
                || is_current
                    && touched.iter().any(|name| FileKind::of(name) == FileKind::Manifest);
            if number >= done.synced {
                let lost = hangs_on_lost || self.loses_name();
                let (name, _) = naming.last().expect("one or two");
                losses.count(FileKind::of(name), 0, lost.into());
                if lost {
                    touched.extend(naming.iter().map(|(name, _)| name));
                    continue;
                }
            }
            for (name, inode) in naming {
                match inode {
                    Some(inode) => _ = names.insert(name.clone(), *inode),
                    None => _ = names.remove(name),
                }
            }
        }
        names
    }

    /// Returns how many bytes are gone of a file.
    fn take_back_writes(&mut self, kind: FileKind, path: &Path, writes: &[Write<'_>]) -> u64 {
        let file = OpenOptions::new().write(true).open(path).expect("a file that is kept");
        let whole = file.metadata().expect("metadata").len();
        // Cutting a file off weighs one byte.
        let weight = |write: &Write<'_>| write.length.max(1);
        let total: u64 = writes.iter().map(weight).sum();
        let Some(rng) = &mut self.chance else {
            let lost = cut_off(&file, writes, 0);
            file.set_len(whole.max(writes[0].size)).expect("writable");
            return lost;
        };
        let fates = if kind == FileKind::Manifest { 4 } else { 6 };
        match rng.below(fates) {
            0 | 1 => cut_off(&file, writes, 0),
            2 => 0,
            3 => cut_off(&file, writes, rng.below(total as usize + 1) as u64),
            4 => {
                let lost = cut_off(&file, writes, rng.below(total as usize + 1) as u64);
                let length = file.metadata().expect("metadata").len();
                file.set_len(whole.max(length)).expect("writable");
                lost
            }
            _ if follow_each_other(writes) => {
                writes.iter().filter(|_| rng.once_in(2)).map(|write| blank(&file, write)).sum()
            }
            _ => cut_off(&file, writes, 0),
        }
    }
}

/// Whether each write begins where the one before has ended.
fn follow_each_other(writes: &[Write<'_>]) -> bool {
    writes.windows(2).all(|two| two[0].at + two[0].length == two[1].at)
        && writes.iter().all(|write| write.length > 0)
}

/// Takes back all but the first bytes; returns how many.
fn cut_off(file: &File, writes: &[Write<'_>], kept: u64) -> u64 {
    let total: u64 = writes.iter().map(|write| write.length.max(1)).sum();
    let mut before = total;
    for write in writes.iter().rev() {
        let weight = write.length.max(1);
        before -= weight;
        let here = kept.saturating_sub(before);
        if here >= weight {
            break;
        }
        let old = write.old.get(here as usize..).unwrap_or_default();
        file.write_all_at(old, write.at + here).expect("writable");
        file.set_len(write.size.max(write.at + here)).expect("writable");
    }
    total - kept
}

/// Takes back one write among others, which stay; returns its bytes.
fn blank(file: &File, write: &Write<'_>) -> u64 {
    let mut bytes = vec![0; write.length as usize];
    let old = &write.old[..write.old.len().min(bytes.len())];
    bytes[..old.len()].copy_from_slice(old);
    file.write_all_at(&bytes, write.at).expect("writable");
    write.length
}

/// Gives the files of a folder these names and no others.
fn rename_all(folder: &Path, kept: &Path, wanted: &Names) {
    let there = names(folder);
    for name in there.keys().filter(|name| !wanted.contains_key(*name)) {
        std::fs::remove_file(folder.join(name)).expect("removable");
    }
    for (name, inode) in wanted.iter().filter(|(name, inode)| there.get(*name) != Some(inode)) {
        if there.contains_key(name) {
            std::fs::remove_file(folder.join(name)).expect("removable");
        }
        std::fs::hard_link(kept.join(inode.to_string()), folder.join(name)).expect("a link");
    }
}
