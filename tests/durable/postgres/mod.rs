//! Logs in a PostgreSQL database, against a real server, which `tests/run.sh` starts and names in the environment.

mod frames;
mod leases;
mod outages;
mod refused;
mod sessions;
mod went_back;

#[path = "../several/node.rs"]
mod node;
#[path = "../several/nodes.rs"]
mod nodes;

use std::{ops::Deref, time::Duration};

use roundlot::{
    Batch, Limits, Settled, Sink, SinkError,
    durable::{Durable, JoinError, Joined, PostgreSql},
};

use crate::{
    database::{self, Database, connect},
    server,
};
use node::*;

/// The lease of tests: short, and long enough for a machine that does other things besides.
const LEASE: Duration = Duration::from_millis(1000);

/// The engine of the tests.
type Engine = PostgreSql;

/// A database with a table for rows.
pub(crate) struct Place {
    database: Database,
}

impl Deref for Place {
    type Target = Database;

    fn deref(&self) -> &Database {
        &self.database
    }
}

impl Place {
    pub(crate) async fn new() -> Self {
        Self::on(&database::server()).await
    }

    async fn on(server: &str) -> Self {
        let landed = "CREATE TABLE landed (number bigserial, op bigint, shard integer, epoch bigint)";
        Self { database: Database::on(server, landed).await }
    }

    pub(crate) fn engine(&self) -> PostgreSql {
        PostgreSql::at(&self.url).lease(LEASE)
    }

    /// The ops whose rows are there, in the order of their rows.
    async fn landed(&self) -> Vec<i64> {
        self.numbers("SELECT op FROM landed ORDER BY number").await
    }

    /// Positions that are not settled.
    async fn open(&self) -> i64 {
        let open =
            "SELECT sum(t.next - s.cursor)::bigint FROM roundlot_tails t JOIN roundlot_shards s USING (log, shard)";
        self.number(open).await
    }
}
