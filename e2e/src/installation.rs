//! A whole installation: one `rexec-control` with its embedded broker, its own data directory and ports.

use std::fs::File;
use std::net::{IpAddr, Ipv4Addr, TcpListener, UdpSocket};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rand::RngExt;
use rexec_shared::pki::Identity;
use serde_json::json;
use tempfile::TempDir;

use crate::api::Api;
use crate::binaries::Program;
use crate::disk::Disk;
use crate::process::Process;
use crate::wait;

/// The owner's address.
pub const OWNER_EMAIL: &str = "owner@rexec.test";
/// The owner's password: a canary, too, that no log may hold.
pub const OWNER_PASSWORD: &str = "canary-password-of-the-owner";
const READY_DEADLINE: Duration = Duration::from_secs(20);
/// Below the range the system takes ports of outgoing connections from, so that a control that is down finds its port again.
const PORTS: std::ops::Range<u16> = 20_000..32_000;

/// How an installation is made.
#[derive(Debug, Clone)]
pub struct Options {
    /// Address that viewers and agents use.
    pub host: IpAddr,
    /// Tracing filter of control, brokers and agents.
    pub log: String,
    /// Size of a disk of its own for data and log, bytes; none is wherever temporary files are.
    pub disk_bytes: Option<u64>,
    /// Whether control is a broker, too.
    pub embedded_broker: bool,
    /// The Docker engine it makes sandboxes on; with one, control and broker listen where containers reach them.
    pub engine: Option<String>,
    /// Sandboxes it lets an organisation have; none: as where nobody said a number.
    pub sandboxes_max: Option<u32>,
    /// Directory of presets of its sandboxes.
    pub presets: Option<PathBuf>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            host: Ipv4Addr::LOCALHOST.into(),
            log: "info".into(),
            disk_bytes: None,
            embedded_broker: true,
            engine: None,
            sandboxes_max: None,
            presets: None,
        }
    }
}

/// A running installation. Dropping it ends its processes and removes its data.
#[derive(Debug)]
pub struct Installation {
    control: Option<Process>,
    owner: Api,
    options: Options,
    port: u16,
    tunnel_port: u16,
    proxy_port: u16,
    disk: Option<Disk>,
    dir: TempDir,
}

impl Installation {
    /// Starts one with an owner.
    ///
    /// # Errors
    /// When the binaries are missing or control does not become ready.
    pub fn start() -> Result<Self> {
        Self::start_with(Options::default())
    }

    /// Starts one as told.
    ///
    /// # Errors
    /// As [`Installation::start`].
    pub fn start_with(options: Options) -> Result<Self> {
        let dir = tempfile::Builder::new().prefix("rexec-e2e-").tempdir()?;
        let disk = options.disk_bytes.map(|bytes| Disk::mount(dir.path(), bytes)).transpose()?;
        let (port, tunnel_port) = (free_port(options.host)?, free_port(options.host)?);
        let proxy_port = free_port(options.host)?;
        let origin = format!("http://{}:{port}", options.host);
        let mut made = Self {
            control: None,
            owner: Api::new(&origin),
            options,
            port,
            tunnel_port,
            proxy_port,
            disk,
            dir,
        };
        made.place_agent()?;
        made.start_control()?;
        made.make_owner()?;
        made.owner = made.owner.sign_in(OWNER_EMAIL, OWNER_PASSWORD)?;
        Ok(made)
    }

    /// The owner's login.
    pub fn owner(&self) -> &Api {
        &self.owner
    }

    /// Where it is found.
    pub fn origin(&self) -> &str {
        self.owner.origin()
    }

    /// Its options.
    pub fn options(&self) -> &Options {
        &self.options
    }

    /// UDP port of its tunnels.
    pub fn tunnel_port(&self) -> u16 {
        self.tunnel_port
    }

    /// Its data: database and keys.
    pub fn data_dir(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// The authority that signs its machines and brokers, with the key.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn authority(&self) -> Result<Identity> {
        let pem = std::fs::read_to_string(self.data_dir().join("keys/ca.pem"))?;
        let key_at = pem.find("-----BEGIN PRIVATE KEY-----").context("no key in ca.pem")?;
        let (certificate, key) = pem.split_at(key_at);
        Ok(Identity { certificate_pem: certificate.into(), key_pem: key.into() })
    }

    /// A place for a test's own files, removed with it.
    pub fn scratch(&self) -> &Path {
        self.dir.path()
    }

    /// Its own disk, if it has one.
    pub fn disk(&self) -> Option<&Disk> {
        self.disk.as_ref()
    }

    /// Everything control has said.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    /// The process id of control.
    ///
    /// # Errors
    /// When it is not running.
    pub fn control_pid(&self) -> Result<u32> {
        self.control.as_ref().map(Process::pid).context("control is not running")
    }

    /// A credential for a broker of this name, in a file as `REXEC_BROKER_CREDENTIAL_FILE` takes it.
    ///
    /// # Errors
    /// When control refuses.
    pub fn broker_credential(&self, name: &str) -> Result<PathBuf> {
        let path = self.dir.path().join(format!("credential-{name}"));
        let mut command = self.command()?;
        command.args(["broker", "add", name, "--out"]).arg(&path);
        let output = command.output()?;
        if output.status.success() { Ok(path) } else { bail!("{}", String::from_utf8_lossy(&output.stderr)) }
    }

    /// Removes the broker of this name.
    ///
    /// # Errors
    /// When control refuses.
    pub fn remove_broker(&self, name: &str) -> Result<()> {
        let output = self.command()?.args(["broker", "remove", name]).output()?;
        if output.status.success() { Ok(()) } else { bail!("{}", String::from_utf8_lossy(&output.stderr)) }
    }

    /// Kills control, and the broker in it, without a word.
    ///
    /// # Errors
    /// When it is not running.
    pub fn kill_control(&mut self) -> Result<()> {
        self.control.take().context("control is not running")?.kill_9()
    }

    /// Asks control to end.
    ///
    /// # Errors
    /// When it is not running, or does not end.
    pub fn stop_control(&mut self) -> Result<()> {
        let status = self.control.take().context("control is not running")?.terminate()?;
        if status.success() { Ok(()) } else { bail!("control ended with {status}") }
    }

    /// Starts control, on the same ports and data as ever, and waits until it is ready.
    ///
    /// # Errors
    /// When it ends or is not ready in time.
    pub fn start_control(&mut self) -> Result<()> {
        let control = Process::start("rexec-control", self.command()?, &self.log_path())?;
        let control = self.control.insert(control);
        let api = Api::new(self.owner.origin());
        wait::until("a ready control", READY_DEADLINE, || {
            if let Some(status) = control.ended() {
                return Some(Err(anyhow::anyhow!("control ended with {status}:\n{}", control.log())));
            }
            api.get("/readyz").is_ok_and(|answer| answer.status == 200).then_some(Ok(()))
        })?
    }

    /// A join token, in a file as `--token-file` takes it.
    ///
    /// # Errors
    /// When control refuses.
    pub fn join_token(&self) -> Result<PathBuf> {
        let token = self.join_token_for(1)?;
        let path = self.dir.path().join(format!("token-{}", uuid::Uuid::new_v4().simple()));
        write_private(&path, &token)?;
        Ok(path)
    }

    /// A join token for so many machines.
    ///
    /// # Errors
    /// When control refuses.
    pub fn join_token_for(&self, uses: usize) -> Result<String> {
        let wish = json!({ "label": "e2e", "uses": uses });
        let answer = self.owner.post("/api/join-tokens", &wish)?.ok()?;
        Ok(answer["token"].as_str().context("no token in the answer")?.to_owned())
    }

    /// How many machines control shows online.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn machines_online(&self) -> Result<usize> {
        let text = String::from_utf8(self.owner.get_bytes("/metrics")?)?;
        let online = text.lines().find_map(|line| line.strip_prefix("rexec_control_machines_online "));
        Ok(online.context("no machines_online among the metrics")?.parse()?)
    }

    /// `rexec-control` with this installation's settings and the given arguments.
    ///
    /// # Errors
    /// When the binary is missing.
    pub fn command(&self) -> Result<Command> {
        let mut command = Command::new(Program::Control.path()?);
        let listen =
            if self.options.engine.is_some() { Ipv4Addr::UNSPECIFIED.into() } else { self.options.host };
        command
            .env_remove("DATABASE_URL")
            .env_remove("JWT_SECRET")
            .env("PORT", self.port.to_string())
            .env("REXEC_BIND", listen.to_string())
            .env("REXEC_PUBLIC_URL", self.owner.origin())
            .env("REXEC_DATA_DIR", self.data_dir())
            .env("REXEC_TUNNEL_ADDR", format!("{listen}:{}", self.tunnel_port))
            .env("REXEC_SANDBOX_ENGINE", self.options.engine.as_deref().unwrap_or("none"))
            .env("REXEC_SANDBOX_PROXY_PORT", self.proxy_port.to_string())
            .env("REXEC_SANDBOX_IMAGES", "rexec-test/*")
            .env("REXEC_EMBEDDED_BROKER", self.options.embedded_broker.to_string())
            .env("REXEC_DOWNLOAD_DIR", self.dir.path().join("agents"))
            .env("REXEC_LOG", &self.options.log)
            .env("REXEC_LOG_FORMAT", "text");
        if let Some(most) = self.options.sandboxes_max {
            command.env("REXEC_SANDBOX_MAX", most.to_string());
        }
        if let Some(presets) = &self.options.presets {
            command.env("REXEC_SANDBOX_PRESETS", presets);
        }
        Ok(command)
    }

    fn log_path(&self) -> PathBuf {
        self.dir.path().join("control.log")
    }

    /// The agent under the name that control serves it by.
    fn place_agent(&self) -> Result<()> {
        let dir = self.dir.path().join("agents");
        std::fs::create_dir(&dir)?;
        let arch = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
        std::fs::copy(Program::Agent.path()?, dir.join(format!("rexec-agent-linux-{arch}")))?;
        Ok(())
    }

    fn make_owner(&self) -> Result<()> {
        let password = self.dir.path().join("password");
        write_private(&password, OWNER_PASSWORD)?;
        let mut command = self.command()?;
        command
            .args(["owner", "create", "--email", OWNER_EMAIL, "--name", "Owner", "--password-file"])
            .arg(password);
        let output = command.output()?;
        if !output.status.success() {
            bail!("owner create: {}", String::from_utf8_lossy(&output.stderr));
        }
        Ok(())
    }
}

/// Writes a file that only its owner may read.
///
/// # Errors
/// When the file system refuses.
pub fn write_private(path: &Path, text: &str) -> Result<()> {
    std::fs::write(path, text)?;
    Ok(std::fs::set_permissions(path, PermissionsExt::from_mode(0o600))?)
}

/// A port that is free for TCP and UDP on `host`.
///
/// # Errors
/// When a hundred tries find none.
pub fn free_port(host: IpAddr) -> Result<u16> {
    let claims = std::env::temp_dir().join("rexec-test-ports");
    std::fs::create_dir_all(&claims)?;
    (0..100)
        .map(|_| rand::rng().random_range(PORTS))
        .find(|port| {
            is_claimed(&claims, *port)
                && TcpListener::bind((host, *port)).is_ok()
                && UdpSocket::bind((host, *port)).is_ok()
        })
        .context("no free port")
}

/// Claims the port until this process ends: of tests that run at once no two find the same one free and then both listen there.
fn is_claimed(claims: &Path, port: u16) -> bool {
    let file = File::options().create(true).append(true).open(claims.join(port.to_string()));
    let Ok(file) = file else { return false };
    let held = file.try_lock().is_ok();
    if held {
        // The lock goes with the descriptor, and that with the process.
        std::mem::forget(file);
    }
    held
}
