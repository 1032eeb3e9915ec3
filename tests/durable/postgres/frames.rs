//! Frames on their way into the log: their order, what they wait for and what not, and what is left of them.

use super::*;

/// Goal: ops of each process keep their order, whoever leads, and each is stored once. Method: two processes that send at the same time.
#[tokio::test]
#[ignore = "needs a PostgreSQL server: tests/run.sh starts one"]
async fn frames_of_two_processes_keep_their_order() {
    let place = Place::new().await;
    let (first, second) = (join(&place, 1).await, join(&place, 1).await);
    let send = async |joined: &Joined<i64, i64>, from: i64| {
        for i in from..from + 100 {
            joined.handle().send(i).await.unwrap();
        }
        joined.handle().send_all(from + 100..from + 400).await.unwrap();
        assert!(joined.handle().flush().await.unwrap().is_ok());
    };
    tokio::join!(send(&first, 0), send(&second, 1000));
    let landed = place.landed().await;
    let of = |from: i64| landed.iter().copied().filter(|op| (from..from + 400).contains(op)).collect::<Vec<_>>();
    // Ops of one partition are in order; the partition is the op modulo 16.
    for from in [0, 1000] {
        assert_eq!(of(from).len(), 400);
        for partition in 0..16 {
            let ops: Vec<i64> = of(from).into_iter().filter(|op| op % 16 == partition).collect();
            assert!(ops.is_sorted(), "{ops:?}");
        }
    }
    assert_eq!(place.number("SELECT next FROM roundlot_tails").await, 800);
    conserved(&first.leave().await.unwrap());
    conserved(&second.leave().await.unwrap());
    assert_eq!(place.number("SELECT count(*) FROM roundlot_outcomes WHERE ended <> 'delivered'").await, 0);
}

/// Goal: a transaction of a sink that takes long holds up no acceptance, in any process. Method: a sink that waits for a lock, and
/// what is sent meanwhile.
#[tokio::test]
#[ignore = "needs a PostgreSQL server: tests/run.sh starts one"]
async fn acceptance_does_not_wait_for_a_sink() {
    let place = Place::new().await;
    let (first, second) = (join(&place, 1).await, join(&place, 1).await);
    let other = connect(&place.url).await;
    other.batch_execute("BEGIN; LOCK TABLE landed").await.unwrap();
    first.handle().send(1).await.unwrap();
    // The sink may be told that it takes too long, and tries again.
    let waits = "SELECT 1 FROM pg_locks WHERE NOT granted AND relation = 'landed'::regclass";
    place.until(waits).await;
    for i in 2..20 {
        first.handle().send(i).await.unwrap();
        second.handle().send(100 + i).await.unwrap();
    }
    assert_eq!(place.number("SELECT next FROM roundlot_tails").await, 37);
    place.until(waits).await;
    other.batch_execute("ROLLBACK").await.unwrap();
    first.handle().flush().await.unwrap();
    second.handle().flush().await.unwrap();
    assert_eq!(place.landed().await.len(), 37);
    first.leave().await.unwrap();
    second.leave().await.unwrap();
}

/// Goal: frames of settled ops go, and their bytes are free. Method: ops that were sent, after a flush and after a restart.
#[tokio::test]
#[ignore = "needs a PostgreSQL server: tests/run.sh starts one"]
async fn settled_frames_are_removed() {
    let place = Place::new().await;
    let orders = join(&place, 4).await;
    orders.handle().pause().await.unwrap();
    orders.handle().send_all(0..90).await.unwrap();
    assert!(place.number("SELECT sum(bytes)::bigint FROM roundlot_tails").await > 0);
    orders.handle().resume().await.unwrap();
    orders.handle().flush().await.unwrap();
    place.until("SELECT 1 FROM roundlot_tails HAVING sum(bytes) = 0").await;
    assert_eq!(place.number("SELECT count(*) FROM roundlot_frames").await, 0);
    assert_eq!(place.number("SELECT count(*) FROM roundlot_settled").await, 0);
    orders.leave().await.unwrap();
    // Frames that a process has left behind when it died are removed by the next term.
    let stale = "INSERT INTO roundlot_frames SELECT log, shard, 0, 1, 'stale', 0 FROM roundlot_tails WHERE next > 0";
    place.execute(&format!("{stale}; UPDATE roundlot_tails SET bytes = 105 WHERE next > 0")).await;
    let orders = join(&place, 4).await;
    place.until("SELECT 1 FROM roundlot_tails HAVING sum(bytes) = 0").await;
    assert_eq!(place.number("SELECT count(*) FROM roundlot_frames").await, 0);
    orders.leave().await.unwrap();
}

/// Goal: a frame whose commit has no known result is stored once, and its caller learns that it is. Method: the session is ended in the
/// COMMIT, which a deferred constraint holds up.
#[tokio::test]
#[ignore = "needs a PostgreSQL server: tests/run.sh starts one"]
async fn a_frame_without_an_answer_comes_again() {
    let place = Place::new().await;
    let orders = join(&place, 1).await;
    let gate = "CREATE TABLE gate (x int); \
        CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS \
            $$ BEGIN PERFORM count(*) FROM gate; RETURN NULL; END $$; \
        CREATE CONSTRAINT TRIGGER wait AFTER INSERT ON roundlot_frames DEFERRABLE INITIALLY DEFERRED FOR EACH ROW \
        EXECUTE FUNCTION wait()";
    place.execute(gate).await;
    let other = connect(&place.url).await;
    other.batch_execute("BEGIN; LOCK TABLE gate").await.unwrap();
    let desk = orders.handle();
    let sending = tokio::spawn(async move { desk.submit(1).await.unwrap().await.unwrap() });
    let waits = "SELECT pid FROM pg_stat_activity WHERE query = 'COMMIT' AND wait_event_type = 'Lock' \
        AND application_name = current_schema()";
    let pid = place.until(waits).await;
    place.execute(&format!("SELECT pg_terminate_backend({pid})")).await;
    // The frame comes again, and waits in the COMMIT as well.
    place.until(&format!("{waits} AND pid <> {pid}")).await;
    other.batch_execute("ROLLBACK").await.unwrap();
    assert_eq!(sending.await.unwrap(), 10);
    assert_eq!(place.landed().await, [1]);
    assert_eq!(place.number("SELECT next FROM roundlot_tails").await, 1);
    orders.leave().await.unwrap();
}

/// Goal: frames of settled ops go, however many there are, and after a failure without another record. Method: more frames than one
/// statement removes, from an earlier process, and a trigger that refuses to delete them until it is dropped.
#[tokio::test]
#[ignore = "needs a PostgreSQL server: tests/run.sh starts one"]
async fn a_removal_that_fails_is_tried_again() {
    let place = Place::new().await;
    let orders = join(&place, 1).await;
    orders.handle().send_all(0..6000).await.unwrap();
    orders.handle().flush().await.unwrap();
    place.until("SELECT 1 FROM roundlot_tails HAVING sum(bytes) = 0").await;
    orders.leave().await.unwrap();
    let stale = "INSERT INTO roundlot_frames SELECT log, shard, first, 1, 'stale', 0 \
        FROM roundlot_tails, generate_series(0, 5999) AS r(first); UPDATE roundlot_tails SET bytes = 6000 * 105; \
        CREATE SEQUENCE attempts; CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS \
            $$ BEGIN PERFORM nextval('attempts'); RAISE EXCEPTION 'not now'; END $$; \
        CREATE TRIGGER refuse BEFORE DELETE ON roundlot_frames EXECUTE FUNCTION refuse()";
    place.execute(stale).await;
    let orders = join(&place, 1).await;
    place.until("SELECT 1 FROM attempts WHERE is_called").await;
    assert_eq!(place.number("SELECT count(*) FROM roundlot_frames").await, 6000);
    place.execute("DROP TRIGGER refuse ON roundlot_frames").await;
    place.until("SELECT 1 FROM roundlot_tails HAVING sum(bytes) = 0").await;
    assert_eq!(place.number("SELECT count(*) FROM roundlot_frames").await, 0);
    orders.leave().await.unwrap();
}
