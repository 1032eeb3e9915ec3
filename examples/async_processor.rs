//! The three calls that most programs need: send, flush, shut down. Every job is processed or comes back in an error.
//!
//! Run it with `cargo run --example async_processor`.
//! The clock is paused, so the example ends at once and prints the same each time. A program leaves `start_paused` out.

use std::{error::Error, time::Duration};

use roundlot::{Batch, Batcher, Limits, sink_fn};
use tokio::time::{Instant, sleep};

/// One job to be processed together with others.
struct Job {
    from: &'static str,
    number: u32,
}

#[tokio::main(flavor = "current_thread", start_paused = true)]
async fn main() -> Result<(), Box<dyn Error>> {
    let started = Instant::now();
    let process = sink_fn(move |batch: &mut Batch<Job>| {
        Box::pin(async move {
            sleep(Duration::from_millis(20)).await; // the work, once per batch and not once per job
            let jobs: Vec<String> = batch.pending().map(|job| format!("{}-{}", job.from, job.number)).collect();
            println!("  {:>3} ms  processed {}", started.elapsed().as_millis(), jobs.join(" "));
            Ok(batch.accept_all())
        })
    });
    let (processor, worker) = Batcher::new(process).limits(Limits::new(4).linger(Duration::from_millis(50))).spawn();

    println!("Jobs are processed up to 4 at a time, and wait for company up to 50 ms.\n");
    println!("Add: three tasks share the processor, each through a clone of its handle.");
    let tasks = ["strategy", "risk", "ledger"].map(|from| {
        let processor = processor.clone();
        tokio::spawn(async move {
            for number in 1..=3 {
                processor.send(Job { from, number }).await?;
                sleep(Duration::from_millis(4)).await;
            }
            Ok::<(), roundlot::SendError<Job>>(())
        })
    });
    for task in tasks {
        task.await??;
    }

    println!("Flush: wait until all that was added so far is done.");
    let report = processor.flush().await?;
    println!(
        "  {:>3} ms  {} jobs delivered, {} refused",
        started.elapsed().as_millis(),
        report.outcomes.delivered,
        report.outcomes.refused
    );

    println!("Ask: a job whose result matters is submitted, and its answer awaited: 50 ms of linger, 20 ms of work.");
    let answer = processor.submit(Job { from: "audit", number: 1 }).await?;
    let outcome = answer.outcome().await;
    println!("  {:>3} ms  the answer: {:?} after {:?}", started.elapsed().as_millis(), outcome.end, outcome.latency);

    println!("Shut down: ten more jobs need 60 ms, and there are 30 ms to finish.");
    processor.send_all((1..=10).map(|number| Job { from: "late", number })).await?;
    let summary = worker.shutdown().within(Duration::from_millis(30)).await?;
    println!("  {:>3} ms  over; {} jobs come back:", started.elapsed().as_millis(), summary.returned.len());
    for back in &summary.returned {
        let state = if back.in_flight { "was in the works and may be done" } else { "was not begun" };
        println!("          {}-{:<3} {state}", back.op.from, back.op.number);
    }

    let stats = &summary.stats;
    println!(
        "\nAccount: {} added = {} delivered + {} returned",
        stats.accepted, stats.outcomes.delivered, stats.outcomes.returned
    );

    // After the shutdown, a job that cannot be accepted comes back in the error.
    if let Err(error) = processor.send(Job { from: "late", number: 11 }).await {
        let reason = error.to_string();
        println!(
            "What comes too late is not lost either: {reason}, and here is job {} again",
            error.into_inner().number
        );
    }
    Ok(())
}
