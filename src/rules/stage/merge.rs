//! [`Merge`]: what two ops of one key become.

/// The result of merging the op that waits with a newer one of the same key.
///
/// A function may also return an `Option`: `Some` is [`Into`](Merge::Into), `None` is [`Net`](Merge::Net).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Merge<T> {
    /// This op waits on, in the place of the one that waited.
    Into(T),
    /// The two cancel out: neither is sent, and both callers are told that they were netted.
    Net,
    /// The two cannot be merged: both are sent, the waiting one in its place and the newer one in its own. What comes
    /// next under the key meets the newer one.
    Apart {
        /// The op that waited.
        waiting: T,
        /// The op that came.
        newer: T,
    },
}

impl<T> From<Option<T>> for Merge<T> {
    fn from(survivor: Option<T>) -> Self {
        survivor.map_or(Self::Net, Self::Into)
    }
}

/// Leaves of an op that waits and a newer one what the function makes of them; neither if it panics.
pub(super) fn in_place<T, M: Into<Merge<T>>>(
    merge: impl FnOnce(T, T) -> M,
    waiting: &mut Option<T>,
    newer: &mut Option<T>,
) {
    let (Some(old), Some(new)) = (waiting.take(), newer.take()) else {
        unreachable!("two ops meet");
    };
    match merge(old, new).into() {
        Merge::Into(op) => *waiting = Some(op),
        Merge::Net => {}
        Merge::Apart { waiting: old, newer: new } => (*waiting, *newer) = (Some(old), Some(new)),
    }
}

/// Keeps the op that arrived later: the usual rule for market data. For [`conflate_by`](crate::Stages::conflate_by).
///
/// It goes by arrival, and knows no time that an op may contain. **An old quote that arrives late replaces a newer one.**
/// Feeds step back in time and messages take ways of different length, so ops with a time of their own need a function
/// that compares it: [`Quote::latest`](crate::market::Quote::latest),
/// [`PriceUpdate::latest`](crate::market::PriceUpdate::latest), or one of yours:
///
/// ```
/// use roundlot::Stages;
///
/// struct Tick { symbol: u32, time_ns: i64 }
///
/// let stages = Stages::new().conflate_by(
///     |tick: &Tick| tick.symbol,
///     |waiting: Tick, newer: Tick| Some(if newer.time_ns < waiting.time_ns { waiting } else { newer }),
/// );
/// ```
///
/// It can't net: ops of which the newer one does not stand for both, such as an order and its cancel, need a merge
/// function of their own, such as [`TradeOp::merge`](crate::market::TradeOp::merge).
pub fn latest<T>(_waiting: T, newer: T) -> Option<T> {
    Some(newer)
}

/// Keeps the op that waits. For [`conflate_by`](crate::Stages::conflate_by).
pub fn first<T>(waiting: T, _newer: T) -> Option<T> {
    Some(waiting)
}
