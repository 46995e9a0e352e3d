//! The catalog file's schema: what events pay, to whom, and whose word for it counts.

use std::collections::HashSet;

use smol_str::SmolStr;

use super::snapshot::{Override, Terms, Trust};
use crate::checked_toml::{Complaint, Input, Table};
use crate::model::currency::Currency;
use crate::model::ids::AffiliateNumber;
use crate::model::money::Micros;
use crate::model::rule::{Percent, Rule};

/// Keys of `payout` and `revenue`.
pub const MONEY: &[&str] = &["fixed", "percent", "per_unit", "min", "max", "currency"];
/// Keys of `[[offers.events.overrides]]`.
pub const OVERRIDE: &[&str] = &["affiliate", "payout", "revenue"];

/// Which amounts of a postback count; `inherited` where the table says nothing.
pub fn trust(table: &Table<'_>, inherited: Trust) -> Trust {
    let payout = table.optional("trust_payout", Input::boolean);
    let revenue = table.optional("trust_revenue", Input::boolean);
    Trust {
        payout: payout.unwrap_or(inherited.payout),
        revenue: revenue.unwrap_or(inherited.revenue),
    }
}

/// An event's terms and their currency: the payout's, or else the network's.
pub fn terms(table: &Table<'_>, trust: Trust, default: Currency) -> (Terms, Currency) {
    let (payout, named) = money(table, "payout");
    let currency = named.unwrap_or(default);
    let (revenue, named) = money(table, "revenue");
    must_be(currency, named, table, "revenue");
    let terms = Terms { payout, revenue };
    if table.has("revenue") {
        warn_of_loss(table, terms, trust);
    }
    (terms, currency)
}

/// The affiliates that have terms of their own; what an override leaves out is the event's.
pub fn overrides(
    table: &Table<'_>,
    event: &Terms,
    currency: Currency,
    trust: Trust,
    affiliate: &dyn Fn(&Table<'_>) -> Option<SmolStr>,
) -> Vec<Override> {
    let tables = table.tables("overrides", "affiliate", OVERRIDE);
    let mut known: HashSet<SmolStr> = HashSet::with_capacity(tables.len());
    let mut overrides = Vec::with_capacity(tables.len());
    for table in &tables {
        let terms = override_terms(table, event, currency, trust);
        let Some(affiliate) = affiliate(table) else { continue };
        if !known.insert(affiliate.clone()) {
            table.error("affiliate", format_args!("{affiliate:?} has an earlier override here"));
        }
        overrides.push(Override { affiliate, number: AffiliateNumber::NONE, terms });
    }
    overrides
}

fn override_terms(table: &Table<'_>, event: &Terms, currency: Currency, trust: Trust) -> Terms {
    let mut terms = *event;
    for (key, rule) in [("payout", &mut terms.payout), ("revenue", &mut terms.revenue)] {
        if table.has(key) {
            let (own, named) = money(table, key);
            must_be(currency, named, table, key);
            *rule = own;
        }
    }
    if !table.has("payout") && !table.has("revenue") {
        table.error("affiliate", "overrides nothing: give it a payout or a revenue");
    } else if terms.revenue != Rule::default() {
        warn_of_loss(table, terms, trust);
    }
    terms
}

/// What a tier of an event pays, in the event's currency.
pub fn tier_payout(table: &Table<'_>, event: &Terms, currency: Currency, trust: Trust) -> Rule {
    if !table.has("payout") {
        table.error("from", "pays nothing else: give it a payout");
    }
    let (payout, named) = money(table, "payout");
    must_be(currency, named, table, "payout");
    if event.revenue != Rule::default() {
        warn_of_loss(table, Terms { payout, ..*event }, trust);
    }
    payout
}

fn must_be(currency: Currency, named: Option<Currency>, table: &Table<'_>, key: &str) {
    if named.is_some_and(|other| other != currency) {
        let what = format_args!("must be {currency}, the currency of the event's payout");
        table.error_in(key, "currency", what);
    }
}

fn warn_of_loss(table: &Table<'_>, terms: Terms, trust: Trust) {
    if terms.payout.is_above(&terms.revenue) && trust == Trust::default() {
        table.warning("payout", "is above revenue: conversions lose money");
    }
}

/// The rule, and the currency if it names one.
fn money(table: &Table<'_>, key: &str) -> (Rule, Option<Currency>) {
    let Some(money) = table.table(key, MONEY) else { return (Rule::default(), None) };
    let rule = Rule {
        fixed: money.optional("fixed", amount).unwrap_or_default(),
        percent: money.optional("percent", percent).unwrap_or_default(),
        per_unit: money.optional("per_unit", amount).unwrap_or_default(),
        min: money.optional("min", |input| Ok(Micros::parse(input.text()?)?)),
        max: money.optional("max", amount),
    };
    if let (Some(min), Some(max)) = (rule.min, rule.max)
        && min > max
    {
        money.error("max", "is below min");
    }
    if rule.percent > Percent::HUNDRED {
        money.warning("percent", "is above 100: more than the customer spends");
    }
    (rule, money.optional("currency", |input| Ok(Currency::parse(input.text()?)?)))
}

fn amount(input: Input<'_>) -> Result<Micros, Complaint> {
    not_negative(Micros::parse(input.text()?)?)
}

/// A percentage that is not negative.
pub fn percent(input: Input<'_>) -> Result<Percent, Complaint> {
    let text = input.text()?;
    if text.ends_with('%') {
        return Err(Complaint::new("a percentage is written without its sign, such as \"12.5\""));
    }
    not_negative(Percent::parse(text)?)
}

fn not_negative<T: Default + PartialOrd>(value: T) -> Result<T, Complaint> {
    if value < T::default() {
        return Err(Complaint::new("must not be negative"));
    }
    Ok(value)
}
