//! Tests of durable batchers: the verbs, recovery, and crashes at each point.
#![allow(clippy::unwrap_used, reason = "a test may panic")]
#![allow(clippy::duplicate_mod, reason = "PostgreSQL and NATS have tests in common, each with its own place")]

mod bounds;
mod conformance;
mod crashes;
#[cfg(feature = "postgres")]
mod database;
mod expiry;
#[cfg(feature = "durable-file")]
mod file;
#[cfg(feature = "durable-file")]
mod hostile;
#[cfg(all(unix, feature = "durable-file"))]
mod kill;
#[cfg(all(feature = "durable-file", feature = "postgres"))]
mod ledger;
#[cfg(feature = "durable-nats")]
mod nats;
mod nodes;
#[cfg(feature = "postgres")]
mod postgres;
#[cfg(all(unix, feature = "durable-file"))]
mod processes;
#[cfg(feature = "durable-file")]
mod quota;
#[cfg(feature = "postgres")]
#[path = "../postgres/server.rs"]
mod server;
mod simulation;
#[cfg(feature = "durable-file")]
mod table;
mod venue;
mod verbs;
#[cfg(feature = "durable-file")]
mod views;
mod withdraw;
