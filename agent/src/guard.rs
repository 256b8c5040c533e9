//! The rules of a sandbox's network, as nf_tables in its own network namespace (THREATS CT-05).
//!
//! They are set by a container of ours that joins the namespace for a moment, before the agent inside is admitted. The sandbox has no right to change
//! them, and they live as long as its namespace: no reload of the host's firewall and no restart of the engine touches them.
//!
//! | chain | lets through |
//! |---|---|
//! | `in` | replies, and what the sandbox says to itself |
//! | `out` | replies, what it says to itself, the exceptions; [`EgressMode::Open`]: the rest of the internet, too |
//! | `forward` | nothing |

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use nlink::netlink::nftables::{
    BaseChain, Chain, CtState, Family, FilterHook, Policy, Priority, Rule, Transaction,
};
use nlink::netlink::{Connection, Error, Nftables, Result};
use rexec_shared::sandbox::{Egress, EgressMode, Protocol, Reach};

const TABLE: &str = "rexec";
const OUT: &str = "out";
const IN: &str = "in";
const FORWARD: &str = "forward";

/// Where nothing of the internet is (IANA's special-purpose registry, and all of multicast and what is reserved).
const PRIVATE_V4: [(Ipv4Addr, u8); 13] = [
    (Ipv4Addr::new(0, 0, 0, 0), 8),
    (Ipv4Addr::new(10, 0, 0, 0), 8),
    (Ipv4Addr::new(100, 64, 0, 0), 10),
    (Ipv4Addr::new(127, 0, 0, 0), 8),
    (Ipv4Addr::new(169, 254, 0, 0), 16),
    (Ipv4Addr::new(172, 16, 0, 0), 12),
    (Ipv4Addr::new(192, 0, 0, 0), 24),
    (Ipv4Addr::new(192, 0, 2, 0), 24),
    (Ipv4Addr::new(192, 168, 0, 0), 16),
    (Ipv4Addr::new(198, 18, 0, 0), 15),
    (Ipv4Addr::new(203, 0, 113, 0), 24),
    (Ipv4Addr::new(224, 0, 0, 0), 4),
    (Ipv4Addr::new(240, 0, 0, 0), 4),
];
/// The same for IPv6, with what leads back to IPv4.
const PRIVATE_V6: [(Ipv6Addr, u8); 7] = [
    (Ipv6Addr::UNSPECIFIED, 96),
    (Ipv6Addr::new(0, 0, 0, 0, 0, 0xffff, 0, 0), 96),
    (Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, 0, 0), 96),
    (Ipv6Addr::new(0x64, 0xff9b, 1, 0, 0, 0, 0, 0), 48),
    (Ipv6Addr::new(0xfc00, 0, 0, 0, 0, 0, 0, 0), 7),
    (Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0), 10),
    (Ipv6Addr::new(0xff00, 0, 0, 0, 0, 0, 0, 0), 8),
];
/// Ports that mail is handed in on: nobody's sandbox is to send spam.
const MAIL_PORTS: [u16; 3] = [25, 465, 587];
/// Docker's resolver in each container. It asks from the engine's side as well, so where nothing may leave it is closed.
const ENGINE_RESOLVER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 11);

/// Puts the rules into force, all at once; those of an earlier call are replaced.
pub async fn apply(egress: &Egress) -> Result<()> {
    let connection = Connection::<Nftables>::new()?;
    let stands = connection.list_tables_in(Family::Inet).await?.iter().any(|table| table.name == TABLE);
    let begun = connection.transaction();
    let begun = if stands { begun.del_table(TABLE, Family::Inet) } else { begun };
    rules(begun, egress)?.commit(&connection).await
}

fn rules(begun: Transaction, egress: &Egress) -> Result<Transaction> {
    let policy = match egress.mode {
        EgressMode::Open => Policy::Accept,
        EgressMode::Closed => Policy::Drop,
    };
    let chain = |name, hook, policy| {
        let base = BaseChain::filter(hook, Priority::Filter).policy(policy);
        Ok::<_, Error>(Chain::new(TABLE, name)?.family(Family::Inet).base(base))
    };
    let mut rules = begun
        .add_table(TABLE, Family::Inet)
        .add_chain(chain(OUT, FilterHook::Output, policy)?)
        .add_chain(chain(IN, FilterHook::Input, Policy::Drop)?)
        .add_chain(chain(FORWARD, FilterHook::Forward, Policy::Drop)?)
        .add_rule(rule(IN).match_iif("lo").accept());
    for state in [CtState::ESTABLISHED, CtState::RELATED] {
        rules = rules.add_rule(rule(IN).match_ct_state(state).accept());
        rules = rules.add_rule(rule(OUT).match_ct_state(state).accept());
    }
    if egress.mode == EgressMode::Closed {
        rules = rules.add_rule(rule(OUT).match_daddr_v4(ENGINE_RESOLVER, 32).drop());
    }
    rules = rules.add_rule(rule(OUT).match_oif("lo").accept());
    for reach in &egress.reach {
        rules = rules.add_rule(exception(reach));
    }
    if egress.mode == EgressMode::Open {
        rules = deny_private(rules);
    }
    Ok(rules)
}

fn deny_private(mut rules: Transaction) -> Transaction {
    for (addr, prefix) in PRIVATE_V4 {
        rules = rules.add_rule(rule(OUT).match_daddr_v4(addr, prefix).drop());
    }
    for (addr, prefix) in PRIVATE_V6 {
        rules = rules.add_rule(rule(OUT).match_daddr_v6(addr, prefix).drop());
    }
    for port in MAIL_PORTS {
        rules = rules.add_rule(rule(OUT).match_tcp_dport(port).drop());
    }
    rules
}

fn exception(reach: &Reach) -> Rule {
    let rule = match reach.addr {
        IpAddr::V4(addr) => rule(OUT).match_daddr_v4(addr, 32),
        IpAddr::V6(addr) => rule(OUT).match_daddr_v6(addr, 128),
    };
    match reach.protocol {
        Protocol::Tcp => rule.match_tcp_dport(reach.port).accept(),
        Protocol::Udp => rule.match_udp_dport(reach.port).accept(),
    }
}

fn rule(chain: &str) -> Rule {
    Rule::new(TABLE, chain).family(Family::Inet)
}
