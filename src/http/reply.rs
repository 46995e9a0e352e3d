// Hot path: one allocation per body.
//! Every answer's bytes: outcomes in, status, headers and body out. Nowhere else.

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{
    ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderName, HeaderValue, LOCATION, REFERRER_POLICY,
    RETRY_AFTER,
};
use hyper::{Response, StatusCode};

use crate::click::ClickAnswer;
use crate::model::preset::AnswerForm;
use crate::model::reasons::{PostbackResult, Refusal, Unavailability};
use crate::model::status::Status;
use crate::postback::{Answer, Refused, Told};
use crate::throttle::RetryAfter;

/// A complete response.
pub type Reply = Response<Full<Bytes>>;

const IDEMPOTENT_REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");
const POSTBACK_RESULT: HeaderName = HeaderName::from_static("x-postback-result");
const POSTBACK_REASON: HeaderName = HeaderName::from_static("x-postback-reason");
const JSON: HeaderValue = HeaderValue::from_static("application/json");
const HTML: HeaderValue = HeaderValue::from_static("text/html; charset=utf-8");
const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
const NO_STORE: HeaderValue = HeaderValue::from_static("no-store");
const TRUE: HeaderValue = HeaderValue::from_static("true");

/// Seconds after which a sender should try again: a full queue is short, a failed disk is not.
const RETRY_SOON: HeaderValue = HeaderValue::from_static("1");
const RETRY_LATER: HeaderValue = HeaderValue::from_static("30");

const NOT_AVAILABLE_PAGE: &str = "<!doctype html><html lang=en><meta charset=utf-8><title>Not available</title><h1>This offer is not available</h1></html>\n";

/// Bodies of the refusals that say the same each time, made once: a flood of forged postbacks
/// shall cost as little as possible.
pub struct RefusedBodies(Vec<Bytes>);

impl Default for RefusedBodies {
    fn default() -> Self {
        Self(Refusal::ALL.iter().map(|reason| refused_body(&Refused::from(*reason))).collect())
    }
}

impl RefusedBodies {
    fn get(&self, refused: &Refused) -> Bytes {
        match self.0.get(refused.reason.index()) {
            Some(body) if *refused == Refused::from(refused.reason) => body.clone(),
            _ => refused_body(refused),
        }
    }
}

fn refused_body(refused: &Refused) -> Bytes {
    let mut body = bare_body(PostbackResult::Refused, refused.reason.as_str());
    if let Some(hint) = &refused.hint {
        body.word("hint", hint);
    }
    body.finish()
}

/// The answer to a postback. Where no JSON and no status say the result, or nobody reads them
/// (HEAD, and every form but our own), headers do.
#[must_use]
pub fn postback(told: &Told, head: bool, refused_bodies: &RefusedBodies) -> Reply {
    let Told { answer, form } = told;
    let mut reply = Reply::default();
    let headers = reply.headers_mut();
    let (kind, body) = match form {
        AnswerForm::Json | AnswerForm::Always200 => (JSON, json_body(answer, refused_bodies)),
        AnswerForm::Tune => (TEXT, tune_body(answer)),
        AnswerForm::Ok => (TEXT, ok_body(answer)),
    };
    headers.insert(CONTENT_TYPE, kind);
    headers.insert(CACHE_CONTROL, NO_STORE);
    match answer {
        Answer::Accepted { .. } | Answer::Updated { .. } => {}
        Answer::Duplicate { .. } => _ = headers.insert(IDEMPOTENT_REPLAYED, TRUE),
        Answer::Refused(refused) => {
            if refused.reason == Refusal::MethodNotAllowed {
                headers.insert(ALLOW, HeaderValue::from_static("GET, HEAD, POST"));
            }
        }
        Answer::Unavailable(reason) => {
            let soon = match reason {
                Unavailability::Overloaded
                | Unavailability::StoreBusy
                | Unavailability::SourceBusy => true,
                Unavailability::Draining
                | Unavailability::StorePoisoned
                | Unavailability::DiskFull
                | Unavailability::RateLimited => false,
            };
            headers.insert(RETRY_AFTER, if soon { RETRY_SOON } else { RETRY_LATER });
        }
        Answer::RateLimited(RetryAfter(seconds)) => {
            headers.insert(RETRY_AFTER, HeaderValue::from(*seconds));
        }
    }
    if head || *form != AnswerForm::Json {
        headers.insert(POSTBACK_RESULT, HeaderValue::from_static(answer.result().as_str()));
        if let Some(reason) = reason(answer) {
            headers.insert(POSTBACK_REASON, HeaderValue::from_static(reason));
        }
    }
    *reply.status_mut() = status(answer, *form);
    *reply.body_mut() = Full::new(body);
    reply
}

/// A sender that is to try again learns it by the status, in whatever form it is answered.
fn status(answer: &Answer, form: AnswerForm) -> StatusCode {
    match answer {
        Answer::Accepted { .. } | Answer::Duplicate { .. } | Answer::Updated { .. } => {
            StatusCode::OK
        }
        Answer::Unavailable(_) => StatusCode::SERVICE_UNAVAILABLE,
        Answer::RateLimited(_) => StatusCode::TOO_MANY_REQUESTS,
        Answer::Refused(refused) => {
            let blanket = matches!(form, AnswerForm::Always200 | AnswerForm::Tune);
            if blanket && refused.reason != Refusal::BodyIncomplete {
                return StatusCode::OK;
            }
            let status = StatusCode::from_u16(refused.reason.http_status());
            status.unwrap_or(StatusCode::BAD_REQUEST)
        }
    }
}

fn reason(answer: &Answer) -> Option<&'static str> {
    match answer {
        Answer::Accepted { .. } | Answer::Duplicate { .. } | Answer::Updated { .. } => None,
        Answer::Refused(refused) => Some(refused.reason.as_str()),
        Answer::Unavailable(reason) => Some(reason.as_str()),
        Answer::RateLimited(_) => Some(Unavailability::RateLimited.as_str()),
    }
}

fn json_body(answer: &Answer, refused_bodies: &RefusedBodies) -> Bytes {
    match answer {
        Answer::Accepted { conversion, click, status, .. } => {
            let id = conversion.map(|conversion| conversion.to_text());
            let id = id.as_ref().map(|text| text.as_bytes());
            settled_body(answer, id, click.to_text().as_bytes(), *status, id.is_none())
        }
        Answer::Duplicate { original, click, dry_run, .. }
        | Answer::Updated { now: original, click, dry_run } => {
            let id = original.conversion.to_text();
            let click = click.to_text();
            settled_body(answer, Some(id.as_bytes()), click.as_bytes(), original.status, *dry_run)
        }
        Answer::Refused(refused) => refused_bodies.get(refused),
        Answer::Unavailable(reason) => {
            bare_body(PostbackResult::Unavailable, reason.as_str()).finish()
        }
        Answer::RateLimited(_) => {
            let reason = Unavailability::RateLimited;
            bare_body(PostbackResult::Unavailable, reason.as_str()).finish()
        }
    }
}

fn tune_body(answer: &Answer) -> Bytes {
    match failure(answer) {
        None => Bytes::from_static(b"success=true;"),
        Some(failure) => Bytes::from(format!("success=false; err_msg={failure};")),
    }
}

fn ok_body(answer: &Answer) -> Bytes {
    failure(answer).map_or(Bytes::from_static(b"OK"), Bytes::from)
}

/// Why there is no conversion, in one line. A semicolon would end it for some readers.
fn failure(answer: &Answer) -> Option<String> {
    let reason = reason(answer)?;
    Some(match answer {
        Answer::Refused(Refused { hint: Some(hint), .. }) => {
            format!("{reason}: {}", hint.replace(';', ","))
        }
        _ => reason.to_owned(),
    })
}

/// The body of an answer to what is, or would be, a conversion. Of words and IDs alone, which need no
/// escaping; of exactly the size it needs, which saves an allocation.
fn settled_body(
    answer: &Answer,
    conversion: Option<&[u8]>,
    click: &[u8],
    status: Status,
    dry_run: bool,
) -> Bytes {
    let id: [&[u8]; 3] = match conversion {
        Some(text) => [b"\"", text, b"\""],
        None => [b"null", b"", b""],
    };
    let hint: [&[u8]; 2] = match answer.hint() {
        Some(hint) => [b"\",\"hint\":\"", hint.as_bytes()],
        None => [b"", b""],
    };
    let end: &[u8] = if dry_run { b"\",\"dry_run\":true}\n" } else { b"\"}\n" };
    let parts: [&[u8]; 13] = [
        b"{\"result\":\"",
        answer.result().as_str().as_bytes(),
        b"\",\"reason\":null,\"conversion_id\":",
        id[0],
        id[1],
        id[2],
        b",\"click_id\":\"",
        click,
        b"\",\"status\":\"",
        status.as_str().as_bytes(),
        hint[0],
        hint[1],
        end,
    ];
    Bytes::from(parts.concat())
}

/// The body of an answer without a conversion, up to its hint.
fn bare_body(result: PostbackResult, reason: &str) -> Json {
    let mut body = Json::new();
    body.word("result", result.as_str());
    body.word("reason", reason);
    body.null("conversion_id");
    body.null("click_id");
    body.null("status");
    body
}

/// The answer to a click that is no request of HTTP as it has to be, or neither GET nor HEAD.
#[must_use]
pub fn refused_click(reason: Refusal, refused_bodies: &RefusedBodies) -> Reply {
    let told = Told { answer: reason.into(), form: AnswerForm::Json };
    let mut reply = postback(&told, false, refused_bodies);
    if reason == Refusal::MethodNotAllowed {
        reply.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
    }
    reply
}

/// The answer to a click.
#[must_use]
pub fn click(answer: ClickAnswer, referrer_policy: &HeaderValue) -> Reply {
    let mut reply = Reply::default();
    let headers = reply.headers_mut();
    headers.insert(CACHE_CONTROL, NO_STORE);
    if answer.as_json {
        return click_json(reply, &answer);
    }
    // The catalog lets only header-safe URLs in, and values are percent-encoded.
    let location = answer.url.map(|url| HeaderValue::from_maybe_shared(Bytes::from(url)));
    match location {
        Some(Ok(location)) => {
            headers.insert(LOCATION, location);
            headers.insert(REFERRER_POLICY, referrer_policy.clone());
            *reply.status_mut() = StatusCode::FOUND;
        }
        Some(Err(_)) | None => {
            headers.insert(CONTENT_TYPE, HTML);
            *reply.status_mut() = StatusCode::NOT_FOUND;
            *reply.body_mut() = Full::from(NOT_AVAILABLE_PAGE);
        }
    }
    reply
}

/// The answer to a click of an address that has sent enough: the visitor goes to the fallback.
/// Programs, and whoever has nowhere to go, are told when to come again.
#[must_use]
pub fn too_many_clicks(
    answer: ClickAnswer,
    retry_after: RetryAfter,
    referrer_policy: &HeaderValue,
) -> Reply {
    let redirects = answer.url.is_some() && !answer.as_json;
    let mut reply = click(answer, referrer_policy);
    if !redirects {
        reply.headers_mut().insert(RETRY_AFTER, HeaderValue::from(retry_after.0));
        *reply.status_mut() = StatusCode::TOO_MANY_REQUESTS;
    }
    reply
}

fn click_json(mut reply: Reply, answer: &ClickAnswer) -> Reply {
    let mut body = Json::new();
    match answer.click {
        Some(click) => body.word("click_id", click.to_text().as_str()),
        None => body.null("click_id"),
    }
    match answer.url.as_deref().and_then(|url| std::str::from_utf8(url).ok()) {
        Some(url) => body.word("url", url),
        None => body.null("url"),
    }
    if let Some(fallback) = answer.fallback {
        body.word("reason", fallback.as_str());
    }
    if answer.url.is_none() {
        *reply.status_mut() = StatusCode::NOT_FOUND;
    }
    reply.headers_mut().insert(CONTENT_TYPE, JSON);
    *reply.body_mut() = Full::new(body.finish());
    reply
}

/// Writes one flat JSON object of words that need no escaping but quotes and backslashes.
struct Json(Vec<u8>);

impl Json {
    fn new() -> Self {
        let mut bytes = Vec::with_capacity(256);
        bytes.push(b'{');
        Self(bytes)
    }

    fn name(&mut self, name: &str) {
        if self.0.len() > 1 {
            self.0.push(b',');
        }
        self.0.push(b'"');
        self.0.extend_from_slice(name.as_bytes());
        self.0.extend_from_slice(b"\":");
    }

    fn word(&mut self, name: &str, value: &str) {
        self.name(name);
        self.0.push(b'"');
        debug_assert!(value.bytes().all(|byte| byte >= b' '), "words and checked URLs only");
        let mut rest = value.as_bytes();
        while let Some(at) = memchr::memchr2(b'"', b'\\', rest) {
            self.0.extend_from_slice(&rest[..at]);
            self.0.extend_from_slice(&[b'\\', rest[at]]);
            rest = &rest[at + 1..];
        }
        self.0.extend_from_slice(rest);
        self.0.push(b'"');
    }

    fn null(&mut self, name: &str) {
        self.name(name);
        self.0.extend_from_slice(b"null");
    }

    fn finish(mut self) -> Bytes {
        self.0.extend_from_slice(b"}\n");
        Bytes::from(self.0)
    }
}
