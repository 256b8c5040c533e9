//! The screen of a session: what a terminal that had seen all output would show.
//!
//! It is fed the output log in order and stands at a *ground* position of it at all times ([`ground`]), so [`Screen::snapshot`] is right at
//! [`Screen::offset`] and the raw bytes from there on continue it. It answers terminal queries once, for whatever number of viewers,
//! from a list of numeric answers ([`engine`]). It knows no PTY and no viewer.
#![deny(clippy::disallowed_methods)]

mod engine;
mod ground;
mod skim;
mod snapshot;
#[cfg(test)]
mod tests;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use alacritty_terminal::vte::ansi::{Processor, Timeout};
use rexec_shared::limits::SCROLLBACK_LINES;
use rexec_shared::message::Size;

use engine::Engine;
use ground::{State, follow};

/// Longest sequence the screen waits for the end of, bytes; a longer one is skipped (THREATS OUT-05).
const SEQUENCE_MAX: usize = 4 * 1024;

/// The screen shows no intermediate frames, so synchronised updates are applied as they come and nothing is held back.
#[derive(Debug, Default)]
struct NeverHold;

impl Timeout for NeverHold {
    fn set_timeout(&mut self, _: Duration) {}
    fn clear_timeout(&mut self) {}
    fn pending_timeout(&self) -> bool {
        false
    }
}

/// A terminal that follows a session's output.
pub(super) struct Screen {
    engine: Engine,
    parser: Processor<NeverHold>,
    size: Size,
    /// Output bytes taken. Invariant: `fed - tail.len()` is a ground position, or inside a string being skipped.
    fed: u64,
    /// The beginning of a sequence or a character.
    tail: Vec<u8>,
    /// The kind of an overlong sequence whose end is awaited.
    skipping: Option<State>,
    /// A line feed count that pushes everything before it out of the scrollback.
    lines_max: usize,
}

/// Watches output as it comes, to tell a flood that can wait from what must be seen at once.
#[derive(Debug, Default)]
pub(super) struct Watch {
    /// The beginning of what may become a colour.
    begun: Vec<u8>,
    special: bool,
}

impl Watch {
    /// Takes the next output.
    pub(super) fn handle_output(&mut self, bytes: &[u8]) {
        if self.special {
            return;
        }
        let plain = if self.begun.is_empty() {
            skim::measure(bytes)
        } else {
            self.begun.extend_from_slice(bytes);
            skim::measure(&self.begun)
        };
        let all = if self.begun.is_empty() { bytes } else { &self.begun };
        self.special = plain.len < all.len() && !plain.pending;
        self.begun = all.get(plain.len..).filter(|_| plain.pending).unwrap_or_default().to_vec();
    }

    /// The screen has taken everything.
    pub(super) fn handle_caught_up(&mut self) {
        (self.special, self.begun) = (false, Vec::new());
    }

    /// Whether something came that the screen should look at soon: a query, a mode, a movement.
    pub(super) fn is_special(&self) -> bool {
        self.special
    }
}

impl std::fmt::Debug for Screen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Screen").field("size", &self.size).field("fed", &self.fed).finish_non_exhaustive()
    }
}

impl Screen {
    /// An empty screen at offset 0.
    pub(super) fn new(size: Size) -> Self {
        Self::with_scrollback(size, SCROLLBACK_LINES)
    }

    fn with_scrollback(size: Size, lines: usize) -> Self {
        let (engine, parser) = (Engine::new(size, lines), Processor::new());
        Self { engine, parser, size, fed: 0, tail: Vec::new(), skipping: None, lines_max: lines }
    }

    /// Output bytes taken so far.
    pub(super) fn fed(&self) -> u64 {
        self.fed
    }

    /// The output offset at which a terminal looks like [`Self::snapshot`].
    pub(super) fn offset(&self) -> u64 {
        self.fed - self.tail.len() as u64
    }

    /// Its size.
    pub(super) fn size(&self) -> Size {
        self.size
    }

    /// Sets the size; output fed later is laid out in it.
    pub(super) fn resize(&mut self, size: Size) {
        self.size = size;
        self.guarded(|screen| screen.engine.resize(size));
    }

    /// Takes the next output. Call it with a few KiB at a time: what a byte can cost is bounded only per call.
    pub(super) fn advance(&mut self, bytes: &[u8]) {
        self.fed += bytes.len() as u64;
        let rest = self.skip(bytes);
        if self.tail.is_empty() {
            let cut = follow(State::Ground, rest);
            self.feed(rest.get(..cut.whole).unwrap_or_default());
            self.keep(rest.get(cut.whole..).unwrap_or_default(), cut.state);
        } else {
            let mut bytes = std::mem::take(&mut self.tail);
            bytes.extend_from_slice(rest);
            let cut = follow(State::Ground, &bytes);
            self.feed(bytes.get(..cut.whole).unwrap_or_default());
            self.keep(bytes.get(cut.whole..).unwrap_or_default(), cut.state);
        }
    }

    /// Passes over output that will have scrolled away, given what lies ahead from [`Self::offset`] on. What is left is still to be fed, and then the
    /// screen is as if everything had been.
    pub(super) fn skim(&mut self, ahead: &[u8]) {
        if self.skipping.is_some() || !self.engine.scrolls_whole() {
            return;
        }
        let plain = ahead.get(..skim::measure(ahead).len).unwrap_or_default();
        // As many lines as are kept, and a screen more: the first may still fall on lines that were there before.
        let lines = self.lines_max + 2 * usize::from(self.size.rows) + 1;
        let Some(cut) = skim::cut(plain, lines) else { return };
        self.fed = self.offset() + cut as u64;
        self.tail.clear();
        self.feed(&skim::colours(plain.get(..cut).unwrap_or_default()));
    }

    /// Answers to queries since the last call, to be typed into the PTY.
    pub(super) fn take_replies(&mut self) -> String {
        self.engine.take_replies()
    }

    /// The sanitised title, if it was set since the last call.
    pub(super) fn take_title(&mut self) -> Option<String> {
        self.engine.take_title()
    }

    /// Gives back memory that the terminal keeps ready for scrolling.
    pub(super) fn shrink(&mut self) {
        self.engine.term.grid_mut().truncate();
        self.tail.shrink_to_fit();
    }

    /// What paints a terminal, just reset and of this size, as the screen stands at [`Self::offset`]; at most
    /// [`rexec_shared::limits::SNAPSHOT_MAX`] bytes, oldest scrollback left out first.
    pub(super) fn snapshot(&mut self) -> Vec<u8> {
        let mut bytes =
            catch_unwind(AssertUnwindSafe(|| snapshot::paint(&mut self.engine))).unwrap_or_else(|_| {
                self.replace_engine();
                Vec::new()
            });
        bytes.extend_from_slice(self.skipping.map_or(b"", State::introducer));
        bytes
    }

    /// Skips the rest of an overlong sequence; returns what comes after it.
    fn skip<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        let Some(kind) = self.skipping else { return bytes };
        let mut state = kind;
        for (index, byte) in bytes.iter().enumerate() {
            state = follow(state, std::slice::from_ref(byte)).state;
            // An escape begins the terminator of a string and is part of it; anything else that ends one is its last byte.
            let end = if state == State::Escape && kind != State::Escape { index } else { index + 1 };
            if state == State::Ground || end == index {
                self.skipping = None;
                return bytes.get(end..).unwrap_or_default();
            }
            self.skipping = Some(state);
        }
        &[]
    }

    fn keep(&mut self, tail: &[u8], state: State) {
        if tail.len() > SEQUENCE_MAX {
            self.skipping = Some(state);
        } else {
            self.tail.extend_from_slice(tail);
        }
    }

    fn feed(&mut self, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        self.engine.allow(bytes.len());
        self.guarded(|screen| screen.parser.advance(&mut screen.engine, bytes));
    }

    /// The engine is other people's code reading a stranger's bytes: a panic in it costs the picture, never the session.
    fn guarded(&mut self, work: impl FnOnce(&mut Self)) {
        if catch_unwind(AssertUnwindSafe(|| work(self))).is_err() {
            self.replace_engine();
        }
    }

    fn replace_engine(&mut self) {
        tracing::error!(
            offset = self.offset(),
            "the screen engine failed and begins anew; output is not affected"
        );
        self.engine = Engine::new(self.size, self.lines_max);
        self.parser = Processor::new();
    }
}
