//! Events for browsers, as JSON. Each event has a topic, under which a newer one replaces an unread one; a new browser gets the
//! latest of each topic first. `sampler` publishes these, and panels their own.

use std::{collections::BTreeMap, sync::Arc};

use roundlot::{Limits, Stats, sink::websocket::FrameStats};
use serde::{Serialize, Serializer};
use serde_json::value::RawValue;

use crate::latency::Percentiles;

/// Number of samples of a minute, which the charts show: two a second. Each has a topic of its own, so that a new
/// browser gets the whole minute, and a slow one misses no sample.
pub(crate) const SAMPLES: u64 = 120;

/// An event, encoded once for all browsers.
#[derive(Debug, Clone)]
pub(crate) struct Event {
    pub(crate) topic: Arc<str>,
    json: Arc<RawValue>,
}

impl Event {
    pub(crate) fn new(topic: impl Into<Arc<str>>, body: &impl Serialize) -> serde_json::Result<Self> {
        Ok(Self { topic: topic.into(), json: serde_json::value::to_raw_value(body)?.into() })
    }
}

impl Serialize for Event {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.json.serialize(serializer)
    }
}

/// The events of the board itself.
#[derive(Debug, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub(crate) enum Body<'a> {
    App(App<'a>),
    Batcher(Box<Batcher<'a>>),
    Sample(Sample<'a>),
    Errors {
        /// A row for each reason, those with the most ops first.
        rows: Vec<ErrorRow>,
    },
    /// The end of the run, which is the last event. A connection that ends without it was lost.
    Ended {
        /// Number of ops in the whole run.
        operations: u64,
        /// Number of ops that were given back or lost at the end.
        unsettled: u64,
    },
}

impl Body<'_> {
    pub(crate) fn event(&self) -> serde_json::Result<Event> {
        let topic = match self {
            Self::App(_) => "app".into(),
            Self::Batcher(batcher) => format!("batcher {}", batcher.name),
            Self::Sample(sample) => format!("sample {}", sample.n % SAMPLES),
            Self::Errors { .. } => "errors".into(),
            Self::Ended { .. } => "ended".into(),
        };
        Event::new(topic, self)
    }
}

/// The app as a whole.
#[derive(Debug, Serialize)]
pub(crate) struct App<'a> {
    /// Id of this run of the app; each start makes a new one.
    pub(crate) run: &'a str,
    pub(crate) title: &'a str,
    /// Names of the batchers, in the order in which they are shown.
    pub(crate) batchers: Vec<&'a str>,
    pub(crate) seconds: f64,
    /// Whether the app drains, and takes no more commands.
    pub(crate) stopping: bool,
    /// Number of ops that wait or are being written. While the app drains, this falls to zero.
    pub(crate) unsettled: u64,
    pub(crate) operations: u64,
    pub(crate) browsers: u64,
    pub(crate) frames: FrameStats,
    pub(crate) frames_saved: u64,
    pub(crate) bytes_saved: i64,
}

/// The state of one batcher.
#[derive(Debug, Serialize)]
pub(crate) struct Batcher<'a> {
    pub(crate) name: &'a str,
    /// Destination of its ops; empty if it was not named.
    pub(crate) to: &'a str,
    /// Whether the app itself sends nothing to it until it is resumed.
    pub(crate) halted: bool,
    pub(crate) limits: Option<&'a Limits>,
    pub(crate) stats: &'a Stats,
    /// Percentiles of the times in the buffer during the last minute; `None` without a recorder of times.
    pub(crate) latency: Option<Percentiles>,
    /// The same times as a histogram: number of ops in each of the `buckets`.
    pub(crate) times: Vec<u64>,
}

/// Differences since the sample before.
#[derive(Debug, Serialize)]
pub(crate) struct Sample<'a> {
    pub(crate) n: u64,
    pub(crate) batchers: BTreeMap<&'a str, Flow>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub(crate) struct Flow {
    /// Ops accepted per second.
    pub(crate) rate: f64,
    /// Mean number of ops per batch, and in `fill` how full batches were. Both are `None` if there were no batches.
    pub(crate) size: Option<f64>,
    pub(crate) fill: Option<f64>,
    /// Share of the accepted ops that did not have to be sent; `None` if no op was accepted.
    pub(crate) merged: Option<f64>,
    /// Retries per second.
    pub(crate) retries: f64,
    pub(crate) waiting: u64,
    /// Times in the buffer of the ops that ended since the sample before; `None` if there were none.
    pub(crate) latency: Option<Latency>,
}

/// Times of some ops, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(crate) struct Latency {
    pub(crate) p50: f64,
    pub(crate) p99: f64,
    pub(crate) max: f64,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct ErrorRow {
    pub(crate) batcher: String,
    /// Effect of the error on an op.
    pub(crate) effect: &'static str,
    pub(crate) reason: String,
    /// Number of ops that met the error, each time counted.
    pub(crate) ops: u64,
    /// Time since it last came, in seconds.
    pub(crate) seconds_ago: u64,
}
