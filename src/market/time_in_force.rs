//! How long an order stays at its venue.

use serde::{Deserialize, Serialize};

/// How long an order stays at its venue. In JSON `"gtc"`, `"ioc"`, `"fok"` and
/// `{"gtd":{"until_ns":1723075200000000000}}`.
///
/// # Examples
///
/// ```
/// use roundlot::market::{Order, Side, Symbol, TimeInForce};
///
/// let symbol = Symbol::from_static("BTCUSDT");
/// let order = Order::limit(1.into(), symbol, Side::Buy, "61250.10".parse()?, "0.25".parse()?)?;
/// assert_eq!(order.time_in_force(), TimeInForce::Gtc);
///
/// let order = order.with_time_in_force(TimeInForce::Gtd { until_ns: 1_723_075_200_000_000_000 })?;
/// assert_eq!(order.time_in_force().until_ns(), Some(1_723_075_200_000_000_000));
/// # Ok::<(), roundlot::market::InvalidField>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum TimeInForce {
    /// Good till canceled: it stays until it is filled or canceled.
    #[default]
    Gtc,
    /// Immediate or cancel: it trades at once as far as it can, and the rest is canceled.
    Ioc,
    /// Fill or kill: it trades at once and in full, or not at all.
    Fok,
    /// Good till date: it stays until it is filled or canceled, but not beyond a time. The venue looks at that time; no
    /// batcher drops the order for it.
    Gtd {
        /// The time at which the venue cancels it, in nanoseconds since the Unix epoch by the venue's clock.
        until_ns: i64,
    },
}

impl TimeInForce {
    /// Whether the order may rest in the book of its venue.
    pub const fn may_rest(self) -> bool {
        match self {
            Self::Gtc | Self::Gtd { .. } => true,
            Self::Ioc | Self::Fok => false,
        }
    }

    /// The time at which the venue cancels the order, in nanoseconds since the Unix epoch.
    pub const fn until_ns(self) -> Option<i64> {
        match self {
            Self::Gtd { until_ns } => Some(until_ns),
            Self::Gtc | Self::Ioc | Self::Fok => None,
        }
    }
}
