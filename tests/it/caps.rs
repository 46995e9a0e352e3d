//! Caps and tiers: exact when everything happens at the same moment, and after a kill.

use std::collections::HashSet;

use serde_json::{Value, json};

use crate::harness::{CATALOG, Connection, Server, Setup, eventually};
use crate::once::at_once;
use crate::rates;

const AT_ONCE: usize = 64;

/// An offer that `limits` go with.
pub fn catalog(limits: &str) -> String {
    format!(
        r#"{CATALOG}
[[offers]]
id = "limited"
advertiser = "acme"
url = "https://limited.example/?subid={{click_id}}"
{limits}
"#
    )
}

pub const SALE: &str = r#"
[[offers.events]]
id = "sale"
payout = { fixed = "2.00", currency = "USD" }
revenue = { fixed = "5.00" }
"#;

const TEN: &str = r#"
[[offers.caps]]
period = "month"
count = 10
"#;

pub fn server(limits: &str) -> Server {
    Setup::new().catalog(catalog(limits)).start()
}

/// Postbacks of distinct transactions of one click.
pub fn sales(server: &Server, affiliate: &str, name: &str, count: usize) -> Vec<String> {
    let click = server.click(&format!("offer=limited&aff={affiliate}"));
    let target = |n| format!("/postback?click_id={click}&event=sale&txn_id={name}{n}");
    (0..count).map(target).collect()
}

/// Payout, flags and reason of each kept conversion that `filter` lets through.
pub fn kept(server: &Server, filter: &str) -> Vec<Value> {
    let kept = server.conversions(&format!("offer=limited&{filter}"));
    let told = |c: &Value| json!([c["payout"], c["flags"], c["history"][0]["reason"]]);
    kept.iter().map(told).collect()
}

/// How many are paid 2.00; all others are over the cap of ten.
fn paid(server: &Server) -> usize {
    let kept = kept(server, "");
    let paid = kept.iter().filter(|c| **c == json!(["2.00", [], "postback"])).count();
    let over = json!(["0.00", ["over_cap"], "cap:offer:month:count"]);
    let over = kept.iter().filter(|c| **c == over).count();
    assert_eq!(paid + over, kept.len(), "{kept:?}");
    paid
}

pub fn all_accepted(server: &Server, targets: &[String]) {
    for answer in at_once(server, targets) {
        assert_eq!(answer.verdict(), (200, "accepted", ""));
    }
}

#[test]
fn of_simultaneous_postbacks_exactly_as_many_are_paid_as_the_cap_allows() {
    let server = server(&format!("{SALE}{TEN}"));
    all_accepted(&server, &sales(&server, "pub-7", "A", AT_ONCE));
    assert_eq!(paid(&server), 10);
    let revenue = server.conversions("offer=limited");
    assert!(revenue.iter().all(|c| c["revenue"] == "5.00"), "revenue knows no cap");
    let flagged = server.metric("postbackd_conversion_flags_total{flag=\"over_cap\"}");
    assert_eq!(flagged, (AT_ONCE - 10) as f64);
    // What is told again is told as before, and takes no place.
    let answer = server.postback(&sales(&server, "pub-7", "A", 1)[0]["/postback?".len()..]);
    assert_eq!(answer.verdict(), (200, "duplicate", ""));
}

#[test]
fn a_restart_remembers_what_a_cap_has_paid_for() {
    let mut server = server(&format!("{SALE}{TEN}"));
    all_accepted(&server, &sales(&server, "pub-7", "A", 4));
    server.kill();
    server.start_again();
    all_accepted(&server, &sales(&server, "pub-8", "B", 3));
    server.stop();
    server.start_again();
    all_accepted(&server, &sales(&server, "pub-7", "C", AT_ONCE));
    assert_eq!(paid(&server), 10);
}

#[test]
fn kills_under_load_neither_waste_nor_add_places() {
    const CLIENTS: usize = 8;
    let cap = SALE.to_owned() + &TEN.replace("10", "200");
    let mut server = server(&cap);
    let targets: Vec<_> =
        (0..CLIENTS).map(|n| sales(&server, "pub-7", &format!("C{n}-"), 60)).collect();
    let public = server.public;
    std::thread::scope(|scope| {
        let clients: Vec<_> = targets
            .iter()
            .map(|targets| scope.spawn(move || targets.iter().for_each(|t| insist(public, t))))
            .collect();
        let mut counted = 0;
        while !clients.iter().all(|client| client.is_finished()) {
            counted = eventually("load", || {
                let now = server.conversions("offer=limited").len();
                let ended = clients.iter().all(|client| client.is_finished());
                (now > counted + 40 || ended).then_some(now)
            });
            server.kill();
            server.start_again();
        }
    });
    let kept = kept(&server, "");
    let txns = server.conversions("offer=limited");
    let txns: HashSet<_> = txns.iter().map(|c| c["txn_id"].as_str()).collect();
    assert_eq!((kept.len(), txns.len()), (CLIENTS * 60, CLIENTS * 60));
    assert_eq!(kept.iter().filter(|c| c[0] == "2.00").count(), 200);
    assert_eq!(kept.iter().filter(|c| c[1] == json!(["over_cap"])).count(), CLIENTS * 60 - 200);
}

/// Sends a postback until it is answered.
pub fn insist(public: std::net::SocketAddr, target: &str) {
    eventually("an answer", || {
        let answer = Connection::try_open(public).ok()?.request("GET", target, "").ok()?;
        (answer.status == 200).then_some(())
    });
}

#[test]
fn a_cap_that_comes_later_counts_what_was_before() {
    let server = server(SALE);
    all_accepted(&server, &sales(&server, "pub-7", "A", 7));
    let reload = |text: &str| server.reload_catalog(&catalog(text));
    reload(&format!("{SALE}{TEN}"));
    all_accepted(&server, &sales(&server, "pub-7", "B", AT_ONCE));
    assert_eq!(paid(&server), 10);
    // Without a cap nobody counts; with one again, what was paid meanwhile counts.
    reload(SALE);
    all_accepted(&server, &sales(&server, "pub-7", "C", 4));
    reload(&format!("{SALE}{}", TEN.replace("10", "16")));
    all_accepted(&server, &sales(&server, "pub-7", "D", AT_ONCE));
    assert_eq!(paid(&server), 16);
}

#[test]
fn caps_count_by_affiliate_and_by_event_and_the_strictest_counts() {
    let server = server(
        r#"
[[offers.events]]
id = "sale"
payout = { fixed = "2.00" }
[[offers.events]]
id = "lead"
payout = { fixed = "1.00" }
[[offers.caps]]
scope = "affiliate"
events = ["sale"]
period = "month"
count = 3
[[offers.caps]]
affiliate = "pub-8"
period = "month"
payout = "5.50"
"#,
    );
    let send = |affiliate: &str, event: &str, more: &str| {
        let click = server.click(&format!("offer=limited&aff={affiliate}"));
        let answer = server.postback(&format!("click_id={click}&event={event}{more}"));
        assert_eq!(answer.verdict(), (200, "accepted", ""));
        let kept = server.api(&format!("conversions/{}", answer.word("conversion_id")));
        json!([kept["payout"], kept["history"][0]["reason"]])
    };
    let check = |affiliate: &str, event: &str, more: &str, expected: (&str, &str)| {
        assert_eq!(send(affiliate, event, more), json!([expected.0, expected.1]), "{affiliate}");
    };
    let paid = ("2.00", "postback");
    let full = ("0.00", "cap:affiliate:month:count");
    check("pub-7", "sale", "", paid);
    // What is rejected from the start takes no place.
    check("pub-7", "sale", "&status=rejected", paid);
    check("pub-7", "sale", "", paid);
    check("pub-7", "sale", "&status=pending", paid);
    check("pub-7", "sale", "", full);
    check("pub-7", "lead", "", ("1.00", "postback"));
    check("pub-8", "sale", "", paid);
    check("pub-8", "sale", "", paid);
    // A third would make 6.00; a lead makes 5.00, and another one 6.00.
    check("pub-8", "sale", "", ("0.00", "cap:pub-8:month:payout"));
    check("pub-8", "lead", "", ("1.00", "postback"));
    check("pub-8", "lead", "", ("0.00", "cap:pub-8:month:payout"));
}

#[test]
fn clicks_of_a_full_offer_go_to_the_fallback_if_it_says_so() {
    ["day", "month", "total"].into_iter().for_each(check_fallback);
}

/// Waits until clicks go there because of that.
fn clicks_become(server: &Server, expected: &Value) {
    eventually("clicks that know", || {
        let click = server.get("/click?offer=limited&aff=pub-7&redirect=false").json();
        (click["reason"] == *expected).then_some(())
    });
}

fn check_fallback(period: &str) {
    let cap = TEN.replace("10", "2").replace("month", period);
    let redirecting = cap + "redirect_when_full = true\n";
    let mut server = server(&format!("{SALE}{redirecting}"));
    let (first, second) = (sales(&server, "pub-7", "A", 1), sales(&server, "pub-8", "B", 2));
    let check = |server: &Server, expected: &Value| {
        let click = server.get("/click?offer=limited&aff=pub-7&redirect=false").json();
        assert_eq!(click["reason"], *expected);
    };
    all_accepted(&server, &first);
    check(&server, &Value::Null);
    all_accepted(&server, &second[..1]);
    check(&server, &json!("capped_offer"));
    let counted = "postbackd_click_fallbacks_total{reason=\"capped_offer\"}";
    assert_eq!(server.metric(counted), 1.0);
    // It is full without a conversion that would find it so: after a start, and by another catalog.
    server.kill();
    server.start_again();
    clicks_become(&server, &json!("capped_offer"));
    for (count, expected) in [("3", Value::Null), ("1", json!("capped_offer"))] {
        let other = redirecting.replace("count = 2", &format!("count = {count}"));
        server.reload_catalog(&catalog(&format!("{SALE}{other}")));
        clicks_become(&server, &expected);
    }
    all_accepted(&server, &second[1..]);
    check(&server, &json!("capped_offer"));
}

#[test]
fn a_refund_in_another_currency_keeps_no_payout_cap_from_being_full() {
    let limits = r#"
[[offers.events]]
id = "refund"
reverses = ["sale"]
[[offers.events]]
id = "sale"
payout = { fixed = "2.00", currency = "EUR" }
[[offers.caps]]
period = "month"
payout = "5.00"
redirect_when_full = true
"#;
    let exact = limits.replace("\"5.00\"", "\"4.00\"");
    let mut server = server(limits);
    all_accepted(&server, &sales(&server, "pub-7", "A", 3));
    let paid = json!(["2.00", ["base_rate_missing"], "postback"]);
    let over = json!(["0.00", ["over_cap", "base_rate_missing"], "cap:offer:month:payout"]);
    assert_eq!(kept(&server, ""), [paid.clone(), paid, over]);
    // Where no conversion has found it full, the event that it counts says in which currency.
    server.reload_catalog(&catalog(&exact));
    clicks_become(&server, &json!("capped_offer"));
    server.kill();
    server.start_again();
    clicks_become(&server, &json!("capped_offer"));
    server.reload_catalog(&catalog(limits));
    clicks_become(&server, &Value::Null);
}

#[test]
fn an_affiliates_volume_decides_what_it_is_paid() {
    let tiers = r#"tiers = [{ from = 4, payout = { fixed = "3.00" } }, { from = 41, payout = { percent = "1" } }]"#;
    let mut server = server(&format!("{SALE}{tiers}\n"));
    all_accepted(&server, &sales(&server, "pub-7", "A", 30));
    server.kill();
    server.start_again();
    all_accepted(&server, &sales(&server, "pub-7", "B", 34));
    all_accepted(&server, &sales(&server, "pub-8", "C", 5));
    let check = |affiliate: &str, expected: [usize; 3]| {
        let kept = kept(&server, &format!("affiliate={affiliate}"));
        let words = [
            json!(["2.00", [], "postback"]),
            json!(["3.00", [], "tier:4"]),
            json!(["0.00", ["amount_missing"], "tier:41"]),
        ];
        let of = |word: &Value| kept.iter().filter(|c| *c == word).count();
        assert_eq!([of(&words[0]), of(&words[1]), of(&words[2])], expected, "{affiliate}");
    };
    check("pub-7", [3, 37, 24]);
    check("pub-8", [3, 2, 0]);
}

#[test]
fn what_is_priced_later_keeps_its_tier_stays_unpaid_over_a_cap_and_counts() {
    let mut server = server(
        r#"
[[offers.events]]
id = "sale"
payout = { percent = "10", currency = "USD" }
revenue = { percent = "20" }
tiers = [{ from = 2, payout = { percent = "50" } }]
[[offers.events]]
id = "bonus"
payout = { fixed = "10" }
[[offers.caps]]
events = ["sale"]
period = "month"
count = 3
[[offers.caps]]
period = "month"
payout = "20"
"#,
    );
    let money = |server: &Server| {
        let kept = server.conversions("offer=limited&event=sale");
        kept.iter().map(|c| json!([c["payout"], c["revenue"], c["flags"]])).collect::<Vec<_>>()
    };
    for sale in sales(&server, "pub-7", "A", 4) {
        all_accepted(&server, &[format!("{sale}&amount=1600&currency=JPY")]);
    }
    let unpriced = json!(["0.00", "0.00", ["rate_missing"]]);
    let over = json!(["0.00", "0.00", ["rate_missing", "over_cap"]]);
    assert_eq!(money(&server), [unpriced.clone(), unpriced.clone(), unpriced, over]);
    let rates = r#"{"base":"USD","rates":{"JPY":"160"}}"#;
    assert_eq!(rates::put(&server, &rates::today(), rates).status, 200);
    let priced = [
        json!(["1.00", "2.00", []]),
        json!(["5.00", "2.00", []]),
        json!(["5.00", "2.00", []]),
        json!(["0.00", "2.00", ["over_cap"]]),
    ];
    server.says("priced by new rates");
    assert_eq!(money(&server), priced);
    // 11.00 are paid, so that 10.00 do not fit any more, and neither after a restart.
    let click = server.click("offer=limited&aff=pub-7");
    for n in 1..=2 {
        let bonus = format!("/postback?click_id={click}&event=bonus&txn_id={n}");
        all_accepted(&server, &[bonus]);
        server.kill();
        server.start_again();
    }
    let full = json!(["0.00", ["over_cap"], "cap:offer:month:payout"]);
    assert_eq!(kept(&server, "event=bonus"), [full.clone(), full]);
}

#[test]
fn what_has_another_amount_keeps_its_tier_stays_unpaid_over_a_cap_and_counts_by_it() {
    let mut server = server(
        r#"
[[offers.events]]
id = "sale"
payout = { percent = "10", currency = "USD" }
tiers = [{ from = 2, payout = { percent = "50" } }]
[[offers.events]]
id = "bonus"
payout = { fixed = "10" }
[[offers.events]]
id = "refund"
reverses = ["sale"]
[[offers.caps]]
events = ["sale"]
period = "month"
count = 2
[[offers.caps]]
period = "month"
payout = "20"
"#,
    );
    let all = sales(&server, "pub-7", "A", 3);
    for sale in &all {
        all_accepted(&server, &[format!("{sale}&amount=10")]);
    }
    let send = |server: &Server, target: &str| {
        let answer = server.postback(&target["/postback?".len()..]);
        answer.word("result").to_owned()
    };
    for sale in &all {
        let news = format!("{sale}&amount=20&status=approved");
        assert_eq!(send(&server, &news), "updated");
        assert_eq!(send(&server, &news), "duplicate");
    }
    let over = json!(["0.00", ["over_cap"], "cap:offer:month:count"]);
    let expected = [json!(["2.00", [], "postback"]), json!(["10.00", [], "tier:2"]), over];
    assert_eq!(kept(&server, "event=sale"), expected);
    // 12.00 are paid, so that 10.00 do not fit any more, and neither after a restart.
    let click = server.click("offer=limited&aff=pub-7");
    let bonus = |n: u8| format!("/postback?click_id={click}&event=bonus&txn_id={n}");
    for n in 1..=2 {
        all_accepted(&server, &[bonus(n)]);
        server.kill();
        server.start_again();
    }
    let full = json!(["0.00", ["over_cap"], "cap:offer:month:payout"]);
    assert_eq!(kept(&server, "event=bonus"), [full.clone(), full]);
    // A refund is not counted and makes no room; a smaller amount does.
    let refund = all[0].replace("event=sale", "event=refund");
    assert_eq!(send(&server, &refund), "accepted");
    all_accepted(&server, &[bonus(3)]);
    assert_eq!(send(&server, &format!("{}&amount=10&status=approved", all[1])), "updated");
    all_accepted(&server, &[bonus(4)]);
    let bonuses = kept(&server, "event=bonus");
    let payouts: Vec<_> = bonuses.iter().map(|bonus| bonus[0].clone()).collect();
    assert_eq!(payouts, ["0.00", "0.00", "0.00", "10.00"]);
}
