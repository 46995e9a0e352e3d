//! The `table` subcommand: the budgets that can be measured from outside, as ratios, in one go.
//!
//! Ratios hold within one run on one machine: floor and server take turns (A B A B), each round
//! of the server is divided by the floor's round just before it, and the median counts. Where the
//! server has to wait for the disk, a floor that does is measured beside it: it says how much of the
//! distance is the disk's and the machine's.

mod html;
mod metrics;
mod open_loop;
mod report;
mod svg;

use std::fs;
use std::io;
use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::Duration;

use crate::admin::Admin;
use crate::books::Verdict;
use crate::catalog::Catalog;
use crate::cli::{CatalogArgs, ScenarioName, TableArgs};
use crate::floor::worker_count;
use crate::machine::{Machine, sync_latency};
use crate::pace::Pace;
use crate::run::fresh_run_id;
use crate::scenario::{ChangeOptions, FunnelShares, Judge, Requests};
use crate::server::{self, Child, floor, tracker};
use crate::tally::Tally;
use crate::target::{Effort, Target, TargetOptions};
use crate::tls::{TlsClient, TlsFiles};
use open_loop::{Asked, OpenLoop, OpenRound, OpenRounds};
use report::{Books, Report, Rounds, Settings};

/// Between two rounds: the burden of one should not be the next one's.
const SETTLE: Duration = Duration::from_millis(500);
/// Syncs before each round of the open loop: its p99 is that of the slowest five.
const SYNCS: usize = 500;
/// Sizes of the closing funnel, which is about the books, not about speed.
const FUNNEL_SECONDS: u64 = 5;
const POSTBACK_SECONDS: u64 = 2;
/// Books are compared over every kind of price, and over more than one affiliate.
const BOOKS_OFFERS_MIN: u32 = 6;
const BOOKS_AFFILIATES_MIN: u32 = 20;
const SHARES: FunnelShares = FunnelShares { converts: 30, retried: 25, doubled: 10 };

/// What is measured as a ratio of rates, in the order of the budgets.
const SCENARIOS: [ScenarioName; 4] =
    [ScenarioName::Click, ScenarioName::Postback, ScenarioName::Duplicate, ScenarioName::Forged];

/// Measures everything, prints the table and writes the files; false if a `must` is not met.
pub fn run(args: &TableArgs) -> io::Result<bool> {
    fs::create_dir_all(&args.out_dir)?;
    let mut report = Report::new(Machine::describe(&args.out_dir), settings(args));
    for scenario in SCENARIOS {
        let (rounds, open_loop) = measure(args, scenario)?;
        report.rounds.push(rounds);
        report.open_loops.extend(open_loop);
    }
    report.books = check_books(args)?;
    report.conclude();
    print!("{}", report.to_text());
    let json = args.out_dir.join("table.json");
    let page = args.out_dir.join("table.html");
    fs::write(&json, serde_json::to_string_pretty(&report)?)?;
    fs::write(&page, html::page(&report))?;
    println!("\nwritten: {} and {}", json.display(), page.display());
    Ok(report.is_met())
}

fn settings(args: &TableArgs) -> Settings {
    Settings {
        server: server::version(&args.server_bin),
        generator_build: if cfg!(debug_assertions) { "debug" } else { "release" },
        connections: args.connections,
        generator_threads: args.threads,
        workers: worker_count(args.workers),
        tls: args.tls,
        auth: format!("{:?}", args.catalog.auth).to_lowercase(),
        seconds: args.seconds,
        warmup: args.warmup,
        rounds: args.rounds,
        clicks_pool: args.clicks_pool,
        originals: args.originals,
        offers: args.catalog.offers,
        affiliates: args.catalog.affiliates,
        changes_per_second: args.changes_per_second,
    }
}

/// All rounds of one scenario on a fresh store, and the open loop where one is asked for.
fn measure(args: &TableArgs, scenario: ScenarioName) -> io::Result<(Rounds, Option<OpenLoop>)> {
    let folder = tempfile::tempdir_in(&args.out_dir)?;
    let tls = if args.tls { Some(TlsFiles::make(folder.path())?) } else { None };
    let on_disk = matches!(scenario, ScenarioName::Click | ScenarioName::Postback);
    let journal = folder.path().join("journal");
    let durable = on_disk.then(|| floor(args.workers, tls.as_ref(), Some(&journal))).transpose()?;
    let floor = floor(args.workers, tls.as_ref(), None)?;
    let catalog = Arc::new(Catalog::new(&args.catalog));
    let tracker = tracker(&args.server_bin, folder.path(), args.workers, &catalog, tls.as_ref())?;
    let trusted = tls.map(|files| TlsClient::new(&files.certificate, "127.0.0.1")).transpose()?;
    let target = |server, judge| TargetOptions {
        tls: trusted.clone(),
        ..options(args, server, &catalog, judge, false)
    };
    let mut on_floor = Target::new(target(&floor, Judge::Lenient));
    let mut on_durable =
        durable.as_ref().map(|durable| Target::new(target(durable, Judge::Lenient)));
    let mut on_tracker = Target::new(target(&tracker, Judge::Strict));
    let run_id = fresh_run_id();
    let mut rounds = Rounds::new(name(scenario));
    let effort = effort(args, Pace::Closed);
    for round in 0..args.rounds {
        let run_id = format!("{run_id}x{round}");
        let run = |target: &mut Target| {
            let tally = target.run(scenario, effort, &run_id)?.0;
            std::thread::sleep(SETTLE);
            io::Result::Ok(tally)
        };
        let durable_tally = on_durable.as_mut().map(run).transpose()?;
        let floor_tally = run(&mut on_floor)?;
        let tally = run(&mut on_tracker)?;
        // What it still files, counts and merges is not the floors' to bear.
        tracker.wait_idle()?;
        eprintln!(
            "{} {}/{}: floor {:.0}/s, server {:.0}/s",
            rounds.name,
            round + 1,
            args.rounds,
            floor_tally.rate(),
            tally.rate()
        );
        rounds.add(&floor_tally, durable_tally.as_ref(), &tally);
    }
    let (Some(durable), Some(mut on_durable)) = (&durable, on_durable) else {
        return Ok((rounds, None));
    };
    let rate = NonZeroU64::new(rounds.server_median() as u64 / 2).unwrap_or(NonZeroU64::MIN);
    let effort = self::effort(args, Pace::Open { rate });
    let changes = ChangeOptions::usual(args.changes_per_second)
        .filter(|_| scenario == ScenarioName::Postback);
    if let Some(ChangeOptions { after, .. }) = changes {
        // A round may be shorter than sales have to wait: those of one are taken back in the next,
        // those of an unmeasured one in the first.
        on_tracker = Target::new(TargetOptions { changes, ..target(&tracker, Judge::Strict) });
        let effort = Effort { warmup: Duration::ZERO, measured: after, ..effort };
        on_tracker.run(scenario, effort, &format!("{run_id}before"))?;
    }
    let mut open = OpenRounds::new(name(scenario), rate);
    for round in 0..args.rounds {
        let run_id = format!("{run_id}open{round}");
        let disk = sync_latency(folder.path(), SYNCS)?;
        let server = asked(&mut on_tracker, tracker.admin(), scenario, effort, &run_id)?;
        tracker.wait_idle()?;
        let durable_floor = asked(&mut on_durable, durable.admin(), scenario, effort, &run_id)?;
        let floor = on_floor.run(scenario, effort, &run_id)?.0;
        // The disk is asked next.
        std::thread::sleep(SETTLE);
        open.add(&OpenRound { disk, floor, durable_floor, server });
    }
    Ok((rounds, Some(open.conclude())))
}

/// A round, and what the server measured meanwhile.
fn asked(
    target: &mut Target,
    admin: &Admin,
    scenario: ScenarioName,
    effort: Effort,
    run_id: &str,
) -> io::Result<Asked> {
    let before = admin.metrics();
    let tally = target.run(scenario, effort, run_id)?.0;
    let server_side = metrics::latencies(before.as_deref(), admin.metrics().as_deref());
    std::thread::sleep(SETTLE);
    Ok((tally, server_side))
}

/// A funnel with retries and repeats on a fresh store, then distinct postbacks; the books of each
/// are compared, and their money.
fn check_books(args: &TableArgs) -> io::Result<Vec<Books>> {
    let folder = tempfile::tempdir_in(&args.out_dir)?;
    let mut wanted: CatalogArgs = args.catalog.clone();
    wanted.offers = wanted.offers.max(BOOKS_OFFERS_MIN);
    wanted.affiliates = wanted.affiliates.max(BOOKS_AFFILIATES_MIN);
    let catalog = Arc::new(Catalog::new(&wanted));
    let tracker = tracker(&args.server_bin, folder.path(), args.workers, &catalog, None)?;
    let mut target = Target::new(options(args, &tracker, &catalog, Judge::Strict, true));
    let runs = [(ScenarioName::Funnel, FUNNEL_SECONDS), (ScenarioName::Postback, POSTBACK_SECONDS)];
    let check = |(scenario, seconds)| {
        let measured = Duration::from_secs(seconds);
        let effort = Effort { pace: Pace::Closed, warmup: Duration::ZERO, measured };
        let run_id = format!("{}{}", fresh_run_id(), name(scenario));
        let before = tracker.admin().money(&catalog)?;
        let (tally, books) = target.run(scenario, effort, &run_id)?;
        let verdict: Verdict = tracker.admin().audit(&run_id, &books, Some(&before))?;
        let Tally { unexpected, lost, .. } = tally;
        let (name, rate) = (name(scenario), tally.rate());
        eprintln!("books of {name}: {rate:.0}/s, {} mismatches", verdict.mismatches);
        Ok(Books { name, rate, unexpected, lost, verdict })
    };
    runs.into_iter().map(check).collect()
}

fn effort(args: &TableArgs, pace: Pace) -> Effort {
    Effort {
        pace,
        warmup: Duration::from_secs(args.warmup),
        measured: Duration::from_secs(args.seconds),
    }
}

fn options(
    args: &TableArgs,
    server: &Child,
    catalog: &Arc<Catalog>,
    judge: Judge,
    keep_books: bool,
) -> TargetOptions {
    TargetOptions {
        address: server.address(),
        tls: None,
        requests: Requests::new(&server.address().to_string(), Arc::clone(catalog)),
        judge,
        connections: args.connections as usize,
        threads: args.threads as usize,
        clicks_pool: args.clicks_pool,
        originals: args.originals,
        keep_books,
        shares: SHARES,
        seed: 1,
        changes: None,
    }
}

const fn name(scenario: ScenarioName) -> &'static str {
    match scenario {
        ScenarioName::Click => "click",
        ScenarioName::Postback => "postback",
        ScenarioName::Duplicate => "duplicate",
        ScenarioName::Forged => "forged",
        ScenarioName::Funnel => "funnel",
    }
}
