//! The equity of the whole run as a curve of bounded size, and the table of positions. `sampler` adds a point twice a
//! second, and publishes both.
//!
//! Invariant: the points of a curve are equally far apart. A full curve drops every second point and doubles the distance.

use rust_decimal::{Decimal, prelude::ToPrimitive};

use super::event::{Equity, Holding, Positions};
use crate::{
    bot::{portfolio::Statement, position::Position},
    demo::format,
};

/// Maximum number of points: one for each three pixels of a wide chart. An even number.
const MAX_POINTS: usize = 360;

/// Maximum number of positions in the table.
const MAX_POSITIONS: usize = 100;

/// Minimum number of decimal places of an average price: two, for cents. A price with more places raises it.
const MIN_PLACES: u32 = 2;

/// The curve.
pub struct Curve {
    points: Vec<f64>,
    /// Number of samples from one point to the next.
    every: u64,
    /// Number of samples so far.
    samples: u64,
    /// Time between two samples, in seconds.
    period: f64,
}

impl Curve {
    pub fn new(period: f64) -> Self {
        Self { points: Vec::with_capacity(MAX_POINTS), every: 1, samples: 0, period }
    }

    /// Adds a sample. Returns the curve if it has changed.
    pub fn add(&mut self, equity: Decimal) -> Option<Equity> {
        let is_due = self.samples.is_multiple_of(self.every);
        self.samples += 1;
        if !is_due {
            return None;
        }
        if self.points.len() == MAX_POINTS {
            let mut n = 0;
            self.points.retain(|_| {
                n += 1;
                n % 2 == 1
            });
            self.every *= 2;
        }
        self.points.push(equity.round_dp(2).to_f64().unwrap_or_default());
        Some(Equity { period: self.period * self.every as f64, points: self.points.clone() })
    }
}

/// Returns cash and value of all positions at their last prices.
pub fn equity(statement: &Statement) -> Decimal {
    statement.positions.values().map(Position::value).fold(statement.cash, Decimal::saturating_add)
}

/// Returns the table of open positions, the largest if there are too many, by symbol.
pub fn positions(statement: &Statement) -> Positions {
    let sum = |part: fn(&Position) -> Decimal| {
        statement.positions.values().map(part).fold(Decimal::ZERO, Decimal::saturating_add)
    };
    let mut open: Vec<_> = statement.positions.iter().filter(|(_, position)| !position.quantity.is_zero()).collect();
    let count = open.len();
    if count > MAX_POSITIONS {
        open.sort_by_key(|(_, position)| std::cmp::Reverse(position.value().abs()));
        open.truncate(MAX_POSITIONS);
        open.sort_by_key(|(symbol, _)| **symbol);
    }
    let equity = equity(statement);
    Positions {
        start: format::money(statement.start),
        cash: format::money(statement.cash),
        equity: format::money(equity),
        profit: format::money(equity.saturating_sub(statement.start)),
        profit_percent: profit_percent(equity, statement.start),
        realized: format::money(sum(|position| position.realized)),
        unrealized: format::money(sum(Position::unrealized)),
        value: format::money(sum(Position::value)),
        open: count,
        holdings: open.into_iter().map(|(symbol, position)| holding(symbol.to_string(), position)).collect(),
    }
}

fn profit_percent(equity: Decimal, start: Decimal) -> Option<f64> {
    let part = equity.checked_div(start)?.to_f64()? - 1.0;
    Some(part * 100.0)
}

fn holding(symbol: String, position: &Position) -> Holding {
    let places = position.price.scale().max(MIN_PLACES);
    Holding {
        symbol,
        quantity: position.quantity.normalize().to_string(),
        average: position
            .average()
            .map_or_else(String::new, |average| format!("{:.*}", places as usize, average.round_dp(places))),
        last: position.price.to_string(),
        value: format::money(position.value()),
        unrealized: format::money(position.unrealized()),
        realized: format::money(position.realized),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_curve_keeps_the_whole_run() {
        let mut curve = Curve::new(0.5);
        let mut last = None;
        for i in 0..10_000_u64 {
            last = curve.add(i.into()).or(last);
        }
        let Equity { period, points } = last.unwrap();
        assert_eq!(period, 0.5 * 32.0);
        assert!((MAX_POINTS / 2..=MAX_POINTS).contains(&points.len()));
        assert!(points.iter().enumerate().all(|(i, point)| *point == (i * 32) as f64));
    }

    fn statement(positions: impl IntoIterator<Item = (String, i64, i64)>) -> Statement {
        let mut statement = Statement { start: 1000.into(), cash: 1000.into(), positions: Default::default() };
        for (symbol, quantity, price) in positions {
            let mut position = Position::default();
            position.price = price.into();
            position.on_fill(quantity.into(), (quantity * 100).into());
            statement.cash -= Decimal::from(quantity * 100);
            statement.positions.insert(symbol.parse().unwrap(), position);
        }
        statement
    }

    #[test]
    fn the_table_adds_up() {
        let table = positions(&statement([("B".into(), 2, 110), ("A".into(), -1, 90), ("C".into(), 0, 5)]));
        let holdings: Vec<_> = table.holdings.iter().map(|h| [&h.symbol, &h.quantity, &h.average, &h.last]).collect();
        assert_eq!(holdings, [["A", "-1", "100.00", "90"], ["B", "2", "100.00", "110"]]);
        assert_eq!((table.unrealized.as_str(), table.realized.as_str()), ("30.00", "0.00"));
        assert_eq!((table.equity.as_str(), table.profit.as_str(), table.open), ("1,030.00", "30.00", 2));
        assert_eq!((table.cash.as_str(), table.value.as_str()), ("900.00", "130.00"));
        assert!((table.profit_percent.unwrap() - 3.0).abs() < 1e-9);
    }

    #[test]
    fn the_table_is_bounded() {
        let table = positions(&statement((0..300).map(|i| (format!("S{i:03}"), i, 100))));
        assert_eq!((table.open, table.holdings.len()), (299, MAX_POSITIONS));
        assert_eq!((table.holdings[0].symbol.as_str(), table.holdings[99].symbol.as_str()), ("S200", "S299"));
    }
}
