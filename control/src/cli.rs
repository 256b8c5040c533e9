//! The command line.

use std::io::{IsTerminal as _, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::{Args, Parser, Subcommand};
use sea_orm::{ColumnTrait as _, DatabaseConnection, EntityTrait as _, QueryFilter as _, QueryOrder as _};
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

use crate::audit::{self, Actor, Deed};
use crate::auth::identifier::EmailKey;
use crate::auth::password::{self, Passwords};
use crate::broker_command::{self, BrokerCommand};
use crate::enrolment::{self, NewJoinToken};
use crate::entity::{Role, membership, person};
use crate::keys::Keys;
use crate::limits::{JOIN_TTL_DEFAULT_S, JOIN_TTL_MAX_S, JOIN_TTL_MIN_S, JOIN_USES_MAX, LABEL_MAX};
use crate::scope::Scope;
use crate::secret::Secret;
use crate::server::Server;
use crate::settings::{Flags, LogFormat, Settings};
use crate::setup::{self, NewPerson};
use crate::time::Clock;
use crate::{api, audit_command, db, health_command, words};

/// The control plane of Rexec: a whole installation in one process.
///
/// Without a command it serves: the web app and the API on PORT, the tunnels of agents on REXEC_TUNNEL_ADDR. Everything it keeps is in
/// one data directory. Every flag can be given as an environment variable; DATABASE_URL and JWT_SECRET only so, because a command
/// line is everybody's to read.
#[derive(Debug, Parser)]
#[command(
    name = "rexec-control",
    version,
    after_help = "Environment only:\n  DATABASE_URL  sqlite://… or postgres://… [default: SQLite in the data directory]\n  JWT_SECRET    keys every stored token and cookie [default in development: made and kept in the data directory]\n  DATABASE_URL_FILE, JWT_SECRET_FILE  files whose first line is that"
)]
pub struct Cli {
    /// Settings.
    #[command(flatten)]
    flags: Flags,
    /// What to do.
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the installation until Ctrl-C (the default).
    Serve,
    /// People who own an organisation.
    #[command(subcommand)]
    Owner(OwnerCommand),
    /// Tokens that enrol machines.
    #[command(subcommand)]
    JoinToken(JoinTokenCommand),
    /// Brokers that stand alone.
    #[command(subcommand)]
    Broker(BrokerCommand),
    /// What was done, by whom.
    #[command(subcommand)]
    Audit(AuditCommand),
    /// Print a fresh one-time link that makes the owner's account; earlier links end.
    SetupLink,
    /// Ask the installation on this machine whether it is ready; the exit code tells a health check.
    Health,
    /// Print the OpenAPI document of the HTTP API.
    Openapi,
}

#[derive(Debug, Subcommand)]
enum OwnerCommand {
    /// Make a person who owns an organisation of their own, without a browser.
    Create(OwnerCreate),
}

#[derive(Debug, Args)]
struct OwnerCreate {
    /// The address to sign in with.
    #[arg(long)]
    email: String,
    /// The name others see [default: the address up to the @].
    #[arg(long)]
    name: Option<String>,
    /// File with the password in its first line; `-` reads standard input.
    #[arg(long)]
    password_file: PathBuf,
}

#[derive(Debug, Subcommand)]
enum AuditCommand {
    /// Check every organisation's chain and print its end: organisation, number of entries, hash of the last.
    ///
    /// A chain proves that nothing in it was changed, added, removed or moved. That its end was not cut off, nor all of it written anew,
    /// only an earlier end proves: keep what this prints away from the database, and give it back with --seen.
    Verify(AuditVerify),
}

#[derive(Debug, Args)]
struct AuditVerify {
    /// File with what this printed earlier: all of it must still be there.
    #[arg(long)]
    seen: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum JoinTokenCommand {
    /// Make a join token for the owner's organisation.
    Create(JoinTokenCreate),
}

#[derive(Debug, Args)]
struct JoinTokenCreate {
    /// Life in seconds.
    #[arg(long, default_value_t = JOIN_TTL_DEFAULT_S, value_parser = clap::value_parser!(u32).range(i64::from(JOIN_TTL_MIN_S)..=i64::from(JOIN_TTL_MAX_S)))]
    ttl: u32,
    /// How many machines it enrols.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=i64::from(JOIN_USES_MAX)))]
    uses: u32,
    /// What to call it.
    #[arg(long, default_value = "made on the command line")]
    label: String,
    /// The owner whose organisation the machines join [default: the first].
    #[arg(long)]
    email: Option<String>,
    /// Write the token to this file, mode 0600, instead of standard output.
    #[arg(long)]
    out: Option<PathBuf>,
}

/// Runs the command; the process ends with what it returns.
pub fn main(cli: Cli) -> ExitCode {
    match run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            #[expect(clippy::print_stderr, reason = "a command's last word goes to its user")]
            {
                eprintln!("rexec-control: {error:#}");
            }
            ExitCode::FAILURE
        }
    }
}

fn run(cli: Cli) -> anyhow::Result<()> {
    if matches!(cli.command, Some(Command::Openapi)) {
        return say(api::document()?.trim_end());
    }
    start_log(&cli.flags)?;
    // Every TLS library in the process uses the one provider; it is set once, here.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let settings = Settings::resolve(&cli.flags)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("no runtime")?;
    runtime.block_on(async {
        match cli.command.unwrap_or(Command::Serve) {
            Command::Serve => serve(settings).await,
            Command::Owner(OwnerCommand::Create(wish)) => create_owner(&settings, wish).await,
            Command::JoinToken(JoinTokenCommand::Create(wish)) => create_join_token(&settings, wish).await,
            Command::Broker(command) => broker_command::run(&settings, command).await,
            Command::Audit(AuditCommand::Verify(wish)) => audit_verify(&settings, &wish).await,
            Command::SetupLink => setup_link(&settings).await,
            Command::Health => health_command::run(&settings).await,
            Command::Openapi => Ok(()),
        }
    })
}

/// Prints a line for whoever started the command. The log goes elsewhere.
pub(crate) fn say(line: &str) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}").and_then(|()| out.flush()).context("standard output is closed")
}

fn start_log(flags: &Flags) -> anyhow::Result<()> {
    let filter =
        EnvFilter::try_new(&flags.rexec_log).with_context(|| format!("REXEC_LOG `{}`", flags.rexec_log))?;
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        // A line that the log does not take (its disk is full) is lost; told on the same standard error, it would panic whoever said it.
        .log_internal_errors(false);
    let started = match flags.rexec_log_format {
        LogFormat::Text => log.try_init(),
        LogFormat::Json => log.json().try_init(),
    };
    started.map_err(|error| anyhow::anyhow!("the log cannot be started: {error}"))
}

async fn serve(settings: Settings) -> anyhow::Result<()> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let server = Server::start(settings).await?;
    greet(&server).await?;
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    tracing::info!("ending");
    tokio::select! {
        stopped = server.stop() => stopped.context("the database did not close")?,
        _ = interrupt.recv() => bail!("ended at once, because it was told twice"),
        _ = terminate.recv() => bail!("ended at once, because it was told twice"),
    }
    say("Rexec has ended.")
}

async fn greet(server: &Server) -> anyhow::Result<()> {
    let app = server.app();
    let origin = app.public_origin();
    say(&format!("Rexec {} is at {origin}", env!("CARGO_PKG_VERSION")))?;
    say(&format!("  web and API  listening on {} (tcp)", server.addr()))?;
    match &app.parts().broker {
        Some(broker) => {
            let (tunnel, public) =
                (broker.tunnel_addr(), app.parts().brokers.embedded_addr().unwrap_or_default());
            say(&format!("  tunnels      listening on {tunnel} (udp), agents dial {public}"))?;
        }
        None => say("  tunnels      at brokers that stand alone")?,
    }
    say(&format!("  data         in {}", app.settings().data_dir.display()))?;
    if !app.parts().web.is_here().await {
        say("  The web app is not built into this binary: run `make build`, or set WEB_DIR.")?;
    }
    if let Some(token) = setup::mint_token(app.db(), app.vault(), app.now()).await? {
        say("\nNobody owns this installation yet. This link makes the owner's account, once:\n")?;
        say(&format!("  {}\n", setup_address(&origin, &token)))?;
    }
    Ok(())
}

/// The token stands in the fragment, which no browser sends to a server.
fn setup_address(origin: &str, token: &Secret<String>) -> String {
    format!("{origin}/setup#{}", token.expose())
}

async fn setup_link(settings: &Settings) -> anyhow::Result<()> {
    let vault = Keys::load_vault(settings)?;
    let db = db::open(&settings.database_url).await?;
    let token = setup::mint_token(&db, &vault, Clock::default().now()).await?;
    let Some(token) = token else { bail!("somebody owns this installation already: sign in instead") };
    say(&setup_address(&settings.public_origin(), &token))?;
    Ok(db.close().await?)
}

async fn audit_verify(settings: &Settings, wish: &AuditVerify) -> anyhow::Result<()> {
    crate::keys::make_data_dir(settings)?;
    let db = db::open(&settings.database_url).await?;
    let ends = audit_command::verify_all(&db, wish.seen.as_deref()).await?;
    db.close().await?;
    say(ends.trim_end())
}

async fn create_owner(settings: &Settings, wish: OwnerCreate) -> anyhow::Result<()> {
    let key = EmailKey::of(&wish.email);
    if !key.is_plausible() {
        bail!("`{}` is no e-mail address", wish.email);
    }
    let password = read_password(&wish.password_file)?;
    if let Err(why) = password::check_new(password.expose(), &wish.email) {
        bail!("{why}");
    }
    let name = wish.name.unwrap_or_else(|| wish.email.split('@').next().unwrap_or_default().to_owned());
    let password_hash = Passwords::new()?.hash(password).await?;
    let new = NewPerson { email: wish.email, name: words::printable(&name, LABEL_MAX), password_hash };

    Keys::load_vault(settings)?;
    let db = db::open(&settings.database_url).await?;
    let tx = db::write(&db).await?;
    let (person, _) = setup::make_owner(&tx, new, &Actor::operator(), Clock::default().now()).await?;
    tx.commit().await?;
    say(&format!(
        "{} owns an organisation now; sign in at {}/sign-in",
        person.email,
        settings.public_origin()
    ))?;
    Ok(db.close().await?)
}

fn read_password(file: &Path) -> anyhow::Result<Secret<String>> {
    let mut text = String::new();
    if file == Path::new("-") {
        std::io::stdin().read_to_string(&mut text).context("standard input")?;
    } else {
        text = std::fs::read_to_string(file).with_context(|| format!("password file {}", file.display()))?;
    }
    Ok(Secret::new(text.lines().next().unwrap_or_default().to_owned()))
}

async fn create_join_token(settings: &Settings, wish: JoinTokenCreate) -> anyhow::Result<()> {
    let vault = Keys::load_vault(settings)?;
    let db = db::open(&settings.database_url).await?;
    let owner = owner(&db, wish.email.as_deref()).await?;
    let (scope, now) = (Scope::of(owner.organisation_id), Clock::default().now());
    let new = NewJoinToken {
        label: words::printable(&wish.label, LABEL_MAX),
        life: Duration::from_secs(u64::from(wish.ttl)),
        uses: i32::try_from(wish.uses)?,
        made_by: owner.person_id,
        key_fingerprint: None,
        machine: None,
    };
    let tx = db::write(&db).await?;
    let (row, token) = enrolment::make_join_token(&tx, &vault, scope, new, now).await?;
    audit::append(&tx, scope, now, &Actor::operator(), Deed::new("join_token.create", row.id)).await?;
    tx.commit().await?;
    match &wish.out {
        Some(file) => write_private(file, token.expose())?,
        None => say(token.expose())?,
    }
    Ok(db.close().await?)
}

/// The owner with this address, or the first one.
pub(crate) async fn owner(db: &DatabaseConnection, email: Option<&str>) -> anyhow::Result<membership::Model> {
    let mut owners = membership::Entity::find().filter(membership::Column::Role.eq(Role::Owner));
    if let Some(email) = email {
        let key = EmailKey::of(email);
        let person = person::Entity::find().filter(person::Column::EmailKey.eq(key.as_str())).one(db).await?;
        let person = person.with_context(|| format!("nobody signs in as {email}"))?;
        owners = owners.filter(membership::Column::PersonId.eq(person.id));
    }
    let owner = owners.order_by_asc(membership::Column::CreatedAt).one(db).await?;
    owner.context(
        "nobody owns this installation yet: `rexec-control setup-link` or `rexec-control owner create`",
    )
}

/// Writes a secret to a file that only its owner can read, from its first byte on.
pub(crate) fn write_private(file: &Path, text: &str) -> anyhow::Result<()> {
    let named = || file.display().to_string();
    if file.exists() {
        std::fs::remove_file(file).with_context(named)?;
    }
    let mut out = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(file)
        .with_context(named)?;
    writeln!(out, "{text}").with_context(named)
}
