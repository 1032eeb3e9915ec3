//! The names of columns. [`Header`] finds a column by the name in a setting or by a known name. Two columns of one name
//! are ambiguous, and neither is taken.

use csv::StringRecord;

use super::names;
use crate::demo::settings::Column;

/// The first line of a file, if it is a header, and the number of columns.
pub struct Header<'a> {
    raw: Option<&'a StringRecord>,
    /// The names in snake case; empty if the file has none.
    snake: Vec<String>,
    pub width: usize,
}

impl<'a> Header<'a> {
    /// Takes the names of the header; without one, the width of most rows.
    pub fn new(raw: Option<&'a StringRecord>, rows: &[StringRecord]) -> Self {
        let snake = raw.map(|raw| raw.iter().map(names::snake).collect()).unwrap_or_default();
        Self { raw, snake, width: raw.map_or_else(|| usual_width(rows), StringRecord::len) }
    }

    /// Finds the column that a setting names.
    pub fn said(&self, what: &str, said: &Option<Column>) -> Result<Option<usize>, String> {
        match (said, self.raw) {
            (None, _) => Ok(None),
            (Some(Column::Number(number)), _) if (1..=self.width).contains(number) => Ok(Some(number - 1)),
            (Some(Column::Number(number)), _) => {
                Err(format!("replay.{what}: it has no column {number}, it has {} columns", self.width))
            }
            (Some(Column::Name(name)), None) => {
                Err(format!("replay.{what} = {name:?}: it has no header, so give the number of the column"))
            }
            (Some(Column::Name(name)), Some(raw)) => {
                let exact = places(raw.iter(), |raw| raw == name);
                let found =
                    if exact.is_empty() { places(raw.iter(), |raw| raw.eq_ignore_ascii_case(name)) } else { exact };
                match found[..] {
                    [] => Err(format!("replay.{what}: no column is called {name:?}, they are {}", self.list())),
                    [column] => Ok(Some(column)),
                    _ => Err(twice(what, name)),
                }
            }
        }
    }

    /// Finds the column that a setting names, or else the first with a known name.
    pub fn place(&self, what: &str, said: &Option<Column>, known: &[&str]) -> Result<Option<usize>, String> {
        self.place_by(what, said, known, |name| name)
    }

    /// Finds a column in the same way, where names may have endings that `base` cuts off.
    pub fn place_by(
        &self,
        what: &str,
        said: &Option<Column>,
        known: &[&str],
        base: impl Fn(&str) -> &str,
    ) -> Result<Option<usize>, String> {
        match self.said(what, said)? {
            Some(column) => Ok(Some(column)),
            None => self.all(what, known, base).map(|columns| columns.first().copied()),
        }
    }

    /// Finds all columns with known names, in the order of these.
    pub fn all(&self, what: &str, known: &[&str], base: impl Fn(&str) -> &str) -> Result<Vec<usize>, String> {
        let snake = || self.snake.iter().map(String::as_str);
        let columns: Vec<usize> = known.iter().flat_map(|known| places(snake(), |name| base(name) == *known)).collect();
        match columns.first().map(|first| self.snake[*first].as_str()) {
            Some(name) if places(snake(), |other| other == name).len() > 1 => Err(twice(what, name)),
            _ => Ok(columns),
        }
    }

    pub fn missing(&self, what: &str) -> String {
        match self.raw {
            None => {
                format!("set replay.{what} to the number of its column: it has no header and is no dump that is known")
            }
            Some(_) => format!("set replay.{what} to the name of its column, which is one of {}", self.list()),
        }
    }

    /// Returns the name as the file spells it.
    pub fn name(&self, column: usize) -> String {
        match self.raw {
            None => format!("column {}", column + 1),
            Some(raw) => raw.get(column).unwrap_or_default().to_owned(),
        }
    }

    pub fn snake(&self, column: usize) -> &str {
        self.snake.get(column).map(String::as_str).unwrap_or_default()
    }

    /// Whether a column goes by this name, in snake case.
    pub fn has(&self, name: &str) -> bool {
        self.snake.iter().any(|snake| snake == name)
    }

    fn list(&self) -> String {
        self.raw.into_iter().flatten().collect::<Vec<_>>().join(", ")
    }
}

fn places<'n>(names: impl Iterator<Item = &'n str>, is: impl Fn(&str) -> bool) -> Vec<usize> {
    names.enumerate().filter(|(_, name)| is(name)).map(|(column, _)| column).collect()
}

fn twice(what: &str, name: &str) -> String {
    format!("more than one column is called {name:?}: set replay.{what} to the number of the right one")
}

/// Returns the number of fields that most rows have.
pub fn usual_width(rows: &[StringRecord]) -> usize {
    let times = |width| rows.iter().filter(|row| row.len() == width).count();
    rows.iter().map(StringRecord::len).max_by_key(|width| times(*width)).unwrap_or(0)
}
