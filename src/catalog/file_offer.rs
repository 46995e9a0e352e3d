//! The catalog file's schema: offers and their events.

use std::collections::HashSet;
use std::sync::Arc;

use jiff::tz::TimeZone;
use smol_str::SmolStr;

use super::file::{id, url, window};
use super::file_caps;
use super::file_fraud;
use super::file_money;
use super::snapshot::{Advertiser, Event, Late, Offer, Repeat, Terms, Trust};
use super::template::{Macro, Template, TemplateError};
use crate::checked_toml::{Complaint, Input, Table, did_you_mean, end_ms, one_of};
use crate::model::currency::Currency;
use crate::model::ids::{OfferNumber, is_id};
use crate::model::period::Period;
use crate::model::reasons::RESERVED;
use crate::model::status::Status;

/// Keys of `[[offers]]`.
pub const OFFER: &[&str] = &[
    "id",
    "advertiser",
    "url",
    "status",
    "expires",
    "fallback_url",
    "window",
    "late",
    "customer_window",
    "one_conversion_per_click",
    "pass_params",
    "trust_payout",
    "trust_revenue",
    "events",
    "caps",
    "fraud",
];
/// Keys of `[[offers.events]]`.
pub const EVENT: &[&str] = &[
    "id",
    "initial_status",
    "reapprove",
    "reverses",
    "repeat",
    "window",
    "payout",
    "revenue",
    "trust_payout",
    "trust_revenue",
    "overrides",
    "tiers",
];

/// Events that one negative event can take back.
pub const REVERSES_MAX: usize = 20;
/// Further parameters that an offer can pass.
pub const PASS_PARAMS_MAX: usize = 20;

/// Parameters of the click's URL that mean something already and never reach the passed ones.
const CLICK_PARAMETERS: [&str; 12] = [
    "offer",
    "o",
    "aff",
    "affiliate",
    "aff_id",
    "a",
    "pid",
    "id",
    "subid",
    "aff_sub",
    "redirect",
    "sub",
];

/// What the network says where an offer says nothing.
#[derive(Clone, Debug)]
pub struct NetworkDefaults {
    /// Currency of payouts that name none.
    pub currency: Currency,
    /// Where the day of a date begins and ends.
    pub time_zone: TimeZone,
}

/// What offers refer to, and what they inherit.
pub struct Surroundings<'a> {
    /// Where an offer says nothing.
    pub defaults: &'a NetworkDefaults,
    /// The catalog ID of the affiliate that a table names; `None` if there is none of that name,
    /// which is noted, or none without mistakes.
    pub affiliate: &'a dyn Fn(&Table<'_>) -> Option<SmolStr>,
}

/// Reads an offer. `None` if it has no usable landing URL, which is noted, as all mistakes are, or
/// its advertiser is not known.
pub fn offer(
    table: &Table<'_>,
    id: &str,
    advertiser: Option<Arc<Advertiser>>,
    around: &Surroundings<'_>,
) -> Option<Offer> {
    let pass_params = table.optional("pass_params", pass_params).unwrap_or_default();
    let window_ms = table.optional("window", window);
    let active = [("active", true), ("paused", false)];
    let customer_window_ms = table.optional("customer_window", window);
    let late = [("refuse", Late::Refuse), ("zero_payout", Late::ZeroPayout)];
    let expires = |input| end_ms(input, &around.defaults.time_zone);
    // All keys are read before the first that is lacking ends it, so that all mistakes are noted.
    let (fallback, expires_ms) =
        (table.optional("fallback_url", url), table.optional("expires", expires));
    let active = table.optional("status", |input| one_of(input.text()?, &active)).unwrap_or(true);
    let late = table.optional("late", |input| one_of(input.text()?, &late)).unwrap_or(Late::Refuse);
    let one_conversion_per_click = table.optional("one_conversion_per_click", Input::boolean);
    let trust = file_money::trust(table, Trust::default());
    let inherited = Inherited { window_ms, trust };
    let events = events(table, inherited, around);
    let caps = file_caps::caps(table, &events, around.affiliate);
    let fraud = file_fraud::fraud(table, &events);
    let landing = table.required("url", |input| template(input.text()?, &pass_params))?;
    Some(Offer {
        id: id.into(),
        number: OfferNumber::NONE,
        advertiser: advertiser?,
        landing,
        fallback,
        active,
        expires_ms,
        window_ms,
        late,
        customer_window_ms,
        one_conversion_per_click: one_conversion_per_click.unwrap_or(false),
        pass_params,
        is_metered: !caps.is_empty() || events.iter().any(|event| !event.tiers.is_empty()),
        events,
        is_capped_in_total: caps.iter().any(|cap| cap.period == Period::Total),
        redirects_when_full: caps.iter().any(|cap| cap.redirect_when_full),
        caps,
        fraud,
    })
}

fn template(text: &str, pass_params: &[String]) -> Result<Template, Complaint> {
    Template::compile(text, pass_params).map_err(|error| match &error {
        TemplateError::UnknownMacro { name } => {
            let passed = pass_params.iter().map(String::as_str);
            let known = Macro::BUILT_IN.iter().map(|(known, _)| *known).chain(passed);
            let hint = match did_you_mean(name, known) {
                none if none.is_empty() => "; list it in pass_params to pass it on".to_owned(),
                hint => hint,
            };
            Complaint::new(format!("{error}{hint}"))
        }
        _ => Complaint::from(error),
    })
}

fn pass_params(input: Input<'_>) -> Result<Vec<String>, Complaint> {
    let names = input.list()?;
    if names.len() > PASS_PARAMS_MAX {
        return Err(Complaint::new(format!("more than {PASS_PARAMS_MAX} parameters")));
    }
    let mut known = HashSet::new();
    let mut list = Vec::with_capacity(names.len());
    for name in names {
        let name = name.text()?;
        if !is_id(name) {
            return Err(Complaint::new(format!("{name:?} is not 1 to 64 of A-Z a-z 0-9 . _ -")));
        }
        let built_in = Macro::BUILT_IN.iter().any(|(known, _)| *known == name);
        if built_in || CLICK_PARAMETERS.contains(&name) {
            return Err(Complaint::new(format!(
                "{name:?} has a meaning of its own already; leave it out"
            )));
        }
        if !known.insert(name) {
            return Err(Complaint::new(format!("{name:?} is listed twice")));
        }
        list.push(name.to_owned());
    }
    Ok(list)
}

/// What an event has from its offer.
#[derive(Clone, Copy)]
struct Inherited {
    window_ms: Option<u64>,
    trust: Trust,
}

fn events(table: &Table<'_>, inherited: Inherited, around: &Surroundings<'_>) -> Vec<Event> {
    let tables = table.tables("events", "id", EVENT);
    if tables.is_empty() {
        table.warning("events", "has no events: every postback for the offer will be refused");
    }
    let mut events: Vec<Event> = Vec::with_capacity(tables.len());
    let mut named = Vec::with_capacity(tables.len());
    for table in &tables {
        let Some(id) = table.required("id", id) else { continue };
        if events.iter().any(|event| &*event.id == id) {
            table.error("id", format_args!("{id:?} is taken by an earlier event of this offer"));
        }
        events.push(event(table, id, inherited, around));
        named.push(table);
    }
    for (table, event) in named.into_iter().zip(&events) {
        check_reverses(table, event, &events);
    }
    events
}

/// What a negative event takes back must be there and have earned something.
fn check_reverses(table: &Table<'_>, event: &Event, events: &[Event]) {
    for id in &event.reverses {
        match events.iter().find(|other| other.id == *id) {
            Some(other) if !other.is_negative() && other.id != event.id => {}
            Some(_) => {
                let what = format_args!("{id:?} earns nothing that could be taken back");
                table.error("reverses", what);
            }
            None => {
                let known = events.iter().map(|other| &*other.id);
                let hint = did_you_mean(id, known);
                table.error("reverses", format_args!("{id:?} is no event of this offer{hint}"));
            }
        }
    }
    if event.is_negative() && RESERVED.contains(&&*event.id) {
        let what = "is a word of histories already; a negative event's ID is the reason of what it \
                    takes back, so choose another";
        table.error("id", format_args!("{:?} {what}", event.id));
    }
    if event.is_negative() && event.terms != Terms::default() {
        table.error("reverses", "a negative event has neither payout nor revenue");
    }
}

fn reverses(input: Input<'_>) -> Result<Vec<SmolStr>, Complaint> {
    let events = input.list()?;
    if events.is_empty() || events.len() > REVERSES_MAX {
        return Err(Complaint::new(format!("must name 1 to {REVERSES_MAX} events")));
    }
    events.into_iter().map(|event| Ok(id(event)?.into())).collect()
}

fn event(table: &Table<'_>, id: &str, inherited: Inherited, around: &Surroundings<'_>) -> Event {
    let statuses = [Status::Pending, Status::Approved].map(|status| (status.as_str(), status));
    let initial = table.optional("initial_status", |input| one_of(input.text()?, &statuses));
    let reverses = table.optional("reverses", reverses).unwrap_or_default();
    let is_negative = !reverses.is_empty();
    if is_negative && initial.is_some_and(|status| status != Status::Approved) {
        let what = "says nothing of a negative event, which is kept as approved: leave it out";
        table.warning("initial_status", what);
    }
    // Money is taken back long after the click.
    let window_ms = inherited.window_ms.filter(|_| !is_negative);
    let trust = file_money::trust(table, inherited.trust);
    let (terms, currency) = file_money::terms(table, trust, around.defaults.currency);
    Event {
        id: id.into(),
        initial_status: initial.filter(|_| !is_negative).unwrap_or(Status::Approved),
        reverses,
        reapprove: table.optional("reapprove", Input::boolean).unwrap_or(false),
        repeat: table.optional("repeat", repeat).unwrap_or(Repeat::Once),
        window_ms: table.optional("window", window).or(window_ms),
        overrides: file_money::overrides(table, &terms, currency, trust, around.affiliate),
        tiers: file_caps::tiers(table, &terms, currency, trust),
        terms,
        trust,
        currency,
    }
}

fn repeat(input: Input<'_>) -> Result<Repeat, Complaint> {
    if input.text()? == "once" {
        return Ok(Repeat::Once);
    }
    let wrong = |_| Complaint::new("must be \"once\" or a duration such as \"24h\"");
    window(input).map(Repeat::Window).map_err(wrong)
}
