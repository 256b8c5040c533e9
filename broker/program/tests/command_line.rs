//! What `rexec-broker` says before it does anything.

use std::path::Path;
use std::process::{Command, Output};

fn run(dir: &Path, credential: &Path, control: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rexec-broker"));
    command.env_clear().env("REXEC_CONTROL_URL", control).env("REXEC_BROKER_CREDENTIAL_FILE", credential);
    command.env("REXEC_DATA_DIR", dir.join("data")).output().expect("the program runs")
}

#[test]
fn st_01_a_credential_that_is_not_there_is_named_by_its_file_and_nothing_is_begun() {
    let dir = tempfile::tempdir().unwrap();
    let credential = dir.path().join("credential");
    for (text, said) in [(None, "credential file"), (Some("\n"), "holds no credential")] {
        if let Some(text) = text {
            std::fs::write(&credential, text).unwrap();
        }
        let output = run(dir.path(), &credential, "http://127.0.0.1:1");
        let words = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && words.contains(said), "{words}");
        assert!(words.contains(&credential.display().to_string()), "{words}");
    }
    assert!(!dir.path().join("data").exists());
}

#[test]
fn an_address_of_control_that_is_none_is_named_by_its_setting() {
    let dir = tempfile::tempdir().unwrap();
    let credential = dir.path().join("credential");
    std::fs::write(&credential, "rexec_broker_canary\n").unwrap();
    let output = run(dir.path(), &credential, "https://control.example/app");
    let words = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && words.contains("REXEC_CONTROL_URL"), "{words}");
    assert!(!words.contains("canary"), "{words}");
}

#[test]
fn no_argument_takes_the_credential_itself() {
    let output =
        Command::new(env!("CARGO_BIN_EXE_rexec-broker")).arg("--help").output().expect("the program runs");
    let help = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(help.contains("--rexec-broker-credential-file"), "{help}");
    assert!(!help.contains("--rexec-broker-credential ") && !help.contains("TOKEN"), "{help}");
}
