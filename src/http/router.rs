// Hot path: every request of the public listener.
//! Which flow takes a request. The public listener has these routes and no other.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderName, HeaderValue, REFERER, USER_AGENT};
use hyper::{HeaderMap, Method, Request};

use super::client_ip::{TrustedProxies, client_ip};
use super::reply::{self, Reply};
use crate::click::{ClickAnswer, ClickRequest, Clicks};
use crate::limits::{BODY_BYTES_MAX, URL_BYTES_MAX};
use crate::metrics::Metrics;
use crate::model::reasons::{ClickFallback, Refusal};
use crate::postback::{Answer, Body, Postbacks};
use crate::time::{Clock, Randomness};

/// All that the public listener's requests need.
pub struct Router {
    /// Takes clicks.
    pub clicks: Clicks,
    /// Takes postbacks.
    pub postbacks: Postbacks,
    /// Counts.
    pub metrics: Arc<Metrics>,
    /// Whose word about the visitor's address counts.
    pub trusted_proxies: TrustedProxies,
    /// `Referrer-Policy` of redirects.
    pub referrer_policy: HeaderValue,
    /// How long a request's head may take, and an idle connection live.
    pub header_read_timeout: Duration,
    /// How long a request's body may take.
    pub body_read_timeout: Duration,
    /// What time it is.
    pub clock: Clock,
    /// Random numbers for `{random}`.
    pub randomness: Randomness,
}

/// Where a path leads.
enum Route<'a> {
    Click { code: Option<&'a str> },
    Postback { advertiser: Option<&'a str> },
    Unknown,
}

fn route(path: &str) -> Route<'_> {
    let one = |name: &'static str| path.strip_prefix(name).filter(|rest| !rest.contains('/'));
    match path {
        "/click" => Route::Click { code: None },
        "/postback" | "/postback/" => Route::Postback { advertiser: None },
        _ => match (one("/c/"), one("/postback/")) {
            (Some(code), _) => Route::Click { code: Some(code) },
            (_, Some(advertiser)) => Route::Postback { advertiser: Some(advertiser) },
            _ => Route::Unknown,
        },
    }
}

/// Answers one request.
pub async fn respond(router: &Router, peer: IpAddr, request: Request<Incoming>) -> Reply {
    let started = Instant::now();
    let (head, body) = request.into_parts();
    let path = head.uri.path();
    match route(path) {
        Route::Click { code } => {
            let answer = match head.method {
                Method::GET | Method::HEAD => router.click(peer, &head, code).await,
                _ => return reply::click_method_not_allowed(),
            };
            if head.method == Method::GET {
                router.metrics.clicks.answered(answer.fallback, started.elapsed());
            }
            reply::click(answer, &router.referrer_policy)
        }
        Route::Postback { advertiser } => {
            let answer = router.postback(&head, body, advertiser).await;
            router.metrics.postbacks.answered(answer.result(), started.elapsed());
            reply::postback(&answer)
        }
        Route::Unknown => reply::postback(&router.postbacks.refuse(Refusal::UnknownPath)),
    }
}

impl Router {
    async fn click(
        &self,
        peer: IpAddr,
        head: &hyper::http::request::Parts,
        code: Option<&str>,
    ) -> ClickAnswer {
        if too_long(head) {
            return self.clicks.fall_back(ClickFallback::UrlTooLong);
        }
        let request = ClickRequest {
            code,
            query: query(head),
            ip: client_ip(peer, &head.headers, &self.trusted_proxies),
            user_agent: text(&head.headers, &USER_AGENT),
            referrer: text(&head.headers, &REFERER),
            head: head.method == Method::HEAD,
            now_ms: self.clock.now_ms(),
            random: self.randomness.next(),
        };
        self.clicks.take(request).await
    }

    async fn postback(
        &self,
        head: &hyper::http::request::Parts,
        body: Incoming,
        advertiser: Option<&str>,
    ) -> Answer {
        let now_ms = self.clock.now_ms();
        let refuse = |reason: Refusal| self.postbacks.refuse(reason);
        if too_long(head) {
            return refuse(Refusal::UrlTooLong);
        }
        let query = query(head);
        match head.method {
            Method::GET => self.postbacks.take(advertiser, query, Body::None, now_ms).await,
            Method::HEAD => self.postbacks.preview(advertiser, query, now_ms).await,
            Method::POST => {
                let read = match read_body(&head.headers, body, self.body_read_timeout).await {
                    Ok(read) => read,
                    Err(reason) => return refuse(reason),
                };
                match body_kind(&head.headers, &read) {
                    Ok(body) => self.postbacks.take(advertiser, query, body, now_ms).await,
                    Err(reason) => refuse(reason),
                }
            }
            _ => refuse(Refusal::MethodNotAllowed),
        }
    }
}

fn too_long(head: &hyper::http::request::Parts) -> bool {
    head.uri.path_and_query().is_some_and(|url| url.as_str().len() > URL_BYTES_MAX)
}

fn query(head: &hyper::http::request::Parts) -> &[u8] {
    head.uri.query().unwrap_or_default().as_bytes()
}

/// A header's text; empty if it is absent or not printable ASCII.
fn text<'h>(headers: &'h HeaderMap, name: &HeaderName) -> &'h str {
    headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

async fn read_body(
    headers: &HeaderMap,
    body: Incoming,
    timeout: Duration,
) -> Result<Bytes, Refusal> {
    let declared = text(headers, &CONTENT_LENGTH).parse::<u64>().unwrap_or(0);
    if declared > BODY_BYTES_MAX as u64 {
        return Err(Refusal::BodyTooLarge);
    }
    match tokio::time::timeout(timeout, Limited::new(body, BODY_BYTES_MAX).collect()).await {
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(Refusal::BodyTooLarge),
        Ok(Err(_)) | Err(_) => Err(Refusal::BodyIncomplete),
    }
}

/// A body without a type is a form, as the oldest senders mean it.
fn body_kind<'b>(headers: &HeaderMap, body: &'b Bytes) -> Result<Body<'b>, Refusal> {
    if body.is_empty() {
        return Ok(Body::None);
    }
    let declared = text(headers, &CONTENT_TYPE);
    let kind = declared.split(';').next().unwrap_or_default().trim();
    if kind.is_empty() || kind.eq_ignore_ascii_case("application/x-www-form-urlencoded") {
        Ok(Body::Form(body))
    } else if kind.eq_ignore_ascii_case("application/json") {
        Ok(Body::Json(body))
    } else {
        Err(Refusal::UnsupportedMediaType)
    }
}
