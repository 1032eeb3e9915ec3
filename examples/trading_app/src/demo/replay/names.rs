//! Names that vendors give to columns and files. A name is a guess: `layout` checks it against the first rows.

use csv::StringRecord;
use roundlot::market::Symbol;

use super::calendar;
use crate::demo::settings::{DateOrder, Unit};

// Names in snake case, the best first. The name of a time may end in its unit, the name of a price in its scale.
pub const TIME: &[&str] = &[
    "time",
    "timestamp",
    "ts",
    "datetime",
    "date_time",
    "trade_time",
    "trade_ts",
    "time_m",
    "time_of_day",
    "date_and_time",
    "gmt_time",
    "utc_time",
    "local_time",
    "time_exchange",
    "transact_time",
    "event_time",
    "exchange_time",
    "exchange_timestamp",
    "ts_event",
    "sip_timestamp",
    "participant_timestamp",
    "created_time",
    "created_at",
    "local_timestamp",
    "ts_recv",
    "unix",
    "unix_timestamp",
    "epoch",
    "t",
];
/// Columns that hold the day of a time of day, or the whole time.
pub const DATE: &[&str] = &["date", "trade_date", "trading_date", "trading_day", "day", "dt"];
pub const SYMBOL: &[&str] = &[
    "symbol",
    "ticker",
    "instrument",
    "instrument_name",
    "instrument_id",
    "product_id",
    "product",
    "pair",
    "market",
    "security",
    "raw_symbol",
    "ric",
    "sym",
    "s",
];
pub const PRICE: &[&str] =
    &["price", "px", "trade_price", "last_price", "last_px", "last", "exec_price", "fill_price", "rate", "close", "p"];
pub const QUANTITY: &[&str] = &[
    "quantity",
    "qty",
    "size",
    "amount",
    "volume",
    "vol",
    "base_qty",
    "trade_size",
    "trade_qty",
    "last_qty",
    "last_size",
    "shares",
    "base_volume",
    "base_amount",
    "sz",
    "q",
    "v",
];
pub const SIDE: &[&str] =
    &["side", "taker_side", "aggressor_side", "aggressor", "trade_side", "direction", "ask_bid", "buy_sell"];
/// Names that ask whether the buyer was the maker, which is the same as whether the taker sold.
pub const BUYER_IS_MAKER: &[&str] =
    &["is_buyer_maker", "buyer_is_maker", "buyer_maker", "was_buyer_maker", "taker_side_sell", "m"];
pub const ID: &[&str] = &["id", "trade_id", "tradeid", "agg_trade_id", "trd_match_id", "exec_id", "match_id", "tid"];

/// Converts a name to snake case: `isBuyerMaker`, `Is Buyer Maker` and `is-buyer-maker` become `is_buyer_maker`.
pub fn snake(name: &str) -> String {
    let mut snake = String::with_capacity(name.len() + 4);
    let mut after_lower = false;
    for letter in name.chars() {
        if !letter.is_ascii_alphanumeric() {
            after_lower = false;
            if !snake.is_empty() && !snake.ends_with('_') {
                snake.push('_');
            }
            continue;
        }
        if letter.is_ascii_uppercase() && after_lower {
            snake.push('_');
        }
        after_lower = !letter.is_ascii_uppercase();
        snake.push(letter.to_ascii_lowercase());
    }
    snake.trim_end_matches('_').to_owned()
}

/// Splits the unit off a name: `time_us` is a time in microseconds.
pub fn without_unit(name: &str) -> (&str, Option<Unit>) {
    let units = [
        (Unit::S, &["_s", "_sec", "_secs", "_seconds"][..]),
        (Unit::Ms, &["_ms", "_millis", "_milliseconds"]),
        (Unit::Us, &["_us", "_micros", "_microseconds"]),
        (Unit::Ns, &["_ns", "_nanos", "_nanoseconds"]),
    ];
    let found = units.iter().find_map(|(unit, ends)| {
        let base = ends.iter().find_map(|end| name.strip_suffix(end))?;
        Some((base, Some(*unit)))
    });
    found.unwrap_or((name, None))
}

/// Splits the scale off a name: `price_e4` is a price times ten thousand.
pub fn without_scale(name: &str) -> (&str, Option<u32>) {
    match name.rsplit_once("_e") {
        Some((base, digits)) if digits.parse::<u32>().is_ok() => (base, digits.parse().ok()),
        _ => (name, None),
    }
}

/// The columns of a file without a header that is known by its shape.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Shape {
    pub id: usize,
    pub price: usize,
    pub quantity: usize,
    pub time: usize,
    pub buyer_is_maker: usize,
}

/// Recognizes the dumps of Binance: `trades` (id, price, quantity, quote quantity, time, is buyer maker) and
/// `aggTrades` (id, price, quantity, first id, last id, time, is buyer maker). Spot dumps have a further flag. One row
/// that fits is enough, since the first one may be broken.
pub fn shape(rows: &[StringRecord]) -> Option<Shape> {
    const TRADES: Shape = Shape { id: 0, price: 1, quantity: 2, time: 4, buyer_is_maker: 5 };
    const AGGREGATED: Shape = Shape { time: 5, buyer_is_maker: 6, ..TRADES };
    rows.iter().find_map(|row| {
        let fits = |shape: &Shape| {
            let whole = |i| row.get(i).is_some_and(|field| field.bytes().all(|byte| byte.is_ascii_digit()));
            let flag = |field: &str| field.eq_ignore_ascii_case("true") || field.eq_ignore_ascii_case("false");
            (whole(shape.id) && whole(shape.time))
                && row.get(shape.time).is_some_and(|time| time.len() > 12)
                && (shape.price..shape.time).all(|i| row.get(i).is_some_and(is_value))
                && row.len() <= shape.buyer_is_maker + 2
                && row.len() > shape.buyer_is_maker
                && row.iter().skip(shape.buyer_is_maker).all(flag)
        };
        [TRADES, AGGREGATED].into_iter().find(fits)
    })
}

/// Whether a field is a number or a time, and so no column name.
pub fn is_value(field: &str) -> bool {
    let number = field.trim_start_matches(['-', '+', '.']);
    let is_number = number.starts_with(|letter: char| letter.is_ascii_digit())
        && field.bytes().all(|byte| byte.is_ascii_digit() || b".,+-:/'eETZ ".contains(&byte));
    is_number || calendar::stamp(field, Some(DateOrder::Mdy)).is_ok()
}

/// Generic file names, which name the content and not the symbol.
const GENERIC: [&str; 17] = [
    "data", "export", "file", "history", "market", "merged", "output", "part", "prices", "quotes", "report", "rows",
    "sample", "table", "ticks", "trade", "trades",
];

/// Returns the symbol that a file's name begins with: `BTCUSD_PERP-trades-2024-08-08`, `spy_trades`. Returns `None` for
/// a word for files, and for a number, which is more often part of a date than a symbol.
pub fn symbol_of(stem: &str) -> Option<Symbol> {
    let lower = stem.to_ascii_lowercase();
    let marks = ["-trades", "-aggtrades", "_trades", "_aggtrades"];
    let end = marks.iter().filter_map(|mark| lower.find(mark)).min();
    let end = end.or_else(|| stem.find(['-', '_', '.', ' '])).unwrap_or(stem.len());
    let name = &stem[..end];
    if name.bytes().all(|byte| byte.is_ascii_digit()) || GENERIC.contains(&&lower[..end]) {
        return None;
    }
    let has_capitals = name.bytes().any(|byte| byte.is_ascii_uppercase());
    Symbol::new(&if has_capitals { name.to_owned() } else { name.to_ascii_uppercase() }).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings_are_one_name() {
        for (name, expected) in [
            ("isBuyerMaker", "is_buyer_maker"),
            ("Is Buyer Maker", "is_buyer_maker"),
            ("trdMatchID", "trd_match_id"),
            ("Time (ms)", "time_ms"),
            ("PRICE", "price"),
            ("quote_qty", "quote_qty"),
            ("price_e4", "price_e4"),
        ] {
            assert_eq!(snake(name), expected);
        }
    }

    #[test]
    fn units_and_scales_are_read_off_names() {
        assert_eq!(without_unit("time_us"), ("time", Some(Unit::Us)));
        assert_eq!(without_unit("ts_ms"), ("ts", Some(Unit::Ms)));
        assert_eq!(without_unit("ts"), ("ts", None));
        assert_eq!(without_scale("price_e4"), ("price", Some(4)));
        assert_eq!(without_scale("price_each"), ("price_each", None));
    }

    #[test]
    fn dumps_are_known_by_their_shape() {
        let time =
            |line: &str| shape(&[StringRecord::from(line.split(',').collect::<Vec<_>>())]).map(|shape| shape.time);
        assert_eq!(time("3748319201,55123.4,0.001,55.1234,1723075200123,True"), Some(4));
        assert_eq!(time("3748319201,55123.4,0.001,55.1234,1723075200123456,true,true"), Some(4));
        assert_eq!(time("9,55123.4,0.001,11,12,1723075200123,False,True"), Some(5));
        assert_eq!(time("9,55123.4,0.001,11,12,1723075200123,False"), Some(5));
        assert_eq!(time("9,55123.4,0.001,11,12,True"), None);
        assert_eq!(time("1723075200123,55123.4,0.001"), None);
    }

    #[test]
    fn files_are_named_after_their_symbol() {
        for (stem, expected) in [
            ("BTCUSDT-trades-2024-08-08", "BTCUSDT"),
            ("BTCUSD_PERP-aggTrades-2024-08", "BTCUSD_PERP"),
            ("spy_trades", "SPY"),
            ("ETHUSDT", "ETHUSDT"),
            ("kraken.xbt", "KRAKEN"),
        ] {
            assert_eq!(symbol_of(stem).unwrap().as_str(), expected);
        }
        for stem in ["-trades", "2024-01-08", "20240108", "trades", "Ticks_2024"] {
            assert_eq!(symbol_of(stem), None, "{stem}");
        }
    }
}
