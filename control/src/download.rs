//! What a machine downloads to become one: the installer with this installation's address in it, and the agent with its hash.

use std::collections::HashMap;
use std::fs::{File, Metadata};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use aws_lc_rs::digest;
use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use http::header;
use tokio::sync::OnceCell;
use tokio_util::io::ReaderStream;

use crate::app::App;
use crate::error::ApiError;
use crate::extract::Params;

/// The installer; see the file itself.
const SCRIPT: &str = include_str!("../../install-agent.sh");
/// Stands for this installation's address in it.
const PLACEHOLDER: &str = "__REXEC_SERVER__";
/// Systems and processors that an agent may be offered for.
const SYSTEMS: [&str; 2] = ["linux", "darwin"];
const PROCESSORS: [&str; 2] = ["amd64", "arm64"];

/// `GET /install-agent.sh`.
///
/// The address is a parsed URL's origin: nothing in it means anything to a shell.
pub async fn install_script(State(app): State<App>) -> Response {
    let script = SCRIPT.replace(PLACEHOLDER, &app.public_origin());
    ([(header::CONTENT_TYPE, "text/x-shellscript; charset=utf-8")], script).into_response()
}

/// `GET /download/agent/{os}-{arch}` and `.sha256`.
///
/// # Errors
/// 404 when this installation has no agent for the machine.
pub async fn agent(State(app): State<App>, Params(file): Params<String>) -> Result<Response, ApiError> {
    let (target, wants_hash) =
        file.strip_suffix(".sha256").map_or((file.as_str(), false), |target| (target, true));
    let path = path_of(&app, target).ok_or_else(|| ApiError::not_found("agent"))?;
    let missing = |_| {
        ApiError::not_found("agent")
            .hint(format!("this installation serves no agent for {target}: see REXEC_DOWNLOAD_DIR"))
    };
    if wants_hash {
        let hash = app.parts().hashes.of(&path).await.map_err(missing)?;
        let line = format!("{hash}  rexec-agent-{target}\n");
        return Ok(([(header::CONTENT_TYPE, "text/plain; charset=utf-8")], line).into_response());
    }
    let file = tokio::fs::File::open(&path).await.map_err(missing)?;
    let length = file.metadata().await.map_err(missing)?.len();
    let headers = [
        (header::CONTENT_TYPE, "application/octet-stream".to_owned()),
        (header::CONTENT_LENGTH, length.to_string()),
    ];
    Ok((headers, Body::from_stream(ReaderStream::new(file))).into_response())
}

/// Hashes of the files served. A file is read again only when it has changed, and once however many ask at the same time; the files
/// are the few of [`path_of`], so nothing here grows.
#[derive(Debug, Default)]
pub struct Hashes(Mutex<HashMap<PathBuf, Known>>);

/// What is known of one file's content, and which content that is.
#[derive(Debug, Clone)]
struct Known {
    version: Version,
    hash: Arc<OnceCell<String>>,
}

/// Tells one content of a file from another: when it was written, how long it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Version {
    written: Option<SystemTime>,
    length: u64,
}

impl Version {
    fn of(metadata: &Metadata) -> Self {
        Self { written: metadata.modified().ok(), length: metadata.len() }
    }
}

impl Hashes {
    /// SHA-256 of the file at `path`, in hexadecimal.
    ///
    /// # Errors
    /// When it cannot be read.
    pub async fn of(&self, path: &Path) -> io::Result<String> {
        let file = tokio::fs::File::open(path).await?;
        let version = Version::of(&file.metadata().await?);
        let hash = self.cell(path, version);
        let made = hash.get_or_try_init(async || {
            let file = file.into_std().await;
            tokio::task::spawn_blocking(move || sha256(file)).await.map_err(io::Error::other)?
        });
        made.await.cloned()
    }

    fn cell(&self, path: &Path, version: Version) -> Arc<OnceCell<String>> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let fresh = || Known { version, hash: Arc::default() };
        let entry = known.entry(path.to_owned()).or_insert_with(fresh);
        if entry.version != version {
            *entry = fresh();
        }
        Arc::clone(&entry.hash)
    }
}

fn sha256(mut file: File) -> io::Result<String> {
    let mut context = digest::Context::new(&digest::SHA256);
    let mut part = vec![0; 64 * 1024];
    loop {
        let read = file.read(&mut part)?;
        match part.get(..read) {
            None | Some([]) => return Ok(hex::encode(context.finish())),
            Some(bytes) => context.update(bytes),
        }
    }
}

/// The file of an agent: exactly the known targets, so that no path is made of what somebody sent. Beside this binary the agent for this
/// very machine may have its plain name.
fn path_of(app: &App, target: &str) -> Option<PathBuf> {
    let (system, processor) = target.split_once('-')?;
    let (system, processor) = (known(&SYSTEMS, system)?, known(&PROCESSORS, processor)?);
    let dir = &app.settings().agent_dir;
    let named = dir.join(format!("rexec-agent-{system}-{processor}"));
    let plain = dir.join("rexec-agent");
    let is_this_machine = (system, processor) == (this_system(), this_processor());
    Some(if is_this_machine && !named.exists() && plain.exists() { plain } else { named })
}

fn known(all: &[&'static str], asked: &str) -> Option<&'static str> {
    all.iter().copied().find(|known| *known == asked)
}

fn this_system() -> &'static str {
    if std::env::consts::OS == "macos" { "darwin" } else { std::env::consts::OS }
}

fn this_processor() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_file_is_hashed_once_until_it_changes() {
        let dir = tempfile::tempdir().expect("a directory");
        let (path, hashes) = (dir.path().join("agent"), Hashes::default());
        std::fs::write(&path, b"abc").expect("written");
        let first = hashes.of(&path).await.expect("hashed");
        assert_eq!(first, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        let version = Version::of(&std::fs::metadata(&path).expect("there"));
        assert!(hashes.cell(&path, version).initialized(), "what is known is not read again");
        std::fs::write(&path, b"abcd").expect("written");
        assert_ne!(hashes.of(&path).await.expect("hashed"), first);
        assert!(hashes.of(&dir.path().join("gone")).await.is_err());
    }
}
