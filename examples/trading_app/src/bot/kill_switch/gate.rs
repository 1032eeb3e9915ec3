//! The gate in front of the venue. While the bot is halted, only orders that reduce a position pass it, retries
//! included. `batchers` writes through the gate; the kill switch asks it which orders to withdraw and which to cancel.
//!
//! Invariant: an order that has passed is counted as in flight until its write ends. The order is in the book by then,
//! or the write has failed.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use roundlot::{
    Batch, Settled, Sink, SinkError,
    market::{Order, TradeOp},
    sink::Guarantee,
};

use super::{
    exposure::{Exposure, Sorted},
    halt::Halt,
};
use crate::bot::{
    Error,
    venue::{Account, Venue, VenueOrderId},
};

/// The venue behind its gate. A clone is the same gate.
#[derive(Clone)]
pub struct Gate {
    pub venue: Venue,
    halt: Halt,
    in_flight: Arc<Mutex<InFlight>>,
    /// Lock that a write holds while it is judged, until it counts as in flight.
    judging: Arc<tokio::sync::Mutex<()>>,
}

/// Orders of the writes that have passed the gate and not ended, by the number of the write.
#[derive(Default)]
struct InFlight {
    last: u64,
    orders: HashMap<u64, Vec<Order>>,
}

/// Reason given for an op that the gate refuses while the bot is halted.
const HALTED: &str = "trading is halted, and the op may add risk";

impl Gate {
    pub fn new(venue: impl Into<Venue>, halt: Halt) -> Self {
        Self { venue: venue.into(), halt, in_flight: Arc::default(), judging: Arc::default() }
    }

    /// Returns the same gate, in front of the lane of one of so many shards.
    pub fn of_shard(&self, shard: u16, shards: u16) -> Self {
        Self { venue: self.venue.of_lane(shard, shards), ..self.clone() }
    }

    /// Sorts the orders that rest at the venue. Orders in flight are not counted: once they rest, a later round cancels
    /// those that add risk. Counting them now could cancel a stop that protects meanwhile.
    pub async fn resting(&self) -> Result<Sorted, Error> {
        let Account { positions, resting } = self.venue.account().await?;
        Ok(Exposure::new(positions).sort(resting))
    }

    /// The exposure with all orders that rest at the venue or are in flight.
    pub async fn exposure(&self) -> Result<Exposure, Error> {
        // A write that was judged before a halt is in flight by then.
        let _judging = self.judging.lock().await;
        self.exposure_now().await
    }

    async fn exposure_now(&self) -> Result<Exposure, Error> {
        // Orders in flight come first. No order leaves that list before it is in the book, so each one is counted. One that has
        // filled in between counts twice, which errs to the safe side.
        let in_flight: Vec<Order> = self.in_flight().orders.values().flatten().cloned().collect();
        let Account { positions, resting } = self.venue.account().await?;
        let mut exposure = Exposure::new(positions);
        // The venue may hold an amended version of an order, so orders are compared by their ids.
        let rests = |order: &Order| resting.iter().any(|it| (it.symbol(), it.id()) == (order.symbol(), order.id()));
        let coming = in_flight.iter().filter(|order| !rests(order));
        resting.iter().chain(coming).for_each(|order| exposure.count(order));
        Ok(exposure)
    }

    /// Counts the orders of a batch as in flight. While the bot is halted, refuses orders that add risk, and amends of
    /// a price or a quantity. This bot sends no such amends, so the gate does not work out their effect on a position.
    async fn admit(&self, batch: &mut Batch<TradeOp, VenueOrderId>) -> Result<InFlightGuard, SinkError> {
        let _judging = self.judging.lock().await;
        let mut exposure = match self.halt.is_halted() {
            // Nothing has been sent, and without an answer nothing is.
            true => Some(self.exposure_now().await.map_err(SinkError::transient)?),
            false => None,
        };
        let mut orders = Vec::new();
        for i in 0..batch.len() {
            let passes = match &batch[i] {
                TradeOp::Order(order) => {
                    let admitted = exposure.as_mut().is_none_or(|exposure| exposure.admit(order));
                    orders.extend(admitted.then(|| order.clone()));
                    admitted
                }
                TradeOp::Amend(amend) => exposure.is_none() || (amend.price.is_none() && amend.quantity.is_none()),
                _ => true,
            };
            if !passes {
                batch.refuse(i, SinkError::refused(HALTED));
            }
        }
        let mut in_flight = self.in_flight();
        in_flight.last += 1;
        let number = in_flight.last;
        in_flight.orders.insert(number, orders);
        Ok(InFlightGuard { in_flight: Arc::clone(&self.in_flight), number })
    }

    fn in_flight(&self) -> MutexGuard<'_, InFlight> {
        self.in_flight.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Sink<TradeOp, VenueOrderId> for Gate {
    async fn write(&self, batch: &mut Batch<TradeOp, VenueOrderId>) -> Result<Settled, SinkError> {
        let _in_flight = self.admit(batch).await?;
        if batch.pending().is_empty() {
            return batch.settled();
        }
        self.venue.write(batch).await
    }

    fn guarantee(&self) -> Guarantee {
        self.venue.guarantee()
    }

    async fn reconcile(&self, batch: &mut Batch<TradeOp, VenueOrderId>) -> Result<(), SinkError> {
        self.venue.reconcile(batch).await
    }
}

/// Removes the orders of a write when the write ends, also if it is dropped.
struct InFlightGuard {
    in_flight: Arc<Mutex<InFlight>>,
    number: u64,
}

impl Drop for InFlightGuard {
    fn drop(&mut self) {
        self.in_flight.lock().unwrap_or_else(PoisonError::into_inner).orders.remove(&self.number);
    }
}
