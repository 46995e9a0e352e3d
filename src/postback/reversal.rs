// Pure: no clock, no randomness, no I/O.
//! What is left of conversions when a negative event takes them back.

use super::decide::{Refused, Verdict};
use crate::limits::HISTORY_STEPS_MAX;
use crate::model::currency::Currency;
use crate::model::money::Micros;
use crate::model::reasons::Refusal;
use crate::model::status::Status;
use crate::store::records::{ConversionRecord, HistoryEntry};

/// What a negative event says.
#[derive(Clone, Copy, Debug)]
pub struct Reversal<'a> {
    /// Its event's ID, or what else is the history's reason.
    pub reason: &'a str,
    /// How much of the amount is taken back, its sign aside; `None`: all of it.
    pub amount: Option<Micros>,
    /// The amount's currency; `None`: that of the event that is taken back, if it always was.
    pub currency: Option<Currency>,
    /// When it happened, Unix milliseconds, if the sender says so.
    pub said_ms: Option<u64>,
    /// When it is booked, Unix milliseconds.
    pub now_ms: u64,
}

impl<'a> Reversal<'a> {
    /// What the postback of a negative event says.
    #[must_use]
    pub fn of(verdict: &Verdict<'_>, reason: &'a str, now_ms: u64) -> Self {
        Self {
            reason,
            amount: verdict.said.amount,
            currency: verdict.said.currency,
            said_ms: verdict.said_ms(),
            now_ms,
        }
    }
}

/// The currency that a conversion's event has today; `None` if it has left the catalog.
pub type Today<'t> = &'t dyn Fn(&ConversionRecord<'_>) -> Option<Currency>;

/// Whether there is anything to take back of a conversion.
pub const fn is_open(status: Status) -> bool {
    matches!(status, Status::Pending | Status::Approved)
}

/// Which of several conversions of a transaction is taken back, the lowest first: what is paid.
pub const fn rank(status: Status) -> u8 {
    match status {
        Status::Approved => 0,
        Status::Pending => 1,
        Status::Rejected | Status::Reversed => 2,
    }
}

/// The conversion with all of it taken back, or the share that the amount is of its own: one that
/// is still pending is rejected then, and of a part that is gone nothing is earned when it is
/// approved.
///
/// # Errors
/// [`Refusal::IllegalTransition`] if there is nothing of it that could be taken back, or
/// [`Refusal::BadAmount`] and [`Refusal::BadCurrency`] if the share cannot be told.
pub fn reversed<'a>(
    record: &ConversionRecord<'a>,
    reversal: &Reversal<'a>,
    today: Today<'_>,
) -> Result<ConversionRecord<'a>, Refused> {
    let status = record.status().unwrap_or(Status::Rejected);
    if !is_open(status) {
        let hint = format!("the conversion is {}: nothing is left of it", status.as_str());
        return Err(Refused::with(Refusal::IllegalTransition, hint));
    }
    let mut anew = record.clone();
    let status = match part(record, reversal, today)? {
        // What is left can always be taken back, in one step.
        Some(_) if has_changed_too_often(record) => {
            return Err(Refused::with(Refusal::IllegalTransition, "it has changed too often"));
        }
        Some(part) => {
            anew.reversed_amount += part.get();
            status
        }
        None if status == Status::Pending => Status::Rejected,
        None => Status::Reversed,
    };
    anew.status = status.code();
    anew.history.push(HistoryEntry::new(
        status,
        reversal.now_ms,
        reversal.said_ms,
        anew.earned(),
        reversal.reason,
    ));
    Ok(anew)
}

/// Of some conversions, the latest first, those that change, by their places, and what is left of
/// them: all are taken back, or, if the event says an amount, the latest ones until it is used up.
/// One conversion alone is as [`reversed`].
///
/// # Errors
/// [`Refusal::UnknownConversion`] if there are none; as [`reversed`], if nothing of any of them
/// can be taken back.
pub fn reversed_of<'a>(
    records: &[ConversionRecord<'a>],
    reversal: &Reversal<'a>,
    today: Today<'_>,
) -> Result<Vec<(usize, ConversionRecord<'a>)>, Refused> {
    let first = records.first().ok_or(Refusal::UnknownConversion)?;
    let asked = reversal.amount.map(Micros::get).map(i64::saturating_abs);
    // Of one alone, the whole amount is compared with its own.
    let mut left = asked.filter(|_| records.len() > 1);
    // What is passed over for its currency would stay, and others be taken back for it.
    let is_unsaid = |record: &&ConversionRecord<'_>| {
        record.status().is_some_and(is_open)
            && record.amount.is_some_and(|whole| whole > record.reversed_amount)
            && unsaid(record, today).is_none()
    };
    if left.is_some()
        && reversal.currency.is_none()
        && let Some(record) = records.iter().find(is_unsaid)
    {
        return Err(not_its_currency(record));
    }
    let mut currency = reversal.currency;
    let mut changed = Vec::new();
    for (at, record) in records.iter().enumerate() {
        // What somebody else has taken back meanwhile is no reason to leave the others.
        if !record.status().is_some_and(is_open) {
            continue;
        }
        let mut part = *reversal;
        if let Some(left) = &mut left {
            let its = record.currency_of_amounts();
            let share = record.amount.unwrap_or_default().saturating_sub(record.reversed_amount);
            let share = share.min(*left);
            if share <= 0 || currency.or(unsaid(record, today)) != its {
                continue;
            }
            let is_part = record.amount.is_some_and(|whole| record.reversed_amount + share < whole);
            if is_part && has_changed_too_often(record) {
                continue;
            }
            currency = its;
            *left -= share;
            part.amount = Some(Micros::new(share));
            part.currency = its;
        }
        changed.push((at, reversed(record, &part, today)?));
    }
    if changed.is_empty() {
        // The latest says why.
        changed.push((0, reversed(first, reversal, today)?));
    }
    Ok(changed)
}

/// Whether no part of it can be taken back any more.
const fn has_changed_too_often(record: &ConversionRecord<'_>) -> bool {
    record.history.len() >= HISTORY_STEPS_MAX
}

/// The currency of amounts that name none: that of the conversion's event. `None` where that is
/// another one today, and nobody knows which is meant.
fn unsaid(record: &ConversionRecord<'_>, today: Today<'_>) -> Option<Currency> {
    let then = Currency::from_bytes(record.currency);
    then.filter(|then| today(record).is_none_or(|today| today == *then))
}

fn not_its_currency(record: &ConversionRecord<'_>) -> Refused {
    let its = record.currency_of_amounts();
    let its = its.as_ref().map_or("another currency", Currency::as_str);
    let hint =
        format!("the conversion's amount is in {its}: send this in it, too, and say that currency");
    Refused::with(Refusal::BadCurrency, hint)
}

/// How much of the conversion's amount is taken back; `None` if that is all that is left of it.
fn part(
    record: &ConversionRecord<'_>,
    reversal: &Reversal<'_>,
    today: Today<'_>,
) -> Result<Option<Micros>, Refused> {
    let Some(amount) = reversal.amount else { return Ok(None) };
    let amount = if amount < Micros::ZERO { amount.checked_neg() } else { Some(amount) };
    let Some(amount) = amount.filter(|amount| *amount > Micros::ZERO) else {
        return Err(Refused::with(Refusal::BadAmount, "what is taken back is not nothing"));
    };
    if reversal.currency.or(unsaid(record, today)) != record.currency_of_amounts() {
        return Err(not_its_currency(record));
    }
    let Some(whole) = record.amount.filter(|whole| *whole > 0) else {
        let hint =
            "the conversion has no amount to take a part of: without an amount, all is taken back";
        return Err(Refused::with(Refusal::BadAmount, hint));
    };
    let left = Micros::new(whole.saturating_sub(record.reversed_amount));
    Ok((amount < left).then_some(amount))
}

#[cfg(test)]
#[path = "reversal_tests.rs"]
mod tests;
