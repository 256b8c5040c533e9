//! A person's terminal as a program: the session protocol over a WebSocket, with tickets from control, coming back by itself.
//!
//! It moves only while a method of it is awaited: a viewer that nobody asks is a viewer that stopped reading. Every byte of output is kept.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use rexec_shared::close::{CloseCode, Retry};
use rexec_shared::message::{ErrorMessage, Exit, Opened, SessionKind, Snapshot, Spec, ViewerMessage};
use rexec_shared::proof::ViewerKey;
use rexec_shared::viewer::{Event, Viewer, ViewerError};
use serde_json::json;
use tokio::net::{TcpSocket, TcpStream, lookup_host};
use tokio::time::{sleep, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use url::Url;
use uuid::Uuid;

use crate::api::Api;
use crate::heartbeat::{Beat, Heartbeat};
use crate::netlab;
use crate::screen::Screen;

/// How long a viewer tries to come back before it gives up.
const RETURN_DEADLINE: Duration = Duration::from_secs(40);
/// Between two tries.
const RETRY_PAUSE: Duration = Duration::from_millis(100);
/// Reaching the broker and its first word.
const CONNECT_DEADLINE: Duration = Duration::from_secs(5);
/// A verdict on a permission: a broker holds one for an absent machine for ten seconds.
const VERDICT_DEADLINE: Duration = Duration::from_secs(20);

/// A ticket and what came with it.
#[derive(Debug, Clone)]
pub struct Permit {
    /// Single use.
    pub ticket: String,
    /// For coming back.
    pub resume: String,
    /// Where to present them.
    pub broker: Url,
    /// Where to look for the machine while control cannot be asked.
    pub brokers: Vec<Url>,
}

impl Permit {
    /// Asks control for one.
    ///
    /// # Errors
    /// When control refuses.
    pub fn ask(api: &Api, machine: Uuid, session: Uuid, confirmation: &str) -> Result<Self> {
        let wish =
            json!({ "machine": machine, "session": session, "caps": ["terminal"], "key": confirmation });
        let answer = api.post("/api/tickets", &wish)?.ok().context("a ticket")?;
        let text =
            |name: &str| answer[name].as_str().map(str::to_owned).with_context(|| format!("no {name}"));
        let all = answer["broker_urls"].as_array().context("no broker_urls")?;
        let brokers = all.iter().map(|url| broker_address(api, url.as_str().unwrap_or_default()));
        Ok(Self {
            ticket: text("ticket")?,
            resume: text("resume")?,
            broker: broker_address(api, &text("broker_url")?)?,
            brokers: brokers.collect::<Result<_>>()?,
        })
    }

    /// Asks control where the machine is now; without an answer the next broker is as good as any.
    fn find_broker(&mut self, api: &Api, machine: Uuid) {
        let asked = api
            .get(&format!("/api/machines/{machine}/broker"))
            .and_then(|answer| broker_address(api, answer.ok()?["broker_url"].as_str().unwrap_or_default()));
        match asked {
            Ok(broker) => self.broker = broker,
            Err(_) => {
                let at = self.brokers.iter().position(|broker| *broker == self.broker).map_or(0, |at| at + 1);
                self.broker = self.brokers.get(at).or(self.brokers.first()).unwrap_or(&self.broker).clone();
            }
        }
    }
}

fn broker_address(api: &Api, url: &str) -> Result<Url> {
    let mut broker = Url::parse(api.origin())?.join(url)?;
    if broker.scheme() == "http" {
        ensure!(broker.set_scheme("ws").is_ok(), "not a web address: {broker}");
    }
    Ok(broker)
}

/// Opens a broker's WebSocket as a page of `origin` would.
///
/// # Errors
/// When nobody answers, or refuses.
pub async fn connect(broker: &Url, origin: &str) -> Result<WebSocketStream<TcpStream>> {
    connect_from(None, broker, origin).await
}

/// As [`connect`], from a network namespace.
async fn connect_from(
    network: Option<&str>,
    broker: &Url,
    origin: &str,
) -> Result<WebSocketStream<TcpStream>> {
    let mut request = broker.as_str().into_client_request()?;
    request.headers_mut().insert("origin", origin.parse()?);
    let address = (broker.host_str().context("no host")?, broker.port_or_known_default().unwrap_or(80));
    let address = lookup_host(address).await?.next().context("no address")?;
    let make = || Ok(if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?);
    let socket = network.map_or_else(make, |network| netlab::within(network, make))?;
    let stream = socket.connect(address).await?;
    stream.set_nodelay(true)?;
    Ok(tokio_tungstenite::client_async(request, stream).await?.0)
}

/// A terminal of the usual size running `command`, or the login shell.
pub fn terminal(command: Option<Vec<String>>) -> Spec {
    let env = [("TERM", "xterm-256color"), ("LANG", "C.UTF-8")];
    let env = env.map(|(name, value)| (name.to_owned(), value.to_owned()));
    Spec { kind: SessionKind::Terminal, cols: 80, rows: 24, env: env.into(), cwd: None, command, port: None }
}

/// A terminal of the usual size running a shell that reads nobody's start-up files: a test must not hang on its user's.
pub fn shell() -> Spec {
    terminal(Some(["/bin/bash", "--norc", "--noprofile", "-i"].map(str::to_owned).into()))
}

/// One viewer of one session.
#[derive(Debug)]
pub struct ViewerClient {
    viewer: Viewer,
    api: Api,
    machine: Uuid,
    permit: Option<Permit>,
    /// A permit from elsewhere than control, not yet presented.
    given: Option<Permit>,
    /// The network namespace its streams come from; none is this machine's own.
    network: Option<String>,
    /// The broker did not have the machine, or was not there: another may.
    strayed: bool,
    socket: Option<WebSocketStream<TcpStream>>,
    heart: Heartbeat,
    /// Taken from the viewer and not yet given to the socket.
    unsent: Option<Bytes>,
    size: (u16, u16),
    opened: Option<Opened>,
    screen: Option<(Snapshot, Bytes)>,
    output: Vec<u8>,
    searched: usize,
    gaps: u32,
    streams: u32,
    exit: Option<Exit>,
    refusal: Option<ErrorMessage>,
}

impl ViewerClient {
    /// Opens a new session on a machine and waits until it is there.
    ///
    /// # Errors
    /// When it is refused.
    pub async fn open(api: &Api, machine: Uuid, spec: Spec) -> Result<Self> {
        Self::open_from(None, api, machine, spec).await
    }

    /// As [`ViewerClient::open`], in a network namespace.
    ///
    /// # Errors
    /// As [`ViewerClient::open`].
    pub async fn open_from(network: Option<&str>, api: &Api, machine: Uuid, spec: Spec) -> Result<Self> {
        let mut made = Self::new(api, machine, Uuid::new_v4(), spec)?;
        made.network = network.map(str::to_owned);
        made.until_opened().await?;
        Ok(made)
    }

    /// Comes to a session that exists, as another person's fresh page does.
    ///
    /// # Errors
    /// When it is refused.
    pub async fn attach(api: &Api, machine: Uuid, session: Uuid) -> Result<Self> {
        let mut made = Self::new(api, machine, session, shell())?;
        made.until_opened().await?;
        Ok(made)
    }

    /// Opens a new session with a permit that `issue` makes for it, instead of asking control for one.
    ///
    /// # Errors
    /// When it is refused.
    pub async fn open_with(
        api: &Api,
        machine: Uuid,
        spec: Spec,
        issue: impl FnOnce(Uuid, String) -> Permit,
    ) -> Result<Self> {
        let mut made = Self::new(api, machine, Uuid::new_v4(), spec)?;
        made.given = Some(issue(made.session(), made.viewer.confirmation()));
        made.until_opened().await?;
        Ok(made)
    }

    /// A viewer that has not gone anywhere yet.
    ///
    /// # Errors
    /// When no key can be made.
    pub fn new(api: &Api, machine: Uuid, session: Uuid, spec: Spec) -> Result<Self> {
        let size = (spec.cols, spec.rows);
        Ok(Self {
            viewer: Viewer::new(Uuid::new_v4(), session, spec, ViewerKey::generate()?),
            api: api.clone(),
            machine,
            permit: None,
            given: None,
            network: None,
            strayed: false,
            socket: None,
            heart: Heartbeat::new(Instant::now()),
            unsent: None,
            size,
            opened: None,
            screen: None,
            output: Vec::new(),
            searched: 0,
            gaps: 0,
            streams: 0,
            exit: None,
            refusal: None,
        })
    }

    /// The broker it was at last.
    pub fn broker(&self) -> Option<&Url> {
        self.permit.as_ref().map(|permit| &permit.broker)
    }

    /// Its session.
    pub fn session(&self) -> Uuid {
        self.viewer.session()
    }

    /// Output since the first stream began, or since the last screen.
    pub fn output(&self) -> &[u8] {
        &self.output
    }

    /// Takes the output seen so far, which is then not kept any more.
    pub fn take_output(&mut self) -> Vec<u8> {
        self.searched = 0;
        std::mem::take(&mut self.output)
    }

    /// The last screen it was given, and where it stood.
    pub fn screen(&self) -> Option<&(Snapshot, Bytes)> {
        self.screen.as_ref()
    }

    /// What a person would see: the screen given, if one was, and all output since.
    pub fn rendered(&self) -> Screen {
        let (cols, rows) = self.screen.as_ref().map_or(self.size, |(screen, _)| (screen.cols, screen.rows));
        let mut screen = Screen::new(cols, rows);
        if let Some((_, bytes)) = &self.screen {
            screen.feed(bytes);
        }
        screen.feed(&self.output);
        screen
    }

    /// Columns and rows, as the host last told them.
    pub fn size(&self) -> (u16, u16) {
        self.size
    }

    /// How the session ended, if it did.
    pub fn exit(&self) -> Option<Exit> {
        self.exit
    }

    /// Times that output was lost for good.
    pub fn gaps(&self) -> u32 {
        self.gaps
    }

    /// Streams it had, the first included.
    pub fn streams(&self) -> u32 {
        self.streams
    }

    /// Typed bytes that no host has acknowledged.
    pub fn pending_input(&self) -> usize {
        self.viewer.pending_input()
    }

    /// What the host said when it let it in.
    pub fn opened(&self) -> Option<&Opened> {
        self.opened.as_ref()
    }

    /// The word it was refused or cut off with, if it was.
    pub fn refusal(&self) -> Option<&ErrorMessage> {
        self.refusal.as_ref()
    }

    /// Types; what the host does not take at once is kept and sent as it does.
    ///
    /// # Errors
    /// When more is typed than a viewer keeps.
    pub fn type_bytes(&mut self, bytes: &[u8]) -> Result<()> {
        let taken = self.viewer.type_bytes(bytes);
        ensure!(taken == bytes.len(), "{taken} of {} typed bytes fit", bytes.len());
        Ok(())
    }

    /// Says something else to the host.
    pub fn send(&mut self, message: &ViewerMessage) {
        self.viewer.send(message);
    }

    /// Drops its stream without a word, as a page does whose computer fell asleep; the next thing asked of it brings it back.
    pub fn drop_stream(&mut self) {
        self.socket = None;
    }

    /// Its system says that its network changed, as browsers tell pages by `online`.
    pub fn network_changed(&mut self) {
        self.heart.probe(Instant::now());
    }

    /// What the host says next. Streams that die are replaced meanwhile.
    ///
    /// # Errors
    /// When it cannot come back, is refused, or finds the host breaking the protocol.
    pub async fn next(&mut self) -> Result<Event> {
        loop {
            if let Some(event) = self.viewer.poll_event() {
                self.note(&event);
                return Ok(event);
            }
            if let Some(refusal) = &self.refusal {
                bail!("{}: {}", refusal.code, refusal.message);
            }
            if self.socket.is_none() {
                self.come_back().await?;
            }
            if let Err(error) = self.take_turn().await {
                self.socket = None;
                // A lost stream is replaced; a host that breaks the protocol is what the tests are looking for.
                if error.is::<ViewerError>() {
                    return Err(error);
                }
            }
        }
    }

    /// Drives it until `seen` is satisfied.
    ///
    /// # Errors
    /// As [`ViewerClient::next`], and when the deadline passes.
    pub async fn until(
        &mut self,
        what: &str,
        deadline: Duration,
        mut seen: impl FnMut(&Self) -> bool,
    ) -> Result<()> {
        let wait = async {
            while !seen(self) {
                self.next().await?;
            }
            Ok(())
        };
        match timeout(deadline, wait).await {
            Ok(done) => done,
            Err(_) => bail!("{what}: not within {deadline:?}; {}", self.last_words()),
        }
    }

    /// Drives it until the text has come after what was searched before; a screen it was given counts.
    ///
    /// # Errors
    /// As [`ViewerClient::until`].
    pub async fn wait_for(&mut self, text: &str, deadline: Duration) -> Result<()> {
        let mut from = self.searched;
        let needle = text.as_bytes().to_vec();
        let mut found = None;
        self.until(&format!("{text:?}"), deadline, |viewer| {
            from = from.min(viewer.output.len());
            let tail = viewer.output.get(from..).unwrap_or_default();
            found = find(tail, &needle).map(|at| from + at + needle.len());
            from = viewer.output.len().saturating_sub(needle.len());
            found.is_some() || (viewer.output.is_empty() && viewer.shows(&needle))
        })
        .await?;
        self.searched = found.unwrap_or_default();
        Ok(())
    }

    /// Drives it until the host has every typed byte.
    ///
    /// # Errors
    /// As [`ViewerClient::until`].
    pub async fn until_typed(&mut self, deadline: Duration) -> Result<()> {
        self.until("typed bytes in the PTY", deadline, |viewer| viewer.pending_input() == 0).await
    }

    /// Drives it for a while, whatever comes.
    ///
    /// # Errors
    /// As [`ViewerClient::next`].
    pub async fn drive_for(&mut self, time: Duration) -> Result<()> {
        let wait = async {
            loop {
                self.next().await?;
            }
        };
        timeout(time, wait).await.unwrap_or(Ok(()))
    }

    /// Drives it until it is cut off; returns when and with what word.
    ///
    /// # Errors
    /// When it is not within the deadline.
    pub async fn until_refused(&mut self, deadline: Duration) -> Result<(Instant, ErrorMessage)> {
        let wait = async { while self.next().await.is_ok() {} };
        timeout(deadline, wait).await.context("it was not cut off")?;
        Ok((Instant::now(), self.refusal.clone().context("it lost its way instead of being refused")?))
    }

    async fn until_opened(&mut self) -> Result<()> {
        self.until("an opened session", RETURN_DEADLINE, |viewer| viewer.opened.is_some()).await
    }

    fn shows(&self, needle: &[u8]) -> bool {
        self.screen.as_ref().is_some_and(|(_, bytes)| find(bytes, needle).is_some())
    }

    fn last_words(&self) -> String {
        let from = self.output.len().saturating_sub(300);
        let tail = String::from_utf8_lossy(self.output.get(from..).unwrap_or_default()).into_owned();
        format!("{} bytes of output, ending {tail:?}", self.output.len())
    }

    fn note(&mut self, event: &Event) {
        match event {
            Event::Opened(opened) => {
                self.opened = Some(opened.clone());
                self.heart.start(Instant::now());
            }
            Event::Screen { snapshot, bytes } => {
                self.screen = Some((*snapshot, bytes.clone()));
                self.output.clear();
                self.searched = 0;
                self.viewer.parsed(snapshot.offset);
            }
            Event::Output { offset, bytes } => {
                self.output.extend_from_slice(bytes);
                self.viewer.parsed(offset + bytes.len() as u64);
            }
            Event::Gap { .. } => self.gaps += 1,
            Event::Exit(exit) => self.exit = Some(*exit),
            Event::Error(error) => self.handle_error(error),
            Event::Resized(size) => self.size = (size.cols, size.rows),
            Event::Pong(number) => self.heart.pong(*number, Instant::now()),
            Event::InputAck(_) | Event::Viewers(_) | Event::Lease(_) | Event::Title(_) => {}
        }
    }

    fn handle_error(&mut self, error: &ErrorMessage) {
        self.socket = None;
        self.strayed |= [CloseCode::MachineOffline, CloseCode::Draining]
            .map(CloseCode::name)
            .contains(&error.code.as_str());
        match error.retry {
            Retry::Never => self.refusal = Some(error.clone()),
            Retry::Ticket => self.permit = None,
            Retry::Now | Retry::Backoff => {}
        }
    }

    async fn come_back(&mut self) -> Result<()> {
        let began = Instant::now();
        loop {
            let error = match timeout(CONNECT_DEADLINE, self.begin_stream()).await {
                Ok(Ok(())) => return Ok(()),
                Ok(Err(error)) => error,
                Err(_) => anyhow::anyhow!("no answer within {CONNECT_DEADLINE:?}"),
            };
            self.strayed = true;
            if began.elapsed() > RETURN_DEADLINE {
                return Err(error.context("the viewer could not come back"));
            }
            sleep(RETRY_PAUSE).await;
        }
    }

    async fn begin_stream(&mut self) -> Result<()> {
        let known = self.permit.is_some() && self.opened.is_some();
        if !known {
            self.permit = Some(match self.given.take() {
                Some(permit) => permit,
                None => self.ask_permit().await?,
            });
        } else if std::mem::take(&mut self.strayed) {
            self.find_broker().await?;
        }
        let permit = self.permit.as_ref().context("no permit")?;
        self.heart.stop();
        let socket = connect_from(self.network.as_deref(), &permit.broker, self.api.origin()).await?;
        self.viewer.start(if known { &permit.resume } else { &permit.ticket }, true);
        self.socket = Some(socket);
        self.unsent = None;
        self.streams += 1;
        Ok(())
    }

    async fn find_broker(&mut self) -> Result<()> {
        let (api, machine) = (self.api.clone(), self.machine);
        let mut permit = self.permit.clone().context("no permit")?;
        let found = tokio::task::spawn_blocking(move || {
            permit.find_broker(&api, machine);
            permit
        });
        self.permit = Some(found.await?);
        Ok(())
    }

    async fn ask_permit(&self) -> Result<Permit> {
        let (api, machine, session) = (self.api.clone(), self.machine, self.viewer.session());
        let confirmation = self.viewer.confirmation();
        tokio::task::spawn_blocking(move || Permit::ask(&api, machine, session, &confirmation)).await?
    }

    /// Moves bytes, and sees to it that the path is alive.
    async fn take_turn(&mut self) -> Result<()> {
        let now = Instant::now();
        let beat = self.heart.poll(now);
        let patience = match beat {
            Beat::Ping(t) => {
                self.viewer.send(&ViewerMessage::Ping { t });
                return Ok(());
            }
            // Something may have come while nobody asked this viewer anything.
            Beat::Dead => Duration::ZERO,
            Beat::Wait(until) => until.saturating_duration_since(now),
        };
        match timeout(patience, self.move_bytes()).await {
            Ok(moved) => {
                self.heart.received(Instant::now());
                moved
            }
            Err(_) if beat == Beat::Dead => bail!("the path is dead"),
            Err(_) => Ok(()),
        }
    }

    /// Sends what is to be sent, then takes one message. Safe to be dropped at any await.
    async fn move_bytes(&mut self) -> Result<()> {
        let socket = self.socket.as_mut().context("no stream")?;
        loop {
            if self.unsent.is_none() {
                self.unsent = self.viewer.poll_transmit();
            }
            if self.unsent.is_none() {
                break;
            }
            // The socket takes the bytes only when it has room, in one step: none can be lost between.
            std::future::poll_fn(|context| socket.poll_ready_unpin(context)).await?;
            if let Some(bytes) = self.unsent.take() {
                socket.start_send_unpin(Message::Binary(bytes))?;
            }
        }
        socket.flush().await?;
        match socket.next().await.context("the stream ended")?? {
            Message::Binary(bytes) => Ok(self.viewer.handle_bytes(&bytes)?),
            Message::Close(frame) => {
                let number = frame.map_or(0, |frame| u16::from(frame.code));
                self.handle_close(number);
                Ok(())
            }
            Message::Text(_) | Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => Ok(()),
        }
    }

    /// A stream that ended without an `Error` frame says why by its close code.
    fn handle_close(&mut self, number: u16) {
        self.socket = None;
        let code = number.checked_sub(4000).and_then(|number| CloseCode::from_number(number.into()));
        if let Some(code) = code.filter(|_| self.refusal.is_none()) {
            self.handle_error(&ErrorMessage::new(code, "the stream was closed"));
        }
    }
}

/// Where `needle` begins.
pub fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}

/// What became of a permission that was presented.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It opened, or attached to, a session.
    Opened,
    /// It was refused, with this code.
    Refused(String),
}

/// Presents a permission to a broker once, and says what became of it.
///
/// # Errors
/// When the stream ends without a word, or nothing comes.
pub async fn present(broker: &Url, origin: &str, viewer: &mut Viewer, permission: &str) -> Result<Verdict> {
    let mut socket = connect(broker, origin).await?;
    viewer.start(permission, true);
    let judge = async {
        loop {
            while let Some(bytes) = viewer.poll_transmit() {
                socket.send(Message::Binary(bytes)).await?;
            }
            match socket.next().await.context("the stream ended without a word")?? {
                Message::Binary(bytes) => viewer.handle_bytes(&bytes)?,
                Message::Close(frame) => {
                    return Ok(Verdict::Refused(close_name(frame.map(|frame| frame.code.into()))));
                }
                Message::Text(_) | Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => {}
            }
            while let Some(event) = viewer.poll_event() {
                if let Event::Error(error) = event {
                    return Ok(Verdict::Refused(error.code));
                }
                if let Event::Opened(_) = event {
                    return Ok(Verdict::Opened);
                }
            }
        }
    };
    timeout(VERDICT_DEADLINE, judge).await.context("no verdict")?
}

/// The name of the code that a WebSocket was closed with.
pub fn close_name(number: Option<u16>) -> String {
    let code = number.and_then(|number| CloseCode::from_number(number.checked_sub(4000)?.into()));
    code.map_or_else(|| format!("close {number:?}"), |code| code.name().to_owned())
}
