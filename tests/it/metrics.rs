//! Metrics: every one is described, and they say what happened.

use std::collections::{BTreeMap, BTreeSet};

use postbackd::metrics::{DESCRIPTIONS, Kind};

use crate::harness::Server;

#[test]
fn every_exposed_metric_is_described_with_its_kind_labels_and_help() {
    // A file that is not there is a load, too.
    let server = crate::backup::setup().key("rates", "rates.toml").start();
    crate::backup::back_up(&server);
    let click = server.click("id=sp7");
    server.postback(&format!("click_id={click}&event=sale"));
    let answer = server.admin("/metrics");
    let with_tls = crate::harness::tls::Authority::new().setup("server").start();
    let with_tls = with_tls.admin("/metrics");
    assert_eq!(answer.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    let mut exposed = BTreeSet::new();
    let lines = || answer.text().lines().chain(with_tls.text().lines());
    for line in lines().filter(|line| !line.is_empty() && !line.starts_with("# HELP")) {
        if let Some(kind) = line.strip_prefix("# TYPE ") {
            let (name, kind) = kind.split_once(' ').expect("a name and a kind");
            let described = described(name);
            assert_eq!(kind, described.kind.as_str(), "{name}");
            exposed.insert(described.name);
            continue;
        }
        let (series, value) = line.rsplit_once(' ').expect("a series and a value");
        assert!(value.parse::<f64>().is_ok(), "{line}");
        let (name, labels) = series.split_once('{').unwrap_or((series, ""));
        let described = described(name);
        let own = labels.trim_end_matches('}').split(',').filter(|label| !label.is_empty());
        let own: Vec<_> = own
            .map(|label| label.split('=').next().expect("a name"))
            .filter(|label| *label != "le")
            .collect();
        assert_eq!(own.join(","), described.labels, "{line}");
    }
    for metric in DESCRIPTIONS {
        assert!(exposed.contains(metric.name), "{} is described, but not exposed", metric.name);
        let help = format!("# HELP {} {}", metric.name, metric.help);
        assert!(lines().any(|line| line == help), "{help}");
    }
}

fn page() -> String {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/metrics.md");
    std::fs::read_to_string(path).expect("the page")
}

/// The page's words for a label of a metric, unless it leads to another page's list.
fn listed(label: &str, metric: &str) -> Option<Vec<String>> {
    let page = page();
    let rows = page.lines().filter_map(|line| line.strip_prefix("| `")?.split_once(" | "));
    let quoted =
        |text: &str| -> Vec<_> { text.split('`').skip(1).step_by(2).map(str::to_owned).collect() };
    let mut rows = rows.filter_map(|(names, values)| {
        let of = quoted(names.strip_prefix(label)?.strip_prefix('`')?);
        let is_it = of.is_empty() || of.iter().any(|name| name == metric);
        (is_it && !values.starts_with('[') && !values.starts_with("the names")).then_some(values)
    });
    rows.next().map(quoted)
}

#[test]
fn the_values_of_labels_are_those_that_the_page_lists() {
    let server = crate::backup::setup().key("rates", "rates.toml").start();
    let with_tls = crate::harness::tls::Authority::new().setup("server").start();
    let mut exposed: BTreeMap<(String, String), BTreeSet<String>> = BTreeMap::new();
    for answer in [server.admin("/metrics"), with_tls.admin("/metrics")] {
        for line in answer.text().lines().filter(|line| !line.starts_with('#')) {
            let Some((name, labels)) = line.split_once('{') else { continue };
            let (labels, _) = labels.rsplit_once('}').expect("an end");
            for (label, value) in labels.split(',').filter_map(|label| label.split_once('=')) {
                let key = (name.to_owned(), label.to_owned());
                exposed.entry(key).or_default().insert(value.trim_matches('"').to_owned());
            }
        }
    }
    let mut count = 0;
    for ((metric, label), values) in &exposed {
        let Some(listed) = listed(label, metric) else { continue };
        count += 1;
        // One of the listeners speaks TLS here.
        let missing = |value: &&String| label != "listener" && !values.contains(*value);
        let missing: Vec<_> = listed.iter().filter(missing).collect();
        let unlisted: Vec<_> = values.iter().filter(|value| !listed.contains(value)).collect();
        assert!(missing.is_empty() && unlisted.is_empty(), "{metric} {label}: {values:?}");
    }
    assert!(count > 15, "{count} of {exposed:?}");
}

#[test]
fn the_buckets_of_times_are_those_that_the_page_lists() {
    let page = page();
    let row = page.lines().find_map(|line| line.strip_prefix("| `…_seconds` | ")).expect("a row");
    let mut listed = Vec::new();
    for group in row.trim_end_matches([' ', '|']).split(';') {
        let (numbers, unit) = group.trim().rsplit_once(' ').expect("a unit");
        let unit = match unit {
            "µs" => 1e-6,
            "ms" => 1e-3,
            _ => 1.0,
        };
        let number = |text: &str| text.trim().parse::<f64>().expect("a number") * unit;
        listed.extend(numbers.split(',').map(number));
    }
    let answer = Server::start().admin("/metrics");
    let bound = |line: &str| {
        let (_, rest) = line.split_once("postbackd_click_seconds_bucket{le=\"")?;
        rest.split_once('"')?.0.parse::<f64>().ok().filter(|bound| bound.is_finite())
    };
    let exposed: Vec<_> = answer.text().lines().filter_map(bound).collect();
    let is_near = |(one, other): (&f64, &f64)| (one - other).abs() < one * 1e-9;
    assert!(!exposed.is_empty() && exposed.len() == listed.len(), "{exposed:?} {listed:?}");
    assert!(exposed.iter().zip(&listed).all(is_near), "{exposed:?} {listed:?}");
}

/// The description of a metric, or of the histogram that a series is part of.
fn described(name: &str) -> &'static postbackd::metrics::Description {
    let found = DESCRIPTIONS.iter().find(|metric| {
        let parts = ["_bucket", "_sum", "_count"];
        let part = name.strip_prefix(metric.name).unwrap_or("no part");
        name == metric.name || (metric.kind == Kind::Histogram && parts.contains(&part))
    });
    found.unwrap_or_else(|| panic!("{name} is exposed, but not described"))
}

#[test]
fn the_counters_say_what_happened() {
    let server = Server::start();
    server.await_own_commits();
    let click = server.click("id=sp7");
    let commits = server.metric("postbackd_store_commits_total");
    server.get("/c/sp7");
    server.get("/c/nothing");
    server.request("HEAD", "/c/sp7", "");
    let query = format!("click_id={click}&event=sale&txn_id=1");
    server.postback(&format!("{query}&dry_run=1"));
    server.postback(&query);
    server.postback(&query);
    server.postback("event=sale");
    server.postback("click_id=x&event=sale");
    server.get("/nothing");
    for (series, expected) in [
        ("postbackd_clicks_total", 2.0),
        ("postbackd_click_fallbacks_total{reason=\"unknown_link\"}", 1.0),
        ("postbackd_click_fallbacks_total{reason=\"unknown_offer\"}", 0.0),
        ("postbackd_click_seconds_count", 3.0),
        ("postbackd_clicks_unrecorded_total", 0.0),
        ("postbackd_clicks_unconfirmed_total", 0.0),
        // The dry run is answered as what it would be.
        ("postbackd_postbacks_total{result=\"accepted\"}", 2.0),
        ("postbackd_postback_dry_runs_total", 1.0),
        ("postbackd_postbacks_total{result=\"duplicate\"}", 1.0),
        ("postbackd_postbacks_total{result=\"refused\"}", 2.0),
        ("postbackd_postbacks_total{result=\"unavailable\"}", 0.0),
        ("postbackd_postback_refusals_total{reason=\"missing_click_id\"}", 1.0),
        ("postbackd_postback_refusals_total{reason=\"malformed_click_id\"}", 1.0),
        ("postbackd_postback_seconds_count", 5.0),
        // Two clicks (one of them to a fallback) and one conversion.
        ("postbackd_store_commits_total", commits + 3.0),
        ("postbackd_connections_total", 10.0),
        ("postbackd_dedupe_pending", 0.0),
        ("postbackd_dedupe_cache_entries", 1.0),
        ("postbackd_catalog_entries{kind=\"affiliates\"}", 3.0),
        ("postbackd_ready", 1.0),
        ("postbackd_store_poisoned", 0.0),
        ("postbackd_store_disk_full", 0.0),
    ] {
        assert_eq!(server.metric(series), expected, "{series}");
    }
    assert!(server.metric("postbackd_resident_memory_bytes") > 1e6);
}

#[test]
fn an_idle_server_takes_little_memory() {
    let server = Server::start();
    server.await_own_commits();
    let resident = server.metric("postbackd_resident_memory_bytes");
    assert!(resident < f64::from(64 << 20), "{resident} bytes");
}

#[test]
fn a_start_and_the_reserve_can_be_seen() {
    let now_s = || std::time::UNIX_EPOCH.elapsed().expect("after 1970").as_secs_f64();
    let before = now_s();
    let mut server = Server::start();
    let started = |server: &Server| server.metric("process_start_time_seconds");
    let first = started(&server);
    // The server's clock is in milliseconds.
    assert!((before - 0.001..now_s()).contains(&first), "{before} {first}");
    assert_eq!(started(&server), first);
    assert_eq!(server.metric("postbackd_store_reserve_bytes"), f64::from(1 << 20));
    server.stop();
    server.start_again();
    assert!(started(&server) > first);
}
