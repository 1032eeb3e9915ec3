//! The switch between trading and halted. `trader` asks [`Halt`] for a permit before each decision, `gate` asks before
//! each write, and the kill switch halts and lifts.
//!
//! Invariant: once [`Halt::halt`] and then [`Halt::idle`] have returned, no decision is being handed in.

use std::{
    mem,
    sync::{
        Arc, PoisonError,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
};

use roundlot::market::{ClientOrderId, Order, Symbol};
use tokio::sync::{Mutex, MutexGuard};

/// The state of the bot. A clone shares it.
#[derive(Clone, Default)]
pub struct Halt {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    halted: AtomicBool,
    /// Lock that the bot holds while it hands in a decision, so that a halt can wait for the last one.
    deciding: Mutex<()>,
    /// Orders that the kill switch has canceled at the venue. The bot takes them to tell the strategy.
    canceled: std::sync::Mutex<Vec<(Symbol, ClientOrderId)>>,
}

impl Halt {
    /// Permits one decision, while the guard lives; `None` while the bot is halted.
    pub async fn permit(&self) -> Option<MutexGuard<'_, ()>> {
        if self.is_halted() {
            return None;
        }
        let guard = self.shared.deciding.lock().await;
        // The bot may have been halted while this call waited.
        (!self.is_halted()).then_some(guard)
    }

    pub fn is_halted(&self) -> bool {
        self.shared.halted.load(SeqCst)
    }

    /// Stops giving permits. A permit that is out stays valid: see [`idle`](Self::idle).
    pub fn halt(&self) {
        self.shared.halted.store(true, SeqCst);
    }

    /// Gives permits again.
    pub fn lift(&self) {
        self.shared.halted.store(false, SeqCst);
    }

    /// Waits until no permit is out.
    pub async fn idle(&self) {
        drop(self.shared.deciding.lock().await);
    }

    /// Notes an order that the kill switch has canceled.
    pub fn note_canceled(&self, order: &Order) {
        self.canceled().push((order.symbol(), order.id()));
    }

    /// Takes the orders that were noted since the last call.
    pub fn take_canceled(&self) -> Vec<(Symbol, ClientOrderId)> {
        mem::take(&mut *self.canceled())
    }

    fn canceled(&self) -> std::sync::MutexGuard<'_, Vec<(Symbol, ClientOrderId)>> {
        self.shared.canceled.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    #[tokio::test]
    async fn a_halt_waits_for_the_last_decision() {
        let halt = Halt::default();
        let permit = halt.permit().await.unwrap();
        halt.halt();
        assert!(halt.permit().await.is_none());
        assert!(halt.idle().now_or_never().is_none());
        drop(permit);
        halt.idle().await;
        halt.lift();
        assert!(halt.permit().await.is_some());
    }
}
