//! The book of the paper venue: resting orders, and the positions that fills have built. `venue` calls it under its
//! lock.
//!
//! Invariant: the ids of resting orders of a symbol are unique. No reduce-only order makes a position grow or turn.

use std::collections::HashMap;

use roundlot::market::{
    Amend, Cancel, ClientOrderId, Order, OrderKind, Price, PriceUpdate, Quantity, Side, Symbol, TradeOp,
};
use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};

/// Id that the venue gives an order: the receipt of an op.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct VenueOrderId(pub u64);

/// An order that has filled: as a whole, or if it is reduce-only, as far as it reduces the position.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Fill {
    pub order_id: ClientOrderId,
    pub symbol: Symbol,
    pub side: Side,
    pub price: Price,
    pub quantity: Quantity,
}

#[derive(Debug, Default)]
pub struct Book {
    /// Resting orders, few per symbol.
    resting: HashMap<Symbol, Vec<Resting>>,
    /// Sum of the fills, negative for a short position.
    positions: HashMap<Symbol, Decimal>,
    last_id: u64,
}

/// A snapshot of positions and resting orders.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    pub positions: HashMap<Symbol, Decimal>,
    pub resting: Vec<Order>,
}

/// The orders that a price has reached.
#[derive(Debug, Default)]
pub struct Reached {
    pub fills: Vec<Fill>,
    /// Orders that ended without a fill, because they reduced no further.
    pub ended: Vec<ClientOrderId>,
}

#[derive(Debug)]
struct Resting {
    id: VenueOrderId,
    /// The order with all its amends applied.
    order: Order,
}

impl Book {
    pub fn add(&mut self, order: &Order) -> Result<VenueOrderId, &'static str> {
        let resting = self.resting.entry(order.symbol()).or_default();
        if resting.iter().any(|other| other.order.id() == order.id()) {
            return Err("the order id is in use");
        }
        self.last_id += 1;
        let id = VenueOrderId(self.last_id);
        resting.push(Resting { id, order: order.clone() });
        Ok(id)
    }

    /// Applies an op that was executed before the venue was started again.
    pub fn restore(&mut self, op: &TradeOp, id: VenueOrderId) {
        // Each of these succeeded in the same book before.
        match op {
            TradeOp::Order(order) => {
                self.last_id = self.last_id.max(id.0);
                self.resting.entry(order.symbol()).or_default().push(Resting { id, order: order.clone() });
            }
            TradeOp::Cancel(cancel) => drop(self.cancel(cancel)),
            TradeOp::Amend(amend) => drop(self.amend(amend)),
            _ => {}
        }
    }

    /// Applies a fill of that time.
    pub fn restore_fill(&mut self, fill: &Fill) {
        self.remove(fill.symbol, fill.order_id);
        self.change_position(fill.symbol, fill.side, fill.quantity);
    }

    /// Removes a resting order, if it is there.
    pub fn remove(&mut self, symbol: Symbol, id: ClientOrderId) {
        self.resting.entry(symbol).or_default().retain(|resting| resting.order.id() != id);
    }

    /// Returns a resting order, with all its amends applied.
    pub fn find(&self, symbol: Symbol, id: ClientOrderId) -> Option<&Order> {
        self.resting.get(&symbol)?.iter().map(|resting| &resting.order).find(|order| order.id() == id)
    }

    pub fn cancel(&mut self, cancel: &Cancel) -> Result<VenueOrderId, &'static str> {
        let resting = self.resting.entry(cancel.symbol).or_default();
        let at = resting.iter().position(|other| other.order.id() == cancel.order_id).ok_or(NO_SUCH_ORDER)?;
        Ok(resting.remove(at).id)
    }

    pub fn amend(&mut self, amend: &Amend) -> Result<VenueOrderId, &'static str> {
        let resting = self.resting.entry(amend.symbol).or_default();
        let resting = resting.iter_mut().find(|other| other.order.id() == amend.order_id).ok_or(NO_SUCH_ORDER)?;
        resting.order = resting.order.amended(amend).map_err(|_| "the amend does not fit the order")?;
        Ok(resting.id)
    }

    /// Fills the orders that the price has reached: limit orders at their price, others at the market price.
    pub fn on_price(&mut self, update: &PriceUpdate) -> Reached {
        let mut reached = Reached::default();
        let Some(resting) = self.resting.get_mut(&update.symbol) else {
            return reached;
        };
        let orders: Vec<Resting> = resting.extract_if(.., |resting| resting.is_reached(update.price)).collect();
        for Resting { order, .. } in orders {
            let position = self.positions.get(&update.symbol).copied().unwrap_or_default();
            match fillable(&order, position) {
                Some(quantity) => {
                    self.change_position(update.symbol, order.side(), quantity);
                    reached.fills.push(fill(&order, update.price, quantity));
                }
                // The rest of an order that reduces no further ends with it, as if the venue had canceled it.
                None => reached.ended.push(order.id()),
            }
        }
        reached
    }

    fn change_position(&mut self, symbol: Symbol, side: Side, quantity: Quantity) {
        let position = self.positions.entry(symbol).or_default();
        let change = quantity.to_decimal();
        *position = position.saturating_add(if side == Side::Buy { change } else { -change });
    }

    pub fn account(&self) -> Account {
        let resting = self.resting.values().flatten().map(|resting| resting.order.clone()).collect();
        Account { positions: self.positions.clone(), resting }
    }
}

/// Reason why a cancel or an amend is refused whose order does not rest.
pub const NO_SUCH_ORDER: &str = "there is no such order";

impl Resting {
    fn is_reached(&self, market: Price) -> bool {
        let limit = self.order.price().is_none_or(|limit| match self.order.side() {
            Side::Buy => market <= limit,
            Side::Sell => market >= limit,
        });
        let stop = self.order.stop_price().is_none_or(|stop| match self.order.side() {
            Side::Buy => market >= stop,
            Side::Sell => market <= stop,
        });
        limit && stop
    }
}

/// Returns the quantity of an order that may fill; `None` for a reduce-only order without a position to reduce.
fn fillable(order: &Order, position: Decimal) -> Option<Quantity> {
    if !order.is_reduce_only() {
        return Some(order.quantity());
    }
    let against = if order.side() == Side::Buy { -position } else { position };
    let against = Quantity::new(against).ok().filter(|against| !against.is_zero())?;
    Some(order.quantity().min(against))
}

fn fill(order: &Order, market: Price, quantity: Quantity) -> Fill {
    let price = match order.kind() {
        OrderKind::Limit { price } => price,
        _ => market,
    };
    Fill { order_id: order.id(), symbol: order.symbol(), side: order.side(), price, quantity }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BTC: Symbol = Symbol::from_static("BTC");

    fn price(text: &str) -> Price {
        text.parse().unwrap()
    }

    fn filled(book: &mut Book, market: &str) -> Vec<(String, String)> {
        let fills = book.on_price(&PriceUpdate::new(BTC, price(market), 0)).fills;
        fills.iter().map(|fill| (fill.order_id.to_string(), fill.price.to_string())).collect()
    }

    #[test]
    fn orders_are_filled_when_the_market_reaches_them() {
        let mut book = Book::default();
        let one: Quantity = "1".parse().unwrap();
        let stop = Order::stop(3.into(), BTC, Side::Sell, price("90"), one).unwrap();
        book.add(&Order::limit(1.into(), BTC, Side::Buy, price("99"), one).unwrap()).unwrap();
        book.add(&Order::limit(2.into(), BTC, Side::Sell, price("105"), one).unwrap()).unwrap();
        book.add(&stop).unwrap();
        let pair = |id: &str, price: &str| (id.to_owned(), price.to_owned());
        assert_eq!(filled(&mut book, "100"), []);
        assert_eq!(filled(&mut book, "98"), [pair("1", "99")]);
        assert_eq!(filled(&mut book, "106"), [pair("2", "105")]);
        book.amend(&stop.move_stop(price("97")).unwrap()).unwrap();
        assert_eq!(filled(&mut book, "96"), [pair("3", "96")]);
        assert_eq!(filled(&mut book, "1"), []);
        assert_eq!(book.cancel(&stop.cancel()), Err(NO_SUCH_ORDER));
        // Bought at 99, sold at 105, sold at 96.
        let account = book.account();
        assert_eq!((account.positions[&BTC], account.resting.len()), (Decimal::NEGATIVE_ONE, 0));
    }

    #[test]
    fn reduce_only_orders_sell_no_more_than_is_held() {
        let mut book = Book::default();
        let sell = |id: u64, quantity: &str| {
            let order = Order::limit(id.into(), BTC, Side::Sell, price("100"), quantity.parse().unwrap()).unwrap();
            order.reduce_only()
        };
        let quantities = |book: &mut Book, market: &str| -> Vec<String> {
            let fills = book.on_price(&PriceUpdate::new(BTC, price(market), 0)).fills;
            fills.iter().map(|fill| format!("{} {} {}", fill.order_id, fill.side, fill.quantity)).collect()
        };
        book.add(&sell(1, "1")).unwrap();
        assert_eq!(quantities(&mut book, "101"), [""; 0], "nothing is held");
        assert_eq!(book.cancel(&sell(1, "1").cancel()), Err(NO_SUCH_ORDER), "it has ended");
        book.add(&Order::limit(2.into(), BTC, Side::Buy, price("99"), "3".parse().unwrap()).unwrap()).unwrap();
        assert_eq!(quantities(&mut book, "98"), ["2 buy 3"]);
        for order in [sell(3, "2"), sell(4, "2"), sell(5, "2")] {
            book.add(&order).unwrap();
        }
        assert_eq!(quantities(&mut book, "101"), ["3 sell 2", "4 sell 1"]);
        let account = book.account();
        assert_eq!((account.positions[&BTC], account.resting.len()), (Decimal::ZERO, 0));
    }

    #[test]
    fn an_amend_changes_what_its_order_has() {
        let mut book = Book::default();
        let limit = Order::limit(1.into(), BTC, Side::Buy, price("99"), "1".parse().unwrap()).unwrap();
        book.add(&limit).unwrap();
        let stop = limit.amend().with_stop_price(price("101"));
        assert_eq!(book.amend(&stop), Err("the amend does not fit the order"));
        assert_eq!(book.amend(&limit.amend().with_price(price("97"))), Ok(VenueOrderId(1)));
        let smaller = limit.amend().with_quantity("0.5".parse().unwrap()).unwrap();
        assert_eq!(book.amend(&smaller), Ok(VenueOrderId(1)));
        assert_eq!(filled(&mut book, "98"), [], "it rests at the new price");
        assert_eq!(filled(&mut book, "96").len(), 1, "it is a limit order still");
        assert_eq!(book.account().positions[&BTC].to_string(), "0.5");
        assert_eq!(book.amend(&smaller), Err(NO_SUCH_ORDER));
    }
}
