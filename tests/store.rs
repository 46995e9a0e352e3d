//! The store on a real RocksDB: options, durability, restart, numbers, retention, listings.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use postbackd::click_id::{Minter, RecordId};
use postbackd::dedup::{Claim, ClaimSet};
use postbackd::limits::{
    CATALOG_TEXTS_BYTES_MAX, CATALOG_VERSIONS_KEPT, COUNTED_ROWS_MAX, LOG_FILE_BYTES,
    RESTORE_NUMBERS_SKIPPED, SUBS_PER_PLACE_MAX,
};
use postbackd::model::ids::{AffiliateNumber, OfferNumber};
use postbackd::model::period::{Day, Quarter};
use postbackd::model::reasons::{PostbackResult, Refusal};
use postbackd::model::status::Status;
use postbackd::store::engine::{
    Batch, Direction, Engine, EngineError, KeyRange, Lookup, Tier, Visit,
};
use postbackd::store::keys::Place;
use postbackd::store::records::{
    AuditRecord, CatalogRecord, ChangeRecord, ClickRecord, Contribution, ConversionRecord, Earned,
    HistoryEntry, InboundHead, InboundRow, RatesRecord, RecordError,
};
use postbackd::store::schema::{Profile, Table};
use postbackd::store::ticket::{Outcome, Ticket};
use postbackd::store::{
    Arrival, AtOnce, AuditEntry, ClickErasure, ConversionChange, FORMAT_VERSION, Identity,
    OpenError, Part, Retention, RocksEngine, Store, StoredInbound, Touched, Turn, Unobserved,
    Wanted, copy_closed, keys, part_from_lost_time,
};
use tempfile::TempDir;

const CACHE_BYTES: usize = 8 << 20;
const DAY_MS: u64 = 24 * 60 * 60 * 1000;
const NOW_MS: u64 = 1_767_225_600_000;

fn folder() -> TempDir {
    tempfile::tempdir().expect("a temporary folder")
}

fn open(path: &Path) -> (Store, Identity) {
    Store::open(path, CACHE_BYTES, 1, [7; 32], Arc::new(Unobserved)).expect("the store opens")
}

fn wait<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    runtime.block_on(future)
}

fn minter(identity: &Identity) -> Minter {
    Minter::new(0, identity.starts, identity.newest_ms)
}

fn mint(minter: &Minter, now_ms: u64) -> RecordId {
    let (offer, affiliate) = (OfferNumber::new(1), AffiliateNumber::new(1));
    minter.mint(now_ms, offer.expect("small"), affiliate.expect("small"))
}

fn conversion(click: RecordId, txn_id: &str) -> ConversionRecord<'_> {
    ConversionRecord {
        click: *click.as_bytes(),
        advertiser: "acme",
        offer: "spring",
        affiliate: "pub-7",
        event: "sale",
        txn_id,
        status: 2,
        currency: *b"USD",
        claims: ClaimSet::new(transaction(txn_id), None).bits(false),
        ..ConversionRecord::default()
    }
}

fn transaction(txn_id: &str) -> Claim<'_> {
    Claim::Transaction { advertiser: "acme", event: "sale", txn_id }
}

fn commit_click(store: &Store, click: RecordId) {
    let ticket = Arc::new(Ticket::default());
    store.record_click(click, &ClickRecord::default(), ticket.clone()).expect("queued");
    store.writer().flush();
    assert_eq!(wait(ticket.settled()), Outcome::Durable);
}

fn commit_conversion(store: &Store, click: RecordId, id: RecordId, txn_id: &str) {
    let ticket = Arc::new(Ticket::default());
    store.commit_conversion(id, &conversion(click, txn_id), ticket.clone()).expect("queued");
    store.writer().flush();
    assert_eq!(wait(ticket.settled()), Outcome::Durable);
}

/// Waits until nothing is unfiled. The thread does it: turns are one thread's alone.
fn file_all(store: &Store) {
    let _ = store.file_soon();
    let deadline = std::time::Instant::now() + Duration::from_secs(10);
    while store.progress().unfiled() > 0 {
        assert!(std::time::Instant::now() < deadline, "filing is stuck");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// What the disk holds at this moment, as a kill would leave it.
fn crash_image(path: &Path) -> TempDir {
    let image = folder();
    for entry in fs::read_dir(path).expect("the store's folder") {
        let entry = entry.expect("an entry");
        fs::copy(entry.path(), image.path().join(entry.file_name())).expect("a copy");
    }
    image
}

/// The newest OPTIONS file: sections by their titles, each key with its value.
fn options(path: &Path) -> HashMap<String, HashMap<String, String>> {
    let names =
        fs::read_dir(path).expect("the store's folder").map(|entry| entry.expect("an entry"));
    let newest = names
        .filter(|entry| entry.file_name().to_string_lossy().starts_with("OPTIONS-"))
        .max_by_key(|entry| entry.file_name())
        .expect("RocksDB writes its options");
    let text = fs::read_to_string(newest.path()).expect("a text");
    let mut sections: HashMap<String, HashMap<String, String>> = HashMap::new();
    let mut section = String::new();
    for line in text.lines().map(str::trim) {
        if let Some(title) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            section = title.to_owned();
        } else if let Some((key, value)) = line.split_once('=') {
            sections.entry(section.clone()).or_default().insert(key.to_owned(), value.to_owned());
        }
    }
    sections
}

#[test]
fn every_column_family_has_the_options_of_its_profile() {
    let folder = folder();
    let (store, _) = open(folder.path());
    let options = options(folder.path());
    let check = |section: &str, key: &str, expected: &str| {
        let value = options.get(section).and_then(|section| section.get(key));
        assert_eq!(value.map(String::as_str), Some(expected), "[{section}] {key}");
    };
    check("DBOptions", "manual_wal_flush", "true");
    check("DBOptions", "recycle_log_file_num", "6");
    // What RocksDB says of its own work is bounded.
    check("DBOptions", "keep_log_file_num", "3");
    check("DBOptions", "max_log_file_size", "16777216");
    check("DBOptions", "wal_recovery_mode", "kPointInTimeRecovery");
    for table in Table::ALL {
        let family = format!("CFOptions \"{}\"", table.name());
        let blocks = format!("TableOptions/BlockBasedTable \"{}\"", table.name());
        let (block_bytes, write_buffer_bytes) = match table.profile() {
            Profile::TimeOrdered | Profile::Ranges => ("16384", "134217728"),
            Profile::Scattered | Profile::Small => ("4096", "4194304"),
        };
        let filter = match table.profile() {
            Profile::Ranges => "nullptr",
            Profile::TimeOrdered | Profile::Scattered | Profile::Small => "bloomfilter",
        };
        // Files of time-ordered rows are written as they will stay, and never rewritten.
        let compression = match table.profile() {
            Profile::TimeOrdered => "kZSTD",
            Profile::Scattered | Profile::Ranges | Profile::Small => "kLZ4Compression",
        };
        check(&family, "compression", compression);
        check(&family, "bottommost_compression", "kZSTD");
        check(&family, "write_buffer_size", write_buffer_bytes);
        check(&blocks, "block_size", block_bytes);
        check(&blocks, "format_version", "6");
        check(&blocks, "cache_index_and_filter_blocks", "true");
        // What goes by the age of a conversion goes when its file is compacted.
        let goes_with_conversions = [Table::Dedupe, Table::ByClick, Table::Customers];
        if goes_with_conversions.contains(&table) {
            check(&family, "periodic_compaction_seconds", "2592000");
            check(&family, "compaction_filter", "expiry");
        }
        // RocksDB writes the filter's kind, not its bits.
        check(&blocks, "filter_policy", filter);
    }
    drop(store);
}

fn memtable_bytes(engine: &RocksEngine) -> u64 {
    let mut all = 0;
    engine.gauges(&mut |name, _, bytes| all += if name == "memtable_bytes" { bytes } else { 0 });
    all
}

/// A file that is written over grows only by what exceeds what was in it before.
#[test]
fn logs_are_of_one_size_whatever_table_is_written_to() {
    let folder = folder();
    let engine = RocksEngine::open(folder.path(), CACHE_BYTES).expect("opens");
    let row = vec![7; 128 << 10];
    let batch_bytes = 9 * row.len() as u64;
    for number in 0..5 * LOG_FILE_BYTES / batch_bytes {
        let mut batch = Batch::default();
        // As busy traffic does, at different paces.
        for (table, rows) in [(Table::Conversions, 6), (Table::Inbound, 3)] {
            for of_batch in 0..rows {
                let key = [&number.to_be_bytes()[..], &[of_batch]].concat();
                batch.put(table, &key, |out| out.extend_from_slice(&row));
            }
        }
        if number == 0 {
            batch.put(Table::Meta, b"once", |out| out.push(1));
        }
        engine.append(&batch).and_then(|()| engine.sync()).expect("written");
        // Where logs fill faster than tables are written out, they are longer.
        while memtable_bytes(&engine) > LOG_FILE_BYTES / 2 * 3 {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
    let entries = fs::read_dir(folder.path()).expect("a folder").map(|entry| entry.expect("one"));
    let logs = entries.filter(|entry| entry.path().extension().is_some_and(|it| it == "log"));
    let sizes: Vec<_> = logs.map(|log| log.metadata().expect("there").len()).collect();
    assert!(sizes.len() < 5, "{sizes:?}");
    let most = LOG_FILE_BYTES + 2 * batch_bytes;
    assert!(sizes.iter().all(|size| *size <= most), "{sizes:?}");
    let full = sizes.iter().filter(|size| **size >= LOG_FILE_BYTES).count();
    assert!(full + 1 >= sizes.len(), "{sizes:?}");
}

#[test]
fn a_commit_that_nobody_flushes_gets_to_the_disk_all_the_same() {
    let folder = folder();
    let (store, identity) = open(folder.path());
    let ticket = Arc::new(Ticket::default());
    let click = mint(&minter(&identity), NOW_MS);
    store.record_click(click, &ClickRecord::default(), ticket.clone()).expect("queued");
    assert_eq!(wait(ticket.settled()), Outcome::Durable);
}

#[test]
fn a_click_that_could_not_be_recorded_is_looked_for_from_then_on() {
    let folder = folder();
    let (store, identity) = open(folder.path());
    let minter = minter(&identity);
    let (kept, lost, later) =
        (mint(&minter, NOW_MS), mint(&minter, NOW_MS + 1), mint(&minter, NOW_MS + 2));
    assert!(store.may_lack(kept), "nobody has said that everything is recorded");
    store.minting_from(NOW_MS);
    commit_click(&store, kept);
    assert!(!store.may_lack(kept));
    store.health().set_disk_full(true);
    let refused = store.record_click(lost, &ClickRecord::default(), Arc::new(Ticket::default()));
    assert!(refused.is_err());
    store.health().set_disk_full(false);
    assert!(store.may_lack(lost));
    assert!(!store.may_lack(later), "what comes after it is recorded again");
}

#[test]
fn what_is_acknowledged_survives_a_kill() {
    let folder = folder();
    let (store, identity) = open(folder.path());
    let minter = minter(&identity);
    let click = mint(&minter, NOW_MS);
    let id = mint(&minter, NOW_MS + 1);
    commit_click(&store, click);
    commit_conversion(&store, click, id, "T-1");

    let image = crash_image(folder.path());
    let (restarted, _) = open(image.path());
    assert_eq!(wait(restarted.find_claim(&transaction("T-1"))).expect("readable"), Some(id));
    assert_eq!(wait(restarted.find_claim(&transaction("T-2"))).expect("readable"), None);
    assert!(wait(restarted.has_click(click)).expect("readable"));
    assert!(!wait(restarted.has_click(id)).expect("readable"));
    let stored = wait(restarted.conversion(id)).expect("readable").expect("there");
    assert_eq!(stored.record(), Ok(conversion(click, "T-1")));
    let of_click = wait(restarted.conversions_of(click)).expect("readable").rows;
    assert_eq!(of_click.iter().map(|stored| stored.id).collect::<Vec<_>>(), [id]);
}

#[test]
fn each_start_is_counted_and_ids_continue_after_the_newest() {
    let folder = folder();
    let mut newest = None;
    for start in 1..=3 {
        let (store, identity) = open(folder.path());
        assert_eq!((identity.starts, identity.click_key), (start, [7; 32]));
        let minter = minter(&identity);
        // The clock is set back with every start.
        let click = mint(&minter, NOW_MS - start * DAY_MS);
        assert!(Some(click) > newest, "minted below a stored record");
        commit_click(&store, click);
        let id = mint(&minter, NOW_MS - start * DAY_MS);
        assert!(id > click);
        commit_conversion(&store, click, id, &format!("T-{start}"));
        newest = Some(id);
    }
}

#[test]
fn the_click_key_of_the_first_start_is_kept() {
    let folder = folder();
    drop(open(folder.path()));
    let (_, identity) =
        Store::open(folder.path(), CACHE_BYTES, 1, [9; 32], Arc::new(Unobserved)).expect("opens");
    assert_eq!(identity.click_key, [7; 32]);
}

#[test]
fn a_restored_store_gives_nothing_away_that_the_lost_time_may_have_given() {
    let folder = folder();
    let assign = |store: &Store, offers: &[&str], affiliates: &[&str]| {
        let numbers = store.assign_numbers(offers.iter().copied(), affiliates.iter().copied());
        wait(numbers).expect("numbers")
    };
    let (store, _) = open(folder.path());
    assign(&store, &["spring"], &["pub-7"]);
    drop(store);
    let copy = self::folder();
    let copied = copy.path().join("db");
    copy_closed(folder.path(), &copied).expect("copied");

    // The lost time: 31 starts, all in the same moment, and new offers in another order.
    let mut given = std::collections::BTreeSet::new();
    let mut lost = None;
    for _ in 0..31 {
        let (store, identity) = open(folder.path());
        lost = Some(assign(&store, &["summer", "autumn"], &["pub-8"]));
        let minter = minter(&identity);
        given.extend((0..10).map(|_| *mint(&minter, NOW_MS).as_bytes()));
    }
    let lost = lost.expect("31 starts");

    part_from_lost_time(&copied, &entry(NOW_MS)).expect("written");
    let (restored, identity) = open(&copied);
    let minter = minter(&identity);
    for _ in 0..10 {
        let id = mint(&minter, NOW_MS);
        assert!(given.insert(*id.as_bytes()), "the ID is another's");
    }
    let numbers = assign(&restored, &["autumn", "spring"], &["pub-9", "pub-7"]);
    let known = |numbers: &postbackd::store::Numbers, id| numbers.offer(id).expect("a number");
    assert_eq!(known(&numbers, "spring").get(), 1, "what was copied keeps its number");
    let autumn = known(&numbers, "autumn").get();
    assert!(autumn >= 2 + RESTORE_NUMBERS_SKIPPED);
    assert!(known(&lost, "autumn").get() < 100);
    assert_eq!(numbers.affiliate("pub-9").expect("a number").get(), autumn);
    assert_eq!(numbers.affiliate("pub-7").expect("a number").get(), 1);
    drop(restored);
    // Once more: nothing is taken back.
    part_from_lost_time(&copied, &entry(NOW_MS)).expect("written");
    let numbers = assign(&open(&copied).0, &["winter"], &[]);
    assert!(known(&numbers, "winter").get() > autumn + RESTORE_NUMBERS_SKIPPED);
}

#[test]
fn stores_restored_from_one_copy_give_different_numbers() {
    let folder = folder();
    drop(open(folder.path()));
    let mut given = std::collections::BTreeSet::new();
    // A second apart, and a millisecond.
    for (store, later_ms) in [0, 1, 2, 1_000, 60_000, DAY_MS].into_iter().enumerate() {
        let copy = self::folder();
        let copied = copy.path().join("db");
        copy_closed(folder.path(), &copied).expect("copied");
        part_from_lost_time(&copied, &entry(NOW_MS + later_ms)).expect("written");
        let offers: Vec<_> = (0..100).map(|offer| format!("{store}-{offer}")).collect();
        let store = open(&copied).0;
        let ids = offers.iter().map(String::as_str);
        let numbers = wait(store.assign_numbers(ids.clone(), ids)).expect("numbers");
        for id in &offers {
            let (offer, affiliate) = (numbers.offer(id), numbers.affiliate(id));
            let number = offer.expect("a number").get();
            assert_eq!(affiliate.expect("a number").get(), number);
            assert!(given.insert(number), "{number} is another's");
        }
    }
}

#[test]
fn numbers_are_given_once_and_never_to_another() {
    let folder = folder();
    let assign = |store: &Store, offers: &[&str], affiliates: &[&str]| {
        let numbers = store.assign_numbers(offers.iter().copied(), affiliates.iter().copied());
        wait(numbers).expect("numbers")
    };
    let (store, _) = open(folder.path());
    let first = assign(&store, &["spring", "autumn"], &["pub-7"]);
    let (spring, autumn) = (first.offer("spring"), first.offer("autumn"));
    assert!(spring.is_some() && autumn.is_some() && spring != autumn);
    drop(store);

    let (store, _) = open(folder.path());
    let without = assign(&store, &["winter"], &["pub-8"]);
    assert_eq!(without.offer("spring"), spring, "an offer that left keeps its number");
    assert!(![spring, autumn].contains(&without.offer("winter")));
    assert_ne!(without.affiliate("pub-8"), first.affiliate("pub-7"));
    let back = assign(&store, &["autumn", "spring", "winter"], &["pub-7"]);
    assert_eq!((back.offer("spring"), back.offer("autumn")), (spring, autumn));
    assert_eq!(back.offer("winter"), without.offer("winter"));
    assert_eq!(back.offer("summer"), None);
}

fn catalog(version: u64) -> CatalogRecord {
    CatalogRecord {
        version,
        applied_ms: NOW_MS + version,
        source: 2,
        format: 1,
        text_bytes: 0,
        advertisers: 1,
        offers: 2,
        affiliates: 3,
        links: 4,
    }
}

/// The versions that are remembered, the newest first, and whether their texts are kept.
fn versions(store: &Store) -> Vec<(u64, bool)> {
    let kept = wait(store.catalog_versions()).expect("readable");
    kept.iter().map(|kept| (kept.record.version, kept.has_text)).collect()
}

#[test]
fn catalogs_are_kept_whole() {
    let folder = folder();
    let (store, _) = open(folder.path());
    assert_eq!(wait(store.catalog()).expect("readable"), None);
    let text = |version: u64| format!("{version}é").repeat(200_000 * (version as usize % 3));
    for version in 0..12 {
        wait(store.keep_catalog(&text(version), catalog(version), &entry(version))).expect("kept");
        let (record, kept) = wait(store.catalog()).expect("readable").expect("there");
        assert_eq!(record.version, version);
        assert!(kept == text(version), "version {version} came back changed");
    }
    let image = crash_image(folder.path());
    for store in [store, open(image.path()).0] {
        assert_eq!(versions(&store), (0..12).rev().map(|n| (n, true)).collect::<Vec<_>>());
        assert!(wait(store.catalog()).expect("readable").expect("there").1 == text(11));
        for version in 0..12 {
            let (record, kept) = wait(store.catalog_of(version)).expect("readable").expect("there");
            assert_eq!((record.version, record.text_bytes), (version, kept.len() as u64));
            assert!(kept == text(version), "version {version} came back changed");
        }
        assert_eq!(wait(store.catalog_of(12)).expect("readable"), None);
    }
}

#[test]
fn the_oldest_catalogs_go_when_there_are_too_many_or_their_texts_are_too_long() {
    let folder = folder();
    let (store, _) = open(folder.path());
    let keep = |version: u64, text: &str| {
        wait(store.keep_catalog(text, catalog(version), &entry(version))).expect("kept");
    };
    let has_text = |version| wait(store.catalog_of(version)).expect("readable").is_some();
    let most = CATALOG_VERSIONS_KEPT as u64;
    for version in 0..most + 2 {
        keep(version, "short");
    }
    let kept: Vec<_> = (2..most + 2).rev().map(|version| (version, true)).collect();
    assert_eq!(versions(&store), kept);
    assert!(!has_text(1) && has_text(2));
    // Half of the room, and a little more than that.
    let half = "half".repeat(CATALOG_TEXTS_BYTES_MAX as usize / 8);
    keep(most + 2, &half);
    assert!(!has_text(2) && has_text(3), "half of the room is left for the others");
    keep(most + 3, &(half + "x"));
    assert!(!has_text(most + 1) && !has_text(most + 2) && has_text(most + 3));
    let texts = versions(&store).iter().filter(|(_, has_text)| *has_text).count();
    assert_eq!((versions(&store).len() as u64, texts), (most, 1), "all are still known");
    keep(most + 4, "short");
    assert!(has_text(most + 3) && has_text(most + 4));
    // One that came into force again is found by its newer text.
    keep(most + 1, "again");
    assert_eq!(wait(store.catalog_of(most + 1)).expect("readable").expect("there").1, "again");
}

#[test]
fn a_catalog_that_was_cut_short_leaves_the_one_before() {
    let folder = folder();
    let (store, _) = open(folder.path());
    wait(store.keep_catalog("the first", catalog(1), &entry(1))).expect("kept");
    drop(store);
    // What a crash amid a long text leaves: pieces, and no record.
    let engine = RocksEngine::open(folder.path(), CACHE_BYTES).expect("opens");
    let mut batch = Batch::default();
    for number in 0..3 {
        let key = keys::catalog_chunk(1, number);
        batch.put(Table::Catalog, &key, |out| out.extend_from_slice(b"lost"));
    }
    engine.append(&batch).and_then(|()| engine.sync()).expect("written");
    drop(engine);
    let (store, _) = open(folder.path());
    let kept = |store: &Store| wait(store.catalog()).expect("readable").expect("there").1;
    assert_eq!(kept(&store), "the first");
    wait(store.keep_catalog("the second", catalog(2), &entry(2))).expect("kept");
    assert_eq!(kept(&store), "the second");
    drop(store);
    let engine = RocksEngine::open(folder.path(), CACHE_BYTES).expect("opens");
    let mut pieces = 0;
    let (from, to) = (keys::catalog_chunk(0, 0), keys::catalog_chunk(u64::MAX, 0));
    let count = engine.scan(Table::Catalog, &from, &to, Direction::Ascending, &mut |_, _| {
        pieces += 1;
        std::ops::ControlFlow::Continue(())
    });
    count.expect("readable");
    assert_eq!(pieces, 2, "nothing is left of what was cut short");
}

/// Adds what is there to the sums.
fn count(store: &Store) {
    store.catch_up(Instant::now() + Duration::from_secs(30)).expect("counted");
}

/// All clicks, all conversions, and clicks by `sub1`.
fn sums(store: &Store) -> (i64, i64, BTreeMap<Option<String>, i64>) {
    let (mut clicks, mut conversions, mut subs) = (0, 0, BTreeMap::new());
    let wanted = Wanted { quarters: Quarter::default()..Quarter::new(u32::MAX), subs: true };
    let held = store.sums_by(Instant::now() + Duration::from_secs(30)).expect("settled");
    let seen = held.each(&wanted, &mut |_, part, counts| {
        match part {
            Part::Whole => {
                let tallies = counts.events.iter().flat_map(|event| event.by_status);
                clicks += counts.clicks;
                conversions += tallies.map(|tally| tally.conversions).sum::<i64>();
            }
            Part::Sub(sub) => {
                *subs.entry(sub.map(str::to_owned)).or_default() += counts.clicks;
            }
        }
        std::ops::ControlFlow::Continue(())
    });
    seen.expect("readable");
    (clicks, conversions, subs)
}

#[test]
fn visitors_cannot_make_more_sums_than_there_is_room_for() {
    let folder = folder();
    let (store, identity) = open(folder.path());
    let minter = minter(&identity);
    let click = |sub1: &str| {
        let mut record = ClickRecord::default();
        record.subs[0] = sub1;
        let ticket = Arc::new(Ticket::default());
        store.record_click(mint(&minter, NOW_MS), &record, ticket.clone()).expect("queued");
        store.writer().flush();
        assert_eq!(wait(ticket.settled()), Outcome::Durable);
    };
    let check = |clicks: i64, first: i64, others: i64| {
        let (all, _, subs) = sums(&store);
        let sum: i64 = subs.values().sum();
        assert_eq!((all, sum, subs.len()), (clicks, clicks, SUBS_PER_PLACE_MAX as usize + 1));
        let of = |sub: Option<&str>| subs[&sub.map(str::to_owned)];
        assert_eq!((of(Some("s000")), of(None)), (first, others));
    };
    (0..SUBS_PER_PLACE_MAX + 30).for_each(|number| click(&format!("s{number:03}")));
    check(130, 1, 30);
    count(&store);
    check(130, 1, 30);
    ["s000", "s129", "new", ""].iter().copied().for_each(click);
    let (all, _, subs) = sums(&store);
    assert_eq!((all, subs.values().sum::<i64>()), (134, 133), "one has no sub1");
    count(&store);
    let (_, _, counted) = sums(&store);
    assert_eq!(counted, subs);
    assert_eq!((counted[&Some("s000".to_owned())], counted[&None]), (2, 32));
}

/// An engine on which a batch gets through at an awkward moment: it is kept back until somebody who
/// has read a conversion looks at the changes.
struct Awkward {
    engine: RocksEngine,
    keeps_back: AtomicBool,
    kept_back: Mutex<Option<Batch>>,
    has_read: AtomicBool,
}

impl Engine for Awkward {
    fn append(&self, batch: &Batch) -> Result<(), EngineError> {
        if !self.keeps_back.swap(false, Ordering::Relaxed) {
            return self.engine.append(batch);
        }
        let mut own = Batch::default();
        own.append(batch);
        *self.kept_back.lock().expect("whole") = Some(own);
        Ok(())
    }

    fn sync(&self) -> Result<(), EngineError> {
        self.engine.sync()
    }

    fn file<'r>(
        &self,
        table: Table,
        rows: &mut dyn Iterator<Item = (&'r [u8], &'r [u8])>,
    ) -> Result<(), EngineError> {
        self.engine.file(table, rows)
    }

    fn get(
        &self,
        table: Table,
        key: &[u8],
        tier: Tier,
        read: &mut dyn FnMut(&[u8]),
    ) -> Result<Lookup<()>, EngineError> {
        self.has_read.fetch_or(table == Table::Conversions, Ordering::Relaxed);
        self.engine.get(table, key, tier, read)
    }

    fn scan(
        &self,
        table: Table,
        from: &[u8],
        to: &[u8],
        direction: Direction,
        visit: Visit<'_>,
    ) -> Result<(), EngineError> {
        if table == Table::Counters && self.has_read.load(Ordering::Relaxed) {
            let kept_back = self.kept_back.lock().expect("whole").take();
            kept_back.map_or(Ok(()), |batch| self.engine.append(&batch))?;
        }
        self.engine.scan(table, from, to, direction, visit)
    }

    fn copy_to(&self, folder: &Path) -> Result<(), EngineError> {
        self.engine.copy_to(folder)
    }

    fn expire_rows(&self, before_ms: u64) {
        self.engine.expire_rows(before_ms);
    }

    fn purge(&self, ranges: &[KeyRange]) -> Result<(), EngineError> {
        self.engine.purge(ranges)
    }

    fn gauges(&self, visit: &mut dyn FnMut(&'static str, Option<Table>, u64)) {
        self.engine.gauges(visit);
    }
}

#[test]
fn a_sum_of_refusals_is_handed_over_when_the_last_one_is_settled() {
    let folder = folder();
    let engine = Arc::new(RocksEngine::open(folder.path(), CACHE_BYTES).expect("opens"));
    // Nobody appends or syncs but this test.
    let (store, _) = Store::on(engine, 0, [7; 32], Arc::new(Unobserved)).expect("opens");
    let refuse = || {
        store.refusals().count(Refusal::ForgedClickId, None);
        store.keep_refusals(NOW_MS).expect("the store takes writes");
    };
    let append = || store.writer().append_once(&mut Default::default());
    refuse();
    append();
    // Either thread could append this one first.
    refuse();
    assert_eq!(store.writer().queued(), (0, 1));
    store.writer().sync_once(&mut Default::default());
    wait(store.refusals_kept());
    store.keep_refusals(NOW_MS).expect("the store takes writes");
    assert_eq!(store.writer().queued(), (1, 0), "and then it goes");
    append();
    store.writer().sync_once(&mut Default::default());
    wait(store.refusals_kept());
    store.keep_refusals(NOW_MS).expect("the store takes writes");
    assert_eq!(store.writer().queued(), (0, 0), "both are in the sum");
}

#[test]
fn a_click_that_is_erased_while_its_conversion_changes_leaves_no_sums_behind() {
    let folder = folder();
    let engine = Arc::new(Awkward {
        engine: RocksEngine::open(folder.path(), CACHE_BYTES).expect("opens"),
        keeps_back: AtomicBool::new(false),
        kept_back: Mutex::new(None),
        has_read: AtomicBool::new(false),
    });
    // Nobody appends, syncs or counts but this test.
    let (store, identity) =
        Store::on(engine.clone(), 0, [7; 32], Arc::new(Unobserved)).expect("opens");
    let round = || {
        store.writer().append_once(&mut Default::default());
        store.writer().sync_once(&mut Default::default());
    };
    let count = || {
        while store.count_once(true, AtOnce::default()).expect("readable") != Turn::Nothing {
            round();
        }
    };
    let minter = minter(&identity);
    let (click, id) = (mint(&minter, NOW_MS), mint(&minter, NOW_MS));
    let mut record = ClickRecord::default();
    record.subs[0] = "a";
    store.record_click(click, &record, Arc::<Ticket>::default()).expect("queued");
    let step = |status| HistoryEntry::new(status, NOW_MS, None, Earned::default(), "test");
    let mut before = ConversionRecord { payout: 1, ..conversion(click, "T") };
    before.history.push(step(Status::Approved));
    store.commit_conversion(id, &before, Arc::<Ticket>::default()).expect("queued");
    round();
    count();
    assert_eq!(sums(&store), (1, 1, BTreeMap::from([(Some("a".to_owned()), 1)])));
    let mut after = ConversionRecord { status: Status::Reversed.code(), ..before.clone() };
    after.history.push(step(Status::Reversed));
    let change = ConversionChange { conversion: id, before: &before, after: &after };
    store.change_conversion(change, None, Arc::<Ticket>::default()).expect("queued");
    engine.keeps_back.store(true, Ordering::Relaxed);
    round();
    engine.has_read.store(false, Ordering::Relaxed);
    let erasure = store.erase_clicks(&[click]).expect("erased");
    assert!(matches!(erasure, ClickErasure::Begun(Some(_), _)));
    assert!(engine.kept_back.lock().expect("whole").is_none(), "it came in between");
    round();
    count();
    assert_eq!(sums(&store), (1, 1, BTreeMap::new()), "nothing by sub1 is left");
}

#[test]
fn a_store_that_was_never_counted_is_counted_from_its_beginning() {
    let folder = folder();
    {
        let (store, identity) = open(folder.path());
        let minter = minter(&identity);
        let click = mint(&minter, NOW_MS);
        commit_click(&store, click);
        commit_conversion(&store, click, mint(&minter, NOW_MS), "T-1");
        count(&store);
        commit_conversion(&store, click, mint(&minter, NOW_MS + 1), "T-2");
    }
    let engine = RocksEngine::open(folder.path(), CACHE_BYTES).expect("opens");
    let mut batch = Batch::default();
    batch.delete_range(Table::Counters, b"", &keys::KEY_END);
    engine.append(&batch).and_then(|()| engine.sync()).expect("written");
    drop(engine);
    let (store, _) = open(folder.path());
    assert_eq!(sums(&store), (1, 2, BTreeMap::new()));
    count(&store);
    assert_eq!(sums(&store), (1, 2, BTreeMap::new()));
}

#[test]
fn a_commit_of_the_counting_thread_changes_few_rows_however_many_conversions_have_changed() {
    const CHANGED: usize = 10_000;
    const QUARTER_MS: u64 = 15 * 60 * 1000;
    let folder = folder();
    let engine = Arc::new(RocksEngine::open(folder.path(), CACHE_BYTES).expect("opens"));
    // Nobody appends, syncs or counts but this test.
    let (store, identity) =
        Store::on(engine.clone(), 0, [7; 32], Arc::new(Unobserved)).expect("opens");
    let minter = minter(&identity);
    let after = Contribution { event: "sale".into(), standing: 2, ..Contribution::default() };
    let mut batch = Batch::default();
    for n in 0..CHANGED as u64 {
        let id = mint(&minter, NOW_MS + n * QUARTER_MS);
        let change = ChangeRecord { before: None, after: after.clone(), click: [0; 16] };
        batch.put(Table::Counters, &keys::change(id, 0), |out| change.encode(out));
    }
    let last = mint(&minter, NOW_MS + CHANGED as u64 * QUARTER_MS);
    store
        .commit_conversion(last, &conversion(last, "T"), Arc::<Ticket>::default())
        .expect("queued");
    let places = || {
        let (mut places, all) = (0, [Quarter::default(), Quarter::new(u32::MAX)]);
        let [from, to] = all.map(keys::counters_from);
        let scanned =
            engine.scan(Table::Counters, &from, &to, Direction::Ascending, &mut |_, _| {
                places += 1;
                std::ops::ControlFlow::Continue(())
            });
        scanned.expect("readable");
        places
    };
    let count = || {
        let (mut turn, mut before) = (Turn::UnderWay, places());
        while turn != Turn::Nothing {
            store.writer().append_once(&mut Default::default());
            store.writer().sync_once(&mut Default::default());
            turn = store.count_once(true, AtOnce::default()).expect("readable");
            let now = places();
            assert!(now - before <= COUNTED_ROWS_MAX, "{before}, then {now}");
            before = now;
        }
        before
    };
    assert_eq!(count(), 1);
    engine.append(&batch).expect("written");
    assert_eq!(count(), 1 + CHANGED);
    assert_eq!(sums(&store).1, 1 + CHANGED as i64);
}

/// What caps have counted of all conversions: how many, and what they pay.
fn in_caps(store: &Store) -> (i64, i128) {
    let sums = wait(store.cap_sums([OfferNumber::new(1).expect("small")].into())).expect("read");
    let all = || sums.of.values().flat_map(|record| &record.sums);
    (all().map(|sum| sum.conversions).sum(), all().map(|sum| sum.payout).sum())
}

#[test]
fn a_store_that_was_counted_without_sums_for_caps_gets_them_when_it_is_opened() {
    let folder = folder();
    let (store, identity) = open(folder.path());
    let minter = minter(&identity);
    let ages = [80, 40, 0];
    let ids = ages.map(|age| mint(&minter, NOW_MS - age * DAY_MS));
    for (id, payout) in ids.into_iter().zip(1..) {
        let step = |status| HistoryEntry::new(status, 0, None, Earned::default(), "test");
        let mut record = ConversionRecord { payout, ..conversion(id, "T") };
        record.history.extend([step(Status::Rejected), step(Status::Approved)]);
        let ticket = Arc::new(Ticket::default());
        store.commit_conversion(id, &record, ticket.clone()).expect("queued");
        store.writer().flush();
        assert_eq!(wait(ticket.settled()), Outcome::Durable);
    }
    assert_eq!(in_caps(&store), (0, 0), "nothing is in the sums");
    count(&store);
    assert_eq!(in_caps(&store), (3, 6));
    drop(store);
    // As the release before left it, with a change that is still to be added to the other sums.
    let engine = RocksEngine::open(folder.path(), CACHE_BYTES).expect("opens");
    let mut batch = Batch::default();
    let begin = keys::cap_sums_from(Quarter::default(), OfferNumber::NONE);
    batch.delete_range(Table::Counters, &begin, &keys::cap_sums_end());
    let mut counted = engine.value(Table::Counters, keys::COUNTED).expect("readable").expect("w");
    counted[0] = 1;
    batch.put(Table::Counters, keys::COUNTED, |out| out.append(&mut counted));
    let rows = include_str!("fixtures/counters.v1.hex").split("\n\n").nth(2).expect("a change");
    let digits: Vec<u8> = rows.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    let change: Vec<u8> = digits.chunks(2).map(|pair| byte(pair).expect("hex")).collect();
    batch.put(Table::Counters, &keys::change(ids[1], 1), |out| out.extend(change));
    engine.append(&batch).and_then(|()| engine.sync()).expect("written");
    drop(engine);
    let check = |path: &Path| {
        let (store, _) = open(path);
        assert_eq!(in_caps(&store), (3, 6));
        count(&store);
        assert_eq!(in_caps(&store), (3, 6));
    };
    {
        let (store, _) = open(folder.path());
        assert_eq!(in_caps(&store), (3, 6));
        check(crash_image(folder.path()).path());
    }
    check(folder.path());
}

#[test]
fn what_caps_have_counted_is_read_for_the_offers_that_are_asked_for_alone() {
    let folder = folder();
    let (store, identity) = open(folder.path());
    let minter = minter(&identity);
    let number = |number| OfferNumber::new(number).expect("small");
    for age in [100, 50, 0] {
        for offer in 1..=9 {
            for affiliate in 1..=3 {
                let affiliate = AffiliateNumber::new(affiliate).expect("small");
                let id = minter.mint(NOW_MS - age * DAY_MS, number(offer), affiliate);
                let mut record = ConversionRecord { payout: offer.into(), ..conversion(id, "T") };
                let (status, earned) = (Status::Pending, Earned::default());
                record.history.push(HistoryEntry::new(status, 0, None, earned, "test"));
                store.commit_conversion(id, &record, Arc::<Ticket>::default()).expect("queued");
            }
        }
    }
    wait(store.all_appended()).expect("written");
    count(&store);
    for asked in [vec![], vec![1], vec![9], vec![3, 4, 7], vec![2, 9, 12], vec![12]] {
        let sums = wait(store.cap_sums(asked.iter().map(|offer| number(*offer)).collect()));
        let sums = sums.expect("readable");
        let mut found = Vec::new();
        for ((offer, affiliate), record) in &sums.of {
            assert_eq!(record.sums.len(), 1);
            let sum = &record.sums[0];
            found.push((offer.get(), affiliate.get(), sum.conversions, sum.payout));
        }
        found.sort_unstable();
        let there = asked.iter().filter(|offer| **offer <= 9);
        let expected: Vec<_> = there
            .flat_map(|offer| (1..=3).map(|who| (*offer, who, 3, 3 * i128::from(*offer))))
            .collect();
        assert_eq!(found, expected);
    }
}

#[test]
fn retention_lets_go_of_what_is_old_and_of_nothing_else() {
    let folder = folder();
    let (store, identity) = open(folder.path());
    let minter = minter(&identity);
    let ages = [100, 91, 90, 89, 0];
    let clicks = ages.map(|age| mint(&minter, NOW_MS - age * DAY_MS));
    for click in clicks {
        commit_click(&store, click);
    }
    let click = clicks[0];
    let old = mint(&Minter::new(0, 0, 0), NOW_MS - 50 * DAY_MS);
    let new = mint(&minter, NOW_MS);
    commit_conversion(&store, click, old, "T-old");
    commit_conversion(&store, click, new, "T-new");
    file_all(&store);
    let days = |days: u64| Duration::from_millis(days * DAY_MS);
    let kept =
        Retention { clicks: days(90), conversions: days(40), audit: days(40), inbound: days(30) };
    assert_eq!(wait(store.expire(NOW_MS, Duration::ZERO, kept)), Ok(true));
    let has = |click| wait(store.has_click(click)).expect("readable");
    assert_eq!(clicks.map(has), [true; 5], "what is not counted is kept");
    count(&store);
    assert_eq!(wait(store.expire(NOW_MS, Duration::ZERO, kept)), Ok(true));

    let check = |store: &Store| {
        let has = |click| wait(store.has_click(click)).expect("readable");
        assert_eq!(clicks.map(has), [false, false, true, true, true]);
        assert!(wait(store.conversion(old)).expect("readable").is_none());
        assert!(wait(store.conversion(new)).expect("readable").is_some());
        // A dedupe entry stays until RocksDB compacts its file; the newer one stays in any case.
        let named = wait(store.find_claim(&transaction("T-old"))).expect("readable");
        assert!(named.is_none_or(|named| named == old));
        assert_eq!(wait(store.find_claim(&transaction("T-new"))).expect("readable"), Some(new));
        let (clicks, conversions, _) = sums(store);
        assert_eq!((clicks, conversions), (5, 2), "sums stay");
    };
    check(&store);
    check(&open(crash_image(folder.path()).path()).0);
}

#[test]
fn what_was_let_go_takes_no_place_among_the_conversions_of_a_click() {
    let folder = folder();
    let (store, identity) = open(folder.path());
    let minter = minter(&identity);
    let click = mint(&minter, NOW_MS - 100 * DAY_MS);
    let ids: Vec<_> = (0..1200)
        .map(|n| mint(&minter, NOW_MS - if n < 400 { 50 * DAY_MS } else { DAY_MS }))
        .collect();
    for (n, id) in ids.iter().enumerate() {
        let txn_id = format!("T-{n}");
        let record = conversion(click, &txn_id);
        store.commit_conversion(*id, &record, Arc::<Ticket>::default()).expect("queued");
    }
    wait(store.all_appended()).expect("written");
    file_all(&store);
    count(&store);
    let kept = Duration::from_millis(40 * DAY_MS);
    let kept = Retention { clicks: kept, conversions: kept, audit: kept, inbound: kept };
    assert_eq!(wait(store.expire(NOW_MS, Duration::ZERO, kept)), Ok(true));
    for page in [
        wait(store.conversions_of(click)),
        wait(store.conversions_from(keys::Subject::Click(click), None, 1000)),
    ] {
        let page = page.expect("readable");
        assert_eq!(page.rows.iter().map(|row| row.id).collect::<Vec<_>>(), ids[400..]);
        assert_eq!(page.next, None, "all are seen");
    }
}

#[test]
fn retention_waits_until_what_was_counted_is_on_disk() {
    let folder = folder();
    let engine = Arc::new(RocksEngine::open(folder.path(), CACHE_BYTES).expect("opens"));
    // Nobody appends, syncs or counts but this test.
    let (store, identity) = Store::on(engine, 0, [7; 32], Arc::new(Unobserved)).expect("opens");
    let round = || {
        store.writer().append_once(&mut Default::default());
        store.writer().sync_once(&mut Default::default());
    };
    let minter = minter(&identity);
    let [click, later] = [2, 0].map(|age| mint(&minter, NOW_MS - age * DAY_MS));
    for click in [click, later] {
        let ticket = Arc::new(Ticket::default());
        store.record_click(click, &ClickRecord::default(), ticket).expect("queued");
    }
    round();
    while store.writer().queued() == (0, 0) {
        store.count_once(true, AtOnce::default()).expect("readable");
    }
    let day = Duration::from_millis(DAY_MS);
    let kept = Retention { clicks: day, conversions: day, audit: day, inbound: day };
    let mut expire = std::pin::pin!(store.expire(NOW_MS, Duration::ZERO, kept));
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    assert!(expire.as_mut().poll(&mut context).is_pending());
    let has = || store.has_click_now(click).expect("readable") == Lookup::Found(());
    // The sums, which another thread than the removal might be writing.
    round();
    assert!(has());
    while expire.as_mut().poll(&mut context).is_pending() {
        round();
    }
    assert!(!has());
}

/// An entry of the audit log that says nothing.
fn entry(time_ms: u64) -> AuditEntry<'static> {
    let record =
        AuditRecord { who: "ops", action: "test", details: "{}", ..AuditRecord::default() };
    AuditEntry { time_ms, record }
}

/// Times of all entries, by pages of two.
fn audited(store: &Store) -> Vec<u64> {
    let (mut times, mut cursor) = (Vec::new(), None);
    loop {
        let page = wait(store.audit(0, u64::MAX, cursor, 2, Arc::new(|_| true)));
        let page = page.expect("readable");
        assert!(page.rows.len() <= 2);
        times.extend(page.rows.iter().map(|row| row.key.time_ms));
        match page.next {
            Some(next) => cursor = Some(next),
            None => return times,
        }
    }
}

#[test]
fn what_somebody_changed_is_on_disk_with_its_entry_or_not_at_all() {
    let folder = folder();
    let (store, _) = open(folder.path());
    let rates = |rate| RatesRecord { base: *b"USD", rates: vec![(*b"EUR", rate)] };
    wait(store.set_rates(&[(Day::new(1), rates(1))], 0, &[entry(10)])).expect("kept");
    wait(store.keep_catalog("first", catalog(1), &entry(20))).expect("kept");
    wait(store.keep_audit(&entry(20))).expect("kept");
    wait(store.set_rates(&[(Day::new(1), rates(2))], 1, &[entry(15), entry(15)])).expect("kept");
    assert_eq!(audited(&store), [10, 15, 15, 20, 20]);
    let image = crash_image(folder.path());
    let (again, _) = open(image.path());
    assert_eq!(audited(&again), [10, 15, 15, 20, 20], "acknowledged, so it outlives a kill");
    wait(again.keep_audit(&entry(20))).expect("kept");
    assert_eq!(audited(&again).len(), 6, "another start overwrites nothing");

    let listed = |from_ms, to_ms, who: &'static str| {
        let filter = Arc::new(move |record: &AuditRecord<'_>| record.who == who);
        wait(again.audit(from_ms, to_ms, None, 100, filter)).expect("readable").rows.len()
    };
    assert_eq!((listed(10, 20, "ops"), listed(0, 100, "ops"), listed(0, 100, "others")), (3, 6, 0));
    assert_eq!((listed(20, 20, "ops"), listed(21, 20, "ops")), (0, 0));

    again.close();
    assert!(wait(again.set_rates(&[(Day::new(1), rates(3))], 2, &[entry(30)])).is_err());
    assert_eq!(audited(&again).len(), 6, "no change, no entry");
}

#[test]
fn a_change_and_its_entry_are_one_commit() {
    let folder = folder();
    let engine = Arc::new(RocksEngine::open(folder.path(), CACHE_BYTES).expect("opens"));
    // Nobody appends or syncs but this test.
    let (store, _) = Store::on(engine, 0, [7; 32], Arc::new(Unobserved)).expect("opens");
    let rates = [(Day::new(1), RatesRecord { base: *b"USD", rates: Vec::new() })];
    let entries = [entry(10)];
    let mut change = std::pin::pin!(store.set_rates(&rates, 0, &entries));
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    assert!(change.as_mut().poll(&mut context).is_pending());
    assert_eq!(store.writer().queued(), (1, 0));
    store.writer().append_once(&mut Default::default());
    assert!(change.as_mut().poll(&mut context).is_pending(), "not on disk yet");
    let image = crash_image(folder.path());
    store.writer().sync_once(&mut Default::default());
    assert!(change.as_mut().poll(&mut context).is_ready());
    let (before, _) = open(image.path());
    let (rates, entries) = (wait(before.rates()).expect("readable").len(), audited(&before).len());
    assert_eq!(rates, entries, "both or none");
}

#[test]
fn the_audit_log_is_kept_for_its_own_time() {
    let folder = folder();
    let (store, _) = open(folder.path());
    for age in [100, 41, 39, 0] {
        wait(store.keep_audit(&entry(NOW_MS - age * DAY_MS))).expect("kept");
    }
    let days = |days: u64| Duration::from_millis(days * DAY_MS);
    let kept =
        Retention { clicks: days(1), conversions: days(1), audit: days(40), inbound: days(1) };
    assert_eq!(wait(store.expire(NOW_MS, Duration::ZERO, kept)), Ok(true));
    assert_eq!(audited(&store), [NOW_MS - 39 * DAY_MS, NOW_MS]);
    let image = crash_image(folder.path());
    let (again, identity) = open(image.path());
    assert_eq!(audited(&again), [NOW_MS - 39 * DAY_MS, NOW_MS]);
    assert_eq!(identity.starts, 2, "what else is in meta is there");
}

#[test]
fn a_clock_that_jumps_ahead_lets_nothing_go_unless_it_stays_so_for_a_day_of_serving() {
    let folder = folder();
    let (store, identity) = open(folder.path());
    let minter = minter(&identity);
    let (click, id) = (mint(&minter, NOW_MS - 1), mint(&minter, NOW_MS - 1));
    // What came in the last millisecond is never let go.
    let (last_click, last_id) = (mint(&minter, NOW_MS), mint(&minter, NOW_MS));
    for (click, id, txn_id) in [(click, id, "T-1"), (last_click, last_id, "T-2")] {
        commit_click(&store, click);
        commit_conversion(&store, click, id, txn_id);
    }
    wait(store.keep_audit(&entry(NOW_MS))).expect("kept");
    count(&store);
    let days = |days: u64| Duration::from_millis(days * DAY_MS);
    let kept =
        Retention { clicks: days(90), conversions: days(400), audit: days(400), inbound: days(30) };
    let there = |store: &Store| {
        let click = wait(store.has_click(click)).expect("readable");
        let conversion = wait(store.conversion(id)).expect("readable").is_some();
        (click, conversion, audited(store).len())
    };
    let (all, none) = ((true, true, 1), (false, false, 0));
    let expire = |store: &Store, passed| {
        assert_eq!(wait(store.expire(NOW_MS + 401 * DAY_MS, passed, kept)), Ok(true));
        there(store)
    };
    // A store that knows the time only by its newest record; one that has kept its own time.
    for own in [false, true] {
        let image = crash_image(folder.path());
        let (again, _) = open(image.path());
        count(&again);
        if own {
            assert_eq!(wait(again.expire(NOW_MS, Duration::ZERO, kept)), Ok(true));
        }
        for _ in 0..10 {
            assert_eq!(expire(&again, Duration::ZERO), all, "{own}");
            assert_eq!(again.clock_disbelieved_ms(), 401 * DAY_MS);
        }
        assert_eq!(expire(&again, days(1) - Duration::from_millis(1)), all, "{own}");
        let after = crash_image(image.path());
        let (after, _) = open(after.path());
        count(&after);
        assert_eq!(expire(&after, Duration::ZERO), all, "{own}");
        assert_eq!(expire(&after, days(17)), none, "it has stayed so");
        assert_eq!(after.clock_disbelieved_ms(), 0);
    }
    // What is configured counts at once.
    let shorter = Retention { clicks: Duration::ZERO, ..kept };
    assert_eq!(wait(store.expire(NOW_MS + 2, Duration::ZERO, shorter)), Ok(true));
    assert_eq!(there(&store), (false, true, 1));
}

#[test]
fn a_newer_format_is_refused_and_left_alone() {
    let folder = folder();
    drop(open(folder.path()));
    let write = |value: &[u8]| {
        let engine = RocksEngine::open(folder.path(), CACHE_BYTES).expect("opens");
        let mut batch = Batch::default();
        batch.put(Table::Meta, keys::META_FORMAT, |out| out.extend_from_slice(value));
        engine.append(&batch).and_then(|()| engine.sync()).expect("written");
    };
    let refusal = || {
        let opened = Store::open(folder.path(), CACHE_BYTES, 1, [7; 32], Arc::new(Unobserved));
        opened.err().expect("refused")
    };
    write(&(FORMAT_VERSION + 1).to_be_bytes());
    let is_newer =
        |error| matches!(error, OpenError::NewerFormat { found } if found == FORMAT_VERSION + 1);
    assert!(is_newer(refusal()));
    assert!(is_newer(refusal()), "the first try changed it");
    write(b"?");
    assert!(matches!(refusal(), OpenError::DamagedMeta("format")));
    write(&1u32.to_be_bytes());
    assert_eq!(open(folder.path()).1.starts, 2, "a refused start is not counted");
}

#[test]
fn what_earlier_releases_may_have_left_to_be_priced_is_looked_through_once() {
    let folder = folder();
    let rates = RatesRecord { base: *b"USD", rates: vec![(*b"EUR", 2)] };
    {
        let engine = RocksEngine::open(folder.path(), CACHE_BYTES).expect("opens");
        let mut batch = Batch::default();
        for day in [3, 5] {
            batch.put(Table::Catalog, &keys::rates(Day::new(day)), |out| rates.encode(out));
        }
        batch.put(Table::Meta, keys::META_FORMAT, |out| out.extend(5u32.to_be_bytes()));
        engine.append(&batch).and_then(|()| engine.sync()).expect("written");
    }
    let (store, _) = open(folder.path());
    let left = wait(store.to_price()).expect("readable");
    let days = [3, 5].map(Day::new).to_vec();
    assert_eq!(left.into_values().collect::<Vec<_>>(), [days]);
    wait(store.priced([0].into_iter())).expect("kept");
    let image = crash_image(folder.path());
    let (again, _) = open(image.path());
    assert!(wait(again.to_price()).expect("readable").is_empty(), "not once more");
}

#[test]
fn a_listing_with_cursor_shows_every_row_once() {
    let folder = folder();
    let (store, identity) = open(folder.path());
    let minter = minter(&identity);
    let click = mint(&minter, NOW_MS);
    let ids: Vec<_> = (0..25u64).map(|n| mint(&minter, NOW_MS + n / 5)).collect();
    for (n, id) in ids.iter().enumerate() {
        commit_conversion(&store, click, *id, &format!("T-{n}"));
    }
    let walk = |from_ms, to_ms, limit: usize, odd_only: bool| {
        let (mut rows, mut cursor) = (Vec::new(), None);
        loop {
            let odd = |id: RecordId| id.as_bytes()[9] % 2 == 1;
            let filter =
                Arc::new(move |row: &postbackd::store::StoredConversion| !odd_only || odd(row.id));
            let page = wait(store.conversions(from_ms, to_ms, cursor, limit, filter));
            let page = page.expect("readable");
            assert!(page.rows.len() <= limit);
            rows.extend(page.rows.iter().map(|row| row.id));
            match page.next {
                None => return rows,
                next => cursor = next,
            }
        }
    };
    for limit in [1, 4, 5, 24, 25, 26] {
        assert_eq!(walk(0, NOW_MS + DAY_MS, limit, false), ids, "limit {limit}");
    }
    assert_eq!(walk(NOW_MS + 1, NOW_MS + 3, 3, false), ids[5..15], "from is included, to is not");
    let odd: Vec<_> = ids.iter().copied().filter(|id| id.as_bytes()[9] % 2 == 1).collect();
    assert_eq!(walk(0, NOW_MS + DAY_MS, 2, true), odd);
}

#[test]
fn index_rows_are_the_same_filed_while_serving_or_at_the_next_start() {
    let folder = folder();
    let (store, identity) = open(folder.path());
    let minter = minter(&identity);
    let clicks = [mint(&minter, NOW_MS), mint(&minter, NOW_MS)];
    let ids: Vec<_> = (0..40u64).map(|n| mint(&minter, NOW_MS + n)).collect();
    let txn = |n: usize| format!("T-{n}");
    let commit = |places: std::ops::Range<usize>| {
        for n in places {
            commit_conversion(&store, clicks[n % 2], ids[n], &txn(n));
        }
    };
    let check = |store: &Store, filed: std::ops::Range<usize>| {
        for n in filed {
            let found = wait(store.find_claim(&transaction(&txn(n)))).expect("readable");
            assert_eq!(found, Some(ids[n]), "{n}");
        }
        for (place, click) in clicks.into_iter().enumerate() {
            let of_click = wait(store.conversions_of(click)).expect("readable").rows;
            let expected: Vec<_> = ids.iter().copied().skip(place).step_by(2).collect();
            assert_eq!(of_click.iter().map(|row| row.id).collect::<Vec<_>>(), expected);
        }
    };
    commit(0..20);
    file_all(&store);
    commit(20..40);
    check(&store, 0..20);
    check(&open(crash_image(folder.path()).path()).0, 0..40);
    file_all(&store);
    check(&store, 0..40);
    check(&open(crash_image(folder.path()).path()).0, 0..40);
}

#[test]
fn a_conversion_below_the_bound_of_a_round_brings_its_rows_along() {
    let folder = folder();
    let (store, identity) = open(folder.path());
    let minter = minter(&identity);
    let click = mint(&minter, NOW_MS);
    let (late, early) = (mint(&minter, NOW_MS), mint(&minter, NOW_MS));
    commit_conversion(&store, click, early, "T-early");
    file_all(&store);
    commit_conversion(&store, click, late, "T-late");
    assert_eq!(wait(store.find_claim(&transaction("T-late"))).expect("readable"), Some(late));
    let of_click = wait(store.conversions_of(click)).expect("readable").rows;
    assert_eq!(of_click.iter().map(|row| row.id).collect::<Vec<_>>(), [late, early]);
}

#[test]
fn a_store_of_format_1_keeps_its_rows() {
    let folder = folder();
    let (store, identity) = open(folder.path());
    let click = mint(&minter(&identity), NOW_MS);
    let id = mint(&minter(&identity), NOW_MS + 1);
    commit_conversion(&store, click, id, "T-1");
    file_all(&store);
    drop(store);
    {
        let engine = RocksEngine::open(folder.path(), CACHE_BYTES).expect("opens");
        let mut batch = Batch::default();
        batch.put(Table::Meta, keys::META_FORMAT, |out| out.extend_from_slice(&1u32.to_be_bytes()));
        batch.delete_range(Table::Meta, keys::META_FILED, b"filee");
        engine.append(&batch).and_then(|()| engine.sync()).expect("written");
    }
    let (store, identity) = open(folder.path());
    assert_eq!(identity.filed_below, keys::after(id));
    assert_eq!(wait(store.find_claim(&transaction("T-1"))).expect("readable"), Some(id));
}

/// Puts a value there as a later release might have written it.
fn put_newer(engine: &dyn Engine, table: Table, key: &[u8]) {
    let mut batch = Batch::default();
    batch.put(table, key, |out| out.extend_from_slice(&[200, 1, 2, 3]));
    engine.append(&batch).and_then(|()| engine.sync()).expect("written");
}

#[test]
fn a_conversion_that_a_later_release_has_written_is_not_passed_over_by_a_start() {
    let folder = folder();
    drop(open(folder.path()));
    let engine = RocksEngine::open(folder.path(), CACHE_BYTES).expect("opens");
    put_newer(&engine, Table::Conversions, &[5; 16]);
    drop(engine);
    for _ in 0..2 {
        let opened = Store::open(folder.path(), CACHE_BYTES, 1, [7; 32], Arc::new(Unobserved));
        let error = opened.err().expect("refused");
        assert!(matches!(error, OpenError::Record(RecordError::Version(Some(200)))), "{error}");
        assert!(error.to_string().contains("a later one has written it"), "{error}");
    }
}

/// Waits for the store to fail, and returns why.
fn poison(store: &Store) -> String {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        // The thread itself is in no hurry.
        store.file_once(true);
        if let Some(reason) = store.health().poison_reason() {
            return reason.to_owned();
        }
        assert!(Instant::now() < deadline, "it goes on");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn what_a_later_release_has_written_ends_filing_and_counting() {
    for (table, during) in [(Table::Conversions, "filing"), (Table::Clicks, "counting")] {
        let folder = folder();
        let (store, identity) = open(folder.path());
        let minter = minter(&identity);
        let click = mint(&minter, NOW_MS);
        commit_click(&store, click);
        let newer = mint(&minter, NOW_MS);
        let ticket = Arc::new(Ticket::default());
        let put = |batch: &mut Batch| batch.put(table, newer.as_bytes(), |out| out.push(200));
        store.writer().submit(ticket.clone(), put).expect("queued");
        store.writer().flush();
        assert_eq!(wait(ticket.settled()), Outcome::Durable);
        commit_conversion(&store, click, mint(&minter, NOW_MS), "T-1");
        let reason = poison(&store);
        assert!(reason.starts_with(during), "{reason}");
        assert!(reason.contains("record version Some(200)"), "{reason}");
    }
}

#[test]
fn sums_that_a_later_release_has_written_are_not_begun_anew() {
    let folder = folder();
    let (store, identity) = open(folder.path());
    let minter = minter(&identity);
    commit_click(&store, mint(&minter, NOW_MS));
    let soon = || Instant::now() + Duration::from_secs(30);
    store.catch_up(soon()).expect("counted");
    drop(store);
    let engine = RocksEngine::open(folder.path(), CACHE_BYTES).expect("opens");
    let mut place = None;
    let (from, to) = keys::counters();
    let mut see = |key: &[u8], _: &[u8]| {
        place = Some(key.to_vec());
        std::ops::ControlFlow::Continue(())
    };
    engine.scan(Table::Counters, &from, &to, Direction::Ascending, &mut see).expect("readable");
    let place = place.expect("counted");
    put_newer(&engine, Table::Counters, &place);
    drop(engine);
    let (store, identity) = open(folder.path());
    commit_click(&store, mint(&self::minter(&identity), NOW_MS));
    assert!(store.catch_up(soon()).is_err());
    assert!(poison(&store).contains("record version Some(200)"));
    drop(store);
    let engine = RocksEngine::open(folder.path(), CACHE_BYTES).expect("opens");
    let kept = engine.value(Table::Counters, &place).expect("readable");
    assert_eq!(kept, Some(vec![200, 1, 2, 3]));
}

/// Commits a conversion that caps count.
fn commit_counted(store: &Store, click: RecordId, id: RecordId, txn_id: &str, payout: i64) {
    let earned = Earned::new(0, payout, None);
    let step = HistoryEntry::new(Status::Approved, NOW_MS, None, earned, "postback");
    let record = ConversionRecord { payout, history: vec![step], ..conversion(click, txn_id) };
    let ticket = Arc::new(Ticket::default());
    store.commit_conversion(id, &record, ticket.clone()).expect("queued");
    store.writer().flush();
    assert_eq!(wait(ticket.settled()), Outcome::Durable);
}

#[test]
fn what_caps_have_counted_is_counted_anew_where_it_is_damaged_or_the_store_is_not_opened() {
    let folder = folder();
    let (store, identity) = open(folder.path());
    let minter = minter(&identity);
    let click = mint(&minter, NOW_MS);
    // Minted before, committed after the count: it brings a row of its own along.
    let late = mint(&minter, NOW_MS);
    for (n, payout) in [(1, 10), (2, 20)] {
        commit_counted(&store, click, mint(&minter, NOW_MS + n), &format!("T-{n}"), payout);
    }
    // Those of the next 32 days have a row of their own.
    commit_counted(&store, click, mint(&minter, NOW_MS + 40 * DAY_MS), "T-3", 40);
    store.catch_up(Instant::now() + Duration::from_secs(30)).expect("counted");
    commit_counted(&store, click, late, "T-4", 80);
    assert_eq!(in_caps(&store), (4, 150));
    drop(store);

    let place = Place::of_caps(late);
    let row = keys::cap_sums(place);
    let damage = |more: &dyn Fn(&mut Batch)| {
        let engine = RocksEngine::open(folder.path(), CACHE_BYTES).expect("opens");
        let sound = engine.value(Table::Counters, &row).expect("readable").expect("a row");
        let mut batch = Batch::default();
        batch.put(Table::Counters, &row, |out| out.extend_from_slice(&[sound[0], 255, 255]));
        more(&mut batch);
        engine.append(&batch).and_then(|()| engine.sync()).expect("written");
        sound
    };
    let sound = damage(&|_| {});
    let (store, _) = open(folder.path());
    assert_eq!(in_caps(&store), (4, 150));
    drop(store);
    let again = damage(&|batch| {
        let let_go = keys::first_at(NOW_MS);
        batch.put(Table::Meta, keys::META_EXPIRED, |out| out.extend_from_slice(&let_go));
    });
    assert_eq!(again, sound, "as it was");
    let opened = Store::open(folder.path(), CACHE_BYTES, 1, [7; 32], Arc::new(Unobserved));
    let error = opened.err().expect("refused");
    assert!(matches!(error, OpenError::DamagedCaps(_)), "{error}");
    assert!(error.to_string().contains("restore a backup"), "{error}");
}

#[test]
fn postbacks_as_received_are_found_by_time_and_click_until_retention_lets_them_go() {
    let folder = folder();
    let (store, identity) = open(folder.path());
    let click = mint(&minter(&identity), NOW_MS - 60 * DAY_MS);
    let text = |out: &mut Vec<u8>| {
        out.extend_from_slice(b"event=unheard");
        0
    };
    let days = [40, 31, 29, 1, 0];
    for day in days {
        let head = InboundHead {
            time_ms: NOW_MS - day * DAY_MS,
            result: PostbackResult::Refused.index() as u8,
            click: Some(*click.as_bytes()),
            reason: "unknown_event",
            ..InboundHead::default()
        };
        store.note_arrival(&Arrival { head, text: &text }, Some(Refusal::UnknownEvent));
        // With the next commit, which the sum of refused postbacks is.
        store.refusals().count(Refusal::UnknownEvent, None);
        store.keep_refusals(NOW_MS).expect("submitted");
        commit_click(&store, mint(&minter(&identity), NOW_MS));
    }
    let ages = |rows: &[StoredInbound]| -> Vec<u64> {
        let age =
            |row: &StoredInbound| (NOW_MS - row.row().expect("decodes").head.time_ms) / DAY_MS;
        rows.iter().map(age).collect()
    };
    let listed = |from_ms, to_ms, cursor, limit| {
        let all = Arc::new(|_: &InboundRow<'_>| true);
        wait(store.inbound(from_ms, to_ms, cursor, limit, all)).expect("readable")
    };
    assert_eq!(ages(&listed(0, u64::MAX, None, 10).rows), days);
    assert_eq!(ages(&listed(NOW_MS - 31 * DAY_MS, NOW_MS, None, 10).rows), [31, 29, 1]);
    let first = listed(0, u64::MAX, None, 2);
    assert_eq!(ages(&first.rows), [40, 31]);
    let second = listed(0, u64::MAX, first.next, 2);
    assert_eq!(ages(&second.rows), [29, 1]);
    let traced = |store: &Store| wait(store.inbound_of_click(click)).expect("readable");
    assert_eq!(ages(&traced(&store).rows), days);
    let read = listed(0, u64::MAX, None, 10).rows;
    let kept = |days: u64| {
        let [all, inbound] = [400, days].map(|days| Duration::from_millis(days * DAY_MS));
        Retention { clicks: all, conversions: all, audit: all, inbound }
    };
    assert_eq!(wait(store.expire(NOW_MS, Duration::ZERO, kept(30))), Ok(true));
    let check = |store: &Store| {
        let all = Arc::new(|_: &InboundRow<'_>| true);
        let listed = wait(store.inbound(0, u64::MAX, None, 10, all)).expect("readable");
        assert_eq!(ages(&listed.rows), [29, 1, 0]);
        assert_eq!(ages(&traced(store).rows), [29, 1, 0]);
    };
    check(&store);
    // An erasure that has read its pages before brings none of them back.
    assert_eq!(wait(store.erase_inbound(&read)).expect("written"), 5);
    check(&store);
    check(&open(crash_image(folder.path()).path()).0);
}

#[test]
fn an_erasure_leaves_pages_that_came_after_a_clock_that_was_ahead_and_believed() {
    let folder = folder();
    let (store, identity) = open(folder.path());
    commit_click(&store, mint(&minter(&identity), NOW_MS));
    let [all, inbound] = [400, 30].map(|days| Duration::from_millis(days * DAY_MS));
    let kept = Retention { clicks: all, conversions: all, audit: all, inbound };
    let expire = |now_ms, days| {
        let passed = Duration::from_millis(days * DAY_MS);
        assert_eq!(wait(store.expire(now_ms, passed, kept)), Ok(true));
        assert_eq!(store.clock_disbelieved_ms(), 0);
    };
    expire(NOW_MS + 40 * DAY_MS, 40);
    expire(NOW_MS, 1);
    for text in [b"event=theirs", b"event=others"] {
        let text = |out: &mut Vec<u8>| {
            out.extend_from_slice(text);
            0
        };
        let (result, reason) = (PostbackResult::Refused.index() as u8, "unknown_event");
        let head = InboundHead { time_ms: NOW_MS, result, reason, ..InboundHead::default() };
        store.note_arrival(&Arrival { head, text: &text }, Some(Refusal::UnknownEvent));
        store.refusals().count(Refusal::UnknownEvent, None);
    }
    store.keep_refusals(NOW_MS).expect("submitted");
    commit_click(&store, mint(&minter(&identity), NOW_MS));
    let listed = || {
        let any = Arc::new(|_: &InboundRow<'_>| true);
        wait(store.inbound(0, u64::MAX, None, 10, any)).expect("readable").rows
    };
    assert_eq!(wait(store.erase_inbound(&listed()[..1])).expect("written"), 1);
    let rows = listed();
    let texts: Vec<_> = rows.iter().map(|row| row.row().expect("decodes").text).collect();
    assert_eq!(texts, ["", "event=others"]);
}

/// So many rows of 64 KiB that nothing compresses, as clicks; the range that they take.
fn fill(engine: &RocksEngine, rows: u64) -> KeyRange {
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    let mut word = || {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random.to_le_bytes()
    };
    for row in 0..rows {
        let mut batch = Batch::default();
        batch.put(Table::Clicks, &keys::first_at(row), |out| {
            (0..8 << 10).for_each(|_| out.extend_from_slice(&word()));
        });
        engine.append(&batch).and_then(|()| engine.sync()).expect("written");
    }
    let (from, to) = (keys::first_at(0).to_vec(), keys::first_at(rows - 1).to_vec());
    KeyRange { table: Table::Clicks, from, to }
}

fn rows_of(engine: &RocksEngine, range: &KeyRange) -> u64 {
    let mut rows = 0;
    let end = [&range.to[..], &[0]].concat();
    let count = &mut |_: &[u8], _: &[u8]| {
        rows += 1;
        std::ops::ControlFlow::Continue(())
    };
    engine.scan(range.table, &range.from, &end, Direction::Ascending, count).expect("readable");
    rows
}

fn tables_in(folder: &Path) -> usize {
    let entries = fs::read_dir(folder).expect("a folder").flatten();
    entries.filter(|entry| entry.path().extension().is_some_and(|it| it == "sst")).count()
}

/// The highest number of a table file, which each new one has when it is made.
fn newest_table(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).expect("a folder").flatten();
    let number = |name: &std::ffi::OsStr| name.to_str()?.strip_suffix(".sst")?.parse::<u64>().ok();
    entries.filter_map(|entry| number(&entry.file_name())).max().unwrap_or_default()
}

#[test]
fn ranges_that_lie_in_the_same_files_are_purged_at_once() {
    const ROWS: u64 = 320;
    let folder = folder();
    let engine = RocksEngine::open(folder.path(), CACHE_BYTES).expect("opens");
    let all = fill(&engine, ROWS);
    engine.purge(std::slice::from_ref(&all)).expect("purged");
    let before = newest_table(folder.path());
    let parts: Vec<_> = (0..ROWS)
        .step_by(10)
        .map(|row| KeyRange {
            table: Table::Clicks,
            from: keys::first_at(row).to_vec(),
            to: keys::first_at(row + 4).to_vec(),
        })
        .collect();
    engine.purge(&parts).expect("purged");
    let made = newest_table(folder.path()) - before;
    // Logs have numbers, too.
    assert!(0 < made && made < parts.len() as u64 / 2, "{made} files or more");
    assert_eq!(rows_of(&engine, &all), ROWS);
}

#[test]
fn a_purge_is_cut_short_by_a_stop_and_done_again_by_the_next_start() {
    const ROWS: u64 = 3000;
    let folder = folder();
    let engine = RocksEngine::open(folder.path(), CACHE_BYTES).expect("opens");
    let range = fill(&engine, ROWS);
    let ranges = [range.clone()];
    let purge = |engine: &RocksEngine| {
        let started = Instant::now();
        engine.purge(&ranges).map(|()| started.elapsed())
    };
    let undisturbed = purge(&engine).expect("written out");
    let before = tables_in(folder.path());
    let (cut_short, took) = std::thread::scope(|scope| {
        let purging = scope.spawn(|| purge(&engine));
        // The next table is one that the compaction writes.
        while tables_in(folder.path()) == before {
            assert!(!purging.is_finished(), "it has ended already");
            std::thread::yield_now();
        }
        let started = Instant::now();
        engine.close();
        let took = started.elapsed();
        (purging.join().expect("no panic"), took)
    });
    println!("undisturbed {undisturbed:?}, cut short within {took:?}");
    let error = cut_short.expect_err("it did not come to its end");
    assert_eq!(error.to_string(), "the server stops");
    assert!(took < undisturbed / 3, "{took:?} of {undisturbed:?}");
    assert!(engine.purge(&ranges).is_err(), "none begins any more");
    assert_eq!(rows_of(&engine, &range), ROWS);
    drop(engine);
    let engine = RocksEngine::open(folder.path(), CACHE_BYTES).expect("opens");
    assert_eq!(rows_of(&engine, &range), ROWS);
    purge(&engine).expect("written out");
    assert_eq!(rows_of(&engine, &range), ROWS);
}

#[test]
fn while_a_drain_goes_on_purges_end_between_ranges_and_all_else_goes_on() {
    let folder = folder();
    let engine = RocksEngine::open(folder.path(), CACHE_BYTES).expect("opens");
    let range = fill(&engine, 200);
    // Each is a compaction of its own: minutes altogether.
    let many = vec![range.clone(); 5000];
    let ended = std::thread::scope(|scope| {
        let purging = scope.spawn(|| engine.purge(&many));
        while tables_in(folder.path()) < 2 {
            assert!(!purging.is_finished(), "it has ended already");
            std::thread::yield_now();
        }
        let started = Instant::now();
        engine.end_purges();
        let ended = purging.join().expect("no panic");
        ended.map_err(|error| (error, started.elapsed()))
    });
    let (_, took) = ended.expect_err("it did not come to its end");
    assert!(took < Duration::from_secs(20), "{took:?}");
    fill(&engine, 300);
    assert_eq!(rows_of(&engine, &fill(&engine, 300)), 300);
}

#[test]
fn a_store_that_is_about_to_close_writes_on_and_purges_nothing_more() {
    let folder = folder();
    let (store, identity) = open(folder.path());
    let minter = minter(&identity);
    let click = mint(&minter, NOW_MS);
    commit_click(&store, click);
    let purge = |store: &Store| {
        let mut touched = Touched::default();
        touched.click(click);
        store.purge(touched)
    };
    purge(&store).expect("written out");
    store.end_purges();
    assert!(purge(&store).is_err());
    commit_click(&store, mint(&minter, NOW_MS));
    drop(store);
    let (store, _) = open(folder.path());
    purge(&store).expect("written out");
    store.close();
    assert!(purge(&store).is_err());
    assert!(wait(store.has_click(click)).expect("readable"));
}
