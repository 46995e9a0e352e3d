//! What is missed of an offer or event that leaves the catalog: its conversions stay, and what their
//! advertiser says of them later leads nowhere.

use std::collections::{HashMap, HashSet};

use super::diff::named;
use crate::checked_toml::tree::Entries;
use crate::checked_toml::{Complaint, Path, Source};

/// Notes as a warning each offer and event that only `old` has.
pub fn warn_of_removed(old: &Entries<'_>, new: &Source<'_>) {
    let offers: HashMap<_, _> = named(new.tree(), "offers", "id")
        .enumerate()
        .map(|(place, (id, offer))| (id, (place, offer)))
        .collect();
    for (id, before) in named(old, "offers", "id") {
        let Some((place, now)) = offers.get(id) else {
            let complaint = Complaint::new(format!(
                "{id:?} is removed: approvals and refunds of its conversions will be refused, \
                 unknown_offer; keep it, with status = \"paused\", as long as they may come"
            ));
            new.warning(&Path::ROOT.key("offers"), None, complaint);
            continue;
        };
        let kept: HashSet<_> = named(now, "events", "id").map(|(event, _)| event).collect();
        for (event, _) in named(before, "events", "id").filter(|(event, _)| !kept.contains(event)) {
            let complaint = Complaint::new(format!(
                "{event:?} is removed: approvals and refunds of its conversions will be refused, \
                 unknown_event; keep it as long as they may come"
            ));
            let item = Path::ROOT.item("offers", *place, Some(id));
            let at = now.get("events").map(|node| node.at);
            new.warning(&item.key("events"), at, complaint);
        }
    }
}
