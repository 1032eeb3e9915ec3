//! Trades of six columns for the rows `sqlite` and `postgres`, the table mapping by which the sinks write them, and their bytes in a
//! log.

use roundlot::{
    durable::{Codec, CodecError},
    sink::table::Table,
};
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

/// Trades as bytes of a fixed length, for a log.
#[derive(Debug, Clone, Copy)]
pub struct Bytes;

impl Codec<Trade> for Bytes {
    fn encode(&self, trade: &Trade, to: &mut Vec<u8>) -> Result<(), CodecError> {
        to.extend(trade.id.to_le_bytes());
        to.extend(trade.time_ns.to_le_bytes());
        to.extend(trade.price.serialize());
        to.extend(trade.quantity.serialize());
        let symbol = SYMBOLS.iter().position(|symbol| *symbol == trade.symbol).ok_or("another symbol")?;
        to.extend([symbol as u8, u8::from(trade.is_buy)]);
        Ok(())
    }

    fn decode(&self, bytes: &[u8], _schema: u32) -> Result<Trade, CodecError> {
        let (id, rest) = bytes.split_first_chunk().ok_or("too short")?;
        let (time_ns, rest) = rest.split_first_chunk().ok_or("too short")?;
        let (price, rest) = rest.split_first_chunk().ok_or("too short")?;
        let (quantity, rest) = rest.split_first_chunk().ok_or("too short")?;
        let &[symbol, is_buy] = rest else { return Err("another length".into()) };
        Ok(Trade {
            id: i64::from_le_bytes(*id),
            time_ns: i64::from_le_bytes(*time_ns),
            symbol: SYMBOLS.get(usize::from(symbol)).ok_or("another symbol")?,
            price: Decimal::deserialize(*price),
            quantity: Decimal::deserialize(*quantity),
            is_buy: is_buy == 1,
        })
    }
}

impl Codec<()> for Bytes {
    fn encode(&self, (): &(), _to: &mut Vec<u8>) -> Result<(), CodecError> {
        Ok(())
    }

    fn decode(&self, _bytes: &[u8], _schema: u32) -> Result<(), CodecError> {
        Ok(())
    }
}
