//! Negative events: what they may take back.

use super::*;

#[test]
fn a_negative_event_names_events_that_earn_and_earns_nothing() {
    let text = |reverses: &str, more: &str| {
        format!(
            "[[advertisers]]\nid = 'a'\n[[offers]]\nid = 'o'\nadvertiser = 'a'\n\
             window = '1d'\nurl = 'https://a.example/?c={{click_id}}'\n\
             [[offers.events]]\nid = 'sale'\n[[offers.events]]\nid = 'refund'\n\
             reverses = {reverses}\n{more}\n[[offers.events]]\nid = 'void'\nreverses = ['sale']\n"
        )
    };
    let refused = |reverses: &str, more: &str| refused(&text(reverses, more));
    let check = |reverses: &str, more: &str, expected: &str| {
        let report = refused(reverses, more);
        assert!(report.contains(expected), "{reverses}: {report}");
    };
    check("['slae']", "", "no event of this offer; did you mean \"sale\"?");
    check("['refund']", "", "earns nothing");
    check("['void']", "", "earns nothing");
    check("[]", "", "must name 1 to 20 events");
    check("['sale']", "payout = { fixed = '1' }", "neither payout nor revenue");
    let reserved = super::refused(&text("['sale']", "").replace("'refund'", "'postback'"));
    assert!(reserved.contains("\"postback\" is a word of histories already"), "{reserved}");
    let catalog = catalog(&text("['sale']", ""));
    let offer = catalog.offer("o").expect("listed");
    let window = |id: &str| offer.event(id).expect("listed").window_ms;
    assert_eq!((window("sale"), window("refund")), (Some(86_400_000), None));

    // An earlier build has taken it for good.
    let held = text("['sale']", "initial_status = 'pending'");
    let (_, warnings) = load(&held).expect("valid");
    assert_eq!(
        warnings.to_string(),
        "warning: catalog.toml:13: offers[0] \"o\".events[1] \"refund\".initial_status: says nothing \
         of a negative event, which is kept as approved: leave it out\n"
    );
    let catalog = super::catalog(&held);
    let refund = catalog.offer("o").and_then(|offer| offer.event("refund")).expect("listed");
    assert_eq!(refund.initial_status, Status::Approved);
    let (_, warnings) = load(&held.replace("pending", "approved")).expect("valid");
    assert!(warnings.is_empty(), "{warnings}");
}
