//! Stopping on request, and taking a new catalog while running.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use postbackd::click_id::Minter;
use postbackd::model::ids::{AffiliateNumber, OfferNumber};
use postbackd::store::engine::Engine;
use postbackd::store::records::ClickRecord;
use postbackd::store::schema::Table;
use postbackd::store::{RocksEngine, database_folder};
use postbackd::time::Clock;
use serde_json::json;

use crate::harness::{Answer, CATALOG, Connection, Fault, FileKind, Server, Setup, eventually};

/// More than are looked through while a stop waits.
const CLICKS: usize = 6_000_000;

#[test]
fn a_request_under_way_is_answered_while_readiness_is_gone() {
    let mut server = Server::start();
    let click = server.click("id=sp7");
    let body = format!("click_id={click}&event=sale&txn_id=T");
    let (start, end) = body.split_at(10);
    let mut connection = server.connect();
    let head = "POST /postback HTTP/1.1\r\nHost: t\r\nExpect: 100-continue\r\n";
    connection.send(format!("{head}Content-Length: {}\r\n\r\n", body.len())).expect("sent");
    // The interim answer proves that the request is under way.
    assert_eq!(connection.receive("POST").expect("an interim answer").status, 100);
    connection.send(start).expect("sent");
    server.signal("TERM");
    let readiness = eventually("the drain", || {
        let answer = Connection::open(server.admin).request("GET", "/readyz", "").ok()?;
        (answer.status != 200).then_some(answer)
    });
    assert_eq!((readiness.status, readiness.text()), (503, "draining\n"));
    eventually("the closed door", || Connection::try_open(server.public).err());
    assert!(server.is_alive(), "it waits for the request");
    connection.send(end).expect("sent");
    let answer = Answer::of(connection.receive("POST").expect("an answer"));
    assert_eq!(answer.verdict(), (200, "accepted", ""));
    assert_eq!(server.wait().code(), Some(0));
    server.start_again();
    let kept = server.conversions("");
    assert_eq!(kept.len(), 1);
    assert_eq!(kept[0]["conversion_id"], answer.word("conversion_id"));
}

#[test]
fn sigterm_under_load_ends_with_code_0_and_everything_acknowledged_is_kept() {
    let mut server = Server::start();
    let click = server.click("id=sp7");
    let (public, acknowledged) = (server.public, Mutex::new(Vec::new()));
    let stop = AtomicBool::new(false);
    let code = std::thread::scope(|scope| {
        for number in 0..8 {
            let (click, acknowledged, stop) = (&click, &acknowledged, &stop);
            scope.spawn(move || {
                let Ok(mut connection) = Connection::try_open(public) else { return };
                for n in 0.. {
                    let target =
                        format!("/postback?click_id={click}&event=sale&txn_id={number}-{n}");
                    if stop.load(Ordering::Relaxed) {
                        return;
                    }
                    let Ok(answer) = connection.request("GET", &target, "") else { return };
                    let answer = Answer::of(answer);
                    if answer.word("result") == "accepted" {
                        let id = answer.word("conversion_id").to_owned();
                        acknowledged.lock().expect("not poisoned").push(id);
                    }
                    if answer.http.header("connection") == Some("close") {
                        return;
                    }
                }
            });
        }
        eventually("load", || (acknowledged.lock().expect("fine").len() > 500).then_some(()));
        let code = server.stop().code();
        stop.store(true, Ordering::Relaxed);
        code
    });
    assert_eq!(code, Some(0));
    let log = server.log();
    assert!(!log.contains("drain deadline") && !log.contains("ERROR"), "{log}");
    server.start_again();
    let mut kept: Vec<_> = server
        .conversions("")
        .iter()
        .filter_map(|conversion| conversion["conversion_id"].as_str().map(str::to_owned))
        .collect();
    let mut acknowledged = acknowledged.into_inner().expect("not poisoned");
    kept.sort_unstable();
    acknowledged.sort_unstable();
    assert_eq!(kept, acknowledged, "each request was either answered or never begun");
}

#[test]
fn a_connection_that_stays_open_does_not_hold_the_end_up() {
    let mut server = Server::start();
    let mut idle = server.connect();
    assert_eq!(idle.request("GET", "/c/sp7", "").expect("an answer").status, 302);
    let mut silent = server.connect();
    let started = std::time::Instant::now();
    assert_eq!(server.stop().code(), Some(0));
    assert!(started.elapsed().as_secs() < 9, "not the drain deadline: {:?}", started.elapsed());
    assert_eq!(idle.rest().expect("closed"), b"");
    assert_eq!(silent.rest().expect("closed"), b"");
}

#[test]
fn a_drain_has_a_deadline() {
    let mut server = crate::harness::Setup::new().key("server.drain_deadline", "200ms").start();
    let mut stuck = server.connect();
    stuck
        .send("POST /postback HTTP/1.1\r\nHost: t\r\nExpect: 100-continue\r\nContent-Length: 9\r\n\r\n")
        .expect("sent");
    assert_eq!(stuck.receive("POST").expect("an interim answer").status, 100);
    assert_eq!(server.stop().code(), Some(0));
    assert!(server.log().contains("connections still open are cut off"), "{}", server.log());
}

#[test]
fn sigint_ends_it_too() {
    let mut server = Server::start();
    server.signal("INT");
    assert_eq!(server.wait().code(), Some(0));
}

fn loads(server: &Server, result: &str) -> f64 {
    server.metric(&format!("postbackd_catalog_loads_total{{result=\"{result}\"}}"))
}

#[test]
fn sighup_brings_a_good_catalog_into_force_and_keeps_numbers() {
    let server = Server::start();
    let click = server.click("id=sp7");
    let before = server.catalog_version();
    assert_eq!(loads(&server, "applied"), 1.0);
    let added = "\n[[links]]\ncode = \"new\"\noffer = \"spring\"\naffiliate = \"pub-8\"\n";
    // The order of the entries is not what numbers them.
    let (advertisers, offers) = CATALOG.split_once("[[offers]]\nid = \"spring\"").expect("there");
    let new = format!(
        "{advertisers}[[offers]]\nid = \"first\"\nadvertiser = \"acme\"\n\
         url = \"https://shop.example/first?c={{click_id}}\"\n\n[[offers.events]]\nid = \"sale\"\n\n\
         [[offers]]\nid = \"spring\"{offers}{added}"
    );
    server.write_catalog(&new);
    server.signal("HUP");
    eventually("the new catalog", || (loads(&server, "applied") == 2.0).then_some(()));
    let after = server.api("catalog/versions")["items"][0].clone();
    assert_ne!(after["version"], before);
    assert_eq!(after["version"], server.catalog_version());
    assert_eq!((&after["links"], &after["offers"]), (&3.into(), &8.into()));
    assert_eq!(server.get("/c/new").status, 302);
    let old = server.postback(&format!("click_id={click}&event=sale&txn_id=1"));
    assert_eq!(old.verdict(), (200, "accepted", ""), "an old click is still the offer's");
    let kept = server.api(&format!("conversions/{}", old.word("conversion_id")));
    assert_eq!((&kept["offer"], &kept["catalog_version"]), (&"spring".into(), &after["version"]));
}

#[test]
fn sighup_leaves_the_old_catalog_in_force_when_the_new_one_is_bad() {
    let mut server = Server::start();
    let before = server.api("catalog/versions");
    server.write_catalog(&CATALOG.replace("advertiser = \"mapped\"", "advertiser = \"maped\""));
    server.signal("HUP");
    eventually("the refusal", || (loads(&server, "refused") == 1.0).then_some(()));
    assert_eq!(server.api("catalog/versions"), before);
    assert_eq!(server.click("offer=theirs&aff=pub-7").len(), 33);
    server.says("catalog not reloaded; the old one stays in force");
    server.says("is not among the advertisers; did you mean");
    std::fs::remove_file(server.path("catalog.toml")).expect("it was there");
    server.signal("HUP");
    eventually("the refusal", || (loads(&server, "refused") == 2.0).then_some(()));
    assert_eq!(server.api("catalog/versions"), before);
    server.write_catalog(CATALOG);
    server.signal("HUP");
    eventually("the good one", || (loads(&server, "applied") == 2.0).then_some(()));
    assert!(server.is_alive());
}

#[test]
fn a_stop_while_an_erasure_rewrites_files_is_clean_and_the_next_start_takes_it_up() {
    let mut server = Setup::new().on_faulty_disk().start();
    let click = server.click("id=sp7&sub1=somebody");
    server.disk().break_down(Fault::SyncsHang, Some(FileKind::Table));
    let whose = json!({ "click_id": click }).to_string();
    assert_eq!(server.post_api("erase", "application/json", &whose).status, 202);
    eventually("the click erased", || {
        let kept = server.admin(&format!("/api/v1/clicks/{click}"));
        (kept.json()["flags"] == json!(["erased"])).then_some(())
    });
    assert_eq!(server.api("jobs/1-1")["status"], "running");
    server.signal("TERM");
    server.says("draining");
    server.disk().repair();
    assert_eq!(server.wait().code(), Some(0), "{}", server.log());
    assert!(server.log().contains("will be tried again: the server stops"), "{}", server.log());
    server.start_again();
    let done = eventually("the erasure", || {
        let job = server.admin("/api/v1/jobs/2-1");
        (job.status == 200 && job.json()["status"] != "running").then(|| job.json())
    });
    assert_eq!((&done["kind"], &done["status"]), (&json!("erase"), &json!("succeeded")), "{done}");
}

#[test]
fn a_stop_while_a_copy_is_verified_is_clean() {
    let mut server = Server::start();
    assert_eq!(server.stop().code(), Some(0));
    {
        let minter = Minter::new(0, 1, 0);
        let (offer, affiliate) = (OfferNumber::new(1), AffiliateNumber::new(1));
        let (offer, affiliate) = offer.zip(affiliate).expect("valid");
        let now_ms = Clock::System.now_ms();
        let keys: Vec<_> = (0..CLICKS).map(|_| minter.mint(now_ms, offer, affiliate)).collect();
        let mut record = Vec::new();
        ClickRecord::default().encode(&mut record);
        let engine = RocksEngine::open(&database_folder(&server.path("data")), 8 << 20);
        let mut rows = keys.iter().map(|key| (&key.as_bytes()[..], &record[..]));
        engine.and_then(|engine| engine.file(Table::Clicks, &mut rows)).expect("written");
    }
    server.start_again();
    assert_eq!(server.post_api("verify", "application/json", "").status, 202);
    assert_eq!(server.api("jobs/2-1")["status"], "running");
    assert_eq!(server.stop().code(), Some(0), "{}", server.log());
    assert!(server.path("data/verify").exists(), "it was looked through too soon");
    server.start_again();
    eventually("what was left to go", || (!server.path("data/verify").exists()).then_some(()));
}
