//! Servers that go away and come back, with and without what they had confirmed.

use super::{node::*, *};

/// Goal: nothing that was accepted is lost or doubled when the server is killed, and each leads what it led before: silence that nobody
/// can observe is none. Method: two processes that send, and a server that is killed and started three times.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs servers: tests/run.sh starts them"]
async fn a_server_that_is_killed_loses_nothing() {
    let mut place = Place::new().await;
    let (first, second) = (Node::start(&place, 2).await, Node::start(&place, 2).await);
    until(|| first.leading() == 1 && second.leading() == 1).await;
    let terms = |node: &Node| node.joined().stats().terms;
    let before = (terms(&first), terms(&second));
    for round in 0..3 {
        let from = round * 1000;
        let sending = [(&first, from), (&second, from + 500)].map(|(node, from)| {
            let desk = node.joined().handle();
            tokio::spawn(async move {
                let mut acks = Vec::new();
                for i in from..from + 60 {
                    acks.push(desk.submit(i).await.unwrap());
                }
                for ack in acks {
                    ack.await.unwrap();
                }
            })
        });
        tokio::time::sleep(Duration::from_millis(50)).await;
        place.server.kill();
        tokio::time::sleep(LEASE * 2).await;
        place.server.start().await;
        for sent in sending {
            sent.await.unwrap();
        }
    }
    assert_eq!((terms(&first), terms(&second)), before, "no term has ended");
    let mut landed = place.landed().await;
    landed.sort_unstable();
    let sent = (0..3).flat_map(|round| [0, 500].map(|from| round * 1000 + from)).flat_map(|from| from..from + 60);
    assert_eq!(landed, sent.collect::<Vec<_>>());
    conserved(&first.joined().stats());
    conserved(&second.joined().stats());
}

/// Goal: ops are accepted while the ledger is away, and land when it is back. Method: its server is killed and started.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs servers: tests/run.sh starts them"]
async fn ops_are_accepted_while_the_database_is_away() {
    let ledger = crate::server::Server::start(&[]);
    let mut place = Place::on(&ledger.url()).await;
    let orders = join(&place, 1).await;
    orders.handle().submit(0).await.unwrap().await.unwrap();
    ledger.kill();
    let mut acks = Vec::new();
    for op in 1..50 {
        acks.push(orders.handle().submit(op).await.unwrap());
    }
    ledger.up();
    for ack in acks {
        ack.await.unwrap();
    }
    place.database.reconnect().await;
    let mut landed = place.landed().await;
    landed.sort_unstable();
    assert_eq!(landed, (0..50).collect::<Vec<_>>());
    conserved(&orders.leave().await.unwrap());
}

/// Goal: a flush that waits for the server of the log delays nothing else. Method: ops are under way when the server is killed, and end
/// while a flush can't be answered.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs servers: tests/run.sh starts them"]
async fn a_flush_that_waits_delays_nothing() {
    let mut place = Place::new().await;
    let orders = join(&place, 1).await;
    let desk = orders.handle();
    desk.submit(0).await.unwrap().await.unwrap();
    let holder = crate::database::connect(&place.url).await;
    holder.batch_execute("BEGIN; LOCK TABLE landed").await.unwrap();
    let ack = desk.submit(1).await.unwrap();
    place.until("SELECT 1 FROM pg_locks WHERE relation = 'landed'::regclass AND NOT granted").await;
    place.server.kill();
    let mut flush = tokio::spawn({
        let desk = desk.clone();
        async move { desk.flush().await }
    });
    // The leader answers this behind the flush.
    assert!(matches!(desk.outcome(ack.id()).await, Ok(roundlot::durable::OpStatus::Waiting)));
    holder.batch_execute("COMMIT").await.unwrap();
    assert_eq!(tokio::time::timeout(Duration::from_secs(60), ack).await.expect("it ends").unwrap(), 10);
    assert!(tokio::time::timeout(LEASE, &mut flush).await.is_err(), "nobody knows what the log holds");
    place.server.start().await;
    flush.await.unwrap().unwrap();
    conserved(&orders.leave().await.unwrap());
}

/// Goal: the leader tells other processes how their ops end. Method: one that follows, and can't reach the ledger any more.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs servers: tests/run.sh starts them"]
async fn a_follower_hears_of_outcomes_from_the_leader() {
    let place = Place::new().await;
    hears(&place, || place.engine()).await;
    assert_eq!(place.landed().await, (1..50).collect::<Vec<_>>());
}

/// One process leads, and another one, without its ledger, hears of outcomes.
pub(super) async fn hears(place: &Place, engine: impl Fn() -> Engine) {
    let leader = try_join(engine(), 1, None).await.unwrap();
    until(|| leader.handle().is_leading()).await;
    let link = Link::to(&place.url).await;
    let follower = try_join(engine().ledger(&link.url), 1, None).await.unwrap();
    let desk = follower.handle();
    assert_eq!(desk.submit(1).await.unwrap().await.unwrap(), 10);
    link.cut();
    for op in 2..50 {
        let ack = desk.submit(op).await.unwrap();
        let told = tokio::time::timeout(Duration::from_secs(60), ack).await;
        assert_eq!(told.expect("it is told").unwrap(), op * 10);
    }
    assert_eq!(follower.stats().leading, 0);
    conserved(&follower.stats());
}

/// Goal: outcomes of which no message comes are looked for, whatever other messages come. Method: a leader that may not publish them, and
/// messages about an op that nobody has sent, more often than a process looks.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs servers: tests/run.sh starts them"]
async fn outcomes_are_looked_for_beside_other_messages() {
    let settings = "jetstream { store_dir: \"STORE\", sync_interval: always }\nauthorization { users: [\
        { user: silent, password: a, permissions: { publish: { deny: \"roundlot.orders.outcomes.>\" } } }, \
        { user: bob, password: b }] }";
    let (server, place) = (server::Server::with(settings).await, Place::new().await);
    let url = |user: &str| server.url().replace("nats://", &format!("nats://{user}@"));
    let engine = |user: &str| Nats::at(url(user)).servers_sync().ledger(&place.url).lease(LEASE);
    let leader = try_join(engine("silent:a"), 1, None).await.unwrap();
    until(|| leader.handle().is_leading()).await;
    let follower = try_join(engine("bob:b"), 1, None).await.unwrap();
    let ack = follower.handle().submit(1).await.unwrap();
    let producer = u8::try_from(ack.id().producer()).unwrap();
    assert_eq!(ack.await.unwrap(), 10);
    let client = async_nats::ConnectOptions::with_user_and_password("bob".into(), "b".into());
    let client = client.connect(server.url()).await.unwrap();
    let talk = tokio::spawn(async move {
        // Format, process, number 127, one op, one attempt, no schema; its end, no receipt.
        let message = [&[1, producer, 127, 1, 1, 0, 9], &b"delivered"[..], &[1, 2, 0]].concat();
        loop {
            client.publish("roundlot.orders.outcomes.0", message.clone().into()).await.unwrap();
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
    let ack = follower.handle().submit(2).await.unwrap();
    let told = tokio::time::timeout(Duration::from_secs(30), ack).await;
    assert_eq!(told.expect("it is looked for").unwrap(), 20);
    assert_eq!((talk.is_finished(), follower.stats().leading), (false, 0));
    talk.abort();
}

/// The way to a database, until it is cut.
struct Link {
    url: String,
    forwards: tokio::task::JoinHandle<()>,
}

impl Link {
    async fn to(url: &str) -> Self {
        let address = url.split(['@', '/', '?']).nth(3).unwrap().to_owned();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = url.replace(&address, &listener.local_addr().unwrap().to_string());
        let forwards = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((mut near, _)) = listener.accept().await {
                let mut far = tokio::net::TcpStream::connect(&address).await.unwrap();
                connections.spawn(async move { tokio::io::copy_bidirectional(&mut near, &mut far).await });
            }
        });
        Self { url, forwards }
    }

    /// Ends all connections, and takes no others.
    fn cut(&self) {
        self.forwards.abort();
    }
}

/// Goal: a server that has lost what it had confirmed is noticed, by processes that run and by those that join. Method: its folder goes
/// back to an earlier state while it is down.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs servers: tests/run.sh starts them"]
async fn a_server_that_went_back_is_noticed() {
    let mut place = Place::new().await;
    let node = Node::start(&place, 1).await;
    let desk = node.joined().handle();
    desk.submit(0).await.unwrap().await.unwrap();
    let (store, earlier) = (place.server.store(), tempfile::tempdir().unwrap());
    place.server.kill();
    let copy = |from: &std::path::Path, to: &std::path::Path| {
        let done = std::process::Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap();
        assert!(done.success());
    };
    copy(&store, &earlier.path().join("streams"));
    place.server.start().await;
    for op in 1..20 {
        desk.submit(op).await.unwrap().await.unwrap();
    }
    place.server.kill();
    std::fs::remove_dir_all(&store).unwrap();
    copy(&earlier.path().join("streams"), &store);
    place.server.start().await;
    until(|| !desk.is_leading()).await;
    let refused = try_join(place.engine(), 1, None).await;
    let Err(error) = refused else { panic!("it was joined") };
    assert!(matches!(error, roundlot::durable::JoinError::Unsafe(_)), "{error}");
    assert_eq!(place.landed().await, (0..20).collect::<Vec<_>>());
}
