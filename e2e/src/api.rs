//! Control's HTTP API as a signed-in browser uses it.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use ureq::http::Response;
use ureq::{Agent, Body};

/// One whole request.
const DEADLINE: Duration = Duration::from_secs(20);

/// One person's login, or nobody's.
#[derive(Debug, Clone)]
pub struct Api {
    origin: String,
    cookie: Option<String>,
    agent: Agent,
}

/// An answer: status and body; `Null` when the body is no JSON.
#[derive(Debug, Clone)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// The body.
    pub body: Value,
    cookie: Option<String>,
}

impl Answer {
    /// The body of an answer that must be a success.
    ///
    /// # Errors
    /// When it is not; the message holds the problem.
    pub fn ok(self) -> Result<Value> {
        if (200..300).contains(&self.status) {
            Ok(self.body)
        } else {
            bail!("{}: {}", self.status, self.body)
        }
    }

    /// The stable code of a problem.
    pub fn code(&self) -> &str {
        self.body["code"].as_str().unwrap_or_default()
    }
}

impl Api {
    /// Nobody's view of the installation at `origin`.
    pub fn new(origin: &str) -> Self {
        let config = Agent::config_builder()
            .timeout_global(Some(DEADLINE))
            .max_redirects(0)
            .http_status_as_error(false)
            .proxy(None);
        Self { origin: origin.into(), cookie: None, agent: config.build().new_agent() }
    }

    /// The installation's origin.
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// The login's cookie, as `name=value`: a secret that no log may hold.
    pub fn cookie(&self) -> Option<&str> {
        self.cookie.as_deref()
    }

    /// Signs in.
    ///
    /// # Errors
    /// When control refuses.
    pub fn sign_in(&self, email: &str, password: &str) -> Result<Self> {
        let answer = self.post("/api/logins", &json!({ "email": email, "password": password }))?;
        let cookie = answer.cookie.clone();
        answer.ok().context("signing in")?;
        Ok(Self { cookie: Some(cookie.context("sign-in set no cookie")?), ..self.clone() })
    }

    /// GET.
    ///
    /// # Errors
    /// When nobody answers.
    pub fn get(&self, path: &str) -> Result<Answer> {
        let mut request = self.agent.get(format!("{}{path}", self.origin));
        if let Some(cookie) = &self.cookie {
            request = request.header("cookie", cookie);
        }
        read(request.call()?)
    }

    /// GET of something that is not JSON.
    ///
    /// # Errors
    /// When nobody answers, or not with 200.
    pub fn get_bytes(&self, path: &str) -> Result<Vec<u8>> {
        let mut response = self.agent.get(format!("{}{path}", self.origin)).call()?;
        if response.status() != 200 {
            bail!("{path}: {}", response.status());
        }
        Ok(response.body_mut().with_config().limit(256 << 20).read_to_vec()?)
    }

    /// POST of JSON.
    ///
    /// # Errors
    /// When nobody answers.
    pub fn post(&self, path: &str, body: &Value) -> Result<Answer> {
        self.send(self.agent.post(format!("{}{path}", self.origin)), body)
    }

    /// PATCH of JSON.
    ///
    /// # Errors
    /// When nobody answers.
    pub fn patch(&self, path: &str, body: &Value) -> Result<Answer> {
        self.send(self.agent.patch(format!("{}{path}", self.origin)), body)
    }

    /// DELETE.
    ///
    /// # Errors
    /// When nobody answers.
    pub fn delete(&self, path: &str) -> Result<Answer> {
        let request = self.agent.delete(format!("{}{path}", self.origin)).header("origin", &self.origin);
        let request = request.header("x-rexec-csrf", "1");
        read(request.header("cookie", self.cookie.as_deref().unwrap_or_default()).call()?)
    }

    fn send(&self, request: ureq::RequestBuilder<ureq::typestate::WithBody>, body: &Value) -> Result<Answer> {
        let mut request = request.header("origin", &self.origin).header("x-rexec-csrf", "1");
        if let Some(cookie) = &self.cookie {
            request = request.header("cookie", cookie);
        }
        read(request.send_json(body)?)
    }
}

fn read(mut response: Response<Body>) -> Result<Answer> {
    let status = response.status().as_u16();
    let cookie = response
        .headers()
        .get("set-cookie")
        .and_then(|value| value.to_str().ok()?.split(';').next().map(str::to_owned));
    let bytes = response.body_mut().read_to_vec()?;
    Ok(Answer { status, body: serde_json::from_slice(&bytes).unwrap_or(Value::Null), cookie })
}
