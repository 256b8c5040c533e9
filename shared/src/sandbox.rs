//! What control, the engine's side and the agent inside a sandbox say to each other.
//!
//! * [`Admission`]: one line of JSON on the standard input of `rexec-agent sandbox`.
//! * [`Egress`]: JSON in the environment variable [`EGRESS_ENV`] of `rexec-agent guard`.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

/// Longest admission, bytes with its newline.
pub const ADMISSION_MAX: usize = 4 * 1024;
/// Where `rexec-agent guard` finds its rules.
pub const EGRESS_ENV: &str = "REXEC_EGRESS";
/// Set to anything, tells the agent that its machine is a sandbox: its home is [`HOME`] whatever the image says.
pub const SANDBOX_ENV: &str = "REXEC_SANDBOX";
/// Set to the address of an HTTP proxy, tells the agent what the shells' `HTTP_PROXY` and its like are.
pub const PROXY_ENV: &str = "REXEC_SANDBOX_PROXY";
/// Most exceptions of one [`Egress`].
pub const REACH_MAX: usize = 64;
/// Where a sandbox's home is mounted.
pub const HOME: &str = "/home/user";
/// Where the agent keeps its state in a sandbox: memory, gone with the container's process.
pub const STATE_DIR: &str = "/run/rexec";

/// Lets an agent in: it enrols with this and goes online.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Admission {
    /// Base URL of control as the sandbox sees it.
    pub server: String,
    /// A join token, good once, for a short while, for this machine alone.
    pub token: String,
    /// The machine's name.
    pub name: String,
}

/// The token stays out of logs.
impl std::fmt::Debug for Admission {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Admission")
            .field("server", &self.server)
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// What may leave a sandbox's network namespace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Egress {
    /// What holds for whatever is not in `reach`.
    pub mode: EgressMode,
    /// Allowed in every mode: control, the broker, the resolver.
    pub reach: Vec<Reach>,
}

/// What a sandbox may reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EgressMode {
    /// The internet, and no private, local or reserved range (THREATS CT-05); no mail ports.
    Open,
    /// Nothing.
    Closed,
}

/// One exception: an address and a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reach {
    /// Where.
    pub addr: IpAddr,
    /// By which protocol.
    pub protocol: Protocol,
    /// On which port.
    pub port: u16,
}

/// A transport protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rules_have_one_form() {
        let egress = Egress {
            mode: EgressMode::Open,
            reach: vec![Reach { addr: IpAddr::from([172, 17, 0, 1]), protocol: Protocol::Udp, port: 7443 }],
        };
        let said = r#"{"mode":"open","reach":[{"addr":"172.17.0.1","protocol":"udp","port":7443}]}"#;
        assert_eq!(serde_json::to_string(&egress).unwrap(), said);
        assert_eq!(serde_json::from_str::<Egress>(said).unwrap(), egress);
    }

    #[test]
    fn st_07_an_admission_shows_no_token() {
        let admission =
            Admission { server: "http://x".into(), token: "rexec_join_secret".into(), name: "box".into() };
        assert!(!format!("{admission:?}").contains("secret"));
    }
}
