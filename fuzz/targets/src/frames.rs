//! A byte stream, cut where its first byte says: it is frames or refused, however it is cut, and a first frame is the same to whoever only measures it.

use bytes::BytesMut;
use rexec_shared::frame::{Decoder, Frame};
use rexec_shared::limits::{FIRST_FRAME_MAX, FRAME_MAX};

use crate::messages;

pub(crate) fn target(bytes: &[u8]) {
    let Some((cut, bytes)) = bytes.split_first() else { return };
    let (frames, is_refused) = decode(bytes, usize::from(*cut) + 1, FRAME_MAX);
    assert_eq!(decode(bytes, bytes.len().max(1), FRAME_MAX), (frames.clone(), is_refused));
    frames.iter().for_each(messages::decode);
    let mut measured = Decoder::with_max(FIRST_FRAME_MAX);
    measured.push(bytes);
    let len = measured.complete_len().ok().flatten();
    let (first, _) = decode(bytes, bytes.len().max(1), FIRST_FRAME_MAX);
    assert_eq!(len.is_some(), !first.is_empty());
    assert_eq!(measured.into_rest(), bytes, "what is measured is passed on as it came");
}

fn decode(bytes: &[u8], piece: usize, max: usize) -> (Vec<Frame>, bool) {
    let (mut decoder, mut frames) = (Decoder::with_max(max), Vec::new());
    for piece in bytes.chunks(piece) {
        decoder.push(piece);
        loop {
            match decoder.poll_frame() {
                Ok(Some(frame)) => {
                    assert!(frame.payload.len() <= max);
                    frames.push(frame);
                }
                Ok(None) => break,
                Err(_) => return (frames, true),
            }
        }
    }
    (frames, false)
}

/// The frame that an encoder has made.
pub(crate) fn only(bytes: BytesMut) -> Option<Frame> {
    let (mut frames, _) = decode(&bytes, bytes.len().max(1), FRAME_MAX);
    (frames.len() == 1).then(|| frames.remove(0))
}
