//! Totals in the network's currency: what is converted by the rate of its day and stays so, what
//! waits for a rate, and that both are in the books and in their seals.

use std::sync::Arc;

use postbackd::click_id::{Minter, RecordId};
use postbackd::model::ids::AffiliateNumber;
use postbackd::model::period::Day;
use postbackd::model::reasons::Flag;
use postbackd::model::status::Status;
use postbackd::store::engine::{Batch, Engine, Tier};
use postbackd::store::keys::{self, PostingKey};
use postbackd::store::records::{
    ConversionRecord, EarnedInBase, Exchanged, HistoryEntry, InBase, PostingRecord, SealRecord,
};
use postbackd::store::schema::Table;
use postbackd::store::ticket::{Outcome, Ticket};
use postbackd::store::{ConversionChange, RocksEngine, Store, database_folder};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::harness::{Ended, PATIENCE, Setup, eventually, run};
use crate::rates::{TODAY, convert, put, server, today};
use crate::verify::{DAY_MS, MICROS, NOON_MS, conversion, open, seal, verify, wait};

/// Currency, postings, owed.
fn waiting(base: &Value) -> Value {
    let waiting = base["not_converted"].as_array().expect("balances").iter();
    waiting.map(|it| json!([it["currency"], it["postings"], it["owed"]])).collect()
}

#[test]
fn what_has_no_rate_is_named_apart_until_it_comes_and_what_is_taken_back_is_taken_back_in_base() {
    let mut server = server();
    // Three euros and a dollar of it: 0.80 euros are a dollar.
    let euros = convert(&server, "event=deposit&amount=20&revenue=7");
    convert(&server, "event=sale&amount=10&txn_id=T1");
    let balances = |server: &crate::harness::Server| server.api("balances?affiliate=pub-7");
    let base = balances(&server)["base"].clone();
    assert_eq!((&base["currency"], &base["owed"]), (&json!("USD"), &json!("1.00")));
    assert_eq!(waiting(&base), json!([["EUR", 1, "3.00"]]));
    assert_eq!(base["not_converted"][0]["accounts"]["network_margin"], "-4.00");
    server.kill();
    server.start_again();
    assert_eq!(balances(&server)["base"], base);

    assert_eq!(put(&server, &today(), TODAY).status, 200);
    let base = eventually("the rate", || {
        Some(balances(&server)["base"].clone()).filter(|base| waiting(base) == json!([]))
    });
    let accounts = json!({
        "advertiser_receivable": "10.75", "affiliate_payable": "-4.75", "network_margin": "-6.00",
    });
    assert_eq!((&base["owed"], &base["accounts"]), (&json!("4.75"), &accounts));
    let page = server.api("ledger?affiliate=pub-7");
    let items = page["items"].as_array().expect("items").iter();
    let steps: Vec<_> = items.filter(|item| item["conversion_id"] == *euros).collect();
    assert_eq!(steps.len(), 2);
    assert_eq!(
        (&steps[0]["entries"]["affiliate_payable"], &steps[0]["converted"]),
        (&json!("-3.00"), &json!([]))
    );
    assert_eq!(steps[1]["entries"]["affiliate_payable"], "0.00", "nothing more is owed");
    let converted = &steps[1]["converted"][0];
    assert_eq!((&converted["base"], &converted["postings"]), (&json!("USD"), &json!(2)));
    assert_eq!(converted["own"]["affiliate_payable"], "-3.00");
    assert_eq!(converted["worth"]["affiliate_payable"], "-3.75");

    // Another rate changes nothing of what is converted.
    assert_eq!(put(&server, &today(), &TODAY.replace("0.80", "0.50")).status, 200);
    let lines = format!("conversion_id,status\n{euros},reversed\n");
    let answer = server.post_api("conversions/status", "text/csv", &lines);
    assert_eq!(answer.status, 200, "{answer:?}");
    let base = balances(&server)["base"].clone();
    assert_eq!((&base["owed"], waiting(&base)), (&json!("1.00"), json!([])));
    let totals = server.api("totals?status=approved");
    assert_eq!((&totals["payout"], &totals["unpriced"]), (&json!("1.00"), &json!(0)));

    let date = jiff::Timestamp::now().to_zoned(jiff::tz::TimeZone::UTC).date();
    let day = |days: i64| date.checked_add(jiff::Span::new().days(days)).expect("a day");
    let days = format!("affiliate=pub-7&from={}&to={}", day(-1), day(1));
    let statement = server.api(&format!("statements?{days}"));
    let total = json!({
        "currency": "USD", "opening": "0.00", "closing": "1.00", "not_converted": [],
    });
    assert_eq!(statement["base"], total);
    let csv = server.admin(&format!("/api/v1/statements?{days}&format=csv"));
    let closing: Vec<_> =
        csv.text().lines().filter(|line| line.starts_with("closing")).map(str::to_owned).collect();
    let to = day(1);
    assert_eq!(
        closing,
        [
            format!("closing,{to},EUR,,,0.00,,USD,0.00,1.00,0.00"),
            format!("closing,{to},USD,,,1.00,,USD,1.00,1.00,0.00"),
        ]
    );
    assert!(server.stop().success());
    let ended = run(&server.path("."), &["verify", "--store", "data"]);
    assert_eq!((ended.code, &*ended.err), (Some(0), ""), "{}", ended.out);
}

/// A store in which a sale in euros lives for five days, each sealed before the next: approved
/// without a rate, by a release that knew nothing of bases; priced by a late rate; taken back by a
/// third; reversed. On the fourth there is another one, which has its rate at once.
struct Books {
    folder: TempDir,
    affiliate: AffiliateNumber,
    id: RecordId,
    other: RecordId,
    /// The first day's posting, as it was sealed.
    first: Vec<u8>,
}

const EUROS: InBase = InBase {
    currency: *b"USD",
    rate: (920_000_000, 1_000_000_000),
    revenue: 21_739_130,
    payout: 16_304_348,
};

fn in_euros(click: RecordId, txn_id: &str) -> ConversionRecord<'_> {
    ConversionRecord {
        amount: Some(30 * MICROS),
        currency: *b"EUR",
        ..conversion(click, txn_id, Vec::new())
    }
}

/// On which day a step is received.
fn time_ms(day: u64) -> u64 {
    NOON_MS + day * DAY_MS
}

fn step(record: &mut ConversionRecord<'_>, status: Status, day: u64) {
    let step = HistoryEntry::new(status, time_ms(day), None, record.earned(), "test");
    record.status = step.status;
    record.history.push(step);
}

fn books() -> Books {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(folder.path());
    let numbers = wait(store.assign_numbers(["spring"].into_iter(), ["pub-7"].into_iter()));
    let numbers = numbers.expect("numbers");
    let offer = numbers.offer("spring").expect("a number");
    let affiliate = numbers.affiliate("pub-7").expect("a number");
    let minter = Minter::new(0, 1, 0);
    let mint = |store: &Store, day| {
        let click = minter.mint(time_ms(day), offer, affiliate);
        let ticket = Arc::new(Ticket::default());
        store.record_click(click, &Default::default(), ticket).expect("queued");
        (click, minter.mint(time_ms(day) + 1, offer, affiliate))
    };
    let (click, id) = mint(&store, 0);
    let mut record = in_euros(click, "T-1");
    record.flags = Flag::BaseRateMissing.bit();
    step(&mut record, Status::Approved, 0);
    crate::verify::commit(&store, id, &record);
    let store = filed(store, folder.path());
    seal_day(&store, 0);
    let change =
        |store: &Arc<Store>, before: &ConversionRecord<'_>, after: &ConversionRecord<'_>, day| {
            let ticket = Arc::new(Ticket::default());
            let change = ConversionChange { conversion: id, before, after };
            store.change_conversion(change, None, ticket.clone()).expect("queued");
            store.writer().flush();
            assert_eq!(wait(ticket.settled()), Outcome::Durable);
            seal_day(store, day);
        };
    let first = {
        let view = store.view();
        let key = PostingKey { affiliate, day: Day::of_ms(time_ms(0)), conversion: id, step: 0 };
        view.get(Table::Ledger, &key.encode()).expect("readable").expect("posted").to_vec()
    };
    let mut priced = record.clone();
    priced.flags = 0;
    priced.exchanged = Some(Box::new(Exchanged { base: Some(EUROS), ..Exchanged::default() }));
    step(&mut priced, Status::Approved, 1);
    change(&store, &record, &priced, 1);
    let mut less = priced.clone();
    less.reversed_amount = 10 * MICROS;
    step(&mut less, Status::Approved, 2);
    change(&store, &priced, &less, 2);
    let (click, other) = mint(&store, 3);
    let mut at_once = in_euros(click, "T-2");
    at_once.exchanged.clone_from(&priced.exchanged);
    step(&mut at_once, Status::Approved, 3);
    crate::verify::commit(&store, other, &at_once);
    let store = filed(store, folder.path());
    seal_day(&store, 3);
    let mut none = less.clone();
    step(&mut none, Status::Reversed, 4);
    change(&store, &less, &none, 4);
    store.catch_up(std::time::Instant::now() + PATIENCE).expect("counted");
    store.close();
    Books { folder, affiliate, id, other, first }
}

/// Opened again, which files everything.
fn filed(store: Arc<Store>, folder: &std::path::Path) -> Arc<Store> {
    store.close();
    drop(store);
    open(folder)
}

fn seal_day(store: &Arc<Store>, day: u64) {
    assert_eq!(seal(store, time_ms(day + 1)), 1, "day {day}");
}

fn on(books: &Books, look: impl FnOnce(&RocksEngine)) {
    let engine = RocksEngine::open(&database_folder(books.folder.path()), 8 << 20).expect("opens");
    look(&engine);
}

fn value(engine: &RocksEngine, table: Table, key: &[u8]) -> Vec<u8> {
    let mut value = Vec::new();
    let mut read = |bytes: &[u8]| value.extend_from_slice(bytes);
    engine.get(table, key, Tier::Disk, &mut read).expect("readable");
    value
}

fn posting_key(
    books: &Books,
    conversion: RecordId,
    day: u64,
    step: u16,
) -> [u8; keys::POSTING_KEY_BYTES] {
    let (affiliate, day) = (books.affiliate, Day::of_ms(time_ms(day)));
    PostingKey { affiliate, day, conversion, step }.encode()
}

#[test]
fn a_late_rate_makes_a_posting_and_leaves_what_is_sealed() {
    let books = books();
    let ended = verify(books.folder.path());
    assert_eq!((ended.code, &*ended.err), (Some(0), ""), "{}", ended.out);
    assert!(ended.out.contains("ledger_postings 5, ledger_seals 5"), "{}", ended.out);
    on(&books, |engine| {
        let posting = |id, day, step| {
            let value = value(engine, Table::Ledger, &posting_key(&books, id, day, step));
            (value[0], PostingRecord::decode(&value).expect("a posting"))
        };
        let first = value(engine, Table::Ledger, &posting_key(&books, books.id, 0, 0));
        assert_eq!(first, books.first, "what is sealed keeps its bytes");
        assert_eq!(first[0], 1);
        let worth = |id, day, step| {
            let (version, record) = posting(id, day, step);
            assert_eq!((version, record.converted.len()), (2, 1));
            let it = record.converted[0];
            (record.entries.payable, it.postings, it.own.payable, it.worth.payable)
        };
        // 15 euros are 16.304348 dollars, 10 are 10.869565.
        assert_eq!(worth(books.id, 1, 1), (0, 2, -15_000_000, -16_304_348));
        assert_eq!(worth(books.id, 2, 2), (5_000_000, 1, 5_000_000, 5_434_783));
        assert_eq!(worth(books.id, 4, 3), (10_000_000, 1, 10_000_000, 10_869_565));
        assert_eq!(worth(books.other, 3, 0), (-15_000_000, 1, -15_000_000, -16_304_348));
    });
    let server = Setup::new()
        .key("retention.conversions", "36500d")
        .key("retention.clicks", "36500d")
        .start_on(books.folder.path());
    let day = |day: u64| Day::of_ms(time_ms(day)).to_string();
    let statement = |from, to| {
        let (from, to) = (day(from), day(to));
        server.api(&format!("statements?affiliate=pub-7&from={from}&to={to}"))
    };
    let lines = |statement: &Value| {
        let lines = statement["lines"].as_array().expect("lines").iter();
        let line = |it: &Value| {
            let names = ["amount", "balance", "base_amount", "base_balance", "not_converted"];
            names.map(|name| it[name].clone()).into_iter().collect()
        };
        lines.map(line).collect::<Vec<Value>>()
    };
    let whole = statement(0, 5);
    assert_eq!(
        lines(&whole),
        [
            json!(["15.00", "15.00", "0.00", "0.00", "15.00"]),
            json!(["0.00", "15.00", "16.304348", "16.304348", "-15.00"]),
            json!(["-5.00", "10.00", "-5.434783", "10.869565", "0.00"]),
            json!(["15.00", "25.00", "16.304348", "27.173913", "0.00"]),
            json!(["-10.00", "15.00", "-10.869565", "16.304348", "0.00"]),
        ]
    );
    assert_eq!(whole["base"]["closing"], "16.304348");
    let part = statement(1, 3);
    assert_eq!(part["base"]["opening"], "0.00");
    assert_eq!(part["opening"][0]["not_converted"], "15.00");
    assert_eq!(lines(&part), lines(&whole)[1..3], "a statement begins where the last one ended");
    assert_eq!(
        (&part["base"]["closing"], &part["base"]["not_converted"]),
        (&json!("10.869565"), &json!([]))
    );
    let early = statement(0, 1)["base"]["not_converted"].clone();
    assert_eq!(early, json!([{"currency": "EUR", "postings": 1, "amount": "15.00"}]));
}

/// Changes the store behind its back; `verify` must say so.
fn check(what: &str, fault: &str, damage: impl FnOnce(&Books, &RocksEngine, &mut Batch)) {
    let books = books();
    on(&books, |engine| {
        let mut batch = Batch::default();
        damage(&books, engine, &mut batch);
        engine.append(&batch).and_then(|()| engine.sync()).expect("written");
    });
    let Ended { code, out, err } = verify(books.folder.path());
    assert_eq!(code, Some(1), "{what}: {out}{err}");
    assert!(format!("{out}{err}").contains(fault), "{what}: {out}{err}");
}

#[test]
fn damage_to_what_is_converted_is_named() {
    let posting = |what: &str, fault: &str, change: fn(&mut PostingRecord)| {
        check(what, fault, |books, engine, batch| {
            let key = posting_key(books, books.id, 1, 1);
            let mut record =
                PostingRecord::decode(&value(engine, Table::Ledger, &key)).expect("a posting");
            change(&mut record);
            batch.put(Table::Ledger, &key, |out| record.encode(out));
        });
    };
    posting("uneven entries", "do not sum to zero", |record| {
        record.converted[0].worth.margin += 1;
    });
    posting("uneven own entries", "do not sum to zero", |record| {
        record.converted[0].own.receivable += 1;
    });
    let shift = |record: &mut PostingRecord| {
        record.converted[0].worth.payable -= 1;
        record.converted[0].worth.margin += 1;
    };
    posting("another worth", "its conversion says something else", shift);
    posting("another worth, in the seal", "are not those sealed", shift);
    let sum = "balance in the network's currency is not that of the conversions";
    posting("another worth, in the sum", sum, shift);
    posting("a number", "balances are not those", |record| record.converted[0].postings -= 1);
    posting("nothing converted", "are not those sealed", |record| record.converted.clear());

    let sealed = |what: &str, fault: &str, change: fn(&mut SealRecord)| {
        check(what, fault, |books, engine, batch| {
            let key = keys::seal(books.affiliate, Day::of_ms(time_ms(2)));
            let mut seal = SealRecord::decode(&value(engine, Table::Ledger, &key)).expect("a seal");
            change(&mut seal);
            batch.put(Table::Ledger, &key, |out| seal.encode(out));
        });
    };
    sealed("a sealed worth", "balances are not those", |seal| {
        seal.converted[0].1.worth.margin += 1
    });
    sealed("a sealed worth, hashed", "does not follow", |seal| {
        seal.converted[0].1.worth.payable += 1;
    });
    sealed("a sealed share", "does not follow", |seal| seal.converted[0].1.own.payable += 1);
    sealed("none", "balances are not those", |seal| seal.converted.clear());

    let pinned = "its worth in the network's currency is not that by its pinned rate";
    let conversion = |what: &str, change: fn(&mut ConversionRecord<'_>)| {
        check(what, pinned, |books, engine, batch| {
            let stored = value(engine, Table::Conversions, books.other.as_bytes());
            let mut record = ConversionRecord::decode(&stored).expect("a conversion");
            change(&mut record);
            batch.put(Table::Conversions, books.other.as_bytes(), |out| record.encode(out));
        });
    };
    conversion("another rate", |record| {
        let base = record.exchanged.as_mut().and_then(|it| it.base.as_mut());
        base.expect("exchanged").rate.0 += 1_000_000;
    });
    conversion("a cent more is booked", |record| {
        let base: &mut EarnedInBase = record.history[0].booked_base.as_mut().expect("booked");
        base.revenue += 10_000;
    });
    conversion("nothing is booked", |record| record.history[0].booked_base = None);
}

#[test]
fn a_proof_covers_what_is_converted() {
    let books = books();
    let folder = books.folder.path();
    let proof = |id: RecordId| {
        let proof = run(folder, &["ledger", "prove", "--store", ".", &id.to_text().to_string()]);
        assert_eq!((proof.code, &*proof.err), (Some(0), ""));
        proof.out
    };
    let check = |text: &str| {
        std::fs::write(folder.join("proof.json"), text).expect("written");
        run(folder, &["ledger", "check", "proof.json"])
    };
    let text = proof(books.id);
    let ended = check(&text);
    assert_eq!((ended.code, &*ended.err), (Some(0), ""), "{text}");
    let lines: Vec<_> = ended.out.lines().skip(1).take(4).collect();
    let day = |day: u64| Day::of_ms(time_ms(day)).to_string();
    let expected = [
        ("step 0: 15.00 EUR", 0),
        ("step 1: 0.00 EUR (16.304348 USD)", 1),
        ("step 2: -5.00 EUR (-5.434783 USD)", 2),
        ("step 3: -10.00 EUR (-10.869565 USD)", 4),
    ];
    let expected =
        expected.map(|(step, on)| format!("{step} owed to the affiliate, sealed on {}", day(on)));
    assert_eq!(lines, expected);
    let sound: Value = serde_json::from_str(&text).expect("JSON");
    for network in ["21739130", "5434782", "-5434782"] {
        assert!(!text.contains(network), "what the network earns is nobody's business");
    }
    let posting = "/postings/1/converted/0";
    for (place, changed) in [
        (format!("{posting}/base"), json!("GBP")),
        (format!("{posting}/postings"), json!(1)),
        (format!("{posting}/own_payable_micros"), json!("-15000001")),
        (format!("{posting}/payable_micros"), json!("-16304349")),
        ("/postings/1/converted".to_owned(), json!([])),
        ("/seals/2/balances/0/converted/0/payable_micros".to_owned(), json!("-10869566")),
        ("/seals/2/balances/0/converted".to_owned(), json!([])),
    ] {
        let mut proof = sound.clone();
        *proof.pointer_mut(&place).expect("in the proof") = changed;
        let ended = check(&proof.to_string());
        assert_eq!(ended.code, Some(1), "{place}: {}", ended.out);
    }
}

#[test]
fn a_proof_of_the_form_of_before_still_holds() {
    let books = crate::verify::books();
    let folder = books.folder.path();
    let id = books.ids[1].to_text().to_string();
    let proof = run(folder, &["ledger", "prove", "--store", ".", &id]).out;
    // As it was made when there was nothing to convert.
    let old = proof.replace("postbackd-ledger-proof-2", "postbackd-ledger-proof-1");
    let mut old: Value = serde_json::from_str(&old).expect("JSON");
    let members = ["/postings/0", "/seals/0/balances/0"];
    for member in members {
        let member = old.pointer_mut(member).and_then(Value::as_object_mut).expect("a member");
        assert_eq!(member.remove("converted"), Some(json!([])));
    }
    std::fs::write(folder.join("proof.json"), old.to_string()).expect("written");
    let ended = run(folder, &["ledger", "check", "proof.json"]);
    assert_eq!((ended.code, &*ended.err), (Some(0), ""), "{}", ended.out);
}
