//! Money of changed conversions: each amount keeps its currency, and a retry changes nothing.

use proptest::prelude::*;

use super::super::price::price;
use super::super::price::tests::{DAY, open};
use super::tests::{First, heard, record};
use super::*;
use crate::catalog::{NetworkDefaults, parse};
use crate::click_id::RecordId;
use crate::model::reasons::Flag;

const TRUSTED: &str = r#"
payout = { percent = "10", max = "50" }
revenue = { percent = "20" }
trust_payout = true
trust_revenue = true
"#;

/// A catalog whose one event, `sale`, is so.
pub fn catalog(version: u64, event: &str) -> Catalog {
    let text = format!(
        r#"
        [[advertisers]]
        id = "acme"

        [[offers]]
        id = "spring"
        advertiser = "acme"
        url = "https://shop.example/{{click_id}}"

        [[offers.events]]
        id = "sale"
        {event}"#
    );
    let defaults = NetworkDefaults { currency: Currency::USD, time_zone: jiff::tz::TimeZone::UTC };
    let (checked, _) = parse(&text, "catalog.toml", &defaults).expect("a sound catalog");
    checked.into_catalog(version, &First).expect("numbers")
}

/// A sale of [`DAY`], approved by a postback that says `"name=value …"`.
pub fn sale(text: &str, catalog: &Catalog, market: &Market) -> ConversionRecord<'static> {
    sale_with(&heard(&format!("approved {text}")).said, 0, catalog, market)
}

/// The same, over a cap or late if the flags say so.
fn sale_with(
    said: &Said,
    flags: u32,
    catalog: &Catalog,
    market: &Market,
) -> ConversionRecord<'static> {
    let mut record = record("sale", "approved postback");
    let event = catalog.offer("spring").and_then(|offer| offer.event("sale")).expect("an event");
    let affiliate = RecordId::from_bytes(record.click).affiliate();
    let mut price = price(event, affiliate, said, market, DAY).expect("fits");
    if flags != 0 {
        price.forfeit_payout();
    }
    record.event_time_ms = DAY.begins_ms() + 1000;
    record.amount = said.amount.map(Micros::get);
    record.amount_currency = said.currency.map(Currency::to_bytes);
    record.quantity = said.quantity;
    record.currency = event.currency.to_bytes();
    record.catalog_version = catalog.version();
    record.flags = flags;
    price.set(&mut record);
    record.history[0] =
        HistoryEntry::new(Status::Approved, 1000, None, record.earned(), "postback");
    record
}

/// Tells a conversion `"status name=value …"`; whether that is news, or why it is refused.
fn tell(
    record: &mut ConversionRecord<'static>,
    text: &str,
    catalog: &Catalog,
) -> Result<bool, String> {
    match changed(record, &heard(text), catalog, &open(Currency::USD)) {
        Ok(None) => Ok(false),
        Ok(Some(anew)) => {
            *record = anew;
            Ok(true)
        }
        Err(refused) => {
            Err(format!("{} {}", refused.reason.as_str(), refused.hint.unwrap_or_default()))
        }
    }
}

/// What a conversion is of: amount, own payout and own revenue, and their currency, if there are
/// any; then what is earned: payout and revenue.
fn shown(record: &ConversionRecord<'_>) -> String {
    let said = Said::of_record(record);
    let currency = record.currency_of_amounts().expect("a currency");
    let amount = |micros: Option<Micros>| {
        micros.map_or("-".to_owned(), |micros| micros.display(currency).to_string())
    };
    let [of, payout, revenue] = amounts(&said).map(amount);
    let earned = [record.payout, record.revenue]
        .map(|earned| Micros::new(earned).display(currency).to_string());
    format!("{of} {payout} {revenue} {}: {} {}", currency.as_str(), earned[0], earned[1])
}

/// Tells a sale one thing after the other, each to be news; what is shown then, or why the last
/// one was refused.
fn told(sold: &str, texts: &[&str]) -> String {
    let catalog = catalog(1, TRUSTED);
    let mut record = sale(sold, &catalog, &open(Currency::USD));
    for text in texts {
        match tell(&mut record, text, &catalog) {
            Ok(is_news) => assert!(is_news, "{text}"),
            Err(refused) => {
                assert!(refused.starts_with("bad_currency"), "{refused}");
                return refused;
            }
        }
    }
    shown(&record)
}

#[test]
fn an_amount_that_is_kept_is_never_read_in_another_currency() {
    let refused = |sold: &str, text: &str, kept_in: &str| {
        let refused = told(sold, &[text]);
        assert!(refused.contains(&format!("amounts in {kept_in}")), "{sold}, {text}: {refused}");
    };
    let check = |sold: &str, text: &str, expected: &str| {
        assert_eq!(told(sold, &[text]), expected, "{sold}, {text}");
    };
    let (own, yen) = ("amount=15000 revenue=450 currency=JPY", "amount=15000 currency=JPY");
    refused(own, "approved amount=100", "JPY");
    refused(own, "approved amount=100 network", "JPY");
    refused(own, "approved amount=15000", "JPY");
    refused(own, "approved amount=100 currency=EUR", "JPY");
    refused(yen, "approved payout=5", "JPY");
    // Nothing would stay, but nobody knows whether these are yen or the event's dollars.
    refused(yen, "approved amount=15000", "JPY");
    refused(yen, "approved amount=100", "JPY");
    refused(yen, "approved amount=100 network", "JPY");
    refused(own, "approved amount=100 revenue=3", "JPY");
    refused("amount=100 revenue=3", "approved amount=15000 currency=JPY", "USD");
    refused("amount=100 currency=USD", "approved revenue=450 currency=JPY", "USD");
    check(own, "approved amount=100 revenue=3 currency=USD", "100.00 - 3.00 USD: 10.00 3.00");
    check(own, "approved amount=30000 currency=JPY", "30000 - 450 JPY: 20 3");
    check(own, "approved quantity=2", "15000 - 450 JPY: 10 3");
    check(yen, "approved amount=100 currency=USD", "100.00 - - USD: 10.00 20.00");
    check(yen, "approved payout=750 currency=JPY", "15000 750 - JPY: 5 20");
    check("", "approved payout=750 currency=JPY", "- 750 - JPY: 5 0");
    check("amount=100", "approved revenue=3 currency=USD", "100.00 - 3.00 USD: 10.00 3.00");
    check("amount=100 currency=USD", "approved revenue=3", "100.00 - 3.00 USD: 10.00 3.00");
}

#[test]
fn a_currency_that_goes_with_nothing_that_counts_changes_nothing() {
    let untrusted = catalog(1, "payout = { percent = \"10\" }");
    let market = open(Currency::USD);
    for (flags, catalog) in [(0, untrusted), (Flag::Late.bit(), catalog(1, TRUSTED))] {
        let said = heard("approved amount=100").said;
        let mut record = sale_with(&said, flags, &catalog, &market);
        let text = "approved payout=450 currency=JPY";
        assert_eq!(tell(&mut record, text, &catalog), Ok(false));
    }
}

#[test]
fn amounts_in_the_currency_that_the_event_had_stay_in_it() {
    let (dollars, market) = (catalog(1, TRUSTED), open(Currency::USD));
    let euros = catalog(2, &TRUSTED.replace("max = \"50\"", "currency = \"EUR\""));
    let pending = |text: &str| {
        let mut record = sale(text, &dollars, &market);
        record.status = Status::Pending.code();
        let earned = record.earned();
        record.history[0] = HistoryEntry::new(Status::Pending, 1000, None, earned, "postback");
        record
    };
    let own = "amount=100 payout=5";
    let check = |text: &str, expected: Result<bool, &str>, then: &str| {
        let mut record = pending(own);
        let told = tell(&mut record, &format!("pending {text}"), &euros);
        assert_eq!(
            told.as_ref().map_err(|refused| &refused[..12]),
            expected.as_ref().map_err(|it| &**it),
            "{text}"
        );
        assert_eq!(shown(&record), then, "{text}");
    };
    let before = "100.00 5.00 - USD: 5.00 20.00";
    check(own, Ok(false), before);
    check("payout=5", Ok(false), before);
    check("payout=6", Err("bad_currency"), before);
    check("payout=6 currency=USD", Ok(true), "100.00 6.00 - USD: 3.00 10.00");
    check("quantity=2", Ok(true), "100.00 5.00 - USD: 2.50 10.00");
    check("amount=50 payout=4", Err("bad_currency"), before);
    check("amount=50 payout=4 currency=EUR", Ok(true), "50.00 4.00 - EUR: 4.00 10.00");
}

#[test]
fn other_amounts_of_what_has_been_taken_back_in_part_are_refused_and_say_why() {
    let (catalog, market) = (catalog(1, TRUSTED), open(Currency::USD));
    let check = |text: &str, expected: Result<bool, &str>| {
        let mut record = sale("amount=100 payout=5", &catalog, &market);
        record.status = Status::Pending.code();
        record.history[0].status = Status::Pending.code();
        record.reversed_amount = 25_000_000;
        let told = tell(&mut record, text, &catalog);
        let told = told.as_ref().map_err(|refused| &refused[..37]);
        assert_eq!(told, expected.as_ref().map_err(|it| &**it), "{text}");
        assert_eq!(shown(&record), "100.00 5.00 - USD: 5.00 20.00", "{text}");
    };
    let refused = Err("illegal_transition a part of it has b");
    for other in ["amount=90", "amount=25", "amount=75 currency=EUR", "payout=4", "quantity=2"] {
        check(&format!("approved {other}"), refused);
        check(&format!("approved {other} network"), refused);
    }
    // The amount that it had, or what is left of it.
    for known in ["", " amount=100", " amount=75", " amount=75 payout=5 currency=USD"] {
        check(&format!("approved{known}"), Ok(true));
        check(&format!("pending{known}"), Ok(false));
    }
    check("rejected amount=90", Ok(true));
}

#[test]
fn an_own_amount_counts_until_another_one_is_said() {
    let check = |texts: &[&str], expected: &str| {
        assert_eq!(told("amount=100 payout=3", texts), expected, "{texts:?}");
    };
    check(&[], "100.00 3.00 - USD: 3.00 20.00");
    check(&["approved amount=50"], "50.00 3.00 - USD: 3.00 10.00");
    check(&["approved amount=50 payout=4"], "50.00 4.00 - USD: 4.00 10.00");
    check(&["approved payout=80", "approved amount=50"], "50.00 80.00 - USD: 50.00 10.00");
    // One that is what the rules make of the amount, too.
    check(&["approved payout=10", "approved amount=50"], "50.00 10.00 - USD: 10.00 10.00");
    assert_eq!(told("amount=100", &["approved amount=50"]), "50.00 - - USD: 5.00 10.00");
    let agreed = ["approved payout=10", "approved amount=50"];
    assert_eq!(told("amount=100", &agreed), "50.00 10.00 - USD: 10.00 10.00");
}

#[test]
fn a_retry_changes_nothing_whatever_has_become_of_the_catalog() {
    let (before, market) = (catalog(1, TRUSTED), open(Currency::USD));
    let anew = catalog(2, &TRUSTED.replace("50", "40").replace("10", "15"));
    for text in
        ["payout=50", "payout=70", "payout=15 revenue=1", "amount=7500 payout=7500 currency=JPY"]
    {
        let mut record = sale(text, &before, &market);
        assert_eq!(tell(&mut record, &format!("approved {text}"), &anew), Ok(false), "{text}");
    }
}

#[test]
fn what_the_rules_made_is_no_own_amount_when_the_rules_change() {
    let mut record = sale("amount=100", &catalog(1, TRUSTED), &open(Currency::USD));
    let anew = catalog(2, &TRUSTED.replace("20", "40"));
    assert_eq!(tell(&mut record, "approved amount=200", &anew), Ok(true));
    assert_eq!(shown(&record), "200.00 - - USD: 20.00 80.00");
}

#[test]
fn own_amounts_that_earlier_builds_did_not_keep_are_known_by_the_catalog_of_their_price() {
    let catalog = catalog(1, TRUSTED);
    let earlier = || {
        let mut record = sale("amount=100 payout=3", &catalog, &open(Currency::USD));
        record.exchanged = None;
        record
    };
    assert_eq!(tell(&mut earlier(), "approved amount=100 payout=3", &catalog), Ok(false));
    let mut record = earlier();
    assert_eq!(tell(&mut record, "approved amount=50", &catalog), Ok(true));
    assert_eq!(shown(&record), "50.00 3.00 - USD: 3.00 10.00");
    let refused = tell(&mut earlier(), "approved amount=50 currency=EUR", &catalog);
    assert!(refused.is_err_and(|refused| refused.starts_with("bad_currency")));
}

/// Terms of a catalog: percent of payout and revenue, the most that is paid, whether an own payout
/// is trusted.
type Terms = (i128, i128, i128, bool);

const TERMS: [Terms; 3] = [(10, 20, 50, true), (20, 40, 40, true), (5, 15, 60, false)];

fn by_terms((payout, revenue, max, trusted): Terms, version: u64) -> Catalog {
    let event = format!(
        r#"
        payout = {{ percent = "{payout}", per_unit = "1", max = "{max}" }}
        revenue = {{ percent = "{revenue}" }}
        trust_payout = {trusted}
        trust_revenue = true"#
    );
    catalog(version, &event)
}

/// Millionths, and their currency.
type Amount = (i64, Currency);

/// A conversion in the simplest way: each amount with its own currency.
#[derive(Clone, Debug, PartialEq)]
struct Reference {
    amount: Option<Amount>,
    payout: Option<Amount>,
    revenue: Option<Amount>,
    quantity: Option<u64>,
}

impl Reference {
    fn of(said: &Said) -> Self {
        let currency = said.currency.unwrap_or(Currency::USD);
        let [amount, payout, revenue] =
            amounts(said).map(|amount| amount.map(|amount| (amount.get(), currency)));
        Self { amount, payout, revenue, quantity: said.quantity }
    }

    fn counting(mut self, terms: Terms, flags: u32) -> Self {
        self.payout = self.payout.filter(|_| terms.3 && flags == 0);
        self
    }

    /// With what is said; `None` if that mixes currencies, or is in no certain one.
    fn with(&self, said: Self, is_in_events: bool) -> Option<Self> {
        let anew = Self {
            amount: said.amount.or(self.amount),
            payout: said.payout.or(self.payout),
            revenue: said.revenue.or(self.revenue),
            quantity: said.quantity.or(self.quantity),
        };
        let mut all = [anew.amount, anew.payout, anew.revenue].into_iter().flatten();
        let first = all.next().map(|(_, currency)| currency);
        let amounts = |of: &Self| [of.amount, of.payout, of.revenue].into_iter().flatten().next();
        let is_foreign = amounts(self).is_some_and(|(_, currency)| currency != Currency::USD);
        let is_uncertain = is_in_events && is_foreign && amounts(&said).is_some();
        (!is_uncertain && all.all(|(_, currency)| Some(currency) == first)).then_some(anew)
    }

    /// Payout and revenue, in dollars.
    fn earned(&self, (percent, of_revenue, max, _): Terms, flags: u32) -> (i128, i128) {
        let dollars = |(micros, currency): Amount| match currency.as_str() {
            "JPY" => i128::from(micros) / 150,
            "EUR" => i128::from(micros) * 2,
            _ => i128::from(micros),
        };
        let share = |percent| self.amount.map_or(0, dollars) * percent / 100;
        let units = i128::from(self.quantity.unwrap_or(1)) * 1_000_000;
        let payout = self.payout.map_or_else(|| share(percent) + units, dollars);
        let payout = if flags == 0 { payout.min(max * 1_000_000) } else { 0 };
        let revenue = self.revenue.map_or_else(|| share(of_revenue), dollars);
        (payout, revenue)
    }
}

fn said() -> impl Strategy<Value = Said> {
    let amount =
        || prop::option::weighted(0.4, (1_i64..6).prop_map(|n| Micros::new(n * 300_000_000)));
    let currency =
        prop::sample::select(vec![None, Some("USD"), Some("EUR"), Some("JPY"), Some("JPY")]);
    let quantity = prop::option::weighted(0.2, 1_u64..4);
    (amount(), amount(), amount(), currency, quantity).prop_map(
        |(amount, payout, revenue, currency, quantity)| {
            let currency = currency.map(|code| Currency::parse(code).expect("a currency"));
            Said { amount, currency, quantity, payout, revenue }
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn no_sequence_of_updates_makes_a_number_change_its_currency(
        first in said(),
        flags in prop::sample::select(vec![0, 0, 0, Flag::OverCap.bit(), Flag::Late.bit()]),
        updates in prop::collection::vec((said(), 0_usize..3, 0_usize..3), 0..10),
    ) {
        let market = open(Currency::USD);
        let catalogs: Vec<_> = (1..).zip(TERMS).map(|(n, terms)| by_terms(terms, n)).collect();
        let mut record = sale_with(&first, flags, &catalogs[0], &market);
        let mut reference = Reference::of(&first).counting(TERMS[0], flags);
        let mut earned = reference.earned(TERMS[0], flags);
        for (said, by, retried_by) in updates {
            let heard = Heard { said, ..heard("approved") };
            let terms = TERMS[by];
            let known = reference.clone().counting(terms, flags);
            let is_in_events = said.currency.is_none();
            let anew = known.with(Reference::of(&said).counting(terms, flags), is_in_events);
            let outcome = changed(&record, &heard, &catalogs[by], &market);
            match &anew {
                None => {
                    let refused = outcome.expect_err("mixed");
                    prop_assert_eq!(refused.reason, Refusal::BadCurrency);
                    continue;
                }
                Some(anew) if *anew == known => prop_assert_eq!(outcome, Ok(None)),
                Some(anew) => {
                    record = outcome.expect("one currency").expect("news");
                    reference = anew.clone();
                    earned = reference.earned(terms, flags);
                }
            }
            let kept = Said { currency: record.currency_of_amounts(), ..Said::of_record(&record) };
            prop_assert_eq!(&Reference::of(&kept), &reference);
            prop_assert_eq!((record.payout.into(), record.revenue.into()), earned);
            // What was not trusted then may be news when it is.
            if terms.3 || !TERMS[retried_by].3 {
                let retry = changed(&record, &heard, &catalogs[retried_by], &market);
                prop_assert_eq!(retry, Ok(None));
            }
        }
    }
}
