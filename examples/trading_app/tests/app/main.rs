//! Tests of the app as its users run it: by arguments, files and signals; by exit status, database and report.

#![allow(clippy::unwrap_used, reason = "a test that can't go on has failed")]

mod bot_stands_alone;
mod common;
#[cfg(unix)]
mod durable;
#[cfg(unix)]
mod nats;
#[cfg(unix)]
mod page;
mod refused;
mod replay;
mod run;
#[cfg(unix)]
mod signals;
#[cfg(unix)]
mod together;
