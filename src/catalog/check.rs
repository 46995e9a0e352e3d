//! From a catalog file to a checked catalog: every key, every reference, every amount, and all
//! mistakes in one report. What this version would not honour is refused, never ignored.

use std::collections::HashMap;
use std::sync::Arc;

use super::snapshot::{Advertiser, Affiliate, Catalog, Event, Late, MissingNumber, Offer, Repeat};
use super::template::Template;
use crate::config::reader::{Reader, Section};
use crate::config::report::{Report, did_you_mean};
use crate::limits::CUSTOM_PARAMETERS_MAX;
use crate::model::fields::Field;
use crate::model::ids::{AffiliateNumber, OfferNumber, is_id};
use crate::model::money::{Currency, Micros};
use crate::model::status::Status;
use crate::model::units::parse_duration;
use crate::model::url::is_http_url;
use crate::store::Numbers;

/// Presets that the design names; only the first is spoken by this version.
const PRESETS: [&str; 13] = [
    "standard", "voluum", "keitaro", "binom", "redtrack", "everflow", "tune", "affise", "scaleo",
    "afftrax", "trackier", "bemob", "cake",
];

/// What a catalog leaves to the network.
#[derive(Clone, Copy, Debug)]
pub struct NetworkDefaults {
    /// Currency of payouts that name none.
    pub currency: Currency,
}

/// A catalog without mistakes, whose offers and affiliates have no numbers yet.
#[derive(Debug)]
pub struct Checked {
    catalog: Catalog,
}

impl Checked {
    /// The offers' IDs.
    pub fn offer_ids(&self) -> impl Iterator<Item = &str> {
        self.catalog.offers.iter().map(|offer| offer.id.as_str())
    }

    /// The affiliates' IDs.
    pub fn affiliate_ids(&self) -> impl Iterator<Item = &str> {
        self.catalog.affiliates.iter().map(|affiliate| affiliate.id.as_str())
    }

    /// The catalog with its numbers and the version that names its content.
    ///
    /// # Errors
    /// When `numbers` lacks one.
    pub fn number(self, version: u64, numbers: &Numbers) -> Result<Catalog, MissingNumber> {
        let mut catalog = self.catalog;
        catalog.version = version;
        for (place, offer) in catalog.offers.iter_mut().enumerate() {
            offer.number =
                numbers.offer(&offer.id).ok_or_else(|| MissingNumber(offer.id.clone()))?;
            set(&mut catalog.offers_by_number, offer.number.get(), place);
        }
        for (place, affiliate) in catalog.affiliates.iter_mut().enumerate() {
            let number = numbers.affiliate(&affiliate.id);
            affiliate.number = number.ok_or_else(|| MissingNumber(affiliate.id.clone()))?;
            set(&mut catalog.affiliates_by_number, affiliate.number.get(), place);
        }
        Ok(catalog)
    }
}

fn set(by_number: &mut Vec<Option<u32>>, number: u32, place: usize) {
    let index = number as usize;
    if by_number.len() <= index {
        by_number.resize(index + 1, None);
    }
    by_number[index] = u32::try_from(place).ok();
}

/// Reads and checks a catalog file. The report that comes with a sound catalog holds warnings.
///
/// # Errors
/// The report of all mistakes.
pub fn parse(
    file: &str,
    text: &str,
    defaults: NetworkDefaults,
) -> Result<(Checked, Report), Report> {
    let reader = Reader::new(file, text, std::iter::empty());
    let root = reader.root();
    let mut catalog = Catalog::default();
    for section in root.sections("advertisers") {
        if let Some(advertiser) = advertiser(section, &catalog) {
            catalog.advertisers.insert(advertiser.id.clone(), Arc::new(advertiser));
        }
    }
    for section in root.sections("offers") {
        if let Some(offer) = offer(section, &catalog, defaults) {
            catalog.offers_by_id.insert(offer.id.clone(), catalog.offers.len());
            catalog.offers.push(offer);
        }
    }
    for section in root.sections("affiliates") {
        if let Some(affiliate) = affiliate(section, &catalog) {
            catalog.affiliates_by_id.insert(affiliate.id.clone(), catalog.affiliates.len());
            catalog.affiliates.push(affiliate);
        }
    }
    for section in root.sections("links") {
        if let Some((code, offer, affiliate)) = link(section, &catalog) {
            catalog.links.insert(code, (offer, affiliate));
        }
    }
    root.finish(&mut Vec::new());
    let report = reader.finish(&[]);
    if report.has_errors() { Err(report) } else { Ok((Checked { catalog }, report)) }
}

/// The section's `id`, well-formed and not taken.
fn new_id(section: &Section<'_>, taken: impl Fn(&str) -> bool) -> Option<String> {
    if !section.has("id") {
        section.mistake("id", "missing");
    }
    let sound = |text: &str| is_id(text).then(|| text.to_owned());
    let id = section.parse("id", "1 to 64 characters of A-Z a-z 0-9 . _ -", sound)?;
    if taken(&id) {
        section.mistake("id", format!("\"{id}\" is there twice"));
        return None;
    }
    Some(id)
}

/// A key that names something else in the catalog.
fn reference<'c, T: Copy>(
    section: &Section<'_>,
    key: &str,
    known: impl Fn(&str) -> Option<T>,
    all: impl Iterator<Item = &'c str>,
) -> Option<T> {
    if !section.has(key) {
        section.mistake(key, "missing");
    }
    let id = section.text(key)?;
    let found = known(&id);
    if found.is_none() {
        section.mistake(key, format!("there is no \"{id}\"{}", did_you_mean(&id, all)));
    }
    found
}

/// Refuses a key that the design knows and this version would not honour.
fn unsupported(section: &Section<'_>, key: &str, why: &str) {
    if section.has(key) {
        section.mistake(key, format!("not supported by this version: {why}"));
    }
}

fn advertiser(section: Section<'_>, catalog: &Catalog) -> Option<Advertiser> {
    let id = new_id(&section, |id| catalog.advertisers.contains_key(id));
    if let Some(preset) = section.text("preset").filter(|preset| preset != "standard") {
        if PRESETS.contains(&preset.as_str()) {
            unsupported(&section, "preset", "only \"standard\" is spoken");
        } else {
            let hint = did_you_mean(&preset, PRESETS.into_iter());
            section.mistake("preset", format!("there is no preset \"{preset}\"{hint}"));
        }
    }
    unsupported(&section, "auth", "nothing would be checked");
    let advertiser = Advertiser {
        id: id.clone().unwrap_or_default(),
        params: params(&section),
        statuses: statuses(&section),
        events: section.pairs("events"),
    };
    let mut known = vec![];
    if section.has("auth") {
        // Reported above; not unknown as well.
        drop(section.section("auth"));
    }
    section.finish(&mut known);
    id.map(|_| advertiser)
}

fn params(section: &Section<'_>) -> Vec<(Field, String)> {
    let mut params: Vec<(Field, String)> = Vec::new();
    for (ours, theirs) in section.pairs("params") {
        let Some(field) = Field::ALL.into_iter().find(|field| field.as_str() == ours) else {
            let hint = did_you_mean(&ours, Field::ALL.iter().map(|field| field.as_str()));
            section.mistake("params", format!("\"{ours}\" is not a parameter of ours{hint}"));
            continue;
        };
        if theirs.is_empty() {
            section.mistake("params", format!("{ours} needs a name"));
        } else if params.iter().any(|(_, other)| *other == theirs) {
            section.mistake("params", format!("\"{theirs}\" stands for two meanings"));
        }
        params.push((field, theirs));
    }
    params
}

fn statuses(section: &Section<'_>) -> Vec<(String, Status)> {
    let mut statuses = Vec::new();
    for (theirs, ours) in section.pairs("statuses") {
        match Status::parse(&ours) {
            Some(status) => statuses.push((theirs, status)),
            None => section.mistake(
                "statuses",
                format!("\"{ours}\" is not pending, approved, rejected or reversed"),
            ),
        }
    }
    statuses
}

fn offer(section: Section<'_>, catalog: &Catalog, defaults: NetworkDefaults) -> Option<Offer> {
    let id = new_id(&section, |id| catalog.offers_by_id.contains_key(id));
    let advertiser = reference(
        &section,
        "advertiser",
        |id| catalog.advertisers.get(id),
        catalog.advertisers.keys().map(String::as_str),
    );
    let pass_params = pass_params(&section);
    let offer = Offer {
        id: id.unwrap_or_default(),
        number: OfferNumber::NONE,
        landing: landing(&section, &pass_params).unwrap_or_default(),
        fallback: section.parse(
            "fallback_url",
            "an absolute http or https URL without macros",
            plain_url,
        ),
        active: section.word("status", &[("active", true), ("paused", false)]).unwrap_or(true),
        expires_ms: section.parse("expires", "a time such as \"2026-12-31T23:59:59Z\"", timestamp),
        window_ms: window(&section, "window"),
        late: section
            .word("late", &[("refuse", Late::Refuse), ("zero_payout", Late::ZeroPayout)])
            .unwrap_or(Late::Refuse),
        one_conversion_per_click: section.truth("one_conversion_per_click").unwrap_or(false),
        events: events(&section, defaults),
        pass_params,
        advertiser: Arc::clone(advertiser.unwrap_or(&Arc::new(Advertiser {
            id: String::new(),
            params: vec![],
            statuses: vec![],
            events: vec![],
        }))),
    };
    section.finish(&mut Vec::new());
    (!offer.id.is_empty()).then_some(offer)
}

fn landing(section: &Section<'_>, pass_params: &[String]) -> Option<Template> {
    if !section.has("url") {
        section.mistake("url", "missing");
    }
    let text = section.text("url")?;
    Template::compile(&text, pass_params)
        .map_err(|error| section.mistake("url", error.to_string()))
        .ok()
}

fn pass_params(section: &Section<'_>) -> Vec<String> {
    let name = |text: &str| is_id(text).then(|| text.to_owned());
    let params = section.list("pass_params", "a parameter name of letters, digits, . _ -", name);
    if params.len() > CUSTOM_PARAMETERS_MAX {
        section.mistake("pass_params", format!("more than {CUSTOM_PARAMETERS_MAX}"));
    }
    params
}

fn plain_url(text: &str) -> Option<String> {
    (is_http_url(text) && !text.contains(['{', '}'])).then(|| text.to_owned())
}

fn timestamp(text: &str) -> Option<u64> {
    let time: jiff::Timestamp = text.parse().ok()?;
    u64::try_from(time.as_millisecond()).ok()
}

fn window(section: &Section<'_>, key: &str) -> Option<u64> {
    section.parse(key, "a duration such as \"30d\"", millis)
}

fn millis(text: &str) -> Option<u64> {
    u64::try_from(parse_duration(text)?.as_millis()).ok()
}

fn events(section: &Section<'_>, defaults: NetworkDefaults) -> Vec<Event> {
    let mut events: Vec<Event> = Vec::new();
    for section in section.sections("events") {
        let taken = |id: &str| events.iter().any(|event| event.id == id);
        let id = new_id(&section, taken);
        if let Some(event) = event(section, id, defaults) {
            events.push(event);
        }
    }
    if events.is_empty() {
        section.mistake("events", "an offer needs at least one event");
    }
    events
}

fn event(section: Section<'_>, id: Option<String>, defaults: NetworkDefaults) -> Option<Event> {
    let repeat = |text: &str| match text {
        "once" => Some(Repeat::Once),
        text => millis(text).map(Repeat::Window),
    };
    let initial = [("pending", Status::Pending), ("approved", Status::Approved)];
    let (payout, payout_currency) = rule(section.section("payout"));
    let (revenue, revenue_currency) = rule(section.section("revenue"));
    let currency = payout_currency.or(revenue_currency).unwrap_or(defaults.currency);
    if revenue_currency.is_some_and(|other| other != currency) {
        section.mistake("revenue", "payout and revenue have one currency");
    }
    unsupported(&section, "reverses", "negative events are not booked yet");
    let event = Event {
        id: id.clone().unwrap_or_default(),
        initial_status: section.word("initial_status", &initial).unwrap_or(Status::Approved),
        repeat: section
            .parse("repeat", "\"once\" or a duration such as \"24h\"", repeat)
            .unwrap_or(Repeat::Once),
        window_ms: window(&section, "window"),
        payout,
        revenue,
        currency,
    };
    if section.has("reverses") {
        // Reported above; not unknown as well.
        section.list("reverses", "an event", |_| Some(()));
    }
    section.finish(&mut Vec::new());
    id.map(|_| event)
}

/// A payout or revenue rule: what it fixes, and its currency.
fn rule(section: Section<'_>) -> (Micros, Option<Currency>) {
    let amount = |key: &str| {
        section.parse(key, "an amount such as \"15.00\"", |text| text.parse::<Micros>().ok())
    };
    let fixed = amount("fixed").unwrap_or(Micros::ZERO);
    if fixed < Micros::ZERO {
        section.mistake("fixed", "must not be negative");
    }
    for key in ["percent", "per_unit"] {
        if amount(key).is_some_and(|amount| amount != Micros::ZERO) {
            unsupported(&section, key, "only \"fixed\" is paid");
        }
    }
    let currency =
        section.parse("currency", "an ISO 4217 code such as \"USD\"", |text| text.parse().ok());
    section.finish(&mut Vec::new());
    (fixed, currency)
}

fn affiliate(section: Section<'_>, catalog: &Catalog) -> Option<Affiliate> {
    let id = new_id(&section, |id| catalog.affiliates_by_id.contains_key(id));
    let active = section.word("status", &[("active", true), ("blocked", false)]).unwrap_or(true);
    section.finish(&mut Vec::new());
    id.map(|id| Affiliate { id, number: AffiliateNumber::NONE, active })
}

fn link(section: Section<'_>, catalog: &Catalog) -> Option<(String, usize, usize)> {
    let sound = |text: &str| is_id(text).then(|| text.to_owned());
    if !section.has("code") {
        section.mistake("code", "missing");
    }
    let code = section.parse("code", "1 to 64 characters of A-Z a-z 0-9 . _ -", sound);
    let place = |ids: &HashMap<String, usize>, id: &str| ids.get(id).copied();
    let offers = &catalog.offers_by_id;
    let offer =
        reference(&section, "offer", |id| place(offers, id), offers.keys().map(String::as_str));
    let affiliates = &catalog.affiliates_by_id;
    let affiliate = reference(
        &section,
        "affiliate",
        |id| place(affiliates, id),
        affiliates.keys().map(String::as_str),
    );
    let taken = code.as_ref().is_some_and(|code| catalog.links.contains_key(code));
    if taken {
        section.mistake("code", "is there twice");
    }
    section.finish(&mut Vec::new());
    Some((code.filter(|_| !taken)?, offer?, affiliate?))
}
