// Hot path: every request of the public listener.
//! Which flow takes a request. The public listener has these routes and no other.

use std::borrow::Cow;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::{Body as _, Incoming};
use hyper::header::{
    CONNECTION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HOST, HeaderName, HeaderValue,
    REFERER, TRANSFER_ENCODING, USER_AGENT,
};
use hyper::{HeaderMap, Method, Request, Version};

use super::client_ip::{Doubt, TrustedProxies, client_ip, country};
use super::load::{Load, NoPlace};
use super::reply::{self, RefusedBodies, Reply};
use crate::click::{ClickRequest, Clicks, Recording};
use crate::limits::{BODY_BYTES_MAX, URL_BYTES_MAX};
use crate::metrics::Metrics;
use crate::model::preset::is_of_clicks;
use crate::model::reasons::{ClickFallback, Refusal, Unavailability};
use crate::postback::{Address, Body, Committing, PostbackRequest, Postbacks, Progress, Told};
use crate::throttle::RetryAfter;
use crate::time::{Clock, Randomness};

/// How a header calls what compresses a body (IANA's registry of content codings).
const COMPRESSIONS: [&str; 9] =
    ["aes128gcm", "br", "compress", "dcb", "dcz", "deflate", "gzip", "x-gzip", "zstd"];
/// How compressed bodies begin that do not say so in a header.
const GZIP: &[u8] = &[0x1f, 0x8b];

/// All that the public listener's requests need.
pub struct Router {
    /// Takes clicks.
    pub clicks: Clicks,
    /// Takes postbacks.
    pub postbacks: Postbacks,
    /// Counts.
    pub metrics: Arc<Metrics>,
    /// How much is let in.
    pub load: Arc<Load>,
    /// Whose word about the visitor's address and country counts.
    pub trusted_proxies: TrustedProxies,
    /// Whether they say it of each connection, and need no header (`proxy_protocol`).
    pub proxy_protocol: bool,
    /// The header in which they say the country; `None`: nobody does.
    pub country_header: Option<HeaderName>,
    /// `Referrer-Policy` of redirects.
    pub referrer_policy: HeaderValue,
    /// How long a request's head may take, and an idle connection live.
    pub header_read_timeout: Duration,
    /// How long a request's body may take.
    pub body_read_timeout: Duration,
    /// Bodies made once.
    pub refused_bodies: RefusedBodies,
    /// What time it is.
    pub clock: Clock,
    /// Random numbers for `{random}`.
    pub randomness: Randomness,
}

/// Where a path leads.
enum Route<'a> {
    Click { code: Option<&'a str> },
    Postback,
    Nowhere,
}

/// Answers one request. All that needs no waiting is done before this returns; what the future
/// keeps is little, because a connection keeps it, too.
pub fn respond(
    router: &Arc<Router>,
    peer: IpAddr,
    request: Request<Incoming>,
) -> impl Future<Output = Reply> + use<> {
    let started = Instant::now();
    let head = request.method() == Method::HEAD;
    let router = Arc::clone(router);
    let is_last = may_be_framed_twice(&request);
    let begun = router.begin(peer, request, started);
    async move {
        let mut reply = match begun {
            Begun::Replied(reply) => reply,
            Begun::Click { reply, recording, fallback } => {
                router.clicks.confirmed(&recording, started).await;
                router.metrics.clicks.answered(fallback, started.elapsed());
                reply
            }
            Begun::Committing(committing) => {
                let told = router.postbacks.confirmed(committing).await;
                router.replied(&told, head, started)
            }
            Begun::Waiting(taken) => router.replied(&taken.await, head, started),
        };
        if is_last {
            close(&mut reply);
        }
        reply
    }
}

/// Whether a request came in chunks. If it said its length as well, which hyper does not tell, a
/// proxy may have taken the bytes behind it for another's request: no more is read.
fn may_be_framed_twice(request: &Request<Incoming>) -> bool {
    !request.body().is_end_stream() && request.headers().contains_key(TRANSFER_ENCODING)
}

fn close(reply: &mut Reply) {
    reply.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
}

/// HTTP/1.1 asks for one `Host`. Nothing here depends on it, but what is before us may.
fn has_one_host<B>(request: &Request<B>) -> bool {
    if request.version() != Version::HTTP_11 {
        return true;
    }
    // Requests have few headers: comparing names is quicker than hashing one.
    request.headers().iter().filter(|(name, _)| *name == HOST).count() == 1
}

/// How far a request comes without waiting.
enum Begun {
    Replied(Reply),
    Click { reply: Reply, recording: Recording, fallback: Option<ClickFallback> },
    Committing(Committing),
    Waiting(Pin<Box<dyn Future<Output = Told> + Send>>),
}

impl Router {
    fn begin(
        self: &Arc<Self>,
        peer: IpAddr,
        request: Request<Incoming>,
        started: Instant,
    ) -> Begun {
        let route = self.route(request.uri().path());
        if !has_one_host(&request) {
            let mut reply = match route {
                // Counted, but not written down: it is a visitor's.
                Route::Click { .. } => {
                    self.postbacks.count_refusal(Refusal::BadHost);
                    reply::refused_click(Refusal::BadHost, &self.refused_bodies)
                }
                Route::Postback | Route::Nowhere => self.unread(Refusal::BadHost, peer, &request),
            };
            close(&mut reply);
            return Begun::Replied(reply);
        }
        match route {
            Route::Click { code } => self.click(peer, &request, code, started),
            Route::Nowhere => Begun::Replied(self.unread(Refusal::UnknownPath, peer, &request)),
            Route::Postback => {
                let ip = self.visitor(peer, &request);
                self.postback(ip, request, self.clock.now_ms(), started)
            }
        }
    }

    fn route<'p>(&self, path: &'p str) -> Route<'p> {
        if matches!(path, "/click" | "/click/") {
            return Route::Click { code: None };
        }
        if let Some(code) = path.strip_prefix("/c/") {
            return Route::Click { code: Some(code.strip_suffix('/').unwrap_or(code)) };
        }
        match Address::of(path) {
            Address::Shared { .. } => Route::Postback,
            Address::Own(path) if self.postbacks.has_path(path) => Route::Postback,
            // No code has a slash, so it is one of an unknown link.
            Address::Own(path) if is_of_clicks(path) => Route::Click { code: Some(path) },
            Address::Own(_) => Route::Nowhere,
        }
    }

    /// Whose click or postback it is. Asked once of each, because what cannot be told is counted.
    fn visitor<B>(&self, peer: IpAddr, request: &Request<B>) -> IpAddr {
        let (ip, doubt) = client_ip(peer, request.headers(), &self.trusted_proxies);
        let connections = &self.metrics.connections;
        match doubt {
            None => {}
            Some(Doubt::Unreadable) => connections.forwarded_unreadable.increment(1),
            Some(Doubt::Unnamed) if self.proxy_protocol => {}
            Some(Doubt::Unnamed) => connections.forwarded_missing.increment(1),
            Some(Doubt::Untrusted) => connections.forwarded_untrusted.increment(1),
        }
        ip
    }

    /// Whose requests are counted for rate limits. A proxy that does not say for whom it speaks
    /// speaks for everybody.
    fn counted(&self, ip: IpAddr) -> Option<IpAddr> {
        (!self.trusted_proxies.trusts(ip.to_canonical())).then_some(ip)
    }

    /// The answer to a request that is no click, and not read either. Whose it is is not counted:
    /// a proxy that asks whether we are well has no visitor.
    fn unread(&self, reason: Refusal, peer: IpAddr, request: &Request<Incoming>) -> Reply {
        let (ip, _) = client_ip(peer, request.headers(), &self.trusted_proxies);
        let sent = postback_request(request, Body::None, ip, self.clock.now_ms());
        let told = self.postbacks.refuse(reason, &sent);
        reply::postback(&told, sent.head, &self.refused_bodies)
    }

    fn click(
        &self,
        peer: IpAddr,
        request: &Request<Incoming>,
        code: Option<&str>,
        started: Instant,
    ) -> Begun {
        let head = match *request.method() {
            Method::GET => false,
            Method::HEAD => true,
            _ => {
                let reason = Refusal::MethodNotAllowed;
                return Begun::Replied(reply::refused_click(reason, &self.refused_bodies));
            }
        };
        let (ip, now_ms) = (self.visitor(peer, request), self.clock.now_ms());
        if let Err(retry_after) = self.load.click(|| self.counted(ip), now_ms) {
            return self.too_many_clicks(request, retry_after, started);
        }
        let country = |header| country(peer, request.headers(), header, &self.trusted_proxies);
        let (answer, recording) = if too_long(request) {
            (self.clicks.fall_back(ClickFallback::UrlTooLong), None)
        } else {
            self.clicks.take(&ClickRequest {
                code,
                query: query(request),
                ip,
                user_agent: &any_text(request.headers(), &USER_AGENT),
                referrer: &any_text(request.headers(), &REFERER),
                country: self.country_header.as_ref().and_then(country),
                head,
                now_ms,
                random: self.randomness.next(),
            })
        };
        let fallback = answer.fallback;
        let reply = reply::click(answer, &self.referrer_policy);
        if let Some(recording) = recording {
            return Begun::Click { reply, recording, fallback };
        }
        if !head {
            self.metrics.clicks.answered(fallback, started.elapsed());
        }
        Begun::Replied(reply)
    }

    /// A click of an address that has sent enough: not recorded, and on its way all the same.
    fn too_many_clicks<B>(
        &self,
        request: &Request<B>,
        retry_after: RetryAfter,
        started: Instant,
    ) -> Begun {
        let mut answer = self.clicks.fall_back(ClickFallback::RateLimited);
        answer.as_json = !too_long(request) && Clicks::is_asked_for_json(query(request));
        self.metrics.clicks.answered(answer.fallback, started.elapsed());
        Begun::Replied(reply::too_many_clicks(answer, retry_after, &self.referrer_policy))
    }

    fn postback(
        self: &Arc<Self>,
        ip: IpAddr,
        request: Request<Incoming>,
        now_ms: u64,
        started: Instant,
    ) -> Begun {
        let head = request.method() == Method::HEAD;
        let replied = |told: &Told| Begun::Replied(self.replied(told, head, started));
        let sent = || postback_request(&request, Body::None, ip, now_ms);
        let refuse = |reason| replied(&self.postbacks.refuse(reason, &sent()));
        if let Err(retry_after) = self.load.postback(|| self.counted(ip), now_ms) {
            return replied(&self.postbacks.too_many(retry_after, &sent()));
        }
        if too_long(&request) {
            return refuse(Refusal::UrlTooLong);
        }
        let has_body = match *request.method() {
            Method::GET => self.says_more_in_body(&request),
            Method::HEAD => false,
            Method::POST => true,
            _ => return refuse(Refusal::MethodNotAllowed),
        };
        let progress = match has_body {
            true => Progress::MustWait { is_counted: false },
            false => self.postbacks.take_now(&sent()),
        };
        match progress {
            Progress::Answered(told) => replied(&told),
            Progress::Committing(committing) => Begun::Committing(committing),
            Progress::MustWait { is_counted } => {
                let place = match self.load.place(self.counted(ip)) {
                    Ok(place) => place,
                    Err(no_place) => {
                        let reason = match no_place {
                            NoPlace::ForSource => Unavailability::SourceBusy,
                            NoPlace::AtAll => Unavailability::Overloaded,
                        };
                        return replied(&self.postbacks.unavailable(reason, &sent()));
                    }
                };
                let router = Arc::clone(self);
                let taken = async move {
                    let begun =
                        router.wait_and_begin(ip, request, now_ms, has_body, is_counted).await;
                    // Request and body are gone; what waits for the disk is bounded by the batch.
                    drop(place);
                    router.postbacks.ended(begun).await
                };
                Begun::Waiting(Box::pin(taken))
            }
        }
    }

    /// Whether a GET has a body and its URL names no click: some libraries send the parameters
    /// of a GET so. What comes along with a URL that says all is not looked at: tools send much
    /// there, and it may never end.
    fn says_more_in_body(&self, request: &Request<Incoming>) -> bool {
        !request.body().is_end_stream()
            && self.postbacks.keyring.find(query(request).as_bytes()).is_none()
    }

    /// A postback that needs its body, a read, or another postback's outcome.
    async fn wait_and_begin(
        &self,
        ip: IpAddr,
        request: Request<Incoming>,
        now_ms: u64,
        has_body: bool,
        is_counted: bool,
    ) -> Result<Committing, Told> {
        if !has_body {
            let request = postback_request(&request, Body::None, ip, now_ms);
            return self.postbacks.begin_patiently(&request, is_counted).await;
        }
        let (head, body) = request.into_parts();
        let read = read_body(&head.headers, body, self.body_read_timeout).await;
        let request = Request::from_parts(head, ());
        let body = read.as_ref().map_err(|reason| *reason);
        match body.and_then(|read| body_kind(request.headers(), read)) {
            Ok(body) => self.postbacks.begin(&postback_request(&request, body, ip, now_ms)).await,
            Err(reason) => {
                let sent = postback_request(&request, Body::None, ip, now_ms);
                Err(self.postbacks.refuse(reason, &sent))
            }
        }
    }

    fn replied(&self, told: &Told, head: bool, started: Instant) -> Reply {
        self.metrics.postbacks.answered(told.answer.result(), started.elapsed());
        reply::postback(told, head, &self.refused_bodies)
    }
}

fn postback_request<'a, B>(
    request: &'a Request<B>,
    body: Body<'a>,
    ip: IpAddr,
    now_ms: u64,
) -> PostbackRequest<'a> {
    let method = request.method();
    PostbackRequest {
        address: Address::of(request.uri().path()),
        query: query(request),
        body,
        head: method == Method::HEAD,
        post: method == Method::POST,
        ip,
        now_ms,
        again: None,
    }
}

fn too_long<B>(request: &Request<B>) -> bool {
    request.uri().path_and_query().is_some_and(|url| url.as_str().len() > URL_BYTES_MAX)
}

fn query<B>(request: &Request<B>) -> &str {
    request.uri().query().unwrap_or_default()
}

/// A header's text; empty if it is absent or not printable ASCII.
fn text<'h>(headers: &'h HeaderMap, name: &HeaderName) -> &'h str {
    headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

/// What a browser says of itself, read as well as it goes; empty if it is absent.
fn any_text<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Cow<'h, str> {
    let value = headers.get(name).map_or(&[][..], HeaderValue::as_bytes);
    String::from_utf8_lossy(value)
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

/// A body without a type is a form, as the oldest senders mean it; but what begins as an object of
/// JSON is that, whatever a tool has declared by itself.
fn body_kind<'b>(headers: &HeaderMap, body: &'b Bytes) -> Result<Body<'b>, Refusal> {
    if body.is_empty() {
        return Ok(Body::None);
    }
    // Some say there which character set they mean.
    let mut encodings = text(headers, &CONTENT_ENCODING).split(',').map(str::trim);
    let is_compression = |name: &str| COMPRESSIONS.iter().any(|it| it.eq_ignore_ascii_case(name));
    if encodings.any(is_compression) || body.starts_with(GZIP) {
        return Err(Refusal::UnsupportedMediaType);
    }
    const BYTE_ORDER_MARK: &[u8] = "\u{feff}".as_bytes();
    let body = body.strip_prefix(BYTE_ORDER_MARK).unwrap_or(body);
    // An array is no postback; as a form it would be the name of one parameter, secrets and all.
    let is_json = matches!(body.trim_ascii_start().first(), Some(b'{' | b'['));
    let declared = text(headers, &CONTENT_TYPE);
    let kind = declared.split(';').next().unwrap_or_default().trim();
    if kind.is_empty() || kind.eq_ignore_ascii_case("application/x-www-form-urlencoded") {
        // Programs that send lines end them.
        let form = body.strip_suffix(b"\n").unwrap_or(body);
        let form = form.strip_suffix(b"\r").unwrap_or(form);
        Ok(if is_json { Body::Json(body) } else { Body::Form(form) })
    } else if kind.eq_ignore_ascii_case("application/json") {
        Ok(Body::Json(body))
    } else {
        Err(Refusal::UnsupportedMediaType)
    }
}
