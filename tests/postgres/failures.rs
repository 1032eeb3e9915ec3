//! Tests of failures of single batches: sessions ended from outside, limits, deadlocks, read-only times. Nothing of the
//! batch lands, it is retried, and the next one goes on.

use roundlot::{ErrorKind, sink::postgres::Postgres};

use crate::{Db, account, db, fail, keyed, mapping, named, server::Server, trade, trades, write};

/// The processes of the sink's sessions.
async fn processes(db: &Db) -> Vec<String> {
    db.query(&format!("SELECT pid FROM pg_stat_activity WHERE application_name = '{}'", db.schema)).await
}

/// Goal: a session that is ended in mid-batch is replaced, and no row is lost or written twice. Method: the batch waits
/// for a lock when its session is ended.
#[tokio::test]
#[ignore = "needs a PostgreSQL server: tests/run.sh starts one"]
async fn a_terminated_connection_is_an_outage_and_replaced() {
    for from in [usize::MAX, 1] {
        let db = db().await;
        let sink = Postgres::url(db.named_url("")).copy_from(from).open(keyed()).await.unwrap();
        let other = db.other().await;
        other.batch_execute("BEGIN; INSERT INTO trades VALUES (99, 'other', 0)").await.unwrap();
        let ended = async {
            let pid = db.session("%trades%", "wait_event_type = 'Lock'").await;
            db.execute(&format!("SELECT pg_terminate_backend({pid})")).await;
            pid.to_string()
        };
        let ((kind, said), pid) = tokio::join!(fail(&sink, trades(0..300)), ended);
        assert_eq!(kind, ErrorKind::Outage, "{said}");
        assert!(said.contains("nothing was written"), "{said}");
        other.batch_execute("ROLLBACK").await.unwrap();
        assert!(db.ids().await.is_empty());
        assert!(write(&sink, trades(0..300)).await.is_empty(), "on a new connection");
        assert_eq!(db.ids().await.len(), 300);
        let now = processes(&db).await;
        assert!(now.len() == 1 && now[0] != pid, "{pid} {now:?}");
    }
}

/// Goal: a load bears the end of its sessions. Method: all of them are ended, again and again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a PostgreSQL server: tests/run.sh starts one"]
async fn sessions_that_end_under_load_cost_nothing() {
    let db = db().await;
    let sink = Postgres::url(db.named_url("")).open(mapping().once_by("id").create_if_missing()).await.unwrap();
    let batcher = account::batcher(sink).idempotent();
    let account = account::run(batcher, 0..6000, async || {
        let end = format!(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name = '{}'",
            db.schema
        );
        let mut ended = 0;
        for _ in 0..20 {
            ended += db.query(&end).await[0].parse::<u32>().unwrap();
        }
        assert!(ended > 0, "there were none to end");
    })
    .await;
    account.agrees_with(&db).await;
    assert_eq!(account.delivered.len(), 6000, "{:?} {:?}", account.refused, account.in_doubt);
}

/// Goal: an idle connection that broke is not used. Method: it is ended between two batches.
#[tokio::test]
#[ignore = "needs a PostgreSQL server: tests/run.sh starts one"]
async fn a_connection_that_broke_while_idle_costs_no_write() {
    let db = db().await;
    let sink = Postgres::url(db.named_url("")).open(keyed()).await.unwrap();
    for i in 0..3 {
        assert!(write(&sink, vec![trade(i)]).await.is_empty());
        let pid = db.session("%", "state = 'idle'").await;
        db.execute(&format!("SELECT pg_terminate_backend({pid})")).await;
        db.until(&format!("SELECT 1 WHERE NOT EXISTS (SELECT FROM pg_stat_activity WHERE pid = {pid})")).await;
        // The end of the session takes a moment to arrive; on loopback that is no more than a turn of the runtime.
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    assert_eq!(db.ids().await, [0, 1, 2]);
}

/// Goal: a batch that takes too long lands later and once, on the same connection; with a limit on the statement, in parts
/// that may take less. Method: the server's limit passes while a lock is waited for.
#[tokio::test]
#[ignore = "needs a PostgreSQL server: tests/run.sh starts one"]
async fn a_statement_that_is_out_of_time_lands_later() {
    use ErrorKind::{TooLarge, Transient};
    for (setting, from, expected, words) in [
        ("-cstatement_timeout=200", usize::MAX, TooLarge, "canceled or out of time"),
        ("-cstatement_timeout=200", 1, TooLarge, "canceled or out of time"),
        ("-clock_timeout=200", usize::MAX, Transient, "another transaction holds the lock"),
    ] {
        let db = db().await;
        let sink = Postgres::url(db.named_url(setting)).copy_from(from).open(keyed()).await.unwrap();
        let before = processes(&db).await;
        let other = db.other().await;
        other.batch_execute("BEGIN; INSERT INTO trades VALUES (299, 'other', 0)").await.unwrap();
        let (kind, said) = fail(&sink, trades(0..300)).await;
        assert_eq!(kind, expected, "{said}");
        assert!(said.contains(words) && said.contains("nothing was written"), "{said}");
        assert!(db.ids().await.is_empty());
        other.batch_execute("ROLLBACK").await.unwrap();
        assert!(write(&sink, trades(0..300)).await.is_empty());
        assert_eq!(db.ids().await, (0..300).collect::<Vec<_>>());
        assert_eq!(processes(&db).await, before);
    }
}

/// Goal: the server's limit under load loses nothing. Method: a table that is locked for longer than the limit.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a PostgreSQL server: tests/run.sh starts one"]
async fn time_limits_under_load_cost_nothing() {
    let db = db().await;
    let settings = Postgres::url(db.url_with("-cstatement_timeout=100"));
    let sink = settings.open(mapping().create_if_missing()).await.unwrap();
    let account = account::run(account::batcher(sink), 0..3000, async || {
        let other = db.other().await;
        other.batch_execute("BEGIN; LOCK TABLE trades; SELECT pg_sleep(0.5); COMMIT").await.unwrap();
    })
    .await;
    account.agrees_with(&db).await;
    assert_eq!(account.delivered.len(), 3000, "{:?} {:?}", account.refused, account.in_doubt);
}

/// Goal: the batch after a COPY that did not begin gets its own answers. Method: a table that is locked for longer than the
/// limit, and batches one after another with nothing in between.
#[tokio::test]
#[ignore = "needs a PostgreSQL server: tests/run.sh starts one"]
async fn a_copy_that_does_not_begin_costs_the_next_batch_nothing() {
    let db = db().await;
    let settings = Postgres::url(db.url_with("-clock_timeout=5ms")).copy_from(2);
    let sink = settings.open(mapping().create_if_missing()).await.unwrap();
    let other = db.other().await;
    other.batch_execute("BEGIN; LOCK TABLE trades").await.unwrap();
    for _ in 0..20 {
        let (kind, said) = fail(&sink, trades(0..3)).await;
        assert_eq!(kind, ErrorKind::Transient, "{said}");
        assert!(said.contains("another transaction holds the lock, nothing was written"), "{said}");
    }
    other.batch_execute("COMMIT").await.unwrap();
    assert!(write(&sink, trades(0..3)).await.is_empty());
    assert_eq!(db.ids().await, [0, 1, 2]);
}

/// Goal: a deadlock is transient for the one that the server chooses, and costs no connection. Method: two transactions
/// cross.
#[tokio::test]
#[ignore = "needs a PostgreSQL server: tests/run.sh starts one"]
async fn a_deadlock_is_transient() {
    let db = db().await;
    let sink = Postgres::url(db.named_url("-cdeadlock_timeout=50ms")).open(keyed()).await.unwrap();
    let before = processes(&db).await;
    let other = db.other().await;
    // The other session looks for deadlocks later than the sink does, so the sink's is the one that gives way.
    other
        .batch_execute("SET deadlock_timeout = '60s'; BEGIN; INSERT INTO trades VALUES (2, 'other', 0)")
        .await
        .unwrap();
    let cross = async {
        db.until("SELECT 1 FROM pg_locks WHERE NOT granted AND pid <> pg_backend_pid()").await;
        other.batch_execute("INSERT INTO trades VALUES (1, 'other', 0)").await
    };
    let mut batch = roundlot::Batch::for_test(trades([1, 2]));
    let (written, crossed) = tokio::join!(roundlot::Sink::write(&sink, &mut batch), cross);
    let error = written.map(drop).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Transient);
    assert!(error.chain().contains("a deadlock with another transaction, nothing was written"), "{}", error.chain());
    crossed.unwrap();
    other.batch_execute("ROLLBACK").await.unwrap();
    assert!(write(&sink, trades([1, 2])).await.is_empty());
    assert_eq!(processes(&db).await, before);
}

/// Goal: a transaction that cannot be serialized is tried again. Method: a serializable update of a row that changed.
#[tokio::test]
#[ignore = "needs a PostgreSQL server: tests/run.sh starts one"]
async fn a_serialization_failure_is_transient() {
    let db = db().await;
    let settings = Postgres::url(db.url_with("-cdefault_transaction_isolation=serializable"));
    let table = keyed().on_conflict(roundlot::sink::table::Conflict::Update);
    let sink = settings.open(table).await.unwrap();
    assert!(write(&sink, vec![trade(1)]).await.is_empty());
    let other = db.other().await;
    other.batch_execute("BEGIN; UPDATE trades SET symbol = 'other' WHERE id = 1").await.unwrap();
    let release = async {
        db.until("SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%unnest%'").await;
        other.batch_execute("COMMIT").await.unwrap();
    };
    let ((kind, said), ()) = tokio::join!(fail(&sink, trades(0..3)), release);
    assert_eq!(kind, ErrorKind::Transient, "{said}");
    assert!(said.contains("another transaction was in the way"), "{said}");
    assert!(write(&sink, trades(0..3)).await.is_empty());
}

#[tokio::test]
#[ignore = "needs a PostgreSQL server: tests/run.sh starts one"]
async fn a_read_only_server_is_waited_for() {
    let server = Server::start(&[]);
    let db = Db::on(&server.url()).await;
    let sink = Postgres::url(db.url()).open(keyed()).await.unwrap();
    db.execute("ALTER SYSTEM SET default_transaction_read_only = on").await;
    db.execute("SELECT pg_reload_conf()").await;
    db.until("SELECT 1 WHERE current_setting('default_transaction_read_only') = 'on'").await;
    let (kind, said) = fail_soon(&sink).await;
    assert_eq!(kind, ErrorKind::Outage);
    assert!(said.contains("the server only reads for now, nothing was written"), "{said}");
    db.execute("SET default_transaction_read_only = off").await;
    db.execute("ALTER SYSTEM RESET default_transaction_read_only").await;
    db.execute("SELECT pg_reload_conf()").await;
    let fresh = db.other().await;
    while fresh.query_one("SHOW default_transaction_read_only", &[]).await.unwrap().get::<_, String>(0) == "on" {
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    assert!(write(&sink, trades(1000..1003)).await.is_empty());
}

/// Writes until a write fails: a session sees a change of the configuration between two statements.
async fn fail_soon(sink: &roundlot::sink::postgres::PostgresSink<crate::Trade>) -> (ErrorKind, String) {
    for id in 0..1000 {
        let mut batch = roundlot::Batch::for_test(vec![trade(id)]);
        if let Err(error) = roundlot::Sink::write(sink, &mut batch).await.map(drop) {
            return (error.kind(), error.chain());
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    panic!("it never fails")
}

/// Goal: a server with no connection left is an outage, and waited for. Method: others take all that there are.
#[tokio::test]
#[ignore = "needs a PostgreSQL server: tests/run.sh starts one"]
async fn too_many_connections_are_an_outage() {
    let server = Server::start(&["max_connections = 4", "superuser_reserved_connections = 0", "max_wal_senders = 0"]);
    let db = Db::on(&server.url()).await;
    let sink = Postgres::url(db.url()).open(keyed()).await.unwrap();
    let others = [db.other().await, db.other().await];
    db.execute("BEGIN; LOCK TABLE trades").await;
    let mut held = roundlot::Batch::for_test(trades(0..3));
    let mut holding = std::pin::pin!(roundlot::Sink::write(&sink, &mut held));
    assert!(futures::poll!(&mut holding).is_pending());
    let (kind, said) = fail(&sink, trades(10..13)).await;
    assert_eq!(kind, ErrorKind::Outage, "{said}");
    assert!(said.contains("the server has too many connections"), "{said}");
    let error = Postgres::url(db.url()).open(keyed()).await.unwrap_err();
    assert!(error.chain().contains("too many connections"), "{}", error.chain());
    drop(others);
    db.execute("COMMIT").await;
    holding.await.map(drop).unwrap();
    for _ in 0..1000 {
        let mut batch = roundlot::Batch::for_test(trades(10..13));
        if roundlot::Sink::write(&sink, &mut batch).await.is_ok() {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    assert_eq!(db.ids().await, [0, 1, 2, 10, 11, 12]);
}

/// Goal: a batch that needs more than the server grants is split, and nothing of the whole batch lands. Method: the
/// server may not write large temporary files; a batch under a rule needs them to sort its rows.
#[tokio::test]
#[ignore = "needs a PostgreSQL server: tests/run.sh starts one"]
async fn a_batch_beyond_a_limit_of_the_server_is_too_large() {
    let db = db().await;
    let settings = Postgres::url(db.url_with("-ctemp_file_limit=64kB -cwork_mem=64kB"));
    let sink = settings.open(keyed().on_conflict(roundlot::sink::table::Conflict::Update)).await.unwrap();
    let (kind, said) = fail(&sink, trades(0..4000)).await;
    assert_eq!(kind, ErrorKind::TooLarge, "{said}");
    assert!(said.contains("the batch exceeds a limit of the server, nothing was written"), "{said}");
    assert!(db.ids().await.is_empty());
    assert!(write(&sink, trades(0..100)).await.is_empty());
}

/// Goal: an error is blamed on the destination, the batch or the row, by its code. Method: a trigger raises the code
/// that the first row has for its symbol.
#[tokio::test]
#[ignore = "needs a PostgreSQL server: tests/run.sh starts one"]
async fn the_cause_decides_the_error_kind() {
    let db = db().await;
    db.execute(
        "CREATE TABLE trades (id bigint, symbol text, price numeric);
         CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS
             $$ BEGIN IF NEW.symbol LIKE '_____' THEN RAISE EXCEPTION USING ERRCODE = NEW.symbol; END IF; RETURN NEW; END $$;
         CREATE TRIGGER fail BEFORE INSERT ON trades FOR EACH ROW EXECUTE FUNCTION fail()",
    )
    .await;
    let sink = db.settings().open(mapping()).await.unwrap();
    let destination = ["53100", "53300", "53000", "25006", "57P01", "57P03", "58030", "08006"];
    let batch = ["53200", "53400"];
    let others = ["40001", "40P01", "55P03", "26000", "42P05"];
    let kinds = [(&destination[..], ErrorKind::Outage), (&batch, ErrorKind::TooLarge), (&others, ErrorKind::Transient)];
    for (codes, expected) in kinds {
        for code in codes {
            let (kind, said) = fail(&sink, vec![named(1, code), named(2, "b")]).await;
            assert_eq!(kind, expected, "{said}");
        }
    }
    let (kind, said) = fail(&sink, vec![named(1, "53200")]).await;
    assert_eq!(kind, ErrorKind::Outage, "no row by itself takes all memory: {said}");
    assert!(db.ids().await.is_empty());
    assert_eq!(crate::refused(&write(&sink, vec![named(1, "23505"), named(2, "b"), named(3, "P0001")]).await), [0, 2]);
    assert_eq!(db.ids().await, [2]);
}
