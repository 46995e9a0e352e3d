//! The API's errors: `{"error": {"code": …, "message": …}}`.

use axum::Json;
use axum::http::StatusCode;
use axum::http::header::{RETRY_AFTER, WWW_AUTHENTICATE};
use axum::response::{IntoResponse, Response};
use serde_json::json;

use crate::rates::PutError;
use crate::store::ReadError;
use crate::store::records::RecordError;

/// An error of the admin API.
#[derive(Debug)]
pub struct ApiError {
    status: StatusCode,
    code: &'static str,
    message: String,
}

impl ApiError {
    /// 400: a parameter is wrong.
    pub fn bad_request(code: &'static str, message: impl Into<String>) -> Self {
        Self { status: StatusCode::BAD_REQUEST, code, message: message.into() }
    }

    /// 401: no token, or another.
    pub fn unauthorized() -> Self {
        let message = "send the admin token as 'Authorization: Bearer TOKEN'".into();
        Self { status: StatusCode::UNAUTHORIZED, code: "unauthorized", message }
    }

    /// 404: nothing there.
    pub fn not_found(message: impl Into<String>) -> Self {
        Self { status: StatusCode::NOT_FOUND, code: "not_found", message: message.into() }
    }
}

impl From<PutError> for ApiError {
    fn from(error: PutError) -> Self {
        let message = error.to_string();
        match error {
            PutError::TooManyDays => Self::bad_request("too_many_days", message),
            PutError::Store(_) => {
                Self { status: StatusCode::SERVICE_UNAVAILABLE, code: "store_busy", message }
            }
        }
    }
}

impl From<ReadError> for ApiError {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Busy(_) => Self {
                status: StatusCode::SERVICE_UNAVAILABLE,
                code: "store_busy",
                message: error.to_string(),
            },
            ReadError::Engine(_) | ReadError::Record(_) | ReadError::Poisoned => {
                tracing::error!(%error, "the admin API could not read the store");
                Self {
                    status: StatusCode::INTERNAL_SERVER_ERROR,
                    code: "store_failed",
                    message: error.to_string(),
                }
            }
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
        let body = Json(json!({"error": {"code": self.code, "message": self.message}}));
        let mut response = (self.status, body).into_response();
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
