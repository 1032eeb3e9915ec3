//! Transactional sinks on a file: what their closures may do, and tables in the log's own file.

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures::FutureExt;
use roundlot::{
    AckError, Batch, End, Limits, Retry, Settled, Sink, SinkError,
    durable::{Durable, File, Joined, OpStatus, Term, Transaction},
    sink::{Guarantee, sqlite::LogTable, table::Table},
};
use rusqlite::Connection;

fn folder() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("orders.db");
    (folder, path)
}

fn numbers(path: &Path, sql: &str) -> Vec<i64> {
    let database = Connection::open(path).unwrap();
    let mut query = database.prepare(sql).unwrap();
    query.query_map([], |row| row.get(0)).unwrap().collect::<Result<_, _>>().unwrap()
}

fn prices() -> Table<(i64, i64)> {
    Table::new("prices").integer("id", |op: &(i64, i64)| op.0).integer("price", |op| op.1)
}

async fn join(path: &Path, table: Table<(i64, i64)>) -> Joined<(i64, i64)> {
    let table = LogTable::new(table).unwrap();
    Durable::new("prices", File::at(path))
        .limits(Limits::new(100))
        .retry(Retry::exponential(Duration::from_millis(1), Duration::from_millis(2)).max_attempts(3))
        .sink(move |term| table.sink(term))
        .join()
        .await
        .unwrap()
}

/// Sends the numbers as one batch, and returns how each ended.
async fn ends(prices: &Joined<(i64, i64)>, ops: &[(i64, i64)]) -> Vec<End> {
    let desk = prices.handle();
    desk.pause().await.unwrap();
    let mut acks = Vec::new();
    for op in ops {
        acks.push(desk.submit(*op).await.unwrap());
    }
    desk.resume().await.unwrap();
    let mut ends = Vec::new();
    for ack in acks {
        ends.push(ack.outcome().await.end);
    }
    ends
}

/// Goal: a row that can't be inserted costs no other its place, and each op that ended has its record with the row. Method: a
/// constraint, a deferred foreign key and a trigger that rolls everything back, each broken by one row among many.
#[tokio::test]
async fn a_row_that_is_refused_is_refused_alone() {
    let tables = [
        "CREATE TABLE prices (id INTEGER PRIMARY KEY, price INTEGER CHECK (price < 100))",
        "CREATE TABLE known (price INTEGER PRIMARY KEY); \
         CREATE TABLE prices (id INTEGER PRIMARY KEY, \
            price INTEGER REFERENCES known (price) DEFERRABLE INITIALLY DEFERRED); \
         WITH RECURSIVE n (i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 99) INSERT INTO known SELECT i FROM n",
        "CREATE TABLE prices (id INTEGER PRIMARY KEY, price INTEGER); \
         CREATE TRIGGER no_hundreds BEFORE INSERT ON prices WHEN NEW.price = 100 \
            BEGIN SELECT RAISE(ROLLBACK, 'no hundreds'); END",
    ];
    for sql in tables {
        let (_folder, path) = folder();
        Connection::open(&path).unwrap().execute_batch(sql).unwrap();
        let orders = join(&path, prices()).await;
        let ops: Vec<(i64, i64)> = (0..20).map(|id| (id, if id == 13 { 100 } else { id })).collect();
        let ended = ends(&orders, &ops).await;
        let expected = (0..20).map(|id| if id == 13 { End::Refused } else { End::Delivered });
        assert_eq!(ended, expected.collect::<Vec<_>>(), "{sql}");
        let letters = orders.dead_letters().list(9).await.unwrap();
        assert_eq!(letters.iter().map(|(_, letter)| letter.op.0).collect::<Vec<_>>(), [13], "{sql}");
        orders.leave().await.unwrap();
        let rows: Vec<i64> = (0..20).filter(|id| *id != 13).collect();
        assert_eq!(numbers(&path, "SELECT id FROM prices ORDER BY id"), rows, "{sql}");
        assert_eq!(numbers(&path, "SELECT count(*) FROM roundlot_intents"), [0]);
    }
}

/// Goal: a table that does not suit the mapping loses no op. Method: none at first, then one with a wrong type, then a right one.
#[tokio::test]
async fn ops_wait_for_a_table_that_suits() {
    let (_folder, path) = folder();
    let orders = join(&path, prices()).await;
    let ack = orders.handle().submit((1, 5)).await.unwrap();
    let database = Connection::open(&path).unwrap();
    database.busy_timeout(Duration::from_secs(60)).unwrap();
    database.execute_batch("CREATE TABLE prices (id INTEGER, price TEXT)").unwrap();
    database.execute_batch("DROP TABLE prices; CREATE TABLE prices (id INTEGER, price INTEGER)").unwrap();
    ack.await.unwrap();
    database.execute_batch("ALTER TABLE prices ADD COLUMN note TEXT DEFAULT 'none'").unwrap();
    orders.handle().submit((2, 6)).await.unwrap().await.unwrap();
    orders.leave().await.unwrap();
    assert_eq!(numbers(&path, "SELECT price FROM prices"), [5, 6]);
}

/// A sink that runs any SQL in its transaction, once, and then counts the ops.
struct Sql {
    term: Term,
    sql: Arc<Mutex<Option<String>>>,
    errors: Arc<Mutex<Vec<String>>>,
}

impl Sink<i64> for Sql {
    async fn write(&self, batch: &mut Batch<i64>) -> Result<Settled, SinkError> {
        let sql = self.sql.lock().unwrap().take();
        let work = move |transaction: &mut Transaction<'_>, batch: &mut Batch<i64>| {
            let database = transaction.sqlite()?;
            for op in batch.pending() {
                database.prepare_cached("INSERT INTO landed VALUES (?1)")?.execute([op])?;
            }
            if let Some(sql) = &sql {
                database.execute_batch(sql).map_err(|error| SinkError::transient(error.to_string()))?;
            }
            Ok(batch.accept_all())
        };
        let written = self.term.transaction(batch, work).await;
        self.errors.lock().unwrap().extend(written.as_ref().err().map(|error| error.chain()));
        written
    }

    fn guarantee(&self) -> Guarantee {
        Guarantee::Transactional
    }
}

async fn sql(path: &Path, sql: &str) -> (Joined<i64>, Arc<Mutex<Vec<String>>>) {
    Connection::open(path).unwrap().execute_batch("CREATE TABLE IF NOT EXISTS landed (op INTEGER)").unwrap();
    let (sql, errors) = (Arc::new(Mutex::new(Some(sql.to_owned()))), Arc::default());
    let of_sink = Arc::clone(&errors);
    let joined = Durable::new("sql", File::at(path))
        .retry(Retry::exponential(Duration::from_millis(1), Duration::from_millis(2)))
        .transaction_timeout(Duration::from_millis(50))
        .sink(move |term| Sql { term, sql: Arc::clone(&sql), errors: Arc::clone(&of_sink) })
        .join()
        .await;
    (joined.unwrap(), errors)
}

/// Goal: a closure can't end the transaction, change the connection or touch the log, and a runaway query is ended. Nothing of
/// such a run stays, and its op lands once with the next. Method: each statement, once.
#[tokio::test]
async fn a_closure_may_not_touch_the_log() {
    let statements = [
        "COMMIT",
        "ROLLBACK",
        "RELEASE roundlot_sink",
        "ROLLBACK TO Roundlot_Sink",
        "ATTACH ':memory:' AS other",
        "PRAGMA synchronous = OFF",
        "PRAGMA schema_version = 7",
        "DELETE FROM roundlot_frames",
        "UPDATE Roundlot_Shards SET paused = 1",
        "DROP VIEW roundlot_waiting",
        "CREATE TRIGGER roundabout AFTER INSERT ON landed BEGIN DELETE FROM roundlot_outcomes; END; \
         INSERT INTO landed VALUES (77)",
        "ALTER TABLE roundlot_meta ADD COLUMN more",
        "WITH RECURSIVE n (i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n",
    ];
    for statement in statements {
        let (_folder, path) = folder();
        let (orders, errors) = sql(&path, statement).await;
        let ack = orders.handle().submit(7).await.unwrap();
        let id = ack.id();
        ack.await.unwrap();
        assert_eq!(errors.lock().unwrap().len(), 1, "{statement}");
        let OpStatus::Ended(outcome) = orders.handle().outcome(id).await.unwrap() else { panic!("{statement}") };
        assert_eq!((outcome.end, outcome.attempts), (End::Delivered, 2), "{statement}");
        orders.leave().await.unwrap();
        assert_eq!(numbers(&path, "SELECT op FROM landed"), [7], "{statement}");
        assert_eq!(numbers(&path, "SELECT count(*) FROM roundlot_outcomes"), [1], "{statement}");
    }
}

/// Goal: savepoints and reading pragmas of a closure are its own business. Method: both, and a savepoint that is left open.
#[tokio::test]
async fn a_closure_may_have_savepoints() {
    let (_folder, path) = folder();
    let statements = "SAVEPOINT a; INSERT INTO landed VALUES (1); ROLLBACK TO a; RELEASE a; SAVEPOINT b; \
                      INSERT INTO landed VALUES (2); PRAGMA table_info(landed); CREATE TABLE made (x)";
    let (orders, errors) = sql(&path, statements).await;
    orders.handle().submit(7).await.unwrap().await.unwrap();
    orders.leave().await.unwrap();
    assert_eq!(*errors.lock().unwrap(), [""; 0]);
    assert_eq!(numbers(&path, "SELECT op FROM landed ORDER BY op"), [2, 7]);
}

/// A sink that says that it is transactional, and writes without a transaction at first.
struct Forgetful {
    term: Term,
    writes: Arc<AtomicUsize>,
}

impl Sink<i64> for Forgetful {
    async fn write(&self, batch: &mut Batch<i64>) -> Result<Settled, SinkError> {
        match self.writes.fetch_add(1, Ordering::Relaxed) {
            0 => Ok(batch.accept_all()),
            1 => {
                let mut other: Batch<i64> = Batch::for_test(vec![1]);
                let error = self.term.transaction(&mut other, |_, batch| Ok(batch.accept_all())).await.unwrap_err();
                Err(error)
            }
            _ => self.term.transaction(batch, |_, batch| Ok(batch.accept_all())).await,
        }
    }

    fn guarantee(&self) -> Guarantee {
        Guarantee::Transactional
    }
}

/// Goal: an op that a transactional sink accepts by mistake outside of a transaction has its outcome all the same, and a batch
/// that was not lent is refused without harm. Method: both, then a right one.
#[tokio::test]
async fn a_sink_that_forgets_its_transaction_loses_nothing() {
    let (_folder, path) = folder();
    let writes = Arc::new(AtomicUsize::new(0));
    let of_sink = Arc::clone(&writes);
    let orders = Durable::new("orders", File::at(&path))
        .retry(Retry::exponential(Duration::from_millis(1), Duration::from_millis(2)))
        .sink(move |term| Forgetful { term, writes: Arc::clone(&of_sink) })
        .join()
        .await
        .unwrap();
    orders.handle().submit(1).await.unwrap().await.unwrap();
    orders.handle().submit(2).await.unwrap().await.unwrap();
    assert_eq!(writes.load(Ordering::Relaxed), 3);
    orders.leave().await.unwrap();
    assert_eq!(numbers(&path, "SELECT sum(count) FROM roundlot_outcomes"), [2]);
}

/// Goal: errors tell their callers apart. Method: a refused op, asked for again after a restart.
#[tokio::test]
async fn a_refusal_is_recorded_with_its_transaction() {
    let (_folder, path) = folder();
    Connection::open(&path)
        .unwrap()
        .execute_batch("CREATE TABLE prices (id INTEGER NOT NULL, price INTEGER CHECK (price > 0))")
        .unwrap();
    let orders = join(&path, prices()).await;
    let ack = orders.handle().submit((1, -1)).await.unwrap();
    let id = ack.id();
    assert!(matches!(ack.await, Err(AckError::Refused(_))));
    orders.leave().await.unwrap();
    let orders = join(&path, prices()).await;
    let OpStatus::Ended(outcome) = orders.handle().outcome(id).await.unwrap() else { panic!("it has ended") };
    assert!(matches!(outcome.result, Err(AckError::Refused(_))));
    assert!(orders.dead_letters().discard(id).await.unwrap());
    orders.leave().await.unwrap();
}

/// A sink that gives up on its first transaction at once, which fails, and tries another one in the same write.
struct Impatient {
    term: Term,
    writes: Arc<AtomicUsize>,
}

impl Sink<i64> for Impatient {
    async fn write(&self, batch: &mut Batch<i64>) -> Result<Settled, SinkError> {
        if self.writes.fetch_add(1, Ordering::Relaxed) == 0 {
            let fail = |_: &mut Transaction<'_>, _: &mut Batch<i64>| Err(SinkError::transient("not yet"));
            assert!(self.term.transaction(batch, fail).now_or_never().is_none());
        }
        self.term.transaction(batch, |_, batch| Ok(batch.accept_all())).await
    }

    fn guarantee(&self) -> Guarantee {
        Guarantee::Transactional
    }
}

/// Goal: a sink that gives up on a transaction makes no dead letters. Method: one that tries another in the same write.
#[tokio::test]
async fn a_sink_that_gives_up_on_a_transaction_refuses_nothing() {
    let (_folder, path) = folder();
    let writes = Arc::new(AtomicUsize::new(0));
    let orders = Durable::new("orders", File::at(&path))
        .retry(Retry::exponential(Duration::from_millis(1), Duration::from_millis(2)))
        .sink(move |term| Impatient { term, writes: Arc::clone(&writes) })
        .join()
        .await
        .unwrap();
    let outcome = orders.handle().submit(1).await.unwrap().outcome().await;
    assert_eq!((outcome.end, outcome.attempts), (End::Delivered, 2));
    orders.leave().await.unwrap();
}
