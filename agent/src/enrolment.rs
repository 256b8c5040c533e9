//! How a machine becomes one: a join token, or a person's approval that yields one, then a certificate for a key made here.
//!
//! The key is on disk before control hears of it, so a full disk costs no token; the registration is written last, so a crash at
//! any point leaves either nothing or everything.

use std::time::{Duration, Instant};

use rexec_shared::enrol::{
    DeviceAnswer, DeviceRequest, DeviceStatus, EnrolAnswer, EnrolRequest, all_brokers,
};
use rexec_shared::pki::{MachineName, PkiError};
use rexec_shared::ticket::PublicKey;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use thiserror::Error;

use crate::clock::{Skew, unix_ms};
use crate::control_api::{ControlApi, ControlError};
use crate::plain_text::machine_facts;
use crate::state::{MachineKey, Profile, Registration, StateError};
use crate::uplink::tls::{self, TlsError};

/// What every join token begins with.
pub const TOKEN_PREFIX: &str = "rexec_join_";
/// Longest token, bytes.
const TOKEN_MAX: usize = 512;
/// Between polls, whatever the server asks: no busier than a second, no deafer than half a minute.
const POLL: std::ops::RangeInclusive<u64> = 1..=30;
/// Longest wait for an approval, seconds, whatever the server says.
const APPROVAL_MAX_S: u64 = 3600;

/// A single-use permission to enrol. Shows nothing when debugged.
pub struct JoinToken(String);

impl std::fmt::Debug for JoinToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("JoinToken")
    }
}

impl JoinToken {
    /// Reads a token as a person or a file gives it.
    pub fn parse(text: &str) -> Result<Self, EnrolError> {
        let text = text.trim();
        let plain = text.len() <= TOKEN_MAX && text.bytes().all(|byte| byte.is_ascii_graphic());
        if plain && text.starts_with(TOKEN_PREFIX) {
            Ok(Self(text.into()))
        } else {
            Err(EnrolError::NotAToken)
        }
    }
}

/// Why enrolment failed.
#[derive(Debug, Error)]
pub enum EnrolError {
    /// What was given is no token.
    #[error("that is not a join token: one begins with {TOKEN_PREFIX} and is a single line")]
    NotAToken,
    /// Control failed or refused.
    #[error(transparent)]
    Control(#[from] ControlError),
    /// The person said no.
    #[error("the request was denied in the browser")]
    Denied,
    /// Nobody said anything.
    #[error("nobody approved the request in time; run the command again for a new code")]
    Expired,
    /// State could not be kept.
    #[error(transparent)]
    State(#[from] StateError),
    /// The key could not be made or used.
    #[error(transparent)]
    Key(#[from] PkiError),
    /// The certificate or authority is useless.
    #[error("the server's answer cannot be used: {0}")]
    Tls(#[from] TlsError),
    /// The answer does not fit together.
    #[error("the server's answer cannot be used: {0}")]
    Answer(&'static str),
}

/// What happens while a person decides.
#[derive(Debug)]
pub enum Progress<'a> {
    /// The code is there: show it.
    Code(&'a DeviceAnswer),
    /// Nobody has decided yet; this much time remains.
    Waiting(Duration),
    /// Control could not be asked just now; it is asked again.
    Trouble(&'a ControlError),
    /// Approved.
    Approved,
}

/// Asks for a person's approval and waits for it.
pub fn ask_approval(
    api: &ControlApi,
    name: &str,
    key: &MachineKey,
    mut tell: impl FnMut(Progress<'_>),
) -> Result<JoinToken, EnrolError> {
    let request =
        DeviceRequest { name: name.into(), facts: machine_facts(), key_fingerprint: key.fingerprint()? };
    let answer = api.request_device(&request)?;
    tell(Progress::Code(&answer));
    let deadline = Instant::now() + Duration::from_secs(answer.expires_in_s.min(APPROVAL_MAX_S));
    let pause = Duration::from_secs(answer.interval_s.clamp(*POLL.start(), *POLL.end()));
    loop {
        wait(pause, deadline, &mut tell);
        match api.poll_device(&answer.device_code) {
            Ok(poll) => match (poll.status, poll.join_token) {
                (DeviceStatus::Approved, Some(token)) => {
                    tell(Progress::Approved);
                    return JoinToken::parse(&token)
                        .map_err(|_| EnrolError::Answer("the approval carries no token"));
                }
                (DeviceStatus::Approved, None) => {
                    return Err(EnrolError::Answer("the approval was used already"));
                }
                (DeviceStatus::Denied, _) => return Err(EnrolError::Denied),
                (DeviceStatus::Expired, _) => return Err(EnrolError::Expired),
                (DeviceStatus::Pending, _) => {}
            },
            Err(error) if error.may_pass() => tell(Progress::Trouble(&error)),
            Err(error) => return Err(error.into()),
        }
        if Instant::now() >= deadline {
            return Err(EnrolError::Expired);
        }
    }
}

/// Waits in steps of a second, so that the person sees the time run.
fn wait(pause: Duration, deadline: Instant, tell: &mut impl FnMut(Progress<'_>)) {
    let until = (Instant::now() + pause).min(deadline);
    while let Some(rest) = until.checked_duration_since(Instant::now()).filter(|rest| !rest.is_zero()) {
        tell(Progress::Waiting(deadline.saturating_duration_since(Instant::now())));
        std::thread::sleep(rest.min(Duration::from_secs(1)));
    }
}

/// Enrols with the token and keeps everything.
pub fn enrol(
    api: &ControlApi,
    profile: &Profile,
    name: &str,
    key: &MachineKey,
    token: JoinToken,
) -> Result<(Registration, Skew), EnrolError> {
    profile.keep_key(key)?;
    let request = EnrolRequest {
        token: token.0,
        name: name.into(),
        csr: key.signing_request()?,
        facts: machine_facts(),
    };
    let before = unix_ms();
    let answer = api.enrol(&request)?;
    let skew = Skew::measure(answer.time, before, unix_ms());
    check(&answer, key)?;
    let registration = Registration {
        server: api.server().clone(),
        machine: answer.machine,
        org: answer.org,
        name: answer.name,
        tunnel: answer.tunnel,
    };
    profile.keep_certificate(&answer.certificate)?;
    profile.keep_registration(&registration)?;
    Ok((registration, skew))
}

/// Finds out now, and not at the first dial, that an answer is of no use.
fn check(answer: &EnrolAnswer, key: &MachineKey) -> Result<(), EnrolError> {
    let der = CertificateDer::from_pem_slice(answer.certificate.as_bytes())
        .map_err(|_| EnrolError::Answer("its certificate is not PEM"))?;
    if MachineName::from_certificate(&der)? != (MachineName { org: answer.org, machine: answer.machine }) {
        return Err(EnrolError::Answer("its certificate names another machine"));
    }
    let is_address = |addr: &String| {
        addr.rsplit_once(':').is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok())
    };
    if !all_brokers(&answer.tunnel.addr, &answer.tunnel.addrs).iter().all(is_address) {
        return Err(EnrolError::Answer("a tunnel address of it is not host:port"));
    }
    tls::client_config(&answer.tunnel.ca, &answer.certificate, key)?;
    tls::server_name(&answer.tunnel.server_name)?;
    PublicKey::parse(&answer.tunnel.ticket_key)
        .map_err(|_| EnrolError::Answer("its ticket key cannot be read"))?;
    Ok(())
}
