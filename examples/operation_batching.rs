//! The four reasons to cut a batch: its size, its age, an urgent op, a flush.
//!
//! Run it with `cargo run --example operation_batching`.
//! The clock is paused, so the example ends at once and prints the same each time. A program leaves `start_paused` out.

use std::{error::Error, time::Duration};

use roundlot::{Batch, Batcher, Limits, Stages, sink_fn};
use tokio::time::{Instant, sleep};

#[tokio::main(flavor = "current_thread", start_paused = true)]
async fn main() -> Result<(), Box<dyn Error>> {
    let started = Instant::now();
    // The sink is the destination of batches: an exchange, a database, or here the screen.
    let screen = sink_fn(move |batch: &mut Batch<&'static str>| {
        Box::pin(async move {
            let at = started.elapsed().as_millis();
            println!("  {at:>3} ms  cut by {:<7} [{}]", batch.cut_by().name(), batch.ops().join(", "));
            Ok(batch.accept_all())
        })
    });
    let (desk, worker) = Batcher::new(screen)
        .stages(Stages::new().urgent_by(|op: &&str| op.starts_with("stop-loss")))
        .limits(Limits::new(4).linger(Duration::from_millis(10)))
        .spawn();
    println!("A batch holds up to 4 operations, and none of them waits for company longer than 10 ms.\n");

    println!("Size: six operations come at once, four of them fill a batch.");
    desk.send_all(["buy BTC", "buy ETH", "sell SOL", "buy XRP", "sell ADA", "buy DOT"]).await?;
    sleep(Duration::from_millis(1)).await;

    println!("Time: the other two leave when the first of them is 10 ms old; one more came at 7 ms.");
    sleep(Duration::from_millis(6)).await;
    desk.send("sell LTC").await?;
    sleep(Duration::from_millis(13)).await;

    println!("Event: at 20 ms comes something that may wait, 3 ms later something that may not. They share the call.");
    desk.send("buy BTC").await?;
    sleep(Duration::from_millis(3)).await;
    desk.send("stop-loss ETH").await?;
    sleep(Duration::from_millis(7)).await;

    println!("Forced: at 30 ms a caller needs to know that all is done, and flushes.");
    desk.send_all(["buy SOL", "sell XRP"]).await?;
    let report = desk.flush().await?;
    println!("          the flush reports {} delivered so far, ok: {}\n", report.outcomes.delivered, report.is_ok());

    let stats = desk.stats();
    println!("Statistics");
    println!(
        "  operations      {:>5}  delivered {}, waiting {}",
        stats.accepted, stats.outcomes.delivered, stats.waiting
    );
    println!("  batches         {:>5}  of {:.2} operations on average", stats.batches, stats.mean_batch());
    let cuts = stats.cuts;
    println!(
        "  cut by                 full {}, linger {}, urgent {}, flush {}",
        cuts.full, cuts.linger, cuts.urgent, cuts.flush
    );
    println!("  forced flushes  {:>5}", stats.forced_flushes);
    println!("  fill            {:>4.0}%  of 4 operations", stats.fill_mean * 100.0);
    println!("  time in buffer         {:.1?} on average, {:.1?} at most", stats.in_buffer.mean, stats.in_buffer.max);

    drop(desk); // dropping the last handle ends the batcher once every op is settled
    let summary = worker.join().await?;
    println!("\nEnded with {} of {} delivered.", summary.stats.outcomes.delivered, summary.stats.accepted);
    Ok(())
}
