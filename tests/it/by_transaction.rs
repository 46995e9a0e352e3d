//! Negative events, and news of known conversions, that name a transaction and no click: refunds
//! and chargebacks come weeks later, from systems that have never seen a click ID.

use serde_json::json;

use crate::harness::{Answer, Server, Setup};
use crate::refunds::adjusted;

/// As often as three refunds come at the same moment.
const ROUNDS: usize = 60;

const CATALOG: &str = r#"
[[advertisers]]
id = "acme"
events = { rueckgabe = "refund" }

[[advertisers]]
id = "other"

[[offers]]
id = "shoes"
advertiser = "acme"
url = "https://shoes.example/?c={click_id}"
[[offers.events]]
id = "sale"
initial_status = "pending"
reapprove = true
payout = { percent = "10", currency = "USD" }
revenue = { percent = "20" }
[[offers.events]]
id = "refund"
reverses = ["sale"]

[[offers]]
id = "club"
advertiser = "acme"
url = "https://club.example/?c={click_id}"
[[offers.events]]
id = "sale"
[[offers.events]]
id = "deposit"
payout = { percent = "10", currency = "USD" }
[[offers.events]]
id = "refund"
reverses = ["deposit"]

[[affiliates]]
id = "pub-7"
"#;

/// An offer whose refund takes back two events.
const CASINO: &str = r#"
[[advertisers]]
id = "acme"

[[offers]]
id = "casino"
advertiser = "acme"
url = "https://casino.example/?c={click_id}"
[[offers.events]]
id = "ftd"
payout = { fixed = "10", currency = "USD" }
[[offers.events]]
id = "deposit"
payout = { percent = "25", currency = "USD" }
[[offers.events]]
id = "refund"
reverses = ["ftd", "deposit"]

[[affiliates]]
id = "pub-7"
"#;

/// Another offer of the same advertiser.
const SHOP: &str = r#"
[[offers]]
id = "shop"
advertiser = "acme"
url = "https://shop.example/?c={click_id}"
[[offers.events]]
id = "sale"
payout = { percent = "10", currency = "USD" }
[[offers.events]]
id = "refund"
reverses = ["sale"]
"#;

pub fn acme(server: &Server, query: &str) -> Answer {
    Answer::of(server.get(&format!("/postback/acme?{query}")))
}

fn sell(server: &Server, offer: &str, query: &str) -> String {
    let click = server.click(&format!("offer={offer}&aff=pub-7"));
    let answer = acme(server, &format!("click_id={click}&{query}"));
    assert_eq!(answer.verdict(), (200, "accepted", ""), "{query}");
    click
}

fn states(server: &Server, event: &str) -> Vec<serde_json::Value> {
    let kept = server.conversions(&format!("event={event}"));
    kept.iter().map(|c| json!([c["txn_id"], c["status"], c["reversed_amount"]])).collect()
}

#[test]
fn a_transaction_alone_is_approved_and_taken_back() {
    let mut server = Setup::new().catalog(CATALOG.to_owned()).start();
    let click = sell(&server, "shoes", "event=sale&txn_id=T-1&amount=100");
    let approved = acme(&server, "event=sale&txn_id=T-1&status=approved");
    assert_eq!(approved.verdict(), (200, "updated", ""));
    assert_eq!(approved.word("click_id"), click);
    let again = acme(&server, "event=sale&txn_id=T-1&amount=100");
    assert_eq!((again.verdict(), again.word("status")), ((200, "duplicate", ""), "approved"));

    let dry = acme(&server, "event=refund&txn_id=T-1&amount=25&dry_run=1");
    assert_eq!(dry.verdict(), (200, "accepted", ""));
    let part = acme(&server, "event=rueckgabe&txn_id=T-1&reversal_id=R-1&amount=25");
    assert_eq!((part.verdict(), part.word("click_id")), ((200, "accepted", ""), &*click));
    assert_eq!(states(&server, "sale"), [json!(["T-1", "approved", "25.00"])]);
    server.kill();
    server.start_again();
    for result in ["accepted", "duplicate"] {
        let whole = acme(&server, "event=refund&txn_id=T-1");
        assert_eq!(whole.verdict(), (200, result, ""));
    }
    assert_eq!(states(&server, "sale"), [json!(["T-1", "reversed", "25.00"])]);
    assert_eq!(server.api("totals?status=approved")["payout"], "0.00");
    let flags = server.conversions("event=refund").into_iter().map(|c| c["flags"].clone());
    assert_eq!(flags.collect::<Vec<_>>(), [json!([]), json!([])]);
}

#[test]
fn a_refund_of_a_transaction_is_of_the_click_of_what_it_takes_back() {
    let mut server = Setup::new().catalog(CASINO.to_owned()).start();
    let both = |txn_id: &str, statuses: [&str; 2]| {
        let [first, second] = statuses;
        let first = format!("event=ftd&txn_id={txn_id}&status={first}");
        let second = format!("event=deposit&txn_id={txn_id}&amount=200&status={second}");
        [first, second].map(|query| sell(&server, "casino", &query))
    };
    let [_, paid] = both("T-0", ["rejected", "approved"]);
    let [paid_first, _] = both("T-1", ["approved", "rejected"]);
    let [first, second] = both("T-2", ["approved", "approved"]);
    let refund = |server: &Server, query: &str, result: &str, click: &str| {
        let answer = acme(server, &format!("event=refund&{query}"));
        let expected = ((200, result, ""), click);
        assert_eq!((answer.verdict(), answer.word("click_id")), expected, "{query}");
    };
    refund(&server, "txn_id=T-0", "accepted", &paid);
    refund(&server, "txn_id=T-1&dry_run=1", "accepted", &paid_first);
    refund(&server, "txn_id=T-1", "accepted", &paid_first);
    refund(&server, "txn_id=T-2&reversal_id=R-1", "accepted", &first);
    refund(&server, "txn_id=T-2&reversal_id=R-2", "accepted", &second);
    server.kill();
    server.start_again();
    // What is sent again is of the click of its first time.
    refund(&server, "txn_id=T-1", "duplicate", &paid_first);
    refund(&server, "txn_id=T-2&reversal_id=R-1", "duplicate", &first);
    refund(&server, "txn_id=T-2&reversal_id=R-2", "duplicate", &second);
    let kept = server.conversions("event=refund");
    let clicks: Vec<_> = kept.iter().map(|refund| &refund["click_id"]).collect();
    assert_eq!(clicks, [&*paid, &*paid_first, &*first, &*second]);
}

#[test]
fn an_event_that_is_negative_elsewhere_is_news_whatever_its_reversal_id() {
    let server = Setup::new().catalog(adjusted()).start();
    let bound = sell(&server, "shoes", "event=sale&txn_id=S-1&customer_id=K-1");
    let first = sell(&server, "club", "event=adj&txn_id=T-1&status=pending");
    let second = sell(&server, "club", "event=adj&txn_id=T-2&status=pending");
    for (query, click) in [
        ("event=adj&txn_id=T-1&reversal_id=X-1&status=approved", &first),
        ("event=adj&txn_id=T-2&reversal_id=X-2&status=rejected&customer_id=K-1", &second),
    ] {
        let news = acme(&server, query);
        assert_eq!((news.verdict(), news.word("click_id")), ((200, "updated", ""), &**click));
    }
    let adjusted = [json!(["T-1", "approved", null]), json!(["T-2", "rejected", null])];
    assert_eq!(states(&server, "adj"), adjusted);

    // What it takes back in the other offer goes before: that is what has such an ID.
    sell(&server, "club", "event=adj&txn_id=S-1&status=pending");
    let refund = acme(&server, "event=adj&txn_id=S-1&reversal_id=X-3&status=rejected");
    assert_eq!((refund.verdict(), refund.word("click_id")), ((200, "accepted", ""), &*bound));
    assert_eq!(states(&server, "sale"), [json!(["S-1", "reversed", null])]);
}

#[test]
fn a_transaction_that_is_not_known_or_anothers_stands_for_no_click() {
    let server = Setup::new().catalog(CATALOG.to_owned()).start();
    sell(&server, "shoes", "event=sale&txn_id=T-1&amount=100");
    let missing = (400, "refused", "missing_click_id");
    for query in [
        "event=sale&txn_id=T-2&amount=5",
        "event=refund&txn_id=T-2",
        // Of another event.
        "event=deposit&txn_id=T-1",
        "txn_id=T-1",
        "event=refund&txn_id=",
    ] {
        assert_eq!(acme(&server, query).verdict(), missing, "{query}");
    }
    let refund = "event=refund&txn_id=T-1";
    assert_eq!(server.postback(refund).verdict(), missing);
    let others = Answer::of(server.get(&format!("/postback/other?{refund}")));
    assert_eq!(others.verdict(), missing);
    let placeholder = acme(&server, "event=refund&txn_id={order}");
    assert_eq!(placeholder.verdict(), (400, "refused", "unresolved_macro"));
    assert_eq!(states(&server, "sale"), [json!(["T-1", "pending", null])]);
}

#[test]
fn an_event_and_a_transaction_of_any_length_are_answered() {
    let server = Setup::new().catalog(CATALOG.to_owned()).start();
    let (event, txn_id) = ("e".repeat(300), "t".repeat(256));
    let answer = acme(&server, &format!("event={event}&txn_id={txn_id}"));
    assert_eq!(answer.verdict(), (400, "refused", "missing_click_id"));
    let query = format!("event={event}&txn_id={txn_id}&customer_id=K-1");
    assert_eq!(acme(&server, &query).verdict(), (404, "refused", "unknown_customer"));
}

#[test]
fn each_offer_says_what_its_negative_event_takes_back() {
    let server = Setup::new().catalog(CATALOG.to_owned()).start();
    // The club's refund does not take sales back, the shop's has no deposits.
    sell(&server, "club", "event=sale&txn_id=T-1");
    let refused = acme(&server, "event=refund&txn_id=T-1");
    assert_eq!(refused.verdict(), (400, "refused", "missing_click_id"));
    sell(&server, "club", "event=deposit&txn_id=T-1&amount=50");
    assert_eq!(acme(&server, "event=refund&txn_id=T-1").verdict(), (200, "accepted", ""));
    assert_eq!(states(&server, "sale"), [json!(["T-1", "approved", null])]);
    assert_eq!(states(&server, "deposit"), [json!(["T-1", "reversed", null])]);
}

#[test]
fn a_transaction_of_another_offer_is_taken_back_only_as_that_offer_says() {
    let server = Setup::new().catalog(CATALOG.to_owned()).start();
    let sold = sell(&server, "shoes", "event=sale&txn_id=T-1&amount=100");
    let played = sell(&server, "club", "event=sale&txn_id=T-2");
    let refund = |click: &str, txn: &str| {
        acme(&server, &format!("click_id={click}&event=refund&txn_id={txn}"))
    };
    // The shop's refund takes sales back, but this one is the club's.
    assert_eq!(refund(&sold, "T-2").verdict(), (404, "refused", "unknown_conversion"));
    assert_eq!(refund(&played, "T-1").verdict(), (404, "refused", "unknown_conversion"));
    let untouched = [json!(["T-1", "pending", null]), json!(["T-2", "approved", null])];
    assert_eq!(states(&server, "sale"), untouched);
    assert_eq!(refund(&sold, "T-1").verdict(), (200, "accepted", ""));
}

#[test]
fn a_customer_who_is_not_known_does_not_hide_the_transaction() {
    let server = Setup::new().catalog(CATALOG.to_owned()).start();
    sell(&server, "shoes", "event=sale&txn_id=T-1&amount=100");
    let refund = acme(&server, "customer_id=K-1&event=refund&txn_id=T-1&amount=100");
    assert_eq!(refund.verdict(), (200, "accepted", ""));
    let nobody = acme(&server, "customer_id=K-1&event=refund&txn_id=T-2");
    assert_eq!(nobody.verdict(), (404, "refused", "unknown_customer"));
}

#[test]
fn what_is_taken_back_while_it_is_pending_is_not_approved_by_its_advertiser() {
    let server = Setup::new().catalog(CATALOG.to_owned()).start();
    for (txn, back, left, status, payout) in [
        ("T-1", "", "duplicate", "rejected", "0.00"),
        ("T-2", "&amount=25", "updated", "approved", "7.50"),
        ("T-3", "&amount=100", "duplicate", "rejected", "0.00"),
    ] {
        sell(&server, "shoes", &format!("event=sale&txn_id={txn}&amount=100"));
        let refund = acme(&server, &format!("event=refund&txn_id={txn}{back}"));
        assert_eq!(refund.verdict(), (200, "accepted", ""), "{txn}");
        let approved = acme(&server, &format!("event=sale&txn_id={txn}&status=approved"));
        assert_eq!((approved.verdict().1, approved.word("status")), (left, status), "{txn}");
        let kept = &server.conversions(&format!("event=sale&txn_id={txn}"))[0];
        let owed = server.api(&format!("totals?status=approved&txn_id={txn}"));
        assert_eq!((&kept["status"], &owed["payout"]), (&json!(status), &json!(payout)), "{txn}");
    }
}

#[test]
fn of_several_events_of_a_transaction_what_is_paid_is_taken_back_first() {
    let server = Setup::new().catalog(CASINO.to_owned()).start();
    let both = |txn_id: &str, first: &str| {
        let click = sell(&server, "casino", &format!("event=ftd&txn_id={txn_id}&status={first}"));
        let deposit = format!("click_id={click}&event=deposit&txn_id={txn_id}&amount=200");
        assert_eq!(acme(&server, &deposit).verdict(), (200, "accepted", ""));
    };
    let refund = |txn_id: &str, id: &str| {
        let query = format!("event=refund&txn_id={txn_id}&reversal_id={id}");
        assert_eq!(acme(&server, &query).verdict(), (200, "accepted", ""), "{query}");
    };
    both("rejected", "rejected");
    refund("rejected", "R-1");
    both("pending", "pending");
    refund("pending", "R-2");
    both("paid", "approved");
    refund("paid", "R-3");
    assert_eq!(states(&server, "ftd").last(), Some(&json!(["paid", "reversed", null])));
    refund("paid", "R-4");
    let deposits = ["rejected", "pending", "paid"].map(|txn_id| json!([txn_id, "reversed", null]));
    assert_eq!(states(&server, "deposit"), deposits);
    assert_eq!(states(&server, "ftd")[1], json!(["pending", "pending", null]));
    assert_eq!(server.api("totals?status=approved")["payout"], "0.00");
    let none_left = acme(&server, "event=refund&txn_id=paid&reversal_id=R-5");
    assert_eq!(none_left.verdict(), (409, "refused", "illegal_transition"));
}

#[test]
fn a_customer_who_is_bound_to_another_click_does_not_hide_the_transaction() {
    let mut server = Setup::new().catalog(CATALOG.to_owned()).start();
    // Bound to a click of the club, whose refund takes no sales back.
    sell(&server, "club", "event=deposit&txn_id=D-1&amount=50&customer_id=K-1");
    let bought = sell(&server, "shoes", "event=sale&txn_id=T-1&amount=100&customer_id=K-1");
    let of_both = "txn_id=T-1&customer_id=K-1";
    for restart in [false, true] {
        if restart {
            server.kill();
            server.start_again();
        }
        let again = acme(&server, &format!("event=sale&{of_both}&amount=100"));
        assert_eq!(again.verdict(), (200, "duplicate", ""));
        assert_eq!(again.word("click_id"), bought);
    }
    let approved = acme(&server, &format!("event=sale&{of_both}&status=approved"));
    assert_eq!((approved.verdict(), approved.word("click_id")), ((200, "updated", ""), &*bought));
    for result in ["accepted", "duplicate"] {
        let refund = acme(&server, &format!("event=refund&{of_both}"));
        assert_eq!((refund.verdict(), refund.word("click_id")), ((200, result, ""), &*bought));
    }
    assert_eq!(states(&server, "sale"), [json!(["T-1", "reversed", null])]);
    assert_eq!(states(&server, "deposit"), [json!(["D-1", "approved", null])]);

    // A transaction that is not known is the customer's.
    let new = "event=deposit&txn_id=D-2&amount=10&customer_id=K-1";
    for result in ["accepted", "duplicate"] {
        assert_eq!(acme(&server, new).verdict(), (200, result, ""));
    }
    assert_eq!(server.conversions("txn_id=D-2")[0]["flags"], json!(["by_customer"]));
}

#[test]
fn a_transaction_alone_needs_no_event_where_none_need_be_named() {
    let mut catalog = String::from("[[affiliates]]\nid = \"pub-7\"\n");
    catalog += "[[advertisers]]\nid = \"kei\"\npreset = \"keitaro\"\n";
    for (offer, events) in [("one", &["sale"][..]), ("other", &["lead"]), ("two", &["sale", "ftd"])]
    {
        catalog += &format!(
            "[[offers]]\nid = \"{offer}\"\nadvertiser = \"kei\"\nurl = \"https://a.example/?c={{click_id}}\"\n"
        );
        for event in events {
            catalog +=
                &format!("[[offers.events]]\nid = \"{event}\"\ninitial_status = \"pending\"\n");
        }
        catalog += &format!("[[offers.events]]\nid = \"refund\"\nreverses = [\"{}\"]\n", events[0]);
    }
    let mut server = Setup::new().catalog(catalog).start();
    let kei = |server: &Server, query: &str| {
        let answer = Answer::of(server.get(&format!("/postback/kei?{query}")));
        let (_, result, reason) = answer.verdict();
        (result.to_owned(), reason.to_owned())
    };
    let sell = |offer: &str, query: &str| {
        let click = server.click(&format!("offer={offer}&aff=pub-7"));
        assert_eq!(kei(&server, &format!("subid={click}&{query}")).0, "accepted", "{query}");
    };
    sell("one", "tid=7");
    sell("two", "tid=8&event=sale");
    sell("one", "tid=9");
    sell("other", "tid=9");
    for (query, result, reason) in [
        ("tid=7", "duplicate", ""),
        ("tid=7&status=rejected", "updated", ""),
        ("tid=7&status=rejected", "duplicate", ""),
        // Of an offer with two events, of two conversions, and of none.
        ("tid=8&status=rejected", "refused", "missing_click_id"),
        ("tid=9&status=rejected", "refused", "missing_click_id"),
        ("tid=10&status=rejected", "refused", "missing_click_id"),
        ("tid=9&event=lead&status=rejected", "updated", ""),
    ] {
        let (was, why) = kei(&server, query);
        assert_eq!((&*was, &*why), (result, reason), "{query}");
    }
    server.kill();
    server.start_again();
    assert_eq!(kei(&server, "tid=7&status=rejected").0, "duplicate");
}

/// An advertiser whose postbacks need not name an event, with an offer of one event for each.
fn unnamed(events: &[&str]) -> String {
    let mut catalog = String::from("[[affiliates]]\nid = \"pub-7\"\n");
    catalog += "[[advertisers]]\nid = \"kei\"\npreset = \"keitaro\"\n";
    for event in events {
        catalog += &format!(
            "[[offers]]\nid = \"{event}s\"\nadvertiser = \"kei\"\nurl = \"https://a.example/?c={{click_id}}\"\n\
             [[offers.events]]\nid = \"{event}\"\n"
        );
    }
    catalog
}

#[test]
fn where_no_event_is_named_what_has_left_the_catalog_is_not_overlooked() {
    let others = "[[offers]]\nid = \"others\"\nadvertiser = \"kei\"\nurl = \"https://a.example/?c={click_id}\"\n\
                  [[offers.events]]\nid = \"sale\"\n";
    let server = Setup::new().catalog(unnamed(&["sale", "lead"]) + others).start();
    let kei = |query: &str| {
        let answer = Answer::of(server.get(&format!("/postback/kei?{query}")));
        let (_, result, reason) = answer.verdict();
        (result.to_owned(), reason.to_owned())
    };
    let refused = |reason: &str| ("refused".to_owned(), reason.to_owned());
    for (offer, tid) in [("sales", "7"), ("sales", "9"), ("leads", "9")] {
        let click = server.click(&format!("offer={offer}&aff=pub-7"));
        assert_eq!(kei(&format!("subid={click}&tid={tid}")).0, "accepted");
    }
    assert_eq!(kei("tid=9&status=rejected"), refused("missing_click_id"), "of two clicks");
    server.reload_catalog(&(unnamed(&["lead"]) + others));
    assert_eq!(kei("tid=9&status=rejected"), refused("missing_click_id"), "of two clicks");
    assert_eq!(kei("tid=7&status=rejected"), refused("unknown_offer"));
    assert_eq!(kei("tid=9&event=lead&status=rejected").0, "updated");
}

#[test]
fn a_number_of_somebody_else_is_not_the_customers_transaction() {
    let server = Setup::new().catalog(unnamed(&["registration", "sale"])).start();
    let kei = |query: &str| Answer::of(server.get(&format!("/postback/kei?{query}")));
    let click = |offer: &str| server.click(&format!("offer={offer}&aff=pub-7"));
    let (nobody, other, bound) = (click("registrations"), click("registrations"), click("sales"));
    for query in [
        format!("subid={nobody}&tid=5"),
        format!("subid={other}&tid=99&customer_id=K-2"),
        format!("subid={bound}&tid=4&customer_id=K-1"),
        // The customer's own, though a registration has the same number.
        "customer_id=K-1&tid=5&payout=30".to_owned(),
    ] {
        assert_eq!(kei(&query).verdict(), (200, "accepted", ""), "{query}");
    }
    let news = kei("customer_id=K-1&tid=5&status=rejected");
    assert_eq!((news.verdict(), news.word("click_id")), ((200, "updated", ""), &*bound));
    // Of another customer's registration a rejection says nothing.
    let anothers = kei("customer_id=K-1&tid=99&status=rejected");
    assert_eq!(anothers.word("click_id"), bound);
    let stranger = kei("customer_id=K-3&tid=99&status=rejected");
    assert_eq!(stranger.verdict(), (404, "refused", "unknown_customer"));
    let of_registrations = states(&server, "registration");
    assert_eq!(of_registrations, [json!(["5", "approved", null]), json!(["99", "approved", null])]);
    // What names no customer is meant if the customer is not known.
    let known = kei("customer_id=K-3&tid=5&status=rejected");
    assert_eq!((known.verdict(), known.word("click_id")), ((200, "updated", ""), &*nobody));
}

#[test]
fn a_customer_says_nothing_of_a_transaction_of_somebody_else() {
    let catalog =
        unnamed(&["sale"]).replace("id = \"sale\"", "id = \"sale\"\ninitial_status = \"pending\"");
    let mut server = Setup::new().catalog(catalog).start();
    let kei =
        |server: &Server, query: &str| Answer::of(server.get(&format!("/postback/kei?{query}")));
    let clicks = [0; 3].map(|_| server.click("offer=sales&aff=pub-7"));
    let [first, second, third] = &clicks;
    for (click, query) in [
        (first, "tid=A1&customer_id=K-1"),
        (second, "tid=B1&customer_id=K-2"),
        (third, "tid=C1"),
        // Of two customers of one click.
        (first, "tid=D1&customer_id=K-4"),
    ] {
        let sold = kei(&server, &format!("subid={click}&{query}"));
        assert_eq!((sold.verdict(), sold.word("status")), ((200, "accepted", ""), "pending"));
    }
    for _ in 0..2 {
        for (txn_id, click) in [("B1", second), ("C1", third), ("D1", first)] {
            for rest in ["", "&status=sale", "&status=sale&payout=3", "&status=sale&dry_run=1"] {
                let query = format!("tid={txn_id}&customer_id=K-1{rest}");
                let told = kei(&server, &query);
                assert_eq!(told.verdict(), (200, "duplicate", ""), "{query}");
                assert_eq!([told.word("click_id"), told.word("status")], [&**click, "pending"]);
                assert!(told.word("hint").contains("of somebody else"), "{told:?}");
            }
        }
        server.kill();
        server.start_again();
    }
    // Its own, and what is named by its event, are meant.
    for query in ["tid=A1&customer_id=K-1", "tid=B1&customer_id=K-1&event=sale"] {
        let news = kei(&server, &format!("{query}&status=sale"));
        assert_eq!((news.verdict(), news.word("status")), ((200, "updated", ""), "approved"));
    }
}

#[test]
fn a_transaction_alone_is_refused_where_too_many_events_may_be_meant() {
    let events: Vec<_> = (0..17).map(|n| format!("event{n:02}")).collect();
    let events: Vec<_> = events.iter().map(String::as_str).collect();
    let server = Setup::new().catalog(unnamed(&events)).start();
    let kei = |query: &str| Answer::of(server.get(&format!("/postback/kei?{query}")));
    let click = server.click("offer=event16s&aff=pub-7");
    let sold = kei(&format!("subid={click}&tid=1&customer_id=K-1"));
    assert_eq!(sold.verdict(), (200, "accepted", ""));
    let unnamed = kei("tid=1&status=rejected");
    assert_eq!(unnamed.verdict(), (400, "refused", "missing_click_id"));
    assert!(unnamed.word("hint").contains("name its event, as event=sale"), "{unnamed:?}");
    let click = server.click("offer=event16s&aff=pub-7");
    let misnamed = kei(&format!("clickid={click}&tid=2"));
    assert_eq!(misnamed.verdict(), (400, "refused", "missing_click_id"));
    assert!(misnamed.word("hint").contains("send the click ID as subid"), "{misnamed:?}");
    assert_eq!(kei("tid=1&event=event16&status=rejected").verdict(), (200, "updated", ""));
    assert_eq!(kei("tid=1&customer_id=K-1&status=rejected").verdict(), (200, "duplicate", ""));
}

#[test]
fn a_refund_that_names_no_event_may_be_sent_again() {
    let catalog = CATALOG.replacen("id = \"acme\"", "id = \"acme\"\ndefault_event = \"refund\"", 1);
    let server = Setup::new().catalog(catalog).start();
    sell(&server, "shoes", "event=sale&txn_id=T-1&amount=100");
    for result in ["accepted", "duplicate"] {
        assert_eq!(acme(&server, "txn_id=T-1").verdict(), (200, result, ""));
    }
}

#[test]
fn refunds_of_several_events_at_the_same_moment_all_find_what_is_left() {
    let server = Setup::new().catalog(CASINO.to_owned()).start();
    for round in 1..=ROUNDS {
        let click = sell(&server, "casino", &format!("event=ftd&txn_id={round}&amount=200"));
        let deposit = format!("click_id={click}&event=deposit&txn_id={round}&amount=200");
        assert_eq!(acme(&server, &deposit).verdict(), (200, "accepted", ""));
        std::thread::scope(|scope| {
            for (id, amount) in [("P", "&amount=10"), ("A", ""), ("B", "")] {
                let server = &server;
                scope.spawn(move || {
                    let query =
                        format!("event=refund&txn_id={round}&reversal_id={id}-{round}{amount}");
                    let answer = acme(server, &query);
                    // A part of what is taken back as a whole already is none.
                    let is_late =
                        id == "P" && answer.verdict() == (409, "refused", "illegal_transition");
                    assert!(is_late || answer.verdict() == (200, "accepted", ""), "{round} {id}");
                });
            }
        });
        assert_eq!(server.api(&format!("totals?status=approved&txn_id={round}"))["payout"], "0.00");
    }
}

#[test]
fn refunds_of_several_clicks_at_the_same_moment_are_each_of_what_they_take_back() {
    let server = Setup::new().catalog(format!("{CASINO}{SHOP}")).start();
    for round in 1..=ROUNDS {
        for (offer, event) in [("casino", "ftd"), ("casino", "deposit"), ("shop", "sale")] {
            sell(&server, offer, &format!("event={event}&txn_id={round}&amount=200"));
        }
        std::thread::scope(|scope| {
            // One is sent twice, and told the same.
            let all = ["C", "C", "A", "B"].map(|id| {
                let server = &server;
                scope.spawn(move || {
                    let query = format!("event=refund&txn_id={round}&reversal_id={id}-{round}");
                    let answer = acme(server, &query);
                    let is_again = id == "C" && answer.verdict() == (200, "duplicate", "");
                    assert!(is_again || answer.verdict() == (200, "accepted", ""), "{answer:?}");
                    ["conversion_id", "click_id"].map(|name| answer.word(name).to_owned())
                })
            });
            let told = all.map(|one| one.join().expect("an answer"));
            assert_eq!(told[0], told[1]);
        });
    }
    let kept = server.conversions("");
    let (refunds, sold): (Vec<_>, Vec<_>) = kept.iter().partition(|one| one["event"] == "refund");
    for sold in sold {
        let id = &sold["conversion_id"];
        let of_it = refunds.iter().filter(|refund| refund["params"]["reverses"] == *id);
        let clicks: Vec<_> = of_it.map(|refund| &refund["click_id"]).collect();
        assert_eq!(clicks, [&sold["click_id"]], "{} {}", sold["event"], sold["txn_id"]);
    }
}

#[test]
fn a_negative_events_amount_is_in_the_currency_of_what_it_takes_back() {
    let catalog = CATALOG.replacen("currency = \"USD\"", "currency = \"EUR\"", 1);
    let server = Setup::new().catalog(catalog).start();
    sell(&server, "shoes", "event=sale&txn_id=T-1&amount=100");
    let refund = acme(&server, "event=refund&txn_id=T-1&amount=25");
    assert_eq!(refund.verdict(), (200, "accepted", ""));
    let kept = &server.conversions("event=refund")[0];
    assert_eq!(json!([kept["amount"], kept["currency"]]), json!(["25.00", "EUR"]));
    let unknown = acme(&server, "event=refund&txn_id=T-2");
    assert!(unknown.word("hint").contains("none of this advertiser's has this"), "{unknown:?}");

    let click = sell(&server, "shoes", "event=sale&txn_id=T-3&amount=100&customer_id=K-1");
    server.reload_catalog(CATALOG);
    for named in ["txn_id=T-3", &format!("click_id={click}"), "customer_id=K-1&reversal_id=R-1"] {
        for dry in ["&dry_run=1", ""] {
            let answer = acme(&server, &format!("event=refund&{named}&amount=25{dry}"));
            assert_eq!(answer.verdict(), (400, "refused", "bad_currency"), "{named}{dry}");
            assert!(answer.word("hint").contains("in EUR"), "{answer:?}");
        }
    }
    for rest in ["&amount=25&currency=EUR&reversal_id=R-2", ""] {
        let refund = acme(&server, &format!("event=refund&txn_id=T-3{rest}"));
        assert_eq!(refund.verdict(), (200, "accepted", ""), "{rest}");
    }
}
