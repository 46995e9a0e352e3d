//! Postbacks that are answered without being read, and those of an advertiser that has sent enough.

use super::answer::{Answer, Told};
use super::decide::Asker;
use super::flow::{PostbackRequest, Postbacks};
use super::sender::{Address, Sender};
use crate::catalog::Advertiser;
use crate::model::reasons::{Refusal, Unavailability};
use crate::throttle::{RetryAfter, Source};

impl PostbackRequest<'_> {
    /// Whether it may be somebody's postback that is looked for later. To paths that lead nowhere
    /// browsers come for icons and scanners for pages; what went astray brings parameters.
    pub(super) fn may_be_missed(&self, reason: Refusal) -> bool {
        let is_strange = matches!(reason, Refusal::UnknownPath | Refusal::BadHost)
            && matches!(self.address, Address::Own(_));
        !is_strange || self.post || !self.query.is_empty()
    }
}

impl Postbacks {
    /// Refuses a request that is not even read.
    pub fn refuse(&self, reason: Refusal, request: &PostbackRequest<'_>) -> Told {
        self.unread(reason.into(), request)
    }

    /// Does not take a request now, and does not read it either.
    pub fn unavailable(&self, reason: Unavailability, request: &PostbackRequest<'_>) -> Told {
        self.unread(Answer::Unavailable(reason), request)
    }

    /// As [`Postbacks::unavailable`], because its sender has sent enough.
    pub fn too_many(&self, retry_after: RetryAfter, request: &PostbackRequest<'_>) -> Told {
        self.unread(Answer::RateLimited(retry_after), request)
    }

    fn unread(&self, answer: Answer, request: &PostbackRequest<'_>) -> Told {
        let mut asker = Asker::default();
        // Whoever is not in the catalog is told in the form that goes with the path.
        let _ = Sender::at(request.address, &self.catalog.load(), &mut asker.form);
        self.counted(answer, asker, request)
    }

    /// Counts a postback for its advertiser's rate limit, once. Only what its rules accept: a
    /// stranger who sends nonsense in its name does not use its limit up.
    #[inline]
    pub(super) fn count_for(
        &self,
        advertiser: &Advertiser,
        asker: &mut Asker,
        now_ms: u64,
    ) -> Result<(), Answer> {
        let Some(limit) = advertiser.rate_limit else { return Ok(()) };
        if std::mem::replace(&mut asker.is_counted, true) {
            return Ok(());
        }
        let source = Source::Advertiser(&advertiser.id);
        self.throttle.pass(source, limit, now_ms).map_err(Answer::RateLimited)
    }
}
