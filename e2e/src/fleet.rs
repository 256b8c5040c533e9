//! Many agents in one process: each enrols, dials, greets, pings and comes back by the agent's own code, from an address and a socket of its own.
//!
//! What they share is the process: no supervisor, no session host, so a viewer's stream finds nobody. A tunnel that fell silent is left at once
//! instead of being carried beside the dials for the next. A broker sees no difference.

use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use rexec_agent::control_api::ControlApi;
use rexec_agent::plain_text::machine_facts;
use rexec_agent::state::MachineKey;
use rexec_agent::uplink::connect::{self, Target};
use rexec_agent::uplink::dial::{Action, Dialler};
use rexec_agent::uplink::link::{HostSessions, LinkHandle};
use rexec_agent::uplink::tls::{Secured, client_config};
use rexec_agent::uplink::tunnel::{self, Ending, Tunnel, Who};
use rexec_shared::enrol::EnrolRequest;
use rexec_shared::tunnel::UplinkStatus;
use rexec_tunnel::Transport;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep_until, timeout};
use uuid::Uuid;

use crate::installation::Installation;

/// Machines that one join token enrols.
const PER_TOKEN: usize = 1_000;
/// Enrolments under way at once.
const ENROLLING: usize = 4;
/// Agents behind one address, like the machines of a small office.
const PER_ADDRESS: usize = 20;

/// A machine that has enrolled and not dialled yet.
#[derive(Debug, Clone)]
pub struct Recruit {
    machine: Uuid,
    /// `host:port` of its broker.
    addr: String,
    server_name: String,
    tls: Secured,
    source: IpAddr,
}

impl Recruit {
    /// Enrols `count` machines over control's API, with join tokens.
    ///
    /// # Errors
    /// When control refuses one.
    pub fn enrol(installation: &Installation, count: usize) -> Result<Vec<Self>> {
        let tokens = (0..count)
            .step_by(PER_TOKEN)
            .map(|from| installation.join_token_for(PER_TOKEN.min(count - from)));
        let tokens: Vec<String> = tokens.collect::<Result<_>>()?;
        let next = AtomicUsize::new(0);
        let enrol_some = || -> Result<Vec<Self>> {
            let api = ControlApi::new(installation.origin().parse()?);
            let mut enrolled = Vec::new();
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                let Some(token) = tokens.get(number / PER_TOKEN).filter(|_| number < count) else {
                    return Ok(enrolled);
                };
                enrolled.push(Self::enrol_one(&api, token, number)?);
            }
        };
        std::thread::scope(|scope| {
            let workers: Vec<_> = (0..ENROLLING).map(|_| scope.spawn(enrol_some)).collect();
            let all = workers
                .into_iter()
                .map(|worker| worker.join().map_err(|_| anyhow!("an enrolment panicked"))?);
            Ok(all.collect::<Result<Vec<_>>>()?.into_iter().flatten().collect())
        })
    }

    fn enrol_one(api: &ControlApi, token: &str, number: usize) -> Result<Self> {
        let key = MachineKey::generate()?;
        let request = EnrolRequest {
            token: token.into(),
            name: format!("fleet-{number}"),
            csr: key.signing_request()?,
            facts: machine_facts(),
        };
        let answer = api.enrol(&request).context("an enrolment")?;
        let tls = Secured::new(client_config(&answer.tunnel.ca, &answer.certificate, &key)?)?;
        let source = address(number / PER_ADDRESS)?;
        let (addr, server_name) = (answer.tunnel.addr, answer.tunnel.server_name);
        Ok(Self { machine: answer.machine, addr, server_name, tls, source })
    }

    fn target(&self) -> Target<'_> {
        Target {
            addr: &self.addr,
            server_name: &self.server_name,
            tls: &self.tls,
            proxy: None,
            source: Some(self.source),
        }
    }
}

/// An address of this very machine: 127.16.0.1 and what follows it.
fn address(number: usize) -> Result<IpAddr> {
    let [_, b, c, d] = u32::try_from(number)?.to_be_bytes();
    ensure!(b == 0, "no address for {number}");
    Ok(Ipv4Addr::new(127, 16 + c, d, 1).into())
}

/// Agents that live until this is dropped.
#[derive(Debug)]
pub struct Fleet {
    /// Each agent's tunnel, while it stands.
    tunnels: Vec<watch::Receiver<Option<Standing>>>,
    _agents: JoinSet<()>,
}

/// A tunnel that stands.
#[derive(Debug, Clone, Copy)]
pub struct Standing {
    /// Since its welcome.
    pub since: Instant,
    /// What carries it.
    pub transport: Transport,
}

/// How the agents of a fleet dial.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// As agents do: QUIC with a head start, then TCP beside it.
    Raced,
    /// Over QUIC alone.
    Quic,
    /// Over TCP alone, as where UDP is blocked.
    Tcp,
}

impl Fleet {
    /// Starts the agents, with at most `at_once` of them on their way, and waits until every tunnel stands.
    ///
    /// # Errors
    /// When that takes longer than the deadline.
    pub async fn start(recruits: Vec<Recruit>, way: Way, at_once: usize, deadline: Duration) -> Result<Self> {
        let (began, mut agents, mut tunnels) = (Instant::now(), JoinSet::new(), Vec::new());
        for recruit in recruits {
            let (state, seen) = watch::channel(None);
            agents.spawn(Agent { recruit, way, link: link(), state }.live());
            tunnels.push(seen);
            if let Some(earlier) = tunnels.len().checked_sub(at_once).and_then(|at| tunnels.get_mut(at)) {
                timeout(deadline, earlier.wait_for(Option::is_some))
                    .await
                    .context("an agent does not get in")??;
            }
        }
        let mut fleet = Self { tunnels, _agents: agents };
        fleet.until_all(began, deadline.saturating_sub(began.elapsed())).await?;
        Ok(fleet)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.tunnels.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.tunnels.is_empty()
    }

    /// The tunnels that stand.
    pub fn standing(&self) -> Vec<Standing> {
        self.tunnels.iter().filter_map(|tunnel| *tunnel.borrow()).collect()
    }

    /// Waits until every agent has a tunnel that came up after this moment; all of them.
    ///
    /// # Errors
    /// When that takes longer than the deadline.
    pub async fn until_all(&mut self, after: Instant, deadline: Duration) -> Result<Vec<Standing>> {
        let all = async {
            let mut standing = Vec::new();
            for tunnel in &mut self.tunnels {
                let up = tunnel.wait_for(|tunnel| tunnel.is_some_and(|tunnel| tunnel.since > after)).await?;
                standing.extend(*up);
            }
            Ok(standing)
        };
        match timeout(deadline, all).await {
            Ok(all) => all,
            Err(_) => {
                let there = self.standing().into_iter().filter(|tunnel| tunnel.since > after).count();
                Err(anyhow!("{there} of {} agents were there after {deadline:?}", self.len()))
            }
        }
    }
}

/// What an agent's session host would be told and tell: nothing.
fn link() -> LinkHandle {
    let nothing = HostSessions { boot: Uuid::new_v4(), sessions: Vec::new() };
    LinkHandle {
        feed: watch::Sender::new(None),
        status: watch::Sender::new(UplinkStatus::default()),
        sessions: watch::Sender::new(nothing).subscribe(),
    }
}

struct Agent {
    recruit: Recruit,
    way: Way,
    link: LinkHandle,
    state: watch::Sender<Option<Standing>>,
}

impl Agent {
    /// Until it is told to stop for good.
    async fn live(self) {
        let (mut dialler, mut highest) = (Dialler::new(Instant::now()), 0);
        loop {
            match dialler.poll(Instant::now()) {
                Action::WaitUntil(until) => sleep_until(until.into()).await,
                Action::Dial => {
                    let ending = match self.open(highest).await {
                        Ok((tunnel, number)) => {
                            highest = number;
                            dialler.handle_online(Instant::now());
                            self.carry(tunnel).await
                        }
                        Err(ending) => ending,
                    };
                    dialler.handle_end(ending.end, Instant::now(), rand::random());
                }
                Action::Stop(_) | Action::Busy => return,
            }
        }
    }

    /// A tunnel and its number, which is above the one before.
    async fn open(&self, after: u64) -> Result<(Tunnel, u64), Ending> {
        let target = self.recruit.target();
        let dialled = match self.way {
            Way::Raced => connect::dial(target).await,
            Way::Quic => connect::quic::dial(target).await,
            Way::Tcp => connect::tcp::dial(target).await,
        };
        let dialled = dialled.map_err(|error| Ending::of_dial(&error))?;
        let no_host = Path::new("/nonexistent/viewer.sock");
        let who = Who { machine: self.recruit.machine, after };
        let (tunnel, welcome) = tunnel::open(dialled, who, &self.link, no_host).await?;
        Ok((tunnel, welcome.tunnel))
    }

    async fn carry(&self, mut tunnel: Tunnel) -> Ending {
        self.state.send_replace(Some(Standing { since: Instant::now(), transport: tunnel.transport() }));
        let never = watch::Sender::new(0);
        let ending = tunnel.run(&self.link, never.subscribe()).await;
        self.state.send_replace(None);
        ending
    }
}
