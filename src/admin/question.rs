//! What the questions of listings and reports have in common: how they are read, and their words.

use axum::extract::{FromRequestParts, Path, Query};
use axum::http::request::Parts;
use jiff::Timestamp;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::error::ApiError;
use crate::limits::PAGE_ROWS_MAX;
use crate::model::period::named_moment;

const PAGE_ROWS_DEFAULT: usize = 100;

/// What a query asks for, if it is well-formed.
pub struct InQuery<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for InQuery<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let asked = Query::from_request_parts(parts, state).await;
        let Query(asked) =
            asked.map_err(|error| ApiError::bad_request("bad_parameter", error.body_text()))?;
        Ok(Self(asked))
    }
}

/// What a path names, if it is well-formed.
pub struct InPath<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned + Send> FromRequestParts<S> for InPath<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let named = Path::from_request_parts(parts, state).await;
        let Path(named) =
            named.map_err(|error| ApiError::bad_request("bad_parameter", error.body_text()))?;
        Ok(Self(named))
    }
}

/// How many rows a page has.
pub fn page_rows(asked: Option<usize>) -> Result<usize, ApiError> {
    let rows = asked.unwrap_or(PAGE_ROWS_DEFAULT);
    if !(1..=PAGE_ROWS_MAX).contains(&rows) {
        return Err(ApiError::bad_request("bad_limit", format!("limit is 1 to {PAGE_ROWS_MAX}")));
    }
    Ok(rows)
}

/// Where the page before ended, as `read` understands it.
pub fn cursor<T>(
    asked: Option<&str>,
    read: impl FnOnce(&str) -> Option<T>,
) -> Result<Option<T>, ApiError> {
    let not_a_cursor = || ApiError::bad_request("bad_cursor", "not a cursor");
    asked.map(|text| read(text).ok_or_else(not_a_cursor)).transpose()
}

/// A moment: RFC 3339, or a date, which begins in UTC.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(try_from = "String")]
pub struct Moment(Timestamp);

impl TryFrom<String> for Moment {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        named_moment(&text).map(Self)
    }
}

/// Unix milliseconds; a time before 1970 is their beginning.
pub fn millis(Moment(time): Moment) -> u64 {
    u64::try_from(time.as_millisecond()).unwrap_or(0)
}
