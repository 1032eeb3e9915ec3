//! [`Times`]: how long takeovers took.

use std::{fmt, time::Duration};

#[derive(Debug, Default)]
pub(crate) struct Times(Vec<Duration>);

impl Times {
    pub(crate) fn add(&mut self, time: Duration) {
        let at = self.0.partition_point(|other| *other <= time);
        self.0.insert(at, time);
    }

    fn percentile(&self, percent: usize) -> Option<Duration> {
        let rank = (self.0.len() * percent).div_ceil(100);
        self.0.get(rank.saturating_sub(1)).copied()
    }
}

impl fmt::Display for Times {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [Some(p50), Some(p99)] = [50, 99].map(|percent| self.percentile(percent)) else {
            return f.write_str("none");
        };
        write!(f, "p50 {} ms, p99 {} ms, of {}", p50.as_millis(), p99.as_millis(), self.0.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_ranks() {
        let mut times = Times::default();
        assert_eq!(times.to_string(), "none");
        for ms in (1..=100).rev() {
            times.add(Duration::from_millis(ms));
        }
        assert_eq!(times.to_string(), "p50 50 ms, p99 99 ms, of 100");
    }
}
