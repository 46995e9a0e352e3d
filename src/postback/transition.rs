// Pure: no clock, no randomness, no I/O.
//! From what is heard of a known conversion to the conversion as it is then.

use super::decide::{HELD, Refused};
use super::price::{Price, Said, price_again, terms_again};
use crate::catalog::{Catalog, Event, Trust};
use crate::limits::HISTORY_STEPS_MAX;
use crate::model::currency::Currency;
use crate::model::money::Micros;
use crate::model::reasons::{FRAUD, Flag, Refusal};
use crate::model::status::{Status, Step};
use crate::rates::Market;
use crate::store::records::{ConversionRecord, HistoryEntry};

/// What is heard of a known conversion.
#[derive(Clone, Copy, Debug)]
pub struct Heard<'a> {
    /// The status that it is said to have.
    pub status: Status,
    /// What is said of money; only what is said can change.
    pub said: Said,
    /// When it happened, Unix milliseconds, if the sender says so.
    pub said_ms: Option<u64>,
    /// When it is booked, Unix milliseconds.
    pub now_ms: u64,
    /// Who says so.
    pub by: Speaker,
    /// The history's reason.
    pub reason: &'a str,
}

/// Who says that a conversion has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Speaker {
    /// The advertiser, by a postback.
    Advertiser,
    /// The network, by the admin API.
    Network,
}

/// The conversion with the change, its history longer by a step; `None` if what is heard is
/// nothing new, or older than what is known.
///
/// # Errors
/// [`Refusal::IllegalTransition`] if its status cannot become the one said, and the refusals of
/// a price.
pub fn changed<'a>(
    record: &ConversionRecord<'a>,
    heard: &Heard<'a>,
    catalog: &Catalog,
    market: &Market,
) -> Result<Option<ConversionRecord<'a>>, Refused> {
    let (Some(status), Some(last)) = (record.status(), record.history.last()) else {
        return Ok(None);
    };
    if is_older(heard, last) {
        return Ok(None);
    }
    let event = catalog.offer(record.offer).and_then(|offer| offer.event(record.event));
    if event.is_some_and(Event::is_negative) {
        // It has happened; nobody takes taking back back.
        return if heard.status == status { Ok(None) } else { Err(final_event()) };
    }
    let said = if is_void(record, status, heard) { status } else { heard.status };
    let step = status.step(said, event.is_some_and(|event| event.reapprove));
    if step == Step::Illegal {
        return Err(illegal(status, said));
    }
    let mut anew = record.clone();
    anew.status = if step == Step::Change { said.code() } else { status.code() };
    // Money of an old word is old, and of what earns nothing it does not matter.
    let earns = matches!(said, Status::Pending | Status::Approved) && anew.status == said.code();
    let revalued = earns && revalue(&mut anew, heard, event, catalog, market)?;
    if step == Step::Stay && !revalued {
        return Ok(None);
    }
    // Changes of the status come to an end by themselves.
    if step == Step::Stay && record.history.len() >= HISTORY_STEPS_MAX {
        return Err(Refused::with(Refusal::IllegalTransition, "it has changed too often"));
    }
    let (status, earned) = (if step == Step::Change { said } else { status }, anew.earned());
    let step = HistoryEntry::new(status, heard.now_ms, heard.said_ms, earned, heard.reason);
    anew.history.push(step);
    Ok(Some(anew))
}

/// Whether it happened before the last step did. Only times that senders have sent are compared:
/// the time of a receipt says nothing about the order of what happened.
fn is_older(heard: &Heard<'_>, last: &HistoryEntry<'_>) -> bool {
    heard.said_ms.zip(last.said_ms()).is_some_and(|(said_ms, last_ms)| said_ms < last_ms)
}

/// Whether an advertiser's approval changes nothing: it only repeats the one with which the
/// conversion began, and which the offer held back; or fraud rules have rejected the conversion,
/// which only the network takes back.
fn is_void(record: &ConversionRecord<'_>, status: Status, heard: &Heard<'_>) -> bool {
    if (heard.by, heard.status) != (Speaker::Advertiser, Status::Approved) {
        return false;
    }
    let void = match status {
        Status::Pending => HELD,
        Status::Rejected => FRAUD,
        Status::Approved | Status::Reversed => return false,
    };
    // A tier, a cap or the rules may follow.
    record.history.iter().any(|step| step.reason.split(':').next() == Some(void))
}

/// Gives the conversion other amounts and the price that goes with them; whether they are others.
fn revalue(
    record: &mut ConversionRecord<'_>,
    heard: &Heard<'_>,
    event: Option<&Event>,
    catalog: &Catalog,
    market: &Market,
) -> Result<bool, Refused> {
    let trust = event.map_or(Trust::default(), |event| event.trust);
    let is_late = record.flags & Flag::Late.bit() != 0;
    let kept = Said::of_record(record);
    let said = merged(&kept, &heard.said, trust);
    if record.reversed_amount != 0 {
        // What has been taken back was a share of the amount that is known.
        return Ok(false);
    }
    // A currency that is not said is the event's.
    let currency = |said: &Said| said.currency.or(event.map(|event| event.currency));
    let same = (said.amount, currency(&said), said.quantity)
        == (kept.amount, currency(&kept), kept.quantity);
    let own = !is_late && event.is_some_and(|event| has_other_own(record, &said, &kept, event));
    if same && !own {
        return Ok(false);
    }
    let event = event.ok_or(Refusal::UnknownEvent)?;
    if event.currency.to_bytes() != record.currency && record.was_booked() {
        // Each step is booked in the conversion's one currency.
        return Err(Refused::with(
            Refusal::IllegalTransition,
            "it is in the books in the currency that the event had then; its amounts stay",
        ));
    }
    let said = if is_late { said } else { with_own(record, said, &kept, event, market) };
    record.amount = said.amount.map(Micros::get);
    record.amount_currency = said.currency.map(Currency::to_bytes);
    record.quantity = said.quantity;
    if is_late {
        return Ok(true);
    }
    let price: Price = price_again(event, record, &said, market)?;
    record.currency = event.currency.to_bytes();
    record.catalog_version = catalog.version();
    price.set(record);
    Ok(true)
}

/// With the sender's own payout and revenue of before, where they counted and are not said again:
/// another amount does not unsay them. Own ones in the event's currency are not kept apart; they
/// are known by differing from what the rules make of the amount.
fn with_own(
    record: &ConversionRecord<'_>,
    said: Said,
    kept: &Said,
    event: &Event,
    market: &Market,
) -> Said {
    let foreign = kept.currency.is_some_and(|currency| currency != event.currency);
    let by_rules = || {
        let kept = Said { payout: None, revenue: None, ..*kept };
        price_again(event, record, &kept, market).ok().filter(|_| !foreign)
    };
    let own = |counts: bool,
               said: Option<Micros>,
               kept: Option<Micros>,
               of: fn(&Price) -> i64,
               earned: i64| {
        if !counts || said.is_some() {
            return said;
        }
        kept.or_else(|| by_rules().filter(|price| of(price) != earned).map(|_| Micros::new(earned)))
    };
    let unpaid = record.flags & Flag::OverCap.bit() != 0;
    let payout = |price: &Price| price.payout.get();
    let revenue = |price: &Price| price.revenue.get();
    Said {
        payout: own(event.trust.payout && !unpaid, said.payout, kept.payout, payout, record.payout),
        revenue: own(event.trust.revenue, said.revenue, kept.revenue, revenue, record.revenue),
        ..said
    }
}

/// What is kept, with what is said instead. A currency goes with the amounts it comes with.
fn merged(kept: &Said, said: &Said, trust: Trust) -> Said {
    let payout = said.payout.filter(|_| trust.payout);
    let revenue = said.revenue.filter(|_| trust.revenue);
    let says_amounts = said.amount.is_some() || payout.is_some() || revenue.is_some();
    Said {
        amount: said.amount.or(kept.amount),
        currency: if says_amounts { said.currency } else { kept.currency },
        quantity: said.quantity.or(kept.quantity),
        payout,
        revenue,
    }
}

/// Whether the sender's own payout or revenue, where it counts, is not the one that counted.
fn has_other_own(record: &ConversionRecord<'_>, said: &Said, kept: &Said, event: &Event) -> bool {
    let terms = terms_again(event, record);
    let is_unpaid = record.flags & Flag::OverCap.bit() != 0;
    let is_foreign = said.currency.is_some_and(|currency| currency != event.currency);
    let differs =
        |said: Option<Micros>, kept: Option<Micros>, counted: Micros, earned: i64| {
            said.is_some_and(|theirs| {
                if is_foreign { kept != Some(theirs) } else { counted.get() != earned }
            })
        };
    let within = |theirs: Option<Micros>| theirs.unwrap_or_default();
    let payout = terms.payout.within(within(said.payout));
    !is_unpaid && differs(said.payout, kept.payout, payout, record.payout)
        || differs(
            said.revenue,
            kept.revenue,
            terms.revenue.within(within(said.revenue)),
            record.revenue,
        )
}

fn final_event() -> Refused {
    Refused::with(Refusal::IllegalTransition, "a negative event stays approved once it has counted")
}

fn illegal(status: Status, said: Status) -> Refused {
    let instead = match (status, said) {
        (Status::Approved, _) => "reversed takes it back",
        (Status::Pending, _) => "only what is approved can be reversed; rejected ends it",
        (Status::Rejected, Status::Approved) => "the catalog's reapprove would allow it",
        (Status::Rejected, _) => "it has earned nothing that could be reversed",
        (Status::Reversed, _) => "that is final",
    };
    let hint = format!("the conversion is {}: {instead}", status.as_str());
    Refused::with(Refusal::IllegalTransition, hint)
}

#[cfg(test)]
#[path = "transition_tests.rs"]
pub(super) mod tests;
