//! Tests of the promises of the design on a paused clock, one module for each promise or subject.
//!
//! Time is stepped by hand, so every instant below is exact. Tests that race on several threads assert only facts that
//! hold in each interleaving. Random operations are in `tests/laws.rs`.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod adaptive;
mod age;
mod auto_traits;
mod cancel_safety;
mod caps;
mod chains;
mod conflation;
mod conservation;
mod containment;
mod dedup;
mod destructors;
mod fairness;
mod flush;
mod in_doubt;
mod json;
mod limits;
mod order;
mod outage;
mod outage_storm;
mod overflow;
mod own_desk;
mod pages;
mod poison;
mod quota;
mod retry;
mod runtimes;
mod shutdown;
mod staged;
mod stages;
mod stream;
mod telemetry;

use std::{future::Future, time::Duration};

use roundlot::{SinkError, Stats};
use tokio::time::Instant;

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// Thirty days on the paused clock: a caller that still waits at their end would wait for ever.
const AGES: Duration = Duration::from_secs(3600 * 24 * 30);

/// Returns the output of `future`, which must take no time on the paused clock.
async fn at_once<F: Future>(future: F) -> F::Output {
    took(Duration::ZERO, future).await
}

/// Returns the output of `future`, which must take exactly `time` on the paused clock.
async fn took<F: Future>(time: Duration, future: F) -> F::Output {
    let before = Instant::now();
    let output = eventually(future).await;
    assert_eq!(Instant::now() - before, time, "it took another time");
    output
}

/// Returns the output of `future`, however long it takes on the paused clock; a hang is a failure.
async fn eventually<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(AGES, future).await.expect("it hangs")
}

/// Asserts conservation, as `Stats` tells it.
#[track_caller]
fn conserved(stats: &Stats) {
    assert_eq!(stats.accepted, stats.ended() + stats.waiting + stats.in_flight, "not conserved: {stats:?}");
}

/// Returns the error of a sink that will never take an op.
fn refused() -> SinkError {
    SinkError::refused("no")
}

/// Returns the error of a sink that cannot take an op at the moment.
fn down() -> SinkError {
    SinkError::transient("down")
}
