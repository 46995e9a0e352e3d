//! One server under load: what has to be prepared for a scenario, and the measured run.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use crate::books::{Book, Click};
use crate::cli::ScenarioName;
use crate::drive::{Plan, drive};
use crate::pace::Pace;
use crate::scenario::{
    ChangeOptions, Changes, ClickPool, Clicks, Forged, Funnel, FunnelShares, Judge, Line,
    PostbackOptions, Postbacks, Requests, Workload,
};
use crate::tally::Tally;
use crate::tls::TlsClient;

/// Preparation (click pool, originals) is bounded by its count; this bounds its time.
const PREPARATION_MAX: Duration = Duration::from_secs(120);

/// What stays the same over all runs against one server.
#[derive(Clone, Debug)]
pub struct TargetOptions {
    pub address: SocketAddr,
    pub tls: Option<TlsClient>,
    pub requests: Requests,
    pub judge: Judge,
    pub connections: usize,
    pub threads: usize,
    pub clicks_pool: u64,
    pub originals: u64,
    pub keep_books: bool,
    pub shares: FunnelShares,
    pub seed: u64,
    /// Sales taken back beside postbacks and funnels.
    pub changes: Option<ChangeOptions>,
}

/// A server and the clicks made on it.
#[derive(Debug)]
pub struct Target {
    options: TargetOptions,
    pool: Option<Arc<[Click]>>,
    /// Sales to be taken back, of this run or earlier ones.
    line: Option<Arc<Line>>,
}

/// How long and how fast one run is.
#[derive(Clone, Copy, Debug)]
pub struct Effort {
    pub pace: Pace,
    pub warmup: Duration,
    pub measured: Duration,
}

impl Target {
    /// A target that has asked nothing yet.
    pub fn new(options: TargetOptions) -> Self {
        let line = options.changes.map(|changes| Arc::new(Line::new(changes)));
        Self { options, pool: None, line }
    }

    /// Prepares and runs one scenario; the books are empty unless they are kept.
    pub fn run(
        &mut self,
        scenario: ScenarioName,
        effort: Effort,
        run_id: &str,
    ) -> io::Result<(Tally, Vec<Book>)> {
        let plan = self.plan(effort);
        let shards = 0..self.options.threads;
        let (requests, judge) = (&self.options.requests, self.options.judge);
        match scenario {
            ScenarioName::Click => {
                let mut work: Vec<_> =
                    shards.map(|shard| Clicks::new(requests.clone(), judge, shard)).collect();
                Ok((drive(&plan, &mut work)?, Vec::new()))
            }
            ScenarioName::Funnel => {
                let TargetOptions { shares, seed, .. } = self.options;
                let line = &self.line;
                let funnel = |shard| {
                    Funnel::new(requests.clone(), run_id, shard, shares, seed, line.clone())
                };
                self.drive_with_changes(&plan, shards.map(funnel).collect(), |work| work.book)
            }
            ScenarioName::Forged => {
                let mut work = self.each_shard(run_id, Forged::new)?;
                Ok((drive(&plan, &mut work)?, Vec::new()))
            }
            ScenarioName::Postback => {
                let line = self.line.clone();
                let distinct = |options| {
                    Postbacks::distinct(PostbackOptions { line: line.clone(), ..options })
                };
                let work = self.each_shard(run_id, distinct)?;
                self.drive_with_changes(&plan, work, |work| work.book)
            }
            ScenarioName::Duplicate => {
                let count = (self.options.originals / self.options.threads as u64).max(1);
                let mut work =
                    self.each_shard(run_id, |options| Postbacks::originals(options, count))?;
                let sent = drive(&self.plan(PREPARATION), &mut work)?;
                require(&sent, "original postbacks")?;
                let mut work: Vec<_> = work.into_iter().map(Postbacks::repeating).collect();
                let tally = drive(&plan, &mut work)?;
                Ok((tally, work.into_iter().map(|work| work.book).collect()))
            }
        }
    }

    /// Runs the workloads, and takes sales back beside them if that is asked for.
    fn drive_with_changes<W: Workload + Send>(
        &self,
        plan: &Plan,
        mut work: Vec<W>,
        book: impl Fn(W) -> Book,
    ) -> io::Result<(Tally, Vec<Book>)> {
        let Some(line) = &self.line else {
            let tally = drive(plan, &mut work)?;
            return Ok((tally, work.into_iter().map(book).collect()));
        };
        let TargetOptions { requests, judge, .. } = &self.options;
        let mut changes = [Changes::new(requests.clone(), *judge, Arc::clone(line))];
        let delay = line.delay().min(plan.warmup + plan.measured);
        let changes_plan = Plan {
            connections: 1,
            pace: Pace::Open { rate: line.rate() },
            warmup: plan.warmup.saturating_sub(delay),
            measured: plan.measured.saturating_sub(delay.saturating_sub(plan.warmup)),
            ..plan.clone()
        };
        let (tally, changed) = thread::scope(|scope| {
            let changing = scope.spawn(|| {
                thread::sleep(delay);
                drive(&changes_plan, &mut changes)
            });
            let tally = drive(plan, &mut work);
            (tally, changing.join().expect("the thread of changes panicked"))
        });
        let mut tally = tally?;
        tally.changes = Some(Box::new(changed?));
        let mut books: Vec<_> = work.into_iter().map(book).collect();
        for (sale, outcome) in &changes[0].sent {
            let own = books.iter_mut().find(|book| book.prefix() == sale.prefix);
            own.into_iter().for_each(|book| book.note_reversal(sale.transaction, *outcome));
        }
        Ok((tally, books))
    }

    fn plan(&self, effort: Effort) -> Plan {
        let TargetOptions { address, connections, threads, .. } = self.options;
        let tls = self.options.tls.clone();
        let Effort { pace, warmup, measured } = effort;
        Plan {
            address,
            tls,
            connections: connections.max(threads),
            threads,
            pace,
            warmup,
            measured,
        }
    }

    fn each_shard<W>(
        &mut self,
        run_id: &str,
        make: impl Fn(PostbackOptions) -> W,
    ) -> io::Result<Vec<W>> {
        let pool = self.click_pool()?;
        let options = |shard| PostbackOptions {
            requests: self.options.requests.clone(),
            judge: self.options.judge,
            pool: Arc::clone(&pool),
            run_id: run_id.to_owned(),
            shard,
            keep_books: self.options.keep_books,
            line: None,
        };
        Ok((0..self.options.threads).map(|shard| make(options(shard))).collect())
    }

    /// The clicks of this server, made once.
    fn click_pool(&mut self) -> io::Result<Arc<[Click]>> {
        if let Some(pool) = &self.pool {
            return Ok(Arc::clone(pool));
        }
        let mut work = [ClickPool::new(self.options.requests.clone(), self.options.clicks_pool)];
        let plan = Plan { threads: 1, ..self.plan(PREPARATION) };
        let tally = drive(&plan, &mut work)?;
        require(&tally, "clicks for the pool")?;
        let [ClickPool { clicks, .. }] = work;
        let pool: Arc<[Click]> = clicks.into();
        self.pool = Some(Arc::clone(&pool));
        Ok(pool)
    }
}

const PREPARATION: Effort =
    Effort { pace: Pace::Closed, warmup: Duration::ZERO, measured: PREPARATION_MAX };

/// A run whose preparation failed would measure something else.
fn require(tally: &Tally, what: &str) -> io::Result<()> {
    if tally.expected > 0 && tally.unexpected == 0 && tally.lost == 0 {
        return Ok(());
    }
    let Tally { expected, unexpected, lost, .. } = tally;
    let statuses = tally.statuses();
    Err(io::Error::other(format!(
        "{what}: {expected} as wanted, {unexpected} otherwise, {lost} lost, statuses {statuses:?}"
    )))
}

/// Reads `http://HOST:PORT` or the same with https; answers whether it is that, the host as sent
/// and the address to connect to.
pub fn parse_url(url: &str) -> io::Result<(bool, String, SocketAddr)> {
    let invalid = |why: &str| io::Error::new(io::ErrorKind::InvalidInput, format!("{url}: {why}"));
    let is_tls = url.starts_with("https://");
    let rest = url.strip_prefix("http://").or_else(|| url.strip_prefix("https://"));
    let rest = rest.ok_or_else(|| invalid("not http://HOST:PORT or https://HOST:PORT"))?;
    let host = rest.trim_end_matches('/');
    let mut addresses = host.to_socket_addrs().map_err(|error| invalid(&error.to_string()))?;
    let address = addresses.next().ok_or_else(|| invalid("no address"))?;
    Ok((is_tls, host.to_owned(), address))
}

#[cfg(test)]
#[path = "target_tests.rs"]
mod tests;
