//! What the benches share: a store that keeps nothing, and the flows on top of it.

use std::net::{IpAddr, Ipv4Addr};
use std::ops::ControlFlow;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use arc_swap::ArcSwap;
use postbackd::auth::Nonces;
use postbackd::caps::Meters;
use postbackd::catalog::{NetworkDefaults, parse};
use postbackd::click::{Clicks, Visitor};
use postbackd::click_id::{Keyring, Minter};
use postbackd::dedup::Deduplicator;
use postbackd::fraud::Watch;
use postbackd::metrics::Metrics;
use postbackd::model::currency::Currency;
use postbackd::model::ids::{AffiliateNumber, OfferNumber};
use postbackd::model::ip::IpStorage;
use postbackd::model::period::Calendar;
use postbackd::postback::{Address, PostbackRequest, Postbacks};
use postbackd::rates::Market;
use postbackd::store::engine::{
    Batch, Direction, Engine, EngineError, KeyRange, Lookup, Tier, Visit,
};
use postbackd::store::records::StoredIp;
use postbackd::store::schema::Table;
use postbackd::store::{AppendBuffers, Appended, Numbers, Store, Unobserved};
use postbackd::throttle::Throttle;

/// 2026-11-21T08:00:00Z.
pub const NOW_MS: u64 = 1_795_248_000_000;

/// Rounds of the writer to one of the filing.
const FILE_EVERY: u32 = 4096;

/// A postback by GET at [`NOW_MS`].
pub fn postback(query: &str) -> PostbackRequest<'_> {
    PostbackRequest::get(Address::POSTBACK, query, IpAddr::V4(Ipv4Addr::LOCALHOST), NOW_MS)
}

/// An engine that says yes and forgets; every click is there, no claim is.
pub struct Forgetful;

impl Engine for Forgetful {
    fn append(&self, _: &Batch) -> Result<(), EngineError> {
        Ok(())
    }

    fn sync(&self) -> Result<(), EngineError> {
        Ok(())
    }

    fn get(
        &self,
        table: Table,
        _: &[u8],
        _: Tier,
        read: &mut dyn FnMut(&[u8]),
    ) -> Result<Lookup<()>, EngineError> {
        if table == Table::Clicks {
            read(&[]);
            return Ok(Lookup::Found(()));
        }
        Ok(Lookup::Absent)
    }

    fn scan(
        &self,
        _: Table,
        _: &[u8],
        _: &[u8],
        _: Direction,
        visit: Visit<'_>,
    ) -> Result<(), EngineError> {
        let _: ControlFlow<()> = visit(&[], &[]);
        Ok(())
    }

    fn file<'r>(
        &self,
        _: Table,
        _: &mut dyn Iterator<Item = (&'r [u8], &'r [u8])>,
    ) -> Result<(), EngineError> {
        Ok(())
    }

    fn copy_to(&self, _: &std::path::Path) -> Result<(), EngineError> {
        Ok(())
    }

    fn purge(&self, _ranges: &[KeyRange]) -> Result<(), EngineError> {
        Ok(())
    }

    fn expire_rows(&self, _: u64) {}

    fn gauges(&self, _: &mut dyn FnMut(&'static str, Option<Table>, u64)) {}
}

/// Both flows and the writer below them.
pub struct Bench {
    pub clicks: Clicks,
    pub postbacks: Postbacks,
    pub rounds: Rounds,
}

/// Runs the writer's stages on the caller's thread.
pub struct Rounds {
    store: Arc<Store>,
    buffers: AppendBuffers,
    appended: Appended,
    rounds: u32,
}

impl Rounds {
    /// One round of each stage.
    pub fn settle(&mut self) {
        self.store.writer().append_once(&mut self.buffers);
        self.store.writer().sync_once(&mut self.appended);
        // Nothing is kept, but what is not filed is counted.
        self.rounds = self.rounds.wrapping_add(1);
        if self.rounds.is_multiple_of(FILE_EVERY) {
            self.store.file_once(true);
        }
    }

    /// Polls, runs the writer, polls again: what the event loop and the writer's threads do.
    pub fn drive<T>(&mut self, future: impl Future<Output = T>) -> T {
        let mut future = pin!(future);
        let mut context = Context::from_waker(Waker::noop());
        loop {
            if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
                return output;
            }
            self.settle();
        }
    }
}

impl Bench {
    pub fn new() -> Self {
        let observe = Arc::new(Unobserved);
        let (store, _) =
            Store::on(Arc::new(Forgetful), 0, [7; 32], observe).expect("nothing to fail");
        let store = Arc::new(store);
        let defaults =
            NetworkDefaults { currency: Currency::USD, time_zone: jiff::tz::TimeZone::UTC };
        let text = include_str!("../../examples/catalog.toml");
        let (checked, _) = parse(text, "catalog.toml", &defaults).expect("the example is sound");
        let numbers = Numbers::assigned(checked.offer_ids(), checked.affiliate_ids());
        let catalog = checked.into_catalog(1, &numbers).expect("all are numbered");
        let catalog = Arc::new(ArcSwap::from_pointee(catalog));
        let keyring = Arc::new(Keyring::new([7; 32], vec![]));
        let minter = Arc::new(Minter::new(0, 1, 0));
        let metrics = Arc::new(Metrics::new().expect("sound buckets"));
        let meters = Arc::new(Meters::new(Calendar::new(jiff::tz::TimeZone::UTC)));
        let watch = Arc::new(Watch::new(1));
        let clicks = Clicks {
            watch: Arc::clone(&watch),
            meters: Arc::clone(&meters),
            catalog: Arc::clone(&catalog),
            keyring: Arc::clone(&keyring),
            minter: Arc::clone(&minter),
            store: Arc::clone(&store),
            metrics: Arc::clone(&metrics),
            visitor: Visitor::new(IpStorage::Truncated, &[7; 32]),
            strips_without_consent: false,
            ack_deadline: std::time::Duration::from_secs(1),
            waiting: Arc::default(),
            fallback_url: None,
        };
        let postbacks = Postbacks {
            catalog,
            market: Market::closed(Currency::USD),
            keyring: Arc::clone(&keyring),
            minter,
            dedup: Deduplicator::new(1_000_000, 1, Arc::clone(store.progress())),
            meters,
            watch,
            nonces: Arc::new(Nonces::new(1, 0)),
            throttle: Arc::new(Throttle::new(1)),
            store: Arc::clone(&store),
            metrics,
            waiting: Arc::default(),
            kept_ip: Arc::new(|_| StoredIp::None),
        };
        let rounds = Rounds {
            store,
            buffers: AppendBuffers::default(),
            appended: Appended::default(),
            rounds: 0,
        };
        Self { clicks, postbacks, rounds }
    }

    /// The text of a click ID for the example's first offer and affiliate, minted at [`NOW_MS`].
    pub fn click_id(&self) -> String {
        let (offer, affiliate) = (OfferNumber::new(1), AffiliateNumber::new(1));
        let (offer, affiliate) = offer.zip(affiliate).expect("24 bits");
        let record = self.clicks.minter.mint(NOW_MS, offer, affiliate);
        self.clicks.keyring.sign(record).to_text().to_string()
    }
}
