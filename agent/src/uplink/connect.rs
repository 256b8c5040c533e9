//! One dial: names resolved anew, QUIC and TCP raced, addresses of both families raced in each, the first finished handshake taken.
//!
//! ```text
//! 0 ms            QUIC to the first address, to the next 250 ms later …
//! 300 ms          TCP to the same port, or through the proxy; at once when QUIC has failed everywhere
//! 10 s            the end of both
//! ```
//!
//! A broker counts a tunnel at its `Hello`, so the handshakes that lose the race displace nothing. Both ways prove the same broker by the same
//! certificate: whoever blocks one gains nothing but the other.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::pin::{Pin, pin};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use rexec_shared::close::CloseCode;
use rexec_shared::limits::AGENT_TEXT_MAX;
use rexec_shared::text;
use rexec_shared::tunnel::{TransportCause, TransportReason};
use rexec_tunnel::{Path, PathEnd};
use thiserror::Error;
use tokio::time::{sleep, timeout};

use super::dial::End;
use super::proxy::Proxy;
use super::tls::Secured;

pub mod quic;
mod socket;
pub mod tcp;

/// The whole dial.
const DIAL_DEADLINE: Duration = Duration::from_secs(10);
/// Head start of QUIC before TCP is tried too: an answer from the far side of the earth takes as long. A dial where UDP is blocked costs no more.
const QUIC_HEAD_START: Duration = Duration::from_millis(300);
/// Head start of each address before the next is tried too (RFC 8305 §5).
const HEAD_START: Duration = Duration::from_millis(250);
/// The same where every address is this machine: a broker bound to one family only must not cost a quarter of a second.
const HEAD_START_LOCAL: Duration = Duration::from_millis(10);
/// Head start of each broker before the next is tried too: longer than a handshake takes, by either way, so that a broker which answers is not
/// left for another.
const BROKER_HEAD_START: Duration = Duration::from_millis(1_500);
/// Between two tries of a way that failed while another is still open.
const TRY_AGAIN: Duration = Duration::from_secs(1);
/// Between looks whether a handshake is confirmed.
const LOOK: Duration = Duration::from_millis(5);
/// Addresses tried in one dial.
const ADDRESSES_MAX: usize = 8;

/// Why a dial came to nothing.
#[derive(Debug, Error)]
pub enum DialError {
    /// The broker's name.
    #[error("the name of {addr} cannot be resolved: {reason}")]
    Resolve {
        /// `host:port`.
        addr: String,
        /// Why.
        reason: String,
    },
    /// Silence.
    #[error("no answer over UDP from {addr} within {} s", DIAL_DEADLINE.as_secs())]
    Silence {
        /// `host:port`.
        addr: String,
    },
    /// Our socket.
    #[error("cannot open a {protocol} socket: {source}")]
    Socket {
        /// `UDP` or `TCP`.
        protocol: &'static str,
        /// What the system said.
        source: std::io::Error,
    },
    /// Whoever answered is not our broker.
    #[error(
        "whoever answers at {addr} is not this installation's broker ({reason}); if this machine's clock is wrong, set it"
    )]
    NotOurBroker {
        /// `host:port`.
        addr: String,
        /// What was wrong with it.
        reason: String,
    },
    /// The broker did not take our certificate.
    #[error("the broker did not accept this machine's certificate ({reason})")]
    NotAccepted {
        /// Its alert.
        reason: String,
    },
    /// The broker said no.
    #[error("the broker refused: {}", code.map_or("for a reason of a newer version", CloseCode::name))]
    Refused {
        /// Why.
        code: Option<CloseCode>,
    },
    /// The proxy that `HTTPS_PROXY` names.
    #[error("the proxy {proxy}: {reason}")]
    Proxy {
        /// Without its password.
        proxy: String,
        /// Why it was of no use.
        reason: String,
    },
    /// Neither way led anywhere.
    #[error("{quic}; {tcp}")]
    Neither {
        /// Over QUIC.
        quic: Box<DialError>,
        /// Over TCP.
        tcp: Box<DialError>,
    },
    /// Anything else.
    #[error("{addr}: {reason}")]
    Failed {
        /// `host:port`.
        addr: String,
        /// Why.
        reason: String,
    },
}

impl DialError {
    /// What it means for the next dial.
    pub fn end(&self) -> End {
        match self {
            Self::Refused { code } => End::Closed(*code),
            Self::Resolve { .. }
            | Self::Silence { .. }
            | Self::Socket { .. }
            | Self::Proxy { .. }
            | Self::Neither { .. }
            | Self::NotOurBroker { .. }
            | Self::NotAccepted { .. }
            | Self::Failed { .. } => End::Unreachable,
        }
    }

    /// Whether our own broker has said so: it would say the same by any other way.
    fn is_brokers_word(&self) -> bool {
        matches!(self, Self::Refused { .. } | Self::NotAccepted { .. })
    }

    /// Of several addresses' failures the most telling is shown.
    fn weight(&self) -> u8 {
        match self {
            Self::Refused { .. } => 4,
            Self::NotAccepted { .. } => 3,
            Self::NotOurBroker { .. } => 2,
            Self::Resolve { .. }
            | Self::Failed { .. }
            | Self::Socket { .. }
            | Self::Proxy { .. }
            | Self::Neither { .. } => 1,
            Self::Silence { .. } => 0,
        }
    }
}

/// A finished handshake with this installation's broker.
#[derive(Debug)]
pub struct Dialled {
    /// The path.
    pub path: Path,
    /// QUIC's socket.
    socket: Option<quic::Socket>,
    /// Which broker: `host:port` as it was dialled.
    pub broker: String,
    /// The broker's address, for a person; through a proxy its name and port.
    pub address: String,
    /// The proxy it goes through.
    via: Option<String>,
    /// Why it is not QUIC.
    pub why: Option<TransportReason>,
}

impl Dialled {
    /// The machine woke or the network changed: QUIC goes on from the machine's new address, TCP finds out whether it still stands.
    pub fn follow_route(&mut self) {
        match &mut self.socket {
            Some(socket) => socket.follow_route(),
            None => self.path.probe(),
        }
    }

    /// Returns when the broker has accepted our certificate, which in TLS 1.3 it looks at after we believe to be connected. Nothing is said beyond the
    /// handshake.
    pub async fn accepted(&self) -> Result<(), DialError> {
        loop {
            if let Some(end) = self.path.close_reason() {
                return Err(of_end(&self.address, &end));
            }
            if self.path.is_confirmed() {
                return Ok(());
            }
            // When it ends, the next look says how.
            timeout(LOOK, self.path.closed()).await.ok();
        }
    }

    /// Returns when the broker has heard the end, or should have.
    pub async fn wait_idle(&self) {
        match &self.socket {
            Some(socket) => socket.wait_idle().await,
            None => self.path.gone().await,
        }
    }

    fn because(mut self, cause: TransportCause, reason: &str) -> Self {
        let via = self.via.as_ref().map_or_else(String::new, |proxy| format!("; through the proxy {proxy}"));
        let detail = text::shown(&format!("{reason}{via}"), AGENT_TEXT_MAX);
        self.why = Some(TransportReason { cause, detail });
        self
    }
}

/// Whom to dial, and how.
#[derive(Debug, Clone, Copy)]
pub struct Target<'a> {
    /// `host:port`.
    pub addr: &'a str,
    /// The name that the broker must prove.
    pub server_name: &'a str,
    /// What we trust and show.
    pub tls: &'a Secured,
    /// The proxy that TCP must take.
    pub proxy: Option<&'a Proxy>,
    /// The address of ours to dial from; the system's choice when there is none.
    pub source: Option<IpAddr>,
}

/// Dials the brokers in this order, each with a head start before the next is tried too, or at once when one has failed; the first finished
/// handshake is taken. Those that lose the race have heard no hello, so they count nothing.
pub async fn dial_any<F>(brokers: &[String], dial: impl Fn(String) -> F) -> Result<Dialled, DialError>
where
    F: Future<Output = Result<Dialled, DialError>>,
{
    let mut waiting = brokers.iter().cloned();
    let mut running = FuturesUnordered::new();
    let mut telling: Option<DialError> = None;
    loop {
        running.extend(waiting.next().map(&dial));
        let ended = tokio::select! {
            ended = running.next() => ended,
            () = sleep(BROKER_HEAD_START), if waiting.len() > 0 => continue,
        };
        match ended {
            Some(Ok(good)) => return Ok(good),
            Some(Err(error)) if telling.as_ref().is_none_or(|known| error.weight() > known.weight()) => {
                telling = Some(error);
            }
            Some(Err(_)) => {}
            None if waiting.len() == 0 => {
                return Err(telling.unwrap_or_else(|| DialError::Silence { addr: "no broker".into() }));
            }
            None => {}
        }
    }
}

/// Dials by the first way that leads to the broker.
pub async fn dial(target: Target<'_>) -> Result<Dialled, DialError> {
    let addr = target.addr;
    let mut over_quic = pin!(quic::dial(target));
    let dial_tcp = || tcp::dial(target);
    match timeout(QUIC_HEAD_START, &mut over_quic).await {
        Ok(Ok(dialled)) => Ok(dialled),
        // It was our broker that said no: it would say the same again.
        Ok(Err(error)) if error.is_brokers_word() => Err(error),
        Ok(Err(error)) => after_quic(error, dial_tcp()).await,
        Err(_) => both(addr, over_quic, dial_tcp).await,
    }
}

/// Silence over UDP lasts until its deadline, so a refusal over TCP meanwhile is no end: a proxy or a broker that is just being started anew is
/// found by the next try.
async fn both<F: Future<Output = Result<Dialled, DialError>>>(
    addr: &str,
    mut over_quic: Pin<&mut impl Future<Output = Result<Dialled, DialError>>>,
    dial_tcp: impl Fn() -> F,
) -> Result<Dialled, DialError> {
    let mut over_tcp = pin!(dial_tcp());
    let mut refused: Option<DialError> = None;
    loop {
        tokio::select! {
            biased;
            dialled = &mut over_quic => return match (dialled, refused) {
                (Err(quic), None) if !quic.is_brokers_word() => after_quic(quic, over_tcp).await,
                (Err(quic), Some(tcp)) => Err(more_telling(quic, tcp)),
                (decided, _) => decided,
            },
            dialled = &mut over_tcp, if refused.is_none() => match dialled {
                Ok(dialled) => {
                    let reason = format!("UDP to {addr} got no answer");
                    return Ok(dialled.because(TransportCause::UdpSilent, &reason));
                }
                Err(tcp) if tcp.is_brokers_word() => {
                    return over_quic.await.map_err(|quic| more_telling(quic, tcp));
                }
                Err(tcp) => refused = Some(tcp),
            },
            () = sleep(TRY_AGAIN), if refused.is_some() => {
                refused = None;
                over_tcp.set(dial_tcp());
            }
        }
    }
}

/// QUIC has failed, everywhere.
async fn after_quic(
    quic: DialError,
    over_tcp: impl Future<Output = Result<Dialled, DialError>>,
) -> Result<Dialled, DialError> {
    match over_tcp.await {
        Ok(dialled) if matches!(quic, DialError::Silence { .. }) => {
            Ok(dialled.because(TransportCause::UdpSilent, &quic.to_string()))
        }
        Ok(dialled) => Ok(dialled.because(TransportCause::QuicFailed, &format!("QUIC failed: {quic}"))),
        Err(tcp) => Err(more_telling(quic, tcp)),
    }
}

fn more_telling(quic: DialError, tcp: DialError) -> DialError {
    if matches!((&quic, &tcp), (DialError::Resolve { .. }, DialError::Resolve { .. })) {
        return quic;
    }
    if quic.weight().max(tcp.weight()) <= 1 {
        return DialError::Neither { quic: Box::new(quic), tcp: Box::new(tcp) };
    }
    if tcp.weight() > quic.weight() { tcp } else { quic }
}

/// The addresses of `host:port` that a dial tries, in the order in which it does.
pub async fn resolve(addr: &str) -> Result<VecDeque<SocketAddr>, DialError> {
    let failed = |reason: String| DialError::Resolve { addr: addr.into(), reason };
    let found = timeout(DIAL_DEADLINE, tokio::net::lookup_host(addr))
        .await
        .map_err(|_| failed("no answer from the name server".into()))?
        .map_err(|error| failed(error.to_string()))?;
    let found = interleave(found.collect());
    if found.is_empty() { Err(failed("it has no address".into())) } else { Ok(found) }
}

/// Families by turns, in the resolver's order within each, its first address first.
fn interleave(addresses: Vec<SocketAddr>) -> VecDeque<SocketAddr> {
    let first_is_v6 = addresses.first().is_some_and(SocketAddr::is_ipv6);
    let (mut leading, mut other): (VecDeque<_>, VecDeque<_>) =
        addresses.into_iter().partition(|address| address.is_ipv6() == first_is_v6);
    let mut mixed = VecDeque::new();
    while mixed.len() < ADDRESSES_MAX {
        let before = mixed.len();
        mixed.extend(leading.pop_front());
        mixed.extend(other.pop_front());
        if mixed.len() == before {
            break;
        }
    }
    mixed.truncate(ADDRESSES_MAX);
    mixed
}

/// Tries the addresses, each with a head start before the next; the first that is good is taken.
async fn race<T, F>(
    addr: &str,
    mut waiting: VecDeque<SocketAddr>,
    attempt: impl Fn(SocketAddr) -> F,
) -> Result<T, DialError>
where
    F: Future<Output = Result<T, DialError>>,
{
    let mut running = FuturesUnordered::new();
    let mut telling: Option<DialError> = None;
    let is_local = waiting.iter().all(|address| address.ip().is_loopback());
    let head_start = if is_local { HEAD_START_LOCAL } else { HEAD_START };
    loop {
        if let Some(address) = waiting.pop_front() {
            running.push(attempt(address));
        }
        let ended = tokio::select! {
            ended = running.next() => ended,
            () = sleep(head_start), if !waiting.is_empty() => continue,
        };
        match ended {
            Some(Ok(good)) => return Ok(good),
            Some(Err(error)) if telling.as_ref().is_none_or(|known| error.weight() > known.weight()) => {
                telling = Some(error)
            }
            Some(Err(_)) => {}
            None if waiting.is_empty() => {
                return Err(telling.unwrap_or_else(|| DialError::Silence { addr: addr.into() }));
            }
            None => {}
        }
    }
}

/// What the end of a path that nobody had said anything on means.
fn of_end(addr: &str, end: &PathEnd) -> DialError {
    match end {
        PathEnd::Closed(code) => DialError::Refused { code: *code },
        PathEnd::Tls(alert) => explain_alert(addr, *alert),
        PathEnd::Reset | PathEnd::TimedOut | PathEnd::Other(_) => {
            DialError::Failed { addr: addr.into(), reason: end.to_string() }
        }
    }
}

/// What an alert of the broker's means (RFC 8446 §6).
pub(super) fn explain_alert(addr: &str, alert: u8) -> DialError {
    const NO_APPLICATION_PROTOCOL: u8 = 120;
    match alert_name(alert) {
        _ if alert == NO_APPLICATION_PROTOCOL => {
            DialError::NotOurBroker { addr: addr.into(), reason: "it speaks another protocol".into() }
        }
        Some(name) => DialError::NotAccepted { reason: name.into() },
        None => DialError::Failed { addr: addr.into(), reason: format!("TLS alert {alert}") },
    }
}

/// The alerts by which a broker refuses a certificate (RFC 8446 §6).
fn alert_name(alert: u8) -> Option<&'static str> {
    Some(match alert {
        42 => "bad certificate",
        43 => "unsupported certificate",
        44 => "revoked",
        45 => "expired",
        46 => "certificate unknown",
        48 => "signed by another authority",
        49 => "access denied",
        51 => "its signature does not verify",
        116 => "certificate required",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    #[test]
    fn families_take_turns_and_the_resolvers_first_choice_stays_first() {
        let parse =
            |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect::<Vec<SocketAddr>>();
        let mixed = interleave(parse(&["[::1]:1", "[::2]:1", "127.0.0.1:1", "127.0.0.2:1"]));
        assert_eq!(Vec::from(mixed), parse(&["[::1]:1", "127.0.0.1:1", "[::2]:1", "127.0.0.2:1"]));
        assert!(interleave(Vec::new()).is_empty());
    }

    #[test]
    fn no_more_addresses_are_tried_than_the_limit() {
        let many = (1..100).map(|n| SocketAddr::new(Ipv4Addr::LOCALHOST.into(), n)).collect();
        assert_eq!(interleave(many).len(), ADDRESSES_MAX);
    }
}
