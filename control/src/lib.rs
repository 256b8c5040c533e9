//! The control plane of Rexec: accounts, machines, enrolment, tickets, revocation. It carries no terminal byte.
//!
//! [`server::Server`] is a whole installation: the HTTP API and the web app on one port, the embedded broker's tunnels on
//! another, one database. [`app::App`] is the state its handlers share; [`api`] has one file per resource, and the OpenAPI
//! document is made from it. What decides rather than moves bytes is pure and has no clock: [`tickets`], [`auth::rate`],
//! [`auth::guard`], [`words`].
//!
//! The crate refuses to know what goes through a session: it names machines and sessions in signed tickets, tells brokers
//! what is revoked, and hears from them who is online. Previews alone pass through it ([`previews`]).

pub mod api;
pub mod app;
pub mod audit;
pub mod audit_command;
pub mod auth;
mod broker_command;
mod broker_identity;
pub mod brokers;
pub mod cli;
mod connections;
pub mod db;
pub mod device;
pub mod download;
pub mod enrolment;
pub mod entity;
pub mod error;
pub mod events;
pub mod extract;
pub mod feed;
pub mod health;
mod health_command;
pub mod housekeeping;
pub mod http;
pub mod keys;
pub mod limits;
pub mod metrics;
pub mod migration;
pub mod presence;
pub mod previews;
pub mod revocation;
pub mod samples;
pub mod sandboxes;
pub mod scope;
pub mod secret;
pub mod server;
pub mod settings;
pub mod setup;
pub mod snippets;
pub mod tickets;
pub mod time;
pub mod web;
pub mod web_identity;
pub mod words;
