//! Orders to a venue with a REST API: one POST per batch, one result per order by its position, and statuses and lost
//! connections told apart by what they mean for an order.
//!
//! Run it with `cargo run --example http_venue`. The venue is a server of the same program, on a free port of this machine;
//! it answers 429 to its first request and 500 to its third.

use std::{
    error::Error,
    sync::{Arc, atomic::AtomicU64, atomic::Ordering::Relaxed},
    time::Duration,
};

use axum::{Json, Router, http::StatusCode, response::IntoResponse, routing::post};
use reqwest::{Client, Response, header::RETRY_AFTER, redirect};
use roundlot::{
    Batch, Batcher, CancellationToken, Limits, Settled, Sink, SinkError,
    market::{ClientOrderId, Order, Side},
};
use serde::{Deserialize, Serialize};

/// The venue's result for one order of a request.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum OrderResult {
    Accepted { order_id: u64 },
    Rejected { reason: String },
}

/// The venue, as a client sees it. The receipt of an order is the venue's id.
struct Venue {
    client: Client,
    url: String,
}

impl Sink<Order, u64> for Venue {
    async fn write(&self, batch: &mut Batch<Order, u64>) -> Result<Settled, SinkError> {
        let (places, orders): (Vec<usize>, Vec<&Order>) = batch.pending().indexed().unzip();
        let response = self.client.post(&self.url).json(&orders).send().await.map_err(classify)?;
        if !response.status().is_success() {
            return Err(refusal(response).await);
        }
        // From here on the venue has the orders. An answer that can't be read, or is not one result per order, leaves
        // them in doubt.
        let results: Vec<OrderResult> = response.json().await.map_err(SinkError::ambiguous)?;
        if results.len() != places.len() {
            return Err(SinkError::ambiguous(format!("{} results for {} orders", results.len(), places.len())));
        }
        for (i, result) in places.into_iter().zip(results) {
            match result {
                OrderResult::Accepted { order_id } => batch.accept(i, order_id),
                OrderResult::Rejected { reason } => batch.refuse(i, SinkError::refused(reason)),
            }
        }
        batch.settled()
    }
}

/// An error without a response: was the request sent, so that its orders may have been executed?
fn classify(error: reqwest::Error) -> SinkError {
    match error {
        error if error.is_connect() => SinkError::outage(error), // not sent; the venue is away
        error if error.is_builder() => SinkError::refused(error), // not sent, and never will be
        error if error.is_timeout() => SinkError::ambiguous(error), // sent, no answer in time
        error => SinkError::connection_lost(error),              // perhaps sent; the venue is away
    }
}

/// An error by the status, with what the venue says of it as the cause.
async fn refusal(response: Response) -> SinkError {
    let status = response.status();
    // Seconds. The other form of this header, a date, is left to the default pause.
    let header = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
    let error = SinkError::from_status(status.as_u16(), header.map(Duration::from_secs));
    match response.text().await {
        Ok(body) if !body.is_empty() => error.with_source(format!("{status}: {body}")),
        _ => error,
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let (stop, listener) = (CancellationToken::new(), tokio::net::TcpListener::bind("127.0.0.1:0").await?);
    let url = format!("http://{}/orders", listener.local_addr()?);
    let server = axum::serve(listener, router()).with_graceful_shutdown(stop.clone().cancelled_owned());
    let server = tokio::spawn(server.into_future());

    // No redirects: a client that follows one may send orders where they don't belong. A real venue also needs TLS:
    // feature `rustls` of reqwest.
    let client = Client::builder().timeout(Duration::from_secs(2)).redirect(redirect::Policy::none()).build()?;
    let limits = Limits::new(10).linger(Duration::from_millis(5)).write_timeout(Duration::from_secs(5));
    let (desk, worker) = Batcher::new(Venue { client, url }).limits(limits).spawn();

    for (id, quantities) in [(1, ["0.25", "9.00"]), (3, ["0.10", "0.20"]), (5, ["0.30", "0.40"])] {
        let mut acks = Vec::new();
        for (id, quantity) in (id..).map(ClientOrderId::from).zip(quantities) {
            let order = Order::limit(id, "BTCUSDT".parse()?, Side::Buy, "64000.5".parse()?, quantity.parse()?)?;
            acks.push((id, quantity, desk.submit(order).await?));
        }
        for (id, quantity, ack) in acks {
            let outcome = ack.outcome().await;
            let result =
                outcome.result.map_or_else(|error| error.chain(), |order_id| format!("accepted as {order_id}"));
            println!("order {id} for {quantity} BTC, attempts {}: {result}", outcome.attempts);
        }
    }

    stop.cancel(); // the venue goes away, and with it all connections
    server.await??;
    let order = Order::market(ClientOrderId::from(7), "BTCUSDT".parse()?, Side::Sell, "0.15".parse()?)?;
    desk.send(order).await?;
    let summary = worker.shutdown().within(Duration::from_millis(300)).await?;
    for returned in summary.returned {
        println!("order {} comes back from the outage, in doubt: {}", returned.op.id(), returned.in_doubt);
    }
    Ok(())
}

/// The other side: a venue that takes orders of up to 1 BTC.
fn router() -> Router {
    let requests = Arc::new(AtomicU64::new(0));
    let take = move |Json(orders): Json<Vec<Order>>| async move {
        let request = requests.fetch_add(1, Relaxed) + 1;
        println!("request {request} with {} orders", orders.len());
        let judge = |(place, order): (u64, &Order)| match order.quantity().to_decimal() > 1.into() {
            true => OrderResult::Rejected { reason: "more than 1 BTC".to_owned() },
            false => OrderResult::Accepted { order_id: 1000 * request + place },
        };
        match request {
            1 => (StatusCode::TOO_MANY_REQUESTS, [("retry-after", "1")], "slow down").into_response(),
            3 => (StatusCode::INTERNAL_SERVER_ERROR, "no answer from the matching engine").into_response(),
            _ => Json((0..).zip(&orders).map(judge).collect::<Vec<_>>()).into_response(),
        }
    };
    Router::new().route("/orders", post(take))
}
