#![expect(clippy::disallowed_methods, reason = "a test may ask for the time")]

use super::*;
use rexec_shared::limits::{FEED_STALE, HOLD_FOR_TUNNEL};
use rexec_shared::ticket::{Actor, ActorKind, Capability, Feed, Revocation, Signer};

type Answer = Result<Grant<u32>, CloseCode>;

struct Bench {
    signer: Signer,
    state: State<u32>,
    org: Uuid,
    machine: Uuid,
    session: Uuid,
    start: Now,
}

impl Bench {
    fn new() -> Self {
        let signer = Signer::from_pkcs8(&Signer::generate().unwrap()).unwrap();
        let key = PublicKey::parse(&signer.public_key()).unwrap();
        Self {
            signer,
            state: State::new(key),
            org: Uuid::from_u128(1),
            machine: Uuid::from_u128(2),
            session: Uuid::from_u128(3),
            start: Now { unix_ms: 1_000_000, instant: Instant::now() },
        }
    }

    fn at(&self, after: Duration) -> Now {
        Now {
            unix_ms: self.start.unix_ms + u64::try_from(after.as_millis()).unwrap(),
            instant: self.start.instant + after,
        }
    }

    fn up(&mut self, connection: u32) -> Result<Registered, CloseCode> {
        self.up_after(connection, 0)
    }

    fn up_after(&mut self, connection: u32, after: u64) -> Result<Registered, CloseCode> {
        let hello = Hello {
            v: 1,
            features: Vec::new(),
            machine: self.machine,
            agent_version: "1".into(),
            boot: Uuid::nil(),
            os: "linux".into(),
            arch: "x86_64".into(),
            hostname: "test".into(),
            transport_reason: None,
            sessions: Vec::new(),
            after,
        };
        let name = MachineName { org: self.org, machine: self.machine };
        let transport = Transport::Quic;
        self.state
            .handle_up(NewTunnel { name, connection, address: String::new(), transport, hello }, self.start)
    }

    fn claims(&self, issued: Duration, life: Duration) -> Claims {
        let iat = self.at(issued).unix_ms;
        Claims {
            jti: Uuid::new_v4(),
            aud: self.machine,
            org: self.org,
            usr: Uuid::from_u128(4),
            lgn: Uuid::from_u128(5),
            act: Actor { kind: ActorKind::Person, id: Uuid::from_u128(4), name: "A".into() },
            ses: self.session,
            caps: vec![Capability::Terminal],
            cnf: String::new(),
            iat,
            exp: iat + u64::try_from(life.as_millis()).unwrap(),
        }
    }

    fn attach(
        &mut self,
        ticket: String,
        claims: Claims,
        opening: bool,
        now: Now,
    ) -> oneshot::Receiver<Answer> {
        let (reply, answer) = oneshot::channel();
        let session = self.session;
        self.state
            .handle_attach(Attach { claims, ticket, session, opening, address: String::new(), reply }, now);
        answer
    }

    fn open(&mut self) -> oneshot::Receiver<Answer> {
        let claims = self.claims(Duration::ZERO, Duration::from_secs(60));
        self.attach(self.signer.ticket(&claims), claims, true, self.start)
    }

    fn resume(&mut self, opening: bool, now: Now) -> oneshot::Receiver<Answer> {
        let claims = self.claims(Duration::ZERO, Duration::from_secs(86_400));
        self.attach(self.signer.resume(&claims), claims, opening, now)
    }

    fn feed(&mut self, seq: u64, principal: Option<String>, now: Now) -> Result<(), TicketError> {
        let entries =
            principal.map(|principal| Revocation { principal, at: now.unix_ms }).into_iter().collect();
        let token = self.signer.feed(&Feed { org: self.org, seq, issued: now.unix_ms, entries });
        self.state.handle_feed(self.org, &token, now.instant)
    }
}

fn answered(receiver: &mut oneshot::Receiver<Answer>) -> Answer {
    receiver.try_recv().expect("an answer")
}

#[test]
fn tunnel_numbers_grow_even_when_the_clock_stands_or_runs_back() {
    let mut bench = Bench::new();
    let first = bench.up(1).unwrap().number;
    let second = bench.up(2).unwrap().number;
    bench.start.unix_ms -= 500;
    let third = bench.up(3).unwrap().number;
    assert!(first < second && second < third, "{first} {second} {third}");
}

#[test]
fn a_displaced_tunnels_end_says_nothing_of_the_newer_one() {
    let mut bench = Bench::new();
    let old = bench.up(1).unwrap();
    let mut stream = answered(&mut bench.open()).unwrap();
    let new = bench.up(2).unwrap();
    assert_eq!(old.orders.borrow().close, Some(CloseCode::Displaced));
    assert_eq!(stream.cut.try_recv(), Ok(CloseCode::TunnelLost));
    bench.state.handle_down(bench.machine, old.number, "late".into());
    assert_eq!(answered(&mut bench.open()).unwrap().connection, 2);
    bench.state.handle_down(bench.machine, new.number, "gone".into());
    assert_eq!(bench.state.tunnels(), 0);
}

#[test]
fn a_viewer_held_goes_on_when_the_tunnel_comes_up() {
    let mut bench = Bench::new();
    let mut answer = bench.open();
    assert!(answer.try_recv().is_err(), "held");
    assert_eq!(bench.state.held(), 1);
    let _tunnel = bench.up(7).unwrap();
    assert_eq!(answered(&mut answer).unwrap().connection, 7);
    assert_eq!(bench.state.held(), 0);
}

#[test]
fn a_viewer_held_too_long_is_told_that_the_machine_is_offline() {
    let mut bench = Bench::new();
    let mut answer = bench.open();
    let deadline = bench.state.poll_timeout().unwrap();
    assert_eq!(deadline, bench.start.instant + HOLD_FOR_TUNNEL);
    bench.state.handle_timeout(deadline);
    assert_eq!(answered(&mut answer).unwrap_err(), CloseCode::MachineOffline);
}

#[test]
fn bu_04_a_ticket_is_good_once_even_while_its_viewer_is_held() {
    let mut bench = Bench::new();
    let claims = bench.claims(Duration::ZERO, Duration::from_secs(60));
    let ticket = bench.signer.ticket(&claims);
    let _held = bench.attach(ticket.clone(), claims.clone(), true, bench.start);
    let mut second = bench.attach(ticket, claims, true, bench.start);
    assert_eq!(answered(&mut second).unwrap_err(), CloseCode::TicketUsed);
}

#[test]
fn a_machine_of_another_organisation_is_not_opened() {
    let mut bench = Bench::new();
    let _tunnel = bench.up(1).unwrap();
    let claims = Claims { org: Uuid::from_u128(99), ..bench.claims(Duration::ZERO, Duration::from_secs(60)) };
    let mut answer = bench.attach(bench.signer.ticket(&claims), claims, true, bench.start);
    assert_eq!(answered(&mut answer).unwrap_err(), CloseCode::BadTicket);
}

#[test]
fn br_07_without_a_fresh_feed_nothing_new_opens_and_resumes_go_on() {
    let mut bench = Bench::new();
    let _tunnel = bench.up(1).unwrap();
    bench.feed(1, None, bench.start).unwrap();
    let late = bench.at(FEED_STALE + Duration::from_secs(1));
    let claims = bench.claims(FEED_STALE, Duration::from_secs(60));
    let mut opened = bench.attach(bench.signer.ticket(&claims), claims, true, late);
    assert_eq!(answered(&mut opened).unwrap_err(), CloseCode::FeedStale);
    assert!(answered(&mut bench.resume(false, late)).is_ok());

    bench.feed(2, None, late).unwrap();
    let claims = bench.claims(FEED_STALE, Duration::from_secs(60));
    let mut opened = bench.attach(bench.signer.ticket(&claims), claims, true, late);
    assert!(answered(&mut opened).is_ok(), "a fresh feed opens the door again");
}

#[test]
fn a_resume_capability_opens_nothing_new() {
    let mut bench = Bench::new();
    let _tunnel = bench.up(1).unwrap();
    assert_eq!(answered(&mut bench.resume(true, bench.start)).unwrap_err(), CloseCode::BadTicket);
    assert!(answered(&mut bench.resume(false, bench.start)).is_ok());
}

#[test]
fn bu_03_a_revocation_cuts_the_streams_it_concerns_and_those_held_and_no_others() {
    for principal in [format!("user:{}", Uuid::from_u128(4)), format!("login:{}", Uuid::from_u128(5))] {
        let mut bench = Bench::new();
        let tunnel = bench.up(1).unwrap();
        let mut cut = answered(&mut bench.open()).unwrap();
        let other = Claims {
            usr: Uuid::from_u128(40),
            lgn: Uuid::from_u128(50),
            ..bench.claims(Duration::ZERO, Duration::from_secs(60))
        };
        let mut kept =
            answered(&mut bench.attach(bench.signer.ticket(&other), other, true, bench.start)).unwrap();
        bench.feed(1, Some(principal.clone()), bench.start).unwrap();
        assert_eq!(cut.cut.try_recv(), Ok(CloseCode::Revoked), "{principal}");
        assert!(kept.cut.try_recv().is_err(), "{principal}: the other goes on");
        assert!(tunnel.orders.borrow().close.is_none());
        assert!(tunnel.orders.borrow().feed.is_some(), "the agent gets the feed");
        assert_eq!(answered(&mut bench.open()).unwrap_err(), CloseCode::Revoked);
    }
}

#[test]
fn bu_03_a_revocation_ends_a_wait() {
    let mut bench = Bench::new();
    let mut answer = bench.open();
    bench.feed(1, Some(format!("login:{}", Uuid::from_u128(5))), bench.start).unwrap();
    assert_eq!(answered(&mut answer).unwrap_err(), CloseCode::Revoked);
}

#[test]
fn a_revoked_machine_is_closed_and_does_not_come_back() {
    let mut bench = Bench::new();
    let tunnel = bench.up(1).unwrap();
    let mut stream = answered(&mut bench.open()).unwrap();
    bench.feed(1, Some(format!("machine:{}", bench.machine)), bench.start).unwrap();
    assert_eq!(tunnel.orders.borrow().close, Some(CloseCode::Revoked));
    assert_eq!(stream.cut.try_recv(), Ok(CloseCode::Revoked));
    assert_eq!(bench.up(2).unwrap_err(), CloseCode::Revoked);
    assert_eq!(bench.state.tunnels(), 0);
}

#[test]
fn a_feed_that_is_old_or_not_controls_changes_nothing() {
    let mut bench = Bench::new();
    bench.feed(5, None, bench.start).unwrap();
    assert_eq!(bench.feed(5, None, bench.start), Err(TicketError::OldFeed));
    let stranger = Signer::from_pkcs8(&Signer::generate().unwrap()).unwrap();
    let forged = stranger.feed(&Feed { org: bench.org, seq: 9, issued: 0, entries: Vec::new() });
    assert_eq!(bench.state.handle_feed(bench.org, &forged, bench.start.instant), Err(TicketError::Signature));
    let foreign = bench.signer.feed(&Feed { org: Uuid::nil(), seq: 9, issued: 0, entries: Vec::new() });
    assert_eq!(bench.state.handle_feed(bench.org, &foreign, bench.start.instant), Err(TicketError::OldFeed));
}

#[test]
fn many_tunnels_are_handed_a_feed_part_by_part_and_the_newest_in_the_end_but_a_revocation_waits_for_nobody() {
    let mut bench = Bench::new();
    let revoked = Uuid::from_u128(10_000 - 1);
    let mut tunnels = Vec::new();
    for n in 0..1_000u32 {
        bench.machine = Uuid::from_u128(10_000 - u128::from(n));
        tunnels.push(bench.up(n).unwrap());
    }
    let have = |tunnels: &[Registered]| {
        tunnels.iter().filter(|tunnel| tunnel.orders.borrow().feed.is_some()).count()
    };
    bench.feed(1, None, bench.start).unwrap();
    assert_eq!(have(&tunnels), FEEDS_AT_ONCE);
    bench.feed(2, Some(format!("machine:{revoked}")), bench.start).unwrap();
    assert_eq!(have(&tunnels), FEEDS_AT_ONCE, "the second does not hasten the first");
    let closed = |tunnels: &[Registered]| {
        tunnels.iter().filter(|tunnel| tunnel.orders.borrow().close.is_some()).count()
    };
    assert_eq!(closed(&tunnels), 1, "at once");
    let mut parts = 0;
    while let Some(at) = bench.state.poll_timeout() {
        bench.state.handle_timeout(at);
        parts += 1;
    }
    assert!(parts as usize <= 2 * tunnels.len() / FEEDS_AT_ONCE, "{parts}");
    assert!(FEED_PAUSE * parts < Duration::from_secs(1));
    let newest = bench.state.orgs[&bench.org].feed.clone().unwrap();
    let stale = tunnels.iter().map(|tunnel| tunnel.orders.borrow().clone());
    let stale =
        stale.filter(|orders| orders.close.is_none() && orders.feed.as_ref() != Some(&newest)).count();
    assert_eq!(stale, 0);
}

#[test]
fn streams_per_tunnel_are_bounded_and_ended_ones_make_room() {
    let mut bench = Bench::new();
    let _tunnel = bench.up(1).unwrap();
    let mut open: Vec<_> =
        (0..STREAMS_PER_TUNNEL).map(|_| answered(&mut bench.resume(false, bench.start)).unwrap()).collect();
    assert_eq!(answered(&mut bench.resume(false, bench.start)).unwrap_err(), CloseCode::LimitReached);
    open.pop();
    assert!(answered(&mut bench.resume(false, bench.start)).is_ok());
}

#[test]
fn a_draining_broker_takes_nothing_new_and_tells_its_agents() {
    let mut bench = Bench::new();
    let tunnel = bench.up(1).unwrap();
    let mut stream = answered(&mut bench.open()).unwrap();
    let leaving = Leaving { grace: Duration::from_secs(3), elsewhere: true };
    bench.state.handle_drain(leaving.grace, leaving.elsewhere);
    assert_eq!(tunnel.orders.borrow().drain, Some(leaving));
    assert!(stream.cut.try_recv().is_err(), "streams keep their grace");
    assert_eq!(answered(&mut bench.open()).unwrap_err(), CloseCode::Draining);
    assert_eq!(bench.up(2).unwrap_err(), CloseCode::Draining);
    bench.state.close_part(CloseCode::Draining, 1);
    assert_eq!(stream.cut.try_recv(), Ok(CloseCode::Draining));
    let refusals = std::iter::from_fn(|| bench.state.poll_event())
        .filter(|event| matches!(event, FromBroker::Stream { .. } | FromBroker::DialRefused { .. }));
    assert_eq!(refusals.count(), 0, "who is only early is nothing for the audit");
}

#[test]
fn tunnels_are_closed_part_by_part_until_none_is_left() {
    let mut bench = Bench::new();
    let mut tunnels = Vec::new();
    for n in 0..50u32 {
        bench.machine = Uuid::from_u128(u128::from(n) + 100);
        tunnels.push(bench.up(n).unwrap());
    }
    let mut left = Vec::new();
    for parts in (1..=20).rev() {
        bench.state.close_part(CloseCode::Draining, parts);
        left.push(bench.state.tunnels());
    }
    assert_eq!(left.last(), Some(&0));
    assert!(left.iter().zip(left.iter().skip(1)).all(|(before, after)| before - after <= 3), "{left:?}");
}

#[test]
fn a_viewer_that_left_while_it_was_held_gets_no_stream_and_keeps_no_place() {
    let mut bench = Bench::new();
    for _ in 0..200 {
        drop(bench.resume(false, bench.start));
    }
    let mut stays = bench.resume(false, bench.start);
    assert_eq!(bench.state.held(), 1, "those that left made room");
    let _tunnel = bench.up(1).unwrap();
    assert!(answered(&mut stays).is_ok());
    let told = std::iter::from_fn(|| bench.state.poll_event());
    assert_eq!(told.filter(|event| matches!(event, FromBroker::Stream { .. })).count(), 0);
}

#[test]
fn control_is_told_why_a_stream_was_refused_and_nothing_of_one_that_does_not_stand_yet() {
    let mut bench = Bench::new();
    let _tunnel = bench.up(1).unwrap();
    let _open = bench.open();
    let _refused = bench.resume(true, bench.start);
    let outcomes: Vec<_> = std::iter::from_fn(|| bench.state.poll_event())
        .filter_map(|event| if let FromBroker::Stream { outcome, .. } = event { Some(outcome) } else { None })
        .collect();
    assert_eq!(outcomes, [Some(CloseCode::BadTicket)]);
}

fn events(bench: &mut Bench) -> Vec<FromBroker> {
    std::iter::from_fn(|| bench.state.poll_event()).collect()
}

#[test]
fn control_is_told_anew_all_that_stands_and_nothing_that_does_not() {
    let mut bench = Bench::new();
    let tunnel = bench.up(1).unwrap();
    let machine = bench.machine;
    bench.state.handle_presence(machine, tunnel.number, Vec::new(), Some(1.0));
    bench.machine = Uuid::from_u128(77);
    let gone = bench.up(2).unwrap();
    bench.state.handle_down(bench.machine, gone.number, "gone".into());
    bench.state.handle_retell();
    let told = events(&mut bench);
    assert_eq!(told[0], FromBroker::Standing { machines: vec![machine] });
    assert!(
        matches!(told[1], FromBroker::TunnelUp { machine: up, tunnel: number, .. } if up == machine && number == tunnel.number)
    );
    assert!(matches!(told[2], FromBroker::Presence { rtt_ms: Some(1.0), .. }));
    assert_eq!(told.len(), 3, "{told:?}");
}

#[test]
fn a_tunnels_number_is_above_what_its_agent_had_elsewhere_and_no_machine_moves_anothers() {
    let mut bench = Bench::new();
    let first = bench.up_after(1, 0).unwrap().number;
    let ahead = first + 1_000_000;
    assert_eq!(bench.up_after(2, ahead).unwrap().number, ahead + 1);
    assert!(
        bench.up_after(3, 0).unwrap().number > ahead + 1,
        "an uplink that was started anew knows nothing"
    );
    bench.machine = Uuid::from_u128(77);
    let other = bench.up_after(4, 0).unwrap().number;
    assert!(other < ahead, "{other}");
    let lied = bench.up_after(5, u64::MAX).unwrap().number;
    assert!(lied < ahead, "{lied}");
}

#[test]
fn a_machine_that_is_elsewhere_is_not_waited_for_and_comes_back_as_any_other() {
    let mut bench = Bench::new();
    let tunnel = bench.up(1).unwrap();
    let mut stream = answered(&mut bench.open()).unwrap();
    let now = bench.start.instant;
    bench.state.handle_disconnect(bench.machine, CloseCode::Displaced, Some(tunnel.number - 1), now);
    assert!(stream.cut.try_recv().is_err(), "a newer tunnel than control knew of");
    bench.state.handle_disconnect(bench.machine, CloseCode::Displaced, Some(tunnel.number), now);
    assert_eq!(tunnel.orders.borrow().close, Some(CloseCode::Displaced));
    assert_eq!(stream.cut.try_recv(), Ok(CloseCode::TunnelLost), "the viewer comes again");
    assert_eq!(answered(&mut bench.open()).unwrap_err(), CloseCode::MachineOffline, "at once");
    assert!(!events(&mut bench).iter().any(|event| matches!(event, FromBroker::TunnelDown { .. })));
    let _back = bench.up(2).unwrap();
    assert!(answered(&mut bench.open()).is_ok());
}

#[test]
fn beside_other_brokers_nobody_waits_long() {
    let mut bench = Bench::new();
    bench.state.handle_others(true);
    let mut waits = bench.resume(false, bench.start);
    assert_eq!(bench.state.held(), 1);
    let due = bench.state.poll_timeout().unwrap();
    assert_eq!(due - bench.start.instant, HOLD_BESIDE_OTHERS);
    bench.state.handle_timeout(due);
    assert_eq!(answered(&mut waits).unwrap_err(), CloseCode::MachineOffline);
}
