//! `rexec-agent`: see `rexec-agent --help`.

fn main() -> std::process::ExitCode {
    rexec_agent::cli::main()
}
