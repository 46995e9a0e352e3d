//! One HTTP/2 connection under our limits, for both listeners. Only TLS leads here.
//!
//! What keeps a connection open is that it is used: a request under way, or a piece of an answer
//! that is taken. Where nothing of this happens for as long as an HTTP/1.1 connection may be idle,
//! the client is told to go, and cut off if it does not. So neither a header that never ends, nor
//! an answer that nobody reads, nor a client that has gone without a word holds a place for long,
//! and no pings are needed, which would wake phones.

use std::error::Error;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::server::conn::http2;
use hyper::service::{Service, service_fn};
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::limits::{
    HEAD_BYTES_MAX, HTTP2_BROKEN_MAX, HTTP2_GOODBYE_TIME_MAX, HTTP2_SEND_BYTES_MAX,
    HTTP2_TAKEN_BACK_MAX,
};
use crate::shutdown::Drain;

/// What differs between listeners.
#[derive(Clone, Copy, Debug)]
pub struct Allowance {
    /// Requests under way at once.
    pub streams: u32,
    /// Bytes of one request's body that may be on their way; twice as many of all together.
    pub window_bytes: u32,
    /// How long a connection may be idle.
    pub idle: Duration,
}

/// Answers a connection's requests by `service` until it closes, breaks a limit, is idle for too
/// long or the drain begins.
///
/// # Errors
/// When the connection breaks.
pub async fn serve<S, B, F>(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    service: S,
    allowance: Allowance,
    drain: &Drain,
) -> hyper::Result<()>
where
    S: Service<Request<Incoming>, Response = Response<B>, Future = F>,
    F: Future<Output = Result<Response<B>, S::Error>> + Send + 'static,
    S::Error: Into<Box<dyn Error + Send + Sync>>,
    B: Body<Data: Send, Error: Into<Box<dyn Error + Send + Sync>>> + Send + Unpin + 'static,
{
    let activity = Arc::new(Activity::new());
    let watched = service_fn(|request| {
        let under_way = UnderWay::new(&activity);
        let answered = service.call(request);
        async move {
            let answer = answered.await?;
            let activity = Arc::clone(&under_way.0);
            Ok::<_, S::Error>(answer.map(|body| Watched { body, activity }))
        }
    });
    let mut connection = pin!(
        http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .max_concurrent_streams(allowance.streams)
            .max_pending_accept_reset_streams(HTTP2_TAKEN_BACK_MAX)
            .max_local_error_reset_streams(HTTP2_BROKEN_MAX)
            .max_header_list_size(HEAD_BYTES_MAX as u32)
            .max_send_buf_size(HTTP2_SEND_BYTES_MAX)
            .initial_stream_window_size(allowance.window_bytes)
            .initial_connection_window_size(allowance.window_bytes.saturating_mul(2))
            .serve_connection(TokioIo::new(stream), watched)
    );
    // First what has arrived already: a request that waits to be read is answered.
    tokio::select! {
        biased;
        ended = connection.as_mut() => return ended,
        () = drain.begun() => {}
        () = activity.idle_for(allowance.idle) => {}
    }
    connection.as_mut().graceful_shutdown();
    activity.happens();
    tokio::select! {
        biased;
        ended = connection => ended,
        () = activity.idle_for(HTTP2_GOODBYE_TIME_MAX) => Ok(()),
    }
}

/// What happens on a connection, and when something happened last.
struct Activity {
    opened: Instant,
    under_way: AtomicUsize,
    /// Since `opened`.
    last_ms: AtomicU64,
}

impl Activity {
    fn new() -> Self {
        let (under_way, last_ms) = (AtomicUsize::new(0), AtomicU64::new(0));
        Self { opened: Instant::now(), under_way, last_ms }
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.opened.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn happens(&self) {
        self.last_ms.store(self.now_ms(), Ordering::Relaxed);
    }

    /// Waits until nothing has happened for `time`.
    async fn idle_for(&self, time: Duration) {
        loop {
            let last_ms = self.last_ms.load(Ordering::Relaxed);
            let quiet = Duration::from_millis(self.now_ms().saturating_sub(last_ms));
            let busy = self.under_way.load(Ordering::Relaxed) > 0;
            match time.checked_sub(quiet) {
                None | Some(Duration::ZERO) if !busy => return,
                Some(left) if !busy => tokio::time::sleep(left).await,
                _ => tokio::time::sleep(time).await,
            }
        }
    }
}

/// A request whose answer is not there yet.
struct UnderWay(Arc<Activity>);

impl UnderWay {
    fn new(activity: &Arc<Activity>) -> Self {
        activity.under_way.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(activity))
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.happens();
        self.0.under_way.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A body each piece of which, when it is taken, is something that happens.
struct Watched<B> {
    body: B,
    activity: Arc<Activity>,
}

impl<B: Body + Unpin> Body for Watched<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        self.activity.happens();
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
