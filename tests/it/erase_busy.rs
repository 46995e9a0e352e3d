//! Erasing while the store has no room: what it cannot do now it does a little later.

use std::net::{IpAddr, Ipv4Addr};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use arc_swap::ArcSwap;
use postbackd::auth::Nonces;
use postbackd::caps::Meters;
use postbackd::catalog::{NetworkDefaults, parse};
use postbackd::click_id::{Keyring, Minter};
use postbackd::dedup::Deduplicator;
use postbackd::fraud::Watch;
use postbackd::metrics::Metrics;
use postbackd::model::currency::Currency;
use postbackd::model::period::Calendar;
use postbackd::postback::{Address, Answer, PostbackRequest, Postbacks};
use postbackd::rates::Market;
use postbackd::store::keys::Subject;
use postbackd::store::records::{ClickRecord, StoredIp};
use postbackd::store::ticket::Ticket;
use postbackd::store::{
    AppendBuffers, Appended, Numbers, RocksEngine, Store, SubmitError, Unobserved,
};
use postbackd::throttle::Throttle;
use tempfile::TempDir;

use crate::erase::CATALOG;

const NOW_MS: u64 = 1_790_000_000_000;

/// A server's parts without threads, on a store of its own.
fn postbacks(folder: &TempDir) -> Postbacks {
    let engine = RocksEngine::open(folder.path(), 8 << 20).expect("opens");
    let (store, _) =
        Store::on(Arc::new(engine), 0, [7; 32], Arc::new(Unobserved)).expect("a new store");
    let store = Arc::new(store);
    let utc = jiff::tz::TimeZone::UTC;
    let defaults = NetworkDefaults { currency: Currency::USD, time_zone: utc.clone() };
    let (checked, _) = parse(CATALOG, "catalog.toml", &defaults).expect("sound");
    let numbers = Numbers::assigned(checked.offer_ids(), checked.affiliate_ids());
    let catalog = checked.into_catalog(1, &numbers).expect("all are numbered");
    Postbacks {
        catalog: Arc::new(ArcSwap::from_pointee(catalog)),
        market: Market::closed(Currency::USD),
        keyring: Arc::new(Keyring::new([7; 32], Vec::new())),
        minter: Arc::new(Minter::new(0, 1, 0)),
        dedup: Deduplicator::new(100, 1, Arc::clone(store.progress())),
        meters: Arc::new(Meters::new(Calendar::new(utc))),
        watch: Arc::new(Watch::new(1)),
        nonces: Arc::new(Nonces::new(1, 0)),
        throttle: Arc::new(Throttle::new(1)),
        store,
        metrics: Arc::new(Metrics::new().expect("sound buckets")),
        waiting: Arc::default(),
        kept_ip: Arc::new(|_| StoredIp::None),
    }
}

/// What the store's threads would do.
#[derive(Default)]
struct Threads {
    buffers: AppendBuffers,
    appended: Appended,
}

impl Threads {
    fn write(&mut self, store: &Store) {
        store.writer().append_once(&mut self.buffers);
        store.writer().sync_once(&mut self.appended);
    }

    fn drive<T>(&mut self, store: &Store, future: impl Future<Output = T>) -> T {
        let (mut future, mut context) = (pin!(future), Context::from_waker(Waker::noop()));
        loop {
            if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
                return output;
            }
            self.write(store);
            while store.read_once() {}
        }
    }
}

async fn take(postbacks: &Postbacks, query: &str) -> Answer {
    let ip = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let request = PostbackRequest::get(Address::POSTBACK, query, ip, NOW_MS);
    postbacks.take(&request).await.answer
}

#[test]
fn an_erasure_that_finds_queues_full_waits_and_goes_on_where_it_was() {
    let folder = tempfile::tempdir().expect("a folder");
    let (postbacks, mut threads) = (postbacks(&folder), Threads::default());
    let store = Arc::clone(&postbacks.store);
    let catalog = postbacks.catalog.load_full();
    let offer = catalog.offer("roulette").expect("an offer").number;
    let affiliate = catalog.affiliate("ann").expect("an affiliate").number;
    let click = postbacks.minter.mint(NOW_MS, offer, affiliate);
    let mut record = ClickRecord::default();
    record.subs[0] = "sub-of-the-person";
    store.record_click(click, &record, Arc::new(Ticket::default())).expect("room");
    threads.write(&store);
    let click_id = postbacks.keyring.sign(click).to_text();
    let said = format!("click_id={click_id}&amount=1&own=o");
    for query in ["event=deposit&txn_id=1", "event=deposit&txn_id=2", "event=unheard"] {
        // The last one is refused, and in the log.
        let _ = threads.drive(&store, take(&postbacks, &format!("{said}&{query}")));
    }

    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
    let (erased, rounds) = runtime.expect("a runtime").block_on(async {
        let mut reads = Vec::new();
        let mut fill = || {
            while store.writer().submit(Arc::new(Ticket::default()), |_| ()).is_ok() {}
            let is_full = store.writer().submit(Arc::new(Ticket::default()), |_| ());
            assert_eq!(is_full, Err(SubmitError::Full));
            loop {
                let mut read = Box::pin(async { store.erasures().await.map(drop) });
                let polled = read.as_mut().poll(&mut Context::from_waker(Waker::noop()));
                match polled {
                    Poll::Pending => reads.push(read),
                    Poll::Ready(busy) => break assert!(busy.is_err()),
                }
            }
        };
        fill();
        let mut erasing = pin!(postbacks.erase(Subject::Click(click), NOW_MS, false));
        let mut rounds = 0;
        loop {
            tokio::select! {
                biased;
                erased = &mut erasing => break (erased, rounds),
                () = tokio::time::sleep(Duration::from_millis(1)) => {}
            }
            rounds += 1;
            // Room for what waits now, and at once there is none any more.
            threads.write(&store);
            while store.read_once() {}
            if rounds % 3 == 0 {
                fill();
            }
        }
    });
    let (erased, _) = erased.expect("erased");
    assert_eq!((erased.clicks, erased.conversions), (1, 2), "{erased:?}");
    assert!(rounds > 10, "{rounds}");
}
