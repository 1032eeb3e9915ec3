//! The SQLite sink against real files, one batch at a time: rows that land, rows that are refused, and the state after
//! an error. Files are read by a connection of the test's own.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod cancel;
mod conflicts;
mod failures;
mod opening;
mod outages;
#[path = "../support/refusals.rs"]
mod refusals;
mod rows;
mod triggers;
mod values;

use std::path::{Path, PathBuf};

use roundlot::{
    Batch, Sink,
    sink::{
        sqlite::SqliteSink,
        table::{ColumnType, Table},
    },
};
use rusqlite::{Connection, types::Value};
use rust_decimal::Decimal;

use refusals::{Refusal, refusals, refused};

#[derive(Debug, Clone)]
struct Trade {
    id: Option<i64>,
    symbol: String,
    price: Decimal,
}

fn trade(id: i64) -> Trade {
    Trade { id: Some(id), symbol: format!("PAIR{}", id % 7), price: Decimal::new(id, 2) }
}

fn trades(ids: impl IntoIterator<Item = i64>) -> Vec<Trade> {
    ids.into_iter().map(trade).collect()
}

/// Columns id, symbol and price, with no key yet.
fn mapping() -> Table<Trade> {
    Table::new("trades").integer("id", |t: &Trade| t.id).text("symbol", |t| &t.symbol).decimal("price", |t| t.price)
}

/// The same with the key on `id`, created when missing.
fn keyed() -> Table<Trade> {
    mapping().key(["id"]).create_if_missing()
}

/// A file in a folder that goes when the test ends.
struct File {
    _folder: tempfile::TempDir,
    path: PathBuf,
}

fn file() -> File {
    let folder = tempfile::tempdir().unwrap();
    File { path: folder.path().join("trades.db"), _folder: folder }
}

impl AsRef<Path> for File {
    fn as_ref(&self) -> &Path {
        &self.path
    }
}

impl File {
    fn connect(&self) -> Connection {
        Connection::open(&self.path).unwrap()
    }

    fn execute(&self, sql: &str) {
        self.connect().execute_batch(sql).unwrap();
    }

    /// All rows of a query, with the values of a row joined by bars.
    fn query(&self, sql: &str) -> Vec<String> {
        let connection = self.connect();
        let mut query = connection.prepare(sql).unwrap();
        let columns = query.column_count();
        let text = |value: Value| match value {
            Value::Null => "NULL".into(),
            Value::Integer(value) => value.to_string(),
            Value::Real(value) => format!("{value:?}"),
            Value::Text(value) => value,
            Value::Blob(value) => format!("{value:02x?}"),
        };
        query
            .query_map([], |row| {
                let values: Vec<String> = (0..columns).map(|i| text(row.get_unwrap(i))).collect();
                Ok(values.join("|"))
            })
            .unwrap()
            .map(Result::unwrap)
            .collect()
    }

    /// The ids in the table, in the order in which they landed.
    fn ids(&self) -> Vec<i64> {
        let rows = self.query("SELECT id FROM trades ORDER BY rowid");
        rows.iter().map(|id| id.parse().unwrap()).collect()
    }
}

/// Writes the ops as one batch that must get all its verdicts, and returns those that did not land.
async fn write<T: Send + 'static>(sink: &SqliteSink<T>, ops: Vec<T>) -> Vec<Refusal> {
    let mut batch = Batch::for_test(ops);
    sink.write(&mut batch).await.map(drop).unwrap();
    refusals(&batch)
}

/// A mapping of one column of any type to a table that is created.
fn one_column<T, F>(name: &str, holds: ColumnType, value: F) -> Table<T>
where
    F: for<'a> Fn(&'a T) -> roundlot::sink::table::Value<'a> + Send + Sync + 'static,
{
    Table::new("t").column(name, holds, value).create_if_missing()
}
