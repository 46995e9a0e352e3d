//! What would come of a postback, if it were taken now.

use super::answer::{Answer, accepted};
use super::decide::Verdict;
use super::flow::{Postbacks, Received};

impl Postbacks {
    /// Answers a postback that only asks.
    pub(super) async fn dry_run(
        &self,
        verdict: &Verdict<'_>,
        received: &Received<'_>,
    ) -> Result<Answer, Answer> {
        self.metrics.postbacks.dry_runs.increment(1);
        self.would_become(verdict, received).await
    }

    /// What would come of a postback, if it were taken now.
    async fn would_become(
        &self,
        verdict: &Verdict<'_>,
        received: &Received<'_>,
    ) -> Result<Answer, Answer> {
        let known = self.dedup.find(&self.store, verdict.claims(), received.receipt()).await?;
        match known {
            Some(known) => self.would_update(known, verdict, received).await,
            None => self.would_be_new(verdict, received).await,
        }
    }

    /// As [`Postbacks::would_become`], of one that is not known.
    pub(super) async fn would_be_new(
        &self,
        verdict: &Verdict<'_>,
        received: &Received<'_>,
    ) -> Result<Answer, Answer> {
        verdict.refuse_if_new()?;
        if verdict.event.is_negative() {
            return self.would_reverse(verdict, received).await;
        }
        Ok(accepted(None, verdict, verdict.status, verdict.flags))
    }
}
