//! Which pages may open a viewer's WebSocket or WebTransport (THREATS WS-01).
#![deny(clippy::disallowed_methods)]

use std::sync::{PoisonError, RwLock};

use axum::http::{HeaderMap, header};

/// The origins allowed, compared byte by byte: a browser serialises its page's origin in one way only (RFC 6454 §6.2).
#[derive(Debug)]
pub(super) struct Origins(RwLock<Vec<String>>);

impl Origins {
    pub(super) fn new(allowed: Vec<String>) -> Self {
        Self(RwLock::new(allowed))
    }

    /// Allows these instead.
    pub(super) fn replace(&self, allowed: Vec<String>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = allowed;
    }

    /// Whether the request may come in. Every browser names its page's origin; a viewer that is no browser names none, and is no danger:
    /// nothing rides along with its request.
    pub(super) fn allow(&self, headers: &HeaderMap) -> bool {
        !headers.contains_key(header::ORIGIN) || self.allow_page(headers)
    }

    /// The same where only browsers come: the origin must be named, and only once.
    pub(super) fn allow_page(&self, headers: &HeaderMap) -> bool {
        let mut origins = headers.get_all(header::ORIGIN).iter();
        match (origins.next(), origins.next()) {
            (Some(origin), None) => {
                let allowed = self.0.read().unwrap_or_else(PoisonError::into_inner);
                allowed.iter().any(|allowed| allowed.as_bytes() == origin.as_bytes())
            }
            (None | Some(_), _) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;

    fn allowed(origins: &[&str]) -> bool {
        let mut headers = HeaderMap::new();
        for origin in origins {
            headers.append(header::ORIGIN, HeaderValue::from_str(origin).unwrap());
        }
        Origins::new(vec!["https://rexec.example".into(), "http://localhost:8080".into()]).allow(&headers)
    }

    #[test]
    fn ws_01_only_the_exact_origin_comes_in() {
        assert!(allowed(&["https://rexec.example"]));
        assert!(allowed(&["http://localhost:8080"]));
        assert!(allowed(&[]), "a viewer that is no browser");
        for foreign in [
            "null",
            "",
            "https://evil.test",
            "http://rexec.example",
            "https://rexec.example:8443",
            "https://rexec.example:443",
            "https://rexec.example.evil.test",
            "https://evilrexec.example",
            "https://a.rexec.example",
            "https://rexec.example/",
            "https://REXEC.example",
            "http://localhost",
            "http://localhost:80801",
            "https://xn--rexec-0ya.example",
        ] {
            assert!(!allowed(&[foreign]), "{foreign}");
        }
        assert!(!allowed(&["https://rexec.example", "https://evil.test"]), "two origins");
    }
}
