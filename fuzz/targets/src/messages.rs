//! A message: a frame type and a payload. Every decoder takes it or refuses it, and what it takes survives its own encoder.

use bytes::{Bytes, BytesMut};
use rexec_shared::broker_link::{FromBroker, ToBroker};
use rexec_shared::files::{FilesReply, FilesRequest};
use rexec_shared::frame::Frame;
use rexec_shared::limits::FRAME_MAX;
use rexec_shared::message::{HostMessage, MessageError, ViewerMessage};
use rexec_shared::tunnel::{AgentMessage, BrokerMessage, LinkAnswer, LinkMessage};

use crate::frames::only;

pub(crate) fn target(bytes: &[u8]) {
    let Some((kind, payload)) = bytes.split_first() else { return };
    let payload = payload.get(..FRAME_MAX).unwrap_or(payload);
    decode(&Frame { kind: *kind, payload: Bytes::copy_from_slice(payload) });
    if let Ok(message) = serde_json::from_slice::<FromBroker>(payload) {
        assert!(serde_json::to_vec(&message).is_ok());
    }
    if let Ok(message) = serde_json::from_slice::<ToBroker>(payload) {
        let again = serde_json::to_vec(&message).ok();
        assert_eq!(again.and_then(|text| serde_json::from_slice(&text).ok()), Some(message));
    }
}

/// Shows a frame to every decoder.
pub(crate) fn decode(frame: &Frame) {
    survives(ViewerMessage::decode, ViewerMessage::encode, frame);
    survives(HostMessage::decode, HostMessage::encode, frame);
    survives(FilesRequest::decode, FilesRequest::encode, frame);
    survives(FilesReply::decode, FilesReply::encode, frame);
    survives(AgentMessage::decode, AgentMessage::encode, frame);
    survives(BrokerMessage::decode, BrokerMessage::encode, frame);
    // These carry round trips, which are no whole numbers and lose their last digit in a text.
    let mut out = BytesMut::new();
    if let Ok(Some(message)) = LinkMessage::decode(frame) {
        message.encode(&mut out);
    }
    if let Ok(Some(message)) = LinkAnswer::decode(frame) {
        message.encode(&mut out);
    }
}

fn survives<T: PartialEq + std::fmt::Debug>(
    decode: impl Fn(&Frame) -> Result<Option<T>, MessageError>,
    encode: impl Fn(&T, &mut BytesMut),
    frame: &Frame,
) {
    let Ok(Some(message)) = decode(frame) else { return };
    let mut out = BytesMut::new();
    encode(&message, &mut out);
    let again = only(out).and_then(|frame| decode(&frame).ok().flatten());
    assert_eq!(again.as_ref(), Some(&message));
}
