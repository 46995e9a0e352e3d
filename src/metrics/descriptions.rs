//! The table of metrics: `docs/metrics.md` and the registry are both held to it.

/// What kind of time series a metric is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Distribution in buckets.
    Histogram,
}

impl Kind {
    /// The word in the documentation.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// One metric.
#[derive(Clone, Copy, Debug)]
pub struct Description {
    /// Full name.
    pub name: &'static str,
    /// Kind.
    pub kind: Kind,
    /// Labels, comma-separated; empty if none. Their values are bounded sets.
    pub labels: &'static str,
    /// What it says.
    pub help: &'static str,
}

/// Declares the table: kind, name, by which labels, and what it says.
macro_rules! descriptions {
    ($($kind:ident $name:literal $(by $labels:literal)?: $help:literal;)+) => {
        /// All metrics, in the order of the documentation.
        pub const DESCRIPTIONS: &[Description] = &[$(Description {
            name: $name,
            kind: Kind::$kind,
            labels: concat!($($labels)?),
            help: $help,
        },)+];
    };
}

descriptions! {
    Counter "postbackd_clicks_total":
        "Clicks redirected to an offer.";
    Counter "postbackd_click_fallbacks_total" by "reason":
        "Clicks that went to a fallback, or nowhere, by reason.";
    Counter "postbackd_clicks_unconfirmed_total":
        "Clicks redirected before the disk had confirmed them, because the deadline passed.";
    Counter "postbackd_clicks_unrecorded_total":
        "Clicks redirected without a record, because the store took none.";
    Counter "postbackd_click_flags_total" by "rule":
        "Clicks that broke a fraud rule.";
    Histogram "postbackd_click_seconds":
        "Time from a click's request to its redirect.";
    Counter "postbackd_postbacks_total" by "result":
        "Postbacks answered, by result.";
    Counter "postbackd_postback_refusals_total" by "reason":
        "Postbacks refused, by reason.";
    Counter "postbackd_postback_unavailable_total" by "reason":
        "Postbacks not taken now, by reason.";
    Counter "postbackd_auth_checks_total" by "check,result":
        "Checks of what the senders of postbacks show, by result.";
    Gauge "postbackd_auth_checks_without_secret":
        "Checks that advertisers enforce and that have no valid secret now; they refuse every postback.";
    Gauge "postbackd_auth_secret_age_seconds":
        "Age of the oldest secret of an advertiser that is valid and says since when; 0 if none does.";
    Gauge "postbackd_auth_secret_left_seconds":
        "Time until the first check that an advertiser enforces has no valid secret any more; infinite if that comes to none. One that has none already does not count.";
    Gauge "postbackd_auth_secrets_unreadable":
        "Secrets of advertisers that could not be read; nothing matches them.";
    Counter "postbackd_postback_dry_runs_total":
        "Dry runs answered.";
    Gauge "postbackd_postbacks_waiting":
        "Postbacks that wait for their body, for a read or for each other.";
    Counter "postbackd_conversion_flags_total" by "flag":
        "Flags set on conversions, new ones and those that a postback has changed.";
    Counter "postbackd_fraud_total" by "rule,action":
        "Accepted conversions that a fraud rule has flagged or rejected.";
    Histogram "postbackd_postback_seconds":
        "Time from a postback's request to its answer.";
    Counter "postbackd_connections_total":
        "Connections accepted on the public listener.";
    Counter "postbackd_connections_refused_total" by "reason":
        "Connections closed before the first request, by limit or for want of a proxy's word.";
    Counter "postbackd_requests_malformed_total":
        "Requests that are no HTTP, answered with 400 and nothing else known of them: a blank, a < or bytes that are not UTF-8 in a URL that was not encoded, or no HTTP at all.";
    Gauge "postbackd_connections":
        "Connections open on the public listener.";
    Counter "postbackd_forwarded_unreadable_total":
        "Clicks and postbacks whose X-Forwarded-For has no address where the visitor's should be; they count as the proxy's.";
    Counter "postbackd_forwarded_missing_total":
        "Clicks and postbacks of which a trusted proxy names no visitor in X-Forwarded-For; they count as the proxy's.";
    Counter "postbackd_forwarded_untrusted_total":
        "Clicks and postbacks with an X-Forwarded-For that does not count, because it is not of a trusted proxy.";
    Counter "postbackd_tls_handshakes_total" by "result":
        "TLS handshakes on the public listener: completed, failed, late.";
    Counter "postbackd_store_commits_total":
        "Commits made durable: clicks, conversions, and the store's own.";
    Histogram "postbackd_store_append_seconds":
        "Time to apply one batch to log buffer and memtable.";
    Histogram "postbackd_store_sync_seconds":
        "Time of one flush and fsync.";
    Histogram "postbackd_store_batch_commits":
        "Commits made durable by one fsync.";
    Histogram "postbackd_store_batch_bytes":
        "Bytes of one appended batch.";
    Gauge "postbackd_store_queue_commits" by "stage":
        "Commits waiting to be appended or synced.";
    Gauge "postbackd_store_unfiled_conversions":
        "Conversions whose index rows are not written yet.";
    Gauge "postbackd_store_uncounted_seconds":
        "How far the sums of reports are behind the newest click or conversion; reports add the rest.";
    Gauge "postbackd_ids_ahead_seconds":
        "How far the times of new click IDs are ahead of the clock, which was ahead once.";
    Gauge "postbackd_retention_clock_ahead_seconds":
        "How far the clock is ahead of the time that retention goes by, while it is not believed.";
    Gauge "postbackd_store_poisoned":
        "1 after a failed write or fsync.";
    Gauge "postbackd_store_free_bytes":
        "Free space on the store's disk.";
    Gauge "postbackd_store_reserve_bytes":
        "Free space below which postbacks are refused: store.free_space_reserve.";
    Gauge "postbackd_store_disk_full":
        "1 while free space is below the reserve.";
    Counter "postbackd_backups_total" by "result":
        "Backups, succeeded or failed.";
    Gauge "postbackd_backup_duration_seconds":
        "How long the last backup took.";
    Gauge "postbackd_backup_size_bytes":
        "Size of the last backup.";
    Gauge "postbackd_backup_every_seconds":
        "How often there should be a backup: backup.every, or a day without it.";
    Gauge "postbackd_backup_age_seconds":
        "Time since the newest complete backup was begun that is not of a time to come; infinite if there is none.";
    Gauge "postbackd_dedupe_cache_entries":
        "Settled claims in memory.";
    Gauge "postbackd_dedupe_cache_capacity":
        "Settled claims that fit into memory.";
    Gauge "postbackd_dedupe_pending":
        "Claims waiting for the disk.";
    Gauge "postbackd_rocksdb_files_level0" by "table":
        "Table files at level 0.";
    Gauge "postbackd_rocksdb_memtable_bytes" by "table":
        "Memory of all memtables.";
    Gauge "postbackd_rocksdb_table_bytes" by "table":
        "Size of all table files.";
    Gauge "postbackd_rocksdb_compaction_pending_bytes" by "table":
        "Estimate of what waits for compaction.";
    Gauge "postbackd_rocksdb_keys_estimate" by "table":
        "Estimated number of keys.";
    Gauge "postbackd_rocksdb_write_stopped" by "table":
        "1 while RocksDB has stopped writes.";
    Gauge "postbackd_rocksdb_write_delayed_bytes_per_second":
        "To what RocksDB slows all writes while it cannot merge files as fast as they come; 0 while it does not.";
    Counter "postbackd_inbound_dropped_total" by "result":
        "Refused postbacks and duplicates beyond the budget, of which the log has a sample.";
    Gauge "postbackd_catalog_entries" by "kind":
        "Advertisers, offers, affiliates and links in the catalog.";
    Counter "postbackd_catalog_loads_total" by "result":
        "Catalog loads, applied or refused.";
    Counter "postbackd_rates_loads_total" by "result":
        "Loads of the file of exchange rates, applied or refused.";
    Counter "postbackd_admin_requests_total" by "result":
        "Requests to the admin API, by whether their token allows them.";
    Counter "postbackd_admin_token_loads_total" by "result":
        "Loads of the admin API's tokens, applied or refused.";
    Counter "postbackd_tls_loads_total" by "listener,result":
        "Loads of a listener's certificates, applied or refused.";
    Gauge "postbackd_file_refused" by "file":
        "1 while a file, or a secret that the catalog names, as it was read last is refused, and what was in force before stays so.";
    Gauge "postbackd_tls_refused" by "listener":
        "1 while a listener's certificates as they were read last are refused.";
    Gauge "postbackd_tls_certificate_expiry_timestamp_seconds" by "listener":
        "Unix time at which the certificate of a listener in force expires.";
    Counter "postbackd_log_lines_left_out_total":
        "Lines that the log lacks, because whoever reads it was too slow or the disk did not take them.";
    Gauge "postbackd_ready":
        "1 while the server is ready.";
    Gauge "postbackd_build_info" by "version":
        "Always 1; the version is the label.";
    Gauge "postbackd_resident_memory_bytes":
        "Memory of the process that is in RAM.";
    Gauge "process_start_time_seconds":
        "Unix time at which the process started.";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_the_rules() {
        for (place, metric) in DESCRIPTIONS.iter().enumerate() {
            let is_everybodys = metric.name == "process_start_time_seconds";
            assert!(metric.name.starts_with("postbackd_") || is_everybodys, "{}", metric.name);
            let is_counter = metric.kind == Kind::Counter;
            assert_eq!(is_counter, metric.name.ends_with("_total"), "{}", metric.name);
            assert!(!metric.name.ends_with("_ms"), "base units only: {}", metric.name);
            assert!(metric.help.ends_with('.'), "{}", metric.name);
            assert!(
                DESCRIPTIONS[..place].iter().all(|other| other.name != metric.name),
                "{}",
                metric.name
            );
        }
    }
}
