//! Files that are read at start and again on SIGHUP: the catalog, the exchange rates.

use std::sync::Arc;

use tokio::runtime::Handle;
use tokio::signal::unix::Signal;

use crate::catalog::{CatalogSource, LoadError};
use crate::metrics::{CATALOG_LOADS, Metrics, RATES_LOADS};
use crate::rates::RatesSource;
use crate::time::Clock;

/// Reads the files again at each signal, on threads that may take their time. Signals that come
/// meanwhile are one.
pub(super) async fn on_signal(
    mut hangup: Signal,
    source: Arc<CatalogSource>,
    rates_source: Arc<RatesSource>,
    metrics: Arc<Metrics>,
) {
    while hangup.recv().await.is_some() {
        let (source, rates_source) = (Arc::clone(&source), Arc::clone(&rates_source));
        let (metrics, runtime) = (Arc::clone(&metrics), Handle::current());
        let load = move || {
            runtime.block_on(async {
                // Rates first: what the new catalog prices is priced by them.
                rates(&rates_source, &metrics).await;
                catalog(&source, &metrics, Clock::System.now_ms()).await
            })
        };
        match tokio::task::spawn_blocking(load).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::error!(%error, "catalog not reloaded; the old one stays in force");
            }
            Err(error) => tracing::error!(%error, "the reload ended badly"),
        }
    }
}

/// Brings the catalog into force.
pub(super) async fn catalog(
    source: &CatalogSource,
    metrics: &Metrics,
    now_ms: u64,
) -> Result<(), LoadError> {
    let loaded = source.load(now_ms).await;
    metrics.loaded(CATALOG_LOADS, Some(loaded.is_ok()));
    let warnings = loaded?;
    if !warnings.is_empty() {
        tracing::warn!(%warnings, "the catalog in force has warnings");
    }
    Ok(())
}

/// Brings the file of rates into force, if there is one. A bad one keeps nobody from starting: the
/// store has the rates of before, and a conversion without a rate waits for it.
pub(super) async fn rates(source: &RatesSource, metrics: &Metrics) {
    if !source.has_file() {
        return metrics.loaded(RATES_LOADS, None);
    }
    let loaded = source.load_file().await;
    metrics.loaded(RATES_LOADS, Some(loaded.is_ok()));
    match loaded {
        Ok(days) => tracing::info!(days, "rates in force, with so many days changed"),
        Err(error) => tracing::error!(%error, "rates not loaded; the old ones stay in force"),
    }
}
