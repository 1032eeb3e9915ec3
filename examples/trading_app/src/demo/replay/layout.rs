//! The layout of a file: column and format of each value. Settings, names in the header or the shape of the rows tell
//! it, and the first rows always confirm it. The reader makes the layout; `row` reads rows by it.

use std::{fmt, path::Path};

use csv::StringRecord;
use roundlot::market::{Price, Symbol};

use super::{
    age::Age,
    decimals::Decimals,
    header::Header,
    names,
    row::{is_no_value, quoted, read},
    sides::Sides,
    time_columns::Sample,
    times::{self, Date, Times},
    turnover::quantity_of,
};
use crate::demo::settings::{Replay, Unit};

/// Columns and formats of the values of a row.
#[derive(Debug, PartialEq)]
pub struct Layout {
    /// Number of fields of a row: of the header, or, without one, of most of the first rows.
    pub(super) width: usize,
    pub(super) times: Times,
    /// Units of the times in the first rows, if each row has a unit of its own.
    units: Vec<Unit>,
    /// Offset of clocks, as the settings spell it.
    offset: String,
    pub(super) symbol: SymbolFrom,
    pub(super) price: usize,
    pub(super) scale: Scale,
    pub(super) decimals: Decimals,
    pub(super) quantity: Option<usize>,
    pub(super) sides: Sides,
    pub(super) id: Option<usize>,
    /// The name of the file, for ids of rows that have none.
    pub(super) stem: String,
    pub(super) names: Vec<String>,
}

#[derive(Debug, PartialEq)]
pub(super) enum SymbolFrom {
    Column(usize),
    Constant(Symbol),
}

/// Number of places by which the point of a price moves, and its origin.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Scale {
    /// A setting, or zero without one.
    Said(u32),
    /// The name of the column.
    Named(u32),
}

impl Layout {
    /// Finds the columns. `rows` are the first rows of data; a row that lacks fields takes part in no guess.
    pub fn of(
        settings: &Replay,
        file: &Path,
        header: Option<&StringRecord>,
        rows: &[StringRecord],
        age: Age,
    ) -> Result<Self, String> {
        let stem = file.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
        let shape = names::shape(rows).filter(|_| header.is_none());
        let header = &Header::new(header, rows);
        let whole: Vec<StringRecord> = rows.iter().filter(|row| row.len() >= header.width).cloned().collect();
        let rows = whole.as_slice();
        let widest = rows.iter().map(StringRecord::len).max().unwrap_or(0);
        let values =
            |column: usize| rows.iter().filter_map(move |row| row.get(column)).filter(|text| !is_no_value(text));

        let price = header.place_by("price", &settings.price, names::PRICE, |name| names::without_scale(name).0)?;
        let price = price.or(shape.map(|shape| shape.price)).ok_or_else(|| header.missing("price"));
        let quantity = match header.said("quantity", &settings.quantity)? {
            Some(said) => Some(said),
            None => {
                let columns = header.all("quantity", names::QUANTITY, |name| name)?;
                let numbers = price.iter().chain(&columns).flat_map(|column| values(*column));
                let decimals = Decimals::of(settings.decimal, numbers).ok();
                let found = price.as_ref().ok().zip(decimals);
                found
                    .map_or(columns.first().copied(), |(price, decimals)| quantity_of(&columns, *price, decimals, rows))
            }
        };
        let quantity = quantity.or(shape.map(|shape| shape.quantity));
        let numbers = price.iter().chain(&quantity).flat_map(|column| values(*column));
        let decimals = Decimals::of(settings.decimal, numbers)?;
        let times = Sample { settings, header, rows, decimals, age }.times(shape.map(|shape| shape.time))?;
        let price = price?;
        if !rows.is_empty() && settings.price.is_none() && values(price).next().is_none() {
            return Err(format!("the column {} is empty in its first rows: set replay.price", header.name(price)));
        }
        let symbol = match (settings.constant_symbol, &settings.symbol) {
            (Some(symbol), _) => Some(SymbolFrom::Constant(symbol)),
            (None, said) => header.place("symbol", said, names::SYMBOL)?.map(SymbolFrom::Column),
        };
        let symbol = symbol.or_else(|| names::symbol_of(&stem).map(SymbolFrom::Constant)).ok_or(
            "it has no column with the symbol, and its name is none: set replay.symbol or replay.constant_symbol",
        )?;
        Ok(Self {
            width: header.width,
            units: if times.unit.is_none() && times.date == Date::Said {
                units(&times, values(times.column))
            } else {
                Vec::new()
            },
            scale: scale(settings, header, price, values(price).filter_map(|text| decimals.plain(text).ok()))?,
            sides: Sides::of(settings, header, shape, quantity, values)?,
            id: header.place("id", &settings.id, names::ID)?.or(shape.map(|shape| shape.id)),
            // A row may be wider than most: the shape of a known dump is found in a few.
            names: (0..widest.max(header.width)).map(|column| header.name(column)).collect(),
            times,
            symbol,
            price,
            decimals,
            quantity,
            offset: settings.utc_offset.clone(),
            stem,
        })
    }

    /// The times of these rows, where they can be read.
    pub fn sampled(&self, rows: &[StringRecord]) -> Vec<i64> {
        rows.iter().filter_map(|row| self.times.read(row).ok()).collect()
    }
}

/// Returns the units of the values, each once.
fn units<'a>(times: &Times, values: impl Iterator<Item = &'a str>) -> Vec<Unit> {
    values.filter_map(|text| Some(times.guessed(text).ok()?.1)).fold(Vec::new(), |mut units, unit| {
        if !units.contains(&unit) {
            units.push(unit);
        }
        units
    })
}

/// Smallest whole number that is unlikely to be a price. Where names show a feed that counts 10^-9, fewer digits are
/// enough: a price of 0.001 has seven.
const LARGE: u128 = 100_000_000_000;
const LARGE_OF_NANOS: u128 = 1_000_000;

/// Returns the scale of the setting or the name, or none. Refuses prices that look scaled.
fn scale<'a>(
    settings: &Replay,
    header: &Header<'_>,
    price: usize,
    prices: impl Iterator<Item = std::borrow::Cow<'a, str>>,
) -> Result<Scale, String> {
    let prices: Vec<_> = prices.filter(|text| read::<Price>(text).is_ok_and(|price| !price.is_zero())).collect();
    let name = header.name(price);
    match (settings.price_scale, names::without_scale(header.snake(price)).1) {
        (Some(scale), _) => return Ok(Scale::Said(scale)),
        (None, Some(scale)) => match prices.iter().find(|price| price.contains('.')) {
            None => return Ok(Scale::Named(scale)),
            Some(with) => {
                let with = quoted(with);
                return Err(format!(
                    "{name} says whole numbers of 10^-{scale}, and{with} has a point: set replay.price_scale"
                ));
            }
        },
        (None, None) => {}
    }
    let large = if header.has("ts_event") || header.has("ts_recv") { LARGE_OF_NANOS } else { LARGE };
    let is_large = |price: &str| price.trim_start_matches('-').parse::<u128>().is_ok_and(|price| price >= large);
    if prices.is_empty() || !prices.iter().all(|price| is_large(price)) {
        return Ok(Scale::Said(0));
    }
    Err(format!(
        "the prices in column {name} are large whole numbers,{}, as of a feed that counts 10^-9: set replay.price_scale \
         to 9, or to 0 if they are prices",
        quoted(&prices[0])
    ))
}

/// Describes the layout, so that a user can see a wrong guess.
impl fmt::Display for Layout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = |column: Option<usize>| column.map_or("none", |column| &self.names[column]);
        write!(f, "  time {}", self.names[self.times.column])?;
        match self.times.date {
            Date::Said => {}
            Date::Column(column) => write!(f, " of date {}", self.names[column])?,
            Date::Constant(_) => write!(f, " of one date")?,
        }
        let unit = self.times.unit.into_iter();
        let units: Vec<_> = unit.chain(self.units.iter().copied()).map(times::name).collect();
        if !units.is_empty() {
            write!(f, " in {}", units.join(" or "))?;
        }
        let is_count = |unit: &Unit| matches!(unit, Unit::S | Unit::Ms | Unit::Us | Unit::Ns);
        if self.times.date != Date::Said || !self.times.unit.iter().chain(&self.units).all(is_count) {
            write!(f, " by clocks of UTC{}", self.offset)?;
        }
        if let Some(order) = self.times.order {
            write!(f, ", dates {}", format!("{order:?}").to_lowercase())?;
        }
        write!(f, ", price {}", self.names[self.price])?;
        match self.scale {
            Scale::Said(0) => {}
            Scale::Said(scale) | Scale::Named(scale) => write!(f, " over 10^{scale}")?,
        }
        if self.decimals.mark == ',' {
            write!(f, " with decimal commas")?;
        }
        match self.symbol {
            SymbolFrom::Column(column) => writeln!(f, ", symbol {}", self.names[column])?,
            SymbolFrom::Constant(symbol) => writeln!(f, ", symbol always {symbol}")?,
        }
        write!(f, "  quantity {}, side ", name(self.quantity))?;
        match self.sides {
            Sides::None => write!(f, "none")?,
            Sides::Words { column, .. } => write!(f, "{}", self.names[column])?,
            Sides::Sign => write!(f, "by the sign of the quantity")?,
        }
        write!(f, ", id {}", self.id.map_or("by line", |column| &self.names[column]))
    }
}

#[cfg(test)]
#[path = "layout_tests.rs"]
mod tests;
