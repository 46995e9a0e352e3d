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
}
