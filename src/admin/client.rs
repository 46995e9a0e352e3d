//! A client of a running server's admin API, for the command line: plain HTTP, one call after the
//! other.

use std::time::Duration;

use axum::body::Bytes;
use axum::http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, ETAG, HOST, HeaderName, IF_MATCH};
use axum::http::{Method, Request, StatusCode, Uri};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::auth::AdminToken;
use crate::limits::CATALOG_BYTES_MAX;

/// How long a call may take: a large catalog is sent, checked, numbered and answered in seconds.
const CALL_TIMEOUT: Duration = Duration::from_secs(300);

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The address has another form.
    #[error("{0:?} is not an admin listener's address such as http://127.0.0.1:9090")]
    Address(String),
    /// The token holds what a header cannot.
    #[error("the token is not plain text of one line")]
    Token,
    /// The system gave no socket, or the other side did not accept.
    #[error("cannot reach {0}: {1}")]
    Unreachable(String, std::io::Error),
    /// It is no HTTP, or it broke off.
    #[error("no answer: {0}")]
    Broken(Box<dyn std::error::Error + Send + Sync>),
    /// It took too long.
    #[error("no answer within {} seconds", CALL_TIMEOUT.as_secs())]
    Late,
}

/// One admin listener and the token it wants.
pub struct AdminClient {
    authority: String,
    token: AdminToken,
}

/// An answer.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// The version it speaks of.
    pub etag: Option<String>,
    /// The body, as text.
    pub text: String,
}

/// What is sent with a call.
#[derive(Clone, Debug, Default)]
pub struct Call<'c> {
    /// `PUT` if there is something, else `GET`.
    pub content: Option<(&'static str, &'c str)>,
    /// `POST` instead of `PUT`.
    pub post: bool,
    /// `Accept`.
    pub accept: Option<&'static str>,
    /// `If-Match`.
    pub if_match: Option<&'c str>,
}

impl AdminClient {
    /// A client of the listener at `address`, `http://HOST:PORT`.
    ///
    /// # Errors
    /// When the address has another form.
    pub fn new(address: &str, token: AdminToken) -> Result<Self, ClientError> {
        let wrong = || ClientError::Address(address.to_owned());
        let uri: Uri = address.parse().map_err(|_| wrong())?;
        let plain = uri.scheme_str() == Some("http") && matches!(uri.path(), "" | "/");
        let authority = uri.authority().filter(|_| plain).ok_or_else(wrong)?;
        if authority.port().is_none() || authority.as_str().contains('@') {
            return Err(wrong());
        }
        Ok(Self { authority: authority.to_string(), token })
    }

    /// Calls `/api/v1/…`. Blocks.
    ///
    /// # Errors
    /// When there is no answer.
    pub fn call(&self, path: &str, call: &Call<'_>) -> Result<Answer, ClientError> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| ClientError::Unreachable(self.authority.clone(), error))?;
        runtime.block_on(async {
            let answered = tokio::time::timeout(CALL_TIMEOUT, self.exchange(path, call));
            answered.await.unwrap_or(Err(ClientError::Late))
        })
    }

    async fn exchange(&self, path: &str, call: &Call<'_>) -> Result<Answer, ClientError> {
        let request = self.request(path, call)?;
        let stream = TcpStream::connect(&self.authority)
            .await
            .map_err(|error| ClientError::Unreachable(self.authority.clone(), error))?;
        let broken = |error: hyper::Error| ClientError::Broken(error.into());
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
        // Its error is the request's, too.
        drop(tokio::spawn(connection));
        let (head, body) = sender.send_request(request).await.map_err(broken)?.into_parts();
        let body = Limited::new(body, CATALOG_BYTES_MAX).collect().await;
        let body = body.map_err(ClientError::Broken)?.to_bytes();
        let etag = head.headers.get(ETAG).and_then(|tag| tag.to_str().ok()).map(str::to_owned);
        let text =
            String::from_utf8(body.into()).map_err(|error| ClientError::Broken(error.into()))?;
        Ok(Answer { status: head.status.as_u16(), etag, text })
    }

    fn request(&self, path: &str, call: &Call<'_>) -> Result<Request<Full<Bytes>>, ClientError> {
        let method = match (&call.content, call.post) {
            (Some(_), true) => Method::POST,
            (Some(_), false) => Method::PUT,
            (None, _) => Method::GET,
        };
        let headers: [(HeaderName, Option<&str>); 3] = [
            (CONTENT_TYPE, call.content.map(|(kind, _)| kind)),
            (ACCEPT, call.accept),
            (IF_MATCH, call.if_match),
        ];
        let mut request = Request::builder()
            .method(method)
            .uri(format!("/api/v1/{path}"))
            .header(HOST, &self.authority)
            .header(AUTHORIZATION, self.token.bearer());
        for (name, value) in headers {
            if let Some(value) = value {
                request = request.header(name, value);
            }
        }
        let text = call.content.map_or(String::new(), |(_, text)| text.to_owned());
        request.body(Full::new(Bytes::from(text))).map_err(|_| ClientError::Token)
    }
}

impl Answer {
    /// Whether it is a 2xx.
    #[must_use]
    pub fn is_success(&self) -> bool {
        StatusCode::from_u16(self.status).is_ok_and(|status| status.is_success())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_http_host_and_port() {
        let check = |address: &str, expected: bool| {
            let client = AdminClient::new(address, AdminToken::new(String::new()));
            assert_eq!(client.is_ok(), expected, "{address}");
        };
        check("http://127.0.0.1:9090", true);
        check("http://[::1]:9090/", true);
        check("http://admin.example:80", true);
        check("http://127.0.0.1", false);
        check("https://127.0.0.1:9090", false);
        check("127.0.0.1:9090", false);
        check("http://127.0.0.1:9090/api", false);
        check("http://me@127.0.0.1:9090", false);
        check("", false);
    }
}
