//! Sandboxes as people and programs see them.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::entity::{Desired, SandboxNetwork, SandboxState, sandbox};
use crate::time::Timestamp;

/// A container that is a machine: its id is the machine's.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct Sandbox {
    /// Its id, and that of its machine.
    pub id: Uuid,
    /// Its machine's name.
    pub name: String,
    /// Reference of its image.
    pub image: String,
    /// Thousandths of a processor.
    pub cpus_milli: i32,
    /// Memory, MiB; there is no swap beside it.
    pub memory_mb: i32,
    /// Processes and threads.
    pub pids: i32,
    /// What it may reach.
    pub network: SandboxNetwork,
    /// Where a restricted one may go.
    pub allow: Vec<Allowed>,
    /// What is set up in it at first.
    pub preset: Option<String>,
    /// What it is.
    pub state: SandboxState,
    /// What it should be.
    pub desired: Desired,
    /// The way to a prompt, in order; empty for one that should not run.
    pub steps: Vec<StepShown>,
    /// What stands in its way.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<SandboxProblem>,
    /// Its home.
    pub volume: Uuid,
    /// When it was made.
    pub created_at: Timestamp,
    /// When its container was last started.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Timestamp>,
    /// When it is deleted by itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
    /// Without a session for so many seconds it is stopped.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idle_stop_s: Option<i32>,
    /// A command that makes something like it without Rexec.
    pub docker_run: String,
}

/// Where a restricted sandbox may go.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Allowed {
    /// A domain.
    pub host: String,
    /// A TCP port.
    pub port: u16,
}

/// One step of the way to a prompt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct StepShown {
    /// The state a sandbox is in while the step is taken.
    pub step: SandboxState,
    /// How far it is.
    pub state: StepState,
    /// What is being done just now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// How much of it is done.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub percent: Option<u8>,
}

/// How far a step is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum StepState {
    /// Behind.
    Done,
    /// Being taken.
    Now,
    /// Ahead.
    Todo,
    /// It failed.
    Failed,
}

/// What stands in a sandbox's way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SandboxProblem {
    /// For programs: stable.
    pub code: String,
    /// For people.
    pub detail: String,
    /// What to do about it.
    pub hint: String,
    /// The step that failed.
    pub step: SandboxState,
}

/// What is told of a step while it is taken; it is not written down.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Progress {
    /// What is being done just now.
    pub detail: Option<String>,
    /// How much of it is done.
    pub percent: Option<u8>,
}

/// What a machine of kind sandbox says of its container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct MachineSandbox {
    /// What the sandbox is.
    pub state: SandboxState,
    /// Reference of its image.
    pub image: String,
}

impl From<&sandbox::Model> for MachineSandbox {
    fn from(row: &sandbox::Model) -> Self {
        Self { state: row.state, image: row.image.clone() }
    }
}

impl Sandbox {
    /// What is written down of a sandbox, with what is told of the step being taken.
    pub fn new(row: sandbox::Model, name: String, progress: Option<&Progress>) -> Self {
        let problem: Option<SandboxProblem> =
            row.problem.as_ref().and_then(|problem| serde_json::from_value(problem.clone()).ok());
        Self {
            steps: steps(row.desired, row.state, row.preset.is_some(), problem.as_ref(), progress),
            docker_run: docker_run(&row, &name),
            allow: serde_json::from_value(row.allow).unwrap_or_default(),
            id: row.id,
            name,
            image: row.image,
            cpus_milli: row.cpus_milli,
            memory_mb: row.memory_mb,
            pids: row.pids,
            network: row.network,
            preset: row.preset,
            state: row.state,
            desired: row.desired,
            problem,
            volume: row.volume_id,
            created_at: row.created_at,
            started_at: row.started_at,
            expires_at: row.expires_at,
            idle_stop_s: row.idle_stop_s,
        }
    }
}

/// The way to a prompt; without a preset nothing is set up.
const WAY: [SandboxState; 6] = [
    SandboxState::Pulling,
    SandboxState::Creating,
    SandboxState::Starting,
    SandboxState::SettingUp,
    SandboxState::Enrolling,
    SandboxState::Ready,
];

fn steps(
    desired: Desired,
    state: SandboxState,
    has_preset: bool,
    problem: Option<&SandboxProblem>,
    progress: Option<&Progress>,
) -> Vec<StepShown> {
    if desired != Desired::Running {
        return Vec::new();
    }
    let way: Vec<SandboxState> =
        WAY.into_iter().filter(|step| has_preset || *step != SandboxState::SettingUp).collect();
    let set_up_failed = problem.is_some_and(|problem| problem.step == SandboxState::SettingUp);
    let failed = state == SandboxState::Failed;
    let at = if failed { problem.map_or(SandboxState::Creating, |problem| problem.step) } else { state };
    let here = way.iter().position(|step| *step == at);
    let of = |index: usize, step: SandboxState| match here {
        // What was set up badly does not keep anybody out.
        Some(here) if index < here && set_up_failed && step == SandboxState::SettingUp => StepState::Failed,
        Some(here) if index < here || at == SandboxState::Ready => StepState::Done,
        Some(here) if index == here && failed => StepState::Failed,
        Some(here) if index == here => StepState::Now,
        Some(_) | None => StepState::Todo,
    };
    let shown = |(index, step): (usize, &SandboxState)| {
        let state = of(index, *step);
        let now = progress.filter(|_| state == StepState::Now);
        StepShown {
            step: *step,
            state,
            detail: now.and_then(|now| now.detail.clone()),
            percent: now.and_then(|now| now.percent),
        }
    };
    way.iter().enumerate().map(shown).collect()
}

/// Names and references are within grammars that mean nothing to a shell.
fn docker_run(row: &sandbox::Model, name: &str) -> String {
    let (whole, part) = (row.cpus_milli / 1_000, row.cpus_milli % 1_000);
    let fraction = format!("{part:03}");
    let cpus = match fraction.trim_end_matches('0') {
        "" => whole.to_string(),
        fraction => format!("{whole}.{fraction}"),
    };
    let network = if row.network == SandboxNetwork::Open { "bridge" } else { "none" };
    format!(
        "docker run --rm -it --init --name {name} --cpus {cpus} --memory {memory}m --memory-swap {memory}m --pids-limit {pids} \
         --cap-drop ALL --security-opt no-new-privileges --network {network} -v rexec-home-{volume}:/home/user -w /home/user \
         {image} sh",
        memory = row.memory_mb,
        pids = row.pids,
        volume = row.volume_id,
        image = row.image,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn states(state: SandboxState, problem: Option<&SandboxProblem>) -> Vec<StepState> {
        steps(Desired::Running, state, false, problem, None).into_iter().map(|step| step.state).collect()
    }

    #[test]
    fn the_way_to_a_prompt_shows_what_is_done_and_where_it_stopped() {
        use StepState::{Done, Failed, Now, Todo};
        assert_eq!(states(SandboxState::Waiting, None), [Todo; 5]);
        assert_eq!(states(SandboxState::Starting, None), [Done, Done, Now, Todo, Todo]);
        assert_eq!(states(SandboxState::Ready, None), [Done; 5]);
        let problem = SandboxProblem {
            code: "no_space".into(),
            detail: String::new(),
            hint: String::new(),
            step: SandboxState::Creating,
        };
        assert_eq!(states(SandboxState::Failed, Some(&problem)), [Done, Failed, Todo, Todo, Todo]);
        assert!(steps(Desired::Stopped, SandboxState::Stopped, false, None, None).is_empty());
        let half = Progress { detail: Some("3 of 5 layers".into()), percent: Some(50) };
        let pulling = steps(Desired::Running, SandboxState::Pulling, false, None, Some(&half));
        assert_eq!((pulling[0].percent, pulling[1].percent), (Some(50), None));
        let bad = SandboxProblem { step: SandboxState::SettingUp, ..problem };
        let ready = steps(Desired::Running, SandboxState::Ready, true, Some(&bad), None);
        let states: Vec<_> = ready.iter().map(|step| step.state).collect();
        assert_eq!(states, [Done, Done, Done, Failed, Done, Done], "what was set up badly keeps nobody out");
    }
}
