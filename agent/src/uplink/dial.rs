//! When to dial, when to wait, when to stop: the uplink's decisions, without a socket or a clock.
//!
//! | what ended | then |
//! |---|---|
//! | a tunnel that stood, by draining, a restarted broker or a dead path | dial within half a second, once per stable uptime |
//! | dials to a broker that drains, and for half a minute after it was said to | flat pauses of 100 to 500 ms |
//! | a broker that said no (`overloaded`, `internal`, …), however long a tunnel stood before | 1 to 5 s, or more by the backoff |
//! | a dial, or anything for the second time in a row | full-jitter backoff |
//! | `revoked`, `displaced`, `wrong_installation` | stop, and say why |
//!
//! Invariant: a machine that stopped never dials again by itself.
#![deny(clippy::disallowed_methods)]

use std::time::{Duration, Instant};

use rexec_shared::backoff::Backoff;
use rexec_shared::close::CloseCode;

/// First ceiling of the backoff: a broker that restarts is back within a second.
const BASE: Duration = Duration::from_millis(250);
/// Last ceiling: an hour's outage ends within half a minute of its end, and 10,000 agents make 700 dials a second at most.
const CAP: Duration = Duration::from_secs(30);
/// First dial after a lost tunnel, ceiling: agents of a broker that died or drains do not come back all at once. They notice by pings that are
/// spread over 1 to 3 s already, so little is added, and one alone is back within a second.
const FIRST: Duration = Duration::from_millis(500);
/// Pauses between dials while a broker goes away: it says so, and its successor is near.
const DRAINING: [Duration; 2] = [Duration::from_millis(100), Duration::from_millis(500)];
/// For how long that is believed.
const DRAINING_FOR: Duration = Duration::from_secs(30);
/// Least pause after a broker that is there and said no: it closes all its tunnels when it is overloaded, and must not have them back at once.
const REFUSED: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(5)];
/// Uptime that forgets failures.
const STABLE: Duration = Duration::from_secs(10);

/// How a dial or a tunnel ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The broker never answered, or not as ours does.
    Unreachable,
    /// The path died, or the broker restarted, under a tunnel that stood.
    Lost,
    /// The broker closed with a code; `None` is a code of a newer broker.
    Closed(Option<CloseCode>),
}

/// Why no dial follows, ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopReason {
    /// The machine was removed or revoked.
    Revoked,
    /// Another agent with this machine's key took over.
    Displaced,
    /// The broker belongs to another installation.
    WrongInstallation,
}

impl StopReason {
    /// What a person is told.
    pub fn explain(self) -> &'static str {
        match self {
            Self::Revoked => {
                "this machine was removed from Rexec; to add it again: `rexec-agent stop`, `rexec-agent unregister --local`, `rexec-agent register --name NAME`"
            }
            Self::Displaced => {
                "another agent with this machine's identity took over (a copy of this machine, or of its files?); end the other one and restart this one, or register one of them anew"
            }
            Self::WrongInstallation => {
                "the broker belongs to another installation than the one this machine is registered with; `rexec-agent stop`, `rexec-agent unregister --local`, then register anew"
            }
        }
    }

    fn of(code: CloseCode) -> Option<Self> {
        match code {
            CloseCode::Revoked => Some(Self::Revoked),
            CloseCode::Displaced => Some(Self::Displaced),
            CloseCode::WrongInstallation => Some(Self::WrongInstallation),
            CloseCode::Done
            | CloseCode::ProtocolError
            | CloseCode::BadTicket
            | CloseCode::TicketExpired
            | CloseCode::TicketUsed
            | CloseCode::Forbidden
            | CloseCode::MachineOffline
            | CloseCode::TunnelLost
            | CloseCode::Draining
            | CloseCode::SessionNotFound
            | CloseCode::LimitReached
            | CloseCode::TooSlow
            | CloseCode::Overloaded
            | CloseCode::Internal
            | CloseCode::FeedStale
            | CloseCode::HostUnavailable
            | CloseCode::PortClosed => None,
        }
    }
}

/// What to do now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Dial.
    Dial,
    /// Nothing before this time.
    WaitUntil(Instant),
    /// Nothing: a dial or a tunnel is under way.
    Busy,
    /// Nothing, ever.
    Stop(StopReason),
}

#[derive(Debug, Clone, Copy)]
enum State {
    Waiting { until: Instant },
    Dialling,
    Online,
    Stopped(StopReason),
}

/// The dial decisions of one uplink.
#[derive(Debug)]
pub struct Dialler {
    state: State,
    backoff: Backoff,
    /// Whether a lost tunnel may be dialled again at once; spent until uptime was stable again.
    quick: bool,
    online_since: Option<Instant>,
    /// Until when a broker that said it goes away is expected to have a successor.
    draining_until: Option<Instant>,
}

impl Dialler {
    /// Dials at once.
    pub fn new(now: Instant) -> Self {
        let backoff = Backoff::new(BASE, CAP, STABLE);
        Self {
            state: State::Waiting { until: now },
            backoff,
            quick: true,
            online_since: None,
            draining_until: None,
        }
    }

    /// What to do now; a `Dial` is under way from here on.
    pub fn poll(&mut self, now: Instant) -> Action {
        match self.state {
            State::Waiting { until } if now < until => Action::WaitUntil(until),
            State::Waiting { .. } => {
                self.state = State::Dialling;
                Action::Dial
            }
            State::Dialling | State::Online => Action::Busy,
            State::Stopped(reason) => Action::Stop(reason),
        }
    }

    /// The broker welcomed us.
    pub fn handle_online(&mut self, now: Instant) {
        if let State::Dialling = self.state {
            self.state = State::Online;
            self.online_since = Some(now);
            self.backoff.succeeded(now);
        }
    }

    /// The dial or the tunnel ended. `random` is a uniform draw from 0..=`u32::MAX`.
    pub fn handle_end(&mut self, end: End, now: Instant, random: u32) {
        if let State::Stopped(_) = self.state {
            return;
        }
        if let End::Closed(Some(code)) = end
            && let Some(reason) = StopReason::of(code)
        {
            self.handle_stop(reason);
            return;
        }
        let stood = self.online_since.take();
        if stood.is_some_and(|since| now.saturating_duration_since(since) >= STABLE) {
            self.quick = true;
        }
        let delay = self.delay(end, stood.is_some(), now, random);
        self.state = State::Waiting { until: now + delay };
    }

    fn delay(&mut self, end: End, stood: bool, now: Instant, random: u32) -> Duration {
        if stood && self.quick && is_worth_a_quick_dial(end) {
            self.quick = false;
            // It counts, though nobody waits for it.
            self.backoff.failed(now, random);
            if end == End::Closed(Some(CloseCode::Draining)) {
                self.draining_until = Some(now + DRAINING_FOR);
            }
            return part(FIRST, random);
        }
        let is_refusal = is_refusal(end);
        if !is_refusal && !stood && self.draining_until.is_some_and(|until| now < until) {
            return between(DRAINING, random);
        }
        let delay = self.backoff.failed(now, random);
        if is_refusal { delay.max(between(REFUSED, random)) } else { delay }
    }

    /// Control says that this machine is no more.
    pub fn handle_stop(&mut self, reason: StopReason) {
        self.state = State::Stopped(reason);
    }

    /// The machine woke, the network changed, or a certificate came: what waits need wait no longer.
    pub fn handle_wake(&mut self, now: Instant) {
        self.backoff.reset();
        if let State::Waiting { until } = &mut self.state {
            *until = (*until).min(now);
        }
    }
}

/// A uniformly drawn part of `whole`.
fn part(whole: Duration, random: u32) -> Duration {
    whole.mul_f64(f64::from(random) / f64::from(u32::MAX))
}

fn between([least, most]: [Duration; 2], random: u32) -> Duration {
    least + part(most - least, random)
}

/// Whether a broker answered, and with something else than that it goes away or another one takes over.
fn is_refusal(end: End) -> bool {
    matches!(end, End::Closed(_)) && !is_worth_a_quick_dial(end)
}

/// Whether the other end is likely to answer at once: it went away in order, or has come back, or only the path changed.
fn is_worth_a_quick_dial(end: End) -> bool {
    match end {
        End::Lost => true,
        End::Closed(Some(code)) => code.retry() == rexec_shared::close::Retry::Now,
        End::Unreachable | End::Closed(None) => false,
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a test may begin at any time")]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MOST: u32 = u32::MAX;

    fn dialling(now: Instant) -> Dialler {
        let mut dialler = Dialler::new(now);
        assert_eq!(dialler.poll(now), Action::Dial);
        assert_eq!(dialler.poll(now), Action::Busy);
        dialler
    }

    fn online(now: Instant) -> Dialler {
        let mut dialler = dialling(now);
        dialler.handle_online(now);
        assert_eq!(dialler.poll(now), Action::Busy);
        dialler
    }

    fn wait_of(dialler: &mut Dialler, now: Instant) -> Duration {
        match dialler.poll(now) {
            Action::Dial => Duration::ZERO,
            Action::WaitUntil(until) => until - now,
            action @ (Action::Busy | Action::Stop(_)) => panic!("{action:?}"),
        }
    }

    #[test]
    fn dials_that_fail_back_off_up_to_the_cap() {
        let now = Instant::now();
        let mut dialler = dialling(now);
        let mut at = now;
        for expected_ms in [250, 500, 1000, 2000, 4000, 8000, 16_000, 30_000, 30_000] {
            dialler.handle_end(End::Unreachable, at, MOST);
            assert_eq!(dialler.poll(at), Action::WaitUntil(at + Duration::from_millis(expected_ms)));
            at += Duration::from_millis(expected_ms);
            assert_eq!(dialler.poll(at), Action::Dial);
        }
    }

    #[test]
    fn agents_of_a_killed_broker_come_back_spread_and_each_within_half_a_second() {
        let now = Instant::now();
        for end in
            [End::Lost, End::Closed(Some(CloseCode::Draining)), End::Closed(Some(CloseCode::TunnelLost))]
        {
            for random in [0, MOST / 2, MOST] {
                let mut dialler = online(now);
                dialler.handle_end(end, now, random);
                assert_eq!(wait_of(&mut dialler, now), part(FIRST, random), "{end:?}");
            }
        }
    }

    #[test]
    fn a_broker_that_drains_is_dialled_often_until_its_successor_is_there_and_not_for_ever() {
        let mut now = Instant::now();
        let mut dialler = online(now);
        now += STABLE;
        let gone = now;
        dialler.handle_end(End::Closed(Some(CloseCode::Draining)), now, MOST);
        now += wait_of(&mut dialler, now);
        assert_eq!(dialler.poll(now), Action::Dial);
        for end in [End::Closed(Some(CloseCode::Draining)), End::Unreachable].into_iter().cycle().take(20) {
            for (random, expected) in [(0, DRAINING[0]), (MOST, DRAINING[1])] {
                dialler.handle_end(end, now, random);
                assert_eq!(wait_of(&mut dialler, now), expected);
                now += expected;
                assert_eq!(dialler.poll(now), Action::Dial);
            }
        }
        now = gone + DRAINING_FOR;
        dialler.handle_end(End::Unreachable, now, MOST);
        assert_eq!(wait_of(&mut dialler, now), BASE, "the backoff begins where it would have begun");
    }

    #[test]
    fn a_broker_that_welcomes_and_drains_again_and_again_is_not_hammered() {
        let now = Instant::now();
        let mut dialler = online(now);
        let mut waited = Duration::ZERO;
        for _ in 0..20 {
            dialler.handle_end(End::Closed(Some(CloseCode::Draining)), now + waited, MOST);
            waited += wait_of(&mut dialler, now + waited);
            let _ = dialler.poll(now + waited);
            dialler.handle_online(now + waited);
        }
        assert!(waited > Duration::from_secs(60), "{waited:?}");
    }

    #[test]
    fn stable_uptime_forgets_earlier_failures() {
        let now = Instant::now();
        let mut dialler = dialling(now);
        let mut at = now;
        for _ in 0..8 {
            dialler.handle_end(End::Unreachable, at, MOST);
            at += CAP;
            assert_eq!(dialler.poll(at), Action::Dial);
        }
        dialler.handle_online(at);
        at += STABLE;
        dialler.handle_end(End::Lost, at, MOST);
        assert_eq!(wait_of(&mut dialler, at), FIRST);
        dialler.handle_end(End::Unreachable, at, MOST);
        assert_eq!(wait_of(&mut dialler, at), BASE);
    }

    /// What a broker that is there closes tunnels and dials with, a code of a newer one included.
    const REFUSALS: [Option<CloseCode>; 5] = [
        Some(CloseCode::Overloaded),
        Some(CloseCode::Internal),
        Some(CloseCode::ProtocolError),
        Some(CloseCode::LimitReached),
        None,
    ];

    #[test]
    fn a_broker_that_is_overloaded_is_left_alone_for_seconds_however_long_the_tunnel_stood() {
        let now = Instant::now();
        for code in REFUSALS {
            for (random, expected) in [(0, REFUSED[0]), (MOST, REFUSED[1])] {
                for uptime in [Duration::ZERO, STABLE, STABLE * 10_000] {
                    let (mut dialler, gone) = (online(now), now + uptime);
                    dialler.handle_end(End::Closed(code), gone, random);
                    assert_eq!(wait_of(&mut dialler, gone), expected, "{code:?} after {uptime:?}");
                }
            }
        }
    }

    #[test]
    fn a_broker_that_goes_on_refusing_is_asked_ever_more_rarely_even_while_another_drains() {
        let mut now = Instant::now();
        let mut dialler = online(now);
        now += STABLE;
        dialler.handle_end(End::Closed(Some(CloseCode::Draining)), now, MOST);
        let mut waits = Vec::new();
        for _ in 0..9 {
            now += wait_of(&mut dialler, now);
            assert_eq!(dialler.poll(now), Action::Dial);
            dialler.handle_end(End::Closed(Some(CloseCode::Overloaded)), now, MOST);
            waits.push(wait_of(&mut dialler, now).as_secs());
        }
        assert_eq!(waits, [5, 5, 5, 5, 5, 8, 16, 30, 30]);
    }

    #[test]
    fn an_agent_that_is_revoked_displaced_or_elsewhere_stops_for_good_and_says_why() {
        for (code, reason) in [
            (CloseCode::Revoked, StopReason::Revoked),
            (CloseCode::Displaced, StopReason::Displaced),
            (CloseCode::WrongInstallation, StopReason::WrongInstallation),
        ] {
            let now = Instant::now();
            let mut dialler = online(now);
            dialler.handle_end(End::Closed(Some(code)), now, 0);
            dialler.handle_wake(now + CAP);
            dialler.handle_end(End::Unreachable, now + CAP, 0);
            assert_eq!(dialler.poll(now + CAP * 100), Action::Stop(reason));
            assert!(reason.explain().len() > 40);
        }
    }

    #[test]
    fn a_woken_machine_dials_at_once() {
        let now = Instant::now();
        let mut dialler = dialling(now);
        dialler.handle_end(End::Unreachable, now, MOST);
        dialler.handle_wake(now);
        assert_eq!(dialler.poll(now), Action::Dial);
    }

    proptest! {
        #[test]
        fn whatever_happens_no_wait_is_above_the_cap(
            events in prop::collection::vec((0u8..5, any::<u32>(), 0u64..40_000), 1..200),
        ) {
            let mut now = Instant::now();
            let mut dialler = Dialler::new(now);
            for (event, random, pause_ms) in events {
                let action = dialler.poll(now);
                if let Action::WaitUntil(until) = action {
                    prop_assert!(until.saturating_duration_since(now) <= CAP);
                }
                match event {
                    0 => dialler.handle_online(now),
                    1 => dialler.handle_end(End::Lost, now, random),
                    2 => dialler.handle_end(End::Unreachable, now, random),
                    3 => {
                        let code = REFUSALS.get(random as usize % REFUSALS.len()).copied().flatten();
                        dialler.handle_end(End::Closed(code), now, random);
                        prop_assert!(matches!(dialler.poll(now), Action::WaitUntil(until) if until >= now + REFUSED[0]));
                    }
                    _ => dialler.handle_wake(now),
                }
                now += Duration::from_millis(pause_ms);
            }
        }
    }
}
