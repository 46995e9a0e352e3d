//! Amounts in other currencies: rates of the day, pinned, and conversions that wait for them.

use serde_json::{Value, json};

use crate::harness::{CATALOG, Connection, Fault, Response, Server, Setup, TOKEN, eventually, run};

const SHARES: &str = r#"
[[offers]]
id = "games"
advertiser = "acme"
url = "https://games.example/?subid={click_id}"

[[offers.events]]
id = "deposit"
payout = { fixed = "1", percent = "10", currency = "EUR" }
revenue = { percent = "20" }
trust_revenue = true

[[offers.events]]
id = "sale"
payout = { percent = "10", currency = "USD" }
revenue = { percent = "20" }

[[offers.events]]
id = "refund"
reverses = ["sale"]
"#;

pub const TODAY: &str = r#"{"base":"USD","rates":{"EUR":"0.80","JPY":"160"}}"#;

pub fn server() -> Server {
    with_shares(Server::start())
}

/// With offers that earn shares of an amount.
pub fn with_shares(server: Server) -> Server {
    load(&server, SHARES);
    server
}

fn load(server: &Server, shares: &str) {
    server.reload_catalog(&format!("{CATALOG}{shares}"));
}

pub fn today() -> String {
    jiff::Timestamp::now().strftime("%Y-%m-%d").to_string()
}

pub fn put(server: &Server, date: &str, body: &str) -> Response {
    server.put_api(&format!("rates/{date}"), body)
}

/// Sends a postback; answers the conversion's ID.
pub fn convert(server: &Server, query: &str) -> String {
    let click = server.click("offer=games&aff=pub-7");
    let answer = server.postback(&format!("click_id={click}&{query}"));
    assert_eq!(answer.verdict(), (200, "accepted", ""), "{query}");
    answer.word("conversion_id").to_owned()
}

pub fn money(server: &Server, id: &str) -> Value {
    let kept = server.api(&format!("conversions/{id}"));
    let names = ["payout", "revenue", "currency", "amount_rate", "base", "flags"];
    names.map(|name| kept[name].clone()).into_iter().collect()
}

#[test]
fn an_amount_in_another_currency_is_exchanged_at_the_rate_of_its_day_which_stays_pinned() {
    let mut server = server();
    assert_eq!(put(&server, &today(), TODAY).status, 200);
    let yen = convert(&server, "event=sale&amount=1600&currency=JPY");
    let rate = json!({"from": "160", "to": "1"});
    let expected = json!(["1.00", "2.00", "USD", rate, null, []]);
    assert_eq!(money(&server, &yen), expected);
    let euros = convert(&server, "event=deposit&amount=1600&currency=JPY");
    let rate = json!({"from": "160", "to": "0.8"});
    let base = json!({
        "currency": "USD", "rate": {"from": "0.8", "to": "1"},
        "revenue": "2.00", "payout": "2.25",
    });
    assert_eq!(money(&server, &euros), json!(["1.80", "1.60", "EUR", rate, base, []]));
    assert_eq!(put(&server, &today(), &TODAY.replace("160", "320")).status, 200);
    assert_eq!(money(&server, &yen), expected);
    server.kill();
    server.start_again();
    let rates = json!({"base": "USD", "rates": {"EUR": "0.8", "JPY": "320"}});
    assert_eq!(server.api(&format!("rates/{}", today())), rates);
    let later = convert(&server, "event=sale&amount=1600&currency=JPY");
    assert_eq!(money(&server, &later)[0], "0.50");
    assert_eq!(money(&server, &yen), expected);
}

#[test]
fn a_conversion_without_a_rate_is_flagged_and_priced_when_the_rate_comes() {
    let server = server();
    let yen = convert(&server, "event=sale&amount=1600&currency=JPY");
    let own = convert(&server, "event=deposit&amount=1600&revenue=480&currency=JPY");
    let euros = convert(&server, "event=deposit&amount=30&revenue=9");
    let pounds = convert(&server, "event=sale&amount=1600&currency=GBP");
    let unpriced = json!(["0.00", "0.00", "USD", null, null, ["rate_missing"]]);
    assert_eq!(money(&server, &yen), unpriced);
    let flags = json!(["rate_missing", "base_rate_missing"]);
    assert_eq!(money(&server, &own), json!(["1.00", "0.00", "EUR", null, null, flags]));
    let flags = json!(["base_rate_missing"]);
    assert_eq!(money(&server, &euros), json!(["4.00", "9.00", "EUR", null, null, flags]));
    let totals = server.api("totals");
    assert_eq!((&totals["conversions"], &totals["unpriced"]), (&json!(4), &json!(4)));
    let in_euros = json!([totals["by_currency"][0]]);
    assert_eq!((&totals["payout"], &totals["not_converted"]), (&json!("0.00"), &in_euros));
    assert_eq!(in_euros[0]["payout"], "5.00", "what is known of it");
    assert_eq!(put(&server, "2020-01-01", TODAY).status, 200);
    assert_eq!(put(&server, &today(), TODAY).status, 200);
    let priced = eventually("the price", || {
        let kept = server.api(&format!("conversions/{euros}"));
        (kept["flags"] == json!([])).then_some(kept)
    });
    let history = priced["history"].as_array().expect("steps");
    assert_eq!(history.len(), 2);
    assert_eq!(history[1]["reason"], "repriced");
    assert_eq!(history[1]["status"], history[0]["status"]);
    let click = priced["click_id"].as_str().expect("a click");
    let event = priced["event"].as_str().expect("an event");
    let received = priced["received_time"].as_str().expect("a time");
    let received: jiff::Timestamp = received.parse().expect("a time");
    let before = received.as_millisecond() - 1;
    let news = format!("click_id={click}&event={event}&status=reversed&timestamp={before}");
    let reversed = server.postback(&news);
    assert_eq!(reversed.verdict(), (200, "updated", ""), "nobody said when it happened");
    let rate = json!({"from": "160", "to": "1"});
    assert_eq!(money(&server, &yen), json!(["1.00", "2.00", "USD", rate, null, []]));
    let (rate, back) = (json!({"from": "160", "to": "0.8"}), json!({"from": "0.8", "to": "1"}));
    let base = json!({"currency": "USD", "rate": back, "revenue": "3.00", "payout": "2.25"});
    assert_eq!(money(&server, &own), json!(["1.80", "2.40", "EUR", rate, base, []]));
    let base = json!({"currency": "USD", "rate": back, "revenue": "11.25", "payout": "5.00"});
    assert_eq!(money(&server, &euros), json!(["4.00", "9.00", "EUR", null, base, []]));
    assert_eq!(money(&server, &pounds), unpriced);
    let still = server.api(&format!("conversions/{pounds}"));
    assert_eq!(still["history"].as_array().map(Vec::len), Some(1), "nothing was changed");
    let expected = json!({
        "currency": "USD", "conversions": 4, "unpriced": 1, "revenue": "16.25",
        "payout": "8.25", "margin": "8.00", "next_cursor": null,
        "by_currency": [
            {"currency": "EUR", "conversions": 2, "revenue": "11.40", "payout": "5.80",
             "margin": "5.60"},
            {"currency": "USD", "conversions": 2, "revenue": "2.00", "payout": "1.00",
             "margin": "1.00"},
        ],
        "not_converted": [],
    });
    assert_eq!(server.api("totals"), expected);
    assert_eq!(server.api("totals?event=sale")["margin"], "1.00");
}

#[test]
fn a_conversion_may_be_approved_and_taken_back_in_part_while_it_waits_for_its_rate() {
    let server = server();
    let click = server.click("offer=games&aff=pub-7");
    for query in [
        "event=sale&txn_id=T&amount=1600&currency=JPY&status=pending",
        "event=sale&txn_id=T&status=approved",
        "event=refund&txn_id=T&amount=400&currency=JPY",
    ] {
        let answer = server.postback(&format!("click_id={click}&{query}"));
        assert_eq!(answer.http.status, 200, "{query}: {answer:?}");
    }
    // Without a currency these are euros.
    let refund = format!("click_id={click}&event=refund&txn_id=T&reversal_id=R&amount=4");
    assert_eq!(server.postback(&refund).verdict(), (400, "refused", "bad_currency"));
    assert_eq!(put(&server, &today(), TODAY).status, 200);
    let priced = eventually("the price", || {
        let kept = server.conversions("event=sale").remove(0);
        (kept["flags"] == json!([])).then_some(kept)
    });
    let money = ["payout", "revenue", "amount", "reversed_amount"].map(|name| &priced[name]);
    assert_eq!(json!(money), json!(["0.75", "1.50", "1600", "400"]));
    let steps = priced["history"].as_array().expect("steps").iter();
    let steps: Vec<_> = steps.map(|step| json!([step["status"], step["reason"]])).collect();
    let expected = json!([
        ["pending", "postback"],
        ["approved", "postback"],
        ["approved", "refund"],
        ["approved", "repriced"],
    ]);
    assert_eq!(json!(steps), expected);
}

#[test]
fn totals_and_balances_agree_on_what_is_known_while_the_rest_waits_for_its_rate() {
    let server = server();
    let sums = |waiting: u32, owed: &str, in_euros: &str| {
        let totals = server.api("totals?affiliate=pub-7&status=approved");
        let base = server.api("balances?affiliate=pub-7")["base"].clone();
        assert_eq!((&totals["payout"], &base["owed"]), (&json!(owed), &json!(owed)));
        let not_converted =
            [&totals["not_converted"][0]["payout"], &base["not_converted"][0]["owed"]];
        let in_euros = json!(if in_euros.is_empty() { None } else { Some(in_euros) });
        assert_eq!(not_converted, [&in_euros; 2]);
        assert_eq!(totals["unpriced"], waiting);
    };
    // One euro is known of it, and neither rate.
    let early = convert(&server, "event=deposit&amount=1600&currency=JPY");
    sums(1, "0.00", "1.00");
    assert_eq!(put(&server, &today(), r#"{"base":"USD","rates":{"EUR":"0.80"}}"#).status, 200);
    let known = convert(&server, "event=deposit&amount=1600&currency=JPY");
    assert_eq!(money(&server, &known)[5], json!(["rate_missing"]));
    eventually("the worth in dollars", || {
        (money(&server, &early)[5] == json!(["rate_missing"])).then_some(())
    });
    sums(2, "2.50", "");
    assert_eq!(put(&server, &today(), TODAY).status, 200);
    for id in [early, known] {
        eventually("the price", || (money(&server, &id)[5] == json!([])).then_some(()));
    }
    sums(0, "4.50", "");
}

#[test]
fn what_was_exchanged_keeps_its_rate_while_it_waits_for_that_of_the_network() {
    let server = server();
    let rates = |yen: &str, dollars: &str| {
        let rates = format!(r#"{{"base":"EUR","rates":{{"JPY":"{yen}"{dollars}}}}}"#);
        assert_eq!(put(&server, &today(), &rates).status, 200);
    };
    rates("200", "");
    let id = convert(&server, "event=deposit&amount=1600&revenue=480&currency=JPY");
    let rate = json!({"from": "200", "to": "1"});
    let waiting = json!(["1.80", "2.40", "EUR", rate, null, ["base_rate_missing"]]);
    assert_eq!(money(&server, &id), waiting);
    rates("400", r#","USD":"1.25""#);
    let priced = eventually("the worth in dollars", || {
        let money = money(&server, &id);
        (money[4] != json!(null)).then_some(money)
    });
    let base = json!({
        "currency": "USD", "rate": {"from": "1", "to": "1.25"},
        "revenue": "3.00", "payout": "2.25",
    });
    assert_eq!(priced, json!(["1.80", "2.40", "EUR", rate, base, []]));
}

#[test]
fn news_in_another_currency_is_refused_if_amounts_would_stay_in_theirs() {
    let server = server();
    assert_eq!(put(&server, &today(), TODAY).status, 200);
    let own = "event=deposit&txn_id=T&amount=1600&revenue=480&currency=JPY";
    let id = convert(&server, own);
    let kept = server.api(&format!("conversions/{id}"));
    let click = kept["click_id"].as_str().expect("a click");
    let tell = |news: &str| {
        let news = format!("click_id={click}&event=deposit&txn_id=T&status=approved&{news}");
        server.postback(&news)
    };
    for news in ["amount=100", "revenue=3", "amount=100&currency=USD"] {
        let answer = tell(news);
        assert_eq!(answer.verdict(), (400, "refused", "bad_currency"), "{news}");
        assert!(answer.word("hint").contains("in JPY"), "{answer:?}");
    }
    let upload = format!("conversion_id,status,amount\n{id},approved,100\n");
    let answer = server.post_api("conversions/status", "text/csv", &upload);
    assert!(String::from_utf8_lossy(&answer.body).contains("bad_currency"), "{answer:?}");
    assert_eq!(server.api(&format!("conversions/{id}")), kept, "nothing has changed");
    let again = "amount=1600&revenue=480&currency=JPY";
    assert_eq!(tell(again).verdict(), (200, "duplicate", ""));
    assert_eq!(tell("amount=3200&currency=JPY").verdict(), (200, "updated", ""));
    assert_eq!(json!([money(&server, &id)[0], money(&server, &id)[1]]), json!(["2.60", "2.40"]));
    // All of them again, which may be in one or the other.
    assert_eq!(tell("amount=100&revenue=3").verdict(), (400, "refused", "bad_currency"));
    assert_eq!(tell("amount=100&revenue=3&currency=EUR").verdict(), (200, "updated", ""));
    assert_eq!(json!([money(&server, &id)[0], money(&server, &id)[1]]), json!(["11.00", "3.00"]));
}

#[test]
fn what_has_left_the_catalog_has_its_worth_is_named_in_the_log_and_priced_when_it_is_back() {
    let mut server = server();
    let waiting = convert(&server, "event=deposit&amount=1600&currency=JPY");
    assert_eq!(money(&server, &waiting)[5], json!(["rate_missing", "base_rate_missing"]));
    load(&server, &SHARES.replace("\"deposit\"", "\"lead\""));
    assert_eq!(put(&server, &today(), TODAY).status, 200);
    eventually("the worth in dollars", || {
        (money(&server, &waiting)[5] == json!(["rate_missing"])).then_some(())
    });
    let base = json!({
        "currency": "USD", "rate": {"from": "0.8", "to": "1"},
        "revenue": "0.00", "payout": "1.25",
    });
    let known = json!(["1.00", "0.00", "EUR", null, base, ["rate_missing"]]);
    assert_eq!(money(&server, &waiting), known);
    let is_named = |line: &str| line.contains("not in the catalog") && line.contains(&waiting);
    eventually("a warning", || server.log().lines().any(is_named).then_some(()));
    load(&server, SHARES);
    server.kill();
    server.start_again();
    eventually("the price", || (money(&server, &waiting)[5] == json!([])).then_some(()));
    assert_eq!(
        json!([money(&server, &waiting)[0], money(&server, &waiting)[1]]),
        json!(["1.80", "1.60"])
    );
}

/// Other terms, under which `sale` has left the catalog.
fn other_terms() -> String {
    let shares = SHARES.replace("\"sale\"", "\"lead\"").replace("fixed = \"1\"", "fixed = \"3\"");
    shares.replace("\"10\"", "\"20\"").replace("\"20\" }", "\"40\" }")
}

#[test]
fn what_waits_for_its_own_rate_keeps_its_terms_when_others_come_and_at_a_restart() {
    let mut server = server();
    load(&server, &SHARES.replace("reverses = [", "reverses = [\"deposit\", "));
    let waiting = convert(&server, "event=deposit&txn_id=T&amount=1600&currency=JPY");
    let conversion = |server: &Server| server.api(&format!("conversions/{waiting}"));
    let click = conversion(&server)["click_id"].as_str().expect("a click").to_owned();
    let refund = format!("click_id={click}&event=refund&txn_id=T&amount=400&currency=JPY");
    assert_eq!(server.postback(&refund).verdict(), (200, "accepted", ""));
    let flags = json!(["rate_missing", "base_rate_missing"]);
    assert_eq!(money(&server, &waiting), json!(["0.75", "0.00", "EUR", null, null, flags]));
    let sold_by = conversion(&server)["catalog_version"].clone();
    // Is tried at each start, after the other one.
    let departed = convert(&server, "event=sale&amount=8&currency=GBP");
    let is_tried = |server: &Server, times: usize| {
        let is_named =
            |line: &&str| line.contains("not in the catalog") && line.contains(&departed);
        eventually("a look at what waits", || {
            (server.log().lines().filter(is_named).count() == times).then_some(())
        });
        // What was handed to the writer before this is on disk.
        convert(server, "event=lead");
    };
    load(&server, &other_terms());
    let others = r#"{"base":"USD","rates":{"EUR":"0.80","GBP":"0.50"}}"#;
    assert_eq!(put(&server, &today(), others).status, 200);
    is_tried(&server, 1);
    let back = json!({"from": "0.8", "to": "1"});
    let base = json!({"currency": "USD", "rate": back, "revenue": "0.00", "payout": "0.9375"});
    let known = json!(["0.75", "0.00", "EUR", null, base, ["rate_missing"]]);
    assert_eq!(money(&server, &waiting), known);
    let kept = conversion(&server);
    assert_eq!(kept["catalog_version"], sold_by);
    server.kill();
    server.start_again();
    is_tried(&server, 2);
    assert_eq!(conversion(&server), kept, "nothing was changed");

    assert_eq!(
        put(&server, &today(), &others.replace("0.50\"", "0.50\",\"JPY\":\"160\"")).status,
        200
    );
    eventually("the price", || (money(&server, &waiting)[5] == json!([])).then_some(()));
    let rate = json!({"from": "160", "to": "0.8"});
    let base = json!({"currency": "USD", "rate": back, "revenue": "3.00", "payout": "4.3125"});
    assert_eq!(money(&server, &waiting), json!(["3.45", "2.40", "EUR", rate, base, []]));
    assert_ne!(conversion(&server)["catalog_version"], sold_by);
    let balances = server.api("balances?affiliate=pub-7");
    assert_eq!(balances["balances"][0]["owed"], "3.45", "{balances}");
    assert_eq!(balances["base"]["owed"], "4.3125", "{balances}");
    assert_eq!(balances["base"]["not_converted"], json!([]), "{balances}");
    let totals = server.api("totals?event=deposit");
    assert_eq!((&totals["payout"], &totals["revenue"]), (&json!("4.3125"), &json!("3.00")));
    server.stop();
    let verified = run(&server.path("."), &["verify", "--store", "data"]);
    assert_eq!(verified.code, Some(0), "{}", verified.said());
}

#[test]
fn a_conversion_that_the_rates_make_too_large_is_named_in_the_log() {
    let server = server();
    let waiting = convert(&server, "event=sale&amount=9000000000000&currency=JPY");
    let body = r#"{"base":"USD","rates":{"EUR":"0.80","JPY":"0.000001"}}"#;
    assert_eq!(put(&server, &today(), body).status, 200);
    server.says("a conversion cannot be priced by the rates");
    assert_eq!(money(&server, &waiting)[5], json!(["rate_missing"]));
}

#[test]
fn rates_that_are_not_well_formed_change_nothing_and_say_why() {
    let server = server();
    let check = |date: &str, body: &str, code: &str| {
        let answer = put(&server, date, body);
        assert_eq!(answer.status, 400, "{body}: {answer:?}");
        assert_eq!(answer.json()["error"]["code"], code, "{body}");
    };
    check("2026-02-30", TODAY, "bad_date");
    check("today", TODAY, "bad_date");
    check("2026-01-01", "", "bad_body");
    check("2026-01-01", r#"{"base":"USD"}"#, "bad_body");
    check("2026-01-01", r#"{"base":"USD","rates":{"EUR":0.8}}"#, "bad_body");
    check("2026-01-01", r#"{"base":"USD","rates":{},"date":"x"}"#, "bad_body");
    check("2026-01-01", r#"{"base":"DOLLAR","rates":{}}"#, "bad_currency");
    check("2026-01-01", r#"{"base":"USD","rates":{"EURO":"1"}}"#, "bad_currency");
    check("2026-01-01", r#"{"base":"USD","rates":{"EUR":"0"}}"#, "bad_rate");
    check("2026-01-01", r#"{"base":"USD","rates":{"EUR":"0.1234567891"}}"#, "bad_rate");
    check("2026-01-01", r#"{"base":"USD","rates":{"USD":"2"}}"#, "bad_rate");
    check("2026-01-01", r#"{"base":"USD","rates":{"EUR":"0.92","eur":"9.2"}}"#, "bad_rate");
    check("2026-01-01", r#"{"base":"USD","rates":{"EUR":"0.92","EUR":"9.2"}}"#, "bad_body");
    let absent = server.admin("/api/v1/rates/2026-01-01");
    assert_eq!((absent.status, absent.json()["error"]["code"].clone()), (404, "not_found".into()));
    assert_eq!(server.admin("/api/v1/rates/tomorrow").status, 400);
    assert_eq!(server.admin("/api/v1/totals?limit=0").status, 400);
}

#[test]
fn rates_that_are_kept_are_in_force_though_their_sender_hangs_up() {
    let server = with_shares(Setup::new().on_faulty_disk().start());
    server.disk().break_down(Fault::SyncsHang, None);
    let head = format!(
        "PUT /api/v1/rates/{} HTTP/1.1\r\nHost: t.example\r\nAuthorization: Bearer {TOKEN}\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        today(),
        TODAY.len()
    );
    // The sync stage hangs with this one, so the next waits where it is seen.
    server.click("offer=games&aff=pub-7");
    let mut admin = Connection::open(server.admin);
    admin.send(head + TODAY).expect("sent");
    let waiting = || {
        let stage = |it| server.metric(&format!("postbackd_store_queue_commits{{stage=\"{it}\"}}"));
        stage("append") + stage("sync")
    };
    eventually("the commit", || (waiting() > 0.0).then_some(()));
    drop(admin);
    server.disk().repair();
    eventually("the rates", || {
        let kept = server.admin(&format!("/api/v1/rates/{}", today()));
        (kept.status == 200).then_some(())
    });
    let yen = convert(&server, "event=sale&amount=1600&currency=JPY");
    assert_eq!(money(&server, &yen)[0], "1.00");
}
