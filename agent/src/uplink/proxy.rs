//! Which HTTP proxy leads to a broker, and what is said to it: `HTTPS_PROXY`, `NO_PROXY`, `CONNECT`.
//!
//! The words of the environment are those of curl: `HTTPS_PROXY` or `https_proxy` names an `http://` proxy, with a name and a password if it wants them;
//! `NO_PROXY` or `no_proxy` lists what is dialled straight: names with all that is below them, addresses, networks, `*`. This very machine never
//! needs a proxy.
//!
//! Invariant: the password is in the request and nowhere else; nothing here shows it.
#![deny(clippy::disallowed_methods)]

use std::fmt;
use std::net::IpAddr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use thiserror::Error;
use url::{Host, Url};

/// Longest answer of a proxy's taken, bytes: status and headers, as much as servers allow for requests.
pub const HEAD_MAX: usize = 8 * 1024;
/// Entries of `NO_PROXY` that are looked at.
const EXEMPT_MAX: usize = 1_024;

/// An HTTP proxy.
#[derive(Clone, PartialEq, Eq)]
pub struct Proxy {
    /// An IPv6 address in brackets.
    host: String,
    port: u16,
    /// The value of `Proxy-Authorization`.
    authorization: Option<String>,
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Proxy({self})")
    }
}

impl fmt::Display for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

/// Why what the environment says names no proxy. The text itself is not repeated: it may hold a password.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum ProxyError {
    /// Not a URL.
    #[error("HTTPS_PROXY is not a URL like http://proxy.example:3128")]
    NotAUrl,
    /// A proxy that is itself spoken to over TLS.
    #[error("HTTPS_PROXY names an https:// proxy, and only http:// ones are spoken to")]
    Tls,
    /// A SOCKS proxy.
    #[error("HTTPS_PROXY names a SOCKS proxy, and only http:// ones are spoken to")]
    Socks,
    /// Neither `http` nor nothing.
    #[error("HTTPS_PROXY names a proxy of another kind than http://")]
    Scheme,
}

impl Proxy {
    fn parse(text: &str) -> Result<Self, ProxyError> {
        let with_scheme = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
        let url = Url::parse(&with_scheme).map_err(|_| ProxyError::NotAUrl)?;
        match url.scheme() {
            "http" => {}
            "https" => return Err(ProxyError::Tls),
            scheme if scheme.starts_with("socks") => return Err(ProxyError::Socks),
            _ => return Err(ProxyError::Scheme),
        }
        let host = url.host_str().filter(|host| !host.is_empty()).ok_or(ProxyError::NotAUrl)?;
        let port = url.port_or_known_default().ok_or(ProxyError::NotAUrl)?;
        let wants_name = !url.username().is_empty() || url.password().is_some();
        let authorization = wants_name.then(|| {
            let mut credentials = decode(url.username());
            credentials.push(b':');
            credentials.extend(decode(url.password().unwrap_or_default()));
            format!("Basic {}", STANDARD.encode(credentials))
        });
        Ok(Self { host: host.to_owned(), port, authorization })
    }

    /// `host:port`.
    pub fn address(&self) -> String {
        self.to_string()
    }

    /// The request for a connection to `target`, `host:port`.
    pub fn request(&self, target: &str) -> String {
        // Only what a host and a port are made of: nothing from elsewhere may end a line.
        let target: String = target.chars().filter(char::is_ascii_graphic).collect();
        let authorization = self
            .authorization
            .as_deref()
            .map_or_else(String::new, |value| format!("Proxy-Authorization: {value}\r\n"));
        format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n{authorization}\r\n")
    }
}

/// Undoes percent-encoding (RFC 3986 §2.1); what is not encoded well is left as it stands.
fn decode(text: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        let digit = |byte: &u8| char::from(*byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
        let encoded = match after {
            [high, low, ..] if *first == b'%' => digit(high).zip(digit(low)),
            _ => None,
        };
        match encoded {
            Some((high, low)) => {
                bytes.push(high * 16 + low);
                rest = after.get(2..).unwrap_or_default();
            }
            None => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    bytes
}

/// What is dialled straight.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Exempt {
    Everything,
    /// A name and all below it, with a port or any.
    Name(String, Option<u16>),
    /// Addresses whose first bits are those.
    Network(IpAddr, u8),
}

impl Exempt {
    fn parse(text: &str) -> Option<Self> {
        if text == "*" {
            return Some(Self::Everything);
        }
        if let Some((address, bits)) = text.split_once('/') {
            return Some(Self::Network(address.parse().ok()?, bits.parse().ok()?));
        }
        if let Some(address) = address(text) {
            return Some(Self::Network(address, 128));
        }
        let (name, port) = match text.rsplit_once(':') {
            Some((name, port)) => (name, Some(port.parse().ok()?)),
            None => (text, None),
        };
        let name = name.trim_start_matches("*.").trim_matches('.').to_ascii_lowercase();
        (!name.is_empty()).then_some(Self::Name(name, port))
    }

    fn covers(&self, host: &str, port: u16) -> bool {
        match self {
            Self::Everything => true,
            Self::Name(name, only) => {
                let host = host.to_ascii_lowercase();
                let host = host.trim_end_matches('.');
                let is_below = host.strip_suffix(name.as_str()).is_some_and(|front| front.ends_with('.'));
                only.is_none_or(|only| only == port) && (host == name || is_below)
            }
            Self::Network(network, bits) => {
                address(host).is_some_and(|address| is_within(address, *network, *bits))
            }
        }
    }
}

/// An address, with or without brackets.
fn address(text: &str) -> Option<IpAddr> {
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    bare.parse::<IpAddr>().ok().map(|address| address.to_canonical())
}

fn is_within(address: IpAddr, network: IpAddr, bits: u8) -> bool {
    let (width, address, network) = match (address, network) {
        (IpAddr::V4(a), IpAddr::V4(b)) => (32, u128::from(a.to_bits()), u128::from(b.to_bits())),
        (IpAddr::V6(a), IpAddr::V6(b)) => (128, a.to_bits(), b.to_bits()),
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => return false,
    };
    let ignored = width - u32::from(bits).min(width);
    (address ^ network).checked_shr(ignored).unwrap_or_default() == 0
}

/// What the environment says of proxies.
#[derive(Debug, Clone, Default)]
pub struct Proxies {
    proxy: Option<Proxy>,
    exempt: Vec<Exempt>,
}

impl Proxies {
    /// From the two variables; empty ones are none.
    pub fn new(https_proxy: Option<&str>, no_proxy: Option<&str>) -> Result<Self, ProxyError> {
        let named = https_proxy.map(str::trim).filter(|text| !text.is_empty());
        let proxy = named.map(Proxy::parse).transpose()?;
        let listed = no_proxy.unwrap_or_default().split([',', ' ']).map(str::trim);
        let exempt =
            listed.filter(|text| !text.is_empty()).take(EXEMPT_MAX).filter_map(Exempt::parse).collect();
        Ok(Self { proxy, exempt })
    }

    /// From this process's environment.
    pub fn from_environment() -> Result<Self, ProxyError> {
        let first = |names: [&str; 2]| names.into_iter().find_map(|name| std::env::var(name).ok());
        let https_proxy = first(["HTTPS_PROXY", "https_proxy"]);
        let no_proxy = first(["NO_PROXY", "no_proxy"]);
        Self::new(https_proxy.as_deref(), no_proxy.as_deref())
    }

    /// The proxy that is named, wherever it leads.
    pub fn named(&self) -> Option<&Proxy> {
        self.proxy.as_ref()
    }

    /// The proxy that leads to `target`, `host:port`; none when it is dialled straight.
    pub fn towards(&self, target: &str) -> Option<&Proxy> {
        let proxy = self.proxy.as_ref()?;
        let (host, port) = target.rsplit_once(':')?;
        let port = port.parse().ok()?;
        let is_exempt = is_this_machine(host) || self.exempt.iter().any(|entry| entry.covers(host, port));
        (!is_exempt).then_some(proxy)
    }
}

fn is_this_machine(host: &str) -> bool {
    match address(host) {
        Some(address) => address.is_loopback(),
        None => matches!(Host::parse(host), Ok(Host::Domain(name)) if name == "localhost"),
    }
}

/// What a proxy has answered so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// Not all of it yet.
    More,
    /// What follows is the broker's.
    Connected,
}

/// Why a proxy is of no use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum AnswerError {
    /// More than [`HEAD_MAX`].
    #[error("its answer exceeds {HEAD_MAX} bytes")]
    TooLong,
    /// Not HTTP.
    #[error("it does not answer as an HTTP proxy")]
    NotHttp,
    /// Another status than 2xx.
    #[error("{}", status_words(*.0))]
    Refused(u16),
    /// Bytes after the answer, although it is our turn to speak.
    #[error("it spoke out of turn")]
    OutOfTurn,
}

fn status_words(status: u16) -> String {
    match status {
        407 => {
            "it wants a name and a password (status 407): HTTPS_PROXY=http://NAME:PASSWORD@HOST:PORT".into()
        }
        403 => "it does not allow connections to the broker (status 403)".into(),
        status => format!("it answered with status {status}"),
    }
}

/// Reads the answer to [`Proxy::request`] from all that has come.
pub fn poll_answer(head: &[u8]) -> Result<Answer, AnswerError> {
    const END: &[u8] = b"\r\n\r\n";
    let Some(end) = head.windows(END.len()).position(|window| window == END) else {
        return if head.len() >= HEAD_MAX { Err(AnswerError::TooLong) } else { Ok(Answer::More) };
    };
    if end + END.len() > HEAD_MAX {
        return Err(AnswerError::TooLong);
    }
    match status(head).ok_or(AnswerError::NotHttp)? {
        200..300 if head.len() > end + END.len() => Err(AnswerError::OutOfTurn),
        200..300 => Ok(Answer::Connected),
        status => Err(AnswerError::Refused(status)),
    }
}

/// `HTTP/1.x NNN …`
fn status(head: &[u8]) -> Option<u16> {
    let [digits @ .., _] = head.strip_prefix(b"HTTP/1.")?.get(1..6)? else { return None };
    let digits = str::from_utf8(digits).ok()?.strip_prefix(' ')?;
    digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn proxies(https_proxy: &str, no_proxy: &str) -> Proxies {
        Proxies::new(Some(https_proxy), Some(no_proxy)).unwrap()
    }

    #[test]
    fn a_proxy_is_asked_for_the_broker_by_name_and_with_its_password() {
        let proxies = proxies("http://ada:s%40fe%2@proxy.example:3128", "");
        let proxy = proxies.towards("broker.example:7443").unwrap();
        let expected = format!(
            "CONNECT broker.example:7443 HTTP/1.1\r\nHost: broker.example:7443\r\nProxy-Authorization: Basic {}\r\n\r\n",
            STANDARD.encode("ada:s@fe%2")
        );
        assert_eq!(proxy.request("broker.example:7443"), expected);
        assert_eq!(proxy.request("a:1\r\nEvil: 1").lines().count(), 4, "no line of another's");
        assert_eq!(proxy.address(), "proxy.example:3128");
    }

    #[test]
    fn a_password_is_never_shown() {
        let proxies = proxies("http://ada:secret@proxy.example", "");
        assert!(!format!("{proxies:?}").contains("secret") && !format!("{proxies:?}").contains("Basic"));
        assert_eq!(proxies.towards("b.example:1").unwrap().to_string(), "proxy.example:80");
        for (bad, expected) in [
            ("socks5://ada:secret@p.example", ProxyError::Socks),
            ("SOCKS5h://ada:secret@p.example", ProxyError::Socks),
            ("https://ada:secret@p.example", ProxyError::Tls),
            ("ftp://ada:secret@p.example", ProxyError::Scheme),
            ("http://ada:secret@", ProxyError::NotAUrl),
        ] {
            let error = Proxies::new(Some(bad), None).unwrap_err();
            assert_eq!(error, expected);
            assert!(!error.to_string().contains("secret"), "{error}");
        }
    }

    #[test]
    fn no_proxy_names_what_is_dialled_straight() {
        let proxies = proxies(
            "proxy.example:3128",
            "example.com, .example.org,*.example.net,only.example:99,10.0.0.0/8 192.0.2.7,2001:db8::/32,nonsense/x",
        );
        for straight in [
            "example.com:7443",
            "a.example.com:7443",
            "A.Example.ORG:1",
            "a.example.net:1",
            "only.example:99",
            "10.1.2.3:1",
            "192.0.2.7:1",
            "[2001:db8::1]:1",
            "localhost:1",
            "127.0.0.2:1",
            "[::1]:1",
        ] {
            assert_eq!(proxies.towards(straight), None, "{straight}");
        }
        for through in
            ["notexample.com:1", "only.example:98", "11.0.0.1:1", "192.0.2.8:1", "[2001:db9::1]:1", "com:1"]
        {
            assert!(proxies.towards(through).is_some(), "{through}");
        }
        assert_eq!(Proxies::new(Some("p:1"), Some("*")).unwrap().towards("a.example:1"), None);
        assert_eq!(Proxies::new(Some(" "), None).unwrap().towards("a.example:1"), None);
    }

    #[test]
    fn an_answer_is_taken_when_it_is_whole_and_bounded() {
        assert_eq!(poll_answer(b"HTTP/1.1 200 OK\r\nVia: x\r\n"), Ok(Answer::More));
        assert_eq!(poll_answer(b"HTTP/1.0 200 Connection established\r\n\r\n"), Ok(Answer::Connected));
        assert_eq!(poll_answer(b"HTTP/1.1 407 Who\r\n\r\n"), Err(AnswerError::Refused(407)));
        assert_eq!(poll_answer(b"HTTP/1.1 200 OK\r\n\r\n\x16"), Err(AnswerError::OutOfTurn));
        assert_eq!(poll_answer(b"SSH-2.0-x\r\n\r\n"), Err(AnswerError::NotHttp));
        assert_eq!(poll_answer(&[b'a'; HEAD_MAX]), Err(AnswerError::TooLong));
    }

    proptest! {
        #[test]
        fn no_answer_and_no_variable_panics(head in prop::collection::vec(any::<u8>(), 0..64), text in ".{0,40}") {
            poll_answer(&head).ok();
            poll_answer(&[&b"HTTP/1.1 "[..], &head, b"\r\n\r\n"].concat()).ok();
            if let Ok(proxies) = Proxies::new(Some(&text), Some(&text)) {
                proxies.towards(&text);
            }
        }
    }
}
