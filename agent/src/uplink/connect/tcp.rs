//! A dial over TCP, straight or through a proxy: the same TLS end to end, so a proxy sees no more than any other box on the path.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use rexec_tunnel::Path;
use rexec_tunnel::tcp::{self, HandshakeError};
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

use super::{DIAL_DEADLINE, DialError, Dialled, Target, explain_alert, race, resolve};
use crate::uplink::proxy::{Answer, HEAD_MAX, Proxy, poll_answer};
use crate::uplink::tls;

/// Dials over TCP, through the proxy if there is one, and proves that the broker is the target's.
pub async fn dial(target: Target<'_>) -> Result<Dialled, DialError> {
    let Target { addr, server_name, proxy, .. } = target;
    let config = &target.tls.tcp;
    let name = tls::server_name(server_name)
        .map_err(|error| DialError::Failed { addr: addr.into(), reason: error.to_string() })?;
    let dialling = async {
        match proxy {
            Some(proxy) => through(addr, name, config, proxy).await,
            None => straight(addr, name, config, target.source).await,
        }
    };
    timeout(DIAL_DEADLINE, dialling).await.unwrap_or_else(|_| Err(silence(addr, proxy)))
}

fn silence(addr: &str, proxy: Option<&Proxy>) -> DialError {
    let via = proxy.map_or_else(String::new, |proxy| format!(" through the proxy {proxy}"));
    DialError::Failed {
        addr: addr.into(),
        reason: format!("no answer over TCP{via} within {} s", DIAL_DEADLINE.as_secs()),
    }
}

async fn straight(
    addr: &str,
    name: ServerName<'static>,
    config: &Arc<ClientConfig>,
    source: Option<IpAddr>,
) -> Result<Dialled, DialError> {
    let addresses = resolve(addr).await?;
    let attempt = |address: SocketAddr| {
        let name = name.clone();
        async move {
            let socket = connect(address, source).await.map_err(|error| failed(addr, &error))?;
            secure(addr, address.to_string(), socket, name, config).await
        }
    };
    race(addr, addresses, attempt).await
}

async fn connect(remote: SocketAddr, source: Option<IpAddr>) -> std::io::Result<TcpStream> {
    let Some(source) = source else { return TcpStream::connect(remote).await };
    let socket = if remote.is_ipv6() { TcpSocket::new_v6() } else { TcpSocket::new_v4() }?;
    socket.bind(SocketAddr::new(source, 0))?;
    socket.connect(remote).await
}

/// The proxy resolves the broker's name: behind one, names often mean nothing here.
async fn through(
    addr: &str,
    name: ServerName<'static>,
    config: &Arc<ClientConfig>,
    proxy: &Proxy,
) -> Result<Dialled, DialError> {
    let trouble = |reason: String| DialError::Proxy { proxy: proxy.to_string(), reason };
    let addresses = resolve(&proxy.address()).await.map_err(|error| trouble(error.to_string()))?;
    let attempt = |address: SocketAddr| async move {
        let mut socket = TcpStream::connect(address)
            .await
            .map_err(|error| DialError::Proxy { proxy: proxy.to_string(), reason: error.to_string() })?;
        ask(&mut socket, addr, proxy)
            .await
            .map_err(|reason| DialError::Proxy { proxy: proxy.to_string(), reason })?;
        Ok(socket)
    };
    let socket = race(addr, addresses, attempt).await?;
    let mut dialled = secure(addr, addr.to_owned(), socket, name, config).await?;
    dialled.via = Some(proxy.to_string());
    Ok(dialled)
}

/// Has the proxy connect us (RFC 9110 §9.3.6).
async fn ask(socket: &mut TcpStream, addr: &str, proxy: &Proxy) -> Result<(), String> {
    socket.write_all(proxy.request(addr).as_bytes()).await.map_err(|error| error.to_string())?;
    let mut head = Vec::with_capacity(HEAD_MAX);
    let mut chunk = [0; 1024];
    loop {
        let len = socket.read(&mut chunk).await.map_err(|error| error.to_string())?;
        if len == 0 {
            return Err("it hung up".into());
        }
        head.extend_from_slice(chunk.get(..len).unwrap_or_default());
        match poll_answer(&head).map_err(|error| error.to_string())? {
            Answer::More => {}
            Answer::Connected => return Ok(()),
        }
    }
}

async fn secure(
    addr: &str,
    shown: String,
    socket: TcpStream,
    name: ServerName<'static>,
    config: &Arc<ClientConfig>,
) -> Result<Dialled, DialError> {
    let path = tcp::connect(socket, name, Arc::clone(config)).await.map_err(|error| explain(addr, &error))?;
    let broker = addr.to_owned();
    Ok(Dialled { path: Path::Tcp(path), socket: None, broker, address: shown, via: None, why: None })
}

fn failed(addr: &str, error: &std::io::Error) -> DialError {
    DialError::Failed { addr: addr.into(), reason: format!("TCP: {error}") }
}

/// A failed handshake in a person's words.
fn explain(addr: &str, error: &HandshakeError) -> DialError {
    match error {
        HandshakeError::Tls(rustls::Error::AlertReceived(alert)) => explain_alert(addr, u8::from(*alert)),
        HandshakeError::Tls(error) => {
            DialError::NotOurBroker { addr: addr.into(), reason: error.to_string() }
        }
        HandshakeError::Protocol => {
            DialError::NotOurBroker { addr: addr.into(), reason: "it speaks another protocol".into() }
        }
        HandshakeError::Io(error) => failed(addr, error),
    }
}
