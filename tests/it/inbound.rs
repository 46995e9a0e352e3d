//! Postbacks as received: each that makes or changes a conversion is in the log with it, of the
//! others a bounded number; without secrets, with personal data masked. Refused ones are judged
//! again, once.

use std::path::Path;

use serde_json::{Value, json};

use crate::harness::{Answer, Server, Setup, eventually, let_the_clock_move_on};

const TOML: &str = "application/toml";
const FORM: &str = "application/x-www-form-urlencoded";

/// An advertiser with a token, one without, and an offer of each; `events` are those of both.
fn catalog(events: &[&str]) -> String {
    let token = postbackd::auth::hash_text("t0ken");
    let mut text = format!(
        "[[advertisers]]\nid = \"acme\"\n[[advertisers]]\nid = \"safe\"\n\
         auth = {{ tokens = [{{ secret = \"{token}\" }}] }}\n"
    );
    for offer in ["acme", "safe"] {
        text += &format!(
            "[[offers]]\nid = \"{offer}\"\nadvertiser = \"{offer}\"\n\
             url = \"https://a.example/?c={{click_id}}\"\n"
        );
        for event in events {
            text += &format!(
                "[[offers.events]]\nid = \"{event}\"\nrevenue = {{ fixed = \"20\", currency = \"USD\" }}\n\
                 payout = {{ percent = \"10\", fixed = \"1\", currency = \"USD\" }}\n"
            );
        }
    }
    text + "[[affiliates]]\nid = \"one\"\n[[affiliates]]\nid = \"two\"\n"
}

pub fn start() -> Server {
    let server = Setup::new().without_catalog_file().start();
    put(&server, &["sale"]);
    server
}

fn put(server: &Server, events: &[&str]) {
    put_text(server, &catalog(events));
}

pub fn put_text(server: &Server, text: &str) {
    let answer = server.put_catalog("", TOML, "If-Match: *\r\n", text);
    assert_eq!(answer.status, 200, "{answer:?}");
}

pub fn click(server: &Server, offer: &str, affiliate: &str) -> String {
    server.click(&format!("offer={offer}&aff={affiliate}"))
}

/// All of the log, by every page.
pub fn log(server: &Server, filter: &str) -> Vec<Value> {
    let (mut all, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = server.api(&format!("inbound?limit=70&{filter}{cursor}"));
        all.extend_from_slice(page["items"].as_array().expect("items"));
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return all,
        }
    }
}

/// The log, once so many are in it: those that made nothing come with the next commit.
pub fn log_of(server: &Server, filter: &str, count: usize) -> Vec<Value> {
    let found = eventually("rows in the log", || {
        let found = log(server, filter);
        (found.len() >= count).then_some(found)
    });
    assert_eq!(found.len(), count, "{found:?}");
    found
}

fn params(row: &Value) -> Vec<(&str, &str)> {
    let params = row["params"].as_array().expect("parameters").iter();
    params
        .map(|it| (it["name"].as_str().expect("a name"), it["value"].as_str().expect("a value")))
        .collect()
}

fn reprocess(server: &Server, asked: &Value) -> Value {
    server.work("reprocess", asked)
}

pub const ALL_TIME: &str = "2020-01-01T00:00:00Z";

/// An affiliate's row of a job's result: revenue and payout of all, and of what is approved.
pub fn earned(affiliate: &str, conversions: u64, all: [&str; 2], approved: [&str; 2]) -> Value {
    json!({
        "affiliate": affiliate,
        "currency": "USD",
        "conversions": conversions,
        "revenue": all[0],
        "payout": all[1],
        "approved_revenue": approved[0],
        "approved_payout": approved[1],
    })
}

pub fn judged(server: &Server, apply: bool) -> Value {
    reprocess(server, &json!({ "from": ALL_TIME, "apply": apply }))
}

#[test]
fn each_postback_is_written_down_with_what_came_of_it() {
    let server = start();
    let (one, two) = (click(&server, "acme", "one"), click(&server, "acme", "two"));
    let query =
        format!("click_id={one}&event=sale&txn_id=T-1&amount=15.10&colour=blue&status=pending");
    let sale = server.postback(&query);
    assert_eq!(sale.verdict(), (200, "accepted", ""));
    let at_once = log(&server, "result=accepted");
    assert_eq!(at_once.len(), 1, "with the conversion, not behind it");
    let [row] = at_once.as_slice() else { panic!() };
    assert_eq!(row["conversion_id"], sale.word("conversion_id"));
    assert_eq!((&row["click_id"], &row["advertiser"]), (&json!(one), &json!("acme")));
    assert_eq!(
        (&row["method"], &row["body"], &row["path"]),
        (&json!("GET"), &Value::Null, &json!("/postback"))
    );
    assert_eq!(
        (&row["ip"], &row["masked"], &row["reason"]),
        (&json!("127.0.0.1"), &json!(false), &Value::Null)
    );
    assert_eq!(row["catalog_version"], server.catalog_version());
    let expected = [
        ("click_id", &*one),
        ("event", "sale"),
        ("txn_id", "T-1"),
        ("amount", "15.10"),
        ("colour", "blue"),
        ("status", "pending"),
    ];
    assert_eq!(params(row), expected);

    assert_eq!(server.postback(&query).verdict(), (200, "duplicate", ""));
    let updated = format!("click_id={one}&event=sale&txn_id=T-1&status=approved");
    server.postback(&updated);
    let mut connection = server.connect();
    let form = format!("click_id={two}&event=unheard&txn_id=T%202");
    let answer =
        connection.post("/postback/acme?sub1=a", FORM, form.as_bytes()).expect("an answer");
    assert_eq!(Answer::of(answer).verdict(), (404, "refused", "unknown_event"));
    let json =
        json!({ "click_id": two, "event": "sale", "txn_id": "T-3", "amount": 7 }).to_string();
    let answer =
        connection.post("/postback", "application/json", json.as_bytes()).expect("an answer");
    assert_eq!(Answer::of(answer).verdict(), (200, "accepted", ""));
    // These write nothing.
    server.postback(&format!("click_id={two}&event=sale&txn_id=T-4&dry_run=1"));
    server.postback(&format!("click_id={two}&event=unheard&txn_id=T-4&dry_run=1"));
    server.request("HEAD", &format!("/postback?click_id={two}&event=unheard"), "");

    let all = log_of(&server, "", 5);
    let results: Vec<_> = all.iter().map(|row| row["result"].as_str().expect("a word")).collect();
    assert_eq!(results, ["accepted", "duplicate", "updated", "refused", "accepted"]);
    let [_, duplicate, updated, refused, posted] = all.as_slice() else { panic!() };
    for row in [duplicate, updated] {
        assert_eq!(row["conversion_id"], sale.word("conversion_id"));
    }
    assert_eq!((&refused["reason"], &refused["click_id"]), (&json!("unknown_event"), &json!(two)));
    assert_eq!(
        (&refused["method"], &refused["body"], &refused["path"]),
        (&json!("POST"), &json!("form"), &json!("/postback/acme"))
    );
    assert_eq!(params(refused)[0], ("sub1", "a"));
    assert_eq!(params(refused)[3], ("txn_id", "T 2"));
    assert_eq!((&posted["body"], params(posted)[0]), (&json!("json"), ("amount", "7")));

    for (filter, count) in [
        ("result=refused", 1),
        ("reason=unknown_event", 1),
        ("reason=bad_token", 0),
        ("advertiser=acme", 5),
        ("advertiser=safe", 0),
        ("from=2020-01-01T00:00:00Z", 5),
        ("to=2020-01-01T00:00:00Z", 0),
    ] {
        assert_eq!(log(&server, filter).len(), count, "{filter}");
    }
    for filter in ["result=unavailable", "reason=because", "cursor=x", "limit=0", "unknown=1"] {
        assert_eq!(server.admin(&format!("/api/v1/inbound?{filter}")).status, 400, "{filter}");
    }
    let ended = verify_at(&server);
    assert!(ended.contains("inbound_postbacks 5"), "{ended}");
}

/// Stops the server and verifies its store, which must be sound.
pub fn verify_at(server: &Server) -> String {
    let ended = server.ended(&server.post_api("verify", "", ""));
    assert_eq!(ended["result"]["broken"], json!([]), "{ended}");
    let checked = ended["result"]["checked"].as_object().expect("counts").iter();
    checked.map(|(what, count)| format!("{what} {count}\n")).collect()
}

#[test]
fn secrets_are_not_written_down_and_personal_data_is_masked() {
    let mut server = start();
    let click = click(&server, "safe", "one");
    let secrets = "token=t0ken-wrong&sig=5ecre7sig&nonce=n0nce5&secure=affise5ecret&ts=1234567890";
    let personal = "email=jane.doe%40private.example&phone=491701234567&note=%2B49+170+7654321";
    let query = format!("click_id={click}&event=sale&txn_id=T-1&{secrets}&{personal}");
    assert_eq!(server.postback(&query).verdict(), (401, "refused", "bad_token"));
    let rows = log_of(&server, "", 1);
    let expected = [
        ("click_id", &*click),
        ("event", "sale"),
        ("txn_id", "T-1"),
        ("email", "(email)"),
        ("phone", "(phone)"),
        ("note", "(phone)"),
    ];
    assert_eq!(params(&rows[0]), expected);
    assert_eq!((&rows[0]["masked"], &rows[0]["click_id"]), (&json!(true), &json!(click)));
    assert_eq!(rows[0]["auth"], json!([{ "check": "token", "result": "refused" }]));
    server.stop();
    let hidden = [
        "t0ken-wrong",
        "5ecre7sig",
        "n0nce5",
        "affise5ecret",
        "1234567890",
        "jane.doe",
        "1701234567",
    ];
    let found = grep(&server.path("data"), &hidden);
    assert!(found.is_empty(), "{found:?}");
    assert!(!grep(&server.path("data"), &["T-1"]).is_empty(), "the search is blind");
}

/// Which of some texts are in the files of a folder.
pub fn grep(folder: &Path, texts: &[&str]) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).expect("readable") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            found.extend(grep(&path, texts));
            continue;
        }
        let bytes = std::fs::read(&path).expect("readable");
        for text in texts {
            if bytes.windows(text.len()).any(|window| window == text.as_bytes()) {
                found.push(format!("{text} in {}", path.display()));
            }
        }
    }
    found
}

/// Gives the first advertiser names of its own.
fn put_own_names(server: &Server, names: &str) {
    let named = format!("id = \"acme\"\nparams = {{ {names} }}");
    put_text(server, &catalog(&["sale"]).replacen("id = \"acme\"", &named, 1));
}

#[test]
fn an_advertisers_own_name_of_a_secret_is_known_by_the_click_too() {
    let mut server = start();
    put_own_names(&server, "token = \"apikey\"");
    let click = click(&server, "acme", "one");
    let query = format!("click_id={click}&event=unheard&ApiKey=5ecre7&amp;amp;apikey=5ecre7");
    for path in ["/postback", "/postback/acme", "/postback/nobody"] {
        server.get(&format!("{path}?{query}"));
    }
    for row in log_of(&server, "", 3) {
        assert_eq!(params(&row), [("click_id", &*click), ("event", "unheard")]);
    }
    server.stop();
    assert!(grep(&server.path("data"), &["5ecre7"]).is_empty());
}

#[test]
fn every_advertisers_name_of_a_secret_is_hidden_where_nobody_is_known() {
    let mut server = start();
    put_own_names(&server, "token = \"apikey\", sig = \"seal\"");
    for (target, reason) in [
        ("/postback?click_id=%7Bclick_id%7D", "unresolved_macro"),
        ("/postback?click_id=nonsense", "malformed_click_id"),
        ("/click.php?cnv_id=nonsense", "malformed_click_id"),
        ("/postback/acmee?click_id=nonsense", "unknown_advertiser"),
    ] {
        let answer = server.get(&format!("{target}&own=1&apikey=5ecre7&Seal=5ecre7"));
        assert_eq!(answer.json()["reason"], reason, "{target}");
    }
    for row in log_of(&server, "", 4) {
        assert_eq!(params(&row)[1..], [("own", "1")], "{row}");
    }
    // What is another's secret is none of one that is known.
    server.get("/postback/safe?click_id=nonsense&apikey=colour");
    let known = log_of(&server, "advertiser=safe", 1);
    assert_eq!(params(&known[0]), [("click_id", "nonsense"), ("apikey", "colour")]);
    server.stop();
    assert!(grep(&server.path("data"), &["5ecre7"]).is_empty());
}

#[test]
fn a_secret_within_a_value_is_kept_nowhere() {
    let mut server = start();
    put_own_names(&server, "token = \"apikey\"");
    let click = click(&server, "acme", "one");
    for id in ["txn_id=Z1?token", "customer_id=K-1?token"] {
        let answer = server.postback(&format!("click_id={click}&event=sale&{id}=5ecre7"));
        assert_eq!(answer.verdict(), (400, "refused", "bad_encoding"));
        assert!(answer.word("hint").contains("write & before it"), "{}", answer.word("hint"));
    }
    // Refused before anybody looked at its transaction.
    server.get(&format!("/postback/acmee?click_id={click}&event=sale&txn_id=Z2?token=5ecre7"));
    for row in log_of(&server, "", 3) {
        let params = params(&row);
        assert!(params.last().is_some_and(|(_, value)| value.ends_with("(secret)")), "{row}");
    }
    assert_eq!(judged(&server, true)["accepted"], 0);
    let sub = "sub1=x%3Ftoken%3D5ecre7&%3Fapikey=5ecre7&own=y%26apikey%3D5ecre7";
    let sale = server.postback(&format!("click_id={click}&event=sale&amount=1&txn_id=Z3&{sub}"));
    assert_eq!(sale.verdict(), (200, "accepted", ""));
    // A time is no secret, and no part of an ID either.
    let timed = server.postback(&format!("click_id={click}&event=sale&txn_id=Z4?ts=1"));
    assert_eq!(timed.verdict(), (400, "refused", "bad_encoding"));
    let time = "txn_id=Z4&own=y%3Fts%3D1%26order%3D5%26nonce%3D7";
    let sale = server.postback(&format!("click_id={click}&event=sale&amount=1&{time}"));
    assert_eq!(sale.verdict(), (200, "accepted", ""));
    let kept = server.conversions("");
    let shown = |at: usize| json!([kept[at]["txn_id"], kept[at]["params"], kept[at]["flags"]]);
    assert_eq!(shown(0), json!(["Z3", { "sub1": "x", "own": "y" }, ["parameters_left_out"]]));
    assert_eq!(shown(1), json!(["Z4", { "own": "y?ts=1&order=5&nonce=7" }, []]));
    server.stop();
    assert!(grep(&server.path("data"), &["5ecre7"]).is_empty());
}

#[test]
fn a_telephone_number_behind_what_is_kept_is_masked_too() {
    let mut server = start();
    let preset = "id = \"acme\"\npreset = \"affise\"";
    put_text(&server, &catalog(&["sale"]).replacen("id = \"acme\"", preset, 1));
    let click = click(&server, "acme", "one");
    let many: String = (0..20).map(|n| format!("&x{n}=1")).collect();
    let target = format!("/postback/acme?clickid={click}&goal=sale{many}&phone=491701234567");
    assert_eq!(server.get(&target).json()["result"], "accepted");
    let row = &log(&server, "result=accepted")[0];
    assert_eq!(params(row).last(), Some(&("phone", "(phone)")), "{row}");
    assert_eq!(row["masked"], json!(true));
    server.stop();
    assert!(grep(&server.path("data"), &["491701234567"]).is_empty());
}

#[test]
fn a_flood_leaves_a_sample_and_its_number_and_hides_no_other_reason() {
    let server = start();
    let click = click(&server, "acme", "one");
    let mut connection = server.connect();
    for n in 1..=2500 {
        let target = format!("/postback?click_id=nonsense&txn_id={n}");
        connection.request("GET", &target, "").expect("an answer");
    }
    server.postback(&format!("click_id={click}&event=unheard"));
    let rare = log_of(&server, "reason=unknown_event", 1);
    assert_eq!(rare[0]["click_id"], json!(click));
    let kept = log(&server, "reason=malformed_click_id").len();
    let dropped = server.metric("postbackd_inbound_dropped_total{result=\"refused\"}");
    assert_eq!(kept as f64 + dropped, 2500.0);
    assert!(kept >= 100 && dropped > 0.0, "{kept} kept");
    assert_eq!(server.metric("postbackd_inbound_dropped_total{result=\"duplicate\"}"), 0.0);
}

#[test]
fn a_trace_shows_what_was_refused_and_repeated_too() {
    let mut server = start();
    let click = click(&server, "acme", "one");
    let query = format!("click_id={click}&event=sale&txn_id=T-1&customer_id=K-1");
    let pending = format!("{query}&status=pending");
    server.postback(&format!("click_id={click}&event=unheard&txn_id=T-1"));
    let sale = server.postback(&pending);
    server.postback(&pending);
    server.postback(&format!("{query}&status=approved"));
    log_of(&server, "", 4);
    let traced = |server: &Server, id: &str| {
        let trace = server.api(&format!("trace/{id}"));
        let entries = trace["entries"].as_array().expect("entries").iter();
        let word = |entry: &Value| {
            let result = entry["record"]["result"].as_str().unwrap_or_default();
            format!("{} {result}", entry["kind"].as_str().expect("a kind"))
        };
        entries.map(word).collect::<Vec<_>>()
    };
    let mut expected = vec![
        "click ",
        "conversion ",
        "postback accepted",
        "postback duplicate",
        "postback refused",
        "postback updated",
        "posting ",
    ];
    for _ in 0..2 {
        for id in [&*click, sale.word("conversion_id"), "T-1"] {
            let mut found = traced(&server, id);
            found.sort();
            assert_eq!(found, expected, "{id}");
        }
        // What others did by the click is not the customer's.
        let mut of_customer = traced(&server, "K-1");
        of_customer.sort();
        let its_own =
            ["click ", "conversion ", "postback accepted", "postback updated", "posting "];
        assert_eq!(of_customer, its_own);
        server.kill();
        server.start_again();
        expected.sort_unstable();
    }
}

#[test]
fn what_was_refused_is_taken_once_when_it_is_judged_again() {
    let server = start();
    let (one, two) = (click(&server, "acme", "one"), click(&server, "acme", "two"));
    let lead =
        |click: &str, txn: &str| format!("click_id={click}&event=lead&txn_id={txn}&amount=50");
    for (click, txn) in [(&one, "T-1"), (&one, "T-1"), (&two, "T-2"), (&two, "T-3")] {
        let refused = server.postback(&lead(click, txn));
        assert_eq!(refused.verdict(), (404, "refused", "unknown_event"));
    }
    server.postback("click_id=nonsense");
    let rows = log_of(&server, "", 5);
    let nothing = judged(&server, true);
    assert_eq!((&nothing["accepted"], &nothing["postbacks"]), (&json!(0), &json!(5)));
    assert_eq!(nothing["refused"], json!({ "malformed_click_id": 1, "unknown_event": 4 }));

    put(&server, &["sale", "lead"]);
    // The advertiser tries one of them again meanwhile.
    let retried = server.postback(&lead(&two, "T-3"));
    assert_eq!(retried.verdict(), (200, "accepted", ""));
    let diff = judged(&server, false);
    let expected = json!([
        earned("one", 1, ["20.00", "6.00"], ["20.00", "6.00"]),
        earned("two", 1, ["20.00", "6.00"], ["20.00", "6.00"]),
    ]);
    for judged in [&diff, &judged(&server, false), &judged(&server, true)] {
        assert_eq!((&judged["accepted"], &judged["duplicate"]), (&json!(2), &json!(2)), "{judged}");
        assert_eq!(judged["refused"], json!({ "malformed_click_id": 1 }));
        assert_eq!(judged["affiliates"], expected);
    }
    let again = judged(&server, true);
    assert_eq!((&again["accepted"], &again["duplicate"]), (&json!(0), &json!(4)), "{again}");

    let kept = server.conversions("event=lead");
    assert_eq!(kept.len(), 3);
    for (txn, row) in [("T-1", &rows[0]), ("T-2", &rows[2])] {
        let conversion = kept.iter().find(|it| it["txn_id"] == txn).expect("taken");
        assert_eq!(conversion["received_time"], row["time"], "as it was received");
        assert_eq!(conversion["event_time"], row["time"]);
        assert_eq!(conversion["catalog_version"], server.catalog_version());
        let retry = server.postback(&lead(if txn == "T-1" { &one } else { &two }, txn));
        assert_eq!(retry.verdict(), (200, "duplicate", ""));
        assert_eq!(retry.word("conversion_id"), conversion["conversion_id"]);
        let logged = log(&server, "result=accepted");
        let made = logged.iter().find(|it| it["conversion_id"] == conversion["conversion_id"]);
        assert_eq!(made.expect("with the conversion")["reprocessed"], true);
        let trace = server.api(&format!("trace/{txn}"));
        let entries = trace["entries"].as_array().expect("entries").iter();
        assert!(entries.clone().any(|it| it["record"]["reprocessed"] == true), "{trace}");
    }
    verify_at(&server);
}

#[test]
fn a_whole_story_that_was_refused_is_taken_in_its_order() {
    let server = start();
    let click = click(&server, "acme", "one");
    let sale = format!("click_id={click}&event=lead&txn_id=T-1");
    let words = [
        "&status=pending",
        "&status=approved&amount=50",
        "&status=approved&amount=60",
        "&status=approved&amount=60",
        "&status=reversed",
        "&status=pending",
    ];
    for word in words {
        let refused = server.postback(&format!("{sale}{word}"));
        assert_eq!(refused.verdict(), (404, "refused", "unknown_event"));
    }
    let rows = log_of(&server, "", words.len());
    put(&server, &["sale", "lead"]);
    let story = |judged: &Value| {
        let counts = ["accepted", "updated", "duplicate"].map(|what| judged[what].clone());
        (counts.map(|count| count.as_u64().expect("a count")), judged["refused"].clone())
    };
    let whole = ([1, 3, 2], json!({}));
    assert_eq!(story(&judged(&server, false)), whole);
    // Two jobs: what the first has booked was heard before what the second looks at.
    let middle = &rows[2]["time"];
    let first = reprocess(&server, &json!({ "from": ALL_TIME, "to": middle, "apply": true }));
    let second = reprocess(&server, &json!({ "from": middle, "apply": true }));
    let mut sum = story(&first);
    let (counts, refused) = story(&second);
    sum.0.iter_mut().zip(counts).for_each(|(sum, count)| *sum += count);
    assert_eq!((sum.0, refused), whole, "{first} {second}");

    let kept = server.conversions("event=lead").remove(0);
    assert_eq!((&kept["status"], &kept["amount"]), (&json!("reversed"), &json!("60.00")));
    let history = kept["history"].as_array().expect("a history");
    assert_eq!(history[0]["reason"], "postback");
    for (step, row) in history[1..].iter().zip([1, 2, 4]) {
        let (reason, received) = (step["reason"].as_str(), rows[row]["time"].as_str());
        let (word, said) = reason.expect("a reason").split_once('@').expect("when it came");
        let ms = |time: &str| time.parse::<jiff::Timestamp>().expect("a time").as_millisecond();
        assert_eq!((word, ms(said)), ("postback", ms(received.expect("a time"))));
    }
    let again = judged(&server, true);
    assert_eq!((&again["accepted"], &again["updated"]), (&json!(0), &json!(0)), "{again}");
    verify_at(&server);
}

#[test]
fn what_a_refund_from_the_log_takes_back_can_be_told_what_came_after_it() {
    let server = start();
    let click = click(&server, "acme", "one");
    let sale = format!("click_id={click}&event=lead&txn_id=T-1");
    server.postback(&format!("{sale}&amount=50"));
    server.postback(&format!("click_id={click}&event=refund&txn_id=T-1&amount=10"));
    server.postback(&format!("{sale}&status=reversed"));
    log_of(&server, "", 3);
    let events = with_refunds(&["sale", "lead"], "refund");
    put_text(&server, &events);
    let judged = judged(&server, true);
    assert_eq!((&judged["accepted"], &judged["updated"]), (&json!(2), &json!(1)), "{judged}");
    let sale = server.conversions("event=lead").remove(0);
    let history = sale["history"].as_array().expect("a history");
    let words = history.iter().map(|step| step["reason"].as_str().expect("a reason"));
    let words: Vec<_> = words.map(|reason| reason.split('@').next()).collect();
    assert_eq!(words, [Some("postback"), Some("refund"), Some("postback")]);
    assert_eq!(sale["status"], "reversed");
    verify_at(&server);
}

/// The catalog with an event of `acme` that takes all others back.
pub fn with_refunds(events: &[&str], refund: &str) -> String {
    let refund = format!("[[offers.events]]\nid = \"{refund}\"\nreverses = {events:?}\n");
    let other = "[[offers]]\nid = \"safe\"";
    catalog(events).replacen(other, &format!("{refund}{other}"), 1)
}

#[test]
fn a_refund_from_the_log_takes_back_what_there_was_then() {
    let server = start();
    put_text(&server, &with_refunds(&["sale"], "refund"));
    let [one, two] = [click(&server, "acme", "one"), click(&server, "acme", "two")];
    let sale = |click: &str, txn: &str| format!("click_id={click}&event=sale&txn_id={txn}");
    server.postback(&sale(&one, "T-1"));
    // Refused for a mistake of ours, before another sale of the click.
    let back = server.postback(&format!("click_id={one}&event=chargeback"));
    assert_eq!(back.verdict(), (404, "refused", "unknown_event"));
    let_the_clock_move_on();
    server.postback(&sale(&one, "T-2"));
    // The same, before what it names was approved.
    server.postback(&format!("{}&status=pending", sale(&two, "T-3")));
    let back = server.postback(&format!("click_id={two}&event=chargeback&txn_id=T-3"));
    assert_eq!(back.verdict(), (404, "refused", "unknown_event"));
    let_the_clock_move_on();
    server.postback(&format!("{}&status=approved", sale(&two, "T-3")));
    log_of(&server, "result=refused", 2);
    put_text(
        &server,
        &with_refunds(&["sale"], "refund").replacen(
            "[[offers.events]]\nid = \"refund\"",
            "[[offers.events]]\nid = \"chargeback\"\nreverses = [\"sale\"]\n\
         [[offers.events]]\nid = \"refund\"",
            1,
        ),
    );
    for apply in [false, true] {
        let judged = judged(&server, apply);
        assert_eq!(judged["accepted"], 1, "{judged}");
        assert_eq!(judged["refused"], json!({ "illegal_transition": 1 }), "{judged}");
    }
    for (txn, status) in [("T-1", "reversed"), ("T-2", "approved"), ("T-3", "approved")] {
        assert_eq!(server.conversions(&format!("txn_id={txn}"))[0]["status"], status, "{txn}");
    }
    verify_at(&server);
}

#[test]
fn a_refund_that_came_before_its_sale_takes_it_back_when_it_is_judged_again() {
    let server = start();
    put_text(&server, &with_refunds(&["sale"], "refund"));
    let click = click(&server, "acme", "one");
    let send = |query: &str| server.postback(&format!("click_id={click}&{query}"));
    let unknown = (404, "refused", "unknown_conversion");
    for refund in ["txn_id=T-1", "txn_id=T-2", "reversal_id=R", "txn_id=T-3&amount=4"] {
        assert_eq!(send(&format!("event=refund&{refund}")).verdict(), unknown, "{refund}");
    }
    // The sale's own word is later than this one.
    let early = send("event=sale&txn_id=T-3&status=reversed");
    assert_eq!(early.verdict(), (400, "refused", "bad_status"));
    let_the_clock_move_on();
    for txn in ["T-1", "T-2&status=pending", "T-3&amount=10"] {
        let sale = send(&format!("event=sale&txn_id={txn}"));
        assert_eq!(sale.verdict(), (200, "accepted", ""), "{txn}");
    }
    // Whoever approves the other knows better; that of no transaction means one of before.
    let news = send("event=sale&txn_id=T-2&status=approved");
    assert_eq!(news.verdict(), (200, "updated", ""));
    log_of(&server, "result=refused", 5);
    for apply in [false, true] {
        let judged = judged(&server, apply);
        assert_eq!(judged["accepted"], 2, "{judged}");
        let refused = json!({ "illegal_transition": 2, "unknown_conversion": 1 });
        assert_eq!(judged["refused"], refused, "{judged}");
    }
    for (txn, status) in [("T-1", "reversed"), ("T-2", "approved"), ("T-3", "approved")] {
        let sale = server.conversions(&format!("event=sale&txn_id={txn}")).remove(0);
        assert_eq!(sale["status"], status, "{txn}");
    }
    assert_eq!(judged(&server, true)["duplicate"], 2, "once");
    verify_at(&server);
}

#[test]
fn what_one_run_has_made_possible_is_taken_by_the_next() {
    let server = start();
    let click = click(&server, "acme", "one");
    let lead = server.get("/postback/acme?event=lead&txn_id=L-1&customer_id=K");
    assert_eq!(lead.json()["reason"], "unknown_customer");
    let refund = server.get("/postback/acme?event=refund&txn_id=B-1");
    assert_eq!(refund.json()["reason"], "missing_click_id");
    let binds = server
        .get(&format!("/postback/acme?click_id={click}&event=bonus&txn_id=B-1&customer_id=K"));
    assert_eq!(binds.json()["reason"], "unknown_event");
    log_of(&server, "result=refused", 3);
    put_text(&server, &with_refunds(&["sale", "lead", "bonus"], "refund"));
    for accepted in [1, 2, 0] {
        let judged = judged(&server, true);
        assert_eq!(judged["accepted"], accepted, "{judged}");
    }
    verify_at(&server);
}

/// The catalog in which customers of `acme` stay bound for a second.
fn with_window(events: &[&str]) -> String {
    let window = "id = \"acme\"\nadvertiser = \"acme\"\ncustomer_window = \"1s\"";
    catalog(events).replacen("id = \"acme\"\nadvertiser = \"acme\"", window, 1)
}

#[test]
fn a_customer_from_the_log_is_bound_as_it_was_then() {
    let server = start();
    put_text(&server, &with_window(&["sale"]));
    let [one, two] = [click(&server, "acme", "one"), click(&server, "acme", "two")];
    let lead = |customer: &str| {
        server.get(&format!("/postback/acme?event=lead&txn_id=L-{customer}&customer_id={customer}"))
    };
    let sale = |click: &str, txn: &str, customer: &str| {
        let query = format!("click_id={click}&event=sale&txn_id={txn}&customer_id={customer}");
        assert_eq!(server.postback(&query).verdict(), (200, "accepted", ""));
    };
    sale(&one, "T-1", "K");
    assert_eq!(lead("K").json()["reason"], "unknown_event");
    assert_eq!(lead("new").json()["reason"], "unknown_customer");
    std::thread::sleep(std::time::Duration::from_millis(1100));
    sale(&two, "T-2", "K");
    sale(&two, "T-3", "new");
    log_of(&server, "result=refused", 2);
    put_text(&server, &with_window(&["sale", "lead"]));
    for apply in [false, true] {
        let judged = judged(&server, apply);
        assert_eq!(judged["accepted"], 1, "{judged}");
        assert_eq!(judged["refused"], json!({ "unknown_customer": 1 }), "{judged}");
    }
    assert_eq!(server.conversions("event=lead")[0]["txn_id"], "L-new", "its first click's");
    verify_at(&server);
}

#[test]
fn a_customer_who_was_bound_twice_since_is_nobodys_in_between() {
    let server = start();
    put_text(&server, &with_window(&["sale", "lead"]));
    let [one, two] = [click(&server, "acme", "one"), click(&server, "acme", "two")];
    for customer in ["K", "rejected-once"] {
        let query = format!("event=lead&txn_id=L-{customer}&customer_id={customer}");
        let lead = server.get(&format!("/postback/acme?{query}"));
        assert_eq!(lead.json()["reason"], "unknown_customer");
    }
    let sale = |click: &str, txn: &str, more: &str| {
        let query = format!("click_id={click}&event=sale&txn_id={txn}&customer_id={more}");
        assert_eq!(server.postback(&query).verdict(), (200, "accepted", ""));
    };
    let_the_clock_move_on();
    sale(&one, "T-1", "K");
    // What binds nobody is no binding of before.
    sale(&one, "T-2", "rejected-once&status=rejected");
    std::thread::sleep(std::time::Duration::from_millis(1100));
    sale(&two, "T-3", "K");
    sale(&two, "T-4", "rejected-once");
    log_of(&server, "result=refused", 2);
    for apply in [false, true] {
        let judged = judged(&server, apply);
        assert_eq!(judged["refused"], json!({ "unknown_customer": 1 }), "{judged}");
        assert_eq!(judged["accepted"], 1, "{judged}");
    }
    assert_eq!(server.conversions("event=lead")[0]["txn_id"], "L-rejected-once");
    verify_at(&server);
}

#[test]
fn when_it_was_judged_again_says_nothing_of_when_it_happened() {
    let server = start();
    let click = click(&server, "acme", "one");
    let sale = format!("click_id={click}&event=lead&txn_id=T-1");
    server.postback(&sale);
    let received = log_of(&server, "", 1)[0]["time"].clone();
    put(&server, &["sale", "lead"]);
    assert_eq!(judged(&server, true)["accepted"], 1);
    let received: jiff::Timestamp = received.as_str().expect("a time").parse().expect("a time");
    let before = received.as_millisecond() - 5;
    let reversed = server.postback(&format!("{sale}&status=reversed&timestamp={before}"));
    assert_eq!(reversed.verdict(), (200, "updated", ""), "nobody said when the sale happened");
}

#[test]
fn what_is_judged_again_and_retried_at_the_same_moment_is_taken_once() {
    let server = start();
    let mut queries = Vec::new();
    for n in 0..60 {
        let click = click(&server, "acme", "one");
        queries.push(format!("click_id={click}&event=lead&txn_id=R-{n}"));
        server.postback(&queries[n]);
    }
    log_of(&server, "", 60);
    put(&server, &["lead"]);
    let result = std::thread::scope(|scope| {
        let judging = scope.spawn(|| judged(&server, true));
        for query in queries.iter().rev() {
            let word = server.postback(query);
            assert!(matches!(word.word("result"), "accepted" | "duplicate"), "{word:?}");
        }
        judging.join().expect("judged")
    });
    let kept = server.conversions("event=lead");
    let mut txns: Vec<_> = kept.iter().map(|it| it["txn_id"].as_str().expect("a txn")).collect();
    txns.sort_unstable();
    txns.dedup();
    assert_eq!((kept.len(), txns.len()), (60, 60));
    let sum = |name: &str| result[name].as_u64().expect("a number");
    assert_eq!(sum("accepted") + sum("duplicate"), 60, "{result}");
    assert_eq!(judged(&server, true)["duplicate"], 60);
    verify_at(&server);
}

#[test]
fn who_did_not_show_who_it_is_or_whose_data_is_masked_is_not_taken_from_the_log() {
    let server = start();
    let (safe, acme) = (click(&server, "safe", "one"), click(&server, "acme", "one"));
    let wrong = format!("click_id={safe}&event=sale&txn_id=T-1&token=wrong");
    assert_eq!(server.postback(&wrong).verdict(), (401, "refused", "bad_token"));
    let shown = format!("click_id={safe}&event=lead&txn_id=T-2&token=t0ken");
    assert_eq!(server.postback(&shown).verdict(), (404, "refused", "unknown_event"));
    // Nobody asked for its token: the placeholder came first.
    server.postback(&format!("click_id={safe}&event=sale&txn_id={{txn}}&token=t0ken"));
    let masked = format!("click_id={acme}&event=lead&customer_id=jane%40private.example");
    assert_eq!(server.postback(&masked).verdict(), (404, "refused", "unknown_event"));
    server.postback(&format!("click_id={acme}&event=lead&txn_id=T-3&note=jane%40private.example"));
    server.postback(&format!("click_id={acme}&event=lead&txn_id=%zz"));
    let long: String = (0..20).map(|n| format!("&p{n}={}", "x".repeat(500))).collect();
    let long = format!("click_id={acme}&event=lead&txn_id=T-4{long}");
    let answer = server.connect().post("/postback", FORM, long.as_bytes()).expect("an answer");
    assert_eq!(Answer::of(answer).verdict(), (404, "refused", "unknown_event"));
    log_of(&server, "", 7);
    put(&server, &["sale", "lead"]);
    let judged = judged(&server, true);
    assert_eq!(judged["not_judged"]["not_authenticated"], 1, "{judged}");
    assert_eq!(judged["not_judged"]["masked"], 1, "{judged}");
    assert_eq!(judged["not_judged"]["garbled"], 1, "{judged}");
    assert_eq!(judged["not_judged"]["cut"], 1, "{judged}");
    assert_eq!(judged["refused"]["unresolved_macro"], 1, "{judged}");
    let txns = server.conversions("");
    let mut txns: Vec<_> = txns.iter().map(|it| it["txn_id"].as_str().expect("a txn")).collect();
    txns.sort_unstable();
    assert_eq!(txns, ["T-2", "T-3"]);
    let noted = server.conversions("txn_id=T-3");
    assert_eq!(noted[0]["params"]["note"], "(email)");
    // The advertiser has no token any more; what had shown none is not taken for that.
    let open = catalog(&["sale", "lead"]);
    let from = open.find("auth = ").expect("credentials");
    let to = from + open[from..].find('\n').expect("a line");
    let open = format!("{}{}", &open[..from], &open[to..]);
    put_text(&server, &open);
    assert_eq!(self::judged(&server, true)["not_judged"]["not_authenticated"], 1);
    assert!(server.conversions("txn_id=T-1").is_empty());
}

#[test]
fn old_news_does_not_undo_what_was_heard_since() {
    let server = start();
    let click = click(&server, "acme", "one");
    let sale = format!("click_id={click}&event=sale&txn_id=T-1");
    server.postback(&format!("{sale}&status=pending"));
    let refused = server.postback(&format!("{sale}&status=declined"));
    assert_eq!(refused.verdict(), (400, "refused", "bad_status"));
    let_the_clock_move_on();
    assert_eq!(server.postback(&format!("{sale}&status=approved")).verdict().1, "updated");
    log_of(&server, "result=refused", 1);
    let text = catalog(&["sale"]).replacen(
        "id = \"acme\"",
        "id = \"acme\"\nstatuses = { declined = \"rejected\" }",
        1,
    );
    put_text(&server, &text);
    for apply in [false, true] {
        let judged = judged(&server, apply);
        assert_eq!(judged["refused"], json!({ "illegal_transition": 1 }), "{judged}");
    }
    assert_eq!(server.conversions("")[0]["status"], "approved");
}

#[test]
fn the_command_line_traces_lists_and_judges_again() {
    let server = start();
    let click = click(&server, "acme", "one");
    server.postback(&format!("click_id={click}&event=lead&txn_id=T-1"));
    log_of(&server, "", 1);
    put(&server, &["lead"]);
    let command = |arguments: &[&str]| {
        let ended = server.command(arguments);
        assert_eq!((ended.code, &*ended.err), (Some(0), ""), "{arguments:?}: {}", ended.out);
        ended.out
    };
    let listed = command(&["inbound", "--from", "2020-01-01", "--reason", "unknown_event"]);
    let row: Value = serde_json::from_str(listed.trim()).expect("one line of JSON");
    assert_eq!(row["result"], "refused");
    assert!(command(&["trace", &click]).contains("\"unknown_event\""));
    let diff = command(&["reprocess", "--from", "2020-01-01"]);
    assert!(diff.contains("accepted: 1") && diff.contains("nothing was changed"), "{diff}");
    assert!(
        diff.contains(
            "affiliate one: 1 new conversions, revenue 20.00 USD (approved 20.00), \
             payout 1.00 USD (approved 1.00)"
        ),
        "{diff}"
    );
    assert!(server.conversions("").is_empty());
    let done = command(&["reprocess", "--from", "2020-01-01", "--apply"]);
    assert!(done.contains("accepted: 1") && !done.contains("nothing was changed"), "{done}");
    assert!([diff, done].iter().all(|said| said.contains("conversion_rate")));
    assert_eq!(server.conversions("").len(), 1);
}
