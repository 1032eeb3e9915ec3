//! [`Connection`]: the state of one sink's connection, shared by its writers and the task that reads. It is up, down
//! for now, or over; over is final, and the first error stands.

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

/// Time limit of the close handshake when this side closes: the peer may have a backlog to read before it sees the
/// close frame.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(10);

/// Time limit of short waits at the end of a connection, for the peer's end of it or for the reason of a failed write.
const SHORT_TIMEOUT: Duration = Duration::from_secs(1);

/// State of one connection, or of a client's connections one after the other.
pub(super) struct Connection {
    status: watch::Sender<Status>,
    /// The write half. The holder of the lock feeds, so frames of two writes never mix.
    outgoing: Mutex<Option<Outgoing>>,
    stats: ConnectionStats,
    shared: Arc<SharedStats>,
    pub(super) policy: Policy,
    /// Number of the last ping that was sent; pings count up from 1.
    last_ping: AtomicU64,
    heartbeat: Heartbeat,
}

/// Settings of the connection, fixed when the sink is made.
pub(super) struct Policy {
    /// Whether a lost connection is opened again at all: true for `WebSocket::connect`.
    pub(super) reconnects: bool,
    /// Decides which closes of the peer are worth a reconnect.
    pub(super) reconnect_on: Arc<dyn Fn(&Close) -> bool + Send + Sync>,
    /// Time that a peer may take nothing, or leave a ping unanswered.
    pub(super) stall: Duration,
    /// Silence of the peer before a ping is sent; zero: no pings.
    pub(super) ping_every: Duration,
}

#[derive(Clone)]
pub(super) struct Status {
    state: State,
    /// Connections so far; identifies the current one.
    epoch: u64,
    /// Number of the last ping that was answered.
    confirmed: u64,
    /// Close frame to be sent, once this side wants to close.
    close: Option<Close>,
    /// Set when the sink was closed by its owner.
    closed: bool,
}

#[derive(Clone)]
enum State {
    Up,
    /// Down for now; the error says why, and is an outage.
    Down(SinkError),
    /// Down for good; the error says why.
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
    /// Creates the state, with a connection or without one yet.
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

    /// Installs a new connection. Returns its read half.
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

    /// Records why there is no connection for now.
    pub(super) fn mark_down(&self, error: SinkError) {
        self.status.send_modify(|status| status.state = State::Down(error.with_kind(ErrorKind::Outage)));
    }

    /// Ends the connection for good, unless it is over already.
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

    /// Ends connection `epoch`, unless it has ended already: for now if `reconnects` and the settings allow it, else
    /// for good.
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

    /// Gives up a stuck or silent peer. If no other connection will be opened, the peer is sent `close`.
    fn give_up(&self, epoch: u64, why: String, close: Close) {
        self.lose(epoch, true, why.into());
        if self.is_over() {
            self.status.send_modify(|status| {
                status.close.get_or_insert(close);
            });
        }
    }

    /// Asks the task to close the connection, and waits until it has.
    pub(super) async fn close(&self, close: Close) {
        self.status.send_modify(|status| {
            status.close.get_or_insert(close);
            status.closed = true;
        });
        self.reached(Status::is_over).await;
    }

    /// Waits until a connection is up, or never will be.
    pub(super) async fn ready(&self) -> Result<(), SinkError> {
        self.reached(Status::is_settled).await;
        let status = self.status.borrow();
        if status.is_over() { Err(status.why()) } else { Ok(()) }
    }

    /// Waits until the connection is over although the sink was not closed, and returns the reason.
    pub(super) async fn gone(&self) -> SinkError {
        self.reached(|status| status.is_over() && !status.closed).await;
        self.status.borrow().why()
    }

    /// Returns why there is no connection, if there is none.
    pub(super) fn why(&self) -> SinkError {
        self.status.borrow().why()
    }

    async fn reached(&self, wanted: impl Fn(&Status) -> bool) {
        // The wait cannot fail: `self.status` is the sender.
        drop(self.status.subscribe().wait_for(|status| wanted(status)).await);
    }

    /// Waits until this side wants to close and no connection is up: there is no peer to tell.
    pub(super) async fn close_requested_while_down(&self) {
        self.reached(|status| status.close.is_some() && matches!(status.state, State::Down(_))).await;
    }

    /// Waits for the exclusive right to feed, which lasts until the guard is dropped.
    pub(super) async fn write_guard(&self) -> Result<WriteGuard<'_>, SinkError> {
        let outgoing = self.outgoing.lock().await;
        let status = self.status.borrow();
        match &status.state {
            State::Up if status.close.is_none() => Ok(WriteGuard { connection: self, epoch: status.epoch, outgoing }),
            State::Up => Err(closed()),
            State::Down(_) | State::Over(_) => Err(status.why()),
        }
    }

    /// Reads the connection until either side ends it, then does the close handshake.
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
            // A peer that does not answer in time is not waited for any longer.
            let _ = timeout(limit, self.close_handshake(close, &mut incoming)).await;
        }
        if is_over {
            self.end(closed());
        }
        *self.outgoing.lock().await = None;
    }

    /// Reads until the connection is lost or the peer closes it. Returns true if nothing more can be read.
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
                // The library has queued the answer.
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

    /// Forwards a message of the peer to the receiver, if there is one, and waits for capacity.
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

    /// Calls the user's rule. After a panic the default rule decides.
    fn reconnects_on(&self, close: &Close) -> bool {
        panics::catch(|| (self.policy.reconnect_on)(close)).unwrap_or_else(|panic| {
            let panic = panics::message(&*panic);
            error!(panic, "the rule panicked that says after which closes a WebSocket comes back");
            close.is_passing()
        })
    }

    /// Returns the number of the next ping.
    pub(super) fn next_ping(&self) -> u64 {
        self.last_ping.fetch_add(1, Ordering::Relaxed) + 1
    }

    fn record_pong(&self, payload: &[u8]) {
        // Unsolicited pongs are allowed; an answer carries the number of a ping that was sent.
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

    /// Sends the close frame, and reads until the peer has closed its side.
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

/// Close for a stuck peer. Not 1008 (policy violation), which clients take for final: a laptop that slept may
/// reconnect, and gets a snapshot.
pub(super) fn too_slow() -> Close {
    Close::new(Close::TRY_AGAIN, "too slow")
}

/// Error of a sink that was closed by this side.
pub(super) fn closed() -> SinkError {
    SinkError::refused("the WebSocket sink is closed")
}
