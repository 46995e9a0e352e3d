//! Negative events: one commit counts the event and takes the conversion back that it names.

use super::decide::Verdict;
use super::flow::{Answer, Committing, Postbacks, Received, record};
use super::reversal::{Reversal, reversed};
use super::update::{current, read};
use crate::click_id::RecordId;
use crate::dedup::{Claim, ClaimSet, Held};
use crate::model::reasons::{Flag, NEGATIVE_EVENT, Refusal};
use crate::model::status::Status;
use crate::store::records::{Earned, HistoryEntry};
use crate::store::{ConversionChange, ReadError};

/// The kept parameter of a negative event that names the conversion it has taken back.
const REVERSES: &str = "reverses";

impl Postbacks {
    /// Hands a negative event, whose own claims are held, and the conversion without what it takes
    /// back to the writer.
    pub(super) async fn reverse(
        &self,
        own: Held,
        verdict: &Verdict<'_>,
        received: &Received<'_>,
        has_click: bool,
    ) -> Result<Committing, Answer> {
        let known = match self.reversible(verdict, received.now_ms).await? {
            Some(id) => self.hold_as_is(id).await?,
            None => None,
        };
        let Some((held, stored)) = known else { return Err(Refusal::UnknownConversion.into()) };
        let before = read(&stored)?;
        let anew = reversed(&before, &Reversal::of(verdict, received.now_ms))?;
        let (original, now) = (own.original(), current(&stored, &anew)?);
        let (now_ms, event_ms) = (received.now_ms, verdict.event_time_ms);
        let (status, earned) = (original.status, Earned::default());
        let step = HistoryEntry::new(status, now_ms, event_ms, earned, NEGATIVE_EVENT);
        let flags = if has_click { 0 } else { Flag::ClickRecordMissing.bit() };
        let reverses = stored.id.to_text();
        let mut event = record(verdict, received, flags, &[step]);
        event.params.push((REVERSES, reverses.as_str()));
        let event = (original.conversion, &event);
        let change = ConversionChange { conversion: stored.id, before: &before, after: &anew };
        let commit = |ticket| self.store.commit_with_change(event, change, ticket);
        let submitted = own.submit_with(held, now.status, commit)?;
        self.waiting.submitted();
        let answer = Answer::Accepted {
            conversion: Some(original.conversion),
            click: verdict.click,
            status: original.status,
        };
        let form = verdict.offer.advertiser.answer;
        Ok(Committing { submitted, answer, form, flags })
    }

    /// Whether [`Postbacks::reverse`] would succeed.
    pub(super) async fn would_reverse(
        &self,
        verdict: &Verdict<'_>,
        received: &Received<'_>,
    ) -> Result<(), Answer> {
        let known = match self.reversible(verdict, received.now_ms).await? {
            Some(id) => self.store.conversion(id).await?,
            None => None,
        };
        let Some(stored) = known else { return Err(Refusal::UnknownConversion.into()) };
        reversed(&read(&stored)?, &Reversal::of(verdict, received.now_ms))?;
        Ok(())
    }

    /// The conversion that a negative event names: by its transaction, or else the latest of the
    /// click that is approved.
    async fn reversible(
        &self,
        verdict: &Verdict<'_>,
        now_ms: u64,
    ) -> Result<Option<RecordId>, ReadError> {
        let (events, txn_id) = (&verdict.event.reverses, verdict.reversed_txn_id);
        if txn_id.is_empty() {
            let all = self.store.conversions_of(verdict.click.record()).await?;
            let is_meant = |event: &str| events.iter().any(|meant| **meant == *event);
            let mut meant = None;
            for row in all.iter().rev() {
                let Ok(record) = row.record() else { continue };
                if !is_meant(record.event) {
                    continue;
                }
                if record.status() == Some(Status::Approved) {
                    return Ok(Some(row.id));
                }
                // None that could be reversed: the latest says why.
                meant = meant.or(Some(row.id));
            }
            return Ok(meant);
        }
        for event in events {
            let advertiser = &verdict.offer.advertiser.id;
            let claim = ClaimSet::new(Claim::Transaction { advertiser, event, txn_id }, None);
            if let Some(known) = self.dedup.find(&self.store, claim, now_ms).await? {
                return Ok(Some(known.conversion));
            }
        }
        Ok(None)
    }
}
