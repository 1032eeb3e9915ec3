//! Writes that fail have three fates: retried with a growing backoff, given up as dead letters, or left in doubt and
//! not repeated because they may have landed.
//!
//! Run it with `cargo run --example retry`.
//! The clock is paused, so the example ends at once and prints the same each time. A program leaves `start_paused` out.

use std::{error::Error, time::Duration};

use roundlot::{Batch, Batcher, DeadLetter, Retry, Sink, SinkError, Stages, sink_fn, stage};
use tokio::time::{Instant, sleep};

/// A target for a symbol's position. Each symbol of the exchange fails in its own way.
struct Target {
    symbol: &'static str,
    position: u32,
}

#[tokio::main(flavor = "current_thread", start_paused = true)]
async fn main() -> Result<(), Box<dyn Error>> {
    println!(
        "5 attempts. Backoff: 100 ms, then twice as long each time, up to 1 s, less up to half of it by chance.\n"
    );
    let (desk, worker) = Batcher::new(exchange())
        .stages(
            Stages::new()
                .partition_by(|target: &Target| target.symbol) // each symbol backs off by itself
                .conflate_by(|target| target.symbol, stage::latest),
        )
        .retry(Retry::exponential(Duration::from_millis(100), Duration::from_secs(1)).max_attempts(5).seed(7))
        .dead_letters(letters())
        .spawn();

    let answers = [
        ("BTC", desk.submit(Target { symbol: "BTC", position: 1 }).await?),
        ("ETH", desk.submit(Target { symbol: "ETH", position: 1 }).await?),
        ("SOL", desk.submit(Target { symbol: "SOL", position: 1 }).await?),
        ("XRP", desk.submit(Target { symbol: "XRP", position: 1 }).await?),
    ];
    // A target that backs off waits in the buffer: a newer target replaces it, and the old one is never sent.
    sleep(Duration::from_millis(120)).await;
    println!("   120 ms  BTC: a new target, 2, replaces 1 while it waits");
    desk.send(Target { symbol: "BTC", position: 2 }).await?;

    let summary = worker.shutdown().within(Duration::from_secs(60)).await?;
    println!("\nWhat the callers were told:");
    for (symbol, answer) in answers {
        let outcome = answer.outcome().await;
        let result = outcome.result.map_or_else(|error| error.chain(), |()| "written".to_owned());
        let (end, after) = (format!("{:?}", outcome.end), outcome.latency.as_millis());
        println!("  {symbol}  {end:<9}  attempts {}, after {after:>4} ms: {result}", outcome.attempts);
    }
    let stats = summary.stats;
    println!(
        "\n{} accepted = {} delivered + {} conflated + {} refused + {} exhausted + {} in doubt; {} retries",
        stats.accepted,
        stats.outcomes.delivered,
        stats.outcomes.conflated,
        stats.outcomes.refused,
        stats.outcomes.exhausted,
        stats.outcomes.in_doubt,
        stats.retries
    );
    Ok(())
}

/// Returns the exchange. The kind of each error decides what the batcher does next.
fn exchange() -> impl Sink<Target> {
    let started = Instant::now();
    sink_fn(move |batch: &mut Batch<Target>| {
        Box::pin(async move {
            let (symbol, position) = (batch[0].symbol, batch[0].position);
            let at = started.elapsed().as_millis();
            print!("  {at:>4} ms  {symbol} to {position}, attempt {}: ", batch.attempt());
            let error = match symbol {
                "BTC" if at < 500 => SinkError::transient("connection refused"), // nothing landed: retried
                "ETH" => SinkError::transient("no route to host"),               // the same, but the error persists
                "SOL" => SinkError::refused("symbol is halted"),                 // a retry is useless
                "XRP" => SinkError::ambiguous("no answer in time"),              // may have landed: not retried
                _ => {
                    println!("written");
                    return Ok(batch.accept_all());
                }
            };
            println!("{}", error.chain());
            Err(error)
        })
    })
}

/// Returns the sink for dead letters. A file, a table or an alert would do as well.
fn letters() -> impl Sink<DeadLetter<Target>> {
    sink_fn(|batch: &mut Batch<DeadLetter<Target>>| {
        Box::pin(async move {
            for letter in batch.pending() {
                let may_have = if letter.is_in_doubt() { "look it up at the exchange" } else { "it did not land" };
                println!("           {} dead letter after attempt {}: {may_have}", letter.op.symbol, letter.attempts);
            }
            Ok(batch.accept_all())
        })
    })
}
