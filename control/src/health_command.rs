//! `rexec-control health`: whether the installation on this machine is ready, for health checks where there is no other program.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Context as _, bail};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::settings::Settings;

/// Longest wait for an answer: health checks are asked every few seconds.
const DEADLINE: Duration = Duration::from_secs(4);
/// Most of an answer that is read, bytes.
const ANSWER_MAX: u64 = 16 * 1024;

pub(crate) async fn run(settings: &Settings) -> anyhow::Result<()> {
    let listen = settings.listen;
    let ip = if listen.ip().is_unspecified() { IpAddr::V4(Ipv4Addr::LOCALHOST) } else { listen.ip() };
    let answer = timeout(DEADLINE, ask(SocketAddr::new(ip, listen.port())));
    let answer = answer.await.context("it does not answer in time")??;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    if head.split(' ').nth(1) == Some("200") {
        return crate::cli::say(body.trim_end());
    }
    bail!("it is not ready: {}", rexec_shared::text::shown(body, 1_000));
}

async fn ask(addr: SocketAddr) -> anyhow::Result<String> {
    let mut stream = TcpStream::connect(addr).await.with_context(|| format!("nobody answers at {addr}"))?;
    let request = format!("GET /readyz HTTP/1.1\r\nHost: {addr}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.take(ANSWER_MAX).read_to_end(&mut answer).await?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}
