//! Bounds: one key that is held up holds up no other one, and a sink that is stuck makes callers wait rather than the memory grow.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use roundlot::{
    Batch, Bucket, Limits, Quota, Settled, Sink, SinkError, Stages,
    durable::{Durable, Joined},
    sink::Guarantee,
    stage,
    testing::{Gate, MemoryLog, Recorder},
};

use crate::venue::Keyed;

type Price = (u32, u64);

const HOUR: Duration = Duration::from_secs(3600);

/// A destination that takes an hour for a batch of symbol 0.
#[derive(Clone, Default)]
struct SlowFirst {
    arrived: Arc<Mutex<Vec<Price>>>,
}

impl Sink<Price> for SlowFirst {
    async fn write(&self, batch: &mut Batch<Price>) -> Result<Settled, SinkError> {
        if batch.pending().any(|price| price.0 == 0) {
            tokio::time::sleep(HOUR).await;
        }
        self.arrived.lock().unwrap().extend(batch.pending());
        Ok(batch.accept_all())
    }

    fn guarantee(&self) -> Guarantee {
        Guarantee::Idempotent
    }
}

/// Goal: one symbol that is throttled for an hour holds up no other one. Method: a quota of one op per symbol and hour, and two ops of
/// symbol 0 in front of one of each of a thousand others, through one shard.
#[tokio::test(start_paused = true)]
async fn one_symbol_that_is_throttled_holds_up_no_other() {
    let (log, recorder) = (MemoryLog::new(), Recorder::new());
    let sink = recorder.clone();
    let quota = || Quota::new().bucket("symbol", Bucket::rolling(1, HOUR).unpaced().by(|price: &Price| price.0));
    let orders: Joined<Price> = Durable::new("orders", log)
        .stages(|| Stages::new().partition_by(|price: &Price| price.0))
        .limits(Limits::new(10).max_pending(100))
        .quota(quota)
        .sink(move |_| Keyed(sink.clone()))
        .join()
        .await
        .unwrap();
    let desk = orders.handle();
    desk.send_all([(0, 1), (0, 2)]).await.unwrap();
    desk.send_all((1..=1000).map(|symbol| (symbol, 1))).await.unwrap();
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!(recorder.ops().len(), 1001, "all but the second of symbol 0");
    assert!(!recorder.ops().contains(&(0, 2)));
    tokio::time::sleep(HOUR).await;
    assert!(recorder.ops().contains(&(0, 2)));
}

/// Goal: one symbol that is held up for an hour holds up no other one. Method: a write of it that hangs, and three ops for each of a
/// thousand others, through one shard.
#[tokio::test(start_paused = true)]
async fn one_symbol_that_is_held_up_holds_up_no_other() {
    let (log, sink) = (MemoryLog::new(), SlowFirst::default());
    let of_term = sink.clone();
    let orders: Joined<Price> = Durable::new("orders", log)
        .stages(|| Stages::new().partition_by(|price: &Price| price.0))
        .limits(Limits::new(10).max_in_flight(4).max_pending(100))
        .sink(move |_| of_term.clone())
        .join()
        .await
        .unwrap();
    let desk = orders.handle();
    desk.send_all([(0, 1), (0, 2)]).await.unwrap();
    for round in 1..=3 {
        desk.send_all((1..=1000).map(|symbol| (symbol, round))).await.unwrap();
    }
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!(sink.arrived.lock().unwrap().len(), 3000, "all but those of symbol 0");
    assert_eq!(desk.stats().waiting + desk.stats().in_flight, 2);
    desk.flush().await.unwrap();
    let arrived = sink.arrived.lock().unwrap();
    for symbol in 0..=1000 {
        let rounds: Vec<u64> = arrived.iter().filter(|price| price.0 == symbol).map(|price| price.1).collect();
        assert_eq!(rounds, (1..=rounds.len() as u64).collect::<Vec<_>>(), "symbol {symbol}");
    }
}

/// Goal: prices sent at a stuck sink make callers wait once they stand for eight times `max_pending` positions of the log, whatever
/// they conflate to, and flow again once it takes them. Method: ten times as many prices as may be pending, of 100 symbols.
#[tokio::test(start_paused = true)]
async fn a_stuck_sink_makes_callers_wait() {
    const MAX_PENDING: u64 = 1000;
    let (log, recorder) = (MemoryLog::new(), Recorder::new());
    let gate = Gate::new(recorder.clone());
    gate.shut();
    let sink = Keyed(gate.clone());
    let prices = Durable::new("prices", log.clone())
        .stages(|| Stages::new().conflate_by(|price: &Price| price.0, stage::latest))
        .limits(Limits::new(200).max_pending(MAX_PENDING as usize))
        .sink(move |_| sink.clone())
        .join()
        .await
        .unwrap();
    let desk = prices.handle();
    let sending = tokio::spawn({
        let desk = desk.clone();
        async move {
            for price in 0..10 * MAX_PENDING {
                desk.send(((price % 100) as u32, price)).await.unwrap();
            }
        }
    });
    tokio::time::sleep(HOUR).await;
    assert!(!sending.is_finished());
    let accepted = desk.stats().accepted;
    assert!((MAX_PENDING..=9 * MAX_PENDING).contains(&accepted), "{accepted}");
    tokio::time::sleep(HOUR).await;
    assert_eq!(desk.stats().accepted, accepted, "callers wait");
    gate.open();
    sending.await.unwrap();
    desk.flush().await.unwrap();
    let newest: std::collections::BTreeMap<u32, u64> = recorder.ops().into_iter().collect();
    assert_eq!(newest, (0..100).map(|symbol| (symbol, 9900 + u64::from(symbol))).collect());
    assert!(recorder.len() < 2000, "{} of 10,000 prices were sent", recorder.len());
    let stats = desk.stats();
    assert_eq!(stats.accepted, stats.outcomes.total());
}
