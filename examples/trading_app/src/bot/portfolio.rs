//! The positions of the bot and their value. [`Portfolio`] is the sink of the `prices` batcher: a batch costs one
//! valuation, however many prices it has. `trader` books the fills, and `assignment` replaces the positions of a shard.
//!
//! Invariant: cash is that of the start and what the positions here have brought. Positions of symbols that another bot trades are
//! not in it, and neither is their cash.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use roundlot::{
    Batch, Settled, Sink, SinkError,
    market::{PriceUpdate, Quantity, Symbol},
};
use rust_decimal::Decimal;

use super::{position::Position, venue::Fill};

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

impl Statement {
    /// Symbols with a position, long or short.
    pub fn held(&self) -> impl Iterator<Item = (Symbol, &Position)> {
        let positions = self.positions.iter().map(|(symbol, position)| (*symbol, position));
        positions.filter(|(_, position)| !position.quantity.is_zero())
    }
}

impl Portfolio {
    pub fn new(cash: Quantity) -> Self {
        let cash = cash.to_decimal();
        let state = State { start: cash, cash, positions: BTreeMap::new(), value: cash };
        Self { state: Arc::new(Mutex::new(state)) }
    }

    /// An independent portfolio with the same positions.
    pub fn copy(&self) -> Self {
        Self { state: Arc::new(Mutex::new(self.state().clone())) }
    }

    pub fn on_fill(&self, fill: &Fill) {
        self.state().on_fill(fill);
    }

    /// Forgets the positions of these symbols, and takes over others in their place: what the venue has of a shard, at the last
    /// prices there.
    pub fn replace(&self, symbols: &BTreeSet<Symbol>, by: &BTreeMap<Symbol, Position>) {
        let mut state = self.state();
        state.positions.retain(|symbol, _| !symbols.contains(symbol));
        state.positions.extend(by);
        state.cash = state.positions.values().map(Position::cash).fold(state.start, Decimal::saturating_add);
        state.revalue();
    }

    /// Value at the last valuation.
    pub fn value(&self) -> Decimal {
        self.state().value
    }

    /// Number of filled orders.
    pub fn fills(&self) -> u64 {
        self.state().positions.values().map(|position| position.fills).sum()
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
        portfolio.on_fill(&Fill { side: Side::Sell, price: "120".parse().unwrap(), ..fill.clone() });
        assert_eq!(value(&portfolio, "1").await, "1040");
        assert_eq!((portfolio.fills(), copy.fills()), (2, 1));
        let Statement { start, cash, positions } = portfolio.statement();
        assert_eq!((start, cash), (1000.into(), 1040.into()));
        assert_eq!(positions[&symbol].realized, 40.into());
        assert_eq!((portfolio.held(), copy.held()), (0, 1));
        assert_eq!(value(&copy, "100").await, "1000");

        // Another bot takes the symbol, and gives it back with a profit of 5.
        let symbols = BTreeSet::from([symbol]);
        copy.replace(&symbols, &BTreeMap::new());
        assert_eq!((copy.value(), copy.fills(), copy.held()), (1000.into(), 0, 0));
        let mut position = Position::default();
        for (side, price) in [(Side::Buy, "100"), (Side::Sell, "102.5"), (Side::Buy, "100")] {
            position.book(&Fill { side, price: price.parse().unwrap(), ..fill.clone() });
        }
        copy.replace(&symbols, &BTreeMap::from([(symbol, position)]));
        assert_eq!((copy.value(), copy.fills(), copy.statement().cash), (1005.into(), 3, 805.into()));
    }
}
