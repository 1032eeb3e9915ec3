//! Latencies of lone ops at a steady rate: a bare commit, a send, and a submit until its outcome.

use std::{
    env, thread,
    time::{Duration, Instant},
};

use roundlot::sink::Guarantee;
use rusqlite::params;

use super::{Order, by_hand, ours, runtime};
use crate::{Error, statistics::median};

pub const COMMIT: &str = "durable latency of a commit";
pub const SEND: &str = "durable latency of a send";
pub const SEND_LOCAL: &str = "durable latency of a send, one thread";
pub const INTENT: &str = "durable latency of an outcome";

/// The time between two ops: five times a slow sync, and some times the fast one.
fn pace() -> Duration {
    let is_slow = env::var("ROUNDLOT_SYNC_US").is_ok_and(|us| us.parse().is_ok_and(|us: u64| us >= 500));
    Duration::from_millis(if is_slow { 5 } else { 1 })
}

/// Commits rows one by one for `size` milliseconds. Returns the median in nanoseconds.
pub(super) fn commit(size: u64) -> Result<Vec<f64>, Error> {
    let connection = by_hand::create()?;
    let (start, mut next) = (Instant::now(), 0);
    let mut times = Vec::new();
    while start.elapsed() < Duration::from_millis(size) {
        next += 1;
        thread::sleep((start + pace() * next).saturating_duration_since(Instant::now()));
        let at = Instant::now();
        let mut insert = connection.prepare_cached("INSERT INTO rows VALUES (?1, ?2)")?;
        insert.execute(params![next, &Order::numbered(u64::from(next)).bytes()[..]])?;
        times.push(at.elapsed().as_nanos() as f64);
    }
    Ok(vec![median(&times)])
}

/// Sends ops one by one, and returns the median of the time until each is in the log.
pub(super) fn send(size: u64, workers: usize) -> Result<Vec<f64>, Error> {
    lone(size, workers, false)
}

/// Submits ops one by one through a sink that is neither transactional nor idempotent, and returns the median of the time until
/// each outcome.
pub(super) fn intent(size: u64) -> Result<Vec<f64>, Error> {
    lone(size, 2, true)
}

fn lone(size: u64, workers: usize, outcome: bool) -> Result<Vec<f64>, Error> {
    runtime(workers)?.block_on(async {
        let joined = ours::join(if outcome { Guarantee::Unknown } else { Guarantee::Transactional }).await?;
        let desk = joined.handle();
        let sending = async move {
            let (start, mut next) = (tokio::time::Instant::now(), 0);
            let mut times = Vec::new();
            while start.elapsed() < Duration::from_millis(size) {
                next += 1;
                tokio::time::sleep_until(start + pace() * next).await;
                let (at, order) = (Instant::now(), Order::numbered(u64::from(next)));
                if outcome {
                    desk.submit(order).await?.await?;
                } else {
                    desk.send(order).await?;
                }
                times.push(at.elapsed().as_nanos() as f64);
            }
            Ok::<_, Error>(median(&times))
        };
        let median = tokio::spawn(sending).await??;
        joined.leave().await?;
        Ok(vec![median])
    })
}
