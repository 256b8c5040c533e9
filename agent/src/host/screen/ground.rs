//! Where a byte stream for a terminal can be cut.
//!
//! A snapshot is right only at a *ground* position: no escape sequence and no character begun. The VT engine does not tell its parser's state, so
//! this tracker follows the same grammar (Williams' state machine as the engine has it) and nothing else.
#![deny(clippy::disallowed_methods)]

/// What the stream is in the middle of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum State {
    /// Nothing, or the first bytes of a character.
    #[default]
    Ground,
    /// ESC came.
    Escape,
    /// ESC and intermediates.
    EscapeIntermediate,
    /// A control sequence.
    Csi,
    /// An operating system command.
    Osc,
    /// A device control string: first byte after the introducer.
    DcsEntry,
    /// Its parameters.
    DcsParam,
    /// Its intermediates.
    DcsIntermediate,
    /// One that will not be understood.
    DcsIgnore,
    /// Its data.
    DcsData,
    /// SOS, PM or APC: a string nobody reads.
    Ignored,
}

const ESC: u8 = 0x1b;

impl State {
    /// The state after one byte. In [`State::Ground`] only ESC leads anywhere.
    fn next(self, byte: u8) -> Self {
        match (self, byte) {
            (_, ESC) => Self::Escape,
            (Self::Ground, _) => Self::Ground,
            (_, 0x18 | 0x1a) => Self::Ground,
            (Self::Escape, _) => after_escape(byte),
            (Self::EscapeIntermediate, 0x30..=0x7e)
            | (Self::Csi, 0x40..=0x7e)
            | (Self::Osc, 0x07)
            | (Self::DcsData, 0x9c) => Self::Ground,
            (Self::DcsEntry | Self::DcsParam | Self::DcsIntermediate, 0x40..=0x7e) => Self::DcsData,
            (Self::DcsEntry | Self::DcsParam | Self::DcsIntermediate, 0x20..=0x2f) => Self::DcsIntermediate,
            (Self::DcsEntry, 0x30..=0x3f) | (Self::DcsParam, 0x30..=0x3b) => Self::DcsParam,
            (Self::DcsParam, 0x3c..=0x3f) | (Self::DcsIntermediate, 0x30..=0x3f) => Self::DcsIgnore,
            (state, _) => state,
        }
    }

    /// Bytes that put a terminal just at ground into this state so that what follows, up to its end, does nothing.
    pub(super) fn introducer(self) -> &'static [u8] {
        match self {
            Self::Ground => b"",
            Self::Escape => b"\x1b",
            Self::EscapeIntermediate => b"\x1b((",
            Self::Csi => b"\x1b[0<",
            Self::Osc => b"\x1b]99999;",
            Self::DcsEntry | Self::DcsParam | Self::DcsIntermediate | Self::DcsData => b"\x1bP99999~",
            Self::DcsIgnore => b"\x1bP0<",
            Self::Ignored => b"\x1b_",
        }
    }
}

fn after_escape(byte: u8) -> State {
    match byte {
        b'[' => State::Csi,
        b']' => State::Osc,
        b'P' => State::DcsEntry,
        b'X' | b'^' | b'_' => State::Ignored,
        0x20..=0x2f => State::EscapeIntermediate,
        0x30..=0x7e => State::Ground,
        _ => State::Escape,
    }
}

/// How far a run of bytes is whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Cut {
    /// Bytes up to the last ground position; 0 when there is none.
    pub(super) whole: usize,
    /// The state after all bytes.
    pub(super) state: State,
}

/// Follows `bytes` from `state` and finds the last ground position in them.
pub(super) fn follow(mut state: State, bytes: &[u8]) -> Cut {
    let (mut at, mut whole) = (0, 0);
    while let Some(rest) = bytes.get(at..).filter(|rest| !rest.is_empty()) {
        if state == State::Ground {
            let Some(escape) = find_escape(rest) else {
                whole = bytes.len() - incomplete_character(rest);
                break;
            };
            // An escape cuts a character short, so everything before it is whole.
            whole = at + escape;
            at = whole + 1;
            state = State::Escape;
        } else {
            state = state.next(rest.first().copied().unwrap_or_default());
            at += 1;
            if state == State::Ground {
                whole = at;
            }
        }
    }
    Cut { whole, state }
}

fn find_escape(bytes: &[u8]) -> Option<usize> {
    // `contains` on bytes is a word-at-a-time search, `position` is not: blocks without an escape go by fast.
    let mut at = 0;
    for block in bytes.chunks(256) {
        if block.contains(&ESC) {
            return block.iter().position(|byte| *byte == ESC).map(|index| at + index);
        }
        at += block.len();
    }
    None
}

/// Length of a UTF-8 character at the end that lacks bytes; 0 when there is none.
fn incomplete_character(bytes: &[u8]) -> usize {
    for back in 1..=bytes.len().min(3) {
        let byte = bytes.get(bytes.len() - back).copied().unwrap_or_default();
        let needed = match byte {
            0x80..=0xbf => continue,
            0xc2..=0xdf => 2,
            0xe0..=0xef => 3,
            0xf0..=0xf4 => 4,
            _ => 1,
        };
        let tail = bytes.get(bytes.len() - back..).unwrap_or_default();
        let begun = std::str::from_utf8(tail).is_err_and(|error| error.error_len().is_none());
        return if needed > back && begun { back } else { 0 };
    }
    0
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn sequences_and_characters_are_not_cut() {
        for (bytes, whole) in [
            (&b"abc"[..], 3),
            (b"abc\x1b", 3),
            (b"abc\x1b[3", 3),
            (b"abc\x1b[3m", 7),
            (b"\x1b]0;t", 0),
            (b"\x1b]0;t\x07", 6),
            (b"\x1b]0;t\x1b", 0),
            (b"\x1b]0;t\x1b\\x", 8),
            (b"\x1bPq#0\x1b\\", 7),
            (b"\x1b(", 0),
            (b"\x1b(0", 3),
            (b"\x1b_x\x07", 0),
            ("aé".as_bytes(), 3),
            (&"a日".as_bytes()[..3], 1),
            (b"a\xff", 2),
            (b"a\xe6\x97", 1),
            (b"a\xe6\x97\x1b[m", 6),
            (b"\x1b[1\x18", 4),
            (b"a\xe0\x80", 3),
        ] {
            assert_eq!(follow(State::Ground, bytes).whole, whole, "{bytes:?}");
        }
    }

    proptest! {
        #[test]
        fn the_state_does_not_depend_on_how_bytes_are_split(bytes in prop::collection::vec(
            prop_oneof![Just(0x1bu8), Just(b'['), Just(b']'), Just(b'P'), Just(0x9c), Just(0x07), any::<u8>()], 0..60), cut in 0usize..60) {
            let cut = cut.min(bytes.len());
            let first = follow(State::Ground, &bytes[..cut]);
            prop_assert_eq!(follow(first.state, &bytes[cut..]).state, follow(State::Ground, &bytes).state);
        }
    }
}
