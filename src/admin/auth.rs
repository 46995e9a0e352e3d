//! Who may use the API: whoever has the bearer token.

use std::fmt;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::header::AUTHORIZATION;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::error::ApiError;
use super::server::AdminState;

/// The admin API's bearer token.
#[derive(Clone)]
pub struct AdminToken(String);

impl AdminToken {
    /// A token given by configuration or read from its file.
    #[must_use]
    pub fn new(token: String) -> Self {
        Self(token)
    }

    /// The `Authorization` header that shows it.
    pub(super) fn bearer(&self) -> String {
        format!("Bearer {}", self.0)
    }

    /// Whether `given` is the token. Both are hashed first, so that the time it takes tells
    /// neither the length nor the place of the first difference.
    #[must_use]
    pub fn matches(&self, given: &str) -> bool {
        // Comparing two BLAKE3 hashes is constant-time in that crate.
        blake3::hash(self.0.as_bytes()) == blake3::hash(given.as_bytes())
    }
}

impl fmt::Debug for AdminToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AdminToken(…)")
    }
}

/// Lets a request through if it carries the token.
pub async fn require_token(
    State(state): State<Arc<AdminState>>,
    request: Request,
    next: Next,
) -> Response {
    let given = request
        .headers()
        .get(AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.strip_prefix("Bearer "));
    match given {
        Some(given) if state.token.matches(given.trim()) => next.run(request).await,
        _ => ApiError::unauthorized().into_response(),
    }
}

/// Lets a request through unless visitors and advertisers need the disk.
pub async fn yield_to_traffic(
    State(state): State<Arc<AdminState>>,
    request: Request,
    next: Next,
) -> Response {
    if state.store.is_overloaded() {
        return ApiError::overloaded().into_response();
    }
    next.run(request).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_whole_token_matches() {
        let token = AdminToken::new("secret".into());
        assert!(token.matches("secret"));
        for wrong in ["", "secre", "secret ", "Secret", "secretsecret"] {
            assert!(!token.matches(wrong), "{wrong:?}");
        }
    }
}
