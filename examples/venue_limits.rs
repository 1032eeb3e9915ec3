//! A burst of orders before a venue that takes 20 orders in half a second, answers 429 to more, and bans who does not listen. Once
//! without a quota and once with one.
//!
//! Run it with `cargo run --example venue_limits`. It takes some seconds, most of them the ban.

use std::{
    collections::VecDeque,
    error::Error,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use roundlot::{Batch, Batcher, Bucket, Limits, Quota, Retry, Settled, Sink, SinkError, Stages, stage::Merge};

const LIMIT: u64 = 20;
const WINDOW: Duration = Duration::from_millis(500);

/// Every third 429 is answered with a ban of this length.
const BAN: Duration = Duration::from_secs(3);

#[derive(Debug, Clone, Copy)]
struct Order {
    id: u32,
    is_cancel: bool,
}

/// The venue: what it has counted and answered.
#[derive(Debug, Default)]
struct Books {
    orders: VecDeque<Instant>,
    too_many: u32,
    bans: u32,
    banned_until: Option<Instant>,
}

#[derive(Clone, Default)]
struct Venue(Arc<Mutex<Books>>);

impl Sink<Order> for Venue {
    async fn write(&self, batch: &mut Batch<Order>) -> Result<Settled, SinkError> {
        tokio::time::sleep(Duration::from_millis(5)).await;
        let (now, mut books) = (Instant::now(), self.0.lock().unwrap_or_else(PoisonError::into_inner));
        if let Some(until) = books.banned_until.filter(|until| now < *until) {
            return Err(SinkError::throttled(until - now));
        }
        while books.orders.front().is_some_and(|at| now - *at >= WINDOW) {
            books.orders.pop_front();
        }
        if (books.orders.len() + batch.len()) as u64 > LIMIT {
            books.too_many += 1;
            let is_banned = books.too_many.is_multiple_of(3);
            if is_banned {
                books.bans += 1;
                books.banned_until = Some(now + BAN);
            }
            return Err(SinkError::throttled(if is_banned { BAN } else { WINDOW }));
        }
        books.orders.extend(batch.iter().map(|_| now));
        // Real venues say in a header what is used. Should they count differently, the quota follows.
        batch.quota().used("orders", books.orders.len() as u64);
        Ok(batch.accept_all())
    }
}

/// Sends 100 orders, and cancels 30 of the last ones a moment later.
async fn burst(quota: Option<Quota<Order>>) -> Result<(), Box<dyn Error>> {
    let (venue, start) = (Venue::default(), Instant::now());
    // A cancel that finds its order still waiting takes it along: neither is sent.
    let nets = |_: Order, newer: Order| if newer.is_cancel { Merge::Net } else { Merge::Into(newer) };
    let mut batcher = Batcher::new(venue.clone())
        .stages(Stages::new().conflate_by(|order: &Order| order.id, nets))
        .limits(Limits::new(LIMIT as usize))
        .retry(Retry::default().max_attempts(100));
    if let Some(quota) = quota {
        batcher = batcher.quota(quota);
    }
    let (desk, worker) = batcher.spawn();
    desk.send_all((0..100).map(|id| Order { id, is_cancel: false })).await?;
    tokio::time::sleep(Duration::from_millis(100)).await;
    desk.send_all((70..100).map(|id| Order { id, is_cancel: true })).await?;
    desk.flush().await?;

    let (stats, time) = (desk.stats(), start.elapsed());
    worker.shutdown().await?;
    let books = venue.0.lock().unwrap_or_else(PoisonError::into_inner);
    println!("  answers of 429: {}, bans: {}, done after {time:.1?}", books.too_many, books.bans);
    println!("  {} ops delivered, {} netted while they waited", stats.outcomes.delivered, stats.outcomes.netted);
    for bucket in &stats.quota {
        let (time, waited) = (stats.quota.time(), bucket.waited);
        println!("  {bucket}, {waited} batches trimmed or held up, ops waited {:.1?} on average", time.mean);
    }
    Ok(())
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    println!("100 orders and 30 cancels, without a quota:");
    burst(None).await?;
    println!("with a quota that knows the limit:");
    burst(Some(Quota::new().bucket("orders", Bucket::rolling(LIMIT, WINDOW)))).await
}
