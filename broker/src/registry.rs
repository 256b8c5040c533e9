//! The registry: one task that owns which machine has which tunnel, and which streams live on it.
//!
//! Tunnels and viewers talk to it through [`Registry`], a bounded queue; control's orders come in and events for control go out here, too.
//! What it decides stands in [`state`], which knows no task and no clock.

mod outbox;
mod state;
mod waiting;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rexec_shared::broker_link::{FromBroker, MachineSample, ToBroker};
use rexec_shared::close::CloseCode;
use rexec_shared::ticket::{Now, PublicKey};
use rexec_shared::tunnel::SessionInfo;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use self::state::State;
pub(crate) use self::state::{Attach, Grant, Leaving, NewTunnel, Orders, Registered};
use crate::carrier::Carrier;
use crate::counters::Counters;
use crate::limits::{COMMANDS_MAX, FLUSH_DEADLINE};

/// How often control is told what machines use.
const SAMPLES_TOLD: Duration = Duration::from_secs(1);
/// Machines of one such message.
const SAMPLES_AT_ONCE: usize = 256;

enum Command {
    Up(Box<NewTunnel<Carrier>>, oneshot::Sender<Result<Registered, CloseCode>>),
    Down { machine: Uuid, number: u64, reason: String },
    Presence { machine: Uuid, number: u64, sessions: Vec<SessionInfo>, rtt_ms: Option<f64> },
    Sample(MachineSample),
    Attach(Box<Attach<Carrier>>),
    Report(FromBroker),
    Retell,
    Others(bool),
    Drain { grace: Duration, elsewhere: bool },
    ClosePart(CloseCode, u32, oneshot::Sender<usize>),
}

/// A handle to the registry.
#[derive(Debug, Clone)]
pub(crate) struct Registry {
    commands: mpsc::Sender<Command>,
}

/// The two ends of the link to control.
#[derive(Debug)]
pub(crate) struct ControlLink {
    pub(crate) events: mpsc::Sender<FromBroker>,
    pub(crate) orders: mpsc::Receiver<ToBroker>,
}

impl Registry {
    /// Starts the task; it ends when `stop` is cancelled, and then tells control what is left to tell.
    pub(crate) fn start(
        key: PublicKey,
        link: ControlLink,
        counters: Arc<Counters>,
        stop: CancellationToken,
        tasks: &TaskTracker,
    ) -> Self {
        let (commands, receiver) = mpsc::channel(COMMANDS_MAX);
        let samples = BTreeMap::new();
        tasks.spawn(Task { state: State::new(key), counters, samples }.run(receiver, link, stop));
        Self { commands }
    }

    /// Whether its task is there.
    pub(crate) fn is_running(&self) -> bool {
        !self.commands.is_closed()
    }

    /// Makes a tunnel the newest of its machine.
    pub(crate) async fn up(&self, tunnel: NewTunnel<Carrier>) -> Result<Registered, CloseCode> {
        let (reply, answer) = oneshot::channel();
        self.send(Command::Up(Box::new(tunnel), reply)).await;
        answer.await.unwrap_or(Err(CloseCode::Internal))
    }

    /// A tunnel has ended.
    pub(crate) async fn down(&self, machine: Uuid, number: u64, reason: String) {
        self.send(Command::Down { machine, number, reason }).await;
    }

    /// A machine's sessions or round trip changed.
    pub(crate) async fn presence(
        &self,
        machine: Uuid,
        number: u64,
        sessions: Vec<SessionInfo>,
        rtt_ms: Option<f64>,
    ) {
        self.send(Command::Presence { machine, number, sessions, rtt_ms }).await;
    }

    /// A machine said what it uses.
    pub(crate) async fn sample(&self, sample: MachineSample) {
        self.send(Command::Sample(sample)).await;
    }

    /// A viewer asks for a stream; the answer comes through the request.
    pub(crate) async fn attach(&self, attach: Attach<Carrier>) {
        self.send(Command::Attach(Box::new(attach))).await;
    }

    /// Something for control's audit.
    pub(crate) async fn report(&self, event: FromBroker) {
        self.send(Command::Report(event)).await;
    }

    /// Tells control all that stands, as if for the first time.
    pub(crate) async fn retell(&self) {
        self.send(Command::Retell).await;
    }

    /// Whether there are other brokers.
    pub(crate) async fn others(&self, others: bool) {
        self.send(Command::Others(others)).await;
    }

    /// Refuses what is new from here on and tells the agents how long streams have, and whether other brokers take them.
    pub(crate) async fn drain(&self, grace: Duration, elsewhere: bool) {
        self.send(Command::Drain { grace, elsewhere }).await;
    }

    /// Closes one of so many parts of the tunnels with their streams, and says how many tunnels are left.
    pub(crate) async fn close_part(&self, code: CloseCode, parts: u32) -> usize {
        let (reply, answer) = oneshot::channel();
        self.send(Command::ClosePart(code, parts, reply)).await;
        answer.await.unwrap_or_default()
    }

    /// Waits for room. A registry that has ended takes nothing: its tunnels and streams are closed already.
    async fn send(&self, command: Command) {
        if self.commands.send(command).await.is_err() {
            tracing::debug!("the registry has ended");
        }
    }
}

struct Task {
    state: State<Carrier>,
    counters: Arc<Counters>,
    /// What machines said they use since control was told: the newest of each.
    samples: BTreeMap<Uuid, MachineSample>,
}

impl Task {
    async fn run(
        mut self,
        mut commands: mpsc::Receiver<Command>,
        link: ControlLink,
        stop: CancellationToken,
    ) {
        let ControlLink { events, mut orders } = link;
        let mut orders_open = true;
        let mut samples_due = interval(SAMPLES_TOLD);
        samples_due.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let deadline = self.state.poll_timeout();
            let event_waits = self.state.has_event() && !events.is_closed();
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                order = orders.recv(), if orders_open => match order {
                    Some(order) => self.handle_order(order),
                    None => orders_open = false,
                },
                () = wait_until(deadline) => self.state.handle_timeout(Instant::now()),
                permit = events.reserve(), if event_waits => {
                    if let (Ok(permit), Some(event)) = (permit, self.state.poll_event()) {
                        permit.send(event);
                    }
                }
                _ = samples_due.tick() => self.tell_samples(&events),
                command = commands.recv() => match command {
                    Some(command) => self.handle_command(command),
                    None => break,
                },
            }
            self.count();
        }
        self.state.close_part(CloseCode::Draining, 1);
        self.count();
        if timeout(FLUSH_DEADLINE, self.flush(&events)).await.is_err() {
            tracing::debug!("control did not take the last events");
        }
    }

    /// Tells control what machines use. A control that is away or behind is told less, and nothing is kept for it.
    fn tell_samples(&mut self, events: &mpsc::Sender<FromBroker>) {
        let samples: Vec<MachineSample> = std::mem::take(&mut self.samples).into_values().collect();
        for part in samples.chunks(SAMPLES_AT_ONCE) {
            if events.try_send(FromBroker::Samples { samples: part.to_vec() }).is_err() {
                return;
            }
        }
    }

    /// Tells control all that waits.
    async fn flush(&mut self, events: &mpsc::Sender<FromBroker>) {
        while let Some(event) = self.state.poll_event() {
            if events.send(event).await.is_err() {
                return;
            }
        }
    }

    fn handle_command(&mut self, command: Command) {
        match command {
            Command::Up(tunnel, reply) => {
                let machine = tunnel.name.machine;
                // The handshake ran out of time meanwhile: nobody else would take this tunnel down again.
                if let Err(Ok(registered)) = reply.send(self.state.handle_up(*tunnel, now())) {
                    self.state.handle_down(machine, registered.number, CloseCode::TooSlow.name().to_owned());
                }
            }
            Command::Down { machine, number, reason } => self.state.handle_down(machine, number, reason),
            Command::Presence { machine, number, sessions, rtt_ms } => {
                self.state.handle_presence(machine, number, sessions, rtt_ms);
            }
            Command::Sample(sample) => drop(self.samples.insert(sample.machine, sample)),
            Command::Attach(attach) => self.state.handle_attach(*attach, now()),
            Command::Report(event) => self.state.report(event),
            Command::Retell => self.state.handle_retell(),
            Command::Others(others) => self.state.handle_others(others),
            Command::Drain { grace, elsewhere } => self.state.handle_drain(grace, elsewhere),
            Command::ClosePart(code, parts, reply) => {
                self.state.close_part(code, parts);
                // Who asked may have been stopped meanwhile.
                reply.send(self.state.tunnels()).ok();
            }
        }
    }

    fn handle_order(&mut self, order: ToBroker) {
        match order {
            ToBroker::Feed { org, token } => {
                if let Err(error) = self.state.handle_feed(org, &token, Instant::now()) {
                    tracing::warn!(%org, %error, "revocation feed not taken");
                }
            }
            ToBroker::Disconnect { machine, code, up_to } => {
                self.state.handle_disconnect(machine, code, up_to, Instant::now());
            }
        }
    }

    fn count(&mut self) {
        self.counters.tunnels.set(self.state.tunnels());
        self.counters.held.set(self.state.held());
        self.counters.events_lost.add(self.state.take_lost_events());
    }
}

async fn wait_until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
        None => std::future::pending().await,
    }
}

/// The moment, for decisions.
pub(crate) fn now() -> Now {
    Now { unix_ms: unix_ms(), instant: Instant::now() }
}

/// Unix milliseconds.
pub(crate) fn unix_ms() -> u64 {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX)
}
