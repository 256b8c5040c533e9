//! The cookie of a login.
//!
//! Behind https it is `__Host-rexec_login`, which a browser takes from this very host only, over TLS only, for all paths:
//! no sibling host can plant one (THREATS BU-11).

use http::{HeaderMap, HeaderValue, header};

use crate::limits::LOGIN_LIFE;
use crate::secret::Secret;

const PLAIN: &str = "rexec_login";
const SECURE: &str = "__Host-rexec_login";

/// Reads and writes the cookie in the way the public URL asks for.
#[derive(Debug, Clone, Copy)]
pub struct LoginCookie {
    /// Whether people come over https.
    pub secure: bool,
}

impl LoginCookie {
    const fn name(self) -> &'static str {
        if self.secure { SECURE } else { PLAIN }
    }

    /// The token sent along, if there is one. Two cookies of the name are none: one of them is planted.
    pub fn read(self, headers: &HeaderMap) -> Option<Secret<String>> {
        only(headers, self.name(), 128)
    }

    /// The header that gives it to a browser.
    pub fn set(self, token: &Secret<String>) -> Option<HeaderValue> {
        let life = LOGIN_LIFE.as_secs();
        let mut value = HeaderValue::from_str(&format!(
            "{}={}; Path=/; Max-Age={life}; HttpOnly; SameSite=Lax{}",
            self.name(),
            token.expose(),
            if self.secure { "; Secure" } else { "" }
        ))
        .ok()?;
        value.set_sensitive(true);
        Some(value)
    }

    /// The header that takes it away.
    pub fn clear(self) -> HeaderValue {
        HeaderValue::from_static(if self.secure {
            "__Host-rexec_login=; Path=/; Max-Age=0; HttpOnly; SameSite=Lax; Secure"
        } else {
            "rexec_login=; Path=/; Max-Age=0; HttpOnly; SameSite=Lax"
        })
    }
}

/// The value of the cookie `name`, of at most `max` bytes. Two of the name are none: one of them is planted.
pub fn only(headers: &HeaderMap, name: &str, max: usize) -> Option<Secret<String>> {
    let mut found = headers
        .get_all(header::COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .filter(|(found, _)| *found == name)
        .map(|(_, value)| value);
    let value = found.next().filter(|value| !value.is_empty() && value.len() <= max)?;
    found.next().is_none().then(|| Secret::new(value.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(secure: bool, cookies: &[&'static str]) -> Option<String> {
        let mut headers = HeaderMap::new();
        for cookie in cookies {
            headers.append(header::COOKIE, HeaderValue::from_static(cookie));
        }
        LoginCookie { secure }.read(&headers).map(|token| token.expose().clone())
    }

    #[test]
    fn bu_11_only_the_cookie_of_this_scheme_is_read() {
        assert_eq!(read(false, &["a=b; rexec_login=t; c=d"]), Some("t".to_owned()));
        assert_eq!(read(true, &["rexec_login=planted"]), None);
        assert_eq!(read(true, &["rexec_login=planted; __Host-rexec_login=t"]), Some("t".to_owned()));
        assert_eq!(read(false, &["rexec_login=a", "rexec_login=b"]), None, "two are one too many");
        assert_eq!(read(false, &["rexec_login="]), None);
    }

    #[test]
    fn st_04_the_cookie_is_out_of_reach_of_scripts_and_other_sites() {
        let set = |secure| {
            let value = LoginCookie { secure }.set(&Secret::new("t".to_owned())).expect("a header");
            assert!(value.is_sensitive());
            value.to_str().expect("text").to_owned()
        };
        assert_eq!(set(false), "rexec_login=t; Path=/; Max-Age=604800; HttpOnly; SameSite=Lax");
        assert_eq!(set(true), "__Host-rexec_login=t; Path=/; Max-Age=604800; HttpOnly; SameSite=Lax; Secure");
    }
}
