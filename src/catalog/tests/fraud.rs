//! An offer's fraud rules.

use super::*;
use crate::fraud::{ConversionRate, Flood, Fraud};
use crate::model::reasons::Flag;

const HOUR_MS: u64 = 60 * 60 * 1000;

fn offer(rules: &str) -> String {
    format!(
        r#"
[[advertisers]]
id = "acme"
[[offers]]
id = "o1"
advertiser = "acme"
url = "https://shop.example/{{click_id}}"
{rules}
[[offers.events]]
id = "sale"
[[offers.events]]
id = "lead"
"#
    )
}

fn rules(text: &str) -> Option<Fraud> {
    let text = offer(text);
    let (_, warnings) = load(&text).expect("valid");
    assert!(warnings.is_empty(), "{warnings}");
    catalog(&text).offer("o1").expect("listed").fraud.as_deref().cloned()
}

fn percent(text: &str) -> Percent {
    Percent::parse(text).expect("a percentage")
}

#[test]
fn an_offer_has_the_rules_it_names_and_they_flag_unless_they_reject() {
    assert_eq!(rules(""), None);
    assert_eq!(rules("fraud = {}"), None);
    assert_eq!(rules("fraud = { too_fast = { action = \"off\" } }"), None);
    assert_eq!(rules("fraud = { too_slow = { action = \"off\" } }"), None);
    let second = Fraud { too_fast: Some(1000), ..Fraud::default() };
    assert_eq!(rules("fraud = { too_fast = {} }"), Some(second.clone()));
    let rejecting = Fraud { rejects: Flag::TooFast.bit(), ..second };
    assert_eq!(rules("fraud.too_fast = { action = \"reject\" }"), Some(rejecting));
}

#[test]
fn every_rule_has_its_bounds() {
    let text = r#"
[offers.fraud]
too_fast = { min = "3s" }
too_slow = { action = "reject", max = "7d" }
conversion_rate = { min = "0.05", max = "30", events = ["sale"] }
click_flood = { clicks = 100, period = "1m" }
repeated_ip = { action = "reject", clicks = 20, period = "1h" }
bot_user_agent = {}
repeated_customer = {}
"#;
    let expected = Fraud {
        too_fast: Some(3000),
        too_slow: Some(7 * 24 * HOUR_MS),
        conversion_rate: Some(ConversionRate {
            min: Some(percent("0.05")),
            max: Some(percent("30")),
            clicks: 100,
            period_ms: 24 * HOUR_MS,
            events: vec!["sale".into()],
        }),
        click_flood: Some(Flood { clicks: 100, period_ms: 60_000 }),
        repeated_ip: Some(Flood { clicks: 20, period_ms: HOUR_MS }),
        bot_user_agent: true,
        repeated_customer: Some(30 * 24 * HOUR_MS),
        rejects: Flag::TooSlow.bit() | Flag::RepeatedIp.bit(),
    };
    let read = rules(text).expect("rules");
    assert_eq!(read, expected);
    let clicks = Flag::CLICK_RULES.iter().fold(0, |bits, rule| bits | rule.bit());
    assert_eq!(read.of_clicks(), clicks);
}

#[test]
fn mistakes_in_fraud_rules_are_reported_at_once_by_line() {
    let text = offer(
        r#"
[offers.fraud]
too_fast = { min = "1h", max = "2h" }
too_slow = { max = "1m" }
conversion_rate = { action = "report", period = "500ms", clicks = 0 }
click_flood = { clicks = 10 }
repeated_ip = { action = "off", clicks = "many" }
bot_useragent = {}
repeated_customer = { period = "400d" }
bot_user_agent = "flag"
"#,
    );
    insta::assert_snapshot!(refused(&text), @r#"
    catalog.toml:10: offers[0] "o1".fraud.too_fast.max: unknown key
    catalog.toml:11: offers[0] "o1".fraud.too_slow: its max is below the min of too_fast
    catalog.toml:12: offers[0] "o1".fraud.conversion_rate.action: "report" is not one of "off", "flag", "reject"
    catalog.toml:12: offers[0] "o1".fraud.conversion_rate.action: bounds nothing: give it a min or a max
    catalog.toml:12: offers[0] "o1".fraud.conversion_rate.clicks: must be a whole number from 1 to 1000000
    catalog.toml:12: offers[0] "o1".fraud.conversion_rate.period: must be from "1s" to "90d"
    catalog.toml:13: offers[0] "o1".fraud.click_flood.period: is missing
    catalog.toml:14: offers[0] "o1".fraud.repeated_ip.clicks: must be a number without quotes, not of type string
    catalog.toml:15: offers[0] "o1".fraud.bot_useragent: unknown key; did you mean "bot_user_agent"?
    catalog.toml:16: offers[0] "o1".fraud.repeated_customer.period: must be from "1s" to "90d"
    catalog.toml:17: offers[0] "o1".fraud.bot_user_agent: must be a table, not of type string
    "#);
    let text = offer(r#"fraud.conversion_rate = { min = "5", max = "4.9", events = ["leed"] }"#);
    insta::assert_snapshot!(refused(&text), @r#"
    catalog.toml:8: offers[0] "o1".fraud.conversion_rate.max: is below min
    catalog.toml:8: offers[0] "o1".fraud.conversion_rate.events: "leed" is not among the offer's events
    "#);
}
