//! THREATS NW-01, NW-05: whom an uplink refuses to talk to, and that it has said nothing by then.

use std::time::{Duration, SystemTime};

use quinn::ServerConfig;
use rexec_agent::state::MachineKey;
use rexec_agent::uplink::connect::quic::dial;
use rexec_agent::uplink::connect::{DialError, Target};
use rexec_agent::uplink::tls::{Secured, client_config};
use rexec_shared::pki::{ALPN_TUNNEL, Authority, Identity, MachineName, broker_name};
use uuid::Uuid;

use crate::broker::{endpoint, server_config};
use crate::support::in_time;

struct Setting {
    installation: Uuid,
    authority: Authority,
    key: MachineKey,
    certificate: String,
}

impl Setting {
    fn new() -> Self {
        let installation = Uuid::new_v4();
        let authority = authority(installation);
        let key = MachineKey::generate().unwrap();
        let name = MachineName { org: Uuid::new_v4(), machine: Uuid::new_v4() };
        let certificate =
            authority.sign_machine(&key.signing_request().unwrap(), name, SystemTime::now()).unwrap();
        Self { installation, authority, key, certificate }
    }

    fn secured(&self) -> Secured {
        let tls = client_config(self.authority.certificate_pem(), &self.certificate, &self.key).unwrap();
        Secured::new(tls).unwrap()
    }

    fn server(&self, identity: &Identity) -> ServerConfig {
        server_config(identity, None, &[ALPN_TUNNEL])
    }

    /// Dials the server; tells what the dial said and how many handshakes the server finished.
    async fn dial(&self, server: ServerConfig) -> (Result<(), DialError>, usize) {
        let server = endpoint(server, "127.0.0.1:0".parse().unwrap());
        let address = server.local_addr().unwrap();
        let accepting = {
            let server = server.clone();
            tokio::spawn(async move {
                let mut finished = 0;
                while let Some(incoming) = server.accept().await {
                    finished += usize::from(incoming.await.is_ok());
                }
                finished
            })
        };
        let (addr, server_name) = (address.to_string(), broker_name(self.installation));
        let tls = self.secured();
        let target = target(&addr, &server_name, &tls);
        let dialled = in_time("a dial", dial(target)).await;
        let outcome = dialled.map(drop);
        server.wait_idle().await;
        server.close(0u32.into(), b"");
        (outcome, accepting.await.unwrap())
    }

    async fn refuses(&self, what: &str, server: ServerConfig) {
        let (outcome, finished) = self.dial(server).await;
        assert!(matches!(outcome, Err(DialError::NotOurBroker { .. })), "{what}: {outcome:?}");
        assert_eq!(finished, 0, "{what}: the server saw a finished handshake, so our certificate too");
    }
}

fn target<'a>(addr: &'a str, server_name: &'a str, tls: &'a Secured) -> Target<'a> {
    Target { addr, server_name, tls, proxy: None, source: None }
}

fn authority(installation: Uuid) -> Authority {
    Authority::load(&Authority::generate(installation, SystemTime::now()).unwrap()).unwrap()
}

fn days(days: u64) -> Duration {
    Duration::from_secs(days * 24 * 3600)
}

#[tokio::test]
async fn nw_01_the_installations_own_broker_is_taken() {
    let setting = Setting::new();
    let identity = setting.authority.broker(setting.installation, SystemTime::now()).unwrap();
    let server = server_config(&identity, Some(&setting.authority), &[ALPN_TUNNEL]);
    let (outcome, finished) = setting.dial(server).await;
    assert!(outcome.is_ok(), "{outcome:?}");
    assert_eq!(finished, 1);
}

#[tokio::test]
async fn nw_01_a_broker_of_another_authority_is_refused_and_told_nothing() {
    let setting = Setting::new();
    let other = authority(setting.installation).broker(setting.installation, SystemTime::now()).unwrap();
    setting.refuses("other authority", setting.server(&other)).await;
}

#[tokio::test]
async fn nw_01_a_self_signed_certificate_with_the_right_name_is_refused() {
    let setting = Setting::new();
    let made = rcgen::generate_simple_self_signed(vec![broker_name(setting.installation)]).unwrap();
    let identity = Identity { certificate_pem: made.cert.pem(), key_pem: made.signing_key.serialize_pem() };
    setting.refuses("self-signed", setting.server(&identity)).await;
}

#[tokio::test]
async fn nw_01_an_expired_or_not_yet_valid_broker_is_refused() {
    let setting = Setting::new();
    let old = setting.authority.broker(setting.installation, SystemTime::now() - days(200)).unwrap();
    setting.refuses("expired", setting.server(&old)).await;
    let early = setting.authority.broker(setting.installation, SystemTime::now() + days(2)).unwrap();
    setting.refuses("not yet valid", setting.server(&early)).await;
}

#[tokio::test]
async fn nw_01_a_name_or_usage_that_is_not_a_brokers_is_refused() {
    let setting = Setting::new();
    let elsewhere = setting.authority.broker(Uuid::new_v4(), SystemTime::now()).unwrap();
    setting.refuses("another installation's name", setting.server(&elsewhere)).await;
    // A machine of the same installation that plays the broker.
    let machine =
        Identity { certificate_pem: setting.certificate.clone(), key_pem: setting.key.pem().to_owned() };
    setting.refuses("a machine's certificate", setting.server(&machine)).await;
}

#[tokio::test]
async fn nw_01_a_server_of_another_protocol_is_refused() {
    let setting = Setting::new();
    let identity = setting.authority.broker(setting.installation, SystemTime::now()).unwrap();
    setting.refuses("wrong ALPN", server_config(&identity, None, &[b"h3"])).await;
    setting.refuses("no ALPN", server_config(&identity, None, &[])).await;
}

#[tokio::test]
async fn nw_05_a_second_dial_offers_no_early_data_to_a_server_that_would_take_it() {
    let setting = Setting::new();
    let identity = setting.authority.broker(setting.installation, SystemTime::now()).unwrap();
    let server = endpoint(
        server_config(&identity, Some(&setting.authority), &[ALPN_TUNNEL]),
        "127.0.0.1:0".parse().unwrap(),
    );
    let address = server.local_addr().unwrap();
    let accepting = server.clone();
    tokio::spawn(async move {
        while let Some(incoming) = accepting.accept().await {
            if let Ok(connection) = incoming.await {
                tokio::spawn(async move { connection.closed().await });
            }
        }
    });
    let (addr, name, tls) = (address.to_string(), broker_name(setting.installation), setting.secured());
    let first = dial(target(&addr, &name, &tls)).await.unwrap();
    // Time for session tickets to come.
    in_time("a round trip", first.path.open_bi()).await.unwrap().0.write_all(b"x").await.unwrap();
    tokio::time::sleep(Duration::from_millis(200)).await;
    let client = quinn::Endpoint::client("127.0.0.1:0".parse().unwrap()).unwrap();
    let second = client.connect_with(tls.quic, address, &name).unwrap();
    assert!(second.into_0rtt().is_err(), "early data could have been sent");
}
