//! A network of its own for an agent: a namespace, joined to the host by one cable that can be cut.

use std::net::Ipv4Addr;
use std::process::Command;

use anyhow::{Context, Result, bail};
use rand::RngExt;

/// A network namespace with one cable to the host. Dropping it removes both.
#[derive(Debug)]
pub struct Namespace {
    name: String,
    net: [u8; 3],
}

impl Namespace {
    /// Makes the namespace and the cable. Addresses are from 198.18.0.0/15, which RFC 2544 keeps for testing networks.
    ///
    /// # Errors
    /// When this is not root on Linux.
    pub fn new() -> Result<Self> {
        let number: u16 = rand::rng().random();
        let made = Self { name: format!("rexec{number:04x}"), net: [198, 18, rand::rng().random()] };
        let (name, outer, inner) = (made.name.as_str(), made.outer(), format!("{}i", made.name));
        run("ip", &["netns", "add", name])?;
        run("ip", &["link", "add", &outer, "type", "veth", "peer", "name", &inner, "netns", name])?;
        run("ip", &["address", "add", &format!("{}/30", made.host()), "dev", &outer])?;
        run("ip", &["link", "set", &outer, "up"])?;
        made.inside("ip", &["address", "add", &format!("{}/30", made.address(2)), "dev", &inner])?;
        made.inside("ip", &["link", "set", &inner, "up"])?;
        made.inside("ip", &["link", "set", "lo", "up"])?;
        Ok(made)
    }

    /// Its name, as `ip netns exec` takes it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The host's address on the cable.
    pub fn host(&self) -> Ipv4Addr {
        self.address(1)
    }

    /// Drops every packet from now on: nobody is told, as when a cable is cut far away.
    ///
    /// # Errors
    /// When nftables refuses.
    pub fn cut(&self) -> Result<()> {
        let rules = "add table inet cut; \
             add chain inet cut in { type filter hook input priority 0; policy drop; }; \
             add chain inet cut out { type filter hook output priority 0; policy drop; }";
        self.inside("nft", &[rules])
    }

    /// Lets packets pass again.
    ///
    /// # Errors
    /// When nothing was cut.
    pub fn mend(&self) -> Result<()> {
        self.inside("nft", &["delete table inet cut"])
    }

    /// Another address for the agent's end, instead of the one it had: what moving to another network does to it.
    ///
    /// # Errors
    /// When the address cannot be changed.
    pub fn move_away(&self) -> Result<()> {
        let inner = format!("{}i", self.name);
        self.inside("ip", &["address", "flush", "dev", &inner])?;
        run("ip", &["address", "flush", "dev", &self.outer()])?;
        // A wider net with the host where it was and the agent elsewhere.
        run("ip", &["address", "add", &format!("{}/24", self.host()), "dev", &self.outer()])?;
        self.inside("ip", &["address", "add", &format!("{}/24", self.address(77)), "dev", &inner])
    }

    fn outer(&self) -> String {
        format!("{}o", self.name)
    }

    fn address(&self, last: u8) -> Ipv4Addr {
        let [a, b, c] = self.net;
        Ipv4Addr::new(a, b, c, last)
    }

    fn inside(&self, program: &str, arguments: &[&str]) -> Result<()> {
        let mut all = vec!["netns", "exec", &self.name, program];
        all.extend(arguments);
        run("ip", &all)
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // The cable goes with either of its ends.
        let _ = run("ip", &["link", "delete", &self.outer()]);
        let _ = run("ip", &["netns", "delete", &self.name]);
    }
}

pub(crate) fn run(program: &str, arguments: &[&str]) -> Result<()> {
    let output = Command::new(program)
        .args(arguments)
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .output()
        .with_context(|| format!("{program} does not start"))?;
    if output.status.success() {
        return Ok(());
    }
    bail!("{program} {}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr).trim())
}
