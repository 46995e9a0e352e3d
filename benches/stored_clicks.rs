//! Many stored clicks: how fast they are written, and how large they are on disk.
//!
//! `cargo bench --profile release --bench stored_clicks -- [CLICKS [FOLDER]]`; a million in a
//! temporary folder unless told otherwise. A folder is kept, so that a server can be started on it.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use postbackd::click_id::Minter;
use postbackd::model::ids::{AffiliateNumber, OfferNumber};
use postbackd::store::records::{ClickRecord, StoredIp};
use postbackd::store::ticket::Ticket;
use postbackd::store::{Store, SubmitError, Unobserved};

const CACHE_BYTES: usize = 256 << 20;
/// Clicks to a millisecond of their IDs: 100,000 a second.
const CLICKS_PER_MS: u64 = 100;
/// Table files are compacted in the background; their size is read when it no longer changes.
const SETTLED: Duration = Duration::from_secs(5);
/// What visitors' browsers call themselves: long, few, repeated.
const USER_AGENTS: [&str; 4] = [
    "Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.5 Mobile/15E148 Safari/604.1",
    "Mozilla/5.0 (Linux; Android 15; Pixel 9) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/138.0.0.0 Mobile Safari/537.36",
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/138.0.0.0 Safari/537.36",
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 10.15; rv:141.0) Gecko/20100101 Firefox/141.0",
];

fn main() {
    let mut arguments = std::env::args().skip(1).filter(|argument| argument != "--bench");
    let clicks = arguments.next().map_or(1_000_000, |text| text.parse().expect("a number"));
    let temporary = tempfile::tempdir().expect("a folder");
    let folder = arguments.next().map_or_else(|| temporary.path().join("db"), Into::into);
    std::fs::create_dir_all(&folder).expect("a folder");
    fill(&folder, clicks);
    let bytes = settled_bytes(&folder);
    println!("{} MiB on disk, {:.1} bytes a click", bytes >> 20, bytes as f64 / clicks as f64);
}

fn open(folder: &Path) -> (Store, postbackd::store::Identity) {
    Store::open(folder, CACHE_BYTES, 1, [7; 32], Arc::new(Unobserved)).expect("the store opens")
}

/// Writes clicks with subs that repeat and one that does not.
fn fill(folder: &Path, clicks: u64) {
    let (store, identity) = open(folder);
    let minter = Minter::new(0, identity.starts, identity.newest_ms);
    let numbers = OfferNumber::new(1).zip(AffiliateNumber::new(1));
    let (offer, affiliate) = numbers.expect("24 bits");
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    let first_ms = now.as_millis() as u64 - clicks / CLICKS_PER_MS;
    let started = Instant::now();
    let mut last = Arc::new(Ticket::default());
    for number in 0..clicks {
        let id = minter.mint(first_ms + number / CLICKS_PER_MS, offer, affiliate);
        let (campaign, unique) = (format!("campaign-{}", number % 20), number.to_string());
        // Visitors come in no order.
        let scattered = number.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let [a, b, c, ..] = scattered.to_be_bytes();
        let record = ClickRecord {
            subs: [&campaign, &unique, "", "", "", "", "", "", "", ""],
            ip: StoredIp::V4([a, b, c, 0]),
            user_agent: USER_AGENTS[(scattered >> 32) as usize % USER_AGENTS.len()],
            ..ClickRecord::default()
        };
        last = Arc::new(Ticket::default());
        while let Err(error) = store.record_click(id, &record, last.clone()) {
            assert_eq!(error, SubmitError::Full, "the disk takes them");
            std::thread::yield_now();
        }
    }
    store.writer().flush();
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    runtime.block_on(last.settled());
    let took = started.elapsed();
    println!("{clicks} clicks in {took:.1?}, {:.0}/s", clicks as f64 / took.as_secs_f64());
}

fn settled_bytes(folder: &Path) -> u64 {
    drop(open(folder));
    let (_store, _) = open(folder);
    let bytes = || -> u64 {
        let entries = std::fs::read_dir(folder).expect("the store's folder").flatten();
        let tables = entries.filter(|entry| entry.path().extension().is_some_and(|is| is == "sst"));
        tables.filter_map(|entry| Some(entry.metadata().ok()?.len())).sum()
    };
    let mut before = bytes();
    loop {
        std::thread::sleep(SETTLED);
        match bytes() {
            now if now == before => return now,
            now => before = now,
        }
    }
}
