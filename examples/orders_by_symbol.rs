//! One request per symbol, with a limit for each symbol and a limit for all symbols together. Each order gets its own
//! verdict: accepted with the exchange's id, or failed with a reason, and the time that it took.
//!
//! Run it with `cargo run --example orders_by_symbol`.
//! The clock is paused, so the example ends at once and prints the same each time. A program leaves `start_paused` out.

use std::{
    error::Error,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use roundlot::{
    AckError, Batch, Batcher, Limits, Settled, Sink, SinkError, Stages,
    market::{Order, Quantity, Side, Symbol},
};
use tokio::time::{Instant, sleep};

/// The receipt: the exchange's id of an order.
#[derive(Clone)]
struct VenueOrderId(u64);

#[tokio::main(flavor = "current_thread", start_paused = true)]
async fn main() -> Result<(), Box<dyn Error>> {
    let limits = Limits::new(2) // per symbol: 2 orders in a request, and one request at a time
        .max_in_flight(2) // in total: 2 requests at a time
        .max_pending(1000) // in total: 1000 orders without a verdict; then `submit` waits
        .linger(Duration::from_millis(5));
    let (next_id, running) = (AtomicU64::new(9001), AtomicU64::new(0));
    let venue = Venue { started: Instant::now(), largest: "10".parse()?, next_id, running };
    let (desk, worker) = Batcher::new(venue).stages(Stages::new().partition_by(Order::symbol)).limits(limits).spawn();

    println!("Per symbol: 2 orders in a request and one request at a time. In total: 2 requests at a time.\n");
    let sizes = [("BTCUSDT", "0.5 2.0 0.1 0.2"), ("ETHUSDT", "5 12"), ("SOLUSDT", "8 4 6")];
    let mut answers = Vec::new();
    for (symbol, sizes) in sizes {
        for size in sizes.split(' ') {
            let id = answers.len() as u64 + 1;
            let order = Order::market(id.into(), Symbol::new(symbol)?, Side::Buy, size.parse()?)?;
            // The first await is for a permit. The second one, on the ack, is for the verdict.
            answers.push((order.clone(), desk.submit(order).await?));
        }
    }

    let mut table = String::new();
    for (order, answer) in answers {
        let outcome = answer.outcome().await;
        let result = match outcome.result {
            Ok(VenueOrderId(id)) => format!("accepted as {id}"),
            Err(AckError::Refused(reason)) => reason.chain(),
            Err(error) => error.to_string(),
        };
        let (id, symbol, size) = (order.id(), order.symbol(), order.quantity().to_string());
        table += &format!("  {id:<5}  {symbol:<8} {size:>8}  {result:<32} {:>4} ms\n", outcome.latency.as_millis());
    }
    println!("\n  {:<5}  {:<8} {:>8}  {:<32} {:>7}\n{table}", "order", "symbol", "quantity", "result", "latency");

    let stats = worker.shutdown().await?.stats;
    println!(
        "{} orders in {} requests: {} accepted, {} refused.",
        stats.accepted, stats.batches, stats.outcomes.delivered, stats.outcomes.refused
    );
    Ok(())
}

/// An exchange that takes 20 ms for a request of any size, and judges each order by itself.
struct Venue {
    started: Instant,
    largest: Quantity,
    next_id: AtomicU64,
    running: AtomicU64,
}

impl Sink<Order, VenueOrderId> for Venue {
    async fn write(&self, batch: &mut Batch<Order, VenueOrderId>) -> Result<Settled, SinkError> {
        let running = self.running.fetch_add(1, Ordering::Relaxed) + 1;
        let ids: Vec<String> = batch.pending().map(|order| order.id().to_string()).collect();
        let (at, symbol) = (self.started.elapsed().as_millis(), batch[0].symbol());
        println!("  {at:>3} ms  request for {symbol} with orders {:<5} {running} under way", ids.join(", "));
        sleep(Duration::from_millis(20)).await;
        for i in 0..batch.len() {
            if batch[i].quantity() > self.largest {
                batch.refuse(i, SinkError::refused(format!("more than {}", self.largest)));
            } else {
                batch.accept(i, VenueOrderId(self.next_id.fetch_add(1, Ordering::Relaxed)));
            }
        }
        self.running.fetch_sub(1, Ordering::Relaxed);
        batch.settled()
    }
}
