use std::net::IpAddr;

use proptest::prelude::*;

use super::*;
use crate::click_id::Minter;
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
    Visit { offer: offer(1), affiliate: affiliate(1), ip, user_agent: "Mozilla/5.0", now_ms }
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
    let other = Visit { offer: offer(2), ..first };
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
        self.watch.clicked(&self.fraud, &visit("203.0.113.1", now_ms));
        self.minter.mint(now_ms, offer(1), affiliate(1))
    }

    fn convert(&self, click: RecordId, event: &str, customer_id: &str, now_ms: u64) -> Vec<Flag> {
        let converting = Converting { click, advertiser: "acme", event, customer_id, now_ms };
        let flags = self.watch.suspects(&self.fraud, &converting);
        let again = self.watch.suspects(&self.fraud, &converting);
        assert_eq!(flags, again, "to ask counts nothing");
        self.watch.converted(&self.fraud, &converting);
        Flag::in_bits(flags).collect()
    }
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
    let at = |click, now_ms| Converting {
        click,
        advertiser: "acme",
        event: "sale",
        customer_id: "c1",
        now_ms,
    };
    traffic.watch.remember_customer(&at(new, NOW_MS + 5));
    traffic.watch.remember_customer(&at(old, NOW_MS));
    assert_eq!(traffic.convert(new, "sale", "c1", NOW_MS + 6), []);
    assert_eq!(traffic.convert(old, "sale", "c1", NOW_MS + 7), [Flag::RepeatedCustomer]);
}
