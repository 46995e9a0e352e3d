//! Of which click a negative event is that names none, and what it takes back then: one choice
//! decides both, whatever else has the same number, and whoever comes at the same moment.

use serde_json::{Value, json};

use crate::by_transaction::acme;
use crate::harness::{Answer, Server, Setup};
use crate::inbound::{judged, log_of, put_text};
use crate::once::at_once;

/// As often as something comes at the same moment.
const ROUNDS: usize = 200;

const AFFILIATES: &str = "[[affiliates]]\nid = \"pub-7\"\n[[affiliates]]\nid = \"pub-8\"\n[[affiliates]]\nid = \"pub-9\"\n";

/// An offer: its ordinary events, and its negative ones with what these take back.
type Offer<'a> = (&'a str, &'a [&'a str], &'a [(&'a str, &'a [&'a str])]);

/// A catalog of one advertiser.
fn catalog(advertiser: &str, offers: &[Offer<'_>]) -> String {
    let mut catalog = format!("{AFFILIATES}[[advertisers]]\nid = \"acme\"\n{advertiser}\n");
    for (offer, ordinary, negative) in offers {
        catalog += &format!(
            "[[offers]]\nid = \"{offer}\"\nadvertiser = \"acme\"\nurl = \"https://a.example/?c={{click_id}}\"\n"
        );
        for event in *ordinary {
            catalog += &format!(
                "[[offers.events]]\nid = \"{event}\"\nreapprove = true\npayout = {{ fixed = \"10\", currency = \"USD\" }}\n"
            );
        }
        for (event, reverses) in *negative {
            catalog += &format!("[[offers.events]]\nid = \"{event}\"\nreverses = {reverses:?}\n");
        }
    }
    catalog
}

/// `adj` takes sales back in one offer, and is an ordinary event in the other.
pub fn adjusted() -> String {
    catalog("", &[("shoes", &["sale"], &[("adj", &["sale"])]), ("club", &["adj"], &[])])
}

/// A conversion by a click of its own, which is returned.
fn sell(server: &Server, from: &str, query: &str) -> String {
    let click = server.click(from);
    let answer = acme(server, &format!("click_id={click}&{query}"));
    assert_eq!(answer.verdict(), (200, "accepted", ""), "{query}");
    click
}

fn check(server: &Server, query: &str, result: &str, click: &str) {
    let answer = acme(server, query);
    let (status, reason) = ((200, result, ""), click);
    assert_eq!((answer.verdict(), answer.word("click_id")), (status, reason), "{query}");
}

fn states(server: &Server, query: &str) -> Vec<Value> {
    let kept = server.conversions(query);
    kept.iter().map(|it| json!([it["txn_id"], it["status"]])).collect()
}

/// What is answered to these, sent at the same moment.
fn acme_at_once(server: &Server, queries: &[String]) -> Vec<Answer> {
    let targets: Vec<_> = queries.iter().map(|query| format!("/postback/acme?{query}")).collect();
    at_once(server, &targets)
}

/// Each refund is of the click of what it has taken back, and nothing was taken back twice.
fn check_refunds(server: &Server) -> usize {
    let kept = server.conversions("");
    let (refunds, sold): (Vec<_>, Vec<_>) = kept.iter().partition(|one| one["event"] == "refund");
    for refund in &refunds {
        let reversed = &refund["params"]["reverses"];
        let of: Vec<_> = sold.iter().filter(|it| it["conversion_id"] == *reversed).collect();
        let clicks: Vec<_> = of.iter().map(|it| &it["click_id"]).collect();
        assert_eq!(clicks, [&refund["click_id"]], "{refund} {of:?}");
        let twice = refunds.iter().filter(|it| it["params"]["reverses"] == *reversed);
        assert_eq!(twice.count(), 1, "{of:?}");
    }
    refunds.len()
}

#[test]
fn a_refunds_own_id_hides_nothing_that_is_no_refund() {
    let server = Setup::new().catalog(adjusted()).start();
    let sold = sell(&server, "offer=shoes&aff=pub-7", "event=sale&txn_id=S-1");
    let pending = sell(&server, "offer=club&aff=pub-8", "event=adj&txn_id=T-1&status=pending");
    let bound = sell(&server, "offer=club&aff=pub-9", "event=adj&txn_id=T-2&customer_id=K-1");
    // One credit note over several orders.
    check(&server, "event=adj&txn_id=S-1&reversal_id=R-1", "accepted", &sold);
    check(&server, "event=adj&txn_id=T-1&reversal_id=R-1&status=approved", "updated", &pending);
    let of_customer = "customer_id=K-1&event=adj&txn_id=T-3&reversal_id=R-1";
    check(&server, of_customer, "accepted", &bound);
    check(&server, of_customer, "duplicate", &bound);
    // A refund of something that is not known, or of somebody, is the one that had the ID.
    for query in ["txn_id=T-4", "txn_id=S-1", "txn_id=T-4&customer_id=K-2"] {
        check(&server, &format!("event=adj&reversal_id=R-1&{query}"), "duplicate", &sold);
    }
    let adjusted = ["T-1", "T-2", "T-3"].map(|txn_id| json!([txn_id, "approved"]));
    assert_eq!(states(&server, "offer=club"), adjusted);
}

#[test]
fn news_of_an_ordinary_event_is_not_hidden_by_what_is_gone() {
    let server = Setup::new().catalog(adjusted()).start();
    let (shoes, club) = ("offer=shoes&aff=pub-7", "offer=club&aff=pub-8");
    let sold = sell(&server, shoes, "event=sale&txn_id=S-1");
    let adjusted = sell(&server, club, "event=adj&txn_id=S-1&status=pending");
    // With an ID of its own it is a refund, as long as there is anything to take back.
    for result in ["accepted", "duplicate"] {
        check(&server, "event=adj&txn_id=S-1&reversal_id=R-1&status=approved", result, &sold);
    }
    assert_eq!(states(&server, "event=adj&txn_id=S-1"), [json!(["S-1", "pending"])]);
    check(&server, "event=adj&txn_id=S-1&reversal_id=R-2&status=approved", "updated", &adjusted);
    // Without, it is news of what it names.
    sell(&server, shoes, "event=sale&txn_id=S-2");
    let adjusted = sell(&server, club, "event=adj&txn_id=S-2&status=pending");
    check(&server, "event=adj&txn_id=S-2&status=approved", "updated", &adjusted);
    assert_eq!(
        states(&server, "event=sale"),
        [json!(["S-1", "reversed"]), json!(["S-2", "approved"])]
    );
}

#[test]
fn a_refund_that_names_no_event_takes_back_its_customers_own() {
    let negative = catalog(
        "default_event = \"refund\"",
        &[("shop", &["sale", "dep"], &[("refund", &["sale", "dep"])])],
    );
    let server = Setup::new().catalog(negative).start();
    let shop =
        |affiliate: &str, query: &str| sell(&server, &format!("offer=shop&aff={affiliate}"), query);
    let first = shop("pub-7", "event=sale&txn_id=A-1&customer_id=K-1");
    shop("pub-8", "event=sale&txn_id=B-1&customer_id=K-2");
    // The customer's click is one, what the transaction has another.
    shop("pub-9", "event=sale&txn_id=Z-1&customer_id=K-5");
    shop("pub-7", "event=sale&txn_id=X-1&customer_id=K-5&status=rejected");
    shop("pub-8", "event=dep&txn_id=X-1&customer_id=K-5");
    let unknown = (404, "refused", "unknown_conversion");
    for query in ["txn_id=B-1&customer_id=K-1", "txn_id=X-1&customer_id=K-5"] {
        for query in [query.to_owned(), format!("{query}&dry_run=1")] {
            assert_eq!(acme(&server, &query).verdict(), unknown, "{query}");
        }
    }
    // What is of the same click, and names no customer, is the customer's.
    let of_click = format!("click_id={first}&event=dep&txn_id=A-2");
    assert_eq!(acme(&server, &of_click).verdict(), (200, "accepted", ""));
    check(&server, "txn_id=A-2&customer_id=K-1", "accepted", &first);
    check(&server, "txn_id=A-1&customer_id=K-1", "accepted", &first);

    // An ID that another refund had is that one's.
    let other = shop("pub-8", "event=sale&txn_id=C-1");
    shop("pub-9", "event=sale&txn_id=C-2");
    check(&server, "txn_id=C-1&reversal_id=R-1", "accepted", &other);
    check(&server, "txn_id=C-2&reversal_id=R-1", "duplicate", &other);
    let left: Vec<_> = ["B-1", "Z-1", "C-2"].map(|txn_id| json!([txn_id, "approved"])).into();
    assert_eq!(states(&server, "event=sale&status=approved"), left);
    assert_eq!(check_refunds(&server), 3);
}

#[test]
fn a_refund_finds_what_is_paid_among_all_events_of_an_offer() {
    let events: Vec<_> = (0..20).map(|n| format!("e{n:02}")).collect();
    let events: Vec<_> = events.iter().map(String::as_str).collect();
    let server =
        Setup::new().catalog(catalog("", &[("o", &events, &[("refund", &events)])])).start();
    sell(&server, "offer=o&aff=pub-7", "event=e00&txn_id=T-1&status=rejected");
    let paid = sell(&server, "offer=o&aff=pub-8", "event=e19&txn_id=T-1");
    check(&server, "event=refund&txn_id=T-1", "accepted", &paid);
    let alone = sell(&server, "offer=o&aff=pub-9", "event=e18&txn_id=T-2");
    check(&server, "event=refund&txn_id=T-2", "accepted", &alone);
    assert_eq!(check_refunds(&server), 2);
}

#[test]
fn a_transaction_is_asked_of_so_many_events_and_no_more() {
    let ids: Vec<_> = (0..65).map(|n| (format!("o{n:02}"), format!("e{n:02}"))).collect();
    let events: Vec<_> = ids.iter().map(|(_, event)| [event.as_str()]).collect();
    let refunds: Vec<_> = events.iter().map(|events| [("refund", &events[..])]).collect();
    let offers: Vec<_> = ids
        .iter()
        .zip(events.iter().zip(&refunds))
        .map(|((offer, _), (events, refunds))| (offer.as_str(), &events[..], &refunds[..]))
        .collect();
    let server = Setup::new().catalog(catalog("", &offers)).start();
    let last = sell(&server, "offer=o63&aff=pub-7", "event=e63&txn_id=T-1");
    let beyond = sell(&server, "offer=o64&aff=pub-7", "event=e64&txn_id=T-2");
    check(&server, "event=refund&txn_id=T-1", "accepted", &last);
    let refused = acme(&server, "event=refund&txn_id=T-2");
    assert_eq!(refused.verdict(), (400, "refused", "missing_click_id"));
    let hint = refused.word("hint");
    assert!(hint.contains("take back more than 64 events"), "{hint}");
    let by_click = format!("click_id={beyond}&event=refund&txn_id=T-2");
    assert_eq!(acme(&server, &by_click).verdict(), (200, "accepted", ""));
}

#[test]
fn a_refund_at_the_moment_of_its_sale_is_of_that_sale() {
    let offers = catalog("", &[("shop", &["sale", "dep"], &[("refund", &["sale", "dep"])])]);
    let server = Setup::new().catalog(offers).start();
    for round in 1..=ROUNDS {
        let bound = format!("event=dep&txn_id=b{round}&customer_id=K-{round}");
        sell(&server, "offer=shop&aff=pub-7", &bound);
        let click = server.click("offer=shop&aff=pub-8");
        let of_both = format!("customer_id=K-{round}&txn_id={round}");
        let sale = format!("{of_both}&event=sale&click_id={click}");
        let refund = |id| format!("{of_both}&event=refund&reversal_id={id}-{round}");
        let mut all: Vec<_> = ["A", "B", "C", "D", "E", "F", "G"].map(refund).into();
        all.insert(3, sale);
        for (at, answer) in acme_at_once(&server, &all).iter().enumerate() {
            let (_, result, reason) = answer.verdict();
            let is_early =
                ["unknown_conversion", "illegal_transition"].contains(&reason) && at != 3;
            assert!(is_early || result == "accepted", "{answer:?}");
        }
    }
    assert!(check_refunds(&server) > 0);
}

#[test]
fn refunds_and_approvals_at_the_same_moment_are_each_of_one_click() {
    let casino: &[&str] = &["ftd", "deposit", "bonus"];
    let server = Setup::new().catalog(catalog("", &[("o", casino, &[("refund", casino)])])).start();
    for round in 1..=ROUNDS {
        for (event, status) in [("ftd", "approved"), ("deposit", "rejected"), ("bonus", "rejected")]
        {
            let query = format!("event={event}&txn_id={round}&status={status}");
            sell(&server, "offer=o&aff=pub-7", &query);
        }
        let refund = |id| format!("event=refund&txn_id={round}&reversal_id={id}-{round}");
        let approval = |event| format!("event={event}&txn_id={round}&status=approved");
        let all = [refund("A"), refund("B"), approval("deposit"), refund("C"), approval("bonus")];
        for answer in acme_at_once(&server, &all) {
            let (status, ..) = answer.verdict();
            assert!(status == 200 || status == 409, "{answer:?}");
        }
    }
    assert!(check_refunds(&server) >= ROUNDS);
}

#[test]
fn events_that_take_each_other_back_in_two_offers_wait_for_no_one() {
    let offers = catalog("", &[("x", &["b"], &[("a", &["b"])]), ("y", &["a"], &[("b", &["a"])])]);
    let server = Setup::new().catalog(offers).start();
    let clicks = ["x", "y"].map(|offer| server.click(&format!("offer={offer}&aff=pub-7")));
    for round in 1..=ROUNDS {
        let all = (0..4).flat_map(|at| {
            let pairs = clicks.iter().zip(["a", "b"]);
            pairs.map(move |(click, event)| {
                format!("click_id={click}&event={event}&txn_id={round}-{at}")
            })
        });
        for answer in acme_at_once(&server, &all.collect::<Vec<_>>()) {
            assert_eq!(answer.verdict(), (404, "refused", "unknown_conversion"));
        }
    }
}

#[test]
fn a_refund_of_fewer_than_were_sold_that_takes_back_all_says_so() {
    let server = Setup::new()
        .catalog(catalog("", &[("shoes", &["sale"], &[("refund", &["sale"])])]))
        .start();
    let hinted = "all of it is taken back, whatever the quantity: a part is taken back by an amount, of a conversion that has one";
    let sale = |txn: &str, said: &str| {
        sell(&server, "offer=shoes&aff=pub-7", &format!("event=sale&txn_id={txn}{said}"));
    };
    let check = |txn: &str, said: &str, hint: &str, status: &str| {
        for dry in ["&dry_run=1", ""] {
            let answer = acme(&server, &format!("event=refund&txn_id={txn}{said}{dry}"));
            assert_eq!((answer.verdict(), answer.word("hint")), ((200, "accepted", ""), hint));
        }
        assert_eq!(states(&server, &format!("event=sale&txn_id={txn}")), [json!([txn, status])]);
    };
    let (some, one) = ("&quantity=3&amount=90", "");
    for (txn, sold, said, hint, status) in [
        ("A", some, "&quantity=1", hinted, "reversed"),
        ("B", some, "&quantity=3", "", "reversed"),
        ("C", some, "", "", "reversed"),
        ("D", some, "&quantity=1&amount=30", "", "approved"),
        ("E", one, "&quantity=1", "", "reversed"),
        ("F", one, "&quantity=0", hinted, "reversed"),
        ("G", "&quantity=3", "&quantity=2", hinted, "reversed"),
    ] {
        sale(txn, sold);
        check(txn, said, hint, status);
    }
    for txn in ["X", "Y"] {
        sale(txn, "&customer_id=K-1");
    }
    let answer = acme(&server, "event=refund&customer_id=K-1&quantity=1");
    assert_eq!((answer.verdict(), answer.word("hint")), ((200, "accepted", ""), hinted));
}

#[test]
fn what_an_offer_has_sold_that_has_left_the_catalog_is_no_others() {
    let old: Offer<'_> = ("old", &["sale"], &[("refund", &["sale"])]);
    let new: Offer<'_> = ("new", &["sale", "dep"], &[("refund", &["sale", "dep"])]);
    let server = Setup::new().without_catalog_file().start();
    put_text(&server, &catalog("", &[old, new]));
    let sell = |offer: &str, query: &str| sell(&server, &format!("offer={offer}&aff=pub-7"), query);
    for sold in ["T-1", "T-2&status=pending", "T-3", "T-4"] {
        sell("old", &format!("event=sale&txn_id={sold}"));
    }
    check(&server, "event=sale&txn_id=T-3&status=reversed", "updated", &click_of(&server, "T-3"));
    let [_, second, third] =
        ["T-1", "T-2", "T-3"].map(|txn_id| sell("new", &format!("event=dep&txn_id={txn_id}")));

    put_text(&server, &catalog("", &[new]));
    // What would have been taken back first is not there to be judged.
    for txn_id in ["T-1", "T-4"] {
        let refused = acme(&server, &format!("event=refund&txn_id={txn_id}"));
        assert_eq!(refused.verdict(), (404, "refused", "unknown_offer"), "{txn_id}");
    }
    check(&server, "event=refund&txn_id=T-2", "accepted", &second);
    check(&server, "event=refund&txn_id=T-3", "accepted", &third);
    log_of(&server, "result=refused", 2);

    put_text(&server, &catalog("", &[old, new]));
    let judged = judged(&server, true);
    assert_eq!((&judged["accepted"], &judged["refused"]), (&json!(2), &json!({})), "{judged}");
    let reversed = |txn_id: &str, status: &str| json!([txn_id, status]);
    assert_eq!(
        states(&server, "offer=old&event=sale"),
        [
            reversed("T-1", "reversed"),
            reversed("T-2", "pending"),
            reversed("T-3", "reversed"),
            reversed("T-4", "reversed")
        ]
    );
    assert_eq!(
        states(&server, "event=dep"),
        [reversed("T-1", "approved"), reversed("T-2", "reversed"), reversed("T-3", "reversed")]
    );
    check_refunds(&server);
}

#[test]
fn a_refund_that_counted_is_a_duplicate_whatever_has_left_the_catalog_since() {
    let old: Offer<'_> = ("old", &["sale"], &[("refund", &["sale"])]);
    let new: Offer<'_> = ("new", &["sale", "dep"], &[("refund", &["sale", "dep"])]);
    let server = Setup::new().without_catalog_file().start();
    put_text(&server, &catalog("", &[old, new]));
    for (txn_id, status) in [("T-1", "&status=reversed"), ("T-2", "&status=pending")] {
        let sale = format!("event=sale&txn_id={txn_id}");
        let first = sell(&server, "offer=old&aff=pub-7", &format!("{sale}&status=pending"));
        if txn_id == "T-1" {
            check(&server, &format!("{sale}&status=approved"), "updated", &first);
            check(&server, &format!("{sale}{status}"), "updated", &first);
        }
        let dep = sell(&server, "offer=new&aff=pub-8", &format!("event=dep&txn_id={txn_id}"));
        let refund = format!("event=refund&txn_id={txn_id}&reversal_id=R-{txn_id}");
        put_text(&server, &catalog("", &[old, new]));
        check(&server, &refund, "accepted", &dep);
        put_text(&server, &catalog("", &[new]));
        check(&server, &refund, "duplicate", &dep);
        put_text(&server, &catalog("", &[old, new]));
    }
}

/// The click of the first conversion of a transaction.
fn click_of(server: &Server, txn_id: &str) -> String {
    let kept = server.conversions(&format!("txn_id={txn_id}"));
    kept[0]["click_id"].as_str().expect("a click").to_owned()
}

#[test]
fn a_sale_is_no_duplicate_of_another_offers_refund_nor_a_refund_of_its_sale() {
    let mut server = Setup::new().catalog(adjusted()).start();
    let shoes = sell(&server, "offer=shoes&aff=pub-7", "event=sale&txn_id=S-1");
    let again = format!("click_id={shoes}&event=sale&txn_id=S-2");
    assert_eq!(acme(&server, &again).verdict(), (200, "accepted", ""));
    check(&server, "event=adj&txn_id=S-1", "accepted", &shoes);
    let club = sell(&server, "offer=club&aff=pub-8", "event=adj&txn_id=S-2");
    for at in 0..2 {
        for (query, hint) in [
            (format!("click_id={club}&event=adj&txn_id=S-1&amount=5"), "a negative event of the"),
            (format!("click_id={club}&event=adj&txn_id=S-1&status=rejected"), "a negative event"),
            (format!("click_id={shoes}&event=adj&txn_id=S-2"), "offer \"club\", where the event"),
        ] {
            for query in [format!("{query}&dry_run=1"), query] {
                let answer = acme(&server, &query);
                assert_eq!(answer.verdict(), (409, "refused", "illegal_transition"), "{query}");
                assert!(answer.word("hint").contains(hint), "{at}: {answer:?}");
            }
        }
        // What names no click is of what has the key.
        check(&server, "event=adj&txn_id=S-1", "duplicate", &shoes);
        check(&server, "event=adj&txn_id=S-2", "duplicate", &club);
        server.kill();
        server.start_again();
    }
    check(
        &server,
        &format!("click_id={shoes}&event=adj&txn_id=S-2&reversal_id=R"),
        "accepted",
        &shoes,
    );
    let all = [["S-1", "reversed"], ["S-2", "reversed"]].map(|it| json!(it));
    assert_eq!(states(&server, "event=sale"), all);
}

#[test]
fn a_customers_sale_is_no_duplicate_of_another_offers_refund() {
    let offers: [Offer<'_>; 2] =
        [("shoes", &["sale"], &[("adj", &["sale"])]), ("club", &["adj"], &[])];
    let server = Setup::new().catalog(catalog("default_event = \"adj\"", &offers)).start();
    sell(&server, "offer=shoes&aff=pub-7", "event=sale&txn_id=S-1");
    sell(&server, "offer=club&aff=pub-8", "txn_id=S-0&customer_id=K");
    assert_eq!(acme(&server, "event=adj&txn_id=S-1").verdict(), (200, "accepted", ""));
    for query in ["txn_id=S-1&customer_id=K&dry_run=1", "txn_id=S-1&customer_id=K"] {
        let answer = acme(&server, query);
        assert_eq!(answer.verdict(), (409, "refused", "illegal_transition"), "{query}");
    }
}

#[test]
fn what_is_judged_again_is_no_duplicate_of_another_offers_refund_either() {
    let server = Setup::new().catalog(adjusted().replace("\"adj\"", "\"later\"")).start();
    let shoes = sell(&server, "offer=shoes&aff=pub-7", "event=sale&txn_id=S-1");
    let club = server.click("offer=club&aff=pub-8");
    for click in [&shoes, &club, &club] {
        let answer = acme(&server, &format!("click_id={click}&event=adj&txn_id=S-1"));
        assert_eq!(answer.verdict(), (404, "refused", "unknown_event"));
    }
    server.reload_catalog(&adjusted());
    for apply in [false, true] {
        let asked = json!({ "from": "2020-01-01T00:00:00Z", "apply": apply });
        let done = server.work("reprocess", &asked);
        let refused = json!({ "illegal_transition": 2 });
        assert_eq!(json!([done["accepted"], done["refused"]]), json!([1, refused]), "{done}");
    }
    assert_eq!(states(&server, "event=sale"), [json!(["S-1", "reversed"])]);
}
