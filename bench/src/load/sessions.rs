//! Live sessions: programs in PTYs on real machines, and viewers that type into them.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use rexec_e2e::installation::Installation;
use rexec_e2e::viewer::{Permit, terminal};
use rexec_e2e::{Api, Machine, ViewerClient};
use rexec_shared::ticket::{Actor, ActorKind, Capability, Claims, Signer};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};
use url::Url;
use uuid::Uuid;

use crate::kind::PeerKind;
use crate::peer::{Line, Peer, Way};

/// Sessions being opened at once.
const OPENING: usize = 32;
/// Between two keystrokes of one person who types fast.
const KEYSTROKE: Duration = Duration::from_millis(20);
/// Between two keystrokes of each of many sessions.
const EACH: Duration = Duration::from_secs(1);
/// How long all of them type.
const TYPING: Duration = Duration::from_secs(10);
/// A ticket's life.
const LIFE_MS: u64 = 60_000;

/// Issues permits with the installation's own key: control gives one person 120 tickets a minute, and a thousand people sit here.
#[derive(Debug, Clone)]
pub(crate) struct Desk {
    api: Api,
    signer: Arc<Signer>,
    org: Uuid,
    user: Uuid,
    broker: Url,
}

impl Desk {
    pub(crate) fn new(installation: &Installation) -> Result<Self> {
        let api = installation.owner().clone();
        let me = api.get("/api/me")?.ok()?;
        let id = |of: &str| -> Result<Uuid> { Ok(me[of]["id"].as_str().context("no id")?.parse()?) };
        let key = std::fs::read(installation.data_dir().join("keys/ticket.pk8"))?;
        let signer = Arc::new(Signer::from_pkcs8(&key)?);
        let mut broker = Url::parse(api.origin())?.join("/viewer")?;
        ensure!(broker.set_scheme("ws").is_ok(), "not a web address: {broker}");
        Ok(Self { signer, org: id("org")?, user: id("user")?, broker, api })
    }

    fn issue(&self, machine: Uuid, session: Uuid, confirmation: String) -> Permit {
        let iat = unix_ms();
        let claims = Claims {
            jti: Uuid::new_v4(),
            aud: machine,
            org: self.org,
            usr: self.user,
            lgn: Uuid::new_v4(),
            act: Actor { kind: ActorKind::Person, id: self.user, name: "load".into() },
            ses: session,
            caps: vec![Capability::Terminal],
            cnf: confirmation,
            iat,
            exp: iat + LIFE_MS,
        };
        let resume = Claims { jti: Uuid::new_v4(), ..claims.clone() };
        Permit {
            ticket: self.signer.ticket(&claims),
            resume: self.signer.resume(&resume),
            broker: self.broker.clone(),
            brokers: Vec::new(),
        }
    }

    async fn open(&self, machine: Uuid) -> Result<Line> {
        let script = "stty raw -echo; echo READY; exec cat";
        let command = Some(["/bin/sh", "-c", script].map(str::to_owned).into());
        let issue = |session, confirmation| self.issue(machine, session, confirmation);
        let viewer = ViewerClient::open_with(&self.api, machine, terminal(command), issue).await?;
        Line::rexec(viewer).await
    }
}

fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// Opens sessions, spread over the machines.
pub(crate) async fn open(desk: &Desk, machines: &[Machine], count: usize) -> Result<Vec<Line>> {
    let (permits, mut opening) = (Arc::new(Semaphore::new(OPENING)), JoinSet::new());
    for machine in machines.iter().cycle().take(count).map(Machine::id) {
        let (desk, permits) = (desk.clone(), Arc::clone(&permits));
        opening.spawn(async move {
            let _permit = permits.acquire().await?;
            desk.open(machine).await
        });
    }
    let mut lines = Vec::with_capacity(count);
    while let Some(opened) = opening.join_next().await {
        lines.push(opened??);
    }
    Ok(lines)
}

/// Every session types once a second, each at its own moment; the round trips of all keystrokes.
pub(crate) async fn type_all(lines: Vec<Line>) -> Result<Vec<Duration>> {
    let (count, mut typing) = (u32::try_from(lines.len())?.max(1), JoinSet::new());
    for (number, line) in (0..).zip(lines) {
        typing.spawn(async move {
            tokio::time::sleep(EACH * number / count).await;
            type_into(line, EACH, TYPING).await
        });
    }
    let mut all = Vec::new();
    while let Some(times) = typing.join_next().await {
        all.extend(times??);
    }
    Ok(all)
}

/// One person types at a steady pace for a while, into a session of a machine.
pub(crate) async fn paced_echo(
    installation: &Installation,
    machine: &Machine,
    time: Duration,
) -> Result<Vec<Duration>> {
    let way = Way::Rexec { api: installation.owner(), machine };
    let peer = Peer::new(PeerKind::Rexec, way, None);
    type_into(peer.run("exec cat").await?, KEYSTROKE, time).await
}

async fn type_into(mut line: Line, every: Duration, time: Duration) -> Result<Vec<Duration>> {
    let (began, mut times, mut pace) = (Instant::now(), Vec::new(), interval(every));
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while began.elapsed() < time {
        pace.tick().await;
        let typed = Instant::now();
        line.write(b"x").await?;
        line.read(1).await?;
        times.push(typed.elapsed());
    }
    line.end().await?;
    Ok(times)
}
