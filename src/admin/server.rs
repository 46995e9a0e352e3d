//! The admin listener: its routes and its connections.

use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;

use arc_swap::ArcSwap;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Router};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use jiff::tz::TimeZone;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::auth::{AdminTokens, Needs, require};
use super::error::ApiError;
use super::held::{Held, place};
use super::jobs::{self, Jobs};
use super::openapi::{self, Description};
use super::{
    audit, catalog, conversions, customers, erase, fraud, inbound, ledger, lookup, rates, reports,
    statements, system, totals, upload,
};
use crate::backup::Backups;
use crate::catalog::{Catalog, CatalogSource};
use crate::click_id::Keyring;
use crate::dedup::Deduplicator;
use crate::http2::{self, Allowance};
use crate::limits::{
    ACCEPT_PAUSE, ADMIN_CONNECTIONS_MAX, ADMIN_HEADER_READ_TIMEOUT, ADMIN_HTTP2_STREAMS_MAX,
    ADMIN_HTTP2_WINDOW_BYTES,
};
use crate::metrics::Metrics;
use crate::model::admin::Role;
use crate::postback::Postbacks;
use crate::rates::RatesSource;
use crate::readiness::Readiness;
use crate::shutdown::Drain;
use crate::store::Store;
use crate::telemetry::LeftOut;
use crate::time::Clock;
use crate::tls::{Certificates, is_http2};

/// Where the paths of the API begin.
pub const API: &str = "/api/v1";

/// What the admin API reads.
pub struct AdminState {
    /// The store.
    pub store: Arc<Store>,
    /// The catalog in force.
    pub catalog: Arc<ArcSwap<Catalog>>,
    /// Brings another one into force.
    pub source: Arc<CatalogSource>,
    /// Catalogs that may be sent at once.
    pub catalogs_sent: Arc<Semaphore>,
    /// Catalogs that may be received and worked on at once: whoever may only look keeps nobody from
    /// it.
    pub catalogs_received: Arc<Semaphore>,
    /// Answers of listings and look-ups that may be made and sent at once.
    pub answers: Arc<Semaphore>,
    /// The same of answers that come under whatever load.
    pub light_answers: Arc<Semaphore>,
    /// Changes conversions.
    pub postbacks: Postbacks,
    /// Uploads that may be worked on at once.
    pub uploads: Arc<Semaphore>,
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
    pub tokens: AdminTokens,
    /// When something happened.
    pub clock: Clock,
    /// Lines that the log lacks.
    pub left_out: LeftOut,
    /// The store's folder, for free space.
    pub store_path: std::path::PathBuf,
}

/// Routes, each with its description: path, parameters and answers stand at the handler.
type Routes = OpenApiRouter<Arc<AdminState>>;

/// What any token may ask for. Every call of the API is in one of six lists, and that decides
/// which role it needs, and whether it comes after the traffic. What is here changes nothing,
/// and so many answers are in memory at once.
fn reads() -> Routes {
    OpenApiRouter::default()
        .routes(routes!(lookup::click))
        .routes(routes!(conversions::list))
        .routes(routes!(lookup::conversion))
        .routes(routes!(lookup::trace))
        .routes(routes!(inbound::list))
        .routes(routes!(customers::customer))
        .routes(routes!(totals::totals))
        .routes(routes!(fraud::report))
        .routes(routes!(ledger::balances))
        .routes(routes!(ledger::postings))
        .routes(routes!(ledger::proof))
        .routes(routes!(statements::statement))
        .routes(routes!(rates::get))
        .routes(routes!(audit::list))
}

/// As [`reads`], and so large that they have places of their own.
fn large_reads() -> Routes {
    OpenApiRouter::default().routes(routes!(reports::report)).routes(routes!(reports::refusals))
}

/// As [`reads`], and answered under whatever load: it costs next to nothing.
fn light_reads() -> Routes {
    OpenApiRouter::default().routes(routes!(catalog::versions)).routes(routes!(jobs::job))
}

/// The same, with places of its own, or one text for all who ask.
fn shared_reads() -> Routes {
    OpenApiRouter::default().routes(routes!(catalog::get)).routes(routes!(openapi::openapi))
}

/// What only a token of the role `write` may ask for.
fn writes() -> Routes {
    OpenApiRouter::default()
        .routes(routes!(upload::post))
        .routes(routes!(jobs::verify))
        .routes(routes!(jobs::backup))
        .routes(routes!(erase::erase))
        .routes(routes!(inbound::reprocess))
        .routes(routes!(rates::put))
}

/// As [`writes`], and answered under whatever load: by the catalog an offer or affiliate that
/// causes it is paused.
fn light_writes() -> Routes {
    OpenApiRouter::default().routes(routes!(catalog::put))
}

/// What asks for none.
fn open() -> Routes {
    OpenApiRouter::default()
        .routes(routes!(system::healthz))
        .routes(routes!(system::readyz))
        .routes(routes!(system::metrics))
}

/// Which places in memory an answer takes.
enum Weight {
    Listing,
    Light,
}

/// All routes; those of the API guarded for what each list needs: a role, and whether the traffic
/// comes first.
fn all(
    hold: impl Fn(Routes, Weight) -> Routes,
    guard: impl Fn(Routes, Role, bool) -> Routes,
) -> Routes {
    let of = |routes, role, yields| guard(openapi::ask_for_token(routes, role), role, yields);
    let api = of(hold(reads(), Weight::Listing), Role::Read, true)
        .merge(of(large_reads(), Role::Read, true))
        .merge(of(hold(light_reads(), Weight::Light), Role::Read, false))
        .merge(of(shared_reads(), Role::Read, false))
        .merge(of(writes(), Role::Write, true))
        .merge(of(light_writes(), Role::Write, false));
    OpenApiRouter::with_openapi(openapi::frame()).nest(API, api).merge(open())
}

/// The description of every route in OpenAPI 3.1, as JSON.
#[must_use]
pub fn description() -> String {
    openapi::json(&openapi::complete(all(|routes, _| routes, |routes, _, _| routes).into_openapi()))
}

fn routes(state: Arc<AdminState>) -> Router {
    let guard = |routes: Routes, role, yields| {
        let needs = Needs { state: Arc::clone(&state), role, yields };
        routes.route_layer(from_fn_with_state(needs, require))
    };
    let hold = |routes: Routes, weight| {
        let places = match weight {
            Weight::Listing => &state.answers,
            Weight::Light => &state.light_answers,
        };
        routes.route_layer(from_fn_with_state(Arc::clone(places), held_until_sent))
    };
    let (routes, description) = all(hold, guard).split_for_parts();
    let description = Description::of(&openapi::complete(description));
    routes
        .layer(Extension(description))
        .fallback(|| async { ApiError::not_found("no such path; see docs/api.md") })
        .method_not_allowed_fallback(|| async { ApiError::method_not_allowed() })
        .with_state(state)
}

/// An answer that has a place in memory until it was sent, however slowly it is read.
async fn held_until_sent(
    State(places): State<Arc<Semaphore>>,
    request: Request,
    next: Next,
) -> Response {
    match place(&places, ApiError::answers_busy) {
        Ok(place) => next.run(request).await.map(|body| Body::new(Held::new(body, place))),
        Err(busy) => busy.into_response(),
    }
}

/// Serves the admin listener until the drain begins; requests under way may finish.
///
/// # Errors
/// When the socket cannot be used.
pub async fn serve(
    listener: std::net::TcpListener,
    certificates: Option<Arc<Certificates>>,
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
                    let (certificates, routes) = (certificates.clone(), routes.clone());
                    connections.spawn(connection(stream, peer, certificates, routes, drain.clone()));
                }
                Ok((_, peer)) => tracing::warn!(%peer, "too many admin connections"),
                Err(error) => {
                    tracing::warn!(%error, "cannot accept an admin connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
            Some(_) = connections.join_next(), if !connections.is_empty() => {}
            () = drain.begun() => break,
        }
    }
    while connections.join_next().await.is_some() {}
    Ok(())
}

async fn connection(
    stream: TcpStream,
    peer: SocketAddr,
    certificates: Option<Arc<Certificates>>,
    routes: Router,
    drain: Drain,
) {
    let result = match certificates {
        None => http1(stream, routes, drain).await,
        Some(certificates) => {
            let shaken = tokio::select! {
                shaken = certificates.accept(stream) => shaken,
                // It has asked for nothing yet.
                () = drain.begun() => return,
            };
            match shaken {
                Ok(stream) if is_http2(&stream) => {
                    let service = TowerToHyperService::new(routes);
                    let allowance = Allowance {
                        streams: ADMIN_HTTP2_STREAMS_MAX,
                        window_bytes: ADMIN_HTTP2_WINDOW_BYTES,
                        idle: ADMIN_HEADER_READ_TIMEOUT,
                    };
                    http2::serve(stream, service, allowance, &drain).await
                }
                Ok(stream) => http1(stream, routes, drain).await,
                Err(error) => {
                    tracing::debug!(%error, %peer, "a TLS handshake came to nothing");
                    return;
                }
            }
        }
    };
    if let Err(error) = result {
        tracing::debug!(%error, %peer, "admin connection ended early");
    }
}

async fn http1(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    routes: Router,
    drain: Drain,
) -> hyper::Result<()> {
    let connection = pin!(
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(ADMIN_HEADER_READ_TIMEOUT)
            .serve_connection(TokioIo::new(stream), TowerToHyperService::new(routes))
    );
    drain.serve(connection, |connection| connection.graceful_shutdown()).await
}
