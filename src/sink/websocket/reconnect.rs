//! The task of a sink: it reads the connection, and dials again when it is lost. In come connections, out goes the line's
//! state. Next room: `line`.

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

/// The longest pause that a peer may ask for. Venues ban an address for up to three days; no answer stops a client for ever.
const MAX_PAUSE: Duration = Duration::from_secs(3 * 24 * 3600);

/// Ends the task with the sink.
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
                // While the connection is up, `keep` says goodbye first.
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

/// Whatever ends the task, nobody waits for it afterwards: a panic of a user's function does, too.
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
                // One that lived for longer than was waited for it counts as a success. So a server that accepts and
                // hangs up is not asked more often than it deserves.
                if since.elapsed() >= delay {
                    failures = 0;
                }
                if connection.is_over() {
                    // Writers are told why.
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
