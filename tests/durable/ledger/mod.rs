//! Logs in a file whose ledger is in PostgreSQL, against a real server, which `tests/run.sh` starts and names in the environment.

mod crashes;
mod failures;
mod letters;
mod refused;
mod table;

use std::{
    ops::Deref,
    path::PathBuf,
    sync::{Arc, Mutex},
    time::Duration,
};

use crate::{
    database::{self, Database, connect},
    server,
};
use roundlot::{
    AckError, Batch, End, Limits, Retry, Settled, Sink, SinkError,
    durable::{Durable, File, JoinError, Joined, OpStatus, SendError, Term},
    sink::Guarantee,
};
use tokio_postgres::Transaction;

/// A database, and a folder for the file.
pub(crate) struct Place {
    database: Database,
    folder: tempfile::TempDir,
}

impl Deref for Place {
    type Target = Database;

    fn deref(&self) -> &Database {
        &self.database
    }
}

impl Place {
    pub(crate) async fn new() -> Self {
        Self::on(&database::server()).await
    }

    async fn on(server: &str) -> Self {
        let database = Database::on(server, "CREATE TABLE landed (op bigint)").await;
        Self { database, folder: tempfile::tempdir().unwrap() }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("orders.db")
    }

    pub(crate) fn file(&self) -> File {
        File::at(self.path()).ledger(&self.url)
    }

    async fn landed(&self) -> Vec<i64> {
        self.numbers("SELECT op FROM landed ORDER BY op").await
    }
}

/// A sink that inserts ops in transactions of the ledger, and runs any SQL with the first.
#[derive(Clone)]
struct Rows {
    term: Term,
    sql: Arc<Mutex<Option<String>>>,
    errors: Arc<Mutex<Vec<String>>>,
}

impl Sink<i64, i64> for Rows {
    async fn write(&self, batch: &mut Batch<i64, i64>) -> Result<Settled, SinkError> {
        let sql = self.sql.lock().unwrap().take();
        let work = async |transaction: &mut Transaction<'_>, batch: &mut Batch<i64, i64>| {
            let ops: Vec<i64> = batch.pending().copied().collect();
            transaction.execute("INSERT INTO landed SELECT unnest($1::bigint[])", &[&ops]).await?;
            if let Some(sql) = &sql {
                transaction.batch_execute(sql).await.map_err(|error| SinkError::transient(error.to_string()))?;
            }
            Ok(batch.accept_all_with(|_, op| op * 10))
        };
        let written = self.term.postgres(batch, work).await;
        self.errors.lock().unwrap().extend(written.as_ref().err().map(|error| error.chain()));
        written
    }

    fn guarantee(&self) -> Guarantee {
        Guarantee::Transactional
    }
}

struct Orders {
    joined: Joined<i64, i64>,
    errors: Arc<Mutex<Vec<String>>>,
}

async fn try_join(file: File, sql: Option<&str>) -> Result<Orders, JoinError> {
    let (sql, errors) = (Arc::new(Mutex::new(sql.map(str::to_owned))), Arc::default());
    let of_sink = Arc::clone(&errors);
    let joined = Durable::new("orders", file)
        .limits(Limits::new(100))
        .retry(Retry::exponential(Duration::from_millis(1), Duration::from_millis(2)))
        .transaction_timeout(Duration::from_secs(10))
        .sink(move |term| Rows { term, sql: Arc::clone(&sql), errors: Arc::clone(&of_sink) })
        .join()
        .await?;
    Ok(Orders { joined, errors })
}

async fn join(place: &Place) -> Orders {
    try_join(place.file(), None).await.unwrap()
}

/// Goal: ops, outcomes, letters, a pause and ids survive a restart, and the file forgets what the ledger has settled. Method: each
/// of them, over two processes.
#[tokio::test]
#[ignore = "needs a PostgreSQL server: tests/run.sh starts one"]
async fn a_ledger_settles_what_a_file_accepts() {
    let place = Place::new().await;
    let orders = join(&place).await;
    let desk = orders.joined.handle();
    let ack = desk.submit(1).await.unwrap();
    let first = ack.id();
    assert_eq!(ack.await.unwrap(), 10);
    desk.pause().await.unwrap();
    desk.send_all(2..2500).await.unwrap();
    orders.joined.leave().await.unwrap();
    assert_eq!(place.landed().await, [1]);

    let orders = join(&place).await;
    let desk = orders.joined.handle();
    assert_eq!((desk.stats().recovered, desk.stats().paused), (2498, true));
    let OpStatus::Ended(outcome) = desk.outcome(first).await.unwrap() else { panic!("it has ended") };
    assert_eq!((outcome.end, outcome.result.unwrap()), (End::Delivered, 10));
    desk.send_as(first, 1).await.unwrap();
    desk.resume().await.unwrap();
    desk.flush().await.unwrap();
    let stats = orders.joined.leave().await.unwrap();
    assert_eq!((stats.repeats, stats.waiting), (1, 0));
    assert_eq!(place.landed().await, (1..2500).collect::<Vec<_>>());
    assert_eq!(place.numbers("SELECT sum(count) FROM roundlot_outcomes").await, [2499]);
    let file = rusqlite::Connection::open(place.path()).unwrap();
    let count = |table: &str| -> i64 {
        file.query_row(&format!("SELECT count(*) FROM roundlot_{table}"), [], |row| row.get(0)).unwrap()
    };
    assert_eq!((count("frames"), count("outcomes"), count("settled")), (0, 0, 0));
    assert!(orders.errors.lock().unwrap().is_empty());
}
