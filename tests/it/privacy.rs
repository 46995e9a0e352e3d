//! What is kept of people at all: consent that is honoured, and logs that know nobody.

use serde_json::{Value, json};

use crate::harness::{Connection, Server, Setup, eventually};
use crate::inbound::log;

/// Purposes 1 to 3 of a TC string, and the same without purpose 1.
const CONSENT: &str = "COvFyGBOvFyGBAbAAAENAPCAAOAAAAAAAAAAAEEUACCKAAA";
const REFUSAL: &str = "COvFyGBOvFyGBAbAAAENAPCAAGAAAAAAAAAAAEEUACCKAAA";

fn click(server: &Server, query: &str) -> Value {
    let target = format!("/click?id=sp7&redirect=false&sub1=one&{query}");
    let headers = "User-Agent: browser-of-a-visitor\r\nReferer: https://page.example/\r\n";
    let answer = server.request("GET", &target, headers);
    assert_eq!(answer.status, 200, "{answer:?}");
    let id = answer.json()["click_id"].as_str().expect("a click").to_owned();
    server.api(&format!("clicks/{id}"))
}

#[test]
fn a_click_without_consent_is_kept_without_its_visitor_where_the_network_says_so() {
    let check = |server: &Server, query: &str, is_stripped: bool| {
        let kept = click(server, query);
        let headers = ["ip", "user_agent", "referrer"].map(|name| !kept[name].is_null());
        assert_eq!(headers, [!is_stripped; 3], "{query}: {kept}");
        let flags = if is_stripped { json!(["without_consent"]) } else { json!([]) };
        assert_eq!(kept["flags"], flags, "{query}");
        assert_eq!(kept["subs"]["sub1"], "one", "attribution goes on: {kept}");
    };
    let given = format!("gdpr=1&gdpr_consent={CONSENT}");
    let refused = format!("gdpr=1&gdpr_consent={REFUSAL}");
    let without = ["gdpr=1", "gdpr=1&gdpr_consent=", "gdpr=1&gdpr_consent=junk", &refused];
    let opted_out = [
        "us_privacy=1YYN",
        "ccpa_optout=1",
        "us_privacy=1YNN&ccpa_optout=1",
        "ccpa_optout=0&us_privacy=1YYN",
        "us_privacy=%7Bus_privacy%7D&ccpa_optout=1",
        "us_privacy=1YNN&us_privacy=1YYN",
        "gdpr=0&gdpr=1",
    ];
    let strict = Setup::new().key("privacy.without_consent", "strip").start();
    for query in ["", "gdpr=0", "us_privacy=1YNN", &given] {
        check(&strict, query, false);
    }
    for query in without.iter().chain(&opted_out) {
        check(&strict, query, true);
    }
    // What is stored is what counted.
    let kept = click(&strict, "us_privacy=1YNN&ccpa_optout=1");
    assert_eq!(kept["us_privacy"], "1");
    // A consent that is sent beside a refusal is none.
    check(&strict, &format!("{given}&gdpr_consent=junk"), true);
    // Its conversion is counted as any other, and says nothing of it.
    let kept = click(&strict, "gdpr=1");
    let sale = format!("click_id={}&event=sale", kept["click_id"].as_str().expect("an ID"));
    let sale = strict.postback(&sale);
    assert_eq!(sale.verdict(), (200, "accepted", ""));
    let sale = strict.api(&format!("conversions/{}", sale.word("conversion_id")));
    assert_eq!((&sale["payout"], &sale["flags"]), (&json!("15.00"), &json!([])));
    let lenient = Server::start();
    for query in without.iter().chain(&opted_out) {
        check(&lenient, query, false);
    }
}

#[test]
fn a_visitor_leaves_nothing_in_the_log_of_postbacks_however_its_link_was_put() {
    let server = Server::start();
    let of_visitors = [
        "/click?sub1=jane",
        "/click/?sub1=jane",
        "/click/sp7?sub1=jane",
        "/click&sub1=jane",
        "/clicks?sub1=jane",
        "/c?sub1=jane",
        "/c/?sub1=jane",
        "/c/sp7?sub1=jane",
        "/c/sp7/more?sub1=jane",
    ];
    for target in of_visitors {
        for method in ["GET", "HEAD", "POST", "PUT"] {
            for hosts in ["Host: t\r\n", "", "Host: t\r\nHost: u\r\n"] {
                let head = "User-Agent: jane\r\nConnection: close\r\n";
                let mut connection = server.connect();
                let request = format!("{method} {target} HTTP/1.1\r\n{hosts}{head}\r\n");
                connection.send(request).expect("sent");
                connection.receive(method).expect("an answer");
            }
        }
    }
    // Nor does what browsers and scanners ask for by themselves, which brings no parameters.
    let by_themselves = ["/", "/favicon.ico", "/robots.txt", "/wp-login.php"];
    for target in by_themselves {
        assert_eq!(server.get(target).status, 404, "{target}");
    }
    // A postback that has lost its way is found, by whatever method it came.
    assert_eq!(server.get("/postbak?click_id=x&event=sale").status, 404);
    let posted = server.connect().post("/postbak", "application/json", b"{\"click_id\": \"x\"}");
    assert_eq!(posted.expect("an answer").status, 404);
    let lost = eventually("lost postbacks in the log", || {
        let rows = log(&server, "");
        (rows.len() >= 2).then_some(rows)
    });
    let shown: Vec<_> = lost.iter().map(|row| (&row["path"], &row["method"], &row["ip"])).collect();
    let (path, ip) = (json!("/postbak"), json!("127.0.0.1"));
    assert_eq!(shown, [(&path, &json!("GET"), &ip), (&path, &json!("POST"), &ip)], "{lost:?}");
    // All of them are counted.
    let refused = |reason: &str| {
        server.metric(&format!("postbackd_postback_refusals_total{{reason=\"{reason}\"}}"))
    };
    assert_eq!(refused("unknown_path"), by_themselves.len() as f64 + 2.0);
    assert_eq!(refused("bad_host"), of_visitors.len() as f64 * 4.0 * 2.0);
    assert_eq!(server.metric("postbackd_postbacks_total{result=\"refused\"}"), 0.0);
    assert_eq!(server.metric("postbackd_postback_seconds_count"), 0.0);
}

#[test]
fn nothing_that_a_request_brings_is_ever_logged() {
    let mut server = Setup::new().key("log.level", "trace").start();
    let mail = "jane.roe.4711@mail.example";
    let secrets = [
        mail,
        "+49-170-4711-4711",
        "tok3n-of-an-advertiser-4711",
        "198.51.100.47",
        "Bearer-4711-of-nobody",
        "agent-4711",
        "1784f3a9-card-4711",
    ];
    let all = |separator: &str, names: &[&str]| {
        let pairs = names.iter().flat_map(|name| {
            secrets.iter().map(move |secret| format!("{name}={}", secret.replace('+', "%2B")))
        });
        pairs.collect::<Vec<_>>().join(separator)
    };
    let headers = format!(
        "User-Agent: agent-4711\r\nReferer: https://x.example/?m={mail}\r\nX-Forwarded-For: 198.51.100.47\r\n\
         Forwarded: for=198.51.100.47\r\nX-Real-IP: 198.51.100.47\r\nCookie: id={mail}\r\n\
         Authorization: Bearer Bearer-4711-of-nobody\r\nX-Own: {mail}\r\n"
    );
    let good = server.click("id=sp7&sub1=jane.roe.4711@mail.example");
    let names =
        ["sub1", "sub2", "offer", "aff", "click_id", "customer_id", "txn_id", "token", "sig"];
    let mut targets = vec![
        format!("/c/{mail}?{}", secrets[1]),
        format!("/{mail}/198.51.100.47"),
        format!("/postback/{mail}?click_id={good}&event=sale"),
        format!("/postback?click_id={good}&event={mail}&token={}", secrets[2]),
        format!("/postback?click_id={good}&event=sale&amount={mail}&currency={mail}"),
        format!("/postback?click_id={good}&event=sale&txn_id={mail}&customer_id={mail}&own={mail}"),
        format!("/postback?click_id={good}&event=sale&txn_id={mail}&status=reversed"),
        format!("/postback?click_id={mail}&event=sale"),
        format!("/postback?{}&%zz=%ff", all("&", &["a", "b"])),
        format!("/click?{}", all("&", &names)),
        format!("/click?offer=spring&aff=pub-7&{}", all("&", &["kw", "gdpr_consent"])),
    ];
    targets.extend(names.iter().map(|name| format!("/postback?{name}={mail}&event=sale")));
    for target in &targets {
        for method in ["GET", "HEAD", "POST", "PUT", "DELETE"] {
            let _ = server.request(method, target, &headers);
        }
    }
    let json = json!({"click_id": good, "event": mail, "customer_id": mail, "token": secrets[2]});
    let bodies = [
        ("application/json", json.to_string()),
        ("application/json", format!("{{\"click_id\": \"{mail}\", ")),
        ("application/x-www-form-urlencoded", all("&", &["click_id", "customer_id", "own"])),
        ("text/plain", mail.to_owned()),
    ];
    for (kind, body) in &bodies {
        let _ = server.connect().post("/postback/acme", kind, body.as_bytes());
        let _ = server.post_api("erase", kind, body);
        let _ =
            server.post_api("conversions/status", "text/csv", &format!("conversion_id\n{body}\n"));
    }
    let erase = json!({"advertiser": "acme", "customer_id": mail}).to_string();
    assert_eq!(server.post_api("erase", "application/json", &erase).status, 202);
    for call in ["trace", "clicks", "conversions", "customers/acme", "jobs"] {
        let _ = server.admin(&format!("/api/v1/{call}/{mail}"));
    }
    let _ =
        server.admin(&format!("/api/v1/conversions?customer_id={mail}&txn_id={mail}&from={mail}"));
    let mut admin = Connection::open(server.admin);
    let _ = admin.request("GET", &format!("/api/v1/trace/{mail}"), &headers);
    // What breaks off in the middle, and what is no HTTP.
    for bytes in [
        format!("GET /postback?customer_id={mail} HTTP/1.1\r\nHost: x\r\nX-Mail: {mail}\r\n"),
        format!(
            "POST /postback HTTP/1.1\r\nHost: x\r\nContent-Length: 999\r\n\r\ncustomer_id={mail}"
        ),
        format!("{mail}\r\n\r\n"),
        format!("GET /{mail} HTTP/9.9\r\n{mail}\r\n\r\n"),
        format!(
            "GET /click?{} HTTP/1.1\r\nHost: x\r\nX: {}\r\n\r\n",
            mail,
            "198.51.100.47".repeat(9000)
        ),
    ] {
        for address in [server.public, server.admin] {
            let mut connection = Connection::open(address);
            let _ = connection.send(&bytes);
            connection.half_close();
            let _ = connection.rest();
        }
    }
    let log = server.whole_log();
    assert!(log.contains("serving"), "it logs: {log}");
    let is_secret = |line: &&str| secrets.iter().chain(&[&*good]).any(|it| line.contains(it));
    let lines: Vec<_> = log.lines().filter(is_secret).collect();
    assert!(lines.is_empty(), "{lines:#?}");
    // Visitors come from this address here; it stands in no line but that of the listeners.
    let peers: Vec<_> = log.lines().filter(|line| line.contains("127.0.0.1")).collect();
    let is_ours = |line: &&&str| line.contains("serving") || line.contains("admin connection");
    assert_eq!(peers.iter().filter(is_ours).count(), peers.len(), "{peers:#?}");
}
