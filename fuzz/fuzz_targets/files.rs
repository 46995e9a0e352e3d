//! Reads any text as each of the files that people write: catalog, configuration, rates, statuses.
//!
//! Run with `cargo fuzz run files`.

#![no_main]

use libfuzzer_sys::fuzz_target;
use postbackd::admin::status_lines::{csv_lines, json_lines};
use postbackd::catalog::{NetworkDefaults, parse};
use postbackd::checked_toml::{Format, Source, to_json, to_toml};
use postbackd::config::Config;
use postbackd::model::currency::Currency;
use postbackd::rates;

fuzz_target!(|text: &str| {
    let defaults = NetworkDefaults { currency: Currency::USD, time_zone: jiff::tz::TimeZone::UTC };
    let catalog = |text: &str| parse(text, "catalog", &defaults).map(|(_, warnings)| warnings);
    match catalog(text) {
        Ok(warnings) => {
            assert!(!warnings.has_errors());
            let written = check_translation(Format::Toml, text).expect("was read");
            assert!(catalog(&written).is_ok(), "{written}");
        }
        Err(report) => assert!(report.has_errors()),
    }
    check_translation(Format::Toml, text);
    check_translation(Format::Json, text);
    // No environment: one key of it is as any other of the file.
    let _ = Config::load(Some(text), "config", std::iter::empty());
    for base in [None, Some(Currency::USD)] {
        let _ = rates::parse(text, "rates", base);
    }
    for lines in [csv_lines(text), json_lines(text)].into_iter().flatten() {
        assert!(lines.len() <= text.lines().count());
    }
});

/// What can be read can be written in both languages and read again, and from the second writing
/// on, when keys have found their order, nothing changes any more. The TOML that is written.
fn check_translation(format: Format, text: &str) -> Option<String> {
    let source = Source::parse_as(format, text, "text").ok()?;
    let (toml, json) = (to_toml(source.tree()), to_json(source.tree()));
    let read = |format, text| Source::parse_as(format, text, "written").expect("was written");
    let of_json = to_toml(read(Format::Json, &json).tree());
    let again = to_json(read(Format::Toml, &of_json).tree());
    assert_eq!(to_toml(read(Format::Json, &again).tree()), of_json);
    assert_eq!(to_toml(read(Format::Toml, &toml).tree()), toml);
    Some(toml)
}
