//! What no catalog may change: whose an offer is. Transactions, customers and claims are an
//! advertiser's own, so under another name everything sent again would count anew.

use std::collections::HashMap;

use super::diff::named;
use crate::checked_toml::tree::Entries;
use crate::checked_toml::{Complaint, Path, Source};
use crate::store::OfferOwners;

/// Notes as a mistake each offer that has another advertiser than in the catalog in force, or, if
/// it is not in that, than `known` says of the time when it was in one. What is in force goes
/// first: builds that do not keep owners may have put it there.
pub fn refuse_moved(known: &OfferOwners, in_force: Option<&Entries<'_>>, new: &Source<'_>) {
    let in_force = in_force.into_iter().flat_map(|tree| named(tree, "offers", "id"));
    let in_force: HashMap<_, _> =
        in_force.filter_map(|(id, offer)| Some((id, owner(offer)?))).collect();
    for (place, (id, offer)) in named(new.tree(), "offers", "id").enumerate() {
        let before = in_force.get(id).copied().or_else(|| known.get(id).map(String::as_str));
        let (Some(before), Some(now)) = (before, owner(offer)) else { continue };
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

fn owner<'e>(offer: &'e Entries<'_>) -> Option<&'e str> {
    offer.get("advertiser")?.value.as_text()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The offers that would be moved, of catalogs written as `offer:advertiser …`.
    fn moved(known: &str, in_force: &str, new: &str) -> Vec<String> {
        let pairs = |text: &str| -> Vec<(String, String)> {
            let pairs = text.split_whitespace().filter_map(|pair| pair.split_once(':'));
            pairs.map(|(offer, owner)| (offer.to_owned(), owner.to_owned())).collect()
        };
        let text = |catalog: &str| -> String {
            let offers = pairs(catalog).into_iter();
            offers.map(|(id, of)| format!("[[offers]]\nid='{id}'\nadvertiser='{of}'\n")).collect()
        };
        let (old, new) = (text(in_force), text(new));
        let old = Source::parse(&old, "old").expect("sound");
        let new = Source::parse(&new, "new").expect("sound");
        refuse_moved(&pairs(known).into_iter().collect(), Some(old.tree()), &new);
        new.into_report().mistakes().iter().map(|mistake| mistake.key.clone()).collect()
    }

    #[test]
    fn an_offer_stays_with_the_advertiser_that_had_it_last() {
        let none: [&str; 0] = [];
        assert_eq!(moved("", "", "a:x b:y"), none);
        assert_eq!(moved("", "a:x", "b:y a:x"), none);
        assert_eq!(moved("", "a:x", "b:y a:y"), ["offers[1] \"a\".advertiser"]);
        assert_eq!(moved("a:x", "", "a:y"), ["offers[0] \"a\".advertiser"], "it had left");
        assert_eq!(moved("a:x", "b:y", "a:x b:y"), none, "it comes back");
        // A build that keeps no owners has let it come back under another.
        assert_eq!(moved("a:x", "a:y", "a:y"), none);
        assert_eq!(moved("a:x", "a:y", "a:x"), ["offers[0] \"a\".advertiser"]);
    }
}
