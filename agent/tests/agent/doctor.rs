//! `rexec-agent doctor`: each thing that stands in the way is found and named, and nothing is disturbed.

use std::process::Stdio;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::task::block_in_place;

use crate::control::Control;
use crate::fallback::{CONNECTED, TcpBroker, proxy};
use crate::support::Home;
use crate::tunnel::Machine;

/// It is to take less than ten seconds; these tests share two processors with whatever else runs there.
const IN_TIME: Duration = Duration::from_secs(12);

/// What it found.
struct Found {
    code: i32,
    report: Value,
}

impl Found {
    fn by(home: &Home, environment: &[(&str, &str)]) -> Self {
        let began = Instant::now();
        let mut command = home.agent(&["doctor", "--json"]);
        command.envs(environment.iter().copied()).stderr(Stdio::inherit());
        let output = block_in_place(|| command.output()).unwrap();
        assert!(began.elapsed() < IN_TIME, "{:?}", began.elapsed());
        let report = serde_json::from_slice(&output.stdout).unwrap();
        Self { code: output.status.code().unwrap(), report }
    }

    fn check(&self, name: &str) -> &Value {
        let checks = self.report["checks"].as_array().unwrap();
        checks
            .iter()
            .find(|check| check["check"] == name)
            .unwrap_or_else(|| panic!("no {name} in {checks:?}"))
    }

    #[track_caller]
    fn says(&self, name: &str, verdict: &str, words: &[&str]) {
        let check = self.check(name);
        assert_eq!(check["verdict"], verdict, "{check}");
        let said = format!("{} {}", check["found"], check["hint"]);
        for word in words {
            assert!(said.contains(word), "no {word:?} in {check}");
        }
    }
}

/// A registered machine, and the broker it dials; what is opened there beyond handshakes is counted.
async fn machine(certificate_age: Duration, over_udp: bool) -> (Machine, std::sync::Arc<AtomicUsize>) {
    let machine = Machine::registered(certificate_age);
    let broker = TcpBroker::start(&machine).await;
    machine.dial(format!("127.0.0.1:{}", broker.port()));
    let opened = broker.shake_hands(&machine, over_udp);
    (machine, opened)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_without_trouble_is_told_so_by_handshakes_alone() {
    let (machine, opened) = machine(Duration::from_secs(90 * 60), true).await;
    let found = Found::by(&machine.home, &[]);
    assert_eq!((found.code, &found.report["ok"]), (0, &Value::Bool(true)), "{}", found.report);
    found.says("registration", "ok", &["test", &machine.control.url()]);
    found.says("state", "ok", &["mode 0700", "MiB free"]);
    found.says("certificate", "ok", &["good for 22 h", "renewed in 6 h"]);
    found.says("control", "ok", &["version 0.1.0"]);
    found.says("clock", "ok", &["0 s"]);
    found.says("dns", "skipped", &["127.0.0.1"]);
    found.says("udp", "ok", &["handshake with 127.0.0.1", "rexec/1"]);
    found.says("tcp", "ok", &["handshake with 127.0.0.1", "rexec/1"]);
    found.says("proxy", "skipped", &["none"]);
    found.says("agent", "warning", &["does not run", "rexec-agent start --daemon"]);
    assert_eq!(found.check("udp")["facts"]["alpn"], "rexec/1");
    assert!(found.check("udp")["facts"]["rtt_ms"].as_f64().unwrap() < 5_000.0);
    assert_eq!(opened.load(Ordering::Relaxed), 0, "a hello would displace the agent's tunnel");
    let text = block_in_place(|| machine.home.run(&["doctor"])).succeeded().out;
    assert_eq!(
        text.lines().count(),
        found.report["checks"].as_array().unwrap().len(),
        "a line for each: {text}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn where_udp_vanishes_that_has_failed_and_tcp_has_not() {
    let (machine, _) = machine(Duration::ZERO, false).await;
    let found = Found::by(&machine.home, &[]);
    assert_eq!(found.code, 1);
    found.says("udp", "failed", &["no answer from 127.0.0.1", "let UDP to port", "runs over TCP"]);
    found.says("tcp", "ok", &["handshake"]);
}

#[test]
fn before_enrolment_it_says_what_to_do() {
    let home = Home::new();
    let found = Found::by(&home, &[]);
    assert_eq!(found.code, 1);
    found.says("registration", "failed", &["not registered", "rexec-agent register --name"]);
    assert_eq!(found.report["checks"].as_array().unwrap().len(), 1);
    let ran = home.run(&["--profile", "second", "doctor"]);
    assert!(ran.out.contains("rexec-agent --profile second register"), "{ran:?}");
    let control = Control::start();
    home.run(&["set-server", &control.url()]).succeeded();
    Found::by(&home, &[]).says("control", "ok", &["version 0.1.0"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_that_has_ended_is_named_and_so_is_what_the_broker_says_of_it() {
    let (machine, opened) = machine(Duration::from_secs(25 * 3600), true).await;
    let found = Found::by(&machine.home, &[]);
    assert_eq!(found.code, 1);
    found.says("certificate", "failed", &["ended 1 h", "start the agent"]);
    found.says("udp", "failed", &["did not accept", "expired", "see certificate"]);
    found.says("tcp", "failed", &["did not accept", "expired", "see certificate"]);
    assert_eq!(opened.load(Ordering::Relaxed), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_is_not_the_certificates_leaves_nothing_to_show_and_says_so() {
    let (machine, _) = machine(Duration::ZERO, true).await;
    machine.home.profile().keep_key(&rexec_agent::state::MachineKey::generate().unwrap()).unwrap();
    let found = Found::by(&machine.home, &[]);
    assert_eq!(found.code, 1);
    found.says("certificate", "failed", &["does not belong to this machine's key", "register anew"]);
    found.says("udp", "skipped", &["see certificate"]);
    found.says("control", "ok", &[]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_is_off_is_a_warning_before_it_is_a_failure() {
    let (machine, _) = machine(Duration::ZERO, true).await;
    machine.control.set(|script| script.clock_offset_ms = 45_000);
    let found = Found::by(&machine.home, &[]);
    found.says("clock", "warning", &["s behind", "timedatectl"]);
    assert_eq!(found.code, 0);
    machine.control.set(|script| script.clock_offset_ms = -2 * 3600 * 1000 - 5000);
    let found = Found::by(&machine.home, &[]);
    found.says("clock", "failed", &["2 h ahead of", "timedatectl"]);
    assert_eq!(found.code, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_that_refuses_is_named_with_its_answer() {
    let machine = Machine::registered(Duration::ZERO);
    machine.dial("broker.invalid:7443");
    let (port, _asked) = proxy(1, "HTTP/1.1 407 Proxy Authentication Required\r\n\r\n").await;
    let url = format!("http://ada:secret@127.0.0.1:{port}");
    let found = Found::by(&machine.home, &[("HTTPS_PROXY", url.as_str())]);
    assert_eq!(found.code, 1);
    found.says("proxy", "failed", &["407", "HTTPS_PROXY"]);
    found.says("dns", "failed", &["broker.invalid", "name servers"]);
    found.says("udp", "failed", &["broker.invalid"]);
    assert!(!found.report.to_string().contains("secret"), "{}", found.report);
}

#[tokio::test(flavor = "multi_thread")]
async fn behind_a_proxy_that_leads_to_the_broker_what_else_fails_is_a_warning() {
    let machine = Machine::registered(Duration::ZERO);
    let broker = TcpBroker::start(&machine).await;
    let (port, mut asked) = proxy(broker.port(), CONNECTED).await;
    machine.dial("broker.invalid:7443");
    let opened = broker.shake_hands(&machine, false);
    let url = format!("127.0.0.1:{port}");
    let found = Found::by(&machine.home, &[("HTTPS_PROXY", url.as_str())]);
    assert_eq!(found.code, 0, "{}", found.report);
    found.says("proxy", "ok", &["handshake with broker.invalid:7443"]);
    for name in ["dns", "udp", "tcp"] {
        found.says(name, "warning", &["broker.invalid"]);
    }
    assert!(asked.recv().await.unwrap().starts_with("CONNECT broker.invalid:7443"));
    assert_eq!(opened.load(Ordering::Relaxed), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_of_a_kind_that_is_not_spoken_to_is_named_as_what_it_is() {
    let (machine, _) = machine(Duration::ZERO, true).await;
    for (url, words) in [
        ("https://ada:secret@proxy.invalid", "https:// proxy"),
        ("socks5://ada:secret@proxy.invalid", "SOCKS proxy"),
    ] {
        let found = Found::by(&machine.home, &[("HTTPS_PROXY", url)]);
        assert_eq!(found.code, 1);
        found.says("proxy", "failed", &[words, "only http://", "dials straight"]);
        found.says("tcp", "ok", &[]);
        assert!(!found.report.to_string().contains("secret"), "{}", found.report);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_down_is_told_from_a_broker_that_is() {
    let (machine, _) = machine(Duration::ZERO, true).await;
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let profile = machine.home.profile();
    let mut registration = profile.registration().unwrap().unwrap();
    registration.server = format!("http://{closed}/").parse().unwrap();
    profile.keep_registration(&registration).unwrap();
    let found = Found::by(&machine.home, &[]);
    assert_eq!(found.code, 1);
    found.says("control", "failed", &["cannot reach", "refused", "check the network"]);
    found.says("clock", "skipped", &[]);
    found.says("udp", "ok", &[]);
}
