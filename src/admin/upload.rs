//! `POST /api/v1/conversions/status`: what has become of many conversions, a line each.

use std::sync::Arc;

use axum::body::{Body, to_bytes};
use axum::extract::State;
use axum::http::HeaderMap;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use super::error::ApiError;
use super::server::AdminState;
use super::status_lines::{Line, csv_lines, json_lines};
use crate::dedup::{Changing, Original};
use crate::limits::{UPLOAD_BYTES_MAX, UPLOAD_CHANGES_UNDER_WAY_MAX, UPLOAD_TIMEOUT};
use crate::model::reasons::{PostbackResult, Unavailability};
use crate::postback::{Answer, Named, News};
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
        }
    }

    fn not_taken(
        line: usize,
        result: PostbackResult,
        reason: &'static str,
        hint: Option<String>,
    ) -> Self {
        let result = result.as_str();
        Self { line, result, reason: Some(reason), conversion_id: None, status: None, hint }
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
    let _permit = state.uploads.try_acquire().map_err(|_| ApiError::upload_busy())?;
    let text = received(body).await?;
    let lines = lines(&text).map_err(|what| ApiError::bad_request("bad_file", what))?;
    let mut answer = String::new();
    for told in taken(&state, &lines).await {
        let told = serde_json::to_string(&told);
        answer.push_str(
            &told.map_err(|error| ApiError::bad_request("unprintable", error.to_string()))?,
        );
        answer.push('\n');
    }
    Ok(([(CONTENT_TYPE, NDJSON)], answer).into_response())
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
            Ok((now, None)) => Told::known(number, PostbackResult::Duplicate, now),
            Ok((now, Some(change))) => {
                under_way.push((told.len(), change));
                Told::known(number, PostbackResult::Updated, now)
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
        (Some(id), None, None, None) => Named::Conversion(id),
        (None, Some(advertiser), Some(event), Some(txn_id)) => {
            Named::Transaction { advertiser, event, txn_id }
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
