//! Frames: `u8 type · varint length · payload`, cut out of a byte stream that may be split anywhere.
//!
//! `length` is an unsigned LEB128 of at most three bytes in its shortest form and at most [`FRAME_MAX`]; both are checked before a
//! byte of payload is stored (THREATS MA-03). The decoder holds at most one frame and what the caller pushed with it.
#![deny(clippy::disallowed_methods)]

use bytes::{Buf, BufMut, Bytes, BytesMut};
use thiserror::Error;

use crate::limits::FRAME_MAX;

/// Longest frame header, bytes: the type and three bytes of length.
pub const HEADER_MAX: usize = 4;

/// One frame, its payload not yet looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// The type byte; see `docs/PROTOCOL.md`.
    pub kind: u8,
    /// What the type says it is.
    pub payload: Bytes,
}

/// A byte stream that is not frames. Fatal: nothing after it can be trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum FrameError {
    /// The length is above the decoder's limit.
    #[error("frame of {len} bytes exceeds {max}")]
    TooLong {
        /// The length announced.
        len: usize,
        /// The limit in force.
        max: usize,
    },
    /// The length is not a LEB128 of three bytes in shortest form.
    #[error("frame length is not a shortest-form varint of at most 3 bytes")]
    BadLength,
}

/// Cuts frames out of pushed bytes.
#[derive(Debug)]
pub struct Decoder {
    buffer: BytesMut,
    max: usize,
}

impl Default for Decoder {
    fn default() -> Self {
        Self::new()
    }
}

impl Decoder {
    /// A decoder for payloads up to [`FRAME_MAX`].
    pub fn new() -> Self {
        Self::with_max(FRAME_MAX)
    }

    /// A decoder with a lower limit, for first frames.
    pub fn with_max(max: usize) -> Self {
        Self { buffer: BytesMut::new(), max }
    }

    /// Adds received bytes.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The buffer, for reading from a socket straight into it.
    pub fn buffer_mut(&mut self) -> &mut BytesMut {
        &mut self.buffer
    }

    /// The next whole frame; `None` until more bytes are pushed.
    pub fn poll_frame(&mut self) -> Result<Option<Frame>, FrameError> {
        let Some((kind, header, len)) = self.header()? else { return Ok(None) };
        if self.buffer.len() < header + len {
            return Ok(None);
        }
        self.buffer.advance(header);
        let payload = self.buffer.split_to(len).freeze();
        Ok(Some(Frame { kind, payload }))
    }

    /// Length in bytes of the whole frame at the front, header included, once it is complete.
    pub fn complete_len(&self) -> Result<Option<usize>, FrameError> {
        Ok(self.header()?.map(|(_, header, len)| header + len).filter(|whole| *whole <= self.buffer.len()))
    }

    /// Bytes pushed and not yet returned.
    pub fn into_rest(self) -> BytesMut {
        self.buffer
    }

    fn header(&self) -> Result<Option<(u8, usize, usize)>, FrameError> {
        let Some((&kind, rest)) = self.buffer.split_first() else { return Ok(None) };
        let mut len = 0usize;
        for (index, byte) in rest.iter().take(3).enumerate() {
            len |= usize::from(byte & 0x7f) << (7 * index);
            if byte & 0x80 == 0 {
                if index > 0 && *byte == 0 {
                    return Err(FrameError::BadLength);
                }
                if len > self.max {
                    return Err(FrameError::TooLong { len, max: self.max });
                }
                return Ok(Some((kind, index + 2, len)));
            }
        }
        if rest.len() >= 3 { Err(FrameError::BadLength) } else { Ok(None) }
    }
}

/// Writes a frame's header and returns nothing else: the payload follows from wherever it lies.
///
/// A `len` above [`FRAME_MAX`] is a bug of the caller, caught in tests by the assertion.
pub fn put_header(out: &mut BytesMut, kind: u8, len: usize) {
    debug_assert!(len <= FRAME_MAX, "payload of {len} bytes");
    out.put_u8(kind);
    let mut rest = len;
    while rest >= 0x80 {
        out.put_u8((rest as u8 & 0x7f) | 0x80);
        rest >>= 7;
    }
    out.put_u8(rest as u8);
}

/// Appends a whole frame.
pub fn put_frame(out: &mut BytesMut, kind: u8, payload: &[u8]) {
    put_header(out, kind, payload.len());
    out.extend_from_slice(payload);
}

/// Appends a data frame: `u64 address · bytes` (`Input`, `Output`).
pub fn put_data(out: &mut BytesMut, kind: u8, address: u64, bytes: &[u8]) {
    put_header(out, kind, 8 + bytes.len());
    out.put_u64(address);
    out.extend_from_slice(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn encode(frames: &[(u8, Vec<u8>)]) -> BytesMut {
        let mut out = BytesMut::new();
        for (kind, payload) in frames {
            put_frame(&mut out, *kind, payload);
        }
        out
    }

    #[test]
    fn a_frame_is_type_varint_payload() {
        let mut out = BytesMut::new();
        put_frame(&mut out, 0x80, &[0xaa; 3]);
        assert_eq!(hex::encode(&out), "8003aaaaaa");
        let mut long = BytesMut::new();
        put_header(&mut long, 0xa0, 300);
        assert_eq!(hex::encode(&long), "a0ac02");
        let mut most = BytesMut::new();
        put_header(&mut most, 0xa0, FRAME_MAX);
        assert_eq!(hex::encode(&most), "a0808004");
    }

    #[test]
    fn ma_03_a_length_above_the_limit_is_refused_before_its_payload_comes() {
        let mut decoder = Decoder::new();
        decoder.push(&[0x80, 0x81, 0x80, 0x04]);
        assert_eq!(decoder.poll_frame(), Err(FrameError::TooLong { len: FRAME_MAX + 1, max: FRAME_MAX }));
        let mut endless = Decoder::new();
        endless.push(&[0x80, 0xff, 0xff, 0xff]);
        assert_eq!(endless.poll_frame(), Err(FrameError::BadLength));
        let mut padded = Decoder::new();
        padded.push(&[0x80, 0x80, 0x00]);
        assert_eq!(padded.poll_frame(), Err(FrameError::BadLength));
    }

    proptest! {
        #[test]
        fn any_split_gives_the_same_frames(
            frames in prop::collection::vec((any::<u8>(), prop::collection::vec(any::<u8>(), 0..400)), 0..12),
            cuts in prop::collection::vec(1usize..50, 1..40),
        ) {
            let wire = encode(&frames);
            let mut decoder = Decoder::new();
            let mut seen = Vec::new();
            let (mut at, mut cut) = (0, 0);
            while at < wire.len() {
                let end = (at + cuts[cut % cuts.len()]).min(wire.len());
                decoder.push(&wire[at..end]);
                while let Some(frame) = decoder.poll_frame().unwrap() {
                    seen.push((frame.kind, frame.payload.to_vec()));
                }
                (at, cut) = (end, cut + 1);
            }
            prop_assert_eq!(seen, frames);
            prop_assert!(decoder.into_rest().is_empty());
        }

        #[test]
        fn mangled_bytes_never_panic_and_never_grow(bytes in prop::collection::vec(any::<u8>(), 0..2000)) {
            let mut decoder = Decoder::new();
            decoder.push(&bytes);
            while let Ok(Some(frame)) = decoder.poll_frame() {
                prop_assert!(frame.payload.len() <= bytes.len());
            }
        }
    }
}
