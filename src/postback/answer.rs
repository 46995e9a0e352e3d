//! What a postback is answered.

use std::borrow::Cow;

use super::decide::{Refused, Verdict};
use super::hints::{IF_ANOTHER, unpriced};
use crate::click_id::{ClickId, RecordId};
use crate::dedup::{ClaimError, Original};
use crate::model::preset::AnswerForm;
use crate::model::reasons::{PostbackResult, Refusal, Unavailability};
use crate::model::status::Status;
use crate::store::{ReadError, SubmitError};
use crate::throttle::RetryAfter;

/// What the sender is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// A new conversion, on disk; or, in a dry run, what would be one.
    Accepted {
        /// The conversion; `None` in a dry run.
        conversion: Option<RecordId>,
        /// Its click.
        click: ClickId,
        /// Its status.
        status: Status,
        /// What of it may not be what was meant.
        hint: Option<&'static str>,
    },
    /// The conversion was there already.
    Duplicate {
        /// The original.
        original: Original,
        /// The click that this postback names or means.
        click: ClickId,
        /// Why that may not be what was meant, and what to send then.
        hint: Option<Cow<'static, str>>,
        /// Whether it was a dry run.
        dry_run: bool,
    },
    /// A known conversion has another status or amount now, on disk; or, in a dry run, would have.
    Updated {
        /// The conversion as it is now.
        now: Original,
        /// The click that this postback names.
        click: ClickId,
        /// Whether it was a dry run.
        dry_run: bool,
    },
    /// Will never succeed as sent.
    Refused(Refused),
    /// Nothing was kept; try again.
    Unavailable(Unavailability),
    /// Nothing was kept; its address or advertiser has sent enough, or has enough waiting: try again
    /// later.
    RateLimited(RetryAfter),
}

impl Answer {
    /// The result's word.
    #[must_use]
    pub const fn result(&self) -> PostbackResult {
        match self {
            Self::Accepted { .. } => PostbackResult::Accepted,
            Self::Duplicate { .. } => PostbackResult::Duplicate,
            Self::Updated { .. } => PostbackResult::Updated,
            Self::Refused(_) => PostbackResult::Refused,
            Self::Unavailable(_) | Self::RateLimited(_) => PostbackResult::Unavailable,
        }
    }

    /// The hint of one that is not refused. Needs no escaping.
    #[must_use]
    pub fn hint(&self) -> Option<&str> {
        match self {
            Self::Accepted { hint, .. } => *hint,
            Self::Duplicate { hint, .. } => hint.as_deref(),
            _ => None,
        }
    }
}

impl From<Refused> for Answer {
    fn from(refused: Refused) -> Self {
        Self::Refused(refused)
    }
}

impl From<Refusal> for Answer {
    fn from(reason: Refusal) -> Self {
        Self::Refused(reason.into())
    }
}

/// An answer, and the form in which its sender wants it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// What to say.
    pub answer: Answer,
    /// How.
    pub form: AnswerForm,
}

/// A new conversion, in a dry run `None`; `flags` are those of its price.
pub(super) fn accepted(
    conversion: Option<RecordId>,
    verdict: &Verdict<'_>,
    status: Status,
    flags: u32,
) -> Answer {
    let is_known_again = || verdict.first_claim().repeats_after_ms().is_none();
    // What is rejected waits for no price.
    let hint = match status {
        Status::Rejected => None,
        _ => unpriced(flags, is_known_again),
    };
    Answer::Accepted { conversion, click: verdict.click, status, hint }
}

pub(super) fn duplicate(original: Original, verdict: &Verdict<'_>, dry_run: bool) -> Answer {
    let hint = verdict.may_be_another().then_some(Cow::Borrowed(IF_ANOTHER));
    Answer::Duplicate { original, click: verdict.click, hint, dry_run }
}

impl From<ReadError> for Answer {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Busy(_) => Self::Unavailable(Unavailability::StoreBusy),
            ReadError::Poisoned => Self::Unavailable(Unavailability::StorePoisoned),
            ReadError::Engine(_) | ReadError::Record(_) => {
                tracing::error!(%error, "a postback could not be checked against the store");
                Self::Unavailable(Unavailability::StoreBusy)
            }
        }
    }
}

impl From<ClaimError> for Answer {
    fn from(error: ClaimError) -> Self {
        match error {
            ClaimError::Read(error) => error.into(),
            ClaimError::TooMany => {
                let hint = "the click has too many conversions to tell whether this is one of them: send a txn_id";
                Refused::with(Refusal::IllegalTransition, hint).into()
            }
            ClaimError::SentAgain => {
                let hint = "it was signed, and another one that was taken may be the same, sent again: send a txn_id";
                Refused::with(Refusal::IllegalTransition, hint).into()
            }
        }
    }
}

impl From<SubmitError> for Answer {
    fn from(error: SubmitError) -> Self {
        Self::Unavailable(match error {
            SubmitError::Full => Unavailability::Overloaded,
            SubmitError::DiskFull => Unavailability::DiskFull,
            SubmitError::Poisoned => Unavailability::StorePoisoned,
            SubmitError::Closed => Unavailability::Draining,
        })
    }
}
