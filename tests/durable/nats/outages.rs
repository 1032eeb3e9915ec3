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
