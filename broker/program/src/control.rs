//! The connection to control: TCP, TLS where control's address says so, a WebSocket whose request carries the credential, hello and welcome.
//!
//! Whom HTTPS trusts is what `SSL_CERT_FILE` names, else the system's bundle, else Mozilla's roots built in. Redirects are not followed: the
//! credential goes where the operator said.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use http::StatusCode;
use rexec_shared::broker_link::{LINK_PATH, LINK_VERSION, LinkDown, LinkHello, LinkUp, LinkWelcome};
use rexec_shared::close::CloseCode;
use rexec_shared::pki::{self, PkiError};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, ServerName};
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, WebSocketConfig};
use tokio_tungstenite::tungstenite::{self, Message};
use tokio_tungstenite::{WebSocketStream, client_async_with_config};
use url::Url;

use crate::settings::Settings;

/// From the first packet to the welcome.
const CONNECT_DEADLINE: Duration = Duration::from_secs(10);
/// How long control may leave a message unread.
const WRITE_DEADLINE: Duration = Duration::from_secs(10);
/// Control pings every five seconds: silent for this long, it is gone.
const SILENT: Duration = Duration::from_secs(16);
/// How long control may take to answer the close of the socket.
const CLOSE_DEADLINE: Duration = Duration::from_secs(1);
/// Largest message, bytes: a feed with all its entries is 40 KiB.
const MESSAGE_MAX: usize = 1024 * 1024;
/// Where distributions keep their bundle.
const BUNDLES: [&str; 3] =
    ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"];

/// Why there is no link, or none any more.
#[derive(Debug, Error)]
pub(crate) enum LinkError {
    #[error("control cannot be reached: {0}")]
    Unreachable(#[from] std::io::Error),
    #[error("control refuses this broker's credential: was the broker removed?")]
    Unknown,
    #[error("control answered {0}")]
    Refused(StatusCode),
    #[error("the link broke off: {0}")]
    Broken(#[from] tungstenite::Error),
    #[error("control did not answer in time")]
    Silent,
    #[error("control does not read")]
    Stuck,
    #[error("control closed the link: {}", .0.map_or("without a reason", CloseCode::name))]
    Closed(Option<CloseCode>),
    #[error("what control says cannot be understood: {0}")]
    Protocol(&'static str),
    #[error("this broker's key: {0}")]
    Key(#[from] PkiError),
}

trait Wire: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Wire for T {}

/// An open link.
pub(crate) struct Connection {
    socket: WebSocketStream<Box<dyn Wire>>,
}

/// Connects, and says hello.
pub(crate) async fn connect(
    settings: &Settings,
    key_pem: &str,
) -> Result<(Connection, LinkWelcome), LinkError> {
    timeout(CONNECT_DEADLINE, greet(settings, key_pem)).await.unwrap_or(Err(LinkError::Silent))
}

async fn greet(settings: &Settings, key_pem: &str) -> Result<(Connection, LinkWelcome), LinkError> {
    let wire = dial(&settings.control).await?;
    let request = request(settings)?;
    let config =
        WebSocketConfig::default().max_message_size(Some(MESSAGE_MAX)).max_frame_size(Some(MESSAGE_MAX));
    let (socket, _) = client_async_with_config(request, wire, Some(config)).await.map_err(refusal)?;
    let mut connection = Connection { socket };
    let hello = LinkHello {
        v: LINK_VERSION,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        csr: pki::signing_request(key_pem)?,
        viewer_url: settings.viewer_url.clone(),
        tunnel_addr: settings.tunnel_public(),
    };
    connection.send(&LinkUp::Hello(hello)).await?;
    loop {
        match connection.hear().await? {
            Some(LinkDown::Welcome(welcome)) => return Ok((connection, welcome)),
            Some(_) => return Err(LinkError::Protocol("its first word is no welcome")),
            None => {}
        }
    }
}

fn refusal(error: tungstenite::Error) -> LinkError {
    let tungstenite::Error::Http(answer) = error else { return LinkError::Broken(error) };
    match answer.status() {
        StatusCode::UNAUTHORIZED => LinkError::Unknown,
        status => LinkError::Refused(status),
    }
}

fn request(settings: &Settings) -> Result<http::Request<()>, LinkError> {
    let mut url = settings.control.join(LINK_PATH).map_err(|_| LinkError::Protocol("its address"))?;
    let scheme = if url.scheme() == "https" { "wss" } else { "ws" };
    url.set_scheme(scheme).map_err(|()| LinkError::Protocol("its address"))?;
    let mut request = url.as_str().into_client_request()?;
    let mut bearer = http::HeaderValue::from_str(&format!("Bearer {}", settings.credential.expose()))
        .map_err(|_| LinkError::Protocol("a credential that is no header"))?;
    bearer.set_sensitive(true);
    request.headers_mut().insert(http::header::AUTHORIZATION, bearer);
    Ok(request)
}

async fn dial(control: &Url) -> Result<Box<dyn Wire>, LinkError> {
    let host = control.host_str().ok_or(LinkError::Protocol("its address"))?;
    let bare = host.trim_start_matches('[').trim_end_matches(']').to_owned();
    let port = control.port_or_known_default().unwrap_or(80);
    let stream = TcpStream::connect((bare.as_str(), port)).await?;
    stream.set_nodelay(true)?;
    if control.scheme() != "https" {
        return Ok(Box::new(stream));
    }
    let name = ServerName::try_from(bare).map_err(|_| LinkError::Protocol("its name"))?;
    let connector = TlsConnector::from(Arc::new(tls_config()?));
    Ok(Box::new(connector.connect(name, stream).await?))
}

fn tls_config() -> Result<ClientConfig, LinkError> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(std::io::Error::other)?;
    Ok(config.with_root_certificates(roots()).with_no_client_auth())
}

fn roots() -> RootCertStore {
    let mut roots = RootCertStore::empty();
    match std::env::var_os("SSL_CERT_FILE") {
        Some(path) => add_bundle(&mut roots, Path::new(&path)),
        None => BUNDLES.iter().any(|path| add_bundle(&mut roots, Path::new(path))),
    };
    if roots.is_empty() {
        roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    }
    roots
}

/// Adds what can be read of a bundle; whether that was anything.
fn add_bundle(roots: &mut RootCertStore, path: &Path) -> bool {
    let Ok(certificates) = CertificateDer::pem_file_iter(path) else { return false };
    let (added, _) = roots.add_parsable_certificates(certificates.filter_map(Result::ok));
    added > 0
}

impl Connection {
    /// Says something.
    pub(crate) async fn send(&mut self, message: &LinkUp) -> Result<(), LinkError> {
        let text = serde_json::to_string(message).map_err(|_| LinkError::Protocol("our own words"))?;
        self.write(Message::text(text)).await
    }

    /// The next message; none for one that only says that control is there. Cancel-safe.
    pub(crate) async fn hear(&mut self) -> Result<Option<LinkDown>, LinkError> {
        match timeout(SILENT, self.socket.next()).await {
            Ok(Some(Ok(Message::Text(text)))) => serde_json::from_str(text.as_str())
                .map(Some)
                .map_err(|_| LinkError::Protocol("a message of another version")),
            Ok(Some(Ok(Message::Close(frame)))) => Err(LinkError::Closed(code(frame.as_ref()))),
            Ok(Some(Ok(_))) => Ok(None),
            Ok(Some(Err(error))) => Err(error.into()),
            Ok(None) => Err(LinkError::Closed(None)),
            Err(_) => Err(LinkError::Silent),
        }
    }

    /// Leaves in order: everything was said.
    pub(crate) async fn leave(mut self) {
        let frame =
            CloseFrame { code: CloseCode::Done.websocket().into(), reason: CloseCode::Done.name().into() };
        let farewell = async {
            self.socket.close(Some(frame)).await?;
            while let Some(Ok(_)) = self.socket.next().await {}
            Ok::<(), tungstenite::Error>(())
        };
        if !matches!(timeout(CLOSE_DEADLINE, farewell).await, Ok(Ok(()))) {
            tracing::debug!("control did not take the close of the link");
        }
    }

    async fn write(&mut self, message: Message) -> Result<(), LinkError> {
        match timeout(WRITE_DEADLINE, self.socket.send(message)).await {
            Ok(sent) => Ok(sent?),
            Err(_) => Err(LinkError::Stuck),
        }
    }
}

fn code(frame: Option<&CloseFrame>) -> Option<CloseCode> {
    let number = u16::from(frame?.code).checked_sub(4000)?;
    CloseCode::from_number(number.into())
}
