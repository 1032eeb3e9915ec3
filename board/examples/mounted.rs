//! A program of its own with two batchers, and the board beside its other routes: `cargo run -p roundlot-board --example mounted`, and open
//! the page. It runs until it is stopped.

use std::{
    error::Error,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use axum::{Router, routing::get};
use roundlot::{Batch, Batcher, Limits, SinkError, Stages, sink_fn, stage};
use roundlot_board::{Board, Errors, latency::Recorder};
use tokio::{net::TcpListener, time::sleep};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let (times, errors) = (Recorder::default(), Errors::default());
    metrics::set_global_recorder(times.clone())?; // before the batchers, so that they are timed
    let screen = sink_fn(|batch: &mut Batch<(u32, u64)>| Box::pin(async move { Ok(batch.accept_all()) }));
    let calls = AtomicU64::new(0);
    let venue = sink_fn(move |batch: &mut Batch<u64>| {
        let is_busy = (calls.fetch_add(1, Relaxed) + 1).is_multiple_of(20);
        Box::pin(async move {
            sleep(Duration::from_millis(20)).await;
            if is_busy { Err(SinkError::transient("busy")) } else { Ok(batch.accept_all()) }
        })
    });
    let latest = Stages::new().conflate_by(|price: &(u32, u64)| price.0, stage::latest);
    let limits = Limits::new(100).linger(Duration::from_millis(50));
    let (prices, _screen) = Batcher::new(screen).name("prices").stages(latest).limits(limits).spawn();
    let (orders, _venue) = Batcher::new(errors.watch("orders", venue)).name("orders").spawn();

    // The board, in ten lines.
    let board = Board::new()
        .title("mounted beside other routes")
        .watch("prices", &prices)
        .watch("orders", &orders)
        .errors(errors)
        .times(times)
        .start()?;
    let app = Router::new().route("/", get("the app's own page")).nest("/board", board.router());
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("page  http://{}/board\ntoken {}", listener.local_addr()?, board.token());
    tokio::spawn(roundlot_board::serve(listener, app));

    for number in 0.. {
        prices.send((number as u32 % 10, number)).await?;
        if number % 10 == 0 {
            orders.send(number / 10).await?;
        }
        sleep(Duration::from_millis(1)).await;
    }
    Ok(())
}
