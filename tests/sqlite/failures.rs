//! Final failures: the file is left as it was, and the error says whether to try again.

use roundlot::{
    Batch, ErrorKind, Sink,
    sink::{sqlite::SqliteSink, table::Table},
};

use crate::{file, keyed, refusals, refused, trade, trades, write};

#[tokio::test]
async fn a_table_that_was_dropped_is_final() {
    let file = file();
    let sink = SqliteSink::open(&file, keyed()).await.unwrap();
    assert!(write(&sink, trades(0..10)).await.is_empty());
    file.execute("DROP TABLE trades");
    let failed = write(&sink, trades(10..40)).await;
    assert_eq!(refused(&failed).len(), 30);
    assert!(failed[7].story.contains("final") && failed[7].story.contains("no such table"), "{:?}", failed[7]);

    file.execute("CREATE TABLE trades (id INT, symbol TEXT, price TEXT)");
    assert!(write(&sink, trades(40..50)).await.is_empty(), "and when it is back, it goes on");
}

#[tokio::test]
async fn a_column_that_was_renamed_is_final() {
    let file = file();
    let sink = SqliteSink::open(&file, keyed()).await.unwrap();
    file.execute("ALTER TABLE trades RENAME COLUMN price TO cost");
    let failed = write(&sink, trades(0..3)).await;
    assert_eq!(refused(&failed).len(), 3);
    assert!(failed[0].story.contains("price"), "{:?}", failed[0]);
}

#[tokio::test]
async fn repeated_closes_are_harmless() {
    let file = file();
    let sink = SqliteSink::open(&file, keyed()).await.unwrap();
    assert!(write(&sink, trades(0..10)).await.is_empty());
    let (first, second) = tokio::join!(sink.close(), sink.close());
    first.unwrap();
    second.unwrap();
    sink.close().await.unwrap();
    let left: Vec<_> = std::fs::read_dir(file.path.parent().unwrap()).unwrap().collect();
    assert_eq!(left.len(), 1, "the log went into the file: {left:?}");
    assert_eq!(file.ids().len(), 10);
}

#[tokio::test]
async fn a_closed_sink_refuses() {
    let file = file();
    let sink = SqliteSink::open(&file, keyed()).await.unwrap();
    sink.close().await.unwrap();
    let mut batch = Batch::for_test(vec![trade(1)]);
    let error = sink.write(&mut batch).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused);
    assert_eq!(error.chain(), "refused: the SQLite sink is closed");
    assert!(batch.verdict(0).is_none());
}

/// Goal: writes that run at once do not mix. Method: many at a time, each with a bad row of its own.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrent_writes_do_not_mix_their_verdicts() {
    let file = file();
    let table = Table::new("trades").integer("id", |id: &i64| *id).key(["id"]).create_if_missing();
    let sink = std::sync::Arc::new(SqliteSink::open(&file, table).await.unwrap());
    assert!(write(&sink, (0..20).map(|i| i * 1000 + 7).collect()).await.is_empty());
    let mut writes = tokio::task::JoinSet::new();
    for i in 0..20 {
        let sink = sink.clone();
        writes.spawn(async move {
            let mut batch = Batch::for_test((i * 1000..i * 1000 + 300).collect());
            sink.write(&mut batch).await.map(drop).unwrap();
            refused(&refusals(&batch))
        });
    }
    while let Some(failed) = writes.join_next().await {
        assert_eq!(failed.unwrap(), [7]);
    }
    assert_eq!(file.ids().len(), 20 * 300);
}
