//! Events that may be repeated, where some were refused and judged again later: two of a click are
//! the same if they were received less than the window apart, whichever was judged first.
//!
//! Of those that are judged as they come, the newest is the one received last, and it answers for
//! all. One that is judged again is newer than others that were received after it. So memory marks
//! it, and whoever finds it in the claim asks its record when it was received; and if by that it is
//! another one, looks through all conversions of the click, as one that is judged again does itself.

use super::cache::{Known, Original};
use crate::click_id::RecordId;
use crate::limits::TRACE_CONVERSIONS_MAX;
use crate::model::status::Status;
use crate::store::claim::Claim;
use crate::store::keys::Subject;
use crate::store::records::RecordError;
use crate::store::{ReadError, Store};

/// When what claims was received, Unix milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Receipt {
    /// Just now.
    Now(u64),
    /// Long ago. What came later may be known by now.
    Past {
        /// When.
        ms: u64,
        /// The very same may have been sent at most so much earlier or later, milliseconds.
        again_within_ms: u64,
    },
}

impl Receipt {
    /// When, Unix milliseconds.
    #[must_use]
    pub const fn ms(self) -> u64 {
        match self {
            Self::Now(ms) | Self::Past { ms, .. } => ms,
        }
    }

    pub(super) const fn is_past(self) -> bool {
        matches!(self, Self::Past { .. })
    }
}

/// Why nobody can tell who holds a claim.
#[derive(Debug, thiserror::Error)]
pub enum ClaimError {
    /// The store could not be asked.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// There are too many to look through.
    #[error("the click has too many conversions to look through")]
    TooMany,
    /// It may have been sent before or again, and counted then.
    #[error("another one may be the same, signed and sent again")]
    SentAgain,
}

impl From<RecordError> for ClaimError {
    fn from(error: RecordError) -> Self {
        Self::Read(error.into())
    }
}

/// What the store knows of an event of a click that may be repeated.
pub struct Repeats {
    /// The conversion that is the same.
    pub same: Option<Known>,
    /// Whether none of the event was received later.
    pub is_last: bool,
    /// The conversion of the event that was minted last.
    pub newest: Option<RecordId>,
}

impl Repeats {
    /// Looks through all conversions of the claim's click.
    pub async fn look_up(
        store: &Store,
        claim: &Claim<'_>,
        window_ms: u64,
        receipt: Receipt,
    ) -> Result<Self, ClaimError> {
        let Claim::Event { click, .. } = claim else {
            return Ok(Self { same: None, is_last: true, newest: None });
        };
        let of = Subject::Click(*click);
        let page = store.conversions_from(of, None, TRACE_CONVERSIONS_MAX).await?;
        store.health().unless_poisoned()?;
        if page.next.is_some() {
            return Err(ClaimError::TooMany);
        }
        let mut all = Vec::new();
        for stored in &page.rows {
            let record = stored.record()?;
            if claim.is_of(&record) {
                let status = record.status().unwrap_or(Status::Pending);
                let original = Original { conversion: stored.id, status };
                let known = Known { original, is_from_log: record.is_from_log() };
                all.push((record.received_ms, known));
            }
        }
        let same = same(&all, window_ms, receipt);
        if same.is_none() && may_be_among(&all, receipt) {
            return Err(ClaimError::SentAgain);
        }
        Ok(Self {
            same,
            is_last: all.iter().all(|(ms, _)| *ms <= receipt.ms()),
            newest: all.iter().map(|(_, known)| known.original.conversion).max(),
        })
    }
}

/// Of some with the time of their receipt, the one that is the same as what was received then.
///
/// What comes now is compared with the one received last, and a clock set back does not open the
/// window. What came in the past, with the nearest before it, then with the nearest after it.
fn same<T: Copy>(all: &[(u64, T)], window_ms: u64, receipt: Receipt) -> Option<T> {
    let at_ms = receipt.ms();
    let last = |until_ms| {
        let until = all.iter().filter(|(ms, _)| *ms <= until_ms);
        until.max_by_key(|(ms, _)| *ms).filter(|(ms, _)| at_ms < ms.saturating_add(window_ms))
    };
    let found = match receipt {
        Receipt::Now(_) => last(u64::MAX),
        Receipt::Past { .. } => last(at_ms).or_else(|| {
            let after = all.iter().filter(|(ms, _)| *ms > at_ms).min_by_key(|(ms, _)| *ms);
            after.filter(|(ms, _)| *ms < at_ms.saturating_add(window_ms))
        }),
    };
    found.map(|(_, found)| *found)
}

/// Whether one of them may be the very same, signed once and sent again: of what was refused at first
/// nobody knows when it came by the next time that it did.
fn may_be_among<T>(all: &[(u64, T)], receipt: Receipt) -> bool {
    let Receipt::Past { ms: at_ms, again_within_ms } = receipt else { return false };
    again_within_ms > 0 && all.iter().any(|(ms, _)| ms.abs_diff(at_ms) <= again_within_ms)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const WINDOW_MS: u64 = 10;

    const fn past(ms: u64) -> Receipt {
        Receipt::Past { ms, again_within_ms: 0 }
    }

    #[test]
    fn what_was_signed_may_be_among_what_was_received_while_it_could_be_sent_again() {
        let all = [(100, 'a'), (120, 'b')];
        let check = |ms, again_within_ms, expected| {
            let receipt = Receipt::Past { ms, again_within_ms };
            assert_eq!(may_be_among(&all, receipt), expected, "{receipt:?}");
        };
        check(90, 9, false);
        check(90, 10, true);
        check(130, 9, false);
        check(130, 10, true);
        check(110, 10, true);
        check(100, 0, false);
        assert!(!may_be_among(&all, Receipt::Now(100)));
    }

    #[test]
    fn what_was_received_within_the_window_is_the_same_on_either_side() {
        let check = |at_ms, of_past, of_now| {
            let all = [(100, 'a'), (120, 'b')];
            assert_eq!(same(&all, WINDOW_MS, past(at_ms)), of_past, "{at_ms}");
            assert_eq!(same(&all, WINDOW_MS, Receipt::Now(at_ms)), of_now, "{at_ms}");
        };
        check(90, None, Some('b'));
        check(91, Some('a'), Some('b'));
        check(100, Some('a'), Some('b'));
        check(109, Some('a'), Some('b'));
        check(110, None, Some('b'));
        check(111, Some('b'), Some('b'));
        check(129, Some('b'), Some('b'));
        check(130, None, None);
        assert_eq!(same::<()>(&[], WINDOW_MS, past(1)), None);
        let close = [(100, 'a'), (110, 'b')];
        assert_eq!(same(&close, WINDOW_MS, past(105)), Some('a'), "what it repeats");
    }

    proptest! {
        #[test]
        fn none_is_within_the_window_of_another_and_none_is_swallowed_by_one_that_is_not(
            steps in prop::collection::vec((0_u64..60, prop::option::of(0_u64..200)), 0..40),
        ) {
            let (mut kept, mut now_ms) = (Vec::new(), 1000);
            for (step_ms, ago_ms) in steps {
                now_ms += step_ms;
                let receipt = match ago_ms {
                    None => Receipt::Now(now_ms),
                    Some(ago_ms) => past(now_ms - ago_ms),
                };
                let apart_ms = |(ms, ()): &(u64, ())| ms.abs_diff(receipt.ms());
                let is_repeat = kept.iter().any(|it| apart_ms(it) < WINDOW_MS);
                let found = same(&kept, WINDOW_MS, receipt);
                prop_assert_eq!(found.is_some(), is_repeat, "{:?} of {:?}", receipt, kept);
                if found.is_none() {
                    kept.push((receipt.ms(), ()));
                }
            }
        }
    }
}
