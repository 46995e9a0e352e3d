//! `/api/v1/catalog`: the catalog in force and those before it, what another one would change, and
//! its replacement.

use std::sync::Arc;

use axum::body::{Body, to_bytes};
use axum::extract::State;
use axum::http::header::{ACCEPT, CONTENT_TYPE, ETAG, HeaderName, IF_MATCH, IF_NONE_MATCH, VARY};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use hyper::body::Body as _;
use serde::{Deserialize, Serialize};
use tokio::runtime::Handle;
use tokio::sync::OwnedSemaphorePermit;
use utoipa::{IntoParams, ToSchema};

use super::error::ApiError;
use super::held::{Held, place};
use super::question::InQuery;
use super::server::AdminState;
use super::shapes::rfc3339;
use crate::audit::Author;
use crate::catalog::{Diff, Document, LoadError, Origin, Replaces, version_text};
use crate::checked_toml::{Format, Report, Severity};
use crate::limits::{CATALOG_BYTES_MAX, CATALOG_TRANSFER_TIMEOUT};
use crate::metrics::CATALOG_LOADS;
use crate::model::hex::unhex;
use crate::store::CatalogVersion;

const TOML: &str = "application/toml";
const JSON: &str = "application/json";

/// The version in force, and the last ones that were.
#[derive(Debug, Serialize, ToSchema)]
pub struct Versions {
    in_force: String,
    /// The newest first.
    items: Vec<Version>,
}

/// A catalog that came into force.
#[derive(Debug, Serialize, ToSchema)]
struct Version {
    version: String,
    /// When.
    applied: String,
    /// `file` or `api`; `null` if a newer release wrote it.
    source: Option<&'static str>,
    advertisers: u32,
    offers: u32,
    affiliates: u32,
    links: u32,
    /// Of its text.
    bytes: u64,
    /// Whether its text can be read.
    kept: bool,
}

/// The answer to a PUT.
#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
pub enum PutAnswer {
    /// With `dry_run`.
    Compared(Box<Compared>),
    /// Without.
    Applied(Applied),
}

/// What would change.
#[derive(Debug, Serialize, ToSchema)]
pub struct Compared {
    /// `true`.
    dry_run: bool,
    /// The version that it would be.
    version: String,
    in_force: String,
    changes: Diff,
    warnings: Vec<Mistake>,
}

/// The catalog is in force.
#[derive(Debug, Serialize, ToSchema)]
// Without other members, so that what would change is not taken for it.
#[serde(deny_unknown_fields)]
pub struct Applied {
    version: String,
    warnings: Vec<Mistake>,
}

/// A mistake in a catalog, or a warning.
#[derive(Debug, Serialize, ToSchema)]
pub struct Mistake {
    /// `error` or `warning`.
    severity: &'static str,
    /// In the body, from 1; `null` if it is about no place in it.
    line: Option<usize>,
    /// Dotted.
    key: String,
    message: String,
}

/// Which catalog.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct GetOptions {
    /// 16 hex digits; the version in force if absent.
    version: Option<String>,
}

/// The catalog in force, or an earlier one, in the language asked for.
#[utoipa::path(
    get, path = "/catalog", operation_id = "get_catalog", tag = "catalog",
    params(
        GetOptions,
        ("Accept" = Option<String>, Header, description = "JSON, or TOML if it is preferred."),
        ("If-None-Match" = Option<String>, Header, description = "An `ETag` that is known."),
    ),
    responses(
        (
            status = 200, description = "The catalog; `ETag` is its version.",
            content((serde_json::Value = "application/json"), (String = "application/toml")),
        ),
        (status = 304, description = "The version is known."),
    ),
)]
pub async fn get(
    State(state): State<Arc<AdminState>>,
    InQuery(options): InQuery<GetOptions>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let wanted = match options.version {
        Some(text) => Some(version_in(&text).ok_or_else(|| {
            ApiError::bad_request("bad_parameter", "version is one: 16 hex digits")
        })?),
        None => None,
    };
    let known = text_of(&headers, IF_NONE_MATCH).map(versions_in);
    let is_known = |version| known.as_ref().is_some_and(|known| known.allows(version));
    let in_force = state.catalog.load().version();
    if wanted.is_none() && is_known(in_force) {
        return Ok((StatusCode::NOT_MODIFIED, tags(in_force)).into_response());
    }
    let permit = place(&state.catalogs_sent, ApiError::catalog_busy)?;
    let format = format_asked(text_of(&headers, ACCEPT).unwrap_or_default());
    let (version, document) = off_the_loop(move || async move {
        let (version, document) = match wanted {
            Some(version) => match state.source.of_version(version).await? {
                Some(document) => (version, document),
                None => return Err(ApiError::version_not_kept()),
            },
            None => state.source.current().await?,
        };
        let document = document.into_format(format).map_err(LoadError::Mistakes)?;
        Ok::<_, ApiError>((version, document))
    })
    .await?;
    if is_known(version) {
        return Ok((StatusCode::NOT_MODIFIED, tags(version)).into_response());
    }
    let content_type = [(CONTENT_TYPE, if format == Format::Toml { TOML } else { JSON })];
    let body = Body::new(Held::new(document.text, permit));
    Ok((tags(version), content_type, body).into_response())
}

/// The version of the catalog in force, and the last ones, the newest first.
#[utoipa::path(
    get, path = "/catalog/versions", operation_id = "list_catalog_versions", tag = "catalog",
    responses((status = 200, description = "The versions.", body = Versions)),
)]
pub async fn versions(State(state): State<Arc<AdminState>>) -> Result<Json<Versions>, ApiError> {
    let kept = state.store.catalog_versions().await?;
    let items = kept.iter().map(|CatalogVersion { record, has_text }| Version {
        version: version_text(record.version),
        applied: rfc3339(record.applied_ms),
        source: Origin::word(record.source),
        advertisers: record.advertisers,
        offers: record.offers,
        affiliates: record.affiliates,
        links: record.links,
        bytes: record.text_bytes,
        kept: *has_text,
    });
    let in_force = version_text(state.catalog.load().version());
    Ok(Json(Versions { in_force, items: items.collect() }))
}

/// What a PUT may ask for.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct PutOptions {
    /// `1`: answer what would change, and change nothing.
    dry_run: Option<String>,
}

/// Replaces the catalog; with `dry_run=1` says what would change.
#[utoipa::path(
    put, path = "/catalog", operation_id = "put_catalog", tag = "catalog",
    params(
        PutOptions,
        (
            "If-Match" = Option<String>, Header,
            description = "The version that is replaced: an `ETag`, or `*`. Required without `dry_run`.",
        ),
    ),
    request_body(
        content((serde_json::Value = "application/json"), (String = "application/toml")),
        description = "The whole catalog.",
    ),
    responses((
        status = 200, description = "It is in force, or what would change.", body = PutAnswer,
    )),
)]
pub async fn put(
    State(state): State<Arc<AdminState>>,
    Extension(by): Extension<Author>,
    InQuery(options): InQuery<PutOptions>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    let dry_run = match options.dry_run.as_deref() {
        None | Some("0" | "false") => false,
        Some("1" | "true") => true,
        Some(_) => return Err(ApiError::bad_request("bad_parameter", "dry_run is 1 or 0")),
    };
    let replaces = text_of(&headers, IF_MATCH).map(versions_in);
    if !dry_run && state.source.is_file() {
        return Err(ApiError::catalog_is_a_file());
    }
    if !dry_run && replaces.is_none() {
        return Err(ApiError::precondition_required());
    }
    let replaces = replaces.unwrap_or(Replaces::Any);
    let in_force = state.catalog.load().version();
    if !replaces.allows(in_force) {
        return Err(LoadError::Stale(in_force).into());
    }
    let format = format_sent(text_of(&headers, CONTENT_TYPE).unwrap_or_default())?;
    let permit = place(&state.catalogs_received, ApiError::catalog_busy)?;
    let document = Document { format, text: received(body).await? };
    if dry_run {
        compare(state, document, permit).await
    } else {
        apply(state, document, replaces, by, permit).await
    }
}

async fn compare(
    state: Arc<AdminState>,
    document: Document,
    permit: OwnedSemaphorePermit,
) -> Result<Response, ApiError> {
    let comparison = off_the_loop(move || async move {
        let comparison = state.source.compare(&document, state.clock.now_ms()).await;
        drop((document, permit));
        comparison
    })
    .await?;
    let compared = Compared {
        dry_run: true,
        version: version_text(comparison.version),
        in_force: version_text(comparison.in_force),
        changes: comparison.diff,
        warnings: mistakes(&comparison.warnings),
    };
    let answer = PutAnswer::Compared(Box::new(compared));
    Ok((tags(comparison.in_force), Json(answer)).into_response())
}

async fn apply(
    state: Arc<AdminState>,
    document: Document,
    replaces: Replaces,
    by: Author,
    permit: OwnedSemaphorePermit,
) -> Result<Response, ApiError> {
    let version = document.version();
    let (metrics, now_ms) = (Arc::clone(&state.metrics), state.clock.now_ms());
    let applied = off_the_loop(move || async move {
        let applied = state.source.apply(&document, &replaces, &by, now_ms).await;
        drop((document, permit));
        applied
    })
    .await;
    metrics.loaded(CATALOG_LOADS, Some(applied.is_ok()));
    let warnings = applied?;
    // Whatever a signal has found in the one before.
    metrics.file_refused("catalog", false);
    let (version_text, warnings) = (version_text(version), mistakes(&warnings));
    let answer = PutAnswer::Applied(Applied { version: version_text, warnings });
    Ok((tags(version), Json(answer)).into_response())
}

fn tags(version: u64) -> [(HeaderName, String); 2] {
    [(ETAG, etag(version)), (VARY, "accept".to_owned())]
}

/// Runs what may compute for seconds on a thread that nobody else waits for.
async fn off_the_loop<T, F>(work: impl FnOnce() -> F + Send + 'static) -> T
where
    T: Send + 'static,
    F: Future<Output = T>,
{
    let handle = Handle::current();
    let worked = tokio::task::spawn_blocking(move || handle.block_on(work())).await;
    // It is never cancelled, and a panic goes on here.
    worked.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))
}

async fn received(body: Body) -> Result<String, ApiError> {
    if body.size_hint().lower() > CATALOG_BYTES_MAX as u64 {
        return Err(ApiError::catalog_too_large());
    }
    let bytes = tokio::time::timeout(CATALOG_TRANSFER_TIMEOUT, to_bytes(body, CATALOG_BYTES_MAX));
    let bytes = bytes.await.map_err(|_| ApiError::catalog_incomplete())?;
    let bytes = bytes.map_err(|error| ApiError::catalog_unread(&error))?;
    String::from_utf8(bytes.into())
        .map_err(|_| ApiError::bad_request("invalid_catalog", "the catalog is not UTF-8"))
}

fn text_of(headers: &HeaderMap, name: HeaderName) -> Option<&str> {
    headers.get(name).map(|value| value.to_str().unwrap_or_default())
}

fn etag(version: u64) -> String {
    format!("\"{}\"", version_text(version))
}

/// Reads `If-Match` or `If-None-Match`: `*`, or entity tags. A tag of something else than a
/// catalog's version matches none.
fn versions_in(header: &str) -> Replaces {
    if header.trim() == "*" {
        return Replaces::Any;
    }
    let version = |tag: &str| {
        let tag = tag.trim();
        version_in(tag.strip_prefix("W/").unwrap_or(tag).trim_matches('"'))
    };
    Replaces::OneOf(header.split(',').filter_map(version).collect())
}

/// Reads a version as people see it.
fn version_in(text: &str) -> Option<u64> {
    unhex(text).map(u64::from_be_bytes)
}

fn format_sent(content_type: &str) -> Result<Format, ApiError> {
    let kind = content_type.split(';').next().unwrap_or_default().trim();
    if kind.eq_ignore_ascii_case(TOML) {
        Ok(Format::Toml)
    } else if kind.eq_ignore_ascii_case(JSON) {
        Ok(Format::Json)
    } else {
        Err(ApiError::unsupported_catalog())
    }
}

/// TOML if `Accept` prefers it to JSON.
fn format_asked(accept: &str) -> Format {
    let weight = |wanted: &str| {
        let weights = accept.split(',').filter_map(|range| {
            let mut parts = range.split(';').map(str::trim);
            let named = parts.next()?;
            let q = parts.find_map(|part| part.strip_prefix("q=")).unwrap_or("1");
            named.eq_ignore_ascii_case(wanted).then(|| q.parse().unwrap_or(0.0))
        });
        weights.fold(0.0, f32::max)
    };
    if weight(TOML) > weight(JSON) { Format::Toml } else { Format::Json }
}

/// A report as the API shows it: errors first, whatever number of warnings is around them.
pub fn mistakes(report: &Report) -> Vec<Mistake> {
    let mut mistakes = report.mistakes();
    mistakes.sort_by_key(|mistake| mistake.severity != Severity::Error);
    let mistakes = mistakes.into_iter().map(|mistake| Mistake {
        severity: if mistake.severity == Severity::Error { "error" } else { "warning" },
        line: mistake.origin.line(),
        key: mistake.key.clone(),
        message: mistake.complaint.to_string(),
    });
    mistakes.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checked_toml::{self, Complaint, Origin};

    #[test]
    fn if_match_names_versions_by_their_tags() {
        let check = |header: &str, expected: Replaces| {
            assert_eq!(versions_in(header), expected, "{header}");
        };
        check("*", Replaces::Any);
        check("\"00000000000000ff\"", Replaces::OneOf(vec![255]));
        check("W/\"00000000000000ff\"", Replaces::OneOf(vec![255]));
        check("\"0000000000000001\", \"0000000000000002\"", Replaces::OneOf(vec![1, 2]));
        for wrong in ["", "ff", "\"ff\"", "\"00000000000000fg\"", "\"+00000000000000f\""] {
            check(wrong, Replaces::OneOf(Vec::new()));
        }
    }

    #[test]
    fn errors_come_first() {
        let mut report = Report::new("catalog");
        let severities = [Severity::Warning, Severity::Lacking, Severity::Error];
        for (line, severity) in severities.into_iter().enumerate() {
            let (origin, complaint) = (Origin::File(Some(line)), Complaint::new("wrong"));
            report.note(checked_toml::Mistake { severity, origin, key: String::new(), complaint });
        }
        let check = |report: &Report, expected: [(&str, usize); 3]| {
            let shown = mistakes(report);
            let shown: Vec<_> =
                shown.iter().map(|it| (it.severity, it.line.expect("set"))).collect();
            assert_eq!(shown, expected);
        };
        check(&report, [("error", 2), ("warning", 0), ("warning", 1)]);
        check(&report.refusing_what_lacks(), [("error", 1), ("error", 2), ("warning", 0)]);
    }

    #[test]
    fn json_is_answered_unless_toml_is_preferred() {
        let check = |accept: &str, expected: Format| {
            assert_eq!(format_asked(accept), expected, "{accept}");
        };
        check("", Format::Json);
        check("*/*", Format::Json);
        check("application/toml", Format::Toml);
        check("application/toml, application/json", Format::Json);
        check("application/toml;q=0.9, application/json;q=0.5", Format::Toml);
        check("application/toml;q=0.5, application/json", Format::Json);
        check("application/toml;q=0", Format::Json);
        check("application/toml;q=1.0, application/json;q=x", Format::Toml);
    }
}
