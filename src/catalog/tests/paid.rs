//! What events pay: formulas, overrides, trust.

use super::*;

const SHARES: &str = r#"
[[advertisers]]
id = "acme"
[[offers]]
id = "spring"
advertiser = "acme"
url = "https://shop.example/{click_id}"
trust_revenue = true
[[offers.events]]
id = "deposit"
payout = { fixed = "1.00", percent = "12.5", per_unit = "0.30", min = "-5", max = "50.00", currency = "EUR" }
revenue = { percent = "20" }
trust_payout = true
trust_revenue = false
[[offers.events.overrides]]
affiliate = "pub-9"
payout = { percent = "15", currency = "EUR" }
[[offers.events.overrides]]
affiliate = "pub-7"
revenue = { fixed = "3" }
[[offers.events]]
id = "sale"
[[affiliates]]
id = "pub-7"
[[affiliates]]
id = "pub-8"
[[affiliates]]
id = "pub-9"
"#;

#[test]
fn an_event_pays_by_its_formula_and_some_affiliates_by_their_own() {
    let (_, warnings) = load(SHARES).expect("valid");
    assert!(warnings.is_empty(), "{warnings}");
    let catalog = catalog(SHARES);
    let offer = catalog.offer("spring").expect("listed");
    let deposit = offer.event("deposit").expect("listed");
    let payout = Rule {
        fixed: amount("1"),
        per_unit: amount("0.30"),
        min: Some(amount("-5")),
        max: Some(amount("50")),
        ..share("12.5")
    };
    let revenue = share("20");
    assert_eq!(deposit.currency.as_str(), "EUR");
    let check = |affiliate: &str, expected: Terms| {
        let number = catalog.affiliate(affiliate).expect("listed").number;
        assert_eq!(*deposit.terms_of(number), expected, "{affiliate}");
    };
    check("pub-7", Terms { payout, revenue: fixed("3") });
    check("pub-8", Terms { payout, revenue });
    check("pub-9", Terms { payout: share("15"), revenue });
    assert_eq!(*deposit.terms_of(AffiliateNumber::NONE), Terms { payout, revenue });
    assert_eq!(deposit.trust, Trust { payout: true, revenue: false });
    let sale = offer.event("sale").expect("listed");
    assert_eq!(sale.trust, Trust { payout: false, revenue: true });
    assert_eq!((sale.terms, &*sale.overrides), (Terms::default(), &[][..]));
}

#[test]
fn mistakes_in_what_is_paid_are_reported_at_once_by_line() {
    let text = r#"
[[advertisers]]
id = "acme"
[[offers]]
id = "spring"
advertiser = "acme"
url = "https://shop.example/{click_id}"
trust_payout = "yes"
[[offers.events]]
id = "sale"
payout = { percent = "-1", per_unit = "1,5", min = "9", max = "8", currency = "EUR" }
revenue = { percent = 5, maximum = "1" }
trust_revenues = true
[[offers.events.overrides]]
affiliate = "pub-8"
payout = { fixed = "1", percent = "10%", currency = "USD" }
[[offers.events.overrides]]
affiliate = "pub-7"
payout = { percent = "2.1234567" }
[[offers.events.overrides]]
affiliate = "pub-7"
[[offers.events.overrides]]
revenue = { max = "-1" }
[[affiliates]]
id = "pub-7"
"#;
    insta::assert_snapshot!(refused(text), @r#"
    catalog.toml:8: offers[0] "spring".trust_payout: must be true or false, not of type string
    catalog.toml:11: offers[0] "spring".events[0] "sale".payout.percent: must not be negative
    catalog.toml:11: offers[0] "spring".events[0] "sale".payout.per_unit: not a decimal amount such as "15.00"
    catalog.toml:11: offers[0] "spring".events[0] "sale".payout.max: is below min
    catalog.toml:12: offers[0] "spring".events[0] "sale".revenue.maximum: unknown key
    catalog.toml:12: offers[0] "spring".events[0] "sale".revenue.percent: must be a string: write it in quotes, not of type integer
    catalog.toml:13: offers[0] "spring".events[0] "sale".trust_revenues: unknown key; did you mean "trust_revenue"?
    catalog.toml:15: offers[0] "spring".events[0] "sale".overrides[0] "pub-8".affiliate: "pub-8" is not among the affiliates; did you mean "pub-7"?
    catalog.toml:16: offers[0] "spring".events[0] "sale".overrides[0] "pub-8".payout.percent: a percentage is written without its sign, such as "12.5"
    catalog.toml:16: offers[0] "spring".events[0] "sale".overrides[0] "pub-8".payout.currency: must be EUR, the currency of the event's payout
    catalog.toml:19: offers[0] "spring".events[0] "sale".overrides[1] "pub-7".payout.percent: more than 6 decimals
    catalog.toml:21: offers[0] "spring".events[0] "sale".overrides[2] "pub-7".affiliate: overrides nothing: give it a payout or a revenue
    catalog.toml:21: offers[0] "spring".events[0] "sale".overrides[2] "pub-7".affiliate: "pub-7" has an earlier override here
    catalog.toml:22: offers[0] "spring".events[0] "sale".overrides[3].affiliate: is missing
    catalog.toml:23: offers[0] "spring".events[0] "sale".overrides[3].revenue.max: must not be negative
    "#);
    let text = SHARES
        .replace("percent = \"15\"", "percent = \"22\"")
        .replace("fixed = \"3\"", "percent = \"120\"")
        .replace("trust_payout = true", "");
    insta::assert_snapshot!(load(&text).expect("valid").1, @r#"
    warning: catalog.toml:17: offers[0] "spring".events[0] "deposit".overrides[0] "pub-9".payout: is above revenue: conversions lose money
    warning: catalog.toml:20: offers[0] "spring".events[0] "deposit".overrides[1] "pub-7".revenue.percent: is above 100: more than the customer spends
    "#);
}
