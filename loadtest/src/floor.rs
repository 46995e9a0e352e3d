//! The floor: the product's public listener with nothing behind it.
//!
//! The same threads, sockets and hyper settings as the product, and constant answers. Whatever
//! the product is slower than this, it is slower by its own work. Keep the two set-ups equal.
//!
//! With a [`journal`](crate::journal), its answers wait for the disk: what durability costs a
//! server that does nothing else. `GET /metrics` says how long they did since it was asked last, as
//! the product's page does.

use std::convert::Infallible;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::num::NonZeroUsize;
use std::rc::Rc;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use hdrhistogram::Histogram;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue, LOCATION, REFERRER_POLICY};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsAcceptor;

use crate::cli::FloorArgs;
use crate::journal::{Journal, Waiting};
use crate::tls::TlsFiles;

/// Connections that may wait to be accepted, per worker.
const BACKLOG: i32 = 1024;
/// As in the product: a connection that sends no head for so long is closed.
const HEADER_READ_TIMEOUT: Duration = Duration::from_secs(30);
/// After a failed accept (out of descriptors), so as not to spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(10);

/// As long as a real landing URL; the click ID has the form of a real one.
const LANDING: &str =
    "https://shop.example/landing?subid=00aB3dE5gH7jK9mN1pQ3sT5vW7yZ9bC1e&src=campaign-1";
/// As long as a real answer to an accepted postback.
const ACCEPTED: &str = r#"{"result":"accepted","conversion_id":"00aB3dE5gH7jK9mN1pQ3sT","click_id":"00aB3dE5gH7jK9mN1pQ3sT5vW7yZ9bC1e","status":"approved"}"#;

/// Serves until the process ends.
pub fn run(args: &FloorArgs) -> io::Result<()> {
    let files = args.tls_certificate.clone().zip(args.tls_key.clone());
    let files = files.map(|(certificate, key)| TlsFiles { certificate, key });
    let journal = args.journal.as_deref().map(Journal::start).transpose()?;
    serve(args.listen, args.workers, files.as_ref(), journal.as_ref())
}

/// Serves until the process ends, on `workers` threads, 0 meaning one per core.
pub fn serve(
    listen: SocketAddr,
    workers: usize,
    tls: Option<&TlsFiles>,
    journal: Option<&Arc<Journal>>,
) -> io::Result<()> {
    let workers = worker_count(workers);
    let acceptor = tls.map(TlsFiles::acceptor).transpose()?;
    // All listeners are bound before any serves, so a taken port is one clear error.
    let listeners: Vec<_> = (0..workers).map(|_| bind(listen)).collect::<io::Result<_>>()?;
    println!("floor listening on {listen}, {workers} workers");
    let mut threads = Vec::with_capacity(workers);
    for (index, listener) in listeners.into_iter().enumerate() {
        let name = format!("floor-{index}");
        let (acceptor, journal) = (acceptor.clone(), journal.cloned());
        let work = move || work(listener, acceptor, journal);
        threads.push(thread::Builder::new().name(name).spawn(work)?);
    }
    for thread in threads {
        thread.join().expect("a floor worker panicked")?;
    }
    Ok(())
}

/// How many workers a setting of `workers` means.
pub fn worker_count(workers: usize) -> usize {
    let cores = || thread::available_parallelism().map_or(1, NonZeroUsize::get);
    NonZeroUsize::new(workers).map_or_else(cores, NonZeroUsize::get)
}

fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

fn work(
    listener: TcpListener,
    acceptor: Option<TlsAcceptor>,
    journal: Option<Arc<Journal>>,
) -> io::Result<()> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build()?;
    let tasks = tokio::task::LocalSet::new();
    let waiting = journal.map(|journal| Rc::new(Waiting::new(journal)));
    if let Some(waiting) = waiting.clone() {
        tasks.spawn_local(async move { waiting.attend().await });
    }
    tasks.block_on(&runtime, async {
        let listener = tokio::net::TcpListener::from_std(listener)?;
        loop {
            match listener.accept().await {
                Ok((stream, _)) => {
                    // Fails only on a socket that is already dead; serving it will notice.
                    let _ = stream.set_nodelay(true);
                    let waiting = waiting.clone();
                    match acceptor.clone() {
                        None => _ = tokio::task::spawn_local(connection(stream, waiting)),
                        Some(acceptor) => {
                            _ = tokio::task::spawn_local(async move {
                                if let Ok(stream) = acceptor.accept(stream).await {
                                    connection(stream, waiting).await;
                                }
                            });
                        }
                    }
                }
                Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
            }
        }
    })
}

async fn connection(stream: impl AsyncRead + AsyncWrite + Unpin, waiting: Option<Rc<Waiting>>) {
    let answer = |request| answer(request, waiting.clone());
    // How a connection ends is the client's business; the floor keeps no account of it.
    let _ = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_READ_TIMEOUT)
        .writev(false)
        .keep_alive(true)
        .pipeline_flush(false)
        .serve_connection(TokioIo::new(stream), service_fn(answer))
        .await;
}

async fn answer(
    request: Request<Incoming>,
    waiting: Option<Rc<Waiting>>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let path = request.uri().path();
    let mut response = Response::new(Full::default());
    if path.starts_with("/click") {
        *response.status_mut() = StatusCode::FOUND;
        let headers = response.headers_mut();
        headers.insert(LOCATION, HeaderValue::from_static(LANDING));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    } else if path.starts_with("/postback") {
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        *response.body_mut() = Full::new(Bytes::from_static(ACCEPTED.as_bytes()));
    } else if let Some(waiting) = waiting.as_deref().filter(|_| path == "/metrics") {
        *response.body_mut() = Full::new(metrics(&waiting.journal().latency()).into());
        return Ok(response);
    } else {
        *response.status_mut() = StatusCode::NOT_FOUND;
    }
    if let Some(waiting) = waiting {
        waiting.durable().await;
    }
    Ok(response)
}

fn metrics(latency: &Histogram<u64>) -> String {
    let seconds = |quantile| latency.value_at_quantile(quantile) as f64 / 1e9;
    let line = |quantile| {
        format!("postbackd_journal_seconds{{quantile=\"{quantile}\"}} {}\n", seconds(quantile))
    };
    [0.5, 0.99].map(line).concat()
}
