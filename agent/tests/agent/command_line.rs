//! Enrolment and its failures as a person meets them: the real binary, a control on a real socket.

use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rexec_shared::enrol::DeviceStatus;
use serde_json::Value;

use crate::control::{Control, TOKEN, serve};
use crate::support::{Home, Ran};

fn register(home: &Home, control: &Control, name: &str) -> Ran {
    let token = home.file("token", TOKEN);
    home.run(&["register", "--name", name, "--server", &control.url(), "--token-file", &token])
}

/// A server that answers anything at once in plain HTTP.
fn plain_speaker() -> std::net::SocketAddr {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n");
            // Read to the end, so that closing does not reset what was written.
            let _ = std::io::copy(&mut stream, &mut std::io::sink());
        }
    });
    address
}

fn files_below(dir: &Path) -> Vec<std::path::PathBuf> {
    std::fs::read_dir(dir)
        .unwrap()
        .flatten()
        .flat_map(|entry| if entry.path().is_dir() { files_below(&entry.path()) } else { vec![entry.path()] })
        .collect()
}

#[test]
fn a_token_from_a_file_registers_this_machine_and_says_what_comes_next() {
    let (home, control) = (Home::new(), Control::start());
    let ran = register(&home, &control, "my-laptop").succeeded();
    assert!(ran.out.contains("\"my-laptop\"") && ran.out.contains("rexec-agent start --daemon"), "{ran:?}");
    for path in files_below(&home.root()) {
        assert_eq!(path.metadata().unwrap().mode() & 0o7777, 0o600, "{}", path.display());
        assert_eq!(path.parent().unwrap().metadata().unwrap().mode() & 0o7777, 0o700);
    }
    let status = home.run(&["status", "--json"]);
    assert_eq!(status.code, 3);
    let json: Value = serde_json::from_str(&status.out).unwrap();
    assert_eq!((json["registered"].clone(), json["running"].clone()), (true.into(), false.into()));
    assert_eq!(json["machine"], control.get(|script| script.name.machine.to_string()));
}

#[test]
fn st_01_st_07_the_token_and_the_key_stay_where_they_belong() {
    let (home, control) = (Home::new(), Control::start());
    let token = home.file("token", TOKEN);
    let mut command =
        home.agent(&["register", "--name", "canary", "--server", &control.url(), "--token-file", &token]);
    let ran = command.env("REXEC_LOG", "trace").output().unwrap();
    assert!(ran.status.success() && ran.stderr.len() > 1000, "everything was logged: {ran:?}");
    let shown = format!("{}{}", String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
    assert!(!shown.contains("canary-0123"), "the token is not shown, whatever is logged: {shown}");
    let key = std::fs::read_to_string(home.root().join("default/key.pem")).unwrap();
    let secret = key.lines().nth(1).unwrap();
    for path in files_below(&home.root()) {
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(!text.contains("canary-0123"), "token in {}", path.display());
        assert!(path.ends_with("key.pem") || !text.contains(secret), "key in {}", path.display());
    }
    let sent = control.get(|script| format!("{:?}", script.seen));
    assert!(!sent.contains(secret) && !sent.contains("PRIVATE"), "the key was sent");
}

#[test]
fn st_01_a_token_on_the_command_line_is_refused_with_the_way_that_works() {
    let home = Home::new();
    for arguments in [vec!["register", "--token", TOKEN], vec!["register", TOKEN]] {
        let ran = home.run(&arguments).failed_saying(&["--token-file"]);
        assert!(!format!("{ran:?}").contains("canary"), "{ran:?}");
    }
}

#[test]
fn a_token_comes_from_standard_input_as_well() {
    let (home, control) = (Home::new(), Control::start());
    let arguments = ["register", "--name", "a", "--server", &control.url(), "--token-file", "-"];
    home.run_with_input(&arguments, &format!("{TOKEN}\n")).succeeded();
}

#[test]
fn a_token_used_up_says_so_and_registers_nothing() {
    let (home, control) = (Home::new(), Control::start());
    register(&home, &control, "first").succeeded();
    let second = Home::new();
    register(&second, &control, "second").failed_saying(&["used already", "hint:", "new token"]);
    assert!(second.run(&["status"]).out.contains("not registered"));
    let token = second.file("token", "hello");
    second
        .run(&["register", "--server", &control.url(), "--token-file", &token])
        .failed_saying(&["not a join token", "rexec_join_"]);
}

#[test]
fn a_machine_registered_already_is_told_as_what_and_a_second_profile_works() {
    let (home, control) = (Home::new(), Control::start());
    register(&home, &control, "one").succeeded();
    register(&home, &control, "two").failed_saying(&[
        "already",
        "\"one\"",
        &control.url(),
        "unregister",
        "--profile",
    ]);
    control.set(|script| script.tokens.push(TOKEN.into()));
    let token = home.file("token", TOKEN);
    let ran =
        home.run(&["--profile", "second", "register", "--name", "two", "--token-file", &token]).succeeded();
    assert!(
        ran.out.contains("--profile second start"),
        "the server is known by now, the profile is named: {ran:?}"
    );
}

#[test]
fn approval_in_the_browser_shows_link_code_and_fingerprint_and_goes_on_by_itself() {
    let (home, control) = (Home::new(), Control::start());
    control.set(|script| script.polls = vec![DeviceStatus::Pending, DeviceStatus::Approved]);
    let ran = home.run(&["register", "--name", "my-laptop", "--server", &control.url()]).succeeded();
    let told = control.get(|script| script.seen[0].1["key_fingerprint"].as_str().unwrap().to_owned());
    for expected in [
        "http://rexec.test/device?code=ABCD-EFGH",
        "ABCD-EFGH",
        &told,
        "Waiting for approval",
        "Approved",
        "my-laptop",
    ] {
        assert!(ran.out.contains(expected), "{expected} in {ran:?}");
    }
    assert!(!ran.out.contains("device-secret"));
}

#[test]
fn a_denied_or_forgotten_request_ends_with_its_reason() {
    for (status, words) in [(DeviceStatus::Denied, "denied"), (DeviceStatus::Expired, "nobody approved")] {
        let (home, control) = (Home::new(), Control::start());
        control.set(|script| script.polls = vec![status]);
        home.run(&["register", "--name", "a", "--server", &control.url()]).failed_saying(&[words]);
        assert!(home.run(&["status"]).out.contains("not registered"));
    }
}

#[test]
fn a_wrong_clock_is_told_by_how_much() {
    let (home, control) = (Home::new(), Control::start());
    control.set(|script| script.clock_offset_ms = 2 * 3600 * 1000 + 5000);
    let ran = register(&home, &control, "late").succeeded();
    assert!(ran.err.contains("clock is 2 h behind"), "{ran:?}");
}

#[test]
fn a_wrong_server_is_told_apart_from_one_that_is_down() {
    let home = Home::new();
    let page = serve(|_, _| (404, "text/html".into(), b"<h1>nginx</h1>".to_vec()));
    let moved = serve(|path, _| (308, format!("https://rexec.example{path}"), Vec::new()));
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let try_server = |server: &str| home.run(&["register", "--name", "a", "--server", server]);
    try_server(&format!("http://{page}")).failed_saying(&[
        "HTTP 404",
        "not as a Rexec installation",
        "--server",
    ]);
    try_server(&format!("http://{moved}"))
        .failed_saying(&["redirects", "use --server https://rexec.example/"]);
    try_server(&format!("http://{closed}")).failed_saying(&["cannot reach", "refused"]);
    try_server(&format!("https://{}", plain_speaker())).failed_saying(&["cannot trust", "hint:"]);
    try_server("ftp://x").failed_saying(&["http:// or https://"]);
    try_server("https://x/?t=1").failed_saying(&["--token-file"]);
    home.run(&["register", "--name", "a"]).failed_saying(&["no server is known", "--server URL"]);
}

#[test]
fn a_name_that_is_no_name_is_refused_before_anything_is_asked() {
    let (home, control) = (Home::new(), Control::start());
    home.run(&["register", "--name", "my laptop", "--server", &control.url()])
        .failed_saying(&["letters", "--name my-laptop"]);
    assert_eq!(control.get(|script| script.seen.len()), 0);
}

#[test]
fn unregister_proves_the_key_leaves_and_forgets() {
    let (home, control) = (Home::new(), Control::start());
    home.run(&["unregister"]).failed_saying(&["not registered"]);
    register(&home, &control, "leaver").succeeded();
    home.run(&["unregister"]).succeeded();
    assert!(control.get(|script| script.has_left));
    assert!(!home.root().join("default/key.pem").exists());
    control.set(|script| script.tokens.push(TOKEN.into()));
    register(&home, &control, "again").succeeded();
}

#[test]
fn unregister_without_a_server_says_how_to_forget_locally() {
    let (home, control) = (Home::new(), Control::start());
    register(&home, &control, "orphan").succeeded();
    let path = home.root().join("default/registration.json");
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let moved =
        std::fs::read_to_string(&path).unwrap().replace(&control.address.to_string(), &closed.to_string());
    std::fs::write(&path, moved).unwrap();
    home.run(&["unregister"]).failed_saying(&["cannot reach", "--local"]);
    assert!(path.exists());
    home.run(&["unregister", "--local"]).succeeded();
    assert!(!path.exists());
}

#[test]
fn commands_on_a_machine_without_registration_say_what_to_do_first() {
    let home = Home::new();
    home.run(&["start"]).failed_saying(&["not registered", "rexec-agent register"]);
    home.run(&["start", "--daemon"]).failed_saying(&["not registered"]);
    assert_eq!(home.run(&["stop"]).code, 3);
    home.run(&["uplink"]).failed_saying(&["rexec-agent start"]);
    home.run(&["--profile", "../x", "status"]).failed_saying(&["profile name"]);
}

#[test]
fn help_needs_no_manual() {
    let home = Home::new();
    let help = home.run(&["--help"]).succeeded().out;
    for expected in
        ["register", "start", "stop", "status", "unregister", "--profile", "REXEC_AGENT_DIR", "First steps"]
    {
        assert!(help.contains(expected), "{expected} in {help}");
    }
    assert!(!help.contains("uplink"), "hidden commands stay hidden");
    assert!(home.run(&["register", "--help"]).succeeded().out.contains("REXEC_SERVER"));
}
