//! Money that can be checked: balances, postings, statements, and proofs that hold without us.

use serde_json::{Value, json};

use crate::harness::{Server, Setup, eventually, run};
use crate::verify::books;

fn convert(server: &Server, affiliate: &str, txn_id: &str) -> String {
    let click = server.click(&format!("offer=spring&aff={affiliate}"));
    let answer = server.postback(&format!("click_id={click}&event=sale&txn_id={txn_id}"));
    assert_eq!(answer.verdict(), (200, "accepted", ""), "{:?}", answer.json);
    answer.word("conversion_id").to_owned()
}

/// One end of a statement, in the network's own currency.
fn dollars(amount: &str) -> Value {
    json!({"currency": "USD", "amount": amount, "base_amount": amount, "not_converted": "0.00"})
}

#[test]
fn balances_postings_and_statements_are_exact_to_the_last_commit_and_across_a_restart() {
    let mut server = Setup::new().start();
    let ids: Vec<_> = (0..3).map(|n| convert(&server, "pub-7", &format!("T-{n}"))).collect();
    let today = jiff::Timestamp::now().strftime("%Y-%m-%d").to_string();
    let check = |server: &Server| {
        let balances = server.api("balances?affiliate=pub-7");
        assert_eq!(balances["affiliate"], "pub-7");
        assert_eq!(
            balances["balances"],
            json!([{
                "currency": "USD",
                "owed": "45.00",
                "postings": 3,
                "accounts": {
                    "advertiser_receivable": "60.00",
                    "affiliate_payable": "-45.00",
                    "network_margin": "-15.00",
                },
            }])
        );
        let base = json!({
            "currency": "USD",
            "owed": "45.00",
            "accounts": balances["balances"][0]["accounts"],
            "not_converted": [],
        });
        assert_eq!(balances["base"], base);
        assert_eq!(balances["newest_seal"], Value::Null);
        let none = server.api("balances?affiliate=pub-8");
        assert_eq!((&none["balances"], &none["base"]["owed"]), (&json!([]), &json!("0.00")));
        let mut listed = Vec::new();
        let mut cursor = String::new();
        loop {
            let page = server.api(&format!("ledger?affiliate=pub-7&limit=2{cursor}"));
            for item in page["items"].as_array().expect("items") {
                assert_eq!((&item["step"], &item["currency"]), (&json!(0), &json!("USD")));
                assert_eq!(item["entries"]["affiliate_payable"], "-15.00");
                assert_eq!(item["converted"], json!([]));
                listed.push(item["conversion_id"].as_str().expect("an ID").to_owned());
            }
            match page["next_cursor"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => break,
            }
        }
        assert_eq!(listed, ids);
    };
    check(&server);
    server.kill();
    server.start_again();
    check(&server);
    let query = format!("affiliate=pub-7&from={today}&to=2099-01-01");
    assert_eq!(server.admin(&format!("/api/v1/statements?{query}")).status, 400, "too many days");
    let date = jiff::Timestamp::now().to_zoned(jiff::tz::TimeZone::UTC).date();
    let tomorrow = date.tomorrow().expect("there is one");
    let query = format!("statements?affiliate=pub-7&from={today}&to={tomorrow}");
    let statement = server.api(&query);
    assert_eq!(statement["opening"], json!([]));
    assert_eq!(statement["closing"], json!([dollars("45.00")]));
    assert_eq!(
        statement["lines"],
        json!([{
            "day": today,
            "currency": "USD",
            "postings": 3,
            "amount": "45.00",
            "balance": "45.00",
            "sealed": false,
            "base_amount": "45.00",
            "base_balance": "45.00",
            "not_converted": "0.00",
        }])
    );
    let csv = server.admin(&format!("/api/v1/{query}&format=csv"));
    assert_eq!(
        csv.text(),
        format!(
            "kind,day,currency,postings,amount,balance,sealed,\
             base_currency,base_amount,base_balance,not_converted\n\
             posted,{today},USD,3,45.00,45.00,false,USD,45.00,45.00,0.00\n\
             closing,{tomorrow},USD,,,45.00,,USD,45.00,45.00,0.00\n"
        )
    );
}

#[test]
fn questions_that_make_no_sense_are_refused() {
    let server = Server::start();
    let check = |call: &str, status: u16, code: &str| {
        let answer = server.admin(&format!("/api/v1/{call}"));
        assert_eq!(
            (answer.status, &answer.json()["error"]["code"]),
            (status, &code.into()),
            "{call}"
        );
    };
    check("balances", 400, "missing_affiliate");
    check("balances?affiliate=nobody", 404, "not_found");
    check("balances?affiliate=pub-7&colour=red", 400, "bad_parameter");
    check("balances?affiliate=pub-7&from=2026-01-01&to=2026-01-02", 400, "bad_parameter");
    check("ledger?affiliate=pub-7&cursor=x", 400, "bad_cursor");
    check("ledger?affiliate=pub-7&format=csv", 400, "bad_parameter");
    check("ledger?affiliate=pub-7&from=2026-01-01&to=2026-01-02", 400, "bad_parameter");
    check("ledger?affiliate=pub-7&limit=0", 400, "bad_limit");
    check("statements?affiliate=pub-7", 400, "bad_date");
    check("statements?affiliate=pub-7&from=2026-01-02&to=2026-01-02", 400, "bad_range");
    let days = "affiliate=pub-7&from=2026-01-01&to=2026-01-02";
    check(&format!("statements?{days}&format=xml"), 400, "bad_format");
    check(&format!("statements?{days}&limit=10"), 400, "bad_parameter");
    check("ledger/proofs/short", 400, "bad_conversion_id");
    check("ledger/proofs/0000000000000000000000", 404, "not_found");
}

#[test]
fn sealed_days_and_open_ones_make_one_statement() {
    let books = books();
    let server = Setup::new().start_on(books.folder.path());
    // The third day is long over, and what retention lets go stays in the books.
    eventually("the last seal", || {
        let balances = server.api("balances?affiliate=pub-7");
        (balances["newest_seal"]["day"] == "2024-10-06").then_some(())
    });
    convert(&server, "pub-7", "T-today");
    let balances = server.api("balances?affiliate=pub-7");
    assert_eq!(balances["balances"][0]["owed"], "45.00", "two sales, one taken back, one today");
    assert_eq!(balances["balances"][0]["postings"], 5);
    let statement = server.api("statements?affiliate=pub-7&from=2024-10-05&to=2024-10-08");
    assert_eq!(statement["opening"], json!([dollars("15.00")]));
    assert_eq!(statement["closing"], json!([dollars("30.00")]));
    let lines: Vec<_> = statement["lines"].as_array().expect("lines").iter().collect();
    let line = |line: &Value| json!([line["day"], line["amount"], line["balance"], line["sealed"]]);
    assert_eq!(
        lines.into_iter().map(line).collect::<Vec<_>>(),
        [
            json!(["2024-10-05", "15.00", "30.00", true]),
            json!(["2024-10-06", "0.00", "30.00", true]),
        ]
    );
    let before = server.api("statements?affiliate=pub-7&from=2024-10-01&to=2024-10-05");
    assert_eq!(before["closing"], statement["opening"], "one begins where the other ends");
    let today = jiff::Timestamp::now().to_zoned(jiff::tz::TimeZone::UTC).date();
    let tomorrow = today.tomorrow().expect("there is one");
    let query = format!("statements?affiliate=pub-7&from={today}&to={tomorrow}");
    let open = server.api(&query);
    assert_eq!(open["opening"], statement["closing"]);
    assert_eq!(open["lines"][0]["sealed"], false);
    assert_eq!(open["closing"], json!([dollars("45.00")]));
}

#[test]
fn a_proof_holds_without_the_store_and_no_longer_when_it_is_changed() {
    let books = books();
    let folder = books.folder.path();
    let id = books.ids[0].to_text().to_string();
    let proof = run(folder, &["ledger", "prove", "--store", ".", &id]);
    assert_eq!((proof.code, &*proof.err), (Some(0), ""));
    let check = |text: &str| {
        std::fs::write(folder.join("proof.json"), text).expect("written");
        run(folder, &["ledger", "check", "proof.json"])
    };
    let ended = check(&proof.out);
    assert_eq!((ended.code, &*ended.err), (Some(0), ""), "{}", proof.out);
    let lines: Vec<_> = ended.out.lines().collect();
    assert_eq!(lines[0], format!("conversion {id}"));
    assert_eq!(lines[1], "step 0: 15.00 USD owed to the affiliate, sealed on 2024-10-04");
    assert_eq!(lines[2], "2024-10-06 is not sealed yet and nothing is proved of it");
    assert!(lines[3].starts_with("newest seal, of 2024-10-05: "), "{}", lines[3]);
    assert!(!proof.out.contains("20000000"), "what the network earns is nobody's business");

    let sound: Value = serde_json::from_str(&proof.out).expect("JSON");
    let posting = "/postings/0";
    for (place, changed) in [
        ("/format", json!("another")),
        ("/affiliate_number", json!(2)),
        ("/conversion_id", json!(books.ids[1].to_text().to_string())),
        (&format!("{posting}/payable_micros"), json!("-16000000")),
        (&format!("{posting}/currency"), json!("EUR")),
        (&format!("{posting}/step"), json!(1)),
        (&format!("{posting}/day"), json!("2024-10-05")),
        (&format!("{posting}/index"), json!(1)),
        (&format!("{posting}/hidden"), json!("00".repeat(32))),
        (&format!("{posting}/path"), json!(["00".repeat(32)])),
        // What is printed as it was said could speak to the terminal.
        ("/unsealed_days/0", json!("\u{1b}[31m")),
        ("/seals/0/root", json!("00".repeat(32))),
        ("/seals/0/hash", json!("00".repeat(32))),
        ("/seals/0/postings", json!(2)),
        ("/seals/0/balances/0/payable_micros", json!("-15000001")),
        ("/seals/1/previous", json!("00".repeat(32))),
        ("/seals/1/previous_day", Value::Null),
    ] {
        let mut changed_proof = sound.clone();
        *changed_proof.pointer_mut(place).expect("in the proof") = changed;
        let ended = check(&changed_proof.to_string());
        assert_eq!(ended.code, Some(1), "{place}: {}", ended.out);
        assert!(ended.err.contains("proof.json: "), "{place}: {}", ended.err);
    }
    let mut swapped = sound.clone();
    swapped["seals"].as_array_mut().expect("seals").remove(0);
    assert_eq!(check(&swapped.to_string()).code, Some(1), "without the seal of the day");
    assert_eq!(check("{}").code, Some(1));
    // Nothing is wrong with it, and nothing is proved.
    let mut unsealed = sound.clone();
    unsealed["postings"] = json!([]);
    for seals in [sound["seals"].clone(), json!([])] {
        unsealed["seals"] = seals;
        let ended = check(&unsealed.to_string());
        assert_eq!(ended.code, Some(5), "{}", ended.out);
        assert!(ended.err.starts_with("nothing is proved: "), "{}", ended.err);
    }
    let unknown = "0".repeat(22);
    assert_eq!(run(folder, &["ledger", "prove", "--store", ".", &unknown]).code, Some(1));
    assert_eq!(run(folder, &["ledger", "prove", "--store", ".", "x"]).code, Some(2));
}

#[test]
fn a_running_server_gives_the_same_proof() {
    let books = books();
    let folder = books.folder.path();
    let id = books.ids[1].to_text().to_string();
    let offline = run(folder, &["ledger", "prove", "--store", ".", &id]).out;
    let kept = |setup: Setup, key| setup.key(key, "36500d");
    let setup = kept(kept(Setup::new(), "retention.conversions"), "retention.clicks");
    let server = setup.start_on(folder);
    let online = server.command(&["ledger", "prove", &id]);
    let json = |text: &str| serde_json::from_str::<Value>(text).expect("JSON");
    assert_eq!(json(&online.out)["postings"], json(&offline)["postings"]);
    assert_eq!(json(&online.out)["seals"][0], json(&offline)["seals"][0]);
}
