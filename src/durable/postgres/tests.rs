//! The parts of a log in a database, against a real server, which `tests/run.sh` starts.

use std::sync::atomic::{AtomicU32, Ordering};

use tokio_postgres::{Client, NoTls};

use super::{super::append::AppendRequest, *};
use crate::durable::{
    frame::{Entry, Frame, Packer},
    log::{local::nanos, rules::GHOST_AFTER, search},
};

/// A schema of the test's own, and a session of its own.
struct Place {
    settings: Settings,
    url: String,
    client: Client,
}

async fn connect(url: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

impl Place {
    async fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let url =
            std::env::var("ROUNDLOT_POSTGRES_URL").expect("tests/run.sh names the server in ROUNDLOT_POSTGRES_URL");
        let schema = format!("v{}_{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let client = connect(&url).await;
        client.batch_execute(&format!("CREATE SCHEMA {schema}; SET search_path TO {schema}")).await.unwrap();
        let url = format!("{url}?options=-csearch_path%3D{schema}&application_name={schema}");
        let lease = Duration::from_secs(60);
        let settings = Settings { server: Postgres::url(&url), lease, room: 100_000, letter_room: 1000 };
        Self { settings, url, client }
    }

    async fn join(&self) -> PostgresLog {
        PostgresLog::join(&self.settings, "orders", 2).await.unwrap()
    }

    async fn number(&self, sql: &str) -> i64 {
        self.client.query_one(sql, &[]).await.unwrap().get(0)
    }

    /// Waits until so many sessions of the logs wait for a lock.
    async fn until_locked(&self, count: i64) {
        let waits = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND application_name = current_schema()";
        while self.number(waits).await != count {
            tokio::task::yield_now().await;
        }
    }
}

/// The part of a log that appends, without a task.
fn appending(log: &PostgresLog) -> Appending {
    let tables = Arc::new(log.frames.tables().clone());
    Appending { tables, ledger: Arc::clone(&log.ledger), producer: log.members.me, room: 100_000 }
}

/// A frame of a log's process, of ops with some bytes each, made `age` ago.
fn frame(log: &PostgresLog, number: u64, ops: u64, age: Duration) -> Frame {
    let mut packer = Packer::new(log.producer());
    for i in 0..ops {
        let number = number * 1000 + i;
        let entry = Entry { producer: log.producer(), number, handle: 0, may_repeat: false, withdraws: false };
        packer.push(entry, number.to_string().as_bytes());
    }
    packer.seal(number, nanos(log.now() - age), 0)
}

fn young(log: &PostgresLog, number: u64, ops: u64) -> Frame {
    frame(log, number, ops, Duration::ZERO)
}

/// Stores frames by a session. Returns the first position of each.
async fn store(log: &PostgresLog, client: &Client, frames: Vec<(u16, Frame)>) -> Stored<Vec<Stored<u64>>> {
    let asked: Vec<_> = frames.into_iter().map(|(shard, frame)| AppendRequest { shard, frame }).collect();
    let stored = appending(log).store(client, &asked, nanos(log.now())).await;
    if stored.is_err() {
        let _ = client.batch_execute("ROLLBACK").await;
    }
    Ok(stored?.into_iter().map(|frame| frame.map(|frame| frame.first)).collect())
}

async fn positions(log: &PostgresLog, shard: u16, from: u64) -> Vec<u64> {
    log.read(shard, from).await.unwrap().iter().map(|frame| frame.first).collect()
}

/// Goal: a frame is stored once, and one that is refused keeps no other one back. Method: repeats, older and old frames, and one that
/// finds no room, in transactions with others.
#[tokio::test]
#[ignore = "needs a PostgreSQL server: tests/run.sh starts one"]
async fn a_frame_is_stored_once() {
    let place = Place::new().await;
    let (log, client) = (place.join().await, connect(&place.url).await);
    let first = young(&log, 1, 3);
    assert_eq!(store(&log, &client, vec![(0, first.clone())]).await.unwrap(), [Ok(0)]);
    let both = vec![(1, young(&log, 1, 2)), (0, first.clone())];
    assert_eq!(store(&log, &client, both).await.unwrap(), [Ok(0), Ok(0)]);
    assert_eq!(store(&log, &client, vec![(0, young(&log, 3, 2))]).await.unwrap(), [Ok(3)]);
    let refused = vec![
        (0, young(&log, 2, 1)),
        (1, frame(&log, 2, 1, GHOST_AFTER + Duration::from_secs(60))),
        (1, young(&log, 3, 1)),
    ];
    let answers = store(&log, &client, refused).await.unwrap();
    assert_eq!(answers, [Err(LogError::Ghost), Err(LogError::Ghost), Ok(2)]);
    let mut large = Packer::new(log.producer());
    let entry = Entry { producer: log.producer(), number: 9, handle: 0, may_repeat: false, withdraws: false };
    large.push(entry, &vec![0; 99_900]);
    let large = large.seal(4, nanos(log.now()), 0);
    let answers = store(&log, &client, vec![(0, large), (1, young(&log, 4, 1))]).await.unwrap();
    assert_eq!(answers, [Err(LogError::Full), Ok(3)]);
    let too_many = young(&log, 5, super::super::frames::SPAN + 1);
    assert_eq!(store(&log, &client, vec![(0, too_many)]).await.unwrap(), [Err(LogError::Ghost)]);
    assert_eq!((positions(&log, 0, 0).await, positions(&log, 1, 0).await), (vec![0, 3], vec![0, 2, 3]));
    // Frames that hold a position or later ones.
    assert_eq!((positions(&log, 0, 2).await, positions(&log, 0, 3).await), (vec![0, 3], vec![3]));
    assert!(positions(&log, 0, 5).await.is_empty());
    let bytes = "SELECT sum(octet_length(bytes) + 100)::bigint FROM roundlot_frames";
    assert_eq!(place.number("SELECT sum(bytes)::bigint FROM roundlot_tails").await, place.number(bytes).await);
    log.close().await;
}

/// Goal: a frame whose first transaction has an open fate is stored once, in its order. Method: that transaction waits for a lock behind
/// its insert; it commits, or its session is ended, when the frame has come again and one of another process behind it.
#[tokio::test]
#[ignore = "needs a PostgreSQL server: tests/run.sh starts one"]
async fn a_zombie_is_stored_once() {
    for is_ended in [false, true] {
        let place = Place::new().await;
        let logs = Arc::new([place.join().await, place.join().await]);
        let blocker = connect(&place.url).await;
        blocker.batch_execute("BEGIN; LOCK TABLE roundlot_frames IN SHARE MODE").await.unwrap();
        let frame = young(&logs[0], 1, 2);
        let send = async |of: usize, frame: Frame| {
            let (logs, client) = (Arc::clone(&logs), connect(&place.url).await);
            let pid: i32 = client.query_one("SELECT pg_backend_pid()", &[]).await.unwrap().get(0);
            (pid, tokio::spawn(async move { store(&logs[of], &client, vec![(0, frame)]).await }))
        };
        let (pid, zombie) = send(0, frame.clone()).await;
        place.until_locked(1).await;
        let (_, again) = send(0, frame).await;
        place.until_locked(2).await;
        let (_, other) = send(1, young(&logs[1], 1, 5)).await;
        place.until_locked(3).await;
        if is_ended {
            place.client.execute("SELECT pg_terminate_backend($1)", &[&pid]).await.unwrap();
        }
        blocker.batch_execute("ROLLBACK").await.unwrap();
        assert_eq!(zombie.await.unwrap().is_err(), is_ended);
        assert_eq!(again.await.unwrap().unwrap(), [Ok(0)]);
        assert_eq!(other.await.unwrap().unwrap(), [Ok(2)]);
        assert_eq!(positions(&logs[0], 0, 0).await, [0, 2]);
        assert_eq!(place.number("SELECT next FROM roundlot_tails WHERE shard = 0").await, 7);
        for log in &*logs {
            log.close().await;
        }
    }
}

/// Goal: an op whose id another process has sent is flagged, whenever it comes, so that it takes effect once. Method: a frame of one
/// process with an id of the other one, and then a frame of that.
#[tokio::test]
#[ignore = "needs a PostgreSQL server: tests/run.sh starts one"]
async fn an_id_that_another_process_has_sent_is_flagged() {
    let place = Place::new().await;
    let (log, other) = (place.join().await, place.join().await);
    let client = connect(&place.url).await;
    let mut packer = Packer::new(other.producer());
    let entry = Entry { producer: log.producer(), number: 1001, handle: 0, may_repeat: true, withdraws: false };
    packer.push(entry, b"1001");
    store(&other, &client, vec![(0, packer.seal(1, nanos(log.now()), 0))]).await.unwrap();
    store(&log, &client, vec![(0, young(&log, 1, 4)), (1, young(&log, 1, 4))]).await.unwrap();
    let flags = async |shard, from| {
        let frame = log.read(shard, from).await.unwrap().remove(0);
        let entries = Frame::open(frame.bytes).unwrap().entries().unwrap();
        entries.into_iter().map(|(_, entry, _)| entry.may_repeat).collect::<Vec<_>>()
    };
    assert_eq!(flags(0, 1).await, [true, true, false, false]);
    assert_eq!(flags(1, 0).await, [false; 4], "the other shard");
    log.close().await;
    other.close().await;
}

/// Goal: a process that was removed stores no frame any more, and who removes it waits for those under way. Method: a frame that waits
/// for a lock when the row of its process is deleted.
#[tokio::test]
#[ignore = "needs a PostgreSQL server: tests/run.sh starts one"]
async fn a_removed_process_stores_no_frame() {
    let place = Place::new().await;
    let (log, client) = (Arc::new(place.join().await), connect(&place.url).await);
    let blocker = connect(&place.url).await;
    blocker.batch_execute("BEGIN; LOCK TABLE roundlot_frames IN SHARE MODE").await.unwrap();
    let (of_task, frame) = (Arc::clone(&log), young(&log, 1, 2));
    let under_way = tokio::spawn(async move { store(&of_task, &client, vec![(0, frame)]).await });
    place.until_locked(1).await;
    let remover = connect(&place.url).await;
    let removing = tokio::spawn(async move { remover.execute("DELETE FROM roundlot_members", &[]).await.unwrap() });
    place.until_locked(2).await;
    blocker.batch_execute("ROLLBACK").await.unwrap();
    assert_eq!(under_way.await.unwrap().unwrap(), [Ok(0)]);
    assert_eq!(removing.await.unwrap(), 1);
    let client = connect(&place.url).await;
    assert_eq!(store(&log, &client, vec![(0, young(&log, 2, 1))]).await, Err(LogError::Closed));
    assert_eq!(place.number("SELECT count(*) FROM roundlot_frames").await, 1);
    log.close().await;
}

/// Goal: settled ops leave their frames, and their bytes are free; the others stay at their positions. Method: a frame of four ops, of
/// which two are settled, and then all.
#[tokio::test]
#[ignore = "needs a PostgreSQL server: tests/run.sh starts one"]
async fn frames_are_compacted_and_removed() {
    let place = Place::new().await;
    let (log, client) = (place.join().await, connect(&place.url).await);
    store(&log, &client, vec![(0, young(&log, 1, 4))]).await.unwrap();
    let before = place.number("SELECT bytes FROM roundlot_tails WHERE shard = 0").await;
    log.frames.compact(0, &[0, 7], &Settled::new(1, &[(2, 2)])).await.unwrap();
    let left = place.number("SELECT bytes FROM roundlot_tails WHERE shard = 0").await;
    assert_eq!(left, place.number("SELECT octet_length(bytes) + 100::bigint FROM roundlot_frames").await);
    assert!(left < before);
    let me = log.producer();
    let read = |from, limit| log.frames.reading(0, from, limit);
    let found = async |number| search::position(read, 0, (me, number)).await.unwrap();
    assert_eq!((found(1000).await, found(1001).await, found(1003).await), (None, Some(1), Some(3)));
    // By a position that its frame does not begin with.
    assert_eq!(positions(&log, 0, 3).await, [0]);
    assert!(log.holds(OpId::new(me, 0, 1003)).await.unwrap());
    log.frames.remove_settled(0, 4, &[]);
    while place.number("SELECT bytes FROM roundlot_tails WHERE shard = 0").await > 0 {
        tokio::task::yield_now().await;
    }
    assert!(positions(&log, 0, 0).await.is_empty());
    assert!(!log.holds(OpId::new(me, 0, 1003)).await.unwrap());
    log.close().await;
}

/// Goal: a row that was changed by hand is noticed. Method: one of each table with a checksum.
#[tokio::test]
#[ignore = "needs a PostgreSQL server: tests/run.sh starts one"]
async fn a_damaged_row_is_noticed() {
    let place = Place::new().await;
    let (log, client) = (place.join().await, connect(&place.url).await);
    store(&log, &client, vec![(0, young(&log, 1, 4))]).await.unwrap();
    let is_damaged = |result: Stored<()>, table: &str| {
        assert!(matches!(&result, Err(LogError::Damaged(why)) if why.contains(table)), "{table}: {result:?}");
    };
    for (table, change, back) in [
        ("frames", "first = first + 1", "first = first - 1"),
        ("tails", "next = next + 1", "next = next - 1"),
        ("producers", "floor = floor + 1", "floor = floor - 1"),
    ] {
        client.batch_execute(&format!("UPDATE roundlot_{table} SET {change}")).await.unwrap();
        let next = young(&log, 2, 1);
        match table {
            "frames" => is_damaged(log.read(0, 0).await.map(drop), table),
            "tails" => {
                is_damaged(log.reach(0).await.map(drop), table);
                is_damaged(store(&log, &client, vec![(0, next)]).await.map(drop), table);
            }
            _ => {
                is_damaged(log.find(OpId::new(log.producer(), 0, 1)).await.map(drop), table);
                is_damaged(store(&log, &client, vec![(0, next)]).await.map(drop), table);
            }
        }
        client.batch_execute(&format!("UPDATE roundlot_{table} SET {back}")).await.unwrap();
    }
    assert_eq!(positions(&log, 0, 0).await, [0]);
    log.close().await;
}

#[path = "term_tests.rs"]
mod terms;
