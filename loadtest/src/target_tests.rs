use std::num::NonZeroU64;

use super::*;
use crate::admin::Admin;
use crate::books::Verdict;
use crate::catalog::Catalog;
use crate::fake::{self, Fault};
use crate::floor;
use crate::tls::TlsFiles;

const RUN: &str = "run1";

fn load(fault: Fault, scenario: ScenarioName, pace: Pace) -> (Tally, Verdict) {
    let catalog = Catalog::of(6, 4);
    let address = fake::start(fault, catalog.clone()).expect("a free port");
    let admin = Admin::new(address, "token");
    let before = admin.money(&catalog).expect("the books before");
    let mut target = Target::new(TargetOptions {
        address,
        tls: None,
        requests: Requests::new("tracker.test", Arc::new(catalog)),
        judge: Judge::Strict,
        connections: 8,
        threads: 2,
        clicks_pool: 500,
        originals: 200,
        keep_books: true,
        shares: FunnelShares { converts: 50, retried: 30, doubled: 20 },
        seed: 1,
        changes: Some(ChangeOptions {
            rate: NonZeroU64::new(200).expect("a rate"),
            after: Duration::from_millis(100),
        }),
    });
    let effort = Effort { pace, warmup: Duration::ZERO, measured: Duration::from_millis(300) };
    let (tally, books) = target.run(scenario, effort, RUN).expect("a run");
    admin.wait_ready(Duration::from_secs(5)).expect("ready");
    let verdict = admin.audit(RUN, &books, Some(&before)).expect("an audit");
    (tally, verdict)
}

fn check(scenario: ScenarioName, pace: Pace) {
    let (tally, verdict) = load(Fault::None, scenario, pace);
    assert!(tally.expected > 0, "{scenario:?}: {tally:?}");
    assert_eq!((tally.unexpected, tally.lost), (0, 0), "{scenario:?}: {:?}", tally.statuses());
    assert_eq!(verdict.mismatches, 0, "{scenario:?}: {verdict:?}");
    assert_eq!(verdict.stored, verdict.acknowledged);
    let changes = tally.changes.map_or(0, |changes| changes.expected);
    assert_eq!(verdict.reversed, changes, "{scenario:?}");
    let has_changes = matches!(scenario, ScenarioName::Postback | ScenarioName::Funnel);
    assert_eq!(changes > 0, has_changes, "{scenario:?}");
}

#[test]
fn every_scenario_finds_an_honest_tracker_honest() {
    use ScenarioName::{Click, Duplicate, Forged, Funnel, Postback};
    for scenario in [Click, Postback, Duplicate, Forged, Funnel] {
        check(scenario, Pace::Closed);
    }
}

#[test]
fn an_open_loop_sends_as_many_as_asked() {
    let rate = NonZeroU64::new(1000).expect("a rate");
    let (tally, _) = load(Fault::None, ScenarioName::Click, Pace::Open { rate });
    assert_eq!((tally.expected + tally.dropped, tally.unexpected), (300, 0));
}

#[test]
fn changes_go_on_where_sales_come_more_slowly() {
    let rate = NonZeroU64::new(50).expect("a rate");
    let (tally, verdict) = load(Fault::None, ScenarioName::Postback, Pace::Open { rate });
    let changes = tally.changes.expect("there were some");
    assert_eq!((changes.failures(), verdict.mismatches), (0, 0), "{changes:?} {verdict:?}");
    assert_eq!(verdict.reversed, changes.expected);
    assert!(changes.unused > 0, "{changes:?}");
    // 200 a second in the last 200 of 300 ms.
    let arrivals = changes.expected + changes.unused;
    assert!((30..=40).contains(&arrivals), "{changes:?}");
}

#[test]
fn a_conversion_that_was_forgotten_is_found_out() {
    let (_, verdict) = load(Fault::Forgets, ScenarioName::Postback, Pace::Closed);
    assert!(verdict.first_mismatches[0].ends_with("acknowledged but not stored"), "{verdict:?}");
}

#[test]
fn a_repeat_that_was_counted_again_is_found_out() {
    let (_, verdict) = load(Fault::CountsAgain, ScenarioName::Duplicate, Pace::Closed);
    let twice = |line: &String| line.contains("stored twice");
    assert!(verdict.first_mismatches.iter().any(twice), "{verdict:?}");
}

#[test]
fn a_payout_that_is_not_the_catalogs_is_found_out_in_conversions_ledger_and_totals() {
    let (_, verdict) = load(Fault::PaysMore, ScenarioName::Postback, Pace::Closed);
    assert!(verdict.first_mismatches[0].contains("earns payout"), "{verdict:?}");
}

#[test]
fn a_sale_that_was_not_posted_is_found_out() {
    let (_, verdict) = load(Fault::ForgetsPosting, ScenarioName::Funnel, Pace::Closed);
    assert!(verdict.mismatches > 0, "{verdict:?}");
    let posted = |line: &String| line.starts_with("affiliate pub-7") && line.contains("; posted");
    assert!(verdict.first_mismatches.iter().all(posted), "{verdict:?}");
}

#[test]
fn a_change_that_was_forgotten_is_found_out() {
    let (tally, verdict) = load(Fault::ForgetsChanges, ScenarioName::Postback, Pace::Closed);
    let changes = tally.changes.expect("there were some").expected;
    assert!(changes > 0 && verdict.mismatches > changes, "{verdict:?}");
    assert!(verdict.first_mismatches[0].contains("stored as approved"), "{verdict:?}");
}

#[test]
fn connections_that_die_leave_the_books_right() {
    let (tally, verdict) = load(Fault::HangsUp, ScenarioName::Funnel, Pace::Closed);
    assert!(tally.lost > 0 && tally.reconnects >= tally.lost, "{tally:?}");
    assert_eq!(verdict.mismatches, 0, "{verdict:?}");
}

#[test]
fn an_address_is_read_from_an_http_url_only() {
    for (scheme, expected) in [("http", false), ("https", true)] {
        let (is_tls, host, address) =
            parse_url(&format!("{scheme}://127.0.0.1:8080/")).expect("a URL");
        let read = (is_tls, host.as_str(), address.port());
        assert_eq!(read, (expected, "127.0.0.1:8080", 8080));
    }
    assert!(parse_url("ftp://127.0.0.1:8080").is_err());
    assert!(parse_url("http://127.0.0.1").is_err());
}

#[test]
fn tls_carries_what_clear_text_does() {
    let folder = tempfile::tempdir().expect("a folder");
    let files = TlsFiles::make(folder.path()).expect("a certificate");
    let trusted = TlsClient::new(&files.certificate, "127.0.0.1:1").expect("trusted");
    let address = std::net::TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr());
    let address = address.expect("a free port");
    // It ends with the process.
    std::thread::spawn(move || floor::serve(address, 1, Some(&files), None));
    while std::net::TcpStream::connect(address).is_err() {
        std::thread::yield_now();
    }
    let mut target = Target::new(TargetOptions {
        address,
        tls: Some(trusted),
        requests: Requests::new("tracker.test", Arc::new(Catalog::of(1, 1))),
        judge: Judge::Lenient,
        connections: 8,
        threads: 2,
        clicks_pool: 50,
        originals: 50,
        keep_books: false,
        shares: FunnelShares { converts: 0, retried: 0, doubled: 0 },
        seed: 1,
        changes: None,
    });
    let measured = Duration::from_millis(300);
    let effort = Effort { pace: Pace::Closed, warmup: Duration::ZERO, measured };
    for scenario in [ScenarioName::Click, ScenarioName::Postback] {
        let (tally, _) = target.run(scenario, effort, RUN).expect("a run");
        assert!(tally.expected > 100, "{scenario:?}: {tally:?}");
        assert_eq!((tally.unexpected, tally.lost, tally.reconnects), (0, 0, 0), "{tally:?}");
    }
}
