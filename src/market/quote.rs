//! The best bid and ask of an instrument.

use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};

use super::{Price, Quantity, Symbol};

/// The best bid and ask of an instrument, with the size at each.
///
/// A bid above its ask is not refused: feeds that join venues show such moments, and
/// [`is_crossed`](Self::is_crossed) tells.
///
/// # Examples
///
/// ```
/// use roundlot::market::{Quote, Symbol};
///
/// let (bid, bid_size) = ("61250.10".parse()?, "0.25".parse()?);
/// let (ask, ask_size) = ("61250.20".parse()?, "1.5".parse()?);
/// let time_ns = 1_723_075_200_123_000_000;
///
/// let quote = Quote::new(Symbol::from_static("BTCUSDT"), bid, bid_size, ask, ask_size, time_ns);
/// assert_eq!(quote.spread(), Some("0.10".parse()?));
/// assert_eq!(quote.mid(), Some("61250.15".parse()?));
/// # Ok::<(), roundlot::market::InvalidField>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Quote {
    /// The instrument.
    pub symbol: Symbol,
    /// The best price that a buyer offers.
    pub bid: Price,
    /// How much is bid for at that price; zero where the level is empty.
    pub bid_size: Quantity,
    /// The best price that a seller asks for.
    pub ask: Price,
    /// How much is offered at that price; zero where the level is empty.
    pub ask_size: Quantity,
    /// The time since which it holds, in nanoseconds since the Unix epoch by the venue's clock.
    pub time_ns: i64,
}

impl Quote {
    /// The best bid and ask of an instrument, each with its size, since `time_ns`.
    pub const fn new(
        symbol: Symbol,
        bid: Price,
        bid_size: Quantity,
        ask: Price,
        ask_size: Quantity,
        time_ns: i64,
    ) -> Self {
        Self { symbol, bid, bid_size, ask, ask_size, time_ns }
    }

    /// Keeps the later quote by its own time, and of two of the same time the one that came later. An older quote can come
    /// later, since feeds step back in time and messages take ways of different length.
    /// [`stage::latest`](crate::stage::latest) would keep it.
    ///
    /// For [`conflate_by`](crate::Stages::conflate_by); it never nets.
    ///
    /// ```
    /// use roundlot::{Stages, market::Quote};
    ///
    /// let stages = Stages::new().conflate_by(|quote: &Quote| quote.symbol, Quote::latest);
    /// ```
    pub fn latest(waiting: Self, newer: Self) -> Option<Self> {
        Some(if newer.time_ns < waiting.time_ns { waiting } else { newer })
    }

    /// Ask less bid; negative if they are crossed. `None` if it is too large for a decimal.
    pub fn spread(&self) -> Option<Price> {
        self.ask.checked_sub(self.bid)
    }

    /// The middle between bid and ask. `None` if their sum is too large for a decimal.
    pub fn mid(&self) -> Option<Price> {
        let sum = self.bid.checked_add(self.ask)?.to_decimal();
        sum.checked_div(Decimal::TWO).map(Price::new)
    }

    /// Whether the bid is above the ask.
    pub fn is_crossed(&self) -> bool {
        self.bid > self.ask
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quote(bid: Price, ask: Price) -> Quote {
        let (symbol, size) = (Symbol::from_static("BTCUSDT"), Quantity::ZERO);
        Quote::new(symbol, bid, size, ask, size, 0)
    }

    #[test]
    fn crossed_and_locked_quotes_are_told_apart() {
        let price = |number| Price::from_scaled(number, 1).expect("valid");
        assert!(!quote(price(10), price(11)).is_crossed());
        assert!(!quote(price(11), price(11)).is_crossed());
        assert!(quote(price(12), price(11)).is_crossed());
        assert_eq!(quote(price(12), price(11)).spread(), Some(price(-1)));
        assert_eq!(quote(price(10), price(11)).mid(), Some("1.05".parse().expect("valid")));
    }

    #[test]
    fn later_wins_and_an_arrival_wins_a_tie() {
        let at = |time_ns, bid| Quote { time_ns, ..quote(Price::from_scaled(bid, 0).expect("valid"), Price::ZERO) };
        assert_eq!(Quote::latest(at(1, 10), at(2, 11)), Some(at(2, 11)));
        assert_eq!(Quote::latest(at(2, 10), at(2, 11)), Some(at(2, 11)));
        assert_eq!(Quote::latest(at(2, 10), at(1, 11)), Some(at(2, 10)));
        assert_eq!(Quote::latest(at(i64::MAX, 10), at(i64::MIN, 11)), Some(at(i64::MAX, 10)), "no difference is taken");
    }

    #[test]
    fn too_large_is_none() {
        let largest = Price::new(Decimal::MAX);
        assert_eq!(quote(largest, largest).mid(), None);
        assert_eq!(quote(Price::new(Decimal::MIN), largest).spread(), None);
    }
}
