//! Under which names this installation answers (THREATS BU-05): a page of another site whose name was rebound to our address
//! carries that name in `Host`, and gets nothing.
#![deny(clippy::disallowed_methods)]

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use http::{HeaderMap, StatusCode, header};
use rexec_shared::broker_link::LINK_PATH;
use url::{Host, Url};

use crate::app::App;
use crate::error::ApiError;

/// What machines ask by whatever name they know: they say whether the process lives and count, and nothing of anybody. A broker's link is
/// opened by its credential, which no page has.
const BY_ANY_NAME: [&str; 4] = ["/healthz", "/readyz", "/metrics", LINK_PATH];

/// How this machine is called inside sandboxes; nobody outside can be led here by it, for no resolver knows it.
pub const INSIDE_HOST: &str = "rexec.internal";

/// Refuses requests that were sent to another name.
pub async fn demand_own_host(State(app): State<App>, request: Request, next: Next) -> Response {
    let development = app.settings().environment == crate::settings::Environment::Development;
    let by_any_name = BY_ANY_NAME.contains(&request.uri().path());
    let is_inside = app.parts().sandboxes.engine().is_ok() && is_inside(request.headers());
    if by_any_name || is_inside || is_own(request.headers(), &app.parts().public_url, development) {
        return next.run(request).await;
    }
    let refused = ApiError::new(
        StatusCode::MISDIRECTED_REQUEST,
        "wrong_host",
        "this installation does not answer under the name in the Host header",
    );
    refused
        .hint(format!("use {}, or set REXEC_PUBLIC_URL to the address people use", app.public_origin()))
        .into_response()
}

/// Whether every `Host` is ours: the public URL's, `localhost` or a loopback address, in development any bare address, which nobody
/// can rebind. Browsers always send one; a client that sends none was not led here by a page.
fn is_own(headers: &HeaderMap, public: &Url, development: bool) -> bool {
    headers.get_all(header::HOST).iter().all(|host| {
        host.to_str().ok().and_then(name_in).is_some_and(|host| match &host {
            Host::Domain(name) => name == "localhost" || public.host_str() == Some(name),
            Host::Ipv4(address) => development || address.is_loopback() || is_public(&host, public),
            Host::Ipv6(address) => development || address.is_loopback() || is_public(&host, public),
        })
    })
}

/// Whether it was sent from inside a sandbox, by the name this machine has there.
fn is_inside(headers: &HeaderMap) -> bool {
    let mut hosts = headers.get_all(header::HOST).iter().peekable();
    hosts.peek().is_some()
        && hosts.all(|host| {
            let name = host.to_str().ok().and_then(name_in);
            matches!(name, Some(Host::Domain(name)) if name == INSIDE_HOST)
        })
}

fn is_public(host: &Host<String>, public: &Url) -> bool {
    public.host().is_some_and(|public| public.to_owned() == *host)
}

/// The host without its port, normalised as a browser does.
fn name_in(host: &str) -> Option<Host<String>> {
    let url = Url::parse(&format!("http://{host}")).ok()?;
    let is_host_alone = url.username().is_empty()
        && url.password().is_none()
        && url.path() == "/"
        && url.query().is_none()
        && url.fragment().is_none()
        && !host.ends_with('/');
    url.host().filter(|_| is_host_alone).map(|host| host.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_own_host(host: &str, development: bool) -> bool {
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, host.parse().expect("a header"));
        is_own(&headers, &"https://rexec.example".parse().expect("a url"), development)
    }

    #[test]
    fn bu_05_the_name_inside_sandboxes_is_that_name_alone() {
        let inside = |host: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::HOST, host.parse().expect("a header"));
            is_inside(&headers)
        };
        assert!(inside("rexec.internal:8080") && inside("rexec.internal"));
        assert!(!inside("evil.rexec.internal") && !inside("rexec.internal.evil.test") && !inside(""));
        assert!(!is_inside(&HeaderMap::new()) && !is_own_host("rexec.internal", false));
    }

    #[test]
    fn bu_05_only_our_own_names_are_answered() {
        for own in [
            "rexec.example",
            "REXEC.example:443",
            "localhost:8080",
            "127.0.0.1:8080",
            "[::1]:8080",
            "127.9.9.9",
        ] {
            assert!(is_own_host(own, false), "{own}");
        }
        for foreign in [
            "evil.test",
            "evil.test:8080",
            "rexec.example.evil.test",
            "localhost.evil.test",
            "rexec.example@evil.test",
            "",
            "a/b",
            "evil.test/",
            "evil.test#rexec.example",
        ] {
            assert!(!is_own_host(foreign, false) && !is_own_host(foreign, true), "{foreign}");
        }
        assert!(is_own_host("192.168.1.5:8080", true) && !is_own_host("192.168.1.5:8080", false));
        assert!(is_own(&HeaderMap::new(), &"https://rexec.example".parse().expect("a url"), false));
        let mut two = HeaderMap::new();
        for host in ["rexec.example", "evil.test"] {
            two.append(header::HOST, host.parse().expect("a header"));
        }
        assert!(
            !is_own(&two, &"https://rexec.example".parse().expect("a url"), true),
            "no second name slips by"
        );
    }
}
