//! The way out of restricted sandboxes: an HTTP proxy that knows each one's list.
//!
//! A restricted sandbox reaches control, the broker and this, and nothing else, by rules outside of its reach: whoever ignores the proxy
//! ends at them. The proxy is told who asks by a credential that is the sandbox's own and is worth nothing while that does not run.
//!
//! ```text
//!  CONNECT host:port ──▶ whose? ──▶ on its list? ──▶ resolve once ──▶ public? ──▶ dial that address ──▶ bytes both ways
//!  GET http://host/  ──▶  407         403              502             403           502            ──▶ one request
//! ```

mod rules;

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::body::Body;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::{HOST, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use rexec_shared::text::shown;
use sea_orm::EntityTrait as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use uuid::Uuid;

pub(crate) use self::rules::checked;
use self::rules::{Target, public};
use super::inside;
use super::view::Allowed;
use crate::app::App;
use crate::auth::host::INSIDE_HOST;
use crate::entity::{Desired, SandboxNetwork, sandbox};
use crate::limits::{HEAD_DEADLINE, HEAD_MAX, SANDBOX_PROXY_CONNECTIONS, SANDBOX_PROXY_EACH};
use crate::secret::Purpose;

/// How long a name or a connection is waited for.
const DIAL_DEADLINE: Duration = Duration::from_secs(10);
/// Addresses of a name that are tried.
const ADDRESSES_MAX: usize = 4;
/// After an address could not be listened on, before the next try.
const AGAIN: Duration = Duration::from_secs(15);
/// Longest name repeated in an answer or a log line.
const NAME_MAX: usize = 253;
/// What belongs to one connection and not to the request (RFC 9110 §7.6.1).
const HOP_BY_HOP: [&str; 8] = [
    "connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "upgrade",
];

/// The address of the proxy as the sandbox sees it, with its credential.
pub(super) fn url(app: &App, id: Uuid) -> String {
    format!("http://{id}:{}@{}", credential(app, id), authority(app))
}

/// `host:port` of the proxy as sandboxes see it.
pub(super) fn authority(app: &App) -> String {
    let host = inside::control_url(app).host_str().unwrap_or(INSIDE_HOST).to_owned();
    format!("{host}:{}", app.settings().sandboxes.proxy_port)
}

fn credential(app: &App, id: Uuid) -> String {
    app.vault().mac(Purpose::Egress, &id.to_string())
}

/// Listens for as long as the installation runs, where sandboxes can be made at all.
pub async fn run(app: App) {
    let Ok(engine) = app.parts().sandboxes.engine().cloned() else { return };
    let port = app.settings().sandboxes.proxy_port;
    loop {
        let gateway = engine.gateway().await.ok();
        if let Some(listener) = listen(&app, gateway, port).await {
            app.parts().sandboxes.set_proxy(true);
            serve(&app, listener).await;
            return;
        }
        tokio::select! {
            () = app.parts().ending.cancelled() => return,
            () = tokio::time::sleep(AGAIN) => {}
        }
    }
}

/// On the engine's gateway where that is an address of this machine, so that nobody else even sees it; else as control itself.
async fn listen(app: &App, gateway: Option<IpAddr>, port: u16) -> Option<TcpListener> {
    let by_gateway = inside::control_url(app).host_str() == Some(INSIDE_HOST);
    let own = app.settings().listen.ip();
    for ip in gateway.filter(|_| by_gateway).into_iter().chain([own]) {
        match TcpListener::bind((ip, port)).await {
            Ok(listener) => return Some(listener),
            Err(error) => {
                tracing::warn!(%ip, port, %error, "the proxy of restricted sandboxes cannot listen")
            }
        }
    }
    None
}

async fn serve(app: &App, listener: TcpListener) {
    let slots = Arc::new(Slots::default());
    loop {
        let accepted = tokio::select! {
            () = app.parts().ending.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        let Ok((stream, peer)) = accepted else {
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        let Some(whole) = Slot::take(&slots, Uuid::nil(), SANDBOX_PROXY_CONNECTIONS) else {
            tracing::debug!(%peer, "a connection too many to the proxy was closed");
            continue;
        };
        let _ = stream.set_nodelay(true);
        let (app, slots) = (app.clone(), Arc::clone(&slots));
        drop(tokio::spawn(async move {
            let ending = app.parts().ending.clone();
            let answer = service_fn(|request| {
                let (app, slots) = (app.clone(), Arc::clone(&slots));
                async move { Ok::<_, Infallible>(answer(&app, &slots, request).await) }
            });
            let connection = hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEAD_DEADLINE)
                .max_buf_size(HEAD_MAX)
                .serve_connection(TokioIo::new(stream), answer)
                .with_upgrades();
            tokio::select! {
                _ = connection => {}
                () = ending.cancelled() => {}
            }
            drop(whole);
        }));
    }
}

/// Why a request goes nowhere.
struct Refusal(StatusCode, String);

async fn answer(app: &App, slots: &Arc<Slots>, request: Request<Incoming>) -> Response<Body> {
    match pass(app, slots, request).await {
        Ok(response) => response,
        Err(Refusal(status, said)) => {
            let mut response = Response::new(Body::from(format!("{said}\n")));
            *response.status_mut() = status;
            if status == StatusCode::PROXY_AUTHENTICATION_REQUIRED {
                let basic = HeaderValue::from_static("Basic realm=\"rexec\"");
                response.headers_mut().insert(PROXY_AUTHENTICATE, basic);
            }
            response
        }
    }
}

async fn pass(app: &App, slots: &Arc<Slots>, request: Request<Incoming>) -> Result<Response<Body>, Refusal> {
    let (id, allow) = whose(app, request.headers()).await?;
    let target = wanted(&request)?;
    let (host, port) = (shown(&target.host, NAME_MAX), target.port);
    if !target.is_on(&allow) {
        tracing::info!(sandbox = %id, host, port, "refused: not on its list");
        let said = format!("Rexec: {host}:{port} is not on the list of what this sandbox may reach");
        return Err(Refusal(StatusCode::FORBIDDEN, said));
    }
    let busy =
        || Refusal(StatusCode::TOO_MANY_REQUESTS, "Rexec: this sandbox has too many connections".to_owned());
    let slot = Slot::take(slots, id, SANDBOX_PROXY_EACH).ok_or_else(busy)?;
    let stream = dial(&target)
        .await
        .inspect_err(|Refusal(_, said)| tracing::info!(sandbox = %id, host, port, said))?;
    tracing::info!(sandbox = %id, host, port, "passed on");
    if request.method() == Method::CONNECT {
        Ok(tunnel(app, request, stream, slot))
    } else {
        forward(app, request, stream, slot).await
    }
}

/// Which sandbox asks, and its list.
async fn whose(app: &App, headers: &HeaderMap) -> Result<(Uuid, Vec<Allowed>), Refusal> {
    let unknown = || Refusal(StatusCode::PROXY_AUTHENTICATION_REQUIRED, "Rexec: who asks?".to_owned());
    let (id, said) = basic(headers).ok_or_else(unknown)?;
    let expected = credential(app, id);
    if aws_lc_rs::constant_time::verify_slices_are_equal(expected.as_bytes(), said.as_bytes()).is_err() {
        return Err(unknown());
    }
    let row = sandbox::Entity::find_by_id(id).one(app.db()).await;
    let row =
        row.map_err(|_| Refusal(StatusCode::SERVICE_UNAVAILABLE, "Rexec: the database is away".to_owned()))?;
    let live = row.filter(|row| row.network == SandboxNetwork::Restricted && row.desired == Desired::Running);
    let live = live.ok_or_else(unknown)?;
    Ok((id, serde_json::from_value(live.allow).unwrap_or_default()))
}

fn basic(headers: &HeaderMap) -> Option<(Uuid, String)> {
    let said = headers.get(PROXY_AUTHORIZATION)?.to_str().ok()?;
    let (scheme, encoded) = said.split_once(' ')?;
    let decoded = STANDARD.decode(encoded.trim()).ok().filter(|_| scheme.eq_ignore_ascii_case("basic"))?;
    let decoded = String::from_utf8(decoded).ok()?;
    let (id, secret) = decoded.split_once(':')?;
    Some((id.parse().ok()?, secret.to_owned()))
}

fn wanted(request: &Request<Incoming>) -> Result<Target, Refusal> {
    let uri = request.uri();
    let port = match (*request.method() == Method::CONNECT, uri.scheme_str()) {
        (true, _) => None,
        (false, Some("http")) => Some(80),
        (false, _) => {
            let said = "Rexec: this is a proxy: CONNECT host:port, or a request of http://host/".to_owned();
            return Err(Refusal(StatusCode::BAD_REQUEST, said));
        }
    };
    let target = uri.authority().and_then(|authority| Target::of(authority, port));
    target.ok_or_else(|| Refusal(StatusCode::BAD_REQUEST, "Rexec: where to?".to_owned()))
}

/// Resolves once, and connects to one of the addresses that were looked at.
async fn dial(target: &Target) -> Result<TcpStream, Refusal> {
    let (host, port) = (shown(&target.host, NAME_MAX), target.port);
    let away = |why: &str| Refusal(StatusCode::BAD_GATEWAY, format!("Rexec: {host}:{port} {why}"));
    let found = timeout(DIAL_DEADLINE, tokio::net::lookup_host((target.host.as_str(), port))).await;
    let found = found.map_err(|_| away("does not resolve in time"))?.map_err(|_| away("does not resolve"))?;
    let addresses = public(found);
    if addresses.is_empty() {
        let said = format!("Rexec: {host} is a private address, which no sandbox reaches");
        return Err(Refusal(StatusCode::FORBIDDEN, said));
    }
    for address in addresses.into_iter().take(ADDRESSES_MAX) {
        if let Ok(Ok(stream)) = timeout(DIAL_DEADLINE, TcpStream::connect(address)).await {
            let _ = stream.set_nodelay(true);
            return Ok(stream);
        }
    }
    Err(away("does not answer"))
}

/// Bytes both ways once the sandbox has heard that the way is open.
fn tunnel(app: &App, request: Request<Incoming>, mut stream: TcpStream, slot: Slot) -> Response<Body> {
    let ending = app.parts().ending.clone();
    drop(tokio::spawn(async move {
        let _slot = slot;
        let Ok(upgraded) = hyper::upgrade::on(request).await else { return };
        let mut upgraded = TokioIo::new(upgraded);
        tokio::select! {
            _ = tokio::io::copy_bidirectional(&mut upgraded, &mut stream) => {}
            () = ending.cancelled() => {}
        }
    }));
    Response::new(Body::empty())
}

/// One request of plain HTTP, and its answer.
async fn forward(
    app: &App,
    request: Request<Incoming>,
    stream: TcpStream,
    slot: Slot,
) -> Result<Response<Body>, Refusal> {
    let broken = |_| Refusal(StatusCode::BAD_GATEWAY, "Rexec: the server broke off".to_owned());
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
    let ending = app.parts().ending.clone();
    drop(tokio::spawn(async move {
        let _slot = slot;
        tokio::select! {
            _ = connection => {}
            () = ending.cancelled() => {}
        }
    }));
    let mut request = request.map(Body::new);
    let host = request.uri().authority().and_then(|authority| HeaderValue::from_str(authority.as_str()).ok());
    let path = request.uri().path_and_query().map_or("/", |path| path.as_str()).parse::<Uri>();
    *request.uri_mut() = path.unwrap_or_else(|_| Uri::from_static("/"));
    strip(request.headers_mut());
    if let Some(host) = host {
        request.headers_mut().insert(HOST, host);
    }
    let mut response = sender.send_request(request).await.map_err(broken)?.map(Body::new);
    strip(response.headers_mut());
    Ok(response)
}

fn strip(headers: &mut HeaderMap) {
    for name in HOP_BY_HOP {
        headers.remove(name);
    }
}

/// How many connections there are, of each sandbox; under the nil id, of all.
#[derive(Debug, Default)]
struct Slots(Mutex<HashMap<Uuid, usize>>);

/// One of them.
#[derive(Debug)]
struct Slot {
    slots: Arc<Slots>,
    id: Uuid,
}

impl Slot {
    fn take(slots: &Arc<Slots>, id: Uuid, most: usize) -> Option<Self> {
        let mut counts = slots.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(id).or_default();
        if *count >= most {
            return None;
        }
        *count += 1;
        drop(counts);
        Some(Self { slots: Arc::clone(slots), id })
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut counts = self.slots.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&self.id) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.id);
            }
        }
    }
}
