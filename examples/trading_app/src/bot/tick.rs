//! A row of market data, and how it becomes a row of the database. In come ticks from the feed, out goes the mapping to
//! the table `trades`. Next room: `trader`.

use roundlot::{
    market::{Price, PriceUpdate, Quantity, Side, Symbol},
    sink::table::{ColumnType, Table},
};

/// One message of a feed. Feeds of quotes have messages without a quantity, and tapes don't tell the side.
#[derive(Debug, Clone, PartialEq)]
pub struct Tick {
    /// As the file has it. Some venues use an id again, so it is no key.
    pub id: String,
    pub time_ns: i64,
    pub symbol: Symbol,
    pub price: Price,
    pub quantity: Option<Quantity>,
    pub side: Option<Side>,
}

impl Tick {
    pub fn update(&self) -> PriceUpdate {
        PriceUpdate { symbol: self.symbol, price: self.price, time_ns: self.time_ns }
    }
}

/// Prices and quantities are decimals: SQLite gets the digits that the feed sent, and no binary float is in between.
/// Without a key, two messages that are the same to the last byte are two rows.
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
