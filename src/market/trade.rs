//! A trade that happened.

use serde::{Deserialize, Serialize};

use super::{Price, Quantity, Side, Symbol, TradeId};

/// A trade that happened. No two are the same, even where all their fields are: tapes repeat prints that are real, so
/// trades are never conflated.
///
/// # Examples
///
/// ```
/// use roundlot::market::{PriceUpdate, Side, Symbol, Trade};
///
/// let (symbol, side) = (Symbol::from_static("BTCUSDT"), Side::of_taker(true));
/// let (price, quantity) = ("61250.10".parse()?, "0.00080".parse()?);
/// let time_ns = 1_723_075_200_123_000_000;
///
/// let trade = Trade::new(3_748_319_201.into(), symbol, price, quantity, Some(side), time_ns);
/// assert_eq!(trade.side, Some(Side::Sell));
/// assert_eq!(PriceUpdate::from(&trade).price, trade.price);
/// # Ok::<(), roundlot::market::InvalidField>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Trade {
    /// The name that the venue or the file gives the trade.
    pub id: TradeId,
    /// The instrument.
    pub symbol: Symbol,
    /// The price of one unit.
    pub price: Price,
    /// The quantity that changed hands.
    pub quantity: Quantity,
    /// The side of the taker of liquidity; `None` where the feed does not tell, as the tapes of US stocks.
    pub side: Option<Side>,
    /// The time of the trade, in nanoseconds since the Unix epoch by the venue's clock.
    pub time_ns: i64,
}

impl Trade {
    /// A trade that happened at `time_ns`. The side is the taker's, `None` where the feed does not tell it.
    pub const fn new(
        id: TradeId,
        symbol: Symbol,
        price: Price,
        quantity: Quantity,
        side: Option<Side>,
        time_ns: i64,
    ) -> Self {
        Self { id, symbol, price, quantity, side, time_ns }
    }
}
