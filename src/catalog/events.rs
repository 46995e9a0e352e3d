//! What an event may mean where no click says of which offer it is, and what was meant by one that
//! there is not.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use smol_str::SmolStr;

use super::snapshot::{Catalog, Event, Offer};
use crate::checked_toml::closest;
use crate::limits::EVENTS_COMPARED_MAX;
use crate::model::ids::ID_BYTES_MAX;
use crate::model::preset::Unnamed;

/// Events of an advertiser, in any of its offers.
#[derive(Debug, Default)]
pub(super) struct Events {
    /// All of them.
    all: BTreeSet<SmolStr>,
    /// By negative event: those that it takes back.
    reversed: HashMap<SmolStr, BTreeSet<SmolStr>>,
    /// Those that a postback means if it names none.
    unnamed: BTreeSet<SmolStr>,
}

/// By advertiser.
pub(super) type EventsByAdvertiser = HashMap<Arc<str>, Events>;

/// The events of all offers.
pub(super) fn events_of(offers: &[Offer]) -> EventsByAdvertiser {
    let mut all = EventsByAdvertiser::new();
    for offer in offers {
        let events = all.entry(Arc::clone(&offer.advertiser.id)).or_default();
        for event in &offer.events {
            // Most offers of an advertiser have the same ones.
            if !events.all.contains(&event.id) {
                events.all.insert(event.id.clone());
            }
        }
        events.unnamed.extend(offer.unnamed_event().map(|event| event.id.clone()));
        for event in offer.events.iter().filter(|event| event.is_negative()) {
            let reversed = events.reversed.entry(event.id.clone()).or_default();
            reversed.extend(event.reverses.iter().cloned());
        }
    }
    all
}

impl Offer {
    /// The event that a postback means if it names none.
    #[must_use]
    pub fn unnamed_event(&self) -> Option<&Event> {
        if let Some(default) = &self.advertiser.default_event {
            return self.event(default);
        }
        if self.advertiser.preset.dialect().unnamed != Unnamed::OnlyEvent {
            return None;
        }
        // What takes others back is never meant unnamed.
        let mut events = self.events.iter().filter(|event| !event.is_negative());
        events.next().filter(|_| events.next().is_none())
    }

    /// The name, ours or its advertiser's, of the event that was likely meant by one that is none.
    #[cold]
    #[must_use]
    pub fn event_like(&self, name: &str) -> Option<&str> {
        if name.len() > ID_BYTES_MAX {
            return None;
        }
        let ours = self.events.iter().take(EVENTS_COMPARED_MAX).map(|event| &*event.id);
        let theirs = self.advertiser.events.iter();
        let theirs = theirs.filter(|(_, ours)| self.event(ours).is_some());
        let theirs = theirs.take(EVENTS_COMPARED_MAX).map(|(theirs, _)| theirs.as_str());
        closest(name, ours.chain(theirs))
    }

    /// The place of `event` among those that its event `by` takes back, if it does: another offer's
    /// of that name may take back others.
    #[must_use]
    pub fn reverses(&self, by: &str, event: &str) -> Option<usize> {
        self.event(by)?.reverses.iter().position(|meant| **meant == *event)
    }
}

impl Catalog {
    /// Every (advertiser, event) that a transaction may belong to, each once.
    #[must_use]
    pub fn advertiser_events(&self) -> BTreeSet<(&str, &str)> {
        let all = self.events.iter();
        all.flat_map(|(id, events)| events.all.iter().map(|event| (&**id, &**event))).collect()
    }

    /// Whether an offer of an advertiser has an event of this name of ours.
    #[must_use]
    pub fn has_event(&self, advertiser: &str, event: &str) -> bool {
        self.events.get(advertiser).is_some_and(|events| events.all.contains(event))
    }

    /// The events that a negative event of an advertiser takes back, in any of its offers.
    pub fn reversed_by(&self, advertiser: &str, event: &str) -> impl Iterator<Item = &str> {
        let reversed = self.events.get(advertiser).and_then(|events| events.reversed.get(event));
        reversed.into_iter().flatten().map(|id| &**id)
    }

    /// The events that a postback of an advertiser may mean if it names none, by its offers.
    pub fn unnamed_events(&self, advertiser: &str) -> impl Iterator<Item = &str> {
        let unnamed = self.events.get(advertiser).map(|events| &events.unnamed);
        unnamed.into_iter().flatten().map(|id| &**id)
    }
}
