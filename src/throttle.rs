// Hot path where a rate limit is set: one lock for a few instructions, no allocation once in use.
//! Who sends too much. Counted is what was let through, in a table of fixed size that begins anew
//! with the process: a sender over its limit is not punished for trying again, and what the table
//! forgets is let through.

use std::net::IpAddr;

use xxhash_rust::xxh3::Xxh3;

use crate::fraud::{Kept, SLICES, Sliding, Table, slice_ms};
use crate::limits::THROTTLED_SOURCES_MAX;
use crate::model::rate_limit::RateLimit;

/// Whose requests are counted together; two kinds never share a count.
#[derive(Clone, Copy, Debug)]
pub enum Source<'a> {
    /// Clicks of an address.
    Clicks(IpAddr),
    /// Postbacks of an address.
    Postbacks(IpAddr),
    /// Postbacks of an advertiser, by its ID.
    Advertiser(&'a str),
}

/// Seconds after which a source has room again, if nobody else takes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryAfter(pub u32);

/// What one address stands for: itself, or of IPv6 the /64 that one host is free to use.
#[must_use]
pub fn source(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6((v6.to_bits() >> 64 << 64).into()),
        v4 => v4,
    }
}

/// What a source was let through.
#[derive(Default)]
struct Passed {
    slice_ms: u64,
    requests: Sliding<1>,
}

impl Kept for Passed {
    fn worth(&self, now_ms: u64) -> u64 {
        now_ms.checked_div(self.slice_ms).map_or(0, |slice| self.requests.sum(0, slice))
    }
}

/// Counts for all rate limits.
pub struct Throttle {
    seed: u64,
    sources: Table<Passed>,
}

impl Throttle {
    /// Nothing is counted yet. `seed` is the process's own, so that nobody can choose addresses
    /// that share a place.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self { seed, sources: Table::new(THROTTLED_SOURCES_MAX) }
    }

    /// Lets one more of a source through and counts it.
    ///
    /// # Errors
    /// When the source has had what its limit gives it.
    pub fn pass(
        &self,
        source: Source<'_>,
        limit: RateLimit,
        now_ms: u64,
    ) -> Result<(), RetryAfter> {
        let slice_ms = slice_ms(limit.period_ms);
        let slice = now_ms / slice_ms;
        self.sources.with(self.key(source), now_ms, |own| {
            if own.slice_ms != slice_ms {
                // New, or under another limit than before.
                *own = Passed { slice_ms, ..Passed::default() };
            }
            let has_room = |slice| own.requests.sum(0, slice) < limit.count;
            if has_room(slice) {
                own.requests.add(0, slice);
                return Ok(());
            }
            let last = slice + SLICES as u64;
            let free = (slice + 1..last).find(|slice| has_room(*slice)).unwrap_or(last);
            let wait_ms = (free * slice_ms).saturating_sub(now_ms);
            Err(RetryAfter(u32::try_from(wait_ms.div_ceil(1000)).unwrap_or(u32::MAX).max(1)))
        })
    }

    fn key(&self, source: Source<'_>) -> u64 {
        let mut hash = Xxh3::with_seed(self.seed);
        let mut address = |kind: u8, address| {
            hash.update(&[kind]);
            match self::source(address) {
                IpAddr::V4(v4) => hash.update(&v4.octets()),
                IpAddr::V6(v6) => hash.update(&v6.octets()),
            }
        };
        match source {
            Source::Clicks(ip) => address(1, ip),
            Source::Postbacks(ip) => address(2, ip),
            Source::Advertiser(id) => {
                hash.update(&[3]);
                hash.update(id.as_bytes());
            }
        }
        hash.digest()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: u64 = 1000;

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    fn limit(count: u64, period_ms: u64) -> RateLimit {
        RateLimit { count, period_ms }
    }

    #[test]
    fn a_source_is_an_address_or_the_64_that_a_host_is_free_to_use() {
        let check = |address: &str, expected: &str| assert_eq!(source(ip(address)), ip(expected));
        check("203.0.113.7", "203.0.113.7");
        check("::ffff:203.0.113.7", "203.0.113.7");
        check("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::");
        check("2001:db8:1:2:ffff:ffff:ffff:ffff", "2001:db8:1:2::");
    }

    #[test]
    fn a_source_has_its_count_and_then_waits_for_the_oldest_to_leave() {
        let throttle = Throttle::new(1);
        let pass =
            |now_ms| throttle.pass(Source::Clicks(ip("10.0.0.1")), limit(3, 8 * SECOND), now_ms);
        for now_ms in [80_000, 80_500, 85_000] {
            assert_eq!(pass(now_ms), Ok(()));
        }
        // Two of the three leave when the eighth slice after theirs begins.
        assert_eq!(pass(85_100), Err(RetryAfter(3)));
        assert_eq!(pass(87_999), Err(RetryAfter(1)));
        for now_ms in [88_000, 88_000] {
            assert_eq!(pass(now_ms), Ok(()), "what was refused is not counted");
        }
        assert_eq!(pass(88_000), Err(RetryAfter(5)));
    }

    #[test]
    fn sources_do_not_share_what_they_have() {
        let throttle = Throttle::new(1);
        let pass = |source| throttle.pass(source, limit(1, SECOND), 5 * SECOND);
        let (one, other) = (ip("10.0.0.1"), ip("10.0.0.2"));
        let all = [
            Source::Clicks(one),
            Source::Postbacks(one),
            Source::Clicks(other),
            Source::Advertiser("acme"),
            Source::Advertiser("acme2"),
            Source::Clicks(ip("2001:db8::1")),
        ];
        for source in all {
            assert_eq!(pass(source), Ok(()), "{source:?}");
        }
        for source in all.into_iter().chain([Source::Clicks(ip("2001:db8::2"))]) {
            assert_eq!(pass(source), Err(RetryAfter(1)), "{source:?}");
        }
    }

    #[test]
    fn a_clock_that_is_set_back_locks_nobody_out() {
        let throttle = Throttle::new(1);
        let pass = |now_ms| throttle.pass(Source::Advertiser("a"), limit(1, SECOND), now_ms);
        let (before, hour) = (10_000 * SECOND, 3600 * SECOND);
        assert_eq!(pass(before), Ok(()));
        assert_eq!(pass(before), Err(RetryAfter(1)));
        assert_eq!(pass(before - hour), Ok(()));
        assert_eq!(pass(before - hour), Err(RetryAfter(1)));
        assert_eq!(pass(before), Ok(()));
    }

    proptest! {
        /// Whatever comes when: never more than the limit in seven eighths of the period, and a
        /// refusal says when there is room.
        #[test]
        fn nobody_passes_more_than_the_limit(
            count in 1..20_u64,
            steps in prop::collection::vec(0..700_u64, 1..300),
        ) {
            let (throttle, limit) = (Throttle::new(1), limit(count, 8 * SECOND));
            let (mut now_ms, mut passed) = (1_000_000, Vec::new());
            for step in steps {
                now_ms += step;
                match throttle.pass(Source::Clicks(ip("10.0.0.1")), limit, now_ms) {
                    Ok(()) => passed.push(now_ms),
                    Err(RetryAfter(seconds)) => {
                        let later = now_ms + u64::from(seconds) * SECOND;
                        let left = passed.iter().filter(|at| **at / SECOND + 8 > later / SECOND);
                        prop_assert!((left.count() as u64) < count);
                    }
                }
                let lately = passed.iter().filter(|at| **at + 7 * SECOND > now_ms).count();
                prop_assert!(lately as u64 <= count);
            }
        }
    }
}
