//! A position of the bot: the quantity held of a symbol, its cost and its profit. `portfolio` has one for each symbol.
//!
//! Invariant: the cash that a symbol has brought is its realized profit less the cost of what is open, to the last digit.

use roundlot::market::Side;
use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};

use super::venue::Fill;

/// Decimal places of the cost of a part: far below a cent, and few enough that sums are exact.
const COST_PLACES: u32 = 12;

/// The position of one symbol. All amounts are in the currency of the prices.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// Quantity held; negative for a short position.
    pub quantity: Decimal,
    /// Last price of the symbol.
    pub price: Decimal,
    /// Profit of what is closed, negative for a loss.
    pub realized: Decimal,
    /// Sum paid for the quantity held; negative for a short position.
    cost: Decimal,
    /// Number of orders filled.
    pub fills: u64,
}

impl Position {
    /// Average price of the quantity held; `None` if nothing is held.
    pub fn average(&self) -> Option<Decimal> {
        self.cost.checked_div(self.quantity)
    }

    /// Cash that the symbol has brought, negative for a cost.
    pub fn cash(&self) -> Decimal {
        self.realized.saturating_sub(self.cost)
    }

    /// Value at the last price.
    pub fn value(&self) -> Decimal {
        self.quantity.saturating_mul(self.price)
    }

    /// Profit if the quantity held were closed at the last price.
    pub fn unrealized(&self) -> Decimal {
        self.value().saturating_sub(self.cost)
    }

    /// Books the fill of an order at its price. Returns the cash that it has brought, negative for a cost.
    pub fn book(&mut self, fill: &Fill) -> Decimal {
        let (quantity, cost) = (fill.quantity.to_decimal(), fill.price.checked_mul(fill.quantity).unwrap_or_default());
        let (quantity, cost) = match fill.side {
            Side::Buy => (quantity, cost),
            Side::Sell => (-quantity, -cost),
        };
        self.price = fill.price.to_decimal();
        self.fills += 1;
        self.on_fill(quantity, cost);
        -cost
    }

    /// Books a fill: `quantity` and `cost` are positive for a buy, and negative for a sale.
    pub fn on_fill(&mut self, quantity: Decimal, cost: Decimal) {
        let is_opposite = !self.quantity.is_zero() && self.quantity.is_sign_negative() != quantity.is_sign_negative();
        if is_opposite {
            // The part of the fill that closes, and its share of both costs. A whole is not divided, since that rounds.
            let closed = self.quantity.abs().min(quantity.abs());
            let share = |cost: Decimal, whole: Decimal| match whole.abs() == closed {
                true => cost,
                false => {
                    let part = closed.checked_div(whole.abs()).unwrap_or_default();
                    cost.saturating_mul(part).round_dp(COST_PLACES)
                }
            };
            let (closed_cost, proceeds) = (share(self.cost, self.quantity), share(cost, quantity));
            self.realized = self.realized.saturating_sub(closed_cost).saturating_sub(proceeds);
            // The rest of the fill, beyond the closed part, opens a position of the other side.
            self.cost = self.cost.saturating_sub(closed_cost).saturating_add(cost.saturating_sub(proceeds));
        } else {
            self.cost = self.cost.saturating_add(cost);
        }
        self.quantity = self.quantity.saturating_add(quantity);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decimal(text: &str) -> Decimal {
        text.parse().unwrap()
    }

    /// Books fills, each a quantity and its price, and returns the position and the cash that they have brought.
    fn filled(fills: &[(&str, &str)], price: &str) -> (Position, Decimal) {
        let (mut position, mut cash) = (Position::default(), Decimal::ZERO);
        for (quantity, price) in fills {
            let cost = decimal(quantity) * decimal(price);
            position.on_fill(decimal(quantity), cost);
            cash -= cost;
        }
        position.price = decimal(price);
        (position, cash)
    }

    #[test]
    fn profit_is_realized_at_the_average_price() {
        let (held, _) = filled(&[("1", "100"), ("3", "120")], "130");
        assert_eq!((held.average(), held.realized), (Some(decimal("115")), Decimal::ZERO));
        assert_eq!((held.value(), held.unrealized()), (decimal("520"), decimal("60")));
        let (less, _) = filled(&[("1", "100"), ("3", "120"), ("-1", "125")], "130");
        assert_eq!((less.average(), less.realized), (Some(decimal("115")), decimal("10")));
        let (flat, _) = filled(&[("2", "100"), ("-2", "90")], "1");
        assert_eq!((flat.average(), flat.realized, flat.unrealized()), (None, decimal("-20"), Decimal::ZERO));
    }

    #[test]
    fn a_fill_may_turn_a_position() {
        let (short, _) = filled(&[("2", "100"), ("-5", "110")], "105");
        assert_eq!((short.quantity, short.average()), (decimal("-3"), Some(decimal("110"))));
        assert_eq!((short.realized, short.unrealized()), (decimal("20"), decimal("15")));
        let (closed, _) = filled(&[("2", "100"), ("-5", "110"), ("3", "100")], "105");
        assert_eq!((closed.quantity, closed.realized), (Decimal::ZERO, decimal("50")));
    }

    /// Goal: no cent is lost, also where shares are rounded. Method: fills of thirds; cash and value give the profit.
    #[test]
    fn profit_is_cash_and_value() {
        for n in 1..=4 {
            let fills = [("3", "0.1"), ("-1", "0.7"), ("-1.1", "0.3"), ("7", "1.9")];
            let (position, cash) = filled(&fills[..n], "0.37");
            assert_eq!(position.realized + position.unrealized(), cash + position.value(), "{n} fills");
            assert_eq!(position.cash(), cash, "{n} fills");
        }
    }
}
