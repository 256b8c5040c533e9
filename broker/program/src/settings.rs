//! What a broker is told from outside: environment variables and flags of the same names.
//!
//! The credential comes in a file: a command line is everybody's to read, and an environment is inherited.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use clap::{Parser, ValueEnum};
use directories::ProjectDirs;
use thiserror::Error;
use url::Url;

/// Longest credential, bytes.
const CREDENTIAL_MAX: usize = 512;

/// A broker of Rexec that stands alone: takes the tunnels of agents and the WebSockets of viewers.
///
/// It joins the control at REXEC_CONTROL_URL with the credential that `rexec-control broker add` gave, and goes on with what it knows while
/// that is away. SIGTERM sends its agents to other brokers, a second one ends it at once.
#[derive(Debug, Parser)]
#[command(name = "rexec-broker", version)]
pub(crate) struct Flags {
    /// Where control is, as https://rexec.example.
    #[arg(long, env = "REXEC_CONTROL_URL")]
    rexec_control_url: Url,
    /// File with the credential in its first line.
    #[arg(long, env = "REXEC_BROKER_CREDENTIAL_FILE")]
    rexec_broker_credential_file: PathBuf,
    /// Port of the web server that viewers come to.
    #[arg(long, env = "PORT", default_value_t = 8081)]
    port: u16,
    /// Address the web server listens on.
    #[arg(long, env = "REXEC_BIND", default_value_t = IpAddr::V4(Ipv4Addr::UNSPECIFIED))]
    rexec_bind: IpAddr,
    /// Where viewers find it, as https://broker.example [default: http://localhost:PORT].
    #[arg(long, env = "REXEC_PUBLIC_URL")]
    rexec_public_url: Option<Url>,
    /// Address and port the tunnels of agents come in on, UDP and TCP.
    #[arg(long, env = "REXEC_TUNNEL_ADDR", default_value = "0.0.0.0:7443")]
    rexec_tunnel_addr: SocketAddr,
    /// host:port that agents dial [default: the host of the public URL and the tunnel's port].
    #[arg(long, env = "REXEC_TUNNEL_PUBLIC")]
    rexec_tunnel_public: Option<String>,
    /// Directory of its key and what it must know to start without control [default: the user's data directory].
    #[arg(long, env = "REXEC_DATA_DIR")]
    rexec_data_dir: Option<PathBuf>,
    /// What to log, as in `info,rexec_broker=debug`.
    #[arg(long, env = "REXEC_LOG", default_value = "info")]
    pub(crate) rexec_log: String,
    /// How to write the log.
    #[arg(long, env = "REXEC_LOG_FORMAT", value_enum, default_value_t = LogFormat::Text)]
    pub(crate) rexec_log_format: LogFormat,
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// The credential. Shows nothing when debugged.
#[derive(Clone)]
pub(crate) struct Credential(String);

impl Credential {
    /// What proves who we are; every call is a place to look at when asking where it goes.
    pub(crate) fn expose(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Credential {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Credential")
    }
}

/// Settings after every default.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub(crate) control: Url,
    pub(crate) credential: Credential,
    pub(crate) listen: SocketAddr,
    /// Origin that viewers use.
    pub(crate) viewer_url: String,
    pub(crate) tunnel_listen: SocketAddr,
    /// What agents dial; none: the viewers' host and the port that the tunnel got.
    tunnel_public: Option<String>,
    pub(crate) data_dir: PathBuf,
}

/// Settings that cannot be used.
#[derive(Debug, Error)]
pub(crate) enum SettingsError {
    #[error("{name} `{url}` must be http:// or https:// with a host and without a path")]
    NotAnOrigin { name: &'static str, url: Url },
    #[error("there is no home directory to keep data in: set REXEC_DATA_DIR")]
    NoDataDir,
    #[error("the credential file {path}: {source}")]
    Credential { path: PathBuf, source: std::io::Error },
    #[error(
        "the credential file {0} holds no credential: `rexec-control broker add NAME --out FILE` makes one"
    )]
    NoCredential(PathBuf),
}

impl Settings {
    /// Flags and environment together.
    pub(crate) fn resolve(flags: &Flags) -> Result<Self, SettingsError> {
        let control = as_origin("REXEC_CONTROL_URL", &flags.rexec_control_url)?;
        let viewer_url = match &flags.rexec_public_url {
            Some(url) => as_origin("REXEC_PUBLIC_URL", url)?.origin().ascii_serialization(),
            None => format!("http://localhost:{}", flags.port),
        };
        Ok(Self {
            control,
            credential: credential(&flags.rexec_broker_credential_file)?,
            listen: SocketAddr::new(flags.rexec_bind, flags.port),
            viewer_url,
            tunnel_listen: flags.rexec_tunnel_addr,
            tunnel_public: flags.rexec_tunnel_public.clone(),
            data_dir: flags
                .rexec_data_dir
                .clone()
                .or_else(default_data_dir)
                .ok_or(SettingsError::NoDataDir)?,
        })
    }

    /// What agents dial.
    pub(crate) fn tunnel_public(&self) -> String {
        let host = Url::parse(&self.viewer_url).ok().and_then(|url| url.host_str().map(str::to_owned));
        let host = host.unwrap_or_else(|| "localhost".to_owned());
        self.tunnel_public.clone().unwrap_or_else(|| format!("{host}:{}", self.tunnel_listen.port()))
    }
}

fn as_origin(name: &'static str, url: &Url) -> Result<Url, SettingsError> {
    let is_origin = ["http", "https"].contains(&url.scheme())
        && url.has_host()
        && url.path() == "/"
        && url.query().is_none()
        && url.fragment().is_none()
        && url.username().is_empty();
    if is_origin { Ok(url.clone()) } else { Err(SettingsError::NotAnOrigin { name, url: url.clone() }) }
}

fn credential(path: &Path) -> Result<Credential, SettingsError> {
    let text = std::fs::read_to_string(path)
        .map_err(|source| SettingsError::Credential { path: path.to_owned(), source })?;
    let line = text.lines().next().unwrap_or_default().trim();
    let is_plain =
        (1..=CREDENTIAL_MAX).contains(&line.len()) && line.bytes().all(|byte| byte.is_ascii_graphic());
    if is_plain { Ok(Credential(line.to_owned())) } else { Err(SettingsError::NoCredential(path.to_owned())) }
}

fn default_data_dir() -> Option<PathBuf> {
    ProjectDirs::from("dev", "rexec", "rexec-broker").map(|dirs| dirs.data_dir().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn st_07_a_credential_never_prints_itself_and_comes_from_a_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("credential");
        assert!(matches!(credential(&path), Err(SettingsError::Credential { .. })));
        std::fs::write(&path, "\n").unwrap();
        assert!(matches!(credential(&path), Err(SettingsError::NoCredential(_))));
        std::fs::write(&path, "rexec_broker_canary\n").unwrap();
        let read = credential(&path).unwrap();
        assert_eq!((read.expose(), format!("{read:?}").as_str()), ("rexec_broker_canary", "Credential"));
    }

    #[test]
    fn what_is_more_than_an_origin_is_refused_by_name() {
        for wrong in
            ["https://c.example/app", "ftp://c.example", "https://a@c.example", "https://c.example?x"]
        {
            let error = as_origin("REXEC_CONTROL_URL", &wrong.parse().unwrap()).unwrap_err().to_string();
            assert!(error.contains("REXEC_CONTROL_URL"), "{error}");
        }
        assert!(as_origin("X", &"http://127.0.0.1:8080".parse().unwrap()).is_ok());
    }
}
