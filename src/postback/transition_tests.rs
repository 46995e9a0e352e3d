use super::*;
use crate::catalog::{NetworkDefaults, Numbers, parse};
use crate::model::ids::{AffiliateNumber, OfferNumber};
use crate::model::reasons::Flag;
use crate::store::records::Earned;

const CATALOG: &str = r#"
[[advertisers]]
id = "acme"

[[offers]]
id = "spring"
advertiser = "acme"
url = "https://shop.example/{click_id}"

[[offers.events]]
id = "sale"
payout = { percent = "10" }
revenue = { percent = "20" }

[[offers.events]]
id = "lenient"
reapprove = true
trust_payout = true
payout = { percent = "10" }
revenue = { percent = "20" }

[[offers.events]]
id = "refund"
reverses = ["sale", "lenient"]
"#;

/// Gives out the first numbers.
pub struct First;

impl Numbers for First {
    fn offer(&self, _: &str) -> Option<OfferNumber> {
        OfferNumber::new(1)
    }

    fn affiliate(&self, _: &str) -> Option<AffiliateNumber> {
        AffiliateNumber::new(1)
    }
}

fn catalog() -> Catalog {
    let defaults = NetworkDefaults { currency: Currency::USD, time_zone: jiff::tz::TimeZone::UTC };
    let (checked, _) = parse(CATALOG, "catalog.toml", &defaults).expect("a sound catalog");
    checked.into_catalog(7, &First).expect("numbers")
}

pub fn amount(text: &str) -> i64 {
    Micros::parse(text).expect("an amount").get()
}

/// A conversion of 100.00 that was received at 1000; its history by `"status reason …"`.
pub fn record<'a>(event: &'a str, history: &'a str) -> ConversionRecord<'a> {
    let earned = Earned::new(amount("20"), amount("10"), None);
    let words: Vec<_> = history.split(' ').collect();
    let step = |pair: &[&'a str]| {
        let status = Status::parse(pair[0]).expect("a status");
        HistoryEntry::new(status, 1000, None, earned, pair[1])
    };
    let history: Vec<_> = words.chunks(2).map(step).collect();
    ConversionRecord {
        click: [0; 16],
        click_mac: [0; 8],
        advertiser: "acme",
        offer: "spring",
        affiliate: "pub",
        event,
        txn_id: "T",
        status: history.last().expect("a step").status,
        amount: Some(amount("100")),
        revenue: earned.revenue,
        payout: earned.payout,
        currency: Currency::USD.to_bytes(),
        event_time_ms: 1000,
        received_ms: 1000,
        catalog_version: 1,
        history,
        claims: 1,
        ..ConversionRecord::default()
    }
}

/// What is heard at 9000, by
/// `"status [amount=…] [payout=…] [revenue=…] [currency=…] [quantity=…] [at=…] [network]"`.
pub fn heard(text: &str) -> Heard<'static> {
    let (status, rest) = text.split_once(' ').unwrap_or((text, ""));
    let mut heard = Heard {
        status: Status::parse(status).expect("a status"),
        said: Said::default(),
        said_ms: None,
        now_ms: 9000,
        by: Speaker::Advertiser,
        reason: "postback",
    };
    for word in rest.split(' ').filter(|word| !word.is_empty()) {
        match word.split_once('=') {
            Some(("amount", value)) => heard.said.amount = Some(Micros::new(amount(value))),
            Some(("payout", value)) => heard.said.payout = Some(Micros::new(amount(value))),
            Some(("revenue", value)) => heard.said.revenue = Some(Micros::new(amount(value))),
            Some(("currency", code)) => heard.said.currency = Currency::parse(code).ok(),
            Some(("quantity", value)) => heard.said.quantity = value.parse().ok(),
            Some((_, time)) => heard.said_ms = Some(time.parse().expect("a time")),
            None => (heard.by, heard.reason) = (Speaker::Network, "upload"),
        }
    }
    heard
}

fn change<'a>(
    record: &ConversionRecord<'a>,
    text: &str,
) -> Result<Option<ConversionRecord<'a>>, Refused> {
    let market = Market::closed(Currency::USD);
    changed(record, &heard(text), &catalog(), &market)
}

/// The last step as `"status reason revenue payout"`; empty if nothing changes, the reason if it
/// is refused.
fn outcome(record: &ConversionRecord<'_>, text: &str) -> String {
    match change(record, text) {
        Ok(None) => String::new(),
        Err(refused) => refused.reason.as_str().to_owned(),
        Ok(Some(anew)) => {
            let (last, before) = anew.history.split_last().expect("a step");
            assert_eq!(before, record.history, "history is only added to");
            assert_eq!((last.status, last.time_ms), (anew.status, 9000));
            let status = anew.status().expect("a status");
            let booked = [last.booked_revenue, last.booked_payout];
            let [revenue, payout] =
                booked.map(|micros| Micros::new(micros).display(Currency::USD).to_string());
            format!("{} {} {revenue} {payout}", status.as_str(), last.reason)
        }
    }
}

#[test]
fn what_is_heard_is_a_step_nothing_new_or_refused() {
    let check = |history: &str, text: &str, expected: &str| {
        assert_eq!(outcome(&record("sale", history), text), expected, "{history}: {text}");
    };
    check("pending postback", "approved", "approved postback 20.00 10.00");
    check("pending postback", "rejected", "rejected postback 0.00 0.00");
    check("pending postback", "pending", "");
    check("pending postback", "reversed", "illegal_transition");
    check("approved postback", "reversed", "reversed postback 0.00 0.00");
    check("approved postback", "pending", "");
    check("approved postback", "approved", "");
    check("approved postback", "rejected", "illegal_transition");
    check("rejected postback", "approved", "illegal_transition");
    check("reversed postback", "approved", "illegal_transition");
    check("reversed postback", "reversed amount=1", "");
    check("pending postback", "approved network", "approved upload 20.00 10.00");
}

#[test]
fn who_has_no_word_for_taking_back_rejects_what_was_approved() {
    let text = CATALOG.replace("id = \"acme\"", "id = \"acme\"\npreset = \"keitaro\"");
    let defaults = NetworkDefaults { currency: Currency::USD, time_zone: jiff::tz::TimeZone::UTC };
    let (checked, _) = parse(&text, "catalog.toml", &defaults).expect("a sound catalog");
    let catalog = checked.into_catalog(7, &First).expect("numbers");
    let check = |history: &str, text: &str, expected: Option<Status>| {
        let (record, market) = (record("sale", history), Market::closed(Currency::USD));
        let anew = changed(&record, &heard(text), &catalog, &market).expect("legal");
        let told = anew.map(|anew| {
            let last = anew.history.last().expect("a step");
            assert_eq!((last.status, last.booked_payout), (anew.status, 0));
            anew.status().expect("a status")
        });
        assert_eq!(told, expected, "{history}: {text}");
    };
    check("pending postback", "rejected", Some(Status::Rejected));
    check("approved postback", "rejected", Some(Status::Reversed));
    check("approved postback", "rejected network", Some(Status::Reversed));
    check("approved postback reversed postback", "rejected", None);
    check("rejected postback", "rejected", None);
}

#[test]
fn what_was_rejected_is_approved_only_where_the_event_allows_it() {
    let lenient = record("lenient", "pending postback rejected postback");
    assert_eq!(outcome(&lenient, "approved"), "approved postback 20.00 10.00");
    let unknown = record("gone", "pending postback rejected postback");
    assert_eq!(outcome(&unknown, "approved"), "illegal_transition");
}

#[test]
fn an_approval_that_the_offer_held_back_is_not_given_by_saying_it_again() {
    let check = |history: &str, text: &str, expected: &str| {
        assert_eq!(outcome(&record("sale", history), text), expected, "{history}: {text}");
    };
    check("pending held", "approved", "");
    check("pending held pending repriced", "approved", "");
    check("pending held", "approved amount=50", "pending postback 0.00 0.00");
    check("pending held", "rejected", "rejected postback 0.00 0.00");
    check("pending held", "approved network", "approved upload 20.00 10.00");
}

#[test]
fn what_fraud_rules_have_rejected_only_the_network_approves() {
    let check = |event, history: &str, text: &str, expected: &str| {
        assert_eq!(outcome(&record(event, history), text), expected, "{history}: {text}");
    };
    for reason in ["fraud:too_fast", "fraud:too_fast,repeated_ip"] {
        let history = format!("rejected {reason}");
        check("lenient", &history, "approved", "");
        check("lenient", &history, "approved amount=50", "");
        check("lenient", &history, "rejected", "");
        check("lenient", &history, "reversed", "illegal_transition");
        check("lenient", &history, "approved network", "approved upload 20.00 10.00");
        check("sale", &history, "approved", "");
        check("sale", &history, "approved network", "illegal_transition");
        let approved = format!("{history} approved upload");
        check("lenient", &approved, "approved", "");
        check("lenient", &approved, "reversed", "reversed postback 0.00 0.00");
    }
    check("lenient", "rejected fraudulent", "approved", "approved postback 20.00 10.00");
}

#[test]
fn what_a_negative_event_has_rejected_only_the_network_approves() {
    let check = |history: &str, text: &str, expected: &str| {
        assert_eq!(outcome(&record("lenient", history), text), expected, "{history}: {text}");
    };
    // The history says so, whether the catalog still has the event or not.
    for reason in ["refund", "refund@2026-11-20T09:30:00Z", "gone", "gone@2026-11-20T09:30:00Z"] {
        let history = format!("pending postback rejected {reason}");
        check(&history, "approved", "");
        check(&history, "approved network", "approved upload 20.00 10.00");
        // A part of it was taken back, and it was rejected for another reason.
        let part = format!("pending postback pending {reason} rejected postback");
        check(&part, "approved", "approved postback 20.00 10.00");
        let priced = format!("{history} rejected repriced rejected erased");
        check(&priced, "approved", "");
    }
    for reason in ["postback", "postback@2026-11-20T09:30:00Z", "upload"] {
        let history = format!("pending tier:100 rejected {reason} rejected repriced");
        check(&history, "approved", "approved postback 20.00 10.00");
    }
    check("rejected postback", "approved", "approved postback 20.00 10.00");
}

#[test]
fn another_amount_is_priced_anew_while_the_conversion_can_earn() {
    let check = |history: &str, text: &str, expected: &str| {
        assert_eq!(outcome(&record("sale", history), text), expected, "{history}: {text}");
    };
    check("approved postback", "approved amount=50", "approved postback 10.00 5.00");
    check("approved postback", "approved amount=100", "");
    check("approved postback", "pending amount=50", "");
    check("pending postback", "pending amount=50", "pending postback 0.00 0.00");
    check("pending postback", "approved amount=50", "approved postback 10.00 5.00");
    check("rejected postback", "rejected amount=50", "");
    check("approved postback", "approved payout=3", "");
    let anew = change(&record("sale", "pending postback"), "pending amount=50").expect("legal");
    let anew = anew.expect("another amount");
    assert_eq!((anew.amount, anew.payout), (Some(amount("50")), amount("5")));
    assert_eq!((anew.catalog_version, anew.received_ms), (7, 1000));
}

#[test]
fn what_is_booked_keeps_its_currency_and_the_events_may_be_named() {
    let mut booked = record("sale", "approved postback");
    booked.currency = *b"EUR";
    assert_eq!(outcome(&booked, "approved amount=50"), "illegal_transition");
    assert_eq!(outcome(&booked, "reversed"), "reversed postback 0.00 0.00");
    let mut named = record("sale", "approved postback");
    named.amount_currency = Some(*b"USD");
    assert_eq!(outcome(&named, "approved amount=100"), "", "USD is the event's");
}

#[test]
fn what_happened_before_the_last_step_is_nothing_new_if_both_times_were_sent() {
    let check = |last_event_ms: u64, text: &str, expected: &str| {
        let mut record = record("sale", "approved postback");
        record.history[0].event_time_ms = last_event_ms;
        assert_eq!(outcome(&record, text), expected, "{last_event_ms}: {text}");
    };
    let reversed = "reversed postback 0.00 0.00";
    check(500, "reversed at=499", "");
    check(500, "rejected at=499", "");
    check(500, "reversed at=500", reversed);
    check(500, "reversed", reversed);
    check(99_000, "reversed", reversed);
    // The last step's time is that of its receipt: a sender's clock says nothing about it.
    check(1000, "reversed at=999", reversed);
}

#[test]
fn what_happened_before_the_last_known_time_is_old_whatever_came_since() {
    let check = |text: &str, expected: &str| {
        let mut record = record("sale", "pending postback approved upload approved refund");
        record.history[0].event_time_ms = 500;
        assert_eq!(outcome(&record, text), expected, "{text}");
    };
    check("approved amount=50 at=499", "");
    check("approved amount=50 at=500", "approved postback 10.00 5.00");
    check("approved amount=50", "approved postback 10.00 5.00");
    check("reversed at=499", "");
}

#[test]
fn a_part_that_is_taken_back_later_does_not_make_what_else_is_said_old() {
    let check = |history: &str, text: &str, expected: &str| {
        let mut record = record("sale", history);
        record.history[0].event_time_ms = 500;
        record.history.last_mut().expect("a step").event_time_ms = 600;
        assert_eq!(outcome(&record, text), expected, "{history}: {text}");
    };
    // A sender that says of all news when the sale was.
    check("pending postback pending refund", "approved at=500", "approved postback 20.00 10.00");
    check("pending postback pending refund", "rejected at=500", "rejected postback 0.00 0.00");
    check("approved postback approved refund", "reversed at=500", "reversed postback 0.00 0.00");
    let from_the_log = "approved postback approved refund@1970-01-01T00:00:01Z";
    check(from_the_log, "reversed at=500", "reversed postback 0.00 0.00");
    check("pending postback pending refund", "approved at=499", "");
    check("approved postback approved upload", "reversed at=500", "");
    check("approved postback approved postback@1970-01-01T00:00:01Z", "reversed at=500", "");
    // What is taken back whole stays so.
    check("pending postback rejected refund", "approved at=500", "");
    check("approved postback reversed refund", "approved at=500", "");
}

#[test]
fn whole_seconds_are_not_older_than_a_part_of_the_same_second() {
    let check = |last_ms: u64, text: &str, expected: &str| {
        let mut record = record("sale", "approved postback");
        record.history[0].time_ms = 9500;
        record.history[0].event_time_ms = last_ms;
        assert_eq!(outcome(&record, text), expected, "{last_ms}: {text}");
    };
    let reversed = "reversed postback 0.00 0.00";
    check(5400, "reversed at=5000", reversed);
    check(5999, "reversed at=5000", reversed);
    check(6000, "reversed at=5000", "");
    check(5400, "reversed at=5001", "");
    check(5400, "reversed at=4000", "");
}

#[test]
fn what_the_server_makes_of_earlier_words_is_none() {
    let history = "approved postback approved repriced approved erased";
    let mut record = record("sale", history);
    assert_eq!(record.last_word(), Some(&record.history[0]));
    record.received_ms = 500;
    assert_eq!(record.last_word_received_ms(), Some(500), "before it was booked");
    let reason = "postback@1970-01-01T00:00:00.7Z";
    record.history.push(HistoryEntry { time_ms: 2000, reason, ..record.history[0] });
    record.history.push(HistoryEntry { time_ms: 3000, ..record.history[1] });
    assert_eq!(record.last_word_received_ms(), Some(700));
}

#[test]
fn what_came_too_late_pays_the_affiliate_nothing_by_another_amount() {
    let mut late = record("lenient", "pending postback");
    late.flags = Flag::Late.bit();
    late.payout = 0;
    assert_eq!(outcome(&late, "approved amount=50"), "approved postback 10.00 0.00");
    assert_eq!(outcome(&late, "pending payout=5"), "");
}

#[test]
fn a_history_ends_somewhere() {
    let mut record = record("sale", "pending postback");
    record.history = vec![record.history[0]; HISTORY_STEPS_MAX];
    assert_eq!(outcome(&record, "pending amount=50"), "illegal_transition");
    assert_eq!(outcome(&record, "approved"), "approved postback 20.00 10.00", "it can end");
    record.history.pop();
    assert_eq!(outcome(&record, "pending amount=50"), "pending postback 0.00 0.00");
}

#[test]
fn a_refusal_names_the_status_that_the_conversion_has() {
    for &status in Status::ALL {
        for &said in Status::ALL {
            if status.step(said, false) == Step::Illegal {
                let hint = illegal(status, said).hint.expect("a hint");
                assert!(hint.contains(status.as_str()), "{hint}");
            }
        }
    }
}

#[test]
fn what_was_a_negative_event_stays_one_and_what_was_none_never_becomes_one() {
    // The catalog may say otherwise by now.
    for event in ["lenient", "refund", "gone"] {
        let negative = record(event, "approved negative_event");
        assert_eq!(outcome(&negative, "approved amount=50 network"), "", "{event}");
        for status in ["rejected network", "reversed network"] {
            assert_eq!(outcome(&negative, status), "illegal_transition", "{event} {status}");
        }
    }
    let was_plain = record("refund", "pending postback");
    assert_eq!(outcome(&was_plain, "rejected network"), "rejected upload 0.00 0.00");
}
