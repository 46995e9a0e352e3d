//! Checks without a server: what is wrong is said at once, in full, with an exit code.

use crate::harness::{self, CATALOG, Ended, binary};

/// Runs the binary in a folder with these files.
fn run(files: &[(&str, &str)], arguments: &[&str], env: &[(&str, &str)]) -> Ended {
    let folder = tempfile::tempdir().expect("a folder");
    for (name, text) in files {
        std::fs::write(folder.path().join(name), text).expect("writable");
    }
    Ended::of(binary().args(arguments).envs(env.iter().copied()).current_dir(folder.path()))
}

const CHECK: [&str; 3] = ["check-config", "--config", "p.toml"];

#[test]
fn a_token_of_the_admin_api_that_has_ended_is_warned_of() {
    let token = |name: &str, until: &str| {
        let hash = blake3::hash(name.as_bytes());
        format!(
            "[[admin.tokens]]\nname = \"{name}\"\nrole = \"read\"\nsecret = \"blake3:{hash}\"\nuntil = {until}\n"
        )
    };
    let text = token("past", "2020-01-01") + &token("future", "2999-01-01");
    let ended = run(&[("p.toml", &text)], &CHECK, &[]);
    assert_eq!((ended.code, &*ended.out), (Some(0), "configuration: fine\n"));
    assert_eq!(ended.err, "warning: admin.tokens \"past\": until has passed: it is refused\n");
}

#[test]
fn a_sound_configuration_and_catalog_are_fine() {
    let ended = run(&[("p.toml", "catalog = \"c.toml\"\n"), ("c.toml", CATALOG)], &CHECK, &[]);
    assert_eq!((ended.code, &*ended.err), (Some(0), ""));
    assert_eq!(ended.out, "configuration: fine\ncatalog: fine, 7 offers, 3 affiliates\n");
    let ended = run(&[("c.toml", CATALOG)], &["catalog", "check", "c.toml"], &[]);
    assert_eq!((ended.code, &*ended.err), (Some(0), ""));
    assert_eq!(ended.out, "catalog: fine, 7 offers, 3 affiliates\n");
    assert_eq!(run(&[("p.toml", "")], &CHECK, &[]).code, Some(0));
    assert_eq!(run(&[], &["check-config"], &[]).code, Some(0));
}

#[test]
fn all_mistakes_of_a_configuration_are_reported_at_once() {
    let config = r#"catalogue = "c.toml"

[server]
lisen = "127.0.0.1:1"
listen = "localhost:80"
workers = -1
node = 1024
trusted_proxies = ["10.0.0.0/8", "ten", 10]
drain_deadline = "10"
connections_max = "many"

[admin]
token = "short"

[store]
block_cache = "4GB"

[network]
time_zone = "Mars/Olympus"
currency = "XXX"
fallback_url = "javascript:alert(1)"

[click]
ip = "truncate"
signing_key = "abc"

[retention]
clicks = "0d"

[retension]
clicks = "1d"
"#;
    let ended = run(&[("p.toml", config)], &CHECK, &[]);
    assert_eq!((ended.code, &*ended.out), (Some(2), ""));
    insta::assert_snapshot!(ended.err, @r#"
    p.toml:1: catalogue: unknown key; did you mean "catalog"?
    p.toml:4: server.lisen: unknown key; did you mean "listen"?
    p.toml:5: server.listen: "localhost:80" is not an address and port such as "127.0.0.1:8080" or "[::]:8080"
    p.toml:6: server.workers: must be a whole number from 0 to 1024
    p.toml:7: server.node: must be a whole number from 0 to 1023
    p.toml:8: server.trusted_proxies: "ten" is not a network such as "10.0.0.0/8" or "2001:db8::/32"
    p.toml:9: server.drain_deadline: "10" is not a duration such as "50ms", "5s", "10m", "48h" or "30d"
    p.toml:10: server.connections_max: must be a number without quotes, not of type string
    warning: p.toml:13: admin.token: has fewer than 16 characters and can be guessed
    p.toml:16: store.block_cache: "4GB" is not a size such as "256MiB" or "1GiB"
    p.toml:19: network.time_zone: "Mars/Olympus" is not an IANA time zone such as "Europe/Berlin"
    p.toml:20: network.currency: not an ISO 4217 currency code such as "USD"
    p.toml:21: network.fallback_url: must start with http:// or https://
    p.toml:24: click.ip: "truncate" is not one of "full", "truncated", "hashed", "none"; did you mean "truncated"?
    p.toml:25: click.signing_key: must be 64 hex digits, such as `openssl rand -hex 32` prints
    p.toml:28: retention.clicks: must be from "1d" to "36500d"
    p.toml:30: retension: unknown key; did you mean "retention"?
    "#);
}

#[test]
fn all_mistakes_of_a_catalog_are_reported_at_once() {
    let catalog = r#"
[[advertisers]]
id = "acme"
preset = "keitaro"
auth = { tokens = [] }
params = { clickid = "x", txn_id = "order", customer_id = "order" }
statuses = { ok = "approve" }

[[advertisers]]
id = "acme"
preset = "keytaro"

[[offers]]
id = "spring offer"
advertiser = "acne"
url = "https://shop.example/?s={sub11}&c={click_id}"
status = "actve"
window = "30"

[[offers.events]]
id = "sale"
initial_status = "rejected"
repeat = "twice"
payout = { fixed = "15.1234567", percent = "-5", currency = "USD" }
revenue = { fixed = "-1", currency = "EUR" }

[[offers.events]]
id = "sale"
reverses = ["sale"]

[[offers]]
id = "no-click"
url = "https://shop.example/"

[[offers]]
id = "open"
advertiser = "acme"
url = "https://{sub1}/?c={click_id}"

[[affiliates]]
name = "nobody"

[[affiliates]]
id = "pub-7"
status = "asleep"

[[links]]
code = "sp7"
offer = "spring"
affiliate = "pub-8"

[[link]]
code = "x"
"#;
    let ended = run(&[("c.toml", catalog)], &["catalog", "check", "c.toml"], &[]);
    assert_eq!((ended.code, &*ended.out), (Some(2), ""));
    insta::assert_snapshot!(ended.err, @r#"
    c.toml:5: advertisers[0] "acme".auth.tokens: has no secret: every postback would be refused
    c.toml:6: advertisers[0] "acme".params.clickid: unknown parameter; did you mean "click_id"?
    c.toml:6: advertisers[0] "acme".params.customer_id: "order" is the name of txn_id already
    c.toml:7: advertisers[0] "acme".statuses.ok: "approve" is not one of "pending", "approved", "rejected", "reversed"; did you mean "approved"?
    c.toml:10: advertisers[1] "acme".id: "acme" is taken by an earlier advertiser
    c.toml:11: advertisers[1] "acme".preset: "keytaro" is not one of "standard", "voluum", "keitaro", "binom", "redtrack", "everflow", "tune", "affise", "scaleo", "afftrax", "trackier", "bemob", "cake"; did you mean "keitaro"?
    c.toml:14: offers[0] "spring offer".id: "spring offer" is not an ID: 1 to 64 of A-Z a-z 0-9 . _ -
    c.toml:15: offers[0] "spring offer".advertiser: "acne" is not among the advertisers; did you mean "acme"?
    c.toml:16: offers[0] "spring offer".url: unknown macro {sub11}; did you mean "sub1"?
    c.toml:17: offers[0] "spring offer".status: "actve" is not one of "active", "paused"; did you mean "active"?
    c.toml:18: offers[0] "spring offer".window: "30" is not a duration such as "50ms", "5s", "10m", "48h" or "30d"
    c.toml:22: offers[0] "spring offer".events[0] "sale".initial_status: "rejected" is not one of "pending", "approved"
    c.toml:23: offers[0] "spring offer".events[0] "sale".repeat: must be "once" or a duration such as "24h"
    c.toml:24: offers[0] "spring offer".events[0] "sale".payout.fixed: more than 6 decimals
    c.toml:24: offers[0] "spring offer".events[0] "sale".payout.percent: must not be negative
    c.toml:25: offers[0] "spring offer".events[0] "sale".revenue.fixed: must not be negative
    c.toml:25: offers[0] "spring offer".events[0] "sale".revenue.currency: must be USD, the currency of the event's payout
    c.toml:28: offers[0] "spring offer".events[1] "sale".id: "sale" is taken by an earlier event of this offer
    c.toml:29: offers[0] "spring offer".events[1] "sale".reverses: "sale" earns nothing that could be taken back
    c.toml:31: offers[1] "no-click".advertiser: is missing
    warning: c.toml:31: offers[1] "no-click".events: has no events: every postback for the offer will be refused
    c.toml:33: offers[1] "no-click".url: has no {click_id}: no conversion could ever be matched to its click
    warning: c.toml:35: offers[2] "open".events: has no events: every postback for the offer will be refused
    c.toml:38: offers[2] "open".url: has a macro in the host: the host must be literal and end in /, ? or # before it
    c.toml:40: affiliates[0].id: is missing
    c.toml:41: affiliates[0].name: unknown key
    c.toml:45: affiliates[1] "pub-7".status: "asleep" is not one of "active", "blocked"
    c.toml:49: links[0] "sp7".offer: "spring" is not among the offers
    c.toml:50: links[0] "sp7".affiliate: "pub-8" is not among the affiliates; did you mean "pub-7"?
    c.toml:52: link: unknown key; did you mean "links"?
    "#);
    let through_config =
        run(&[("p.toml", "catalog = \"c.toml\"\n"), ("c.toml", catalog)], &CHECK, &[]);
    assert_eq!((through_config.code, &*through_config.out), (Some(2), "configuration: fine\n"));
    assert_eq!(through_config.err, ended.err);
}

#[test]
fn a_file_that_is_no_toml_is_a_mistake_with_its_line() {
    let ended = run(&[("p.toml", "[server]\nlisten = \n")], &CHECK, &[]);
    assert_eq!(ended.code, Some(2));
    insta::assert_snapshot!(ended.err, @"
    p.toml:2: string values must be quoted, expected literal string
    ");
    let ended = run(&[("c.toml", "[[offers]\n")], &["catalog", "check", "c.toml"], &[]);
    assert_eq!(ended.code, Some(2));
    insta::assert_snapshot!(ended.err, @"
    c.toml:1: unclosed array table, expected `]`
    ");
}

#[test]
fn an_override_that_is_no_text_is_a_mistake() {
    use std::os::unix::ffi::OsStrExt as _;
    let value = std::ffi::OsStr::from_bytes(b"/srv/\xE9");
    for (name, code) in [("POSTBACKD_STORE__PATH", 2), ("SOMEBODY_ELSES", 0)] {
        let Ended { code: ended, err, .. } =
            Ended::of(binary().arg("check-config").env(name, value));
        assert_eq!(ended, Some(code), "{err}");
        assert_eq!(err.contains("POSTBACKD_STORE__PATH is not UTF-8"), code == 2, "{err}");
    }
}

#[test]
fn a_file_that_is_not_there_is_a_failure_not_a_mistake() {
    let missing = "cannot read p.toml: No such file or directory (os error 2)\n";
    let ended = run(&[], &CHECK, &[]);
    assert_eq!((ended.code, &*ended.err), (Some(1), missing));
    let ended = run(&[], &["serve", "--config", "p.toml"], &[]);
    assert_eq!((ended.code, &*ended.err), (Some(1), missing));
    let ended = run(&[], &["catalog", "check", "c.toml"], &[]);
    let missing = "cannot read c.toml: No such file or directory (os error 2)\n";
    assert_eq!((ended.code, &*ended.err), (Some(1), missing));
    let ended = run(&[("p.toml", "catalog = \"c.toml\"\n")], &CHECK, &[]);
    assert_eq!((ended.code, &*ended.err), (Some(1), missing));
}

#[test]
fn wrong_arguments_are_a_mistake() {
    for arguments in [&["sreve"][..], &["serve", "--confg", "x"], &["catalog", "check"], &[]] {
        let ended = run(&[], arguments, &[]);
        assert_eq!(ended.code, Some(2), "{arguments:?}");
        assert!(ended.err.contains("Usage: postbackd"), "{}", ended.err);
    }
    assert_eq!(
        run(&[], &["--version"], &[]).out,
        format!("postbackd {}\n", env!("CARGO_PKG_VERSION"))
    );
}

#[test]
fn environment_variables_override_keys_and_are_checked_like_them() {
    let wrong_file = ("p.toml", "[server]\nlisten = \"nonsense\"\n");
    let config = ("p.toml", "[server]\nlisten = \"127.0.0.1:1\"\nworkers = 3\n");
    let fine = [("POSTBACKD_SERVER__LISTEN", "127.0.0.1:8081")];
    assert_eq!(run(&[config], &CHECK, &fine).code, Some(0));
    let hidden = run(&[wrong_file], &CHECK, &fine);
    assert_eq!(hidden.code, Some(2), "an override does not hide the file's mistake");
    let others = [("PATH", "/bin"), ("POSTBACKDX", "1"), ("POSTBACKD_CONFIG", "p.toml")];
    assert_eq!(run(&[("p.toml", "")], &["check-config"], &others).code, Some(0));
    let wrong = [
        ("POSTBACKD_SERVER__LISTEN", "here"),
        ("POSTBACKD_SERVER__LISEN", "127.0.0.1:8081"),
        ("POSTBACKD_SERVER__TRUSTED_PROXIES", "10.0.0.0/8, ::1/128, x"),
        ("POSTBACKD_BANANA", "1"),
        ("POSTBACKD_STORE", "/data"),
    ];
    let ended = run(&[config], &CHECK, &wrong);
    assert_eq!(ended.code, Some(2));
    insta::assert_snapshot!(ended.err, @r#"
    POSTBACKD_BANANA: unknown variable
    POSTBACKD_SERVER__LISEN: unknown variable; did you mean "POSTBACKD_SERVER__LISTEN"?
    POSTBACKD_SERVER__LISTEN: server.listen: "here" is not an address and port such as "127.0.0.1:8080" or "[::]:8080"
    POSTBACKD_SERVER__TRUSTED_PROXIES: server.trusted_proxies: "x" is not a network such as "10.0.0.0/8" or "2001:db8::/32"
    POSTBACKD_STORE: unknown variable
    "#);
}

#[test]
fn a_server_with_mistakes_does_not_start_and_touches_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("p.toml"), "catalog = \"c.toml\"\n[servr]\n")
        .expect("written");
    let ended = harness::run(folder.path(), &["serve", "--config", "p.toml"]);
    assert_eq!(ended.code, Some(2));
    assert_eq!(ended.err, "p.toml:2: servr: unknown key; did you mean \"server\"?\n");
    assert!(!folder.path().join("data").exists());
    std::fs::write(folder.path().join("p.toml"), "catalog = \"c.toml\"\n").expect("written");
    std::fs::write(folder.path().join("c.toml"), "[[offers]]\nid = \"x\"\n").expect("written");
    let ended = harness::run(folder.path(), &["serve", "--config", "p.toml"]);
    assert_eq!(ended.code, Some(1));
    assert!(ended.err.contains("offers[0]"), "{}", ended.err);
}

#[test]
fn an_address_in_use_is_a_failure_that_names_it() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("bound").to_string();
    let env =
        [("POSTBACKD_SERVER__LISTEN", &*address), ("POSTBACKD_STORE__FREE_SPACE_RESERVE", "1MiB")];
    let ended = run(&[], &["serve"], &env);
    assert_eq!(ended.code, Some(1));
    assert!(ended.err.contains(&format!("cannot listen on {address}")), "{}", ended.err);
}
