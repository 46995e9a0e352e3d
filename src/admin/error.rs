//! The API's errors: `{"error": {"code": …, "message": …}}`.

use axum::Json;
use axum::http::StatusCode;
use axum::http::header::{RETRY_AFTER, WWW_AUTHENTICATE};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use super::catalog::{Mistake, mistakes};
use crate::catalog::{LoadError, version_text};
use crate::dedup::ClaimError;
use crate::limits::{CATALOG_BYTES_MAX, CATALOG_TRANSFER_TIMEOUT, UPLOAD_BYTES_MAX};
use crate::rates::PutError;
use crate::report::ReportError;
use crate::store::records::RecordError;
use crate::store::{ChangeError, NumbersError, ReadError, SubmitError, SumsError, WriteError};

/// An error of the admin API.
#[derive(Debug)]
pub struct ApiError {
    status: StatusCode,
    /// Apart: an error is the rare end of a call.
    shape: Box<ErrorShape>,
}

/// The body of every error.
#[derive(Debug, Serialize, ToSchema)]
pub struct ErrorBody {
    error: ErrorShape,
}

/// What went wrong.
#[derive(Debug, Serialize, ToSchema, Default)]
#[schema(as = Error)]
struct ErrorShape {
    /// For programs.
    code: &'static str,
    /// For people.
    message: String,
    /// Of `invalid_catalog`: the mistakes, up to 1,000 of each severity.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    mistakes: Vec<Mistake>,
    /// Of `invalid_catalog`: how many more there are.
    #[serde(skip_serializing_if = "Option::is_none")]
    left_out: Option<usize>,
    /// Of `stale_version`: the version in force.
    #[serde(skip_serializing_if = "Option::is_none")]
    in_force: Option<String>,
    /// Of `job_running`: the job under way.
    #[serde(skip_serializing_if = "Option::is_none")]
    job_id: Option<String>,
}

impl ApiError {
    /// 400: a parameter is wrong.
    pub fn bad_request(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, code, message)
    }

    /// 401: no token, or another.
    pub fn unauthorized() -> Self {
        let message =
            "send a token that this server's admin API knows, as 'Authorization: Bearer TOKEN'";
        Self::new(StatusCode::UNAUTHORIZED, "unauthorized", message)
    }

    /// 401: its time is over.
    pub fn token_expired() -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "token_expired", "the token's time is over")
    }

    /// 403: the token may look, and not change anything.
    pub fn forbidden() -> Self {
        let message = "this call asks for a token of the role write";
        Self::new(StatusCode::FORBIDDEN, "forbidden", message)
    }

    /// 404: nothing there.
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", message)
    }

    /// 404: neither the catalog nor the store knows of such a one.
    pub fn never_was(what: &str) -> Self {
        Self::not_found(format!("there was never {what} with this ID"))
    }

    /// 405: the path knows other methods; `Allow` says which.
    pub fn method_not_allowed() -> Self {
        let message = "this path has no such method";
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", message)
    }

    /// 404: no text of that version is there.
    pub fn version_not_kept() -> Self {
        let message = "the text of this version is not kept: GET /api/v1/catalog/versions says of \
                       which it is";
        Self::new(StatusCode::NOT_FOUND, "version_not_kept", message)
    }

    /// 428: nobody said what is to be replaced.
    pub fn precondition_required() -> Self {
        let message = "say by If-Match which version is replaced: the ETag of GET, or *";
        Self::new(StatusCode::PRECONDITION_REQUIRED, "precondition_required", message)
    }

    /// 409: the API is not where the catalog comes from.
    pub fn catalog_is_a_file() -> Self {
        let message = "the catalog comes from the file that the configuration names: change it \
                       there and send SIGHUP, or take catalog out of the configuration";
        Self::new(StatusCode::CONFLICT, "catalog_is_a_file", message)
    }

    /// 503: visitors and advertisers come first.
    pub fn overloaded() -> Self {
        let message = "the disk is slower than the traffic; try again";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "overloaded", message)
    }

    /// 503: enough catalogs are in memory.
    pub fn catalog_busy() -> Self {
        let message = "other catalogs are being sent or received; try again";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "catalog_busy", message)
    }

    /// 409: one job at a time.
    pub fn job_running(id: String) -> Self {
        let message = "another job is running; wait for its end";
        Self::new(StatusCode::CONFLICT, "job_running", message)
            .with(|shape| shape.job_id = Some(id))
    }

    /// 409: nobody has said where backups go.
    pub fn no_backup_path() -> Self {
        let message = "the server was started without backup.path: set it and restart";
        Self::new(StatusCode::CONFLICT, "no_backup_path", message)
    }

    /// 503: enough proofs are being looked for.
    pub fn proofs_busy() -> Self {
        let message = "other proofs are being looked for; try again";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "proofs_busy", message)
    }

    /// 503: enough answers are being made or sent.
    pub fn answers_busy() -> Self {
        let message = "other answers are being made or sent; try again";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "answers_busy", message)
    }

    /// 503: enough reports are being made or sent.
    pub fn reports_busy() -> Self {
        let message = "other reports are being made or sent; try again";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "reports_busy", message)
    }

    /// 500: work that was begun ended badly, mostly by the store.
    pub fn work_failed(error: impl ToString) -> Self {
        let message = error.to_string();
        tracing::error!(error = message, "the admin API could not use the store");
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "store_failed", message)
    }

    /// 415: neither TOML nor JSON.
    pub fn unsupported_catalog() -> Self {
        let message = "send Content-Type: application/toml or application/json";
        Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", message)
    }

    /// 408: the body took too long.
    pub fn catalog_incomplete() -> Self {
        let message = format!("the catalog took longer than {CATALOG_TRANSFER_TIMEOUT:?}");
        Self::new(StatusCode::REQUEST_TIMEOUT, "body_incomplete", message)
    }

    /// 413: the body is too large.
    pub fn catalog_too_large() -> Self {
        let message = format!("a catalog has at most {CATALOG_BYTES_MAX} bytes");
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "catalog_too_large", message)
    }

    /// 413 or 400: the body is too large, or broke off.
    pub fn catalog_unread(error: &axum::Error) -> Self {
        let too_large = std::error::Error::source(error)
            .is_some_and(|source| source.is::<http_body_util::LengthLimitError>());
        if too_large {
            return Self::catalog_too_large();
        }
        Self::bad_request("body_incomplete", error.to_string())
    }

    /// 415: neither CSV nor NDJSON.
    pub fn unsupported_upload() -> Self {
        let message = "send Content-Type: text/csv or application/x-ndjson";
        Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", message)
    }

    /// 503: enough uploads are being worked on.
    pub fn upload_busy() -> Self {
        let message = "another upload is being worked on; try again";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "upload_busy", message)
    }

    /// 400: the upload did not come, or not whole.
    pub fn upload_unread(what: impl std::fmt::Display) -> Self {
        let message = format!("{what}; a file has at most {UPLOAD_BYTES_MAX} bytes");
        Self::bad_request("body_incomplete", message)
    }

    fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        let message = message.into();
        let shape = ErrorShape { code, message, ..ErrorShape::default() };
        Self { status, shape: Box::new(shape) }
    }

    fn with(mut self, add: impl FnOnce(&mut ErrorShape)) -> Self {
        add(&mut self.shape);
        self
    }

    fn store_busy(error: impl ToString) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "store_busy", error.to_string())
    }
}

impl From<PutError> for ApiError {
    fn from(error: PutError) -> Self {
        match error {
            PutError::TooManyDays => Self::bad_request("too_many_days", error.to_string()),
            PutError::InFile => {
                Self::new(StatusCode::CONFLICT, "rates_are_a_file", error.to_string())
            }
            PutError::Store(error) => error.into(),
        }
    }
}

impl From<ReadError> for ApiError {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Busy(_) => Self::store_busy(error),
            ReadError::Engine(_) | ReadError::Record(_) | ReadError::Poisoned => {
                Self::work_failed(error)
            }
        }
    }
}

impl From<ClaimError> for ApiError {
    fn from(error: ClaimError) -> Self {
        match error {
            ClaimError::Read(error) => error.into(),
            ClaimError::TooMany | ClaimError::SentAgain => Self::work_failed(error),
        }
    }
}

impl From<WriteError> for ApiError {
    fn from(error: WriteError) -> Self {
        match error {
            WriteError::Submit(error) => error.into(),
            WriteError::NotDurable => Self::work_failed(error),
        }
    }
}

impl From<ReportError> for ApiError {
    fn from(error: ReportError) -> Self {
        match error {
            ReportError::TooManyRows => Self::bad_request("too_many_rows", error.to_string()),
            ReportError::Sums(SumsError::Behind) => {
                Self::new(StatusCode::SERVICE_UNAVAILABLE, "counters_behind", error.to_string())
            }
            ReportError::Sums(SumsError::Read(error)) => error.into(),
            ReportError::Sums(SumsError::Open(_)) => Self::work_failed(error),
        }
    }
}

impl From<SubmitError> for ApiError {
    fn from(error: SubmitError) -> Self {
        match error {
            SubmitError::Full | SubmitError::DiskFull | SubmitError::Closed => {
                Self::store_busy(error)
            }
            SubmitError::Poisoned => Self::work_failed(error),
        }
    }
}

impl From<LoadError> for ApiError {
    fn from(error: LoadError) -> Self {
        match error {
            LoadError::Mistakes(report) => {
                let message = match report.mistakes().len() + report.left_out() {
                    1 => "the catalog has a mistake; nothing was changed".to_owned(),
                    all => {
                        format!("the catalog has {all} mistakes and warnings; nothing was changed")
                    }
                };
                Self::bad_request("invalid_catalog", message).with(|shape| {
                    shape.mistakes = mistakes(&report);
                    shape.left_out = Some(report.left_out());
                })
            }
            LoadError::Stale(in_force) => {
                Self::new(StatusCode::PRECONDITION_FAILED, "stale_version", error.to_string())
                    .with(|shape| shape.in_force = Some(version_text(in_force)))
            }
            LoadError::Numbers(NumbersError::Exhausted) => {
                Self::new(StatusCode::CONFLICT, "numbers_exhausted", error.to_string())
            }
            LoadError::Numbers(NumbersError::Change(ref cause)) | LoadError::Kept(ref cause) => {
                match cause {
                    ChangeError::Read(error) => error.clone().into(),
                    ChangeError::Submit(error) => (*error).into(),
                    ChangeError::NotDurable => Self::work_failed(error),
                }
            }
            LoadError::Store(error) => error.into(),
            LoadError::Noted(error) => error.into(),
            LoadError::Unreadable { .. } | LoadError::Unnumbered(_) => Self::work_failed(error),
        }
    }
}

impl From<RecordError> for ApiError {
    fn from(error: RecordError) -> Self {
        ReadError::from(error).into()
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = (self.status, Json(ErrorBody { error: *self.shape })).into_response();
        let headers = response.headers_mut();
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(WWW_AUTHENTICATE, axum::http::HeaderValue::from_static("Bearer"));
        }
        if self.status == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(RETRY_AFTER, axum::http::HeaderValue::from_static("1"));
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_that_were_not_kept_are_answered_as_any_other_change() {
        let poisoned = WriteError::Submit(SubmitError::Poisoned);
        let full = WriteError::Submit(SubmitError::DiskFull);
        for (error, status) in [(poisoned, 500), (WriteError::NotDurable, 500), (full, 503)] {
            let rates = ApiError::from(PutError::Store(error));
            assert_eq!(rates.status.as_u16(), status);
            assert_eq!(rates.shape.code, ApiError::from(error).shape.code);
        }
    }
}
