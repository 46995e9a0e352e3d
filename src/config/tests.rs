use std::time::Duration;

use super::Config;
use crate::checked_toml::Report;

const DESIGN: &str = r#"
catalog = "catalog.toml"          # optional; else the catalog is managed by the API

[server]
listen = "127.0.0.1:8080"
workers = 0                       # 0: one per core
node = 0                          # 0..1023, unique per tracker node
trusted_proxies = []

[admin]
listen = "127.0.0.1:9090"
token = "…"                       # absent: created in the store's folder as admin.token, mode 0600

[store]
path = "data"

[network]
time_zone = "UTC"
currency = "USD"
fallback_url = "https://network.example/unavailable"

[click]
ack_deadline = "50ms"

[retention]
clicks = "90d"
inbound = "30d"
conversions = "400d"
"#;

fn load(text: &str, env: &[(&str, &str)]) -> Result<(Config, Report), Report> {
    let env = env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    Config::load_with_warnings(Some(text), "postbackd.toml", env)
}

fn refused(text: &str, env: &[(&str, &str)]) -> String {
    load(text, env).expect_err("has mistakes").to_string()
}

#[test]
fn without_file_and_environment_every_key_has_its_default() {
    let config = Config::load(None, "postbackd.toml", []).expect("defaults are valid");
    assert_eq!(config.server.listen.to_string(), "127.0.0.1:8080");
    assert_eq!(config.admin.listen.to_string(), "127.0.0.1:9090");
    assert_eq!(config.click.ack_deadline, Duration::from_millis(50));
    assert_eq!(config.store.block_cache_bytes, 256 << 20);
    assert_eq!(config.retention.conversions, Duration::from_secs(400 * 86_400));
    assert_eq!(config.catalog, None);
}

#[test]
fn the_designs_example_and_the_shipped_one_are_valid() {
    let (config, warnings) = load(DESIGN, &[]).expect("valid");
    assert_eq!(
        config.network.fallback_url.expect("given").as_str(),
        "https://network.example/unavailable"
    );
    insta::assert_snapshot!(warnings, @r#"
    warning: postbackd.toml:12: admin.token: has fewer than 16 characters and can be guessed
    "#);
    let (_, warnings) = load(include_str!("../../examples/postbackd.toml"), &[]).expect("valid");
    assert!(warnings.is_empty(), "{warnings}");
}

#[test]
fn every_mistake_is_reported_at_once_by_line() {
    let text = r#"
listen = "127.0.0.1:1"
[server]
lisen = "127.0.0.1:80"
listen = "localhost"
workers = "4"
node = 1024
trusted_proxies = ["10.0.0.0/8", "10.0.0.0/33"]
drain_deadline = 10
header_read_timeout = "2h"
[sever]
[store]
block_cache = "256MB"
path = ""
[network]
time_zone = "Mars/Olympus"
currency = "DOLLAR"
fallback_url = "/sorry"
[click]
ip = "truncate"
country_header = "X-Country:"
referrer_policy = "none"
signing_key = "5eCret"
verification_keys = ["5eCret"]
[retention]
clicks = "12h"
[log]
level = "warning"
"#;
    insta::assert_snapshot!(refused(text, &[]), @r#"
    postbackd.toml:2: listen: unknown key; did you mean "server.listen"?
    postbackd.toml:4: server.lisen: unknown key; did you mean "listen"?
    postbackd.toml:5: server.listen: "localhost" is not an address and port such as "127.0.0.1:8080" or "[::]:8080"
    postbackd.toml:6: server.workers: must be a number without quotes, not of type string
    postbackd.toml:7: server.node: must be a whole number from 0 to 1023
    postbackd.toml:8: server.trusted_proxies: "10.0.0.0/33" is not a network such as "10.0.0.0/8" or "2001:db8::/32"
    postbackd.toml:9: server.drain_deadline: must be a string: write it in quotes, not of type integer
    postbackd.toml:10: server.header_read_timeout: must be from "100ms" to "10m"
    postbackd.toml:11: sever: unknown key; did you mean "server"?
    postbackd.toml:13: store.block_cache: "256MB" is not a size such as "256MiB" or "1GiB"
    postbackd.toml:14: store.path: must not be empty
    postbackd.toml:16: network.time_zone: "Mars/Olympus" is not an IANA time zone such as "Europe/Berlin"
    postbackd.toml:17: network.currency: not an ISO 4217 currency code such as "USD"
    postbackd.toml:18: network.fallback_url: must start with http:// or https://
    postbackd.toml:20: click.ip: "truncate" is not one of "full", "truncated", "hashed", "none"; did you mean "truncated"?
    postbackd.toml:21: click.country_header: is not the name of a header such as "CF-IPCountry"
    postbackd.toml:22: click.referrer_policy: "none" is not one of "no-referrer", "no-referrer-when-downgrade", "same-origin", "origin", "strict-origin", "origin-when-cross-origin", "strict-origin-when-cross-origin", "unsafe-url"
    postbackd.toml:23: click.signing_key: must be 64 hex digits, such as `openssl rand -hex 32` prints
    postbackd.toml:24: click.verification_keys: must be 64 hex digits, such as `openssl rand -hex 32` prints
    postbackd.toml:26: retention.clicks: must be from "1d" to "36500d"
    postbackd.toml:28: log.level: "warning" is not one of "off", "error", "warn", "info", "debug", "trace"
    "#);
}

#[test]
fn the_environments_mistakes_name_the_variable_and_hide_none_of_the_files() {
    let env = [
        ("POSTBACKD_SERVER__NODE", "many"),
        ("POSTBACKD_SERVER__LISEN", "127.0.0.1:80"),
        ("POSTBACKD_CONFIG", "/etc/postbackd.toml"),
        ("POSTBACKD_LOG", "debug"),
        ("PATH", "/bin"),
        ("POSTBACKD_LOG__LEVEL", "debug"),
    ];
    insta::assert_snapshot!(refused("[log]\nlevel = 3\n", &env), @r#"
    postbackd.toml:2: log.level: must be a string: write it in quotes, not of type integer
    POSTBACKD_LOG: unknown variable
    POSTBACKD_SERVER__LISEN: unknown variable; did you mean "POSTBACKD_SERVER__LISTEN"?
    POSTBACKD_SERVER__NODE: server.node: must be a whole number from 0 to 1023
    "#);
}

#[test]
fn settings_that_do_not_go_together_are_found() {
    let text = "[server]\nlisten = \"0.0.0.0:80\"\nconnections_max = 10\n[admin]\nlisten = \"10.0.0.1:80\"\ntoken = \"short\"\n[click]\ncountry_header = \"X-Country\"\n[retention]\nconversions = \"30d\"\n";
    insta::assert_snapshot!(refused(text, &[]), @r#"
    warning: postbackd.toml: server.connections_per_ip_max: is above server.connections_max and has no effect
    warning: postbackd.toml:2: server.listen: other machines can reach the public listener, and nothing is encrypted: set server.tls_certificate, or name the proxy that encrypts in server.trusted_proxies
    postbackd.toml:5: admin.listen: is the public listener's address too; choose another port
    warning: postbackd.toml:5: admin.listen: other machines can reach the admin listener; its token travels unencrypted
    warning: postbackd.toml:6: admin.token: has fewer than 16 characters and can be guessed
    warning: postbackd.toml:8: click.country_header: has no effect: server.trusted_proxies names nobody who may send it
    warning: postbackd.toml:10: retention.conversions: is shorter than retention.clicks: a postback repeated after it counts again
    "#);
}

#[test]
fn every_key_has_an_override_and_it_wins_over_the_file() {
    for key in Config::keys() {
        // Fits no key: the complaint shows that the variable was read as this key.
        let report = refused(
            "",
            &[(
                &Config::variable(key),
                if ["path", "tls_certificate", "tls_key"].iter().any(|end| key.ends_with(end))
                    || ["catalog", "rates"].contains(&key)
                {
                    ""
                } else {
                    "\n"
                },
            )],
        );
        assert!(report.starts_with(&format!("{}: {key}: ", Config::variable(key))), "{report}");
    }
    let (config, _) = load(
        "[server]\nnode = 1\n",
        &[
            ("POSTBACKD_SERVER__NODE", "2"),
            ("POSTBACKD_SERVER__TRUSTED_PROXIES", "10.0.0.0/8, ::1/128"),
        ],
    )
    .expect("valid");
    assert_eq!(config.server.node, 2);
    assert_eq!(config.server.trusted_proxies.len(), 2);
}

#[test]
fn backups_are_off_until_they_have_a_place() {
    let backup = |text: &str| load(text, &[]).expect("valid").0.backup;
    let none = backup("");
    assert_eq!((none.path, none.keep, none.every, none.verify), (None, 7, None, true));
    let text = "[backup]\npath = \"b\"\nkeep = 3\nevery = \"24h\"\nverify = false\n";
    let all = backup(text);
    let day = Duration::from_secs(86_400);
    assert_eq!((all.path, all.keep, all.every), (Some("b".into()), 3, Some(day)));
    assert!(!all.verify);
    insta::assert_snapshot!(refused("[backup]\nevery = \"24h\"\nkeep = 0\n", &[]), @r#"
    postbackd.toml:2: backup.every: has no effect: backup.path names no folder
    postbackd.toml:3: backup.keep: must be a whole number from 1 to 1000
    "#);
}

#[test]
fn tls_takes_a_certificate_and_its_key() {
    let files = "tls_certificate = \"c.pem\"\ntls_key = \"k.pem\"\n";
    let (config, report) = load(
        &format!(
            "[server]\nlisten = \"0.0.0.0:443\"\n{files}[admin]\nlisten = \"0.0.0.0:9090\"\n{files}"
        ),
        &[],
    )
    .expect("valid");
    let expected = super::Tls { certificate: "c.pem".into(), key: "k.pem".into() };
    assert_eq!(config.server.tls, Some(expected.clone()));
    assert_eq!(config.admin.tls, Some(expected));
    assert!(report.is_empty(), "{report}");
    let text = "[server]\ntls_key = \"k.pem\"\n[admin]\ntls_certificate = \"c.pem\"\n";
    insta::assert_snapshot!(refused(text, &[]), @r#"
    postbackd.toml:2: server.tls_key: is of no use without server.tls_certificate
    postbackd.toml:4: admin.tls_certificate: is of no use without admin.tls_key
    "#);
}

#[test]
fn clear_text_is_warned_of_unless_somebody_else_encrypts() {
    let warnings = |text: &str| load(text, &[]).expect("valid").1.to_string();
    let open = "[server]\nlisten = \"0.0.0.0:80\"\n";
    assert!(warnings(open).contains("server.listen: other machines can reach"), "{open}");
    assert_eq!(warnings(&format!("{open}trusted_proxies = [\"10.0.0.0/8\"]\n")), "");
    assert_eq!(warnings("[server]\nlisten = \"[::1]:80\"\n"), "");
}

#[test]
fn a_proxys_word_needs_somebody_to_say_it() {
    insta::assert_snapshot!(refused("[server]\nproxy_protocol = true\n", &[]), @r#"
    postbackd.toml:2: server.proxy_protocol: nobody could connect: server.trusted_proxies names no proxy
    "#);
    let text = "[server]\nproxy_protocol = true\ntrusted_proxies = [\"10.0.0.0/8\"]\n";
    assert!(load(text, &[]).expect("valid").0.server.proxy_protocol);
}

#[test]
fn every_key_is_documented() {
    let docs = include_str!("../../docs/configuration.md");
    for key in Config::keys() {
        assert!(
            docs.contains(&format!("| `{key}` |")),
            "{key} is missing in docs/configuration.md"
        );
    }
}

#[test]
fn secrets_show_neither_in_debug_output_nor_in_reports() {
    let hex = "5e".repeat(32);
    let text = format!(
        "[admin]\ntoken = \"a-5eCret-token-of-mine\"\n[click]\nsigning_key = \"{hex}\"\nverification_keys = [\"{hex}\"]\n"
    );
    let (config, _) = load(&text, &[]).expect("valid");
    assert_eq!(config.click.signing_key.as_ref().map(|key| *key.expose()), Some([0x5e; 32]));
    let debug = format!("{config:?}");
    assert!(
        !debug.contains("5eCret") && !debug.contains("94") && debug.contains("[secret]"),
        "{debug}"
    );
    for text in [
        "[admin]\ntoken = \"5e Cret\"",
        "[admin]\ntoken = \"5e Cret",
        "[click]\nsigning_key = \"5e Cret\"",
        "[click]\nsigning_key = 5eCret",
    ] {
        assert!(!refused(text, &[]).contains("5e"), "{}", refused(text, &[]));
    }
}
