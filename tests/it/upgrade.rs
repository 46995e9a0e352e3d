//! Stores that earlier builds wrote themselves, the last one of each format, are taken over whole:
//! what was answered then is there, and is answered so again.
//!
//! The builds are those of commits 37cfbef, dc93509, 410a5a2, 50998e2 and 65d6733. Each served its
//! store twice, on 20 and 21 November 2026, by a catalog such as is beside them: ended by SIGTERM
//! the first time, and then killed, so that the log holds what no table does and the newest
//! conversions have no index rows. `answers.json` is what was answered then, and how clicks and
//! conversions stood at the end. In that of format 5 one customer was erased, and a conversion came by
//! a clock that was set back into a sealed day.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use postbackd::store::claim::{Claim, ClaimSet};
use postbackd::store::engine::{Batch, Direction, Engine as _};
use postbackd::store::records::ConversionRecord;
use postbackd::store::schema::Table;
use postbackd::store::{FORMAT_VERSION, RocksEngine, database_folder, keys};
use postbackd::time::Clock;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::harness::{Answer, FileKind, Server, Setup, Step, copy_tree, eventually, run};
use crate::report_sums::micros;
use crate::rng::Rng;
use crate::verify::verify;

/// The last evening of the stores, 2026-11-21T20:00:00Z, Unix milliseconds.
const EVENING_MS: i64 = 1_795_291_200_000;
const DAY_MS: i64 = 24 * 60 * 60 * 1000;
const AFFILIATES: [&str; 2] = ["pub-7", "pub-8"];
const CATALOG: &str = include_str!("../fixtures/stores/catalog.toml");

fn folder(format: u32) -> PathBuf {
    let stores = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/stores");
    stores.join(format!("format-{format}"))
}

/// A copy of a store.
fn copy_of(format: u32) -> TempDir {
    let copy = tempfile::tempdir().expect("a folder");
    copy_tree(&folder(format).join("db"), &database_folder(copy.path()));
    copy
}

/// What was answered then.
struct Then {
    format: u32,
    clicks: Vec<Value>,
    postbacks: Vec<Value>,
    conversions: Vec<Value>,
    seals: Value,
}

impl Then {
    fn read(format: u32) -> Self {
        let text = std::fs::read(folder(format).join("answers.json")).expect("readable");
        let all: Value = serde_json::from_slice(&text).expect("JSON");
        assert_eq!(all["format"], format);
        let list = |name: &str| all[name].as_array().expect("a list").clone();
        Self {
            format,
            clicks: list("clicks"),
            postbacks: list("postbacks"),
            conversions: list("conversions"),
            seals: all["seals"].clone(),
        }
    }

    /// Clicks without a conversion.
    fn unconverted(&self) -> Vec<&str> {
        let converted: BTreeSet<_> =
            self.conversions.iter().map(|it| word(it, "click_id")).collect();
        let clicks = self.clicks.iter().map(|click| word(click, "click_id"));
        clicks.filter(|click| !converted.contains(click)).collect()
    }

    /// The conversion of a transaction.
    fn conversion(&self, txn_id: &str) -> Option<&Value> {
        self.conversions.iter().find(|it| it["txn_id"] == txn_id)
    }
}

fn word<'v>(value: &'v Value, name: &str) -> &'v str {
    value[name].as_str().unwrap_or_default()
}

fn send(server: &Server, target: &str) -> Answer {
    Answer::of(server.get(target))
}

/// Each click, with what it was minted with, unless that was erased.
fn clicks_are_there(server: &Server, then: &Then) {
    for click in &then.clicks {
        let shown = server.api(&format!("clicks/{}", word(click, "click_id")));
        for name in ["click_id", "offer", "affiliate"] {
            assert_eq!(shown[name], click[name], "format {}: {shown}", then.format);
        }
        assert_eq!(shown["subs"]["sub1"], click["sub1"], "format {}: {shown}", then.format);
    }
}

/// Each conversion once and as it was, and no other.
fn conversions_are_as_they_were(server: &Server, then: &Then) {
    let now = server.conversions("");
    let ids = |all: &[Value]| all.iter().map(|it| word(it, "conversion_id").to_owned()).collect();
    let (listed, expected): (Vec<_>, Vec<_>) = (ids(&now), ids(&then.conversions));
    assert_eq!(listed, expected, "format {}", then.format);
    for (shown, was) in now.iter().zip(&then.conversions) {
        let trace = server.api(&format!("trace/{}", word(was, "click_id")));
        let entries = trace["entries"].as_array().expect("a list").iter();
        let is_it = |entry: &&Value| entry["record"]["conversion_id"] == was["conversion_id"];
        let led = entries.filter(|entry| entry["kind"] == "conversion").filter(is_it).count();
        assert_eq!(led, 1, "format {}: {trace}", then.format);
        for (name, value) in was.as_object().expect("an object") {
            if name == "steps" {
                let history = shown["history"].as_array().expect("a list").iter();
                let steps: Value = history.map(|step| step["status"].clone()).collect();
                assert_eq!(steps, *value, "format {}: {shown}", then.format);
                continue;
            }
            assert_eq!(shown[name], *value, "format {}, {name}: {shown}", then.format);
        }
    }
}

/// What was refused is counted and listed, as far as builds of the format did.
fn refusals_are_kept(server: &Server, then: &Then) {
    let refused = then.postbacks.iter().filter(|sent| sent["result"] == "refused").count();
    let report = server.api("reports/refusals?group_by=&from=2026-11-20&to=2026-11-21");
    let rows = report["rows"].as_array().expect("a list").iter();
    let counted: u64 = rows.map(|row| row["count"].as_u64().expect("a number")).sum();
    let expected = if then.format >= 4 { refused } else { 0 };
    assert_eq!(counted, expected as u64, "format {}: {report}", then.format);
    let listed = server.api("inbound?result=refused&from=2026-11-20")["items"].clone();
    let expected = if then.format >= 5 { refused } else { 0 };
    assert_eq!(listed.as_array().map(Vec::len), Some(expected), "format {}", then.format);
}

/// Each postback, sent again, is one of the same conversion, or refused for the same reason.
fn retries_are_known(server: &Server, then: &Then) {
    let before = server.conversions("").len();
    for sent in &then.postbacks {
        let again = send(server, word(sent, "target"));
        let told = format!("format {}: {sent}: {again:?}", then.format);
        if sent["result"] == "refused" {
            assert_eq!(again.word("reason"), word(sent, "reason"), "{told}");
        } else {
            assert_eq!(again.verdict(), (200, "duplicate", ""), "{told}");
            assert_eq!(again.json["conversion_id"], sent["conversion_id"], "{told}");
        }
    }
    assert_eq!(server.conversions("").len(), before, "format {}", then.format);
}

/// What affiliates are owed, what reports count, and what conversions earn, are the same.
fn books_and_reports_agree(server: &Server, then: &Then, clicks: usize) {
    let conversions = server.conversions("");
    let is_sold = |it: &&Value| it["event"] != "refund";
    for affiliate in AFFILIATES {
        let earned = conversions.iter().filter(is_sold);
        let earned = earned.filter(|it| it["affiliate"] == affiliate && it["status"] == "approved");
        let earned: i64 = earned.map(|it| micros(&it["payout"])).sum();
        let balances = server.api(&format!("balances?affiliate={affiliate}"));
        assert_eq!(balances["balances"].as_array().map(Vec::len), Some(1), "{balances}");
        let owed = micros(&balances["balances"][0]["owed"]);
        assert_eq!(owed, earned, "format {}: {balances}", then.format);
        let mut posted = 0;
        for posting in server.api(&format!("ledger?limit=1000&affiliate={affiliate}"))["items"]
            .as_array()
            .expect("a list")
        {
            let entries = posting["entries"].as_object().expect("three accounts");
            assert_eq!(entries.values().map(micros).sum::<i64>(), 0, "{posting}");
            posted -= micros(&posting["entries"]["affiliate_payable"]);
        }
        assert_eq!(posted, earned, "format {}", then.format);
    }
    let report = server.api("reports?group_by=&from=2026-11-20&to=2026-11-23");
    let totals = &report["totals"][0];
    let mut counted = BTreeMap::from([("clicks", clicks), ("fallbacks", 0)]);
    for status in ["pending", "approved", "rejected", "reversed"] {
        let count = conversions.iter().filter(is_sold).filter(|it| it["status"] == status).count();
        counted.insert(status, count);
    }
    counted.insert("negative", conversions.len() - conversions.iter().filter(is_sold).count());
    for (name, count) in counted {
        assert_eq!(totals[name], count, "format {}: {name} in {report}", then.format);
    }
    let approved = conversions.iter().filter(is_sold).filter(|it| it["status"] == "approved");
    let approved: i64 = approved.map(|it| micros(&it["payout"])).sum();
    assert_eq!(micros(&totals["approved_payout"]), approved, "format {}: {report}", then.format);
}

/// The server and the store go on from there: sales of old clicks and customers, approvals, rates
/// that were waited for. Returns how many clicks it has made.
fn it_goes_on(server: &Server, then: &Then) -> usize {
    let sold = |target: &str, result: &str| {
        let answer = send(server, target);
        let verdict = (200, result, "");
        assert_eq!(answer.verdict(), verdict, "format {}: {target}: {answer:?}", then.format);
    };
    let unconverted = then.unconverted();
    assert!(unconverted.len() > 3, "format {}", then.format);
    sold(&format!("/postback?click_id={}&event=sale&txn_id=N-1", unconverted[0]), "accepted");
    sold(&format!("/postback?click_id={}&event=sale", unconverted[1]), "accepted");
    // Builds before format 4 bound no customers: their conversions are the customer's, and the
    // next one with a click binds it.
    let is_bound = then.format >= 4;
    let by_customer = "/postback/acme?customer_id=K-1&event=sale&txn_id=N-2";
    if !is_bound {
        let unbound = send(server, by_customer);
        assert_eq!(unbound.verdict(), (404, "refused", "unknown_customer"), "{unbound:?}");
        let binds = "event=sale&txn_id=N-3&customer_id=K-1";
        sold(&format!("/postback?click_id={}&{binds}", unconverted[2]), "accepted");
    }
    sold(by_customer, "accepted");
    let customer = server.api("customers/acme/K-1");
    let first = then.conversion("A-7").expect("the customer's first");
    let of_customer = customer["conversions"].as_array().expect("a list");
    assert_eq!(of_customer[0]["conversion_id"], first["conversion_id"], "{customer}");
    assert_eq!(of_customer.len(), 3, "format {}: {customer}", then.format);
    assert_eq!(customer["conversion_id"] == first["conversion_id"], is_bound, "{customer}");
    let pending: Vec<_> = then.conversions.iter().filter(|it| it["status"] == "pending").collect();
    assert_eq!(pending.is_empty(), then.format == 5, "format {}", then.format);
    for it in pending {
        let (click, txn_id) = (word(it, "click_id"), word(it, "txn_id"));
        let approval = "event=sale&status=approved";
        sold(&format!("/postback?click_id={click}&{approval}&txn_id={txn_id}"), "updated");
    }
    let refund = "event=refund&reversal_id=N-R&txn_id=A-1";
    let click = word(then.conversion("A-1").expect("sold"), "click_id");
    sold(&format!("/postback?click_id={click}&{refund}"), "accepted");
    let unpriced = || {
        server.conversions("").iter().filter(|it| it["flags"] == json!(["rate_missing"])).count()
    };
    assert_eq!(unpriced(), if then.format >= 2 { 2 } else { 0 }, "format {}", then.format);
    for day in ["2026-11-20", "2026-11-21"] {
        let rates = server.put_api(
            &format!("rates/{day}"),
            &json!({"base": "USD", "rates": {"EUR": "0.92", "GBP": "0.80"}}).to_string(),
        );
        assert_eq!(rates.status, 200, "{rates:?}");
    }
    eventually("the prices of what waited for rates", || (unpriced() == 0).then_some(()));
    if then.format >= 2 {
        let late = server.conversions("txn_id=O-2");
        assert_eq!(late[0]["payout"], "12.50", "format {}: {late:?}", then.format);
    }
    let fresh = server.click("offer=spring&aff=pub-7");
    sold(&format!("/postback?click_id={fresh}&event=sale&txn_id=N-4"), "accepted");
    1
}

/// The hashes that affiliates were given then are still those of their newest seals.
fn seals_hold(server: &Server, then: &Then) {
    assert_eq!(then.seals.as_object().map(|seals| !seals.is_empty()), Some(then.format >= 3));
    for (affiliate, hash) in then.seals.as_object().expect("by affiliate") {
        let balances = server.api(&format!("balances?affiliate={affiliate}"));
        let newest = &balances["newest_seal"];
        assert_eq!((&newest["day"], &newest["hash"]), (&"2026-11-20".into(), hash), "{balances}");
    }
}

fn is_sound(server: &mut Server, format: u32) {
    server.stop();
    let verified = run(&server.path("."), &["verify", "--store", "data"]);
    assert_eq!(verified.code, Some(0), "format {format}: {}", verified.said());
    let engine = RocksEngine::open(&database_folder(&server.path("data")), 8 << 20);
    let kept = engine.expect("opens").value(Table::Meta, keys::META_FORMAT).expect("readable");
    assert_eq!(kept, Some(FORMAT_VERSION.to_be_bytes().to_vec()));
}

#[test]
fn a_store_that_a_build_of_an_earlier_format_wrote_is_taken_over_whole() {
    let off_ms = EVENING_MS - i64::try_from(Clock::System.now_ms()).expect("a time");
    for format in 1..FORMAT_VERSION {
        let then = Then::read(format);
        let store = copy_of(format);
        let before = verify(store.path());
        assert_eq!(before.code, Some(1), "{}", before.out);
        let named = format!("the store has format {format}; start the server once");
        assert!(before.err.contains(&named), "{}", before.err);

        let setup = Setup::new().catalog(CATALOG.to_owned()).with_clock_off_by(off_ms);
        let mut server = setup.start_on(store.path());
        clicks_are_there(&server, &then);
        conversions_are_as_they_were(&server, &then);
        books_and_reports_agree(&server, &then, then.clicks.len());
        seals_hold(&server, &then);
        refusals_are_kept(&server, &then);
        retries_are_known(&server, &then);
        let clicks = then.clicks.len() + it_goes_on(&server, &then);
        books_and_reports_agree(&server, &then, clicks);
        is_sound(&mut server, format);

        // The next day, on which the one before is sealed.
        server.disk().shift_clock(off_ms + DAY_MS);
        server.start_again();
        retries_are_known(&server, &then);
        books_and_reports_agree(&server, &then, clicks);
        eventually("the seals of the last day", || {
            let newest = AFFILIATES.map(|it| server.api(&format!("balances?affiliate={it}")));
            let day = |it: &Value| it["newest_seal"]["day"] == "2026-11-21";
            newest.iter().all(day).then_some(())
        });
        is_sound(&mut server, format);
    }
}

/// Steps of a first start at which it can end.
const STEPS: [(FileKind, Step); 6] = [
    (FileKind::Log, Step::Written),
    (FileKind::Log, Step::Syncing),
    (FileKind::Table, Step::Named),
    (FileKind::Table, Step::Synced),
    (FileKind::Manifest, Step::Written),
    (FileKind::Manifest, Step::Synced),
];

/// Whether a store says that it has format 3, and some of its refunds hold their own IDs already.
fn is_half_way(database: &Path) -> bool {
    let copy = tempfile::tempdir().expect("a folder");
    copy_tree(database, &copy.path().join("db"));
    let engine = RocksEngine::open(&copy.path().join("db"), 8 << 20).expect("opens");
    let format = engine.value(Table::Meta, keys::META_FORMAT).expect("readable");
    let mut is_any = false;
    let scanned = engine.scan(
        Table::Conversions,
        &[],
        &keys::KEY_END,
        Direction::Ascending,
        &mut |_, value| {
            let record = ConversionRecord::decode(value).expect("readable");
            let claims = ClaimSet::of_record(&record);
            is_any |= claims.hard().any(|claim| matches!(claim, Claim::Reversal { .. }));
            ControlFlow::Continue(())
        },
    );
    scanned.expect("readable");
    is_any && format == Some(3_u32.to_be_bytes().to_vec())
}

#[test]
fn a_first_start_that_ends_half_way_is_finished_by_the_next_one() {
    let seed = std::process::id().into();
    println!("seed {seed}");
    let mut rng = Rng::new(seed);
    let off_ms = EVENING_MS - i64::try_from(Clock::System.now_ms()).expect("a time");
    let (then, store) = (Then::read(3), copy_of(3));
    let setup = Setup::new().catalog(CATALOG.to_owned()).with_clock_off_by(off_ms);
    let mut server = setup.start_on(store.path());
    server.kill();
    let mut half_way = 0;
    for (kind, step) in STEPS {
        for nth in 1..=3 {
            server.forget_all();
            copy_tree(&database_folder(store.path()), &server.path("data/db"));
            server.disk_mut().begin_anew();
            server.disk().kill_at(step, kind, nth);
            server.launch();
            if server.ended_or_ready().is_none() {
                // There are fewer such steps.
                server.kill();
            }
            if nth == 2 {
                server.disk_mut().cut_power(&mut rng);
            }
            half_way += usize::from(is_half_way(&server.path("data/db")));
            server.disk().repair();
            server.start_again();
            conversions_are_as_they_were(&server, &then);
            retries_are_known(&server, &then);
            books_and_reports_agree(&server, &then, then.clicks.len());
            is_sound(&mut server, 3);
        }
    }
    println!("{half_way} starts ended half way");
    assert!(half_way > 0);
}

#[test]
fn a_refund_of_format_3_with_its_sales_transaction_as_its_own_id_is_known_by_the_transaction() {
    let off_ms = EVENING_MS - i64::try_from(Clock::System.now_ms()).expect("a time");
    let (then, store) = (Then::read(3), copy_of(3));
    let setup = Setup::new().catalog(CATALOG.to_owned()).with_clock_off_by(off_ms);
    let server = setup.start_on(store.path());
    let click = word(then.conversion("A-11").expect("sold"), "click_id");
    // It may have come with a reversal_id of this number, or without one.
    let by_transaction = format!("/postback?click_id={click}&event=refund&txn_id=A-11");
    let with_both = format!("{by_transaction}&reversal_id=A-11");
    assert_eq!(send(&server, &by_transaction).verdict(), (200, "duplicate", ""));
    assert_eq!(send(&server, &with_both).verdict(), (409, "refused", "illegal_transition"));
    let params = "id = \"acme\"\nparams = { reversal_id = \"of_refund\" }\n";
    server.reload_catalog(&CATALOG.replacen("id = \"acme\"\n", params, 1));
    let with_both = with_both.replace("/postback?", "/postback/acme?");
    assert_eq!(send(&server, &with_both).verdict(), (200, "duplicate", ""));
}

#[test]
fn a_store_of_a_newer_format_is_refused_by_name_and_left_alone() {
    let folder = tempfile::tempdir().expect("a folder");
    let database = database_folder(folder.path());
    std::fs::create_dir_all(&database).expect("writable");
    let newer = FORMAT_VERSION + 1;
    {
        let engine = RocksEngine::open(&database, 8 << 20).expect("opens");
        let mut batch = Batch::default();
        batch.put(Table::Meta, keys::META_FORMAT, |out| out.extend(newer.to_be_bytes()));
        engine.append(&batch).and_then(|()| engine.sync()).expect("written");
    }
    let named = format!("the store has format {newer}, this release reads up to {FORMAT_VERSION}");
    let store = format!("[store]\npath = {:?}\n", folder.path());
    std::fs::write(folder.path().join("postbackd.toml"), store).expect("writable");
    for arguments in [&["serve", "--config", "postbackd.toml"][..], &["verify", "--store", "."]] {
        let ended = run(folder.path(), arguments);
        assert_eq!(ended.code, Some(1), "{arguments:?}");
        let said = format!("{}{}", ended.out, ended.err);
        assert!(said.contains(&named), "{arguments:?}: {said}");
    }
    let engine = RocksEngine::open(&database, 8 << 20).expect("opens");
    let kept = engine.value(Table::Meta, keys::META_FORMAT).expect("readable");
    assert_eq!(kept, Some(newer.to_be_bytes().to_vec()));
    assert_eq!(engine.value(Table::Meta, keys::META_STARTS).expect("readable"), None);
}
