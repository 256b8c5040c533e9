//! The life of a session's processes: running, hung up, ended, forgotten.

use std::time::{Duration, Instant};

use rexec_shared::close::CloseCode;
use rexec_shared::limits::EXITED_KEEP;
use rexec_shared::message::Exit;

use super::state::Session;
use crate::host::handshake::Refusal;
use crate::host::pty::{Leader, LeaderExit, Pty};

/// Between SIGHUP and SIGKILL.
const CLOSE_GRACE: Duration = Duration::from_secs(2);
/// Output is still taken this long after the last of it once the leader has ended: what it wrote is on its way through the kernel.
const DRAIN_IDLE: Duration = Duration::from_millis(50);
/// And this long at most: other processes may hold the PTY and go on writing.
const DRAIN_MAX: Duration = Duration::from_millis(500);
/// How long viewers of a session that is going away have to take their last frames.
const FAREWELL: Duration = Duration::from_millis(300);
/// An ended session that somebody looks at is kept on, in steps of this.
const KEEP_STEP: Duration = Duration::from_secs(60);

#[derive(Debug, Clone, Copy)]
enum Phase {
    /// The leader lives.
    Running,
    /// It has ended; its last output is being read.
    Draining { exit: LeaderExit, idle_at: Instant, until: Instant },
    /// Nothing runs that we wait for; the session can be looked at until then.
    Ended { keep_until: Instant },
    /// Viewers are told their last words.
    Leaving { until: Instant },
}

/// The leader and how far its end has come.
#[derive(Debug)]
pub(super) struct Life {
    leader: Leader,
    phase: Phase,
    /// When what SIGHUP did not end is killed.
    kill_at: Option<Instant>,
    /// The session goes as soon as it has ended, with this said to its viewers.
    farewell: Option<Refusal>,
    hung_up: bool,
}

impl Life {
    /// The life of a leader just started.
    pub(super) fn new(leader: Leader) -> Self {
        Self { leader, phase: Phase::Running, kill_at: None, farewell: None, hung_up: false }
    }

    /// Whether the leader lives.
    pub(super) fn is_alive(&self) -> bool {
        matches!(self.phase, Phase::Running)
    }

    /// Whether the last output is being read, whoever keeps up with it.
    pub(super) fn is_draining(&self) -> bool {
        matches!(self.phase, Phase::Draining { .. })
    }

    /// Whether nothing runs in the PTY any more that we wait for.
    pub(super) fn has_ended(&self) -> bool {
        matches!(self.phase, Phase::Ended { .. } | Phase::Leaving { .. })
    }

    /// Output came.
    pub(super) fn handle_output(&mut self, now: Instant) {
        if let Phase::Draining { idle_at, .. } = &mut self.phase {
            *idle_at = now + DRAIN_IDLE;
        }
    }

    /// The other side of the PTY is closed: there will be no more output.
    pub(super) fn handle_hung_up(&mut self) {
        self.hung_up = true;
    }

    fn poll_timeout(&self) -> Option<Instant> {
        let phase = match self.phase {
            Phase::Running => None,
            Phase::Draining { idle_at, until, .. } => Some(idle_at.min(until)),
            Phase::Ended { keep_until } => Some(keep_until),
            Phase::Leaving { until } => Some(until),
        };
        phase.into_iter().chain(self.kill_at).min()
    }
}

impl Session {
    /// Whether the leader lives.
    pub(super) fn is_alive(&self) -> bool {
        self.life.is_alive()
    }

    /// Whether viewers are being told their last words.
    pub(super) fn is_leaving(&self) -> bool {
        matches!(self.life.phase, Phase::Leaving { .. })
    }

    /// Whether the session is to be forgotten.
    pub(super) fn is_over(&self) -> bool {
        let gone = self.viewers.is_empty() && self.life.kill_at.is_none();
        matches!(self.life.phase, Phase::Leaving { until } if gone || Instant::now() >= until)
    }

    /// A child of the process ended: perhaps ours.
    pub(super) fn handle_child(&mut self) {
        if let Some(exit) = self.life.leader.try_reap() {
            let now = Instant::now();
            self.life.phase = Phase::Draining { exit, idle_at: now + DRAIN_IDLE, until: now + DRAIN_MAX };
            self.life.hung_up = false;
            self.handle_reaped();
        }
    }

    /// Hangs the session up; what does not go is killed after a grace.
    pub(super) fn handle_close(&mut self, pty: Option<&Pty>, now: Instant) {
        match (self.life.phase, pty) {
            (Phase::Running | Phase::Draining { .. }, Some(pty)) => {
                self.life.leader.hang_up(pty);
                self.life.kill_at.get_or_insert(now + CLOSE_GRACE);
            }
            (Phase::Ended { .. }, _) => {
                self.say_farewell(Refusal::new(CloseCode::Done, "the session was closed"), now)
            }
            (Phase::Running | Phase::Draining { .. } | Phase::Leaving { .. }, _) => {}
        }
    }

    /// The host stops, or needs the room: hang up, and go.
    pub(super) fn handle_stop(&mut self, pty: Option<&Pty>, now: Instant) {
        let refusal = Refusal::new(CloseCode::HostUnavailable, "the session host is stopping");
        match self.life.phase {
            Phase::Ended { .. } => self.say_farewell(refusal, now),
            Phase::Running | Phase::Draining { .. } => {
                self.handle_close(pty, now);
                self.life.farewell = Some(refusal);
            }
            Phase::Leaving { .. } => {}
        }
    }

    /// What time alone brings.
    pub(super) fn handle_time(&mut self, pty: &mut Option<Pty>, now: Instant) {
        self.handle_time_of_bytes(pty.as_mut(), now);
        self.apply_size(pty.as_ref(), now);
        if self.life.kill_at.is_some_and(|at| now >= at) {
            self.life.kill_at = None;
            self.life.leader.kill_session();
        }
        match self.life.phase {
            Phase::Draining { exit, idle_at, until } if self.life.hung_up || now >= idle_at.min(until) => {
                // On a busy machine the time is over before there was a turn to read in.
                let came = pty.as_ref().is_some_and(|pty| self.read_last(pty));
                if !came || now >= until {
                    // From here on nobody of ours holds the PTY: what still runs in it sees it closed, as with any terminal.
                    *pty = None;
                    self.finish(exit, now);
                }
            }
            Phase::Ended { keep_until } if now >= keep_until => {
                if self.viewers.is_empty() {
                    self.say_farewell(Refusal::new(CloseCode::Done, "the session has ended"), now);
                } else {
                    self.life.phase = Phase::Ended { keep_until: now + KEEP_STEP };
                }
            }
            Phase::Running | Phase::Draining { .. } | Phase::Ended { .. } | Phase::Leaving { .. } => {}
        }
    }

    /// When something changes by time alone.
    pub(super) fn poll_timeout(&self, now: Instant) -> Option<Instant> {
        let of_bytes = self.poll_timeout_of_bytes(now);
        [self.life.poll_timeout(), of_bytes, self.poll_timeout_of_size(now), self.poll_timeout_of_viewers()]
            .into_iter()
            .flatten()
            .min()
    }

    fn finish(&mut self, exit: LeaderExit, now: Instant) {
        let exit = Exit { code: exit.code, signal: exit.signal, offset: self.log.head() };
        tracing::info!(session = %self.id(), code = ?exit.code, signal = ?exit.signal, "session ended");
        self.public.exit = Some(exit);
        self.discard_input();
        self.life.phase = Phase::Ended { keep_until: now + EXITED_KEEP };
        if let Some(refusal) = self.life.farewell.take() {
            self.say_farewell(refusal, now);
        }
    }

    /// Tells every viewer why, and goes when they know or had time to.
    fn say_farewell(&mut self, refusal: Refusal, now: Instant) {
        // The exit is told before, to whoever has seen all output.
        self.serve_viewers(now);
        self.end_all(&refusal, now);
        let until = self.life.kill_at.map_or(now + FAREWELL, |at| at.max(now + FAREWELL));
        self.life.phase = Phase::Leaving { until };
    }
}
