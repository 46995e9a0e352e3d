//! What every area needs: a server of its own ([`server`]), the binary's commands ([`command`]), a client that sends any bytes
//! ([`client`]), certificates and clients of TLS and HTTP/2 ([`tls`]), a disk that fails on command
//! ([`disk`]), and what a power cut leaves on it ([`power`]).

mod client;
mod command;
mod disk;
mod power;
mod server;
pub mod tls;

pub use client::{Connection, Response};
pub use command::{Ended, binary, run};
pub use disk::{Disk, Fault, Step};
pub use power::{FileKind, Losses};
pub use server::{Answer, CATALOG, Server, Setup, TOKEN};

use std::path::Path;
use std::time::{Duration, Instant};

/// Nothing in these tests takes longer than this unless it is broken.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// So that what comes now has come later, by the millisecond.
pub fn let_the_clock_move_on() {
    std::thread::sleep(Duration::from_millis(2));
}

/// Asks until there is an answer.
///
/// # Panics
/// When there is none in time.
pub fn eventually<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < deadline, "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A copy of a folder with all that is below it.
pub fn copy_tree(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("writable");
    for entry in std::fs::read_dir(from).expect("a folder") {
        let entry = entry.expect("an entry");
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy_tree(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).expect("a copy");
        }
    }
}
