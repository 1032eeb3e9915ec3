//! A sink of your own: a verdict for each op, a typed receipt for each accepted op, and errors whose kind tells the
//! batcher what to do next. The last lines show the adapters that fit around any sink.
//!
//! Run it with `cargo run --example custom_sink`.
//! The clock is paused, so the example ends at once and prints the same each time. A program leaves `start_paused` out.

use std::{error::Error, sync::atomic, time::Duration};

use roundlot::{AckError, Batch, Batcher, Retry, Settled, Sink, SinkError, sink_fn};

struct Order {
    quantity: u32,
}

/// The receipt: the exchange's id of an order.
#[derive(Clone, Default)]
struct VenueOrderId(u32);

/// The errors of the exchange's client library.
#[derive(Debug, thiserror::Error)]
enum ApiError {
    #[error("connection refused")]
    NotConnected,
    #[error("too many requests")]
    TooManyRequests,
    #[error("connection reset after the request was sent")]
    ConnectionLost,
}

/// Classifies an error, the most important decision of a sink: may an op have landed, and is a retry useful?
fn classify(error: ApiError) -> SinkError {
    println!("    {error}");
    match error {
        ApiError::NotConnected => SinkError::transient(error), // nothing was sent: try again after a backoff
        ApiError::TooManyRequests => SinkError::throttled(Duration::from_millis(300)), // after a pause of all ops
        ApiError::ConnectionLost => SinkError::ambiguous(error), // may have landed: never send a second order
    }
}

/// The client library of the exchange. One call sends lines such as `buy 5 BTC`; the call count decides how it fails.
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
        let answers = self.call(&lines).await.map_err(classify)?; // an error is the verdict of all ops
        for (i, answer) in places.into_iter().zip(answers) {
            match answer {
                Ok(id) => batch.accept(i, VenueOrderId(id)),
                Err(reason) => batch.refuse(i, SinkError::refused(reason)),
            }
        }
        batch.settled() // an error if a verdict is missing: no op can be forgotten
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
        .timeout(Duration::from_secs(2)) // a call that hangs is given up: the orders are in doubt
        .map(|order: &Order| format!("buy {} BTC", order.quantity)) // orders go in, lines come out
        .fan_out(journal) // accepted orders go to the journal, too
        .boxed(); // one type for any sink: for a field, or a choice at run time
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
