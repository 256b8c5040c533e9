//! The installation as an image: nobody's shell, no root, a read-only root, secrets from files, sandboxes through the socket.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use rexec_e2e::ViewerClient;
use rexec_e2e::api::Api;
use rexec_e2e::binaries::Program;
use rexec_e2e::grounds::{DOCKER_ENV, can_run};
use rexec_e2e::installation::free_port;
use rexec_e2e::sandbox::{BUSYBOX, NEEDS, SOON, container, docker};
use rexec_e2e::viewer::terminal;
use rexec_e2e::wait;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::run;

const PASSWORD: &str = "a long enough pass phrase";

/// A container that goes with the test, and its data with it.
struct Packaged {
    name: String,
    origin: String,
}

impl Drop for Packaged {
    fn drop(&mut self) {
        docker(&["rm", "-f", "-v", &self.name]).ok();
    }
}

/// The image of these binaries, by the Dockerfile that is shipped.
fn build_image(context: &Path) -> Result<String> {
    let root = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
    std::fs::create_dir_all(context.join("bin"))?;
    std::fs::create_dir_all(context.join("packaging/data"))?;
    std::fs::write(context.join("packaging/data/.keep"), "")?;
    let agent =
        format!("bin/rexec-agent-linux-{}", if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" });
    for (program, place) in [(Program::Control, "bin/rexec-control"), (Program::Agent, agent.as_str())] {
        std::fs::copy(program.path()?, context.join(place))?;
    }
    let tag = format!("rexec-test/control:{}", Uuid::new_v4().simple());
    let dockerfile = root.join("packaging/Dockerfile").display().to_string();
    let context = context.display().to_string();
    docker(&["build", "--quiet", "--file", &dockerfile, "--target", "control", "--tag", &tag, &context])?;
    Ok(tag)
}

fn start(image: &str, secrets: &Path) -> Result<Packaged> {
    let host = Ipv4Addr::LOCALHOST.into();
    let (port, tunnel, proxy) = (free_port(host)?, free_port(host)?, free_port(host)?);
    let socket = std::env::var(DOCKER_ENV)?.strip_prefix("unix://").context("a socket")?.to_owned();
    let group = std::os::unix::fs::MetadataExt::gid(&std::fs::metadata(&socket)?).to_string();
    let name = format!("rexec-packaged-{port}");
    let variables = [
        format!("PORT={port}"),
        format!("REXEC_PUBLIC_URL=http://localhost:{port}"),
        format!("REXEC_TUNNEL_ADDR=0.0.0.0:{tunnel}"),
        format!("REXEC_SANDBOX_PROXY_PORT={proxy}"),
        "REXEC_SANDBOX_ENGINE=/var/run/docker.sock".to_owned(),
        "REXEC_SANDBOX_IMAGES=rexec-test/*".to_owned(),
        "JWT_SECRET_FILE=/run/secrets/jwt_secret".to_owned(),
    ];
    let mounts = [
        format!("{socket}:/var/run/docker.sock"),
        format!("{}:/run/secrets/jwt_secret:ro", secrets.join("jwt_secret").display()),
    ];
    let mut words =
        vec!["run", "--detach", "--name", &name, "--network", "host", "--read-only", "--cap-drop", "ALL"];
    words.extend(["--security-opt", "no-new-privileges:true", "--group-add", &group]);
    variables.iter().for_each(|variable| words.extend(["--env", variable]));
    mounts.iter().for_each(|mount| words.extend(["--volume", mount]));
    words.push(image);
    docker(&words)?;
    Ok(Packaged { name, origin: format!("http://localhost:{port}") })
}

#[tokio::test]
async fn the_image_is_a_whole_installation_without_root_or_shell_that_makes_sandboxes() -> Result<()> {
    if !can_run(NEEDS) {
        return Ok(());
    }
    let dir = tempfile::tempdir()?;
    let secret = format!("{}{}\n", Uuid::new_v4().simple(), Uuid::new_v4().simple());
    std::fs::write(dir.path().join("jwt_secret"), secret)?;
    // The image's user is not ours, and has to come as far as the secret.
    std::fs::set_permissions(dir.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
    let image = build_image(&dir.path().join("context"))?;
    let packaged = start(&image, dir.path())?;
    let health = || docker(&["inspect", "-f", "{{.State.Health.Status}}", &packaged.name]).ok();
    let healthy = wait::until("a healthy container", SOON, || (health()? == "healthy").then_some(()));
    healthy.with_context(|| docker(&["logs", &packaged.name]).unwrap_or_default())?;
    let user = docker(&["inspect", "-f", "{{.Config.User}} {{.HostConfig.ReadonlyRootfs}}", &packaged.name])?;
    assert_eq!(user, "10001:10001 true");
    assert!(docker(&["exec", &packaged.name, "/bin/sh", "-c", "true"]).is_err(), "there is no shell in it");

    let owner = owner(&packaged, dir.path())?;
    let wish = json!({ "image": BUSYBOX, "cpus_milli": 500, "memory_mb": 256, "network": "open" });
    let made =
        wait::until("the engine to be known", SOON, || owner.post("/api/sandboxes", &wish).ok()?.ok().ok())?;
    let id: Uuid = made["id"].as_str().context("an id")?.parse()?;
    let look = || owner.get(&format!("/api/sandboxes/{id}")).ok()?.ok().ok();
    let outcome = async {
        wait::until("a sandbox that is ready", SOON, || (look()?["state"] == "ready").then_some(()))
            .with_context(|| look().map(|found: Value| found.to_string()).unwrap_or_default())?;
        let mut viewer = ViewerClient::open(&owner, id, terminal(None)).await?;
        ensure!(run(&mut viewer, "echo in the box").await? == "in the box");
        Ok(())
    };
    let outcome = outcome.await;
    owner.delete(&format!("/api/sandboxes/{id}?volume=drop"))?;
    wait::until("a sandbox that is gone", SOON, || {
        docker(&["inspect", &container(id)]).is_err().then_some(())
    })?;
    drop(packaged);
    docker(&["rmi", "-f", &image])?;
    outcome
}

/// The owner, made by the image's own command and signed in.
fn owner(packaged: &Packaged, dir: &Path) -> Result<Api> {
    let password = dir.join("password");
    std::fs::write(&password, PASSWORD)?;
    let mut command = std::process::Command::new("docker");
    command.env("DOCKER_HOST", std::env::var(DOCKER_ENV)?);
    command.args([
        "exec",
        "-i",
        &packaged.name,
        "/usr/bin/rexec-control",
        "owner",
        "create",
        "--email",
        "ada@example.org",
    ]);
    let output = command.args(["--password-file", "-"]).stdin(std::fs::File::open(&password)?).output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Api::new(&packaged.origin).sign_in("ada@example.org", PASSWORD)
}
