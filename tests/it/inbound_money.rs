//! What judging refused postbacks again does to the money, and says of it before and after.

use serde_json::{Value, json};

use crate::harness::Server;
use crate::inbound::{click, earned, judged, log_of, put_text, start, verify_at, with_refunds};

/// What is owed to each of the two affiliates.
fn owed(server: &Server) -> [Value; 2] {
    ["one", "two"].map(|affiliate| {
        let balances = server.api(&format!("balances?affiliate={affiliate}"))["balances"].clone();
        let balance = balances.as_array().expect("balances").first().cloned();
        balance.map_or_else(|| json!("0.00"), |balance| balance["owed"].clone())
    })
}

/// Conversions by these clicks.
fn sell(server: &Server, sales: &[(&str, &str)]) {
    for (click, sale) in sales {
        let answer = server.postback(&format!("click_id={click}&{sale}"));
        assert_eq!(answer.verdict(), (200, "accepted", ""), "{sale}");
    }
}

/// Three approved sales and a pending one; the first is cancelled by a word and the second refunded
/// in part and whole by an event that are unknown, the pending one approved with another amount,
/// then cancelled; a new sale comes and its refund; all of it refused.
#[test]
fn what_is_taken_back_and_changed_is_told_as_it_is_booked() {
    let server = start();
    let [one, two] = ["one", "two"].map(|affiliate| click(&server, "acme", affiliate));
    let send = |click: &str, query: &str| server.postback(&format!("click_id={click}&{query}"));
    let sales = [
        (&*one, "event=sale&txn_id=S-1&amount=50"),
        (&one, "event=sale&txn_id=S-2&amount=100"),
        (&two, "event=sale&txn_id=S-3&amount=30"),
        (&two, "event=sale&txn_id=S-4&amount=10&status=pending"),
        (&two, "event=sale&txn_id=S-5&amount=40&status=pending"),
    ];
    sell(&server, &sales);
    assert_eq!(owed(&server), ["17.00", "4.00"]);
    let refused = [
        (&one, "event=sale&txn_id=S-1&status=annulled"),
        (&one, "event=chargeback&txn_id=S-2&amount=25&reversal_id=R-1"),
        // Nothing is left for the second.
        (&one, "event=chargeback&txn_id=S-2&reversal_id=R-2"),
        (&one, "event=chargeback&txn_id=S-2&reversal_id=R-3"),
        (&two, "event=sale&txn_id=S-4&status=confirmed&amount=20"),
        (&two, "event=sale&txn_id=S-4&status=annulled"),
        (&two, "event=sale&txn_id=S-5&status=confirmed"),
        (&two, "event=lead&txn_id=L-1&amount=10"),
        (&two, "event=lead&txn_id=L-2&amount=10&status=pending"),
    ];
    for (click, query) in refused {
        assert_eq!(send(click, query).word("result"), "refused", "{query}");
    }
    log_of(&server, "result=refused", refused.len());

    let words = "id = \"acme\"\nstatuses = { annulled = \"reversed\", confirmed = \"approved\" }\n";
    let events = with_refunds(&["sale", "lead"], "chargeback");
    put_text(&server, &events.replacen("id = \"acme\"\n", words, 1));
    let expected = json!([
        // S-1 took 20 and 6, S-2 20 and 11.
        earned("one", 2, ["-40.00", "-17.00"], ["-40.00", "-17.00"]),
        // S-4 had 20 and 2, pending; S-5 is approved; L-1 and L-2 earn 20 and 2 each.
        earned("two", 2, ["20.00", "2.00"], ["40.00", "7.00"]),
    ]);
    let counts = |judged: &Value| {
        ["accepted", "updated", "duplicate"].map(|what| judged[what].as_u64().expect("a count"))
    };
    for apply in [false, true] {
        assert_eq!(owed(&server), ["17.00", "4.00"], "a dry run changes nothing");
        let judged = judged(&server, apply);
        assert_eq!(counts(&judged), [4, 4, 0], "{judged}");
        assert_eq!(judged["refused"], json!({ "illegal_transition": 1 }), "{judged}");
        assert_eq!(judged["affiliates"], expected, "apply: {apply}");
    }
    assert_eq!(owed(&server), ["0.00", "11.00"]);
    let again = judged(&server, true);
    assert_eq!((counts(&again), &again["affiliates"]), ([0, 0, 7], &json!([])), "{again}");
    verify_at(&server);
}

#[test]
fn refunds_take_back_one_after_the_other_in_a_dry_run_too() {
    let server = start();
    put_text(&server, &with_refunds(&["sale", "lead"], "refund"));
    let [one, two] = ["one", "two"].map(|affiliate| click(&server, "acme", affiliate));
    let sales = [
        (&*one, "event=sale&txn_id=T-1&amount=50"),
        (&one, "event=lead&txn_id=T-1&amount=10"),
        (&two, "event=sale&txn_id=T-2&amount=20"),
        (&two, "event=sale&txn_id=T-3&amount=30"),
    ];
    sell(&server, &sales);
    let refund = "event=chargeback&reversal_id";
    let refunds: Vec<_> = (1..=3)
        .map(|n| format!("{refund}=R-{n}&txn_id=T-1"))
        .chain((4..=6).map(|n| format!("{refund}=R-{n}&click_id={two}")))
        .collect();
    for query in &refunds {
        let answer = server.get(&format!("/postback/acme?{query}"));
        assert_eq!(answer.json()["result"], "refused", "{query}");
    }
    log_of(&server, "result=refused", refunds.len());
    put_text(&server, &with_refunds(&["sale", "lead"], "chargeback"));
    for apply in [false, true] {
        let judged = judged(&server, apply);
        assert_eq!(judged["accepted"], 4, "{judged}");
        assert_eq!(judged["refused"], json!({ "illegal_transition": 2 }), "{judged}");
        let expected = json!([
            earned("one", 2, ["-40.00", "-8.00"], ["-40.00", "-8.00"]),
            earned("two", 2, ["-40.00", "-7.00"], ["-40.00", "-7.00"]),
        ]);
        assert_eq!(judged["affiliates"], expected, "apply: {apply}");
    }
    verify_at(&server);
}

#[test]
fn news_of_news_is_foreseen_as_it_is_booked() {
    let server = start();
    let words = "id = \"acme\"\nrejects_approved = true\n\
                 statuses = { void = \"rejected\", confirmed = \"approved\" }\n";
    let text = |refund: &str, words: &str| {
        let events = with_refunds(&["sale", "lead"], refund);
        let events = events.replace("id = \"sale\"\n", "id = \"sale\"\nreapprove = true\n");
        events.replacen("id = \"acme\"\n", words, 1)
    };
    put_text(&server, &text("refund", "id = \"acme\"\nrejects_approved = true\n"));
    let [one, two] = ["one", "two"].map(|affiliate| click(&server, "acme", affiliate));
    let send = |click: &str, query: &str| server.postback(&format!("click_id={click}&{query}"));
    let first = "event=sale&txn_id=A&amount=50&status=rejected";
    sell(&server, &[(&*one, first), (&two, "event=sale&txn_id=B&amount=50")]);
    let refused = [
        (&one, "event=sale&txn_id=A&status=confirmed"),
        (&one, "event=sale&txn_id=A&status=void"),
        (&two, "event=chargeback&txn_id=B&reversal_id=R"),
    ];
    for (click, query) in refused {
        assert_eq!(send(click, query).word("result"), "refused", "{query}");
    }
    log_of(&server, "result=refused", refused.len());
    put_text(&server, &text("chargeback", words));
    let mut before = None;
    for apply in [false, true] {
        let mut judged = judged(&server, apply);
        assert_eq!((&judged["updated"], &judged["accepted"]), (&json!(2), &json!(1)), "{judged}");
        judged["applied"] = Value::Null;
        assert_eq!(*before.get_or_insert_with(|| judged.clone()), judged);
    }
    verify_at(&server);
}
