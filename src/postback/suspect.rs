// Hot path: offers without fraud rules pass by one comparison.
//! What fraud rules make of a postback, before its claims are taken: flags, and the status of what
//! they reject. A duplicate is told what the original became, so a rule judges each conversion once.

use std::sync::Arc;

use super::answer::Answer;
use super::decide::Verdict;
use super::flow::{PostbackRequest, Postbacks};
use crate::click_id::RecordId;
use crate::fraud::{Converting, Fraud};
use crate::model::reasons::Flag;
use crate::model::status::Status;
use crate::store::engine::Lookup;
use crate::store::records::ConversionRecord;

impl<'a> Verdict<'a> {
    /// The rules of its offer, if it has any; negative events are not judged.
    fn rules(&self) -> Option<&'a Fraud> {
        let offer = self.offer;
        offer.fraud.as_deref().filter(|_| !self.event.is_negative())
    }

    /// The flags that have rejected it.
    pub(super) fn rejected_by(&self) -> u32 {
        self.rules().map_or(0, |rules| rules.rejecting(self.flags))
    }

    fn converting(&self, request: &PostbackRequest<'_>) -> Converting<'a> {
        Converting {
            click: self.click.record(),
            advertiser: &self.offer.advertiser.id,
            event: &self.event.id,
            customer_id: self.customer_id,
            now_ms: request.now_ms,
            is_past: request.again.is_some(),
            is_by_customer: self.is_by_customer,
        }
    }
}

impl Converting<'_> {
    /// Without its customer if that has not converted by it: if it was rejected, or repeats another
    /// one, which is remembered instead. Else it would have to be sent twice to be the first.
    fn unless_hit(mut self, flags: u32, is_rejected: bool) -> Self {
        if is_rejected || flags & Flag::RepeatedCustomer.bit() != 0 {
            self.customer_id = "";
        }
        self
    }
}

impl Postbacks {
    /// Judges a postback by its offer's fraud rules, as far as that goes without waiting; false,
    /// and nothing done, where it does not.
    #[inline]
    pub(super) fn suspect_now(
        &self,
        verdict: &mut Verdict<'_>,
        request: &PostbackRequest<'_>,
    ) -> Result<bool, Answer> {
        let Some(rules) = verdict.rules() else { return Ok(true) };
        let click = verdict.click.record();
        let brought = match rules.of_clicks() {
            0 => 0,
            wanted => match self.store.click_flags_now(click)? {
                Lookup::Found(flags) => flags & wanted,
                Lookup::Absent if !self.minter.is_of_this_start(click) => 0,
                Lookup::Absent | Lookup::Unknown => return Ok(false),
            },
        };
        self.judge_by(rules, verdict, brought, request);
        Ok(true)
    }

    /// As [`Postbacks::suspect_now`], waiting for what has to be waited for.
    pub(super) async fn suspect(
        &self,
        verdict: &mut Verdict<'_>,
        request: &PostbackRequest<'_>,
    ) -> Result<(), Answer> {
        let Some(rules) = verdict.rules() else { return Ok(()) };
        let brought = match rules.of_clicks() {
            0 => 0,
            wanted => self.flags_of(verdict.click.record()).await? & wanted,
        };
        self.judge_by(rules, verdict, brought, request);
        Ok(())
    }

    /// The flags of a click; none if its record is not there.
    async fn flags_of(&self, click: RecordId) -> Result<u32, Answer> {
        let mut flags = self.store.click_flags(click).await?;
        if flags.is_none() && self.minter.is_of_this_start(click) {
            // The visitor may have been quicker than the writer.
            self.store.all_appended().await?;
            flags = self.store.click_flags(click).await?;
        }
        Ok(flags.unwrap_or(0))
    }

    fn judge_by(
        &self,
        rules: &Fraud,
        verdict: &mut Verdict<'_>,
        brought: u32,
        request: &PostbackRequest<'_>,
    ) {
        let click_ms = verdict.click.record().time_ms();
        // A customer's later events may come whenever they like, and as often.
        let timing = match verdict.is_by_customer {
            true => 0,
            false => rules.of_time(click_ms, verdict.event_time_ms, verdict.is_timed),
        };
        let counted = self.watch.suspects(rules, &verdict.converting(request));
        verdict.flags |= brought | timing | counted;
        if rules.rejecting(verdict.flags) != 0 {
            verdict.status = Status::Rejected;
        }
    }

    /// Counts a new conversion for its offer's fraud rules.
    #[inline]
    pub(super) fn count_for_fraud(&self, verdict: &Verdict<'_>, request: &PostbackRequest<'_>) {
        let Some(rules) = verdict.rules() else { return };
        let is_rejected = verdict.status == Status::Rejected;
        let converting = verdict.converting(request).unless_hit(verdict.flags, is_rejected);
        self.watch.converted(rules, &converting);
    }

    /// Reminds fraud rules of stored conversions, newest first.
    pub(super) fn recall(&self) -> impl Fn(&ConversionRecord<'_>) + Send + use<> {
        let (catalog, watch) = (Arc::clone(&self.catalog), Arc::clone(&self.watch));
        move |record| {
            // Anew for each: the walk is long, and a new catalog's caps wait until nobody reads the
            // one before.
            let catalog = catalog.load();
            let Some(offer) = catalog.offer(record.offer) else { return };
            let is_judged = offer.event(record.event).is_some_and(|event| !event.is_negative());
            if let Some(rules) = offer.fraud.as_deref().filter(|_| is_judged) {
                let converting = Converting {
                    click: RecordId::from_bytes(record.click),
                    advertiser: record.advertiser,
                    event: record.event,
                    customer_id: record.customer_id,
                    now_ms: record.received_ms,
                    is_past: true,
                    is_by_customer: record.flags & Flag::ByCustomer.bit() != 0,
                };
                let is_rejected = record.is_rejected_at_once();
                watch.converted(rules, &converting.unless_hit(record.flags, is_rejected));
            }
        }
    }
}
