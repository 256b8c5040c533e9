//! Whose data is sent next: keystrokes before bulk, everybody in turn, nobody starved.
#![deny(clippy::disallowed_methods)]

use std::collections::VecDeque;

use super::wire::FRAME_MAX;

/// Bytes of quick frames after which a bulk frame goes first if one waits: bulk keeps half of the path under a flood of small writes.
const QUICK_RUN: usize = FRAME_MAX;

/// Which line a stream stands in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Line {
    /// The control stream, from the front.
    Urgent,
    /// Little to say.
    Quick,
    /// A lot to say.
    Bulk,
}

/// Streams with data to send. Invariant, kept by the caller: a stream stands in one line at most, once.
#[derive(Debug, Default)]
pub(super) struct Schedule {
    quick: VecDeque<u32>,
    bulk: VecDeque<u32>,
    /// Bytes sent for quick streams since bulk had its turn.
    run: usize,
}

impl Schedule {
    /// The stream has something to send.
    pub(super) fn push(&mut self, stream: u32, line: Line) {
        match line {
            Line::Urgent => self.quick.push_front(stream),
            Line::Quick => self.quick.push_back(stream),
            Line::Bulk => self.bulk.push_back(stream),
        }
    }

    /// Whose turn it is; it leaves its line.
    pub(super) fn pop(&mut self) -> Option<(u32, Line)> {
        if self.run < QUICK_RUN
            && let Some(stream) = self.quick.pop_front()
        {
            return Some((stream, Line::Quick));
        }
        self.run = 0;
        let bulk = self.bulk.pop_front().map(|stream| (stream, Line::Bulk));
        bulk.or_else(|| self.quick.pop_front().map(|stream| (stream, Line::Quick)))
    }

    /// So many bytes went for the stream that came from `line`.
    pub(super) fn handle_sent(&mut self, line: Line, bytes: usize) {
        self.run = if line == Line::Bulk { 0 } else { self.run.saturating_add(bytes) };
    }

    /// The stream has nothing to send any more.
    pub(super) fn remove(&mut self, stream: u32) {
        self.quick.retain(|queued| *queued != stream);
        self.bulk.retain(|queued| *queued != stream);
    }

    /// Nobody has anything to send any more.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Whether nobody waits.
    pub(super) fn is_empty(&self) -> bool {
        self.quick.is_empty() && self.bulk.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_keystroke_goes_before_bulk_and_the_control_stream_before_keystrokes() {
        let mut schedule = Schedule::default();
        schedule.push(1, Line::Bulk);
        schedule.push(3, Line::Bulk);
        schedule.push(5, Line::Quick);
        schedule.push(0, Line::Urgent);
        let order: Vec<_> = std::iter::from_fn(|| schedule.pop()).map(|(stream, _)| stream).collect();
        assert_eq!(order, [0, 5, 1, 3]);
    }

    #[test]
    fn bulk_keeps_half_of_the_path_under_a_flood_of_small_writes() {
        let mut schedule = Schedule::default();
        schedule.push(1, Line::Bulk);
        let (mut quick, mut bulk) = (0, 0);
        schedule.push(3, Line::Quick);
        for _ in 0..1_000 {
            let (stream, line) = schedule.pop().unwrap();
            let bytes = if line == Line::Bulk { FRAME_MAX } else { 1_000 };
            *(if line == Line::Bulk { &mut bulk } else { &mut quick }) += bytes;
            schedule.handle_sent(line, bytes);
            schedule.push(stream, line);
        }
        assert!(bulk * 10 > quick * 9 && quick * 10 > bulk * 9, "{quick} {bulk}");
    }
}
