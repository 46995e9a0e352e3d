//! Long work: begun by `POST`, one at a time, and looked after by `GET /api/v1/jobs/{id}`.

use std::collections::VecDeque;
use std::path::Path as FilePath;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::http::header::{HeaderValue, LOCATION};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::error::ApiError;
use super::server::AdminState;
use super::shapes::rfc3339;
use crate::limits::{JOBS_KEPT_MAX, VERIFY_CACHE_BYTES};
use crate::store::{Archive, Store};
use crate::verify::verify as look_through;

/// A job as the API shows it.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Job {
    job_id: String,
    kind: &'static str,
    /// `running`, `succeeded` (whatever it found) or `failed` (it could not be done).
    status: &'static str,
    started: String,
    ended: Option<String>,
    result: Option<Value>,
    error: Option<String>,
}

/// The jobs of this process: one under way, and the last that have ended.
#[derive(Debug, Default)]
pub struct Jobs(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    begun: u64,
    jobs: VecDeque<Job>,
}

impl Jobs {
    /// Begins a job, if none is under way.
    fn begin(&self, kind: &'static str, now_ms: u64) -> Result<(u64, Job), ApiError> {
        let mut kept = self.lock();
        if kept.jobs.back().is_some_and(|job| job.status == "running") {
            return Err(ApiError::job_running(kept.begun));
        }
        kept.begun += 1;
        let job = Job {
            job_id: kept.begun.to_string(),
            kind,
            status: "running",
            started: rfc3339(now_ms),
            ended: None,
            result: None,
            error: None,
        };
        kept.jobs.push_back(job.clone());
        if kept.jobs.len() > JOBS_KEPT_MAX {
            kept.jobs.pop_front();
        }
        Ok((kept.begun, job))
    }

    fn end(&self, id: u64, now_ms: u64, result: Result<Value, String>) {
        let id = id.to_string();
        if let Some(job) = self.lock().jobs.iter_mut().find(|job| job.job_id == id) {
            job.ended = Some(rfc3339(now_ms));
            match result {
                Ok(found) => (job.status, job.result) = ("succeeded", Some(found)),
                Err(error) => (job.status, job.error) = ("failed", Some(error)),
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Looks through a copy of the store as it is now.
#[utoipa::path(
    post, path = "/verify", operation_id = "post_verify", tag = "system",
    responses((status = 202, description = "It has begun; `Location` is the job.", body = Job)),
)]
pub async fn verify(State(state): State<Arc<AdminState>>) -> Result<Response, ApiError> {
    let (id, job) = state.jobs.begin("verify", state.clock.now_ms())?;
    let work = Arc::clone(&state);
    // It ends with the process if that ends first; what it leaves behind the next one removes.
    tokio::task::spawn_blocking(move || {
        let result = verify_copy(&work.store, &work.store_path.join("verify"));
        if let Err(error) = &result {
            tracing::warn!(error, "the store was not verified");
        }
        work.jobs.end(id, work.clock.now_ms(), result);
    });
    let mut response = (StatusCode::ACCEPTED, Json(job)).into_response();
    if let Ok(location) = HeaderValue::try_from(format!("/api/v1/jobs/{id}")) {
        response.headers_mut().insert(LOCATION, location);
    }
    Ok(response)
}

/// A job under way, or one of the last that have ended.
#[utoipa::path(
    get, path = "/jobs/{id}", operation_id = "get_job", tag = "system",
    params(("id" = String, Path, description = "The job.")),
    responses((status = 200, description = "The job.", body = Job)),
)]
pub async fn job(
    State(state): State<Arc<AdminState>>,
    Path(id): Path<String>,
) -> Result<Json<Job>, ApiError> {
    let job = state.jobs.lock().jobs.iter().find(|job| job.job_id == id).cloned();
    job.map(Json).ok_or_else(|| ApiError::not_found("no such job, or it is long over"))
}

/// A copy costs hardly anything and stands still, while the store goes on.
fn verify_copy(store: &Store, folder: &FilePath) -> Result<Value, String> {
    remove(folder)?;
    store.copy_to(folder).map_err(|error| error.to_string())?;
    let report = Archive::open(folder, VERIFY_CACHE_BYTES)
        .map_err(|error| error.to_string())
        .and_then(|archive| look_through(&archive.view()).map_err(|error| error.to_string()));
    remove(folder)?;
    serde_json::to_value(report?).map_err(|error| error.to_string())
}

fn remove(folder: &FilePath) -> Result<(), String> {
    match std::fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(format!("cannot remove {}: {error}", folder.display()))
        }
        _ => Ok(()),
    }
}
