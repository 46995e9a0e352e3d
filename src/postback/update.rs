//! Changes of known conversions, one after the other: whoever changes one holds its claims from
//! reading its record until the disk has confirmed the new one.

use std::borrow::Cow;

use super::answer::{Answer, duplicate};
use super::decide::{Refused, Verdict};
use super::flow::{Committing, Postbacks, Received};
use super::hints;
use super::transition::{Heard, Speaker, changed, older_than};
use crate::caps::{Counted, Metered, Still};
use crate::catalog::Catalog;
use crate::click_id::RecordId;
use crate::dedup::{Changing, Claim, ClaimError, ClaimSet, Held, Original, Receipt};
use crate::model::fields::Field;
use crate::model::reasons::{BY_POSTBACK, Flag, PostbackResult, Refusal, Unavailability};
use crate::model::status::Status;
use crate::store::records::{ConversionRecord, RecordError, reason_from_log};
use crate::store::{
    Arrival, ChangeError, ConversionChange, ReadError, StoredConversion, SubmitError, WriteError,
};

/// A conversion that nobody else changes meanwhile.
pub(super) struct Mine {
    pub(super) claims: Held,
    /// So that nobody counts the store meanwhile, if the conversion's offer is counted.
    still: Option<Still>,
}

impl Verdict<'_> {
    /// Whether it could be news of a conversion with this status. What says no status never is.
    pub(super) fn may_change(&self, known: Original) -> bool {
        self.said_status.is_some_and(|said| {
            let trust = self.event.trust;
            said != known.status
                || self.said.amount.is_some()
                || self.said.quantity.is_some()
                || (trust.payout && self.said.payout.is_some())
                || (trust.revenue && self.said.revenue.is_some())
        })
    }

    /// Whether only the record of what has its key tells what it is answered.
    pub(super) fn must_read(&self, known: Original, catalog: &Catalog) -> bool {
        self.may_change(known)
            || self.may_be_of_another_click()
            || self.may_be_unlike(known, catalog)
    }

    /// Whether its key may be that of a conversion of another click than it is judged by.
    fn may_be_of_another_click(&self) -> bool {
        let is_one = self.is_by_customer || self.event.is_negative();
        is_one && self.is_bound && !self.txn_id.is_empty()
    }

    /// Whether what has its key may be of the other kind, as in [`Self::refuse_if_unlike`].
    fn may_be_unlike(&self, known: Original, catalog: &Catalog) -> bool {
        let offer = known.conversion.offer();
        let event = || catalog.offer_by_number(offer)?.event(&self.event.id);
        offer != self.offer.number
            && event().is_none_or(|event| event.is_negative() != self.event.is_negative())
    }

    /// Refuses what is neither a duplicate of the conversion that has its key, nor news of it: where
    /// an event takes back in one offer and earns in another, a sale is no refund sent again.
    pub(super) fn refuse_if_unlike(&self, record: &ConversionRecord<'_>) -> Result<(), Refused> {
        let is_negative = self.event.is_negative();
        if record.offer == self.offer.id || record.is_negative() == is_negative {
            return Ok(());
        }
        Err(hints::taken_by_another_kind(&self.event.id, record.offer, is_negative))
    }

    /// Whether what has its key is not meant, being another customer's, or nobody's and of another
    /// click: where no event is named, numbers of several tables may be the same.
    fn is_anothers(&self, received: &Received<'_>, record: &ConversionRecord<'_>) -> bool {
        let is_named = received.fields.get(Field::Event).is_some();
        if is_named || self.txn_id.is_empty() || !self.is_by_customer {
            return false;
        }
        let (advertiser, customer_id) = (&*self.offer.advertiser.id, self.customer_id);
        let customer = Claim::Customer { advertiser, customer_id, windows: None };
        match record.customer_key() {
            Some(its) => its != customer.store_key(),
            None => record.click != *self.click.record().as_bytes(),
        }
    }

    /// Refuses what only a known conversion can be told.
    pub(super) fn refuse_if_new(&self) -> Result<(), Answer> {
        self.unless_known.map_or(Ok(()), |reason| Err(reason.into()))
    }

    fn heard<'r>(&self, status: Status, now_ms: u64, reason: &'r str) -> Heard<'r> {
        Heard {
            status,
            said: self.said,
            said_ms: self.said_ms(),
            now_ms,
            by: Speaker::Advertiser,
            reason,
        }
    }
}

impl Received<'_> {
    /// The reason of a step that it makes of a known conversion.
    pub(super) fn reason_of_step<'s>(&self, reason: &'s str) -> Cow<'s, str> {
        let request = self.as_received.request;
        match request.again {
            None => reason.into(),
            Some(_) => reason_from_log(reason, request.now_ms),
        }
    }
}

impl Postbacks {
    /// Hands a known conversion's new record to the writer. When the disk has confirmed it, what
    /// it pays is counted anew.
    pub(super) fn change(
        &self,
        mine: Mine,
        conversion: RecordId,
        before: &ConversionRecord<'_>,
        anew: &ConversionRecord<'_>,
        received: Option<&Arrival<'_>>,
    ) -> Result<Changing, ChangeError> {
        let status = status_of(anew)?;
        if self.store.health().is_disk_full() {
            return Err(SubmitError::DiskFull.into());
        }
        let Mine { claims, still } = mine;
        Ok(claims.submit_change(status, |ticket| {
            let change = ConversionChange { conversion, before, after: anew };
            let submit = |ticket| self.store.change_conversion(change, received, ticket);
            let Some(still) = still else { return submit(ticket) };
            // One that is still without totals is counted anew later.
            let any = Metered { offer: conversion.offer(), in_total: false };
            if let Some(meter) = self.meters.of(any) {
                let of = |record| Counted::of(conversion, record);
                return submit(meter.recount(
                    of(before).as_ref(),
                    of(anew).as_ref(),
                    still,
                    ticket,
                ));
            }
            // Whoever counts from now on waits for what has been submitted.
            let submitted = submit(ticket);
            drop(still);
            submitted
        })?)
    }

    /// As [`Postbacks::hold_as_is`], for a change of what it pays. The catalog is the one by which
    /// that is decided.
    // In this order, so that whoever is still never waits for somebody who wants to be.
    pub(super) async fn hold(
        &self,
        conversion: RecordId,
        catalog: &Catalog,
    ) -> Result<Option<(Mine, StoredConversion)>, ReadError> {
        let offer = catalog.offer_by_number(conversion.offer());
        let still = match offer.is_some_and(|offer| offer.is_metered) {
            true => Some(self.hold_still().await),
            false => None,
        };
        let held = self.hold_as_is([conversion]).await?.pop();
        Ok(held.and_then(|(claims, stored)| Some((Mine { claims, still }, stored?))))
    }

    async fn hold_still(&self) -> Still {
        if let Some(still) = self.meters.try_hold_still() {
            return still;
        }
        // The count may wait for changes of ours that nobody has flushed yet.
        self.store.writer().flush();
        self.meters.hold_still().await
    }

    /// Waits until nobody else changes these conversions, then reads them; those that are not there
    /// are left out, `None` stands for one that went meanwhile. Nobody else changes any of them
    /// before all that is held is let go: what several claim, one holds for all.
    pub(super) async fn hold_as_is(
        &self,
        conversions: impl IntoIterator<Item = RecordId>,
    ) -> Result<Vec<(Held, Option<StoredConversion>)>, ReadError> {
        let mut before = Vec::new();
        for conversion in conversions {
            before.extend(self.store.conversion(conversion).await?);
        }
        loop {
            let held = self.hold_read(&before).await?;
            let is_erased =
                |stored: &StoredConversion| Ok::<_, RecordError>(stored.record()?.is_erased());
            let mut is_same = true;
            for (before, (_, stored)) in before.iter().zip(&held) {
                let Some(stored) = stored else { continue };
                is_same &= is_erased(before)? == is_erased(stored)?;
            }
            if is_same {
                return Ok(held);
            }
            // One was erased since it was read, and is claimed by other keys now. That happens once
            // to each.
            before = held.into_iter().filter_map(|(_, stored)| stored).collect();
        }
    }

    /// Holds conversions by the claims that they had when they were read, and reads them anew.
    async fn hold_read(
        &self,
        before: &[StoredConversion],
    ) -> Result<Vec<(Held, Option<StoredConversion>)>, ReadError> {
        let mut all = Vec::with_capacity(before.len());
        for stored in before {
            let record = stored.record()?;
            let known = Original { conversion: stored.id, status: status_of(&record)? };
            all.push((ClaimSet::to_change(&record), known));
        }
        let mut held = Vec::with_capacity(all.len());
        for claims in self.dedup.hold_to_change(all).await {
            let stored = self.store.conversion(claims.original().conversion).await?;
            held.push((claims, stored));
        }
        self.store.health().unless_poisoned()?;
        Ok(held)
    }

    /// Answers a postback whose claims a known conversion holds: its change in the writer's
    /// hands, or a duplicate's answer.
    pub(super) async fn update(
        &self,
        known: Original,
        verdict: &Verdict<'_>,
        received: &Received<'_>,
    ) -> Result<Committing, Answer> {
        let Some((said, meant)) = self.meant(known, verdict, received).await? else {
            return Err(self.once_more(known, verdict, received, false).await?);
        };
        let held = self.hold(meant.conversion, received.catalog).await?;
        let Some((mine, stored)) = held else {
            return Err(duplicate(known, verdict, false));
        };
        let record = read(&stored)?;
        let reason = received.reason_of_step(BY_POSTBACK);
        let Some(mut anew) = self.news(&record, said, verdict, received, &reason)? else {
            return Err(self.no_news(&stored, &record, verdict, received, false)?);
        };
        refuse_if_overtaken(received, &record)?;
        anew.flags |= verdict.flags & Flag::Unauthenticated.bit();
        let flags = anew.flags & !record.flags;
        if self.store.health().is_disk_full() {
            return Err(Answer::Unavailable(Unavailability::DiskFull));
        }
        let now = current(&stored, &anew)?;
        let as_received = &received.as_received;
        let changing = as_received.of_conversion(PostbackResult::Updated, stored.id, |arrival| {
            self.change(mine, stored.id, &record, &anew, Some(arrival))
        });
        let submitted = changing?.into();
        self.waiting.submitted();
        received.changed(&record, &anew);
        let form = verdict.offer.advertiser.answer;
        let answer = Answer::Updated { now, click: verdict.click, dry_run: false };
        Ok(Committing { submitted, answer, form, flags, rejected_by: 0 })
    }

    /// A duplicate's answer.
    async fn once_more(
        &self,
        known: Original,
        verdict: &Verdict<'_>,
        received: &Received<'_>,
        is_dry: bool,
    ) -> Result<Answer, Answer> {
        let mut answer = duplicate(known, verdict, is_dry);
        if verdict.may_be_of_another_click()
            && let Some(stored) = self.store.conversion(known.conversion).await?
        {
            self.tell_whose(&mut answer, &read(&stored)?, verdict, received);
        }
        Ok(answer)
    }

    /// What names no click is answered with that of what has its key, whatever click it was judged
    /// by. If that is not what it means, it is told so.
    fn tell_whose(
        &self,
        answer: &mut Answer,
        record: &ConversionRecord<'_>,
        verdict: &Verdict<'_>,
        received: &Received<'_>,
    ) {
        let Answer::Duplicate { click, hint, .. } = answer else { return };
        if verdict.may_be_of_another_click() {
            *click = self.keyring.sign(RecordId::from_bytes(record.click));
        }
        if !verdict.event.is_negative() && verdict.is_anothers(received, record) {
            *hint = Some(hints::OF_SOMEBODY_ELSE.into());
        }
    }

    /// The answer to what changes nothing of a known conversion; if it came late, it is told so.
    fn no_news(
        &self,
        stored: &StoredConversion,
        record: &ConversionRecord<'_>,
        verdict: &Verdict<'_>,
        received: &Received<'_>,
        is_dry: bool,
    ) -> Result<Answer, Answer> {
        let mut answer = duplicate(current(stored, record)?, verdict, is_dry);
        if let Answer::Duplicate { hint, .. } = &mut answer
            && let Some(known_ms) = older_than(verdict.said_ms(), record)
        {
            *hint = Some(hints::older(known_ms, hint.take()));
        }
        self.tell_whose(&mut answer, record, verdict, received);
        Ok(answer)
    }

    /// What [`Postbacks::update`] would answer.
    pub(super) async fn would_update(
        &self,
        known: Original,
        verdict: &Verdict<'_>,
        received: &Received<'_>,
    ) -> Result<Answer, Answer> {
        let click = verdict.click;
        let Some((said, meant)) = self.meant(known, verdict, received).await? else {
            return self.once_more(known, verdict, received, true).await;
        };
        let Some(stored) = self.store.conversion(meant.conversion).await? else {
            return Ok(duplicate(known, verdict, true));
        };
        let stored = received.foreseen(stored);
        let record = read(&stored)?;
        let reason = received.reason_of_step(BY_POSTBACK);
        let Some(anew) = self.news(&record, said, verdict, received, &reason)? else {
            return self.no_news(&stored, &record, verdict, received, true);
        };
        refuse_if_overtaken(received, &record)?;
        received.would_change(&stored, &record, &anew);
        Ok(Answer::Updated { now: current(&stored, &anew)?, click, dry_run: true })
    }

    /// The conversion as a postback changes it; `None` if it does not. The very same signed postback
    /// once more is no news of a conversion that has changed since it came first: it would undo
    /// what was corrected meanwhile. If the first was not kept, nothing has, and the retry counts.
    pub(super) fn news<'r>(
        &self,
        record: &ConversionRecord<'r>,
        said: Status,
        verdict: &Verdict<'_>,
        received: &Received<'_>,
        reason: &'r str,
    ) -> Result<Option<ConversionRecord<'r>>, Refused> {
        let last_ms = record.last_word().map_or(0, |step| step.time_ms);
        if received.replay_of_ms.is_some_and(|first_ms| last_ms >= first_ms)
            || verdict.is_anothers(received, record)
        {
            return Ok(None);
        }
        let heard = verdict.heard(said, received.now_ms, reason);
        changed(record, &heard, received.catalog, &self.market)
    }

    /// The conversion that a postback may have news of, and the status it says; `None` if it is
    /// the duplicate of `known` in any case. One that only has the same click is not meant, and none
    /// that was not there yet.
    async fn meant(
        &self,
        known: Original,
        verdict: &Verdict<'_>,
        received: &Received<'_>,
    ) -> Result<Option<(Status, Original)>, Answer> {
        if verdict.may_be_unlike(known, received.catalog)
            && let Some(stored) = self.store.conversion(known.conversion).await?
        {
            verdict.refuse_if_unlike(&read(&stored)?)?;
        }
        let request = received.as_received.request;
        let known = request.as_foreseen(known);
        let Some(said) = verdict.said_status.filter(|_| verdict.may_change(known)) else {
            return Ok(None);
        };
        let meant = if verdict.offer.one_conversion_per_click {
            let first = ClaimSet::new(verdict.first_claim(), None);
            match self.dedup.find(&self.store, first, received.receipt()).await {
                // The duplicate of one or of the other.
                Err(ClaimError::SentAgain) => None,
                found => found?,
            }
        } else {
            Some(known)
        };
        let meant = meant.map(|meant| request.as_foreseen(meant));
        let meant = meant.filter(|meant| !precedes(verdict, received, *meant));
        Ok(meant.map(|meant| (said, meant)))
    }
}

/// Whether a postback that is judged by an earlier moment than this one is from before a conversion,
/// and so no news of it: where an event may be repeated, it spoke of another.
fn precedes(verdict: &Verdict<'_>, received: &Received<'_>, meant: Original) -> bool {
    let Receipt::Now(at_ms) = received.receipt() else { return false };
    verdict.first_claim().repeats_after_ms().is_some()
        && at_ms < received.as_received.request.now_ms
        && at_ms < meant.conversion.time_ms()
}

/// Whether something was heard of a conversion since a postback came that is judged again: old
/// news must not undo it.
pub(super) fn is_overtaken(received: &Received<'_>, record: &ConversionRecord<'_>) -> bool {
    let request = received.as_received.request;
    let is_later = |last_ms| last_ms > request.now_ms;
    request.again.is_some() && record.last_word_received_ms().is_some_and(is_later)
}

pub(super) fn overtaken() -> Refused {
    let hint = "something was heard of the conversion since this postback was received";
    Refused::with(Refusal::IllegalTransition, hint)
}

fn refuse_if_overtaken(
    received: &Received<'_>,
    record: &ConversionRecord<'_>,
) -> Result<(), Refused> {
    if is_overtaken(received, record) { Err(overtaken()) } else { Ok(()) }
}

pub(super) fn read(stored: &StoredConversion) -> Result<ConversionRecord<'_>, Answer> {
    stored.record().map_err(|error| ReadError::from(error).into())
}

/// The conversion with the status that a record gives it.
pub(super) fn current(
    stored: &StoredConversion,
    record: &ConversionRecord<'_>,
) -> Result<Original, Answer> {
    Ok(Original { conversion: stored.id, status: status_of(record)? })
}

/// The status that a record gives its conversion.
pub(super) fn status_of(record: &ConversionRecord<'_>) -> Result<Status, ReadError> {
    record.status().ok_or_else(|| RecordError::Corrupt.into())
}

impl From<ChangeError> for Answer {
    fn from(error: ChangeError) -> Self {
        match error {
            ChangeError::Read(error) => error.into(),
            ChangeError::Submit(error) => error.into(),
            ChangeError::NotDurable => Self::Unavailable(Unavailability::StorePoisoned),
        }
    }
}

impl From<WriteError> for Answer {
    fn from(error: WriteError) -> Self {
        ChangeError::from(error).into()
    }
}
