//! Traffic that proves a fault harmless: numbers one way, hashed typing the other, and the time until both go on.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rand::Rng;

use crate::counter::{Counter, Tally, sha256, tally};
use crate::viewer::ViewerClient;
use crate::{Installation, Machine};

const SOON: Duration = Duration::from_secs(30);
/// Between two looks at something else.
const LOOK: Duration = Duration::from_millis(100);
/// Longer than anything takes here.
const EVER: Duration = Duration::from_secs(600);
/// Typed in all: more than fits into a window, so that some is always on its way.
const TYPED_BYTES: usize = 600_000;

/// Numbers and typing under way in one session.
#[derive(Debug)]
pub struct Traffic {
    counter: Counter,
    viewer: ViewerClient,
    typed: Vec<u8>,
    at: usize,
}

/// What became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// Numbers that came, that never came, that came twice.
    pub tally: Tally,
    /// Whether the program read exactly what was typed.
    pub typing_equal: bool,
    /// Times that output was lost for good, as the host told it.
    pub gaps: u32,
    /// Streams that the viewer needed.
    pub streams: u32,
}

impl Outcome {
    /// Whether no byte was lost or doubled in either direction.
    pub fn is_whole(&self) -> bool {
        self.tally.lost == 0 && self.tally.doubled == 0 && self.typing_equal && self.gaps == 0
    }
}

impl Traffic {
    /// Opens a session, and lets numbers and typing begin.
    ///
    /// # Errors
    /// When the session is refused, or nothing comes.
    pub async fn start(installation: &Installation, machine: &Machine) -> Result<Self> {
        Self::start_from(None, installation, machine).await
    }

    /// As [`Traffic::start`], with the viewer in a network namespace.
    ///
    /// # Errors
    /// As [`Traffic::start`].
    pub async fn start_from(
        network: Option<&str>,
        installation: &Installation,
        machine: &Machine,
    ) -> Result<Self> {
        let counter = Counter::new(installation.scratch(), TYPED_BYTES);
        let viewer = counter.start_from(network, installation.owner(), machine.id()).await?;
        let mut typed = vec![0; TYPED_BYTES];
        rand::rng().fill_bytes(&mut typed);
        let mut traffic = Self { counter, viewer, typed, at: 0 };
        traffic.type_some()?;
        traffic.viewer.wait_for("n50\r", SOON).await?;
        Ok(traffic)
    }

    /// The viewer.
    pub fn viewer(&mut self) -> &mut ViewerClient {
        &mut self.viewer
    }

    /// Queues a fifth of the typing.
    ///
    /// # Errors
    /// When there is none left.
    pub fn type_some(&mut self) -> Result<()> {
        let end = (self.at + TYPED_BYTES / 5).min(TYPED_BYTES);
        let part = self.typed.get(self.at..end).filter(|part| !part.is_empty()).context("all is typed")?;
        self.viewer.type_bytes(part)?;
        self.at = end;
        Ok(())
    }

    /// Drives the viewer for a while, whatever comes.
    ///
    /// # Errors
    /// When it is refused, or finds the host breaking the protocol.
    pub async fn drive_for(&mut self, time: Duration) -> Result<()> {
        self.viewer.drive_for(time).await
    }

    /// Drives the viewer until `seen`.
    ///
    /// # Errors
    /// As [`Traffic::drive_for`], and when the deadline passes.
    pub async fn drive_until(&mut self, deadline: Duration, mut seen: impl FnMut() -> bool) -> Result<()> {
        let began = Instant::now();
        while !seen() {
            ensure!(began.elapsed() < deadline, "not within {deadline:?}");
            self.drive_for(LOOK).await?;
        }
        Ok(())
    }

    /// Drives the viewer for as long as `work` takes.
    ///
    /// # Errors
    /// Those of `work`, and as [`Traffic::drive_for`].
    pub async fn drive_while<T>(&mut self, work: impl Future<Output = Result<T>>) -> Result<T> {
        tokio::select! {
            done = work => done,
            ended = self.viewer.drive_for(EVER) => Err(ended.err().context("the traffic ended by itself")?),
        }
    }

    /// Waits until a number printed after this moment has come and everything typed is in the PTY; how long that took.
    ///
    /// # Errors
    /// When that does not come.
    pub async fn until_back(&mut self) -> Result<Duration> {
        let began = Instant::now();
        let known = self.viewer.output().len();
        let back = |viewer: &ViewerClient| viewer.output().len() > known && viewer.pending_input() == 0;
        self.viewer.until("typing that works again", SOON, back).await?;
        Ok(began.elapsed())
    }

    /// Ends both directions and looks at every byte of them.
    ///
    /// # Errors
    /// When they do not end.
    pub async fn finish(mut self) -> Result<Outcome> {
        while self.at < TYPED_BYTES {
            self.type_some()?;
        }
        self.viewer.until_typed(SOON).await?;
        self.counter.stop()?;
        self.viewer.wait_for("OVER", SOON).await?;
        let (tally, hash) = tally(self.viewer.output());
        ensure!(tally.came > 50, "only {} numbers came", tally.came);
        Ok(Outcome {
            tally,
            typing_equal: hash == Some(sha256(&self.typed)),
            gaps: self.viewer.gaps(),
            streams: self.viewer.streams(),
        })
    }
}
