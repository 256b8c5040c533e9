//! The viewers of a session: arriving, speaking, being served, leaving.

use std::time::{Duration, Instant};

use bytes::Bytes;
use rexec_shared::close::CloseCode;
use rexec_shared::ledger::LedgerError;
use rexec_shared::limits::VIEWERS_MAX;
use rexec_shared::log::ResumeAnswer;
use rexec_shared::message::{Opened, Role, Size, ViewerInfo, ViewerMessage};
use rexec_shared::ticket::{Capability, Claims, FeedState, TicketError};
use uuid::Uuid;

use super::attached::{Attached, Course, Newcomer, Picture};
use super::input::ArrivalError;
use super::state::Session;
use super::{Arrival, Command, StreamId, clamp, turn_away};
use crate::host::handshake::{Intent, Refusal, Request};
use crate::host::pty::Pty;
use crate::host::title::sanitise;

/// Least time between two changes of size: each lays the whole scrollback out anew (THREATS OUT-05).
const RESIZE_EVERY: Duration = Duration::from_millis(30);
/// Names of viewers are cut to this, characters, so that the list of them fits in a frame.
const NAME_MAX: usize = 64;
/// Streams of one session, those counted that are only being told why they are over.
const STREAMS_MAX: usize = 2 * VIEWERS_MAX;

impl Session {
    /// Takes what a stream says; `feed` is the newest.
    pub(super) fn handle(&mut self, command: Command, feed: &FeedState, pty: Option<&Pty>, now: Instant) {
        match command {
            Command::Arrive(arrival) => self.handle_arrival(*arrival, feed, now),
            Command::Message(stream, message) => self.handle_message(stream, message, pty, now),
            Command::Written(stream, buffer) => {
                if let Some(attached) = self.viewers.get_mut(&stream) {
                    attached.handle_written(buffer, &mut self.pacer, now);
                }
            }
            Command::Broken(stream, refusal) => self.end(stream, refusal, now),
            Command::Left(stream) => self.remove(stream),
        }
    }

    /// Gives every stream that waits for one its next batch.
    pub(super) fn serve_viewers(&mut self, now: Instant) {
        self.part_with_stuck(now);
        self.viewers.values_mut().for_each(|attached| attached.look_back(&self.log, &self.pacer));
        let wanted = self.viewers.values().any(|attached| attached.wants_picture(&self.pacer));
        let picture = wanted.then(|| self.take_picture());
        let Self { viewers, log, pacer, public, .. } = self;
        viewers.retain(|_, attached| attached.serve(log, pacer, public, picture.as_ref(), now));
    }

    /// Lets go of streams that take nothing: dropped, their channel tells them so.
    fn part_with_stuck(&mut self, now: Instant) {
        self.viewers.retain(|_, attached| !attached.is_overdue(now));
        let stuck = self.viewers.values().filter(|attached| attached.is_stuck(&self.pacer, now));
        for stream in stuck.map(|attached| attached.stream).collect::<Vec<_>>() {
            self.end(stream, Refusal::new(CloseCode::TooSlow, "the screen was not taken in time"), now);
        }
    }

    /// When a stream may have taken nothing for too long.
    pub(super) fn poll_timeout_of_viewers(&self) -> Option<Instant> {
        self.viewers.values().filter_map(|attached| attached.poll_timeout(&self.pacer)).min()
    }

    fn take_picture(&mut self) -> Picture {
        self.catch_up_fully();
        let bytes = Bytes::from(self.screen.snapshot());
        Picture { offset: self.screen.offset(), size: self.screen.size(), bytes }
    }

    fn handle_arrival(&mut self, arrival: Arrival, feed: &FeedState, now: Instant) {
        let Arrival { stream, request, claims, outlet } = arrival;
        // The hub looked at the feed when it let the viewer in; a newer one may have been told to this session since, when the viewer was not here yet.
        let admitted = if is_void(&claims, feed) {
            Err(TicketError::Revoked.into())
        } else {
            self.admit(&request, &claims.cnf)
        };
        let (course, offset, input_seq) = match admitted {
            Ok(admitted) => admitted,
            Err(refusal) => return turn_away(&outlet, &refusal),
        };
        let role = if claims.allows(Capability::Terminal) { Role::Writer } else { Role::View };
        let Size { cols, rows } = self.public.size.1;
        let (session, epoch, created, title) =
            (self.id(), self.epoch, self.start.created, self.public.title.1.clone());
        let opened = Opened { session, epoch, role, cols, rows, offset, input_seq, created, title };
        let (viewer, snapshot_ack) = (request.viewer, request.snapshot_ack);
        let newcomer = Newcomer { stream, viewer, role, claims, snapshot_ack, outlet, opened, course };
        let attached = Attached::new(newcomer, &self.public);
        self.displace(viewer, now);
        if matches!(request.intent, Intent::Attach { .. }) || offset == 0 {
            tracing::info!(%session, %viewer, ?role, offset, "viewer attached");
        }
        let changed = match role {
            Role::Writer => self.lease.handle_attached(viewer),
            Role::View => self.lease.handle_left(viewer),
        };
        self.viewers.insert(stream, attached);
        self.tell_lease(changed);
        self.tell_viewers();
    }

    /// Decides whether and where a viewer goes on: its course, the offset it is told, the input expected of it.
    fn admit(&mut self, request: &Request, cnf: &str) -> Result<(Course, u64, u64), Refusal> {
        if self.is_leaving() {
            return Err(Refusal::new(CloseCode::SessionNotFound, "the session has just ended"));
        }
        let viewer = request.viewer;
        let present =
            self.viewers.values().filter(|attached| !attached.is_ending() && attached.viewer != viewer);
        if present.count() >= VIEWERS_MAX || self.viewers.len() >= STREAMS_MAX {
            return Err(Refusal::new(
                CloseCode::LimitReached,
                format!("{VIEWERS_MAX} viewers are attached already"),
            ));
        }
        let seen = if let Intent::Attach { epoch, offset } = request.intent {
            (epoch, offset)
        } else {
            (None, None)
        };
        let answer = self.log.resume(self.epoch, seen.0, seen.1);
        if answer == ResumeAnswer::Impossible {
            return Err(Refusal::protocol("the offset was never produced"));
        }
        let first = self.input.is_unused();
        let viewers = &self.viewers;
        let here = |id: Uuid| viewers.values().any(|attached| attached.viewer == id);
        let input_seq = self.input.handle_arrived(viewer, cnf, request.attempt, request.input_seq, here)?;
        let at = self.screen.offset();
        let (course, offset) = match answer {
            // What nobody has seen yet is no history: who opened the session sees it from its first byte.
            ResumeAnswer::Fresh if first && self.log.start() == 0 => (Course::Output, 0),
            ResumeAnswer::Rest { from } => (Course::Output, from),
            ResumeAnswer::Fresh | ResumeAnswer::Impossible => (Course::NeedsPicture { gap: None }, at),
            ResumeAnswer::Lost { from, .. } => (Course::NeedsPicture { gap: Some(from) }, at),
        };
        self.pacer.handle_attached(viewer, offset);
        Ok((course, offset, input_seq))
    }

    /// The viewer is here on a newer stream.
    fn displace(&mut self, viewer: Uuid, now: Instant) {
        let older =
            self.viewers.values_mut().filter(|attached| attached.viewer == viewer && !attached.is_ending());
        for attached in older {
            let refusal = Refusal::new(CloseCode::Displaced, "this viewer came back on another stream");
            attached.end(refusal, now);
        }
    }

    fn handle_message(&mut self, stream: StreamId, message: ViewerMessage, pty: Option<&Pty>, now: Instant) {
        let Some(attached) = self.viewers.get_mut(&stream).filter(|attached| !attached.is_ending()) else {
            return;
        };
        let (viewer, role) = (attached.viewer, attached.role);
        if role == Role::View && acts(&message) {
            return self.end(stream, Refusal::new(CloseCode::Forbidden, "this viewer may only look"), now);
        }
        match message {
            ViewerMessage::Ack { offset } => {
                if let Err(error) = self.pacer.handle_ack(viewer, offset, now) {
                    self.end(stream, Refusal::protocol(error), now);
                }
            }
            ViewerMessage::SnapshotAck { bytes } => {
                if let Err(error) = self.pacer.handle_picture_ack(viewer, bytes, now) {
                    self.end(stream, Refusal::protocol(error), now);
                }
            }
            ViewerMessage::Input { seq, bytes } => {
                if let Err(error) = self.handle_input(viewer, seq, bytes, pty) {
                    self.end(stream, Refusal::protocol(error), now);
                }
            }
            ViewerMessage::Resize(size) => {
                if self.lease.holder() == Some(viewer) {
                    self.wanted_size = Some(clamp(size));
                }
            }
            ViewerMessage::TakeLease(size) => {
                let changed = self.lease.handle_take(viewer);
                self.tell_lease(changed);
                self.wanted_size = Some(clamp(size));
            }
            ViewerMessage::ReleaseLease => {
                let changed = self.lease.handle_release(viewer);
                self.tell_lease(changed);
            }
            ViewerMessage::Signal(name) => {
                if let Some(pty) = pty {
                    pty.signal_foreground(name);
                }
            }
            ViewerMessage::Eof => self.input.push_eof(),
            ViewerMessage::Ping { t } => attached.owe_pong(t),
            ViewerMessage::Detach => self.end(stream, Refusal::new(CloseCode::Done, "detached"), now),
            ViewerMessage::Close => self.handle_close(pty, now),
            ViewerMessage::Open(_) | ViewerMessage::Attach(_) | ViewerMessage::Proof(_) => {
                let refusal = Refusal::protocol("that frame begins a stream, it does not continue one");
                self.end(stream, refusal, now);
            }
        }
    }

    fn handle_input(
        &mut self,
        viewer: Uuid,
        seq: u64,
        bytes: Bytes,
        pty: Option<&Pty>,
    ) -> Result<(), LedgerError> {
        let queued = self.input.is_pending();
        if self.input.handle_input(viewer, seq, bytes)? {
            self.owe_ack(viewer);
        } else if self.life.has_ended() {
            self.discard_input();
        } else if let Some(pty) = pty.filter(|_| !queued) {
            // A keystroke does not wait for a turn of the loop.
            self.write_to(pty, super::WRITE_BUDGET);
        }
        Ok(())
    }

    /// Closes viewers whose permission is void now.
    pub(super) fn handle_feed(&mut self, feed: &FeedState, now: Instant) {
        let void = self.viewers.values().filter(|attached| is_void(&attached.claims, feed));
        let streams: Vec<StreamId> = void.map(|attached| attached.stream).collect();
        for stream in streams {
            self.end(stream, TicketError::Revoked.into(), now);
        }
    }

    /// Ends every viewer.
    pub(super) fn end_all(&mut self, refusal: &Refusal, now: Instant) {
        let streams: Vec<StreamId> = self.viewers.keys().copied().collect();
        for stream in streams {
            self.end(stream, refusal.clone(), now);
        }
    }

    /// Tells a viewer why it is over and counts it no more.
    fn end(&mut self, stream: StreamId, refusal: Refusal, now: Instant) {
        let Some(attached) = self.viewers.get_mut(&stream).filter(|attached| !attached.is_ending()) else {
            return;
        };
        attached.end(refusal, now);
        let viewer = attached.viewer;
        self.handle_left(viewer);
    }

    /// The stream is gone.
    fn remove(&mut self, stream: StreamId) {
        let Some(attached) = self.viewers.remove(&stream) else { return };
        if !attached.is_ending() {
            self.handle_left(attached.viewer);
        }
    }

    fn handle_left(&mut self, viewer: Uuid) {
        self.pacer.handle_left(viewer);
        let changed = self.lease.handle_left(viewer);
        self.tell_lease(changed);
        self.tell_viewers();
    }

    fn tell_lease(&mut self, changed: bool) {
        if changed {
            self.public.lease = (self.public.lease.0 + 1, self.lease.holder());
            self.tell_viewers();
        }
    }

    fn tell_viewers(&mut self) {
        let holder = self.lease.holder();
        let list =
            self.viewers.values().filter(|attached| !attached.is_ending()).map(|attached| ViewerInfo {
                viewer: attached.viewer,
                name: sanitise(&attached.claims.act.name).chars().take(NAME_MAX).collect(),
                role: attached.role,
                lease: holder == Some(attached.viewer),
            });
        self.public.viewers = (self.public.viewers.0 + 1, list.collect());
    }

    /// Sets the size asked for, unless the last change was a moment ago.
    pub(super) fn apply_size(&mut self, pty: Option<&Pty>, now: Instant) {
        if self.poll_timeout_of_size(now).is_none_or(|at| now < at) {
            return;
        }
        let Some(size) = self.wanted_size.take().filter(|size| *size != self.public.size.1) else { return };
        let Some(pty) = pty else { return };
        // Output read so far was laid out in the old size.
        self.catch_up_fully();
        self.screen.resize(size);
        pty.resize(size);
        self.resized = Some(now);
        self.public.size = (self.public.size.0 + 1, size);
        self.public.resized_at = self.log.head();
    }

    /// When [`Self::apply_size`] has something to do.
    pub(super) fn poll_timeout_of_size(&self, now: Instant) -> Option<Instant> {
        let wanted = self.wanted_size?;
        debug_assert_eq!(wanted, clamp(wanted), "sizes are clamped where they arrive");
        Some(self.resized.map_or(now, |at| at + RESIZE_EVERY))
    }
}

impl From<ArrivalError> for Refusal {
    fn from(error: ArrivalError) -> Self {
        let code = match error {
            ArrivalError::OtherKey => CloseCode::Forbidden,
            ArrivalError::Older => CloseCode::Displaced,
        };
        Self::new(code, error.to_string())
    }
}

fn is_void(claims: &Claims, feed: &FeedState) -> bool {
    feed.is_revoked(claims) || feed.machine_revoked(claims.aud)
}

/// Whether a message does something to the session, which a viewer that may only look must not.
fn acts(message: &ViewerMessage) -> bool {
    match message {
        ViewerMessage::Input { .. }
        | ViewerMessage::Resize(_)
        | ViewerMessage::Signal(_)
        | ViewerMessage::Eof
        | ViewerMessage::TakeLease(_)
        | ViewerMessage::Close => true,
        ViewerMessage::Open(_)
        | ViewerMessage::Attach(_)
        | ViewerMessage::Proof(_)
        | ViewerMessage::Ack { .. }
        | ViewerMessage::SnapshotAck { .. }
        | ViewerMessage::ReleaseLease
        | ViewerMessage::Ping { .. }
        | ViewerMessage::Detach => false,
    }
}
