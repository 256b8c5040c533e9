//! The one place that decides what is done next about a sandbox.
//!
//! It looks at what is written down (desired, when its agent was let in), at what the engine has and at whether the tunnel stands, and
//! names one step. Every step leads on from whatever a crash left behind: nothing here remembers what was done before.
//!
//! ```text
//!  no container ── Create ──▶ created ── Start ──▶ running ── SetUp, Admit ──▶ (agent enrols, dials) ── Settle(Ready)
//!                                 ▲                   │ died
//!                                 └───── Start ───────┘            desired deleted: Remove ──▶ Forget
//! ```
#![deny(clippy::disallowed_methods)]

use crate::entity::{Desired, SandboxState};
use crate::limits::{SANDBOX_JOIN_LIFE, SANDBOX_TRIES, SANDBOX_TUNNEL_WAIT};
use crate::time::Timestamp;

/// What is written down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row {
    /// What it should be.
    pub desired: Desired,
    /// What it was last known to be.
    pub state: SandboxState,
    /// Whether a preset is still to be run in it.
    pub to_set_up: bool,
    /// When its agent was last given a token.
    pub admitted_at: Option<Timestamp>,
    /// When the agent took one.
    pub enrolled_at: Option<Timestamp>,
    /// Tries that failed since it last stood or somebody asked for it.
    pub failures: u32,
}

/// What the engine has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Container {
    /// None.
    Missing,
    /// One that never ran.
    Created,
    /// One that runs.
    Running,
    /// One that has ended.
    Ended,
}

/// One step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Fetch the image if need be, make network, volume and container.
    Create,
    /// Start the container.
    Start,
    /// Close its network, then run its preset.
    SetUp,
    /// Close its network, then let its agent in with a fresh token.
    Admit,
    /// Stop the container.
    Stop,
    /// Remove the container, its network and, if so wished, its home.
    Remove,
    /// Nothing of it is left: forget its row.
    Forget,
    /// It is this now; write it down.
    Settle(SandboxState),
    /// Too many tries: write down that it failed.
    GiveUp,
    /// Nothing to do before something changes, or this time has come.
    Wait(Option<Timestamp>),
}

impl Step {
    /// What a sandbox is while the step is taken; none: what it was.
    pub const fn state(self) -> Option<SandboxState> {
        match self {
            Self::Create => Some(SandboxState::Creating),
            Self::Start => Some(SandboxState::Starting),
            Self::SetUp => Some(SandboxState::SettingUp),
            Self::Admit => Some(SandboxState::Enrolling),
            Self::Stop => Some(SandboxState::Stopping),
            Self::Remove | Self::Forget => Some(SandboxState::Deleting),
            Self::Settle(state) => Some(state),
            Self::GiveUp => Some(SandboxState::Failed),
            Self::Wait(_) => None,
        }
    }
}

/// What to do next. `online`: whether the tunnel of the agent that was let in last stands.
pub fn next(row: &Row, found: Container, online: bool, now: Timestamp) -> Step {
    match row.desired {
        Desired::Deleted if found == Container::Missing => Step::Forget,
        Desired::Deleted => Step::Remove,
        Desired::Stopped if found == Container::Running => Step::Stop,
        Desired::Stopped => settle(row, SandboxState::Stopped),
        Desired::Running => towards_running(row, found, online, now),
    }
}

fn towards_running(row: &Row, found: Container, online: bool, now: Timestamp) -> Step {
    if row.state == SandboxState::Failed {
        return Step::Wait(None);
    }
    // One that stands has no use for being given up, however often it fell before.
    let stands = found == Container::Running && online && row.enrolled_at.is_some();
    if row.failures >= SANDBOX_TRIES && !stands {
        return Step::GiveUp;
    }
    match found {
        Container::Missing => Step::Create,
        Container::Created | Container::Ended => Step::Start,
        // A stop that was begun is ended first, and by that a restart is a stop that is followed by a start.
        Container::Running if row.state == SandboxState::Stopping => Step::Stop,
        Container::Running => towards_ready(row, online, now),
    }
}

fn towards_ready(row: &Row, online: bool, now: Timestamp) -> Step {
    if row.to_set_up {
        return Step::SetUp;
    }
    let Some(admitted) = row.admitted_at else { return Step::Admit };
    match row.enrolled_at {
        Some(_) if online => settle(row, SandboxState::Ready),
        // Its agent has an identity and dials by itself; should it not come for long, it has lost it, or hangs.
        Some(_) if row.state == SandboxState::Ready => Step::Wait(None),
        Some(enrolled) => later(enrolled.max(admitted).plus(SANDBOX_TUNNEL_WAIT), now),
        None => later(admitted.plus(SANDBOX_JOIN_LIFE), now),
    }
}

/// Waits until `due`, and lets the agent in anew when it has passed.
fn later(due: Timestamp, now: Timestamp) -> Step {
    if now < due { Step::Wait(Some(due)) } else { Step::Admit }
}

fn settle(row: &Row, state: SandboxState) -> Step {
    if row.state == state { Step::Wait(None) } else { Step::Settle(state) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use SandboxState::{Enrolling, Failed, Ready, SettingUp, Starting, Stopped, Stopping, Waiting};

    const NOW: Timestamp = Timestamp(1_000_000_000);
    const PAST: Timestamp = Timestamp(999_999_000);
    const LONG_AGO: Timestamp = Timestamp(1_000);

    fn row(desired: Desired, state: SandboxState) -> Row {
        Row { desired, state, to_set_up: false, admitted_at: None, enrolled_at: None, failures: 0 }
    }

    fn let_in(admitted: Timestamp, enrolled: Option<Timestamp>, state: SandboxState) -> Row {
        let mut row = row(Desired::Running, state);
        (row.admitted_at, row.enrolled_at) = (Some(admitted), enrolled);
        row
    }

    #[test]
    fn whatever_a_crash_left_one_step_leads_on() {
        use Container::{Created, Ended, Missing, Running};
        let up = |state| row(Desired::Running, state);
        let table = [
            // What should run, and is not there, half there, or died.
            (up(Waiting), Missing, false, Step::Create),
            (up(Ready), Missing, true, Step::Create),
            (up(Waiting), Created, false, Step::Start),
            (up(Ready), Ended, false, Step::Start),
            (up(Starting), Running, false, Step::Admit),
            // A preset comes before the agent, and after a crash in the middle of it again.
            (Row { to_set_up: true, ..up(Starting) }, Running, false, Step::SetUp),
            (Row { to_set_up: true, ..up(SettingUp) }, Running, false, Step::SetUp),
            (Row { to_set_up: true, ..up(SettingUp) }, Ended, false, Step::Start),
            (let_in(PAST, None, Enrolling), Running, false, Step::Wait(Some(PAST.plus(SANDBOX_JOIN_LIFE)))),
            (let_in(LONG_AGO, None, Enrolling), Running, false, Step::Admit),
            (let_in(PAST, Some(PAST), Enrolling), Running, true, Step::Settle(Ready)),
            (let_in(PAST, Some(PAST), Ready), Running, true, Step::Wait(None)),
            // A tunnel that is lost comes back by itself, and its sandbox stays what it was.
            (let_in(LONG_AGO, Some(LONG_AGO), Ready), Running, false, Step::Wait(None)),
            // An older agent's tunnel makes nothing ready.
            (let_in(PAST, None, Enrolling), Running, true, Step::Wait(Some(PAST.plus(SANDBOX_JOIN_LIFE)))),
            // A restart, or a start that came while it was being stopped.
            (let_in(PAST, Some(PAST), Stopping), Running, true, Step::Stop),
            (let_in(PAST, Some(PAST), Stopping), Ended, false, Step::Start),
            // What should not run.
            (row(Desired::Stopped, Ready), Running, true, Step::Stop),
            (row(Desired::Stopped, Stopping), Ended, false, Step::Settle(Stopped)),
            (row(Desired::Stopped, Stopped), Ended, false, Step::Wait(None)),
            (row(Desired::Stopped, Stopped), Missing, false, Step::Wait(None)),
            (row(Desired::Stopped, Waiting), Created, false, Step::Settle(Stopped)),
            // What should be gone.
            (row(Desired::Deleted, Ready), Running, true, Step::Remove),
            (row(Desired::Deleted, Failed), Created, false, Step::Remove),
            (row(Desired::Deleted, Failed), Missing, false, Step::Forget),
            // What was given up waits for a person.
            (up(Failed), Missing, false, Step::Wait(None)),
            (up(Failed), Ended, false, Step::Wait(None)),
        ];
        for (row, found, online, step) in table {
            assert_eq!(next(&row, found, online, NOW), step, "{row:?} {found:?} online: {online}");
        }
    }

    #[test]
    fn what_fails_again_and_again_is_given_up_and_what_stands_is_not() {
        let tired = Row { failures: SANDBOX_TRIES, ..row(Desired::Running, Starting) };
        assert_eq!(next(&tired, Container::Ended, false, NOW), Step::GiveUp);
        let up = Row { failures: SANDBOX_TRIES, ..let_in(PAST, Some(PAST), Ready) };
        assert_eq!(next(&up, Container::Running, true, NOW), Step::Wait(None));
        let deleted = Row { desired: Desired::Deleted, ..tired };
        assert_eq!(next(&deleted, Container::Ended, false, NOW), Step::Remove);
    }

    #[test]
    fn every_combination_ends_in_what_is_desired() {
        // A model of the engine and the agent: each step does what it says, and every state must come to rest.
        for desired in [Desired::Running, Desired::Stopped, Desired::Deleted] {
            for found in [Container::Missing, Container::Created, Container::Running, Container::Ended] {
                for state in [Waiting, Starting, SettingUp, Enrolling, Ready, Stopping, Stopped] {
                    comes_to_rest(row(desired, state), found);
                    comes_to_rest(Row { to_set_up: true, ..row(desired, state) }, found);
                }
            }
        }
    }

    fn comes_to_rest(mut row: Row, mut found: Container) {
        let mut online = false;
        for _ in 0..9 {
            let step = next(&row, found, online, NOW);
            row.state = step.state().unwrap_or(row.state);
            match step {
                Step::Create => found = Container::Created,
                Step::Start => {
                    found = Container::Running;
                    (row.admitted_at, row.enrolled_at, online) = (None, None, false);
                }
                Step::SetUp => row.to_set_up = false,
                Step::Admit => (row.admitted_at, row.enrolled_at, online) = (Some(NOW), Some(NOW), true),
                Step::Stop => (found, online) = (Container::Ended, false),
                Step::Remove => (found, online) = (Container::Missing, false),
                Step::Forget => {
                    return assert_eq!((row.desired, found), (Desired::Deleted, Container::Missing));
                }
                Step::Settle(_) => {}
                Step::GiveUp => panic!("{row:?} is given up"),
                Step::Wait(_) => {
                    let rest = if row.desired == Desired::Running { Ready } else { Stopped };
                    return assert_eq!(row.state, rest, "{row:?} {found:?}");
                }
            }
        }
        panic!("{row:?} {found:?} never comes to rest");
    }
}
