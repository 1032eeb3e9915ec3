//! When a recorded row is due. In comes its time, out goes the instant to wait for, if there is one.

use std::time::Duration;

use tokio::time::Instant;

/// Maps recorded time to real time, from the first row on.
#[derive(Debug)]
pub struct Pace {
    speed: f64,
    began: Option<(Instant, i64)>,
}

/// What is further away than this has a broken clock; the wait is as good as for ever, and can be computed.
const FOREVER: Duration = Duration::from_secs(100 * 365 * 86_400);

impl Pace {
    /// Speed 1 is recorded time, 0 as fast as possible.
    pub fn new(speed: f64) -> Self {
        Self { speed, began: None }
    }

    /// Until when to wait for a row of this time; `None` if it is due already, as is one whose clock stepped back.
    pub fn wait(&mut self, time_ns: i64) -> Option<Instant> {
        if self.speed == 0.0 {
            return None;
        }
        let now = Instant::now();
        let (began, first_ns) = *self.began.get_or_insert((now, time_ns));
        let passed = Duration::from_nanos(u64::try_from(i128::from(time_ns) - i128::from(first_ns)).unwrap_or(0));
        let passed = Duration::try_from_secs_f64(passed.as_secs_f64() / self.speed).unwrap_or(FOREVER).min(FOREVER);
        let due = began.checked_add(passed)?;
        (due > now).then_some(due)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: i64 = 1_000_000_000;

    #[tokio::test(start_paused = true)]
    async fn rows_are_due_at_their_time_by_the_speed() {
        let began = Instant::now();
        let at = |seconds| Some(began + Duration::from_secs_f64(seconds));
        for (speed, expected) in [(1.0, at(10.0)), (2.0, at(5.0)), (0.5, at(20.0)), (0.0, None)] {
            let mut pace = Pace::new(speed);
            assert_eq!(pace.wait(7 * SECOND), None, "the first row is due at once");
            assert_eq!(pace.wait(17 * SECOND), expected);
            assert_eq!(pace.wait(6 * SECOND), None, "the clock stepped back");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn extremes_do_not_overflow() {
        let mut pace = Pace::new(1e-300);
        assert_eq!(pace.wait(i64::MIN), None);
        assert_eq!(pace.wait(i64::MAX), Instant::now().checked_add(FOREVER));
    }
}
