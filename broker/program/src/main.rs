//! `rexec-broker`: a broker that stands alone. The data plane itself is the library of the same name; here is what an embedded broker is
//! given by control: settings, identity, a web server for viewers, and the link.
//!
//! | module | what it owns |
//! |---|---|
//! | `settings` | what it is told from outside |
//! | `store` | what it keeps on disk, so that it starts and works while control is away |
//! | `control` | the connection to control: TLS, WebSocket, credential, hello |
//! | `link` | one link after the other: events up, orders and feeds down, certificates |
//! | `in_flight` | what was said and not yet acknowledged |
//! | `web` | viewers' HTTP, health, figures |
//!
//! What it refuses to know: control's database. It has one credential, good for one address (THREATS BR-06).

mod control;
mod in_flight;
mod link;
mod program;
mod settings;
mod store;
mod web;

use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    match program::main(&settings::Flags::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            #[expect(clippy::print_stderr, reason = "a command's last word goes to its user")]
            {
                eprintln!("rexec-broker: {error:#}");
            }
            ExitCode::FAILURE
        }
    }
}
