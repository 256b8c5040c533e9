//! What a machine uses: told by its agent, seen by its people.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Result;
use rexec_e2e::{Installation, Machine, wait};

/// Two samples, and some for a busy machine.
const SOON: Duration = Duration::from_secs(25);

#[test]
fn a_busy_machine_is_seen_to_be_busy_within_seconds() -> Result<()> {
    let installation = Installation::start()?;
    let machine = Machine::start(&installation, "m")?;
    let path = format!("/api/samples?machines={}", machine.id());
    let newest = || {
        let told = installation.owner().get(&path).ok()?.ok().ok()?;
        let points = told[0]["points"].as_array()?.clone();
        Some((points.last()?.clone(), told[0].clone()))
    };
    let (first, told) = wait::until("a first sample", SOON, newest)?;
    assert!(first[1].as_u64() > Some(0), "memory in use: {told}");
    assert!(
        told["disk_max_mib"].as_u64() > Some(0) && told["memory_max_kib"].as_u64() > first[1].as_u64(),
        "{told}"
    );
    // One processor has nothing else to do than this.
    let stop = Arc::new(AtomicBool::new(false));
    let busy = std::thread::spawn({
        let stop = Arc::clone(&stop);
        move || {
            while !stop.load(Ordering::Relaxed) {
                std::hint::spin_loop();
            }
        }
    });
    let seen = wait::until("a busy processor", SOON, || (newest()?.0[0].as_u64()? >= 700).then_some(()));
    stop.store(true, Ordering::Relaxed);
    busy.join().ok();
    seen
}
