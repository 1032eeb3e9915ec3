//! Tests of the server's limits for time, memory and temporary files. A batch beyond them is halved, and only a row
//! that exceeds them by itself is given up.

use roundlot::{Batcher, ErrorKind, Limits, Retry, sink::postgres::Postgres};

use crate::{Db, account, db, fail, mapping, server::Server, trades};

/// Makes each row take 0.2 seconds, and those of a multiple of 100 a second.
const SLOW: &str = "CREATE TABLE trades (id bigint, symbol text, price numeric);
    CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN PERFORM pg_sleep(CASE WHEN new.id % 100 = 0 THEN 1 ELSE 0.2 END); RETURN new; END $$;
    CREATE TRIGGER slow BEFORE INSERT ON trades FOR EACH ROW EXECUTE FUNCTION slow()";

fn retry() -> Retry {
    let ms = std::time::Duration::from_millis(1);
    Retry::exponential(ms, ms).max_attempts(2)
}

/// Goal: rows that are in time by themselves all land, and no other row. Method: a batch that takes longer than the
/// limit, by each way, with one row that exceeds the limit in any batch.
#[tokio::test]
#[ignore = "needs a PostgreSQL server: tests/run.sh starts one"]
async fn a_batch_that_is_out_of_time_is_halved() {
    for from in [usize::MAX, 1] {
        let db = db().await;
        db.execute(SLOW).await;
        let settings = Postgres::url(db.url_with("-cstatement_timeout=700ms")).copy_from(from);
        let sink = settings.open(mapping()).await.unwrap();
        let linger = std::time::Duration::from_secs(60);
        let batcher = Batcher::new(sink).limits(Limits::new(4).linger(linger)).retry(retry());
        let account = account::run(batcher, 97..101, async || {}).await;
        account.agrees_with(&db).await;
        assert_eq!(db.ids().await, [97, 98, 99]);
        assert!(account.refused[&100].contains("out of time, nothing was written"), "{account:?}");
    }
}

/// Goal: the error tells which batch is halved and which is tried again as it is. Method: several rows and one, each
/// out of time; and several whose statement a user cancels.
#[tokio::test]
#[ignore = "needs a PostgreSQL server: tests/run.sh starts one"]
async fn a_timeout_of_one_row_and_a_cancel_by_a_user_are_transient() {
    let db = db().await;
    db.execute(SLOW).await;
    let sink = Postgres::url(db.url_with("-cstatement_timeout=300ms")).open(mapping()).await.unwrap();
    let (kind, said) = fail(&sink, trades(1..5)).await;
    assert_eq!(kind, ErrorKind::TooLarge, "{said}");
    assert!(said.contains("out of time, nothing was written: canceling statement due to statement timeout"), "{said}");
    let (kind, said) = fail(&sink, trades(100..101)).await;
    assert_eq!(kind, ErrorKind::Transient, "{said}");

    let sink = Postgres::url(db.named_url("")).open(mapping()).await.unwrap();
    let cancel = async {
        let pid = db.session("%unnest%", "state = 'active'").await;
        db.execute(&format!("SELECT pg_cancel_backend({pid})")).await;
    };
    let ((kind, said), ()) = tokio::join!(fail(&sink, trades(100..103)), cancel);
    assert_eq!(kind, ErrorKind::Transient, "{said}");
    assert!(said.contains("due to user request"), "{said}");
    assert!(db.ids().await.is_empty());
}

/// Goal: a server without locks for all the partitions of a batch takes it in parts. Method: one that has hardly any.
#[tokio::test]
#[ignore = "needs a PostgreSQL server: tests/run.sh starts one"]
async fn a_batch_beyond_the_memory_for_locks_is_halved() {
    let few = ["max_connections = 5", "max_locks_per_transaction = 10", "max_wal_senders = 0", "fsync = off"];
    let server = Server::start(&few);
    let db = Db::on(&server.url()).await;
    db.execute("CREATE TABLE trades (id bigint, symbol text, price numeric) PARTITION BY LIST (id)").await;
    for id in 0..1500 {
        db.execute(&format!("CREATE TABLE p{id} PARTITION OF trades FOR VALUES IN ({id})")).await;
    }
    let sink = Postgres::url(db.url()).open(mapping()).await.unwrap();
    let (kind, said) = fail(&sink, trades(0..1500)).await;
    assert_eq!(kind, ErrorKind::TooLarge, "{said}");
    assert!(said.contains("the server is out of memory, nothing was written"), "{said}");
    let ms = std::time::Duration::from_millis;
    let patient = Retry::exponential(ms(20), ms(200)).max_attempts(1000);
    let batcher = Batcher::new(sink).limits(Limits::new(1500).linger(ms(60_000))).retry(patient);
    let account = account::run(batcher, 0..1500, async || {}).await;
    assert_eq!(account.delivered.len(), 1500, "{:?} {:?}", account.refused, account.in_doubt);
    // A query of all partitions at once would exceed the server's locks, too.
    for partition in ["p0", "p750", "p1499"] {
        assert_eq!(db.query(&format!("SELECT count(*) FROM {partition}")).await, ["1"]);
    }
}
