//! The SQLite sink against real files: what lands, what is refused, what is tried again, and in which order.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::{path::Path, time::Duration};

use futures::FutureExt;
use roundlot::{
    Batch, Batcher, DeadLetter, ErrorKind, Limits, Retry, Sink,
    market::Decimal,
    sink::{
        sqlite::{OpenError, Sqlite, SqliteSink, Synchronous},
        table::{ColumnType, Conflict, Table},
    },
    testing::Recorder,
};
use rusqlite::Connection;
use tempfile::TempDir;

#[derive(Debug, Clone, PartialEq)]
struct Row {
    id: i64,
    text: String,
    note: Option<String>,
    price: Decimal,
    bytes: Vec<u8>,
}

fn row(id: i64) -> Row {
    Row { id, text: format!("row {id}"), note: None, price: Decimal::new(id, 2), bytes: vec![id as u8; 3] }
}

fn rows() -> Table<Row> {
    Table::new("rows")
        .integer("id", |row: &Row| row.id)
        .text("text", |row| &row.text)
        .column("note", ColumnType::Text, |row| row.note.as_deref().into())
        .decimal("price", |row| row.price)
        .bytes("bytes", |row| &row.bytes)
        .key(["id"])
        .create_if_missing()
}

fn file(folder: &TempDir) -> std::path::PathBuf {
    folder.path().join("test.db")
}

fn ids(path: &Path) -> Vec<i64> {
    let database = Connection::open(path).unwrap();
    let mut query = database.prepare("SELECT id FROM rows ORDER BY rowid").unwrap();
    query.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
}

async fn write(sink: &SqliteSink<Row>, rows: impl IntoIterator<Item = Row>) -> Batch<Row> {
    let mut batch = Batch::for_test(rows.into_iter().collect());
    if let Err(error) = sink.write(&mut batch).await {
        // As the batcher does it: what has no verdict has this one.
        let open: Vec<usize> = batch.pending().indexed().map(|(i, _)| i).collect();
        open.into_iter().for_each(|i| batch.refuse(i, error.clone()));
    }
    batch
}

fn refused(batch: &Batch<Row>) -> Vec<usize> {
    (0..batch.len()).filter(|i| batch.verdict(*i).unwrap().is_err()).collect()
}

/// Goal: what is accepted is in the table, in order and exactly. Method: odd values in batches of odd sizes.
#[tokio::test]
async fn all_rows_land_in_order_and_exactly() {
    let folder = tempfile::tempdir().unwrap();
    let sink = SqliteSink::open(file(&folder), rows()).await.unwrap();
    let mut next = 1;
    for size in [1, 2, 99, 100, 101, 333, 1000] {
        let batch = write(&sink, (next..next + size).map(row)).await;
        assert!(refused(&batch).is_empty());
        next += size;
    }
    let odd = Row {
        id: i64::MIN,
        text: "'; DROP TABLE rows; --".into(),
        note: Some(String::new()),
        price: "0.10".parse().unwrap(),
        bytes: vec![0; 100_000],
    };
    assert!(refused(&write(&sink, [odd.clone(), row(i64::MAX)]).await).is_empty());
    sink.close().await.unwrap();

    let expected: Vec<i64> = (1..next).collect();
    let database = Connection::open(file(&folder)).unwrap();
    let mut query = database.prepare("SELECT id FROM rows WHERE id > 0 AND id < 100000 ORDER BY rowid").unwrap();
    let found: Vec<i64> = query.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect();
    assert_eq!(found, expected);
    let found = database
        .query_row("SELECT id, text, note, price, bytes FROM rows WHERE id < 0", [], |row| {
            let price: String = row.get(3)?;
            Ok(Row {
                id: row.get(0)?,
                text: row.get(1)?,
                note: row.get(2)?,
                price: price.parse().unwrap(),
                bytes: row.get(4)?,
            })
        })
        .unwrap();
    assert_eq!(found, odd);
    let price: String = database.query_row("SELECT price FROM rows WHERE id < 0", [], |row| row.get(0)).unwrap();
    assert_eq!(price, "0.10", "a price keeps its digits");
    let notes: i64 = database.query_row("SELECT count(*) FROM rows WHERE note IS NULL", [], |row| row.get(0)).unwrap();
    assert_eq!(notes, next);
}

/// Goal: a row that breaks a constraint is refused alone, and the others of its batch land, in order. Method: a key that
/// is there already, in row 57 of 500, and one that comes twice in the batch.
#[tokio::test]
async fn a_row_that_breaks_a_constraint_is_refused_alone() {
    let folder = tempfile::tempdir().unwrap();
    let sink = SqliteSink::open(file(&folder), rows()).await.unwrap();
    write(&sink, [row(57)]).await;
    let batch = write(&sink, (1..=500).chain([400]).map(row)).await;
    assert_eq!(refused(&batch), [56, 500]);
    let error = batch.verdict(56).unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused);
    assert!(error.chain().contains("UNIQUE"), "{}", error.chain());
    sink.close().await.unwrap();
    let landed = ids(&file(&folder));
    assert_eq!(landed.len(), 500);
    let after: Vec<i64> = landed.into_iter().filter(|id| *id != 57).collect();
    assert!(after.is_sorted());
}

/// Goal: the conflict rules hold against rows that are there and within one batch. Method: the same key three times.
#[tokio::test]
async fn conflict_rules_hold_within_a_batch_too() {
    for (rule, expected) in [(Conflict::Ignore, "first"), (Conflict::Update, "third")] {
        let folder = tempfile::tempdir().unwrap();
        let sink = SqliteSink::open(file(&folder), rows().on_conflict(rule)).await.unwrap();
        let named = |text: &str| Row { text: text.into(), ..row(1) };
        let batch = write(&sink, [named("first"), named("second"), row(2)]).await;
        assert!(refused(&batch).is_empty());
        let batch = write(&sink, [named("third")]).await;
        assert!(refused(&batch).is_empty());
        sink.close().await.unwrap();
        let database = Connection::open(file(&folder)).unwrap();
        let text: String = database.query_row("SELECT text FROM rows WHERE id = 1", [], |row| row.get(0)).unwrap();
        assert_eq!(text, expected);
        assert_eq!(ids(&file(&folder)), [1, 2]);
    }
}

/// Goal: a database that another connection writes to is a passing trouble, and nothing of the batch has landed. Method:
/// a second connection that holds the write lock.
#[tokio::test]
async fn a_locked_database_is_transient_and_nothing_lands() {
    let folder = tempfile::tempdir().unwrap();
    let sink = Sqlite::file(file(&folder)).busy_timeout(Duration::ZERO).open(rows()).await.unwrap();
    let mut other = Connection::open(file(&folder)).unwrap();
    let lock = other.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate).unwrap();
    let batch = write(&sink, [row(1), row(2)]).await;
    for i in 0..2 {
        assert_eq!(batch.verdict(i).unwrap().unwrap_err().kind(), ErrorKind::Transient);
    }
    lock.rollback().unwrap();
    assert!(ids(&file(&folder)).is_empty());
    assert!(refused(&write(&sink, [row(1), row(2)]).await).is_empty());
    assert_eq!(ids(&file(&folder)), [1, 2]);
}

/// Goal: a full disk is told clearly and finally, and what landed before stays. Method: a cap on the pages of the file.
#[tokio::test]
async fn a_full_disk_is_clear_and_final() {
    let folder = tempfile::tempdir().unwrap();
    let sink = Sqlite::file(file(&folder)).max_pages(12).open(rows()).await.unwrap();
    assert!(refused(&write(&sink, [row(1)]).await).is_empty());
    let large = |id| Row { bytes: vec![1; 50_000], ..row(id) };
    let batch = write(&sink, (2..20).map(large)).await;
    assert!(!refused(&batch).is_empty());
    let last = batch.verdict(batch.len() - 1).unwrap().unwrap_err();
    assert_eq!(last.kind(), ErrorKind::Refused);
    assert!(last.chain().contains("full"), "{}", last.chain());
    sink.close().await.unwrap();
    assert!(ids(&file(&folder)).contains(&1));
}

/// Goal: what can't work is told when the sink is opened. Method: a file that is no database, a table that is not there, a
/// column that is not there, a mapping without columns.
#[tokio::test]
async fn what_cannot_work_is_told_at_opening() {
    let folder = tempfile::tempdir().unwrap();
    let garbage = folder.path().join("garbage.db");
    std::fs::write(&garbage, vec![7u8; 10_000]).unwrap();
    let error = SqliteSink::open(&garbage, rows()).await.unwrap_err();
    assert!(error.to_string().contains("garbage.db"), "{error}");

    let missing = Table::<i64>::new("prices").integer("price", |price| *price);
    let error = SqliteSink::open(file(&folder), missing).await.unwrap_err();
    assert!(matches!(error, OpenError::NoTable { .. }), "{error}");
    assert!(error.to_string().contains("prices"), "{error}");

    drop(SqliteSink::open(file(&folder), rows()).await.unwrap());
    let other = Table::<i64>::new("rows").integer("size", |size| *size);
    let error = SqliteSink::open(file(&folder), other).await.unwrap_err();
    assert!(error.to_string().contains("size"), "{error}");

    let error = SqliteSink::open(file(&folder), Table::<i64>::new("empty")).await.unwrap_err();
    assert!(error.to_string().contains("column"), "{error}");
}

/// Goal: names are quoted, whatever is in them. Method: names made of quotes, spaces and SQL.
#[tokio::test]
async fn names_are_quoted() {
    let folder = tempfile::tempdir().unwrap();
    let name = r#"t"; DROP TABLE x; -- ü"#;
    let table = Table::<i64>::new(name)
        .integer(r#"a "b""#, |n| *n)
        .integer("select", |n| *n + 1)
        .key([r#"a "b""#])
        .on_conflict(Conflict::Update)
        .create_if_missing();
    let sink = SqliteSink::open(file(&folder), table).await.unwrap();
    let mut batch = Batch::for_test(vec![1, 2, 1]);
    assert!(sink.write(&mut batch).await.is_ok());
    sink.close().await.unwrap();
    let database = Connection::open(file(&folder)).unwrap();
    let quoted = name.replace('"', "\"\"");
    let count: i64 = database.query_row(&format!("SELECT count(*) FROM \"{quoted}\""), [], |row| row.get(0)).unwrap();
    assert_eq!(count, 2);
}

/// Goal: a write that is given up on leaves the sink whole: the next one writes its own rows, once. Method: drop the
/// future after its first poll, then write again.
#[tokio::test]
async fn a_write_that_is_dropped_leaves_the_next_alone() {
    let folder = tempfile::tempdir().unwrap();
    let sink = SqliteSink::open(file(&folder), rows()).await.unwrap();
    for round in 0..50 {
        let mut batch: Batch<Row> = Batch::for_test((round * 100..round * 100 + 50).map(row).collect());
        let _dropped = sink.write(&mut batch).now_or_never();
        let batch = write(&sink, (round * 100 + 50..round * 100 + 100).map(row)).await;
        assert!(refused(&batch).is_empty());
    }
    sink.close().await.unwrap();
    let landed = ids(&file(&folder));
    for round in 0..50 {
        let own = round * 100 + 50..round * 100 + 100;
        assert_eq!(landed.iter().filter(|id| own.contains(*id)).count(), 50);
        let dropped = landed.iter().filter(|id| (round * 100..round * 100 + 50).contains(*id)).count();
        assert!(dropped == 0 || dropped == 50, "a transaction is whole or not there, not {dropped} of 50");
    }
}

/// Goal: closing twice is one close, and a write afterwards is an error that says so. Method: do it.
#[tokio::test]
async fn a_closed_sink_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let sink = Sqlite::file(file(&folder)).synchronous(Synchronous::Full).open(rows()).await.unwrap();
    write(&sink, [row(1)]).await;
    sink.close().await.unwrap();
    sink.close().await.unwrap();
    let batch = write(&sink, [row(2)]).await;
    assert!(batch.verdict(0).unwrap().is_err());
    assert_eq!(ids(&file(&folder)), [1]);
    let wal = file(&folder).with_extension("db-wal");
    assert!(!wal.exists(), "the log is folded into the file at the end");
}

/// Goal: through a batcher, each op ends as the database says: landed, or a dead letter. Method: keys that come twice,
/// under batches of 7, and a lock that goes away while ops back off.
#[tokio::test]
async fn through_a_batcher_nothing_is_lost() {
    let folder = tempfile::tempdir().unwrap();
    let sink = Sqlite::file(file(&folder)).busy_timeout(Duration::ZERO).open(rows()).await.unwrap();
    let letters = Recorder::<DeadLetter<Row>>::new();
    let (desk, worker) = Batcher::new(sink)
        .limits(Limits::new(7))
        .retry(Retry::exponential(Duration::from_millis(1), Duration::from_millis(5)).max_attempts(1000))
        .dead_letters(letters.clone())
        .spawn();
    let mut other = Connection::open(file(&folder)).unwrap();
    let lock = other.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate).unwrap();
    desk.send_all((0..100).map(row)).await.unwrap();
    let ack = desk.submit(row(50)).await.unwrap();
    lock.rollback().unwrap();
    let report = desk.flush().await.unwrap();
    assert_eq!((report.delivered, report.refused), (100, 1));
    assert!(ack.await.is_err());
    let summary = worker.shutdown().await.unwrap();
    assert!(summary.close_error.is_none());
    assert_eq!(letters.ops().len(), 1);
    assert_eq!(ids(&file(&folder)), (0..100).collect::<Vec<_>>());
}
