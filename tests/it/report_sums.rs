//! Reports: the sums are those of the conversions, exact to the last commit, whatever was changed,
//! counted, killed or started again meanwhile.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use serde_json::{Value, json};

use crate::harness::{CATALOG, Connection, PATIENCE, Server, Setup, eventually, run};
use crate::verify::open;

const OFFERS: &str = r#"
[[offers]]
id = "deals"
advertiser = "mapped"
url = "https://deals.example/?subid={click_id}"

[[offers.events]]
id = "sale"
initial_status = "pending"
payout = { percent = "10" }
revenue = { percent = "20" }

[[offers.events]]
id = "refund"
reverses = ["sale"]
"#;

fn start() -> Server {
    Setup::new().catalog(format!("{CATALOG}{OFFERS}")).start()
}

/// Offer, affiliate, event, currency.
type Key = [String; 4];
/// Conversions, revenue and payout, each by status: pending, approved, rejected, reversed.
type Sums = [[i64; 4]; 3];

const STATUSES: [&str; 4] = ["pending", "approved", "rejected", "reversed"];

pub fn micros(text: &Value) -> i64 {
    let text = text.as_str().expect("an amount");
    let (units, decimals) = text.split_once('.').unwrap_or((text, ""));
    format!("{units}{decimals:0<6}").parse().expect("digits")
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or("-").to_owned()
}

/// What the conversions come to.
fn recount(server: &Server) -> BTreeMap<Key, Sums> {
    let mut all: BTreeMap<Key, Sums> = BTreeMap::new();
    for conversion in server.conversions("") {
        if conversion["event"] == "refund" {
            continue;
        }
        let key = ["offer", "affiliate", "event", "currency"].map(|name| text(&conversion[name]));
        let sums = all.entry(key).or_default();
        let is_status = |status: &&str| conversion["status"] == **status;
        let place = STATUSES.iter().position(is_status).expect("a status");
        sums[0][place] += 1;
        sums[1][place] += micros(&conversion["revenue"]);
        sums[2][place] += micros(&conversion["payout"]);
    }
    all
}

/// The same by the report.
fn reported(report: &Value) -> BTreeMap<Key, Sums> {
    let mut all = BTreeMap::new();
    for row in report["rows"].as_array().expect("rows") {
        let group = ["offer", "affiliate", "event"].map(|name| text(&row["group"][name]));
        let [offer, affiliate, event] = group;
        let key = [offer, affiliate, event, text(&row["currency"])];
        let of = |what: &str| STATUSES.map(|status| micros(&row[&format!("{status}_{what}")]));
        let numbers = STATUSES.map(|status| row[status].as_i64().expect("a number"));
        if numbers != [0; 4] {
            assert_eq!(all.insert(key, [numbers, of("revenue"), of("payout")]), None, "twice");
        }
    }
    all
}

fn check(server: &Server, when: &str) {
    let report = server.api("reports?group_by=offer,affiliate,event");
    assert_eq!(reported(&report), recount(server), "{when}");
    let mut sum = Sums::default();
    for (key, sums) in recount(server) {
        if key[3] == "USD" {
            for (total, part) in sum.iter_mut().flatten().zip(sums.iter().flatten()) {
                *total += part;
            }
        }
    }
    let total = &report["totals"].as_array().expect("totals")[..];
    let total = total.iter().find(|total| total["currency"] == "USD").expect("dollars");
    let revenue = micros(&total["pending_revenue"]) + micros(&total["approved_revenue"]);
    assert_eq!(micros(&total["revenue"]), revenue, "{when}");
    assert_eq!(sum[1][0] + sum[1][1], revenue, "{when}");
}

/// Counts everything that a stopped server has left.
fn count_all(server: &Server) {
    let store = open(&server.path("data"));
    store.catch_up(Instant::now() + PATIENCE).expect("counted");
    store.close();
}

fn clicks(server: &Server, query: &str) -> BTreeMap<String, i64> {
    let report = server.api(query);
    let rows = report["rows"].as_array().expect("rows").iter();
    let name = |row: &Value| {
        let group = row["group"].as_object().expect("a group").values();
        group.map(text).collect::<Vec<_>>().join(" ")
    };
    rows.map(|row| (name(row), row["clicks"].as_i64().expect("a number"))).collect()
}

#[test]
fn a_report_is_a_recount_of_the_conversions_whatever_happens() {
    let mut server = start();
    let spring = server.click("offer=spring&aff=pub-7&sub1=a");
    let other = server.click("offer=spring&aff=pub-8");
    let deals = server.click("offer=deals&aff=pub-8&sub1=b");
    let send = |server: &Server, click: &str, query: &str, result: &str| {
        let answer = server.postback(&format!("click_id={click}&{query}"));
        assert_eq!(answer.word("result"), result, "{query}: {answer:?}");
    };
    let check_sent = |server: &Server| check(server, "after what was sent");
    for txn in 0..5 {
        send(&server, &spring, &format!("event=sale&txn_id=S{txn}"), "accepted");
        send(&server, &deals, &format!("event=sale&txn_id=D{txn}&amount=100"), "accepted");
    }
    send(&server, &other, "event=registration&txn_id=R", "accepted");
    check_sent(&server);
    send(&server, &deals, "event=sale&txn_id=D0&status=approved", "updated");
    send(&server, &deals, "event=sale&txn_id=D1&status=rejected", "updated");
    check_sent(&server);
    server.kill();
    check_again(&mut server, "killed");
    send(&server, &deals, "event=sale&txn_id=D2&status=approved", "updated");
    send(&server, &deals, "event=refund&txn_id=D2&amount=30", "accepted");
    check(&server, "a refund of a part");
    server.stop();
    count_all(&server);
    check_again(&mut server, "counted");
    // Now everything is in the sums, and what changes comes on top.
    send(&server, &deals, "event=refund&txn_id=D0", "accepted");
    send(&server, &spring, "event=sale&txn_id=S0&status=reversed", "updated");
    send(&server, &deals, "event=sale&txn_id=D3&status=approved&amount=50", "updated");
    send(&server, &other, "event=sale&txn_id=S9", "accepted");
    check(&server, "changes of what is counted");
    server.kill();
    check_again(&mut server, "killed with changes");
    server.stop();
    count_all(&server);
    check_again(&mut server, "changes counted");
    let by_sub = clicks(&server, "reports?group_by=sub1");
    assert_eq!(by_sub, [("", 1), ("a", 1), ("b", 1)].map(|(sub, n)| (sub.to_owned(), n)).into());
    server.stop();
    let ended = run(&server.path("."), &["verify", "--store", "data"]);
    assert_eq!((ended.code, &*ended.err), (Some(0), ""), "{}", ended.out);
}

fn check_again(server: &mut Server, when: &str) {
    server.start_again();
    check(server, when);
}

#[test]
fn rows_are_told_apart_by_what_is_asked_and_narrowed_by_filters() {
    let server = start();
    for query in [
        "offer=spring&aff=pub-7&sub1=a",
        "offer=spring&aff=pub-7&sub1=a",
        "offer=spring&aff=pub-8&sub1==cmd",
        "offer=deals&aff=pub-7",
        "offer=paused&aff=pub-7",
    ] {
        server.get(&format!("/click?{query}"));
    }
    let click = server.click("offer=spring&aff=pub-7&sub1=b,c");
    for query in ["event=sale&txn_id=A", "event=sale&txn_id=B", "event=registration"] {
        server.postback(&format!("click_id={click}&{query}"));
    }
    let check = |query: &str, expected: &[(&str, i64)]| {
        let expected = expected.iter().map(|(name, clicks)| ((*name).to_owned(), *clicks));
        assert_eq!(clicks(&server, &format!("reports?{query}")), expected.collect(), "{query}");
    };
    check("group_by=offer", &[("spring", 4), ("deals", 1), ("paused", 0)]);
    check("group_by=affiliate", &[("pub-7", 4), ("pub-8", 1)]);
    check("group_by=advertiser", &[("acme", 4), ("mapped", 1)]);
    check("group_by=sub1", &[("", 1), ("a", 2), ("=cmd", 1), ("b,c", 1)]);
    check("group_by=offer&sub1=a", &[("spring", 2)]);
    check("group_by=offer&sub1=", &[("deals", 1), ("paused", 0)]);
    check("group_by=affiliate&offer=spring", &[("pub-7", 3), ("pub-8", 1)]);
    check("group_by=offer&affiliate=pub-8", &[("spring", 1)]);
    check("group_by=offer&advertiser=mapped", &[("deals", 1)]);
    check("group_by=", &[("", 5)]);
    check("group_by=offer&from=2020-01-01&to=2020-02-01", &[]);
    check("group_by=event&offer=spring", &[("sale", 4), ("registration", 4)]);
    check("group_by=event&event=sale&offer=spring", &[("sale", 4)]);

    let report = server.api("reports?group_by=offer,event&offer=spring&event=sale");
    let row = &report["rows"][0];
    assert_eq!(row["group"], json!({"offer": "spring", "event": "sale"}));
    let money = ["revenue", "payout", "margin", "cr", "epc", "rpc"].map(|name| text(&row[name]));
    assert_eq!(money, ["40.00", "30.00", "10.00", "0.5", "7.50", "10.00"]);
    assert_eq!(
        (&row["conversions"], &row["approved"], &row["fallbacks"]),
        (&json!(2), &json!(2), &json!(0))
    );
    let paused = server.api("reports?group_by=offer&offer=paused");
    assert_eq!(
        (&paused["rows"][0]["fallbacks"], &paused["rows"][0]["cr"]),
        (&json!(1), &Value::Null)
    );

    let csv = server.admin("/api/v1/reports?group_by=sub1&format=csv&offer=spring&event=sale");
    assert_eq!(csv.header("content-type"), Some("text/csv; charset=utf-8"));
    let mut lines = csv.text().lines();
    let header = lines.next().expect("a header");
    assert!(header.starts_with("sub1,currency,clicks,fallbacks,conversions,"), "{header}");
    let lines: Vec<_> = lines.collect();
    let starts = ["'=cmd,USD,1,0,0", "a,USD,2,0,0", "\"b,c\",USD,1,0,2"];
    assert_eq!(lines.len(), starts.len(), "{lines:?}");
    for (line, start) in lines.iter().zip(starts) {
        assert!(line.starts_with(start), "{line}");
    }
}

#[test]
fn hours_and_days_are_those_of_the_networks_time_zone() {
    let server = Setup::new().key("network.time_zone", "Asia/Kathmandu").start();
    server.click("offer=spring&aff=pub-7");
    let zone = jiff::tz::TimeZone::get("Asia/Kathmandu").expect("a zone");
    let now = jiff::Timestamp::now().to_zoned(zone);
    let report = server.api("reports?group_by=day,hour&from=2026-01-01T00:15:00Z&to=2026-12-31");
    // The hour or the day may have ended since.
    let row = &report["rows"][0];
    assert!(report["rows"].as_array().is_some_and(|rows| rows.len() <= 1));
    if let Some(hour) = row["group"]["hour"].as_str() {
        assert!(hour.ends_with(":00:00+05:45"), "{hour}");
        assert_eq!(text(&row["group"]["day"])[..7], now.strftime("%Y-%m").to_string());
    }
    let today = server.api("reports");
    assert_eq!(today["time_zone"], "Asia/Kathmandu");
    assert!(text(&today["from"]).ends_with("T00:00:00+05:45"), "{today}");
    assert_eq!(today["rows"][0]["clicks"], 1);
}

#[test]
fn refused_postbacks_and_lost_clicks_are_told_by_reason() {
    let mut server = start();
    let click = server.click("offer=spring&aff=pub-7");
    server.get("/click?offer=paused&aff=pub-7");
    server.postback("click_id=TEST_123&event=sale");
    server.postback("click_id=TEST_123&event=sale");
    server.postback(&format!("click_id={click}&event=nonsense"));
    server.postback(&format!("click_id={click}&event=sale&txn_id=A"));
    server.postback(&format!("click_id={click}&event=sale&txn_id=A&status=rejected"));
    let rows = |server: &Server, query: &str| {
        let report = server.api(&format!("reports/refusals?{query}"));
        let told = |row: &Value| {
            let group = row["group"].as_object().expect("a group").values().map(text);
            let group: Vec<_> = group.collect();
            format!(
                "{} {} {} {}",
                group.join(" "),
                text(&row["what"]),
                text(&row["reason"]),
                row["count"]
            )
        };
        report["rows"].as_array().expect("rows").iter().map(told).collect::<Vec<_>>()
    };
    let by_offer = [
        "- postback malformed_click_id 2",
        "paused click paused_offer 1",
        "spring postback illegal_transition 1",
        "spring postback unknown_event 1",
    ];
    let kept = eventually("the refusals", || {
        let rows = rows(&server, "group_by=offer");
        (rows.len() == by_offer.len()).then_some(rows)
    });
    assert_eq!(kept, by_offer);
    server.kill();
    server.start_again();
    assert_eq!(rows(&server, "group_by=offer"), by_offer, "a kill loses nothing that was kept");
    let click = server.click("offer=spring&aff=pub-7");
    server.postback(&format!("click_id={click}&event=nonsense"));
    server.stop();
    server.start_again();
    let kept = rows(&server, "group_by=&offer=spring");
    assert_eq!(kept, [" postback illegal_transition 1", " postback unknown_event 2"]);
    let report = |arguments: &[&str]| server.command(&[&["report"], arguments].concat());
    let told = report(&["--group-by", "offer", "--refusals"]);
    assert_eq!((told.code, &*told.err), (Some(0), ""));
    assert!(told.out.starts_with("offer,what,reason,count\n,postback,"), "{}", told.out);
    let told = report(&["--group-by", "offer", "--event", "sale", "--format", "json"]);
    assert!(told.out.contains("\"group\":{\"offer\":\"spring\"}"), "{}", told.out);
    let told = report(&["--group-by", "colour"]);
    assert_eq!(told.code, Some(1));
    assert!(told.err.contains("bad_group"), "{}", told.err);
    let csv = server.admin("/api/v1/reports/refusals?group_by=offer&format=csv");
    assert!(csv.text().starts_with("offer,what,reason,count\n,postback,malformed_click_id,2\n"));
}

#[test]
fn reports_stay_exact_while_the_server_is_killed_under_load() {
    let mut server = start();
    let public = server.public;
    for life in 0..3 {
        let click = server.click("offer=deals&aff=pub-7&sub1=a");
        let answered = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for client in 0..4 {
                let (click, answered) = (&click, &answered);
                scope.spawn(move || {
                    let mut connection = Connection::try_open(public).ok()?;
                    for txn in 0.. {
                        let id = format!("{life}-{client}-{}", txn / 2);
                        let status = ["", "&status=approved"][txn % 2];
                        let query =
                            format!("click_id={click}&event=sale&txn_id={id}&amount=10{status}");
                        connection.request("GET", &format!("/postback?{query}"), "").ok()?;
                        answered.fetch_add(1, Ordering::Relaxed);
                    }
                    Some(())
                });
            }
            eventually("the load", || (answered.load(Ordering::Relaxed) > 500).then_some(()));
            server.kill();
        });
        if life == 1 {
            count_all(&server);
        }
        server.start_again();
        check(&server, "after a kill under load");
    }
    server.stop();
    count_all(&server);
    let ended = run(&server.path("."), &["verify", "--store", "data"]);
    assert_eq!((ended.code, &*ended.err), (Some(0), ""), "{}", ended.out);
}

#[test]
fn days_of_a_report_are_days_whatever_the_clocks_do() {
    let server = Setup::new().key("network.time_zone", "Europe/Berlin").start();
    // From summer to winter time: 400 days, and an hour.
    let answer = server.admin("/api/v1/reports?from=2026-09-30&to=2027-11-04");
    assert_eq!(answer.status, 200, "{}", answer.text());
    let answer = server.admin("/api/v1/reports?from=2026-09-30&to=2027-11-05");
    assert_eq!(answer.json()["error"]["code"], "bad_range");
}

#[test]
fn questions_that_make_no_sense_are_refused() {
    let server = Server::start();
    let check = |call: &str, status: u16, code: &str| {
        let answer = server.admin(&format!("/api/v1/{call}"));
        let said = (answer.status, &answer.json()["error"]["code"]);
        assert_eq!(said, (status, &code.into()), "{call}");
    };
    check("reports?group_by=colour", 400, "bad_group");
    check("reports?group_by=day,day", 400, "bad_group");
    check("reports?colour=red", 400, "bad_parameter");
    check("reports?from=yesterday", 400, "bad_date");
    check("reports?from=2026-01-01T00:01:00Z", 400, "bad_date");
    check("reports?from=2026-01-02&to=2026-01-02", 400, "bad_range");
    check("reports?from=2020-01-01", 400, "bad_range");
    check("reports?format=xml", 400, "bad_format");
    check("reports?offer=nothing", 404, "not_found");
    check("reports?affiliate=nobody", 404, "not_found");
    check("reports/refusals?group_by=event", 400, "bad_group");
    check("reports/refusals?sub1=a", 400, "bad_parameter");
}
