//! Kill it, cut it, move it: the shell lives, the viewer comes back by itself, and no byte is lost or doubled in either direction.
//!
//! Each row of the fault matrix ([`rexec_e2e::faults`]) is held to its bar here; `make faults` prints the same rows as a table.

use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Result, ensure};
use rexec_e2e::faults::{Fault, run};
use rexec_e2e::grounds::can_run;
use rexec_e2e::installation::Options;
use rexec_e2e::netlab::Netlab;
use rexec_e2e::process::is_alive;
use rexec_e2e::traffic::Traffic;
use rexec_e2e::viewer::shell;
use rexec_e2e::{Installation, Machine, ViewerClient};

const SOON: Duration = Duration::from_secs(20);
/// The tests share two processors with whatever else runs there: what is measured may take this much longer than its bar.
const ALLOWANCE: Duration = Duration::from_secs(2);

async fn costs_nothing(fault: Fault) -> Result<()> {
    if !can_run(fault.needs()) {
        return Ok(());
    }
    let row = run(fault).await?;
    ensure!(row.outcome.is_whole(), "{row:?}");
    ensure!(
        row.back <= fault.bar() + ALLOWANCE,
        "typing works again after {:?}, the bar is {:?}",
        row.back,
        fault.bar()
    );
    ensure!(row.also.iter().all(|promise| promise.is_kept), "{:#?}", row.also);
    Ok(())
}

#[tokio::test]
async fn a_broker_killed_and_started_again_costs_no_byte() -> Result<()> {
    costs_nothing(Fault::BrokerKilled).await
}

#[tokio::test]
async fn a_broker_drained_and_started_again_costs_no_byte() -> Result<()> {
    costs_nothing(Fault::BrokerDrained).await
}

#[tokio::test]
async fn an_uplink_killed_costs_no_byte_and_another_takes_over() -> Result<()> {
    costs_nothing(Fault::UplinkKilled).await
}

#[tokio::test]
async fn an_uplink_is_upgraded_by_another_file_at_its_place() -> Result<()> {
    costs_nothing(Fault::UplinkUpgraded).await
}

#[tokio::test]
async fn a_network_cut_for_10_s_costs_no_byte() -> Result<()> {
    costs_nothing(Fault::Cut).await
}

#[tokio::test]
async fn a_network_that_loses_5_percent_costs_no_byte() -> Result<()> {
    costs_nothing(Fault::Loss).await
}

#[tokio::test]
async fn a_round_trip_of_300_ms_costs_no_byte() -> Result<()> {
    costs_nothing(Fault::LongWay).await
}

#[tokio::test]
async fn a_machine_that_moves_to_another_address_keeps_its_session() -> Result<()> {
    costs_nothing(Fault::AgentMoves).await
}

#[tokio::test]
async fn a_viewer_that_moves_to_another_address_keeps_its_session() -> Result<()> {
    costs_nothing(Fault::ViewerMoves).await
}

#[tokio::test]
async fn nw_02_udp_that_is_blocked_costs_no_byte_and_quic_is_taken_again() -> Result<()> {
    costs_nothing(Fault::UdpBlocked).await
}

#[tokio::test]
async fn an_agent_behind_a_firewall_that_drops_udp_comes_online_over_tcp_and_says_why() -> Result<()> {
    if !can_run(Fault::UdpBlocked.needs()) {
        return Ok(());
    }
    let network = Netlab::new()?;
    network.block_udp()?;
    let options = Options { host: IpAddr::V4(network.host()), ..Options::default() };
    let installation = Installation::start_with(options)?;
    let machine = Machine::start_in(&installation, "m", Some(network.name()))?;
    let mut viewer = ViewerClient::open(installation.owner(), machine.id(), shell()).await?;
    viewer.type_bytes(b"echo re''ady\n")?;
    viewer.wait_for("ready", SOON).await?;
    ensure!(machine.seen_by_control()?["transport"] == "tcp", "{:?}", machine.seen_by_control()?);
    let status = machine.command()?.arg("status").output()?;
    let status = String::from_utf8_lossy(&status.stdout);
    ensure!(status.contains("over tcp") && status.contains("got no answer"), "{status}");
    Ok(())
}

#[tokio::test]
async fn a_proxy_that_is_the_only_way_out_may_be_started_anew() -> Result<()> {
    costs_nothing(Fault::Proxy).await
}

#[tokio::test]
async fn a_machine_that_sleeps_for_an_hour_goes_on_at_once() -> Result<()> {
    costs_nothing(Fault::Sleep).await
}

#[tokio::test]
async fn a_machine_whose_certificate_ended_while_it_slept_renews_it_first() -> Result<()> {
    costs_nothing(Fault::SleepDay).await
}

#[tokio::test]
async fn a_full_disk_of_an_agent_stops_neither_typing_nor_its_uplink() -> Result<()> {
    costs_nothing(Fault::AgentDiskFull).await
}

#[tokio::test]
async fn a_full_disk_of_control_stops_new_tickets_and_nothing_else() -> Result<()> {
    costs_nothing(Fault::ControlDiskFull).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_that_floods_holds_no_other_up() -> Result<()> {
    costs_nothing(Fault::Flood).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_viewer_that_stops_reading_holds_no_other_up() -> Result<()> {
    costs_nothing(Fault::SlowViewer).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_huge_paste_holds_no_other_session_up() -> Result<()> {
    costs_nothing(Fault::Paste).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_uplink_of_one_machine_holds_no_other_up() -> Result<()> {
    costs_nothing(Fault::SlowUplink).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_machine_whose_agent_dies_holds_no_other_up() -> Result<()> {
    costs_nothing(Fault::AgentDies).await
}

#[tokio::test]
async fn control_down_for_a_minute_costs_nothing_that_is_under_way() -> Result<()> {
    costs_nothing(Fault::ControlDown).await
}

#[tokio::test]
async fn an_agent_that_is_stopped_ends_its_shells_and_viewers_are_told() -> Result<()> {
    let installation = Installation::start()?;
    let mut machine = Machine::start(&installation, "m")?;
    let mut viewer = ViewerClient::open(installation.owner(), machine.id(), shell()).await?;
    viewer.type_bytes(b"echo re''ady\n")?;
    viewer.wait_for("ready", SOON).await?;
    let shells = machine.shells()?;
    machine.stop_agent()?;
    assert!(shells.iter().all(|pid| !is_alive(*pid)), "a shell outlived its host");

    machine.start_agent()?;
    let told = async {
        while viewer.exit().is_none() && viewer.next().await.is_ok() {}
        viewer.exit().is_some() || viewer.refusal().is_some_and(|refusal| refusal.code == "session_not_found")
    };
    assert!(tokio::time::timeout(SOON, told).await?, "{:?}", viewer.refusal());
    Ok(())
}

#[tokio::test]
async fn over_tcp_alone_no_byte_is_lost() -> Result<()> {
    if !can_run(Fault::UdpBlocked.needs()) {
        return Ok(());
    }
    let network = Netlab::new()?;
    network.block_udp()?;
    let options = Options { host: IpAddr::V4(network.host()), ..Options::default() };
    let installation = Installation::start_with(options)?;
    let machine = Machine::start_in(&installation, "m", Some(network.name()))?;
    let traffic = Traffic::start(&installation, &machine).await?;
    let outcome = traffic.finish().await?;
    ensure!(outcome.is_whole(), "{outcome:?}");
    Ok(())
}
