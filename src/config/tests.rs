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
    Config::load(Some(text), "postbackd.toml", env)
}

fn refused(text: &str, env: &[(&str, &str)]) -> String {
    load(text, env).expect_err("has mistakes").to_string()
}

#[test]
fn without_file_and_environment_every_key_has_its_default() {
    let (config, _) = Config::load(None, "postbackd.toml", []).expect("defaults are valid");
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
fn what_the_environment_overrules_in_the_file_is_a_warning() {
    let text = "[server]\nworkers = 2\ntrusted_proxies = [\"10.0.0.0/8\", \"fd00::/8\"]\n\
                [store]\npath = \"/srv/store\"\ncreate = false\n";
    let overruled = [
        ("POSTBACKD_SERVER__WORKERS", "3"),
        ("POSTBACKD_SERVER__TRUSTED_PROXIES", "10.0.0.0/8"),
        ("POSTBACKD_STORE__PATH", "/var/lib/postbackd"),
        ("POSTBACKD_STORE__CREATE", "true"),
    ];
    let (config, warnings) = load(text, &overruled).expect("valid");
    assert_eq!(config.store.path, std::path::Path::new("/var/lib/postbackd"));
    insta::assert_snapshot!(warnings, @"
    warning: postbackd.toml:2: server.workers: counts for nothing: POSTBACKD_SERVER__WORKERS is set, too
    warning: postbackd.toml:3: server.trusted_proxies: counts for nothing: POSTBACKD_SERVER__TRUSTED_PROXIES is set, too
    warning: postbackd.toml:5: store.path: counts for nothing: POSTBACKD_STORE__PATH is set, too
    warning: postbackd.toml:6: store.create: counts for nothing: POSTBACKD_STORE__CREATE is set, too
    ");
    let same = [
        ("POSTBACKD_SERVER__WORKERS", "2"),
        ("POSTBACKD_SERVER__TRUSTED_PROXIES", "10.0.0.0/8, fd00::/8"),
        ("POSTBACKD_STORE__PATH", "/srv/store"),
        ("POSTBACKD_STORE__CREATE", "false"),
        ("POSTBACKD_LOG__LEVEL", "debug"),
    ];
    let (_, warnings) = load(text, &same).expect("valid");
    assert!(warnings.is_empty(), "{warnings}");
}

#[test]
fn a_block_cache_is_no_larger_than_the_machines_memory() {
    let refused = refused("[store]\nblock_cache = \"1000000TiB\"\n", &[]);
    assert!(refused.contains("store.block_cache: must be less than this machine's memory, "));
    assert!(load("[store]\nblock_cache = \"64MiB\"\n", &[]).is_ok());
}

#[test]
fn what_kubernetes_says_of_services_of_our_name_is_passed_over_and_nothing_else() {
    let env = [
        ("POSTBACKD_SERVICE_HOST", "10.3.0.7"),
        ("POSTBACKD_SERVICE_PORT", "80"),
        ("POSTBACKD_SERVICE_PORT_HTTP", "80"),
        ("POSTBACKD_PORT", "tcp://10.3.0.7:80"),
        ("POSTBACKD_PORT_80_TCP", "tcp://10.3.0.7:80"),
        ("POSTBACKD_PORT_80_TCP_ADDR", "10.3.0.7"),
        ("POSTBACKD_PORT_80_TCP_PORT", "80"),
        ("POSTBACKD_PORT_80_TCP_PROTO", "tcp"),
        ("POSTBACKD_ADMIN_SERVICE_HOST", "10.3.0.8"),
        ("POSTBACKD_ADMIN_SERVICE_PORT", "9090"),
        ("POSTBACKD_ADMIN_PORT", "tcp://10.3.0.8:9090"),
        ("POSTBACKD_ADMIN_PORT_9090_TCP_ADDR", "10.3.0.8"),
        ("OTHER_SERVICE_HOST", "10.3.0.9"),
        ("OTHER_PORT", "tcp://10.3.0.9:80"),
    ];
    load("", &env).expect("a configuration");
    let mistaken = [
        ("POSTBACKD_SERVER_PORT", "8080"),
        ("POSTBACKD_SERVICES", "x"),
        ("POSTBACKD_SERVICE__LISTEN", "127.0.0.1:1"),
        ("POSTBACKD_SERVER__NODE", "many"),
    ];
    insta::assert_snapshot!(refused("", &[&env[..], &mistaken].concat()), @r#"
    POSTBACKD_SERVER_PORT: unknown variable
    POSTBACKD_SERVER__NODE: server.node: must be a whole number from 0 to 1023
    POSTBACKD_SERVICES: unknown variable
    POSTBACKD_SERVICE__LISTEN: unknown variable; did you mean "POSTBACKD_SERVER__LISTEN"?
    "#);
    // Who wants to set a port and guesses how is told.
    insta::assert_snapshot!(refused("", &[("POSTBACKD_PORT", "8080")]), @"POSTBACKD_PORT: unknown variable");
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
fn a_store_is_made_unless_it_may_not_be() {
    let create = |text: &str| load(text, &[]).expect("valid").0.store.create;
    assert!(create(""));
    assert!(!create("[store]\ncreate = false\n"));
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

const HASH: &str = "blake3:e7a7b1d2f5d6c1d3d0b5a4b0c6c9b6a1e7a7b1d2f5d6c1d3d0b5a4b0c6c9b6a1";

#[test]
fn named_tokens_are_read_from_the_file_or_else_from_the_environment() {
    let hash = crate::config::hash_text("second");
    let text = format!(
        "[network]\ntime_zone = \"Europe/Berlin\"\n\
         [[admin.tokens]]\nname = \"grafana\"\nrole = \"read\"\nsecret = \"{HASH}\"\n\
         [[admin.tokens]]\nname = \"ops\"\nrole = \"write\"\nsecret = \"{hash}\"\nuntil = 2027-01-31\n"
    );
    let tokens = |env: &[(&str, &str)]| {
        let (config, warnings) = load(&text, env).expect("valid");
        assert!(warnings.is_empty(), "{warnings}");
        let token = |token: &super::KnownToken| {
            (token.name.to_string(), token.role.as_str(), token.hash.is_some(), token.until_ms)
        };
        config.admin.tokens.iter().map(token).collect::<Vec<_>>()
    };
    let midnight = "2027-02-01T00:00:00+01:00".parse::<jiff::Timestamp>().expect("a time");
    let midnight_ms = u64::try_from(midnight.as_millisecond()).expect("after 1970");
    let named = |name: &str, role, until| (name.to_owned(), role, true, until);
    assert_eq!(
        tokens(&[]),
        [named("grafana", "read", None), named("ops", "write", Some(midnight_ms))]
    );
    let variable = format!("other read {HASH}, more write {hash} 2027-01-31");
    assert_eq!(
        tokens(&[("POSTBACKD_ADMIN__TOKENS", &variable)]),
        [named("other", "read", None), named("more", "write", Some(midnight_ms))]
    );
    assert_eq!(tokens(&[("POSTBACKD_ADMIN__TOKENS", "")]), []);
}

#[test]
fn mistakes_in_tokens_are_reported_together_without_a_secret() {
    let first = crate::config::hash_text("the-first-token-of-all");
    let text = format!(
        r#"
[admin]
token = "the-first-token-of-all"
[[admin.tokens]]
name = "ops"
role = "admin"
secret = "plain-secret"
[[admin.tokens]]
name = "ops"
role = "read"
secret = "{HASH}"
[[admin.tokens]]
name = "default"
role = "write"
secret = "{HASH}"
[[admin.tokens]]
name = "a b"
rule = "read"
[[admin.tokens]]
name = "lost"
role = "read"
secret = "file:/nowhere/at/all"
until = "soon"
[[admin.tokens]]
name = "found"
role = "read"
secret = "file:/nowhere/at/all"
[[admin.tokens]]
name = "again"
role = "read"
secret = "{first}"
"#
    );
    let report = refused(&text, &[("POSTBACKD_ADMIN__TOKENS", "x read, y rite env:Y1 soon")]);
    insta::assert_snapshot!(report, @r#"
    postbackd.toml:6: admin.tokens[0] "ops".role: "admin" is not one of "read", "write"
    postbackd.toml:7: admin.tokens[0] "ops".secret: holds no secrets: write "blake3:HEX", which `postbackd token hash` prints, "env:NAME" or "file:/PATH"
    postbackd.toml:9: admin.tokens[1] "ops".name: "ops" is taken by an earlier token
    postbackd.toml:13: admin.tokens[2] "default".name: "default" has a meaning of its own; choose another
    postbackd.toml:15: admin.tokens[2] "default".secret: is the secret of ops, too
    postbackd.toml:16: admin.tokens[3] "a b".role: is missing
    postbackd.toml:16: admin.tokens[3] "a b".secret: is missing
    postbackd.toml:18: admin.tokens[3] "a b".rule: unknown key; did you mean "role"?
    warning: postbackd.toml:22: admin.tokens[4] "lost".secret: /nowhere/at/all cannot be read: No such file or directory (os error 2): nothing will match it
    postbackd.toml:23: admin.tokens[4] "lost".until: "soon" is neither a date such as "2027-01-31" nor a time such as "2027-01-31T18:00:00Z"
    warning: postbackd.toml:27: admin.tokens[5] "found".secret: /nowhere/at/all cannot be read: No such file or directory (os error 2): nothing will match it
    postbackd.toml:27: admin.tokens[5] "found".secret: is the secret of lost, too
    postbackd.toml:31: admin.tokens[6] "again".secret: is the secret of admin.token, too
    POSTBACKD_ADMIN__TOKENS: admin.tokens: a token is NAME ROLE SECRET, or NAME ROLE SECRET UNTIL
    POSTBACKD_ADMIN__TOKENS: admin.tokens: "y": until "soon" is neither a date such as "2027-01-31" nor a time such as "2027-01-31T18:00:00Z"
    "#);
    assert!(!report.contains("plain-secret") && !report.contains("the-first"), "{report}");
    let token = |n: u32| format!("t{n} read {}", crate::config::hash_text(&n.to_string()));
    let many: Vec<_> = (0..65).map(token).collect();
    let report = refused("", &[("POSTBACKD_ADMIN__TOKENS", &many.join(","))]);
    assert!(report.contains("more than 64 tokens"), "{report}");
    assert!(refused("[admin]\ntokens = 3\n", &[]).contains("write [[admin.tokens]]"));
}

#[test]
fn a_token_whose_secret_cannot_be_read_is_a_warning_and_matches_nothing() {
    let text = "[[admin.tokens]]\nname = \"lost\"\nrole = \"read\"\nsecret = \"file:/nowhere\"\n";
    let (config, warnings) = load(text, &[]).expect("valid");
    assert_eq!(config.admin.tokens[0].hash, None);
    let warnings = warnings.to_string();
    assert!(warnings.contains("admin.tokens[0] \"lost\".secret"), "{warnings}");
    assert!(warnings.contains("nothing will match it"), "{warnings}");
}

#[test]
fn backups_go_neither_into_the_store_nor_around_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = |name: &str| folder.path().join(name).display().to_string();
    std::fs::create_dir_all(folder.path().join("store/deep")).expect("writable");
    std::os::unix::fs::symlink(folder.path().join("store"), folder.path().join("link"))
        .expect("a link");
    let check = |store: &str, backups: &str, expected: bool| {
        let text = format!("[store]\npath = {store:?}\n[backup]\npath = {backups:?}\n");
        let loaded = load(&text, &[]);
        assert_eq!(loaded.is_ok(), expected, "{store} {backups}");
        if let Err(report) = loaded {
            assert!(report.to_string().contains("backup.path: is the store's folder"), "{report}");
        }
    };
    check(&at("store"), &at("backups"), true);
    check(&at("store"), &at("store-backups"), true);
    check("data", "backups", true);
    check("data", "data", false);
    check("data", "./data/", false);
    check("data", "data/backups", false);
    check("data/db", "data", false);
    check("data", "x/../data/y", false);
    check("data", ".", false);
    check(&at("store"), &at("store/"), false);
    check(&at("store"), &at("link"), false);
    check(&at("link/new"), &at("store"), false);
    check(&at("store"), &at("link/new/backups"), false);
    check(&at("store"), &at("link/deep/../backups"), false);
    check(&at("store"), &at("link/../backups"), true);
    check(&at("store"), "/", false);
}
