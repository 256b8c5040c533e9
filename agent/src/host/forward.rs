//! Forwards: one stream is one TCP connection to a port of this machine's loopback, and to nothing else.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use bytes::BytesMut;
use rexec_shared::close::CloseCode;
use rexec_shared::frame::put_frame;
use rexec_shared::message::CONNECTED;
use tokio::io::{AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpStream, UnixStream};

use super::handshake::{Admission, Refusal};
use super::pass::Pass;
use super::stream;

/// Connections at once on one machine: what a page with its assets, its sockets and some visitors need.
pub(super) const STREAMS_MAX: usize = 256;

/// Serves one stream.
pub(super) async fn serve(mut viewer: UnixStream, admission: Admission, mut pass: Pass, port: u16) {
    let Admission { request, claims, rest } = admission;
    tracing::debug!(session = %request.session, user = %claims.usr, port, "a connection to a port");
    let mut program = match connect(port).await {
        Ok(program) => program,
        Err(refusal) => return stream::refuse(&mut viewer, &refusal).await,
    };
    let mut out = BytesMut::new();
    put_frame(&mut out, CONNECTED, b"{}");
    let carry = async {
        viewer.write_all(&out).await?;
        program.write_all(&rest).await?;
        copy_bidirectional(&mut viewer, &mut program).await
    };
    tokio::select! {
        _ = carry => {}
        refusal = pass.ended(&claims) => {
            tracing::info!(code = refusal.code.name(), port, "a connection to a port was cut");
        }
    }
}

async fn connect(port: u16) -> Result<TcpStream, Refusal> {
    let addresses: [SocketAddr; 2] = [(Ipv4Addr::LOCALHOST, port).into(), (Ipv6Addr::LOCALHOST, port).into()];
    let connected = TcpStream::connect(&addresses[..]).await.map_err(|error| {
        Refusal::new(
            CloseCode::PortClosed,
            format!("nothing listens on port {port} of this machine: {error}"),
        )
    })?;
    // Small answers are not to wait for each other.
    let _ = connected.set_nodelay(true);
    Ok(connected)
}
