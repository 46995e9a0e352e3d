//! Long work: begun by `POST`, one at a time, and looked after by `GET /api/v1/jobs/{id}`.

use std::collections::VecDeque;
use std::path::Path as FilePath;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::{HeaderValue, LOCATION};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use serde::Serialize;
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use utoipa::ToSchema;

use super::audit;
use super::error::ApiError;
use super::question::InPath;
use super::server::AdminState;
use super::shapes::rfc3339;
use crate::audit::Author;
use crate::backup::{BackupError, verified_copy};
use crate::files::remove_folder;
use crate::limits::{JOBS_KEPT_BYTES_MAX, JOBS_KEPT_MAX, VERIFY_CACHE_BYTES};
use crate::model::admin::AuditAction;
use crate::store::engine::EngineError;
use crate::store::{Archive, Store, yield_to_others};
use crate::verify::verify as look_through;

const BACKUP: &str = "backup";

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
    /// How long its result is as JSON.
    #[serde(skip)]
    bytes: usize,
}

/// The jobs of this process: one under way, and the last that have ended.
#[derive(Debug)]
pub struct Jobs {
    /// Which start of the server this is: no other process's job has the same ID.
    start: u64,
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    begun: u64,
    /// Whether somebody wanted to begin one while another was under way.
    has_refused: bool,
    jobs: VecDeque<Job>,
}

impl Jobs {
    /// No job yet in this start of the server.
    #[must_use]
    pub fn new(start: u64) -> Self {
        Self { start, kept: Mutex::default() }
    }

    /// Begins a job, if none is under way.
    fn begin(&self, kind: &'static str, now_ms: u64) -> Result<Job, ApiError> {
        let mut kept = self.lock();
        if let Some(running) = kept.under_way().map(|job| job.job_id.clone()) {
            kept.has_refused = true;
            return Err(ApiError::job_running(running));
        }
        kept.begun += 1;
        let job = Job {
            job_id: format!("{}-{}", self.start, kept.begun),
            kind,
            status: "running",
            started: rfc3339(now_ms),
            ended: None,
            result: None,
            error: None,
            bytes: 0,
        };
        kept.jobs.push_back(job.clone());
        kept.forget();
        Ok(job)
    }

    fn end(&self, id: &str, now_ms: u64, result: Result<Value, String>) {
        let bytes = result.as_ref().map_or(0, |found| found.to_string().len());
        let mut kept = self.lock();
        if let Some(job) = kept.jobs.iter_mut().find(|job| job.job_id == id) {
            job.ended = Some(rfc3339(now_ms));
            match result {
                Ok(found) => (job.status, job.result) = ("succeeded", Some(found)),
                Err(error) => (job.status, job.error) = ("failed", Some(error)),
            }
            job.bytes = bytes;
        }
        kept.forget();
    }

    /// Whether one is under way.
    pub(super) fn is_under_way(&self) -> bool {
        self.lock().under_way().is_some()
    }

    /// Whether somebody was refused since this was asked last, because another was under way.
    pub(super) fn take_refused(&self) -> bool {
        std::mem::take(&mut self.lock().has_refused)
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    /// Forgets the oldest that are beyond what is remembered; never the last one.
    fn forget(&mut self) {
        let bytes = |jobs: &VecDeque<Job>| jobs.iter().map(|job| job.bytes).sum::<usize>();
        while self.jobs.len() > JOBS_KEPT_MAX
            || self.jobs.len() > 1 && bytes(&self.jobs) > JOBS_KEPT_BYTES_MAX
        {
            self.jobs.pop_front();
        }
    }

    fn under_way(&self) -> Option<&Job> {
        self.jobs.back().filter(|job| job.status == "running")
    }
}

/// Begins work, if none is under way, on a thread of its own, which may yield to the traffic. It
/// ends with the process if that ends first; what it leaves behind the next one removes.
pub(super) fn begin(
    state: &Arc<AdminState>,
    kind: &'static str,
    work: impl FnOnce(&AdminState) -> Result<Value, String> + Send + 'static,
) -> Result<(Job, JoinHandle<()>), ApiError> {
    let job = state.jobs.begin(kind, state.clock.now_ms())?;
    let (state, id) = (Arc::clone(state), job.job_id.clone());
    let ended = tokio::task::spawn_blocking(move || {
        // Of its own: a thread that has yielded once can never go back.
        let result = std::thread::scope(|scope| {
            let thread = std::thread::Builder::new().name("job".into());
            let spawned = thread.spawn_scoped(scope, || work(&state));
            let spawned = spawned.map_err(|error| error.to_string())?;
            spawned.join().unwrap_or_else(|_| Err("the work ended badly".to_owned()))
        });
        if let Err(error) = &result {
            tracing::warn!(kind, error, "a job failed");
        }
        state.jobs.end(&id, state.clock.now_ms(), result);
    });
    Ok((job, ended))
}

/// Runs a job's steps on its own thread, at that thread's priority: what they commit holds locks for
/// which workers wait. They go on while the server's runtimes end.
pub(super) fn steps<T>(steps: impl Future<Output = Result<T, String>>) -> Result<T, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
    runtime.map_err(|error| error.to_string())?.block_on(steps)
}

pub(super) fn accepted(job: Job) -> Response {
    let location = HeaderValue::try_from(format!("/api/v1/jobs/{}", job.job_id));
    let mut response = (StatusCode::ACCEPTED, Json(job)).into_response();
    if let Ok(location) = location {
        response.headers_mut().insert(LOCATION, location);
    }
    response
}

/// Looks through a copy of the store as it is now.
#[utoipa::path(
    post, path = "/verify", operation_id = "post_verify", tag = "system",
    responses((status = 202, description = "It has begun; `Location` is the job.", body = Job)),
)]
pub async fn verify(
    State(state): State<Arc<AdminState>>,
    Extension(by): Extension<Author>,
) -> Result<Response, ApiError> {
    let (job, _) = begin(&state, "verify", |state| {
        yield_to_others();
        verify_copy(&state.store, &verified_copy(&state.store_path))
    })?;
    audit::keep_soon(&state, &by, AuditAction::Verify, &json!({ "job_id": job.job_id }));
    Ok(accepted(job))
}

/// Makes a backup of the store as it is now, and verifies it.
#[utoipa::path(
    post, path = "/backup", operation_id = "post_backup", tag = "system",
    responses((status = 202, description = "It has begun; `Location` is the job.", body = Job)),
)]
pub async fn backup(
    State(state): State<Arc<AdminState>>,
    Extension(by): Extension<Author>,
) -> Result<Response, ApiError> {
    if state.backups.is_none() {
        return Err(ApiError::no_backup_path());
    }
    let (job, _) = begin(&state, BACKUP, take_backup)?;
    audit::keep_soon(&state, &by, AuditAction::Backup, &json!({ "job_id": job.job_id }));
    Ok(accepted(job))
}

/// Makes a backup and waits for its end; false if another job is under way.
pub async fn back_up(state: &Arc<AdminState>) -> bool {
    match begin(state, BACKUP, take_backup) {
        Ok((_, ended)) => ended.await.is_ok(),
        Err(_) => false,
    }
}

/// A job under way, or one of the last that have ended.
#[utoipa::path(
    get, path = "/jobs/{id}", operation_id = "get_job", tag = "system",
    params(("id" = String, Path, description = "The job.")),
    responses((status = 200, description = "The job.", body = Job)),
)]
pub async fn job(
    State(state): State<Arc<AdminState>>,
    InPath(id): InPath<String>,
) -> Result<Json<Job>, ApiError> {
    let job = state.jobs.lock().jobs.iter().find(|job| job.job_id == id).cloned();
    job.map(Json).ok_or_else(|| ApiError::not_found("no such job, or it is long over"))
}

fn take_backup(state: &AdminState) -> Result<Value, String> {
    yield_to_others();
    let backups = state.backups.as_ref().ok_or("there is no backup.path")?;
    let copy = |folder: &FilePath| {
        // What is readable then is not what the disk has confirmed.
        match state.store.health().poison_reason() {
            Some(_) => Err(EngineError("the store is poisoned".to_owned()).into()),
            None => Ok(state.store.copy_to(folder)?),
        }
    };
    let may_go_on = || if state.drain.has_begun() { Err(BackupError::Stopping) } else { Ok(()) };
    let taken = backups.take(state.clock.now_ms(), copy, &may_go_on);
    let measured =
        taken.as_ref().ok().map(|taken| (Duration::from_millis(taken.took_ms), taken.bytes));
    state.metrics.backed_up(Some(measured));
    let taken = taken.map_err(|error| error.to_string())?;
    tracing::info!(folder = %taken.folder.display(), taken.bytes, taken.took_ms, "backed up");
    if taken.linked {
        tracing::warn!(
            folder = %taken.folder.display(),
            "the backup is on the store's own file system and goes with that disk: is the disk for \
             backups mounted?"
        );
    }
    serde_json::to_value(taken).map_err(|error| error.to_string())
}

/// A copy costs hardly anything and stands still, while the store goes on.
fn verify_copy(store: &Store, folder: &FilePath) -> Result<Value, String> {
    removed(folder)?;
    store.copy_to(folder).map_err(|error| error.to_string())?;
    let report = Archive::open(folder, VERIFY_CACHE_BYTES)
        .map_err(|error| error.to_string())
        .and_then(|archive| look_through(&archive.view()).map_err(|error| error.to_string()));
    removed(folder)?;
    serde_json::to_value(report?).map_err(|error| error.to_string())
}

fn removed(folder: &FilePath) -> Result<(), String> {
    remove_folder(folder).map_err(|error| format!("cannot remove {}: {error}", folder.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jobs_are_remembered_up_to_a_number_and_as_many_bytes_and_the_last_one_always() {
        let jobs = Jobs::new(1);
        let done = |bytes: usize| {
            let id = jobs.begin("verify", 0).expect("none is under way").job_id;
            jobs.end(&id, 0, Ok("x".repeat(bytes).into()));
            jobs.lock().jobs.len()
        };
        let small: Vec<_> = (0..20).map(|_| done(10)).collect();
        assert_eq!(small[14..], [15, 16, 16, 16, 16, 16]);
        assert_eq!(done(JOBS_KEPT_BYTES_MAX / 2), 16);
        assert_eq!(done(JOBS_KEPT_BYTES_MAX / 2), 1, "together they are too long");
        assert_eq!(done(2 * JOBS_KEPT_BYTES_MAX), 1);
        assert_eq!(done(10), 1, "that one goes with the next");
        assert_eq!(done(10), 2);
    }
}
