//! Certificates that are replaced while the server runs.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use postbackd::config::hash_text;

use crate::harness::tls::{Authority, get, get_text, shown};
use crate::harness::{CATALOG, Connection, Fault, Server, Setup, eventually, run};

fn loads(server: &Server, result: &str) -> f64 {
    server.metric(&format!("postbackd_tls_loads_total{{listener=\"public\",result=\"{result}\"}}"))
}

fn replace(server: &Server, (certificate, key): &(String, String)) {
    server.write("cert.pem", certificate);
    server.write("key.pem", key);
    let before = loads(server, "applied");
    server.signal("HUP");
    eventually("the new certificate", || (loads(server, "applied") == before + 1.0).then_some(()));
}

#[test]
fn certificates_change_under_load_without_a_request_that_fails() {
    let authority = Authority::new();
    let server = authority.setup("server").start();
    let client = authority.client(&["http/1.1"]);
    let (stop, asked) = (AtomicBool::new(false), AtomicUsize::new(0));
    let mut old = client.open(server.public);
    let first = shown(&old);
    std::thread::scope(|scope| {
        for number in 0..4 {
            let (client, stop, asked, server) = (&client, &stop, &asked, &server);
            scope.spawn(move || {
                let mut kept = client.open(server.public);
                while !stop.load(Ordering::Relaxed) {
                    if number % 2 == 0 {
                        kept = client.open(server.public);
                    }
                    assert_eq!(get(&mut kept, "/c/sp7").expect("no request fails"), 302);
                    asked.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        for _ in 0..5 {
            let before = asked.load(Ordering::Relaxed);
            replace(&server, &authority.issue());
            let more = || asked.load(Ordering::Relaxed) > before + 50;
            eventually("more requests", || more().then_some(()));
        }
        stop.store(true, Ordering::Relaxed);
    });
    // The same client: a session that it could resume would have shown nothing.
    let second = shown(&client.open(server.public));
    assert_ne!(first, second);
    assert_eq!(get(&mut old, "/c/sp7").expect("it goes on"), 302);
    assert_eq!(loads(&server, "refused"), 0.0);
}

#[test]
fn a_disk_that_hangs_keeps_neither_certificates_nor_tokens_waiting() {
    const FIRST: &str = "the-first-token-of-a-guest";
    const SECOND: &str = "the-second-token-of-a-guest";
    let authority = Authority::new();
    let guest = format!(
        "[[admin.tokens]]\nname = \"guest\"\nrole = \"read\"\nsecret = \"{}\"\n",
        hash_text(FIRST)
    );
    let server = authority.setup("server").on_faulty_disk().lines(&guest).start();
    server.await_own_commits();
    let client = authority.client(&["http/1.1"]);
    let config = std::fs::read_to_string(server.path("postbackd.toml")).expect("readable");
    let may = |token: &str| {
        let headers = format!("Authorization: Bearer {token}\r\nConnection: close\r\n");
        let mut admin = Connection::open(server.admin);
        let answer = admin.request("GET", "/api/v1/catalog/versions", &headers);
        answer.expect("an answer").status == 200
    };
    let give = |token: &str, instead: &str| {
        server.write("postbackd.toml", &config.replace(&hash_text(FIRST), &hash_text(token)));
        server.signal("HUP");
        eventually("the token", || (may(token) && !may(instead)).then_some(()));
    };
    let before = server.catalog_version();
    server.disk().break_down(Fault::SyncsHang, None);
    // The first signal's entry in the audit log waits for the disk, and behind it the catalog.
    server.write_catalog(&format!(
        "{CATALOG}\n[[links]]\ncode = \"new\"\noffer = \"spring\"\naffiliate = \"pub-8\"\n"
    ));
    give(SECOND, FIRST);
    let shown_before = shown(&client.open(server.public));
    replace(&server, &authority.issue());
    assert_ne!(shown(&client.open(server.public)), shown_before);
    give(FIRST, SECOND);
    give(SECOND, FIRST);
    assert_eq!(server.catalog_version(), before, "the store has not kept another");
    server.disk().repair();
    eventually("the catalog", || (server.catalog_version() != before).then_some(()));
    eventually("all changes in the audit log", || {
        let kept = server.api("audit?action=tokens");
        (kept["items"].as_array().map(Vec::len) == Some(3)).then_some(())
    });
    let loads = "postbackd_catalog_loads_total{result=\"applied\"}";
    eventually("the signals of meanwhile, which are one", || {
        (server.metric(loads) == 3.0).then_some(())
    });
}

#[test]
fn bad_certificates_leave_the_old_ones_in_force() {
    let authority = Authority::new();
    let server = authority.setup("server").start();
    let client = authority.client(&["http/1.1"]);
    let before = shown(&client.open(server.public));
    let good = authority.issue();
    let expiry = "postbackd_tls_certificate_expiry_timestamp_seconds{listener=\"public\"}";
    let until = server.metric(expiry);
    assert!(until > 1e9, "{until}");
    let refuse = |count: f64, what: &str| {
        server.signal("HUP");
        eventually("the refusal", || (loads(&server, "refused") == count).then_some(()));
        assert_eq!(shown(&client.open(server.public)), before, "{what}");
        server.says("certificates not reloaded; the old ones stay in force");
        server.says(what);
        assert_eq!(server.metric(expiry), until);
        assert_eq!(server.metric("postbackd_tls_refused{listener=\"public\"}"), 1.0);
    };
    server.write("cert.pem", &good.0);
    refuse(1.0, "is not that of the first certificate");
    std::fs::remove_file(server.path("key.pem")).expect("it was there");
    refuse(2.0, "No such file");
    server.write("key.pem", "-----BEGIN ENCRYPTED PRIVATE KEY-----\n");
    refuse(3.0, "the key is encrypted");
    replace(&server, &good);
    assert_ne!(shown(&client.open(server.public)), before);
    assert_eq!(server.metric("postbackd_tls_refused{listener=\"public\"}"), 0.0);
}

#[test]
fn each_listener_has_its_own_certificates_whatever_becomes_of_the_others() {
    let authority = Authority::new();
    // Started without those of the admin listener: the harness asks in clear text.
    let mut server = authority.setup("server").start();
    let admins = |server: &Server, (certificate, key): (String, String)| {
        server.write("admin.pem", &certificate);
        server.write("admin-key.pem", &key);
    };
    admins(&server, authority.issue_until(2070));
    server.set_key("admin.tls_certificate", "admin.pem");
    server.set_key("admin.tls_key", "admin-key.pem");
    assert!(server.stop().success());
    server.launch();
    let client = authority.client(&["http/1.1"]);
    let both = || {
        let shown_at = |address| client.try_open(address, b"").ok().map(|stream| shown(&stream));
        shown_at(server.public).zip(shown_at(server.admin))
    };
    let before = eventually("both listeners", both);
    let until = |listener: &str| {
        let mut stream = client.open(server.admin);
        let (_, metrics) = get_text(&mut stream, "/metrics").expect("an answer");
        let series = format!(
            "postbackd_tls_certificate_expiry_timestamp_seconds{{listener=\"{listener}\"}} "
        );
        let line = metrics.lines().find_map(|line| line.strip_prefix(&*series));
        line.expect("a gauge").parse::<i64>().expect("a number")
    };
    // The years 2070, 2080 and 2090 begin.
    let [first, second, publics] = [3_155_760_000, 3_471_292_800, 3_786_912_000];
    assert_eq!((until("public"), until("admin")), (publics, first));
    server.write("cert.pem", "nothing");
    admins(&server, authority.issue_until(2080));
    server.signal("HUP");
    let after = eventually("another certificate", || both().filter(|now| now.1 != before.1));
    assert_eq!(after.0, before.0, "the old one stays");
    eventually("its end", || (until("admin") == second).then_some(()));
    assert_eq!(until("public"), publics);
    assert!(server.stop().success());
}

#[test]
fn a_server_does_not_start_on_certificates_that_cannot_be_used() {
    let authority = Authority::new();
    let (certificate, key) = authority.issue();
    let ended = |command: &str, certificate: &str, key: &str| {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("cert.pem"), certificate).expect("writable");
        std::fs::write(folder.path().join("key.pem"), key).expect("writable");
        let files = "tls_certificate = \"cert.pem\"\ntls_key = \"key.pem\"\n";
        let config = format!(
            "[server]\n{files}[admin]\ntls_certificate = \"no.pem\"\ntls_key = \"key.pem\"\n"
        );
        std::fs::write(folder.path().join("p.toml"), config).expect("writable");
        let ended = run(folder.path(), &[command, "--config", "p.toml"]);
        assert!(!folder.path().join("data").exists(), "no store before certificates");
        (ended.code, ended.said())
    };
    let other = authority.issue().1;
    for command in ["serve", "check-config"] {
        // Both listeners' faults are told.
        let (code, said) = ended(command, &certificate, &other);
        let code_expected = if command == "serve" { 1 } else { 2 };
        assert_eq!(code, Some(code_expected), "{said}");
        assert!(said.contains("is not that of the first certificate"), "{said}");
        assert!(said.contains("no.pem"), "{said}");
    }
    let (code, said) = ended("check-config", &certificate, &key);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("TLS, public listener: fine, valid until "), "{said}");
    assert!(said.contains("warning: ") && said.contains("may read the key"), "{said}");
}

#[test]
fn a_listener_in_clear_text_has_no_series_of_certificates() {
    let server = Setup::new().start();
    let metrics = server.admin("/metrics");
    assert!(!metrics.text().contains("\npostbackd_tls_certificate_expiry"), "{}", metrics.text());
}
