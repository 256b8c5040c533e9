//! Control as its peers see it: a real server on a port of its own, with a database of its own, on SQLite and on PostgreSQL.

#[macro_use]
mod harness;

mod accounts;
mod activity;
mod audit;
mod brokers;
mod cli;
mod crowds;
mod devices;
mod enrolment;
mod errors;
mod fake_engine;
mod feeds;
mod openapi;
mod policies;
mod postgres;
mod preferences;
mod presence;
mod previews;
mod sandboxes;
mod server;
mod sign_in;
mod snippets;
mod tenants;
mod tickets;
mod wire;
