//! The fault matrix: what can break, each broken for real in the middle of [`Traffic`], and what that cost.
//!
//! The tests hold each row to its bar; `make faults` prints the rows as a table. A new row is a [`Fault`], its name, bar and needs here, and what breaks it
//! in `Scene::play`.

mod bystander;
mod disk;
mod neighbour;
mod row;
mod slow_viewer;
mod upgrade;

use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;

pub use self::row::{Promise, Row, told};
use crate::clock::{set_forward, set_running_forward};
use crate::grounds::Need;
use crate::installation::Options;
use crate::netlab::Netlab;
use crate::netlab::line::Shape;
use crate::process::{family, is_alive, kill_9, signal};
use crate::proxy::Proxy;
use crate::traffic::Traffic;
use crate::{Broker, Installation, Machine};

/// A broker that was killed is started again after this.
const BROKER_AWAY: Duration = Duration::from_secs(1);
/// A proxy that ended is started again after this.
const PROXY_AWAY: Duration = Duration::from_millis(1_500);
/// How long control is away.
const CONTROL_AWAY: Duration = Duration::from_secs(60);
/// How long the network is cut.
const CUT: Duration = Duration::from_secs(10);
/// How long a laptop's lid stays closed here, and how much later it is by the clock on the wall when it is opened. The first is longer than every
/// timeout that could notice it.
const AN_HOUR: [Duration; 2] = [Duration::from_secs(35), Duration::from_secs(3_600)];
/// The first is as long as it takes until the broker has given the tunnel up, the second longer than a certificate's life.
const A_DAY: [Duration; 2] = [Duration::from_secs(8), Duration::from_secs(25 * 3_600)];
/// How long traffic runs on a bad network.
const BAD: Duration = Duration::from_secs(5);
/// Control's disk: the agent it serves, and some room.
const CONTROL_DISK: u64 = 128 * 1024 * 1024;
/// An agent's disk.
const AGENT_DISK: u64 = 1024 * 1024;

/// Something that breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Control with its broker is killed, and started again a second later.
    BrokerKilled,
    /// Control with its broker is told to stop, and started again when it has.
    BrokerDrained,
    /// The uplink is killed.
    UplinkKilled,
    /// The agent's binary is replaced, and the uplink ended.
    UplinkUpgraded,
    /// The agent's network is cut for ten seconds.
    Cut,
    /// The agent's network loses 5 % of the packets each way.
    Loss,
    /// A round trip takes 300 ms.
    LongWay,
    /// The agent gets another address.
    AgentMoves,
    /// The viewer gets another address.
    ViewerMoves,
    /// The agent's network swallows UDP from one moment to the next, and lets it pass again later.
    UdpBlocked,
    /// The only way out is an HTTP proxy, and that is started anew.
    Proxy,
    /// Uplink and session host stand still for longer than every timeout, then go on, an hour later by the clock.
    Sleep,
    /// The same for a day: the certificate has ended meanwhile.
    SleepDay,
    /// The disk that the agent keeps its state and log on is full, and the uplink is killed.
    AgentDiskFull,
    /// The disk that control keeps its database and log on is full.
    ControlDiskFull,
    /// Another session of the machine floods its viewer.
    Flood,
    /// Another viewer stops reading a session at full speed.
    SlowViewer,
    /// Eight megabytes are pasted into another session.
    Paste,
    /// Another machine floods its viewer over a megabit a second.
    SlowUplink,
    /// Another machine's agent is killed in the middle of a flood.
    AgentDies,
    /// Control is killed, and started again a minute later; a broker stands alone.
    ControlDown,
}

/// What the emulated network is between.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Behind {
    Agent,
    Viewer,
    OtherAgent,
}

impl Fault {
    /// All of them, in the order of the table.
    pub const ALL: &[Self] = &[
        Self::BrokerKilled,
        Self::BrokerDrained,
        Self::UplinkKilled,
        Self::UplinkUpgraded,
        Self::Cut,
        Self::Loss,
        Self::LongWay,
        Self::AgentMoves,
        Self::ViewerMoves,
        Self::UdpBlocked,
        Self::Proxy,
        Self::Sleep,
        Self::SleepDay,
        Self::AgentDiskFull,
        Self::ControlDiskFull,
        Self::Flood,
        Self::SlowViewer,
        Self::Paste,
        Self::SlowUplink,
        Self::AgentDies,
        Self::ControlDown,
    ];

    /// What it is called in the table.
    pub const fn name(self) -> &'static str {
        match self {
            Self::BrokerKilled => "broker kill -9, back 1 s later",
            Self::BrokerDrained => "broker drained (SIGTERM) and started again",
            Self::UplinkKilled => "uplink kill -9",
            Self::UplinkUpgraded => "agent's binary replaced, uplink ended",
            Self::Cut => "agent's network cut for 10 s",
            Self::Loss => "5 % loss each way",
            Self::LongWay => "300 ms round trip",
            Self::AgentMoves => "agent's address changes",
            Self::ViewerMoves => "viewer's address changes",
            Self::UdpBlocked => "UDP blocked, and allowed again",
            Self::Proxy => "only an HTTP proxy, back 1.5 s later",
            Self::Sleep => "agent asleep for an hour",
            Self::SleepDay => "agent asleep for a day, its certificate ends",
            Self::AgentDiskFull => "agent's disk full, uplink kill -9",
            Self::ControlDiskFull => "control's disk full",
            Self::Flood => "another session floods",
            Self::SlowViewer => "another viewer stops reading a flood",
            Self::Paste => "8 MB pasted into another session",
            Self::SlowUplink => "another agent floods 1 Mbit/s",
            Self::AgentDies => "another agent kill -9 while it floods",
            Self::ControlDown => "control down for a minute",
        }
    }

    /// Longest time until typing works again (DESIGN §11), counted from when what was broken is whole again.
    pub const fn bar(self) -> Duration {
        match self {
            Self::BrokerKilled
            | Self::BrokerDrained
            | Self::UplinkKilled
            | Self::UplinkUpgraded
            | Self::AgentMoves
            | Self::ViewerMoves
            | Self::SleepDay
            | Self::AgentDiskFull => Duration::from_secs(2),
            Self::Cut
            | Self::Sleep
            | Self::ControlDiskFull
            | Self::Flood
            | Self::SlowViewer
            | Self::Paste
            | Self::SlowUplink
            | Self::AgentDies
            | Self::ControlDown => Duration::from_secs(1),
            // Nobody says that packets vanish: five seconds until that is known, and a new dial.
            Self::UdpBlocked => Duration::from_secs(8),
            Self::Proxy => Duration::from_secs(3),
            // Nothing is ever broken here; a fifth of the typing takes its round trips.
            Self::Loss | Self::LongWay => Duration::from_secs(8),
        }
    }

    /// What the ground must have.
    pub const fn needs(self) -> &'static [Need] {
        const PROXIED: &[Need] = &[
            Need::Root,
            Need::Namespaces,
            Need::Tun,
            Need::Program("ip"),
            Need::Program("nft"),
            Need::Program("tinyproxy"),
        ];
        const WALLED: &[Need] = PROXIED.split_at(5).0;
        const NETWORK: &[Need] = PROXIED.split_at(4).0;
        match self {
            Self::Cut
            | Self::Loss
            | Self::LongWay
            | Self::AgentMoves
            | Self::ViewerMoves
            | Self::SlowUplink => NETWORK,
            Self::UdpBlocked => WALLED,
            Self::Proxy => PROXIED,
            Self::AgentDiskFull | Self::ControlDiskFull => &[Need::Mounts],
            Self::SleepDay => &[Need::Clocks],
            Self::BrokerKilled
            | Self::BrokerDrained
            | Self::UplinkKilled
            | Self::UplinkUpgraded
            | Self::Sleep
            | Self::Flood
            | Self::SlowViewer
            | Self::Paste
            | Self::AgentDies
            | Self::ControlDown => &[],
        }
    }

    fn network_is_behind(self, whom: Behind) -> bool {
        let behind = if self == Self::ViewerMoves {
            Behind::Viewer
        } else if self == Self::SlowUplink {
            Behind::OtherAgent
        } else {
            Behind::Agent
        };
        behind == whom
    }
}

/// Breaks it in the middle of traffic.
///
/// # Errors
/// When the ground fails, a shell dies, or the traffic never goes on.
pub async fn run(fault: Fault) -> Result<Row> {
    let network = fault.needs().contains(&Need::Namespaces).then(Netlab::new).transpose()?;
    let behind = |whom| network.as_ref().filter(|_| fault.network_is_behind(whom)).map(Netlab::name);
    let host = network.as_ref().map_or(Options::default().host, |network| IpAddr::V4(network.host()));
    let disk_bytes = (fault == Fault::ControlDiskFull).then_some(CONTROL_DISK);
    let embedded_broker = fault != Fault::ControlDown;
    let options = Options { host, disk_bytes, embedded_broker, ..Options::default() };
    let mut installation = Installation::start_with(options)?;
    let broker = (!embedded_broker).then(|| Broker::start(&installation, "alone")).transpose()?;
    let mut machine = machine(fault, &installation, behind(Behind::Agent))?;
    // Lives until everything has come.
    let mut proxy = match &network {
        Some(network) if fault == Fault::Proxy => Some(behind_a_proxy(network, &installation, &mut machine)?),
        _ => None,
    };
    let mut traffic = Traffic::start_from(behind(Behind::Viewer), &installation, &machine).await?;
    let shells = machine.shells()?;
    let other = behind(Behind::OtherAgent);
    let (network, proxy_seen) = (network.as_ref(), proxy.as_mut());
    let mut scene = Scene { fault, network, other, machine: &machine, proxy: proxy_seen, also: Vec::new() };
    let back = scene.play(&mut installation, &mut traffic).await?;
    let also = scene.also;
    ensure!(shells.iter().all(|pid| is_alive(*pid)), "a shell died");
    let outcome = traffic.finish().await?;
    drop((machine, proxy, broker, installation));
    Ok(Row { fault, outcome, back, also })
}

/// The machine that the traffic is on.
fn machine(fault: Fault, installation: &Installation, network: Option<&str>) -> Result<Machine> {
    let mut machine = Machine::unregistered(installation, "m", network)?;
    if fault == Fault::AgentDiskFull {
        machine.put_on_disk(AGENT_DISK)?;
    } else if fault == Fault::UplinkUpgraded {
        machine.install_agent()?;
    }
    machine.join(installation)?;
    Ok(machine)
}

/// Typing goes on while control is away, on the stream that stood before, and is looked at before it is back.
async fn without_control(installation: &mut Installation, traffic: &mut Traffic) -> Result<Duration> {
    let streams = traffic.viewer().streams();
    installation.kill_control()?;
    traffic.type_some()?;
    traffic.drive_for(CONTROL_AWAY).await?;
    traffic.type_some()?;
    let back = traffic.until_back().await?;
    ensure!(traffic.viewer().streams() == streams, "the stream was interrupted");
    installation.start_control()?;
    Ok(back)
}

/// Leaves the agent no way but a proxy, and starts it anew there.
fn behind_a_proxy(network: &Netlab, installation: &Installation, machine: &mut Machine) -> Result<Proxy> {
    let proxy = Proxy::start(network.host(), installation.scratch())?;
    machine.stop_agent()?;
    network.block_udp()?;
    network.block_tcp_to(installation.tunnel_port())?;
    machine.set("HTTPS_PROXY", &proxy.url());
    machine.start_agent()?;
    machine.wait_online(true)?;
    Ok(proxy)
}

struct Scene<'a> {
    fault: Fault,
    network: Option<&'a Netlab>,
    /// The network that another machine is to be in.
    other: Option<&'a str>,
    machine: &'a Machine,
    proxy: Option<&'a mut Proxy>,
    /// What is promised besides.
    also: Vec<Promise>,
}

impl Scene<'_> {
    async fn play(&mut self, installation: &mut Installation, traffic: &mut Traffic) -> Result<Duration> {
        match self.fault {
            Fault::BrokerKilled => {
                installation.kill_control()?;
                traffic.type_some()?;
                tokio::time::sleep(BROKER_AWAY).await;
                installation.start_control()?;
            }
            Fault::BrokerDrained => {
                traffic.type_some()?;
                installation.stop_control()?;
                installation.start_control()?;
            }
            Fault::UplinkKilled => {
                kill_9(self.machine.uplink_pid()?)?;
                traffic.type_some()?;
            }
            Fault::UplinkUpgraded => return self.upgrade(traffic).await,
            Fault::Cut => {
                let network = self.network()?;
                network.cut();
                traffic.type_some()?;
                traffic.drive_for(CUT).await?;
                network.mend();
            }
            Fault::Loss => {
                self.on_a_bad_network(Shape::half_of(Duration::from_millis(20), 0.05), traffic).await?
            }
            Fault::LongWay => {
                self.on_a_bad_network(Shape::half_of(Duration::from_millis(300), 0.0), traffic).await?;
            }
            Fault::AgentMoves => {
                self.network()?.move_to(77)?;
                traffic.type_some()?;
            }
            Fault::ViewerMoves => return self.viewer_moves(traffic).await,
            Fault::UdpBlocked => return self.without_udp(traffic).await,
            Fault::Proxy => {
                let proxy = self.proxy.take().context("no proxy")?;
                proxy.stop()?;
                traffic.type_some()?;
                // Meanwhile a dial finds nobody there, and must not wait for UDP's deadline until it tries again.
                traffic.drive_for(PROXY_AWAY).await?;
                proxy.run()?;
            }
            Fault::Sleep => return self.sleep(AN_HOUR, installation, traffic).await,
            Fault::SleepDay => return self.sleep(A_DAY, installation, traffic).await,
            Fault::AgentDiskFull => return self.agents_disk_is_full(installation, traffic).await,
            Fault::ControlDiskFull => return self.controls_disk_is_full(installation, traffic).await,
            Fault::Flood | Fault::SlowViewer | Fault::Paste | Fault::SlowUplink | Fault::AgentDies => {
                return self.harm_somebody_else(installation, traffic).await;
            }
            Fault::ControlDown => return without_control(installation, traffic).await,
        }
        traffic.until_back().await
    }

    fn network(&self) -> Result<&Netlab> {
        self.network.with_context(|| format!("{:?} needs a network", self.fault))
    }

    async fn on_a_bad_network(&self, shape: Shape, traffic: &mut Traffic) -> Result<()> {
        self.network()?.shape(shape);
        traffic.drive_for(BAD).await?;
        traffic.type_some()
    }

    /// Its address is gone, and with it, unnoticed by either end, its connection. Its system tells it that there is another one.
    async fn viewer_moves(&mut self, traffic: &mut Traffic) -> Result<Duration> {
        let before = traffic.viewer().streams();
        // The round trip is known from here on.
        traffic.drive_for(Duration::from_secs(1)).await?;
        self.network()?.move_to(77)?;
        traffic.viewer().network_changed();
        traffic.type_some()?;
        let back = traffic.until_back().await?;
        let streams = traffic.viewer().streams() - before;
        self.also.push(Promise::of("streams it took", 1, streams, streams == 1));
        Ok(back)
    }

    /// Typing works again over TCP; then UDP is allowed, and the tunnel goes back to QUIC by itself.
    async fn without_udp(&self, traffic: &mut Traffic) -> Result<Duration> {
        let network = self.network()?;
        network.block_udp()?;
        traffic.type_some()?;
        let back = traffic.until_back().await?;
        self.until_over("tcp", traffic).await?;
        network.allow_udp()?;
        traffic.type_some()?;
        self.until_over("quic", traffic).await?;
        Ok(back)
    }

    /// Waits until control sees the machine's tunnel over this transport.
    async fn until_over(&self, transport: &str, traffic: &mut Traffic) -> Result<()> {
        let seen = || self.machine.seen_by_control().is_ok_and(|seen| seen["transport"] == transport);
        let reached = traffic.drive_until(Duration::from_secs(40), seen).await;
        reached.with_context(|| format!("a tunnel over {transport}"))
    }

    /// Stops every process of the agent, its shells too, as a closed lid does, and lets time pass by everybody's clock on the wall.
    async fn sleep(
        &mut self,
        [stopped, passed]: [Duration; 2],
        installation: &Installation,
        traffic: &mut Traffic,
    ) -> Result<Duration> {
        let all = family(self.machine.host_pid()?);
        let agent = [self.machine.host_pid()?, self.machine.uplink_pid()?];
        all.iter().try_for_each(|pid| signal(*pid, Signal::SIGSTOP))?;
        let passes = Need::Clocks.is_met();
        if passes {
            set_forward(&agent, passed)?;
            set_running_forward(installation.control_pid()?, passed)?;
        }
        traffic.type_some()?;
        traffic.drive_for(stopped).await?;
        all.iter().rev().try_for_each(|pid| signal(*pid, Signal::SIGCONT))?;
        let back = traffic.until_back().await?;
        if passes {
            self.the_agent_says("the machine slept", traffic).await;
        }
        if self.fault == Fault::SleepDay {
            self.the_agent_says("the certificate was renewed", traffic).await;
        }
        Ok(back)
    }

    async fn the_agent_says(&mut self, words: &str, traffic: &mut Traffic) {
        let is_said = traffic.drive_until(BAD, || self.machine.log().contains(words)).await.is_ok();
        self.also.push(Promise::of(
            "the agent's log",
            words,
            if is_said { words } else { "silence" },
            is_said,
        ));
    }
}
