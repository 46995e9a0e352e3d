//! How fast clicks are counted, how long reports over many sums take, and how long it takes to add
//! up what caps in total have counted.
//!
//! `cargo bench --profile release --bench reports -- [CLICKS [ROWS]]`; a million each unless told
//! otherwise.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::tz::TimeZone;
use postbackd::click_id::Minter;
use postbackd::model::dimension::Dimension;
use postbackd::model::ids::{AffiliateNumber, OfferNumber};
use postbackd::model::period::Quarter;
use postbackd::report::{Context, Question, report};
use postbackd::store::counters::Sign;
use postbackd::store::engine::{Batch, Engine};
use postbackd::store::keys::{self, Place};
use postbackd::store::records::{CapsRecord, ClickRecord, Contribution, PlaceRecord};
use postbackd::store::schema::Table;
use postbackd::store::ticket::Ticket;
use postbackd::store::{RocksEngine, Store, SubmitError, Unobserved};

const CACHE_BYTES: usize = 256 << 20;
const START_MS: u64 = 1_800_000_000_000;
/// Clicks to a millisecond of their IDs.
const CLICKS_PER_MS: u64 = 10;
/// Offers that [`place`] tells apart.
const OFFERS: u64 = 100;
const PATIENCE: Duration = Duration::from_secs(600);

fn main() {
    let mut arguments = std::env::args().skip(1).filter(|argument| argument != "--bench");
    let mut number = || arguments.next().map_or(1_000_000, |text| text.parse().expect("a number"));
    let (clicks, rows) = (number(), number());
    // Whose place each click is, and how many values of `sub1` there are.
    for (name, places, subs) in [
        ("one place", 1, 1),
        ("100 places, 20 subs", 100, 20),
        ("10,000 places", 10_000, 1),
        ("unique subs", 100, u64::MAX),
    ] {
        let folder = tempfile::tempdir().expect("a folder");
        count(folder.path(), name, clicks, places, subs);
    }
    let folder = tempfile::tempdir().expect("a folder");
    fill(folder.path(), rows);
    let store = open(folder.path());
    for by in
        [&[][..], &[Dimension::Day], &[Dimension::Offer], &[Dimension::Hour, Dimension::Affiliate]]
    {
        ask(&store, rows, by);
    }
    let folder = tempfile::tempdir().expect("a folder");
    fill_caps(folder.path(), rows);
    let store = open(folder.path());
    for offers in [1, OFFERS / 2, OFFERS] {
        add_up(&store, rows, offers);
    }
}

fn open(folder: &Path) -> Store {
    let opened = Store::open(folder, CACHE_BYTES, 1, [7; 32], Arc::new(Unobserved));
    opened.expect("the store opens").0
}

fn place(number: u64) -> (OfferNumber, AffiliateNumber) {
    let numbers = (1 + (number % OFFERS) as u32, 1 + (number / OFFERS) as u32);
    OfferNumber::new(numbers.0).zip(AffiliateNumber::new(numbers.1)).expect("24 bits")
}

fn count(folder: &Path, name: &str, clicks: u64, places: u64, subs: u64) {
    let store = open(folder);
    let minter = Minter::new(0, 1, 0);
    for number in 0..clicks {
        let scattered = number.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 20;
        let (offer, affiliate) = place(scattered % places);
        let id = minter.mint(START_MS + number / CLICKS_PER_MS, offer, affiliate);
        let sub1 = (scattered % subs).to_string();
        let mut record = ClickRecord { user_agent: "Mozilla/5.0", ..ClickRecord::default() };
        record.subs[0] = &sub1;
        while let Err(error) = store.record_click(id, &record, Arc::new(Ticket::default())) {
            assert_eq!(error, SubmitError::Full, "the disk takes them");
            std::thread::yield_now();
        }
    }
    store.writer().flush();
    let started = Instant::now();
    store.catch_up(started + PATIENCE).expect("counted");
    let took = started.elapsed();
    println!(
        "{name}: {clicks} clicks counted in {took:.1?}, {:.0}/s",
        clicks as f64 / took.as_secs_f64()
    );
}

fn sale() -> Contribution<'static> {
    Contribution {
        event: "sale".into(),
        currency: *b"USD",
        standing: 2,
        revenue: 20_000_000,
        payout: 15_000_000,
        in_caps: Some(15_000_000),
    }
}

/// What caps have counted of 100 offers, 1000 affiliates each, in as many times of 32 days as that
/// makes.
fn fill_caps(folder: &Path, rows: u64) {
    drop(open(folder));
    let engine = RocksEngine::open(folder, CACHE_BYTES).expect("opens");
    let mut batch = Batch::default();
    let mut of_time = Place::of_caps(Minter::new(0, 1, 0).mint(START_MS, place(0).0, place(0).1));
    for number in 0..rows {
        if number > 0 && number % (OFFERS * 1000) == 0 {
            of_time.quarter = of_time.after_caps().expect("not the last");
        }
        let (offer, affiliate) = place(number % (OFFERS * 1000));
        let mut record = CapsRecord::default();
        record.conversion(&sale(), Sign::Plus);
        let key = keys::cap_sums(Place { offer, affiliate, ..of_time });
        batch.put(Table::Counters, &key, |out| record.encode(out));
        if batch.size() > 1 << 20 {
            engine.append(&batch).expect("written");
            batch.clear();
        }
    }
    engine.append(&batch).and_then(|()| engine.sync()).expect("written");
}

/// Adds up the totals of every so manieth offer.
fn add_up(store: &Store, rows: u64, offers: u64) {
    let asked = (0..offers).map(|number| place(number * (OFFERS / offers)).0).collect();
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let started = Instant::now();
    let sums = runtime.block_on(store.cap_sums(asked)).expect("readable");
    let took = started.elapsed();
    println!("{rows} rows for caps, of {offers} offers: {} totals in {took:.1?}", sums.of.len());
}

/// Sums of 1000 places in each quarter of an hour.
fn fill(folder: &Path, rows: u64) {
    drop(open(folder));
    let engine = RocksEngine::open(folder, CACHE_BYTES).expect("opens");
    let mut batch = Batch::default();
    for number in 0..rows {
        let quarter = Quarter::of_ms(START_MS + number / 1000 * Quarter::MS);
        let (offer, affiliate) = place(number % 1000 * 10);
        let mut record = PlaceRecord::default();
        record.counts.click("");
        record.counts.conversion(&sale(), Sign::Plus);
        let key = keys::counter(Place { quarter, offer, affiliate });
        batch.put(Table::Counters, &key, |out| record.encode(out));
        if batch.size() > 1 << 20 {
            engine.append(&batch).expect("written");
            batch.clear();
        }
    }
    engine.append(&batch).and_then(|()| engine.sync()).expect("written");
}

fn ask(store: &Store, rows: u64, by: &[Dimension]) {
    let from = Quarter::of_ms(START_MS);
    let to = Quarter::new(from.get() + (rows / 1000) as u32 + 1);
    let question = Question { quarters: from..to, by: by.to_vec(), ..Question::default() };
    let context = Context { time_zone: &TimeZone::UTC, base: *b"USD", advertiser_of: &|_| None };
    let started = Instant::now();
    let answer = report(store, &question, &context, started + PATIENCE);
    let took = started.elapsed();
    match answer {
        Ok(report) => {
            println!("{rows} rows of sums by {by:?}: {} rows in {took:.1?}", report.rows.len())
        }
        Err(error) => println!("{rows} rows of sums by {by:?}: {error}, after {took:.1?}"),
    }
}
