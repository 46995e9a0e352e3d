//! A disk that hangs, fails or forgets on command: `disk.c`, preloaded into the server.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use crate::rng::Rng;

const SOURCE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/harness/disk.c");

/// The files by which the disk of one server is told what to do, and tells what it did.
pub struct Disk {
    control: PathBuf,
    undo: PathBuf,
}

impl Disk {
    /// A disk that works.
    pub fn new(folder: &Path) -> Self {
        let (control, undo) = (folder.join("disk.control"), folder.join("disk.undo"));
        std::fs::write(&control, [0; 4096]).expect("writable");
        Self { control, undo }
    }

    /// The environment that puts a process onto it.
    pub fn environment(&self) -> [(&'static str, PathBuf); 3] {
        [
            ("LD_PRELOAD", library().to_owned()),
            ("FAULTY_DISK_CONTROL", self.control.clone()),
            ("FAULTY_DISK_UNDO", self.undo.clone()),
        ]
    }

    /// From now on no sync ends.
    pub fn hang_syncs(&self) {
        self.set(0, 1);
    }

    /// From now on syncs fail.
    pub fn fail_syncs(&self) {
        self.set(0, 2);
    }

    /// From now on there is no space for writes.
    pub fn refuse_writes(&self) {
        self.set(1, 1);
    }

    /// From now on writes fail.
    pub fn fail_writes(&self) {
        self.set(1, 2);
    }

    /// As new, whatever it was told.
    pub fn repair(&self) {
        self.set(0, 0);
        self.set(1, 0);
    }

    fn set(&self, at: u64, byte: u8) {
        let control = OpenOptions::new().write(true).open(&self.control).expect("a control file");
        control.write_at(&[byte], at).expect("writable");
    }

    /// Takes back, of every file, some of what was written to it and not synced: all, or what
    /// comes after some byte, which then is missing or reads as zeros. The process is dead.
    /// Returns how many bytes are gone.
    pub fn cut_power(&self, rng: &mut Rng) -> u64 {
        self.take_back(|written| {
            let kept = if rng.once_in(2) { 0 } else { rng.below(written as usize + 1) as u64 };
            Kept { bytes: kept, others_are_zeros: rng.once_in(3) }
        })
    }

    /// Takes back all that was not synced; what is missing reads as zeros. The process is dead.
    pub fn lose_unsynced(&self) {
        self.take_back(|_| Kept { bytes: 0, others_are_zeros: true });
    }

    /// `keep` says what stays of so many bytes that were written to a file.
    fn take_back(&self, mut keep: impl FnMut(u64) -> Kept) -> u64 {
        let notes = std::fs::read(&self.undo).expect("notes");
        std::fs::write(&self.undo, []).expect("writable");
        unsynced(&notes).iter().map(|(path, writes)| forget(path, writes, &mut keep)).sum()
    }
}

/// What has reached the disk of what was written to a file.
struct Kept {
    /// So many bytes, the first ones.
    bytes: u64,
    /// Whether the file is as long as if all had.
    others_are_zeros: bool,
}

/// The library, compiled once.
fn library() -> &'static Path {
    static LIBRARY: OnceLock<PathBuf> = OnceLock::new();
    LIBRARY.get_or_init(|| {
        let library = Path::new(env!("CARGO_TARGET_TMPDIR")).join("faulty_disk.so");
        let fresh = library.with_extension(std::process::id().to_string());
        let arguments = ["-shared", "-fPIC", "-O1", "-Wall", "-Wextra", "-Werror", "-o"];
        let compiled =
            Command::new("cc").args(arguments).arg(&fresh).args([SOURCE, "-ldl"]).status();
        assert!(compiled.expect("cc").success(), "{SOURCE}");
        std::fs::rename(&fresh, &library).expect("writable");
        library
    })
}

/// A write that was not synced: where, how much, how large the file was, what was there.
struct Write<'n> {
    at: u64,
    length: u64,
    size: u64,
    old: &'n [u8],
}

/// What of each file was written since its last sync began.
fn unsynced(mut notes: &[u8]) -> BTreeMap<PathBuf, Vec<Write<'_>>> {
    #[derive(Default)]
    struct File<'n> {
        writes: Vec<Write<'n>>,
        syncing: usize,
    }
    let mut files: BTreeMap<PathBuf, File<'_>> = BTreeMap::new();
    while let Some((kind, rest)) = notes.split_first() {
        let number =
            |n: usize| u64::from_ne_bytes(rest[8 * n..][..8].try_into().expect("eight bytes"));
        let [path_length, at, length, size, old_length] = std::array::from_fn(number);
        let (name, rest) = rest[40..].split_at(path_length as usize);
        let (old, rest) = rest.split_at(old_length as usize);
        notes = rest;
        let path = |bytes| PathBuf::from(std::str::from_utf8(bytes).expect("a path in UTF-8"));
        let file = files.entry(path(name)).or_default();
        match kind {
            b'w' => file.writes.push(Write { at, length, size, old }),
            b'b' => file.syncing = file.writes.len(),
            b's' => _ = file.writes.drain(..std::mem::take(&mut file.syncing)),
            b'r' => {
                let moved = std::mem::take(file);
                files.insert(path(old), moved);
            }
            kind => panic!("no kind of note: {kind}"),
        }
    }
    files.into_iter().map(|(path, file)| (path, file.writes)).collect()
}

fn forget(path: &Path, writes: &[Write<'_>], keep: &mut impl FnMut(u64) -> Kept) -> u64 {
    // It may have been deleted since.
    let Ok(file) = OpenOptions::new().write(true).open(path) else { return 0 };
    let whole = file.metadata().expect("metadata").len();
    let written = writes.iter().map(|write| write.length).sum();
    let kept = keep(written);
    let mut before = written;
    for write in writes.iter().rev() {
        before -= write.length;
        let here = kept.bytes.saturating_sub(before);
        if here >= write.length {
            break;
        }
        let old = write.old.get(here as usize..).unwrap_or_default();
        file.write_all_at(old, write.at + here).expect("writable");
        file.set_len(write.size.max(write.at + here)).expect("writable");
    }
    if kept.others_are_zeros {
        file.set_len(whole).expect("writable");
    }
    written - kept.bytes
}
