//! `verify`: a sound store is left alone and found sound, and whatever is broken is named.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use postbackd::catalog::Document;
use postbackd::checked_toml::Format;
use postbackd::click_id::{Minter, RecordId};
use postbackd::dedup::{Claim, ClaimSet};
use postbackd::ledger::seal_due;
use postbackd::limits::{CATALOG_CHUNK_BYTES, SUBS_PER_PLACE_MAX};
use postbackd::model::ids::{AffiliateNumber, OfferNumber};
use postbackd::model::period::{Day, Quarter};
use postbackd::store::counters::Sign;
use postbackd::store::engine::{Batch, Engine};
use postbackd::store::keys::{self, AuditKey, InboundId, Place, PostingKey, Subject};
use postbackd::store::records::{
    AuditRecord, Binding, CapsRecord, CatalogRecord, ChangeRecord, ClickRecord, Contribution,
    ConversionRecord, Counted, Counts, Entries, ErasureRecord, HistoryEntry, InboundHead,
    LateClickRecord, PlaceRecord, PostingRecord, RatesRecord, SealRecord, SubRecord,
    begin_inbound_page, encode_inbound,
};
use postbackd::store::schema::Table;
use postbackd::store::ticket::{Outcome, Ticket};
use postbackd::store::{AuditEntry, ClickErasure, RocksEngine, Store, Unobserved, database_folder};
use tempfile::TempDir;

use crate::harness::{Ended, PATIENCE, Server, eventually, run};

pub const DAY_MS: u64 = 24 * 60 * 60 * 1000;
/// Some day at noon.
pub const NOON_MS: u64 = 20_000 * DAY_MS + DAY_MS / 2;
pub const MICROS: i64 = 1_000_000;

/// A store of three days, sealed up to the last: what an affiliate was owed, day by day.
pub struct Books {
    pub folder: TempDir,
    /// Conversions of the first affiliate, one a day.
    pub ids: Vec<RecordId>,
    pub affiliate: AffiliateNumber,
    clicks: Vec<RecordId>,
}

pub fn wait<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    runtime.block_on(future)
}

fn step(status: u8, time_ms: u64, revenue: i64, payout: i64) -> HistoryEntry<'static> {
    HistoryEntry {
        status,
        time_ms,
        event_time_ms: time_ms,
        booked_revenue: revenue * MICROS,
        booked_payout: payout * MICROS,
        booked_base: None,
        reason: "test",
    }
}

fn claim(txn_id: &str) -> Claim<'_> {
    Claim::Transaction { advertiser: "acme", event: "sale", txn_id }
}

pub fn conversion<'a>(
    click: RecordId,
    txn_id: &'a str,
    history: Vec<HistoryEntry<'a>>,
) -> ConversionRecord<'a> {
    ConversionRecord {
        click: *click.as_bytes(),
        advertiser: "acme",
        offer: "spring",
        affiliate: "pub-7",
        event: "sale",
        txn_id,
        status: history.last().map_or(2, |last| last.status),
        revenue: 20 * MICROS,
        payout: 15 * MICROS,
        currency: *b"USD",
        history,
        claims: ClaimSet::new(claim(txn_id), None).bits(false),
        ..ConversionRecord::default()
    }
}

/// Opens a store and lets `fill` write to it; files everything, seals what is over by the fourth
/// day, closes.
pub fn open(folder: &Path) -> Arc<Store> {
    let db = database_folder(folder);
    let (store, _) = Store::open(&db, 8 << 20, 1, [7; 32], Arc::new(Unobserved)).expect("opens");
    Arc::new(store)
}

pub fn file_all(store: &Store) {
    // The thread does it: turns are one thread's alone.
    let _ = store.file_soon();
    eventually("filing", || (store.progress().unfiled() == 0).then_some(()));
}

pub fn seal(store: &Arc<Store>, now_ms: u64) -> usize {
    let sealed = wait(seal_due(store, now_ms));
    sealed.unwrap_or_else(|error| panic!("{error}: {:?}", store.health().poison_reason()))
}

pub fn commit(store: &Store, id: RecordId, record: &ConversionRecord<'_>) {
    let ticket = Arc::new(Ticket::default());
    store.commit_conversion(id, record, ticket.clone()).expect("queued");
    store.writer().flush();
    assert_eq!(wait(ticket.settled()), Outcome::Durable);
}

/// The first affiliate has a sale a day; the first day's is reversed on the third day. Another
/// affiliate has one on the second day.
pub fn books() -> Books {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::create_dir_all(folder.path()).expect("a folder");
    let store = open(folder.path());
    let numbers =
        wait(store.assign_numbers(["spring"].into_iter(), ["pub-7", "pub-8"].into_iter()))
            .expect("numbers");
    let offer = numbers.offer("spring").and_then(|number| OfferNumber::new(number.get()));
    let (offer, first) = (offer.expect("a number"), numbers.affiliate("pub-7").expect("a number"));
    let other = numbers.affiliate("pub-8").expect("a number");
    let minter = Minter::new(0, 1, 0);
    let (mut ids, mut clicks) = (Vec::new(), Vec::new());
    let rates = RatesRecord { base: *b"USD", rates: vec![(*b"EUR", 920_000_000)] };
    wait(store.set_rates(&[(Day::new(20_000), rates)], 0, &[])).expect("kept");
    for day in 0..3 {
        let now_ms = NOON_MS + day * DAY_MS;
        for affiliate in [first, other] {
            if affiliate == other && day != 1 {
                continue;
            }
            let click = minter.mint(now_ms, offer, affiliate);
            let ticket = Arc::new(Ticket::default());
            let mut record = ClickRecord::default();
            record.subs[0] = "news";
            store.record_click(click, &record, ticket.clone()).expect("queued");
            let id = minter.mint(now_ms + 1, offer, affiliate);
            let txn_id = format!("T-{day}-{}", affiliate.get());
            let mut history = vec![step(2, now_ms, 20, 15)];
            if day == 0 {
                history.push(step(4, now_ms + 2 * DAY_MS, 0, 0));
            }
            commit(&store, id, &conversion(click, &txn_id, history));
            if affiliate == first {
                ids.push(id);
                clicks.push(click);
            }
        }
    }
    file_all(&store);
    // Half an hour after midnight the second day is not sealed yet.
    assert_eq!(seal(&store, NOON_MS + DAY_MS * 3 / 2 + DAY_MS / 48), 1);
    assert_eq!(seal(&store, NOON_MS + 2 * DAY_MS), 2, "the second day, of both affiliates");
    assert_eq!(seal(&store, NOON_MS + 2 * DAY_MS), 0, "sealing twice changes nothing");
    store.catch_up(Instant::now() + PATIENCE).expect("counted");
    store.close();
    Books { folder, ids, affiliate: first, clicks }
}

pub fn verify(folder: &Path) -> Ended {
    run(folder, &["verify", "--store", "."])
}

/// Every file of a store with the hash of its bytes.
fn files(folder: &Path) -> BTreeMap<String, blake3::Hash> {
    let entries = std::fs::read_dir(database_folder(folder)).expect("a folder");
    let entry = |entry: std::io::Result<std::fs::DirEntry>| {
        let path = entry.expect("an entry").path();
        (path.display().to_string(), blake3::hash(&std::fs::read(&path).expect("readable")))
    };
    entries.map(entry).collect()
}

#[test]
fn a_sound_store_is_found_sound_and_left_as_it_is() {
    let books = books();
    let before = files(books.folder.path());
    let ended = verify(books.folder.path());
    assert_eq!((ended.code, &*ended.err), (Some(0), ""), "{}", ended.out);
    assert!(ended.out.contains("conversions 4"), "{}", ended.out);
    assert!(ended.out.contains("ledger_postings 5, ledger_seals 3"), "{}", ended.out);
    assert!(ended.out.ends_with("sound\n"), "{}", ended.out);
    assert!(files(books.folder.path()) == before, "the store was changed");
}

/// Changes a sound store behind its back; `verify` must name what is wrong.
fn check(what: &str, fault: &str, damage: impl FnOnce(&Books, &RocksEngine, &mut Batch)) {
    let books = books();
    {
        let db = database_folder(books.folder.path());
        let engine = RocksEngine::open(&db, 8 << 20).expect("opens");
        let mut batch = Batch::default();
        damage(&books, &engine, &mut batch);
        engine.append(&batch).and_then(|()| engine.sync()).expect("written");
    }
    let ended = verify(books.folder.path());
    assert_eq!(ended.code, Some(1), "{what}: {}{}", ended.out, ended.err);
    let said = format!("{}{}", ended.out, ended.err);
    assert!(said.contains(fault), "{what}: {said}");
}

fn put(batch: &mut Batch, table: Table, key: &[u8], value: &[u8]) {
    batch.put(table, key, |out| out.extend_from_slice(value));
}

fn delete(batch: &mut Batch, table: Table, key: &[u8]) {
    batch.delete_range(table, key, &[key, &[0]].concat());
}

/// The place of the first affiliate's posting on a day.
fn posting_key(books: &Books, day: usize) -> PostingKey {
    let (affiliate, conversion) = (books.affiliate, books.ids[day]);
    PostingKey { affiliate, day: Day::of_ms(conversion.time_ms()), conversion, step: 0 }
}

fn put_posting(batch: &mut Batch, key: &PostingKey, entries: [i128; 3]) {
    let [receivable, payable, margin] = entries.map(|units| units * i128::from(MICROS));
    let entries = Entries { receivable, payable, margin };
    let record = PostingRecord { currency: *b"USD", entries, converted: Vec::new() };
    batch.put(Table::Ledger, &key.encode(), |out| record.encode(out));
}

/// Where nothing is counted.
fn place() -> Place {
    Place { quarter: Quarter::new(7), offer: OfferNumber::NONE, affiliate: AffiliateNumber::NONE }
}

fn seal_of(books: &Books, engine: &RocksEngine, day: u32) -> ([u8; 8], SealRecord) {
    let key = keys::seal(books.affiliate, Day::new(day));
    let mut seal = None;
    let mut read = |bytes: &[u8]| seal = SealRecord::decode(bytes).ok();
    let tier = postbackd::store::engine::Tier::Disk;
    engine.get(Table::Ledger, &key, tier, &mut read).expect("readable");
    (key, seal.expect("a seal"))
}

#[test]
fn records_that_do_not_decode_are_named() {
    const UNDER_ALL: [&[u8]; 4] =
        [keys::META_FILED, keys::META_CLICK_KEY, keys::META_EXPIRED, keys::META_EXPIRED_CLICKS];
    for (table, key) in [
        (Table::Clicks, &[5; 16][..]),
        (Table::Conversions, &[5; 16]),
        (Table::Catalog, &keys::catalog_version(1)),
        (Table::Catalog, &keys::rates(Day::new(20_000))),
        (Table::Catalog, &keys::number(keys::Numbered::Offer, "spring")),
        (Table::Catalog, &keys::owner("spring")),
        (Table::Catalog, &keys::customer_window("spring")),
        (Table::Ledger, &keys::seal(AffiliateNumber::NONE, Day::new(1))),
        (Table::Ledger, b"?"),
        (Table::Ledger, &[b'p'; keys::POSTING_KEY_BYTES]),
        (Table::Dedupe, &[5; 16]),
        (Table::ByClick, &[5; 32]),
        (Table::Customers, &[5; 16]),
        (Table::Customers, &[5; 32]),
        (Table::Counters, b"?"),
        (Table::Counters, keys::COUNTED),
        (Table::Counters, &keys::counter(place())),
        (Table::Counters, &keys::sub_counter(place(), Some("a"))),
        (Table::Counters, &keys::cap_sums(Place { quarter: Quarter::default(), ..place() })),
        (Table::Counters, &keys::cap_sums(place())),
        (Table::Counters, &keys::change(RecordId::from_bytes([5; 16]), 0)),
        (Table::Counters, &keys::late_click(RecordId::from_bytes([5; 16]))),
        (Table::Counters, &keys::refused(place(), 1)),
        (Table::Inbound, b"?"),
        (Table::Inbound, &keys::inbound_page(&[5; 16])),
        (Table::Meta, keys::META_FILED),
        (Table::Meta, keys::META_CLICK_KEY),
        (Table::Meta, keys::META_EXPIRED),
        (Table::Meta, keys::META_EXPIRED_CLICKS),
        (Table::Meta, keys::META_STARTS),
        (Table::Meta, keys::META_NUMBERS_FROM),
        (Table::Meta, keys::META_UNSEALED),
        (Table::Meta, &keys::erasure(Subject::Click(RecordId::from_bytes([5; 16])))),
    ] {
        let what = format!("{} {key:?}", table.name());
        let named = match table {
            // Nothing can be read without them.
            Table::Meta if UNDER_ALL.contains(&key) => "meta table is damaged".to_owned(),
            _ => format!("broken: {} ", table.name()),
        };
        check(&what, &named, |_, _, batch| put(batch, table, key, &[255, 1, 2]));
    }
}

/// Of the lines that have `about` there is the one fault that is expected, or none.
#[track_caller]
fn assert_one_fault(folder: &Path, about: &str, expected: Option<&str>) {
    let said = verify(folder);
    let said = format!("{}{}", said.out, said.err);
    let faults: Vec<_> = said.lines().filter(|line| line.contains(about)).collect();
    match expected {
        Some(fault) => assert!(faults.len() == 1 && faults[0].contains(fault), "{said}"),
        None => assert!(faults.is_empty(), "{said}"),
    }
}

#[test]
fn each_text_of_a_catalog_is_the_one_that_its_version_is_named_after() {
    let version = |text: &str| {
        let text = text.to_owned();
        Document { format: Format::Toml, text }.version()
    };
    // One piece too many for a single row, the third's text.
    let texts = ["", "# one", &format!("# {}", "x".repeat(CATALOG_CHUNK_BYTES))];
    let check = |fault: Option<&str>, damage: fn(&mut Batch)| {
        let folder = tempfile::tempdir().expect("a folder");
        let store = open(folder.path());
        for (number, text) in (1..).zip(texts) {
            let entry = AuditEntry { time_ms: number, record: AuditRecord::default() };
            let record = CatalogRecord { version: version(text), ..CatalogRecord::default() };
            wait(store.keep_catalog(text, record, &entry)).expect("kept");
        }
        store.close();
        drop(store);
        {
            let engine = RocksEngine::open(&database_folder(folder.path()), 8 << 20);
            let (engine, mut batch) = (engine.expect("opens"), Batch::default());
            damage(&mut batch);
            engine.append(&batch).and_then(|()| engine.sync()).expect("written");
        }
        assert_one_fault(folder.path(), "broken: catalog ", fault);
    };
    let another = Some("its text is not there, or another one");
    check(None, |_| {});
    check(another, |batch| put(batch, Table::Catalog, &keys::catalog_chunk(1, 0), b"# two"));
    check(another, |batch| delete(batch, Table::Catalog, &keys::catalog_chunk(1, 0)));
    check(another, |batch| delete(batch, Table::Catalog, &keys::catalog_chunk(2, 1)));
    check(another, |batch| {
        let (from, to) = (keys::catalog_chunk(0, 0), keys::catalog_chunk(3, 0));
        batch.delete_range(Table::Catalog, &from, &to);
    });
    check(Some("there is no such version"), |batch| {
        delete(batch, Table::Catalog, &keys::catalog_version(1));
    });
    // The oldest texts may go, and one may be on its way.
    check(None, |batch| {
        batch.delete_range(Table::Catalog, &keys::catalog_chunk(0, 0), &keys::catalog_chunk(2, 0));
        put(batch, Table::Catalog, &keys::catalog_chunk(3, 0), b"# three");
    });
}

/// A page of one postback.
fn page(head: &InboundHead<'_>) -> Vec<u8> {
    let mut page = Vec::new();
    begin_inbound_page(&mut page);
    encode_inbound(head, |_| 0, &mut page);
    page
}

#[test]
fn a_postback_that_names_no_conversion_or_another_click_is_found() {
    let key = keys::inbound_page(&keys::first_at(NOON_MS));
    let accepted = |conversion| InboundHead { conversion, ..InboundHead::default() };
    for (what, fault, head) in [
        ("lost", "a conversion that is not there", accepted(Some([0xFE; 16]))),
        ("none", "names no conversion", accepted(None)),
        ("word", "a result is unknown", InboundHead { result: 99, ..InboundHead::default() }),
    ] {
        check(what, fault, |_, _, batch| put(batch, Table::Inbound, &key, &page(&head)));
    }
    let refused = InboundHead { result: 3, click: Some([9; 16]), ..InboundHead::default() };
    let id = InboundId { page: keys::first_at(NOON_MS), row: 0 };
    for (what, fault, click, row) in [
        ("click", "names another click", [8; 16], id),
        ("row", "names another click", [9; 16], InboundId { row: 1, ..id }),
        ("page", "its page is not there", [9; 16], InboundId { page: [0xFE; 16], ..id }),
    ] {
        check(what, fault, |_, _, batch| {
            put(batch, Table::Inbound, &key, &page(&refused));
            let leads = keys::inbound_click(Day::of_ms(NOON_MS), &click, row);
            put(batch, Table::Inbound, &leads, b"");
        });
    }
}

#[test]
fn damaged_entries_of_the_audit_log_are_named() {
    let key = AuditKey { time_ms: NOON_MS, start: 1, number: 0 }.encode();
    let record =
        AuditRecord { who: "ops", action: "rates", details: "{}", ..AuditRecord::default() };
    let encoded = |record: AuditRecord<'_>| {
        let mut bytes = Vec::new();
        record.encode(&mut bytes);
        bytes
    };
    let sound = encoded(record);
    for (what, fault, key, value) in [
        ("a newer version", "record version Some(255)", &key[..], &[255, 1, 2][..]),
        ("a byte less", "record is corrupt", &key[..], &sound[..sound.len() - 1]),
        ("a longer key", "none of the audit log", &[&key[..], &[0]].concat(), &sound),
        (
            "no JSON",
            "details are no JSON",
            &key,
            &encoded(AuditRecord { details: "{\"a\":", ..record }),
        ),
    ] {
        check(what, fault, |_, _, batch| put(batch, Table::Meta, key, value));
    }
    let books = books();
    let store = open(books.folder.path());
    wait(store.keep_audit(&AuditEntry { time_ms: NOON_MS, record })).expect("kept");
    store.close();
    drop(store);
    let ended = verify(books.folder.path());
    assert_eq!((ended.code, &*ended.err), (Some(0), ""), "{}", ended.out);
    assert!(ended.out.contains("audit 1"), "{}", ended.out);
}

#[test]
fn a_conversion_that_was_changed_or_taken_away_is_found() {
    let changed = "its conversion says something else";
    check("another amount", changed, |books, _, batch| {
        let record = conversion(books.clicks[1], "T-1-1", vec![step(2, NOON_MS + DAY_MS, 20, 16)]);
        batch.put(Table::Conversions, books.ids[1].as_bytes(), |out| record.encode(out));
    });
    check("a step less", "no such step", |books, _, batch| {
        let record = conversion(books.clicks[0], "T-0-1", vec![step(2, NOON_MS, 20, 15)]);
        batch.put(Table::Conversions, books.ids[0].as_bytes(), |out| record.encode(out));
    });
    check("another status", "not the last of its history", |books, _, batch| {
        let mut record = conversion(books.clicks[2], "T-2-1", vec![step(2, NOON_MS, 20, 15)]);
        record.status = 4;
        batch.put(Table::Conversions, books.ids[2].as_bytes(), |out| record.encode(out));
    });
    check("another transaction", "does not lead back", |books, _, batch| {
        let record = conversion(books.clicks[2], "T-9", vec![step(2, NOON_MS, 20, 15)]);
        batch.put(Table::Conversions, books.ids[2].as_bytes(), |out| record.encode(out));
    });
    check("none", "there is no such conversion", |books, _, batch| {
        delete(batch, Table::Conversions, books.ids[2].as_bytes());
    });
}

#[test]
fn index_rows_lead_both_ways() {
    let claim_key = claim("T-1-1").store_key();
    check("no dedupe entry", "has no dedupe entry", |_, _, batch| {
        delete(batch, Table::Dedupe, &claim_key.0);
    });
    check("another's dedupe entry", "does not lead back", |books, _, batch| {
        let value = postbackd::store::records::encode_dedupe(books.ids[2]);
        put(batch, Table::Dedupe, &claim_key.0, &value);
    });
    check("an older one's dedupe entry", "names an older conversion", |books, _, batch| {
        let value = postbackd::store::records::encode_dedupe(books.ids[0]);
        put(batch, Table::Dedupe, &claim_key.0, &value);
    });
    check("no index row", "has no row in by_click", |books, _, batch| {
        delete(batch, Table::ByClick, &keys::by_click(books.clicks[1], books.ids[1]));
    });
    check("another's index row", "does not lead back", |books, _, batch| {
        put(batch, Table::ByClick, &keys::by_click(books.clicks[0], books.ids[1]), b"");
    });
    check("an index row of nothing", "there is no such conversion", |books, _, batch| {
        put(batch, Table::ByClick, &keys::by_click(books.clicks[0], books.clicks[0]), b"");
    });
}

#[test]
fn customers_lead_both_ways() {
    let customer = Claim::Customer { advertiser: "acme", customer_id: "K-1", windows: None };
    let key = customer.store_key();
    let named = |books: &Books, batch: &mut Batch, claims: u8| {
        let mut record =
            conversion(books.clicks[1], "T-1-1", vec![step(2, NOON_MS + DAY_MS, 20, 15)]);
        record.customer_id = "K-1";
        record.claims |= claims;
        batch.put(Table::Conversions, books.ids[1].as_bytes(), |out| record.encode(out));
    };
    check("no row", "has no row in customers", |books, _, batch| named(books, batch, 0));
    check("no binding", "there is no binding", |books, _, batch| named(books, batch, 16));
    check("another's row", "does not lead back", |books, _, batch| {
        put(batch, Table::Customers, &keys::of_customer(key, books.ids[1]), b"");
    });
    let binding = |conversion, click| Binding { conversion, click }.encode();
    check("another's binding", "does not lead back", |books, _, batch| {
        put(batch, Table::Customers, &key.0, &binding(books.ids[1], books.clicks[1]));
    });
    check("a binding to another click", "does not lead back", |books, _, batch| {
        named(books, batch, 16);
        put(batch, Table::Customers, &key.0, &binding(books.ids[1], books.clicks[0]));
    });
    check("an older one's binding", "names an older conversion", |books, _, batch| {
        named(books, batch, 16);
        put(batch, Table::Customers, &key.0, &binding(books.ids[0], books.clicks[0]));
    });
}

#[test]
fn the_books_add_up() {
    check("a posting less", "step 0 is not in the ledger", |books, _, batch| {
        delete(batch, Table::Ledger, &posting_key(books, 1).encode());
    });
    check("the balance", "is not that of the conversions", |books, _, batch| {
        put_posting(batch, &posting_key(books, 1), [21, -15, -6]);
    });
    check("the sum", "do not sum to zero", |books, _, batch| {
        put_posting(batch, &posting_key(books, 2), [20, -15, -6]);
    });
    check("the amount", "says something else", |books, _, batch| {
        put_posting(batch, &posting_key(books, 2), [20, -16, -4]);
    });
    check("a posting more", "no such step", |books, _, batch| {
        put_posting(batch, &PostingKey { step: 7, ..posting_key(books, 2) }, [1, -1, 0]);
    });
    check("a posting of nothing", "there is no such conversion", |books, _, batch| {
        let conversion = books.clicks[2];
        put_posting(batch, &PostingKey { conversion, ..posting_key(books, 2) }, [1, -1, 0]);
    });
    check("another day", "says something else", |books, _, batch| {
        let day = Day::new(19_999);
        put_posting(batch, &PostingKey { day, ..posting_key(books, 0) }, [20, -15, -5]);
    });
}

#[test]
fn counters_are_what_clicks_and_conversions_come_to() {
    let change = |what: &str, fault: &str, change: fn(&mut Counts<'static>)| {
        check(what, fault, |books, _, batch| {
            let mut counts = Counts::default();
            counts.click("");
            let conversion = conversion(books.clicks[1], "T-1-1", vec![step(2, NOON_MS, 20, 15)]);
            counts.conversion(&Contribution::of(&conversion).into_owned(), Sign::Plus);
            change(&mut counts);
            let record = PlaceRecord { subs: 1, counts };
            let key = keys::counter(Place::of(books.clicks[1]));
            batch.put(Table::Counters, &key, |out| record.encode(out));
        });
    };
    let (clicks, sums) = ("clicks are not those", "sums are not those");
    change("a click more", clicks, |counts| counts.click(""));
    change("a click elsewhere", clicks, |counts| {
        counts.clicks = 0;
        counts.click("unknown_offer");
    });
    change("no click", clicks, |counts| counts.clicks = 0);
    change("an amount", sums, |counts| counts.events[0].by_status[1].payout += 1);
    change("another status", sums, |counts| counts.events[0].by_status.swap(1, 2));
    change("no conversion", sums, |counts| counts.events.clear());
    check("no sums", clicks, |books, _, batch| {
        delete(batch, Table::Counters, &keys::counter(Place::of(books.clicks[1])));
    });
    check("sums of nothing", clicks, |_, _, batch| {
        let mut record = PlaceRecord::default();
        record.counts.click("");
        batch.put(Table::Counters, &keys::counter(place()), |out| record.encode(out));
    });
    check("a sub1", "clicks of this sub1 are not those", |books, _, batch| {
        let key = keys::sub_counter(Place::of(books.clicks[1]), Some("news"));
        batch.put(Table::Counters, &key, |out| SubRecord::default().encode(out));
    });
    check("a conversion of a sub1", "sums of this sub1 are not those", |books, _, batch| {
        let key = keys::sub_counter(Place::of(books.clicks[1]), Some("news"));
        let mut record = SubRecord::default();
        record.counts.click("");
        batch.put(Table::Counters, &key, |out| record.encode(out));
    });
    check("a sub1 of nothing", "clicks of this sub1 are not those", |books, _, batch| {
        let mut record = SubRecord::default();
        record.counts.click("");
        let key = keys::sub_counter(Place::of(books.clicks[1]), Some("olds"));
        batch.put(Table::Counters, &key, |out| record.encode(out));
    });
    check("a sub1 that has lost its row", "clicks of all other values", |books, _, batch| {
        let key = keys::sub_counter(Place::of(books.clicks[1]), Some("news"));
        delete(batch, Table::Counters, &key);
    });
    check("other values of nothing", "clicks of all other values", |books, _, batch| {
        let mut record = SubRecord::default();
        record.counts.click("");
        let key = keys::sub_counter(Place::of(books.clicks[1]), None);
        batch.put(Table::Counters, &key, |out| record.encode(out));
    });
    check("a conversion of others", "sums of all other values", |books, _, batch| {
        let mut record = SubRecord::default();
        let conversion = conversion(books.clicks[1], "T-1-1", vec![step(2, NOON_MS, 20, 15)]);
        record.counts.conversion(&Contribution::of(&conversion).into_owned(), Sign::Plus);
        let key = keys::sub_counter(Place::of(books.clicks[1]), None);
        batch.put(Table::Counters, &key, |out| record.encode(out));
    });
    check("counted twice", clicks, |books, _, batch| {
        let counted = Counted::default();
        batch.put(Table::Counters, keys::COUNTED, |out| counted.encode(out));
        assert!(!books.ids.is_empty());
    });
    check("a change more", sums, |books, _, batch| {
        let before = conversion(books.clicks[1], "T-1-1", vec![step(2, NOON_MS, 20, 15)]);
        let after = ConversionRecord { status: 4, ..before.clone() };
        let change = ChangeRecord {
            click: before.click,
            before: Some(Contribution::of(&before)),
            after: Contribution::of(&after),
        };
        let key = keys::change(books.ids[1], 1);
        batch.put(Table::Counters, &key, |out| change.encode(out));
    });
    check("a late click more", clicks, |books, _, batch| {
        let key = keys::late_click(books.clicks[1]);
        batch.put(Table::Counters, &key, |out| LateClickRecord::default().encode(out));
    });
}

/// A store with more values of `sub1` at a place than have sums of their own, a conversion each;
/// some clicks are erased, counted or not. Returns the place.
fn crowded(folder: &Path) -> Place {
    let store = open(folder);
    let minter = Minter::new(0, 1, 0);
    let (offer, affiliate) =
        (OfferNumber::new(1).expect("24 bits"), AffiliateNumber::new(1).expect("24 bits"));
    let click_with = |sub1: &str| {
        let click = minter.mint(NOON_MS, offer, affiliate);
        let ticket = Arc::new(Ticket::default());
        let mut record = ClickRecord::default();
        record.subs[0] = sub1;
        store.record_click(click, &record, ticket.clone()).expect("queued");
        let id = minter.mint(NOON_MS + 1, offer, affiliate);
        let txn_id = id.to_text().to_string();
        commit(&store, id, &conversion(click, &txn_id, vec![step(2, NOON_MS, 20, 15)]));
        click
    };
    let count = || store.catch_up(Instant::now() + PATIENCE).expect("counted");
    let erase = |clicks: &[RecordId]| {
        let (ticket, erased) =
            eventually("a turn", || match store.erase_clicks(clicks).expect("erased") {
                ClickErasure::Begun(ticket, erased) => Some((ticket.expect("a commit"), erased)),
                ClickErasure::Later(_) => None,
            });
        store.writer().flush();
        assert_eq!(wait(ticket.settled()), Outcome::Durable);
        assert_eq!((erased.clicks, erased.damaged.len()), (clicks.len() as u64, 0));
    };
    let mut clicks: Vec<_> =
        (0..SUBS_PER_PLACE_MAX + 30).map(|number| click_with(&format!("s{number:03}"))).collect();
    count();
    erase(&[clicks[3], clicks[SUBS_PER_PLACE_MAX as usize + 3]]);
    clicks.extend(["s000", "s120", "s003", "new", ""].map(click_with));
    erase(&clicks[SUBS_PER_PLACE_MAX as usize + 30..][..2]);
    file_all(&store);
    count();
    store.close();
    Place::of(clicks[0])
}

#[test]
fn values_of_sub1_that_are_counted_together_are_proved_together() {
    let check = |expected: Option<&str>, counts: fn(&mut Counts<'_>)| {
        let folder = tempfile::tempdir().expect("a folder");
        let key = keys::sub_counter(crowded(folder.path()), None);
        {
            let engine = RocksEngine::open(&database_folder(folder.path()), 8 << 20);
            let engine = engine.expect("opens");
            let stored = engine.value(Table::Counters, &key).expect("readable").expect("a row");
            let mut record = SubRecord::decode(&stored).expect("sound");
            assert_eq!(record.counts.clicks, 31, "30, two more, and one is erased");
            counts(&mut record.counts);
            let mut batch = Batch::default();
            batch.put(Table::Counters, &key, |out| record.encode(out));
            engine.append(&batch).and_then(|()| engine.sync()).expect("written");
        }
        assert_one_fault(folder.path(), " of sub1 ", expected);
    };
    check(None, |_| {});
    check(Some("clicks of all other values of sub1"), |counts| counts.clicks -= 1);
    check(Some("sums of all other values of sub1"), |counts| {
        counts.events[0].by_status[1].payout += 1;
    });
}

#[test]
fn what_caps_have_counted_is_what_the_conversions_come_to() {
    let fault = "what caps have counted is not";
    let row = |books: &Books| {
        let (offer, affiliate) = (books.ids[1].offer(), books.affiliate);
        // The first quarter of an hour of 32 days.
        let quarter = Quarter::of_ms(20_000 / 32 * 32 * DAY_MS);
        Place { quarter, offer, affiliate }
    };
    let stored = |books: &Books, engine: &RocksEngine| {
        let bytes = engine.value(Table::Counters, &keys::cap_sums(row(books))).expect("readable");
        let bytes: &'static [u8] = bytes.expect("there is a row").leak();
        let sums = CapsRecord::decode(bytes).expect("sound");
        assert_eq!((sums.sums[0].conversions, sums.sums[0].payout), (3, 45_000_000));
        sums
    };
    let change = |what: &str, change: fn(&mut CapsRecord<'static>)| {
        check(what, fault, |books, engine, batch| {
            let mut sums = stored(books, engine);
            change(&mut sums);
            batch.put(Table::Counters, &keys::cap_sums(row(books)), |out| sums.encode(out));
        });
    };
    change("a conversion more", |sums| sums.sums[0].conversions += 1);
    change("an amount", |sums| sums.sums[0].payout -= 1);
    change("another event", |sums| sums.sums[0].event = "lead".into());
    change("another currency", |sums| sums.sums[0].currency = *b"EUR");
    check("no row", fault, |books, _, batch| {
        delete(batch, Table::Counters, &keys::cap_sums(row(books)));
    });
    check("a row of nothing", fault, |books, engine, batch| {
        let quarter = row(books).after_caps().expect("not the last");
        let later = keys::cap_sums(Place { quarter, ..row(books) });
        batch.put(Table::Counters, &later, |out| stored(books, engine).encode(out));
    });
    check("a change more", fault, |books, _, batch| {
        let before = conversion(books.clicks[1], "T-1-1", vec![step(2, NOON_MS, 20, 15)]);
        let after = ConversionRecord { payout: 1, ..before.clone() };
        let change = ChangeRecord {
            click: before.click,
            before: Some(Contribution::of(&before)),
            after: Contribution::of(&after),
        };
        let key = keys::change(books.ids[1], 1);
        batch.put(Table::Counters, &key, |out| change.encode(out));
    });
    check("fewer than are left", fault, |books, engine, batch| {
        let mut sums = stored(books, engine);
        sums.sums[0].conversions = 1;
        batch.put(Table::Counters, &keys::cap_sums(row(books)), |out| sums.encode(out));
        // The first day's is let go.
        put(batch, Table::Meta, keys::META_EXPIRED, &keys::first_at(NOON_MS + DAY_MS / 2));
        delete(batch, Table::Conversions, books.ids[0].as_bytes());
    });
}

#[test]
fn what_a_store_has_noted_of_itself_can_be_read() {
    for (key, bytes) in
        [(keys::META_STARTS, 8), (keys::META_NUMBERS_FROM, 8), (keys::META_UNSEALED, 4)]
    {
        check("a byte more", &format!("the value has not {bytes} bytes"), |_, _, batch| {
            put(batch, Table::Meta, key, &vec![0; bytes + 1]);
        });
    }
    check("no number of starts", "is missing", |_, _, batch| {
        delete(batch, Table::Meta, keys::META_STARTS);
    });
    let erasure = keys::erasure(Subject::Click(RecordId::from_bytes([5; 16])));
    check("an erasure cut short", "record is corrupt", |_, _, batch| {
        put(batch, Table::Meta, &erasure, &[1]);
    });
    check("an erasure of nobody", "names nobody whose data are erased", |_, _, batch| {
        batch.put(Table::Meta, b"erase_nobody", |out| ErasureRecord::default().encode(out));
    });
    check("a time cut short", "the value has not 16 bytes", |_, _, batch| {
        put(batch, Table::Meta, keys::META_RETENTION_TIME, &[0; 8]);
    });
    check("days cut short", "the value is no list of days", |_, _, batch| {
        put(batch, Table::Meta, &keys::to_price(1), &[0; 6]);
    });
    check("no number", "the key names no commit of rates", |_, _, batch| {
        put(batch, Table::Meta, b"reprice_", &[0; 4]);
    });
}

#[test]
fn a_sealed_day_does_not_change() {
    for network_only in [[21, -15, -6], [20, -16, -4]] {
        check("a sealed posting", "are not those sealed", |books, _, batch| {
            put_posting(batch, &posting_key(books, 0), network_only);
        });
    }
    let changed = |what: &str, fault: &str, change: fn(&mut SealRecord)| {
        check(what, fault, |books, engine, batch| {
            let (key, mut seal) = seal_of(books, engine, 20_000);
            change(&mut seal);
            batch.put(Table::Ledger, &key, |out| seal.encode(out));
        });
    };
    changed("a root", "are not those sealed", |seal| seal.root[3] ^= 1);
    changed("a root, in the next seal", "does not follow", |seal| seal.root[3] ^= 1);
    changed("a number", "are not those sealed", |seal| seal.postings += 1);
    changed("a balance", "balances are not those", |seal| seal.balances[0].entries.payable -= 1);
    changed("the network's balance", "balances are not those", |seal| {
        seal.balances[0].entries.margin -= 1;
    });
    changed("the seal before", "does not follow", |seal| seal.previous[0] ^= 1);
    check("a seal less", "there is a later seal", |books, engine, batch| {
        delete(batch, Table::Ledger, &seal_of(books, engine, 20_000).0);
    });
    check("a day that was opened again", "seals a day that is still posted to", |_, _, batch| {
        put(batch, Table::Meta, keys::META_UNSEALED, &20_001_u32.to_be_bytes());
    });
    check("a seal more", "seals a day without postings", |books, engine, batch| {
        let (_, seal) = seal_of(books, engine, 20_001);
        let key = keys::seal(books.affiliate, Day::new(20_005));
        batch.put(Table::Ledger, &key, |out| seal.encode(out));
    });
}

#[test]
fn what_retention_has_let_go_is_no_fault_and_stays_in_the_books() {
    let books = books();
    let store = open(books.folder.path());
    let kept = postbackd::store::Retention {
        clicks: std::time::Duration::from_millis(DAY_MS),
        conversions: std::time::Duration::from_millis(DAY_MS + DAY_MS / 2),
        audit: std::time::Duration::from_millis(DAY_MS),
        inbound: std::time::Duration::from_millis(DAY_MS),
    };
    store.catch_up(Instant::now() + PATIENCE).expect("counted");
    let passed = std::time::Duration::from_millis(2 * DAY_MS);
    assert_eq!(wait(store.expire(NOON_MS + 2 * DAY_MS, passed, kept)), Ok(true));
    store.close();
    drop(store);
    let ended = verify(books.folder.path());
    assert_eq!((ended.code, &*ended.err), (Some(0), ""), "{}", ended.out);
    assert!(ended.out.contains("conversions 3"), "{}", ended.out);
    assert!(ended.out.contains("ledger_postings 5"), "{}", ended.out);
}

#[test]
fn a_store_of_an_earlier_format_gets_its_postings_at_its_first_start() {
    let books = books();
    {
        let db = database_folder(books.folder.path());
        let engine = RocksEngine::open(&db, 8 << 20).expect("opens");
        let mut batch = Batch::default();
        put(&mut batch, Table::Meta, keys::META_FORMAT, &2u32.to_be_bytes());
        batch.delete_range(Table::Ledger, b"", &keys::KEY_END);
        engine.append(&batch).and_then(|()| engine.sync()).expect("written");
    }
    let ended = verify(books.folder.path());
    assert_eq!(ended.code, Some(1));
    assert!(ended.err.contains("start the server once"), "{}", ended.err);
    let store = open(books.folder.path());
    assert_eq!(seal(&store, NOON_MS + 2 * DAY_MS), 3);
    store.close();
    drop(store);
    let ended = verify(books.folder.path());
    assert_eq!((ended.code, &*ended.err), (Some(0), ""), "{}", ended.out);
    assert!(ended.out.contains("ledger_postings 5, ledger_seals 3"), "{}", ended.out);
}

#[test]
fn a_running_server_verifies_itself_beside_its_work() {
    let server = Server::start();
    let click = server.click("offer=spring&aff=pub-7");
    for txn in 0..20 {
        let answer = server.postback(&format!("click_id={click}&event=sale&txn_id=T-{txn}"));
        assert_eq!(answer.verdict(), (200, "accepted", ""));
    }
    let verified = || {
        let begun = server.post_api("verify", "", "");
        assert_eq!(begun.json()["kind"], "verify");
        let done = server.ended(&begun);
        assert_eq!(done["status"], "succeeded", "{done}");
        assert_eq!(done["result"]["broken"], serde_json::json!([]), "{done}");
        done["result"]["checked"]["conversions"].as_u64().expect("a number")
    };
    assert_eq!(verified(), 20);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for txn in 20..220 {
                let query = format!("click_id={click}&event=sale&txn_id=T-{txn}");
                assert_eq!(server.postback(&query).verdict(), (200, "accepted", ""));
            }
        });
        for _ in 0..3 {
            assert!(verified() >= 20);
        }
    });
    assert_eq!(verified(), 220);
    assert!(!server.path("data/verify").exists(), "the copy was left behind");
    assert_eq!(server.admin("/api/v1/jobs/1-99").status, 404);

    let ended = server.command(&["verify"]);
    assert_eq!((ended.code, &*ended.err), (Some(0), ""), "{}", ended.out);
    assert!(ended.out.ends_with("sound\n"), "{}", ended.out);
}

#[test]
fn a_server_that_was_killed_is_sound_before_and_after_its_next_start() {
    let mut server = Server::start();
    let click = server.click("offer=spring&aff=pub-7");
    for txn in 0..20 {
        let answer = server.postback(&format!("click_id={click}&event=sale&txn_id=T-{txn}"));
        assert_eq!(answer.verdict(), (200, "accepted", ""));
    }
    let look = |server: &Server| run(&server.path("."), &["verify", "--store", "data"]);
    let running = look(&server);
    assert_eq!((running.code, &*running.out), (Some(1), ""), "its files change meanwhile");
    assert!(running.err.contains("a server has this store open"), "{}", running.err);
    assert!(running.err.contains("--admin"), "{}", running.err);
    let again = server.postback(&format!("click_id={click}&event=sale&txn_id=T-0"));
    assert_eq!(again.verdict(), (200, "duplicate", ""), "the server goes on");
    server.kill();
    let ended = look(&server);
    assert_eq!(ended.code, Some(0), "{}{}", ended.out, ended.err);
    assert!(ended.out.contains("unfiled: 20"), "{}", ended.out);
    server.start_again();
    server.stop();
    let ended = look(&server);
    assert_eq!(ended.code, Some(0), "{}{}", ended.out, ended.err);
    assert!(ended.out.contains("unfiled: 0"), "{}", ended.out);
}

#[test]
fn a_store_that_is_not_there_or_not_named_is_a_failure_or_a_mistake() {
    let folder = tempfile::tempdir().expect("a folder");
    assert_eq!(run(folder.path(), &["verify", "--store", "nowhere"]).code, Some(1));
    assert_eq!(run(folder.path(), &["verify"]).code, Some(2));
    assert!(!folder.path().join("nowhere").exists(), "nothing is created");
}

#[test]
fn a_store_that_cannot_be_looked_into_is_not_said_to_be_absent() {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("file"), "").expect("written");
    for (store, said) in
        [("file", "cannot look into file/db: "), ("nowhere", "there is no database")]
    {
        let ended = run(folder.path(), &["verify", "--store", store]);
        assert_eq!((ended.code, &*ended.out), (Some(1), ""));
        assert!(ended.err.contains(said), "{}", ended.err);
    }
}
