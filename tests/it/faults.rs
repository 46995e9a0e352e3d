//! Disks that hang, fail and forget, below the real server.

use std::process::ExitStatus;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use postbackd::limits::{
    BATCH_COMMITS_ADMIN_MAX, BATCH_COMMITS_POSTBACKS_MAX, LOG_FILE_BYTES, VALUE_BYTES_MAX,
};

use crate::crash::{StopOnDrop, survive};
use crate::harness::{Answer, Connection, Fault, FileKind, Losses, Server, Setup, eventually, run};
use crate::poison::is_poisoned;
use crate::rng::Rng;

/// How often the power is cut; more often with `POSTBACKD_POWER_CUTS`.
const POWER_CUTS: usize = 10;

#[test]
fn a_power_cut_takes_back_nothing_that_was_acknowledged() {
    let asked = std::env::var("POSTBACKD_POWER_CUTS").ok().and_then(|count| count.parse().ok());
    let seed = std::process::id().into();
    println!("seed {seed}");
    let (mut rng, mut losses) = (Rng::new(seed), Losses::default());
    let server = Setup::new().on_faulty_disk().key("store.log_files_ready", "1").start();
    survive(server, asked.unwrap_or(POWER_CUTS), |server| {
        // Now and then while memtables are written out.
        if rng.once_in(2) {
            server.try_flush();
            std::thread::sleep(Duration::from_millis(rng.below(40) as u64));
        }
        server.kill();
        losses.add(&server.disk_mut().cut_power(&mut rng));
        let verified = run(&server.path("."), &["verify", "--store", "data"]);
        assert_eq!(verified.code, Some(0), "{}{}", verified.out, verified.err);
    });
    print!("{losses}");
    assert!(losses.of(FileKind::Log).bytes > 0, "every write was synced before every cut");
}

#[test]
fn no_answer_comes_before_the_sync_has_ended() {
    let server = Setup::new().on_faulty_disk().start();
    let own = server.await_own_commits();
    let click = server.click("id=sp7");
    // No sync is under way that would have to end first.
    server.await_commits(own + 1);
    server.disk().break_down(Fault::SyncsHang, None);
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
    // What an alert sees of it: commits that wait, also those that the sync has taken.
    let unconfirmed = || server.metric("postbackd_store_queue_commits{stage=\"sync\"}");
    assert!(unconfirmed() >= 1.0);
    server.disk().repair();
    let mut results: Vec<_> = waiting
        .into_iter()
        .map(|mut connection| Answer::of(connection.receive("GET").expect("an answer")))
        .map(|answer| answer.word("result").to_owned())
        .collect();
    results.sort();
    assert_eq!(results, ["accepted", "accepted", "duplicate", "duplicate"]);
    eventually("the end of the sync", || (unconfirmed() == 0.0).then_some(()));
}

#[test]
fn a_disk_that_hangs_keeps_no_visitor_waiting_and_sheds_first_admin_then_postbacks_then_clicks() {
    let setup = Setup::new().on_faulty_disk().key("click.ack_deadline", "1ms");
    let server = setup.start();
    server.await_own_commits();
    let click = server.click("id=sp7");
    let resident = || server.metric("postbackd_resident_memory_bytes");
    let unrecorded = || server.metric("postbackd_clicks_unrecorded_total");
    let queued = || server.metric("postbackd_store_queue_commits{stage=\"append\"}");
    let before = resident();
    server.disk().break_down(Fault::SyncsHang, None);
    let held = format!("/postback?click_id={click}&event=sale&txn_id=held");
    let mut waiting = server.connect();
    waiting.ask("GET", &held, "").expect("sent");
    let too_much = format!("click_id={click}&event=sale&txn_id=too-much");
    let is_overloaded = |answer: &Answer| {
        assert_eq!(answer.verdict(), (503, "unavailable", "overloaded"));
        assert_eq!(answer.http.header("retry-after"), Some("1"));
    };
    let admin_is_shed = || {
        let answer = server.admin("/api/v1/conversions");
        assert_eq!((answer.status, answer.header("retry-after")), (503, Some("1")));
        assert_eq!(answer.json()["error"]["code"], "overloaded");
    };
    let what_is_left_of_admin = || {
        for target in ["/healthz", "/readyz", "/metrics", "/api/v1/catalog/versions"] {
            assert_eq!(server.admin(target).status, 200, "{target}");
        }
        assert_eq!(server.put_catalog("", "application/toml", "If-Match: *\r\n", "").status, 409);
    };

    assert_eq!(server.admin("/api/v1/conversions").status, 200, "the network can look");
    click_until(&server, || queued() >= BATCH_COMMITS_ADMIN_MAX as f64);
    admin_is_shed();
    what_is_left_of_admin();
    let dry_run = server.postback(&format!("{too_much}&dry_run=1"));
    assert_eq!(dry_run.verdict(), (200, "accepted", ""));

    click_until(&server, || queued() >= BATCH_COMMITS_POSTBACKS_MAX as f64);
    is_overloaded(&server.postback(&too_much));
    assert_eq!(server.get("/c/sp7").status, 302);
    assert_eq!(unrecorded(), 0.0, "clicks have the rest");

    click_until(&server, || unrecorded() > 0.0);
    is_overloaded(&server.postback(&too_much));
    admin_is_shed();
    what_is_left_of_admin();
    assert_eq!(server.get("/c/sp7").status, 302, "the visitor goes on");
    assert!(waiting.is_silent_for(Duration::from_millis(50)));
    let grown = resident() - before;
    println!("{} MiB more in memory", grown / f64::from(1 << 20));
    assert!(grown < f64::from(256 << 20), "{grown} bytes more in memory");

    server.disk().repair();
    let answer = Answer::of(waiting.receive("GET").expect("an answer"));
    assert_eq!(answer.verdict(), (200, "accepted", ""));
    let again = eventually("room", || {
        let answer = server.postback(&too_much);
        (answer.http.status == 200).then_some(answer)
    });
    assert_eq!(again.word("result"), "accepted", "nothing was kept of the one refused");
    assert_eq!(server.conversions("").len(), 2);
}

/// Visitors click until it is so.
pub fn click_until(server: &Server, is_so: impl FnMut() -> bool) {
    visit_until(server, "/c/sp7", is_so);
}

/// Visitors follow a link until it is so.
fn visit_until(server: &Server, link: &str, mut is_so: impl FnMut() -> bool) {
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let _stop = StopOnDrop(&stop);
        for _ in 0..16 {
            scope.spawn(|| {
                let mut visitor = server.connect();
                while !stop.load(Ordering::Relaxed) {
                    visit(&mut visitor, link, 32);
                }
            });
        }
        eventually("enough clicks", || is_so().then_some(()));
    });
}

/// So many clicks at once on one connection.
fn visit(visitor: &mut Connection, link: &str, count: usize) {
    for _ in 0..count {
        visitor.ask("GET", link, "").expect("sent");
    }
    for _ in 0..count {
        assert_eq!(visitor.receive("GET").expect("an answer").status, 302);
    }
}

/// The disk fails under a postback: it is not acknowledged, the process ends with code 3, and the
/// next start has what was acknowledged, and counts the other once when it is sent again.
fn check_failure(fault: Fault) {
    let mut server = Setup::new().on_faulty_disk().start();
    server.await_own_commits();
    let click = server.click("id=sp7");
    let sale = |txn: &str| format!("click_id={click}&event=sale&txn_id={txn}");
    let before = server.postback(&sale("before"));
    assert_eq!(before.verdict(), (200, "accepted", ""));
    server.disk().break_down(fault, None);
    is_poisoned(&server.postback(&sale("failed")));
    assert_eq!(server.wait().code(), Some(3));
    server.disk().repair();
    server.disk_mut().lose_unsynced();
    server.start_again();
    let again = server.postback(&sale("before"));
    assert_eq!(again.verdict(), (200, "duplicate", ""));
    assert_eq!(again.word("conversion_id"), before.word("conversion_id"));
    assert_eq!(server.postback(&sale("failed")).verdict(), (200, "accepted", ""));
    assert_eq!(server.conversions("").len(), 2);
}

#[test]
fn a_sync_that_fails_acknowledges_nothing() {
    check_failure(Fault::SyncsFail);
}

#[test]
fn a_full_disk_that_nobody_foresaw_acknowledges_nothing() {
    check_failure(Fault::NoSpace);
}

#[test]
fn a_write_that_fails_acknowledges_nothing() {
    check_failure(Fault::WritesFail);
}

/// What a server has acknowledged: by transaction, the conversion's ID.
type Told = Vec<(String, String)>;

fn sale(server: &Server, click: &str, txn: String, told: &mut Told) -> Answer {
    try_sale(server, click, txn, told).expect("an answer")
}

/// As [`sale`], of a server that may have ended by now.
fn try_sale(server: &Server, click: &str, txn: String, told: &mut Told) -> std::io::Result<Answer> {
    let target = format!("/postback?click_id={click}&event=sale&txn_id={txn}");
    let mut sender = Connection::try_open(server.public)?;
    let answer = Answer::of(sender.request("GET", &target, "Connection: close\r\n")?);
    if answer.http.status == 200 {
        told.push((txn, answer.word("conversion_id").to_owned()));
    }
    Ok(answer)
}

fn check_kept(server: &Server, click: &str, told: &Told) {
    for (txn, id) in told {
        let again = server.postback(&format!("click_id={click}&event=sale&txn_id={txn}"));
        assert_eq!(again.verdict(), (200, "duplicate", ""), "{txn}");
        assert_eq!(again.word("conversion_id"), id, "{txn}");
    }
    assert_eq!(server.conversions("").len(), told.len());
}

/// The disk fails for one kind of file while memtables are written out: the process ends with
/// code 3, and what was acknowledged until then is kept.
fn check_failure_of(kind: FileKind, fault: Fault) {
    let mut server = Setup::new().on_faulty_disk().start();
    server.await_own_commits();
    let click = server.click("id=sp7");
    let mut told = Told::new();
    sale(&server, &click, "before".to_owned(), &mut told);
    server.disk().break_down(fault, Some(kind));
    let poisoned = eventually("a failure", || {
        server.try_flush();
        let answer = try_sale(&server, &click, format!("T-{}", told.len()), &mut told);
        (!answer.as_ref().is_ok_and(|answer| answer.http.status == 200)).then_some(answer)
    });
    // The entry of the audit log about the flush may find the failure before the postback does;
    // then the server is about to end, and may have closed its door already.
    if let Ok(poisoned) = poisoned {
        is_poisoned(&poisoned);
    }
    assert_eq!(server.wait().code(), Some(3), "{kind:?} {fault:?}");
    server.disk().repair();
    server.disk_mut().lose_unsynced();
    server.start_again();
    check_kept(&server, &click, &told);
}

#[test]
fn a_table_that_cannot_be_written_poisons_the_store() {
    check_failure_of(FileKind::Table, Fault::WritesFail);
    check_failure_of(FileKind::Table, Fault::NoSpace);
    check_failure_of(FileKind::Table, Fault::SyncsFail);
}

#[test]
fn a_manifest_that_cannot_be_written_poisons_the_store() {
    check_failure_of(FileKind::Manifest, Fault::WritesFail);
    check_failure_of(FileKind::Manifest, Fault::NoSpace);
    check_failure_of(FileKind::Manifest, Fault::SyncsFail);
}

#[test]
fn a_log_or_table_that_cannot_be_begun_poisons_the_store() {
    check_failure_of(FileKind::Log, Fault::NoNames);
    check_failure_of(FileKind::Table, Fault::NoNames);
}

#[test]
fn a_folder_that_cannot_be_synced_poisons_the_store() {
    check_failure_of(FileKind::Folder, Fault::SyncsFail);
}

#[test]
fn writes_in_pieces_leave_nothing_by_half() {
    let mut server = Setup::new().on_faulty_disk().start();
    let click = server.click("id=sp7");
    server.kill();
    server.disk().break_down(Fault::InPieces, None);
    let mut told = Told::new();
    for round in 0..3 {
        server.start_again();
        for n in 0..20 {
            let answer = sale(&server, &click, format!("T-{round}-{n}"), &mut told);
            assert_eq!(answer.verdict(), (200, "accepted", ""));
        }
        eventually("a flush", || server.try_flush().then_some(()));
        // A second one begins when the first has ended.
        eventually("a flush", || server.try_flush().then_some(()));
        server.kill();
        server.disk_mut().lose_unsynced();
        let verified = run(&server.path("."), &["verify", "--store", "data"]);
        assert_eq!(verified.code, Some(0), "{}{}", verified.out, verified.err);
    }
    server.start_again();
    check_kept(&server, &click, &told);
}

#[test]
fn a_store_that_cannot_be_read_is_not_served_in_part() {
    for kind in [FileKind::Log, FileKind::Manifest, FileKind::Current, FileKind::Table] {
        let mut server = Setup::new().on_faulty_disk().start();
        let click = server.click("id=sp7");
        let mut told = Told::new();
        for n in 0..2 {
            // A start makes tables of the log that it finds.
            let answer = sale(&server, &click, format!("T-{n}"), &mut told);
            assert_eq!(answer.verdict(), (200, "accepted", ""));
            server.kill();
            if n == 0 {
                server.start_again();
            }
        }
        server.disk().fail_reads(kind);
        server.launch();
        let status = server.ended_or_ready();
        let log = server.log();
        assert_eq!(status.and_then(|status| status.code()), Some(1), "{kind:?}: {log}");
        let said = log.contains("cannot start") && log.contains("Input/output error");
        assert!(said, "{kind:?}: {log}");
        server.disk().repair();
        server.start_again();
        check_kept(&server, &click, &told);
    }
}

#[test]
fn tables_that_are_never_written_out_keep_no_postback_waiting_however_many_logs_are_full() {
    let setup = Setup::new().on_faulty_disk().key("click.ack_deadline", "50ms");
    let mut server = setup.start();
    server.await_own_commits();
    let click = server.click("id=sp7");
    let mut told = Told::new();
    // The disk hangs under the engine's own threads alone.
    server.disk().break_down(Fault::SyncsHang, Some(FileKind::Table));
    let value = "v".repeat(VALUE_BYTES_MAX);
    let subs: String = (1..=10).map(|n| format!("&sub{n}={value}")).collect();
    // Two logs full, and some more: by the second, no other table can be written out.
    let enough = (2 * LOG_FILE_BYTES + (16 << 20)) as f64;
    visit_until(&server, &format!("/click?id=sp7{subs}"), || {
        let answer = sale(&server, &click, format!("T-{}", told.len()), &mut told);
        assert_eq!(answer.verdict(), (200, "accepted", ""), "{}", told.len());
        // Of all that are in memory, since none can leave it.
        server.metric("postbackd_rocksdb_memtable_bytes{table=\"clicks\"}") >= enough
    });
    assert_eq!(server.metric("postbackd_rocksdb_table_bytes{table=\"clicks\"}"), 0.0);
    server.kill();
    server.disk().repair();
    server.disk_mut().lose_unsynced();
    server.start_again();
    check_kept(&server, &click, &told);
}

/// On a disk that hangs, with `before_stop` done to it, SIGTERM ends the process by its deadline.
fn check_stop(before_stop: impl FnOnce(&Server)) -> (Server, ExitStatus) {
    let setup = Setup::new().on_faulty_disk().key("click.ack_deadline", "1ms");
    let mut server = setup.key("server.drain_deadline", "3s").start();
    server.await_own_commits();
    let click = server.click("id=sp7");
    let mut told = Told::new();
    sale(&server, &click, "before".to_owned(), &mut told);
    server.disk().break_down(Fault::SyncsHang, None);
    let mut waiting = server.connect();
    let held = format!("/postback?click_id={click}&event=sale&txn_id=held");
    waiting.ask("GET", &held, "").expect("sent");
    before_stop(&server);
    let stopping = Instant::now();
    let status = server.stop();
    let took = stopping.elapsed();
    assert!(took < Duration::from_secs(6), "{took:?}");
    assert!(!status.success());
    let log = server.log();
    assert!(log.contains("the store is not closed: the disk hangs"), "{log}");
    assert_eq!(waiting.rest().expect("closed"), b"", "it was not acknowledged");

    server.disk().repair();
    server.disk_mut().lose_unsynced();
    server.start_again();
    check_kept(&server, &click, &told);
    sale(&server, &click, "held".to_owned(), &mut told);
    check_kept(&server, &click, &told);
    (server, status)
}

#[test]
fn a_disk_that_hangs_does_not_hold_the_end_up() {
    let (_server, status) = check_stop(|server| {
        assert_eq!(server.get("/c/sp7").status, 302, "the visitor goes on");
    });
    assert_eq!(status.code(), Some(3));
}

#[test]
fn a_disk_that_hangs_under_the_engine_s_own_threads_does_not_hold_the_end_up() {
    check_stop(|server| {
        eventually("a flush", || server.try_flush().then_some(()));
        // It is at it still: the disk hangs.
        assert!(!server.try_flush());
    });
}
