//! Tests of writes that are given up, and closures that panic: the next write is not affected.

use std::{pin::pin, time::Duration};

use roundlot::{
    Batch, Sink,
    sink::{
        sqlite::{Sqlite, SqliteSink},
        table::Table,
    },
};

use crate::{File, Trade, file, keyed, refused, trades, write};

/// Returns a sink that waits without limit for a lock that the returned connection holds.
async fn blocked() -> (File, SqliteSink<Trade>, rusqlite::Connection) {
    let file = file();
    let sink = Sqlite::file(&file).busy_timeout(Duration::from_secs(600)).open(keyed()).await.unwrap();
    let other = file.connect();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    (file, sink, other)
}

/// Goal: a write that is dropped on the way lands whole or not at all. Method: dropped while it waits for the lock.
#[tokio::test]
async fn a_dropped_write_lands_whole_or_not_at_all() {
    let (file, sink, other) = blocked().await;
    let mut batch = Batch::for_test(trades(0..300));
    assert!(futures::poll!(pin!(sink.write(&mut batch))).is_pending());
    assert!(batch.verdict(0).is_none());
    other.execute_batch("ROLLBACK").unwrap();

    assert!(write(&sink, trades(1000..1300)).await.is_empty());
    let ids = file.ids();
    let first: Vec<i64> = ids.iter().copied().filter(|id| *id < 1000).collect();
    assert!(first.is_empty() || first == (0..300).collect::<Vec<_>>(), "{first:?}");
    assert_eq!(ids[first.len()..], (1000..1300).collect::<Vec<_>>());
}

/// Goal: a write that is given up before it began is not begun. Method: it waits behind one that waits for the lock.
#[tokio::test]
async fn a_write_that_is_dropped_while_it_queues_is_never_made() {
    let (file, sink, other) = blocked().await;
    let mut first = Batch::for_test(trades(0..10));
    let mut first = pin!(sink.write(&mut first));
    assert!(futures::poll!(&mut first).is_pending());
    for round in 1..4 {
        let mut second = Batch::for_test(trades(round * 100..round * 100 + 10));
        assert!(futures::poll!(pin!(sink.write(&mut second))).is_pending());
    }
    other.execute_batch("ROLLBACK").unwrap();
    first.await.map(drop).unwrap();
    assert!(write(&sink, trades(1000..1010)).await.is_empty());
    assert_eq!(file.ids(), (0..10).chain(1000..1010).collect::<Vec<_>>());
}

/// Goal: a sink that is dropped with a write under way leaves a sound file. Method: the log is gone when it has ended.
#[tokio::test]
async fn the_thread_of_a_sink_dropped_during_a_write_ends() {
    let (file, sink, other) = blocked().await;
    let mut batch = Batch::for_test(trades(0..300));
    assert!(futures::poll!(pin!(sink.write(&mut batch))).is_pending());
    drop(sink);
    other.execute_batch("ROLLBACK").unwrap();
    drop(other);
    let log = file.path.with_extension("db-wal");
    while log.exists() {
        std::thread::yield_now();
    }
    let count = file.ids().len();
    assert!(count == 0 || count == 300, "{count}");
    assert_eq!(file.query("PRAGMA integrity_check"), ["ok"]);
}

#[tokio::test]
async fn a_dropped_close_closes_all_the_same() {
    let (file, sink, other) = blocked().await;
    let mut batch = Batch::for_test(trades(0..300));
    let mut writing = pin!(sink.write(&mut batch));
    assert!(futures::poll!(&mut writing).is_pending());
    drop(futures::poll!(pin!(sink.close())));
    other.execute_batch("ROLLBACK").unwrap();
    writing.await.map(drop).unwrap();
    sink.close().await.unwrap();
    assert_eq!(file.ids().len(), 300);
}

/// Goal: a panic in a closure refuses its op and costs no other. Method: in the first row, in later ones, in one so late that
/// the rows before are on their way, and in all rows; in the first and in a later column.
#[tokio::test]
async fn a_panic_in_a_closure_refuses_its_op_alone() {
    for column in 0..2 {
        let file = file();
        let boom = move |at| move |id: &i64| if at == column && *id % 1000 == 777 { panic!("boom") } else { *id };
        let table =
            Table::new("trades").integer("id", boom(0)).integer("more", boom(1)).key(["id"]).create_if_missing();
        let sink = SqliteSink::open(&file, table).await.unwrap();
        let mut landed: Vec<i64> = Vec::new();
        for (late, first) in [0, 1, 128, 300, 776].into_iter().zip((0..).step_by(10_000)) {
            let mut ops: Vec<i64> = (first..first + 777).collect();
            ops[late] = 777;
            landed.extend(ops.iter().filter(|id| **id != 777));
            let verdicts = write(&sink, ops).await;
            assert_eq!(refused(&verdicts), [late], "the others land");
            assert!(verdicts[0].story.contains("panicked: boom"), "{}", verdicts[0].story);
        }
        assert_eq!(refused(&write(&sink, vec![777, 1777]).await), [0, 1]);
        assert_eq!(file.ids(), landed);
    }
}
