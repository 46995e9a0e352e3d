//! What payout caps forget: what an event has paid in a currency that it has no longer.

use std::collections::HashMap;

use super::diff::named;
use crate::checked_toml::tree::Entries;
use crate::checked_toml::{Complaint, Path, Source};
use crate::model::currency::Currency;

/// Warns of each event under a payout cap that had another currency in the catalog in force.
/// `network` is that of events that name none, in both: what it was before is not known.
pub fn warn_of_reopened(in_force: &Entries<'_>, new: &Source<'_>, network: Currency) {
    let offers: HashMap<_, _> = named(in_force, "offers", "id").collect();
    for (place, (id, offer)) in named(new.tree(), "offers", "id").enumerate() {
        let Some(before) = offers.get(id).filter(|_| offer.get("caps").is_some()) else { continue };
        let before: HashMap<_, _> = named(before, "events", "id").collect();
        for (at, (event, now)) in named(offer, "events", "id").enumerate() {
            let was = before.get(event).and_then(|event| currency(event, network));
            let (Some(was), Some(is)) = (was, currency(now, network)) else { continue };
            if was != is && is_capped(offer, event) {
                let complaint = Complaint::new(format!(
                    "is in {is} and was in {was}: what was paid in {was} counts no more, and its \
                     payout caps open anew; lower them by as much, or pay in {is} by an offer of \
                     its own"
                ));
                let offer = Path::ROOT.item("offers", place, Some(id));
                let event = offer.item("events", at, Some(event));
                let payout = now.get("payout").or(now.get("id")).map(|node| node.at);
                new.warning(&event.key("payout"), payout, complaint);
            }
        }
    }
}

/// The currency in which an event pays; `None` if it pays nothing, being negative, or is wrong.
fn currency(event: &Entries<'_>, network: Currency) -> Option<Currency> {
    if event.get("reverses").is_some() {
        return None;
    }
    let payout = event.get("payout").and_then(|payout| payout.value.as_table());
    match payout.and_then(|payout| payout.get("currency")) {
        Some(named) => Currency::parse(named.value.as_text()?).ok(),
        None => Some(network),
    }
}

/// Whether an offer has a payout cap that counts an event.
fn is_capped(offer: &Entries<'_>, event: &str) -> bool {
    let caps = offer.get("caps").and_then(|caps| caps.value.as_list()).unwrap_or_default();
    caps.iter().filter_map(|cap| cap.value.as_table()).any(|cap| {
        let counted = cap.get("events").and_then(|events| events.value.as_list());
        cap.get("payout").is_some()
            && counted.is_none_or(|all| all.iter().any(|one| one.value.as_text() == Some(event)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_under_a_payout_cap_that_has_another_currency_is_named() {
        let check = |before: &str, now: &str, caps: &str, is_named: bool| {
            let text = |event: &str| {
                format!(
                    "[[offers]]\nid='n'\n[[offers]]\nid='o'\ncaps=[{caps}]\n\
                     events=[{{id='lead'}}, {{id='sale', {event}}}]\n"
                )
            };
            let (old, new) = (text(before), text(now));
            let old = Source::parse(&old, "old").expect("sound");
            let new = Source::parse(&new, "new").expect("sound");
            warn_of_reopened(old.tree(), &new, Currency::USD);
            let report = new.into_report();
            let keys: Vec<_> = report.mistakes().iter().map(|it| it.key.clone()).collect();
            let expected = ["offers[1] \"o\".events[1] \"sale\".payout"];
            assert_eq!(keys, expected[..usize::from(is_named)], "{before} {now} {caps}");
            assert!(!report.has_errors());
        };
        let [none, usd, eur] = ["", "payout={currency='USD'}", "payout={currency='eur'}"];
        let all = "{period='day', payout='5'}";
        check(usd, eur, all, true);
        check(eur, none, all, true);
        check(none, "payout={currency='EUR'}", all, true);
        check(none, usd, all, false);
        check(eur, "payout={currency='EUR'}", all, false);
        check(usd, eur, "{events=['sale'], payout='5'}", true);
        check(usd, eur, "{events=['lead'], payout='5'}, {count=5}", false);
        check(usd, eur, "", false);
        // What takes back has no currency of its own.
        check(usd, "reverses=['lead'], payout={currency='EUR'}", all, false);
        check("reverses=['lead']", eur, all, false);
    }
}
