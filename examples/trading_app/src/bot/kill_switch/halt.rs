//! Whether the bot may trade. `trader` asks before each decision, `risk` before each write, and `kill` sets it.

use std::{
    mem,
    sync::{
        Arc, PoisonError,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
};

use roundlot::market::{ClientOrderId, Order, Symbol};
use tokio::sync::{Mutex, MutexGuard};

/// A clone is the same switch.
#[derive(Clone, Default)]
pub struct Halt {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    halted: AtomicBool,
    /// Held while the bot hands in what it has decided, so that a halt can wait for the last of it.
    deciding: Mutex<()>,
    /// Orders that the switch has canceled at the venue, until the bot hears of it.
    canceled: std::sync::Mutex<Vec<(Symbol, ClientOrderId)>>,
}

impl Halt {
    /// Leave to decide and to hand in orders, as long as the guard lives; `None` while the bot is halted.
    pub async fn leave(&self) -> Option<MutexGuard<'_, ()>> {
        if self.is_halted() {
            return None;
        }
        let guard = self.shared.deciding.lock().await;
        // It may have been halted while this waited.
        (!self.is_halted()).then_some(guard)
    }

    pub fn is_halted(&self) -> bool {
        self.shared.halted.load(SeqCst)
    }

    /// From now on no leave is given. What was given goes on: see [`quiet`](Self::quiet).
    pub fn halt(&self) {
        self.shared.halted.store(true, SeqCst);
    }

    /// Waits until nobody has leave any more.
    pub async fn quiet(&self) {
        drop(self.shared.deciding.lock().await);
    }

    /// Notes an order that was canceled without the bot's doing.
    pub fn note_canceled(&self, order: &Order) {
        self.canceled().push((order.symbol(), order.id()));
    }

    /// The orders that were canceled without the bot's doing since this was called last.
    pub fn take_canceled(&self) -> Vec<(Symbol, ClientOrderId)> {
        mem::take(&mut *self.canceled())
    }

    fn canceled(&self) -> std::sync::MutexGuard<'_, Vec<(Symbol, ClientOrderId)>> {
        self.shared.canceled.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn lift(&self) {
        self.shared.halted.store(false, SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    #[tokio::test]
    async fn a_halt_waits_for_the_last_decision() {
        let halt = Halt::default();
        let leave = halt.leave().await.unwrap();
        halt.halt();
        assert!(halt.leave().await.is_none());
        assert!(halt.quiet().now_or_never().is_none());
        drop(leave);
        halt.quiet().await;
        halt.lift();
        assert!(halt.leave().await.is_some());
    }
}
