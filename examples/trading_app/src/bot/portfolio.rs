//! The positions of the bot and their value. [`Portfolio`] is the sink of the `prices` batcher: a batch costs one
//! valuation, however many prices it has. `trader` books the fills.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use roundlot::{
    Batch, Settled, Sink, SinkError,
    market::{PriceUpdate, Quantity, Symbol},
};
use rust_decimal::Decimal;

use super::{
    position::Position,
    venue::{Fill, wire},
};

/// The portfolio. A clone is the same portfolio.
#[derive(Clone)]
pub struct Portfolio {
    state: Arc<Mutex<State>>,
}

#[derive(Clone)]
struct State {
    start: Decimal,
    cash: Decimal,
    positions: BTreeMap<Symbol, Position>,
    value: Decimal,
    fills: u64,
}

/// All positions at one moment, with what the portfolio began with.
#[derive(Debug, Clone)]
pub struct Statement {
    /// Cash at the start.
    pub start: Decimal,
    pub cash: Decimal,
    /// Each symbol of which there was a price or a fill.
    pub positions: BTreeMap<Symbol, Position>,
}

impl Portfolio {
    pub fn new(cash: Quantity) -> Self {
        let cash = cash.to_decimal();
        let state = State { start: cash, cash, positions: BTreeMap::new(), value: cash, fills: 0 };
        Self { state: Arc::new(Mutex::new(state)) }
    }

    /// An independent portfolio with the same positions.
    pub fn copy(&self) -> Self {
        Self { state: Arc::new(Mutex::new(self.state().clone())) }
    }

    pub fn on_fill(&self, fill: &Fill) {
        self.state().on_fill(fill);
    }

    /// Takes over the positions that earlier runs of the bot have built at the venue, at their last prices.
    pub fn restore(&self, statement: &wire::Statement) {
        let mut state = self.state();
        state.cash = state.start.saturating_add(statement.cash);
        state.positions = statement.positions.clone();
        state.fills = statement.fills;
        state.revalue();
    }

    /// Value at the last valuation.
    pub fn value(&self) -> Decimal {
        self.state().value
    }

    /// Number of filled orders.
    pub fn fills(&self) -> u64 {
        self.state().fills
    }

    /// Returns a copy of all positions.
    pub fn statement(&self) -> Statement {
        let state = self.state();
        Statement { start: state.start, cash: state.cash, positions: state.positions.clone() }
    }

    /// Number of symbols with a position, long or short.
    pub fn held(&self) -> usize {
        self.state().positions.values().filter(|position| !position.quantity.is_zero()).count()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn on_fill(&mut self, fill: &Fill) {
        self.fills += 1;
        let cash = self.positions.entry(fill.symbol).or_default().book(fill);
        self.cash = self.cash.saturating_add(cash);
    }

    /// Sums up cash and each position at its last price.
    fn revalue(&mut self) {
        self.value = self.positions.values().map(Position::value).fold(self.cash, Decimal::saturating_add);
    }
}

impl Sink<PriceUpdate> for Portfolio {
    async fn write(&self, batch: &mut Batch<PriceUpdate>) -> Result<Settled, SinkError> {
        let mut state = self.state();
        for update in batch.pending() {
            state.positions.entry(update.symbol).or_default().price = update.price.to_decimal();
        }
        state.revalue();
        Ok(batch.accept_all())
    }
}

#[cfg(test)]
mod tests {
    use roundlot::market::Side;

    use super::*;

    #[tokio::test]
    async fn the_value_is_cash_and_positions_at_their_prices() {
        let portfolio = Portfolio::new("1000".parse().unwrap());
        let symbol = Symbol::from_static("BTC");
        let (order_id, price, quantity) = (1.into(), "100".parse().unwrap(), "2".parse().unwrap());
        let fill = Fill { order_id, symbol, side: Side::Buy, price, quantity };
        let value = async |portfolio: &Portfolio, price: &str| {
            let price = price.parse().unwrap();
            let mut batch = Batch::for_test(vec![PriceUpdate::new(symbol, price, 0)]);
            assert!(portfolio.write(&mut batch).await.is_ok());
            portfolio.value().to_string()
        };
        portfolio.on_fill(&fill);
        assert_eq!(value(&portfolio, "110.5").await, "1021.0");
        let copy = portfolio.copy();
        portfolio.on_fill(&Fill { side: Side::Sell, price: "120".parse().unwrap(), ..fill });
        assert_eq!(value(&portfolio, "1").await, "1040");
        assert_eq!((portfolio.fills(), copy.fills()), (2, 1));
        let Statement { start, cash, positions } = portfolio.statement();
        assert_eq!((start, cash), (1000.into(), 1040.into()));
        assert_eq!(positions[&symbol].realized, 40.into());
        assert_eq!((portfolio.held(), copy.held()), (0, 1));
        assert_eq!(value(&copy, "100").await, "1000");
    }
}
