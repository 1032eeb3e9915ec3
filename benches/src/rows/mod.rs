//! The rows of the results, a file each. In comes a [`Bench`], out comes a [`Report`]. A new row is a file here and a line
//! in [`all`].

mod allocations;
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
    /// What the command line calls it.
    pub name: &'static str,
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
        postgres::ROW,
        websocket::ROW,
        fanout::ROW,
        keys::ROW,
        symbols::ROW,
    ]);
    rows
}

/// Does a row's job in a process of its own, and returns the number that it is about.
pub fn child_answer(job: &str, size: u64) -> Result<f64, Error> {
    match job {
        fanout::JOB => fanout::in_child(size),
        idle::JOB => idle::in_child(size),
        memory::JOB => memory::in_child(size),
        _ => Err(format!("there is no job {job}").into()),
    }
}
