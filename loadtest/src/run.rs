//! The `run` subcommand: one scenario against a running server.

use std::io;
use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::Serialize;

use crate::admin::Admin;
use crate::books::Verdict;
use crate::catalog::Catalog;
use crate::cli::{RunArgs, ScenarioName};
use crate::money::MoneyVerdict;
use crate::pace::Pace;
use crate::scenario::{ChangeOptions, FunnelShares, Judge, Requests};
use crate::tally::{Answers, Tally};
use crate::target::{Effort, Target, TargetOptions, parse_url};
use crate::tls::TlsClient;

/// A server that was killed during the run gets this long to come back for the book check.
const RESTART_PATIENCE: Duration = Duration::from_secs(30);

/// What one run found.
#[derive(Debug, Serialize)]
struct Outcome {
    run_id: String,
    seconds: f64,
    rate: f64,
    #[serde(flatten)]
    answers: Answers,
    reconnects: u64,
    /// To the sales that were taken back.
    changes: Option<Answers>,
    books: Option<Verdict>,
}

/// Runs the scenario and prints what it found; false if the books do not match.
pub fn run(args: &RunArgs) -> io::Result<bool> {
    let run_id = args.run_id.clone().unwrap_or_else(fresh_run_id);
    if run_id.is_empty() || !run_id.bytes().all(|b| b.is_ascii_alphanumeric()) {
        return Err(invalid("--run-id takes letters and digits only"));
    }
    let changes = changes(args)?;
    let with_books = args.check_books || args.check_money || args.scenario == ScenarioName::Funnel;
    let admin = if with_books { Some(admin(args)?) } else { None };
    let catalog = Arc::new(Catalog::new(&args.catalog));
    let before = match &admin {
        Some(admin) if args.check_money => Some(admin.money(&catalog)?),
        _ => None,
    };
    let mut target = target(args, catalog, with_books, changes)?;
    let effort = Effort {
        pace: args.rate.map_or(Pace::Closed, |rate| Pace::Open { rate }),
        warmup: Duration::from_secs(args.load.warmup),
        measured: Duration::from_secs(args.load.seconds),
    };
    let (tally, books) = target.run(args.scenario, effort, &run_id)?;
    let verdict = match admin {
        Some(admin) if !books.is_empty() => {
            admin.wait_ready(RESTART_PATIENCE)?;
            Some(admin.audit(&run_id, &books, before.as_ref())?)
        }
        _ => None,
    };
    let outcome = outcome(run_id, &tally, verdict);
    if args.json {
        println!("{}", serde_json::to_string_pretty(&outcome)?);
    } else {
        print(&outcome);
    }
    Ok(outcome.books.is_none_or(|books| books.mismatches == 0))
}

fn invalid(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, why)
}

/// What changes are asked for; an error if there can be none.
fn changes(args: &RunArgs) -> io::Result<Option<ChangeOptions>> {
    let after = Duration::from_secs(args.changes_after);
    let changes =
        NonZeroU64::new(args.changes_per_second).map(|rate| ChangeOptions { rate, after });
    if changes.is_some() {
        if !matches!(args.scenario, ScenarioName::Postback | ScenarioName::Funnel) {
            return Err(invalid("--changes-per-second is for postback and funnel"));
        }
        if args.changes_after >= args.load.warmup + args.load.seconds {
            return Err(invalid("the run is over before a sale is as old as --changes-after"));
        }
    }
    Ok(changes)
}

fn target(
    args: &RunArgs,
    catalog: Arc<Catalog>,
    keep_books: bool,
    changes: Option<ChangeOptions>,
) -> io::Result<Target> {
    let (is_tls, host, address) = parse_url(&args.url)?;
    let tls = match (&args.ca, is_tls) {
        (Some(authorities), true) => Some(TlsClient::new(authorities, &host)?),
        (None, true) => return Err(invalid("https needs --ca FILE")),
        (_, false) => None,
    };
    Ok(Target::new(TargetOptions {
        address,
        tls,
        requests: Requests::new(&host, catalog),
        judge: if args.lenient { Judge::Lenient } else { Judge::Strict },
        connections: args.load.connections as usize,
        threads: args.load.threads as usize,
        clicks_pool: args.load.clicks_pool,
        originals: args.load.originals,
        keep_books,
        shares: FunnelShares {
            converts: args.converts,
            retried: args.retried,
            doubled: args.doubled,
        },
        seed: args.seed,
        changes,
    }))
}

fn admin(args: &RunArgs) -> io::Result<Admin> {
    let (is_tls, _, address) = parse_url(&args.admin)?;
    if is_tls {
        return Err(invalid("--admin is http://HOST:PORT"));
    }
    let token = match &args.admin_token_file {
        Some(path) => std::fs::read_to_string(path).map_err(|error| {
            io::Error::new(error.kind(), format!("{}: {error}", path.display()))
        })?,
        None => String::new(),
    };
    Ok(Admin::new(address, &token))
}

/// Different for every run that starts in another millisecond.
pub fn fresh_run_id() -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    format!("r{:x}", now.as_millis())
}

fn outcome(run_id: String, tally: &Tally, books: Option<Verdict>) -> Outcome {
    Outcome {
        run_id,
        seconds: tally.window.as_secs_f64(),
        rate: tally.rate(),
        answers: Answers::of(tally),
        reconnects: tally.reconnects,
        changes: tally.changes.as_deref().map(Answers::of),
        books,
    }
}

fn print(outcome: &Outcome) {
    let Outcome { run_id, seconds, rate, answers, reconnects, .. } = outcome;
    println!("run {run_id}: {rate:.0} requests/s over {seconds:.1} s");
    println!("answers: {answers}, {reconnects} reconnects");
    println!("statuses: {:?}", answers.statuses);
    println!("latency: {}", answers.latency.to_text());
    if let Some(changes) = &outcome.changes {
        println!("{}; {}", changes.of_changes(), changes.latency.to_text());
    }
    let Some(books) = &outcome.books else { return };
    let Verdict {
        transactions,
        acknowledged,
        denied,
        unknown,
        repeats,
        stored,
        reversed,
        mismatches,
        ..
    } = books;
    println!(
        "books: {transactions} transactions ({acknowledged} acknowledged, {denied} denied, {unknown} unknown), \
         {repeats} answered as duplicate, {stored} stored ({reversed} of them reversed), {mismatches} mismatches"
    );
    if let Some(MoneyVerdict { payout, revenue, affiliates }) = &books.money {
        println!(
            "money: payout {payout}, revenue {revenue}; balances of {affiliates} affiliates compared"
        );
    }
    for line in &books.first_mismatches {
        println!("  {line}");
    }
}
