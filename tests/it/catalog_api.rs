//! The catalog by the API: replaced whole, by version, without a restart and without a request
//! going wrong.

use std::fmt::Write as _;
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use postbackd::auth::hash_text;
use postbackd::store::engine::{Batch, Engine as _};
use postbackd::store::schema::Table;
use postbackd::store::{RocksEngine, database_folder, keys};
use serde_json::{Value, json};

use crate::harness::{CATALOG, Connection, Response, Server, Setup, TOKEN, eventually, run};
use crate::verify::verify;

const TOML: &str = "application/toml";
const JSON: &str = "application/json";
/// The version of no catalog.
const NONE: &str = "If-Match: \"0000000000000000\"\r\n";

fn empty() -> Server {
    Setup::new().without_catalog_file().start()
}

/// Replaces whatever is in force; returns the new version.
fn replace(server: &Server, text: &str) -> String {
    let answer = server.put_catalog("", TOML, "If-Match: *\r\n", text);
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json()["version"].as_str().expect("a version").to_owned()
}

fn get(server: &Server, accept: &str) -> Response {
    server.admin_with("/api/v1/catalog", &format!("Accept: {accept}\r\n"))
}

/// Status and code of a refusal.
fn code(answer: &Response) -> (u16, String) {
    (answer.status, answer.json()["error"]["code"].as_str().unwrap_or_default().to_owned())
}

#[test]
fn a_catalog_by_the_api_is_in_force_at_once_and_after_a_restart() {
    let mut server = empty();
    let nothing = get(&server, TOML);
    assert_eq!((nothing.status, nothing.text()), (200, ""));
    assert_eq!(nothing.header("etag"), Some("\"0000000000000000\""));
    assert_eq!(get(&server, JSON).json(), json!({}));

    let answer = server.put_catalog("", TOML, NONE, CATALOG);
    assert_eq!(answer.status, 200, "{answer:?}");
    let version = answer.json()["version"].clone();
    let tag = format!("\"{}\"", version.as_str().expect("a version"));
    assert_eq!(answer.header("etag"), Some(&*tag));
    assert_eq!(version, server.catalog_version());
    let click = server.click("id=sp7");
    let sold = server.postback(&format!("click_id={click}&event=sale&txn_id=1"));
    assert_eq!(sold.verdict(), (200, "accepted", ""));
    let kept = server.api(&format!("conversions/{}", sold.word("conversion_id")));
    assert_eq!(kept["catalog_version"], version);

    server.kill();
    server.start_again();
    assert_eq!(server.catalog_version(), version);
    let again = get(&server, TOML);
    assert_eq!((again.text(), again.header("etag")), (CATALOG, Some(&*tag)));
    assert_eq!(again.header("content-type"), Some(TOML));
    let known = format!("If-None-Match: {tag}\r\n");
    assert_eq!(server.admin_with("/api/v1/catalog", &known).status, 304);
    let sold = server.postback(&format!("click_id={click}&event=sale&txn_id=2"));
    assert_eq!(sold.verdict(), (200, "accepted", ""), "the click of before is still known");
}

#[test]
fn who_asks_for_one_conversion_a_click_later_is_told_that_it_does_not_reach_back() {
    let server = empty();
    let catalog = |key: &str| {
        format!(
            "[[advertisers]]\nid = \"acme\"\n[[affiliates]]\nid = \"one\"\n[[offers]]\n\
             id = \"spring\"\nadvertiser = \"acme\"\nurl = \"https://a.example/{{click_id}}\"\n\
             {key}\n[[offers.events]]\nid = \"sale\"\n"
        )
    };
    replace(&server, &catalog(""));
    let click = server.click("offer=spring&aff=one");
    let sale = |txn_id| server.postback(&format!("click_id={click}&event=sale&txn_id={txn_id}"));
    assert_eq!(sale(1).word("result"), "accepted");
    let once = catalog("one_conversion_per_click = true");
    let expected = json!(["warning", 9, "offers[0] \"spring\".one_conversion_per_click"]);
    for query in ["?dry_run=true", ""] {
        let answer = server.put_catalog(query, TOML, "If-Match: *\r\n", &once).json();
        let warning = &answer["warnings"][0];
        let said = json!([warning["severity"], warning["line"], warning["key"]]);
        assert_eq!(said, expected, "{answer}");
    }
    assert_eq!([2, 3].map(|id| sale(id).word("result").to_owned()), ["accepted", "duplicate"]);
    let answer = server.put_catalog("", TOML, "If-Match: *\r\n", &once).json();
    assert_eq!(answer["warnings"], json!([]), "it is in force");
}

#[test]
fn toml_and_json_say_the_same_catalog() {
    let server = empty();
    replace(&server, CATALOG);
    let as_json = get(&server, JSON);
    assert_eq!(as_json.header("content-type"), Some(JSON));
    assert_eq!(as_json.json()["offers"][0]["events"][0]["payout"]["fixed"], "15.00");
    // What was given as TOML goes out as JSON, comes in as JSON, and goes out as TOML.
    let changes = |kind: &str, text: &str| {
        let answer = server.put_catalog("?dry_run=1", kind, "", text);
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.json()["changes"].clone()
    };
    let none = changes(TOML, CATALOG);
    assert_eq!(changes(JSON, as_json.text()), none);
    let answer = server.put_catalog("", JSON, "If-Match: *\r\n", as_json.text());
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(get(&server, JSON).text(), as_json.text());
    assert_eq!(changes(TOML, get(&server, TOML).text()), none);
    assert_eq!(changes(TOML, CATALOG), none);
    assert_eq!(server.click("id=sp7").len(), 33);
}

#[test]
fn a_catalog_with_mistakes_changes_nothing_and_all_of_them_are_listed() {
    let server = empty();
    let version = replace(&server, CATALOG);
    let toml = CATALOG.replace("advertiser = \"mapped\"", "advertiser = \"maped\"");
    let toml = toml.replace("status = \"blocked\"", "status = \"stopped\"");
    let json = r#"{
        "advertisers": [{"id": "acme", "preset": 5}],
        "offers": [{"id": "a", "id": "b", "advertiser": "acmee", "url": "https://a.example/{click_id}"}]
    }"#;
    let check = |kind: &str, text: &str, expected: Value| {
        for query in ["", "?dry_run=1"] {
            let answer = server.put_catalog(query, kind, "If-Match: *\r\n", text);
            assert_eq!(code(&answer), (400, "invalid_catalog".to_owned()), "{text}");
            let listed = answer.json()["error"]["mistakes"].clone();
            let shown = listed
                .as_array()
                .expect("a list")
                .iter()
                .map(|mistake| json!([mistake["line"], mistake["key"], mistake["message"]]));
            assert_eq!(Value::from_iter(shown), expected);
        }
        assert_eq!(server.catalog_version(), version);
    };
    let line = |of: &str| CATALOG.lines().position(|line| line == of).expect("there") + 1;
    check(
        TOML,
        &toml,
        json!([
            [
                line("advertiser = \"mapped\""),
                "offers[6] \"theirs\".advertiser",
                "\"maped\" is not among the advertisers; did you mean \"mapped\"?"
            ],
            [
                line("status = \"blocked\""),
                "affiliates[2] \"pub-9\".status",
                "\"stopped\" is not one of \"active\", \"blocked\""
            ],
        ]),
    );
    check(JSON, json, json!([[3, "", "duplicate key"]]));
    let json = json.replace("\"id\": \"a\", ", "");
    check(
        JSON,
        &json,
        json!([
            [
                2,
                "advertisers[0] \"acme\".preset",
                "must be a string: write it in quotes, not of type integer"
            ],
            [
                3,
                "offers[0] \"b\".advertiser",
                "\"acmee\" is not among the advertisers; did you mean \"acme\"?"
            ],
            [
                3,
                "offers[0] \"b\".events",
                "has no events: every postback for the offer will be refused"
            ],
        ]),
    );
    check(JSON, "{\"offers\": [", json!([[1, "", "EOF while parsing a list"]]));
    check(JSON, "[]", json!([[1, "", "must be an object"]]));
    check(TOML, "offers = 1\noffers = 2", json!([[2, "", "duplicate key"]]));
}

#[test]
fn only_the_version_named_is_replaced() {
    let server = empty();
    let first = replace(&server, CATALOG);
    let tag = format!("If-Match: \"{first}\"\r\n");
    let other = CATALOG.replace("15.00", "16.00");
    let check = |query: &str, kind: &str, headers: &str, expected: (u16, &str)| {
        let answer = server.put_catalog(query, kind, headers, &other);
        assert_eq!(code(&answer), (expected.0, expected.1.to_owned()), "{query} {headers}");
        assert_eq!(server.catalog_version(), first);
    };
    check("", TOML, "", (428, "precondition_required"));
    check("", TOML, NONE, (412, "stale_version"));
    check("", TOML, "If-Match: \"x\"\r\n", (412, "stale_version"));
    check("?dry_run=1", TOML, NONE, (412, "stale_version"));
    check("?dry_run=2", TOML, &tag, (400, "bad_parameter"));
    check("?dryrun=1", TOML, &tag, (400, "bad_parameter"));
    check("", "text/plain", &tag, (415, "unsupported_media_type"));
    let stale = server.put_catalog("", TOML, NONE, &other);
    assert_eq!(stale.json()["error"]["in_force"], first.as_str());
    let answer = server.put_catalog("", "Application/TOML; charset=utf-8", &tag, &other);
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(code(&server.put_catalog("", TOML, &tag, CATALOG)).0, 412, "it was the first's");
}

#[test]
fn a_catalog_too_large_is_refused_before_it_is_sent() {
    let server = empty();
    let mut admin = Connection::open(server.admin);
    let head = server.put_head("application/toml", "If-Match: *\r\nContent-Length: 300000000\r\n");
    admin.send(head).expect("sent");
    let answer = admin.receive("PUT").expect("an answer");
    assert_eq!(code(&answer), (413, "catalog_too_large".to_owned()));
}

#[test]
fn where_a_file_is_the_source_the_api_reads_and_compares_only() {
    let server = Server::start();
    let other = CATALOG.replace("15.00", "16.00");
    let refused = server.put_catalog("", TOML, "If-Match: *\r\n", &other);
    assert_eq!(code(&refused), (409, "catalog_is_a_file".to_owned()));
    assert_eq!(get(&server, TOML).text(), CATALOG);
    let compared = server.put_catalog("?dry_run=1", TOML, "", &other);
    assert_eq!(compared.json()["changes"]["offers"]["money"], 2);
    let versions = server.api("catalog/versions");
    assert_eq!(versions["items"][0]["source"], "file");
    assert_eq!(versions["items"].as_array().map(Vec::len), Some(1));
}

#[test]
fn a_dry_run_names_what_would_change_and_changes_nothing() {
    let server = empty();
    let version = replace(&server, CATALOG);
    let other = CATALOG
        .replace(
            "payout = { fixed = \"15.00\", currency = \"USD\" }",
            "payout = { fixed = \"16\" }",
        )
        .replace("id = \"pub-8\"", "id = \"pub-88\"")
        .replace("src={sub1}", "src={sub2}")
        .replace("code = \"sp7\"", "code = \"sp-7\"")
        .replace("hold = \"pending\"", "hold = \"rejected\"");
    let answer = server.put_catalog("?dry_run=1", TOML, "", &other);
    let money = |key: &str, from: Value, to: Value| json!({"key": key, "from": from, "to": to});
    let sale = [
        money("events.sale.payout.fixed", "15.00".into(), "16".into()),
        money("events.sale.payout.currency", "USD".into(), Value::Null),
    ];
    let keys = ["events.sale.payout.fixed", "events.sale.payout.currency"];
    let expected = json!({
        "advertisers": {"added": 0, "changed": 1, "removed": 0, "money": 1, "entries": [
            {"change": "changed", "id": "acme", "keys": ["statuses.hold"],
             "money": [money("statuses.hold", "pending".into(), "rejected".into())]},
        ]},
        "offers": {"added": 0, "changed": 2, "removed": 0, "money": 2, "entries": [
            {"change": "changed", "id": "spring", "keys": ["url", keys[0], keys[1]], "money": sale},
            {"change": "changed", "id": "lenient", "keys": keys, "money": sale},
        ]},
        "affiliates": {"added": 1, "changed": 0, "removed": 1, "money": 0, "entries": [
            {"change": "added", "id": "pub-88"}, {"change": "removed", "id": "pub-8"},
        ]},
        "links": {"added": 1, "changed": 0, "removed": 1, "money": 0, "entries": [
            {"change": "added", "id": "sp-7"}, {"change": "removed", "id": "sp7"},
        ]},
    });
    let said = answer.json();
    assert_eq!(said["changes"], expected);
    assert_eq!((&said["in_force"], &said["dry_run"]), (&version.as_str().into(), &true.into()));
    assert_eq!(server.catalog_version(), version);
    assert_eq!(server.get("/c/sp7").status, 302);
    assert_eq!(replace(&server, &other), said["version"].as_str().expect("a version"));
    assert_eq!(server.get("/c/sp-7").status, 302);
}

#[test]
fn what_is_missed_of_an_offer_or_event_that_is_removed_is_said_before() {
    let server = empty();
    let offer = |id: &str, events: &[&str]| {
        let events: String =
            events.iter().map(|event| format!("[[offers.events]]\nid = \"{event}\"\n")).collect();
        format!(
            "[[offers]]\nid = \"{id}\"\nadvertiser = \"a\"\n\
             url = \"https://a.example/?c={{click_id}}\"\n{events}"
        )
    };
    let base = "[[advertisers]]\nid = \"a\"\n[[affiliates]]\nid = \"pub-7\"\n";
    let before = format!("{base}{}{}", offer("one", &["sale"]), offer("two", &["lead", "sale"]));
    replace(&server, &before);
    let pending = ["one", "two"].map(|offer| {
        let click = server.click(&format!("offer={offer}&aff=pub-7"));
        let lead = format!("click_id={click}&event=sale&txn_id={offer}");
        assert_eq!(server.postback(&format!("{lead}&status=pending")).verdict().0, 200);
        lead
    });
    let after = format!("{base}{}", offer("two", &["lead"]));
    let warnings = json!([
        {"severity": "warning", "line": null, "key": "offers",
         "message": "\"one\" is removed: approvals and refunds of its conversions will be refused, unknown_offer, but for those that are uploaded without amounts; keep it, with status = \"paused\", as long as they may come"},
        {"severity": "warning", "line": 9, "key": "offers[0] \"two\".events",
         "message": "\"sale\" is removed: approvals and refunds of its conversions will be refused, unknown_event, but for those that are uploaded without amounts; keep it as long as they may come"},
    ]);
    let compared = server.put_catalog("?dry_run=1", TOML, "", &after).json();
    assert_eq!(compared["warnings"], warnings);
    let offers = &compared["changes"]["offers"];
    assert_eq!((&offers["removed"], &offers["money"]), (&json!(1), &json!(2)), "{offers}");
    let entries: Vec<_> = (0..2).map(|at| offers["entries"][at]["change"].clone()).collect();
    assert_eq!(entries, ["changed", "removed"]);
    let applied = server.put_catalog("", TOML, "If-Match: *\r\n", &after);
    assert_eq!(applied.json()["warnings"], warnings);
    for (known, reason) in pending.iter().zip(["unknown_offer", "unknown_event"]) {
        for status in ["approved", "reversed"] {
            let refused = server.postback(&format!("{known}&status={status}"));
            assert_eq!(refused.verdict(), (404, "refused", reason), "{known}");
        }
    }
    let again = server.put_catalog("?dry_run=1", TOML, "", &after).json();
    assert_eq!(again["warnings"], json!([]));
    let paused = before.replacen("id = \"one\"", "id = \"one\"\nstatus = \"paused\"", 1);
    replace(&server, &before);
    let compared = server.put_catalog("?dry_run=1", TOML, "", &paused).json();
    assert_eq!(compared["warnings"], json!([]));
    replace(&server, &paused);
    let approved = server.postback(&format!("{}&status=approved", pending[0]));
    assert_eq!(approved.verdict(), (200, "updated", ""));
}

#[test]
fn who_leaves_the_catalog_and_comes_back_has_the_number_of_before() {
    let server = empty();
    replace(&server, CATALOG);
    let click = server.click("offer=spring&aff=pub-8");
    let postback = |txn: &str| {
        let answer = server.postback(&format!("click_id={click}&event=sale&txn_id={txn}"));
        let id = answer.word("conversion_id").to_owned();
        (answer.verdict().0, answer.word("reason").to_owned(), id)
    };
    let small = |offer: &str, affiliate: &str| {
        format!(
            "[[advertisers]]\nid = \"acme\"\n[[offers]]\nid = \"{offer}\"\nadvertiser = \"acme\"\n\
             url = \"https://a.example/{{click_id}}\"\nevents = [{{ id = \"sale\" }}]\n\
             [[affiliates]]\nid = \"{affiliate}\"\n"
        )
    };
    replace(&server, &small("another", "another"));
    assert_eq!(postback("1").1, "unknown_offer", "nobody else got its number");
    assert_eq!(server.click("offer=another&aff=another").len(), 33);
    replace(&server, &small("spring", "someone"));
    replace(&server, &small("spring", "pub-8"));
    let (status, _, id) = postback("2");
    assert_eq!(status, 200);
    let kept = server.api(&format!("conversions/{id}"));
    assert_eq!((&kept["offer"], &kept["affiliate"]), (&"spring".into(), &"pub-8".into()));
}

#[test]
fn an_offer_stays_with_its_advertiser() {
    let server = empty();
    let version = replace(&server, CATALOG);
    let click = server.click("offer=spring&aff=pub-7");
    let sale = format!("click_id={click}&event=sale&txn_id=T-1");
    assert_eq!(server.postback(&sale).verdict(), (200, "accepted", ""));
    let at = CATALOG.find("id = \"spring\"").expect("the offer");
    let (before, offer) = CATALOG.split_at(at);
    let moved = format!("{before}{}", offer.replacen("\"acme\"", "\"mapped\"", 1));
    for query in ["", "?dry_run=1"] {
        let answer = server.put_catalog(query, TOML, "If-Match: *\r\n", &moved);
        assert_eq!(code(&answer), (400, "invalid_catalog".to_owned()));
        let mistake = &answer.json()["error"]["mistakes"][0];
        assert!(mistake["key"].as_str().expect("a key").ends_with("\"spring\".advertiser"));
        assert!(mistake["message"].as_str().expect("a text").contains("is of \"acme\""));
    }
    assert_eq!(server.api("catalog/versions")["in_force"], version);
    assert_eq!(server.postback(&sale).verdict(), (200, "duplicate", ""));
}

#[test]
fn readers_who_take_their_time_hold_their_places() {
    let server = empty();
    // More than all buffers on the way together.
    let padding = format!("# {}\n", "x".repeat(98)).repeat(160_000);
    let text = format!("{padding}{NO_OFFER}");
    replace(&server, &text);
    let ask = || {
        let stream = TcpStream::connect(server.admin).expect("it listens");
        socket2::SockRef::from(&stream).set_recv_buffer_size(64 << 10).expect("a small one");
        let answered = stream.try_clone().expect("a descriptor");
        let mut reader = Connection::of(stream).expect("a socket");
        let headers = format!("Authorization: Bearer {TOKEN}\r\nAccept: {TOML}\r\n");
        reader.ask("GET", "/api/v1/catalog", &headers).expect("it is sent");
        // The answer has begun.
        let mut head = [0; 1];
        assert_eq!(answered.peek(&mut head).expect("a first byte"), 1);
        reader
    };
    let readers = [ask(), ask()];
    let busy = || server.admin("/api/v1/catalog").status == 503;
    assert!(busy());
    // As long as they like, not only until all is handed on.
    std::thread::sleep(Duration::from_millis(300));
    assert!(busy());
    // Who may only look keeps nobody from pausing an offer.
    replace(&server, NO_OFFER);
    for mut reader in readers {
        let answer = reader.receive("GET").expect("an answer");
        assert_eq!((answer.status, answer.body.len()), (200, text.len()));
    }
    assert_eq!(server.admin("/api/v1/catalog").status, 200);
}

#[test]
fn a_secret_that_cannot_be_read_is_refused_from_the_first_catalog_on() {
    let server = empty();
    let auth = "auth = { tokens = [{ secret = \"env:NOT_SET_ANYWHERE\" }] }";
    let text = format!("[[advertisers]]\nid = \"acme\"\n{auth}\n");
    for before in [None, Some(NO_OFFER)] {
        if let Some(before) = before {
            replace(&server, before);
        }
        // A dry run says what would come of it.
        for query in ["?dry_run=1", ""] {
            let answer = server.put_catalog(query, TOML, "If-Match: *\r\n", &text);
            assert_eq!(code(&answer), (400, "invalid_catalog".to_owned()), "{query}");
        }
    }
}

#[test]
fn what_a_signal_has_refused_is_mended_by_the_api() {
    let server = empty();
    let refused = || server.metric("postbackd_file_refused{file=\"catalog\"}");
    server.write("secret", "a-token-of-acme");
    let secret = server.path("secret");
    let auth = format!("auth = {{ tokens = [{{ secret = \"file:{}\" }}] }}", secret.display());
    replace(&server, &format!("[[advertisers]]\nid = \"acme\"\n{auth}\n"));
    assert_eq!(refused(), 0.0);
    std::fs::remove_file(&secret).expect("it was there");
    server.signal("HUP");
    eventually("a refused catalog", || (refused() == 1.0).then_some(()));
    // One with mistakes mends nothing.
    let answer = server.put_catalog("", TOML, "If-Match: *\r\n", "[[advertisers]]\n");
    assert_eq!((answer.status, refused()), (400, 1.0));
    replace(&server, "[[advertisers]]\nid = \"acme\"\n");
    assert_eq!(refused(), 0.0);
}

#[test]
fn a_secret_that_cannot_be_read_is_an_error_of_whatever_would_replace_a_catalog() {
    let server = empty();
    server.write("secret", "a-token-of-acme");
    let secret = server.path("secret");
    let tokens = format!("tokens = [{{ secret = \"file:{}\" }}]", secret.display());
    // Nothing is lacking, but a warning comes before where something will be.
    let past = format!("{{ secret = \"{}\", until = \"2020-01-01\" }}", hash_text("t0ken"));
    let text = format!(
        "[[advertisers]]\nid = \"past\"\nauth = {{ tokens = [{past}] }}\n\
         [[advertisers]]\nid = \"acme\"\nauth = {{ {tokens} }}\n"
    );
    let version = replace(&server, &text);
    std::fs::remove_file(&secret).expect("it was there");
    let anew = format!("{text}[[affiliates]]\nid = \"pub-9\"\n");
    for (query, text) in [("", &text), ("", &anew), ("?dry_run=1", &text), ("?dry_run=1", &anew)] {
        let answer = server.put_catalog(query, TOML, "If-Match: *\r\n", text);
        assert_eq!(code(&answer), (400, "invalid_catalog".to_owned()), "{query}");
        let said = answer.json();
        let mistakes = said["error"]["mistakes"].as_array().expect("a list");
        let of = |mistake: &Value| (mistake["severity"].clone(), mistake["line"].clone());
        let listed: Vec<_> = mistakes.iter().map(of).collect();
        let expected = [("error", 6), ("warning", 3), ("warning", 6)];
        let expected = expected.map(|(severity, line)| (json!(severity), json!(line)));
        assert_eq!(listed, expected, "{said}");
        let message = mistakes[0]["message"].as_str().expect("a text");
        assert!(message.contains("secret"), "{message}");
    }
    server.signal("HUP");
    let refused = "postbackd_file_refused{file=\"catalog\"}";
    eventually("a refused catalog", || (server.metric(refused) == 1.0).then_some(()));
    let told = server.says("6: advertisers[1] \"acme\".auth.tokens[0].secret: ");
    assert!(!told.contains("warning"), "{told}");
    assert_eq!(server.catalog_version(), version);
}

/// The offer `spring` of an advertiser.
fn spring_of(advertiser: &str) -> String {
    format!(
        "[[advertisers]]\nid = \"{advertiser}\"\n[[offers]]\nid = \"spring\"\n\
         advertiser = \"{advertiser}\"\nurl = \"https://a.example/{{click_id}}\"\n\
         events = [{{ id = \"sale\" }}]\n[[affiliates]]\nid = \"pub-7\"\n"
    )
}

const NO_OFFER: &str = "[[advertisers]]\nid = \"acme\"\n";

#[test]
fn an_offer_that_has_left_comes_back_to_its_advertiser_alone() {
    let mut server = empty();
    replace(&server, &spring_of("acme"));
    let click = server.click("offer=spring&aff=pub-7");
    let sale = format!("click_id={click}&event=sale&txn_id=T-1");
    assert_eq!(server.postback(&sale).verdict(), (200, "accepted", ""));
    let version = replace(&server, NO_OFFER);
    for _ in 0..2 {
        for query in ["", "?dry_run=1"] {
            let answer = server.put_catalog(query, TOML, "If-Match: *\r\n", &spring_of("other"));
            assert_eq!(code(&answer), (400, "invalid_catalog".to_owned()), "{answer:?}");
            let mistake = &answer.json()["error"]["mistakes"][0];
            assert!(mistake["message"].as_str().expect("a text").contains("is of \"acme\""));
        }
        assert_eq!(server.api("catalog/versions")["in_force"], version);
        server.kill();
        server.start_again();
    }
    replace(&server, &spring_of("acme"));
    assert_eq!(server.postback(&sale).verdict(), (200, "duplicate", ""));
    assert_eq!(server.stop().code(), Some(0));
    let verified = verify(&server.path("data"));
    assert_eq!(verified.code, Some(0), "{}{}", verified.out, verified.err);
}

#[test]
fn a_store_that_does_not_know_whose_its_offers_are_learns_it_from_the_catalog_in_force() {
    let mut server = empty();
    let forget = |server: &mut Server| {
        server.kill();
        let database = database_folder(&server.path("data"));
        let engine = RocksEngine::open(&database, 8 << 20).expect("opens");
        let (mut batch, (from, to)) = (Batch::default(), keys::owners());
        batch.delete_range(Table::Catalog, &from, &to);
        engine.append(&batch).and_then(|()| engine.sync()).expect("written");
    };
    let is_moved = |server: &Server| {
        let answer = server.put_catalog("", TOML, "If-Match: *\r\n", &spring_of("other"));
        code(&answer) == (400, "invalid_catalog".to_owned())
    };
    replace(&server, &spring_of("acme"));
    forget(&mut server);
    server.start_again();
    replace(&server, NO_OFFER);
    assert!(is_moved(&server), "learnt at the start");
    // One that had left before is whoever's it comes back as.
    forget(&mut server);
    server.start_again();
    assert!(!is_moved(&server));
    replace(&server, NO_OFFER);
    let answer = server.put_catalog("", TOML, "If-Match: *\r\n", &spring_of("acme"));
    assert_eq!(code(&answer), (400, "invalid_catalog".to_owned()));
}

#[test]
fn a_file_that_moves_an_offer_is_refused_at_reload_and_at_start() {
    let mut server = Server::start();
    let version = server.catalog_version();
    let click = server.click("offer=spring&aff=pub-7");
    server.postback(&format!("click_id={click}&event=sale&txn_id=T-1"));
    let at = CATALOG.find("id = \"spring\"").expect("the offer");
    let (before, offer) = CATALOG.split_at(at);
    let moved = format!("{before}{}", offer.replacen("\"acme\"", "\"mapped\"", 1));
    server.write_catalog(&moved);
    server.signal("HUP");
    server.says("is of \"acme\"");
    assert_eq!(server.catalog_version(), version);
    server.kill();
    let ended = run(&server.path("."), &["serve", "--config", "postbackd.toml"]);
    assert_eq!(ended.code, Some(1), "{}{}", ended.out, ended.err);
    server.write_catalog(CATALOG);
    server.start_again();
    assert_eq!(server.catalog_version(), version);
}

#[test]
fn versions_are_remembered_and_no_change_is_none() {
    let server = empty();
    let text = |n: u32| format!("[[affiliates]]\nid = \"pub-{n}\"\n");
    let versions: Vec<String> = (0..12).map(|n| replace(&server, &text(n))).collect();
    assert_eq!(replace(&server, &text(11)), versions[11]);
    let kept = server.api("catalog/versions");
    let items = kept["items"].as_array().expect("items");
    let listed: Vec<_> = items.iter().filter_map(|item| item["version"].as_str()).collect();
    assert_eq!(listed, versions.iter().rev().map(String::as_str).collect::<Vec<_>>());
    assert_eq!((&items[0]["source"], &items[0]["affiliates"]), (&"api".into(), &1.into()));
    assert_eq!((&items[0]["kept"], &items[0]["bytes"]), (&true.into(), &text(11).len().into()));
    assert!(items[0]["applied"].as_str().is_some_and(|time| time.ends_with('Z')));
}

/// A catalog by its version.
fn of_version(server: &Server, version: &str, headers: &str) -> Response {
    server.admin_with(&format!("/api/v1/catalog?version={version}"), headers)
}

#[test]
fn the_rules_by_which_a_conversion_was_decided_can_be_read_later() {
    let mut server = empty();
    let first = replace(&server, CATALOG);
    let click = server.click("id=sp7");
    let sold = server.postback(&format!("click_id={click}&event=sale&txn_id=1"));
    let dearer = CATALOG.replace("15.00", "16.00");
    let second = replace(&server, &dearer);
    replace(&server, "[[affiliates]]\nid = \"pub-7\"\n");
    server.kill();
    server.start_again();

    let kept = server.api(&format!("conversions/{}", sold.word("conversion_id")));
    let version = kept["catalog_version"].as_str().expect("a version");
    assert_eq!(version, first);
    let rules = of_version(&server, version, "Accept: application/toml\r\n");
    assert_eq!((rules.status, rules.text()), (200, CATALOG));
    let tag = format!("\"{first}\"");
    assert_eq!(rules.header("etag"), Some(&*tag));
    assert_eq!(of_version(&server, &first, &format!("If-None-Match: {tag}\r\n")).status, 304);
    let rules = of_version(&server, &second, "");
    assert_eq!(rules.json()["offers"][0]["events"][0]["payout"]["fixed"], "16.00");

    let unknown = of_version(&server, "0000000000000001", "If-None-Match: *\r\n");
    assert_eq!(code(&unknown), (404, "version_not_kept".to_owned()));
    for wrong in ["", "1", "000000000000000g", &format!("{first}0")] {
        let answer = of_version(&server, wrong, "");
        assert_eq!(code(&answer), (400, "bad_parameter".to_owned()), "{wrong}");
    }
    let misspelled = server.admin("/api/v1/catalog?versions=1");
    assert_eq!(code(&misspelled), (400, "bad_parameter".to_owned()));
}

#[test]
fn earlier_catalogs_of_a_file_can_be_read_too() {
    let server = Server::start();
    let first = server.catalog_version();
    let dearer = CATALOG.replace("15.00", "16.00");
    server.write_catalog(&dearer);
    server.signal("HUP");
    eventually("the catalog", || (server.catalog_version() != first).then_some(()));
    let read = |version: &Value| {
        let version = version.as_str().expect("a version");
        of_version(&server, version, "Accept: application/toml\r\n").text().to_owned()
    };
    assert_eq!(read(&first), CATALOG);
    assert_eq!(read(&server.catalog_version()), dearer);
}

/// A catalog with the harness' own entries and many affiliates.
fn large(affiliates: usize) -> String {
    let mut text = CATALOG.to_owned();
    for n in 0..affiliates {
        let _ = write!(text, "[[affiliates]]\nid = \"many-{n}\"\n");
    }
    text
}

#[test]
fn no_request_goes_wrong_while_catalogs_are_replaced() {
    let server = empty();
    let texts = [large(20_000), large(20_001)];
    replace(&server, &texts[0]);
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let clients: Vec<_> = (0..4)
            .map(|client| {
                let (server, done) = (&server, &done);
                scope.spawn(move || {
                    let mut connection = server.connect();
                    let mut sold = 0;
                    while !done.load(Ordering::Relaxed) {
                        let click = connection.request("GET", "/c/sp7?redirect=false", "");
                        let click = click.expect("an answer").json()["click_id"].clone();
                        let click = click.as_str().expect("a click").to_owned();
                        let query = format!("click_id={click}&event=sale&txn_id={client}-{sold}");
                        let answer = connection.request("GET", &format!("/postback?{query}"), "");
                        let answer = answer.expect("an answer");
                        assert_eq!(answer.json()["result"], "accepted", "{answer:?}");
                        sold += 1;
                    }
                    sold
                })
            })
            .collect();
        for turn in 0..12 {
            replace(&server, &texts[(turn + 1) % 2]);
        }
        done.store(true, Ordering::Relaxed);
        let sold: usize = clients.into_iter().map(|client| client.join().expect("all fine")).sum();
        assert!(sold > 0);
        assert_eq!(server.conversions("").len(), sold);
    });
}

#[test]
fn health_is_answered_while_a_large_catalog_is_worked_on() {
    let server = empty();
    let text = large(200_000);
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let change = scope.spawn(|| {
            replace(&server, &text);
            done.store(true, Ordering::Relaxed);
        });
        let mut answered = 0;
        while !done.load(Ordering::Relaxed) {
            let health = Connection::open(server.admin).request("GET", "/healthz", "");
            assert_eq!(health.expect("an answer").status, 200);
            assert!(server.admin("/metrics").status == 200);
            answered += 1;
        }
        change.join().expect("it was replaced");
        // Two before it begins and one after it ends would be no sign of anything.
        assert!(answered > 10, "only {answered} answers meanwhile");
    });
    assert_eq!(server.api("catalog/versions")["items"][0]["affiliates"], 200_003);
}
