//! [`Retry`]: how long to wait before an op is tried again, and how often. The waiting itself happens in the buffer.

use std::{
    hash::{BuildHasher, RandomState},
    time::Duration,
};

use serde::{Deserialize, Serialize};

use crate::rules::config::{duration::Span, limits::LimitsError};

/// Retry with jittered exponential backoff.
///
/// After the `n`th failed attempt a partition backs off for a random time between half and all of
/// `base * 2^(n-1)`, capped at `max` ("equal jitter" in Marc Brooker's terms, AWS Architecture Blog, 2015: it spreads
/// the herd and never retries at once). Meanwhile its ops wait in the buffer, where they can be conflated, expired or
/// withdrawn.
///
/// The default is `exponential(50 ms, 5 s)` with at most 8 attempts.
///
/// An outage of the destination ([`SinkError::outage`](crate::SinkError::outage)) counts as no attempt of any op. The
/// whole batcher freezes with the same backoff, by the number of writes in a row that met the outage, until a write gets
/// through or [`give_up_after`](Self::give_up_after) has passed. A retry without a pause, as [`none`](Self::none), freezes
/// with the default backoff.
///
/// # In code and in a file
///
/// Both have the same names and defaults. The builder corrects a value out of its range; a file that has one is refused,
/// since it is more likely a slip there:
///
/// | value | in code | in a file |
/// |---|---|---|
/// | `base` longer than `max` | counts as `max` | error: `base must not be longer than max` |
/// | `max_attempts` of 0 | counts as 1 | error: `max_attempts must be at least 1, the first attempt` |
/// | a name that does not exist | does not compile | error: `unknown field` |
///
/// A file that has only one of `base` and `max` gets the default of the other one, so that `base = "10s"` alone is longer
/// than `max`, which is 5 s.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use roundlot::Retry;
///
/// let retry = Retry::exponential(Duration::from_millis(50), Duration::from_secs(5)).max_attempts(8);
/// let never = Retry::none();
///
/// let same: Retry = toml::from_str("base = \"50ms\"\nmax = \"5s\"\nmax_attempts = 8")?;
/// assert_eq!(same, retry);
///
/// // The builder corrects what a file is refused for.
/// let second = Duration::from_secs(1);
/// assert_eq!(Retry::exponential(10 * second, second), Retry::exponential(second, second));
/// let error = toml::from_str::<Retry>("base = \"10s\"\nmax = \"1s\"").unwrap_err();
/// assert!(error.to_string().contains("base must not be longer than max"));
/// # Ok::<(), toml::de::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "File", into = "File")]
#[must_use = "a retry policy does nothing until a batcher gets it"]
pub struct Retry {
    base: Duration,
    max: Duration,
    pub(crate) max_attempts: u32,
    give_up_after: Option<Duration>,
    max_freeze: Duration,
    seed: Option<u64>,
}

/// Longest freeze by default. A venue's longest ban lasts for three days; what asks for more is taken for a mistake.
const MAX_FREEZE: Duration = Duration::from_secs(3 * 24 * 3600);

/// Backoff of the default retry, and of outages under a retry that does not pause.
const DEFAULT_BASE: Duration = Duration::from_millis(50);
const DEFAULT_MAX: Duration = Duration::from_secs(5);

/// Shortest freeze by an outage: a tick of Tokio's timer, so that the task sleeps at all.
const MIN_FREEZE: Duration = Duration::from_millis(1);

impl Retry {
    /// Backs off for `base` after the first failure and twice as long after each further one, up to `max`; a `base` that
    /// is longer counts as `max`. A file with such a base is refused.
    pub fn exponential(base: Duration, max: Duration) -> Self {
        Self { base: base.min(max), max, max_attempts: 8, give_up_after: None, max_freeze: MAX_FREEZE, seed: None }
    }

    /// One attempt, and no more. An outage is no attempt: the batcher waits it out all the same.
    pub fn none() -> Self {
        Self::exponential(Duration::ZERO, Duration::ZERO).max_attempts(1)
    }

    /// How often an op is handed to the sink at most, the first time included. Zero counts as one; a file that says zero is
    /// refused. An op that fails the last time ends as [`Exhausted`](crate::End::Exhausted), or in doubt if it may have
    /// landed.
    pub fn max_attempts(self, max_attempts: u32) -> Self {
        Self { max_attempts: max_attempts.max(1), ..self }
    }

    /// Gives up on an outage that lasts this long. A last write is then tried; if it meets the outage too, its ops and all
    /// that wait become dead letters, [`Exhausted`](crate::End::Exhausted), and so do later ones until a write gets through. The sink for dead letters
    /// has a buffer of 65,536: where more ops wait than that, what finds no room in it is counted as lost.
    ///
    /// By default the batcher never gives up: a full buffer and [`expire_by`](crate::Stages::expire_by) bound what an
    /// outage holds up, and nothing is lost.
    pub fn give_up_after(self, outage: Duration) -> Self {
        Self { give_up_after: Some(outage), ..self }
    }

    /// Longest time that a [`Throttled`](crate::ErrorKind::Throttled) answer may freeze the batcher: three days by default,
    /// so that no answer can stop it for ever.
    pub fn max_freeze(self, max_freeze: Duration) -> Self {
        Self { max_freeze, ..self }
    }

    /// Makes the jitter repeat from run to run, for tests and simulations.
    pub fn seed(self, seed: u64) -> Self {
        Self { seed: Some(seed), ..self }
    }

    pub(crate) fn start(self) -> Backoff {
        let state = self.seed.unwrap_or_else(|| RandomState::new().hash_one(0));
        Backoff { retry: self, state }
    }
}

impl Default for Retry {
    fn default() -> Self {
        Self::exponential(DEFAULT_BASE, DEFAULT_MAX)
    }
}

/// The same as it stands in a configuration file; what is left out has its default.
#[derive(Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct File {
    base: Span,
    max: Span,
    max_attempts: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    give_up_after: Option<Span>,
    max_freeze: Span,
    #[serde(skip_serializing_if = "Option::is_none")]
    seed: Option<u64>,
}

impl Default for File {
    fn default() -> Self {
        Retry::default().into()
    }
}

impl TryFrom<File> for Retry {
    type Error = LimitsError;

    fn try_from(file: File) -> Result<Self, LimitsError> {
        if file.max_attempts == 0 {
            return Err(LimitsError::new("max_attempts", "must be at least 1, the first attempt"));
        }
        if file.base.0 > file.max.0 {
            return Err(LimitsError::new("base", "must not be longer than max"));
        }
        let retry = Self::exponential(file.base.0, file.max.0).max_attempts(file.max_attempts);
        let (give_up_after, max_freeze) = (file.give_up_after.map(|span| span.0), file.max_freeze.0);
        Ok(Self { give_up_after, max_freeze, seed: file.seed, ..retry })
    }
}

impl From<Retry> for File {
    fn from(retry: Retry) -> Self {
        let Retry { base, max, max_attempts, give_up_after, max_freeze, seed } = retry;
        let (give_up_after, max_freeze) = (give_up_after.map(Span), Span(max_freeze));
        Self { base: Span(base), max: Span(max), max_attempts, give_up_after, max_freeze, seed }
    }
}

/// A [`Retry`] with the state of its jitter.
#[derive(Debug)]
pub(crate) struct Backoff {
    retry: Retry,
    state: u64,
}

impl Default for Backoff {
    fn default() -> Self {
        Retry::default().start()
    }
}

impl Backoff {
    pub(crate) fn max_attempts(&self) -> u32 {
        self.retry.max_attempts
    }

    pub(crate) fn give_up_after(&self) -> Option<Duration> {
        self.retry.give_up_after
    }

    pub(crate) fn max_freeze(&self) -> Duration {
        self.retry.max_freeze
    }

    /// How long to wait after `attempts` failed attempts.
    pub(crate) fn delay(&mut self, attempts: u32) -> Duration {
        self.jittered(self.retry.base, self.retry.max, attempts)
    }

    /// Freeze after `failures` writes in a row that met an outage. No attempt ends an outage, so that a retry without a
    /// pause would write in a busy loop: the default backoff takes its place, and a tiny one becomes a millisecond.
    pub(crate) fn outage_delay(&mut self, failures: u32) -> Duration {
        let Retry { base, max, .. } = self.retry;
        if base.is_zero() || max.is_zero() {
            return self.jittered(DEFAULT_BASE, DEFAULT_MAX, failures);
        }
        self.jittered(base, max, failures).max(MIN_FREEZE)
    }

    fn jittered(&mut self, base: Duration, max: Duration, attempts: u32) -> Duration {
        let doublings = attempts.saturating_sub(1).min(31);
        let full = base.saturating_mul(1 << doublings).min(max);
        let half = full / 2;
        // The upper 53 bits make a uniform fraction; a delay needs no more.
        let fraction = (self.next() >> 11) as f64 / (1u64 << 53) as f64;
        half + (full - half).mul_f64(fraction)
    }

    /// SplitMix64 (Steele, Lea and Flood, OOPSLA 2014): enough for jitter, and seedable.
    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_up_to_the_cap_and_spread() {
        let ms = Duration::from_millis;
        let mut backoff = Retry::exponential(ms(100), ms(1000)).seed(7).start();
        for (attempts, full) in [(1, 100), (2, 200), (3, 400), (4, 800), (5, 1000), (60, 1000), (u32::MAX, 1000)] {
            let delays: Vec<Duration> = (0..100).map(|_| backoff.delay(attempts)).collect();
            assert!(delays.iter().all(|delay| (ms(full / 2)..=ms(full)).contains(delay)), "{delays:?}");
            assert!(delays.iter().max() > delays.iter().min(), "no jitter");
        }
    }

    #[test]
    fn extremes_do_not_overflow() {
        let mut backoff = Retry::exponential(Duration::MAX, Duration::MAX).start();
        assert!(backoff.delay(9) >= Duration::MAX / 2);
        assert_eq!(Retry::none().start().delay(1), Duration::ZERO);
    }

    #[test]
    fn files_with_mistakes_are_told_where() {
        let read = |text: &str| toml::from_str::<Retry>(text);
        assert_eq!(read("").unwrap(), Retry::default());
        assert!(read("max_attempts = 0").unwrap_err().to_string().contains("max_attempts"));
        assert!(read("base = \"10s\"\nmax = \"1s\"").unwrap_err().to_string().contains("base must not be longer"));
        let retry = Retry::default().give_up_after(Duration::from_secs(60)).max_freeze(Duration::from_secs(3600));
        assert_eq!(read("give_up_after = \"1m\"\nmax_freeze = \"1h\"").unwrap(), retry);
        assert!(read("bsae = \"1s\"").unwrap_err().to_string().contains("bsae"));
    }

    /// Goal: each policy made in code can be written to a file and read back. Method: values that a file is refused for.
    #[test]
    fn what_the_builder_corrects_can_be_read_back() {
        let (long, short) = (Duration::from_secs(10), Duration::from_secs(1));
        let retry = Retry::exponential(long, short).max_attempts(0);
        assert_eq!(retry, Retry::exponential(short, short).max_attempts(1));
        assert_eq!(toml::from_str::<Retry>(&toml::to_string(&retry).unwrap()).unwrap(), retry);
    }

    #[test]
    fn a_seed_repeats() {
        let retry = Retry::default().seed(42);
        let delays = |mut backoff: Backoff| (1..20).map(|n| backoff.delay(n)).collect::<Vec<_>>();
        assert_eq!(delays(retry.clone().start()), delays(retry.start()));
    }
}
