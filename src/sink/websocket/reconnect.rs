//! [`Task`]: the task of a sink. It reads the connection, and for a client opens the next one when it is lost. However
//! it ends, the connection is over afterwards, so no writer waits for ever.

use std::{future::Future, sync::Arc, time::Duration};

use tokio::{
    sync::mpsc,
    task::AbortHandle,
    time::{Instant, sleep, timeout},
};
use tracing::{info, warn};

use super::{
    Message, Socket,
    connection::{Connection, closed},
    socket::Incoming,
};
use crate::{
    rules::config::retry::Retry,
    sink::{ErrorKind, SinkError},
};

/// Longest pause that a peer may impose by `Retry-After`. Venues ban an address for up to three days.
const MAX_PAUSE: Duration = Duration::from_secs(3 * 24 * 3600);

/// Handle of the task, which is aborted when the sink is dropped.
pub(super) struct Task(AbortHandle);

impl Task {
    /// Reads one connection until it ends.
    pub(super) fn serve(
        connection: &Arc<Connection>,
        incoming: Incoming,
        messages: Option<mpsc::Sender<Message>>,
    ) -> Self {
        let guard = EndOnDrop(Arc::clone(connection));
        let mut messages = messages;
        Self::spawn(async move {
            guard.0.listen(incoming, &mut messages).await;
            guard.0.end(closed());
        })
    }

    /// Opens a connection, reads it, and opens the next when it is lost.
    pub(super) fn keep<F, Fut>(
        connection: &Arc<Connection>,
        dial: F,
        retry: Retry,
        messages: Option<mpsc::Sender<Message>>,
    ) -> Self
    where
        F: Fn() -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Socket, SinkError>> + Send,
    {
        let guard = EndOnDrop(Arc::clone(connection));
        Self::spawn(async move {
            let connection = &guard.0;
            tokio::select! {
                biased;
                () = keep(connection, dial, retry, messages) => {}
                // While the connection is up, `keep` does the close handshake first.
                () = connection.close_requested_while_down() => {}
            }
            connection.end(closed());
        })
    }

    fn spawn(task: impl Future<Output = ()> + Send + 'static) -> Self {
        Self(tokio::spawn(task).abort_handle())
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Ends the connection however the task ends, also by a panic of a user's function, so that no writer waits for ever.
struct EndOnDrop(Arc<Connection>);

impl Drop for EndOnDrop {
    fn drop(&mut self) {
        self.0.end(SinkError::refused("final: the task of the WebSocket sink is gone"));
    }
}

async fn keep<F, Fut>(connection: &Connection, dial: F, retry: Retry, mut messages: Option<mpsc::Sender<Message>>)
where
    F: Fn() -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<Socket, SinkError>> + Send,
{
    let mut backoff = retry.start();
    let (mut failures, mut delay) = (0, Duration::ZERO);
    loop {
        let mut at_least = Duration::ZERO;
        let stall = connection.policy.stall;
        let late = |_| Err(SinkError::outage(format!("no connection within {stall:?}")));
        match timeout(stall, dial()).await.unwrap_or_else(late) {
            Ok(socket) => {
                let since = Instant::now();
                let incoming = connection.install(socket).await;
                connection.listen(incoming, &mut messages).await;
                // A connection that lived for longer than the delay before it counts as a success. A server that
                // accepts and closes at once is thus not asked more often.
                if since.elapsed() >= delay {
                    failures = 0;
                }
                if connection.is_over() {
                    // The reason is recorded for the writers.
                    return;
                }
            }
            Err(error) => {
                match error.kind() {
                    ErrorKind::Transient | ErrorKind::Ambiguous | ErrorKind::Outage => {}
                    ErrorKind::Throttled { retry_after } => at_least = retry_after.min(MAX_PAUSE),
                    _ => {
                        let error = error.chain();
                        warn!(error, "the WebSocket cannot be opened, and never will");
                        return connection.end(SinkError::refused(format!("final: cannot connect: {error}")));
                    }
                }
                connection.mark_down(error);
            }
        }
        failures += 1;
        if failures >= backoff.max_attempts() {
            warn!(failures, error = connection.why().chain(), "the WebSocket is given up");
            return connection.end(SinkError::refused(format!("final: {failures} connections failed in a row")));
        }
        delay = backoff.delay(failures).max(at_least);
        info!(error = connection.why().chain(), attempt = failures, pause = ?delay, "the WebSocket is down");
        sleep(delay).await;
    }
}
