//! When requests are due: as fast as answers come, or at a constant rate whatever comes.

use std::num::NonZeroU64;

/// How requests follow each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// Every connection sends its next request when the last one is answered.
    Closed,
    /// So many arrivals a second over all connections, answered or not.
    Open { rate: NonZeroU64 },
}

/// The arrivals of an open loop, in nanoseconds since the run began.
///
/// Latency counts from the instant a request was *due*, so a stalled server cannot hide behind
/// the requests that its stall kept from being sent.
#[derive(Clone, Debug)]
pub struct Schedule {
    rate: u64,
    end_ns: u64,
    backlog_max: u64,
    /// Arrivals already sent or dropped.
    taken: u64,
    dropped: u64,
}

impl Schedule {
    /// Arrivals at `rate` a second from 0 until `end_ns`, of which at most `backlog_max` wait.
    pub const fn new(rate: NonZeroU64, end_ns: u64, backlog_max: u64) -> Self {
        Self { rate: rate.get(), end_ns, backlog_max, taken: 0, dropped: 0 }
    }

    /// When arrival number `index` is due.
    const fn due_ns(&self, index: u64) -> u64 {
        (index as u128 * 1_000_000_000 / self.rate as u128) as u64
    }

    /// Takes the oldest arrival that is due at `now_ns`, and answers when it was due.
    pub fn take(&mut self, now_ns: u64) -> Option<u64> {
        let due = self.due_ns(self.taken);
        if due > now_ns || due >= self.end_ns {
            return None;
        }
        self.taken += 1;
        Some(due)
    }

    /// Drops the oldest waiting arrivals beyond the limit; each is counted as never answered.
    pub fn shed(&mut self, now_ns: u64) {
        let arrived =
            (u128::from(now_ns.min(self.end_ns)) * u128::from(self.rate) / 1_000_000_000) as u64;
        let excess = arrived.saturating_sub(self.taken).saturating_sub(self.backlog_max);
        self.taken += excess;
        self.dropped += excess;
    }

    /// How long until the next arrival; `None` when there is none to come.
    pub fn wait_ns(&self, now_ns: u64) -> Option<u64> {
        let due = self.due_ns(self.taken);
        (due < self.end_ns).then(|| due.saturating_sub(now_ns))
    }

    /// Arrivals that found the queue full.
    pub const fn dropped(&self) -> u64 {
        self.dropped
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    fn schedule(rate: u64, end_ms: u64, backlog_max: u64) -> Schedule {
        Schedule::new(NonZeroU64::new(rate).expect("a rate"), end_ms * MS, backlog_max)
    }

    #[test]
    fn arrivals_keep_their_due_times_however_late_they_are_taken() {
        let mut arrivals = schedule(1000, 10, 100);
        assert_eq!(arrivals.take(0), Some(0));
        assert_eq!(arrivals.take(0), None);
        assert_eq!(arrivals.wait_ns(400_000), Some(600_000));
        // The server stalled until 4 ms: the requests of 1 to 4 ms go out late, their clocks do not.
        let late: Vec<_> = std::iter::from_fn(|| arrivals.take(4 * MS)).collect();
        assert_eq!(late, [MS, 2 * MS, 3 * MS, 4 * MS]);
        let waits: Vec<_> = late.iter().map(|due| 4 * MS - due).collect();
        assert_eq!(waits, [3 * MS, 2 * MS, MS, 0]);
    }

    #[test]
    fn a_rate_that_does_not_divide_a_second_does_not_drift() {
        let mut arrivals = schedule(3, 3000, 100);
        let all: Vec<_> = std::iter::from_fn(|| arrivals.take(u64::MAX)).collect();
        assert_eq!(all.len(), 9);
        assert_eq!(all[3], 1_000_000_000);
        assert_eq!(all[6], 2_000_000_000);
    }

    #[test]
    fn the_end_of_the_run_ends_the_arrivals() {
        let mut arrivals = schedule(1000, 2, 100);
        assert_eq!(std::iter::from_fn(|| arrivals.take(60 * MS)).count(), 2);
        assert_eq!(arrivals.wait_ns(0), None);
    }

    #[test]
    fn a_full_queue_drops_the_oldest_and_says_how_many() {
        let mut arrivals = schedule(1000, 100, 10);
        arrivals.shed(5 * MS);
        assert_eq!(arrivals.dropped(), 0);
        arrivals.shed(50 * MS);
        assert_eq!(arrivals.dropped(), 40);
        assert_eq!(arrivals.take(50 * MS), Some(40 * MS));
    }
}
