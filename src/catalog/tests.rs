use std::fmt::Write as _;

use jiff::tz::TimeZone;

use super::*;
use crate::checked_toml::Report;
use crate::model::currency::Currency;
use crate::model::ids::{AffiliateNumber, OfferNumber};
use crate::model::money::Micros;
use crate::model::preset::{AnswerForm, Preset};
use crate::model::rule::{Percent, Rule};
use crate::model::status::Status;

mod auth;
mod capped;
mod fraud;
mod negative;
mod paid;

const EXAMPLE: &str = include_str!("../../examples/catalog.toml");

const DESIGN: &str = r#"
[[advertisers]]
id = "acme"
preset = "standard"
auth = { tokens = [{ secret = "t0ken", from = "2026-01-01", until = "2027-01-01" }], hmac = [{ secret = "…" }], allow_ips = ["203.0.113.0/24"], mode = "enforce" }
params = { click_id = "aff_sub2" }            # overrides of the preset: our name = theirs
statuses = { ok = "approved" }                # their word = ours
events = { purchase = "sale" }

[[offers]]
id = "spring"
advertiser = "acme"
url = "https://shop.example/landing?subid={click_id}&src={sub1}"
status = "active"                             # active | paused
fallback_url = "https://shop.example/ended"
window = "30d"
one_conversion_per_click = false

[[offers.events]]
id = "sale"
initial_status = "approved"                   # pending | approved
repeat = "once"                               # once | "24h" (repeatable, window for postbacks without txn_id)
payout = { fixed = "15.00", percent = "0", per_unit = "0", currency = "USD" }
revenue = { fixed = "20.00" }

[[offers.events]]
id = "chargeback"
reverses = ["sale"]

[[affiliates]]
id = "pub-7"

[[links]]
code = "sp7"
offer = "spring"
affiliate = "pub-7"
"#;

/// Numbers from the digits of an ID, or the sum of its letters.
struct ByText;

impl Numbers for ByText {
    fn offer(&self, id: &str) -> Option<OfferNumber> {
        OfferNumber::new(number(id))
    }

    fn affiliate(&self, id: &str) -> Option<AffiliateNumber> {
        AffiliateNumber::new(number(id))
    }
}

fn number(id: &str) -> u32 {
    let digits: String = id.chars().filter(char::is_ascii_digit).collect();
    digits.parse().unwrap_or_else(|_| id.bytes().map(u32::from).sum())
}

fn load(text: &str) -> Result<(Checked, Report), Report> {
    let time_zone = TimeZone::get("Europe/Berlin").expect("bundled");
    parse(text, "catalog.toml", &NetworkDefaults { currency: Currency::USD, time_zone })
}

fn catalog(text: &str) -> Catalog {
    let (checked, _) = load(text).expect("valid");
    checked.into_catalog(7, &ByText).expect("numbered")
}

fn refused(text: &str) -> String {
    load(text).expect_err("has mistakes").to_string()
}

fn amount(text: &str) -> Micros {
    Micros::parse(text).expect("an amount")
}

fn fixed(text: &str) -> Rule {
    Rule { fixed: amount(text), ..Rule::default() }
}

fn share(text: &str) -> Rule {
    Rule { percent: Percent::parse(text).expect("a percentage"), ..Rule::default() }
}

/// An offer with one line more.
fn with_offer_line(line: &str) -> String {
    let offer = "[[advertisers]]\nid = 'a'\n[[offers]]\nid = 'o'\nadvertiser = 'a'\nurl = 'https://a.example/{click_id}'\n";
    format!("{offer}{line}\nevents = [{{ id = 'sale' }}]\n")
}

#[test]
fn the_shipped_example_is_valid_and_means_what_it_says() {
    let (_, warnings) = load(EXAMPLE).expect("valid");
    assert!(warnings.is_empty(), "{warnings}");
    let catalog = catalog(EXAMPLE);
    assert_eq!(catalog.version(), 7);
    let (offer, affiliate) = catalog.link("sp7").expect("listed");
    assert_eq!((&*offer.id, &*affiliate.id), ("spring", "pub-7"));
    assert!(offer.active && affiliate.active);
    assert_eq!(offer.expires_ms, Some(1_924_988_400_000), "2030-12-31T24:00 in Berlin");
    assert_eq!((offer.window_ms, offer.late), (Some(30 * 86_400_000), Late::ZeroPayout));
    let sale = offer.event("sale").expect("listed");
    assert_eq!(sale.terms, Terms { payout: fixed("15"), revenue: fixed("20") });
    assert_eq!((sale.repeat, sale.window_ms), (Repeat::Once, Some(30 * 86_400_000)));
    let deposit = offer.event("deposit").expect("listed");
    assert_eq!(deposit.repeat, Repeat::Window(86_400_000));
    assert_eq!(deposit.window_ms, Some(365 * 86_400_000));
    assert_eq!(offer.event("registration").expect("listed").initial_status, Status::Pending);
    assert_eq!(offer.event("nothing"), None);
    let acme = catalog.advertiser("acme").expect("listed");
    assert_eq!(acme.params, []);
    assert_eq!(acme.status("ok"), Some(Status::Approved));
    assert_eq!(acme.status("pending"), Some(Status::Pending));
    assert_eq!(acme.status("maybe"), None);
    assert_eq!((acme.event_name("purchase"), acme.event_name("deposit")), ("sale", "deposit"));
    let autumn = catalog.offer("autumn").expect("listed");
    assert!(!autumn.active && autumn.one_conversion_per_click);
    assert!(!catalog.affiliate("pub-9").expect("listed").active);
    assert_eq!(
        catalog.affiliate_by_number(AffiliateNumber::new(8).expect("24 bits")).map(|a| &*a.id),
        Some("pub-8")
    );
    assert_eq!(catalog.offer_by_number(autumn.number).map(|o| &*o.id), Some("autumn"));
    assert!(catalog.link("nothing").is_none() && catalog.offer("nothing").is_none());
}

#[test]
fn an_advertiser_has_its_presets_ways_and_its_own_on_top() {
    let text = "[[advertisers]]\nid = 'a'\npreset = 'affise'\nstatuses = { 1 = 'pending', yes = 'approved' }\n[[advertisers]]\nid = 'b'\npreset = 'affise'\nanswer = 'json'\npath = '/k/in'\n[[advertisers]]\nid = 'c'\n";
    let catalog = catalog(text);
    let [a, b, c] = ["a", "b", "c"].map(|id| catalog.advertiser(id).expect("listed"));
    let words = |of: &Advertiser| ["1", "3", "yes", "approved"].map(|word| of.status(word));
    let (pending, approved, rejected) = (Status::Pending, Status::Approved, Status::Rejected);
    assert_eq!(words(a), [Some(pending), Some(rejected), Some(approved), Some(approved)]);
    assert_eq!(words(b), [Some(approved), Some(rejected), None, Some(approved)]);
    assert_eq!(words(c), [None, None, None, Some(approved)]);
    let answers = [a.answer, b.answer, c.answer];
    assert_eq!(answers, [AnswerForm::Always200, AnswerForm::Json, AnswerForm::Json]);
    assert_eq!([a.preset, c.preset], [Preset::Affise, Preset::Standard]);
    assert_eq!(catalog.advertiser_at("/k/in"), Some(b));
    assert_eq!(catalog.advertiser_at("/k"), None);
}

#[test]
fn mistakes_in_how_an_advertiser_speaks_are_reported() {
    let text = r#"
[[advertisers]]
id = "a"
preset = "tuna"
answer = "yes"
default_event = "a b"
path = "in"
[[advertisers]]
id = "b"
path = "/k/in"
[[advertisers]]
id = "c"
path = "/k/in"
[[advertisers]]
id = "d"
path = "/click/in"
[[advertisers]]
id = "e"
path = "/click.php"
"#;
    insta::assert_snapshot!(refused(text), @r#"
    catalog.toml:4: advertisers[0] "a".preset: "tuna" is not one of "standard", "voluum", "keitaro", "binom", "redtrack", "everflow", "tune", "affise", "scaleo", "afftrax", "trackier", "bemob", "cake"; did you mean "tune"?
    catalog.toml:5: advertisers[0] "a".answer: "yes" is not one of "json", "always_200", "tune", "ok"
    catalog.toml:6: advertisers[0] "a".default_event: "a b" is not an ID: 1 to 64 of A-Z a-z 0-9 . _ -
    catalog.toml:7: advertisers[0] "a".path: "in" is not a path such as "/key/postback": at most 128 of A-Z a-z 0-9 . _ ~ - /, no / at its end
    catalog.toml:13: advertisers[2] "c".path: "/k/in" is taken by an earlier advertiser
    catalog.toml:16: advertisers[3] "d".path: "/click/in" begins as visitors' links do, and would be taken for one wherever it is no advertiser's; "/in/click/in" would not
    catalog.toml:19: advertisers[4] "e".path: "/click.php" leads somewhere else already
    "#);
    let check = |path: &str, valid: bool| {
        let text = format!("[[advertisers]]\nid = 'a'\npath = '{path}'\n");
        assert_eq!(load(&text).is_ok(), valid, "{path}");
    };
    for path in
        ["/in", "/5e1f/postback", "/cf/cv", "/a.b_c~d-e", "/in/click", "/aff", "/postback/a/b"]
    {
        check(path, true);
    }
    for path in [
        "",
        "/",
        "in",
        "/in/",
        "//in",
        "/a//b",
        "/a/../b",
        "/a?b",
        "/a b",
        "/ü",
        "/a%20b",
        "/click",
        "/click/in",
        "/clickback",
        "/click.php",
        "/c",
        "/c/sp7",
        "/postback",
        "/postback/a",
        "/aff_lsr",
        "/aff_lsr/x",
        "/track/conv/x",
    ] {
        check(path, false);
    }
    check(&format!("/{}", "x".repeat(127)), true);
    check(&format!("/{}", "x".repeat(128)), false);
}

#[test]
fn an_override_that_makes_a_name_of_the_preset_ambiguous_is_a_warning() {
    let check = |preset: &str, params: &str, expected: &str| {
        let text =
            format!("[[advertisers]]\nid = 'a'\npreset = '{preset}'\nparams = {{ {params} }}\n");
        let warnings = load(&text).expect("valid").1.to_string();
        let expected = match expected {
            "" => String::new(),
            what => format!("warning: catalog.toml:4: advertisers[0] \"a\".params.{what}\n"),
        };
        assert_eq!(warnings, expected, "{preset} {params}");
    };
    check("tune", "", "");
    check("tune", "txn_id = 'adv_sub'", "");
    check("standard", "txn_id = 'transaction_id', event = 'goal'", "");
    check(
        "tune",
        "txn_id = 'transaction_id'",
        "txn_id: ambiguous: \"transaction_id\" is click_id in the preset \"tune\"; it is read as txn_id, and click_id has no name left: every postback will be refused; give it one in params",
    );
    check("tune", "txn_id = 'transaction_id', click_id = 'adv_sub'", "");
    check(
        "standard",
        "click_id = 'transaction_id'",
        "click_id: ambiguous: \"transaction_id\" is txn_id in the preset \"standard\"; it is read as click_id, and txn_id only as \"txn_id\"",
    );
    check(
        "voluum",
        "amount = 'payout'",
        "amount: ambiguous: \"payout\" is revenue in the preset \"voluum\"; it is read as amount, and revenue has no name left",
    );
}

#[test]
fn every_mistake_is_reported_at_once_by_line() {
    let text = r#"
[[advertisers]]
id = "acme"
params = { clickid = "x", txn_id = "t", event = "t", amount = "" }
statuses = { ok = "aproved" }
events = { buy = "a b", purchase = 3 }
[[advertisers]]
id = "acme"
[[offers]]
id = "spring"
advertiser = "amce"
url = "https://shop.example/{clickid}"
status = "activ"
expires = "tomorrow"
fallback_url = "https://shop.example/{sub1}"
window = "0d"
late = "never"
one_conversion_per_click = "yes"
pass_params = ["gclid", "gclid"]
caps = 5
[[offers.events]]
id = "sale"
initial_status = "rejected"
repeat = "twice"
payout = { fixed = 15, percent = "-2.5", currency = "DOLLAR" }
revenue = { fixed = "-1", per_unit = "0.1234567", currency = "EUR", tier = "1" }
[[offers.events]]
id = "sale"
[[offers.events]]
repeat = "once"
[[offers]]
id = "spring"
advertiser = "acme"
url = "https://{sub1}.example/{click_id}"
[[affiliates]]
id = "pub 7"
[[affiliates]]
id = "pub-7"
status = "paused"
[[links]]
code = "s.7"
offer = "sprnig"
affiliate = "pub-77"
[[links]]
code = "s7"
offer = "spring"
[[link]]
"#;
    insta::assert_snapshot!(refused(text), @r#"
    catalog.toml:4: advertisers[0] "acme".params.clickid: unknown parameter; did you mean "click_id"?
    catalog.toml:4: advertisers[0] "acme".params.event: "t" is the name of txn_id already
    catalog.toml:4: advertisers[0] "acme".params.amount: must be a word of 1 to 64 bytes
    catalog.toml:5: advertisers[0] "acme".statuses.ok: "aproved" is not one of "pending", "approved", "rejected", "reversed"; did you mean "approved"?
    catalog.toml:6: advertisers[0] "acme".events.purchase: must be a string: write it in quotes, not of type integer
    catalog.toml:6: advertisers[0] "acme".events.buy: "a b" is not an ID: 1 to 64 of A-Z a-z 0-9 . _ -
    catalog.toml:8: advertisers[1] "acme".id: "acme" is taken by an earlier advertiser
    catalog.toml:11: offers[0] "spring".advertiser: "amce" is not among the advertisers; did you mean "acme"?
    catalog.toml:12: offers[0] "spring".url: unknown macro {clickid}; did you mean "click_id"?
    catalog.toml:13: offers[0] "spring".status: "activ" is not one of "active", "paused"; did you mean "active"?
    catalog.toml:14: offers[0] "spring".expires: "tomorrow" is neither a date such as "2027-01-31" nor a time such as "2027-01-31T18:00:00Z"
    catalog.toml:15: offers[0] "spring".fallback_url: is a plain URL; macros are filled in only in url
    catalog.toml:16: offers[0] "spring".window: must be from "1ms" to "36500d"
    catalog.toml:17: offers[0] "spring".late: "never" is not one of "refuse", "zero_payout"
    catalog.toml:18: offers[0] "spring".one_conversion_per_click: must be true or false, not of type string
    catalog.toml:19: offers[0] "spring".pass_params: "gclid" is listed twice
    catalog.toml:20: offers[0] "spring".caps: must be a list of tables: write [[caps]]
    catalog.toml:23: offers[0] "spring".events[0] "sale".initial_status: "rejected" is not one of "pending", "approved"
    catalog.toml:24: offers[0] "spring".events[0] "sale".repeat: must be "once" or a duration such as "24h"
    catalog.toml:25: offers[0] "spring".events[0] "sale".payout.fixed: must be a string: write it in quotes, not of type integer
    catalog.toml:25: offers[0] "spring".events[0] "sale".payout.percent: must not be negative
    catalog.toml:25: offers[0] "spring".events[0] "sale".payout.currency: not an ISO 4217 currency code such as "USD"
    catalog.toml:26: offers[0] "spring".events[0] "sale".revenue.tier: unknown key
    catalog.toml:26: offers[0] "spring".events[0] "sale".revenue.fixed: must not be negative
    catalog.toml:26: offers[0] "spring".events[0] "sale".revenue.per_unit: more than 6 decimals
    catalog.toml:26: offers[0] "spring".events[0] "sale".revenue.currency: must be USD, the currency of the event's payout
    catalog.toml:28: offers[0] "spring".events[1] "sale".id: "sale" is taken by an earlier event of this offer
    catalog.toml:29: offers[0] "spring".events[2].id: is missing
    warning: catalog.toml:31: offers[1] "spring".events: has no events: every postback for the offer will be refused
    catalog.toml:32: offers[1] "spring".id: "spring" is taken by an earlier offer
    catalog.toml:34: offers[1] "spring".url: has a macro in the host: the host must be literal and end in /, ? or # before it
    catalog.toml:36: affiliates[0] "pub 7".id: "pub 7" is not an ID: 1 to 64 of A-Z a-z 0-9 . _ -
    catalog.toml:39: affiliates[1] "pub-7".status: "paused" is not one of "active", "blocked"
    catalog.toml:41: links[0] "s.7".code: "s.7" is not a code: 1 to 64 of A-Z a-z 0-9 _ -
    catalog.toml:42: links[0] "s.7".offer: "sprnig" is not among the offers; did you mean "spring"?
    catalog.toml:43: links[0] "s.7".affiliate: "pub-77" is not among the affiliates; did you mean "pub-7"?
    catalog.toml:44: links[1] "s7".affiliate: is missing
    catalog.toml:47: link: unknown key; did you mean "links"?
    "#);
}

#[test]
fn a_shape_that_is_no_list_of_tables_is_said_to_be_so() {
    insta::assert_snapshot!(refused("advertisers = 3\noffers = ['a']\n[affiliates]\nid = 'x'\n"), @"
    catalog.toml:1: advertisers: must be a list of tables: write [[advertisers]]
    catalog.toml:2: offers[0]: must be a table
    catalog.toml:3: affiliates: must be a list of tables: write [[affiliates]]
    ");
}

#[test]
fn what_is_valid_but_looks_wrong_is_a_warning() {
    let text = "[[advertisers]]\nid = 'a'\nevents = { buy = 'sael' }\ndefault_event = 'sael'\n[[offers]]\nid = 'o'\nadvertiser = 'a'\nurl = 'https://a.example/{click_id}'\n[[offers.events]]\nid = 'sale'\npayout = { fixed = '2' }\nrevenue = { fixed = '1' }\n[[offers]]\nid = 'p'\nadvertiser = 'a'\nurl = 'https://a.example/{click_id}'\n";
    insta::assert_snapshot!(load(text).expect("valid").1, @r#"
    warning: catalog.toml:3: advertisers[0] "a".events: "buy" leads to "sael", which is an event of none of its offers
    warning: catalog.toml:4: advertisers[0] "a".default_event: "sael" is an event of none of its offers
    warning: catalog.toml:11: offers[0] "o".events[0] "sale".payout: is above revenue: conversions lose money
    warning: catalog.toml:13: offers[1] "p".events: has no events: every postback for the offer will be refused
    "#);
}

#[test]
fn an_offer_expires_at_a_moment_or_after_a_day() {
    let check = |expires: &str, expected: Option<u64>| {
        let loaded = load(&with_offer_line(&format!("expires = {expires}"))).ok();
        let expires_ms = loaded.map(|(checked, _)| checked.offers[0].expires_ms.expect("given"));
        assert_eq!(expires_ms, expected, "{expires}");
    };
    check("'2027-01-31'", Some(1_801_436_400_000));
    check("2027-01-31", Some(1_801_436_400_000));
    check("'2027-01-31T23:00:00Z'", Some(1_801_436_400_000));
    check("2027-02-01T00:00:00+01:00", Some(1_801_436_400_000));
    check("'2027-01-31T23:00:00'", None);
    check("'2027-02-30'", None);
    check("'1969-01-01'", None);
    check("'9999-12-31'", None);
    check("5", None);
}

#[test]
fn passed_parameters_are_macros_and_nothing_else_is() {
    let check = |list: &str, valid: bool| {
        assert_eq!(
            load(&with_offer_line(&format!("pass_params = {list}"))).is_ok(),
            valid,
            "{list}"
        );
    };
    check("[]", true);
    check("['gclid', 'utm.source', 'gdpr_consent']", true);
    check("['sub1']", false);
    check("['click_id']", false);
    check("['aff_id']", false);
    check("['a b']", false);
    check("[1]", false);
    let many =
        |count: usize| format!("{:?}", (0..count).map(|n| format!("p{n}")).collect::<Vec<_>>());
    check(&many(PASS_PARAMS_MAX), true);
    check(&many(PASS_PARAMS_MAX + 1), false);
}

#[test]
fn missing_or_shared_numbers_make_no_catalog() {
    struct All(Option<u32>);
    impl Numbers for All {
        fn offer(&self, _: &str) -> Option<OfferNumber> {
            OfferNumber::new(self.0?)
        }
        fn affiliate(&self, _: &str) -> Option<AffiliateNumber> {
            AffiliateNumber::new(self.0?)
        }
    }
    let check = |number, expected: &str| {
        let (checked, _) = load(EXAMPLE).expect("valid");
        let error = checked.into_catalog(1, &All(number)).expect_err("no good");
        assert_eq!(error.to_string(), expected);
    };
    check(None, "\"spring\" has no number");
    check(Some(1), "\"autumn\" has the number of another");
}

#[test]
fn every_key_is_documented() {
    let docs = include_str!("../../docs/catalog.md");
    let lists = [
        file::ADVERTISER,
        file::AFFILIATE,
        file::LINK,
        file_offer::OFFER,
        file_offer::EVENT,
        file_money::MONEY,
        file_money::OVERRIDE,
    ];
    for key in lists.concat() {
        assert!(docs.contains(&format!("| `{key}` |")), "{key} is missing in docs/catalog.md");
    }
    for (name, _) in Macro::BUILT_IN {
        let listed = docs.contains(&format!("`{{{name}}}`")) || name.starts_with("sub");
        assert!(listed, "{{{name}}} is missing in docs/catalog.md");
    }
}

/// Prints how long a large catalog takes; run it in release with `--nocapture`.
#[test]
fn a_large_catalog_loads() {
    let size =
        std::env::var("CATALOG_TEST_SIZE").ok().and_then(|n| n.parse().ok()).unwrap_or(1_000);
    let mut text = String::from("[[advertisers]]\nid = \"acme\"\n");
    for n in 0..size {
        let _ = write!(
            text,
            "[[offers]]\nid = \"offer-{n}\"\nadvertiser = \"acme\"\nurl = \"https://shop.example/l?c={{click_id}}&s={{sub1}}\"\n[[offers.events]]\nid = \"sale\"\npayout = {{ fixed = \"15.00\" }}\nrevenue = {{ fixed = \"20.00\" }}\n"
        );
    }
    for n in 0..size * 10 {
        let _ = write!(text, "[[affiliates]]\nid = \"pub-{n}\"\n");
    }
    let start = std::time::Instant::now();
    let (checked, _) = load(&text).expect("valid");
    let parsed = start.elapsed();
    let catalog = checked.into_catalog(1, &ByText).expect("numbered");
    println!("{} MB: checked in {parsed:?}, in all {:?}", text.len() >> 20, start.elapsed());
    assert_eq!((catalog.offers().len(), catalog.affiliates().len()), (size, size * 10));
    let last = format!("offer-{}", size - 1);
    let offer = catalog.offer(&last).expect("listed");
    assert_eq!(catalog.offer_by_number(offer.number), Some(offer));
}
