//! A control of the agent's HTTP contract on a real socket, with a real authority: what enrolment is tested against without the whole product.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use rexec_agent::clock::unix_ms;
use rexec_shared::enrol::{
    DeviceAnswer, DevicePollAnswer, DeviceStatus, EnrolAnswer, EnrolRequest, RenewAnswer, RenewRequest,
    TunnelTarget, UnregisterRequest, unregister_text,
};
use rexec_shared::pki::{Authority, Identity, MachineName, broker_name, request_public_point, verify_text};
use serde_json::{Value, json};
use uuid::Uuid;

/// The token that works once.
pub(crate) const TOKEN: &str = "rexec_join_canary-0123456789abcdefghijklmnop";

/// Status, content type (or location) and body.
pub(crate) type Answer = (u16, String, Vec<u8>);

/// What the tests turn, and what they look at.
pub(crate) struct Script {
    pub(crate) installation: Uuid,
    pub(crate) authority: Identity,
    pub(crate) name: MachineName,
    pub(crate) tunnel_addr: String,
    pub(crate) tokens: Vec<String>,
    pub(crate) clock_offset_ms: i64,
    /// Answers to polls, the last one for ever.
    pub(crate) polls: Vec<DeviceStatus>,
    pub(crate) is_revoked: bool,
    pub(crate) public_point: Vec<u8>,
    pub(crate) renewals: u32,
    pub(crate) has_left: bool,
    pub(crate) seen: Vec<(String, Value)>,
}

impl Script {
    fn now(&self) -> u64 {
        unix_ms().saturating_add_signed(self.clock_offset_ms)
    }

    pub(crate) fn authority(&self) -> Authority {
        Authority::load(&self.authority).unwrap()
    }

    fn target(&self) -> TunnelTarget {
        TunnelTarget {
            addr: self.tunnel_addr.clone(),
            addrs: Vec::new(),
            server_name: broker_name(self.installation),
            ca: self.authority.certificate_pem.clone(),
            ticket_key: "A".repeat(43),
        }
    }
}

/// The server; it ends with the process.
#[derive(Clone)]
pub(crate) struct Control {
    pub(crate) address: SocketAddr,
    pub(crate) script: Arc<Mutex<Script>>,
}

impl Control {
    pub(crate) fn start() -> Self {
        let installation = Uuid::new_v4();
        let script = Script {
            installation,
            authority: Authority::generate(installation, SystemTime::now()).unwrap(),
            name: MachineName { org: Uuid::new_v4(), machine: Uuid::new_v4() },
            tunnel_addr: "127.0.0.1:1".into(),
            tokens: vec![TOKEN.into()],
            clock_offset_ms: 0,
            polls: vec![DeviceStatus::Approved],
            is_revoked: false,
            public_point: Vec::new(),
            renewals: 0,
            has_left: false,
            seen: Vec::new(),
        };
        let script = Arc::new(Mutex::new(script));
        let shared = Arc::clone(&script);
        let address = serve(move |path, body| answer(&mut shared.lock().unwrap(), path, body));
        Self { address, script }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}/", self.address)
    }

    pub(crate) fn set(&self, change: impl FnOnce(&mut Script)) {
        change(&mut self.script.lock().unwrap());
    }

    pub(crate) fn get<T>(&self, look: impl FnOnce(&Script) -> T) -> T {
        look(&self.script.lock().unwrap())
    }
}

/// Serves requests: `handle(path, body)` gives status, content type and body.
pub(crate) fn serve(handle: impl Fn(&str, &[u8]) -> Answer + Send + Sync + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let handle = Arc::new(handle);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let handle = Arc::clone(&handle);
            std::thread::spawn(move || drop(converse(&stream, &*handle)));
        }
    });
    address
}

fn converse(stream: &TcpStream, handle: &dyn Fn(&str, &[u8]) -> Answer) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream);
    let mut request = String::new();
    reader.read_line(&mut request)?;
    let path = request.split_whitespace().nth(1).unwrap_or_default().to_owned();
    let mut length = 0;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap_or(0);
        }
        if line.trim().is_empty() {
            break;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    let (status, kind, body) = handle(&path, &body);
    let extra = if (300..400).contains(&status) {
        format!("location: {kind}\r\n")
    } else {
        format!("content-type: {kind}\r\n")
    };
    let mut out = stream;
    write!(out, "HTTP/1.1 {status} X\r\n{extra}content-length: {}\r\nconnection: close\r\n\r\n", body.len())?;
    out.write_all(&body)
}

fn ok(status: u16, value: &impl serde::Serialize) -> Answer {
    (status, "application/json".into(), serde_json::to_vec(value).unwrap())
}

fn problem(status: u16, code: &str, detail: &str) -> Answer {
    let body = json!({"type": "about:blank", "title": code, "status": status, "code": code, "detail": detail, "request_id": "r"});
    (status, "application/problem+json".into(), serde_json::to_vec(&body).unwrap())
}

fn answer(script: &mut Script, path: &str, body: &[u8]) -> Answer {
    let value: Value = serde_json::from_slice(body).unwrap_or_default();
    script.seen.push((path.to_owned(), value));
    match path {
        "/api/device" => ok(
            201,
            &DeviceAnswer {
                device_code: "device-secret".into(),
                user_code: "ABCD-EFGH".into(),
                verification_uri: "http://rexec.test/device".into(),
                verification_uri_complete: "http://rexec.test/device?code=ABCD-EFGH".into(),
                interval_s: 1,
                expires_in_s: 600,
            },
        ),
        "/api/device/poll" => {
            let status = if script.polls.len() > 1 { script.polls.remove(0) } else { script.polls[0] };
            let join_token = (status == DeviceStatus::Approved).then(|| TOKEN.to_owned());
            ok(200, &DevicePollAnswer { status, join_token })
        }
        "/api/installation" => ok(200, &json!({ "name": "Rexec", "version": "0.1.0", "time": script.now() })),
        "/api/agent/enrol" => enrol(script, body),
        "/api/agent/renew" => renew(script, body),
        "/api/agent/unregister" => leave(script, body),
        _ => problem(404, "not_found", "no such route"),
    }
}

fn enrol(script: &mut Script, body: &[u8]) -> Answer {
    let request: EnrolRequest = serde_json::from_slice(body).unwrap();
    let Some(index) = script.tokens.iter().position(|token| *token == request.token) else {
        return problem(403, "join_token_invalid", "this join token was used already");
    };
    script.tokens.remove(index);
    script.public_point = request_public_point(&request.csr).unwrap();
    let answer = EnrolAnswer {
        machine: script.name.machine,
        org: script.name.org,
        name: request.name,
        certificate: script.authority().sign_machine(&request.csr, script.name, SystemTime::now()).unwrap(),
        tunnel: script.target(),
        time: script.now(),
    };
    ok(201, &answer)
}

fn renew(script: &mut Script, body: &[u8]) -> Answer {
    let request: RenewRequest = serde_json::from_slice(body).unwrap();
    if script.is_revoked || request.machine != script.name.machine {
        return problem(403, "machine_revoked", "this machine was removed");
    }
    if request_public_point(&request.csr).unwrap() != script.public_point {
        return problem(403, "wrong_key", "not the key that enrolled");
    }
    script.renewals += 1;
    let certificate = script.authority().sign_machine(&request.csr, script.name, SystemTime::now()).unwrap();
    let (addr, addrs) = (script.tunnel_addr.clone(), Vec::new());
    ok(200, &RenewAnswer { certificate, addr, addrs, time: script.now() })
}

fn leave(script: &mut Script, body: &[u8]) -> Answer {
    let request: UnregisterRequest = serde_json::from_slice(body).unwrap();
    let text = unregister_text(request.machine, request.time);
    if !verify_text(&script.public_point, &text, &request.signature) {
        return problem(403, "bad_signature", "the signature is not by this machine");
    }
    script.has_left = true;
    (204, "application/json".into(), Vec::new())
}
