//! The rows of the results, a file each. `main` runs them with a [`Bench`] and prints the [`Report`] of each.
//!
//! A new row is a file in this folder and a line in [`all`].

mod allocations;
mod durable;
mod fanout;
mod idle;
mod keys;
mod latency;
mod memory;
mod postgres;
mod rules;
mod send;
mod send_all;
mod sqlite;
mod staged;
mod submit;
mod symbols;
mod websocket;

use crate::{Error, bench::Bench, report::Report};

/// One row of the results.
#[derive(Debug, Clone, Copy)]
pub struct Row {
    /// The name on the command line.
    pub name: &'static str,
    /// The job in a few words, as title of the table.
    pub about: &'static str,
    pub run: fn(&Bench) -> Result<Report, Error>,
}

/// All rows, in the order in which they run.
pub fn all() -> Vec<Row> {
    let mut rows = Vec::new();
    rows.extend(send::ROWS);
    rows.extend(send_all::ROWS);
    rows.extend([
        submit::ROW,
        rules::ROW,
        staged::ROW,
        allocations::ROW,
        latency::ROW,
        idle::ROW,
        memory::ROW,
        sqlite::ROW,
        durable::ROW,
        postgres::ROW,
        websocket::ROW,
        fanout::ROW,
        keys::ROW,
        symbols::ROW,
    ]);
    rows
}

/// Runs the job of a row in this child process and returns its numbers.
pub fn child_answer(job: &str, size: u64) -> Result<Vec<f64>, Error> {
    match job {
        fanout::JOB => Ok(vec![fanout::in_child(size)?]),
        idle::JOB => Ok(vec![idle::in_child(size)?]),
        memory::JOB => Ok(vec![memory::in_child(size)?]),
        _ => crate::durable::in_child(job, size),
    }
}
