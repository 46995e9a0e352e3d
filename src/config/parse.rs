//! From text to configuration: keys, defaults, checks.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use super::reader::{Reader, Section};
use super::report::Report;
use super::types::{
    AdminConfig, ClickConfig, Config, KeptIp, LogConfig, LogFormat, NetworkConfig, RetentionConfig,
    Secret, ServerConfig, StoreConfig,
};
use crate::click_id::NODE_MAX;
use crate::model::money::Currency;
use crate::model::units::{parse_bytes, parse_duration};
use crate::model::url::is_http_url;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
const MIB: u64 = 1 << 20;

/// The policies that a browser knows.
const REFERRER_POLICIES: [(&str, &str); 8] = [
    ("no-referrer", "no-referrer"),
    ("no-referrer-when-downgrade", "no-referrer-when-downgrade"),
    ("origin", "origin"),
    ("origin-when-cross-origin", "origin-when-cross-origin"),
    ("same-origin", "same-origin"),
    ("strict-origin", "strict-origin"),
    ("strict-origin-when-cross-origin", "strict-origin-when-cross-origin"),
    ("unsafe-url", "unsafe-url"),
];

/// Reads a configuration. `env` is the process's environment; variables without our prefix are
/// ignored.
///
/// # Errors
/// The report of all mistakes, if there is one that refuses the file.
pub fn load(
    file: &str,
    text: &str,
    env: impl Iterator<Item = (String, String)>,
) -> Result<Config, Report> {
    let reader = Reader::new(file, text, env);
    let mut known = Vec::new();
    let config = read(&reader, &mut known);
    let report = reader.finish(&known);
    if report.has_errors() { Err(report) } else { Ok(config) }
}

/// Every dotted key there is.
#[must_use]
pub fn all_keys() -> Vec<String> {
    let mut known = Vec::new();
    read(&Reader::new("", "", std::iter::empty()), &mut known);
    let sections: Vec<_> =
        known.iter().filter_map(|key| Some(key.split_once('.')?.0.to_owned())).collect();
    known.retain(|key| !sections.contains(key));
    known
}

fn read(reader: &Reader<'_>, known: &mut Vec<String>) -> Config {
    let root = reader.root();
    let config = Config {
        catalog: root.text("catalog").map(PathBuf::from),
        server: server(root.section("server"), known),
        admin: admin(root.section("admin"), known),
        store: store(root.section("store"), known),
        dedupe_cache_entries: dedupe(root.section("dedupe"), known),
        network: network(root.section("network"), known),
        click: click(root.section("click"), known),
        retention: retention(root.section("retention"), known),
        log: log(root.section("log"), known),
    };
    root.finish(known);
    config
}

fn local(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}

fn duration(section: &Section<'_>, key: &str, default: Duration) -> Duration {
    section
        .parse(key, "a duration such as \"30d\", \"48h\" or \"50ms\"", parse_duration)
        .unwrap_or(default)
}

fn bytes(section: &Section<'_>, key: &str, default: u64) -> u64 {
    section.parse(key, "a size such as \"256MiB\"", parse_bytes).unwrap_or(default)
}

fn address(section: &Section<'_>, default: SocketAddr) -> SocketAddr {
    section
        .parse("listen", "an address such as \"127.0.0.1:8080\"", |text| text.parse().ok())
        .unwrap_or(default)
}

fn server(section: Section<'_>, known: &mut Vec<String>) -> ServerConfig {
    let config = ServerConfig {
        listen: address(&section, local(8080)),
        workers: section.number("workers", 0, 1024).unwrap_or(0),
        node: section.number("node", 0, NODE_MAX).unwrap_or(0),
        trusted_proxies: section.list(
            "trusted_proxies",
            "a network such as \"10.0.0.0/8\"",
            |text| text.parse().ok(),
        ),
        drain_deadline: duration(&section, "drain_deadline", Duration::from_secs(10)),
        connections_max: section.number("connections_max", 1, 1_000_000).unwrap_or(10_000),
        connections_per_ip_max: section
            .number("connections_per_ip_max", 1, 1_000_000)
            .unwrap_or(1000),
        header_read_timeout: duration(&section, "header_read_timeout", Duration::from_secs(30)),
    };
    section.finish(known);
    config
}

fn admin(section: Section<'_>, known: &mut Vec<String>) -> AdminConfig {
    let long_enough = |text: &str| (text.len() >= 16).then(|| Secret::new(text.to_owned()));
    let token = section.text("token").and_then(|token| {
        let secret = long_enough(&token);
        if secret.is_none() {
            section.mistake("token", "expected at least 16 characters");
        }
        secret
    });
    let config = AdminConfig { listen: address(&section, local(9090)), token };
    section.finish(known);
    config
}

fn store(section: Section<'_>, known: &mut Vec<String>) -> StoreConfig {
    let config = StoreConfig {
        path: section.text("path").map_or_else(|| PathBuf::from("data"), PathBuf::from),
        reader_threads: section.number("reader_threads", 1, 64).unwrap_or(2),
        block_cache: bytes(&section, "block_cache", 256 * MIB),
        free_space_reserve: bytes(&section, "free_space_reserve", 1024 * MIB),
    };
    section.finish(known);
    config
}

fn dedupe(section: Section<'_>, known: &mut Vec<String>) -> usize {
    let entries = section.number("cache_entries", 1000, 1_000_000_000).unwrap_or(2_000_000);
    section.finish(known);
    entries
}

fn network(section: Section<'_>, known: &mut Vec<String>) -> NetworkConfig {
    let zone = |text: &str| jiff::tz::TimeZone::get(text).ok().map(|_| text.to_owned());
    let http = |text: &str| is_http_url(text).then(|| text.to_owned());
    let config = NetworkConfig {
        time_zone: section
            .parse("time_zone", "a time zone such as \"Europe/Berlin\"", zone)
            .unwrap_or_else(|| "UTC".to_owned()),
        currency: section
            .parse("currency", "an ISO 4217 code such as \"USD\"", |text| text.parse().ok())
            .unwrap_or(Currency::USD),
        fallback_url: section.parse("fallback_url", "an absolute http or https URL", http),
    };
    section.finish(known);
    config
}

fn click(section: Section<'_>, known: &mut Vec<String>) -> ClickConfig {
    const KEY: &str = "64 hexadecimal digits";
    let secret = |section: &Section<'_>, key: &str| {
        let text = section.text(key)?;
        let parsed = parse_key(&text);
        if parsed.is_none() {
            section.mistake(key, format!("expected {KEY}"));
        }
        parsed
    };
    let retired = section.list("verification_keys", KEY, |text| Some(text.to_owned()));
    let verification_keys: Vec<_> = retired.iter().filter_map(|text| parse_key(text)).collect();
    if verification_keys.len() < retired.len() {
        section.mistake("verification_keys", format!("expected {KEY} each"));
    }
    let modes = [
        ("full", KeptIp::Full),
        ("truncated", KeptIp::Truncated),
        ("hashed", KeptIp::Hashed),
        ("none", KeptIp::None),
    ];
    let config = ClickConfig {
        ack_deadline: duration(&section, "ack_deadline", Duration::from_millis(50)),
        ip: section.word("ip", &modes).unwrap_or(KeptIp::Truncated),
        referrer_policy: section
            .word("referrer_policy", &REFERRER_POLICIES)
            .unwrap_or("no-referrer-when-downgrade"),
        signing_key: secret(&section, "signing_key"),
        verification_keys,
    };
    section.finish(known);
    config
}

fn parse_key(hex: &str) -> Option<Secret<[u8; 32]>> {
    blake3::Hash::from_hex(hex).ok().map(|key| Secret::new(*key.as_bytes()))
}

fn retention(section: Section<'_>, known: &mut Vec<String>) -> RetentionConfig {
    let days = |key, default: u32| {
        let kept = duration(&section, key, DAY * default);
        if kept < DAY {
            section.mistake(key, "expected at least \"1d\"");
        }
        kept
    };
    let config = RetentionConfig {
        clicks: days("clicks", 90),
        inbound: days("inbound", 30),
        conversions: days("conversions", 400),
    };
    section.finish(known);
    config
}

fn log(section: Section<'_>, known: &mut Vec<String>) -> LogConfig {
    let formats = [("auto", LogFormat::Auto), ("json", LogFormat::Json), ("text", LogFormat::Text)];
    let config = LogConfig {
        format: section.word("format", &formats).unwrap_or(LogFormat::Auto),
        level: section.text("level").unwrap_or_else(|| "info".to_owned()),
    };
    section.finish(known);
    config
}
