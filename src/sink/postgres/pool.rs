//! [`Pool`]: the connections of a sink. A lease is idle again afterwards, unless it broke. The batcher's writes decide
//! how many there are, up to the limit.

use std::{
    fmt,
    future::poll_fn,
    ops::{Deref, DerefMut},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    task::JoinHandle,
    time::timeout,
};
use tokio_postgres::{AsyncMessage, Client, Config, Notification};

use super::{
    classify::{ClassifiedError, classify, no_answer, settle},
    connection::Connection,
    plan::Plan,
    process,
    session::Session,
    tls::Tls,
};
use crate::sink::{SinkError, table::classified::Phase};

/// Address and login of the server. Never printed.
pub(crate) struct Server {
    pub(crate) config: Config,
    pub(super) tls: Tls,
}

impl Server {
    /// A session, which keeps the slot until it is gone or gives it back.
    ///
    /// The client library limits the time until a host is reached, and not until it answers: one that is stopped takes
    /// connections and says nothing. A host has two addresses at most, as a rule.
    pub(crate) async fn connect(&self, slot: Option<OwnedSemaphorePermit>) -> Result<Session, ClassifiedError> {
        self.connect_with(slot, |_| {}).await
    }

    /// The same, with a function that is called for each notification.
    pub(crate) async fn connect_with(
        &self,
        slot: Option<OwnedSemaphorePermit>,
        heard: impl Fn(Notification) + Send + 'static,
    ) -> Result<Session, ClassifiedError> {
        let hosts = u32::try_from(self.config.get_hosts().len()).unwrap_or(u32::MAX);
        let connecting = self.log_in(heard);
        let (client, task, is_own) = match self.config.get_connect_timeout() {
            Some(limit) => {
                timeout(limit.saturating_mul(hosts).saturating_mul(2), connecting).await.map_err(|_| no_answer())??
            }
            None => connecting.await?,
        };
        Ok(Session::new(client, task, self.tls.clone(), is_own, slot))
    }

    /// A connection, the task that runs it, and whether its process at the server is known to be its own.
    async fn log_in(
        &self,
        heard: impl Fn(Notification) + Send + 'static,
    ) -> Result<(Client, JoinHandle<()>, bool), ClassifiedError> {
        let connected = self.config.connect(self.tls.clone()).await;
        let (client, mut connection) = connected.map_err(|error| classify(Phase::Statement, error))?;
        let task = tokio::spawn(async move {
            loop {
                match poll_fn(|context| connection.poll_message(context)).await {
                    Some(Ok(AsyncMessage::Notification(notification))) => heard(notification),
                    Some(Ok(_)) => {}
                    Some(Err(error)) => {
                        let error = classify(Phase::Statement, error).context.source;
                        tracing::debug!(%error, "a connection to PostgreSQL ended");
                        return;
                    }
                    None => return,
                }
            }
        });
        // A client that is dropped ends the task.
        let is_own = process::is_own(&client).await.map_err(|error| classify(Phase::Statement, error))?;
        Ok((client, task, is_own))
    }
}

pub(super) struct Pool {
    server: Server,
    pub(super) plan: Plan,
    /// The most recently used one is used next.
    idle: Mutex<Vec<Connection>>,
    /// One per connection in use, or given up and not gone yet; closed when the sink is.
    slots: Arc<Semaphore>,
}

impl Pool {
    pub(super) fn new(server: Server, plan: Plan, first: Connection, max: usize) -> Self {
        Self { server, plan, idle: Mutex::new(vec![first]), slots: Arc::new(Semaphore::new(max)) }
    }

    /// Takes a connection that is idle, or opens one. Waits while as many as may be are in use.
    pub(super) async fn take(&self) -> Result<Lease<'_>, SinkError> {
        let slot = self.slots.clone().acquire_owned().await;
        let slot = slot.map_err(|_| SinkError::refused("the PostgreSQL sink is closed"))?;
        let connection = match self.idle_one() {
            Some(mut connection) => {
                connection.session.hold(slot);
                connection
            }
            // No row has been sent yet, nor is the connection there to go on.
            None => self.open(slot).await.map_err(|classified| settle(classified, 0, false))?,
        };
        Ok(Lease { pool: self, connection: Some(connection) })
    }

    async fn open(&self, slot: OwnedSemaphorePermit) -> Result<Connection, ClassifiedError> {
        let session = self.server.connect(Some(slot)).await?;
        Connection::prepare(session, &self.plan).await.map_err(|error| classify(Phase::Statement, error))
    }

    fn give_back(&self, mut connection: Connection) {
        connection.rows.trim();
        let slot = connection.session.take_slot();
        let mut idle = self.idle();
        // Asked under the lock that `close` takes afterwards: what is among the idle ones by then, it ends.
        if !self.slots.is_closed() {
            idle.push(connection);
        }
        drop(idle);
        // Releases the permit last, so that the writer that waits for it finds the connection.
        drop(slot);
    }

    fn idle_one(&self) -> Option<Connection> {
        let mut idle = self.idle();
        // Drops connections that broke while idle.
        std::iter::from_fn(|| idle.pop()).find(|connection| !connection.session.is_closed())
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Connection>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends all connections, those in use as soon as they come back.
    pub(super) async fn close(&self) {
        self.slots.close();
        let idle = std::mem::take(&mut *self.idle());
        for connection in idle {
            connection.session.end().await;
        }
    }
}

/// A connection in use. It comes back, unless it is busy when the lease ends.
pub(super) struct Lease<'a> {
    pool: &'a Pool,
    connection: Option<Connection>,
}

impl Drop for Lease<'_> {
    fn drop(&mut self) {
        let Some(connection) = self.connection.take() else { return };
        // The session of one that is busy is given up.
        if !connection.session.is_busy() {
            self.pool.give_back(connection);
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
