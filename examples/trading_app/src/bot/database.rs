//! The sink for trades: a SQLite file or a table on a PostgreSQL server. `main` opens it and hands it to `batchers`.

use std::path::Path;

use roundlot::{
    BoxSink, Sink,
    sink::{postgres::Postgres, sqlite::SqliteSink},
};

use super::{
    Error,
    tick::{self, Tick},
};

/// The destination of the trades.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Destination<'a> {
    /// A SQLite file.
    Sqlite(&'a Path),
    /// A PostgreSQL server, by its URL.
    Postgres(&'a str),
}

/// Opens the destination, and creates the table `trades` if it does not exist.
pub async fn open(destination: Destination<'_>) -> Result<BoxSink<Tick>, Error> {
    match destination {
        Destination::Sqlite(path) => Ok(SqliteSink::open(path, tick::table()).await?.boxed()),
        Destination::Postgres(url) => Ok(Postgres::url(url).open(tick::table()).await?.boxed()),
    }
}
