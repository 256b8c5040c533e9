//! A broker that was taken over opens no shell: the session host decides for itself (DESIGN law 5, THREATS BR-01).
//!
//! The test stands in for the broker with the broker's own identity, so the agent dials it and believes that it is the broker. Then it does what
//! the real one never would: opens streams to the session host with whatever it likes in the first frame.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, ensure};
use bytes::BytesMut;
use quinn::crypto::rustls::QuicServerConfig;
use quinn::{Connection, Endpoint, ServerConfig};
use rexec_e2e::viewer::{Permit, shell};
use rexec_e2e::{Installation, Machine};
use rexec_shared::PROTOCOL_VERSION;
use rexec_shared::pki::{ALPN_TUNNEL, Authority, Identity, private_key_der};
use rexec_shared::proof::ViewerKey;
use rexec_shared::ticket::{Claims, Signer};
use rexec_shared::tunnel::{BrokerMessage, Welcome};
use rexec_shared::viewer::{Event, Viewer};
use rustls::RootCertStore;
use rustls::server::WebPkiClientVerifier;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use tokio::time::timeout;
use uuid::Uuid;

use super::tickets::{alter_claims, claims_of, fresh, stolen_signer};

const SOON: Duration = Duration::from_secs(15);

/// A stand-in for the broker.
struct EvilBroker {
    endpoint: Endpoint,
}

impl EvilBroker {
    /// Takes the real broker's place on its port, with an identity like its own.
    fn usurp(installation: &Installation, server_name: &str) -> Result<Self> {
        let identity = installation.authority()?;
        let installation_id: Uuid = server_name.split('.').nth(1).context("a name")?.parse()?;
        let broker = Authority::load(&identity)?.broker(installation_id, SystemTime::now())?;
        let address = SocketAddr::new(installation.options().host, installation.tunnel_port());
        let config = server_config(&broker, &identity.certificate_pem)?;
        Ok(Self { endpoint: Endpoint::server(config, address)? })
    }

    /// Waits for the agent's tunnel and welcomes it.
    async fn welcome(&self) -> Result<(Connection, quinn::SendStream)> {
        let incoming = timeout(SOON, self.endpoint.accept()).await?.context("no agent came")?;
        let connection = timeout(SOON, incoming).await??;
        let (mut send, mut receive) = timeout(SOON, connection.accept_bi()).await??;
        let mut hello = [0; 1];
        timeout(SOON, receive.read_exact(&mut hello)).await??;
        ensure!(hello == [0x41], "the agent did not say hello");
        let mut out = BytesMut::new();
        let (broker, time) = ("evil".to_owned(), unix_ms());
        BrokerMessage::Welcome(Welcome {
            v: PROTOCOL_VERSION,
            features: Vec::new(),
            tunnel: 1 << 40,
            broker,
            time,
        })
        .encode(&mut out);
        send.write_all(&out).await?;
        // The agent's further words are read by nobody; its stream must not be reset for that.
        tokio::spawn(async move { while let Ok(Some(_)) = receive.read_chunk(65_536, true).await {} });
        Ok((connection, send))
    }
}

fn server_config(broker: &Identity, authority_pem: &str) -> Result<ServerConfig> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(authority_pem.as_bytes())?)?;
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone()).build()?;
    let chain = vec![CertificateDer::from_pem_slice(broker.certificate_pem.as_bytes())?];
    let mut tls = rustls::ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, private_key_der(&broker.key_pem)?)?;
    tls.alpn_protocols = vec![ALPN_TUNNEL.to_vec()];
    Ok(ServerConfig::with_crypto(Arc::new(QuicServerConfig::try_from(tls)?)))
}

fn unix_ms() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

/// Presents a permission to the session host; the code it is refused with, or none when a session was opened.
async fn present(connection: &Connection, viewer: &mut Viewer, permission: &str) -> Result<Option<String>> {
    let (mut send, mut receive) = connection.open_bi().await?;
    viewer.start(permission, true);
    let judge = async {
        loop {
            while let Some(bytes) = viewer.poll_transmit() {
                send.write_all(&bytes).await?;
            }
            let Some(chunk) = receive.read_chunk(65_536, true).await? else {
                return Ok(Some("the stream ended".to_owned()));
            };
            viewer.handle_bytes(&chunk.bytes)?;
            while let Some(event) = viewer.poll_event() {
                if let Event::Error(error) = event {
                    return Ok(Some(error.code));
                }
                if let Event::Opened(_) = event {
                    return Ok(None);
                }
            }
        }
    };
    timeout(SOON, judge).await?
}

struct Ground {
    machine: Machine,
    connection: Connection,
    /// What the owner's browser handed to the broker before it turned.
    seen: (Viewer, Permit),
    unused: (Viewer, Permit),
    elsewhere: (Viewer, Permit),
    control: Signer,
    _installation: Installation,
    _broker: EvilBroker,
    _tunnel_control: quinn::SendStream,
}

impl Ground {
    async fn new() -> Result<Self> {
        let mut installation = Installation::start()?;
        let machine = Machine::start(&installation, "m")?;
        let other = Machine::start(&installation, "other")?;
        let (mut viewer, permit) = fresh(&installation, &machine)?;
        let verdict =
            rexec_e2e::viewer::present(&permit.broker, installation.origin(), &mut viewer, &permit.ticket)
                .await?;
        ensure!(verdict == rexec_e2e::viewer::Verdict::Opened, "{verdict:?}");
        let (unused, elsewhere) = (fresh(&installation, &machine)?, fresh(&installation, &other)?);
        let control = stolen_signer(&installation)?;
        let registration: serde_json::Value =
            serde_json::from_slice(&std::fs::read(machine.profile_dir().join("registration.json"))?)?;
        let name = registration["tunnel"]["server_name"].as_str().context("no name")?.to_owned();
        drop(other);
        installation.kill_control()?;
        let broker = EvilBroker::usurp(&installation, &name)?;
        let (connection, tunnel_control) = broker.welcome().await?;
        Ok(Self {
            machine,
            connection,
            seen: (viewer, permit),
            unused,
            elsewhere,
            control,
            _installation: installation,
            _broker: broker,
            _tunnel_control: tunnel_control,
        })
    }

    /// What the session host says to a forged ticket, presented with a key and a session that fit it.
    async fn forged(&self, signer: &Signer, change: impl FnOnce(&mut Claims)) -> Result<Option<String>> {
        let key = ViewerKey::generate()?;
        let mut claims = claims_of(&self.unused.1.ticket)?;
        (claims.jti, claims.ses, claims.cnf) = (Uuid::new_v4(), Uuid::new_v4(), key.confirmation());
        change(&mut claims);
        let mut viewer = Viewer::new(Uuid::new_v4(), claims.ses, shell(), key);
        present(&self.connection, &mut viewer, &signer.ticket(&claims)).await
    }
}

#[tokio::test]
async fn br_01_a_broker_that_was_taken_over_opens_no_shell_with_anything_it_can_make_or_has_seen()
-> Result<()> {
    let mut ground = Ground::new().await?;
    let shells = ground.machine.shells()?;
    let own = Signer::from_pkcs8(&Signer::generate()?)?;

    let made_up = ground.forged(&own, |_| {}).await?;
    assert_eq!(made_up.as_deref(), Some("bad_ticket"), "signed by the broker's own key");

    let mut thief = Viewer::new(Uuid::new_v4(), ground.seen.0.session(), shell(), ViewerKey::generate()?);
    let replayed = present(&ground.connection, &mut thief, &ground.seen.1.ticket).await?;
    assert_eq!(replayed.as_deref(), Some("ticket_used"), "one it has seen");

    let mut thief = Viewer::new(Uuid::new_v4(), ground.unused.0.session(), shell(), ViewerKey::generate()?);
    let stolen = present(&ground.connection, &mut thief, &ground.unused.1.ticket).await?;
    assert!(stolen.is_some(), "one it intercepted, without the viewer's key");

    let (viewer, permit) = &mut ground.elsewhere;
    let other = present(&ground.connection, viewer, &permit.ticket).await?;
    assert_eq!(other.as_deref(), Some("bad_ticket"), "one for another machine");

    let edited = alter_claims(&ground.unused.1.ticket)?;
    let edited = present(&ground.connection, &mut ground.unused.0, &edited).await?;
    assert_eq!(edited.as_deref(), Some("bad_ticket"), "one it edited");

    let resume = ground.unused.1.resume.clone();
    let resumed = present(&ground.connection, &mut ground.unused.0, &resume).await?;
    assert_eq!(resumed.as_deref(), Some("bad_ticket"), "a resume capability opens nothing");

    let expired = ground.forged(&ground.control, |claims| {
        (claims.iat, claims.exp) = (claims.iat - 180_000, claims.exp - 180_000)
    });
    assert_eq!(expired.await?.as_deref(), Some("ticket_expired"), "one that is long over");

    let none = present(&ground.connection, &mut ground.unused.0, "").await?;
    assert!(none.is_some(), "no ticket at all");
    assert_eq!(ground.machine.shells()?, shells, "0 shells");

    let genuine = ground.forged(&ground.control, |_| {}).await?;
    assert_eq!(genuine, None, "the ground itself is sound: control's own ticket opens");
    Ok(())
}

#[tokio::test]
async fn br_01_nothing_on_a_viewers_stream_speaks_the_link() -> Result<()> {
    let ground = Ground::new().await?;
    for kind in [0x61, 0x62, 0x63, 0x64, 0x65, 0x04, 0x0c, 0x80] {
        let (mut send, mut receive) = ground.connection.open_bi().await?;
        send.write_all(&[kind, 2, b'{', b'}']).await?;
        let answer = timeout(SOON, receive.read_to_end(64 * 1024)).await?;
        let first = answer.ok().and_then(|bytes| bytes.first().copied());
        assert!(
            first.is_none_or(|kind| kind == 0x2b),
            "frame {kind:#x} as the first was answered with {first:?}"
        );
    }
    assert_eq!(ground.machine.shells()?.len(), 1, "the shell that was there is still there");
    Ok(())
}
