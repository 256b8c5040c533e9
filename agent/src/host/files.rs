//! Files: one stream of kind `files`, from its admission to its end.
//!
//! What is asked is done one thing at a time, as the account of the host and by descriptors: every path is resolved by the kernel beneath [`root::Root`], links
//! included, so nothing outside it has a name (THREATS MA-07). The system's calls block, and run on threads of their own; the stream ends at once when its login is
//! revoked, whatever they do.

mod change;
mod download;
mod entries;
mod failure;
mod root;
mod upload;
mod wire;

use std::sync::Arc;
use std::time::Duration;

use rexec_shared::close::CloseCode;
use rexec_shared::files::{Answer, Ask, FilesOpened, FilesReply, FilesRequest, Op, Outcome};
use rexec_shared::message::ErrorMessage;
use rexec_shared::ticket::{Capability, Claims};
use tokio::net::UnixStream;
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::account::Account;
use super::handshake::{Admission, Refusal};
use super::pass::Pass;
use failure::Fault;
pub(super) use root::Root;
use upload::Upload;
use wire::Wire;

/// Files streams at once on one machine: what a person's pages and tools need, and no more threads than a machine bears.
pub(super) const STREAMS_MAX: usize = 64;
/// A stream that says nothing for so long is given up; a page pings every ten seconds.
const IDLE: Duration = Duration::from_secs(120);
/// Answers of one question that wait for the socket.
const ANSWERS: usize = 4;

/// Serves one stream.
pub(super) async fn serve(stream: UnixStream, admission: Admission, mut pass: Pass, root: Arc<Root>) {
    let Admission { request, claims, rest } = admission;
    let mut wire = Wire::new(stream, rest);
    let opened = FilesOpened {
        session: request.session,
        home: root.home(&Account::of_this_process().home),
        read: claims.allows(Capability::FilesRead),
        write: claims.allows(Capability::FilesWrite),
    };
    tracing::info!(session = %request.session, user = %claims.usr, actor = claims.act.name, "files opened");
    let mut desk = Desk { root, claims: &claims, upload: None };
    let ended = tokio::select! {
        ended = desk.run(&mut wire, opened) => ended,
        refusal = pass.ended(&claims) => Err(refusal),
    };
    if let Err(refusal) = ended {
        tracing::info!(code = refusal.code.name(), reason = refusal.message, "a files stream was ended");
        wire.put(&FilesReply::Error(ErrorMessage::new(refusal.code, refusal.message)));
    }
    wire.finish().await;
}

/// What one stream is about.
struct Desk<'a> {
    root: Arc<Root>,
    claims: &'a Claims,
    upload: Option<Upload>,
}

impl Desk<'_> {
    /// Answers until the viewer is gone (`Ok`) or breaks the protocol.
    async fn run(&mut self, wire: &mut Wire, opened: FilesOpened) -> Result<(), Refusal> {
        wire.put(&FilesReply::Opened(opened));
        loop {
            wire.flush().await?;
            let Some(request) = next(wire).await? else { return Ok(()) };
            match request {
                FilesRequest::Ask(ask) => self.answer(wire, ask).await?,
                FilesRequest::Data { offset, bytes } => self.receive(wire, offset, bytes).await?,
                FilesRequest::Ping { t } => wire.put(&FilesReply::Pong { t }),
                // Of a download that is over.
                FilesRequest::Ack { .. } => {}
            }
        }
    }

    async fn answer(&mut self, wire: &mut Wire, Ask { id, op }: Ask) -> Result<(), Refusal> {
        if !self.claims.allows(op.needs()) {
            let failed = Fault::forbidden().outcome();
            wire.put(&FilesReply::Answer(Answer { id, outcome: failed }));
            return Ok(());
        }
        tracing::debug!(?op, "files");
        let outcome = match op {
            Op::Read { path, offset } => {
                return self.send(wire, id, download::Wanted::File(path, offset)).await;
            }
            Op::Archive { path } => return self.send(wire, id, download::Wanted::Archive(path)).await,
            Op::List { path } => {
                return self.report(wire, id, move |root, tell| entries::list(root, &path, tell)).await;
            }
            Op::Delete { path, recursive } => {
                return self
                    .report(wire, id, move |root, tell| change::delete(root, &path, recursive, tell))
                    .await;
            }
            Op::Write { path, upload, size, restart } => {
                self.upload = None;
                let (root, begin) = (Arc::clone(&self.root), upload::Begin { path, upload, size, restart });
                match blocking(move || Upload::begin(&root, id, begin)).await {
                    Ok((upload, outcome)) => {
                        self.upload = Some(upload);
                        outcome
                    }
                    Err(fault) => fault.outcome(),
                }
            }
            Op::Commit { sha256, replace } => match self.upload.take() {
                Some(upload) => outcome_of(blocking(move || upload.commit(&sha256, replace)).await),
                None => Fault::no_upload().outcome(),
            },
            Op::Stat { path } => self.simple(move |root| entries::stat(root, &path)).await,
            Op::MakeDirectory { path } => self.simple(move |root| change::make_directory(root, &path)).await,
            Op::Rename { from, to } => self.simple(move |root| change::rename(root, &from, &to)).await,
        };
        wire.put(&FilesReply::Answer(Answer { id, outcome }));
        Ok(())
    }

    async fn simple(&self, work: impl FnOnce(&Root) -> Result<Outcome, Fault> + Send + 'static) -> Outcome {
        let root = Arc::clone(&self.root);
        outcome_of(blocking(move || work(&root)).await)
    }

    /// Work that says more than one thing; it learns that nobody listens any more by not being able to tell.
    async fn report(
        &self,
        wire: &mut Wire,
        id: u32,
        work: impl FnOnce(&Root, &Tell) -> Result<Outcome, Fault> + Send + 'static,
    ) -> Result<(), Refusal> {
        let (sender, mut outcomes) = mpsc::channel(ANSWERS);
        let (root, tell) = (Arc::clone(&self.root), Tell(sender));
        let working = tokio::spawn(async move { outcome_of(blocking(move || work(&root, &tell)).await) });
        while let Some(outcome) = outcomes.recv().await {
            wire.put(&FilesReply::Answer(Answer { id, outcome }));
            wire.flush().await?;
        }
        let outcome = working.await.unwrap_or_else(|_| Fault::failed().outcome());
        wire.put(&FilesReply::Answer(Answer { id, outcome }));
        Ok(())
    }

    async fn send(&self, wire: &mut Wire, id: u32, wanted: download::Wanted) -> Result<(), Refusal> {
        let root = Arc::clone(&self.root);
        match blocking(move || download::open(&root, wanted)).await {
            Ok(source) => download::send(wire, id, source).await,
            Err(fault) => {
                wire.put(&FilesReply::Answer(Answer { id, outcome: fault.outcome() }));
                Ok(())
            }
        }
    }

    async fn receive(&mut self, wire: &mut Wire, offset: u64, bytes: bytes::Bytes) -> Result<(), Refusal> {
        // After a failure, what was on its way still comes.
        let Some(mut upload) = self.upload.take() else { return Ok(()) };
        let id = upload.id();
        let written = blocking(move || {
            upload.write(offset, &bytes)?;
            Ok(upload)
        });
        let outcome = match written.await {
            Ok(upload) => {
                let outcome = Outcome::Received { offset: upload.at() };
                self.upload = Some(upload);
                outcome
            }
            Err(fault) => fault.outcome(),
        };
        wire.put(&FilesReply::Answer(Answer { id, outcome }));
        Ok(())
    }
}

/// How work on another thread tells what it does.
struct Tell(mpsc::Sender<Outcome>);

impl Tell {
    /// Tells, waiting until there is room.
    fn say(&self, outcome: Outcome) -> Result<(), Fault> {
        self.0.blocking_send(outcome).map_err(|_| Fault::nobody_listens())
    }

    /// Whether anybody listens.
    fn check(&self) -> Result<(), Fault> {
        if self.0.is_closed() { Err(Fault::nobody_listens()) } else { Ok(()) }
    }
}

/// The next request; `None`: the viewer is gone.
async fn next(wire: &mut Wire) -> Result<Option<FilesRequest>, Refusal> {
    timeout(IDLE, wire.next())
        .await
        .unwrap_or_else(|_| Err(Refusal::new(CloseCode::TooSlow, "nothing was said for two minutes")))
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Fault> + Send + 'static,
) -> Result<T, Fault> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|_| Err(Fault::failed()))
}

fn outcome_of(result: Result<Outcome, Fault>) -> Outcome {
    result.unwrap_or_else(|fault| fault.outcome())
}
