//! The pulse of a connection: whether its peer is still there. A peer that is silent is asked by a ping, and given up if it
//! does not answer in time. The task that reads the connection runs this; writes wait for it only while a ping is fed.

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

/// Pings of the peer that may come in before the answers to earlier ones have left. Each answer has up to 131 bytes, so
/// that a peer which asks and never reads makes this side hold some 130 kB.
const MAX_PONGS_WAITING: u32 = 1024;

/// Signs of life that the peer has given.
pub(super) struct Heartbeat {
    /// When the peer gave the last one: a frame came in, or it took something that had been held up.
    last_heard: Mutex<Instant>,
    /// Set while nothing is read, because the receiver of the peer's messages is behind: silence says nothing then.
    paused: AtomicBool,
    /// Pings of the peer since everything was last flushed.
    pings: AtomicU32,
}

impl Heartbeat {
    pub(super) fn new() -> Self {
        Self { last_heard: Mutex::new(Instant::now()), paused: AtomicBool::new(false), pings: AtomicU32::new(0) }
    }

    /// Begins anew with a new connection.
    pub(super) fn reset(&self) {
        self.flushed();
        self.set_paused(false);
    }

    pub(super) fn record_sign_of_life(&self) {
        *self.last_heard() = Instant::now();
    }

    /// Whether this side stops reading, or goes on.
    pub(super) fn set_paused(&self, is_paused: bool) {
        self.record_sign_of_life();
        self.paused.store(is_paused, Relaxed);
    }

    /// Counts a ping of the peer. True if too many answers may be waiting.
    pub(super) fn ping(&self) -> bool {
        self.pings.fetch_add(1, Relaxed) >= MAX_PONGS_WAITING
    }

    pub(super) fn flushed(&self) {
        self.pings.store(0, Relaxed);
    }

    /// How long the peer has been silent.
    fn silence(&self) -> Duration {
        if self.paused.load(Relaxed) { Duration::ZERO } else { self.last_heard().elapsed() }
    }

    /// Nothing that can panic runs under the lock.
    fn last_heard(&self) -> MutexGuard<'_, Instant> {
        self.last_heard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Connection {
    /// Asks a silent peer whether it is there, as often as it falls silent, and gives the connection up if it does not
    /// answer. Never ends by itself.
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
            // An error is one of the connection, and noted as such already.
            let Ok(mut writer) = self.write_guard().await else { return pending().await };
            if self.heartbeat.silence() < every {
                // The write whose turn it was has heard of the peer.
                continue;
            }
            let Ok(number) = writer.ping().await else { return pending().await };
            // Writes go on meanwhile.
            drop(writer);
            let answered = self.reached(|status| status.confirmed >= number || !status.is_up(epoch));
            if timeout(stall, answered).await.is_err() && self.heartbeat.silence() >= stall {
                let close = Close::new(Close::TRY_AGAIN, "no answer to a ping");
                self.give_up(epoch, format!("the peer answered no ping for {stall:?}"), close);
                return pending().await;
            }
        }
    }

    /// Reads no more until the answers to the peer's pings have left.
    pub(super) async fn answer_pings(&self) {
        if let Ok(mut writer) = self.write_guard().await {
            // An error is noted already: the connection ends by it.
            let _ = writer.flush().await;
        }
    }
}
