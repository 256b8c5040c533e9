//! What lies between this machine and Rexec: control and its clock, the broker's name, and each way to the broker.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use rexec_shared::close::CloseCode;
use rexec_shared::enrol::TunnelTarget;
use rexec_shared::pki::ALPN_TUNNEL;
use serde_json::Value;
use tokio::task::spawn_blocking;
use tokio::time::timeout;
use url::Url;

use super::DEADLINE;
use super::report::{Check, Verdict};
use crate::clock::{Skew, unix_ms};
use crate::control_api::{ControlApi, ControlError, Installation};
use crate::plain_text::plain;
use crate::uplink::connect::{self, DialError, Dialled, Target};
use crate::uplink::proxy::{Proxies, ProxyError};
use crate::uplink::tls::Secured;

/// How long the broker is given to hear that a handshake was all.
const GOODBYE: Duration = Duration::from_millis(500);

/// Control over HTTP, and this machine's clock against its.
pub(super) async fn control(server: Url) -> [Check; 2] {
    let api = ControlApi::within(server.clone(), DEADLINE);
    let began = Instant::now();
    let asking = spawn_blocking(move || {
        let before = unix_ms();
        api.installation().map(|known| (Skew::measure(known.time, before, unix_ms()), known))
    });
    match timeout(DEADLINE, asking).await {
        Ok(Ok(Ok((skew, known)))) => [answered(&server, &known, began.elapsed()), clock(skew)],
        Ok(Ok(Err(error))) => unanswered(error.to_string(), hint(&error)),
        Ok(Err(_)) | Err(_) => {
            unanswered(format!("no answer from {server} within {} s", DEADLINE.as_secs()), None)
        }
    }
}

const CONTROL: &str = "control";
const CLOCK: &str = "clock";

fn answered(server: &Url, known: &Installation, took: Duration) -> Check {
    let found = format!("{server} answers in {}, version {}", ms(took), plain(&known.version));
    Check::ok(CONTROL, found)
        .fact("server", server.as_str())
        .fact("version", known.version.as_str())
        .fact("ms", number(took))
}

fn unanswered(found: String, hint: Option<String>) -> [Check; 2] {
    let hint = hint.unwrap_or_else(|| "check the network, and that the server runs".into());
    [Check::failed(CONTROL, found).hint(hint), Check::skipped(CLOCK, "the server's is not known")]
}

/// The error's own, but for what only `register` can be told.
fn hint(error: &ControlError) -> Option<String> {
    match error {
        ControlError::Unreachable { .. } => None,
        ControlError::Tls { .. }
        | ControlError::Redirected { .. }
        | ControlError::NotRexec { .. }
        | ControlError::Refused(_) => error.hint(),
    }
}

fn clock(skew: Skew) -> Check {
    let check = match skew.complaint() {
        Some(complaint) => Check::failed(CLOCK, complaint),
        None if skew.is_notable() => Check::warning(CLOCK, format!("it is {skew} the server's")).hint(
            "set it, for instance by `timedatectl set-ntp true`: beyond a minute every ticket is refused",
        ),
        None => Check::ok(CLOCK, format!("it is {skew} the server's")),
    };
    check.fact("skew_ms", skew.ms())
}

/// The broker's name, and the ways to it: over UDP, over TCP, through a proxy.
pub(super) async fn tunnel(
    target: &TunnelTarget,
    secured: Option<&Secured>,
    proxies: &Result<Proxies, ProxyError>,
) -> Vec<Check> {
    let addr = &target.addr;
    let Some(tls) = secured else {
        let untried = [UDP, TCP, PROXY].map(|check| Check::skipped(check, "see certificate"));
        return [dns(addr).await].into_iter().chain(untried).collect();
    };
    let direct = Target { addr, server_name: &target.server_name, tls, proxy: None, source: None };
    let over_udp = shake(connect::quic::dial(direct));
    let over_tcp = shake(connect::tcp::dial(direct));
    let (dns, udp, tcp, proxy) =
        tokio::join!(dns(addr), over_udp, over_tcp, through_proxy(target, tls, proxies));
    let port = addr.rsplit_once(':').map_or("", |(_, port)| port);
    let udp =
        way(UDP, addr, udp, &format!("let UDP to port {port} out; without it the tunnel runs over TCP"));
    let remedy = format!(
        "let TCP to port {port} out, or name a proxy by HTTPS_PROXY: it is the way where UDP is blocked"
    );
    let tcp = way(TCP, addr, tcp, &remedy);
    let straight = [dns, udp, tcp];
    // Behind a proxy it is usual that nothing else leads out.
    let is_proxied = proxy.verdict == Verdict::Ok;
    let straight = straight.map(|check| if is_proxied { check.tolerated() } else { check });
    straight.into_iter().chain([proxy]).collect()
}

const DNS: &str = "dns";
const UDP: &str = "udp";
const TCP: &str = "tcp";
const PROXY: &str = "proxy";

async fn dns(addr: &str) -> Check {
    let host = addr.rsplit_once(':').map_or(addr, |(host, _)| host);
    if host.trim_matches(['[', ']']).parse::<IpAddr>().is_ok() {
        return Check::skipped(DNS, format!("the broker is known by its address, {addr}"));
    }
    let began = Instant::now();
    let hint = "check this machine's name servers, and the installation's REXEC_TUNNEL_PUBLIC";
    match timeout(DEADLINE, connect::resolve(addr)).await {
        Ok(Ok(found)) => {
            let found: Vec<String> = found.iter().map(|address| address.ip().to_string()).collect();
            Check::ok(DNS, format!("{host} is {} ({})", found.join(", "), ms(began.elapsed())))
                .fact("addresses", found)
        }
        Ok(Err(error)) => Check::failed(DNS, error.to_string()).hint(hint),
        Err(_) => Check::failed(DNS, format!("no name server answers for {host}")).hint(hint),
    }
}

/// A handshake that was finished on both sides, and closed again.
struct Shaken {
    address: String,
    took: Duration,
    rtt: Duration,
}

/// Why there was none.
enum NotShaken {
    /// The dial says.
    Dial(DialError),
    /// Nobody answered.
    Silence,
}

async fn shake(dialling: impl Future<Output = Result<Dialled, DialError>>) -> Result<Shaken, NotShaken> {
    let began = Instant::now();
    let shaking = async {
        let dialled = dialling.await?;
        dialled.accepted().await?;
        Ok::<_, DialError>((dialled, began.elapsed()))
    };
    let (dialled, took) = match timeout(DEADLINE, shaking).await {
        Ok(shaken) => shaken.map_err(NotShaken::Dial)?,
        Err(_) => return Err(NotShaken::Silence),
    };
    let rtt = dialled.path.rtt();
    dialled.path.close(CloseCode::Done);
    timeout(GOODBYE, dialled.wait_idle()).await.ok();
    Ok(Shaken { address: dialled.address, took, rtt })
}

/// What a way to the broker came to. `remedy` is for where nobody answers; another answer speaks for itself.
fn way(name: &'static str, addr: &str, shaken: Result<Shaken, NotShaken>, remedy: &str) -> Check {
    let alpn = String::from_utf8_lossy(ALPN_TUNNEL);
    let error = match shaken {
        Ok(Shaken { address, took, rtt }) => {
            let found = format!("handshake with {address} in {}, round trip {}, {alpn}", ms(took), ms(rtt));
            return Check::ok(name, found)
                .fact("address", address)
                .fact("alpn", alpn)
                .fact("ms", number(took))
                .fact("rtt_ms", number(rtt));
        }
        Err(NotShaken::Silence) => {
            let found = format!("no answer from {addr} within {} s", DEADLINE.as_secs());
            return Check::failed(name, found).hint(remedy);
        }
        Err(NotShaken::Dial(error)) => error,
    };
    let hint = match error {
        DialError::NotAccepted { .. } => "see certificate; the way there is open",
        DialError::Refused { .. } => "the way there is open: ask who runs the installation",
        DialError::NotOurBroker { .. } => {
            "check the installation's REXEC_TUNNEL_PUBLIC, and that nothing on the way answers in the broker's place"
        }
        DialError::Resolve { .. } => "see dns",
        DialError::Silence { .. }
        | DialError::Socket { .. }
        | DialError::Proxy { .. }
        | DialError::Neither { .. }
        | DialError::Failed { .. } => remedy,
    };
    Check::failed(name, error.to_string()).hint(hint)
}

async fn through_proxy(target: &TunnelTarget, tls: &Secured, proxies: &Result<Proxies, ProxyError>) -> Check {
    let addr = &target.addr;
    let proxies = match proxies {
        Ok(proxies) => proxies,
        Err(error) => {
            return Check::failed(PROXY, error.to_string())
                .hint("name an http:// proxy by HTTPS_PROXY, or none: the agent dials straight until then");
        }
    };
    match (proxies.towards(addr), proxies.named()) {
        (Some(proxy), _) => {
            let server_name = &target.server_name;
            let target = Target { addr, server_name, tls, proxy: Some(proxy), source: None };
            let shaken = shake(connect::tcp::dial(target)).await;
            let remedy = format!("check HTTPS_PROXY, and that {proxy} runs and allows CONNECT to {addr}");
            way(PROXY, addr, shaken, &remedy).fact("proxy", proxy.to_string())
        }
        (None, Some(proxy)) => {
            let why = "NO_PROXY names it, or it is this machine";
            Check::skipped(PROXY, format!("{addr} is dialled straight, not through {proxy}: {why}"))
        }
        (None, None) => Check::skipped(PROXY, "HTTPS_PROXY names none"),
    }
}

fn ms(duration: Duration) -> String {
    format!("{:.1} ms", duration.as_secs_f64() * 1000.0)
}

fn number(duration: Duration) -> Value {
    ((duration.as_secs_f64() * 1_000_000.0).round() / 1000.0).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_is_a_warning_from_half_a_minute_and_a_failure_from_a_minute_to_either_side() {
        let verdict = |ahead_ms: u64, behind_ms: u64| {
            let now = 1_000_000_000;
            clock(Skew::measure(now + behind_ms, now + ahead_ms, now + ahead_ms)).verdict
        };
        assert_eq!(verdict(0, 0), Verdict::Ok);
        assert_eq!([verdict(30_000, 0), verdict(0, 30_000)], [Verdict::Ok; 2]);
        assert_eq!([verdict(30_001, 0), verdict(0, 60_000)], [Verdict::Warning; 2]);
        assert_eq!([verdict(60_001, 0), verdict(0, 60_001)], [Verdict::Failed; 2]);
    }
}
