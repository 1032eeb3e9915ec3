//! Servers that go away and come back, and sessions that end.

use super::{server::Server, *};

/// Goal: nothing that was accepted is lost or doubled when the server is killed, and a leader that can't reach it keeps its lease.
/// Method: two processes that send, and a server that is killed and started three times.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a PostgreSQL server: tests/run.sh starts one"]
async fn a_server_that_is_killed_loses_nothing() {
    let server = Server::start(&[]);
    let mut place = Place::on(&server.url()).await;
    let (first, second) = (Node::start(&place, 2).await, Node::start(&place, 2).await);
    until(|| first.leading() == 1 && second.leading() == 1).await;
    let leases = "SELECT holder FROM roundlot_leases ORDER BY shard";
    let holders = place.numbers(leases).await;
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
        // Killed without a word, or told to stop at once, which its processes tell their clients.
        if round % 2 == 0 {
            server.kill()
        } else {
            server.stop()
        }
        // Longer than a lease: silence that nobody can observe is none.
        tokio::time::sleep(LEASE * 2).await;
        server.up();
        place.database.reconnect().await;
        for sent in sending {
            sent.await.unwrap();
        }
        assert_eq!(place.numbers(leases).await, holders, "each leads what it led before");
    }
    let mut landed = place.landed().await;
    landed.sort_unstable();
    let sent = (0..3).flat_map(|round| [0, 500].map(|from| round * 1000 + from)).flat_map(|from| from..from + 60);
    assert_eq!(landed, sent.collect::<Vec<_>>());
    conserved(&first.joined().stats());
    conserved(&second.joined().stats());
}

/// Goal: sessions that end at any moment cost time alone. Method: all sessions of two processes are ended, again and again, while both
/// send.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a PostgreSQL server: tests/run.sh starts one"]
async fn sessions_that_end_lose_nothing() {
    let place = Place::new().await;
    let (first, second) = (Node::start(&place, 2).await, Node::start(&place, 2).await);
    let sending = [(&first, 0), (&second, 1000)].map(|(node, from)| {
        let desk = node.joined().handle();
        tokio::spawn(async move {
            for i in from..from + 150 {
                desk.send(i).await.unwrap();
            }
            desk.flush().await.unwrap();
        })
    });
    let end_all = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name = current_schema() \
        AND pid <> pg_backend_pid()";
    let mut ended = 0;
    while !sending.iter().all(tokio::task::JoinHandle::is_finished) {
        ended += place.number(end_all).await;
        tokio::time::sleep(Duration::from_millis(300)).await;
        if ended > 100 {
            break;
        }
    }
    for sent in sending {
        sent.await.unwrap();
    }
    let mut landed = place.landed().await;
    landed.sort_unstable();
    assert_eq!(landed, (0..150).chain(1000..1150).collect::<Vec<_>>());
    assert!(ended > 0);
}
