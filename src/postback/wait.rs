// Hot path: nothing here allocates.
//! What a postback waits for: its turn and a read, with its request at hand; then the disk, which
//! needs none of it.

use super::answer::{Answer, Told};
use super::decide::Asker;
use super::flow::{Committing, PostbackRequest, Postbacks, Progress, Sent, Tried};
use super::mapping::Fields;
use super::sender::Sender;
use crate::limits::REFUND_TRIES_MAX;
use crate::model::reasons::Unavailability;
use crate::store::ticket::Outcome;

impl Postbacks {
    /// Waits until a conversion is on disk.
    pub async fn confirmed(&self, committing: Committing) -> Told {
        let Committing { submitted, answer, form, flags, rejected_by } = committing;
        if submitted.outcome(&self.waiting).await != Outcome::Durable {
            self.metrics.postbacks.unavailable(Unavailability::StorePoisoned);
            let answer = Answer::Unavailable(Unavailability::StorePoisoned);
            return Told { answer, form };
        }
        self.metrics.postbacks.flagged(flags, rejected_by);
        Told { answer, form }
    }

    /// Takes one postback to its end, whatever has to be waited for.
    pub async fn take(&self, request: &PostbackRequest<'_>) -> Told {
        let begun = self.begin(request).await;
        self.ended(begun).await
    }

    /// Takes one postback into the writer's hands, whatever else has to be waited for. The request
    /// is needed no more then.
    ///
    /// # Errors
    /// The answer, where there is nothing to be written.
    pub async fn begin(&self, request: &PostbackRequest<'_>) -> Result<Committing, Told> {
        match self.take_now(request) {
            Progress::Answered(told) => Err(told),
            Progress::Committing(committing) => Ok(committing),
            Progress::MustWait { is_counted } => self.begin_patiently(request, is_counted).await,
        }
    }

    /// As [`Postbacks::begin`], for a request of which it is known that it must wait, and whether
    /// its advertiser's rate limit has counted it.
    ///
    /// # Errors
    /// As [`Postbacks::begin`].
    pub async fn begin_patiently(
        &self,
        request: &PostbackRequest<'_>,
        is_counted: bool,
    ) -> Result<Committing, Told> {
        let mut asker = Asker { is_counted, ..Asker::default() };
        match self.wait_and_try(request, &mut asker).await {
            Ok(committing) => {
                self.metrics.postbacks.authenticated(asker.auth);
                Ok(committing)
            }
            Err(answer) => Err(self.counted(answer, asker, request)),
        }
    }

    /// From parameters to a conversion in the writer's hands, or to another answer.
    pub(super) async fn wait_and_try(
        &self,
        request: &PostbackRequest<'_>,
        asker: &mut Asker,
    ) -> Result<Committing, Answer> {
        let catalog = self.catalog.load_full();
        let mut fields = Fields::default();
        let sender = Sender::at(request.address, &catalog, &mut asker.form)?;
        fields.read(&sender, request)?;
        let admitted = self.admit_sender(&sender, &fields, request, asker)?;
        let mut bound = self.bound(&fields, &sender, &catalog, request).await?;
        let what = (request, &*catalog);
        let mut meant = self.identify(&mut fields, &sender, admitted, bound, what, asker)?;
        let mut gone = None;
        for _ in 0..REFUND_TRIES_MAX {
            let sent = Sent { fields: &fields, sender: &sender, request };
            match self.try_as(&sent, &meant, bound, gone, &catalog, asker).await? {
                Tried::Begun(committing) => return Ok(committing),
                Tried::Gone(chosen) => gone = Some(chosen),
            }
            // Another refund of the transaction was quicker, or its sale comes only now.
            let anew = self.bound(&fields, &sender, &catalog, request).await?;
            if anew != bound {
                bound = anew;
                meant = self.identify(&mut fields, &sender, admitted, bound, what, asker)?;
            }
        }
        Err(Answer::Unavailable(Unavailability::StoreBusy))
    }

    /// Waits for the disk, where a postback that was begun has to.
    pub async fn ended(&self, begun: Result<Committing, Told>) -> Told {
        match begun {
            Ok(committing) => self.confirmed(committing).await,
            Err(told) => told,
        }
    }
}
