//! Control killed without a word at any step, an engine that forgets: reality and database agree again.

use std::time::Duration;

use anyhow::Result;
use rexec_e2e::grounds::can_run;
use rexec_e2e::sandbox::{BUSYBOX, Ground, NEEDS, container, docker, on_engine};
use serde_json::json;

use crate::{run, shell_in};

#[tokio::test]
async fn control_killed_while_it_makes_a_sandbox_finishes_it_afterwards() -> Result<()> {
    if !can_run(NEEDS) {
        return Ok(());
    }
    let mut ground = Ground::start()?;
    // Later each time: before, in and after each of the steps.
    for pause_ms in [0, 60, 150, 300, 500, 800] {
        let id = ground.ask(BUSYBOX, json!({}))?;
        std::thread::sleep(Duration::from_millis(pause_ms));
        ground.installation.kill_control()?;
        ground.installation.start_control()?;
        ground.until(id, "ready")?;
        let mut viewer = shell_in(&ground, id).await?;
        assert_eq!(run(&mut viewer, "echo here").await?, "here", "killed after {pause_ms} ms");
        drop(viewer);
        ground.delete(id, "drop")?;
        std::thread::sleep(Duration::from_millis(pause_ms));
        ground.installation.kill_control()?;
        ground.installation.start_control()?;
        ground.until_gone(id)?;
        assert!(!on_engine(id), "killed after {pause_ms} ms of its end");
    }
    Ok(())
}

#[tokio::test]
async fn a_shell_goes_on_while_control_and_broker_are_killed() -> Result<()> {
    if !can_run(NEEDS) {
        return Ok(());
    }
    let mut ground = Ground::start()?;
    let id = ground.make(BUSYBOX, json!({}))?;
    let mut viewer = shell_in(&ground, id).await?;
    run(&mut viewer, "kept=yes").await?;
    ground.installation.kill_control()?;
    ground.installation.start_control()?;
    assert_eq!(run(&mut viewer, "echo $kept").await?, "yes", "the same shell, by the same viewer");
    Ok(())
}

#[tokio::test]
async fn a_container_that_was_removed_or_killed_behind_our_back_comes_back_with_its_home() -> Result<()> {
    if !can_run(NEEDS) {
        return Ok(());
    }
    let ground = Ground::start()?;
    let id = ground.make(BUSYBOX, json!({}))?;
    let mut viewer = shell_in(&ground, id).await?;
    run(&mut viewer, "echo kept > ~/note").await?;
    for harm in [vec!["kill"], vec!["rm", "-f"]] {
        let name = container(id);
        let arguments: Vec<_> = harm.iter().copied().chain([name.as_str()]).collect();
        docker(&arguments)?;
        rexec_e2e::wait::until("its return", rexec_e2e::sandbox::SOON, || {
            let running = docker(&["inspect", "-f", "{{.State.Running}}", &name]).ok()?;
            (running == "true" && ground.look(id).ok()?["state"] == json!("ready")).then_some(())
        })?;
        let mut viewer = shell_in(&ground, id).await?;
        assert_eq!(run(&mut viewer, "cat ~/note").await?, "kept", "after {harm:?}");
    }
    Ok(())
}

#[tokio::test]
async fn a_container_that_nobody_asked_for_is_removed_and_a_strangers_is_left_alone() -> Result<()> {
    if !can_run(NEEDS) {
        return Ok(());
    }
    let ground = Ground::start()?;
    let id = ground.make(BUSYBOX, json!({}))?;
    let labels =
        docker(&["inspect", "-f", "{{index .Config.Labels \"dev.rexec.installation\"}}", &container(id)])?;
    let stray = uuid::Uuid::new_v4();
    let installation = format!("dev.rexec.installation={labels}");
    let sandbox = format!("dev.rexec.sandbox={stray}");
    let name = container(stray);
    let made = [
        "run",
        "-d",
        "--name",
        &name,
        "--label",
        "dev.rexec.kind=sandbox",
        "--label",
        &installation,
        "--label",
        &sandbox,
    ];
    let made: Vec<_> = made.iter().copied().chain(["--entrypoint", "/bin/sleep", BUSYBOX, "600"]).collect();
    docker(&made)?;
    let strangers = format!("stranger-{stray}");
    docker(&["run", "-d", "--name", &strangers, "--entrypoint", "/bin/sleep", BUSYBOX, "600"])?;
    // One is old enough after a minute.
    let gone = rexec_e2e::wait::until("the stray container's end", Duration::from_secs(90), || {
        docker(&["inspect", &name]).is_err().then_some(())
    });
    let left_alone = docker(&["inspect", &strangers]).is_ok();
    docker(&["rm", "-f", &strangers])?;
    if gone.is_err() {
        docker(&["rm", "-f", &name])?;
    }
    assert!(left_alone, "a stranger's container is nobody's to remove");
    gone
}
