//! Rows into a database: many rows share a transaction, and a bad row does not fail the other rows of its batch.
//!
//! Run it with `cargo run --example database_writes --features sqlite`.

use std::{
    error::Error,
    time::{Duration, Instant},
};

use roundlot::{
    Batch, Batcher, DeadLetter, Limits, Sink,
    market::{Side, Symbol, Trade},
    sink::{
        sqlite::SqliteSink,
        table::{ColumnType, Table},
    },
    sink_fn,
};
use rusqlite::Connection;

const TRADES: u64 = 20_000;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("trades.db");

    // One closure per column. The same mapping serves any SQL database that has a sink.
    let table = Table::<Trade>::new("trades")
        .text("id", |trade| trade.id.as_str())
        .timestamp("time_ns", |trade| trade.time_ns)
        .text("symbol", |trade| trade.symbol.as_str())
        .decimal("price", |trade| trade.price.to_decimal())
        .decimal("quantity", |trade| trade.quantity.to_decimal())
        .column("side", ColumnType::Text, |trade| trade.side.map(Side::as_str).into()) // may be NULL
        .key(["id"]) // the primary key: a second trade of the same id is refused
        .create_if_missing();
    let (desk, worker) = Batcher::new(SqliteSink::open(&path, table).await?)
        .limits(Limits::new(1000).linger(Duration::from_millis(10)))
        .dead_letters(letters())
        .spawn();

    println!("{TRADES} trades go to a SQLite file. The feed sends two of them twice, as after a reconnect.");
    let started = Instant::now();
    for number in 1..=TRADES {
        desk.send(trade(number)?).await?;
        if number == 700 || number == 15_000 {
            desk.send(trade(number)?).await?;
        }
    }
    let report = desk.flush().await?;
    let took = started.elapsed();
    let stats = worker.shutdown().await?.stats;
    println!("  {} rows written, {} refused, in {took:.0?}", report.outcomes.delivered, report.outcomes.refused);
    println!("  {} transactions of {:.0} rows on average\n", stats.batches, stats.mean_batch());

    println!("Another connection finds in the file:");
    let file = Connection::open(&path)?;
    let mut query = file.prepare("SELECT symbol, count(*) FROM trades GROUP BY symbol")?;
    let mut rows = query.query([])?;
    while let Some(row) = rows.next()? {
        println!("  {}  {:>6} rows", row.get::<_, String>(0)?, row.get::<_, i64>(1)?);
    }
    let last = "SELECT symbol, price, quantity, side FROM trades WHERE id = '20000'";
    let [symbol, price, quantity, side] =
        file.query_row(last, [], |row| Ok([row.get::<_, String>(0)?, row.get(1)?, row.get(2)?, row.get(3)?]))?;
    println!("  trade 20000: {side} {quantity} {symbol} at {price}, each digit as it was sent");
    Ok(())
}

fn trade(number: u64) -> Result<Trade, Box<dyn Error>> {
    const SYMBOLS: [Symbol; 2] = [Symbol::from_static("BTCUSDT"), Symbol::from_static("ETHUSDT")];
    let number_i64 = i64::try_from(number)?;
    let symbol = SYMBOLS[usize::from(number.is_multiple_of(4))];
    let price = format!("{}.{:02}0", 61_000 + number / 100, number % 100).parse()?;
    let side = if number.is_multiple_of(3) { Side::Sell } else { Side::Buy };
    let time_ns = 1_723_075_200_000_000_000 + number_i64 * 1_000_000;
    Ok(Trade::new(number.into(), symbol, price, "0.0250".parse()?, Some(side), time_ns))
}

/// Returns the sink for dead letters: rows that the database refused. A table, a file or an alert would do as well.
fn letters() -> impl Sink<DeadLetter<Trade>> {
    sink_fn(|batch: &mut Batch<DeadLetter<Trade>>| {
        Box::pin(async move {
            for letter in batch.pending() {
                println!("  dead letter: trade {} was {}", letter.op.id, letter.error.chain());
            }
            Ok(batch.accept_all())
        })
    })
}
