//! The app as its users run it: in come arguments, files and signals, out come an exit code, a database and a report.

#![allow(clippy::unwrap_used, reason = "a test that can't go on has failed")]

mod bot_stands_alone;
mod common;
#[cfg(unix)]
mod page;
mod refused;
mod replay;
mod run;
#[cfg(unix)]
mod signals;
