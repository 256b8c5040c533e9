//! A session: one task that owns a PTY, its output log, its screen, its viewers and the writer lease.
//!
//! ```text
//!  viewers' streams ── Command ──▶ ┌──────────────── session ────────────────┐
//!                                  │ Input ─▶ PTY ─▶ OutputLog ─▶ Screen      │
//!                   ◀── Batch ───  │                  └▶ Attached × n         │
//!  hub ── feed, stop (levels) ───▶ └──────────────────────────────────────────┘
//! ```
//!
//! The task never waits for a viewer and never blocks on the PTY. Decisions are made by machines without clock or socket (`rexec_shared::{log, ledger,
//! pacing, lease}`, [`input`], [`attached`]); here is what moves bytes between them.

mod attached;
mod input;
mod life;
#[cfg(test)]
mod simulation;
mod state;
#[cfg(test)]
mod tests;
mod viewers;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::{Buf, BytesMut};
use rexec_shared::close::CloseCode;
use rexec_shared::limits::{COLS_MAX, ROWS_MAX};
use rexec_shared::message::{SessionKind, Size, Spec, ViewerMessage};
use rexec_shared::ticket::{Claims, FeedState};
use rexec_shared::tunnel::SessionInfo;
use tokio::io::unix::AsyncFdReadyGuard;
use tokio::net::unix::OwnedWriteHalf;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio::time::sleep_until;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::handshake::{Refusal, Request};
use super::pty::{self, Pty, ReadEnd};
use super::unix_ms;
use state::Session;

/// Commands waiting for a session. An input frame is at most 64 KiB, so this bounds 2 MiB, and the task empties it at each turn.
const QUEUE: usize = 32;
/// Output read in one turn, bytes: large batches for throughput, a turn short enough that typing does not wait. With the last read, which may go 4 KiB
/// beyond, it fits into one batch.
const READ_BUDGET: usize = 56 * 1024;
/// Input written in one turn, bytes.
const WRITE_BUDGET: usize = 64 * 1024;

/// How long a session that could not be opened waits for who opened it.
const REFUSE_FOR: Duration = Duration::from_secs(5);

/// Names one stream of one viewer for its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct StreamId(u64);

impl StreamId {
    /// A number never given before.
    pub(super) fn next() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Self(NEXT.fetch_add(1, Ordering::Relaxed))
    }
}

/// Frames for one stream.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) bytes: BytesMut,
    /// The stream ends after it.
    pub(super) last: bool,
}

/// Where a stream's batches go: to its socket at once as far as that has room, the rest to the task that waits for room.
#[derive(Debug)]
pub(super) struct Outlet {
    pub(super) socket: Option<Arc<OwnedWriteHalf>>,
    pub(super) batches: mpsc::Sender<Batch>,
}

impl Outlet {
    /// Sends a batch, `now` if it may be written by the caller. Returns the buffer when all of it is written; else the stream's task will say so.
    fn send(&self, mut batch: Batch, now: bool) -> Option<BytesMut> {
        if let Some(socket) = self.socket.as_ref().filter(|_| now && !batch.last) {
            // A socket that is gone is the task's to notice.
            let written = socket.try_write(&batch.bytes).unwrap_or(0);
            if written == batch.bytes.len() {
                batch.bytes.clear();
                return Some(batch.bytes);
            }
            batch.bytes.advance(written);
        }
        // The channel holds one batch and the stream has taken the last, or it is gone and says so itself.
        let _ = self.batches.try_send(batch);
        None
    }
}

/// An admitted viewer that comes to a session.
#[derive(Debug)]
pub(super) struct Arrival {
    pub(super) stream: StreamId,
    pub(super) request: Request,
    pub(super) claims: Box<Claims>,
    pub(super) outlet: Outlet,
}

/// What streams tell a session.
#[derive(Debug)]
pub(super) enum Command {
    /// A viewer came.
    Arrive(Box<Arrival>),
    /// A viewer said something.
    Message(StreamId, ViewerMessage),
    /// A batch that the socket had no room for was written; its buffer comes back.
    Written(StreamId, BytesMut),
    /// A viewer broke the protocol.
    Broken(StreamId, Refusal),
    /// A stream ended.
    Left(StreamId),
}

/// What a session is made from.
#[derive(Debug)]
pub(super) struct SessionStart {
    pub(super) session: Uuid,
    pub(super) user: Uuid,
    pub(super) spec: Spec,
}

/// A handle to a session.
#[derive(Debug, Clone)]
pub(super) struct SessionHandle {
    pub(super) id: Uuid,
    /// Whose it is; nobody else learns that it exists.
    pub(super) user: Uuid,
    pub(super) commands: mpsc::Sender<Command>,
    pub(super) info: watch::Receiver<SessionInfo>,
    stop: CancellationToken,
}

impl SessionHandle {
    /// Whether its task has ended.
    pub(super) fn is_over(&self) -> bool {
        self.commands.is_closed()
    }

    /// Ends it.
    pub(super) fn forget(&self) {
        self.stop.cancel();
    }
}

/// What the session and the hub share: levels only.
#[derive(Debug)]
struct Wires {
    commands: mpsc::Receiver<Command>,
    feed: watch::Receiver<FeedState>,
    stop: CancellationToken,
    info: watch::Sender<SessionInfo>,
    changes: Arc<watch::Sender<u64>>,
}

impl Wires {
    fn publish(&self, info: SessionInfo) {
        let changed = self.info.send_if_modified(|old| {
            let changed = *old != info;
            *old = info;
            changed
        });
        if changed {
            self.changes.send_modify(|count| *count = count.wrapping_add(1));
        }
    }
}

/// A session's handle, and the task that is the session.
pub(super) fn prepare(
    start: SessionStart,
    feed: watch::Receiver<FeedState>,
    stopping: CancellationToken,
    changes: Arc<watch::Sender<u64>>,
) -> (SessionHandle, impl Future<Output = ()> + Send + 'static) {
    let (sender, commands) = mpsc::channel(QUEUE);
    let size = clamp(Size { cols: start.spec.cols, rows: start.spec.rows });
    let (info, infos) = watch::channel(SessionInfo {
        session: start.session,
        kind: SessionKind::Terminal,
        title: String::new(),
        cols: size.cols,
        rows: size.rows,
        viewers: 0,
        user: start.user,
        created: unix_ms(),
        exited: None,
    });
    let stop = stopping.child_token();
    let handle = SessionHandle {
        id: start.session,
        user: start.user,
        commands: sender,
        info: infos,
        stop: stop.clone(),
    };
    (handle, run(start, size, Wires { commands, feed, stop, info, changes }))
}

/// A size that a PTY and a screen can bear.
fn clamp(size: Size) -> Size {
    Size { cols: size.cols.clamp(2, COLS_MAX), rows: size.rows.clamp(1, ROWS_MAX) }
}

async fn run(start: SessionStart, size: Size, wires: Wires) {
    let (id, spec) = (start.session, start.spec);
    let spawned = tokio::task::spawn_blocking(move || pty::spawn(id, &spec, size)).await;
    let failure = match spawned {
        Ok(Ok((pty, leader))) => {
            tracing::info!(session = %id, user = %start.user, pid = leader.pid(), "session opened");
            let state = Session::new(&wires.info.borrow(), leader, Instant::now());
            return serve(state, pty, wires).await;
        }
        Ok(Err(error)) => format!("{error:#}"),
        Err(error) => error.to_string(),
    };
    tracing::warn!(session = %id, error = failure, "a session could not be opened");
    refuse_all(wires.commands, &failure).await;
}

/// Tells who comes for a session that could not be opened; the first is on its way.
async fn refuse_all(mut commands: mpsc::Receiver<Command>, why: &str) {
    let until = tokio::time::Instant::now() + REFUSE_FOR;
    while let Ok(Some(command)) = tokio::time::timeout_at(until, commands.recv()).await {
        if let Command::Arrive(arrival) = command {
            let why = format!("the session could not be opened: {why}");
            return turn_away(&arrival.outlet, &Refusal::new(CloseCode::Internal, why));
        }
    }
}

/// Tells a stream that nothing was sent to yet why that is all.
fn turn_away(outlet: &Outlet, refusal: &Refusal) {
    let mut bytes = BytesMut::new();
    refusal.message().encode(&mut bytes);
    outlet.send(Batch { bytes, last: true }, false);
}

/// The session's loop: one turn serves the viewers, then waits for whatever comes first.
async fn serve(mut session: Session, pty: Pty, mut wires: Wires) {
    let mut pty = Some(pty);
    let mut children = signal(SignalKind::child()).ok();
    // It may have ended before we listened.
    session.handle_child();
    let mut stopped = false;
    let sleep = sleep_until(tokio::time::Instant::now());
    tokio::pin!(sleep);
    loop {
        let now = Instant::now();
        session.handle_time(&mut pty, now);
        // Viewers first: what the screen makes of it is nothing they wait for.
        session.serve_viewers(now);
        if session.catch_up(now) {
            session.serve_viewers(now);
        }
        if let Some(info) = session.poll_info() {
            wires.publish(info);
        }
        if session.is_over() {
            tracing::info!(session = %session.id(), "session removed");
            return;
        }
        let (may_read, may_write) = (session.should_read(now), session.should_write());
        let deadline = session.poll_timeout(now).map(tokio::time::Instant::from_std);
        if let Some(at) = deadline.filter(|at| *at != sleep.deadline()) {
            sleep.as_mut().reset(at);
        }
        tokio::select! {
            Some(command) = wires.commands.recv() => {
                let feed = wires.feed.borrow();
                let now = Instant::now();
                session.handle(command, &feed, pty.as_ref(), now);
                take_waiting(&mut session, &mut wires.commands, &feed, pty.as_ref(), now);
            }
            guard = readable(pty.as_ref()), if may_read => read(&mut session, pty.as_ref(), guard),
            guard = writable(pty.as_ref()), if may_write => write(&mut session, pty.as_ref(), guard),
            () = child_ended(&mut children), if session.is_alive() => session.handle_child(),
            Ok(()) = wires.feed.changed() => session.handle_feed(&wires.feed.borrow_and_update(), Instant::now()),
            () = wires.stop.cancelled(), if !stopped => {
                stopped = true;
                session.handle_stop(pty.as_ref(), now);
            }
            () = &mut sleep, if deadline.is_some() => {}
            () = tokio::task::yield_now(), if session.is_behind(now) => {}
        }
    }
}

/// Commands that wait already are handled in the same turn, as many as the queue holds.
fn take_waiting(
    session: &mut Session,
    commands: &mut mpsc::Receiver<Command>,
    feed: &FeedState,
    pty: Option<&Pty>,
    now: Instant,
) {
    for _ in 1..QUEUE {
        match commands.try_recv() {
            Ok(command) => session.handle(command, feed, pty, now),
            Err(_) => return,
        }
    }
}

type Guard<'a> = std::io::Result<AsyncFdReadyGuard<'a, std::os::fd::OwnedFd>>;

async fn readable(pty: Option<&Pty>) -> Guard<'_> {
    match pty {
        Some(pty) => pty.readable().await,
        None => std::future::pending().await,
    }
}

async fn writable(pty: Option<&Pty>) -> Guard<'_> {
    match pty {
        Some(pty) => pty.writable().await,
        None => std::future::pending().await,
    }
}

/// Resolves when some child of the process may have ended.
async fn child_ended(children: &mut Option<Signal>) {
    match children {
        Some(children) => drop(children.recv().await),
        // Without the signal we look now and then.
        None => tokio::time::sleep(Duration::from_millis(200)).await,
    }
}

fn read(session: &mut Session, pty: Option<&Pty>, guard: Guard<'_>) {
    let (Some(pty), Ok(mut guard)) = (pty, guard) else { return session.handle_hung_up() };
    match session.read_from(pty, READ_BUDGET) {
        ReadEnd::Budget => {}
        ReadEnd::Drained => {
            // That it was hung up is never forgotten, so waiting for it would not wait.
            if guard.ready().is_read_closed() {
                session.handle_stale();
            }
            guard.clear_ready();
        }
        ReadEnd::HungUp => {
            guard.clear_ready();
            session.handle_hung_up();
        }
    }
}

fn write(session: &mut Session, pty: Option<&Pty>, guard: Guard<'_>) {
    let (Some(pty), Ok(mut guard)) = (pty, guard) else { return };
    if !session.write_to(pty, WRITE_BUDGET) {
        if guard.ready().is_write_closed() {
            session.handle_full();
        }
        guard.clear_ready();
    }
}
