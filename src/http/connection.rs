//! One connection: hyper's HTTP/1.1 under our limits.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpStream;

use super::router::{Router, respond};
use crate::limits::HEAD_BYTES_MAX;
use crate::shutdown::Drain;

/// Answers a connection's requests until it closes, breaks a limit or the drain begins.
pub(super) async fn serve(stream: TcpStream, peer: SocketAddr, router: Arc<Router>, drain: Drain) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "cannot set TCP_NODELAY");
    }
    let service = service_fn(|request| {
        let response = respond(&router, peer.ip(), request);
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
    if let Err(error) = result {
        // Clients that break off or send no HTTP are everyday business, not ours to report.
        // Of whom is nobody's business.
        tracing::debug!(%error, "connection ended early");
    }
}
