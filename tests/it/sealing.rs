//! Whatever the clock does around sealing: nothing is posted to a sealed day, so that all money is
//! in a balance, in a statement and in a seal.

use std::path::Path;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Waker};
use std::time::Instant;

use postbackd::click_id::{Minter, RecordId};
use postbackd::ledger::{balances, seal_due, statement};
use postbackd::model::ids::{AffiliateNumber, OfferNumber};
use postbackd::model::period::Day;
use postbackd::model::status::Status;
use postbackd::store::engine::{Batch, Engine};
use postbackd::store::postings::Balances;
use postbackd::store::records::{ClickRecord, ConversionRecord, Earned, HistoryEntry};
use postbackd::store::schema::Table;
use postbackd::store::ticket::{Outcome, Ticket};
use postbackd::store::{
    AppendBuffers, Appended, ConversionChange, RocksEngine, Store, Unobserved, database_folder,
    keys,
};
use serde_json::{Value, json};

use crate::harness::{PATIENCE, Server, Setup, eventually, run};
use crate::rng::Rng;
use crate::verify::{
    DAY_MS, MICROS, NOON_MS, commit, conversion, file_all, open, seal, verify, wait,
};

const HOUR_MS: u64 = 60 * 60 * 1000;
const DAY: u32 = 20_000;

fn step(status: Status, time_ms: u64) -> HistoryEntry<'static> {
    let earned = Earned { revenue: 20 * MICROS, payout: 15 * MICROS, ..Earned::default() };
    HistoryEntry::new(status, time_ms, None, earned, "test")
}

/// Conversions of one affiliate, minted one after the other.
struct Book {
    minter: Minter,
    offer: OfferNumber,
    affiliate: AffiliateNumber,
}

impl Book {
    fn new(store: &Store) -> Self {
        let numbers = wait(store.assign_numbers(["spring"].into_iter(), ["pub-7"].into_iter()));
        let numbers = numbers.expect("numbers");
        let offer = numbers.offer("spring").expect("a number");
        let affiliate = numbers.affiliate("pub-7").expect("a number");
        Self { minter: Minter::new(0, 1, 0), offer, affiliate }
    }

    /// A click, and an ID for its conversion.
    fn click(&self, store: &Store, now_ms: u64) -> (RecordId, RecordId) {
        let click = self.minter.mint(now_ms, self.offer, self.affiliate);
        let ticket = Arc::new(Ticket::default());
        store.record_click(click, &ClickRecord::default(), ticket).expect("queued");
        (click, self.minter.mint(now_ms, self.offer, self.affiliate))
    }

    /// What the affiliate is owed, and what it was each day, as its balance and its statement say.
    fn owed(&self, store: &Store) -> (i64, Vec<(u32, i64, bool)>) {
        let payable = |balances: &Balances| {
            let payable = balances.of(*b"USD").entries.payable;
            i64::try_from(-payable).expect("a small one") / MICROS
        };
        let (all, _) = wait(balances(store, self.affiliate)).expect("readable");
        let statement = statement(store, self.affiliate, Day::new(0)..Day::new(DAY + 999));
        let statement = wait(statement).expect("readable");
        assert_eq!(
            payable(&statement.closing),
            payable(&all),
            "the statement ends with the balance"
        );
        let lines = statement.lines.iter();
        let lines = lines.map(|line| (line.day.get(), payable(&line.posted), line.sealed));
        (payable(&all), lines.collect())
    }
}

fn submit_change(
    store: &Store,
    id: RecordId,
    before: &ConversionRecord<'_>,
    after: &ConversionRecord<'_>,
) -> Arc<Ticket> {
    let ticket = Arc::new(Ticket::default());
    let change = ConversionChange { conversion: id, before, after };
    store.change_conversion(change, None, ticket.clone()).expect("queued");
    ticket
}

/// Makes another step of a conversion, as it is in the store.
fn change(store: &Store, id: RecordId, entry: HistoryEntry<'_>) {
    let stored = wait(store.conversion(id)).expect("readable").expect("there");
    let before = stored.record().expect("a record");
    let mut after = before.clone();
    after.status = entry.status;
    after.history.push(entry);
    let ticket = submit_change(store, id, &before, &after);
    store.writer().flush();
    assert_eq!(wait(ticket.settled()), Outcome::Durable);
}

fn is_sound(folder: &Path, store: Arc<Store>) {
    store.catch_up(Instant::now() + PATIENCE).expect("counted");
    store.close();
    drop(store);
    let verified = verify(folder);
    assert_eq!(verified.code, Some(0), "{}{}", verified.out, verified.err);
}

#[test]
fn what_comes_on_a_sealed_day_is_posted_to_the_next_across_restarts() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut store = open(folder.path());
    let book = Book::new(&store);
    // Long ago one that is pending, today one that is approved.
    let (click, pending) = book.click(&store, NOON_MS - 3 * DAY_MS);
    let history = vec![step(Status::Pending, NOON_MS - 3 * DAY_MS)];
    commit(&store, pending, &conversion(click, "T-1", history));
    let (click, sold) = book.click(&store, NOON_MS);
    commit(&store, sold, &conversion(click, "T-2", vec![step(Status::Approved, NOON_MS)]));
    file_all(&store);
    // The clock is a day ahead, and corrected after the day was sealed.
    assert_eq!(seal(&store, NOON_MS + DAY_MS), 1);
    assert_eq!(book.owed(&store), (15, vec![(DAY, 15, true)]));
    change(&store, pending, step(Status::Approved, NOON_MS + 1));
    let expected = vec![(DAY, 15, true), (DAY + 1, 15, false)];
    assert_eq!(book.owed(&store), (30, expected));
    // A new one, too, whose ID is of the sealed day.
    let (click, id) = book.click(&store, NOON_MS + 2);
    commit(&store, id, &conversion(click, "T-3", vec![step(Status::Approved, NOON_MS + 2)]));
    let expected = vec![(DAY, 15, true), (DAY + 1, 30, false)];
    assert_eq!(book.owed(&store), (45, expected.clone()));
    file_all(&store);
    assert_eq!(book.owed(&store), (45, expected));
    store.close();
    drop(store);
    store = open(folder.path());
    change(&store, sold, step(Status::Reversed, NOON_MS + 3));
    let stored = wait(store.conversion(sold)).expect("readable").expect("there");
    let times: Vec<_> =
        stored.record().expect("a record").history.iter().map(|step| step.time_ms).collect();
    assert_eq!(times, [NOON_MS, NOON_MS + 3], "when it was received is still said");
    assert_eq!(book.owed(&store), (30, vec![(DAY, 15, true), (DAY + 1, 15, false)]));
    assert_eq!(seal(&store, NOON_MS + 9 * HOUR_MS), 0, "of the right clock");
    assert_eq!(seal(&store, NOON_MS + 2 * DAY_MS), 1);
    assert_eq!(book.owed(&store), (30, vec![(DAY, 15, true), (DAY + 1, 15, true)]));
    is_sound(folder.path(), store);
}

#[test]
fn a_clock_that_is_far_ahead_closes_no_day_beyond_the_newest_seal() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(folder.path());
    let book = Book::new(&store);
    let sale = |txn_id: &str, now_ms: u64| {
        let (click, id) = book.click(&store, now_ms);
        commit(&store, id, &conversion(click, txn_id, vec![step(Status::Approved, now_ms)]));
        file_all(&store);
    };
    sale("T-1", NOON_MS);
    assert_eq!(seal(&store, NOON_MS + 400 * DAY_MS), 1);
    sale("T-2", NOON_MS + 1);
    sale("T-3", NOON_MS + 2 * DAY_MS);
    let expected = vec![(DAY, 15, true), (DAY + 1, 15, false), (DAY + 2, 15, false)];
    assert_eq!(book.owed(&store), (45, expected));
    assert_eq!(seal(&store, NOON_MS + 3 * DAY_MS), 2);
    is_sound(folder.path(), store);
}

#[test]
fn a_store_whose_seals_are_of_earlier_releases_knows_them() {
    // Some did not keep which day is unsealed; others did, and after a step back to the former it
    // is out of date.
    for kept in [None, Some(DAY)] {
        let books = crate::verify::books();
        {
            let engine = RocksEngine::open(&database_folder(books.folder.path()), 8 << 20);
            let (engine, mut batch) = (engine.expect("opens"), Batch::default());
            let mut put = |key: &[u8], value: u32| {
                batch.put(Table::Meta, key, |out| out.extend(value.to_be_bytes()));
            };
            put(keys::META_FORMAT, 5);
            if let Some(day) = kept {
                put(keys::META_UNSEALED, day);
            } else {
                batch.delete(Table::Meta, keys::META_UNSEALED);
            }
            engine.append(&batch).and_then(|()| engine.sync()).expect("written");
        }
        // The newest seal is of the second day, and not of the affiliate with the highest number
        // alone.
        let store = open(books.folder.path());
        change(&store, books.ids[1], step(Status::Reversed, NOON_MS + DAY_MS));
        is_sound(books.folder.path(), store);
    }
}

#[test]
fn sealing_waits_for_what_was_submitted_before_and_defers_what_is_after() {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::create_dir_all(folder.path().join("db")).expect("a folder");
    let engine = RocksEngine::open(&database_folder(folder.path()), 8 << 20).expect("opens");
    let opened = Store::on(Arc::new(engine), 1, [7; 32], Arc::new(Unobserved));
    let store = Arc::new(opened.expect("opens").0);
    // Whoever holds it keeps the stages from writing.
    let gate = Arc::new(Mutex::new(()));
    let ended = Arc::new(AtomicBool::new(false));
    let stages = {
        let (store, gate, ended) = (Arc::clone(&store), Arc::clone(&gate), Arc::clone(&ended));
        std::thread::spawn(move || {
            let (mut buffers, mut appended) = (AppendBuffers::default(), Appended::default());
            while !ended.load(Ordering::Acquire) {
                let open = gate.lock().expect("whole");
                store.writer().append_once(&mut buffers);
                store.writer().sync_once(&mut appended);
                drop(open);
                std::thread::yield_now();
            }
        })
    };
    let book = Book::new(&store);
    let mut known = Vec::new();
    for (n, txn_id) in ["T-0", "T-1", "T-2"].into_iter().enumerate() {
        let now_ms = NOON_MS + n as u64;
        let (click, id) = book.click(&store, now_ms);
        let record = conversion(click, txn_id, vec![step(Status::Approved, now_ms)]);
        commit(&store, id, &record);
        known.push((id, record));
    }
    eventually("filing", || {
        // No thread does it here.
        store.file_once(true);
        (store.progress().unfiled() == 0).then_some(())
    });
    let reverse = |n: usize| {
        let (id, before) = &known[n];
        let mut after = before.clone();
        after.status = Status::Reversed.code();
        after.history.push(step(Status::Reversed, NOON_MS + 9));
        submit_change(&store, *id, before, &after)
    };
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    // Nothing is written from here on: the first change is on its way, the second is built by then.
    let (before, after) = {
        let _inside = runtime.enter();
        let hold = gate.lock().expect("whole");
        let before = reverse(0);
        let mut sealing = pin!(seal_due(&store, NOON_MS + DAY_MS));
        let mut context = Context::from_waker(Waker::noop());
        assert!(sealing.as_mut().poll(&mut context).is_pending(), "it waits for the first");
        let after = reverse(1);
        drop(hold);
        assert_eq!(runtime.block_on(sealing).expect("sealed"), 1);
        (before, after)
    };
    store.writer().flush();
    assert_eq!([wait(before.settled()), wait(after.settled())], [Outcome::Durable; 2]);
    assert_eq!(book.owed(&store), (15, vec![(DAY, 30, true), (DAY + 1, -15, false)]));
    ended.store(true, Ordering::Release);
    stages.join().expect("ended");
    store.close();
}

#[test]
fn whatever_the_clock_does_all_money_is_in_balances_statements_and_seals() {
    let seed = std::env::var("POSTBACKD_SIM_SEED").ok().and_then(|seed| seed.parse().ok());
    let seeds = seed.map_or(0..6, |seed| seed..seed + 1);
    let mut seals = 0;
    for seed in seeds {
        println!("seed {seed}");
        seals += clock_steps(&mut Rng::new(seed));
    }
    assert!(seals > 0, "days were sealed");
}

/// Returns how many days were sealed.
fn clock_steps(rng: &mut Rng) -> usize {
    let folder = tempfile::tempdir().expect("a folder");
    let mut store = open(folder.path());
    let book = Book::new(&store);
    let mut known: Vec<(RecordId, Status)> = Vec::new();
    let (mut now_ms, mut seals) = (NOON_MS, 0);
    for n in 0..150 {
        now_ms += rng.next() % (2 * HOUR_MS);
        match rng.below(12) {
            0 => now_ms += rng.next() % (3 * DAY_MS),
            1 | 2 => now_ms -= rng.next() % (3 * DAY_MS),
            3 => {
                file_all(&store);
                seals += seal(&store, now_ms);
            }
            4 if rng.once_in(4) => {
                store.close();
                drop(store);
                store = open(folder.path());
            }
            5..=7 => {
                let (click, id) = book.click(&store, now_ms);
                let status = [Status::Pending, Status::Approved][rng.below(2)];
                let record = conversion(click, "", vec![step(status, now_ms)]);
                let txn_id = format!("T-{n}");
                commit(&store, id, &ConversionRecord { txn_id: &txn_id, ..record });
                known.push((id, status));
            }
            _ if !known.is_empty() => {
                let at = rng.below(known.len());
                let next = match known[at].1 {
                    Status::Pending => Status::Approved,
                    Status::Approved => Status::Reversed,
                    _ => continue,
                };
                // A clock that was asked a while ago.
                change(&store, known[at].0, step(next, now_ms - rng.next() % (26 * HOUR_MS)));
                known[at].1 = next;
            }
            _ => {}
        }
        let approved = known.iter().filter(|(_, status)| *status == Status::Approved).count();
        let (owed, lines) = book.owed(&store);
        assert_eq!(owed, 15 * approved as i64, "{lines:?}");
        assert_eq!(owed, lines.iter().map(|(_, amount, _)| amount).sum::<i64>(), "{lines:?}");
    }
    file_all(&store);
    is_sound(folder.path(), store);
    seals
}

/// The affiliate's statement of some days from today on: day by day, counted from today, what was
/// posted and whether that is sealed.
fn lines(server: &Server, today: jiff::civil::Date) -> (Value, Vec<(i32, String, bool)>) {
    let end = today.saturating_add(jiff::Span::new().days(9));
    let statement = server.api(&format!("statements?affiliate=pub-7&from={today}&to={end}"));
    let lines = statement["lines"].as_array().expect("lines").iter();
    let line = |line: &Value| {
        let day: jiff::civil::Date =
            line["day"].as_str().and_then(|day| day.parse().ok()).expect("a day");
        let after = day.since(today).expect("days").get_days();
        let amount = line["amount"].as_str().expect("an amount").to_owned();
        (after, amount, line["sealed"] == true)
    };
    (statement["closing"][0]["amount"].clone(), lines.map(line).collect())
}

#[test]
fn a_clock_that_was_ahead_when_days_were_sealed_hides_no_money() {
    let mut server = Setup::new().on_faulty_disk().start();
    let click = server.click("offer=spring&aff=pub-7");
    let send = |server: &Server, query: &str, result: &str| {
        let answer = server.postback(&format!("click_id={click}&event=sale&{query}"));
        assert_eq!(answer.verdict(), (200, result, ""), "{:?}", answer.json);
        answer.word("conversion_id").to_owned()
    };
    let today = jiff::Timestamp::now().to_zoned(jiff::tz::TimeZone::UTC).date();
    send(&server, "txn_id=T-1", "accepted");
    let pending = send(&server, "txn_id=T-2&status=pending", "accepted");
    server.stop();
    // Days are sealed at each start. It is soon corrected.
    server.disk().shift_clock(2 * DAY_MS as i64);
    server.start_again();
    // What comes before it has ended is deferred as far as the clock was ahead.
    let sealed = "days of the ledger were sealed";
    server.says(sealed);
    let balances = server.api("balances?affiliate=pub-7");
    assert_eq!(balances["newest_seal"]["day"], today.to_string());
    server.disk().shift_clock(0);
    send(&server, "txn_id=T-2&status=approved", "updated");
    let expected = [(0, "15.00".to_owned(), true), (1, "15.00".to_owned(), false)];
    assert_eq!(lines(&server, today), (json!("30.00"), expected.to_vec()));
    send(&server, "txn_id=T-3", "accepted");
    let expected = [(0, "15.00".to_owned(), true), (1, "30.00".to_owned(), false)];
    assert_eq!(lines(&server, today), (json!("45.00"), expected.to_vec()));
    let balances = server.api("balances?affiliate=pub-7");
    assert_eq!(balances["balances"][0]["owed"], "45.00");
    // What the conversion tells of it, and the postback behind it.
    let trace = server.api(&format!("trace/{pending}"));
    let entries = trace["entries"].as_array().expect("entries").iter();
    let updated = entries.filter(|entry| entry["record"]["result"] == "updated");
    assert_eq!(updated.count(), 1, "{trace}");
    server.stop();
    server.start_again();
    assert_eq!(lines(&server, today), (json!("45.00"), expected.to_vec()));
    send(&server, "txn_id=T-1&status=reversed", "updated");
    let expected = [(0, "15.00".to_owned(), true), (1, "15.00".to_owned(), false)];
    assert_eq!(lines(&server, today), (json!("30.00"), expected.to_vec()));
    server.stop();
    let verified = run(&server.path("."), &["verify", "--store", "data"]);
    assert_eq!(verified.code, Some(0), "{}{}", verified.out, verified.err);
    // The deferred day passes and is sealed.
    server.disk().shift_clock(4 * DAY_MS as i64);
    server.start_again();
    let expected = [(0, "15.00".to_owned(), true), (1, "15.00".to_owned(), true)];
    eventually("the next seal", || {
        (lines(&server, today) == (json!("30.00"), expected.to_vec())).then_some(())
    });
    server.stop();
    let verified = run(&server.path("."), &["verify", "--store", "data"]);
    assert_eq!(verified.code, Some(0), "{}{}", verified.out, verified.err);
}
