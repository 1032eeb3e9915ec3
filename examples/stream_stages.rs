//! Rules by themselves on a stream, before any other combinator. Each item is decided when the combinator asks for it.
//!
//! Run it with `cargo run --example stream_stages`.
//! The clock is paused, so the example ends at once and prints the same each time. A program leaves `start_paused` out.

use std::{pin::pin, time::Duration};

use futures::{Stream, StreamExt, stream};
use roundlot::{BatchExt, Limits, stage};
use tokio::time::{Instant, interval, sleep};
use tokio_stream::wrappers::IntervalStream;

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Quote {
    symbol: &'static str,
    bid: u32,
    at: Instant,
}

#[tokio::main(flavor = "current_thread", start_paused = true)]
async fn main() {
    let ms = Duration::from_millis;

    println!("Conflate, then throttle: a quote each 8 ms, and each is the newest of its symbol at that moment:\n");
    let latest = feed(30).stages().conflate_by(|quote| quote.symbol, stage::latest);
    let mut shown = pin!(tokio_stream::StreamExt::throttle(latest, ms(8)));
    let started = Instant::now();
    while let Some(quote) = shown.next().await {
        println!("  {}", line(started, &quote));
    }

    println!("\nPrioritize, then send two at a time: SOL overtakes what waits for a slot, and nothing is dropped:\n");
    let started = Instant::now();
    let sol_first = feed(12).stages().priority_by(|quote| quote.symbol == "SOL");
    sol_first
        .for_each_concurrent(2, |quote| async move {
            println!("  {}", line(started, &quote));
            sleep(ms(4)).await; // stands for a request
        })
        .await;

    println!("\nDrop what is older than 5 ms when its turn comes, for a consumer that needs 3 ms for each:\n");
    let started = Instant::now();
    let mut fresh = feed(12).stages().expire_by(move |quote| Some(quote.at + ms(5)));
    while let Some(quote) = fresh.next().await {
        println!("  {}", line(started, &quote));
        sleep(ms(3)).await;
    }
    let stats = fresh.stats();
    println!("  {} quotes, {} of them too old", stats.accepted, stats.outcomes.expired);

    println!("\nDeduplicate, then batch: two lines carry the same feed, and each quote is passed on once:\n");
    let started = Instant::now();
    let both = stream::select(feed(8), feed(8));
    let once = both.stages().dedup_by(|quote| Some((quote.symbol, quote.bid)), Duration::from_secs(1));
    let mut batches = once.batched(Limits::new(10).linger(ms(3)));
    while let Some(batch) = batches.next().await {
        println!("  {} quotes at {} ms", batch.len(), started.elapsed().as_millis());
    }
    let stats = batches.stats();
    println!("  {} quotes, {} of them repeats", stats.accepted, stats.outcomes.deduplicated);
}

/// Returns a feed of one quote per millisecond, of three symbols, the first being the busiest. The feed never waits for
/// its reader.
fn feed(quotes: usize) -> impl Stream<Item = Quote> {
    let symbols = ["BTC", "BTC", "ETH", "BTC", "BTC", "SOL", "BTC", "ETH"];
    let quotes = (100..).zip(symbols.into_iter().cycle()).take(quotes);
    let ticks = IntervalStream::new(interval(Duration::from_millis(1)));
    ticks.zip(stream::iter(quotes)).map(|(at, (bid, symbol))| Quote { symbol, bid, at })
}

fn line(started: Instant, quote: &Quote) -> String {
    let age = quote.at.elapsed().as_millis();
    format!("{:>3} ms  {} {}, {age} ms old", started.elapsed().as_millis(), quote.symbol, quote.bid)
}
