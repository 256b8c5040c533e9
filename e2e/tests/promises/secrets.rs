//! No secret where it does not belong, no open port on a machine.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use rexec_e2e::grounds::{Need, can_run};
use rexec_e2e::installation::{OWNER_PASSWORD, Options};
use rexec_e2e::process::{command_line, family};
use rexec_e2e::viewer::shell;
use rexec_e2e::{Installation, Machine, ViewerClient};

use super::tickets::fresh;

const SOON: Duration = Duration::from_secs(20);

#[tokio::test]
async fn st_07_and_st_05_no_log_and_no_argument_vector_holds_a_secret() -> Result<()> {
    let options = Options { log: "debug".into(), ..Options::default() };
    let mut installation = Installation::start_with(options)?;
    let mut machine = Machine::unregistered(&installation, "m", None)?;
    let token_file = installation.join_token()?;
    let token = std::fs::read_to_string(&token_file)?.trim().to_owned();
    machine.register(&installation, &token_file)?;
    machine.start_agent()?;
    machine.wait_online(true)?;

    let (mut viewer, permit) = fresh(&installation, &machine)?;
    rexec_e2e::viewer::present(&permit.broker, installation.origin(), &mut viewer, &permit.ticket).await?;
    let mut typist = ViewerClient::open(installation.owner(), machine.id(), shell()).await?;
    typist.type_bytes(b"echo typed-can''ary\n")?;
    typist.wait_for("typed-canary", SOON).await?;
    typist.drop_stream();
    typist.type_bytes(b"echo ba''ck\n")?;
    typist.wait_for("back", SOON).await?;

    let key = std::fs::read_to_string(machine.profile_dir().join("key.pem"))?;
    let jwt_secret = std::fs::read_to_string(installation.data_dir().join("keys/jwt-secret"))?;
    let cookie =
        installation.owner().cookie().context("a cookie")?.split_once('=').context("a cookie")?.1.to_owned();
    let pids = [family(machine.host_pid()?), family(installation.control_pid()?)].concat();
    let arguments: Vec<String> = pids.into_iter().flat_map(command_line).collect();
    machine.stop_agent()?;
    installation.stop_control()?;
    let logs = [installation.log(), machine.log(), arguments.join("\n")].concat();
    assert!(logs.contains("DEBUG"), "the logs are detailed enough to prove something");
    for (what, secret) in [
        ("the password", OWNER_PASSWORD),
        ("the cookie", &cookie),
        ("the join token", &token),
        ("a ticket", signature(&permit.ticket)?),
        ("a resume capability", signature(&permit.resume)?),
        ("the machine's key", key.lines().nth(1).context("a key")?),
        ("the installation's secret", jwt_secret.trim()),
        ("terminal output", "typed-canary"),
        ("terminal input", "typed-can''ary"),
    ] {
        let line = logs.lines().find(|line| line.contains(secret));
        assert!(line.is_none(), "{what} is in a log: {line:?}");
    }
    Ok(())
}

/// The part of a permission that makes it worth stealing.
fn signature(permission: &str) -> Result<&str> {
    permission.rsplit('.').next().context("no signature")
}

#[tokio::test]
async fn ws_03_a_machine_with_an_agent_listens_on_no_port() -> Result<()> {
    if !can_run(&[Need::Root, Need::Program("ss")]) {
        return Ok(());
    }
    let installation = Installation::start()?;
    let machine = Machine::start(&installation, "m")?;
    let mut viewer = ViewerClient::open(installation.owner(), machine.id(), shell()).await?;
    viewer.type_bytes(b"echo re''ady\n")?;
    viewer.wait_for("ready", SOON).await?;

    let ss = |arguments: &[&str]| -> Result<String> {
        let output =
            Command::new("ss").args(arguments).env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").output()?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let control = format!("pid={},", installation.control_pid()?);
    let tcp = ss(&["-lntp"])?;
    assert!(tcp.contains(&control), "ss names processes: {tcp}");
    for pid in family(machine.host_pid()?) {
        let of_agent = format!("pid={pid},");
        let open: Vec<&str> = tcp.lines().filter(|line| line.contains(&of_agent)).collect();
        assert!(open.is_empty(), "{open:?}");
    }
    // A UDP socket that dials has no listening state of its own; it is open to its own peer's packets alone, which QUIC proves.
    // So what counts is that there is one, of the uplink, on a port of the system's choice.
    let uplink = format!("pid={},", machine.uplink_pid()?);
    let udp = ss(&["-anup"])?;
    let of_family = family(machine.host_pid()?);
    let of_agent: Vec<&str> = udp
        .lines()
        .filter(|line| of_family.iter().any(|pid| line.contains(&format!("pid={pid},"))))
        .collect();
    assert_eq!(of_agent.len(), 1, "{of_agent:?}");
    assert!(of_agent.iter().all(|line| line.contains(&uplink)), "{of_agent:?}");
    Ok(())
}
