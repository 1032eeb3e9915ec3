//! One connection's state, shared by those who write and the task that reads. In come messages to feed and messages read,
//! out goes whether the connection is up, down for now, or over. Next rooms: `turn`, `socket`.

mod heartbeat;
mod write_guard;

use std::{
    future::pending,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use futures::{SinkExt, StreamExt};
use tokio::{
    sync::{
        Mutex,
        mpsc::{self, error::TrySendError},
        watch,
    },
    time::timeout,
};
use tracing::{debug, error};

use heartbeat::Heartbeat;
pub(super) use write_guard::NotFed;
use write_guard::WriteGuard;

use super::{
    Close, FrameStats, Message, Socket,
    frame_stats::{ConnectionStats, SharedStats},
    socket::{BoxError, Incoming, Outgoing},
};
use crate::{
    rules::panics,
    sink::{ErrorKind, SinkError},
};

/// How long a peer may take to hear why it is hung up on: it may have a backlog to read first.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(10);

/// How long the other things may take that a peer owes when a connection ends.
const SHORT_TIMEOUT: Duration = Duration::from_secs(1);

/// See the module's text.
pub(super) struct Connection {
    status: watch::Sender<Status>,
    /// The half that writes. Whoever holds the lock feeds; frames of two writes never mix.
    outgoing: Mutex<Option<Outgoing>>,
    stats: ConnectionStats,
    shared: Arc<SharedStats>,
    pub(super) policy: Policy,
    /// The number of the last ping.
    last_ping: AtomicU64,
    heartbeat: Heartbeat,
}

/// What to do with a connection that is lost.
pub(super) struct Policy {
    /// Whether it is opened again at all.
    pub(super) reconnects: bool,
    /// After which closes of the peer.
    pub(super) reconnect_on: Arc<dyn Fn(&Close) -> bool + Send + Sync>,
    /// How long a peer may take nothing, or leave a ping unanswered.
    pub(super) stall: Duration,
    /// How long a peer may be silent until it is asked whether it is there; zero: it never is.
    pub(super) ping_every: Duration,
}

#[derive(Clone)]
pub(super) struct Status {
    state: State,
    /// Connections so far.
    epoch: u64,
    /// The last ping that was answered.
    confirmed: u64,
    /// Why this side hangs up, once it does.
    close: Option<Close>,
    /// The sink was closed.
    closed: bool,
}

#[derive(Clone)]
enum State {
    Up,
    /// For now; the error says why, and is an outage.
    Down(SinkError),
    /// For good; the error says why.
    Over(SinkError),
}

impl Status {
    fn is_up(&self, epoch: u64) -> bool {
        self.epoch == epoch && matches!(self.state, State::Up)
    }

    fn is_over(&self) -> bool {
        matches!(self.state, State::Over(_))
    }

    fn is_settled(&self) -> bool {
        !matches!(self.state, State::Down(_))
    }

    fn why(&self) -> SinkError {
        match &self.state {
            State::Down(error) | State::Over(error) => error.clone(),
            State::Up => SinkError::outage("the connection changed"),
        }
    }
}

impl Connection {
    /// A line with a connection, or without one yet.
    pub(super) fn new(outgoing: Option<Outgoing>, shared: Arc<SharedStats>, policy: Policy) -> Self {
        let up = outgoing.is_some();
        let state = if up { State::Up } else { State::Down(SinkError::outage("not connected yet")) };
        let status = Status { state, epoch: u64::from(up), confirmed: 0, close: None, closed: false };
        let connection = Self {
            status: watch::Sender::new(status),
            outgoing: Mutex::new(outgoing),
            stats: ConnectionStats::default(),
            shared,
            policy,
            last_ping: AtomicU64::new(0),
            heartbeat: Heartbeat::new(),
        };
        if up {
            connection.count(&FrameStats { connections: 1, ..FrameStats::default() });
        }
        connection
    }

    pub(super) fn count(&self, more: &FrameStats) {
        self.stats.add(more);
        self.shared.add(more);
    }

    pub(super) fn stats(&self) -> FrameStats {
        self.stats.stats()
    }

    /// Takes a new connection up. Returns the half that reads.
    pub(super) async fn install(&self, socket: Socket) -> Incoming {
        *self.outgoing.lock().await = Some(socket.outgoing);
        self.heartbeat.reset();
        self.count(&FrameStats { connections: 1, ..FrameStats::default() });
        self.status.send_modify(|status| {
            status.epoch += 1;
            status.state = State::Up;
        });
        socket.incoming
    }

    /// Notes why there is no connection for now.
    pub(super) fn mark_down(&self, error: SinkError) {
        self.status.send_modify(|status| status.state = State::Down(error.with_kind(ErrorKind::Outage)));
    }

    /// Ends it for good, unless it is over already.
    pub(super) fn end(&self, error: SinkError) {
        self.status.send_if_modified(|status| {
            let ends = !status.is_over();
            if ends {
                status.state = State::Over(error);
            }
            ends
        });
    }

    pub(super) fn is_over(&self) -> bool {
        self.status.borrow().is_over()
    }

    /// Ends this connection, unless it is over already: for now if it is worth coming back and that was asked for.
    fn lose(&self, epoch: u64, reconnects: bool, error: BoxError) {
        self.status.send_if_modified(|status| {
            let ends = status.is_up(epoch);
            if ends {
                debug!(%error, "a WebSocket connection has ended");
                status.state = if reconnects && self.policy.reconnects {
                    State::Down(SinkError::outage(error))
                } else {
                    State::Over(SinkError::refused(format!("final: {error}")))
                };
            }
            ends
        });
    }

    /// Gives up a peer that is stuck or gone. One for which no other connection is opened is told why.
    fn give_up(&self, epoch: u64, why: String, close: Close) {
        self.lose(epoch, true, why.into());
        if self.is_over() {
            self.status.send_modify(|status| {
                status.close.get_or_insert(close);
            });
        }
    }

    /// Asks the task to hang up, and waits until it has.
    pub(super) async fn close(&self, close: Close) {
        self.status.send_modify(|status| {
            status.close.get_or_insert(close);
            status.closed = true;
        });
        self.reached(Status::is_over).await;
    }

    /// Waits until a connection is up, or will never be.
    pub(super) async fn ready(&self) -> Result<(), SinkError> {
        self.reached(Status::is_settled).await;
        let status = self.status.borrow();
        if status.is_over() { Err(status.why()) } else { Ok(()) }
    }

    /// Waits until there never will be a connection again, although the sink was not closed, and says why.
    pub(super) async fn gone(&self) -> SinkError {
        self.reached(|status| status.is_over() && !status.closed).await;
        self.status.borrow().why()
    }

    /// Why there is no connection, if there is none.
    pub(super) fn why(&self) -> SinkError {
        self.status.borrow().why()
    }

    async fn reached(&self, wanted: impl Fn(&Status) -> bool) {
        // The sender is `self.status`, so it can't be gone.
        drop(self.status.subscribe().wait_for(|status| wanted(status)).await);
    }

    /// Waits until this side is to hang up and there is no connection whose peer would have to be told.
    pub(super) async fn close_requested_while_down(&self) {
        self.reached(|status| status.close.is_some() && matches!(status.state, State::Down(_))).await;
    }

    /// Waits for its turn to feed, which others can't take before it is dropped.
    pub(super) async fn write_guard(&self) -> Result<WriteGuard<'_>, SinkError> {
        let outgoing = self.outgoing.lock().await;
        let status = self.status.borrow();
        match &status.state {
            State::Up if status.close.is_none() => Ok(WriteGuard { connection: self, epoch: status.epoch, outgoing }),
            State::Up => Err(closed()),
            State::Down(_) | State::Over(_) => Err(status.why()),
        }
    }

    /// Reads the connection until it ends, from either side; then says goodbye.
    pub(super) async fn listen(&self, mut incoming: Incoming, messages: &mut Option<mpsc::Sender<Message>>) {
        let epoch = self.status.borrow().epoch;
        let ended = {
            let told = self.reached(|status| !status.is_up(epoch) || status.close.is_some());
            tokio::select! {
                biased;
                () = told => false,
                ended = self.read(epoch, &mut incoming, messages) => ended,
                () = self.keep_alive(epoch) => false,
            }
        };
        let close = self.status.borrow().close.clone();
        let is_over = close.is_some();
        if !ended {
            let limit = if is_over { CLOSE_TIMEOUT } else { SHORT_TIMEOUT };
            // A peer that does not answer in time is not waited for.
            let _ = timeout(limit, self.close_handshake(close, &mut incoming)).await;
        }
        if is_over {
            self.end(closed());
        }
        *self.outgoing.lock().await = None;
    }

    /// Reads until the connection is lost, or the peer closes it. Says whether there is nothing more to read.
    async fn read(&self, epoch: u64, incoming: &mut Incoming, messages: &mut Option<mpsc::Sender<Message>>) -> bool {
        loop {
            let item = incoming.next().await;
            self.heartbeat.record_sign_of_life();
            match item {
                Some(Ok(Message::Close(close))) => {
                    let reconnects = close.as_ref().is_some_and(|close| self.reconnects_on(close));
                    let reason = close.map_or("no code".to_owned(), |close| close.to_string());
                    self.lose(epoch, reconnects, format!("the peer closed the connection: {reason}").into());
                    return false;
                }
                Some(Ok(Message::Pong(payload))) => self.record_pong(&payload),
                // The library has the answer ready.
                Some(Ok(Message::Ping(_))) if self.heartbeat.ping() => self.answer_pings().await,
                Some(Ok(Message::Ping(_))) => {}
                Some(Ok(message)) => {
                    self.count(&FrameStats { received: 1, ..FrameStats::default() });
                    self.forward(message, messages).await;
                }
                Some(Err(error)) => {
                    self.lose(epoch, true, error);
                    return true;
                }
                None => {
                    self.lose(epoch, true, "the connection ended without a close".into());
                    return true;
                }
            }
        }
    }

    /// Hands a message of the peer to the receiver, if there is one, and waits for room.
    async fn forward(&self, message: Message, messages: &mut Option<mpsc::Sender<Message>>) {
        let Some(sender) = messages else { return };
        let sent = match sender.try_send(message) {
            Err(TrySendError::Full(message)) => {
                self.heartbeat.set_paused(true);
                let sent = sender.send(message).await;
                self.heartbeat.set_paused(false);
                sent.is_ok()
            }
            sent => sent.is_ok(),
        };
        if !sent {
            *messages = None;
        }
    }

    /// Asks the user's rule. One that panics is taken for the usual one.
    fn reconnects_on(&self, close: &Close) -> bool {
        panics::catch(|| (self.policy.reconnect_on)(close)).unwrap_or_else(|panic| {
            let message = panics::message(&*panic);
            error!(message, "the rule panicked that says after which closes a WebSocket comes back");
            close.is_passing()
        })
    }

    /// The number of the next ping.
    pub(super) fn next_ping(&self) -> u64 {
        self.last_ping.fetch_add(1, Ordering::Relaxed) + 1
    }

    fn record_pong(&self, payload: &[u8]) {
        // Pongs that nobody asked for are allowed; those of ours carry a number that was asked.
        let Ok(number) = payload.try_into().map(u64::from_be_bytes) else { return };
        if number > self.last_ping.load(Ordering::Relaxed) {
            return;
        }
        self.status.send_if_modified(|status| {
            let is_newer = number > status.confirmed;
            status.confirmed = status.confirmed.max(number);
            is_newer
        });
    }

    /// Tells the peer why, and reads until it has closed its side.
    async fn close_handshake(&self, close: Option<Close>, incoming: &mut Incoming) {
        let tell = async {
            if let Some(close) = close
                && let Some(outgoing) = self.outgoing.lock().await.as_mut()
                && outgoing.send(Message::Close(Some(close))).await.is_err()
            {
                return;
            }
            pending().await
        };
        let hear = async { while let Some(Ok(_)) = incoming.next().await {} };
        tokio::select! {
            () = tell => {}
            () = hear => {}
        }
    }
}

/// What a peer is told that takes nothing. Not 1008, a broken rule, which clients take for final: a laptop that slept may
/// come back, and gets a snapshot.
pub(super) fn too_slow() -> Close {
    Close::new(Close::TRY_AGAIN, "too slow")
}

/// What a sink says that was closed by this side.
pub(super) fn closed() -> SinkError {
    SinkError::refused("the WebSocket sink is closed")
}
