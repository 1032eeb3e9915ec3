//! A new price of an instrument, which makes the one before it worthless.

use serde::{Deserialize, Serialize};

use super::{Price, Symbol, Trade};

/// A new price of an instrument.
///
/// Prices of the same symbol replace each other. Where one app watches an instrument on two venues, give it two
/// symbols.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub struct PriceUpdate {
    /// The instrument.
    pub symbol: Symbol,
    /// The new price of one unit.
    pub price: Price,
    /// The time since which it holds, in nanoseconds since the Unix epoch by the venue's clock.
    pub time_ns: i64,
}

impl PriceUpdate {
    /// A new price of an instrument, since `time_ns`.
    pub const fn new(symbol: Symbol, price: Price, time_ns: i64) -> Self {
        Self { symbol, price, time_ns }
    }

    /// Keeps the later update by its own time, and of two of the same time the one that came later. An older update can
    /// come later, since feeds step back in time and messages take ways of different length.
    ///
    /// For [`conflate_by`](crate::Stages::conflate_by); it never nets.
    ///
    /// ```
    /// use roundlot::{Stages, market::PriceUpdate};
    ///
    /// let stages = Stages::new().conflate_by(|update: &PriceUpdate| update.symbol, PriceUpdate::latest);
    /// ```
    pub fn latest(waiting: Self, newer: Self) -> Option<Self> {
        Some(if newer.time_ns < waiting.time_ns { waiting } else { newer })
    }
}

impl From<&Trade> for PriceUpdate {
    fn from(trade: &Trade) -> Self {
        Self::new(trade.symbol, trade.price, trade.time_ns)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(time_ns: i64, price: i64) -> PriceUpdate {
        let price = Price::from_scaled(price, 0).expect("valid");
        PriceUpdate::new(Symbol::from_static("BTCUSDT"), price, time_ns)
    }

    #[test]
    fn later_wins_and_an_arrival_wins_a_tie() {
        assert_eq!(PriceUpdate::latest(at(1, 10), at(2, 11)), Some(at(2, 11)));
        assert_eq!(PriceUpdate::latest(at(2, 10), at(2, 11)), Some(at(2, 11)));
        assert_eq!(PriceUpdate::latest(at(2, 10), at(1, 11)), Some(at(2, 10)));
        assert_eq!(
            PriceUpdate::latest(at(i64::MAX, 10), at(i64::MIN, 11)),
            Some(at(i64::MAX, 10)),
            "no difference is taken"
        );
    }
}
