//! Postbacks: what is accepted, what is refused and why, and what is found again afterwards.

use postbackd::limits::BODY_BYTES_MAX;
use postbackd::model::reasons::Refusal;
use serde_json::{Value, json};

use crate::harness::{Answer, CATALOG, Server, Setup, eventually};

const FORM: &str = "application/x-www-form-urlencoded";
const JSON: &str = "application/json";

fn post(server: &Server, target: &str, kind: &str, body: &str) -> Answer {
    Answer::of(server.connect().post(target, kind, body.as_bytes()).expect("an answer"))
}

/// A form as a flat JSON object of texts.
fn as_json(form: &str) -> String {
    let pairs = form_urlencoded::parse(form.as_bytes());
    let members: serde_json::Map<_, Value> =
        pairs.map(|(name, value)| (name.into_owned(), value.into())).collect();
    Value::from(members).to_string()
}

#[test]
fn an_accepted_postback_is_answered_in_exactly_this_shape() {
    let server = Server::start();
    let click = server.click("id=sp7");
    let answer = server.postback(&format!("click_id={click}&event=sale&txn_id=T-1"));
    let conversion = answer.word("conversion_id");
    assert!(!conversion.is_empty() && conversion.bytes().all(|b| b.is_ascii_alphanumeric()));
    let expected = format!(
        "{{\"result\":\"accepted\",\"reason\":null,\"conversion_id\":\"{conversion}\",\
         \"click_id\":\"{click}\",\"status\":\"approved\"}}\n"
    );
    assert_eq!((answer.http.status, answer.http.text()), (200, &*expected));
    assert_eq!(answer.http.header("content-type"), Some("application/json"));
    assert_eq!(answer.http.header("cache-control"), Some("no-store"));
    assert_eq!(answer.http.header("idempotent-replayed"), None);
}

#[test]
fn a_refusal_is_answered_in_exactly_this_shape() {
    let server = Server::start();
    let answer = server.postback("event=sale");
    let expected = "{\"result\":\"refused\",\"reason\":\"missing_click_id\",\
        \"conversion_id\":null,\"click_id\":null,\"status\":null,\
        \"hint\":\"send the click ID that the landing URL carried, as click_id\"}\n";
    assert_eq!((answer.http.status, answer.http.text()), (400, expected));
}

#[test]
fn every_refusal_has_its_status_and_its_reason_however_it_is_sent() {
    let server = Server::start();
    let click = server.click("id=sp7");
    let single = server.click("offer=theirs&aff=pub-7");
    let forged = forge(&click);
    let tomorrow = "2999-01-01T00:00:00Z";
    let yesterday = "2026-01-01T00:00:00Z";
    let long = "x".repeat(257);
    let many: String = (0..21).map(|n| format!("&own{n}=1")).collect();
    let cases = [
        ("event=sale".to_owned(), 400, "missing_click_id"),
        ("click_id=&event=sale".to_owned(), 400, "missing_click_id"),
        ("click_id=TEST_123&event=sale".to_owned(), 400, "malformed_click_id"),
        (format!("click_id={}&event=sale", &click[1..]), 400, "malformed_click_id"),
        (format!("click_id={click}0&event=sale"), 400, "malformed_click_id"),
        (format!("click_id={}-&event=sale", &click[1..]), 400, "malformed_click_id"),
        ("click_id=%7Bclick_id%7D&event=sale".to_owned(), 400, "unresolved_macro"),
        ("click_id=REPLACE&event=sale".to_owned(), 400, "unresolved_macro"),
        (format!("click_id={click}&event=sale&txn_id=%5BTXN%5D"), 400, "unresolved_macro"),
        (format!("click_id={click}&event=sale&amount=%7Bamount%7D"), 400, "unresolved_macro"),
        (format!("click_id={click}&event=sale&txn_id=ORD-%7Border%7D"), 400, "unresolved_macro"),
        (format!("click_id={click}&event=sale&txn_id=undefined"), 400, "unresolved_macro"),
        (format!("click_id={click}&event=sale&txn_id=0"), 400, "unresolved_macro"),
        (format!("click_id={click}&event=sale&txn_id=A-null"), 400, "unresolved_macro"),
        (format!("click_id={click}&event=sale&dry_run=%7Bdry_run%7D"), 400, "unresolved_macro"),
        (format!("click_id={click}&event=sale&dry_run=null"), 400, "unresolved_macro"),
        (format!("click_id={click}&event=sale&txn_id=NULL"), 400, "unresolved_macro"),
        (format!("click_id={forged}&event=sale"), 404, "forged_click_id"),
        (format!("click_id={click}"), 400, "missing_event"),
        (format!("click_id={click}&event="), 400, "missing_event"),
        (format!("click_id={click}&event=dance"), 404, "unknown_event"),
        (format!("click_id={single}&event=purchase"), 404, "unknown_event"),
        (format!("click_id={click}&event=sale&amount=1,50"), 400, "bad_amount"),
        (format!("click_id={click}&event=sale&amount=0.1234567"), 400, "bad_amount"),
        (format!("click_id={click}&event=sale&amount=NaN"), 400, "bad_amount"),
        (format!("click_id={click}&event=sale&amount=9999999999999999"), 400, "bad_amount"),
        (format!("click_id={click}&event=sale&payout=x"), 400, "bad_amount"),
        (format!("click_id={click}&event=sale&revenue=x"), 400, "bad_amount"),
        (format!("click_id={click}&event=sale&currency=US"), 400, "bad_currency"),
        (format!("click_id={click}&event=sale&currency=ZZZ"), 400, "bad_currency"),
        (format!("click_id={click}&event=sale&timestamp=yesterday"), 400, "bad_timestamp"),
        (format!("click_id={click}&event=sale&timestamp={tomorrow}"), 400, "bad_timestamp"),
        (format!("click_id={click}&event=sale&timestamp={yesterday}"), 400, "bad_timestamp"),
        (format!("click_id={click}&event=sale&status=maybe"), 400, "bad_status"),
        (format!("click_id={click}&event=sale&status=undone"), 400, "bad_status"),
        (format!("click_id={click}&event=sale&quantity=1.5"), 400, "bad_quantity"),
        (format!("click_id={click}&event=sale&quantity=-1"), 400, "bad_quantity"),
        (format!("click_id={click}&event=sale&txn_id={long}"), 400, "bad_encoding"),
        (format!("click_id={click}&cid={forged}&event=sale"), 400, "ambiguous_parameter"),
        (format!("click_id={click}&event=sale&goal=deposit"), 400, "ambiguous_parameter"),
        (format!("click_id={click}&event=sale{many}"), 400, "too_many_parameters"),
        (format!("click_id={click}&event=install&timestamp=2099"), 410, "click_expired"),
    ];
    for (form, status, reason) in &cases {
        // Far enough after the click, and not too far in the future.
        let form = form.replace("=2099", &format!("={}", now_s() + 3600));
        let expected = (*status, "refused", *reason);
        assert_eq!(server.postback(&form).verdict(), expected, "GET {form}");
        assert_eq!(post(&server, "/postback", FORM, &form).verdict(), expected, "form {form}");
        assert_eq!(post(&server, "/postback", "", &form).verdict(), expected, "untyped {form}");
        let json = as_json(&form);
        assert_eq!(post(&server, "/postback", JSON, &json).verdict(), expected, "{json}");
    }
    let timed = format!("click_id={click}&event=sale&timestamp={tomorrow}");
    let hint = "Unix seconds, Unix milliseconds or RFC 3339, not more than a day ahead, nor more than a day before the click";
    assert_eq!(server.postback(&timed).word("hint"), hint);
    assert_eq!(server.conversions(""), [] as [Value; 0]);
    for reason in Refusal::ALL {
        let elsewhere = REFUSED_ELSEWHERE.contains(reason);
        let here = cases.iter().any(|(_, _, word)| *word == reason.as_str());
        assert!(here != elsewhere, "{reason} needs a case, in one place");
    }
}

/// Refusals that the table above cannot show: other tests here do, the first one in
/// `customers`, the next two in `status`, those of who may send
/// in `auth`, the last two in `hostile` and `framing`.
const REFUSED_ELSEWHERE: [Refusal; 18] = [
    Refusal::UnknownCustomer,
    Refusal::UnknownConversion,
    Refusal::IllegalTransition,
    Refusal::BadToken,
    Refusal::BadSignature,
    Refusal::StaleSignature,
    Refusal::ReplayedNonce,
    Refusal::IpNotAllowed,
    Refusal::WrongAdvertiser,
    Refusal::UnknownAdvertiser,
    Refusal::UnknownOffer,
    Refusal::UnknownPath,
    Refusal::MethodNotAllowed,
    Refusal::BodyTooLarge,
    Refusal::UrlTooLong,
    Refusal::UnsupportedMediaType,
    Refusal::BodyIncomplete,
    Refusal::BadHost,
];

pub fn now_s() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.expect("after 1970").as_secs()
}

/// The same click ID with one letter of its MAC changed.
fn forge(click: &str) -> String {
    let (start, last) = click.split_at(click.len() - 1);
    format!("{start}{}", if last == "0" { "1" } else { "0" })
}

#[test]
fn what_is_wrong_with_one_form_only_is_refused_too() {
    let server = Server::start();
    let click = server.click("id=sp7");
    let good = format!("click_id={click}&event=sale");
    let check = |answer: Answer, expected: (u16, &str)| {
        assert_eq!(answer.verdict(), (expected.0, "refused", expected.1), "{answer:?}");
    };
    check(server.postback(&format!("{good}&txn_id=10%")), (400, "bad_encoding"));
    check(server.postback(&format!("{good}&x=caf%E9")), (400, "bad_encoding"));
    check(post(&server, "/postback", FORM, &format!("{good}&x=%zz")), (400, "bad_encoding"));
    for json in ["{", "[]", "\"x\"", "{\"click_id\":{}}", "{\"event\":[\"sale\"]}", "{} {}"] {
        check(post(&server, "/postback", JSON, json), (400, "bad_encoding"));
    }
    check(
        post(&server, &format!("/postback?{good}"), FORM, "event=deposit"),
        (400, "ambiguous_parameter"),
    );
    check(
        post(&server, "/postback", JSON, "{\"event\":\"sale\",\"goal\":\"deposit\"}"),
        (400, "ambiguous_parameter"),
    );
    check(server.postback(&"&x=".repeat(65)), (400, "too_many_parameters"));
    check(post(&server, "/postback", "text/plain", &good), (415, "unsupported_media_type"));
    check(post(&server, "/postback", "application/xml", &good), (415, "unsupported_media_type"));
    check(Answer::of(server.get(&format!("/postback/nobody?{good}"))), (404, "unknown_advertiser"));
    check(Answer::of(server.get("/nothing")), (404, "unknown_path"));
    check(Answer::of(server.get("/postback/acme/more")), (404, "unknown_path"));
    check(Answer::of(server.get("/metrics")), (404, "unknown_path"));
    check(Answer::of(server.get("/api/v1/conversions")), (404, "unknown_path"));
    for method in ["PUT", "DELETE", "PATCH", "OPTIONS"] {
        let answer = Answer::of(server.request(method, &format!("/postback?{good}"), ""));
        assert_eq!(answer.http.header("allow"), Some("GET, HEAD, POST"));
        check(answer, (405, "method_not_allowed"));
    }
    let long = format!("/postback?{good}&x={}", "x".repeat(9000));
    check(Answer::of(server.get(&long)), (414, "url_too_long"));
    let large = format!("{good}&x={}", "x".repeat(65 << 10));
    check(post(&server, "/postback", FORM, &large), (413, "body_too_large"));
}

#[test]
fn an_offer_that_has_left_the_catalog_is_unknown() {
    let server = Server::start();
    let click = server.click("offer=theirs&aff=pub-7");
    let without = crate::harness::CATALOG.replace("id = \"theirs\"", "id = \"renamed\"");
    server.write_catalog(&without);
    server.signal("HUP");
    let answer = eventually("the reload", || {
        let answer = server.postback(&format!("click_id={click}&event=sale&dry_run=1"));
        (answer.http.status != 200).then_some(answer)
    });
    assert_eq!(answer.verdict(), (404, "refused", "unknown_offer"));
}

#[test]
fn query_form_and_json_mean_the_same() {
    let server = Server::start();
    let click = server.click("id=sp7");
    let form = |txn: &str| format!("click_id={click}&event=sale&amount=9.90&txn_id={txn}");
    let accepted = (200, "accepted", "");
    assert_eq!(server.postback(&form("a")).verdict(), accepted);
    assert_eq!(post(&server, "/postback", FORM, &form("b")).verdict(), accepted);
    assert_eq!(post(&server, "/postback", "", &form("c")).verdict(), accepted);
    let charset = "Application/X-WWW-Form-Urlencoded; charset=UTF-8";
    assert_eq!(post(&server, "/postback/", charset, &form("d")).verdict(), accepted);
    let json = format!(r#"{{"click_id":"{click}","event":"sale","amount":9.90,"txn_id":5}}"#);
    assert_eq!(post(&server, "/postback", JSON, &json).verdict(), accepted);
    let split = post(&server, &format!("/postback?click_id={click}"), FORM, "event=sale&txn_id=6");
    assert_eq!(split.verdict(), accepted);
    assert_eq!(post(&server, &format!("/postback?{}", form("7")), FORM, "").verdict(), accepted);
    let same = |txn: &str| server.postback(&form(txn)).verdict().1.to_owned();
    for txn in ["a", "b", "c", "d", "5", "6", "7"] {
        assert_eq!(same(txn), "duplicate", "{txn}");
    }
    let amounts: Vec<_> =
        server.conversions("").iter().map(|c| c["amount"].as_str().map(str::to_owned)).collect();
    let given = Some("9.90".to_owned());
    let expected = [&given, &given, &given, &given, &given, &None, &given];
    assert_eq!(amounts.iter().collect::<Vec<_>>(), expected);
}

#[test]
fn a_duplicate_gets_the_originals_answer_and_says_so_even_after_a_restart() {
    let mut server = Server::start();
    let click = server.click("id=sp7");
    let query = format!("click_id={click}&event=registration&txn_id=T-1");
    let original = server.postback(&query);
    assert_eq!(original.word("status"), "pending");
    let check = |again: Answer| {
        assert_eq!(again.verdict(), (200, "duplicate", ""));
        assert_eq!(again.http.header("idempotent-replayed"), Some("true"));
        let mut expected = original.json.clone();
        expected["result"] = "duplicate".into();
        assert_eq!(again.json, expected);
    };
    check(server.postback(&query));
    check(post(&server, "/postback/acme", JSON, &as_json(&query)));
    assert!(server.stop().success());
    server.start_again();
    check(server.postback(&query));
    assert_eq!(server.conversions("").len(), 1);
}

#[test]
fn a_transaction_counts_once_per_event_whatever_its_click() {
    let server = Server::start();
    let (one, other) = (server.click("id=sp7"), server.click("offer=spring&aff=pub-8"));
    let send = |click: &str, rest: &str| {
        let answer = server.postback(&format!("click_id={click}&{rest}"));
        (answer.word("result").to_owned(), answer.word("conversion_id").to_owned())
    };
    let (result, first) = send(&one, "event=sale&txn_id=T");
    assert_eq!(result, "accepted");
    assert_eq!(send(&other, "event=sale&txn_id=T"), ("duplicate".into(), first));
    assert_eq!(send(&one, "event=deposit&txn_id=T").0, "accepted");
    assert_eq!(send(&one, "event=sale&txn_id=t").0, "accepted");
    assert_eq!(send(&one, "event=sale").0, "accepted");
    assert_eq!(send(&one, "event=sale").0, "duplicate");
    assert_eq!(send(&other, "event=sale").0, "accepted");
}

#[test]
fn a_guid_in_braces_is_a_transaction_and_no_placeholder() {
    let server = Server::start();
    let click = server.click("id=sp7");
    let guid = "%7B3F2504E0-4F89-11D3-9A0C-0305E82C3301%7D";
    let query = format!("click_id={click}&event=sale&txn_id={guid}");
    assert_eq!(server.postback(&query).verdict(), (200, "accepted", ""));
    assert_eq!(server.postback(&query).verdict(), (200, "duplicate", ""));
}

#[test]
fn a_repeatable_event_counts_again_when_its_window_has_passed() {
    let server = Server::start();
    let click = server.click("id=sp7");
    let send = || server.postback(&format!("click_id={click}&event=deposit"));
    let first = send();
    assert_eq!(first.verdict(), (200, "accepted", ""));
    let second = eventually("the window's end", || {
        let answer = send();
        if answer.word("result") == "duplicate" {
            assert_eq!(answer.word("conversion_id"), first.word("conversion_id"));
            return None;
        }
        Some(answer)
    });
    assert_eq!(second.verdict(), (200, "accepted", ""));
    let kept = server.conversions("event=deposit");
    assert_eq!(kept.len(), 2);
    let time = |n: usize| -> jiff::Timestamp {
        kept[n]["received_time"].as_str().expect("a time").parse().expect("RFC 3339")
    };
    assert!(time(1).as_millisecond() - time(0).as_millisecond() >= 400);
}

#[test]
fn one_conversion_per_click_means_one_whatever_the_transaction() {
    let mut server = Server::start();
    let click = server.click("offer=single&aff=pub-7");
    let first = server.postback(&format!("click_id={click}&event=sale&txn_id=A"));
    assert_eq!(first.verdict(), (200, "accepted", ""));
    for restarted in [false, true] {
        if restarted {
            server.kill();
            server.start_again();
        }
        for rest in ["&txn_id=B", "&txn_id=A", ""] {
            let answer = server.postback(&format!("click_id={click}&event=sale{rest}"));
            assert_eq!(answer.verdict(), (200, "duplicate", ""), "{rest}");
            assert_eq!(answer.word("conversion_id"), first.word("conversion_id"));
        }
    }
    assert_eq!(server.conversions("offer=single").len(), 1);
}

#[test]
fn an_object_of_json_is_read_as_such_whatever_a_tool_declares() {
    let server = Server::start();
    let click = server.click("id=sp7");
    let target = format!("/postback?click_id={click}&event=sale");
    for (n, kind) in [FORM, "", JSON].into_iter().enumerate() {
        let body = format!("\u{feff} {{\"txn_id\": \"T-{n}\", \"amount\": \"15.00\"}}");
        assert_eq!(post(&server, &target, kind, &body).verdict(), (200, "accepted", ""));
    }
    let kept = server.conversions("");
    let kept: Vec<_> = kept.iter().map(|it| json!([it["txn_id"], it["amount"]])).collect();
    assert_eq!(json!(kept), json!([["T-0", "15.00"], ["T-1", "15.00"], ["T-2", "15.00"]]));
    let broken = post(&server, &target, FORM, "{\"txn_id\": ");
    assert_eq!(broken.verdict(), (400, "refused", "bad_encoding"));
}

#[test]
fn a_body_that_comes_with_a_get_is_read_as_a_posts() {
    let server = Server::start();
    let click = server.click("id=sp7");
    let get = |query: &str, kind: &str, body: &str| {
        let kind = format!("Content-Type: {kind}\r\n");
        let target = format!("/postback?{query}");
        let answer = server.connect().send_body("GET", &target, &kind, body.as_bytes());
        Answer::of(answer.expect("an answer"))
    };
    let accepted = (200, "accepted", "");
    let sale = format!("click_id={click}&event=sale");
    assert_eq!(get("", FORM, &format!("{sale}&txn_id=G-1")).verdict(), accepted);
    let json = json!({ "click_id": click, "event": "sale", "txn_id": "G-2" }).to_string();
    assert_eq!(get("", JSON, &json).verdict(), accepted);
    let rest = json!({ "click_id": click, "event": "sale" }).to_string();
    assert_eq!(get("txn_id=G-3&_=123", JSON, &rest).verdict(), accepted);
    // The URL says all, whatever comes along.
    let large = "x".repeat(BODY_BYTES_MAX + 1);
    let along = [(JSON, "{\"meta\":{}}"), (FORM, "100% sure"), ("text/plain", &large)];
    for (n, (kind, body)) in along.into_iter().enumerate() {
        let query = format!("{sale}&txn_id=G-1{n}");
        assert_eq!(get(&query, kind, body).verdict(), accepted, "{kind}");
    }
    let mut connection = server.connect();
    let head = format!("GET /postback?{sale}&txn_id=G-20 HTTP/1.1\r\nHost: t\r\n");
    connection.send(format!("{head}Content-Length: 2\r\n\r\n")).expect("sent");
    let answer = Answer::of(connection.receive("GET").expect("an answer before the body"));
    assert_eq!(answer.verdict(), accepted);
    let (kept, txn_id) = (server.conversions(""), |it: &Value| it["txn_id"].clone());
    let kept: Vec<_> = kept.iter().map(txn_id).collect();
    assert_eq!(json!(kept), json!(["G-1", "G-2", "G-3", "G-10", "G-11", "G-12", "G-20"]));
    let broken = get("", JSON, "{\"txn_id\":");
    assert_eq!(broken.verdict(), (400, "refused", "bad_encoding"));
    assert_eq!(get("", FORM, &large).verdict(), (413, "refused", "body_too_large"));
}

#[test]
fn a_hint_names_the_event_that_was_meant() {
    let others: String = (10..50).map(|n| format!("a{n} = \"elsewhere\", ")).collect();
    let many = CATALOG.replace("purchase = \"sale\"", &format!("{others}purchase = \"sale\""));
    let server = Setup::new().catalog(many).start();
    let click = server.click("id=sp7");
    let check = |event: &str, hint: &str| {
        let answer = server.postback(&format!("click_id={click}&event={event}"));
        assert_eq!(answer.verdict(), (404, "refused", "unknown_event"), "{answer:?}");
        let told = answer.word("hint");
        let rest = told.strip_prefix("the click's offer defines no event of this name");
        assert_eq!(rest, Some(hint), "{answer:?}");
    };
    check("Sale", "; did you mean \"sale\"?");
    check("registraton", "; did you mean \"registration\"?");
    check("Purchase", "; did you mean \"purchase\"?");
    check("dance", "");
    check(&"sale".repeat(100), "");
    let other = server.click("offer=theirs&aff=pub-7");
    let answer = server.postback(&format!("aff_sub2={other}&click_id={other}&event=purchas"));
    assert_eq!(answer.word("reason"), "unknown_event", "{answer:?}");
    assert!(!answer.word("hint").contains("purchase"), "another advertiser's word: {answer:?}");
    let catalog = CATALOG.replace("purchase = \"sale\"", "purchase = \"deposit\"");
    assert_ne!(catalog, CATALOG);
    let server = Setup::new().catalog(catalog).start();
    let single = server.click("offer=single&aff=pub-7");
    let answer = server.postback(&format!("click_id={single}&event=purchase"));
    let hint = "the catalog reads it as \"deposit\", and the click's offer has no such event";
    assert_eq!((answer.word("reason"), answer.word("hint")), ("unknown_event", hint));
}

#[test]
fn a_hint_names_what_cannot_be_read() {
    let server = Server::start();
    let query = format!("click_id={}&event=sale", server.click("id=sp7"));
    let target = format!("/postback?{query}");
    let check = |answer: Answer, reason: (u16, &str), hint: &str| {
        assert_eq!(answer.verdict(), (reason.0, "refused", reason.1), "{answer:?}");
        assert!(answer.word("hint").contains(hint), "{answer:?}");
    };
    let encoding = (400, "bad_encoding");
    let (flat, object) = ("no object or list in the object", "one flat object: send {} or no body");
    check(post(&server, &target, JSON, "{\"order\":{\"id\":1}}"), encoding, flat);
    check(post(&server, &target, JSON, "{\"tags\":[]}"), encoding, flat);
    for json in ["[]", "null", " [1]", "\"x\""] {
        check(post(&server, &target, JSON, json), encoding, object);
    }
    check(post(&server, &target, JSON, "{\"txn_id\":"), encoding, "is not JSON");
    check(post(&server, &target, JSON, "{\"note\":\"\\ud800\"}"), encoding, "is not JSON in UTF-8");
    let latin_1 = b"{\"note\":\"caf\xe9\"}";
    let kind = format!("Content-Type: {JSON}\r\n");
    let answer = server.connect().send_body("POST", &target, &kind, latin_1).expect("an answer");
    check(Answer::of(answer), encoding, "is not JSON in UTF-8");
    check(
        server.postback(&format!("{query}&amp;txn_id=T")),
        encoding,
        "write & where it has &amp;",
    );
    check(server.postback(&format!("{query}&x=%zz")), encoding, "percent-encode names and values");
    check(
        server.postback(&"x=&".repeat(65)),
        (400, "too_many_parameters"),
        "at most 64 parameters",
    );
    let many: String = (0..21).map(|n| format!("&x{n}=1")).collect();
    let own = server.postback(&format!("{query}{many}"));
    check(own, (400, "too_many_parameters"), "at most 20 parameters of your own");
    let (media, zipped) = ((415, "unsupported_media_type"), [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3]);
    for encoded in ["Content-Encoding: gzip\r\n", "Content-Encoding: utf-8, BR\r\n", ""] {
        let kind = format!("Content-Type: {JSON}\r\n{encoded}");
        let mut connection = server.connect();
        let answer = connection.send_body("POST", &target, &kind, &zipped).expect("an answer");
        check(Answer::of(answer), media, "not compressed");
    }
    let kind = format!("Content-Type: {JSON}\r\nContent-Encoding: Identity, utf-8\r\n");
    let answer = server.connect().send_body("POST", &target, &kind, b"{}").expect("an answer");
    assert_eq!(Answer::of(answer).verdict(), (200, "accepted", ""));
}

#[test]
fn what_names_nothing_is_no_transaction() {
    let server = Server::start();
    let sale = || format!("click_id={}&event=sale", server.click("id=sp7"));
    for txn_id in ["None", "nil", "NaN", "(null)", "false", "__ORDER_ID__"] {
        let answer = server.postback(&format!("{}&txn_id={txn_id}", sale()));
        assert_eq!(answer.verdict(), (400, "refused", "unresolved_macro"), "{txn_id}");
    }
    // Blanks are nothing: each click has its sale.
    for _ in 0..2 {
        let answer = server.postback(&format!("{}&txn_id=%20", sale()));
        assert_eq!(answer.verdict(), (200, "accepted", ""));
    }
    let copied = server.postback(&format!("{}&amp;txn_id=T-1", sale()));
    assert_eq!(copied.verdict(), (400, "refused", "bad_encoding"));
}

#[test]
fn a_refused_claim_leaves_no_other_claim_behind() {
    let server = Server::start();
    let (one, other) =
        (server.click("offer=single&aff=pub-7"), server.click("offer=single&aff=pub-7"));
    let send = |click: &str, txn: &str| {
        server.postback(&format!("click_id={click}&event=sale&txn_id={txn}"))
    };
    assert_eq!(send(&one, "A").word("result"), "accepted");
    assert_eq!(send(&one, "B").word("result"), "duplicate");
    assert_eq!(send(&other, "B").word("result"), "accepted", "B was never counted");
}

#[test]
fn the_advertisers_own_names_replace_ours() {
    let server = Server::start();
    let click = server.click("offer=theirs&aff=pub-7");
    let get = |query: &str| Answer::of(server.get(&format!("/postback/mapped?{query}")));
    let ours = get(&format!("click_id={click}&event=sale&txn_id=1"));
    assert_eq!(ours.verdict(), (400, "refused", "missing_click_id"));
    let theirs = get(&format!("aff_sub2={click}&event=sale&order=7&txn_id=mine"));
    assert_eq!(theirs.verdict(), (200, "accepted", ""));
    let kept = server.api(&format!("conversions/{}", theirs.word("conversion_id")));
    assert_eq!(kept["txn_id"], "7");
    assert_eq!(kept["params"], json!({"txn_id": "mine"}));
}

#[test]
fn the_advertisers_words_for_events_and_statuses_are_understood() {
    let server = Server::start();
    let click = server.click("id=sp7");
    let check = |event: &str, status: &str, expected: (&str, &str)| {
        let answer = server.postback(&format!(
            "click_id={click}&event={event}&status={status}&txn_id={event}-{status}"
        ));
        assert_eq!(answer.verdict(), (200, "accepted", ""), "{event} {status}");
        let kept = server.api(&format!("conversions/{}", answer.word("conversion_id")));
        let (event, status) = (kept["event"].as_str(), answer.word("status"));
        assert_eq!((event, status), (Some(expected.0), expected.1));
        assert_eq!(kept["status"], status);
    };
    check("sale", "", ("sale", "approved"));
    check("purchase", "ok", ("sale", "approved"));
    check("purchase", "approved", ("sale", "approved"));
    check("purchase", "hold", ("sale", "pending"));
    check("sale", "no", ("sale", "rejected"));
    check("registration", "", ("registration", "pending"));
    check("registration", "ok", ("registration", "pending"));
}

#[test]
fn an_advertiser_cannot_report_for_anothers_offer() {
    let server = Server::start();
    let click = server.click("id=sp7");
    let wrong =
        Answer::of(server.get(&format!("/postback/mapped?aff_sub2={click}&event=sale&order=1")));
    assert_eq!(wrong.verdict(), (403, "refused", "wrong_advertiser"));
    let right = Answer::of(server.get(&format!("/postback/acme?cid={click}&goal=sale&txid=1")));
    assert_eq!(right.verdict(), (200, "accepted", ""));
}

#[test]
fn a_dry_run_and_head_answer_the_same_and_write_nothing() {
    let server = Server::start();
    server.await_own_commits();
    let click = server.click("id=sp7");
    let query = format!("click_id={click}&event=sale&txn_id=T");
    let commits = server.metric("postbackd_store_commits_total");
    let would = json!({"result": "accepted", "reason": null, "conversion_id": null,
        "click_id": click, "status": "approved", "dry_run": true});
    assert_eq!(server.postback(&format!("{query}&dry_run=1")).json, would);
    for word in ["true", "True", "TRUE", "yes", "on", "2"] {
        assert_eq!(server.postback(&format!("{query}&dry_run={word}")).json, would, "{word}");
    }
    assert_eq!(post(&server, "/postback?dry_run=1", JSON, &as_json(&query)).json, would);
    let head = server.request("HEAD", &format!("/postback?{query}"), "");
    assert_eq!((head.status, head.header("x-postback-result")), (200, Some("accepted")));
    let refused = server.request("HEAD", "/postback?event=sale", "");
    assert_eq!((refused.status, refused.header("x-postback-result")), (400, Some("refused")));
    assert_eq!(server.metric("postbackd_store_commits_total"), commits);
    assert_eq!(server.conversions("").len(), 0);
    let real = server.postback(&format!("{query}&dry_run=False"));
    assert_eq!(real.verdict(), (200, "accepted", ""));
    for word in ["0", "false", "NO", "off", ""] {
        let again = server.postback(&format!("{query}&dry_run={word}"));
        assert_eq!(again.json["dry_run"], json!(null), "{word:?} is none");
    }
    let again = server.postback(&format!("{query}&dry_run=1"));
    assert_eq!(again.verdict(), (200, "duplicate", ""));
    assert_eq!(again.json["dry_run"], true);
    assert_eq!(again.word("conversion_id"), real.word("conversion_id"));
}

#[test]
fn a_late_conversion_of_a_lenient_offer_is_kept_and_pays_the_affiliate_nothing() {
    let server = Server::start();
    let click = server.click("offer=lenient&aff=pub-7");
    let later = now_s() + 3600;
    let answer =
        server.postback(&format!("click_id={click}&event=sale&txn_id=1&timestamp={later}"));
    assert_eq!(answer.verdict(), (200, "accepted", ""));
    let kept = server.api(&format!("conversions/{}", answer.word("conversion_id")));
    assert_eq!(kept["flags"], json!(["late"]));
    assert_eq!((&kept["payout"], &kept["revenue"]), (&json!("0.00"), &json!("20.00")));
    assert_eq!(server.api("balances?affiliate=pub-7")["balances"][0]["owed"], "0.00");
    assert_eq!(server.metric("postbackd_conversion_flags_total{flag=\"late\"}"), 1.0);
}

#[test]
fn a_genuine_click_id_without_a_record_converts_and_is_flagged() {
    let key = "42".repeat(32);
    let mut server = Setup::new().key("click.signing_key", &key).start();
    let click = server.click("id=sp7");
    // Another folder, the same key and the same numbers: the click's record is not there.
    let other = Setup::new().key("click.signing_key", &key).start();
    let answer = other.postback(&format!("click_id={click}&event=sale&txn_id=1"));
    assert_eq!(answer.verdict(), (200, "accepted", ""));
    let kept = other.api(&format!("conversions/{}", answer.word("conversion_id")));
    assert_eq!(kept["flags"], json!(["click_record_missing"]));
    assert_eq!((&kept["offer"], &kept["affiliate"]), (&json!("spring"), &json!("pub-7")));
    let flags = "postbackd_conversion_flags_total{flag=\"click_record_missing\"}";
    assert_eq!(other.metric(flags), 1.0);
    assert!(server.stop().success());
}

#[test]
fn a_full_disk_refuses_new_conversions_for_now_while_all_else_goes_on() {
    let mut server = Server::start();
    let click = server.click("id=sp7");
    let send = |server: &Server, txn: &str| {
        server.postback(&format!("click_id={click}&event=sale&txn_id={txn}"))
    };
    assert_eq!(send(&server, "before").verdict(), (200, "accepted", ""));
    server.set_key("store.free_space_reserve", "1000000GiB");
    assert!(server.stop().success());
    server.start_again();
    eventually("a look at the disk", || {
        (server.metric("postbackd_store_disk_full") == 1.0).then_some(())
    });
    let refused = send(&server, "now");
    assert_eq!(refused.verdict(), (503, "unavailable", "disk_full"));
    assert_eq!(refused.http.header("retry-after"), Some("30"));
    assert_eq!(send(&server, "before").verdict(), (200, "duplicate", ""));
    assert_eq!(server.get("/c/sp7").status, 302);
    assert_eq!(server.metric("postbackd_clicks_unrecorded_total"), 1.0);
    let reason = "postbackd_postback_unavailable_total{reason=\"disk_full\"}";
    assert_eq!(server.metric(reason), 1.0);
    server.set_key("store.free_space_reserve", "1MiB");
    assert!(server.stop().success());
    server.start_again();
    assert_eq!(send(&server, "now").verdict(), (200, "accepted", ""));
}

#[test]
fn a_click_id_stays_genuine_while_keys_rotate_and_not_longer() {
    let mut server = Server::start();
    let send = |server: &Server, click: &str, txn: &str| {
        let answer = server.postback(&format!("click_id={click}&event=sale&txn_id={txn}"));
        (answer.word("result").to_owned(), answer.word("reason").to_owned())
    };
    let accepted = ("accepted".to_owned(), String::new());
    let of_the_store = server.click("id=sp7");
    let (first, second) = ("11".repeat(32), "22".repeat(32));
    server.set_key("click.signing_key", &first);
    assert!(server.stop().success());
    server.start_again();
    assert_eq!(send(&server, &of_the_store, "a"), accepted);
    let of_first = server.click("id=sp7");
    server.set_key("click.signing_key", &second);
    server.set_key("click.verification_keys", &first);
    assert!(server.stop().success());
    server.start_again();
    for (click, txn) in [(&of_the_store, "b"), (&of_first, "c"), (&server.click("id=sp7"), "d")] {
        assert_eq!(send(&server, click, txn), accepted);
    }
    server.set_key("click.verification_keys", "");
    assert!(server.stop().success());
    server.start_again();
    let forged = ("refused".to_owned(), "forged_click_id".to_owned());
    assert_eq!(send(&server, &of_first, "e"), forged);
}

#[test]
fn a_click_of_another_network_is_forged() {
    let (one, other) = (Server::start(), Server::start());
    let answer = other.postback(&format!("click_id={}&event=sale", one.click("id=sp7")));
    assert_eq!(answer.verdict(), (404, "refused", "forged_click_id"));
}

#[test]
fn a_form_that_ends_its_line_and_an_array_are_read_as_what_they_are() {
    let server = Server::start();
    let click = server.click("id=sp7");
    for (body, result) in [
        ("event=sale&amount=5&txn_id=B-4", "accepted"),
        ("event=sale&amount=5&txn_id=B-4\n", "duplicate"),
        ("event=sale&txn_id=B-4&amount=5\r\n", "duplicate"),
    ] {
        let body = format!("click_id={click}&{body}");
        assert_eq!(
            post(&server, "/postback", FORM, &body).verdict(),
            (200, result, ""),
            "{body:?}"
        );
    }
    let array = format!("[{{\"click_id\":\"{click}\",\"event\":\"sale\",\"token\":\"t0ken\"}}]");
    let refused = post(&server, "/postback", FORM, &array);
    assert_eq!(refused.verdict(), (400, "refused", "bad_encoding"));
    let kept = crate::harness::eventually("the array in the log", || {
        let rows = crate::inbound::log(&server, "result=refused");
        (!rows.is_empty()).then_some(rows)
    });
    assert!(!json!(kept).to_string().contains("t0ken"), "{kept:?}");
}

#[test]
fn what_is_no_request_is_counted() {
    let server = Server::start();
    for target in [
        &b"/postback?note=a b"[..],
        b"/postback?txn_id=<TXN>",
        b"/postback?note=\"a\"",
        b"/postback?note=\xe9",
    ] {
        let mut connection = server.connect();
        let request = [b"GET ", target, b" HTTP/1.1\r\nHost: x\r\n\r\n"].concat();
        connection.send(request).expect("sent");
        let said = connection.rest().expect("closed");
        assert!(said.starts_with(b"HTTP/1.1 400"), "{said:?}");
    }
    crate::harness::eventually("all counted", || {
        (server.metric("postbackd_requests_malformed_total") == 4.0).then_some(())
    });
}
