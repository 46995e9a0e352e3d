//! Fraud rules: what they flag, what they reject, what is counted over restarts, and the report.

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use postbackd::limits::BATCH_COMMITS_POSTBACKS_MAX;
use serde_json::{Value, json};

use crate::faults::click_until;
use crate::harness::{Answer, CATALOG, Fault, Server, Setup, eventually, let_the_clock_move_on};
use crate::inbound::{judged, log_of, put_text};
use crate::once::at_once;
use crate::repeats::restarts;

const BROWSER: &str = "User-Agent: Mozilla/5.0 (X11; Linux x86_64) Chrome/140.0 Safari/537.36\r\n";
const PROGRAM: &str = "User-Agent: curl/8.5.0\r\n";

/// An offer with these rules, named after the test's needs.
fn offer(id: &str, rules: &str) -> String {
    format!(
        r#"
[[offers]]
id = "{id}"
advertiser = "acme"
url = "https://{id}.example/?subid={{click_id}}"
fraud = {{ {rules} }}

[[offers.events]]
id = "sale"
reapprove = true
payout = {{ fixed = "2.00", currency = "USD" }}
revenue = {{ fixed = "5.00" }}

[[offers.events]]
id = "lead"
payout = {{ fixed = "0.50", currency = "EUR" }}
revenue = {{ fixed = "0.75" }}

[[offers.events]]
id = "refund"
reverses = ["sale"]
"#
    )
}

fn setup(offers: &[(&str, &str)]) -> Setup {
    let offers: Vec<_> = offers.iter().map(|(id, rules)| offer(id, rules)).collect();
    let trusted = Setup::new().key("server.trusted_proxies", "127.0.0.0/8");
    trusted.catalog(format!("{CATALOG}{}", offers.concat()))
}

fn click(server: &Server, offer: &str, headers: &str) -> String {
    let target = format!("/click?offer={offer}&aff=pub-7&redirect=false");
    let answer = server.request("GET", &target, headers).json();
    answer["click_id"].as_str().unwrap_or_else(|| panic!("no click: {answer}")).to_owned()
}

fn from(ip: &str) -> String {
    format!("{BROWSER}X-Forwarded-For: {ip}\r\n")
}

/// Reports a new conversion; its status, flags and first reason.
fn convert(server: &Server, click: &str, query: &str) -> Value {
    let answer = server.postback(&format!("click_id={click}&{query}"));
    assert_eq!(answer.verdict(), (200, "accepted", ""), "{query}");
    let kept = server.api(&format!("conversions/{}", answer.word("conversion_id")));
    assert_eq!(kept["status"], answer.json["status"], "what was said is what is kept");
    told(&kept)
}

fn told(kept: &Value) -> Value {
    json!([kept["status"], kept["flags"], kept["history"][0]["reason"]])
}

fn now_ms() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    u64::try_from(now.as_millis()).expect("fits")
}

#[test]
fn a_rule_is_off_flags_or_rejects_and_offers_without_rules_are_as_ever() {
    let server = setup(&[
        ("off", "too_fast = { action = \"off\" }"),
        ("flagging", "too_fast = {}, too_slow = { max = \"30m\" }"),
        (
            "rejecting",
            "too_fast = { action = \"reject\" }, too_slow = { action = \"reject\", max = \"30m\" }",
        ),
    ])
    .start();
    let check = |offer: &str, query: &str, expected: Value| {
        let click = click(&server, offer, BROWSER);
        assert_eq!(
            convert(&server, &click, &format!("event=sale&{query}")),
            expected,
            "{offer} {query}"
        );
    };
    let (minute, hour) = (now_ms() + 60_000, now_ms() + 3_600_000);
    let (minute, hour) = (format!("timestamp={minute}"), format!("timestamp={hour}"));
    check("spring", "", json!(["approved", [], "postback"]));
    check("off", "", json!(["approved", [], "postback"]));
    check("off", &hour, json!(["approved", [], "postback"]));
    check("flagging", "", json!(["approved", ["too_fast"], "postback"]));
    check("flagging", &minute, json!(["approved", [], "postback"]));
    check("flagging", &hour, json!(["approved", ["too_slow"], "postback"]));
    check("rejecting", "", json!(["rejected", ["too_fast"], "fraud:too_fast"]));
    check("rejecting", "status=pending", json!(["rejected", ["too_fast"], "fraud:too_fast"]));
    check("rejecting", &minute, json!(["approved", [], "postback"]));
    check("rejecting", &hour, json!(["rejected", ["too_slow"], "fraud:too_slow"]));
    for (series, expected) in [
        ("postbackd_fraud_total{rule=\"too_fast\",action=\"flag\"}", 1.0),
        ("postbackd_fraud_total{rule=\"too_fast\",action=\"reject\"}", 2.0),
        ("postbackd_fraud_total{rule=\"too_slow\",action=\"reject\"}", 1.0),
        ("postbackd_fraud_total{rule=\"click_flood\",action=\"flag\"}", 0.0),
        ("postbackd_conversion_flags_total{flag=\"too_fast\"}", 3.0),
    ] {
        assert_eq!(server.metric(series), expected, "{series}");
    }
}

#[test]
fn clicks_minted_under_a_clock_that_was_ahead_are_not_taken_for_fast_ones() {
    let rules = "too_fast = { action = \"reject\" }";
    let server = setup(&[("rejecting", rules)]).on_faulty_disk().start();
    assert_eq!(server.metric("postbackd_ids_ahead_seconds"), 0.0);
    let sale = || convert(&server, &click(&server, "rejecting", BROWSER), "event=sale");
    let rejected = json!(["rejected", ["too_fast"], "fraud:too_fast"]);
    assert_eq!(sale(), rejected);
    server.disk().shift_clock(2 * 24 * 60 * 60 * 1000);
    assert_eq!(sale(), rejected);
    // Corrected: IDs go on from where they are.
    server.disk().shift_clock(0);
    let ahead = server.metric("postbackd_ids_ahead_seconds");
    assert!((172_700.0..=172_800.0).contains(&ahead), "{ahead}");
    assert_eq!(sale(), json!(["approved", [], "postback"]));
    // What the sender says of the time is not refused for it, and compared with the click's.
    let click = click(&server, "rejecting", BROWSER);
    let query = format!("event=sale&timestamp={}", now_ms());
    assert_eq!(convert(&server, &click, &query), rejected);
}

#[test]
fn a_customers_later_events_are_not_judged_by_their_time() {
    let server = setup(&[("flagging", "too_fast = {}, too_slow = { max = \"30m\" }")]).start();
    let click = click(&server, "flagging", BROWSER);
    let first = convert(&server, &click, "event=sale&txn_id=S0&customer_id=c1");
    assert_eq!(first, json!(["approved", ["too_fast"], "postback"]));
    let in_an_hour = format!("&timestamp={}", now_ms() + 3_600_000);
    for (txn_id, when) in [("S1", ""), ("S2", &*in_an_hour)] {
        let query = format!("customer_id=c1&event=sale&txn_id={txn_id}{when}");
        let answer = Answer::of(server.get(&format!("/postback/acme?{query}")));
        assert_eq!(answer.verdict(), (200, "accepted", ""), "{query}");
        let kept = server.api(&format!("conversions/{}", answer.word("conversion_id")));
        assert_eq!(told(&kept), json!(["approved", ["by_customer"], "postback"]), "{query}");
    }
}

#[test]
fn what_is_rejected_is_kept_counted_once_and_pays_only_when_the_network_says_so() {
    let mut server = setup(&[("rejecting", "too_fast = { action = \"reject\" }")]).start();
    let clicked = click(&server, "rejecting", BROWSER);
    let query = format!("click_id={clicked}&event=sale&txn_id=T&status=approved");
    let dry = server.postback(&format!("{query}&dry_run=1"));
    assert_eq!((dry.word("result"), dry.word("status")), ("accepted", "rejected"));
    assert!(server.conversions("offer=rejecting").is_empty(), "a dry run keeps nothing");
    let targets = vec![format!("/postback?{query}"); 32];
    let answers = at_once(&server, &targets);
    let accepted = answers.iter().filter(|answer| answer.word("result") == "accepted").count();
    assert_eq!(accepted, 1);
    assert!(answers.iter().all(|answer| answer.word("status") == "rejected"));
    let conversion = answers[0].word("conversion_id").to_owned();
    assert!(answers.iter().all(|answer| answer.word("conversion_id") == conversion));
    let owed = |server: &Server| server.api("balances?affiliate=pub-7")["balances"].clone();
    for _ in 0..2 {
        // The advertiser's word, sent again, does not undo it, though the event reapproves.
        let again = server.postback(&query);
        assert_eq!((again.word("result"), again.word("status")), ("duplicate", "rejected"));
        assert_eq!(owed(&server), json!([]));
        server.kill();
        server.start_again();
    }
    let refund = format!("click_id={clicked}&event=refund&txn_id=T&reversal_id=R");
    assert_eq!(server.postback(&refund).verdict(), (409, "refused", "illegal_transition"));
    let upload = format!("conversion_id,status\n{conversion},approved\n");
    let answer = server.post_api("conversions/status", "text/csv", &upload);
    assert_eq!(answer.json()["result"], "updated", "{answer:?}");
    assert_eq!(owed(&server)[0]["owed"], "2.00");
    let again = server.postback(&query);
    assert_eq!((again.word("result"), again.word("status")), ("duplicate", "approved"));
    let report = server.api("fraud?offer=rejecting");
    let worth = json!({"conversions": 1, "revenue": "5.00", "payout": "2.00"});
    assert_eq!(report["rules"][0]["reinstated"], worth);
}

#[test]
fn a_browser_with_letters_beyond_ascii_in_its_headers_is_no_program() {
    let server = setup(&[("rejecting", "bot_user_agent = { action = \"reject\" }")]).start();
    let browser = BROWSER.trim_end();
    for (mark, kept) in [("é".as_bytes(), "é"), (b"\xe9", "\u{fffd}")] {
        let head =
            "GET /click?offer=rejecting&aff=pub-7&redirect=false HTTP/1.1\r\nHost: t.example";
        let page = "Referer: https://page.example/".as_bytes();
        let line = b"\r\n".as_slice();
        let parts = [head.as_bytes(), line, browser.as_bytes(), mark, line, page, mark, line, line];
        let mut connection = server.connect();
        connection.send(parts.concat()).expect("sent");
        let click = connection.receive("GET").expect("an answer").json()["click_id"].clone();
        let click = click.as_str().expect("a click ID");
        let stored = server.api(&format!("clicks/{click}"));
        let agent = browser.strip_prefix("User-Agent: ").expect("a header");
        assert_eq!(stored["user_agent"], format!("{agent}{kept}"));
        assert_eq!(stored["referrer"], format!("https://page.example/{kept}"));
        assert_eq!(stored["flags"], json!([]));
        let converted = convert(&server, click, &format!("event=sale&txn_id={kept}"));
        assert_eq!(converted, json!(["approved", [], "postback"]));
    }
}

#[test]
fn programs_are_known_by_their_user_agent_and_the_click_remembers_it() {
    let mut server = setup(&[
        ("flagging", "bot_user_agent = {}"),
        ("rejecting", "bot_user_agent = { action = \"reject\" }"),
    ])
    .start();
    let clicks = ["flagging", "rejecting"].map(|offer| click(&server, offer, PROGRAM));
    let honest = click(&server, "rejecting", BROWSER);
    let nameless = click(&server, "rejecting", "");
    let kept = server.api(&format!("clicks/{}", clicks[0]));
    assert_eq!(kept["flags"], json!(["bot_user_agent"]));
    assert_eq!(server.metric("postbackd_click_flags_total{rule=\"bot_user_agent\"}"), 3.0);
    let rejected = json!(["rejected", ["bot_user_agent"], "fraud:bot_user_agent"]);
    assert_eq!(convert(&server, &nameless, "event=sale"), rejected);
    server.kill();
    server.start_again();
    let flagged = json!(["approved", ["bot_user_agent"], "postback"]);
    assert_eq!(convert(&server, &clicks[0], "event=sale"), flagged);
    assert_eq!(convert(&server, &clicks[1], "event=sale"), rejected);
    assert_eq!(convert(&server, &honest, "event=sale"), json!(["approved", [], "postback"]));
}

#[test]
fn other_rules_judge_what_comes_and_leave_what_is_known_alone() {
    let catalog = |rules: &str| format!("{CATALOG}{}", offer("changing", rules));
    let mut server = Setup::new()
        .catalog(catalog("too_fast = {}, bot_user_agent = { action = \"reject\" }"))
        .start();
    let program = click(&server, "changing", PROGRAM);
    let clicked = click(&server, "changing", BROWSER);
    let told = convert(&server, &clicked, "event=sale&txn_id=1");
    assert_eq!(told, json!(["approved", ["too_fast"], "postback"]));
    server.kill();
    server.write_catalog(&catalog("too_fast = { action = \"reject\", min = \"1h\" }"));
    server.start_again();
    for news in ["", "&status=approved", "&status=pending"] {
        let again = server.postback(&format!("click_id={clicked}&event=sale&txn_id=1{news}"));
        assert_eq!((again.word("result"), again.word("status")), ("duplicate", "approved"));
    }
    // The click's flag is of a rule that is off now.
    let rejected = json!(["rejected", ["too_fast"], "fraud:too_fast"]);
    assert_eq!(convert(&server, &program, "event=sale&txn_id=2"), rejected);
    server.kill();
    server.write_catalog(&catalog(""));
    server.start_again();
    for news in ["", "&status=approved", "&status=pending"] {
        let again = server.postback(&format!("click_id={program}&event=sale&txn_id=2{news}"));
        assert_eq!((again.word("result"), again.word("status")), ("duplicate", "rejected"));
    }
    let flagless = convert(&server, &program, "event=sale&txn_id=3");
    assert_eq!(flagless, json!(["approved", [], "postback"]));
}

#[test]
fn a_visitor_quicker_than_the_disk_is_judged_all_the_same() {
    let offers = [("rejecting", "bot_user_agent = { action = \"reject\" }")];
    let server = setup(&offers).key("click.ack_deadline", "1ms").start();
    let mut connection = server.connect();
    for n in 0..300 {
        let target = "/click?offer=rejecting&aff=pub-7&redirect=false";
        let clicked = connection.request("GET", target, PROGRAM).expect("an answer").json();
        let clicked = clicked["click_id"].as_str().expect("a click").to_owned();
        let target = format!("/postback?click_id={clicked}&event=sale");
        let answer = connection.request("GET", &target, "").expect("an answer").json();
        assert_eq!(answer["status"], "rejected", "click {n}: {answer}");
    }
}

#[test]
fn clicks_are_counted_by_address_and_network_whatever_is_kept_of_an_address() {
    for (mode, kept) in
        [("full", "203.0.113.9"), ("truncated", "203.0.113.0"), ("hashed", "hash:"), ("none", "")]
    {
        let mut server = setup(&[
            ("one", "repeated_ip = { clicks = 1, period = \"1h\" }"),
            ("flood", "click_flood = { action = \"reject\", clicks = 2, period = \"1h\" }"),
        ])
        .key("click.ip", mode)
        .start();
        let visit = |server: &Server, offer: &str, ip: &str| click(server, offer, &from(ip));
        let (first, second) =
            (visit(&server, "one", "203.0.113.9"), visit(&server, "one", "203.0.113.9"));
        let neighbour = visit(&server, "one", "203.0.113.10");
        let stored = server.api(&format!("clicks/{second}"));
        let ip = stored["ip"].as_str().unwrap_or_default();
        assert!(ip.starts_with(kept) && ip.is_empty() == kept.is_empty(), "{mode}: {stored}");
        let fine = json!(["approved", [], "postback"]);
        assert_eq!(convert(&server, &first, "event=sale"), fine, "{mode}");
        assert_eq!(convert(&server, &neighbour, "event=sale"), fine, "{mode}");
        // What was found is kept with the click, over a restart.
        server.kill();
        server.start_again();
        let repeated = json!(["approved", ["repeated_ip"], "postback"]);
        assert_eq!(convert(&server, &second, "event=sale"), repeated, "{mode}");
        let network: Vec<_> =
            (1..=4).map(|host| visit(&server, "flood", &format!("198.51.100.{host}"))).collect();
        let other = visit(&server, "flood", "198.51.101.1");
        let flood = json!(["rejected", ["click_flood"], "fraud:click_flood"]);
        for (n, clicked) in network.iter().enumerate() {
            let expected = if n < 2 { &fine } else { &flood };
            assert_eq!(convert(&server, clicked, "event=sale"), *expected, "{mode} click {n}");
        }
        assert_eq!(convert(&server, &other, "event=sale"), fine, "{mode}");
    }
}

#[test]
fn an_affiliates_conversion_rate_is_judged_once_it_has_enough_clicks() {
    let rate = "conversion_rate = { action = \"reject\", max = \"20\", clicks = 10, period = \"1h\", events = [\"sale\"] }";
    let mut server = setup(&[("rated", rate)]).start();
    let clicks: Vec<_> = (0..10).map(|_| click(&server, "rated", BROWSER)).collect();
    let fine = json!(["approved", [], "postback"]);
    let off = json!(["rejected", ["conversion_rate"], "fraud:conversion_rate"]);
    assert_eq!(convert(&server, &clicks[0], "event=sale"), fine);
    let lead = convert(&server, &clicks[0], "event=lead");
    assert_eq!(lead, json!(["approved", ["base_rate_missing"], "postback"]), "it is not counted");
    // Neither a duplicate nor a dry run counts.
    for query in ["event=sale", "event=sale&dry_run=1"] {
        assert_eq!(
            server.postback(&format!("click_id={}&{query}", clicks[0])).word("result"),
            "duplicate"
        );
    }
    server.postback(&format!("click_id={}&event=sale&dry_run=1", clicks[9]));
    assert_eq!(convert(&server, &clicks[1], "event=sale"), fine);
    assert_eq!(convert(&server, &clicks[2], "event=sale"), off);
    let other = server.click("offer=rated&aff=pub-8");
    assert_eq!(convert(&server, &other, "event=sale"), fine, "another affiliate");
    // A restart counts anew, and conversions of clicks from before it do not count.
    server.kill();
    server.start_again();
    (0..10).for_each(|_| _ = click(&server, "rated", BROWSER));
    for clicked in &clicks[3..] {
        assert_eq!(convert(&server, clicked, "event=sale"), fine);
    }
}

#[test]
fn what_the_store_does_not_take_counts_for_no_rule_however_often_it_is_sent() {
    let rate =
        "conversion_rate = { action = \"reject\", max = \"20\", clicks = 10, period = \"1h\" }";
    let server =
        setup(&[("rated", rate), ("repeated", "repeated_customer = { period = \"30d\" }")])
            .on_faulty_disk()
            .key("click.ack_deadline", "1ms")
            .start();
    let clicks: Vec<_> = (0..10).map(|_| click(&server, "rated", BROWSER)).collect();
    let customers = [0, 1].map(|_| click(&server, "repeated", BROWSER));
    server.await_own_commits();
    let queued = || server.metric("postbackd_store_queue_commits{stage=\"append\"}");
    server.disk().break_down(Fault::SyncsHang, None);
    click_until(&server, || queued() >= BATCH_COMMITS_POSTBACKS_MAX as f64);
    let sale = format!("click_id={}&event=sale", clicks[0]);
    let of_customer = |n: usize| format!("click_id={}&event=sale&customer_id=c1", customers[n]);
    for _ in 0..200 {
        let refused = server.postback(&sale);
        assert_eq!(refused.verdict(), (503, "unavailable", "overloaded"));
    }
    let refused = server.postback(&of_customer(0));
    assert_eq!(refused.verdict(), (503, "unavailable", "overloaded"));
    server.disk().repair();
    eventually("room", || (queued() == 0.0).then_some(()));
    let fine = json!(["approved", [], "postback"]);
    assert_eq!(convert(&server, &clicks[0], "event=sale"), fine);
    assert_eq!(convert(&server, &customers[1], "event=sale&customer_id=c1"), fine);
    let repeated = json!(["approved", ["repeated_customer"], "postback"]);
    assert_eq!(convert(&server, &customers[0], "event=sale&customer_id=c1"), repeated);
}

#[test]
fn a_customer_who_converts_through_another_click_is_known_after_a_restart_too() {
    let mut server = setup(&[("known", "repeated_customer = { action = \"reject\" }")]).start();
    let fine = json!(["approved", [], "postback"]);
    let again = json!(["rejected", ["repeated_customer"], "fraud:repeated_customer"]);
    let clicks: Vec<_> = (0..4).map(|_| click(&server, "known", BROWSER)).collect();
    assert_eq!(convert(&server, &clicks[0], "event=sale&txn_id=1&customer_id=c1"), fine);
    assert_eq!(convert(&server, &clicks[0], "event=sale&txn_id=2&customer_id=c1"), fine);
    assert_eq!(convert(&server, &clicks[1], "event=sale&txn_id=3&customer_id=c1"), again);
    assert_eq!(convert(&server, &clicks[1], "event=sale&txn_id=4&customer_id=c2"), fine);
    assert_eq!(convert(&server, &clicks[2], "event=sale&txn_id=5"), fine);
    server.kill();
    server.start_again();
    // The last conversions are read back after the start.
    let query = format!("click_id={}&event=sale&txn_id=6&customer_id=c2", clicks[3]);
    eventually("the memory", || {
        let dry = server.postback(&format!("{query}&dry_run=1"));
        (dry.word("status") == "rejected").then_some(())
    });
    assert_eq!(convert(&server, &clicks[3], "event=sale&txn_id=6&customer_id=c2"), again);
}

const DEPOSIT: &str = "[[offers.events]]\nid = \"deposit\"\n\
                       payout = { fixed = \"2.00\" }\nrevenue = { fixed = \"5.00\" }\n";

/// A server whose offer with these rules knows no deposits yet, and the catalog without them.
fn without_deposits(rules: &str) -> (Server, String) {
    let catalog = format!("{CATALOG}{}", offer("mended", rules));
    let server = Setup::new().without_catalog_file().start();
    put_text(&server, &catalog);
    (server, catalog)
}

fn refuse(server: &Server, click: &str, query: &str) {
    let answer = server.postback(&format!("click_id={click}&event=deposit&{query}"));
    assert_eq!(answer.verdict(), (404, "refused", "unknown_event"));
}

#[test]
fn refused_deposits_are_no_rate_of_the_day_on_which_they_are_judged_again() {
    let rate =
        "conversion_rate = { action = \"reject\", max = \"20\", clicks = 10, period = \"1h\" }";
    let (server, catalog) = without_deposits(rate);
    let clicks: Vec<_> = (0..10).map(|_| click(&server, "mended", BROWSER)).collect();
    clicks.iter().for_each(|click| refuse(&server, click, ""));
    log_of(&server, "result=refused", 10);
    put_text(&server, &format!("{catalog}{DEPOSIT}"));
    for apply in [false, true] {
        let judged = judged(&server, apply);
        assert_eq!(judged["accepted"], 10, "{judged}");
        assert_eq!(judged["affiliates"][0]["payout"], "20.00", "{judged}");
    }
    let fine = json!(["approved", [], "postback"]);
    for kept in server.conversions("offer=mended") {
        assert_eq!(told(&kept), fine);
    }
    let convert = |txn_id| convert(&server, &clicks[0], &format!("event=deposit&txn_id={txn_id}"));
    assert_eq!([convert(1), convert(2)], [fine.clone(), fine]);
    assert_eq!(convert(3), json!(["rejected", ["conversion_rate"], "fraud:conversion_rate"]));
}

#[test]
fn a_deposit_that_is_judged_again_repeats_only_what_came_before_it() {
    let (mut server, catalog) = without_deposits("repeated_customer = { action = \"reject\" }");
    let whole = format!("{catalog}{DEPOSIT}");
    let fine = json!(["approved", [], "postback"]);
    let again = json!(["rejected", ["repeated_customer"], "fraud:repeated_customer"]);
    let [old, new, newer] = [0; 3].map(|_| click(&server, "mended", BROWSER));
    let query = |txn_id| format!("event=deposit&txn_id={txn_id}&customer_id=c1");
    let judge = |server: &Server, txn_id| {
        assert_eq!(judged(server, true)["accepted"], 1);
        told(&server.conversions(&format!("txn_id={txn_id}"))[0])
    };
    refuse(&server, &old, "txn_id=1&customer_id=c1");
    log_of(&server, "result=refused", 1);
    put_text(&server, &whole);
    let_the_clock_move_on();
    assert_eq!(convert(&server, &new, &query(2)), fine);
    assert_eq!(judge(&server, 1), fine);
    // The one that was received last is the customer's last one, after a restart, too.
    for is_restarted in [false, true] {
        let dry = |click| server.postback(&format!("click_id={click}&{}&dry_run=1", query(3)));
        let status = [&new, &old].map(|click| dry(click).word("status").to_owned());
        assert_eq!(status, ["approved", "rejected"], "{is_restarted}");
        restarts(&mut server);
    }
    put_text(&server, &catalog);
    refuse(&server, &newer, "txn_id=4&customer_id=c1");
    log_of(&server, "result=refused", 2);
    put_text(&server, &whole);
    assert_eq!(judge(&server, 4), again);
}

#[test]
fn what_a_customer_alone_has_done_is_its_last_conversion_before_and_after_a_restart() {
    let mut server = setup(&[("known", "repeated_customer = { action = \"reject\" }")]).start();
    let [first, second] = [0; 2].map(|_| click(&server, "known", BROWSER));
    let fine = json!(["approved", [], "postback"]);
    assert_eq!(convert(&server, &first, "event=sale&txn_id=1&customer_id=c1"), fine);
    let alone = "/postback/acme?event=lead&txn_id=2&customer_id=c1";
    assert_eq!(Answer::of(server.get(alone)).verdict(), (200, "accepted", ""));
    for is_restarted in [false, true] {
        let query = format!("click_id={second}&event=lead&txn_id=3&customer_id=c1&dry_run=1");
        assert_eq!(server.postback(&query).word("status"), "rejected", "{is_restarted}");
        restarts(&mut server);
    }
}

#[test]
fn what_repeats_a_customer_does_not_become_the_one_to_repeat() {
    let rules = [
        ("rejecting", "repeated_customer = { action = \"reject\" }"),
        ("flagging", "repeated_customer = {}"),
    ];
    let hit = [
        json!(["rejected", ["repeated_customer"], "fraud:repeated_customer"]),
        json!(["approved", ["repeated_customer"], "postback"]),
    ];
    let fine = json!(["approved", [], "postback"]);
    let mut server = setup(&rules).start();
    let clicks = rules.map(|(offer, _)| [0; 2].map(|_| click(&server, offer, BROWSER)));
    let sale = |server: &Server, nth: usize, through: usize, number: u8| {
        let query = format!("event=sale&txn_id={nth}-{number}&customer_id=c{nth}");
        convert(server, &clicks[nth][through], &query)
    };
    for (nth, hit) in hit.iter().enumerate() {
        assert_eq!(sale(&server, nth, 0, 1), fine);
        assert_eq!(sale(&server, nth, 1, 2), *hit);
        assert_eq!(sale(&server, nth, 1, 3), *hit, "sent twice");
    }
    restarts(&mut server);
    for (nth, hit) in hit.iter().enumerate() {
        assert_eq!(sale(&server, nth, 1, 4), *hit, "after a restart");
        assert_eq!(sale(&server, nth, 0, 5), fine);
    }
}

#[test]
fn a_tier_and_a_cap_leave_the_flags_of_rules_alone() {
    let limits = r#"
[[offers.events]]
id = "tiered"
payout = { fixed = "1.00" }
tiers = [{ from = 2, payout = { fixed = "3.00" } }]

[[offers.caps]]
events = ["tiered"]
period = "month"
count = 2
"#;
    let offers = offer("limited", "too_fast = {}, bot_user_agent = { action = \"reject\" }");
    let server = Setup::new().catalog(format!("{CATALOG}{offers}{limits}")).start();
    let convert = |headers, txn_id: u8| {
        let clicked = click(&server, "limited", headers);
        convert(&server, &clicked, &format!("event=tiered&txn_id={txn_id}"))
    };
    assert_eq!(convert(BROWSER, 1), json!(["approved", ["too_fast"], "postback"]));
    // What is rejected takes no place.
    let rejected = json!(["rejected", ["too_fast", "bot_user_agent"], "fraud:bot_user_agent"]);
    assert_eq!(convert(PROGRAM, 2), rejected);
    assert_eq!(convert(BROWSER, 3), json!(["approved", ["too_fast"], "tier:2"]));
    let over = json!(["approved", ["over_cap", "too_fast"], "cap:offer:month:count"]);
    assert_eq!(convert(BROWSER, 4), over);
}

/// Conversions, revenue and payout in cents, by (rule, offer, currency, outcome).
type Recount = BTreeMap<(String, String, String, &'static str), (u64, i64, i64)>;

fn cents(amount: &Value) -> i64 {
    amount.as_str().expect("an amount").replace('.', "").parse().expect("two decimals")
}

/// The rules of the offers whose report is counted again.
const RULES: [&str; 2] = ["too_fast", "bot_user_agent"];

/// What the report must say, from the listing alone.
fn recount(server: &Server, filter: &str) -> Recount {
    let mut sums = Recount::new();
    for kept in server.conversions(filter) {
        let text = |name: &str| kept[name].as_str().expect("a text").to_owned();
        let reason = kept["history"][0]["reason"].as_str().expect("a reason");
        let rejected: Vec<_> =
            reason.strip_prefix("fraud:").into_iter().flat_map(|all| all.split(',')).collect();
        for flag in kept["flags"].as_array().expect("flags") {
            let rule = flag.as_str().expect("a word");
            if !RULES.contains(&rule) {
                continue;
            }
            let outcome = match (rejected.contains(&rule), &*text("status")) {
                (true, "rejected") => "rejected",
                (true, _) => "reinstated",
                (false, "rejected" | "reversed") => "confirmed",
                (false, _) => "would_reject",
            };
            let key = (rule.to_owned(), text("offer"), text("currency"), outcome);
            let sum = sums.entry(key).or_default();
            sum.0 += 1;
            sum.1 += cents(&kept["revenue"]);
            sum.2 += cents(&kept["payout"]);
        }
    }
    sums
}

fn reported(report: &Value) -> Recount {
    let mut sums = Recount::new();
    for row in report["rules"].as_array().expect("rows") {
        for outcome in ["would_reject", "rejected", "reinstated", "confirmed"] {
            let worth = &row[outcome];
            let count = worth["conversions"].as_u64().expect("a number");
            if count > 0 {
                let text = |name: &str| row[name].as_str().expect("a text").to_owned();
                let sum = (count, cents(&worth["revenue"]), cents(&worth["payout"]));
                sums.insert((text("rule"), text("offer"), text("currency"), outcome), sum);
            }
        }
    }
    sums
}

#[test]
fn the_report_says_what_a_recount_of_all_conversions_says() {
    let server = setup(&[
        ("watched", "too_fast = {}, bot_user_agent = {}"),
        ("strict", "too_fast = {}, bot_user_agent = { action = \"reject\" }"),
    ])
    .start();
    let mut conversions = Vec::new();
    for n in 0..24 {
        let offer = ["watched", "strict"][n % 2];
        let headers = if n % 3 == 0 { PROGRAM } else { BROWSER };
        let event = if n % 4 == 0 { "lead" } else { "sale" };
        let late =
            if n % 5 == 0 { format!("&timestamp={}", now_ms() + 60_000) } else { String::new() };
        let clicked = click(&server, offer, headers);
        let answer =
            server.postback(&format!("click_id={clicked}&event={event}&txn_id=T-{n}{late}"));
        assert_eq!(answer.word("result"), "accepted");
        conversions.push((clicked, event, answer.word("conversion_id").to_owned()));
    }
    let upload: String =
        conversions.iter().map(|(.., id)| format!("{id},approved\n")).take(9).collect();
    let upload = format!("conversion_id,status\n{upload}{},reversed\n", conversions[13].2);
    assert_eq!(server.post_api("conversions/status", "text/csv", &upload).status, 200);
    let report = server.api("fraud");
    let expected = recount(&server, "");
    assert_eq!(reported(&report), expected);
    let has = |outcome| expected.keys().any(|key| key.3 == outcome);
    assert!(
        ["would_reject", "rejected", "reinstated", "confirmed"].into_iter().all(has),
        "{expected:?}"
    );
    assert_eq!((&report["conversions"], &report["next_cursor"]), (&json!(24), &Value::Null));
    assert_eq!(reported(&server.api("fraud?offer=strict")), recount(&server, "offer=strict"));
    assert_eq!(server.api("fraud?affiliate=pub-8")["rules"], json!([]));
    assert_eq!(server.api("fraud?to=2020-01-01T00:00:00Z")["conversions"], 0);
    // Once each in the totals, however many rules have hit it.
    let is_rule = |flag: &Value| RULES.iter().any(|rule| *flag == **rule);
    let is_hit = |kept: &&Value| kept["flags"].as_array().expect("flags").iter().any(is_rule);
    let hit = server.conversions("").iter().filter(is_hit).count();
    let totals = report["totals"].as_array().expect("totals");
    let counted = totals.iter().flat_map(|total| total.as_object().expect("members").values());
    let counted: u64 = counted.filter_map(|worth| worth["conversions"].as_u64()).sum();
    assert_eq!(counted, hit as u64);
    check_command(&server, &expected);
}

/// The command's table has the same numbers.
fn check_command(server: &Server, expected: &Recount) {
    let ended = server.command(&["fraud", "--from", "2020-01-01", "--offer", "strict"]);
    assert_eq!(ended.code, Some(0), "{}", ended.said());
    let text = ended.out;
    for ((rule, offer, currency, outcome), (count, revenue, payout)) in expected {
        if offer != "strict" {
            continue;
        }
        let money = |cents: &i64| format!("{}.{:02}", cents / 100, cents % 100);
        let count = count.to_string();
        let (revenue, payout) = (money(revenue), money(payout));
        let cells = [&**rule, offer, currency, outcome, &count, &revenue, &payout];
        let line = text.lines().find(|line| line.split_whitespace().eq(cells));
        assert!(line.is_some(), "no line {cells:?} in\n{text}");
    }
    assert_eq!(server.command(&["fraud", "--from", "today"]).code, Some(2));
}
