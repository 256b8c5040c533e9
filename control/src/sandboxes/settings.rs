//! What an operator says of sandboxes: where their engine is, which images they may be of, how many and how large.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use url::Url;

pub use rexec_sandbox::Endpoint as EngineAddress;

use super::images::{DEFAULT_IMAGES, ImageRule};
use super::presets::{self, BadPresets, Preset};
use crate::limits::{SANDBOX_CPUS_MILLI_MAX_DEFAULT, SANDBOX_MEMORY_MB_MAX_DEFAULT, SANDBOXES_MAX_DEFAULT};

/// Where Docker listens unless it was told otherwise.
const DOCKER_SOCKET: &str = "/var/run/docker.sock";
/// Where HTTP proxies listen.
const SANDBOX_PROXY_PORT: u16 = 3128;

/// Settings of sandboxes that may be given as flags.
#[derive(Debug, Clone, Args)]
pub struct SandboxFlags {
    /// Where sandboxes are made: none, the path of a Docker or Podman socket, unix://… or tcp://host:port with REXEC_SANDBOX_ENGINE_TLS
    /// [default: /var/run/docker.sock if it is there].
    #[arg(long, env = "REXEC_SANDBOX_ENGINE", global = true)]
    pub rexec_sandbox_engine: Option<String>,
    /// Directory of ca.pem, cert.pem and key.pem for a tcp:// engine.
    #[arg(long, env = "REXEC_SANDBOX_ENGINE_TLS", global = true)]
    pub rexec_sandbox_engine_tls: Option<PathBuf>,
    /// Where sandboxes find this control [default: the public URL, or http://rexec.internal:PORT when that is localhost].
    #[arg(long, env = "REXEC_SANDBOX_CONTROL_URL", global = true)]
    pub rexec_sandbox_control_url: Option<Url>,
    /// host:port at which sandboxes find the embedded broker [default: as REXEC_TUNNEL_PUBLIC, or rexec.internal and the tunnel's port].
    #[arg(long, env = "REXEC_SANDBOX_TUNNEL", global = true)]
    pub rexec_sandbox_tunnel: Option<String>,
    /// Addresses of the resolvers sandboxes use, separated by commas [default: those of this machine].
    #[arg(long, env = "REXEC_SANDBOX_DNS", value_delimiter = ',', global = true)]
    pub rexec_sandbox_dns: Vec<IpAddr>,
    /// Images that sandboxes may be of, separated by commas; one that ends in * stands for all that begin so [default: Ubuntu, Debian,
    /// Alpine and Fedora].
    #[arg(long, env = "REXEC_SANDBOX_IMAGES", value_delimiter = ',', global = true)]
    pub rexec_sandbox_images: Vec<String>,
    /// Directory of presets: scripts that set a sandbox up, one in each `id.sh`, beside those that come with Rexec.
    #[arg(long, env = "REXEC_SANDBOX_PRESETS", global = true)]
    pub rexec_sandbox_presets: Option<PathBuf>,
    /// Port of the proxy through which sandboxes with a restricted network reach what is on their list.
    #[arg(long, env = "REXEC_SANDBOX_PROXY_PORT", default_value_t = SANDBOX_PROXY_PORT, global = true)]
    pub rexec_sandbox_proxy_port: u16,
    /// Sandboxes of one organisation.
    #[arg(long, env = "REXEC_SANDBOX_MAX", default_value_t = SANDBOXES_MAX_DEFAULT, global = true)]
    pub rexec_sandbox_max: u32,
    /// Thousandths of a processor that one sandbox may have.
    #[arg(long, env = "REXEC_SANDBOX_CPUS_MILLI_MAX", default_value_t = SANDBOX_CPUS_MILLI_MAX_DEFAULT, global = true)]
    pub rexec_sandbox_cpus_milli_max: u32,
    /// MiB of memory that one sandbox may have.
    #[arg(long, env = "REXEC_SANDBOX_MEMORY_MB_MAX", default_value_t = SANDBOX_MEMORY_MB_MAX_DEFAULT, global = true)]
    pub rexec_sandbox_memory_mb_max: u32,
    /// Seconds after which a sandbox without a session is stopped at the latest [default: never by itself].
    #[arg(long, env = "REXEC_SANDBOX_IDLE_STOP_S", global = true)]
    pub rexec_sandbox_idle_stop_s: Option<u32>,
    /// Seconds after which a sandbox is deleted at the latest [default: never by itself].
    #[arg(long, env = "REXEC_SANDBOX_LIFETIME_S", global = true)]
    pub rexec_sandbox_lifetime_s: Option<u32>,
}

/// Settings of sandboxes after every default.
#[derive(Debug, Clone)]
pub struct SandboxSettings {
    /// Where they are made; none: nowhere, and why.
    pub engine: Result<EngineAddress, NoEngine>,
    /// Where they find control, when it was given.
    pub control_url: Option<Url>,
    /// Where they find the embedded broker, when it was given.
    pub tunnel: Option<String>,
    /// Whom they ask for names; empty: whom this machine asks.
    pub dns: Vec<IpAddr>,
    /// What they may be of.
    pub images: Vec<ImageRule>,
    /// What can be set up in them.
    pub presets: Vec<Preset>,
    /// Port of the proxy of restricted ones.
    pub proxy_port: u16,
    /// How many an organisation has.
    pub count_max: u32,
    /// Thousandths of a processor of one.
    pub cpus_milli_max: u32,
    /// MiB of memory of one.
    pub memory_mb_max: u32,
    /// Longest a sandbox may be idle.
    pub idle_stop_max: Option<Duration>,
    /// Longest life.
    pub life_max: Option<Duration>,
}

/// Why there are no sandboxes here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoEngine {
    /// The operator said so.
    SwitchedOff,
    /// Nobody said where one is, and there is none where Docker listens.
    NotFound,
}

/// What is said of sandboxes makes no sense.
#[derive(Debug, thiserror::Error)]
pub enum BadSandboxSetting {
    /// The engine's address.
    #[error("REXEC_SANDBOX_ENGINE `{0}` must be none, an absolute path, unix:///path or tcp://host:port")]
    Engine(String),
    /// An engine over the network without TLS is everybody's.
    #[error(
        "REXEC_SANDBOX_ENGINE is tcp://: set REXEC_SANDBOX_ENGINE_TLS to the directory of ca.pem, cert.pem and key.pem"
    )]
    NoTls,
    /// A preset.
    #[error(transparent)]
    Presets(#[from] BadPresets),
    /// An image.
    #[error("REXEC_SANDBOX_IMAGES has `{0}`, which is no image reference")]
    Image(String),
}

impl Default for SandboxSettings {
    /// No engine, and everything else as where nobody said anything.
    fn default() -> Self {
        Self {
            engine: Err(NoEngine::SwitchedOff),
            control_url: None,
            tunnel: None,
            dns: Vec::new(),
            images: DEFAULT_IMAGES.iter().filter_map(|image| ImageRule::parse(image)).collect(),
            presets: presets::built_in(),
            proxy_port: SANDBOX_PROXY_PORT,
            count_max: SANDBOXES_MAX_DEFAULT,
            cpus_milli_max: SANDBOX_CPUS_MILLI_MAX_DEFAULT,
            memory_mb_max: SANDBOX_MEMORY_MB_MAX_DEFAULT,
            idle_stop_max: None,
            life_max: None,
        }
    }
}

impl SandboxFlags {
    /// The settings meant.
    ///
    /// # Errors
    /// When one makes no sense.
    pub fn resolve(&self) -> Result<SandboxSettings, BadSandboxSetting> {
        let seconds = |s: u32| Duration::from_secs(u64::from(s));
        let mut settings = SandboxSettings {
            engine: engine(self.rexec_sandbox_engine.as_deref(), self.rexec_sandbox_engine_tls.as_deref())?,
            control_url: self.rexec_sandbox_control_url.clone(),
            tunnel: self.rexec_sandbox_tunnel.clone(),
            dns: self.rexec_sandbox_dns.clone(),
            presets: match &self.rexec_sandbox_presets {
                Some(directory) => presets::with_those_in(directory)?,
                None => presets::built_in(),
            },
            proxy_port: self.rexec_sandbox_proxy_port,
            count_max: self.rexec_sandbox_max,
            cpus_milli_max: self.rexec_sandbox_cpus_milli_max,
            memory_mb_max: self.rexec_sandbox_memory_mb_max,
            idle_stop_max: self.rexec_sandbox_idle_stop_s.map(seconds),
            life_max: self.rexec_sandbox_lifetime_s.map(seconds),
            ..SandboxSettings::default()
        };
        let said =
            self.rexec_sandbox_images.iter().map(|image| image.trim()).filter(|image| !image.is_empty());
        let rules = said
            .map(|image| ImageRule::parse(image).ok_or_else(|| BadSandboxSetting::Image(image.to_owned())));
        let rules = rules.collect::<Result<Vec<_>, _>>()?;
        if !rules.is_empty() {
            settings.images = rules;
        }
        Ok(settings)
    }
}

fn engine(
    said: Option<&str>,
    tls: Option<&Path>,
) -> Result<Result<EngineAddress, NoEngine>, BadSandboxSetting> {
    let Some(said) = said.filter(|said| !said.is_empty()) else {
        let socket = Path::new(DOCKER_SOCKET);
        let found = socket.exists().then(|| EngineAddress::Unix(socket.to_owned()));
        return Ok(found.ok_or(NoEngine::NotFound));
    };
    if said == "none" {
        return Ok(Err(NoEngine::SwitchedOff));
    }
    let path = said.strip_prefix("unix://").unwrap_or(said);
    if path.starts_with('/') {
        return Ok(Ok(EngineAddress::Unix(PathBuf::from(path))));
    }
    let bad = || BadSandboxSetting::Engine(said.to_owned());
    let addr = said.strip_prefix("tcp://").map(|addr| addr.trim_end_matches('/')).ok_or_else(bad)?;
    let (host, port) = addr.rsplit_once(':').ok_or_else(bad)?;
    if host.is_empty() || port.parse::<u16>().is_err() {
        return Err(bad());
    }
    let tls = tls.ok_or(BadSandboxSetting::NoTls)?.to_owned();
    Ok(Ok(EngineAddress::Tcp { addr: addr.to_owned(), tls }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_engine_is_named_as_docker_names_it() {
        let at = |said| engine(Some(said), Some(Path::new("/tls")));
        let unix = || EngineAddress::Unix(PathBuf::from("/run/podman.sock"));
        assert_eq!(at("/run/podman.sock").expect("good"), Ok(unix()));
        assert_eq!(at("unix:///run/podman.sock").expect("good"), Ok(unix()));
        assert_eq!(at("none").expect("good"), Err(NoEngine::SwitchedOff));
        let far = EngineAddress::Tcp { addr: "box:2376".to_owned(), tls: PathBuf::from("/tls") };
        assert_eq!(at("tcp://box:2376").expect("good"), Ok(far));
        for bad in ["docker", "http://box:2376", "tcp://box", "tcp://:1", "tcp://box:x", "ssh://box"] {
            assert!(matches!(at(bad), Err(BadSandboxSetting::Engine(_))), "{bad}");
        }
        let bare = engine(Some("tcp://box:2375"), None);
        assert!(matches!(bare, Err(BadSandboxSetting::NoTls)), "an engine without TLS is everybody's");
    }
}
