//! Which orders only reduce a position, and the gate in front of the venue that lets no other pass while the bot is
//! halted. `desks` puts the gate between batcher and venue; `kill` asks it what to withdraw and what to cancel.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use roundlot::{
    Batch, Settled, Sink, SinkError,
    market::{Order, Side, Symbol, TradeOp},
};
use rust_decimal::Decimal;

use crate::bot::{
    kill_switch::halt::Halt,
    venue::{Account, PaperVenue, VenueOrderId},
};

/// The positions, and the orders that may still fill.
///
/// **An order reduces if it is against a position, and no larger than what is left of it when all counted orders of its
/// side have filled.** Orders of the other side are not counted on: they may never fill. Nor is a cancel that is under
/// way, which may come too late. A stop and a limit that both close one position therefore don't both reduce: if both
/// fill, the position turns.
#[derive(Default)]
pub struct Exposure {
    /// What is held, below zero for a short position.
    positions: HashMap<Symbol, Decimal>,
    /// What counted orders may still trade.
    working: HashMap<(Symbol, Side), Decimal>,
}

impl Exposure {
    fn new(positions: HashMap<Symbol, Decimal>) -> Self {
        Self { positions, working: HashMap::new() }
    }

    /// Counts an order that may fill.
    fn count(&mut self, order: &Order) {
        let working = self.working.entry((order.symbol(), order.side())).or_default();
        *working = working.saturating_add(order.quantity().to_decimal());
    }

    /// Whether an order reduces. One that does is counted.
    pub fn admit(&mut self, order: &Order) -> bool {
        let held = self.positions.get(&order.symbol()).copied().unwrap_or_default();
        let against = match order.side() {
            Side::Sell => held,
            Side::Buy => -held,
        };
        let working = self.working.get(&(order.symbol(), order.side())).copied().unwrap_or_default();
        let reduces = working.saturating_add(order.quantity().to_decimal()) <= against;
        if reduces {
            self.count(order);
        }
        reduces
    }

    /// Sorts orders by whether they reduce. Of those that can't all be admitted, what protects from a loss goes first.
    pub fn sort(&mut self, mut orders: Vec<Order>) -> Sorted {
        orders.sort_by_key(|order| std::cmp::Reverse(order.purpose()));
        let (reducing, adding) = orders.into_iter().partition(|order| self.admit(order));
        Sorted { reducing, adding }
    }
}

/// Orders, by what they do to the positions.
#[derive(Debug, PartialEq, Eq)]
pub struct Sorted {
    pub reducing: Vec<Order>,
    pub adding: Vec<Order>,
}

/// The venue behind a gate. A clone is the same gate.
#[derive(Clone)]
pub struct Gate {
    pub venue: PaperVenue,
    halt: Halt,
    /// Orders of the writes that have passed and not ended, by number.
    passed: Arc<Mutex<Passed>>,
}

#[derive(Default)]
struct Passed {
    last: u64,
    orders: HashMap<u64, Vec<Order>>,
}

impl Gate {
    pub fn new(venue: PaperVenue, halt: Halt) -> Self {
        Self { venue, halt, passed: Arc::default() }
    }

    /// How things stand, with everything counted that rests at the venue or is on its way there.
    pub fn exposure(&self) -> Exposure {
        self.exposure_with(&self.passed())
    }

    /// What rests at the venue. What is on its way is not counted: it will rest, too, and be canceled if it adds risk,
    /// and a stop that protects meanwhile must not be canceled for it.
    pub fn resting(&self) -> Sorted {
        let Account { positions, resting } = self.venue.account();
        Exposure::new(positions).sort(resting)
    }

    fn exposure_with(&self, passed: &Passed) -> Exposure {
        // Under the lock of the orders on their way, each of them is counted: none leaves the list before it is in the book.
        let Account { positions, resting } = self.venue.account();
        let mut exposure = Exposure::new(positions);
        let coming = passed.orders.values().flatten().filter(|order| !resting.contains(order));
        resting.iter().chain(coming).for_each(|order| exposure.count(order));
        exposure
    }

    /// Notes the orders of a batch as on their way. While the bot is halted, those that add risk are refused.
    fn pass(&self, batch: &mut Batch<TradeOp, VenueOrderId>) -> Passing {
        let mut passed = self.passed();
        let mut exposure = self.halt.is_halted().then(|| self.exposure_with(&passed));
        let mut orders = Vec::new();
        for i in 0..batch.len() {
            let Some(order) = batch[i].as_order() else { continue };
            if exposure.as_mut().is_none_or(|exposure| exposure.admit(order)) {
                orders.push(order.clone());
            } else {
                batch.refuse(i, SinkError::refused(HALTED));
            }
        }
        passed.last += 1;
        let number = passed.last;
        passed.orders.insert(number, orders);
        Passing { passed: Arc::clone(&self.passed), number }
    }

    fn passed(&self) -> MutexGuard<'_, Passed> {
        self.passed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

const HALTED: &str = "trading is halted, and the order adds risk";

impl Sink<TradeOp, VenueOrderId> for Gate {
    async fn write(&self, batch: &mut Batch<TradeOp, VenueOrderId>) -> Result<Settled, SinkError> {
        let _passing = self.pass(batch);
        if batch.pending().is_empty() {
            return batch.settled();
        }
        self.venue.write(batch).await
    }
}

/// A write that is under way, until it ends in whatever way.
struct Passing {
    passed: Arc<Mutex<Passed>>,
    number: u64,
}

impl Drop for Passing {
    fn drop(&mut self) {
        self.passed.lock().unwrap_or_else(PoisonError::into_inner).orders.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use roundlot::market::Purpose;

    use super::*;

    const BTC: Symbol = Symbol::from_static("BTC");
    const ETH: Symbol = Symbol::from_static("ETH");

    fn order(id: u64, side: Side, quantity: &str) -> Order {
        Order::limit(id.into(), BTC, side, "100".parse().unwrap(), quantity.parse().unwrap()).unwrap()
    }

    fn held(symbol: Symbol, quantity: i64) -> Exposure {
        Exposure::new(HashMap::from([(symbol, Decimal::from(quantity))]))
    }

    #[test]
    fn an_order_reduces_what_is_surely_left() {
        assert!(held(BTC, 10).admit(&order(1, Side::Sell, "10")));
        assert!(!held(BTC, 10).admit(&order(1, Side::Sell, "10.000001")), "it would turn the position");
        assert!(!held(BTC, 10).admit(&order(1, Side::Buy, "1")), "it would add to it");
        assert!(!held(BTC, 0).admit(&order(1, Side::Sell, "1")), "it would open one");
        assert!(!held(ETH, 10).admit(&order(1, Side::Sell, "1")), "it is of another symbol");
        assert!(held(BTC, -10).admit(&order(1, Side::Buy, "10")));
        assert!(!held(BTC, -10).admit(&order(1, Side::Sell, "1")));

        let mut exposure = held(BTC, 10);
        exposure.count(&order(1, Side::Sell, "4"));
        exposure.count(&order(2, Side::Buy, "100"));
        assert!(!exposure.admit(&order(3, Side::Sell, "7")), "the first may fill, the second may not");
        assert!(exposure.admit(&order(4, Side::Sell, "6")));
        assert!(!exposure.admit(&order(5, Side::Sell, "0.1")), "what was admitted counts");
    }

    #[test]
    fn what_protects_goes_first() {
        let exit = order(1, Side::Sell, "10").with_purpose(Purpose::Exit);
        let stop = Order::stop(2.into(), BTC, Side::Sell, "90".parse().unwrap(), "10".parse().unwrap()).unwrap();
        let sorted = held(BTC, 10).sort(vec![exit.clone(), stop.clone()]);
        assert_eq!(sorted, Sorted { reducing: vec![stop], adding: vec![exit] });
    }
}
