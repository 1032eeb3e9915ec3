//! Batches grow while a destination is busy and shrink when it is not. With `adaptive` they grow no further than the size
//! beyond which an operation takes more time.
//!
//! Run it with `cargo run --example adaptive_size`.
//! The clock is paused, so the example ends at once and prints the same each time. A program leaves `start_paused` out.

use std::{error::Error, time::Duration};

use roundlot::{Batch, Batcher, Limits, Sink, sink_fn};
use tokio::time::{Instant, sleep, sleep_until};

/// Operations per second, and for how many seconds. The destination takes 9,090 per second in batches of 500.
const LOAD: [(u64, u64); 5] = [(200, 2), (7_000, 3), (10_000, 6), (2_000, 6), (200, 3)];

#[tokio::main(flavor = "current_thread", start_paused = true)]
async fn main() -> Result<(), Box<dyn Error>> {
    println!("A write takes 5 ms and 0.1 ms per operation, and much more per operation in batches beyond 500.\n");
    println!("Natural batching: a batch has what came during the last write. Beyond 500 it falls behind for good.");
    run(Limits::new(16_384)).await?;
    println!("\nThe same with `adaptive`: a size from which on larger batches are worse is found and held.");
    run(Limits::new(16_384).adaptive(true)).await
}

/// Sends the load, and prints a line per second.
async fn run(limits: Limits) -> Result<(), Box<dyn Error>> {
    let (desk, worker) = Batcher::new(destination()).limits(limits).spawn();
    println!("  second   sent  written  waiting  cap           mean size of a batch");
    let (start, mut second) = (Instant::now(), 0);
    let mut before = desk.stats();
    for (rate, seconds) in LOAD {
        for _ in 0..seconds {
            for ms in 0..1000 {
                sleep_until(start + Duration::from_millis(second * 1000 + ms)).await;
                let count = rate * (ms + 1) / 1000 - rate * ms / 1000;
                desk.send_all(0..count).await?;
            }
            sleep_until(start + Duration::from_millis((second + 1) * 1000 - 1)).await;
            second += 1;
            let now = desk.stats();
            let (written, batches) = (now.written - before.written, now.batches - before.batches);
            let (mean, cap) =
                (written.checked_div(batches).unwrap_or(0), format!("{} {}", now.size.cap, now.size.reason));
            let bar = "#".repeat((mean as usize).div_ceil(20).min(60));
            println!("  {second:>6} {:>6} {written:>8} {:>8}  {cap:<12} {mean:>5} {bar}", rate, now.waiting);
            before = now;
        }
    }
    let stats = worker.shutdown().within(Duration::ZERO).await?.stats;
    println!("  {} of {} operations were written.", stats.outcomes.delivered, stats.accepted);
    Ok(())
}

/// A destination whose cost per operation grows with batches beyond 500.
fn destination() -> impl Sink<u64> {
    sink_fn(|batch: &mut Batch<u64>| {
        Box::pin(async move {
            let size = batch.len() as f64;
            let beyond = (size - 500.0).max(0.0) / 500.0;
            sleep(Duration::from_secs_f64((5.0 + 0.1 * size + 150.0 * beyond * beyond) / 1000.0)).await;
            Ok(batch.accept_all())
        })
    })
}
