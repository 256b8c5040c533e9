//! `sandbox`: the agent as the entry point of a container.
//!
//! It waits for one line on standard input, an [`Admission`]; until that comes it knows nobody, and nothing of a tenant runs. What it enrols with
//! is good once; key and certificate lie in the container's memory and end with it.

use std::io::{self, BufRead as _, Read as _};
use std::path::Path;
use std::process::ExitCode;

use rexec_shared::sandbox::{ADMISSION_MAX, Admission, HOME};

use super::say::say_error;
use super::{Complaint, Profile, processes};
use crate::control_api::{ControlApi, parse_server};
use crate::enrolment::{self, JoinToken};
use crate::state::MachineKey;

pub(super) fn run(profile: Profile) -> Result<ExitCode, Complaint> {
    prepare_home();
    // Whoever was here before, in this container's memory, is not who will be admitted now.
    profile.forget()?;
    let mut input = io::stdin().lock();
    loop {
        let line =
            read_line(&mut input).map_err(|error| Complaint::new(format!("cannot be admitted: {error}")))?;
        match admit(&profile, &line) {
            Ok(()) => break,
            // A token that ran out, or a control that was just away: another admission follows.
            Err(complaint) => drop(complaint.show()),
        }
    }
    drop(input);
    processes::foreground(profile)
}

/// An empty volume belongs to whoever the engine says; a missing one is no reason not to come up.
fn prepare_home() {
    let home = Path::new(HOME);
    if let Err(error) = std::fs::create_dir_all(home).and_then(|()| std::env::set_current_dir(home)) {
        say_error(&format!("warning: {HOME} cannot be used: {error}"));
    }
}

fn read_line(input: &mut impl io::BufRead) -> io::Result<String> {
    let mut line = String::new();
    let limit = u64::try_from(ADMISSION_MAX).unwrap_or(u64::MAX);
    if input.by_ref().take(limit).read_line(&mut line)? == 0 {
        return Err(io::Error::new(
            io::ErrorKind::UnexpectedEof,
            "standard input ended before an admission came",
        ));
    }
    Ok(line)
}

fn admit(profile: &Profile, line: &str) -> Result<(), Complaint> {
    let admission: Admission = serde_json::from_str(line)
        // What was sent may hold a token: it is not repeated.
        .map_err(|error| Complaint::new(format!("this is no admission (column {})", error.column())))?;
    let server = parse_server(&admission.server)
        .map_err(|error| Complaint::new(format!("the server's address cannot be used: {error}")))?;
    let token = JoinToken::parse(&admission.token)?;
    let key = MachineKey::generate().map_err(|error| Complaint::new(error.to_string()))?;
    let (_, skew) = enrolment::enrol(&ControlApi::new(server), profile, &admission.name, &key, token)?;
    if let Some(complaint) = skew.complaint() {
        say_error(&format!("warning: {complaint}"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_bounded_and_the_end_of_input_is_said() {
        let mut endless = io::BufReader::new(io::repeat(b'x'));
        assert_eq!(read_line(&mut endless).unwrap().len(), ADMISSION_MAX);
        assert!(read_line(&mut io::empty()).is_err());
    }

    #[test]
    fn st_01_what_cannot_be_read_is_not_repeated() {
        let dir = tempfile::tempdir().unwrap();
        let profile = Profile::at(dir.path(), "default").unwrap();
        for line in
            ["rexec_join_secret\n", r#"{"token":"rexec_join_secret"}"#, r#"{"server":"rexec_join_secret"#]
        {
            let shown = format!("{:?}", admit(&profile, line).unwrap_err());
            assert!(!shown.contains("secret"), "{shown}");
        }
        assert!(profile.registration().unwrap().is_none());
    }
}
