//! What is let go is old by the time that has passed, not by a clock that jumps.

use std::sync::Arc;
use std::time::Duration;

use postbackd::click_id::{Keyring, Minter};
use postbackd::dedup::{Claim, ClaimSet};
use postbackd::model::reasons::BY_POSTBACK;
use postbackd::model::status::Status;
use postbackd::store::records::{ConversionRecord, Earned, HistoryEntry};
use postbackd::store::ticket::Ticket;
use postbackd::store::{Retention, Store, Unobserved, database_folder};
use postbackd::time::Clock;

use crate::harness::{CATALOG, Setup, eventually, let_the_clock_move_on};

const DAY_MS: i64 = 24 * 60 * 60 * 1000;
const AHEAD: &str = "postbackd_retention_clock_ahead_seconds";

#[test]
fn a_clock_that_is_ahead_at_a_start_frees_nothing_that_was_counted() {
    let mut server = Setup::new().on_faulty_disk().start();
    let sell = |txn: &str| {
        let click = server.click("offer=spring&aff=pub-7");
        let sale = format!("click_id={click}&event=sale&txn_id={txn}");
        let conversion = server.postback(&sale);
        assert_eq!(conversion.verdict(), (200, "accepted", ""));
        let_the_clock_move_on();
        (click, sale, conversion.word("conversion_id").to_owned())
    };
    // What came last is kept in any case.
    let [(click, sale, conversion), _] = ["T-1", "T-2"].map(sell);
    let refused = format!("click_id={click}&event=unheard");
    assert_eq!(server.postback(&refused).verdict().1, "refused");
    // What is not counted yet would be kept in any case.
    eventually("the sums", || {
        (server.metric("postbackd_store_uncounted_seconds") == 0.0).then_some(())
    });
    // Twice: the first start under the wrong clock is no proof of it.
    server.disk().shift_clock(401 * DAY_MS);
    for _ in 0..2 {
        server.stop();
        server.start_again();
        let ahead =
            eventually("retention", || Some(server.metric(AHEAD)).filter(|ahead| *ahead > 0.0));
        assert_eq!((ahead / (DAY_MS / 1000) as f64).round(), 401.0);
    }
    // Said when retention has come to its end.
    server.says("the clock is ahead of the time that has passed");
    server.stop();
    server.disk().shift_clock(0);
    server.start_again();
    assert_eq!(server.metric(AHEAD), 0.0);
    let again = server.postback(&sale);
    assert_eq!(again.verdict(), (200, "duplicate", ""));
    assert_eq!(again.word("conversion_id"), conversion);
    assert_eq!(server.conversions("").len(), 2);
    assert_eq!(server.api(&format!("clicks/{click}"))["click_id"], click);
    assert_eq!(server.api("inbound?result=refused")["items"].as_array().map(Vec::len), Some(1));
}

const REFUNDED: &str = r#"
[[offers]]
id = "deals"
advertiser = "acme"
url = "https://deals.example/?subid={click_id}"

[[offers.events]]
id = "sale"

[[offers.events]]
id = "refund"
reverses = ["sale"]
"#;

#[test]
fn a_refund_takes_back_the_newest_conversion_of_its_click_whatever_was_let_go_before() {
    let folder = tempfile::tempdir().expect("a folder");
    let database = database_folder(folder.path());
    std::fs::create_dir_all(&database).expect("writable");
    let (store, identity) =
        Store::open(&database, 8 << 20, 1, [7; 32], Arc::new(Unobserved)).expect("a new store");
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let numbers = store.assign_numbers(["deals"].into_iter(), ["pub-7"].into_iter());
    let numbers = runtime.block_on(numbers).expect("given");
    let offer = numbers.offer("deals").expect("an offer");
    let affiliate = numbers.affiliate("pub-7").expect("an affiliate");
    let minter = Minter::new(0, identity.starts, identity.newest_ms);
    let now_ms = Clock::System.now_ms();
    let days_ago = |days: u64| now_ms - days * DAY_MS as u64;
    let click = minter.mint(days_ago(51), offer, affiliate);
    let click = Keyring::new(identity.click_key, Vec::new()).sign(click);
    for n in 0..1200 {
        let id = minter.mint(days_ago(if n < 400 { 50 } else { 1 }), offer, affiliate);
        let txn_id = &*format!("T-{n}");
        let transaction = Claim::Transaction { advertiser: "acme", event: "sale", txn_id };
        let (approved, earned) = (Status::Approved, Earned::default());
        let step = HistoryEntry::new(approved, id.time_ms(), None, earned, BY_POSTBACK);
        let record = ConversionRecord {
            click: *click.record().as_bytes(),
            click_mac: click.mac(),
            advertiser: "acme",
            offer: "deals",
            affiliate: "pub-7",
            event: "sale",
            txn_id,
            status: approved.code(),
            currency: *b"USD",
            event_time_ms: id.time_ms(),
            received_ms: id.time_ms(),
            catalog_version: 1,
            history: vec![step],
            claims: ClaimSet::new(transaction, None).bits(false),
            ..ConversionRecord::default()
        };
        store.commit_conversion(id, &record, Arc::<Ticket>::default()).expect("queued");
    }
    runtime.block_on(store.all_appended()).expect("written");
    let _ = store.file_soon();
    eventually("index rows", || (store.progress().unfiled() == 0).then_some(()));
    store.catch_up(std::time::Instant::now() + Duration::from_secs(30)).expect("counted");
    let kept = Duration::from_millis(40 * DAY_MS as u64);
    let kept = Retention { clicks: kept, conversions: kept, audit: kept, inbound: kept };
    assert_eq!(runtime.block_on(store.expire(now_ms, Duration::ZERO, kept)), Ok(true));
    drop(store);

    let server = Setup::new().catalog(format!("{CATALOG}{REFUNDED}")).start_on(folder.path());
    let refund = format!("click_id={}&event=refund&reversal_id=R", click.to_text());
    assert_eq!(server.postback(&refund).verdict(), (200, "accepted", ""));
    let reversed = server.conversions("status=reversed");
    assert_eq!(reversed.len(), 1, "{reversed:?}");
    assert_eq!(reversed[0]["txn_id"], "T-1199");
}
