//! Sockets of the public listener: one per worker on the same address, connections bounded.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::TcpListener;

use super::by_source::BySource;
use super::client_ip::TrustedProxies;
use super::connection;
use super::entrance::Entrance;
use super::router::Router;
use crate::limits::ACCEPT_PAUSE;
use crate::metrics::Metrics;
use crate::shutdown::Drain;

/// Connections the kernel queues before they are accepted.
const BACKLOG: i32 = 1024;

/// Opens a listening socket, on an address that no other process listens on. A client that takes
/// nothing of what it is sent for `stalled_max` loses its connection.
///
/// # Errors
/// When the address cannot be had.
pub fn bind(address: SocketAddr, stalled_max: Duration) -> std::io::Result<std::net::TcpListener> {
    open(address, stalled_max, false).map(Into::into)
}

/// Opens `count` of them on one address, among which the kernel divides the connections.
///
/// # Errors
/// When the address cannot be had.
pub fn bind_group(
    address: SocketAddr,
    stalled_max: Duration,
    count: usize,
) -> std::io::Result<Vec<std::net::TcpListener>> {
    // Alone at first, so that it is refused where another server listens already: each would get a
    // part of the other's traffic.
    let first = open(address, stalled_max, false)?;
    first.set_reuse_port(true)?;
    let mut group: Vec<std::net::TcpListener> = vec![first.into()];
    // The port may have been the system's choice.
    let address = group[0].local_addr()?;
    for _ in 1..count {
        group.push(open(address, stalled_max, true)?.into());
    }
    Ok(group)
}

fn open(address: SocketAddr, stalled_max: Duration, shared: bool) -> std::io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // Connections of a process that has ended are in nobody's way.
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(shared)?;
    socket.set_nonblocking(true)?;
    // Accepted sockets inherit it.
    socket.set_tcp_user_timeout(Some(stalled_max))?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket)
}

/// How many connections may be open, in total and from one address; shared by all workers. Of
/// IPv6 an address is its /64. Trusted proxies may have as many as there are: they bring everybody.
pub struct Admission {
    total_max: usize,
    per_address_max: usize,
    trusted_proxies: TrustedProxies,
    total: AtomicUsize,
    by_source: BySource,
    metrics: Arc<Metrics>,
}

impl Admission {
    /// Admits up to `total_max` connections, up to `per_address_max` from one address.
    #[must_use]
    pub fn new(
        total_max: usize,
        per_address_max: usize,
        trusted_proxies: TrustedProxies,
        metrics: Arc<Metrics>,
    ) -> Arc<Self> {
        let (total, by_source) = (AtomicUsize::new(0), BySource::default());
        Arc::new(Self { total_max, per_address_max, trusted_proxies, total, by_source, metrics })
    }

    /// A place for one connection, given back when dropped; not counted under an address yet.
    fn admit(self: &Arc<Self>) -> Option<Admitted> {
        let metrics = &self.metrics.connections;
        let admitted = Admitted { admission: Arc::clone(self), address: None };
        metrics.accepted.increment(1);
        metrics.open.increment(1.0);
        let total = self.total.fetch_add(1, Ordering::Relaxed) + 1;
        if total > self.total_max {
            metrics.over_total.increment(1);
            return None;
        }
        Some(admitted)
    }
}

/// One connection's place.
pub(super) struct Admitted {
    admission: Arc<Admission>,
    address: Option<IpAddr>,
}

impl Admitted {
    /// Counts the connection under its address; whether that has room for it.
    pub(super) fn counts_under(&mut self, address: IpAddr) -> bool {
        let admission = &self.admission;
        self.address = Some(address);
        let has_room = admission.by_source.add(address) <= admission.per_address_max
            || admission.trusted_proxies.trusts(address.to_canonical());
        if !has_room {
            admission.metrics.connections.over_address.increment(1);
        }
        has_room
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        let admission = &self.admission;
        admission.total.fetch_sub(1, Ordering::Relaxed);
        admission.metrics.connections.open.decrement(1.0);
        if let Some(address) = self.address {
            admission.by_source.remove(address);
        }
    }
}

/// Accepts connections until the drain begins, then waits for the open ones to finish.
///
/// # Errors
/// When the socket cannot be used.
pub async fn serve(
    listener: std::net::TcpListener,
    entrance: Arc<Entrance>,
    router: Arc<Router>,
    admission: Arc<Admission>,
    drain: Drain,
) -> std::io::Result<()> {
    let listener = TcpListener::from_std(listener)?;
    let mut connections = tokio::task::JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => {
                    let Some(mut admitted) = admission.admit() else { continue };
                    let Some(begins_with_a_word) = entrance.begins_with_a_word(peer.ip()) else {
                        router.metrics.connections.proxy_untrusted.increment(1);
                        continue;
                    };
                    if !begins_with_a_word && !admitted.counts_under(peer.ip()) {
                        continue;
                    }
                    if let Err(error) = stream.set_nodelay(true) {
                        tracing::debug!(%error, "cannot set TCP_NODELAY");
                    }
                    let (router, drain) = (Arc::clone(&router), drain.clone());
                    if entrance.is_open() {
                        connections.spawn(async move {
                            connection::serve(stream, peer.ip(), router, drain).await;
                            drop(admitted);
                        });
                    } else {
                        let entrance = Arc::clone(&entrance);
                        connections.spawn(async move {
                            entrance.serve(stream, peer, admitted, router, drain).await;
                        });
                    }
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
            Some(finished) = connections.join_next(), if !connections.is_empty() => {
                if let Err(error) = finished {
                    tracing::error!(%error, "a connection's task failed");
                }
            }
            () = drain.begun() => break,
        }
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
    Ok(())
}
