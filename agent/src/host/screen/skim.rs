//! Output that will have scrolled away before anybody can see it.
//!
//! In a flood of plain lines only the last of them, as many as screen and scrollback hold, decide what a terminal looks like; of those before, only
//! colours remain. Reading a flood this way costs a search for line ends instead of a terminal's work on every character.
#![deny(clippy::disallowed_methods)]

const ESC: u8 = 0x1b;
/// Longest colour sequence, bytes; what claims to be a longer one is no plain text.
const SGR_MAX: usize = 128;

/// How far output is plain: text, line ends, tabs and colours, and nothing that moves, asks or sets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Plain {
    /// Bytes that are.
    pub(super) len: usize,
    /// Whether what follows may be a colour that is not whole yet.
    pub(super) pending: bool,
}

/// Measures the plain bytes at the front.
pub(super) fn measure(bytes: &[u8]) -> Plain {
    let mut at = 0;
    while let Some(found) = find_special(bytes.get(at..).unwrap_or_default()) {
        at += found;
        match sgr_len(bytes.get(at..).unwrap_or_default()) {
            Ok(len) => at += len,
            Err(pending) => return Plain { len: at, pending },
        }
    }
    Plain { len: bytes.len(), pending: false }
}

/// Where to go on in plain output so that at least `lines` line feeds follow: the index of a CR LF.
pub(super) fn cut(plain: &[u8], lines: usize) -> Option<usize> {
    let mut end = plain.len();
    for _ in 0..lines {
        end = plain.get(..end)?.iter().rposition(|byte| *byte == b'\n')?;
    }
    plain.get(..end)?.windows(2).rposition(|pair| pair == b"\r\n").filter(|at| *at > 0)
}

/// The colour sequences of plain output, as far as they still count at its end.
pub(super) fn colours(plain: &[u8]) -> Vec<u8> {
    let mut kept = Vec::new();
    let mut rest = plain;
    while let Some(found) = rest.iter().position(|byte| *byte == ESC) {
        rest = rest.get(found..).unwrap_or_default();
        let len = sgr_len(rest).unwrap_or(1);
        let sequence = rest.get(..len).unwrap_or_default();
        if matches!(sequence, b"\x1b[m" | b"\x1b[0m") {
            kept.clear();
        }
        kept.extend_from_slice(sequence);
        rest = rest.get(len..).unwrap_or_default();
    }
    kept
}

/// The first escape or shift; whole blocks without one are passed at memory speed.
fn find_special(bytes: &[u8]) -> Option<usize> {
    let special = |byte: &u8| matches!(*byte, ESC | 0x0e | 0x0f);
    let mut at = 0;
    for block in bytes.chunks(128) {
        if block.iter().fold(false, |any, byte| any | special(byte)) {
            return block.iter().position(special).map(|index| at + index);
        }
        at += block.len();
    }
    None
}

/// Length of the SGR sequence at the front; the error is whether it may become one.
fn sgr_len(bytes: &[u8]) -> Result<usize, bool> {
    let expected = |index: usize, byte: u8| match bytes.get(index) {
        Some(got) if *got == byte => Ok(()),
        Some(_) => Err(false),
        None => Err(true),
    };
    expected(0, ESC)?;
    expected(1, b'[')?;
    for (index, byte) in bytes.iter().enumerate().skip(2).take(SGR_MAX) {
        match byte {
            b'm' => return Ok(index + 1),
            b'0'..=b';' => {}
            _ => return Err(false),
        }
    }
    Err(bytes.len() < SGR_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_colours_are_plain_and_nothing_else_is() {
        let plain = |bytes: &[u8]| (measure(bytes).len, measure(bytes).pending);
        assert_eq!(plain(b"a\r\n\tb\x08\x07"), (7, false));
        assert_eq!(plain("日本\r\n".as_bytes()), (8, false));
        assert_eq!(plain(b"a\x1b[1;38:2::1:2:3mb\x1b[m"), (21, false));
        assert_eq!(plain(b"a\x1b[1"), (1, true));
        assert_eq!(plain(b"a\x1b"), (1, true));
        for special in
            [&b"a\x1b[6n"[..], b"a\x1b[>4;1m", b"a\x1b]0;", b"a\x1bM", b"a\x0e", b"a\x1b[H", b"a\x1b[1 m"]
        {
            assert_eq!(plain(special), (1, false), "{special:?}");
        }
    }

    #[test]
    fn a_cut_leaves_the_lines_asked_for() {
        let text = b"one\r\ntwo\r\nthree\r\nfour\r\n";
        assert_eq!(cut(text, 1), Some(15));
        assert_eq!(cut(text, 2), Some(8));
        assert_eq!(cut(text, 4), None);
        assert_eq!(cut(b"a\nb\nc\n", 1), None, "without carriage returns the column is unknown");
    }

    #[test]
    fn only_colours_since_the_last_reset_remain() {
        assert_eq!(colours(b"\x1b[1mx\x1b[0my\x1b[31m\x1b[4mz\r\n"), b"\x1b[0m\x1b[31m\x1b[4m");
    }
}
