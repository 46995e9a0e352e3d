//! A client of a running server's admin API, for the command line: HTTP/1.1, one call after the
//! other.

use std::net::IpAddr;
use std::time::Duration;

use axum::body::Bytes;
use axum::http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, ETAG, HOST, HeaderName, IF_MATCH};
use axum::http::{Method, Request, StatusCode, Uri};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use crate::limits::CATALOG_BYTES_MAX;
use crate::model::secret::Secret;
use crate::tls::{Connector, TlsError, Trust};

/// How long a call may take: a large catalog is sent, checked, numbered and answered in seconds.
const CALL_TIMEOUT: Duration = Duration::from_secs(300);

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The address has another form.
    #[error(
        "{0:?} is not an admin listener's address such as http://127.0.0.1:9090 or \
         https://admin.example:9090"
    )]
    Address(String),
    /// Nobody can be trusted.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The other side is not trusted, or does not speak TLS.
    #[error("no TLS with {0}: {1}")]
    Untrusted(String, std::io::Error),
    /// The token holds what a header cannot.
    #[error("the token is not plain text of one line")]
    Token,
    /// The system gave no socket, or the other side did not accept.
    #[error("cannot reach {0}: {1}")]
    Unreachable(String, std::io::Error),
    /// The token would go to another machine in plain text.
    #[error(
        "{0} is another machine, and this is plain HTTP: whoever is on the way would read the token; \
         use https, go through a tunnel to its loopback address, or say --plain-text"
    )]
    Elsewhere(std::net::SocketAddr),
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
    /// The host's name, and whom to trust; `None`: in clear text.
    tls: Option<(String, Connector)>,
    token: Secret<String>,
    plain_text: bool,
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
    /// `POST`, with or without something.
    pub post: bool,
    /// `PUT` if there is something, else `GET`.
    pub content: Option<(&'static str, &'c str)>,
    /// `Accept`.
    pub accept: Option<&'static str>,
    /// `If-Match`.
    pub if_match: Option<&'c str>,
}

impl AdminClient {
    /// A client of the listener at `address`, `http://HOST:PORT` or `https://HOST:PORT`; the
    /// latter must be trusted by `trust`. By the former it sends the token to this machine only,
    /// or with `plain_text` to others, too.
    ///
    /// # Errors
    /// When the address has another form, or nobody can be trusted.
    pub fn new(
        address: &str,
        trust: Trust<'_>,
        token: Secret<String>,
        plain_text: bool,
    ) -> Result<Self, ClientError> {
        let wrong = || ClientError::Address(address.to_owned());
        let uri: Uri = address.parse().map_err(|_| wrong())?;
        let bare = matches!(uri.path_and_query().map(|rest| rest.as_str()), None | Some("/"));
        let authority = uri.authority().filter(|_| bare).ok_or_else(wrong)?;
        if authority.port().is_none() || authority.as_str().contains('@') {
            return Err(wrong());
        }
        let tls = match uri.scheme_str() {
            Some("http") => None,
            Some("https") => Some((authority.host().to_owned(), Connector::new(trust)?)),
            _ => return Err(wrong()),
        };
        Ok(Self { authority: authority.to_string(), tls, token, plain_text })
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
        let Some((host, connector)) = &self.tls else {
            let ends = stream.peer_addr().and_then(|peer| Ok((peer, stream.local_addr()?)));
            let (peer, local) =
                ends.map_err(|error| ClientError::Unreachable(self.authority.clone(), error))?;
            if !self.plain_text && !is_here(peer.ip(), local.ip()) {
                return Err(ClientError::Elsewhere(peer));
            }
            return send(stream, request).await;
        };
        let stream = connector
            .connect(host, stream)
            .await
            .map_err(|error| ClientError::Untrusted(self.authority.clone(), error))?;
        send(stream, request).await
    }

    fn request(&self, path: &str, call: &Call<'_>) -> Result<Request<Full<Bytes>>, ClientError> {
        let method = match (&call.content, call.post) {
            (_, true) => Method::POST,
            (Some(_), false) => Method::PUT,
            (None, false) => Method::GET,
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
            .header(AUTHORIZATION, format!("Bearer {}", self.token.expose()));
        for (name, value) in headers {
            if let Some(value) = value {
                request = request.header(name, value);
            }
        }
        let text = call.content.map_or(String::new(), |(_, text)| text.to_owned());
        request.body(Full::new(Bytes::from(text))).map_err(|_| ClientError::Token)
    }
}

/// Whether the other end of a connection is on this machine, too.
fn is_here(peer: IpAddr, local: IpAddr) -> bool {
    peer.to_canonical().is_loopback() || peer == local
}

/// One request and its answer, on a connection of its own.
async fn send(
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    request: Request<Full<Bytes>>,
) -> Result<Answer, ClientError> {
    let broken = |error: hyper::Error| ClientError::Broken(error.into());
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
    // Its error is the request's, too.
    drop(tokio::spawn(connection));
    let (head, body) = sender.send_request(request).await.map_err(broken)?.into_parts();
    let body = Limited::new(body, CATALOG_BYTES_MAX).collect().await;
    let body = body.map_err(ClientError::Broken)?.to_bytes();
    let etag = head.headers.get(ETAG).and_then(|tag| tag.to_str().ok()).map(str::to_owned);
    let text = String::from_utf8(body.into()).map_err(|error| ClientError::Broken(error.into()))?;
    Ok(Answer { status: head.status.as_u16(), etag, text })
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
    fn a_token_stays_on_the_machine() {
        let check = |peer: &str, local: &str, expected: bool| {
            let [peer, local] = [peer, local].map(|ip| ip.parse().expect("fine"));
            assert_eq!(is_here(peer, local), expected, "{peer} {local}");
        };
        check("127.0.0.1", "127.0.0.1", true);
        check("127.0.0.2", "127.0.0.1", true);
        check("::1", "::1", true);
        check("::ffff:127.0.0.1", "::ffff:127.0.0.1", true);
        check("10.0.0.5", "10.0.0.5", true);
        check("10.0.0.6", "10.0.0.5", false);
        check("2001:db8::1", "2001:db8::2", false);
    }

    #[test]
    fn an_address_is_scheme_host_and_port() {
        let check = |address: &str, expected: bool| {
            let token = Secret::new(String::new());
            let client = AdminClient::new(address, Trust::System, token, false);
            let is_address = !matches!(client, Err(ClientError::Address(_)));
            assert_eq!(is_address, expected, "{address}");
        };
        check("http://127.0.0.1:9090", true);
        check("http://[::1]:9090/", true);
        check("http://admin.example:80", true);
        check("http://127.0.0.1", false);
        check("https://127.0.0.1:9090", true);
        check("https://[::1]:9090/", true);
        check("https://admin.example", false);
        check("ftp://127.0.0.1:9090", false);
        check("http://127.0.0.1:9090/?q", false);
        check("127.0.0.1:9090", false);
        check("http://127.0.0.1:9090/api", false);
        check("http://me@127.0.0.1:9090", false);
        check("", false);
    }
}
