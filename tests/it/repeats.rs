//! Events that may be repeated, some of them refused and judged again later: two are the same if
//! they were received less than the window apart, and nothing else makes them so.

use serde_json::{Value, json};

use crate::harness::{Answer, Server, Setup, eventually};
use crate::inbound::{judged, log_of, verify_at};

const HOUR_MS: i64 = 60 * 60 * 1000;
const DAY_MS: i64 = 24 * HOUR_MS;

/// A server whose offer knows no deposits yet, and a click.
fn start() -> (Server, String) {
    let server = Setup::new().without_catalog_file().on_faulty_disk().start();
    put(&server, "");
    let click = server.click("offer=bank&aff=one");
    (server, click)
}

const DEPOSIT: &str = "[[offers.events]]\nid = \"deposit\"\nrepeat = \"24h\"\n\
                       payout = { fixed = \"5\" }\nrevenue = { fixed = \"8\" }\n";

fn put(server: &Server, event: &str) {
    let text = format!(
        "[[advertisers]]\nid = \"acme\"\n[[affiliates]]\nid = \"one\"\n\
         [[offers]]\nid = \"bank\"\nadvertiser = \"acme\"\n\
         url = \"https://a.example/?c={{click_id}}\"\n\
         [[offers.events]]\nid = \"sale\"\n{event}"
    );
    let answer = server.put_catalog("", "application/toml", "If-Match: *\r\n", &text);
    assert_eq!(answer.status, 200, "{answer:?}");
}

/// Sends a deposit, so long after the start of the test.
fn deposit(server: &Server, click: &str, at_ms: i64, result: &str) {
    server.disk().shift_clock(at_ms);
    let answer = server.postback(&format!("click_id={click}&event=deposit"));
    assert_eq!(answer.word("result"), result, "{answer:?}");
}

/// Judges so many refused ones again, of which so many are accepted, and so many duplicates.
fn judge(server: &Server, refused: usize, expected: [u64; 2]) {
    log_of(server, "result=refused", refused);
    for apply in [false, true] {
        let judged = judged(server, apply);
        let counts = ["accepted", "duplicate"].map(|what| judged[what].as_u64().expect("a count"));
        assert_eq!(counts, expected, "apply: {apply}, {judged}");
    }
    // The same rows once more.
    let again = judged(server, true);
    assert_eq!((&again["accepted"], &again["refused"]), (&json!(0), &json!({})), "{again}");
}

fn deposits(server: &Server) -> usize {
    server.conversions("event=deposit").len()
}

/// Kills the server: afterwards it knows what it has read back.
pub fn restarts(server: &mut Server) {
    let warmed = |server: &Server| server.log().matches("claim cache is warm").count();
    let before = warmed(server);
    server.kill();
    server.start_again();
    eventually("a warm cache", || (warmed(server) > before).then_some(()));
}

#[test]
fn refused_deposits_of_two_days_are_both_taken() {
    let (mut server, click) = start();
    deposit(&server, &click, 0, "refused");
    // This one is the first once more.
    deposit(&server, &click, HOUR_MS, "refused");
    deposit(&server, &click, 5 * DAY_MS, "refused");
    put(&server, DEPOSIT);
    judge(&server, 3, [2, 1]);
    restarts(&mut server);
    let again = judged(&server, true);
    assert_eq!((&again["accepted"], &again["duplicate"]), (&json!(0), &json!(3)), "{again}");
    assert_eq!(deposits(&server), 2);
    verify_at(&server);
}

#[test]
fn a_deposit_of_yesterday_does_not_swallow_a_refused_one_of_last_week_nor_is_it_forgotten_for_it() {
    let (mut server, click) = start();
    deposit(&server, &click, 0, "refused");
    // Too near to the one that comes, on either side of it.
    deposit(&server, &click, 5 * DAY_MS, "refused");
    put(&server, DEPOSIT);
    deposit(&server, &click, 6 * DAY_MS - HOUR_MS, "accepted");
    put(&server, "");
    deposit(&server, &click, 6 * DAY_MS, "refused");
    put(&server, DEPOSIT);
    server.disk().shift_clock(6 * DAY_MS + HOUR_MS);
    judge(&server, 3, [1, 2]);
    let live = |server: &Server, hours, result| {
        deposit(server, &click, 6 * DAY_MS + hours * HOUR_MS, result);
    };
    live(&server, 2, "duplicate");
    restarts(&mut server);
    live(&server, 3, "duplicate");
    live(&server, 4, "duplicate");
    live(&server, 23, "accepted");
    live(&server, 24, "duplicate");
    assert_eq!(deposits(&server), 3);
    verify_at(&server);
}

#[test]
fn a_deposit_after_the_job_is_not_swallowed_by_one_that_was_received_long_before() {
    let (mut server, click) = start();
    deposit(&server, &click, 0, "refused");
    put(&server, DEPOSIT);
    server.disk().shift_clock(5 * DAY_MS);
    judge(&server, 1, [1, 0]);
    let live = |server: &Server, hours, result| {
        deposit(server, &click, 5 * DAY_MS + hours * HOUR_MS, result);
    };
    live(&server, 1, "accepted");
    live(&server, 2, "duplicate");
    restarts(&mut server);
    live(&server, 3, "duplicate");
    live(&server, 25, "accepted");
    assert_eq!(deposits(&server), 3);
    verify_at(&server);
}

#[test]
fn a_deposit_soon_after_a_refused_one_is_the_same_once_that_was_taken() {
    let (mut server, click) = start();
    deposit(&server, &click, 0, "refused");
    put(&server, DEPOSIT);
    server.disk().shift_clock(HOUR_MS);
    judge(&server, 1, [1, 0]);
    deposit(&server, &click, 2 * HOUR_MS, "duplicate");
    restarts(&mut server);
    deposit(&server, &click, 23 * HOUR_MS, "duplicate");
    // The day is over by its receipt, not by when it was taken.
    deposit(&server, &click, 24 * HOUR_MS + 60_000, "accepted");
    assert_eq!(deposits(&server), 2);
    let received = |it: &Value| it["received_time"].as_str().expect("a time").to_owned();
    let kept = server.conversions("event=deposit");
    assert!(received(&kept[0]) < received(&kept[1]));
    verify_at(&server);
}

#[test]
fn where_there_are_too_many_to_look_through_it_is_refused_with_a_hint() {
    let (server, click) = start();
    deposit(&server, &click, 0, "refused");
    put(&server, DEPOSIT);
    let mut connection = server.connect();
    for n in 0..1000 {
        let target = format!("/postback?click_id={click}&event=sale&txn_id=T-{n}");
        let answer = Answer::of(connection.request("GET", &target, "").expect("an answer"));
        assert_eq!(answer.word("result"), "accepted", "{answer:?}");
    }
    log_of(&server, "result=refused", 1);
    for apply in [false, true] {
        let judged = judged(&server, apply);
        assert_eq!(judged["refused"], json!({ "illegal_transition": 1 }), "{judged}");
    }
    // Where nothing was judged again, nobody has to look through them.
    deposit(&server, &click, HOUR_MS, "accepted");
    deposit(&server, &click, 2 * HOUR_MS, "duplicate");
    assert_eq!(deposits(&server), 1);
}
