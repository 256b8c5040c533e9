//! The fault matrix: what can break, each broken for real in the middle of [`Traffic`], and what that cost.
//!
//! The tests hold each row to its bar; `make faults` prints the rows as a table.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use nix::sys::signal::Signal;

use crate::grounds::Need;
use crate::installation::Options;
use crate::netlab::Netlab;
use crate::netlab::line::Shape;
use crate::process::{family, is_alive, kill_9, signal};
use crate::proxy::Proxy;
use crate::traffic::{Outcome, Traffic};
use crate::viewer::{ViewerClient, terminal};
use crate::{Installation, Machine};

/// A broker that was killed is started again after this.
const BROKER_AWAY: Duration = Duration::from_secs(1);
/// A proxy that ended is started again after this.
const PROXY_AWAY: Duration = Duration::from_millis(1_500);
/// How long the network is cut.
const CUT: Duration = Duration::from_secs(10);
/// How long a laptop's lid stays closed here. What matters is that it is longer than every timeout that could notice it.
const SLEEP: Duration = Duration::from_secs(35);
/// Between two looks at what control says.
const LOOK: Duration = Duration::from_millis(100);
/// How long traffic runs on a bad network.
const BAD: Duration = Duration::from_secs(5);

/// Something that breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Control with its broker is killed, and started again a second later.
    BrokerKilled,
    /// Control with its broker is told to stop, and started again when it has.
    BrokerDrained,
    /// The uplink is killed.
    UplinkKilled,
    /// The agent's network is cut for ten seconds.
    Cut,
    /// The agent's network loses 5 % of the packets each way.
    Loss,
    /// A round trip takes 300 ms.
    LongWay,
    /// The agent gets another address.
    AgentMoves,
    /// The agent's network swallows UDP from one moment to the next, and lets it pass again later.
    UdpBlocked,
    /// The only way out is an HTTP proxy, and that is started anew.
    Proxy,
    /// Uplink and session host stand still for longer than every timeout, then go on.
    Sleep,
    /// Another session of the machine floods its viewer.
    Flood,
    /// Another viewer of the session stops reading.
    SlowViewer,
}

impl Fault {
    /// All of them, in the order of the table.
    pub const ALL: [Self; 12] = [
        Self::BrokerKilled,
        Self::BrokerDrained,
        Self::UplinkKilled,
        Self::Cut,
        Self::Loss,
        Self::LongWay,
        Self::AgentMoves,
        Self::UdpBlocked,
        Self::Proxy,
        Self::Sleep,
        Self::Flood,
        Self::SlowViewer,
    ];

    /// What it is called in the table.
    pub const fn name(self) -> &'static str {
        match self {
            Self::BrokerKilled => "broker kill -9, back 1 s later",
            Self::BrokerDrained => "broker drained (SIGTERM) and started again",
            Self::UplinkKilled => "uplink kill -9",
            Self::Cut => "agent's network cut for 10 s",
            Self::Loss => "5 % loss each way",
            Self::LongWay => "300 ms round trip",
            Self::AgentMoves => "agent's address changes",
            Self::UdpBlocked => "UDP blocked, and allowed again",
            Self::Proxy => "only an HTTP proxy, back 1.5 s later",
            Self::Sleep => "agent asleep for 35 s",
            Self::Flood => "another session floods",
            Self::SlowViewer => "another viewer stops reading",
        }
    }

    /// Longest time until typing works again (DESIGN §11), counted from when what was broken is whole again.
    pub const fn bar(self) -> Duration {
        match self {
            Self::BrokerKilled | Self::BrokerDrained | Self::UplinkKilled | Self::AgentMoves => {
                Duration::from_secs(2)
            }
            Self::Cut | Self::Sleep | Self::Flood | Self::SlowViewer => Duration::from_secs(1),
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
            Self::Cut | Self::Loss | Self::LongWay | Self::AgentMoves => NETWORK,
            Self::UdpBlocked => WALLED,
            Self::Proxy => PROXIED,
            Self::BrokerKilled
            | Self::BrokerDrained
            | Self::UplinkKilled
            | Self::Sleep
            | Self::Flood
            | Self::SlowViewer => &[],
        }
    }
}

/// A row of the table.
#[derive(Debug, Clone)]
pub struct Row {
    /// What was broken.
    pub fault: Fault,
    /// What became of the bytes.
    pub outcome: Outcome,
    /// Time until typing worked again, from when what was broken was whole again.
    pub back: Duration,
}

/// Breaks it in the middle of traffic.
///
/// # Errors
/// When the ground fails, a shell dies, or the traffic never goes on.
pub async fn run(fault: Fault) -> Result<Row> {
    let network = fault.needs().contains(&Need::Namespaces).then(Netlab::new).transpose()?;
    let host = network.as_ref().map_or(Options::default().host, |network| IpAddr::V4(network.host()));
    let mut installation = Installation::start_with(Options { host, ..Options::default() })?;
    let mut machine = Machine::start_in(&installation, "m", network.as_ref().map(Netlab::name))?;
    // Lives until everything has come.
    let mut proxy = match &network {
        Some(network) if fault == Fault::Proxy => Some(behind_a_proxy(network, &installation, &mut machine)?),
        _ => None,
    };
    let mut traffic = Traffic::start(&installation, &machine).await?;
    let shells = machine.shells()?;
    let back = Scene { fault, network: network.as_ref(), machine: &machine, proxy: proxy.as_mut() }
        .play(&mut installation, &mut traffic)
        .await?;
    ensure!(shells.iter().all(|pid| is_alive(*pid)), "a shell died");
    let outcome = traffic.finish().await?;
    drop((machine, proxy, installation));
    Ok(Row { fault, outcome, back })
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
    machine: &'a Machine,
    proxy: Option<&'a mut Proxy>,
}

impl Scene<'_> {
    async fn play(mut self, installation: &mut Installation, traffic: &mut Traffic) -> Result<Duration> {
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
            Fault::UdpBlocked => return self.without_udp(traffic).await,
            Fault::Proxy => {
                let proxy = self.proxy.take().ok_or_else(|| anyhow::anyhow!("no proxy"))?;
                proxy.stop()?;
                traffic.type_some()?;
                // Meanwhile a dial finds nobody there, and must not wait for UDP's deadline until it tries again.
                traffic.drive_for(PROXY_AWAY).await?;
                proxy.run()?;
            }
            Fault::Sleep => self.sleep(traffic).await?,
            Fault::Flood => return self.flood(installation, traffic).await,
            Fault::SlowViewer => return self.slow_viewer(installation, traffic).await,
        }
        traffic.until_back().await
    }

    fn network(&self) -> Result<&Netlab> {
        self.network.ok_or_else(|| anyhow::anyhow!("{:?} needs a network", self.fault))
    }

    async fn on_a_bad_network(&self, shape: Shape, traffic: &mut Traffic) -> Result<()> {
        self.network()?.shape(shape);
        traffic.drive_for(BAD).await?;
        traffic.type_some()
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
        let began = Instant::now();
        while self.machine.seen_by_control()?["transport"] != transport {
            ensure!(began.elapsed() < Duration::from_secs(40), "the tunnel is not over {transport}");
            traffic.drive_for(LOOK).await?;
        }
        Ok(())
    }

    /// Stops every process of the agent, its shells too, as a closed lid does.
    async fn sleep(&self, traffic: &mut Traffic) -> Result<()> {
        let all = family(self.machine.host_pid()?);
        all.iter().try_for_each(|pid| signal(*pid, Signal::SIGSTOP))?;
        traffic.type_some()?;
        traffic.drive_for(SLEEP).await?;
        all.iter().rev().try_for_each(|pid| signal(*pid, Signal::SIGCONT))
    }

    async fn flood(&self, installation: &Installation, traffic: &mut Traffic) -> Result<Duration> {
        let yes = Some(vec!["/usr/bin/yes".into(), "the quick brown fox jumps over the lazy dog".into()]);
        let mut flood = ViewerClient::open(installation.owner(), self.machine.id(), terminal(yes)).await?;
        let drain = tokio::spawn(async move {
            while flood.next().await.is_ok() {
                flood.take_output();
            }
        });
        traffic.drive_for(BAD).await?;
        traffic.type_some()?;
        let back = traffic.until_back().await;
        ensure!(!drain.is_finished(), "the flood ended by itself");
        drain.abort();
        back
    }

    async fn slow_viewer(&self, installation: &Installation, traffic: &mut Traffic) -> Result<Duration> {
        let session = traffic.viewer().session();
        let stuck = ViewerClient::attach(installation.owner(), self.machine.id(), session).await?;
        traffic.drive_for(BAD).await?;
        traffic.type_some()?;
        let back = traffic.until_back().await;
        drop(stuck);
        back
    }
}
