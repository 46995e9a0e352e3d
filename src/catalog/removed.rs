//! What is missed of an offer or event that leaves the catalog: its conversions stay, and what their
//! advertiser says of them later leads nowhere. And of an affiliate with terms of its own: it goes
//! on earning, by those of all.

use std::collections::{BTreeSet, HashMap, HashSet};

use super::diff::named;
use crate::checked_toml::tree::Entries;
use crate::checked_toml::{Complaint, Path, Source};

/// Notes as a warning each offer and event that only `old` has, and each affiliate with an override
/// or a cap there.
pub fn warn_of_removed(old: &Entries<'_>, new: &Source<'_>) {
    let offers: HashMap<_, _> = named(new.tree(), "offers", "id")
        .enumerate()
        .map(|(place, (id, offer))| (id, (place, offer)))
        .collect();
    let affiliates: HashSet<_> = named(new.tree(), "affiliates", "id").map(|(id, _)| id).collect();
    let mut losing = BTreeSet::new();
    for (id, before) in named(old, "offers", "id") {
        let Some((place, now)) = offers.get(id) else {
            let complaint = Complaint::new(format!(
                "{id:?} is removed: approvals and refunds of its conversions will be refused, \
                 unknown_offer, but for those that are uploaded without amounts; keep it, with \
                 status = \"paused\", as long as they may come"
            ));
            new.warning(&Path::ROOT.key("offers"), None, complaint);
            continue;
        };
        let kept: HashSet<_> = named(now, "events", "id").map(|(event, _)| event).collect();
        let events = || named(before, "events", "id");
        let overrides = events().flat_map(|(_, event)| named(event, "overrides", "affiliate"));
        let own =
            overrides.chain(named(before, "caps", "affiliate")).map(|(affiliate, _)| affiliate);
        losing.extend(own.filter(|affiliate| !affiliates.contains(affiliate)));
        for (event, _) in events().filter(|(event, _)| !kept.contains(event)) {
            let complaint = Complaint::new(format!(
                "{event:?} is removed: approvals and refunds of its conversions will be refused, \
                 unknown_event, but for those that are uploaded without amounts; keep it as long \
                 as they may come"
            ));
            let item = Path::ROOT.item("offers", *place, Some(id));
            let at = now.get("events").map(|node| node.at);
            new.warning(&item.key("events"), at, complaint);
        }
    }
    for id in losing {
        let complaint = Complaint::new(format!(
            "{id:?} is removed, and overrides and caps of its own with it: what its clicks and \
             customers bring yet is paid by the events' terms, without these caps; keep it, with \
             status = \"blocked\", and them"
        ));
        new.warning(&Path::ROOT.key("affiliates"), None, complaint);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_affiliate_that_is_removed_with_terms_of_its_own_is_named() {
        let check = |own: &str, now: &str, expected: &[&str]| {
            let text = |affiliates: &str, more: &str| -> String {
                let all = affiliates.chars().map(|id| format!("[[affiliates]]\nid='{id}'\n"));
                all.collect::<String>() + more
            };
            let old = text("abc", &format!("[[offers]]\nid='o'\n{own}\n[[offers]]\nid='n'\n"));
            let new = text(now, "[[offers]]\nid='o'\nevents=[{id='sale'}]\n[[offers]]\nid='n'\n");
            let old = Source::parse(&old, "old").expect("sound");
            let new = Source::parse(&new, "new").expect("sound");
            warn_of_removed(old.tree(), &new);
            let report = new.into_report();
            let said = report.mistakes().into_iter().filter(|it| it.key == "affiliates");
            let said: Vec<_> = said.map(|it| it.complaint.to_string()).collect();
            assert_eq!(said.len(), expected.len(), "{own} {now}: {said:?}");
            for (what, id) in said.iter().zip(expected) {
                assert!(what.starts_with(&format!("\"{id}\" is removed, and overrides")), "{what}");
            }
            assert!(!report.has_errors());
        };
        let overrides = "events=[{id='sale', overrides=[{affiliate='b'}, {affiliate='a'}]}]";
        let caps = "caps=[{period='day', count=1}, {affiliate='a', period='day', count=1}]";
        let both = format!("{caps}\n{overrides}");
        check(overrides, "abc", &[]);
        check(overrides, "ab", &[]);
        check(overrides, "ac", &["b"]);
        check(overrides, "c", &["a", "b"]);
        check(caps, "bc", &["a"]);
        check(&both, "", &["a", "b"]);
        // Nothing is earned by an offer that is gone, too.
        check(&format!("[[offers]]\nid='gone'\n{both}"), "", &[]);
    }
}
