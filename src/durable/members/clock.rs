//! [`Clock`]: the server's clock, as this process knows it: its own one and an offset. The offset is measured at `join` and with each
//! renewal of the leases.

use std::{
    sync::atomic::{AtomicI64, Ordering},
    time::{Duration, SystemTime},
};

use crate::durable::log::local::nanos;

/// The difference that counts as none, in nanoseconds: one millisecond, so that the time does not jitter with each measurement.
const JITTER: u64 = 1_000_000;

#[derive(Debug, Default)]
pub(crate) struct Clock {
    /// Nanoseconds by which the server's clock is ahead of this process's. Each measurement that disproves it replaces it.
    ahead: AtomicI64,
}

impl Clock {
    pub(crate) fn now(&self) -> SystemTime {
        self.at(SystemTime::now())
    }

    /// The server's time when this process's clock shows `local`.
    fn at(&self, local: SystemTime) -> SystemTime {
        let ahead = self.ahead.load(Ordering::Relaxed);
        let by = Duration::from_nanos(ahead.unsigned_abs());
        let time = if ahead < 0 { local.checked_sub(by) } else { local.checked_add(by) };
        time.unwrap_or(local)
    }

    /// The server has said its time, in microseconds since 1970, between two moments of this process's clock. It may have done so at
    /// either of them, so a difference of less than half the way counts as none.
    pub(crate) fn measured(&self, sent: SystemTime, received: SystemTime, server: i64) {
        // A clock that was set back meanwhile tells nothing.
        let Ok(way) = received.duration_since(sent) else { return };
        let half = nanos(SystemTime::UNIX_EPOCH + way) / 2;
        let middle = nanos(sent).saturating_add(half);
        let ahead = i128::from(server) * 1000 - i128::from(middle);
        let Ok(ahead) = i64::try_from(ahead) else { return };
        let known = self.ahead.load(Ordering::Relaxed);
        if known.abs_diff(ahead) > half + JITTER {
            self.ahead.store(ahead, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: SystemTime = SystemTime::UNIX_EPOCH;

    fn at(millis: u64) -> SystemTime {
        START + Duration::from_millis(1_700_000_000_000 + millis)
    }

    fn micros(time: SystemTime) -> i64 {
        time.duration_since(START).unwrap().as_micros() as i64
    }

    /// Goal: the server's clock counts, and a slow answer does not shake it. Method: clocks an hour apart, and answers on their way.
    #[test]
    fn the_clock_of_the_server_counts() {
        let clock = Clock::default();
        clock.measured(at(0), at(10), micros(at(3_600_005)));
        assert_eq!(clock.at(at(20)), at(3_600_020));
        // The server may have answered at any moment of these 200 ms.
        clock.measured(at(100), at(300), micros(at(3_600_110)));
        assert_eq!(clock.at(at(400)), at(3_600_400));
        clock.measured(at(100), at(110), micros(at(3_600_155)));
        assert_eq!(clock.at(at(400)), at(3_600_450));
        clock.measured(at(500), at(510), micros(at(0)));
        assert_eq!(clock.at(at(600)), at(95), "set back");
        clock.measured(at(700), at(690), micros(at(9_000)));
        assert_eq!(clock.at(at(800)), at(295), "this process's clock was set back meanwhile");
    }
}
