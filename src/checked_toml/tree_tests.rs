//! What is read out of TOML and JSON, beside references that read the same.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::{Format, Source, to_json, to_toml};

/// What our reading makes of a text, as JSON; `None` if it has mistakes.
fn ours(format: Format, text: &str) -> Option<Value> {
    let source = Source::parse_as(format, text, "f").ok()?;
    Some(serde_json::from_str(&to_json(source.tree())).expect("JSON"))
}

fn reference(text: &str) -> Option<Value> {
    let table = text.parse::<toml::Table>().ok()?;
    Some(serde_json::to_value(table).expect("no type that JSON lacks"))
}

#[test]
fn headers_and_dotted_keys_define_what_toml_says() {
    let check = |text: &str, expected: Option<Value>| {
        assert_eq!(ours(Format::Toml, text), expected, "{text}");
        assert_eq!(reference(text), expected, "the reference on {text}");
    };
    check("", Some(json!({})));
    check("a.b = 1\na.c = 2", Some(json!({"a": {"b": 1, "c": 2}})));
    check("[[a]]\nx = 1\n[[a]]\n[[a.b]]\ny = 2", Some(json!({"a": [{"x": 1}, {"b": [{"y": 2}]}]})));
    check("[a.b]\nx = 1\n[a]\ny = 2", Some(json!({"a": {"b": {"x": 1}, "y": 2}})));
    check("[a]\nb.c = 1\n[a.b.d]", Some(json!({"a": {"b": {"c": 1, "d": {}}}})));
    check("a = [\n [[1]],\n]\n[b]", Some(json!({"a": [[[1]]], "b": {}})));
    check("\"a b\" = '''x\n[[y]]\n'''", Some(json!({"a b": "x\n[[y]]\n"})));
    check("a = { b.c = 1, b.d = 2 }", Some(json!({"a": {"b": {"c": 1, "d": 2}}})));
    check(
        "a = 0xFF\nb = 1_000\nc = -1\nd = true",
        Some(json!({"a": 255, "b": 1000, "c": -1, "d": true})),
    );
    for wrong in [
        "a = 1\na = 2",
        "[a]\n[a]",
        "a.b = 1\n[a]",
        "a = {}\n[a.b]",
        "a = {}\na.b = 1",
        "a = []\n[[a]]",
        "[[a]]\n[a]",
        "[a]\n[[a]]",
        "[[a.b]]\n[a]\nb.c = 1",
        "[a.b]\n[a]\nb.c = 1",
        "a = 1\na.b = 2",
        "a = { b = 1, b = 2 }",
        "a = { b.c = 1, b = 2 }",
        "a = { b = {}, b.c = 1 }",
        "[a\nb = 1",
        "a = 9223372036854775808",
        "a = [1, 2\nb = 3",
        "= 1",
        "a =",
        "[]",
    ] {
        check(wrong, None);
    }
}

#[test]
fn many_keys_of_one_table_are_told_apart() {
    let mut text: String = (0..100).map(|n| format!("k{n} = {n}\n")).collect();
    assert_eq!(ours(Format::Toml, &text), reference(&text));
    text.push_str("k7 = 0\n");
    assert_eq!(ours(Format::Toml, &text), None);
}

#[test]
fn a_text_longer_than_what_is_parsed_at_once_is_read_whole() {
    let piece =
        "[[a]]\nx = [\n 1, # one\n 2,\n]\ny = \"\"\"\n[[a]]\n\"\"\"\n[[a.b]]\nz = { w = 1 }\n";
    let text = piece.repeat(2_000);
    let read = ours(Format::Toml, &text).expect("valid");
    assert_eq!(read["a"].as_array().map(Vec::len), Some(2_000));
    assert_eq!(Some(read), reference(&text));
}

#[test]
fn deep_texts_are_refused_and_exhaust_nothing() {
    for text in ["[".repeat(100_000), "{a=".repeat(100_000), "a.".repeat(100_000)] {
        assert_eq!(ours(Format::Toml, &format!("a = {text}")), None);
        assert_eq!(ours(Format::Toml, &format!("[{text}")), None);
    }
    for text in ["[".repeat(100_000), "{\"a\":".repeat(100_000)] {
        assert_eq!(ours(Format::Json, &text), None);
        assert_eq!(ours(Format::Json, &format!("{{\"a\": {text}")), None);
    }
    let closed = format!("{{\"a\": {}{}}}", "[".repeat(50), "]".repeat(50));
    assert_eq!(ours(Format::Json, &closed), None);
}

#[test]
fn json_is_read_as_it_is_meant() {
    let check = |text: &str, valid: bool| {
        let expected = valid.then(|| serde_json::from_str::<Value>(text).expect("JSON"));
        assert_eq!(ours(Format::Json, text), expected, "{text}");
    };
    check("{}", true);
    check(r#" {"a": [1, -2, true, null, "x\n\u00e9\ud83d\ude00"], "b": {"c": {}}} "#, true);
    check(r#"{"a": 1, "a": 2}"#, false);
    check(r#"{"a": "\ud83d"}"#, false);
    check(r#"{"a": 1} x"#, false);
    check(r#"{"a": 1,}"#, false);
    check("\"secret\"", false);
    check("", false);
}

#[test]
fn what_is_written_as_toml_reads_the_same() {
    let text = r#"{"n": 1, "t": "q\"\\\n\u0007é", "k y": {"a": "b", "": []}, "list": [
        {"id": "x", "events": [{"id": "e", "payout": {"fixed": "1"}}, {}], "plain": [1, "a"]},
        {"id": "y", "events": []}
    ]}"#;
    let source = Source::parse_as(Format::Json, text, "f").expect("valid");
    let written = to_toml(source.tree());
    assert_eq!(ours(Format::Toml, &written), ours(Format::Json, text), "{written}");
    assert_eq!(reference(&written), ours(Format::Json, text), "{written}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn any_order_of_definitions_is_judged_as_the_reference_judges_it(
        lines in prop::collection::vec(prop::sample::select(vec![
            "[a]", "[b]", "[a.b]", "[a.b.c]", "[[a]]", "[[b]]", "[[a.b]]", "[[a.b.c]]", "a = 1",
            "b = 1", "c.d = 1", "a.b = 1", "a.b.c = 1", "b = {}", "a = { b = 1 }", "a = [1]",
            "b = [{}, { c.d = 2, c.e = 3 }]", "c = 'x'", "",
        ]), 0..8),
    ) {
        let text = lines.join("\n");
        prop_assert_eq!(ours(Format::Toml, &text), reference(&text), "{}", text);
    }

    #[test]
    fn no_text_makes_the_readers_panic(text in "[\\[\\]{}a.=,\"'\\\\\n #0-9:-]{0,60}") {
        let _ = ours(Format::Toml, &text);
        let _ = ours(Format::Json, &text);
        prop_assert_eq!(ours(Format::Toml, &text).is_some(), text.parse::<toml::Table>().is_ok(), "{}", text);
    }
}
