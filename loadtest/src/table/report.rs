//! Everything that was measured, the budgets it is held against, and the table as text.

use std::fmt::{self, Write};

use serde::Serialize;

use super::metrics::ServerLatency;
use super::open_loop::OpenLoop;
use crate::books::Verdict;
use crate::machine::Machine;
use crate::money::MoneyVerdict;
use crate::tally::{Percentiles, Tally};

/// How the table was measured.
#[derive(Debug, Serialize)]
pub struct Settings {
    pub server: String,
    pub generator_build: &'static str,
    pub connections: u32,
    pub generator_threads: u32,
    pub workers: usize,
    /// Whether floor and server spoke TLS.
    pub tls: bool,
    /// What postbacks showed.
    pub auth: String,
    pub seconds: u64,
    pub warmup: u64,
    pub rounds: u32,
    pub clicks_pool: u64,
    pub originals: u64,
    pub offers: u32,
    pub affiliates: u32,
    /// Sales taken back in the open loop of postbacks.
    pub changes_per_second: u64,
}

/// The rounds of one scenario, floor and server in turns.
#[derive(Debug, Serialize)]
pub struct Rounds {
    pub name: &'static str,
    /// Requests a second, round by round.
    pub floor: Vec<f64>,
    /// Of the floor that waits for the disk, where the server has to.
    pub durable_floor: Vec<f64>,
    pub server: Vec<f64>,
    /// Answers of the server that the scenario did not want, and requests never answered.
    pub failures: u64,
}

impl Rounds {
    /// No round yet.
    pub const fn new(name: &'static str) -> Self {
        Self { name, floor: Vec::new(), durable_floor: Vec::new(), server: Vec::new(), failures: 0 }
    }

    /// Adds a round of each.
    pub fn add(&mut self, floor: &Tally, durable_floor: Option<&Tally>, server: &Tally) {
        self.floor.push(floor.rate());
        self.durable_floor.extend(durable_floor.map(Tally::rate));
        self.server.push(server.rate());
        self.failures += server.unexpected + server.lost;
    }

    /// The server's median rate.
    pub fn server_median(&self) -> f64 {
        Spread::of(self.server.clone()).median
    }

    /// The server's rates by those of the floor in the same rounds.
    pub fn by_floor(&self) -> Spread {
        self.by(&self.floor)
    }

    /// By those of the floor that waits for the disk, where there is one.
    pub fn by_durable_floor(&self) -> Option<Spread> {
        (!self.durable_floor.is_empty()).then(|| self.by(&self.durable_floor))
    }

    fn by(&self, floor: &[f64]) -> Spread {
        let rounds = self.server.iter().zip(floor);
        Spread::of(rounds.map(|(server, floor)| server / floor.max(1.0)).collect())
    }
}

/// A run whose books were compared, money included.
#[derive(Debug, Serialize)]
pub struct Books {
    pub name: &'static str,
    pub rate: f64,
    pub unexpected: u64,
    pub lost: u64,
    pub verdict: Verdict,
}

/// Median and extremes.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Spread {
    pub median: f64,
    pub min: f64,
    pub max: f64,
}

impl Spread {
    /// Of any number of values; zeros of none.
    pub fn of(mut values: Vec<f64>) -> Self {
        values.sort_by(f64::total_cmp);
        let (Some(min), Some(max)) = (values.first(), values.last()) else {
            return Self { median: 0.0, min: 0.0, max: 0.0 };
        };
        let half = values.len() / 2;
        let median = if values.len() % 2 == 1 {
            values[half]
        } else {
            (values[half - 1] + values[half]) / 2.0
        };
        Self { median, min: *min, max: *max }
    }
}

impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { median, min, max } = self;
        write!(f, "{median:.2} [{min:.2}..{max:.2}]")
    }
}

/// Which way a budget points.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Bound {
    AtLeast,
    AtMost,
}

/// One line of the table.
#[derive(Debug, Serialize)]
pub struct Row {
    pub what: String,
    pub measured: Spread,
    pub bound: Bound,
    pub must: f64,
    pub goal: f64,
    pub is_met: bool,
    pub is_goal_met: bool,
}

impl Row {
    fn new(what: String, measured: Spread, bound: Bound, must: f64, goal: f64) -> Self {
        let holds = |limit| match bound {
            Bound::AtLeast => measured.median >= limit,
            Bound::AtMost => measured.median <= limit,
        };
        let (is_met, is_goal_met) = (holds(must), holds(goal));
        Self { what, measured, bound, must, goal, is_met, is_goal_met }
    }

    /// `goal`, `met` or `not met`.
    pub const fn verdict(&self) -> &'static str {
        match (self.is_met, self.is_goal_met) {
            (_, true) => "goal",
            (true, false) => "met",
            (false, false) => "not met",
        }
    }
}

/// Everything: what table.json holds.
#[derive(Debug, Serialize)]
pub struct Report {
    pub rows: Vec<Row>,
    pub machine: Machine,
    pub settings: Settings,
    pub rounds: Vec<Rounds>,
    pub open_loops: Vec<OpenLoop>,
    pub books: Vec<Books>,
}

/// (scenario, label, must, goal) of the design's budgets, requests a second ÷ floor.
const RATE_BUDGETS: [(&str, &str, f64, f64); 4] = [
    ("click", "durable click ÷ floor (302)", 0.70, 0.90),
    ("postback", "durable postback ÷ floor (200)", 0.58, 0.75),
    ("duplicate", "duplicate postback ÷ floor (200)", 0.85, 0.95),
    ("forged", "forged click ID ÷ floor (200)", 0.90, 0.97),
];
/// p99 at half the maximum rate ÷ the disk's own p99.
const TAIL_MUST: f64 = 3.0;
const TAIL_GOAL: f64 = 1.5;

impl Report {
    /// Nothing measured yet.
    pub const fn new(machine: Machine, settings: Settings) -> Self {
        Self {
            rows: Vec::new(),
            machine,
            settings,
            rounds: Vec::new(),
            open_loops: Vec::new(),
            books: Vec::new(),
        }
    }

    /// Holds what was measured against the budgets.
    pub fn conclude(&mut self) {
        let rates = RATE_BUDGETS.iter().filter_map(|(name, what, must, goal)| {
            let rounds = self.rounds.iter().find(|rounds| rounds.name == *name)?;
            let what = (*what).to_owned();
            Some(Row::new(what, rounds.by_floor(), Bound::AtLeast, *must, *goal))
        });
        let tails = self.open_loops.iter().map(|open| {
            let what = format!("{} p99, server side, half rate ÷ disk", open.name);
            Row::new(what, open.tail(), Bound::AtMost, TAIL_MUST, TAIL_GOAL)
        });
        self.rows = rates.chain(tails).collect();
    }

    /// Unwanted answers, losses and mismatches: any of them makes the numbers worthless.
    pub fn failures(&self) -> u64 {
        let rounds: u64 = self.rounds.iter().map(|rounds| rounds.failures).sum();
        let open: u64 = self.open_loops.iter().map(|open| open.failures).sum();
        let failures = |b: &Books| b.unexpected + b.lost + b.verdict.mismatches;
        let books: u64 = self.books.iter().map(failures).sum();
        rounds + open + books
    }

    /// Whether every `must` holds and nothing failed on the way.
    pub fn is_met(&self) -> bool {
        self.failures() == 0 && self.rows.iter().all(|row| row.is_met)
    }

    /// The table for a terminal.
    pub fn to_text(&self) -> String {
        let mut out = String::new();
        self.write_text(&mut out).expect("a String takes everything");
        out
    }

    fn write_text(&self, out: &mut String) -> fmt::Result {
        writeln!(out, "{:<42} {:>20}   {:>6} {:>6}", "what", "median [min..max]", "must", "goal")?;
        for row in &self.rows {
            let sign = if row.bound == Bound::AtLeast { '≥' } else { '≤' };
            let measured = row.measured.to_string();
            let (what, must, goal) = (&row.what, row.must, row.goal);
            writeln!(
                out,
                "{what:<42} {measured:>20}  {sign}{must:>6.2} {goal:>6.2}  {}",
                row.verdict()
            )?;
        }
        writeln!(out, "\nrequests/s, medians")?;
        for rounds in &self.rounds {
            let (floor, server) = (Spread::of(rounds.floor.clone()).median, rounds.server_median());
            let Rounds { name, durable_floor, failures, .. } = rounds;
            writeln!(
                out,
                "  {name:<10} server {server:>8.0}  floor {floor:>8.0}  failures {failures}"
            )?;
            if let Some(ratio) = rounds.by_durable_floor() {
                let rate = Spread::of(durable_floor.clone()).median;
                writeln!(out, "  {:<10} {ratio} of a durable floor of {rate:.0}", "")?;
            }
        }
        for open in &self.open_loops {
            writeln!(out, "\n{} at {}/s, µs (failures {})", open.name, open.rate, open.failures)?;
            for (who, p) in open.latencies() {
                let Percentiles { p50_us, p99_us, p999_us, max_us, .. } = p;
                writeln!(
                    out,
                    "  {who:<13} p50 {p50_us:>8.0}  p99 {p99_us:>8.0}  p99.9 {p999_us:>8.0}  max {max_us:>8.0}"
                )?;
            }
            writeln!(
                out,
                "  p99 ÷ disk: {}, durable floor {}",
                open.tail(),
                open.durable_floor_tail()
            )?;
            if let Some(changes) = &open.changes {
                writeln!(out, "  {}", changes.of_changes())?;
            }
            for ServerLatency { metric, p50_us, p99_us } in &open.server_side {
                writeln!(out, "  {metric}: p50 {p50_us:.0}, p99 {p99_us:.0}")?;
            }
        }
        for Books { name, rate, unexpected, lost, verdict } in &self.books {
            let Verdict { transactions, repeats, stored, mismatches, .. } = verdict;
            writeln!(
                out,
                "\nbooks of {name} at {rate:.0}/s: {transactions} transactions, {repeats} duplicates, {stored} stored, \
                 {mismatches} mismatches, {unexpected} unexpected, {lost} lost"
            )?;
            if let Some(MoneyVerdict { payout, revenue, affiliates }) = &verdict.money {
                writeln!(
                    out,
                    "  payout {payout}, revenue {revenue}, balances of {affiliates} affiliates compared"
                )?;
            }
            verdict.first_mismatches.iter().try_for_each(|line| writeln!(out, "  {line}"))?;
        }
        writeln!(out, "\n{}", self.conditions().join("\n"))
    }

    /// Machine and settings, a line each.
    pub fn conditions(&self) -> Vec<String> {
        let Machine { cpu, cores, kernel, filesystem } = &self.machine;
        let s = &self.settings;
        vec![
            format!("machine: {cpu}, {cores} cores, Linux {kernel}, {filesystem}"),
            format!(
                "server: {}; generator: {} build, {} thread(s)",
                s.server, s.generator_build, s.generator_threads
            ),
            format!(
                "{} connections{}, {} workers, {} rounds of {} s after {} s warm-up, {} clicks in the pool, {} originals, {} offers, {} affiliates, auth {}, {} changes a second",
                s.connections,
                if s.tls { " with TLS" } else { "" },
                s.workers,
                s.rounds,
                s.seconds,
                s.warmup,
                s.clicks_pool,
                s.originals,
                s.offers,
                s.affiliates,
                s.auth,
                s.changes_per_second
            ),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_median_is_the_middle_or_the_mean_of_both_middles() {
        let check = |values: &[f64], median, min, max| {
            assert_eq!(Spread::of(values.to_vec()), Spread { median, min, max });
        };
        check(&[3.0, 1.0, 2.0], 2.0, 1.0, 3.0);
        check(&[4.0, 1.0, 2.0, 3.0], 2.5, 1.0, 4.0);
        check(&[], 0.0, 0.0, 0.0);
    }

    #[test]
    fn a_row_says_whether_its_bound_holds_in_its_own_direction() {
        let check = |value: f64, bound, expected| {
            let row = Row::new(
                "x".into(),
                Spread::of(vec![value]),
                bound,
                2.0,
                if bound == Bound::AtLeast { 3.0 } else { 1.0 },
            );
            assert_eq!(row.verdict(), expected, "{value} {bound:?}");
        };
        check(1.9, Bound::AtLeast, "not met");
        check(2.0, Bound::AtLeast, "met");
        check(3.0, Bound::AtLeast, "goal");
        check(2.1, Bound::AtMost, "not met");
        check(2.0, Bound::AtMost, "met");
        check(1.0, Bound::AtMost, "goal");
    }
}
