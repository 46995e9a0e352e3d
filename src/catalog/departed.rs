//! Offers that have left the catalog: whose they are, and how long their customers stay bound. They
//! may come back, and what was sold by them stays.

use std::collections::HashMap;
use std::sync::Arc;

use super::snapshot::{Advertiser, Catalog, Numbers};
use crate::model::ids::OfferNumber;
use crate::store::{CustomerWindows, OfferOwners};

/// What is known of an offer that has left the catalog.
#[derive(Debug, PartialEq, Eq)]
pub struct DepartedOffer {
    /// Its advertiser's ID.
    pub advertiser: Arc<str>,
    /// As its [`customer_window_ms`](super::Offer::customer_window_ms) was last.
    pub customer_window_ms: Option<u64>,
}

impl Catalog {
    /// Notes what is kept of offers that it has not.
    pub(super) fn note_departed(
        &mut self,
        owners: &OfferOwners,
        windows: &CustomerWindows,
        numbers: &impl Numbers,
    ) {
        let departed = owners.iter().filter(|(offer, _)| self.offer(offer).is_none());
        let departed = departed.filter_map(|(offer, advertiser)| {
            let known = DepartedOffer {
                advertiser: advertiser.as_str().into(),
                customer_window_ms: windows.get(offer).copied(),
            };
            Some((numbers.offer(offer)?, known))
        });
        let departed: HashMap<_, _> = departed.collect();
        self.departed = departed;
    }

    /// An offer that has left the catalog, by its number in a click ID.
    #[must_use]
    pub fn departed(&self, offer: OfferNumber) -> Option<&DepartedOffer> {
        self.departed.get(&offer)
    }

    /// The advertiser's ID of each offer, also of those that have left the catalog.
    pub fn owners(&self) -> impl Iterator<Item = (OfferNumber, &Arc<str>)> {
        let departed = self.departed.iter().map(|(number, offer)| (*number, &offer.advertiser));
        self.offers().iter().map(|offer| (offer.number, &offer.advertiser.id)).chain(departed)
    }

    /// Whether an advertiser is in the catalog, or had an offer that was.
    #[must_use]
    pub fn has_or_had_advertiser(&self, id: &str) -> bool {
        self.advertiser(id).is_some()
            || self.departed.values().any(|offer| *offer.advertiser == *id)
    }

    /// The advertiser of an offer, in the catalog or not, if that is in the catalog itself.
    #[must_use]
    pub fn owner_of(&self, offer: OfferNumber) -> Option<&Arc<Advertiser>> {
        match self.offer_by_number(offer) {
            Some(offer) => Some(&offer.advertiser),
            None => self.advertiser(&self.departed(offer)?.advertiser),
        }
    }
}
