//! What a sandbox is not, cannot do and cannot reach.

use std::net::{TcpListener, UdpSocket};
use std::time::Duration;

use anyhow::{Context, Result};
use rexec_e2e::grounds::can_run;
use rexec_e2e::sandbox::{BUSYBOX, DEBIAN, Ground, HOSTILE, NEEDS, container, docker};
use serde_json::json;

use crate::{run, shell_in};

#[tokio::test]
async fn ct_01_hardening_probe() -> Result<()> {
    if !can_run(NEEDS) {
        return Ok(());
    }
    let ground = Ground::start()?;
    let id = ground.make(DEBIAN, json!({}))?;
    let mut viewer = shell_in(&ground, id).await?;
    let status = run(&mut viewer, "grep -E '^(CapEff|CapBnd|NoNewPrivs|Seccomp):' /proc/self/status").await?;
    // AUDIT_WRITE, CHOWN, DAC_OVERRIDE, FOWNER, FSETID, KILL, NET_BIND_SERVICE, SETGID, SETUID.
    for line in ["CapEff:\t00000000200004fb", "CapBnd:\t00000000200004fb", "NoNewPrivs:\t1", "Seccomp:\t2"] {
        assert!(status.contains(line), "{line} in {status}");
    }
    let there = run(&mut viewer, "ls -d /dev/kvm /var/run/docker.sock /run/docker.sock /dev/mem 2>/dev/null; ls /dev | grep -cE '^(sd|vd|nvme|loop)'").await?;
    assert_eq!(there, "0", "no device and no socket of the host");
    let tries = [
        "mount -t tmpfs none /mnt",
        "echo x > /.rexec/rexec-agent",
        "unshare -n true",
        "ip link add dummy0 type dummy 2>/dev/null || false",
        "echo 1 > /proc/sys/kernel/sysrq",
        "chroot / true",
        "mknod /tmp/sda b 8 0",
    ];
    for attempt in tries {
        let said =
            run(&mut viewer, &format!("({attempt}) >/dev/null 2>&1 && echo DONE || echo refused")).await?;
        assert_eq!(said, "refused", "{attempt}");
    }
    let mounts =
        run(&mut viewer, "awk '$2 !~ \"^/(proc|sys|dev)\" {print $2, $4}' /proc/mounts | cut -d, -f1 | sort")
            .await?;
    let expected = "/ rw\n/.rexec ro\n/etc/hostname rw\n/etc/hosts rw\n/etc/resolv.conf rw\n/home/user rw\n/run/rexec rw";
    let mounts: Vec<_> = mounts.lines().filter(|line| !line.contains("/docker-init ")).collect();
    assert_eq!(mounts.join("\n"), expected);
    Ok(())
}

#[tokio::test]
async fn ct_04_what_an_image_says_of_itself_is_not_believed() -> Result<()> {
    if !can_run(NEEDS) {
        return Ok(());
    }
    let ground = Ground::start()?;
    let id = ground.make(HOSTILE, json!({}))?;
    let mut viewer = shell_in(&ground, id).await?;
    assert_eq!(
        run(&mut viewer, "echo $(id -u) $HOME $PWD ${LD_PRELOAD-none}").await?,
        "0 /home/user /home/user none"
    );
    let entry = docker(&["inspect", "-f", "{{.Config.Entrypoint}} {{.Config.User}}", &container(id)])?;
    assert_eq!(entry, "[/.rexec/rexec-agent] 0:0");
    Ok(())
}

#[tokio::test]
async fn ct_08_ct_09_an_identity_is_in_memory_alone_and_no_secret_is_left_anywhere_else() -> Result<()> {
    if !can_run(NEEDS) {
        return Ok(());
    }
    let ground = Ground::start()?;
    let id = ground.make(DEBIAN, json!({}))?;
    let mut viewer = shell_in(&ground, id).await?;
    let found = run(
        &mut viewer,
        "grep -rlsE 'rexec_join_|PRIVATE KEY' / --exclude-dir=proc --exclude-dir=sys --exclude-dir=.rexec --exclude-dir=usr; \
         cat /proc/[0-9]*/environ /proc/[0-9]*/cmdline | tr '\\0' '\\n' | grep -c 'rexec_joi[n]_'",
    )
    .await?;
    assert_eq!(found, "/run/rexec/default/key.pem\n0");
    let inspected = docker(&["inspect", &container(id)])?;
    assert!(!inspected.contains("rexec_join_"), "the engine knows no token");
    let logs = docker(&["logs", &container(id)])?;
    assert!(!logs.contains("rexec_join_"), "nor does the log");
    ground.tell(id, "stop")?;
    ground.until(id, "stopped")?;
    let diff = docker(&["diff", &container(id)])?;
    assert!(!diff.lines().any(|line| line.contains("key.pem")), "{diff}");
    Ok(())
}

/// Something to be reached on this machine: `None` while nothing came.
struct Canary {
    tcp: TcpListener,
    udp: UdpSocket,
}

impl Canary {
    fn new() -> Result<Self> {
        let tcp = TcpListener::bind("0.0.0.0:0")?;
        let udp = UdpSocket::bind(("0.0.0.0", tcp.local_addr()?.port()))?;
        tcp.set_nonblocking(true)?;
        udp.set_read_timeout(Some(Duration::from_millis(200)))?;
        Ok(Self { tcp, udp })
    }

    fn port(&self) -> Result<u16> {
        Ok(self.tcp.local_addr()?.port())
    }

    fn heard_nothing(&self) -> bool {
        self.tcp.accept().is_err() && self.udp.recv(&mut [0; 64]).is_err()
    }
}

#[tokio::test]
async fn ct_05_ct_06_nothing_private_is_reached_from_an_open_sandbox_but_broker_and_control() -> Result<()> {
    if !can_run(NEEDS) {
        return Ok(());
    }
    let ground = Ground::start()?;
    let (id, neighbour) = (ground.make(BUSYBOX, json!({}))?, ground.make(BUSYBOX, json!({}))?);
    let canary = Canary::new()?;
    let port = canary.port()?;
    let mut there = shell_in(&ground, neighbour).await?;
    let address = run(&mut there, "ip -4 addr show eth0 | sed -n 's/.*inet \\([0-9.]*\\).*/\\1/p'").await?;
    run(&mut there, &format!("(nc -l -p {port} >/tmp/heard 2>&1 &)")).await?;

    for round in ["fresh", "restarted"] {
        let mut viewer = shell_in(&ground, id).await?;
        let gateway = run(&mut viewer, "ip route | sed -n 's/^default via \\([0-9.]*\\).*/\\1/p'").await?;
        let host = run(&mut viewer, "sed -n 's/\\([0-9.]*\\).*rexec.internal/\\1/p' /etc/hosts").await?;
        let targets = [
            gateway.as_str(),
            &host,
            &address,
            "169.254.169.254",
            "10.0.0.1",
            "192.168.1.1",
            "100.100.100.200",
        ];
        for target in targets {
            let tcp = format!(
                "(echo x | timeout 1 nc -w 1 {target} {port} >/dev/null) 2>/dev/null && echo REACHED || echo no"
            );
            let said = run(&mut viewer, &tcp).await?;
            assert!(said.ends_with("no"), "{round}: TCP to {target}: {said}");
            run(
                &mut viewer,
                &format!("(echo x | timeout 1 nc -u -w 1 {target} {port} >/dev/null) 2>/dev/null; true"),
            )
            .await?;
        }
        assert!(canary.heard_nothing(), "{round}: this machine was reached");
        let control = ground.installation.origin().rsplit(':').next().context("a port")?.to_owned();
        let asked = format!(
            "(timeout 5 nc -w 2 {host} {control} </dev/null >/dev/null) 2>/dev/null && echo reached || echo no"
        );
        let said = run(&mut viewer, &asked).await?;
        assert!(said.ends_with("reached"), "{round}: control is the exception: {said}");
        let v6 =
            "(timeout 1 nc -w 1 ::ffff:169.254.169.254 80 >/dev/null) 2>/dev/null && echo REACHED || echo no";
        assert!(run(&mut viewer, v6).await?.ends_with("no"), "{round}: v4 in v6");
        if round == "fresh" {
            ground.tell(id, "stop")?;
            ground.until(id, "stopped")?;
            ground.tell(id, "start")?;
            ground.until(id, "ready")?;
        }
    }
    assert_eq!(run(&mut there, "cat /tmp/heard").await?, "", "the neighbour heard nothing");
    Ok(())
}

#[tokio::test]
async fn ct_05_a_closed_sandbox_reaches_nothing_but_its_broker_and_has_no_right_to_change_that() -> Result<()>
{
    if !can_run(NEEDS) {
        return Ok(());
    }
    let ground = Ground::start()?;
    let id = ground.make(DEBIAN, json!({ "network": "none" }))?;
    let mut viewer = shell_in(&ground, id).await?;
    let probe = "(timeout 2 bash -c '</dev/tcp/1.1.1.1/443') 2>/dev/null && echo REACHED || echo no";
    assert_eq!(run(&mut viewer, probe).await?, "no");
    let names = "timeout 3 getent hosts example.com >/dev/null && echo RESOLVED || echo no";
    assert_eq!(run(&mut viewer, names).await?, "no");
    // A rule set by another container of the same namespace still stands; the sandbox has no tool and no right to remove it.
    let engine_view = docker(&["inspect", "-f", "{{.HostConfig.CapAdd}}", &container(id)])?;
    assert!(!engine_view.contains("NET_ADMIN") && !engine_view.contains("NET_RAW"), "{engine_view}");
    Ok(())
}

#[tokio::test]
async fn ct_07_a_fork_bomb_and_a_memory_bomb_end_where_they_began() -> Result<()> {
    if !can_run(NEEDS) {
        return Ok(());
    }
    let ground = Ground::start()?;
    let (bomb, neighbour) =
        (ground.make(DEBIAN, json!({ "pids": 64, "memory_mb": 128 }))?, ground.make(BUSYBOX, json!({}))?);
    let mut there = shell_in(&ground, neighbour).await?;
    let mut viewer = shell_in(&ground, bomb).await?;
    viewer
        .type_bytes(b"bash -c 'f() { f | f & }; f' 2>/dev/null; x=$(head -c 2G /dev/zero | tr '\\0' x)\n")?;
    viewer.drive_for(Duration::from_secs(2)).await?;
    assert_eq!(run(&mut there, "echo alive").await?, "alive");
    let pids =
        docker(&["inspect", "-f", "{{.HostConfig.PidsLimit}} {{.HostConfig.MemorySwap}}", &container(bomb)])?;
    assert_eq!(pids, format!("64 {}", 128 * 1024 * 1024));
    ground.delete(bomb, "drop")?;
    ground.until_gone(bomb)
}
