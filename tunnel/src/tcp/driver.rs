//! The task of one TCP connection: moves bytes between its multiplexer and its TLS stream.
//!
//! A batch is taken from the multiplexer only when the one before has left for the kernel, so what a keystroke can find before it is one batch and what the
//! kernel holds unsent ([`super::socket`]). Batches shrink on a path that blocks and grow on one that does not.
//! The socket is read whatever happens to what is sent: the multiplexer's credits bound what can come.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf, BytesMut};
use rexec_shared::mux::FRAME_MAX;
use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::{Instant, Sleep, sleep_until, timeout};

use super::shared::Shared;
use crate::end::PathEnd;

/// Bytes of a batch on a path that blocks: one frame, one TLS record.
const BATCH_MIN: usize = FRAME_MAX;
/// Bytes of a batch on a path that does not: as much as one call hands to the kernel well.
const BATCH_MAX: usize = 64 * 1024;
/// Reads and batches before other tasks get their turn (DESIGN §5: no task may pump without a budget).
const TURNS: usize = 4;
/// TLS records read before something is sent.
const READS: usize = 4;
/// A peer that takes nothing for this long is given up. It reads whatever its streams do, so this is a dead path or an attack.
const STALL: Duration = Duration::from_secs(20);
/// How long the goodbye may take to leave, and the peer to close in turn.
const GOODBYE: Duration = Duration::from_secs(1);
/// Further than any deadline.
const FAR: Duration = Duration::from_secs(3600);

pub(super) struct Driver<S> {
    io: S,
    shared: Arc<Shared>,
    /// Taken from the multiplexer, not yet taken by TLS. Empty and without room when idle.
    staged: BytesMut,
    /// TLS holds bytes that the kernel has not taken.
    is_flushing: bool,
    batch: usize,
    blocked_since: Option<Instant>,
    timer: Pin<Box<Sleep>>,
}

impl<S: AsyncBufRead + AsyncWrite + Unpin> Driver<S> {
    pub(super) fn new(io: S, shared: Arc<Shared>) -> Self {
        Self {
            io,
            shared,
            staged: BytesMut::new(),
            is_flushing: false,
            batch: BATCH_MAX,
            blocked_since: None,
            timer: Box::pin(sleep_until(Instant::now())),
        }
    }

    /// Carries the connection until it has ended.
    pub(super) async fn run(mut self) {
        std::future::poll_fn(|cx| self.poll_run(cx)).await;
        // Who takes no goodbye in time gets none.
        timeout(GOODBYE, self.part()).await.ok();
    }

    fn poll_run(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.shared.drive(|state| state.register_task(cx));
        for _ in 0..TURNS {
            let received = self.poll_receive(cx);
            self.poll_timer(cx);
            let sent = self.poll_send(cx);
            if self.shared.drive(|state| state.mux.end().is_some()) {
                return Poll::Ready(());
            }
            if !received && !sent {
                return Poll::Pending;
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Whether something was received.
    fn poll_receive(&mut self, cx: &mut Context<'_>) -> bool {
        for nth in 0..READS {
            let end = match Pin::new(&mut self.io).poll_fill_buf(cx) {
                Poll::Ready(Ok([])) => PathEnd::Reset,
                Poll::Ready(Ok(bytes)) => {
                    let len = bytes.len();
                    let now = Instant::now().into_std();
                    self.shared.drive(|state| state.mux.handle_input(bytes, now));
                    Pin::new(&mut self.io).consume(len);
                    continue;
                }
                Poll::Ready(Err(error)) => error.into(),
                Poll::Pending => return nth > 0,
            };
            self.shared.drive(|state| state.lose(end));
            return true;
        }
        true
    }

    fn poll_timer(&mut self, cx: &mut Context<'_>) {
        let now = Instant::now();
        let stalled_at = self.blocked_since.map(|since| since + STALL);
        let deadline = self.shared.drive(|state| {
            state.mux.handle_timeout(now.into_std());
            if stalled_at.is_some_and(|at| now >= at) {
                state.lose(PathEnd::TimedOut);
            }
            state.mux.poll_timeout()
        });
        let at = deadline.map(Instant::from_std).into_iter().chain(stalled_at).min().unwrap_or(now + FAR);
        // Moved only when it must be: it is set anew when it fires too early.
        if at < self.timer.deadline() || self.timer.is_elapsed() {
            self.timer.as_mut().reset(at);
        }
        if self.timer.as_mut().poll(cx).is_ready() {
            cx.waker().wake_by_ref();
        }
    }

    /// Whether a batch has left.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> bool {
        if self.staged.is_empty() && !self.is_flushing {
            let (staged, batch) = (&mut self.staged, self.batch);
            let now = Instant::now().into_std();
            self.shared.drive(|state| state.mux.poll_output(staged, batch, now));
            if self.staged.is_empty() {
                self.staged = BytesMut::new();
                return false;
            }
        }
        match self.poll_leave(cx) {
            Poll::Ready(Ok(())) => {
                self.blocked_since = None;
                self.batch = (self.batch * 2).min(BATCH_MAX);
            }
            Poll::Ready(Err(error)) => self.shared.drive(|state| state.lose(error.into())),
            Poll::Pending => {
                self.blocked_since.get_or_insert_with(Instant::now);
                self.batch = BATCH_MIN;
                return false;
            }
        }
        true
    }

    /// Brings what is staged into the kernel.
    fn poll_leave(&mut self, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        while !self.staged.is_empty() {
            let written = std::task::ready!(Pin::new(&mut self.io).poll_write(cx, &self.staged))?;
            if written == 0 {
                return Poll::Ready(Err(std::io::ErrorKind::WriteZero.into()));
            }
            self.staged.advance(written);
            self.is_flushing = true;
            self.blocked_since = None;
        }
        std::task::ready!(Pin::new(&mut self.io).poll_flush(cx))?;
        self.is_flushing = false;
        Poll::Ready(Ok(()))
    }

    /// Says goodbye if there is one to say, and waits for the peer to close: closing a socket with bytes unread would have the kernel reset
    /// it, and the goodbye with it.
    async fn part(mut self) {
        let staged = &mut self.staged;
        self.shared.drive(|state| state.mux.poll_output(staged, usize::MAX, Instant::now().into_std()));
        // Whatever fails here, there is nobody left to tell.
        if self.io.write_all_buf(&mut self.staged).await.is_err() || self.io.shutdown().await.is_err() {
            return;
        }
        while let Ok(bytes) = self.io.fill_buf().await {
            let len = bytes.len();
            if len == 0 {
                return;
            }
            self.io.consume(len);
        }
    }
}
