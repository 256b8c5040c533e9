#![no_main]

use std::panic::PanicHookInfo;

/// The host survives a panic of the engine, which costs the picture; only what the target itself asserts is told, and ends the run.
fn tell(panic: &PanicHookInfo<'_>) {
    if panic.location().is_some_and(|location| location.file().contains("targets")) {
        eprintln!("{panic}");
    }
}

libfuzzer_sys::fuzz_target!(
    init: std::panic::set_hook(Box::new(tell)),
    |bytes: &[u8]| rexec_fuzz_targets::run("screen", bytes)
);
