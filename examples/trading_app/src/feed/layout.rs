//! Which column of a file is what. In come settings and the first rows, out goes a [`Layout`]. Next room: `row`, which
//! reads rows by it.

use std::{fmt, path::Path};

use csv::StringRecord;
use roundlot::market::Symbol;

use super::{names, row::nanos};
use crate::settings::{Column, Replay, Unit};

/// Where in a row each value stands, and how to read it.
#[derive(Debug, PartialEq)]
pub struct Layout {
    pub has_header: bool,
    /// The fields of a row: as many as the header has, or, without one, most of the first rows.
    pub(super) width: usize,
    pub(super) time: usize,
    pub(super) unit: Unit,
    pub(super) symbol: SymbolFrom,
    pub(super) price: usize,
    pub(super) price_scale: u32,
    pub(super) quantity: Option<usize>,
    pub(super) side: Option<(usize, Words)>,
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

/// What stands for a buy and for a sell.
#[derive(Debug, PartialEq)]
pub(super) struct Words {
    pub(super) buy: Vec<String>,
    pub(super) sell: Vec<String>,
}

impl Layout {
    /// Finds the columns by the settings, by the names in the header, or by the shape of the rows.
    pub fn of(settings: &Replay, file: &Path, rows: &[StringRecord]) -> Result<Self, String> {
        let first = rows.first().ok_or("it is empty")?;
        let stem = file.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
        let shape = names::shape(rows);
        let snake: Vec<String> = first.iter().map(names::snake).collect();
        // A first line without a number in it is a header, unless the file is a dump whose first line is broken.
        let is_header = || !first.iter().any(names::is_value) && (shape.is_none() || knows(&snake, names::PRICE));
        let has_header = settings.header.unwrap_or_else(is_header);
        let (snake, width) = if has_header { (snake, first.len()) } else { (Vec::new(), usual_width(rows)) };
        let header = Header { raw: first, snake, width };
        let shape = shape.filter(|_| !has_header);

        let time = header
            .place("time", &settings.time, names::TIME, |name| names::without_unit(name).0)?
            .or(shape.map(|shape| shape.time))
            .ok_or_else(|| header.missing("time"))?;
        let price = header
            .place("price", &settings.price, names::PRICE, |name| names::without_scale(name).0)?
            .or(shape.map(|shape| shape.price))
            .ok_or_else(|| header.missing("price"))?;
        let quantity = header
            .place("quantity", &settings.quantity, names::QUANTITY, |name| name)?
            .or(shape.map(|shape| shape.quantity));
        let id = header.place("id", &settings.id, names::ID, |name| name)?.or(shape.map(|shape| shape.id));
        let symbol = match (settings.constant_symbol, &settings.symbol) {
            (Some(symbol), _) => Some(SymbolFrom::Constant(symbol)),
            (None, said) => header.place("symbol", said, names::SYMBOL, |name| name)?.map(SymbolFrom::Column),
        };
        let symbol = symbol.or_else(|| names::symbol_of(&stem).map(SymbolFrom::Constant)).ok_or(
            "it has no column with the symbol, and its name is none: set replay.symbol or replay.constant_symbol",
        )?;

        let column_name = |column: usize| header.snake.get(column).map(String::as_str).unwrap_or_default();
        let data = if has_header { &rows[1..] } else { rows };
        let unit = settings.time_unit.or(names::without_unit(column_name(time)).1);
        Ok(Self {
            has_header,
            width: header.width,
            unit: unit.unwrap_or_else(|| unit_of(data.iter().filter_map(|row| row.get(time)))),
            price_scale: settings.price_scale.or(names::without_scale(column_name(price)).1).unwrap_or(0),
            side: side(settings, &header, shape)?,
            names: (0..header.width).map(|i| header.name(i)).collect(),
            time,
            symbol,
            price,
            quantity,
            id,
            stem,
        })
    }
}

/// What was found, so that a wrong guess is seen.
impl fmt::Display for Layout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = |column: Option<usize>| column.map_or("none", |column| &self.names[column]);
        let unit = format!("{:?}", self.unit).to_lowercase();
        write!(f, "  time {} in {unit}, price {}", self.names[self.time], self.names[self.price])?;
        if self.price_scale > 0 {
            write!(f, " over 10^{}", self.price_scale)?;
        }
        match self.symbol {
            SymbolFrom::Column(column) => writeln!(f, ", symbol {}", self.names[column])?,
            SymbolFrom::Constant(symbol) => writeln!(f, ", symbol always {symbol}")?,
        }
        let side = self.side.as_ref().map(|(column, _)| *column);
        write!(f, "  quantity {}, side {}", name(self.quantity), name(side))?;
        write!(f, ", id {}", self.id.map_or("by line", |column| &self.names[column]))
    }
}

/// The first line, if it is a header.
struct Header<'a> {
    raw: &'a StringRecord,
    /// Empty if the file has none.
    snake: Vec<String>,
    width: usize,
}

impl Header<'_> {
    /// The column that the settings name, or else the first that goes by a known name.
    fn place(
        &self,
        what: &str,
        said: &Option<Column>,
        known: &[&str],
        base: impl Fn(&str) -> &str,
    ) -> Result<Option<usize>, String> {
        match said {
            Some(Column::Number(number)) if (1..=self.width).contains(number) => Ok(Some(number - 1)),
            Some(Column::Number(number)) => {
                Err(format!("replay.{what}: it has no column {number}, it has {} columns", self.width))
            }
            Some(Column::Name(name)) if self.snake.is_empty() => {
                Err(format!("replay.{what} = {name:?}: it has no header, so give the number of the column"))
            }
            Some(Column::Name(name)) => match self.raw.iter().position(|raw| raw.eq_ignore_ascii_case(name)) {
                Some(column) => Ok(Some(column)),
                None => Err(format!("replay.{what}: no column is called {name:?}, they are {}", self.list())),
            },
            None => Ok(known.iter().find_map(|known| self.snake.iter().position(|name| base(name) == *known))),
        }
    }

    fn missing(&self, what: &str) -> String {
        if self.snake.is_empty() {
            format!("set replay.{what} to the number of its column: it has no header and is no dump that is known")
        } else {
            format!("set replay.{what} to the name of its column, which is one of {}", self.list())
        }
    }

    fn list(&self) -> String {
        self.raw.iter().collect::<Vec<_>>().join(", ")
    }

    fn name(&self, column: usize) -> String {
        match self.snake.is_empty() {
            true => format!("column {}", column + 1),
            false => self.raw.get(column).unwrap_or_default().to_owned(),
        }
    }
}

fn knows(header: &[String], known: &[&str]) -> bool {
    header.iter().any(|name| known.contains(&names::without_scale(name).0))
}

fn side(settings: &Replay, header: &Header<'_>, shape: Option<names::Shape>) -> Result<Option<(usize, Words)>, String> {
    let plain = header.place("side", &settings.side, names::SIDE, |name| name)?;
    let flag = header.place("side", &None, names::BUYER_IS_MAKER, |name| name)?.or(shape.map(|s| s.buyer_is_maker));
    let Some(column) = plain.or(flag) else {
        return Ok(None);
    };
    let (buy, sell): (&[&str], &[&str]) =
        if Some(column) == flag { (&["false", "0"], &["true", "1"]) } else { (&["buy", "b"], &["sell", "s"]) };
    let or = |said: &Option<Vec<String>>, usual: &[&str]| {
        said.clone().unwrap_or_else(|| usual.iter().map(|word| (*word).to_owned()).collect())
    };
    Ok(Some((column, Words { buy: or(&settings.buy, buy), sell: or(&settings.sell, sell) })))
}

/// The number of fields that most rows have.
fn usual_width(rows: &[StringRecord]) -> usize {
    let times = |width| rows.iter().filter(|row| row.len() == width).count();
    rows.iter().map(StringRecord::len).max_by_key(|width| times(*width)).unwrap_or(0)
}

/// The unit in which the largest of these numbers is a time of our age.
fn unit_of<'a>(times: impl Iterator<Item = &'a str>) -> Unit {
    let mut largest: f64 = 0.0;
    for time in times {
        match time.parse::<f64>() {
            Ok(number) => largest = largest.max(number),
            Err(_) if nanos(time, Unit::Iso).is_ok() => return Unit::Iso,
            Err(_) => {}
        }
    }
    match largest {
        1e17.. => Unit::Ns,
        1e14.. => Unit::Us,
        1e11.. => Unit::Ms,
        _ => Unit::S,
    }
}

#[cfg(test)]
#[path = "layout_tests.rs"]
mod tests;
