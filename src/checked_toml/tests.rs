use std::time::Duration;

use super::*;

#[test]
fn the_nearest_name_is_suggested_and_a_far_one_is_not() {
    let check = |written: &str, expected: Option<&str>| {
        let known = ["listen", "workers", "node", "trusted_proxies"];
        assert_eq!(closest(written, known), expected, "{written}");
    };
    check("lisen", Some("listen"));
    check("lsiten", Some("listen"));
    check("Trusted-Proxies", Some("trusted_proxies"));
    check("nodes", Some("node"));
    check("port", None);
    check("", None);
}

#[test]
fn durations_and_sizes_need_a_unit() {
    let check = |text: &str, expected: Option<u64>| {
        assert_eq!(units::duration(text).ok(), expected.map(Duration::from_millis), "{text:?}");
    };
    check("50ms", Some(50));
    check("5s", Some(5_000));
    check("10m", Some(600_000));
    check("48h", Some(172_800_000));
    check("30d", Some(2_592_000_000));
    for text in ["", "5", "s", "-5s", "5 s", "1.5h", "5S", "1h30m", "99999999999999999d"] {
        check(text, None);
    }
    let check = |text: &str, expected: Option<u64>| {
        assert_eq!(units::size(text).ok(), expected, "{text:?}");
    };
    check("0B", Some(0));
    check("256MiB", Some(256 << 20));
    check("1GiB", Some(1 << 30));
    check("256MB", None);
    check("99999999999TiB", None);
}

#[test]
fn every_syntax_mistake_is_reported_with_its_line() {
    let report = Source::parse("a = 1\na = 2\n\n[b\nc = \"x\n", "f.toml").expect_err("broken");
    insta::assert_snapshot!(report, @r#"
    f.toml:2: duplicate key
    f.toml:4: unclosed table, expected `]`
    f.toml:5: invalid basic string, expected `"`
    "#);
}

#[test]
fn a_flood_of_mistakes_is_counted_but_not_kept() {
    let text: String = (0..1_500).map(|n| format!("k{n} = 1\n")).collect();
    let source = Source::parse(&text, "f.toml").expect("syntax is fine");
    let _ = source.root(&[]);
    let report = source.into_report();
    assert_eq!(report.mistakes().len(), 1000);
    assert!(report.to_string().ends_with("f.toml: and 500 more\n"));
}
