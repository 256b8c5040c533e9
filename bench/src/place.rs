//! Where processes run, and where their programs are.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What the PATH of a person on Debian does not name, and what `ip netns exec` runs with.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Where a process runs and is found.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    /// Its address.
    pub(crate) host: IpAddr,
    /// Network namespace it runs in.
    pub(crate) namespace: Option<String>,
}

impl Place {
    /// A command that runs there.
    pub(crate) fn command(&self, program: PathBuf) -> Command {
        let Some(namespace) = &self.namespace else { return Command::new(program) };
        let mut command = Command::new("ip");
        command.args(["netns", "exec", namespace]).arg(program).env("PATH", PATH);
        command
    }
}

/// The whole path of a program, which sshd insists on; its bare name when there is none.
pub(crate) fn program(name: &str) -> PathBuf {
    find(name).unwrap_or_else(|| name.into())
}

/// The whole path of a program, if it is installed.
pub(crate) fn find(name: &str) -> Option<PathBuf> {
    let own = std::env::var_os("PATH").unwrap_or_default();
    let dirs = std::env::split_paths(&own).chain(PATH.split(':').map(|dir| Path::new(dir).to_owned()));
    dirs.map(|dir| dir.join(name)).find(|path| path.is_file())
}
