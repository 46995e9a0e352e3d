//! What an advertiser's senders have to show.

use super::*;
use crate::auth::{Auth, hash_text};
use crate::checked_toml::{Format, Severity};
use crate::model::reasons::AuthMode;

const NOW_MS: u64 = 1_790_000_000_000;

fn advertiser(auth: &str) -> String {
    format!("[[advertisers]]\nid = 'acme'\n{auth}\n")
}

fn auth(text: &str) -> Option<Auth> {
    let (_, warnings) = load(&advertiser(text)).expect("valid");
    assert!(warnings.is_empty(), "{warnings}");
    catalog(&advertiser(text)).advertiser("acme").expect("listed").auth.as_deref().cloned()
}

#[test]
fn the_design_holds_with_references_in_place_of_secrets() {
    assert_eq!(auth(""), None);
    let text = DESIGN.replace("\"t0ken\"", &format!("{:?}", hash_text("t0ken")));
    let (checked, warnings) = load(&text.replace("\"…\"", "\"env:NOT_SET\"")).expect("valid");
    assert_eq!(
        warnings.to_string().trim_end(),
        "warning: catalog.toml:5: advertisers[0] \"acme\".auth.hmac[0].secret: the environment variable NOT_SET is not set: after a start nothing will match it, in a running server the catalog in force stays"
    );
    assert!(warnings.lacks_something() && !warnings.has_errors());
    let catalog = checked.into_catalog(7, &ByText).expect("numbered");
    let auth = catalog.advertiser("acme").expect("listed").auth.as_deref().expect("checked");
    let tokens = auth.tokens.as_ref().expect("checked");
    assert_eq!(tokens.mode, AuthMode::Enforce);
    // In Berlin, an hour before UTC; the last day is whole.
    let (from, until) = (1_767_222_000_000, 1_798_844_400_000);
    assert_eq!(
        [from - 1, from, until - 1, until].map(|now| tokens.accept("t0ken", now)),
        [false, true, true, false]
    );
    let signatures = auth.signatures.as_ref().expect("checked");
    assert_eq!((signatures.ts_window_ms, signatures.needs_nonce), (300_000, false));
    assert!(auth.addresses.as_ref().expect("checked").allow([203, 0, 113, 7].into()));
    assert_eq!(auth.valid_since(from).collect::<Vec<_>>(), [from]);
    assert_eq!(auth.unreadable(), 1);
}

#[test]
fn an_enforced_check_whose_last_secret_ends_is_warned_of() {
    let end_ms = 1_798_844_400_000;
    let day_ms = 24 * 60 * 60 * 1000;
    let hash = hash_text("x");
    let check = |mode: &str, more: &str, now_ms, expected: &str| {
        let text = advertiser(&format!(
            "auth = {{ mode = '{mode}', tokens = [{{ secret = '{hash}', until = 2027-01-01 }}{more}] }}"
        ));
        let document = Document { format: Format::Toml, text };
        let time_zone = TimeZone::get("Europe/Berlin").expect("bundled");
        let defaults = NetworkDefaults { currency: Currency::USD, time_zone };
        let (_, warnings) = document.check("catalog.toml", &defaults, now_ms).expect("valid");
        let expected = match expected {
            "" => String::new(),
            some => format!("warning: catalog.toml:3: advertisers[0] \"acme\".auth: {some}"),
        };
        assert_eq!(warnings.to_string().trim_end(), expected, "{mode} {more} {now_ms}");
    };
    let none = "tokens has no secret that is valid now: every postback is refused";
    let soon = "tokens has no valid secret any more in 14 days: then every postback is refused";
    check("enforce", "", end_ms - 14 * day_ms - 1, "");
    check("enforce", "", end_ms - 14 * day_ms, soon);
    check("enforce", "", end_ms, none);
    check("enforce", "", end_ms + 400 * day_ms, none);
    check("shadow", "", end_ms, "");
    let hash = hash_text("y");
    let next = format!(", {{ secret = '{hash}', from = 2027-01-01 }}");
    check("enforce", &next, end_ms, "");
    let late = format!(", {{ secret = '{hash}', from = 2027-01-03 }}");
    let gap = "tokens has no secret that is valid now, nor before 2027-01-02T23:00:00Z: \
               until then every postback is refused";
    check("enforce", &late, end_ms, gap);
    check("enforce", &late, end_ms + day_ms, "");
}

#[test]
fn a_secret_that_cannot_be_read_is_none() {
    let text = advertiser(
        "[advertisers.auth]\ntokens = [{ secret = 'env:NOT_SET', from = 2020-01-01 }]\n\
         hmac = [{ secret = 'file:/nowhere/at/all' }]",
    );
    let time_zone = TimeZone::get("Europe/Berlin").expect("bundled");
    let defaults = NetworkDefaults { currency: Currency::USD, time_zone };
    let document = Document { format: Format::Toml, text };
    let (checked, warnings) = document.check("catalog.toml", &defaults, NOW_MS).expect("valid");
    for check in ["tokens", "hmac"] {
        let what = format!("auth: {check} has no secret that is valid now");
        assert!(warnings.to_string().contains(&what), "{what} is not in\n{warnings}");
    }
    let catalog = checked.into_catalog(7, &ByText).expect("numbered");
    let auth = catalog.advertiser("acme").expect("listed").auth.as_deref().expect("checked");
    assert_eq!(auth.gaps(NOW_MS).count(), 2);
    assert_eq!(auth.valid_since(NOW_MS).count(), 0, "it has no age");
}

#[test]
fn what_a_running_server_refuses_a_catalog_for_is_an_error_among_many_warnings() {
    let offer = |place| {
        format!(
            "[[offers]]\nid = 'o{place}'\nadvertiser = 'acme'\nurl = 'https://a.example/{{click_id}}'\n"
        )
    };
    let text = advertiser("auth = { tokens = [{ secret = 'env:NOT_SET' }] }");
    let text = (0..1200).map(offer).collect::<String>() + &text;
    let (_, report) = load(&text).expect("a start takes it");
    assert!(report.lacks_something() && !report.has_errors());
    let last = "the environment variable NOT_SET is not set: after a start nothing will match it, \
                in a running server the catalog in force stays";
    let report = report.refusing_what_lacks();
    assert!(report.has_errors());
    let mistakes = report.mistakes();
    let errors: Vec<_> = mistakes.iter().filter(|one| one.severity == Severity::Error).collect();
    assert_eq!(errors.len(), 1);
    assert_eq!(errors[0].complaint.to_string(), last);
    assert_eq!((report.mistakes().len(), report.left_out()), (1001, 200));
}

#[test]
fn secrets_of_a_check_are_in_places_of_their_own() {
    let check = |first: &str, second: &str, is_twice: bool| {
        let text = advertiser(&format!(
            "auth = {{ hmac = [{{ secret = '{first}', until = 2027-01-01 }}, {{ secret = '{second}' }}] }}"
        ));
        let (_, said) = load(&text).expect("a start takes it");
        let what = "auth.hmac[1].secret: is the same as an earlier one";
        assert_eq!(said.to_string().contains(what), is_twice, "{said}");
    };
    check("env:NOT_SET", "env:NOT_SET", true);
    check("file:/nowhere/key", "file:/nowhere//key", true);
    check("env:NOT_SET", "env:NOT_SET_2", false);
    let token = hash_text("x");
    let twice = advertiser(&format!(
        "auth = {{ tokens = [{{ secret = '{token}', until = 2026-01-01 }}, {{ secret = '{token}', from = 2026-01-01 }}] }}"
    ));
    let (checked, said) = load(&twice).expect("a start takes it");
    assert!(said.to_string().contains("auth.tokens[1].secret: is the same"), "{said}");
    assert!(said.refusing_what_lacks().has_errors(), "and a running server does not");
    let catalog = checked.into_catalog(7, &ByText).expect("numbered");
    let auth = catalog.advertiser("acme").expect("listed").auth.as_deref().expect("checked");
    let tokens = auth.tokens.as_ref().expect("checked");
    // It is valid at the times of both.
    assert!([0, NOW_MS].iter().all(|at| tokens.accept("x", *at)));
}

#[test]
fn each_check_has_its_mode() {
    let of = |text: &str| {
        let auth = auth(&format!("auth = {{ {text}, tokens = [{{ secret = '{}' }}], allow_ips = ['10.0.0.1', '::1/128'] }}", hash_text("x"))).expect("checked");
        (auth.tokens.expect("checked").mode, auth.addresses.expect("checked").mode)
    };
    let (shadow, enforce) = (AuthMode::Shadow, AuthMode::Enforce);
    assert_eq!(of("modes = {}"), (enforce, enforce));
    assert_eq!(of("mode = 'shadow'"), (shadow, shadow));
    assert_eq!(of("modes = { allow_ips = 'shadow' }"), (enforce, shadow));
    assert_eq!(of("mode = 'shadow', modes = { tokens = 'enforce' }"), (enforce, shadow));
}

#[test]
fn a_catalog_holds_no_secrets_and_no_report_repeats_one() {
    let report = refused(DESIGN);
    assert!(!report.contains("t0ken"), "{report}");
    insta::assert_snapshot!(report, @r#"
    catalog.toml:5: advertisers[0] "acme".auth.tokens[0] "2026-01-01".secret: a catalog holds no secrets: write "env:NAME", "file:/PATH" or, of a token, "blake3:HEX", which `postbackd token hash` prints
    catalog.toml:5: advertisers[0] "acme".auth.hmac[0].secret: a catalog holds no secrets: write "env:NAME", "file:/PATH" or, of a token, "blake3:HEX", which `postbackd token hash` prints
    "#);
}

#[test]
fn what_cannot_be_meant_is_refused() {
    let text = r#"
[[advertisers]]
id = "a"
auth = { mode = "shadow" }

[[advertisers]]
id = "b"
[advertisers.auth]
mode = "enforced"
modes = { hmac = "shadow", ip = "shadow" }
tokens = []
allow_ips = ["203.0.113.0/24", "acme.example"]
ts_window = "8d"
nonce = "yes"

[[advertisers]]
id = "c"
[advertisers.auth]
allow_ips = []
[[advertisers.auth.hmac]]
secret = "blake3:0000000000000000000000000000000000000000000000000000000000000000"
from = "2026-01-02"
until = "2026-01-01"
[[advertisers.auth.hmac]]
from = "soon"
key = "x"
"#;
    let report = refused(text);
    let expected = [
        r#"4: advertisers[0] "a".auth.mode: checks nothing: give it tokens, hmac or allow_ips"#,
        r#"9: advertisers[1] "b".auth.mode: "enforced" is not one of "shadow", "enforce""#,
        r#"10: advertisers[1] "b".auth.modes.hmac: there is no hmac"#,
        r#"10: advertisers[1] "b".auth.modes.ip: unknown key"#,
        r#"11: advertisers[1] "b".auth.tokens: has no secret: every postback would be refused"#,
        r#"12: advertisers[1] "b".auth.allow_ips: "acme.example" is not a network such as"#,
        r#"13: advertisers[1] "b".auth.ts_window: must be from "1s" to "7d""#,
        r#"13: advertisers[1] "b".auth.ts_window: belongs to hmac, which is not there"#,
        r#"14: advertisers[1] "b".auth.nonce: must be true or false, not of type string"#,
        r#"14: advertisers[1] "b".auth.nonce: belongs to hmac, which is not there"#,
        r#"19: advertisers[2] "c".auth.allow_ips: must have 1 to 256 networks"#,
        r#"21: advertisers[2] "c".auth.hmac[0] "2026-01-02".secret: a signature cannot be checked by a hash"#,
        r#"23: advertisers[2] "c".auth.hmac[0] "2026-01-02".until: is not after from"#,
        r#"24: advertisers[2] "c".auth.hmac[1] "soon".secret: is missing"#,
        r#"25: advertisers[2] "c".auth.hmac[1] "soon".from: "soon" is neither a date"#,
        r#"26: advertisers[2] "c".auth.hmac[1] "soon".key: unknown key"#,
    ];
    for line in expected {
        assert!(report.contains(&format!("catalog.toml:{line}")), "{line} is not in\n{report}");
    }
    assert_eq!(report.trim_end().lines().count(), expected.len(), "{report}");
}
