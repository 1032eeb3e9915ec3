//! The batching rules on any stream, without task, sink or handle. The caller that polls the stream gets the batches.
//!
//! Run it with `cargo run --example plain_stream`.
//! The clock is paused, so the example ends at once and prints the same each time. A program leaves `start_paused` out.

use std::{error::Error, time::Duration};

use futures::{Stream, StreamExt, stream};
use roundlot::{BatchExt, Limits, Stages, stage};
use tokio::time::{Instant, interval, sleep, timeout};
use tokio_stream::wrappers::IntervalStream;

struct Quote {
    symbol: &'static str,
    bid: u32,
}

#[tokio::main(flavor = "current_thread", start_paused = true)]
async fn main() -> Result<(), Box<dyn Error>> {
    let ms = Duration::from_millis;
    let latest = || Stages::new().conflate_by(|quote: &Quote| quote.symbol, stage::latest);

    println!("A feed of a quote each millisecond, the latest of each symbol, none of them older than 5 ms:\n");
    let started = Instant::now();
    let mut batches = feed(20).batched(latest(), Limits::new(10).linger(ms(5)));
    while let Some(batch) = batches.next().await {
        println!("  {:>3} ms  {}", started.elapsed().as_millis(), line(&batch));
    }
    let stats = batches.stats();
    println!("  {} quotes, {} of them overtaken; {} batches", stats.accepted, stats.outcomes.conflated, stats.batches);

    println!("\nThe same for a consumer that needs 9 ms for a batch. It gets what is true when it asks:\n");
    let started = Instant::now();
    let mut batches = feed(20).batched(latest(), 10); // no linger: a batch is all that is there
    while let Some(batch) = batches.next().await {
        println!("  {:>3} ms  {}", started.elapsed().as_millis(), line(&batch));
        sleep(ms(9)).await;
    }

    println!("\nEach batch of one symbol, up to 3 quotes, all of them kept:\n");
    let started = Instant::now();
    let by_symbol = Stages::new().partition_by(|quote: &Quote| quote.symbol);
    let mut batches = feed(10).batched(by_symbol, Limits::new(3).linger(ms(5)));
    while let Some(batch) = batches.next().await {
        println!("  {:>3} ms  {}", started.elapsed().as_millis(), line(&batch));
    }

    println!("\nA consumer that gives up in the middle loses nothing:\n");
    let mut batches = feed(10).batched(Stages::new(), Limits::new(100).linger(ms(50)));
    if timeout(ms(3), batches.next()).await.is_err() {
        println!("  no batch within 3 ms, and `next()` was dropped");
    }
    let (stream, waiting) = batches.into_parts();
    println!("  what waited comes back:   {}", line(&waiting));
    if let Some(stream) = stream {
        println!("  and the stream goes on:   {}", line(&stream.collect::<Vec<_>>().await));
    }
    Ok(())
}

/// Returns a feed of one quote per millisecond, of three symbols, the first being the busiest. The feed never waits for
/// its reader.
fn feed(quotes: usize) -> impl Stream<Item = Quote> {
    let symbols = ["BTC", "BTC", "ETH", "BTC", "BTC", "SOL", "BTC", "ETH"];
    let quotes = (100..).zip(symbols.into_iter().cycle()).map(|(bid, symbol)| Quote { symbol, bid }).take(quotes);
    IntervalStream::new(interval(Duration::from_millis(1))).zip(stream::iter(quotes)).map(|(_, quote)| quote)
}

fn line(quotes: &[Quote]) -> String {
    let quotes: Vec<String> = quotes.iter().map(|quote| format!("{} {}", quote.symbol, quote.bid)).collect();
    quotes.join(", ")
}
