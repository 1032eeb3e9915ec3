//! The kill switch: halts the bot, withdraws waiting orders that add risk, and cancels those that rest at the venue.
//! Orders that only reduce a position leave and stay. [`KillSwitch`] acts, [`Halt`] keeps the bot from trading,
//! [`Gate`] guards the venue, and `exposure` tells which orders reduce. The live page of the demo pulls the switch.
//!
//! Invariant: between a pull and the lift of the halt, no fill makes a position grow or turn.
//!
//! Bots that share a log can't withdraw each other's orders. There a pull pauses the log, which stops all of them, and cancels orders
//! at the venue itself. All that waits stays in the log until orders are resumed: see [`KillSwitch::stop_all`].

mod exposure;
mod gate;
mod halt;

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use roundlot::market::{Order, TradeOp};
use tokio::time::{sleep, timeout};

use super::{
    Error,
    orders::Orders,
    venue::{Venue, wire::OpResult},
};
use exposure::Sorted;
pub use {gate::Gate, halt::Halt};

/// Maximum time to wait until the bot has handed in its last decision. Only a hanging venue makes the wait this long.
const LAST_DECISION: Duration = Duration::from_millis(500);

/// Maximum number of rounds of cancels at the venue. One is for orders that rest, one for orders that were in flight at
/// the pull, and three for cancels that a busy venue has refused.
const MAX_ROUNDS: u32 = 5;

/// Pause between two of these rounds where bots share a log: many times what a call takes on its way to the venue.
const IN_TRANSIT: Duration = Duration::from_millis(100);

/// The lane of the switch at the venue. The shards of a log have lower numbers.
const LANE: u16 = u16::MAX;

/// The switch. A clone is the same switch.
#[derive(Clone)]
pub struct KillSwitch {
    orders: Orders,
    halt: Halt,
    gate: Gate,
    /// Lock that a pull holds while it cancels orders at the venue, so that only one pull at a time does.
    canceling: Arc<tokio::sync::Mutex<()>>,
}

/// Counts of a pull that is under way. A clone shares them.
#[derive(Clone, Default)]
pub struct SharedCounts {
    counts: Arc<Mutex<Counts>>,
}

/// Counts of a pull. Each counts orders, unless its comment names another unit.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counts {
    /// Number withdrawn from the buffer because they add risk.
    pub withdrawn: u64,
    /// Number of waiting cancels and moved stops, which leave all the same.
    pub changes: u64,
    /// Number of waiting orders that leave because they only reduce.
    pub reducing: u64,
    /// Number canceled at the venue on behalf of the switch.
    pub canceled: u64,
    /// Number still at the venue although they add risk.
    pub failed: u64,
    /// Number left at the venue because they only reduce.
    pub kept: u64,
    /// Whether all bots that share the log are paused, and nothing was withdrawn.
    pub paused_all: bool,
    /// Whether the pull is over.
    pub done: bool,
}

impl KillSwitch {
    pub fn new(orders: Orders, halt: Halt, gate: Gate) -> Self {
        Self { orders, halt, gate, canceling: Arc::default() }
    }

    pub fn halt(&self) -> &Halt {
        &self.halt
    }

    /// Halts the bot, withdraws waiting orders that add risk, lets the other ops leave, and cancels resting orders that
    /// add risk. May be called again at any time.
    ///
    /// Takes as long as the venue does. If the future is dropped, the pull stops where it is, and the bot stays halted.
    pub async fn pull(&self, counts: &SharedCounts) -> Result<(), Error> {
        if self.orders.is_shared() {
            return self.stop_all(counts).await;
        }
        self.withdraw(counts).await?;
        // Cancels have to leave, also if the batcher was paused before.
        self.orders.resume().await?;
        let _alone = self.canceling.lock().await;
        for _ in 0..MAX_ROUNDS {
            if !self.cancel_resting(counts).await? {
                break;
            }
        }
        let Sorted { reducing, adding } = self.gate.resting().await?;
        let mut counts = counts.lock();
        (counts.kept, counts.failed, counts.done) = (reducing.len() as u64, adding.len() as u64, true);
        Ok(())
    }

    /// Stops all bots that share the log: pauses it, so that none of them sends or decides, and cancels resting orders that add risk. The
    /// pause stays until orders are resumed at one of the bots. Waiting entries and exits expire by their age; younger ones are sent at
    /// the resume.
    async fn stop_all(&self, counts: &SharedCounts) -> Result<(), Error> {
        self.orders.pause().await?;
        counts.lock().paused_all = true;
        let _alone = self.canceling.lock().await;
        let Venue::Remote(venue) = self.gate.venue.of_lane(LANE, LANE) else {
            return Err("bots that share a log have a venue that is another program".into());
        };
        for round in 0..MAX_ROUNDS {
            // A call that was made just before the pause is over by the second round, whichever bot has made it.
            venue.idle().await?;
            let Sorted { adding, .. } = self.gate.resting().await?;
            if round > 0 && adding.is_empty() {
                break;
            }
            if !adding.is_empty() {
                let results = venue.cancel(&adding).await?;
                counts.lock().canceled +=
                    results.iter().filter(|it| matches!(it, OpResult::Accepted(_))).count() as u64;
            }
            sleep(IN_TRANSIT).await;
        }
        let Sorted { reducing, adding } = self.gate.resting().await?;
        let mut counts = counts.lock();
        (counts.kept, counts.failed, counts.done) = (reducing.len() as u64, adding.len() as u64, true);
        Ok(())
    }

    /// Halts the bot and withdraws waiting orders that add risk, unless bots share the log. Leaves the batcher paused.
    pub async fn withdraw(&self, counts: &SharedCounts) -> Result<(), Error> {
        // The bot is halted first: otherwise it would fill the buffer again at the next price.
        self.halt.halt();
        self.orders.pause().await?;
        // Withdrawn orders make room, without which the last decision could not be handed in.
        self.withdraw_adding(counts).await?;
        let _ = timeout(LAST_DECISION, self.halt.idle()).await;
        self.withdraw_adding(counts).await
    }

    /// Waits until no pull is canceling orders.
    pub async fn idle(&self) {
        drop(self.canceling.lock().await);
    }

    /// Withdraws waiting orders that add risk, and counts the ops that stay.
    async fn withdraw_adding(&self, counts: &SharedCounts) -> Result<(), Error> {
        let waiting = Arc::new(Mutex::new((Vec::new(), 0)));
        let seen = Arc::clone(&waiting);
        let look = move |op: &TradeOp| {
            let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
            match op.as_order() {
                Some(order) => seen.0.push(order.clone()),
                None => seen.1 += 1,
            }
            false
        };
        self.orders.withdraw(look).await?;
        let (orders, changes): (Vec<Order>, u64) = {
            let mut seen = waiting.lock().unwrap_or_else(PoisonError::into_inner);
            (std::mem::take(&mut seen.0), seen.1)
        };
        let stay: HashSet<Order> = self.gate.exposure().await?.sort(orders).reducing.into_iter().collect();
        let reducing = stay.len() as u64;
        // Orders that came in between were not judged, and are withdrawn as well.
        let adds = move |op: &TradeOp| op.as_order().is_some_and(|order| !stay.contains(order));
        let withdrawn = self.orders.withdraw(adds).await?.len() as u64;
        let mut counts = counts.lock();
        counts.withdrawn += withdrawn;
        (counts.changes, counts.reducing) = (changes, reducing);
        Ok(())
    }

    /// Cancels resting orders that add risk, and waits until all earlier ops are settled. Returns whether there may be
    /// more: a round without cancels is the last one only if no op was waiting or in flight.
    async fn cancel_resting(&self, counts: &SharedCounts) -> Result<bool, Error> {
        if !self.halt.is_halted() {
            return Ok(false);
        }
        let Sorted { adding, .. } = self.gate.resting().await?;
        let under_way = self.orders.stats().in_flight + self.orders.stats().waiting > 0;
        let mut acks = Vec::new();
        for order in &adding {
            // The flush below reports a closed batcher.
            let Ok(ack) = self.orders.submit(order.cancel().into()).await else { break };
            acks.push((order, ack));
        }
        let _ = self.orders.flush().await?; // the acks carry the outcomes
        for (order, ack) in acks {
            // An order that has filled meanwhile cannot be canceled.
            if ack.outcome().await.result.is_ok() {
                self.halt.note_canceled(order);
                counts.lock().canceled += 1;
            }
        }
        Ok(under_way || !adding.is_empty())
    }
}

impl SharedCounts {
    pub fn counts(&self) -> Counts {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
