//! How a dial over QUIC says, before its handshake, that it is a tunnel's and not a browser's.
//!
//! Both come in on one port, with different demands: an agent must show a certificate, a browser has none to show. TLS learns which it is too
//! late to ask for one or not to ask, so an agent marks the connection id that its first packet is sent to (RFC 9000 §7.2): eight bytes of
//! ours, then twelve random ones, which are the eight unpredictable bytes asked for and four more. The mark is no secret and grants nothing:
//! with it one meets the configuration that demands a certificate, without it the one that knows no tunnel.

use quinn::ConnectionId;

/// The first bytes of a marked id.
const MARK: [u8; 8] = *b"rexec/1\0";
/// Random bytes behind it: the id is as long as QUIC allows.
pub const RANDOM: usize = 12;

/// The id for the first packet of a tunnel's dial.
pub fn dial_id(random: [u8; RANDOM]) -> ConnectionId {
    let mut id = [0; MARK.len() + RANDOM];
    let (mark, rest) = id.split_at_mut(MARK.len());
    mark.copy_from_slice(&MARK);
    rest.copy_from_slice(&random);
    ConnectionId::new(&id)
}

/// Whether a dial whose first packet was sent to `id` is a tunnel's. A retry does not change the answer: its token brings the first id back.
pub fn is_tunnel(id: &ConnectionId) -> bool {
    id.starts_with(&MARK)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_marked_id_is_a_tunnels() {
        let id = dial_id([7; RANDOM]);
        assert_eq!(id.len(), 20);
        assert!(is_tunnel(&id));
        assert_ne!(id, dial_id([8; RANDOM]));
        for other in [&[][..], &MARK[..7], &[7; 20], b"rexec/2\0............"] {
            assert!(!is_tunnel(&ConnectionId::new(other)), "{other:?}");
        }
    }
}
