//! A viewer whose host, or whoever stands between, is an enemy: the first byte says how what it sends is cut and whether the viewer types.

use rexec_shared::limits::SNAPSHOT_MAX;
use rexec_shared::message::{SessionKind, Spec};
use rexec_shared::proof::ViewerKey;
use rexec_shared::viewer::{Event, Viewer};
use uuid::Uuid;

pub(crate) fn target(bytes: &[u8]) {
    let Some((how, bytes)) = bytes.split_first() else { return };
    let (env, cwd, command) = (Default::default(), None, None);
    let spec = Spec { kind: SessionKind::Terminal, cols: 80, rows: 24, env, cwd, command, port: None };
    let key = ViewerKey::generate().expect("a key");
    let mut viewer = Viewer::new(Uuid::from_u128(1), Uuid::from_u128(2), spec, key);
    let mut typed = 0;
    for stream in bytes.split(|byte| *byte == 0xfe) {
        viewer.start("a permission", how.is_multiple_of(2));
        for piece in stream.chunks(usize::from(*how) + 1) {
            typed += if how & 2 == 0 { viewer.type_bytes(b"typed") } else { 0 };
            let is_well = viewer.handle_bytes(piece).is_ok();
            while viewer.poll_transmit().is_some() {}
            while let Some(event) = viewer.poll_event() {
                check(&mut viewer, &event);
            }
            assert!(viewer.pending_input() <= typed, "nothing is sent that was not typed");
            if !is_well {
                break;
            }
        }
    }
}

fn check(viewer: &mut Viewer, event: &Event) {
    if let Event::Screen { snapshot, bytes } = event {
        assert!(bytes.len() as u64 == snapshot.bytes && bytes.len() <= SNAPSHOT_MAX);
    }
    if let Event::Output { offset, bytes } = event {
        viewer.parsed(offset.checked_add(bytes.len() as u64).expect("an offset that there can be"));
    }
}
