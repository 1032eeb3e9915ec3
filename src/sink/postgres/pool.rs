//! The connections of a sink: in comes the wish to write, out goes a connection that is idle or new, and comes back
//! unless it broke. How many there are is the batcher's decision, up to a limit. Next room: `connection`.

use std::{
    fmt,
    ops::{Deref, DerefMut},
    sync::{Mutex, MutexGuard, PoisonError},
};

use tokio::sync::{Semaphore, SemaphorePermit};
use tokio_postgres::{Config, Error};

use super::{
    classify::classify,
    connection::{Connection, Session},
    plan::Plan,
    tls::Tls,
};
use crate::sink::{SinkError, table::fault::Doing};

/// Where the server is and how to get in. Never printed.
pub(super) struct Server {
    pub(super) config: Config,
    pub(super) tls: Tls,
}

impl Server {
    pub(super) async fn connect(&self) -> Result<Session, Error> {
        let (client, connection) = self.config.connect(self.tls.clone()).await?;
        let task = tokio::spawn(async move {
            if let Err(error) = connection.await {
                let error = classify(Doing::Statement, error).failure.source;
                tracing::debug!(%error, "a connection to PostgreSQL ended");
            }
        });
        Ok(Session::new(client, task))
    }
}

pub(super) struct Pool {
    server: Server,
    pub(super) plan: Plan,
    /// The one that was used last is used next.
    idle: Mutex<Vec<Connection>>,
    /// One per connection in use; closed when the sink is.
    slots: Semaphore,
}

impl Pool {
    pub(super) fn new(server: Server, plan: Plan, first: Connection, most: usize) -> Self {
        Self { server, plan, idle: Mutex::new(vec![first]), slots: Semaphore::new(most) }
    }

    /// Takes a connection that is idle, or opens one. Waits while as many as may be are in use.
    pub(super) async fn take(&self) -> Result<Lease<'_>, SinkError> {
        let slot = self.slots.acquire().await.map_err(|_| SinkError::refused("the PostgreSQL sink is closed"))?;
        let connection = match self.idle_one() {
            Some(connection) => connection,
            None => self.open().await.map_err(|error| classify(Doing::Statement, error))?,
        };
        Ok(Lease { pool: self, connection: Some(connection), broken: false, _slot: slot })
    }

    async fn open(&self) -> Result<Connection, Error> {
        self.server.connect().await?.prepare(&self.plan).await
    }

    fn idle_one(&self) -> Option<Connection> {
        let mut idle = self.idle();
        // Those that broke while nobody used them are dropped here.
        std::iter::from_fn(|| idle.pop()).find(|connection| !connection.is_closed())
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Connection>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends all connections, those in use as soon as they come back.
    pub(super) async fn close(&self) {
        self.slots.close();
        let idle = std::mem::take(&mut *self.idle());
        for connection in idle {
            connection.end().await;
        }
    }
}

/// A connection in use.
pub(super) struct Lease<'a> {
    pool: &'a Pool,
    connection: Option<Connection>,
    broken: bool,
    _slot: SemaphorePermit<'a>,
}

impl Lease<'_> {
    /// From here on the connection does not come back, unless it is said to be [`sound`](Self::sound): a write that is
    /// dropped on the way leaves a transaction behind that no other may continue.
    pub(super) fn begin(&mut self) {
        self.broken = true;
    }

    /// No transaction is open.
    pub(super) fn sound(&mut self) {
        self.broken = false;
    }
}

impl Drop for Lease<'_> {
    fn drop(&mut self) {
        let Some(connection) = self.connection.take() else { return };
        if self.broken {
            connection.abandon(self.pool.server.tls.clone());
        } else if !self.pool.slots.is_closed() {
            self.pool.idle().push(connection);
        }
    }
}

impl Deref for Lease<'_> {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        self.connection.as_ref().expect("it is taken out only when the lease ends")
    }
}

impl DerefMut for Lease<'_> {
    fn deref_mut(&mut self) -> &mut Connection {
        self.connection.as_mut().expect("it is taken out only when the lease ends")
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").field("idle", &self.idle().len()).finish_non_exhaustive()
    }
}
