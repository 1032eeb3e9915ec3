//! The kill switch: no new decisions, nothing on its way to the venue that adds risk, nothing left there that does.
//! `page` has the button. What adds risk and what reduces it is said in `risk`.

use std::{
    collections::HashSet,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use roundlot::{
    Closed, Handle,
    market::{Order, TradeOp},
};
use tokio::time::timeout;

use crate::{
    halt::Halt,
    numbers,
    risk::{Gate, Sorted},
    venue::VenueOrderId,
};

/// How long the switch waits for the bot's last decision. Only a venue that hangs keeps it for longer.
const LAST_DECISION: Duration = Duration::from_millis(500);

/// How often orders at the venue are canceled, until none is left that adds risk: those that rest, then those that were on
/// their way when the switch was pulled, then those that a busy venue has refused to cancel.
const ROUNDS: u32 = 5;

/// A clone is the same switch.
#[derive(Clone)]
pub struct KillSwitch {
    desk: Handle<TradeOp, VenueOrderId>,
    halt: Halt,
    gate: Gate,
    /// Locked while orders at the venue are canceled: once at a time.
    canceling: Arc<tokio::sync::Mutex<()>>,
}

/// What a pull of the switch has come to so far. A clone is the same tally.
#[derive(Clone, Default)]
pub struct Tally {
    counts: Arc<Mutex<Counts>>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counts {
    /// Orders that were taken out of the buffer, since they add risk.
    pub withdrawn: u64,
    /// Cancels and moved stops that waited and leave all the same.
    pub changes: u64,
    /// Orders that waited and leave, since they only reduce.
    pub reducing: u64,
    /// Orders that the venue has canceled on behalf of the switch.
    pub canceled: u64,
    /// Orders that add risk and that the venue still has.
    pub failed: u64,
    /// Orders that only reduce, and stay at the venue.
    pub kept: u64,
    /// Nothing more will be done.
    pub done: bool,
}

impl KillSwitch {
    pub fn new(desk: Handle<TradeOp, VenueOrderId>, halt: Halt, gate: Gate) -> Self {
        Self { desk, halt, gate, canceling: Arc::default() }
    }

    pub fn halt(&self) -> &Halt {
        &self.halt
    }

    /// Halts the bot, withdraws what adds risk, lets the rest go, and cancels at the venue what adds risk there. It may be
    /// pulled again at any time.
    ///
    /// It takes as long as the venue: dropped before its end, it stops where it is, and the bot stays halted.
    pub async fn pull(&self, tally: &Tally) -> Result<(), Closed> {
        self.withdraw(tally).await?;
        // Cancels have to leave, also if somebody has paused the batcher.
        self.desk.resume().await?;
        let _alone = self.canceling.lock().await;
        for _ in 0..ROUNDS {
            if !self.cancel_resting(tally).await? {
                break;
            }
        }
        let Sorted { reducing, adding } = self.gate.resting();
        let mut counts = tally.lock();
        (counts.kept, counts.failed, counts.done) = (reducing.len() as u64, adding.len() as u64, true);
        Ok(())
    }

    /// Halts the bot, and takes what adds risk out of the buffer. The batcher is paused afterwards.
    pub async fn withdraw(&self, tally: &Tally) -> Result<(), Closed> {
        // First the bot: otherwise it would fill the buffer again at the next price.
        self.halt.halt();
        self.desk.pause().await?;
        // This makes room, without which the last decision could not be handed in.
        self.take_out(tally).await?;
        let _ = timeout(LAST_DECISION, self.halt.quiet()).await;
        self.take_out(tally).await
    }

    /// Waits until no orders are being canceled.
    pub async fn quiet(&self) {
        drop(self.canceling.lock().await);
    }

    async fn take_out(&self, tally: &Tally) -> Result<(), Closed> {
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
        self.desk.withdraw(look).await?;
        let (orders, changes): (Vec<Order>, u64) = {
            let mut seen = waiting.lock().unwrap_or_else(PoisonError::into_inner);
            (std::mem::take(&mut seen.0), seen.1)
        };
        let stay: HashSet<Order> = self.gate.exposure().sort(orders).reducing.into_iter().collect();
        let reducing = stay.len() as u64;
        // What has come in the meantime was not judged, and goes.
        let adds = move |op: &TradeOp| op.as_order().is_some_and(|order| !stay.contains(order));
        let gone = self.desk.withdraw(adds).await?.len() as u64;
        let mut counts = tally.lock();
        counts.withdrawn += gone;
        (counts.changes, counts.reducing) = (changes, reducing);
        Ok(())
    }

    /// Cancels what rests at the venue and adds risk, and waits until all that was handed in before has its verdict.
    /// Returns whether there may be more: a round that has nothing to cancel is only the last if nothing was on its way.
    async fn cancel_resting(&self, tally: &Tally) -> Result<bool, Closed> {
        if !self.halt.is_halted() {
            return Ok(false);
        }
        let Sorted { adding, .. } = self.gate.resting();
        let under_way = self.desk.stats().in_flight + self.desk.stats().waiting > 0;
        let mut acks = Vec::new();
        for order in &adding {
            // A batcher that is closed is told by the flush.
            let Ok(ack) = self.desk.submit(order.cancel().into()).await else { break };
            acks.push((order, ack));
        }
        let _ = self.desk.flush().await?; // the acks tell what the report would
        for (order, ack) in acks {
            // An order that was filled meanwhile is not there any more.
            if ack.await.is_ok() {
                self.halt.note_canceled(order);
                tally.lock().canceled += 1;
            }
        }
        Ok(under_way || !adding.is_empty())
    }
}

impl Tally {
    pub fn counts(&self) -> Counts {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [withdrawn, changes, reducing] = [self.withdrawn, self.changes, self.reducing].map(numbers::count);
        let [canceled, failed, kept] = [self.canceled, self.failed, self.kept].map(numbers::count);
        write!(
            f,
            "{withdrawn} waiting orders withdrawn; let go: {changes} cancels and moved stops, {reducing} orders "
        )?;
        write!(f, "that reduce; {canceled} orders canceled at the venue")?;
        if self.done {
            write!(f, ", {failed} failed; {kept} that reduce stay there")
        } else {
            write!(f, " so far: it has not answered all, and this goes on")
        }
    }
}

#[cfg(test)]
#[path = "kill_tests.rs"]
mod tests;
