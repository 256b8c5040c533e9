//! What an idle tunnel costs the broker.

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::process::{Command, Stdio};

use rexec_shared::pki::Identity;
use uuid::Uuid;

use crate::kit::{Agent, Installation, Rig};

const TUNNELS: u64 = 200;
/// DESIGN §11.
const BYTES_PER_TUNNEL_MAX: usize = 64 * 1024;

/// Resident memory of this process, bytes.
pub(crate) fn resident() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4_096
}

#[tokio::test]
async fn an_idle_tunnel_costs_at_most_64_kib() {
    let rig = Rig::start().await;
    // What the first tunnel costs is the broker's own warming up.
    let _warm = Agent::dial(&rig, Uuid::new_v4()).await;
    let before = resident();

    // The agents live in a process of their own, so that their memory is not counted.
    let mut agents = Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "memory::agents_of_another_process"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let mut stdin = agents.stdin.take().unwrap();
    let Installation { id, authority_identity: authority, .. } = &*rig.installation;
    let brief = (id, &authority.certificate_pem, &authority.key_pem, rig.broker.tunnel_addr());
    writeln!(stdin, "{}", serde_json::to_string(&brief).unwrap()).unwrap();
    rig.until(|counts| counts.tunnels == TUNNELS + 1).await;

    let each = resident().saturating_sub(before) / usize::try_from(TUNNELS).unwrap();
    println!("{} KiB per idle tunnel", each >> 10);
    drop(stdin);
    agents.wait().unwrap();
    assert!(each <= BYTES_PER_TUNNEL_MAX, "{each}");
}

#[tokio::test]
#[ignore = "run by an_idle_tunnel_costs_at_most_64_kib in a process of its own"]
async fn agents_of_another_process() {
    let mut brief = String::new();
    std::io::stdin().read_line(&mut brief).unwrap();
    let (id, certificate_pem, key_pem, broker): (Uuid, String, String, SocketAddr) =
        serde_json::from_str(&brief).unwrap();
    let installation = Installation::with_authority(id, Identity { certificate_pem, key_pem });
    let mut agents = Vec::new();
    for _ in 0..TUNNELS {
        agents.push(Agent::dial_to(&installation, broker, Uuid::new_v4()).await);
    }
    // Until the broker's side has measured; the keep-alives go on meanwhile.
    tokio::task::spawn_blocking(|| std::io::stdin().read_to_end(&mut Vec::new())).await.unwrap().unwrap();
}
