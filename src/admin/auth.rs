//! Who may use the API: whoever has a bearer token whose role allows the call.

use std::sync::Arc;

use arc_swap::ArcSwap;
use axum::extract::{Request, State};
use axum::http::header::AUTHORIZATION;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::error::ApiError;
use super::server::{API, AdminState};
use crate::audit::Author;
use crate::model::admin::{AdminResult, KnownToken, Role};

/// The tokens in force.
pub struct AdminTokens(ArcSwap<Vec<KnownToken>>);

impl AdminTokens {
    /// These tokens.
    #[must_use]
    pub fn new(tokens: Vec<KnownToken>) -> Self {
        Self(ArcSwap::from_pointee(tokens))
    }

    /// Brings others into force; returns those of before.
    pub fn replace(&self, tokens: Vec<KnownToken>) -> Arc<Vec<KnownToken>> {
        self.0.swap(Arc::new(tokens))
    }

    /// The tokens in force.
    #[must_use]
    pub fn all(&self) -> Arc<Vec<KnownToken>> {
        self.0.load_full()
    }

    /// Who shows `given`, and what becomes of a call that needs `role`. It is compared with all of
    /// them, as a hash, so that the time it takes tells nothing about any.
    fn judge(
        &self,
        given: Option<&str>,
        role: Role,
        now_ms: u64,
    ) -> (AdminResult, Option<Arc<str>>) {
        let Some(given) = given else { return (AdminResult::Unauthorized, None) };
        let given = blake3::hash(given.as_bytes());
        let tokens = self.0.load();
        let matching = tokens.iter().fold(None, |found, token| {
            // Comparing two BLAKE3 hashes is constant-time in that crate.
            if token.hash.is_some_and(|hash| hash == given) { Some(token) } else { found }
        });
        let Some(token) = matching else { return (AdminResult::Unauthorized, None) };
        let result = if token.until_ms.is_some_and(|until| until <= now_ms) {
            AdminResult::Expired
        } else if !token.role.allows(role) {
            AdminResult::Forbidden
        } else {
            AdminResult::Allowed
        };
        (result, Some(Arc::clone(&token.name)))
    }
}

/// What a group of routes asks for.
#[derive(Clone)]
pub struct Needs {
    pub state: Arc<AdminState>,
    pub role: Role,
    /// Whether they come after visitors and advertisers, where these need the disk.
    pub yields: bool,
}

/// Lets a request through if it carries a token that allows it; handlers find its [`Author`] among
/// the request's extensions.
pub async fn require(State(needs): State<Needs>, mut request: Request, next: Next) -> Response {
    let Needs { state, role, yields } = needs;
    let given = request
        .headers()
        .get(AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.strip_prefix("Bearer "));
    let (result, who) = state.tokens.judge(given.map(str::trim), role, state.clock.now_ms());
    state.metrics.admin.answered(result);
    match (result, who) {
        (AdminResult::Allowed, _) if yields && state.store.is_overloaded() => {
            ApiError::overloaded().into_response()
        }
        (AdminResult::Allowed, Some(who)) => {
            // The router has taken its own part away from the path.
            let call = format!("{} {API}{}", request.method(), request.uri().path());
            request.extensions_mut().insert(Author::token(who, &call));
            next.run(request).await
        }
        (AdminResult::Expired, _) => ApiError::token_expired().into_response(),
        (AdminResult::Forbidden, _) => ApiError::forbidden().into_response(),
        _ => ApiError::unauthorized().into_response(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(name: &str, secret: Option<&str>, role: Role, until_ms: Option<u64>) -> KnownToken {
        let hash = secret.map(|secret| blake3::hash(secret.as_bytes()));
        KnownToken { name: name.into(), role, hash, until_ms }
    }

    #[test]
    fn the_whole_token_is_known_by_name_role_and_time() {
        let tokens = AdminTokens::new(vec![
            token("default", Some("first"), Role::Write, None),
            token("reader", Some("second"), Role::Read, None),
            token("guest", Some("third"), Role::Write, Some(1000)),
            token("lost", None, Role::Write, None),
        ]);
        let check = |given: &str, role, now_ms, result, name: &str| {
            let (found, who) = tokens.judge(Some(given), role, now_ms);
            assert_eq!((found, who.as_deref().unwrap_or_default()), (result, name), "{given:?}");
        };
        check("first", Role::Write, 0, AdminResult::Allowed, "default");
        check("second", Role::Read, 0, AdminResult::Allowed, "reader");
        check("second", Role::Write, 0, AdminResult::Forbidden, "reader");
        check("third", Role::Write, 999, AdminResult::Allowed, "guest");
        check("third", Role::Read, 1000, AdminResult::Expired, "guest");
        for wrong in ["", "firs", "first ", "First", "firstfirst", "lost", "default"] {
            check(wrong, Role::Read, 0, AdminResult::Unauthorized, "");
        }
        assert_eq!(tokens.judge(None, Role::Read, 0).0, AdminResult::Unauthorized);
    }

    #[test]
    fn what_is_taken_out_is_unknown_at_once() {
        let tokens = AdminTokens::new(vec![token("a", Some("x"), Role::Read, None)]);
        tokens.replace(Vec::new());
        assert_eq!(tokens.judge(Some("x"), Role::Read, 0).0, AdminResult::Unauthorized);
    }
}
