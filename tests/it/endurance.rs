//! What a machine goes through: it is stopped and goes on, its clock is set, its disk fills up.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use crate::crash::StopOnDrop;
use crate::harness::{Answer, Connection, Server, Setup, eventually, run};
use crate::poison::is_poisoned;

const CLIENTS: usize = 8;
const HOUR_MS: i64 = 60 * 60 * 1000;

/// What a client was told, by transaction: click and conversion.
type Told = HashMap<String, (String, String)>;

/// Clicks and reports a sale, again and again, until told to stop or until the server ends. Every
/// click is redirected; a sale is accepted, or the store has failed.
fn client(
    server: &Server,
    (name, own): (&str, &str),
    stop: &AtomicBool,
    count: &AtomicUsize,
) -> Told {
    let (mut told, mut connection) = (Told::new(), server.connect());
    for n in 0.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let clicked = connection.request("GET", "/click?id=sp7&redirect=false", "");
        let Ok(clicked) = clicked else { break };
        assert_eq!(clicked.status, 200, "a visitor goes on");
        let click = clicked.json()["click_id"].as_str().expect("a click ID").to_owned();
        let txn = format!("{name}-{n}");
        let target = format!("/postback?click_id={click}&event=sale&txn_id={txn}{own}");
        let Ok(answer) = connection.request("GET", &target, "") else { break };
        let answer = Answer::of(answer);
        if answer.http.status != 200 {
            is_poisoned(&answer);
            break;
        }
        assert_eq!(answer.word("result"), "accepted", "{answer:?}");
        told.insert(txn, (click, answer.word("conversion_id").to_owned()));
        count.fetch_add(1, Ordering::Relaxed);
    }
    told
}

/// Does something under load; returns what clients were told. `during` waits for sales by a
/// function that it is given.
fn under_load(server: &Server, round: &str, during: impl FnOnce(&dyn Fn(usize))) -> Told {
    under_load_of(server, (round, ""), during)
}

/// The same, with parameters of its own in each sale.
fn under_load_of(
    server: &Server,
    (round, own): (&str, &str),
    during: impl FnOnce(&dyn Fn(usize)),
) -> Told {
    let (stop, count) = (AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        let _stop = StopOnDrop(&stop);
        let clients: Vec<_> = (0..CLIENTS)
            .map(|n| {
                let (name, stop, count) = (format!("{round}-{n}"), &stop, &count);
                scope.spawn(move || client(server, (&name, own), stop, count))
            })
            .collect();
        during(&|more| {
            let before = count.load(Ordering::Relaxed);
            eventually("sales", || (count.load(Ordering::Relaxed) >= before + more).then_some(()));
        });
        stop.store(true, Ordering::Relaxed);
        clients.into_iter().flat_map(|client| client.join().expect("as promised")).collect()
    })
}

/// Everything that was acknowledged is there, once, and is a duplicate when it is sent again;
/// beyond it only what may have been under way. The books are right.
fn check_kept(server: &mut Server, told: &Told, under_way: usize) {
    let kept = server.conversions("");
    let ids: HashSet<_> = kept.iter().map(|one| one["conversion_id"].to_string()).collect();
    assert_eq!(ids.len(), kept.len(), "an ID was given twice");
    let by_txn: HashMap<_, _> =
        kept.iter().map(|one| (one["txn_id"].as_str().expect("one"), one)).collect();
    assert_eq!(by_txn.len(), kept.len(), "a transaction was counted twice");
    let clicks: HashSet<_> = told.values().map(|(click, _)| click).collect();
    assert_eq!(clicks.len(), told.len(), "a click ID was given twice");
    let mut connection = server.connect();
    for (txn, (click, conversion)) in told {
        let kept = by_txn.get(txn.as_str()).unwrap_or_else(|| panic!("{txn} is lost"));
        assert_eq!(
            (&kept["conversion_id"], &kept["click_id"]),
            (&(**conversion).into(), &(**click).into())
        );
        let target = format!("/postback?click_id={click}&event=sale&txn_id={txn}");
        let again = Answer::of(connection.request("GET", &target, "").expect("an answer"));
        assert_eq!(again.verdict(), (200, "duplicate", ""), "{txn}");
        assert_eq!(again.word("conversion_id"), conversion, "{txn}");
    }
    assert!(kept.len() <= told.len() + under_way, "{} kept, {} told", kept.len(), told.len());
    drop(connection);
    assert_eq!(server.stop().code(), Some(0));
    let verified = run(&server.path("."), &["verify", "--store", "data"]);
    assert_eq!(verified.code, Some(0), "{}{}", verified.out, verified.err);
    println!("{} conversions acknowledged", told.len());
}

#[test]
fn a_process_that_is_stopped_for_seconds_goes_on_as_if_nothing_had_been() {
    let mut server = Server::start();
    let told = under_load(&server, "stopped", |sales| {
        for _ in 0..3 {
            sales(200);
            server.signal("STOP");
            // Nothing to wait for: this is what is tried.
            std::thread::sleep(Duration::from_secs(2));
            server.signal("CONT");
        }
        sales(200);
    });
    let failed = ["overloaded", "store_busy", "store_poisoned"]
        .map(|reason| format!("postbackd_postback_unavailable_total{{reason=\"{reason}\"}}"))
        .map(|series| server.metric(&series));
    assert_eq!(failed, [0.0; 3]);
    check_kept(&mut server, &told, 0);
}

#[test]
fn a_clock_that_is_set_forth_and_back_loses_and_doubles_nothing() {
    let mut server =
        Setup::new().on_faulty_disk().key("limits.postbacks_per_ip", "1000000/1s").start();
    let mut told = Told::new();
    let steps = [HOUR_MS, 0, -HOUR_MS, HOUR_MS, 24 * HOUR_MS, 0, 3, -3, 0];
    for (round, shift_ms) in steps.into_iter().enumerate() {
        told.extend(under_load(&server, &format!("shift-{round}"), |sales| {
            sales(60);
            server.disk().shift_clock(shift_ms);
            sales(60);
        }));
        // A process that begins behind the IDs of its store goes on after them.
        if round % 3 == 2 {
            server.kill();
            server.start_again();
        }
    }
    // IDs of one process are in the order in which they were given, whatever its clock says.
    let mut last = String::new();
    for shift_ms in [0, HOUR_MS, -HOUR_MS, 0] {
        server.disk().shift_clock(shift_ms);
        for _ in 0..20 {
            let click = server.click("id=sp7");
            assert!(click > last, "{click} after {last}");
            last = click;
        }
    }
    check_kept(&mut server, &told, 3 * CLIENTS);
}

#[test]
fn windows_are_those_of_the_clock_that_there_is() {
    const DAY_MS: i64 = 24 * HOUR_MS;
    let server = Setup::new().on_faulty_disk().start();
    let click = server.click("id=sp7");
    let sale = |txn: &str| server.postback(&format!("click_id={click}&event=sale&txn_id={txn}"));
    assert_eq!(sale("now").verdict(), (200, "accepted", ""));
    server.disk().shift_clock(31 * DAY_MS);
    assert_eq!(sale("late").verdict(), (410, "refused", "click_expired"));
    assert_eq!(sale("now").verdict(), (200, "duplicate", ""));
    server.disk().shift_clock(0);
    assert_eq!(sale("late").verdict(), (200, "accepted", ""), "nothing was kept of the refusal");
    // The click is in the future now: it is not too old.
    server.disk().shift_clock(-31 * DAY_MS);
    assert_eq!(sale("early").verdict(), (200, "accepted", ""));
    assert_eq!(sale("early").verdict(), (200, "duplicate", ""));
    assert_eq!(server.conversions("").len(), 3);
}

/// The disk fills up under load: clicks go on, nothing is answered by a 500, the process ends with
/// code 3. It does not start on the full disk; on one with space everything acknowledged is there.
fn check_full(server: &mut Server, fill: impl FnOnce(&Server), free: impl FnOnce(&Server)) {
    // Large ones: what the log has reserved of the disk is soon used up, too.
    let own: String = (0..12).map(|n| format!("&own{n}={}", "x".repeat(500))).collect();
    let told = under_load_of(server, ("until-full", &own), |sales| {
        sales(100);
        fill(server);
        eventually("the end of the space", || {
            let ready = Connection::try_open(server.admin)
                .and_then(|mut admin| admin.request("GET", "/readyz", ""));
            (!ready.is_ok_and(|answer| answer.status == 200)).then_some(())
        });
    });
    assert_eq!(server.wait().code(), Some(3), "{}", server.log());
    server.launch();
    if server.ended_or_ready().is_some() {
        assert!(server.log().contains("cannot start"), "{}", server.log());
    } else {
        // A store that has nothing to write at its start is served.
        server.kill();
    }
    free(server);
    server.start_again();
    check_kept(server, &told, CLIENTS);
}

#[test]
fn a_disk_filled_to_its_last_byte_loses_nothing_and_counts_once_when_there_is_space_again() {
    for left in [1, 777, 65_536, 300_000] {
        let mut server = Setup::new().on_faulty_disk().start();
        check_full(
            &mut server,
            |server| {
                server.disk().leave(left);
                // Tables and the manifest want some of it, too.
                server.try_flush();
            },
            |server| server.disk().repair(),
        );
    }
}

/// A file system of its own, a few dozen MiB, for the tests below: `POSTBACKD_SMALL_DISK`. They
/// fill it up. Without it the disk of the test before is full.
fn small_disk() -> Option<PathBuf> {
    std::env::var_os("POSTBACKD_SMALL_DISK").map(PathBuf::from)
}

/// Takes all space but so many bytes.
fn fill(filler: &Path, but: u64) {
    let mut file = File::create(filler).expect("a file");
    for size in [1 << 20, 1 << 10, 1] {
        while file.write_all(&vec![1; size]).is_ok() {}
    }
    let length = file.metadata().expect("a file").len();
    file.set_len(length.saturating_sub(but)).expect("shorter");
}

#[test]
fn a_real_file_system_filled_to_its_last_byte_loses_nothing() {
    let Some(disk) = small_disk() else { return };
    for left in [0, 1, 70_000, 400_000] {
        // What a run before has left.
        let _ = std::fs::remove_file(disk.join("filler"));
        let mut server = Setup::new().key("store.free_space_reserve", "0B").start_below(&disk);
        let filler = disk.join("filler");
        check_full(
            &mut server,
            |server| {
                fill(&filler, left);
                server.try_flush();
            },
            |_| std::fs::remove_file(&filler).expect("removable"),
        );
    }
}

#[test]
fn a_real_file_system_that_is_nearly_full_refuses_postbacks_until_there_is_space_again() {
    let Some(disk) = small_disk() else { return };
    let mut server = Setup::new().key("store.free_space_reserve", "8MiB").start_below(&disk);
    let (filler, mut told) = (disk.join("filler"), Told::new());
    let _ = std::fs::remove_file(&filler);
    told.extend(under_load(&server, "before", |sales| sales(100)));
    let click = server.click("id=sp7");
    let sale = format!("click_id={click}&event=sale&txn_id=full");
    fill(&filler, 4 << 20);
    eventually("a full disk", || (server.metric("postbackd_store_disk_full") == 1.0).then_some(()));
    assert_eq!(server.postback(&sale).verdict(), (503, "unavailable", "disk_full"));
    for _ in 0..100 {
        assert_eq!(server.get("/c/sp7").status, 302);
    }
    assert_eq!(server.admin("/readyz").status, 200);
    std::fs::remove_file(&filler).expect("removable");
    eventually("space again", || (server.postback(&sale).http.status == 200).then_some(()));
    told.extend(under_load(&server, "after", |sales| sales(100)));
    check_kept(&mut server, &told, 1);
}
