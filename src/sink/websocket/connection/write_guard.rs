//! [`WriteGuard`]: the exclusive right to feed one connection. A message is fed whole or not at all, and every step
//! ends when the connection does or when the peer stalls. Held by one write or one ping at a time.

use std::{
    future::poll_fn,
    pin::Pin,
    task::{Context, Poll, ready},
};

use futures::poll;
use tokio::{sync::MutexGuard, time::timeout};

use super::{Connection, SHORT_TIMEOUT, too_slow};
use crate::sink::{
    SinkError,
    websocket::{
        Message,
        socket::{BoxError, Outgoing},
    },
};

/// Exclusive right to feed messages. Dropped at any time, it leaves a connection on which each message is whole.
pub(crate) struct WriteGuard<'a> {
    pub(super) connection: &'a Connection,
    pub(super) epoch: u64,
    pub(super) outgoing: MutexGuard<'a, Option<Outgoing>>,
}

/// Error of a feed. If `is_begun`, the message may have been fed.
pub(crate) struct NotFed {
    pub(crate) error: SinkError,
    pub(crate) is_begun: bool,
}

impl WriteGuard<'_> {
    /// Feeds one message, whole or not at all: between the check for room and the feed there is no await.
    pub(crate) async fn feed(&mut self, message: Message) -> Result<(), NotFed> {
        let mut message = Some(message);
        let fed = self.drive(|mut outgoing, cx| {
            if let Err(error) = ready!(outgoing.as_mut().poll_ready(cx)) {
                return Err(error).into();
            }
            message.take().map_or(Ok(()), |message| outgoing.start_send(message)).into()
        });
        fed.await.map_err(|error| NotFed { error, is_begun: message.is_none() })
    }

    pub(crate) async fn flush(&mut self) -> Result<(), SinkError> {
        self.drive(|outgoing, cx| outgoing.poll_flush(cx)).await?;
        self.connection.heartbeat.flushed();
        Ok(())
    }

    /// Sends a ping, which the peer answers after what was sent before. Returns the number of the ping.
    pub(crate) async fn ping(&mut self) -> Result<u64, SinkError> {
        let number = self.connection.next_ping();
        self.feed(Message::Ping(number.to_be_bytes().into())).await.map_err(|not_fed| not_fed.error)?;
        self.flush().await?;
        Ok(number)
    }

    /// Waits until the peer has answered the ping of this number, or a later one.
    pub(crate) async fn confirmed(&mut self, number: u64) -> Result<(), SinkError> {
        let (connection, epoch) = (self.connection, self.epoch);
        let answered = connection.reached(|status| status.confirmed >= number || !status.is_up(epoch));
        match timeout(connection.policy.stall, answered).await {
            Ok(()) if connection.status.borrow().confirmed >= number => Ok(()),
            Ok(()) => Err(connection.status.borrow().why()),
            Err(_) => Err(self.is_stuck("confirmed")),
        }
    }

    /// Drives one step of the write half, as long as the connection is up and the peer makes progress.
    async fn drive(
        &mut self,
        mut step: impl FnMut(
            Pin<&mut (dyn futures::Sink<Message, Error = BoxError> + Send)>,
            &mut Context<'_>,
        ) -> Poll<Result<(), BoxError>>,
    ) -> Result<(), SinkError> {
        let (connection, epoch) = (self.connection, self.epoch);
        let Some(outgoing) = self.outgoing.as_mut() else {
            return Err(connection.status.borrow().why());
        };
        if !connection.status.borrow().is_up(epoch) {
            return Err(connection.status.borrow().why());
        }
        let mut done = poll_fn(|cx| step(outgoing.as_mut(), cx));
        let result = match poll!(&mut done) {
            // Fast path: most steps complete at the first poll and need no timer.
            Poll::Ready(result) => Ok(result),
            Poll::Pending => tokio::select! {
                // A message not fed before the connection ended has not landed.
                biased;
                () = connection.reached(|status| !status.is_up(epoch)) => return Err(connection.status.borrow().why()),
                result = timeout(connection.policy.stall, done) => {
                    // Progress after a wait is a sign of life.
                    if matches!(result, Ok(Ok(()))) {
                        connection.heartbeat.record_sign_of_life();
                    }
                    result
                }
            },
        };
        match result {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(self.fail(error).await),
            Err(_) => Err(self.is_stuck("took")),
        }
    }

    /// Handles a failed write. The reading side often knows why: it sees the peer's close.
    async fn fail(&mut self, error: BoxError) -> SinkError {
        let (connection, epoch) = (self.connection, self.epoch);
        let _ = timeout(SHORT_TIMEOUT, connection.reached(|status| !status.is_up(epoch))).await;
        connection.lose(epoch, true, error);
        connection.status.borrow().why()
    }

    /// Gives up a peer that has stalled for too long.
    fn is_stuck(&mut self, verb: &str) -> SinkError {
        let why = format!("the peer {verb} nothing for {:?}", self.connection.policy.stall);
        self.connection.give_up(self.epoch, why, too_slow());
        self.connection.why()
    }
}
