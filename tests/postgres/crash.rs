//! Tests of a server that is killed under load and restarted: the outcomes for the callers agree with the table.

use std::sync::Arc;

use roundlot::{ErrorKind, sink::postgres::Postgres};

use crate::{Db, account, fail, keyed, mapping, server::Server, trades, write};

/// Kills the server in the middle of the load, and brings it back.
async fn killed_midway(server: Arc<Server>) {
    tokio::task::spawn_blocking(move || {
        server.kill();
        server.up();
    })
    .await
    .unwrap();
}

/// Goal: without once_by, every row is there exactly once or accounted for by name. Method: kill -9 under load.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a PostgreSQL server: tests/run.sh starts one"]
async fn a_killed_server_leaves_every_row_accounted_for() {
    let server = Arc::new(Server::start(&[]));
    let db = Db::on(&server.url()).await;
    let sink = Postgres::url(db.url()).open(mapping().create_if_missing()).await.unwrap();
    let account = account::run(account::batcher(sink), 0..10_000, async || killed_midway(server.clone()).await).await;
    let db = Db { client: crate::connect(&db.url()).await, ..db };
    account.agrees_with(&db).await;
    assert!(account.refused.is_empty(), "{:?}", account.refused);
    assert!(account.in_doubt.len() <= 200, "no more than was in flight: {}", account.in_doubt.len());
    for why in account.in_doubt.values() {
        assert!(why.contains("the connection was lost during the commit"), "{why}");
    }
}

/// Goal: with once_by, every row is there exactly once. Method: as above, three times in a row.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a PostgreSQL server: tests/run.sh starts one"]
async fn a_killed_server_costs_nothing_where_once_was_asked_for() {
    let server = Arc::new(Server::start(&[]));
    let db = Db::on(&server.url()).await;
    let sink = Postgres::url(db.url()).open(mapping().once_by("id").create_if_missing()).await.unwrap();
    let batcher = account::batcher(sink).idempotent();
    let account = account::run(batcher, 0..10_000, async || {
        for _ in 0..3 {
            killed_midway(server.clone()).await;
        }
    })
    .await;
    let db = Db { client: crate::connect(&db.url()).await, ..db };
    account.agrees_with(&db).await;
    assert_eq!(account.delivered.len(), 10_000, "{:?} {:?}", account.refused, account.in_doubt);
}

/// Goal: a server that is down is an outage, and accepted rows are there when it is back. Method: killed while idle.
#[tokio::test]
#[ignore = "needs a PostgreSQL server: tests/run.sh starts one"]
async fn a_server_that_is_down_is_waited_for() {
    let server = Server::start(&[]);
    let db = Db::on(&server.url()).await;
    let sink = Postgres::url(db.url()).open(keyed()).await.unwrap();
    assert!(write(&sink, trades(0..300)).await.is_empty());
    server.kill();
    for _ in 0..2 {
        let (kind, said) = fail(&sink, trades(300..303)).await;
        assert_eq!(kind, ErrorKind::Outage, "{said}");
        assert!(said.contains("no connection to the server, nothing was written"), "{said}");
    }
    server.up();
    assert!(write(&sink, trades(300..303)).await.is_empty());
    let db = Db { client: crate::connect(&db.url()).await, ..db };
    assert_eq!(db.ids().await, (0..303).collect::<Vec<_>>());
}

/// Goal: a commit whose answer is lost is in doubt, and nothing else is. Method: a constraint that is checked in the
/// COMMIT waits for a lock, and the session is ended or the server killed meanwhile.
#[tokio::test]
#[ignore = "needs a PostgreSQL server: tests/run.sh starts one"]
async fn a_commit_without_an_answer_is_in_doubt() {
    let server = Server::start(&[]);
    let db = Db::on(&server.url()).await;
    db.execute(
        "CREATE TABLE trades (id bigint, symbol text, price numeric); CREATE TABLE gate (x int);
         CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS
             $$ BEGIN PERFORM count(*) FROM gate; RETURN NULL; END $$;
         CREATE CONSTRAINT TRIGGER wait AFTER INSERT ON trades DEFERRABLE INITIALLY DEFERRED
             FOR EACH ROW EXECUTE FUNCTION wait()",
    )
    .await;
    let sink = Postgres::url(db.named_url("")).open(mapping()).await.unwrap();
    let other = db.other().await;
    other.batch_execute("BEGIN; LOCK TABLE gate").await.unwrap();
    for kill in [false, true] {
        let end = async {
            let pid = db.session("COMMIT", "wait_event_type = 'Lock'").await;
            if kill {
                server.kill();
            } else {
                db.execute(&format!("SELECT pg_terminate_backend({pid})")).await;
            }
        };
        let ((kind, said), ()) = tokio::join!(fail(&sink, trades(0..3)), end);
        assert_eq!(kind, ErrorKind::Ambiguous, "{said}");
        assert!(said.contains("the connection was lost during the commit, the batch may have landed"), "{said}");
    }
    server.up();
    assert!(write(&sink, trades(3..6)).await.is_empty());
    let db = Db { client: crate::connect(&db.url()).await, ..db };
    assert_eq!(db.ids().await, [3, 4, 5], "as it happens, neither has landed");
}
