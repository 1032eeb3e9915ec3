//! Tests of writes that are given up: the next write is not affected, and nothing is left behind on the server.

use std::pin::pin;

use roundlot::{Batch, Sink, sink::postgres::Postgres};

use crate::{
    Db, db, keyed,
    proxy::{
        Proxy,
        Purpose::{Cancel, Session},
    },
    trade, trades, write,
};

/// Runs a write of the sink until the server has it wait for a lock, and returns the process of its session.
async fn until_it_waits(db: &Db, writing: impl Future) -> i64 {
    tokio::select! {
        _ = writing => panic!("it cannot get the lock"),
        pid = db.session("%trades%", "wait_event_type = 'Lock'") => pid,
    }
}

/// Goal: a write that is dropped leaves nothing in the table, no lock and no transaction. Method: dropped while it waits
/// for a row that another one holds, by each way; its own rows are then written by another client, at once.
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
        let pid = until_it_waits(&db, sink.write(&mut batch)).await;
        assert!(batch.verdict(0).is_none());
        // The holder of the row is still there: only a canceled statement can have ended.
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
    until_it_waits(&db, writing.as_mut()).await;
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
    until_it_waits(&db, sink.write(&mut batch)).await;
    drop(sink);
    db.until(&db.sessions(0)).await;
    other.batch_execute("ROLLBACK").await.unwrap();
    assert!(db.ids().await.is_empty());
}

/// Goal: a write that is dropped before its new connection is ready ends that session too. Method: one write waits for
/// the table, and another for its statements to be prepared, which needs the table as well; the lock is held to the end.
#[tokio::test]
#[ignore = "needs a PostgreSQL server: tests/run.sh starts one"]
async fn a_write_that_is_dropped_while_it_connects_ends_its_session() {
    let db = db().await;
    let sink = Postgres::url(db.named_url("")).max_connections(2).open(keyed()).await.unwrap();
    let other = db.other().await;
    other.batch_execute("BEGIN; LOCK TABLE trades").await.unwrap();
    let mut first = Batch::for_test(trades(0..10));
    let mut writing = pin!(sink.write(&mut first));
    until_it_waits(&db, writing.as_mut()).await;
    {
        let waiting = db.sessions(2).replace("HAVING", "AND wait_event_type = 'Lock' HAVING");
        let mut second = Batch::for_test(trades(10..20));
        tokio::select! {
            _ = &mut writing => panic!("the table is locked"),
            _ = sink.write(&mut second) => panic!("the table is locked"),
            _ = db.until(&waiting) => {}
        }
    }
    db.until(&db.sessions(1)).await;
    other.batch_execute("ROLLBACK").await.unwrap();
    writing.await.map(drop).unwrap();
    assert_eq!(db.ids().await, (0..10).collect::<Vec<_>>());
}

/// Goal: a dropped open leaves no session behind. Method: dropped while the check of its statement waits for the table,
/// whose lock is held to the end.
#[tokio::test]
#[ignore = "needs a PostgreSQL server: tests/run.sh starts one"]
async fn a_dropped_open_ends_its_session() {
    let db = db().await;
    db.open(keyed()).await.close().await.unwrap();
    let other = db.other().await;
    other.batch_execute("BEGIN; LOCK TABLE trades").await.unwrap();
    tokio::select! {
        _ = Postgres::url(db.named_url("")).open(keyed()) => panic!("the table is locked"),
        _ = db.session("EXPLAIN%", "wait_event_type = 'Lock'") => {}
    }
    db.until(&db.sessions(0)).await;
    other.batch_execute("ROLLBACK").await.unwrap();
}

/// Goal: there are never more sessions than allowed, abandoned ones included. Method: the cancel request for a session
/// is held back on its way, and the next write gets a session only after it.
#[tokio::test]
#[ignore = "needs a PostgreSQL server: tests/run.sh starts one"]
async fn a_session_that_is_given_up_keeps_its_place_until_it_is_gone() {
    let db = db().await;
    let proxy = Proxy::to(&db.named_url(""), &[]).await;
    let sink = Postgres::url(proxy.url()).max_connections(1).open(keyed()).await.unwrap();
    let other = db.other().await;
    other.batch_execute("BEGIN; INSERT INTO trades VALUES (9, 'other', 0)").await.unwrap();
    let mut first = Batch::for_test(trades(0..10));
    until_it_waits(&db, sink.write(&mut first)).await;
    let mut second = Batch::for_test(trades(10..20));
    let mut writing = pin!(sink.write(&mut second));
    let some_time = async {
        while !proxy.seen().contains(&Cancel) {
            db.query("SELECT 1").await;
        }
        for _ in 0..10 {
            db.query("SELECT 1").await;
        }
    };
    tokio::select! {
        _ = &mut writing => panic!("there is no connection for it"),
        () = some_time => {}
    }
    assert_eq!(proxy.seen(), [Session, Cancel]);
    proxy.let_go();
    writing.await.map(drop).unwrap();
    assert_eq!(proxy.seen(), [Session, Cancel, Session]);
    other.batch_execute("ROLLBACK").await.unwrap();
    assert_eq!(db.ids().await, (10..20).collect::<Vec<_>>());
}

/// Goal: no landed row is reported as failed. Method: the word BEGIN is garbled on its way, as if it had been canceled,
/// so the rows become a transaction of their own. A COMMIT would then be garbled too.
#[tokio::test]
#[ignore = "needs a PostgreSQL server: tests/run.sh starts one"]
async fn rows_that_landed_without_a_transaction_need_no_commit() {
    let db = db().await;
    let proxy = Proxy::to(&db.named_url(""), &[(b"BEGIN\0", b"BEGAN\0"), (b"COMMIT\0", b"COMMAT\0")]).await;
    let sink = Postgres::url(proxy.url()).open(keyed()).await.unwrap();
    assert!(write(&sink, trades(0..10)).await.is_empty());
    assert_eq!(db.ids().await, (0..10).collect::<Vec<_>>());
}

/// Goal: a connection that comes back to a sink that was closed is closed as well. Method: closed while a write waits.
#[tokio::test]
#[ignore = "needs a PostgreSQL server: tests/run.sh starts one"]
async fn a_connection_that_comes_back_late_is_closed() {
    let db = db().await;
    let sink = Postgres::url(db.named_url("")).open(keyed()).await.unwrap();
    let other = db.other().await;
    other.batch_execute("BEGIN; LOCK TABLE trades").await.unwrap();
    let mut batch = Batch::for_test(trades(0..10));
    let mut writing = pin!(sink.write(&mut batch));
    until_it_waits(&db, writing.as_mut()).await;
    sink.close().await.unwrap();
    other.batch_execute("ROLLBACK").await.unwrap();
    writing.await.map(drop).unwrap();
    db.until(&db.sessions(0)).await;
    assert_eq!(db.ids().await.len(), 10);
}
