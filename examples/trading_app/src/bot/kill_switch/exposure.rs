//! The test for orders that only reduce a position. [`Exposure`] decides order by order; `gate` and the kill switch ask
//! it.

use std::{cmp::Reverse, collections::HashMap};

use roundlot::market::{Order, Side, Symbol};
use rust_decimal::Decimal;

/// Positions, and what counted orders may still fill.
///
/// **An order reduces if it is against a position, and no larger than what is left of it once all counted orders of its
/// side have filled.** Orders of the other side do not count, since they may never fill. A pending cancel does not
/// lower the count, since it may come too late. A stop and a limit that both close one position therefore do not both
/// reduce: if both filled, the position would turn.
#[derive(Default)]
pub struct Exposure {
    /// Quantity held, negative for a short position.
    positions: HashMap<Symbol, Decimal>,
    /// Quantity that counted orders may still fill.
    working: HashMap<(Symbol, Side), Decimal>,
}

impl Exposure {
    pub fn new(positions: HashMap<Symbol, Decimal>) -> Self {
        Self { positions, working: HashMap::new() }
    }

    /// Counts an order that may fill.
    pub fn count(&mut self, order: &Order) {
        let working = self.working.entry((order.symbol(), order.side())).or_default();
        *working = working.saturating_add(order.quantity().to_decimal());
    }

    /// Whether an order reduces. If it does, it is counted.
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

    /// Sorts orders by whether they reduce. Orders that protect from a loss are preferred where not all orders can
    /// reduce.
    pub fn sort(&mut self, mut orders: Vec<Order>) -> Sorted {
        orders.sort_by_key(|order| Reverse(order.purpose()));
        let (reducing, adding) = orders.into_iter().partition(|order| self.admit(order));
        Sorted { reducing, adding }
    }
}

/// Orders by their effect on the positions.
#[derive(Debug, PartialEq, Eq)]
pub struct Sorted {
    pub reducing: Vec<Order>,
    pub adding: Vec<Order>,
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
    fn an_order_is_admitted_only_if_it_reduces_the_certain_position() {
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
    fn a_protective_stop_has_precedence_over_an_exit() {
        let exit = order(1, Side::Sell, "10").with_purpose(Purpose::Exit);
        let stop = Order::stop(2.into(), BTC, Side::Sell, "90".parse().unwrap(), "10".parse().unwrap()).unwrap();
        let sorted = held(BTC, 10).sort(vec![exit.clone(), stop.clone()]);
        assert_eq!(sorted, Sorted { reducing: vec![stop], adding: vec![exit] });
    }
}
