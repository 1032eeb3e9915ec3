//! The promises of the design, one by one: directed tests on a paused clock, one module for each promise or subject.
//!
//! Time is stepped by hand, so every instant below is exact. Tests that race on several threads assert only what must
//! hold in each interleaving. Random operations are the business of `tests/laws.rs`.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod age;
mod auto_traits;
mod cancel_safety;
mod caps;
mod conflation;
mod conservation;
mod containment;
mod dedup;
mod destructors;
mod fairness;
mod flush;
mod in_doubt;
mod limits;
mod order;
mod outage;
mod outage_storm;
mod overflow;
mod own_desk;
mod poison;
mod retry;
mod runtimes;
mod shutdown;
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

/// An age of the paused clock: who still waits then waits for ever.
const AGES: Duration = Duration::from_secs(3600 * 24 * 30);

/// What `future` gives, which must not take any time on the paused clock.
async fn at_once<F: Future>(future: F) -> F::Output {
    took(Duration::ZERO, future).await
}

/// What `future` gives, which must take exactly `time` on the paused clock.
async fn took<F: Future>(time: Duration, future: F) -> F::Output {
    let before = Instant::now();
    let output = eventually(future).await;
    assert_eq!(Instant::now() - before, time, "it took another time");
    output
}

/// What `future` gives, however long it takes on the paused clock; a hang is a failure.
async fn eventually<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(AGES, future).await.expect("it hangs")
}

/// Conservation, as `Stats` tells it.
#[track_caller]
fn conserved(stats: &Stats) {
    assert_eq!(stats.accepted, stats.ended() + stats.waiting + stats.in_flight, "not conserved: {stats:?}");
}

/// What a sink says that never will take something.
fn refused() -> SinkError {
    SinkError::refused("no")
}

/// What a sink says that takes nothing just now.
fn down() -> SinkError {
    SinkError::transient("down")
}
