//! Keeps the client certificate young: renewed at a third of its life by proof of the key, also after months asleep.
//!
//! A running tunnel is left alone; the new certificate is for the next dial. Time is looked at every minute by the wall clock, because timers
//! stand still while a laptop sleeps.

use std::time::{Duration, Instant};

use rexec_shared::backoff::Backoff;
use rexec_shared::enrol::{RenewAnswer, RenewRequest, all_brokers};
use rexec_shared::limits::{CERT_LIFE, CERT_RENEW};
use rexec_shared::pki::{self, MachineName};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use tokio::sync::watch;
use tokio::time::sleep;

use crate::clock::{Skew, unix_ms};
use crate::control_api::ControlApi;
use crate::plain_text::machine_facts;
use crate::state::{MachineKey, Profile, Registration};
use crate::uplink::tls;

/// How often the wall clock is looked at.
const LOOK: Duration = Duration::from_secs(60);
/// First pause after a failure, ceiling.
const RETRY_BASE: Duration = Duration::from_secs(1);
/// Longest pause after failures: renewal begins 16 hours before it matters.
const RETRY_CAP: Duration = Duration::from_secs(300);
/// A certificate younger than this is not renewed, whoever wants a new one: it would not help.
const YOUNG: Duration = Duration::from_secs(120);

/// What the uplink shows the broker, and where it dials.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credentials {
    /// The newest certificate, PEM.
    pub certificate: String,
    /// When it ends, Unix seconds.
    pub until: i64,
    /// `host:port` of each broker.
    pub brokers: Vec<String>,
    /// Why the last renewal failed, or was not kept on disk.
    pub trouble: Option<String>,
    /// Control says that this machine is no more.
    pub is_revoked: bool,
}

impl Credentials {
    /// Whether no broker would take the certificate.
    pub fn is_expired(&self, now_ms: u64) -> bool {
        self.until <= seconds(now_ms)
    }

    fn age(&self, now_ms: u64) -> Duration {
        let issued = self.until.saturating_sub_unsigned(CERT_LIFE.as_secs());
        Duration::from_secs(u64::try_from(seconds(now_ms).saturating_sub(issued)).unwrap_or_default())
    }

    fn is_due(&self, now_ms: u64) -> bool {
        self.age(now_ms) >= CERT_RENEW
    }
}

fn seconds(unix_ms: u64) -> i64 {
    i64::try_from(unix_ms / 1000).unwrap_or(i64::MAX)
}

/// The rest of the uplink's handle on renewal.
#[derive(Debug)]
pub struct RenewalHandle {
    /// The newest credentials.
    pub credentials: watch::Receiver<Credentials>,
    /// Changed by whoever wants a new certificate before its time.
    pub wanted: watch::Sender<u64>,
}

/// Owns the certificate of one profile.
#[derive(Debug)]
pub struct Renewal {
    profile: Profile,
    registration: Registration,
    key: MachineKey,
    credentials: watch::Sender<Credentials>,
    wanted: watch::Receiver<u64>,
    /// Whether the newest credentials are on disk. While the disk is full they are good all the same, until this process ends.
    is_kept: bool,
}

impl Renewal {
    /// Takes over the certificate on disk. A certificate that cannot be read counts as expired, and is renewed.
    pub fn new(profile: Profile, registration: Registration, key: MachineKey) -> (Self, RenewalHandle) {
        let certificate = profile.certificate().unwrap_or_default();
        let until = end_of(&certificate).unwrap_or(0);
        let brokers = all_brokers(&registration.tunnel.addr, &registration.tunnel.addrs);
        let (credentials, seen) =
            watch::channel(Credentials { certificate, until, brokers, trouble: None, is_revoked: false });
        let (wanted_in, wanted) = watch::channel(0);
        let renewal = Self { profile, registration, key, credentials, wanted, is_kept: true };
        (renewal, RenewalHandle { credentials: seen, wanted: wanted_in })
    }

    /// Renews whenever it is time, until control says that the machine is no more. `wake` changes when the machine woke or its network changed:
    /// what is due is tried at once then, for timers stood still.
    pub async fn run(mut self, mut wake: watch::Receiver<u64>) {
        let mut backoff = Backoff::new(RETRY_BASE, RETRY_CAP, Duration::ZERO);
        loop {
            let is_wanted = self.wanted.has_changed().unwrap_or(false);
            let now = unix_ms();
            let (is_due, age) = {
                let known = self.credentials.borrow();
                (known.is_due(now), known.age(now))
            };
            self.wanted.mark_unchanged();
            let done = if is_due || (is_wanted && age >= YOUNG) { self.renew().await } else { self.keep() };
            let pause = match done {
                Ok(()) => {
                    backoff.reset();
                    LOOK
                }
                Err(Failure::Revoked) => return,
                Err(Failure::Later) => backoff.failed(Instant::now(), rand::random()).max(RETRY_BASE / 2),
            };
            tokio::select! {
                () = sleep(pause) => {}
                Ok(()) = self.wanted.changed() => self.wanted.mark_changed(),
                Ok(()) = wake.changed() => backoff.reset(),
            }
        }
    }

    async fn renew(&mut self) -> Result<(), Failure> {
        match self.ask().await {
            Ok(answer) => {
                self.take(&answer).map_err(|trouble| self.note(trouble))?;
                self.keep()
            }
            Err(Refusal::Revoked) => {
                self.credentials.send_modify(|known| known.is_revoked = true);
                Err(Failure::Revoked)
            }
            Err(Refusal::Trouble(trouble)) => Err(self.note(trouble)),
        }
    }

    /// Tells of something to be tried again.
    fn note(&self, trouble: String) -> Failure {
        tracing::warn!(%trouble, "the certificate is not renewed; trying again");
        self.credentials.send_modify(|known| known.trouble = Some(trouble));
        Failure::Later
    }

    async fn ask(&self) -> Result<RenewAnswer, Refusal> {
        let csr = self.key.signing_request().map_err(|error| Refusal::Trouble(error.to_string()))?;
        let request = RenewRequest { machine: self.registration.machine, csr, facts: machine_facts() };
        let server = self.registration.server.clone();
        let asked = tokio::task::spawn_blocking(move || {
            let before = unix_ms();
            ControlApi::new(server)
                .renew(&request)
                .map(|answer| (Skew::measure(answer.time, before, unix_ms()), answer))
        });
        match asked.await {
            Ok(Ok((skew, answer))) => {
                if let Some(complaint) = skew.complaint() {
                    tracing::warn!("{complaint}");
                }
                Ok(answer)
            }
            Ok(Err(error)) if matches!(error.code(), Some("machine_revoked" | "machine_unknown")) => {
                Err(Refusal::Revoked)
            }
            Ok(Err(error)) => Err(Refusal::Trouble(error.to_string())),
            Err(_) => Err(Refusal::Trouble("the request was cut short".into())),
        }
    }

    /// Believes a new certificate once it has proved to be one for this machine and key.
    fn take(&mut self, answer: &RenewAnswer) -> Result<(), String> {
        let expected = MachineName { org: self.registration.org, machine: self.registration.machine };
        let der = CertificateDer::from_pem_slice(answer.certificate.as_bytes())
            .map_err(|error| error.to_string())?;
        if MachineName::from_certificate(&der).map_err(|error| error.to_string())? != expected {
            return Err("the new certificate names another machine".into());
        }
        tls::client_config(&self.registration.tunnel.ca, &answer.certificate, &self.key)
            .map_err(|error| error.to_string())?;
        let until = pki::not_after(&der).map_err(|error| error.to_string())?;
        let brokers = all_brokers(&answer.addr, &answer.addrs);
        tracing::info!(until, "the certificate was renewed");
        self.is_kept = false;
        self.credentials.send_modify(|known| {
            known.certificate.clone_from(&answer.certificate);
            known.brokers = brokers;
            known.until = until;
            known.trouble = None;
        });
        Ok(())
    }

    /// Writes the newest credentials down, unless they are. Each file is the old one or the new one, whatever happens meanwhile.
    fn keep(&mut self) -> Result<(), Failure> {
        if self.is_kept {
            return Ok(());
        }
        let (certificate, brokers) = {
            let known = self.credentials.borrow();
            (known.certificate.clone(), known.brokers.clone())
        };
        let kept = self.profile.keep_certificate(&certificate).and_then(|()| {
            let tunnel = &self.registration.tunnel;
            let Some((first, _)) = brokers.split_first() else { return Ok(()) };
            if all_brokers(&tunnel.addr, &tunnel.addrs) == brokers {
                return Ok(());
            }
            let mut registration = self.registration.clone();
            registration.tunnel.addr.clone_from(first);
            registration.tunnel.addrs.clone_from(&brokers);
            self.profile.keep_registration(&registration)?;
            self.registration = registration;
            Ok(())
        });
        if let Err(error) = kept {
            return Err(self.note(format!("the new one is used, and cannot be kept: {error}")));
        }
        self.is_kept = true;
        self.credentials.send_if_modified(|known| known.trouble.take().is_some());
        Ok(())
    }
}

/// Why there is no new certificate yet.
enum Failure {
    /// Never will be.
    Revoked,
    /// To be tried again.
    Later,
}

/// What control answered, or did not.
enum Refusal {
    Revoked,
    Trouble(String),
}

fn end_of(pem: &str) -> Option<i64> {
    let der = CertificateDer::from_pem_slice(pem.as_bytes()).ok()?;
    pki::not_after(&der).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn credentials(until: i64) -> Credentials {
        Credentials {
            certificate: String::new(),
            until,
            brokers: Vec::new(),
            trouble: None,
            is_revoked: false,
        }
    }

    #[test]
    fn a_certificate_is_due_at_a_third_of_its_life_and_forever_after() {
        let issued = 1_790_000_000u64;
        let known = credentials(i64::try_from(issued + CERT_LIFE.as_secs()).unwrap());
        let at = |hours: u64| (issued + hours * 3600) * 1000;
        assert!(!known.is_due(at(7)));
        assert!(known.is_due(at(8)) && !known.is_expired(at(8)));
        assert!(known.is_due(at(24)) && known.is_expired(at(24)));
        assert!(known.is_due(at(24 * 300)) && known.is_expired(at(24 * 300)));
    }

    #[test]
    fn a_certificate_that_cannot_be_read_is_due_and_expired() {
        assert!(credentials(0).is_due(unix_ms()) && credentials(0).is_expired(unix_ms()));
        assert_eq!(end_of("no pem"), None);
    }
}
