//! Where a restricted sandbox may go: its list, what on it makes sense, and what a request means by it. Pure.
#![deny(clippy::disallowed_methods)]

use std::net::{IpAddr, Ipv4Addr};

use http::uri::Authority;
use rexec_shared::address::{MAIL_PORTS, is_private};

use crate::sandboxes::view::Allowed;

/// Longest domain (RFC 1035).
const DOMAIN_MAX: usize = 253;
const LABEL_MAX: usize = 63;

/// A list as it is kept, in lower case; or which entry makes no sense, and why.
pub(crate) fn checked(allow: Vec<Allowed>) -> Result<Vec<Allowed>, (usize, &'static str)> {
    let entries = allow.into_iter().enumerate().map(|(at, entry)| {
        let host = entry.host.trim().trim_end_matches('.').to_ascii_lowercase();
        why_not(&host, entry.port).map_or(Ok(Allowed { host, port: entry.port }), |why| Err((at, why)))
    });
    entries.collect()
}

fn why_not(host: &str, port: u16) -> Option<&'static str> {
    if port == 0 {
        return Some("a port is from 1 to 65535");
    }
    if MAIL_PORTS.contains(&port) {
        return Some("sandboxes send no mail");
    }
    if let Ok(address) = host.parse::<Ipv4Addr>() {
        return is_private(address.into()).then_some("a private address is never reached");
    }
    let domain = host.strip_prefix("*.").unwrap_or(host);
    (!is_domain(domain)).then_some("a host is a domain such as pypi.org, *.pypi.org or an IPv4 address")
}

/// Letters, digits and hyphens in two labels or more, the last of which is no number: nothing that a resolver takes for an address.
fn is_domain(domain: &str) -> bool {
    let is_label = |label: &str| {
        let plain =
            |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-' || byte == b'_';
        (1..=LABEL_MAX).contains(&label.len())
            && label.bytes().all(plain)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let named =
        domain.rsplit('.').next().is_some_and(|last| last.starts_with(|c: char| c.is_ascii_lowercase()));
    domain.len() <= DOMAIN_MAX && named && domain.contains('.') && domain.split('.').all(is_label)
}

/// Where a request wants to go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Target {
    /// A domain in lower case, or an address.
    pub(super) host: String,
    /// The port.
    pub(super) port: u16,
}

impl Target {
    /// Of the authority of a request; without a port it is `port`.
    pub(super) fn of(authority: &Authority, port: Option<u16>) -> Option<Self> {
        // A name and a password in an address are somebody's mistake, or a trick.
        if authority.as_str().contains('@') {
            return None;
        }
        let host = authority.host().strip_suffix('.').unwrap_or(authority.host()).to_ascii_lowercase();
        Some(Self { host, port: authority.port_u16().or(port)? })
    }

    /// Whether the list has it.
    pub(super) fn is_on(&self, allow: &[Allowed]) -> bool {
        allow.iter().any(|entry| entry.port == self.port && matches(&entry.host, &self.host))
    }
}

fn matches(pattern: &str, host: &str) -> bool {
    match pattern.strip_prefix("*.") {
        Some(domain) => host.strip_suffix(domain).is_some_and(|rest| rest.len() > 1 && rest.ends_with('.')),
        None => pattern == host,
    }
}

/// Of the addresses of a name, those that may be connected to: what was looked at is what is dialled, so no name is asked for twice.
pub(super) fn public(addresses: impl Iterator<Item = std::net::SocketAddr>) -> Vec<std::net::SocketAddr> {
    addresses.filter(|address| !is_private(canonical(address.ip()))).collect()
}

/// An IPv4 address that comes as an IPv6 one is still that.
fn canonical(address: IpAddr) -> IpAddr {
    address.to_canonical()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn list(entries: &[(&str, u16)]) -> Vec<Allowed> {
        entries.iter().map(|(host, port)| Allowed { host: (*host).to_owned(), port: *port }).collect()
    }

    fn target(said: &str) -> Option<Target> {
        Target::of(&said.parse().ok()?, None)
    }

    #[test]
    fn a_list_is_of_domains_and_public_addresses() {
        let good = list(&[("PyPI.org.", 443), ("*.pythonhosted.org", 443), ("1.1.1.1", 53)]);
        let kept = checked(good).expect("good");
        assert_eq!(kept, list(&[("pypi.org", 443), ("*.pythonhosted.org", 443), ("1.1.1.1", 53)]));
        for (host, port) in [
            ("", 443),
            ("localhost", 80),
            ("*", 443),
            ("*.com", 443),
            ("a.*.com", 443),
            ("10.0.0.1", 80),
            ("169.254.169.254", 80),
            ("2130706433", 80),
            ("0x7f.1", 80),
            ("127.1", 80),
            ("x.org/path", 443),
            ("x .org", 443),
            ("-x.org", 443),
            ("x.org", 0),
            ("x.org", 25),
            ("[::1]", 80),
            ("ünicode.org", 443),
        ] {
            assert!(
                checked(list(&[("ok.org", 1), (host, port)])).is_err_and(|(at, _)| at == 1),
                "{host}:{port}"
            );
        }
    }

    #[test]
    fn a_request_is_held_against_the_list() {
        let allow = list(&[("pypi.org", 443), ("*.debian.org", 80)]);
        for (said, on) in [
            ("pypi.org:443", true),
            ("PYPI.ORG.:443", true),
            ("pypi.org:80", false),
            ("x.pypi.org:443", false),
            ("pypi.org.evil.com:443", false),
            ("deb.debian.org:80", true),
            ("a.b.debian.org:80", true),
            ("debian.org:80", false),
            (".debian.org:80", false),
            ("evildebian.org:80", false),
        ] {
            assert_eq!(target(said).is_some_and(|target| target.is_on(&allow)), on, "{said}");
        }
        assert_eq!(target("pypi.org@evil.com:443"), None);
        assert_eq!(target("pypi.org"), None, "no port, no guess");
    }

    proptest! {
        #[test]
        fn bu_08_no_form_of_a_private_address_is_connected_to(bits: u32, at in 0_usize..13, form in 0_u8..3) {
            let (network, prefix) = rexec_shared::address::PRIVATE_V4[at];
            let low = bits.checked_shr(u32::from(prefix)).unwrap_or(0);
            let v4 = Ipv4Addr::from_bits(network.to_bits() | low);
            let address = match form {
                0 => IpAddr::V4(v4),
                1 => IpAddr::V6(v4.to_ipv6_mapped()),
                _ => format!("64:ff9b::{v4}").parse().expect("NAT64"),
            };
            prop_assert!(public(std::iter::once((address, 80).into())).is_empty(), "{address}");
        }

        #[test]
        fn bu_08_what_is_on_no_list_is_nowhere(host in "[a-z0-9.*@%\\[\\]:-]{1,40}", port: u16) {
            let allow = list(&[("pypi.org", 443)]);
            let said = format!("{host}:{port}");
            if let Some(target) = target(&said) {
                prop_assert_eq!(target.is_on(&allow), target.host == "pypi.org" && target.port == 443);
            }
        }
    }
}
