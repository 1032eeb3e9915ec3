//! Batches into a SQLite file (feature `sqlite`). Each batch is one transaction, and each of its rows gets a verdict.
//!
//! ```text
//!   write()  Batch -> blocks of values, copied out of the ops   sink, rows
//!      |  blocks, while more are filled    ^ which rows failed, and the blocks
//!      v                                   |
//!   writer thread: owns the connection, one transaction         thread, open, plan, shape
//!                  per batch                                    writer, classify, place
//! ```
//!
//! `LogTable` (feature `durable-file`) writes into the file of a durable log instead, in the transaction that settles the ops.

mod classify;
mod error;
#[cfg(feature = "durable-file")]
mod log_table;
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
#[cfg(feature = "durable-file")]
#[cfg_attr(docsrs, doc(cfg(feature = "durable-file")))]
pub use log_table::{LogTable, LogTableSink};
pub use options::{Sqlite, Synchronous};
pub use sink::SqliteSink;

pub use super::table::{ColumnType, Conflict, Table, TableError, Value};
