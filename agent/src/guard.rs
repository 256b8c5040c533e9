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

use std::net::{IpAddr, Ipv4Addr};

use nlink::netlink::nftables::{
    BaseChain, Chain, CtState, Family, FilterHook, Policy, Priority, Rule, Transaction,
};
use nlink::netlink::{Connection, Error, Nftables, Result};
use rexec_shared::address::{MAIL_PORTS, PRIVATE_V4, PRIVATE_V6};
use rexec_shared::sandbox::{Egress, EgressMode, Protocol, Reach};

const TABLE: &str = "rexec";
const OUT: &str = "out";
const IN: &str = "in";
const FORWARD: &str = "forward";

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
