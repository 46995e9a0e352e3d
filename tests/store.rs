//! The store on a real RocksDB: options, durability, restart, numbers, retention, listings.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use postbackd::click_id::{Minter, RecordId};
use postbackd::dedup::{Claim, ClaimSet};
use postbackd::limits::{RESTORE_NUMBERS_SKIPPED, SUBS_PER_PLACE_MAX};
use postbackd::model::ids::{AffiliateNumber, OfferNumber};
use postbackd::model::period::Quarter;
use postbackd::model::status::Status;
use postbackd::store::engine::{Batch, Direction, Engine};
use postbackd::store::records::{
    CatalogRecord, ClickRecord, ConversionRecord, Earned, HistoryEntry,
};
use postbackd::store::schema::{Profile, Table};
use postbackd::store::ticket::{Outcome, Ticket};
use postbackd::store::{
    FORMAT_VERSION, Identity, OpenError, Part, Retention, RocksEngine, Store, Unobserved, Wanted,
    copy_closed, keys, part_from_lost_time,
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
        click_mac: [0; 8],
        advertiser: "acme",
        offer: "spring",
        affiliate: "pub-7",
        event: "sale",
        txn_id,
        customer_id: "",
        status: 2,
        amount: None,
        amount_currency: None,
        revenue: 0,
        payout: 0,
        currency: *b"USD",
        quantity: None,
        flags: 0,
        event_time_ms: 0,
        received_ms: 0,
        catalog_version: 0,
        params: Vec::new(),
        history: Vec::new(),
        claims: ClaimSet::new(transaction(txn_id), None).bits(false),
        exchanged: None,
        reversed_amount: 0,
        erased: None,
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

/// Takes filing turns until nothing is unfiled.
fn file_all(store: &Store) {
    let deadline = std::time::Instant::now() + Duration::from_secs(10);
    while store.progress().unfiled() > 0 {
        assert!(std::time::Instant::now() < deadline, "filing is stuck");
        store.file_once(true);
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
    check("DBOptions", "wal_recovery_mode", "kPointInTimeRecovery");
    for table in Table::ALL {
        let family = format!("CFOptions \"{}\"", table.name());
        let blocks = format!("TableOptions/BlockBasedTable \"{}\"", table.name());
        let (block_bytes, write_buffer_bytes) = match table.profile() {
            Profile::TimeOrdered => ("16384", "67108864"),
            Profile::Scattered | Profile::Small => ("4096", "4194304"),
        };
        check(&family, "compression", "kLZ4Compression");
        check(&family, "bottommost_compression", "kZSTD");
        check(&family, "write_buffer_size", write_buffer_bytes);
        check(&blocks, "block_size", block_bytes);
        check(&blocks, "format_version", "6");
        check(&blocks, "cache_index_and_filter_blocks", "true");
        // RocksDB writes the filter's kind, not its bits.
        check(&blocks, "filter_policy", "ribbonfilter");
    }
    drop(store);
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
    let of_click = wait(restarted.conversions_of(click)).expect("readable");
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

    part_from_lost_time(&copied).expect("written");
    let (restored, identity) = open(&copied);
    let minter = minter(&identity);
    for _ in 0..10 {
        let id = mint(&minter, NOW_MS);
        assert!(given.insert(*id.as_bytes()), "the ID is another's");
    }
    let numbers = assign(&restored, &["autumn", "spring"], &["pub-9", "pub-7"]);
    let known = |numbers: &postbackd::store::Numbers, id| numbers.offer(id).expect("a number");
    assert_eq!(known(&numbers, "spring").get(), 1, "what was copied keeps its number");
    assert_eq!(known(&numbers, "autumn").get(), 2 + RESTORE_NUMBERS_SKIPPED);
    assert!(known(&lost, "autumn").get() < 100);
    assert_eq!(numbers.affiliate("pub-9").expect("a number").get(), 2 + RESTORE_NUMBERS_SKIPPED);
    assert_eq!(numbers.affiliate("pub-7").expect("a number").get(), 1);
    drop(restored);
    // Once more: nothing is taken back.
    part_from_lost_time(&copied).expect("written");
    let numbers = assign(&open(&copied).0, &["winter"], &[]);
    assert!(known(&numbers, "winter").get() > 2 + 2 * RESTORE_NUMBERS_SKIPPED);
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

#[test]
fn the_newest_catalog_is_kept_whole_and_ten_are_remembered() {
    let folder = folder();
    let (store, _) = open(folder.path());
    assert_eq!(wait(store.catalog()).expect("readable"), None);
    let text = |version: u64| format!("{version}é").repeat(200_000 * (version as usize % 3));
    for version in 0..12 {
        wait(store.keep_catalog(&text(version), catalog(version))).expect("kept");
        let (record, kept) = wait(store.catalog()).expect("readable").expect("there");
        assert_eq!(record.version, version);
        assert!(kept == text(version), "version {version} came back changed");
    }
    let image = crash_image(folder.path());
    for store in [store, open(image.path()).0] {
        let kept: Vec<u64> =
            wait(store.catalog_versions()).expect("readable").iter().map(|it| it.version).collect();
        assert_eq!(kept, (2..12).rev().collect::<Vec<_>>());
        assert!(wait(store.catalog()).expect("readable").expect("there").1 == text(11));
    }
}

#[test]
fn a_catalog_that_was_cut_short_leaves_the_one_before() {
    let folder = folder();
    let (store, _) = open(folder.path());
    wait(store.keep_catalog("the first", catalog(1))).expect("kept");
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
    wait(store.keep_catalog("the second", catalog(2))).expect("kept");
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
    assert_eq!(pieces, 1, "nothing is left of what is no longer needed");
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
        let step = |status| HistoryEntry::new(status, 0, 0, Earned::default(), "test");
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
                record.history.push(HistoryEntry::new(status, 0, 0, earned, "test"));
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
    let kept = Retention { clicks: days(90), conversions: days(40) };
    assert_eq!(wait(store.expire(NOW_MS, kept)), Ok(true));
    let has = |click| wait(store.has_click(click)).expect("readable");
    assert_eq!(clicks.map(has), [true; 5], "what is not counted is kept");
    count(&store);
    assert_eq!(wait(store.expire(NOW_MS, kept)), Ok(true));

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
            let of_click = wait(store.conversions_of(click)).expect("readable");
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
    let of_click = wait(store.conversions_of(click)).expect("readable");
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
