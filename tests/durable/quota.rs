//! Quotas over crashes: what was drawn counts in the next process, too.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::{Duration, SystemTime},
};

use roundlot::{
    Batch, Bucket, Limits, Quota, Settled, Sink, SinkError, Stages,
    durable::{Durable, File, Joined, Term},
    sink::Guarantee,
    testing::{MemoryLog, Recorder},
};

/// A destination that notes when ops arrive, by the clock of the log, which outlives its processes.
#[derive(Clone)]
struct Clocked {
    log: MemoryLog,
    arrivals: Arc<Mutex<Vec<(SystemTime, u32)>>>,
    term: Option<Term>,
}

impl Sink<u32> for Clocked {
    async fn write(&self, batch: &mut Batch<u32>) -> Result<Settled, SinkError> {
        let (now, ops) = (self.log.now(), batch.pending().copied().collect::<Vec<_>>());
        let settled = match &self.term {
            // A batch that is undone does not arrive.
            Some(term) => term.transaction(batch, |_, batch| Ok(batch.accept_all())).await?,
            None => batch.accept_all(),
        };
        self.arrivals.lock().unwrap().extend(ops.into_iter().map(|op| (now, op)));
        Ok(settled)
    }

    fn guarantee(&self) -> Guarantee {
        if self.term.is_some() { Guarantee::Transactional } else { Guarantee::Idempotent }
    }
}

const MINUTE: Duration = Duration::from_secs(60);

fn quota() -> Quota<u32> {
    Quota::new()
        .bucket("ops", Bucket::rolling(12, MINUTE).unpaced())
        .bucket("key", Bucket::rolling(5, MINUTE).unpaced().by(|op: &u32| op % 3))
        .bucket("slow", Bucket::decaying(20, 0.2).unpaced())
}

/// The most arrivals within any minute.
fn most(times: &[SystemTime]) -> usize {
    let within = |start: &SystemTime| times.iter().filter(|at| **at >= *start && **at < *start + MINUTE).count();
    times.iter().map(within).max().unwrap_or(0)
}

/// Goal: no window of the venue sees more than it allows, however often the process dies. Method: crashes every few seconds for ten
/// minutes, each life in a runtime of its own, with more ops than the quota allows; each arrival is a call that the venue counts.
#[test]
fn what_was_drawn_counts_over_crashes() {
    for is_transactional in [false, true] {
        let log = MemoryLog::new();
        let arrivals = Arc::<Mutex<Vec<_>>>::default();
        let (mut next, start) = (0_u32, log.now());
        for life in 0..80_u64 {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
            runtime.block_on(async {
                let sink = Clocked { log: log.clone(), arrivals: Arc::clone(&arrivals), term: None };
                let orders = Durable::new("orders", log.clone())
                    .stages(|| Stages::new().partition_by(|op: &u32| op % 3))
                    .limits(Limits::new(2))
                    .quota(quota)
                    .sink(move |term| Clocked { term: is_transactional.then_some(term), ..sink.clone() })
                    .join()
                    .await
                    .unwrap();
                orders.handle().send_all(next..next + 4).await.unwrap();
                tokio::time::sleep(Duration::from_millis(2000 + life * 137 % 10_000)).await;
                std::mem::forget(orders);
            });
            next += 4;
            drop(runtime);
            log.crash();
        }
        let arrivals = arrivals.lock().unwrap();
        let all: Vec<SystemTime> = arrivals.iter().map(|(at, _)| *at).collect();
        assert!(most(&all) <= 12, "{}", most(&all));
        let mut by_key = BTreeMap::<u32, Vec<SystemTime>>::new();
        arrivals.iter().for_each(|(at, op)| by_key.entry(op % 3).or_default().push(*at));
        by_key.iter().for_each(|(key, times)| assert!(most(times) <= 5, "key {key}: {}", most(times)));
        let minutes = log.now().duration_since(start).unwrap().as_secs_f64() / 60.0;
        let least = 8.0 * minutes;
        assert!(all.len() as f64 >= least, "{} ops in {minutes} minutes: the quota is used", all.len());
    }
}

/// Goal: processes that share a log send no more together than the venue allows, whichever of them leads and however they die. Method:
/// three processes and shards; one process crashes, leaves, or is cut off every few seconds, and each sends a tenth more than the quota
/// allows.
#[tokio::test(start_paused = true)]
async fn several_processes_draw_from_one_quota() {
    for is_transactional in [false, true] {
        let log = MemoryLog::new().sync_time(Duration::from_millis(2));
        let logs = [log.clone(), log.another_process(), log.another_process()];
        let sink = Clocked { log: log.clone(), arrivals: Arc::default(), term: None };
        let join = |log: &MemoryLog| {
            let sink = sink.clone();
            Durable::new("orders", log.clone())
                .stages(|| Stages::new().partition_by(|op: &u32| op % 30))
                .shards(3, |key: &u32| key.to_le_bytes())
                .limits(Limits::new(2))
                .quota(|| Quota::new().bucket("ops", Bucket::rolling(12, MINUTE).unpaced()))
                .sink(move |term| Clocked { term: is_transactional.then_some(term), ..sink.clone() })
                .join()
        };
        let mut nodes = Vec::new();
        for log in &logs {
            nodes.push(join(log).await.unwrap());
        }
        let (mut next, start) = (0, log.now());
        for step in 0..120_u64 {
            let i = (step * 7 % 3) as usize;
            match step % 4 {
                0 => {
                    logs[i].crash();
                    nodes[i] = join(&logs[i]).await.unwrap();
                }
                1 => {
                    let node = nodes.remove(i);
                    node.leave().await.unwrap();
                    nodes.insert(i, join(&logs[i]).await.unwrap());
                }
                2 => logs[i].isolate(),
                _ => logs.iter().for_each(MemoryLog::reconnect),
            }
            // 13.2 a minute, by a process that reaches the log.
            let desk = nodes[(i + 1) % 3].handle();
            desk.send(next).await.unwrap();
            next += 1;
            tokio::time::sleep(Duration::from_millis(2000 + step * 137 % 5000)).await;
        }
        let arrivals = sink.arrivals.lock().unwrap();
        let all: Vec<SystemTime> = arrivals.iter().map(|(at, _)| *at).collect();
        assert!(most(&all) <= 12, "{}", most(&all));
        let minutes = log.now().duration_since(start).unwrap().as_secs_f64() / 60.0;
        assert!(all.len() as f64 >= 5.0 * minutes, "{} ops in {minutes} minutes: the quota is used", all.len());
    }
}

/// Goal: a restart of a file begins with what was drawn, and expired rows go. Method: two lives at once, on the clock of the machine.
#[tokio::test]
async fn a_file_keeps_what_was_drawn() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("orders.db");
    let recorder = Recorder::new();
    let join = async || {
        let sink = recorder.clone();
        let durable = Durable::new("orders", File::at(&path)).limits(Limits::new(2));
        let hour = Duration::from_secs(3600);
        let durable = durable.quota(move || Quota::new().bucket("hour", Bucket::rolling(3, hour).unpaced()));
        durable.sink(move |_| sink.clone()).join().await.unwrap()
    };
    let orders: Joined<u32> = join().await;
    orders.handle().send_all(0..2).await.unwrap();
    orders.handle().flush().await.unwrap();
    orders.leave().await.unwrap();
    let orders = join().await;
    orders.handle().send_all(2..9).await.unwrap();
    while recorder.len() < 3 {
        tokio::task::yield_now().await;
    }
    orders.leave().await.unwrap();
    let orders = join().await;
    assert!(orders.handle().withdraw(|_| true).await.unwrap().len() == 6);
    orders.leave().await.unwrap();
    assert_eq!(recorder.ops(), [0, 1, 2]);
    let reader = rusqlite::Connection::open(&path).unwrap();
    let cost: i64 = reader.query_row("SELECT sum(cost) FROM roundlot_charges", [], |row| row.get(0)).unwrap();
    assert_eq!(cost, 3);
}

/// Goal: a quota that can't be obeyed is refused when it joins. Method: a share of too little, and a keyed bucket without partitions.
#[tokio::test(start_paused = true)]
async fn a_quota_is_checked_at_join() {
    let join = async |shards, quota: fn() -> Quota<u32>, stages: fn() -> Stages<u32>| {
        let recorder = Recorder::new();
        let durable = Durable::new("orders", MemoryLog::new()).stages(stages).quota(quota);
        durable.shards(shards, |key: &u32| key.to_le_bytes()).sink(move |_| recorder.clone()).join().await
    };
    let parted = || Stages::new().partition_by(|op: &u32| *op);
    assert!(join(2, || Quota::new().ops(3, MINUTE), parted).await.is_ok());
    let error = join(4, || Quota::new().ops(3, MINUTE), parted).await.err();
    assert!(error.is_some_and(|error| error.to_string().contains("ops")));
    let keyed = || Quota::new().bucket("key", Bucket::rolling(5, MINUTE).by(|op: &u32| *op));
    assert!(join(1, keyed, parted).await.is_ok());
    assert!(join(1, keyed, Stages::new).await.is_err());
}

/// Goal: statistics tell the use of each bucket over all shards. Method: two shards with three ops each, and limits that hold two of
/// them back.
#[tokio::test(start_paused = true)]
async fn the_use_of_the_quota_is_told() {
    let recorder = Recorder::new();
    let sink = recorder.clone();
    let quota = || {
        let key = Bucket::rolling(2, MINUTE).unpaced().by(|op: &u32| op % 2);
        Quota::new().bucket("ops", Bucket::rolling(10, MINUTE).unpaced()).bucket("key", key)
    };
    let orders = Durable::new("orders", MemoryLog::new())
        .stages(|| Stages::new().partition_by(|op: &u32| op % 2))
        .shards(2, |key: &u32| key.to_le_bytes())
        .quota(quota)
        .sink(move |_| sink.clone())
        .join()
        .await
        .unwrap();
    let desk = orders.handle();
    let used = || {
        let quota = desk.stats().quota;
        [&quota["ops"], &quota["key"]].map(|bucket| (bucket.used, bucket.limit))
    };
    assert_eq!(used(), [(0, 10), (0, 2)]);
    desk.send_all(0..6).await.unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!((recorder.len(), used()), (4, [(4, 10), (2, 2)]));
    desk.flush().await.unwrap();
    let quota = desk.stats().quota;
    assert!(quota["key"].waited >= 2 && quota["ops"].waited == 0, "{quota:?}");
    assert!(quota.time().max > Duration::from_secs(50), "{quota:?}");
    assert_eq!(orders.stats().quota, quota);
    let plain = Durable::new("plain", MemoryLog::new()).sink(move |_| recorder.clone()).join().await.unwrap();
    assert!(plain.stats().quota.is_empty());
}
