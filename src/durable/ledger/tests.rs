//! The ledger of one log in the hands of two processes, against a real server, which `tests/run.sh` starts.

use std::sync::{PoisonError, atomic::AtomicU32};

use tokio::sync::oneshot;
use tokio_postgres::{Client, NoTls, Transaction};

use super::*;
use crate::{
    durable::log::{
        Record,
        store::{ChargeRow, Paired},
    },
    sink::postgres::Postgres,
};

/// Frames that hold whatever they are asked for.
#[derive(Default)]
struct AnyFrames(std::sync::Mutex<Vec<(u64, u64)>>);

impl FrameStore for AnyFrames {
    fn now(&self) -> u64 {
        1_700_000_000_000_000_000
    }

    fn ops(&self, _shard: u16, positions: Vec<u64>) -> Answer<'_, Vec<Vec<u8>>> {
        Box::pin(async move { Ok(positions.iter().map(|at| at.to_string().into_bytes()).collect()) })
    }

    fn forget(&self, _shard: u16, _cursor: u64, runs: Vec<(u64, u64)>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend(runs);
    }
}

/// A schema of the test's own, and a connection of its own.
async fn place() -> (Postgres, Client) {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let url = std::env::var("ROUNDLOT_POSTGRES_URL").expect("tests/run.sh names the server in ROUNDLOT_POSTGRES_URL");
    let schema = format!("u{}_{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
    let (client, connection) = tokio_postgres::connect(&url, NoTls).await.unwrap();
    tokio::spawn(connection);
    client.batch_execute(&format!("CREATE SCHEMA {schema}; SET search_path TO {schema}")).await.unwrap();
    client.batch_execute("CREATE TABLE landed (op bigint)").await.unwrap();
    (Postgres::url(format!("{url}?options=-csearch_path%3D{schema}")), client)
}

async fn join(settings: &Postgres) -> (Ledger, Arc<AnyFrames>) {
    let frames = Arc::new(AnyFrames::default());
    let paired = Paired {
        #[cfg(feature = "durable-file")]
        log: 0,
        pairing: 7,
        next_producer: 1,
        has_begun: false,
    };
    let letters = LetterBytes::of_one_process(100);
    let of_ledger = Arc::<AnyFrames>::clone(&frames);
    let (ledger, _) = Ledger::join(settings, "orders", 2, paired, of_ledger, letters).await.unwrap();
    (ledger, frames)
}

fn settling(epoch: u64, settled: &[(u64, u64)]) -> Record {
    Record { shard: 1, epoch, settled: settled.to_vec(), ..Record::default() }
}

fn fence(epoch: u64) -> Fence {
    Fence { shard: 1, epoch, timeout: Some(std::time::Duration::from_secs(60)) }
}

/// Inserts an op, and settles its position.
async fn land(ledger: &Ledger, epoch: u64, op: u64) -> Result<(), Undone<LogError>> {
    let work = async |transaction: &mut Transaction<'_>| {
        transaction.execute("INSERT INTO landed VALUES ($1)", &[&(op as i64)]).await.map_err(session::failed)?;
        Ok::<_, LogError>(settling(epoch, &[(op, op)]))
    };
    ledger.transact(fence(epoch), |_| {}, work).await
}

async fn landed(client: &Client) -> Vec<i64> {
    client.query("SELECT op FROM landed ORDER BY op", &[]).await.unwrap().iter().map(|row| row.get(0)).collect()
}

/// Goal: nothing of an older term is stored. Method: two processes, whose terms alternate.
#[tokio::test]
#[ignore = "needs a PostgreSQL server: tests/run.sh starts one"]
async fn an_older_term_is_fenced_off() {
    let (settings, client) = place().await;
    let ((first, frames), (second, _)) = (join(&settings).await, join(&settings).await);
    let one = first.begin(1, 100).await.unwrap();
    land(&first, one.epoch, 0).await.unwrap();
    first.record(&settling(one.epoch, &[(2, 3)])).await.unwrap();
    let two = second.begin(1, 100).await.unwrap();
    assert_eq!((two.epoch, two.cursor, &*two.settled), (one.epoch + 1, 1, &[(2, 3)][..]));
    let fenced = land(&first, one.epoch, 1).await;
    assert!(matches!(fenced, Err(Undone::Log(LogError::Fenced))), "{fenced:?}");
    assert_eq!(first.record(&settling(one.epoch, &[(1, 1)])).await, Err(LogError::Fenced));
    land(&second, two.epoch, 1).await.unwrap();
    let three = first.begin(1, 100).await.unwrap();
    assert_eq!((three.epoch, three.cursor, three.settled.len(), three.idle_terms), (two.epoch + 1, 4, 0, 1));
    let fenced = land(&second, two.epoch, 4).await;
    assert!(matches!(fenced, Err(Undone::Log(LogError::Fenced))), "{fenced:?}");
    // A term that was replaced before it settled anything is no sign of an op that kills, once its process says that it lives.
    assert_eq!(second.begin(1, 100).await.unwrap().idle_terms, 2);
    first.record(&Record { shard: 1, epoch: three.epoch, survived: true, ..Record::default() }).await.unwrap();
    let five = first.begin(1, 100).await.unwrap();
    assert_eq!((five.epoch, five.idle_terms), (three.epoch + 2, 2));
    land(&first, five.epoch, 4).await.unwrap();
    assert_eq!(landed(&client).await, [0, 1, 4]);
    assert_eq!(*frames.0.lock().unwrap(), [(0, 0), (2, 3), (0, 4)]);
}

/// Goal: a term begins behind a transaction that is under way, whatever becomes of it. Method: one that commits late, and one that
/// is dropped.
#[tokio::test]
#[ignore = "needs a PostgreSQL server: tests/run.sh starts one"]
async fn a_term_waits_for_what_is_under_way() {
    for is_dropped in [false, true] {
        let (settings, client) = place().await;
        let ((first, _), (second, _)) = (join(&settings).await, join(&settings).await);
        let epoch = first.begin(1, 100).await.unwrap().epoch;
        let ((entered, is_in), (release, released)) = (oneshot::channel(), oneshot::channel());
        let late = tokio::spawn(async move {
            let work = async |transaction: &mut Transaction<'_>| {
                transaction.execute("INSERT INTO landed VALUES (0)", &[]).await.map_err(session::failed)?;
                entered.send(()).unwrap();
                released.await.map_err(|_| LogError::Closed)?;
                Ok::<_, LogError>(settling(epoch, &[(0, 0)]))
            };
            first.transact(fence(epoch), |_| {}, work).await
        });
        is_in.await.unwrap();
        let next = tokio::spawn(async move { second.begin(1, 100).await });
        let waits = "SELECT 1 FROM pg_locks l JOIN pg_stat_activity a USING (pid) WHERE NOT granted AND query LIKE \
            '%'|| current_schema() || '%roundlot_shards%FOR NO KEY UPDATE'";
        while client.query(waits, &[]).await.unwrap().is_empty() {
            tokio::task::yield_now().await;
        }
        assert!(!next.is_finished());
        if is_dropped {
            late.abort();
            assert!(late.await.unwrap_err().is_cancelled());
        } else {
            release.send(()).unwrap();
            late.await.unwrap().unwrap();
        }
        let state = next.await.unwrap().unwrap();
        assert_eq!((state.epoch, state.cursor), (epoch + 1, u64::from(!is_dropped)));
        assert_eq!(landed(&client).await.len(), usize::from(!is_dropped));
    }
}

/// Goal: a stored pause stops the work of sinks in any process, and no record. Method: paused by one, written by the other.
#[tokio::test]
#[ignore = "needs a PostgreSQL server: tests/run.sh starts one"]
async fn a_pause_stops_the_work_of_sinks() {
    let (settings, client) = place().await;
    let (ledger, _) = join(&settings).await;
    let epoch = ledger.begin(1, 100).await.unwrap().epoch;
    let paused = |paused| Record { paused: Some(paused), ..settling(epoch, &[]) };
    ledger.record(&paused(true)).await.unwrap();
    assert!(matches!(land(&ledger, epoch, 0).await, Err(Undone::Log(LogError::Paused))));
    ledger.record(&settling(epoch, &[(1, 1)])).await.unwrap();
    ledger.record(&paused(false)).await.unwrap();
    land(&ledger, epoch, 0).await.unwrap();
    assert_eq!(landed(&client).await, [0]);
    let (other, _) = join(&settings).await;
    let state = other.begin(1, 100).await.unwrap();
    assert_eq!((state.cursor, state.settled, state.paused), (2, vec![], false));
    assert_eq!(other.begin(0, 100).await.unwrap().epoch, 1, "the other shard has its own");
}

/// Goal: draws from the quota survive, added up by their grain of time, until they expire. Method: three draws in two records, of
/// which two share a grain.
#[tokio::test]
#[ignore = "needs a PostgreSQL server: tests/run.sh starts one"]
async fn draws_from_the_quota_survive() {
    let (settings, _client) = place().await;
    let (ledger, _) = join(&settings).await;
    let epoch = ledger.begin(1, 100).await.unwrap().epoch;
    let draw = |grain, at, cost| ChargeRow { bucket: "orders".into(), key: 5, grain, at, cost, expires: at + 100 };
    let record = |charges: Vec<ChargeRow>| Record { charges, ..settling(epoch, &[]) };
    ledger.record(&record(vec![draw(1, 10, 3), draw(1, 11, 4)])).await.unwrap();
    ledger.record(&record(vec![draw(1, 12, 5), draw(2, 20, 6)])).await.unwrap();
    let mut charges = ledger.begin(1, 100).await.unwrap().charges;
    charges.sort_by_key(|row| row.grain);
    assert_eq!(charges, [draw(1, 12, 12), draw(2, 20, 6)]);
    ledger.remove_charges(1, 113).await.unwrap();
    assert_eq!(ledger.begin(1, 100).await.unwrap().charges, [draw(2, 20, 6)]);
    assert!(ledger.begin(0, 100).await.unwrap().charges.is_empty());
}

/// Goal: a row that was changed by hand is noticed. Method: one of each table.
#[tokio::test]
#[ignore = "needs a PostgreSQL server: tests/run.sh starts one"]
async fn a_damaged_row_is_noticed() {
    let (settings, client) = place().await;
    let (ledger, _) = join(&settings).await;
    let epoch = ledger.begin(1, 100).await.unwrap().epoch;
    let charge = ChargeRow { bucket: "orders".into(), key: 5, grain: 1, at: 10, cost: 3, expires: 110 };
    let (charges, intents) = (vec![charge], vec![(0, b"batch".to_vec())]);
    let record = Record { intents, charges: charges.clone(), ..settling(epoch, &[(5, 6)]) };
    ledger.record(&record).await.unwrap();
    for (table, change, back) in [
        ("settled", "last = last + 1", "last = last - 1"),
        ("intents", "number = number + 1", "number = number - 1"),
        ("charges", "cost = cost + 1", "cost = cost - 1"),
        ("shards", "cursor = cursor + 1", "cursor = cursor - 1"),
    ] {
        client.batch_execute(&format!("UPDATE roundlot_{table} SET {change}")).await.unwrap();
        let damaged = ledger.begin(1, 100).await;
        assert!(matches!(&damaged, Err(LogError::Damaged(why)) if why.contains(table)), "{damaged:?}");
        client.batch_execute(&format!("UPDATE roundlot_{table} SET {back}")).await.unwrap();
    }
    let state = ledger.begin(1, 100).await.unwrap();
    assert_eq!((state.settled, state.intents, state.charges), (vec![(5, 6)], record.intents, charges));
}
