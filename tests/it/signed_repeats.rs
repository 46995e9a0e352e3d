//! Signed events that may be repeated, refused and judged again later: what was signed once counts
//! once, however often it came; what says something else is another one. A dry run says what comes.

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::auth::{KEY, now, secrets, signed_by};
use crate::harness::{Answer, Server, Setup};
use crate::inbound::{judged, log_of, verify_at};

/// More than the deposit's `repeat`.
const NEXT_MS: i64 = 2_000;
const MINUTE_MS: i64 = 60_000;

const DEPOSIT: &str = "[[offers.events]]\nid = \"deposit\"\nrepeat = \"1s\"\npayout = { percent = \"10\" }\n\
                       trust_payout = true\n";

/// A server whose one advertiser signs, and whose offer knows no deposits yet.
struct World {
    server: Server,
    secrets: TempDir,
}

impl World {
    fn start() -> Self {
        let secrets = secrets();
        let setup = Setup::new().without_catalog_file().on_faulty_disk();
        let world = Self { server: setup.start(), secrets };
        world.put(&world.hmac("1h"), "", "");
        world
    }

    /// How the advertiser signs.
    fn hmac(&self, window: &str) -> String {
        let key = self.secrets.path().join("key");
        format!(
            "auth = {{ hmac = [{{ secret = \"file:{}\" }}], ts_window = \"{window}\" }}\n",
            key.display()
        )
    }

    fn put(&self, advertiser: &str, offer: &str, events: &str) {
        let text = format!(
            "[[advertisers]]\nid = \"a\"\n{advertiser}[[affiliates]]\nid = \"one\"\n\
             [[offers]]\nid = \"a\"\nadvertiser = \"a\"\n\
             url = \"https://a.example/?c={{click_id}}\"\n{offer}\
             [[offers.events]]\nid = \"sale\"\n{events}"
        );
        let answer = self.server.put_catalog("", "application/toml", "If-Match: *\r\n", &text);
        assert_eq!(answer.status, 200, "{answer:?}");
    }

    fn click(&self) -> String {
        self.server.click("offer=a&aff=one")
    }

    /// Sends what was signed, so long after the start of the test.
    fn send(&self, at_ms: i64, signed: &str, word: &str) {
        self.server.disk().shift_clock(at_ms);
        let answer = Answer::of(self.server.get(&format!("/postback/a?{signed}")));
        let (_, result, reason) = answer.verdict();
        assert_eq!(if reason.is_empty() { result } else { reason }, word, "{signed} {answer:?}");
    }

    /// Judges so many refused ones again: how many are accepted, duplicates, and refused as those
    /// that may have counted.
    fn judge(&self, refused: usize, expected: [u64; 3]) {
        log_of(&self.server, "result=refused", refused);
        for apply in [false, true] {
            let judged = judged(&self.server, apply);
            let count = |count: &Value| count.as_u64().unwrap_or_default();
            let unsure = count(&judged["refused"]["illegal_transition"]);
            let counts = [count(&judged["accepted"]), count(&judged["duplicate"]), unsure];
            assert_eq!(counts, expected, "apply: {apply}, {judged}");
        }
        verify_at(&self.server);
    }
}

/// A deposit with further parameters, signed so long after the start of the test.
fn deposit(click: &str, more: &str, at_ms: i64, nonce: &str) -> String {
    let ts = (now() + u64::try_from(at_ms / 1000).expect("later")).to_string();
    let mut pairs = vec![("click_id", click), ("event", "deposit"), ("ts", &*ts), ("nonce", nonce)];
    pairs.extend(more.split('&').filter_map(|pair| pair.split_once('=')));
    signed_by(KEY, &pairs)
}

#[test]
fn what_says_something_else_is_another_one() {
    const SAME: bool = false;
    const OTHER: bool = true;
    let cases = [
        ("amount=10", "amount=10", SAME),
        ("amount=10", "amount=10.00", SAME),
        ("amount=10", "amount=20", OTHER),
        ("amount=1&quantity=1", "amount=2&quantity=1", OTHER),
        ("amount=10&currency=USD", "amount=10&currency=EUR", OTHER),
        ("amount=10&currency=USD", "amount=10", OTHER),
        ("amount=10&quantity=2", "amount=10&quantity=3", OTHER),
        ("amount=10&payout=4", "amount=10&payout=5", OTHER),
        ("customer_id=first", "customer_id=second", OTHER),
        ("timestamp=1999", "timestamp=1999", SAME),
        ("note=x", "note=y", OTHER),
        ("sub1=x", "sub1=y", OTHER),
        // What one of them lacks may have been left out.
        ("note=x", "other=x", SAME),
        ("note=x", "", SAME),
        ("amount=10", "amount=10&note=x", SAME),
        // Nobody can tell what is behind the mask.
        ("note=a@b.example", "note=c@d.example", SAME),
    ];
    let world = World::start();
    let (mut rows, mut others, mut at_ms) = (0, 0, 0);
    for (n, (first, second, is_other)) in cases.into_iter().enumerate() {
        let (click, time) = (world.click(), format!("={}", now()));
        for (nonce, more) in [("1", first), ("2", second)] {
            at_ms += NEXT_MS;
            let more = more.replace("=1999", &time);
            let signed = deposit(&click, &more, at_ms, &format!("{n}-{nonce}"));
            world.send(at_ms, &signed, "unknown_event");
            rows += 1;
        }
        others += u64::from(is_other);
    }
    // By when they happened.
    let (click, seconds) = (world.click(), now());
    for n in 0..3 {
        at_ms += NEXT_MS;
        let more = format!("timestamp={}", seconds - n);
        world.send(at_ms, &deposit(&click, &more, at_ms, &format!("time-{n}")), "unknown_event");
        rows += 1;
    }
    world.put(&world.hmac("1h"), "", DEPOSIT);
    let (pairs, unsure) = (cases.len() as u64, cases.len() as u64 - others);
    world.judge(rows, [pairs + others + 3, 0, unsure]);
    // Each of them is known now, or may be.
    world.judge(rows, [0, pairs + others + 3, unsure]);
}

#[test]
fn what_counted_is_compared_as_it_came_and_by_the_names_that_it_had() {
    let world = World::start();
    let names =
        |amount: &str| world.hmac("1h") + &format!("params = {{ amount = \"{amount}\" }}\n");
    let clicks = [(); 4].map(|()| world.click());
    let said = "gross=10&net=9";
    let [changed, renamed, other, longer] = clicks.each_ref().map(|click| {
        let more = if *click == clicks[3] { "gross=10&net=9&note=x" } else { said };
        deposit(click, more, 0, click)
    });
    for signed in [&changed, &renamed, &other, &longer] {
        world.send(0, signed, "unknown_event");
    }
    world.put(&names("net"), "", DEPOSIT);
    for signed in [&changed, &renamed] {
        world.send(NEXT_MS, signed, "accepted");
    }
    // One of another amount, and one that lacks a parameter.
    let next = |click: &str, more: &str| deposit(click, more, NEXT_MS, &format!("next-{click}"));
    world.send(NEXT_MS, &next(&clicks[2], "gross=20&net=19"), "accepted");
    world.send(NEXT_MS, &next(&clicks[3], said), "accepted");
    let news = deposit(&clicks[0], "gross=7&net=6&status=approved", NEXT_MS, "news");
    world.send(NEXT_MS + 1, &news, "updated");
    world.put(&names("gross"), "", DEPOSIT);
    world.judge(4, [1, 0, 3]);
    assert_eq!(world.server.conversions("event=deposit").len(), 5);
}

#[test]
fn what_was_signed_counts_once_when_nobody_signs_any_more_or_for_a_shorter_time() {
    let check = |window: Option<&str>, apart_ms| {
        let world = World::start();
        let click = world.click();
        let signed = deposit(&click, "amount=10", apart_ms, "n");
        for at_ms in [0, apart_ms] {
            world.send(at_ms, &signed, "unknown_event");
        }
        let auth = window.map(|window| world.hmac(window)).unwrap_or_default();
        world.put(&auth, "", DEPOSIT);
        world.judge(2, [1, 0, 1]);
        // The first is known by now.
        world.judge(2, [0, 1, 1]);
    };
    check(None, 50 * MINUTE_MS);
    check(Some("1s"), 9 * MINUTE_MS);
    check(Some("1h"), 50 * MINUTE_MS);
}

#[test]
fn of_one_conversion_per_click_the_next_is_a_duplicate() {
    const ONCE: &str = "one_conversion_per_click = true\n";
    for is_known in [false, true] {
        for more in ["amount=10", "amount=10&status=approved"] {
            let world = World::start();
            let click = world.click();
            let signed = deposit(&click, more, 0, "n");
            for n in 0..2 {
                world.send(n * NEXT_MS, &signed, "unknown_event");
            }
            world.put(&world.hmac("1h"), ONCE, DEPOSIT);
            if is_known {
                world.send(2 * NEXT_MS, &signed, "accepted");
            }
            let (accepted, duplicate) = if is_known { (0, 2) } else { (1, 1) };
            world.judge(2, [accepted, duplicate, 0]);
            assert_eq!(world.server.conversions("").len(), 1, "{is_known} {more}");
        }
    }
}

#[test]
fn what_would_be_refused_if_it_were_new_is_a_duplicate_of_its_click() {
    const ONCE: &str = "one_conversion_per_click = true\nwindow = \"1m\"\n";
    let world = World::start();
    let click = world.click();
    world.send(0, &deposit(&click, "amount=10", 0, "n-1"), "unknown_event");
    // Too late by then.
    let at_ms = 10 * MINUTE_MS;
    world.send(at_ms, &deposit(&click, "amount=20", at_ms, "n-2"), "unknown_event");
    world.put(&world.hmac("1h"), ONCE, DEPOSIT);
    log_of(&world.server, "result=refused", 2);
    for apply in [false, true] {
        let judged = judged(&world.server, apply);
        let counts = (&judged["accepted"], &judged["duplicate"], &judged["refused"]);
        assert_eq!(counts, (&json!(1), &json!(1), &json!({})), "apply: {apply}, {judged}");
    }
}
