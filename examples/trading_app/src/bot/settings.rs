//! Settings of the bot's parts. A value out of its range is refused when it is read, so that every value in use is
//! sound. `main` hands each part its section.

use std::{
    fmt,
    path::{Path, PathBuf},
    str::FromStr,
    time::Duration,
};

use roundlot::{BatcherConfig, market::Quantity};
use serde::{Deserialize, Deserializer, de::Error};

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Strategy {
    /// Cash at the start.
    pub cash: Quantity,
    /// Cost of one entry.
    pub notional: Quantity,
    /// Distance of the bid below the price, in percent.
    #[serde(deserialize_with = "percent")]
    pub entry_percent: Quantity,
    /// Distance of the offer above the price, in percent.
    pub exit_percent: Quantity,
    /// Distance of the stop below the highest price, in percent.
    #[serde(deserialize_with = "percent")]
    pub stop_percent: Quantity,
    /// Move of the price that replaces a bid or an offer, in percent.
    #[serde(deserialize_with = "percent")]
    pub requote_percent: Quantity,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Venue {
    /// Address of a venue that is a program of its own; `None` for one inside of the bot, or beside its log.
    pub url: Option<String>,
    /// Duration of a usual call.
    #[serde(deserialize_with = "duration")]
    pub latency: Duration,
    /// Share of the spells that are slow, in percent.
    #[serde(deserialize_with = "percent")]
    pub slow_percent: u64,
    /// Calls per spell.
    pub slow_calls: u64,
    /// Duration of a call in a slow spell.
    #[serde(deserialize_with = "duration")]
    pub slow_latency: Duration,
    /// Share of the calls that fail as a whole, in percent.
    #[serde(deserialize_with = "percent")]
    pub unavailable_percent: u64,
    /// Share of the entries and exits that are rejected, in percent.
    #[serde(deserialize_with = "percent")]
    pub reject_percent: u64,
    /// Whether the venue knows an order by its client id when it comes again, and gives it the answer of the first one.
    pub checks_client_ids: bool,
    /// Limits of the venue; `None` for a venue without any.
    pub limits: Option<VenueLimits>,
}

/// Limits of the venue. A call beyond one of them is answered by 429, and counts in none.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VenueLimits {
    /// Orders and amends within any 10 seconds. Each one of a batch counts, cancels do not.
    #[serde(deserialize_with = "positive")]
    pub orders_per_10s: u64,
    /// Calls within a minute of the clock.
    #[serde(deserialize_with = "positive")]
    pub calls_per_minute: u64,
    /// Weight of the calls within a minute of the clock: one per call, and one per five ops in it.
    #[serde(deserialize_with = "positive")]
    pub weight_per_minute: u64,
    /// Calls in spite of a 429, within a minute, that lead to a ban.
    #[serde(deserialize_with = "positive")]
    pub ignored_before_ban: u64,
    /// Duration of a ban.
    #[serde(deserialize_with = "ban")]
    pub ban: Duration,
}

#[cfg(test)]
impl Venue {
    /// Calls that take 10 ms and never fail, without limits.
    pub fn reliable_for_test() -> Self {
        let [latency, slow_latency] = [10, 150].map(Duration::from_millis);
        Self {
            url: None,
            latency,
            slow_percent: 0,
            slow_calls: 10,
            slow_latency,
            unavailable_percent: 0,
            reject_percent: 0,
            checks_client_ids: true,
            limits: None,
        }
    }
}

/// The place of the log of orders.
#[derive(Clone, PartialEq, Eq)]
pub enum LogPlace {
    File(PathBuf),
    /// The URL of a PostgreSQL database.
    Postgres(String),
    Nats(NatsLog),
}

/// A log on NATS servers, with its ledger in a PostgreSQL database.
#[derive(Clone, PartialEq, Eq)]
pub struct NatsLog {
    /// URLs of the servers, with commas between them.
    pub servers: String,
    /// The URL of the database.
    pub ledger: String,
    /// URLs at which the servers say whether they sync what they confirm.
    pub monitoring: Vec<String>,
    /// The file with the credentials of a user of the servers.
    pub credentials: Option<PathBuf>,
}

impl LogPlace {
    /// The file; `None` for a log on servers.
    pub fn file(&self) -> Option<&Path> {
        match self {
            Self::File(path) => Some(path),
            Self::Postgres(_) | Self::Nats(_) => None,
        }
    }
}

impl fmt::Display for LogPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => path.display().fmt(f),
            // A URL may hold a password.
            Self::Postgres(_) => f.write_str("PostgreSQL"),
            Self::Nats(_) => f.write_str("NATS"),
        }
    }
}

impl fmt::Debug for LogPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The log of the orders batcher.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OrdersLog {
    pub place: LogPlace,
    /// Number of shards, fixed for the life of the log. A bot trades the symbols of the shards that it leads.
    pub shards: u16,
    /// Age at which an entry or an exit is not sent any more.
    pub expire_after: Duration,
}

/// Limits and retries of the three batchers. The crate itself reads and checks them.
#[derive(Debug, Clone, Copy)]
pub struct Batchers<'a> {
    pub prices: &'a BatcherConfig,
    pub orders: &'a BatcherConfig,
    pub trades: &'a BatcherConfig,
}

/// Reads a percentage from 0 to 100.
pub fn percent<'de, D: Deserializer<'de>, T: Deserialize<'de> + PartialOrd + FromStr>(from: D) -> Result<T, D::Error> {
    let percent = T::deserialize(from)?;
    let most = "100".parse::<T>().map_err(|_| D::Error::custom("100 is no such number"))?;
    if percent <= most { Ok(percent) } else { Err(D::Error::custom("it must be at most 100 percent")) }
}

/// Reads a number from 1 on.
pub fn positive<'de, D: Deserializer<'de>, T: Deserialize<'de> + PartialOrd + From<u8>>(
    from: D,
) -> Result<T, D::Error> {
    let number = T::deserialize(from)?;
    if number >= T::from(1) { Ok(number) } else { Err(D::Error::custom("it must be at least 1")) }
}

/// The longest ban: three days, which is the longest of real venues.
const MAX_BAN: Duration = Duration::from_secs(3 * 24 * 3600);

fn ban<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
    let ban = duration(from)?;
    let fits = !ban.is_zero() && ban <= MAX_BAN;
    if fits { Ok(ban) } else { Err(D::Error::custom("a ban takes more than nothing, and at most three days")) }
}

/// Reads a duration such as "10ms".
pub fn duration<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(from)?;
    humantime::parse_duration(&text).map_err(|error| D::Error::custom(format!("\"{text}\" is no duration: {error}")))
}
