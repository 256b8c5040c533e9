//! Made, typed into, stopped, started, deleted.

use anyhow::{Context, Result, ensure};
use rexec_e2e::grounds::can_run;
use rexec_e2e::sandbox::{BUSYBOX, DEBIAN, Ground, NEEDS, container, docker, on_engine};
use serde_json::json;
use uuid::Uuid;

use crate::{run, shell_in};

#[tokio::test]
async fn a_glibc_image_is_a_machine_from_click_to_prompt() -> Result<()> {
    if !can_run(NEEDS) {
        return Ok(());
    }
    let ground = Ground::start()?;
    let id = ground.make(DEBIAN, json!({ "name": "box" }))?;
    let mut viewer = shell_in(&ground, id).await?;
    let said = run(&mut viewer, "echo $HOME $PWD $(id -u) $SHELL; cat /etc/debian_version").await?;
    let mut lines = said.lines();
    assert_eq!(lines.next(), Some("/home/user /home/user 0 /bin/bash"), "{said}");
    assert!(lines.next().is_some_and(|version| version.starts_with("12.")), "{said}");

    let machines = ground.owner().get("/api/machines")?.ok()?;
    let machine =
        machines.as_array().context("machines")?.iter().find(|m| m["id"] == json!(id)).context("it")?;
    assert_eq!((&machine["kind"], &machine["online"]), (&json!("sandbox"), &json!(true)), "{machine}");
    Ok(())
}

#[tokio::test]
async fn an_image_without_any_libc_or_user_database_is_one_as_well() -> Result<()> {
    if !can_run(NEEDS) {
        return Ok(());
    }
    let ground = Ground::start()?;
    let id = ground.make(BUSYBOX, json!({}))?;
    let mut viewer = shell_in(&ground, id).await?;
    let said = run(&mut viewer, "echo $HOME $PWD $USER; ls /etc/passwd").await?;
    assert!(said.starts_with("/home/user /home/user root\n") && said.contains("No such file"), "{said}");
    Ok(())
}

#[tokio::test]
async fn what_lies_in_its_home_outlives_stop_and_restart_and_a_shell_is_there_each_time() -> Result<()> {
    if !can_run(NEEDS) {
        return Ok(());
    }
    let ground = Ground::start()?;
    let id = ground.make(BUSYBOX, json!({}))?;
    let mut viewer = shell_in(&ground, id).await?;
    run(&mut viewer, "echo kept > ~/note").await?;

    ground.tell(id, "stop")?;
    ground.until(id, "stopped")?;
    assert_eq!(docker(&["inspect", "-f", "{{.State.Running}}", &container(id)])?, "false");
    ground.tell(id, "start")?;
    ground.until(id, "ready")?;
    let mut viewer = shell_in(&ground, id).await?;
    assert_eq!(run(&mut viewer, "cat ~/note").await?, "kept");

    ground.tell(id, "restart")?;
    // Ready from before does not count: the restart is over when a new process runs.
    let fresh = || docker(&["inspect", "-f", "{{.State.StartedAt}}", &container(id)]);
    let before = fresh()?;
    rexec_e2e::wait::until("a new process", rexec_e2e::sandbox::SOON, || {
        (fresh().ok()? != before).then_some(())
    })
    .or_else(|_| ensure_ready(&ground, id))?;
    ground.until(id, "ready")?;
    let mut viewer = shell_in(&ground, id).await?;
    assert_eq!(run(&mut viewer, "cat ~/note").await?, "kept");
    Ok(())
}

fn ensure_ready(ground: &Ground, id: Uuid) -> Result<()> {
    ground.until(id, "ready").map(drop)
}

#[tokio::test]
async fn a_deleted_sandbox_leaves_its_home_or_nothing_as_one_wishes() -> Result<()> {
    if !can_run(NEEDS) {
        return Ok(());
    }
    let ground = Ground::start()?;
    let first = ground.make(BUSYBOX, json!({}))?;
    let mut viewer = shell_in(&ground, first).await?;
    run(&mut viewer, "echo mine > ~/note").await?;
    let volume = ground.look(first)?["volume"].clone();
    ground.delete(first, "keep")?;
    ground.until_gone(first)?;

    let second = ground.make(BUSYBOX, json!({ "volume": volume }))?;
    let mut viewer = shell_in(&ground, second).await?;
    assert_eq!(run(&mut viewer, "cat ~/note").await?, "mine");
    ground.delete(second, "drop")?;
    ground.until_gone(second)?;
    let name = format!("rexec-home-{}", volume.as_str().context("a volume")?);
    rexec_e2e::wait::until("a volume that is gone", rexec_e2e::sandbox::SOON, || {
        docker(&["volume", "inspect", &name]).is_err().then_some(())
    })?;
    Ok(())
}

#[tokio::test]
async fn a_sandbox_is_renamed_and_resized_while_a_shell_runs_in_it() -> Result<()> {
    if !can_run(NEEDS) {
        return Ok(());
    }
    let ground = Ground::start()?;
    let id = ground.make(BUSYBOX, json!({ "name": "before" }))?;
    let mut viewer = shell_in(&ground, id).await?;
    run(&mut viewer, "kept=1").await?;
    let wish = json!({ "name": "after", "memory_mb": 384, "cpus_milli": 750 });
    ground.owner().patch(&format!("/api/sandboxes/{id}"), &wish)?.ok()?;
    let limits =
        || docker(&["inspect", "-f", "{{.HostConfig.Memory}} {{.HostConfig.NanoCpus}}", &container(id)]);
    rexec_e2e::wait::until("new limits", rexec_e2e::sandbox::SOON, || {
        (limits().ok()? == format!("{} 750000000", 384 * 1024 * 1024)).then_some(())
    })?;
    assert_eq!(ground.look(id)?["name"], json!("after"));
    assert_eq!(run(&mut viewer, "echo $kept").await?, "1");
    Ok(())
}

#[tokio::test]
async fn the_same_wish_twice_is_one_sandbox() -> Result<()> {
    if !can_run(NEEDS) {
        return Ok(());
    }
    let ground = Ground::start()?;
    let id = Uuid::new_v4();
    for _ in 0..3 {
        assert_eq!(ground.ask(BUSYBOX, json!({ "id": id }))?, id);
    }
    ground.until(id, "ready")?;
    let all = ground.owner().get("/api/sandboxes")?.ok()?;
    assert_eq!(all.as_array().map(Vec::len), Some(1));
    Ok(())
}

#[tokio::test]
async fn twenty_at_once_all_become_ready_and_all_go() -> Result<()> {
    if !can_run(NEEDS) {
        return Ok(());
    }
    let ground = Ground::with_at_most(20)?;
    let ids = (0..20)
        .map(|_| ground.ask(BUSYBOX, json!({ "cpus_milli": 200, "memory_mb": 64 })))
        .collect::<Result<Vec<_>>>()?;
    let more = ground.ask(BUSYBOX, json!({}));
    ensure!(more.is_err_and(|error| error.to_string().contains("limit_reached")), "one more is refused");
    for id in &ids {
        ground.until(*id, "ready")?;
    }
    for id in &ids {
        ground.delete(*id, "drop")?;
    }
    for id in &ids {
        ground.until_gone(*id)?;
        assert!(!on_engine(*id));
    }
    Ok(())
}

#[tokio::test]
async fn an_image_that_nobody_has_is_an_error_that_says_so() -> Result<()> {
    if !can_run(NEEDS) {
        return Ok(());
    }
    let ground = Ground::start()?;
    let id = ground.ask("rexec-test/nobody-has-this:1", json!({}))?;
    let failed = rexec_e2e::wait::until("a sandbox that failed", rexec_e2e::sandbox::SOON * 2, || {
        ground.look(id).ok().filter(|found| found["state"] == json!("failed"))
    })?;
    assert!(failed["problem"]["code"].is_string() && failed["problem"]["hint"].is_string(), "{failed}");
    ground.delete(id, "drop")?;
    ground.until_gone(id)
}
