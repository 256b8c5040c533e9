//! One tunnel's life: hello and welcome, then presence, feeds, pings and viewers' streams until it ends.
//!
//! ```text
//! uplink                          broker
//!   │ Hello{machine, sessions}      │   first stream, opened by us
//!   │ ─────────────────────────────▶│
//!   │            Welcome{tunnel}    │
//!   │ ◀─────────────────────────────│
//!   │ Presence · TunnelPing         │   presence at each change, at most every 100 ms
//!   │ ◀ Feed · TunnelPong · Drain ▶ │   a tunnel left stands until the next one is welcomed
//!   │ ◀═══ one stream per viewer ═══│   opened by the broker, pumped to viewer.sock
//! ```

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use rexec_shared::PROTOCOL_VERSION;
use rexec_shared::close::CloseCode;
use rexec_shared::frame::Decoder;
use rexec_shared::limits::{FRAME_MAX, TUNNEL_DEAD, TUNNEL_KEEPALIVE};
use rexec_shared::tunnel::{AgentMessage, BrokerMessage, Hello, SessionInfo, Welcome};
use rexec_tunnel::{PathEnd, RecvStream, SendStream, Transport};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::connect::{DialError, Dialled, explain_alert};
use super::dial::End;
use super::heartbeat::{Due, Heartbeat};
use super::link::LinkHandle;
use super::pump;
use super::sample::{SAMPLE_EVERY, Sampler};
use super::tls::TlsError;
use super::transport::send_window;
use crate::plain_text::machine_facts;

/// The broker answers a hello at once; this covers a slow path.
const WELCOME_DEADLINE: Duration = Duration::from_secs(10);
/// Shortest time between two presences: a title that changes with every prompt is not worth more.
const PRESENCE_PAUSE: Duration = Duration::from_millis(100);
/// Longest grace we give streams of a draining broker, whatever it asks.
const LINGER_MAX: Duration = Duration::from_secs(60);
/// How long the goodbye may take to leave.
const GOODBYE_DEADLINE: Duration = Duration::from_secs(1);
/// For a person.
const SILENT: &str = "the broker does not answer";

/// How a tunnel ended, for the dialler and for a person.
#[derive(Debug, PartialEq, Eq)]
pub struct Ending {
    /// For the dialler.
    pub end: End,
    /// For a person.
    pub detail: String,
    /// Whether it ended because the broker would not have our certificate: a renewal may help.
    pub wants_certificate: bool,
    /// Whether the tunnel still stands: [`Tunnel::linger`] carries it on beside the next one.
    pub stands: bool,
    /// The broker at which it ended, as it was dialled; none when no broker had answered.
    pub broker: Option<String>,
}

impl Ending {
    fn new(end: End, detail: impl Into<String>) -> Self {
        Self { end, detail: detail.into(), wants_certificate: false, stands: false, broker: None }
    }

    /// It ended at this broker.
    #[must_use]
    pub fn at(mut self, broker: &str) -> Self {
        self.broker = Some(broker.to_owned());
        self
    }

    /// Nothing could be dialled with what is on disk.
    pub fn of_setup(error: &TlsError) -> Self {
        Self { wants_certificate: true, ..Self::new(End::Unreachable, error.to_string()) }
    }

    /// We were asked to end.
    pub fn of_shutdown() -> Self {
        Self::new(End::Lost, "stopped")
    }

    /// A tunnel that gave way to one which never came up.
    pub fn of_move() -> Self {
        Self::new(End::Lost, "the move to QUIC failed half-way")
    }

    /// A dial that came to nothing.
    pub fn of_dial(error: &DialError) -> Self {
        let wants_certificate = matches!(error, DialError::NotAccepted { .. });
        Self { wants_certificate, ..Self::new(error.end(), error.to_string()) }
    }
}

/// How a tunnel that still stands goes out of use.
#[derive(Debug)]
pub struct Farewell {
    /// Cancelled when the next tunnel has been welcomed.
    pub succeeded: CancellationToken,
    /// The newest feed, for the session host.
    pub feed: watch::Sender<Option<String>>,
    /// Whether it is left because the broker fell silent: nothing on it is worth waiting for once there is another.
    pub is_silent: bool,
}

/// A tunnel that the broker has welcomed.
#[derive(Debug)]
pub struct Tunnel {
    dialled: Dialled,
    send: SendStream,
    recv: RecvStream,
    decoder: Decoder,
    pumps: JoinSet<()>,
    viewer_socket: Arc<PathBuf>,
}

/// Who says hello.
#[derive(Debug, Clone, Copy)]
pub struct Who {
    /// The machine.
    pub machine: Uuid,
    /// The highest number that a tunnel of this machine had, as far as is known.
    pub after: u64,
}

/// Says hello on a fresh connection and waits for the welcome.
pub async fn open(
    dialled: Dialled,
    who: Who,
    link: &LinkHandle,
    viewer_socket: &Path,
) -> Result<(Tunnel, Welcome), Ending> {
    let path = dialled.path.clone();
    match timeout(WELCOME_DEADLINE, greet(dialled, who, link, viewer_socket)).await {
        Ok(opened) => opened,
        Err(_) => {
            path.close_because(CloseCode::TooSlow, "no welcome");
            Err(Ending::new(
                End::Unreachable,
                format!("the broker said nothing within {} s", WELCOME_DEADLINE.as_secs()),
            ))
        }
    }
}

async fn greet(
    dialled: Dialled,
    who: Who,
    link: &LinkHandle,
    viewer_socket: &Path,
) -> Result<(Tunnel, Welcome), Ending> {
    let (mut send, recv) = dialled.path.open_bi().await.map_err(|end| ending_of(&end, End::Unreachable))?;
    // Presence and pings are few and small, and must not wait behind a flood.
    send.set_urgent();
    let viewer_socket = Arc::new(viewer_socket.to_path_buf());
    let mut tunnel =
        Tunnel { dialled, send, recv, decoder: Decoder::new(), pumps: JoinSet::new(), viewer_socket };
    let facts = machine_facts();
    let host = link.sessions.borrow().clone();
    let hello = Hello {
        v: PROTOCOL_VERSION,
        features: Vec::new(),
        machine: who.machine,
        agent_version: facts.agent_version,
        boot: host.boot,
        os: facts.os,
        arch: facts.arch,
        hostname: facts.hostname,
        transport_reason: tunnel.dialled.why.clone(),
        sessions: fitting(host.sessions),
        after: who.after,
    };
    tunnel.tell(&AgentMessage::Hello(hello)).await.map_err(|ending| tunnel.unwelcome(ending))?;
    loop {
        match tunnel.hear().await.map_err(|ending| tunnel.unwelcome(ending))? {
            BrokerMessage::Welcome(welcome) => return Ok((tunnel, welcome)),
            BrokerMessage::Feed { token } => {
                link.feed.send_replace(Some(token));
            }
            BrokerMessage::Drain { .. } | BrokerMessage::Ping { .. } | BrokerMessage::Pong { .. } => {}
        }
    }
}

impl Tunnel {
    /// The broker it leads to, as it was dialled.
    pub fn broker(&self) -> &str {
        &self.dialled.broker
    }

    /// What carries it.
    pub fn transport(&self) -> Transport {
        self.dialled.path.transport()
    }

    /// Carries the tunnel until it ends. `wake` changes when the path should be probed at once.
    pub async fn run(&mut self, link: &LinkHandle, mut wake: watch::Receiver<u64>) -> Ending {
        let mut sessions = link.sessions.clone();
        let mut heartbeat = Heartbeat::new(Instant::now());
        let mut presence_after = Instant::now();
        let mut sampler = Sampler::new();
        let mut sample = interval(SAMPLE_EVERY);
        sample.set_missed_tick_behavior(MissedTickBehavior::Delay);
        wake.mark_unchanged();
        // What changed between hello and now is told.
        sessions.mark_changed();
        loop {
            let now = Instant::now();
            let until = match heartbeat.poll(now, !self.pumps.is_empty()) {
                Due::Dead => return Ending { stands: true, ..Ending::new(End::Lost, SILENT) },
                Due::Ping(t) => match self.tell(&AgentMessage::Ping { t }).await {
                    Ok(()) => continue,
                    Err(ending) => return ending,
                },
                Due::Wait(until) if now < presence_after => until.min(presence_after),
                Due::Wait(until) => until,
            };
            let outcome = tokio::select! {
                heard = hear(&self.dialled, &mut self.recv, &mut self.decoder) => match heard {
                    Ok(message) => self.handle(message, link, &mut heartbeat).await,
                    Err(ending) => Err(ending),
                },
                stream = self.dialled.path.accept_bi() => match stream {
                    Ok(stream) => { self.carry(stream); Ok(()) }
                    Err(end) => Err(ending_of(&end, End::Lost)),
                },
                Ok(()) = sessions.changed(), if now >= presence_after => {
                    presence_after = now + PRESENCE_PAUSE;
                    let list = sessions.borrow_and_update().sessions.clone();
                    self.tell(&AgentMessage::Presence(fitting(list))).await
                }
                Some(_) = self.pumps.join_next(), if !self.pumps.is_empty() => { self.size_window(); Ok(()) }
                _ = sample.tick() => match sampler.sample(Instant::now()) {
                    Some(sample) => self.tell(&AgentMessage::Sample(sample)).await,
                    None => Ok(()),
                },
                Ok(()) = wake.changed() => {
                    self.dialled.follow_route();
                    heartbeat.handle_wake(Instant::now());
                    Ok(())
                }
                () = sleep_until(until.into()) => Ok(()),
            };
            if let Err(ending) = outcome {
                return ending;
            }
        }
    }

    async fn handle(
        &mut self,
        message: BrokerMessage,
        link: &LinkHandle,
        heartbeat: &mut Heartbeat,
    ) -> Result<(), Ending> {
        match message {
            BrokerMessage::Feed { token } => {
                link.feed.send_replace(Some(token));
            }
            BrokerMessage::Ping { t } => self.tell(&AgentMessage::Pong { t }).await?,
            BrokerMessage::Pong { t } => {
                heartbeat.handle_pong(t, Instant::now());
                let rtt_ms = self.dialled.path.rtt().as_secs_f64() * 1000.0;
                link.status.send_modify(|status| status.rtt_ms = Some((rtt_ms * 1000.0).round() / 1000.0));
            }
            BrokerMessage::Drain { elsewhere: true, .. } => {
                let ending = Ending::new(End::Closed(Some(CloseCode::Draining)), "the broker is going away");
                return Err(Ending { stands: true, ..ending });
            }
            // With nowhere else to go the tunnel is carried until the broker closes it; its successor is dialled then.
            BrokerMessage::Drain { elsewhere: false, .. } | BrokerMessage::Welcome(_) => {}
        }
        Ok(())
    }

    /// The broker never opens more than the transport allows it: `STREAMS_PER_TUNNEL`.
    fn carry(&mut self, (send, recv): (SendStream, RecvStream)) {
        let viewer_socket = Arc::clone(&self.viewer_socket);
        self.pumps.spawn(async move { pump::run(send, recv, &viewer_socket).await });
        self.size_window();
    }

    /// Makes room for what the streams that stand may have on their way.
    fn size_window(&self) {
        self.dialled.path.set_send_window(send_window(self.pumps.len()));
    }

    /// Carries on beside the dials for the next tunnel, then lets the streams finish, if this one's end was announced; then closes. When it
    /// ends before there is a next one, `lost` changes: no dial needs to wait any longer.
    pub async fn linger(mut self, farewell: Farewell, lost: watch::Sender<u64>) {
        let _ = timeout(LINGER_MAX, self.carry_on(&farewell)).await;
        if !farewell.succeeded.is_cancelled() {
            lost.send_modify(|count| *count += 1);
        }
        self.close(CloseCode::Done).await;
    }

    /// What a tunnel that is on its way out still does: streams, feeds, pings.
    async fn carry_on(&mut self, farewell: &Farewell) {
        let mut ping = interval(TUNNEL_KEEPALIVE);
        let mut is_succeeded = false;
        while !(is_succeeded && (farewell.is_silent || self.pumps.is_empty())) {
            let went_on = tokio::select! {
                () = farewell.succeeded.cancelled(), if !is_succeeded => { is_succeeded = true; Ok(()) }
                heard = hear(&self.dialled, &mut self.recv, &mut self.decoder) => match heard {
                    Ok(BrokerMessage::Feed { token }) => { farewell.feed.send_replace(Some(token)); Ok(()) }
                    Ok(BrokerMessage::Ping { t }) => self.tell(&AgentMessage::Pong { t }).await,
                    Ok(BrokerMessage::Drain { .. } | BrokerMessage::Welcome(_) | BrokerMessage::Pong { .. }) => Ok(()),
                    Err(ending) => Err(ending),
                },
                stream = self.dialled.path.accept_bi() => match stream {
                    Ok(stream) => { self.carry(stream); Ok(()) }
                    Err(end) => Err(ending_of(&end, End::Lost)),
                },
                Some(_) = self.pumps.join_next(), if !self.pumps.is_empty() => { self.size_window(); Ok(()) }
                _ = ping.tick() => self.tell(&AgentMessage::Ping { t: 0 }).await,
            };
            if went_on.is_err() {
                return;
            }
        }
    }

    /// Closes in order, so that the broker knows at once.
    pub async fn close(mut self, code: CloseCode) {
        self.pumps.abort_all();
        self.dialled.path.close(code);
        let _ = timeout(GOODBYE_DEADLINE, self.dialled.wait_idle()).await;
    }

    fn give_up(&self) -> Ending {
        self.dialled.path.close_because(CloseCode::TunnelLost, "no pong");
        Ending::new(End::Lost, SILENT)
    }

    fn unwelcome(&self, ending: Ending) -> Ending {
        let end = if ending.end == End::Lost { End::Unreachable } else { ending.end };
        self.dialled.path.close_because(CloseCode::Done, "unwelcome");
        Ending { end, ..ending }
    }

    async fn tell(&mut self, message: &AgentMessage) -> Result<(), Ending> {
        let mut out = BytesMut::new();
        message.encode(&mut out);
        match timeout(TUNNEL_DEAD, self.send.write_chunk(out.freeze())).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(ended(&self.dialled)),
            Err(_) => Err(self.give_up()),
        }
    }

    async fn hear(&mut self) -> Result<BrokerMessage, Ending> {
        hear(&self.dialled, &mut self.recv, &mut self.decoder).await
    }
}

/// The broker's next message; what a newer broker says beyond our understanding is skipped. Cancel safe.
async fn hear(
    dialled: &Dialled,
    recv: &mut RecvStream,
    decoder: &mut Decoder,
) -> Result<BrokerMessage, Ending> {
    let broken = |detail: String| {
        dialled.path.close_because(CloseCode::ProtocolError, &detail);
        Ending::new(End::Lost, format!("the broker broke the protocol: {detail}"))
    };
    loop {
        while let Some(frame) = decoder.poll_frame().map_err(|error| broken(error.to_string()))? {
            if let Some(message) = BrokerMessage::decode(&frame).map_err(|error| broken(error.to_string()))? {
                return Ok(message);
            }
        }
        match recv.read_chunk(FRAME_MAX).await {
            Ok(Some(chunk)) => decoder.push(&chunk),
            Ok(None) => return Err(broken("it ended the control stream".into())),
            Err(_) => return Err(ended(dialled)),
        }
    }
}

fn ended(dialled: &Dialled) -> Ending {
    match dialled.path.close_reason() {
        Some(end) => ending_of(&end, End::Lost),
        None => {
            dialled.path.close_because(CloseCode::ProtocolError, "control stream");
            Ending::new(End::Lost, "the broker reset the control stream")
        }
    }
}

/// What a path's end means; `otherwise` when nobody said so in so many words.
fn ending_of(end: &PathEnd, otherwise: End) -> Ending {
    match end {
        PathEnd::Closed(code) => {
            let name = code.map_or("a code of a newer version", CloseCode::name);
            Ending::new(End::Closed(*code), format!("the broker closed the tunnel: {name}"))
        }
        PathEnd::Reset => Ending::new(otherwise, "the broker restarted"),
        PathEnd::TimedOut => Ending::new(otherwise, "the path to the broker died"),
        // After its certificate proved wanting, a TLS 1.3 server refuses only when we already think we are connected.
        PathEnd::Tls(alert) => {
            Ending { end: otherwise, ..Ending::of_dial(&explain_alert("the broker", *alert)) }
        }
        PathEnd::Other(text) => Ending::new(otherwise, text.clone()),
    }
}

/// Sessions as one frame can carry them: titles go first, then the oldest that have ended.
fn fitting(mut sessions: Vec<SessionInfo>) -> Vec<SessionInfo> {
    let fits = |sessions: &[SessionInfo]| {
        serde_json::to_vec(sessions).is_ok_and(|json| json.len() < FRAME_MAX - 1024)
    };
    if fits(&sessions) {
        return sessions;
    }
    sessions.iter_mut().for_each(|session| session.title.clear());
    sessions.sort_by_key(|session| (session.exited.is_some(), session.created));
    while !fits(&sessions) {
        sessions.pop();
    }
    sessions
}

#[cfg(test)]
mod tests {
    use super::*;
    use rexec_shared::message::SessionKind;
    use std::collections::BTreeSet;

    fn session(title: &str) -> SessionInfo {
        SessionInfo {
            session: Uuid::new_v4(),
            kind: SessionKind::Terminal,
            title: title.into(),
            cols: 80,
            rows: 24,
            viewers: 1,
            user: Uuid::new_v4(),
            created: 1,
            exited: None,
        }
    }

    #[test]
    fn a_full_host_with_long_titles_still_fits_into_one_frame() {
        let sessions: Vec<_> = (0..256).map(|_| session(&"𝄞".repeat(128))).collect();
        let ids: BTreeSet<_> = sessions.iter().map(|session| session.session).collect();
        let told = fitting(sessions);
        assert_eq!(
            told.iter().map(|session| session.session).collect::<BTreeSet<_>>(),
            ids,
            "no session is left out"
        );
        let mut out = BytesMut::new();
        AgentMessage::Presence(told).encode(&mut out);
        assert!(out.len() <= FRAME_MAX);
    }

    #[test]
    fn titles_stay_when_they_fit() {
        assert_eq!(fitting(vec![session("vim")])[0].title, "vim");
    }
}
