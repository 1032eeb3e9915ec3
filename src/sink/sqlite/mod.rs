//! Batches into a SQLite file (feature `sqlite`). Each batch is one transaction, and each of its rows gets a verdict.
//!
//! ```text
//!   write()  Batch -> blocks of values, copied out of the ops   sink, rows
//!      |  blocks, while more are filled    ^ which rows failed, and the blocks
//!      v                                   |
//!   writer thread: owns the connection, one transaction         thread, open, plan, shape
//!                  per batch                                    writer, classify, place
//! ```

mod classify;
mod error;
mod open;
mod options;
mod place;
mod plan;
mod rows;
mod shape;
mod sink;
mod thread;
mod writer;

pub use error::OpenError;
pub use options::{Sqlite, Synchronous};
pub use sink::SqliteSink;

pub use super::table::{ColumnType, Conflict, Table, TableError, Value};
