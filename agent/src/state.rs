//! What an agent keeps on disk, and where: key, certificate and registration of each profile, its sockets, its log.
//!
//! Everything lies under the user's own directories (`directories`), or under the one directory `REXEC_AGENT_DIR` names. Directories are
//! 0700, files 0600 and replaced atomically; another owner's files, symbolic links and files open to others are refused
//! (THREATS LO-01, ST-02). Nothing is ever put into `/tmp`.

use std::fs::File;
use std::path::{Path, PathBuf};

use directories::ProjectDirs;
use serde::{Deserialize, Serialize};
use thiserror::Error;
use url::Url;

mod files;
mod registration;
mod system;

pub use files::{Directory, RunLock};
pub use registration::{MachineKey, Registration};

/// Environment variable naming one directory for everything.
pub const DIR_ENV: &str = "REXEC_AGENT_DIR";
/// Longest path of a unix socket, bytes: `sockaddr_un.sun_path` is 108 with its terminator (unix(7)).
const SOCKET_PATH_MAX: usize = 107;
/// Longest profile name, bytes: it is part of a socket's path.
const PROFILE_MAX: usize = 32;

/// Why state cannot be read or kept.
#[derive(Debug, Error)]
pub enum StateError {
    /// No home directory, no override.
    #[error("no home directory is known; set {DIR_ENV} to a directory of yours")]
    NoHome,
    /// The override is not absolute.
    #[error("{DIR_ENV} is {0}, which is not an absolute path")]
    NotAbsolute(PathBuf),
    /// A profile's name is part of paths.
    #[error("the profile name may have 1 to {PROFILE_MAX} letters, digits, '-' and '_'")]
    ProfileName,
    /// Somebody else's file or directory.
    #[error(
        "{path} belongs to user {owner}, and this process runs as user {euid}; run as that user, or set {DIR_ENV}"
    )]
    NotOwned {
        /// Which.
        path: PathBuf,
        /// Its owner's uid.
        owner: u32,
        /// Our effective uid.
        euid: u32,
    },
    /// A file that others may read or write.
    #[error("{path} has mode {mode:04o} and may hold secrets; run `chmod 600 {path}`")]
    TooOpen {
        /// Which.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// Not a plain file, too large, or not what we write.
    #[error("{path} cannot be used: {reason}")]
    Broken {
        /// Which.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// A unix socket's path has a limit.
    #[error(
        "the socket path {path} has {len} bytes and may have {SOCKET_PATH_MAX}; set {DIR_ENV} to a shorter directory"
    )]
    SocketPath {
        /// Which.
        path: PathBuf,
        /// Its length, bytes.
        len: usize,
    },
    /// The operating system refused.
    #[error("cannot {action} {path}: {source}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
}

/// What all profiles of one user share.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Settings {
    /// The installation this agent came from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    server: Option<Url>,
}

/// One agent of this user: its name and its directories.
#[derive(Debug, Clone)]
pub struct Profile {
    name: String,
    /// Settings shared by all profiles.
    config_dir: PathBuf,
    /// Key, certificate, registration.
    data_dir: PathBuf,
    /// Sockets, lock, log.
    state_dir: PathBuf,
    /// Settings of the whole machine, written by an installation as root; none where one directory holds everything.
    system_dir: Option<PathBuf>,
}

impl Profile {
    /// The profile's place: `REXEC_AGENT_DIR` if set, else the user's own directories. Touches nothing.
    pub fn locate(name: &str) -> Result<Self, StateError> {
        match std::env::var_os(DIR_ENV).filter(|dir| !dir.is_empty()) {
            Some(dir) => Self::at(Path::new(&dir), name),
            None => Self::of_user(name),
        }
    }

    /// A profile whose everything lies in one directory.
    pub fn at(root: &Path, name: &str) -> Result<Self, StateError> {
        check_name(name)?;
        if !root.is_absolute() {
            return Err(StateError::NotAbsolute(root.into()));
        }
        let own = root.join(name);
        Ok(Self {
            name: name.into(),
            config_dir: root.into(),
            data_dir: own.clone(),
            state_dir: own,
            system_dir: None,
        })
    }

    /// Sockets lie in the state directory and not in `XDG_RUNTIME_DIR`: that one is removed when the last login ends, and the agent stays.
    fn of_user(name: &str) -> Result<Self, StateError> {
        check_name(name)?;
        let dirs = ProjectDirs::from("", "", "rexec-agent").ok_or(StateError::NoHome)?;
        let state = dirs.state_dir().unwrap_or_else(|| dirs.data_local_dir());
        Ok(Self {
            name: name.into(),
            config_dir: dirs.config_dir().into(),
            data_dir: dirs.data_local_dir().join(name),
            state_dir: state.join(name),
            system_dir: Some(system::DIR.into()),
        })
    }

    /// The profile's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The directories that hold what is this profile's, and what each is like; those that are not there yet are left out.
    pub fn directories(&self) -> Result<Vec<(&Path, Directory)>, StateError> {
        let mut paths = vec![self.data_dir.as_path(), self.state_dir.as_path()];
        paths.dedup();
        let look = |path| files::look(path).map(|found| found.map(|found| (path, found)));
        paths.into_iter().filter_map(|path| look(path).transpose()).collect()
    }

    /// Where viewers' streams reach the session host.
    pub fn viewer_socket(&self) -> Result<PathBuf, StateError> {
        self.socket("viewer.sock")
    }

    /// Where uplink and commands reach the session host.
    pub fn link_socket(&self) -> Result<PathBuf, StateError> {
        self.socket("link.sock")
    }

    fn socket(&self, name: &str) -> Result<PathBuf, StateError> {
        let path = self.state_dir.join(name);
        let len = path.as_os_str().len();
        if len > SOCKET_PATH_MAX { Err(StateError::SocketPath { path, len }) } else { Ok(path) }
    }

    /// The log of an agent that runs detached.
    pub fn log_path(&self) -> PathBuf {
        self.state_dir.join("agent.log")
    }

    /// Opens the log for appending.
    pub fn open_log(&self) -> Result<File, StateError> {
        files::ensure_dir(&self.state_dir)?;
        files::open_append(&self.log_path())
    }

    /// The right to run this profile's session host; `None` while another process holds it.
    pub fn try_lock(&self) -> Result<Option<RunLock>, StateError> {
        files::ensure_dir(&self.state_dir)?;
        RunLock::try_take(&self.state_dir.join("lock"))
    }

    /// Whether a session host of this profile runs.
    pub fn is_running(&self) -> Result<bool, StateError> {
        RunLock::is_held(&self.state_dir.join("lock"))
    }

    /// The installation that `register` talks to when none is named.
    pub fn default_server(&self) -> Result<Option<Url>, StateError> {
        let path = self.config_dir.join("config.json");
        if let Some(bytes) = files::read(&path, files::Privacy::Public)?
            && let Some(server) = parse::<Settings>(&path, &bytes)?.server
        {
            return Ok(Some(server));
        }
        Ok(self.system_dir.as_deref().and_then(system::read_server))
    }

    /// Keeps the installation that the agent was downloaded from: for every user of this machine when root installs it, else for this user.
    pub fn set_installed_server(&self, server: &Url) -> Result<(), StateError> {
        match &self.system_dir {
            Some(dir) if rustix::process::geteuid().is_root() => system::write_server(dir, server),
            Some(_) | None => self.set_default_server(server),
        }
    }

    /// Keeps the installation for later `register`s.
    pub fn set_default_server(&self, server: &Url) -> Result<(), StateError> {
        files::ensure_dir(&self.config_dir)?;
        files::write_json(&self.config_dir.join("config.json"), &Settings { server: Some(server.clone()) })
    }

    /// Who this agent is; `None` before enrolment.
    pub fn registration(&self) -> Result<Option<Registration>, StateError> {
        let path = self.registration_path();
        let Some(bytes) = files::read(&path, files::Privacy::Public)? else { return Ok(None) };
        parse(&path, &bytes).map(Some)
    }

    /// Keeps the registration. Its presence is what makes the profile registered, so it is written last.
    pub fn keep_registration(&self, registration: &Registration) -> Result<(), StateError> {
        files::ensure_dir(&self.data_dir)?;
        files::write_json(&self.registration_path(), registration)
    }

    /// The machine's private key.
    pub fn key(&self) -> Result<MachineKey, StateError> {
        let path = self.data_dir.join("key.pem");
        let bytes = files::read(&path, files::Privacy::Secret)?.ok_or_else(|| missing(&path))?;
        MachineKey::from_pem(bytes).map_err(|reason| StateError::Broken { path, reason })
    }

    /// Keeps the machine's private key, before anybody is told of it.
    pub fn keep_key(&self, key: &MachineKey) -> Result<(), StateError> {
        files::ensure_dir(&self.data_dir)?;
        files::write(&self.data_dir.join("key.pem"), key.pem().as_bytes())
    }

    /// The newest client certificate, PEM.
    pub fn certificate(&self) -> Result<String, StateError> {
        let path = self.data_dir.join("certificate.pem");
        let bytes = files::read(&path, files::Privacy::Public)?.ok_or_else(|| missing(&path))?;
        String::from_utf8(bytes).map_err(|_| StateError::Broken { path, reason: "it is not text".into() })
    }

    /// Keeps a client certificate.
    pub fn keep_certificate(&self, pem: &str) -> Result<(), StateError> {
        files::ensure_dir(&self.data_dir)?;
        files::write(&self.data_dir.join("certificate.pem"), pem.as_bytes())
    }

    /// Forgets the registration first, then certificate and key, so that no half-registered profile can remain.
    pub fn forget(&self) -> Result<(), StateError> {
        for name in ["registration.json", "certificate.pem", "key.pem"] {
            files::remove(&self.data_dir.join(name))?;
        }
        Ok(())
    }

    fn registration_path(&self) -> PathBuf {
        self.data_dir.join("registration.json")
    }
}

fn check_name(name: &str) -> Result<(), StateError> {
    let fits = (1..=PROFILE_MAX).contains(&name.len());
    let plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_');
    if fits && plain { Ok(()) } else { Err(StateError::ProfileName) }
}

fn missing(path: &Path) -> StateError {
    StateError::Broken {
        path: path.into(),
        reason: "it is missing; `rexec-agent unregister --local`, then register anew".into(),
    }
}

fn parse<T: for<'a> Deserialize<'a>>(path: &Path, bytes: &[u8]) -> Result<T, StateError> {
    serde_json::from_slice(bytes)
        .map_err(|error| StateError::Broken { path: path.into(), reason: error.to_string() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

    fn profile() -> (tempfile::TempDir, Profile) {
        let dir = tempfile::tempdir().unwrap();
        let profile = Profile::at(&dir.path().join("agent"), "default").unwrap();
        (dir, profile)
    }

    fn mode(path: &Path) -> u32 {
        path.metadata().unwrap().mode() & 0o7777
    }

    #[test]
    fn st_02_the_key_is_kept_0600_in_a_directory_0700() {
        let (dir, profile) = profile();
        profile.keep_key(&MachineKey::generate().unwrap()).unwrap();
        assert_eq!(mode(&dir.path().join("agent/default")), 0o700);
        assert_eq!(mode(&dir.path().join("agent/default/key.pem")), 0o600);
        assert_eq!(
            std::fs::read_dir(dir.path().join("agent/default")).unwrap().count(),
            1,
            "no temporary file stays"
        );
    }

    #[test]
    fn lo_01_a_key_that_others_can_read_is_refused_with_the_command_that_mends_it() {
        let (dir, profile) = profile();
        profile.keep_key(&MachineKey::generate().unwrap()).unwrap();
        let path = dir.path().join("agent/default/key.pem");
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o640)).unwrap();
        let error = profile.key().unwrap_err().to_string();
        assert!(error.contains("0640") && error.contains("chmod 600"), "{error}");
    }

    #[test]
    fn lo_01_a_planted_symbolic_link_is_neither_read_nor_written_through() {
        let (dir, profile) = profile();
        let victim = dir.path().join("victim");
        std::fs::write(&victim, "untouched").unwrap();
        profile.keep_key(&MachineKey::generate().unwrap()).unwrap();
        let path = dir.path().join("agent/default/certificate.pem");
        symlink(&victim, &path).unwrap();
        assert!(profile.certificate().is_err());
        profile.keep_certificate("new").unwrap();
        assert_eq!(std::fs::read_to_string(&victim).unwrap(), "untouched");
        assert_eq!(profile.certificate().unwrap(), "new");
        symlink(&victim, profile.log_path()).unwrap();
        assert!(profile.open_log().is_err());
    }

    #[test]
    fn lo_01_a_directory_that_is_a_symbolic_link_is_refused() {
        let (dir, profile) = profile();
        std::fs::create_dir_all(dir.path().join("agent")).unwrap();
        std::fs::create_dir(dir.path().join("elsewhere")).unwrap();
        symlink(dir.path().join("elsewhere"), dir.path().join("agent/default")).unwrap();
        assert!(profile.keep_certificate("x").is_err());
    }

    #[test]
    fn a_directory_that_others_could_enter_is_closed() {
        let (dir, profile) = profile();
        let own = dir.path().join("agent/default");
        std::fs::create_dir_all(&own).unwrap();
        std::fs::set_permissions(&own, PermissionsExt::from_mode(0o755)).unwrap();
        profile.keep_certificate("x").unwrap();
        assert_eq!(mode(&own), 0o700);
    }

    #[test]
    fn only_one_process_runs_a_profile() {
        let (_dir, profile) = profile();
        assert!(!profile.is_running().unwrap());
        let lock = profile.try_lock().unwrap().unwrap();
        assert!(profile.is_running().unwrap());
        assert!(profile.try_lock().unwrap().is_none());
        drop(lock);
        assert!(!profile.is_running().unwrap());
    }

    #[test]
    fn a_profile_name_cannot_leave_its_directory() {
        for name in ["", "..", "a/b", "a b", "ä", &"x".repeat(33)] {
            assert!(matches!(Profile::at(Path::new("/x"), name), Err(StateError::ProfileName)), "{name}");
        }
    }

    #[test]
    fn a_socket_path_that_is_too_long_is_named_with_the_remedy() {
        let profile = Profile::at(&Path::new("/").join("d".repeat(120)), "default").unwrap();
        let error = profile.link_socket().unwrap_err().to_string();
        assert!(error.contains("107") && error.contains(DIR_ENV), "{error}");
    }

    #[test]
    fn the_server_named_at_installation_is_kept() {
        let (_dir, profile) = profile();
        assert_eq!(profile.default_server().unwrap(), None);
        let server = Url::parse("http://localhost:8080/").unwrap();
        profile.set_default_server(&server).unwrap();
        assert_eq!(profile.default_server().unwrap(), Some(server));
    }
}
