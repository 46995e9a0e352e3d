//! What a new catalog may not change in the one before: whose an offer is. Transactions, customers
//! and claims are an advertiser's own, so under another name everything sent again would count
//! anew.

use std::collections::HashMap;

use super::diff::named;
use crate::checked_toml::tree::Entries;
use crate::checked_toml::{Complaint, Path, Source};

/// Notes as a mistake each offer that has another advertiser than in `old`.
pub fn refuse_moved(old: &Entries<'_>, new: &Source<'_>) {
    let owner = |offer: &Entries<'_>| -> Option<String> {
        Some(offer.get("advertiser")?.value.as_text()?.to_owned())
    };
    let before: HashMap<&str, &Entries<'_>> = named(old, "offers", "id").collect();
    for (place, (id, offer)) in named(new.tree(), "offers", "id").enumerate() {
        let (Some(before), Some(now)) = (before.get(id).and_then(|old| owner(old)), owner(offer))
        else {
            continue;
        };
        if before != now {
            let complaint = Complaint::new(format!(
                "the offer is of {before:?} and stays so: what was counted for it would count \
                 anew; give the offer of {now:?} an ID of its own"
            ));
            let item = Path::ROOT.item("offers", place, Some(id));
            let at = offer.get("advertiser").map(|node| node.at);
            new.error(&item.key("advertiser"), at, complaint);
        }
    }
}
