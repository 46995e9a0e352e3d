//! News of known conversions: approved, rejected, taken back, worth another amount.

use serde_json::{Value, json};

use crate::harness::{CATALOG, Server, Setup};

const OFFERS: &str = r#"
[[offers]]
id = "deals"
advertiser = "acme"
url = "https://deals.example/?subid={click_id}"

[[offers.events]]
id = "sale"
payout = { percent = "10" }
revenue = { percent = "20" }

[[offers.events]]
id = "lead"
initial_status = "pending"
reapprove = true
payout = { fixed = "3" }
revenue = { fixed = "5" }

[[offers.events]]
id = "trial"
window = "1ms"
"#;

fn setup() -> Setup {
    Setup::new().catalog(format!("{CATALOG}{OFFERS}"))
}

/// Sends postbacks of one click one after the other, each checked for result, reason and status.
fn check_all(server: &Server, click: &str, sent: &[(&str, &str)]) {
    for (query, expected) in sent {
        let answer = server.postback(&format!("click_id={click}&{query}"));
        let (_, result, reason) = answer.verdict();
        let got = format!("{result} {}", if reason.is_empty() { answer.word("status") } else { reason });
        assert_eq!(got, *expected, "{query}: {answer:?}");
    }
}

/// Status and reason of each step.
fn history(conversion: &Value) -> Vec<String> {
    let step = |step: &Value| {
        let word = |name: &str| step[name].as_str().unwrap_or_default().to_owned();
        format!("{} {}", word("status"), word("reason"))
    };
    conversion["history"].as_array().expect("a history").iter().map(step).collect()
}

fn only(server: &Server, filter: &str) -> Value {
    let kept = server.conversions(filter);
    assert_eq!(kept.len(), 1, "{kept:?}");
    kept.into_iter().next().expect("one")
}

#[test]
fn a_conversion_goes_along_the_status_machine_and_its_history_tells() {
    let server = setup().start();
    let click = server.click("offer=deals&aff=pub-7");
    check_all(
        &server,
        &click,
        &[
            ("event=sale&txn_id=T&amount=100&status=pending", "accepted pending"),
            ("event=sale&txn_id=T&status=pending", "duplicate pending"),
            ("event=sale&txn_id=T&status=reversed", "refused illegal_transition"),
            ("event=sale&txn_id=T&status=approved", "updated approved"),
            ("event=sale&txn_id=T&status=approved", "duplicate approved"),
            ("event=sale&txn_id=T&status=pending", "duplicate approved"),
            ("event=sale&txn_id=T", "duplicate approved"),
            ("event=sale&txn_id=T&status=rejected", "refused illegal_transition"),
            ("event=sale&txn_id=T&status=reversed", "updated reversed"),
            ("event=sale&txn_id=T&status=approved", "refused illegal_transition"),
            ("event=sale&txn_id=T", "duplicate reversed"),
        ],
    );
    let kept = only(&server, "");
    let steps = ["pending postback", "approved postback", "reversed postback"];
    assert_eq!(history(&kept), steps);
    assert_eq!(server.metric("postbackd_postbacks_total{result=\"updated\"}"), 2.0);
}

#[test]
fn an_illegal_change_is_a_conflict_whose_hint_names_the_status() {
    let server = setup().start();
    let click = server.click("offer=deals&aff=pub-7");
    server.postback(&format!("click_id={click}&event=sale&txn_id=T"));
    let answer = server.postback(&format!("click_id={click}&event=sale&txn_id=T&status=rejected"));
    assert_eq!(answer.verdict(), (409, "refused", "illegal_transition"));
    assert!(answer.word("hint").contains("is approved"), "{answer:?}");
}

#[test]
fn an_approval_that_the_offer_holds_back_is_not_given_by_a_retry() {
    let server = setup().start();
    let click = server.click("offer=deals&aff=pub-7");
    check_all(
        &server,
        &click,
        &[
            ("event=lead&txn_id=A&status=approved", "accepted pending"),
            ("event=lead&txn_id=A&status=approved", "duplicate pending"),
            ("event=lead&txn_id=B&status=pending", "accepted pending"),
            ("event=lead&txn_id=B&status=rejected", "updated rejected"),
            ("event=lead&txn_id=B&status=approved", "updated approved"),
            ("event=lead&txn_id=C", "accepted pending"),
            ("event=lead&txn_id=C&status=approved", "updated approved"),
        ],
    );
    assert_eq!(history(&only(&server, "txn_id=A")), ["pending held"]);
}

#[test]
fn another_amount_is_priced_anew() {
    let server = setup().start();
    let click = server.click("offer=deals&aff=pub-7");
    check_all(
        &server,
        &click,
        &[
            ("event=sale&txn_id=T&amount=100", "accepted approved"),
            ("event=sale&txn_id=T&amount=50", "duplicate approved"),
            ("event=sale&txn_id=T&amount=50&status=approved", "updated approved"),
            ("event=sale&txn_id=T&amount=50&status=approved", "duplicate approved"),
            ("event=sale&txn_id=T&amount=70&status=pending", "duplicate approved"),
        ],
    );
    let kept = only(&server, "");
    let money = json!([kept["amount"], kept["payout"], kept["revenue"]]);
    assert_eq!(money, json!(["50.00", "5.00", "10.00"]));
    assert_eq!(kept["history"].as_array().map(Vec::len), Some(2));
}

#[test]
fn news_comes_after_the_window_and_without_a_transaction_too() {
    let server = setup().start();
    let click = server.click("offer=deals&aff=pub-7");
    let sent = jiff::Timestamp::now().as_millisecond();
    let in_window = format!("event=trial&status=pending&timestamp={}", sent - 1000);
    check_all(
        &server,
        &click,
        &[
            ("event=trial&status=approved&txn_id=unknown", "refused click_expired"),
            (&in_window, "accepted pending"),
            ("event=trial&status=approved", "updated approved"),
            ("event=trial", "duplicate approved"),
        ],
    );
}

#[test]
fn what_happened_earlier_but_comes_later_changes_nothing() {
    let server = setup().start();
    let click = server.click("offer=deals&aff=pub-7");
    let now = jiff::Timestamp::now().as_second();
    let at = |status: &str, ago: i64| {
        format!("event=lead&txn_id=T&status={status}&timestamp={}", now - ago)
    };
    check_all(
        &server,
        &click,
        &[
            (&at("pending", 30), "accepted pending"),
            (&at("approved", 10), "updated approved"),
            (&at("rejected", 20), "duplicate approved"),
            (&at("reversed", 5), "updated reversed"),
        ],
    );
}

#[test]
fn another_conversion_of_a_click_that_converts_once_is_not_changed() {
    let server = setup().start();
    let click = server.click("offer=single&aff=pub-7");
    check_all(
        &server,
        &click,
        &[
            ("event=sale&txn_id=A&status=pending", "accepted pending"),
            ("event=sale&txn_id=B&status=approved", "duplicate pending"),
            ("event=sale&txn_id=A&status=approved", "updated approved"),
            ("event=sale&txn_id=B", "duplicate approved"),
        ],
    );
}

#[test]
fn a_dry_run_says_what_would_change_and_changes_nothing() {
    let server = setup().start();
    let click = server.click("offer=deals&aff=pub-7");
    check_all(
        &server,
        &click,
        &[
            ("event=sale&txn_id=T&status=reversed&dry_run=1", "refused bad_status"),
            ("event=sale&txn_id=T&status=pending", "accepted pending"),
            ("event=sale&txn_id=T&status=approved&dry_run=1", "updated approved"),
            ("event=sale&txn_id=T&status=reversed&dry_run=1", "refused illegal_transition"),
            ("event=sale&txn_id=T", "duplicate pending"),
        ],
    );
}

#[test]
fn a_change_outlives_a_kill_and_the_restarted_memory_knows_it() {
    let mut server = setup().start();
    let click = server.click("offer=deals&aff=pub-7");
    check_all(
        &server,
        &click,
        &[
            ("event=sale&txn_id=T&amount=9&status=pending", "accepted pending"),
            ("event=sale&txn_id=T&status=approved", "updated approved"),
        ],
    );
    server.kill();
    server.start_again();
    check_all(&server, &click, &[("event=sale&txn_id=T", "duplicate approved")]);
    assert_eq!(history(&only(&server, "")), ["pending postback", "approved postback"]);
}

#[test]
fn the_same_news_at_the_same_moment_is_one_step() {
    const AT_ONCE: usize = 32;
    let server = setup().start();
    let click = server.click("offer=deals&aff=pub-7");
    check_all(&server, &click, &[("event=sale&txn_id=T&status=pending", "accepted pending")]);
    let send = || {
        let query = format!("click_id={click}&event=sale&txn_id=T&status=approved");
        server.postback(&query).word("result").to_owned()
    };
    let results: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..AT_ONCE).map(|_| scope.spawn(send)).collect();
        threads.into_iter().map(|thread| thread.join().expect("an answer")).collect()
    });
    let count = |word: &str| results.iter().filter(|result| *result == word).count();
    assert_eq!((count("updated"), count("duplicate")), (1, AT_ONCE - 1), "{results:?}");
    assert_eq!(history(&only(&server, "")), ["pending postback", "approved postback"]);
}
