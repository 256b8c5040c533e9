//! What the connection's task and its handles share: the multiplexer and who waits for what, under one lock.
//!
//! The lock is held for a copy of at most a batch and never across an await, as quinn does it: a reader gets its bytes and a writer its room without a
//! round trip through the task. The task alone touches the socket. Nobody waits for an edge: a waiter looks and registers under the same lock that
//! changes happen under.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::task::{Context, Waker};

use rexec_shared::close::CloseCode;
use rexec_shared::mux::{End, Event, Mux, StreamId};

use crate::end::PathEnd;

#[derive(Debug)]
pub(super) struct Shared(Mutex<State>);

#[derive(Debug)]
pub(super) struct State {
    pub(super) mux: Mux,
    /// Why the transport ended, when that is what happened.
    lost: Option<PathEnd>,
    task: Option<Waker>,
    pub(super) accepting: Waiters,
    pub(super) opening: Waiters,
    pub(super) closing: Waiters,
    streams: BTreeMap<StreamId, StreamWaiters>,
}

/// Who waits for one thing: as many tasks as hold handles.
#[derive(Debug, Default)]
pub(super) struct Waiters(Vec<Waker>);

#[derive(Debug, Default)]
struct StreamWaiters {
    read: Option<Waker>,
    write: Option<Waker>,
}

impl Waiters {
    pub(super) fn add(&mut self, cx: &Context<'_>) {
        if !self.0.iter().any(|waker| waker.will_wake(cx.waker())) {
            self.0.push(cx.waker().clone());
        }
    }
}

impl Shared {
    pub(super) fn new(mux: Mux) -> Self {
        Self(Mutex::new(State {
            mux,
            lost: None,
            task: None,
            accepting: Waiters::default(),
            opening: Waiters::default(),
            closing: Waiters::default(),
            streams: BTreeMap::new(),
        }))
    }

    /// A handle's access; the task is woken if it now has something to send.
    pub(super) fn with<R>(&self, act: impl FnOnce(&mut State) -> R) -> R {
        self.act(|state| {
            let result = act(state);
            let has_work = state.mux.has_output() || state.mux.end().is_some();
            (result, has_work.then(|| state.task.take()).flatten())
        })
    }

    /// The task's own access.
    pub(super) fn drive<R>(&self, act: impl FnOnce(&mut State) -> R) -> R {
        self.act(|state| (act(state), None))
    }

    fn act<R>(&self, act: impl FnOnce(&mut State) -> (R, Option<Waker>)) -> R {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (result, task) = act(&mut state);
        let mut woken = Vec::new();
        while let Some(event) = state.mux.poll_event() {
            state.collect(event, &mut woken);
        }
        drop(state);
        task.into_iter().chain(woken).for_each(Waker::wake);
        result
    }
}

impl State {
    /// The task is to be woken when a handle gives it work.
    pub(super) fn register_task(&mut self, cx: &Context<'_>) {
        if !self.task.as_ref().is_some_and(|task| task.will_wake(cx.waker())) {
            self.task = Some(cx.waker().clone());
        }
    }

    pub(super) fn wait_readable(&mut self, id: StreamId, cx: &Context<'_>) {
        self.streams.entry(id).or_default().read = Some(cx.waker().clone());
    }

    pub(super) fn wait_writable(&mut self, id: StreamId, cx: &Context<'_>) {
        self.streams.entry(id).or_default().write = Some(cx.waker().clone());
    }

    pub(super) fn release_send(&mut self, id: StreamId) {
        self.mux.release_send(id, CloseCode::Internal);
        self.forget(id, |waiters| waiters.write = None);
    }

    pub(super) fn release_recv(&mut self, id: StreamId) {
        self.mux.release_recv(id, CloseCode::Internal);
        self.forget(id, |waiters| waiters.read = None);
    }

    fn forget(&mut self, id: StreamId, drop_waiter: impl FnOnce(&mut StreamWaiters)) {
        if let Some(waiters) = self.streams.get_mut(&id) {
            drop_waiter(waiters);
            if waiters.read.is_none() && waiters.write.is_none() {
                self.streams.remove(&id);
            }
        }
    }

    /// The transport has ended.
    pub(super) fn lose(&mut self, end: PathEnd) {
        if self.mux.end().is_none() {
            self.lost = Some(end);
            self.mux.handle_lost();
        }
    }

    pub(super) fn end(&self) -> Option<PathEnd> {
        Some(match self.mux.end()? {
            End::Local(code) => PathEnd::Other(format!("closed by this side: {code}")),
            End::Peer { code, .. } => PathEnd::Closed(CloseCode::from_number(u64::from(*code))),
            End::Protocol(error) => PathEnd::Other(error.to_string()),
            End::TimedOut => PathEnd::TimedOut,
            End::Lost => self.lost.clone().unwrap_or(PathEnd::Reset),
        })
    }

    fn collect(&mut self, event: Event, woken: &mut Vec<Waker>) {
        match event {
            Event::Incoming => woken.append(&mut self.accepting.0),
            Event::Room => woken.append(&mut self.opening.0),
            Event::Readable(id) => {
                woken.extend(self.streams.get_mut(&id).and_then(|waiters| waiters.read.take()));
            }
            Event::Writable(id) => {
                woken.extend(self.streams.get_mut(&id).and_then(|waiters| waiters.write.take()));
            }
            Event::Ended => {
                for waiters in [&mut self.accepting, &mut self.opening, &mut self.closing] {
                    woken.append(&mut waiters.0);
                }
                for (_, waiters) in std::mem::take(&mut self.streams) {
                    woken.extend(waiters.read.into_iter().chain(waiters.write));
                }
            }
        }
    }
}
