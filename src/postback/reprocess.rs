//! Refused postbacks judged again by today's catalog, from the log of what was received: to see
//! what would come of them, or for real, through the same claims as everybody else.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use super::answer::Answer;
use super::decide::{Asker, Verdict};
use super::effects::{Effects, Gains};
use super::flow::{PostbackRequest, Postbacks, Received, Sent, record};
use super::mapping::Fields;
use super::sender::{Address, Sender};
use crate::dedup::{Claim, ClaimError, Receipt};
use crate::limits::{
    PAGE_ROWS_MAX, REPROCESS_FORESEEN_BYTES_MAX, REPROCESS_REST, REPROCESS_ROWS_MAX,
    TRACE_CONVERSIONS_MAX,
};
use crate::model::fields::Field;
use crate::model::mask::is_masked;
use crate::model::reasons::{
    AuthOutcome, BY_POSTBACK, PostbackResult, Refusal, Unavailability, Unfit,
};
use crate::store::keys::{DedupeKey, InboundId};
use crate::store::records::{
    ConversionRecord, InboundForm, InboundRow, StoredIp, inbound_flags, unpack_auth,
};
use crate::store::ticket::Waiting;
use crate::store::{ReadError, StoredInbound};

/// What is known of a postback that was received before, beside its parameters.
#[derive(Clone, Copy, Debug)]
pub struct Again<'a> {
    /// When it is judged again, Unix milliseconds.
    pub now_ms: u64,
    /// Which checks of its sender were passed then.
    pub auth: AuthOutcome,
    /// For which advertiser; empty if that was not known.
    pub advertiser: &'a str,
    /// What was kept of its sender's address.
    pub ip: StoredIp,
    /// What the request brought.
    pub form: InboundForm,
    /// What it does is noted there.
    pub effects: &'a Effects,
}

/// Which refused postbacks are judged again, and whether for real.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    /// Received at or after, Unix milliseconds.
    pub from_ms: u64,
    /// Received before.
    pub to_ms: u64,
    /// Only those that spoke for this advertiser.
    pub advertiser: Option<String>,
    /// Only those refused for this reason.
    pub reason: Option<Refusal>,
    /// Go on after this one.
    pub after: Option<InboundId>,
    /// For real.
    pub apply: bool,
}

impl<'a> PostbackRequest<'a> {
    /// A postback as the log has it.
    pub(super) fn of_the_log(row: &InboundRow<'a>, again: Option<&'a Again<'a>>) -> Self {
        let (address, ip) = (Address::of(row.head.path), IpAddr::V4(Ipv4Addr::UNSPECIFIED));
        Self { again, ..Self::get(address, row.text, ip, row.head.time_ms) }
    }
}

/// What comes of a postback that is judged again.
enum Became {
    Effect(PostbackResult),
    Refused(Refusal),
    Unfit(Unfit),
    Unavailable(Unavailability),
}

/// What came of all that were looked at.
#[derive(Debug, Default)]
pub struct Reprocessed {
    /// Refused postbacks that were selected.
    pub postbacks: u64,
    /// How many would now make a conversion, or have.
    pub accepted: u64,
    /// How many would change one, or have.
    pub updated: u64,
    /// How many are known by now.
    pub duplicate: u64,
    /// How many are refused again, by reason.
    pub refused: BTreeMap<&'static str, u64>,
    /// How many cannot be judged again, by reason.
    pub unfit: BTreeMap<&'static str, u64>,
    /// What they earn, and what is taken back.
    pub gains: Gains,
    /// Where to go on, if there may be more.
    pub next: Option<InboundId>,
    /// Pages of the log that are damaged, and were passed over.
    pub damaged: u64,
    /// Why it ended before that.
    pub stopped: Option<&'static str>,
}

impl Postbacks {
    /// Judges refused postbacks again, one after the other, in the order in which they came.
    /// `now_ms` is asked for each, and `may_go_on` whether to go on. `done` is what came of them.
    ///
    /// # Errors
    /// When the log cannot be read; `done` is what came of those before.
    pub async fn reprocess(
        &self,
        selection: &Selection,
        done: &mut Reprocessed,
        now_ms: impl Fn() -> u64,
        may_go_on: impl Fn() -> bool,
    ) -> Result<(), ReadError> {
        if !selection.apply {
            return self.judge_again(selection, done, now_ms, may_go_on).await;
        }
        // A worker of its own, for as long as there is something to wait for.
        let waiting = Arc::new(Waiting::default());
        let writer = self.store.writer();
        writer.add_waiting(&waiting);
        let own = Self { waiting: Arc::clone(&waiting), ..self.clone() };
        let judged = tokio::select! {
            judged = own.judge_again(selection, done, now_ms, may_go_on) => judged,
            () = waiting.attend(|| writer.flush()) => Ok(()),
        };
        writer.remove_waiting(&waiting);
        judged
    }

    async fn judge_again(
        &self,
        selection: &Selection,
        done: &mut Reprocessed,
        now_ms: impl Fn() -> u64,
        may_go_on: impl Fn() -> bool,
    ) -> Result<(), ReadError> {
        let (effects, mut foreseen) = (Effects::default(), Foreseen::default());
        let mut after = selection.after;
        loop {
            let filter = selection.filter();
            let page = self.store.inbound(
                selection.from_ms,
                selection.to_ms,
                after,
                PAGE_ROWS_MAX,
                filter,
            );
            let page = page.await?;
            done.damaged += page.damaged.len() as u64;
            for stored in &page.rows {
                if !may_go_on() {
                    (done.next, done.stopped) = (after, Some("the server stops"));
                    return Ok(());
                }
                let before = (&effects, &mut foreseen);
                let became = self.one_again(stored, selection.apply, now_ms(), before).await?;
                if let Became::Unavailable(reason) = became {
                    (done.next, done.stopped) = (after, Some(reason.as_str()));
                    return Ok(());
                }
                done.add(became, &effects);
                after = Some(stored.id);
                let is_full = effects.is_full() || foreseen.is_full();
                if done.postbacks >= REPROCESS_ROWS_MAX as u64 || is_full {
                    done.next = after;
                    return Ok(());
                }
            }
            after = page.next;
            if after.is_none() {
                return Ok(());
            }
            tokio::time::sleep(REPROCESS_REST).await;
        }
    }

    async fn one_again(
        &self,
        stored: &StoredInbound,
        apply: bool,
        now_ms: u64,
        (effects, foreseen): (&Effects, &mut Foreseen),
    ) -> Result<Became, ReadError> {
        let row = stored.row()?;
        if let Some(unfit) = unfit(&row) {
            return Ok(Became::Unfit(unfit));
        }
        let again = Again {
            now_ms,
            auth: unpack_auth(row.head.auth),
            advertiser: row.head.advertiser,
            ip: row.head.ip,
            form: InboundForm::from_code(row.head.form).unwrap_or(InboundForm::Other),
            effects,
        };
        let request = PostbackRequest::of_the_log(&row, Some(&again));
        if let Some(unfit) = self.unfit_by_words(&request, row.flags) {
            return Ok(Became::Unfit(unfit));
        }
        Ok(match apply {
            true => self.take_again(&request).await,
            false => match self.would_take(&request, foreseen).await {
                Ok(result) => Became::Effect(result),
                Err(answer) => became(answer),
            },
        })
    }

    async fn take_again(&self, request: &PostbackRequest<'_>) -> Became {
        let mut asker = of_the_log();
        // Boxed: it is large, and nobody is in a hurry.
        let answer = match Box::pin(self.wait_and_try(request, &mut asker)).await {
            Ok(committing) => self.confirmed(committing).await.answer,
            Err(answer) => answer,
        };
        became(answer)
    }

    /// What would come of it, after those before it.
    async fn would_take(
        &self,
        request: &PostbackRequest<'_>,
        foreseen: &mut Foreseen,
    ) -> Result<PostbackResult, Answer> {
        let (catalog, mut asker) = (self.catalog.load_full(), of_the_log());
        let mut fields = Fields::default();
        let sender = Sender::at(request.address, &catalog, &mut asker.form)?;
        fields.read(&sender, request)?;
        let admitted = self.admit_sender(&sender, &fields, request, &mut asker)?;
        let bound = self.bound(&fields, &sender, &catalog, request).await?;
        let what = (request, &*catalog);
        let meant = self.identify(&mut fields, &sender, admitted, bound, what, &mut asker)?;
        let sent = Sent { fields: &fields, sender: &sender, request };
        let mut verdict = self.judge(&sent, &meant, bound, &catalog)?;
        self.suspect(&mut verdict, request).await?;
        let received = self.received(&sent, &verdict, &catalog, &asker);
        if let Some(known) = foreseen.meant(&verdict, request.now_ms) {
            return self.would_update_foreseen(known, &verdict, &received);
        }
        let found = self.dedup.find(&self.store, verdict.claims(), received.receipt()).await;
        let (known, is_unsure) = match found {
            Err(ClaimError::SentAgain) => (None, true),
            found => (found?, false),
        };
        if let Some(known) = known {
            return Ok(self.would_update(known, &verdict, &received).await?.result());
        }
        if foreseen.has(&verdict, request.now_ms) {
            return Ok(PostbackResult::Duplicate);
        }
        if is_unsure || foreseen.may_have_made(&verdict.first_claim(), &received) {
            return Err(ClaimError::SentAgain.into());
        }
        self.would_be_new(&verdict, &received).await?;
        foreseen.take(&verdict, &received);
        Ok(PostbackResult::Accepted)
    }

    /// As [`Postbacks::would_update`], of a conversion that is not there yet.
    fn would_update_foreseen(
        &self,
        known: &mut Vec<u8>,
        verdict: &Verdict<'_>,
        received: &Received<'_>,
    ) -> Result<PostbackResult, Answer> {
        let before = ConversionRecord::decode(known).map_err(ReadError::from)?;
        verdict.refuse_if_unlike(&before)?;
        let Some(said) = verdict.said_status else { return Ok(PostbackResult::Duplicate) };
        let Some(anew) = self.news(&before, said, verdict, received, BY_POSTBACK)? else {
            return Ok(PostbackResult::Duplicate);
        };
        let mut after = Vec::with_capacity(known.len());
        anew.encode(&mut after);
        received.changed(&before, &anew);
        *known = after;
        Ok(PostbackResult::Updated)
    }

    /// Why a row of the log cannot be judged again, by what it says.
    fn unfit_by_words(&self, request: &PostbackRequest<'_>, flags: u8) -> Option<Unfit> {
        let has_masked = flags & inbound_flags::MASKED != 0;
        let (catalog, mut asker) = (self.catalog.load(), of_the_log());
        let Ok(sender) = Sender::at(request.address, &catalog, &mut asker.form) else {
            return has_masked.then_some(Unfit::Masked);
        };
        let mut fields = Fields::default();
        // What cannot be read says so itself.
        fields.read(&sender, request).ok()?;
        let owner = request.again.and_then(|again| catalog.advertiser(again.advertiser));
        if let Some(own) = owner.and_then(|owner| sender.of_click(owner)) {
            fields.read_anew(&sender.names, &own.names, request).ok()?;
        }
        if fields.is_dry_run() {
            return Some(Unfit::DryRun);
        }
        let matters = |field: &&Field| !Field::SUBS.contains(field) && **field != Field::DryRun;
        let is_masked = |field: &Field| fields.get(*field).is_some_and(is_masked);
        let is_one = has_masked && Field::ALL.iter().filter(matters).any(is_masked);
        is_one.then_some(Unfit::Masked)
    }
}

/// The conversions that a comparison would have made so far.
#[derive(Debug, Default)]
struct Foreseen {
    /// Under each of its claims and its receipt, a conversion's place.
    claims: BTreeMap<(DedupeKey, u64), usize>,
    /// As the store would keep them; parameters only where others may be compared with them.
    records: Vec<Vec<u8>>,
    /// How many there are in `records`.
    bytes: usize,
}

impl Foreseen {
    fn has(&self, verdict: &Verdict<'_>, received_ms: u64) -> bool {
        verdict.claims().hard().any(|claim| self.holder(&claim, received_ms).is_some())
    }

    /// The conversion that it may have news of. One that only has the same click is not meant.
    fn meant(&mut self, verdict: &Verdict<'_>, received_ms: u64) -> Option<&mut Vec<u8>> {
        let at = self.holder(&verdict.first_claim(), received_ms)?;
        self.records.get_mut(at)
    }

    /// The place of the conversion that holds a claim: of an event that may be repeated, one that
    /// was received less than the window before or after.
    fn holder(&self, claim: &Claim<'_>, received_ms: u64) -> Option<usize> {
        let apart_ms =
            claim.repeats_after_ms().map_or(u64::MAX, |window_ms| window_ms.saturating_sub(1));
        self.within(claim, received_ms, apart_ms).next_back()
    }

    /// Whether one of them may have been made of the very same, signed once and sent again.
    fn may_have_made(&self, claim: &Claim<'_>, received: &Received<'_>) -> bool {
        let Receipt::Past { ms, signed: Some(signed) } = received.receipt() else { return false };
        let may_be = |at: usize| match ConversionRecord::decode(&self.records[at]) {
            Ok(record) => received.may_have_said(&record, record.is_as_it_came()),
            Err(_) => true,
        };
        let mut near = self.within(claim, ms, signed.again_within_ms());
        // Of more than the store would look through, nobody can tell.
        near.by_ref().take(TRACE_CONVERSIONS_MAX).any(may_be) || near.next().is_some()
    }

    /// The places of those that hold a claim and were received at most so much before or after.
    fn within(
        &self,
        claim: &Claim<'_>,
        received_ms: u64,
        apart_ms: u64,
    ) -> impl DoubleEndedIterator<Item = usize> {
        let key = claim.store_key();
        let from_ms = received_ms.saturating_sub(apart_ms);
        let to_ms = received_ms.saturating_add(apart_ms);
        let held = self.claims.range((key, from_ms)..=(key, to_ms));
        held.map(|(_, at)| *at)
    }

    /// Whether no more can be foreseen.
    const fn is_full(&self) -> bool {
        self.bytes >= REPROCESS_FORESEEN_BYTES_MAX
    }

    fn take(&mut self, verdict: &Verdict<'_>, received: &Received<'_>) {
        let reason = verdict.initial_reason();
        let step = verdict.first_step(verdict.status, received.now_ms, &reason);
        let mut made = record(verdict, received, verdict.flags, false, &[step]);
        if verdict.first_claim().repeats_after_ms().is_none() {
            made.params.clear();
        }
        // As that of a negative event that is made.
        made.currency = received.currency_taken_back().unwrap_or(made.currency);
        received.made(&made);
        let mut bytes = Vec::new();
        made.encode(&mut bytes);
        let at = self.records.len();
        let key = |claim: Claim<'_>| (claim.store_key(), made.received_ms);
        self.claims.extend(verdict.claims().hard().map(|claim| (key(claim), at)));
        self.bytes += bytes.len();
        self.records.push(bytes);
    }
}

impl Selection {
    fn filter(&self) -> Arc<dyn Fn(&InboundRow<'_>) -> bool + Send + Sync> {
        let (advertiser, reason) = (self.advertiser.clone(), self.reason);
        Arc::new(move |row| {
            row.head.result() == Some(PostbackResult::Refused)
                && advertiser.as_deref().is_none_or(|wanted| wanted == row.head.advertiser)
                && reason.is_none_or(|wanted| wanted.as_str() == row.head.reason)
        })
    }
}

impl Reprocessed {
    fn add(&mut self, became: Became, effects: &Effects) {
        self.postbacks += 1;
        match became {
            Became::Effect(PostbackResult::Accepted | PostbackResult::Updated) => {
                effects.settle(&mut self.gains);
            }
            // What it had begun came to nothing.
            _ => effects.drop_latest(),
        }
        match became {
            Became::Effect(PostbackResult::Accepted) => self.accepted += 1,
            Became::Effect(PostbackResult::Updated) => self.updated += 1,
            Became::Effect(_) => self.duplicate += 1,
            Became::Refused(reason) => *self.refused.entry(reason.as_str()).or_default() += 1,
            Became::Unfit(reason) => *self.unfit.entry(reason.as_str()).or_default() += 1,
            Became::Unavailable(_) => {}
        }
    }
}

/// Why a row of the log cannot be judged again, by itself.
fn unfit(row: &InboundRow<'_>) -> Option<Unfit> {
    if row.flags & inbound_flags::ERASED != 0 {
        return Some(Unfit::Erased);
    }
    if Refusal::parse(row.head.reason).is_none_or(Refusal::is_of_sender) {
        return Some(Unfit::NotAuthenticated);
    }
    let has = |flag| row.flags & flag != 0;
    match (has(inbound_flags::CUT), has(inbound_flags::GARBLED)) {
        (true, _) => Some(Unfit::Cut),
        (_, true) => Some(Unfit::Garbled),
        _ => None,
    }
}

fn became(answer: Answer) -> Became {
    match answer {
        Answer::Refused(refused) if refused.reason.is_of_sender() => {
            Became::Unfit(Unfit::NotAuthenticated)
        }
        Answer::Refused(refused) => Became::Refused(refused.reason),
        Answer::Unavailable(reason) => Became::Unavailable(reason),
        told => Became::Effect(told.result()),
    }
}

/// What is read from the log was sent long ago; no rate limit is asked again.
fn of_the_log() -> Asker {
    Asker { is_counted: true, ..Asker::default() }
}
