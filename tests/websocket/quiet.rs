//! Tests of the log while subscribers come and go: no line is above debug level.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicU32, Ordering},
};

use axum::{Router, extract::ws::WebSocketUpgrade, response::Response, routing::get};
use fastwebsockets::Role as PeerRole;
use futures::StreamExt;
use roundlot::{
    Fanout, Feed, Limits,
    fanout::Ended,
    sink::websocket::{Frames, Socket, WebSocket, dial},
    testing::until_idle,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use tokio_tungstenite::{WebSocketStream, tungstenite::protocol::Role};
use tracing::{Event, Level, Metadata, Subscriber, span};

use super::{
    axum_server::{from_axum, to_axum},
    eventually, ms, numbers, peer, secs, until,
};

/// Remembers every event at info level and above.
#[derive(Clone, Default)]
struct Heard(Arc<Mutex<Vec<String>>>);

impl Heard {
    fn lines(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }
}

struct Line(String);

impl tracing::field::Visit for Line {
    fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn std::fmt::Debug) {
        self.0 += &format!(" {field}={value:?}");
    }
}

impl Subscriber for Heard {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= Level::INFO
    }
    fn event(&self, event: &Event<'_>) {
        let mut line = Line(format!("{} {}", event.metadata().level(), event.metadata().target()));
        event.record(&mut line);
        self.0.lock().unwrap().push(line.0);
    }
    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }
    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}
    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}
    fn enter(&self, _: &span::Id) {}
    fn exit(&self, _: &span::Id) {}
}

/// Runs a test with a log of its own, in this thread.
fn logged(paused: bool, test: impl Future<Output = ()>) -> Vec<String> {
    let heard = Heard::default();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(paused).build().unwrap();
    tracing::subscriber::with_default(heard.clone(), || runtime.block_on(test));
    heard.lines()
}

type Quote = (u32, u32);

fn quotes() -> (Feed<Quote, u32>, roundlot::Worker<Quote>) {
    Fanout::by(|quote: &Quote| quote.0).name("page").spawn()
}

/// Goal: 150 watchers within ten seconds that come and go in any way are no news. Method: they break off, say goodbye, are
/// dropped by this side, or never read, with and without confirmation, before, during and after a write.
#[test]
fn subscribers_come_and_go_without_a_log_line() {
    for confirmed in [false, true] {
        let lines = logged(true, async {
            let (feed, worker) = quotes();
            let page = WebSocket::new(Frames::json());
            let page = if confirmed { page.confirmed() } else { page };
            (0..500).for_each(|n| feed.publish((n, n)).unwrap());
            let mut kept = Vec::new();
            for n in 0..150 {
                let (here, there) = tokio::io::duplex(if n % 3 == 0 { 64 } else { 1 << 16 });
                let sink = page.server(WebSocketStream::from_raw_socket(here, Role::Server, None).await);
                let subscription = feed.subscribe(sink).to_all().stuck_after(secs(1)).start().await.unwrap();
                if n % 2 == 0 {
                    until_idle().await;
                }
                feed.publish((7, n)).unwrap();
                match n % 5 {
                    0 => drop(there),
                    1 => {
                        let mut peer = peer(there, PeerRole::Client);
                        let _ = peer.write_frame(fastwebsockets::Frame::close(1001, b"tab closed")).await;
                        drop(peer);
                    }
                    2 => drop((subscription, there)),
                    // Never reads.
                    3 => kept.push((Some(subscription), there)),
                    _ => {
                        kept.push((Some(subscription), there));
                        continue;
                    }
                }
                feed.publish((8, n)).unwrap();
                tokio::time::sleep(ms(60)).await;
            }
            tokio::time::sleep(secs(3600)).await;
            let stats = feed.stats();
            assert_eq!((stats.subscribers, stats.subscribed), (0, 150), "{stats:?}");
            drop(feed);
            eventually(worker.join()).await.unwrap();
        });
        assert!(lines.is_empty(), "{} lines, the first of which are {:#?}", lines.len(), &lines[..lines.len().min(5)]);
    }
}

/// Goal: an op that no watcher can be sent makes one line of the feed at most, not one of each watcher. Method: a
/// hundred watchers, and an op that fits into no frame.
#[test]
fn an_op_that_fits_into_no_frame_is_not_logged_for_each_subscriber() {
    let lines = logged(true, async {
        let (feed, worker) = Fanout::by(|text: &String| text.len()).spawn();
        let page = WebSocket::new(Frames::json().max_bytes(100));
        let mut kept = Vec::new();
        for _ in 0..100 {
            let (here, there) = tokio::io::duplex(1 << 16);
            let sink = page.server(WebSocketStream::from_raw_socket(here, Role::Server, None).await);
            kept.push((feed.subscribe(sink).to_all().start().await.unwrap(), there));
        }
        for n in 0..20 {
            feed.publish("x".repeat(n * 10)).unwrap();
            feed.flush().await.unwrap();
            until_idle().await;
        }
        let stats = feed.stats();
        assert_eq!((stats.delivered, stats.refused), (1000, 1000), "counted, though not told one by one");
        drop((feed, kept));
        eventually(worker.join()).await.unwrap();
    });
    assert!(lines.is_empty(), "{} lines: {:?}", lines.len(), lines.first());
}

/// Goal: the same holds on axum, with connections that are reset. Method: 150 clients open the page; some read and some
/// do not, and all reset the connection while prices go on.
#[test]
fn resets_of_axum_connections_are_not_logged() {
    let lines = logged(false, async {
        let (feed, worker) = quotes();
        (0..500).for_each(|n| feed.publish((n, n)).unwrap());
        let screen = WebSocket::new(Frames::json()).name("page").confirmed();
        let ended = Arc::new(AtomicU32::new(0));
        let handler = {
            let (feed, screen, ended) = (feed.clone(), screen.clone(), Arc::clone(&ended));
            async move |upgrade: WebSocketUpgrade| -> Response {
                upgrade.on_upgrade(async move |socket| {
                    let (sink, stream) = socket.split();
                    let sink = screen.server(Socket::mapped(sink, stream, to_axum, from_axum));
                    let limits = Limits::new(1000).linger(ms(5)).max_pending(20_000);
                    let subscriber = feed.subscribe(sink).to_all().limits(limits).stuck_after(secs(15));
                    drop(feed);
                    if let Ok(subscription) = subscriber.start().await {
                        assert!(matches!(subscription.ended().await, Ended::Failed(_)));
                        ended.fetch_add(1, Ordering::Relaxed);
                    }
                })
            }
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = Router::new().route("/", get(handler));
        let serving = tokio::spawn(async move { axum::serve(listener, router).await });
        for n in 0..150u32 {
            let mut stream = TcpStream::connect(address).await.unwrap();
            let request = "GET / HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
                sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
            stream.write_all(request.as_bytes()).await.unwrap();
            let mut answer = [0; 12];
            stream.read_exact(&mut answer).await.unwrap();
            assert_eq!(&answer, b"HTTP/1.1 101");
            if n % 3 == 0 {
                let mut some = [0; 2000];
                let _ = stream.read(&mut some).await.unwrap();
            }
            feed.publish((n, n)).unwrap();
            // Unread data turns the close into a reset.
            drop(stream);
            feed.publish((n, n + 1)).unwrap();
        }
        until("all have left", || ended.load(Ordering::Relaxed) == 150).await;
        assert_eq!(feed.stats().subscribers, 0);
        serving.abort();
        drop(feed);
        worker.shutdown().await.unwrap();
    });
    assert!(lines.len() < 10, "{} lines, the first of which are {:#?}", lines.len(), &lines[..lines.len().min(5)]);
}

/// Goal: a failed attempt to connect is a line with cause, attempt and pause; one that can never succeed is one line.
/// Method: a missing server, and a URL that is wrong.
#[test]
fn a_client_logs_why_it_retries_and_why_it_stops() {
    let lines = logged(true, async {
        let down = || async { Err(roundlot::SinkError::outage("connection refused")) };
        let sink = numbers().retry(roundlot::Retry::exponential(ms(100), secs(30)).seed(1)).connect(down);
        tokio::time::sleep(ms(250)).await;
        drop(sink);
    });
    assert!((1..=3).contains(&lines.len()), "{lines:#?}");
    for part in ["connection refused", "attempt=1", "pause="] {
        assert!(lines[0].contains(part), "{}", lines[0]);
    }
    let lines = logged(true, async {
        let sink = numbers().connect(|| dial("http://nowhere/"));
        assert!(eventually(sink.ready()).await.is_err());
        for _ in 0..100 {
            assert_eq!(super::write_error(&sink).await.kind(), roundlot::ErrorKind::Refused);
        }
    });
    assert_eq!(lines.len(), 1, "{lines:#?}");
    assert!(lines[0].contains("the URL is neither ws:// nor wss://"), "{}", lines[0]);
}
