//! Snapshots: root and home as they were at a moment, of which new sandboxes are made; and forks.

use std::time::Duration;

use anyhow::{Context, Result};
use rexec_e2e::grounds::can_run;
use rexec_e2e::sandbox::{BUSYBOX, DEBIAN, Ground, NEEDS, SOON, container, docker};
use rexec_e2e::wait;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::{run, shell_in};

fn snapshot(ground: &Ground, of: Uuid, id: Uuid) -> Result<Value> {
    let asked = ground
        .owner()
        .post(&format!("/api/sandboxes/{of}/snapshots"), &json!({ "id": id, "name": "before" }))?;
    asked.ok()
}

fn look(ground: &Ground, id: Uuid) -> Option<Value> {
    let all = ground.owner().get("/api/snapshots").ok()?.ok().ok()?;
    all.as_array()?.iter().find(|one| one["id"] == json!(id)).cloned()
}

fn until_ready(ground: &Ground, id: Uuid) -> Result<Value> {
    wait::until("a snapshot that is ready", SOON, || match look(ground, id) {
        Some(found) if found["state"] == "ready" => Some(Ok(found)),
        Some(found) if found["state"] == "failed" => Some(Err(anyhow::anyhow!("it failed: {found}"))),
        _ => None,
    })?
}

fn remove(ground: &Ground, id: Uuid) -> Result<()> {
    assert_eq!(ground.owner().delete(&format!("/api/snapshots/{id}"))?.status, 202);
    wait::until("a snapshot that is gone", SOON, || look(ground, id).is_none().then_some(()))?;
    assert!(docker(&["image", "inspect", &format!("rexec-snapshot:{id}")]).is_err());
    assert!(docker(&["volume", "inspect", &format!("rexec-home-{id}")]).is_err());
    Ok(())
}

#[tokio::test]
async fn a_snapshot_has_root_and_home_and_no_identity_and_new_ones_are_made_of_it() -> Result<()> {
    if !can_run(NEEDS) {
        return Ok(());
    }
    let ground = Ground::start()?;
    for image in [DEBIAN, BUSYBOX] {
        let first = ground.make(image, json!({}))?;
        let mut viewer = shell_in(&ground, first).await?;
        let write = "mkdir -p /etc; echo in-root >/etc/kept; echo in-home >kept; ln -s /etc/shadow link; chmod 640 kept";
        run(&mut viewer, write).await?;
        let id = Uuid::new_v4();
        let asked = snapshot(&ground, first, id)?;
        assert_eq!((&asked["state"], &asked["name"]), (&json!("saving"), &json!("before")));
        let ready = until_ready(&ground, id)?;
        assert!(ready["home_bytes"].as_i64() >= Some(8) && ready["root_bytes"].as_i64() > Some(0), "{ready}");
        // The sandbox goes on where it stood still, in the same shell.
        assert_eq!(run(&mut viewer, "echo later >kept; cat kept").await?, "later");

        // CT-08, CT-09: no identity is in it, nor in its home.
        let layers = docker(&["history", "--no-trunc", &format!("rexec-snapshot:{id}")])?;
        assert!(!layers.contains("rexec_join_"), "{layers}");
        let second = ground.make_of(id, json!({}))?;
        let mut there = shell_in(&ground, second).await?;
        let said = run(&mut there, "cat /etc/kept kept; readlink link; ls -ln kept | cut -c1-10").await?;
        assert_eq!(said, "in-root\nin-home\n/etc/shadow\n-rw-r-----", "{image}");
        let keys = run(&mut there, "find / -xdev -name key.pem 2>/dev/null | wc -l").await?;
        assert_eq!(keys, "0", "the one it has is in memory, on a file system of its own");
        let machine = ground.look(second)?;
        assert_eq!(machine["image"], image, "{machine}");

        // Their homes are two.
        run(&mut there, "echo mine >kept").await?;
        assert_eq!(run(&mut viewer, "cat kept").await?, "later");
        let refused = ground.owner().delete(&format!("/api/snapshots/{id}"))?;
        assert_eq!((refused.status, &refused.body["code"]), (409, &json!("snapshot_in_use")));
        ground.delete(second, "drop")?;
        ground.until_gone(second)?;
        remove(&ground, id)?;
        ground.delete(first, "drop")?;
        ground.until_gone(first)?;
    }
    Ok(())
}

#[tokio::test]
async fn a_fork_goes_on_by_itself() -> Result<()> {
    if !can_run(NEEDS) {
        return Ok(());
    }
    let ground = Ground::start()?;
    let first = ground.make(BUSYBOX, json!({}))?;
    let mut viewer = shell_in(&ground, first).await?;
    run(&mut viewer, "echo one >kept").await?;
    let wish = json!({ "id": Uuid::new_v4(), "name": "forked" });
    let forked = ground.owner().post(&format!("/api/sandboxes/{first}/fork"), &wish)?.ok()?;
    let again = ground.owner().post(&format!("/api/sandboxes/{first}/fork"), &wish)?;
    assert_eq!((again.status, &again.body["id"]), (200, &forked["id"]), "asking again makes no second one");
    let id: Uuid = forked["id"].as_str().context("an id")?.parse()?;
    ground.until(id, "ready")?;
    let mut there = shell_in(&ground, id).await?;
    assert_eq!(run(&mut there, "cat kept; echo two >kept").await?, "one");
    assert_eq!(run(&mut viewer, "cat kept").await?, "one");
    ground.delete(id, "drop")?;
    ground.until_gone(id)?;
    remove(&ground, id)
}

#[tokio::test]
async fn control_killed_while_a_snapshot_is_made_makes_it_anew_and_the_sandbox_goes_on() -> Result<()> {
    if !can_run(NEEDS) {
        return Ok(());
    }
    let mut ground = Ground::start()?;
    let first = ground.make(BUSYBOX, json!({}))?;
    let mut viewer = shell_in(&ground, first).await?;
    run(&mut viewer, "head -c 30000000 /dev/urandom >big; sha256sum big >sum").await?;
    let sum = run(&mut viewer, "cat sum").await?;
    for pause_ms in [0, 150, 400] {
        let id = Uuid::new_v4();
        snapshot(&ground, first, id)?;
        // At different moments of the making.
        tokio::time::sleep(Duration::from_millis(pause_ms)).await;
        ground.installation.kill_control()?;
        ground.installation.start_control()?;
        until_ready(&ground, id)?;
        let paused = || docker(&["inspect", "-f", "{{.State.Paused}}", &container(first)]).ok();
        wait::until("a sandbox that goes on", SOON, || (paused()? == "false").then_some(()))?;
        let second = ground.make_of(id, json!({}))?;
        let mut there = shell_in(&ground, second).await?;
        assert_eq!(run(&mut there, "sha256sum big; cat sum").await?, format!("{sum}\n{sum}"));
        ground.delete(second, "drop")?;
        ground.until_gone(second)?;
        remove(&ground, id)?;
    }
    Ok(())
}
