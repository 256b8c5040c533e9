//! The viewers of a session: arriving, speaking, being served, leaving.

use std::time::{Duration, Instant};

use bytes::Bytes;
use rexec_shared::close::CloseCode;
use rexec_shared::limits::VIEWERS_MAX;
use rexec_shared::log::ResumeAnswer;
use rexec_shared::message::{Opened, Role, Size, ViewerInfo, ViewerMessage};
use rexec_shared::ticket::{Capability, FeedState, TicketError};
use uuid::Uuid;

use super::attached::{Attached, Course, Picture};
use super::state::Session;
use super::{Arrival, Command, StreamId, clamp};
use crate::host::handshake::{Intent, Refusal, Request};
use crate::host::pty::Pty;
use crate::host::title::sanitise;

/// Least time between two changes of size: each lays the whole scrollback out anew (THREATS OUT-05).
const RESIZE_EVERY: Duration = Duration::from_millis(30);
/// Names of viewers are cut to this, characters, so that the list of them fits in a frame.
const NAME_MAX: usize = 64;
/// What `Eof` types: the terminal's VEOF.
const EOF: &[u8] = b"\x04";

impl Session {
    /// Takes what a stream says.
    pub(super) fn handle(&mut self, command: Command, pty: Option<&Pty>) {
        match command {
            Command::Arrive(arrival) => self.handle_arrival(*arrival),
            Command::Message(stream, message) => self.handle_message(stream, message, pty),
            Command::Written(stream, buffer) => {
                if let Some(attached) = self.viewers.get_mut(&stream) {
                    attached.handle_written(buffer);
                }
            }
            Command::Broken(stream, refusal) => self.end(stream, refusal),
            Command::Left(stream) => self.remove(stream),
        }
    }

    /// Gives every stream that waits for one its next batch.
    pub(super) fn serve_viewers(&mut self, now: Instant) {
        self.viewers.values_mut().for_each(|attached| attached.look_back(&self.log, &self.pacer));
        let picture = self.viewers.values().any(Attached::wants_picture).then(|| self.take_picture());
        let Self { viewers, log, pacer, public, .. } = self;
        viewers.retain(|_, attached| attached.serve(log, pacer, public, picture.as_ref(), now));
    }

    fn take_picture(&mut self) -> Picture {
        self.catch_up_fully();
        let bytes = Bytes::from(self.screen.snapshot());
        Picture { offset: self.screen.offset(), size: self.screen.size(), bytes }
    }

    fn handle_arrival(&mut self, arrival: Arrival) {
        let Arrival { stream, request, claims, batches } = arrival;
        let role = if claims.allows(Capability::Terminal) { Role::Writer } else { Role::View };
        let admitted = self.admit(&request, &claims.cnf);
        let (course, offset, input_seq, refusal) = match admitted {
            Ok((course, offset, input_seq)) => (course, offset, input_seq, None),
            Err(refusal) => (Course::Output, 0, 0, Some(refusal)),
        };
        let Size { cols, rows } = self.public.size.1;
        let (session, epoch, created, title) =
            (self.id(), self.epoch, self.start.created, self.public.title.1.clone());
        let opened = Opened { session, epoch, role, cols, rows, offset, input_seq, created, title };
        let viewer = request.viewer;
        let mut attached =
            Attached::new(stream, claims, role, batches, (viewer, opened, course), &self.public);
        if let Some(refusal) = refusal {
            attached.end(refusal);
            self.viewers.insert(stream, attached);
            return;
        }
        self.displace(viewer);
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
        if present.count() >= VIEWERS_MAX {
            return Err(Refusal::new(
                CloseCode::LimitReached,
                format!("{VIEWERS_MAX} viewers are attached already"),
            ));
        }
        let answer = match request.intent {
            Intent::Open(_) => self.log.resume(self.epoch, None, None),
            Intent::Attach { epoch, offset } => self.log.resume(self.epoch, epoch, offset),
        };
        if answer == ResumeAnswer::Impossible {
            return Err(Refusal::protocol("the offset was never produced"));
        }
        let first = self.input.is_unused();
        let viewers = &self.viewers;
        let here = |id: Uuid| viewers.values().any(|attached| attached.viewer == id);
        let input_seq = self
            .input
            .handle_arrived(viewer, cnf, request.input_seq, here)
            .map_err(|_| Refusal::new(CloseCode::Forbidden, "the viewer id belongs to another key"))?;
        let fresh = |gap| (Course::NeedsPicture { gap }, self.screen.offset(), input_seq);
        Ok(match answer {
            // What nobody has seen yet is no history: who opened the session sees it from its first byte.
            ResumeAnswer::Fresh if first && self.log.start() == 0 => self.resume_at(viewer, 0, input_seq),
            ResumeAnswer::Rest { from } => self.resume_at(viewer, from, input_seq),
            ResumeAnswer::Fresh | ResumeAnswer::Impossible => fresh(None),
            ResumeAnswer::Lost { from, .. } => fresh(Some(from)),
        })
    }

    fn resume_at(&mut self, viewer: Uuid, offset: u64, input_seq: u64) -> (Course, u64, u64) {
        self.pacer.handle_attached(viewer, offset);
        (Course::Output, offset, input_seq)
    }

    /// The viewer is here on a newer stream.
    fn displace(&mut self, viewer: Uuid) {
        let older =
            self.viewers.values_mut().filter(|attached| attached.viewer == viewer && !attached.is_ending());
        for attached in older {
            attached.end(Refusal::new(CloseCode::Displaced, "this viewer came back on another stream"));
        }
    }

    fn handle_message(&mut self, stream: StreamId, message: ViewerMessage, pty: Option<&Pty>) {
        let Some(attached) = self.viewers.get_mut(&stream).filter(|attached| !attached.is_ending()) else {
            return;
        };
        let (viewer, role) = (attached.viewer, attached.role);
        if role == Role::View && acts(&message) {
            return self.end(stream, Refusal::new(CloseCode::Forbidden, "this viewer may only look"));
        }
        let now = Instant::now();
        match message {
            ViewerMessage::Ack { offset } => {
                if let Err(error) = self.pacer.handle_ack(viewer, offset, now) {
                    self.end(stream, Refusal::protocol(error));
                }
            }
            ViewerMessage::Input { seq, bytes } => self.handle_input(stream, viewer, seq, bytes, pty),
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
            ViewerMessage::Eof => self.input.push_own(Bytes::from_static(EOF)),
            ViewerMessage::Ping { t } => attached.owe_pong(t),
            ViewerMessage::Detach => self.end(stream, Refusal::new(CloseCode::Done, "detached")),
            ViewerMessage::Close => self.handle_close(pty, now),
            ViewerMessage::Open(_) | ViewerMessage::Attach(_) | ViewerMessage::Proof(_) => {
                self.end(stream, Refusal::protocol("that frame begins a stream, it does not continue one"));
            }
        }
    }

    fn handle_input(&mut self, stream: StreamId, viewer: Uuid, seq: u64, bytes: Bytes, pty: Option<&Pty>) {
        let queued = self.input.is_pending();
        match self.input.handle_input(viewer, seq, bytes) {
            Ok(true) => self.owe_ack(viewer),
            Ok(false) => match pty {
                // A keystroke does not wait for a turn of the loop.
                Some(pty) if !queued => drop(self.write_to(pty, super::WRITE_BUDGET)),
                Some(_) => {}
                None => self.discard_input(),
            },
            Err(error) => self.end(stream, Refusal::protocol(error)),
        }
    }

    /// Closes viewers whose permission is void now.
    pub(super) fn handle_feed(&mut self, feed: &FeedState) {
        let void = |attached: &&Attached| {
            feed.is_revoked(&attached.claims) || feed.machine_revoked(attached.claims.aud)
        };
        let streams: Vec<StreamId> =
            self.viewers.values().filter(void).map(|attached| attached.stream).collect();
        for stream in streams {
            self.end(stream, TicketError::Revoked.into());
        }
    }

    /// Ends every viewer.
    pub(super) fn end_all(&mut self, refusal: &Refusal) {
        let streams: Vec<StreamId> = self.viewers.keys().copied().collect();
        for stream in streams {
            self.end(stream, refusal.clone());
        }
    }

    /// Tells a viewer why it is over and counts it no more.
    fn end(&mut self, stream: StreamId, refusal: Refusal) {
        let Some(attached) = self.viewers.get_mut(&stream).filter(|attached| !attached.is_ending()) else {
            return;
        };
        attached.end(refusal);
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
        | ViewerMessage::ReleaseLease
        | ViewerMessage::Ping { .. }
        | ViewerMessage::Detach => false,
    }
}
