//! The door of previews: what comes under their names is answered here and nowhere else, and nothing else is.

use axum::body::Body;
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, header};
use http_body_util::{BodyExt as _, Limited};
use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde::Deserialize;
use url::form_urlencoded;

use super::dial::{DialError, Dialer};
use super::host::PreviewHost;
use super::visit::{self, Visit, cookie_name};
use crate::app::App;
use crate::auth::client_ip::ClientIp;

/// Paths of our own under a preview's name.
const OWN: &str = "/.rexec/";
/// A pass or a link's secret is shorter.
const TOKEN_MAX: usize = 1_024;
/// Headers that concern one connection alone (RFC 9110 §7.6.1).
const HOP: [HeaderName; 7] = [
    header::CONNECTION,
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

/// The door, with the HTTP client behind it.
#[derive(Clone)]
pub struct Gate {
    app: App,
    dialer: Dialer,
    client: Client<Dialer, Body>,
}

impl Gate {
    /// A door to all machines.
    pub fn new(app: App) -> Self {
        let dialer = Dialer::new(app.clone());
        let client = Client::builder(TokioExecutor::new())
            .pool_idle_timeout(std::time::Duration::from_secs(30))
            .pool_max_idle_per_host(8)
            .build(dialer.clone());
        Self { app, dialer, client }
    }

    /// Which preview the request is for, if it is for one.
    fn host_of(&self, headers: &HeaderMap) -> Option<PreviewHost> {
        let domain = self.app.parts().previews.domain().ok()?;
        let mut hosts = headers.get_all(header::HOST).iter();
        let host = hosts.next()?.to_str().ok()?;
        domain.parse(host).filter(|_| hosts.next().is_none())
    }
}

/// Takes what is for a preview; all else goes on to the app.
pub async fn divert(State(gate): State<Gate>, request: Request, next: Next) -> Response {
    match gate.host_of(request.headers()) {
        Some(host) => answer(&gate, host, request).await,
        None => next.run(request).await,
    }
}

async fn answer(gate: &Gate, host: PreviewHost, request: Request) -> Response {
    let ip = ClientIp::of(&request, gate.app.settings());
    if request.uri().path().starts_with(OWN) {
        return own(gate, host, request, ip).await;
    }
    match visit::visitor(&gate.app, host, request.headers(), ip).await {
        Ok(Some(_)) if is_foreign(gate, host, request.headers()) => {
            (StatusCode::FORBIDDEN, "asked for by a page of another origin\n").into_response()
        }
        Ok(Some(visit)) => pass_on(gate, &visit, request).await,
        Ok(None) => stranger(gate, host, &request),
        Err(error) => {
            tracing::error!(%error, "who looks at a preview could not be found out");
            page(StatusCode::INTERNAL_SERVER_ERROR, "It did not work", "Try again in a moment.")
        }
    }
}

/// Whether another origin's page asks for it with the visitor's cookie: another preview is of the same site, and its page is somebody else's program. Going
/// there by a link is no asking.
fn is_foreign(gate: &Gate, host: PreviewHost, headers: &HeaderMap) -> bool {
    let own = gate
        .app
        .parts()
        .previews
        .domain()
        .map(|domain| domain.url(host.machine, host.port))
        .unwrap_or_default();
    let mut origins = headers.get_all(header::ORIGIN).iter();
    let by_origin = origins.any(|origin| origin.as_bytes() != own.trim_end_matches('/').as_bytes());
    let is = |name: &str, values: &[&str]| {
        headers.get(name).and_then(|value| value.to_str().ok()).is_some_and(|value| values.contains(&value))
    };
    by_origin || is("sec-fetch-site", &["same-site", "cross-site"]) && !is("sec-fetch-mode", &["navigate"])
}

/// Somebody without a cookie: a page sends them to the app, anything else is told.
fn stranger(gate: &Gate, host: PreviewHost, request: &Request) -> Response {
    let goes_there = request.method() == Method::GET
        && request.headers().get("sec-fetch-mode").is_none_or(|mode| mode == "navigate")
        && request
            .headers()
            .get(header::ACCEPT)
            .is_some_and(|kinds| kinds.as_bytes().starts_with(b"text/html"));
    let address = gate.app.parts().previews.domain().map(|domain| domain.url(host.machine, host.port));
    let Ok(address) = address else { return page(StatusCode::NOT_FOUND, "Nothing here", "") };
    if !goes_there {
        return (StatusCode::UNAUTHORIZED, "sign in: open this address in a tab of its own\n")
            .into_response();
    }
    let path = request.uri().path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
    let to = format!("{}{path}", address.trim_end_matches('/'));
    let query = form_urlencoded::Serializer::new(String::new()).append_pair("to", &to).finish();
    let location = format!("{}/preview?{query}", gate.app.public_origin());
    match HeaderValue::from_str(&location) {
        Ok(location) => (StatusCode::FOUND, [(header::LOCATION, location)]).into_response(),
        Err(_) => page(StatusCode::BAD_REQUEST, "This is no address", ""),
    }
}

#[derive(Deserialize)]
struct Entering {
    token: String,
}

/// What is ours under the preview's name: the page that a pass or a link leads to, and what it calls.
async fn own(gate: &Gate, host: PreviewHost, request: Request, ip: ClientIp) -> Response {
    match (request.method(), request.uri().path()) {
        (&Method::GET, "/.rexec/open") => static_page("text/html; charset=utf-8", OPEN_PAGE),
        (&Method::GET, "/.rexec/open.js") => static_page("text/javascript; charset=utf-8", OPEN_SCRIPT),
        (&Method::POST, "/.rexec/enter") => {
            let body = Limited::new(request.into_body(), TOKEN_MAX).collect().await;
            let said = body.ok().and_then(|body| serde_json::from_slice::<Entering>(&body.to_bytes()).ok());
            let Some(Entering { token }) = said else { return StatusCode::BAD_REQUEST.into_response() };
            match visit::enter(&gate.app, host, &token, ip).await {
                Ok(Some(cookie)) => (StatusCode::NO_CONTENT, [(header::SET_COOKIE, cookie)]).into_response(),
                Ok(None) => StatusCode::FORBIDDEN.into_response(),
                Err(error) => {
                    tracing::error!(%error, "nobody could be let into a preview");
                    StatusCode::INTERNAL_SERVER_ERROR.into_response()
                }
            }
        }
        _ => StatusCode::NOT_FOUND.into_response(),
    }
}

const OPEN_PAGE: &str = include_str!("open.html");
const OPEN_SCRIPT: &str = include_str!("open.js");
const OWN_POLICY: &str = "default-src 'none'; script-src 'self'; connect-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'";

fn static_page(kind: &'static str, text: &'static str) -> Response {
    let headers = [
        (header::CONTENT_TYPE, kind),
        (header::CONTENT_SECURITY_POLICY, OWN_POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CACHE_CONTROL, "no-store"),
    ];
    (headers, text).into_response()
}

/// A page of ours in the place of one that there is not.
fn page(status: StatusCode, title: &str, text: &str) -> Response {
    let text = text.replace('&', "&amp;").replace('<', "&lt;");
    let html = format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><meta name=\"color-scheme\" content=\"dark light\"><title>{title}</title><h1>{title}</h1><p>{text}</p>\n"
    );
    let headers = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (header::CONTENT_SECURITY_POLICY, OWN_POLICY),
        (header::CACHE_CONTROL, "no-store"),
    ];
    (status, headers, html).into_response()
}

/// To the machine and back.
async fn pass_on(gate: &Gate, visit: &Visit, mut request: Request) -> Response {
    let upgrades = wants_upgrade(request.headers());
    let from_browser = upgrades.is_some().then(|| hyper::upgrade::on(&mut request));
    let Some(request) = outgoing(gate, visit, request, upgrades) else {
        return page(StatusCode::BAD_REQUEST, "This is no address", "");
    };
    let mut response = match gate.client.request(request).await {
        Ok(response) => response,
        Err(error) => return not_reached(visit, &error),
    };
    let switched = response.status() == StatusCode::SWITCHING_PROTOCOLS;
    if let Some(from_browser) = from_browser.filter(|_| switched) {
        let from_machine = hyper::upgrade::on(&mut response);
        tokio::spawn(async move {
            let (Ok(browser), Ok(machine)) = (from_browser.await, from_machine.await) else { return };
            let (mut browser, mut machine) = (TokioIo::new(browser), TokioIo::new(machine));
            let _ = tokio::io::copy_bidirectional(&mut browser, &mut machine).await;
        });
    }
    let (mut parts, body) = response.into_parts();
    incoming(gate, visit, &mut parts.headers, switched);
    Response::from_parts(parts, Body::new(body))
}

/// The protocol that the browser would go on with.
fn wants_upgrade(headers: &HeaderMap) -> Option<HeaderValue> {
    let asks = headers.get_all(header::CONNECTION).iter().filter_map(|value| value.to_str().ok());
    let asks =
        asks.flat_map(|value| value.split(',')).any(|word| word.trim().eq_ignore_ascii_case("upgrade"));
    headers.get(header::UPGRADE).filter(|_| asks).cloned()
}

/// The request as the program on the machine sees it: as if it came from the machine itself.
fn outgoing(gate: &Gate, visit: &Visit, request: Request, upgrades: Option<HeaderValue>) -> Option<Request> {
    let (mut parts, body) = request.into_parts();
    let path = parts.uri.path_and_query()?.clone();
    let authority = gate.dialer.authority(visit);
    parts.uri = Uri::builder().scheme("http").authority(authority).path_and_query(path).build().ok()?;
    parts.version = http::Version::HTTP_11;
    parts.extensions.clear();
    let headers = &mut parts.headers;
    strip_hops(headers);
    if let Some(protocol) = upgrades {
        headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(header::UPGRADE, protocol);
    }
    let domain = gate.app.parts().previews.domain().ok()?;
    let there = domain.url(visit.host.machine, visit.host.port);
    let here = format!("localhost:{}", visit.host.port);
    let shown = headers.insert(header::HOST, HeaderValue::from_str(&here).ok()?);
    for name in ["x-forwarded-for", "x-real-ip", "forwarded"] {
        headers.remove(name);
    }
    if let Some(shown) = shown {
        headers.insert("x-forwarded-host", shown);
    }
    let scheme = if domain.is_secure() { "https" } else { "http" };
    headers.insert("x-forwarded-proto", HeaderValue::from_static(scheme));
    // A program that compares the two is not to find them different.
    if headers
        .get(header::ORIGIN)
        .is_some_and(|origin| origin.as_bytes() == there.trim_end_matches('/').as_bytes())
    {
        headers.insert(header::ORIGIN, HeaderValue::from_str(&format!("http://{here}")).ok()?);
    }
    hide_cookie(headers, cookie_name(domain.is_secure()));
    Some(Request::from_parts(parts, body))
}

fn strip_hops(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    for name in named.iter().chain(&HOP) {
        headers.remove(name);
    }
    headers.remove("keep-alive");
}

/// Our own cookie is no program's business.
fn hide_cookie(headers: &mut HeaderMap, ours: &str) {
    let kept: Vec<String> = headers
        .get_all(header::COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(';'))
        .map(str::trim)
        .filter(|pair| pair.split('=').next().is_some_and(|name| name != ours) && !pair.is_empty())
        .map(str::to_owned)
        .collect();
    headers.remove(header::COOKIE);
    if let Ok(kept) = HeaderValue::from_str(&kept.join("; "))
        && !kept.is_empty()
    {
        headers.insert(header::COOKIE, kept);
    }
}

/// The answer as the browser sees it.
fn incoming(gate: &Gate, visit: &Visit, headers: &mut HeaderMap, switched: bool) {
    let protocol = headers.get(header::UPGRADE).cloned().filter(|_| switched);
    strip_hops(headers);
    if let Some(protocol) = protocol {
        headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(header::UPGRADE, protocol);
    }
    let Ok(domain) = gate.app.parts().previews.domain() else { return };
    // Where the program thinks it is.
    let moved = headers.get(header::LOCATION).and_then(|to| to.to_str().ok()).and_then(|to| {
        let port = visit.host.port;
        let hosts = [format!("http://localhost:{port}"), format!("http://127.0.0.1:{port}")];
        let rest = hosts.iter().find_map(|host| to.strip_prefix(host.as_str()))?;
        (rest.is_empty() || rest.starts_with(['/', '?', '#'])).then(|| {
            format!(
                "{}/{}",
                domain.url(visit.host.machine, port).trim_end_matches('/'),
                rest.trim_start_matches('/')
            )
        })
    });
    if let Some(moved) = moved.and_then(|moved| HeaderValue::from_str(&moved).ok()) {
        headers.insert(header::LOCATION, moved);
    }
    let cookies: Vec<HeaderValue> = headers
        .get_all(header::SET_COOKIE)
        .iter()
        .filter_map(|value| own_cookie(value, cookie_name(domain.is_secure())))
        .collect();
    headers.remove(header::SET_COOKIE);
    for cookie in cookies {
        headers.append(header::SET_COOKIE, cookie);
    }
    // Whoever opened the page, or was opened by it, is out of its reach.
    headers
        .entry(HeaderName::from_static("cross-origin-opener-policy"))
        .or_insert(HeaderValue::from_static("same-origin"));
}

/// A cookie of the program's stays with its own preview, and is not ours.
fn own_cookie(value: &HeaderValue, ours: &str) -> Option<HeaderValue> {
    let text = value.to_str().ok()?;
    if text.split('=').next()?.trim() == ours {
        return None;
    }
    let kept: Vec<&str> = text
        .split(';')
        .filter(|part| {
            !part.trim().split('=').next().is_some_and(|name| name.trim().eq_ignore_ascii_case("domain"))
        })
        .collect();
    HeaderValue::from_str(&kept.join(";")).ok()
}

/// What a person is told when there is no answer.
fn not_reached(visit: &Visit, error: &hyper_util::client::legacy::Error) -> Response {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    let dial = loop {
        match cause {
            Some(error) => match error.downcast_ref::<DialError>() {
                Some(dial) => break Some(dial),
                None => cause = error.source(),
            },
            None => break None,
        }
    };
    tracing::debug!(port = visit.host.port, machine = %visit.host.machine, ?dial, %error, "a preview was not reached");
    let port = visit.host.port;
    match dial {
        Some(DialError::Refused { code, .. }) if code == "port_closed" => page(
            StatusCode::BAD_GATEWAY,
            &format!("Nothing listens on port {port}"),
            "Start the program on the machine, on localhost or all addresses, and load this page again.",
        ),
        Some(DialError::Refused { code, .. }) if code == "machine_offline" => {
            page(StatusCode::BAD_GATEWAY, "The machine is offline", "Load this page again when it is back.")
        }
        Some(error) => page(StatusCode::BAD_GATEWAY, "The machine could not be reached", &error.to_string()),
        None => page(
            StatusCode::BAD_GATEWAY,
            &format!("What listens on port {port} does not answer in HTTP"),
            "A preview carries web pages and WebSockets.",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ws_05_cookies_stay_where_they_belong() {
        let mut headers = HeaderMap::new();
        headers.append(header::COOKIE, HeaderValue::from_static("a=1; rexec_preview=secret; b=2"));
        headers.append(header::COOKIE, HeaderValue::from_static("rexec_preview=other"));
        hide_cookie(&mut headers, "rexec_preview");
        assert_eq!(headers.get(header::COOKIE), Some(&HeaderValue::from_static("a=1; b=2")));
        let kept = |text: &'static str| own_cookie(&HeaderValue::from_static(text), "rexec_preview");
        assert_eq!(
            kept("s=1; Path=/; Domain=localhost; HttpOnly"),
            Some(HeaderValue::from_static("s=1; Path=/; HttpOnly"))
        );
        assert_eq!(kept("rexec_preview=planted; Path=/"), None);
        assert_eq!(kept(" rexec_preview=planted"), None);
    }

    #[test]
    fn what_concerns_one_connection_is_not_passed_on() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("connection", "close, x-secret"),
            ("x-secret", "1"),
            ("keep-alive", "1"),
            ("transfer-encoding", "chunked"),
            ("accept", "a"),
        ] {
            headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        strip_hops(&mut headers);
        assert_eq!(headers.keys().map(HeaderName::as_str).collect::<Vec<_>>(), ["accept"]);
    }
}
