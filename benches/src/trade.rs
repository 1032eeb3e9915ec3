//! Trades of six columns for the rows `sqlite` and `postgres`, and the table mapping by which the sinks write them.

use roundlot::sink::table::Table;
use rust_decimal::Decimal;

const SYMBOLS: [&str; 4] = ["BTCUSDT", "ETHUSDT", "SOLUSDT", "XRPUSDT"];

/// A trade, as in the log of a trading app.
#[derive(Debug, Clone, Copy)]
pub struct Trade {
    pub id: i64,
    pub time_ns: i64,
    pub symbol: &'static str,
    pub price: Decimal,
    pub quantity: Decimal,
    pub is_buy: bool,
}

impl Trade {
    pub fn numbered(i: u64) -> Self {
        let id = i as i64;
        Self {
            id,
            time_ns: 1_723_075_200_000_000_000 + id * 1_000_000,
            symbol: SYMBOLS[i as usize % SYMBOLS.len()],
            price: Decimal::new(6_100_000 + id % 9973, 2),
            quantity: Decimal::new(250 + id % 977, 4),
            is_buy: i.is_multiple_of(3),
        }
    }
}

/// Maps all six columns; `id` is the key.
pub fn mapping() -> Table<Trade> {
    Table::new("trades")
        .integer("id", |trade: &Trade| trade.id)
        .timestamp("time_ns", |trade| trade.time_ns)
        .text("symbol", |trade| trade.symbol)
        .decimal("price", |trade| trade.price)
        .decimal("quantity", |trade| trade.quantity)
        .boolean("is_buy", |trade| trade.is_buy)
        .key(["id"])
        .create_if_missing()
}
