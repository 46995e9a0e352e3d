//! A disk that fails: the system refuses to write, by a limit that is set on the running process.
//! Nothing here depends on time: each step follows an answer of the server.

use std::collections::HashMap;

use crate::harness::{Answer, Connection, Server, Setup, eventually};

/// The parameters of an event, long enough that a few of them fill a small file.
fn sale(click: &str, txn: &str) -> String {
    let own: String = (0..15).map(|n| format!("&own{n}={}", "x".repeat(500))).collect();
    format!("click_id={click}&event=sale&txn_id={txn}{own}")
}

fn post(server: &Server, form: &str) -> Answer {
    let mut connection = server.connect();
    let kind = "application/x-www-form-urlencoded";
    Answer::of(connection.post("/postback", kind, form.as_bytes()).expect("an answer"))
}

/// A request whose head is not complete: the drain waits for its end.
fn begun(server: &Server, target: &str) -> Connection {
    let mut connection = server.connect();
    connection.send(format!("GET {target} HTTP/1.1\r\nHost: t.example\r\n")).expect("sent");
    connection
}

fn ended(mut connection: Connection) -> crate::harness::Response {
    connection.send("\r\n").expect("sent");
    connection.receive("GET").expect("an answer")
}

pub fn is_poisoned(answer: &Answer) {
    assert_eq!(answer.verdict(), (503, "unavailable", "store_poisoned"));
    assert_eq!(answer.http.header("retry-after"), Some("30"));
}

/// Sends sales until one is not accepted; returns the accepted ones by transaction, and the
/// transaction of the other.
fn until_refused(server: &Server, click: &str) -> (HashMap<String, String>, String) {
    let mut accepted = HashMap::new();
    for n in 0..1000 {
        let txn = format!("until-{n}");
        let answer = post(server, &sale(click, &txn));
        if answer.word("result") != "accepted" {
            is_poisoned(&answer);
            return (accepted, txn);
        }
        accepted.insert(txn, answer.word("conversion_id").to_owned());
    }
    panic!("the limit is never reached");
}

/// The disk fails at `limit` bytes of a file.
fn check(limit: u64) {
    // One worker: what was sent before an answered request has been read when the answer comes.
    let setup = Setup::new().key("server.workers", "1").key("server.drain_deadline", "5m");
    let mut server = setup.with_limit_of_files().start();
    server.await_own_commits();
    let click = server.click("id=sp7");
    let mut acknowledged = HashMap::new();
    for n in 0..5 {
        let answer = server.postback(&format!("click_id={click}&event=sale&txn_id=before-{n}"));
        assert_eq!(answer.verdict(), (200, "accepted", ""));
        acknowledged.insert(format!("before-{n}"), answer.word("conversion_id").to_owned());
    }
    let visitor = begun(&server, "/c/sp7");
    let later = begun(&server, &format!("/postback?click_id={click}&event=sale&txn_id=later"));
    let again = begun(&server, &format!("/postback?click_id={click}&event=sale&txn_id=before-0"));
    assert_eq!(server.get("/c/sp7").status, 302);

    server.limit_files(limit);
    let (accepted, failed) = until_refused(&server, &click);
    acknowledged.extend(accepted);

    let ready = server.admin_open("/readyz");
    assert_eq!(ready.status, 503);
    assert!(ready.text().contains("store poisoned: fsync failed: "), "{}", ready.text());
    eventually("the closed door", || Connection::try_open(server.public).err());
    assert_eq!(server.metric("postbackd_store_poisoned"), 1.0);
    let unrecorded = server.metric("postbackd_clicks_unrecorded_total");
    let redirect = ended(visitor);
    assert_eq!(redirect.status, 302, "the visitor goes on");
    let location = redirect.header("location").expect("a landing URL");
    assert!(location.starts_with("https://shop.example/landing?subid="), "{location}");
    assert_eq!(server.metric("postbackd_clicks_unrecorded_total"), unrecorded + 1.0);
    let known = Answer::of(ended(again));
    assert_eq!(known.verdict(), (200, "duplicate", ""), "what was acknowledged stays so");
    assert!(server.is_alive(), "it waits for the last request");
    is_poisoned(&Answer::of(ended(later)));
    assert_eq!(server.wait().code(), Some(3));

    server.start_again();
    let kept = server.conversions("");
    for (txn, id) in &acknowledged {
        let found: Vec<_> = kept.iter().filter(|one| one["txn_id"] == **txn).collect();
        assert_eq!(found.len(), 1, "{txn}");
        assert_eq!(found[0]["conversion_id"], **id, "{txn}");
    }
    assert!(kept.iter().all(|one| one["txn_id"] != "later"), "it was refused before any write");
    // What was not acknowledged may be there or not; sent again, it counts once.
    for txn in [&*failed, "later"] {
        assert_eq!(post(&server, &sale(&click, txn)).http.status, 200, "{txn}");
        assert_eq!(post(&server, &sale(&click, txn)).word("result"), "duplicate", "{txn}");
    }
    assert_eq!(server.conversions("").len(), acknowledged.len() + 2);
    assert_eq!(server.stop().code(), Some(0));
}

#[test]
fn a_disk_that_takes_nothing_more_ends_the_server_with_code_3_and_loses_nothing_acknowledged() {
    // Not even a line of the log can be written.
    check(0);
}

#[test]
fn a_disk_that_fails_in_the_middle_of_a_write_loses_nothing_acknowledged() {
    check(100_000);
}
