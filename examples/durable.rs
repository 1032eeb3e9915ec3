//! Orders that survive the process: it kills itself in the middle of its work, and comes back where it was.
//!
//! Run it with `cargo run --example durable --features durable-file`.

use std::{error::Error, path::Path, process::Command, time::Duration};

use roundlot::{
    Batch, Settled, Sink, SinkError,
    durable::{Durable, File, Joined},
    sink::Guarantee,
};

/// Orders in all, and the one at which the first process dies.
const ORDERS: u32 = 20;
const DEADLY: u32 = 12;

/// A venue that takes an order once, by its number, however often it is sent.
struct Venue {
    process: &'static str,
    dies: bool,
}

impl Sink<u32, String> for Venue {
    async fn write(&self, batch: &mut Batch<u32, String>) -> Result<Settled, SinkError> {
        tokio::time::sleep(Duration::from_millis(5)).await;
        let orders: Vec<String> = batch.pending().map(u32::to_string).collect();
        println!("  {} process: the venue gets {}", self.process, orders.join(", "));
        if self.dies && batch.ops().contains(&DEADLY) {
            println!("  {} process: dies before it hears the venue's answer", self.process);
            std::process::abort();
        }
        Ok(batch.accept_all_with(|_, order| format!("venue-{order}")))
    }

    fn guarantee(&self) -> Guarantee {
        Guarantee::Idempotent
    }
}

async fn join(path: &Path, process: &'static str, dies: bool) -> Result<Joined<u32, String>, Box<dyn Error>> {
    let durable = Durable::new("orders", File::at(path)).limits(4);
    Ok(durable.sink(move |_term| Venue { process, dies }).join().await?)
}

/// The process that dies. `send_all` returns when all orders are in the log.
async fn first(path: &Path) -> Result<(), Box<dyn Error>> {
    let orders = join(path, "first", true).await?;
    let desk = orders.handle();
    desk.send_all(1..=ORDERS).await?;
    println!("  first process: all {ORDERS} orders are in the log");
    desk.flush().await?;
    Err("it should have died".into())
}

/// The process that goes on.
async fn second(path: &Path) -> Result<(), Box<dyn Error>> {
    let orders = join(path, "second", false).await?;
    let desk = orders.handle();
    let stats = desk.stats();
    println!("  second process: {} orders recovered, {} of them in doubt", stats.recovered, stats.recovered_in_doubt);
    let report = desk.flush().await?;
    println!("  second process: {} delivered, {} failed", report.others.delivered, report.others.failed());
    let receipt = desk.submit(ORDERS + 1).await?.await?;
    println!("  second process: and one order more, {receipt}");
    orders.leave().await?;
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    if let Some(path) = std::env::args().nth(1) {
        return first(Path::new(&path)).await;
    }
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("orders.db");
    println!("A process sends {ORDERS} orders, and dies while the venue has order {DEADLY}:");
    let died = Command::new(std::env::current_exe()?).arg(&path).status()?;
    println!("  ({died})\n\nThe next process finds in the log what was accepted and not settled:");
    second(&path).await?;
    println!("\nNo order that was accepted is lost. Those in doubt are sent again, since this venue is idempotent.");
    Ok(())
}
