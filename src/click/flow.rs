// Hot path: two allocations per click, the ticket and the redirect's URL.
//! One click from parameters to redirect. The record goes to the disk meanwhile; the visitor
//! waits for it no longer than the deadline.

use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;

use super::decide::{Choice, decide};
use super::ip::Visitor;
use super::params::{ClickParams, passed};
use crate::caps::{Cap, Meters};
use crate::catalog::{Affiliate, Catalog, Macro, MacroValues, Offer, Slot};
use crate::click_id::{ClickId, Keyring, Minter, RecordId, Text};
use crate::fraud::{Visit, Watch};
use crate::limits::HEADER_VALUE_KEPT_BYTES_MAX;
use crate::metrics::Metrics;
use crate::model::country::Country;
use crate::model::ids::{AffiliateNumber, OfferNumber};
use crate::model::reasons::{ClickFallback, Flag};
use crate::model::url::HttpUrl;
use crate::store::Store;
use crate::store::records::{ClickRecord, StoredIp};
use crate::store::ticket::{Outcome, Settle, Ticket, Waiting};

/// What a click's request brings.
#[derive(Clone, Copy, Debug)]
pub struct ClickRequest<'a> {
    /// The short link's code, if the path has one.
    pub code: Option<&'a str>,
    /// The query string.
    pub query: &'a str,
    /// The visitor's address.
    pub ip: IpAddr,
    /// `User-Agent`.
    pub user_agent: &'a str,
    /// `Referer`.
    pub referrer: &'a str,
    /// Where the visitor is, if somebody trusted tells.
    pub country: Option<Country>,
    /// HEAD: nothing is minted, nothing recorded.
    pub head: bool,
    /// When it came, Unix milliseconds.
    pub now_ms: u64,
    /// For `{random}`.
    pub random: u64,
}

/// Where the visitor goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClickAnswer {
    /// The landing or fallback URL; `None` if there is no fallback.
    pub url: Option<Vec<u8>>,
    /// The click ID, if one was minted for an offer.
    pub click: Option<ClickId>,
    /// Why it is not the offer.
    pub fallback: Option<ClickFallback>,
    /// Answer JSON instead of redirecting.
    pub as_json: bool,
}

/// A click's record in the writer's hands.
pub struct Recording(Arc<dyn Settle>);

/// Takes clicks.
#[derive(Clone)]
pub struct Clicks {
    /// The catalog in force.
    pub catalog: Arc<ArcSwap<Catalog>>,
    /// Signs click IDs.
    pub keyring: Arc<Keyring>,
    /// Mints record IDs.
    pub minter: Arc<Minter>,
    /// Keeps.
    pub store: Arc<Store>,
    /// Knows which caps are full.
    pub meters: Arc<Meters>,
    /// Counts for fraud rules.
    pub watch: Arc<Watch>,
    /// Counts everything.
    pub metrics: Arc<Metrics>,
    /// How much of an address is kept.
    pub visitor: Visitor,
    /// Whether address, user agent and referrer of who has not consented are kept nowhere.
    pub strips_without_consent: bool,
    /// How long a redirect waits for the disk.
    pub ack_deadline: Duration,
    /// The worker's tasks that wait for the disk.
    pub waiting: Arc<Waiting>,
    /// Where clicks go whose offer has no fallback of its own.
    pub fallback_url: Option<HttpUrl>,
}

impl Clicks {
    /// Takes one click: where the visitor goes, and the record on its way to the disk, which
    /// [`Clicks::confirmed`] waits for.
    pub fn take(&self, request: &ClickRequest<'_>) -> (ClickAnswer, Option<Recording>) {
        let catalog = self.catalog.load();
        let params = ClickParams::read(request.query);
        let is_full = |offer: &Offer| self.is_full(offer, request.now_ms);
        let choice = decide(&catalog, &params, request.code, request.now_ms, is_full);
        let names = choice.offer.map_or(&[][..], |offer| &offer.pass_params);
        let passed: Vec<_> = names
            .iter()
            .map(|name| {
                let value = passed(request.query, name, params.is_copied);
                (name.as_str(), value.unwrap_or_default())
            })
            .collect();
        let read = Read { choice, params: &params, passed: &passed, request };
        if request.head {
            let url = self.url(&read, None);
            let answer = ClickAnswer {
                url,
                click: None,
                fallback: choice.fallback,
                as_json: params.as_json,
            };
            return (answer, None);
        }
        let offer = choice.offer.map_or(OfferNumber::NONE, |offer| offer.number);
        let affiliate =
            choice.affiliate.map_or(AffiliateNumber::NONE, |affiliate| affiliate.number);
        if let Some(offer) = choice.offer {
            offer.landing.ask_for();
        }
        let click = self.keyring.sign(self.minter.mint(request.now_ms, offer, affiliate));
        let url = self.url(&read, Some(click));
        let ticket = self.record(click, &read);
        let click = choice.fallback.is_none().then_some(click);
        (ClickAnswer { url, click, fallback: choice.fallback, as_json: params.as_json }, ticket)
    }

    /// Whether a cap of an offer is full that then sends its clicks to the fallback.
    fn is_full(&self, offer: &Offer, now_ms: u64) -> bool {
        let currency = |cap: &Cap| {
            let counted = offer.events.iter().find(|event| event.is_counted_by(cap))?;
            Some(counted.currency.to_bytes())
        };
        self.meters.is_full(offer.number, &offer.caps, currency, now_ms)
    }

    fn url(&self, read: &Read<'_>, click: Option<ClickId>) -> Option<Vec<u8>> {
        let Choice { offer, affiliate, fallback } = read.choice;
        match (fallback, offer, affiliate) {
            (None, Some(offer), Some(affiliate)) => {
                let click = click.map(|click| click.to_text());
                let values = Values {
                    offer,
                    affiliate,
                    params: read.params,
                    passed: read.passed,
                    click: click.as_ref().map_or("", Text::as_str),
                    request: read.request,
                };
                let mut url = Vec::new();
                offer.landing.expand(&values, &mut url);
                Some(url)
            }
            (_, offer, _) => offer
                .and_then(|offer| offer.fallback.as_ref())
                .or(self.fallback_url.as_ref())
                .map(|url| url.as_str().as_bytes().to_vec()),
        }
    }

    fn record(&self, click: ClickId, read: &Read<'_>) -> Option<Recording> {
        let Read { choice, params, passed, request } = read;
        let is_stripped = self.strips_without_consent && params.withhold_consent();
        let kept = |header| if is_stripped { "" } else { kept(header) };
        let present = passed.iter().filter(|(_, value)| !value.is_empty());
        let record = ClickRecord {
            subs: std::array::from_fn(|place| &*params.subs[place]),
            passed: present.map(|(name, value)| (*name, &**value)).collect(),
            ip: if is_stripped { StoredIp::None } else { self.visitor.keep(request.ip) },
            user_agent: kept(request.user_agent),
            referrer: kept(request.referrer),
            gdpr: &params.gdpr,
            gdpr_consent: &params.gdpr_consent,
            us_privacy: &params.us_privacy,
            fallback: choice.fallback.map_or("", ClickFallback::as_str),
            country: request.country.map(Country::to_bytes),
            flags: self.suspicion(click.record(), read) | Flag::WithoutConsent.bit_if(is_stripped),
        };
        let ticket: Arc<dyn Settle> = Arc::new(Ticket::default());
        if let Err(error) = self.store.record_click(click.record(), &record, Arc::clone(&ticket)) {
            tracing::debug!(%error, "a click goes unrecorded");
            self.metrics.clicks.unrecorded.increment(1);
            return None;
        }
        self.waiting.submitted();
        Some(Recording(ticket))
    }

    /// The bits of the fraud rules that a click breaks, if its offer has any.
    fn suspicion(&self, click: RecordId, read: &Read<'_>) -> u32 {
        let Choice { offer: Some(offer), affiliate: Some(_), fallback: None } = read.choice else {
            return 0;
        };
        let Some(fraud) = offer.fraud.as_deref().filter(|fraud| fraud.watches_clicks()) else {
            return 0;
        };
        let &ClickRequest { ip, user_agent, now_ms, .. } = read.request;
        let flags = self.watch.clicked(fraud, &Visit { click, ip, user_agent, now_ms });
        self.metrics.clicks.flagged(flags);
        flags
    }

    /// Waits for the disk, no longer than `click.ack_deadline` after `started`.
    pub async fn confirmed(&self, recording: &Recording, started: Instant) {
        match self.waiting.outcome(&recording.0, Some(started + self.ack_deadline)).await {
            Some(Outcome::Durable) => {}
            Some(Outcome::NotDone | Outcome::Unknown) => {
                self.metrics.clicks.unrecorded.increment(1);
            }
            None => self.metrics.clicks.unconfirmed.increment(1),
        }
    }
}

/// A request, read.
struct Read<'a> {
    choice: Choice<'a>,
    params: &'a ClickParams<'a>,
    /// The offer's passed parameters, in its order; empty where absent.
    passed: &'a [(&'a str, Cow<'a, str>)],
    request: &'a ClickRequest<'a>,
}

/// What fills a landing URL's macros.
struct Values<'a> {
    offer: &'a Offer,
    affiliate: &'a Affiliate,
    params: &'a ClickParams<'a>,
    passed: &'a [(&'a str, Cow<'a, str>)],
    click: &'a str,
    request: &'a ClickRequest<'a>,
}

impl MacroValues for Values<'_> {
    fn fill(&self, which: Macro, slot: &mut Slot<'_>) {
        match which {
            Macro::ClickId => slot.put(self.click),
            Macro::OfferId => slot.put(&*self.offer.id),
            Macro::AffiliateId => slot.put(&*self.affiliate.id),
            Macro::Sub(number) => slot.put(&*self.params.subs[usize::from(number) - 1]),
            Macro::Country => {
                if let Some(country) = &self.request.country {
                    slot.put(country.as_str());
                }
            }
            Macro::Timestamp => slot.put(itoa::Buffer::new().format(self.request.now_ms / 1000)),
            Macro::Random => slot.put(Text::<11>::of_u64(self.request.random).as_str()),
            Macro::Passed(place) => slot.put(&*self.passed[usize::from(place)].1),
        }
    }
}

impl Clicks {
    /// Whether a click that is not taken is a program's, which reads JSON.
    #[must_use]
    pub fn is_asked_for_json(query: &str) -> bool {
        ClickParams::read(query).as_json
    }

    /// The answer to a click that is not even read.
    #[must_use]
    pub fn fall_back(&self, reason: ClickFallback) -> ClickAnswer {
        let url = self.fallback_url.as_ref().map(|url| url.as_str().as_bytes().to_vec());
        ClickAnswer { url, click: None, fallback: Some(reason), as_json: false }
    }
}

/// A header's text, cut to what is kept.
fn kept(text: &str) -> &str {
    &text[..text.floor_char_boundary(HEADER_VALUE_KEPT_BYTES_MAX)]
}
