//! The views of a log in a file tell what its handle tells.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    time::Duration,
};

use proptest::prelude::*;
use roundlot::{
    AckError, Batch, Limits, OpId, Settled, Sink, SinkError, Stages,
    durable::{Durable, File, Handle, Joined, OpStatus},
    testing::{Gate, Recorder},
};
use rusqlite::Connection;

use crate::venue::Keyed;

/// A key and an amount. Amounts of one key are added up.
type Op = (u32, u32);

/// A destination that refuses every fifth amount. The receipt is the amount.
#[derive(Clone)]
struct Picky(Recorder<Op>);

impl Sink<Op, u32> for Picky {
    async fn write(&self, batch: &mut Batch<Op, u32>) -> Result<Settled, SinkError> {
        let mut arrived = Batch::for_test(batch.pending().copied().collect());
        let _ = self.0.write(&mut arrived).await?;
        Ok(batch.settle_each(|op| if op.1 % 5 == 0 { Err(SinkError::refused("no fifths")) } else { Ok(op.1) }))
    }
}

#[derive(Debug, Clone)]
enum Step {
    /// Sends ops at once.
    Submit(Vec<Op>),
    /// Sends one of the earlier ops again, with its id.
    Repeat(prop::sample::Index),
    Withdraw(u32),
    /// Lets everything that waits be written.
    Flush,
    /// Leaves during a write, and joins again.
    GiveUp,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => prop::collection::vec((0..5_u32, 1..100_000_u32), 1..8).prop_map(Step::Submit),
        1 => any::<prop::sample::Index>().prop_map(Step::Repeat),
        1 => (0..5_u32).prop_map(Step::Withdraw),
        2 => Just(Step::Flush),
        2 => Just(Step::GiveUp),
    ]
}

async fn join(path: &Path, sink: &Keyed<Gate<Picky>>) -> Joined<Op, u32> {
    let stages = || {
        let merge = |old: Op, new: Op| Some((old.0, old.1 + new.1));
        Stages::new().partition_by(|op: &Op| op.0).conflate_by(|op: &Op| op.0, merge)
    };
    let (sink, limits) = (sink.clone(), Limits::new(3).max_in_flight(2));
    let durable =
        Durable::new("orders", File::at(path)).stages(stages).limits(limits).shards(2, |key: &u32| key.to_le_bytes());
    durable.sink(move |_| sink.clone()).join().await.unwrap()
}

fn rows<V>(path: &Path, sql: &str, row: impl FnMut(&rusqlite::Row<'_>) -> rusqlite::Result<V>) -> Vec<V> {
    let reader = Connection::open(path).unwrap();
    reader.prepare(sql).unwrap().query_map([], row).unwrap().map(Result::unwrap).collect()
}

fn number(path: &Path, sql: &str) -> u64 {
    rows(path, sql, |row| row.get::<_, i64>(0))[0].try_into().unwrap()
}

fn read(op: &str) -> Op {
    serde_json::from_str(op).unwrap()
}

/// Compares each view with the handle, while nothing is under way. Returns the ids of ops that wait.
async fn compare(path: &Path, joined: &Joined<Op, u32>, sent: &BTreeMap<OpId, Op>) -> BTreeSet<String> {
    let (desk, mut waiting, mut ended) = (joined.handle(), BTreeMap::new(), BTreeMap::new());
    for (id, op) in sent {
        match desk.outcome(*id).await.unwrap() {
            OpStatus::Waiting => drop(waiting.insert(id.to_string(), *op)),
            OpStatus::Ended(outcome) => {
                let result = outcome.result.map_err(|error| error.to_string());
                ended.insert(id.to_string(), (outcome.end.to_string(), outcome.attempts, result));
            }
            status => panic!("{id}: {status:?}"),
        }
    }
    let sql = "SELECT id, op FROM roundlot_waiting";
    let found = rows(path, sql, |row| Ok((row.get(0)?, read(&row.get::<_, String>(1)?))));
    // An op that repeats the id of another one that waits is a row, too.
    assert_eq!(found.into_iter().collect::<BTreeMap<String, _>>(), waiting);
    assert_eq!(
        number(path, "SELECT sum(waiting) FROM roundlot_summary"),
        number(path, &format!("SELECT count(*) FROM ({sql})"))
    );

    let found = rows(path, "SELECT id, ended, attempts, result FROM roundlot_ended", |row| {
        let (end, result): (String, String) = (row.get(1)?, row.get(3)?);
        let result: Result<u32, _> = match end.as_str() {
            "delivered" => Ok(result.parse().unwrap()),
            _ => result.parse().map_err(|_| serde_json::from_str::<AckError>(&result).unwrap().to_string()),
        };
        Ok((row.get(0)?, (end, row.get(2)?, result)))
    });
    let count = found.len() as u64;
    assert_eq!(found.into_iter().collect::<BTreeMap<String, _>>(), ended);
    assert_eq!((number(path, "SELECT sum(ended) FROM roundlot_summary"), ended.len() as u64), (count, count));

    let listed = joined.dead_letters().list(10_000).await.unwrap();
    let listed: BTreeMap<_, _> = listed.into_iter().map(|(id, letter)| (id.to_string(), letter.op)).collect();
    let sql = "SELECT id, op FROM roundlot_dead_letters";
    let found = rows(path, sql, |row| Ok((row.get(0)?, read(&row.get::<_, String>(1)?))));
    assert_eq!(found.into_iter().collect::<BTreeMap<String, _>>(), listed);
    assert_eq!(number(path, "SELECT sum(dead_letters) FROM roundlot_summary"), listed.len() as u64);
    assert_eq!(desk.stats().in_doubt, in_doubt(path).len() as u64);
    waiting.into_keys().collect()
}

/// Ops in doubt, as the view tells them. Their ids are those of the ops that wait and are marked.
fn in_doubt(path: &Path) -> Vec<Op> {
    let sql = "SELECT ids, positions, op FROM roundlot_in_doubt";
    let found =
        rows(path, sql, |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?, row.get::<_, String>(2)?)));
    let sql = "SELECT id, position FROM roundlot_waiting WHERE in_doubt";
    let mut marked = rows(path, sql, |row| Ok((row.get::<_, String>(0)?, row.get::<_, i64>(1)?.to_string())));
    let pairs = |(ids, positions, _): &(String, String, _)| -> Vec<_> {
        let position = |position: &str| position.parse::<i64>().unwrap();
        assert!(positions.split(' ').map(position).is_sorted());
        ids.split(' ').map(String::from).zip(positions.split(' ').map(String::from)).collect()
    };
    let mut named: Vec<_> = found.iter().flat_map(pairs).collect();
    marked.sort();
    named.sort();
    assert_eq!(named, marked);
    found.iter().map(|(.., op)| read(op)).collect()
}

/// Writes everything that waits. Ops that were in doubt are sent as the view has told them.
async fn write_all(path: &Path, desk: &Handle<Op, u32>, sink: &Keyed<Gate<Picky>>, recorder: &Recorder<Op>) {
    recorder.take();
    let in_doubt = in_doubt(path);
    sink.0.open();
    desk.resume().await.unwrap();
    desk.flush().await.unwrap();
    desk.pause().await.unwrap();
    let mut arrived = recorder.ops();
    for op in in_doubt {
        let at = arrived.iter().position(|found| *found == op);
        arrived.swap_remove(at.unwrap_or_else(|| panic!("{op:?} is in doubt and was not sent: {arrived:?}")));
    }
}

async fn run(steps: &[Step]) {
    let folder = tempfile::tempdir().unwrap();
    let (path, recorder) = (folder.path().join("orders.db"), Recorder::new());
    let sink = Keyed(Gate::new(Picky(recorder.clone())));
    let (mut joined, mut sent) = (join(&path, &sink).await, BTreeMap::new());
    let mut desk = joined.handle();
    desk.pause().await.unwrap();
    for step in steps {
        match step {
            Step::Submit(ops) => {
                for (op, ack) in ops.iter().zip(futures::future::join_all(ops.iter().map(|op| desk.submit(*op))).await)
                {
                    sent.insert(ack.unwrap().id(), *op);
                }
            }
            Step::Repeat(which) if !sent.is_empty() => {
                let (id, op) = sent.iter().nth(which.index(sent.len())).unwrap();
                let is_waiting = matches!(desk.outcome(*id).await.unwrap(), OpStatus::Waiting);
                let ack = desk.submit_as(*id, *op).await.unwrap();
                if !is_waiting {
                    ack.outcome().await;
                }
            }
            Step::Repeat(_) => {}
            Step::Withdraw(key) => {
                let key = *key;
                desk.withdraw(move |op| op.0 == key).await.unwrap();
            }
            Step::Flush => write_all(&path, &desk, &sink, &recorder).await,
            Step::GiveUp => {
                sink.0.shut();
                if !compare(&path, &joined, &sent).await.is_empty() {
                    desk.resume().await.unwrap();
                    sink.0.reached(1).await;
                    desk.pause().await.unwrap();
                }
                joined.leave().within(Duration::ZERO).await.unwrap();
                let doubtful = in_doubt(&path);
                let waiting = number(&path, "SELECT count(*) FROM roundlot_waiting");
                joined = join(&path, &sink).await;
                desk = joined.handle();
                let stats = desk.stats();
                assert_eq!((stats.recovered, stats.recovered_in_doubt), (waiting, doubtful.len() as u64));
            }
        }
        // A repeat is settled by the record after the one that ends what it repeats, and a pause is in a record.
        desk.pause().await.unwrap();
        desk.pause().await.unwrap();
        compare(&path, &joined, &sent).await;
    }
    write_all(&path, &desk, &sink, &recorder).await;
    assert!(compare(&path, &joined, &sent).await.is_empty());
    joined.leave().await.unwrap();
}

/// Random cases of one run, 10 s in all; more for a campaign, by the variable that proptest reads.
fn cases() -> u32 {
    if std::env::var_os("PROPTEST_CASES").is_some() { ProptestConfig::default().cases } else { 24 }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), max_shrink_iters: 200, failure_persistence: None, ..ProptestConfig::default() })]

    /// Goal: the views tell what the handle tells: ids and ops that wait, that are in doubt as they are sent next, outcomes, dead
    /// letters. Method: random programs of sends, repeats, withdrawals, writes and writes that are given up, with merges and
    /// refusals.
    #[test]
    fn views_tell_what_the_handle_tells(steps in prop::collection::vec(step(), 1..14)) {
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap().block_on(run(&steps));
    }
}

/// Goal: the views hold at many ops, which frames share in full. Method: 10,000 ops that wait, and later have ended.
#[tokio::test]
async fn views_tell_of_ten_thousand_ops() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("orders.db");
    let durable = Durable::new("orders", File::at(&path)).sink(|_| Recorder::with_receipts(|op: &u32| op * 2));
    let orders: Joined<u32, u32> = durable.join().await.unwrap();
    let desk = orders.handle();
    desk.pause().await.unwrap();
    desk.send_all(0..10_000).await.unwrap();
    let ops = |sql: &str| {
        rows(&path, sql, |row| row.get::<_, String>(0)).iter().map(|op| op.parse().unwrap()).collect::<Vec<u32>>()
    };
    assert_eq!(ops("SELECT op FROM roundlot_waiting"), (0..10_000).collect::<Vec<_>>());
    desk.resume().await.unwrap();
    desk.flush().await.unwrap();
    let mut receipts = ops("SELECT result FROM roundlot_ended");
    receipts.sort_unstable();
    assert_eq!(receipts, (0..20_000).step_by(2).collect::<Vec<_>>());
    orders.leave().await.unwrap();
}
