//! One message of market data, and its row in the table `trades`. A source of market data makes ticks; `trader` sends
//! them on.

use roundlot::{
    market::{Price, PriceUpdate, Quantity, Side, Symbol},
    sink::table::{ColumnType, Table},
};

/// One message of a feed. Quotes may have no quantity, and some trade feeds omit the side.
#[derive(Debug, Clone, PartialEq)]
pub struct Tick {
    /// Id of the message, as the feed gives it. Some venues use an id again, so the column is no key.
    pub id: String,
    /// Nanoseconds since 1970, UTC.
    pub time_ns: i64,
    pub symbol: Symbol,
    pub price: Price,
    pub quantity: Option<Quantity>,
    pub side: Option<Side>,
}

impl Tick {
    pub fn update(&self) -> PriceUpdate {
        PriceUpdate::new(self.symbol, self.price, self.time_ns)
    }
}

/// The table `trades`. Prices and quantities are decimals: SQLite gets the digits of the feed, with no binary float in
/// between. Without a key, two identical messages are two rows.
pub fn table() -> Table<Tick> {
    Table::new("trades")
        .text("id", |tick: &Tick| &tick.id)
        .timestamp("time_ns", |tick| tick.time_ns)
        .text("symbol", |tick| tick.symbol.as_str())
        .decimal("price", |tick| tick.price.to_decimal())
        .decimal("quantity", |tick| tick.quantity.map(Quantity::to_decimal))
        .column("side", ColumnType::Text, |tick| tick.side.map(Side::as_str).into())
        .create_if_missing()
}
