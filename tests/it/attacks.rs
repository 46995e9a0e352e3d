//! What somebody would try who wants money, data or harm: each attempt is one that must fail.

use std::collections::HashSet;

use serde_json::Value;

use crate::harness::{Answer, Connection, Response, Server, Setup};

/// An offer that pays for everything that an attacker would like to exaggerate, one that waits for
/// the network's word, and one of somebody else.
const CATALOG: &str = r#"
[[advertisers]]
id = "acme"

[[advertisers]]
id = "rival"

[[advertisers]]
id = "tune"
preset = "tune"

[[offers]]
id = "deal"
advertiser = "acme"
url = "https://shop.example/l?c={click_id}&1={sub1}&2={sub2}&k={kw}#{sub3}"
fallback_url = "https://shop.example/ended"
pass_params = ["kw"]
one_conversion_per_click = true

[[offers.events]]
id = "sale"
payout = { fixed = "1.00", percent = "10", per_unit = "0.50", currency = "USD" }
revenue = { percent = "20", currency = "USD" }

[[offers]]
id = "held"
advertiser = "acme"
url = "https://shop.example/h?c={click_id}"

[[offers.events]]
id = "sale"
initial_status = "pending"
payout = { fixed = "15.00", currency = "USD" }

[[offers]]
id = "theirs"
advertiser = "rival"
url = "https://rival.example/?c={click_id}"

[[offers.events]]
id = "sale"
payout = { fixed = "9.00", currency = "USD" }

[[offers]]
id = "tuned"
advertiser = "tune"
url = "https://tune.example/?c={click_id}"

[[offers.events]]
id = "sale"

[[affiliates]]
id = "ann"

[[affiliates]]
id = "bob"

[[links]]
code = "d"
offer = "deal"
affiliate = "ann"
"#;

fn server() -> Server {
    Setup::new().catalog(CATALOG.to_owned()).start()
}

fn click(server: &Server, offer: &str) -> String {
    server.click(&format!("offer={offer}&aff=ann"))
}

fn is_well(server: &mut Server) {
    assert!(server.is_alive());
    let log = server.whole_log();
    assert!(!log.contains("panicked") && !log.contains("ERROR"), "{log}");
}

#[test]
fn a_click_id_cannot_be_made_of_another() {
    let mut server = server();
    let (mine, other) = (click(&server, "deal"), click(&server, "theirs"));
    let (mut connection, mut forgeries) = (server.connect(), 0);
    let mut check = |forged: String| {
        if forged == mine || forged == other {
            return;
        }
        let target = format!("/postback?click_id={forged}&event=sale&txn_id={forged}");
        let answer = Answer::of(connection.request("GET", &target, "").expect("an answer"));
        // What is not even of a version that exists says so.
        let told = answer.verdict();
        let forgery = [(404, "refused", "forged_click_id"), (400, "refused", "malformed_click_id")];
        assert!(forgery.contains(&told), "{forged}: {told:?}");
        forgeries += usize::from(told.0 == 404);
    };
    for place in 0..33 {
        // Every letter at every place, and the start of the one with the end of the other.
        for letter in (b'0'..=b'9').chain(b'A'..=b'Z').chain(b'a'..=b'z') {
            let mut forged = mine.clone().into_bytes();
            forged[place] = letter;
            check(String::from_utf8(forged).expect("ASCII"));
        }
        check(format!("{}{}", &mine[..place], &other[place..]));
        check(format!("{}{}", &other[..place], &mine[place..]));
    }
    assert!(forgeries > 1000, "only {forgeries} looked genuine");
    for malformed in [
        "z".repeat(33),
        mine[..32].to_owned(),
        format!("{mine}0"),
        mine.replacen(&mine[5..6], "%00", 1),
        mine.replacen(&mine[5..6], "%EF%BC%91", 1),
        format!("{mine}%20"),
        format!("{mine},{other}"),
    ] {
        let answer = server.postback(&format!("click_id={malformed}&event=sale"));
        assert_eq!(answer.verdict(), (400, "refused", "malformed_click_id"), "{malformed}");
    }
    assert_eq!(server.conversions("").len(), 0);
    is_well(&mut server);
}

#[test]
fn however_a_postback_is_repeated_it_counts_once() {
    let mut server = server();
    let click = click(&server, "deal");
    let pairs = format!("event=sale&txn_id=T-1&amount=10&click_id={click}");
    let first = server.postback(&pairs);
    assert_eq!(first.verdict(), (200, "accepted", ""));
    let id = first.word("conversion_id").to_owned();
    let form = |target: &str, body: &str| {
        Answer::of(server.connect().post(target, "", body.as_bytes()).expect("an answer"))
    };
    let json = |body: &str| {
        let mut connection = server.connect();
        Answer::of(connection.post("/postback", "application/json", body.as_bytes()).expect("one"))
    };
    let variants = [
        server.postback(&pairs),
        server.postback(&format!("cid={click}&goal=sale&txid=T-1&amount=10.00")),
        server.postback(&format!("click_id={click}&event=sale&transaction_id=%54%2D1&amount=10")),
        server.postback(&format!("{pairs}&{pairs}")),
        server.postback(&format!("{pairs}&sub1=other&own=other&timestamp=1764000000")),
        server.postback(&format!("{pairs}&payout=999&revenue=999")),
        server.postback(&format!("{pairs}&customer_id=somebody")),
        Answer::of(server.get(&format!("/postback/acme?{pairs}"))),
        Answer::of(server.get(&format!("/postback/?{pairs}"))),
        form("/postback", &pairs),
        form("/postback/acme", &pairs),
        form(&format!("/postback?{pairs}"), &pairs),
        json(&format!(r#"{{"click_id":"{click}","event":"sale","txn_id":"T-1","amount":10}}"#)),
        json(&format!(
            r#"{{"click_id":"{click}","event":"sale","txn_id":"\u0054-1","amount":"10"}}"#
        )),
    ];
    for (n, answer) in variants.iter().enumerate() {
        assert_eq!(answer.verdict(), (200, "duplicate", ""), "{n}");
        assert_eq!(answer.word("conversion_id"), id, "{n}");
    }
    // One conversion a click, whatever its transaction is called.
    for txn in ["T-2", "t-1", "T-1%20", "%EF%BC%B4-1", "T-1%00", ""] {
        let answer =
            server.postback(&format!("click_id={click}&event=sale&txn_id={txn}&amount=10"));
        assert_eq!(answer.word("result"), "duplicate", "{txn}");
        assert_eq!(answer.word("conversion_id"), id, "{txn}");
    }
    let kept = server.conversions("");
    assert_eq!(kept.len(), 1);
    assert_eq!((&kept[0]["payout"], &kept[0]["amount"]), (&"2.50".into(), &"10.00".into()));
    is_well(&mut server);
}

#[test]
fn what_is_earned_cannot_be_exaggerated() {
    let mut server = server();
    let refused = |query: &str, reason: &str| {
        let click = click(&server, "deal");
        let answer = server.postback(&format!("click_id={click}&event=sale&{query}"));
        assert_eq!(answer.verdict(), (400, "refused", reason), "{query}");
    };
    for number in [
        "1e9",
        "1E3",
        "+5",
        "%2B5",
        "0x10",
        "1_000",
        "1,000",
        "1.000,00",
        "NaN",
        "inf",
        "Infinity",
        "-0.0000001",
        "1.0000000",
        "9223372036854.775808",
        "-9223372036854.775809",
        "99999999999999999999999999999999999999",
        "%205",
        "5%20",
        "--5",
        ".5",
        "5.",
        "5.5.5",
        "-",
        "%D9%A1%D9%A2",
        "%EF%BC%95",
        "%E2%88%925",
        "%C2%BD",
        "5%00",
        "5%0A",
        "$5",
        "5USD",
        "1/2",
        "null",
        "true",
        "%7B%7D",
    ] {
        for field in ["amount", "revenue", "payout"] {
            // A lone placeholder has a reason of its own.
            let reason = if number == "%7B%7D" { "unresolved_macro" } else { "bad_amount" };
            refused(&format!("{field}={number}"), reason);
        }
    }
    for quantity in
        ["-1", "1.5", "1e3", "18446744073709551616", "%D9%A3", "%EF%BC%93", "0x1", "%201", "1%00"]
    {
        refused(&format!("quantity={quantity}"), "bad_quantity");
    }
    // What is well-formed and cannot be paid: no product wraps around.
    for query in [
        "quantity=18446744073709551615",
        "quantity=9223372036854775807",
        "quantity=18446744073710",
        "amount=9223372036854.775807&quantity=18446744073709",
    ] {
        refused(query, "bad_amount");
    }
    for currency in ["usd%00", "US", "USDT", "%D0%A3SD", "XXX%20", "$"] {
        refused(&format!("amount=1&currency={currency}"), "bad_currency");
    }
    for time in ["99999999999999999999", "-99999999999", "1e9", "2999-01-01T00:00:00Z", "NaN"] {
        refused(&format!("timestamp={time}"), "bad_timestamp");
    }
    for twice in ["amount=1&amount=1000", "amount=1&amount=1.00", "quantity=1&quantity=2"] {
        refused(twice, "ambiguous_parameter");
    }
    assert_eq!(server.conversions("").len(), 0);

    // What the sender says of payout and revenue is not believed, and not what the network decides.
    let deal = click(&server, "deal");
    let query = "event=sale&amount=10&quantity=2&payout=1000000&revenue=1000000";
    let told = server.postback(&format!("click_id={deal}&{query}"));
    assert_eq!(told.verdict(), (200, "accepted", ""));
    let kept = server.api(&format!("conversions/{}", told.word("conversion_id")));
    assert_eq!((&kept["payout"], &kept["revenue"]), (&"3.00".into(), &"2.00".into()));
    let held = click(&server, "held");
    for status in ["approved", "approved", "pending"] {
        let told = server.postback(&format!("click_id={held}&event=sale&txn_id=H&status={status}"));
        assert_eq!((told.http.status, told.word("status")), (200, "pending"), "{status}");
    }
    let balances = server.api("balances?affiliate=ann");
    assert!(!balances.to_string().contains("15.00"), "{balances}");
    is_well(&mut server);
}

#[test]
fn a_negative_amount_pays_nobody() {
    let mut server = server();
    for amount in ["-10", "-9223372036854.775808", "-0.000001"] {
        let click = click(&server, "deal");
        let told = server.postback(&format!("click_id={click}&event=sale&amount={amount}"));
        if told.http.status == 200 {
            let kept = server.api(&format!("conversions/{}", told.word("conversion_id")));
            let payout = kept["payout"].as_str().expect("a payout");
            let fixed: f64 = payout.parse().expect("a number");
            assert!(fixed <= 1.5, "{amount}: {kept}");
        }
    }
    is_well(&mut server);
}

#[test]
fn one_advertiser_learns_and_changes_nothing_of_another() {
    let mut server = server();
    let mine = click(&server, "deal");
    let sale = format!("click_id={mine}&event=sale&txn_id=SECRET-1&customer_id=alice&amount=77");
    let told = server.postback(&sale);
    assert_eq!(told.verdict(), (200, "accepted", ""));
    let id = told.word("conversion_id").to_owned();
    let of_rival = |query: &str| Answer::of(server.get(&format!("/postback/rival?{query}")));
    // Its click, in any form, also of what is known already.
    for query in [sale.clone(), format!("{sale}&dry_run=1"), format!("click_id={mine}&event=sale")]
    {
        assert_eq!(of_rival(&query).verdict(), (403, "refused", "wrong_advertiser"), "{query}");
    }
    // Its customer and its transaction are nobody's there.
    let customer = of_rival("customer_id=alice&event=sale");
    assert_eq!(customer.word("result"), "refused");
    let theirs = click(&server, "theirs");
    let same = of_rival(&format!("click_id={theirs}&event=sale&txn_id=SECRET-1"));
    assert_eq!(same.verdict(), (200, "accepted", ""), "transactions are an advertiser's own");
    // An answer says no money, no name of anybody, and of a refusal no conversion.
    let expected: HashSet<_> =
        ["result", "reason", "conversion_id", "click_id", "status", "hint"].into();
    for answer in [&told, &customer, &same, &of_rival(&sale)] {
        let members = answer.json.as_object().expect("an object");
        assert!(members.keys().all(|name| expected.contains(name.as_str())), "{members:?}");
        let text = answer.http.text();
        assert!(!text.contains("77") || text.contains("conversion_id\":\""), "{text}");
        assert!(!text.contains("alice") && !text.contains("SECRET"), "{text}");
    }
    // What it sends changes nothing of the other's.
    for status in ["rejected", "reversed", "pending"] {
        let answer = of_rival(&format!("{sale}&status={status}"));
        assert_eq!(answer.http.status, 403);
    }
    let kept = server.api(&format!("conversions/{id}"));
    assert_eq!((&kept["status"], &kept["txn_id"]), (&"approved".into(), &"SECRET-1".into()));
    assert_eq!(kept["history"].as_array().map(Vec::len), Some(1));
    is_well(&mut server);
}

/// The hosts of the catalog.
const HOSTS: [&str; 4] = [
    "https://shop.example/",
    "https://rival.example/",
    "https://tune.example/",
    "https://network.example/",
];

fn is_ours(answer: &Response, target: &str) {
    let mut names: Vec<_> = answer.headers.iter().map(|(name, _)| name.as_str()).collect();
    names.sort_unstable();
    if answer.status == 302 {
        let expected = [
            "cache-control",
            "connection",
            "content-length",
            "date",
            "location",
            "referrer-policy",
        ];
        assert_eq!(names, expected, "{target}");
        let location = answer.header("location").expect("somewhere");
        assert!(HOSTS.iter().any(|host| location.starts_with(host)), "{target}: {location}");
        assert!(location.bytes().all(|byte| byte.is_ascii_graphic()), "{target}: {location}");
    } else {
        assert!((400..500).contains(&answer.status), "{target}: {answer:?}");
    }
    assert!(answer.body.is_empty() || !answer.text().contains("evil"), "{target}: {answer:?}");
}

#[test]
fn nobody_is_sent_elsewhere_and_no_header_is_slipped_in() {
    let mut server = server();
    let values = [
        "https://evil.example/",
        "//evil.example",
        "@evil.example",
        "https%3A%2F%2Fevil.example",
        "%40evil.example%2F",
        "%5C%5Cevil.example",
        "%0d%0aLocation:%20https://evil.example/%0d%0a",
        "%0D%0ASet-Cookie:%20evil=1",
        "%0aSet-Cookie:%20evil=1",
        "%0d%0a%0d%0a%3Cscript%3Eevil%3C/script%3E",
        "%250d%250aSet-Cookie:%20evil=1",
        "%E5%98%8A%E5%98%8DSet-Cookie:%20evil=1",
        "%C0%8D%C0%8ASet-Cookie:%20evil=1",
        "%00evil",
        "..%2f..%2fevil",
        "%2e%2e/%2e%2e/evil",
        "javascript:alert(1)//evil",
        "%23evil",
        "%3Fevil",
        "%26c%3Devil",
        "%7Bclick_id%7D",
        "%",
        "%2",
        "%zz",
    ];
    let names = [
        "sub1",
        "sub2",
        "sub3",
        "kw",
        "url",
        "redirect",
        "redirect_url",
        "fallback_url",
        "dest",
        "next",
        "r",
        "u",
        "offer",
        "aff",
        "id",
        "gdpr",
        "us_privacy",
    ];
    for value in values {
        for name in names {
            let target = format!("/click?{name}={value}&offer=deal&aff=ann");
            is_ours(&server.get(&target), &target);
            let target = format!("/c/d?{name}={value}");
            is_ours(&server.get(&target), &target);
        }
        for target in [format!("/c/{value}"), format!("/c/d/{value}"), format!("/{value}")] {
            is_ours(&server.get(&target), &target);
        }
        // In JSON a value is a string, and nothing more.
        let target = format!("/click?offer=deal&aff=ann&sub1={value}&sub2={value}&redirect=false");
        let json = server.get(&target).json();
        let url = json["url"].as_str().expect("a URL");
        assert!(url.starts_with("https://shop.example/l?c="), "{url}");
        assert_eq!(url.matches('#').count(), 1, "{url}");
        assert_eq!(json.as_object().map(serde_json::Map::len), Some(2), "{json}");
    }
    let lead_astray = "Host: evil.example\r\n".to_owned()
        + "X-Forwarded-Host: evil.example\r\nX-Original-URL: /metrics\r\nX-Rewrite-URL: /metrics\r\n"
        + "Forwarded: host=evil.example\r\nX-Http-Method-Override: PUT\r\nReferer: https://evil.example\r\n";
    for target in ["/c/d", "/click?offer=deal&aff=ann", "http://evil.example/c/d"] {
        let mut connection = server.connect();
        let request = format!("GET {target} HTTP/1.1\r\n{lead_astray}Connection: close\r\n\r\n");
        connection.send(request).expect("sent");
        is_ours(&connection.receive("GET").expect("an answer"), target);
    }
    is_well(&mut server);
}

#[test]
fn what_a_postback_says_breaks_out_of_no_answer() {
    let mut server = server();
    let click = click(&server, "tuned");
    let values = [
        "%22%7D%2C%7B%22result%22%3A%22accepted%22",
        "%22%2C%22status%22%3A%22approved",
        "%5C%22%5C",
        "%0d%0aX-Evil:%201",
        "%0a%00%07%1b%5b2J",
        "%3Cscript%3Ealert(1)%3C/script%3E",
        "%3B%20success%3Dtrue%3B",
        "%E2%80%A8%E2%80%A9",
        "%F0%9F%92%B0",
        "%ff%fe",
    ];
    for value in values {
        for query in [
            format!("click_id={value}&event=sale"),
            format!("click_id={click}&event={value}"),
            format!("click_id={click}&event=sale&amount={value}"),
            format!("click_id={click}&event=sale&status={value}"),
            format!("{value}={value}&event=sale"),
            format!("{value}={click}"),
            format!("transaction_id={value}"),
            format!("tid={value}&aff_sub={click}"),
        ] {
            for path in ["/postback", "/postback/acme", "/postback/tune", "/aff_lsr"] {
                let answer = server.get(&format!("{path}?{query}"));
                let shown = format!("{path}?{query}: {answer:?}");
                assert!(answer.headers.iter().all(|(name, _)| name != "x-evil"), "{shown}");
                let text = answer.text();
                assert!(text.chars().all(|c| !c.is_control() || c == '\n'), "{shown}");
                assert!(text.lines().count() <= 1, "{shown}");
                if answer.header("content-type") == Some("application/json") {
                    let json = answer.json();
                    assert_eq!(json["result"], "refused", "{shown}");
                    assert_eq!(json["status"], Value::Null, "{shown}");
                } else {
                    assert!(!text.contains("success=true"), "{shown}");
                    assert!(text.matches(';').count() <= 2, "{shown}");
                }
            }
        }
    }
    assert_eq!(server.conversions("").len(), 0);
    is_well(&mut server);
}

#[test]
fn the_public_side_has_no_way_into_the_admin_api() {
    let mut server = server();
    let admin = server.api("openapi.json");
    let paths: Vec<String> = admin["paths"].as_object().expect("paths").keys().cloned().collect();
    assert!(paths.len() > 20, "{paths:?}");
    for path in &paths {
        let path = path.replace(['{', '}'], "x");
        for target in [
            path.clone(),
            format!("{path}/"),
            format!("/{path}"),
            format!("/postback/..{path}"),
            format!("/postback;{path}"),
            format!("/%2e{path}"),
            path.replace('/', "%2f"),
            path.to_uppercase(),
            format!("http://127.0.0.1:9090{path}"),
        ] {
            for method in ["GET", "PUT", "POST"] {
                let mut connection = server.connect();
                let headers = "Connection: close\r\nContent-Length: 0\r\n\
                               Authorization: Bearer an-admin-token-for-tests\r\n\
                               X-Forwarded-For: 127.0.0.1\r\n";
                let target =
                    if target.starts_with('%') { format!("/{target}") } else { target.clone() };
                let answer = connection.request(method, &target, headers).expect("an answer");
                assert!((400..500).contains(&answer.status), "{method} {target}: {answer:?}");
                let json = answer.json();
                assert_eq!(json["result"], "refused", "{method} {target}");
                assert!(json.get("error").is_none(), "{method} {target}: {json}");
            }
        }
    }
    // Below a click's path everything is a link, and one that nobody knows.
    for path in &paths {
        for target in [format!("/c/..{path}"), format!("/click/..{path}")] {
            let answer = server.get(&target);
            let told = (answer.status, answer.header("location"));
            assert_eq!(told, (302, Some("https://network.example/unavailable")), "{target}");
        }
    }
    // And the admin side takes no click, no postback, and nobody without the token.
    let mut connection = Connection::open(server.admin);
    for target in ["/click?offer=deal&aff=ann", "/c/d", "/postback?click_id=x"] {
        assert_eq!(
            connection.request("GET", target, "").expect("an answer").status,
            404,
            "{target}"
        );
    }
    for token in
        ["", "Bearer", "Bearer ", "Basic YWRtaW46", "Bearer an-admin-token-for-test", "bearer x"]
    {
        let headers = format!("Authorization: {token}\r\n");
        let answer = connection.request("GET", "/api/v1/conversions", &headers).expect("an answer");
        assert_eq!(answer.status, 401, "{token:?}");
    }
    is_well(&mut server);
}

#[test]
fn parameters_without_end_cost_an_answer_and_nothing_else() {
    let mut server = server();
    let click = click(&server, "deal");
    let own = format!("click_id={click}&event=sale");
    let (name, many) = ("n".repeat(4000), "&".repeat(8000));
    let deep = format!("{}{}", "[".repeat(20_000), "]".repeat(20_000));
    let percent = "%25".repeat(2600);
    for query in [
        (0..65).map(|n| format!("a{n}=1&")).collect::<String>() + &own,
        format!("{own}&{}", (0..21).map(|n| format!("x{n}=1&")).collect::<String>()),
        format!("{own}&{name}=1"),
        format!("{own}&x={name}"),
        format!("{own}&txn_id={percent}"),
        format!("{own}&txn_id={}", "%F0%9F%92%B0".repeat(600)),
    ] {
        let answer = server.postback(&query);
        let (status, result, _) = answer.verdict();
        assert!((400..500).contains(&status) && result == "refused", "{answer:?}");
    }
    // Empty pairs are none.
    assert_eq!(server.postback(&format!("{many}&event=sale")).http.status, 400);
    for body in [
        format!(r#"{{"click_id":"{click}","event":"sale","x":{deep}}}"#),
        format!(r#"{{"click_id":"{click}","event":"sale","x":{{"y":1}}}}"#),
        format!(r#"{{"click_id":["{click}"],"event":"sale"}}"#),
        format!(r#"{{"click_id":"{click}","event":"sale","amount":1e400}}"#),
        format!(r#"{{"click_id":"{click}","event":"sale","amount":{}}}"#, "9".repeat(60_000)),
        format!(r#"{{"click_id":"{click}","event":"sale","txn_id":"\ud800"}}"#),
        format!(r#"{{"click_id":"{click}","event":"sale"}} trailing"#),
        format!(r#"[{{"click_id":"{click}","event":"sale"}}]"#),
        deep.clone(),
        "{".repeat(60_000),
        "\"".to_owned(),
        "\u{feff}{}".to_owned(),
    ] {
        let mut connection = server.connect();
        let answer = connection.post("/postback", "application/json", body.as_bytes());
        let answer = Answer::of(answer.expect("an answer"));
        assert_eq!((answer.http.status, answer.word("result")), (400, "refused"), "{answer:?}");
    }
    assert_eq!(server.conversions("").len(), 0);
    is_well(&mut server);
}
