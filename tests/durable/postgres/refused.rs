//! Databases that a log is not joined in, and settings that are refused.

use super::{server::Server, *};

async fn refusal(engine: PostgreSql) -> String {
    match try_join(engine, 1, None).await {
        Ok(_) => panic!("it was joined"),
        Err(error) => error.to_string(),
    }
}

/// Goal: a database that can't keep the promises of a log is refused, with the reason. Method: each reason, once.
#[tokio::test]
#[ignore = "needs a PostgreSQL server: tests/run.sh starts one"]
async fn what_can_not_be_a_log_is_refused() {
    let server = Server::start(&["fsync = off"]);
    let why = refusal(Place::on(&server.url()).await.engine()).await;
    assert!(why.contains("the server runs with fsync = off"), "{why}");
    drop(server);
    assert!(matches!(try_join(PostgreSql::at("postgres://127.0.0.1:1"), 1, None).await, Err(JoinError::Open(_))));

    let place = Place::new().await;
    for lease in [Duration::from_millis(199), Duration::from_secs(61)] {
        assert!(refusal(place.engine().lease(lease)).await.contains("a lease is from 200ms to 60s"));
    }
    join(&place, 1).await.leave().await.unwrap();
    let other = try_join(place.engine(), 2, None).await;
    assert!(matches!(other, Err(JoinError::Shards { has: 1, wanted: 2 })));
    place.execute("UPDATE roundlot_meta SET value = 7 WHERE key = 'frames_format'").await;
    let why = refusal(place.engine()).await;
    assert!(why.contains("the frames have format 7"), "{why}");
    place.execute("UPDATE roundlot_meta SET value = 2 WHERE key = 'frames_format'").await;
    // Nothing was changed by what was refused.
    join(&place, 1).await.leave().await.unwrap();
    assert_eq!(place.number("SELECT count(*) FROM roundlot_members").await, 0);
}

/// Goal: a log is of the database or of a file, and stays so. Method: both, under one name, in either order.
#[cfg(feature = "durable-file")]
#[tokio::test]
#[ignore = "needs a PostgreSQL server: tests/run.sh starts one"]
async fn a_log_of_a_file_is_not_one_of_the_database() {
    use roundlot::durable::File;

    let folder = tempfile::tempdir().unwrap();
    let try_file = async |place: &Place, name: &str| {
        let file = File::at(folder.path().join(name)).ledger(&place.url);
        let sink = |_| roundlot::sink_fn(|batch: &mut Batch<i64>| Box::pin(async move { Ok(batch.accept_all()) }));
        Durable::new("orders", file).sink(sink).join().await
    };
    let place = Place::new().await;
    join(&place, 1).await.leave().await.unwrap();
    let Err(error) = try_file(&place, "first.db").await else { panic!("it was joined") };
    assert!(error.to_string().contains("has its frames in the database"), "{error}");
    let place = Place::new().await;
    try_file(&place, "second.db").await.unwrap().leave().await.unwrap();
    let why = refusal(place.engine()).await;
    assert!(why.contains("has its frames in a file"), "{why}");
}

/// Goal: acceptance is synced, whatever the server's default. Method: the setting as a deferred trigger on frames sees it.
#[tokio::test]
#[ignore = "needs a PostgreSQL server: tests/run.sh starts one"]
async fn acceptance_is_synced() {
    let server = Server::start(&["synchronous_commit = off"]);
    let place = Place::on(&server.url()).await;
    join(&place, 1).await.leave().await.unwrap();
    place
        .execute(
            "CREATE TABLE seen (setting text); CREATE FUNCTION look() RETURNS trigger LANGUAGE plpgsql SET search_path FROM \
             CURRENT AS $$ BEGIN INSERT INTO seen VALUES (current_setting('synchronous_commit')); RETURN NULL; END $$; \
             CREATE CONSTRAINT TRIGGER look AFTER INSERT ON roundlot_frames DEFERRABLE INITIALLY DEFERRED FOR EACH ROW \
             EXECUTE FUNCTION look()",
        )
        .await;
    let orders = join(&place, 1).await;
    orders.handle().submit(1).await.unwrap().await.unwrap();
    orders.leave().await.unwrap();
    assert_eq!(place.number("SELECT count(*) FROM seen WHERE setting = 'on'").await, 1);
}
