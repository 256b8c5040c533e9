//! THREATS RL-04: `install-agent.sh` against a real HTTP server, whole, cut short at every line, and with an altered download.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};

use crate::control::serve;
use crate::support::{Home, Ran};

/// The script, and a server that has the agent.
struct Installation {
    script: String,
    files: Arc<Mutex<BTreeMap<String, Vec<u8>>>>,
    requests: Arc<Mutex<Vec<String>>>,
    url: String,
}

fn agent_path() -> PathBuf {
    PathBuf::from(env!("CARGO_BIN_EXE_rexec-agent"))
}

fn sha256(bytes: &[u8]) -> String {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes);
    digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

impl Installation {
    fn start() -> Self {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../install-agent.sh");
        let agent = std::fs::read(agent_path()).unwrap();
        let arch = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
        let name = format!("/download/agent/linux-{arch}");
        let files = BTreeMap::from([
            (
                format!("{name}.sha256"),
                format!("{}  rexec-agent-linux-{arch}\n", sha256(&agent)).into_bytes(),
            ),
            (name, agent),
        ]);
        let (files, requests) = (Arc::new(Mutex::new(files)), Arc::new(Mutex::new(Vec::new())));
        let (served, seen) = (Arc::clone(&files), Arc::clone(&requests));
        let address = serve(move |path, _| {
            seen.lock().unwrap().push(path.to_owned());
            match served.lock().unwrap().get(path) {
                Some(bytes) => (200, "application/octet-stream".into(), bytes.clone()),
                None => (404, "application/problem+json".into(), b"{}".to_vec()),
            }
        });
        let url = format!("http://{address}");
        let script = std::fs::read_to_string(path).unwrap().replace("__REXEC_SERVER__", &url);
        Self { script, files, requests, url }
    }

    /// Pipes a script into bash, as people do.
    fn pipe(&self, home: &Home, script: &str) -> Ran {
        let bin = home.root().join("bin");
        let script = home.file("script", script);
        let output = Command::new("bash")
            .env_clear()
            .env("PATH", "/usr/local/bin:/usr/bin:/bin")
            .env("HOME", home.root())
            .env("REXEC_AGENT_DIR", home.root().join("state"))
            .env("REXEC_BIN_DIR", &bin)
            .stdin(std::fs::File::open(script).unwrap())
            .output()
            .unwrap();
        Ran {
            code: output.status.code().unwrap_or(-1),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

#[test]
fn the_installer_puts_a_checked_agent_in_place_that_knows_its_server() {
    let (home, installation) = (Home::new(), Installation::start());
    let ran = installation.pipe(&home, &installation.script).succeeded();
    for words in ["rexec-agent register --name", "rexec-agent start --daemon", "export PATH="] {
        assert!(ran.out.contains(words), "{words} in {ran:?}");
    }
    let installed = home.root().join("bin/rexec-agent");
    assert_eq!(std::fs::read(&installed).unwrap(), std::fs::read(agent_path()).unwrap());
    assert_eq!(std::fs::read_dir(home.root().join("bin")).unwrap().count(), 1, "nothing else stays");
    let config = std::fs::read_to_string(home.root().join("state/config.json")).unwrap();
    assert!(config.contains(&installation.url), "{config}");
    installation.pipe(&home, &installation.script).succeeded();
}

#[test]
fn rl_04_a_script_cut_short_at_any_line_does_nothing() {
    let installation = Installation::start();
    let lines: Vec<&str> = installation.script.lines().collect();
    for kept in 0..lines.len() {
        let home = Home::new();
        std::fs::create_dir_all(home.root()).unwrap();
        let cut = format!("{}\n", lines[..kept].join("\n"));
        installation.pipe(&home, &cut);
        assert_eq!(std::fs::read_dir(home.root()).unwrap().count(), 0, "cut after line {kept}");
    }
    assert_eq!(installation.requests.lock().unwrap().len(), 0);
}

#[test]
fn rl_04_an_altered_download_is_never_made_executable() {
    let (home, installation) = (Home::new(), Installation::start());
    for bytes in installation.files.lock().unwrap().values_mut().filter(|bytes| bytes.len() > 1000) {
        bytes[500] ^= 1;
    }
    installation.pipe(&home, &installation.script).failed_saying(&["damaged or altered", "SHA-256"]);
    assert_eq!(std::fs::read_dir(home.root().join("bin")).unwrap().count(), 0);
    assert!(!home.root().join("state").exists());
}

#[test]
fn rl_04_a_missing_checksum_or_agent_ends_the_installer() {
    let (home, installation) = (Home::new(), Installation::start());
    let missing: Vec<String> = installation.files.lock().unwrap().keys().cloned().collect();
    for name in missing {
        let bytes = installation.files.lock().unwrap().remove(&name).unwrap();
        installation.pipe(&home, &installation.script).failed_saying(&["cannot download"]);
        assert!(!home.root().join("bin/rexec-agent").exists());
        installation.files.lock().unwrap().insert(name, bytes);
    }
}

#[test]
fn rl_04_the_script_is_short_carries_no_token_and_acts_on_its_last_line_only() {
    let installation = Installation::start();
    let lines: Vec<&str> = installation.script.lines().collect();
    assert!(lines.len() <= 80, "{}", lines.len());
    assert!(!installation.script.contains("rexec_join"));
    assert_eq!(lines.last(), Some(&"main \"$@\""));
}
