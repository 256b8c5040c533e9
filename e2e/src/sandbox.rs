//! Sandboxes of an installation, as a person has them made.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::api::Api;
use crate::grounds::{DOCKER_ENV, Need};
use crate::installation::{Installation, Options};
use crate::wait;

/// What tests of sandboxes need.
pub const NEEDS: &[Need] = &[Need::Docker, Need::Program("docker")];
/// A glibc root with a package manager.
pub const DEBIAN: &str = "rexec-test/debian:12";
/// One static busybox, without libc, users or `/etc`.
pub const BUSYBOX: &str = "rexec-test/busybox:1";
/// The same, with a configuration that nobody should believe.
pub const HOSTILE: &str = "rexec-test/hostile:1";
/// Every step of a sandbox's life on a busy machine.
pub const SOON: Duration = Duration::from_secs(40);

/// An installation that makes sandboxes. What it leaves on the engine goes with it.
#[derive(Debug)]
pub struct Ground {
    /// The installation.
    pub installation: Installation,
}

impl Ground {
    /// Starts one.
    ///
    /// # Errors
    /// When there is no engine or control does not become ready.
    pub fn start() -> Result<Self> {
        Self::start_with(Options::default())
    }

    /// Starts one that lets an organisation have so many sandboxes.
    ///
    /// # Errors
    /// As [`Ground::start`].
    pub fn with_at_most(sandboxes: u32) -> Result<Self> {
        Self::start_with(Options { sandboxes_max: Some(sandboxes), ..Options::default() })
    }

    /// Starts one with an operator's presets.
    ///
    /// # Errors
    /// As [`Ground::start`].
    pub fn with_presets(directory: &Path) -> Result<Self> {
        Self::start_with(Options { presets: Some(directory.to_owned()), ..Options::default() })
    }

    fn start_with(options: Options) -> Result<Self> {
        let engine = std::env::var(DOCKER_ENV).context(DOCKER_ENV)?;
        let installation = Installation::start_with(Options { engine: Some(engine), ..options })?;
        Ok(Self { installation })
    }

    /// The owner's login.
    pub fn owner(&self) -> &Api {
        self.installation.owner()
    }

    /// Asks for a small sandbox of `image`; `more` is added to the wish.
    ///
    /// # Errors
    /// When control refuses.
    pub fn ask(&self, image: &str, more: Value) -> Result<Uuid> {
        let mut wish = json!({ "image": image, "cpus_milli": 500, "memory_mb": 256, "network": "open" });
        for (name, value) in more.as_object().context("no object")? {
            wish[name] = value.clone();
        }
        let answer = self.owner().post("/api/sandboxes", &wish)?.ok()?;
        id_of(&answer)
    }

    /// Asks for one, and waits until it is ready.
    ///
    /// # Errors
    /// When it does not become ready.
    pub fn make(&self, image: &str, more: Value) -> Result<Uuid> {
        let id = self.ask(image, more)?;
        self.until(id, "ready")?;
        Ok(id)
    }

    /// Asks for one made of a snapshot, and waits until it is ready.
    ///
    /// # Errors
    /// When it does not become ready.
    pub fn make_of(&self, snapshot: Uuid, more: Value) -> Result<Uuid> {
        let mut wish =
            json!({ "snapshot": snapshot, "cpus_milli": 500, "memory_mb": 256, "network": "open" });
        for (name, value) in more.as_object().context("no object")? {
            wish[name] = value.clone();
        }
        let id = id_of(&self.owner().post("/api/sandboxes", &wish)?.ok()?)?;
        self.until(id, "ready")?;
        Ok(id)
    }

    /// What control says of a sandbox.
    ///
    /// # Errors
    /// When there is none.
    pub fn look(&self, id: Uuid) -> Result<Value> {
        self.owner().get(&format!("/api/sandboxes/{id}"))?.ok()
    }

    /// Waits until a sandbox is in `state`, and its machine online if that is `ready`.
    ///
    /// # Errors
    /// When it is not within [`SOON`], or has failed.
    pub fn until(&self, id: Uuid, state: &str) -> Result<Value> {
        wait::until(&format!("a sandbox that is {state}"), SOON, || {
            let Ok(found) = self.look(id) else { return None };
            match found["state"].as_str() {
                Some(now) if now == state => Some(Ok(found)),
                Some("failed") => Some(Err(anyhow::anyhow!("it failed: {found}"))),
                Some(_) | None => None,
            }
        })?
    }

    /// Waits until control knows nothing of a sandbox and the engine has nothing of it.
    ///
    /// # Errors
    /// When something is left after [`SOON`].
    pub fn until_gone(&self, id: Uuid) -> Result<()> {
        wait::until("a sandbox that is gone", SOON, || {
            let status = self.owner().get(&format!("/api/sandboxes/{id}")).ok()?.status;
            (status == 404 && !on_engine(id)).then_some(())
        })
    }

    /// Has something done to a sandbox: `start`, `stop`, `restart`.
    ///
    /// # Errors
    /// When control refuses.
    pub fn tell(&self, id: Uuid, what: &str) -> Result<()> {
        self.owner().post(&format!("/api/sandboxes/{id}/{what}"), &json!({}))?.ok().map(drop)
    }

    /// Has a sandbox deleted; its home is kept or dropped.
    ///
    /// # Errors
    /// When control refuses.
    pub fn delete(&self, id: Uuid, volume: &str) -> Result<()> {
        let answer = self.owner().delete(&format!("/api/sandboxes/{id}?volume={volume}"))?;
        ensure!((200..300).contains(&answer.status), "{}: {}", answer.status, answer.body);
        Ok(())
    }
}

impl Drop for Ground {
    fn drop(&mut self) {
        // Whatever the test came to, the engine is left as it was: by the engine's own tool, for control may be dead.
        let found = self.owner().get("/api/sandboxes").ok().map(|answer| answer.body);
        // With control alive, what is removed here would be made again.
        self.installation.kill_control().ok();
        let ids =
            found.as_ref().and_then(Value::as_array).into_iter().flatten().filter_map(|one| id_of(one).ok());
        for id in ids {
            let home =
                docker(&["inspect", "-f", "{{range .Mounts}}{{println .Name}}{{end}}", &container(id)]);
            docker(&["rm", "-f", &container(id)]).ok();
            let helpers = docker(&["ps", "-aq", "--filter", &format!("name=rexec-guard-{id}")]);
            for helper in helpers.unwrap_or_default().lines() {
                docker(&["rm", "-f", helper]).ok();
            }
            docker(&["network", "rm", &container(id)]).ok();
            for volume in home.unwrap_or_default().lines().filter(|name| name.starts_with("rexec-home-")) {
                docker(&["volume", "rm", volume]).ok();
            }
        }
    }
}

fn id_of(value: &Value) -> Result<Uuid> {
    Ok(value["id"].as_str().context("no id")?.parse()?)
}

/// The name of a sandbox's container and of its network.
pub fn container(id: Uuid) -> String {
    format!("rexec-{id}")
}

/// Whether the engine has a container or a network of the sandbox.
pub fn on_engine(id: Uuid) -> bool {
    docker(&["inspect", &container(id)]).is_ok()
}

/// Docker's own command line, which sees what really is.
///
/// # Errors
/// When the command fails.
pub fn docker(arguments: &[&str]) -> Result<String> {
    let mut command = Command::new("docker");
    if let Some(host) = std::env::var_os(DOCKER_ENV) {
        command.env("DOCKER_HOST", host);
    }
    let output = command.args(arguments).output()?;
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    } else {
        bail!("docker {arguments:?}: {}", String::from_utf8_lossy(&output.stderr))
    }
}
