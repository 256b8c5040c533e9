//! The registry's decisions, without clock, socket or task: which tunnel a machine has, who may open a stream on it, what ends what.
//!
//! Invariants:
//! - a machine has at most one tunnel, the newest; only that one's end is told to control;
//! - every live stream is listed with the claims it was opened on, so that a revocation finds it;
//! - a tunnel that is told to close is forgotten at once: nothing new is opened on it.
//!
//! `C` is the tunnel's connection, which the registry only hands on to viewers.
#![deny(clippy::disallowed_methods)]

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rexec_shared::broker_link::FromBroker;
use rexec_shared::close::CloseCode;
use rexec_shared::limits::{HOLD_FOR_TUNNEL, STREAMS_PER_TUNNEL};
use rexec_shared::pki::MachineName;
use rexec_shared::ticket::{Claims, Now, PublicKey, TicketError, Verifier};
use rexec_shared::tunnel::{Hello, SessionInfo};
use rexec_tunnel::Transport;
use tokio::sync::{oneshot, watch};
use uuid::Uuid;

use super::outbox::Outbox;
use super::waiting::Waiting;
use crate::limits::{
    AFTER_AHEAD_MAX, FEED_PAUSE, FEEDS_AT_ONCE, HOLD_BESIDE_OTHERS, MOVED_FOR, MOVED_MAX, ORGS_MAX,
    TUNNELS_MAX,
};

/// What a tunnel's task is to bring about: a level, so that no order is ever lost or queued.
#[derive(Debug, Clone, Default)]
pub(crate) struct Orders {
    /// The newest feed of its organisation.
    pub(crate) feed: Option<Arc<str>>,
    /// The broker is going away: what to tell the agent.
    pub(crate) drain: Option<Leaving>,
    /// The tunnel is to be closed.
    pub(crate) close: Option<CloseCode>,
}

/// How a broker goes away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Leaving {
    /// How long streams that stand may go on.
    pub(crate) grace: Duration,
    /// Whether other brokers take its agents.
    pub(crate) elsewhere: bool,
}

/// A tunnel whose agent has shown its certificate and said hello.
#[derive(Debug)]
pub(crate) struct NewTunnel<C> {
    pub(crate) name: MachineName,
    pub(crate) connection: C,
    pub(crate) address: String,
    pub(crate) transport: Transport,
    pub(crate) hello: Hello,
}

/// A tunnel is the machine's newest.
#[derive(Debug)]
pub(crate) struct Registered {
    pub(crate) number: u64,
    pub(crate) orders: watch::Receiver<Orders>,
}

/// Permission to open one stream.
#[derive(Debug)]
pub(crate) struct Grant<C> {
    pub(crate) connection: C,
    /// Says why the stream is to end at once. Its dropping tells the registry that the stream has ended.
    pub(crate) cut: oneshot::Receiver<CloseCode>,
}

/// Where the answer to an [`Attach`] goes.
pub(crate) type Reply<C> = oneshot::Sender<Result<Grant<C>, CloseCode>>;

/// A viewer asks for a stream; the ticket's signature has been verified already.
#[derive(Debug)]
pub(crate) struct Attach<C> {
    pub(crate) claims: Claims,
    pub(crate) ticket: String,
    /// The session that the first frame names.
    pub(crate) session: Uuid,
    /// Whether the first frame is `Open`.
    pub(crate) opening: bool,
    pub(crate) address: String,
    pub(crate) reply: Reply<C>,
}

#[derive(Debug)]
struct LiveStream {
    claims: Claims,
    cut: oneshot::Sender<CloseCode>,
}

#[derive(Debug)]
struct Tunnel<C> {
    name: MachineName,
    number: u64,
    connection: C,
    orders: watch::Sender<Orders>,
    streams: Vec<LiveStream>,
    /// It stands in the line for its organisation's newest feed.
    is_owed_feed: bool,
    /// What control was told when it came up, and the newest presence since: to be told anew.
    up: FromBroker,
    presence: Option<FromBroker>,
}

impl<C: Clone> Tunnel<C> {
    fn open_stream(&mut self, claims: &Claims) -> Result<Grant<C>, CloseCode> {
        if self.name.org != claims.org {
            return Err(TicketError::Audience.close_code());
        }
        self.streams.retain(|stream| !stream.cut.is_closed());
        if self.streams.len() >= STREAMS_PER_TUNNEL as usize {
            return Err(CloseCode::LimitReached);
        }
        let (cut, cut_receiver) = oneshot::channel();
        self.streams.push(LiveStream { claims: claims.clone(), cut });
        Ok(Grant { connection: self.connection.clone(), cut: cut_receiver })
    }

    fn cut_streams(&mut self, code: CloseCode, concerned: impl Fn(&Claims) -> bool) {
        for stream in self.streams.extract_if(.., |stream| concerned(&stream.claims)) {
            // One that has ended by itself meanwhile needs no cut.
            stream.cut.send(code).ok();
        }
    }
}

#[derive(Debug)]
struct Organisation {
    verifier: Verifier,
    feed: Option<Arc<str>>,
    machines: BTreeSet<Uuid>,
}

/// All that the registry knows.
#[derive(Debug)]
pub(super) struct State<C> {
    key: PublicKey,
    tunnels: BTreeMap<Uuid, Tunnel<C>>,
    orgs: BTreeMap<Uuid, Organisation>,
    waiting: Waiting<Attach<C>>,
    /// Machines whose tunnels are still to be handed the newest feed, in line.
    owed_feeds: VecDeque<Uuid>,
    /// When the next of them are.
    feeds_at: Option<Instant>,
    outbox: Outbox,
    last_number: u64,
    draining: bool,
    /// Machines whose tunnel control has seen at another broker, and until when that is believed: their viewers need not wait here.
    moved: BTreeMap<Uuid, Instant>,
}

impl<C: Clone> State<C> {
    pub(super) fn new(key: PublicKey) -> Self {
        Self {
            key,
            tunnels: BTreeMap::new(),
            orgs: BTreeMap::new(),
            waiting: Waiting::default(),
            owed_feeds: VecDeque::new(),
            feeds_at: None,
            outbox: Outbox::default(),
            last_number: 0,
            draining: false,
            moved: BTreeMap::new(),
        }
    }

    /// A tunnel comes up: it displaces an older one of its machine, and viewers held for it go on.
    pub(super) fn handle_up(&mut self, new: NewTunnel<C>, now: Now) -> Result<Registered, CloseCode> {
        if let Err(code) = self.admit_tunnel(new.name, now.instant) {
            self.report_refusal(new.name, new.address, code);
            return Err(code);
        }
        let older = self.tunnels.get(&new.name.machine).map_or(0, |tunnel| tunnel.number);
        self.close_tunnel(new.name.machine, CloseCode::Displaced);
        Ok(self.insert(new, older, now))
    }

    /// A tunnel has ended; of no concern unless it is still the machine's newest.
    pub(super) fn handle_down(&mut self, machine: Uuid, number: u64, reason: String) {
        if self.tunnels.get(&machine).is_some_and(|tunnel| tunnel.number == number) {
            self.remove(machine);
            self.outbox.push(FromBroker::TunnelDown { machine, tunnel: number, reason });
        }
    }

    /// An agent told its sessions, or its round trip was measured.
    pub(super) fn handle_presence(
        &mut self,
        machine: Uuid,
        number: u64,
        sessions: Vec<SessionInfo>,
        rtt_ms: Option<f64>,
    ) {
        if let Some(tunnel) = self.tunnels.get_mut(&machine).filter(|tunnel| tunnel.number == number) {
            let news = FromBroker::Presence { machine, tunnel: number, sessions, rtt_ms };
            tunnel.presence = Some(news.clone());
            self.outbox.push(news);
        }
    }

    /// Control may know nothing, or what has long been void: it is told all that stands.
    pub(super) fn handle_retell(&mut self) {
        self.outbox.begin_anew(FromBroker::Standing { machines: self.tunnels.keys().copied().collect() });
        for tunnel in self.tunnels.values() {
            self.outbox.push(tunnel.up.clone());
            if let Some(presence) = &tunnel.presence {
                self.outbox.push(presence.clone());
            }
        }
    }

    /// A viewer asks for a stream: it is granted, refused, or held until its machine's tunnel comes up.
    pub(super) fn handle_attach(&mut self, attach: Attach<C>, now: Now) {
        match self.admit_viewer(&attach, now) {
            Ok(()) => self.grant_or_hold(attach, now.instant),
            Err(code) => self.answer(attach, Err(code)),
        }
    }

    /// Control signed a newer feed: what it revokes ends now, and the organisation's agents get it, a part of them at a time.
    pub(super) fn handle_feed(&mut self, org: Uuid, token: &str, now: Instant) -> Result<(), TicketError> {
        let state = self.org(org, now).ok_or(TicketError::Full)?;
        state.verifier.handle_feed(token, now)?;
        state.feed = Some(token.into());
        let machines = state.machines.clone();
        for machine in machines {
            self.apply_feed(org, machine);
        }
        self.refuse_revoked_waiters(org);
        if self.feeds_at.is_none() {
            self.hand_out_feeds(now);
        }
        Ok(())
    }

    /// Closes a machine's tunnel and all its streams, because control says so; of no concern when a newer one than `up_to` stands.
    pub(super) fn handle_disconnect(
        &mut self,
        machine: Uuid,
        code: CloseCode,
        up_to: Option<u64>,
        now: Instant,
    ) {
        if self.tunnels.get(&machine).is_some_and(|tunnel| up_to.is_some_and(|most| tunnel.number > most)) {
            return;
        }
        self.close_tunnel(machine, code);
        let mut told = code;
        if code == CloseCode::Displaced {
            self.note_move(machine, now);
            told = CloseCode::MachineOffline;
        }
        for waiter in self.waiting.take_machine(machine) {
            self.answer(waiter, Err(told));
        }
    }

    /// The machine is elsewhere: whoever asks for it here is told at once, for a while.
    fn note_move(&mut self, machine: Uuid, now: Instant) {
        if self.moved.len() >= MOVED_MAX {
            self.moved.retain(|_, until| *until > now);
        }
        if self.moved.len() < MOVED_MAX {
            self.moved.insert(machine, now + MOVED_FOR);
        }
    }

    /// The broker is going away: nothing new, and agents are told.
    pub(super) fn handle_drain(&mut self, grace: Duration, elsewhere: bool) {
        self.draining = true;
        for tunnel in self.tunnels.values() {
            tunnel.orders.send_modify(|orders| orders.drain = Some(Leaving { grace, elsewhere }));
        }
        for waiter in self.waiting.take_if(|_| true) {
            self.answer(waiter, Err(CloseCode::Draining));
        }
    }

    /// Closes one of so many parts of the tunnels, with their streams; at least one tunnel, and all of them when it is one part.
    pub(super) fn close_part(&mut self, code: CloseCode, parts: u32) {
        let count = self.tunnels.len().div_ceil(parts.max(1) as usize);
        let machines: Vec<Uuid> = self.tunnels.keys().take(count).copied().collect();
        for machine in machines {
            self.close_tunnel(machine, code);
        }
    }

    /// Whether agents may be at other brokers: then nobody waits for one here for longer than it takes to come back.
    pub(super) fn handle_others(&mut self, others: bool) {
        self.waiting.set_hold(if others { HOLD_BESIDE_OTHERS } else { HOLD_FOR_TUNNEL });
    }

    /// Ends the waits whose time is over, and goes on handing out feeds.
    pub(super) fn handle_timeout(&mut self, now: Instant) {
        while let Some(waiter) = self.waiting.take_expired(now) {
            self.answer(waiter, Err(CloseCode::MachineOffline));
        }
        if self.feeds_at.is_some_and(|at| now >= at) {
            self.hand_out_feeds(now);
        }
    }

    /// When [`State::handle_timeout`] has something to do.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.waiting.deadline().into_iter().chain(self.feeds_at).min()
    }

    /// Something to be told to control.
    pub(super) fn report(&mut self, event: FromBroker) {
        self.outbox.push(event);
    }

    /// The next event for control.
    pub(super) fn poll_event(&mut self) -> Option<FromBroker> {
        self.outbox.pop()
    }

    /// Whether [`State::poll_event`] has something.
    pub(super) fn has_event(&self) -> bool {
        !self.outbox.is_empty()
    }

    /// Events that control was too slow to take, since this was last asked.
    pub(super) fn take_lost_events(&mut self) -> usize {
        self.outbox.take_lost()
    }

    /// Tunnels that stand.
    pub(super) fn tunnels(&self) -> usize {
        self.tunnels.len()
    }

    /// Viewers held.
    pub(super) fn held(&self) -> usize {
        self.waiting.len()
    }

    fn admit_tunnel(&mut self, name: MachineName, now: Instant) -> Result<(), CloseCode> {
        if self.draining {
            return Err(CloseCode::Draining);
        }
        if self.tunnels.len() >= TUNNELS_MAX && !self.tunnels.contains_key(&name.machine) {
            return Err(CloseCode::Overloaded);
        }
        let org = self.org(name.org, now).ok_or(CloseCode::Overloaded)?;
        if org.verifier.feed().machine_revoked(name.machine) {
            return Err(CloseCode::Revoked);
        }
        Ok(())
    }

    fn insert(&mut self, new: NewTunnel<C>, older: u64, now: Now) -> Registered {
        let number = self.number(older, new.hello.after, now);
        let MachineName { org, machine } = new.name;
        self.moved.remove(&machine);
        let feed = self.orgs.get_mut(&org).and_then(|state| {
            state.machines.insert(machine);
            state.feed.clone()
        });
        let (orders, orders_receiver) = watch::channel(Orders { feed, ..Orders::default() });
        let up = FromBroker::TunnelUp {
            machine,
            org,
            tunnel: number,
            address: new.address,
            transport: new.transport.name().to_owned(),
            // What carries the tunnel is seen here; an agent over QUIC has nothing to explain.
            transport_reason: new.hello.transport_reason.filter(|_| new.transport == Transport::Tcp),
            agent_version: new.hello.agent_version,
            os: new.hello.os,
            arch: new.hello.arch,
            hostname: new.hello.hostname,
            sessions: new.hello.sessions,
        };
        self.outbox.push(up.clone());
        let (name, connection, streams) = (new.name, new.connection, Vec::new());
        let (is_owed_feed, presence) = (false, None);
        self.tunnels.insert(
            machine,
            Tunnel { name, number, connection, orders, streams, is_owed_feed, up, presence },
        );
        for waiter in self.waiting.take_machine(machine) {
            self.grant_or_hold(waiter, now.instant);
        }
        Registered { number, orders: orders_receiver }
    }

    /// The number of a new tunnel: microseconds, so that those of all brokers are in one order; above the `older` one's here, and above what
    /// its agent has had elsewhere, should the clocks of two brokers differ. An agent that claims a number far ahead is not believed, and
    /// none moves another's.
    fn number(&mut self, older: u64, after: u64, now: Now) -> u64 {
        let clock = now.unix_ms.saturating_mul(1_000);
        self.last_number = clock.max(self.last_number + 1);
        let believed = if after < clock.saturating_add(AFTER_AHEAD_MAX) { after } else { 0 };
        self.last_number.max(older.max(believed).saturating_add(1))
    }

    /// Forgets the machine's tunnel, orders it closed and ends its streams.
    fn close_tunnel(&mut self, machine: Uuid, code: CloseCode) {
        let Some(mut tunnel) = self.remove(machine) else { return };
        // A viewer is not concerned with which tunnel carries it: displaced for the agent is lost for the viewer, who comes again.
        let displaced = code == CloseCode::Displaced;
        tunnel.cut_streams(if displaced { CloseCode::TunnelLost } else { code }, |_| true);
        tunnel.orders.send_modify(|orders| orders.close = Some(code));
        if !displaced {
            let reason = code.name().to_owned();
            self.outbox.push(FromBroker::TunnelDown { machine, tunnel: tunnel.number, reason });
        }
    }

    fn remove(&mut self, machine: Uuid) -> Option<Tunnel<C>> {
        let tunnel = self.tunnels.remove(&machine)?;
        if let Some(org) = self.orgs.get_mut(&tunnel.name.org) {
            org.machines.remove(&machine);
        }
        Some(tunnel)
    }

    fn admit_viewer(&mut self, attach: &Attach<C>, now: Now) -> Result<(), CloseCode> {
        if self.draining {
            return Err(CloseCode::Draining);
        }
        let org = self.org(attach.claims.org, now.instant).ok_or(CloseCode::Overloaded)?;
        org.verifier
            .check(&attach.ticket, attach.claims.aud, attach.session, attach.opening, now)
            .map(|_| ())
            .map_err(TicketError::close_code)
    }

    fn grant_or_hold(&mut self, attach: Attach<C>, now: Instant) {
        if attach.reply.is_closed() {
            return;
        }
        let machine = attach.claims.aud;
        if let Some(tunnel) = self.tunnels.get_mut(&machine) {
            let granted = tunnel.open_stream(&attach.claims);
            return self.answer(attach, granted);
        }
        if self.moved.get(&machine).is_some_and(|until| *until > now) {
            return self.answer(attach, Err(CloseCode::MachineOffline));
        }
        if let Err(attach) = self.waiting.hold(machine, attach, now, |waiter| waiter.reply.is_closed()) {
            self.answer(attach, Err(CloseCode::MachineOffline));
        }
    }

    /// A refused dial is for the audit, unless it is only early: a broker that is going away refuses everybody.
    fn report_refusal(&mut self, name: MachineName, address: String, code: CloseCode) {
        let MachineName { org, machine } = name;
        if code != CloseCode::Draining {
            self.report(FromBroker::DialRefused { machine, org, claimed: None, address, code });
        }
    }

    /// Answers a viewer. A refusal is told to control here, an opening by the viewer's own task, once the stream stands.
    fn answer(&mut self, attach: Attach<C>, answer: Result<Grant<C>, CloseCode>) {
        if let Some(code) = answer.as_ref().err().copied().filter(|code| *code != CloseCode::Draining) {
            self.outbox.push(FromBroker::Stream {
                machine: attach.claims.aud,
                session: attach.session,
                user: attach.claims.usr,
                login: attach.claims.lgn,
                caps: attach.claims.caps,
                address: attach.address,
                outcome: Some(code),
            });
        }
        // A viewer that went away meanwhile takes no answer.
        attach.reply.send(answer).ok();
    }

    fn apply_feed(&mut self, org: Uuid, machine: Uuid) {
        let Some(state) = self.orgs.get(&org) else { return };
        let feed = state.verifier.feed();
        if feed.machine_revoked(machine) {
            return self.close_tunnel(machine, CloseCode::Revoked);
        }
        if let Some(tunnel) = self.tunnels.get_mut(&machine) {
            tunnel.cut_streams(CloseCode::Revoked, |claims| feed.is_revoked(claims));
            if !std::mem::replace(&mut tunnel.is_owed_feed, true) {
                self.owed_feeds.push_back(machine);
            }
        }
    }

    /// Hands the newest feed to those next in line.
    fn hand_out_feeds(&mut self, now: Instant) {
        for _ in 0..FEEDS_AT_ONCE {
            let Some(machine) = self.owed_feeds.pop_front() else { break };
            // One that came up meanwhile had it from the beginning.
            let Some(tunnel) = self.tunnels.get_mut(&machine).filter(|tunnel| tunnel.is_owed_feed) else {
                continue;
            };
            tunnel.is_owed_feed = false;
            let feed = self.orgs.get(&tunnel.name.org).and_then(|org| org.feed.clone());
            tunnel.orders.send_modify(|orders| orders.feed = feed);
        }
        self.feeds_at = (!self.owed_feeds.is_empty()).then(|| now + FEED_PAUSE);
    }

    fn refuse_revoked_waiters(&mut self, org: Uuid) {
        let Some(state) = self.orgs.get(&org) else { return };
        let feed = state.verifier.feed();
        let revoked =
            self.waiting.take_if(|waiter| waiter.claims.org == org && feed.is_revoked(&waiter.claims));
        for waiter in revoked {
            self.answer(waiter, Err(CloseCode::Revoked));
        }
    }

    /// The organisation's state, made when first needed; none when there is no room for another.
    fn org(&mut self, org: Uuid, now: Instant) -> Option<&mut Organisation> {
        if self.orgs.len() >= ORGS_MAX && !self.orgs.contains_key(&org) {
            return None;
        }
        Some(self.orgs.entry(org).or_insert_with(|| Organisation {
            verifier: Verifier::new(self.key.clone(), org, now),
            feed: None,
            machines: BTreeSet::new(),
        }))
    }
}

#[cfg(test)]
#[path = "state_tests.rs"]
mod tests;
