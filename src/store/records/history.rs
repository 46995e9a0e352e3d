//! The steps of a conversion's history: what it became, when, by whose word, and what each has
//! booked.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{ConversionRecord, Earned, EarnedInBase};
use crate::model::period::moment;
use crate::model::reasons::{BY_POSTBACK, ERASED, NEGATIVE_EVENT, REPRICED};
use crate::model::status::Status;

/// Between the reason of a step that a postback from the log made, and when that was received.
const RECEIVED: char = '@';

/// One step of a conversion's status.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HistoryEntry<'a> {
    /// [`Status::code`].
    pub status: u8,
    /// When it was booked, Unix milliseconds: when its word was received or, if that was refused
    /// then, judged again.
    pub time_ms: u64,
    /// When it happened, Unix milliseconds; `time_ms` if nobody has said.
    pub event_time_ms: u64,
    /// What the network has earned from this step on, micro-units; 0 while nothing is approved.
    pub booked_revenue: i64,
    /// What the affiliate has earned from this step on, micro-units; 0 while nothing is approved.
    pub booked_payout: i64,
    /// What both are in the network's currency, as [`Earned::base`]; `None` in records before
    /// version 4.
    pub booked_base: Option<EarnedInBase>,
    /// Why, in one word.
    pub reason: &'a str,
}

impl<'a> HistoryEntry<'a> {
    /// A step of a conversion that has earned so much if it is approved, and nothing yet, or no
    /// more, if it is not. `said_ms` is when it happened, if a sender has said so.
    #[must_use]
    pub fn new(
        status: Status,
        time_ms: u64,
        said_ms: Option<u64>,
        earned: Earned,
        reason: &'a str,
    ) -> Self {
        let booked = if status == Status::Approved { earned } else { earned.void() };
        Self {
            status: status.code(),
            time_ms,
            event_time_ms: said_ms.unwrap_or(time_ms),
            booked_revenue: booked.revenue,
            booked_payout: booked.payout,
            booked_base: booked.base,
            reason,
        }
    }

    /// When it happened, Unix milliseconds, if a sender has said so.
    #[must_use]
    pub fn said_ms(&self) -> Option<u64> {
        (self.event_time_ms != self.time_ms).then_some(self.event_time_ms)
    }

    /// Whether it is somebody's word, not what the server made of earlier ones.
    fn is_word(&self) -> bool {
        self.reason != REPRICED && self.reason != ERASED
    }

    fn is_by_postback(&self) -> bool {
        self.reason.split(RECEIVED).next() == Some(BY_POSTBACK)
    }

    /// When its word was received, Unix milliseconds, if that was before it was booked.
    fn received_ms(&self) -> Option<u64> {
        let (_, received) = self.reason.split_once(RECEIVED)?;
        u64::try_from(received.parse::<jiff::Timestamp>().ok()?.as_millisecond()).ok()
    }
}

/// The reason of a step that a postback from the log makes of a known conversion, which says when
/// that was received.
#[must_use]
pub fn reason_from_log(reason: &str, received_ms: u64) -> Cow<'_, str> {
    match moment(received_ms) {
        Some(received) => format!("{reason}{RECEIVED}{received}").into(),
        None => reason.into(),
    }
}

impl<'a> ConversionRecord<'a> {
    /// Whether it is that of a negative event, which takes others back.
    #[must_use]
    pub fn is_negative(&self) -> bool {
        self.history.first().is_some_and(|step| step.reason == NEGATIVE_EVENT)
    }

    /// The last step that is somebody's word.
    #[must_use]
    pub fn last_word(&self) -> Option<&HistoryEntry<'a>> {
        self.history.iter().rev().find(|step| step.is_word())
    }

    /// When the word of that step was received, Unix milliseconds; not before the conversion itself,
    /// whose own word is later than that of a refund that came before it.
    #[must_use]
    pub fn last_word_received_ms(&self) -> Option<u64> {
        let last = self.last_word()?;
        Some(match self.is_as_it_came() {
            true => self.received_ms,
            false => last.received_ms().unwrap_or(last.time_ms).max(self.received_ms),
        })
    }

    /// Whether it began as one that was rejected.
    #[must_use]
    pub fn is_rejected_at_once(&self) -> bool {
        self.history.first().is_some_and(|first| first.status == Status::Rejected.code())
    }

    /// Whether nothing has been heard of it since it came.
    #[must_use]
    pub fn is_as_it_came(&self) -> bool {
        self.history.iter().skip(1).all(|step| !step.is_word())
    }

    /// Whether it was refused first and taken from the log later: then it is booked at another time
    /// than it was received.
    #[must_use]
    pub fn is_from_log(&self) -> bool {
        self.history.first().is_some_and(|first| first.time_ms != self.received_ms)
    }

    /// At which moments postbacks made a step of its history, Unix milliseconds, and how many did.
    /// The other steps were made by the network, or by postbacks that made conversions of their own.
    #[must_use]
    pub fn steps_by_postback_ms(&self) -> BTreeMap<u64, usize> {
        let mut steps_ms = BTreeMap::new();
        for (n, step) in self.history.iter().enumerate() {
            if n == 0 || step.is_by_postback() {
                *steps_ms.entry(step.time_ms).or_default() += 1;
            }
        }
        steps_ms
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_says_when_its_word_was_received() {
        for received_ms in [0, 1, 1000, 1_764_200_000_123] {
            let reason = reason_from_log("postback", received_ms);
            let step = HistoryEntry::new(Status::Approved, 9, None, Earned::default(), &reason);
            assert_eq!(step.received_ms(), Some(received_ms), "{reason}");
            assert!(step.is_by_postback());
        }
        assert_eq!(reason_from_log("refund", 1000), "refund@1970-01-01T00:00:01Z");
        for reason in ["postback", "tier:100", "fraud:too_fast", "cap:offer:day:count", "refund@x"]
        {
            let step = HistoryEntry::new(Status::Approved, 9, None, Earned::default(), reason);
            assert_eq!(step.received_ms(), None);
        }
    }

    #[test]
    fn what_was_judged_again_is_booked_later_than_it_was_received() {
        let first = HistoryEntry::new(Status::Approved, 9, None, Earned::default(), BY_POSTBACK);
        let record = |received_ms| ConversionRecord {
            received_ms,
            history: vec![first, HistoryEntry { time_ms: 12, ..first }],
            ..ConversionRecord::default()
        };
        assert!(!record(9).is_from_log());
        assert!(record(8).is_from_log());
    }

    #[test]
    fn the_time_of_a_step_is_said_or_that_of_its_booking() {
        let step = |said_ms| {
            HistoryEntry::new(Status::Approved, 9, said_ms, Earned::default(), BY_POSTBACK)
        };
        assert_eq!((step(None).event_time_ms, step(None).said_ms()), (9, None));
        assert_eq!((step(Some(7)).event_time_ms, step(Some(7)).said_ms()), (7, Some(7)));
    }
}
