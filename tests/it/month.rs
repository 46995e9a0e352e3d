//! One affiliate's month, told from the first registration to the statement, with a crash and a
//! restart in it; what the statement has to say was worked out by hand.

use serde_json::{Value, json};

use crate::harness::{Answer, CATALOG, Server, Setup, eventually, run};
use crate::rates;

const CASINO: &str = r#"
[[advertisers]]
id = "casino"
events = { first_deposit = "ftd" }

[[offers]]
id = "games"
advertiser = "casino"
url = "https://games.example/?subid={click_id}"

# Two dollars a registration, of at most four a month.
[[offers.events]]
id = "registration"
payout = { fixed = "2" }
revenue = { fixed = "3" }

# Forty dollars a first deposit, fifty from the third of the month on.
[[offers.events]]
id = "ftd"
payout = { fixed = "40" }
revenue = { fixed = "80" }
tiers = [{ from = 3, payout = { fixed = "50" } }]

# A quarter of what is deposited, whatever the currency.
[[offers.events]]
id = "deposit"
payout = { percent = "25" }
revenue = { percent = "40" }

# By the lot, in the currency of the account.
[[offers.events]]
id = "lots_usd"
payout = { per_unit = "1.5" }
revenue = { per_unit = "2.5" }

[[offers.events]]
id = "lots_eur"
payout = { per_unit = "1.25", currency = "EUR" }
revenue = { per_unit = "2" }

[[offers.events]]
id = "lots_jpy"
payout = { per_unit = "150", currency = "JPY" }
revenue = { per_unit = "300" }

# Approved by the network, later.
[[offers.events]]
id = "lead"
initial_status = "pending"
payout = { fixed = "5" }
revenue = { fixed = "8" }

# Only at once.
[[offers.events]]
id = "bonus"
window = "1ms"
payout = { fixed = "1000" }

[[offers.events]]
id = "refund"
reverses = ["deposit"]

[[offers.events]]
id = "chargeback"
reverses = ["ftd"]

[[offers.caps]]
period = "month"
scope = "affiliate"
events = ["registration"]
count = 4
"#;

/// Units of each currency that one dollar buys.
const RATES: &str = r#"{"base":"USD","rates":{"EUR":"0.80","JPY":"160"}}"#;
const RATES_WITH_POUNDS: &str = r#"{"base":"USD","rates":{"EUR":"0.80","GBP":"0.5","JPY":"160"}}"#;

/// The month's postbacks as they were sent, each with its answer, so that all can be sent again.
struct Month {
    server: Server,
    sent: Vec<(String, Answer)>,
}

impl Month {
    /// Sends a postback of the casino; checks its result, and its reason or status.
    fn says(&mut self, query: &str, expected: &str) {
        let answer = self.send(query);
        assert_eq!(told(&answer), expected, "{query}: {:?}", answer.json);
        self.sent.push((query.to_owned(), answer));
    }

    fn send(&self, query: &str) -> Answer {
        Answer::of(self.server.get(&format!("/postback/casino?{query}")))
    }

    /// As a sender does that has lost all answers: what was accepted is known, whatever became of
    /// it; what was refused is refused still.
    fn says_everything_again(&self) {
        for (query, before) in &self.sent {
            let again = self.send(query);
            let result = again.word("result");
            let expected = if before.word("result") == "refused" { "refused" } else { "duplicate" };
            assert_eq!(result, expected, "{query}: {:?}", again.json);
            if before.word("result") == "accepted" {
                assert_eq!(again.word("conversion_id"), before.word("conversion_id"), "{query}");
            }
        }
    }

    fn balances(&self) -> Value {
        self.server.api("balances?affiliate=pub-7")["balances"].clone()
    }

    /// In the network's currency.
    fn base(&self) -> Value {
        self.server.api("balances?affiliate=pub-7")["base"].clone()
    }
}

fn told(answer: &Answer) -> String {
    let (_, result, reason) = answer.verdict();
    format!("{result} {}", if reason.is_empty() { answer.word("status") } else { reason })
}

fn account(currency: &str, receivable: &str, payable: &str, margin: &str) -> Value {
    json!([currency, receivable, payable, margin])
}

/// Currency and the three accounts of each balance.
fn accounts(balances: &Value) -> Vec<Value> {
    let balances = balances.as_array().expect("balances").iter();
    let names = ["advertiser_receivable", "affiliate_payable", "network_margin"];
    let accounts = |balance: &Value| {
        let sums = names.map(|name| balance["accounts"][name].clone());
        std::iter::once(balance["currency"].clone()).chain(sums).collect()
    };
    balances.map(accounts).collect()
}

#[test]
fn an_affiliates_month_ends_with_the_statement_that_was_worked_out_by_hand() {
    let server = Setup::new().catalog(format!("{CATALOG}{CASINO}")).start();
    assert_eq!(rates::put(&server, "2026-10-05", RATES).status, 200);
    let clicks: Vec<_> = (1..=6).map(|_| server.click("offer=games&aff=pub-7")).collect();
    let rival = server.click("offer=games&aff=pub-8");
    let mut month = Month { server, sent: Vec::new() };

    // Six register, and two of them one too late for the cap: 4 x 2 = 8 paid, 6 x 3 = 18 earned.
    for (n, click) in clicks.iter().enumerate() {
        let query = format!("click_id={click}&event=registration&customer_id=C{}", n + 1);
        month.says(&query, "accepted approved");
    }
    // A rival brings a customer of his own, who is none of this story, and one who is not his.
    let own = format!("click_id={rival}&event=lots_usd&txn_id=R1&quantity=1&customer_id=C9");
    month.says(&own, "accepted approved");

    // Five deposit for the first time; the casino knows only its customers by now, and words of its
    // own. 2 x 40 + 3 x 50 = 230 paid, 5 x 80 = 400 earned.
    for n in 1..=3 {
        let query = format!("customer_id=C{n}&event=first_deposit&txn_id=F{n}");
        month.says(&query, "accepted approved");
    }
    month.server.kill();
    month.server.start_again();
    month.says_everything_again();
    for n in 4..=5 {
        let query = format!("customer_id=C{n}&event=first_deposit&txn_id=F{n}");
        month.says(&query, "accepted approved");
    }
    month.says("customer_id=C77&event=first_deposit&txn_id=F6", "refused unknown_customer");

    // Deposits, of which the affiliate gets a quarter and the network 40 %:
    // 100 USD; 200 EUR = 250 USD; 10,000 JPY = 62.50 USD; 33.333333 USD; 50 GBP = 100 USD, once the
    // rate is there. Paid 25 + 62.50 + 15.625 + 8.333333 (of 8.33333325) + 25 = 136.458333,
    // earned 40 + 100 + 25 + 13.333333 (of 13.3333332) + 40 = 218.333333.
    let on = "timestamp=2026-10-05T12:00:00Z&event=deposit";
    for deposit in [
        "customer_id=C1&txn_id=D1&amount=100",
        "customer_id=C2&txn_id=D2&amount=200&currency=EUR",
        "customer_id=C3&txn_id=D3&amount=10000&currency=JPY",
        "customer_id=C1&txn_id=D4&amount=33.333333",
        "customer_id=C4&txn_id=D5&amount=50&currency=GBP",
    ] {
        month.says(&format!("{deposit}&{on}"), "accepted approved");
    }
    month.says(&format!("customer_id=C1&txn_id=D6&amount=1e3&{on}"), "refused bad_amount");
    month.says(
        &format!("customer_id=C1&txn_id=D6&amount=1&currency=$&{on}"),
        "refused bad_currency",
    );
    assert_eq!(rates::put(&month.server, "2026-10-05", RATES_WITH_POUNDS).status, 200);
    eventually("the price of what was paid in pounds", || {
        let kept = month.server.conversions("txn_id=D5");
        (kept[0]["payout"] == "25.00").then_some(())
    });

    // Lots: 10 in USD = 15 paid and 25 earned, 14 in EUR = 17.50 and 28, 5 in JPY = 750 and 1,500.
    for lots in [
        "customer_id=C1&event=lots_usd&txn_id=L1&quantity=3",
        "customer_id=C5&event=lots_usd&txn_id=L2&quantity=7",
        "customer_id=C2&event=lots_eur&txn_id=L3&quantity=4",
        "customer_id=C6&event=lots_eur&txn_id=L4&quantity=10",
        "customer_id=C3&event=lots_jpy&txn_id=L5&quantity=5",
    ] {
        month.says(lots, "accepted approved");
    }

    // Four leads, of which the network's file approves two and rejects one:
    // 2 x 5 = 10 paid, 2 x 8 = 16 earned.
    for (n, click) in clicks.iter().enumerate().skip(1).take(4) {
        let query = format!("click_id={click}&event=lead&txn_id=P{n}");
        month.says(&query, "accepted pending");
    }
    let file = "advertiser,event,txn_id,status\ncasino,lead,P1,approved\ncasino,lead,P2,approved\n\
                casino,lead,P3,rejected\n";
    for _ in 0..2 {
        let answer = month.server.post_api("conversions/status", "text/csv", file);
        assert_eq!((answer.status, answer.text().lines().count()), (200, 3), "{answer:?}");
    }

    // 40 of the 100 dollars go back, and with them 10 paid and 16 earned. Two first deposits are
    // charged back, one by its transaction, one by its customer: 40 + 50 paid, 2 x 80 earned.
    month.says(
        "customer_id=C1&event=refund&txn_id=D1&reversal_id=B1&amount=40",
        "accepted approved",
    );
    month.says("customer_id=C1&event=chargeback&txn_id=F1", "accepted approved");
    month.says("customer_id=C3&event=chargeback&reversal_id=B3", "accepted approved");

    // Too late for a bonus, too late to hold anything back.
    month.says(&format!("click_id={}&event=bonus&txn_id=X1", clicks[0]), "refused click_expired");
    month.says("customer_id=C2&event=deposit&txn_id=D2&status=pending", "duplicate approved");

    assert!(month.server.stop().success());
    month.server.start_again();
    month.says_everything_again();

    // USD, paid: 8 + 230 + 136.458333 + 15 + 10 - 10 - 90 = 299.458333.
    // USD, earned: 18 + 400 + 218.333333 + 25 + 16 - 16 - 160 = 501.333333.
    let expected = vec![
        account("EUR", "28.00", "-17.50", "-10.50"),
        account("JPY", "1500", "-750", "-750"),
        account("USD", "501.333333", "-299.458333", "-201.875"),
    ];
    assert_eq!(accounts(&month.balances()), expected);

    // All that is in the dollars of the network's books. The lots have no rate of their day yet.
    let base = month.base();
    assert_eq!(accounts(&json!([base])), expected[2..]);
    assert_eq!(accounts(&base["not_converted"]), expected[..2]);
    let waiting = base["not_converted"].as_array().expect("balances").iter();
    assert_eq!(waiting.map(|it| it["postings"].clone()).collect::<Value>(), json!([2, 1]));
    // It comes, and by it 5 + 12.50 EUR = 6.25 + 15.625 USD paid and 8 + 20 EUR = 10 + 25 USD
    // earned; 750 and 1,500 JPY are 4.6875 and 9.375 USD.
    // Paid: 299.458333 + 21.875 + 4.6875 = 326.020833.
    // Earned: 501.333333 + 35 + 9.375 = 545.708333.
    for days in -1..=0 {
        let day = today().checked_add(jiff::Span::new().days(days)).expect("a day");
        assert_eq!(rates::put(&month.server, &day.to_string(), RATES_WITH_POUNDS).status, 200);
    }
    let base = eventually("what the lots are in dollars", || {
        Some(month.base()).filter(|base| base["not_converted"] == json!([]))
    });
    let total = account("USD", "545.708333", "-326.020833", "-219.6875");
    assert_eq!(accounts(&json!([base])), [total]);
    assert_eq!(accounts(&month.balances()), expected, "they are owed as they were");
    let totals = month.server.api("totals?affiliate=pub-7&status=approved");
    let sums = ["revenue", "payout", "margin", "unpriced"].map(|name| totals[name].clone());
    assert_eq!(json!(sums), json!(["545.708333", "326.020833", "219.6875", 0]));
    check_statement(&month.server);
    check_flags(&month.server);
    check_books(&mut month.server);
}

fn today() -> jiff::civil::Date {
    jiff::Timestamp::now().to_zoned(jiff::tz::TimeZone::UTC).date()
}

fn check_statement(server: &Server) {
    let days = |count: i64| today().checked_add(jiff::Span::new().days(count)).expect("a day");
    // From yesterday, should it be midnight.
    let query = format!("statements?affiliate=pub-7&from={}&to={}", days(-1), days(1));
    let statement = server.api(&query);
    assert_eq!(statement["opening"], json!([]));
    let closing = json!([
        {"currency": "EUR", "amount": "17.50", "base_amount": "21.875", "not_converted": "0.00"},
        {"currency": "JPY", "amount": "750", "base_amount": "4.6875", "not_converted": "0"},
        {"currency": "USD", "amount": "299.458333", "base_amount": "299.458333",
         "not_converted": "0.00"},
    ]);
    let base = json!({
        "currency": "USD", "opening": "0.00", "closing": "326.020833", "not_converted": [],
    });
    assert_eq!(statement["base"], base);
    let lines = statement["lines"].as_array().expect("lines");
    assert_eq!(lines.last().expect("a line")["base_balance"], "326.020833");
    assert_eq!(statement["closing"], closing);
    let balances = server.api("balances?affiliate=pub-7");
    for (owed, closed) in balances["balances"]
        .as_array()
        .expect("balances")
        .iter()
        .zip(statement["closing"].as_array().expect("balances"))
    {
        assert_eq!(owed["owed"], closed["amount"]);
    }
}

/// What was not paid says why.
fn check_flags(server: &Server) {
    let over = server.conversions("event=registration").into_iter().filter(|kept| {
        kept["flags"] == json!(["over_cap"])
            && kept["payout"] == "0.00"
            && kept["revenue"] == "3.00"
    });
    assert_eq!(over.count(), 2);
    let tiered = server
        .conversions("event=ftd")
        .into_iter()
        .filter(|kept| kept["history"][0]["reason"] == "tier:3" && kept["payout"] == "50.00");
    assert_eq!(tiered.count(), 3);
    let part = &server.conversions("txn_id=D1&event=deposit")[0];
    assert_eq!((&part["status"], &part["reversed_amount"]), (&json!("approved"), &json!("40.00")));
}

/// The whole store is sound, and what is to be proved of the story waits for its seal.
fn check_books(server: &mut Server) {
    let id = server.conversions("txn_id=F4")[0]["conversion_id"].clone();
    assert!(server.stop().success());
    let folder = server.path(".");
    let verified = run(&folder, &["verify", "--store", "data"]);
    assert_eq!(verified.code, Some(0), "{}{}", verified.out, verified.err);
    let id = id.as_str().expect("an ID");
    let proof = run(&folder, &["ledger", "prove", "--store", "data", id]);
    assert_eq!(proof.code, Some(0), "{}", proof.err);
    server.write("proof.json", &proof.out);
    // The day under way is not sealed yet, and the proof says so.
    let checked = run(&folder, &["ledger", "check", "proof.json"]);
    assert_eq!(checked.code, Some(5), "{}", checked.err);
    assert!(checked.out.contains("is not sealed yet"), "{}", checked.out);
}
