//! A row as a tick: its fields, read by the layout of the file, or the problem of the row.

use std::{borrow::Cow, str::FromStr};

use csv::StringRecord;
use roundlot::market::{InvalidField, Price, Quantity, Side};
use rust_decimal::Decimal;

use super::{
    layout::{Layout, Scale, SymbolFrom},
    sides::Sides,
};
use crate::bot::tick::Tick;

/// Words of vendors for a missing value.
const NO_VALUE: [&str; 10] = ["", "null", "none", "nan", "n", "unknown", "-", "n/a", "na", "\\n"];

/// The largest and smallest 64-bit numbers, which feeds of whole numbers send where there is no price.
const NO_NUMBER: [&str; 4] =
    ["9223372036854775807", "-9223372036854775808", "-9223372036854775807", "18446744073709551615"];

/// Characters of a value that a message shows.
const QUOTED: usize = 24;

impl Layout {
    /// Reads a row; `line` names a row that has no id.
    pub fn tick(&self, line: u64, row: &StringRecord) -> Result<Tick, String> {
        if row.len() < self.width || row.iter().skip(self.width).any(|field| !field.is_empty()) {
            return Err(format!("wrong number of fields, {} instead of {}", row.len(), self.width));
        }
        let text = |column: usize| row.get(column).unwrap_or_default();
        let wrong = |column: usize| move |problem: String| self.wrong(row, column, &problem);
        let time_ns = self.times.read(row).map_err(|(column, problem)| self.wrong(row, column, &problem))?;
        let symbol = match self.symbol {
            SymbolFrom::Constant(symbol) => symbol,
            SymbolFrom::Column(column) => read(text(column)).map_err(wrong(column))?,
        };
        let price = self.price(text(self.price)).map_err(wrong(self.price))?;
        let quantity = match self.quantity.filter(|column| !is_no_number(text(*column))) {
            Some(column) => Some(self.signed(text(column)).map_err(wrong(column))?),
            None => None,
        };
        let side = match &self.sides {
            Sides::Words { column, .. } if !is_no_value(text(*column)) => {
                Some(self.sides.read(text(*column)).map_err(wrong(*column))?)
            }
            Sides::Sign => quantity.and_then(|(side, _)| side),
            Sides::None | Sides::Words { .. } => None,
        };
        Ok(Tick {
            id: match self.id.map(text).filter(|id| !id.is_empty()) {
                Some(id) => id.to_owned(),
                None => format!("{}:{line}", self.stem),
            },
            time_ns,
            symbol,
            price,
            quantity: quantity.map(|(_, quantity)| quantity),
            side,
        })
    }

    /// Describes a problem with the name and the value of its column.
    pub fn wrong(&self, row: &StringRecord, column: usize, problem: &str) -> String {
        format!("{}{} {problem}", self.names[column], quoted(row.get(column).unwrap_or_default()))
    }

    /// Returns the digits as the file has them. A scale moves the point, and the zeros that this leaves behind go.
    fn price(&self, text: &str) -> Result<Price, String> {
        if NO_NUMBER.contains(&text) {
            return Err("is the number that stands for no price".to_owned());
        }
        let number = self.decimals.plain(text)?;
        let scale = match self.scale {
            Scale::Said(0) => return read(&number),
            Scale::Said(scale) => scale,
            Scale::Named(scale) if number.contains('.') => {
                return Err(format!(
                    "has a point, where the name of the column says 10^{scale}: set replay.price_scale"
                ));
            }
            Scale::Named(scale) => scale,
        };
        scaled(&number, scale)
    }

    /// Returns the side by the sign of the quantity and the quantity without it, if the file tells the side so.
    fn signed(&self, text: &str) -> Result<(Option<Side>, Quantity), String> {
        let number = self.decimals.plain(text)?;
        let unsigned = number.strip_prefix('-');
        match (unsigned, self.sides == Sides::Sign) {
            (Some(unsigned), true) => {
                let quantity = read::<Quantity>(unsigned)?;
                Ok(((!quantity.is_zero()).then_some(Side::Sell), quantity))
            }
            (None, true) => {
                let quantity = read::<Quantity>(&number)?;
                Ok(((!quantity.is_zero()).then_some(Side::Buy), quantity))
            }
            (Some(_), false) => match (read::<Quantity>(&number), &self.sides) {
                (Err(problem), Sides::None) => {
                    Err(format!("{problem}: if the sign is the side, set replay.side_by_sign"))
                }
                (read, _) => read.map(|quantity| (None, quantity)),
            },
            (None, false) => read(&number).map(|quantity| (None, quantity)),
        }
    }
}

/// Returns a number of 10^-`scale`. An exponent of its own is added.
fn scaled(number: &str, scale: u32) -> Result<Price, String> {
    let (mantissa, exponent) = match number.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<i64>().map_err(|_| "is not a decimal number")?),
        None => (number, 0),
    };
    let shifted: Cow<'_, str> = format!("{mantissa}e{}", exponent - i64::from(scale)).into();
    Ok(Price::new(Decimal::normalize(&read::<Price>(&shifted)?.to_decimal())))
}

/// Returns the beginning of a value in quotes, for a message; empty without a value.
pub fn quoted(text: &str) -> String {
    match text.char_indices().nth(QUOTED) {
        _ if text.is_empty() => String::new(),
        Some((end, _)) => format!(" {:?}", format!("{}…", &text[..end])),
        None => format!(" {text:?}"),
    }
}

pub fn is_no_value(field: &str) -> bool {
    NO_VALUE.iter().any(|word| field.eq_ignore_ascii_case(word))
}

fn is_no_number(field: &str) -> bool {
    is_no_value(field) || NO_NUMBER.contains(&field)
}

/// Reads a trading noun. The problem is described without the noun's name, since the file has another one.
pub fn read<T: FromStr<Err = InvalidField>>(text: &str) -> Result<T, String> {
    text.parse().map_err(|error: InvalidField| error.reason().to_string())
}
