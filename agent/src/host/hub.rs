//! The hub: one task that knows which sessions there are and who may come to them.
//!
//! It owns the ticket verifier, the list of sessions and the uplink's last word. It carries no terminal bytes: a viewer that it admits
//! talks to the session's task directly. Revocations reach sessions as a level (a `watch` of the feed), so no session can hold
//! the hub up.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rexec_shared::close::CloseCode;
use rexec_shared::limits::SESSIONS_MAX;
use rexec_shared::ticket::{Capability, Claims, FeedState, Now, Verifier};
use rexec_shared::tunnel::{HostStatus, SessionInfo, UplinkStatus};
use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::handshake::{Admission, Intent, Refusal, Request};
use super::pass::Pass;
use super::presence;
use super::session::{self, SessionHandle, SessionStart};
use super::{HostConfig, HostError, unix_ms};
use super::{files, forward};

/// Questions waiting for the hub.
const QUEUE: usize = 64;
/// How long sessions have to end when the host stops: their own grace and some.
const STOP_GRACE: Duration = Duration::from_secs(4);

/// A question or an order to the hub.
#[derive(Debug)]
enum Ask {
    Check(Request, oneshot::Sender<Result<Box<Claims>, Refusal>>),
    Enter(Request, Box<Claims>, oneshot::Sender<Result<Entrance, Refusal>>),
    Feed(String),
    Status(UplinkStatus),
    Sessions(oneshot::Sender<Vec<SessionInfo>>),
    Query(oneshot::Sender<HostStatus>),
    Stop,
}

/// Where an admitted viewer goes.
#[derive(Debug)]
pub(super) enum Entrance {
    /// To a session.
    Session(SessionHandle),
    /// To files.
    Files(Pass, Arc<files::Root>),
    /// To a port.
    Forward(Pass, u16),
}

/// A handle to the hub.
#[derive(Debug, Clone)]
pub(super) struct HubHandle {
    asks: mpsc::Sender<Ask>,
    /// Changes whenever the list of sessions does.
    changes: watch::Receiver<u64>,
    boot: Uuid,
}

impl HubHandle {
    /// Whether the ticket is good for what is asked; a ticket is used up by this.
    pub(super) async fn check(&self, request: &Request) -> Result<Box<Claims>, Refusal> {
        self.ask(|reply| Ask::Check(request.clone(), reply))
            .await
            .unwrap_or_else(|| Err(Refusal::host_gone()))
    }

    /// Where an admitted viewer goes; its session is made if it asked for that.
    pub(super) async fn enter(&self, admission: &Admission) -> Result<Entrance, Refusal> {
        let (request, claims) = (admission.request.clone(), admission.claims.clone());
        self.ask(|reply| Ask::Enter(request, claims, reply))
            .await
            .unwrap_or_else(|| Err(Refusal::host_gone()))
    }

    /// Brings a revocation feed.
    pub(super) async fn feed(&self, token: String) {
        let _ = self.asks.send(Ask::Feed(token)).await;
    }

    /// Brings the uplink's state.
    pub(super) async fn status(&self, status: UplinkStatus) {
        let _ = self.asks.send(Ask::Status(status)).await;
    }

    /// The sessions there are; `None` when the hub has stopped.
    pub(super) async fn sessions(&self) -> Option<Vec<SessionInfo>> {
        self.ask(Ask::Sessions).await
    }

    /// What a local command is told.
    pub(super) async fn query(&self) -> Option<HostStatus> {
        self.ask(Ask::Query).await
    }

    /// Stops the host.
    pub(super) async fn stop(&self) {
        let _ = self.asks.send(Ask::Stop).await;
    }

    /// Level that changes with the list of sessions.
    pub(super) fn changes(&self) -> watch::Receiver<u64> {
        self.changes.clone()
    }

    /// This life of the host.
    pub(super) fn boot(&self) -> Uuid {
        self.boot
    }

    async fn ask<T>(&self, ask: impl FnOnce(oneshot::Sender<T>) -> Ask) -> Option<T> {
        let (reply, answer) = oneshot::channel();
        self.asks.send(ask(reply)).await.ok()?;
        answer.await.ok()
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct Hub {
    config: HostConfig,
    shutdown: CancellationToken,
    asks: mpsc::Receiver<Ask>,
    changes: Arc<watch::Sender<u64>>,
    verifier: Verifier,
    feed: watch::Sender<FeedState>,
    stopping: CancellationToken,
    root: Arc<files::Root>,
    /// One for each files stream there may be.
    files: Arc<Semaphore>,
    /// One for each connection to a port.
    forwards: Arc<Semaphore>,
    sessions: BTreeMap<Uuid, SessionHandle>,
    tasks: JoinSet<Uuid>,
    task_ids: BTreeMap<tokio::task::Id, Uuid>,
    uplink: Option<UplinkStatus>,
    started_ms: u64,
}

impl Hub {
    /// A hub without sessions, and its handle.
    pub(super) fn new(config: HostConfig, shutdown: CancellationToken) -> (Self, HubHandle) {
        let now = Instant::now();
        let (ask, asks) = mpsc::channel(QUEUE);
        let (changes, seen) = watch::channel(0);
        let verifier = Verifier::new(config.ticket_key.clone(), config.org, now);
        let hub = Self {
            root: Arc::new(files::Root::new(config.files_root.clone())),
            files: Arc::new(Semaphore::new(files::STREAMS_MAX)),
            forwards: Arc::new(Semaphore::new(forward::STREAMS_MAX)),
            config,
            shutdown,
            asks,
            changes: Arc::new(changes),
            verifier,
            feed: watch::Sender::new(FeedState::starting(now)),
            stopping: CancellationToken::new(),
            sessions: BTreeMap::new(),
            tasks: JoinSet::new(),
            task_ids: BTreeMap::new(),
            uplink: None,
            started_ms: unix_ms(),
        };
        (hub, HubHandle { asks: ask, changes: seen, boot: Uuid::new_v4() })
    }

    /// Runs until stopped or revoked, then ends every session.
    pub(super) async fn run(mut self) -> Result<(), HostError> {
        let revoked = self.serve().await;
        self.end_sessions().await;
        if revoked { Err(HostError::Revoked) } else { Ok(()) }
    }

    /// Returns whether the machine was revoked.
    async fn serve(&mut self) -> bool {
        loop {
            tokio::select! {
                () = self.shutdown.cancelled() => return false,
                Some(ended) = self.tasks.join_next_with_id() => self.handle_ended(ended),
                ask = self.asks.recv() => match ask {
                    None | Some(Ask::Stop) => return false,
                    Some(ask) => self.handle(ask),
                },
            }
            if self.verifier.feed().machine_revoked(self.config.machine) {
                tracing::error!("this machine was revoked: viewers are closed, sessions hung up");
                return true;
            }
        }
    }

    fn handle(&mut self, ask: Ask) {
        match ask {
            Ask::Check(request, reply) => drop(reply.send(self.check(&request))),
            Ask::Enter(request, claims, reply) => drop(reply.send(self.enter(&request, &claims))),
            Ask::Feed(token) => self.handle_feed(&token),
            Ask::Status(status) => self.uplink = Some(status),
            Ask::Sessions(reply) => drop(reply.send(self.infos())),
            Ask::Query(reply) => drop(reply.send(self.host_status())),
            Ask::Stop => {}
        }
    }

    fn check(&mut self, request: &Request) -> Result<Box<Claims>, Refusal> {
        let now = Now { unix_ms: unix_ms(), instant: Instant::now() };
        let (opening, wanted) = match request.intent {
            Intent::Open(_) => (true, &[Capability::Terminal][..]),
            Intent::Files => (true, &[Capability::FilesRead, Capability::FilesWrite][..]),
            Intent::Forward(_) => (true, &[Capability::Forward][..]),
            Intent::Attach { .. } => (false, &[Capability::Terminal, Capability::View][..]),
        };
        let claims =
            self.verifier.check(&request.ticket, self.config.machine, request.session, opening, now)?;
        if !wanted.iter().any(|capability| claims.allows(*capability)) {
            return Err(Refusal::new(CloseCode::Forbidden, "the ticket does not allow this"));
        }
        Ok(Box::new(claims))
    }

    fn enter(&mut self, request: &Request, claims: &Claims) -> Result<Entrance, Refusal> {
        // The proof took its time; what was good before it may have been revoked since.
        if self.verifier.feed().is_revoked(claims) {
            return Err(rexec_shared::ticket::TicketError::Revoked.into());
        }
        match (self.sessions.get(&request.session), &request.intent) {
            (_, Intent::Files) => {
                let pass = self.pass(&self.files, files::STREAMS_MAX, "views of files")?;
                Ok(Entrance::Files(pass, Arc::clone(&self.root)))
            }
            (_, Intent::Forward(port)) => {
                let pass = self.pass(&self.forwards, forward::STREAMS_MAX, "connections to ports")?;
                Ok(Entrance::Forward(pass, *port))
            }
            (Some(session), _) if session.user == claims.usr => Ok(Entrance::Session(session.clone())),
            (Some(_), _) | (None, Intent::Attach { .. }) => {
                Err(Refusal::new(CloseCode::SessionNotFound, "there is no such session"))
            }
            (None, Intent::Open(spec)) => {
                self.make_room()?;
                let (session, user) = (request.session, claims.usr);
                Ok(Entrance::Session(self.start(SessionStart { session, user, spec: spec.clone() })))
            }
        }
    }

    /// What a stream that is no session's is let in with; `what` it is one of at most `max` of.
    fn pass(&self, room: &Arc<Semaphore>, max: usize, what: &str) -> Result<Pass, Refusal> {
        let permit = Arc::clone(room).try_acquire_owned().map_err(|_| {
            Refusal::new(CloseCode::LimitReached, format!("{max} {what} are open on this machine"))
        })?;
        Ok(Pass { feed: self.feed.subscribe(), stopping: self.stopping.clone(), _permit: permit })
    }

    /// An ended session that is only kept to be looked at gives way to a new one.
    fn make_room(&mut self) -> Result<(), Refusal> {
        if self.sessions.len() < SESSIONS_MAX {
            return Ok(());
        }
        let ended = self.sessions.values().filter(|session| session.info.borrow().exited.is_some());
        let oldest = ended.min_by_key(|session| session.info.borrow().created).map(|session| session.id);
        let Some(oldest) = oldest else {
            return Err(Refusal::new(
                CloseCode::LimitReached,
                format!("{SESSIONS_MAX} sessions are open on this machine"),
            ));
        };
        if let Some(session) = self.sessions.remove(&oldest) {
            session.forget();
        }
        Ok(())
    }

    fn start(&mut self, start: SessionStart) -> SessionHandle {
        let id = start.session;
        let (handle, task) =
            session::prepare(start, self.feed.subscribe(), self.stopping.clone(), Arc::clone(&self.changes));
        let abort = self.tasks.spawn(async move {
            task.await;
            id
        });
        self.task_ids.insert(abort.id(), id);
        self.sessions.insert(id, handle.clone());
        self.changed();
        handle
    }

    fn handle_ended(&mut self, ended: Result<(tokio::task::Id, Uuid), tokio::task::JoinError>) {
        let task = match &ended {
            Ok((task, _)) => *task,
            Err(error) => error.id(),
        };
        let Some(session) = self.task_ids.remove(&task) else { return };
        if let Err(error) = ended {
            tracing::error!(%session, %error, "a session's task failed; the others go on");
        }
        // A session of the same id may have been made since; only its own end removes it.
        if self.sessions.get(&session).is_some_and(SessionHandle::is_over) {
            self.sessions.remove(&session);
        }
        self.changed();
    }

    fn handle_feed(&mut self, token: &str) {
        match self.verifier.handle_feed(token, Instant::now()) {
            Ok(feed) => drop(self.feed.send_replace(feed.clone())),
            Err(error) => tracing::debug!(%error, "a revocation feed was not taken"),
        }
    }

    fn infos(&self) -> Vec<SessionInfo> {
        presence::fit(self.sessions.values().map(|session| session.info.borrow().clone()).collect())
    }

    fn host_status(&self) -> HostStatus {
        HostStatus {
            pid: std::process::id(),
            version: self.config.version.clone(),
            started: self.started_ms,
            sessions: self.infos(),
            uplink: self.uplink.clone(),
        }
    }

    fn changed(&self) {
        self.changes.send_modify(|count| *count = count.wrapping_add(1));
    }

    async fn end_sessions(&mut self) {
        self.stopping.cancel();
        self.sessions.clear();
        let all = async { while self.tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(STOP_GRACE, all).await.is_err() {
            tracing::warn!("some sessions did not end in time");
            self.tasks.shutdown().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rexec_shared::message::{SessionKind, Spec};
    use rexec_shared::ticket::{PublicKey, Signer};

    fn config(signer: &Signer) -> HostConfig {
        HostConfig {
            viewer_socket: "viewer.sock".into(),
            link_socket: "link.sock".into(),
            machine: Uuid::nil(),
            org: Uuid::nil(),
            ticket_key: PublicKey::parse(&signer.public_key()).unwrap(),
            version: "test".to_owned(),
            files_root: "/".into(),
        }
    }

    fn hub() -> (Hub, HubHandle) {
        let signer = Signer::from_pkcs8(&Signer::generate().unwrap()).unwrap();
        Hub::new(config(&signer), CancellationToken::new())
    }

    fn start(session: u128) -> SessionStart {
        let command = Some(vec!["/bin/cat".to_owned()]);
        let spec = Spec {
            kind: SessionKind::Terminal,
            cols: 80,
            rows: 24,
            env: BTreeMap::new(),
            cwd: None,
            command,
            port: None,
        };
        SessionStart { session: Uuid::from_u128(session), user: Uuid::nil(), spec }
    }

    #[tokio::test]
    async fn bu_02_under_every_set_of_capabilities_a_ticket_opens_attaches_and_looks_only_as_it_says() {
        use rexec_shared::ticket::{Actor, ActorKind};

        let signer = Signer::from_pkcs8(&Signer::generate().unwrap()).unwrap();
        let config = config(&signer);
        let (mut hub, _handle) = Hub::new(config, CancellationToken::new());
        let all = [
            Capability::Terminal,
            Capability::Exec,
            Capability::FilesRead,
            Capability::FilesWrite,
            Capability::Forward,
            Capability::View,
        ];
        let attach = Intent::Attach { epoch: None, offset: None };
        let ways: [(Intent, &[Capability]); 4] = [
            (Intent::Open(start(8).spec), &[Capability::Terminal]),
            (attach, &[Capability::Terminal, Capability::View]),
            (Intent::Files, &[Capability::FilesRead, Capability::FilesWrite]),
            (Intent::Forward(1), &[Capability::Forward]),
        ];
        for (set, way) in (0..1u32 << all.len()).flat_map(|set| (0..ways.len()).map(move |way| (set, way))) {
            let (intent, good) = ways[way].clone();
            let caps: Vec<Capability> =
                (0..all.len()).filter(|bit| set >> bit & 1 == 1).map(|bit| all[bit]).collect();
            let (iat, session, act) = (unix_ms(), Uuid::from_u128(8), Uuid::nil());
            let act = Actor { kind: ActorKind::Ai, id: act, name: String::new() };
            let (jti, aud, org, usr, lgn) =
                (Uuid::new_v4(), Uuid::nil(), Uuid::nil(), Uuid::nil(), Uuid::nil());
            let (ses, cnf, exp) = (session, String::new(), iat + 1_000);
            let claims = Claims { jti, aud, org, usr, lgn, act, ses, caps: caps.clone(), cnf, iat, exp };
            let (ticket, viewer, attempt, input_seq) = (signer.ticket(&claims), Uuid::nil(), 0, 0);
            let request = Request { ticket, viewer, attempt, session, input_seq, snapshot_ack: true, intent };
            let may = caps.iter().any(|cap| good.contains(cap));
            let code = hub.check(&request).err().map(|refusal| refusal.code);
            assert_eq!(code, (!may).then_some(CloseCode::Forbidden), "{caps:?}, way {way}");
        }
    }

    #[tokio::test]
    async fn ma_12_a_session_task_that_panics_ends_that_session_alone() {
        let (mut hub, handle) = hub();
        hub.start(start(1));
        let doomed = hub.start(start(2)).id;
        // The task of the second session is replaced by one that fails.
        let failing = hub.tasks.spawn(async { panic!("a failpoint of this test") });
        let task =
            hub.task_ids.iter().find(|(_, session)| **session == doomed).map(|(task, _)| *task).unwrap();
        hub.task_ids.remove(&task);
        hub.task_ids.insert(failing.id(), doomed);
        let (commands, receiver) = mpsc::channel(1);
        drop(receiver);
        hub.sessions.get_mut(&doomed).unwrap().commands = commands;
        let running = tokio::spawn(hub.run());
        let deadline = Instant::now() + Duration::from_secs(10);
        loop {
            let sessions: Vec<_> = handle.sessions().await.unwrap().iter().map(|info| info.session).collect();
            if sessions == [Uuid::from_u128(1)] {
                break;
            }
            assert!(Instant::now() < deadline, "{sessions:?}");
            tokio::task::yield_now().await;
        }
        handle.stop().await;
        assert!(running.await.unwrap().is_ok());
    }
}
