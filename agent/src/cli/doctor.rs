//! `doctor`: everything between this machine and its broker, each thing tried for real, all at once, within seconds.
//!
//! It dials by the uplink's own code and only shakes hands: a broker counts a tunnel at its `Hello`, so that of an agent that runs is not displaced.

use std::process::ExitCode;
use std::time::Duration;

use super::{Complaint, Profile, processes};
use crate::state::Registration;
use crate::uplink::proxy::Proxies;

mod certificate;
mod local;
mod network;
mod report;

use report::{Check, Report};

/// How long each thing may take. All are tried at once, so this and a little is the whole.
const DEADLINE: Duration = Duration::from_secs(6);

pub(super) fn run(profile: &Profile, is_json: bool) -> Result<ExitCode, Complaint> {
    let runtime = processes::runtime()?;
    let checks = runtime.block_on(examine(profile));
    // A name server that does not answer holds a thread for longer than we wait.
    runtime.shutdown_background();
    Report::new(profile, checks).show(is_json)
}

async fn examine(profile: &Profile) -> Vec<Check> {
    let (registration, first) = local::registration(profile);
    let mut checks = vec![first];
    checks.extend(local::directories(profile));
    match registration {
        Some(registration) => checks.extend(examine_registered(profile, &registration).await),
        None => {
            let server = profile.default_server().ok().flatten();
            if let Some(server) = server {
                checks.extend(network::control(server).await);
            }
        }
    }
    checks
}

async fn examine_registered(profile: &Profile, registration: &Registration) -> Vec<Check> {
    let (secured, certificate) = certificate::check(profile, registration);
    let proxies = Proxies::from_environment();
    let (control, tunnel, agent) = tokio::join!(
        network::control(registration.server.clone()),
        network::tunnel(&registration.tunnel, secured.as_ref(), &proxies),
        local::agent(profile),
    );
    [certificate].into_iter().chain(control).chain(tunnel).chain([agent]).collect()
}
