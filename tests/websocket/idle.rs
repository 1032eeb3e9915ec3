//! Tests of idle connections: dead peers are noticed, live ones stay.

use fastwebsockets::{OpCode, Role as PeerRole};
use roundlot::{
    Batcher, ErrorKind, Fanout, Retry, Sink,
    fanout::Ended,
    sink::websocket::{Frames, WebSocket, WebSocketSink},
    testing::{advance, until_idle},
};
use tokio::{io::DuplexStream, sync::mpsc, task::JoinHandle, time::Instant};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::protocol::{Role, WebSocketConfig},
};

use super::{Seen, connected, eventually, ms, numbers, peer, pipe, read, say, secs, served, text, write, write_error};

/// Seconds until a silent peer is noticed, by default: 20 until the ping, and 30 for its answer.
const NOTICED: u64 = 50;

const DAY: u64 = 24 * 3600;

/// Goal: a peer that has gone without a word is noticed, though nothing is written. Method: either side, with and without
/// confirmation; one write before, so that the connection was in use.
#[tokio::test(start_paused = true)]
async fn a_dead_peer_is_noticed_without_a_write() {
    for confirmed in [false, true] {
        for role in [Role::Server, Role::Client] {
            let settings = if confirmed { numbers().confirmed() } else { numbers() };
            let (socket, mut peer) = if role == Role::Server { served(4096).await } else { connected(4096).await };
            let sink = if role == Role::Server { settings.server(socket) } else { settings.client(socket) };
            let task = tokio::spawn(async move { (write(&sink, vec![1]).await, sink) });
            assert_eq!(read(&mut peer).await, text("[1]"));
            if confirmed {
                let Seen::Ping(payload) = read(&mut peer).await else { panic!("it asks for a confirmation") };
                say(&mut peer, OpCode::Pong, &payload).await;
            }
            let (verdicts, sink) = eventually(task).await.unwrap();
            assert_eq!(verdicts, [None]);
            let before = Instant::now();
            let error = eventually(sink.gone()).await;
            assert_eq!(before.elapsed(), secs(NOTICED), "confirmed: {confirmed}, {role:?}");
            assert_eq!(error.chain(), "refused: final: the peer answered no ping for 30s");
            assert_eq!(write_error(&sink).await.kind(), ErrorKind::Refused, "the next op is not accepted and lost");
            assert_eq!(sink.stats().messages, 1);
            drop(peer);
        }
    }
}

/// Goal: a client has another connection before there is anything to send. Method: the first server falls silent; an op
/// is sent much later.
#[tokio::test(start_paused = true)]
async fn a_client_reconnects_before_the_next_op() {
    for confirmed in [false, true] {
        let (sender, mut servers) = mpsc::unbounded_channel();
        let settings = if confirmed { numbers().confirmed() } else { numbers() };
        let sink = settings.retry(Retry::exponential(ms(100), secs(1))).connect(move || {
            let sender = sender.clone();
            async move {
                let (socket, there) = pipe(4096, Role::Client).await;
                sender.send(peer(there, PeerRole::Server)).unwrap();
                Ok(socket)
            }
        });
        let (desk, _worker) = Batcher::new(sink).spawn();
        let _silent = eventually(servers.recv()).await.unwrap();
        let mut second = eventually(servers.recv()).await.unwrap();
        second.set_auto_pong(true);
        let reader = tokio::spawn(async move {
            loop {
                match read(&mut second).await {
                    Seen::Ping(_) => {}
                    other => return (other, second),
                }
            }
        });
        advance(secs(3000)).await;
        let ack = desk.submit(7).await.unwrap();
        let (seen, mut second) = eventually(reader).await.unwrap();
        assert_eq!(seen, text("[7]"));
        let answering = tokio::spawn(async move { read(&mut second).await });
        assert!(eventually(ack).await.is_ok(), "confirmed: {confirmed}");
        answering.abort();
        assert!(servers.try_recv().is_err(), "the second stays");
    }
}

/// A peer that answers pings, and counts them.
fn answers(stream: DuplexStream) -> JoinHandle<u64> {
    tokio::spawn(async move {
        let mut peer = peer(stream, PeerRole::Client);
        let mut pings = 0;
        loop {
            match read(&mut peer).await {
                Seen::Ping(payload) => say(&mut peer, OpCode::Pong, &payload).await,
                _ => return pings,
            }
            pings += 1;
        }
    })
}

type Quote = (u32, u32);

/// A connection with small buffers, as for a server of many.
async fn small(page: &WebSocket<Quote>) -> (WebSocketSink<Quote>, DuplexStream) {
    let (here, there) = tokio::io::duplex(512);
    let small = WebSocketConfig::default().read_buffer_size(1024).write_buffer_size(1024);
    (page.server(WebSocketStream::from_raw_socket(here, Role::Server, Some(small)).await), there)
}

/// Goal: a page frees the slots of peers that vanished, and no other slots, while there is no price for a day.
/// Method: a thousand silent peers, and a few that answer.
#[tokio::test(start_paused = true)]
async fn dead_subscribers_are_not_counted() {
    for confirmed in [false, true] {
        let (feed, _worker) = Fanout::by(|quote: &Quote| quote.0).spawn();
        let page = WebSocket::new(Frames::<Quote>::json());
        let page = if confirmed { page.confirmed() } else { page };
        let (mut dead, mut subscriptions, mut live) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..1000 {
            let (sink, there) = small(&page).await;
            subscriptions.push(feed.subscribe(sink).to([1]).start().await.unwrap());
            dead.push(there);
        }
        for _ in 0..5 {
            let (sink, there) = small(&page).await;
            let subscription = feed.subscribe(sink).to_all().start().await.unwrap();
            live.push((subscription, answers(there)));
        }
        assert_eq!(feed.stats().subscribers, 1005);
        tokio::time::sleep(secs(DAY)).await;
        let stats = feed.stats();
        assert_eq!((stats.subscribers, stats.failed, stats.stuck), (5, 1000, 0), "confirmed: {confirmed}");
        for subscription in &subscriptions {
            let Ended::Failed(error) = eventually(subscription.ended()).await else { panic!("its peer is gone") };
            assert!(error.chain().contains("answered no ping"), "{}", error.chain());
        }
        for (subscription, answers) in live {
            assert!(!subscription.is_ended());
            drop(subscription);
            let pings = eventually(answers).await.unwrap();
            assert!((DAY / 25..=DAY / 20).contains(&pings), "{pings} pings in a day");
        }
    }
}

/// Goal: a page also frees the slot of a peer that closes or breaks off while there is nothing to send.
#[tokio::test(start_paused = true)]
async fn a_subscriber_that_leaves_is_not_counted() {
    let (feed, _worker) = Fanout::by(|quote: &Quote| quote.0).spawn();
    let page = WebSocket::new(Frames::<Quote>::json());
    for says_goodbye in [true, false] {
        let (sink, there) = small(&page).await;
        let subscription = feed.subscribe(sink).to_all().start().await.unwrap();
        assert_eq!(feed.stats().subscribers, 1);
        let mut peer = peer(there, PeerRole::Client);
        if says_goodbye {
            peer.write_frame(fastwebsockets::Frame::close(1001, b"")).await.unwrap();
            assert!(matches!(read(&mut peer).await, Seen::Close(1001, _)));
        }
        drop(peer);
        until_idle().await;
        assert!(matches!(eventually(subscription.ended()).await, Ended::Failed(_)));
        assert_eq!(feed.stats().subscribers, 0);
    }
}

/// Goal: the caller that closes a subscription gets that as the reason, not a lost peer. Method: a peer that answers
/// the close.
#[tokio::test(start_paused = true)]
async fn a_subscription_that_is_closed_has_not_failed() {
    let (feed, _worker) = Fanout::by(|quote: &Quote| quote.0).spawn();
    let (sink, there) = small(&WebSocket::new(Frames::json())).await;
    let subscription = feed.subscribe(sink).to_all().start().await.unwrap();
    let answering = answers(there);
    assert!(matches!(eventually(subscription.close()).await, Ended::Closed));
    answering.abort();
    assert_eq!((feed.stats().closed, feed.stats().failed), (1, 0));
}

/// Goal: pings can be switched off, and set. Method: count what comes in 3,000 s.
#[tokio::test(start_paused = true)]
async fn ping_every_sets_the_silence_before_a_ping() {
    for (every, expected) in [(secs(0), 0), (secs(300), 10), (secs(60), 50)] {
        let (here, there) = tokio::io::duplex(512);
        let socket = WebSocketStream::from_raw_socket(here, Role::Server, None).await;
        let sink = numbers().ping_every(every).server(socket);
        let answering = answers(there);
        tokio::time::sleep(secs(3000) + ms(999)).await;
        assert!(sink.ready().await.is_ok());
        drop(sink);
        assert_eq!(eventually(answering).await.unwrap(), expected, "every {every:?}");
    }
}

/// Goal: a peer that sends every 15 s is not pinged; one that sends every 25 s and answers no ping is not given up.
#[tokio::test(start_paused = true)]
async fn every_frame_of_the_peer_is_a_sign_of_life() {
    let (socket, mut client) = served(4096).await;
    let sink = numbers().server(socket);
    for _ in 0..100 {
        advance(secs(15)).await;
        say(&mut client, OpCode::Text, b"hello").await;
    }
    for _ in 0..100 {
        advance(secs(25)).await;
        say(&mut client, OpCode::Text, b"hello").await;
    }
    until_idle().await;
    assert_eq!(write(&sink, vec![1]).await, [None]);
    let (mut pings, mut next) = (0, read(&mut client).await);
    while let Seen::Ping(_) = next {
        pings += 1;
        next = read(&mut client).await;
    }
    assert_eq!(next, text("[1]"));
    assert!((1..=100).contains(&pings), "{pings} pings");
}

/// Goal: pings of the peer are answered for as long as nothing is written, too. Method: an hour of them.
#[tokio::test(start_paused = true)]
async fn pings_of_the_peer_are_answered_while_idle() {
    let (socket, mut client) = served(4096).await;
    let _sink = numbers().server(socket);
    for n in 0..240u32 {
        advance(secs(15)).await;
        say(&mut client, OpCode::Ping, &n.to_be_bytes()).await;
        assert_eq!(read(&mut client).await, Seen::Pong(n.to_be_bytes().to_vec()));
    }
}

/// Goal: a peer is not given up because this side does not listen to it. Method: the channel of its messages is not
/// read for an hour; then it is, and every message is there.
#[tokio::test(start_paused = true)]
async fn a_peer_is_not_given_up_while_reading_is_paused() {
    let (socket, mut client) = served(4096).await;
    let (sender, mut incoming) = mpsc::channel(1);
    let sink = numbers().incoming(sender).server(socket);
    for _ in 0..3 {
        say(&mut client, OpCode::Text, b"hello").await;
    }
    tokio::time::sleep(secs(3600)).await;
    for _ in 0..3 {
        assert!(eventually(incoming.recv()).await.is_some());
    }
    assert!(eventually(sink.ready()).await.is_ok());
    assert_eq!(write(&sink, vec![1]).await, [None]);
}

/// Goal: a peer that pings and never reads makes this side hold a bounded number of answers. Method: a pipe that holds
/// little; the peer's pings do not all find room, and in the end the peer is given up.
#[tokio::test(start_paused = true)]
async fn a_peer_that_floods_pings_and_never_reads_is_not_read_further() {
    let (socket, there) = pipe(4096, Role::Server).await;
    let sink = numbers().server(socket);
    let (_reader, mut writer) = tokio::io::split(there);
    // A masked ping of 125 bytes, with a mask of zeros.
    let ping = [&[0x89, 0xfd, 0, 0, 0, 0][..], &[b'x'; 125]].concat();
    let (sent, mut count) = (std::sync::Arc::new(std::sync::atomic::AtomicU64::new(0)), 0);
    let counter = std::sync::Arc::clone(&sent);
    let flood = tokio::spawn(async move {
        for _ in 0..20_000 {
            if tokio::io::AsyncWriteExt::write_all(&mut writer, &ping).await.is_err() {
                return;
            }
            counter.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        }
    });
    // The peer sends for as long as this side reads.
    loop {
        until_idle().await;
        let now = sent.load(std::sync::atomic::Ordering::Relaxed);
        if now == count {
            break;
        }
        count = now;
    }
    assert!(count < 3000, "{count} pings were read");
    let error = eventually(sink.gone()).await;
    assert!(error.chain().contains("took nothing for 30s"), "{}", error.chain());
    flood.abort();
}

/// Goal: a peer that pings a lot and reads is answered. Method: ten thousand pings, and an op behind them.
#[tokio::test(start_paused = true)]
async fn a_peer_that_floods_pings_and_reads_is_answered() {
    let (socket, mut client) = served(4096).await;
    let sink = numbers().server(socket);
    for n in 0..10_000u32 {
        say(&mut client, OpCode::Ping, &n.to_be_bytes()).await;
        assert_eq!(read(&mut client).await, Seen::Pong(n.to_be_bytes().to_vec()));
    }
    assert_eq!(write(&sink, vec![1]).await, [None]);
    assert_eq!(read(&mut client).await, text("[1]"));
}
