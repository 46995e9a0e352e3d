//! Counting once, when everything happens at the same moment.

use std::collections::HashSet;
use std::sync::Barrier;

use crate::harness::{Answer, Connection, Server, Setup};

const AT_ONCE: usize = 64;

/// Sends all requests at the same moment, each on a connection of its own.
pub fn at_once(server: &Server, targets: &[String]) -> Vec<Answer> {
    let barrier = Barrier::new(targets.len());
    std::thread::scope(|scope| {
        let send = |target: &str| {
            let mut connection = server.connect();
            let request = format!("GET {target} HTTP/1.1\r\nHost: t.example\r\n\r\n");
            let (last, most) = request.as_bytes().split_last().expect("not empty");
            connection.send(most).expect("sent");
            barrier.wait();
            connection.send([*last]).expect("sent");
            Answer::of(connection.receive("GET").expect("an answer"))
        };
        let threads: Vec<_> =
            targets.iter().map(|target| scope.spawn(move || send(target))).collect();
        threads.into_iter().map(|thread| thread.join().expect("an answer")).collect()
    })
}

fn check_one_accepted(answers: &[Answer]) {
    let count = |result| answers.iter().filter(|answer| answer.word("result") == result).count();
    assert_eq!((count("accepted"), count("duplicate")), (1, answers.len() - 1));
    let outcomes: HashSet<_> =
        answers.iter().map(|a| (a.word("conversion_id"), a.word("status"))).collect();
    assert_eq!(outcomes.len(), 1, "{outcomes:?}");
}

#[test]
fn identical_postbacks_at_the_same_moment_are_one_conversion_and_one_answer() {
    let server = Server::start();
    for round in 0..10 {
        let click = server.click("id=sp7");
        let target = format!("/postback?click_id={click}&event=sale&txn_id=T{round}");
        check_one_accepted(&at_once(&server, &vec![target; AT_ONCE]));
        assert_eq!(server.conversions(&format!("txn_id=T{round}")).len(), 1);
    }
}

#[test]
fn identical_postbacks_without_a_transaction_are_one_conversion_too() {
    let server = Server::start();
    let click = server.click("id=sp7");
    let target = format!("/postback?click_id={click}&event=sale");
    check_one_accepted(&at_once(&server, &vec![target; AT_ONCE]));
    assert_eq!(server.conversions("").len(), 1);
}

#[test]
fn a_duplicate_without_an_id_is_told_that_its_amount_does_not_count() {
    let server = Server::start();
    let clicks = ["id=sp7", "offer=single&aff=pub-7"].map(|link| server.click(link));
    let check = |click: usize, query: &str, hint: &str| {
        let query = format!("click_id={}&{query}", clicks[click]);
        for dry_run in ["", "&dry_run=1"] {
            let answer = server.postback(&format!("{query}{dry_run}"));
            assert_eq!(answer.word("result"), "duplicate", "{answer:?}");
            let told = answer.word("hint");
            assert!(told.contains(hint) && told.is_empty() == hint.is_empty(), "{answer:?}");
        }
    };
    for (click, sale) in [(0, "amount=10"), (0, "amount=10&txn_id=A"), (1, "amount=10")] {
        let answer = server.postback(&format!("click_id={}&event=sale&{sale}", clicks[click]));
        assert_eq!((answer.word("result"), answer.word("hint")), ("accepted", ""), "{answer:?}");
    }
    check(0, "event=sale&amount=99", "send a txn_id");
    check(0, "event=sale&amount=99&status=pending", "send a txn_id");
    check(0, "event=sale&revenue=9", "send a txn_id");
    check(0, "event=sale&payout=9", "send a txn_id");
    check(0, "event=sale", "");
    check(0, "event=sale&amount=99&txn_id=A", "");
    check(1, "event=sale&amount=99", "");
}

#[test]
fn different_transactions_of_a_click_that_may_convert_once_are_one_conversion() {
    let server = Server::start();
    for _ in 0..10 {
        let click = server.click("offer=single&aff=pub-7");
        let target = |n| format!("/postback?click_id={click}&event=sale&txn_id={click}-{n}");
        let targets: Vec<_> = (0..16).map(target).collect();
        check_one_accepted(&at_once(&server, &targets));
        let trace = server.api(&format!("trace/{click}"));
        let entries = trace["entries"].as_array().expect("entries").iter();
        let kept = entries
            .filter(|entry| entry["kind"] == "click" || entry["kind"] == "conversion")
            .count();
        assert_eq!(kept, 2, "{trace}");
    }
}

#[test]
fn crossing_claims_of_transactions_and_clicks_never_wait_for_each_other() {
    let server = Server::start();
    for round in 0..5 {
        let clicks: Vec<_> = (0..4).map(|_| server.click("offer=single&aff=pub-7")).collect();
        let targets: Vec<_> = (0..32)
            .map(|n| {
                let (click, txn) = (&clicks[n % 4], (n / 4 + n) % 4);
                format!("/postback?click_id={click}&event=sale&txn_id=R{round}-{txn}")
            })
            .collect();
        let answers = at_once(&server, &targets);
        let mut accepted = HashSet::new();
        for answer in &answers {
            assert_eq!(answer.http.status, 200, "{answer:?}");
            accepted.insert(answer.word("conversion_id"));
        }
        let kept: Vec<_> = server.conversions("offer=single");
        let of_round = |c: &&serde_json::Value| {
            c["txn_id"].as_str().is_some_and(|txn| txn.starts_with(&format!("R{round}-")))
        };
        let kept: Vec<_> = kept.iter().filter(of_round).collect();
        let unique = |name: &str| kept.iter().map(|c| c[name].as_str()).collect::<HashSet<_>>();
        assert_eq!(unique("click_id").len(), kept.len(), "a click converted twice");
        assert_eq!(unique("txn_id").len(), kept.len(), "a transaction counted twice");
        assert_eq!(accepted.len(), kept.len(), "an answer names what is not kept");
    }
}

#[test]
fn distinct_postbacks_at_the_same_moment_all_count() {
    let server = Server::start();
    let click = server.click("id=sp7");
    let target = |n| format!("/postback?click_id={click}&event=sale&txn_id=T{n}");
    let answers = at_once(&server, &(0..AT_ONCE).map(target).collect::<Vec<_>>());
    let ids: HashSet<_> = answers.iter().map(|answer| answer.word("conversion_id")).collect();
    assert!(answers.iter().all(|answer| answer.verdict() == (200, "accepted", "")));
    assert_eq!(ids.len(), AT_ONCE);
    assert_eq!(server.conversions("").len(), AT_ONCE);
}

#[test]
fn a_client_that_hangs_up_neither_undoes_nor_blocks_nor_doubles_its_conversion() {
    const HANG_UPS: usize = 200;
    let server = Server::start();
    let click = server.click("id=sp7");
    let target = |n| format!("/postback?click_id={click}&event=sale&txn_id=T{n}");
    for n in 0..HANG_UPS {
        let mut connection = Connection::open(server.public);
        connection.ask("GET", &target(n), "").expect("sent");
    }
    let mut counted_already = 0;
    for n in 0..HANG_UPS {
        let answer = Answer::of(server.get(&target(n)));
        assert_eq!(answer.http.status, 200, "{answer:?}");
        counted_already += usize::from(answer.word("result") == "duplicate");
    }
    assert!(counted_already > 0, "no hang-up left a conversion behind");
    println!("{counted_already} of {HANG_UPS} were counted though the client had gone");
    let kept = server.conversions("");
    let txns: HashSet<_> = kept.iter().map(|c| c["txn_id"].as_str()).collect();
    assert_eq!((kept.len(), txns.len()), (HANG_UPS, HANG_UPS));
    assert_eq!(server.metric("postbackd_dedupe_pending"), 0.0);
}

#[test]
fn a_conversion_that_memory_has_forgotten_is_still_a_duplicate() {
    // Memory keeps two generations of this size.
    const REMEMBERED: usize = 1000;
    const SENT: usize = 5 * REMEMBERED;
    let mut server = Setup::new().key("dedupe.cache_entries", &REMEMBERED.to_string()).start();
    let click = server.click("id=sp7");
    let target = |n| format!("/postback?click_id={click}&event=registration&txn_id=T{n}");
    let mut connection = server.connect();
    let mut ids = Vec::new();
    for part in (0..SENT).collect::<Vec<_>>().chunks(8) {
        // Side by side, so that they share an fsync.
        let mut side: Vec<_> = part.iter().map(|n| (n, server.connect())).collect();
        for (n, connection) in &mut side {
            connection.ask("GET", &target(**n), "").expect("sent");
        }
        for (_, connection) in &mut side {
            let answer = Answer::of(connection.receive("GET").expect("an answer"));
            assert_eq!(answer.verdict(), (200, "accepted", ""));
            ids.push(answer.word("conversion_id").to_owned());
        }
    }
    let check = |connection: &mut Connection, n: usize| {
        let answer = connection.request("GET", &target(n), "").expect("an answer");
        let answer = Answer::of(answer);
        assert_eq!(answer.verdict(), (200, "duplicate", ""), "T{n}");
        assert_eq!(answer.word("conversion_id"), ids[n], "T{n}");
        assert_eq!(answer.word("status"), "pending", "T{n}");
    };
    // What the store has not filed yet, memory keeps; a start files everything.
    (0..SENT).step_by(10).for_each(|n| check(&mut connection, n));
    server.kill();
    server.start_again();
    assert!(server.metric("postbackd_dedupe_cache_entries") < SENT as f64);
    let mut connection = server.connect();
    (5..SENT).step_by(10).for_each(|n| check(&mut connection, n));
    assert_eq!(server.conversions("").len(), SENT);
}
