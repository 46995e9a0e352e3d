//! Files that are read at start and again on SIGHUP: certificates, the catalog, the exchange rates.

use std::sync::Arc;

use tokio::runtime::Handle;
use tokio::signal::unix::Signal;

use crate::catalog::{CatalogSource, LoadError};
use crate::config::Tls;
use crate::metrics::{CATALOG_LOADS, Metrics, RATES_LOADS};
use crate::rates::RatesSource;
use crate::time::Clock;
use crate::tls::{Certificates, Loaded, TlsError};

/// Reads the files again at each signal, on threads that may take their time. Signals that come
/// meanwhile are one.
pub(super) async fn on_signal(
    mut hangup: Signal,
    source: Arc<CatalogSource>,
    rates_source: Arc<RatesSource>,
    certificates: Vec<Arc<Certificates>>,
    metrics: Arc<Metrics>,
) {
    while hangup.recv().await.is_some() {
        let (source, rates_source) = (Arc::clone(&source), Arc::clone(&rates_source));
        let (metrics, runtime) = (Arc::clone(&metrics), Handle::current());
        let certificates = certificates.clone();
        let load = move || {
            for certificates in &certificates {
                let loaded = certificates.reload(Clock::System.now_ms());
                if let Err(error) = in_force(certificates.listener(), loaded, &metrics) {
                    let listener = certificates.listener();
                    tracing::error!(%error, listener, "certificates not reloaded; the old ones stay in force");
                }
            }
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

/// Reads a listener's certificates for the first time, if it has some.
pub(super) fn certificates(
    listener: &'static str,
    files: Option<&Tls>,
    metrics: &Metrics,
    now_ms: u64,
) -> Result<Option<Arc<Certificates>>, TlsError> {
    let Some(files) = files else { return Ok(None) };
    let (certificates, loaded) = Certificates::load(listener, files, now_ms)?;
    in_force(listener, Ok(loaded), metrics)?;
    Ok(Some(Arc::new(certificates)))
}

fn in_force(
    listener: &'static str,
    loaded: Result<Loaded, TlsError>,
    metrics: &Metrics,
) -> Result<(), TlsError> {
    let until_s = loaded.as_ref().ok().map(|loaded| loaded.validity.until_s);
    metrics.certificates(listener, until_s);
    let loaded = loaded?;
    for warning in &loaded.warnings {
        tracing::warn!(%warning, listener, "certificates in force");
    }
    tracing::info!(until = %loaded.validity, listener, "certificates in force");
    Ok(())
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
