//! The uplink: dials the broker, keeps one tunnel, and copies viewers' streams to the session host unread.
//!
//! It holds no truth. Killed at any moment, it takes no session with it: the host respawns it, the broker sees a newer tunnel, viewers resume.
//! Decisions are in `brokers`, [`dial`], [`heartbeat`], [`proxy`] and [`upgrade`]; [`connect`] and [`tunnel`] move bytes between them and the network; [`tls`] says whom it trusts.
//!
//! It lives as long as its host: its standard input is a pipe that the host holds, and ends with the host, however that ends.

use std::convert::Infallible;
use std::path::Path;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rexec_shared::close::CloseCode;
use rexec_shared::tunnel::{UplinkStatus, Welcome};
use rexec_tunnel::Transport;
use thiserror::Error;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::sleep_until;
use tokio_util::sync::CancellationToken;

use crate::clock::{Skew, unix_ms};
use crate::renewal::{Renewal, RenewalHandle};
use crate::state::{MachineKey, Profile, Registration, StateError};

mod brokers;
pub mod connect;
pub mod dial;
pub mod heartbeat;
pub mod link;
#[cfg(target_os = "linux")]
mod network;
pub mod proxy;
mod pump;
mod sample;
pub mod tls;
mod transport;
pub mod tunnel;
pub mod upgrade;
mod wake;

use brokers::Choice;
use connect::{Dialled, Target};
use dial::{Action, Dialler, End, StopReason};
use link::{Link, LinkError, LinkHandle};
use proxy::Proxies;
use tls::Secured;
use tunnel::{Ending, Farewell, Tunnel, Who};
use upgrade::{PROBE_FIRST, Upgrade};

/// How long the uplink may take to say goodbye.
pub const GOODBYE: Duration = Duration::from_secs(2);
/// For tests alone: [`Settings::probe_first`] in milliseconds.
const PROBE_MS: &str = "REXEC_TEST_QUIC_PROBE_MS";

/// Why the uplink ended although nobody asked it to.
#[derive(Debug, Error)]
pub enum UplinkError {
    /// What is on disk.
    #[error(transparent)]
    State(#[from] StateError),
    /// Nothing on disk.
    #[error("this machine is not registered")]
    NotRegistered,
    /// The session host.
    #[error(transparent)]
    Link(#[from] LinkError),
}

/// What is not on disk.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The way out, where there is no other.
    pub proxies: Proxies,
    /// When a tunnel over TCP first looks for QUIC again: [`PROBE_FIRST`] outside of tests.
    pub probe_first: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self { proxies: Proxies::default(), probe_first: PROBE_FIRST }
    }
}

impl Settings {
    /// What the environment says. A proxy that cannot be made out is none, and the log says why.
    pub fn from_environment() -> Self {
        let proxies = Proxies::from_environment().unwrap_or_else(|error| {
            tracing::warn!(%error, "no proxy is used");
            Proxies::default()
        });
        let probe_ms = std::env::var(PROBE_MS).ok().and_then(|text| text.parse().ok());
        Self { proxies, probe_first: probe_ms.map_or(PROBE_FIRST, Duration::from_millis) }
    }
}

/// Runs until `shutdown`, or until the session host is gone.
pub async fn run(
    profile: Profile,
    settings: Settings,
    shutdown: CancellationToken,
) -> Result<(), UplinkError> {
    let registration = profile.registration()?.ok_or(UplinkError::NotRegistered)?;
    let (key, machine) = (profile.key()?, registration.machine);
    let (link, handle) = Link::connect(&profile.link_socket()?).await?;
    let (renewal, credentials) = Renewal::new(profile.clone(), registration.clone(), key.clone());
    let mut tasks = JoinSet::new();
    let (waker, wake) = watch::channel(0);
    tasks.spawn(renewal.run(wake.clone()));
    tasks.spawn(wake::watch_for_sleep(waker.clone()));
    #[cfg(target_os = "linux")]
    tasks.spawn(network::watch_for_changes(waker.clone()));
    let uplink = Uplink {
        profile,
        registration,
        settings,
        key,
        link: handle,
        renewal: credentials,
        waker,
        wake,
        lingering: JoinSet::new(),
        succeeded: CancellationToken::new(),
        choice: Choice::new(machine),
        highest: AtomicU64::new(0),
    };
    let ending = shutdown.child_token();
    let mut drive = std::pin::pin!(uplink.drive(&ending));
    tokio::select! {
        result = &mut drive => result,
        error = link.run() => {
            // The host is gone, and its sessions with it: the broker is told, so that nobody waits for them.
            ending.cancel();
            drive.await?;
            if shutdown.is_cancelled() { Ok(()) } else { Err(error.into()) }
        }
    }
}

struct Uplink {
    profile: Profile,
    registration: Registration,
    settings: Settings,
    key: MachineKey,
    link: LinkHandle,
    renewal: RenewalHandle,
    /// Changed when what waits need wait no longer: the machine woke, the network changed, a tunnel that lingered is gone.
    waker: watch::Sender<u64>,
    wake: watch::Receiver<u64>,
    /// The tunnel before this one while it still stands; the next one that is left ends it.
    lingering: JoinSet<()>,
    /// Tells it that its successor is there.
    succeeded: CancellationToken,
    /// Which broker is dialled first.
    choice: Choice,
    /// The highest number that a tunnel of ours had.
    highest: AtomicU64,
}

impl Uplink {
    async fn drive(mut self, shutdown: &CancellationToken) -> Result<(), UplinkError> {
        let viewer_socket = self.profile.viewer_socket()?;
        let mut dialler = Dialler::new(Instant::now());
        while !shutdown.is_cancelled() {
            if self.renewal.credentials.borrow_and_update().is_revoked {
                dialler.handle_stop(StopReason::Revoked);
            }
            if self.lacks_certificate() {
                tokio::select! {
                    () = shutdown.cancelled() => {}
                    Ok(()) = self.renewal.credentials.changed() => {}
                }
                continue;
            }
            match dialler.poll(Instant::now()) {
                Action::Dial => {
                    let opened = tokio::select! {
                        () = shutdown.cancelled() => break,
                        opened = self.open(&viewer_socket) => opened,
                    };
                    let ending = match opened {
                        Ok(tunnel) => {
                            dialler.handle_online(Instant::now());
                            self.succeeded.cancel();
                            self.carry_on(tunnel, &viewer_socket, shutdown).await
                        }
                        Err(ending) => ending,
                    };
                    if let Some(broker) = &ending.broker {
                        self.choice.handle_end(broker, ending.end, Instant::now());
                    }
                    self.conclude(&mut dialler, ending);
                }
                Action::WaitUntil(until) => self.wait(&mut dialler, Some(until), shutdown).await,
                Action::Stop(reason) => {
                    self.tell_state("stopped", reason.explain());
                    self.wait(&mut dialler, None, shutdown).await;
                }
                Action::Busy => break,
            }
        }
        Ok(())
    }

    /// Whether there is nothing to show a broker; says so.
    fn lacks_certificate(&self) -> bool {
        let known = self.renewal.credentials.borrow();
        if known.is_revoked || !known.is_expired(unix_ms()) {
            return false;
        }
        if known.trouble.is_none() {
            // It ended while the machine slept, and nobody has looked at the clock yet. After a failure renewal keeps its own pace.
            self.renewal.wanted.send_modify(|count| *count += 1);
        }
        let trouble = known.trouble.as_deref().unwrap_or("asking the server for a new one");
        let detail = format!("this machine's certificate has ended: {trouble}");
        drop(known);
        self.tell_state("waiting", &detail);
        true
    }

    async fn open(&self, viewer_socket: &Path) -> Result<Tunnel, Ending> {
        let brokers = self.choice.order(&self.renewal.credentials.borrow().brokers, Instant::now());
        self.tell_state("connecting", &format!("dialling {}", brokers.join(", ")));
        let (tls, proxies) = (&self.secured()?, &self.settings.proxies);
        let server_name = &self.registration.tunnel.server_name;
        let dial = |addr: String| async move {
            let proxy = proxies.towards(&addr);
            connect::dial(Target { addr: &addr, server_name, tls, proxy, source: None }).await
        };
        let dialled = connect::dial_any(&brokers, dial).await.map_err(|error| Ending::of_dial(&error))?;
        let broker = dialled.broker.clone();
        self.greet(dialled, viewer_socket).await.map_err(|ending| ending.at(&broker))
    }

    fn secured(&self) -> Result<Secured, Ending> {
        let certificate = self.renewal.credentials.borrow().certificate.clone();
        let ca = &self.registration.tunnel.ca;
        tls::client_config(ca, &certificate, &self.key)
            .and_then(Secured::new)
            .map_err(|error| Ending::of_setup(&error))
    }

    async fn greet(&self, dialled: Dialled, viewer_socket: &Path) -> Result<Tunnel, Ending> {
        let (address, why) = (dialled.address.clone(), dialled.why.clone().map(|why| why.detail));
        let before = unix_ms();
        let who = Who { machine: self.registration.machine, after: self.highest.load(Ordering::Relaxed) };
        let (tunnel, welcome) = tunnel::open(dialled, who, &self.link, viewer_socket).await?;
        self.highest.fetch_max(welcome.tunnel, Ordering::Relaxed);
        let skew = Skew::measure(welcome.time, before, unix_ms());
        self.tell_online(&welcome, tunnel.transport(), &address, why, skew);
        Ok(tunnel)
    }

    /// Carries the tunnel, and those that better paths put in its place, to the end of the last.
    async fn carry_on(
        &mut self,
        mut tunnel: Tunnel,
        viewer_socket: &Path,
        shutdown: &CancellationToken,
    ) -> Ending {
        loop {
            match self.carry(&mut tunnel, viewer_socket, shutdown).await {
                Carried::Bettered(better) => {
                    // Its viewers resume on the new one; it goes as soon as the broker has closed it.
                    self.succeeded.cancel();
                    self.leave(std::mem::replace(&mut tunnel, *better), false);
                    self.succeeded.cancel();
                }
                Carried::Ended(ending) => {
                    // What changed while it stood was the tunnel's to act on, and hastens no dial.
                    self.wake.mark_unchanged();
                    let ending = ending.at(tunnel.broker());
                    if ending.stands {
                        self.leave(tunnel, ending.end == End::Lost);
                    }
                    return ending;
                }
                Carried::Stopped => {
                    tunnel.close(CloseCode::Done).await;
                    return Ending::of_shutdown();
                }
            }
        }
    }

    /// One that still stands is carried on beside the dials for the next: the broker drains and its streams may finish, or it fell silent and
    /// may yet speak again.
    fn leave(&mut self, tunnel: Tunnel, is_silent: bool) {
        self.succeeded = CancellationToken::new();
        let farewell =
            Farewell { succeeded: self.succeeded.clone(), feed: self.link.feed.clone(), is_silent };
        self.lingering = JoinSet::new();
        self.lingering.spawn(tunnel.linger(farewell, self.waker.clone()));
    }

    /// Carries one tunnel, and looks for a better path meanwhile.
    async fn carry(
        &self,
        tunnel: &mut Tunnel,
        viewer_socket: &Path,
        shutdown: &CancellationToken,
    ) -> Carried {
        let mut upgrade = Upgrade::new(self.settings.probe_first);
        upgrade.handle_online(tunnel.transport(), Instant::now(), rand::random());
        let broker = tunnel.broker().to_owned();
        let mut wake = self.wake.clone();
        wake.mark_unchanged();
        let greeting = watch::Sender::new(Greeting::None);
        let mut telling = pin!(self.tell_certificates());
        let mut running = pin!(tunnel.run(&self.link, self.wake.clone()));
        loop {
            let mut look = pin!(self.look(&broker, &mut upgrade, &mut wake, &greeting, viewer_socket));
            tokio::select! {
                biased;
                () = shutdown.cancelled() => return Carried::Stopped,
                never = &mut telling => match never {},
                better = &mut look => if let Some(better) = better {
                    return Carried::Bettered(Box::new(better));
                },
                ending = &mut running => {
                    // The broker has heard the new tunnel's hello, and closes this one before we hear its welcome.
                    let stage = *greeting.borrow();
                    let better = match (stage, ending.end) {
                        (Greeting::UnderWay, End::Closed(Some(CloseCode::Displaced))) => look.await,
                        (Greeting::Failed, End::Closed(Some(CloseCode::Displaced))) => None,
                        _ => return Carried::Ended(ending),
                    };
                    return better.map_or_else(
                        || Carried::Ended(Ending::of_move()),
                        |better| Carried::Bettered(Box::new(better)),
                    );
                }
            }
        }
    }

    /// Waits until it is time to look for QUIC, and looks once. `greeting` tells whether a new tunnel may displace the one that stands.
    async fn look(
        &self,
        broker: &str,
        upgrade: &mut Upgrade,
        wake: &mut watch::Receiver<u64>,
        greeting: &watch::Sender<Greeting>,
        viewer_socket: &Path,
    ) -> Option<Tunnel> {
        while let upgrade::Due::Wait(until) = upgrade.poll(Instant::now()) {
            tokio::select! {
                () = sleep_to(until) => {}
                Ok(()) = wake.changed() => upgrade.handle_wake(Instant::now()),
            }
        }
        let server_name = &self.registration.tunnel.server_name;
        let dialled = match self.secured() {
            Ok(tls) => {
                let target = Target { addr: broker, server_name, tls: &tls, proxy: None, source: None };
                connect::quic::dial(target).await.map_err(|error| error.to_string())
            }
            Err(ending) => Err(ending.detail),
        };
        let opened = match dialled {
            Ok(dialled) => {
                greeting.send_replace(Greeting::UnderWay);
                let greeted = self.greet(dialled, viewer_socket).await;
                greeting.send_replace(Greeting::Failed);
                greeted.map_err(|ending| ending.detail)
            }
            Err(error) => Err(error),
        };
        match opened {
            Ok(tunnel) => {
                tracing::info!("QUIC answers again; the tunnel moves there");
                Some(tunnel)
            }
            Err(error) => {
                tracing::debug!(error, "no QUIC yet");
                upgrade.handle_failed(Instant::now(), rand::random());
                None
            }
        }
    }

    fn conclude(&self, dialler: &mut Dialler, ending: Ending) {
        if ending.wants_certificate {
            self.renewal.wanted.send_modify(|count| *count += 1);
        }
        dialler.handle_end(ending.end, Instant::now(), rand::random());
        tracing::info!(detail = %ending.detail, "no tunnel");
        self.tell_state("waiting", &ending.detail);
    }

    /// Waits for the time, a wake-up, new credentials, or the end.
    async fn wait(&mut self, dialler: &mut Dialler, until: Option<Instant>, shutdown: &CancellationToken) {
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = sleep_to(until) => {}
            Ok(()) = self.wake.changed() => dialler.handle_wake(Instant::now()),
            Ok(()) = self.renewal.credentials.changed() => {}
        }
    }

    fn tell_state(&self, state: &str, detail: &str) {
        let (certificate_until, certificate_trouble) = self.certificate();
        self.link.status.send_if_modified(|status| {
            if status.state == state && status.detail == detail {
                return false;
            }
            if state != "connecting" {
                tracing::info!(state, detail, "uplink");
            }
            *status = UplinkStatus {
                state: state.into(),
                detail: detail.into(),
                since: unix_ms(),
                certificate_until,
                certificate_trouble,
                ..UplinkStatus::default()
            };
            true
        });
    }

    fn tell_online(
        &self,
        welcome: &Welcome,
        transport: Transport,
        address: &str,
        why: Option<String>,
        skew: Skew,
    ) {
        let complaint = skew.complaint();
        if let Some(complaint) = &complaint {
            tracing::warn!("{complaint}");
        }
        let (number, transport) = (welcome.tunnel, transport.name());
        tracing::info!(tunnel = number, address, transport, why, "online");
        let (certificate_until, certificate_trouble) = self.certificate();
        self.link.status.send_replace(UplinkStatus {
            state: "online".into(),
            detail: complaint.unwrap_or_default(),
            broker: Some(address.into()),
            tunnel: Some(number),
            transport: Some(transport.into()),
            why,
            rtt_ms: None,
            since: unix_ms(),
            certificate_until,
            certificate_trouble,
        });
    }

    /// End of the newest certificate, and why it is not newer.
    fn certificate(&self) -> (Option<i64>, Option<String>) {
        let known = self.renewal.credentials.borrow();
        (Some(known.until), known.trouble.clone())
    }

    /// Tells of renewals beside a tunnel that stands.
    async fn tell_certificates(&self) -> Infallible {
        let mut credentials = self.renewal.credentials.clone();
        while credentials.changed().await.is_ok() {
            let (until, trouble) = self.certificate();
            self.link.status.send_modify(|status| {
                status.certificate_until = until;
                status.certificate_trouble = trouble;
            });
        }
        // The machine was removed: the broker says so, too.
        std::future::pending().await
    }
}

/// Whether a tunnel of our own may displace the one that stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Greeting {
    None,
    UnderWay,
    /// It came to nothing here, but the broker may have counted it.
    Failed,
}

/// How carrying a tunnel ended.
enum Carried {
    /// A better path has a tunnel of its own now.
    Bettered(Box<Tunnel>),
    /// It ended, or is of no use any more.
    Ended(Ending),
    /// We are to end.
    Stopped,
}

/// `None` is never.
async fn sleep_to(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time.into()).await,
        None => std::future::pending().await,
    }
}
