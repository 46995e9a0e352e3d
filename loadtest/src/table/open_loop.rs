//! A constant arrival rate at half the maximum, in rounds: a pause of the machine is in the tail
//! of one round, and the median of the rounds counts.

use std::collections::BTreeMap;
use std::num::NonZeroU64;

use hdrhistogram::Histogram;
use serde::Serialize;

use super::metrics::ServerLatency;
use super::report::Spread;
use crate::tally::{Answers, Percentiles, Tally, latency_histogram};

/// What all rounds of one scenario came to.
#[derive(Debug, Serialize)]
pub struct OpenLoop {
    pub name: &'static str,
    /// Arrivals a second.
    pub rate: u64,
    pub server: Percentiles,
    /// The floor at the same rate: what generator and machine add by themselves.
    pub floor: Percentiles,
    /// The floor that waits for the disk, at the same rate.
    pub durable_floor: Percentiles,
    /// The disk's own append and sync, server idle.
    pub disk: Percentiles,
    /// The p99 of these, round by round.
    pub disk_p99_us: Vec<f64>,
    /// Sales of an earlier round that were taken back meanwhile, on a connection of their own.
    pub changes: Option<Answers>,
    pub failures: u64,
    /// The server's p99 of a request, round by round: as it measured it, else as the client did.
    pub p99_us: Vec<f64>,
    /// The same of the floor that waits for the disk.
    pub durable_floor_p99_us: Vec<f64>,
    /// What else the server measured: medians of the rounds.
    pub server_side: Vec<ServerLatency>,
}

impl OpenLoop {
    /// All that was measured from outside, by name.
    pub fn latencies(&self) -> impl Iterator<Item = (&'static str, &Percentiles)> {
        let always = [
            ("server", &self.server),
            ("floor", &self.floor),
            ("durable floor", &self.durable_floor),
            ("disk sync", &self.disk),
        ];
        always.into_iter().chain(self.changes.as_ref().map(|changes| ("changes", &changes.latency)))
    }

    /// p99 of each round ÷ the disk's own, of which the median counts: that of all rounds together
    /// is that of the slowest one, and would make all of them look better.
    pub fn tail(&self) -> Spread {
        self.by_disk(&self.p99_us)
    }

    /// The same of the floor that waits for the disk.
    pub fn durable_floor_tail(&self) -> Spread {
        self.by_disk(&self.durable_floor_p99_us)
    }

    fn by_disk(&self, p99_us: &[f64]) -> Spread {
        let disk_us = Spread::of(self.disk_p99_us.clone()).median.max(1.0);
        Spread::of(p99_us.iter().map(|p99| p99 / disk_us).collect())
    }
}

/// What a server was asked, and what it measured meanwhile.
pub type Asked = (Tally, Vec<ServerLatency>);

/// One round of each.
pub struct OpenRound {
    pub disk: Histogram<u64>,
    pub floor: Tally,
    pub durable_floor: Asked,
    pub server: Asked,
}

/// As the server measured it by `metric`, else as the client did.
fn p99_us(metric: &str, tally: &Tally, server_side: &[ServerLatency]) -> f64 {
    let own = server_side.iter().find(|latency| latency.metric == metric);
    own.map_or_else(|| Percentiles::of(&tally.latency).p99_us, |latency| latency.p99_us)
}

/// Rounds as they come.
pub struct OpenRounds {
    name: &'static str,
    rate: NonZeroU64,
    server: Histogram<u64>,
    floor: Histogram<u64>,
    durable_floor: Histogram<u64>,
    disk: Histogram<u64>,
    disk_p99_us: Vec<f64>,
    changes: Option<Box<Tally>>,
    failures: u64,
    p99_us: Vec<f64>,
    durable_floor_p99_us: Vec<f64>,
    /// By metric: p50 and p99, round by round.
    server_side: BTreeMap<String, (Vec<f64>, Vec<f64>)>,
}

impl OpenRounds {
    /// No round yet.
    pub fn new(name: &'static str, rate: NonZeroU64) -> Self {
        Self {
            name,
            rate,
            server: latency_histogram(),
            floor: latency_histogram(),
            durable_floor: latency_histogram(),
            disk: latency_histogram(),
            disk_p99_us: Vec::new(),
            changes: None,
            failures: 0,
            p99_us: Vec::new(),
            durable_floor_p99_us: Vec::new(),
            server_side: BTreeMap::new(),
        }
    }

    /// Adds a round of each.
    pub fn add(&mut self, round: &OpenRound) {
        let OpenRound { disk, floor, durable_floor, server } = round;
        let (server, server_side) = server;
        let all = [
            (&mut self.disk, disk),
            (&mut self.floor, &floor.latency),
            (&mut self.durable_floor, &durable_floor.0.latency),
            (&mut self.server, &server.latency),
        ];
        for (all, round) in all {
            all.add(round).expect("all latency histograms have the same range");
        }
        if let Some(round) = &server.changes {
            match &mut self.changes {
                Some(all) => all.merge(round),
                none => *none = Some(round.clone()),
            }
        }
        self.disk_p99_us.push(Percentiles::of(disk).p99_us);
        self.failures += server.failures();
        self.p99_us.push(p99_us(&format!("postbackd_{}_seconds", self.name), server, server_side));
        let (durable, own) = durable_floor;
        self.durable_floor_p99_us.push(p99_us("postbackd_journal_seconds", durable, own));
        for ServerLatency { metric, p50_us, p99_us } in server_side {
            let (p50, p99) = self.server_side.entry(metric.clone()).or_default();
            p50.push(*p50_us);
            p99.push(*p99_us);
        }
    }

    /// All rounds in one.
    pub fn conclude(self) -> OpenLoop {
        let medians = |(metric, (p50, p99))| ServerLatency {
            metric,
            p50_us: Spread::of(p50).median,
            p99_us: Spread::of(p99).median,
        };
        OpenLoop {
            name: self.name,
            rate: self.rate.get(),
            server: Percentiles::of(&self.server),
            floor: Percentiles::of(&self.floor),
            durable_floor: Percentiles::of(&self.durable_floor),
            disk: Percentiles::of(&self.disk),
            disk_p99_us: self.disk_p99_us,
            changes: self.changes.as_deref().map(Answers::of),
            failures: self.failures,
            p99_us: self.p99_us,
            durable_floor_p99_us: self.durable_floor_p99_us,
            server_side: self.server_side.into_iter().map(medians).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn micros(all: &[u64]) -> Histogram<u64> {
        let mut histogram = latency_histogram();
        all.iter().for_each(|us| histogram.saturating_record(us * 1000));
        histogram
    }

    fn tally(us: u64) -> Tally {
        let mut tally = Tally::new(Duration::from_secs(1));
        tally.answered(200, true, us * 1000);
        tally
    }

    fn own(metric: &str, p99_us: f64) -> Vec<ServerLatency> {
        vec![ServerLatency { metric: metric.into(), p50_us: 1.0, p99_us }]
    }

    fn round(disk_us: &[u64], server: Asked) -> OpenRound {
        let durable_floor = (tally(30), own("postbackd_journal_seconds", 150.0));
        OpenRound { disk: micros(disk_us), floor: tally(10), durable_floor, server }
    }

    #[test]
    fn the_tail_is_the_median_round_by_the_median_disk() {
        let mut rounds = OpenRounds::new("click", NonZeroU64::MIN);
        for (disk, p99) in [(150, 300.0), (9000, 20_000.0), (200, 400.0)] {
            let server = (tally(500), own("postbackd_click_seconds", p99));
            rounds.add(&round(&[100, disk], server));
        }
        let open = rounds.conclude();
        let Spread { median, min, max } = open.tail();
        let nearly = |found: f64, expected: f64| (found - expected).abs() < 0.01 * expected;
        assert!(nearly(median, 2.0) && nearly(min, 1.5) && nearly(max, 100.0), "{:?}", open.tail());
        assert!(nearly(open.durable_floor_tail().median, 0.75));
        assert_eq!((open.server.count, open.durable_floor.count, open.disk.count), (3, 3, 6));
        assert!(nearly(open.server_side[0].p99_us, 400.0));
    }

    #[test]
    fn changes_are_told_apart_and_their_failures_count() {
        let mut rounds = OpenRounds::new("postback", NonZeroU64::MIN);
        let mut changes = tally(9_000);
        changes.answered(409, false, 9_000_000);
        changes.unused = 3;
        let mut server = tally(500);
        server.changes = Some(Box::new(changes));
        for _ in 0..2 {
            rounds.add(&round(&[100], (server.clone(), Vec::new())));
        }
        let open = rounds.conclude();
        assert_eq!((open.server.count, open.failures), (2, 2));
        let changes = open.changes.expect("there were some");
        assert_eq!(changes.latency.count, 4);
        assert_eq!(
            changes.of_changes(),
            "changes: 2 as wanted, 2 otherwise; 0 lost, 0 dropped, 6 found no sale; \
             statuses {200: 2, 409: 2}"
        );
    }

    #[test]
    fn a_server_without_metrics_has_the_clients_view() {
        let mut rounds = OpenRounds::new("postback", NonZeroU64::MIN);
        rounds.add(&round(&[100], (tally(500), Vec::new())));
        assert!((rounds.conclude().tail().median - 5.0).abs() < 0.05);
    }
}
