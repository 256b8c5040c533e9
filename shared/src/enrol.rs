//! What agent and control say to each other over HTTP: device approval, enrolment, renewal, leaving.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Facts about a machine, told by its agent; shown, never trusted (THREATS MA-08).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct MachineFacts {
    /// Operating system, as `std::env::consts::OS`.
    pub os: String,
    /// Architecture, as `std::env::consts::ARCH`.
    pub arch: String,
    /// Host name.
    pub hostname: String,
    /// Version of the agent.
    pub agent_version: String,
}

/// `POST /api/device`: an agent asks for a person's approval.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct DeviceRequest {
    /// Name the machine should have.
    pub name: String,
    /// Facts shown to the person.
    #[serde(flatten)]
    pub facts: MachineFacts,
    /// Fingerprint of the agent's key, shown on both screens.
    pub key_fingerprint: String,
}

/// The answer to [`DeviceRequest`] (RFC 8628 §3.2).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct DeviceAnswer {
    /// Secret to poll with.
    pub device_code: String,
    /// Code the person types or compares.
    pub user_code: String,
    /// Where the person goes.
    pub verification_uri: String,
    /// The same with the code filled in.
    pub verification_uri_complete: String,
    /// Seconds between polls.
    pub interval_s: u64,
    /// Seconds until the codes end.
    pub expires_in_s: u64,
}

/// `POST /api/device/poll`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct DevicePoll {
    /// The secret of [`DeviceAnswer`].
    pub device_code: String,
}

/// Where an approval stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum DeviceStatus {
    /// Nobody has decided yet.
    Pending,
    /// Approved: the answer carries a single-use join token, once.
    Approved,
    /// Denied by the person.
    Denied,
    /// Too late.
    Expired,
}

/// The answer to [`DevicePoll`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct DevicePollAnswer {
    /// Where the approval stands.
    pub status: DeviceStatus,
    /// Present once, when approved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub join_token: Option<String>,
}

/// `POST /api/agent/enrol`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct EnrolRequest {
    /// A join token: `rexec_join_…`.
    pub token: String,
    /// Name the machine should have.
    pub name: String,
    /// PEM of a signing request; only its public key is believed.
    pub csr: String,
    /// Facts about the machine.
    #[serde(flatten)]
    pub facts: MachineFacts,
}

/// What an agent pins and where it dials.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct TunnelTarget {
    /// `host:port` of a broker, UDP and TCP.
    pub addr: String,
    /// All brokers, that one included; empty from a control that has but one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub addrs: Vec<String>,
    /// Name the certificate of each of them must carry.
    pub server_name: String,
    /// PEM of the installation's certificate authority.
    pub ca: String,
    /// Control's ticket key, base64url of an Ed25519 public key.
    pub ticket_key: String,
}

/// All brokers of an answer: a control that has but one names it alone.
pub fn all_brokers(addr: &str, addrs: &[String]) -> Vec<String> {
    if addrs.is_empty() { vec![addr.to_owned()] } else { addrs.to_vec() }
}

/// The answer to [`EnrolRequest`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct EnrolAnswer {
    /// The machine's id.
    pub machine: Uuid,
    /// Its organisation.
    pub org: Uuid,
    /// The name it got.
    pub name: String,
    /// PEM of the client certificate.
    pub certificate: String,
    /// Whom to trust and dial.
    pub tunnel: TunnelTarget,
    /// Control's clock, Unix milliseconds.
    pub time: u64,
}

/// `POST /api/agent/renew`: proof of the key is the request's own signature, and the answer is useless without the key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct RenewRequest {
    /// The machine.
    pub machine: Uuid,
    /// PEM of a signing request by the key that enrolled.
    pub csr: String,
    /// Facts about the machine.
    #[serde(flatten)]
    pub facts: MachineFacts,
}

/// The answer to [`RenewRequest`]. Authority and ticket key are pinned at enrolment and not changed by a renewal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct RenewAnswer {
    /// PEM of the new client certificate.
    pub certificate: String,
    /// `host:port` of a broker, UDP and TCP.
    pub addr: String,
    /// All brokers, that one included; empty from a control that has but one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub addrs: Vec<String>,
    /// Control's clock, Unix milliseconds.
    pub time: u64,
}

/// `POST /api/agent/unregister`: the agent leaves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct UnregisterRequest {
    /// The machine.
    pub machine: Uuid,
    /// Unix milliseconds, within a minute of control's clock.
    pub time: u64,
    /// By the machine's key over [`unregister_text`].
    pub signature: String,
}

/// What an [`UnregisterRequest`] signs.
pub fn unregister_text(machine: Uuid, time: u64) -> String {
    format!("rexec-unregister\0{machine}\0{time}")
}
