//! What a conversion earns: the formula, affiliates with terms of their own, trusted amounts.

use serde_json::{Value, json};

use crate::harness::{CATALOG, Server};

const SHARES: &str = r#"
[[offers]]
id = "games"
advertiser = "acme"
url = "https://games.example/?subid={click_id}"

[[offers.events]]
id = "deposit"
payout = { fixed = "1.00", percent = "12.5", max = "500", currency = "USD" }
revenue = { percent = "30", per_unit = "0.25" }

[[offers.events.overrides]]
affiliate = "pub-8"
payout = { percent = "33.333333" }

[[offers.events]]
id = "sale"
payout = { percent = "10", min = "1", max = "20" }
revenue = { percent = "20" }
trust_payout = true

[[offers.events]]
id = "items"
payout = { per_unit = "1000000" }

[[offers.events]]
id = "top-up"
repeat = "1h"
payout = { percent = "10" }
"#;

fn server() -> Server {
    let server = Server::start();
    load(&server, SHARES);
    server
}

fn load(server: &Server, shares: &str) {
    server.reload_catalog(&format!("{CATALOG}{shares}"));
}

/// What is kept of an accepted postback of this affiliate's click: payout, revenue, flags.
fn earned(server: &Server, affiliate: &str, query: &str) -> Value {
    let click = server.click(&format!("offer=games&aff={affiliate}"));
    let answer = server.postback(&format!("click_id={click}&{query}"));
    assert_eq!(answer.verdict(), (200, "accepted", ""), "{query}");
    let kept = server.api(&format!("conversions/{}", answer.word("conversion_id")));
    json!([kept["payout"], kept["revenue"], kept["flags"]])
}

#[test]
fn a_conversion_earns_by_the_formula_of_its_event_and_affiliate() {
    let server = server();
    let check = |affiliate: &str, query: &str, expected: Value| {
        assert_eq!(earned(&server, affiliate, query), expected, "{affiliate} {query}");
    };
    let deposit = "event=deposit&amount=100.02";
    check("pub-7", deposit, json!(["13.5025", "30.256", []]));
    check("pub-7", "event=deposit&amount=100.02&quantity=4", json!(["13.5025", "31.006", []]));
    check("pub-7", "event=deposit&amount=100&currency=usd", json!(["13.50", "30.25", []]));
    check("pub-7", "event=deposit&amount=99999", json!(["500.00", "29999.95", []]));
    check("pub-8", deposit, json!(["33.34", "30.256", []]));
}

#[test]
fn what_cannot_be_reckoned_with_is_flagged_and_counted() {
    let server = server();
    let check = |query: &str, expected: Value| {
        assert_eq!(earned(&server, "pub-7", query), expected, "{query}");
    };
    check("event=deposit", json!(["1.00", "0.25", ["amount_missing"]]));
    check("event=deposit&amount=9&currency=EUR", json!(["1.00", "0.25", ["rate_missing"]]));
    for flag in ["amount_missing", "rate_missing"] {
        let series = format!("postbackd_conversion_flags_total{{flag=\"{flag}\"}}");
        assert_eq!(server.metric(&series), 1.0, "{flag}");
    }
}

#[test]
fn what_is_accepted_without_its_price_has_a_hint_that_works() {
    let server = server();
    let missing = "no amount was sent, so a share of it is zero: send the same again with the amount and its status, as status=approved";
    let unrated = "there is no rate of that day for the currency, so what depends on it is zero: it is priced when the rate comes";
    let ask = |query: &str, hint: &str| {
        let click = server.click("offer=games&aff=pub-7");
        for dry_run in ["&dry_run=1", ""] {
            let answer = server.postback(&format!("click_id={click}&{query}{dry_run}"));
            assert_eq!(answer.verdict(), (200, "accepted", ""), "{query}");
            assert_eq!((answer.word("hint"), answer.word("reason")), (hint, ""), "{query}");
            assert_eq!(answer.json.get("hint").is_some(), !hint.is_empty(), "{query}");
        }
        let again = server.postback(&format!("click_id={click}&{query}"));
        assert_eq!((again.word("result"), again.word("hint")), ("duplicate", ""), "{query}");
        click
    };
    ask("event=deposit&txn_id=1&amount=9", "");
    ask("event=items&txn_id=2", "");
    ask("event=deposit&txn_id=3&amount=9&currency=EUR", unrated);
    ask("event=deposit", missing);
    ask("event=deposit&txn_id=5&status=rejected", "");
    // Sent again after its hour it would be another one.
    ask("event=top-up", "no amount was sent, so a share of it is zero");
    let click = ask("event=deposit&txn_id=4", missing);
    let later = format!("click_id={click}&event=deposit&txn_id=4&amount=100&status=approved");
    assert_eq!(server.postback(&later).verdict(), (200, "updated", ""));
    let kept = &server.conversions("txn_id=4")[0];
    assert_eq!(json!([kept["payout"], kept["flags"]]), json!(["13.50", []]));
}

#[test]
fn a_postbacks_own_payout_counts_where_it_is_trusted_and_within_bounds() {
    let server = server();
    let check = |query: &str, expected: Value| {
        assert_eq!(earned(&server, "pub-7", query), expected, "{query}");
    };
    let own = "amount=50&payout=7&revenue=99";
    check(&format!("event=sale&{own}"), json!(["7.00", "10.00", []]));
    check(&format!("event=deposit&{own}"), json!(["7.25", "15.25", []]));
    check("event=sale&amount=50&payout=70", json!(["20.00", "10.00", []]));
    check("event=sale&amount=50", json!(["5.00", "10.00", []]));
}

#[test]
fn a_retry_is_a_duplicate_after_the_terms_have_changed() {
    let server = server();
    let click = server.click("offer=games&aff=pub-7");
    let own = format!("click_id={click}&event=sale&txn_id=O&amount=100&payout=20&status=approved");
    let ruled = format!("click_id={click}&event=sale&txn_id=R&amount=100&status=approved");
    let ids = [&own, &ruled].map(|query| {
        let answer = server.postback(query);
        assert_eq!(answer.verdict(), (200, "accepted", ""), "{query}");
        answer.word("conversion_id").to_owned()
    });
    let money = || {
        ids.each_ref().map(|id| {
            let kept = server.api(&format!("conversions/{id}"));
            ["payout", "revenue", "amount_rate", "base"].map(|name| kept[name].clone())
        })
    };
    let before = json!([["20.00", "20.00", null, null], ["10.00", "20.00", null, null]]);
    assert_eq!(json!(money()), before);
    let anew = r#"payout = { percent = "12", min = "1", max = "15" }"#;
    load(&server, &SHARES.replace(r#"payout = { percent = "10", min = "1", max = "20" }"#, anew));
    for query in [&own, &ruled] {
        assert_eq!(server.postback(query).verdict(), (200, "duplicate", ""), "{query}");
    }
    assert_eq!(json!(money()), before);
    for query in [&own, &ruled] {
        let corrected = query.replace("amount=100&payout=20", "amount=50").replace("=100", "=50");
        assert_eq!(server.postback(&corrected).verdict(), (200, "updated", ""), "{corrected}");
    }
    // By the terms of today: at most so much of what is its own.
    assert_eq!(
        json!(money()),
        json!([["15.00", "10.00", null, null], ["6.00", "10.00", null, null]])
    );
    let balances = server.api("balances?affiliate=pub-7");
    assert_eq!(balances["balances"][0]["owed"], "21.00");
}

#[test]
fn what_is_too_large_to_be_kept_is_refused_with_the_reason() {
    let server = server();
    let click = server.click("offer=games&aff=pub-7");
    let answer = server.postback(&format!("click_id={click}&event=items&quantity=9223373"));
    assert_eq!(answer.verdict(), (400, "refused", "bad_amount"));
    assert!(answer.word("hint").contains("too large"), "{answer:?}");
    let most = earned(&server, "pub-7", "event=items&quantity=9223372");
    assert_eq!(most, json!(["9223372000000.00", "0.00", []]));
}
