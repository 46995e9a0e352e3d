//! What has left the catalog: its conversions are found as before, and named.

use serde_json::{Value, json};

use crate::harness::{Ended, Server, Setup};
use crate::inbound::{ALL_TIME, earned, judged, log, log_of};

/// An offer of the advertiser `acme` with these events, and of all advertisers the affiliates.
fn catalog(offer: &str, events: &[&str], affiliates: &[&str]) -> String {
    catalog_of("acme", offer, events, affiliates)
}

fn catalog_of(advertiser: &str, offer: &str, events: &[&str], affiliates: &[&str]) -> String {
    let mut text = format!(
        "[[advertisers]]\nid = \"{advertiser}\"\n\
         [[offers]]\nid = \"{offer}\"\nadvertiser = \"{advertiser}\"\n\
         url = \"https://a.example/?c={{click_id}}\"\n"
    );
    for event in events {
        text += &format!(
            "[[offers.events]]\nid = \"{event}\"\n\
             revenue = {{ fixed = \"20\", currency = \"USD\" }}\n\
             payout = {{ fixed = \"6\", currency = \"USD\" }}\n"
        );
    }
    for affiliate in affiliates {
        text += &format!("[[affiliates]]\nid = \"{affiliate}\"\n");
    }
    text
}

fn put(server: &Server, text: &str) {
    let answer = server.put_catalog("", "application/toml", "If-Match: *\r\n", text);
    assert_eq!(answer.status, 200, "{answer:?}");
}

fn start(text: &str) -> Server {
    let server = Setup::new().without_catalog_file().start();
    put(&server, text);
    server
}

fn convert(server: &Server, click: &str, event: &str, more: &str) -> Value {
    let answer = server.postback(&format!("click_id={click}&event={event}{more}"));
    assert_eq!(answer.verdict(), (200, "accepted", ""));
    answer.json["conversion_id"].clone()
}

#[test]
fn an_affiliate_that_has_left_the_catalog_has_all_its_conversions_by_its_id() {
    let server = start(&catalog("spring", &["sale"], &["pub-7", "pub-8"]));
    let click = server.click("offer=spring&aff=pub-7");
    let others = convert(&server, &server.click("offer=spring&aff=pub-8"), "sale", "&txn_id=O");
    let before = convert(&server, &click, "sale", "&txn_id=T-1");
    let refused = server.postback(&format!("click_id={click}&event=lead&txn_id=T-3"));
    assert_eq!(refused.verdict(), (404, "refused", "unknown_event"));
    log_of(&server, "result=refused", 1);

    put(&server, &catalog("spring", &["sale"], &["pub-8"]));
    let after = convert(&server, &click, "sale", "&txn_id=T-2&customer_id=K-1");
    let ids = |filter: &str| -> Vec<_> {
        let found = server.conversions(filter);
        found
            .into_iter()
            .map(|mut it| (it["conversion_id"].take(), it["affiliate"].take()))
            .collect()
    };
    let named = |id: &Value| (id.clone(), json!("pub-7"));
    assert_eq!(ids("affiliate=pub-7"), [named(&before), named(&after)]);
    assert_eq!(ids("affiliate=pub-8"), [(others, json!("pub-8"))]);

    let id = after.as_str().expect("an ID");
    assert_eq!(server.api(&format!("conversions/{id}"))["affiliate"], "pub-7");
    let customer = server.api("customers/acme/K-1");
    assert_eq!(customer["conversions"][0]["affiliate"], "pub-7", "{customer}");
    assert_eq!(customer["affiliate"], "pub-7", "{customer}");
    assert_eq!(server.api(&format!("clicks/{click}"))["affiliate"], "pub-7");
    let trace = server.api("trace/T-2");
    let entries = trace["entries"].as_array().expect("entries");
    let traced: Vec<_> = entries.iter().filter(|entry| entry["kind"] == "conversion").collect();
    assert!(traced.len() == 2 && traced.iter().all(|it| it["record"]["affiliate"] == "pub-7"));

    // The money is the same, whoever adds it up.
    let totals = server.api("totals?affiliate=pub-7");
    assert_eq!((&totals["conversions"], &totals["payout"]), (&json!(2), &json!("12.00")));
    assert_eq!(server.api("balances?affiliate=pub-7")["balances"][0]["owed"], "12.00");
    assert_eq!(server.api("fraud?affiliate=pub-7")["conversions"], 2);

    // So are the click's and the customer's offer, once that has left.
    put(&server, &catalog("summer", &["sale"], &["pub-8"]));
    for call in [format!("clicks/{click}"), "customers/acme/K-1".to_owned()] {
        let shown = server.api(&call);
        assert_eq!((&shown["offer"], &shown["affiliate"]), (&json!("spring"), &json!("pub-7")));
    }

    // What is judged again says whose it is, too.
    put(&server, &catalog("spring", &["sale", "lead"], &["pub-8"]));
    let expected = json!([earned("pub-7", 1, ["20.00", "6.00"], ["20.00", "6.00"])]);
    for apply in [false, true] {
        assert_eq!(judged(&server, apply)["affiliates"], expected);
    }
}

#[test]
fn a_trace_finds_what_has_left_the_catalog() {
    let server = start(&catalog("spring", &["sale", "lead"], &["one"]));
    let click = || server.click("offer=spring&aff=one");
    let sold = convert(&server, &click(), "lead", "&txn_id=T-1");
    let one = click();
    let led = convert(&server, &one, "lead", "&txn_id=T-2&customer_id=K-1");
    let again = convert(&server, &one, "lead", "&txn_id=T-3&customer_id=K-1");
    // A customer who is called like a transaction: that comes first, among those that are known.
    let alike = convert(&server, &click(), "lead", "&txn_id=T-4&customer_id=T-1");
    let traced = |id: &str| -> Vec<_> {
        let mut trace = server.api(&format!("trace/{id}"));
        let entries = trace["entries"].as_array_mut().expect("entries").iter_mut();
        let found = entries.filter(|entry| entry["kind"] == "conversion");
        found.map(|entry| entry["record"]["conversion_id"].take()).collect()
    };
    let found = || [traced("T-1"), traced("T-2"), traced("K-1"), traced("T-4")];
    let all = found();
    assert_eq!(all, [vec![sold], vec![led.clone(), again.clone()], vec![led, again], vec![alike]]);
    for (left, text) in [
        ("event", catalog("spring", &["sale"], &["one"])),
        ("offer", catalog("summer", &["sale"], &["one"])),
        ("advertiser", catalog_of("other", "summer-2", &["sale"], &["one"])),
    ] {
        put(&server, &text);
        assert_eq!(found()[1..], all[1..], "{left}");
    }
    // While its advertiser was there, the customer of that name was known, and came first.
    assert_eq!(found(), all);
    assert_eq!(server.admin("/api/v1/trace/T-5").status, 404);
}

/// The status of each question about an advertiser, an offer or an affiliate.
fn asked(server: &Server, call: &str) -> u16 {
    if let Some((job, body)) = call.split_once(' ') {
        let answer = server.post_api(job, "application/json", body);
        if answer.status == 202 {
            server.ended(&answer);
        }
        return answer.status;
    }
    server.admin(&format!("/api/v1/{call}")).status
}

#[test]
fn who_was_never_in_the_catalog_is_not_found_and_who_has_left_it_is() {
    let lonely = "[[advertisers]]\nid = \"lonely\"\n";
    let server = start(&(catalog("spring", &["sale"], &["pub-7"]) + lonely));
    let click = server.click("offer=spring&aff=pub-7");
    convert(&server, &click, "sale", "&txn_id=T-1&customer_id=K-1");
    // Without an offer, and yet there are data of its customer.
    let refused = server.get("/postback/lonely?event=sale&customer_id=bob").json();
    assert_eq!(refused["reason"], "unknown_customer");
    crate::inbound::log_of(&server, "advertiser=lonely", 1);
    put(&server, &catalog_of("other", "summer", &["sale"], &["pub-8"]));
    let questions = |advertiser: &str, offer: &str, affiliate: &str| {
        let whose = format!("advertiser={advertiser}");
        let erase = json!({ "advertiser": advertiser, "customer_id": "K-1", "dry_run": true });
        let again = json!({ "advertiser": advertiser, "from": "2020-01-01T00:00:00Z" });
        let mut calls = vec![
            format!("inbound?{whose}"),
            format!("reports?{whose}"),
            format!("reports/refusals?{whose}"),
            format!("erase {erase}"),
            format!("reprocess {again}"),
        ];
        for listing in ["conversions", "totals", "fraud", "reports", "reports/refusals"] {
            calls.push(format!("{listing}?offer={offer}"));
            calls.push(format!("{listing}?affiliate={affiliate}"));
        }
        calls
    };
    for known in questions("acme", "spring", "pub-7")
        .into_iter()
        .chain(questions("other", "summer", "pub-8"))
    {
        let expected = if known.contains(' ') { 202 } else { 200 };
        assert_eq!(asked(&server, &known), expected, "{known}");
    }
    assert_eq!(asked(&server, "inbound?advertiser=lonely"), 200);
    let erase = json!({ "advertiser": "lonely", "customer_id": "bob", "dry_run": true });
    assert_eq!(asked(&server, &format!("erase {erase}")), 202);
    for unknown in questions("acne", "sprung", "pub-9") {
        assert_eq!(asked(&server, &unknown), 404, "{unknown}");
    }
    for empty in ["conversions?affiliate=", "reports?advertiser="] {
        assert_eq!(asked(&server, empty), 404, "{empty}");
    }
    // What an offer that has left has earned is its advertiser's still.
    let report = server.api("reports?group_by=advertiser");
    assert_eq!(report["rows"][0]["group"]["advertiser"], "acme", "{report}");
    assert_eq!(server.api("reports?advertiser=acme")["totals"][0]["payout"], "6.00");
    assert_eq!(server.api("inbound?advertiser=acme")["items"][0]["result"], "accepted");

    for command in [
        &["erase", "--customer", "acne", "K-1", "--dry-run"][..],
        &["reprocess", "--from", "2020-01-01", "--advertiser", "acne"],
        &["fraud", "--affiliate", "pub-9"],
        &["inbound", "--advertiser", "acne"],
        &["report", "--advertiser", "acne"],
    ] {
        let Ended { code, err, .. } = server.command(command);
        assert_eq!(code, Some(1), "{command:?}: {err}");
        assert!(err.contains("404: not_found: there was never a"), "{err}");
    }
}

/// Offers of `acme`, with how long their customers stay bound.
fn bound(offers: &[(&str, &str)]) -> String {
    let offers = offers.iter().map(|(offer, window)| {
        format!(
            "[[offers]]\nid = \"{offer}\"\nadvertiser = \"acme\"\ncustomer_window = \"{window}\"\n\
             url = \"https://a.example/?c={{click_id}}\"\n\
             [[offers.events]]\nid = \"sale\"\npayout = {{ fixed = \"6\", currency = \"USD\" }}\n\
             [[offers.events]]\nid = \"refund\"\nreverses = [\"sale\"]\n"
        )
    });
    let token = postbackd::auth::hash_text("t0ken");
    let safe = format!("auth = {{ tokens = [{{ secret = \"{token}\" }}] }}");
    let others = "[[affiliates]]\nid = \"pub-7\"\n[[affiliates]]\nid = \"pub-8\"\n";
    format!("[[advertisers]]\nid = \"acme\"\n{safe}\n{}{others}", offers.collect::<String>())
}

#[test]
fn a_customer_is_bound_to_an_offer_that_has_left_no_longer_than_to_one_that_has_not() {
    let (short, long, other) = (("short", "1s"), ("long", "1h"), ("other", "1h"));
    let mut server = start(&bound(&[short, long, other]));
    let acme = |server: &Server, query: &str| {
        let answer = server.get(&format!("/postback/acme?token=t0ken&{query}")).json();
        ["result", "reason", "click_id"].map(|name| answer[name].as_str().unwrap_or("").to_owned())
    };
    let clicks =
        ["short", "long", "other"].map(|offer| server.click(&format!("offer={offer}&aff=pub-7")));
    let accepted = |click: &str| ["accepted", "", click].map(str::to_owned);
    for (click, customer) in [(&clicks[0], "K-1"), (&clicks[1], "K-2")] {
        let sale =
            format!("click_id={click}&event=sale&txn_id=A-{customer}&customer_id={customer}");
        assert_eq!(acme(&server, &sale), accepted(click));
    }
    put(&server, &bound(&[other]));
    std::thread::sleep(std::time::Duration::from_millis(1100));
    server.kill();
    server.start_again();
    let click = &*clicks[2];
    for (customer, offer) in [("K-1", "other"), ("K-2", "long")] {
        let sale =
            format!("click_id={click}&event=sale&txn_id=B-{customer}&customer_id={customer}");
        assert_eq!(acme(&server, &sale), accepted(click));
        let shown = server.api(&format!("customers/acme/{customer}"));
        assert_eq!((&shown["offer"], shown["until"].is_string()), (&json!(offer), true), "{shown}");
    }
    for event in ["sale&txn_id=C", "refund&reversal_id=R"] {
        let of = |customer: &str| {
            acme(&server, &format!("event={event}-{customer}&customer_id={customer}"))
        };
        assert_eq!(of("K-1"), accepted(click), "{event}");
        assert_eq!(of("K-2"), ["refused", "unknown_offer", ""], "{event}");
    }
    let kept = server.conversions("event=sale");
    let states: Vec<_> = kept.iter().map(|it| json!([it["txn_id"], it["status"]])).collect();
    let expected =
        [("A-K-1", true), ("A-K-2", true), ("B-K-1", false), ("B-K-2", true), ("C-K-1", false)];
    let state = |is_left| if is_left { "approved" } else { "reversed" };
    assert_eq!(states, expected.map(|(txn_id, is_left)| json!([txn_id, state(is_left)])));
    crate::inbound::verify_at(&server);
}

#[test]
fn what_is_sent_while_an_offer_is_away_is_its_advertisers_and_has_shown_who_sent_it() {
    let (away, other) = (("away", "1h"), ("other", "1h"));
    let server = start(&bound(&[away, other]));
    let click = server.click("offer=away&aff=pub-7");
    put(&server, &bound(&[other]));
    for (path, token, txn_id, reason) in [
        ("/postback", "t0ken", "T-1", "unknown_offer"),
        ("/postback/acme", "t0ken", "T-2", "unknown_offer"),
        ("/postback", "wrong", "T-3", "bad_token"),
        ("/postback/acme", "wrong", "T-4", "bad_token"),
    ] {
        let query = format!("click_id={click}&event=sale&txn_id={txn_id}&token={token}");
        let answer = server.get(&format!("{path}?{query}")).json();
        assert_eq!(answer["reason"], reason, "{path} {txn_id}");
    }
    log_of(&server, "", 4);
    assert_eq!(log(&server, "advertiser=acme").len(), 4);
    put(&server, &bound(&[away, other]));
    let asked = json!({ "from": ALL_TIME, "advertiser": "acme", "apply": true });
    let judged = server.work("reprocess", &asked);
    assert_eq!((&judged["accepted"], &judged["refused"]), (&json!(2), &json!({})), "{judged}");
    assert_eq!(judged["not_judged"], json!({ "not_authenticated": 2 }), "{judged}");
    let kept = server.conversions("event=sale");
    assert_eq!(kept.iter().map(|it| &it["txn_id"]).collect::<Vec<_>>(), ["T-1", "T-2"]);
}
