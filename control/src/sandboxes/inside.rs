//! Control, broker and resolver as they are seen from inside a sandbox.

use std::net::{IpAddr, SocketAddr};

use rexec_sandbox::{EngineError, ErrorKind};
use rexec_shared::sandbox::{Egress, EgressMode, Protocol, REACH_MAX, Reach};
use url::{Host, Url};

use super::engine::Engine;
use super::proxy;
use crate::app::App;
use crate::auth::host::INSIDE_HOST;
use crate::entity::SandboxNetwork;

/// Whom sandboxes ask for names where this machine asks nobody but itself.
const PUBLIC_RESOLVERS: [IpAddr; 2] =
    [IpAddr::V4(std::net::Ipv4Addr::new(9, 9, 9, 9)), IpAddr::V4(std::net::Ipv4Addr::new(1, 1, 1, 1))];
/// Resolvers a sandbox is given: the C library reads no more.
const RESOLVERS_MAX: usize = 3;
const DNS_PORT: u16 = 53;

/// Where sandboxes find control.
pub(crate) fn control_url(app: &App) -> Url {
    let public = &app.parts().public_url;
    if let Some(url) = &app.settings().sandboxes.control_url {
        return url.clone();
    }
    if !is_loopback(public.host()) {
        return public.clone();
    }
    let own = match app.settings().listen.port() {
        0 => public.port_or_known_default().unwrap_or(80),
        port => port,
    };
    Url::parse(&format!("http://{INSIDE_HOST}:{own}")).unwrap_or_else(|_| public.clone())
}

/// Why no sandbox can reach control, if none can.
pub(crate) fn unreachable(app: &App) -> Option<&'static str> {
    let settings = app.settings();
    let by_gateway = settings.sandboxes.control_url.is_none() && is_loopback(app.parts().public_url.host());
    (by_gateway && settings.listen.ip().is_loopback())
        .then_some("control listens on the loopback address alone, where no container reaches it: set REXEC_BIND=0.0.0.0")
}

/// `addrs`, which agents may dial, as sandboxes see them: an address on this machine's loopback is reached through the gateway.
pub(crate) fn tunnel_addrs(app: &App, addrs: Vec<String>) -> Vec<String> {
    let Some(embedded) = app.parts().brokers.embedded_addr() else { return addrs };
    let seen = seen_tunnel(app, embedded);
    addrs.into_iter().map(|addr| if addr == embedded { seen.clone() } else { addr }).collect()
}

fn seen_tunnel(app: &App, embedded: &str) -> String {
    if let Some(tunnel) = &app.settings().sandboxes.tunnel {
        return tunnel.clone();
    }
    let host = Url::parse(&format!("tunnel://{embedded}")).ok();
    let port = app.parts().broker.as_ref().map(|broker| broker.tunnel_addr().port());
    match (host, port) {
        (Some(url), Some(port)) if is_loopback_name(url.host_str()) => format!("{INSIDE_HOST}:{port}"),
        _ => embedded.to_owned(),
    }
}

fn is_loopback(host: Option<Host<&str>>) -> bool {
    match host {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

fn is_loopback_name(host: Option<&str>) -> bool {
    host.is_some_and(|host| {
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        host == "localhost" || bare.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
    })
}

/// What may leave a sandbox.
///
/// # Errors
/// When a name of our own does not resolve.
pub(crate) async fn egress(
    app: &App,
    engine: &dyn Engine,
    network: SandboxNetwork,
) -> Result<Egress, EngineError> {
    let mut reach = Vec::new();
    let control = control_url(app);
    let host = control.host_str().unwrap_or_default().to_owned();
    let control = format!("{host}:{}", control.port_or_known_default().unwrap_or(443));
    for addr in resolve(&control, engine).await? {
        reach.push(Reach { addr: addr.ip(), protocol: Protocol::Tcp, port: addr.port() });
    }
    for tunnel in tunnel_addrs(app, app.parts().brokers.tunnel_addrs()) {
        for addr in resolve(&tunnel, engine).await? {
            let by = |protocol| Reach { addr: addr.ip(), protocol, port: addr.port() };
            reach.extend([by(Protocol::Udp), by(Protocol::Tcp)]);
        }
    }
    if network == SandboxNetwork::Restricted {
        for addr in resolve(&proxy::authority(app), engine).await? {
            reach.push(Reach { addr: addr.ip(), protocol: Protocol::Tcp, port: addr.port() });
        }
    }
    let mode = match network {
        SandboxNetwork::Open => EgressMode::Open,
        SandboxNetwork::None | SandboxNetwork::Restricted => EgressMode::Closed,
    };
    // Names are a way out, too: what may reach nothing resolves nothing.
    if mode == EgressMode::Open {
        for addr in dns(app).await {
            let by = |protocol| Reach { addr, protocol, port: DNS_PORT };
            reach.extend([by(Protocol::Udp), by(Protocol::Tcp)]);
        }
    }
    reach.truncate(REACH_MAX);
    Ok(Egress { mode, reach })
}

async fn resolve(target: &str, engine: &dyn Engine) -> Result<Vec<SocketAddr>, EngineError> {
    let refused = |said: String| EngineError { kind: ErrorKind::Refused, said };
    if let Some(port) = target.strip_prefix(INSIDE_HOST).and_then(|rest| rest.strip_prefix(':')) {
        let port = port.parse().map_err(|_| refused(format!("{target} has no port")))?;
        return Ok(vec![SocketAddr::new(engine.gateway().await?, port)]);
    }
    let found = tokio::net::lookup_host(target).await;
    Ok(found
        .map_err(|why| refused(format!("{target}, which sandboxes need, does not resolve: {why}")))?
        .collect())
}

/// Whom sandboxes ask for names.
pub(crate) async fn dns(app: &App) -> Vec<IpAddr> {
    let said = &app.settings().sandboxes.dns;
    if !said.is_empty() {
        return said.iter().copied().take(RESOLVERS_MAX).collect();
    }
    let kept = tokio::fs::read_to_string("/etc/resolv.conf").await.unwrap_or_default();
    let own = resolvers_in(&kept);
    if own.is_empty() { PUBLIC_RESOLVERS.to_vec() } else { own }
}

/// Resolvers that are reached from a network namespace of its own.
fn resolvers_in(resolv_conf: &str) -> Vec<IpAddr> {
    let named = resolv_conf.lines().filter_map(|line| line.trim().strip_prefix("nameserver"));
    let addresses = named.filter_map(|rest| rest.trim().parse::<IpAddr>().ok());
    addresses
        .filter(|address| !address.is_loopback() && !address.is_unspecified())
        .take(RESOLVERS_MAX)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resolvers_on_the_loopback_are_nobody_to_a_sandbox() {
        let text =
            "# made by hand\nnameserver 127.0.0.53\nnameserver 10.0.0.2\nsearch x\nnameserver fe80::1%eth0\n";
        assert_eq!(resolvers_in(text), ["10.0.0.2".parse::<IpAddr>().expect("an address")]);
        assert!(resolvers_in("").is_empty());
    }

    #[test]
    fn what_stands_on_the_loopback_is_known() {
        for (host, loopback) in [
            ("localhost", true),
            ("127.0.0.1", true),
            ("[::1]", true),
            ("10.0.0.1", false),
            ("x.example", false),
        ] {
            assert_eq!(is_loopback_name(Some(host)), loopback, "{host}");
        }
    }
}
