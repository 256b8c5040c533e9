//! The pump: bytes of viewers through a real tunnel to a real unix socket, and every way a stream can end.

use std::time::Duration;

use quinn::{Connection, ReadError, RecvStream, SendStream, VarInt};
use rexec_shared::close::CloseCode;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};

use crate::support::in_time;
use crate::tunnel::Machine;

struct Streams {
    machine: Machine,
    connection: Connection,
    viewers: UnixListener,
}

impl Streams {
    async fn up() -> Self {
        let machine = Machine::up(Duration::ZERO);
        let viewers = UnixListener::bind(machine.home.profile().viewer_socket().unwrap()).unwrap();
        let agent = machine.broker.welcome(1).await;
        let connection = agent.connection.clone();
        tokio::spawn(agent.keep_alive());
        Self { machine, connection, viewers }
    }

    /// A viewer's stream: the broker's end and the host's end, after their first byte.
    async fn open(&self) -> (SendStream, RecvStream, UnixStream) {
        let (mut send, recv) = self.connection.open_bi().await.unwrap();
        send.write_all(b"!").await.unwrap();
        let mut host = in_time("a stream at the host", self.viewers.accept()).await.unwrap().0;
        assert_eq!(in_time("the first byte", host.read_u8()).await.unwrap(), b'!');
        (send, recv, host)
    }
}

fn pattern(len: usize, seed: usize) -> Vec<u8> {
    (0..len).map(|n| u8::try_from((n * 31 + n / 251 + seed) % 256).unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn megabytes_arrive_equal_in_both_directions_at_once() {
    let streams = Streams::up().await;
    let (mut send, mut recv, host) = streams.open().await;
    let (mut host_read, mut host_write) = host.into_split();
    let (down, up) = (pattern(5_000_000, 1), pattern(5_000_000, 2));
    let (up_sent, down_sent) = (up.clone(), down.clone());
    let writing = tokio::spawn(async move {
        send.write_all(&up_sent).await.unwrap();
        send.finish().unwrap();
    });
    let host_writing = tokio::spawn(async move {
        host_write.write_all(&down_sent).await.unwrap();
        host_write.shutdown().await.unwrap();
    });
    let mut up_got = Vec::new();
    let host_reading = async { host_read.read_to_end(&mut up_got).await.unwrap() };
    let (_, down_got) =
        in_time("both", async { tokio::join!(host_reading, recv.read_to_end(10_000_000)) }).await;
    assert!(down_got.unwrap() == down && up_got == up);
    writing.await.unwrap();
    host_writing.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_half_close_passes_and_the_other_half_goes_on() {
    let streams = Streams::up().await;
    let (mut send, mut recv, mut host) = streams.open().await;
    send.finish().unwrap();
    assert_eq!(in_time("the viewer's end", host.read(&mut [0; 8])).await.unwrap(), 0);
    host.write_all(b"answer").await.unwrap();
    host.shutdown().await.unwrap();
    assert_eq!(in_time("the answer", recv.read_to_end(100)).await.unwrap(), b"answer");

    let (mut send, mut recv, mut host) = streams.open().await;
    host.shutdown().await.unwrap();
    assert_eq!(in_time("the host's end", recv.read_to_end(100)).await.unwrap(), b"");
    send.write_all(b"more").await.unwrap();
    let mut four = [0; 4];
    in_time("input after the host's half-close", host.read_exact(&mut four)).await.unwrap();
    assert_eq!(&four, b"more");
    drop(host);
    in_time("the stop after the host's full close", send.stopped()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_host_said_before_it_closed_arrives_even_if_it_read_nothing() {
    let streams = Streams::up().await;
    let (mut send, mut recv, mut host) = streams.open().await;
    send.write_all(&pattern(100_000, 3)).await.unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;
    host.write_all(b"error: no").await.unwrap();
    drop(host);
    assert_eq!(in_time("last words", recv.read_to_end(100)).await.unwrap(), b"error: no");
    let stopped = in_time("the stop", send.stopped()).await.unwrap();
    assert_eq!(stopped, Some(VarInt::from_u32(CloseCode::Done.number())));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reset_by_the_broker_ends_the_hosts_socket() {
    let streams = Streams::up().await;
    let (mut send, _recv, mut host) = streams.open().await;
    send.reset(CloseCode::Revoked.number().into()).unwrap();
    let end = in_time("the end", host.read(&mut [0; 8])).await;
    assert!(matches!(end, Ok(0) | Err(_)), "{end:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_wants_to_hear_no_more_ends_the_hosts_socket() {
    let streams = Streams::up().await;
    let (_send, mut recv, mut host) = streams.open().await;
    recv.stop(CloseCode::Done.number().into()).unwrap();
    in_time("the end", async {
        while host.write_all(&[0; 1024]).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_viewer_typed_last_arrives_although_it_left_while_output_flowed() {
    let streams = Streams::up().await;
    for round in 0..5 {
        let (mut send, mut recv, host) = streams.open().await;
        let (mut host_read, mut host_write) = host.into_split();
        let flood = tokio::spawn(async move { while host_write.write_all(&[0; 16 * 1024]).await.is_ok() {} });
        in_time("output", recv.read_exact(&mut [0; 100_000])).await.unwrap();
        let typed = pattern(150_000, round);
        send.write_all(&typed).await.unwrap();
        // As a broker ends the stream of a viewer that left.
        send.finish().unwrap();
        recv.stop(CloseCode::Done.number().into()).unwrap();
        tokio::time::sleep(Duration::from_millis(100)).await;
        let mut got = Vec::new();
        in_time("all that was typed", host_read.read_to_end(&mut got)).await.unwrap();
        assert!(got == typed, "{} of {} bytes", got.len(), typed.len());
        flood.abort();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn forty_hosts_that_stop_reading_leave_the_control_stream_its_window() {
    let streams = Streams::up().await;
    let mut stuck = Vec::new();
    for _ in 0..40 {
        let (mut send, recv, host) = streams.open().await;
        let stalled = tokio::spawn(async move {
            let wait = Duration::from_secs(1);
            while let Ok(Ok(_)) = tokio::time::timeout(wait, send.write(&[0; 65_536])).await {}
            send
        });
        stuck.push((stalled, recv, host));
    }
    let mut held = Vec::new();
    for (stalled, recv, host) in stuck {
        held.push((stalled.await.unwrap(), recv, host));
    }
    let (mut send, _recv, mut host) = streams.open().await;
    send.write_all(b"?").await.unwrap();
    assert_eq!(in_time("a keystroke beside them", host.read_u8()).await.unwrap(), b'?');
    // Pings are answered by `keep_alive`: unanswered ones would end the tunnel after 5 s.
    let ended = tokio::time::timeout(Duration::from_secs(7), streams.connection.closed()).await;
    assert!(ended.is_err(), "{ended:?}");
    assert_eq!(streams.machine.host.state("online").await.tunnel, Some(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_does_not_answer_is_told_as_such() {
    let streams = Streams::up().await;
    std::fs::remove_file(streams.machine.home.profile().viewer_socket().unwrap()).unwrap();
    let (mut send, mut recv) = streams.connection.open_bi().await.unwrap();
    send.write_all(b"!").await.unwrap();
    let end = in_time("the reset", recv.read_to_end(10)).await.unwrap_err();
    let code = VarInt::from_u32(CloseCode::HostUnavailable.number());
    assert!(matches!(end, quinn::ReadToEndError::Read(ReadError::Reset(got)) if got == code), "{end:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_viewer_that_stops_reading_holds_its_own_host_back_and_nobody_else() {
    let streams = Streams::up().await;
    let (_stuck_send, _stuck_recv, stuck) = streams.open().await;
    let mut written = 0usize;
    let chunk = pattern(64 * 1024, 4);
    while let Ok(Ok(())) = tokio::time::timeout(Duration::from_millis(500), stuck.writable()).await {
        match stuck.try_write(&chunk) {
            Ok(n) => written += n,
            Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock),
        }
        assert!(written < 64 * 1024 * 1024, "nothing holds the host back");
    }
    let (mut send, mut recv, mut host) = streams.open().await;
    for round in 0..50u8 {
        send.write_all(&[round]).await.unwrap();
        let byte = in_time("a keystroke beside the stuck one", host.read_u8()).await.unwrap();
        host.write_all(&[byte]).await.unwrap();
        let mut echo = [0];
        in_time("its echo", recv.read_exact(&mut echo)).await.unwrap();
        assert_eq!(echo, [round]);
    }
}
