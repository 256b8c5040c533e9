//! One engine, as a handle.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use bollard::Docker;
use bollard::models::IpamConfig;
use bollard::query_parameters::InspectNetworkOptions;
use tokio::time::timeout;
use uuid::Uuid;

use crate::endpoint::Endpoint;
use crate::error::{EngineError, ErrorKind};

/// The label that carries the installation.
pub(crate) const LABEL_INSTALLATION: &str = "dev.rexec.installation";
/// The label that carries the sandbox.
pub(crate) const LABEL_SANDBOX: &str = "dev.rexec.sandbox";
/// The label that carries the volume of a home.
pub(crate) const LABEL_VOLUME: &str = "dev.rexec.volume";
/// The label that says what a thing is for: [`Kind::name`].
pub(crate) const LABEL_KIND: &str = "dev.rexec.kind";

/// Most calls take a moment; an engine under load takes some.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);

/// What a thing of ours on an engine is for.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Kind {
    Sandbox,
    Guard,
    Agent,
    Network,
    Home,
    Snapshot,
}

impl Kind {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Sandbox => "sandbox",
            Self::Guard => "guard",
            Self::Agent => "agent",
            Self::Network => "network",
            Self::Home => "home",
            Self::Snapshot => "snapshot",
        }
    }
}

/// One engine; a clone is a handle.
#[derive(Debug, Clone)]
pub struct Engine(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    docker: Docker,
    installation: Uuid,
}

/// What an engine says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Health {
    /// Its version.
    pub version: String,
    /// Its processor, as agents are named: `amd64`, `arm64`.
    pub arch: String,
    /// Processors it has.
    pub cpus: u32,
    /// Memory it has, bytes.
    pub memory: u64,
    /// Whether containers outlive a restart of the engine.
    pub live_restore: bool,
}

impl Engine {
    /// Reaches an engine and agrees on a version of its API.
    ///
    /// # Errors
    /// When nobody answers there.
    pub async fn connect(endpoint: &Endpoint, installation: Uuid) -> Result<Self, EngineError> {
        let docker = within(DEADLINE, endpoint.dial()?.negotiate_version()).await?;
        Ok(Self(Arc::new(Inner { docker, installation })))
    }

    pub(crate) fn docker(&self) -> &Docker {
        &self.0.docker
    }

    /// The labels of a thing of ours.
    pub(crate) fn labels(&self, kind: Kind, more: &[(&str, String)]) -> HashMap<String, String> {
        let own =
            [(LABEL_INSTALLATION, self.0.installation.to_string()), (LABEL_KIND, kind.name().to_owned())];
        own.iter().chain(more).map(|(name, value)| ((*name).to_owned(), value.clone())).collect()
    }

    /// A filter for things of ours.
    pub(crate) fn filter(&self, kind: Kind) -> HashMap<String, Vec<String>> {
        let labels =
            self.labels(kind, &[]).into_iter().map(|(name, value)| format!("{name}={value}")).collect();
        HashMap::from([("label".to_owned(), labels)])
    }

    /// What the engine says of itself.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn health(&self) -> Result<Health, EngineError> {
        let info = within(DEADLINE, self.docker().info()).await?;
        let arch = match info.architecture.as_deref().unwrap_or_default() {
            "x86_64" => "amd64".to_owned(),
            "aarch64" => "arm64".to_owned(),
            other => other.to_owned(),
        };
        Ok(Health {
            version: info.server_version.unwrap_or_default(),
            arch,
            cpus: info.ncpu.and_then(|cpus| u32::try_from(cpus).ok()).unwrap_or(0),
            memory: info.mem_total.and_then(|bytes| u64::try_from(bytes).ok()).unwrap_or(0),
            live_restore: info.live_restore_enabled.unwrap_or(false),
        })
    }

    /// The engine's own machine, as its sandboxes see it under the name `rexec.internal`.
    ///
    /// # Errors
    /// When the engine has no default network with a gateway.
    pub async fn gateway(&self) -> Result<IpAddr, EngineError> {
        for name in ["bridge", "podman"] {
            let inspected = self.docker().inspect_network(name, None::<InspectNetworkOptions>);
            match within(DEADLINE, inspected).await {
                Ok(network) => {
                    let configs = network.ipam.and_then(|ipam| ipam.config).unwrap_or_default();
                    if let Some(gateway) = configs.iter().find_map(gateway_of) {
                        return Ok(gateway);
                    }
                }
                Err(error) if error.is_not_found() => {}
                Err(error) => return Err(error),
            }
        }
        Err(EngineError::new(ErrorKind::NotFound, "the engine has no default network with a gateway"))
    }
}

/// The gateway of an IPv4 network; an engine that was not told one takes the first address, and may not say so.
fn gateway_of(config: &IpamConfig) -> Option<IpAddr> {
    if let Some(gateway) = config.gateway.as_ref().and_then(|gateway| gateway.parse::<IpAddr>().ok()) {
        return gateway.is_ipv4().then_some(gateway);
    }
    let base: Ipv4Addr = config.subnet.as_ref()?.split('/').next()?.parse().ok()?;
    Some(Ipv4Addr::from(u32::from(base).checked_add(1)?).into())
}

/// The answer, or that it did not come in time.
pub(crate) async fn within<T, E>(
    deadline: Duration,
    asked: impl Future<Output = Result<T, E>>,
) -> Result<T, EngineError>
where
    EngineError: From<E>,
{
    match timeout(deadline, asked).await {
        Ok(answer) => answer.map_err(EngineError::from),
        Err(_) => Err(EngineError::new(ErrorKind::TooSlow, "the engine did not answer in time")),
    }
}

/// Whether it was done, or was not there to be undone.
pub(crate) fn gone(result: Result<(), EngineError>) -> Result<(), EngineError> {
    match result {
        Err(error) if error.is_not_found() => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_gateway_is_what_the_engine_says_or_the_first_address() {
        let of = |gateway: Option<&str>, subnet: Option<&str>| {
            let (gateway, subnet) = (gateway.map(str::to_owned), subnet.map(str::to_owned));
            gateway_of(&IpamConfig { gateway, subnet, ..IpamConfig::default() })
                .map(|gateway| gateway.to_string())
        };
        assert_eq!(of(Some("10.1.0.254"), Some("10.1.0.0/24")).as_deref(), Some("10.1.0.254"));
        assert_eq!(of(None, Some("172.17.0.0/16")).as_deref(), Some("172.17.0.1"));
        assert_eq!(of(Some("fd00::1"), Some("fd00::/64")), None);
        assert_eq!(of(None, Some("fd00::/64")), None);
        assert_eq!(of(None, None), None);
    }
}
