//! The golden vectors that Rust and TypeScript share: `shared/vectors/frames.json`.
//!
//! The file is the contract: this test makes the vectors from the code and compares. `REXEC_WRITE_VECTORS=1` writes them anew, for a change of the
//! protocol that is meant.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::collections::BTreeMap;

use bytes::{Bytes, BytesMut};
use rexec_shared::close::CloseCode;
use rexec_shared::frame::{Decoder, put_frame};
use rexec_shared::message::*;
use serde_json::{Value, json};
use uuid::Uuid;

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/vectors/frames.json");

fn id(n: u128) -> Uuid {
    Uuid::from_u128(0x0192_0000_0000_7000_8000_0000_0000_0000 + n)
}

fn spec() -> Spec {
    let env = BTreeMap::from([("LANG".to_owned(), "C.UTF-8".to_owned())]);
    Spec { kind: SessionKind::Terminal, cols: 80, rows: 24, env, cwd: None, command: None, port: None }
}

fn viewer_messages() -> Vec<ViewerMessage> {
    let ticket = "rxt1.e30.c2ln".to_owned();
    vec![
        ViewerMessage::Open(Open {
            v: 1,
            features: vec![],
            ticket: ticket.clone(),
            viewer: id(1),
            attempt: 0,
            session: id(2),
            input_seq: 0,
            spec: spec(),
        }),
        ViewerMessage::Attach(Attach {
            v: 1,
            features: vec!["a".into()],
            ticket,
            viewer: id(1),
            attempt: 0x0102_0304_0506,
            session: id(2),
            epoch: Some(id(3)),
            offset: Some(1 << 40),
            input_seq: 17,
        }),
        ViewerMessage::Proof(Proof { key: "BAAA".into(), signature: "AAAA".into() }),
        ViewerMessage::Ack { offset: 65_536 },
        ViewerMessage::Resize(Size { cols: 200, rows: 60 }),
        ViewerMessage::Signal(SignalName::Int),
        ViewerMessage::Eof,
        ViewerMessage::TakeLease(Size { cols: 80, rows: 24 }),
        ViewerMessage::ReleaseLease,
        ViewerMessage::Ping { t: 12 },
        ViewerMessage::Detach,
        ViewerMessage::Close,
        ViewerMessage::SnapshotAck { bytes: 1 << 23 },
        ViewerMessage::Input {
            seq: 0x0102_0304_0506, bytes: Bytes::from_static("echo 界🦀\r".as_bytes())
        },
    ]
}

fn host_messages() -> Vec<HostMessage> {
    vec![
        HostMessage::Challenge(Challenge { v: 1, features: vec![], nonce: "AAEC".into() }),
        HostMessage::Opened(Opened {
            session: id(2),
            epoch: id(3),
            role: Role::Writer,
            cols: 80,
            rows: 24,
            offset: 5,
            input_seq: 9,
            created: 1_795_343_836_000,
            title: "vim".into(),
        }),
        HostMessage::Snapshot(Snapshot { offset: 5, cols: 80, rows: 24, bytes: 3 }),
        HostMessage::SnapshotData(Bytes::from_static(b"\x1b[H")),
        HostMessage::InputAck(InputAck { seq: 10, offset: 6 }),
        HostMessage::Resized(Size { cols: 200, rows: 60 }),
        HostMessage::Viewers(vec![ViewerInfo {
            viewer: id(1),
            name: "Ada".into(),
            role: Role::View,
            lease: false,
        }]),
        HostMessage::Lease { holder: None },
        HostMessage::Lease { holder: Some(id(1)) },
        HostMessage::Exit(Exit { code: Some(7), signal: None, offset: 99 }),
        HostMessage::Gap { from: 1, to: 2 },
        HostMessage::Pong { t: 12 },
        HostMessage::Error(ErrorMessage::new(CloseCode::SessionNotFound, "no such session")),
        HostMessage::Title { title: "htop".into() },
        HostMessage::Output { offset: (1 << 53) - 1, bytes: Bytes::from_static(&[0, 0xff, 0x80, b'a']) },
        HostMessage::Output { offset: 0, bytes: Bytes::from(vec![b'x'; 300]) },
    ]
}

fn vector(direction: &str, wire: &BytesMut) -> Value {
    let mut decoder = Decoder::new();
    decoder.push(wire);
    let frame = decoder.poll_frame().unwrap().unwrap();
    let mut vector = json!({ "direction": direction, "type": frame.kind, "hex": hex::encode(wire) });
    let body = match frame.kind {
        INPUT | OUTPUT => {
            let address = u64::from_be_bytes(frame.payload[..8].try_into().unwrap());
            ("data", json!({ "address": address, "bytes": hex::encode(&frame.payload[8..]) }))
        }
        SNAPSHOT_DATA => ("data", json!({ "bytes": hex::encode(&frame.payload) })),
        _ => ("json", serde_json::from_slice(&frame.payload).unwrap()),
    };
    vector[body.0] = body.1;
    vector
}

fn malformed() -> Value {
    json!([
        { "hex": "80818004", "why": "length 65,537 exceeds the limit" },
        { "hex": "80ffffff7f", "why": "length of more than three bytes" },
        { "hex": "808000", "why": "length not in shortest form" },
    ])
}

fn generate() -> Value {
    let mut frames = Vec::new();
    for message in viewer_messages() {
        let mut wire = BytesMut::new();
        message.encode(&mut wire);
        frames.push(vector("viewer", &wire));
    }
    for message in host_messages() {
        let mut wire = BytesMut::new();
        message.encode(&mut wire);
        frames.push(vector("host", &wire));
    }
    let codes: Vec<Value> = CloseCode::ALL
        .iter()
        .map(|code| json!({ "number": code.number(), "name": code.name(), "websocket": code.websocket(), "retry": code.retry() }))
        .collect();
    json!({ "close_codes": codes, "frames": frames, "malformed": malformed() })
}

#[test]
fn the_golden_vectors_are_what_the_code_says() {
    let made = format!("{:#}\n", generate());
    if std::env::var_os("REXEC_WRITE_VECTORS").is_some() {
        std::fs::write(FILE, &made).unwrap();
    }
    assert_eq!(
        std::fs::read_to_string(FILE).unwrap_or_default(),
        made,
        "run with REXEC_WRITE_VECTORS=1 if this is meant"
    );
}

#[test]
fn every_message_survives_its_frame() {
    for message in viewer_messages() {
        let mut wire = BytesMut::new();
        message.encode(&mut wire);
        let mut decoder = Decoder::new();
        decoder.push(&wire);
        let frame = decoder.poll_frame().unwrap().unwrap();
        assert_eq!(ViewerMessage::decode(&frame).unwrap(), Some(message));
    }
    for message in host_messages() {
        let mut wire = BytesMut::new();
        message.encode(&mut wire);
        let mut decoder = Decoder::new();
        decoder.push(&wire);
        let frame = decoder.poll_frame().unwrap().unwrap();
        assert_eq!(HostMessage::decode(&frame).unwrap(), Some(message));
    }
}

#[test]
fn a_frame_of_a_newer_peer_is_skipped_and_unknown_fields_are_ignored() {
    let mut wire = BytesMut::new();
    put_frame(&mut wire, 0x1f, b"{}");
    put_frame(&mut wire, 0x04, br#"{"offset":7,"new":true}"#);
    let mut decoder = Decoder::new();
    decoder.push(&wire);
    assert_eq!(ViewerMessage::decode(&decoder.poll_frame().unwrap().unwrap()).unwrap(), None);
    let known = ViewerMessage::decode(&decoder.poll_frame().unwrap().unwrap()).unwrap();
    assert_eq!(known, Some(ViewerMessage::Ack { offset: 7 }));
}
