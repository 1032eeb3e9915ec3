//! [`Numbers`]: what a venue documents of one limit, as code and configuration files give it.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::rules::config::{duration::Span, limits::LimitsError};

/// The numbers of one bucket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "File", into = "File")]
pub(crate) struct Numbers {
    pub(crate) kind: Kind,
    pub(crate) limit: u64,
    /// Cost of a call, whatever is in it; then an op costs nothing unless a function says so.
    pub(crate) per_call: Option<u64>,
    pub(crate) jitter: Duration,
    pub(crate) skew: Duration,
    pub(crate) paced: bool,
}

/// How a venue forgets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Each charge counts for the window.
    Rolling { window: Duration },
    /// All charges are forgotten when a window ends.
    Fixed { window: Duration },
    /// The count falls by one in this time.
    Decaying { per_unit: Duration },
}

/// The difference between the delays of two calls that is taken for possible.
pub(super) const JITTER: Duration = Duration::from_millis(50);

/// The difference between clocks that is taken for possible.
pub(super) const SKEW: Duration = Duration::from_secs(1);

/// The longest window, a year, and the longest jitter and skew.
const MAX_WINDOW: Duration = Duration::from_secs(365 * 24 * 3600);

/// The largest limit: sums of charges stay far from the ends of 64 bits, and exact as floating point numbers.
pub(super) const MAX_LIMIT: u64 = 1 << 48;

impl Numbers {
    pub(super) fn new(kind: Kind, limit: u64) -> Self {
        Self { kind, limit, per_call: None, jitter: JITTER, skew: SKEW, paced: true }
    }

    /// Whether the numbers make sense by themselves.
    pub(super) fn check(&self) -> Result<(), String> {
        let time = match self.kind {
            Kind::Rolling { window } | Kind::Fixed { window } => window,
            Kind::Decaying { per_unit } => per_unit,
        };
        if self.limit == 0 || self.limit > MAX_LIMIT {
            return Err(format!("must have a limit from 1 to {MAX_LIMIT}"));
        }
        if time.is_zero() || time > MAX_WINDOW {
            return Err(String::from(
                "must have a window, or a unit of decay, of more than nothing and at most a year",
            ));
        }
        if self.jitter > MAX_WINDOW || self.skew > MAX_WINDOW {
            return Err(String::from("must have a jitter and a skew of at most a year"));
        }
        if self.per_call.is_some_and(|cost| cost > self.limit) {
            return Err(String::from("costs more per call than its limit"));
        }
        Ok(())
    }
}

/// How long one unit takes to decay.
pub(super) fn per_unit(per_second: f64) -> Duration {
    Duration::try_from_secs_f64(1.0 / per_second).unwrap_or(Duration::ZERO)
}

/// The numbers as they stand in a file.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    limit: u64,
    #[serde(default)]
    kind: KindName,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    window: Option<Span>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    per_second: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    per_call: Option<u64>,
    #[serde(default = "jitter")]
    jitter: Span,
    #[serde(default = "skew")]
    skew: Span,
    #[serde(default = "yes")]
    paced: bool,
}

#[derive(Default, Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum KindName {
    #[default]
    Rolling,
    Fixed,
    Decaying,
}

fn jitter() -> Span {
    Span(JITTER)
}

fn skew() -> Span {
    Span(SKEW)
}

fn yes() -> bool {
    true
}

impl TryFrom<File> for Numbers {
    type Error = LimitsError;

    fn try_from(file: File) -> Result<Self, LimitsError> {
        let needs = |what: &str| LimitsError::new("quota", what);
        let kind = match (file.kind, file.window, file.per_second) {
            (KindName::Rolling, Some(Span(window)), None) => Kind::Rolling { window },
            (KindName::Fixed, Some(Span(window)), None) => Kind::Fixed { window },
            (KindName::Decaying, None, Some(rate)) => Kind::Decaying { per_unit: per_unit(rate) },
            (KindName::Decaying, ..) => return Err(needs("needs `per_second`, and no `window`, where it is decaying")),
            _ => return Err(needs("needs a `window`, and no `per_second`, where it is not decaying")),
        };
        let numbers = Self {
            kind,
            limit: file.limit,
            per_call: file.per_call,
            jitter: file.jitter.0,
            skew: file.skew.0,
            paced: file.paced,
        };
        numbers.check().map_err(|problem| needs(&problem))?;
        Ok(numbers)
    }
}

impl From<Numbers> for File {
    fn from(numbers: Numbers) -> Self {
        let (kind, window, per_second) = match numbers.kind {
            Kind::Rolling { window } => (KindName::Rolling, Some(Span(window)), None),
            Kind::Fixed { window } => (KindName::Fixed, Some(Span(window)), None),
            Kind::Decaying { per_unit } => (KindName::Decaying, None, Some(1.0 / per_unit.as_secs_f64())),
        };
        Self {
            limit: numbers.limit,
            kind,
            window,
            per_second,
            per_call: numbers.per_call,
            jitter: Span(numbers.jitter),
            skew: Span(numbers.skew),
            paced: numbers.paced,
        }
    }
}
