//! Where the programs under test are, and whether they are what the sources say.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::{Context, Result, bail};

/// Directory with the binaries to use instead of those cargo built; their age is not questioned.
pub const DIR_ENV: &str = "REXEC_BIN_DIR";
const BUILD: &str = "cargo build --release -p rexec-control -p rexec-agent -p rexec-broker-program";

/// A program under test.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Program {
    /// The control plane with its broker.
    Control,
    /// The agent.
    Agent,
    /// A broker that stands alone.
    Broker,
}

impl Program {
    const fn name(self) -> &'static str {
        match self {
            Self::Control => "rexec-control",
            Self::Agent => "rexec-agent",
            Self::Broker => "rexec-broker",
        }
    }

    /// Crates whose sources it is made of.
    const fn crates(self) -> &'static [&'static str] {
        match self {
            Self::Control => &["control", "broker", "shared"],
            Self::Agent => &["agent", "shared"],
            Self::Broker => &["broker/program", "broker", "shared"],
        }
    }

    /// The program's path.
    ///
    /// # Errors
    /// When it is missing or older than its sources; the message says how to build it.
    pub fn path(self) -> Result<PathBuf> {
        if let Some(dir) = std::env::var_os(DIR_ENV).filter(|dir| !dir.is_empty()) {
            let path = Path::new(&dir).join(self.name());
            return if path.is_file() { Ok(path) } else { bail!("{DIR_ENV}: no {}", path.display()) };
        }
        let path = self.built().with_context(|| format!("{} is not built: {BUILD}", self.name()))?;
        self.check_age(&path)?;
        Ok(path)
    }

    /// Cargo puts tests into `deps/` of the directory that its programs are in.
    fn built(self) -> Option<PathBuf> {
        let own = std::env::current_exe().ok()?;
        own.ancestors().skip(1).take(3).map(|dir| dir.join(self.name())).find(|path| path.is_file())
    }

    fn check_age(self, path: &Path) -> Result<()> {
        let built = path.metadata()?.modified()?;
        for name in self.crates() {
            let sources = repository().join(name).join("src");
            if let Some(newer) = newer_than(&sources, built)? {
                bail!("{} is older than {}: {BUILD}", self.name(), newer.display());
            }
        }
        Ok(())
    }
}

/// The root of the repository.
pub fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("."))
}

fn newer_than(dir: &Path, time: SystemTime) -> Result<Option<PathBuf>> {
    for entry in dir.read_dir().with_context(|| dir.display().to_string())? {
        let path = entry?.path();
        let newer = if path.is_dir() {
            newer_than(&path, time)?
        } else {
            (path.metadata()?.modified()? > time).then_some(path)
        };
        if newer.is_some() {
            return Ok(newer);
        }
    }
    Ok(None)
}
