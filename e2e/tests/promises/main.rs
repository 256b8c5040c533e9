//! What Rexec promises, each promise a test against real processes.
//!
//! | module | promises |
//! |---|---|
//! | [`brokers`] | brokers that stand alone: control away, a broker gone |
//! | [`bytes`] | every byte arrives, in both directions, also many of them |
//! | [`viewers`] | reload, several viewers, a viewer that stops reading |
//! | [`faults`] | killed, cut and moved: the shell lives and no byte is lost or doubled |
//! | [`revocation`] | what is revoked is cut off within two seconds |
//! | [`tickets`] | what opens a shell, and all that does not |
//! | [`evil_broker`] | a broker that was taken over opens no shell |
//! | [`doctor`] | what stands in a machine's way is found and named |
//! | [`enrolment`] | how a machine comes in: approval, installer, tokens |
//! | [`storm`] | many agents of a killed broker come back spread, and all of them |
//! | [`samples`] | what a machine uses is seen within seconds |
//! | [`secrets`] | no secret in a log, no listening port on a machine |

mod brokers;
mod bytes;
mod doctor;
mod enrolment;
mod evil_broker;
mod faults;
mod revocation;
mod samples;
mod secrets;
mod storm;
mod tickets;
mod viewers;
