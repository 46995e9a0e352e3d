//! The admin listener's routes.

use std::net::SocketAddr;
use std::sync::Arc;

use arc_swap::ArcSwap;
use axum::middleware::from_fn_with_state;
use axum::{Extension, Router};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use jiff::tz::TimeZone;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::auth::{AdminToken, require_token};
use super::error::ApiError;
use super::jobs::{self, Jobs};
use super::openapi::{self, Description};
use super::{
    catalog, conversions, customers, erase, fraud, ledger, lookup, rates, reports, statements,
    system, totals, upload,
};
use crate::backup::Backups;
use crate::catalog::{Catalog, CatalogSource};
use crate::click_id::Keyring;
use crate::dedup::Deduplicator;
use crate::limits::{ADMIN_CONNECTIONS_MAX, ADMIN_HEADER_READ_TIMEOUT};
use crate::metrics::Metrics;
use crate::postback::Postbacks;
use crate::rates::RatesSource;
use crate::readiness::Readiness;
use crate::shutdown::Drain;
use crate::store::Store;
use crate::time::Clock;

/// What the admin API reads.
pub struct AdminState {
    /// The store.
    pub store: Arc<Store>,
    /// The catalog in force.
    pub catalog: Arc<ArcSwap<Catalog>>,
    /// Brings another one into force.
    pub source: Arc<CatalogSource>,
    /// Catalogs that may be in memory beside the one in force.
    pub catalog_transfers: Arc<Semaphore>,
    /// Changes conversions.
    pub postbacks: Postbacks,
    /// Uploads that may be worked on at once.
    pub uploads: Semaphore,
    /// Long work.
    pub jobs: Arc<Jobs>,
    /// Where backups go; `None`: nobody has said.
    pub backups: Option<Backups>,
    /// Hears when the drain begins.
    pub drain: Drain,
    /// Proofs that may be looked for beside each other.
    pub proofs: Arc<Semaphore>,
    /// Fraud reports that may be made beside each other.
    pub fraud_reports: Semaphore,
    /// Reports that may be made beside each other.
    pub reports: Arc<Semaphore>,
    /// The network's time zone.
    pub time_zone: TimeZone,
    /// Exchange rates.
    pub rates: Arc<RatesSource>,
    /// Verifies click IDs.
    pub keyring: Arc<Keyring>,
    /// The claim cache, for its gauges.
    pub dedup: Deduplicator,
    /// The registry.
    pub metrics: Arc<Metrics>,
    /// What keeps the server from being ready.
    pub readiness: Readiness,
    /// Who may ask.
    pub token: AdminToken,
    /// When something happened.
    pub clock: Clock,
    /// The store's folder, for free space.
    pub store_path: std::path::PathBuf,
}

/// Routes, each with its description: path, parameters and answers stand at the handler.
type Routes = OpenApiRouter<Arc<AdminState>>;

/// What is below `/api/v1` and asks for the token.
fn api() -> Routes {
    OpenApiRouter::default()
        .routes(routes!(lookup::click))
        .routes(routes!(conversions::list))
        .routes(routes!(upload::post))
        .routes(routes!(lookup::conversion))
        .routes(routes!(lookup::trace))
        .routes(routes!(customers::customer))
        .routes(routes!(catalog::get, catalog::put))
        .routes(routes!(catalog::versions))
        .routes(routes!(totals::totals))
        .routes(routes!(fraud::report))
        .routes(routes!(reports::report))
        .routes(routes!(reports::refusals))
        .routes(routes!(ledger::balances))
        .routes(routes!(ledger::postings))
        .routes(routes!(ledger::proof))
        .routes(routes!(statements::statement))
        .routes(routes!(jobs::verify))
        .routes(routes!(jobs::backup))
        .routes(routes!(jobs::job))
        .routes(routes!(erase::erase))
        .routes(routes!(rates::get, rates::put))
        .routes(routes!(openapi::openapi))
}

/// What asks for none.
fn open() -> Routes {
    OpenApiRouter::default()
        .routes(routes!(system::healthz))
        .routes(routes!(system::readyz))
        .routes(routes!(system::metrics))
}

fn all(api: Routes) -> Routes {
    OpenApiRouter::with_openapi(openapi::frame()).nest("/api/v1", api).merge(open())
}

/// The description of every route in OpenAPI 3.1, as JSON.
#[must_use]
pub fn description() -> String {
    openapi::json(&openapi::complete(all(api()).into_openapi()))
}

fn routes(state: Arc<AdminState>) -> Router {
    let with_token = from_fn_with_state(Arc::clone(&state), require_token);
    let (routes, description) = all(api().route_layer(with_token)).split_for_parts();
    let description = Description::of(&openapi::complete(description));
    routes
        .layer(Extension(description))
        .fallback(|| async { ApiError::not_found("no such path; see docs/api.md") })
        .with_state(state)
}

/// Serves the admin listener until the drain begins; requests under way may finish.
///
/// # Errors
/// When the socket cannot be used.
pub async fn serve(
    listener: std::net::TcpListener,
    state: Arc<AdminState>,
    drain: Drain,
) -> std::io::Result<()> {
    let routes = routes(state);
    let listener = TcpListener::from_std(listener)?;
    let mut connections = tokio::task::JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) if connections.len() < ADMIN_CONNECTIONS_MAX => {
                    connections.spawn(connection(stream, peer, routes.clone(), drain.clone()));
                }
                Ok((_, peer)) => tracing::warn!(%peer, "too many admin connections"),
                Err(error) => tracing::warn!(%error, "cannot accept an admin connection"),
            },
            Some(_) = connections.join_next(), if !connections.is_empty() => {}
            () = drain.begun() => break,
        }
    }
    while connections.join_next().await.is_some() {}
    Ok(())
}

async fn connection(stream: tokio::net::TcpStream, peer: SocketAddr, routes: Router, drain: Drain) {
    let connection = std::pin::pin!(
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(ADMIN_HEADER_READ_TIMEOUT)
            .serve_connection(TokioIo::new(stream), TowerToHyperService::new(routes))
    );
    let result = drain.serve(connection, |connection| connection.graceful_shutdown()).await;
    if let Err(error) = result {
        tracing::debug!(%error, %peer, "admin connection ended early");
    }
}
