//! [`Heartbeat`]: the signs of life of the peer. A silent peer is sent a ping, and is given up if it does not answer in
//! time. The task that reads the connection runs it; writers wait for it only while a ping is fed.

use std::{
    future::pending,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU32, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::time::{Instant, sleep, timeout};

use super::Connection;
use crate::sink::websocket::Close;

/// Pings of the peer accepted before the answers to earlier ones were flushed. Each answer has up to 131 bytes, so a
/// peer that never reads makes this side hold at most 130 kB.
const MAX_PONGS_WAITING: u32 = 1024;

/// Signs of life of the peer on the current connection.
pub(super) struct Heartbeat {
    /// Time of the last sign of life: a frame came in, or the peer took bytes that had been held up.
    last_heard: Mutex<Instant>,
    /// Set while reading is paused because the receiver of messages is behind: silence means nothing then.
    paused: AtomicBool,
    /// Pings of the peer since the last complete flush.
    pings: AtomicU32,
}

impl Heartbeat {
    pub(super) fn new() -> Self {
        Self { last_heard: Mutex::new(Instant::now()), paused: AtomicBool::new(false), pings: AtomicU32::new(0) }
    }

    /// Resets the state for a new connection.
    pub(super) fn reset(&self) {
        self.flushed();
        self.set_paused(false);
    }

    pub(super) fn record_sign_of_life(&self) {
        *self.last_heard() = Instant::now();
    }

    /// Records that this side pauses or resumes reading.
    pub(super) fn set_paused(&self, is_paused: bool) {
        self.record_sign_of_life();
        self.paused.store(is_paused, Relaxed);
    }

    /// Counts a ping of the peer. Returns true if too many answers may be queued.
    pub(super) fn ping(&self) -> bool {
        self.pings.fetch_add(1, Relaxed) >= MAX_PONGS_WAITING
    }

    pub(super) fn flushed(&self) {
        self.pings.store(0, Relaxed);
    }

    /// Time since the last sign of life; zero while reading is paused.
    fn silence(&self) -> Duration {
        if self.paused.load(Relaxed) { Duration::ZERO } else { self.last_heard().elapsed() }
    }

    /// Nothing that can panic runs under the lock.
    fn last_heard(&self) -> MutexGuard<'_, Instant> {
        self.last_heard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Connection {
    /// Pings the peer each time it falls silent, and gives the connection up if it does not answer. Never returns by
    /// itself.
    pub(super) async fn keep_alive(&self, epoch: u64) {
        let (every, stall) = (self.policy.ping_every, self.policy.stall);
        if every.is_zero() {
            return pending().await;
        }
        loop {
            sleep(every.saturating_sub(self.heartbeat.silence())).await;
            if self.heartbeat.silence() < every {
                continue;
            }
            // The connection has ended, with the error recorded already.
            let Ok(mut writer) = self.write_guard().await else { return pending().await };
            if self.heartbeat.silence() < every {
                // A write before this one saw a sign of life.
                continue;
            }
            let Ok(number) = writer.ping().await else { return pending().await };
            // Releases the guard: writes go on during the wait.
            drop(writer);
            let answered = self.reached(|status| status.confirmed >= number || !status.is_up(epoch));
            if timeout(stall, answered).await.is_err() && self.heartbeat.silence() >= stall {
                let close = Close::new(Close::TRY_AGAIN, "no answer to a ping");
                self.give_up(epoch, format!("the peer answered no ping for {stall:?}"), close);
                return pending().await;
            }
        }
    }

    /// Flushes the answers to the peer's pings before anything more is read.
    pub(super) async fn answer_pings(&self) {
        if let Ok(mut writer) = self.write_guard().await {
            // An error is recorded already: it ends the connection.
            let _ = writer.flush().await;
        }
    }
}
