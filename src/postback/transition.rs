// Pure: no clock, no randomness, no I/O.
//! From what is heard of a known conversion to the conversion as it is then.

use super::decide::Refused;
use super::price::{Said, price_again};
use super::reversal::is_open;
use crate::catalog::{Catalog, Event, Trust};
use crate::limits::HISTORY_STEPS_MAX;
use crate::model::currency::Currency;
use crate::model::money::Micros;
use crate::model::reasons::{BY_POSTBACK, BY_UPLOAD, FRAUD, Flag, HELD, Refusal};
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
    let Some(status) = record.status() else { return Ok(None) };
    if older_than(heard.said_ms, record).is_some() {
        return Ok(None);
    }
    let event = catalog.offer(record.offer).and_then(|offer| offer.event(record.event));
    if record.is_negative() {
        // It has happened; nobody takes taking back back.
        return if heard.status == status { Ok(None) } else { Err(final_event()) };
    }
    let said = if is_void(record, status, heard) {
        status
    } else if takes_back(record, status, heard, catalog) {
        Status::Reversed
    } else {
        heard.status
    };
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

/// When the last step happened whose time is known, Unix milliseconds, if what is heard happened
/// before. Only times that senders have sent are compared: the time of a receipt says nothing about
/// the order of what happened.
pub fn older_than(said_ms: Option<u64>, record: &ConversionRecord<'_>) -> Option<u64> {
    let said_ms = said_ms?;
    // While something is left of it, a part that was taken back says nothing of the rest: many a
    // sender sends the sale's own time with all that becomes of it.
    let is_open = is_open(record.status()?);
    let is_by_word = |step: &HistoryEntry<'_>| matches!(word(step), BY_POSTBACK | BY_UPLOAD);
    let counts = |at: usize, step: &HistoryEntry<'_>| !is_open || at == 0 || is_by_word(step);
    let mut steps = record.history.iter().enumerate().rev();
    let last_ms = steps.find_map(|(at, step)| step.said_ms().filter(|_| counts(at, step)));
    // Whole seconds were cut off: it may have happened up to the next one.
    let at_most = said_ms.saturating_add(if said_ms.is_multiple_of(1000) { 999 } else { 0 });
    last_ms.filter(|last_ms| at_most < *last_ms)
}

/// Whether an advertiser's approval changes nothing: it only repeats the one with which the
/// conversion began, and which the offer held back; or fraud rules or a negative event have
/// rejected the conversion, which only the network takes back.
fn is_void(record: &ConversionRecord<'_>, status: Status, heard: &Heard<'_>) -> bool {
    if (heard.by, heard.status) != (Speaker::Advertiser, Status::Approved) {
        return false;
    }
    match status {
        Status::Pending => record.history.iter().any(|step| word(step) == HELD),
        Status::Rejected => {
            let rejected = |step: &HistoryEntry<'_>| step.status == status.code();
            let at = record.history.iter().position(rejected);
            // The history tells by itself, for the negative event may have left the catalog: what
            // nobody else has rejected later, it has.
            at.is_some_and(|at| match word(&record.history[at]) {
                FRAUD => true,
                BY_POSTBACK | BY_UPLOAD => false,
                _ => at > 0,
            })
        }
        Status::Approved | Status::Reversed => false,
    }
}

/// The reason of a step, without what may follow it: a tier, a cap or the rules, or when it was
/// received.
fn word<'a>(step: &HistoryEntry<'a>) -> &'a str {
    step.reason.split([':', '@']).next().unwrap_or_default()
}

/// Whether a rejection is of what was approved, from an advertiser that has no other word for it.
fn takes_back(
    record: &ConversionRecord<'_>,
    status: Status,
    heard: &Heard<'_>,
    catalog: &Catalog,
) -> bool {
    heard.status == Status::Rejected
        && matches!(status, Status::Approved | Status::Reversed)
        && catalog
            .advertiser(record.advertiser)
            .is_some_and(|advertiser| advertiser.rejects_approved)
}

/// Gives the conversion other amounts and the price that goes with them; whether they are others.
fn revalue(
    record: &mut ConversionRecord<'_>,
    heard: &Heard<'_>,
    event: Option<&Event>,
    catalog: &Catalog,
    market: &Market,
) -> Result<bool, Refused> {
    let mut said = counting(heard.said, record, event);
    let mut kept = counting(Said::of_record(record), record, event);
    if said.amount == left_of_amount(record) {
        // Who counts what was taken back says nothing new of the amount.
        said.amount = kept.amount;
    }
    if let Some(event) = event.filter(|_| catalog.version() == record.catalog_version) {
        kept = with_unkept(kept, record, event, market);
    }
    // A currency that is not said is the event's, that of today or that of then.
    let theirs = said.currency.or(event.map(|event| event.currency));
    let is_same_currency = said.currency == kept.currency || theirs == record.currency_of_amounts();
    if !has_others(&said, &kept) && (is_same_currency || !has_amounts(&said)) {
        return Ok(false);
    }
    if record.reversed_amount != 0 {
        // What has been taken back was a share of the amount that is known.
        return Err(Refused::with(
            Refusal::IllegalTransition,
            "a part of it has been taken back, and its amounts stay: send the status without them, or with those it had",
        ));
    }
    let event = event.ok_or_else(|| match catalog.offer(record.offer) {
        Some(_) => Refusal::UnknownEvent,
        None => Refusal::UnknownOffer,
    })?;
    if event.currency.to_bytes() != record.currency && record.was_booked() {
        // Each step is booked in the conversion's one currency.
        return Err(Refused::with(
            Refusal::IllegalTransition,
            "it is in the books in the currency that the event had then; its amounts stay",
        ));
    }
    let said = merged(&kept, &said, record.currency_of_amounts(), event.currency)?;
    record.amount = said.amount.map(Micros::get);
    record.amount_currency = said.currency.map(Currency::to_bytes);
    record.quantity = said.quantity;
    let price = price_again(event, record, &said, market)?;
    record.catalog_version = catalog.version();
    price.set(record);
    record.currency = event.currency.to_bytes();
    Ok(true)
}

/// The amount less what has been taken back of it.
fn left_of_amount(record: &ConversionRecord<'_>) -> Option<Micros> {
    record.amount.map(|whole| Micros::new(whole.saturating_sub(record.reversed_amount)))
}

/// What is said, the sender's own payout and revenue only where they count for the conversion.
fn counting(said: Said, record: &ConversionRecord<'_>, event: Option<&Event>) -> Said {
    let trust = event.map_or(Trust::default(), |event| event.trust);
    Said {
        payout: said.payout.filter(|_| trust.payout && !record.is_unpaid()),
        revenue: said.revenue.filter(|_| trust.revenue),
        ..said
    }
}

/// With own amounts in the event's currency, which earlier builds did not keep: as long as the
/// catalog is the one that the price is by, they are known by differing from what its rules make
/// of the amount.
fn with_unkept(kept: Said, record: &ConversionRecord<'_>, event: &Event, market: &Market) -> Said {
    let any = Some(Micros::ZERO);
    let may_be = counting(Said { payout: any, revenue: any, ..kept }, record, Some(event));
    let is_kept = |may_be: Option<Micros>, kept: Option<Micros>| may_be.is_none() || kept.is_some();
    if is_kept(may_be.payout, kept.payout) && is_kept(may_be.revenue, kept.revenue)
        || record.currency_of_amounts() != Some(event.currency)
        || record.currency != event.currency.to_bytes()
    {
        return kept;
    }
    // Earlier builds gave what came too late no revenue.
    let no_revenue = record.flags & Flag::Late.bit() != 0 && record.revenue == 0;
    let may_be = Said { revenue: may_be.revenue.filter(|_| !no_revenue), ..may_be };
    let by_rules = Said { payout: None, revenue: None, ..kept };
    let Ok(price) = price_again(event, record, &by_rules, market) else { return kept };
    let own = |may_be: Option<Micros>, by_rules: Micros, earned: i64| {
        may_be.map(|_| Micros::new(earned)).filter(|earned| *earned != by_rules)
    };
    Said {
        payout: kept.payout.or(own(may_be.payout, price.payout, record.payout)),
        revenue: kept.revenue.or(own(may_be.revenue, price.revenue, record.revenue)),
        ..kept
    }
}

/// Whether anything that is said is another than what is kept.
fn has_others(said: &Said, kept: &Said) -> bool {
    let is_other = |(said, kept): (Option<Micros>, Option<Micros>)| said.is_some() && said != kept;
    amounts(said).into_iter().zip(amounts(kept)).any(is_other)
        || said.quantity.is_some() && said.quantity != kept.quantity
}

fn has_amounts(said: &Said) -> bool {
    amounts(said).iter().any(Option::is_some)
}

const fn amounts(said: &Said) -> [Option<Micros>; 3] {
    [said.amount, said.payout, said.revenue]
}

/// What is kept, with what is said instead; another amount does not unsay an own payout or revenue.
/// All of a conversion's amounts are in one currency, and none ever changes it without being said
/// again, with the currency: one that names none is the event's, and where those that are known are
/// in another, nobody knows which is meant.
fn merged(
    kept: &Said,
    said: &Said,
    kept_in: Option<Currency>,
    events: Currency,
) -> Result<Said, Refused> {
    let currency = if has_amounts(said) {
        let stays =
            |(said, kept): (Option<Micros>, Option<Micros>)| said.is_none() && kept.is_some();
        let any_stays = amounts(said).into_iter().zip(amounts(kept)).any(stays);
        let is_same = kept_in == Some(said.currency.unwrap_or(events));
        if !is_same && (any_stays || said.currency.is_none() && has_amounts(kept)) {
            return Err(other_currency(kept_in));
        }
        said.currency
    } else {
        // The event may have had another one then.
        kept.currency.or(kept_in.filter(|kept_in| *kept_in != events && has_amounts(kept)))
    };
    Ok(Said {
        amount: said.amount.or(kept.amount),
        currency,
        quantity: said.quantity.or(kept.quantity),
        payout: said.payout.or(kept.payout),
        revenue: said.revenue.or(kept.revenue),
    })
}

fn other_currency(kept_in: Option<Currency>) -> Refused {
    let kept_in = kept_in.as_ref().map_or("another currency", Currency::as_str);
    let hint = format!(
        "the conversion has amounts in {kept_in}: send these in it, too, or all of them again in one currency, and say that currency"
    );
    Refused::with(Refusal::BadCurrency, hint)
}

fn final_event() -> Refused {
    Refused::with(Refusal::IllegalTransition, "a negative event stays approved once it has counted")
}

fn illegal(status: Status, said: Status) -> Refused {
    let instead = match (status, said) {
        (Status::Approved, _) => {
            "reversed takes it back; rejected would by the advertiser's rejects_approved"
        }
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

#[cfg(test)]
#[path = "transition_money_tests.rs"]
pub(super) mod money_tests;
