//! The audit log: every change by people has its entry, with who, when and from what to what.

use serde_json::{Value, json};

use crate::admin::{ask, token};
use crate::harness::{CATALOG, Server, Setup, eventually, run};
use crate::inbound::earned;

const OPS: &str = "a-token-of-somebody-else";

fn setup() -> Setup {
    Setup::new().lines(&token("ops", "write", OPS))
}

fn entries(server: &Server, query: &str) -> Vec<Value> {
    server.api(&format!("audit?{query}"))["items"].as_array().expect("items").clone()
}

#[test]
fn a_catalog_says_who_changed_which_money_from_what_to_what() {
    let server = setup().without_catalog_file().start();
    let put = |token: &str, text: &str| {
        let headers = format!(
            "Authorization: Bearer {token}\r\nContent-Type: application/toml\r\nIf-Match: *\r\n\
             Connection: close\r\n"
        );
        let mut admin = crate::harness::Connection::open(server.admin);
        let answer = admin.send_body("PUT", "/api/v1/catalog", &headers, text.as_bytes());
        answer.expect("an answer").status
    };
    assert_eq!(put(OPS, CATALOG), 200);
    let first = server.catalog_version();
    let dearer = CATALOG.replacen("fixed = \"", "fixed = \"1", 1);
    assert_eq!(put("an-admin-token-for-tests", &dearer), 200);
    assert_eq!(put(OPS, &dearer), 200, "the same again changes nothing");
    assert_eq!(put(OPS, "[[offers]]\n"), 400, "nor do mistakes");
    let dry = server.put_catalog("?dry_run=1", "application/toml", "", CATALOG);
    assert_eq!(dry.status, 200, "nor does a dry run");
    let second = server.catalog_version();

    let kept = entries(&server, "action=catalog");
    assert_eq!(kept.len(), 2, "{kept:#?}");
    assert_eq!((&kept[0]["who"], &kept[1]["who"]), (&json!("ops"), &json!("default")));
    assert_eq!(kept[0]["call"], "PUT /api/v1/catalog");
    assert_eq!((&kept[0]["details"]["before"], &kept[0]["subject"]), (&Value::Null, &first));
    let details = &kept[1]["details"];
    assert_eq!((&details["before"], &details["after"]), (&first, &second));
    assert_eq!(details["changes"]["offers"]["money"], 1);
    let money = &details["changes"]["entries"][0]["money"][0];
    let (from, to) = (money["from"].as_str(), money["to"].as_str());
    assert_eq!(to.expect("a value"), format!("1{}", from.expect("a value")));
}

#[test]
fn a_catalog_file_and_a_file_of_rates_are_changed_by_file() {
    let mut server = setup().key("rates", "rates.toml").start();
    let rates = |eur: &str| {
        let days = format!(
            "base = \"USD\"\n[[days]]\ndate = 2026-11-25\nrates = {{ EUR = \"{eur}\", JPY = \"149\" }}\n"
        );
        server.write("rates.toml", &days);
        server.signal("HUP");
        eventually("the rates", || {
            (server.admin("/api/v1/rates/2026-11-25").json()["rates"]["EUR"] == eur).then_some(())
        });
    };
    rates("0.92");
    rates("0.93");
    server.reload_catalog(&CATALOG.replacen("fixed = \"", "fixed = \"1", 1));
    let kept = entries(&server, "who=file");
    let brief: Vec<_> = kept.iter().map(|entry| [&entry["action"], &entry["call"]]).collect();
    assert_eq!(
        brief,
        [["catalog", "start"], ["rates", "SIGHUP"], ["rates", "SIGHUP"], ["catalog", "SIGHUP"]]
    );
    assert_eq!(kept[1]["subject"], "2026-11-25");
    assert_eq!(kept[1]["details"]["base"], json!({"before": null, "after": "USD"}));
    let changed = json!([{"currency": "EUR", "before": "0.92", "after": "0.93"}]);
    assert_eq!(kept[2]["details"]["rates"], changed, "what has not changed is not listed");
    // A restart brings the same into force and changes nothing.
    server.stop();
    server.start_again();
    assert_eq!(entries(&server, "who=file"), kept);
}

/// A catalog of advertisers whose secrets are in files.
fn with_secrets_in_files(server: &Server) -> String {
    let of = |name: &str| format!("[{{ secret = \"file:{}\" }}]", server.path(name).display());
    let (token, key, other) = (of("token-of-bank"), of("key-of-bank"), of("token-of-other"));
    format!(
        "[[advertisers]]\nid = \"bank\"\nauth = {{ tokens = {token}, hmac = {key} }}\n\
         [[advertisers]]\nid = \"other\"\nauth = {{ tokens = {other} }}\n{CATALOG}"
    )
}

#[test]
fn another_secret_in_the_same_file_is_a_change() {
    let mut server = setup().start();
    let secrets = ["hunter1", "hunter2", "hunter3", "hunter4", "hunter5"];
    server.write("token-of-bank", secrets[0]);
    server.write("key-of-bank", secrets[1]);
    server.write("token-of-other", secrets[2]);
    let text = with_secrets_in_files(&server);
    server.write_catalog(&text);
    let loads = || server.metric("postbackd_catalog_loads_total{result=\"applied\"}");
    let reload = |server: &Server| {
        let before = loads();
        server.signal("HUP");
        eventually("the catalog", || (loads() > before).then_some(()));
    };
    reload(&server);
    let version = server.catalog_version();
    let before = entries(&server, "action=catalog").len();
    reload(&server);
    assert_eq!(entries(&server, "action=catalog").len(), before, "nothing has changed");

    // The white space is not part of it.
    server.write("token-of-other", &format!("{}\n", secrets[2]));
    server.write("token-of-bank", secrets[3]);
    reload(&server);
    let kept = entries(&server, "action=catalog");
    assert_eq!(kept.len(), before + 1, "{kept:#?}");
    let (entry, details) = (&kept[before], &kept[before]["details"]);
    assert_eq!((&entry["who"], &entry["call"]), (&json!("file"), &json!("SIGHUP")));
    assert_eq!([&details["before"], &details["after"], &entry["subject"]], [&version; 3]);
    let changes = &details["changes"];
    assert_eq!(changes["secrets"], json!({"changed": 1}));
    assert_eq!(changes["advertisers"]["changed"], 0, "what is written is the same");
    let expected =
        json!([{"kind": "secrets", "id": "bank", "change": "changed", "keys": ["auth.tokens"]}]);
    assert_eq!(changes["entries"], expected);

    // Together with another text.
    server.write("key-of-bank", secrets[4]);
    server.write_catalog(&text.replacen("fixed = \"", "fixed = \"1", 1));
    reload(&server);
    let kept = entries(&server, "action=catalog");
    assert_eq!(kept.len(), before + 2, "one for both: {kept:#?}");
    let changes = &kept[before + 1]["details"]["changes"];
    assert_eq!(
        (&changes["secrets"], &changes["offers"]["money"]),
        (&json!({"changed": 1}), &json!(1))
    );
    assert_eq!(changes["entries"][0]["keys"], json!(["auth.hmac"]));
    let log = json!(entries(&server, "")).to_string();
    for secret in secrets {
        let hash = blake3::hash(secret.as_bytes()).to_hex();
        assert!(!log.contains(secret) && !log.contains(&hash[..8]), "{log}");
    }
    server.stop();
    server.start_again();
    assert_eq!(entries(&server, "action=catalog"), kept, "a start has nothing to compare with");
}

#[test]
fn whoever_puts_the_catalog_again_brings_the_new_secret_into_force() {
    let server = setup().without_catalog_file().start();
    for file in ["token-of-bank", "key-of-bank", "token-of-other"] {
        server.write(file, file);
    }
    let text = with_secrets_in_files(&server);
    let put = || {
        let answer = server.put_catalog("", "application/toml", "If-Match: *\r\n", &text);
        assert_eq!(answer.status, 200, "{answer:?}");
    };
    put();
    put();
    assert_eq!(entries(&server, "action=catalog").len(), 1);
    server.write("token-of-other", "another");
    put();
    let kept = entries(&server, "action=catalog");
    assert_eq!((kept.len(), &kept[1]["who"]), (2, &json!("default")), "{kept:#?}");
    assert_eq!(kept[1]["details"]["changes"]["entries"][0]["id"], "other");
    assert_eq!(server.api("catalog/versions")["items"].as_array().map(Vec::len), Some(1));
}

#[test]
fn a_file_of_statuses_is_named_before_anything_is_done_and_summed_up_after() {
    let server = setup().start();
    let sale = |txn: &str| {
        let click = server.click("id=sp7");
        let answer =
            server.postback(&format!("click_id={click}&event=sale&txn_id={txn}&status=pending"));
        assert_eq!(answer.verdict(), (200, "accepted", ""));
        answer.word("conversion_id").to_owned()
    };
    let (first, second) = (sale("T1"), sale("T2"));
    let lines = format!(
        "{{\"conversion_id\":\"{first}\",\"status\":\"approved\"}}\n\
         {{\"conversion_id\":\"{second}\",\"status\":\"pending\"}}\n\
         {{\"conversion_id\":\"{second}\",\"status\":\"no-status\"}}\n"
    );
    let headers = format!(
        "Authorization: Bearer {OPS}\r\nContent-Type: application/x-ndjson\r\nConnection: close\r\n"
    );
    let mut admin = crate::harness::Connection::open(server.admin);
    let target = "/api/v1/conversions/status";
    let answer = admin.send_body("POST", target, &headers, lines.as_bytes()).expect("an answer");
    assert_eq!(answer.status, 200, "{answer:?}");
    assert!(!answer.text().contains("before"), "the answer's form has not changed");
    let kept = entries(&server, "who=ops");
    assert_eq!((kept.len(), &kept[0]["action"]), (2, &json!("statuses")), "{kept:#?}");
    assert_eq!(kept[0]["details"], json!({"lines": 3, "bytes": lines.len()}));
    assert_eq!(kept[1]["action"], "statuses_done");
    assert_eq!(kept[0]["subject"], kept[1]["subject"], "the hash of the file");
    assert_eq!(
        kept[1]["details"],
        json!({
            "results": {"updated": 1, "duplicate": 1, "refused": 1},
            "changes": [{"conversion_id": first, "before": "pending", "after": "approved"}],
            "left_out": 0,
        })
    );
}

#[test]
fn a_file_of_statuses_is_worked_through_though_its_sender_hangs_up() {
    let server = setup().start();
    let click = server.click("id=sp7");
    let query = format!("click_id={click}&event=sale&txn_id=T1&status=pending");
    let sale = server.postback(&query).word("conversion_id").to_owned();
    let mut lines = "advertiser,event,txn_id,status\n".to_owned();
    for txn in 0..20_000 {
        lines.push_str(&format!("acme,sale,none-{txn},approved\n"));
    }
    lines.push_str("acme,sale,T1,approved\n");
    let head = format!(
        "POST /api/v1/conversions/status HTTP/1.1\r\nHost: t.example\r\n\
         Authorization: Bearer {OPS}\r\nContent-Type: text/csv\r\nContent-Length: {}\r\n\r\n",
        lines.len()
    );
    let mut admin = crate::harness::Connection::open(server.admin);
    admin.send(head + &lines).expect("sent");
    eventually("the first entry", || entries(&server, "action=statuses").pop());
    drop(admin);
    let done = eventually("the second", || entries(&server, "action=statuses_done").pop());
    assert_eq!(done["details"]["results"], json!({"refused": 20_000, "updated": 1}));
    assert_eq!(server.api(&format!("conversions/{sale}"))["status"], "approved");
}

#[test]
fn a_long_file_of_statuses_leaves_a_short_entry() {
    let server = setup().start();
    let click = server.click("id=sp7");
    let mut lines = "advertiser,event,txn_id,status\n".to_owned();
    for txn in 0..400 {
        let query = format!("click_id={click}&event=sale&txn_id=T{txn}&status=pending");
        assert_eq!(server.postback(&query).verdict().0, 200);
        lines.push_str(&format!("acme,sale,T{txn},approved\n"));
    }
    assert_eq!(server.post_api("conversions/status", "text/csv", &lines).status, 200);
    let kept = entries(&server, "action=statuses_done");
    let details = &kept[0]["details"];
    let updated = details["results"]["updated"].as_u64().expect("a number");
    let listed = details["changes"].as_array().expect("a list").len() as u64;
    assert_eq!(listed + details["left_out"].as_u64().expect("a number"), updated);
    assert!(listed > 50 && listed < updated, "{listed} of {updated}");
}

/// Refused postbacks of an event that the catalog then has, so many at least.
fn refused_for_want_of_an_event(count: usize) -> Server {
    let server = setup().without_catalog_file().start();
    let put = |catalog: &str| {
        let answer = server.put_catalog("", "application/toml", "If-Match: *\r\n", catalog);
        assert_eq!(answer.status, 200, "{answer:?}");
    };
    let event = "[[offers.events]]\nid = \"lead\"\n\
                 payout = { fixed = \"1.50\", currency = \"USD\" }\nrevenue = { fixed = \"2\" }\n";
    let offer = "[[offers]]\nid = \"late\"\nadvertiser = \"acme\"\n\
                 url = \"https://a.example/?c={click_id}\"\n\
                 [[offers.events]]\nid = \"sale\"\n";
    put(&format!("{CATALOG}\n{offer}"));
    let click = server.click("offer=late&aff=pub-7");
    let mut sent = 0;
    eventually("refused postbacks", || {
        for _ in 0..50 {
            sent += 1;
            let answer = server.postback(&format!("click_id={click}&event=lead&txn_id=L-{sent}"));
            assert_eq!(answer.verdict().2, "unknown_event");
        }
        (crate::inbound::log(&server, "result=refused").len() >= count).then_some(())
    });
    put(&format!("{CATALOG}\n{offer}{event}"));
    server
}

#[test]
fn what_was_judged_again_is_summed_up_when_it_ends() {
    let server = refused_for_want_of_an_event(1);
    for apply in [false, true] {
        let body = json!({"from": "2020-01-01T00:00:00Z", "apply": apply}).to_string();
        let begun = ask(&server, OPS, "POST", "/api/v1/reprocess", &body);
        assert_eq!(server.ended(&begun)["status"], "succeeded");
    }
    let kept = entries(&server, "who=ops");
    let actions: Vec<_> = kept.iter().map(|entry| &entry["action"]).collect();
    assert_eq!(actions, ["reprocess", "reprocess_done"], "a comparison changes nothing");
    assert_eq!(kept[1]["call"], "POST /api/v1/reprocess");
    let (details, made) = (&kept[1]["details"], server.conversions("").len());
    assert!(made >= 1);
    let [revenue, payout] = [2.0, 1.5].map(|each| format!("{:.2}", each * made as f64));
    let earns = [&*revenue, &*payout];
    let by_affiliate = json!([earned("pub-7", made as u64, earns, earns)]);
    let said = [&details["postbacks"], &details["accepted"], &details["affiliates"]];
    assert_eq!(said, [&json!(made), &json!(made), &by_affiliate], "{details}");
    let none = ["stopped", "error", "next_cursor"].map(|name| details[name].is_null());
    assert_eq!((none, &details["affiliates_left_out"]), ([true; 3], &json!(0)), "{details}");
}

#[test]
fn what_was_judged_again_is_summed_up_though_the_server_stops() {
    let mut server = refused_for_want_of_an_event(200);
    let body = json!({"from": "2020-01-01T00:00:00Z", "apply": true}).to_string();
    let begun = ask(&server, OPS, "POST", "/api/v1/reprocess", &body);
    assert_eq!(begun.status, 202, "{begun:?}");
    eventually("the first", || (!server.conversions("").is_empty()).then_some(()));
    server.stop();
    server.start_again();
    let made = server.conversions("").len();
    let kept = entries(&server, "action=reprocess_done");
    let [entry] = kept.as_slice() else { panic!("one entry: {kept:#?}") };
    let details = &entry["details"];
    assert_eq!((&details["accepted"], &entry["who"]), (&json!(made), &json!("ops")), "{details}");
    // As good as always it has not got to the end.
    let is_early = details["stopped"] == "the server stops";
    assert!(is_early || details["stopped"].is_null(), "{details}");
    assert_eq!(is_early, !details["next_cursor"].is_null(), "{details}");
}

#[test]
fn jobs_and_refusals() {
    let server = setup().start();
    assert_eq!(ask(&server, OPS, "POST", "/api/v1/verify", "").status, 202);
    assert_eq!(ask(&server, OPS, "POST", "/api/v1/backup", "").status, 409);
    assert_eq!(ask(&server, "wrong", "POST", "/api/v1/verify", "").status, 401);
    eventually("the entry", || entries(&server, "who=ops").pop());
    let kept = entries(&server, "who=ops");
    assert_eq!(kept.len(), 1, "what was refused is counted, not kept: {kept:#?}");
    assert_eq!(
        (&kept[0]["action"], &kept[0]["details"]),
        (&json!("verify"), &json!({"job_id": "1-1"}))
    );
}

#[test]
fn the_log_is_read_by_page_time_and_kind_and_survives_a_kill() {
    let mut server = setup().start();
    for day in 1..=9 {
        let rates = format!("{{\"base\": \"USD\", \"rates\": {{\"EUR\": \"0.9{day}\"}}}}");
        let target = format!("/api/v1/rates/2026-10-0{day}");
        assert_eq!(ask(&server, OPS, "PUT", &target, &rates).status, 200);
    }
    server.kill();
    server.start_again();
    let (mut all, mut cursor, mut pages) = (Vec::new(), String::new(), 0);
    loop {
        let page = server.api(&format!("audit?who=ops&limit=4{cursor}"));
        all.extend(page["items"].as_array().expect("items").clone());
        pages += 1;
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    let days: Vec<_> = all.iter().map(|entry| entry["subject"].clone()).collect();
    let expected: Vec<_> = (1..=9).map(|day| json!(format!("2026-10-0{day}"))).collect();
    assert_eq!((days, pages), (expected, 3));
    let time = all[4]["time"].as_str().expect("a time");
    let later = entries(&server, &format!("who=ops&from={time}")).len();
    let earlier = entries(&server, &format!("who=ops&to={time}")).len();
    assert!(later >= 5 && later + earlier == 9, "{later} {earlier}");
    for (query, code) in [
        ("limit=0", "bad_limit"),
        ("limit=1001", "bad_limit"),
        ("cursor=x", "bad_cursor"),
        ("action=drink", "bad_parameter"),
        ("from=yesterday", "bad_parameter"),
        ("whom=ops", "bad_parameter"),
    ] {
        let answer = server.admin(&format!("/api/v1/audit?{query}"));
        assert_eq!(
            (answer.status, &answer.json()["error"]["code"]),
            (400, &json!(code)),
            "{query}"
        );
    }

    server.write("token", OPS);
    let url = format!("http://{}", server.admin);
    let printed = run(
        &server.path("."),
        &["audit", "--admin", &url, "--token-file", "token", "--who", "ops", "--action", "rates"],
    );
    assert_eq!((printed.code, &*printed.err), (Some(0), ""));
    assert_eq!(printed.out.lines().count(), 9);
    assert!(printed.out.lines().all(|line| line.contains("  ops  rates  2026-10-0")));
}

#[test]
fn a_date_is_a_time_wherever_one_is_asked_for() {
    let server = setup().start();
    let ask = |from: &str| {
        let listings = ["conversions", "totals", "fraud", "inbound", "audit"];
        let query = format!("from={from}&to=2999-01-01");
        let listings = listings.iter().map(|it| server.admin(&format!("/api/v1/{it}?{query}")));
        let body = json!({ "from": from, "to": "2999-01-01" }).to_string();
        let begun = server.post_api("reprocess", "application/json", &body);
        if begun.status == 202 {
            server.ended(&begun);
        }
        let all: Vec<_> = listings.chain([begun]).collect();
        let command = server.command(&["audit", "--from", from, "--to", "2999-01-01"]);
        (all, command)
    };
    for from in ["2026-11-01", "2026-11-01T00:00:00Z"] {
        let (all, command) = ask(from);
        assert!(all.iter().all(|answer| matches!(answer.status, 200 | 202)), "{all:?}");
        assert_eq!((command.code, &*command.err), (Some(0), ""));
    }
    let (all, command) = ask("2026-11");
    let hint = "neither 2027-01-31 nor 2027-01-31T18:00:00Z";
    let told = |answer: &crate::harness::Response| {
        (
            answer.status,
            answer.json()["error"]["code"] == "bad_parameter",
            answer.text().contains(hint),
        )
    };
    assert!(all.iter().all(|answer| told(answer) == (400, true, true)), "{all:?}");
    assert!(command.code == Some(2) && command.err.contains(hint), "{}", command.err);
}

#[test]
fn a_restored_store_says_so() {
    let server = crate::backup::setup().start();
    crate::backup::back_up(&server);
    let entries_of = std::fs::read_dir(server.path("backups")).expect("backups");
    let mut folders = entries_of.map(|entry| entry.expect("an entry").path());
    let folder = folders.find(|path| path.is_dir()).expect("a backup");
    let folder = folder.to_str().expect("UTF-8");
    let ended = run(&server.path("."), &["restore", folder, "--to", "again"]);
    assert_eq!(ended.code, Some(0), "{}{}", ended.out, ended.err);
    let restored = Setup::new().start_on(&server.path("again"));
    let kept = entries(&restored, "action=restore");
    assert_eq!(
        (kept.len(), &kept[0]["who"], &kept[0]["call"]),
        (1, &json!("local"), &json!("restore"))
    );
    assert_eq!(kept[0]["subject"], *folder);
    assert!(
        !entries(&restored, "action=backup").is_empty()
            || !entries(&restored, "who=file").is_empty()
    );
}
