//! Who may use the admin API: tokens with roles, taken away without a restart.

use std::collections::BTreeSet;

use postbackd::auth::hash_text;
use serde_json::{Value, json};

use crate::harness::{Connection, Response, Server, Setup, eventually, run};

/// The configuration's lines for a token.
pub fn token(name: &str, role: &str, secret: &str) -> String {
    let hash = hash_text(secret);
    format!("[[admin.tokens]]\nname = \"{name}\"\nrole = \"{role}\"\nsecret = \"{hash}\"\n")
}

const READER: &str = "a-token-that-only-reads";
const WRITER: &str = "a-token-that-also-writes";

pub fn with_tokens() -> Setup {
    Setup::new().lines(&(token("reader", "read", READER) + &token("ops", "write", WRITER)))
}

/// A request with a token and a body.
pub fn ask(server: &Server, token: &str, method: &str, target: &str, body: &str) -> Response {
    let headers = format!(
        "Authorization: Bearer {token}\r\nContent-Type: application/json\r\nConnection: close\r\n"
    );
    let mut admin = Connection::open(server.admin);
    admin.send_body(method, target, &headers, body.as_bytes()).expect("an answer")
}

fn code(answer: &Response) -> (u16, String) {
    let code = answer.json()["error"]["code"].as_str().unwrap_or_default().to_owned();
    (answer.status, code)
}

#[test]
fn whatever_is_wrong_is_told_as_an_error_of_the_api() {
    let server = with_tokens().start();
    let check = |method: &str, target: &str, expected: (u16, &str)| {
        let answer = ask(&server, WRITER, method, target, "");
        assert_eq!(code(&answer), (expected.0, expected.1.to_owned()), "{method} {target}");
        answer
    };
    let answer = check("POST", "/api/v1/catalog", (405, "method_not_allowed"));
    assert_eq!(answer.header("allow"), Some("GET,HEAD,PUT"));
    check("PUT", "/api/v1/clicks/x", (405, "method_not_allowed"));
    check("GET", "/api/v1/trace/%FF", (400, "bad_parameter"));
    check("GET", "/api/v1/customers/a/%FF", (400, "bad_parameter"));
    check("GET", "/api/v1/rates/%FF", (400, "bad_parameter"));
    check("GET", "/api/v1/nothing", (404, "not_found"));
}

/// The operations of the description: method, path, role it asks for (empty: none).
fn operations(server: &Server) -> Vec<(String, String, String)> {
    let document = server.api("openapi.json");
    let mut all = Vec::new();
    for (path, item) in document["paths"].as_object().expect("paths") {
        for (method, operation) in item.as_object().expect("a path item") {
            let role = operation["security"][0]["token"][0].as_str().unwrap_or_default();
            all.push((method.to_uppercase(), path.clone(), role.to_owned()));
        }
    }
    all
}

#[test]
fn every_call_that_is_no_get_refuses_a_token_that_only_reads() {
    let server = with_tokens().start();
    let all = operations(&server);
    let (mut reads, mut writes) = (BTreeSet::new(), BTreeSet::new());
    for (method, path, role) in &all {
        let call = format!("{method} {path}");
        let target = path.replace(['{', '}'], "");
        if !path.starts_with("/api/") {
            assert_eq!(role, "", "{call}");
            continue;
        }
        // What is described is what is done, for a token of either role and for none.
        let refused = |token: &str| code(&ask(&server, token, method, &target, "{}"));
        assert_eq!(refused("nonsense"), (401, "unauthorized".into()), "{call}");
        let reader = refused(READER);
        match &**role {
            "read" => {
                assert_eq!(method, "GET", "{call} lets a token that only reads do something");
                assert!(![401, 403].contains(&reader.0), "{call}: {reader:?}");
                reads.insert(call);
            }
            "write" => {
                assert_ne!(method, "GET", "{call}: what only looks asks for no more");
                assert_eq!(reader, (403, "forbidden".into()), "{call}");
                let writer = refused(WRITER);
                assert!(![401, 403].contains(&writer.0), "{call}: {writer:?}");
                writes.insert(call);
            }
            other => panic!("{call} asks for the role {other:?}"),
        }
    }
    assert!(reads.len() > 15 && writes.len() >= 5, "{reads:?} {writes:?}");
    let refused = server.metric("postbackd_admin_requests_total{result=\"forbidden\"}");
    assert_eq!(refused, writes.len() as f64);
    let unknown = server.metric("postbackd_admin_requests_total{result=\"unauthorized\"}");
    assert_eq!(unknown, (reads.len() + writes.len()) as f64);
}

#[test]
fn health_and_metrics_ask_for_no_token_and_head_and_odd_methods_get_no_further() {
    let server = with_tokens().start();
    for path in ["/healthz", "/readyz", "/metrics"] {
        assert_eq!(server.admin_open(path).status, 200, "{path}");
    }
    for method in ["DELETE", "PATCH", "TRACE", "PUT"] {
        let answer = ask(&server, READER, method, "/api/v1/conversions", "");
        assert!(matches!(answer.status, 403..=405), "{method}: {answer:?}");
    }
    for odd in ["/api/v1/catalog/", "/api/v1//catalog", "/api/v1/%63atalog", "//api/v1/catalog"] {
        let answer = ask(&server, READER, "PUT", odd, "{}");
        assert!(matches!(answer.status, 403 | 404), "{odd}: {answer:?}");
    }
    // A method that is only said to be another is the one that it is.
    let headers = format!(
        "Authorization: Bearer {READER}\r\nX-HTTP-Method-Override: PUT\r\nConnection: close\r\n"
    );
    let answer = Connection::open(server.admin).request("GET", "/api/v1/catalog", &headers);
    assert_eq!(answer.expect("an answer").status, 200);
}

#[test]
fn a_token_whose_time_is_over_is_told_so_and_counted() {
    let lines = token("guest", "write", READER) + "until = 2026-01-01\n";
    let server = Setup::new().lines(&lines).start();
    let answer = ask(&server, READER, "GET", "/api/v1/catalog", "");
    assert_eq!(code(&answer), (401, "token_expired".into()));
    assert_eq!(answer.header("www-authenticate"), Some("Bearer"));
    assert_eq!(server.metric("postbackd_admin_requests_total{result=\"expired\"}"), 1.0);
}

#[test]
fn tokens_are_given_and_taken_by_a_signal_and_mistakes_change_nothing() {
    let mut server = with_tokens().start();
    let config = std::fs::read_to_string(server.path("postbackd.toml")).expect("readable");
    let status = |token: &str| ask(&server, token, "GET", "/api/v1/catalog/versions", "").status;
    let loads = |result: &str| {
        server.metric(&format!("postbackd_admin_token_loads_total{{result=\"{result}\"}}"))
    };
    let reload = |text: &str, result: &str| {
        let before = loads(result);
        server.write("postbackd.toml", text);
        server.signal("HUP");
        eventually("the reload", || (loads(result) > before).then_some(()));
        let is_refused = server.metric("postbackd_file_refused{file=\"tokens\"}");
        assert_eq!(is_refused, f64::from(u8::from(result == "refused")));
    };
    assert_eq!((loads("applied"), loads("refused")), (0.0, 0.0));

    for bad in [
        config.replace("role = \"read\"", "role = \"reed\""),
        config.replace("name = \"ops\"", "name = \"reader\""),
        config.replace(&hash_text(READER), "file:/nowhere/at/all"),
        config.replace("[server]", "[sever]"),
        config.replace("name = \"reader\"\n", ""),
    ] {
        assert_ne!(bad, config);
        reload(&bad, "refused");
        assert_eq!((status(READER), status(WRITER)), (200, 200), "the old ones stay in force");
    }
    server.says("tokens not reloaded");

    let fewer = config.replace(&token("reader", "read", READER), "");
    assert_ne!(fewer, config);
    reload(&fewer, "applied");
    assert_eq!((status(READER), status(WRITER)), (401, 200));
    assert_eq!(server.admin("/api/v1/catalog/versions").status, 200, "the first one stays");

    let swapped = fewer.replace(&hash_text(WRITER), &hash_text(READER));
    reload(&swapped, "applied");
    assert_eq!((status(READER), status(WRITER)), (200, 401));

    let kept = eventually("both changes", || {
        let kept = server.api("audit?action=tokens")["items"].as_array().cloned();
        kept.filter(|kept| kept.len() == 2)
    });
    assert_eq!((&kept[0]["who"], &kept[0]["call"]), (&json!("file"), &json!("SIGHUP")));
    assert_eq!(kept[0]["details"]["removed"], json!(["reader"]));
    assert_eq!(kept[1]["details"]["changed"], json!(["ops"]));
    assert_eq!(kept[1]["details"]["after"], json!({"default": "write", "ops": "write"}));
    let text = Value::from(kept.clone()).to_string() + &server.whole_log();
    for secret in [READER, WRITER, &hash_text(READER)[..15], &hash_text(WRITER)[..15]] {
        assert!(!text.contains(secret), "{secret} is in the audit log or the log");
    }
}

#[test]
fn the_first_token_is_made_anew_where_its_file_was_removed() {
    let server = Setup::new().without_admin_token().start();
    let read = || std::fs::read_to_string(server.path("data/admin.token")).expect("a token");
    let first = read().trim().to_owned();
    assert_eq!(ask(&server, &first, "GET", "/api/v1/totals", "").status, 200);
    std::fs::remove_file(server.path("data/admin.token")).expect("removable");
    server.signal("HUP");
    let second = eventually("another token", || {
        let text = std::fs::read_to_string(server.path("data/admin.token")).ok()?;
        (ask(&server, &first, "GET", "/api/v1/totals", "").status == 401).then_some(text)
    });
    assert_ne!(first, second.trim());
    assert_eq!(ask(&server, second.trim(), "GET", "/api/v1/totals", "").status, 200);
}

#[test]
fn secrets_are_found_where_the_configuration_says() {
    let mut server = Server::start();
    server.stop();
    let file = server.path("secret");
    server.write("secret", "in-a-file-for-tests\n");
    server.set_key(
        "admin.tokens",
        &format!("filed read file:{}, named write env:OPS_TOKEN 2099-01-01", file.display()),
    );
    server.set_variable("OPS_TOKEN", "in-a-variable-for-tests");
    server.start_again();
    let put = |token: &str| {
        let rates = r#"{"base": "USD", "rates": {"EUR": "0.9"}}"#;
        ask(&server, token, "PUT", "/api/v1/rates/2026-11-25", rates).status
    };
    assert_eq!((put("in-a-file-for-tests"), put("in-a-variable-for-tests")), (403, 200));
    assert_eq!(server.api("audit?action=rates")["items"][0]["who"], "named");
}

#[test]
fn a_new_token_is_printed_with_its_lines_for_the_configuration() {
    let server = Setup::new().start();
    let made = run(
        &server.path("."),
        &["token", "admin", "--name", "grafana", "--role", "read", "--valid", "90d"],
    );
    assert_eq!(made.code, Some(0), "{}", made.err);
    let mut lines = made.out.lines();
    let secret = lines.nth(1).expect("a secret").to_owned();
    let (_, lines) = made.out.split_once("# In the configuration:\n").expect("lines");
    let config = std::fs::read_to_string(server.path("postbackd.toml")).expect("readable");
    server.write("postbackd.toml", &format!("{config}\n{lines}"));
    server.signal("HUP");
    eventually("the token", || {
        (ask(&server, &secret, "GET", "/api/v1/totals", "").status == 200).then_some(())
    });
    assert_eq!(ask(&server, &secret, "POST", "/api/v1/verify", "").status, 403);
    for name in ["default", "file", "a b", ""] {
        let made = run(&server.path("."), &["token", "admin", "--name", name, "--role", "read"]);
        assert_eq!(made.code, Some(2), "{name}");
    }
}
