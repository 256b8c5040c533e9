//! The output log: what a PTY has produced, by absolute offset, the oldest bytes forgotten.
//!
//! One log belongs to one epoch of one session. It answers a resuming viewer exactly: the rest, or that bytes are gone, never a
//! silent gap (DESIGN law 2).
#![deny(clippy::disallowed_methods)]

use std::collections::VecDeque;

use bytes::{BufMut, BytesMut};
use uuid::Uuid;

/// Output of one epoch, the last `max` bytes of it.
#[derive(Debug)]
pub struct OutputLog {
    bytes: VecDeque<u8>,
    /// Offset of the first byte kept. Invariant: `start + bytes.len()` is the number of bytes ever appended.
    start: u64,
    max: usize,
}

/// What a viewer that comes back is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ResumeAnswer {
    /// Exactly the rest, from here.
    Rest {
        /// First byte to send.
        from: u64,
    },
    /// Bytes are gone: say so, then send a snapshot.
    Lost {
        /// What the viewer asked for.
        from: u64,
        /// The oldest byte there is.
        to: u64,
    },
    /// The viewer has nothing of this epoch: a snapshot.
    Fresh,
    /// The viewer claims bytes that were never produced.
    Impossible,
}

impl OutputLog {
    /// An empty log that keeps at most `max` bytes.
    pub fn new(max: usize) -> Self {
        Self { bytes: VecDeque::new(), start: 0, max }
    }

    /// One past the last byte produced.
    pub fn head(&self) -> u64 {
        self.start + self.bytes.len() as u64
    }

    /// The oldest byte kept.
    pub fn start(&self) -> u64 {
        self.start
    }

    /// Adds output, forgetting the oldest beyond the limit.
    pub fn append(&mut self, mut new: &[u8]) {
        if new.len() > self.max {
            let skip = new.len() - self.max;
            self.start = self.head() + skip as u64;
            self.bytes.clear();
            new = &new[skip..];
        }
        let excess = (self.bytes.len() + new.len()).saturating_sub(self.max);
        self.bytes.drain(..excess);
        self.start += excess as u64;
        self.bytes.extend(new);
    }

    /// Copies at most `max` bytes from `from` on into `out` and returns how many; `None` when `from` is not kept or not yet produced.
    pub fn read(&self, from: u64, max: usize, out: &mut BytesMut) -> Option<usize> {
        let skip = usize::try_from(from.checked_sub(self.start)?).ok()?;
        let len = self.bytes.len().checked_sub(skip)?.min(max);
        let (front, back) = self.bytes.as_slices();
        let head = front.get(skip..).unwrap_or_default();
        let first = &head[..len.min(head.len())];
        let back_skip = skip.saturating_sub(front.len());
        out.put_slice(first);
        out.put_slice(&back[back_skip..back_skip + len - first.len()]);
        Some(len)
    }

    /// Answers an `Attach` with `(seen_epoch, offset)` when this log is of `epoch`.
    pub fn resume(&self, epoch: Uuid, seen_epoch: Option<Uuid>, offset: Option<u64>) -> ResumeAnswer {
        match (seen_epoch, offset) {
            (Some(seen), Some(from)) if seen == epoch => {
                if from > self.head() {
                    ResumeAnswer::Impossible
                } else if from < self.start {
                    ResumeAnswer::Lost { from, to: self.start }
                } else {
                    ResumeAnswer::Rest { from }
                }
            }
            (Some(_) | None, Some(_) | None) => ResumeAnswer::Fresh,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// The model of the log is everything ever written.
        #[test]
        fn every_read_is_a_slice_of_everything_written(
            max in 1usize..300,
            writes in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..120), 0..40),
            from in 0u64..3000, len in 0usize..200,
        ) {
            let mut model = Vec::new();
            let mut log = OutputLog::new(max);
            for write in &writes {
                log.append(write);
                model.extend_from_slice(write);
                prop_assert_eq!(log.head(), model.len() as u64);
                prop_assert_eq!(log.start(), model.len().saturating_sub(max) as u64);
            }
            let mut out = BytesMut::new();
            match log.read(from, len, &mut out) {
                Some(n) => {
                    prop_assert!(from >= log.start() && from <= log.head());
                    prop_assert_eq!(&out[..], &model[from as usize..from as usize + n]);
                    prop_assert_eq!(n, len.min(model.len() - from as usize));
                }
                None => prop_assert!(from < log.start() || from > log.head()),
            }
        }

        #[test]
        fn a_resume_is_exact_or_says_what_is_lost(max in 1usize..100, written in 0usize..300, offset in 0u64..400) {
            let epoch = Uuid::from_u128(1);
            let mut log = OutputLog::new(max);
            log.append(&vec![7; written]);
            let answer = log.resume(epoch, Some(epoch), Some(offset));
            let expected = if offset > written as u64 { ResumeAnswer::Impossible }
                else if (offset as usize) < written.saturating_sub(max) { ResumeAnswer::Lost { from: offset, to: log.start() } }
                else { ResumeAnswer::Rest { from: offset } };
            prop_assert_eq!(answer, expected);
            prop_assert_eq!(log.resume(epoch, Some(Uuid::from_u128(2)), Some(offset)), ResumeAnswer::Fresh);
            prop_assert_eq!(log.resume(epoch, Some(epoch), None), ResumeAnswer::Fresh);
        }
    }
}
