//! The events of the app's own panels, as JSON. Each has a topic, under which a newer event replaces an unread one. `ticker` and `sampler`
//! publish them.

use std::collections::VecDeque;

use roundlot::market::{Price, Symbol};
use serde::Serialize;

use crate::bot::assignment::Lead;

#[derive(Debug, Clone, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Event {
    Bot(Box<Bot>),
    Verdicts(Box<Verdicts>),
    Equity(Equity),
    Positions(Box<Positions>),
    Price {
        symbol: Symbol,
        price: Price,
        /// The first price of the run.
        open: Price,
    },
}

/// State of the bot: the symbols and shards that it trades, and its portfolio.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Bot {
    pub feed: String,
    pub database: String,
    pub portfolio: String,
    pub fills: u64,
    /// Shards that this bot leads; `None` if the log has one, or there is none.
    pub leads: Option<Leads>,
}

/// The shards of the log of orders that this bot leads, and trades the symbols of.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Leads {
    /// Number of shards of the log.
    pub shards: u16,
    pub led: Vec<Lead>,
    pub takeovers: u64,
}

/// Value of the portfolio from the start of the run until now.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Equity {
    /// Time between two points, in seconds. The first point is of the start.
    pub period: f64,
    pub points: Vec<f64>,
}

/// The parts of the portfolio. Amounts are texts with two decimal places: equity is cash and value, and it is the
/// start and both profits.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Positions {
    pub start: String,
    pub cash: String,
    pub equity: String,
    pub profit: String,
    /// Profit in percent of the start; `None` if it began with nothing.
    pub profit_percent: Option<f64>,
    pub realized: String,
    pub unrealized: String,
    /// Value of all open positions.
    pub value: String,
    /// Number of open positions, shown or not.
    pub open: usize,
    pub holdings: Vec<Holding>,
}

/// One open position.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Holding {
    pub symbol: String,
    /// Negative for a short position.
    pub quantity: String,
    /// Average price of what is held.
    pub average: String,
    pub last: String,
    pub value: String,
    pub unrealized: String,
    pub realized: String,
}

/// The latest verdicts: a few of each moment, the rare kinds first.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Verdicts {
    /// Number of all verdicts, shown or not.
    pub heard: u64,
    pub latest: VecDeque<Line>,
}

/// An op of the orders batcher, and its outcome.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Line {
    pub n: u64,
    pub what: &'static str,
    pub side: &'static str,
    pub symbol: String,
    pub price: String,
    pub end: &'static str,
    /// The venue's id of the op, or the reason why it failed.
    pub note: String,
    pub milliseconds: f64,
    pub attempts: u32,
}

impl Event {
    pub fn topic(&self) -> String {
        match self {
            Self::Bot(_) => "bot".to_owned(),
            Self::Verdicts(_) => "verdicts".to_owned(),
            Self::Equity(_) => "equity".to_owned(),
            Self::Positions(_) => "positions".to_owned(),
            Self::Price { symbol, .. } => format!("price {symbol}"),
        }
    }
}
