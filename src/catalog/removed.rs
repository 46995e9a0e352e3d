//! What is missed of an offer or event that leaves the catalog: its conversions stay, and what their
//! advertiser says of them later leads nowhere. Of an affiliate with terms of its own: it goes on
//! earning, by those of all. And of an advertiser with names of its own for what is secret: nobody
//! knows any more that it is.

use std::collections::{BTreeSet, HashMap, HashSet};

use super::diff::named;
use crate::checked_toml::tree::Entries;
use crate::checked_toml::{Complaint, Path, Source};
use crate::model::fields::Field;
use crate::model::preset::Preset;

/// Notes as a warning each offer and event that only `old` has, each affiliate with an override or a
/// cap there, and each advertiser with a name of its own for a token or signature.
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
    warn_of_credentials(old, new);
}

fn warn_of_credentials(old: &Entries<'_>, new: &Source<'_>) {
    let advertisers = || named(new.tree(), "advertisers", "id");
    let ids: HashSet<_> = advertisers().map(|(id, _)| id).collect();
    let theirs = advertisers().flat_map(|(_, entries)| own_names(entries, Field::is_secret));
    let theirs: HashSet<_> = theirs.map(str::to_ascii_lowercase).collect();
    let is_known =
        |name: &str| Preset::names_secret(name) || theirs.contains(&name.to_ascii_lowercase());
    for (id, before) in named(old, "advertisers", "id").filter(|(id, _)| !ids.contains(id)) {
        for name in own_names(before, Field::is_credential).filter(|name| !is_known(name)) {
            let complaint = Complaint::new(format!(
                "{id:?} is removed: what its servers still send under {name:?} is no secret to \
                 anybody then, and will be kept in plain with postbacks as received; keep it as \
                 long as they send, or give it no such token again"
            ));
            new.warning(&Path::ROOT.key("advertisers"), None, complaint);
        }
    }
}

/// An advertiser's own names of such fields.
fn own_names<'e>(
    advertiser: &'e Entries<'_>,
    is_meant: fn(Field) -> bool,
) -> impl Iterator<Item = &'e str> {
    let params = advertiser.get("params").and_then(|node| node.value.as_table());
    let params = params.into_iter().flat_map(Entries::iter);
    let meant = params.filter(move |entry| Field::parse(&entry.key).is_some_and(is_meant));
    meant.filter_map(|entry| entry.node.value.as_text())
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

    #[test]
    fn an_advertiser_that_is_removed_with_an_own_name_of_a_token_is_named() {
        let check = |old: &str, now: &str, expected: &[&str]| {
            let text = |params: &str| format!("[[advertisers]]\nid='b'\nparams={{{params}}}\n");
            let old = format!("{}[[advertisers]]\nid='a'\nparams={{{old}}}\n", text(""));
            let (old, new) = (Source::parse(&old, "old"), Source::parse(now, "new"));
            let (old, new) = (old.expect("sound"), new.expect("sound"));
            warn_of_removed(old.tree(), &new);
            let report = new.into_report();
            let said = report.mistakes().into_iter().map(|it| it.complaint.to_string());
            let said: Vec<_> = said.collect();
            assert_eq!(said.len(), expected.len(), "{now}: {said:?}");
            for (what, name) in said.iter().zip(expected) {
                let named =
                    format!("\"a\" is removed: what its servers still send under {name:?} ");
                assert!(what.starts_with(&named), "{what}");
            }
            assert!(!report.has_errors());
        };
        let without = "[[advertisers]]\nid='b'\n";
        check("token='pw', sig='mac', ts='when', click_id='cl'", without, &["pw", "mac"]);
        // What any preset or another advertiser calls so is hidden as before.
        check("token='Secure'", without, &[]);
        check("token='pw'", "[[advertisers]]\nid='b'\nparams={nonce='PW'}", &[]);
        check("token='pw'", "[[advertisers]]\nid='a'\nparams={token='key'}", &[]);
    }
}
