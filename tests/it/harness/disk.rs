//! A disk that hangs, fails or forgets on command: `disk.c`, preloaded into the server.

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use super::power::{Cut, FileKind, Losses, Names, names, synced_elsewhere};
use crate::rng::Rng;

const SOURCE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/harness/disk.c");

/// Bytes of the control file; `disk.c` has the same.
const SYNCS: u64 = 0;
const WRITES: u64 = 1;
const FAULTY: u64 = 2;
const READS: u64 = 3;
const STEP: u64 = 4;
const KIND: u64 = 5;
const IS_SMALL: u64 = 6;
const COUNTDOWN: u64 = 8;
const SHIFT_MS: u64 = 16;
const SPACE: u64 = 24;

/// A step of the write path, just after which a process can be killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    /// Bytes were written.
    Written = 1,
    /// A sync has begun and has not ended.
    Syncing = 2,
    /// A sync has ended, and its caller does not know.
    Synced = 3,
    /// A name was given, taken away or changed.
    Named = 4,
}

/// What is wrong with a disk.
#[derive(Clone, Copy, Debug)]
pub enum Fault {
    /// No sync ends.
    SyncsHang,
    /// Syncs fail.
    SyncsFail,
    /// There is no space for writes.
    NoSpace,
    /// Writes fail.
    WritesFail,
    /// Writes are interrupted, or done by half; reads are done by half.
    InPieces,
    /// There is no space for names of files.
    NoNames,
}

/// The files by which the disk of one server is told what to do, and tells what it did.
pub struct Disk {
    control: PathBuf,
    undo: PathBuf,
    database: PathBuf,
    /// The names that the database's files had when nothing was left to be synced.
    durable: Names,
}

impl Disk {
    /// A disk that works, under the server with this folder. All that is there by now is durable.
    pub fn new(folder: &Path) -> Self {
        let (control, undo) = (folder.join("disk.control"), folder.join("disk.undo"));
        let database = folder.join("data/db");
        std::fs::write(&control, [0; 4096]).expect("writable");
        let durable = names(&database);
        let disk = Self { control, undo, database, durable };
        std::fs::create_dir(disk.kept()).expect("writable");
        disk
    }

    /// Where `disk.c` keeps the files that have lost their names.
    fn kept(&self) -> PathBuf {
        self.undo.with_extension("undo.kept")
    }

    /// The environment that puts a process onto it.
    pub fn environment(&self) -> [(&'static str, PathBuf); 3] {
        [
            ("LD_PRELOAD", library().to_owned()),
            ("FAULTY_DISK_CONTROL", self.control.clone()),
            ("FAULTY_DISK_UNDO", self.undo.clone()),
        ]
    }

    /// From now on this is wrong with files of one kind, or with all.
    pub fn break_down(&self, fault: Fault, kind: Option<FileKind>) {
        self.set(FAULTY, &[kind.map_or(0, |kind| kind as u8)]);
        let (at, mode) = match fault {
            Fault::SyncsHang => (SYNCS, 1),
            Fault::SyncsFail => (SYNCS, 2),
            Fault::NoSpace => (WRITES, 1),
            Fault::WritesFail => (WRITES, 2),
            Fault::InPieces => (WRITES, 3),
            Fault::NoNames => (WRITES, 4),
        };
        self.set(at, &[mode]);
    }

    /// From now on files of this kind cannot be read.
    pub fn fail_reads(&self, kind: FileKind) {
        self.set(READS, &[kind as u8]);
    }

    /// The process is killed when it takes this step with a file of this kind for the `nth` time
    /// from now on.
    pub fn kill_at(&self, step: Step, kind: FileKind, nth: i32) {
        self.set(STEP, &[0]);
        self.set(COUNTDOWN, &nth.to_ne_bytes());
        self.set(KIND, &[kind as u8]);
        self.set(STEP, &[step as u8]);
    }

    /// From now on so many bytes can be written, and no more.
    pub fn leave(&self, bytes: i64) {
        self.set(SPACE, &bytes.to_ne_bytes());
        self.set(IS_SMALL, &[1]);
    }

    /// From now on the process's clock is off by so much, whatever time elapses.
    pub fn shift_clock(&self, ms: i64) {
        self.set(SHIFT_MS, &ms.to_ne_bytes());
    }

    /// As new, whatever it was told; the clock stays as it is.
    pub fn repair(&self) {
        for at in [SYNCS, WRITES, READS, STEP, IS_SMALL] {
            self.set(at, &[0]);
        }
    }

    /// What was synced beside the database's files: see [`synced_elsewhere`].
    pub fn synced_elsewhere(&self) -> Vec<String> {
        synced_elsewhere(&std::fs::read(&self.undo).expect("notes"))
    }

    fn set(&self, at: u64, bytes: &[u8]) {
        let control = OpenOptions::new().write(true).open(&self.control).expect("a control file");
        control.write_all_at(bytes, at).expect("writable");
    }

    /// Takes back some of what was done and not synced: see [`Cut::by_chance`]. The process is
    /// dead. Returns what is gone.
    pub fn cut_power(&mut self, rng: &mut Rng) -> Losses {
        self.take_back(Cut::by_chance(rng))
    }

    /// Takes back all that was not synced; what is missing reads as zeros. The process is dead.
    pub fn lose_unsynced(&mut self) {
        self.take_back(Cut::whole());
    }

    fn take_back(&mut self, mut cut: Cut<'_>) -> Losses {
        let notes = std::fs::read(&self.undo).expect("notes");
        let losses = cut.take_back(&self.database, &self.kept(), &self.durable, &notes);
        self.begin_anew();
        losses
    }

    /// Takes all that is there now for durable. The process is dead.
    pub fn begin_anew(&mut self) {
        std::fs::write(&self.undo, []).expect("writable");
        std::fs::remove_dir_all(self.kept()).expect("removable");
        std::fs::create_dir(self.kept()).expect("writable");
        self.durable = names(&self.database);
    }
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
