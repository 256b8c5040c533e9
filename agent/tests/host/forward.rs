//! Forwards: to loopback, with the capability, until the login ends.

use bytes::BytesMut;
use rexec_shared::message::{CONNECTED, Open, SessionKind, Spec, ViewerMessage};
use rexec_shared::proof::ViewerKey;
use rexec_shared::ticket::Capability::{self, FilesWrite, Forward, Terminal};
use rexec_shared::tunnel::{LinkMessage, LinkRole};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, UnixStream};
use uuid::Uuid;

use crate::support::{DEADLINE, Host, present_with, shell};

async fn open(host: &Host, caps: &[Capability], port: Option<u16>) -> Result<UnixStream, String> {
    let (session, key) = (Uuid::new_v4(), ViewerKey::generate().unwrap());
    let ticket = host.signer.ticket(&host.claims(session, &key.confirmation(), caps));
    let spec = Spec { kind: SessionKind::Forward, port, ..shell("") };
    let (viewer, features) = (Uuid::new_v4(), Vec::new());
    let open = Open { v: 1, features, ticket, viewer, attempt: 0, session, input_seq: 0, spec };
    let mut first = BytesMut::new();
    ViewerMessage::Open(open).encode(&mut first);
    let connected = |frame: &rexec_shared::frame::Frame| (frame.kind == CONNECTED).then_some(());
    let (stream, rest, ()) = present_with(host.viewer_socket(), &first, &key, connected).await?;
    assert!(rest.into_rest().is_empty(), "nothing comes before it is asked for");
    Ok(stream)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_forward_is_a_connection_to_the_port_and_nothing_else() {
    let host = Host::start().await;
    for address in ["127.0.0.1:0", "[::1]:0"] {
        let listener = TcpListener::bind(address).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let mut stream = open(&host, &[Forward], Some(port)).await.unwrap();
        let (mut program, _) = listener.accept().await.unwrap();
        let bytes: Vec<u8> = (0..=255).cycle().take(1_000_000).collect();
        let (sent, read) = (bytes.clone(), bytes.len());
        let (mut viewer_reads, mut viewer_writes) = stream.split();
        let up = async { viewer_writes.write_all(&sent).await.unwrap() };
        let down = async {
            let mut got = vec![0; read];
            program.read_exact(&mut got).await.unwrap();
            program.write_all(&got).await.unwrap();
            program.shutdown().await.unwrap();
        };
        let mut back = Vec::new();
        let all = async { tokio::join!(up, down, viewer_reads.read_to_end(&mut back)) };
        let (.., read) = tokio::time::timeout(DEADLINE, all).await.unwrap();
        read.unwrap();
        assert_eq!(back, bytes);
    }
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
    assert_eq!(open(&host, &[Forward], Some(free)).await.err().as_deref(), Some("port_closed"));
    assert_eq!(open(&host, &[Forward], Some(0)).await.err().as_deref(), Some("protocol_error"));
    assert_eq!(open(&host, &[Forward], None).await.err().as_deref(), Some("protocol_error"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bu_02_without_the_capability_no_port_is_reached() {
    let host = Host::start().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = Some(listener.local_addr().unwrap().port());
    let refused = open(&host, &[Terminal, FilesWrite], port).await;
    assert_eq!(refused.err().as_deref(), Some("forbidden"));
    let nobody = tokio::time::timeout(std::time::Duration::from_millis(50), listener.accept()).await;
    assert!(nobody.is_err(), "something came to the port");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bu_03_a_revoked_login_loses_its_connections() {
    let host = Host::start().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut stream = open(&host, &[Forward], Some(listener.local_addr().unwrap().port())).await.unwrap();
    let (mut program, _) = listener.accept().await.unwrap();
    program.write_all(b"before").await.unwrap();
    let mut seen = [0; 6];
    stream.read_exact(&mut seen).await.unwrap();
    let mut link = host.link(LinkRole::Uplink).await;
    link.send(&LinkMessage::Feed { token: host.feed(1, &[format!("login:{}", Uuid::from_u128(7))]) }).await;
    let ends =
        async { (stream.read(&mut [0; 1]).await.unwrap_or(0), program.read(&mut [0; 1]).await.unwrap_or(0)) };
    assert_eq!(tokio::time::timeout(DEADLINE, ends).await.unwrap(), (0, 0));
}
