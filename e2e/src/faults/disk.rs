//! Full disks. Nothing of a session is on one; what is, waits until there is room again.

use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result, ensure};
use rexec_shared::pki::{Authority, MachineName, signing_request};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use serde_json::json;
use uuid::Uuid;

use super::{Promise, Scene};
use crate::api::Answer;
use crate::process::kill_9;
use crate::traffic::Traffic;
use crate::viewer::{ViewerClient, shell};
use crate::{Installation, Machine, wait};

const SOON: Duration = Duration::from_secs(20);
/// An agent that failed to write tries again within this, at first.
const TRIED_AGAIN: Duration = Duration::from_secs(20);
/// How soon control writes again when it can.
const WRITES_AGAIN: Duration = Duration::from_secs(2);
/// Age of a certificate that is due for renewal, and good for hours.
const DUE: Duration = Duration::from_secs(9 * 3_600);
/// Tickets until SQLite's log needs room on the disk.
const TICKETS: usize = 300;

impl Scene<'_> {
    pub(super) async fn agents_disk_is_full(
        &mut self,
        installation: &Installation,
        traffic: &mut Traffic,
    ) -> Result<Duration> {
        let (machine, disk) = (self.machine, self.machine.disk()?);
        let path = machine.profile_dir().join("certificate.pem");
        let old = aged_certificate(installation, machine)?;
        std::fs::write(&path, &old)?;
        disk.fill()?;
        traffic.type_some()?;
        traffic.until_back().await?;
        // The next uplink finds a certificate that is due, and no room for another.
        kill_9(machine.uplink_pid()?)?;
        traffic.type_some()?;
        let back = traffic.until_back().await?;
        let trouble = || {
            let status = machine.status().ok()?;
            status["host"]["uplink"]["certificate_trouble"].as_str().map(str::to_owned)
        };
        let told = wait::until_async("a complaint", SOON, trouble).await?;
        let is_told = told.contains("cannot be kept") && told.contains("No space left");
        self.also.push(Promise::of("status says", "no space for a certificate", &told, is_told));
        let is_whole = std::fs::read_to_string(&path)? == old;
        self.also.push(Promise::of(
            "old certificate",
            "whole",
            if is_whole { "whole" } else { "DAMAGED" },
            is_whole,
        ));
        let new = ViewerClient::open(installation.owner(), machine.id(), shell()).await;
        self.also.push(Promise::of(
            "new sessions",
            "opened",
            if new.is_ok() { "opened" } else { "refused" },
            new.is_ok(),
        ));
        disk.clear()?;
        let began = Instant::now();
        let is_kept =
            || std::fs::read_to_string(&path).is_ok_and(|now| now != old && !now.is_empty()).then_some(());
        wait::until_async("the new certificate on disk", TRIED_AGAIN, is_kept).await?;
        self.also.push(Promise::within(
            "new certificate kept once there is room",
            TRIED_AGAIN,
            began.elapsed(),
        ));
        ensure!(!machine.log().contains("panicked"), "{}", machine.log());
        Ok(back)
    }

    pub(super) async fn controls_disk_is_full(
        &mut self,
        installation: &Installation,
        traffic: &mut Traffic,
    ) -> Result<Duration> {
        let disk = installation.disk().context("no disk")?;
        disk.fill()?;
        let refused = (0..TICKETS).find_map(|_| match self.ticket(installation) {
            Ok(answer) if answer.status < 400 => None,
            other => Some(other),
        });
        let refused = refused.context("tickets are issued for ever on a full disk")??;
        let (status, code) = (refused.status, refused.code().to_owned());
        let is_clear = (500..600).contains(&status) && code == "storage_full";
        self.also.push(Promise::of("new tickets", "507 storage_full", format!("{status} {code}"), is_clear));
        let (before, began) = (traffic.viewer().streams(), Instant::now());
        traffic.viewer().drop_stream();
        traffic.type_some()?;
        let back = traffic.until_back().await?;
        let returned = traffic.viewer().streams() - before == 1;
        self.also.push(if returned {
            Promise::within("a viewer comes back meanwhile", WRITES_AGAIN, began.elapsed())
        } else {
            Promise::of("a viewer comes back meanwhile", "yes", "no", false)
        });
        disk.clear()?;
        let began = Instant::now();
        let issued = || self.ticket(installation).ok().filter(|answer| answer.status < 300).map(drop);
        wait::until_async("a ticket", SOON, issued).await?;
        self.also.push(Promise::within("tickets once there is room", WRITES_AGAIN, began.elapsed()));
        ensure!(!installation.log().contains("panicked"), "{}", installation.log());
        Ok(back)
    }

    fn ticket(&self, installation: &Installation) -> Result<Answer> {
        let key = "A".repeat(43);
        let wish = json!({ "machine": self.machine.id(), "session": Uuid::new_v4(), "caps": ["terminal"], "key": key });
        installation.owner().post("/api/tickets", &wish)
    }
}

/// As control would have issued it hours ago, for the key the machine has.
fn aged_certificate(installation: &Installation, machine: &Machine) -> Result<String> {
    let authority = Authority::load(&installation.authority()?)?;
    let newest = std::fs::read_to_string(machine.profile_dir().join("certificate.pem"))?;
    let name = MachineName::from_certificate(&CertificateDer::from_pem_slice(newest.as_bytes())?)?;
    let request = signing_request(&std::fs::read_to_string(machine.profile_dir().join("key.pem"))?)?;
    Ok(authority.sign_machine(&request, name, SystemTime::now() - DUE)?)
}
