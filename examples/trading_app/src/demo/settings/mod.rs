//! All settings of the app, as they stand in `config/trading_app.toml`. Each value is checked when it is read. `load`
//! finds and merges the sources; `main` calls it once.

mod address;
mod destination;
mod file;
mod load;
mod log;

use std::{path::PathBuf, time::Duration};

use roundlot::{
    BatcherConfig, Limits, QuotaConfig, Retry,
    market::{Quantity, Symbol},
};
use serde::{Deserialize, Deserializer, de::Error as _};

use crate::bot::settings::{self as bot, duration, percent, positive};
pub use address::Address;
pub use destination::Named;
pub use load::load;
pub use log::{LogName, LogSettings, Url};

/// Duration of the simulated feed if none is set, in seconds.
const DEFAULT_SECONDS: u64 = 10;

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    pub seconds: Option<u64>,
    pub seed: u64,
    pub database: Option<Named>,
    pub page: Option<Address>,
    pub page_open_to_all: bool,
    pub report: Option<PathBuf>,
    pub log: String,
    #[serde(deserialize_with = "duration")]
    pub progress: Duration,
    #[serde(deserialize_with = "duration")]
    pub drain: Duration,
    pub sim: Sim,
    pub replay: Replay,
    pub strategy: bot::Strategy,
    pub venue: bot::Venue,
    pub prices: BatcherConfig,
    pub orders: Orders,
    pub trades: BatcherConfig,
    pub unbatched: Unbatched,
}

/// The orders batcher, and its log if it has one.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(from = "OrdersSection")]
pub struct Orders {
    pub batcher: BatcherConfig,
    /// The log; `None` for orders in memory, and before [`resolve`](Self::resolve).
    pub log: Option<bot::OrdersLog>,
    pub log_settings: LogSettings,
    shards: u16,
    expire_after: Duration,
}

/// The section as it stands in the file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OrdersSection {
    limits: Limits,
    retry: Retry,
    #[serde(default)]
    quota: QuotaConfig,
    log: Option<LogName>,
    ledger: Option<Url>,
    #[serde(default)]
    monitoring: Vec<Url>,
    credentials: Option<PathBuf>,
    #[serde(deserialize_with = "positive")]
    shards: u16,
    #[serde(deserialize_with = "duration")]
    expire_after: Duration,
}

impl From<OrdersSection> for Orders {
    fn from(section: OrdersSection) -> Self {
        let OrdersSection { limits, retry, quota, log, ledger, monitoring, credentials, shards, expire_after } =
            section;
        let mut batcher = BatcherConfig::new(limits).retry(retry);
        batcher.quota = quota;
        let log_settings = LogSettings { log, ledger, monitoring, credentials };
        Self { batcher, log: None, log_settings, shards, expire_after }
    }
}

impl Orders {
    /// Reads the settings of the log, once the sources are merged.
    fn resolve(&mut self) -> Result<(), String> {
        let (shards, expire_after) = (self.shards, self.expire_after);
        self.log = self.log_settings.place()?.map(|place| bot::OrdersLog { place, shards, expire_after });
        Ok(())
    }
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

/// Unit of a time, or its spelling.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Unit {
    S,
    Ms,
    Us,
    Ns,
    /// A text of the calendar, such as an ISO date.
    Iso,
    /// Digits of the calendar with no mark between them.
    Digits,
    /// Days in the count of spreadsheets.
    Excel,
}

/// Order of day and month in a date such as 01/08/2024.
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
pub struct Unbatched {
    pub sample: usize,
}

impl Settings {
    /// The sections of the batchers.
    pub fn batchers(&self) -> bot::Batchers<'_> {
        bot::Batchers { prices: &self.prices, orders: &self.orders.batcher, trades: &self.trades }
    }

    /// Duration of the run; `None` to run until Ctrl-C or to the end of the file.
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
