//! `rexec-agent doctor` against a whole installation: healthy, stopped, behind a firewall.

use std::net::IpAddr;

use anyhow::{Context, Result, ensure};
use rexec_e2e::faults::Fault;
use rexec_e2e::grounds::can_run;
use rexec_e2e::installation::Options;
use rexec_e2e::machine::PRESENCE_DEADLINE;
use rexec_e2e::netlab::Netlab;
use rexec_e2e::{Installation, Machine, wait};
use serde_json::{Value, json};

/// Exit code, and what was found by the name of each check.
fn doctor(machine: &Machine) -> Result<(Option<i32>, Value)> {
    let output = machine.command()?.args(["doctor", "--json"]).output()?;
    let report: Value = serde_json::from_slice(&output.stdout)
        .with_context(|| String::from_utf8_lossy(&output.stderr).into_owned())?;
    let checks = report["checks"].as_array().context("no checks")?;
    let named = checks.iter().map(|check| Some((check["check"].as_str()?.to_owned(), check.clone())));
    Ok((output.status.code(), named.collect::<Option<serde_json::Map<_, _>>>().context("a name")?.into()))
}

/// Control hears of a tunnel a moment before its own agent does.
fn until_online(machine: &Machine) -> Result<()> {
    wait::until("an agent that knows it is online", PRESENCE_DEADLINE, || {
        machine.command().ok()?.arg("status").output().ok()?.status.success().then_some(())
    })
}

fn verdicts(found: &Value, names: &[&str]) -> Value {
    names.iter().map(|name| found[name]["verdict"].clone()).collect()
}

#[test]
fn a_machine_that_is_online_is_healthy_and_keeps_its_tunnel_and_one_that_is_stopped_is_told_to_start()
-> Result<()> {
    let installation = Installation::start()?;
    let mut machine = Machine::start(&installation, "m")?;
    until_online(&machine)?;
    let before = machine.seen_by_control()?;
    let (code, found) = doctor(&machine)?;
    let all = ["registration", "state", "certificate", "control", "clock", "udp", "tcp", "agent"];
    ensure!(code == Some(0) && verdicts(&found, &all) == Value::from(vec!["ok"; 8]), "{code:?} {found:#}");
    ensure!(found["agent"]["facts"]["transport"] == "quic", "{found:#}");
    let (after, tunnel) = (machine.seen_by_control()?, &found["agent"]["facts"]["tunnel"]);
    ensure!(after["online_since"] == before["online_since"], "its tunnel was displaced");
    ensure!(doctor(&machine)?.1["agent"]["facts"]["tunnel"] == *tunnel, "its tunnel was displaced");

    machine.stop_agent()?;
    let (code, found) = doctor(&machine)?;
    ensure!(code == Some(0), "{found:#}");
    ensure!(verdicts(&found, &["udp", "tcp", "agent"]) == json!(["ok", "ok", "warning"]), "{found:#}");
    ensure!(found["agent"]["hint"].as_str().is_some_and(|hint| hint.contains("start")), "{found:#}");
    Ok(())
}

#[test]
fn where_udp_is_blocked_the_doctor_says_so_and_control_knows_why_the_tunnel_is_over_tcp() -> Result<()> {
    if !can_run(Fault::UdpBlocked.needs()) {
        return Ok(());
    }
    let network = Netlab::new()?;
    network.block_udp()?;
    let options = Options { host: IpAddr::V4(network.host()), ..Options::default() };
    let installation = Installation::start_with(options)?;
    let machine = Machine::start_in(&installation, "m", Some(network.name()))?;
    until_online(&machine)?;
    let (code, found) = doctor(&machine)?;
    ensure!(code == Some(1), "{found:#}");
    ensure!(
        verdicts(&found, &["udp", "tcp", "control", "agent"]) == json!(["failed", "ok", "ok", "ok"]),
        "{found:#}"
    );
    ensure!(found["udp"]["hint"].as_str().is_some_and(|hint| hint.contains("let UDP")), "{found:#}");
    let reason = &machine.seen_by_control()?["transport_reason"];
    ensure!(reason["cause"] == "udp_silent", "{reason}");
    ensure!(reason["detail"] == found["agent"]["facts"]["transport_reason"], "{reason} {found:#}");
    Ok(())
}
