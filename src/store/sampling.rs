// Hot path: every postback that is refused passes here, by one atomic addition.
//! Which of the postbacks that make nothing are written down: so many a second of each reason, and
//! so many bytes a day of all together.
//!
//! The day's bytes come in evenly, and what of them is not used for an hour is let go. A quarter of
//! them is split among the reasons, so that each has a share which no other can take; the rest is
//! for whoever comes first.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use crate::limits::{
    INBOUND_BURST_PART, INBOUND_BYTES_PER_SECOND, INBOUND_FULL_PER_SECOND, INBOUND_OWN_PART,
    INBOUND_SAMPLED_ONE_IN,
};
use crate::model::period::MS_PER_DAY;
use crate::model::reasons::Refusal;

/// Reasons, and duplicates.
const KINDS: usize = Refusal::ALL.len() + 1;

/// Which of the postbacks that make nothing are written down.
pub struct Sampling {
    kinds: [Seen; KINDS],
    /// Bytes a day.
    per_day: AtomicU64,
    /// What is for whoever comes first.
    common: Bytes,
    /// When the last second was over, Unix milliseconds; 0 before the first.
    ticked_ms: AtomicU64,
}

/// Of one reason, or duplicates.
#[derive(Default)]
struct Seen {
    /// Since the start.
    all: AtomicU64,
    /// Of these, at the beginning of this second.
    before: AtomicU64,
    /// Written down.
    kept: AtomicU64,
    /// Bytes of these in this second.
    bytes: AtomicU64,
    /// Its share of the day's bytes.
    own: Bytes,
}

/// Bytes that are left; fewer than none where the last row was longer than what was left.
#[derive(Default)]
struct Bytes(AtomicI64);

impl Bytes {
    fn are_left(&self) -> bool {
        self.0.load(Ordering::Relaxed) > 0
    }

    fn take(&self, bytes: i64) {
        self.0.fetch_sub(bytes, Ordering::Relaxed);
    }

    fn add(&self, bytes: i64, most: i64) {
        let added = |left: i64| Some(left.saturating_add(bytes).min(most));
        let _ = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, added);
    }
}

/// What of a day's bytes a bucket gets: parts of a whole.
#[derive(Clone, Copy)]
struct Part {
    of: u64,
    whole: u64,
}

/// The bucket of each reason, and the common one.
const OWN: Part = Part { of: 1, whole: INBOUND_OWN_PART * KINDS as u64 };
const COMMON: Part = Part { of: INBOUND_OWN_PART - 1, whole: INBOUND_OWN_PART };

impl Part {
    /// What has come in from the beginning of time to `ms`: so nothing is lost to rounding,
    /// however often somebody looks.
    fn until(self, ms: u64, per_day: u64) -> u128 {
        let all = u128::from(per_day) * u128::from(ms) * u128::from(self.of);
        all / (u128::from(MS_PER_DAY) * u128::from(self.whole))
    }

    fn between(self, from_ms: u64, to_ms: u64, per_day: u64) -> i64 {
        let came = self.until(to_ms, per_day).saturating_sub(self.until(from_ms, per_day));
        i64::try_from(came).unwrap_or(i64::MAX)
    }

    /// The most that waits to be used.
    fn most(self, per_day: u64) -> i64 {
        self.between(0, MS_PER_DAY / INBOUND_BURST_PART, per_day)
    }
}

impl Sampling {
    /// Writes down so many bytes a day. Nothing was seen yet.
    #[must_use]
    pub fn new(bytes_per_day: u64) -> Self {
        let sampling = Self {
            kinds: std::array::from_fn(|_| Seen::default()),
            per_day: AtomicU64::default(),
            common: Bytes::default(),
            ticked_ms: AtomicU64::default(),
        };
        sampling.set_bytes_per_day(bytes_per_day);
        sampling
    }

    /// From now on writes down so many bytes a day, beginning with an hour's.
    pub fn set_bytes_per_day(&self, bytes: u64) {
        self.per_day.store(bytes, Ordering::Relaxed);
        self.common.0.store(COMMON.most(bytes), Ordering::Relaxed);
        for seen in &self.kinds {
            seen.own.0.store(OWN.most(bytes), Ordering::Relaxed);
        }
    }

    /// Whether one more is written down: refused for `reason`, or else a duplicate.
    pub fn takes(&self, reason: Option<Refusal>) -> bool {
        let seen = self.seen(reason);
        let number = seen.all.fetch_add(1, Ordering::Relaxed);
        let of_second = number.saturating_sub(seen.before.load(Ordering::Relaxed));
        let takes =
            of_second < INBOUND_FULL_PER_SECOND || number.is_multiple_of(INBOUND_SAMPLED_ONE_IN);
        if takes {
            seen.kept.fetch_add(1, Ordering::Relaxed);
        }
        takes
    }

    /// One that was to be written down could not be.
    pub(super) fn missed(&self, reason: Option<Refusal>) {
        self.seen(reason).kept.fetch_sub(1, Ordering::Relaxed);
    }

    /// Whether more bytes may be written down in this second, and on this day.
    pub(super) fn has_room(&self, reason: Option<Refusal>) -> bool {
        let seen = self.seen(reason);
        seen.bytes.load(Ordering::Relaxed) < INBOUND_BYTES_PER_SECOND
            && (seen.own.are_left() || self.common.are_left())
    }

    pub(super) fn wrote(&self, bytes: usize, reason: Option<Refusal>) {
        let seen = self.seen(reason);
        seen.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        let from = if seen.own.are_left() { &seen.own } else { &self.common };
        from.take(i64::try_from(bytes).unwrap_or(i64::MAX));
    }

    /// A second is over; it is `now_ms`. A clock that is set back brings nothing, one that is set
    /// forward an hour's bytes at the most.
    pub(super) fn tick(&self, now_ms: u64) {
        let before_ms = match self.ticked_ms.swap(now_ms, Ordering::Relaxed) {
            0 => now_ms,
            before_ms => before_ms,
        };
        let per_day = self.per_day.load(Ordering::Relaxed);
        let came = |part: Part| part.between(before_ms, now_ms, per_day);
        self.common.add(came(COMMON), COMMON.most(per_day));
        let (own, most) = (came(OWN), OWN.most(per_day));
        for seen in &self.kinds {
            seen.own.add(own, most);
            seen.bytes.store(0, Ordering::Relaxed);
            seen.before.store(seen.all.load(Ordering::Relaxed), Ordering::Relaxed);
        }
    }

    /// How many were not written down since the start: refused ones, duplicates.
    #[must_use]
    pub fn dropped(&self) -> (u64, u64) {
        let left = |seen: &Seen| {
            // In this order: one that comes in between is not dropped.
            let all = seen.all.load(Ordering::Acquire);
            all.saturating_sub(seen.kept.load(Ordering::Relaxed))
        };
        let (duplicates, refused) = self.kinds.split_last().expect("there are kinds");
        (refused.iter().map(left).sum(), left(duplicates))
    }

    fn seen(&self, reason: Option<Refusal>) -> &Seen {
        &self.kinds[reason.map_or(Refusal::ALL.len(), Refusal::index)]
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MIB: u64 = 1 << 20;
    const HOUR_MS: u64 = 60 * 60 * 1000;
    const NOW_MS: u64 = 1_700_000_000_000;

    fn kind(index: usize) -> Option<Refusal> {
        Refusal::ALL.get(index).copied()
    }

    /// One that comes and is written down if it may be; whether it was.
    fn comes(sampling: &Sampling, reason: Option<Refusal>, bytes: usize) -> bool {
        if !sampling.takes(reason) {
            return false;
        }
        let has_room = sampling.has_room(reason);
        if has_room {
            sampling.wrote(bytes, reason);
        } else {
            sampling.missed(reason);
        }
        has_room
    }

    #[test]
    fn each_reason_has_a_budget_of_its_own_and_what_is_beyond_is_sampled_and_counted() {
        let sampling = Sampling::new(1024 * MIB);
        let flood = 10 * INBOUND_SAMPLED_ONE_IN;
        let taken =
            (0..flood).filter(|_| sampling.takes(Some(Refusal::ForgedClickId))).count() as u64;
        // The first of the thousands after the first one.
        assert_eq!(taken, INBOUND_FULL_PER_SECOND + 9);
        assert!(sampling.takes(Some(Refusal::BadToken)), "a rare reason is not hidden");
        assert!(sampling.takes(None));
        assert_eq!(sampling.dropped(), (flood - taken, 0));
        sampling.wrote(INBOUND_BYTES_PER_SECOND as usize, Some(Refusal::BadToken));
        assert!(!sampling.has_room(Some(Refusal::BadToken)), "neither by number nor by size");
        assert!(sampling.has_room(Some(Refusal::BadSignature)));
        sampling.tick(NOW_MS);
        assert!(sampling.has_room(Some(Refusal::BadToken)));
        assert!(sampling.takes(Some(Refusal::ForgedClickId)));
        sampling.missed(Some(Refusal::ForgedClickId));
        assert_eq!(sampling.dropped(), (flood - taken + 1, 0));
    }

    /// Floods with one reason, every second all that it may have, for so many hours; what was
    /// written down of it, bytes.
    fn flood(sampling: &Sampling, reason: Option<Refusal>, from_ms: u64, hours: u64) -> u64 {
        let mut written = 0;
        for second in 0..hours * 3600 {
            sampling.tick(from_ms + second * 1000);
            while sampling.has_room(reason) {
                sampling.wrote(8 << 10, reason);
                written += 8 << 10;
            }
        }
        written
    }

    #[test]
    fn a_flood_of_one_reason_takes_no_other_reasons_share_nor_more_than_its_day() {
        let per_day = 240 * MIB;
        let sampling = Sampling::new(per_day);
        let reason = Some(Refusal::ForgedClickId);
        let first = flood(&sampling, reason, NOW_MS, 24);
        // The common part and its own, a day's and the hour's that was there, and a row beyond.
        let its = per_day / 4 * 3 + per_day / 4 / KINDS as u64;
        let most = its + its / 24;
        assert!((most - 64 * 1024..most + 64 * 1024).contains(&first), "{first} of {most}");
        let last_ms = NOW_MS + 24 * HOUR_MS - 1000;
        sampling.tick(last_ms);
        assert!(!sampling.has_room(reason));
        // Any other has an hour of its share, which is more than a few rows.
        for other in (0..KINDS).map(kind).filter(|other| *other != reason) {
            for _ in 0..9 {
                sampling.tick(last_ms);
                assert!(comes(&sampling, other, 8 << 10), "{other:?}");
            }
        }
        let dropped = sampling.dropped();
        assert!(!comes(&sampling, reason, 100));
        assert_eq!(sampling.dropped(), (dropped.0 + 1, dropped.1), "what is beyond is counted");
        // After a quiet hour it is as at first, and after a quiet day no more.
        for (from_ms, quiet_hours) in [(last_ms, 1), (last_ms + 10 * HOUR_MS, 24)] {
            flood(&sampling, reason, from_ms, 1);
            let again = flood(&sampling, reason, from_ms + (1 + quiet_hours) * HOUR_MS, 1);
            let most = 2 * its / 24;
            assert!((most - 64 * 1024..most + 64 * 1024).contains(&again), "{again} of {most}");
        }
    }

    #[test]
    fn no_bytes_at_all_write_nothing_down_and_very_many_are_no_limit() {
        let none = Sampling::new(0);
        none.tick(NOW_MS);
        none.tick(NOW_MS + HOUR_MS);
        assert!((0..KINDS).all(|index| !comes(&none, kind(index), 100)));
        assert_eq!(none.dropped(), (Refusal::ALL.len() as u64, 1));
        let all = Sampling::new(u64::MAX);
        for second in 0..100 {
            all.tick(NOW_MS + second * 1000);
            assert!((0..KINDS).all(|index| comes(&all, kind(index), 32 << 10)));
        }
    }

    #[test]
    fn little_a_day_comes_in_however_often_somebody_looks() {
        let sampling = Sampling::new(MIB);
        let reason = Some(Refusal::BadToken);
        sampling.tick(NOW_MS);
        while sampling.has_room(reason) {
            sampling.wrote(1000, reason);
            sampling.tick(NOW_MS);
        }
        // Its share is a byte in eleven seconds.
        let own = || sampling.seen(reason).own.0.load(Ordering::Relaxed);
        let before = own();
        (0..=3600).for_each(|second| sampling.tick(NOW_MS + second * 1000));
        assert_eq!(own() - before, OWN.between(NOW_MS, NOW_MS + HOUR_MS, MIB));
        assert!(own() > before);
    }

    proptest! {
        /// Whatever comes when, in rows of whatever length, under whatever clock: no more bytes
        /// than the time gives, and an hour's, and a row for each bucket.
        #[test]
        fn no_more_is_written_down_than_the_day_has(
            per_day in 0..64 * MIB,
            steps in prop::collection::vec((0..KINDS, 1..9000_usize, -2000..HOUR_MS as i64), 1..400),
        ) {
            let sampling = Sampling::new(per_day);
            let (mut now_ms, mut forward_ms, mut written) = (NOW_MS, 0_u64, 0_u64);
            sampling.tick(now_ms);
            for (index, bytes, step_ms) in steps {
                if step_ms % 3 == 0 {
                    now_ms = now_ms.saturating_add_signed(step_ms);
                    forward_ms += u64::try_from(step_ms).unwrap_or(0);
                    sampling.tick(now_ms);
                }
                for _ in 0..20 {
                    written += if comes(&sampling, kind(index), bytes) { bytes as u64 } else { 0 };
                }
                let most = u128::from(per_day) * u128::from(forward_ms + HOUR_MS) / u128::from(MS_PER_DAY);
                let rows = (KINDS as u64 + 1) * 9000;
                prop_assert!(u128::from(written) <= most + u128::from(rows));
            }
        }
    }
}
