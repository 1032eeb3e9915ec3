//! Checks at the opening of a sink, and the words of their errors.

use std::{fs, time::Duration};

use futures::future::join_all;
use roundlot::{
    Sink,
    sink::{
        sqlite::{OpenError, Sqlite, SqliteSink, Synchronous},
        table::{Conflict, Table, TableError},
    },
};

use crate::{file, keyed, mapping, trade, trades, write};

#[tokio::test]
async fn a_wrong_mapping_is_found_before_the_file_is_touched() {
    let file = file();
    let error = SqliteSink::open(&file, mapping().integer("ID", |_| 1)).await.unwrap_err();
    assert!(matches!(&error, OpenError::Table(TableError::Duplicate(name)) if name == "ID"), "{error:?}");
    assert_eq!(error.chain(), r#"column "ID" is there twice"#);
    assert!(!file.path.exists());
}

#[tokio::test]
async fn a_missing_table_is_named() {
    let file = file();
    let error = SqliteSink::open(&file, mapping()).await.unwrap_err();
    assert!(matches!(error, OpenError::NoTable { .. }));
    let text = error.to_string();
    assert!(text.starts_with(r#"there is no table "trades" in "#), "{text}");
    assert!(text.ends_with("creating it was not asked for"), "{text}");
}

#[tokio::test]
async fn a_missing_column_is_named() {
    let file = file();
    file.execute("CREATE TABLE trades (id INT, SYMBOL TEXT)");
    let error = SqliteSink::open(&file, keyed()).await.unwrap_err();
    assert_eq!(error.to_string(), r#"table "trades" has no column "price""#);
}

/// Goal: prices and ids are never turned into floats by the table. Method: a column that would do so.
#[tokio::test]
async fn a_column_that_would_change_decimals_is_named() {
    let file = file();
    file.execute("CREATE TABLE trades (id INT, symbol TEXT, price NUMERIC(10, 2))");
    let error = SqliteSink::open(&file, mapping()).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        r#"column "price" of table "trades" is to hold decimals and must be TEXT for that, it is NUMERIC(10, 2)"#
    );
}

#[tokio::test]
async fn a_rule_without_a_unique_key_is_an_error() {
    let file = file();
    file.execute("CREATE TABLE trades (id INT, symbol TEXT, price TEXT)");
    let error = SqliteSink::open(&file, keyed().on_conflict(Conflict::Ignore)).await.unwrap_err();
    assert!(error.chain().contains("ON CONFLICT clause does not match any PRIMARY KEY or UNIQUE"), "{}", error.chain());
}

#[tokio::test]
async fn a_view_is_refused() {
    let file = file();
    file.execute("CREATE VIEW trades AS SELECT 1 AS id, 'a' AS symbol, '2' AS price");
    let error = SqliteSink::open(&file, mapping()).await.unwrap_err();
    assert!(error.chain().contains("cannot modify trades because it is a view"), "{}", error.chain());
}

#[tokio::test]
async fn an_existing_table_keeps_its_rows_and_its_other_columns() {
    let file = file();
    file.execute("CREATE TABLE trades (note TEXT DEFAULT 'none', price TEXT, symbol TEXT, id INT)");
    file.execute("INSERT INTO trades VALUES ('old', '1', 'a', 0)");
    let sink = SqliteSink::open(&file, keyed()).await.unwrap();
    assert!(write(&sink, vec![trade(1)]).await.is_empty());
    assert_eq!(file.query("SELECT id, note FROM trades"), ["0|old", "1|none"]);
}

#[tokio::test]
async fn a_file_that_is_no_database_is_named() {
    let file = file();
    fs::write(&file, "timestamp,price\n".repeat(1000)).unwrap();
    let error = SqliteSink::open(&file, keyed()).await.unwrap_err();
    let text = error.chain();
    assert!(text.contains("trades.db") && text.contains("final: the file is not a SQLite database"), "{text}");
}

#[tokio::test]
async fn a_folder_that_is_not_there_and_no_path_at_all_are_errors() {
    let error = SqliteSink::open("/nowhere/at/all/trades.db", keyed()).await.unwrap_err();
    assert!(error.chain().contains("final: the database file or its log cannot be opened"), "{}", error.chain());
    let error = SqliteSink::open("", keyed()).await.unwrap_err();
    assert!(matches!(error, OpenError::Database { .. }));
}

#[tokio::test]
async fn readers_do_not_block_a_write() {
    let file = file();
    let sink = Sqlite::file(&file).busy_timeout(Duration::ZERO).open(keyed()).await.unwrap();
    let reader = file.connect();
    reader.execute_batch("BEGIN; SELECT count(*) FROM trades").unwrap();
    assert!(write(&sink, trades(0..10)).await.is_empty());
    let seen = |sql| reader.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap();
    assert_eq!(seen("SELECT count(*) FROM trades"), 0, "the reader's view stands");
    reader.execute_batch("COMMIT").unwrap();
    assert_eq!(seen("SELECT count(*) FROM trades"), 10);
}

#[tokio::test]
async fn full_synchronous_lands_rows() {
    let file = file();
    let sink = Sqlite::file(&file).synchronous(Synchronous::Full).open(keyed()).await.unwrap();
    assert!(write(&sink, trades(0..10)).await.is_empty());
    sink.close().await.unwrap();
    assert_eq!(file.ids().len(), 10);
}

/// Goal: two sinks may share a file. Method: opened at once on a new file, they write in turns.
#[tokio::test]
async fn two_sinks_share_a_file() {
    let file = file();
    let other = Table::new("other").integer("id", |id: &i64| *id).create_if_missing();
    let (trades_sink, other_sink) = tokio::join!(SqliteSink::open(&file, keyed()), SqliteSink::open(&file, other));
    let (trades_sink, other_sink) = (trades_sink.unwrap(), other_sink.unwrap());
    for round in 0..20 {
        let (a, b) = tokio::join!(write(&trades_sink, vec![trade(round)]), write(&other_sink, vec![round]));
        assert!(a.is_empty() && b.is_empty(), "{a:?} {b:?}");
    }
    assert_eq!(file.ids().len(), 20);
    assert_eq!(file.query("SELECT count(*) FROM other"), ["20"]);
}

/// Goal: sinks that open a new file at once wait for each other. Method: many at once on each of many files, because
/// SQLite does not wait by itself where two that read both want to write.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_sinks_open_a_new_file_at_once() {
    for _ in 0..200 {
        let file = file();
        let patient = Sqlite::file(&file).busy_timeout(Duration::from_secs(60));
        let opened = join_all((0..4).map(|_| patient.clone().open(keyed()))).await;
        let errors: Vec<_> = opened.into_iter().filter_map(Result::err).map(|error| error.chain()).collect();
        assert!(errors.is_empty(), "{errors:?}");
    }
}
