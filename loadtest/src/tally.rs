//! What one run counted.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

/// Shortest and longest latency told apart; three digits in between.
const LATENCY_NS_MIN: u64 = 1_000;
const LATENCY_NS_MAX: u64 = 60_000_000_000;

/// Statuses below this are counted one by one.
const STATUS_MAX: usize = 600;

/// Counts and latencies of the measured window, and losses of the whole run.
#[derive(Clone, Debug)]
pub struct Tally {
    pub window: Duration,
    /// Answers within the window, as the scenario wants them.
    pub expected: u64,
    /// Answers within the window that the scenario did not want.
    pub unexpected: u64,
    /// Requests whose connection died before the answer, or that were not answered in time.
    pub lost: u64,
    /// Open loop: arrivals that found the waiting queue full.
    pub dropped: u64,
    /// Open loop: arrivals within the window that found nothing to send.
    pub unused: u64,
    pub reconnects: u64,
    statuses: Vec<u64>,
    pub latency: Histogram<u64>,
    /// Sales taken back meanwhile, which are counted apart.
    pub changes: Option<Box<Tally>>,
}

impl Tally {
    /// Nothing counted yet.
    pub fn new(window: Duration) -> Self {
        Self {
            window,
            expected: 0,
            unexpected: 0,
            lost: 0,
            dropped: 0,
            unused: 0,
            reconnects: 0,
            statuses: vec![0; STATUS_MAX],
            latency: latency_histogram(),
            changes: None,
        }
    }

    /// Counts one answer within the window.
    pub fn answered(&mut self, status: u16, expected: bool, latency_ns: u64) {
        *if expected { &mut self.expected } else { &mut self.unexpected } += 1;
        if let Some(count) = self.statuses.get_mut(usize::from(status)) {
            *count += 1;
        }
        self.latency.saturating_record(latency_ns);
    }

    /// Adds what another thread counted in the same window.
    pub fn merge(&mut self, other: &Self) {
        self.expected += other.expected;
        self.unexpected += other.unexpected;
        self.lost += other.lost;
        self.dropped += other.dropped;
        self.unused += other.unused;
        self.reconnects += other.reconnects;
        for (own, add) in self.statuses.iter_mut().zip(&other.statuses) {
            *own += add;
        }
        self.latency.add(&other.latency).expect("all latency histograms have the same range");
    }

    /// Requests that came to anything but a wanted answer.
    pub fn failures(&self) -> u64 {
        let changes = self.changes.as_ref().map_or(0, |changes| changes.failures());
        self.unexpected + self.lost + self.dropped + changes
    }

    /// Wanted answers a second.
    pub fn rate(&self) -> f64 {
        self.expected as f64 / self.window.as_secs_f64().max(f64::MIN_POSITIVE)
    }

    /// How often each status was seen.
    pub fn statuses(&self) -> BTreeMap<usize, u64> {
        self.statuses.iter().copied().enumerate().filter(|(_, count)| *count > 0).collect()
    }
}

/// What came back, as reports tell it.
#[derive(Clone, Debug, Serialize)]
pub struct Answers {
    pub expected: u64,
    pub unexpected: u64,
    pub lost: u64,
    pub dropped: u64,
    pub unused: u64,
    pub statuses: BTreeMap<usize, u64>,
    pub latency: Percentiles,
}

impl Answers {
    /// Of one tally.
    pub fn of(tally: &Tally) -> Self {
        Self {
            expected: tally.expected,
            unexpected: tally.unexpected,
            lost: tally.lost,
            dropped: tally.dropped,
            unused: tally.unused,
            statuses: tally.statuses(),
            latency: Percentiles::of(&tally.latency),
        }
    }

    /// As those of changes: how often there was no sale to take back, and what was answered.
    pub fn of_changes(&self) -> String {
        let Self { unused, statuses, .. } = self;
        format!("changes: {self}, {unused} found no sale; statuses {statuses:?}")
    }
}

impl fmt::Display for Answers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { expected, unexpected, lost, dropped, .. } = self;
        write!(f, "{expected} as wanted, {unexpected} otherwise; {lost} lost, {dropped} dropped")
    }
}

/// An empty histogram of nanoseconds, one microsecond to one minute.
pub fn latency_histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(LATENCY_NS_MIN, LATENCY_NS_MAX, 3)
        .expect("constant bounds are valid")
}

/// Percentiles in microseconds, and the curve they lie on.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Percentiles {
    pub count: u64,
    pub p50_us: f64,
    pub p99_us: f64,
    pub p999_us: f64,
    pub max_us: f64,
    /// Pairs of (share of requests not slower, microseconds).
    pub curve: Vec<(f64, f64)>,
}

impl Percentiles {
    /// The usual ones in a line.
    pub fn to_text(&self) -> String {
        let Self { p50_us, p99_us, p999_us, max_us, .. } = self;
        format!("p50 {p50_us:.0} µs, p99 {p99_us:.0} µs, p99.9 {p999_us:.0} µs, max {max_us:.0} µs")
    }

    /// Reads the usual percentiles off a histogram of nanoseconds.
    pub fn of(histogram: &Histogram<u64>) -> Self {
        if histogram.is_empty() {
            return Self::default();
        }
        let at = |quantile| histogram.value_at_quantile(quantile) as f64 / 1000.0;
        // Quarter steps of nines: 0, 43.8 %, 68.4 %, … 90 %, … 99.999 %, as far as the count carries.
        let steps = (0..=20).map(|step| 1.0 - 10f64.powf(-f64::from(step) / 4.0));
        let carried = steps.take_while(|q| (1.0 - q) * histogram.len() as f64 >= 1.0);
        Self {
            count: histogram.len(),
            p50_us: at(0.5),
            p99_us: at(0.99),
            p999_us: at(0.999),
            max_us: histogram.max() as f64 / 1000.0,
            curve: carried.map(|q| (q, at(q))).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_counts_add_up() {
        let window = Duration::from_secs(2);
        let (mut a, mut b) = (Tally::new(window), Tally::new(window));
        a.answered(200, true, 5_000);
        b.answered(404, false, 7_000);
        b.answered(200, true, 9_000);
        a.merge(&b);
        assert_eq!((a.expected, a.unexpected, a.latency.len()), (2, 1, 3));
        assert_eq!(a.statuses(), BTreeMap::from([(200, 2), (404, 1)]));
        assert!((a.rate() - 1.0).abs() < 1e-9);
    }

    #[test]
    fn a_curve_ends_where_the_count_no_longer_carries_it() {
        let mut histogram = latency_histogram();
        (1..=1000).for_each(|us| histogram.saturating_record(us * 1000));
        let found = Percentiles::of(&histogram);
        assert!((found.p50_us - 500.0).abs() < 1.0, "{found:?}");
        assert!(found.curve.last().expect("a point").0 <= 0.999 + 1e-9);
        assert!(Percentiles::of(&latency_histogram()).curve.is_empty());
    }
}
