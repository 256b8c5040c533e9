//! Which machines are online, as the brokers tell it.
//!
//! What is told carries the tunnel's number, and only the newest tunnel of a machine counts: an old tunnel's end, arriving
//! after the newer one's beginning, touches nothing. Numbers, times and addresses are in the database; sessions and round trips,
//! which change by the second, only in memory.

mod owed;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use rexec_shared::broker_link::{FromBroker, MachineSample};
use rexec_shared::close::CloseCode;
use rexec_shared::limits::{AGENT_TEXT_MAX, SESSIONS_MAX};
use rexec_shared::ticket::Capability;
use rexec_shared::tunnel::{SessionInfo, TransportReason};
use sea_orm::sea_query::{Cond, Expr};
use sea_orm::{ColumnTrait as _, DbErr, EntityTrait as _, QueryFilter as _, QuerySelect as _};
use tokio::sync::mpsc;
use uuid::Uuid;

use self::owed::Owed;
use crate::api::machines;
use crate::app::App;
use crate::audit::{self, Actor, Deed};
use crate::auth::rate::{Budgets, Rate};
use crate::db;
use crate::entity::{MachineKind, machine};
use crate::events::Event;
use crate::samples::{NewSamples, Point};
use crate::scope::Scope;
use crate::words;

/// What is known of machines that are online and not written down.
#[derive(Debug, Default)]
pub struct Live {
    machines: RwLock<HashMap<Uuid, LiveMachine>>,
}

/// The fleeting part of one machine.
#[derive(Debug, Clone, Default)]
pub struct LiveMachine {
    organisation: Uuid,
    tunnel: i64,
    /// Sessions alive, or ended a moment ago.
    pub sessions: Vec<SessionInfo>,
    /// Round trip between broker and agent, milliseconds.
    pub rtt_ms: Option<f64>,
}

impl Live {
    /// What is known of `machine`, if anything.
    pub fn of(&self, machine: Uuid) -> Option<LiveMachine> {
        self.machines.read().unwrap_or_else(PoisonError::into_inner).get(&machine).cloned()
    }

    /// Machines online.
    pub fn count(&self) -> usize {
        self.machines.read().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// A tunnel of `machine` stands, unless a newer one is known.
    fn handle_up(&self, machine: Uuid, up: LiveMachine) {
        let mut machines = self.machines.write().unwrap_or_else(PoisonError::into_inner);
        let known = machines.entry(machine).or_default();
        if known.tunnel <= up.tunnel {
            *known = LiveMachine { rtt_ms: up.rtt_ms.or(known.rtt_ms), ..up };
        }
    }

    /// Takes what `tunnel` says of `machine`, if it is the one that stands; whose machine it is then.
    fn learn(
        &self,
        machine: Uuid,
        tunnel: i64,
        sessions: Vec<SessionInfo>,
        rtt_ms: Option<f64>,
    ) -> Option<Uuid> {
        let mut machines = self.machines.write().unwrap_or_else(PoisonError::into_inner);
        let known = machines.get_mut(&machine).filter(|known| known.tunnel == tunnel)?;
        known.sessions = sessions;
        known.rtt_ms = rtt_ms.or(known.rtt_ms);
        Some(known.organisation)
    }

    /// Whose machine it is, if this tunnel of its stands.
    fn whose(&self, machine: Uuid, tunnel: i64) -> Option<Uuid> {
        let machines = self.machines.read().unwrap_or_else(PoisonError::into_inner);
        machines.get(&machine).filter(|known| known.tunnel == tunnel).map(|known| known.organisation)
    }

    /// Forgets `machine`, unless a newer tunnel than `tunnel` has spoken.
    fn forget(&self, machine: Uuid, tunnel: i64) {
        let mut machines = self.machines.write().unwrap_or_else(PoisonError::into_inner);
        if machines.get(&machine).is_some_and(|known| known.tunnel <= tunnel) {
            machines.remove(&machine);
        }
    }
}

/// After a start no tunnel stands: whatever the database still says is from before.
///
/// # Errors
/// When the database fails.
pub async fn nobody_is_online(db: &sea_orm::DatabaseConnection) -> Result<(), DbErr> {
    machine::Entity::update_many()
        .col_expr(machine::Column::Tunnel, Expr::value(Option::<i64>::None))
        .filter(machine::Column::Tunnel.is_not_null())
        .exec(db)
        .await
        .map(drop)
}

/// Refused dials that are written down: an agent that comes again and again is one story, not an endless one.
#[derive(Debug)]
pub struct Refusals {
    budgets: Mutex<Budgets<Uuid>>,
}

impl Default for Refusals {
    fn default() -> Self {
        let rate = Rate { burst: 5, every: Duration::from_secs(600) };
        Self { budgets: Mutex::new(Budgets::new(rate, 16_384)) }
    }
}

impl Refusals {
    fn admits(&self, machine: Uuid) -> bool {
        let mut budgets = self.budgets.lock().unwrap_or_else(PoisonError::into_inner);
        budgets.spend(machine, Instant::now()).is_ok()
    }
}

/// Takes the broker's word until the process ends.
pub async fn run(app: App, mut broker: mpsc::Receiver<FromBroker>) {
    let ending = app.parts().ending.clone();
    let mut listener = Listener::new(app);
    loop {
        tokio::select! {
            biased;
            message = broker.recv() => match message {
                Some(message) => listener.hear(message).await,
                None => return,
            },
            () = ending.cancelled() => return,
            () = listener.until_due() => listener.try_again().await,
        }
    }
}

/// Writes down what it hears. The broker says once that a tunnel stands or has ended, so what the database does not take is kept and
/// tried again.
#[derive(Debug)]
pub struct Listener {
    app: App,
    /// Who speaks; none: the embedded broker.
    broker: Option<Uuid>,
    owed: Owed,
}

impl Listener {
    /// One to whom the embedded broker has said nothing yet.
    pub fn new(app: App) -> Self {
        Self::of(app, None)
    }

    /// One to whom `broker` has said nothing yet.
    pub fn of(app: App, broker: Option<Uuid>) -> Self {
        Self { app, broker, owed: Owed::default() }
    }

    /// Takes one message, now or later.
    pub async fn hear(&mut self, message: FromBroker) {
        let news = owed::newness(&message);
        match take_from(&self.app, self.broker, message.clone()).await {
            Ok(()) => {
                if let Some((machine, new)) = news {
                    self.owed.handle_success(machine, new);
                }
            }
            Err(error) => {
                let again = news.is_some();
                tracing::error!(%error, again, "what the broker said could not be written");
                self.owed.handle_failure(message, Instant::now());
            }
        }
    }

    /// Waits until something must be tried again; for ever, if nothing must.
    pub async fn until_due(&self) {
        match self.owed.poll_timeout() {
            Some(due) => tokio::time::sleep_until(due.into()).await,
            None => std::future::pending().await,
        }
    }

    /// Tries again what is due.
    pub async fn try_again(&mut self) {
        for message in self.owed.handle_timeout(Instant::now()) {
            self.hear(message).await;
        }
    }
}

/// Longest title of a session that is kept, characters.
const TITLE_MAX: usize = 128;

/// Sessions as an agent tells them, fit to be shown anywhere: titles come from programs on the machine (THREATS MA-08).
fn tamed(mut sessions: Vec<SessionInfo>) -> Vec<SessionInfo> {
    sessions.truncate(SESSIONS_MAX);
    for session in &mut sessions {
        session.title = words::printable(&session.title, TITLE_MAX);
    }
    sessions
}

/// The same of why a tunnel is not over QUIC, as it is written down.
fn reason(said: TransportReason) -> serde_json::Value {
    serde_json::json!({ "cause": said.cause, "detail": words::printable(&said.detail, AGENT_TEXT_MAX) })
}

/// A tunnel that stands, as the broker tells it.
struct Up {
    machine: Uuid,
    org: Uuid,
    broker: Option<Uuid>,
    tunnel: i64,
    address: String,
    transport: String,
    transport_reason: Option<serde_json::Value>,
    facts: [(machine::Column, String); 4],
    sessions: Vec<SessionInfo>,
}

/// Takes one message of the embedded broker.
///
/// # Errors
/// When the database fails.
pub async fn take(app: &App, message: FromBroker) -> Result<(), DbErr> {
    take_from(app, None, message).await
}

/// Takes one message of `broker`; none is the embedded one.
///
/// # Errors
/// When the database fails.
pub async fn take_from(app: &App, broker: Option<Uuid>, message: FromBroker) -> Result<(), DbErr> {
    match message {
        FromBroker::TunnelUp {
            machine,
            org,
            tunnel,
            address,
            transport,
            transport_reason,
            agent_version,
            os,
            arch,
            hostname,
            sessions,
        } => {
            let facts = [
                (machine::Column::AgentVersion, agent_version),
                (machine::Column::Os, os),
                (machine::Column::Arch, arch),
                (machine::Column::Hostname, hostname),
            ];
            let (tunnel, sessions) = (number(tunnel), tamed(sessions));
            let transport_reason = transport_reason.map(reason);
            let up_now =
                Up { machine, org, broker, tunnel, address, transport, transport_reason, facts, sessions };
            up(app, up_now).await
        }
        FromBroker::TunnelDown { machine, tunnel, reason } => {
            tracing::info!(%machine, tunnel, reason, "tunnel down");
            down(app, broker, machine, number(tunnel)).await
        }
        FromBroker::Standing { machines } => standing(app, broker, &machines).await,
        FromBroker::Presence { machine, tunnel, sessions, rtt_ms } => {
            match app.parts().live.learn(machine, number(tunnel), tamed(sessions), rtt_ms) {
                Some(organisation) => tell(app, organisation, machine).await,
                None => Ok(()),
            }
        }
        FromBroker::Samples { samples } => {
            take_samples(app, &samples);
            Ok(())
        }
        FromBroker::Stream { machine, session, user, login, caps, address, outcome } => {
            stream(app, machine, &Viewer { session, user, login, caps, address, outcome }).await
        }
        FromBroker::DialRefused { machine, org, claimed, address, code } => {
            tracing::warn!(%machine, ?claimed, %code, "a dial was refused");
            let deed = Deed::new("tunnel.refuse", machine)
                .with(serde_json::json!({ "claimed": claimed, "code": code.name() }));
            if app.parts().refusals.admits(machine) {
                note(app, Scope::of(org), &Actor::dialler(machine, &address), deed).await?;
            }
            Ok(())
        }
    }
}

/// Keeps what machines say they use, if their tunnel is the one that stands, and tells those who look.
fn take_samples(app: &App, samples: &[MachineSample]) {
    let now = app.now();
    let mut told: BTreeMap<Uuid, BTreeMap<Uuid, Point>> = BTreeMap::new();
    for MachineSample { machine, tunnel, sample } in samples {
        let Some(organisation) = app.parts().live.whose(*machine, number(*tunnel)) else { continue };
        if let Some(point) = app.parts().samples.learn(*machine, *sample, now) {
            told.entry(organisation).or_default().insert(*machine, point);
        }
    }
    for (organisation, points) in told {
        if app.parts().hub.has_listeners(organisation) {
            app.parts().hub.tell(organisation, Event::Samples(NewSamples { at: now, points }.into()));
        }
    }
}

/// Tunnel numbers count up from a small one; the database has signed integers.
fn number(tunnel: u64) -> i64 {
    i64::try_from(tunnel).unwrap_or(i64::MAX)
}

async fn up(app: &App, up: Up) -> Result<(), DbErr> {
    let now = app.now();
    let before = Scope::of(up.org).row::<machine::Entity>(up.machine).one(app.db()).await?;
    let before_kind = before.as_ref().map(|before| before.kind);
    let not_newer =
        Cond::any().add(machine::Column::Tunnel.is_null()).add(machine::Column::Tunnel.lt(up.tunnel));
    let mut change = Scope::of(up.org)
        .update::<machine::Entity>()
        .col_expr(machine::Column::Tunnel, Expr::value(up.tunnel))
        .col_expr(machine::Column::BrokerId, Expr::value(up.broker))
        .col_expr(machine::Column::OnlineSince, Expr::value(now))
        .col_expr(machine::Column::LastSeenAt, Expr::value(now))
        .col_expr(machine::Column::Address, Expr::value(words::printable(&up.address, 64)))
        .col_expr(machine::Column::Transport, Expr::value(words::tame(&up.transport)))
        .col_expr(machine::Column::TransportReason, Expr::value(up.transport_reason.clone()));
    for (column, said) in &up.facts {
        change = change.col_expr(*column, Expr::value(words::tame(said)));
    }
    let changed = change
        .filter(machine::Column::Id.eq(up.machine))
        .filter(machine::Column::RemovedAt.is_null())
        .filter(not_newer)
        .exec(app.db())
        .await?;
    if changed.rows_affected > 0 {
        displace(app, &up, before).await;
    } else if !is_written(app, &up).await? {
        return Ok(());
    }
    if before_kind == Some(MachineKind::Sandbox) {
        app.parts().sandboxes.wake();
    }
    tracing::info!(machine = %up.machine, tunnel = up.tunnel, "tunnel up");
    let Up { machine, org: organisation, tunnel, sessions, .. } = up;
    app.parts().live.handle_up(machine, LiveMachine { organisation, tunnel, sessions, rtt_ms: None });
    tell(app, organisation, machine).await
}

/// The machine came up at one broker while another has a tunnel of its yet, which is older: that one is told, as it would be by its own.
async fn displace(app: &App, up: &Up, before: Option<machine::Model>) {
    if let Some(before) = before.filter(|before| before.broker_id != up.broker)
        && let Some(older) = before.tunnel
    {
        let older = u64::try_from(older).unwrap_or_default();
        app.parts().brokers.disconnect(before.broker_id, up.machine, CloseCode::Displaced, older).await;
    }
}

/// Whether this very tunnel was written down before, by a try that failed later. A removed machine's certificate is good for some
/// hours yet; the broker knows better from its feed, and is told again. An older tunnel than another broker's is void: should its agent
/// still be on it, it dials anew.
async fn is_written(app: &App, up: &Up) -> Result<bool, DbErr> {
    let row = Scope::of(up.org).row::<machine::Entity>(up.machine).one(app.db()).await?;
    match row.filter(|row| row.removed_at.is_none()) {
        Some(row) if row.broker_id != up.broker => {
            let void = u64::try_from(up.tunnel).unwrap_or_default();
            app.parts().brokers.disconnect(up.broker, up.machine, CloseCode::TunnelLost, void).await;
            Ok(false)
        }
        Some(row) => Ok(row.tunnel == Some(up.tunnel)),
        None => {
            tracing::warn!(machine = %up.machine, "a removed machine came back and is cut off");
            app.parts().feeds.cut_off(up.org, up.machine).await;
            Ok(false)
        }
    }
}

/// All tunnels that `broker` has at this moment: the rest of its machines are offline. Those that are new are told by themselves.
///
/// # Errors
/// When the database fails.
pub async fn standing(app: &App, broker: Option<Uuid>, machines: &[Uuid]) -> Result<(), DbErr> {
    let known: Vec<(Uuid, Option<i64>)> = machine::Entity::find()
        .select_only()
        .columns([machine::Column::Id, machine::Column::Tunnel])
        .filter(of_broker(broker))
        .filter(machine::Column::Tunnel.is_not_null())
        .into_tuple()
        .all(app.db())
        .await?;
    let standing: HashSet<&Uuid> = machines.iter().collect();
    for (id, tunnel) in known.into_iter().filter(|(id, _)| !standing.contains(id)) {
        if let Some(tunnel) = tunnel {
            down(app, broker, id, tunnel).await?;
        }
    }
    Ok(())
}

fn of_broker(broker: Option<Uuid>) -> Expr {
    match broker {
        Some(id) => machine::Column::BrokerId.eq(id),
        None => machine::Column::BrokerId.is_null(),
    }
}

async fn down(app: &App, broker: Option<Uuid>, id: Uuid, tunnel: i64) -> Result<(), DbErr> {
    let changed = machine::Entity::update_many()
        .col_expr(machine::Column::Tunnel, Expr::value(Option::<i64>::None))
        .col_expr(machine::Column::LastSeenAt, Expr::value(app.now()))
        .filter(machine::Column::Id.eq(id))
        .filter(of_broker(broker))
        .filter(machine::Column::Tunnel.eq(tunnel))
        .exec(app.db())
        .await?;
    app.parts().live.forget(id, tunnel);
    if changed.rows_affected == 0 {
        return Ok(());
    }
    match machine::Entity::find_by_id(id).one(app.db()).await? {
        Some(row) => {
            if row.kind == MachineKind::Sandbox {
                app.parts().sandboxes.wake();
            }
            tell(app, row.organisation_id, id).await
        }
        None => Ok(()),
    }
}

/// Tells everybody who looks at the organisation what its machine is now.
pub async fn tell(app: &App, organisation: Uuid, id: Uuid) -> Result<(), DbErr> {
    let hub = &app.parts().hub;
    // Thousands of machines say something every few seconds, most of the time to nobody.
    if !hub.has_listeners(organisation) {
        return Ok(());
    }
    let row = Scope::of(organisation).row::<machine::Entity>(id).one(app.db()).await?;
    if let Some(row) = row.filter(|row| row.removed_at.is_none()) {
        hub.tell(organisation, Event::Machine(machines::whole(app, row).await?.into()));
    }
    Ok(())
}

struct Viewer {
    session: Uuid,
    user: Uuid,
    login: Uuid,
    caps: Vec<Capability>,
    address: String,
    outcome: Option<CloseCode>,
}

impl Viewer {
    /// What its ticket lets it do, as the audit calls it; none for connections to ports: whoever comes to a preview is told once, and other tickets when they are issued.
    fn deed(&self) -> Option<&'static str> {
        let only = |of: &[Capability]| !self.caps.is_empty() && self.caps.iter().all(|cap| of.contains(cap));
        if only(&[Capability::Forward]) {
            return None;
        }
        let files = only(&[Capability::FilesRead, Capability::FilesWrite]);
        Some(if files { "files.open" } else { "session.attach" })
    }
}

async fn stream(app: &App, id: Uuid, viewer: &Viewer) -> Result<(), DbErr> {
    let Some(action) = viewer.deed() else { return Ok(()) };
    let Some(row) = machine::Entity::find_by_id(id).one(app.db()).await? else { return Ok(()) };
    let deed = Deed::new(action, viewer.session).with(serde_json::json!({
        "machine": id,
        "login": viewer.login,
        "refused": viewer.outcome.map(CloseCode::name),
    }));
    note(app, Scope::of(row.organisation_id), &Actor::viewer(viewer.user, &viewer.address), deed).await
}

async fn note(app: &App, scope: Scope, actor: &Actor, deed: Deed) -> Result<(), DbErr> {
    let tx = db::write(app.db()).await?;
    audit::append(&tx, scope, app.now(), actor, deed).await?;
    tx.commit().await
}
