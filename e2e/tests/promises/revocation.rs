//! What is revoked is cut off within two seconds, and nothing else is.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rexec_e2e::installation::{OWNER_EMAIL, OWNER_PASSWORD};
use rexec_e2e::viewer::shell;
use rexec_e2e::{Api, Installation, Machine, ViewerClient, wait};

const CUT_MAX: Duration = Duration::from_secs(2);
const SOON: Duration = Duration::from_secs(20);

async fn viewer(api: &Api, machine: &Machine) -> Result<ViewerClient> {
    let mut viewer = ViewerClient::open(api, machine.id(), shell()).await?;
    viewer.type_bytes(b"echo re''ady\n")?;
    viewer.wait_for("ready", SOON).await?;
    Ok(viewer)
}

fn assert_quick(since: Instant, cut: Instant) {
    let took = cut.duration_since(since);
    assert!(took <= CUT_MAX, "cut off after {took:?}");
}

#[tokio::test]
async fn bu_03_a_removed_machine_is_cut_off_within_2_s() -> Result<()> {
    let installation = Installation::start()?;
    let (machine, other) = (Machine::start(&installation, "m")?, Machine::start(&installation, "other")?);
    let (mut cut, mut kept) =
        (viewer(installation.owner(), &machine).await?, viewer(installation.owner(), &other).await?);

    let began = Instant::now();
    installation.owner().delete(&format!("/api/machines/{}", machine.id()))?.ok()?;
    let (at, refusal) = cut.until_refused(SOON).await?;
    assert_quick(began, at);
    assert_eq!(refusal.code, "revoked");
    assert_eq!(installation.owner().get(&format!("/api/machines/{}", machine.id()))?.status, 404);
    let error = ViewerClient::open(installation.owner(), machine.id(), shell()).await;
    assert!(error.is_err(), "no new ticket for a removed machine");

    kept.type_bytes(b"echo still-he''re\n")?;
    kept.wait_for("still-here", SOON).await?;
    wait::until("the agent says why it stopped", SOON, || {
        machine.log().contains("removed from Rexec").then_some(())
    })
}

#[tokio::test]
async fn bu_03_a_revoked_login_loses_its_viewers_within_2_s_and_no_other() -> Result<()> {
    let installation = Installation::start()?;
    let machine = Machine::start(&installation, "m")?;
    let elsewhere = Api::new(installation.origin()).sign_in(OWNER_EMAIL, OWNER_PASSWORD)?;
    let (mut cut, mut kept) =
        (viewer(&elsewhere, &machine).await?, viewer(installation.owner(), &machine).await?);

    let logins = installation.owner().get("/api/logins")?.ok()?;
    let other = logins.as_array().context("a list")?.iter().find(|login| login["current"] == false);
    let id = other.context("two logins")?["id"].as_str().context("an id")?.to_owned();
    let began = Instant::now();
    installation.owner().delete(&format!("/api/logins/{id}"))?.ok()?;
    let (at, refusal) = cut.until_refused(SOON).await?;
    assert_quick(began, at);
    assert_eq!(refusal.code, "revoked");
    assert_eq!(elsewhere.get("/api/machines")?.status, 401);

    kept.type_bytes(b"echo still-he''re\n")?;
    kept.wait_for("still-here", SOON).await
}

#[tokio::test]
async fn signing_out_cuts_off_the_viewers_of_that_login_within_2_s() -> Result<()> {
    let installation = Installation::start()?;
    let machine = Machine::start(&installation, "m")?;
    let leaving = Api::new(installation.origin()).sign_in(OWNER_EMAIL, OWNER_PASSWORD)?;
    let mut cut = viewer(&leaving, &machine).await?;
    let began = Instant::now();
    leaving.delete("/api/logins/current")?.ok()?;
    let (at, refusal) = cut.until_refused(SOON).await?;
    assert_quick(began, at);
    assert_eq!(refusal.code, "revoked");
    Ok(())
}
