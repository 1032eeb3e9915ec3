//! Tests of a client that reconnects after the loss of its connection.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

use fastwebsockets::{Frame, OpCode, Role as PeerRole, WebSocket as Peer};
use roundlot::{
    AckError, Batcher, ErrorKind, Handle, Retry, Sink, SinkError, Stages,
    sink::websocket::{Close, Frames, Socket, WebSocket, WebSocketSink},
    stage,
    testing::until_idle,
};
use tokio::{io::DuplexStream, sync::mpsc, time::Instant};
use tokio_tungstenite::tungstenite::protocol::Role;

use super::{Seen, eventually, ms, numbers, peer, pipe, read, say, secs, text, write, write_error};

/// The other side of a client: each dial reaches it, and the test decides whether it fails.
struct Server {
    dials: mpsc::UnboundedReceiver<Peer<DuplexStream>>,
    down: Arc<AtomicU32>,
}

const UP: u32 = 0;
const DOWN: u32 = 1;
const NO: u32 = 2;

impl Server {
    /// Returns a client with these settings, and its server.
    fn of<T: Send + 'static>(settings: &WebSocket<T>) -> (WebSocketSink<T>, Self) {
        let (sender, dials) = mpsc::unbounded_channel();
        let down = Arc::new(AtomicU32::new(UP));
        let state = Arc::clone(&down);
        let sink = settings.connect(move || {
            let (sender, state) = (sender.clone(), state.load(Ordering::Relaxed));
            async move {
                match state {
                    UP => {}
                    DOWN => return Err(SinkError::transient("connection refused")),
                    _ => return Err(SinkError::refused("wrong password")),
                }
                let (socket, there) = pipe(1 << 16, Role::Client).await;
                let _ = sender.send(peer(there, PeerRole::Server));
                Ok::<Socket, SinkError>(socket)
            }
        });
        (sink, Self { dials, down })
    }

    async fn accept(&mut self) -> Peer<DuplexStream> {
        eventually(self.dials.recv()).await.unwrap()
    }

    fn set(&self, state: u32) {
        self.down.store(state, Ordering::Relaxed);
    }
}

fn retry() -> Retry {
    Retry::exponential(ms(100), secs(10)).max_attempts(u32::MAX).seed(1)
}

/// Goal: after which closes a client comes back. Method: one close of each kind, and what a write says meanwhile.
#[tokio::test(start_paused = true)]
async fn a_client_reconnects_after_temporary_close_codes_only() {
    let cases = [
        (1000, false),
        (1001, true),
        (1002, false),
        (1008, false),
        (1011, true),
        (1012, true),
        (1013, true),
        (4000, false),
    ];
    for (code, comes_back) in cases {
        let (sink, mut server) = Server::of(&numbers());
        let mut first = server.accept().await;
        eventually(sink.ready()).await.unwrap();
        first.write_frame(Frame::close(code, b"because")).await.unwrap();
        assert!(matches!(read(&mut first).await, Seen::Close(..)));
        drop(first);
        until_idle().await;
        let error = write_error(&sink).await;
        assert!(
            error.chain().contains(&format!("{code} ")) && error.chain().contains("\"because\""),
            "{}",
            error.chain()
        );
        if comes_back {
            assert_eq!(error.kind(), ErrorKind::Outage);
            let mut second = server.accept().await;
            eventually(sink.ready()).await.unwrap();
            assert_eq!(write(&sink, vec![1]).await, [None]);
            assert_eq!(read(&mut second).await, text("[1]"));
            assert_eq!(sink.stats().connections, 2);
        } else {
            assert_eq!(error.kind(), ErrorKind::Refused);
            assert_eq!(eventually(sink.ready()).await.unwrap_err().kind(), ErrorKind::Refused);
            tokio::time::sleep(secs(100)).await;
            assert!(server.dials.try_recv().is_err(), "there is no second dial");
        }
    }
}

/// Goal: a venue's own codes may mean anything. Method: come back after 4000, and not after 1012.
#[tokio::test(start_paused = true)]
async fn reconnect_on_decides_about_private_close_codes() {
    let settings = numbers().reconnect_on(|close: &Close| close.code == 4000);
    for (code, comes_back) in [(4000, true), (1012, false)] {
        let (sink, mut server) = Server::of(&settings);
        let mut first = server.accept().await;
        first.write_frame(Frame::close(code, b"")).await.unwrap();
        drop(first);
        until_idle().await;
        let expected = if comes_back { ErrorKind::Outage } else { ErrorKind::Refused };
        assert_eq!(write_error(&sink).await.kind(), expected);
    }
}

/// Goal: decide late. While the connection is down nothing is cut for good: prices are replaced, and after it only the
/// newest are sent. Method: two keys, many updates during an outage that is longer than all backoffs together.
#[tokio::test(start_paused = true)]
async fn ops_that_wait_for_a_connection_are_still_conflated() {
    let settings = WebSocket::<(u8, u32)>::new(Frames::json()).retry(retry());
    let (sink, mut server) = Server::of(&settings);
    let (desk, worker) = Batcher::new(sink)
        .stages(Stages::new().conflate_by(|op: &(u8, u32)| op.0, stage::latest))
        .retry(Retry::exponential(ms(50), secs(1)).max_attempts(u32::MAX))
        .spawn();
    let mut first = server.accept().await;
    desk.send((0, 0)).await.unwrap();
    assert_eq!(read(&mut first).await, text("[[0,0]]"));

    server.set(DOWN);
    drop(first);
    for n in 1..=600 {
        desk.send((n as u8 % 2, n)).await.unwrap();
        tokio::time::sleep(secs(1)).await;
    }
    server.set(UP);
    let mut second = server.accept().await;
    assert_eq!(read(&mut second).await, text("[[1,599],[0,600]]"));
    let stats = desk.stats();
    assert_eq!((stats.outcomes.in_doubt, stats.outcomes.refused, stats.outcomes.lost), (0, 0, 0));
    drop((desk, worker));
}

/// Returns the outcome of each op, by its number.
async fn outcomes(acks: Vec<(u32, roundlot::Ack)>) -> Vec<(u32, Result<(), AckError>)> {
    let mut outcomes = Vec::new();
    for (n, ack) in acks {
        outcomes.push((n, eventually(ack).await));
    }
    outcomes
}

async fn submit(desk: &Handle<u32>, ops: std::ops::Range<u32>) -> Vec<(u32, roundlot::Ack)> {
    let mut acks = Vec::new();
    for n in ops {
        acks.push((n, desk.submit(n).await.unwrap()));
    }
    acks
}

/// Goal: order holds over a loss, and nothing is lost without notice. Method: confirmed batches; the server reads one
/// of three batches without a word and breaks off. Ops in doubt are reported so and not sent again; the rest comes in
/// order.
#[tokio::test(start_paused = true)]
async fn a_reconnect_keeps_the_order_and_ops_under_way_are_in_doubt() {
    let settings = numbers().confirmed().retry(retry());
    let (sink, mut server) = Server::of(&settings);
    let (desk, worker) = Batcher::new(sink).limits(10).retry(retry()).spawn();
    let mut first = server.accept().await;
    let acks = submit(&desk, 0..30).await;
    assert_eq!(read(&mut first).await, text("[0,1,2,3,4,5,6,7,8,9]"));
    let Seen::Ping(ping) = read(&mut first).await else { panic!("a ping comes behind each batch") };
    say(&mut first, OpCode::Pong, &ping).await;
    assert_eq!(read(&mut first).await, text("[10,11,12,13,14,15,16,17,18,19]"));
    drop(first);

    let mut second = server.accept().await;
    second.set_auto_pong(true);
    let (seen, outcomes) = tokio::join!(
        async {
            let seen = read(&mut second).await;
            while !matches!(read(&mut second).await, Seen::Close(..)) {}
            drop(second);
            seen
        },
        async {
            drop(desk);
            worker.join().await.unwrap()
        },
    );
    assert_eq!(seen, text("[20,21,22,23,24,25,26,27,28,29]"));
    assert_eq!((outcomes.stats.outcomes.delivered, outcomes.stats.outcomes.in_doubt), (20, 10));
    for (n, outcome) in self::outcomes(acks).await {
        match n {
            10..=19 => assert!(matches!(outcome, Err(AckError::InDoubt(_))), "{n}"),
            _ => assert!(outcome.is_ok(), "{n}"),
        }
    }
}

/// Goal: a connection that is lost during a write is an outage for the batcher. Only the ops of that write that were
/// fed are in doubt. Method: a server that is gone in the middle of a write; then one that is not there.
#[tokio::test(start_paused = true)]
async fn a_lost_connection_is_an_outage() {
    let settings = WebSocket::<String>::new(Frames::json().each().max_bytes(200_000)).retry(retry());
    let (sink, mut server) = Server::of(&settings);
    let first = server.accept().await;
    eventually(sink.ready()).await.unwrap();
    server.set(DOWN);
    let sink = Arc::new(sink);
    let writing = Arc::clone(&sink);
    let write = tokio::spawn(async move {
        let mut batch = roundlot::Batch::for_test(vec!["y".repeat(100_000); 6]);
        let error = writing.write(&mut batch).await.unwrap_err();
        (error, (0..6).map(|i| batch.verdict(i).map(|verdict| verdict.unwrap_err().clone())).collect::<Vec<_>>())
    });
    until_idle().await;
    drop(first);
    let (rest, verdicts) = eventually(write).await.unwrap();
    assert_eq!((rest.kind(), rest.is_outage()), (ErrorKind::Outage, true));
    let fed: Vec<&SinkError> = verdicts.iter().flatten().collect();
    assert!((1..6).contains(&fed.len()) && verdicts[fed.len()..].iter().all(Option::is_none), "{verdicts:?}");
    assert!(fed.iter().all(|error| error.kind() == ErrorKind::Ambiguous && error.is_outage()), "{verdicts:?}");
    let error = sink.write(&mut roundlot::Batch::for_test(vec!["on".into()])).await.unwrap_err();
    assert_eq!((error.kind(), error.is_outage()), (ErrorKind::Outage, true));
}

/// Goal: an idempotent batcher delivers every op. Method: the same, idempotent.
#[tokio::test(start_paused = true)]
async fn an_idempotent_batcher_resends_ops_in_doubt() {
    let settings = numbers().confirmed().retry(retry());
    let (sink, mut server) = Server::of(&settings);
    let (desk, _worker) = Batcher::new(sink).limits(10).retry(retry()).idempotent().spawn();
    let mut first = server.accept().await;
    let acks = submit(&desk, 0..20).await;
    assert_eq!(read(&mut first).await, text("[0,1,2,3,4,5,6,7,8,9]"));
    drop(first);
    let mut second = server.accept().await;
    second.set_auto_pong(true);
    assert_eq!(read(&mut second).await, text("[0,1,2,3,4,5,6,7,8,9]"));
    assert_eq!(read(&mut second).await, text("[10,11,12,13,14,15,16,17,18,19]"));
    let task = tokio::spawn(async move { while read(&mut second).await != Seen::End {} });
    assert!(outcomes(acks).await.iter().all(|(_, outcome)| outcome.is_ok()));
    task.abort();
}

/// Goal: a server that is down is not hammered, and a client waits no longer than it says. Method: count the dials of an
/// hour.
#[tokio::test(start_paused = true)]
async fn failed_connection_attempts_back_off() {
    let dials = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&dials);
    let sink = numbers().retry(retry()).connect(move || {
        count.fetch_add(1, Ordering::Relaxed);
        async { Err(SinkError::transient("connection refused")) }
    });
    let error = write_error(&sink).await;
    assert_eq!(error.chain(), "the destination is away: not connected yet");
    tokio::time::sleep(secs(3600)).await;
    // At most 10 s apart, and no less than half of it.
    let dialed = dials.load(Ordering::Relaxed);
    assert!((360..740).contains(&dialed), "{dialed} dials");
    let error = write_error(&sink).await;
    assert_eq!(
        (error.kind(), error.chain().as_str()),
        (ErrorKind::Outage, "the destination is away: connection refused")
    );
}

/// Goal: a server that accepts and hangs up at once is not hammered either. Method: such a server, for an hour.
#[tokio::test(start_paused = true)]
async fn a_server_that_closes_at_once_is_retried_with_backoff() {
    let (_sink, mut server) = Server::of(&numbers().retry(retry()));
    let started = Instant::now();
    let mut dials = 0;
    while started.elapsed() < secs(3600) {
        let mut peer = server.accept().await;
        dials += 1;
        let _ = peer.write_frame(Frame::close(1013, b"")).await;
    }
    assert!((300..800).contains(&dials), "{dials} dials");
}

/// Goal: a connection that lived counts: the next loss begins with a short wait. Method: long lives, and the time between.
#[tokio::test(start_paused = true)]
async fn a_connection_that_lived_long_enough_resets_the_backoff() {
    let (_sink, mut server) = Server::of(&numbers().retry(retry()));
    for _ in 0..20 {
        let peer = server.accept().await;
        tokio::time::sleep(secs(60)).await;
        let lost = Instant::now();
        drop(peer);
        let next = server.accept().await;
        assert!(lost.elapsed() <= ms(101), "{:?}", lost.elapsed());
        drop(next);
        // This one died young.
        let _ = server.accept().await;
    }
}

/// Goal: a permanent failure is not tried again. Method: a dial that is refused, one too many attempts, and a panic.
#[tokio::test(start_paused = true)]
async fn a_refused_dial_ends_the_sink() {
    let (sink, server) = Server::of(&numbers());
    server.set(NO);
    let error = eventually(sink.ready()).await.unwrap_err();
    assert_eq!(error.chain(), "refused: final: cannot connect: refused: wrong password");

    let down = || async { Err(SinkError::transient("connection refused")) };
    let sink = numbers().retry(retry().max_attempts(3)).connect(down);
    let error = eventually(sink.ready()).await.unwrap_err();
    assert_eq!(error.chain(), "refused: final: 3 connections failed in a row");

    let sink = numbers().connect(|| async { panic!("in a user's function") });
    let error = eventually(sink.ready()).await.unwrap_err();
    assert_eq!(error.chain(), "refused: final: the task of the WebSocket sink is gone");
}

/// Goal: a server that tells when to come back is not dialed before. Method: a minute, where the backoff would be
/// shorter.
#[tokio::test(start_paused = true)]
async fn a_throttled_dial_waits_as_long_as_asked() {
    let dials = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&dials);
    let _sink = numbers().retry(retry()).connect(move || {
        count.fetch_add(1, Ordering::Relaxed);
        async { Err(SinkError::throttled(secs(60))) }
    });
    tokio::time::sleep(secs(599)).await;
    assert_eq!(dials.load(Ordering::Relaxed), 10);
}

/// Goal: no answer of a server stops a client for ever. Method: one that asks for the longest pause there is.
#[tokio::test(start_paused = true)]
async fn a_pause_asked_by_the_peer_is_limited() {
    let dials = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&dials);
    let sink = numbers().retry(retry()).connect(move || {
        count.fetch_add(1, Ordering::Relaxed);
        async { Err(SinkError::throttled(std::time::Duration::MAX)) }
    });
    tokio::time::sleep(secs(10 * 24 * 3600)).await;
    assert_eq!(dials.load(Ordering::Relaxed), 4, "at once, and each three days");
    assert_eq!(write_error(&sink).await.kind(), ErrorKind::Outage);
}

/// Goal: a client that is closed while it is down ends at once, and dials no more. Method: close during a backoff, and
/// during a dial that hangs.
#[tokio::test(start_paused = true)]
async fn closing_while_disconnected_ends_at_once() {
    let (sink, mut server) = Server::of(&numbers());
    server.set(DOWN);
    until_idle().await;
    let before = Instant::now();
    eventually(sink.close()).await.unwrap();
    let hangs = numbers().connect(std::future::pending::<Result<Socket, SinkError>>);
    eventually(hangs.close()).await.unwrap();
    assert_eq!(before.elapsed(), secs(0));
    server.set(UP);
    tokio::time::sleep(secs(100)).await;
    while let Ok(mut first) = server.dials.try_recv() {
        assert_ne!(read(&mut first).await, text("[1]"));
    }
    assert_eq!(write_error(&sink).await.chain(), "refused: the WebSocket sink is closed");
}

/// Goal: a stuck server is given up, and the next one gets the ops that were not fed. Method: a server that reads
/// nothing.
#[tokio::test(start_paused = true)]
async fn a_stuck_server_is_replaced_by_another_connection() {
    let settings =
        WebSocket::<String>::new(Frames::json().each().max_bytes(200_000)).stall_after(secs(5)).retry(retry());
    let (sink, mut server) = Server::of(&settings);
    let _stuck = server.accept().await;
    eventually(sink.ready()).await.unwrap();
    let verdicts = write(&sink, vec!["y".repeat(100_000); 6]).await;
    let (doubt, later) = (Some(ErrorKind::Ambiguous), Some(ErrorKind::Outage));
    assert!(verdicts.is_sorted_by_key(|kind| *kind == later), "{verdicts:?}");
    assert!(verdicts.contains(&doubt) && verdicts.contains(&later), "{verdicts:?}");
    let mut next = server.accept().await;
    eventually(sink.ready()).await.unwrap();
    assert_eq!(write(&sink, vec!["on".into()]).await, [None]);
    assert_eq!(read(&mut next).await, text("\"on\""));
}

/// Goal: a host that takes the connection and never answers does not keep the client from trying again. Method: the first dial hangs, the
/// second is refused for good.
#[tokio::test(start_paused = true)]
async fn a_dial_that_hangs_is_given_up() {
    let dials = std::sync::atomic::AtomicU32::new(0);
    let sink = numbers().stall_after(secs(3)).connect(move || {
        let first = dials.fetch_add(1, std::sync::atomic::Ordering::Relaxed) == 0;
        async move {
            if first {
                std::future::pending::<()>().await;
            }
            Err(SinkError::refused("no such page"))
        }
    });
    let error = eventually(sink.ready()).await.unwrap_err();
    assert!(error.chain().contains("no such page"), "{}", error.chain());
}
