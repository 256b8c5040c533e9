//! One attached viewer as its session sees it: what it has been told, what it is owed, and the next batch of frames for it.
//!
//! Everything owed is a level, not a queue: the newest size, the newest list of viewers, the newest acknowledgement. A viewer that reads nothing
//! therefore costs one batch, and one that comes back to reading is told how things stand now.
#![deny(clippy::disallowed_methods)]

use std::time::{Duration, Instant};

use bytes::{BufMut, Bytes, BytesMut};
use rexec_shared::frame::put_header;
use rexec_shared::limits::DATA_FRAME_MAX;
use rexec_shared::log::OutputLog;
use rexec_shared::message::{Exit, HostMessage, InputAck, OUTPUT, Opened, Role, Size, Snapshot, ViewerInfo};
use rexec_shared::pacing::Pacer;
use rexec_shared::ticket::Claims;
use uuid::Uuid;

use super::{Batch, Outlet, StreamId};
use crate::host::handshake::Refusal;

/// Data put into one batch, bytes: enough to make a system call worth its while, little beside a window.
const BATCH_MAX: usize = 64 * 1024;
/// Headers and addresses of a full batch, bytes, generously.
const FRAME_OVERHEAD: usize = 64;
/// How long a viewer that is told why it is over may take to take it.
pub(super) const ENDING_DEADLINE: Duration = Duration::from_secs(5);
/// How long a viewer may owe an acknowledgement in the middle of a snapshot: the rest of it is held for that viewer alone.
const PICTURE_DEADLINE: Duration = Duration::from_secs(30);
/// How long an acknowledgement of input waits for the echo that most input has: together they are one message on every hop, apart two.
const ACK_HOLD: Duration = Duration::from_millis(1);
/// Buffers above this are not kept for the next batch, bytes.
const BUFFER_KEEP: usize = 4 * 1024;

/// What every viewer of a session is told, with a counter that grows at each change.
#[derive(Debug)]
pub(super) struct Public {
    pub(super) viewers: (u64, Vec<ViewerInfo>),
    pub(super) lease: (u64, Option<Uuid>),
    pub(super) title: (u64, String),
    pub(super) size: (u64, Size),
    /// Output offset at which the size became what it is.
    pub(super) resized_at: u64,
    pub(super) exit: Option<Exit>,
}

/// Counters of [`Public`] that a viewer has been told.
#[derive(Debug, Clone, Copy, Default)]
struct Told {
    viewers: u64,
    lease: u64,
    title: u64,
    size: u64,
    exit: bool,
}

/// Where a viewer's output goes on.
#[derive(Debug)]
pub(super) enum Course {
    /// Output from [`Pacer::next_offset`] on.
    Output,
    /// A snapshot first; it is taken when the viewer can be sent it. With the first byte of a gap to tell before.
    NeedsPicture { gap: Option<u64> },
    /// The rest of a snapshot, sent as far as the viewer's window allows.
    Picture(Bytes),
}

/// A snapshot of the screen and where it belongs.
#[derive(Debug)]
pub(super) struct Picture {
    pub(super) offset: u64,
    pub(super) size: Size,
    pub(super) bytes: Bytes,
}

/// One attached viewer.
#[derive(Debug)]
pub(super) struct Attached {
    pub(super) stream: StreamId,
    pub(super) viewer: Uuid,
    pub(super) role: Role,
    pub(super) claims: Box<Claims>,
    /// Whether it acknowledges snapshots; for one that does not, what its socket took counts.
    snapshot_ack: bool,
    outlet: Outlet,
    /// The buffer for the next batch; `None` while the stream writes the last one.
    buffer: Option<BytesMut>,
    opened: Option<Opened>,
    course: Course,
    told: Told,
    ack: Option<InputAck>,
    /// When an acknowledgement that was held back goes alone.
    ack_due: Option<Instant>,
    pong: Option<u64>,
    /// Why it is over, and until when it may take that.
    ending: Option<(Refusal, Instant)>,
}

/// A viewer as it arrives.
#[derive(Debug)]
pub(super) struct Newcomer {
    pub(super) stream: StreamId,
    pub(super) viewer: Uuid,
    pub(super) role: Role,
    pub(super) claims: Box<Claims>,
    pub(super) snapshot_ack: bool,
    pub(super) outlet: Outlet,
    /// The first thing it is told.
    pub(super) opened: Opened,
    pub(super) course: Course,
}

impl Attached {
    /// A viewer that just arrived.
    pub(super) fn new(newcomer: Newcomer, public: &Public) -> Self {
        let Newcomer { stream, viewer, role, claims, snapshot_ack, outlet, opened, course } = newcomer;
        let told = Told { title: public.title.0, size: public.size.0, ..Told::default() };
        let (opened, buffer) = (Some(opened), Some(BytesMut::new()));
        Self {
            stream,
            viewer,
            role,
            claims,
            snapshot_ack,
            outlet,
            buffer,
            opened,
            course,
            told,
            ack: None,
            ack_due: None,
            pong: None,
            ending: None,
        }
    }

    /// Whether the stream waits for a batch.
    pub(super) fn is_idle(&self) -> bool {
        self.buffer.is_some()
    }

    /// Whether nothing but an error will be sent to it.
    pub(super) fn is_ending(&self) -> bool {
        self.ending.is_some()
    }

    /// Notices that the log has forgotten what the viewer needs next.
    pub(super) fn look_back(&mut self, log: &OutputLog, pacer: &Pacer) {
        let next = pacer.next_offset(self.viewer).filter(|next| *next < log.start());
        if let (Course::Output, Some(next), false) = (&self.course, next, self.is_ending()) {
            self.course = Course::NeedsPicture { gap: Some(next) };
        }
    }

    /// Whether a snapshot is what it can be sent next. One that has not acknowledged what it was sent gets none: it would pile up on the way.
    pub(super) fn wants_picture(&self, pacer: &Pacer) -> bool {
        let needs = matches!(self.course, Course::NeedsPicture { .. });
        needs && self.is_idle() && !self.is_ending() && pacer.is_idle(self.viewer)
    }

    /// The stream has written its batch.
    pub(super) fn handle_written(&mut self, buffer: BytesMut, pacer: &mut Pacer, now: Instant) {
        self.buffer = Some(if buffer.capacity() <= BUFFER_KEEP { buffer } else { BytesMut::new() });
        if !self.snapshot_ack && !self.is_ending() {
            pacer.handle_picture_written(self.viewer, now);
        }
    }

    /// Whether it is held up in the middle of a snapshot for too long.
    pub(super) fn is_stuck(&self, pacer: &Pacer, now: Instant) -> bool {
        !self.is_ending() && self.stuck_at(pacer).is_some_and(|at| now >= at)
    }

    /// Whether it had its time to take why it is over.
    pub(super) fn is_overdue(&self, now: Instant) -> bool {
        self.ending.as_ref().is_some_and(|(_, until)| now >= *until)
    }

    /// When [`Self::is_stuck`] or [`Self::is_overdue`] may become true, or [`Self::serve`] has something to say by time alone.
    pub(super) fn poll_timeout(&self, pacer: &Pacer) -> Option<Instant> {
        let ack = self.ack_due.filter(|_| self.is_idle());
        self.ending
            .as_ref()
            .map_or_else(|| self.stuck_at(pacer).into_iter().chain(ack).min(), |(_, until)| Some(*until))
    }

    fn stuck_at(&self, pacer: &Pacer) -> Option<Instant> {
        let painting = matches!(self.course, Course::Picture(_));
        pacer.owing_since(self.viewer).filter(|_| painting).map(|since| since + PICTURE_DEADLINE)
    }

    /// Owes an acknowledgement of input.
    pub(super) fn owe_ack(&mut self, ack: InputAck) {
        self.ack = Some(ack);
    }

    /// Owes the answer to a ping.
    pub(super) fn owe_pong(&mut self, t: u64) {
        self.pong = Some(t);
    }

    /// Nothing more is sent but why, and nothing is held for it any more.
    pub(super) fn end(&mut self, refusal: Refusal, now: Instant) {
        self.ending.get_or_insert((refusal, now + ENDING_DEADLINE));
        self.course = Course::Output;
        (self.opened, self.ack, self.ack_due) = (None, None, None);
    }

    /// Hands the stream what there is to say, if it waits for that: a batch that goes at once, and one behind it. Returns false once it has been
    /// handed its last.
    pub(super) fn serve(
        &mut self,
        log: &OutputLog,
        pacer: &mut Pacer,
        public: &Public,
        picture: Option<&Picture>,
        now: Instant,
    ) -> bool {
        for at_once in [true, false] {
            let Some(mut bytes) = self.buffer.take() else { break };
            let last = self.put(&mut bytes, log, pacer, public, picture, now);
            if bytes.is_empty() {
                self.buffer = Some(bytes);
                break;
            }
            if let Some(buffer) = self.outlet.send(Batch { bytes, last }, at_once) {
                self.handle_written(buffer, pacer, now);
            }
            if last {
                return false;
            }
        }
        true
    }

    /// Puts a batch together, and says whether it is the last.
    fn put(
        &mut self,
        out: &mut BytesMut,
        log: &OutputLog,
        pacer: &mut Pacer,
        public: &Public,
        picture: Option<&Picture>,
        now: Instant,
    ) -> bool {
        let last = self.ending.is_some();
        if let Some((refusal, _)) = self.ending.take() {
            refusal.message().encode(out);
        } else {
            self.put_control(out, public);
            self.put_ack(out, log, pacer, now);
            self.put_course(out, pacer, picture, now);
            // While a snapshot was on its way, the log may have forgotten what follows it.
            self.look_back(log, pacer);
            self.put_output(out, log, pacer, public, now);
        }
        last
    }

    fn put_control(&mut self, out: &mut BytesMut, public: &Public) {
        if let Some(opened) = self.opened.take() {
            HostMessage::Opened(opened).encode(out);
        }
        if let Some(t) = self.pong.take() {
            HostMessage::Pong { t }.encode(out);
        }
        if self.told.viewers != public.viewers.0 {
            self.told.viewers = public.viewers.0;
            HostMessage::Viewers(public.viewers.1.clone()).encode(out);
        }
        if self.told.lease != public.lease.0 {
            self.told.lease = public.lease.0;
            HostMessage::Lease { holder: public.lease.1 }.encode(out);
        }
        if self.told.title != public.title.0 {
            self.told.title = public.title.0;
            HostMessage::Title { title: public.title.1.clone() }.encode(out);
        }
    }

    /// Acknowledges input with whatever else there is to say, its echo above all, or alone when there is nothing for [`ACK_HOLD`].
    fn put_ack(&mut self, out: &mut BytesMut, log: &OutputLog, pacer: &Pacer, now: Instant) {
        let Some(ack) = self.ack else { return };
        let due = *self.ack_due.get_or_insert(now + ACK_HOLD);
        let echoed = pacer.next_offset(self.viewer).is_some_and(|next| next < log.head());
        if echoed || !out.is_empty() || now >= due {
            (self.ack, self.ack_due) = (None, None);
            HostMessage::InputAck(ack).encode(out);
        }
    }

    /// A snapshot, the gap that called for it before it.
    fn put_course(&mut self, out: &mut BytesMut, pacer: &mut Pacer, picture: Option<&Picture>, now: Instant) {
        let picture = picture.filter(|_| pacer.is_idle(self.viewer));
        if let (Course::NeedsPicture { gap }, Some(picture)) = (&self.course, picture) {
            if let Some(from) = *gap {
                HostMessage::Gap { from, to: picture.offset }.encode(out);
            }
            let (Size { cols, rows }, bytes) = (picture.size, picture.bytes.len() as u64);
            HostMessage::Snapshot(Snapshot { offset: picture.offset, cols, rows, bytes }).encode(out);
            pacer.handle_moved(self.viewer, picture.offset, now);
            self.course = Course::Picture(picture.bytes.clone());
        }
        if let Course::Picture(bytes) = &mut self.course {
            let mut room = pacer.budget(self.viewer).min(BATCH_MAX as u64) as usize;
            while room > 0 && !bytes.is_empty() {
                let chunk = bytes.split_to(bytes.len().min(DATA_FRAME_MAX).min(room));
                room -= chunk.len();
                pacer.handle_picture_sent(self.viewer, chunk.len() as u64, now);
                HostMessage::SnapshotData(chunk).encode(out);
            }
            if bytes.is_empty() {
                self.course = Course::Output;
            }
        }
    }

    fn put_output(
        &mut self,
        out: &mut BytesMut,
        log: &OutputLog,
        pacer: &mut Pacer,
        public: &Public,
        now: Instant,
    ) {
        if !matches!(self.course, Course::Output) {
            return;
        }
        let Some(mut next) = pacer.next_offset(self.viewer) else { return };
        // Output from before the size changed is sent before the size is told, and not more with it.
        let untold = self.told.size != public.size.0;
        let until = if untold && next < public.resized_at { public.resized_at } else { log.head() };
        // The end of a snapshot may be in this batch already.
        let left = BATCH_MAX.saturating_sub(out.len()) as u64;
        let mut room = pacer.budget(self.viewer).min(left).min(until.saturating_sub(next));
        if untold && next >= public.resized_at {
            self.told.size = public.size.0;
            HostMessage::Resized(public.size.1).encode(out);
        }
        out.reserve(room as usize + usize::from(room > 0) * FRAME_OVERHEAD);
        while room > 0 {
            let len = room.min(DATA_FRAME_MAX as u64) as usize;
            put_header(out, OUTPUT, 8 + len);
            out.put_u64(next);
            let put = log.read(next, len, out);
            debug_assert_eq!(put, Some(len), "the log holds what the pacer lets pass");
            next += len as u64;
            room -= len as u64;
            pacer.handle_sent(self.viewer, len as u64, now);
        }
        if let Some(exit) = public.exit.filter(|exit| next == exit.offset && !self.told.exit) {
            self.told.exit = true;
            HostMessage::Exit(exit).encode(out);
        }
    }
}
