use proptest::prelude::*;

use super::*;
use crate::store::records::{EarnedInBase, HistoryEntry};

const DAY_MS: u64 = 24 * 60 * 60 * 1000;
const MINTED_MS: u64 = 20_000 * DAY_MS + 5;

fn id() -> RecordId {
    let mut bytes = [3; 16];
    bytes[..6].copy_from_slice(&MINTED_MS.to_be_bytes()[2..]);
    RecordId::from_bytes(bytes)
}

/// A conversion whose steps were received at these times, with these bookings.
fn record(steps: &[(u64, i64, i64)]) -> ConversionRecord<'static> {
    let step = |&(time_ms, booked_revenue, booked_payout): &(u64, i64, i64)| HistoryEntry {
        status: 2,
        time_ms,
        event_time_ms: 0,
        booked_revenue,
        booked_payout,
        booked_base: None,
        reason: "",
    };
    ConversionRecord {
        click: [8; 16],
        status: 2,
        currency: *b"USD",
        history: steps.iter().map(step).collect(),
        ..ConversionRecord::default()
    }
}

#[test]
fn a_step_whose_day_is_sealed_is_deferred_with_those_after_it() {
    let days = |record: &ConversionRecord<'_>| {
        postings(id(), record).map(|posting| posting.key.day.get()).collect::<Vec<_>>()
    };
    let at = |days: u64| MINTED_MS + days * DAY_MS;
    let check = |steps: &[u64], first: usize, to: u32, expected: &[u32]| {
        let steps: Vec<_> = steps.iter().zip(1..).map(|(time_ms, n)| (*time_ms, n, n)).collect();
        let record = record(&steps);
        let later = deferred(id(), &record, first, Day::new(to));
        assert_eq!(days(&later), expected, "{steps:?} {first} {to}");
        assert_eq!(later.history, record.history, "times stay those of the receipt");
        assert_eq!(later.deferred.len(), usize::from(*later != record));
        // It is decided once.
        assert_eq!(deferred(id(), &later, first, Day::new(to)), later);
        later.into_owned()
    };
    check(&[at(0)], 0, 0, &[20_000]);
    check(&[at(0)], 0, 20_000, &[20_000]);
    check(&[at(0)], 0, 20_001, &[20_001]);
    // A clock that was set back posts to the day of the ID, if that is not sealed.
    check(&[at(0) - 9 * DAY_MS], 0, 20_000, &[20_000]);
    check(&[at(0), at(1), at(3)], 1, 20_001, &[20_000, 20_001, 20_003]);
    check(&[at(0), at(1), at(3)], 2, 20_003, &[20_000, 20_001, 20_003]);
    check(&[at(0), at(1), at(1), at(3)], 1, 20_002, &[20_000, 20_002, 20_002, 20_003]);
    // Another seal later.
    let mut twice = check(&[at(0), at(1)], 1, 20_002, &[20_000, 20_002]);
    twice.history.push(HistoryEntry { booked_payout: 7, ..twice.history[1] });
    assert_eq!(days(&deferred(id(), &twice, 2, Day::new(20_002))), [20_000, 20_002, 20_002]);
    assert_eq!(days(&deferred(id(), &twice, 2, Day::new(20_005))), [20_000, 20_002, 20_005]);
    // There is no such step.
    check(&[at(0)], 1, 20_009, &[20_000]);
}

#[test]
fn each_step_posts_what_it_changed_on_its_day() {
    let check = |steps: &[(u64, i64, i64)], expected: &[(u16, u32, i128, i128, i128)]| {
        let posted: Vec<_> = postings(id(), &record(steps))
            .map(|Posting { key, record }| {
                assert_eq!((key.conversion, record.currency), (id(), *b"USD"));
                assert_eq!(key.affiliate.to_be_bytes(), [8; 3], "the click's affiliate");
                let Entries { receivable, payable, margin } = record.entries;
                (key.step, key.day.get(), receivable, payable, margin)
            })
            .collect();
        assert_eq!(posted, expected, "{steps:?}");
    };
    let (first, second, third) = (MINTED_MS, MINTED_MS + DAY_MS, MINTED_MS + 2 * DAY_MS);
    check(&[], &[]);
    check(&[(first, 0, 0)], &[]);
    check(&[(first, 20, 15)], &[(0, 20_000, 20, -15, -5)]);
    // Pending, approved, told again, reversed in part, reversed.
    check(
        &[(first, 0, 0), (second, 20, 15), (second, 20, 15), (third, 8, 6), (third, 0, 0)],
        &[(1, 20_001, 20, -15, -5), (3, 20_002, -12, 9, 3), (4, 20_002, -8, 6, 2)],
    );
    // The affiliate is paid more than the network earns.
    check(&[(first, 1, 4)], &[(0, 20_000, 1, -4, 3)]);
    // A clock that was set back posts to no earlier day.
    check(
        &[(0, 1, 0), (second, 2, 0), (first, 3, 0)],
        &[(0, 20_000, 1, 0, -1), (1, 20_001, 1, 0, -1), (2, 20_001, 1, 0, -1)],
    );
}

/// A step: what is booked, and what that is in another currency, if it is converted.
type Step = (i64, i64, Option<(&'static str, i64, i64)>);

/// A conversion in euros with these steps.
fn converted(steps: &[Step]) -> ConversionRecord<'static> {
    let times: Vec<_> = steps.iter().map(|(revenue, payout, _)| (0, *revenue, *payout)).collect();
    let mut record = ConversionRecord { currency: *b"EUR", ..record(&times) };
    for (entry, (.., base)) in record.history.iter_mut().zip(steps) {
        entry.booked_base = base.map(|(code, revenue, payout)| EarnedInBase {
            currency: code.as_bytes().try_into().expect("three letters"),
            revenue,
            payout,
        });
    }
    record
}

fn balances(record: &ConversionRecord<'_>) -> Balances {
    let mut balances = Balances::default();
    postings(id(), record).for_each(|posting| balances.add(&posting.record));
    balances
}

#[test]
fn each_step_converts_what_it_posts_and_what_had_to_wait() {
    // Of each posting: step, its payable, and what it converts: base, postings, payables.
    type Posted = (u16, i128, Vec<(&'static str, i64, i128, i128)>);
    let check = |steps: &[Step], expected: &[Posted]| {
        let posted: Vec<_> = postings(id(), &converted(steps))
            .map(|Posting { key, record }| {
                assert!(record.entries.sum_to_zero());
                let converted = record.converted.iter().map(|it| {
                    assert!(it.own.sum_to_zero() && it.worth.sum_to_zero());
                    let base = if it.base == *b"USD" { "USD" } else { "GBP" };
                    (base, it.postings, it.own.payable, it.worth.payable)
                });
                (key.step, record.entries.payable, converted.collect())
            })
            .collect();
        assert_eq!(posted, expected, "{steps:?}");
    };
    let (usd, gbp) = (|revenue, payout| Some(("USD", revenue, payout)), Some(("GBP", 5, 4)));
    check(&[(20, 15, usd(22, 17))], &[(0, -15, vec![("USD", 1, -15, -17)])]);
    check(&[(20, 15, usd(0, 0))], &[(0, -15, vec![("USD", 1, -15, 0)])]);
    // Pending, approved, told again, reversed in part, reversed.
    check(
        &[
            (0, 0, usd(0, 0)),
            (20, 15, usd(22, 17)),
            (20, 15, usd(22, 17)),
            (8, 6, usd(9, 7)),
            (0, 0, usd(0, 0)),
        ],
        &[
            (1, -15, vec![("USD", 1, -15, -17)]),
            (3, 9, vec![("USD", 1, 9, 10)]),
            (4, 6, vec![("USD", 1, 6, 7)]),
        ],
    );
    // Approved and reversed in part without a rate, which comes later.
    check(
        &[(20, 15, None), (8, 6, None), (8, 6, usd(9, 7)), (0, 0, usd(0, 0))],
        &[
            (0, -15, vec![]),
            (1, 9, vec![]),
            (2, 0, vec![("USD", 3, -6, -7)]),
            (3, 6, vec![("USD", 1, 6, 7)]),
        ],
    );
    // Reversed before its rate comes: two postings are worth nothing.
    check(
        &[(20, 15, None), (0, 0, None), (0, 0, usd(0, 0))],
        &[(0, -15, vec![]), (1, 15, vec![]), (2, 0, vec![("USD", 3, 0, 0)])],
    );
    // Another amount, for which there is no rate any more; and one of nothing.
    check(
        &[(20, 15, usd(22, 17)), (24, 18, None)],
        &[(0, -15, vec![("USD", 1, -15, -17)]), (1, -3, vec![("USD", -1, 15, 17)])],
    );
    check(
        &[(20, 15, usd(22, 17)), (0, 0, None)],
        &[(0, -15, vec![("USD", 1, -15, -17)]), (1, 15, vec![("USD", 1, 15, 17)])],
    );
    // The network counts in another currency from then on.
    check(
        &[(20, 15, usd(22, 17)), (8, 6, gbp)],
        &[
            (0, -15, vec![("USD", 1, -15, -17)]),
            (1, 9, vec![("USD", -1, 15, 17), ("GBP", 2, -6, -4)]),
        ],
    );
    // Nothing was booked, nothing is posted.
    check(&[(0, 0, usd(0, 0)), (0, 0, None), (0, 0, usd(0, 0))], &[]);
}

#[test]
fn a_total_is_what_is_converted_and_the_rest_is_named() {
    let mut balances = balances(&converted(&[(20, 15, Some(("USD", 22, 17)))]));
    let waiting = ConversionRecord { currency: *b"JPY", ..converted(&[(900, 600, None)]) };
    postings(id(), &waiting).for_each(|posting| balances.add(&posting.record));
    let dollars = ConversionRecord { currency: *b"USD", ..converted(&[(3, 2, None)]) };
    postings(id(), &dollars).for_each(|posting| balances.add(&posting.record));
    let rest = |code: &[u8; 3], revenue, payout| Balance {
        currency: *code,
        postings: 1,
        entries: Entries::of(revenue, payout),
    };
    let check = |base: &[u8; 3], entries, not_converted: &[Balance]| {
        let total = balances.total(*base);
        assert_eq!((total.entries, &total.not_converted[..]), (entries, not_converted));
    };
    check(b"USD", Entries::of(25, 19), &[rest(b"JPY", 900, 600)]);
    // A network that counts in euros now has them as they are, and nothing else.
    let others = [rest(b"JPY", 900, 600), rest(b"USD", 3, 2)];
    check(b"EUR", Entries::of(20, 15), &others);
    check(b"JPY", Entries::of(900, 600), &[rest(b"EUR", 20, 15), rest(b"USD", 3, 2)]);
}

/// Any history, converted or not, by two bases.
fn steps() -> impl Strategy<Value = Vec<Step>> {
    let base = prop_oneof![Just("USD"), Just("GBP")];
    let base = prop::option::of((base, any::<i64>(), any::<i64>()));
    let own = prop_oneof![any::<(i64, i64)>(), Just((0, 0))];
    let step = (own, base).prop_map(|((revenue, payout), base)| (revenue, payout, base));
    prop::collection::vec(step, 0..20)
}

proptest! {
    #[test]
    fn the_entries_of_any_history_sum_to_zero_and_to_what_is_booked_last(
        steps in prop::collection::vec(any::<(u64, i64, i64)>(), 0..20),
    ) {
        let record = record(&steps);
        let (mut sums, mut keys) = (Balances::default(), Vec::new());
        for posting in postings(id(), &record) {
            prop_assert!(posting.record.entries.sum_to_zero());
            sums.add(&posting.record);
            keys.push(posting.key);
            let mut value = Vec::new();
            posting.record.encode(&mut value);
            prop_assert_eq!(PostingRecord::decode(&value), Ok(posting.record));
        }
        let (_, revenue, payout) = steps.last().copied().unwrap_or_default();
        let booked = Entries::of(revenue.into(), payout.into());
        prop_assert_eq!(sums.of(*b"USD").entries, booked);
        // What was never converted is in its own currency alone.
        prop_assert_eq!(sums.total(*b"USD").entries, booked);
        prop_assert_eq!(sums.total(*b"EUR").entries, Entries::default());
        prop_assert!(keys.is_sorted_by(|one, other| one < other), "keys ascend, none twice");
    }

    #[test]
    fn what_is_converted_is_what_the_last_step_says_and_the_rest_is_not(steps in steps()) {
        let sums = balances(&converted(&steps));
        let (revenue, payout, base) = steps.last().copied().unwrap_or_default();
        let own = Entries::of(revenue.into(), payout.into());
        for code in ["USD", "GBP"] {
            let base = base.filter(|base| base.0 == code);
            let worth = base.map_or((0, 0), |(_, revenue, payout)| (revenue, payout));
            let (worth, rest) = (Entries::of(worth.0.into(), worth.1.into()), {
                if base.is_some() { Entries::default() } else { own }
            });
            let code = code.as_bytes().try_into().expect("three letters");
            let (found, not_converted) = sums.in_base(*b"EUR", code);
            prop_assert_eq!((found, not_converted.entries), (worth, rest));
            prop_assert!(base.is_none() || not_converted.postings == 0);
            prop_assert!(not_converted.postings <= sums.of(*b"EUR").postings);
        }
        prop_assert_eq!(sums.total(*b"EUR").entries, own);
    }

    /// Taken back in any parts, at any rate: what is left is worth what its amounts are, rounded
    /// once, and when nothing is left nothing is.
    #[test]
    fn what_is_taken_back_in_parts_sums_to_nothing_in_the_networks_currency(
        (revenue, payout) in (0..=10_000_000_000_i64, -10_000_000_i64..=10_000_000_000),
        rate in (1..=u64::from(u32::MAX), 1..=u64::from(u32::MAX)),
        amount in 1..=1_000_000_000_i64,
        parts in prop::collection::vec(1..=400_000_000_i64, 0..12),
    ) {
        use crate::model::status::Status;
        use crate::store::records::{Exchanged, InBase};
        let base = InBase { currency: *b"USD", rate, revenue: 0, payout: 0 };
        let mut record = ConversionRecord {
            amount: Some(amount),
            revenue,
            payout,
            exchanged: Some(Box::new(Exchanged { base: Some(base), ..Exchanged::default() })),
            ..converted(&[])
        };
        let step = |record: &mut ConversionRecord<'static>, status| {
            record.history.push(HistoryEntry::new(status, 0, None, record.earned(), ""));
        };
        step(&mut record, Status::Approved);
        for part in parts {
            if record.reversed_amount + part >= amount {
                break;
            }
            record.reversed_amount += part;
            step(&mut record, Status::Approved);
            let earned = record.earned();
            let whole = base.of(earned.revenue, earned.payout).expect("fits");
            let worth = Entries::of(whole.revenue.into(), whole.payout.into());
            prop_assert_eq!(balances(&record).total(*b"USD").entries, worth);
        }
        step(&mut record, Status::Reversed);
        let sums = balances(&record);
        prop_assert_eq!(sums.of(*b"EUR").entries, Entries::default());
        prop_assert_eq!(sums.total(*b"USD"), Total::default());
    }

    #[test]
    fn a_history_that_grows_keeps_its_postings(steps in steps(), known in 0usize..20) {
        let known = known.min(steps.len());
        let before: Vec<_> = postings(id(), &converted(&steps[..known])).collect();
        let after: Vec<_> = postings(id(), &converted(&steps)).collect();
        prop_assert_eq!(&after[..before.len()], &before[..], "posting twice changes nothing");
    }

    #[test]
    fn sums_are_taken_apart_again(one in steps(), other in steps()) {
        let (first, second) = (balances(&converted(&one)), balances(&converted(&other)));
        let mut both = first.clone();
        both.add_all(&second);
        prop_assert_eq!(both.less(&first), second);
    }
}
