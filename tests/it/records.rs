//! Finding conversions again: their records, the listing, the trace, and who may ask.

use serde_json::json;

use crate::harness::{Connection, Server};
use crate::postbacks::now_s;

#[test]
fn a_conversions_record_says_what_was_sent_and_what_was_made_of_it() {
    let server = Server::start();
    let click = server.click("offer=spring&aff=pub-8");
    let happened = (now_s() - 5) * 1000 + 250;
    let query = format!(
        "click_id={click}&event=registration&txn_id=%C3%BC-1&customer_id=c9&amount=12.5\
         &currency=JPY&quantity=3&timestamp={happened}&sub3=three&own=x+y&token=secret&sig=abc"
    );
    let answer = server.postback(&query);
    let id = answer.word("conversion_id");
    let mut kept = server.api(&format!("conversions/{id}"));
    let received = kept["received_time"].take();
    let version = kept["catalog_version"].take();
    assert_eq!(version, server.catalog_version());
    assert!(received.as_str().is_some_and(|time| time.ends_with('Z') && time.len() == 24));
    let event_time = kept["event_time"].take();
    let parsed: jiff::Timestamp = event_time.as_str().expect("a time").parse().expect("RFC 3339");
    assert_eq!(parsed.as_millisecond() as u64, happened);
    let expected = json!({
        "conversion_id": id, "click_id": click, "advertiser": "acme", "offer": "spring",
        "affiliate": "pub-8", "event": "registration", "txn_id": "ü-1", "customer_id": "c9",
        "status": "pending", "amount": "12.5", "amount_currency": "JPY",
        "reversed_amount": null,
        "revenue": "0.00", "payout": "2.50", "currency": "EUR", "quantity": 3,
        "amount_rate": null, "base": null, "flags": ["base_rate_missing"],
        "event_time": null, "received_time": null, "catalog_version": null,
        "params": {"sub3": "three", "own": "x y"},
        "history": [{
            "status": "pending", "time": received, "event_time": event_time, "reason": "postback",
        }],
    });
    assert_eq!(kept, expected);
}

#[test]
fn the_listing_filters_and_pages_without_losing_or_repeating_any() {
    let server = Server::start();
    let (seven, eight) = (server.click("id=sp7"), server.click("offer=spring&aff=pub-8"));
    for n in 0..7 {
        let (click, event) = if n % 2 == 0 { (&seven, "sale") } else { (&eight, "registration") };
        let query = format!("click_id={click}&event={event}&txn_id=T{n}&customer_id=c{}", n % 3);
        assert_eq!(server.postback(&query).word("result"), "accepted");
    }
    let check = |filter: &str, expected: &[&str]| {
        let found = server.conversions(filter);
        let txns: Vec<_> = found.iter().filter_map(|c| c["txn_id"].as_str()).collect();
        assert_eq!(txns, expected, "{filter}");
    };
    check("", &["T0", "T1", "T2", "T3", "T4", "T5", "T6"]);
    check("affiliate=pub-8", &["T1", "T3", "T5"]);
    check("event=sale", &["T0", "T2", "T4", "T6"]);
    check("status=pending", &["T1", "T3", "T5"]);
    check("txn_id=T4", &["T4"]);
    check("customer_id=c1&event=sale", &["T4"]);
    check("offer=single", &[]);
    check("from=2999-01-01T00:00:00Z", &[]);
    check("to=2000-01-01T00:00:00Z", &[]);
    check("from=2000-01-01T00:00:00Z&to=2999-01-01T00:00:00Z&txn_id=T0", &["T0"]);
    let all = server.conversions("");
    let middle = all[3]["received_time"].as_str().expect("a time");
    let after = server.conversions(&format!("from={middle}"));
    let before = server.conversions(&format!("to={middle}"));
    assert_eq!([before, after].concat(), all);
    for limit in 1..=8 {
        let mut paged = Vec::new();
        let mut cursor = String::new();
        loop {
            let page = server.api(&format!("conversions?limit={limit}{cursor}"));
            let items = page["items"].as_array().expect("items");
            assert!(items.len() <= limit);
            paged.extend_from_slice(items);
            match page["next_cursor"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => break,
            }
        }
        assert_eq!(paged, all, "limit {limit}");
    }
}

#[test]
fn a_wrong_question_to_the_listing_is_a_400_with_a_code() {
    let server = Server::start();
    for (query, code) in [
        ("limit=0", "bad_limit"),
        ("limit=1001", "bad_limit"),
        ("limit=x", "bad_parameter"),
        ("cursor=x", "bad_cursor"),
        ("status=fine", "bad_status"),
        ("from=yesterday", "bad_parameter"),
        ("ofer=spring", "bad_parameter"),
    ] {
        let answer = server.admin(&format!("/api/v1/conversions?{query}"));
        assert_eq!(answer.status, 400, "{query}: {answer:?}");
        assert_eq!(answer.json()["error"]["code"], code, "{query}");
    }
    for target in ["clicks/x", "conversions/x", "trace/", "nothing"] {
        let answer = server.admin(&format!("/api/v1/{target}"));
        assert!(matches!(answer.status, 400 | 404), "{target}: {answer:?}");
        assert!(answer.json()["error"]["code"].is_string(), "{target}");
    }
}

#[test]
fn a_trace_finds_everything_by_any_of_its_names() {
    let server = Server::start();
    let click = server.click("id=sp7&sub1=x");
    let sale = server.postback(&format!("click_id={click}&event=sale&txn_id=T-1"));
    let deposit = server.postback(&format!("click_id={click}&event=deposit"));
    let by_click = server.api(&format!("trace/{click}"));
    let lines: Vec<_> = by_click["entries"].as_array().expect("entries").to_vec();
    let mut kinds: Vec<_> = lines.iter().filter_map(|line| line["kind"].as_str()).collect();
    assert_eq!(kinds[0], "click");
    kinds.sort_unstable();
    assert_eq!(kinds, ["click", "conversion", "conversion", "postback", "postback", "posting"]);
    assert_eq!(lines[0]["record"], server.api(&format!("clicks/{click}")));
    let conversions = lines.iter().filter(|line| line["kind"] == "conversion");
    for (line, answer) in conversions.zip([&sale, &deposit]) {
        let id = answer.word("conversion_id");
        assert_eq!(line["record"], server.api(&format!("conversions/{id}")));
        assert_eq!(server.api(&format!("trace/{id}"))["entries"], by_click["entries"], "{id}");
    }
    let by_txn = server.api("trace/T-1");
    assert_eq!(by_txn["entries"], by_click["entries"]);
}

#[test]
fn the_admin_api_wants_its_token() {
    let server = Server::start();
    for headers in [
        "",
        "Authorization: Bearer wrong\r\n",
        "Authorization: Basic an-admin-token-for-tests\r\n",
        "Authorization: Bearer an-admin-token-for-test\r\n",
    ] {
        for call in [
            "conversions",
            "conversions/x",
            "clicks/x",
            "trace/x",
            "catalog",
            "catalog/versions",
            "totals",
            "rates/2026-01-01",
        ] {
            let mut admin = Connection::open(server.admin);
            let answer = admin.request("GET", &format!("/api/v1/{call}"), headers);
            let answer = answer.expect("an answer");
            assert_eq!(answer.status, 401, "{call} {headers}");
            assert_eq!(answer.header("www-authenticate"), Some("Bearer"));
            assert_eq!(answer.json()["error"]["code"], "unauthorized");
        }
    }
    let health = Connection::open(server.admin).request("GET", "/healthz", "").expect("an answer");
    assert_eq!((health.status, health.text()), (200, "ok\n"));
}
