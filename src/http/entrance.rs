//! What a connection passes before HTTP: a proxy's word about whose it is, and the TLS handshake.

use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use tokio::net::TcpStream;

use super::client_ip::TrustedProxies;
use super::connection;
use super::listener::Admitted;
use super::proxy_protocol::{Parsed, parse};
use super::router::Router;
use crate::limits::{PROXY_HEADER_BYTES_MAX, PROXY_HEADER_TIME_MAX};
use crate::metrics::ConnectionMetrics;
use crate::shutdown::Drain;
use crate::tls::{Certificates, HandshakeError, ServerStream, is_http2};

/// The way into the public listener.
#[derive(Debug, Default)]
pub struct Entrance {
    /// TLS; `None`: HTTP in clear text.
    pub certificates: Option<Arc<Certificates>>,
    /// The only ones that may connect, because each connection begins with a proxy's word about it
    /// (`proxy_protocol`); `None`: anybody may, and nobody says a word.
    pub proxies: Option<TrustedProxies>,
}

impl Entrance {
    /// Whether a connection begins with HTTP.
    pub(super) fn is_open(&self) -> bool {
        self.certificates.is_none() && self.proxies.is_none()
    }

    /// Whether a connection from here begins with a proxy's word; `None` if it may not be.
    pub(super) fn begins_with_a_word(&self, peer: IpAddr) -> Option<bool> {
        match &self.proxies {
            None => Some(false),
            Some(proxies) => proxies.trusts(peer.to_canonical()).then_some(true),
        }
    }

    /// Brings a connection through, and serves it. `admitted` is not yet counted under an address
    /// where a proxy says it.
    pub(super) async fn serve(
        &self,
        mut stream: TcpStream,
        peer: SocketAddr,
        mut admitted: Admitted,
        router: Arc<Router>,
        drain: Drain,
    ) {
        let metrics = Arc::clone(&router.metrics);
        let entering = async {
            let mut ip = peer.ip();
            if self.proxies.is_some() {
                let word = tokio::time::timeout(PROXY_HEADER_TIME_MAX, word(&mut stream)).await;
                let Ok(Ok(said)) = word else {
                    metrics.connections.proxy_malformed.increment(1);
                    tracing::debug!(%peer, "a proxy's connection began with no PROXY header");
                    return None;
                };
                ip = said.unwrap_or(ip);
                if !admitted.counts_under(ip) {
                    return None;
                }
            }
            let Some(certificates) = &self.certificates else {
                return Some((ip, Entered::Plain(stream)));
            };
            let shaken = certificates.accept(stream).await;
            let shaken = count(&metrics.connections, shaken)
                .inspect_err(|error| tracing::debug!(%error, "a TLS handshake came to nothing"));
            Some((ip, Entered::Tls(Box::new(shaken.ok()?))))
        };
        // Who is still at the door when the drain begins has asked for nothing yet.
        let entered = tokio::select! {
            biased;
            entered = entering => entered,
            () = drain.begun() => None,
        };
        match entered {
            Some((peer, Entered::Plain(stream))) => {
                connection::serve(stream, peer, router, drain).await;
            }
            Some((peer, Entered::Tls(stream))) if is_http2(&stream) => {
                connection::serve_http2(stream, peer, router, drain).await;
            }
            Some((peer, Entered::Tls(stream))) => {
                connection::serve(stream, peer, router, drain).await;
            }
            None => {}
        }
        drop(admitted);
    }
}

enum Entered {
    Plain(TcpStream),
    Tls(Box<ServerStream>),
}

fn count(
    metrics: &ConnectionMetrics,
    shaken: Result<ServerStream, HandshakeError>,
) -> Result<ServerStream, HandshakeError> {
    match &shaken {
        Ok(_) => metrics.handshakes_completed.increment(1),
        Err(HandshakeError::Failed(_)) => metrics.handshakes_failed.increment(1),
        Err(HandshakeError::Late) => metrics.handshakes_late.increment(1),
    }
    shaken
}

/// Takes a proxy's header off a connection, and not a byte more.
async fn word(stream: &mut TcpStream) -> std::io::Result<Option<IpAddr>> {
    use tokio::io::AsyncReadExt as _;
    let mut header = vec![0; PROXY_HEADER_BYTES_MAX];
    let mut taken = 0;
    loop {
        let seen = taken + stream.peek(&mut header[taken..]).await?;
        if seen == taken {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        let parsed = parse(&header[..seen]).map_err(|_| ErrorKind::InvalidData)?;
        let (end, source) = match parsed {
            Parsed::Incomplete => (seen, None),
            Parsed::Complete { bytes, source } => (bytes, Some(source)),
        };
        stream.read_exact(&mut header[taken..end]).await?;
        taken = end;
        if let Some(source) = source {
            return Ok(source);
        }
    }
}
