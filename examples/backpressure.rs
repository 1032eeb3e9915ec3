//! A slow sink slows its producers: the buffer is bounded, and `send` waits when it is full. Two other policies are
//! shown: refuse a new op at once, or evict the oldest.
//!
//! Run it with `cargo run --example backpressure`.
//! The clock is paused, so the example ends at once and prints the same each time. A program leaves `start_paused` out.

use std::{error::Error, time::Duration};

use roundlot::{Batch, Batcher, Limits, Overflow, Sink, sink_fn};
use tokio::time::{Instant, sleep};

#[tokio::main(flavor = "current_thread", start_paused = true)]
async fn main() -> Result<(), Box<dyn Error>> {
    let limits = Limits::new(2).max_pending(6);
    println!("The sink writes 2 operations in 10 ms. The buffer takes 6, from `send` until they are written.\n");

    println!("Wait (the default): two producers send 8 operations each, as fast as they can.");
    let (desk, worker) = Batcher::new(slow_sink()).limits(limits.clone()).spawn();
    let started = Instant::now();
    let producers = ["A", "B"].map(|name| {
        let desk = desk.clone();
        tokio::spawn(async move {
            let mut times = Vec::new();
            for number in 1..=8 {
                desk.send(number).await?;
                times.push(format!("{:>3}", started.elapsed().as_millis()));
            }
            println!("  producer {name} sent them at {} ms", times.join(" "));
            Ok::<(), roundlot::SendError<u32>>(())
        })
    });
    for producer in producers {
        producer.await??;
    }
    let stats = worker.shutdown().await?.stats;
    println!(
        "  Nothing is lost: {} of {} were delivered. They went in at the pace at which they",
        stats.outcomes.delivered, stats.accepted
    );
    println!("  came out, and none was in the buffer longer than {:?}.\n", stats.in_buffer.max);

    println!("Do not wait: `try_send` gives the operation back while there is no room.");
    let (desk, worker) = Batcher::new(slow_sink()).limits(limits.clone()).spawn();
    for number in 1..=8 {
        match desk.try_send(number) {
            Ok(()) => {}
            Err(error) if error.is_full() => println!("  {} comes back: the buffer is full", error.into_inner()),
            Err(error) => return Err(error.into()),
        }
    }
    sleep(Duration::from_millis(11)).await;
    desk.try_send(7)?;
    println!("  11 ms later 7 was taken: a batch was written and left room.\n");
    let _ = worker.shutdown().await?;

    println!("Evict: where new data is worth more than old, the oldest makes room and `send` never waits.");
    let (desk, worker) = Batcher::new(slow_sink()).limits(limits.overflow(Overflow::EvictOldest)).spawn();
    let started = Instant::now();
    let mut answers = Vec::new();
    for number in 1..=12 {
        answers.push((number, desk.submit(number).await?));
        sleep(Duration::from_millis(1)).await;
    }
    println!("  12 operations went in within {:?}", started.elapsed());
    let stats = worker.shutdown().await?.stats;
    for (number, answer) in answers {
        if let Err(error) = answer.await {
            println!("  the caller of {number} was told: {error}");
        }
    }
    println!(
        "  {} delivered + {} evicted = {} accepted",
        stats.outcomes.delivered, stats.outcomes.evicted, stats.accepted
    );
    Ok(())
}

fn slow_sink() -> impl Sink<u32> {
    sink_fn(|batch: &mut Batch<u32>| {
        Box::pin(async move {
            sleep(Duration::from_millis(10)).await;
            Ok(batch.accept_all())
        })
    })
}
