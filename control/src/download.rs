//! What a machine downloads to become one: the installer with this installation's address in it, and the agent with its hash.

use std::path::PathBuf;

use aws_lc_rs::digest;
use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use http::header;
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
        let bytes = tokio::fs::read(&path).await.map_err(missing)?;
        let hash = hex::encode(digest::digest(&digest::SHA256, &bytes));
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
