//! Logs in NATS JetStream, against real servers: one of NATS for each test, and that of PostgreSQL which `tests/run.sh` starts and names
//! in the environment.

#[path = "../several/node.rs"]
mod node;
#[path = "../several/nodes.rs"]
mod nodes;
mod outages;
mod refused;
pub(crate) mod server;
mod streams;

use std::{ops::Deref, time::Duration};

use roundlot::durable::Nats;

use crate::database::{self, Database};
use server::Server;

/// The lease of tests: short, and long enough for a machine that does other things besides.
const LEASE: Duration = Duration::from_millis(1000);

/// The engine of the tests.
type Engine = Nats;

/// A server of NATS, and a database with a table for rows.
pub(crate) struct Place {
    database: Database,
    pub(crate) server: Server,
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

    /// The same with its database in another server.
    async fn on(databases: &str) -> Self {
        let landed = "CREATE TABLE landed (number bigserial, op bigint, shard integer, epoch bigint)";
        let (database, server) = tokio::join!(Database::on(databases, landed), Server::new());
        Self { database, server }
    }

    pub(crate) fn engine(&self) -> Nats {
        Nats::at(self.server.url()).monitoring([self.server.monitoring()]).ledger(&self.url).lease(LEASE)
    }

    /// The ops whose rows are there, in the order of their rows.
    async fn landed(&self) -> Vec<i64> {
        self.numbers("SELECT op FROM landed ORDER BY number").await
    }

    /// Runs of settled positions behind ones that are not.
    async fn open(&self) -> i64 {
        self.number("SELECT count(*) FROM roundlot_settled").await
    }
}
