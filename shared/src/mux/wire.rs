//! The frames of the multiplexer, cut out of a byte stream that may be split anywhere.
//!
//! ```text
//! u8 type · u32 stream · u16 length · payload                 integers are big-endian
//! ```
//!
//! The header has a fixed size, so that payloads are read where the transport left them: only a frame that came in pieces is stored, and at
//! most one of them. Type and length are checked against each other before a byte of payload is stored (THREATS MA-03).
#![deny(clippy::disallowed_methods)]

use bytes::{BufMut, BytesMut};
use thiserror::Error;

/// Bytes before the payload: type, stream, length.
pub const HEADER: usize = 7;
/// Largest frame with its header, bytes. One TLS record (RFC 8446 §5.1), so a frame never straddles two.
pub const FRAME_MAX: usize = 16 * 1024;
/// Largest payload of `DATA`, bytes: nobody waits longer than for this.
pub const DATA_MAX: usize = FRAME_MAX - HEADER;
/// Longest reason in `CLOSE`, bytes: a sentence for a log.
pub const REASON_MAX: usize = 256;

const OPEN: u8 = 0x01;
const DATA: u8 = 0x02;
const CREDIT: u8 = 0x03;
const FIN: u8 = 0x04;
const RESET: u8 = 0x05;
const STOP: u8 = 0x06;
const CLOSE: u8 = 0x07;
const PING: u8 = 0x08;
const PONG: u8 = 0x09;

/// One frame; its payload lies where it was received.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Frame<'a> {
    /// The sender opens this stream.
    Open { stream: u32 },
    /// Bytes of the sender's half, 1 to [`DATA_MAX`].
    Data { stream: u32, bytes: &'a [u8] },
    /// The receiver of this may send so many more bytes; never zero.
    Credit { stream: u32, bytes: u32 },
    /// The sender's half ends here.
    Fin { stream: u32 },
    /// The sender's half is abandoned.
    Reset { stream: u32, code: u32 },
    /// The sender reads no more of the receiver's half.
    Stop { stream: u32, code: u32 },
    /// The sender is gone after this.
    Close { code: u32, reason: &'a [u8] },
    /// To be answered by a `PONG` with the same token.
    Ping { token: u64 },
    /// See [`Frame::Ping`].
    Pong { token: u64 },
}

/// A byte stream that is not frames. Fatal: nothing after it can be trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum WireError {
    /// No such type in this version.
    #[error("frame type {0:#04x} does not exist")]
    Type(u8),
    /// The length does not fit the type.
    #[error("frame type {kind:#04x} of {len} bytes")]
    Length {
        /// The type.
        kind: u8,
        /// The length announced.
        len: usize,
    },
    /// `CLOSE`, `PING` and `PONG` concern the connection and carry 0 where others carry a stream.
    #[error("frame type {kind:#04x} names stream {stream}")]
    Stream {
        /// The type.
        kind: u8,
        /// What it names.
        stream: u32,
    },
    /// A `CREDIT` that grants nothing.
    #[error("credit of zero bytes")]
    ZeroCredit,
}

impl Frame<'_> {
    /// Appends this frame. A payload above its limit is a bug of the caller, caught in tests by the assertion.
    pub(super) fn encode(&self, out: &mut BytesMut) {
        match *self {
            Self::Open { stream } => put_header(out, OPEN, stream, 0),
            Self::Data { stream, bytes } => {
                put_data_header(out, stream, bytes.len());
                out.put_slice(bytes);
            }
            Self::Credit { stream, bytes } => put_number(out, CREDIT, stream, bytes),
            Self::Fin { stream } => put_header(out, FIN, stream, 0),
            Self::Reset { stream, code } => put_number(out, RESET, stream, code),
            Self::Stop { stream, code } => put_number(out, STOP, stream, code),
            Self::Close { code, reason } => {
                put_header(out, CLOSE, 0, 4 + reason.len());
                out.put_u32(code);
                out.put_slice(reason);
            }
            Self::Ping { token } => put_token(out, PING, token),
            Self::Pong { token } => put_token(out, PONG, token),
        }
    }
}

/// Appends the header of a `DATA` frame: its `len` bytes follow from wherever they lie.
pub(super) fn put_data_header(out: &mut BytesMut, stream: u32, len: usize) {
    debug_assert!((1..=DATA_MAX).contains(&len), "data of {len} bytes");
    put_header(out, DATA, stream, len);
}

fn put_header(out: &mut BytesMut, kind: u8, stream: u32, len: usize) {
    debug_assert!(len <= DATA_MAX, "payload of {len} bytes");
    out.put_u8(kind);
    out.put_u32(stream);
    out.put_u16(len as u16);
}

fn put_number(out: &mut BytesMut, kind: u8, stream: u32, number: u32) {
    put_header(out, kind, stream, 4);
    out.put_u32(number);
}

fn put_token(out: &mut BytesMut, kind: u8, token: u64) {
    put_header(out, kind, 0, 8);
    out.put_u64(token);
}

#[derive(Clone, Copy)]
struct Header {
    kind: u8,
    stream: u32,
    len: usize,
}

impl Header {
    /// The header at the front, once it is there and possible.
    fn read(bytes: &[u8]) -> Result<Option<Self>, WireError> {
        let Some(&[kind, a, b, c, d, high, low]) = bytes.first_chunk::<HEADER>() else { return Ok(None) };
        let header = Self {
            kind,
            stream: u32::from_be_bytes([a, b, c, d]),
            len: usize::from(u16::from_be_bytes([high, low])),
        };
        header.check()?;
        Ok(Some(header))
    }

    fn check(&self) -> Result<(), WireError> {
        let (least, most) = match self.kind {
            OPEN | FIN => (0, 0),
            DATA => (1, DATA_MAX),
            CREDIT | RESET | STOP => (4, 4),
            CLOSE => (4, 4 + REASON_MAX),
            PING | PONG => (8, 8),
            kind => return Err(WireError::Type(kind)),
        };
        if self.len < least || self.len > most {
            return Err(WireError::Length { kind: self.kind, len: self.len });
        }
        if matches!(self.kind, CLOSE | PING | PONG) && self.stream != 0 {
            return Err(WireError::Stream { kind: self.kind, stream: self.stream });
        }
        Ok(())
    }

    fn whole(&self) -> usize {
        HEADER + self.len
    }

    /// The frame of this header and payload, whose length [`Header::check`] has checked.
    fn frame<'a>(&self, payload: &'a [u8]) -> Result<Frame<'a>, WireError> {
        let Self { kind, stream, len } = *self;
        let number = payload.first_chunk().map(|bytes| u32::from_be_bytes(*bytes));
        let token = payload.first_chunk().map(|bytes| u64::from_be_bytes(*bytes));
        Ok(match (kind, number, token) {
            (OPEN, ..) => Frame::Open { stream },
            (DATA, ..) => Frame::Data { stream, bytes: payload },
            (CREDIT, Some(0), _) => return Err(WireError::ZeroCredit),
            (CREDIT, Some(bytes), _) => Frame::Credit { stream, bytes },
            (FIN, ..) => Frame::Fin { stream },
            (RESET, Some(code), _) => Frame::Reset { stream, code },
            (STOP, Some(code), _) => Frame::Stop { stream, code },
            (CLOSE, Some(code), _) => Frame::Close { code, reason: payload.get(4..).unwrap_or_default() },
            (PING, _, Some(token)) => Frame::Ping { token },
            (PONG, _, Some(token)) => Frame::Pong { token },
            _ => return Err(WireError::Length { kind, len }),
        })
    }
}

/// Cuts frames out of received bytes. Holds at most one incomplete frame, nothing when there is none.
#[derive(Debug, Default)]
pub(super) struct Decoder {
    partial: Vec<u8>,
    /// `partial` was returned as a frame by the last call.
    is_spent: bool,
}

impl Decoder {
    /// The next whole frame, taken off the front of `input`; `None` once all of it is taken.
    pub(super) fn poll_frame<'a, 'i: 'a>(
        &'a mut self,
        input: &mut &'i [u8],
    ) -> Result<Option<Frame<'a>>, WireError> {
        if std::mem::take(&mut self.is_spent) {
            self.partial = Vec::new();
        }
        if !self.partial.is_empty() {
            return self.complete(input);
        }
        if let Some(header) = Header::read(input)?
            && let Some((frame, rest)) = input.split_at_checked(header.whole())
        {
            *input = rest;
            return header.frame(frame.get(HEADER..).unwrap_or_default()).map(Some);
        }
        self.partial.extend_from_slice(std::mem::take(input));
        Ok(None)
    }

    /// Goes on with a frame that came in pieces: first its header, then the rest.
    fn complete<'a>(&'a mut self, input: &mut &[u8]) -> Result<Option<Frame<'a>>, WireError> {
        if !self.fill(HEADER, input) {
            return Ok(None);
        }
        let Some(header) = Header::read(&self.partial)? else { return Ok(None) };
        if !self.fill(header.whole(), input) {
            return Ok(None);
        }
        self.is_spent = true;
        header.frame(self.partial.get(HEADER..).unwrap_or_default()).map(Some)
    }

    /// Whether `partial` now has `len` bytes.
    fn fill(&mut self, len: usize, input: &mut &[u8]) -> bool {
        let missing = len.saturating_sub(self.partial.len()).min(input.len());
        let (taken, rest) = input.split_at(missing);
        self.partial.extend_from_slice(taken);
        *input = rest;
        self.partial.len() >= len
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn hex_of(frame: Frame<'_>) -> String {
        let mut out = BytesMut::new();
        frame.encode(&mut out);
        let (mut decoder, mut input) = (Decoder::default(), &out[..]);
        assert_eq!(decoder.poll_frame(&mut input), Ok(Some(frame)));
        hex::encode(&out)
    }

    #[test]
    fn every_frame_is_type_stream_length_payload() {
        assert_eq!(hex_of(Frame::Open { stream: 1 }), "01000000010000");
        assert_eq!(hex_of(Frame::Data { stream: 0x102, bytes: b"ls\r" }), "020000010200036c730d");
        assert_eq!(hex_of(Frame::Credit { stream: 3, bytes: 65_536 }), "0300000003000400010000");
        assert_eq!(hex_of(Frame::Fin { stream: 0 }), "04000000000000");
        assert_eq!(hex_of(Frame::Reset { stream: 5, code: 8 }), "0500000005000400000008");
        assert_eq!(hex_of(Frame::Stop { stream: 7, code: 13 }), "060000000700040000000d");
        assert_eq!(hex_of(Frame::Close { code: 10, reason: b"bye" }), "070000000000070000000a627965");
        assert_eq!(hex_of(Frame::Ping { token: 1 }), "080000000000080000000000000001");
        assert_eq!(hex_of(Frame::Pong { token: u64::MAX }), "09000000000008ffffffffffffffff");
    }

    fn first(hex_text: &str) -> Result<(), WireError> {
        let bytes = hex::decode(hex_text).unwrap();
        let mut whole = &bytes[..];
        let at_once = Decoder::default().poll_frame(&mut whole).map(|_| ());
        let mut decoder = Decoder::default();
        let bytewise =
            bytes.iter().try_for_each(|byte| decoder.poll_frame(&mut std::slice::from_ref(byte)).map(|_| ()));
        assert_eq!(at_once, bytewise, "however it is split");
        at_once
    }

    #[test]
    fn ma_03_a_length_that_does_not_fit_the_type_is_refused_before_its_payload_comes() {
        assert_eq!(first("02000000013ffa"), Err(WireError::Length { kind: DATA, len: DATA_MAX + 1 }));
        assert_eq!(first("0200000001ffff"), Err(WireError::Length { kind: DATA, len: 65_535 }));
        assert_eq!(first("01000000010001"), Err(WireError::Length { kind: OPEN, len: 1 }));
        assert_eq!(first("07000000000105"), Err(WireError::Length { kind: CLOSE, len: 261 }));
        assert_eq!(first("08000000000007"), Err(WireError::Length { kind: PING, len: 7 }));
        assert_eq!(first("00000000010000"), Err(WireError::Type(0)));
        assert_eq!(first("0a000000010000"), Err(WireError::Type(10)));
        assert_eq!(first("08000000010008"), Err(WireError::Stream { kind: PING, stream: 1 }));
        assert_eq!(first("02000000013ff9"), Ok(()), "the longest");
    }

    #[test]
    fn ma_05_a_zero_is_refused_where_it_means_nothing() {
        assert_eq!(first("02000000010000"), Err(WireError::Length { kind: DATA, len: 0 }));
        assert_eq!(first("0300000001000400000000"), Err(WireError::ZeroCredit));
    }

    proptest! {
        #[test]
        fn any_split_gives_the_same_frames(
            frames in prop::collection::vec((any::<u32>(), prop::collection::vec(any::<u8>(), 1..400)), 0..12),
            cuts in prop::collection::vec(1usize..50, 1..40),
        ) {
            let mut wire = BytesMut::new();
            for (stream, bytes) in &frames {
                Frame::Data { stream: *stream, bytes }.encode(&mut wire);
                Frame::Fin { stream: *stream }.encode(&mut wire);
            }
            let mut seen = Vec::new();
            let (mut decoder, mut at, mut cut) = (Decoder::default(), 0, 0);
            while at < wire.len() {
                let end = (at + cuts[cut % cuts.len()]).min(wire.len());
                let mut input = &wire[at..end];
                while let Some(frame) = decoder.poll_frame(&mut input).unwrap() {
                    if let Frame::Data { stream, bytes } = frame {
                        seen.push((stream, bytes.to_vec()));
                    }
                }
                prop_assert!(input.is_empty());
                (at, cut) = (end, cut + 1);
            }
            prop_assert_eq!(seen, frames);
            prop_assert!(decoder.partial.is_empty() || decoder.is_spent);
        }

        #[test]
        fn ma_03_mangled_bytes_never_panic_and_never_make_the_decoder_hold_more_than_a_frame(
            pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 0..20),
            kind in 0u8..12,
        ) {
            let mut decoder = Decoder::default();
            'all: for mut piece in pieces {
                if let Some(first) = piece.first_mut() {
                    *first = kind;
                }
                let mut input = &piece[..];
                loop {
                    match decoder.poll_frame(&mut input) {
                        Ok(Some(_)) => {}
                        Ok(None) => break,
                        Err(_) => break 'all,
                    }
                }
                prop_assert!(decoder.partial.capacity() <= 2 * FRAME_MAX);
            }
        }
    }
}
