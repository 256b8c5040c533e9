//! The program itself: what it prints, what it writes, how it ends.

use std::io::{BufRead as _, BufReader, Read as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Output, Stdio};

use serde_json::{Value, json};

use crate::harness::PASSWORD;
use crate::wire;

fn control(data: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rexec-control"));
    command
        .env_clear()
        .env("REXEC_DATA_DIR", data)
        .env("REXEC_TUNNEL_ADDR", "127.0.0.1:0")
        .env("REXEC_BIND", "127.0.0.1");
    command.env("PORT", "0").stdin(Stdio::null());
    command
}

fn run(command: &mut Command) -> (Output, String, String) {
    let output = command.output().expect("it runs");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    (output, out, err)
}

/// A serving process; killed if the test fails.
struct Serving {
    child: Child,
    out: BufReader<ChildStdout>,
    printed: String,
    addr: std::net::SocketAddr,
}

impl Drop for Serving {
    fn drop(&mut self) {
        // Ended already, if all went well.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn serve(data: &Path, until: &str) -> Serving {
    let mut child = control(data).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it runs");
    let mut out = BufReader::new(child.stdout.take().expect("a pipe"));
    let mut printed = String::new();
    while !printed.contains(until) {
        assert!(out.read_line(&mut printed).expect("a line") > 0, "it ended: {printed}");
    }
    let addr =
        printed.split("listening on ").nth(1).and_then(|rest| rest.split(' ').next()).expect("an address");
    let addr = addr.parse().expect("an address");
    Serving { child, out, printed, addr }
}

impl Serving {
    /// Ends it as Ctrl-C does; gives everything it printed and logged.
    fn interrupt(mut self) -> String {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-INT", &pid]).status().expect("kill").success());
        let mut rest = String::new();
        self.out.read_to_string(&mut rest).expect("the rest");
        let mut log = String::new();
        self.child.stderr.take().expect("a pipe").read_to_string(&mut log).expect("the log");
        let status = self.child.wait().expect("an end");
        assert!(status.success(), "{status}: {log}");
        assert!(rest.contains("Rexec has ended."), "{rest}");
        log
    }
}

fn post(addr: std::net::SocketAddr, path: &str, body: &Value) -> wire::Answer {
    wire::send(addr, "POST", path, &[("content-type", "application/json")], body.to_string().as_bytes())
}

#[test]
fn the_printed_link_makes_the_owner_and_no_secret_is_logged() {
    let data = tempfile::tempdir().expect("a directory");
    let serving = serve(data.path(), "/setup#");
    let token = serving.printed.split("/setup#").nth(1).expect("a link").trim().to_owned();
    let wish = json!({ "token": token, "email": "ada@example.org", "name": "Ada", "password": PASSWORD });
    let me = post(serving.addr, "/api/setup", &wish).expect(201);
    let cookie = me
        .header("set-cookie")
        .and_then(|cookie| cookie.split([';', '=']).nth(1))
        .expect("a cookie")
        .to_owned();
    post(serving.addr, "/api/logins", &json!({ "email": "ada@example.org", "password": "canary canary" }))
        .expect(401);
    let log = serving.interrupt();
    for secret in [token.as_str(), cookie.as_str(), PASSWORD, "canary"] {
        assert!(!log.contains(secret), "st_07: {secret} is in the log: {log}");
    }
    let again = serve(data.path(), "data ");
    let signed_in =
        post(again.addr, "/api/logins", &json!({ "email": "ada@example.org", "password": PASSWORD }));
    signed_in.expect(201);
    let log = again.interrupt();
    assert!(!log.contains("ERROR"), "{log}");
}

#[test]
fn an_owner_and_a_join_token_are_made_without_a_browser() {
    let data = tempfile::tempdir().expect("a directory");
    let password = data.path().join("password");
    std::fs::write(&password, format!("{PASSWORD}\n")).expect("written");
    let (before, _, err) = run(control(data.path()).args(["join-token", "create"]));
    assert!(!before.status.success() && err.contains("nobody owns this installation yet"), "{err}");
    let (link, out, _) = run(control(data.path()).arg("setup-link"));
    assert!(link.status.success() && out.contains("/setup#"), "{out}");
    let owner = ["owner", "create", "--email", "ada@example.org", "--password-file"];
    let (made, _, err) = run(control(data.path()).args(owner).arg(&password));
    assert!(made.status.success(), "{err}");
    let (twice, _, err) = run(control(data.path()).args(owner).arg(&password));
    assert!(!twice.status.success() && err.contains("is here already"), "{err}");
    let (late, _, err) = run(control(data.path()).arg("setup-link"));
    assert!(!late.status.success() && err.contains("owns this installation already"), "{err}");
    let file = data.path().join("token");
    let (token, out, err) = run(control(data.path()).args(["join-token", "create", "--out"]).arg(&file));
    assert!(token.status.success() && out.is_empty(), "{out} {err}");
    assert_eq!(std::fs::metadata(&file).expect("there").permissions().mode() & 0o777, 0o600);
    assert!(std::fs::read_to_string(&file).expect("read").starts_with("rexec_join_"));
}

#[test]
fn in_02_a_weak_password_makes_no_owner() {
    let data = tempfile::tempdir().expect("a directory");
    let password = data.path().join("password");
    std::fs::write(&password, "admin\n").expect("written");
    let (made, _, err) = run(control(data.path())
        .args(["owner", "create", "--email", "a@b.org", "--password-file"])
        .arg(&password));
    assert!(!made.status.success() && err.contains("at least 12 characters"), "{err}");
}

#[test]
fn in_02_production_without_its_secret_does_not_start_and_says_which() {
    let data = tempfile::tempdir().expect("a directory");
    let (output, _, err) = run(control(data.path()).env("REXEC_ENV", "production"));
    assert!(!output.status.success() && err.contains("JWT_SECRET"), "{err}");
    assert!(!data.path().join("keys").exists(), "nothing was made");
}

#[test]
fn a_taken_port_is_named() {
    let data = tempfile::tempdir().expect("a directory");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = taken.local_addr().expect("an address").port().to_string();
    let (output, _, err) = run(control(data.path()).env("PORT", &port));
    assert!(!output.status.success() && err.contains(&format!("cannot listen on 127.0.0.1:{port}")), "{err}");
}

#[test]
fn the_document_is_printed_without_a_data_directory() {
    let (output, out, _) = run(control(Path::new("/nonexistent")).arg("openapi"));
    assert!(output.status.success());
    assert_eq!(out, rexec_control::api::document().expect("a document"));
}

#[test]
fn in_01_the_audit_is_verified_on_the_command_line_against_what_was_seen_before() {
    let data = tempfile::tempdir().expect("a directory");
    let (password, seen) = (data.path().join("password"), data.path().join("seen"));
    std::fs::write(&password, PASSWORD).expect("written");
    let owner = ["owner", "create", "--email", "ada@example.org", "--password-file"];
    let (made, _, err) = run(control(data.path()).args(owner).arg(&password));
    assert!(made.status.success(), "{err}");
    let (first, ends, err) = run(control(data.path()).args(["audit", "verify"]));
    assert!(first.status.success() && ends.contains(" 1 "), "{ends} {err}");
    std::fs::write(&seen, &ends).expect("written");
    let (more, _, err) = run(control(data.path()).args(["join-token", "create"]));
    assert!(more.status.success(), "{err}");
    let verify = |file: &Path| run(control(data.path()).args(["audit", "verify", "--seen"]).arg(file));
    let (again, later, err) = verify(&seen);
    assert!(again.status.success() && later.contains(" 2 "), "{later} {err}");
    std::fs::write(&seen, ends.replace(" 1 ", " 3 ")).expect("written");
    let (lost, _, err) = verify(&seen);
    assert!(!lost.status.success() && err.contains("no longer has the entry 3"), "{err}");
    std::fs::write(&seen, "nonsense").expect("written");
    assert!(!verify(&seen).0.status.success());
}

#[test]
fn in_02_production_with_a_placeholder_for_a_secret_does_not_start() {
    let data = tempfile::tempdir().expect("a directory");
    let secret = "changeme-changeme-changeme-changeme-changeme";
    let (output, _, err) = run(control(data.path()).env("REXEC_ENV", "production").env("JWT_SECRET", secret));
    assert!(!output.status.success() && err.contains("JWT_SECRET") && !err.contains(secret), "{err}");
}
