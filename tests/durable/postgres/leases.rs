//! Leases: who has them, and who is thrown out.

use roundlot::durable::OpStatus;

use super::*;

/// Goal: a term whose lease is gone ends, and the shard is led on, with nothing lost or doubled. Method: the row is changed by hand.
#[tokio::test]
#[ignore = "needs a PostgreSQL server: tests/run.sh starts one"]
async fn a_lease_that_is_lost_ends_the_term() {
    let place = Place::new().await;
    let orders = join(&place, 1).await;
    let desk = orders.handle();
    for i in 0..3 {
        desk.submit(i).await.unwrap().await.unwrap();
        let terms = desk.stats().terms;
        place.execute("UPDATE roundlot_leases SET holder = 99").await;
        desk.submit(10 + i).await.unwrap().await.unwrap();
        until(|| desk.stats().terms > terms && desk.is_leading()).await;
    }
    desk.flush().await.unwrap();
    assert_eq!(place.landed().await, [0, 10, 1, 11, 2, 12]);
    assert!(place.number("SELECT epoch FROM roundlot_shards").await >= 4);
    conserved(&orders.leave().await.unwrap());
    assert_eq!(place.number("SELECT count(*) FROM roundlot_members").await, 0);
    assert_eq!(place.number("SELECT max(holder) FROM roundlot_leases").await, 0);
}

/// Goal: it is known at last that an op of a dead process was never accepted, and not before its process is removed. Method: a process
/// that is killed, and whose row is made an hour old by hand.
#[tokio::test]
#[ignore = "needs a PostgreSQL server: tests/run.sh starts one"]
async fn a_dead_process_is_removed_after_an_hour() {
    let place = Place::new().await;
    let orders = join(&place, 1).await;
    let mut node = Node::start(&place, 1).await;
    let never_sent = node.joined().handle().next_id(&1);
    assert!(matches!(orders.handle().outcome(never_sent).await.unwrap(), OpStatus::NotYetKnown));
    node.kill();
    let dead = never_sent.producer();
    place.execute("CREATE TABLE renewals AS SELECT producer, revision FROM roundlot_members").await;
    // Long enough for its silence to be observed.
    place
        .until("SELECT 1 FROM roundlot_members m JOIN renewals r USING (producer) WHERE m.revision > r.revision + 10")
        .await;
    assert!(matches!(orders.handle().outcome(never_sent).await.unwrap(), OpStatus::NotYetKnown));
    let age = format!("UPDATE roundlot_members SET renewed_at = now() - interval '2 hours' WHERE producer = {dead}");
    place.execute(&age).await;
    place.until(&format!("SELECT 1 FROM roundlot_members HAVING bool_and(producer <> {dead})")).await;
    loop {
        match orders.handle().outcome(never_sent).await.unwrap() {
            OpStatus::NeverAccepted => break,
            OpStatus::NotYetKnown => tokio::time::sleep(Duration::from_millis(10)).await,
            other => panic!("{other:?}"),
        }
    }
    orders.leave().await.unwrap();
}

/// Goal: a process that was removed stores and records nothing any more, and its callers learn it. Method: its row is deleted by hand.
#[tokio::test]
#[ignore = "needs a PostgreSQL server: tests/run.sh starts one"]
async fn a_process_that_was_removed_stores_nothing() {
    let place = Place::new().await;
    let orders = join(&place, 1).await;
    let desk = orders.handle();
    desk.submit(1).await.unwrap().await.unwrap();
    place.execute("DELETE FROM roundlot_members").await;
    assert!(desk.send(2).await.is_err());
    assert_eq!(place.number("SELECT next FROM roundlot_tails").await, 1);
    let other = join(&place, 1).await;
    other.handle().submit(3).await.unwrap().await.unwrap();
    assert_eq!(place.landed().await, [1, 3]);
    orders.leave().await.unwrap();
    other.leave().await.unwrap();
}

/// Goal: a process that has nothing to do sends one statement per renewal, whatever the number of shards. Method: the server's log of
/// statements while twenty renewals go by.
#[tokio::test]
#[ignore = "needs a PostgreSQL server: tests/run.sh starts one"]
async fn an_idle_process_renews_and_does_no_more() {
    let server = server::Server::start(&["log_statement = all"]);
    let place = Place::on(&server.url()).await;
    let orders = join(&place, 8).await;
    orders.handle().submit(1).await.unwrap().await.unwrap();
    orders.handle().flush().await.unwrap();
    place.until("SELECT 1 FROM roundlot_members WHERE revision > 10").await;
    place.execute("SELECT 'it begins'").await;
    place.until("SELECT 2 FROM roundlot_members WHERE revision > 30").await;
    place.execute("SELECT 'it ends'").await;
    let log = std::fs::read_to_string(server.path().join("log")).unwrap();
    let (_, idle) = log.split_once("it begins").unwrap();
    let (idle, _) = idle.split_once("it ends").unwrap();
    let is_statement = |line: &&str| line.contains("statement: ") || line.contains("execute ");
    let (renewals, others): (Vec<&str>, Vec<&str>) =
        idle.lines().filter(is_statement).partition(|line| line.contains("SET revision = revision + 1"));
    let others: Vec<&str> =
        others.into_iter().filter(|line| !line.contains("SELECT 2 FROM") && !line.contains("SELECT '")).collect();
    assert!(others.is_empty(), "besides {} renewals: {others:#?}", renewals.len());
    assert!((15..=25).contains(&renewals.len()), "{}", renewals.len());
    orders.leave().await.unwrap();
}

/// Goal: a process has a session for each shard that it leads, and none for those that it has given up or only paused. Method: shards
/// that are handed over to a second process, and pauses by the one that follows.
#[tokio::test]
#[ignore = "needs a PostgreSQL server: tests/run.sh starts one"]
async fn sessions_end_with_the_lead() {
    let place = Place::new().await;
    let first = join(&place, 6).await;
    let send = async |joined: &Joined<i64, i64>| {
        joined.handle().send_all(0..64).await.unwrap();
        joined.handle().flush().await.unwrap();
    };
    send(&first).await;
    let second = join(&place, 6).await;
    until(|| (first.stats().leading, second.stats().leading) == (3, 3)).await;
    send(&second).await;
    for joined in [&first, &second] {
        joined.handle().pause().await.unwrap();
        joined.handle().resume().await.unwrap();
    }
    send(&first).await;
    // Five of each process besides.
    place.until("SELECT 1 FROM pg_stat_activity WHERE application_name = current_schema() HAVING count(*) <= 16").await;
    first.leave().await.unwrap();
    second.leave().await.unwrap();
}
