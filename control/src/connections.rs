//! Connections of the web server: how many, and from where (THREATS MA-11, BU-13).
//!
//! A connection is counted for as long as its socket is open: the count goes with the socket itself, so that one which became a
//! viewer's WebSocket still counts.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use crate::auth::client_ip::{ClientIp, Network};
use crate::limits::{CONNECTIONS_MAX, CONNECTIONS_PER_NET};

/// Counts connections, in all and per network: an IPv4 address, an IPv6 /64.
#[derive(Debug, Default)]
struct Crowd {
    total: usize,
    nets: HashMap<String, usize>,
}

impl Crowd {
    /// Counts one more from `net`, if there is room; [`Crowd::handle_end`] is owed then. Without a net it counts in all alone.
    fn handle_arrival(&mut self, net: Option<&str>) -> bool {
        let from_there = net.and_then(|net| self.nets.get(net)).copied().unwrap_or_default();
        if self.total >= CONNECTIONS_MAX || from_there >= CONNECTIONS_PER_NET {
            return false;
        }
        self.total += 1;
        if let Some(net) = net {
            *self.nets.entry(net.to_owned()).or_default() += 1;
        }
        true
    }

    fn handle_end(&mut self, net: Option<&str>) {
        self.total = self.total.saturating_sub(1);
        if let Some(net) = net
            && let Some(count) = self.nets.get_mut(net)
        {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.nets.remove(net);
            }
        }
    }
}

/// The door of the web server; a clone is a handle.
#[derive(Debug, Clone)]
pub(crate) struct Connections {
    crowd: Arc<Mutex<Crowd>>,
    proxies: Arc<[Network]>,
}

impl Connections {
    /// A door where `proxies`, behind which everybody may be, and this very machine are counted in all alone.
    pub(crate) fn new(proxies: &[Network]) -> Self {
        Self { crowd: Arc::default(), proxies: proxies.into() }
    }

    /// Lets a connection in and counts it, or closes it when its network has too many or all have.
    pub(crate) fn admit(&self, stream: TcpStream, peer: SocketAddr) -> Option<Counted> {
        let net = self.net_of(peer.ip().to_canonical());
        let mut crowd = self.crowd.lock().unwrap_or_else(PoisonError::into_inner);
        let place = || Place { crowd: Arc::clone(&self.crowd), net: net.clone() };
        crowd.handle_arrival(net.as_deref()).then(|| Counted { stream, _place: place() })
    }

    fn net_of(&self, ip: IpAddr) -> Option<String> {
        let is_many = ip.is_loopback() || self.proxies.iter().any(|network| network.contains(ip));
        (!is_many).then(|| ClientIp(ip).net())
    }
}

/// A connection's place in the crowd, left when it is dropped.
#[derive(Debug)]
struct Place {
    crowd: Arc<Mutex<Crowd>>,
    net: Option<String>,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.crowd.lock().unwrap_or_else(PoisonError::into_inner).handle_end(self.net.as_deref());
    }
}

/// A socket that counts for as long as it is open.
#[derive(Debug)]
pub(crate) struct Counted {
    stream: TcpStream,
    _place: Place,
}

impl AsyncRead for Counted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Counted {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// Asks the system for as many open files as it allows: each connection is one, and the usual soft limit of 1,024 is far below
/// [`CONNECTIONS_MAX`].
pub(crate) fn raise_open_files() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current == maximum {
        return;
    }
    match setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }) {
        Ok(()) => tracing::debug!(before = current, now = maximum, "more open files are allowed"),
        Err(error) => tracing::warn!(%error, limit = current, "no more open files are allowed"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn ma_11_one_network_cannot_take_every_connection() {
        let mut crowd = Crowd::default();
        let admitted = (0..CONNECTIONS_MAX).filter(|_| crowd.handle_arrival(Some("192.0.2.1"))).count();
        assert_eq!(admitted, CONNECTIONS_PER_NET);
        assert!(crowd.handle_arrival(Some("192.0.2.2")), "a neighbour is not concerned");
        crowd.handle_end(Some("192.0.2.1"));
        assert!(crowd.handle_arrival(Some("192.0.2.1")), "room comes back");
    }

    #[test]
    fn this_machine_and_trusted_proxies_stand_for_many() {
        let door = Connections::new(&["10.0.0.0/8".parse().expect("a network")]);
        let net = |text: &str| door.net_of(text.parse::<IpAddr>().expect("an address").to_canonical());
        assert_eq!((net("127.0.0.1"), net("::1"), net("::ffff:10.1.2.3")), (None, None, None));
        assert_eq!(net("203.0.113.9").as_deref(), Some("203.0.113.9"));
        assert_eq!(net("2001:db8::1"), net("2001:db8::2"), "one /64 is one network");
    }

    #[tokio::test]
    async fn a_connection_counts_until_its_socket_is_dropped() {
        let door = Connections::new(&[]);
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let dial = TcpStream::connect(listener.local_addr().expect("an address"));
        let (dialled, accepted) = tokio::join!(dial, listener.accept());
        let (stream, _) = accepted.expect("accepted");
        let counted = door.admit(stream, "192.0.2.1:9".parse().expect("an address")).expect("room");
        let total = || door.crowd.lock().expect("whole").total;
        assert_eq!(total(), 1);
        // Whoever holds the socket now, an upgrade included, holds the place.
        let moved = tokio::io::split(counted);
        assert_eq!(total(), 1);
        drop((moved, dialled));
        assert_eq!(total(), 0);
    }

    proptest! {
        #[test]
        fn who_came_and_went_leaves_nothing(from in prop::collection::vec(0u8..4, 0..200)) {
            let mut crowd = Crowd::default();
            let nets: Vec<Option<String>> = from.iter().map(|n| (*n > 0).then(|| n.to_string())).collect();
            nets.iter().for_each(|net| assert!(crowd.handle_arrival(net.as_deref())));
            prop_assert_eq!(crowd.total, nets.len());
            nets.iter().for_each(|net| crowd.handle_end(net.as_deref()));
            prop_assert!(crowd.total == 0 && crowd.nets.is_empty());
        }
    }
}
