//! `POST /api/v1/erase`: what is known of a person is erased, as a job.

use std::sync::Arc;

use axum::extract::State;
use axum::extract::rejection::JsonRejection;
use axum::response::Response;
use axum::{Extension, Json};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::oneshot;
use utoipa::ToSchema;

use super::affiliates::{is_in_log, is_known_advertiser};
use super::audit;
use super::error::ApiError;
use super::jobs::{Job, accepted, begin, steps};
use super::lookup::parse_click;
use super::server::AdminState;
use crate::audit::Author;
use crate::backup::remove_copies;
use crate::dedup::Claim;
use crate::limits::{
    ERASURE_UNFILED_FEW, ERASURE_WAITS_FOR_FILING, ERASURES_AGAIN_AFTER, ERASURES_GIVE_WAY,
    ERASURES_REST, FILING_TURN, TXN_ID_BYTES_MAX,
};
use crate::model::admin::AuditAction;
use crate::model::ids::ID_BYTES_MAX;
use crate::postback::{DamagedRecord, Erased, patiently};
use crate::store::keys::Subject;

const ERASE: &str = "erase";

/// Whose data are erased: those of a click's visitor, or of an advertiser's customer.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Erasure {
    /// A click ID, 33 characters.
    click_id: Option<String>,
    /// An advertiser's ID.
    advertiser: Option<String>,
    /// The advertiser's own ID of the customer.
    customer_id: Option<String>,
    /// Only count what would be erased.
    #[serde(default)]
    dry_run: bool,
}

/// Erases what is known of a click's visitor or an advertiser's customer.
#[utoipa::path(
    post, path = "/erase", operation_id = "post_erase", tag = "records",
    request_body = Erasure,
    responses((status = 202, description = "It has begun; `Location` is the job.", body = Job)),
)]
pub async fn erase(
    State(state): State<Arc<AdminState>>,
    Extension(by): Extension<Author>,
    body: Result<Json<Erasure>, JsonRejection>,
) -> Result<Response, ApiError> {
    let Json(body) = body.map_err(|error| ApiError::bad_request("bad_body", error.body_text()))?;
    let (subject, dry_run) = (subject(&state, &body).await?, body.dry_run);
    let (kept, is_kept) = oneshot::channel();
    let (job, _) = begin(&state, ERASE, move |state| {
        steps(async {
            if dry_run {
                return would_erase(state, subject).await;
            }
            // Nothing that would tell whose data they are.
            let details = json!({ "of": subject.kind() });
            audit::keep_first(state, &by, AuditAction::Erase, &details).await?;
            // One that failed is done with this one.
            let again = patiently(async || state.store.is_erasing(subject).await).await;
            let again = again.map_err(text)?;
            let now_ms = state.clock.now_ms();
            let begun = patiently(async || state.store.begin_erasure(subject, now_ms).await).await;
            let error = begun.as_ref().err().map(|error| format!("not begun: {error}"));
            // Who asked may have gone.
            let _ = kept.send(begun);
            error.map_or(Ok(()), Err)?;
            erased(state, subject, again).await
        })
    })?;
    if !dry_run {
        // Whoever is told that it has begun need not ask again after a crash.
        match is_kept.await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return Err(ApiError::work_failed(error)),
            Err(_) => return Err(ApiError::work_failed("the erasure ended badly")),
        }
    }
    Ok(accepted(job))
}

async fn subject(state: &AdminState, body: &Erasure) -> Result<Subject, ApiError> {
    match (&body.click_id, &body.advertiser, &body.customer_id) {
        (Some(click), None, None) => Ok(Subject::Click(parse_click(state, click)?.record())),
        (None, Some(advertiser), Some(customer_id)) => {
            let fits = (1..=ID_BYTES_MAX).contains(&advertiser.len())
                && (1..=TXN_ID_BYTES_MAX).contains(&customer_id.len());
            if !fits {
                let what = "an advertiser or a customer ID is never empty, nor as long as this";
                return Err(ApiError::bad_request("bad_parameter", what));
            }
            let claim = Claim::Customer { advertiser, customer_id, windows: None };
            if !is_known_advertiser(state, advertiser).await? {
                // Earlier builds kept no owners of offers; what a customer did is there all the same.
                let own = state.store.conversions_of_customers([claim].into_iter(), 1).await?;
                if own.rows.is_empty() && !is_in_log(state, advertiser).await? {
                    return Err(ApiError::never_was("an advertiser"));
                }
            }
            Ok(Subject::Customer(claim.store_key()))
        }
        _ => {
            let what = "say whose data: click_id, or advertiser and customer_id";
            Err(ApiError::bad_request("bad_parameter", what))
        }
    }
}

/// Waits until the conversions that are there are filed, unless they are few: of those that are not,
/// all would be looked through for each click. If it takes too long, so be it.
async fn filed(state: &AdminState) {
    if state.store.progress().unfiled() < ERASURE_UNFILED_FEW {
        return;
    }
    let wanted = state.store.file_soon();
    let filed = async {
        while state.store.progress().filed() < wanted {
            tokio::time::sleep(FILING_TURN).await;
        }
    };
    let _ = tokio::time::timeout(ERASURE_WAITS_FOR_FILING, filed).await;
}

async fn would_erase(state: &AdminState, subject: Subject) -> Result<Value, String> {
    filed(state).await;
    let found = state.postbacks.would_erase(subject).await.map_err(text)?;
    Ok(result(&found, true))
}

/// `again` if it was begun before.
async fn erased(state: &AdminState, subject: Subject, again: bool) -> Result<Value, String> {
    // No other job is under way, so what is there was left by a kill.
    let no_copies = || remove_copies(&state.store_path).map_err(not_out_of_files);
    if again {
        // It would keep others from their turn, and fail all the same.
        no_copies()?;
    }
    filed(state).await;
    let erased = state.postbacks.erase(subject, state.clock.now_ms(), again).await;
    let (erased, touched) = erased.map_err(|error| {
        format!("{error}; the erasure is kept, and tried again every ten minutes")
    })?;
    no_copies()?;
    state.store.purge(touched).map_err(not_out_of_files)?;
    patiently(async || state.store.end_erasure(subject).await).await.map_err(text)?;
    tracing::info!(of = subject.kind(), taken_up = again, "an erasure is done");
    Ok(result(&erased, false))
}

fn not_out_of_files(error: impl std::fmt::Display) -> String {
    format!("what was erased is not out of all files yet, and will be tried again: {error}")
}

fn result(erased: &Erased, dry_run: bool) -> Value {
    let Erased { clicks, conversions, damaged } = erased;
    if !damaged.is_empty() {
        tracing::warn!(records = damaged.len(), "an erasure came across damaged records");
    }
    let name = |it: &DamagedRecord| json!({ "table": it.table.name(), "key": it.key });
    let damaged: Vec<_> = damaged.iter().map(name).collect();
    json!({ "clicks": clicks, "conversions": conversions, "damaged": damaged, "dry_run": dry_run })
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

/// Takes up erasures that were begun and have not come to their end: cut short by a stop or a
/// crash, failed, or begun while another job was running. Others have their turn between them.
pub async fn resume_erasures(state: &Arc<AdminState>) {
    loop {
        match state.store.erasures().await {
            Ok(under_way) => {
                for subject in under_way {
                    resume(state, subject).await;
                }
            }
            Err(error) => tracing::warn!(%error, "erasures under way cannot be read"),
        }
        tokio::time::sleep(ERASURES_AGAIN_AFTER).await;
    }
}

/// Takes up one of them, when no other job is under way.
async fn resume(state: &Arc<AdminState>, subject: Subject) {
    // Somebody may have asked for it again meanwhile. If that cannot be read, it is simply done.
    while !matches!(state.store.is_erasing(subject).await, Ok(false)) {
        if state.jobs.is_under_way() {
            tokio::time::sleep(ERASURES_REST).await;
            continue;
        }
        let begun = begin(state, ERASE, move |state| steps(erased(state, subject, true)));
        let is_over = match begun {
            Ok((_, ended)) => ended.await.is_ok(),
            Err(_) => false,
        };
        let rest = if state.jobs.take_refused() { ERASURES_GIVE_WAY } else { ERASURES_REST };
        tokio::time::sleep(rest).await;
        if is_over {
            return;
        }
    }
}
