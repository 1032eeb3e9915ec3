//! [`Timestamp`]: a point in time as the rules see it, cheap to compare, subtract and store. The driver makes it of the runtime's
//! clock.

use std::{
    num::NonZeroU64,
    sync::OnceLock,
    time::{Duration, Instant},
};

/// Nanoseconds since a year before this process first asked for the time. 64 bits of them last for 584 years. It is
/// never zero, so that none costs no memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Timestamp(NonZeroU64);

/// A year before the first instant that was converted. Runtimes have clocks of their own, and tests advance theirs at
/// will: none of them starts before this.
static ORIGIN: OnceLock<Instant> = OnceLock::new();

const LONG_AGO: Duration = Duration::from_secs(365 * 24 * 3600);

impl Timestamp {
    /// Never, for all practical purposes.
    pub(crate) const END: Self = Self(NonZeroU64::MAX);

    /// `None` if it is too far away to be counted.
    pub(crate) fn checked_add(self, time: Duration) -> Option<Self> {
        let nanos = u64::try_from(time.as_nanos()).ok()?;
        self.0.checked_add(nanos).map(Self)
    }

    /// Nanoseconds since the origin of all timestamps.
    pub(crate) fn nanos(self) -> u64 {
        self.0.get()
    }

    /// The timestamp so many nanoseconds after the origin.
    pub(crate) fn from_nanos(nanos: u64) -> Self {
        Self(NonZeroU64::new(nanos).unwrap_or(NonZeroU64::MIN))
    }

    /// Later by so many nanoseconds, or [`END`](Self::END).
    pub(crate) fn plus_nanos(self, nanos: u64) -> Self {
        Self(self.0.saturating_add(nanos))
    }

    /// Nanoseconds since `earlier`; 0 if that is later.
    pub(crate) fn nanos_since(self, earlier: Self) -> u64 {
        self.0.get().saturating_sub(earlier.0.get())
    }

    /// The time since `earlier`; zero if that is later.
    pub(crate) fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.nanos_since(earlier))
    }

    /// The same point by the clock of the standard library; `None` if it has none for it.
    pub(crate) fn to_std(self) -> Option<Instant> {
        ORIGIN.get()?.checked_add(Duration::from_nanos(self.0.get()))
    }

    /// Some moment, for tests of rules, which need no clock.
    #[cfg(test)]
    pub(crate) fn some() -> Self {
        Self(NonZeroU64::MIN).checked_add(LONG_AGO).expect("a year is within its range")
    }
}

impl From<Instant> for Timestamp {
    fn from(instant: Instant) -> Self {
        let origin = ORIGIN.get_or_init(|| instant.checked_sub(LONG_AGO).unwrap_or(instant));
        let nanos = instant.saturating_duration_since(*origin).as_nanos();
        u64::try_from(nanos).map_or(Self::END, Self::from_nanos)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn adding_and_asking_back_agree() {
        let now = Timestamp::some();
        let later = now.checked_add(Duration::from_millis(7)).unwrap();
        assert_eq!(later.since(now), Duration::from_millis(7));
        assert_eq!(now.since(later), Duration::ZERO);
        assert_eq!(now.checked_add(Duration::MAX), None);
    }
}
