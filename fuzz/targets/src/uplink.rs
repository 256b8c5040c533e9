//! What a proxy answers, what the environment says of proxies, and what the kernel tells of the network.

use super::network::Network;
use super::proxy::{Answer, AnswerError, Proxies, poll_answer};

/// Answers are looked at after every byte up to here.
const STEPWISE_MAX: usize = 400;

pub(crate) fn proxy(bytes: &[u8]) {
    let whole = poll_answer(bytes);
    for end in 0..bytes.len().min(STEPWISE_MAX) {
        match poll_answer(&bytes[..end]) {
            Ok(Answer::More) => {}
            Ok(Answer::Connected) => assert_eq!(whole, Err(AnswerError::OutOfTurn)),
            Err(error) => assert_eq!(whole, Err(error), "more of it changes nothing"),
        }
    }
    let text = String::from_utf8_lossy(bytes);
    let mut lines = text.split('\n');
    let (proxy, exempt, towards) =
        (lines.next(), lines.next(), lines.next().unwrap_or("broker.example:7443"));
    let Ok(proxies) = Proxies::new(proxy, exempt) else { return };
    let Some(proxy) = proxies.towards(towards) else { return };
    let request = proxy.request(towards);
    let head = request.strip_suffix("\r\n\r\n").expect("a head ends with an empty line");
    assert!(matches!(head.split("\r\n").count(), 2 | 3) && !head.contains("\r\n\r\n"), "{request:?}");
    assert!(head.bytes().filter(|byte| byte.is_ascii_control()).count() <= 4, "{request:?}");
}

pub(crate) fn netlink(bytes: &[u8]) {
    let mut network = Network::default();
    let mut rest = bytes;
    while let Some((len, after)) = rest.split_first() {
        let (datagram, after) = after.split_at(after.len().min(usize::from(*len)));
        network.handle_datagram(datagram);
        rest = after;
    }
    network.handle_datagram(bytes);
}
