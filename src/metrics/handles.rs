//! Ready handles: nothing is looked up by name when a metric is counted.

use std::time::Duration;

use metrics::{
    Counter, Gauge, Histogram, counter, describe_counter, describe_gauge, describe_histogram,
    gauge, histogram, with_local_recorder,
};
use metrics_exporter_prometheus::{
    BuildError, Matcher, PrometheusBuilder, PrometheusHandle, PrometheusRecorder,
};

use super::descriptions::{DESCRIPTIONS, Kind};
use crate::model::admin::AdminResult;
use crate::model::reasons::{
    AuthCheck, AuthOutcome, AuthResult, ClickFallback, Flag, FraudAction, PostbackResult, Refusal,
    Unavailability,
};
use crate::store::Observe;

/// Counts loads of the catalog.
pub const CATALOG_LOADS: &str = "postbackd_catalog_loads_total";
/// Counts loads of the admin API's tokens.
pub const TOKENS_LOADS: &str = "postbackd_admin_token_loads_total";
/// Counts loads of the file of rates.
pub const RATES_LOADS: &str = "postbackd_rates_loads_total";

/// Buckets of times, seconds: from a cache hit to a disk that hangs.
const SECONDS: [f64; 20] = [
    0.000_05, 0.000_1, 0.000_2, 0.000_3, 0.000_5, 0.000_75, 0.001, 0.001_5, 0.002, 0.003, 0.005,
    0.007_5, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 2.5, 10.0,
];
/// Buckets of batch sizes, commits.
const COMMITS: [f64; 9] = [1.0, 4.0, 16.0, 64.0, 128.0, 256.0, 1024.0, 4096.0, 16384.0];
/// Buckets of batch sizes, bytes.
const BYTES: [f64; 7] = [256.0, 1024.0, 4096.0, 16384.0, 65536.0, 262_144.0, 1_048_576.0];

/// All of the server's metrics, and the way to read them.
pub struct Metrics {
    /// Clicks.
    pub clicks: ClickMetrics,
    /// Postbacks.
    pub postbacks: PostbackMetrics,
    /// Connections of the public listener.
    pub connections: ConnectionMetrics,
    /// Requests to the admin API.
    pub admin: AdminMetrics,
    recorder: PrometheusRecorder,
    handle: PrometheusHandle,
}

impl Metrics {
    /// Registers every metric.
    ///
    /// # Errors
    /// When the exporter refuses the buckets.
    pub fn new() -> Result<Self, BuildError> {
        let recorder = PrometheusBuilder::new()
            .set_buckets_for_metric(Matcher::Suffix("_seconds".into()), &SECONDS)?
            .set_buckets_for_metric(Matcher::Suffix("_commits".into()), &COMMITS)?
            .set_buckets_for_metric(Matcher::Suffix("_bytes".into()), &BYTES)?
            .build_recorder();
        let handle = recorder.handle();
        let (clicks, postbacks, connections, admin) = with_local_recorder(&recorder, || {
            describe();
            gauge!("postbackd_build_info", "version" => env!("CARGO_PKG_VERSION")).set(1.0);
            let (clicks, postbacks) = (ClickMetrics::register(), PostbackMetrics::register());
            (clicks, postbacks, ConnectionMetrics::register(), AdminMetrics::register())
        });
        Ok(Self { clicks, postbacks, connections, admin, recorder, handle })
    }

    /// The store's metrics, for the store to observe itself with.
    #[must_use]
    pub fn store(&self) -> StoreMetrics {
        with_local_recorder(&self.recorder, StoreMetrics::register)
    }

    /// Runs `set` with this registry as the recorder: for values read only when asked for.
    pub fn record(&self, set: impl FnOnce()) {
        with_local_recorder(&self.recorder, set);
    }

    /// What holds from the start on: its time, Unix milliseconds, the reserve of free space, and how
    /// often there should be a backup, if there are any.
    pub fn started(&self, now_ms: u64, reserve_bytes: u64, backup_every: Option<Duration>) {
        self.record(|| {
            gauge!("process_start_time_seconds").set(now_ms as f64 / 1000.0);
            gauge!("postbackd_store_reserve_bytes").set(reserve_bytes as f64);
            if let Some(every) = backup_every {
                gauge!("postbackd_backup_every_seconds").set(every.as_secs_f64());
            }
        });
    }

    /// Counts a load of what [`CATALOG_LOADS`] and its like name, if there was one (`None` else); both results, so that each series is there from the start on.
    pub fn loaded(&self, what: &'static str, applied: Option<bool>) {
        self.record(|| {
            for (result, is_it) in [("applied", true), ("refused", false)] {
                counter!(what, "result" => result).increment(u64::from(applied == Some(is_it)));
            }
        });
    }

    /// Whether what a file said when it was read last is refused, and what was in force before stays.
    pub fn file_refused(&self, file: &'static str, is_refused: bool) {
        self.record(|| {
            gauge!("postbackd_file_refused", "file" => file).set(f64::from(u8::from(is_refused)));
        });
    }

    /// Counts a load of a listener's certificates: until when the first is valid (Unix seconds), or
    /// that they were refused; both results, as [`Self::loaded`].
    pub fn certificates(&self, listener: &'static str, until_s: Option<i64>) {
        self.record(|| {
            let refused = f64::from(u8::from(until_s.is_none()));
            gauge!("postbackd_tls_refused", "listener" => listener).set(refused);
            for (result, applied) in [("applied", true), ("refused", false)] {
                counter!("postbackd_tls_loads_total", "listener" => listener, "result" => result)
                    .increment(u64::from(until_s.is_some() == applied));
            }
            if let Some(until_s) = until_s {
                gauge!("postbackd_tls_certificate_expiry_timestamp_seconds", "listener" => listener)
                    .set(until_s as f64);
            }
        });
    }

    /// Counts a backup, if there was one (`None` else): how long it took and its bytes, or that
    /// there is none; both results, as [`Self::loaded`].
    pub fn backed_up(&self, ended: Option<Option<(Duration, u64)>>) {
        self.record(|| {
            for (result, succeeded) in [("succeeded", true), ("failed", false)] {
                let is_it = ended.is_some_and(|taken| taken.is_some() == succeeded);
                counter!("postbackd_backups_total", "result" => result).increment(u64::from(is_it));
            }
            if let Some((took, bytes)) = ended.flatten() {
                gauge!("postbackd_backup_duration_seconds").set(took.as_secs_f64());
                gauge!("postbackd_backup_size_bytes").set(bytes as f64);
            }
        });
    }

    /// All metrics in Prometheus text format.
    #[must_use]
    pub fn render(&self) -> String {
        self.handle.render()
    }

    /// Moves recorded samples into their buckets; to be called every few seconds, so that they
    /// do not pile up while nobody scrapes.
    pub fn upkeep(&self) {
        self.handle.run_upkeep();
    }
}

fn describe() {
    for metric in DESCRIPTIONS {
        match metric.kind {
            Kind::Counter => describe_counter!(metric.name, metric.help),
            Kind::Gauge => describe_gauge!(metric.name, metric.help),
            Kind::Histogram => describe_histogram!(metric.name, metric.help),
        }
    }
}

/// Counts clicks.
pub struct ClickMetrics {
    redirected: Counter,
    fallbacks: Vec<Counter>,
    /// Redirected before the disk confirmed.
    pub unconfirmed: Counter,
    /// Redirected without a record.
    pub unrecorded: Counter,
    flags: Vec<(Flag, Counter)>,
    seconds: Histogram,
}

impl ClickMetrics {
    fn register() -> Self {
        let fallback = |reason: &ClickFallback| counter!("postbackd_click_fallbacks_total", "reason" => reason.as_str());
        let flag =
            |rule: &Flag| (*rule, counter!("postbackd_click_flags_total", "rule" => rule.as_str()));
        Self {
            redirected: counter!("postbackd_clicks_total"),
            fallbacks: ClickFallback::ALL.iter().map(fallback).collect(),
            unconfirmed: counter!("postbackd_clicks_unconfirmed_total"),
            unrecorded: counter!("postbackd_clicks_unrecorded_total"),
            flags: Flag::CLICK_RULES.iter().map(flag).collect(),
            seconds: histogram!("postbackd_click_seconds"),
        }
    }

    /// A click was answered.
    pub fn answered(&self, fallback: Option<ClickFallback>, took: Duration) {
        match fallback {
            None => self.redirected.increment(1),
            Some(reason) => self.fallbacks[reason.index()].increment(1),
        }
        self.seconds.record(took);
    }

    /// A click broke these rules.
    pub fn flagged(&self, flags: u32) {
        for (_, counter) in self.flags.iter().filter(|(rule, _)| flags & rule.bit() != 0) {
            counter.increment(1);
        }
    }
}

/// Counts postbacks.
pub struct PostbackMetrics {
    results: Vec<Counter>,
    refusals: Vec<Counter>,
    unavailable: Vec<Counter>,
    flags: Vec<Counter>,
    fraud: Vec<(Flag, Counter, Counter)>,
    auth: Vec<Vec<Counter>>,
    /// Dry runs.
    pub dry_runs: Counter,
    /// Those that wait now for a body, a read or each other.
    pub waiting: Gauge,
    seconds: Histogram,
}

impl PostbackMetrics {
    fn register() -> Self {
        let result = |word: &PostbackResult| counter!("postbackd_postbacks_total", "result" => word.as_str());
        let refusal = |word: &Refusal| counter!("postbackd_postback_refusals_total", "reason" => word.as_str());
        let unavailable = |word: &Unavailability| counter!("postbackd_postback_unavailable_total", "reason" => word.as_str());
        let flag =
            |word: &Flag| counter!("postbackd_conversion_flags_total", "flag" => word.as_str());
        let fraud = |rule: &Flag| {
            let of = |action: FraudAction| counter!("postbackd_fraud_total", "rule" => rule.as_str(), "action" => action.as_str());
            (*rule, of(FraudAction::Flag), of(FraudAction::Reject))
        };
        let results_of = |check: &AuthCheck| {
            let of = |result: &AuthResult| counter!("postbackd_auth_checks_total", "check" => check.as_str(), "result" => result.as_str());
            AuthResult::ALL.iter().map(of).collect()
        };
        Self {
            results: PostbackResult::ALL.iter().map(result).collect(),
            refusals: Refusal::ALL.iter().map(refusal).collect(),
            unavailable: Unavailability::ALL.iter().map(unavailable).collect(),
            flags: Flag::ALL.iter().map(flag).collect(),
            fraud: Flag::FRAUD_RULES.iter().map(fraud).collect(),
            auth: AuthCheck::ALL.iter().map(results_of).collect(),
            dry_runs: counter!("postbackd_postback_dry_runs_total"),
            waiting: gauge!("postbackd_postbacks_waiting"),
            seconds: histogram!("postbackd_postback_seconds"),
        }
    }

    /// A postback was answered.
    pub fn answered(&self, result: PostbackResult, took: Duration) {
        self.results[result.index()].increment(1);
        self.seconds.record(took);
    }

    /// A postback was refused.
    pub fn refused(&self, reason: Refusal) {
        self.refusals[reason.index()].increment(1);
    }

    /// Checks of who sent a postback were made.
    pub fn authenticated(&self, outcome: AuthOutcome) {
        if outcome == AuthOutcome::default() {
            return;
        }
        for (result, counters) in outcome.iter().zip(&self.auth) {
            if let Some(result) = result {
                counters[result.index()].increment(1);
            }
        }
    }

    /// A postback could not be taken now.
    pub fn unavailable(&self, reason: Unavailability) {
        self.unavailable[reason.index()].increment(1);
    }

    /// A conversion was accepted with these flags, `rejected_by` being those that have rejected it.
    pub fn flagged(&self, flags: u32, rejected_by: u32) {
        if flags == 0 {
            return;
        }
        for flag in Flag::in_bits(flags) {
            self.flags[flag.index()].increment(1);
        }
        for (rule, flagged, rejected) in &self.fraud {
            match (flags & rule.bit() != 0, rejected_by & rule.bit() != 0) {
                (true, true) => rejected.increment(1),
                (true, false) => flagged.increment(1),
                (false, _) => {}
            }
        }
    }
}

/// Counts the public listener's connections.
pub struct ConnectionMetrics {
    /// Accepted.
    pub accepted: Counter,
    /// Closed at once: too many in total.
    pub over_total: Counter,
    /// Closed at once: too many from one address.
    pub over_address: Counter,
    /// Closed at once: not from a proxy that may connect.
    pub proxy_untrusted: Counter,
    /// Closed: a proxy sent no header that says whose connection it is.
    pub proxy_malformed: Counter,
    /// Requests of which a trusted proxy's `X-Forwarded-For` does not say whose they are.
    pub forwarded_unreadable: Counter,
    /// Those in which a trusted proxy names no visitor.
    pub forwarded_missing: Counter,
    /// Those with an `X-Forwarded-For` of somebody who is no trusted proxy.
    pub forwarded_untrusted: Counter,
    /// Connections that ended with what is no HTTP request.
    pub not_http: Counter,
    /// TLS handshakes that succeeded.
    pub handshakes_completed: Counter,
    /// TLS handshakes that failed.
    pub handshakes_failed: Counter,
    /// TLS handshakes that took too long.
    pub handshakes_late: Counter,
    /// Open now.
    pub open: Gauge,
}

impl ConnectionMetrics {
    fn register() -> Self {
        let refused = |reason: &'static str| counter!("postbackd_connections_refused_total", "reason" => reason);
        let shaken =
            |result: &'static str| counter!("postbackd_tls_handshakes_total", "result" => result);
        Self {
            accepted: counter!("postbackd_connections_total"),
            over_total: refused("connections_max"),
            over_address: refused("connections_per_ip_max"),
            proxy_untrusted: refused("proxy_untrusted"),
            proxy_malformed: refused("proxy_malformed"),
            forwarded_unreadable: counter!("postbackd_forwarded_unreadable_total"),
            forwarded_missing: counter!("postbackd_forwarded_missing_total"),
            forwarded_untrusted: counter!("postbackd_forwarded_untrusted_total"),
            not_http: counter!("postbackd_requests_malformed_total"),
            handshakes_completed: shaken("completed"),
            handshakes_failed: shaken("failed"),
            handshakes_late: shaken("late"),
            open: gauge!("postbackd_connections"),
        }
    }
}

/// Counts requests to the admin API.
pub struct AdminMetrics(Vec<Counter>);

impl AdminMetrics {
    fn register() -> Self {
        let result = |word: &AdminResult| counter!("postbackd_admin_requests_total", "result" => word.as_str());
        Self(AdminResult::ALL.iter().map(result).collect())
    }

    /// A request's token was looked at.
    pub fn answered(&self, result: AdminResult) {
        self.0[result.index()].increment(1);
    }
}

/// What the writer's stages report.
pub struct StoreMetrics {
    commits: Counter,
    append_seconds: Histogram,
    sync_seconds: Histogram,
    batch_commits: Histogram,
    batch_bytes: Histogram,
}

impl StoreMetrics {
    fn register() -> Self {
        Self {
            commits: counter!("postbackd_store_commits_total"),
            append_seconds: histogram!("postbackd_store_append_seconds"),
            sync_seconds: histogram!("postbackd_store_sync_seconds"),
            batch_commits: histogram!("postbackd_store_batch_commits"),
            batch_bytes: histogram!("postbackd_store_batch_bytes"),
        }
    }
}

impl Observe for StoreMetrics {
    fn appended(&self, _commits: usize, bytes: usize, took: Duration) {
        self.append_seconds.record(took);
        self.batch_bytes.record(bytes as f64);
    }

    fn synced(&self, commits: usize, took: Duration) {
        self.commits.increment(commits as u64);
        self.sync_seconds.record(took);
        self.batch_commits.record(commits as f64);
    }
}
