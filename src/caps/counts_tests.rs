use std::collections::BTreeMap;

use jiff::tz::TimeZone;
use proptest::prelude::*;

use super::*;
use crate::model::money::Micros;

const EVENTS: [&str; 3] = ["sale", "lead", "deposit"];

fn affiliate(number: u32) -> AffiliateNumber {
    AffiliateNumber::new(number).expect("24 bits")
}

fn berlin() -> Counts {
    Counts::new(Calendar::new(TimeZone::get("Europe/Berlin").expect("bundled")), true)
}

fn one(minted: &str, payout: i64) -> Counted<'static> {
    let moment: jiff::Timestamp = minted.parse().expect("a time");
    let minted_ms = u64::try_from(moment.as_millisecond()).expect("after 1970");
    let affiliate = affiliate(7);
    Counted { minted_ms, event: "sale", currency: *b"USD", affiliate, payout }
}

fn a_day(count: u64) -> Cap {
    Cap::new(Whose::Offer, Vec::new(), Period::Day, Some(count), None)
}

#[test]
fn a_cap_opens_anew_at_the_midnight_of_the_time_zone() {
    let (mut counts, cap) = (berlin(), a_day(2));
    let mut check = |minted: &str, has_room: bool| {
        let one = one(minted, 1);
        counts.move_on(one.minted_ms);
        assert_eq!(counts.lacks_room(&cap, &one).is_none(), has_room, "{minted}");
        if has_room {
            counts.add(&one);
        }
    };
    check("2026-03-28T22:59:59.999Z", true);
    // 23 hours of summer time's first day.
    check("2026-03-28T23:00:00Z", true);
    check("2026-03-29T01:00:00Z", true);
    check("2026-03-29T21:59:59.999Z", false);
    check("2026-03-29T22:00:00Z", true);
    // Minted before the change, counted after it: the day before is full, too.
    check("2026-03-29T21:59:59.999Z", false);
    check("2026-03-30T00:00:00Z", true);
    check("2026-03-30T21:00:00Z", false);
    // 25 hours.
    check("2026-10-24T22:00:00Z", true);
    check("2026-10-25T22:59:59Z", true);
    check("2026-10-25T22:59:59.999Z", false);
    check("2026-10-25T23:00:00Z", true);
}

#[test]
fn days_and_months_without_conversions_are_not_those_before() {
    let mut counts = berlin();
    let (day, month) = (a_day(1), Cap::new(Whose::Offer, Vec::new(), Period::Month, Some(1), None));
    let mut check = |minted: &str, room: [bool; 2], of_month: u64| {
        let one = one(minted, 1);
        counts.move_on(one.minted_ms);
        let has_room = [&day, &month].map(|cap| counts.lacks_room(cap, &one).is_none());
        assert_eq!(has_room, room, "{minted}");
        assert_eq!(counts.in_month("sale", one.affiliate, one.minted_ms), of_month, "{minted}");
        counts.add(&one);
    };
    check("2026-01-10T12:00:00Z", [true, true], 0);
    check("2026-03-31T22:00:00Z", [true, true], 0);
    // Minted before the change, counted after it, and the first of its day and of its month.
    check("2026-03-31T21:59:59.999Z", [true, true], 0);
    check("2026-03-31T21:59:59.999Z", [false, false], 1);
    check("2026-04-03T22:00:00Z", [true, false], 1);
    check("2026-04-03T21:59:59.999Z", [true, false], 2);
    check("2026-04-03T21:59:59.999Z", [false, false], 3);
    // So late that nobody knows.
    check("2026-03-31T22:00:00Z", [true, false], 4);
}

#[test]
fn what_is_approved_before_its_day_has_counted_any_counts_in_it() {
    let mut counts = berlin();
    counts.add(&one("2026-06-01T12:00:00Z", 1));
    // Minted today and rejected, so that it was not counted; then approved.
    let approved = one("2026-06-02T12:00:00Z", 1);
    let prepared = counts.prepare(&approved);
    counts.add_prepared(&prepared);
    let next = one("2026-06-02T13:00:00Z", 1);
    counts.move_on(next.minted_ms);
    assert!(counts.lacks_room(&a_day(1), &next).is_some(), "today's place is taken");
}

#[test]
fn what_is_given_back_after_the_change_of_day_makes_no_room_in_the_next() {
    let (mut counts, cap) = (berlin(), a_day(1));
    let before = counts.add(&one("2026-03-28T22:59:59Z", 1));
    let next = one("2026-03-28T23:00:00Z", 1);
    counts.move_on(next.minted_ms);
    counts.add(&next);
    counts.remove(&before);
    assert!(counts.lacks_room(&cap, &next).is_some());
    assert!(counts.lacks_room(&cap, &one("2026-03-28T22:59:59Z", 1)).is_none());
}

#[test]
fn a_payout_cap_pays_what_fits_whole_and_nothing_of_the_rest() {
    let payout = Some(Micros::new(10));
    let cap = Cap::new(Whose::Offer, Vec::new(), Period::Month, None, payout);
    let mut counts = berlin();
    let mut check = |payout, has_room: bool| {
        let one = one("2026-03-28T12:00:00Z", payout);
        counts.move_on(one.minted_ms);
        assert_eq!(counts.lacks_room(&cap, &one).is_none(), has_room, "{payout}");
        if has_room {
            counts.add(&one);
        }
    };
    check(7, true);
    check(4, false);
    check(3, true);
    check(1, false);
    check(0, true);
    check(-2, true);
    check(2, true);
}

/// A conversion in the simplest words: when, event, currency, affiliate, payout.
type Plain = (u64, usize, bool, u32, i64);

fn counted((minted_ms, event, euros, number, payout): Plain) -> Counted<'static> {
    let currency = if euros { *b"EUR" } else { *b"USD" };
    let affiliate = affiliate(number);
    Counted { minted_ms, event: EVENTS[event], currency, affiliate, payout }
}

fn caps() -> Vec<Cap> {
    let mut caps = Vec::new();
    for whose in [Whose::Offer, Whose::EachAffiliate, Whose::Affiliate("2".into(), affiliate(2))] {
        for events in [&[][..], &["sale"], &["sale", "lead"]] {
            for period in Period::ALL {
                let events = events.iter().map(|event| Box::from(*event)).collect();
                let payout = Some(Micros::new(60));
                caps.push(Cap::new(whose.clone(), events, *period, Some(7), payout));
            }
        }
    }
    caps
}

/// What a cap allows, by looking at everything that was taken in.
fn lacks_room_plainly(cap: &Cap, taken: &BTreeMap<usize, Plain>, next: Plain) -> bool {
    let calendar = Calendar::new(TimeZone::get("Europe/Berlin").expect("bundled"));
    let span = calendar.span(cap.period, next.0);
    let next = counted(next);
    if !cap.counts_event(next.event) || !cap.counts_affiliate(next.affiliate) {
        return false;
    }
    let same = |one: &Counted<'_>| {
        span.contains(one.minted_ms)
            && cap.counts_event(one.event)
            && (cap.whose == Whose::Offer || one.affiliate == next.affiliate)
    };
    let all: Vec<_> = taken.values().map(|one| counted(*one)).filter(same).collect();
    let in_currency = all.iter().filter(|one| one.currency == next.currency);
    let payout = in_currency.map(|one| one.payout).sum::<i64>() + next.payout;
    all.len() >= 7 || (next.payout > 0 && payout > 60)
}

proptest! {
    #[test]
    fn counts_agree_with_a_count_of_everything(
        steps in prop::collection::vec(
            (
                (0..40_000_000_u64, 0..8_u8, 0..3_000_u64),
                0..3_usize,
                any::<bool>(),
                1..4_u32,
                -3..20_i64,
                any::<u8>(),
            ),
            1..120,
        ),
    ) {
        // The end of March, when clocks change, so that days and the month end.
        let mut now_ms = one("2026-03-27T12:00:00Z", 0).minted_ms;
        let (mut counts, caps) = (berlin(), caps());
        let (mut taken, mut places) = (BTreeMap::new(), BTreeMap::new());
        for (number, (moment, event, euros, who, payout, choice)) in steps.into_iter().enumerate() {
            let (step, pause, late) = moment;
            now_ms += match pause {
                // Days without any, and the first moment after them.
                0 => counts.calendar.span(Period::Day, now_ms + 9 * step).to_ms - now_ms,
                1..4 => step % 1_000,
                _ => step,
            };
            // Its ID was minted just before that of another, which took its place first.
            let minted_ms = now_ms - late;
            let next = (minted_ms, event, euros, who, payout);
            if pause == 0 {
                let earlier = (now_ms, event, !euros, who, 0);
                places.insert(usize::MAX - number, counts.add(&counted(earlier)));
                taken.insert(usize::MAX - number, earlier);
            }
            counts.move_on(minted_ms);
            for cap in &caps {
                let lacks = counts.lacks_room(cap, &counted(next)).is_some();
                prop_assert_eq!(lacks, lacks_room_plainly(cap, &taken, next), "{:?}", cap);
            }
            let month = Cap::new(Whose::EachAffiliate, vec![EVENTS[event].into()], Period::Month, None, None);
            let of_month = counts.in_month(EVENTS[event], affiliate(who), minted_ms);
            prop_assert_eq!(of_month, counts.sum(&month, &counted(next)).count);
            places.insert(number, counts.add(&counted(next)));
            taken.insert(number, next);
            if choice < 80 && let Some(gone) = taken.keys().nth(usize::from(choice) % taken.len()).copied() {
                taken.remove(&gone);
                counts.remove(&places[&gone]);
            }
        }
    }
}
