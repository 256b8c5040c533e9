//! What an installation is told from outside: environment variables and flags of the same names.
//!
//! Secrets (`JWT_SECRET`, `DATABASE_URL`) come from the environment alone: a command line is everybody's to read.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use directories::ProjectDirs;
use url::Url;

use crate::auth::client_ip::Network;
use crate::sandboxes::settings::{BadSandboxSetting, SandboxFlags, SandboxSettings};
use crate::secret::Secret;

/// Bytes a production `JWT_SECRET` has at least: 256 bits, if they are random.
const JWT_SECRET_MIN: usize = 32;

/// Different characters a production `JWT_SECRET` has at least: 64 random hexadecimal digits have 13 and more.
const JWT_SECRET_LETTERS_MIN: usize = 8;

/// What secrets in examples, templates and compose files are made of. What is left of a secret without them must be long enough.
const PLACEHOLDERS: [&str; 16] = [
    "changeme",
    "change-me",
    "change_me",
    "change",
    "replace",
    "secret",
    "password",
    "example",
    "default",
    "insecure",
    "development",
    "production",
    "placeholder",
    "0123456789",
    "123456789",
    "abcdefghijklmnopqrstuvwxyz",
];

/// Settings that may be given as flags.
#[derive(Debug, Clone, Args)]
pub struct Flags {
    /// Port of the web server.
    #[arg(long, env = "PORT", default_value_t = 8080, global = true)]
    pub port: u16,
    /// Address the web server listens on.
    #[arg(long, env = "REXEC_BIND", default_value_t = IpAddr::V4(Ipv4Addr::UNSPECIFIED), global = true)]
    pub rexec_bind: IpAddr,
    /// Where people and agents find this installation [default: http://localhost:PORT].
    #[arg(long, env = "REXEC_PUBLIC_URL", global = true)]
    pub rexec_public_url: Option<Url>,
    /// Directory of the database and the keys [default: the user's data directory].
    #[arg(long, env = "REXEC_DATA_DIR", global = true)]
    pub rexec_data_dir: Option<PathBuf>,
    /// In production, secrets must be given; in development they are made and kept in the data directory.
    #[arg(long, env = "REXEC_ENV", value_enum, default_value_t = Environment::Development, global = true)]
    pub rexec_env: Environment,
    /// Address and UDP port the tunnels of agents come in on.
    #[arg(long, env = "REXEC_TUNNEL_ADDR", default_value = "0.0.0.0:7443", global = true)]
    pub rexec_tunnel_addr: SocketAddr,
    /// host:port that agents dial [default: the host of the public URL and the tunnel's port].
    #[arg(long, env = "REXEC_TUNNEL_PUBLIC", global = true)]
    pub rexec_tunnel_public: Option<String>,
    /// Whether this process is a broker, too; without, brokers that stand alone do its work.
    #[arg(long, env = "REXEC_EMBEDDED_BROKER", global = true, default_value_t = true, action = clap::ArgAction::Set, value_parser = clap::builder::BoolishValueParser::new())]
    pub rexec_embedded_broker: bool,
    /// Domain whose names are previews of ports, `<port>-<machine>.DOMAIN`: one of its own, with a wildcard record to this server [default: localhost, if the public URL is there; else none].
    #[arg(long, env = "REXEC_PREVIEW_DOMAIN", global = true)]
    pub rexec_preview_domain: Option<String>,
    /// Directory of the built web app, instead of the one inside this binary.
    #[arg(long, env = "WEB_DIR", global = true)]
    pub web_dir: Option<PathBuf>,
    /// Directory of the agents to serve, named rexec-agent-linux-amd64 and so on [default: beside this binary].
    #[arg(long, env = "REXEC_DOWNLOAD_DIR", global = true)]
    pub rexec_download_dir: Option<PathBuf>,
    /// What to log, as in `info,rexec_control=debug`.
    #[arg(long, env = "REXEC_LOG", default_value = "info,sqlx=warn,sea_orm_migration=warn", global = true)]
    pub rexec_log: String,
    /// How to write the log.
    #[arg(long, env = "REXEC_LOG_FORMAT", value_enum, default_value_t = LogFormat::Text, global = true)]
    pub rexec_log_format: LogFormat,
    /// Networks of proxies whose X-Forwarded-For is believed, separated by commas.
    #[arg(long, env = "REXEC_TRUSTED_PROXY", value_delimiter = ',', global = true)]
    pub rexec_trusted_proxy: Vec<Network>,
    /// What sandboxes are and may be.
    #[command(flatten)]
    pub sandboxes: SandboxFlags,
}

/// How much an installation asks of its operator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Environment {
    /// Makes what is missing.
    Development,
    /// Refuses to start without.
    Production,
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Settings after every default.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where the web server listens.
    pub listen: SocketAddr,
    /// The origin people use, when it was given.
    pub public_url: Option<Url>,
    /// Database and keys.
    pub data_dir: PathBuf,
    /// The database.
    pub database_url: Secret<String>,
    /// Development or production.
    pub environment: Environment,
    /// Keys every stored token and cookie; none: made and kept.
    pub jwt_secret: Option<Secret<String>>,
    /// Where tunnels come in.
    pub tunnel_listen: SocketAddr,
    /// What agents dial, when it was given.
    pub tunnel_public: Option<String>,
    /// Whether there is an embedded broker.
    pub embedded_broker: bool,
    /// Domain of previews, when it was given.
    pub preview_domain: Option<String>,
    /// The web app on disk; none: the embedded one.
    pub web_dir: Option<PathBuf>,
    /// Agents to serve.
    pub agent_dir: PathBuf,
    /// Proxies to believe.
    pub trusted_proxies: Vec<Network>,
    /// Sandboxes.
    pub sandboxes: SandboxSettings,
}

/// Settings that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// No home directory.
    #[error("there is no home directory to keep data in: set REXEC_DATA_DIR")]
    NoDataDir,
    /// Production without its secret.
    #[error(
        "JWT_SECRET is not set: with REXEC_ENV=production it must be, to at least {JWT_SECRET_MIN} random bytes (openssl rand -base64 32)"
    )]
    NoJwtSecret,
    /// A secret that can be guessed.
    #[error(
        "JWT_SECRET is shorter than {JWT_SECRET_MIN} bytes, repeats itself or is a well-known placeholder: make one with openssl rand -base64 32"
    )]
    WeakJwtSecret,
    /// Not a web address.
    #[error("REXEC_PUBLIC_URL `{0}` must be http:// or https:// with a host and without a path")]
    PublicUrl(Url),
    /// Not a domain, or the app's own.
    #[error(
        "REXEC_PREVIEW_DOMAIN `{0}` must be a domain name, without scheme or port, and not the host of REXEC_PUBLIC_URL"
    )]
    PreviewDomain(String),
    /// A file that should hold a secret.
    #[error("{name}_FILE: {file}: {why}")]
    SecretFile {
        /// The setting.
        name: String,
        /// The file.
        file: String,
        /// What is wrong.
        why: String,
    },
    /// Only these two databases.
    #[error("DATABASE_URL must begin with sqlite: or postgres://")]
    DatabaseUrl,
    /// What is said of sandboxes makes no sense.
    #[error(transparent)]
    Sandboxes(#[from] BadSandboxSetting),
}

impl Settings {
    /// Flags and environment together.
    ///
    /// # Errors
    /// When they contradict themselves or lack what production needs.
    pub fn resolve(flags: &Flags) -> Result<Self, SettingsError> {
        let data_dir =
            flags.rexec_data_dir.clone().or_else(default_data_dir).ok_or(SettingsError::NoDataDir)?;
        let settings = Self {
            listen: SocketAddr::new(flags.rexec_bind, flags.port),
            public_url: flags.rexec_public_url.clone(),
            database_url: secret_from_env("DATABASE_URL")?.unwrap_or_else(|| sqlite_in(&data_dir)),
            data_dir,
            environment: flags.rexec_env,
            jwt_secret: secret_from_env("JWT_SECRET")?,
            tunnel_listen: flags.rexec_tunnel_addr,
            tunnel_public: flags.rexec_tunnel_public.clone(),
            embedded_broker: flags.rexec_embedded_broker,
            preview_domain: flags.rexec_preview_domain.clone().filter(|domain| !domain.is_empty()),
            web_dir: flags.web_dir.clone(),
            agent_dir: flags.rexec_download_dir.clone().unwrap_or_else(beside_this_binary),
            trusted_proxies: flags.rexec_trusted_proxy.clone(),
            sandboxes: flags.sandboxes.resolve()?,
        };
        settings.check()?;
        Ok(settings)
    }

    /// The origin people use, as far as it is known before the listener is: port 0 is not resolved.
    pub fn public_origin(&self) -> String {
        self.public_url.as_ref().map_or_else(
            || format!("http://localhost:{}", self.listen.port()),
            |url| url.origin().ascii_serialization(),
        )
    }

    fn is_preview_domain(&self, domain: &str) -> bool {
        let own = self.public_url.as_ref().and_then(Url::host_str);
        is_domain(domain) && own.is_none_or(|own| own == "localhost" || !own.eq_ignore_ascii_case(domain))
    }

    fn check(&self) -> Result<(), SettingsError> {
        if self.environment == Environment::Production {
            let secret = self.jwt_secret.as_ref().ok_or(SettingsError::NoJwtSecret)?;
            if is_weak(secret.expose()) {
                return Err(SettingsError::WeakJwtSecret);
            }
        }
        if let Some(url) = self.public_url.as_ref().filter(|url| !is_origin(url)) {
            return Err(SettingsError::PublicUrl(url.clone()));
        }
        if let Some(domain) = self.preview_domain.as_ref().filter(|domain| !self.is_preview_domain(domain)) {
            return Err(SettingsError::PreviewDomain(domain.clone()));
        }
        let scheme = self.database_url.expose().split(':').next().unwrap_or_default();
        ["sqlite", "postgres", "postgresql"].contains(&scheme).then_some(()).ok_or(SettingsError::DatabaseUrl)
    }
}

/// Whether a name is a domain's: labels of letters, digits and hyphens.
fn is_domain(name: &str) -> bool {
    name.len() <= 200
        && name.split('.').all(|label| {
            !label.is_empty()
                && label.len() <= 63
                && label.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'-')
        })
}

/// Whether a secret is too short, has too few different characters or repeats itself, or is long enough only by words that stand
/// in every example (THREATS IN-02).
fn is_weak(secret: &str) -> bool {
    let mut rest = secret.to_lowercase();
    for word in PLACEHOLDERS {
        rest = rest.replace(word, "");
    }
    let letters = rest.bytes().collect::<std::collections::BTreeSet<_>>().len();
    let bytes = secret.as_bytes();
    let repeats =
        (1..=bytes.len() / 2).any(|period| bytes.iter().zip(bytes.iter().skip(period)).all(|(a, b)| a == b));
    rest.len() < JWT_SECRET_MIN || letters < JWT_SECRET_LETTERS_MIN || repeats
}

fn is_origin(url: &Url) -> bool {
    ["http", "https"].contains(&url.scheme())
        && url.has_host()
        && url.path() == "/"
        && url.query().is_none()
        && url.fragment().is_none()
        && url.username().is_empty()
}

fn default_data_dir() -> Option<PathBuf> {
    ProjectDirs::from("dev", "rexec", "rexec-control").map(|dirs| dirs.data_dir().to_owned())
}

fn sqlite_in(data_dir: &std::path::Path) -> Secret<String> {
    Secret::new(format!("sqlite://{}", data_dir.join("rexec.sqlite").display()))
}

fn beside_this_binary() -> PathBuf {
    std::env::current_exe().ok().and_then(|path| path.parent().map(PathBuf::from)).unwrap_or_default()
}

/// The variable `name`, or the first line of the file that the variable `name_FILE` names.
fn secret_from_env(name: &str) -> Result<Option<Secret<String>>, SettingsError> {
    let set = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    secret(name, set(name), set(&format!("{name}_FILE")))
}

fn secret(
    name: &str,
    value: Option<String>,
    file: Option<String>,
) -> Result<Option<Secret<String>>, SettingsError> {
    let Some(file) = file else { return Ok(value.map(Secret::new)) };
    let refused = |why: String| SettingsError::SecretFile { name: name.to_owned(), file: file.clone(), why };
    if value.is_some() {
        return Err(refused(format!("{name} is set, too: set one of them")));
    }
    let text = std::fs::read_to_string(&file).map_err(|error| refused(error.to_string()))?;
    let line = text.lines().next().unwrap_or_default().trim();
    if line.is_empty() {
        Err(refused("its first line is empty".to_owned()))
    } else {
        Ok(Some(Secret::new(line.to_owned())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_comes_from_a_file_or_from_the_environment_and_never_from_both() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("secret");
        let file = || Some(path.display().to_string());
        std::fs::write(&path, "  first line \nsecond\n").expect("written");
        let read = secret("JWT_SECRET", None, file()).expect("good").expect("one");
        assert_eq!(read.expose(), "first line");
        let both = secret("JWT_SECRET", Some("x".to_owned()), file()).map(|_| ()).unwrap_err().to_string();
        assert!(both.contains("JWT_SECRET is set, too"), "{both}");
        std::fs::write(&path, "\n").expect("written");
        assert!(secret("JWT_SECRET", None, file()).is_err());
        let gone =
            secret("DATABASE_URL", None, Some("/nowhere".to_owned())).map(|_| ()).unwrap_err().to_string();
        assert!(gone.contains("DATABASE_URL_FILE: /nowhere"), "{gone}");
        assert!(secret("JWT_SECRET", None, None).expect("good").is_none());
    }

    fn settings() -> Settings {
        Settings {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            public_url: None,
            data_dir: PathBuf::from("/nowhere"),
            database_url: Secret::new("sqlite:///nowhere/x".to_owned()),
            environment: Environment::Development,
            jwt_secret: None,
            tunnel_listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            tunnel_public: None,
            embedded_broker: true,
            preview_domain: None,
            web_dir: None,
            agent_dir: PathBuf::new(),
            trusted_proxies: Vec::new(),
            sandboxes: SandboxSettings::default(),
        }
    }

    #[test]
    fn in_02_production_does_not_start_without_a_strong_secret_and_names_it() {
        let mut production = Settings { environment: Environment::Production, ..settings() };
        let error = production.check().expect_err("no secret").to_string();
        assert!(error.contains("JWT_SECRET"), "{error}");
        production.jwt_secret = Some(Secret::new("changeme".to_owned()));
        assert!(matches!(production.check(), Err(SettingsError::WeakJwtSecret)));
        let (placeholder, known) =
            ("your-256-bit-secret-change-me-in-production", "supersecretsupersecretsupersecretkey");
        for weak in [
            "x".repeat(64).as_str(),
            "0123456789abcdef".repeat(4).as_str(),
            placeholder,
            known,
            "changeme".repeat(8).as_str(),
        ] {
            production.jwt_secret = Some(Secret::new(weak.to_owned()));
            assert!(matches!(production.check(), Err(SettingsError::WeakJwtSecret)), "{weak}");
        }
        for strong in [
            "mC2v6oJb1Xw0T9eR8yQ5uI3pLkJhGfDsAzXcVbNm1q4=",
            "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
        ] {
            production.jwt_secret = Some(Secret::new(strong.to_owned()));
            assert!(production.check().is_ok(), "{strong}");
        }
        assert!(settings().check().is_ok(), "development makes its own");
    }

    #[test]
    fn a_public_url_is_an_origin_and_nothing_more() {
        for (url, good) in [
            ("https://rexec.example", true),
            ("http://10.0.0.1:8080", true),
            ("https://rexec.example/app", false),
            ("https://a@rexec.example", false),
            ("ftp://rexec.example", false),
        ] {
            let settings = Settings { public_url: url.parse().ok(), ..settings() };
            assert_eq!(settings.check().is_ok(), good, "{url}");
        }
    }
}
