//! The testing ground: real processes of Rexec, and a viewer that speaks the session protocol as a program.
//!
//! [`Installation`] runs a `rexec-control` with its embedded broker, [`Broker`] a `rexec-broker` that joins it, [`Machine`] a `rexec-agent` enrolled with it, and
//! [`ViewerClient`] is a person's terminal without a screen to look at: it keeps every byte it is given and comes back by itself. Nothing
//! here is a mock; what a test cannot do to real processes, it does not do. Nothing here waits for a time to pass either:
//! [`wait::until`] waits for a state and gives up at a deadline.

pub mod api;
pub mod binaries;
pub mod broker;
pub mod clock;
pub mod counter;
pub mod disk;
pub mod echo;
pub mod faults;
pub mod fleet;
pub mod grounds;
mod heartbeat;
pub mod installation;
pub mod machine;
pub mod netlab;
pub mod process;
pub mod proxy;
pub mod sandbox;
pub mod screen;
pub mod traffic;
pub mod viewer;
pub mod wait;

pub use api::Api;
pub use broker::Broker;
pub use installation::Installation;
pub use machine::Machine;
pub use viewer::ViewerClient;
