//! How much is paid: caps and tiers.

use super::*;
use crate::caps::{Cap, Tier, Whose};
use crate::model::period::Period;

const CAPPED: &str = r#"
[[advertisers]]
id = "acme"
[[offers]]
id = "o1"
advertiser = "acme"
url = "https://shop.example/{click_id}"
[[offers.events]]
id = "sale"
payout = { fixed = "10", currency = "EUR" }
revenue = { fixed = "20" }
tiers = [{ from = 100, payout = { fixed = "12" } }, { from = 500, payout = { fixed = "1", percent = "5", currency = "EUR" } }]
overrides = [{ affiliate = "9", payout = { fixed = "13" } }]
[[offers.events]]
id = "registration"
[[offers.caps]]
period = "day"
count = 500
[[offers.caps]]
scope = "affiliate"
events = ["sale"]
period = "month"
count = 50
payout = "1000.00"
[[offers.caps]]
affiliate = "8"
events = ["registration", "sale"]
period = "day"
count = 1
[[offers.caps]]
period = "total"
count = 9000
payout = "70000.00"
events = ["sale"]
redirect_when_full = true
[[offers]]
id = "o2"
advertiser = "acme"
url = "https://shop.example/{click_id}"
[[offers.events]]
id = "sale"
payout = { fixed = "1" }
tiers = [{ from = 2, payout = { fixed = "2" } }]
[[offers]]
id = "o3"
advertiser = "acme"
url = "https://shop.example/{click_id}"
[[offers.events]]
id = "sale"
[[affiliates]]
id = "8"
[[affiliates]]
id = "9"
"#;

fn cap(whose: Whose, events: &[&str], period: Period, count: u64, payout: Option<&str>) -> Cap {
    let events = events.iter().map(|event| Box::from(*event)).collect();
    Cap::new(whose, events, period, Some(count), payout.map(amount))
}

#[test]
fn an_offer_may_be_capped_as_a_whole_for_each_affiliate_and_for_one() {
    let (_, warnings) = load(CAPPED).expect("valid");
    assert!(warnings.is_empty(), "{warnings}");
    let catalog = catalog(CAPPED);
    let offer = catalog.offer("o1").expect("listed");
    let one = catalog.affiliate("8").expect("listed");
    let expected = [
        cap(Whose::Offer, &[], Period::Day, 500, None),
        cap(Whose::EachAffiliate, &["sale"], Period::Month, 50, Some("1000")),
        cap(
            Whose::Affiliate(one.id.clone(), one.number),
            &["registration", "sale"],
            Period::Day,
            1,
            None,
        ),
        Cap {
            redirect_when_full: true,
            ..cap(Whose::Offer, &["sale"], Period::Total, 9000, Some("70000"))
        },
    ];
    assert_eq!(offer.caps, expected);
    let words = offer.caps.iter().map(|cap| [&*cap.over_count, &*cap.over_payout]);
    assert_eq!(
        words.collect::<Vec<_>>(),
        [
            ["cap:offer:day:count", "cap:offer:day:payout"],
            ["cap:affiliate:month:count", "cap:affiliate:month:payout"],
            ["cap:8:day:count", "cap:8:day:payout"],
            ["cap:offer:total:count", "cap:offer:total:payout"],
        ]
    );
}

#[test]
fn an_event_may_pay_by_volume_but_not_whom_it_pays_otherwise() {
    let catalog = catalog(CAPPED);
    let sale = catalog.offer("o1").and_then(|offer| offer.event("sale")).expect("listed");
    let second = Rule { fixed: amount("1"), ..Rule { percent: percent("5"), ..Rule::default() } };
    let tiers = [Tier::new(100, fixed("12")), Tier::new(500, second)];
    let number = |id| catalog.affiliate(id).expect("listed").number;
    assert_eq!(sale.tiers_of(number("8")), tiers);
    assert_eq!(sale.tiers_of(number("9")), []);
    assert_eq!(sale.tiers_of(AffiliateNumber::NONE), tiers);
    let metered = |id| catalog.offer(id).expect("listed").is_metered;
    assert_eq!(["o1", "o2", "o3"].map(metered), [true, true, false]);
    let metered = ["o1", "o2"].map(|id| catalog.offer(id).expect("listed").metered());
    assert_eq!(catalog.metered(), metered);
    assert_eq!(metered.map(|offer| offer.in_total), [true, false]);
}

#[test]
fn a_negative_event_has_no_currency_that_a_payout_cap_would_count() {
    let text = |refund: &str, sale: &str| {
        with_offer_line("caps = [{ period = 'day', payout = '100' }]").replace(
            "events = [{ id = 'sale' }]",
            &format!(
                "events = [{{ id = 'refund', {refund} }}, {{ id = 'sale', payout = {{ fixed = '1', currency = '{sale}' }} }}]"
            ),
        )
    };
    let check = |refund: &str, sale: &str, is_taken: bool| {
        assert_eq!(load(&text(refund, sale)).is_ok(), is_taken, "{refund} {sale}");
    };
    check("reverses = ['sale']", "EUR", true);
    check("reverses = ['sale'], payout = { currency = 'GBP' }", "EUR", true);
    check("repeat = 'once'", "EUR", false);
    check("repeat = 'once'", "USD", true);
}

#[test]
fn a_tier_that_pays_more_than_it_earns_is_warned_of() {
    let check = |more: &str, tier: &str, is_warned: bool| {
        let text = format!(
            "[[advertisers]]\nid = 'acme'\n[[offers]]\nid = 'o1'\nadvertiser = 'acme'\n\
             url = 'https://shop.example/{{click_id}}'\n[[offers.events]]\nid = 'sale'\n\
             payout = {{ fixed = '10' }}\n{more}\ntiers = [{{ from = 9, payout = {{ fixed = '{tier}' }} }}]\n"
        );
        let (_, warnings) = load(&text).expect("valid");
        let what = "tiers[0].payout: is above revenue: conversions lose money";
        assert_eq!(warnings.to_string().contains(what), is_warned, "{more} {tier} {warnings}");
    };
    check("revenue = { fixed = '20' }", "20", false);
    check("revenue = { fixed = '20' }", "20.01", true);
    check("revenue = { fixed = '20' }\ntrust_revenue = true", "20.01", false);
    check("", "20.01", false);
}

fn percent(text: &str) -> Percent {
    Percent::parse(text).expect("a percentage")
}

#[test]
fn mistakes_in_caps_and_tiers_are_reported_at_once_by_line() {
    let text = r#"
[[advertisers]]
id = "acme"
[[offers]]
id = "o1"
advertiser = "acme"
url = "https://shop.example/{click_id}"
[[offers.events]]
id = "sale"
payout = { fixed = "1" }
tiers = [{ from = 1, payout = { fixed = "1" } }, { from = 9 }, { from = 9, payout = { fixed = "2", currency = "EUR" } }]
[[offers.events]]
id = "lead"
payout = { fixed = "1", currency = "EUR" }
[[offers.caps]]
period = "totals"
count = 0
[[offers.caps]]
period = "day"
payout = "100.00"
[[offers.caps]]
scope = "offer"
affiliate = "pub-8"
events = ["sale", "leads"]
period = "week"
payout = "-1"
[[offers.caps]]
period = "month"
events = ["sale", "sale"]
[[offers.caps]]
scope = "publisher"
events = []
count = 5
[[offers.caps]]
scope = "affiliate"
period = "day"
count = 5
redirect_when_full = true
[[affiliates]]
id = "pub-7"
"#;
    insta::assert_snapshot!(refused(text), @r#"
    catalog.toml:11: offers[0] "o1".events[0] "sale".tiers[0].from: must be a whole number from 2 to 1000000000000
    catalog.toml:11: offers[0] "o1".events[0] "sale".tiers[1].from: pays nothing else: give it a payout
    catalog.toml:11: offers[0] "o1".events[0] "sale".tiers[2].payout.currency: must be USD, the currency of the event's payout
    catalog.toml:11: offers[0] "o1".events[0] "sale".tiers[2].from: must be above that of the tier before
    catalog.toml:16: offers[0] "o1".caps[0] "totals".period: "totals" is not one of "day", "month", "total"; did you mean "total"?
    catalog.toml:17: offers[0] "o1".caps[0] "totals".count: must be a whole number from 1 to 1000000000000
    catalog.toml:20: offers[0] "o1".caps[1] "day".payout: is of events with several currencies: list events of one
    catalog.toml:22: offers[0] "o1".caps[2] "week".scope: is all affiliates', and one is named
    catalog.toml:23: offers[0] "o1".caps[2] "week".affiliate: "pub-8" is not among the affiliates; did you mean "pub-7"?
    catalog.toml:24: offers[0] "o1".caps[2] "week".events: "leads" is not among the offer's events
    catalog.toml:25: offers[0] "o1".caps[2] "week".period: "week" is not one of "day", "month", "total"
    catalog.toml:26: offers[0] "o1".caps[2] "week".payout: must be more than nothing
    catalog.toml:28: offers[0] "o1".caps[3] "month".period: caps nothing: give it a count or a payout
    catalog.toml:29: offers[0] "o1".caps[3] "month".events: "sale" is listed twice
    catalog.toml:30: offers[0] "o1".caps[4].period: is missing
    catalog.toml:31: offers[0] "o1".caps[4].scope: "publisher" is not one of "offer", "affiliate"
    catalog.toml:32: offers[0] "o1".caps[4].events: lists none: leave it out to count all events
    catalog.toml:38: offers[0] "o1".caps[5] "day".redirect_when_full: is for caps of the whole offer only
    "#);
}
