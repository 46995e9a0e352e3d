// Pure: no clock, no randomness, no I/O.
//! The time that retention goes by. What is let go is gone for good, and with a conversion goes what
//! makes it count once, so a clock that jumps ahead must not decide that alone.

use crate::limits::{
    RETENTION_BELIEVES_MS, RETENTION_CATCHES_UP, RETENTION_DOUBTS_MS, RETENTION_YIELDS_MS,
};

/// A time that goes on as time passes, and follows the clock where that is near. A clock that is not
/// has to stay so for a day of serving; then this time goes back to it at once, or after it by a day
/// an hour, and after ten days at once. It stands still while no server runs, so a clock is not
/// believed for being asked often.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetentionTime {
    /// Unix milliseconds.
    ms: u64,
    /// For how long the clock was elsewhere, on one side, milliseconds of serving.
    doubted_ms: u64,
    /// Whether that was behind.
    is_behind: bool,
    /// By how much the clock was ahead when it was last looked at, and not believed.
    disbelieved_ms: u64,
}

impl RetentionTime {
    /// A time that is believed.
    pub const fn at(ms: u64) -> Self {
        Self { ms, doubted_ms: 0, is_behind: false, disbelieved_ms: 0 }
    }

    /// This time when so much has passed and the clock shows `clock_ms`.
    pub fn later(self, clock_ms: u64, passed_ms: u64) -> Self {
        let expected_ms = self.ms.saturating_add(passed_ms);
        if clock_ms.abs_diff(expected_ms) <= RETENTION_BELIEVES_MS {
            return Self::at(clock_ms);
        }
        let is_behind = clock_ms < expected_ms;
        // A clock that was wrong on one side is no witness for itself on the other.
        let before_ms = if is_behind == self.is_behind { self.doubted_ms } else { 0 };
        let doubted_ms = before_ms.saturating_add(passed_ms);
        let faster_ms = match doubted_ms {
            ..RETENTION_DOUBTS_MS => 0,
            RETENTION_YIELDS_MS.. => return Self::at(clock_ms),
            _ if is_behind => return Self::at(clock_ms),
            _ => passed_ms.saturating_mul(RETENTION_CATCHES_UP),
        };
        // One that is behind is no bound yet: it may be wrong, and corrected.
        let ms = expected_ms.saturating_add(faster_ms).min(clock_ms.max(expected_ms));
        Self { ms, doubted_ms, is_behind, disbelieved_ms: clock_ms.saturating_sub(ms) }
    }

    /// The time by which records are old: never one that the clock has still to reach.
    pub fn of_cut_offs(&self, clock_ms: u64) -> u64 {
        self.ms.min(clock_ms)
    }

    /// By how much the clock was ahead and not believed, milliseconds.
    pub const fn disbelieved_ms(&self) -> u64 {
        self.disbelieved_ms
    }

    /// The last bit of the milliseconds says on which side: builds that do not know it read a time
    /// that is a millisecond off, and what they have written is a side by chance.
    pub fn encode(&self) -> [u8; 16] {
        let doubted = self.doubted_ms & !1 | u64::from(self.is_behind);
        (u128::from(self.ms) << 64 | u128::from(doubted)).to_be_bytes()
    }

    pub fn decode(bytes: [u8; 16]) -> Self {
        let both = u128::from_be_bytes(bytes);
        // What was kept is looked at beside the clock before it is used.
        let doubted = both as u64;
        let (doubted_ms, is_behind) = (doubted & !1, doubted & 1 == 1);
        Self { ms: (both >> 64) as u64, doubted_ms, is_behind, disbelieved_ms: 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: u64 = 60 * 60 * 1000;
    const DAY: u64 = 24 * HOUR;
    const NOW: u64 = 20_000 * DAY;

    /// What hourly looks at a clock that is off by so many milliseconds make of a time, hour by hour.
    fn hours(mut time: RetentionTime, now: u64, off: i64) -> impl Iterator<Item = RetentionTime> {
        (1..).map(move |hour| {
            time = time.later((now + hour * HOUR).saturating_add_signed(off), HOUR);
            time
        })
    }

    fn after(count: usize, off: u64) -> RetentionTime {
        let off = i64::try_from(off).expect("small");
        hours(RetentionTime::at(NOW), NOW, off).nth(count - 1).expect("endless")
    }

    #[test]
    fn a_clock_that_jumps_ahead_is_not_believed_for_a_day() {
        for days in [1, 90, 400, 10_000] {
            let day = after(23, days * DAY);
            assert_eq!((day.ms, day.disbelieved_ms), (NOW + 23 * HOUR, days * DAY), "{days}");
            // Then by a day an hour, so that what is too much can still be stopped.
            let next = after(24, days * DAY);
            assert_eq!(next.ms, NOW + 24 * HOUR + DAY.min(days * DAY), "{days}");
        }
        let caught_up = after(24 + 31, 30 * DAY);
        assert_eq!(caught_up, RetentionTime::at(NOW + 55 * HOUR + 30 * DAY));
        // A store that was made in 1970, by its clock, is not of that year for ever.
        let (before, yielded) = (after(10 * 24 - 1, 20_000 * DAY), after(10 * 24, 20_000 * DAY));
        assert_eq!(before.ms, NOW + (10 * 24 - 1) * HOUR + (9 * 24) * DAY);
        assert_eq!(yielded, RetentionTime::at(NOW + 20_010 * DAY));
    }

    #[test]
    fn a_clock_that_was_ahead_for_less_than_a_day_leaves_nothing_behind() {
        let mut time = after(23, 400 * DAY);
        time = time.later(NOW + 24 * HOUR, HOUR);
        assert_eq!(time, RetentionTime::at(NOW + 24 * HOUR));
    }

    #[test]
    fn a_clock_that_was_behind_is_not_believed_sooner_when_it_is_ahead() {
        let day = i64::try_from(DAY).expect("small");
        let mut time = hours(RetentionTime::at(NOW), NOW, -400 * day).nth(22).expect("endless");
        for hour in 24..47 {
            // Kept each time, as over a restart.
            time = RetentionTime::decode(time.encode());
            time = time.later(NOW + hour * HOUR + 400 * DAY, HOUR);
            assert_eq!(time.ms, NOW + hour * HOUR, "{hour}");
        }
        time = time.later(NOW + 47 * HOUR + 400 * DAY, HOUR);
        assert_eq!(time.ms, NOW + 47 * HOUR + DAY, "it has been ahead for a day");
        // Nor the other way round.
        let mut time = after(23, 400 * DAY);
        for hour in 24..47 {
            time = time.later(5, HOUR);
            assert_eq!(time.ms, NOW + hour * HOUR, "{hour}");
        }
        assert_eq!(time.later(5, HOUR), RetentionTime::at(5));
    }

    #[test]
    fn starts_do_not_make_a_clock_believed() {
        let mut time = RetentionTime::at(NOW);
        for start in 0..1000 {
            time = RetentionTime::decode(time.later(NOW + 400 * DAY + start, 0).encode());
        }
        assert_eq!(time, RetentionTime::at(NOW));
    }

    #[test]
    fn a_small_step_of_the_clock_is_followed_at_once() {
        for off in [-(RETENTION_BELIEVES_MS as i64), -1, 0, 1, RETENTION_BELIEVES_MS as i64] {
            let clock = (NOW + HOUR).saturating_add_signed(off);
            let time = RetentionTime::at(NOW).later(clock, HOUR);
            assert_eq!(time, RetentionTime::at(clock), "{off}");
        }
    }

    #[test]
    fn a_clock_that_is_behind_is_the_one_by_which_records_are_old_and_its_correction_is_believed() {
        let behind = RetentionTime::at(NOW).later(5, HOUR);
        assert_eq!((behind.of_cut_offs(5), behind.disbelieved_ms()), (5, 0));
        let corrected = behind.later(NOW + 2 * HOUR, HOUR);
        assert_eq!(corrected, RetentionTime::at(NOW + 2 * HOUR));
        // A store that was first opened under a clock that was ahead gets over it.
        let mut times = hours(RetentionTime::at(NOW + 400 * DAY), NOW, 0);
        assert_eq!(times.nth(23), Some(RetentionTime::at(NOW + DAY)));
    }

    #[test]
    fn what_is_kept_is_read_back_and_no_number_is_too_large() {
        let time = |ms, doubted_ms, is_behind| RetentionTime {
            ms,
            doubted_ms,
            is_behind,
            disbelieved_ms: 0,
        };
        for time in [time(u64::MAX, u64::MAX - 1, false), time(1, 2, true), time(0, 0, true)] {
            assert_eq!(RetentionTime::decode(time.encode()), time);
        }
        let kept = time(0x0102, 0x0304, true).encode();
        assert_eq!(kept, [0, 0, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 0, 0, 3, 5], "a store format");
        let odd = time(1, 23 * HOUR + 1, false);
        assert_eq!(RetentionTime::decode(odd.encode()), time(1, 23 * HOUR, false));
        let time = time(u64::MAX, u64::MAX - 1, false);
        let last = time.later(0, u64::MAX).later(u64::MAX, u64::MAX);
        assert_eq!(last, RetentionTime::at(u64::MAX));
    }
}
