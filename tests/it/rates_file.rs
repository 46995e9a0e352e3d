//! Rates from a file: whole or not at all, beside those of the API, on every reload.

use jiff::ToSpan;
use serde_json::json;

use crate::harness::{FileKind, Server, Setup, Step, eventually, run};
use crate::rates::{convert, money, put, today, with_shares};

/// A TOML file that says what a US dollar was worth in yen on some days.
fn yen(days: &[(&str, &str)]) -> String {
    let day = |(day, rate): &(&str, &str)| {
        format!("[[days]]\ndate = {day}\nrates = {{ EUR = \"0.80\", JPY = \"{rate}\" }}\n")
    };
    format!("base = \"USD\"\n{}", days.iter().map(day).collect::<String>())
}

fn day(offset: i64) -> String {
    let now = jiff::Timestamp::now().to_zoned(jiff::tz::TimeZone::UTC).date();
    now.checked_add(offset.days()).expect("a date").to_string()
}

fn reload(server: &Server, result: &str) {
    let series = format!("postbackd_rates_loads_total{{result=\"{result}\"}}");
    let before = server.metric(&series);
    server.signal("HUP");
    eventually("the reload", || (server.metric(&series) == before + 1.0).then_some(()));
    let is_refused = server.metric("postbackd_file_refused{file=\"rates\"}");
    assert_eq!(is_refused, f64::from(u8::from(result == "refused")));
}

#[test]
fn a_file_is_in_force_from_the_start_on_and_bad_ones_leave_what_was() {
    let mut server = with_shares(Setup::new().key("rates", "rates.toml").start());
    // The file is not there: that keeps nobody from starting.
    server.says("cannot read the rates");
    assert_eq!(server.metric("postbackd_file_refused{file=\"rates\"}"), 1.0);
    let waiting = convert(&server, "event=sale&amount=1600&currency=JPY");
    assert_eq!(money(&server, &waiting)[5], json!(["rate_missing"]));
    server.write("rates.toml", &yen(&[(&today(), "160"), ("2020-01-01", "100")]));
    reload(&server, "applied");
    eventually("the price", || (money(&server, &waiting)[0] == "1.00").then_some(()));

    server.write("rates.toml", &yen(&[(&today(), "320"), ("2020-01-01", "-1")]));
    reload(&server, "refused");
    server.says("days[1].rates.JPY");
    let priced = convert(&server, "event=sale&amount=1600&currency=JPY");
    assert_eq!(money(&server, &priced)[0], "1.00", "all or nothing of a file counts");

    server.write("rates.toml", &yen(&[(&today(), "320")]));
    server.kill();
    server.start_again();
    let later = convert(&server, "event=sale&amount=1600&currency=JPY");
    assert_eq!(money(&server, &later)[0], "0.50");
    for pinned in [waiting, priced] {
        assert_eq!(money(&server, &pinned)[0], "1.00", "what was exchanged keeps its rate");
    }
    assert_eq!(server.api("rates/2020-01-01")["rates"]["JPY"], "100", "kept, though not named");
}

#[test]
fn what_waits_for_rates_is_priced_though_the_server_is_killed_as_they_come_and_is_off_for_long() {
    let setup = Setup::new().key("rates", "rates.toml").on_faulty_disk();
    let mut server = with_shares(setup.start());
    let waiting = convert(&server, "event=sale&amount=1600&currency=JPY");
    assert_eq!(money(&server, &waiting)[5], json!(["rate_missing"]));
    eventually("the sums", || {
        (server.metric("postbackd_store_uncounted_seconds") == 0.0).then_some(())
    });
    server.await_own_commits();
    server.write("rates.toml", &yen(&[(&today(), "160")]));
    // The rates are on disk, and nobody has heard of it.
    server.disk().kill_at(Step::Synced, FileKind::Log, 1);
    server.signal("HUP");
    server.wait();
    server.disk().repair();
    server.disk().shift_clock(30 * 24 * 60 * 60 * 1000);
    server.start_again();
    eventually("the price", || (money(&server, &waiting)[0] == "1.00").then_some(()));
    assert_eq!(money(&server, &waiting)[5], json!([]));
}

#[test]
fn a_day_that_the_file_names_is_the_files_and_the_others_are_the_apis() {
    let server = Setup::new().key("rates", "rates.toml").start();
    let body = r#"{"base":"USD","rates":{"JPY":"140","GBP":"0.7"}}"#;
    assert_eq!(put(&server, "2026-01-02", body).status, 200);
    assert_eq!(put(&server, "2026-01-03", body).status, 200);
    server.write("rates.toml", &yen(&[("2026-01-01", "100"), ("2026-01-02", "160")]));
    reload(&server, "applied");
    let refused = put(&server, "2026-01-02", body);
    assert_eq!(
        (refused.status, &refused.json()["error"]["code"]),
        (409, &"rates_are_a_file".into())
    );
    let named = json!({"base": "USD", "rates": {"EUR": "0.8", "JPY": "160"}});
    assert_eq!(server.api("rates/2026-01-02"), named);
    assert_eq!(server.api("rates/2026-01-03")["rates"]["GBP"], "0.7");
    assert_eq!(put(&server, "2026-01-04", body).status, 200);
    // A day that leaves the file is the API's again.
    server.write("rates.toml", &yen(&[("2026-01-01", "100")]));
    reload(&server, "applied");
    assert_eq!(put(&server, "2026-01-02", body).status, 200);
    assert_eq!(server.api("rates/2026-01-02")["rates"]["JPY"], "140");
}

#[test]
fn a_banks_table_prices_the_days_that_it_leaves_out() {
    let setup = Setup::new().key("rates", "eurofxref.csv").key("rates_base", "EUR");
    let server = with_shares(setup.start());
    let waiting = convert(&server, "event=sale&amount=1600&currency=JPY");
    let table = format!("Date,USD,JPY,CYP,\n{},1.25,250,N/A,\n{},1.20,200,N/A,\n", day(1), day(-2));
    server.write("eurofxref.csv", &table);
    reload(&server, "applied");
    eventually("the price", || (money(&server, &waiting)[0] == "0.96").then_some(()));
    let rate = json!({"from": "200", "to": "1.2"});
    assert_eq!(money(&server, &waiting)[3], rate, "of the day before yesterday");
}

#[test]
fn a_table_of_one_day_prices_the_days_since_the_one_before() {
    let setup = Setup::new().key("rates", "daily.csv").key("rates_base", "EUR");
    let mut server = with_shares(setup.start());
    let waiting = convert(&server, "event=sale&amount=1600&currency=JPY");
    let written_out = |offset: i64| {
        let day: jiff::civil::Date = day(offset).parse().expect("a date");
        day.strftime("%-d %B %Y").to_string()
    };
    let table = |offset: i64, usd: &str, jpy: &str| {
        format!("Date, USD, JPY, \n{}, {usd}, {jpy}, \n", written_out(offset))
    };
    server.write("daily.csv", &table(-2, "1.20", "200"));
    reload(&server, "applied");
    assert_eq!(money(&server, &waiting)[5], json!(["rate_missing"]));
    server.write("daily.csv", &table(1, "1.25", "250"));
    reload(&server, "applied");
    eventually("the price", || (money(&server, &waiting)[0] == "0.96").then_some(()));
    let rate = json!({"from": "200", "to": "1.2"});
    assert_eq!(money(&server, &waiting)[3], rate, "of the day before yesterday");
    assert_eq!(server.api(&format!("rates/{}", day(1)))["rates"]["USD"], "1.25");
    assert!(server.stop().success());
    server.start_again();
    let rates = r#"{"base":"EUR","rates":{"USD":"1.20"}}"#;
    assert_eq!(put(&server, &day(-1), rates).status, 200, "the file does not name it");
    assert_eq!(put(&server, &day(1), rates).status, 409);
}

#[test]
fn check_config_names_every_mistake_of_the_rates() {
    let folder = tempfile::tempdir().expect("a folder");
    let write = |name: &str, text: &str| {
        std::fs::write(folder.path().join(name), text).expect("writable");
    };
    let check = |config: &str, code: i32, says: &str| {
        write("postbackd.toml", config);
        let ended = run(folder.path(), &["check-config", "--config", "postbackd.toml"]);
        let text = ended.said();
        assert_eq!(ended.code, Some(code), "{text}");
        assert!(text.contains(says), "{says:?} is not in {text}");
    };
    let toml = "rates = \"rates.toml\"\n";
    check(toml, 1, "cannot read the rates");
    write("rates.toml", &yen(&[("2026-01-01", "100"), ("2026-01-02", "160")]));
    check(toml, 0, "rates: fine, 2 days, 2026-01-01 to 2026-01-02");
    write("rates.toml", &yen(&[("2026-01-01", "0")]));
    check(toml, 2, "rates.toml:4: days[0].rates.JPY: \"0\" is not above zero");
    let table = "rates = \"rates.csv\"\n";
    check(table, 2, "postbackd.toml:1: rates: does not say of which currency its rates are");
    write("rates.csv", "Date,USD\n2026-01-02,1.1,2\n");
    check(
        &format!("{table}rates_base = \"EUR\"\n"),
        2,
        "rates.csv:2: has 2 values for 1 currencies",
    );
    check("rates_base = \"EUR\"\n", 0, "postbackd.toml:1: rates_base: has no effect");
    let unsound = format!("{toml}[server]\nnode = -1\n");
    check(&unsound, 2, "postbackd.toml:3: server.node");
    check(&unsound, 2, "days[0].rates.JPY");
    check(&format!("catalog = \"none.toml\"\n{unsound}"), 2, "none.toml");
    let network = format!("catalog = \"none.toml\"\n{toml}[network]\ncurrency = \"EURO\"\n");
    check(&network, 2, "catalog: not checked before [network] is correct");
    check(&format!("{toml}catalog = \"none.toml\"\n"), 1, "days[0].rates.JPY");
}
