//! A schema of a test's own in a PostgreSQL server, as a rule in the one that `tests/run.sh` starts and names in the environment.

use std::{
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use tokio_postgres::{Client, NoTls, SimpleQueryMessage};

pub(crate) struct Database {
    pub(crate) url: String,
    pub(crate) schema: String,
    pub(crate) client: Client,
}

pub(crate) async fn connect(url: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

/// The server of `tests/run.sh`.
pub(crate) fn server() -> String {
    std::env::var("ROUNDLOT_POSTGRES_URL").expect("tests/run.sh names the server in ROUNDLOT_POSTGRES_URL")
}

impl Database {
    /// A new schema in a server, in which SQL of the test has made its tables.
    pub(crate) async fn on(server: &str, tables: &str) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let schema = format!("t{}_{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let client = connect(server).await;
        client.batch_execute(&format!("CREATE SCHEMA {schema}; SET search_path TO {schema}; {tables}")).await.unwrap();
        let url = format!("{server}?options=-csearch_path%3D{schema}&application_name={schema}");
        Self { url, schema, client }
    }

    /// Connects again, after the server was away.
    pub(crate) async fn reconnect(&mut self) {
        self.client = connect(&self.url).await;
    }

    pub(crate) async fn execute(&self, sql: &str) {
        self.client.batch_execute(sql).await.unwrap();
    }

    /// The first column of all rows; -1 for NULL.
    pub(crate) async fn numbers(&self, sql: &str) -> Vec<i64> {
        let rows = self.client.simple_query(sql).await.unwrap();
        let number = |message| match message {
            SimpleQueryMessage::Row(row) => Some(row.get(0).map_or(-1, |text| text.parse().unwrap())),
            _ => None,
        };
        rows.into_iter().filter_map(number).collect()
    }

    pub(crate) async fn number(&self, sql: &str) -> i64 {
        self.numbers(sql).await[0]
    }

    /// Waits until a query finds something.
    pub(crate) async fn until(&self, sql: &str) -> i64 {
        for _ in 0..6000 {
            if let Some(found) = self.numbers(sql).await.first() {
                return *found;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("never true: {sql}")
    }
}
