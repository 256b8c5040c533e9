//! The few calls that need `unsafe`: taking a descriptor out of a library that hands it over as a number, and signal dispositions.
#![expect(
    unsafe_code,
    reason = "raw descriptors of portable-pty and signal dispositions have no safe interface"
)]

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd, RawFd};
use std::sync::Once;

use nix::sys::signal::{SigHandler, Signal, signal};
use tokio::io::unix::AsyncFd;

/// Duplicates a descriptor that its owner keeps open for the length of the call; the copy is close-on-exec and non-blocking.
///
/// Non-blocking is a property of the open file, so the original becomes it too.
pub(super) fn duplicate_nonblocking(raw: RawFd) -> io::Result<OwnedFd> {
    if raw < 0 {
        return Err(io::Error::from(io::ErrorKind::InvalidInput));
    }
    // SAFETY: the caller holds the owner of `raw` for the length of this call, and `raw` is not -1.
    let borrowed = unsafe { BorrowedFd::borrow_raw(raw) };
    let copy = rustix::io::fcntl_dupfd_cloexec(borrowed, 3)?;
    rustix::io::ioctl_fionbio(&copy, true)?;
    Ok(copy)
}

/// Watches a descriptor for readiness.
pub(super) fn watch(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: the `AsyncFd` owns the descriptor, which therefore stays open, and the same, for as long as it is registered.
    Ok(unsafe { AsyncFd::register(fd) }?)
}

/// Gives signals that shells rely on their default action back, should our own parent have had us ignore them: an ignored signal is
/// inherited through `exec`. What portable-pty resets in the child itself is not repeated.
pub(super) fn reset_ignored_signals() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        for kind in [Signal::SIGTSTP, Signal::SIGTTIN, Signal::SIGTTOU, Signal::SIGUSR1, Signal::SIGUSR2] {
            // SAFETY: the default action installs no code of ours; a handler someone else installed is put back.
            let before = unsafe { signal(kind, SigHandler::SigDfl) };
            if let Ok(handler @ (SigHandler::Handler(_) | SigHandler::SigAction(_))) = before {
                // SAFETY: this handler was in force a moment ago.
                let _ = unsafe { signal(kind, handler) };
            }
        }
    });
}
