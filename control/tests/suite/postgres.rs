//! Where tests find PostgreSQL: `REXEC_TEST_POSTGRES`, or a private server for this process.
//!
//! Without either, tests on PostgreSQL say so and pass on a developer's machine; in CI they fail.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use sea_orm::{ConnectionTrait as _, Database};
use uuid::Uuid;

static SERVER: OnceLock<Option<Server>> = OnceLock::new();

struct Server {
    url: String,
    /// The server ends when this process does, because then this pipe ends.
    _lifeline: Option<(Child, ChildStdin)>,
}

/// A fresh database, if there is a server.
pub(crate) async fn fresh_database() -> Option<String> {
    let server = SERVER.get_or_init(find).as_ref()?;
    let name = format!("rexec_{}", Uuid::new_v4().simple());
    let admin = Database::connect(&server.url).await.expect("PostgreSQL answers");
    admin.execute_unprepared(&format!("CREATE DATABASE {name}")).await.expect("a database");
    admin.close().await.expect("closed");
    let (base, _) = server.url.rsplit_once('/').expect("a database in the address");
    Some(format!("{base}/{name}"))
}

/// Removes what [`fresh_database`] made.
pub(crate) async fn drop_database(url: &str) {
    let (Some(server), Some((_, name))) = (SERVER.get().and_then(Option::as_ref), url.rsplit_once('/'))
    else {
        return;
    };
    if let Ok(admin) = Database::connect(&server.url).await {
        // A leftover goes with the server.
        let _ = admin.execute_unprepared(&format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)")).await;
    }
}

fn find() -> Option<Server> {
    if let Ok(url) = std::env::var("REXEC_TEST_POSTGRES") {
        return Some(Server { url, _lifeline: None });
    }
    match binaries() {
        Some(bin) => Some(start(&bin)),
        None if std::env::var("CI").is_ok_and(|ci| ci == "true") => {
            panic!("there is no PostgreSQL server here")
        }
        None => {
            #[expect(clippy::print_stderr, reason = "a skipped test says why")]
            {
                eprintln!(
                    "skipped on PostgreSQL: there is no PostgreSQL server here (apt-get install postgresql)"
                );
            }
            None
        }
    }
}

fn binaries() -> Option<PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").ok()?;
    versions
        .filter_map(|version| Some(version.ok()?.path().join("bin")))
        .find(|bin| bin.join("initdb").exists())
}

/// `postgres` refuses to run as root, so it runs as the user its packages bring.
const SCRIPT: &str = r#"
set -e
bin="$1" dir="$2" port="$3"
as=
if [ "$(id -u)" = 0 ]; then chown postgres "$dir"; as="setpriv --reuid postgres --regid postgres --init-groups"; fi
cd /
$as "$bin/initdb" -D "$dir/data" -U rexec --auth=trust -E UTF8 --locale=C --no-sync >/dev/null 2>&1
# A command of its own, no function: what runs a function in the background is a shell, which takes no QUIT.
$as "$bin/postgres" -D "$dir/data" -k "$dir" -p "$port" -c listen_addresses=127.0.0.1 -c fsync=off >/dev/null 2>&1 </dev/null &
server=$!
read -r _ || true
kill -QUIT "$server"; wait "$server" || true
rm -rf "$dir"
"#;

fn start(bin: &Path) -> Server {
    let dir = tempfile::Builder::new().prefix("rexec-postgres.").tempdir().expect("a directory").keep();
    let port =
        std::net::TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a port").port();
    let mut child = Command::new("sh")
        .args(["-c", SCRIPT, "postgres"])
        .arg(bin)
        .arg(&dir)
        .arg(port.to_string())
        .stdin(Stdio::piped())
        .spawn()
        .expect("a shell");
    let mut lifeline = child.stdin.take().expect("a pipe");
    lifeline.flush().expect("an open pipe");
    let deadline = Instant::now() + Duration::from_secs(60);
    let is_ready = || {
        let asked = Command::new(bin.join("pg_isready"))
            .args(["-q", "-h", "127.0.0.1", "-p", &port.to_string()])
            .status();
        asked.is_ok_and(|status| status.success())
    };
    while !is_ready() {
        assert!(Instant::now() < deadline, "PostgreSQL did not start");
        std::thread::sleep(Duration::from_millis(100));
    }
    Server { url: format!("postgres://rexec@127.0.0.1:{port}/postgres"), _lifeline: Some((child, lifeline)) }
}
