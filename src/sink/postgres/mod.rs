//! Batches into a PostgreSQL table (feature `postgres`). Each batch is one transaction, and each of its rows gets a
//! verdict.
//!
//! ```text
//!   write()  Batch -> a connection that is idle, or a new one   sink, pool, address, url, tls, process
//!      |
//!      |     values -> cells as they cross the wire             rows, wire, numeric
//!      v
//!   BEGIN, the rows by one of three ways, COMMIT                connection, plan, session
//!      |
//!      | a row fails
//!      v
//!   BEGIN, ever smaller parts, failing rows stay out, COMMIT  writer, classify, pooler
//! ```

mod address;
mod classify;
mod connection;
mod error;
#[cfg(feature = "durable")]
mod ledger_table;
mod numeric;
mod open;
mod options;
mod plan;
mod pool;
mod pooler;
mod process;
mod rows;
mod search_path;
mod session;
mod sink;
mod tls;
mod url;
mod uuid;
mod watch;
mod wire;
mod writer;

#[cfg(feature = "durable")]
pub(crate) use classify::classify;
/// Reads a URL without the environment, and says what is wrong with it.
#[cfg(any(test, fuzzing))]
pub(crate) fn read_url(url: &str) -> Result<(), String> {
    address::read(url, |_| None).map(drop)
}

pub use error::OpenError;
#[cfg(feature = "durable")]
#[cfg_attr(docsrs, doc(cfg(feature = "durable")))]
pub use ledger_table::{LedgerTable, LedgerTableSink};
pub use options::Postgres;
#[cfg(feature = "durable")]
pub(crate) use pool::Server;
#[cfg(feature = "durable")]
pub(crate) use search_path::has_arrived;
#[cfg(feature = "durable")]
pub(crate) use session::Session;
pub use sink::PostgresSink;
#[cfg(feature = "durable-nats")]
pub(crate) use url::decoded;

pub use super::table::{ColumnType, Conflict, Table, TableError, Value};
