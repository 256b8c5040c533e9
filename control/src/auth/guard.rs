//! Whether a request that changes something was meant by the person whose browser sent it (THREATS WS-01, WS-02).
//!
//! Browsers say where a request comes from (`Origin`, `Sec-Fetch-Site`), and another site can send neither a header of its
//! own making nor JSON without asking first. All of these are checked on every changing request that carries a login.
#![deny(clippy::disallowed_methods)]

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use http::{HeaderMap, HeaderName, Method, header};
use url::{Host, Url};

use crate::app::App;
use crate::error::ApiError;
use crate::extract::is_json;

/// Scripts of the page send it with every changing request; no form can.
const CSRF_HEADER: HeaderName = HeaderName::from_static("x-rexec-csrf");
const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Which origins are our own.
#[derive(Debug, Clone)]
pub struct OwnOrigins {
    public: Url,
    /// In development the loopback names and bare addresses of the same listener are ours, too. A bare address cannot be
    /// rebound to another site as a name can.
    development: bool,
}

impl OwnOrigins {
    /// The origins of an installation at `public`.
    pub const fn new(public: Url, development: bool) -> Self {
        Self { public, development }
    }

    /// Whether `origin`, as a browser sends it to `host`, is our own.
    pub fn contains(&self, origin: &str, host: Option<&str>) -> bool {
        let Ok(url) = Url::parse(origin) else { return false };
        if url.origin().ascii_serialization() != origin {
            return false;
        }
        url.origin() == self.public.origin() || (self.development && self.is_this_listener(&url, host))
    }

    fn is_this_listener(&self, origin: &Url, host: Option<&str>) -> bool {
        let is_local_name = match origin.host() {
            Some(Host::Domain(name)) => name == "localhost",
            Some(Host::Ipv4(_) | Host::Ipv6(_)) => true,
            None => false,
        };
        let same_host = host.is_some_and(|host| {
            origin.as_str().strip_prefix("http://").is_some_and(|rest| rest.trim_end_matches('/') == host)
        });
        self.public.scheme() == "http" && is_local_name && same_host
    }
}

/// Lets reading requests pass and checks changing ones.
pub async fn guard(State(app): State<App>, request: Request, next: Next) -> Response {
    let verdict = if is_reading(request.method()) {
        Ok(())
    } else {
        check(request.headers(), &app.origins(), app.cookie().read(request.headers()).is_some())
    };
    match verdict {
        Ok(()) => next.run(request).await,
        Err(error) => error.into_response(),
    }
}

fn is_reading(method: &Method) -> bool {
    [Method::GET, Method::HEAD, Method::OPTIONS].contains(method)
}

/// Checks where a WebSocket or any other request of a browser comes from: absent `Origin` is refused.
///
/// # Errors
/// When it is not our own page.
pub fn demand_own_origin(headers: &HeaderMap, own: &OwnOrigins) -> Result<(), ApiError> {
    let origin = headers.get(header::ORIGIN).and_then(|origin| origin.to_str().ok());
    origin.is_some_and(|origin| own.contains(origin, host_of(headers))).then_some(()).ok_or_else(|| {
        ApiError::forbidden("origin", "this address answers to pages of this installation only")
    })
}

/// # Errors
/// When the browser says that a page of another site asks.
pub fn refuse_other_sites(headers: &HeaderMap) -> Result<(), ApiError> {
    let ours = headers.get(SEC_FETCH_SITE).is_none_or(|site| site == "same-origin" || site == "none");
    if ours { Ok(()) } else { Err(refusal("the request was sent by another site")) }
}

fn refusal(why: &str) -> ApiError {
    ApiError::forbidden("csrf", why)
        .hint("requests come from this installation's own pages; changing ones as JSON, with the header x-rexec-csrf: 1")
}

fn check(headers: &HeaderMap, own: &OwnOrigins, has_login: bool) -> Result<(), ApiError> {
    let refuse = |why| Err(refusal(why));
    refuse_other_sites(headers)?;
    if let Some(origin) = headers.get(header::ORIGIN)
        && !origin.to_str().is_ok_and(|origin| own.contains(origin, host_of(headers)))
    {
        return refuse("the request was sent by a page of another origin");
    }
    if headers.contains_key(header::CONTENT_TYPE) && has_login && !is_json(headers) {
        return refuse("the request is not JSON");
    }
    if has_login && headers.get(CSRF_HEADER).is_none_or(|value| value != "1") {
        return refuse("the header x-rexec-csrf is missing");
    }
    Ok(())
}

fn host_of(headers: &HeaderMap) -> Option<&str> {
    headers.get(header::HOST).and_then(|host| host.to_str().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own(development: bool) -> OwnOrigins {
        OwnOrigins::new("https://rexec.example".parse().expect("a url"), development)
    }

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), http::HeaderValue::from_static(value)))
            .collect()
    }

    #[test]
    fn ws_01_only_the_exact_origin_is_our_own() {
        assert!(own(false).contains("https://rexec.example", None));
        for foreign in [
            "null",
            "",
            "https://rexec.example.evil.test",
            "https://evil-rexec.example",
            "https://rexec.example:444",
            "http://rexec.example",
            "https://rexec.example/",
            "https://rexec.example@evil.test",
            "https://xn--rexec-.example",
            "https://REXEC.example",
            "file://",
        ] {
            assert!(!own(false).contains(foreign, Some("rexec.example")), "{foreign}");
            assert!(!own(true).contains(foreign, Some("rexec.example")), "{foreign} in development");
        }
    }

    #[test]
    fn in_development_this_listener_is_reached_by_loopback_and_bare_addresses() {
        let own = OwnOrigins::new("http://localhost:8080".parse().expect("a url"), true);
        assert!(own.contains("http://localhost:8080", None));
        assert!(own.contains("http://127.0.0.1:8080", Some("127.0.0.1:8080")));
        assert!(own.contains("http://192.168.1.5:8080", Some("192.168.1.5:8080")));
        assert!(!own.contains("http://192.168.1.5:8080", Some("localhost:8080")));
        assert!(!own.contains("http://evil.test:8080", Some("evil.test:8080")), "a name can be rebound");
        let production = OwnOrigins::new("http://localhost:8080".parse().expect("a url"), false);
        assert!(!production.contains("http://127.0.0.1:8080", Some("127.0.0.1:8080")));
    }

    #[test]
    fn ws_02_every_trick_of_another_site_is_refused() {
        let good = [
            ("origin", "https://rexec.example"),
            ("content-type", "application/json"),
            ("x-rexec-csrf", "1"),
        ];
        assert!(check(&headers(&good), &own(false), true).is_ok());
        for trick in [
            ("origin", "https://evil.test"),
            ("origin", "null"),
            ("sec-fetch-site", "cross-site"),
            ("sec-fetch-site", "same-site"),
            ("content-type", "text/plain"),
            ("content-type", "multipart/form-data; boundary=x"),
            ("content-type", "application/x-www-form-urlencoded"),
            ("x-rexec-csrf", "0"),
        ] {
            let mut headers = headers(&good);
            headers.insert(HeaderName::from_static(trick.0), http::HeaderValue::from_static(trick.1));
            assert!(check(&headers, &own(false), true).is_err(), "{trick:?}");
        }
        assert!(check(&headers(&good[..2]), &own(false), true).is_err(), "without the header of scripts");
        assert!(check(&headers(&[]), &own(false), false).is_ok(), "an agent has no login to abuse");
    }
}
