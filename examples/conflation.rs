//! Conflation and netting: no stale op is sent. A newer price replaces the waiting one of its symbol, and a moved stop
//! is sent with its last price only. An order that is canceled while it waits is never sent.
//!
//! Run it with `cargo run --example conflation`.

use std::error::Error;

use roundlot::{
    AckError, Batch, Batcher, Sink, Stages,
    market::{Order, PriceUpdate, Side, Symbol, TradeOp},
    sink_fn,
};

const BTC: Symbol = Symbol::from_static("BTCUSDT");
const ETH: Symbol = Symbol::from_static("ETHUSDT");
const SOL: Symbol = Symbol::from_static("SOLUSDT");

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    // `TradeOp` brings its key and its rules. Types of your own need `.conflate_by(|tick| tick.symbol, stage::latest)`.
    let stages = Stages::new().conflate_by(TradeOp::conflation_key, TradeOp::merge);
    let (desk, worker) = Batcher::new(screen()).stages(stages).limits(100).spawn();

    println!("Prices: six updates of three symbols come while the sink is busy.");
    desk.pause().await?; // stands for a busy sink: nothing leaves until `resume`
    let updates =
        [(BTC, "61250.10"), (ETH, "2650.00"), (BTC, "61250.90"), (SOL, "151.20"), (ETH, "2650.40"), (BTC, "61249.80")];
    for (time_ns, (symbol, price)) in (0..).zip(updates) {
        println!("  sent     price of {symbol} {price:>9}");
        desk.send(PriceUpdate::new(symbol, price.parse()?, time_ns).into()).await?;
    }
    desk.resume().await?;
    let report = desk.flush().await?;
    println!(
        "  {} of {} were overtaken; each symbol kept its place in the line.\n",
        report.outcomes.conflated,
        report.total()
    );

    println!("A trailing stop: the order waits while its stop moves twice.");
    desk.pause().await?;
    let stop = Order::stop(1.into(), BTC, Side::Sell, "60000".parse()?, "0.25".parse()?)?;
    let moves = [stop.move_stop("60500".parse()?)?, stop.move_stop("61000".parse()?)?];
    desk.send(stop.into()).await?;
    desk.send_all(moves.map(TradeOp::from)).await?;
    desk.resume().await?;
    println!("  {} operations became one.\n", desk.flush().await?.total());

    println!("Two orders wait, and the first is canceled before it was sent.");
    desk.pause().await?;
    let first = Order::market(2.into(), ETH, Side::Buy, "1.5".parse()?)?;
    let second = Order::market(3.into(), SOL, Side::Buy, "20".parse()?)?;
    let cancel = first.cancel();
    let answers = [
        ("order 2", desk.submit(first.into()).await?),
        ("order 3", desk.submit(second.into()).await?),
        ("cancel of order 2", desk.submit(cancel.into()).await?),
    ];
    desk.resume().await?;
    for (name, answer) in answers {
        match answer.await {
            Ok(()) => println!("  its caller is told: {name} was delivered"),
            Err(AckError::Netted) => println!("  its caller is told: {name} was netted, nothing was sent"),
            Err(error) => println!("  its caller is told: {name} failed, {}", error.chain()),
        }
    }

    let stats = worker.shutdown().await?.stats;
    let (accepted, saved) = (stats.accepted, stats.accepted - stats.outcomes.delivered);
    println!(
        "\n{accepted} operations: {} delivered, {} conflated, {} netted",
        stats.outcomes.delivered, stats.outcomes.conflated, stats.outcomes.netted
    );
    println!("{saved} calls of {accepted} saved, and the exchange never saw an old value");
    Ok(())
}

fn screen() -> impl Sink<TradeOp> {
    sink_fn(|batch: &mut Batch<TradeOp>| {
        Box::pin(async move {
            for op in batch.pending() {
                match op {
                    TradeOp::PriceUpdate(update) => {
                        println!("  written  price of {} {:>9}", update.symbol, update.price)
                    }
                    TradeOp::Order(order) => match order.stop_price() {
                        Some(stop) => println!("  written  order {}, stop at {stop}", order.id()),
                        None => println!("  written  order {}", order.id()),
                    },
                    other => println!("  written  {other:?}"),
                }
            }
            Ok(batch.accept_all())
        })
    })
}
