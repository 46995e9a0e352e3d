//! The admin API's description: it is served, it is whole, and every call answers as it says.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::harness::{CATALOG, Response, Server, Setup, eventually};

/// The schema, parameter or response that a `$ref` stands for, or the value itself.
fn resolved<'d>(document: &'d Value, value: &'d Value) -> &'d Value {
    let Some(reference) = value["$ref"].as_str() else { return value };
    let pointer = reference.strip_prefix('#').expect("within the document");
    document.pointer(pointer).unwrap_or_else(|| panic!("{reference} leads nowhere"))
}

/// How `value` differs from `schema`. Members that the schema does not name are faults, too.
fn faults(document: &Value, schema: &Value, value: &Value, at: &str) -> Vec<String> {
    let schema = resolved(document, schema);
    for choice in ["oneOf", "anyOf"] {
        if let Some(ways) = schema[choice].as_array() {
            let fits = |way: &&Value| faults(document, way, value, at).is_empty();
            let fitting = ways.iter().filter(fits).count();
            let fault = format!("{at}: fits {fitting} of {choice}: {value}");
            return if fitting == 1 { Vec::new() } else { vec![fault] };
        }
    }
    let kind = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_i64() || number.is_u64() => "integer",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    let is_allowed = match &schema["type"] {
        Value::Null => true,
        Value::String(only) => only == kind,
        Value::Array(some) => some.iter().any(|one| one == kind),
        other => panic!("{at}: type {other}"),
    };
    if !is_allowed {
        return vec![format!("{at}: {value} is no {}", schema["type"])];
    }
    if schema["enum"].as_array().is_some_and(|words| !words.contains(value)) {
        return vec![format!("{at}: {value} is not one of {}", schema["enum"])];
    }
    match value {
        Value::Array(items) => {
            let items = items.iter().enumerate();
            let check = |(n, item)| faults(document, &schema["items"], item, &format!("{at}/{n}"));
            items.flat_map(check).collect()
        }
        Value::Object(members) if schema["type"] != Value::Null => {
            let required = schema["required"].as_array().into_iter().flatten();
            let names = required.map(|name| name.as_str().expect("a name"));
            let absent = names.filter(|name| !members.contains_key(*name));
            let mut all: Vec<_> = absent.map(|name| format!("{at}/{name}: absent")).collect();
            for (name, member) in members {
                let at = format!("{at}/{name}");
                match (&schema["properties"][name], &schema["additionalProperties"]) {
                    (Value::Null, Value::Null | Value::Bool(false)) => {
                        all.push(format!("{at}: not described"))
                    }
                    (Value::Null, rest) => all.extend(faults(document, rest, member, &at)),
                    (property, _) => all.extend(faults(document, property, member, &at)),
                }
            }
            all
        }
        _ => Vec::new(),
    }
}

/// Every operation: method in capitals, path, description.
fn operations(document: &Value) -> Vec<(String, String, &Value)> {
    let paths = document["paths"].as_object().expect("paths");
    let operations = paths.iter().flat_map(|(path, item)| {
        let item = item.as_object().expect("a path item").iter();
        item.map(|(method, operation)| (method.to_uppercase(), path.clone(), operation))
    });
    operations.collect()
}

/// Calls that were answered, each compared with its description.
struct Calls {
    document: Value,
    answered: BTreeSet<(String, String)>,
}

impl Calls {
    fn check(&mut self, call: &str, status: u16, answer: &Response) {
        let (method, path) = call.split_once(' ').expect("method and path");
        assert_eq!(answer.status, status, "{call}: {answer:?}");
        let operation = &self.document["paths"][path][method.to_lowercase()];
        let responses = operation["responses"].as_object().unwrap_or_else(|| panic!("no {call}"));
        let described = responses.get(&status.to_string()).or_else(|| responses.get("default"));
        let described = described.unwrap_or_else(|| panic!("{call} never answers {status}"));
        if !answer.body.is_empty() {
            let kind = answer.header("content-type").expect("a body has a type");
            let kind = kind.split(';').next().unwrap_or_default();
            let schema = &described["content"][kind]["schema"];
            assert!(schema.is_object(), "{call} never answers {kind} with {status}");
            if kind == "application/json" {
                let found = faults(&self.document, schema, &answer.json(), "");
                assert!(found.is_empty(), "{call} {status}:\n{}", found.join("\n"));
            }
        }
        if matches!(status, 200 | 202) {
            self.answered.insert((method.to_owned(), path.to_owned()));
        }
    }
}

#[test]
fn every_call_answers_as_its_description_says() {
    let server = Setup::new().without_catalog_file().key("backup.path", "backups").start();
    let document = server.api("openapi.json");
    let mut calls = Calls { document, answered: BTreeSet::new() };
    let api = |call: &str| server.admin(&format!("/api/v1/{call}"));

    check_catalog(&server, &mut calls);
    let rates = json!({"base": "USD", "rates": {"EUR": "0.92"}}).to_string();
    calls.check("PUT /api/v1/rates/{date}", 200, &server.put_api("rates/2026-11-25", &rates));
    calls.check("PUT /api/v1/rates/{date}", 400, &server.put_api("rates/today", &rates));
    calls.check("GET /api/v1/rates/{date}", 200, &api("rates/2026-11-25"));
    calls.check("GET /api/v1/rates/{date}", 404, &api("rates/2026-11-24"));

    let click = server.click("offer=macros&aff=pub-8&sub1=one&kw=shoes");
    calls.check("GET /api/v1/clicks/{click_id}", 200, &api(&format!("clicks/{click}")));
    calls.check("GET /api/v1/clicks/{click_id}", 400, &api("clicks/nonsense"));
    let sold = server.click("id=sp7");
    let query = format!(
        "click_id={sold}&event=sale&txn_id=T1&customer_id=K-7&amount=9.99&currency=JPY&own=x"
    );
    let sale = server.postback(&query);
    assert_eq!(sale.verdict(), (200, "accepted", ""));
    let conversion = sale.word("conversion_id");
    let customer = api("customers/acme/K-7");
    calls.check("GET /api/v1/customers/{advertiser}/{customer_id}", 200, &customer);
    calls.check("GET /api/v1/conversions/{id}", 200, &api(&format!("conversions/{conversion}")));
    calls.check("GET /api/v1/conversions", 200, &api("conversions?status=approved&limit=1"));
    calls.check("GET /api/v1/conversions", 400, &api("conversions?limit=0"));
    for id in [&*sold, conversion, "T1"] {
        calls.check("GET /api/v1/trace/{id}", 200, &api(&format!("trace/{id}")));
    }
    server.postback(&format!("click_id={sold}&event=unheard"));
    calls.check("GET /api/v1/inbound", 200, &api("inbound?limit=1"));
    let named = format!("inbound?txn_id=T1&customer_id=K-7&click_id={sold}");
    calls.check("GET /api/v1/inbound", 200, &api(&named));
    calls.check("GET /api/v1/inbound", 400, &api("inbound?limit=0"));
    calls.check("GET /api/v1/totals", 200, &api("totals?offer=spring"));
    check_fraud(&server, &mut calls);
    for (call, asked) in [
        ("reports", "reports?group_by=offer,event,sub1"),
        ("reports/refusals", "reports/refusals?group_by=hour,affiliate"),
    ] {
        for format in ["json", "csv"] {
            let answer = api(&format!("{asked}&format={format}"));
            calls.check(&format!("GET /api/v1/{call}"), 200, &answer);
        }
        calls.check(&format!("GET /api/v1/{call}"), 400, &api(&format!("{call}?format=xml")));
    }
    check_money(&server, &mut calls, conversion);
    check_erase(&server, &mut calls, &click);
    check_jobs(&server, &mut calls);

    calls.check("GET /api/v1/audit", 200, &api("audit"));
    calls.check("GET /api/v1/audit", 400, &api("audit?limit=0"));
    let without_token = server.admin_open("/api/v1/openapi.json");
    calls.check("GET /api/v1/openapi.json", 401, &without_token);
    calls.check("GET /api/v1/openapi.json", 200, &api("openapi.json"));
    for path in ["/healthz", "/readyz", "/metrics"] {
        calls.check(&format!("GET {path}"), 200, &server.admin_open(path));
    }

    let all = operations(&calls.document).into_iter().map(|(method, path, _)| (method, path));
    let silent: Vec<_> = all.filter(|call| !calls.answered.contains(call)).collect();
    assert!(silent.is_empty(), "ask these here, too: {silent:?}");
}

fn check_fraud(server: &Server, calls: &mut Calls) {
    let rules = "fraud = { too_fast = {} }\n[[offers.events]]";
    let suspicious = CATALOG.replacen("[[offers.events]]", rules, 1);
    assert_ne!(suspicious, CATALOG);
    let put = server.put_catalog("", "application/toml", "If-Match: *\r\n", &suspicious);
    assert_eq!(put.status, 200, "{put:?}");
    server.postback(&format!("click_id={}&event=sale", server.click("id=sp7")));
    let report = server.admin("/api/v1/fraud");
    assert_eq!(report.json()["rules"][0]["rule"], "too_fast", "there is something to describe");
    calls.check("GET /api/v1/fraud", 200, &report);
    calls.check("GET /api/v1/fraud", 400, &server.admin("/api/v1/fraud?from=yesterday"));
}

fn check_money(server: &Server, calls: &mut Calls, conversion: &str) {
    let api = |call: &str| server.admin(&format!("/api/v1/{call}"));
    let lines = format!("conversion_id,status\n{conversion},approved\n");
    let uploaded = server.post_api("conversions/status", "text/csv", &lines);
    calls.check("POST /api/v1/conversions/status", 200, &uploaded);
    let uploaded = server.post_api("conversions/status", "text/plain", &lines);
    calls.check("POST /api/v1/conversions/status", 415, &uploaded);
    calls.check("GET /api/v1/balances", 200, &api("balances?affiliate=pub-7"));
    calls.check("GET /api/v1/balances", 404, &api("balances?affiliate=nobody"));
    calls.check("GET /api/v1/ledger", 200, &api("ledger?affiliate=pub-7"));
    let proof = api(&format!("ledger/proofs/{conversion}"));
    calls.check("GET /api/v1/ledger/proofs/{id}", 200, &proof);
    for format in ["json", "csv"] {
        let days = "affiliate=pub-7&from=2026-01-01&to=2026-02-01";
        let statement = api(&format!("statements?{days}&format={format}"));
        calls.check("GET /api/v1/statements", 200, &statement);
    }
}

fn check_erase(server: &Server, calls: &mut Calls, click: &str) {
    let erase = |body: Value| server.post_api("erase", "application/json", &body.to_string());
    let begun = erase(json!({"click_id": click}));
    calls.check("POST /api/v1/erase", 202, &begun);
    calls.check("POST /api/v1/erase", 400, &erase(json!({"click_id": "nonsense"})));
    let job = format!("/api/v1/jobs/{}", begun.json()["job_id"].as_str().expect("an ID"));
    eventually("the end of the job", || {
        let answer = server.admin(&job);
        calls.check("GET /api/v1/jobs/{id}", 200, &answer);
        (answer.json()["status"] == "succeeded").then_some(())
    });
    let erased = server.admin(&format!("/api/v1/clicks/{click}"));
    calls.check("GET /api/v1/clicks/{click_id}", 200, &erased);
}

fn check_jobs(server: &Server, calls: &mut Calls) {
    for (kind, told) in
        [("verify", ""), ("backup", ""), ("reprocess", r#"{"from":"2020-01-01T00:00:00Z"}"#)]
    {
        let begun = server.post_api(kind, "application/json", told);
        calls.check(&format!("POST /api/v1/{kind}"), 202, &begun);
        let job = format!("/api/v1/jobs/{}", begun.json()["job_id"].as_str().expect("an ID"));
        eventually("the end of the job", || {
            let answer = server.admin(&job);
            calls.check("GET /api/v1/jobs/{id}", 200, &answer);
            (answer.json()["status"] == "succeeded").then_some(())
        });
    }
    let refused = server.post_api("reprocess", "application/json", "{}");
    calls.check("POST /api/v1/reprocess", 400, &refused);
    let bare = Server::start();
    calls.check("POST /api/v1/backup", 409, &bare.post_api("backup", "", ""));
    calls.check("GET /api/v1/jobs/{id}", 404, &server.admin("/api/v1/jobs/99"));
}

fn check_catalog(server: &Server, calls: &mut Calls) {
    const PUT: &str = "PUT /api/v1/catalog";
    const GET: &str = "GET /api/v1/catalog";
    let (toml, any) = ("application/toml", "If-Match: *\r\n");
    let put =
        |query: &str, headers: &str, text: &str| server.put_catalog(query, toml, headers, text);
    calls.check(PUT, 200, &put("", any, CATALOG));
    let dearer = CATALOG.replacen("fixed = \"", "fixed = \"1", 1);
    assert_ne!(dearer, CATALOG);
    let compared = put("?dry_run=1", "", &dearer);
    assert_eq!(compared.json()["changes"]["offers"]["money"], 1, "there is something to describe");
    calls.check(PUT, 200, &compared);
    let mistaken = put("", any, "[[offers]]\nid = \"x\"\n");
    assert_ne!(mistaken.json()["error"]["mistakes"], Value::Null);
    calls.check(PUT, 400, &mistaken);
    calls.check(PUT, 412, &put("", "If-Match: \"0000000000000001\"\r\n", CATALOG));
    calls.check(PUT, 428, &put("", "", CATALOG));
    for kind in ["application/json", toml] {
        let accept = format!("Accept: {kind}\r\n");
        calls.check(GET, 200, &server.admin_with("/api/v1/catalog", &accept));
    }
    let known = "If-None-Match: *\r\n";
    calls.check(GET, 304, &server.admin_with("/api/v1/catalog", known));
    let version = server.catalog_version();
    let of_version = |version: &str| server.admin(&format!("/api/v1/catalog?version={version}"));
    calls.check(GET, 200, &of_version(version.as_str().expect("a version")));
    calls.check(GET, 400, &of_version("1"));
    calls.check(GET, 404, &of_version("0000000000000001"));
    calls.check("GET /api/v1/catalog/versions", 200, &server.admin("/api/v1/catalog/versions"));
}

#[test]
fn what_is_served_is_the_whole_description() {
    let served = Server::start().api("openapi.json");
    let expected: Value = serde_json::from_str(&postbackd::admin::description()).expect("JSON");
    assert_eq!(served, expected);
    assert_eq!(served["openapi"], "3.1.0");
    assert_eq!(served["info"]["version"], env!("CARGO_PKG_VERSION"));
    check_references(&served, &served);
    let mut names = BTreeSet::new();
    for (method, path, operation) in operations(&served) {
        let call = format!("{method} {path}");
        let is_text = |value: &Value| value.as_str().is_some_and(|text| !text.is_empty());
        let name = operation["operationId"].as_str().expect("a name");
        assert!(names.insert(name), "{call}: another call is named {name}");
        assert!(is_text(&operation["summary"]), "{call} says nothing of itself");
        let with_token = path.starts_with("/api/v1/");
        let role = if method == "GET" { "read" } else { "write" };
        let asked = if with_token { json!([{ "token": [role] }]) } else { Value::Null };
        assert_eq!(operation["security"], asked, "{call}");
        let forbids = operation["responses"]["403"].is_object();
        assert_eq!(forbids, with_token && role == "write", "{call}");
        for answer in ["401", "default"] {
            assert_eq!(operation["responses"][answer].is_object(), with_token, "{call} {answer}");
        }
        let parameters = operation["parameters"].as_array().into_iter().flatten();
        let mut in_path = BTreeSet::new();
        for parameter in parameters {
            assert!(is_text(&parameter["description"]), "{call}: {parameter}");
            if parameter["in"] == "path" {
                in_path.insert(format!("{{{}}}", parameter["name"].as_str().expect("a name")));
            }
        }
        let segments = path.split('/').filter(|part| part.starts_with('{')).map(str::to_owned);
        assert_eq!(segments.collect::<BTreeSet<_>>(), in_path, "{call}");
    }
}

#[test]
fn a_report_of_refusals_is_asked_for_what_it_takes_alone() {
    let server = Server::start();
    let description = server.api("openapi.json");
    for (call, refused) in [("reports", false), ("reports/refusals", true)] {
        let path = format!("/api/v1/{call}");
        let parameters = description["paths"][&path]["get"]["parameters"].as_array();
        for name in ["event", "sub1"] {
            let is_listed = parameters.expect("some").iter().any(|it| it["name"] == name);
            let status = server.admin(&format!("{path}?{name}=a")).status;
            assert_eq!((is_listed, status), (!refused, if refused { 400 } else { 200 }), "{call}");
        }
    }
}

fn check_references(document: &Value, value: &Value) {
    resolved(document, value);
    match value {
        Value::Array(items) => items.iter().for_each(|item| check_references(document, item)),
        Value::Object(all) => all.values().for_each(|member| check_references(document, member)),
        _ => {}
    }
}
