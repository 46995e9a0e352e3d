//! Metrics: every one is described, and they say what happened.

use std::collections::BTreeSet;

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
