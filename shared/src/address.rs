//! Addresses that are nobody's on the internet: where a sandbox, and whoever connects on its behalf, never goes (THREATS CT-05, BU-08).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Where nothing of the internet is (IANA's special-purpose registry, and all of multicast and what is reserved).
pub const PRIVATE_V4: [(Ipv4Addr, u8); 13] = [
    (Ipv4Addr::new(0, 0, 0, 0), 8),
    (Ipv4Addr::new(10, 0, 0, 0), 8),
    (Ipv4Addr::new(100, 64, 0, 0), 10),
    (Ipv4Addr::new(127, 0, 0, 0), 8),
    (Ipv4Addr::new(169, 254, 0, 0), 16),
    (Ipv4Addr::new(172, 16, 0, 0), 12),
    (Ipv4Addr::new(192, 0, 0, 0), 24),
    (Ipv4Addr::new(192, 0, 2, 0), 24),
    (Ipv4Addr::new(192, 168, 0, 0), 16),
    (Ipv4Addr::new(198, 18, 0, 0), 15),
    (Ipv4Addr::new(203, 0, 113, 0), 24),
    (Ipv4Addr::new(224, 0, 0, 0), 4),
    (Ipv4Addr::new(240, 0, 0, 0), 4),
];
/// The same for IPv6, with what leads back to IPv4.
pub const PRIVATE_V6: [(Ipv6Addr, u8); 7] = [
    (Ipv6Addr::UNSPECIFIED, 96),
    (Ipv6Addr::new(0, 0, 0, 0, 0, 0xffff, 0, 0), 96),
    (Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, 0, 0), 96),
    (Ipv6Addr::new(0x64, 0xff9b, 1, 0, 0, 0, 0, 0), 48),
    (Ipv6Addr::new(0xfc00, 0, 0, 0, 0, 0, 0, 0), 7),
    (Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0), 10),
    (Ipv6Addr::new(0xff00, 0, 0, 0, 0, 0, 0, 0), 8),
];
/// Ports that mail is handed in on: nobody's sandbox is to send spam.
pub const MAIL_PORTS: [u16; 3] = [25, 465, 587];

/// Whether an address is private, local, reserved, or leads back to IPv4.
pub fn is_private(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => PRIVATE_V4.iter().any(|(network, prefix)| {
            shares(u128::from(address.to_bits()) << 96, u128::from(network.to_bits()) << 96, *prefix)
        }),
        IpAddr::V6(address) => {
            PRIVATE_V6.iter().any(|(network, prefix)| shares(address.to_bits(), network.to_bits(), *prefix))
        }
    }
}

fn shares(one: u128, other: u128, prefix: u8) -> bool {
    let ignored = 128_u32.saturating_sub(u32::from(prefix));
    (one ^ other).checked_shr(ignored).unwrap_or(0) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ct_05_what_is_private_and_what_is_not() {
        let private = [
            "0.0.0.0",
            "10.0.0.1",
            "100.64.0.1",
            "127.0.0.1",
            "127.255.255.255",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.168.0.1",
            "198.18.0.1",
            "224.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::ffff:10.0.0.1",
            "::ffff:8.8.8.8",
            "64:ff9b::a00:1",
            "64:ff9b:1::1",
            "fc00::1",
            "fd00:ec2::254",
            "fe80::1",
            "ff02::1",
        ];
        for address in private {
            assert!(is_private(address.parse().unwrap()), "{address}");
        }
        for address in
            ["1.1.1.1", "8.8.8.8", "172.15.0.1", "172.32.0.1", "11.0.0.1", "192.0.1.1", "2606:4700::1111"]
        {
            assert!(!is_private(address.parse().unwrap()), "{address}");
        }
    }
}
