//! The catalog as the hot path reads it: immutable, looked up by ID, number or code.

use std::collections::HashMap;
use std::sync::Arc;

use super::template::Template;
use crate::model::fields::Field;
use crate::model::ids::{AffiliateNumber, OfferNumber};
use crate::model::money::{Currency, Micros};
use crate::model::status::Status;

/// Who owns offers and fires postbacks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Advertiser {
    /// Its ID.
    pub id: String,
    /// Parameter names that replace the preset's: meaning, their name.
    pub params: Vec<(Field, String)>,
    /// Their status words.
    pub statuses: Vec<(String, Status)>,
    /// Their event names and ours.
    pub events: Vec<(String, String)>,
}

impl Advertiser {
    /// Our name of an event that they call `theirs`.
    #[must_use]
    pub fn event_word<'a>(&'a self, theirs: &'a str) -> &'a str {
        let mapped = self.events.iter().find(|(word, _)| word == theirs);
        mapped.map_or(theirs, |(_, ours)| ours)
    }

    /// The status that they call `theirs`.
    #[must_use]
    pub fn status_word(&self, theirs: &str) -> Option<Status> {
        let mapped = self.statuses.iter().find(|(word, _)| word == theirs);
        mapped.map(|(_, status)| *status).or_else(|| Status::parse(theirs))
    }
}

/// What happens to a conversion after its window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Late {
    /// Refused as `click_expired`.
    Refuse,
    /// Kept with zero payout and revenue, flagged.
    ZeroPayout,
}

/// How often an event may happen for one click, where no transaction ID tells events apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Repeat {
    /// Once.
    Once,
    /// Again when this many milliseconds have passed since the last acceptance.
    Window(u64),
}

/// A kind of event that an offer pays for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Its ID.
    pub id: String,
    /// The status a conversion starts with.
    pub initial_status: Status,
    /// How often.
    pub repeat: Repeat,
    /// Its own window, milliseconds; else the offer's.
    pub window_ms: Option<u64>,
    /// What the affiliate earns.
    pub payout: Micros,
    /// What the network earns.
    pub revenue: Micros,
    /// Currency of both.
    pub currency: Currency,
}

/// What is promoted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offer {
    /// Its ID.
    pub id: String,
    /// Its number in click IDs.
    pub number: OfferNumber,
    /// Who owns it.
    pub advertiser: Arc<Advertiser>,
    /// Where clicks go.
    pub landing: Template,
    /// Where they go if not there.
    pub fallback: Option<String>,
    /// Not paused.
    pub active: bool,
    /// When it ends, Unix milliseconds.
    pub expires_ms: Option<u64>,
    /// How long after the click an event counts, milliseconds.
    pub window_ms: Option<u64>,
    /// What happens after that.
    pub late: Late,
    /// Whether a click can have one conversion only, whatever the event.
    pub one_conversion_per_click: bool,
    /// Further parameters that are kept and can fill macros.
    pub pass_params: Vec<String>,
    /// Its events.
    pub events: Vec<Event>,
}

impl Offer {
    /// An event by its ID.
    #[must_use]
    pub fn event(&self, id: &str) -> Option<&Event> {
        self.events.iter().find(|event| event.id == id)
    }
}

/// Who sends traffic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Affiliate {
    /// Its ID.
    pub id: String,
    /// Its number in click IDs.
    pub number: AffiliateNumber,
    /// Not blocked.
    pub active: bool,
}

/// How much is in a catalog.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counts {
    /// Advertisers.
    pub advertisers: usize,
    /// Offers.
    pub offers: usize,
    /// Affiliates.
    pub affiliates: usize,
    /// Links.
    pub links: usize,
}

/// An offer or affiliate that was given no number.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("\"{0}\" has no number")]
pub struct MissingNumber(pub String);

/// All that is for sale, at one moment.
#[derive(Clone, Debug, Default)]
pub struct Catalog {
    pub(super) version: u64,
    pub(super) advertisers: HashMap<String, Arc<Advertiser>>,
    pub(super) offers: Vec<Offer>,
    pub(super) affiliates: Vec<Affiliate>,
    pub(super) offers_by_id: HashMap<String, usize>,
    pub(super) affiliates_by_id: HashMap<String, usize>,
    /// Place of each offer by its number; numbers are dense, as they are assigned in turn.
    pub(super) offers_by_number: Vec<Option<u32>>,
    pub(super) affiliates_by_number: Vec<Option<u32>>,
    pub(super) links: HashMap<String, (usize, usize)>,
}

impl Catalog {
    /// Names this content; stamped on every decision.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.version
    }

    /// An advertiser by ID.
    #[must_use]
    pub fn advertiser(&self, id: &str) -> Option<&Advertiser> {
        self.advertisers.get(id).map(|advertiser| &**advertiser)
    }

    /// An offer by ID.
    #[must_use]
    pub fn offer(&self, id: &str) -> Option<&Offer> {
        self.offers.get(*self.offers_by_id.get(id)?)
    }

    /// An offer by its number.
    #[must_use]
    pub fn offer_by_number(&self, number: OfferNumber) -> Option<&Offer> {
        let place = *self.offers_by_number.get(number.get() as usize)?;
        self.offers.get(place? as usize)
    }

    /// An affiliate by ID.
    #[must_use]
    pub fn affiliate(&self, id: &str) -> Option<&Affiliate> {
        self.affiliates.get(*self.affiliates_by_id.get(id)?)
    }

    /// An affiliate by its number.
    #[must_use]
    pub fn affiliate_by_number(&self, number: AffiliateNumber) -> Option<&Affiliate> {
        let place = *self.affiliates_by_number.get(number.get() as usize)?;
        self.affiliates.get(place? as usize)
    }

    /// What a short link's code stands for.
    #[must_use]
    pub fn link(&self, code: &str) -> Option<(&Offer, &Affiliate)> {
        let (offer, affiliate) = *self.links.get(code)?;
        Some((self.offers.get(offer)?, self.affiliates.get(affiliate)?))
    }

    /// Every (advertiser, event) that a transaction may belong to, each once.
    #[must_use]
    pub fn advertiser_events(&self) -> std::collections::BTreeSet<(&str, &str)> {
        self.offers
            .iter()
            .flat_map(|offer| {
                offer.events.iter().map(|event| (offer.advertiser.id.as_str(), event.id.as_str()))
            })
            .collect()
    }

    /// How much is in it.
    #[must_use]
    pub fn counts(&self) -> Counts {
        Counts {
            advertisers: self.advertisers.len(),
            offers: self.offers.len(),
            affiliates: self.affiliates.len(),
            links: self.links.len(),
        }
    }
}
