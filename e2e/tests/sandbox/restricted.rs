//! A network that is a list: reached through the proxy is what is on it, and nothing otherwise.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use rexec_e2e::grounds::can_run;
use rexec_e2e::sandbox::{DEBIAN, Ground, NEEDS};
use serde_json::json;

use crate::{run, shell_in};

/// An address for documentation (RFC 5737): public by its looks, and nobody's.
struct Address(&'static str);

impl Address {
    fn new(address: &'static str) -> Result<Self> {
        let added =
            Command::new("ip").args(["addr", "replace", &format!("{address}/32"), "dev", "lo"]).status()?;
        ensure!(added.success(), "{address} cannot be added to lo");
        Ok(Self(address))
    }
}

impl Drop for Address {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["addr", "del", &format!("{}/32", self.0), "dev", "lo"]).status();
    }
}

/// A web server that says one word, over plain TCP; what was asked is in its answer.
fn word_server(address: &str) -> Result<u16> {
    let listener = TcpListener::bind((address, 0))?;
    let port = listener.local_addr()?.port();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let mut stream = stream;
            let mut asked = [0; 1024];
            let read = stream.read(&mut asked).unwrap_or(0);
            let asked = String::from_utf8_lossy(asked.get(..read).unwrap_or_default()).into_owned();
            let first = asked.lines().next().unwrap_or_default().to_owned();
            let leaked = asked.to_ascii_lowercase().contains("proxy-authorization");
            let body = format!("the word; asked: {first}; leaked: {leaked}");
            let head =
                format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
            let _ = stream.write_all(format!("{head}{body}").as_bytes());
        }
    });
    Ok(port)
}

#[tokio::test]
async fn ct_05_bu_08_a_restricted_sandbox_reaches_its_list_through_the_proxy_and_nothing_else() -> Result<()>
{
    if !can_run(NEEDS) {
        return Ok(());
    }
    let address = Address::new("198.51.100.7")?;
    let (port, other) = (word_server(address.0)?, word_server(address.0)?);
    let ground = Ground::start()?;
    let allow = json!([{ "host": address.0, "port": port }, { "host": "metadata.example.org", "port": 80 }]);
    let id = ground.make(DEBIAN, json!({ "network": "restricted", "allow": allow }))?;
    let mut viewer = shell_in(&ground, id).await?;

    // The proxy's address is in the shells' environment, as programs look for it.
    let proxy = run(&mut viewer, "echo $http_proxy").await?;
    ensure!(proxy == run(&mut viewer, "echo $HTTPS_PROXY").await?, "{proxy}");
    let (credential, place) =
        proxy.strip_prefix("http://").and_then(|rest| rest.split_once('@')).context("a proxy")?;
    let (host, proxy_port) = place.split_once(':').context("a port")?;
    assert_eq!(host, "rexec.internal");
    let basic = run(&mut viewer, &format!("printf %s '{credential}' | base64 -w0; echo")).await?;
    let ask = |first: &str, basic: &str, more: &str| {
        format!(
            "exec 3<>/dev/tcp/{host}/{proxy_port}; printf '{first} HTTP/1.1\\r\\nHost: x\\r\\nProxy-Authorization: Basic {basic}\\r\\nConnection: close\\r\\n\\r\\n{more}' >&3; \
             timeout 8 head -c 4000 <&3 | tr -d '\\r'; exec 3>&-; echo"
        )
    };

    // On the list: through a tunnel, and as a request of plain HTTP that keeps no word of the credential.
    let inner = "GET /inner HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n";
    let said = run(&mut viewer, &ask(&format!("CONNECT {}:{port}", address.0), &basic, inner)).await?;
    assert!(said.starts_with("HTTP/1.1 200") && said.contains("the word; asked: GET /inner"), "{said}");
    let said = run(&mut viewer, &ask(&format!("GET http://{}:{port}/plain", address.0), &basic, "")).await?;
    assert!(said.contains("the word; asked: GET /plain HTTP/1.1; leaked: false"), "{said}");

    // Not on it, in whatever way.
    for target in [format!("{}:{other}", address.0), "example.org:443".into(), "127.0.0.1:80".into()] {
        let said = run(&mut viewer, &ask(&format!("CONNECT {target}"), &basic, "")).await?;
        assert!(said.starts_with("HTTP/1.1 403") && said.contains("is not on the list"), "{target}: {said}");
    }
    let said = run(&mut viewer, &ask(&format!("CONNECT {}:{port}", address.0), "eDp5", "")).await?;
    assert!(said.starts_with("HTTP/1.1 407"), "a credential that is nobody's: {said}");
    // Past the proxy there is nothing, not even what is on the list; and no name resolves.
    let direct = format!(
        "(timeout 2 bash -c '</dev/tcp/{}/{port}') 2>/dev/null && echo REACHED || echo no",
        address.0
    );
    assert_eq!(run(&mut viewer, &direct).await?, "no");
    let names = "timeout 3 getent hosts example.com >/dev/null && echo RESOLVED || echo no";
    assert_eq!(run(&mut viewer, names).await?, "no");

    // What is private is not listed, and one sandbox's credential dies with it.
    let private = json!({ "network": "restricted", "allow": [{ "host": "169.254.169.254", "port": 80 }] });
    let refused = ground.ask(DEBIAN, private).map_err(|error| error.to_string());
    assert!(refused.as_ref().is_err_and(|said| said.contains("private")), "{refused:?}");
    let second = ground
        .make(DEBIAN, json!({ "network": "restricted", "allow": [{ "host": address.0, "port": port }] }))?;
    let mut there = shell_in(&ground, second).await?;
    ground.tell(id, "stop")?;
    ground.until(id, "stopped")?;
    let said = run(&mut there, &ask(&format!("CONNECT {}:{port}", address.0), &basic, "")).await?;
    assert!(said.starts_with("HTTP/1.1 407"), "the credential of one that is stopped: {said}");
    Ok(())
}
