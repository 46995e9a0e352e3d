//! Erasing somebody from the log of postbacks as received: refused ones that name the customer
//! alone, and pages that cannot be read.

use std::collections::BTreeSet;
use std::time::Instant;

use postbackd::click_id::RecordId;
use postbackd::limits::PAGE_ROWS_SCANNED_MAX;
use postbackd::model::hex::hex;
use postbackd::model::period::Quarter;
use postbackd::store::claim::Claim;
use postbackd::store::engine::{Batch, Direction, Engine};
use postbackd::store::keys::{self, first_at, inbound_page, inbound_page_of, inbound_pages_end};
use postbackd::store::records::{
    InboundHead, begin_inbound_page, decode_inbound_page, encode_inbound,
};
use postbackd::store::schema::Table;
use postbackd::store::{RocksEngine, database_folder};
use serde_json::{Value, json};

use crate::erase::{PERSON, accepted, assert_sound, casino, erase, found, janes_click, server};
use crate::harness::{PATIENCE, Server, Setup, eventually};
use crate::verify::open;

fn items(server: &Server, filter: &str) -> Vec<Value> {
    let page = server.api(&format!("inbound?limit=1000&{filter}"));
    page["items"].as_array().expect("items").clone()
}

/// Refused, and in the log.
fn refused(server: &Server, target: &str, reason: &str) {
    let before = items(server, "result=refused").len();
    let answer = server.get(target).json();
    assert_eq!(answer["reason"], reason, "{target}: {answer}");
    eventually("it is in the log", || {
        (items(server, "result=refused").len() > before).then_some(())
    });
}

#[test]
fn refused_postbacks_that_name_the_customer_alone_are_erased_with_it_and_no_others() {
    let catalog = "[[advertisers]]\nid = \"casino\"\n[[advertisers]]\nid = \"poker\"\n\
                   params = { customer_id = \"player\" }\n";
    let server = Setup::new().catalog(catalog.to_owned()).key("inbound.ip", "full").start();
    let customer = PERSON[3];
    for advertiser in ["casino", "poker"] {
        for name in ["customer_id", "player", "own"] {
            let target = format!("/postback/{advertiser}?event=bet&{name}={customer}&own2=1");
            let reason = match (advertiser, name) {
                ("casino", "customer_id") | ("poker", "player") => "unknown_customer",
                _ => "missing_click_id",
            };
            refused(&server, &target, reason);
        }
    }
    // Percent-encoded.
    refused(&server, "/postback/casino?customer_id=%71zWm81vKdT&event=bet", "unknown_customer");
    refused(&server, "/postback/casino?customer_id=other&event=bet", "unknown_customer");
    let body = json!({"advertiser": "casino", "customer_id": customer});
    erase(&server, &body);
    let rows = items(&server, "result=refused");
    assert_eq!(rows.len(), 8, "{rows:#?}");
    for row in &rows {
        let names = row["params"].as_array().expect("parameters").iter();
        let names: Vec<_> = names.map(|it| it["name"].as_str().expect("a name")).collect();
        let is_erased = row["erased"] == json!(true);
        assert_eq!(is_erased, names.is_empty(), "{row}");
        assert_eq!(is_erased, row["ip"].is_null(), "{row}");
        assert_eq!(is_erased, row["path"] == json!(""), "{row}");
        let is_of_other = row["advertiser"] == json!("poker")
            || names.contains(&"own")
            || names.contains(&"player")
            || row["params"].to_string().contains("other");
        assert_eq!(is_erased, !is_of_other, "{row}");
    }
    let erased = rows.iter().filter(|row| row["erased"] == json!(true)).count();
    assert_eq!(erased, 2, "{rows:#?}");
    // What is left is the other advertiser's customer, and what no name of the mapping says.
    erase(&server, &json!({"advertiser": "poker", "customer_id": customer}));
    let rows = items(&server, "advertiser=poker");
    let left: Vec<_> = rows.iter().filter(|row| row["erased"] == json!(false)).collect();
    assert_eq!(left.len(), 2, "{rows:#?}");
    assert!(left.iter().all(|row| !row["params"].to_string().contains("player")), "{left:#?}");
}

/// The rows that are left as they were.
fn whole(server: &Server) -> Vec<Value> {
    let rows = items(server, "");
    rows.into_iter().filter(|row| row["erased"] == json!(false)).collect()
}

#[test]
fn a_person_is_found_behind_what_cannot_be_read_and_beside_others() {
    let server = server();
    let click = janes_click(&server);
    let (customer, own) = (PERSON[6], PERSON[7]);
    let many: String = (0..70).map(|n| format!("x{n}=1&")).collect();
    let long = format!("sub1={}&", "x".repeat(600));
    let unreadable = [
        ("bad=%zz&", "bad_encoding"),
        ("%zz=1&", "bad_encoding"),
        ("bad=%ff&", "bad_encoding"),
        (&*long, "bad_encoding"),
        ("event=a&event=b&", "ambiguous_parameter"),
        (&*many, "too_many_parameters"),
    ];
    let check = |who: &str, others: &str, body: &Value| {
        for (before, reason) in unreadable {
            for said in [format!("{who}&own={own}"), format!("{others}&own=1")] {
                let answer = server.get(&format!("/postback/casino?{before}{said}")).json();
                assert_eq!(answer["reason"], reason, "{before}{said}: {answer}");
            }
        }
        eventually("they are in the log", || {
            (whole(&server).len() == 2 * unreadable.len()).then_some(())
        });
        erase(&server, body);
        let left = whole(&server);
        assert_eq!(left.len(), unreadable.len(), "{left:#?}");
        assert!(!Value::from(left).to_string().contains(own));
        // The others, which are nobody's that is known.
        erase(&server, &json!({"advertiser": "casino", "customer_id": "somebody-else"}));
        assert_eq!(whole(&server), [Value::Null; 0]);
    };
    let body = json!({"advertiser": "casino", "customer_id": customer});
    let others = "customer_id=somebody-else";
    check(&format!("customer_id={customer}"), others, &body);
    check(&format!("customer_id=%4Fe46nIbSla&{others}"), others, &body);
    check(&format!("{others}&customer_id={customer}"), others, &body);
    let body = json!({"click_id": click});
    check(&format!("click_id={click}"), others, &body);
    check(&format!("click_id=nonsense&click_id={click}"), others, &body);
    eventually("no text in any file", || {
        found(&server.path("data"), &[customer, own]).is_empty().then_some(())
    });
}

#[test]
fn a_click_id_within_other_text_or_under_another_name_leads_to_the_postback() {
    let server = server();
    let click = janes_click(&server);
    let own = PERSON[7];
    let (malformed, missing) = ("malformed_click_id", "missing_click_id");
    let said = [
        (format!("click_id=%22{click}%22"), malformed),
        (format!("click_id=x{click}"), malformed),
        (format!("click_id=id={click};x=1"), malformed),
        (format!("click_id=%7B{click}%7D&bad=%zz"), "bad_encoding"),
        (format!("their_click=%20{click}%0A"), missing),
        (format!("url=https%3A%2F%2Fshop.example%2F%3Fsubid%3D{click}"), missing),
    ];
    for (said, reason) in &said {
        refused(&server, &format!("/postback/casino?event=deposit&{said}&own={own}"), reason);
    }
    let body = format!("{{\"event\":\"deposit\",\"their\":[\"{click}\"],\"own\":\"{own}\"}}");
    let answer = server.connect().post("/postback/casino", "application/json", body.as_bytes());
    let answer = answer.expect("an answer").json();
    assert_eq!(answer["result"], "refused", "{answer}");
    eventually("it is in the log", || (whole(&server).len() == said.len() + 1).then_some(()));
    erase(&server, &json!({"click_id": click}));
    assert_eq!(whole(&server), [Value::Null; 0]);
}

#[test]
fn what_repeated_a_conversion_that_nobody_can_read_is_blanked() {
    let mut server = server();
    let click = janes_click(&server);
    let sale =
        |txn: &str, who: &str| format!("click_id={click}&event=deposit&txn_id={txn}&amount=1{who}");
    let ids = ["C-1", "C-2", "C-3", "C-4"].map(|txn| {
        let who = if txn == "C-4" { "jack" } else { "jane" };
        accepted(&server, &sale(txn, &format!("&customer_id={who}")))
    });
    // Nothing in it says whose it is.
    for txn in ["C-1", "C-2", "C-3", "C-4"] {
        let again = casino(&server, &sale(txn, &format!("&own={}-{txn}", PERSON[7])));
        assert_eq!(again.verdict(), (200, "duplicate", ""));
    }
    eventually("they are in the log", || {
        (items(&server, "result=duplicate").len() == 4).then_some(())
    });
    // A start files what is there.
    server.stop();
    server.start_again();
    server.stop();
    let key = |id: &str| *RecordId::parse(id.as_bytes()).expect("an ID").as_bytes();
    change(&server, |batch| {
        batch.put(Table::Conversions, &key(&ids[1]), |out| out.push(3));
        batch.delete(Table::Conversions, &key(&ids[2]));
    });
    server.start_again();
    let done = erase(&server, &json!({"advertiser": "casino", "customer_id": "jane"}));
    assert_eq!(done["damaged"], json!([{"table": "conversions", "key": ids[1]}]), "{done}");
    let left = items(&server, "result=duplicate");
    let left: Vec<_> = left.iter().filter(|row| row["erased"] == json!(false)).collect();
    assert_eq!(left.len(), 1, "{left:#?}");
    assert!(left[0]["params"].to_string().contains("C-4"), "{left:#?}");
}

#[test]
fn a_binding_that_cannot_be_read_is_named_and_keeps_nobody_from_being_erased() {
    let mut server = server();
    let click = janes_click(&server);
    let customer = PERSON[6];
    let sale = format!("click_id={click}&event=deposit&txn_id=B-1&amount=1&customer_id={customer}");
    let id = accepted(&server, &sale);
    server.stop();
    server.start_again();
    server.stop();
    let claim = Claim::Customer { advertiser: "casino", customer_id: customer, windows: None };
    let key = claim.store_key().0;
    change(&server, |batch| batch.put(Table::Customers, &key, |out| out.push(1)));
    server.start_again();
    let body = json!({"advertiser": "casino", "customer_id": customer});
    let done = erase(&server, &body);
    let named = json!([{"table": "customers", "key": hex(&key)}]);
    assert_eq!(
        done,
        json!({"clicks": 1, "conversions": 1, "damaged": named, "dry_run": false}),
        "{done}"
    );
    assert_eq!(server.api(&format!("conversions/{id}"))["flags"], json!(["erased"]));
    eventually("no text in any file", || {
        found(&server.path("data"), &[customer]).is_empty().then_some(())
    });
}

#[test]
fn news_of_a_conversion_is_erased_with_the_customer_that_it_names() {
    let server = server();
    let (customer, own) = (PERSON[6], PERSON[7]);
    let news = |txn: &str, said: &str| {
        let answer = casino(&server, &format!("event=deposit&txn_id={txn}&amount=2{said}"));
        assert_eq!(answer.verdict(), (200, "updated", ""), "{said}: {answer:?}");
    };
    // The conversions name nobody, or somebody else; nor is the click the customer's.
    let click = server.click("offer=roulette&aff=ann");
    for (txn, who) in [("N-1", ""), ("N-2", "&customer_id=jack")] {
        let sale = format!("click_id={click}&event=deposit&txn_id={txn}&amount=1{who}");
        accepted(&server, &sale);
        news(txn, &format!("&status=pending&customer_id={customer}&own={own}"));
        news(txn, "&status=approved&own=kept");
    }
    erase(&server, &json!({"advertiser": "casino", "customer_id": customer}));
    let left = whole(&server);
    assert_eq!(left.len(), 4, "{left:#?}");
    let left = Value::from(left).to_string();
    assert!(!left.contains(own) && left.contains("kept"), "{left}");
    eventually("no text in any file", || {
        found(&server.path("data"), &[customer, own]).is_empty().then_some(())
    });
}

#[test]
fn what_others_did_by_the_same_click_stays_in_the_log() {
    let server = server();
    let click = janes_click(&server);
    let sale = |who: &str| {
        format!("click_id={click}&event=deposit&txn_id=of-{who}&amount=1&customer_id={who}")
    };
    for who in ["jane", "jack"] {
        accepted(&server, &sale(who));
    }
    // In one page, as a rule.
    for who in ["jane", "jack", "jane", "jack"] {
        assert_eq!(casino(&server, &sale(who)).verdict(), (200, "duplicate", ""));
    }
    eventually("they are in the log", || {
        (items(&server, "result=duplicate").len() == 4).then_some(())
    });
    erase(&server, &json!({"advertiser": "casino", "customer_id": "jane"}));
    let rows = items(&server, "");
    assert_eq!(rows.len(), 6, "{rows:#?}");
    let of_jack = |row: &&Value| row["params"].to_string().contains("of-jack");
    let kept: Vec<_> = rows.iter().filter(of_jack).collect();
    assert_eq!(kept.len(), 3, "{rows:#?}");
    assert!(kept.iter().all(|row| row["erased"] == json!(false)), "{rows:#?}");
    assert!(!rows.iter().any(|row| row["params"].to_string().contains("jane")), "{rows:#?}");
}

#[test]
fn what_was_blanked_before_an_erasure_was_cut_short_is_written_out_by_the_next() {
    let mut server = server();
    let customer = PERSON[3];
    let target = format!("/postback/casino?event=bet&customer_id={customer}");
    refused(&server, &target, "unknown_customer");
    // Into table files, which a start leaves alone.
    server.stop();
    server.start_again();
    server.stop();
    let data = server.path("data");
    let other = std::fs::File::open(&data).expect("there");
    other.lock().expect("locked");
    server.start_again();
    let body = json!({"advertiser": "casino", "customer_id": customer});
    for round in ["a start", "who asks again"] {
        // After a start, the erasure that was begun before has its turn first.
        let begun = eventually("a turn", || {
            let begun = server.post_api("erase", "application/json", &body.to_string());
            (begun.status == 202).then_some(begun)
        });
        let job = server.ended(&begun);
        assert_eq!(job["status"], "failed", "a backup seems to be under way: {job}");
        assert_eq!(items(&server, "")[0]["erased"], json!(true), "{round}");
        assert!(!found(&data, &[customer]).is_empty(), "{round}");
        if round == "a start" {
            server.kill();
            server.start_again();
        }
    }
    drop(other);
    erase(&server, &body);
    eventually("no text in any file", || found(&data, &[customer]).is_empty().then_some(()));
}

/// Changes the database of a server that is stopped.
fn change(server: &Server, change: impl FnOnce(&mut Batch)) {
    let database = database_folder(&server.path("data"));
    let engine = RocksEngine::open(&database, 8 << 20).expect("nobody has it open");
    let mut batch = Batch::default();
    change(&mut batch);
    engine.append(&batch).and_then(|()| engine.sync()).expect("written");
}

/// Damages each page of the log that `is_meant` by its postbacks' parameters; their keys.
fn damage(server: &Server, is_meant: impl Fn(&str) -> bool) -> Vec<String> {
    let database = database_folder(&server.path("data"));
    let engine = RocksEngine::open(&database, 8 << 20).expect("nobody has it open");
    let (mut batch, mut keys) = (Batch::default(), Vec::new());
    let (from, to) = (inbound_page(&[0; 16]), inbound_pages_end());
    let mut visit = |key: &[u8], value: &[u8]| {
        assert!(inbound_page_of(key).is_some());
        let rows = decode_inbound_page(value).expect("sound");
        if rows.iter().any(|row| is_meant(row.text)) {
            batch.put(Table::Inbound, key, |out| out.extend_from_slice(&value[..value.len() - 1]));
            keys.push(hex(key));
        }
        std::ops::ControlFlow::Continue(())
    };
    let up = Direction::Ascending;
    engine.scan(Table::Inbound, &from, &to, up, &mut visit).expect("readable");
    engine.append(&batch).and_then(|()| engine.sync()).expect("written");
    keys
}

#[test]
fn a_damaged_page_hides_no_other_and_keeps_nobody_from_being_erased() {
    let mut server = server();
    let click = janes_click(&server);
    let customer = "customer_id=Jw85xCzQoh";
    let sale =
        |txn: &str| format!("click_id={click}&event=deposit&txn_id={txn}&amount=1&{customer}");
    let ids: Vec<_> = ["D-1", "D-2", "D-3"].iter().map(|it| accepted(&server, &sale(it))).collect();
    let again = casino(&server, &sale("D-2"));
    assert_eq!(again.verdict(), (200, "duplicate", ""));
    eventually("it is in the log", || {
        (items(&server, "result=duplicate").len() == 1).then_some(())
    });
    server.stop();
    let damaged = damage(&server, |text| text.contains("txn_id=D-2"));
    assert_eq!(damaged.len(), 2, "what it made, and what repeated it");
    server.start_again();
    let page = server.api("inbound");
    assert_eq!(page["damaged"], json!(damaged), "{page}");
    assert_eq!(page["items"].as_array().map(Vec::len), Some(2), "{page}");
    let first = server.api("inbound?limit=1");
    let next = first["next_cursor"].as_str().expect("a next one");
    let rest = server.api(&format!("inbound?limit=10&cursor={next}"));
    assert_eq!((&first["damaged"], &rest["damaged"]), (&json!([]), &json!(damaged)));
    // A trace shows all of its click, and what may be missing of it.
    for id in [&ids[0], &ids[1], &click] {
        let trace = server.api(&format!("trace/{id}"));
        let entries = trace["entries"].as_array().expect("entries").iter();
        let postbacks = entries.filter(|entry| entry["kind"] == json!("postback")).count();
        assert_eq!((postbacks, &trace["damaged"]), (2, &json!(damaged)), "{id}: {trace}");
    }
    let judged = server.work("reprocess", &json!({"from": "2020-01-01T00:00:00Z"}));
    assert_eq!(judged["damaged"], 2, "{judged}");

    let done = erase(&server, &json!({"advertiser": "casino", "customer_id": "Jw85xCzQoh"}));
    assert_eq!((&done["clicks"], &done["conversions"]), (&json!(1), &json!(3)), "{done}");
    let named = damaged.iter().map(|key| json!({"table": "inbound", "key": key}));
    assert_eq!(done["damaged"], Value::from_iter(named), "{done}");
    let rows = items(&server, "");
    assert!(rows.iter().all(|row| row["erased"] == json!(true)), "{rows:#?}");
    eventually("no text in any file", || {
        found(&server.path("data"), &["Jw85xCzQoh"]).is_empty().then_some(())
    });
    // What could not be read is no fault any more, and nothing is left to do.
    assert_sound(&server);
    let trace = server.api(&format!("trace/{click}"));
    assert_eq!(trace["damaged"], json!([]), "{trace}");
    server.kill();
    server.start_again();
    assert_sound(&server);
    let done = erase(&server, &json!({"click_id": click}));
    assert_eq!(done["damaged"], json!([]), "{done}");
}

#[test]
fn sums_that_cannot_be_read_keep_no_click_from_being_erased() {
    let mut server = server();
    let click = janes_click(&server);
    accepted(&server, &format!("click_id={click}&event=deposit&txn_id=S-1&amount=1"));
    server.stop();
    let store = open(&server.path("data"));
    store.catch_up(Instant::now() + PATIENCE).expect("counted");
    store.close();
    drop(store);
    let mut damaged = BTreeSet::new();
    {
        let engine = RocksEngine::open(&database_folder(&server.path("data")), 8 << 20);
        let (engine, mut batch) = (engine.expect("nobody has it open"), Batch::default());
        let (from, to) = (keys::sub_counters_from(Quarter::default()), keys::sub_counters_end());
        let mut visit = |key: &[u8], _: &[u8]| {
            let (place, sub) = keys::sub_of(key).expect("sums");
            assert_eq!(sub, Some(PERSON[3]));
            batch.put(Table::Counters, key, |out| out.push(1));
            damaged.insert(hex(&keys::sub_counter(place, Some(""))));
            std::ops::ControlFlow::Continue(())
        };
        let up = Direction::Ascending;
        engine.scan(Table::Counters, &from, &to, up, &mut visit).expect("readable");
        assert!(!damaged.is_empty(), "they are counted");
        engine.append(&batch).and_then(|()| engine.sync()).expect("written");
    }
    server.start_again();
    let done = erase(&server, &json!({"click_id": click}));
    let named = damaged.iter().map(|key| json!({"table": "counters", "key": key}));
    let named = Value::from_iter(named);
    assert_eq!(
        done,
        json!({"clicks": 1, "conversions": 1, "damaged": named, "dry_run": false}),
        "{done}"
    );
    // It was the last key of a table file: the manifest may name it until the next start.
    server.stop();
    server.start_again();
    eventually("no text in any file", || {
        found(&server.path("data"), &[PERSON[3]]).is_empty().then_some(())
    });
    assert_sound(&server);
}

#[test]
fn an_advertiser_that_only_old_postbacks_name_is_known_to_an_erasure() {
    let catalog = "[[advertisers]]\nid = \"casino\"\n[[advertisers]]\nid = \"poker\"\n";
    let mut server = Setup::new().catalog(catalog.to_owned()).start();
    let target = format!("/postback/poker?event=bet&customer_id={}", PERSON[3]);
    refused(&server, &target, "unknown_customer");
    server.write("catalog.toml", "[[advertisers]]\nid = \"casino\"\n");
    server.stop();
    // More than are looked at to see whether it is known.
    let (mut page, rows) = (Vec::new(), PAGE_ROWS_SCANNED_MAX / 2);
    begin_inbound_page(&mut page);
    let head = InboundHead { result: 3, ..InboundHead::default() };
    (0..rows).for_each(|_| encode_inbound(&head, |_| 0, &mut page));
    let now_ms = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let now_ms = now_ms.expect("after 1970").as_millis() as u64;
    change(&server, |batch| {
        for number in 0..2 {
            let key = inbound_page(&first_at(now_ms + number));
            batch.put(Table::Inbound, &key, |out| out.extend_from_slice(&page));
        }
    });
    server.start_again();
    let listed = server.admin("/api/v1/inbound?advertiser=poker");
    assert_eq!(listed.status, 404, "{listed:?}");
    let of = |advertiser: &str| json!({"advertiser": advertiser, "customer_id": PERSON[3]});
    let nobody = server.post_api("erase", "application/json", &of("nobody").to_string());
    assert_eq!(nobody.status, 404, "{nobody:?}");
    erase(&server, &of("poker"));
    eventually("no text in any file", || {
        found(&server.path("data"), &[PERSON[3]]).is_empty().then_some(())
    });
}
