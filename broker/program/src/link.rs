//! One link to control after the other. What stands is told anew on each; what control says is obeyed, and kept for the next start.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rexec_broker::Broker;
use rexec_shared::backoff::Backoff;
use rexec_shared::broker_link::{FromBroker, LinkDown, LinkUp, LinkWelcome, ToBroker};
use rexec_shared::close::CloseCode;
use rexec_shared::limits::{CERT_LIFE, CERT_RENEW};
use rexec_shared::pki::{self, Identity};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use tokio::sync::{mpsc, watch};
use tokio::time::{MissedTickBehavior, interval, sleep};
use tokio_util::sync::CancellationToken;

use crate::control::{Connection, LinkError, connect};
use crate::in_flight::InFlight;
use crate::settings::Settings;
use crate::store::{Feeds, Store};

/// First pause after a failure, ceiling.
const RETRY_BASE: Duration = Duration::from_millis(250);
/// Longest pause: after control is back, presence is right within seconds.
const RETRY_CAP: Duration = Duration::from_secs(3);
/// Pause after a refusal that only an operator can change.
const REFUSED_PAUSE: Duration = Duration::from_secs(30);
/// Uptime that forgets failures.
const STABLE: Duration = Duration::from_secs(10);
/// How often new feeds are written down, and the certificate's age is looked at by the wall clock.
const LOOK: Duration = Duration::from_secs(1);

/// Why there is no link any more, ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Over {
    /// The broker has ended, and control has been told everything.
    Finished,
    /// Control says that this is no broker of its any more.
    Removed,
}

/// What the rest of the program sees of the link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Status {
    /// Whether it stands.
    pub(crate) linked: bool,
    /// Other brokers that agents may go to, as control said last.
    pub(crate) others: u32,
}

/// Everything the link's task owns.
pub(crate) struct Link {
    pub(crate) settings: Arc<Settings>,
    pub(crate) store: Arc<Store>,
    pub(crate) key_pem: String,
    pub(crate) welcome: LinkWelcome,
    pub(crate) feeds: Feeds,
    pub(crate) broker: Broker,
    pub(crate) events: mpsc::Receiver<FromBroker>,
    pub(crate) orders: mpsc::Sender<ToBroker>,
    pub(crate) status: watch::Sender<Status>,
}

/// Asks control until it welcomes us: without having been welcomed once there is nothing to serve with.
pub(crate) async fn first(settings: &Settings, key_pem: &str) -> (Connection, LinkWelcome) {
    let mut backoff = Backoff::new(RETRY_BASE, RETRY_CAP, STABLE);
    loop {
        match connect(settings, key_pem).await {
            Ok(connected) => return connected,
            Err(error) => pause(&mut backoff, &error).await,
        }
    }
}

async fn pause(backoff: &mut Backoff, error: &LinkError) {
    if matches!(error, LinkError::Unknown | LinkError::Closed(Some(CloseCode::Displaced))) {
        tracing::error!(%error, "no link to control; trying again");
        sleep(REFUSED_PAUSE).await;
    } else {
        tracing::warn!(%error, "no link to control; trying again");
        sleep(backoff.failed(Instant::now(), rand::random())).await;
    }
}

impl Link {
    /// Keeps a link until the broker has ended or is removed. `leaving` is cancelled when nobody waits for control any more.
    pub(crate) async fn run(mut self, mut open: Option<Connection>, leaving: CancellationToken) -> Over {
        let mut backoff = Backoff::new(RETRY_BASE, RETRY_CAP, STABLE);
        let mut again = Vec::new();
        loop {
            let connection = match open.take() {
                Some(connection) => connection,
                None => tokio::select! {
                    () = leaving.cancelled() => return Over::Finished,
                    connection = self.reconnect(&mut backoff) => connection,
                },
            };
            backoff.succeeded(Instant::now());
            self.status.send_modify(|status| status.linked = true);
            tracing::info!(control = %self.settings.control, name = self.welcome.name, "linked to control");
            let mut flying = InFlight::default();
            let error = match self.carry(connection, &mut flying, std::mem::take(&mut again)).await {
                Ok(()) => return Over::Finished,
                Err(error) => error,
            };
            self.status.send_modify(|status| status.linked = false);
            again = flying.handle_end();
            if matches!(error, LinkError::Closed(Some(CloseCode::Revoked))) {
                return Over::Removed;
            }
            tokio::select! {
                () = leaving.cancelled() => return Over::Finished,
                () = pause(&mut backoff, &error) => {}
            }
        }
    }

    async fn reconnect(&mut self, backoff: &mut Backoff) -> Connection {
        loop {
            let error = match connect(&self.settings, &self.key_pem).await {
                Ok((connection, welcome)) => match self.take_welcome(welcome) {
                    Ok(()) => return connection,
                    Err(error) => error,
                },
                Err(error) => error,
            };
            pause(backoff, &error).await;
        }
    }

    /// Authority and ticket key are pinned by the first welcome: agents have pinned them, too.
    fn take_welcome(&mut self, welcome: LinkWelcome) -> Result<(), LinkError> {
        let pinned = |of: &LinkWelcome| (of.installation, of.ca.clone(), of.ticket_key.clone());
        if pinned(&welcome) != pinned(&self.welcome) {
            return Err(LinkError::Protocol("it is the control of another installation"));
        }
        self.broker.allow_origins(welcome.allowed_origins.clone());
        self.take_certificate(&welcome.certificate)?;
        self.welcome = welcome;
        self.keep_welcome();
        Ok(())
    }

    fn take_certificate(&self, certificate: &str) -> Result<(), LinkError> {
        let identity = Identity { certificate_pem: certificate.to_owned(), key_pem: self.key_pem.clone() };
        self.broker
            .renew(&identity)
            .map_err(|_| LinkError::Protocol("a certificate that does not fit our key"))
    }

    /// What cannot be written down is known all the same, until the next start.
    fn keep_welcome(&self) {
        if let Err(error) = self.store.keep_welcome(&self.welcome) {
            tracing::error!(%error, "what control said could not be kept");
        }
    }

    /// Says and hears until the broker has ended and all is said, which is `Ok`, or the link is gone.
    async fn carry(
        &mut self,
        mut connection: Connection,
        flying: &mut InFlight,
        again: Vec<FromBroker>,
    ) -> Result<(), LinkError> {
        self.know_others(self.welcome.others).await;
        self.broker.retell().await;
        let mut again = again.into_iter();
        let mut look = interval(LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut ended, mut unsaved, mut asked) = (false, false, false);
        loop {
            if ended && flying.is_empty() {
                self.keep_feeds(unsaved).await;
                connection.leave().await;
                return Ok(());
            }
            tokio::select! {
                message = connection.hear() => match message? {
                    Some(LinkDown::Order { order }) => unsaved |= self.obey(order).await,
                    Some(LinkDown::Ack { seq }) => flying.handle_ack(seq),
                    Some(LinkDown::Others { others }) => self.know_others(others).await,
                    Some(LinkDown::Certificate { certificate }) => {
                        asked = false;
                        self.renewed(certificate)?;
                    }
                    Some(LinkDown::Welcome(_)) => return Err(LinkError::Protocol("a second welcome")),
                    None => {}
                },
                event = next(&mut again, &mut self.events), if flying.has_room() && !ended => match event {
                    Some(event) => {
                        let seq = flying.push(&event);
                        connection.send(&LinkUp::Event { seq, event }).await?;
                    }
                    None => ended = true,
                },
                _ = look.tick() => {
                    self.keep_feeds(std::mem::take(&mut unsaved)).await;
                    if !asked && is_due(&self.welcome.certificate, SystemTime::now()) {
                        asked = true;
                        let csr = pki::signing_request(&self.key_pem)?;
                        connection.send(&LinkUp::Renew { csr }).await?;
                    }
                }
            }
        }
    }

    async fn know_others(&mut self, others: u32) {
        self.welcome.others = others;
        self.status.send_modify(|status| status.others = others);
        self.broker.beside_others(others > 0).await;
    }

    /// Whether there is something to be written down.
    async fn obey(&mut self, order: ToBroker) -> bool {
        let mut news = false;
        if let ToBroker::Feed { org, token } = &order {
            self.feeds.insert(*org, token.clone());
            news = true;
        }
        if self.orders.send(order).await.is_err() {
            tracing::debug!("the broker has ended and obeys nobody");
        }
        news
    }

    fn renewed(&mut self, certificate: String) -> Result<(), LinkError> {
        self.take_certificate(&certificate)?;
        self.welcome.certificate = certificate;
        self.keep_welcome();
        tracing::info!("the broker's certificate was renewed");
        Ok(())
    }

    async fn keep_feeds(&self, unsaved: bool) {
        if !unsaved {
            return;
        }
        let (store, feeds) = (Arc::clone(&self.store), self.feeds.clone());
        match tokio::task::spawn_blocking(move || store.keep_feeds(&feeds)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::error!(%error, "the feeds could not be kept"),
            Err(error) => tracing::error!(%error, "the feeds could not be kept"),
        }
    }
}

/// What the last link owes first, then what is new; none when the broker has ended. Cancel-safe.
async fn next(
    again: &mut impl Iterator<Item = FromBroker>,
    events: &mut mpsc::Receiver<FromBroker>,
) -> Option<FromBroker> {
    match again.next() {
        Some(event) => Some(event),
        None => events.recv().await,
    }
}

/// When the certificate ends; none when it cannot be read.
pub(crate) fn certificate_end(pem: &str) -> Option<SystemTime> {
    let der = CertificateDer::from_pem_slice(pem.as_bytes()).ok()?;
    let end = u64::try_from(pki::not_after(&der).ok()?).ok()?;
    Some(UNIX_EPOCH + Duration::from_secs(end))
}

/// A certificate is renewed at a third of its life, as an agent's is.
fn is_due(certificate: &str, now: SystemTime) -> bool {
    certificate_end(certificate).is_none_or(|end| {
        let left = end.duration_since(now).unwrap_or_default();
        left <= CERT_LIFE - CERT_RENEW
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use rexec_shared::pki::Authority;
    use uuid::Uuid;

    #[test]
    fn a_certificate_is_due_at_a_third_of_its_life_and_when_it_cannot_be_read() {
        let (installation, now) = (Uuid::new_v4(), SystemTime::now());
        let authority = Authority::load(&Authority::generate(installation, now).unwrap()).unwrap();
        let csr = pki::signing_request(&pki::generate_key().unwrap()).unwrap();
        let certificate = authority.sign_broker(&csr, installation, now).unwrap();
        let hours = |n: u64| Duration::from_secs(n * 3600);
        assert!(!is_due(&certificate, now + hours(7)));
        assert!(is_due(&certificate, now + hours(8) + Duration::from_secs(2)));
        assert!(is_due(&certificate, now + hours(100)));
        assert!(is_due("no certificate", now));
    }
}
