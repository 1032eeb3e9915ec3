//! The runtime's clock, which tests can pause: the one place where drivers read the time that they hand to the rules.

use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use crate::rules::time::Timestamp;

/// Far beyond any timer. Tokio's own limit for a timer is about two years.
const FAR: Duration = Duration::from_secs(1 << 32);

/// The time by the runtime's clock.
pub(crate) fn now() -> Timestamp {
    Timestamp::from(Instant::now().into_std())
}

/// The time since 1970 by the clock of the machine, which no test can pause.
pub(crate) fn unix() -> Duration {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
}

/// The timestamp of a time of day, by the clock of the machine as it stands now.
pub(crate) fn time_of_day(time: SystemTime) -> Timestamp {
    at_wall_time(time, SystemTime::now())
}

/// The timestamp of a time of day, as the wall clock stands. A time that is over is before all others: the rules compare it with a
/// time that was read before this call, and the clock goes on.
pub(crate) fn at_wall_time(time: SystemTime, wall: SystemTime) -> Timestamp {
    match time.duration_since(wall) {
        Ok(left) if !left.is_zero() => now().checked_add(left).unwrap_or(Timestamp::END),
        _ => Timestamp::from_nanos(0),
    }
}

/// The instant at which the runtime's timers reach `timestamp`.
pub(crate) fn instant(timestamp: Timestamp) -> Instant {
    timestamp.to_std().map_or_else(|| Instant::now() + FAR, Instant::from_std)
}
