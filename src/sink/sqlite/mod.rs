//! Batches into a SQLite file: in comes a batch, out goes one transaction and a verdict for each row. Next room: the
//! file.
//!
//! ```text
//!   write()  Batch -> Rows (values copied out of the ops)      sink.rs, rows.rs
//!      |  bounded channel                  ^ rows, and which of them failed
//!      v                                   |
//!   writer thread: owns the connection, one transaction        thread.rs, writer.rs
//!                  per batch                                   open.rs, classify.rs
//! ```

mod classify;
mod open;
mod options;
mod plan;
mod rows;
mod sink;
mod thread;
mod writer;

pub use open::OpenError;
pub use options::{Sqlite, Synchronous};
pub use sink::SqliteSink;

pub use super::table::{ColumnType, Conflict, Table, TableError, Value};
