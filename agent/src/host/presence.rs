//! The list of sessions, cut to what one frame holds.
#![deny(clippy::disallowed_methods)]

use rexec_shared::limits::FRAME_MAX;
use rexec_shared::tunnel::SessionInfo;

/// Room for what stands beside the list in a frame, bytes: names, the uplink's state.
const BESIDE: usize = 8 * 1024;
/// What remains of a title when there are too many of them, characters.
const SHORT_TITLE: usize = 16;

/// Makes the list fit: first titles are shortened, then sessions are left out, ended ones and old ones first.
pub(super) fn fit(mut sessions: Vec<SessionInfo>) -> Vec<SessionInfo> {
    if encoded_len(&sessions) <= FRAME_MAX - BESIDE {
        return sessions;
    }
    for session in &mut sessions {
        session.title = session.title.chars().take(SHORT_TITLE).collect();
    }
    sessions.sort_by_key(|session| (session.exited.is_some(), std::cmp::Reverse(session.created)));
    let mut room = FRAME_MAX - BESIDE;
    let fitting = sessions.iter().take_while(|session| {
        let len = encoded_len(std::slice::from_ref(session));
        let fits = len <= room;
        room = room.saturating_sub(len);
        fits
    });
    let kept = fitting.count();
    if kept < sessions.len() {
        tracing::warn!(sessions = sessions.len(), kept, "the list of sessions does not fit in a frame");
    }
    sessions.truncate(kept);
    sessions
}

/// Length as JSON; two brackets of a list of one stand for the comma.
fn encoded_len(sessions: &[SessionInfo]) -> usize {
    serde_json::to_vec(sessions).map_or(0, |bytes| bytes.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::BytesMut;
    use rexec_shared::limits::SESSIONS_MAX;
    use rexec_shared::message::{Exit, SessionKind};
    use rexec_shared::tunnel::LinkAnswer;
    use uuid::Uuid;

    fn session(created: u64, exited: bool) -> SessionInfo {
        SessionInfo {
            session: Uuid::new_v4(),
            kind: SessionKind::Terminal,
            title: "𝔱".repeat(128),
            cols: 1000,
            rows: 500,
            viewers: 64,
            user: Uuid::new_v4(),
            created,
            exited: exited.then_some(Exit { code: Some(-1), signal: None, offset: u64::MAX }),
        }
    }

    #[test]
    fn the_most_sessions_there_can_be_fit_in_a_frame() {
        let all: Vec<_> = (0..SESSIONS_MAX as u64).map(|n| session(u64::MAX - n, n % 2 == 0)).collect();
        let sessions = fit(all);
        assert!(sessions.len() >= SESSIONS_MAX / 2);
        assert!(sessions.iter().take(SESSIONS_MAX / 2).all(|session| session.exited.is_none()));
        let mut out = BytesMut::new();
        LinkAnswer::Sessions { boot: Uuid::nil(), sessions }.encode(&mut out);
        assert!(out.len() <= FRAME_MAX);
    }

    #[test]
    fn a_short_list_is_not_touched() {
        let all = vec![session(1, true), session(2, false)];
        assert_eq!(fit(all.clone()), all);
    }
}
