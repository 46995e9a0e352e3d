//! The composition root: the only place where things are built and threads are started.

mod background;
mod beforehand;
mod reload;
mod signals;
mod stop;
mod tokens;

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;

use arc_swap::ArcSwap;
use hyper::header::{HeaderName, HeaderValue};
use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::Signal;
use tokio::sync::Semaphore;

use crate::admin::{self, AdminState, AdminTokens, Jobs};
use crate::audit::Author;
use crate::auth::Nonces;
use crate::backup::Backups;
use crate::caps::Meters;
use crate::catalog::{Catalog, CatalogSource, LoadError, NetworkDefaults};
use crate::click::{Clicks, Visitor};
use crate::click_id::{Keyring, Minter};
use crate::config::{Config, Secret, WithoutConsent};
use crate::dedup::{Deduplicator, filling_tables};
use crate::fraud::Watch;
use crate::http::{self, Admission, Entrance, Load, RefusedBodies, Router, TrustedProxies};
use crate::limits::{
    ADMIN_ANSWERS_MAX, ADMIN_LIGHT_ANSWERS_MAX, ADMIN_STALLED_MAX, BODY_READ_TIMEOUT,
    CATALOG_TRANSFERS_MAX, FRAUD_REPORTS_AT_ONCE_MAX, PROOFS_AT_ONCE_MAX, REPORTS_AT_ONCE_MAX,
    UPLOADS_MAX, WORKER_TICK,
};
use crate::metrics::{Metrics, TOKENS_LOADS};
use crate::model::period::Calendar;
use crate::postback::Postbacks;
use crate::rates::{Market, RatesSource, Reprice};
use crate::readiness::Readiness;
use crate::shutdown::{Drain, DrainTrigger, drain};
use crate::space::open_files_max;
use crate::store::{OpenError, ReadError, Store};
use crate::telemetry::LeftOut;
use crate::throttle::Throttle;
use crate::time::{Clock, Randomness};
use crate::tls::{Certificates, TlsError};
pub use signals::Signals;
use signals::ToldToStop;
use stop::Stop;

/// Why the server cannot start or go on.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The store.
    #[error(transparent)]
    Store(#[from] OpenError),
    /// The catalog.
    #[error(transparent)]
    Catalog(#[from] LoadError),
    /// The exchange rates in the store.
    #[error("cannot read the exchange rates: {0}")]
    Rates(#[from] ReadError),
    /// The metrics' buckets.
    #[error("cannot set up metrics: {0}")]
    Metrics(#[from] metrics_exporter_prometheus::BuildError),
    /// A socket.
    #[error("cannot listen on {address}: {error}")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// Why.
        error: std::io::Error,
    },
    /// A file of ours.
    #[error("cannot use {}: {error}", path.display())]
    File {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// No store, and none is to be made.
    #[error(
        "there is no store in {}, and store.create is false: is its disk mounted, is store.path \
         right, may this user look into it?", .0.display()
    )]
    NoStore(PathBuf),
    /// A part of a store.
    #[error("{} is what a restore left that was cut short: remove it and restore again", .0.display())]
    UnfinishedRestore(PathBuf),
    /// Certificates or a key.
    #[error("cannot use the certificates of the {listener} listener: {error}")]
    Tls {
        /// Whose.
        listener: &'static str,
        /// Why.
        error: TlsError,
    },
    /// A thread or runtime.
    #[error("cannot start: {0}")]
    System(#[from] std::io::Error),
    /// A signal.
    #[error("told to stop")]
    ToldToStop,
    /// No randomness.
    #[error("the system gives no randomness: {0}")]
    Randomness(#[from] getrandom::Error),
}

/// How a server ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stopped {
    /// Told to stop, and everything under way was finished.
    Drained,
    /// A write or fsync failed; a restart recovers what is on disk.
    StorePoisoned,
}

impl Stopped {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Drained => "told to stop",
            Self::StorePoisoned => "a write or fsync failed",
        }
    }
}

/// A server with its sockets open, not yet serving.
pub struct Server {
    config: Config,
    /// Where it was read.
    config_file: Option<PathBuf>,
    store: Arc<Store>,
    metrics: Arc<Metrics>,
    routers: Vec<Arc<Router>>,
    postbacks: Postbacks,
    reprice: Reprice,
    admin: Arc<AdminState>,
    source: Arc<CatalogSource>,
    background: Runtime,
    hangup: Signal,
    told_to_stop: ToldToStop,
    overdue: fn(),
    public_listeners: Vec<TcpListener>,
    entrance: Arc<Entrance>,
    admin_listener: TcpListener,
    admin_certificates: Option<Arc<Certificates>>,
    drain: Drain,
    trigger: DrainTrigger,
}

impl Server {
    /// Opens the store, loads the catalog, opens the sockets. `config_file` is where it was
    /// read, for what is read again at a signal; `left_out` are lines of the log. If the process has
    /// not ended by the drain deadline after it was told to, `overdue` is called, to end it
    /// whatever hangs.
    ///
    /// # Errors
    /// When any of it is not possible, or a signal has told it to stop.
    pub fn build(
        config: Config,
        config_file: Option<&Path>,
        signals: Signals,
        left_out: LeftOut,
        overdue: fn(),
    ) -> Result<Self, ServerError> {
        let deadline = config.server.drain_deadline;
        let (background, hangup, mut told_to_stop) = signals.obey(deadline, overdue);
        let metrics = Arc::new(Metrics::new()?);
        let clock = Clock::System;
        let reserve_bytes = config.store.free_space_reserve_bytes;
        metrics.started(clock.now_ms(), reserve_bytes, config.backup.expected_every());
        // Before the store, whose opening may take long: both, so that both are complained about.
        let certificates = [("public", &config.server.tls), ("admin", &config.admin.tls)];
        let certificates = certificates.map(|(listener, files)| {
            let read = reload::certificates(listener, files.as_ref(), &metrics, clock.now_ms());
            read.map_err(|error| ServerError::Tls { listener, error })
        });
        let [public_certificates, admin_certificates] = all(certificates)?;
        told_to_stop.unless_told()?;
        let (store, identity) = beforehand::open_store(&config.store, &metrics, clock.now_ms())?;
        told_to_stop.unless_told()?;
        store.sampling().set_bytes_per_day(config.inbound.refused_bytes_per_day);
        store.minting_from(clock.now_ms().max(identity.newest_ms + 1));
        let keyring = Arc::new(keyring(&config, identity.click_key));
        let minter = Arc::new(Minter::new(config.server.node, identity.starts, identity.newest_ms));
        let dedup = Deduplicator::new(
            filling_tables(config.dedupe.cache_entries as usize),
            u64::from_ne_bytes(random()?),
            Arc::clone(store.progress()),
        );
        let in_force = Arc::new(ArcSwap::from_pointee(Catalog::default()));
        let defaults = NetworkDefaults {
            currency: config.network.currency,
            time_zone: config.network.time_zone.clone(),
        };
        let (file, swap) = (config.catalog.clone(), Arc::clone(&in_force));
        let meters = Arc::new(Meters::new(Calendar::new(config.network.time_zone.clone())));
        let (kept, metered) = (Arc::clone(&store), Arc::clone(&meters));
        let source = Arc::new(CatalogSource::new(file, defaults, swap, kept, metered));
        let start = Author::file("start");
        background.block_on(reload::catalog(&source, &metrics, &start, clock.now_ms()))?;
        told_to_stop.unless_told()?;
        let market = Market::closed(config.network.currency);
        let rates = RatesSource::load(market.clone(), Arc::clone(&store), config.rates.clone());
        let (rates, reprice) = background.block_on(rates)?;
        let watch = Arc::new(Watch::new(u64::from_ne_bytes(random()?)));
        let throttle = Arc::new(Throttle::new(u64::from_ne_bytes(random()?)));
        let load = Arc::new(Load::new(
            Arc::clone(&throttle),
            config.limits.clicks_per_ip,
            config.limits.postbacks_per_ip,
            config.limits.postbacks_waiting_max as usize,
            Arc::clone(&metrics),
        ));
        let rates = Arc::new(rates);
        background.block_on(reload::rates(&rates, &metrics, &start, clock.now_ms()));
        metrics.loaded(TOKENS_LOADS, None);
        metrics.file_refused("tokens", false);
        let (trigger, drain) = drain();
        let clicks = Clicks {
            catalog: Arc::clone(&in_force),
            keyring: Arc::clone(&keyring),
            minter: Arc::clone(&minter),
            meters: Arc::clone(&meters),
            watch: Arc::clone(&watch),
            store: Arc::clone(&store),
            metrics: Arc::clone(&metrics),
            visitor: Visitor::new(config.click.ip, &identity.click_key),
            strips_without_consent: config.privacy.without_consent == WithoutConsent::Strip,
            ack_deadline: config.click.ack_deadline,
            waiting: Arc::default(),
            fallback_url: config.network.fallback_url.clone(),
        };
        let sender = Visitor::new(config.inbound.ip, &identity.click_key);
        let postbacks = Postbacks {
            catalog: Arc::clone(&in_force),
            market,
            keyring: Arc::clone(&keyring),
            minter,
            dedup: dedup.clone(),
            meters,
            watch,
            nonces: Arc::new(Nonces::new(u64::from_ne_bytes(random()?), clock.now_ms())),
            throttle,
            store: Arc::clone(&store),
            metrics: Arc::clone(&metrics),
            waiting: Arc::default(),
            kept_ip: Arc::new(move |address| sender.keep(address)),
        };
        let workers = match config.server.workers {
            0 => std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            workers => workers as usize,
        };
        beforehand::warn_if_few_files(&config.server, workers, open_files_max());
        let mut routers = Vec::new();
        for _ in 0..workers {
            let waiting = Arc::default();
            store.writer().add_waiting(&waiting);
            routers.push(Arc::new(Router {
                clicks: Clicks { waiting: Arc::clone(&waiting), ..clicks.clone() },
                postbacks: Postbacks { waiting, ..postbacks.clone() },
                metrics: Arc::clone(&metrics),
                load: Arc::clone(&load),
                trusted_proxies: TrustedProxies::new(config.server.trusted_proxies.clone()),
                proxy_protocol: config.server.proxy_protocol,
                country_header: config.click.country_header.as_deref().map(header_name),
                referrer_policy: HeaderValue::from_static(config.click.referrer_policy.as_str()),
                header_read_timeout: config.server.header_read_timeout,
                body_read_timeout: BODY_READ_TIMEOUT,
                refused_bodies: RefusedBodies::default(),
                clock: clock.clone(),
                randomness: Randomness::new(u64::from_ne_bytes(random()?)),
            }));
        }
        let admin = Arc::new(AdminState {
            readiness: Readiness::new(Arc::clone(store.health()), drain.clone()),
            tokens: AdminTokens::new(tokens::of(&config)?),
            store_path: config.store.path.clone(),
            store: Arc::clone(&store),
            catalog: in_force,
            source: Arc::clone(&source),
            jobs: Arc::new(Jobs::new(identity.starts)),
            backups: Backups::configured(&config),
            drain: drain.clone(),
            proofs: Arc::new(Semaphore::new(PROOFS_AT_ONCE_MAX)),
            reports: Arc::new(Semaphore::new(REPORTS_AT_ONCE_MAX)),
            time_zone: config.network.time_zone.clone(),
            catalogs_sent: Arc::new(Semaphore::new(CATALOG_TRANSFERS_MAX)),
            catalogs_received: Arc::new(Semaphore::new(CATALOG_TRANSFERS_MAX)),
            answers: Arc::new(Semaphore::new(ADMIN_ANSWERS_MAX)),
            light_answers: Arc::new(Semaphore::new(ADMIN_LIGHT_ANSWERS_MAX)),
            fraud_reports: Semaphore::new(FRAUD_REPORTS_AT_ONCE_MAX),
            postbacks: postbacks.clone(),
            uploads: Arc::new(Semaphore::new(UPLOADS_MAX)),
            rates,
            keyring,
            dedup,
            clock,
            left_out,
            metrics: Arc::clone(&metrics),
        });
        let proxies = TrustedProxies::new(config.server.trusted_proxies.clone());
        let entrance = Arc::new(Entrance {
            certificates: public_certificates,
            proxies: config.server.proxy_protocol.then_some(proxies),
        });
        let refused = |address| move |error| ServerError::Listen { address, error };
        let address = config.admin.listen;
        let admin_listener = http::bind(address, ADMIN_STALLED_MAX).map_err(refused(address))?;
        let (address, stalled_max) = (config.server.listen, config.server.header_read_timeout);
        let public_listeners =
            http::bind_group(address, stalled_max, workers).map_err(refused(address))?;
        Ok(Self {
            config,
            config_file: config_file.map(Path::to_path_buf),
            store,
            metrics,
            routers,
            postbacks,
            reprice,
            admin,
            source,
            background,
            hangup,
            told_to_stop,
            overdue,
            public_listeners,
            entrance,
            admin_listener,
            admin_certificates,
            drain,
            trigger,
        })
    }

    /// Serves until SIGTERM, SIGINT or a failed disk; then drains.
    ///
    /// # Errors
    /// When a thread cannot be started.
    pub fn run(self) -> Result<Stopped, ServerError> {
        let admission = Admission::new(
            self.config.server.connections_max as usize,
            self.config.server.connections_per_ip_max as usize,
            TrustedProxies::new(self.config.server.trusted_proxies.clone()),
            Arc::clone(&self.metrics),
        );
        let mut workers = Vec::new();
        for (number, (listener, router)) in
            self.public_listeners.into_iter().zip(self.routers).enumerate()
        {
            let waiting = Arc::clone(&router.clicks.waiting);
            let store = Arc::clone(&self.store);
            let (entrance, admission) = (Arc::clone(&self.entrance), Arc::clone(&admission));
            let serving = http::serve(listener, entrance, router, admission, self.drain.clone());
            workers.push(spawn_worker(number, async move {
                tokio::spawn(async move { waiting.attend(|| store.writer().flush()).await });
                // A timer that is to go off before all others of its thread, or is the only one,
                // costs a system call to set. Connections set one for each head; so there always is
                // one before theirs.
                tokio::spawn(async {
                    loop {
                        tokio::time::sleep(WORKER_TICK).await;
                    }
                });
                serving.await
            })?);
        }
        // Its own drain: health and metrics stay reachable until the workers are done.
        let (admin_trigger, admin_drain) = drain();
        self.background.spawn(admin::serve(
            self.admin_listener,
            self.admin_certificates.clone(),
            Arc::clone(&self.admin),
            admin_drain,
        ));
        self.background.spawn(background::housekeeping(
            self.config.clone(),
            Arc::clone(&self.store),
            Arc::clone(&self.metrics),
        ));
        self.background.spawn(background::retention(self.config.clone(), Arc::clone(&self.store)));
        let (admin, every) = (Arc::clone(&self.admin), self.config.backup.every);
        self.background.spawn(async move {
            // What a kill has left of a backup goes before an erasure says that it is done.
            background::look_for_backups(&admin).await;
            tokio::join!(admin::resume_erasures(&admin), background::backups(&admin, every));
        });
        self.background.spawn(background::sealing(Arc::clone(&self.store)));
        self.background.spawn(background::reprice(self.postbacks.clone(), self.reprice));
        self.background.spawn(async move { background::warm(&self.postbacks).await });
        let certificates = [&self.entrance.certificates, &self.admin_certificates];
        let files = reload::Files {
            certificates: certificates.into_iter().flatten().cloned().collect(),
            catalog: self.source,
            admin: Arc::clone(&self.admin),
            configured: self.config.clone(),
            file: self.config_file,
        };
        self.background.spawn(reload::on_signal(self.hangup, files));
        self.admin.readiness.started();
        tracing::info!(public = %self.config.server.listen, admin = %self.config.admin.listen, "serving");
        let deadline = self.config.server.drain_deadline;
        let (stopped, stop) = self.background.block_on(async {
            tokio::select! {
                stop = self.told_to_stop.told() => (Stopped::Drained, stop),
                () = self.store.health().poisoned() => {
                    (Stopped::StorePoisoned, Stop::begin(deadline, self.overdue))
                }
            }
        });
        tracing::info!(because = stopped.as_str(), "draining");
        self.trigger.begin();
        self.store.end_purges();
        let drained = self.background.block_on(async {
            tokio::time::timeout(stop.left_for_requests(), all_finished(workers)).await
        });
        if drained.is_err() {
            tracing::warn!(
                "requests have had their part of the drain deadline; connections still open are cut off"
            );
        }
        admin_trigger.begin();
        // What is handed to the writer after these is the last.
        let kept = async {
            tokio::time::timeout(stop.left_for_background(), self.store.refusals_kept()).await
        };
        let _ = self.background.block_on(kept);
        self.background.shutdown_timeout(stop.left_for_background());
        let _ = self.store.keep_refusals(Clock::System.now_ms());
        self.store.close();
        tracing::info!("stopped");
        Ok(stopped)
    }
}

type Worker = JoinHandle<std::io::Result<()>>;

fn spawn_worker(
    number: usize,
    serving: impl Future<Output = std::io::Result<()>> + Send + 'static,
) -> std::io::Result<Worker> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let name = format!("worker-{number}");
    std::thread::Builder::new().name(name).spawn(move || runtime.block_on(serving))
}

async fn all_finished(workers: Vec<Worker>) {
    for worker in workers {
        match tokio::task::spawn_blocking(move || worker.join()).await {
            Ok(Ok(Ok(()))) => {}
            Ok(Ok(Err(error))) => tracing::error!(%error, "a worker ended badly"),
            Ok(Err(_)) => tracing::error!("a worker panicked"),
            Err(error) => tracing::error!(%error, "a worker was not waited for"),
        }
    }
}

/// All values, or the first error; the others are logged.
fn all<T>(read: [Result<T, ServerError>; 2]) -> Result<[T; 2], ServerError> {
    match read {
        [Ok(first), Ok(second)] => Ok([first, second]),
        [Err(first), Err(second)] => {
            tracing::error!(error = %second, "cannot start");
            Err(first)
        }
        [Err(error), _] | [_, Err(error)] => Err(error),
    }
}

fn keyring(config: &Config, store_key: [u8; 32]) -> Keyring {
    let reveal = |secret: &Secret<[u8; 32]>| *secret.expose();
    let mut retired: Vec<_> = config.click.verification_keys.iter().map(reveal).collect();
    match &config.click.signing_key {
        None => Keyring::new(store_key, retired),
        Some(key) => {
            // What was minted before the key was configured stays genuine.
            retired.push(store_key);
            Keyring::new(reveal(key), retired)
        }
    }
}

fn header_name(name: &str) -> HeaderName {
    HeaderName::from_bytes(name.as_bytes()).expect("the configuration takes header names only")
}

fn random<const N: usize>() -> Result<[u8; N], getrandom::Error> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes)?;
    Ok(bytes)
}
