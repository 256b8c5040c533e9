//! Notices that the network changed: the kernel tells of links, addresses and routes on a netlink socket (`rtnetlink(7)`).
//!
//! ```text
//! datagram   one or more of:  u32 length · u16 type · u16 flags · u32 sequence · u32 port · body, padded to 4 bytes, native byte order
//! link       u8 family · u8 – · u16 hardware · i32 index · u32 flags · u32 changed · …
//! address    u8 family · u8 prefix · u8 flags · u8 scope · u32 index · …
//! route      u8 family · u8 destination bits · u8 source bits · u8 tos · u8 table · u8 protocol · u8 scope · u8 type · u32 flags · …
//! ```
//!
//! What concerns a path to a broker is few of them: a link that begins or ceases to carry, an address that others can reach, a default route.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::AsRawFd;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, socket};
use tokio::net::UdpSocket;
use tokio::sync::watch;
use tokio::time::sleep;

/// Changes come in bursts (link, addresses, routes): one wake-up for each.
const SETTLE: Duration = Duration::from_millis(200);
/// Largest datagram of the kernel's: a page or two; longer ones are cut, and what was cut is missed.
const DATAGRAM_MAX: usize = 16 * 1024;
/// Links whose state is remembered.
const LINKS_MAX: usize = 4_096;

// <linux/rtnetlink.h>
const GROUP_LINK: u32 = 0x1;
const GROUP_IPV4_ADDRESS: u32 = 0x10;
const GROUP_IPV4_ROUTE: u32 = 0x40;
const GROUP_IPV6_ADDRESS: u32 = 0x100;
const GROUP_IPV6_ROUTE: u32 = 0x400;
const NEW_LINK: u16 = 16;
const DEL_LINK: u16 = 17;
const NEW_ADDRESS: u16 = 20;
const DEL_ADDRESS: u16 = 21;
const NEW_ROUTE: u16 = 24;
const DEL_ROUTE: u16 = 25;
/// Addresses of this scope and beyond reach no further than the link.
const SCOPE_LINK: u8 = 253;
/// `IFF_RUNNING`: the link carries.
const RUNNING: u32 = 0x40;
const HEADER: usize = 16;

/// Changes the watched number each time the network changed. Without netlink nothing is noticed, and pings find out.
pub(super) async fn watch_for_changes(changed: watch::Sender<u64>) {
    if let Err(error) = watch(&changed).await {
        tracing::warn!(%error, "changes of the network are not noticed at once");
    }
}

async fn watch(changed: &watch::Sender<u64>) -> io::Result<()> {
    let netlink = subscribe()?;
    let (mut network, mut buffer) = (Network::default(), vec![0; DATAGRAM_MAX]);
    loop {
        if hear(netlink.recv(&mut buffer).await, &buffer, &mut network)? {
            sleep(SETTLE).await;
            while pending(&netlink, &mut buffer, &mut network)? {}
            tracing::info!("the network changed; probing the path");
            changed.send_modify(|count| *count += 1);
        }
    }
}

/// A socket that receives datagrams is all that is asked of it, so the runtime's UDP socket carries it: it knows of no addresses here.
fn subscribe() -> io::Result<UdpSocket> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let fd = socket(AddressFamily::Netlink, SockType::Raw, flags, SockProtocol::NetlinkRoute)?;
    let groups = GROUP_LINK | GROUP_IPV4_ADDRESS | GROUP_IPV4_ROUTE | GROUP_IPV6_ADDRESS | GROUP_IPV6_ROUTE;
    bind(fd.as_raw_fd(), &NetlinkAddr::new(0, groups))?;
    UdpSocket::from_std(fd.into())
}

/// Whether what was received tells of a change.
fn hear(received: io::Result<usize>, buffer: &[u8], network: &mut Network) -> io::Result<bool> {
    match received {
        Ok(len) => Ok(network.handle_datagram(buffer.get(..len).unwrap_or_default())),
        // There were more than the socket could hold: something surely changed.
        Err(error) if error.raw_os_error() == Some(Errno::ENOBUFS as i32) => Ok(true),
        Err(error) => Err(error),
    }
}

/// Takes a datagram that is there already; false when there is none.
fn pending(netlink: &UdpSocket, buffer: &mut [u8], network: &mut Network) -> io::Result<bool> {
    match netlink.try_recv(buffer) {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
        received => hear(received, buffer, network).map(|_| true),
    }
}

/// What is known of the links: whether each carries.
#[derive(Debug, Default)]
pub(super) struct Network {
    links: BTreeMap<i32, bool>,
}

impl Network {
    /// Whether one of a datagram's messages concerns the path to a broker. What is malformed does not.
    pub(super) fn handle_datagram(&mut self, mut rest: &[u8]) -> bool {
        let mut changed = false;
        while let Some(len) = u32_at(rest, 0).and_then(|len| usize::try_from(len).ok()) {
            let Some(message) = rest.get(..len).filter(|_| len >= HEADER) else { break };
            changed |= self.handle_message(message).unwrap_or(false);
            rest = rest.get(len.next_multiple_of(4)..).unwrap_or_default();
        }
        changed
    }

    fn handle_message(&mut self, message: &[u8]) -> Option<bool> {
        let kind = u16::from_ne_bytes(message.get(4..6)?.try_into().ok()?);
        let body = message.get(HEADER..)?;
        Some(match kind {
            NEW_LINK => self.handle_link(index(body)?, u32_at(body, 8)? & RUNNING != 0),
            DEL_LINK => self.links.remove(&index(body)?).unwrap_or(false),
            NEW_ADDRESS | DEL_ADDRESS => *body.get(3)? < SCOPE_LINK,
            NEW_ROUTE | DEL_ROUTE => *body.get(1)? == 0,
            _ => false,
        })
    }

    /// A link that is heard of first counts when it carries.
    fn handle_link(&mut self, index: i32, carries: bool) -> bool {
        if self.links.len() >= LINKS_MAX {
            self.links.clear();
        }
        self.links.insert(index, carries).unwrap_or(false) != carries
    }
}

fn index(link: &[u8]) -> Option<i32> {
    Some(i32::from_ne_bytes(link.get(4..8)?.try_into().ok()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at.checked_add(4)?)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn message(kind: u16, body: &[u8]) -> Vec<u8> {
        let len = u32::try_from(HEADER + body.len()).unwrap();
        let mut bytes = len.to_ne_bytes().to_vec();
        bytes.extend(kind.to_ne_bytes());
        bytes.extend([0; 10]);
        bytes.extend(body);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    fn link(kind: u16, index: i32, carries: bool) -> Vec<u8> {
        let mut body = vec![0; 4];
        body.extend(index.to_ne_bytes());
        body.extend(if carries { RUNNING } else { 0 }.to_ne_bytes());
        body.extend([0; 4]);
        message(kind, &body)
    }

    fn changes(datagram: &[u8]) -> bool {
        Network::default().handle_datagram(datagram)
    }

    #[test]
    fn an_address_that_others_can_reach_is_a_change_and_a_link_local_one_is_none() {
        assert!(changes(&message(NEW_ADDRESS, &[2, 24, 0, 0, 1, 0, 0, 0])));
        assert!(changes(&message(DEL_ADDRESS, &[10, 64, 0, 0, 1, 0, 0, 0])));
        assert!(!changes(&message(NEW_ADDRESS, &[10, 64, 0, SCOPE_LINK, 1, 0, 0, 0])));
    }

    #[test]
    fn a_default_route_is_a_change_and_a_route_to_one_network_is_none() {
        let route = |bits: u8| message(DEL_ROUTE, &[2, bits, 0, 0, 254, 3, 0, 1, 0, 0, 0, 0]);
        assert!(changes(&route(0)));
        assert!(!changes(&route(24)));
        assert!(changes(&[route(24), route(16), route(0)].concat()), "the last of a datagram counts too");
    }

    #[test]
    fn a_link_is_a_change_when_it_begins_or_ceases_to_carry() {
        let mut network = Network::default();
        assert!(network.handle_datagram(&link(NEW_LINK, 3, true)));
        assert!(!network.handle_datagram(&link(NEW_LINK, 3, true)), "statistics");
        assert!(network.handle_datagram(&link(NEW_LINK, 3, false)), "the cable is out");
        assert!(!network.handle_datagram(&link(NEW_LINK, 4, false)), "one that never carried");
        assert!(!network.handle_datagram(&link(DEL_LINK, 4, false)));
    }

    #[tokio::test]
    async fn the_kernel_takes_the_subscription() {
        let netlink = subscribe().unwrap();
        pending(&netlink, &mut [0; 64], &mut Network::default()).unwrap();
    }

    proptest! {
        #[test]
        fn whatever_comes_is_survived(bytes in prop::collection::vec(any::<u8>(), 0..200), at in 0usize..64) {
            let mut network = Network::default();
            network.handle_datagram(&bytes);
            let mut mangled = [link(NEW_LINK, 1, true), message(NEW_ROUTE, &[0; 12])].concat();
            if let (Some(byte), Some(with)) = (mangled.get_mut(at), bytes.first()) {
                *byte = *with;
            }
            network.handle_datagram(&mangled);
        }
    }
}
