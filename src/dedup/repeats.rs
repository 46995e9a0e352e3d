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
use crate::store::records::{ConversionRecord, RecordError};
use crate::store::{ReadError, Store};

/// What was signed long ago, and may have been sent before or again, to count once.
pub trait Signed: Sync {
    /// By how much earlier or later the very same may have been sent at most, milliseconds.
    fn again_within_ms(&self) -> u64;

    /// Whether a conversion may have been made of the very same, by what it keeps of it.
    fn may_have_made(&self, conversion: RecordId, record: &ConversionRecord<'_>) -> bool;
}

/// When what claims was received, Unix milliseconds.
#[derive(Clone, Copy)]
pub enum Receipt<'a> {
    /// Just now.
    Now(u64),
    /// Long ago. What came later may be known by now.
    Past {
        /// When.
        ms: u64,
        /// What it was, if it was signed.
        signed: Option<&'a dyn Signed>,
    },
}

impl Receipt<'_> {
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

    /// Whether a conversion may be the very same, signed once and sent again: of what was refused at
    /// first nobody knows when it came by the next time that it did.
    fn may_have_made(self, conversion: RecordId, record: &ConversionRecord<'_>) -> bool {
        let Self::Past { ms, signed: Some(signed) } = self else { return false };
        record.received_ms.abs_diff(ms) <= signed.again_within_ms()
            && signed.may_have_made(conversion, record)
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
        receipt: Receipt<'_>,
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
        let (mut all, mut may_be_among) = (Vec::new(), false);
        for stored in &page.rows {
            let record = stored.record()?;
            if claim.is_of(&record) {
                let status = record.status().unwrap_or(Status::Pending);
                let original = Original { conversion: stored.id, status };
                let known = Known { original, is_from_log: record.is_from_log() };
                all.push((record.received_ms, known));
                may_be_among |= receipt.may_have_made(stored.id, &record);
            }
        }
        let same = same(&all, window_ms, receipt);
        if same.is_none() && may_be_among {
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
fn same<T: Copy>(all: &[(u64, T)], window_ms: u64, receipt: Receipt<'_>) -> Option<T> {
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const WINDOW_MS: u64 = 10;

    const fn past(ms: u64) -> Receipt<'static> {
        Receipt::Past { ms, signed: None }
    }

    struct Fake {
        within_ms: u64,
        is_like: bool,
    }

    impl Signed for Fake {
        fn again_within_ms(&self) -> u64 {
            self.within_ms
        }

        fn may_have_made(&self, _: RecordId, _: &ConversionRecord<'_>) -> bool {
            self.is_like
        }
    }

    #[test]
    fn what_was_signed_may_be_among_what_was_received_while_it_could_be_sent_again() {
        let conversion = RecordId::from_bytes([1; 16]);
        let record = ConversionRecord { received_ms: 100, ..ConversionRecord::default() };
        let check = |ms, within_ms, is_like, expected| {
            let receipt = Receipt::Past { ms, signed: Some(&Fake { within_ms, is_like }) };
            assert_eq!(receipt.may_have_made(conversion, &record), expected, "{ms} {within_ms}");
        };
        check(90, 9, true, false);
        check(90, 10, true, true);
        check(90, 10, false, false);
        check(110, 10, true, true);
        check(111, 10, true, false);
        assert!(!Receipt::Now(100).may_have_made(conversion, &record));
        assert!(!past(100).may_have_made(conversion, &record));
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
                prop_assert_eq!(found.is_some(), is_repeat, "{} {:?} of {:?}", now_ms, ago_ms, kept);
                if found.is_none() {
                    kept.push((receipt.ms(), ()));
                }
            }
        }
    }
}
