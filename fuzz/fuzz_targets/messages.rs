#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| rexec_fuzz_targets::run("messages", bytes));
