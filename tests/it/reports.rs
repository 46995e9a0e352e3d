//! Checks without a server: what is wrong is said at once, in full, with an exit code.

use std::path::Path;
use std::process::Command;

use crate::harness::{CATALOG, binary};

struct Ended {
    code: Option<i32>,
    out: String,
    err: String,
}

/// Runs the binary in a folder with these files; file names in the output are then short.
fn run(files: &[(&str, &str)], arguments: &[&str], env: &[(&str, &str)]) -> Ended {
    let folder = tempfile::tempdir().expect("a folder");
    for (name, text) in files {
        std::fs::write(folder.path().join(name), text).expect("writable");
    }
    run_in(folder.path(), arguments, env)
}

fn run_in(folder: &Path, arguments: &[&str], env: &[(&str, &str)]) -> Ended {
    let mut command: Command = binary();
    let output = command.args(arguments).envs(env.iter().copied()).current_dir(folder).output();
    let output = output.expect("the binary runs");
    let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
    Ended { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
}

const CHECK: [&str; 3] = ["check-config", "--config", "p.toml"];

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
    p.toml:5: server.listen: expected an address such as "127.0.0.1:8080", found "localhost:80"
    p.toml:6: server.workers: expected a number from 0 to 1024, found -1
    p.toml:7: server.node: expected a number from 0 to 1023, found 1024
    p.toml:8: server.trusted_proxies: expected a network such as "10.0.0.0/8", found "ten"
    p.toml:8: server.trusted_proxies: expected a network such as "10.0.0.0/8" in quotes, found integer
    p.toml:9: server.drain_deadline: expected a duration such as "30d", "48h" or "50ms", found "10"
    p.toml:10: server.connections_max: expected a number from 1 to 1000000, found string
    p.toml:13: admin.token: expected at least 16 characters
    p.toml:16: store.block_cache: expected a size such as "256MiB", found "4GB"
    p.toml:19: network.time_zone: expected a time zone such as "Europe/Berlin", found "Mars/Olympus"
    p.toml:20: network.currency: expected an ISO 4217 code such as "USD", found "XXX"
    p.toml:21: network.fallback_url: expected an absolute http or https URL, found "javascript:alert(1)"
    p.toml:24: click.ip: expected "full" or "truncated" or "hashed" or "none", found "truncate"; did you mean "truncated"?
    p.toml:25: click.signing_key: expected 64 hexadecimal digits
    p.toml:28: retention.clicks: expected at least "1d"
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
payout = { fixed = "15.1234567", percent = "5", currency = "USD" }
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
    c.toml:4: advertisers["acme"].preset: not supported by this version: only "standard" is spoken
    c.toml:5: advertisers["acme"].auth: not supported by this version: nothing would be checked
    c.toml:6: advertisers["acme"].params: "clickid" is not a parameter of ours; did you mean "click_id"?
    c.toml:6: advertisers["acme"].params: "order" stands for two meanings
    c.toml:7: advertisers["acme"].statuses: "approve" is not pending, approved, rejected or reversed
    c.toml:10: advertisers["acme"].id: "acme" is there twice
    c.toml:11: advertisers["acme"].preset: there is no preset "keytaro"; did you mean "keitaro"?
    c.toml:14: offers["spring offer"].id: expected 1 to 64 characters of A-Z a-z 0-9 . _ -, found "spring offer"
    c.toml:15: offers["spring offer"].advertiser: there is no "acne"; did you mean "acme"?
    c.toml:16: offers["spring offer"].url: unknown macro {sub11}; passed parameters must be listed in pass_params
    c.toml:17: offers["spring offer"].status: expected "active" or "paused", found "actve"; did you mean "active"?
    c.toml:18: offers["spring offer"].window: expected a duration such as "30d", found "30"
    c.toml:22: offers["spring offer"].events["sale"].initial_status: expected "pending" or "approved", found "rejected"
    c.toml:23: offers["spring offer"].events["sale"].repeat: expected "once" or a duration such as "24h", found "twice"
    c.toml:24: offers["spring offer"].events["sale"].payout.fixed: expected an amount such as "15.00", found "15.1234567"
    c.toml:24: offers["spring offer"].events["sale"].payout.percent: not supported by this version: only "fixed" is paid
    c.toml:25: offers["spring offer"].events["sale"].revenue.fixed: must not be negative
    c.toml:25: offers["spring offer"].events["sale"].revenue: payout and revenue have one currency
    c.toml:28: offers["spring offer"].events["sale"].id: "sale" is there twice
    c.toml:29: offers["spring offer"].events["sale"].reverses: not supported by this version: negative events are not booked yet
    c.toml:31: offers["no-click"].advertiser: missing
    c.toml:31: offers["no-click"].events: an offer needs at least one event
    c.toml:33: offers["no-click"].url: a landing URL must contain {click_id}
    c.toml:35: offers["open"].events: an offer needs at least one event
    c.toml:38: offers["open"].url: expected an absolute http or https URL of printable ASCII whose host has no macro
    c.toml:40: affiliates[1].id: missing
    c.toml:41: affiliates[1].name: unknown key
    c.toml:45: affiliates["pub-7"].status: expected "active" or "blocked", found "asleep"
    c.toml:49: links["sp7"].offer: there is no "spring"
    c.toml:50: links["sp7"].affiliate: there is no "pub-8"; did you mean "pub-7"?
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
    insta::assert_snapshot!(ended.err, @r#"
    p.toml:2: string values must be quoted, expected literal string
    p.toml:2: server.listen: expected an address such as "127.0.0.1:8080", found ""
    "#);
    let ended = run(&[("c.toml", "[[offers]\n")], &["catalog", "check", "c.toml"], &[]);
    assert_eq!(ended.code, Some(2));
    insta::assert_snapshot!(ended.err, @r#"
    c.toml:1: unclosed array table, expected `]`
    c.toml:1: offers[1].id: missing
    c.toml:1: offers[1].advertiser: missing
    c.toml:1: offers[1].url: missing
    c.toml:1: offers[1].events: an offer needs at least one event
    "#);
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
    let config = ("p.toml", "[server]\nlisten = \"nonsense\"\nworkers = 3\n");
    let fine = [("POSTBACKD_SERVER__LISTEN", "127.0.0.1:8081")];
    assert_eq!(run(&[config], &CHECK, &fine).code, Some(0), "the file's value does not count");
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
    p.toml: POSTBACKD_SERVER__LISTEN: expected an address such as "127.0.0.1:8080", found "here"
    p.toml: POSTBACKD_SERVER__TRUSTED_PROXIES: expected a network such as "10.0.0.0/8", found "x"
    p.toml: POSTBACKD_BANANA: no key answers to this environment variable; did you mean "POSTBACKD_CATALOG"?
    p.toml: POSTBACKD_SERVER__LISEN: no key answers to this environment variable; did you mean "POSTBACKD_SERVER__LISTEN"?
    p.toml: POSTBACKD_STORE: no key answers to this environment variable; did you mean "POSTBACKD_STORE__PATH"?
    "#);
}

#[test]
fn a_server_with_mistakes_does_not_start_and_touches_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("p.toml"), "catalog = \"c.toml\"\n[servr]\n")
        .expect("written");
    let ended = run_in(folder.path(), &["serve", "--config", "p.toml"], &[]);
    assert_eq!(ended.code, Some(2));
    assert_eq!(ended.err, "p.toml:2: servr: unknown key; did you mean \"server\"?\n");
    assert!(!folder.path().join("data").exists());
    std::fs::write(folder.path().join("p.toml"), "catalog = \"c.toml\"\n").expect("written");
    std::fs::write(folder.path().join("c.toml"), "[[offers]]\nid = \"x\"\n").expect("written");
    let ended = run_in(folder.path(), &["serve", "--config", "p.toml"], &[]);
    assert_eq!(ended.code, Some(1));
    assert!(ended.err.contains("offers[\\\"x\\\"].advertiser: missing"), "{}", ended.err);
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
