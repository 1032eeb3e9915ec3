//! The unit of a feed: ticks that belong together, and rows of a file that could not be read. `sim` and `replay` make
//! chunks, `feed` takes them apart.

use std::fmt;

use serde::Serialize;

use crate::bot::tick::Tick;

#[derive(Debug, Default)]
pub struct Chunk {
    pub ticks: Vec<Tick>,
    pub bad: Vec<BadRow>,
}

/// A row of a file that could not be read.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct BadRow {
    pub line: u64,
    pub problem: String,
}

impl fmt::Display for BadRow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.problem)
    }
}
