//! Runs of durable batchers that emit their events: terms that begin and end, logs that fail, files that are not what they were.

use std::{fs, time::Duration};

use roundlot::{
    Batch, Settled, Sink, SinkError, Stages,
    durable::{Durable, File, Joined},
    sink::Guarantee,
    sink_fn,
    testing::{Flaky, MemoryFailure, MemoryLog, Recorder, advance, until_idle},
};

use crate::record::Emitted;

/// A sink that hangs until its process crashes, and can't be asked at first.
#[derive(Clone)]
struct Hangs {
    guarantee: Guarantee,
    asked: Flaky<Recorder<u32>, u32>,
}

impl Sink<u32> for Hangs {
    async fn write(&self, _batch: &mut Batch<u32>) -> Result<Settled, SinkError> {
        std::future::pending().await
    }

    fn guarantee(&self) -> Guarantee {
        self.guarantee
    }

    async fn reconcile(&self, batch: &mut Batch<u32>) -> Result<(), SinkError> {
        self.asked.write(batch).await.map(drop)
    }
}

async fn join(log: &MemoryLog, sink: impl Sink<u32> + Clone) -> Joined<u32> {
    Durable::new("durable", log.clone()).sink(move |_| sink.clone()).join().await.unwrap()
}

/// Two processes of which each leads one of two shards, until one is cut off.
async fn shards_move() {
    let log = MemoryLog::new();
    let join = |log: MemoryLog| {
        let durable = Durable::new("durable", log).stages(|| Stages::new().partition_by(|op: &u32| *op));
        durable.shards(2, |key: &u32| key.to_le_bytes()).sink(|_| Recorder::new()).join()
    };
    let (first, second) = (join(log.clone()).await.unwrap(), join(log.another_process()).await.unwrap());
    advance(Duration::from_secs(3)).await;
    assert_eq!((first.stats().leading, second.stats().leading), (1, 1));
    log.fail_reads(1); // of what has become of the ops of a process that follows
    advance(Duration::from_secs(2)).await;
    log.isolate(); // so that a newer term fences this process off
    advance(Duration::from_secs(3)).await;
    log.reconnect();
    first.handle().send_all(0..10).await.unwrap();
    advance(Duration::from_secs(2)).await;
    first.leave().await.unwrap();
    second.leave().await.unwrap();
}

/// Terms, failures of the log, dead letters, and an op that seems to kill its process.
pub(crate) async fn memory() {
    let log = MemoryLog::new();
    let refuses = Flaky::new(Recorder::new()).fail(SinkError::refused("no"));
    let letters = Flaky::new(Recorder::new()).fail(SinkError::outage("away")).fail_close(SinkError::ambiguous("reset"));
    let durable = Durable::new("durable", log.clone()).dead_letters(letters).sink(move |_| refuses.clone());
    let orders = durable.join().await.unwrap();
    orders.handle().submit(1).await.unwrap().await.unwrap_err();
    advance(Duration::from_secs(1)).await;
    log.fail_next(MemoryFailure::Refused); // of the frame
    orders.handle().send(2).await.unwrap();
    orders.handle().flush().await.unwrap();
    log.fail_next(MemoryFailure::Refused); // of the resume
    orders.handle().resume().await.unwrap();
    log.fail_next(MemoryFailure::UnknownLost); // of the pause, which ends the term
    orders.handle().pause().await.unwrap();
    orders.handle().resume().await.unwrap();
    orders.leave().await.unwrap();

    shards_move().await;

    let asked = Flaky::new(Recorder::new()).fail(SinkError::transient("busy"));
    for _ in 0..4 {
        let orders = join(&log, Hangs { guarantee: Guarantee::Idempotent, asked: asked.clone() }).await;
        orders.handle().send(3).await.unwrap();
        until_idle().await;
        log.crash();
        advance(Duration::from_secs(1)).await;
        drop(orders);
    }
    let orders = join(&log, Hangs { guarantee: Guarantee::Idempotent, asked: asked.clone() }).await;
    until_idle().await;
    log.crash();
    drop(orders);
    until_idle().await;
    let orders = join(&log, Hangs { guarantee: Guarantee::Unknown, asked }).await;
    orders.handle().pause().await.unwrap();
    orders.handle().send(4).await.unwrap();
    orders.leave().within(Duration::from_secs(1)).await.unwrap();
    let texts = sink_fn(|batch: &mut Batch<String>| Box::pin(async move { Ok(batch.accept_all()) }));
    let sink = std::sync::Arc::new(texts);
    Durable::new("durable", log).sink(move |_| std::sync::Arc::clone(&sink)).join().await.unwrap_err();

    let log = MemoryLog::new();
    let orders = join(&log, Recorder::new()).await;
    log.crash();
    orders.handle().pause().await.unwrap_err();
    drop(orders);
}

/// A sink that is idempotent, and gives no answer at first.
#[derive(Clone)]
struct Unanswered(Flaky<Recorder<u32>, u32>);

impl Sink<u32> for Unanswered {
    async fn write(&self, batch: &mut Batch<u32>) -> Result<Settled, SinkError> {
        self.0.write(batch).await
    }

    fn guarantee(&self) -> Guarantee {
        Guarantee::Idempotent
    }
}

/// An op that waits in doubt, one that is sent twice under its id, and one that is found after a crash.
pub(crate) async fn doubts(emitted: &Emitted) {
    let log = MemoryLog::new();
    let sink = Unanswered(Flaky::new(Recorder::new()).fail(SinkError::ambiguous("no answer")));
    let orders = join(&log, sink.clone()).await;
    let desk = orders.handle();
    let id = desk.next_id(&1);
    desk.send_as(id, 1).await.unwrap();
    until_idle().await;
    advance(Duration::from_millis(1)).await;
    desk.send_as(id, 1).await.unwrap();
    emitted.collect();
    desk.flush().await.unwrap();
    desk.pause().await.unwrap();
    desk.send(2).await.unwrap();
    log.crash();
    drop((orders, desk));
    until_idle().await;
    join(&log, sink).await.leave().await.unwrap();
}

/// A wall clock that jumps.
pub(crate) async fn clocks() {
    let log = MemoryLog::new();
    let sink = Recorder::new();
    let stages = || Stages::new().expire_at(|_: &u32| None);
    let prices = Durable::new("durable", log.clone()).stages(stages).sink(move |_| sink.clone()).join().await.unwrap();
    log.set_wall(log.now() + Duration::from_secs(3600));
    prices.handle().send(1).await.unwrap();
    until_idle().await;
    advance(Duration::from_secs(11)).await;
    prices.handle().flush().await.unwrap();
    prices.leave().await.unwrap();
}

/// A file that is damaged, restored, and moved.
pub(crate) async fn files() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("durable.db");
    let join = async || {
        let recorder = Recorder::<u32>::new();
        Durable::new("durable", File::at(&path).restored()).sink(move |_| recorder.clone()).join().await.unwrap()
    };
    join().await.leave().await.unwrap();
    let backup = fs::read(&path).unwrap();
    let orders = join().await;
    orders.handle().submit(1).await.unwrap().await.unwrap();
    orders.leave().await.unwrap();
    fs::write(&path, backup).unwrap();
    join().await.leave().await.unwrap();
    fs::write(folder.path().join("durable.db-mark"), "damaged").unwrap();
    let orders = join().await;
    fs::rename(&path, folder.path().join("moved.db")).unwrap();
    orders.handle().send(1).await.unwrap_err();
    drop(orders);
}
