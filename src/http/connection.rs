//! One connection: hyper under our limits.

use std::convert::Infallible;
use std::net::IpAddr;
use std::pin::pin;
use std::sync::Arc;

use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};

use super::router::{Router, respond};
use crate::http2::{self, Allowance};
use crate::limits::{HEAD_BYTES_MAX, HTTP2_STREAMS_MAX, HTTP2_WINDOW_BYTES};
use crate::shutdown::Drain;

/// Answers a connection's requests in HTTP/1.1 until it closes, breaks a limit or the drain begins.
pub(super) async fn serve(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    peer: IpAddr,
    router: Arc<Router>,
    drain: Drain,
) {
    let service = service_fn(|request| {
        let response = respond(&router, peer, request);
        async move { Ok::<_, Infallible>(response.await) }
    });
    let connection = pin!(
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(router.header_read_timeout)
            .max_buf_size(HEAD_BYTES_MAX)
            // Without it hyper reads once more while an answer waits for the disk, only to
            // notice a client that has hung up; the conversion counts all the same.
            .half_close(true)
            .writev(false)
            .serve_connection(TokioIo::new(stream), service)
    );
    let result = drain.serve(connection, |connection| connection.graceful_shutdown()).await;
    ended(&router, result);
}

/// The same in HTTP/2.
pub(super) async fn serve_http2(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    peer: IpAddr,
    router: Arc<Router>,
    drain: Drain,
) {
    let allowance = Allowance {
        streams: HTTP2_STREAMS_MAX,
        window_bytes: HTTP2_WINDOW_BYTES,
        idle: router.header_read_timeout,
    };
    let service = service_fn(|request: Request<Incoming>| {
        let response = respond(&router, peer, request);
        async move { Ok::<_, Infallible>(response.await) }
    });
    ended(&router, http2::serve(stream, service, allowance, &drain).await);
}

fn ended(router: &Router, result: hyper::Result<()>) {
    if let Err(error) = result {
        if error.is_parse() && !error.is_parse_too_large() {
            router.metrics.connections.not_http.increment(1);
        }
        // Clients that break off or send no HTTP are everyday business, not ours to report.
        // Of whom is nobody's business.
        tracing::debug!(%error, "connection ended early");
    }
}
