//! Who gets in: tickets, proofs and roles, checked at the host whatever came before it (THREATS BU-02, BU-04, BR-01, ST-05).

use bytes::{Bytes, BytesMut};
use rexec_shared::message::{SignalName, Size, ViewerMessage};
use rexec_shared::proof::ViewerKey;
use rexec_shared::ticket::{Capability, Claims, Now, PublicKey, Signer, Verifier};
use rexec_shared::tunnel::{LinkAnswer, LinkMessage, LinkRole};
use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;
use uuid::Uuid;

use crate::support::{DEADLINE, Host, Term, present, shell, unix_ms, until};

/// Presents a permission for a new session; what the host says to it, and that no shell was started.
async fn presented(host: &Host, make: impl FnOnce(&Host, Claims) -> String) -> String {
    let started = host.file("started");
    let mut term = Term::new(Uuid::new_v4(), shell(&format!("touch {}", started.display())));
    let claims = host.claims(term.session(), &term.viewer.confirmation(), &[Capability::Terminal]);
    let permission = make(host, claims);
    term.connect(host, &permission, true).await;
    let code = term.refused().await;
    assert!(sessions(host).await.is_empty(), "a session was opened");
    assert!(!started.exists(), "a shell was started");
    code
}

async fn sessions(host: &Host) -> Vec<Uuid> {
    let mut link = host.link(LinkRole::Cli).await;
    link.send(&LinkMessage::Query).await;
    let Some(LinkAnswer::Status(status)) = link.next().await else { panic!("no status") };
    status.sessions.iter().map(|session| session.session).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bu_04_no_bad_ticket_opens_anything() {
    let host = Host::start().await;
    let other = Signer::from_pkcs8(&Signer::generate().unwrap()).unwrap();
    let sign = |host: &Host, claims: Claims| host.signer.ticket(&claims);
    assert_eq!(presented(&host, |_, _| String::new()).await, "bad_ticket");
    assert_eq!(presented(&host, |_, _| "rxt1.e30.e30".to_owned()).await, "bad_ticket");
    assert_eq!(presented(&host, |_, claims| other.ticket(&claims)).await, "bad_ticket");
    assert_eq!(
        presented(&host, |host, claims| sign(host, Claims { aud: Uuid::new_v4(), ..claims })).await,
        "bad_ticket"
    );
    assert_eq!(
        presented(&host, |host, claims| sign(host, Claims { org: Uuid::new_v4(), ..claims })).await,
        "bad_ticket"
    );
    assert_eq!(
        presented(&host, |host, claims| sign(host, Claims { ses: Uuid::new_v4(), ..claims })).await,
        "bad_ticket"
    );
    let past = |claims: Claims| Claims { iat: claims.iat - 120_000, exp: claims.iat - 61_000, ..claims };
    assert_eq!(presented(&host, |host, claims| sign(host, past(claims))).await, "ticket_expired");
    let future = |claims: Claims| Claims { iat: claims.iat + 120_000, exp: claims.iat + 180_000, ..claims };
    assert_eq!(presented(&host, |host, claims| sign(host, future(claims))).await, "bad_ticket");
    let long = |claims: Claims| Claims { exp: claims.iat + 3_600_000, ..claims };
    assert_eq!(presented(&host, |host, claims| sign(host, long(claims))).await, "bad_ticket");
    assert_eq!(presented(&host, |host, claims| host.signer.resume(&claims)).await, "bad_ticket");
    assert_eq!(
        presented(&host, |host, claims| sign(host, claims).replacen("rxt1", "rxr1", 1)).await,
        "bad_ticket"
    );
    assert_eq!(presented(&host, |host, claims| edited(&sign(host, claims))).await, "bad_ticket");
    let view = |claims: Claims| Claims { caps: vec![Capability::View], ..claims };
    assert_eq!(presented(&host, |host, claims| sign(host, view(claims))).await, "forbidden");
    let exec = |claims: Claims| Claims { caps: vec![Capability::Exec, Capability::FilesRead], ..claims };
    assert_eq!(presented(&host, |host, claims| sign(host, exec(claims))).await, "forbidden");
}

/// One character in the middle of the claims changed.
fn edited(ticket: &str) -> String {
    let at = ticket.len() / 3;
    let replacement = if &ticket[at..=at] == "A" { "B" } else { "A" };
    format!("{}{replacement}{}", &ticket[..at], &ticket[at + 1..])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn br_01_a_ticket_is_good_once() {
    let host = Host::start().await;
    let mut term = Term::new(Uuid::new_v4(), shell("cat"));
    let ticket = host.ticket(term.session(), &term.viewer.confirmation());
    term.connect(&host, &ticket, true).await;
    term.opened().await;
    term.cut();
    term.connect(&host, &ticket, false).await;
    assert_eq!(term.refused().await, "ticket_used");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bu_04_of_64_that_present_one_ticket_at_once_exactly_one_gets_in() {
    let host = std::sync::Arc::new(Host::start().await);
    let session = Uuid::new_v4();
    let key = std::sync::Arc::new(ViewerKey::generate().unwrap());
    let ticket = host.ticket(session, &key.confirmation());
    let mut open = BytesMut::new();
    let open_frame = rexec_shared::message::Open {
        v: 1,
        features: Vec::new(),
        ticket,
        viewer: Uuid::new_v4(),
        attempt: 0,
        session,
        input_seq: 0,
        spec: shell("cat"),
    };
    ViewerMessage::Open(open_frame).encode(&mut open);
    let open = open.freeze();
    let presenters: Vec<_> = (0..64)
        .map(|_| {
            let (socket, open, key) = (host.viewer_socket(), open.clone(), key.clone());
            tokio::spawn(async move { present(socket, &open, &key).await.map(drop) })
        })
        .collect();
    let mut attached = 0;
    for presenter in presenters {
        match presenter.await.unwrap() {
            Ok(()) => attached += 1,
            Err(code) => assert_eq!(code, "ticket_used"),
        }
    }
    assert_eq!(attached, 1);
    assert_eq!(sessions(&host).await, [session]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn st_05_a_ticket_without_its_key_is_worth_nothing() {
    let host = Host::start().await;
    let owner = ViewerKey::generate().unwrap();
    let mut thief = Term::new(Uuid::new_v4(), shell("cat"));
    let ticket = host.ticket(thief.session(), &owner.confirmation());
    thief.connect(&host, &ticket, true).await;
    assert_eq!(thief.refused().await, "bad_ticket");
    assert!(sessions(&host).await.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn st_05_a_viewer_id_serves_only_the_key_that_used_it_first() {
    let host = Host::start().await;
    let term = host.open("cat").await;
    let mut impostor = Term::with_id(term.viewer.id(), term.session());
    let ticket = host.ticket(term.session(), &impostor.viewer.confirmation());
    impostor.connect(&host, &ticket, false).await;
    assert_eq!(impostor.refused().await, "forbidden");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_of_another_user_is_not_there() {
    let host = Host::start().await;
    let term = host.open("cat").await;
    for open in [false, true] {
        let mut stranger = Term::new(term.session(), shell("cat"));
        let claims = host.claims(term.session(), &stranger.viewer.confirmation(), &[Capability::Terminal]);
        let ticket = host.signer.ticket(&Claims { usr: Uuid::new_v4(), ..claims });
        stranger.connect(&host, &ticket, open).await;
        assert_eq!(stranger.refused().await, "session_not_found");
    }
    let mut nowhere = Term::new(Uuid::new_v4(), shell("cat"));
    let ticket = host.ticket(nowhere.session(), &nowhere.viewer.confirmation());
    nowhere.connect(&host, &ticket, false).await;
    assert_eq!(nowhere.refused().await, "session_not_found");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bu_02_who_may_only_look_can_do_nothing() {
    let host = Host::start().await;
    let mut writer = host.open("stty -echo; echo ready; trap 'echo signalled' USR1 WINCH; cat").await;
    writer.until_seen("ready").await;
    let size = Size { cols: 99, rows: 9 };
    let acts = [
        ViewerMessage::Input { seq: 0, bytes: Bytes::from_static(b"typed\n") },
        ViewerMessage::Resize(size),
        ViewerMessage::Signal(SignalName::Usr1),
        ViewerMessage::Eof,
        ViewerMessage::TakeLease(size),
        ViewerMessage::Close,
    ];
    for act in acts {
        let mut viewer = Term::new(writer.session(), shell("true"));
        let ticket = host.view_ticket(writer.session(), &viewer.viewer.confirmation());
        viewer.connect(&host, &ticket, false).await;
        viewer.opened().await;
        viewer.send(&act);
        viewer.until("it is thrown out", |term| term.error.is_some()).await;
        assert_eq!(viewer.error.unwrap().code, "forbidden", "{act:?}");
    }
    writer.type_text("still here\n");
    writer.until_seen("still here\r\n").await;
    assert_eq!(String::from_utf8(writer.seen).unwrap(), "ready\r\nstill here\r\n");
    assert!(writer.sizes.is_empty() && writer.holder == Some(writer.viewer.id()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_may_only_look_sees_what_happens() {
    let host = Host::start().await;
    let mut writer = host.open("cat").await;
    let mut viewer = Term::new(writer.session(), shell("true"));
    let ticket = host.view_ticket(writer.session(), &viewer.viewer.confirmation());
    viewer.connect(&host, &ticket, false).await;
    viewer.opened().await;
    writer.type_text("look\n");
    writer.until_seen("look\r\nlook\r\n").await;
    viewer.until_seen("look\r\nlook\r\n").await;
    assert_eq!(viewer.holder, Some(writer.viewer.id()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revocation_cuts_attached_viewers_and_stops_resuming() {
    let host = Host::start().await;
    let mut term = host.open("cat").await;
    let mut link = host.link(LinkRole::Uplink).await;
    let principal = format!("user:{}", host.user);
    link.send(&LinkMessage::Feed { token: host.feed(1, &[principal]) }).await;
    term.until("it is cut off", |term| term.error.is_some()).await;
    assert_eq!(term.error.clone().unwrap().code, "revoked");
    // A capability issued before, whenever it comes.
    let before = host.claims(term.session(), &term.viewer.confirmation(), &[Capability::Terminal]);
    let before = Claims { iat: before.iat - 60_000, exp: before.exp + 86_400_000, ..before };
    term.connect(&host, &host.signer.resume(&before), false).await;
    assert_eq!(term.refused().await, "revoked");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revoked_machine_hangs_its_sessions_up_and_stops() {
    let mut host = Host::start().await;
    let pid = host.file("pid");
    let mut term = host.open(&format!("echo $$ > {}; echo ready; cat", pid.display())).await;
    term.until_seen("ready").await;
    let mut link = host.link(LinkRole::Uplink).await;
    let principal = format!("machine:{}", host.machine);
    link.send(&LinkMessage::Feed { token: host.feed(1, &[principal]) }).await;
    term.until("it is cut off", |term| term.error.is_some()).await;
    assert_eq!(term.error.unwrap().code, "revoked");
    let ended = tokio::time::timeout(DEADLINE, host.task.take().unwrap()).await.unwrap().unwrap();
    assert!(matches!(ended, Err(rexec_agent::host::HostError::Revoked)), "{ended:?}");
    let process = format!("/proc/{}", std::fs::read_to_string(pid).unwrap().trim());
    until("the shell is gone", || !std::path::Path::new(&process).exists()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_first_frame_gets_an_error_and_nothing_else() {
    let host = Host::start().await;
    for bytes in [&b"\x80\x08........"[..], b"\x01\x02{}", b"\xff\xff\xff\xff", b"\x01\xff\xff\x03"] {
        let mut stream = UnixStream::connect(host.viewer_socket()).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        assert_eq!(Term::error_on(stream).await, "protocol_error", "{bytes:?}");
    }
}

/// Makes the `n`th ticket of somebody who has none: forged, edited, of another machine, or used up.
fn bad_ticket(host: &Host, stranger: &Signer, used: &str, claims: Claims, n: usize) -> String {
    match n % 4 {
        0 => stranger.ticket(&claims),
        1 => host.signer.ticket(&Claims { aud: Uuid::from_u128(n as u128), ..claims }),
        2 => used.to_owned(),
        _ => {
            let ticket = host.signer.ticket(&claims);
            let at = 5 + n % (ticket.len() - 5);
            let other = if &ticket[at..=at] == "A" { "B" } else { "A" };
            format!("{}{other}{}", &ticket[..at], &ticket[at + 1..])
        }
    }
}

/// A broker that is taken over tries it 10,000 times. Each ticket is shown to the verifier that the host has, every fifth to the host itself.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn br_01_ten_thousand_tickets_nobody_signed_for_this_open_no_shell() {
    let host = Host::start().await;
    let stranger = Signer::from_pkcs8(&Signer::generate().unwrap()).unwrap();
    let key = ViewerKey::generate().unwrap();
    let session = Uuid::new_v4();
    let used = host.ticket(session, &key.confirmation());
    let now = || Now { unix_ms: unix_ms(), instant: std::time::Instant::now() };
    let public = PublicKey::parse(&host.signer.public_key()).unwrap();
    let mut verifier = Verifier::new(public, host.org, now().instant);
    verifier.check(&used, host.machine, session, true, now()).unwrap();
    let open = |ticket: String, session: Uuid, started: &std::path::Path| {
        let mut out = BytesMut::new();
        let spec = shell(&format!("touch {}", started.display()));
        let (v, features, viewer, attempt, input_seq) = (1, Vec::new(), Uuid::new_v4(), 0, 0);
        let open =
            rexec_shared::message::Open { v, features, ticket, viewer, attempt, session, input_seq, spec };
        ViewerMessage::Open(open).encode(&mut out);
        out
    };
    let first = open(used.clone(), session, &host.file("honest"));
    let (mut honest, _) = present(host.viewer_socket(), &first, &key).await.unwrap();
    let started = host.file("started");
    for n in 0..10_000 {
        let claims = host.claims(session, &key.confirmation(), &[Capability::Terminal]);
        let ticket = bad_ticket(&host, &stranger, &used, claims, n);
        let checked = verifier.check(&ticket, host.machine, session, true, now());
        assert!(checked.is_err(), "{ticket}");
        if n % 5 == 0 {
            let code = present(host.viewer_socket(), &open(ticket, session, &started), &key).await.map(drop);
            assert!(
                code.as_ref().is_err_and(|code| code == "bad_ticket" || code == "ticket_used"),
                "{code:?}"
            );
        }
    }
    assert_eq!(sessions(&host).await, [session], "the one that was opened with a ticket");
    assert!(!started.exists(), "a shell was started");
    honest.shutdown().await.unwrap();
}
