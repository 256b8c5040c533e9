//! What an agent asks of control over HTTP: a person's approval, enrolment, a new certificate, leave.
//!
//! Blocking, because it happens a few times a day: the uplink calls it from a blocking thread. No redirect is followed (a token must
//! not wander), answers are bounded, and every failure says what to do about it.

use std::time::Duration;

use rexec_shared::enrol::{
    DeviceAnswer, DevicePoll, DevicePollAnswer, DeviceRequest, EnrolAnswer, EnrolRequest, RenewAnswer,
    RenewRequest, UnregisterRequest,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use thiserror::Error;
use ureq::http::Response;
use ureq::{Agent, Body};
use url::Url;

mod error;
mod trust;

pub use error::{ControlError, Problem};

/// Largest answer read, bytes: an enrolment's answer with its certificates is a few KiB.
const ANSWER_MAX: u64 = 256 * 1024;
/// The whole of one request, name look-up and answer included.
const REQUEST_DEADLINE: Duration = Duration::from_secs(20);
/// Reaching the server.
const CONNECT_DEADLINE: Duration = Duration::from_secs(8);

/// One installation's control, as agents see it.
#[derive(Debug, Clone)]
pub struct ControlApi {
    server: Url,
    agent: Agent,
}

impl ControlApi {
    /// Control at the given base URL, http or https.
    pub fn new(server: Url) -> Self {
        Self::within(server, REQUEST_DEADLINE)
    }

    /// The same, of which a request takes no longer than `deadline`.
    pub fn within(server: Url, deadline: Duration) -> Self {
        let config = Agent::config_builder()
            .user_agent(concat!("rexec-agent/", env!("CARGO_PKG_VERSION")))
            .tls_config(trust::tls_config(&server))
            .timeout_global(Some(deadline))
            .timeout_connect(Some(CONNECT_DEADLINE.min(deadline)))
            .max_redirects(0)
            .max_redirects_will_error(false)
            .http_status_as_error(false);
        // A proxy for the rest of the world has no business between a machine and itself.
        let config = if is_loopback(&server) { config.proxy(None) } else { config };
        Self { server, agent: config.build().new_agent() }
    }

    /// Its base URL.
    pub fn server(&self) -> &Url {
        &self.server
    }

    /// Asks what anybody may know.
    pub fn installation(&self) -> Result<Installation, ControlError> {
        self.get("api/installation").and_then(|response| self.take(response))
    }

    /// Asks for a person's approval.
    pub fn request_device(&self, request: &DeviceRequest) -> Result<DeviceAnswer, ControlError> {
        self.ask("api/device", request)
    }

    /// Asks whether the person has decided.
    pub fn poll_device(&self, device_code: &str) -> Result<DevicePollAnswer, ControlError> {
        self.ask("api/device/poll", &DevicePoll { device_code: device_code.into() })
    }

    /// Enrols with a join token.
    pub fn enrol(&self, request: &EnrolRequest) -> Result<EnrolAnswer, ControlError> {
        self.ask("api/agent/enrol", request)
    }

    /// Asks for a new certificate.
    pub fn renew(&self, request: &RenewRequest) -> Result<RenewAnswer, ControlError> {
        self.ask("api/agent/renew", request)
    }

    /// Leaves.
    pub fn unregister(&self, request: &UnregisterRequest) -> Result<(), ControlError> {
        self.post("api/agent/unregister", request).map(drop)
    }

    fn ask<T: DeserializeOwned>(&self, path: &str, request: &impl Serialize) -> Result<T, ControlError> {
        self.post(path, request).and_then(|response| self.take(response))
    }

    /// Reads an answer.
    fn take<T: DeserializeOwned>(&self, mut response: Response<Body>) -> Result<T, ControlError> {
        let status = response.status().as_u16();
        let body = read(&mut response).map_err(|error| ControlError::from_transport(&self.server, error))?;
        serde_json::from_slice(&body).map_err(|_| self.not_rexec(status))
    }

    /// Gets; anything but success is an error.
    fn get(&self, path: &str) -> Result<Response<Body>, ControlError> {
        let url = self.url(path)?;
        self.check(path, &url, self.agent.get(url.as_str()).header("accept", "application/json").call())
    }

    /// Posts JSON; anything but success is an error.
    fn post(&self, path: &str, request: &impl Serialize) -> Result<Response<Body>, ControlError> {
        let url = self.url(path)?;
        let asking = self.agent.post(url.as_str()).header("accept", "application/json");
        self.check(path, &url, asking.send_json(request))
    }

    fn url(&self, path: &str) -> Result<Url, ControlError> {
        self.server.join(path).map_err(|_| self.not_rexec(0))
    }

    fn check(
        &self,
        path: &str,
        url: &Url,
        answered: Result<Response<Body>, ureq::Error>,
    ) -> Result<Response<Body>, ControlError> {
        let mut response = answered.map_err(|error| ControlError::from_transport(&self.server, error))?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        if status.is_redirection() {
            let location = response.headers().get("location").and_then(|value| value.to_str().ok());
            return Err(ControlError::Redirected {
                server: self.server.clone(),
                location: location
                    .and_then(|text| base_of(url, text, path))
                    .map_or_else(String::new, String::from),
            });
        }
        let body = read(&mut response).unwrap_or_default();
        let problem =
            serde_json::from_slice::<ProblemBody>(&body).map_err(|_| self.not_rexec(status.as_u16()))?;
        Err(ControlError::Refused(problem.into()))
    }

    fn not_rexec(&self, status: u16) -> ControlError {
        ControlError::NotRexec { server: self.server.clone(), status }
    }
}

fn read(response: &mut Response<Body>) -> Result<Vec<u8>, ureq::Error> {
    response.body_mut().with_config().limit(ANSWER_MAX).read_to_vec()
}

/// The base URL that a redirect of `path` speaks of.
fn base_of(url: &Url, location: &str, path: &str) -> Option<Url> {
    let target = url.join(location).ok()?;
    Url::parse(target.as_str().strip_suffix(path)?).ok()
}

/// Why a text is no installation's address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum ServerError {
    /// Not a URL at all.
    #[error("it is not a URL like https://rexec.example")]
    Malformed,
    /// Something else than a web address.
    #[error("it is not an http:// or https:// URL")]
    Scheme,
    /// A password, a query or a fragment: nothing of that belongs to an address, and all of it may be secret.
    #[error(
        "it carries a user name, a query or a fragment; give the plain address, and tokens by --token-file only"
    )]
    Extras,
}

/// Reads an installation's address; without a scheme it is https, or http for this machine itself.
pub fn parse_server(text: &str) -> Result<Url, ServerError> {
    let text = text.trim();
    let mut url = if text.contains("://") {
        Url::parse(text).map_err(|_| ServerError::Malformed)?
    } else {
        let secure = Url::parse(&format!("https://{text}")).map_err(|_| ServerError::Malformed)?;
        if is_loopback(&secure) {
            Url::parse(&format!("http://{text}")).map_err(|_| ServerError::Malformed)?
        } else {
            secure
        }
    };
    if !matches!(url.scheme(), "http" | "https") || url.host().is_none() {
        return Err(ServerError::Scheme);
    }
    if !url.username().is_empty()
        || url.password().is_some()
        || url.query().is_some()
        || url.fragment().is_some()
    {
        return Err(ServerError::Extras);
    }
    if !url.path().ends_with('/') {
        let path = format!("{}/", url.path());
        url.set_path(&path);
    }
    Ok(url)
}

/// Whether what we send can be read on the way.
pub fn is_exposed(server: &Url) -> bool {
    server.scheme() == "http" && !is_loopback(server)
}

/// Whether a URL names this machine itself.
pub fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(url::Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

/// What anybody may know of an installation, as far as an agent asks.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Installation {
    /// Version of control.
    pub version: String,
    /// Control's clock, Unix milliseconds.
    pub time: u64,
}

/// Problem details (RFC 9457) as control sends them.
#[derive(Deserialize)]
struct ProblemBody {
    status: u16,
    code: String,
    #[serde(default)]
    title: String,
    #[serde(default)]
    detail: Option<String>,
    #[serde(default)]
    hint: Option<String>,
}

impl From<ProblemBody> for Problem {
    fn from(body: ProblemBody) -> Self {
        let detail = body.detail.unwrap_or(body.title);
        Self { status: body.status, code: body.code, detail, hint: body.hint }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_redirect_is_read_as_the_server_it_leads_to() {
        let url = Url::parse("http://rexec.example/api/device").unwrap();
        let base = base_of(&url, "https://rexec.example/api/device", "api/device").unwrap();
        assert_eq!(base.as_str(), "https://rexec.example/");
        assert_eq!(base_of(&url, "https://elsewhere.example/login", "api/device"), None);
    }

    #[test]
    fn a_server_may_be_named_as_people_name_it() {
        for (text, url) in [
            ("rexec.example", "https://rexec.example/"),
            ("localhost:8080", "http://localhost:8080/"),
            (" https://rexec.example/team ", "https://rexec.example/team/"),
            ("http://10.0.0.2:8080", "http://10.0.0.2:8080/"),
        ] {
            assert_eq!(parse_server(text).unwrap().as_str(), url);
        }
        assert_eq!(parse_server("ftp://x"), Err(ServerError::Scheme));
        assert_eq!(parse_server("http://"), Err(ServerError::Malformed));
        assert_eq!(parse_server("https://x/?token=rexec"), Err(ServerError::Extras));
        assert_eq!(parse_server("https://me:pw@x/"), Err(ServerError::Extras));
    }

    #[test]
    fn only_plain_http_to_another_machine_is_exposed() {
        assert!(is_exposed(&parse_server("http://10.0.0.2").unwrap()));
        assert!(!is_exposed(&parse_server("http://127.0.0.1").unwrap()));
        assert!(!is_exposed(&parse_server("10.0.0.2").unwrap()));
    }

    #[test]
    fn loopback_is_known_in_each_of_its_forms() {
        for (text, expected) in [
            ("http://localhost:8080/", true),
            ("http://127.0.0.1/", true),
            ("http://[::1]:1/", true),
            ("http://192.168.1.2/", false),
            ("https://rexec.example/", false),
        ] {
            assert_eq!(is_loopback(&Url::parse(text).unwrap()), expected, "{text}");
        }
    }
}
