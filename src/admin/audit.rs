//! `GET /api/v1/audit`: what was changed, by whom, from what to what.

use std::fmt::Display;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::error::ApiError;
use super::question::{InQuery, Moment, cursor, millis, page_rows};
use super::server::AdminState;
use super::shapes::rfc3339;
use crate::audit::{Author, Entry};
use crate::model::admin::AuditAction;
use crate::model::hex::{hex, unhex};
use crate::postback::patiently;
use crate::store::StoredAudit;
use crate::store::keys::{AUDIT_KEY_BYTES, AuditKey};
use crate::store::records::AuditRecord;

/// The filters; each narrows further.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct Filters {
    /// At or after this time; a date alone begins in UTC.
    #[param(value_type = Option<String>, format = DateTime)]
    from: Option<Moment>,
    /// Before this time.
    #[param(value_type = Option<String>, format = DateTime)]
    to: Option<Moment>,
    /// A token's name; `file` or `local`.
    who: Option<String>,
    /// One of the words for what was done.
    action: Option<String>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
    /// Rows of a page, 1 to 1000; 100 if absent.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<usize>,
}

/// A page.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = AuditListing)]
pub struct Listing {
    items: Vec<Shape>,
    /// Where the next page begins; `null` on the last.
    next_cursor: Option<String>,
}

/// What somebody has changed.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = AuditEntry)]
struct Shape {
    id: String,
    #[schema(format = DateTime)]
    time: String,
    /// A token's name; `file` or `local`.
    who: String,
    action: String,
    /// The call of the API, the command, or the signal.
    call: String,
    /// What was changed, such as a day or a version.
    subject: String,
    /// From what to what; its members depend on the action.
    details: serde_json::Value,
}

/// A page of the audit log, oldest first.
#[utoipa::path(
    get, path = "/audit", operation_id = "list_audit", tag = "system",
    params(Filters),
    responses((status = 200, description = "The page.", body = Listing)),
)]
pub async fn list(
    State(state): State<Arc<AdminState>>,
    InQuery(filters): InQuery<Filters>,
) -> Result<Json<Listing>, ApiError> {
    let limit = page_rows(filters.limit)?;
    let cursor = cursor(filters.cursor.as_deref(), parsed)?;
    let is_unknown = |word: &&str| AuditAction::parse(word).is_none();
    if let Some(word) = filters.action.as_deref().filter(is_unknown) {
        let words: Vec<_> = AuditAction::ALL.iter().map(|action| action.as_str()).collect();
        let message = format!("{word:?} is not one of {}", words.join(", "));
        return Err(ApiError::bad_request("bad_parameter", message));
    }
    let (from_ms, to_ms) = (filters.from.map_or(0, millis), filters.to.map_or(u64::MAX, millis));
    let (who, action) = (filters.who, filters.action);
    let filter = move |record: &AuditRecord<'_>| {
        let is = |wanted: &Option<String>, have: &str| {
            wanted.as_deref().is_none_or(|wanted| wanted == have)
        };
        is(&who, record.who) && is(&action, record.action)
    };
    let page = state.store.audit(from_ms, to_ms, cursor, limit, Arc::new(filter)).await?;
    let items = page.rows.iter().map(shape).collect::<Result<_, _>>()?;
    Ok(Json(Listing { items, next_cursor: page.next.map(text_of) }))
}

fn shape(row: &StoredAudit) -> Result<Shape, ApiError> {
    let record = row.record()?;
    let details = serde_json::from_str(record.details);
    Ok(Shape {
        id: text_of(row.key),
        time: rfc3339(row.key.time_ms),
        who: record.who.to_owned(),
        action: record.action.to_owned(),
        call: record.call.to_owned(),
        subject: record.subject.to_owned(),
        details: details.unwrap_or_else(|_| record.details.into()),
    })
}

/// A key in hex digits.
pub fn text_of(key: AuditKey) -> String {
    hex(&key.encode())
}

fn parsed(text: &str) -> Option<AuditKey> {
    AuditKey::decode(&unhex::<AUDIT_KEY_BYTES>(text)?)
}

/// Keeps an entry about something that is no change of the store itself; it is on its way to the
/// disk before this waits.
///
/// # Errors
/// When it is not on disk.
pub async fn keep(
    state: &AdminState,
    by: &Author,
    action: AuditAction,
    subject: &str,
    details: &serde_json::Value,
) -> Result<(), ApiError> {
    let entry = by.entry(state.clock.now_ms(), action, subject, details);
    Ok(state.store.keep_audit(&entry.as_stored()).await?)
}

/// Keeps an entry about work that changes something, before it does; on the work's own thread.
///
/// # Errors
/// When the entry is not on the disk; then nothing may be changed.
pub async fn keep_first(
    state: &AdminState,
    by: &Author,
    action: AuditAction,
    details: &serde_json::Value,
) -> Result<(), String> {
    let entry = by.entry(state.clock.now_ms(), action, "", details);
    let kept = patiently(async || state.store.keep_audit(&entry.as_stored()).await).await;
    kept.map_err(|error| format!("not begun: {error}"))
}

/// Keeps an entry about what came of work, on the work's own thread. What cannot be kept is logged.
pub async fn keep_last(
    state: &AdminState,
    by: &Author,
    action: AuditAction,
    details: &serde_json::Value,
) {
    let entry = by.entry(state.clock.now_ms(), action, "", details);
    let kept = patiently(async || state.store.keep_audit(&entry.as_stored()).await).await;
    if let Err(error) = kept {
        warn_of(&entry, &error, "done, and not in the audit log");
    }
}

/// Keeps an entry about work that has begun and changes nothing. Nobody waits for the disk: it may
/// hang, and that is no reason not to say that the work is under way.
pub fn keep_soon(
    state: &Arc<AdminState>,
    by: &Author,
    action: AuditAction,
    details: &serde_json::Value,
) {
    let entry = by.entry(state.clock.now_ms(), action, "", details);
    let state = Arc::clone(state);
    tokio::spawn(async move {
        if let Err(error) = state.store.keep_audit(&entry.as_stored()).await {
            warn_of(&entry, &error, "begun, and not in the audit log");
        }
    });
}

/// Says in the log what the audit log lacks.
fn warn_of(entry: &Entry, error: &dyn Display, what: &str) {
    let AuditRecord { who, action, call, subject, details } = entry.as_stored().record;
    tracing::warn!(%error, who, action, call, subject, details, "{what}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_a_key_and_nothing_else_is_a_cursor() {
        let key = AuditKey { time_ms: 1_767_225_600_123, start: 7, number: 255 };
        assert_eq!(parsed(&text_of(key)), Some(key));
        for wrong in ["", "00", &"+0".repeat(AUDIT_KEY_BYTES), &"00".repeat(AUDIT_KEY_BYTES), "é"]
        {
            assert_eq!(parsed(wrong), None, "{wrong}");
        }
    }
}
