//! `rexec-control`: see `--help`, and the library of the same name.

use std::process::ExitCode;

use clap::Parser as _;
use rexec_control::cli::Cli;

fn main() -> ExitCode {
    rexec_control::cli::main(Cli::parse())
}
