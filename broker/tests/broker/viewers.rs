//! Viewers: who comes in, what is copied, how it ends.

use std::time::{Duration, Instant};

use bytes::{BufMut, Bytes, BytesMut};
use futures_util::SinkExt;
use rexec_shared::broker_link::FromBroker;
use rexec_shared::close::CloseCode;
use rexec_shared::frame::put_frame;
use rexec_shared::message::ViewerMessage;
use rexec_shared::ticket::{Claims, Signer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::{self, Message};
use uuid::Uuid;

use crate::kit::{Agent, DEADLINE, Installation, Rig, Viewer, first_frame, pattern, read_first, unix_ms};

#[tokio::test]
async fn the_first_frame_and_all_that_follows_arrive_as_they_were_sent() {
    let mut rig = Rig::start().await;
    let agent = Agent::dial(&rig, Uuid::new_v4()).await;
    let (ticket, session) = rig.ticket(agent.machine);
    let mut viewer = Viewer::connect(&rig).await;
    let mut all = BytesMut::from(&first_frame(&ticket, session)[..]);
    all.put_slice(b"and more");
    // Message boundaries mean nothing.
    for slice in all.chunks(100) {
        viewer.send(Bytes::copy_from_slice(slice)).await;
    }
    let (mut send, mut recv) = agent.stream().await;
    let (first, rest) = read_first(&mut recv).await;
    match first {
        ViewerMessage::Open(open) => assert_eq!((open.ticket, open.session), (ticket, session)),
        other => panic!("{other:?}"),
    }
    let mut rest = rest;
    while rest.len() < 8 {
        rest.extend_from_slice(&recv.read_chunk(64, true).await.unwrap().unwrap().bytes);
    }
    assert_eq!(rest, "and more");
    send.write_all(b"hello").await.unwrap();
    assert_eq!(viewer.bytes().await.unwrap(), "hello");
    let opened = loop {
        if let FromBroker::Stream { machine, session, outcome, address, .. } = rig.event().await {
            break (machine, session, outcome, address);
        }
    };
    assert_eq!((opened.0, opened.1, opened.2), (agent.machine, session, None));
    assert!(opened.3.starts_with("127.0.0.1:"), "{}", opened.3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifty_megabytes_each_way_at_once_arrive_whole() {
    const LEN: usize = 50 << 20;
    let rig = Rig::start().await;
    let agent = Agent::dial(&rig, Uuid::new_v4()).await;
    let (viewer, mut send, mut recv) = rig.attached(&agent).await;
    let _first = read_first(&mut recv).await;
    let (mut sink, mut source) = futures_util::StreamExt::split(viewer.0);

    let agent_writes = tokio::spawn(async move {
        for from in (0..LEN).step_by(1 << 20) {
            send.write_all(&pattern(from as u64, 1 << 20)).await.unwrap();
        }
        send
    });
    let agent_reads = tokio::spawn(async move {
        let mut at = 0;
        while at < LEN {
            let chunk = recv.read_chunk(1 << 20, true).await.unwrap().expect("more");
            assert!(chunk.bytes == pattern(at as u64, chunk.bytes.len()), "at {at}");
            at += chunk.bytes.len();
        }
    });
    let viewer_writes = tokio::spawn(async move {
        for from in (0..LEN).step_by(128 << 10) {
            sink.send(Message::Binary(pattern(from as u64, 128 << 10))).await.unwrap();
        }
        sink
    });
    let mut at = 0;
    while at < LEN {
        match futures_util::StreamExt::next(&mut source).await.unwrap().unwrap() {
            Message::Binary(bytes) => {
                assert!(bytes.len() <= 64 << 10 && bytes == pattern(at as u64, bytes.len()), "at {at}");
                at += bytes.len();
            }
            other => panic!("{other:?}"),
        }
    }
    let all =
        async { (agent_reads.await.unwrap(), agent_writes.await.unwrap(), viewer_writes.await.unwrap()) };
    let _open = tokio::time::timeout(DEADLINE, all).await.expect("both directions end");
    // The last bytes are counted once they are sent, which may be after they arrived.
    rig.until(|counts| {
        counts.bytes_to_agents_total >= LEN as u64 && counts.bytes_to_viewers_total >= LEN as u64
    })
    .await;
}

#[tokio::test]
async fn a_viewer_whose_machine_is_reconnecting_is_held_and_then_attached() {
    let rig = Rig::start().await;
    let machine = Uuid::new_v4();
    let (ticket, session) = rig.ticket(machine);
    let mut viewer = Viewer::connect(&rig).await;
    viewer.open(&ticket, session).await;
    rig.until(|counts| counts.held == 1).await;
    let agent = Agent::dial(&rig, machine).await;
    let (mut send, _recv) = agent.stream().await;
    send.write_all(b"there you are").await.unwrap();
    assert_eq!(viewer.bytes().await.unwrap(), "there you are");
    rig.until(|counts| counts.held == 0 && counts.streams == 1).await;
}

#[tokio::test]
async fn a_viewer_of_an_absent_machine_is_told_so_after_the_hold() {
    let rig = Rig::start().await;
    let (ticket, session) = rig.ticket(Uuid::new_v4());
    let mut viewer = Viewer::connect(&rig).await;
    let begun = Instant::now();
    viewer.open(&ticket, session).await;
    assert_eq!(viewer.closed().await, CloseCode::MachineOffline);
    assert!(begun.elapsed() > Duration::from_secs(9), "{:?}", begun.elapsed());
}

/// What a viewer that shows `ticket` is told; none when it gets its stream.
async fn shown(rig: &Rig, ticket: &str, session: Uuid, opening: bool) -> CloseCode {
    let mut viewer = Viewer::connect(rig).await;
    if opening {
        viewer.open(ticket, session).await;
    } else {
        viewer.attach(ticket, session).await;
    }
    viewer.closed().await
}

#[tokio::test]
async fn bu_04_no_bad_ticket_opens_a_stream() {
    let rig = Rig::start().await;
    let agent = Agent::dial(&rig, Uuid::new_v4()).await;
    let installation = &rig.installation;
    let signer = &installation.signer;
    let good = installation.claims(agent.machine);
    let now = unix_ms();
    let with = |change: &dyn Fn(&mut Claims)| {
        let mut claims = Claims { jti: Uuid::new_v4(), ..good.clone() };
        change(&mut claims);
        claims
    };
    let stranger = Installation::new();
    let good_ticket = signer.ticket(&good);
    let mut edited = good_ticket.clone().into_bytes();
    edited[20] ^= 1;
    let cases: Vec<(&str, String, CloseCode)> = vec![
        ("made up", "rxt1.e30.AAAA".into(), CloseCode::BadTicket),
        ("empty", String::new(), CloseCode::BadTicket),
        ("too long", format!("rxt1.{}", "A".repeat(5_000)), CloseCode::BadTicket),
        ("edited", String::from_utf8(edited).unwrap(), CloseCode::BadTicket),
        ("another signer's", stranger.signer.ticket(&good), CloseCode::BadTicket),
        (
            "a feed",
            signer.feed(&rexec_shared::ticket::Feed { org: good.org, seq: 1, issued: now, entries: vec![] }),
            CloseCode::BadTicket,
        ),
        (
            "a resume capability with a ticket's prefix",
            signer.resume(&good).replacen("rxr1", "rxt1", 1),
            CloseCode::BadTicket,
        ),
        (
            "expired",
            signer.ticket(&with(&|c| (c.iat, c.exp) = (now - 61_000, now - 1_000))),
            CloseCode::TicketExpired,
        ),
        (
            "from the future",
            signer.ticket(&with(&|c| (c.iat, c.exp) = (now + 90_000, now + 120_000))),
            CloseCode::BadTicket,
        ),
        ("with too long a life", signer.ticket(&with(&|c| c.exp = now + 3_600_000)), CloseCode::BadTicket),
        ("that ends before it begins", signer.ticket(&with(&|c| c.exp = c.iat - 1)), CloseCode::BadTicket),
        ("for another session", signer.ticket(&with(&|c| c.ses = Uuid::new_v4())), CloseCode::BadTicket),
        ("of another organisation", signer.ticket(&with(&|c| c.org = Uuid::new_v4())), CloseCode::BadTicket),
        ("a resume capability", signer.resume(&good), CloseCode::BadTicket),
    ];
    for (name, ticket, code) in cases {
        assert_eq!(shown(&rig, &ticket, good.ses, true).await, code, "{name}");
    }
    assert_eq!(rig.broker.counts().streams_total, 0, "nothing was opened");

    let (_viewer, _s, _r) = {
        let mut viewer = Viewer::connect(&rig).await;
        viewer.open(&good_ticket, good.ses).await;
        let (send, recv) = agent.stream().await;
        (viewer, send, recv)
    };
    assert_eq!(shown(&rig, &good_ticket, good.ses, true).await, CloseCode::TicketUsed);
    assert_eq!(shown(&rig, &good_ticket, good.ses, false).await, CloseCode::TicketUsed);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bu_04_of_64_viewers_with_one_ticket_exactly_one_wins() {
    let rig = Rig::start().await;
    let agent = Agent::dial(&rig, Uuid::new_v4()).await;
    let (ticket, session) = rig.ticket(agent.machine);
    let mut viewers = Vec::new();
    for _ in 0..64 {
        viewers.push(Viewer::connect(&rig).await);
    }
    let tries = viewers.into_iter().map(|mut viewer| {
        let ticket = ticket.clone();
        tokio::spawn(async move {
            viewer.open(&ticket, session).await;
            let refused = tokio::time::timeout(Duration::from_secs(3), viewer.closed()).await.ok();
            if let Some(code) = refused {
                assert_eq!(code, CloseCode::TicketUsed);
            }
            (refused.is_none(), viewer)
        })
    });
    let (mut won, mut kept) = (0, Vec::new());
    for attempt in tries.collect::<Vec<_>>() {
        let (winner, viewer) = attempt.await.unwrap();
        won += usize::from(winner);
        kept.push(viewer);
    }
    assert_eq!(won, 1);
    assert_eq!(rig.broker.counts().streams_total, 1);
}

#[tokio::test]
async fn a_first_frame_that_is_none_closes_the_socket() {
    let rig = Rig::start().await;
    let mut input = BytesMut::new();
    put_frame(&mut input, 0x80, b"12345678typing");
    let mut unknown = BytesMut::new();
    put_frame(&mut unknown, 0x7f, b"{}");
    let mut no_json = BytesMut::new();
    put_frame(&mut no_json, 0x01, b"not json");
    let hostile: Vec<(&str, Message)> = vec![
        ("text", Message::text("hello")),
        ("input first", Message::Binary(input.freeze())),
        ("unknown type", Message::Binary(unknown.freeze())),
        ("no json", Message::Binary(no_json.freeze())),
        ("too long", Message::Binary(Bytes::from_static(&[0x01, 0x81, 0x80, 0x01]))),
        ("length without end", Message::Binary(Bytes::from_static(&[0x01, 0xff, 0xff, 0xff, 0xff]))),
        ("padded length", Message::Binary(Bytes::from_static(&[0x01, 0x80, 0x00]))),
    ];
    for (name, message) in hostile {
        let mut viewer = Viewer::connect(&rig).await;
        viewer.0.send(message).await.unwrap();
        assert_eq!(viewer.closed().await, CloseCode::ProtocolError, "{name}");
    }
    let mut silent = Viewer::connect(&rig).await;
    assert_eq!(silent.closed().await, CloseCode::TooSlow);
}

#[tokio::test]
async fn a_message_that_is_too_big_or_text_ends_a_running_viewer() {
    let rig = Rig::start().await;
    let agent = Agent::dial(&rig, Uuid::new_v4()).await;
    let (mut viewer, _s, mut recv) = rig.attached(&agent).await;
    viewer.0.send(Message::text("{}")).await.unwrap();
    assert_eq!(viewer.closed().await, CloseCode::ProtocolError);
    let _first = read_first(&mut recv).await;
    let reset = recv.read_chunk(16, true).await.unwrap_err();
    assert_eq!(reset, quinn::ReadError::Reset(CloseCode::ProtocolError.number().into()));

    let (mut viewer, _s, _r) = rig.attached(&agent).await;
    // The broker may close before all of it is sent.
    viewer.0.send(Message::Binary(vec![0; 400 << 10].into())).await.ok();
    assert_eq!(viewer.closed().await, CloseCode::ProtocolError);
}

#[tokio::test]
async fn an_ended_stream_tells_the_viewer_why() {
    let rig = Rig::start().await;
    let agent = Agent::dial(&rig, Uuid::new_v4()).await;

    let (mut viewer, mut send, _r) = rig.attached(&agent).await;
    send.write_all(b"last words").await.unwrap();
    send.finish().unwrap();
    assert_eq!(viewer.bytes().await.unwrap(), "last words");
    assert_eq!(viewer.closed().await, CloseCode::Done);

    let (mut viewer, mut send, _r) = rig.attached(&agent).await;
    send.reset(CloseCode::HostUnavailable.number().into()).unwrap();
    assert_eq!(viewer.closed().await, CloseCode::HostUnavailable);

    let (mut viewer, mut send, _r) = rig.attached(&agent).await;
    send.reset(999u32.into()).unwrap();
    assert_eq!(viewer.closed().await, CloseCode::Internal, "a code this build does not know");

    let (mut viewer, mut send, mut recv) = rig.attached(&agent).await;
    recv.stop(CloseCode::LimitReached.number().into()).unwrap();
    viewer.send(Bytes::from_static(b"unread")).await;
    send.write_all(b"no more room").await.unwrap();
    send.finish().unwrap();
    assert_eq!(
        viewer.bytes().await.unwrap(),
        "no more room",
        "an agent that reads no more may still say why"
    );
    assert_eq!(viewer.closed().await, CloseCode::Done);

    let (mut viewer, _s, _r) = rig.attached(&agent).await;
    agent.connection.close(0u32.into(), b"");
    assert_eq!(viewer.closed().await, CloseCode::TunnelLost);
}

#[tokio::test]
async fn what_a_leaving_viewer_typed_last_still_arrives() {
    let rig = Rig::start().await;
    let agent = Agent::dial(&rig, Uuid::new_v4()).await;
    let (mut viewer, _s, mut recv) = rig.attached(&agent).await;
    let _first = read_first(&mut recv).await;
    viewer.send(pattern(0, 100_000)).await;
    viewer.0.close(None).await.unwrap();
    let mut got = BytesMut::new();
    while let Some(chunk) = recv.read_chunk(65_536, true).await.unwrap() {
        got.put_slice(&chunk.bytes);
    }
    assert_eq!(got, pattern(0, 100_000));
    rig.until(|counts| counts.streams == 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_viewer_that_does_not_read_costs_bounded_memory_and_its_neighbour_nothing() {
    let rig = Rig::start().await;
    let agent = Agent::dial(&rig, Uuid::new_v4()).await;
    let (_stuck, mut flood, _r) = rig.attached(&agent).await;
    let (mut neighbour, mut echo_send, mut echo_recv) = rig.attached(&agent).await;
    let _first = read_first(&mut echo_recv).await;
    let flooding = tokio::spawn(async move {
        let mut written = 0u64;
        let block = vec![0; 65_536];
        while let Ok(Ok(n)) = tokio::time::timeout(Duration::from_secs(2), flood.write(&block)).await {
            written += n as u64;
        }
        (written, flood)
    });
    let mut trips = Vec::new();
    for _ in 0..300 {
        let begun = Instant::now();
        neighbour.send(Bytes::from_static(b"x")).await;
        let chunk = echo_recv.read_chunk(16, true).await.unwrap().unwrap();
        echo_send.write_all(&chunk.bytes).await.unwrap();
        assert_eq!(neighbour.bytes().await.unwrap(), "x");
        trips.push(begun.elapsed());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    trips.sort();
    let (written, flood) = flooding.await.unwrap();
    println!("flood stalled after {} KiB; echo p50 {:?} p99 {:?}", written >> 10, trips[150], trips[297]);
    // The stream's window, the socket's buffers on both sides, one batch on its way.
    assert!(written < 24 << 20, "{written}");
    assert!(trips[150] < Duration::from_millis(50), "{:?}", trips[150]);

    let stopped =
        tokio::time::timeout(2 * DEADLINE, flood.stopped()).await.expect("a stuck viewer is let go");
    assert_eq!(stopped, Ok(Some(CloseCode::TooSlow.number().into())));
    neighbour.send(Bytes::from_static(b"y")).await;
    assert_eq!(echo_recv.read_chunk(16, true).await.unwrap().unwrap().bytes, "y");
}

/// One HTTP exchange, byte by byte.
async fn exchange(rig: &Rig, request: &str) -> String {
    let mut stream = TcpStream::connect(rig.http).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = vec![0; 4_096];
    let n = tokio::time::timeout(DEADLINE, stream.read(&mut answer)).await.unwrap().unwrap();
    String::from_utf8_lossy(&answer[..n]).into_owned()
}

#[tokio::test]
async fn what_is_no_websocket_gets_a_problem_in_json() {
    let rig = Rig::start().await;
    let get = exchange(&rig, "GET /viewer HTTP/1.1\r\nHost: x\r\n\r\n").await;
    assert!(get.starts_with("HTTP/1.1 426") && get.contains("application/problem+json"), "{get}");
    assert!(get.contains("\"code\":\"websocket_required\""), "{get}");
    let post = exchange(&rig, "POST /viewer HTTP/1.1\r\nHost: x\r\nContent-Length: 2147483648\r\n\r\n").await;
    assert!(post.starts_with("HTTP/1.1 405") && post.to_lowercase().contains("allow: get"), "{post}");
    assert!(post.contains("application/problem+json"), "bu_13: a body of 2 GiB is not waited for: {post}");
}

#[tokio::test]
async fn ws_01_only_pages_of_the_allowed_origin_and_viewers_without_a_page_come_in() {
    let rig = Rig::start().await;
    for origin in [None, Some("http://app.test")] {
        Viewer::connect_from(&rig, origin).await.unwrap();
    }
    let foreign = [
        "null",
        "http://evil.test",
        "https://app.test",
        "http://app.test:8080",
        "http://app.test:80",
        "http://app.test.evil.test",
        "http://evilapp.test",
        "http://sub.app.test",
        "http://app.tes",
        "http://xn--pp-sia.test",
        "http://APP.test",
        "http://app.test/",
    ];
    for origin in foreign {
        match Viewer::connect_from(&rig, Some(origin)).await {
            Err(tungstenite::Error::Http(response)) => {
                assert_eq!(response.status(), 403, "{origin}");
                assert_eq!(response.headers()["content-type"], "application/problem+json");
                let body = String::from_utf8(response.into_body().unwrap()).unwrap();
                assert!(body.contains("\"code\":\"origin_not_allowed\""), "{body}");
            }
            Err(other) => panic!("{origin}: {other}"),
            Ok(_) => panic!("{origin} came in"),
        }
    }
}

#[tokio::test]
async fn a_ticket_by_another_key_of_the_same_shape_is_refused_before_the_registry_sees_it() {
    let mut rig = Rig::start().await;
    let agent = Agent::dial(&rig, Uuid::new_v4()).await;
    assert!(matches!(rig.event().await, FromBroker::TunnelUp { .. }));
    let stranger = Signer::from_pkcs8(&Signer::generate().unwrap()).unwrap();
    let claims = rig.installation.claims(agent.machine);
    assert_eq!(shown(&rig, &stranger.ticket(&claims), claims.ses, true).await, CloseCode::BadTicket);
    rig.until(|counts| counts.viewers_refused_total == 1).await;
    let silence = tokio::time::timeout(Duration::from_millis(300), rig.events.recv()).await;
    assert!(!matches!(silence, Ok(Some(FromBroker::Stream { .. }))), "junk makes no audit entry");
}
