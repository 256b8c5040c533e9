//! A bad network: a namespace joined to the host by a pair of TUN devices, with a forwarder between them that delays, jitters, loses, slows
//! and cuts packets, each direction as told, while it runs.
//!
//! ```text
//!  host ── TUN ──▶ ┌─ Line: down ─┐ ──▶ TUN ── namespace
//!       ◀── TUN ── └─ Line: up ───┘ ◀── TUN ──
//! ```
//!
//! Many kernels lack netem; this needs only `/dev/net/tun` and root. It carries whole IP packets, so TCP, UDP and address changes alike. What
//! becomes of a packet is decided by [`line::Line`], which has no clock and no dice of its own; a thread for each direction obeys.

pub mod line;

use std::net::Ipv4Addr;
use std::os::fd::AsFd;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sched::{CloneFlags, setns};
use nix::sys::time::TimeSpec;
use rand::RngExt;
use tun_rs::{DeviceBuilder, SyncDevice};

use self::line::{Line, Shape};

/// Largest packet: Ethernet's, so that path MTU discovery finds what it finds on most paths.
const MTU: u16 = 1_500;
/// How long a forwarder sleeps at most before it looks whether it is to end.
const LOOK: Duration = Duration::from_millis(50);

/// Which way packets go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// From the namespace to the host.
    Up,
    /// From the host to the namespace.
    Down,
}

/// The network. Dropping it removes namespace and devices.
#[derive(Debug)]
pub struct Netlab {
    name: String,
    net: [u8; 3],
    up: Arc<Mutex<Line>>,
    down: Arc<Mutex<Line>>,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Netlab {
    /// Makes a perfect network. Addresses are from 198.18.0.0/15, which RFC 2544 keeps for testing networks.
    ///
    /// # Errors
    /// When this is not root on Linux, or there is no `/dev/net/tun`.
    pub fn new() -> Result<Self> {
        let number: u16 = rand::rng().random();
        let mut made = Self {
            name: format!("rexeclab{number:04x}"),
            net: [198, 19, rand::rng().random()],
            up: Arc::default(),
            down: Arc::default(),
            stop: Arc::default(),
            threads: Vec::new(),
        };
        run("ip", &["netns", "add", &made.name])?;
        let (outer, inner) = (format!("{}o", made.name), format!("{}i", made.name));
        let host = device(&outer)?;
        let guest = within(&made.name, || device(&inner))?;
        run("ip", &["address", "add", &format!("{}/24", made.host()), "dev", &outer])?;
        run("ip", &["link", "set", &outer, "up"])?;
        made.inside("ip", &["address", "add", &format!("{}/24", made.address(2)), "dev", &inner])?;
        made.inside("ip", &["link", "set", &inner, "up"])?;
        made.inside("ip", &["link", "set", "lo", "up"])?;
        made.inside("ip", &["route", "add", "default", "via", &made.host().to_string()])?;
        let (host, guest) = (Arc::new(host), Arc::new(guest));
        made.forward(guest.clone(), host.clone(), made.up.clone())?;
        made.forward(host, guest, made.down.clone())?;
        Ok(made)
    }

    /// The namespace's name, as `ip netns exec` takes it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The host's address on the link.
    pub fn host(&self) -> Ipv4Addr {
        self.address(1)
    }

    /// The namespace's first address.
    pub fn guest(&self) -> Ipv4Addr {
        self.address(2)
    }

    /// Shapes one direction from now on. Packets under way keep the fate they had.
    pub fn shape_one(&self, direction: Direction, shape: Shape) {
        let line = match direction {
            Direction::Up => &self.up,
            Direction::Down => &self.down,
        };
        lock(line).shape = shape;
    }

    /// Shapes both directions alike. A round trip of `rtt` has `rtt / 2` each way.
    pub fn shape(&self, shape: Shape) {
        self.shape_one(Direction::Up, shape);
        self.shape_one(Direction::Down, shape);
    }

    /// Loses every packet from now on, and those under way: nobody is told, as when a cable is cut far away.
    pub fn cut(&self) {
        for line in [&self.up, &self.down] {
            lock(line).cut();
        }
    }

    /// Lets packets pass again.
    pub fn mend(&self) {
        for line in [&self.up, &self.down] {
            lock(line).mend();
        }
    }

    /// Drops UDP in the namespace, as many an office does.
    ///
    /// # Errors
    /// When nftables refuses.
    pub fn block_udp(&self) -> Result<()> {
        let rules = "add table inet noudp; \
             add chain inet noudp in { type filter hook input priority 0; }; \
             add rule inet noudp in meta l4proto udp drop; \
             add chain inet noudp out { type filter hook output priority 0; }; \
             add rule inet noudp out meta l4proto udp drop";
        self.inside("nft", &[rules])
    }

    /// Drops TCP from the namespace to this port, as a wall does that wants a proxy used.
    ///
    /// # Errors
    /// When nftables refuses.
    pub fn block_tcp_to(&self, port: u16) -> Result<()> {
        let rules = format!(
            "add table inet wall; \
             add chain inet wall out {{ type filter hook output priority 0; }}; \
             add rule inet wall out tcp dport {port} drop"
        );
        self.inside("nft", &[&rules])
    }

    /// Lets UDP pass again.
    ///
    /// # Errors
    /// When it was not blocked.
    pub fn allow_udp(&self) -> Result<()> {
        self.inside("nft", &["delete table inet noudp"])
    }

    /// Gives the namespace another address instead of the one it had.
    ///
    /// # Errors
    /// When the address cannot be changed.
    pub fn move_to(&self, last: u8) -> Result<()> {
        let inner = format!("{}i", self.name);
        self.inside("ip", &["address", "flush", "dev", &inner])?;
        self.inside("ip", &["address", "add", &format!("{}/24", self.address(last)), "dev", &inner])?;
        self.inside("ip", &["route", "replace", "default", "via", &self.host().to_string()])
    }

    /// Does something inside, for example makes a socket, which works from anywhere after.
    ///
    /// # Errors
    /// Those of `work`, and when the namespace cannot be entered.
    pub fn enter<T: Send>(&self, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        within(&self.name, work)
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

    fn forward(&mut self, from: Arc<SyncDevice>, to: Arc<SyncDevice>, line: Arc<Mutex<Line>>) -> Result<()> {
        let stop = self.stop.clone();
        let thread = std::thread::Builder::new().name("netlab".into());
        self.threads.push(thread.spawn(move || pump(&from, &to, &line, &stop))?);
        Ok(())
    }
}

impl Drop for Netlab {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
        let _ = run("ip", &["netns", "delete", &self.name]);
    }
}

/// A lock whose holder panicked is as good as another here.
fn lock(line: &Mutex<Line>) -> std::sync::MutexGuard<'_, Line> {
    line.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn device(name: &str) -> Result<SyncDevice> {
    let device = DeviceBuilder::new().name(name).mtu(MTU).build_sync().context("a TUN device")?;
    device.set_nonblocking(true)?;
    Ok(device)
}

/// Does something in a namespace, in a thread that goes there; sockets and devices made there work from anywhere after.
pub(crate) fn within<T: Send>(namespace: &str, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    let path = format!("/run/netns/{namespace}");
    let inside = move || {
        setns(std::fs::File::open(&path)?, CloneFlags::CLONE_NEWNET).context("entering the namespace")?;
        work()
    };
    std::thread::scope(|scope| scope.spawn(inside).join())
        .unwrap_or_else(|_| bail!("the thread in the namespace panicked"))
}

/// Carries packets one way until told to stop.
fn pump(from: &SyncDevice, to: &SyncDevice, line: &Mutex<Line>, stop: &AtomicBool) {
    let mut buffer = vec![0; usize::from(MTU) + 64];
    while !stop.load(Ordering::Relaxed) {
        wait(from, lock(line).poll_timeout());
        while let Ok(length) = from.recv(&mut buffer) {
            let packet = buffer.get(..length).unwrap_or_default();
            let mut rng = rand::rng();
            lock(line).handle_packet(packet, Instant::now(), rng.random(), rng.random());
        }
        loop {
            let Some(packet) = lock(line).poll_packet(Instant::now()) else { break };
            // A full device drops, as a full queue does.
            let _ = to.send(&packet);
        }
    }
}

/// Waits until a packet comes, or the next one is to be let go.
fn wait(from: &SyncDevice, due: Option<Instant>) {
    let pause = due.map_or(LOOK, |due| due.saturating_duration_since(Instant::now()).min(LOOK));
    let mut fds = [PollFd::new(from.as_fd(), PollFlags::POLLIN)];
    let _ = ppoll(&mut fds, Some(TimeSpec::from_duration(pause)), None);
}

fn run(program: &str, arguments: &[&str]) -> Result<()> {
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

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;

    use super::*;
    use crate::grounds::{Need, can_run};

    /// Sends numbered datagrams through the network and back, one after the other; the round trips of those that came.
    fn ping(lab: &Netlab, count: u8) -> Result<Vec<Duration>> {
        let outside = UdpSocket::bind((lab.host(), 0))?;
        let inside = lab.enter(|| Ok(UdpSocket::bind("0.0.0.0:0")?))?;
        inside.connect(outside.local_addr()?)?;
        inside.set_read_timeout(Some(Duration::from_millis(80)))?;
        outside.set_read_timeout(Some(Duration::from_millis(80)))?;
        let mut trips = Vec::new();
        for number in 0..count {
            let sent = Instant::now();
            inside.send(&[number])?;
            let mut got = [0; 1];
            if let Ok((_, from)) = outside.recv_from(&mut got) {
                outside.send_to(&got, from)?;
            }
            if inside.recv(&mut got).is_ok() && got == [number] {
                trips.push(sent.elapsed());
            }
        }
        Ok(trips)
    }

    #[test]
    fn a_network_delays_loses_and_cuts_as_told_while_it_runs() -> Result<()> {
        if !can_run(&[Need::Namespaces, Need::Tun, Need::Program("ip")]) {
            return Ok(());
        }
        let lab = Netlab::new()?;
        let trips = ping(&lab, 50)?;
        assert_eq!(trips.len(), 50, "a perfect network loses nothing");
        let rtt = Duration::from_millis(30);
        lab.shape(Shape::half_of(rtt, 0.0));
        let mut trips = ping(&lab, 20)?;
        trips.sort();
        let median = trips.get(10).copied().context("no answers")?;
        assert!(median >= rtt && median < rtt + Duration::from_millis(15), "{median:?}");
        lab.shape(Shape::half_of(Duration::ZERO, 0.3));
        let answered = ping(&lab, 40)?.len();
        assert!((5..38).contains(&answered), "{answered} of 40 at 30 % loss each way");
        lab.shape(Shape::default());
        lab.cut();
        assert_eq!(ping(&lab, 3)?.len(), 0);
        lab.mend();
        assert_eq!(ping(&lab, 10)?.len(), 10);
        Ok(())
    }
}
