//! What opens a shell at the real broker, and everything that does not (THREATS BU-04, ST-05).

use anyhow::{Context, Result, bail, ensure};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use bytes::BytesMut;
use futures_util::{SinkExt, StreamExt};
use rexec_e2e::installation::write_private;
use rexec_e2e::viewer::{Permit, Verdict, close_name, connect, present, shell};
use rexec_e2e::{Api, Installation, Machine};
use rexec_shared::PROTOCOL_VERSION;
use rexec_shared::frame::Decoder;
use rexec_shared::message::{HostMessage, Open, ViewerMessage};
use rexec_shared::proof::ViewerKey;
use rexec_shared::ticket::{Claims, Signer};
use rexec_shared::viewer::Viewer;
use serde_json::json;
use tokio_tungstenite::tungstenite::Message;
use uuid::Uuid;

/// The claims of a ticket, as anybody can read them.
pub(crate) fn claims_of(ticket: &str) -> Result<Claims> {
    let body = ticket.split('.').nth(1).context("no claims")?;
    Ok(serde_json::from_slice(&BASE64.decode(body)?)?)
}

/// Control's own signing key, as a thief of the data directory has it.
pub(crate) fn stolen_signer(installation: &Installation) -> Result<Signer> {
    Ok(Signer::from_pkcs8(&std::fs::read(installation.data_dir().join("keys/ticket.pk8"))?)?)
}

/// A viewer with a ticket of its own that nobody has used.
pub(crate) fn fresh(installation: &Installation, machine: &Machine) -> Result<(Viewer, Permit)> {
    let viewer = Viewer::new(Uuid::new_v4(), Uuid::new_v4(), shell(), ViewerKey::generate()?);
    let permit = Permit::ask(installation.owner(), machine.id(), viewer.session(), &viewer.confirmation())?;
    Ok((viewer, permit))
}

fn refused(code: &str) -> Verdict {
    Verdict::Refused(code.into())
}

struct Ground {
    installation: Installation,
    machine: Machine,
}

impl Ground {
    fn new() -> Result<Self> {
        let installation = Installation::start()?;
        let machine = Machine::start(&installation, "m")?;
        Ok(Self { installation, machine })
    }

    fn fresh(&self) -> Result<(Viewer, Permit)> {
        fresh(&self.installation, &self.machine)
    }

    async fn present(&self, viewer: &mut Viewer, permit: &Permit, permission: &str) -> Result<Verdict> {
        present(&permit.broker, self.installation.origin(), viewer, permission).await
    }

    /// What becomes of a fresh ticket whose claims were changed and signed by `signer`.
    async fn forged(&self, signer: &Signer, change: impl FnOnce(&mut Claims)) -> Result<Verdict> {
        let (mut viewer, permit) = self.fresh()?;
        let mut claims = claims_of(&permit.ticket)?;
        change(&mut claims);
        self.present(&mut viewer, &permit, &signer.ticket(&claims)).await
    }

    fn assert_no_shell(&self) -> Result<()> {
        let shells = self.machine.shells()?;
        ensure!(shells.is_empty(), "a shell was opened: {shells:?}");
        Ok(())
    }
}

#[tokio::test]
async fn bu_04_a_ticket_opens_once_and_never_again() -> Result<()> {
    let ground = Ground::new()?;
    let (mut viewer, permit) = ground.fresh()?;
    assert_eq!(ground.present(&mut viewer, &permit, &permit.ticket).await?, Verdict::Opened);
    let (mut other, _) = ground.fresh()?;
    let again = ground.present(&mut other, &permit, &permit.ticket).await?;
    assert!(again != Verdict::Opened, "{again:?}");
    viewer.forget_screen();
    let again = ground.present(&mut viewer, &permit, &permit.ticket).await?;
    assert_eq!(again, refused("ticket_used"));
    Ok(())
}

#[tokio::test]
async fn bu_04_of_64_presenters_of_one_ticket_exactly_one_is_asked_for_its_key() -> Result<()> {
    let ground = Ground::new()?;
    let (viewer, permit) = ground.fresh()?;
    let tries = (0..64).map(|_| {
        let (permit, origin) = (permit.clone(), ground.installation.origin().to_owned());
        let session = viewer.session();
        tokio::spawn(async move { first_answer(&permit, &origin, session).await })
    });
    let mut challenged = 0;
    for answer in futures_util::future::join_all(tries).await {
        match answer?? {
            Some(code) => ensure!(code == "ticket_used", "{code}"),
            None => challenged += 1,
        }
    }
    assert_eq!(challenged, 1);
    Ok(())
}

/// The code that a first frame with this ticket is refused with; none when a challenge comes.
async fn first_answer(permit: &Permit, origin: &str, session: Uuid) -> Result<Option<String>> {
    let (v, features, ticket) = (PROTOCOL_VERSION, Vec::new(), permit.ticket.clone());
    let (viewer, attempt, input_seq, spec) = (Uuid::new_v4(), 0, 0, shell());
    let mut frame = BytesMut::new();
    let open = Open { v, features, ticket, viewer, attempt, session, input_seq, spec };
    ViewerMessage::Open(open).encode(&mut frame);
    let mut socket = connect(&permit.broker, origin).await?;
    socket.send(Message::Binary(frame.freeze())).await?;
    let mut decoder = Decoder::new();
    while let Some(message) = socket.next().await {
        match message? {
            Message::Binary(bytes) => decoder.push(&bytes),
            Message::Close(frame) => return Ok(Some(close_name(frame.map(|frame| frame.code.into())))),
            Message::Text(_) | Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => {}
        }
        let Some(frame) = decoder.poll_frame()? else { continue };
        return match HostMessage::decode(&frame)? {
            Some(HostMessage::Challenge(_)) => Ok(None),
            Some(HostMessage::Error(error)) => Ok(Some(error.code)),
            other => bail!("{other:?}"),
        };
    }
    bail!("the stream ended without a word")
}

#[tokio::test]
async fn bu_04_expired_future_long_lived_and_altered_tickets_open_nothing() -> Result<()> {
    let ground = Ground::new()?;
    let control = stolen_signer(&ground.installation)?;
    let stranger = Signer::from_pkcs8(&Signer::generate()?)?;
    let minute = 60_000;

    let expired = ground.forged(&control, |claims| {
        claims.iat -= 3 * minute;
        claims.exp -= 3 * minute;
    });
    assert_eq!(expired.await?, refused("ticket_expired"));
    let future = ground.forged(&control, |claims| {
        claims.iat += 10 * minute;
        claims.exp += 10 * minute;
    });
    assert_eq!(future.await?, refused("bad_ticket"));
    let for_ever = ground.forged(&control, |claims| claims.exp += 1000 * minute);
    assert_eq!(for_ever.await?, refused("bad_ticket"));
    let other_session = ground.forged(&control, |claims| claims.ses = Uuid::new_v4());
    assert_eq!(other_session.await?, refused("bad_ticket"));
    let other_organisation = ground.forged(&control, |claims| claims.org = Uuid::new_v4());
    assert!(other_organisation.await? != Verdict::Opened);
    let made_up = ground.forged(&stranger, |_| {});
    assert_eq!(made_up.await?, refused("bad_ticket"));

    let (mut viewer, permit) = ground.fresh()?;
    let altered = alter_claims(&permit.ticket)?;
    assert_eq!(ground.present(&mut viewer, &permit, &altered).await?, refused("bad_ticket"));
    let resume = permit.resume.clone();
    assert_eq!(ground.present(&mut viewer, &permit, &resume).await?, refused("bad_ticket"));
    for junk in ["", "rxt1", "rxt1..", "rxt1.e30.e30", &"x".repeat(4000)] {
        let verdict = ground.present(&mut viewer, &permit, junk).await?;
        assert_eq!(verdict, refused("bad_ticket"), "{junk}");
    }
    ground.assert_no_shell()
}

#[tokio::test]
async fn st_05_a_stolen_ticket_without_its_key_opens_nothing() -> Result<()> {
    let ground = Ground::new()?;
    let (owner, permit) = ground.fresh()?;
    let mut thief = Viewer::new(Uuid::new_v4(), owner.session(), shell(), ViewerKey::generate()?);
    let verdict = ground.present(&mut thief, &permit, &permit.ticket).await?;
    assert!(verdict != Verdict::Opened, "{verdict:?}");
    ground.assert_no_shell()
}

#[tokio::test]
async fn bu_04_a_ticket_for_another_machine_comes_to_that_machine_alone() -> Result<()> {
    let ground = Ground::new()?;
    let other = Machine::start(&ground.installation, "other")?;
    let (mut viewer, permit) = fresh(&ground.installation, &other)?;
    assert_eq!(ground.present(&mut viewer, &permit, &permit.ticket).await?, Verdict::Opened);
    ground.assert_no_shell()?;
    let control = stolen_signer(&ground.installation)?;
    let nowhere = ground.forged(&control, |claims| claims.aud = Uuid::new_v4()).await?;
    assert_eq!(nowhere, refused("machine_offline"));
    ground.assert_no_shell()
}

#[test]
fn bu_01_a_second_tenant_is_told_that_there_is_no_such_machine() -> Result<()> {
    let ground = Ground::new()?;
    let (email, password) = ("tenant@rexec.test", "another-long-password");
    let file = ground.installation.scratch().join("tenant-password");
    write_private(&file, password)?;
    let mut command = ground.installation.command()?;
    command.args(["owner", "create", "--email", email, "--password-file"]).arg(&file);
    ensure!(command.output()?.status.success(), "no second owner");
    let tenant = Api::new(ground.installation.origin()).sign_in(email, password)?;

    let machine = format!("/api/machines/{}", ground.machine.id());
    assert_eq!(tenant.get("/api/machines")?.ok()?, json!([]));
    assert_eq!(tenant.get(&machine)?.status, 404);
    assert_eq!(tenant.patch(&machine, &json!({ "name": "mine" }))?.status, 404);
    assert_eq!(tenant.delete(&machine)?.status, 404);
    let key = ViewerKey::generate()?.confirmation();
    let wish = json!({ "machine": ground.machine.id(), "session": Uuid::new_v4(), "caps": ["terminal"], "key": key });
    assert_eq!(tenant.post("/api/tickets", &wish)?.status, 404);
    let unknown = tenant.get(&format!("/api/machines/{}", Uuid::new_v4()))?;
    assert_eq!(unknown.status, 404);
    assert_eq!(unknown.code(), tenant.get(&machine)?.code(), "as if it did not exist");
    assert_eq!(ground.installation.owner().get(&machine)?.status, 200);
    Ok(())
}

/// The ticket with another user in it, and the signature it had.
pub(crate) fn alter_claims(ticket: &str) -> Result<String> {
    let mut claims = claims_of(ticket)?;
    claims.usr = Uuid::new_v4();
    let signature = ticket.rsplit('.').next().context("no signature")?;
    Ok(format!("rxt1.{}.{signature}", BASE64.encode(serde_json::to_vec(&claims)?)))
}
