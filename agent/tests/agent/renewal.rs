//! Renewal beside sleep and a disk that takes nothing.

use std::time::{Duration, Instant};

use rexec_agent::clock::unix_ms;
use rexec_agent::renewal::{Renewal, RenewalHandle};
use rexec_shared::limits::CERT_RENEW;
use tokio::sync::watch;

use crate::support::in_time;
use crate::tunnel::Machine;

const LOOK: Duration = Duration::from_millis(20);

/// Renewal as the uplink runs it, without the rest of the uplink; what is sent wakes it.
fn running(machine: &Machine) -> (RenewalHandle, watch::Sender<u64>) {
    let profile = machine.home.profile();
    let (registration, key) = (profile.registration().unwrap().unwrap(), profile.key().unwrap());
    let (renewal, handle) = Renewal::new(profile, registration, key);
    let (waker, wake) = watch::channel(0);
    tokio::spawn(renewal.run(wake));
    (handle, waker)
}

async fn until(what: &str, mut seen: impl FnMut() -> bool) {
    in_time(what, async {
        while !seen() {
            tokio::time::sleep(LOOK).await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_that_came_due_while_the_machine_slept_is_renewed_when_it_wakes() {
    // Due in two seconds, and looked at just now: the next look is a minute away, as it is while timers stand still.
    let due = unix_ms() + 2_000;
    let machine = Machine::registered(CERT_RENEW - Duration::from_secs(2));
    let (_handle, waker) = running(&machine);
    until("the time", || unix_ms() > due + 1_000).await;
    assert_eq!(machine.control.get(|script| script.renewals), 0, "nobody looked");
    let woke = Instant::now();
    waker.send_modify(|count| *count += 1);
    until("a renewal", || machine.control.get(|script| script.renewals) == 1).await;
    assert!(woke.elapsed() < Duration::from_secs(2), "{:?}", woke.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_renewal_is_tried_again_at_once_when_the_machine_wakes() {
    let machine = Machine::registered(CERT_RENEW);
    let control = machine.control.get(|script| script.name);
    // Control takes it for another's, and says so: trouble, and no revocation.
    machine.control.set(|script| script.name.org = uuid::Uuid::new_v4());
    let (handle, waker) = running(&machine);
    // After so many in a row the next try is some seconds away.
    until("failures", || machine.control.get(|script| script.renewals) >= 4).await;
    assert!(handle.credentials.borrow().trouble.is_some());
    machine.control.set(|script| script.name = control);
    let woke = Instant::now();
    waker.send_modify(|count| *count += 1);
    until("a renewal", || handle.credentials.borrow().trouble.is_none()).await;
    assert!(woke.elapsed() < Duration::from_secs(2), "{:?}", woke.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_certificate_that_the_disk_does_not_take_is_used_and_kept_later() {
    let machine = Machine::registered(CERT_RENEW);
    let path = machine.home.root().join("default/certificate.pem");
    let old = std::fs::read_to_string(&path).unwrap();
    let aside = path.with_extension("aside");
    // In place of the file something that no rename replaces.
    let profile = machine.home.profile();
    let (registration, key) = (profile.registration().unwrap().unwrap(), profile.key().unwrap());
    let (renewal, handle) = Renewal::new(profile, registration, key);
    std::fs::rename(&path, &aside).unwrap();
    std::fs::create_dir(&path).unwrap();
    let (_waker, wake) = watch::channel(0);
    tokio::spawn(renewal.run(wake));
    until("a new certificate", || handle.credentials.borrow().certificate != old).await;
    assert!(path.is_dir(), "the disk took it");
    let left = std::fs::read_dir(path.parent().unwrap()).unwrap().flatten();
    let left: Vec<_> =
        left.map(|entry| entry.file_name()).filter(|name| name.as_encoded_bytes()[0] == b'.').collect();
    assert!(left.is_empty(), "half-written files stay: {left:?}");

    std::fs::remove_dir(&path).unwrap();
    std::fs::rename(&aside, &path).unwrap();
    let newest = handle.credentials.borrow().certificate.clone();
    until("the file", || std::fs::read_to_string(&path).unwrap() == newest).await;
    assert_eq!(machine.control.get(|script| script.renewals), 1, "it was not asked for again");
}
