//! Both transports through the same tests, over real loopback sockets.
#![expect(clippy::unwrap_used, reason = "what must not fail in a test fails it")]

mod pair;

use std::time::Duration;

use bytes::Bytes;
use pair::{Ends, quic, tcp, tcp_with};
use rexec_shared::close::CloseCode;
use rexec_shared::mux::{SEND_QUEUE, STREAM_CREDIT};
use rexec_tunnel::{Path, PathEnd, RecvEnd, RecvStream, SendEnd, SendStream};
use tokio::time::timeout;

/// Long enough for a machine shared with others; every test ends by itself long before.
const DEADLINE: Duration = Duration::from_secs(60);

/// The body's test over both transports.
macro_rules! over_both {
    ($($name:ident => $body:ident;)*) => {
        mod over_quic { $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)] async fn $name() { super::within(super::$body(super::quic().await)).await })* }
        mod over_tcp { $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)] async fn $name() { super::within(super::$body(super::tcp().await)).await })* }
    };
}

async fn within(test: impl Future<Output = ()>) {
    timeout(DEADLINE, test).await.expect("in time");
}

over_both! {
    many_streams_echo_at_once => echo_on_many;
    a_stream_that_nobody_reads_delays_no_other => stuck_stream;
    bulk_arrives_whole_and_in_order => bulk;
    a_close_code_arrives_though_bulk_is_under_way => close_code;
    halves_end_by_themselves => half_close;
    reset_and_stop_arrive_with_their_codes => codes;
    a_dropped_half_is_no_clean_end => dropped;
    a_path_without_handles_closes => abandoned;
    a_cancelled_read_loses_nothing => cancelled_read;
    both_ends_know_each_other => identities;
}

async fn echo(mut send: SendStream, mut recv: RecvStream) {
    while let Ok(Some(bytes)) = recv.read_chunk(usize::MAX).await {
        send.write_chunk(bytes).await.unwrap();
    }
    send.finish().unwrap();
    send.stopped().await.ok();
}

fn serve_echo(path: Path) {
    tokio::spawn(async move {
        while let Ok((send, recv)) = path.accept_bi().await {
            tokio::spawn(echo(send, recv));
        }
    });
}

async fn read_to_end(recv: &mut RecvStream) -> Vec<u8> {
    let mut all = Vec::new();
    while let Some(bytes) = recv.read_chunk(10_000).await.unwrap() {
        all.extend_from_slice(&bytes);
    }
    all
}

async fn echo_on_many(Ends { dialler, listener }: Ends) {
    serve_echo(dialler.clone());
    let tasks: Vec<_> = (0..100u32)
        .map(|n| {
            let listener = listener.clone();
            tokio::spawn(async move {
                let (mut send, mut recv) = listener.open_bi().await.unwrap();
                let sent: Vec<u8> = (0..n * 997).map(|at| (at * 31 + n) as u8).collect();
                for chunk in sent.chunks(5_000) {
                    send.write_all(chunk).await.unwrap();
                }
                send.finish().unwrap();
                assert!(read_to_end(&mut recv).await == sent, "stream {n}");
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
}

async fn opened(from: &Path, to: &Path) -> ((SendStream, RecvStream), (SendStream, RecvStream)) {
    let mut near = from.open_bi().await.unwrap();
    // QUIC announces a stream with its first byte.
    near.0.write_all(b".").await.unwrap();
    let mut far = to.accept_bi().await.unwrap();
    assert_eq!(far.1.read_chunk(1).await.unwrap().as_deref(), Some(&b"."[..]));
    (near, far)
}

async fn stuck_stream(Ends { dialler, listener }: Ends) {
    let (mut stuck, _unread) = opened(&listener, &dialler).await;
    let chunk = Bytes::from(vec![7; 32 * 1024]);
    let mut taken = 0;
    while timeout(Duration::from_millis(300), stuck.0.write_chunk(chunk.clone())).await.is_ok() {
        taken += chunk.len();
        assert!(taken <= 2 * (STREAM_CREDIT + SEND_QUEUE + chunk.len()) + (8 << 20), "nothing holds it back");
    }
    let (near, far) = opened(&listener, &dialler).await;
    tokio::spawn(echo(far.0, far.1));
    let (mut send, mut recv) = near;
    for n in 0..100u8 {
        send.write_all(&[n]).await.unwrap();
        assert_eq!(recv.read_chunk(10).await.unwrap().as_deref(), Some(&[n][..]));
    }
}

async fn bulk(Ends { dialler, listener }: Ends) {
    const CHUNK: usize = 48 * 1024;
    const CHUNKS: usize = (64 << 20) / CHUNK;
    let ((mut send, _), (_, mut recv)) = opened(&listener, &dialler).await;
    let chunk = |n: usize| Bytes::from_iter((0..CHUNK).map(move |at| (at / 3 + n * 13) as u8));
    let writer = tokio::spawn(async move {
        for n in 0..CHUNKS {
            send.write_chunk(chunk(n)).await.unwrap();
        }
        send.finish().unwrap();
        send.stopped().await.unwrap();
    });
    let mut chunks: [Bytes; 16] = std::array::from_fn(|_| Bytes::new());
    let (mut expected, mut total) = (Bytes::new(), 0);
    while let Some(filled) = recv.read_chunks(&mut chunks).await.unwrap() {
        for mut bytes in chunks[..filled].iter_mut().map(std::mem::take) {
            while !bytes.is_empty() {
                if expected.is_empty() {
                    expected = chunk(total / CHUNK);
                }
                let len = bytes.len().min(expected.len());
                assert!(bytes.split_to(len) == expected.split_to(len), "at {total}");
                total += len;
            }
        }
    }
    assert_eq!(total, CHUNKS * CHUNK);
    writer.await.unwrap();
}

async fn close_code(Ends { dialler, listener }: Ends) {
    let ((mut send, _recv), _far) = opened(&listener, &dialler).await;
    let flood = tokio::spawn(async move {
        while send.write_chunk(Bytes::from(vec![0; 30_000])).await.is_ok() {}
        assert_eq!(send.write_all(b"x").await, Err(SendEnd::Lost));
    });
    tokio::time::sleep(Duration::from_millis(50)).await;
    listener.close(CloseCode::Draining);
    assert_eq!(dialler.closed().await, PathEnd::Closed(Some(CloseCode::Draining)));
    assert_eq!(dialler.close_reason(), Some(PathEnd::Closed(Some(CloseCode::Draining))));
    assert!(matches!(listener.closed().await, PathEnd::Other(_)), "we did it");
    assert!(dialler.accept_bi().await.is_err() && dialler.open_bi().await.is_err());
    flood.await.unwrap();
}

async fn half_close(Ends { dialler, listener }: Ends) {
    let ((mut send, mut recv), (mut far_send, mut far_recv)) = opened(&dialler, &listener).await;
    send.write_all(b"question").await.unwrap();
    send.finish().unwrap();
    assert_eq!(send.finish(), Err(SendEnd::Lost), "once");
    assert_eq!(read_to_end(&mut far_recv).await, b"question");
    far_send.write_all(b"answer").await.unwrap();
    far_send.finish().unwrap();
    assert_eq!(read_to_end(&mut recv).await, b"answer");
    assert_eq!(send.stopped().await, Ok(()));
    assert_eq!(recv.read_chunk(1).await.unwrap_or_default(), None);
}

async fn codes(Ends { dialler, listener }: Ends) {
    let ((mut send, mut recv), (mut far_send, mut far_recv)) = opened(&listener, &dialler).await;
    send.reset(CloseCode::TooSlow);
    let code = u64::from(CloseCode::TooSlow.number());
    assert_eq!(far_recv.read_chunk(1).await, Err(RecvEnd::Reset(code)));
    recv.stop(CloseCode::Overloaded);
    let code = u64::from(CloseCode::Overloaded.number());
    assert_eq!(far_send.stopped().await, Err(SendEnd::Stopped(code)));
    assert_eq!(far_send.write_all(b"x").await, Err(SendEnd::Stopped(code)));
}

async fn dropped(Ends { dialler, listener }: Ends) {
    let ((mut send, recv), (mut far_send, mut far_recv)) = opened(&listener, &dialler).await;
    send.write_all(b"half a sen").await.unwrap();
    drop((send, recv));
    let code = u64::from(CloseCode::Internal.number());
    let end = loop {
        match far_recv.read_chunk(100).await {
            Ok(Some(_)) => {}
            other => break other,
        }
    };
    assert_eq!(end, Err(RecvEnd::Reset(code)));
    assert_eq!(far_send.stopped().await, Err(SendEnd::Stopped(code)));
}

async fn abandoned(Ends { dialler, listener }: Ends) {
    let ((mut send, recv), _far) = opened(&listener, &dialler).await;
    drop(listener);
    send.write_all(b"a stream keeps it open").await.unwrap();
    assert_eq!(dialler.close_reason(), None);
    drop((send, recv));
    assert_eq!(dialler.closed().await, PathEnd::Closed(Some(CloseCode::Done)));
}

async fn cancelled_read(Ends { dialler, listener }: Ends) {
    let ((mut send, _), (_, mut recv)) = opened(&listener, &dialler).await;
    let writer = tokio::spawn(async move {
        for n in 0..2_000u32 {
            send.write_all(&n.to_be_bytes()).await.unwrap();
            if n % 100 == 0 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
        send.finish().unwrap();
        send.stopped().await.ok();
    });
    let mut all = Vec::new();
    loop {
        match timeout(Duration::from_micros(50), recv.read_chunk(7)).await {
            Ok(Ok(Some(bytes))) => all.extend_from_slice(&bytes),
            Ok(Ok(None)) => break,
            Ok(Err(end)) => panic!("{end}"),
            Err(_) => {}
        }
    }
    assert!(all == (0..2_000u32).flat_map(u32::to_be_bytes).collect::<Vec<_>>());
    writer.await.unwrap();
}

async fn identities(Ends { dialler, listener }: Ends) {
    assert_eq!(dialler.peer_certificates().map(|chain| chain.len()), Some(1));
    assert_eq!(listener.peer_certificates().map(|chain| chain.len()), Some(1));
    assert!(dialler.remote_address().ip().is_loopback());
    let (_near, _far) = opened(&listener, &dialler).await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    for path in [&dialler, &listener] {
        assert!(path.rtt() < Duration::from_millis(100), "measured: {:?}", path.rtt());
        path.set_send_window(1 << 20);
    }
}

#[tokio::test]
async fn a_dialler_whose_certificate_is_of_another_installation_is_told_by_an_alert() {
    let (connected, accepted) = tcp_with(pair::Identities::strangers()).await;
    assert!(accepted.is_err());
    // TLS 1.3: the client thinks it is connected until it hears otherwise.
    let end = Path::Tcp(connected.unwrap()).closed().await;
    assert!(matches!(end, PathEnd::Tls(48 | 46 | 42 | 51)), "{end:?}");
}

#[tokio::test]
async fn a_killed_peer_is_a_reset() {
    let (dialler, wire) = pair::bare_tcp();
    drop(wire);
    assert_eq!(within_value(dialler.closed()).await, PathEnd::Reset);
}

#[tokio::test]
async fn a_silent_peer_is_found_dead() {
    let (dialler, _wire) = pair::bare_tcp();
    assert_eq!(within_value(dialler.closed()).await, PathEnd::TimedOut);
}

async fn within_value<T>(test: impl Future<Output = T>) -> T {
    timeout(DEADLINE, test).await.expect("in time")
}
