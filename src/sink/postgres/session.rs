//! [`Session`]: one session with the server, from login to the end. However it is dropped, the server stops working for
//! it and its slot is released.

use std::time::Duration;

use tokio::{runtime::Handle, sync::OwnedSemaphorePermit, task::JoinHandle, time::timeout};
use tokio_postgres::Client;

use super::tls::Tls;

/// Time limit for telling the server that a statement is given up.
const CANCEL_LIMIT: Duration = Duration::from_secs(5);

/// Time limit for the server to end the session after that.
const END_LIMIT: Duration = Duration::from_secs(5);

/// A session. When it is dropped while the server may work for it, the server is told to stop. The server would not
/// read its socket before, and a statement that waits for a lock would keep its own.
pub(crate) struct Session {
    /// Present until the session ends.
    live: Option<Live>,
    tls: Tls,
    /// Whether the server may be doing something for it, or a transaction may be open.
    busy: bool,
    /// Whether the server has answered all that it was asked, though a transaction may be open.
    answered: bool,
    /// Whether it has a server process to itself.
    is_own: bool,
    /// Permit of the pool while the session is in use; released when the session is gone.
    slot: Option<OwnedSemaphorePermit>,
}

struct Live {
    client: Client,
    /// Reads and writes the socket, and ends the session when its client is dropped.
    task: JoinHandle<()>,
}

impl Session {
    /// One that is busy: it is to be prepared.
    pub(super) fn new(
        client: Client,
        task: JoinHandle<()>,
        tls: Tls,
        is_own: bool,
        slot: Option<OwnedSemaphorePermit>,
    ) -> Self {
        Self { live: Some(Live { client, task }), tls, busy: true, answered: false, is_own, slot }
    }

    pub(crate) fn client(&self) -> &Client {
        &self.live.as_ref().expect("it is taken out only when the session ends").client
    }

    /// For transactions that the client library itself begins and ends.
    #[cfg(feature = "durable")]
    pub(crate) fn client_mut(&mut self) -> &mut Client {
        &mut self.live.as_mut().expect("it is taken out only when the session ends").client
    }

    /// Whether it has a server process to itself, in which statements keep their names.
    pub(crate) fn is_own(&self) -> bool {
        self.is_own
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.client().is_closed()
    }

    pub(crate) fn is_busy(&self) -> bool {
        self.busy
    }

    /// Marks the session as busy until [`rest`](Self::rest): dropped before that, it leaves a transaction behind that
    /// no other write may continue.
    pub(crate) fn begin(&mut self) {
        self.busy = true;
        self.answered = false;
    }

    /// Marks the session as ended by the server, with nothing to cancel.
    pub(super) fn fail(&mut self) {
        self.answered = true;
    }

    /// The server has answered all that it was asked, and no transaction is open.
    pub(crate) fn rest(&mut self) {
        self.busy = false;
    }

    pub(super) fn hold(&mut self, slot: OwnedSemaphorePermit) {
        self.slot = Some(slot);
    }

    pub(super) fn take_slot(&mut self) -> Option<OwnedSemaphorePermit> {
        self.slot.take()
    }

    /// Terminates the session, and waits until that is sent.
    pub(crate) async fn end(mut self) {
        let Some(Live { client, task }) = self.live.take() else { return };
        drop(client);
        // A task that failed has ended the session as well.
        let _ended = task.await;
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let Some(live) = self.live.take() else { return };
        let slot = self.slot.take();
        if live.client.is_closed() || (!self.busy && slot.is_none()) {
            return;
        }
        // Outside a runtime no cancel request can be sent: the session ends when its statement has.
        let Ok(runtime) = Handle::try_current() else { return };
        // A pooler drops a cancel request whose sender does not wait for its end, or crashes by it, as pgbouncer 1.18
        // does. Closing the session makes the pooler close that of the server, where nothing is committed any more.
        let cancel = (self.busy && !self.answered && self.is_own).then(|| self.tls.clone());
        let end_limit = if self.is_own { END_LIMIT } else { Duration::ZERO };
        runtime.spawn(async move {
            live.give_up(cancel, end_limit).await;
            drop(slot);
        });
    }
}

impl Live {
    /// Cancels the running statement: what is not committed is rolled back and releases its locks.
    async fn give_up(self, cancel: Option<Tls>, end_limit: Duration) {
        let Self { client, mut task } = self;
        if let Some(tls) = cancel {
            let canceled = timeout(CANCEL_LIMIT, client.cancel_token().cancel_query(tls)).await;
            if !matches!(canceled, Ok(Ok(()))) {
                tracing::debug!("the server was not told that a statement is given up, it will find out by itself");
            }
        }
        drop(client);
        if timeout(end_limit, &mut task).await.is_err() {
            task.abort();
        }
    }
}
