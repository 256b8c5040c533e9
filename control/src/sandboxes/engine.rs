//! What control asks of an engine. The one that counts is Docker's ([`super::docker`]); tests bring their own.

use std::net::IpAddr;
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;
use rexec_sandbox::{EngineError, Limits, SnapshotSize};
use rexec_shared::sandbox::{Admission, Egress};
use uuid::Uuid;

use super::next::Container;
use super::view::Progress;
use crate::secret::Secret;

/// What is to be made.
#[derive(Debug, Clone)]
pub struct Spec {
    /// The sandbox.
    pub id: Uuid,
    /// Host name inside.
    pub hostname: String,
    /// Reference of the image.
    pub image: String,
    /// How much it may use.
    pub limits: Limits,
    /// Its home.
    pub home: Uuid,
    /// Whom it asks for names.
    pub dns: Vec<IpAddr>,
    /// The proxy that is its only way out.
    pub proxy: Option<Secret<String>>,
}

/// A container of this installation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The sandbox it is.
    pub id: Uuid,
    /// What it does.
    pub container: Container,
}

/// An engine that answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Health {
    /// Its version.
    pub version: String,
    /// Its processors.
    pub cpus: u32,
    /// Its memory, MiB.
    pub memory_mb: u64,
}

/// What comes of a question.
pub type Answer<'a, T> = BoxFuture<'a, Result<T, EngineError>>;

/// An engine. Every method may be called again after a crash in the middle of it, and then ends what it began.
pub trait Engine: Send + Sync + std::fmt::Debug {
    /// Whether it is there, and how large.
    fn health(&self) -> Answer<'_, Health>;
    /// What `rexec.internal` is inside a sandbox.
    fn gateway(&self) -> Answer<'_, IpAddr>;
    /// Whether it has the image.
    fn has_image<'a>(&'a self, image: &'a str) -> Answer<'a, bool>;
    /// Fetches the image.
    fn pull<'a>(&'a self, image: &'a str, told: &'a mut (dyn FnMut(Progress) + Send)) -> Answer<'a, ()>;
    /// Makes container, network and home.
    fn create<'a>(&'a self, spec: &'a Spec) -> Answer<'a, ()>;
    /// Starts the container, with these limits.
    fn start(&self, id: Uuid, limits: Limits) -> Answer<'_, ()>;
    /// Closes its network to everything else; nothing of the tenant's runs before.
    fn guard<'a>(&'a self, id: Uuid, egress: &'a Egress) -> Answer<'a, ()>;
    /// Gives its agent the line it waits for.
    fn admit<'a>(&'a self, id: Uuid, admission: &'a Admission) -> Answer<'a, ()>;
    /// Runs a script in it as a POSIX shell does, with this environment, and tells each line it says; its exit code.
    fn run<'a>(
        &'a self,
        id: Uuid,
        script: &'a str,
        env: (&'a str, &'a str),
        told: &'a mut (dyn FnMut(String) + Send),
    ) -> Answer<'a, i64>;
    /// Ends it, by force after `grace`.
    fn stop(&self, id: Uuid, grace: Duration) -> Answer<'_, ()>;
    /// Removes container and network.
    fn remove(&self, id: Uuid) -> Answer<'_, ()>;
    /// Changes the limits of one that is there.
    fn update(&self, id: Uuid, limits: Limits) -> Answer<'_, ()>;
    /// Every container of this installation.
    fn list(&self) -> Answer<'_, Vec<Found>>;
    /// One container.
    fn inspect(&self, id: Uuid) -> Answer<'_, Container>;
    /// Saves what a sandbox and its home are.
    fn snapshot(&self, sandbox: Uuid, home: Uuid, snapshot: Uuid) -> Answer<'_, SnapshotSize>;
    /// Makes a home what a snapshot's was.
    fn fill_home(&self, snapshot: Uuid, home: Uuid) -> Answer<'_, ()>;
    /// Removes a snapshot.
    fn remove_snapshot(&self, snapshot: Uuid) -> Answer<'_, ()>;
    /// Removes a home nobody has.
    fn remove_volume(&self, id: Uuid) -> Answer<'_, ()>;
    /// Removes networks of sandboxes that have no container and are not among `keep`.
    fn sweep<'a>(&'a self, keep: &'a [Uuid]) -> Answer<'a, ()>;
    /// Which containers changed, as they do; ends when the engine goes away.
    fn changes(&self) -> BoxStream<'_, Result<Uuid, EngineError>>;
}
