use std::net::IpAddr;

use proptest::prelude::*;

use super::*;
use crate::click_id::Minter;
use crate::model::ids::{AffiliateNumber, OfferNumber};
use crate::model::rule::Percent;

const NOW_MS: u64 = 1_795_248_000_000;

fn offer(n: u32) -> OfferNumber {
    OfferNumber::new(n).expect("24 bits")
}

fn affiliate(n: u32) -> AffiliateNumber {
    AffiliateNumber::new(n).expect("24 bits")
}

fn flood(clicks: u64, period_ms: u64) -> Option<Flood> {
    Some(Flood { clicks, period_ms })
}

fn visit(ip: &str, now_ms: u64) -> Visit<'static> {
    let ip: IpAddr = ip.parse().expect("an address");
    let click = Minter::new(0, 1, 0).mint(now_ms, offer(1), affiliate(1));
    Visit { click, ip, user_agent: "Mozilla/5.0", now_ms }
}

/// The flags of each click, one by one.
fn check(fraud: &Fraud, clicks: &[(&str, u64, &[Flag])]) {
    let watch = Watch::new(7);
    for (n, (ip, after_ms, expected)) in clicks.iter().enumerate() {
        let flags = watch.clicked(fraud, &visit(ip, NOW_MS + after_ms));
        let flags: Vec<_> = Flag::in_bits(flags).collect();
        assert_eq!(flags, *expected, "click {n} from {ip}");
    }
}

#[test]
fn a_network_may_make_so_many_clicks_and_an_address_too() {
    const FLOOD: &[Flag] = &[Flag::ClickFlood];
    const REPEATED: &[Flag] = &[Flag::RepeatedIp];
    let fraud = Fraud { click_flood: flood(3, 8000), ..Fraud::default() };
    check(
        &fraud,
        &[
            ("203.0.113.1", 0, &[]),
            ("203.0.113.2", 1, &[]),
            ("203.0.113.3", 2, &[]),
            ("203.0.114.4", 2, &[]),
            ("203.0.113.4", 3, FLOOD),
            ("203.0.113.5", 6999, FLOOD),
            ("203.0.113.5", 8000, &[]),
        ],
    );
    let v6: [(&str, u64, &[Flag]); 5] = [
        ("2001:db8:1:1::1", 0, &[]),
        ("2001:db8:1:2::1", 0, &[]),
        ("2001:db8:1:3::1", 0, &[]),
        ("2001:db8:2:3::1", 0, &[]),
        ("2001:db8:1:3::1", 0, FLOOD),
    ];
    check(&fraud, &v6);
    let fraud = Fraud { repeated_ip: flood(1, 8000), ..Fraud::default() };
    check(
        &fraud,
        &[
            ("203.0.113.1", 0, &[]),
            ("203.0.113.2", 0, &[]),
            ("203.0.113.1", 5, REPEATED),
            ("2001:db8::1", 5, &[]),
            ("2001:db8:0:1::1", 5, &[]),
            ("2001:db8::2", 6, REPEATED),
        ],
    );
    let both = Fraud { click_flood: flood(1, 8000), ..fraud };
    check(&both, &[("203.0.113.1", 0, &[]), ("203.0.113.1", 0, &[FLOOD[0], REPEATED[0]])]);
}

#[test]
fn offers_are_counted_apart_and_another_time_begins_anew() {
    let watch = Watch::new(7);
    let fraud = Fraud { repeated_ip: flood(1, 8000), ..Fraud::default() };
    let first = visit("203.0.113.1", NOW_MS);
    let click = Minter::new(0, 1, 0).mint(NOW_MS, offer(2), affiliate(1));
    let other = Visit { click, ..first };
    assert_eq!(watch.clicked(&fraud, &first), 0);
    assert_eq!(watch.clicked(&fraud, &other), 0);
    assert_ne!(watch.clicked(&fraud, &first), 0);
    let longer = Fraud { repeated_ip: flood(1, 16_000), ..fraud };
    assert_eq!(watch.clicked(&longer, &first), 0);
    assert_ne!(watch.clicked(&longer, &first), 0);
}

proptest! {
    /// Against lists of all moments.
    #[test]
    fn clicks_are_suspected_as_a_list_of_all_of_them_says(
        clicks in prop::collection::vec((0..4_u8, 0..4_u8, 0..400_u64), 1..150),
        most in 1..6_u64,
    ) {
        let period_ms = 1000;
        let fraud = Fraud {
            click_flood: flood(most, period_ms),
            repeated_ip: flood(most, period_ms),
            ..Fraud::default()
        };
        let slice = |time_ms: u64| time_ms / slice_ms(period_ms);
        let (watch, mut all, mut now_ms) = (Watch::new(3), Vec::new(), NOW_MS);
        for (network, host, step) in clicks {
            now_ms += step;
            all.push((network, host, now_ms));
            let counted = all.iter().filter(|(.., at)| slice(*at) + 8 > slice(now_ms));
            let same_network = counted.clone().filter(|(other, ..)| *other == network).count();
            let same = counted.filter(|(n, h, _)| (*n, *h) == (network, host)).count();
            let flags = watch.clicked(&fraud, &visit(&format!("192.0.{network}.{host}"), now_ms));
            prop_assert_eq!(flags & Flag::ClickFlood.bit() != 0, same_network as u64 > most);
            prop_assert_eq!(flags & Flag::RepeatedIp.bit() != 0, same as u64 > most);
        }
    }

    /// What is forgotten for want of room is not suspected.
    #[test]
    fn any_number_of_strangers_makes_nobody_else_suspect(seed: u64) {
        let mut watch = Watch::new(seed);
        watch.addresses = Table::new(1);
        let fraud = Fraud { repeated_ip: flood(1, 60_000), ..Fraud::default() };
        for n in 0..20_000_u32 {
            let address = std::net::Ipv4Addr::from_bits(n.wrapping_mul(0x9E37_79B9)).to_string();
            prop_assert_eq!(watch.clicked(&fraud, &visit(&address, NOW_MS)), 0);
        }
    }
}

struct Traffic {
    watch: Watch,
    minter: Minter,
    fraud: Fraud,
}

impl Traffic {
    fn new(fraud: Fraud) -> Self {
        Self { watch: Watch::new(7), minter: Minter::new(0, 1, 0), fraud }
    }

    fn click(&self, now_ms: u64) -> RecordId {
        let click = self.minter.mint(now_ms, offer(1), affiliate(1));
        self.watch.clicked(&self.fraud, &Visit { click, ..visit("203.0.113.1", now_ms) });
        click
    }

    fn convert(&self, click: RecordId, event: &str, customer_id: &str, now_ms: u64) -> Vec<Flag> {
        self.take(&converting(click, event, customer_id, now_ms))
    }

    fn take(&self, converting: &Converting<'_>) -> Vec<Flag> {
        let flags = self.watch.suspects(&self.fraud, converting);
        let again = self.watch.suspects(&self.fraud, converting);
        assert_eq!(flags, again, "to ask counts nothing");
        self.watch.converted(&self.fraud, converting);
        Flag::in_bits(flags).collect()
    }
}

fn converting<'a>(
    click: RecordId,
    event: &'a str,
    customer_id: &'a str,
    now_ms: u64,
) -> Converting<'a> {
    let (advertiser, is_past, is_by_customer) = ("acme", false, false);
    Converting { click, advertiser, event, customer_id, now_ms, is_past, is_by_customer }
}

fn rate(min: Option<&str>, max: Option<&str>) -> Fraud {
    let percent = |text: &str| Percent::parse(text).expect("a percentage");
    let rate = ConversionRate {
        min: min.map(percent),
        max: max.map(percent),
        clicks: 10,
        period_ms: 8000,
        events: vec!["sale".into()],
    };
    Fraud { conversion_rate: Some(rate), ..Fraud::default() }
}

#[test]
fn a_rate_too_high_is_noticed_with_the_conversion_that_makes_it_so() {
    const OFF: [Flag; 1] = [Flag::ConversionRate];
    let traffic = Traffic::new(rate(None, Some("20")));
    let clicks: Vec<_> = (0..10).map(|n| traffic.click(NOW_MS + n)).collect();
    let convert =
        |at: usize, event, after_ms| traffic.convert(clicks[at], event, "", NOW_MS + after_ms);
    assert_eq!(convert(0, "sale", 10), []);
    assert_eq!(convert(0, "lead", 10), [], "another event neither counts nor is judged");
    assert_eq!(convert(1, "sale", 11), []);
    assert_eq!(convert(2, "sale", 12), OFF);
    assert_eq!(convert(2, "lead", 12), []);
    (0..90).for_each(|_| _ = traffic.click(NOW_MS + 20));
    assert_eq!(convert(3, "sale", 21), []);
    // When the clicks are over there are too few to judge by.
    assert_eq!(convert(4, "sale", 9000), []);
}

#[test]
fn a_rate_too_low_is_noticed_only_after_the_whole_time() {
    let traffic = Traffic::new(rate(Some("5"), None));
    let old = traffic.click(NOW_MS);
    (0..100).for_each(|n| _ = traffic.click(NOW_MS + n * 85));
    let now_ms = NOW_MS + 100 * 85;
    assert_eq!(traffic.convert(old, "sale", "", NOW_MS + 7999), []);
    assert_eq!(traffic.convert(old, "sale", "", now_ms), [Flag::ConversionRate]);
    for _ in 0..3 {
        traffic.convert(old, "sale", "", now_ms);
    }
    assert_eq!(traffic.convert(old, "sale", "", now_ms), []);
}

#[test]
fn after_a_restart_conversions_of_clicks_that_were_not_counted_do_not_count() {
    let traffic = Traffic::new(rate(None, Some("20")));
    let before = traffic.minter.mint(NOW_MS - 1, offer(1), affiliate(1));
    assert_eq!(traffic.convert(before, "sale", "", NOW_MS), []);
    let clicks: Vec<_> = (0..10).map(|_| traffic.click(NOW_MS)).collect();
    for _ in 0..50 {
        assert_eq!(traffic.convert(before, "sale", "", NOW_MS + 1), []);
    }
    for (n, click) in clicks.iter().enumerate() {
        assert_eq!(traffic.convert(*click, "sale", "", NOW_MS + 2).len(), usize::from(n >= 2));
    }
}

#[test]
fn a_customer_who_converts_through_another_click_is_suspect_for_a_time() {
    const AGAIN: [Flag; 1] = [Flag::RepeatedCustomer];
    let traffic = Traffic::new(Fraud { repeated_customer: Some(1000), ..Fraud::default() });
    let (first, second) = (traffic.click(NOW_MS), traffic.click(NOW_MS));
    let convert = |click, event, customer, after_ms| {
        traffic.convert(click, event, customer, NOW_MS + after_ms)
    };
    assert_eq!(convert(first, "sale", "c1", 0), []);
    assert_eq!(convert(first, "sale", "c1", 1), []);
    assert_eq!(convert(second, "lead", "c1", 2), []);
    assert_eq!(convert(second, "sale", "c2", 2), []);
    assert_eq!(convert(second, "sale", "c1", 3), AGAIN);
    assert_eq!(convert(second, "sale", "c1", 4), []);
    assert_eq!(convert(first, "sale", "c1", 1003), AGAIN);
    assert_eq!(convert(second, "sale", "c1", 2003), []);
    assert_eq!(convert(first, "sale", "", 2003), []);
    assert_eq!(convert(second, "sale", "", 2003), []);
}

#[test]
fn what_is_recalled_in_any_order_is_the_last_conversion() {
    let traffic = Traffic::new(Fraud { repeated_customer: Some(1000), ..Fraud::default() });
    let (old, new) = (traffic.click(NOW_MS), traffic.click(NOW_MS));
    let recall = |click, now_ms| {
        let converting = Converting { is_past: true, ..converting(click, "sale", "c1", now_ms) };
        traffic.watch.converted(&traffic.fraud, &converting);
    };
    recall(new, NOW_MS + 5);
    recall(old, NOW_MS);
    assert_eq!(traffic.convert(new, "sale", "c1", NOW_MS + 6), []);
    assert_eq!(traffic.convert(old, "sale", "c1", NOW_MS + 7), [Flag::RepeatedCustomer]);
}

#[test]
fn what_is_judged_long_after_it_came_neither_counts_for_a_rate_nor_is_judged_by_it() {
    let traffic = Traffic::new(rate(None, Some("20")));
    let clicks: Vec<_> = (0..10).map(|n| traffic.click(NOW_MS + n)).collect();
    for click in &clicks {
        let sale = converting(*click, "sale", "", NOW_MS + 20);
        assert_eq!(traffic.take(&Converting { is_past: true, ..sale }), []);
    }
    assert_eq!(traffic.convert(clicks[0], "sale", "", NOW_MS + 21), []);
    assert_eq!(traffic.convert(clicks[1], "sale", "", NOW_MS + 21), []);
    let off = [Flag::ConversionRate];
    assert_eq!(traffic.convert(clicks[2], "sale", "", NOW_MS + 21), off);
    let again = converting(clicks[2], "sale", "", NOW_MS + 21);
    assert_eq!(traffic.take(&Converting { is_past: true, ..again }), []);
}

#[test]
fn what_a_customer_alone_has_done_counts_for_no_rate_and_is_the_customers_last_conversion() {
    const AGAIN: [Flag; 1] = [Flag::RepeatedCustomer];
    let fraud = Fraud { repeated_customer: Some(1000), ..rate(None, Some("20")) };
    let traffic = Traffic::new(fraud);
    let clicks: Vec<_> = (0..10).map(|n| traffic.click(NOW_MS + n)).collect();
    for _ in 0..10 {
        let sale = converting(clicks[0], "sale", "c1", NOW_MS + 20);
        assert_eq!(traffic.take(&Converting { is_by_customer: true, ..sale }), []);
    }
    assert_eq!(traffic.convert(clicks[1], "sale", "c1", NOW_MS + 21), AGAIN);
    // One more of a click that counts would be too many.
    assert_eq!(traffic.convert(clicks[2], "sale", "", NOW_MS + 22), []);
    let sale = converting(clicks[0], "sale", "", NOW_MS + 23);
    assert_eq!(traffic.take(&Converting { is_by_customer: true, ..sale }), []);
    assert_eq!(traffic.take(&sale), [Flag::ConversionRate]);
}

#[test]
fn a_sale_that_is_judged_again_is_not_suspect_for_one_that_came_after_it() {
    const AGAIN: [Flag; 1] = [Flag::RepeatedCustomer];
    let traffic = Traffic::new(Fraud { repeated_customer: Some(1000), ..Fraud::default() });
    let [first, second, third] = [0; 3].map(|_| traffic.click(NOW_MS));
    let past = |click, after_ms| {
        let sale = converting(click, "sale", "c1", NOW_MS + after_ms);
        traffic.take(&Converting { is_past: true, ..sale })
    };
    assert_eq!(traffic.convert(second, "sale", "c1", NOW_MS + 500), []);
    assert_eq!(past(first, 499), []);
    // However long before, it is not the last one.
    assert_eq!(past(third, 0), []);
    assert_eq!(traffic.convert(second, "sale", "c1", NOW_MS + 501), []);
    assert_eq!(past(third, 1501), []);
    assert_eq!(past(first, 1501), AGAIN);
}

/// By how much the clock was ahead until it is set back, milliseconds.
const AHEAD_MS: u64 = 3_600_000;

#[test]
fn clicks_of_a_clock_that_was_ahead_make_no_later_ones_suspect() {
    let clicks: [(&str, u64, &[Flag]); 9] = [
        ("203.0.113.1", AHEAD_MS, &[]),
        ("203.0.113.1", AHEAD_MS, &[]),
        ("203.0.113.1", 0, &[]),
        ("203.0.113.1", 1, &[]),
        ("203.0.113.1", 2, &[Flag::RepeatedIp]),
        ("203.0.113.1", 8001, &[]),
        // Set back by less than the whole time.
        ("203.0.113.1", 1500, &[]),
        ("203.0.113.1", 1500, &[Flag::RepeatedIp]),
        ("203.0.113.1", 17_000, &[]),
    ];
    check(&Fraud { repeated_ip: flood(2, 8000), ..Fraud::default() }, &clicks);
}

#[test]
fn after_a_clock_that_was_ahead_a_rate_is_counted_anew() {
    let traffic = Traffic::new(rate(None, Some("20")));
    let old: Vec<_> = (0..10).map(|n| traffic.click(NOW_MS + AHEAD_MS + n)).collect();
    for click in &old[..2] {
        assert_eq!(traffic.convert(*click, "sale", "", NOW_MS + AHEAD_MS + 10), []);
    }
    let sell_old = |times| {
        for _ in 0..times {
            assert_eq!(traffic.convert(old[2], "sale", "", NOW_MS), []);
        }
    };
    sell_old(50);
    let new: Vec<_> = (0..10).map(|_| traffic.click(NOW_MS)).collect();
    // Their clicks are not counted any more.
    sell_old(50);
    for (n, click) in new.iter().enumerate() {
        assert_eq!(traffic.convert(*click, "sale", "", NOW_MS + 1).len(), usize::from(n >= 2));
    }
    assert_eq!(traffic.convert(new[0], "sale", "", NOW_MS + 9000), []);
}

#[test]
fn a_customer_of_a_clock_that_was_ahead_is_forgotten() {
    const AGAIN: [Flag; 1] = [Flag::RepeatedCustomer];
    let traffic = Traffic::new(Fraud { repeated_customer: Some(1000), ..Fraud::default() });
    let (first, second) = (traffic.click(NOW_MS), traffic.click(NOW_MS));
    let convert = |click, after_ms| traffic.convert(click, "sale", "c1", NOW_MS + after_ms);
    assert_eq!(convert(first, AHEAD_MS), []);
    assert_eq!(convert(second, 1000), []);
    assert_eq!(convert(first, 1), AGAIN, "set back by less than the period");
    assert_eq!(convert(second, 1000), []);
}
