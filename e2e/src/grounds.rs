//! What a testing ground may lack. A person's own machine skips what it cannot do, and says so; in CI nothing is skipped.

/// Names the engine that tests make sandboxes on.
pub const DOCKER_ENV: &str = "REXEC_TEST_DOCKER";

/// Something that not every machine has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// Root on Linux: who may see everybody's sockets.
    Root,
    /// The right to make network namespaces, which root in a container may lack.
    Namespaces,
    /// The device that makes TUN devices.
    Tun,
    /// The right to mount a file system.
    Mounts,
    /// A processor for which we know how to set a process's clock, and root.
    Clocks,
    /// A Docker engine with the test images, which `scripts/with-docker` names.
    Docker,
    /// A program in the PATH.
    Program(&'static str),
}

impl Need {
    /// Whether it is here.
    pub fn is_met(self) -> bool {
        match self {
            Self::Root => cfg!(target_os = "linux") && nix::unistd::geteuid().is_root(),
            Self::Namespaces => std::process::Command::new("unshare")
                .args(["--net", "true"])
                .output()
                .is_ok_and(|output| output.status.success()),
            Self::Clocks => crate::clock::CAN_SET && Self::Root.is_met(),
            Self::Mounts => std::process::Command::new("unshare")
                .args(["--mount", "mount", "-t", "tmpfs", "rexec-e2e", "/mnt"])
                .output()
                .is_ok_and(|output| output.status.success()),
            Self::Docker => std::env::var_os(DOCKER_ENV).is_some(),
            Self::Tun => std::path::Path::new("/dev/net/tun").exists(),
            Self::Program(name) => std::env::var_os("PATH").is_some_and(|path| {
                std::env::split_paths(&path).any(|dir| dir.join(name).is_file())
                    || ["/usr/sbin", "/sbin"].iter().any(|dir| std::path::Path::new(dir).join(name).is_file())
            }),
        }
    }
}

/// Whether the test can run here. Where it cannot, it says what is missing; in CI that is a failure.
///
/// # Panics
/// In CI, when something is missing.
#[expect(clippy::print_stderr, reason = "a skipped test says so")]
pub fn can_run(needs: &[Need]) -> bool {
    let missing: Vec<_> = needs.iter().filter(|need| !need.is_met()).collect();
    if missing.is_empty() {
        return true;
    }
    assert!(std::env::var("CI").is_err(), "CI lacks {missing:?}");
    eprintln!("skipped: this machine lacks {missing:?}");
    false
}
