//! Everything known by an ID: what was posted for it, and what was refused in its name.

use serde_json::{Value, json};

use crate::harness::{Answer, Server, eventually, let_the_clock_move_on};
use crate::inbound::log;
use crate::rates::{TODAY, put, today};

fn entries(trace: &Value) -> Vec<Value> {
    trace["entries"].as_array().expect("entries").clone()
}

#[test]
fn a_trace_shows_what_each_step_has_posted_when_and_in_which_currencies() {
    let server = Server::start();
    assert_eq!(put(&server, &today(), TODAY).status, 200);
    let click = server.click("id=sp7");
    let query = format!("click_id={click}&event=registration&txn_id=R-1&customer_id=K-1");
    let made = server.postback(&query);
    assert_eq!(made.word("status"), "pending");
    for status in ["approved", "reversed"] {
        let_the_clock_move_on();
        let answer = server.postback(&format!("{query}&status={status}"));
        assert_eq!(answer.verdict(), (200, "updated", ""));
    }
    let conversion = server.api(&format!("conversions/{}", made.word("conversion_id")));
    let ledger = server.api("ledger?affiliate=pub-7")["items"].clone();
    let first = json!({
        "day": today(),
        "conversion_id": made.word("conversion_id"),
        "step": 1,
        "currency": "EUR",
        "entries": {
            "advertiser_receivable": "0.00",
            "affiliate_payable": "-2.50",
            "network_margin": "2.50",
        },
        "converted": [{
            "base": "USD",
            "postings": 1,
            "own": {
                "advertiser_receivable": "0.00",
                "affiliate_payable": "-2.50",
                "network_margin": "2.50",
            },
            "worth": {
                "advertiser_receivable": "0.00",
                "affiliate_payable": "-3.125",
                "network_margin": "3.125",
            },
        }],
    });
    for id in [&*click, made.word("conversion_id"), "R-1", "K-1"] {
        let all = entries(&server.api(&format!("trace/{id}")));
        let posted: Vec<_> = all.iter().filter(|entry| entry["kind"] == "posting").collect();
        assert_eq!(posted.len(), 2, "{id}: the step that pays nothing posts nothing");
        assert_eq!(posted[0]["record"], first, "{id}");
        for (place, entry) in posted.iter().enumerate() {
            assert_eq!(entry["record"], ledger[place], "{id}");
            assert_eq!(entry["time"], conversion["history"][place + 1]["time"], "{id}");
        }
        let times: Vec<_> = all.iter().filter_map(|entry| entry["time"].as_str()).collect();
        assert!(times.is_sorted(), "{id}: {times:?}");
    }
}

#[test]
fn what_was_refused_without_a_click_is_found_by_what_it_names() {
    let server = Server::start();
    let refused = |target: &str, reason: &str| {
        let answer = Answer::of(server.get(target));
        assert_eq!(answer.verdict().2, reason, "{target}");
    };
    let ours = "/postback?event=sale";
    refused(&format!("{ours}&txn_id=T-9&customer_id=K-9"), "missing_click_id");
    refused(&format!("{ours}&txn_id=T-7&click_id=TEST_123"), "malformed_click_id");
    // By the names that its advertiser has given them, which are no others' names.
    refused("/postback/mapped?event=sale&order=T-9&customer_id=K-8", "unknown_customer");
    refused("/postback/mapped?event=sale&txn_id=T-6&customer_id=K-6", "unknown_customer");
    refused(&format!("{ours}&order=T-9"), "missing_click_id");
    refused(&format!("{ours}&reversal_id=T-9&click_id=%7Bclick_id%7D"), "unresolved_macro");
    eventually("all of them in the log", || (log(&server, "").len() == 6).then_some(()));
    for (filter, count) in [
        ("txn_id=T-9", 2),
        ("customer_id=K-9", 1),
        ("click_id=TEST_123", 1),
        ("click_id=%7Bclick_id%7D", 1),
        ("txn_id=T-9&customer_id=K-8", 1),
        ("txn_id=T-9&customer_id=K-8&reason=missing_click_id", 0),
        ("txn_id=T-6", 0),
        ("txn_id=T-", 0),
        ("customer_id=", 0),
    ] {
        assert_eq!(log(&server, filter).len(), count, "{filter}");
    }
    for (id, reasons) in [
        ("T-9", &["missing_click_id", "unknown_customer", "unresolved_macro"][..]),
        ("K-8", &["unknown_customer"][..]),
        ("TEST_123", &["malformed_click_id"][..]),
    ] {
        let all = entries(&server.api(&format!("trace/{id}")));
        assert!(all.iter().all(|entry| entry["kind"] == "postback"), "{all:?}");
        let shown: Vec<_> = all.iter().filter_map(|it| it["record"]["reason"].as_str()).collect();
        assert_eq!(shown, reasons, "{id}");
    }
    let nothing = server.admin("/api/v1/trace/T-8");
    let message = nothing.json()["error"]["message"].to_string();
    assert!(nothing.status == 404 && message.contains("/api/v1/inbound"), "{message}");

    let command = |arguments: &[&str]| {
        let ended = server.command(arguments);
        assert_eq!((ended.code, &*ended.err), (Some(0), ""), "{arguments:?}: {}", ended.out);
        ended.out
    };
    assert_eq!(command(&["inbound", "--txn-id", "T-9"]).lines().count(), 2);
    assert_eq!(command(&["inbound", "--txn-id", "T-9", "--customer-id", "K-8"]).lines().count(), 1);
    assert_eq!(command(&["inbound", "--click-id", "TEST_123"]).lines().count(), 1);
    assert!(command(&["trace", "K-9"]).contains("missing_click_id"));
}
