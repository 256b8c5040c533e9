//! How a machine comes in: a person's approval, a token, the installer, and how it leaves.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use rexec_e2e::grounds::{Need, can_run};
use rexec_e2e::process::Process;
use rexec_e2e::viewer::shell;
use rexec_e2e::{Installation, Machine, ViewerClient, wait};
use serde_json::json;

const SOON: Duration = Duration::from_secs(20);

/// Starts `rexec-agent register` and reads the code it shows.
fn ask_approval(installation: &Installation, machine: &Machine) -> Result<(Child, String)> {
    let mut command = machine.command()?;
    command.args(["register", "--name", "my-laptop", "--server", installation.origin()]);
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn()?;
    let out = BufReader::new(child.stdout.take().context("no output")?);
    let (mut code, mut link) = (None, false);
    for line in out.lines() {
        let line = line?;
        link |= line.contains(&format!("{}/device", installation.origin()));
        let words = line.split(|c: char| !c.is_ascii_alphanumeric() && c != '-');
        code = code.or(words.map(str::to_owned).find(|word| is_user_code(word)));
        if link && let Some(code) = code.clone() {
            return Ok((child, code));
        }
    }
    bail!("the agent showed no code and link")
}

fn is_user_code(word: &str) -> bool {
    word.len() == 9
        && word.split('-').all(|half| half.len() == 4 && half.bytes().all(|byte| byte.is_ascii_uppercase()))
}

fn finish(mut child: Child) -> Result<bool> {
    let status = wait::until("the end of register", SOON, || child.try_wait().ok().flatten())?;
    Ok(status.success())
}

#[tokio::test]
async fn a_machine_approved_in_the_browser_goes_on_by_itself() -> Result<()> {
    let installation = Installation::start()?;
    let mut machine = Machine::unregistered(&installation, "my-laptop", None)?;
    let (child, code) = ask_approval(&installation, &machine)?;
    let asked = installation.owner().get(&format!("/api/device/{code}"))?.ok()?;
    assert_eq!(asked["name"], "my-laptop");
    let fingerprint = asked["key_fingerprint"].as_str().context("a fingerprint")?;
    assert!(fingerprint.starts_with("SHA256:"), "{fingerprint}");

    installation.owner().post(&format!("/api/device/{code}/approve"), &json!({}))?.ok()?;
    assert!(finish(child)?);
    machine.learn_id()?;
    machine.start_agent()?;
    machine.wait_online(true)?;
    let mut viewer = ViewerClient::open(installation.owner(), machine.id(), shell()).await?;
    viewer.type_bytes(b"echo he''llo\n")?;
    viewer.wait_for("hello", SOON).await
}

#[test]
fn a_machine_that_is_denied_is_told_and_stays_out() -> Result<()> {
    let installation = Installation::start()?;
    let machine = Machine::unregistered(&installation, "my-laptop", None)?;
    let (child, code) = ask_approval(&installation, &machine)?;
    installation.owner().post(&format!("/api/device/{code}/deny"), &json!({}))?.ok()?;
    assert!(!finish(child)?);
    assert!(!machine.profile_dir().join("registration.json").exists());
    let machines = installation.owner().get("/api/machines")?.ok()?;
    assert_eq!(machines, json!([]));
    Ok(())
}

#[test]
fn st_01_a_join_token_lets_one_machine_in() -> Result<()> {
    let installation = Installation::start()?;
    let token = installation.join_token()?;
    let mut machines =
        (0..2).map(|_| Machine::unregistered(&installation, "m", None)).collect::<Result<Vec<_>>>()?;
    let (first, second) = machines.split_at_mut(1);
    let (first, second) = (first.first_mut().context("a")?, second.first_mut().context("b")?);
    first.register(&installation, &token)?;
    let refusal =
        second.register(&installation, &token).err().context("a second machine came in")?.to_string();
    assert!(refusal.contains("used"), "{refusal}");
    Ok(())
}

#[test]
fn an_agent_that_unregisters_is_gone_and_may_register_again() -> Result<()> {
    let installation = Installation::start()?;
    let mut machine = Machine::start(&installation, "m")?;
    machine.stop_agent()?;
    let output = machine.command()?.arg("unregister").output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(installation.owner().get(&format!("/api/machines/{}", machine.id()))?.status, 404);
    machine.register(&installation, &installation.join_token()?)?;
    machine.start_agent()?;
    machine.wait_online(true)
}

#[test]
fn a_restarted_agent_and_a_restarted_control_find_everything_as_it_was() -> Result<()> {
    let mut installation = Installation::start()?;
    let mut machine = Machine::start(&installation, "m")?;
    machine.stop_agent()?;
    machine.wait_online(false)?;
    installation.stop_control()?;
    installation.start_control()?;
    assert_eq!(machine.seen_by_control()?["name"], "m", "the login is still good, the machine still known");
    machine.start_agent()?;
    machine.wait_online(true)
}

#[test]
fn the_installer_piped_into_bash_brings_a_working_agent() -> Result<()> {
    if !can_run(&[Need::Program("curl"), Need::Program("bash")]) {
        return Ok(());
    }
    let installation = Installation::start()?;
    let home = installation.scratch().join("home");
    std::fs::create_dir(&home)?;
    let script = format!("set -o pipefail; curl -sSL {}/install-agent.sh | bash", installation.origin());
    let mut command = Command::new("bash");
    command.args(["-c", &script]).env_clear().env("HOME", &home).env("PATH", "/usr/local/bin:/usr/bin:/bin");
    command.env("REXEC_BIN_DIR", home.join("bin"));
    let output = command.output()?;
    let said =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{said}");

    let agent = home.join("bin/rexec-agent");
    ensure!(agent.is_file(), "no {}: {said}", agent.display());
    let run = |arguments: &[&str]| {
        let mut command = Command::new(&agent);
        command.args(arguments).env_clear().env("HOME", &home).env("PATH", "/usr/bin:/bin");
        command
    };
    // The server is known from the installer: no --server here.
    let token = installation.join_token()?;
    let mut register = run(&["register", "--name", "my-laptop", "--token-file"]);
    let output = register.arg(&token).output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let _agent = Process::start("the installed agent", run(&["start"]), &home.join("log"))?;
    wait::until("the machine online", SOON, || {
        let machines = installation.owner().get("/api/machines").ok()?.ok().ok()?;
        (machines[0]["online"] == true).then_some(())
    })
}
