//! Real agents: session host and uplink as two processes, killed and stopped in every way.

use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use serde_json::Value;

use crate::broker::Broker;
use crate::control::{Control, TOKEN};
use crate::support::{AGENT, Home, Ran, eventually};

struct Installed {
    home: Home,
    control: Control,
    broker: Broker,
    _runtime: tokio::runtime::Runtime,
}

impl Installed {
    /// A registered machine whose broker welcomes everybody and counts.
    fn new() -> Self {
        let (home, control) = (Home::new(), Control::start());
        let (authority, installation) = control.get(|script| (script.authority(), script.installation));
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let broker = {
            let _guard = runtime.enter();
            Broker::start(&authority, installation)
        };
        control.set(|script| script.tunnel_addr = broker.address.to_string());
        let token = home.file("token", TOKEN);
        home.run(&["register", "--name", "m", "--server", &control.url(), "--token-file", &token])
            .succeeded();
        let serving = Broker { endpoint: broker.endpoint.clone(), address: broker.address };
        runtime.spawn(async move {
            for tunnel in 1.. {
                let agent = serving.welcome(tunnel).await;
                tokio::spawn(agent.keep_alive());
            }
        });
        Self { home, control, broker, _runtime: runtime }
    }

    fn status(&self) -> Value {
        serde_json::from_str(&self.home.run(&["status", "--json"]).out).unwrap()
    }

    fn online(&self, tunnel: u64) -> Value {
        eventually("the tunnel", || {
            let status = self.status();
            (status["online"] == true && status["host"]["uplink"]["tunnel"] == tunnel).then_some(status)
        })
    }

    /// Process ids of this home's uplinks.
    fn uplinks(&self) -> Vec<Pid> {
        let dir = self.home.root().to_string_lossy().into_owned();
        let mine = |path: &PathBuf| {
            let read = |name: &str| {
                String::from_utf8_lossy(&std::fs::read(path.join(name)).unwrap_or_default()).into_owned()
            };
            read("cmdline").ends_with("\0uplink\0") && read("environ").contains(&dir)
        };
        let processes = std::fs::read_dir("/proc").unwrap().flatten().map(|entry| entry.path());
        processes.filter(mine).filter_map(|path| pid(path.file_name()?.to_str()?.parse().ok()?)).collect()
    }
}

fn pid(raw: i32) -> Option<Pid> {
    Pid::from_raw(raw)
}

fn host_pid(status: &Value) -> Pid {
    pid(i32::try_from(status["host"]["pid"].as_i64().unwrap()).unwrap()).unwrap()
}

fn is_alive(pid: Pid) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).unwrap_or_default();
    test_kill_process(pid).is_ok() && !stat.contains(") Z ")
}

fn foreground(home: &Home) -> Child {
    home.agent(&["start"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

#[test]
fn start_returns_online_a_second_start_says_so_and_stop_ends_everything() {
    let machine = Installed::new();
    let ran = machine.home.run(&["start", "--daemon"]).succeeded();
    assert!(ran.out.contains("Online"), "{ran:?}");
    let status = machine.online(1);
    let text = machine.home.run(&["status"]).succeeded().out;
    for words in ["\"m\"", "online", "over quic", "certificate", "sessions"] {
        assert!(text.contains(words), "{words} in {text}");
    }
    machine.home.run(&["start"]).failed_saying(&["runs already"]);
    assert!(machine.home.run(&["start", "--daemon"]).succeeded().out.contains("already"));
    machine.home.run(&["unregister"]).failed_saying(&["rexec-agent stop"]);
    let uplinks = machine.uplinks();
    assert_eq!(uplinks.len(), 1);
    machine.home.run(&["stop"]).succeeded();
    assert!(!is_alive(host_pid(&status)) && !is_alive(uplinks[0]));
    assert_eq!(machine.home.run(&["status"]).code, 3);
    machine.home.run(&["start", "--daemon"]).succeeded();
}

#[test]
fn an_uplink_killed_is_replaced_at_once_and_the_host_does_not_notice() {
    let machine = Installed::new();
    machine.home.run(&["start", "--daemon"]).succeeded();
    let before = machine.online(1);
    for tunnel in 2..5 {
        let began = Instant::now();
        kill_process(machine.uplinks()[0], Signal::KILL).unwrap();
        let after = machine.online(tunnel);
        assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
        assert_eq!(host_pid(&before), host_pid(&after));
        assert_eq!(before["host"]["started"], after["host"]["started"]);
    }
}

#[test]
fn an_upgrade_that_does_not_run_leaves_the_machine_reachable() {
    let machine = Installed::new();
    let binary = machine.home.root().join("rexec-agent");
    std::fs::copy(AGENT, &binary).unwrap();
    Ran::of(machine.home.agent_at(&binary, &["start", "--daemon"]).output().unwrap()).succeeded();
    let before = machine.online(1);
    for (tunnel, broken) in (2..).zip(["no program at all", "#!/bin/sh\nexit 1\n"]) {
        let staged = binary.with_extension("new");
        std::fs::write(&staged, broken).unwrap();
        std::fs::set_permissions(&staged, std::fs::metadata(AGENT).unwrap().permissions()).unwrap();
        std::fs::rename(&staged, &binary).unwrap();
        kill_process(machine.uplinks()[0], Signal::KILL).unwrap();
        assert_eq!(host_pid(&before), host_pid(&machine.online(tunnel)), "{broken}");
    }
}

#[test]
fn an_uplink_does_not_outlive_a_host_that_was_killed() {
    let machine = Installed::new();
    machine.home.run(&["start", "--daemon"]).succeeded();
    let status = machine.online(1);
    let uplink = machine.uplinks()[0];
    kill_process(host_pid(&status), Signal::KILL).unwrap();
    eventually("the uplink's end", || (!is_alive(uplink)).then_some(()));
    assert_eq!(machine.home.run(&["status"]).code, 3, "a dead host leaves no lock");
    machine.home.run(&["start", "--daemon"]).succeeded();
}

#[test]
fn an_agent_in_the_foreground_ends_cleanly_on_each_signal() {
    let machine = Installed::new();
    for (tunnel, signal) in (1..).zip([Signal::TERM, Signal::INT, Signal::HUP]) {
        let mut agent = foreground(&machine.home);
        machine.online(tunnel);
        let uplink = machine.uplinks()[0];
        kill_process(pid(i32::try_from(agent.id()).unwrap()).unwrap(), signal).unwrap();
        let status = eventually("the end", || agent.try_wait().unwrap());
        assert!(status.success(), "{signal:?}: {status}");
        assert!(!is_alive(uplink));
    }
}

#[test]
fn a_start_that_cannot_get_online_says_why_and_goes_on_trying() {
    let machine = Installed::new();
    machine.broker.endpoint.close(0u32.into(), b"");
    let authority =
        rexec_shared::pki::Authority::generate(uuid::Uuid::new_v4(), std::time::SystemTime::now()).unwrap();
    let path = machine.home.root().join("default/registration.json");
    let mut registration: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    registration["tunnel"]["ca"] = authority.certificate_pem.into();
    registration["tunnel"]["addr"] = "127.0.0.1:9".into();
    std::fs::write(&path, registration.to_string()).unwrap();
    let began = Instant::now();
    let ran = machine.home.run(&["start", "--daemon"]).failed_saying(&[
        "not online",
        "goes on trying",
        "agent.log",
    ]);
    assert_eq!(ran.code, 4);
    assert!(began.elapsed() < Duration::from_secs(13), "{:?}", began.elapsed());
    assert_eq!(machine.home.run(&["status"]).code, 4);
}

#[test]
fn a_start_that_dies_at_once_shows_its_last_words() {
    let machine = Installed::new();
    let path = machine.home.root().join("default/registration.json");
    let broken = std::fs::read_to_string(&path).unwrap().replace(&"A".repeat(43), "no key");
    std::fs::write(&path, broken).unwrap();
    machine.home.run(&["start", "--daemon"]).failed_saying(&["ended as soon as", "ticket key"]);
}

#[test]
fn a_machine_that_was_removed_is_told_so_by_start() {
    let machine = Installed::new();
    machine.control.set(|script| script.is_revoked = true);
    // Long asleep: its certificate has ended, and control knows it no more.
    let name = machine.control.get(|script| script.name);
    let authority = machine.control.get(|script| script.authority());
    let csr = machine.home.profile().key().unwrap().signing_request().unwrap();
    let then = std::time::SystemTime::now() - Duration::from_secs(90 * 24 * 3600);
    machine.home.profile().keep_certificate(&authority.sign_machine(&csr, name, then).unwrap()).unwrap();
    machine.home.run(&["start", "--daemon"]).failed_saying(&[
        "removed from Rexec",
        "will not try again",
        "unregister --local",
    ]);
}

#[test]
fn ws_03_lo_01_an_agent_listens_on_no_port_and_its_sockets_are_closed_to_others() {
    use std::os::unix::fs::MetadataExt;
    let machine = Installed::new();
    machine.home.run(&["start", "--daemon"]).succeeded();
    let status = machine.online(1);
    let processes = [host_pid(&status), machine.uplinks()[0]];
    for process in processes {
        assert_eq!(listening(process), Vec::<String>::new(), "TCP sockets of {process:?}");
    }
    assert_eq!(udp(processes[0]), 0, "the session host has no network at all");
    assert_eq!(udp(processes[1]), 1, "the uplink has the one socket it dialled with");
    for name in ["link.sock", "viewer.sock"] {
        let mode = machine.home.root().join("default").join(name).metadata().unwrap().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
    let secret = machine.home.root().join("default/key.pem");
    let key = std::fs::read_to_string(secret).unwrap();
    let line = key.lines().nth(1).unwrap();
    for process in processes {
        for file in ["cmdline", "environ"] {
            let shown = std::fs::read(format!("/proc/{}/{file}", process.as_raw_nonzero())).unwrap();
            let shown = String::from_utf8_lossy(&shown);
            assert!(!shown.contains("rexec_join_") && !shown.contains(line), "a secret in {file}");
        }
    }
}

/// Inode numbers of a process's sockets.
fn sockets(process: Pid) -> Vec<String> {
    let dir = format!("/proc/{}/fd", process.as_raw_nonzero());
    let links =
        std::fs::read_dir(dir).unwrap().flatten().filter_map(|entry| std::fs::read_link(entry.path()).ok());
    links
        .filter_map(|link| Some(link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.to_owned()))
        .collect()
}

fn rows_of(process: Pid, tables: [&str; 2]) -> Vec<String> {
    let own = sockets(process);
    let tables =
        tables.map(|table| std::fs::read_to_string(format!("/proc/net/{table}")).unwrap_or_default());
    let rows = tables.iter().flat_map(|table| table.lines().skip(1));
    rows.filter(|row| row.split_whitespace().nth(9).is_some_and(|inode| own.iter().any(|mine| mine == inode)))
        .map(str::to_owned)
        .collect()
}

fn listening(process: Pid) -> Vec<String> {
    rows_of(process, ["tcp", "tcp6"])
}

fn udp(process: Pid) -> usize {
    rows_of(process, ["udp", "udp6"]).len()
}
