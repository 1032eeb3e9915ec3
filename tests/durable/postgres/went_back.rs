//! Databases that go back to an earlier state, as those of an asynchronous standby server that was promoted do.

use super::{server::Server, *};

/// Tables of the log that each accepted or settled op changes.
const CHANGED: [&str; 5] = ["shards", "tails", "frames", "producers", "outcomes"];

/// Keeps the rows of tables of the log.
async fn save(place: &Place) {
    for table in CHANGED {
        place.execute(&format!("CREATE TABLE saved_{table} AS SELECT * FROM roundlot_{table}")).await;
    }
}

/// Puts these tables back into the state that was kept, in one transaction.
async fn go_back(place: &Place, tables: &[&str]) {
    let back = tables.iter().map(|table| {
        format!("DELETE FROM roundlot_{table}; INSERT INTO roundlot_{table} SELECT * FROM saved_{table}; ")
    });
    place.execute(&format!("BEGIN; {} COMMIT", back.collect::<String>())).await;
}

/// Goal: an op whose settlement is lost takes effect, and so do new ones. Method: a record after the rows went back to when the op was
/// accepted.
#[tokio::test]
#[ignore = "needs a PostgreSQL server: tests/run.sh starts one"]
async fn a_settlement_that_is_lost_is_made_again() {
    let place = Place::new().await;
    let orders = join(&place, 1).await;
    let desk = orders.handle();
    desk.submit(0).await.unwrap().await.unwrap();
    desk.flush().await.unwrap();
    let other = connect(&place.url).await;
    other.batch_execute("BEGIN; LOCK TABLE landed").await.unwrap();
    desk.send(1).await.unwrap();
    save(&place).await;
    other.batch_execute("ROLLBACK").await.unwrap();
    desk.flush().await.unwrap();
    assert_eq!(place.landed().await, [0, 1]);
    place.execute("DELETE FROM landed WHERE op = 1").await;
    go_back(&place, &CHANGED).await;
    desk.submit(2).await.unwrap().await.unwrap();
    desk.flush().await.unwrap();
    assert_eq!(place.landed().await, [0, 1, 2]);
    assert_eq!(place.number("SELECT next FROM roundlot_tails").await, 3);
    orders.leave().await.unwrap();
}

/// Goal: ops that get the positions of lost ones take effect, those of another process among them, and the lost ones do not in their
/// place. Method: the rows go back while ops wait, behind a pause.
#[tokio::test]
#[ignore = "needs a PostgreSQL server: tests/run.sh starts one"]
async fn ops_at_positions_of_lost_ones_are_not_lost() {
    for from_other in [false, true] {
        let place = Place::new().await;
        let orders = join(&place, 1).await;
        let other = join(&place, 1).await;
        let desk = orders.handle();
        until(|| desk.is_leading()).await;
        desk.submit(0).await.unwrap().await.unwrap();
        desk.pause().await.unwrap();
        save(&place).await;
        // The log that remains has never had these.
        for lost in 1..=4 {
            desk.send(lost).await.unwrap();
        }
        let terms = desk.stats().terms;
        go_back(&place, &["tails", "frames", "producers"]).await;
        let sender = if from_other { other.handle() } else { desk.clone() };
        for op in 11..=13 {
            sender.send(op).await.unwrap();
        }
        until(|| desk.stats().terms + other.handle().stats().terms > terms).await;
        until(|| desk.is_leading() || other.handle().is_leading()).await;
        sender.resume().await.unwrap();
        assert!(sender.flush().await.unwrap().is_ok() || !from_other);
        assert_eq!(place.landed().await, [0, 11, 12, 13]);
        assert_eq!(place.number("SELECT cursor FROM roundlot_shards").await, 4);
        conserved(&other.leave().await.unwrap());
        conserved(&orders.leave().await.unwrap());
    }
}

/// Goal: no term goes on when a standby server was promoted, which may lack what was confirmed. Method: a server that is killed and
/// comes back on a timeline of its own.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a PostgreSQL server: tests/run.sh starts one"]
async fn no_term_outlives_a_promotion() {
    let server = Server::start(&["restore_command = 'false'"]);
    let mut place = Place::on(&server.url()).await;
    let orders = join(&place, 1).await;
    let desk = orders.handle();
    desk.submit(1).await.unwrap().await.unwrap();
    desk.flush().await.unwrap();
    let terms = desk.stats().terms;
    server.kill();
    // The server recovers from its own files alone, and then is a new primary.
    let signal = server.data().join("recovery.signal");
    server::check("touch", &server.run("touch", &[signal.to_str().unwrap()]));
    server.up();
    desk.submit(2).await.unwrap().await.unwrap();
    desk.flush().await.unwrap();
    assert!(desk.stats().terms > terms);
    place.database.reconnect().await;
    assert_eq!(place.landed().await, [1, 2]);
    conserved(&orders.leave().await.unwrap());
}
