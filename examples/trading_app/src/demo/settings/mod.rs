//! All settings of the app, as they stand in `config/trading_app.toml`. In comes TOML, out go checked [`Settings`]. Next
//! room: `load`, which finds and merges their sources.

mod destination;
mod load;

use std::{net::SocketAddr, path::PathBuf, str::FromStr, time::Duration};

use roundlot::{
    Limits, Retry,
    market::{Quantity, Symbol},
};
use serde::{Deserialize, Deserializer, de::Error as _};

pub use destination::{Destination, Named};
pub use load::load;

/// How long the simulated feed runs if nobody says.
const DEFAULT_SECONDS: u64 = 10;

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    pub seconds: Option<u64>,
    pub seed: u64,
    pub database: Option<Named>,
    pub page: Option<SocketAddr>,
    pub page_open_to_all: bool,
    pub report: Option<PathBuf>,
    pub log: String,
    #[serde(deserialize_with = "span")]
    pub progress: Duration,
    #[serde(deserialize_with = "span")]
    pub drain: Duration,
    pub sim: Sim,
    pub replay: Replay,
    pub strategy: Strategy,
    pub venue: Venue,
    pub prices: Desk,
    pub orders: Desk,
    pub trades: Desk,
    pub unbatched: Unbatched,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sim {
    #[serde(deserialize_with = "positive")]
    pub pairs: usize,
    #[serde(deserialize_with = "positive")]
    pub updates_per_second: u64,
    #[serde(deserialize_with = "percent")]
    pub step_percent: Quantity,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Replay {
    pub file: Option<PathBuf>,
    #[serde(deserialize_with = "speed")]
    pub speed: f64,
    pub strict: bool,
    pub skip_lines: u64,
    pub delimiter: Option<char>,
    pub header: Option<bool>,
    #[serde(default, deserialize_with = "decimal_mark")]
    pub decimal: Option<char>,
    pub time: Option<Column>,
    pub time_unit: Option<Unit>,
    pub date: Option<Column>,
    pub constant_date: Option<String>,
    pub date_order: Option<DateOrder>,
    pub utc_offset: String,
    pub symbol: Option<Column>,
    pub constant_symbol: Option<Symbol>,
    pub price: Option<Column>,
    pub price_scale: Option<u32>,
    pub quantity: Option<Column>,
    pub side: Option<Column>,
    pub side_by_sign: Option<bool>,
    pub buy: Option<Vec<String>>,
    pub sell: Option<Vec<String>>,
    pub id: Option<Column>,
}

/// A column of a CSV file: by its number from 1 on, or by its name in the header.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(untagged, expecting = "a column is its name in quotes, or its number from 1 on")]
pub enum Column {
    Number(usize),
    Name(String),
}

/// What a time counts, or how it is spelled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Unit {
    S,
    Ms,
    Us,
    Ns,
    /// A text of the calendar.
    Iso,
    /// Digits of the calendar without anything between them.
    Digits,
    /// Days as spreadsheets count them.
    Excel,
}

/// What comes first in a date such as 01/08/2024.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DateOrder {
    /// Day, month, year.
    Dmy,
    /// Month, day, year.
    Mdy,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Strategy {
    pub cash: Quantity,
    pub notional: Quantity,
    #[serde(deserialize_with = "percent")]
    pub entry_percent: Quantity,
    pub exit_percent: Quantity,
    #[serde(deserialize_with = "percent")]
    pub stop_percent: Quantity,
    #[serde(deserialize_with = "percent")]
    pub requote_percent: Quantity,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Venue {
    #[serde(deserialize_with = "span")]
    pub latency: Duration,
    #[serde(deserialize_with = "percent")]
    pub slow_percent: u64,
    pub slow_calls: u64,
    #[serde(deserialize_with = "span")]
    pub slow_latency: Duration,
    #[serde(deserialize_with = "percent")]
    pub unavailable_percent: u64,
    #[serde(deserialize_with = "percent")]
    pub reject_percent: u64,
}

/// Limits and retries of a batcher are read by the crate itself.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Desk {
    pub limits: Limits,
    pub retry: Retry,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Unbatched {
    pub sample: usize,
}

impl Settings {
    /// How long to run, if not for ever or to the end of the file.
    pub fn run_time(&self) -> Option<Duration> {
        let seconds = match (self.seconds, &self.replay.file) {
            (Some(seconds), _) => seconds,
            (None, Some(_)) => 0,
            (None, None) => DEFAULT_SECONDS,
        };
        (seconds > 0).then(|| Duration::from_secs(seconds))
    }
}

fn speed<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    let speed = f64::deserialize(deserializer)?;
    if speed.is_finite() && speed >= 0.0 { Ok(speed) } else { Err(D::Error::custom("a speed is a number from 0 on")) }
}

fn decimal_mark<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<char>, D::Error> {
    let mark = Option::<char>::deserialize(deserializer)?;
    if matches!(mark, None | Some('.' | ',')) { Ok(mark) } else { Err(D::Error::custom("it is \".\" or \",\"")) }
}

fn positive<'de, D: Deserializer<'de>, T: Deserialize<'de> + PartialOrd + From<u8>>(from: D) -> Result<T, D::Error> {
    let number = T::deserialize(from)?;
    if number >= T::from(1) { Ok(number) } else { Err(D::Error::custom("it must be at least 1")) }
}

/// A percentage of something, of which there is no more than all.
fn percent<'de, D: Deserializer<'de>, T: Deserialize<'de> + PartialOrd + FromStr>(from: D) -> Result<T, D::Error> {
    let percent = T::deserialize(from)?;
    let most = "100".parse::<T>().map_err(|_| D::Error::custom("100 is no such number"))?;
    if percent <= most { Ok(percent) } else { Err(D::Error::custom("it must be at most 100 percent")) }
}

/// A duration written as "10ms".
fn span<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(deserializer)?;
    humantime::parse_duration(&text).map_err(|error| D::Error::custom(format!("\"{text}\" is no duration: {error}")))
}
