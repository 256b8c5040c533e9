//! Who is counted together: one IPv4 address, or the /64 of an IPv6 address, which one customer of a provider has to himself.
#![deny(clippy::disallowed_methods)]

use std::net::{IpAddr, Ipv6Addr};

/// The prefix that an address is counted under.
pub(crate) fn of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) if address.is_loopback() => IpAddr::V6(address),
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX))),
    }
}
