//! `POST /api/v1/conversions/status`: what has become of many conversions, a line each.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Extension;
use axum::body::{Body, to_bytes};
use axum::extract::State;
use axum::http::HeaderMap;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde_json::{Value, json};
use utoipa::ToSchema;

use super::audit;
use super::error::ApiError;
use super::held::place;
use super::server::AdminState;
use super::status_lines::{Line, csv_lines, json_lines};
use crate::audit::{Author, Listed};
use crate::dedup::{Changing, Original};
use crate::limits::{UPLOAD_BYTES_MAX, UPLOAD_CHANGES_UNDER_WAY_MAX, UPLOAD_TIMEOUT};
use crate::model::admin::AuditAction;
use crate::model::reasons::{PostbackResult, Unavailability};
use crate::postback::{Answer, Became, ConversionName, News};
use crate::store::ticket::Outcome;

const CSV: &str = "text/csv";
const NDJSON: &str = "application/x-ndjson";

/// What became of one line.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ConversionStatusTold)]
struct Told {
    line: usize,
    result: &'static str,
    reason: Option<&'static str>,
    conversion_id: Option<String>,
    status: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<String>,
    /// The status that was changed, for the audit log.
    #[serde(skip)]
    before: Option<&'static str>,
}

impl Told {
    fn known(line: usize, result: PostbackResult, now: Original) -> Self {
        Self {
            line,
            result: result.as_str(),
            reason: None,
            conversion_id: Some(now.conversion.to_text().to_string()),
            status: Some(now.status.as_str()),
            hint: None,
            before: None,
        }
    }

    fn not_taken(
        line: usize,
        result: PostbackResult,
        reason: &'static str,
        hint: Option<String>,
    ) -> Self {
        let result = result.as_str();
        let reason = Some(reason);
        Self { line, result, reason, conversion_id: None, status: None, hint, before: None }
    }

    fn failed(line: usize, answer: Answer) -> Self {
        let result = answer.result();
        match answer {
            Answer::Refused(refused) => {
                let hint = refused.hint.map(String::from);
                Self::not_taken(line, result, refused.reason.as_str(), hint)
            }
            Answer::Unavailable(reason) => Self::not_taken(line, result, reason.as_str(), None),
            // A rate limit is for senders, not for the network's own files.
            Answer::RateLimited(_)
            | Answer::Accepted { .. }
            | Answer::Duplicate { .. }
            | Answer::Updated { .. } => Self::not_taken(line, result, "", None),
        }
    }
}

/// Takes a file of statuses; answers a line for each, when all are on disk or will not be.
#[utoipa::path(
    post, path = "/conversions/status", operation_id = "post_conversion_statuses",
    tag = "conversions",
    request_body(
        content((String = "text/csv"), (String = "application/x-ndjson")),
        description = "A line for each conversion: which one, its status, its amount.",
    ),
    responses((
        status = 200, description = "What became of each line, in the order of the lines.",
        content((Told = "application/x-ndjson")),
    )),
)]
pub async fn post(
    State(state): State<Arc<AdminState>>,
    Extension(by): Extension<Author>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    let kind = headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let lines: fn(&str) -> Result<Vec<Line>, String> = match &*kind {
        CSV => csv_lines,
        NDJSON => json_lines,
        _ => return Err(ApiError::unsupported_upload()),
    };
    let permit = place(&state.uploads, ApiError::upload_busy)?;
    let text = received(body).await?;
    // On its own: a client that hangs up does not leave it half done and unsaid.
    let work = async move {
        let lines = lines(&text).map_err(|what| ApiError::bad_request("bad_file", what))?;
        let answer = work_through(&state, &by, &text, &lines).await;
        drop(permit);
        answer
    };
    let answer = tokio::spawn(work).await.map_err(ApiError::work_failed)??;
    Ok(([(CONTENT_TYPE, NDJSON)], answer).into_response())
}

/// Takes all lines and says what became of each; the audit log hears of the file before anything
/// is changed, and of its outcome afterwards.
async fn work_through(
    state: &AdminState,
    by: &Author,
    text: &str,
    lines: &[Line],
) -> Result<String, ApiError> {
    let file = blake3::hash(text.as_bytes()).to_hex();
    let details = json!({ "lines": lines.len(), "bytes": text.len() });
    audit::keep(state, by, AuditAction::Statuses, &file, &details).await?;
    let mut answer = String::new();
    let mut outcome = Outcomes::default();
    for told in taken(state, lines).await {
        outcome.add(&told);
        answer.push_str(&serde_json::to_string(&told).map_err(ApiError::work_failed)?);
        answer.push('\n');
    }
    let details = outcome.details();
    if audit::keep(state, by, AuditAction::StatusesDone, &file, &details).await.is_err() {
        tracing::warn!(%file, %details, "the outcome of an upload is not in the audit log");
    }
    Ok(answer)
}

/// What the audit log says of an upload.
#[derive(Default)]
struct Outcomes {
    results: BTreeMap<&'static str, usize>,
    changes: Listed,
}

impl Outcomes {
    fn add(&mut self, told: &Told) {
        *self.results.entry(told.result).or_default() += 1;
        if told.result == PostbackResult::Updated.as_str() {
            let Told { conversion_id, before, status, .. } = told;
            let change =
                json!({ "conversion_id": conversion_id, "before": before, "after": status });
            self.changes.push(change);
        }
    }

    fn details(self) -> Value {
        let (changes, left_out) = self.changes.into_parts();
        json!({ "results": self.results, "changes": changes, "left_out": left_out })
    }
}

async fn received(body: Body) -> Result<String, ApiError> {
    let bytes = tokio::time::timeout(UPLOAD_TIMEOUT, to_bytes(body, UPLOAD_BYTES_MAX));
    let bytes = bytes.await.map_err(|_| ApiError::upload_unread("it took too long"))?;
    let bytes = bytes.map_err(|error| ApiError::upload_unread(error.to_string()))?;
    String::from_utf8(bytes.into()).map_err(|_| ApiError::upload_unread("it is not UTF-8"))
}

/// Takes line after line; so many changes at once are on their way to the disk.
async fn taken(state: &AdminState, lines: &[Line]) -> Vec<Told> {
    let mut told = Vec::with_capacity(lines.len());
    let mut under_way = Vec::new();
    for line in lines {
        let number = line.number;
        let heard = match news(line) {
            Ok(news) => state.postbacks.hear(&news, state.clock.now_ms()).await,
            Err(what) => {
                let result = PostbackResult::Refused;
                told.push(Told::not_taken(number, result, "bad_line", Some(what.to_owned())));
                continue;
            }
        };
        told.push(match heard {
            Ok((now, Became::AsItWas(hint))) => {
                let hint = hint.map(String::from);
                Told { hint, ..Told::known(number, PostbackResult::Duplicate, now) }
            }
            Ok((now, Became::Changed { before, changing })) => {
                under_way.push((told.len(), changing));
                let before = Some(before.as_str());
                Told { before, ..Told::known(number, PostbackResult::Updated, now) }
            }
            Err(answer) => Told::failed(number, answer),
        });
        if under_way.len() == UPLOAD_CHANGES_UNDER_WAY_MAX {
            confirm(state, &mut under_way, &mut told).await;
        }
    }
    confirm(state, &mut under_way, &mut told).await;
    told
}

/// Waits for the disk; whose change it did not confirm is told so.
async fn confirm(state: &AdminState, under_way: &mut Vec<(usize, Changing)>, told: &mut [Told]) {
    state.store.writer().flush();
    for (place, change) in under_way.drain(..) {
        if change.settled().await != Outcome::Durable {
            let reason = Unavailability::StorePoisoned.as_str();
            let number = told[place].line;
            told[place] = Told::not_taken(number, PostbackResult::Unavailable, reason, None);
        }
    }
}

fn news(line: &Line) -> Result<News<'_>, &str> {
    if let Some(mistake) = &line.mistake {
        return Err(mistake);
    }
    let of = match (&line.conversion_id, &line.advertiser, &line.event, &line.txn_id) {
        (Some(id), None, None, None) => ConversionName::Conversion(id),
        (None, Some(advertiser), Some(event), Some(txn_id)) => {
            ConversionName::Transaction { advertiser, event, txn_id }
        }
        _ => return Err("name a conversion_id, or advertiser, event and txn_id"),
    };
    let status = line.status.as_deref().ok_or("a status is missing")?;
    Ok(News {
        of,
        status,
        amount: line.amount.as_deref(),
        currency: line.currency.as_deref(),
        event_time: line.event_time.as_deref(),
    })
}
