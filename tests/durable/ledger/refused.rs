//! Logs and servers that a ledger refuses, and statements that a sink may not run in its transaction.

use super::*;

async fn refusal(file: File) -> String {
    match try_join(file, None).await {
        Ok(_) => panic!("it was joined"),
        Err(error) => error.to_string(),
    }
}

/// Goal: a server that loses what it has confirmed is refused, and one that does not wait for its disk by default is told to. Method:
/// a server with either setting.
#[tokio::test]
#[ignore = "needs a PostgreSQL server: tests/run.sh starts one"]
async fn a_server_that_does_not_sync_is_refused() {
    let server = server::Server::start(&["fsync = off"]);
    let place = Place::on(&server.url()).await;
    let why = refusal(place.file()).await;
    assert!(why.contains("the log can't be used: the ledger: the server runs with fsync = off"), "{why}");
    drop(server);

    let server = server::Server::start(&["synchronous_commit = off"]);
    let place = Place::on(&server.url()).await;
    // As a deferred trigger sees it, the setting is that of the commit.
    place
        .execute(
            "CREATE TABLE seen (setting text); CREATE FUNCTION look() RETURNS trigger LANGUAGE plpgsql SET search_path FROM \
             CURRENT AS $$ BEGIN INSERT INTO seen VALUES (current_setting('synchronous_commit')); RETURN NULL; END $$; \
             CREATE CONSTRAINT TRIGGER look AFTER INSERT ON landed DEFERRABLE INITIALLY DEFERRED FOR EACH ROW \
             EXECUTE FUNCTION look()",
        )
        .await;
    let orders = try_join(place.file(), Some("SET LOCAL synchronous_commit = off")).await.unwrap();
    orders.joined.handle().submit(1).await.unwrap().await.unwrap();
    orders.joined.handle().submit(2).await.unwrap().await.unwrap();
    orders.joined.leave().await.unwrap();
    assert_eq!(place.numbers("SELECT count(*) FROM seen WHERE setting = 'on'").await, [2]);
}

/// Goal: file and ledger are known to belong together. Method: each of them without the other, with another one, and older than it
/// was.
#[tokio::test]
#[ignore = "needs a PostgreSQL server: tests/run.sh starts one"]
async fn a_log_without_its_ledger_is_refused() {
    let place = Place::new().await;
    let orders = join(&place).await;
    orders.joined.handle().submit(1).await.unwrap().await.unwrap();
    orders.joined.leave().await.unwrap();

    let why = refusal(File::at(place.path())).await;
    assert!(why.contains("it is settled by a ledger, and was joined without one"), "{why}");
    let why = refusal(File::at(place.folder.path().join("other.db")).ledger(&place.url)).await;
    assert!(why.contains("the ledger named orders is that of another log"), "{why}");
    let other = Place::new().await;
    let why = refusal(File::at(place.path()).ledger(&other.url)).await;
    assert!(why.contains("the database has no ledger named orders, and had one"), "{why}");
    let alone = other.folder.path().join("alone.db");
    try_join(File::at(&alone), None).await.unwrap().joined.leave().await.unwrap();
    let why = refusal(File::at(&alone).ledger(&other.url)).await;
    assert!(why.contains("it was made without one, and settles itself"), "{why}");
    let shards = Durable::new("orders", place.file()).shards(2, |key: &i64| key.to_le_bytes());
    let stages = || roundlot::Stages::new().partition_by(|op: &i64| *op);
    let sink = |_| roundlot::sink_fn(|batch: &mut Batch<i64>| Box::pin(async move { Ok(batch.accept_all()) }));
    assert!(matches!(shards.stages(stages).sink(sink).join().await, Err(JoinError::Shards { has: 1, wanted: 2 })));
    let away = File::at(place.folder.path().join("away.db")).ledger("postgres://127.0.0.1:1");
    assert!(matches!(try_join(away, None).await, Err(JoinError::Open(_))));

    // A backup of the database, in the place of it.
    place.execute("CREATE TABLE backup AS SELECT * FROM roundlot_shards").await;
    let orders = join(&place).await;
    orders.joined.handle().submit(2).await.unwrap().await.unwrap();
    orders.joined.leave().await.unwrap();
    place.execute("DELETE FROM roundlot_shards; INSERT INTO roundlot_shards SELECT * FROM backup").await;
    let why = refusal(place.file()).await;
    assert!(why.contains("the ledger is older than the log"), "{why}");

    place.execute("UPDATE roundlot_meta SET value = 9").await;
    let why = refusal(place.file()).await;
    assert!(why.contains("the ledger has format 9"), "{why}");
}

/// Goal: a sink can't end the transaction of the log unnoticed, nor go on behind an error. Nothing of such a run is settled, and its
/// op ends by the next. Method: each statement, once.
#[tokio::test]
#[ignore = "needs a PostgreSQL server: tests/run.sh starts one"]
async fn a_sink_may_not_end_the_transaction() {
    // The rows before a COMMIT stay, which is why it must not be there.
    for (statement, landed) in
        [("ROLLBACK", 1), ("COMMIT", 2), ("COMMIT; BEGIN", 2), ("ROLLBACK; BEGIN", 1), ("SELECT 1 / 0", 1)]
    {
        let place = Place::new().await;
        let orders = try_join(place.file(), Some(statement)).await.unwrap();
        let ack = orders.joined.handle().submit(7).await.unwrap();
        let id = ack.id();
        let ended = ack.await;
        assert_eq!(orders.errors.lock().unwrap().len(), 1, "{statement}");
        let OpStatus::Ended(outcome) = orders.joined.handle().outcome(id).await.unwrap() else { panic!("{statement}") };
        if statement == "SELECT 1 / 0" {
            assert_eq!((ended.unwrap(), outcome.attempts), (70, 2), "{statement}");
            assert_eq!(place.landed().await.len(), landed, "{statement}");
        } else {
            let Err(AckError::Refused(error)) = ended else { panic!("{statement}: {ended:?}") };
            assert!(error.chain().contains("the sink has ended the transaction of the log"), "{}", error.chain());
            assert_eq!((outcome.end, place.landed().await.len()), (End::Refused, landed - 1), "{statement}");
        }
        orders.joined.leave().await.unwrap();
        assert_eq!(place.numbers("SELECT sum(count) FROM roundlot_outcomes").await, [1], "{statement}");
    }
}
