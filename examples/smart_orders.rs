//! Fewer calls for the same orders. Orders of a strategy are grouped by symbol and side, netted and merged while they
//! wait, and sent in few calls. The exchange counts the calls, so the saving is measured, not estimated.
//!
//! Run it with `cargo run --example smart_orders`.
//! The clock is paused, so the example ends at once and prints the same each time. A program leaves `start_paused` out.

use std::{
    collections::BTreeMap,
    error::Error,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use roundlot::{
    Batch, Batcher, Limits, Sink, Stages, Stats,
    market::{InvalidField, Order, Side, Symbol, TradeOp},
    sink_fn,
};
use tokio::time::sleep;

/// Counts of the exchange by symbol and side: calls, and the ops in them.
type Calls = BTreeMap<(Option<Symbol>, Option<Side>), (usize, usize)>;

#[tokio::main(flavor = "current_thread", start_paused = true)]
async fn main() -> Result<(), Box<dyn Error>> {
    let (calls, stats) = trade(Stages::new(), Limits::new(1)).await?;
    let single: usize = calls.values().map(|(calls, _)| calls).sum();
    println!("One by one: {} operations of a strategy cost {single} calls.\n", stats.accepted);

    let stages = Stages::new()
        .partition_by(|op: &TradeOp| (op.symbol(), op.side())) // one call holds one symbol and side
        .conflate_by(TradeOp::conflation_key, TradeOp::merge) // order and cancel net, a moved stop is sent once
        .together(); // when one partition is due, all are cut
    let limits = Limits::new(20).linger(Duration::from_millis(50)).max_in_flight(8);
    let (calls, stats) = trade(stages, limits).await?;

    println!("Smart: up to 20 operations of one symbol and side in a call, which wait for each other up to 50 ms.\n");
    println!("  {:<8}  {:<4}  {:>5}  {:>10}", "symbol", "side", "calls", "operations");
    for ((symbol, side), (calls, ops)) in &calls {
        let (symbol, side) = symbol.zip(*side).ok_or("all that the strategy asks for has a symbol and a side")?;
        println!("  {symbol:<8}  {side:<4}  {calls:>5}  {ops:>10}");
    }
    let smart: usize = calls.values().map(|(calls, _)| calls).sum();
    println!("\n  {:>3} operations asked for", stats.accepted);
    println!("  {:>3} never sent: order and cancel netted while both waited", stats.outcomes.netted);
    println!("  {:>3} never sent: a stop moved while its order waited, and went out once", stats.outcomes.conflated);
    println!("  {:>3} sent, {:.1} in a call", stats.outcomes.delivered, stats.mean_batch());
    println!("  {smart:>3} calls instead of {single}: {}% saved", 100 * (single - smart) / single);
    Ok(())
}

/// Lets the strategy trade for 250 ms, and returns the counts of the exchange.
async fn trade(stages: Stages<TradeOp>, limits: Limits) -> Result<(Calls, Stats), Box<dyn Error>> {
    let calls = Arc::new(Mutex::new(Calls::new()));
    let (desk, worker) = Batcher::new(exchange(calls.clone())).stages(stages).limits(limits).spawn();
    for round in 0..25 {
        desk.send_all(strategy(round)?).await?;
        sleep(Duration::from_millis(10)).await;
    }
    let stats = worker.shutdown().await?.stats;
    let calls = std::mem::take(&mut *calls.lock().unwrap_or_else(PoisonError::into_inner));
    Ok((calls, stats))
}

/// Returns the ops of a round: an entry, a stop and a move of that stop for each symbol, and a cancel in each third
/// round.
fn strategy(round: u64) -> Result<Vec<TradeOp>, InvalidField> {
    let mut ops = Vec::new();
    for (n, symbol) in (0..).zip(["BTCUSDT", "ETHUSDT", "SOLUSDT"]) {
        let (symbol, id) = (Symbol::new(symbol)?, round * 10 + n);
        let side = if (round / 5 + n).is_multiple_of(2) { Side::Buy } else { Side::Sell };
        let entry = Order::limit(id.into(), symbol, side, "100".parse()?, "1".parse()?)?;
        let stop = Order::stop((1000 + id).into(), symbol, side.opposite(), "95".parse()?, "1".parse()?)?;
        let (moved, cancel) = (stop.move_stop("96".parse()?)?, entry.cancel());
        ops.extend([entry.into(), stop.into(), moved.into()]);
        ops.extend((round.is_multiple_of(3)).then_some(cancel.into()));
    }
    Ok(ops)
}

/// Returns an exchange that takes 2 ms for a call, and counts calls and ops.
fn exchange(calls: Arc<Mutex<Calls>>) -> impl Sink<TradeOp> {
    sink_fn(move |batch: &mut Batch<TradeOp>| {
        let calls = calls.clone();
        Box::pin(async move {
            sleep(Duration::from_millis(2)).await;
            let mut calls = calls.lock().unwrap_or_else(PoisonError::into_inner);
            let (count, ops) = calls.entry((batch[0].symbol(), batch[0].side())).or_default();
            (*count, *ops) = (*count + 1, *ops + batch.len());
            Ok(batch.accept_all())
        })
    })
}
