// Hot path: the lookups run for every click and postback. No allocation, no locks.

//! The catalog as flows see it: immutable, swapped whole, one version stamped on every decision.

use std::collections::HashMap;
use std::hint::black_box;
use std::sync::Arc;

use smol_str::SmolStr;

use super::departed::DepartedOffer;
use super::events::{EventsByAdvertiser, events_of};
use super::listed::{Item, Listed};
use super::secrets::Secrets;
use super::template::Template;
use crate::auth::Auth;
use crate::caps::{Cap, Metered, Tier, Whose};
use crate::fraud::Fraud;
use crate::model::currency::Currency;
use crate::model::fields::Field;
use crate::model::ids::{AffiliateNumber, OfferNumber};
use crate::model::preset::{AnswerForm, Preset, is_own_name};
use crate::model::rate_limit::RateLimit;
use crate::model::rule::Rule;
use crate::model::status::Status;
use crate::model::url::HttpUrl;

/// Who owns offers and fires postbacks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Advertiser {
    /// Catalog ID.
    pub id: Arc<str>,
    /// How its senders speak; what follows goes on top.
    pub preset: Preset,
    /// Overrides of parameter names: meaning and their name.
    pub params: Vec<(Field, String)>,
    /// Their status words.
    pub statuses: Vec<(String, Status)>,
    /// Whether `rejected` also takes back what was approved, the preset's if the file says nothing.
    pub rejects_approved: bool,
    /// Their event names and ours.
    pub events: Vec<(String, String)>,
    /// The event of postbacks that name none.
    pub default_event: Option<String>,
    /// The form of answers, the preset's if the file names no other.
    pub answer: AnswerForm,
    /// A path that its postbacks may come to, beside `/postback/{id}`.
    pub path: Option<String>,
    /// What its senders have to show; most need nothing.
    pub auth: Option<Box<Auth>>,
    /// How many postbacks are taken of it.
    pub rate_limit: Option<RateLimit>,
}

impl Advertiser {
    /// Whether a name is the advertiser's own for something secret, as [`Preset::names_secret`].
    #[must_use]
    pub fn names_secret(&self, name: &str) -> bool {
        is_own_name(&self.params, name, Field::is_secret)
    }

    /// Whether a name is the advertiser's own for a token or signature.
    #[must_use]
    pub fn names_credential(&self, name: &str) -> bool {
        is_own_name(&self.params, name, Field::is_credential)
    }

    /// Our name of their event; itself if it has no other.
    #[must_use]
    pub fn event_name<'n>(&'n self, theirs: &'n str) -> &'n str {
        let ours = self.events.iter().find(|(known, _)| known == theirs);
        ours.map_or(theirs, |(_, ours)| ours)
    }
}

/// What becomes of a conversion whose click is older than the window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Late {
    /// It is refused.
    Refuse,
    /// It counts and pays the affiliate nothing; the network earns what it would.
    ZeroPayout,
}

/// How often an event of one click counts when it carries no transaction ID.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Repeat {
    /// Once.
    Once,
    /// Again after this many milliseconds since it last counted.
    Window(u64),
}

/// What both sides earn by one event.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Terms {
    /// What the affiliate earns.
    pub payout: Rule,
    /// What the network earns.
    pub revenue: Rule,
}

/// The terms of one affiliate, where they are not the event's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Override {
    /// The affiliate's catalog ID.
    pub affiliate: SmolStr,
    /// Its number in click IDs.
    pub number: AffiliateNumber,
    /// What counts for it.
    pub terms: Terms,
}

/// Which of its own amounts a postback is believed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Trust {
    /// `payout`.
    pub payout: bool,
    /// `revenue`.
    pub revenue: bool,
}

/// One kind of thing that an offer pays for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Catalog ID, unique within the offer.
    pub id: SmolStr,
    /// Pending or approved.
    pub initial_status: Status,
    /// Whether what was rejected may be approved yet.
    pub reapprove: bool,
    /// IDs of the offer's events that it takes back; none unless it is a negative event.
    pub reverses: Vec<SmolStr>,
    /// How often it counts.
    pub repeat: Repeat,
    /// From the click, milliseconds; the offer's if the event has none; `None`: for ever.
    pub window_ms: Option<u64>,
    /// What is earned by it.
    pub terms: Terms,
    /// Affiliates with terms of their own, by ascending number.
    pub overrides: Vec<Override>,
    /// Payouts by volume, ascending, for affiliates without terms of their own.
    pub tiers: Vec<Tier>,
    /// Which amounts of a postback count instead.
    pub trust: Trust,
    /// Currency of payout and revenue.
    pub currency: Currency,
}

impl Event {
    /// Whether it takes back what other events have earned, and earns nothing itself.
    #[must_use]
    pub fn is_negative(&self) -> bool {
        !self.reverses.is_empty()
    }

    /// Whether a cap counts it; what earns nothing is no matter of caps, whatever they list.
    #[must_use]
    pub fn is_counted_by(&self, cap: &Cap) -> bool {
        !self.is_negative() && cap.counts_event(&self.id)
    }

    /// The terms that count for an affiliate.
    #[must_use]
    pub fn terms_of(&self, affiliate: AffiliateNumber) -> &Terms {
        let place = self.overrides.binary_search_by_key(&affiliate, |own| own.number);
        place.map_or(&self.terms, |place| &self.overrides[place].terms)
    }

    /// The tiers that count for an affiliate.
    #[must_use]
    pub fn tiers_of(&self, affiliate: AffiliateNumber) -> &[Tier] {
        let own = self.overrides.binary_search_by_key(&affiliate, |own| own.number);
        if own.is_ok() { &[] } else { &self.tiers }
    }

    /// Asks memory for what is read of it: see [`Template::ask_for`].
    fn ask_for(&self) {
        let Self { id, reverses, window_ms, terms, .. } = self;
        black_box((id.len(), reverses.len(), *window_ms, terms.payout.fixed, terms.revenue.fixed));
    }

    fn number_overrides(&mut self, numbers: &impl Numbers) -> Result<(), NumbersError> {
        for own in &mut self.overrides {
            own.number = number_of(&own.affiliate, numbers)?;
        }
        self.overrides.sort_unstable_by_key(|own| own.number);
        Ok(())
    }
}

fn number_of(affiliate: &SmolStr, numbers: &impl Numbers) -> Result<AffiliateNumber, NumbersError> {
    numbers.affiliate(affiliate).ok_or_else(|| NumbersError::Missing(affiliate.clone()))
}

/// What is promoted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offer {
    /// Catalog ID.
    pub id: SmolStr,
    /// Its number in click IDs.
    pub number: OfferNumber,
    /// Its owner.
    pub advertiser: Arc<Advertiser>,
    /// Where its clicks go.
    pub landing: Template,
    /// Where clicks go while it takes none.
    pub fallback: Option<HttpUrl>,
    /// Whether it takes clicks; paused ones do not.
    pub active: bool,
    /// From when on it takes no clicks, Unix milliseconds.
    pub expires_ms: Option<u64>,
    /// From click to conversion, milliseconds; `None`: for ever.
    pub window_ms: Option<u64>,
    /// What becomes of conversions after the window.
    pub late: Late,
    /// For how long a customer stays bound to a click of the offer, milliseconds; `None`: for ever.
    pub customer_window_ms: Option<u64>,
    /// Whether a click converts once, whatever the event.
    pub one_conversion_per_click: bool,
    /// Further parameters of the click's URL that are kept and may be macros.
    pub pass_params: Vec<String>,
    /// Its events.
    pub events: Vec<Event>,
    /// How much of it is paid.
    pub caps: Vec<Cap>,
    /// Whether its conversions are counted: it has caps, or an event with tiers.
    pub is_metered: bool,
    /// Whether one of its caps counts in total.
    pub is_capped_in_total: bool,
    /// Whether one of its caps sends clicks to the fallback once it is full.
    pub redirects_when_full: bool,
    /// Its fraud rules; most have none.
    pub fraud: Option<Box<Fraud>>,
}

impl Offer {
    /// How its conversions are counted, if they are.
    #[must_use]
    pub const fn metered(&self) -> Metered {
        Metered { offer: self.number, in_total: self.is_capped_in_total }
    }

    /// The event with this name of ours.
    #[must_use]
    pub fn event(&self, id: &str) -> Option<&Event> {
        self.events.iter().find(|event| &*event.id == id)
    }

    fn number_affiliates(&mut self, numbers: &impl Numbers) -> Result<(), NumbersError> {
        for cap in &mut self.caps {
            if let Whose::Affiliate(id, number) = &mut cap.whose {
                *number = number_of(id, numbers)?;
            }
        }
        self.events.iter_mut().try_for_each(|event| event.number_overrides(numbers))
    }
}

/// Who sends traffic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Affiliate {
    /// Catalog ID.
    pub id: SmolStr,
    /// Its number in click IDs.
    pub number: AffiliateNumber,
    /// Whether its clicks count; blocked ones' do not.
    pub active: bool,
}

impl Item for Offer {
    fn id(&self) -> &SmolStr {
        &self.id
    }

    fn number(&self) -> u32 {
        self.number.get()
    }
}

impl Item for Affiliate {
    fn id(&self) -> &SmolStr {
        &self.id
    }

    fn number(&self) -> u32 {
        self.number.get()
    }
}

/// What the numbers of a click ID stand for; `None` for what has left the catalog.
pub type OfferAndAffiliate<'c> = (Option<&'c Offer>, Option<&'c Affiliate>);

/// Numbers as the store assigned them.
pub trait Numbers {
    /// The number of an offer.
    fn offer(&self, id: &str) -> Option<OfferNumber>;
    /// The number of an affiliate.
    fn affiliate(&self, id: &str) -> Option<AffiliateNumber>;
}

/// The numbers do not belong to this catalog.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NumbersError {
    /// An offer or affiliate has none.
    #[error("{0:?} has no number")]
    Missing(SmolStr),
    /// Two offers or two affiliates have the same.
    #[error("{0:?} has the number of another")]
    Shared(SmolStr),
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

/// The whole catalog.
#[derive(Debug, Default)]
pub struct Catalog {
    version: u64,
    advertisers: HashMap<Arc<str>, Arc<Advertiser>>,
    advertisers_by_path: HashMap<String, Arc<Advertiser>>,
    offers: Listed<Offer>,
    affiliates: Listed<Affiliate>,
    links: HashMap<Box<str>, (usize, usize)>,
    pub(super) events: EventsByAdvertiser,
    pub(super) secrets: Secrets,
    pub(super) departed: HashMap<OfferNumber, DepartedOffer>,
}

impl Catalog {
    /// Stamped on every decision.
    #[must_use]
    pub const fn version(&self) -> u64 {
        self.version
    }

    /// An advertiser by catalog ID.
    #[must_use]
    pub fn advertiser(&self, id: &str) -> Option<&Arc<Advertiser>> {
        self.advertisers.get(id)
    }

    /// The advertiser whose own path this is.
    #[must_use]
    pub fn advertiser_at(&self, path: &str) -> Option<&Arc<Advertiser>> {
        self.advertisers_by_path.get(path)
    }

    /// An offer by catalog ID.
    #[must_use]
    pub fn offer(&self, id: &str) -> Option<&Offer> {
        self.offers.by_id(id)
    }

    /// An offer by its number in a click ID.
    #[must_use]
    pub fn offer_by_number(&self, number: OfferNumber) -> Option<&Offer> {
        self.offers.by_number(number.get())
    }

    /// An affiliate by catalog ID.
    #[must_use]
    pub fn affiliate(&self, id: &str) -> Option<&Affiliate> {
        self.affiliates.by_id(id)
    }

    /// An affiliate by its number in a click ID.
    #[must_use]
    pub fn affiliate_by_number(&self, number: AffiliateNumber) -> Option<&Affiliate> {
        self.affiliates.by_number(number.get())
    }

    /// The offer and the affiliate of a click ID's numbers.
    #[must_use]
    #[inline]
    pub fn numbered(
        &self,
        offer: OfferNumber,
        affiliate: AffiliateNumber,
    ) -> OfferAndAffiliate<'_> {
        let offer = self.offer_by_number(offer);
        offer.and_then(|offer| offer.events.first()).inspect(|event| event.ask_for());
        (offer, self.affiliate_by_number(affiliate))
    }

    /// What a tracking link's code stands for.
    #[must_use]
    pub fn link(&self, code: &str) -> Option<(&Offer, &Affiliate)> {
        let (offer, affiliate) = *self.links.get(code)?;
        Some((self.offers().get(offer)?, self.affiliates().get(affiliate)?))
    }

    /// The advertisers' IDs.
    pub fn advertiser_ids(&self) -> impl Iterator<Item = &str> {
        self.advertisers.keys().map(|id| &**id)
    }

    /// What the senders of each advertiser that checks them have to show.
    pub fn auths(&self) -> impl Iterator<Item = &Auth> {
        self.advertisers.values().filter_map(|advertiser| advertiser.auth.as_deref())
    }

    /// How much is in it.
    #[must_use]
    pub fn counts(&self) -> Counts {
        Counts {
            advertisers: self.advertisers.len(),
            offers: self.offers().len(),
            affiliates: self.affiliates().len(),
            links: self.links.len(),
        }
    }

    /// All offers, in the file's order.
    #[must_use]
    pub fn offers(&self) -> &[Offer] {
        self.offers.items()
    }

    /// The offers whose conversions are counted.
    #[must_use]
    pub fn metered(&self) -> Vec<Metered> {
        let metered = self.offers().iter().filter(|offer| offer.is_metered);
        metered.map(Offer::metered).collect()
    }

    /// All affiliates, in the file's order.
    #[must_use]
    pub fn affiliates(&self) -> &[Affiliate] {
        self.affiliates.items()
    }
}

/// A catalog file without mistakes, whose offers and affiliates have no numbers yet.
#[derive(Debug, Default)]
pub struct Checked {
    pub(super) advertisers: Vec<Arc<Advertiser>>,
    /// Their numbers are [`OfferNumber::NONE`]; nobody sees them before they are set.
    pub(super) offers: Vec<Offer>,
    /// As with `offers`.
    pub(super) affiliates: Vec<Affiliate>,
    /// Code, and the places of its offer and affiliate.
    pub(super) links: HashMap<Box<str>, (usize, usize)>,
}

impl Checked {
    /// The offers to number.
    pub fn offer_ids(&self) -> impl Iterator<Item = &str> {
        self.offers.iter().map(|offer| &*offer.id)
    }

    /// The affiliates to number.
    pub fn affiliate_ids(&self) -> impl Iterator<Item = &str> {
        self.affiliates.iter().map(|affiliate| &*affiliate.id)
    }

    /// Makes the catalog for the hot path.
    ///
    /// # Errors
    /// When `numbers` has none for an offer or affiliate, or one twice.
    pub fn into_catalog(
        mut self,
        version: u64,
        numbers: &impl Numbers,
    ) -> Result<Catalog, NumbersError> {
        let mut catalog = Catalog { version, links: self.links, ..Catalog::default() };
        catalog.secrets = Secrets::of(&self.advertisers);
        catalog.events = events_of(&self.offers);
        for offer in &mut self.offers {
            let missing = || NumbersError::Missing(offer.id.clone());
            offer.number = numbers.offer(&offer.id).ok_or_else(missing)?;
            offer.number_affiliates(numbers)?;
        }
        for affiliate in &mut self.affiliates {
            affiliate.number = number_of(&affiliate.id, numbers)?;
        }
        let with_path = self.advertisers.iter();
        let with_path =
            with_path.filter_map(|owner| Some((owner.path.clone()?, Arc::clone(owner))));
        catalog.advertisers_by_path = with_path.collect();
        let named = self.advertisers.into_iter().map(|owner| (Arc::clone(&owner.id), owner));
        catalog.advertisers = named.collect();
        catalog.offers = Listed::new(self.offers).map_err(NumbersError::Shared)?;
        catalog.affiliates = Listed::new(self.affiliates).map_err(NumbersError::Shared)?;
        Ok(catalog)
    }
}
