//! What a sandbox's container is made of. There is one way to make it, and no field for what would open it (THREATS CT-01, CT-03, CT-04, CT-10).

use std::collections::HashMap;
use std::net::IpAddr;

use bollard::models::{
    ContainerCreateBody, EndpointSettings, HealthConfig, HostConfig, HostConfigLogConfig, Mount, MountType,
    MountVolumeOptions, NetworkingConfig, ResourcesUlimits, RestartPolicy, RestartPolicyNameEnum,
};
use rexec_shared::sandbox::{HOME, SANDBOX_ENV, STATE_DIR};
use uuid::Uuid;

use crate::agent::AgentVolume;
use crate::engine::{Engine, Kind, LABEL_SANDBOX};
use crate::volume::home_name;

/// Where the agent is mounted, read-only.
const AGENT_DIR: &str = "/.rexec";
/// What a package manager, a developer's tools and a shell's job control need of root, and nothing that reaches beyond the container.
const CAPABILITIES: [&str; 9] = [
    "AUDIT_WRITE",
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "NET_BIND_SERVICE",
    "SETGID",
    "SETUID",
];
/// Open files of one process.
const OPEN_FILES: i64 = 16_384;
/// Shared memory, bytes.
const SHARED_MEMORY: i64 = 64 * 1024 * 1024;
/// Memory of the agent's state: a key, a certificate, two sockets.
const STATE_TMPFS: &str = "rw,nosuid,nodev,noexec,size=4m,mode=0700";
/// The kernel ends a sandbox's processes before anybody else's.
const OOM_SCORE: i64 = 500;
/// The search path of Debian, and so of nearly everybody.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// How much of a machine a sandbox may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Thousandths of a processor.
    pub cpus_milli: u32,
    /// Memory, MiB; there is no swap beside it.
    pub memory_mb: u32,
    /// Processes and threads.
    pub pids: u32,
}

impl Limits {
    pub(crate) fn nano_cpus(self) -> i64 {
        i64::from(self.cpus_milli) * 1_000_000
    }

    pub(crate) fn memory(self) -> i64 {
        i64::from(self.memory_mb) * 1024 * 1024
    }
}

/// What is asked for.
#[derive(Debug, Clone)]
pub struct Wish {
    /// The sandbox, which is the id of its machine.
    pub id: Uuid,
    /// The image's reference, checked by who asks.
    pub image: String,
    /// The name it has for itself.
    pub hostname: String,
    /// How much it may use.
    pub limits: Limits,
    /// The volume of its home.
    pub home: Uuid,
    /// The agent.
    pub agent: AgentVolume,
    /// Its resolvers; none: the engine's own.
    pub dns: Vec<IpAddr>,
    /// More environment, as for an egress proxy.
    pub env: Vec<(String, String)>,
}

/// A container as it may be. Ids are ours, mounts are fixed: nothing in it is a path or a name that somebody chose, but the image's.
#[derive(Debug, Clone)]
pub struct HardenedSpec(Wish);

impl HardenedSpec {
    /// The only way to make one.
    pub fn new(wish: Wish) -> Self {
        Self(wish)
    }

    pub(crate) fn id(&self) -> Uuid {
        self.0.id
    }

    pub(crate) fn home(&self) -> Uuid {
        self.0.home
    }

    /// The container, in the network `network`.
    pub(crate) fn body(&self, engine: &Engine, network: &str) -> ContainerCreateBody {
        let wish = &self.0;
        ContainerCreateBody {
            hostname: Some(wish.hostname.clone()),
            image: Some(wish.image.clone()),
            // Nothing that an image says of itself is believed: user, command, environment, health check, directory, stop signal.
            user: Some("0:0".to_owned()),
            entrypoint: Some(vec![format!("{AGENT_DIR}/rexec-agent")]),
            cmd: Some(vec!["sandbox".to_owned()]),
            env: Some(self.env()),
            working_dir: Some(HOME.to_owned()),
            stop_signal: Some("SIGTERM".to_owned()),
            healthcheck: Some(HealthConfig {
                test: Some(vec!["NONE".to_owned()]),
                ..HealthConfig::default()
            }),
            // The admission comes on standard input, at any time.
            open_stdin: Some(true),
            stdin_once: Some(false),
            tty: Some(false),
            labels: Some(engine.labels(Kind::Sandbox, &[(LABEL_SANDBOX, wish.id.to_string())])),
            host_config: Some(self.host()),
            networking_config: Some(NetworkingConfig {
                endpoints_config: Some(HashMap::from([(network.to_owned(), EndpointSettings::default())])),
            }),
            ..ContainerCreateBody::default()
        }
    }

    fn env(&self) -> Vec<String> {
        let own = [
            ("PATH", PATH),
            ("HOME", HOME),
            ("LANG", "C.UTF-8"),
            ("REXEC_AGENT_DIR", STATE_DIR),
            (SANDBOX_ENV, "1"),
        ];
        let own = own.into_iter().map(|(name, value)| format!("{name}={value}"));
        own.chain(self.0.env.iter().map(|(name, value)| format!("{name}={value}"))).collect()
    }

    fn host(&self) -> HostConfig {
        let wish = &self.0;
        let names = |names: &[&str]| Some(names.iter().map(|name| (*name).to_owned()).collect());
        HostConfig {
            nano_cpus: Some(wish.limits.nano_cpus()),
            memory: Some(wish.limits.memory()),
            memory_swap: Some(wish.limits.memory()),
            pids_limit: Some(i64::from(wish.limits.pids)),
            oom_score_adj: Some(OOM_SCORE),
            shm_size: Some(SHARED_MEMORY),
            ulimits: Some(vec![ResourcesUlimits {
                name: Some("nofile".to_owned()),
                soft: Some(OPEN_FILES),
                hard: Some(OPEN_FILES),
            }]),
            cap_drop: names(&["ALL"]),
            cap_add: names(&CAPABILITIES),
            security_opt: names(&["no-new-privileges:true"]),
            ipc_mode: Some("private".to_owned()),
            init: Some(true),
            // Only we start it, through the guard.
            restart_policy: Some(RestartPolicy {
                name: Some(RestartPolicyNameEnum::NO),
                maximum_retry_count: None,
            }),
            network_mode: Some(crate::network::name(wish.id)),
            extra_hosts: names(&["rexec.internal:host-gateway"]),
            dns: (!wish.dns.is_empty()).then(|| wish.dns.iter().map(IpAddr::to_string).collect()),
            mounts: Some(vec![
                mount(wish.agent.volume(), AGENT_DIR, true),
                mount(home_name(wish.home), HOME, false),
            ]),
            tmpfs: Some(HashMap::from([(STATE_DIR.to_owned(), STATE_TMPFS.to_owned())])),
            log_config: Some(HostConfigLogConfig {
                typ: Some("json-file".to_owned()),
                config: Some(HashMap::from([
                    ("max-size".to_owned(), "1m".to_owned()),
                    ("max-file".to_owned(), "1".to_owned()),
                ])),
            }),
            ..HostConfig::default()
        }
    }
}

fn mount(source: String, target: &str, read_only: bool) -> Mount {
    Mount {
        typ: Some(MountType::VOLUME),
        source: Some(source),
        target: Some(target.to_owned()),
        read_only: Some(read_only),
        // What the image has in that place is not copied into the agent's volume, and is into an empty home.
        volume_options: Some(MountVolumeOptions {
            no_copy: Some(read_only),
            ..MountVolumeOptions::default()
        }),
        ..Mount::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec() -> HardenedSpec {
        HardenedSpec::new(Wish {
            id: Uuid::from_u128(1),
            image: "debian:12".into(),
            hostname: "box".into(),
            limits: Limits { cpus_milli: 1_500, memory_mb: 512, pids: 256 },
            home: Uuid::from_u128(2),
            agent: AgentVolume::test(),
            dns: Vec::new(),
            env: Vec::new(),
        })
    }

    #[test]
    fn ct_01_the_host_side_of_a_sandbox_is_exactly_this() {
        let host = serde_json::to_value(spec().host()).unwrap();
        let expected = serde_json::json!({
            "NanoCpus": 1_500_000_000_i64, "Memory": 536_870_912, "MemorySwap": 536_870_912, "PidsLimit": 256,
            "OomScoreAdj": 500, "ShmSize": 67_108_864,
            "Ulimits": [{ "Name": "nofile", "Soft": 16384, "Hard": 16384 }],
            "CapDrop": ["ALL"],
            "CapAdd": ["AUDIT_WRITE", "CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "NET_BIND_SERVICE", "SETGID", "SETUID"],
            "SecurityOpt": ["no-new-privileges:true"], "IpcMode": "private", "Init": true,
            "RestartPolicy": { "Name": "no" },
            "NetworkMode": "rexec-00000000-0000-0000-0000-000000000001",
            "ExtraHosts": ["rexec.internal:host-gateway"],
            "Mounts": [
                { "Type": "volume", "Source": "rexec-agent-0123456789ab", "Target": "/.rexec", "ReadOnly": true, "VolumeOptions": { "NoCopy": true } },
                { "Type": "volume", "Source": "rexec-home-00000000-0000-0000-0000-000000000002", "Target": "/home/user", "ReadOnly": false, "VolumeOptions": { "NoCopy": false } },
            ],
            "Tmpfs": { "/run/rexec": "rw,nosuid,nodev,noexec,size=4m,mode=0700" },
            "LogConfig": { "Type": "json-file", "Config": { "max-size": "1m", "max-file": "1" } },
        });
        assert_eq!(host, expected);
    }

    #[test]
    fn ct_02_ct_10_nothing_in_this_crate_could_open_a_container_or_reach_into_its_files() {
        let banned = [
            ["privi", "leged: Some(true)"],
            ["upload_to_", "container"],
            ["download_from_", "container"],
            ["export_", "container"],
            ["/arch", "ive"],
            ["MountType::", "BIND"],
            ["pid_", "mode"],
            ["devi", "ces:"],
        ];
        for entry in std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/src")).unwrap() {
            let path = entry.unwrap().path();
            let source = std::fs::read_to_string(&path).unwrap();
            for word in &banned {
                assert!(!source.contains(&word.concat()), "{} has {}", path.display(), word.concat());
            }
        }
    }
}
