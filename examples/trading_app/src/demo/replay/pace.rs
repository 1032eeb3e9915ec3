//! Recorded time in real time. [`Pace`] maps the time of a row to the instant when it is due; [`paced`] holds rows back
//! until then. `feed` runs it between the reader of the file and the trader.

use std::{mem, time::Duration};

use tokio::{
    sync::mpsc::{Receiver, Sender},
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;

use super::Rows;
use crate::{
    bot::Error,
    demo::{chunk::Chunk, progress::Progress},
};

/// The mapping, which is fixed by the first row.
#[derive(Debug)]
pub struct Pace {
    speed: f64,
    /// Real and recorded time of the first row.
    began: Option<(Instant, i64)>,
}

/// Maximum wait that is computed. A row further away has a broken clock, and is never due.
const FOREVER: Duration = Duration::from_secs(100 * 365 * 86_400);

/// Waits above this are reported. No market closes for so long, but a broken clock may show such a gap.
const LONG: Duration = Duration::from_secs(4 * 86_400);

impl Pace {
    /// Makes a pace: speed 1 is recorded time, 0 is as fast as possible.
    pub fn new(speed: f64) -> Self {
        Self { speed, began: None }
    }

    /// The instant to wait for; `None` if the row is due. A row whose clock stepped back is due at once.
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

/// Passes rows on when they are due, until `stop` is canceled.
pub async fn paced(
    mut rows: Receiver<Result<Rows, Error>>,
    out: Sender<Result<Chunk, Error>>,
    mut pace: Pace,
    stop: CancellationToken,
    progress: Progress,
) {
    while let Some(Some(rows)) = stop.run_until_cancelled(rows.recv()).await {
        let chunk = match rows {
            Ok(Rows { ticks, bad }) => {
                let mut due = Chunk { ticks: Vec::with_capacity(ticks.len()), bad };
                for (line, tick) in ticks {
                    if let Some(wait) = pace.wait(tick.time_ns) {
                        let before = mem::take(&mut due);
                        if out.send(Ok(before)).await.is_err() {
                            return;
                        }
                        let left = wait.saturating_duration_since(Instant::now());
                        if left > LONG {
                            let days = (left.as_secs_f64() / 86_400.0).round();
                            progress.say(&format!("line {line}: is due in {days} days, and waited for"));
                        }
                        if stop.run_until_cancelled(sleep_until(wait)).await.is_none() {
                            return;
                        }
                    }
                    due.ticks.push(tick);
                }
                Ok(due)
            }
            Err(error) => Err(error),
        };
        if out.send(chunk).await.is_err() {
            return;
        }
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
