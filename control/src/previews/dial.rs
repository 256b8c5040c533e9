//! From control to a port of a machine: a viewer's stream of kind `forward`, through the machine's broker, as a connection for an HTTP client.

use std::collections::HashMap;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::{Bytes, BytesMut};
use futures_util::{SinkExt as _, StreamExt as _};
use http::{HeaderValue, Uri, header};
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use rexec_broker::{Broker, ViewerAddress};
use rexec_shared::close::CloseCode;
use rexec_shared::frame::{Decoder, Frame};
use rexec_shared::limits::{DATA_FRAME_MAX, TICKET_LIFE};
use rexec_shared::message::{CONNECTED, HostMessage, Open, SessionKind, Spec, ViewerMessage};
use rexec_shared::ticket::{Actor, ActorKind, Capability, Claims};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, DuplexStream, ReadBuf};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tower::ServiceExt as _;
use uuid::Uuid;

use super::lock;
use super::visit::Visit;
use crate::api::machines;
use crate::app::App;
use crate::brokers::VIEWER_PATH;
use crate::scope::Scope;

/// Bytes between an HTTP client and its stream, each way.
const PIPE: usize = 64 * 1024;
/// How long a machine may take to answer: a broker holds a stream ten seconds for a tunnel that is coming back.
const DEADLINE: Duration = Duration::from_secs(20);
/// Visitors whose connections are told apart; what is over is forgotten first.
const VISITS_MAX: usize = 4_096;

/// Why a port is not reached.
#[derive(Debug, Clone, thiserror::Error)]
pub enum DialError {
    /// The machine or its broker said so.
    #[error("{message}")]
    Refused {
        /// Its code.
        code: String,
        /// Its words.
        message: String,
    },
    /// It took too long.
    #[error("the machine does not answer")]
    TooLate,
    /// The way there broke.
    #[error("the way to the machine broke: {0}")]
    Broken(String),
}

impl DialError {
    fn broken(error: impl std::fmt::Display) -> Self {
        Self::Broken(error.to_string())
    }
}

/// Makes connections for an HTTP client, which keeps those of one visitor and port apart from all others by the authority of the address.
#[derive(Clone)]
pub struct Dialer {
    app: App,
    visits: Arc<Mutex<HashMap<String, Visit>>>,
}

impl Dialer {
    /// A dialer that knows nobody.
    pub fn new(app: App) -> Self {
        Self { app, visits: Arc::default() }
    }

    /// The authority under which the client asks for this visitor.
    pub fn authority(&self, visit: &Visit) -> String {
        let name = format!(
            "{}-{}.{}.preview",
            visit.host.port,
            visit.host.machine.simple(),
            visit.principal.simple()
        );
        let mut visits = lock(&self.visits);
        if visits.len() >= VISITS_MAX && !visits.contains_key(&name) {
            visits.clear();
        }
        visits.insert(name.clone(), visit.clone());
        name
    }

    async fn dial(self, uri: Uri) -> Result<TokioIo<Pipe>, DialError> {
        let visit = uri.host().and_then(|host| lock(&self.visits).get(host).cloned());
        let visit = visit.ok_or(DialError::TooLate)?;
        let opened = tokio::time::timeout(DEADLINE, open(&self.app, &visit)).await;
        let (socket, rest) = opened.map_err(|_| DialError::TooLate)??;
        let (near, far) = tokio::io::duplex(PIPE);
        let life = self.app.now().until(visit.until);
        let (cut, ending) = (visit.cut.clone(), self.app.parts().ending.clone());
        tokio::spawn(async move {
            // Whatever ends it, both sides see their connection break.
            tokio::select! {
                () = carry(socket, far, rest) => {}
                () = cut.cancelled() => {}
                () = ending.cancelled() => {}
                () = tokio::time::sleep(life) => {}
            }
        });
        Ok(TokioIo::new(Pipe(near)))
    }
}

impl tower::Service<Uri> for Dialer {
    type Response = TokioIo<Pipe>;
    type Error = DialError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, DialError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), DialError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        Box::pin(self.clone().dial(uri))
    }
}

/// The client's end of a stream.
#[derive(Debug)]
pub struct Pipe(DuplexStream);

impl AsyncRead for Pipe {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Pipe {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

impl Connection for Pipe {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

/// What carries a stream to a broker.
trait Wire: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Wire for T {}
type Socket = WebSocketStream<Box<dyn Wire>>;

/// A stream that is connected to the port, and what came behind that word.
async fn open(app: &App, visit: &Visit) -> Result<(Socket, Bytes), DialError> {
    let row = machines::find(app.db(), Scope::of(visit.organisation), visit.host.machine).await;
    let row = row.map_err(|_| refused("machine_removed", "this machine was removed"))?;
    let broker = machines::broker_url(app, &row).map_err(|error| refused("no_broker", error.to_string()))?;
    let mut socket = connect(app, &broker, visit).await?;
    let (session, key) = (Uuid::new_v4(), &app.parts().previews.key);
    let spec = Spec {
        kind: SessionKind::Forward,
        cols: 0,
        rows: 0,
        env: std::collections::BTreeMap::new(),
        cwd: None,
        command: None,
        port: Some(visit.host.port),
    };
    let (viewer, features, ticket) = (Uuid::new_v4(), Vec::new(), ticket(app, visit, session));
    let open = Open { v: 1, features, ticket, viewer, attempt: 0, session, input_seq: 0, spec };
    let mut first = BytesMut::new();
    ViewerMessage::Open(open).encode(&mut first);
    let payload = only(&first)?.payload;
    send(&mut socket, first.freeze()).await?;
    let mut decoder = Decoder::new();
    loop {
        while let Some(frame) = decoder.poll_frame().map_err(DialError::broken)? {
            if frame.kind == CONNECTED {
                return Ok((socket, decoder.into_rest().freeze()));
            }
            match HostMessage::decode(&frame).map_err(DialError::broken)? {
                Some(HostMessage::Challenge(challenge)) => {
                    let nonce = URL_SAFE_NO_PAD.decode(&challenge.nonce).map_err(DialError::broken)?;
                    let proof = key.prove(&nonce, &payload).map_err(DialError::broken)?;
                    let mut out = BytesMut::new();
                    ViewerMessage::Proof(proof).encode(&mut out);
                    send(&mut socket, out.freeze()).await?;
                }
                Some(HostMessage::Error(error)) => return Err(refused(&error.code, error.message)),
                Some(_) | None => {}
            }
        }
        decoder.push(&receive(&mut socket).await?.ok_or_else(|| DialError::broken("it was closed"))?);
    }
}

fn refused(code: &str, message: impl Into<String>) -> DialError {
    DialError::Refused { code: code.to_owned(), message: message.into() }
}

/// The frame that these bytes are.
fn only(bytes: &BytesMut) -> Result<Frame, DialError> {
    let mut decoder = Decoder::new();
    decoder.push(bytes);
    decoder.poll_frame().map_err(DialError::broken)?.ok_or_else(|| DialError::broken("no frame"))
}

/// On the visitor's authority, for this one stream.
fn ticket(app: &App, visit: &Visit, session: Uuid) -> String {
    let now = app.now();
    let claims = Claims {
        jti: Uuid::new_v4(),
        aud: visit.host.machine,
        org: visit.organisation,
        usr: visit.person,
        lgn: visit.principal,
        act: Actor { kind: ActorKind::Person, id: visit.person, name: visit.name.clone() },
        ses: session,
        caps: vec![Capability::Forward],
        cnf: app.parts().previews.key.confirmation(),
        iat: now.unix_ms(),
        exp: now.plus(TICKET_LIFE).unix_ms(),
    };
    app.parts().keys.signer.ticket(&claims)
}

/// A WebSocket to the broker: within this process where the broker is, over the network where it stands alone.
async fn connect(app: &App, broker: &str, visit: &Visit) -> Result<Socket, DialError> {
    let url = if broker == VIEWER_PATH { format!("ws://localhost{VIEWER_PATH}") } else { broker.to_owned() };
    let mut request = url.as_str().into_client_request().map_err(DialError::broken)?;
    let origin = HeaderValue::from_str(&app.public_origin()).map_err(DialError::broken)?;
    request.headers_mut().insert(header::ORIGIN, origin);
    let wire: Box<dyn Wire> = match &app.parts().broker {
        Some(embedded) if broker == VIEWER_PATH => Box::new(within(embedded, visit)),
        Some(_) | None => dial_tcp(request.uri()).await?,
    };
    let connected = tokio_tungstenite::client_async(request, wire).await;
    connected.map(|(socket, _)| socket).map_err(DialError::broken)
}

/// The embedded broker's door, without a network between.
fn within(broker: &Broker, visit: &Visit) -> DuplexStream {
    let (near, far) = tokio::io::duplex(PIPE);
    let address = ViewerAddress(format!("preview {}", visit.principal));
    let service =
        broker.viewer_routes().map_request(move |mut request: http::Request<hyper::body::Incoming>| {
            request.extensions_mut().insert(address.clone());
            request.map(axum::body::Body::new)
        });
    let serving = hyper::server::conn::http1::Builder::new()
        .serve_connection(TokioIo::new(far), TowerToHyperService::new(service))
        .with_upgrades();
    tokio::spawn(async move { drop(serving.await) });
    near
}

async fn dial_tcp(uri: &Uri) -> Result<Box<dyn Wire>, DialError> {
    let host = uri.host().ok_or_else(|| DialError::broken("the broker has no host"))?;
    let tls = uri.scheme_str() == Some("wss");
    let port = uri.port_u16().unwrap_or(if tls { 443 } else { 80 });
    let stream = tokio::net::TcpStream::connect((host.trim_matches(['[', ']']), port)).await;
    let stream = stream.map_err(DialError::broken)?;
    let _ = stream.set_nodelay(true);
    if !tls {
        return Ok(Box::new(stream));
    }
    let roots = rustls::RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    let config = rustls::ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    let name = rustls::pki_types::ServerName::try_from(host.to_owned()).map_err(DialError::broken)?;
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    Ok(Box::new(connector.connect(name, stream).await.map_err(DialError::broken)?))
}

async fn send(socket: &mut Socket, bytes: Bytes) -> Result<(), DialError> {
    socket.send(Message::Binary(bytes)).await.map_err(DialError::broken)
}

/// The next bytes; `None`: it was closed in order. A close with a code is an error by that name.
async fn receive(socket: &mut Socket) -> Result<Option<Bytes>, DialError> {
    loop {
        return match socket.next().await {
            Some(Ok(Message::Binary(bytes))) => Ok(Some(bytes)),
            Some(Ok(Message::Close(Some(close)))) => {
                let number = u64::from(u16::from(close.code)).saturating_sub(4_000);
                match CloseCode::from_number(number).filter(|_| u16::from(close.code) >= 4_000) {
                    Some(CloseCode::Done) | None => Ok(None),
                    Some(code) => Err(refused(code.name(), close.reason.to_string())),
                }
            }
            Some(Ok(Message::Close(None))) | None => Ok(None),
            Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Text(_) | Message::Frame(_))) => continue,
            Some(Err(error)) => Err(DialError::broken(error)),
        };
    }
}

/// Bytes both ways until one side ends.
async fn carry(socket: Socket, pipe: DuplexStream, rest: Bytes) {
    let (mut sink, mut source) = socket.split();
    let (mut read, mut write) = tokio::io::split(pipe);
    let down = async {
        write.write_all(&rest).await?;
        while let Some(message) = source.next().await {
            match message {
                Ok(Message::Binary(bytes)) => write.write_all(&bytes).await?,
                Ok(Message::Ping(_) | Message::Pong(_) | Message::Text(_) | Message::Frame(_)) => {}
                Ok(Message::Close(_)) | Err(_) => break,
            }
        }
        write.shutdown().await
    };
    let up = async {
        let mut buffer = vec![0; DATA_FRAME_MAX];
        loop {
            let len = read.read(&mut buffer).await.unwrap_or(0);
            let bytes = Bytes::copy_from_slice(buffer.get(..len).unwrap_or_default());
            if len == 0 || sink.send(Message::Binary(bytes)).await.is_err() {
                break;
            }
        }
        // A broker sends on what it has, and ends.
        let _ = sink.close().await;
    };
    tokio::select! {
        _ = down => {}
        () = up => {}
    }
}
