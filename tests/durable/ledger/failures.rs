//! Servers that go away, commits without an answer, and writes that take too long.

use std::sync::atomic::{AtomicBool, Ordering};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::Notify,
};

use super::{server::Server, *};

/// A constraint that is checked in the COMMIT, and waits there for a lock.
const GATE: &str = "CREATE TABLE gate (x int); \
    CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS \
        $$ BEGIN PERFORM count(*) FROM gate; RETURN NULL; END $$; \
    CREATE CONSTRAINT TRIGGER wait AFTER INSERT ON landed DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION wait()";

/// Goal: a commit that a dead session leaves open has not landed, and its op lands once with the next term. Method: the session is
/// ended in the COMMIT.
#[tokio::test]
#[ignore = "needs a PostgreSQL server: tests/run.sh starts one"]
async fn a_commit_without_an_answer_ends_the_term() {
    let place = Place::new().await;
    place.execute(GATE).await;
    let orders = join(&place).await;
    let desk = orders.joined.handle();
    let other = connect(&place.url).await;
    other.batch_execute("BEGIN; LOCK TABLE gate").await.unwrap();
    let ack = desk.submit(1).await.unwrap();
    let session = format!(
        "SELECT pid FROM pg_stat_activity WHERE application_name = '{}' AND query = 'COMMIT' AND wait_event_type = 'Lock'",
        place.schema
    );
    let pid = place.until(&session).await;
    place.execute(&format!("SELECT pg_terminate_backend({pid})")).await;
    other.batch_execute("ROLLBACK").await.unwrap();
    assert_eq!(ack.await.unwrap(), 10);
    assert_eq!((place.landed().await, desk.stats().terms), (vec![1], 2));
    let errors = orders.errors.lock().unwrap().clone();
    assert_eq!(errors.len(), 1);
    assert!(errors[0].contains("the commit has no known result"), "{errors:?}");
    orders.joined.leave().await.unwrap();
}

/// Takes connections to a server, and drops the one that is told to commit when `armed`, before the server's answer comes back.
async fn cut_at_commit(url: String, armed: Arc<Notify>, cut: Arc<Notify>) -> String {
    let address = url.split(['@', '/', '?']).nth(3).unwrap().to_owned();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let own = listener.local_addr().unwrap().to_string();
    let is_armed = Arc::new(AtomicBool::new(false));
    tokio::spawn({
        let is_armed = Arc::clone(&is_armed);
        async move {
            armed.notified().await;
            is_armed.store(true, Ordering::SeqCst);
        }
    });
    let proxied = format!("{}&sslmode=disable", url.replace(&address, &own));
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let (address, is_armed, cut) = (address.clone(), Arc::clone(&is_armed), Arc::clone(&cut));
            tokio::spawn(async move {
                let mut server = TcpStream::connect(address).await.unwrap();
                let (mut said, mut answered) = (vec![0; 64 << 10], vec![0; 64 << 10]);
                loop {
                    tokio::select! {
                        Ok(read @ 1..) = client.read(&mut said) => {
                            server.write_all(&said[..read]).await.unwrap();
                            let commits = said[..read].windows(7).any(|window| window == b"COMMIT\0");
                            if commits && is_armed.swap(false, Ordering::SeqCst) {
                                // The server has committed when it answers.
                                let _ = server.read(&mut answered).await;
                                cut.notify_one();
                                return;
                            }
                        }
                        Ok(read @ 1..) = server.read(&mut answered) => {
                            if client.write_all(&answered[..read]).await.is_err() {
                                return;
                            }
                        }
                        else => return,
                    }
                }
            });
        }
    });
    proxied
}

/// Goal: a commit that has landed without an answer is found by the next term, and its callers are told the outcome. Method: a proxy
/// that drops the answer, to a write and to a record alone.
#[tokio::test]
#[ignore = "needs a PostgreSQL server: tests/run.sh starts one"]
async fn a_commit_whose_answer_is_lost_is_found() {
    let place = Place::new().await;
    let (armed, cut) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let url = cut_at_commit(place.url.clone(), Arc::clone(&armed), Arc::clone(&cut)).await;
    let orders = try_join(File::at(place.path()).ledger(url), None).await.unwrap();
    let desk = orders.joined.handle();
    assert_eq!(desk.submit(1).await.unwrap().await.unwrap(), 10);
    armed.notify_one();
    tokio::task::yield_now().await;
    assert_eq!(desk.submit(2).await.unwrap().await.unwrap(), 20);
    cut.notified().await;
    assert_eq!((place.landed().await, desk.stats().terms), (vec![1, 2], 2));
    assert_eq!(place.numbers("SELECT sum(count) FROM roundlot_outcomes").await, [2]);
    let stats = orders.joined.leave().await.unwrap();
    assert_eq!((stats.outcomes.delivered, stats.waiting), (2, 0));
}

/// Goal: while the server is away, ops are accepted, and each lands once when it is back. Method: stopped under load, and killed
/// twice.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a PostgreSQL server: tests/run.sh starts one"]
async fn a_killed_server_costs_nothing() {
    let server = Arc::new(Server::start(&[]));
    let mut place = Place::on(&server.url()).await;
    let orders = join(&place).await;
    let desk = orders.joined.handle();
    let mut acks = Vec::new();
    for kills in 0..3 {
        for op in kills * 1000..kills * 1000 + 1000 {
            acks.push((op, desk.submit(op).await.unwrap()));
            if op % 1000 == 500 {
                let server = Arc::clone(&server);
                let kill = move || if kills == 0 { server.stop() } else { server.kill() };
                tokio::task::spawn_blocking(kill).await.unwrap();
            }
        }
        let server = Arc::clone(&server);
        tokio::task::spawn_blocking(move || server.up()).await.unwrap();
        desk.flush().await.unwrap();
    }
    for (op, ack) in acks {
        assert_eq!(ack.await.unwrap(), op * 10);
    }
    place.database.reconnect().await;
    assert_eq!(place.landed().await, (0..3000).collect::<Vec<_>>());
    let stats = orders.joined.leave().await.unwrap();
    assert_eq!((stats.outcomes.delivered, stats.waiting), (3000, 0));
}

/// Goal: a write that takes too long, or is given up, is undone and lands once with the next. Method: each, before the commit and in
/// it.
#[tokio::test]
#[ignore = "needs a PostgreSQL server: tests/run.sh starts one"]
async fn a_write_that_is_cut_short_lands_once() {
    for (limits, in_commit) in [(false, false), (true, false), (true, true)] {
        let place = Place::new().await;
        if in_commit {
            place.execute(GATE).await;
        }
        let other = connect(&place.url).await;
        other.batch_execute("CREATE TABLE lock (x int)").await.unwrap();
        other.batch_execute("BEGIN; LOCK TABLE lock").await.unwrap();
        if in_commit {
            other.batch_execute("LOCK TABLE gate").await.unwrap();
        }
        let sql = Arc::new(Mutex::new((!in_commit).then(|| "SELECT * FROM lock".to_owned())));
        let errors: Arc<Mutex<Vec<String>>> = Arc::default();
        let of_sink = Arc::clone(&errors);
        let limit = Duration::from_millis(300);
        let orders = Limits::new(100);
        let joined = Durable::new("orders", place.file())
            .limits(if limits { orders.write_timeout(limit) } else { orders })
            .retry(Retry::exponential(Duration::from_millis(1), Duration::from_millis(2)))
            .transaction_timeout(if limits { Duration::from_secs(60) } else { limit })
            .sink(move |term| Rows { term, sql: Arc::clone(&sql), errors: Arc::clone(&of_sink) })
            .join()
            .await
            .unwrap();
        let ack = joined.handle().submit(1).await.unwrap();
        if in_commit {
            let name = &place.schema;
            let waits = "query = 'COMMIT' AND wait_event_type = 'Lock'";
            let session = format!("SELECT pid FROM pg_stat_activity WHERE application_name = '{name}' AND {waits}");
            let pid = place.until(&session).await;
            // The next term begins when the session of the last one is gone.
            place.until(&format!("SELECT 1 WHERE NOT EXISTS (SELECT FROM pg_stat_activity WHERE pid = {pid})")).await;
            other.batch_execute("ROLLBACK").await.unwrap();
        }
        assert_eq!(ack.await.unwrap(), 10);
        assert_eq!(place.landed().await, [1]);
        assert_eq!(joined.stats().terms, if in_commit { 2 } else { 1 });
        let errors = errors.lock().unwrap().clone();
        assert_eq!(errors.len(), usize::from(!limits), "{in_commit} {errors:?}");
        joined.leave().await.unwrap();
    }
}
