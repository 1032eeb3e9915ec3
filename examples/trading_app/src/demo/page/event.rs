//! The events of the page, as JSON. Each has a topic, under which a newer event replaces an unread one; a new browser
//! gets the latest of each topic first. `board` and `sampler` publish them.

use std::collections::{BTreeMap, VecDeque};

use roundlot::{
    Limits, Stats,
    market::{Price, Symbol},
    sink::websocket::FrameStats,
};
use serde::Serialize;

use crate::{bot::assignment::Lead, demo::latency::Percentiles};

/// Number of samples of a minute, which the charts show: two a second. Each has a topic of its own, so that a new
/// browser gets the whole minute, and a slow one misses no sample.
pub const SAMPLES: u64 = 120;

#[derive(Debug, Clone, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Event {
    App(Box<App>),
    Batcher(Box<Batcher>),
    Sample(Box<Sample>),
    Verdicts(Box<Verdicts>),
    Equity(Equity),
    Positions(Box<Positions>),
    Errors(Errors),
    Price {
        symbol: Symbol,
        price: Price,
        /// The first price of the run.
        open: Price,
    },
    /// The end of the run, which is the last event. A connection that ends without it was lost.
    Ended {
        /// Number of ops in the whole run.
        operations: u64,
        /// Number of ops that were given back or lost at the end.
        unsettled: u64,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Topic {
    App,
    Batcher(&'static str),
    Sample(u64),
    Verdicts,
    Equity,
    Positions,
    Errors,
    Price(Symbol),
    Ended,
}

/// The app as a whole.
#[derive(Debug, Clone, Default, Serialize)]
pub struct App {
    /// Id of this run of the app; each start makes a new one.
    pub run: String,
    pub feed: String,
    pub database: String,
    pub seconds: f64,
    /// Whether the app drains, and takes no more commands.
    pub stopping: bool,
    /// Number of ops that wait or are being written. While the app drains, this falls to zero.
    pub unsettled: u64,
    pub operations: u64,
    pub portfolio: String,
    pub fills: u64,
    /// Shards that this bot leads; `None` if the log has one, or there is none.
    pub leads: Option<Leads>,
    pub browsers: u64,
    pub frames: FrameStats,
    pub frames_saved: u64,
    pub bytes_saved: i64,
}

/// The shards of the log of orders that this bot leads, and trades the symbols of.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Leads {
    /// Number of shards of the log.
    pub shards: u16,
    pub led: Vec<Lead>,
    pub takeovers: u64,
}

/// The state of one batcher.
#[derive(Debug, Clone, Serialize)]
pub struct Batcher {
    pub name: &'static str,
    /// Destination of its ops.
    pub to: String,
    pub halted: bool,
    pub limits: Limits,
    pub stats: Stats,
    /// Percentiles of the times in the buffer during the last minute.
    pub latency: Percentiles,
    /// The same times as a histogram: number of ops in each of the `buckets`.
    pub times: Vec<u64>,
}

/// Differences since the sample before.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Sample {
    pub n: u64,
    pub batchers: BTreeMap<&'static str, Flow>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Flow {
    /// Ops accepted per second.
    pub rate: f64,
    /// Mean number of ops per batch, and in `fill` how full batches were. Both are `None` if there were no batches.
    pub size: Option<f64>,
    pub fill: Option<f64>,
    /// Share of the accepted ops that did not have to be sent; `None` if no op was accepted.
    pub merged: Option<f64>,
    /// Retries per second.
    pub retries: f64,
    pub waiting: u64,
    /// Times in the buffer of the ops that ended since the sample before; `None` if there were none.
    pub latency: Option<Latency>,
}

/// Times of some ops, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Latency {
    pub p50: f64,
    pub p99: f64,
    pub max: f64,
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

/// Errors of the destinations by reason, those with the most ops first.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Errors {
    pub rows: Vec<ErrorRow>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ErrorRow {
    pub batcher: &'static str,
    /// Effect of the error on an op.
    pub effect: &'static str,
    pub reason: String,
    /// Number of ops that met the error, each time counted.
    pub ops: u64,
    /// Time since it last came, in seconds.
    pub seconds_ago: u64,
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
    pub fn topic(&self) -> Topic {
        match self {
            Self::App(_) => Topic::App,
            Self::Batcher(batcher) => Topic::Batcher(batcher.name),
            Self::Sample(sample) => Topic::Sample(sample.n % SAMPLES),
            Self::Verdicts(_) => Topic::Verdicts,
            Self::Equity(_) => Topic::Equity,
            Self::Positions(_) => Topic::Positions,
            Self::Errors(_) => Topic::Errors,
            Self::Price { symbol, .. } => Topic::Price(*symbol),
            Self::Ended { .. } => Topic::Ended,
        }
    }
}
