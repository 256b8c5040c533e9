//! The command line: `register`, `start`, `stop`, `status`, `doctor`, `unregister`, and the two hidden processes.
//!
//! Tokens never travel in argv: every user of a machine can read that, and the shell keeps it (THREATS ST-01). Each failure names what to do.

use std::ffi::OsString;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use tracing_subscriber::EnvFilter;

use crate::control_api::parse_server;
use crate::enrolment::TOKEN_PREFIX;
use crate::state::Profile;
use crate::supervisor::{self, Output};

mod complaint;
mod daemon;
mod doctor;
mod guard;
mod host_link;
mod leave;
mod processes;
mod prompt;
mod register;
mod sandbox;
mod say;
mod status;

use complaint::Complaint;

/// Exit code of `status` and `start` when the agent does not run.
const EXIT_NOT_RUNNING: u8 = 3;
/// Exit code of `status` and `start --daemon` when it runs and is not online.
const EXIT_NOT_ONLINE: u8 = 4;

/// Makes this machine reachable through Rexec, without opening a port.
#[derive(Parser, Debug)]
#[command(
    name = "rexec-agent",
    version,
    max_term_width = 100,
    after_help = "First steps:\n  rexec-agent register --name my-laptop   prints a link; approve it in the browser\n  rexec-agent start --daemon              goes online and stays so\n  rexec-agent status                      says how it fares\n  rexec-agent doctor                      tries what stands in the way\n\nFiles lie under ~/.config/rexec-agent, ~/.local/share/rexec-agent and ~/.local/state/rexec-agent,\nor all under the directory that REXEC_AGENT_DIR names. REXEC_LOG sets the log level (info)."
)]
struct Cli {
    /// Which agent of this user: each profile is a machine of its own
    #[arg(long, global = true, default_value = "default", env = "REXEC_PROFILE", value_name = "NAME")]
    profile: String,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Adds this machine to Rexec, by approval in the browser or with a join token
    Register(Register),
    /// Goes online; the shells opened here live as long as this runs
    Start(Start),
    /// Goes offline and ends every session on this machine
    Stop,
    /// Says whether this machine is registered, running and online
    ///
    /// Exit codes: 0 online, 3 not running, 4 running but not online, 1 anything else.
    Status(Status),
    /// Tries everything that stands between this machine and Rexec, and says what to do about it
    ///
    /// Ten seconds at most, whether the agent runs or not; its tunnel and sessions are left alone.
    /// Exit codes: 0 nothing has failed (warnings may be there), 1 something has.
    Doctor(Doctor),
    /// Removes this machine from Rexec and forgets its key
    Unregister(Unregister),
    /// Keeps the server that later commands talk to
    #[command(hide = true)]
    SetServer {
        /// Address of the installation
        url: String,
    },
    /// The agent of a sandbox: waits on standard input to be admitted, then goes online
    #[command(hide = true)]
    Sandbox,
    /// Closes the network of a sandbox, from inside its namespace
    #[command(hide = true)]
    Guard,
    /// Makes the directory /to what /from is, in a helper container
    #[command(hide = true)]
    CopyHome,
    /// The session host, detached
    #[command(hide = true)]
    Host(Host),
    /// The uplink, started by the session host
    #[command(hide = true)]
    Uplink,
}

/// Adds this machine to Rexec.
#[derive(Args, Debug)]
struct Register {
    /// Name the machine gets in Rexec: letters, digits, '.', '_', '-' [default: the host name]
    #[arg(long)]
    name: Option<String>,
    /// Address of the Rexec installation [default: where this agent was downloaded from]
    #[arg(long, env = "REXEC_SERVER", value_name = "URL")]
    server: Option<String>,
    /// Reads a join token from FILE, or from standard input with '-'; without it a person approves in the browser
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
}

/// Goes online.
#[derive(Args, Debug)]
struct Start {
    /// Runs in the background and returns as soon as the machine is online
    #[arg(long)]
    daemon: bool,
}

/// How it fares.
#[derive(Args, Debug)]
struct Status {
    /// Prints JSON for programs
    #[arg(long)]
    json: bool,
}

/// What is wrong.
#[derive(Args, Debug)]
struct Doctor {
    /// Prints JSON for programs
    #[arg(long)]
    json: bool,
}

/// Leaves.
#[derive(Args, Debug)]
struct Unregister {
    /// Only forgets key and registration here, without telling the server
    #[arg(long)]
    local: bool,
}

/// How a detached host is started.
#[derive(Args, Debug)]
struct Host {
    /// Leaves the terminal's session first, and starts the host proper
    #[arg(long)]
    detach: bool,
}

/// The whole program.
pub fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    if let Err(complaint) = refuse_tokens(&arguments) {
        return complaint.show();
    }
    let cli = Cli::parse_from(arguments);
    // The one provider of this process; ureq and quinn are given it explicitly too, so a second install changes nothing.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    start_log();
    match run(cli) {
        Ok(code) => code,
        Err(complaint) => complaint.show(),
    }
}

fn run(cli: Cli) -> Result<ExitCode, Complaint> {
    let profile = Profile::locate(&cli.profile)?;
    match cli.command {
        Command::Register(options) => register::run(&profile, options),
        Command::Start(Start { daemon: true }) => daemon::start(&profile),
        Command::Start(Start { daemon: false }) => processes::foreground(profile),
        Command::Stop => leave::stop(&profile),
        Command::Status(options) => status::run(&profile, options.json),
        Command::Doctor(options) => doctor::run(&profile, options.json),
        Command::Unregister(options) => leave::unregister(&profile, options.local),
        Command::SetServer { url } => set_server(&profile, &url),
        Command::Sandbox => sandbox::run(profile),
        Command::Guard => guard::run(),
        Command::CopyHome => copy_home(),
        Command::Host(Host { detach: true }) => daemon::detach(&profile),
        Command::Host(Host { detach: false }) => processes::host(profile),
        Command::Uplink => processes::uplink(profile),
    }
}

/// `copy-home`: the bytes copied, on standard output.
fn copy_home() -> Result<ExitCode, Complaint> {
    let copied = crate::copy_home::copy(Path::new("/from"), Path::new("/to"));
    say::say(&copied.map_err(|error| Complaint::new(error.to_string()))?.bytes.to_string());
    Ok(ExitCode::SUCCESS)
}

fn set_server(profile: &Profile, url: &str) -> Result<ExitCode, Complaint> {
    let server =
        parse_server(url).map_err(|error| Complaint::new(format!("{url} cannot be used: {error}")))?;
    profile.set_installed_server(&server)?;
    Ok(ExitCode::SUCCESS)
}

/// Refuses a token in argv without repeating it, before any parser can.
fn refuse_tokens(arguments: &[OsString]) -> Result<(), Complaint> {
    let is_token = |argument: &OsString| {
        let text = argument.to_string_lossy();
        text == "--token" || text.starts_with("--token=") || text.contains(TOKEN_PREFIX)
    };
    if !arguments.iter().skip(1).any(is_token) {
        return Ok(());
    }
    Err(Complaint::new("a join token does not belong on the command line: every user of this machine can read it there, and your shell keeps it")
        .hint("put it into a file and use --token-file FILE, or --token-file - to give it on standard input"))
}

fn start_log() {
    let filter = EnvFilter::try_from_env("REXEC_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        // A line that the log does not take (its disk is full) is lost; told on the same standard error, it would panic whoever said it.
        .log_internal_errors(false);
    // Fails only where a log has been set up already.
    let _ = log.with_target(false).try_init();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }

    #[test]
    fn st_01_a_token_in_argv_is_refused_and_not_repeated() {
        for arguments in [
            vec!["rexec-agent", "register", "--token", "rexec_join_secret"],
            vec!["rexec-agent", "register", "--token=abc"],
            vec!["rexec-agent", "register", "rexec_join_secret"],
            vec!["rexec-agent", "register", "--server", "https://x/?t=rexec_join_secret"],
        ] {
            let arguments: Vec<OsString> = arguments.into_iter().map(Into::into).collect();
            let complaint = refuse_tokens(&arguments).unwrap_err();
            let shown = format!("{complaint:?}");
            assert!(shown.contains("--token-file") && !shown.contains("secret"), "{shown}");
        }
        assert!(refuse_tokens(&["rexec-agent".into(), "--token-file".into(), "x".into()]).is_ok());
    }
}
