//! A session host in a directory of its own, and viewers to speak with it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::BytesMut;
use rexec_agent::host::{self, HostConfig, HostError};
use rexec_shared::frame::{Decoder, Frame};
use rexec_shared::message::{
    ErrorMessage, Exit, HostMessage, Opened, SessionKind, Size, Spec, ViewerMessage,
};
use rexec_shared::proof::ViewerKey;
use rexec_shared::ticket::{Actor, ActorKind, Capability, Claims, Feed, PublicKey, Revocation, Signer};
use rexec_shared::tunnel::{LinkAnswer, LinkMessage, LinkRole};
use rexec_shared::viewer::{Event, Viewer};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// Nothing a test waits for takes longer, on a busy machine either.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);

pub(crate) fn unix_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64
}

/// A running host, its machine and the key that signs its tickets.
pub(crate) struct Host {
    pub(crate) directory: TempDir,
    pub(crate) signer: Signer,
    pub(crate) machine: Uuid,
    pub(crate) org: Uuid,
    pub(crate) user: Uuid,
    pub(crate) shutdown: CancellationToken,
    pub(crate) task: Option<JoinHandle<Result<(), HostError>>>,
}

impl Host {
    pub(crate) async fn start() -> Self {
        Self::start_in(Path::new("/")).await
    }

    /// A host to whose viewers of files `root` is `/`.
    pub(crate) async fn start_in(root: &Path) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let signer = Signer::from_pkcs8(&Signer::generate().unwrap()).unwrap();
        let (machine, org, user) = (Uuid::new_v4(), Uuid::new_v4(), Uuid::new_v4());
        let run = directory.path().join("run");
        let config = HostConfig {
            viewer_socket: run.join("viewer.sock"),
            link_socket: run.join("link.sock"),
            machine,
            org,
            ticket_key: PublicKey::parse(&signer.public_key()).unwrap(),
            version: "test".to_owned(),
            files_root: root.to_owned(),
        };
        let shutdown = CancellationToken::new();
        let task = Some(tokio::spawn(host::run(config, shutdown.clone())));
        let host = Self { directory, signer, machine, org, user, shutdown, task };
        until("the sockets stand", || host.link_socket().exists() && host.viewer_socket().exists()).await;
        host
    }

    pub(crate) fn viewer_socket(&self) -> PathBuf {
        self.directory.path().join("run/viewer.sock")
    }

    pub(crate) fn link_socket(&self) -> PathBuf {
        self.directory.path().join("run/link.sock")
    }

    /// A file name in the host's directory.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn claims(&self, session: Uuid, cnf: &str, caps: &[Capability]) -> Claims {
        let now = unix_ms();
        Claims {
            jti: Uuid::new_v4(),
            aud: self.machine,
            org: self.org,
            usr: self.user,
            lgn: Uuid::from_u128(7),
            act: Actor { kind: ActorKind::Person, id: self.user, name: "Jo".to_owned() },
            ses: session,
            caps: caps.to_vec(),
            cnf: cnf.to_owned(),
            iat: now,
            exp: now + 60_000,
        }
    }

    pub(crate) fn ticket(&self, session: Uuid, cnf: &str) -> String {
        self.signer.ticket(&self.claims(session, cnf, &[Capability::Terminal]))
    }

    pub(crate) fn view_ticket(&self, session: Uuid, cnf: &str) -> String {
        self.signer.ticket(&self.claims(session, cnf, &[Capability::View]))
    }

    pub(crate) fn resume(&self, session: Uuid, cnf: &str) -> String {
        let claims = self.claims(session, cnf, &[Capability::Terminal]);
        self.signer.resume(&Claims { exp: claims.iat + 86_400_000, ..claims })
    }

    /// A terminal that runs `command`, opened, and its viewer.
    pub(crate) async fn open(&self, command: &str) -> Term {
        let mut term = Term::new(Uuid::new_v4(), shell(command));
        let ticket = self.ticket(term.viewer.session(), &term.viewer.confirmation());
        term.connect(self, &ticket, true).await;
        term.opened().await;
        term
    }

    /// Another writer of the same session.
    pub(crate) async fn join(&self, session: Uuid) -> Term {
        let mut term = Term::new(session, shell("true"));
        let ticket = self.ticket(session, &term.viewer.confirmation());
        term.connect(self, &ticket, false).await;
        term
    }

    pub(crate) async fn link(&self, role: LinkRole) -> Link {
        let stream = UnixStream::connect(self.link_socket()).await.unwrap();
        let mut link = Link { stream, decoder: Decoder::new() };
        link.send(&LinkMessage::Hello { role }).await;
        link
    }

    /// A feed that revokes `principals` as of now.
    pub(crate) fn feed(&self, seq: u64, principals: &[String]) -> String {
        let entries =
            principals.iter().map(|principal| Revocation { principal: principal.clone(), at: unix_ms() });
        self.signer.feed(&Feed { org: self.org, seq, issued: unix_ms(), entries: entries.collect() })
    }

    pub(crate) async fn stop(mut self) -> Result<(), HostError> {
        self.shutdown.cancel();
        self.task.take().unwrap().await.unwrap()
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

/// Presents a first frame, proves the key, and returns the stream with what was received after the proof, or the code of a refusal.
pub(crate) async fn present(
    socket: PathBuf,
    first: &[u8],
    key: &ViewerKey,
) -> Result<(UnixStream, Decoder), String> {
    let opened =
        |frame: &Frame| matches!(HostMessage::decode(frame), Ok(Some(HostMessage::Opened(_)))).then_some(());
    present_with(socket, first, key, opened).await.map(|(stream, decoder, ())| (stream, decoder))
}

/// As [`present`], until the frame that `opened` knows.
pub(crate) async fn present_with<T>(
    socket: PathBuf,
    first: &[u8],
    key: &ViewerKey,
    opened: impl Fn(&Frame) -> Option<T>,
) -> Result<(UnixStream, Decoder, T), String> {
    use base64::Engine;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;

    let mut own = Decoder::new();
    own.push(first);
    let payload = own.poll_frame().unwrap().unwrap().payload;
    let mut stream = UnixStream::connect(socket).await.unwrap();
    stream.write_all(first).await.unwrap();
    let mut decoder = Decoder::new();
    loop {
        while let Some(frame) = decoder.poll_frame().unwrap() {
            if let Some(opened) = opened(&frame) {
                return Ok((stream, decoder, opened));
            }
            match HostMessage::decode(&frame).unwrap().unwrap() {
                HostMessage::Challenge(challenge) => {
                    let proof = key.prove(&BASE64.decode(challenge.nonce).unwrap(), &payload).unwrap();
                    let mut out = BytesMut::new();
                    ViewerMessage::Proof(proof).encode(&mut out);
                    stream.write_all(&out).await.unwrap();
                }
                HostMessage::Error(error) => return Err(error.code),
                other => panic!("{other:?}"),
            }
        }
        assert!(stream.read_buf(decoder.buffer_mut()).await.unwrap() > 0, "closed without a word");
    }
}

/// `sh -c command` in a terminal of 80 × 24.
pub(crate) fn shell(command: &str) -> Spec {
    let command = Some(["/bin/sh", "-c", command].map(str::to_owned).to_vec());
    Spec {
        kind: SessionKind::Terminal,
        cols: 80,
        rows: 24,
        env: BTreeMap::new(),
        cwd: None,
        command,
        port: None,
    }
}

/// A connection to `link.sock`.
pub(crate) struct Link {
    stream: UnixStream,
    decoder: Decoder,
}

impl Link {
    pub(crate) async fn send(&mut self, message: &LinkMessage) {
        let mut out = BytesMut::new();
        message.encode(&mut out);
        self.stream.write_all(&out).await.unwrap();
    }

    pub(crate) async fn next(&mut self) -> Option<LinkAnswer> {
        let read = async {
            loop {
                if let Some(frame) = self.decoder.poll_frame().unwrap() {
                    return LinkAnswer::decode(&frame).unwrap();
                }
                if self.stream.read_buf(self.decoder.buffer_mut()).await.unwrap_or(0) == 0 {
                    return None;
                }
            }
        };
        tokio::time::timeout(DEADLINE, read).await.expect("the link answers in time")
    }
}

/// A viewer's machine with a socket, collecting what it sees.
pub(crate) struct Term {
    pub(crate) viewer: Viewer,
    stream: Option<UnixStream>,
    /// Output since it was last cleared.
    pub(crate) seen: Vec<u8>,
    /// Whether output is acknowledged as parsed as it comes.
    pub(crate) acknowledges: bool,
    /// Whether it says anything at all.
    pub(crate) speaks: bool,
    /// Bytes that came over all streams.
    pub(crate) received: usize,
    pub(crate) opened: Option<Opened>,
    pub(crate) exit: Option<Exit>,
    pub(crate) error: Option<ErrorMessage>,
    pub(crate) screens: Vec<(u64, Vec<u8>)>,
    pub(crate) gaps: Vec<(u64, u64)>,
    pub(crate) sizes: Vec<Size>,
    pub(crate) holder: Option<Uuid>,
    pub(crate) titles: Vec<String>,
    pub(crate) pongs: Vec<u64>,
    pub(crate) viewers: usize,
}

impl Term {
    pub(crate) fn new(session: Uuid, spec: Spec) -> Self {
        Self::of(Viewer::new(Uuid::new_v4(), session, spec, ViewerKey::generate().unwrap()))
    }

    /// A viewer with an id of somebody's choice and a key of its own.
    pub(crate) fn with_id(id: Uuid, session: Uuid) -> Self {
        Self::of(Viewer::new(id, session, shell("true"), ViewerKey::generate().unwrap()))
    }

    fn of(viewer: Viewer) -> Self {
        Self {
            viewer,
            stream: None,
            seen: Vec::new(),
            acknowledges: true,
            speaks: true,
            received: 0,
            opened: None,
            exit: None,
            error: None,
            screens: Vec::new(),
            gaps: Vec::new(),
            sizes: Vec::new(),
            holder: None,
            titles: Vec::new(),
            pongs: Vec::new(),
            viewers: 0,
        }
    }

    pub(crate) fn session(&self) -> Uuid {
        self.viewer.session()
    }

    /// Begins a stream with a permission; what follows is driven by the `until` methods.
    pub(crate) async fn connect(&mut self, host: &Host, permission: &str, open: bool) {
        self.stream = Some(UnixStream::connect(host.viewer_socket()).await.unwrap());
        (self.opened, self.error) = (None, None);
        self.viewer.start(permission, open);
    }

    /// Comes back with a resume capability.
    pub(crate) async fn resume(&mut self, host: &Host) {
        let permission = host.resume(self.session(), &self.viewer.confirmation());
        self.connect(host, &permission, false).await;
        self.opened().await;
    }

    /// Loses its stream.
    pub(crate) fn cut(&mut self) {
        self.stream = None;
    }

    pub(crate) async fn opened(&mut self) -> Opened {
        self.until("it is attached", |term| term.opened.is_some()).await;
        self.opened.clone().unwrap()
    }

    pub(crate) async fn refused(&mut self) -> String {
        self.until("it is refused", |term| term.error.is_some() || term.opened.is_some()).await;
        assert!(self.opened.is_none(), "it was attached");
        self.error.clone().unwrap().code
    }

    pub(crate) fn type_text(&mut self, text: &str) {
        assert_eq!(self.viewer.type_bytes(text.as_bytes()), text.len());
    }

    pub(crate) fn send(&mut self, message: &ViewerMessage) {
        self.viewer.send(message);
    }

    pub(crate) async fn until_seen(&mut self, text: &str) {
        let what = format!("{text:?} is seen");
        self.until(&what, |term| contains(&term.seen, text.as_bytes())).await;
    }

    /// In the output or in a screen.
    pub(crate) async fn until_seen_or_painted(&mut self, text: &str) {
        let line = text.trim_end().as_bytes().to_vec();
        let what = format!("{text:?} is seen or painted");
        let painted = |term: &Self| term.screens.iter().any(|(_, bytes)| contains(bytes, &line));
        self.until(&what, |term| contains(&term.seen, text.as_bytes()) || painted(term)).await;
    }

    /// Its stream, as it stands.
    pub(crate) fn take_stream(&mut self) -> UnixStream {
        self.stream.take().unwrap()
    }

    /// The code of the error that a stream ends with.
    pub(crate) async fn error_on(mut stream: UnixStream) -> String {
        let mut bytes = Vec::new();
        let _ = tokio::time::timeout(DEADLINE, stream.read_to_end(&mut bytes))
            .await
            .expect("the stream ends in time");
        let mut decoder = Decoder::new();
        decoder.push(&bytes);
        let mut code = String::new();
        while let Some(frame) = decoder.poll_frame().unwrap() {
            if let Some(HostMessage::Error(error)) = HostMessage::decode(&frame).unwrap() {
                code = error.code;
            }
        }
        code
    }

    /// Moves bytes until the condition holds.
    pub(crate) async fn until(&mut self, what: &str, condition: impl Fn(&Self) -> bool) {
        let deadline = Instant::now() + DEADLINE;
        while !condition(self) {
            let left = deadline.saturating_duration_since(Instant::now());
            if !matches!(tokio::time::timeout(left, self.turn()).await, Ok(true)) {
                assert!(
                    condition(self),
                    "never: {what}; error {:?}; last seen {:?}",
                    self.error,
                    self.tail()
                );
                return;
            }
        }
    }

    fn tail(&self) -> std::borrow::Cow<'_, str> {
        String::from_utf8_lossy(&self.seen[self.seen.len().saturating_sub(300)..])
    }

    /// Sends what there is, then takes what comes next; false at the end of the stream.
    pub(crate) async fn turn(&mut self) -> bool {
        let mut buffer = vec![0; 64 * 1024];
        let Some(stream) = self.stream.as_mut() else { return false };
        let (mut read, mut write) = stream.split();
        // A host that answered may have closed already; what it said is still there to read.
        while self.speaks
            && let Some(bytes) = self.viewer.poll_transmit()
        {
            let _ = write.write_all(&bytes).await;
        }
        let len = read.read(&mut buffer).await.unwrap_or(0);
        if len == 0 {
            self.stream = None;
            return false;
        }
        self.received += len;
        self.viewer.handle_bytes(&buffer[..len]).unwrap();
        self.take_events();
        true
    }

    fn take_events(&mut self) {
        while let Some(event) = self.viewer.poll_event() {
            match event {
                Event::Opened(opened) => self.opened = Some(opened),
                Event::Screen { snapshot, bytes } => self.screens.push((snapshot.offset, bytes.to_vec())),
                Event::Output { bytes, .. } => self.seen.extend_from_slice(&bytes),
                Event::Gap { from, to } => self.gaps.push((from, to)),
                Event::InputAck(_) => {}
                Event::Resized(size) => self.sizes.push(size),
                Event::Viewers(viewers) => self.viewers = viewers.len(),
                Event::Lease(holder) => self.holder = holder,
                Event::Exit(exit) => self.exit = Some(exit),
                Event::Title(title) => self.titles.push(title),
                Event::Pong(t) => self.pongs.push(t),
                Event::Error(error) => self.error = Some(error),
            }
        }
        if let Some(offset) = self.viewer.offset().filter(|_| self.acknowledges) {
            self.viewer.parsed(offset);
        }
    }
}

pub(crate) fn contains(bytes: &[u8], what: &[u8]) -> bool {
    bytes.windows(what.len()).any(|window| window == what)
}

/// Waits for a condition outside of any stream.
pub(crate) async fn until(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !condition() {
        assert!(Instant::now() < deadline, "never: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Waits until the file holds something that satisfies the condition.
pub(crate) async fn until_file(path: &Path, condition: impl Fn(&[u8]) -> bool) -> Vec<u8> {
    until(&format!("{} is written", path.display()), || {
        std::fs::read(path).is_ok_and(|bytes| condition(&bytes))
    })
    .await;
    std::fs::read(path).unwrap()
}
