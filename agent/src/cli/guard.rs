//! `guard`: closes a sandbox's network, from a helper container that has joined its namespace.

use std::process::ExitCode;

use rexec_shared::sandbox::{EGRESS_ENV, Egress, REACH_MAX};

use super::{Complaint, processes};
use crate::guard;

pub(super) fn run() -> Result<ExitCode, Complaint> {
    let rules = std::env::var(EGRESS_ENV)
        .map_err(|_| Complaint::new(format!("{EGRESS_ENV} is not set: it holds the rules")))?;
    let egress: Egress = serde_json::from_str(&rules)
        .map_err(|error| Complaint::new(format!("{EGRESS_ENV} holds no rules: {error}")))?;
    if egress.reach.len() > REACH_MAX {
        return Err(Complaint::new(format!(
            "{} exceptions are too many: {REACH_MAX} at most",
            egress.reach.len()
        )));
    }
    processes::runtime()?
        .block_on(guard::apply(&egress))
        .map_err(|error| Complaint::new(format!("the rules cannot be set: {error}")))?;
    Ok(ExitCode::SUCCESS)
}
