//! From the start to the end: what was kept or control's first welcome, the broker, the link, and an orderly way out.

use std::io::IsTerminal as _;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, bail};
use rexec_broker::{Broker, BrokerConfig, Drain};
use rexec_shared::broker_link::{LinkWelcome, ToBroker};
use rexec_shared::pki::Identity;
use rexec_shared::ticket::PublicKey;
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;

use crate::control::Connection;
use crate::link::{self, Link, Over, Status, certificate_end};
use crate::settings::{Flags, LogFormat, Settings};
use crate::store::{Feeds, Store};
use crate::web::{self, Web};

/// Messages between broker and link that may wait.
const QUEUE: usize = 1_024;
/// How long streams may go on when agents have other brokers to go to: their agents move within a second, and end them by that.
const DRAIN_GRACE: Duration = Duration::from_secs(30);
/// How long the last events may take to reach control.
const FAREWELL: Duration = Duration::from_secs(2);

pub(crate) fn main(flags: &Flags) -> anyhow::Result<()> {
    start_log(flags)?;
    // Every TLS library in the process uses the one provider; it is set once, here.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    raise_open_files();
    let settings = Settings::resolve(flags)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("no runtime")?;
    runtime.block_on(run(settings))
}

fn start_log(flags: &Flags) -> anyhow::Result<()> {
    let filter =
        EnvFilter::try_new(&flags.rexec_log).with_context(|| format!("REXEC_LOG `{}`", flags.rexec_log))?;
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    let started = match flags.rexec_log_format {
        LogFormat::Text => log.try_init(),
        LogFormat::Json => log.json().try_init(),
    };
    started.map_err(|error| anyhow::anyhow!("the log cannot be started: {error}"))
}

/// Each connection is an open file, and the usual soft limit of 1,024 is far below what a broker takes.
fn raise_open_files() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let maximum = getrlimit(Resource::Nofile).maximum;
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }) {
        tracing::warn!(%error, "no more open files are allowed");
    }
}

/// SIGINT and SIGTERM.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

async fn run(settings: Settings) -> anyhow::Result<()> {
    let mut signals =
        Signals { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? };
    let store = Arc::new(Store::open(&settings.data_dir)?);
    let settings = Arc::new(settings);
    let listen = settings.listen;
    let listener = TcpListener::bind(listen).await.with_context(|| format!("cannot listen on {listen}"))?;
    let (status, seen) = watch::channel(Status::default());
    let (web, ending) = (Web::new(seen.clone()), CancellationToken::new());
    tokio::spawn(web::accept(listener, web.clone(), ending.clone()));

    let key_pem = store.key()?;
    let began = tokio::select! {
        began = begin(&settings, &store, &key_pem) => began?,
        () = signals.next() => return Ok(()),
    };
    status.send_modify(|status| status.others = began.welcome.others);
    let started = start(&settings, store, key_pem, began, status).await?;
    web.serve(&started.broker);
    tracing::info!(%listen, viewers = settings.viewer_url, agents = settings.tunnel_public(), "serving");

    let ended = serve(started, &seen, &mut signals).await;
    ending.cancel();
    ended
}

/// What a start needs, from the disk or from control.
struct Began {
    welcome: LinkWelcome,
    feeds: Feeds,
    open: Option<Connection>,
}

async fn begin(settings: &Settings, store: &Store, key_pem: &str) -> anyhow::Result<Began> {
    if let Some(welcome) = store.welcome()? {
        if certificate_end(&welcome.certificate).is_none_or(|end| end <= SystemTime::now()) {
            tracing::warn!("this broker's certificate has ended: agents come when control has renewed it");
        }
        return Ok(Began { welcome, feeds: store.feeds(), open: None });
    }
    tracing::info!(control = %settings.control, "asking control for an identity");
    let (connection, welcome) = link::first(settings, key_pem).await;
    store.keep_welcome(&welcome)?;
    Ok(Began { welcome, feeds: Feeds::new(), open: Some(connection) })
}

/// A broker that runs, and its link.
struct Started {
    broker: Broker,
    store: Arc<Store>,
    link: JoinHandle<Over>,
    /// Cancelled when nobody waits for control any more.
    leaving: CancellationToken,
}

async fn start(
    settings: &Arc<Settings>,
    store: Arc<Store>,
    key_pem: String,
    began: Began,
    status: watch::Sender<Status>,
) -> anyhow::Result<Started> {
    let Began { welcome, feeds, open } = began;
    let config = BrokerConfig {
        name: welcome.name.clone(),
        tunnel_addr: settings.tunnel_listen,
        identity: Identity { certificate_pem: welcome.certificate.clone(), key_pem: key_pem.clone() },
        web: None,
        ca_pem: welcome.ca.clone(),
        ticket_key: PublicKey::parse(&welcome.ticket_key).context("control's ticket key")?,
        reset_key: store.reset_key()?,
        allowed_origins: welcome.allowed_origins.clone(),
    };
    let (to_control, events) = mpsc::channel(QUEUE);
    // What was revoked before the restart is obeyed before anybody comes in: orders go before everything else at the broker.
    let (orders, from_control) = mpsc::channel(QUEUE.max(feeds.len()));
    for (org, token) in &feeds {
        orders.send(ToBroker::Feed { org: *org, token: token.clone() }).await?;
    }
    let broker = Broker::start(config, to_control, from_control).await?;
    let (settings, leaving) = (Arc::clone(settings), CancellationToken::new());
    let link = Link {
        settings,
        store: Arc::clone(&store),
        key_pem,
        welcome,
        feeds,
        broker: broker.clone(),
        events,
        orders,
        status,
    };
    let link = tokio::spawn(link.run(open, leaving.clone()));
    Ok(Started { broker, store, link, leaving })
}

/// Serves until a signal, or until control says that this is no broker of its any more; then sends everybody elsewhere.
async fn serve(
    mut started: Started,
    status: &watch::Receiver<Status>,
    signals: &mut Signals,
) -> anyhow::Result<()> {
    let is_removed = tokio::select! {
        () = signals.next() => false,
        over = &mut started.link => {
            if over.context("the link's task panicked")? == Over::Finished {
                bail!("the broker ended by itself");
            }
            true
        }
    };
    let others = status.borrow().others;
    tracing::info!(others, "ending");
    let drain = if others > 0 { Drain::Elsewhere(DRAIN_GRACE) } else { Drain::Alone };
    tokio::select! {
        () = started.broker.drain(drain) => {}
        () = signals.next() => bail!("ended at once, because it was told twice"),
    }
    if is_removed {
        started.store.forget()?;
        bail!("control says that this broker was removed; to add it again: `rexec-control broker add`");
    }
    let mut link = started.link;
    // Without a link there is nobody to tell.
    if !status.borrow().linked {
        started.leaving.cancel();
    }
    if timeout(FAREWELL, &mut link).await.is_err() {
        started.leaving.cancel();
        tracing::warn!("control was not told of every end");
    }
    Ok(())
}
