//! All counters and times as a page for Prometheus. The crate uses the `metrics` facade, so any exporter works; this
//! one prints the page to standard output.
//!
//! Run it with `cargo run --example metrics`, or `cargo run --example metrics | promtool check metrics`.
//! The clock is paused, so the example ends at once and counts the same each time. A program leaves `start_paused` out.

use std::{error::Error, time::Duration};

use metrics_exporter_prometheus::{Matcher, PrometheusBuilder};
use roundlot::{Batch, Batcher, Limits, Retry, Sink, SinkError, Stages, sink_fn, stage};
use tokio::time::{Instant, sleep};

struct Order {
    symbol: &'static str,
    id: u64,
}

#[tokio::main(flavor = "current_thread", start_paused = true)]
async fn main() -> Result<(), Box<dyn Error>> {
    // The exporter is installed first, since a batcher asks for its counters when it is built. A program that serves
    // the page calls `PrometheusBuilder::new().with_http_listener(address).install()`, feature `http-listener`.
    let page = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &[0.001, 0.01, 0.1, 0.5, 1.0, 5.0, 30.0])?
        .set_buckets_for_metric(Matcher::Full("roundlot_batch_ops".to_owned()), &[1.0, 2.0, 5.0, 10.0])?
        .set_buckets_for_metric(Matcher::Full("roundlot_batch_fill_ratio".to_owned()), &[0.1, 0.25, 0.5, 0.75, 1.0])?
        .install_recorder()?;

    let (orders, orders_worker) = Batcher::new(exchange())
        .name("orders") // the label of its metrics
        .stages(Stages::new().partition_by(|order: &Order| order.symbol))
        .limits(Limits::new(10).linger(Duration::from_millis(5)).max_in_flight(4))
        .retry(Retry::exponential(Duration::from_millis(20), Duration::from_secs(1)).seed(1))
        .spawn();
    let (prices, prices_worker) = Batcher::new(screen())
        .name("prices")
        .stages(Stages::new().conflate_by(|price: &(&'static str, u64)| price.0, stage::latest))
        .limits(Limits::new(10).linger(Duration::from_millis(20)))
        .spawn();

    for id in 1..=200 {
        let symbol = ["BTC", "ETH", "SOL"][id as usize % 3];
        orders.send(Order { symbol, id }).await?;
        prices.send((symbol, id)).await?;
        sleep(Duration::from_millis(1)).await;
    }
    let _ = (orders_worker.shutdown().await?, prices_worker.shutdown().await?);

    // The hints go to standard error, so that standard output is the page alone.
    eprintln!("Two batchers took 200 operations each. What to look for in the page, and to draw from it:");
    eprintln!("  rate(roundlot_ops_accepted_total[1m])                 operations per second, by batcher");
    eprintln!("  rate(roundlot_ops_ended_total{{end!=\"delivered\"}}[1m])  what was not sent, and why");
    eprintln!("  histogram_quantile(0.99, rate(roundlot_op_in_buffer_seconds_bucket[1m]))   time in buffer");
    eprintln!("Alerts and a dashboard: config/prometheus/alerts.yml, config/grafana/roundlot.json\n");
    let page = page.render();
    let mut metrics: Vec<&str> = page.trim_end().split("\n\n").collect();
    metrics.sort_unstable(); // the exporter prints them in any order
    println!("{}", metrics.join("\n\n"));
    Ok(())
}

/// Returns an exchange that refuses each 50th order, and is unavailable for the first 10 ms.
fn exchange() -> impl Sink<Order> {
    let opens = Instant::now() + Duration::from_millis(10);
    sink_fn(move |batch: &mut Batch<Order>| {
        Box::pin(async move {
            sleep(Duration::from_millis(3)).await;
            if Instant::now() < opens {
                return Err(SinkError::transient("connection refused"));
            }
            for i in 0..batch.len() {
                if batch[i].id.is_multiple_of(50) {
                    batch.refuse(i, SinkError::refused("insufficient balance"));
                }
            }
            Ok(batch.accept_all())
        })
    })
}

fn screen() -> impl Sink<(&'static str, u64)> {
    sink_fn(|batch: &mut Batch<(&'static str, u64)>| Box::pin(async move { Ok(batch.accept_all()) }))
}
