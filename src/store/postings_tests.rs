use proptest::prelude::*;

use super::*;
use crate::store::records::HistoryEntry;

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
        reason: "",
    };
    ConversionRecord {
        click: [8; 16],
        click_mac: [0; 8],
        advertiser: "",
        offer: "",
        affiliate: "",
        event: "",
        txn_id: "",
        customer_id: "",
        status: 2,
        amount: None,
        amount_currency: None,
        reversed_amount: 0,
        revenue: 0,
        payout: 0,
        currency: *b"USD",
        quantity: None,
        flags: 0,
        event_time_ms: 0,
        received_ms: 0,
        catalog_version: 0,
        params: Vec::new(),
        history: steps.iter().map(step).collect(),
        claims: 0,
        exchanged: None,
    }
}

#[test]
fn each_step_posts_what_it_changed_on_its_day() {
    let check = |steps: &[(u64, i64, i64)], expected: &[(u16, u32, i128, i128, i128)]| {
        let posted: Vec<_> = postings(id(), &record(steps))
            .map(|Posting { key, record }| {
                assert_eq!((key.conversion, record.currency), (id(), *b"USD"));
                assert_eq!(key.affiliate.to_be_bytes(), [8; 3], "the click's affiliate");
                (key.step, key.day.get(), record.receivable, record.payable, record.margin)
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

proptest! {
    #[test]
    fn the_entries_of_any_history_sum_to_zero_and_to_what_is_booked_last(
        steps in prop::collection::vec(any::<(u64, i64, i64)>(), 0..20),
    ) {
        let record = record(&steps);
        let (mut sums, mut keys) = (Balances::default(), Vec::new());
        for posting in postings(id(), &record) {
            let PostingRecord { receivable, payable, margin, .. } = posting.record;
            prop_assert_eq!(receivable + payable + margin, 0);
            sums.add(&posting.record);
            keys.push(posting.key);
            let row = posting.row();
            prop_assert_eq!(PostingRecord::decode(row.split().1), Ok(posting.record));
        }
        let (_, revenue, payout) = steps.last().copied().unwrap_or_default();
        let sum = sums.of(*b"USD");
        prop_assert_eq!(sum.receivable, i128::from(revenue));
        prop_assert_eq!(sum.payable, -i128::from(payout));
        prop_assert_eq!(sum.margin, i128::from(payout) - i128::from(revenue));
        prop_assert!(keys.is_sorted_by(|one, other| one < other), "keys ascend, none twice");
    }

    #[test]
    fn a_history_that_grows_keeps_its_postings(
        steps in prop::collection::vec(any::<(u64, i64, i64)>(), 1..20),
        known in 0usize..20,
    ) {
        let known = known.min(steps.len());
        let before: Vec<_> = postings(id(), &record(&steps[..known])).collect();
        let after: Vec<_> = postings(id(), &record(&steps)).collect();
        prop_assert_eq!(&after[..before.len()], &before[..], "posting twice changes nothing");
    }

    #[test]
    fn sums_are_taken_apart_again(
        one in prop::collection::vec(any::<(u64, i64, i64)>(), 1..9),
        other in prop::collection::vec(any::<(u64, i64, i64)>(), 1..9),
    ) {
        let (mut first, mut second) = (Balances::default(), Balances::default());
        postings(id(), &record(&one)).for_each(|posting| first.add(&posting.record));
        postings(id(), &record(&other)).for_each(|posting| second.add(&posting.record));
        let mut both = first.clone();
        both.add_all(&second);
        prop_assert_eq!(both.less(&first), second);
    }
}
