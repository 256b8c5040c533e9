//! Where a request comes from.
//!
//! The address is that of the connection. `X-Forwarded-For` is believed only from a proxy that the operator named
//! (`REXEC_TRUSTED_PROXY`), and then only its part that such proxies wrote (THREATS BU-05).

use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use axum::extract::{ConnectInfo, FromRequestParts, Request};
use http::HeaderMap;
use http::request::Parts;

use crate::error::ApiError;
use crate::settings::Settings;

/// The address of whoever asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientIp(pub IpAddr);

impl ClientIp {
    /// Finds it out.
    pub fn of(request: &Request, settings: &Settings) -> Self {
        let peer = request
            .extensions()
            .get::<ConnectInfo<SocketAddr>>()
            .map_or(IpAddr::V6(Ipv6Addr::UNSPECIFIED), |ConnectInfo(peer)| peer.ip());
        Self(behind(peer.to_canonical(), request.headers(), &settings.trusted_proxies))
    }

    /// The network under which attempts are counted: an IPv4 address, the /64 of an IPv6 address, of which whoever has one
    /// address has all.
    pub fn net(self) -> String {
        match self.0 {
            IpAddr::V4(address) => address.to_string(),
            IpAddr::V6(address) => {
                let mut segments = address.segments();
                segments[4..].fill(0);
                format!("{}/64", Ipv6Addr::from(segments))
            }
        }
    }
}

impl fmt::Display for ClientIp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<S: Send + Sync> FromRequestParts<S> for ClientIp {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        parts.extensions.get::<Self>().copied().ok_or_else(|| ApiError::internal(NoAddress))
    }
}

#[derive(Debug, thiserror::Error)]
#[error("the request has no address")]
struct NoAddress;

/// Walks the chain of proxies back from the connection until an address that is no trusted proxy.
fn behind(peer: IpAddr, headers: &HeaderMap, trusted: &[Network]) -> IpAddr {
    let is_proxy = |address: IpAddr| trusted.iter().any(|network| network.contains(address));
    if !is_proxy(peer) {
        return peer;
    }
    let hops = headers
        .get_all("x-forwarded-for")
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(|hop| hop.trim().parse::<IpAddr>().ok().map(|address| address.to_canonical()))
        .collect::<Vec<_>>();
    let mut nearest = peer;
    for hop in hops.into_iter().rev() {
        let Some(address) = hop else { break };
        nearest = address;
        if !is_proxy(address) {
            break;
        }
    }
    nearest
}

/// A network in CIDR notation; a bare address is a network of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    prefix: u8,
}

impl Network {
    /// Whether `address` is in it.
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.address, address) {
            (IpAddr::V4(ours), IpAddr::V4(theirs)) => {
                same_prefix(u128::from(ours.to_bits()) << 96, u128::from(theirs.to_bits()) << 96, self.prefix)
            }
            (IpAddr::V6(ours), IpAddr::V6(theirs)) => {
                same_prefix(ours.to_bits(), theirs.to_bits(), self.prefix)
            }
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => false,
        }
    }
}

fn same_prefix(a: u128, b: u128, prefix: u8) -> bool {
    (a ^ b).leading_zeros() >= u32::from(prefix)
}

/// Not a network in CIDR notation.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a network like 10.0.0.0/8")]
pub struct NotANetwork(String);

impl FromStr for Network {
    type Err = NotANetwork;

    fn from_str(text: &str) -> Result<Self, NotANetwork> {
        let wrong = || NotANetwork(text.to_owned());
        let (address, prefix) =
            text.trim().split_once('/').map_or((text.trim(), None), |(a, p)| (a, Some(p)));
        let address: IpAddr = address.parse().map_err(|_| wrong())?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let prefix = prefix.map_or(Ok(most), |prefix| prefix.parse().map_err(|_| wrong()))?;
        (prefix <= most).then_some(Self { address, prefix }).ok_or_else(wrong)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    fn forwarded(values: &[&str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append("x-forwarded-for", value.parse().expect("a header"));
        }
        headers
    }

    #[test]
    fn bu_05_a_forwarded_address_is_believed_only_from_a_trusted_proxy() {
        let trusted = ["10.0.0.0/8".parse().expect("a network")];
        let headers = forwarded(&["1.1.1.1, 2.2.2.2", "10.0.0.7"]);
        assert_eq!(behind(ip("9.9.9.9"), &headers, &trusted), ip("9.9.9.9"));
        assert_eq!(
            behind(ip("10.0.0.1"), &headers, &trusted),
            ip("2.2.2.2"),
            "what a client wrote itself is skipped"
        );
        assert_eq!(behind(ip("10.0.0.1"), &forwarded(&["junk"]), &trusted), ip("10.0.0.1"));
        assert_eq!(behind(ip("10.0.0.1"), &headers, &[]), ip("10.0.0.1"));
    }

    #[test]
    fn networks_are_read_and_compared_by_their_prefix() {
        let network: Network = "192.168.0.0/16".parse().expect("a network");
        assert!(network.contains(ip("192.168.3.4")) && !network.contains(ip("192.169.0.1")));
        assert!("0.0.0.0/0".parse::<Network>().expect("all").contains(ip("8.8.8.8")));
        assert!("::1".parse::<Network>().expect("one").contains(ip("::1")));
        for wrong in ["10.0.0.0/33", "x", "10.0.0.0/", "::/129"] {
            assert!(wrong.parse::<Network>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn an_ipv6_address_counts_as_its_slash_64() {
        assert_eq!(ClientIp(ip("2001:db8:1:2:3:4:5:6")).net(), "2001:db8:1:2::/64");
        assert_eq!(ClientIp(ip("1.2.3.4")).net(), "1.2.3.4");
    }
}
