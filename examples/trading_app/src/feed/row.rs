//! A row as a tick. In come fields, out goes what they say, by the layout of the file, or what is wrong with them. Next
//! room: `replay`.

use std::{str::FromStr, time::UNIX_EPOCH};

use csv::StringRecord;
use roundlot::market::{InvalidField, Price, Side};
use rust_decimal::{Decimal, prelude::ToPrimitive};

use super::layout::{Layout, SymbolFrom, Words};
use crate::{settings::Unit, tick::Tick};

/// What vendors write where there is no value.
const NO_VALUE: [&str; 7] = ["", "null", "none", "nan", "n", "unknown", "-"];

/// Characters of a value that a message shows.
const QUOTED: usize = 24;

impl Layout {
    /// Reads a row; `line` names a row that has no id.
    pub fn tick(&self, line: u64, row: &StringRecord) -> Result<Tick, String> {
        if row.len() < self.width || row.iter().skip(self.width).any(|field| !field.is_empty()) {
            return Err(format!("wrong number of fields, {} instead of {}", row.len(), self.width));
        }
        let text = |column: usize| row.get(column).unwrap_or_default();
        let value = |column: Option<usize>| Some((column?, text(column?))).filter(|(_, field)| !is_no_value(field));
        let wrong =
            |column: usize| move |problem: String| format!("{}{} {problem}", self.names[column], quoted(text(column)));
        let symbol = match self.symbol {
            SymbolFrom::Constant(symbol) => symbol,
            SymbolFrom::Column(column) => read(text(column)).map_err(wrong(column))?,
        };
        let quantity = value(self.quantity).map(|(column, field)| read(field).map_err(wrong(column)));
        let side = self.side.as_ref().and_then(|(column, words)| {
            let (column, field) = value(Some(*column))?;
            Some(words.side(field).map_err(wrong(column)))
        });
        Ok(Tick {
            id: match self.id.map(text).filter(|id| !id.is_empty()) {
                Some(id) => id.to_owned(),
                None => format!("{}:{line}", self.stem),
            },
            time_ns: nanos(text(self.time), self.unit).map_err(wrong(self.time))?,
            symbol,
            price: self.price(text(self.price)).map_err(wrong(self.price))?,
            quantity: quantity.transpose()?,
            side: side.transpose()?,
        })
    }

    /// The digits as they stand in the file; where a scale moves the point, without the zeros that this leaves behind.
    fn price(&self, text: &str) -> Result<Price, String> {
        match self.price_scale {
            0 => read(text),
            scale => Ok(Price::new(read::<Price>(&format!("{text}e-{scale}"))?.to_decimal().normalize())),
        }
    }
}

impl Words {
    fn side(&self, text: &str) -> Result<Side, String> {
        let is = |words: &[String]| words.iter().any(|word| word.eq_ignore_ascii_case(text));
        if is(&self.buy) {
            Ok(Side::Buy)
        } else if is(&self.sell) {
            Ok(Side::Sell)
        } else {
            Err("is no side: see replay.buy and replay.sell".to_owned())
        }
    }
}

/// A value for a message, if there is one: its beginning in quotes.
fn quoted(text: &str) -> String {
    match text.char_indices().nth(QUOTED) {
        _ if text.is_empty() => String::new(),
        Some((end, _)) => format!(" {:?}", format!("{}…", &text[..end])),
        None => format!(" {text:?}"),
    }
}

fn is_no_value(field: &str) -> bool {
    NO_VALUE.iter().any(|word| field.eq_ignore_ascii_case(word))
}

/// Reads a trading noun. What is wrong with it is said without its name, for the file has another one.
fn read<T: FromStr<Err = InvalidField>>(text: &str) -> Result<T, String> {
    text.parse().map_err(|error: InvalidField| error.reason().to_string())
}

/// A time in nanoseconds since 1970, exactly; what is finer is cut off.
pub fn nanos(text: &str, unit: Unit) -> Result<i64, String> {
    let per_unit = match unit {
        Unit::S => 1_000_000_000,
        Unit::Ms => 1_000_000,
        Unit::Us => 1_000,
        Unit::Ns => 1,
        Unit::Iso => return iso_nanos(text),
    };
    // A decimal by the crate's own rules: exact, in any notation.
    let time = read::<Price>(text)?.to_decimal();
    let nanos = time.checked_mul(Decimal::from(per_unit)).and_then(|nanos| nanos.trunc().to_i64());
    nanos.ok_or_else(|| "is too large for a time".to_owned())
}

fn iso_nanos(text: &str) -> Result<i64, String> {
    let utc = text.trim_end_matches("+00:00").trim_end_matches('Z');
    let time = humantime::parse_rfc3339_weak(utc).map_err(|error| format!("is no time: {error}"))?;
    let since = time.duration_since(UNIX_EPOCH).map_err(|_| "is before 1970")?;
    i64::try_from(since.as_nanos()).map_err(|_| "is too large for a time".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_exact_in_each_unit() {
        let cases = [
            ("1723075200123", Unit::Ms, 1_723_075_200_123_000_000),
            ("1723075200123456", Unit::Us, 1_723_075_200_123_456_000),
            ("1723075200123456789", Unit::Ns, 1_723_075_200_123_456_789),
            ("1723075200.123456789", Unit::S, 1_723_075_200_123_456_789),
            ("1.723075200e9", Unit::S, 1_723_075_200_000_000_000),
            ("0", Unit::Us, 0),
            ("-5", Unit::Ms, -5_000_000),
            ("2024-08-08T00:00:00.123Z", Unit::Iso, 1_723_075_200_123_000_000),
            ("2024-08-08 00:00:00+00:00", Unit::Iso, 1_723_075_200_000_000_000),
        ];
        for (text, unit, expected) in cases {
            assert_eq!(nanos(text, unit), Ok(expected), "{text}");
        }
        for (text, unit) in [("", Unit::Ms), ("soon", Unit::Ms), ("9223372036855", Unit::Ms), ("12:30", Unit::Iso)] {
            assert!(nanos(text, unit).is_err(), "{text}");
        }
    }
}
