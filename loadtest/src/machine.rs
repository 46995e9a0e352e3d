//! What the numbers were measured on: processor, kernel, disk.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;
use std::time::Instant;

use hdrhistogram::Histogram;
use serde::Serialize;

use crate::floor::worker_count;
use crate::tally::latency_histogram;

/// What a small group commit appends.
const APPEND_BYTES: usize = 4096;

/// The machine, as it describes itself.
#[derive(Clone, Debug, Serialize)]
pub struct Machine {
    pub cpu: String,
    pub cores: usize,
    pub kernel: String,
    pub filesystem: String,
}

impl Machine {
    /// Asks the kernel; what it does not say is `unknown`.
    pub fn describe(folder: &Path) -> Self {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let cpu_info = read("/proc/cpuinfo");
        let cpu =
            cpu_info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
        let kernel = read("/proc/sys/kernel/osrelease");
        Self {
            cpu: cpu.map_or("unknown", |(_, name)| name).to_owned(),
            cores: worker_count(0),
            kernel: if kernel.is_empty() { "unknown".into() } else { kernel.trim().to_owned() },
            filesystem: filesystem(&read("/proc/mounts"), folder),
        }
    }
}

/// Type and options of the mount that holds `folder`.
fn filesystem(mounts: &str, folder: &Path) -> String {
    let folder = folder.canonicalize().unwrap_or_else(|_| folder.to_owned());
    let mount = |line: &str| {
        let mut fields = line.split(' ').skip(1).map(str::to_owned);
        Some((fields.next()?, fields.next()?, fields.next()?))
    };
    let holding = mounts.lines().filter_map(mount).filter(|(point, ..)| folder.starts_with(point));
    let nearest = holding.max_by_key(|(point, ..)| point.len());
    nearest.map_or("unknown".into(), |(_, kind, options)| format!("{kind} ({options})"))
}

/// Appends and syncs `count` small blocks in `folder`; how long each took, in nanoseconds.
pub fn sync_latency(folder: &Path, count: usize) -> io::Result<Histogram<u64>> {
    let path = folder.join("sync-probe");
    let mut file = File::create(&path)?;
    let block = [0x5a; APPEND_BYTES];
    let mut latency = latency_histogram();
    for _ in 0..count {
        let begin = Instant::now();
        file.write_all(&block)?;
        file.sync_data()?;
        latency.saturating_record(begin.elapsed().as_nanos() as u64);
    }
    fs::remove_file(path)?;
    Ok(latency)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_mount_names_the_filesystem() {
        let mounts = "/dev/a / ext4 rw 0 0\n/dev/b /nowhere/data xfs rw,noatime 0 0\n";
        assert_eq!(filesystem(mounts, Path::new("/nowhere/data/store")), "xfs (rw,noatime)");
        assert_eq!(filesystem(mounts, Path::new("/nowhere/else")), "ext4 (rw)");
        assert_eq!(filesystem("", Path::new("/nowhere")), "unknown");
    }

    #[test]
    fn every_sync_is_timed() -> io::Result<()> {
        let folder = tempfile::tempdir()?;
        assert_eq!(sync_latency(folder.path(), 3)?.len(), 3);
        assert_eq!(fs::read_dir(folder.path())?.count(), 0);
        Ok(())
    }
}
