use super::super::transition::tests::{amount, record};
use super::*;

fn reversal(text: &str) -> Reversal<'static> {
    let mut reversal = Reversal {
        reason: "refund",
        amount: None,
        currency: None,
        said_ms: Some(8000),
        now_ms: 9000,
    };
    for word in text.split(' ').filter(|word| !word.is_empty()) {
        match Currency::parse(word) {
            Ok(currency) => reversal.currency = Some(currency),
            Err(_) => reversal.amount = Some(Micros::new(amount(word))),
        }
    }
    reversal
}

/// Takes a conversion of 100.00 that earned 20.00 and 10.00 back by one negative event after the
/// other; what is booked in the end with its status, or why the last was refused.
fn outcome(history: &str, texts: &[&str]) -> String {
    let mut record = record("sale", history);
    for text in texts {
        match reversed(&record, &reversal(text), &|_| None) {
            Ok(anew) => record = anew,
            Err(refused) => return refused.reason.as_str().to_owned(),
        }
    }
    let last = record.history.last().expect("a step");
    assert_eq!((last.status, last.reason), (record.status, "refund"));
    let shown = |micros| Micros::new(micros).display(Currency::USD).to_string();
    let (revenue, payout) = (shown(last.booked_revenue), shown(last.booked_payout));
    format!("{} {revenue} {payout}", record.status().expect("a status").as_str())
}

#[test]
fn a_conversion_is_taken_back_whole_or_in_parts_and_never_below_nothing() {
    let check = |texts: &[&str], expected: &str| {
        assert_eq!(outcome("approved postback", texts), expected, "{texts:?}");
    };
    check(&[""], "reversed 0.00 0.00");
    check(&["100"], "reversed 0.00 0.00");
    check(&["500"], "reversed 0.00 0.00");
    check(&["25"], "approved 15.00 7.50");
    check(&["-25"], "approved 15.00 7.50");
    check(&["25 USD"], "approved 15.00 7.50");
    check(&["25", "25"], "approved 10.00 5.00");
    check(&["25", "75"], "reversed 0.00 0.00");
    check(&["25", ""], "reversed 0.00 0.00");
    check(&["33.333333", "33.333333", "33.333333"], "approved 0.00 0.00");
    check(&["33.333333", "33.333333", "33.333334"], "reversed 0.00 0.00");
}

#[test]
fn what_cannot_be_taken_back_is_refused() {
    let check = |history: &str, texts: &[&str], expected: &str| {
        assert_eq!(outcome(history, texts), expected, "{history}: {texts:?}");
    };
    check("rejected postback", &[""], "illegal_transition");
    check("reversed refund", &["1"], "illegal_transition");
    check("approved postback", &["", "1"], "illegal_transition");
    check("approved postback", &["100", "1"], "illegal_transition");
    check("approved postback", &["0"], "bad_amount");
    check("approved postback", &["25 EUR"], "bad_currency");
}

#[test]
fn what_is_pending_is_rejected_or_keeps_what_is_left_for_its_approval() {
    let check = |texts: &[&str], expected: &str| {
        assert_eq!(outcome("pending postback", texts), expected, "{texts:?}");
    };
    check(&[""], "rejected 0.00 0.00");
    check(&["100"], "rejected 0.00 0.00");
    check(&["25"], "pending 0.00 0.00");
    check(&["25", "75"], "rejected 0.00 0.00");
    check(&["", "1"], "illegal_transition");
    let part =
        reversed(&record("sale", "pending postback"), &reversal("25"), &|_| None).expect("a part");
    assert_eq!((part.earned().revenue, part.earned().payout), (amount("15"), amount("7.5")));
}

#[test]
fn a_part_needs_an_amount_that_it_is_a_part_of() {
    let mut record = record("sale", "approved postback");
    record.amount = None;
    let refused = reversed(&record, &reversal("25"), &|_| None).expect_err("of what?");
    assert_eq!(refused.reason, Refusal::BadAmount);
    let whole = reversed(&record, &reversal(""), &|_| None).expect("all of it");
    assert_eq!(whole.status(), Some(Status::Reversed));
}

#[test]
fn a_part_without_a_currency_is_in_the_events_own() {
    let mut yen = record("sale", "approved postback");
    yen.amount_currency = Some(*b"JPY");
    let check = |text: &str, expected: Result<&str, Refusal>| {
        let one = reversed(&yen, &reversal(text), &|_| None);
        let several = reversed_of(&[yen.clone(), yen.clone()], &reversal(text), &|_| None);
        let one = one.map(|anew| anew.status().expect("a status").as_str());
        assert_eq!(one.map_err(|refused| refused.reason), expected, "{text}");
        let several = several.map(|changed| changed.len()).map_err(|refused| refused.reason);
        assert_eq!(several, expected.map(|_| 1), "{text}");
    };
    // 25 dollars are not 25 yen.
    check("25", Err(Refusal::BadCurrency));
    check("25 USD", Err(Refusal::BadCurrency));
    check("25 JPY", Ok("approved"));
    let all = reversed(&yen, &reversal(""), &|_| None).expect("all of it needs no currency");
    assert_eq!(all.status(), Some(Status::Reversed));
}

#[test]
fn a_part_without_a_currency_is_in_none_where_the_event_has_changed_its_own() {
    let yen = Currency::parse("JPY").expect("a currency");
    let record = record("sale", "approved postback");
    let check = |text: &str, today: Currency, is_one: bool| {
        let one = reversed(&record, &reversal(text), &|_| Some(today));
        let two = [record.clone(), record.clone()];
        let several = reversed_of(&two, &reversal(text), &|_| Some(today));
        let bad =
            |refused: Refused| (refused.reason, refused.hint.expect("one").contains("in USD"));
        let expected = if is_one { Ok(()) } else { Err((Refusal::BadCurrency, true)) };
        assert_eq!(one.map(|_| ()).map_err(bad), expected, "{text} {}", today.as_str());
        assert_eq!(several.map(|_| ()).map_err(bad), expected, "{text} {}", today.as_str());
    };
    check("25", Currency::USD, true);
    // Neither the old nor the new one, nor what is all of it in one of them.
    check("25", yen, false);
    check("100", yen, false);
    check("25 USD", yen, true);
    check("25 JPY", yen, false);
    check("", yen, true);
    // What was sent in yen is not read in them because the event has them by now.
    let sent = ConversionRecord { amount_currency: Some(*b"JPY"), ..record };
    assert!(reversed(&sent, &reversal("25"), &|_| Some(yen)).is_err());
}

#[test]
fn price_and_amount_stay_what_they_were() {
    let before = record("sale", "approved postback");
    let anew = reversed(&before, &reversal("25"), &|_| None).expect("a part");
    assert_eq!((anew.amount, anew.revenue), (before.amount, before.revenue));
    assert_eq!(anew.earned_in(*b"USD"), Some((amount("15"), amount("7.5"))));
    let step = anew.history.last().expect("a step");
    assert_eq!((step.time_ms, step.event_time_ms), (9000, 8000));
}

/// What becomes of conversions of 100.00 each, the latest first, that are in these states, when a
/// customer's negative event takes them back: status and what has been taken back of each.
fn of_all(states: &[&str], text: &str) -> String {
    let before: Vec<_> = states
        .iter()
        .map(|state| match *state {
            "reversed" => reversed(&record("sale", "approved postback"), &reversal(""), &|_| None)
                .expect("all"),
            history => record("sale", history),
        })
        .collect();
    match reversed_of(&before, &reversal(text), &|_| None) {
        Err(refused) => refused.reason.as_str().to_owned(),
        Ok(changed) => {
            let shown = |(at, record): &(usize, ConversionRecord<'_>)| {
                let status = record.status().expect("a status").as_str();
                format!(
                    "{at} {status} {}",
                    Micros::new(record.reversed_amount).display(Currency::USD)
                )
            };
            changed.iter().map(shown).collect::<Vec<_>>().join(", ")
        }
    }
}

#[test]
fn of_several_those_that_can_be_are_taken_back_the_latest_first() {
    let (approved, pending) = ("approved postback", "pending postback");
    let check = |states: &[&str], text: &str, expected: &str| {
        assert_eq!(of_all(states, text), expected, "{states:?} {text}");
    };
    let three = [approved, approved, approved];
    check(&three, "", "0 reversed 0.00, 1 reversed 0.00, 2 reversed 0.00");
    check(&three, "130", "0 reversed 0.00, 1 approved 30.00");
    check(&three, "-130", "0 reversed 0.00, 1 approved 30.00");
    check(&three, "999", "0 reversed 0.00, 1 reversed 0.00, 2 reversed 0.00");
    check(&three, "130 EUR", "bad_currency");
    // Somebody was quicker with the latest.
    check(&["reversed", approved, approved], "50", "1 approved 50.00");
    check(&["reversed", approved, pending], "", "1 reversed 0.00, 2 rejected 0.00");
    check(&[pending, "rejected postback", approved], "130", "0 rejected 0.00, 2 approved 30.00");
    check(&["reversed", "reversed"], "", "illegal_transition");
    check(&["reversed", "reversed"], "50", "illegal_transition");
    check(&[], "", "unknown_conversion");
}

#[test]
fn a_share_is_in_the_currency_of_its_conversion_whatever_its_event_has() {
    let euros = record("sale", "approved postback");
    let euros = ConversionRecord { currency: *b"EUR", amount: Some(amount("30")), ..euros };
    let dollars = record("sale", "approved postback");
    let dollars = ConversionRecord { amount_currency: Some(*b"EUR"), ..dollars };
    let shares = |records: &[ConversionRecord<'_>], text: &str| {
        let changed = reversed_of(records, &reversal(text), &|_| None).expect("shares");
        changed.iter().map(|(at, anew)| (*at, anew.reversed_amount)).collect::<Vec<_>>()
    };
    // The amount is in the currency of the latest one's event, 30 of it are that one's whole.
    assert_eq!(shares(&[euros.clone(), dollars.clone()], "50"), [(0, 0), (1, amount("20"))]);
    assert_eq!(shares(&[euros, dollars], "50 EUR"), [(0, 0), (1, amount("20"))]);
}

#[test]
fn none_is_passed_over_because_nobody_knows_which_currency_is_meant() {
    let (sale, mut order) =
        (record("sale", "approved postback"), record("sale", "approved postback"));
    order.event = "order";
    let euros = |record: &ConversionRecord<'_>| {
        (record.event == "order").then(|| Currency::parse("EUR").expect("one"))
    };
    let check = |records: [&ConversionRecord<'_>; 2], text: &str, is_told: bool| {
        let records = records.map(Clone::clone);
        let changed = reversed_of(&records, &reversal(text), &euros);
        let reason = changed.err().map(|refused| refused.reason);
        assert_eq!(reason, is_told.then_some(Refusal::BadCurrency), "{text}");
    };
    for records in [[&sale, &order], [&order, &sale]] {
        check(records, "30", true);
        check(records, "30 USD", false);
        check(records, "", false);
    }
    // Nothing is left of it that could be meant.
    let gone = reversed(&order, &reversal(""), &euros).expect("all");
    check([&gone, &sale], "30", false);
}

#[test]
fn what_has_changed_too_often_is_passed_over_for_a_part_of_the_others() {
    let mut full = record("sale", "approved postback");
    full.history = vec![full.history[0]; HISTORY_STEPS_MAX];
    let other = record("sale", "approved postback");
    let taken = |records: &[ConversionRecord<'_>], text: &str| {
        let changed = reversed_of(records, &reversal(text), &|_| None);
        let of = |(at, anew): &(usize, ConversionRecord<'_>)| (*at, anew.reversed_amount);
        changed
            .map(|changed| changed.iter().map(of).collect::<Vec<_>>())
            .map_err(|refused| refused.reason)
    };
    assert_eq!(taken(&[full.clone(), other.clone()], "50"), Ok(vec![(1, amount("50"))]));
    // All of it can be taken back at any time.
    assert_eq!(taken(&[full.clone(), other.clone()], "130"), Ok(vec![(0, 0), (1, amount("30"))]));
    assert_eq!(taken(&[other, full.clone()], "130"), Ok(vec![(0, 0)]));
    assert_eq!(taken(&[full.clone(), full], "50"), Err(Refusal::IllegalTransition));
}
