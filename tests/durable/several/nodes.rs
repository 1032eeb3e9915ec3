//! Several processes on one log: how shards spread, and what becomes of ops when a process leaves, dies, or is stopped.

use std::collections::BTreeSet;

use roundlot::{AckError, durable::Ack};

use super::{node::*, *};

/// Waits for the outcomes of ops.
async fn ended(acks: Vec<Ack<i64>>) {
    for ack in acks {
        let ended = tokio::time::timeout(Duration::from_secs(60), ack).await.expect("each caller hears");
        ended.unwrap();
    }
}

/// Each op has one row, and no shard has a row of an older term behind that of a newer one.
async fn each_landed_once(place: &Place, ops: impl IntoIterator<Item = i64>) {
    let landed = place.landed().await;
    let distinct: BTreeSet<i64> = landed.iter().copied().collect();
    assert_eq!(landed.len(), distinct.len(), "an op has landed twice");
    assert_eq!(distinct, ops.into_iter().collect());
    let stale = "SELECT count(*) FROM (SELECT epoch < max(epoch) OVER (PARTITION BY shard ORDER BY number) AS is_stale FROM landed) l \
        WHERE is_stale";
    assert_eq!(place.number(stale).await, 0, "a row of an older term");
    assert_eq!(place.open().await, 0);
}

/// Goal: shards spread over processes, and come back when one leaves, with all ops. Method: eight shards, a second process that comes
/// and goes while both send.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs servers: tests/run.sh starts them"]
async fn shards_spread_and_come_back() {
    let place = Place::new().await;
    let (first, second) = (Node::start(&place, 8).await, Node::start(&place, 8).await);
    let (mut acks, mut sent) = (Vec::new(), 0..);
    while (first.leading(), second.leading()) != (4, 4) {
        for node in [&first, &second] {
            acks.push(node.joined().handle().submit(sent.next().unwrap()).await.unwrap());
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
        assert!(acks.len() < 20_000, "the shards do not spread");
    }
    let mut leaving = second;
    let left = leaving.joined.take().unwrap();
    ended(std::mem::take(&mut acks)).await;
    left.leave().await.unwrap();
    for _ in 0..100 {
        acks.push(first.joined().handle().submit(sent.next().unwrap()).await.unwrap());
    }
    ended(acks).await;
    until(|| first.leading() == 8).await;
    conserved(&first.joined().stats());
    each_landed_once(&place, 0..sent.next().unwrap()).await;
}

/// Goal: when a process dies, the others go on with all that it has accepted, and nothing lands twice. Method: three processes that all
/// send; one is killed, then a second one.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs servers: tests/run.sh starts them"]
async fn others_take_over_from_a_process_that_dies() {
    let place = Place::new().await;
    let mut nodes = vec![Node::start(&place, 4).await, Node::start(&place, 4).await, Node::start(&place, 4).await];
    until(|| nodes.iter().all(|node| node.leading() > 0)).await;
    let mut sent = 0..;
    while let Some(mut dying) = nodes.pop() {
        let mut acks = Vec::new();
        for _ in 0..30 {
            for node in &nodes {
                acks.push(node.joined().handle().submit(sent.next().unwrap()).await.unwrap());
            }
            // Accepted by a process that dies before it hears of its end.
            let ack = dying.joined().handle().submit(sent.next().unwrap()).await.unwrap();
            drop(ack);
        }
        if nodes.is_empty() {
            dying.joined().handle().flush().await.unwrap();
            break;
        }
        dying.kill();
        ended(acks).await;
        until(|| nodes.iter().map(Node::leading).sum::<u64>() == 4).await;
    }
    each_landed_once(&place, 0..sent.next().unwrap()).await;
}

/// Goal: a process that was stopped finds its shards led by another one, writes nothing more under its old terms, and goes on as a
/// member. Method: the only thread of its runtime is blocked until the other one has taken all shards.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs servers: tests/run.sh starts them"]
async fn a_process_that_was_stopped_is_fenced_off() {
    let place = Place::new().await;
    let (stopped, other) = (Node::start(&place, 2).await, Node::start(&place, 2).await);
    until(|| stopped.leading() == 1 && other.leading() == 1).await;
    let mut acks = Vec::new();
    for round in 0..3 {
        let from = round * 1000;
        for i in from..from + 20 {
            acks.push(stopped.joined().handle().submit(i).await.unwrap());
        }
        let ((entered, is_in), (release, released)) = (std::sync::mpsc::channel(), std::sync::mpsc::channel::<()>());
        stopped.runtime.as_ref().unwrap().spawn(async move {
            entered.send(()).unwrap();
            let _ = released.recv();
        });
        is_in.recv().unwrap();
        until(|| other.leading() == 2).await;
        for i in from + 20..from + 40 {
            acks.push(other.joined().handle().submit(i).await.unwrap());
        }
        ended(acks.split_off(acks.len() - 20)).await;
        release.send(()).unwrap();
        for i in from + 40..from + 60 {
            acks.push(stopped.joined().handle().submit(i).await.unwrap());
        }
        ended(std::mem::take(&mut acks)).await;
        until(|| stopped.leading() == 1 && other.leading() == 1).await;
    }
    conserved(&stopped.joined().stats());
    conserved(&other.joined().stats());
    each_landed_once(&place, (0..3).flat_map(|round| round * 1000..round * 1000 + 60)).await;
}

/// Goal: after a pause of any process has returned, no row of any other lands. Method: a process that follows pauses while the one that
/// leads is writing.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs servers: tests/run.sh starts them"]
async fn a_pause_of_one_process_stops_all() {
    let place = Place::new().await;
    let (leader, follower) = (Node::start(&place, 1).await, Node::start(&place, 1).await);
    let desk = leader.joined().handle();
    let sending = tokio::spawn(async move {
        for i in 0..400 {
            desk.send(i).await.unwrap();
        }
    });
    let desk = follower.joined().handle();
    for _ in 0..10 {
        desk.pause().await.unwrap();
        let before = place.landed().await.len();
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert_eq!(place.landed().await.len(), before, "it is paused");
        desk.resume().await.unwrap();
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    sending.await.unwrap();
    leader.joined().handle().flush().await.unwrap();
    each_landed_once(&place, 0..400).await;
    assert_eq!(leader.joined().stats().terms, 1);
}

/// Goal: callers of a process that follows are told of the ends of their ops, whoever leads, and of a process that leaves that their ops
/// are in the log. Method: a follower that leaves with ops that wait.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs servers: tests/run.sh starts them"]
async fn a_follower_leaves_its_ops_behind() {
    let place = Place::new().await;
    let leader = Node::start(&place, 1).await;
    let follower = join(&place, 1).await;
    follower.handle().submit(1).await.unwrap().await.unwrap();
    follower.handle().pause().await.unwrap();
    let waiting = follower.handle().submit(2).await.unwrap();
    conserved(&follower.leave().await.unwrap());
    assert!(matches!(waiting.await, Err(AckError::Detached { .. })));
    leader.joined().handle().resume().await.unwrap();
    leader.joined().handle().flush().await.unwrap();
    each_landed_once(&place, [1, 2]).await;
    assert_eq!(leader.joined().stats().terms, 1, "the leader leads on");
}

/// Goal: a leader that asks the log how far it reaches takes up what others send meanwhile. Method: one process flushes again and again,
/// while another one sends.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs servers: tests/run.sh starts them"]
async fn flushes_end_while_others_send() {
    let place = Place::new().await;
    let (first, second) = (Node::start(&place, 1).await, Node::start(&place, 1).await);
    until(|| first.leading() + second.leading() == 1).await;
    let leader = if first.leading() == 1 { &first } else { &second };
    let follower = if first.leading() == 1 { &second } else { &first };
    let sender = follower.joined().handle();
    let sending = tokio::spawn(async move {
        for from in (0..2000).step_by(10) {
            sender.send_all(from..from + 10).await.unwrap();
        }
    });
    let (desk, mut flushes) = (leader.joined().handle(), 0);
    while !sending.is_finished() {
        tokio::time::timeout(Duration::from_secs(60), desk.flush()).await.expect("it ends").unwrap();
        flushes += 1;
    }
    sending.await.unwrap();
    desk.flush().await.unwrap();
    assert!(flushes > 2, "{flushes}");
    assert_eq!(place.landed().await.len(), 2000);
}
