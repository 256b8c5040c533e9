//! A network for each sandbox: nobody else is on its wire (THREATS CT-06).
//!
//! Engines hand out some thirty networks from their own pools; we choose subnets ourselves, eight addresses each from [`FIRST`], which are nobody's to route.

use std::collections::HashMap;
use std::net::Ipv4Addr;

use bollard::models::{Ipam, IpamConfig, NetworkCreateRequest};
use bollard::query_parameters::InspectNetworkOptions;
use uuid::Uuid;

use crate::engine::{DEADLINE, Engine, Kind, LABEL_SANDBOX, gone, within};
use crate::error::{EngineError, ErrorKind};

/// The first subnet: from 100.96.0.0/13, within what RFC 6598 sets aside for carriers.
const FIRST: u32 = 0x6460_0000;
/// Subnets of eight addresses there.
const SUBNETS: u32 = 1 << (29 - 13);
/// Subnets tried before we say that there is none.
const TRIES: u32 = 64;

/// A sandbox's network.
pub(crate) fn name(id: Uuid) -> String {
    format!("rexec-{id}")
}

/// The subnet tried at the `attempt`th try for `id`. Sandboxes begin at different ones, so that many at once do not fight over the same.
fn subnet(id: Uuid, attempt: u32) -> String {
    let (begin, _) = id.as_u64_pair();
    let begin = u32::try_from(begin % u64::from(SUBNETS)).unwrap_or(0);
    // A step that is odd, and so meets every subnet.
    let index = begin.wrapping_add(attempt.wrapping_mul(7_919)) % SUBNETS;
    format!("{}/29", Ipv4Addr::from(FIRST + index * 8))
}

impl Engine {
    /// Makes the sandbox's network, unless it is there.
    pub(crate) async fn ensure_network(&self, id: Uuid) -> Result<String, EngineError> {
        let name = name(id);
        match within(DEADLINE, self.docker().inspect_network(&name, None::<InspectNetworkOptions>)).await {
            Ok(_) => return Ok(name),
            Err(error) if error.is_not_found() => {}
            Err(error) => return Err(error),
        }
        for attempt in 0..TRIES {
            match within(DEADLINE, self.docker().create_network(self.network(id, &subnet(id, attempt)))).await
            {
                Ok(_) => return Ok(name),
                // Somebody else has it, or made ours a moment ago.
                Err(error) if is_taken(&error) => {}
                Err(error) if error.kind == ErrorKind::Conflict => return Ok(name),
                Err(error) => return Err(error),
            }
        }
        Err(EngineError::new(ErrorKind::Refused, "the engine has no free subnet in 100.96.0.0/13"))
    }

    fn network(&self, id: Uuid, subnet: &str) -> NetworkCreateRequest {
        let options = [
            ("com.docker.network.bridge.enable_icc", "false"),
            ("com.docker.network.bridge.enable_ip_masquerade", "true"),
        ];
        NetworkCreateRequest {
            name: name(id),
            driver: Some("bridge".to_owned()),
            enable_ipv6: Some(false),
            ipam: Some(Ipam {
                config: Some(vec![IpamConfig { subnet: Some(subnet.to_owned()), ..IpamConfig::default() }]),
                ..Ipam::default()
            }),
            options: Some(
                options.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect(),
            ),
            labels: Some(self.labels(Kind::Network, &[(LABEL_SANDBOX, id.to_string())])),
            ..NetworkCreateRequest::default()
        }
    }

    pub(crate) async fn remove_network(&self, id: Uuid) -> Result<(), EngineError> {
        gone(within(DEADLINE, self.docker().remove_network(&name(id))).await)
    }

    /// Sandboxes that have a network.
    pub(crate) async fn networks(&self) -> Result<Vec<Uuid>, EngineError> {
        let options = bollard::query_parameters::ListNetworksOptionsBuilder::default()
            .filters(&self.filter(Kind::Network))
            .build();
        let found = within(DEADLINE, self.docker().list_networks(Some(options))).await?;
        let id = |labels: HashMap<String, String>| labels.get(LABEL_SANDBOX)?.parse().ok();
        Ok(found.into_iter().filter_map(|network| network.labels.and_then(id)).collect())
    }
}

fn is_taken(error: &EngineError) -> bool {
    let said = error.said.to_ascii_lowercase();
    said.contains("overlap") || said.contains("already being used") || said.contains("already in use")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn tries_meet_different_subnets_of_the_range() {
        for id in [Uuid::nil(), Uuid::max(), Uuid::from_u128(0x1234_5678_9abc_def0_1234_5678_9abc_def0)] {
            let tried: BTreeSet<String> = (0..TRIES).map(|attempt| subnet(id, attempt)).collect();
            assert_eq!(tried.len(), TRIES as usize, "{id}");
            for subnet in tried {
                let base: Ipv4Addr = subnet.strip_suffix("/29").unwrap().parse().unwrap();
                assert_eq!(u32::from(base) & 7, 0, "{subnet}");
                assert!((FIRST..FIRST + (1 << 19)).contains(&u32::from(base)), "{subnet}");
            }
        }
    }
}
