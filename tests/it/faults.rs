//! Disks that hang, fail and forget, below the real server.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::crash::{StopOnDrop, survive};
use crate::harness::{Answer, Connection, Server, Setup, eventually};
use crate::poison::is_poisoned;
use crate::rng::Rng;
use crate::verify::run;

/// How often the power is cut; more often with `POSTBACKD_POWER_CUTS`.
const POWER_CUTS: usize = 10;

#[test]
fn a_power_cut_takes_back_nothing_that_was_acknowledged() {
    let asked = std::env::var("POSTBACKD_POWER_CUTS").ok().and_then(|count| count.parse().ok());
    let seed = std::process::id().into();
    println!("seed {seed}");
    let (mut rng, mut lost) = (Rng::new(seed), 0);
    let server = Setup::new().on_faulty_disk().start();
    survive(server, asked.unwrap_or(POWER_CUTS), |server| {
        server.kill();
        lost += server.disk().cut_power(&mut rng);
        let verified = run(&server.path("."), &["verify", "--store", "data"]);
        assert_eq!(verified.code, Some(0), "{}{}", verified.out, verified.err);
    });
    println!("{lost} bytes lost that were written and not synced");
    assert!(lost > 0, "every write was synced before every cut: nothing was tried");
}

#[test]
fn no_answer_comes_before_the_sync_has_ended() {
    let server = Setup::new().on_faulty_disk().start();
    server.await_own_commits();
    let click = server.click("id=sp7");
    server.disk().hang_syncs();
    let mut waiting: Vec<_> = (0..4)
        .map(|n| {
            let mut connection = server.connect();
            let target = format!("/postback?click_id={click}&event=sale&txn_id=T-{}", n % 2);
            connection.ask("GET", &target, "").expect("sent");
            connection
        })
        .collect();
    // What is refused needs no disk; when it is answered, the others have been read.
    let refused = server.postback("click_id=x&event=sale");
    assert_eq!(refused.verdict(), (400, "refused", "malformed_click_id"));
    for connection in &mut waiting {
        assert!(connection.is_silent_for(Duration::from_millis(200)), "answered before the sync");
    }
    server.disk().repair();
    let mut results: Vec<_> = waiting
        .into_iter()
        .map(|mut connection| Answer::of(connection.receive("GET").expect("an answer")))
        .map(|answer| answer.word("result").to_owned())
        .collect();
    results.sort();
    assert_eq!(results, ["accepted", "accepted", "duplicate", "duplicate"]);
}

#[test]
fn a_disk_that_hangs_keeps_no_visitor_waiting_and_refuses_what_is_too_much() {
    let setup = Setup::new().on_faulty_disk().key("click.ack_deadline", "1ms");
    let server = setup.start();
    server.await_own_commits();
    let click = server.click("id=sp7");
    server.disk().hang_syncs();
    let held = format!("/postback?click_id={click}&event=sale&txn_id=held");
    let mut waiting = server.connect();
    waiting.ask("GET", &held, "").expect("sent");

    // Clicks fill what may wait for the disk.
    let full = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let _full = StopOnDrop(&full);
        for _ in 0..32 {
            scope.spawn(|| {
                let mut visitor = server.connect();
                while !full.load(Ordering::Relaxed) {
                    visit(&mut visitor, 64);
                }
            });
        }
        eventually("an overload", || {
            let unrecorded = server.metric("postbackd_clicks_unrecorded_total");
            (unrecorded > 0.0).then_some(())
        });
    });
    let refused = server.postback(&format!("click_id={click}&event=sale&txn_id=too-much"));
    assert_eq!(refused.verdict(), (503, "unavailable", "overloaded"));
    assert_eq!(refused.http.header("retry-after"), Some("1"));
    assert_eq!(server.get("/c/sp7").status, 302, "the visitor goes on");
    assert_eq!(server.admin("/api/v1/conversions").status, 200, "the network can look");
    assert!(waiting.is_silent_for(Duration::from_millis(50)));

    server.disk().repair();
    let answer = Answer::of(waiting.receive("GET").expect("an answer"));
    assert_eq!(answer.verdict(), (200, "accepted", ""));
    let again = eventually("room", || {
        let answer = server.postback(&format!("click_id={click}&event=sale&txn_id=too-much"));
        (answer.http.status == 200).then_some(answer)
    });
    assert_eq!(again.word("result"), "accepted", "nothing was kept of the one refused");
    assert_eq!(server.conversions("").len(), 2);
}

/// So many clicks at once on one connection.
fn visit(visitor: &mut Connection, count: usize) {
    for _ in 0..count {
        visitor.ask("GET", "/c/sp7", "").expect("sent");
    }
    for _ in 0..count {
        assert_eq!(visitor.receive("GET").expect("an answer").status, 302);
    }
}

/// The disk fails under a postback: it is not acknowledged, the process ends with code 3, and the
/// next start has what was acknowledged, and counts the other once when it is sent again.
fn check_failure(fail: impl FnOnce(&Server)) {
    let mut server = Setup::new().on_faulty_disk().start();
    server.await_own_commits();
    let click = server.click("id=sp7");
    let sale = |txn: &str| format!("click_id={click}&event=sale&txn_id={txn}");
    let before = server.postback(&sale("before"));
    assert_eq!(before.verdict(), (200, "accepted", ""));
    fail(&server);
    is_poisoned(&server.postback(&sale("failed")));
    assert_eq!(server.wait().code(), Some(3));
    server.disk().repair();
    server.disk().lose_unsynced();
    server.start_again();
    let again = server.postback(&sale("before"));
    assert_eq!(again.verdict(), (200, "duplicate", ""));
    assert_eq!(again.word("conversion_id"), before.word("conversion_id"));
    assert_eq!(server.postback(&sale("failed")).verdict(), (200, "accepted", ""));
    assert_eq!(server.conversions("").len(), 2);
}

#[test]
fn a_sync_that_fails_acknowledges_nothing() {
    check_failure(|server| server.disk().fail_syncs());
}

#[test]
fn a_full_disk_that_nobody_foresaw_acknowledges_nothing() {
    check_failure(|server| server.disk().refuse_writes());
}

#[test]
fn a_write_that_fails_acknowledges_nothing() {
    check_failure(|server| server.disk().fail_writes());
}
