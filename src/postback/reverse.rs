//! Negative events: one commit counts the event and takes back what it names: a conversion, or
//! those of a customer.

use super::answer::Answer;
use super::decide::{Refused, Verdict};
use super::flow::{Committing, Postbacks, Received, record};
use super::hints::ALL_IS_TAKEN_BACK;
use super::reversal::{Reversal, is_open, rank, reversed_of};
use super::update::{is_overtaken, overtaken, read, status_of};
use crate::catalog::Event;
use crate::click_id::RecordId;
use crate::dedup::{Claim, Held, Original};
use crate::limits::{REVERSED_AT_ONCE_MAX, TRACE_CONVERSIONS_MAX};
use crate::model::reasons::{NEGATIVE_EVENT, PostbackResult, Refusal};
use crate::model::status::Status;
use crate::store::records::{ConversionRecord, Earned, HistoryEntry};
use crate::store::{ConversionChange, StoredConversion};

/// The kept parameter of a negative event that names what it has taken back, with commas between.
const REVERSES: &str = "reverses";

/// What a negative event takes back, which nobody else changes meanwhile.
pub(super) struct Reversed {
    held: Vec<Held>,
    stored: Vec<StoredConversion>,
}

impl Reversed {
    /// Whether something is left of it.
    pub(super) fn is_left(&self) -> Result<bool, Answer> {
        let is_left = |record: &ConversionRecord<'_>| record.status().is_some_and(is_open);
        Ok(records(&self.stored)?.iter().any(is_left))
    }
}

/// As [`reversed_of`]; an old postback takes back nothing of which something was heard since, unless
/// that is the very sale of the transaction that it names: then it had only come before it.
fn taken_back<'a>(
    verdict: &Verdict<'_>,
    received: &Received<'_>,
    records: &[ConversionRecord<'a>],
    reversal: &Reversal<'a>,
) -> Result<Vec<(usize, ConversionRecord<'a>)>, Refused> {
    let today = |record: &ConversionRecord<'_>| {
        let offer = received.catalog.offer(record.offer)?;
        offer.event(record.event).map(|event| event.currency)
    };
    let is_named = !verdict.reversed_txn_id.is_empty();
    let is_left = |at: &usize| {
        let record = &records[*at];
        !is_overtaken(received, record) || is_named && record.is_as_it_came()
    };
    let left: Vec<_> = (0..records.len()).filter(is_left).collect();
    if left.len() == records.len() {
        return reversed_of(records, reversal, &today);
    }
    if left.is_empty() {
        return Err(overtaken());
    }
    let meant: Vec<_> = left.iter().map(|at| records[*at].clone()).collect();
    let changed = reversed_of(&meant, reversal, &today)?;
    Ok(changed.into_iter().map(|(at, anew)| (left[at], anew)).collect())
}

/// What a negative event is told that takes all back, and names a smaller quantity than was sold.
fn unless_all_is_meant(
    verdict: &Verdict<'_>,
    records: &[ConversionRecord<'_>],
    taken_back: &[(usize, ConversionRecord<'_>)],
) -> Option<&'static str> {
    let quantity = verdict.said.quantity.filter(|_| verdict.said.amount.is_none())?;
    // Without a quantity, one was sold.
    let sold = taken_back.iter().map(|(at, _)| records[*at].quantity.unwrap_or(1));
    let sold = sold.fold(0, u64::saturating_add);
    (quantity < sold).then_some(ALL_IS_TAKEN_BACK)
}

impl Postbacks {
    /// Hands a negative event, whose own claims are held, and what is left of what it takes back to
    /// the writer.
    pub(super) fn reverse(
        &self,
        own: Held,
        reversed: Reversed,
        verdict: &Verdict<'_>,
        received: &Received<'_>,
        has_click: bool,
    ) -> Result<Committing, Answer> {
        let Reversed { held, stored } = reversed;
        let records = records(&stored)?;
        let reason = received.reason_of_step(&verdict.event.id);
        let reversal = Reversal::of(verdict, &reason, received.now_ms);
        let taken_back = taken_back(verdict, received, &records, &reversal)?;
        let mut statuses: Vec<_> = records.iter().map(status_of).collect::<Result<_, _>>()?;
        for (at, anew) in &taken_back {
            statuses[*at] = status_of(anew)?;
        }
        let original = own.original();
        let (status, earned) = (original.status, Earned::default());
        let step =
            HistoryEntry::new(status, received.now_ms, verdict.said_ms(), earned, NEGATIVE_EVENT);
        let flags = verdict.flags | verdict.flags_of_click(has_click);
        let mut event = record(verdict, received, flags, false, &[step]);
        // Its amounts are of what it takes back; that of its own event is for what is earned.
        if let Some((at, _)) = taken_back.first() {
            event.currency = records[*at].currency;
        }
        let reversed: Vec<_> = taken_back.iter().map(|(at, _)| stored[*at].id.to_text()).collect();
        let reversed: Vec<_> = reversed.iter().map(|id| id.as_str()).collect();
        let reversed = reversed.join(",");
        event.params.push((REVERSES, &reversed));
        // All of them stay held: what one holds for several, it holds for those that change, too.
        let known = held.into_iter().zip(statuses).collect();
        let changes: Vec<_> = taken_back
            .iter()
            .map(|(at, after)| ConversionChange {
                conversion: stored[*at].id,
                before: &records[*at],
                after,
            })
            .collect();
        let (as_received, id) = (&received.as_received, original.conversion);
        let commit = |ticket| {
            as_received.of_conversion(PostbackResult::Accepted, id, |arrival| {
                self.store.commit_with_changes((id, &event), &changes, Some(arrival), ticket)
            })
        };
        let submitted = own.submit_with(known, commit)?;
        self.waiting.submitted();
        received.made(&event);
        changes.iter().for_each(|change| received.changed(change.before, change.after));
        let hint = unless_all_is_meant(verdict, &records, &taken_back);
        let answer = Answer::Accepted {
            conversion: Some(original.conversion),
            click: verdict.click,
            status: original.status,
            hint,
        };
        let form = verdict.offer.advertiser.answer;
        Ok(Committing { submitted, answer, form, flags, rejected_by: 0 })
    }

    /// Holds what was chosen to be taken back.
    pub(super) async fn hold_all(&self, chosen: &[RecordId]) -> Result<Reversed, Answer> {
        let held = self.hold_as_is(chosen.iter().copied()).await?.into_iter();
        // One that is gone by now was let go by retention: so old, none is taken back.
        let held = held.map(|(held, stored)| stored.map(|stored| (held, stored)));
        let held = held.collect::<Option<Vec<_>>>().ok_or(Refusal::UnknownConversion)?;
        let (held, stored) = held.into_iter().unzip();
        Ok(Reversed { held, stored })
    }

    /// Holds what a negative event takes back that names no transaction. It is chosen again if
    /// nothing was left of it when its turn came, until the same comes back.
    pub(super) async fn hold_of_click(
        &self,
        verdict: &Verdict<'_>,
        received: &Received<'_>,
    ) -> Result<Reversed, Answer> {
        let mut chosen = self.of_click(verdict, received).await?;
        loop {
            let reversed = self.hold_all(&chosen).await?;
            if reversed.is_left()? {
                return Ok(reversed);
            }
            // Who looks at conversions reads, and waits for nobody.
            let anew = self.of_click(verdict, received).await?;
            if anew == chosen {
                return Ok(reversed);
            }
            chosen = anew;
        }
    }

    /// What [`Postbacks::reverse`] would answer.
    pub(super) async fn would_reverse(
        &self,
        verdict: &Verdict<'_>,
        received: &Received<'_>,
    ) -> Result<Answer, Answer> {
        let chosen = match verdict.reversed_txn_id.is_empty() {
            true => self.of_click(verdict, received).await?,
            false => self.of_transaction(verdict, received).await?.into_iter().collect(),
        };
        let mut stored = Vec::new();
        for id in chosen {
            stored.extend(self.store.conversion(id).await?.map(|known| received.foreseen(known)));
        }
        let records = records(&stored)?;
        let reason = received.reason_of_step(&verdict.event.id);
        let reversal = Reversal::of(verdict, &reason, received.now_ms);
        let taken_back = taken_back(verdict, received, &records, &reversal)?;
        for (at, anew) in &taken_back {
            received.would_change(&stored[*at], &records[*at], anew);
        }
        let hint = unless_all_is_meant(verdict, &records, &taken_back);
        let (click, status) = (verdict.click, verdict.status);
        Ok(Answer::Accepted { conversion: None, click, status, hint })
    }

    /// What a negative event takes back by its transaction: what its look-ups have chosen together
    /// with its click, or, if it names a click, the first event's conversion that is approved, or
    /// else pending, of another offer only if that offer says so. None is left, then the first, which
    /// says why. Nothing may be held.
    pub(super) async fn of_transaction(
        &self,
        verdict: &Verdict<'_>,
        received: &Received<'_>,
    ) -> Result<Option<RecordId>, Answer> {
        if verdict.is_bound {
            return Ok(verdict.takes_back);
        }
        let Verdict { offer, event: Event { id: by, reverses: events, .. }, .. } = verdict;
        let (advertiser, txn_id) = (&*offer.advertiser.id, verdict.reversed_txn_id);
        let mut found = Vec::new();
        for event in events {
            let claim = Claim::Transaction { advertiser, event, txn_id };
            let known = self.dedup.find_settled(&self.store, claim, received.receipt()).await?;
            let is_meant = |known: &Original| {
                let its_offer = received.catalog.offer_by_number(known.conversion.offer());
                its_offer.is_some_and(|its_offer| its_offer.reverses(by, event).is_some())
            };
            found.extend(known.filter(is_meant));
        }
        let foreseen = |known: &Original| received.as_received.request.as_foreseen(*known);
        let order = |known: &Original| {
            (known.conversion.offer() != offer.number, rank(foreseen(known).status))
        };
        let first = found.into_iter().min_by_key(order);
        Ok(first.map(|known| known.conversion))
    }

    /// The conversions that a negative event without a transaction takes back, the latest first:
    /// those of its customer that are pending or approved; or the latest of the click that is
    /// approved, or else pending. None of either, then the latest, which says why. An old one means
    /// none that was received since. They are the offer's own: an event of the same name is another
    /// offer's.
    async fn of_click(
        &self,
        verdict: &Verdict<'_>,
        received: &Received<'_>,
    ) -> Result<Vec<RecordId>, Answer> {
        let Verdict { offer, event: Event { reverses: events, .. }, .. } = verdict;
        let (advertiser, request) = (&*offer.advertiser.id, received.as_received.request);
        let page = if verdict.is_by_customer {
            let customer_id = verdict.customer_id;
            let customer = Claim::Customer { advertiser, customer_id, windows: None };
            let limit = TRACE_CONVERSIONS_MAX;
            self.store.conversions_of_customers([customer].into_iter(), limit).await?
        } else {
            self.store.conversions_of(verdict.click.record()).await?
        };
        let is_since = |ms: u64| request.again.is_some() && ms > request.now_ms;
        let is_meant = |record: &ConversionRecord<'_>| {
            events.iter().any(|meant| **meant == *record.event) && !is_since(record.received_ms)
        };
        let (mut open, mut pending, mut latest) = (Vec::new(), None, None);
        for row in page.rows.iter().rev().filter(|row| row.id.offer() == offer.number) {
            let Ok(record) = row.record() else { continue };
            if !is_meant(&record) {
                continue;
            }
            latest = latest.or(Some(row.id));
            let known = |status| Original { conversion: row.id, status };
            match record.status().map(|status| request.as_foreseen(known(status)).status) {
                Some(Status::Approved) => open.push(row.id),
                Some(Status::Pending) if verdict.is_by_customer => open.push(row.id),
                Some(Status::Pending) => pending = pending.or(Some(row.id)),
                _ => {}
            }
        }
        if !verdict.is_by_customer {
            open.truncate(1);
        }
        if open.len() > REVERSED_AT_ONCE_MAX || page.next.is_some() {
            let hint = "there are too many conversions to choose from: name a txn_id";
            return Err(Refused::with(Refusal::IllegalTransition, hint).into());
        }
        if open.is_empty() {
            open.extend(pending.or(latest));
        }
        Ok(open)
    }
}

fn records(stored: &[StoredConversion]) -> Result<Vec<ConversionRecord<'_>>, Answer> {
    stored.iter().map(read).collect()
}
