//! A whole installation for one test, and the people and agents who use it.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use axum::Router;
use rexec_control::app::App;
use rexec_control::audit::Actor;
use rexec_control::entity::{Role, membership, person};
use rexec_control::sandboxes::presets::Preset;
use rexec_control::sandboxes::settings::SandboxSettings;
use rexec_control::secret::Secret;
use rexec_control::server::Server;
use rexec_control::settings::{Environment, Settings};
use rexec_control::setup::{self, NewPerson};
use rexec_control::{db, presence};
use rexec_shared::broker_link::FromBroker;
use rexec_shared::pki;
use sea_orm::{ActiveModelTrait as _, ColumnTrait as _, EntityTrait as _, QueryFilter as _, Set};
use serde_json::{Value, json};
use tokio::runtime::Runtime;
use uuid::Uuid;

use crate::fake_engine::FakeEngine;
use crate::postgres;
use crate::wire::{self, Answer};

/// Everybody's password here.
pub(crate) const PASSWORD: &str = "three small brown hens";

/// Runs a test on both databases.
macro_rules! on_both_databases {
    ($($(#[$attribute:meta])* fn $name:ident($app:ident) $body:block)*) => {
        $(
            mod $name {
                #[allow(unused_imports, reason = "not every test needs everything of its file")]
                use super::*;

                $(#[$attribute])*
                fn run($app: &mut $crate::harness::TestApp) $body

                #[test]
                fn on_sqlite() {
                    run(&mut $crate::harness::TestApp::on_sqlite());
                }

                #[test]
                fn on_postgres() {
                    if let Some(mut app) = $crate::harness::TestApp::on_postgres() {
                        run(&mut app);
                    }
                }
            }
        )*
    };
}

/// A running installation with a database and a data directory of its own.
pub(crate) struct TestApp {
    runtime: Runtime,
    server: Option<Server>,
    settings: Settings,
    dir: tempfile::TempDir,
    postgres: Option<String>,
    /// Every installation here has an engine, which makes nothing.
    pub(crate) engine: FakeEngine,
}

impl TestApp {
    pub(crate) fn on_sqlite() -> Self {
        Self::with(|_| {})
    }

    /// On SQLite, with settings changed.
    pub(crate) fn with(change: impl FnOnce(&mut Settings)) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let url = format!("sqlite://{}", dir.path().join("test.sqlite").display());
        let mut settings = settings(dir.path(), url);
        change(&mut settings);
        Self::start(dir, settings, None)
    }

    pub(crate) fn on_postgres() -> Option<Self> {
        let runtime = Runtime::new().expect("a runtime");
        let url = runtime.block_on(postgres::fresh_database())?;
        let dir = tempfile::tempdir().expect("a directory");
        let settings = settings(dir.path(), url.clone());
        Some(Self::start(dir, settings, Some(url)))
    }

    fn start(dir: tempfile::TempDir, settings: Settings, postgres: Option<String>) -> Self {
        // Every process that uses TLS sets the one provider; a second test in this process finds it set.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let runtime = Runtime::new().expect("a runtime");
        let engine = FakeEngine::default();
        let mut app = Self { runtime, server: None, settings, dir, postgres, engine };
        app.start_server();
        app
    }

    fn start_server(&mut self) {
        let more = Router::new().route("/api/panic", axum::routing::get(panics));
        let engine = std::sync::Arc::new(self.engine.clone());
        let server = self.runtime.block_on(Server::start_on(self.settings.clone(), more, Some(engine)));
        self.server = Some(server.expect("the server starts"));
    }

    /// Starts it again with settings changed.
    pub(crate) fn change_settings(&mut self, change: impl FnOnce(&mut Settings)) {
        change(&mut self.settings);
        self.restart();
    }

    /// Ends the server in order and starts it again on what it left.
    pub(crate) fn restart(&mut self) {
        self.stop();
        self.start_server();
    }

    pub(crate) fn stop(&mut self) {
        if let Some(server) = self.server.take() {
            self.runtime.block_on(server.stop()).expect("an orderly end");
        }
    }

    fn server(&self) -> &Server {
        self.server.as_ref().expect("running")
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.server().addr().port()))
    }

    pub(crate) fn app(&self) -> &App {
        self.server().app()
    }

    pub(crate) fn data_dir(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn origin(&self) -> String {
        self.app().public_origin()
    }

    pub(crate) fn block_on<F: Future>(&self, future: F) -> F::Output {
        self.runtime.block_on(future)
    }

    /// Lets time pass for the server.
    pub(crate) fn advance(&self, span: Duration) {
        self.app().parts().clock.advance(span);
    }

    /// A set-up token, as the console prints it.
    pub(crate) fn setup_token(&self) -> Option<String> {
        let app = self.app();
        let token = self.block_on(setup::mint_token(app.db(), app.vault(), app.now())).expect("minted");
        token.map(|token| token.expose().clone())
    }

    /// A person with an organisation of their own, made on the command line.
    pub(crate) fn person(&self, email: &str) -> Uuid {
        let app = self.app();
        self.block_on(async {
            let password_hash =
                app.parts().passwords.hash(Secret::new(PASSWORD.to_owned())).await.expect("hashed");
            let new = NewPerson { email: email.to_owned(), name: "Ada".to_owned(), password_hash };
            let tx = db::write(app.db()).await.expect("a transaction");
            let (_, scope) = setup::make_owner(&tx, new, &Actor::operator(), app.now()).await.expect("made");
            tx.commit().await.expect("committed");
            scope.organisation()
        })
    }

    /// A person, signed in.
    pub(crate) fn signed_in(&self, email: &str) -> Browser<'_> {
        self.person(email);
        self.sign_in(email, PASSWORD)
    }

    /// A member of somebody's organisation, without one of their own.
    pub(crate) fn member(&self, email: &str, organisation: Uuid) -> Browser<'_> {
        let own = self.person(email);
        self.block_on(async {
            let db = self.app().db();
            let person = person::Entity::find().filter(person::Column::Email.eq(email)).one(db).await;
            let person = person.expect("read").expect("made").id;
            membership::Entity::delete_by_id((person, own)).exec(db).await.expect("left");
            let row = membership::ActiveModel {
                person_id: Set(person),
                organisation_id: Set(organisation),
                role: Set(Role::Member),
                created_at: Set(self.app().now()),
            };
            row.insert(db).await.expect("joined");
        });
        self.sign_in(email, PASSWORD)
    }

    pub(crate) fn sign_in(&self, email: &str, password: &str) -> Browser<'_> {
        let mut browser = self.browser();
        browser.post("/api/logins", &json!({ "email": email, "password": password })).expect(201);
        browser
    }

    /// A browser in which nobody is signed in.
    pub(crate) fn browser(&self) -> Browser<'_> {
        Browser { app: self, cookie: None, ip: None }
    }

    /// What the broker tells control.
    pub(crate) fn broker_says(&self, message: FromBroker) {
        self.block_on(presence::take(self.app(), message)).expect("taken");
    }
}

impl Drop for TestApp {
    fn drop(&mut self) {
        if let Some(server) = self.server.take() {
            // The test has ended, whichever way; the server only has to let go of its database.
            let _ = self.runtime.block_on(server.stop());
        }
        if let Some(url) = self.postgres.take() {
            self.runtime.block_on(postgres::drop_database(&url));
        }
    }
}

async fn panics() {
    panic!("canary in a panic");
}

fn settings(dir: &Path, database_url: String) -> Settings {
    Settings {
        listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
        public_url: None,
        data_dir: dir.to_owned(),
        database_url: Secret::new(database_url),
        environment: Environment::Development,
        jwt_secret: None,
        tunnel_listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
        tunnel_public: None,
        embedded_broker: true,
        preview_domain: None,
        web_dir: None,
        agent_dir: dir.join("agents"),
        trusted_proxies: vec!["127.0.0.1/32".parse().expect("a network")],
        sandboxes: SandboxSettings {
            control_url: "http://192.0.2.1:8080".parse().ok(),
            tunnel: Some("192.0.2.1:7443".to_owned()),
            dns: vec![IpAddr::from([192, 0, 2, 53])],
            proxy_port: 0,
            presets: [("good", "true"), ("bad", "exit 3")]
                .map(|(id, script)| Preset {
                    id: id.to_owned(),
                    name: id.to_owned(),
                    script: script.to_owned(),
                })
                .to_vec(),
            ..SandboxSettings::default()
        },
    }
}

/// Somebody's browser: it keeps the cookie and sends what the page's scripts send.
#[derive(Clone)]
pub(crate) struct Browser<'a> {
    app: &'a TestApp,
    pub(crate) cookie: Option<String>,
    /// Where it is, as the proxy in front of the server says.
    pub(crate) ip: Option<String>,
}

impl Browser<'_> {
    pub(crate) fn from(mut self, ip: &str) -> Self {
        self.ip = Some(ip.to_owned());
        self
    }

    pub(crate) fn get(&self, path: &str) -> Answer {
        self.send("GET", path, &[], b"")
    }

    pub(crate) fn post(&mut self, path: &str, body: &Value) -> Answer {
        let answer = self.json("POST", path, body);
        if let Some(cookie) = answer.header("set-cookie") {
            self.cookie = cookie.split(';').next().map(str::to_owned);
        }
        answer
    }

    pub(crate) fn patch(&self, path: &str, body: &Value) -> Answer {
        self.json("PATCH", path, body)
    }

    pub(crate) fn put(&self, path: &str, body: &Value) -> Answer {
        self.json("PUT", path, body)
    }

    pub(crate) fn delete(&self, path: &str) -> Answer {
        self.send("DELETE", path, &self.page_headers(), b"")
    }

    fn json(&self, method: &str, path: &str, body: &Value) -> Answer {
        let mut headers = self.page_headers();
        headers.push(("content-type", "application/json"));
        self.send(method, path, &headers, body.to_string().as_bytes())
    }

    fn page_headers(&self) -> Vec<(&'static str, &'static str)> {
        vec![("x-rexec-csrf", "1"), ("sec-fetch-site", "same-origin")]
    }

    /// Sends exactly this, with the cookie.
    pub(crate) fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        let (host, addr) = (format!("localhost:{}", self.app.addr().port()), self.app.addr());
        let mut all = vec![("host", host.as_str())];
        all.extend(headers);
        all.extend(self.cookie.as_deref().map(|cookie| ("cookie", cookie)));
        all.extend(self.ip.as_deref().map(|ip| ("x-forwarded-for", ip)));
        wire::send(addr, method, path, &all, body)
    }

    /// The event stream.
    pub(crate) fn events(&self) -> Events {
        let cookie = self.cookie.as_deref().unwrap_or_default();
        let (answer, reader) = wire::stream(self.app.addr(), "/api/events", &[("cookie", cookie)]);
        assert_eq!((answer.status, answer.header("content-type")), (200, Some("text/event-stream")));
        Events { reader }
    }

    /// A machine enrolled with a join token of this person's.
    pub(crate) fn enrol(&mut self, name: &str) -> TestAgent {
        let token = self.post("/api/join-tokens", &json!({})).expect(201).json();
        TestAgent::enrol(self.app, &token["token"], name).expect("enrolled")
    }
}

/// An open event stream.
pub(crate) struct Events {
    reader: std::io::BufReader<std::net::TcpStream>,
}

impl Events {
    /// The next event and its data; none when the stream has ended.
    pub(crate) fn next(&mut self) -> Option<(String, Value)> {
        use std::io::BufRead as _;
        let (mut name, mut data) = (None, String::new());
        loop {
            let mut line = String::new();
            if self.reader.read_line(&mut line).expect("an event in time") == 0 {
                return None;
            }
            let line = line.trim_end();
            if let Some(event) = line.strip_prefix("event: ") {
                name = Some(event.to_owned());
            } else if let Some(part) = line.strip_prefix("data: ") {
                data.push_str(part);
            } else if line.is_empty()
                && let Some(name) = name.take()
            {
                return Some((name, serde_json::from_str(&data).expect("JSON")));
            }
        }
    }

    /// The next event, which must have this name.
    #[track_caller]
    pub(crate) fn expect(&mut self, name: &str) -> Value {
        let (got, data) = self.next().expect("an event");
        assert_eq!(got, name, "{data}");
        data
    }
}

/// An agent with a key of its own.
#[derive(Debug, Clone)]
pub(crate) struct TestAgent {
    pub(crate) key: String,
    pub(crate) machine: Uuid,
    pub(crate) org: Uuid,
    pub(crate) answer: Value,
}

impl TestAgent {
    /// Enrols with a fresh key.
    pub(crate) fn enrol(app: &TestApp, token: &Value, name: &str) -> Result<Self, Answer> {
        Self::enrol_with(app, token, name, pki::generate_key().expect("a key"))
    }

    pub(crate) fn enrol_with(app: &TestApp, token: &Value, name: &str, key: String) -> Result<Self, Answer> {
        let csr = pki::signing_request(&key).expect("a request");
        let body = with_facts(json!({ "token": token, "name": name, "csr": csr }));
        let answer = app.browser().post("/api/agent/enrol", &body);
        if answer.status != 201 {
            return Err(answer);
        }
        let answer = answer.json();
        let id = |field: &str| answer[field].as_str().and_then(|id| id.parse().ok()).expect("an id");
        Ok(Self { key, machine: id("machine"), org: id("org"), answer })
    }

    /// Asks for a fresh certificate, with its own key or another.
    pub(crate) fn renew(&self, app: &TestApp, key: &str) -> Answer {
        let csr = pki::signing_request(key).expect("a request");
        app.browser().post("/api/agent/renew", &with_facts(json!({ "machine": self.machine, "csr": csr })))
    }
}

/// Adds what every agent tells of its machine.
pub(crate) fn with_facts(mut body: Value) -> Value {
    for (field, value) in
        [("os", "linux"), ("arch", "x86_64"), ("hostname", "box"), ("agent_version", "0.1.0")]
    {
        body[field] = json!(value);
    }
    body
}
