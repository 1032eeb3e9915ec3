//! A sink of your own: a verdict for each operation, a typed receipt for what was accepted, and errors whose kind
//! tells the batcher what to do next. And what can be put around any sink.
//!
//! Run it with `cargo run --example custom_sink`.
//! The clock is paused, so that it takes no time and prints the same on each run; a program leaves `start_paused` out.

use std::{error::Error, sync::atomic, time::Duration};

use roundlot::{AckError, Batch, Batcher, Retry, Settled, Sink, SinkError, sink_fn};

struct Order {
    quantity: u32,
}

/// The receipt: what the exchange calls an order that it takes.
#[derive(Clone, Default)]
struct VenueOrderId(u32);

/// What the exchange's client library fails with.
#[derive(Debug, thiserror::Error)]
enum ApiError {
    #[error("connection refused")]
    NotConnected,
    #[error("too many requests")]
    TooManyRequests,
    #[error("connection reset after the request was sent")]
    ConnectionLost,
}

/// The most important function of a sink: may anything have landed, and is it worth trying again?
fn classify(error: ApiError) -> SinkError {
    println!("    {error}");
    match error {
        ApiError::NotConnected => SinkError::transient(error), // nothing was sent: again, after a backoff
        ApiError::TooManyRequests => SinkError::throttled(Duration::from_millis(300)), // again, after a pause for all
        ApiError::ConnectionLost => SinkError::ambiguous(error), // may have landed: never a second order
    }
}

/// Stands for the client library: sends lines such as `buy 5 BTC` in one call, and fails when its count says so.
struct Exchange(atomic::AtomicU32);

impl Exchange {
    async fn call(&self, lines: &[String]) -> Result<Vec<Result<u32, &'static str>>, ApiError> {
        let call = self.0.fetch_add(1, atomic::Ordering::Relaxed) + 1;
        println!("    call {call}: {}", lines.join(", "));
        let judge = |(id, line): (u32, &String)| if line.contains(" 0 ") { Err("quantity is zero") } else { Ok(id) };
        match call {
            1 => Err(ApiError::NotConnected),
            2 => Err(ApiError::TooManyRequests),
            4 => Err(ApiError::ConnectionLost),
            5 => std::future::pending().await, // hangs
            _ => Ok((9001..).zip(lines).map(judge).collect()),
        }
    }
}

impl Sink<String, VenueOrderId> for Exchange {
    async fn write(&self, batch: &mut Batch<String, VenueOrderId>) -> Result<Settled, SinkError> {
        let (places, lines): (Vec<usize>, Vec<String>) =
            batch.pending().indexed().map(|(i, line)| (i, line.clone())).unzip();
        let answers = self.call(&lines).await.map_err(classify)?; // an error is the verdict of all
        for (i, answer) in places.into_iter().zip(answers) {
            match answer {
                Ok(id) => batch.accept(i, VenueOrderId(id)),
                Err(reason) => batch.refuse(i, SinkError::refused(reason)),
            }
        }
        batch.settled() // an error if an answer is missing: no operation can be forgotten
    }
}

#[tokio::main(flavor = "current_thread", start_paused = true)]
async fn main() -> Result<(), Box<dyn Error>> {
    let journal = sink_fn(|batch: &mut Batch<Order, VenueOrderId>| {
        Box::pin(async move {
            println!("    journal: {} of them taken", batch.pending().len());
            Ok(batch.accept_all())
        })
    });
    let sink = Exchange(atomic::AtomicU32::new(0))
        .timeout(Duration::from_secs(2)) // a call that hangs is given up, as one that may have landed
        .map(|order: &Order| format!("buy {} BTC", order.quantity)) // orders go in, lines come out
        .fan_out(journal) // and what the exchange took goes here, too
        .boxed(); // one type whatever is inside: for a field, or a choice at run time
    let (desk, _worker) = Batcher::new(sink).retry(Retry::default().seed(3)).spawn();

    for pair in [[5, 0], [7, 8], [9, 10]] {
        println!("Orders for {} and {} BTC", pair[0], pair[1]);
        let [first, second] = pair.map(|quantity| desk.submit(Order { quantity }));
        for answer in [first.await?, second.await?] {
            let outcome = answer.outcome().await;
            let result = match outcome.result {
                Ok(VenueOrderId(id)) => format!("accepted as {id}"),
                Err(AckError::Refused(error) | AckError::Exhausted(error) | AckError::InDoubt(error)) => error.chain(),
                Err(error) => error.to_string(),
            };
            println!("  {result}; attempts {}, after {} ms", outcome.attempts, outcome.latency.as_millis());
        }
    }
    Ok(())
}
