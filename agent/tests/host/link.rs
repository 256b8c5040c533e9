//! `link.sock`: presence, feeds, local commands.

use rexec_shared::message::ViewerMessage;
use rexec_shared::tunnel::{LinkAnswer, LinkMessage, LinkRole, SessionInfo, UplinkStatus};

use crate::support::{DEADLINE, Host, Link};

async fn until_sessions(link: &mut Link, condition: impl Fn(&[SessionInfo]) -> bool) -> Vec<SessionInfo> {
    loop {
        let Some(LinkAnswer::Sessions { sessions, .. }) = link.next().await else { panic!("no list") };
        if condition(&sessions) {
            return sessions;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_uplink_is_told_the_sessions_at_once_and_at_each_change() {
    let host = Host::start().await;
    let mut link = host.link(LinkRole::Uplink).await;
    until_sessions(&mut link, |sessions| sessions.is_empty()).await;
    let mut term = host.open("printf '\\033]2;busy\\007'; echo ready; cat").await;
    let sessions = until_sessions(&mut link, |sessions| {
        sessions.first().is_some_and(|s| s.title == "busy" && s.viewers == 1)
    })
    .await;
    assert_eq!((sessions[0].session, sessions[0].user, sessions[0].cols), (term.session(), host.user, 80));
    term.cut();
    until_sessions(&mut link, |sessions| sessions.first().is_some_and(|session| session.viewers == 0)).await;
    term.resume(&host).await;
    term.send(&ViewerMessage::Close);
    term.until("the exit is told", |term| term.exit.is_some()).await;
    until_sessions(&mut link, |sessions| sessions.first().is_some_and(|session| session.exited.is_some()))
        .await;
    term.send(&ViewerMessage::Close);
    term.until("it is told", |term| term.error.as_ref().is_some_and(|error| error.code == "done")).await;
    until_sessions(&mut link, |sessions| sessions.is_empty()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_local_command_sees_the_uplinks_last_word_and_can_stop_the_host() {
    let mut host = Host::start().await;
    let mut term = host.open("cat").await;
    let mut uplink = host.link(LinkRole::Uplink).await;
    let status = UplinkStatus { state: "online".to_owned(), ..UplinkStatus::default() };
    uplink.send(&LinkMessage::Status(status.clone())).await;
    let mut cli = host.link(LinkRole::Cli).await;
    let told = loop {
        cli.send(&LinkMessage::Query).await;
        let Some(LinkAnswer::Status(told)) = cli.next().await else { panic!("no status") };
        if told.uplink.is_some() {
            break told;
        }
    };
    assert_eq!((told.uplink, told.pid, told.version.as_str()), (Some(status), std::process::id(), "test"));
    assert_eq!(told.sessions.len(), 1);
    cli.send(&LinkMessage::Stop).await;
    term.until("the shell is hung up", |term| term.exit.is_some() || term.error.is_some()).await;
    let ended = tokio::time::timeout(DEADLINE, host.task.take().unwrap()).await.unwrap().unwrap();
    assert!(ended.is_ok(), "{ended:?}");
    assert!(!host.link_socket().exists() && !host.viewer_socket().exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_host_does_not_take_the_sockets_of_the_first() {
    let host = Host::start().await;
    let config = rexec_agent::host::HostConfig {
        files_root: "/".into(),
        viewer_socket: host.viewer_socket(),
        link_socket: host.link_socket(),
        machine: host.machine,
        org: host.org,
        ticket_key: rexec_shared::ticket::PublicKey::parse(&host.signer.public_key()).unwrap(),
        version: "test".to_owned(),
    };
    let second = rexec_agent::host::run(config, tokio_util::sync::CancellationToken::new()).await;
    assert!(matches!(second, Err(rexec_agent::host::HostError::Socket(_))), "{second:?}");
    host.open("cat").await;
    assert!(host.stop().await.is_ok());
}
