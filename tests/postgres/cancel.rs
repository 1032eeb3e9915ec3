//! Writes that are given up: the next write is as if nothing had been, and nothing stays behind on the server.

use std::pin::pin;

use roundlot::{Batch, Sink, sink::postgres::Postgres};

use crate::{db, keyed, proxy::Proxy, trade, trades, write};

/// Goal: a write that is dropped leaves nothing in the table, no lock and no transaction. Method: dropped while it waits
/// for a row that another one holds, by each way; its own rows are then written by somebody else, at once.
#[tokio::test]
#[ignore = "needs a PostgreSQL server: tests/run.sh starts one"]
async fn a_dropped_write_is_rolled_back_and_its_session_ends() {
    for from in [usize::MAX, 1] {
        let db = db().await;
        let settings = Postgres::url(db.named_url("")).max_connections(1).copy_from(from);
        let sink = settings.open(keyed()).await.unwrap();
        assert!(write(&sink, vec![trade(5000)]).await.is_empty());
        let other = db.other().await;
        other.batch_execute("BEGIN; INSERT INTO trades VALUES (99, 'other', 0)").await.unwrap();
        let mut batch = Batch::for_test(trades(0..300));
        let pid = {
            let mut writing = pin!(sink.write(&mut batch));
            tokio::select! {
                _ = &mut writing => panic!("it waits for row 99"),
                pid = db.session("%trades%", "wait_event_type = 'Lock'") => pid,
            }
        };
        assert!(batch.verdict(0).is_none());
        // The one that holds the row is still there: only a statement that was canceled has ended.
        db.until(&format!("SELECT 1 WHERE NOT EXISTS (SELECT FROM pg_stat_activity WHERE pid = {pid})")).await;
        db.execute("INSERT INTO trades VALUES (7, 'mine', 0)").await;
        other.batch_execute("ROLLBACK").await.unwrap();
        assert!(write(&sink, trades(1000..1010)).await.is_empty(), "on another connection");
        let mut ids = db.ids().await;
        ids.sort_unstable();
        assert_eq!(ids, [&[7][..], &(1000..1010).collect::<Vec<_>>(), &[5000]].concat());
    }
}

/// Goal: a write that is dropped while it waits for a connection is never made, and the next gets the connection.
#[tokio::test]
#[ignore = "needs a PostgreSQL server: tests/run.sh starts one"]
async fn a_write_that_is_dropped_while_it_queues_is_never_made() {
    let db = db().await;
    let sink = Postgres::url(db.named_url("")).max_connections(1).open(keyed()).await.unwrap();
    let other = db.other().await;
    other.batch_execute("BEGIN; LOCK TABLE trades").await.unwrap();
    let mut first = Batch::for_test(trades(0..10));
    let mut writing = pin!(sink.write(&mut first));
    tokio::select! {
        _ = &mut writing => panic!("the table is locked"),
        _ = db.session("%trades%", "wait_event_type = 'Lock'") => {}
    }
    for round in 1..4 {
        let mut second = Batch::for_test(trades(round * 100..round * 100 + 10));
        assert!(futures::poll!(pin!(sink.write(&mut second))).is_pending());
    }
    other.batch_execute("ROLLBACK").await.unwrap();
    writing.await.map(drop).unwrap();
    assert!(write(&sink, trades(1000..1010)).await.is_empty());
    assert_eq!(db.ids().await, (0..10).chain(1000..1010).collect::<Vec<_>>());
}

/// Goal: a sink that is dropped with a write under way leaves nothing behind.
#[tokio::test]
#[ignore = "needs a PostgreSQL server: tests/run.sh starts one"]
async fn a_sink_that_is_dropped_in_a_write_ends_its_session() {
    let db = db().await;
    let sink = Postgres::url(db.named_url("")).open(keyed()).await.unwrap();
    let other = db.other().await;
    other.batch_execute("BEGIN; LOCK TABLE trades").await.unwrap();
    let mut batch = Batch::for_test(trades(0..10));
    {
        let mut writing = pin!(sink.write(&mut batch));
        tokio::select! {
            _ = &mut writing => panic!("the table is locked"),
            _ = db.session("%trades%", "wait_event_type = 'Lock'") => {}
        }
    }
    drop(sink);
    let gone =
        format!("SELECT 1 WHERE NOT EXISTS (SELECT FROM pg_stat_activity WHERE application_name = '{}')", db.schema);
    db.until(&gone).await;
    other.batch_execute("ROLLBACK").await.unwrap();
    assert!(db.ids().await.is_empty());
}

/// Goal: a dropped open leaves no session behind. Method: polled once, and then a few times more.
#[tokio::test]
#[ignore = "needs a PostgreSQL server: tests/run.sh starts one"]
async fn a_dropped_open_closes_its_connection() {
    let db = db().await;
    for polls in 1..6 {
        let mut opening = Box::pin(Postgres::url(db.named_url("")).open(keyed()));
        for _ in 0..polls {
            if futures::poll!(&mut opening).is_ready() {
                break;
            }
            tokio::task::yield_now().await;
        }
    }
    let gone =
        format!("SELECT 1 WHERE NOT EXISTS (SELECT FROM pg_stat_activity WHERE application_name = '{}')", db.schema);
    db.until(&gone).await;
}

/// Goal: what has landed is not said to have failed. Method: the word BEGIN is garbled on its way, as if it had been
/// canceled, which leaves the rows to be a transaction of their own; a COMMIT would then be garbled too.
#[tokio::test]
#[ignore = "needs a PostgreSQL server: tests/run.sh starts one"]
async fn rows_that_landed_without_a_transaction_need_no_commit() {
    let db = db().await;
    let proxy = Proxy::to(&db.named_url(""), &[(b"BEGIN\0", b"BEGAN\0"), (b"COMMIT\0", b"COMMAT\0")]).await;
    let sink = Postgres::url(proxy.url()).open(keyed()).await.unwrap();
    assert!(write(&sink, trades(0..10)).await.is_empty());
    assert_eq!(db.ids().await, (0..10).collect::<Vec<_>>());
}
