//! The names of previews: `<port>-<machine>.<domain>`, compared whole.
#![deny(clippy::disallowed_methods)]

use url::Url;
use uuid::Uuid;

/// Where previews are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PreviewDomain {
    domain: String,
    /// Scheme and port are those that people use for the app.
    secure: bool,
    port: Option<u16>,
}

/// What a preview's name says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PreviewHost {
    /// The machine.
    pub machine: Uuid,
    /// Its port.
    pub port: u16,
}

impl PreviewDomain {
    /// The domain that was set; by default `localhost`, if that is where people find the app.
    pub fn new(set: Option<&str>, public: &Url) -> Option<Self> {
        let domain = match set {
            Some(domain) => domain.to_ascii_lowercase(),
            None => public.host_str().filter(|host| *host == "localhost")?.to_owned(),
        };
        Some(Self { domain, secure: public.scheme() == "https", port: public.port() })
    }

    /// Whether people come over https.
    pub const fn is_secure(&self) -> bool {
        self.secure
    }

    /// Whether pages of the app at `public` and previews are of one site as browsers see it, as far as two last labels tell.
    pub fn is_beside(&self, public: &Url) -> bool {
        let last = |name: &str| name.rsplit('.').take(2).map(str::to_owned).collect::<Vec<_>>();
        self.domain != "localhost" && public.host_str().is_some_and(|host| last(host) == last(&self.domain))
    }

    /// The address of a preview.
    pub fn url(&self, machine: Uuid, port: u16) -> String {
        let scheme = if self.secure { "https" } else { "http" };
        let at = self.port.map(|port| format!(":{port}")).unwrap_or_default();
        format!("{scheme}://{port}-{}.{}{at}/", machine.simple(), self.domain)
    }

    /// What the `Host` of a request says, if it is a preview's.
    pub fn parse(&self, host: &str) -> Option<PreviewHost> {
        let name = host.rsplit_once(':').map_or(host, |(name, port)| {
            if port.bytes().all(|digit| digit.is_ascii_digit()) { name } else { host }
        });
        let label = name.strip_suffix(self.domain.as_str())?.strip_suffix('.')?;
        let (port, machine) = label.split_once('-')?;
        let is_number =
            !port.is_empty() && !port.starts_with('0') && port.bytes().all(|digit| digit.is_ascii_digit());
        let is_id =
            machine.len() == 32 && machine.bytes().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'));
        if !is_number || !is_id {
            return None;
        }
        Some(PreviewHost { machine: Uuid::try_parse(machine).ok()?, port: port.parse().ok()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn domain(set: Option<&str>, public: &str) -> Option<PreviewDomain> {
        PreviewDomain::new(set, &public.parse().expect("a url"))
    }

    #[test]
    fn ws_05_a_name_is_a_previews_only_if_all_of_it_is() {
        let previews = domain(Some("Preview.example"), "https://rexec.example").expect("a domain");
        let machine = Uuid::from_u128(0x0192_f300_0000_7000_8000_0000_0000_0001);
        let url = previews.url(machine, 3000);
        assert_eq!(url, "https://3000-0192f300000070008000000000000001.preview.example/");
        let name = "3000-0192f300000070008000000000000001.preview.example";
        for good in [name.to_owned(), format!("{name}:8443")] {
            assert_eq!(previews.parse(&good), Some(PreviewHost { machine, port: 3000 }), "{good}");
        }
        for bad in [
            "preview.example",
            "rexec.example",
            &format!("{name}.evil.test"),
            &format!("evil{name}"),
            &format!("a.{name}"),
            &name.replace(".preview", "-preview"),
            &name.replace("preview.example", "evilpreview.example"),
            &name.replace("3000", "03000"),
            &name.replace("3000", "70000"),
            &name.replace("3000", "0"),
            &name.replace("3000", "+3000"),
            &name.replace("0192f3", "0192F3"),
            &name.replace("0192f3", "192f3"),
            &format!("{name}:evil"),
            "",
        ] {
            assert_eq!(previews.parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn on_localhost_there_are_previews_without_being_asked_for() {
        let previews = domain(None, "http://localhost:8080").expect("a domain");
        let url = previews.url(Uuid::from_u128(1), 80);
        assert_eq!(url, "http://80-00000000000000000000000000000001.localhost:8080/");
        assert!(previews.parse("80-00000000000000000000000000000001.localhost:8080").is_some());
        assert_eq!(domain(None, "https://rexec.example"), None);
        assert!(domain(Some("p.rexec.example"), "https://app.rexec.example").is_some_and(|domain| {
            domain.is_beside(&"https://app.rexec.example".parse().expect("a url"))
        }));
        assert!(!previews.is_beside(&"http://localhost:8080".parse().expect("a url")));
    }
}
