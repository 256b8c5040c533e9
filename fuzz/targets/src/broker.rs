//! The first frame of a viewer as the broker reads it, and the prefix that an address is counted under.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use bytes::BytesMut;

use super::parse::parse;
use super::prefix;
use crate::permissions::public_key;

pub(crate) fn target(bytes: &[u8]) {
    if let Ok(first) = parse(BytesMut::from(bytes), &public_key()) {
        assert_eq!(first.bytes, bytes, "it is passed on as it came");
        assert_eq!(first.opening, bytes[0] == 1);
        assert!(public_key().permission(&first.ticket).is_ok_and(|(_, claims)| claims == first.claims));
    }
    if let Some(address) = bytes.first_chunk::<16>() {
        prefixed(Ipv6Addr::from(*address));
    }
}

fn prefixed(address: Ipv6Addr) {
    let prefix = prefix::of(IpAddr::V6(address));
    assert_eq!(prefix::of(prefix), prefix);
    let neighbour = Ipv6Addr::from_bits(address.to_bits() ^ (1 << 63));
    let is_other = address.to_canonical().is_ipv4() || neighbour.to_canonical().is_ipv4();
    let is_loopback = address.is_loopback() || neighbour.is_loopback();
    assert!(is_other || is_loopback || prefix::of(IpAddr::V6(neighbour)) == prefix);
    if let IpAddr::V4(short) = address.to_canonical() {
        assert_eq!(prefix, IpAddr::V4(Ipv4Addr::from_bits(short.to_bits())), "as if it had come over IPv4");
    }
}
