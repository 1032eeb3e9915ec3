//! Durations in seconds, as statistics, outcomes and errors are serialized: for `#[serde(with = "seconds")]`.

use std::time::Duration;

use serde::{Deserialize, Deserializer, Serializer, de::Error};

/// One more than the largest number of whole seconds in a `Duration`, as the nearest float.
const END: f64 = u64::MAX as f64;

pub(crate) fn serialize<S: Serializer>(time: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(time.as_secs_f64())
}

/// Reads what [`serialize`] wrote, to the nanosecond for times below some 50 days. A time beyond the longest `Duration`
/// counts as that; a negative one is an error.
pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let seconds = f64::deserialize(deserializer)?;
    if seconds >= END {
        return Ok(Duration::MAX);
    }
    Duration::try_from_secs_f64(seconds)
        .map_err(|error| D::Error::custom(format_args!("{seconds} is no time in seconds: {error}")))
}
