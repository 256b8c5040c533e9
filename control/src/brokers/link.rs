//! Control's end of the link of a broker that stands alone: `GET /api/broker/link`, a WebSocket.
//!
//! The credential comes in the request's head and is good for this address alone (THREATS BR-06). The flow stands in
//! [`rexec_shared::broker_link`]. What is heard is written down before it is acknowledged; what is told waits for nobody else's link.

use std::time::{Duration, Instant, SystemTime};

use axum::extract::State;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade};
use axum::response::Response;
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt as _, StreamExt as _};
use http::{HeaderMap, StatusCode, header};
use rexec_shared::broker_link::{
    FromBroker, LINK_VERSION, LinkDown, LinkHello, LinkUp, LinkWelcome, ToBroker,
};
use rexec_shared::close::CloseCode;
use tokio::sync::{mpsc, watch};
use tokio::time::{MissedTickBehavior, interval, timeout};
use url::Url;
use uuid::Uuid;

use super::{Joined, rows};
use crate::app::App;
use crate::auth::client_ip::ClientIp;
use crate::entity::broker;
use crate::error::ApiError;
use crate::presence::{self, Listener};
use crate::words;

/// Largest message, bytes: the machines of all tunnels that one broker takes.
const MESSAGE_MAX: usize = 4 * 1024 * 1024;
/// From the open socket to the hello.
const HELLO_DEADLINE: Duration = Duration::from_secs(10);
/// How long a broker may leave a message unread.
const WRITE_DEADLINE: Duration = Duration::from_secs(10);
/// How often a broker is asked whether it is there.
const PING: Duration = Duration::from_secs(5);
/// A broker silent for this long is gone: three pings and a little.
const SILENT: Duration = Duration::from_secs(16);
/// How long a broker may take to answer the close of its socket.
const CLOSE_DEADLINE: Duration = Duration::from_secs(1);
/// After a link broke off, before the broker's machines count as offline: it comes back by itself, or its agents turn up elsewhere.
const GRACE: Duration = Duration::from_secs(10);
/// Certificates that may wait to be sent: a broker asks for one every eight hours.
const CERTIFICATES_MAX: usize = 2;
/// Longest address that a broker gives for itself, bytes.
const ADDRESS_MAX: usize = 255;

/// Why a link ended.
#[derive(Debug, thiserror::Error)]
enum End {
    #[error("the broker left in order")]
    Left,
    #[error("the link broke off")]
    Lost,
    #[error("the broker fell silent")]
    Silent,
    #[error("the broker does not read")]
    Stuck,
    #[error("the broker broke the protocol: {0}")]
    Protocol(&'static str),
    #[error("the link was cut: the broker was removed, or another link took its place")]
    Cut,
    #[error("control ends")]
    Ending,
    #[error("a defect: {0}")]
    Internal(String),
}

/// Lets a broker in.
///
/// # Errors
/// When its credential is none, or the request no WebSocket.
pub async fn open(
    State(app): State<App>,
    ip: ClientIp,
    headers: HeaderMap,
    socket: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response, ApiError> {
    let broker = authenticate(&app, ip, &headers).await?;
    let socket = socket.map_err(|_| {
        let code = "websocket_required";
        ApiError::new(StatusCode::UPGRADE_REQUIRED, code, "this address speaks WebSocket")
    })?;
    Ok(socket
        .max_message_size(MESSAGE_MAX)
        .max_frame_size(MESSAGE_MAX)
        .on_upgrade(move |socket| serve(app, broker, socket)))
}

/// Failures are counted by the network they come from; a good credential costs nothing, however often its broker comes.
async fn authenticate(app: &App, ip: ClientIp, headers: &HeaderMap) -> Result<broker::Model, ApiError> {
    app.parts().broker_tries.check(&ip.net()).map_err(ApiError::rate_limited)?;
    let credential = headers
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "))
        .filter(|credential| credential.starts_with(rows::BROKER_PREFIX));
    let found = match credential {
        Some(credential) => rows::by_credential(app.db(), app.vault(), credential).await?,
        None => None,
    };
    match found {
        Some(broker) => Ok(broker),
        None => {
            app.parts().broker_tries.spend(ip.net()).map_err(ApiError::rate_limited)?;
            tracing::warn!(%ip, "a broker's credential was refused");
            let code = "broker_unknown";
            let refused = ApiError::new(
                StatusCode::UNAUTHORIZED,
                code,
                "no broker of this installation has this credential",
            );
            Err(refused
                .hint("add it with `rexec-control broker add`; one that was removed does not come back"))
        }
    }
}

async fn serve(app: App, broker: broker::Model, socket: WebSocket) {
    let (mut sink, mut source) = socket.split();
    let (id, name) = (broker.id, broker.name.as_str());
    let end = match timeout(HELLO_DEADLINE, greet(&app, &broker, &mut sink, &mut source)).await {
        Ok(Ok(joined)) => {
            tracing::info!(broker = name, "linked");
            let generation = joined.generation;
            let end = carry(&app, id, joined, &mut sink, &mut source).await;
            if app.parts().brokers.leave(id, generation) {
                tokio::spawn(conclude(app.clone(), id, matches!(end, End::Left)));
            }
            end
        }
        Ok(Err(end)) => end,
        Err(_) => End::Silent,
    };
    tracing::info!(broker = name, %end, "link ended");
    let code = close_code(&end, || app.parts().brokers.is_removed(id));
    let frame = CloseFrame { code: code.websocket(), reason: code.name().into() };
    let farewell = async {
        sink.send(Message::Close(Some(frame))).await?;
        while let Some(Ok(_)) = source.next().await {}
        Ok::<(), axum::Error>(())
    };
    // A peer that is gone hears nothing.
    let _ = timeout(CLOSE_DEADLINE, farewell).await;
}

fn close_code(end: &End, is_removed: impl FnOnce() -> bool) -> CloseCode {
    match end {
        End::Left => CloseCode::Done,
        End::Lost | End::Silent => CloseCode::TunnelLost,
        End::Stuck => CloseCode::TooSlow,
        End::Protocol(_) => CloseCode::ProtocolError,
        End::Cut if is_removed() => CloseCode::Revoked,
        End::Cut => CloseCode::Displaced,
        End::Ending => CloseCode::Draining,
        End::Internal(_) => CloseCode::Internal,
    }
}

type Sink = SplitSink<WebSocket, Message>;
type Source = SplitStream<WebSocket>;

async fn greet(
    app: &App,
    broker: &broker::Model,
    sink: &mut Sink,
    source: &mut Source,
) -> Result<Joined, End> {
    let Some(LinkUp::Hello(hello)) = hear(source).await? else {
        return Err(End::Protocol("the first message is no hello"));
    };
    if hello.v != LINK_VERSION {
        return Err(End::Protocol("it speaks another version"));
    }
    let viewer_url = origin(&hello.viewer_url).ok_or(End::Protocol("its viewers' address is no origin"))?;
    if !is_address(&hello.tunnel_addr) {
        return Err(End::Protocol("its tunnel address is not host:port"));
    }
    let certificate = sign(app, &hello.csr)?;
    let version = words::tame(&hello.version);
    rows::note_link(app.db(), broker.id, (&viewer_url, &hello.tunnel_addr, &version), app.now())
        .await
        .map_err(|error| End::Internal(error.to_string()))?;
    let parts = app.parts();
    let joined = parts.brokers.join(broker.id, viewer_url, hello.tunnel_addr.clone());
    let welcome = LinkWelcome {
        v: LINK_VERSION,
        installation: parts.installation,
        name: broker.name.clone(),
        certificate,
        ca: parts.keys.authority.certificate_pem().to_owned(),
        ticket_key: parts.keys.signer.public_key(),
        allowed_origins: vec![app.public_origin()],
        others: parts.brokers.others(broker.id),
    };
    match send(sink, &LinkDown::Welcome(welcome)).await {
        Ok(()) => Ok(joined),
        Err(end) => {
            parts.brokers.leave(broker.id, joined.generation);
            Err(end)
        }
    }
}

/// The origin of a web address that is nothing more than one.
fn origin(text: &str) -> Option<String> {
    let url = Url::parse(text).ok().filter(|_| text.len() <= ADDRESS_MAX)?;
    let is_web = ["http", "https"].contains(&url.scheme()) && url.has_host();
    let origin = url.origin().ascii_serialization();
    (is_web && origin == text.trim_end_matches('/')).then_some(origin)
}

fn is_address(text: &str) -> bool {
    let plain = text.len() <= ADDRESS_MAX && text.bytes().all(|byte| byte.is_ascii_graphic());
    plain
        && text
            .rsplit_once(':')
            .is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port > 0))
}

fn sign(app: &App, csr: &str) -> Result<String, End> {
    let parts = app.parts();
    let signed = parts.keys.authority.sign_broker(csr, parts.installation, SystemTime::now());
    signed.map_err(|_| End::Protocol("its signing request cannot be read"))
}

/// Hears and tells until either ends.
async fn carry(app: &App, id: Uuid, joined: Joined, sink: &mut Sink, source: &mut Source) -> End {
    let (acked, ack) = watch::channel(0);
    let (certificates, signed) = mpsc::channel(CERTIFICATES_MAX);
    let hearing = listen(app, id, source, &acked, &certificates);
    let telling = Telling { app, id, joined, ack, signed }.run(sink);
    tokio::select! {
        end = hearing => end,
        end = telling => end,
    }
}

async fn listen(
    app: &App,
    id: Uuid,
    source: &mut Source,
    acked: &watch::Sender<u64>,
    certificates: &mpsc::Sender<String>,
) -> End {
    let mut listener = Listener::of(app.clone(), Some(id));
    loop {
        let message = tokio::select! {
            message = hear(source) => message,
            () = listener.until_due() => {
                listener.try_again().await;
                continue;
            }
        };
        match message {
            Ok(Some(LinkUp::Event { seq, event })) => {
                // What stands is told once for each link, so a link on which it was not taken is of no use.
                if let FromBroker::Standing { machines } = event {
                    if let Err(error) = presence::standing(app, Some(id), &machines).await {
                        return End::Internal(error.to_string());
                    }
                } else {
                    listener.hear(event).await;
                }
                acked.send_replace(seq);
            }
            Ok(Some(LinkUp::Renew { csr })) => match renew(app, id, &csr).await {
                Ok(certificate) => {
                    if certificates.try_send(certificate).is_err() {
                        return End::Stuck;
                    }
                }
                Err(end) => return end,
            },
            Ok(Some(LinkUp::Hello(LinkHello { .. }))) => return End::Protocol("a second hello"),
            Ok(None) => {}
            Err(end) => return end,
        }
    }
}

async fn renew(app: &App, id: Uuid, csr: &str) -> Result<String, End> {
    let certificate = sign(app, csr)?;
    let noted = rows::note_certificate(app.db(), id, app.now()).await;
    noted.map_err(|error| End::Internal(error.to_string()))?;
    Ok(certificate)
}

/// The next message; none for one that only says that its sender lives. Cancel-safe.
async fn hear(source: &mut Source) -> Result<Option<LinkUp>, End> {
    match timeout(SILENT, source.next()).await {
        Ok(Some(Ok(Message::Text(text)))) => serde_json::from_str(text.as_str())
            .map(Some)
            .map_err(|_| End::Protocol("a message that cannot be read")),
        Ok(Some(Ok(Message::Ping(_) | Message::Pong(_)))) => Ok(None),
        Ok(Some(Ok(Message::Binary(_)))) => Err(End::Protocol("a binary message")),
        Ok(Some(Ok(Message::Close(Some(frame))))) if frame.code == CloseCode::Done.websocket() => {
            Err(End::Left)
        }
        Ok(Some(Ok(Message::Close(_)) | Err(_)) | None) => Err(End::Lost),
        Err(_) => Err(End::Silent),
    }
}

/// What control says.
struct Telling<'a> {
    app: &'a App,
    id: Uuid,
    joined: Joined,
    ack: watch::Receiver<u64>,
    signed: mpsc::Receiver<String>,
}

impl Telling<'_> {
    async fn run(mut self, sink: &mut Sink) -> End {
        match self.tell(sink).await {
            Ok(never) => match never {},
            Err(end) => end,
        }
    }

    async fn tell(&mut self, sink: &mut Sink) -> Result<std::convert::Infallible, End> {
        let ending = self.app.parts().ending.clone();
        let mut told = 0;
        let mut ping = interval(PING);
        ping.set_missed_tick_behavior(MissedTickBehavior::Delay);
        self.joined.feeds.mark_changed();
        loop {
            tokio::select! {
                biased;
                () = self.joined.cut.cancelled() => return Err(End::Cut),
                () = ending.cancelled() => return Err(End::Ending),
                Some(order) = self.joined.orders.recv() => send(sink, &LinkDown::Order { order }).await?,
                Ok(()) = self.ack.changed() => {
                    let seq = *self.ack.borrow_and_update();
                    send(sink, &LinkDown::Ack { seq }).await?;
                }
                Some(certificate) = self.signed.recv() => {
                    send(sink, &LinkDown::Certificate { certificate }).await?;
                }
                Ok(()) = self.joined.live.changed() => {
                    let others = self.app.parts().brokers.others(self.id);
                    send(sink, &LinkDown::Others { others }).await?;
                }
                _ = ping.tick() => write(sink, Message::Ping(Default::default())).await?,
                Ok(()) = self.joined.feeds.changed() => told = self.tell_feeds(sink, told).await?,
            }
        }
    }

    /// Tells some of the feeds that are newer than `told`, and says up to which they are told now.
    async fn tell_feeds(&mut self, sink: &mut Sink, mut told: u64) -> Result<u64, End> {
        let newer = self.app.parts().brokers.feeds_after(told);
        // There may be more than come at once.
        if newer.is_empty() {
            return Ok(told);
        }
        for (version, org, token) in newer {
            let order = ToBroker::Feed { org, token: token.to_string() };
            send(sink, &LinkDown::Order { order }).await?;
            told = version;
        }
        self.joined.feeds.mark_changed();
        Ok(told)
    }
}

async fn send(sink: &mut Sink, message: &LinkDown) -> Result<(), End> {
    let text = serde_json::to_string(message).map_err(|error| End::Internal(error.to_string()))?;
    write(sink, Message::Text(text.into())).await
}

async fn write(sink: &mut Sink, message: Message) -> Result<(), End> {
    match timeout(WRITE_DEADLINE, sink.send(message)).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(_)) => Err(End::Lost),
        Err(_) => Err(End::Stuck),
    }
}

/// A broker has no link any more. One that left in order has told every end; the machines of one that broke off stay online for a while,
/// in which it comes back, or they turn up at another.
async fn conclude(app: App, id: Uuid, is_orderly: bool) {
    let began = Instant::now();
    if let Err(error) = rows::note_end(app.db(), id, app.now()).await {
        tracing::warn!(%error, "the end of a link could not be noted");
    }
    let ending = app.parts().ending.clone();
    if !is_orderly {
        tokio::select! {
            () = ending.cancelled() => return,
            () = tokio::time::sleep(GRACE.saturating_sub(began.elapsed())) => {}
        }
    }
    while !app.parts().brokers.is_linked(id) {
        match presence::standing(&app, Some(id), &[]).await {
            Ok(()) => return,
            Err(error) => {
                tracing::error!(%error, "machines of a broker that is away could not be taken down")
            }
        }
        tokio::select! {
            () = ending.cancelled() => return,
            () = tokio::time::sleep(GRACE) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broker_names_an_origin_for_viewers_and_an_address_for_agents_and_nothing_else() {
        assert_eq!(origin("https://b.example/").as_deref(), Some("https://b.example"));
        assert_eq!(origin("http://10.0.0.1:8081").as_deref(), Some("http://10.0.0.1:8081"));
        for wrong in [
            "https://b.example/viewer",
            "wss://b.example",
            "https://b.example; script-src *",
            "https://a@b.example",
            "https://b.example:443",
            "javascript:alert(1)",
            "",
        ] {
            assert_eq!(origin(wrong), None, "{wrong}");
        }
        assert!(is_address("b.example:7443") && is_address("[2001:db8::1]:7443"));
        for wrong in ["", ":7443", "b.example", "b.example:0", "b.example:70000", "b example:1"] {
            assert!(!is_address(wrong), "{wrong}");
        }
    }
}
