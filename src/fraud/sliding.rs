// Hot path of offers with fraud rules: pure. No clock, no allocation.
//! Counts over a time that slides, in slices: what is older than the whole time is never counted,
//! and of what is younger, at most one slice is not any more.

/// Slices of the time. The more, the closer to the exact count, and the larger.
pub const SLICES: usize = 8;

/// How long one slice of a period is, milliseconds.
#[must_use]
pub fn slice_ms(period_ms: u64) -> u64 {
    (period_ms / SLICES as u64).max(1)
}

/// `N` counts over the same time. A slice is known by its number: the time by its length.
#[derive(Clone, Copy, Debug)]
pub struct Sliding<const N: usize> {
    newest: u64,
    counts: [[u32; SLICES]; N],
}

impl<const N: usize> Default for Sliding<N> {
    fn default() -> Self {
        Self { newest: 0, counts: [[0; SLICES]; N] }
    }
}

impl<const N: usize> Sliding<N> {
    /// Counts one in a slice. A clock that is set back counts in the newest, or anew if that is
    /// further ahead than the whole time: else nothing would slide until it has caught up.
    pub fn add(&mut self, which: usize, slice: u64) {
        if self.is_ahead_of(slice) {
            *self = Self::default();
        }
        self.advance(slice);
        let count = &mut self.counts[which][place(self.newest)];
        *count = count.saturating_add(1);
    }

    /// What is counted in a slice and those before it that belong to the time.
    #[must_use]
    pub fn sum(&self, which: usize, slice: u64) -> u64 {
        if self.is_ahead_of(slice) {
            return 0;
        }
        let gone = slice.saturating_sub(self.newest);
        let left = (SLICES as u64).saturating_sub(gone);
        let ages = (0..left).filter(|age| *age <= self.newest);
        ages.map(|age| u64::from(self.counts[which][place(self.newest - age)])).sum()
    }

    /// Whether the clock was set back by more than the whole time since something was counted.
    #[must_use]
    pub const fn is_ahead_of(&self, slice: u64) -> bool {
        self.newest > slice.saturating_add(SLICES as u64)
    }

    fn advance(&mut self, slice: u64) {
        let ahead = slice.saturating_sub(self.newest).min(SLICES as u64);
        for n in 0..ahead {
            self.counts.iter_mut().for_each(|counts| counts[place(slice - n)] = 0);
        }
        self.newest = self.newest.max(slice);
    }
}

const fn place(slice: u64) -> usize {
    (slice % SLICES as u64) as usize
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Against a list of all moments: exact by slices, and between the counts of the whole
        /// time and of the time less a slice.
        #[test]
        fn a_count_is_what_a_list_of_all_moments_says(
            period_ms in 8..5_000_u64,
            steps in prop::collection::vec((0..2_000_u64, 0..2_usize), 1..200),
            later in 0..6_000_u64,
        ) {
            let slice = |time_ms: u64| time_ms / slice_ms(period_ms);
            let (mut sliding, mut all) = (Sliding::<2>::default(), Vec::new());
            let mut now_ms = 0;
            for (step, which) in steps {
                now_ms += step;
                sliding.add(which, slice(now_ms));
                all.push((now_ms, which));
                for now_ms in [now_ms, now_ms + later] {
                    for which in 0..2 {
                        let own = all.iter().filter(|(_, one)| *one == which);
                        let within = |span_ms: u64| {
                            own.clone().filter(|(at, _)| *at + span_ms > now_ms).count() as u64
                        };
                        let by_slices = own.clone()
                            .filter(|(at, _)| slice(*at) + SLICES as u64 > slice(now_ms));
                        let sum = sliding.sum(which, slice(now_ms));
                        prop_assert_eq!(sum, by_slices.count() as u64);
                        let (whole, slice) = (SLICES as u64 * slice_ms(period_ms), slice_ms(period_ms));
                        prop_assert!(sum <= within(whole) && sum >= within(whole - slice));
                    }
                }
            }
        }

        #[test]
        fn no_clock_makes_it_panic_or_forget_what_is_new(times: Vec<u64>) {
            let mut sliding = Sliding::<1>::default();
            for time in &times {
                sliding.add(0, *time);
                let newest = times.iter().max().copied().unwrap_or_default();
                prop_assert!(sliding.sum(0, *time) >= 1);
                let _ = (sliding.sum(0, newest), sliding.sum(0, 0), sliding.sum(0, u64::MAX));
            }
        }
    }

    #[test]
    fn a_count_does_not_wrap() {
        let mut sliding = Sliding { newest: 9, counts: [[u32::MAX; SLICES]] };
        sliding.add(0, 9);
        assert_eq!(sliding.sum(0, 9), u64::from(u32::MAX) * SLICES as u64);
    }
}
