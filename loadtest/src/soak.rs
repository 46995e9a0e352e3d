//! The `soak` subcommand: a server under half of what it can do for a long time. Its memory and
//! its queues are written down each second; at the end books, money and the store are checked.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::num::NonZeroU64;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use crate::admin::Admin;
use crate::books::Verdict;
use crate::catalog::Catalog;
use crate::cli::{ScenarioName, SoakArgs};
use crate::pace::Pace;
use crate::run::fresh_run_id;
use crate::scenario::{ChangeOptions, FunnelShares, Judge, Requests};
use crate::server::{Child, tracker};
use crate::tally::{Answers, Tally};
use crate::target::{Effort, Target, TargetOptions};

/// How long the most that the server can do is measured.
const MAXIMUM_SECONDS: u64 = 20;
const WARMUP: Duration = Duration::from_secs(2);
const SAMPLE_EVERY: Duration = Duration::from_secs(1);
/// The most of the third quarter's memory that the last one may have.
const STABLE: f64 = 1.1;
const SHARES: FunnelShares = FunnelShares { converts: 30, retried: 25, doubled: 10 };
/// What is written down, beside the second.
const SERIES: [&str; 7] = [
    "postbackd_resident_memory_bytes",
    "postbackd_store_queue_commits{stage=\"append\"}",
    "postbackd_store_unfiled_conversions",
    "postbackd_store_uncounted_seconds",
    "postbackd_dedupe_cache_entries",
    "postbackd_connections",
    "postbackd_store_free_bytes",
];

/// Runs the soak and prints what it found; false if anything of it is not as it should be.
pub fn run(args: &SoakArgs) -> io::Result<bool> {
    fs::create_dir_all(&args.out_dir)?;
    let folder = tempfile::tempdir_in(&args.out_dir)?;
    let catalog = Arc::new(Catalog::new(&args.catalog));
    let server = tracker(&args.server_bin, folder.path(), args.workers, &catalog, None)?;
    let rate = match args.rate {
        Some(rate) => rate,
        None => half_of_maximum(&mut target(args, &server, &catalog, None))?,
    };
    println!("{} minutes of {rate} requests/s", args.minutes);
    let samples_path = args.out_dir.join("soak.csv");
    let before = server.admin().money(&catalog)?;
    let measured = Duration::from_secs(args.minutes * 60);
    let effort = Effort { pace: Pace::Open { rate }, warmup: Duration::ZERO, measured };
    let run_id = fresh_run_id();
    // None of its sales is of before the money was looked at.
    let changes = ChangeOptions::usual(args.changes_per_second);
    let mut target = target(args, &server, &catalog, changes);
    let (result, sampled) = std::thread::scope(|scope| {
        let (stop, stopped) = sync_channel::<()>(0);
        let sampling = scope.spawn(|| sample(server.admin(), &samples_path, stopped));
        let result = target.run(ScenarioName::Funnel, effort, &run_id);
        drop::<SyncSender<()>>(stop);
        (result, sampling.join().expect("the sampling thread panicked"))
    });
    let ((tally, books), resident) = (result?, sampled?);
    let verdict = server.admin().audit(&run_id, &books, Some(&before))?;
    drop(server);
    let is_sound = verify(&args.server_bin, folder.path())?;
    let memory = Memory::of(&resident);
    print(&tally, &verdict, &memory, is_sound);
    println!("written: {}", samples_path.display());
    let fits = memory.most_mib <= f64::from(args.resident_mib_max);
    if !fits {
        println!("memory: more than the {} MiB that are allowed", args.resident_mib_max);
    }
    let is_stable = memory.is_stable();
    if !is_stable {
        println!("memory: the last quarter has more than {STABLE} times that of the third");
    }
    Ok(tally.failures() == 0 && verdict.mismatches == 0 && is_sound && fits && is_stable)
}

fn target(
    args: &SoakArgs,
    server: &Child,
    catalog: &Arc<Catalog>,
    changes: Option<ChangeOptions>,
) -> Target {
    let host = server.address().to_string();
    Target::new(TargetOptions {
        address: server.address(),
        tls: None,
        requests: Requests::new(&host, Arc::clone(catalog)),
        judge: Judge::Strict,
        connections: args.connections as usize,
        threads: args.threads as usize,
        clicks_pool: 1,
        originals: 1,
        keep_books: true,
        shares: SHARES,
        seed: args.seed,
        changes,
    })
}

fn half_of_maximum(target: &mut Target) -> io::Result<NonZeroU64> {
    let measured = Duration::from_secs(MAXIMUM_SECONDS);
    let effort = Effort { pace: Pace::Closed, warmup: WARMUP, measured };
    let (tally, _) = target.run(ScenarioName::Funnel, effort, &format!("{}max", fresh_run_id()))?;
    println!("at most {:.0} requests/s", tally.rate());
    NonZeroU64::new(tally.rate() as u64 / 2).ok_or_else(|| io::Error::other("nothing is answered"))
}

/// Writes a line a second until the other end of `stopped` is gone; returns the memory in use at
/// each.
fn sample(
    admin: &Admin,
    path: &Path,
    stopped: std::sync::mpsc::Receiver<()>,
) -> io::Result<Vec<f64>> {
    let mut file = BufWriter::new(File::create(path)?);
    let names = SERIES.map(|series| series.trim_start_matches("postbackd_").replace('"', ""));
    writeln!(file, "second,{}", names.join(","))?;
    let (begin, mut resident) = (Instant::now(), Vec::new());
    while stopped.recv_timeout(SAMPLE_EVERY) == Err(RecvTimeoutError::Timeout) {
        let Some(page) = admin.metrics() else { continue };
        let values = SERIES.map(|series| value(&page, series));
        resident.extend(values[0]);
        let shown = values.map(|value| value.map(|value| value.to_string()).unwrap_or_default());
        writeln!(file, "{},{}", begin.elapsed().as_secs(), shown.join(","))?;
    }
    file.flush()?;
    Ok(resident)
}

/// The value of a time series on a metrics page.
fn value(page: &str, series: &str) -> Option<f64> {
    let mut lines = page.lines();
    lines.find_map(|line| line.strip_prefix(series)?.strip_prefix(' ')?.parse().ok())
}

/// Whether the server's own proof of its store holds.
fn verify(server_bin: &Path, folder: &Path) -> io::Result<bool> {
    let store = folder.join("data");
    let status = Command::new(std::path::absolute(server_bin)?)
        .args(["verify", "--store"])
        .arg(store)
        .status()?;
    Ok(status.success())
}

/// Memory over the run, MiB.
#[derive(Debug, PartialEq)]
struct Memory {
    first_mib: f64,
    most_mib: f64,
    /// Medians of the four quarters: what still grows at the end is a leak, or a cache not full.
    quarters_mib: [f64; 4],
}

impl Memory {
    fn of(resident: &[f64]) -> Self {
        let mib = |bytes: f64| bytes / f64::from(1 << 20);
        let length = resident.len().div_ceil(4).max(1);
        let mut quarters = resident.chunks(length).map(|quarter| mib(median(quarter)));
        Self {
            first_mib: mib(resident.first().copied().unwrap_or_default()),
            most_mib: mib(resident.iter().copied().fold(0.0, f64::max)),
            quarters_mib: std::array::from_fn(|_| quarters.next().unwrap_or_default()),
        }
    }

    /// Whether it has stopped growing, as far as noise lets one say so.
    fn is_stable(&self) -> bool {
        let [.., third, last] = self.quarters_mib;
        last <= third * STABLE
    }
}

fn median(values: &[f64]) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}

fn print(tally: &Tally, verdict: &Verdict, memory: &Memory, is_sound: bool) {
    let answers = Answers::of(tally);
    println!("answers: {answers}");
    println!("latency: {}", answers.latency.to_text());
    if let Some(changes) = tally.changes.as_deref().map(Answers::of) {
        println!("{}; {}", changes.of_changes(), changes.latency.to_text());
    }
    let Verdict { acknowledged, stored, reversed, mismatches, .. } = verdict;
    println!(
        "books: {acknowledged} acknowledged, {stored} stored ({reversed} of them reversed), {mismatches} mismatches"
    );
    for line in &verdict.first_mismatches {
        println!("  {line}");
    }
    let Memory { first_mib, most_mib, quarters_mib: [one, two, three, four] } = memory;
    println!(
        "memory: {first_mib:.0} MiB at first, {most_mib:.0} at most; by quarters {one:.0}, {two:.0}, {three:.0}, {four:.0}"
    );
    println!("verify: {}", if is_sound { "sound" } else { "broken" });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_series_is_read_off_the_page_by_its_whole_name() {
        let page = "# HELP a x\na_total 7\na{stage=\"append\"} 3\na 5.5\n";
        assert_eq!(value(page, "a"), Some(5.5));
        assert_eq!(value(page, "a{stage=\"append\"}"), Some(3.0));
        assert_eq!(value(page, "b"), None);
    }

    #[test]
    fn memory_is_told_by_quarters() {
        let mib = f64::from(1 << 20);
        let memory = Memory::of(&[1.0, 2.0, 3.0, 4.0, 9.0, 6.0, 7.0, 8.0].map(|n| n * mib));
        assert_eq!((memory.first_mib, memory.most_mib), (1.0, 9.0));
        assert_eq!(memory.quarters_mib, [2.0, 4.0, 9.0, 8.0]);
        assert_eq!(Memory::of(&[]).quarters_mib, [0.0; 4]);
    }

    #[test]
    fn memory_that_still_grows_in_the_last_quarter_is_not_stable() {
        let is_stable = |quarters: [f64; 4]| {
            let samples = quarters.map(|mib| [mib * f64::from(1 << 20); 9]);
            Memory::of(samples.as_flattened()).is_stable()
        };
        assert!(is_stable([475.0, 711.0, 886.0, 877.0]), "caches that fill, and are full");
        assert!(is_stable([475.0, 711.0, 800.0, 880.0]), "noise");
        assert!(!is_stable([475.0, 711.0, 800.0, 881.0]), "it grows");
        assert!(!is_stable([100.0, 200.0, 300.0, 400.0]), "below any limit, and for ever");
    }
}
