//! The PostgreSQL sink against a real server, which `tests/run.sh` starts and names in the environment. Tables are read
//! by a connection of the test's own; tests that kill a server start one with `server`.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod account;
mod alike;
mod cancel;
mod conflicts;
mod crash;
mod failures;
mod insert_paths;
mod limits;
mod once;
mod opening;
mod pooler;
mod proxy;
#[path = "../support/refusals.rs"]
mod refusals;
mod schemas;
mod secrets;
mod server;
mod tls;
mod types;
mod uuids;
mod values;

use std::{
    fmt::Display,
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use roundlot::{
    Batch, ErrorKind, Sink,
    sink::{
        postgres::{Postgres, PostgresSink},
        table::{ColumnType, Table, Value},
    },
};
use rust_decimal::Decimal;
use tokio_postgres::{Client, NoTls, SimpleQueryMessage};

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

fn named(id: i64, symbol: &str) -> Trade {
    Trade { symbol: symbol.into(), price: id.into(), ..trade(id) }
}

/// Columns id, symbol and price, with no key yet.
fn mapping() -> Table<Trade> {
    Table::new("trades").integer("id", |t: &Trade| t.id).text("symbol", |t| &t.symbol).decimal("price", |t| t.price)
}

/// The same with the key on `id`, created when missing.
fn keyed() -> Table<Trade> {
    mapping().key(["id"]).create_if_missing()
}

/// A mapping of one column of any type to a table that is created.
fn one_column<T, F>(name: &str, holds: ColumnType, value: F) -> Table<T>
where
    F: for<'a> Fn(&'a T) -> Value<'a> + Send + Sync + 'static,
{
    Table::new("t").column(name, holds, value).create_if_missing()
}

/// A schema of the test's own, on the server that all tests share or on one that the test has started.
struct Db {
    server: String,
    schema: String,
    client: Client,
}

async fn db() -> Db {
    let url = std::env::var("ROUNDLOT_POSTGRES_URL").expect("tests/run.sh names the server in ROUNDLOT_POSTGRES_URL");
    Db::on(&url).await
}

impl Db {
    async fn on(server: &str) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let schema = format!("t{}_{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let client = connect(server).await;
        client.batch_execute(&format!("CREATE SCHEMA {schema}; SET search_path TO {schema}")).await.unwrap();
        Self { server: server.into(), schema, client }
    }

    /// The URL under which the sink finds the tables of this test, with settings such as `-cstatement_timeout=1s`.
    fn url_with(&self, settings: &str) -> String {
        let options = format!("-csearch_path={} {settings}", self.schema);
        let encoded = options.trim().replace('=', "%3D").replace(' ', "%20");
        let mark = if self.server.contains('?') { '&' } else { '?' };
        format!("{}{mark}options={encoded}", self.server)
    }

    fn url(&self) -> String {
        self.url_with("")
    }

    fn settings(&self) -> Postgres {
        Postgres::url(self.url())
    }

    async fn open<T>(&self, table: Table<T>) -> PostgresSink<T> {
        self.settings().open(table).await.unwrap()
    }

    /// Another connection that finds the same tables.
    async fn other(&self) -> Client {
        connect(&self.url()).await
    }

    async fn execute(&self, sql: &str) {
        self.client.batch_execute(sql).await.unwrap();
    }

    /// All rows of a query as text, with the values of a row joined by bars.
    async fn query(&self, sql: &str) -> Vec<String> {
        let mut found = Vec::new();
        for message in self.client.simple_query(sql).await.unwrap() {
            if let SimpleQueryMessage::Row(row) = message {
                let values: Vec<&str> = (0..row.len()).map(|i| row.get(i).unwrap_or("NULL")).collect();
                found.push(values.join("|"));
            }
        }
        found
    }

    /// The ids in the table, in the order in which they landed.
    async fn ids(&self) -> Vec<i64> {
        self.query("SELECT id FROM trades ORDER BY ctid").await.iter().map(|id| id.parse().unwrap()).collect()
    }

    /// Waits until the query finds something.
    async fn until(&self, sql: &str) -> Vec<String> {
        for _ in 0..3000 {
            let found = self.query(sql).await;
            if !found.is_empty() {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("never true: {sql}")
    }

    /// The process of the one session of the sink, which has this for its statement, as a pattern of SQL.
    async fn session(&self, statement: &str, more: &str) -> i64 {
        let sql = format!(
            "SELECT pid FROM pg_stat_activity WHERE application_name = '{}' AND query LIKE '{statement}' AND {more}",
            self.schema
        );
        self.until(&sql).await[0].parse().unwrap()
    }

    /// Query that finds a row only if the sink has this number of sessions.
    fn sessions(&self, many: usize) -> String {
        let name = &self.schema;
        format!("SELECT 1 FROM pg_stat_activity WHERE application_name = '{name}' HAVING count(*) = {many}")
    }

    /// The URL of a sink that can be told from those of other tests in `pg_stat_activity`.
    fn named_url(&self, settings: &str) -> String {
        format!("{}&application_name={}", self.url_with(settings), self.schema)
    }
}

async fn connect(url: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

/// Writes the ops as one batch that must get all its verdicts, and returns those that did not land.
async fn write<T: Send + 'static>(sink: &PostgresSink<T>, ops: Vec<T>) -> Vec<Refusal> {
    let mut batch = Batch::for_test(ops);
    sink.write(&mut batch).await.map(drop).unwrap_or_else(|error| panic!("{}", error.chain()));
    refusals(&batch)
}

/// Writes the ops as one batch that must fail as a whole.
async fn fail<T: Send + 'static>(sink: &PostgresSink<T>, ops: Vec<T>) -> (ErrorKind, String) {
    let mut batch = Batch::for_test(ops);
    let error = sink.write(&mut batch).await.map(drop).unwrap_err();
    assert!((0..batch.len()).all(|op| batch.verdict(op).is_none()), "the error is the verdict");
    (error.kind(), error.chain())
}

fn texts<V: Display>(values: impl IntoIterator<Item = V>) -> Vec<String> {
    values.into_iter().map(|value| value.to_string()).collect()
}
