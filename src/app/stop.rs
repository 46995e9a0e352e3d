//! How long a stop may take, and the end of one that would take longer.

use std::time::{Duration, Instant};

use crate::limits::{BACKGROUND_END_MAX, LAST_WORDS_MAX, STORE_CLOSE_TIME};

/// A stop that has begun: a disk that hangs keeps threads waiting that nobody can wake, so that
/// no part of it can be relied on to end.
pub(super) struct Stop {
    requests_until: Instant,
    over_at: Instant,
}

impl Stop {
    /// Begins. `overdue` is called when the deadline has passed and the process has not ended.
    pub(super) fn begin(deadline: Duration, overdue: fn()) -> Self {
        let begun = Instant::now();
        let (for_requests, whole) = split(deadline);
        let over_at = begun + whole;
        let watch = move || {
            std::thread::sleep(over_at - begun);
            tracing::error!(
                seconds = whole.as_secs_f64(),
                "the drain deadline has passed and the store is not closed: the disk hangs, or a \
                 start was still at work; what it has not confirmed was not acknowledged"
            );
            std::thread::sleep(LAST_WORDS_MAX);
            overdue();
        };
        if let Err(error) = std::thread::Builder::new().name("deadline".into()).spawn(watch) {
            tracing::warn!(%error, "nobody watches the drain deadline");
        }
        Self { requests_until: begun + for_requests, over_at }
    }

    /// How much longer requests under way may take.
    pub(super) fn left_for_requests(&self) -> Duration {
        self.requests_until.saturating_duration_since(Instant::now())
    }

    /// How much longer tasks beside the traffic may take.
    pub(super) fn left_for_background(&self) -> Duration {
        let left = self.over_at.saturating_duration_since(Instant::now());
        BACKGROUND_END_MAX.min(left / 2)
    }
}

/// What of a deadline is for requests, and how long the whole stop may take.
fn split(deadline: Duration) -> (Duration, Duration) {
    (deadline - STORE_CLOSE_TIME.min(deadline / 2), deadline.max(STORE_CLOSE_TIME))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_store_has_time_left_however_long_requests_take() {
        let check = |deadline_ms, requests_ms, whole_ms| {
            let (requests, whole) = split(Duration::from_millis(deadline_ms));
            assert_eq!((requests.as_millis(), whole.as_millis()), (requests_ms, whole_ms));
        };
        check(10_000, 8_000, 10_000);
        check(4_000, 2_000, 4_000);
        check(3_000, 1_500, 3_000);
        check(100, 50, 2_000);
    }
}
