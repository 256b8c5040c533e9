//! The uplink: dials the broker, keeps one tunnel, and copies viewers' streams to the session host unread.
//!
//! It holds no truth. Killed at any moment, it takes no session with it: the host respawns it, the broker sees a newer tunnel, viewers resume.
//! Decisions are in [`dial`] and [`heartbeat`]; [`connect`] and [`tunnel`] move bytes between them and the network; [`tls`] says whom it trusts.
//!
//! It lives as long as its host: its standard input is a pipe that the host holds, and ends with the host, however that ends.

use std::time::{Duration, Instant};

use rexec_shared::close::CloseCode;
use rexec_shared::tunnel::{UplinkStatus, Welcome};
use thiserror::Error;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::sleep_until;
use tokio_util::sync::CancellationToken;

use crate::clock::{Skew, unix_ms};
use crate::renewal::{Renewal, RenewalHandle};
use crate::state::{MachineKey, Profile, Registration, StateError};

pub mod connect;
pub mod dial;
pub mod heartbeat;
pub mod link;
#[cfg(target_os = "linux")]
mod network;
mod pump;
pub mod tls;
mod transport;
pub mod tunnel;
mod wake;

use dial::{Action, Dialler, End, StopReason};
use link::{Link, LinkError, LinkHandle};
use tunnel::{Ending, Farewell, Tunnel};

/// How long the uplink may take to say goodbye.
pub const GOODBYE: Duration = Duration::from_secs(2);

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

/// Runs until `shutdown`, or until the session host is gone.
pub async fn run(profile: Profile, shutdown: CancellationToken) -> Result<(), UplinkError> {
    let registration = profile.registration()?.ok_or(UplinkError::NotRegistered)?;
    let key = profile.key()?;
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
        key,
        link: handle,
        renewal: credentials,
        waker,
        wake,
        lingering: JoinSet::new(),
        succeeded: CancellationToken::new(),
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
                            self.carry(tunnel, shutdown).await
                        }
                        Err(ending) => ending,
                    };
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
        let trouble = known.trouble.as_deref().unwrap_or("asking the server for a new one");
        let detail = format!("this machine's certificate has ended: {trouble}");
        drop(known);
        self.tell_state("waiting", &detail);
        true
    }

    async fn open(&self, viewer_socket: &std::path::Path) -> Result<Tunnel, Ending> {
        let (certificate, addr) = {
            let known = self.renewal.credentials.borrow();
            (known.certificate.clone(), known.addr.clone())
        };
        self.tell_state("connecting", &format!("dialling {addr}"));
        let target = &self.registration.tunnel;
        let config = tls::client_config(&target.ca, &certificate, &self.key).and_then(tls::quic_config);
        let config = config.map_err(|error| Ending::of_setup(&error))?;
        let dialled = connect::dial(&addr, &target.server_name, &config)
            .await
            .map_err(|error| Ending::of_dial(&error))?;
        let address = dialled.connection.remote_address();
        let before = unix_ms();
        let (tunnel, welcome) =
            tunnel::open(dialled, self.registration.machine, &self.link, viewer_socket).await?;
        let skew = Skew::measure(welcome.time, before, unix_ms());
        self.tell_online(&welcome, &address.to_string(), skew);
        Ok(tunnel)
    }

    /// Carries the tunnel to its end. One that still stands is carried on beside the dials for the next: the broker drains and its streams
    /// may finish, or it fell silent and may yet speak again.
    async fn carry(&mut self, mut tunnel: Tunnel, shutdown: &CancellationToken) -> Ending {
        let ending = tokio::select! {
            ending = tunnel.run(&self.link, self.wake.clone()) => ending,
            () = shutdown.cancelled() => {
                tunnel.close(CloseCode::Done).await;
                return Ending::of_shutdown();
            }
        };
        // What changed while it stood was the tunnel's to act on, and hastens no dial.
        self.wake.mark_unchanged();
        if ending.stands {
            self.succeeded = CancellationToken::new();
            let farewell = Farewell {
                succeeded: self.succeeded.clone(),
                feed: self.link.feed.clone(),
                is_silent: ending.end == End::Lost,
            };
            self.lingering = JoinSet::new();
            self.lingering.spawn(tunnel.linger(farewell, self.waker.clone()));
        }
        ending
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
        let time = async {
            match until {
                Some(until) => sleep_until(until.into()).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = time => {}
            Ok(()) = self.wake.changed() => dialler.handle_wake(Instant::now()),
            Ok(()) = self.renewal.credentials.changed() => {}
        }
    }

    fn tell_state(&self, state: &str, detail: &str) {
        let certificate_until = Some(self.renewal.credentials.borrow().until);
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
                ..UplinkStatus::default()
            };
            true
        });
    }

    fn tell_online(&self, welcome: &Welcome, address: &str, skew: Skew) {
        let complaint = skew.complaint();
        if let Some(complaint) = &complaint {
            tracing::warn!("{complaint}");
        }
        tracing::info!(tunnel = welcome.tunnel, address, "online");
        self.link.status.send_replace(UplinkStatus {
            state: "online".into(),
            detail: complaint.unwrap_or_default(),
            broker: Some(address.into()),
            tunnel: Some(welcome.tunnel),
            transport: Some("quic".into()),
            rtt_ms: None,
            since: unix_ms(),
            certificate_until: Some(self.renewal.credentials.borrow().until),
        });
    }
}
