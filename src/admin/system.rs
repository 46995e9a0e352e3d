//! Health and metrics.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use metrics::{counter, gauge};

use super::server::AdminState;
use crate::auth::{Auth, Gap};
use crate::space::free_bytes;

/// Alive: the process answers.
#[utoipa::path(
    get, path = "/healthz", operation_id = "get_health", tag = "system",
    responses((status = 200, description = "Alive.", body = String)),
)]
pub async fn healthz() -> &'static str {
    "ok\n"
}

/// Ready: clicks and postbacks are taken. 503 with the obstacles otherwise.
#[utoipa::path(
    get, path = "/readyz", operation_id = "get_readiness", tag = "system",
    responses(
        (status = 200, description = "Ready.", body = String),
        (status = 503, description = "Not ready: a line per obstacle.", body = String),
    ),
)]
pub async fn readyz(State(state): State<Arc<AdminState>>) -> Response {
    let obstacles = state.readiness.obstacles();
    if obstacles.is_empty() {
        return "ready\n".into_response();
    }
    (StatusCode::SERVICE_UNAVAILABLE, obstacles.join("\n") + "\n").into_response()
}

/// All metrics; those that are only worth reading now are read now.
#[utoipa::path(
    get, path = "/metrics", operation_id = "get_metrics", tag = "system",
    responses((status = 200, description = "In Prometheus' text format.", body = String)),
)]
pub async fn metrics(State(state): State<Arc<AdminState>>) -> Response {
    state.metrics.record(|| set_gauges(&state));
    let content_type = [(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")];
    (content_type, state.metrics.render()).into_response()
}

fn set_gauges(state: &AdminState) {
    let health = state.store.health();
    let (refused, duplicate) = state.store.sampling().dropped();
    for (result, dropped) in [("refused", refused), ("duplicate", duplicate)] {
        counter!("postbackd_inbound_dropped_total", "result" => result).absolute(dropped);
    }
    let (collected, appended) = state.store.writer().queued();
    gauge!("postbackd_store_queue_commits", "stage" => "append").set(collected as f64);
    gauge!("postbackd_store_queue_commits", "stage" => "sync").set(appended as f64);
    gauge!("postbackd_store_poisoned").set(flag(health.poison_reason().is_some()));
    gauge!("postbackd_store_disk_full").set(flag(health.is_disk_full()));
    if let Ok(free) = free_bytes(&state.store_path) {
        gauge!("postbackd_store_free_bytes").set(free as f64);
    }
    let (capacity, entries, pending) = state.dedup.fill();
    gauge!("postbackd_dedupe_cache_capacity").set(capacity as f64);
    gauge!("postbackd_dedupe_cache_entries").set(entries as f64);
    gauge!("postbackd_store_unfiled_conversions").set(state.store.progress().unfiled() as f64);
    if let Ok(uncounted_ms) = state.store.uncounted_ms() {
        gauge!("postbackd_store_uncounted_seconds").set(uncounted_ms as f64 / 1000.0);
    }
    gauge!("postbackd_dedupe_pending").set(pending as f64);
    let disbelieved_ms = state.store.clock_disbelieved_ms();
    gauge!("postbackd_retention_clock_ahead_seconds").set(disbelieved_ms as f64 / 1000.0);
    state.store.gauges(|name, table, value| {
        let name = format!("postbackd_rocksdb_{name}");
        let gauge = match table {
            Some(table) => gauge!(name, "table" => table.name()),
            None => gauge!(name),
        };
        gauge.set(value as f64);
    });
    let counts = state.catalog.load().counts();
    for (kind, count) in [
        ("advertisers", counts.advertisers),
        ("offers", counts.offers),
        ("affiliates", counts.affiliates),
        ("links", counts.links),
    ] {
        gauge!("postbackd_catalog_entries", "kind" => kind).set(count as f64);
    }
    if let Some(backups) = &state.backups {
        let age_ms = backups.age_ms(state.clock.now_ms());
        let age = age_ms.map_or(f64::INFINITY, |age_ms| age_ms as f64 / 1000.0);
        gauge!("postbackd_backup_age_seconds").set(age);
    }
    let (catalog, now_ms) = (state.catalog.load(), state.clock.now_ms());
    let ahead_ms = state.postbacks.minter.ahead_ms(now_ms);
    gauge!("postbackd_ids_ahead_seconds").set(ahead_ms as f64 / 1000.0);
    let oldest_ms = catalog.auths().flat_map(|auth| auth.valid_since(now_ms)).min();
    let age_ms = oldest_ms.map_or(0, |since| now_ms.saturating_sub(since));
    gauge!("postbackd_auth_secret_age_seconds").set((age_ms / 1000) as f64);
    // A check that has none is counted apart, so as not to hide the next end at another.
    let (mut without, mut left) = (0_u32, f64::INFINITY);
    for (_, gap) in catalog.auths().flat_map(|auth| auth.gaps(now_ms)) {
        match gap {
            Gap::Now(_) => without += 1,
            Gap::From(end_ms) => left = left.min((end_ms - now_ms) as f64 / 1000.0),
        }
    }
    gauge!("postbackd_auth_checks_without_secret").set(without);
    gauge!("postbackd_auth_secret_left_seconds").set(left);
    let unreadable: usize = catalog.auths().map(Auth::unreadable).sum();
    gauge!("postbackd_auth_secrets_unreadable").set(unreadable as f64);
    counter!("postbackd_log_lines_left_out_total").absolute(state.left_out.count());
    gauge!("postbackd_ready").set(flag(state.readiness.obstacles().is_empty()));
    if let Some(resident) = crate::space::resident_bytes() {
        gauge!("postbackd_resident_memory_bytes").set(resident as f64);
    }
}

fn flag(on: bool) -> f64 {
    if on { 1.0 } else { 0.0 }
}
