//! News of known conversions: approved, rejected, taken back, worth another amount.

use serde_json::{Value, json};

use crate::harness::{CATALOG, Connection, Server, Setup};
use crate::once::at_once;

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

[[offers.events]]
id = "refund"
reverses = ["sale"]
"#;

fn setup() -> Setup {
    Setup::new().catalog(format!("{CATALOG}{OFFERS}"))
}

/// Sends postbacks of one click one after the other, each checked for result, reason and status.
fn check_all(server: &Server, click: &str, sent: &[(&str, &str)]) {
    for (query, expected) in sent {
        let answer = server.postback(&format!("click_id={click}&{query}"));
        let (_, result, reason) = answer.verdict();
        let got =
            format!("{result} {}", if reason.is_empty() { answer.word("status") } else { reason });
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
    let after_it = format!("event=trial&status=approved&txn_id=T&timestamp={}", sent + 5000);
    let in_window = format!("event=trial&status=pending&timestamp={}", sent - 1000);
    check_all(
        &server,
        &click,
        &[
            (&after_it, "refused click_expired"),
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
fn what_came_late_is_told_so_and_the_history_says_when_each_step_happened() {
    let server = setup().start();
    let click = server.click("offer=deals&aff=pub-7");
    let now = jiff::Timestamp::now().as_second();
    let time = |ago: i64| {
        let time = jiff::Timestamp::from_second(now - ago).expect("a time");
        format!("{time:.3}")
    };
    let hint = |query: &str| {
        let answer = server.postback(&format!("click_id={click}&{query}"));
        (answer.word("result").to_owned(), answer.word("hint").to_owned())
    };
    let of = |id: &str, status: &str, ago: i64| {
        format!("event=lead{id}&status={status}&timestamp={}", now - ago)
    };
    let late = format!(
        "older than what is known ({}), so it changes nothing: if it is newer, send when that happened, or no time",
        time(10)
    );
    let is = |result: &str, hint: &str| (result.to_owned(), hint.to_owned());
    assert_eq!(hint(&of("&txn_id=T", "pending", 30)), is("accepted", ""));
    assert_eq!(hint(&of("&txn_id=T", "approved", 10)), is("updated", ""));
    for dry in ["", "&dry_run=1"] {
        let sent = of("&txn_id=T", "rejected", 20);
        assert_eq!(hint(&format!("{sent}{dry}")), is("duplicate", &late));
    }
    assert_eq!(
        hint(&of("&txn_id=T", "pending", 5)),
        is("duplicate", ""),
        "it is no news, not late"
    );
    assert_eq!(hint("event=lead&txn_id=T&status=reversed"), is("updated", ""));
    let steps = only(&server, "txn_id=T")["history"].clone();
    let times: Vec<_> =
        steps.as_array().expect("steps").iter().map(|it| &it["event_time"]).collect();
    assert_eq!(times, [&json!(time(30)), &json!(time(10)), &Value::Null]);
    let file = format!(
        "advertiser,event,txn_id,status,event_time\nacme,lead,T,approved,{}\nacme,lead,T,reversed,\n",
        time(20)
    );
    let told = server.post_api("conversions/status", "text/csv", &file);
    let told: Vec<Value> =
        told.text().lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!((&told[0]["result"], &told[0]["hint"]), (&json!("duplicate"), &json!(late)));
    assert_eq!((&told[1]["result"], &told[1]["hint"]), (&json!("duplicate"), &Value::Null));
    // Nobody knows whether it is the same one or another.
    hint(&of("", "pending", 30));
    hint(&of("", "approved", 10));
    let (result, said) = hint(&format!("{}&amount=1", of("", "rejected", 20)));
    assert!(result == "duplicate" && said.starts_with(&late), "{said}");
    assert!(said[late.len()..].starts_with("; taken for the first one sent again"), "{said}");
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

/// Money and status of the only conversion of a filter.
fn money(server: &Server, filter: &str) -> Value {
    let kept = only(server, filter);
    json!([
        kept["status"],
        kept["amount"],
        kept["reversed_amount"],
        kept["revenue"],
        kept["payout"]
    ])
}

#[test]
fn a_negative_event_takes_a_conversion_back_in_parts_and_then_whole() {
    let server = setup().start();
    let click = server.click("offer=deals&aff=pub-7");
    check_all(
        &server,
        &click,
        &[
            ("event=refund&txn_id=T&amount=25", "refused unknown_conversion"),
            ("event=sale&txn_id=T&amount=100", "accepted approved"),
            ("event=refund&txn_id=T&amount=25&dry_run=1", "accepted approved"),
            ("event=refund&txn_id=T&amount=25&reversal_id=R1", "accepted approved"),
            ("event=refund&txn_id=T&amount=25&reversal_id=R1", "duplicate approved"),
            // Whatever its sender calls what has happened.
            (
                "event=refund&txn_id=T&amount=25&reversal_id=R1&status=chargeback",
                "duplicate approved",
            ),
        ],
    );
    let expected = json!(["approved", "100.00", "25.00", "15.00", "7.50"]);
    assert_eq!(money(&server, "event=sale"), expected);
    assert_eq!(server.api("totals?status=approved")["payout"], "7.50");
    check_all(
        &server,
        &click,
        &[
            ("event=sale&txn_id=T&amount=90&status=approved", "refused illegal_transition"),
            ("event=sale&txn_id=T&amount=100&status=approved", "duplicate approved"),
            ("event=sale&txn_id=T&amount=75&status=approved", "duplicate approved"),
            ("event=refund&txn_id=T&reversal_id=R2", "accepted approved"),
            ("event=refund&txn_id=T&reversal_id=R3", "refused illegal_transition"),
            ("event=sale&txn_id=T", "duplicate reversed"),
        ],
    );
    let sale = only(&server, "event=sale");
    assert_eq!(history(&sale), ["approved postback", "approved refund", "reversed refund"]);
    let refund = only(&server, "event=refund&txn_id=R1");
    assert_eq!(refund["params"]["reverses"], sale["conversion_id"]);
    assert_eq!((&refund["payout"], &refund["revenue"]), (&json!("0.00"), &json!("0.00")));
}

#[test]
fn a_negative_event_without_a_transaction_means_the_clicks_latest_conversion() {
    let mut server = setup().start();
    let click = server.click("offer=single&aff=pub-7");
    let deals = server.click("offer=deals&aff=pub-7");
    check_all(
        &server,
        &deals,
        &[
            ("event=sale&txn_id=A&amount=10", "accepted approved"),
            ("event=sale&txn_id=B&amount=10", "accepted approved"),
            ("event=lead&txn_id=C", "accepted pending"),
            ("event=refund", "accepted approved"),
            ("event=refund", "duplicate approved"),
            ("event=sale&txn_id=B", "duplicate reversed"),
            ("event=sale&txn_id=A", "duplicate approved"),
        ],
    );
    check_all(&server, &click, &[("event=refund", "refused unknown_event")]);
    server.kill();
    server.start_again();
    check_all(
        &server,
        &deals,
        &[("event=refund", "duplicate approved"), ("event=sale&txn_id=B", "duplicate reversed")],
    );
}

#[test]
fn a_refund_that_is_taken_for_the_one_before_is_told_what_would_tell() {
    let server = setup().start();
    let click = server.click("offer=deals&aff=pub-7");
    server.postback(&format!("click_id={click}&event=sale&txn_id=T&amount=100"));
    for (refund, result, hint) in [
        ("txn_id=T&amount=25", "accepted", false),
        ("txn_id=T&amount=30", "duplicate", true),
        ("txn_id=T", "duplicate", true),
        ("txn_id=T&amount=30&reversal_id=R", "accepted", false),
        ("txn_id=T&amount=30&reversal_id=R", "duplicate", false),
    ] {
        let answer = server.postback(&format!("click_id={click}&event=refund&{refund}"));
        let has_hint = answer.word("hint").contains("a reversal_id");
        assert_eq!((answer.word("result"), has_hint), (result, hint), "{refund}: {answer:?}");
    }
}

#[test]
fn two_refunds_at_the_same_moment_take_back_what_both_say() {
    let server = setup().start();
    let click = server.click("offer=deals&aff=pub-7");
    check_all(&server, &click, &[("event=sale&txn_id=T&amount=100", "accepted approved")]);
    let send = |n: usize| {
        let query = format!("click_id={click}&event=refund&txn_id=T&amount=5&reversal_id=R{n}");
        server.postback(&query).word("result").to_owned()
    };
    let send = &send;
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8).map(|n| scope.spawn(move || send(n))).collect();
        for thread in threads {
            assert_eq!(thread.join().expect("an answer"), "accepted");
        }
    });
    let expected = json!(["approved", "100.00", "40.00", "12.00", "6.00"]);
    assert_eq!(money(&server, "event=sale"), expected);
}

#[test]
fn as_many_refunds_at_the_same_moment_as_there_are_sales_take_back_one_each() {
    const SALES: usize = 8;
    let server = setup().start();
    for round in 0..8 {
        let click = server.click("offer=deals&aff=pub-7");
        for n in 0..SALES {
            let sale = format!("event=sale&txn_id=T{round}-{n}&amount=100");
            check_all(&server, &click, &[(&sale, "accepted approved")]);
        }
        let refund =
            |n: usize| format!("/postback?click_id={click}&event=refund&reversal_id=R{round}-{n}");
        let answers = at_once(&server, &(0..SALES).map(refund).collect::<Vec<_>>());
        let accepted = answers.iter().filter(|answer| answer.word("result") == "accepted").count();
        assert_eq!(accepted, SALES, "{answers:?}");
        let reversed = server.conversions("event=sale&status=reversed");
        assert_eq!(reversed.len(), SALES * (round + 1));
        let late = server.postback(&format!("click_id={click}&event=refund&reversal_id=R{round}"));
        assert_eq!(late.verdict(), (409, "refused", "illegal_transition"));
    }
}

/// Uploads a file; the result, or the reason, and the status of each line.
fn upload(server: &Server, kind: &str, text: &str) -> Vec<String> {
    let headers = format!(
        "Authorization: Bearer an-admin-token-for-tests\r\nContent-Type: {kind}\r\n\
         Connection: close\r\n"
    );
    let mut admin = Connection::open(server.admin);
    let target = "/api/v1/conversions/status";
    let answer = admin.send_body("POST", target, &headers, text.as_bytes()).expect("an answer");
    assert_eq!(answer.status, 200, "{answer:?}");
    let told = |line: &str| {
        let said: Value = serde_json::from_str(line).expect("JSON");
        let word = |name: &str| said[name].as_str().unwrap_or_default().to_owned();
        let what = if word("reason").is_empty() { word("status") } else { word("reason") };
        format!("{} {} {what}", said["line"], word("result"))
    };
    answer.text().lines().map(told).collect()
}

#[test]
fn a_file_of_statuses_changes_conversions_once_however_often_it_is_sent() {
    let server = setup().start();
    let click = server.click("offer=deals&aff=pub-7");
    check_all(
        &server,
        &click,
        &[
            ("event=lead&txn_id=A&status=approved", "accepted pending"),
            ("event=lead&txn_id=B", "accepted pending"),
            ("event=sale&txn_id=C&amount=100", "accepted approved"),
        ],
    );
    let id = only(&server, "txn_id=B")["conversion_id"].as_str().expect("an ID").to_owned();
    let file = format!(
        "advertiser,event,txn_id,conversion_id,status,amount\n\
         acme,lead,A,,approved,\n,,,{id},rejected,\nacme,sale,C,,approved,50\n\
         acme,sale,D,,approved,\nacme,sale,C,,rejected,\nacme,sale,,,approved,\n\
         acme,lead,A,,reversed,\nacme,sale,C,,whatever,\n"
    );
    let expected = [
        "2 updated approved",
        "3 updated rejected",
        "4 updated approved",
        "5 refused unknown_conversion",
        "6 refused illegal_transition",
        "7 refused bad_line",
        "8 updated reversed",
        "9 refused bad_status",
    ];
    assert_eq!(upload(&server, "text/csv", &file), expected);
    let kept = server.conversions("");
    let again = upload(&server, "text/csv", &file);
    assert_eq!(again[1..3], ["3 duplicate rejected", "4 duplicate approved"]);
    assert_eq!((&*again[0], &*again[6]), ("2 refused illegal_transition", "8 duplicate reversed"));
    assert_eq!(server.conversions(""), kept, "the same file again changes nothing");
    assert_eq!(history(&only(&server, "txn_id=A"))[1..], ["approved upload", "reversed upload"]);
    assert_eq!(money(&server, "txn_id=C")[4], "5.00");
}

#[test]
fn numbers_of_a_file_of_statuses_count_by_their_digits() {
    let server = setup().start();
    let click = server.click("offer=deals&aff=pub-7");
    check_all(&server, &click, &[("event=sale&txn_id=12&amount=1", "accepted approved")]);
    let line = |amount: &str| {
        let of = "\"advertiser\":\"acme\",\"event\":\"sale\",\"txn_id\":12";
        format!("{{{of},\"status\":\"approved\",\"amount\":{amount}}}\n")
    };
    let file = ["8123456789012.123456", "1e3", "[1]"].map(line).concat();
    let expected = ["1 updated approved", "2 refused bad_amount", "3 refused bad_line"];
    assert_eq!(upload(&server, "application/x-ndjson", &file), expected);
    assert_eq!(only(&server, "txn_id=12")["amount"], "8123456789012.123456");
}

#[test]
fn a_line_that_names_no_conversion_is_told_what_of_its_name_is_not_known() {
    let server = setup().start();
    let file = "advertiser,event,txn_id,status\nacme,sale,A,approved\nacme,purchase,A,approved\n\
                amce,sale,A,approved\nacme,slae,A,approved\n";
    let expected = [
        "2 refused unknown_conversion",
        "3 refused unknown_conversion",
        "4 refused unknown_advertiser",
        "5 refused unknown_event",
    ];
    assert_eq!(upload(&server, "text/csv", file), expected);
}

#[test]
fn a_file_may_call_an_event_as_its_advertiser_does() {
    let server = setup().start();
    let click = server.click("id=sp7");
    check_all(&server, &click, &[("event=purchase&txn_id=A", "accepted approved")]);
    let file = "advertiser,event,txn_id,status\nacme,purchase,A,undone\nacme,sale,A,undone\n";
    assert_eq!(upload(&server, "text/csv", file), ["2 updated reversed", "3 duplicate reversed"]);
    // An advertiser may call another event as we call this one.
    let catalog = CATALOG.replace("purchase = \"sale\"", "purchase = \"sale\", sale = \"lead\"");
    assert_ne!(catalog, CATALOG);
    let server = Setup::new().catalog(format!("{catalog}{OFFERS}")).start();
    let click = server.click("offer=deals&aff=pub-7");
    let sold = ("event=purchase&txn_id=B", "accepted approved");
    let led = ("event=sale&txn_id=B&status=pending", "accepted pending");
    check_all(&server, &click, &[sold, led]);
    let file = "advertiser,event,txn_id,status\nacme,sale,B,reversed\nacme,lead,B,rejected\n";
    assert_eq!(upload(&server, "text/csv", file), ["2 updated reversed", "3 updated rejected"]);
}

#[test]
fn a_file_of_statuses_goes_on_without_amounts_when_offer_or_event_have_left_the_catalog() {
    let server = Setup::new().without_catalog_file().start();
    let put = |text: &str| {
        let answer = server.put_catalog("", "application/toml", "If-Match: *\r\n", text);
        assert_eq!(answer.status, 200, "{answer:?}");
    };
    let whole = format!("{CATALOG}{OFFERS}");
    put(&whole);
    let click = server.click("offer=deals&aff=pub-7");
    let pending = |txn_id: &str| format!("event=sale&txn_id={txn_id}&status=pending&amount=100");
    let sent = ["A", "B"].map(pending);
    check_all(&server, &click, &sent.each_ref().map(|it| (&**it, "accepted pending")));
    let file = |txn_id: &str| {
        format!(
            "advertiser,event,txn_id,status,amount\nacme,sale,{txn_id},approved,500\n\
             acme,sale,{txn_id},approved,\nacme,sale,{txn_id},reversed,\n"
        )
    };
    let upload = |txn_id: &str| upload(&server, "text/csv", &file(txn_id));
    let went_on = ["3 updated approved", "4 updated reversed"];
    put(&format!("{CATALOG}{}", OFFERS.replace("\"sale\"", "\"sold\"")));
    let told = upload("A");
    assert_eq!((&*told[0], &told[1..]), ("2 refused unknown_event", &went_on.map(Into::into)[..]));
    put(CATALOG);
    let told = upload("B");
    assert_eq!((&*told[0], &told[1..]), ("2 refused unknown_offer", &went_on.map(Into::into)[..]));
}

#[test]
fn the_command_line_sends_a_file_of_statuses() {
    let server = setup().start();
    let click = server.click("offer=deals&aff=pub-7");
    check_all(&server, &click, &[("event=lead&txn_id=A", "accepted pending")]);
    let line = |txn_id: &str| {
        format!(
            "{{\"advertiser\":\"acme\",\"event\":\"lead\",\"txn_id\":\"{txn_id}\",\
             \"status\":\"approved\"}}\n"
        )
    };
    server.write("good.ndjson", &line("A"));
    server.write("bad.ndjson", &line("B"));
    let run = |file: &str| {
        let ended = server.command(&["conversions", "status", file]);
        (ended.code, ended.out)
    };
    let (code, out) = run("good.ndjson");
    assert!(code == Some(0) && out.contains("\"result\":\"updated\""), "{code:?} {out}");
    let (code, out) = run("good.ndjson");
    assert!(code == Some(0) && out.contains("\"result\":\"duplicate\""), "{code:?} {out}");
    let (code, out) = run("bad.ndjson");
    assert!(code == Some(1) && out.contains("unknown_conversion"), "{code:?} {out}");
    for (name, text) in [("empty.csv", ""), ("header.csv", "conversion_id,status\n")] {
        server.write(name, text);
        let (code, out) = run(name);
        assert_eq!((code, &*out), (Some(1), ""), "a failed export is no success");
    }
}
