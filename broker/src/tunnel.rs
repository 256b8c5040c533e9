//! One tunnel: its agent's control stream, and the registry's orders for it.
//!
//! The task ends when the agent leaves, breaks the protocol, or the registry orders it closed; the registry is told in each case, a panic
//! included (THREATS MA-12).

use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use rexec_shared::PROTOCOL_VERSION;
use rexec_shared::broker_link::MachineSample;
use rexec_shared::close::CloseCode;
use rexec_shared::limits::{AGENT_TEXT_MAX, SESSIONS_MAX};
use rexec_shared::pki::MachineName;
use rexec_shared::tunnel::{AgentMessage, BrokerMessage, Hello, SessionInfo, Welcome};
use rexec_tunnel::{Path, PathEnd};
use thiserror::Error;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep_until, timeout};

use crate::carrier::Carrier;
use crate::control_stream::{ControlError, ControlStream};
use crate::limits::{CLOSE_DEADLINE, PRESENCE_INTERVAL, RTT_INTERVAL};
use crate::liveness::{Due, Liveness, Signs};
use crate::registry::{Leaving, Orders, Registry, unix_ms};

/// Why a tunnel ended.
#[derive(Debug, Error)]
pub(crate) enum TunnelEnd {
    /// The registry said so.
    #[error("closed by the broker: {0}")]
    Ordered(CloseCode),
    /// The agent closed it, or its path died.
    #[error("{0}")]
    Lost(#[from] PathEnd),
    /// It has been silent, and did not answer when asked.
    #[error("the agent fell silent")]
    Silent,
    /// The control stream broke.
    #[error(transparent)]
    Control(#[from] ControlError),
    /// The agent said hello twice.
    #[error("the agent said hello twice")]
    SecondHello,
    /// A defect of ours.
    #[error("the tunnel's task panicked")]
    Panicked,
}

impl TunnelEnd {
    fn close_code(&self) -> CloseCode {
        match self {
            Self::Ordered(code) => *code,
            Self::Lost(PathEnd::Closed(code)) => code.unwrap_or(CloseCode::Done),
            Self::Lost(_) | Self::Silent => CloseCode::TunnelLost,
            Self::Control(error) => error.close_code(),
            Self::SecondHello => CloseCode::ProtocolError,
            Self::Panicked => CloseCode::Internal,
        }
    }
}

/// What a tunnel's task owns.
#[derive(Debug)]
pub(crate) struct Tunnel {
    pub(crate) name: MachineName,
    pub(crate) number: u64,
    pub(crate) address: String,
    /// The broker's name, for `Welcome`.
    pub(crate) broker: Arc<str>,
    pub(crate) path: Path,
    pub(crate) carrier: Carrier,
    pub(crate) control: ControlStream,
    pub(crate) orders: watch::Receiver<Orders>,
    pub(crate) registry: Registry,
    pub(crate) presence: Presence,
}

impl Tunnel {
    /// Serves the tunnel until it ends.
    pub(crate) async fn run(mut self) {
        let begun = Instant::now();
        let end = AssertUnwindSafe(self.serve()).catch_unwind().await;
        let end = end.unwrap_or(Err(TunnelEnd::Panicked)).err().unwrap_or(TunnelEnd::Panicked);
        let code = end.close_code();
        self.path.close(code);
        self.registry.down(self.name.machine, self.number, end.to_string()).await;
        tracing::info!(
            machine = %self.name.machine, org = %self.name.org, tunnel = self.number, address = self.address,
            code = code.name(), reason = %end, lasted_s = begun.elapsed().as_secs(), "tunnel ended"
        );
        // Who ends the broker waits for this task: the agent is to hear why.
        timeout(CLOSE_DEADLINE, self.path.gone()).await.ok();
    }

    /// Never returns `Ok`: a tunnel ends for a reason.
    async fn serve(&mut self) -> Result<std::convert::Infallible, TunnelEnd> {
        self.welcome().await?;
        let mut sent = Sent::default();
        self.obey(&mut sent).await?;
        let path = self.path.clone();
        let mut closed = pin!(path.closed());
        let mut measure = interval_at(Instant::now() + RTT_INTERVAL, RTT_INTERVAL);
        measure.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut liveness = Liveness::new(Instant::now().into(), self.path.received());
        loop {
            let silent = self.silent_until(&mut liveness).await?;
            tokio::select! {
                biased;
                changed = self.orders.changed() => {
                    changed.map_err(|_| TunnelEnd::Ordered(self.orders.borrow().close.unwrap_or(CloseCode::Internal)))?;
                    self.obey(&mut sent).await?;
                }
                end = &mut closed => return Err(end.into()),
                message = self.control.next() => self.handle_message(message?).await?,
                () = self.presence.due() => self.tell_presence().await,
                _ = measure.tick() => self.measure().await?,
                () = sleep_until(silent) => {}
            }
        }
    }

    /// Asks an agent that has been silent, and ends the tunnel of one that did not answer; otherwise says when to look again.
    async fn silent_until(&mut self, liveness: &mut Liveness) -> Result<Instant, TunnelEnd> {
        loop {
            match liveness.poll(Instant::now().into(), self.signs()) {
                Due::Wait(until) => return Ok(until.into()),
                Due::Ask => self.say(&BrokerMessage::Ping { t: unix_ms() }).await?,
                Due::Lost => return Err(TunnelEnd::Silent),
            }
        }
    }

    fn signs(&self) -> Signs {
        Signs { received: self.path.received(), rtt: self.path.rtt(), busy: self.carrier.lanes() > 0 }
    }

    /// Sends a message; an order to close does not wait for an agent that leaves it unread.
    async fn say(&mut self, message: &BrokerMessage) -> Result<(), TunnelEnd> {
        // A receiver of its own, so that other orders stay to be seen by `obey`.
        let mut orders = self.orders.clone();
        tokio::select! {
            biased;
            sent = self.control.send(message) => Ok(sent?),
            ordered = orders.wait_for(|orders| orders.close.is_some()) => {
                let code = ordered.ok().and_then(|orders| orders.close).unwrap_or(CloseCode::Internal);
                Err(TunnelEnd::Ordered(code))
            }
        }
    }

    async fn welcome(&mut self) -> Result<(), TunnelEnd> {
        let welcome = Welcome {
            v: PROTOCOL_VERSION,
            features: Vec::new(),
            tunnel: self.number,
            broker: self.broker.to_string(),
            time: unix_ms(),
        };
        self.say(&BrokerMessage::Welcome(welcome)).await
    }

    async fn obey(&mut self, sent: &mut Sent) -> Result<(), TunnelEnd> {
        let orders = self.orders.borrow_and_update().clone();
        if let Some(code) = orders.close {
            return Err(TunnelEnd::Ordered(code));
        }
        if let Some(feed) =
            orders.feed.filter(|feed| !sent.feed.as_ref().is_some_and(|old| Arc::ptr_eq(old, feed)))
        {
            self.say(&BrokerMessage::Feed { token: feed.to_string() }).await?;
            sent.feed = Some(feed);
        }
        if let Some(Leaving { grace, elsewhere }) = orders.drain.filter(|_| !sent.drain) {
            let grace_ms = u64::try_from(grace.as_millis()).unwrap_or(u64::MAX);
            self.say(&BrokerMessage::Drain { grace_ms, elsewhere }).await?;
            sent.drain = true;
        }
        Ok(())
    }

    async fn handle_message(&mut self, message: AgentMessage) -> Result<(), TunnelEnd> {
        #[cfg(test)]
        assert_ne!(message, AgentMessage::Ping { t: crate::panics::PING }, "a test asked for it");
        match message {
            AgentMessage::Hello(_) => return Err(TunnelEnd::SecondHello),
            AgentMessage::Presence(sessions) => self.presence.handle_sessions(sessions),
            AgentMessage::Sample(sample) => {
                let MachineName { machine, .. } = self.name;
                self.registry.sample(MachineSample { machine, tunnel: self.number, sample }).await;
            }
            AgentMessage::Ping { t } => {
                self.presence.measured = true;
                self.say(&BrokerMessage::Pong { t }).await?;
            }
            // Its arrival has given the path a fresh round trip and `Liveness` a sign of life, which is all that was wanted.
            AgentMessage::Pong { .. } => {}
        }
        Ok(())
    }

    /// Looks at the path's round trip. It is only as fresh as our last packet that needed an acknowledgement, so an agent that does not
    /// ping is pinged.
    async fn measure(&mut self) -> Result<(), TunnelEnd> {
        if !std::mem::take(&mut self.presence.measured) {
            self.say(&BrokerMessage::Ping { t: unix_ms() }).await?;
        }
        self.presence.handle_rtt(self.path.rtt());
        Ok(())
    }

    async fn tell_presence(&mut self) {
        self.presence.told(Instant::now());
        let Presence { sessions, rtt, .. } = &self.presence;
        let rtt_ms = rtt.map(|rtt| rtt.as_secs_f64() * 1_000.0);
        self.registry.presence(self.name.machine, self.number, sessions.clone(), rtt_ms).await;
    }
}

/// What the agent was sent already.
#[derive(Debug, Default)]
struct Sent {
    feed: Option<Arc<str>>,
    drain: bool,
}

/// What is known of the machine's sessions and round trip, and when control is told next.
#[derive(Debug)]
pub(crate) struct Presence {
    sessions: Vec<SessionInfo>,
    rtt: Option<Duration>,
    /// Something changed since control was told.
    changed: bool,
    not_before: Instant,
    /// The agent pinged since the round trip was looked at.
    measured: bool,
}

impl Presence {
    pub(crate) fn new(sessions: Vec<SessionInfo>) -> Self {
        Self { sessions, rtt: None, changed: false, not_before: Instant::now(), measured: false }
    }

    fn handle_sessions(&mut self, mut sessions: Vec<SessionInfo>) {
        sessions.truncate(SESSIONS_MAX);
        self.sessions = sessions;
        self.changed = true;
    }

    fn handle_rtt(&mut self, rtt: Duration) {
        if is_notable(self.rtt, rtt) {
            self.rtt = Some(rtt);
            self.changed = true;
        }
    }

    fn told(&mut self, now: Instant) {
        self.changed = false;
        self.not_before = now + PRESENCE_INTERVAL;
    }

    /// Completes when control is to be told.
    async fn due(&self) {
        if self.changed {
            sleep_until(self.not_before).await;
        } else {
            std::future::pending().await
        }
    }
}

/// A round trip is worth telling when it moved by half a millisecond and by a fifth.
fn is_notable(told: Option<Duration>, now: Duration) -> bool {
    told.is_none_or(|told| {
        let moved = told.abs_diff(now);
        moved >= Duration::from_micros(500) && moved >= told / 5
    })
}

/// The agent's own words about itself, cut to a bearable length.
pub(crate) fn clip(mut hello: Hello) -> Hello {
    let reason = hello.transport_reason.as_mut().map(|reason| &mut reason.detail);
    let facts = [&mut hello.agent_version, &mut hello.os, &mut hello.arch, &mut hello.hostname];
    for text in facts.into_iter().chain(reason) {
        if let Some((end, _)) = text.char_indices().nth(AGENT_TEXT_MAX) {
            text.truncate(end);
        }
    }
    hello.sessions.truncate(SESSIONS_MAX);
    hello
}

#[cfg(test)]
mod tests {
    use super::*;
    use rexec_shared::tunnel::{TransportCause, TransportReason};

    #[test]
    fn only_a_notable_change_of_the_round_trip_is_told() {
        let ms = Duration::from_millis;
        assert!(is_notable(None, ms(1)));
        assert!(!is_notable(Some(ms(100)), ms(110)), "a tenth");
        assert!(is_notable(Some(ms(100)), ms(130)));
        assert!(!is_notable(Some(Duration::from_micros(100)), Duration::from_micros(400)), "microseconds");
    }

    #[test]
    fn an_agents_words_about_itself_are_cut_between_characters() {
        let hello = Hello {
            v: 1,
            features: Vec::new(),
            machine: uuid::Uuid::nil(),
            agent_version: "1".into(),
            boot: uuid::Uuid::nil(),
            os: "linux".into(),
            arch: "x86_64".into(),
            hostname: "ü".repeat(1_000),
            transport_reason: Some(TransportReason {
                cause: TransportCause::UdpSilent,
                detail: "ü".repeat(1_000),
            }),
            sessions: Vec::new(),
            after: 0,
        };
        let clipped = clip(hello);
        assert_eq!(clipped.hostname.chars().count(), AGENT_TEXT_MAX);
        assert_eq!(clipped.transport_reason.unwrap().detail.chars().count(), AGENT_TEXT_MAX);
        assert_eq!(clipped.os, "linux");
    }
}
