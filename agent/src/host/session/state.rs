//! The state of a session, and its path of bytes: input to the PTY, output to log and screen.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use rexec_shared::lease::Lease;
use rexec_shared::limits::{LOG_BYTES_MAX, VIEWER_SILENT};
use rexec_shared::log::OutputLog;
use rexec_shared::message::{InputAck, Size};
use rexec_shared::pacing::Pacer;
use rexec_shared::tunnel::SessionInfo;
use uuid::Uuid;

use super::StreamId;
use super::attached::{Attached, Public};
use super::input::Input;
use super::life::Life;
use crate::host::pty::{Leader, Pty, ReadEnd};
use crate::host::screen::{Screen, Watch};

/// How long one turn feeds the screen at most; what viewers are to see next waits for it.
const SCREEN_TURN: Duration = Duration::from_micros(500);
/// Output fed to the screen between two looks at the clock, bytes.
const SCREEN_STEP: usize = 4 * 1024;
/// Output that comes in smaller pieces is looked at at once, bytes.
const FLOOD_MIN: u64 = 2 * 1024;
/// Output left for later before what scrolled away is passed over, bytes: below three quarters of the log, so that reading goes on.
const FLOOD_KEEP: u64 = 2 * 1024 * 1024;
/// Less than this is not worth looking through, bytes.
const SKIM_MIN: u64 = 128 * 1024;
/// A flood is over when nothing came for this long.
const FLOOD_PAUSE: Duration = Duration::from_millis(5);
/// How often a hung-up PTY is tried again while its leader lives: it may open its terminal once more.
const HUNG_UP_RETRY: Duration = Duration::from_millis(200);
/// How soon a PTY that was hung up and is no more is watched anew.
const STALE_RETRY: Duration = Duration::from_millis(10);
/// Batches that are read at most when a session ends: more than the kernel holds.
const LAST_BATCHES: usize = 4;
/// Output must be this old before memory kept for speed is given back.
const IDLE: Duration = Duration::from_secs(30);

/// See [`super`]. Fields are shared by the modules of the session; each names what it changes.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) start: SessionInfo,
    /// This life of the PTY.
    pub(super) epoch: Uuid,
    pub(super) life: Life,
    pub(super) log: OutputLog,
    /// Output the screen may be behind the log, bytes: below the log's size, so that what it lacks is always there.
    lag_max: u64,
    pub(super) screen: Screen,
    pub(super) input: Input,
    pub(super) viewers: BTreeMap<StreamId, Attached>,
    pub(super) pacer: Pacer,
    pub(super) lease: Lease,
    pub(super) public: Public,
    /// A size asked for and not yet set.
    pub(super) wanted_size: Option<Size>,
    pub(super) resized: Option<Instant>,
    /// Counters of what presence was told last.
    published: (u64, u64, u64, bool),
    watch: Watch,
    /// Where the log stood when what scrolled away was last looked for.
    skimmed_to: u64,
    scratch: Vec<u8>,
    step: BytesMut,
    /// Reading pauses until then.
    hung_up: Option<Instant>,
    /// Writing pauses until then: nobody has the other side open, and it is full.
    full: Option<Instant>,
    last_output: Instant,
    shrink_at: Option<Instant>,
}

impl Session {
    /// A session whose leader just started.
    pub(super) fn new(info: &SessionInfo, leader: Leader, now: Instant) -> Self {
        Self::with_log(info, leader, LOG_BYTES_MAX, now)
    }

    /// The same with a log of another size.
    pub(super) fn with_log(info: &SessionInfo, leader: Leader, log_max: usize, now: Instant) -> Self {
        let size = Size { cols: info.cols, rows: info.rows };
        Self {
            start: info.clone(),
            epoch: Uuid::new_v4(),
            life: Life::new(leader),
            log: OutputLog::new(log_max),
            lag_max: log_max as u64 / 4 * 3,
            screen: Screen::new(size),
            input: Input::default(),
            viewers: BTreeMap::new(),
            pacer: Pacer::default(),
            lease: Lease::default(),
            public: Public {
                viewers: (1, Vec::new()),
                lease: (1, None),
                title: (1, String::new()),
                size: (1, size),
                resized_at: 0,
                exit: None,
            },
            wanted_size: None,
            resized: None,
            published: (0, 0, 0, false),
            watch: Watch::default(),
            skimmed_to: 0,
            scratch: Vec::new(),
            step: BytesMut::new(),
            hung_up: None,
            full: None,
            last_output: now,
            shrink_at: None,
        }
    }

    /// Its id.
    pub(super) fn id(&self) -> Uuid {
        self.start.session
    }

    /// What presence tells of it, if that has changed since the last call.
    pub(super) fn poll_info(&mut self) -> Option<SessionInfo> {
        let public = &self.public;
        let stand = (public.viewers.0, public.title.0, public.size.0, public.exit.is_some());
        (std::mem::replace(&mut self.published, stand) != stand).then(|| self.info())
    }

    fn info(&self) -> SessionInfo {
        SessionInfo {
            title: self.public.title.1.clone(),
            cols: self.public.size.1.cols,
            rows: self.public.size.1.rows,
            viewers: u32::try_from(self.public.viewers.1.len()).unwrap_or(u32::MAX),
            exited: self.public.exit,
            ..self.start.clone()
        }
    }

    /// Whether output may be read now: somebody keeps up or nobody counts, and the screen is not too far behind.
    pub(super) fn should_read(&self, now: Instant) -> bool {
        let paced =
            self.life.is_draining() || self.pacer.should_read(self.log.head(), self.lease.holder(), now);
        self.hung_up.is_none() && self.lag() < self.lag_max && paced
    }

    /// Whether input waits for the PTY.
    pub(super) fn should_write(&self) -> bool {
        self.input.is_pending() && self.full.is_none()
    }

    /// Whether the screen lacks output that it should be fed now.
    pub(super) fn is_behind(&self, now: Instant) -> bool {
        self.lag() > 0 && !self.is_flooded(now)
    }

    fn lag(&self) -> u64 {
        self.log.head() - self.screen.fed()
    }

    /// Whether plain output comes fast: nobody asks the screen anything, and most of it will have scrolled away before anybody looks.
    fn is_flooded(&self, now: Instant) -> bool {
        let fresh = now.saturating_duration_since(self.last_output) < FLOOD_PAUSE;
        fresh && !self.watch.is_special() && (FLOOD_MIN..FLOOD_KEEP).contains(&self.lag())
    }

    /// Reads a batch of output into the log.
    pub(super) fn read_from(&mut self, pty: &Pty, budget: usize) -> ReadEnd {
        let mut scratch = std::mem::take(&mut self.scratch);
        scratch.clear();
        let end = pty.read_batch(&mut scratch, budget);
        if !scratch.is_empty() {
            self.handle_output(&scratch, Instant::now());
        }
        self.scratch = scratch;
        end
    }

    /// Takes output into the log.
    pub(super) fn handle_output(&mut self, bytes: &[u8], now: Instant) {
        self.log.append(bytes);
        self.watch.handle_output(bytes);
        self.last_output = now;
        self.shrink_at.get_or_insert(now + IDLE);
        self.life.handle_output(now);
    }

    /// Reads what there is, for the last time; returns whether there was anything.
    pub(super) fn read_last(&mut self, pty: &Pty) -> bool {
        let before = self.log.head();
        for _ in 0..LAST_BATCHES {
            if self.read_from(pty, super::READ_BUDGET) != ReadEnd::Budget {
                break;
            }
        }
        self.log.head() > before
    }

    /// Nobody has the other side of the PTY open.
    pub(super) fn handle_hung_up(&mut self) {
        self.hung_up = Some(Instant::now() + HUNG_UP_RETRY);
        self.life.handle_hung_up();
    }

    /// The PTY is called hung up and is not: it must be watched anew.
    pub(super) fn handle_stale(&mut self) {
        self.hung_up = Some(Instant::now() + STALE_RETRY);
    }

    /// The PTY takes nothing and is called hung up, so nobody will say when it does.
    pub(super) fn handle_full(&mut self) {
        self.full = Some(Instant::now() + HUNG_UP_RETRY);
    }

    /// The leader was reaped: a hung-up PTY is read once more, for what is left in it.
    pub(super) fn handle_reaped(&mut self) {
        self.hung_up = None;
    }

    /// Writes waiting input; returns false when the PTY takes no more for now.
    pub(super) fn write_to(&mut self, pty: &Pty, budget: usize) -> bool {
        self.write_with(budget, |bytes| pty.try_write(bytes))
    }

    /// Writes waiting input with `write`, which says how much it took; returns false when it took less than it was given.
    pub(super) fn write_with(&mut self, budget: usize, write: impl FnMut(&[u8]) -> usize) -> bool {
        let mut writers: Vec<Uuid> = Vec::new();
        let more = self.input.write(budget, write, |viewer| {
            if !writers.contains(&viewer) {
                writers.push(viewer);
            }
        });
        writers.into_iter().for_each(|viewer| self.owe_ack(viewer));
        more
    }

    /// Input that can no longer be written counts as written: there is nobody to read it.
    pub(super) fn discard_input(&mut self) {
        self.write_with(usize::MAX, <[u8]>::len);
    }

    /// Tells a viewer how much of its input is in the PTY, and where output stood then.
    pub(super) fn owe_ack(&mut self, viewer: Uuid) {
        let Some(seq) = self.input.acknowledged(viewer) else { return };
        let ack = InputAck { seq, offset: self.log.head() };
        let attached =
            self.viewers.values_mut().find(|attached| attached.viewer == viewer && !attached.is_ending());
        if let Some(attached) = attached {
            attached.owe_ack(ack);
        }
    }

    /// Feeds the screen what it lacks, for one turn's time; a flood of plain lines waits until it is over. Returns whether viewers are to be told
    /// of anything.
    pub(super) fn catch_up(&mut self, now: Instant) -> bool {
        if self.lag() == 0 || self.is_flooded(now) {
            return false;
        }
        let told = self.public.title.0;
        self.skim();
        let until = now + SCREEN_TURN;
        while self.is_behind(now) && self.step_screen() {
            if Instant::now() >= until {
                break;
            }
        }
        self.take_from_screen();
        self.public.title.0 != told
    }

    /// Feeds the screen everything.
    pub(super) fn catch_up_fully(&mut self) {
        self.skim();
        while self.lag() > 0 && self.step_screen() {}
        self.take_from_screen();
    }

    /// Passes over what has scrolled away already.
    fn skim(&mut self) {
        if self.lag() > SKIM_MIN && self.log.head() >= self.skimmed_to + SKIM_MIN {
            self.skimmed_to = self.log.head();
            let mut ahead = BytesMut::new();
            self.log.read(self.screen.offset(), usize::MAX, &mut ahead);
            self.screen.skim(&ahead);
        }
    }

    fn step_screen(&mut self) -> bool {
        self.step.clear();
        let read = self.log.read(self.screen.fed(), SCREEN_STEP, &mut self.step);
        debug_assert!(read.is_some(), "the log holds what the screen lacks");
        self.screen.advance(&self.step);
        read.is_some()
    }

    fn take_from_screen(&mut self) {
        if self.lag() == 0 {
            self.watch.handle_caught_up();
        }
        let replies = self.screen.take_replies();
        self.input.push_replies(replies);
        if let Some(title) = self.screen.take_title().filter(|title| *title != self.public.title.1) {
            self.public.title = (self.public.title.0 + 1, title);
        }
    }

    /// What time alone brings to the bytes' path.
    pub(super) fn handle_time_of_bytes(&mut self, pty: Option<&mut Pty>, now: Instant) {
        let held = [self.hung_up, self.full].into_iter().flatten().min();
        if let (Some(pty), true) = (pty, held.is_some_and(|at| now >= at) && self.life.is_alive()) {
            self.hung_up = self.hung_up.filter(|at| now < *at);
            self.full = self.full.filter(|at| now < *at);
            pty.rearm();
        }
        if self.shrink_at.is_some_and(|at| now >= at) {
            let idle = now.saturating_duration_since(self.last_output) >= IDLE;
            self.shrink_at = (!idle).then(|| self.last_output + IDLE);
            if idle {
                self.screen.shrink();
                (self.scratch, self.step) = (Vec::new(), BytesMut::new());
            }
        }
    }

    /// When [`Self::handle_time_of_bytes`] or [`Self::should_read`] may bring something by time alone.
    pub(super) fn poll_timeout_of_bytes(&self, now: Instant) -> Option<Instant> {
        let retry = [self.hung_up, self.full].into_iter().flatten().min().filter(|_| self.life.is_alive());
        let held = self.hung_up.is_none() && !self.should_read(now);
        // A viewer silent for long is no reason to look again at once.
        let pacing = self.pacer.poll_timeout().filter(|_| held).map(|at| at.max(now + VIEWER_SILENT / 20));
        let flood = self.is_flooded(now).then(|| self.last_output + FLOOD_PAUSE);
        [retry, pacing, flood, self.shrink_at].into_iter().flatten().min()
    }
}
