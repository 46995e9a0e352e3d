//! Files that are read at start and again on SIGHUP: certificates, the catalog, the exchange rates,
//! the admin API's tokens.

use std::path::PathBuf;
use std::sync::Arc;

use serde_json::Value;
use tokio::runtime::Handle;
use tokio::signal::unix::Signal;
use tokio::sync::mpsc::{self, error::TrySendError};

use super::tokens;
use crate::admin::AdminState;
use crate::audit::Author;
use crate::catalog::{CatalogSource, LoadError};
use crate::config::{Config, Tls};
use crate::limits::RELOADS_BEHIND_MAX;
use crate::metrics::{CATALOG_LOADS, Metrics, RATES_LOADS, TOKENS_LOADS};
use crate::model::admin::{AuditAction, KnownToken};
use crate::rates::RatesSource;
use crate::time::Clock;
use crate::tls::{Certificates, Loaded, TlsError};

/// What is read again.
#[derive(Clone)]
pub(super) struct Files {
    pub certificates: Vec<Arc<Certificates>>,
    pub catalog: Arc<CatalogSource>,
    /// Has the rates, and the tokens in force.
    pub admin: Arc<AdminState>,
    /// The configuration that the server was started with.
    pub configured: Config,
    /// Where it was read.
    pub file: Option<PathBuf>,
}

/// Reads the files again at each signal, on threads that may take their time. What takes effect
/// without the store, and may be taken away from somebody, does so at each; what the store has to
/// keep follows, so that a disk that hangs holds up nothing but that.
pub(super) async fn on_signal(mut hangup: Signal, files: Files) {
    let (at_once, behind) = mpsc::channel(RELOADS_BEHIND_MAX);
    tokio::spawn(reload_behind(behind, files.clone()));
    while hangup.recv().await.is_some() {
        let files = files.clone();
        let load = move || {
            certificates_again(&files);
            tokens_again(&files)
        };
        let changed = match tokio::task::spawn_blocking(load).await {
            Ok(changed) => changed,
            Err(error) => {
                tracing::error!(%error, "the reload ended badly");
                None
            }
        };
        // Where it is full, somebody is about to read the files who has not begun.
        if let Err(TrySendError::Full(Some(_))) = at_once.try_send(changed) {
            tracing::warn!("a change of tokens is not in the audit log: the disk takes nothing");
        }
    }
}

/// Reads again what the store has to keep. Signals that come meanwhile are one, but each change of
/// tokens is kept.
async fn reload_behind(mut signals: mpsc::Receiver<Option<TokensChanged>>, files: Files) {
    let mut changes = Vec::new();
    while signals.recv_many(&mut changes, RELOADS_BEHIND_MAX).await > 0 {
        let (files, runtime) = (files.clone(), Handle::current());
        let changes: Vec<_> = changes.drain(..).flatten().collect();
        let load = move || {
            runtime.block_on(async {
                let by = Author::file("SIGHUP");
                for TokensChanged { at_ms, details } in changes {
                    let entry = by.entry(at_ms, AuditAction::Tokens, "", &details);
                    if let Err(error) = files.admin.store.keep_audit(&entry.as_stored()).await {
                        tracing::warn!(%error, "the change of tokens is not in the audit log");
                    }
                }
                let (metrics, now_ms) = (&files.admin.metrics, Clock::System.now_ms());
                // Rates before the catalog: what the new one prices is priced by them.
                rates(&files.admin.rates, metrics, &by, now_ms).await;
                catalog(&files.catalog, metrics, &by, now_ms).await
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

fn certificates_again(files: &Files) {
    for certificates in &files.certificates {
        let (listener, metrics) = (certificates.listener(), &files.admin.metrics);
        let loaded = certificates.reload(Clock::System.now_ms());
        if let Err(error) = in_force(listener, loaded, metrics) {
            tracing::error!(%error, listener, "certificates not reloaded; the old ones stay in force");
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
    by: &Author,
    now_ms: u64,
) -> Result<(), LoadError> {
    let loaded = source.load(by, now_ms).await;
    metrics.file_refused("catalog", loaded.is_err());
    metrics.loaded(CATALOG_LOADS, Some(loaded.is_ok()));
    let warnings = loaded?;
    if !warnings.is_empty() {
        tracing::warn!(%warnings, "the catalog in force has warnings");
    }
    Ok(())
}

/// Brings the file of rates into force, if there is one. A bad one keeps nobody from starting: the
/// store has the rates of before, and a conversion without a rate waits for it.
pub(super) async fn rates(source: &RatesSource, metrics: &Metrics, by: &Author, now_ms: u64) {
    if !source.has_file() {
        metrics.file_refused("rates", false);
        return metrics.loaded(RATES_LOADS, None);
    }
    let loaded = source.load_file(by, now_ms).await;
    metrics.file_refused("rates", loaded.is_err());
    metrics.loaded(RATES_LOADS, Some(loaded.is_ok()));
    match loaded {
        Ok(days) => tracing::info!(days, "rates in force, with so many days changed"),
        Err(error) => tracing::error!(%error, "rates not loaded; the old ones stay in force"),
    }
}

/// A change of tokens that has taken effect, for the audit log: whoever is not to have one any more
/// does not keep it because a disk is full.
struct TokensChanged {
    at_ms: u64,
    details: Value,
}

/// Brings the tokens of the configuration as it is now into force; what else differs is only named.
fn tokens_again(files: &Files) -> Option<TokensChanged> {
    let read = read_tokens(files);
    files.admin.metrics.file_refused("tokens", read.is_err());
    files.admin.metrics.loaded(TOKENS_LOADS, Some(read.is_ok()));
    let fresh = read
        .inspect_err(|error| {
            tracing::error!(error, "tokens not reloaded; the old ones stay in force");
        })
        .ok()?;
    let before = files.admin.tokens.replace(fresh);
    let details = tokens::changes(&before, &files.admin.tokens.all())?;
    tracing::info!(%details, "tokens of the admin API in force");
    Some(TokensChanged { at_ms: Clock::System.now_ms(), details })
}

fn read_tokens(files: &Files) -> Result<Vec<KnownToken>, String> {
    let read = Config::read_file(files.file.as_deref());
    let (anew, _) = read.map_err(|error| error.to_string())?;
    let differing = files.configured.differing(&anew);
    if !differing.is_empty() {
        let settings = differing.join(", ");
        tracing::warn!(%settings, "the configuration has changes that take a restart");
    }
    // Where the store is does not change with a signal.
    let config = Config { admin: anew.admin, ..files.configured.clone() };
    let fresh = tokens::of(&config).map_err(|error| error.to_string())?;
    match fresh.iter().find(|token| token.hash.is_none()) {
        Some(token) => Err(format!("the secret of {} cannot be read", token.name)),
        None => Ok(fresh),
    }
}
