//! The catalog file's schema: how much of an offer is paid, and from which volume on at which
//! rate.

use smol_str::SmolStr;

use super::file_money;
use super::snapshot::{Event, Terms, Trust};
use crate::caps::{Cap, Tier, Whose};
use crate::checked_toml::{Complaint, Input, Table, one_of};
use crate::limits::{CAPS_PER_OFFER_MAX, TIERS_PER_EVENT_MAX};
use crate::model::currency::Currency;
use crate::model::ids::AffiliateNumber;
use crate::model::money::Micros;
use crate::model::period::Period;

/// Keys of `[[offers.caps]]`.
pub const CAP: &[&str] =
    &["scope", "affiliate", "events", "period", "count", "payout", "redirect_when_full"];
/// Keys of `tiers`.
const TIER: &[&str] = &["from", "payout"];

/// Highest count in a cap or tier.
const COUNT_MAX: u64 = 1_000_000_000_000;

/// An offer's caps. `events` are the offer's; mistakes are noted.
pub fn caps(
    table: &Table<'_>,
    events: &[Event],
    affiliate: &dyn Fn(&Table<'_>) -> Option<SmolStr>,
) -> Vec<Cap> {
    let tables = table.tables("caps", "period", CAP);
    if tables.len() > CAPS_PER_OFFER_MAX {
        table.error("caps", format_args!("has more than {CAPS_PER_OFFER_MAX}"));
    }
    tables.iter().filter_map(|table| cap(table, events, affiliate)).collect()
}

fn cap(
    table: &Table<'_>,
    events: &[Event],
    affiliate: &dyn Fn(&Table<'_>) -> Option<SmolStr>,
) -> Option<Cap> {
    let counted = table.optional("events", |input| listed(input, events)).unwrap_or_default();
    let count = table.optional("count", |input| input.integer(1..=COUNT_MAX));
    let payout = table.optional("payout", positive);
    if !table.has("count") && !table.has("payout") {
        table.error("period", "caps nothing: give it a count or a payout");
    }
    let whose = whose(table, affiliate);
    let redirect = table.optional("redirect_when_full", Input::boolean).unwrap_or(false);
    if redirect && whose.as_ref().is_some_and(|whose| *whose != Whose::Offer) {
        table.error("redirect_when_full", "is for caps of the whole offer only");
    }
    let period = table.required("period", period)?;
    let mut cap = Cap::new(whose?, counted, period, count, payout);
    cap.redirect_when_full = redirect;
    let mut currencies = events.iter().filter(|event| event.is_counted_by(&cap));
    let first = currencies.next().map(|event| event.currency);
    if payout.is_some() && currencies.any(|event| Some(event.currency) != first) {
        table.error("payout", "is of events with several currencies: list events of one");
    }
    Some(cap)
}

fn whose(table: &Table<'_>, affiliate: &dyn Fn(&Table<'_>) -> Option<SmolStr>) -> Option<Whose> {
    let each = table
        .optional("scope", |input| one_of(input.text()?, &[("offer", false), ("affiliate", true)]));
    if !table.has("affiliate") {
        let each = each.unwrap_or(false);
        return Some(if each { Whose::EachAffiliate } else { Whose::Offer });
    }
    if each == Some(false) {
        table.error("scope", "is all affiliates', and one is named");
    }
    Some(Whose::Affiliate(affiliate(table)?, AffiliateNumber::NONE))
}

fn period(input: Input<'_>) -> Result<Period, Complaint> {
    let words: Vec<_> = Period::ALL.iter().map(|period| (period.as_str(), *period)).collect();
    one_of(input.text()?, &words)
}

/// Reads a list of some of the offer's events.
pub fn listed(input: Input<'_>, events: &[Event]) -> Result<Vec<Box<str>>, Complaint> {
    let mut list: Vec<Box<str>> = Vec::new();
    for name in input.list()? {
        let name = name.text()?;
        if !events.iter().any(|event| *event.id == *name) {
            return Err(Complaint::new(format!("{name:?} is not among the offer's events")));
        }
        if list.iter().any(|known| **known == *name) {
            return Err(Complaint::new(format!("{name:?} is listed twice")));
        }
        list.push(name.into());
    }
    if list.is_empty() {
        return Err(Complaint::new("lists none: leave it out to count all events"));
    }
    Ok(list)
}

fn positive(input: Input<'_>) -> Result<Micros, Complaint> {
    let amount = Micros::parse(input.text()?)?;
    if amount <= Micros::ZERO {
        return Err(Complaint::new("must be more than nothing"));
    }
    Ok(amount)
}

/// An event's payouts by volume, ascending; `terms` are its own.
pub fn tiers(table: &Table<'_>, terms: &Terms, currency: Currency, trust: Trust) -> Vec<Tier> {
    let tables = table.tables("tiers", "from", TIER);
    if tables.len() > TIERS_PER_EVENT_MAX {
        table.error("tiers", format_args!("has more than {TIERS_PER_EVENT_MAX}"));
    }
    let mut tiers: Vec<Tier> = Vec::with_capacity(tables.len());
    for table in &tables {
        let payout = file_money::tier_payout(table, terms, currency, trust);
        // The first conversion is paid by the event's own payout.
        let Some(from) = table.required("from", |input| input.integer(2..=COUNT_MAX)) else {
            continue;
        };
        if tiers.last().is_some_and(|before| before.from >= from) {
            table.error("from", "must be above that of the tier before");
        }
        tiers.push(Tier::new(from, payout));
    }
    tiers
}
