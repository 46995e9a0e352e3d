//! Customers: bound to the click of their first conversion, found by their ID alone, for as long
//! as their window says; two affiliates that race for one end with one binding.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::harness::{Answer, Server, Setup, eventually};
use crate::once::at_once;

const CATALOG: &str = r#"
[[advertisers]]
id = "casino"

[[advertisers]]
id = "poker"

[[offers]]
id = "roulette"
advertiser = "casino"
url = "https://casino.example/?c={click_id}"
window = "1h"
[[offers.events]]
id = "signup"
payout = { fixed = "5", currency = "USD" }
revenue = { fixed = "8" }
[[offers.events]]
id = "deposit"
payout = { percent = "10" }
revenue = { percent = "20" }
[[offers.events]]
id = "chargeback"
reverses = ["deposit"]

[[offers]]
id = "short"
advertiser = "casino"
url = "https://casino.example/?c={click_id}"
customer_window = "3s"
[[offers.events]]
id = "signup"
[[offers.events]]
id = "deposit"
payout = { percent = "10", currency = "USD" }
[[offers.events]]
id = "chargeback"
reverses = ["deposit"]

[[offers]]
id = "single"
advertiser = "casino"
url = "https://casino.example/?c={click_id}"
one_conversion_per_click = true
[[offers.events]]
id = "signup"
[[offers.events]]
id = "deposit"
payout = { percent = "10", currency = "USD" }

[[affiliates]]
id = "ann"

[[affiliates]]
id = "ben"
"#;

fn server() -> Server {
    Setup::new().catalog(CATALOG.to_owned()).start()
}

fn at(server: &Server, path: &str, query: &str) -> Answer {
    Answer::of(server.get(&format!("{path}?{query}")))
}

fn casino(server: &Server, query: &str) -> Answer {
    at(server, "/postback/casino", query)
}

/// Status, payout and flags of an accepted postback's conversion, and whose it is.
fn accepted(server: &Server, query: &str) -> Value {
    let answer = casino(server, query);
    assert_eq!(answer.verdict(), (200, "accepted", ""), "{query}: {answer:?}");
    server.api(&format!("conversions/{}", answer.word("conversion_id")))
}

#[test]
fn a_customer_alone_goes_where_its_first_conversion_went() {
    let mut server = server();
    let click = server.click("offer=roulette&aff=ann");
    let unknown = casino(&server, "customer_id=c1&event=deposit&txn_id=D0&amount=10");
    assert_eq!(unknown.verdict(), (404, "refused", "unknown_customer"));
    assert!(unknown.word("hint").contains("click_id"), "{unknown:?}");
    let dry = casino(&server, "customer_id=c1&event=deposit&txn_id=D0&amount=10&dry_run=1");
    assert_eq!(dry.verdict(), (404, "refused", "unknown_customer"));
    accepted(&server, &format!("click_id={click}&customer_id=c1&event=signup"));
    let check = |server: &Server, txn: &str| {
        let kept =
            accepted(server, &format!("customer_id=c1&event=deposit&txn_id={txn}&amount=10"));
        let said = ["click_id", "affiliate", "offer", "payout"].map(|name| kept[name].as_str());
        assert_eq!(said, [Some(&*click), Some("ann"), Some("roulette"), Some("1.00")]);
        assert_eq!(kept["flags"], serde_json::json!(["by_customer"]));
    };
    check(&server, "D1");
    let again = casino(&server, "customer_id=c1&event=deposit&txn_id=D1&amount=10");
    assert_eq!(again.verdict(), (200, "duplicate", ""));
    server.kill();
    server.start_again();
    check(&server, "D2");
    server.stop();
    server.start_again();
    check(&server, "D3");
    let dry = casino(&server, "customer_id=c1&event=deposit&txn_id=D9&amount=10&dry_run=1");
    assert_eq!(dry.verdict(), (200, "accepted", ""));
    assert_eq!(server.conversions("customer_id=c1").len(), 4);
}

#[test]
fn customers_are_their_advertisers_own_and_need_a_path_that_names_it() {
    let server = server();
    let click = server.click("offer=roulette&aff=ann");
    accepted(&server, &format!("click_id={click}&customer_id=c1&event=signup"));
    let deposit = "customer_id=c1&event=deposit&txn_id=D1&amount=10";
    let other = at(&server, "/postback/poker", deposit);
    assert_eq!(other.verdict(), (404, "refused", "unknown_customer"));
    let nobody = at(&server, "/postback", deposit);
    assert_eq!(nobody.verdict(), (400, "refused", "missing_click_id"));
    assert!(nobody.word("hint").contains("/postback/{advertiser}"), "{nobody:?}");
    let placeholder = casino(&server, "customer_id={cid}&event=deposit");
    assert_eq!(placeholder.verdict(), (400, "refused", "unresolved_macro"));
    // A click ID under a name of another dialect is that mistake, not an unknown customer.
    let dialect = casino(&server, &format!("subid={click}&customer_id=c9&event=deposit"));
    assert_eq!(dialect.verdict(), (400, "refused", "missing_click_id"));
}

#[test]
fn who_has_no_name_is_no_customer() {
    let server = server();
    for (txn, nobody) in [("D1", "null"), ("D2", "NULL"), ("D3", "undefined")] {
        let click = server.click("offer=roulette&aff=ann");
        let sent = format!("click_id={click}&customer_id={nobody}&event=signup&txn_id={txn}");
        let kept = accepted(&server, &sent);
        assert_eq!((&kept["customer_id"], &kept["flags"]), (&Value::Null, &serde_json::json!([])));
        let alone = server.get(&format!("/postback/casino?customer_id={nobody}&event=deposit"));
        assert_eq!(alone.json()["reason"], "missing_click_id");
    }
}

#[test]
fn a_click_of_its_own_counts_and_the_binding_stays() {
    let server = server();
    let [ann, ben] = ["ann", "ben"].map(|aff| server.click(&format!("offer=roulette&aff={aff}")));
    accepted(&server, &format!("click_id={ann}&customer_id=c1&event=signup"));
    let own = format!("click_id={ben}&customer_id=c1&event=deposit&txn_id=D1&amount=10");
    let own = accepted(&server, &own);
    assert_eq!(own["affiliate"], "ben");
    assert_eq!(own["flags"], serde_json::json!(["bound_elsewhere"]));
    let alone = accepted(&server, "customer_id=c1&event=deposit&txn_id=D2&amount=10");
    assert_eq!(alone["affiliate"], "ann");
    let binding = server.api("customers/casino/c1");
    let said = ["click_id", "offer", "affiliate"].map(|name| binding[name].as_str());
    assert_eq!(said, [Some(&*ann), Some("roulette"), Some("ann")]);
    assert_eq!(binding["until"], Value::Null);
    assert_eq!(binding["conversions"].as_array().map(Vec::len), Some(3), "{binding}");
    let told = |path: &str| {
        let answer = server.admin(&format!("/api/v1/customers/{path}"));
        (answer.status, answer.json()["error"]["message"].as_str().map(str::to_owned))
    };
    let message = |text: &str| (404, Some(text.to_owned()));
    assert_eq!(told("casino/c2"), message("the advertiser has no such customer"));
    assert_eq!(told("casinoo/c1"), message("there was never an advertiser with this ID"));
    let trace = server.api("trace/c1");
    let entries = trace["entries"].as_array().expect("entries").iter();
    let kept =
        entries.filter(|entry| entry["kind"] == "click" || entry["kind"] == "conversion").count();
    assert_eq!(kept, 5, "{trace}");
}

#[test]
fn what_is_rejected_or_late_or_negative_binds_nobody() {
    let server = server();
    let click = server.click("offer=roulette&aff=ann");
    let rejected = format!("click_id={click}&customer_id=c1&event=signup&status=rejected");
    accepted(&server, &rejected);
    let alone = casino(&server, "customer_id=c1&event=deposit&amount=10");
    assert_eq!(alone.verdict(), (404, "refused", "unknown_customer"));
    let ben = server.click("offer=roulette&aff=ben");
    accepted(&server, &format!("click_id={ben}&customer_id=c1&event=signup"));
    let alone = accepted(&server, "customer_id=c1&event=deposit&amount=10");
    assert_eq!(alone["affiliate"], "ben");
}

/// What is answered, once it is, when a new event names the customer after its window.
fn told_when_the_window_is_over(server: &Server) -> Answer {
    eventually("the window to be over", || {
        let answer = casino(server, "customer_id=c1&event=deposit&txn_id=D2&amount=10&dry_run=1");
        (answer.http.status != 200).then_some(answer)
    })
}

#[test]
fn a_window_ends_and_the_next_click_binds_anew() {
    let server = server();
    let [ann, ben] = ["ann", "ben"].map(|aff| server.click(&format!("offer=short&aff={aff}")));
    accepted(&server, &format!("click_id={ann}&customer_id=c1&event=signup"));
    let first = accepted(&server, "customer_id=c1&event=deposit&txn_id=D1&amount=10");
    assert_eq!(first["affiliate"], "ann");
    assert!(server.api("customers/casino/c1")["until"].is_string());
    let over = told_when_the_window_is_over(&server);
    assert_eq!(over.verdict(), (404, "refused", "unknown_customer"));
    assert!(over.word("hint").contains("window"), "{over:?}");
    // What is known already is still answered and changed.
    let again = casino(&server, "customer_id=c1&event=deposit&txn_id=D1&amount=10");
    assert_eq!(again.verdict(), (200, "duplicate", ""));
    let news = casino(&server, "customer_id=c1&event=deposit&txn_id=D1&status=approved&amount=20");
    assert_eq!(news.verdict(), (200, "updated", ""));
    let back = casino(&server, "customer_id=c1&event=chargeback&reversal_id=B1");
    assert_eq!(back.verdict(), (200, "accepted", ""));
    accepted(&server, &format!("click_id={ben}&customer_id=c1&event=signup"));
    let second = accepted(&server, "customer_id=c1&event=deposit&txn_id=D2&amount=10");
    assert_eq!(second["affiliate"], "ben");
}

#[test]
fn two_affiliates_that_race_for_a_customer_end_with_one_binding() {
    const EACH: usize = 32;
    let mut server = server();
    let clicks = ["ann", "ben"].map(|aff| server.click(&format!("offer=roulette&aff={aff}")));
    let mut bound = BTreeMap::new();
    for round in 0..8 {
        let target = |n: usize| {
            let click = &clicks[n % 2];
            format!(
                "/postback/casino?click_id={click}&customer_id=r{round}&event=deposit&txn_id=R{round}-{n}&amount=1"
            )
        };
        let answers = at_once(&server, &(0..2 * EACH).map(target).collect::<Vec<_>>());
        for answer in &answers {
            assert_eq!(answer.verdict(), (200, "accepted", ""));
        }
        let customer = format!("r{round}");
        let binding = server.api(&format!("customers/casino/{customer}"));
        let affiliate = binding["affiliate"].as_str().expect("an affiliate").to_owned();
        let kept = server.conversions(&format!("customer_id={customer}"));
        assert_eq!(kept.len(), 2 * EACH);
        for conversion in &kept {
            let elsewhere = conversion["flags"] == serde_json::json!(["bound_elsewhere"]);
            assert_eq!(elsewhere, conversion["affiliate"] != affiliate.as_str(), "{conversion}");
        }
        bound.insert(customer, affiliate);
    }
    server.kill();
    server.start_again();
    for (customer, affiliate) in &bound {
        let query =
            format!("customer_id={customer}&event=deposit&txn_id=after-{customer}&amount=1");
        assert_eq!(accepted(&server, &query)["affiliate"], affiliate.as_str());
    }
    server.stop();
    let ended = crate::verify::verify(&server.path("data"));
    assert_eq!(ended.code, Some(0), "{}{}", ended.out, ended.err);
}

#[test]
fn a_negative_event_of_a_customer_takes_back_all_or_the_latest() {
    let server = server();
    let [ann, ben] = ["ann", "ben"].map(|aff| server.click(&format!("offer=roulette&aff={aff}")));
    accepted(&server, &format!("click_id={ann}&customer_id=c1&event=signup"));
    let deposits = ["D1", "D2", "D3"].map(|txn| {
        let by = if txn == "D2" { format!("click_id={ben}&") } else { String::new() };
        let query = format!("{by}customer_id=c1&event=deposit&txn_id={txn}&amount=100");
        accepted(&server, &query)["conversion_id"].as_str().expect("an ID").to_owned()
    });
    let state = |id: &String| {
        let kept = server.api(&format!("conversions/{id}"));
        let words =
            ["status", "reversed_amount"].map(|name| kept[name].as_str().map(str::to_owned));
        words.map(Option::unwrap_or_default).join(" ")
    };
    let states = || deposits.each_ref().map(state);
    let before = states();
    let back = |rest: &str| casino(&server, &format!("customer_id=c1&event=chargeback&{rest}"));
    let dry = back("reversal_id=B1&amount=130&dry_run=1");
    assert_eq!(dry.verdict(), (200, "accepted", ""));
    assert_eq!(states(), before, "a dry run changes nothing");
    assert_eq!(back("reversal_id=B1&amount=130").verdict(), (200, "accepted", ""));
    assert_eq!(states(), ["approved ", "approved 30.00", "reversed "], "latest first");
    assert_eq!(back("reversal_id=B1&amount=130").verdict(), (200, "duplicate", ""));
    // The same ID as a deposit's transaction, or another event's: names of different things.
    assert_eq!(back("reversal_id=D1").verdict(), (200, "accepted", ""));
    assert_eq!(states(), ["reversed ", "reversed 30.00", "reversed "]);
    let nothing = back("reversal_id=B3");
    assert_eq!(nothing.verdict(), (409, "refused", "illegal_transition"));
    for affiliate in ["ann", "ben"] {
        let balance = server.api(&format!("balances?affiliate={affiliate}"));
        let payable = if affiliate == "ann" { "5.00" } else { "0.00" };
        assert!(balance.to_string().contains(&format!("\"{payable}\"")), "{balance}");
    }
}

#[test]
fn a_negative_event_of_a_customer_takes_back_nothing_of_another_offer() {
    let server = server();
    let [bound, other] =
        ["roulette", "short"].map(|offer| server.click(&format!("offer={offer}&aff=ann")));
    accepted(&server, &format!("click_id={bound}&customer_id=c1&event=signup"));
    for (click, txn_id) in [(&bound, "D1"), (&other, "D2"), (&bound, "D3"), (&other, "D4")] {
        let deposit = format!("customer_id=c1&event=deposit&txn_id={txn_id}&amount=100");
        accepted(&server, &format!("click_id={click}&{deposit}"));
    }
    let back = |rest: &str| casino(&server, &format!("customer_id=c1&event=chargeback&{rest}"));
    let left = || {
        let kept = server.conversions("event=deposit&status=approved");
        let ids = kept.iter().map(|kept| kept["txn_id"].as_str().map(str::to_owned));
        ids.map(Option::unwrap_or_default).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(back("reversal_id=B1&amount=100").verdict(), (200, "accepted", ""));
    assert_eq!(left(), "D1 D2 D4", "the latest of the offer");
    assert_eq!(back("reversal_id=B2").verdict(), (200, "accepted", ""));
    assert_eq!(left(), "D2 D4");
    assert_eq!(back("reversal_id=B3").verdict(), (409, "refused", "illegal_transition"));
    // By what they are called they can be meant, for their offer says the same.
    assert_eq!(back("txn_id=D2").verdict(), (200, "accepted", ""));
    let named = format!("click_id={bound}&event=chargeback&txn_id=D4");
    assert_eq!(casino(&server, &named).verdict(), (200, "accepted", ""));
    assert_eq!(left(), "");
}

#[test]
fn a_negative_event_takes_back_no_more_than_it_may_and_none_of_it_then() {
    let server = server();
    let ann = server.click("offer=roulette&aff=ann");
    accepted(&server, &format!("click_id={ann}&customer_id=c1&event=signup"));
    let deposit = |number: usize| {
        let query = format!("customer_id=c1&event=deposit&txn_id=D{number}&amount=100");
        assert_eq!(casino(&server, &query).verdict(), (200, "accepted", ""), "{query}");
    };
    let back = |id: &str| casino(&server, &format!("customer_id=c1&event=chargeback&{id}"));
    let reversed = || server.api("conversions?status=reversed&limit=1000")["items"].clone();
    let count = |listed: Value| listed.as_array().map(Vec::len);
    let may = postbackd::limits::REVERSED_AT_ONCE_MAX;
    (0..=may).for_each(deposit);
    let too_many = back("reversal_id=B1");
    assert_eq!(too_many.verdict(), (409, "refused", "illegal_transition"));
    assert!(too_many.word("hint").contains("name a txn_id"), "{too_many:?}");
    assert_eq!(count(reversed()), Some(0));
    assert_eq!(back("reversal_id=B1&txn_id=D0").verdict(), (200, "accepted", ""));
    assert_eq!(back("reversal_id=B2").verdict(), (200, "accepted", ""));
    assert_eq!(count(reversed()), Some(may + 1));
    // Of so many, which are the latest cannot be told.
    let seen = postbackd::limits::TRACE_CONVERSIONS_MAX;
    (may + 1..seen).for_each(deposit);
    assert_eq!(back("reversal_id=B3").verdict(), (409, "refused", "illegal_transition"));
    assert_eq!(count(reversed()), Some(may + 1));
}

#[test]
fn a_retry_is_told_its_own_conversion_though_its_customer_is_bound_to_a_click_that_has_another() {
    let mut server = server();
    let ann = server.click("offer=short&aff=ann");
    accepted(&server, &format!("click_id={ann}&customer_id=c1&event=signup"));
    let deposit = "customer_id=c1&event=deposit&txn_id=D1&amount=10";
    let original = accepted(&server, deposit);
    told_when_the_window_is_over(&server);
    let ben = server.click("offer=single&aff=ben");
    let other = accepted(&server, &format!("click_id={ben}&customer_id=c1&event=signup"));
    let check = |server: &Server| {
        let again = casino(server, deposit);
        assert_eq!(again.verdict(), (200, "duplicate", ""));
        assert_eq!(again.json["conversion_id"], original["conversion_id"]);
        // Nobody has this one, so it is the click's.
        let second = casino(server, "customer_id=c1&event=deposit&txn_id=D2&amount=10");
        assert_eq!(second.verdict(), (200, "duplicate", ""));
        assert_eq!(second.json["conversion_id"], other["conversion_id"]);
    };
    check(&server);
    server.kill();
    server.start_again();
    check(&server);
}
