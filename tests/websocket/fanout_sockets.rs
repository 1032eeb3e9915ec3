//! Tests of a thousand WebSocket subscribers, a hundred of which never read.

use fastwebsockets::{Role as PeerRole, WebSocket as Peer};
use roundlot::{
    Fanout, Limits,
    fanout::Ended,
    sink::websocket::{Frames, WebSocket},
    testing::{advance, until_idle},
};
use tokio::{io::DuplexStream, task::JoinHandle, time::Instant};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::protocol::{Role, WebSocketConfig},
};

use super::{Seen, eventually, ms, peer, read, secs};

const SUBSCRIBERS: usize = 1000;
/// One of this number of subscribers never reads.
const STUCK_EACH: usize = 10;
const SYMBOLS: u32 = 20;
const ROUNDS: u32 = 40;
const MAX_PENDING: usize = 64;

/// A symbol and a version.
type Quote = (u32, u32);

/// Reads until the connection ends. Returns the quotes, the number of frames, and the close.
async fn read_all(mut peer: Peer<DuplexStream>) -> (Vec<Quote>, usize, Seen) {
    let (mut quotes, mut frames) = (Vec::new(), 0);
    loop {
        match read(&mut peer).await {
            Seen::Text(text) => {
                frames += 1;
                quotes.extend(serde_json::from_str::<Vec<Quote>>(&text).unwrap());
            }
            end => return (quotes, frames, end),
        }
    }
}

/// Goal: subscribers that read get everything within their rules. Stuck ones are dropped with the right code, their
/// memory is bounded, and the feed is not delayed. Method: pipes on a paused clock; everything is counted, nothing is
/// timed but by that clock.
#[tokio::test(start_paused = true)]
async fn stuck_sockets_are_dropped_and_all_other_sockets_get_every_latest_value() {
    let (feed, worker) = Fanout::by(|quote: &Quote| quote.0).spawn();
    let page = WebSocket::new(Frames::<Quote>::json());
    let limits = Limits::new(50).max_pending(MAX_PENDING);
    let (mut readers, mut stuck, mut subscriptions) = (Vec::<JoinHandle<_>>::new(), Vec::new(), Vec::new());
    for n in 0..SUBSCRIBERS {
        let (here, there) = tokio::io::duplex(512);
        // Small buffers, as for a server of many connections.
        let small = WebSocketConfig::default().read_buffer_size(1024).write_buffer_size(1024);
        let sink = page.server(WebSocketStream::from_raw_socket(here, Role::Server, Some(small)).await);
        let subscribe = feed.subscribe(sink).limits(limits.clone()).stuck_after(secs(5));
        subscriptions.push(subscribe.to(0..SYMBOLS).start().await.unwrap());
        let peer = peer(there, PeerRole::Client);
        if n % STUCK_EACH == 0 {
            stuck.push(peer);
        } else {
            readers.push(tokio::spawn(read_all(peer)));
        }
    }

    // The feed publishes, and only the hub takes part in it: no time passes.
    for round in 0..ROUNDS {
        let before = Instant::now();
        for symbol in 0..SYMBOLS {
            feed.publish((symbol, round)).unwrap();
        }
        feed.flush().await.unwrap();
        assert_eq!(before.elapsed(), secs(0), "no peer was waited for");
        let full = subscriptions.iter().map(|subscription| subscription.stats());
        assert!(full.map(|stats| stats.waiting + stats.in_flight).all(|held| held <= 2 * MAX_PENDING as u64));
        advance(ms(100)).await;
    }
    assert_eq!((feed.stats().feed.accepted, feed.stats().missed), (u64::from(SYMBOLS * ROUNDS), 0));
    for (n, subscription) in subscriptions.iter().enumerate() {
        let stats = subscription.stats();
        assert!(stats.waiting + stats.in_flight <= MAX_PENDING as u64, "{stats:?}");
        assert_eq!(stats.outcomes.evicted, 0, "the latest of each key fits");
        if n % STUCK_EACH == 0 {
            assert!(stats.waiting > 0 && stats.outcomes.conflated > 0, "{stats:?}");
        }
    }

    // Stuck subscribers are dropped, and read the reason if they wake up in time.
    advance(secs(5)).await;
    assert_eq!(feed.stats().stuck, 0, "their sinks are still in the close handshake");
    for peer in stuck {
        let (quotes, _, end) = eventually(read_all(peer)).await;
        assert!(quotes.is_sorted_by_key(|quote| quote.1), "what was fed is whole and in order");
        assert_eq!(end, Seen::Close(1013, "too slow".into()));
    }
    until_idle().await;
    let stats = feed.stats();
    assert_eq!((stats.stuck, stats.failed, stats.closed), (100, 0, 0));
    assert_eq!(stats.subscribers, 900);
    for subscription in subscriptions.iter().step_by(STUCK_EACH) {
        assert!(matches!(subscription.ended().await, Ended::Stuck(_)));
    }

    // The remaining subscribers have everything, in order, in few frames, and are told when the feed ends.
    feed.publish((0, ROUNDS)).unwrap();
    drop(feed);
    eventually(worker.join()).await.unwrap();
    for reader in readers {
        let (quotes, frames, end) = eventually(reader).await.unwrap();
        let mut last = vec![None; SYMBOLS as usize];
        for (symbol, version) in quotes {
            let before = last[symbol as usize].replace(version);
            assert!(before < Some(version), "{symbol}: {version} after {before:?}");
        }
        assert_eq!(last[0], Some(ROUNDS));
        assert!(last[1..].iter().all(|version| *version == Some(ROUNDS - 1)));
        assert!(frames <= 2 * ROUNDS as usize + 1, "{frames} frames");
        assert_eq!(end, Seen::Close(1001, String::new()));
    }
    let sent = page.stats();
    assert!(sent.frames_saved() > sent.frames, "{sent:?}");
}

/// Goal: a peer that never reads again frees its memory. Method: it is dropped, without a close frame.
#[tokio::test(start_paused = true)]
async fn a_stuck_peer_that_never_reads_again_is_removed() {
    let (feed, _worker) = Fanout::by(|quote: &Quote| quote.0).spawn();
    let (here, there) = tokio::io::duplex(16);
    let sink = WebSocket::new(Frames::json()).server(WebSocketStream::from_raw_socket(here, Role::Server, None).await);
    let subscription = feed.subscribe(sink).to_all().stuck_after(secs(5)).start().await.unwrap();
    for version in 0..10 {
        feed.publish((0, version)).unwrap();
        advance(secs(1)).await;
    }
    let before = Instant::now();
    assert!(matches!(eventually(subscription.ended()).await, Ended::Stuck(_)));
    assert!(before.elapsed() <= secs(10), "{:?}", before.elapsed());
    assert_eq!(feed.stats().subscribers, 0);
    drop(there);
}
