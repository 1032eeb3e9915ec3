//! Priorities: the order in which ops leave when not all can leave at once. Orders that protect from a loss go first,
//! then orders, prices and log lines. Aging raises ops that wait, so that the lowest level still leaves.
//!
//! Run it with `cargo run --example priority`.
//! The clock is paused, so the example ends at once and prints the same each time. A program leaves `start_paused` out.

use std::{error::Error, time::Duration};

use roundlot::{
    Batch, Batcher, Sink, Stages,
    market::{InvalidField, Order, PriceUpdate, Priority, Purpose, Side, Symbol, TradeOp},
    sink_fn,
};
use tokio::time::{Instant, sleep};

const BTC: Symbol = Symbol::from_static("BTCUSDT");
const WRITE_TIME: Duration = Duration::from_millis(10);

/// An op of this program: a trading noun, or a log line, which has the lowest priority.
enum Op {
    Trade(TradeOp),
    Log(String),
}

impl Op {
    fn priority(&self) -> Priority {
        match self {
            Self::Trade(op) => op.priority(),
            Self::Log(_) => Priority::Low,
        }
    }
}

#[tokio::main(flavor = "current_thread", start_paused = true)]
async fn main() -> Result<(), Box<dyn Error>> {
    println!("Five operations come in the worst order while the connection is down; each write takes one of them:\n");
    println!("  {:<10} {:<9} operation", "written at", "priority");
    let (desk, worker) = Batcher::new(screen()).stages(Stages::new().priority_by(Op::priority)).limits(1).spawn();
    desk.pause().await?;
    desk.send(log_line("stop touched")).await?;
    desk.send(Op::Trade(PriceUpdate::new(BTC, "61250.10".parse()?, 0).into())).await?;
    desk.send(order(1, Purpose::Entry)?).await?;
    desk.send(order(2, Purpose::StopLoss)?).await?;
    desk.send(order(3, Purpose::Liquidation)?).await?;
    desk.resume().await?;
    let _ = worker.shutdown().await?; // writes the waiting ops, and ends

    println!("\nThen 100 orders, one each 10 ms, which is all that the sink can write. A log line comes second.\n");
    let by_priority = || Stages::new().priority_by(Op::priority);
    let patient = log_line_waits(by_priority()).await?;
    let aged = log_line_waits(by_priority().aging(Duration::from_millis(200))).await?;
    println!("  without aging              the log line waits {patient:>6?}: until the orders are through");
    println!(
        "  with .aging(200 ms)        the log line waits {aged:>6?}: then it ranks with the orders, and is the oldest"
    );
    Ok(())
}

/// Returns how long a log line waits that is sent right after the first of many orders.
async fn log_line_waits(stages: Stages<Op>) -> Result<Duration, Box<dyn Error>> {
    let sink = sink_fn(|batch: &mut Batch<Op>| {
        Box::pin(async move {
            sleep(WRITE_TIME).await;
            Ok(batch.accept_all())
        })
    });
    let (desk, worker) = Batcher::new(sink).stages(stages).limits(1).spawn();
    let mut line = None;
    for id in 0..100 {
        desk.send(order(id, Purpose::Entry)?).await?;
        if id == 1 {
            line = Some(desk.submit(log_line("entered BTCUSDT")).await?);
        }
        sleep(WRITE_TIME).await;
    }
    let _ = worker.shutdown().await?;
    let line = line.ok_or("no log line was sent")?;
    Ok(line.outcome().await.latency - WRITE_TIME)
}

/// Returns a sink that takes 10 ms for a batch, and prints it.
fn screen() -> impl Sink<Op> {
    let started = Instant::now();
    sink_fn(move |batch: &mut Batch<Op>| {
        Box::pin(async move {
            sleep(WRITE_TIME).await;
            for op in batch.pending() {
                let (at, priority) = (started.elapsed().as_millis(), format!("{:?}", op.priority()));
                match op {
                    Op::Trade(TradeOp::Order(order)) => {
                        println!("  {at:>7} ms {priority:<9} order for {:?}", order.purpose())
                    }
                    Op::Trade(TradeOp::PriceUpdate(update)) => {
                        println!("  {at:>7} ms {priority:<9} price {}", update.price)
                    }
                    Op::Trade(other) => println!("  {at:>7} ms {priority:<9} {other:?}"),
                    Op::Log(line) => println!("  {at:>7} ms {priority:<9} log \"{line}\""),
                }
            }
            Ok(batch.accept_all())
        })
    })
}

fn order(id: u64, purpose: Purpose) -> Result<Op, InvalidField> {
    let order = Order::market(id.into(), BTC, Side::Sell, "0.25".parse()?)?;
    Ok(Op::Trade(order.with_purpose(purpose).into()))
}

fn log_line(text: &str) -> Op {
    Op::Log(text.to_owned())
}
