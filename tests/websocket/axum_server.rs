//! Tests of axum as the peer, and of axum as the server of a page with many subscribers.

use axum::{
    Router,
    extract::{
        State,
        ws::{self, WebSocketUpgrade},
    },
    response::Response,
    routing::get,
};
use futures::{SinkExt, StreamExt};
use roundlot::{
    Batcher, Fanout, Feed, Retry,
    sink::websocket::{Close, Frames, Message, Socket, WebSocket, dial},
};
use tokio::{net::TcpListener, sync::mpsc};
use tokio_tungstenite::tungstenite::Message as Wire;

use super::{ms, secs, until};

pub(super) fn to_axum(message: Message) -> ws::Message {
    match message {
        Message::Text(text) => ws::Message::Text(text.into()),
        Message::Binary(bytes) => ws::Message::Binary(bytes.into()),
        Message::Ping(bytes) => ws::Message::Ping(bytes.into()),
        Message::Pong(bytes) => ws::Message::Pong(bytes.into()),
        Message::Close(close) => {
            ws::Message::Close(close.map(|Close { code, reason }| ws::CloseFrame { code, reason: reason.into() }))
        }
    }
}

pub(super) fn from_axum(message: ws::Message) -> Message {
    match message {
        ws::Message::Text(text) => Message::Text(text.to_string()),
        ws::Message::Binary(bytes) => Message::Binary(bytes.into()),
        ws::Message::Ping(bytes) => Message::Ping(bytes.into()),
        ws::Message::Pong(bytes) => Message::Pong(bytes.into()),
        ws::Message::Close(close) => Message::Close(close.map(|close| Close::new(close.code, close.reason.as_str()))),
    }
}

type Quote = (String, u32);

#[derive(Clone)]
struct App {
    feed: Feed<Quote, String>,
    screen: WebSocket<Quote>,
}

/// A page: symbols come in as text, `-` before one that is not wanted any more; arrays of quotes go out.
async fn page(upgrade: WebSocketUpgrade, State(app): State<App>) -> Response {
    upgrade.on_upgrade(async move |socket| {
        let (sink, stream) = socket.split();
        let (sender, mut wishes) = mpsc::channel(16);
        let sink = app.screen.clone().incoming(sender).server(Socket::mapped(sink, stream, to_axum, from_axum));
        let Ok(mut subscription) = app.feed.subscribe(sink).stuck_after(secs(10)).start().await else { return };
        // The channel of wishes ends when the browser left, or was dropped.
        while let Some(Message::Text(wish)) = wishes.recv().await {
            match wish.strip_prefix('-') {
                Some(symbol) => subscription.remove([symbol.to_owned()]).await,
                None => drop(subscription.add([wish]).await),
            }
        }
    })
}

async fn start(app: App) -> (String, tokio::task::JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("ws://{}/", listener.local_addr().unwrap());
    let router = Router::new().route("/", get(page)).with_state(app);
    (url, tokio::spawn(async move { axum::serve(listener, router).await.unwrap() }))
}

type Browser = tokio_tungstenite::WebSocketStream<tokio_tungstenite::MaybeTlsStream<tokio::net::TcpStream>>;

async fn open(url: &str) -> Browser {
    tokio_tungstenite::connect_async(url).await.unwrap().0
}

async fn next(browser: &mut Browser) -> Wire {
    tokio::time::timeout(secs(30), browser.next()).await.expect("it hangs").unwrap().unwrap()
}

async fn say(browser: &mut Browser, wish: &str) {
    browser.send(Wire::Text(wish.into())).await.unwrap();
}

/// Goal: a page on axum works from end to end. Method: a browser, played by tokio-tungstenite, subscribes by symbol,
/// gets a snapshot, updates, a pong, changes its topics, and leaves. The end of the feed closes another browser.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_browser_gets_the_symbols_it_subscribed_to() {
    let (feed, worker) = Fanout::by(|quote: &Quote| quote.0.clone()).spawn();
    let app = App { feed: feed.clone(), screen: WebSocket::new(Frames::json()) };
    let (url, serving) = start(app.clone()).await;
    let publish = |symbol: &str, price| feed.publish((symbol.to_owned(), price)).unwrap();
    publish("BTC", 1);
    publish("ETH", 2);
    publish("SOL", 3);
    feed.flush().await.unwrap();

    let (mut browser, mut other) = (open(&url).await, open(&url).await);
    say(&mut browser, "BTC").await;
    assert_eq!(next(&mut browser).await, Wire::Text(r#"[["BTC",1]]"#.into()), "the snapshot");
    browser.send(Wire::Ping("alive?".into())).await.unwrap();
    assert_eq!(next(&mut browser).await, Wire::Pong("alive?".into()));
    publish("ETH", 4);
    publish("BTC", 5);
    assert_eq!(next(&mut browser).await, Wire::Text(r#"[["BTC",5]]"#.into()), "what it wants, no more");
    // Wishes are handled in order: an answer to the second one means that the first was handled.
    say(&mut browser, "-BTC").await;
    say(&mut browser, "SOL").await;
    assert_eq!(next(&mut browser).await, Wire::Text(r#"[["SOL",3]]"#.into()));
    publish("BTC", 6);
    publish("SOL", 7);
    assert_eq!(next(&mut browser).await, Wire::Text(r#"[["SOL",7]]"#.into()));

    until("both are there", || feed.stats().subscribers == 2).await;
    browser.close(None).await.unwrap();
    while let Some(Ok(_)) = browser.next().await {}
    until("it has left", || feed.stats().subscribers == 1).await;

    say(&mut other, "ETH").await;
    assert_eq!(next(&mut other).await, Wire::Text(r#"[["ETH",4]]"#.into()));
    let (ended, goodbye) = tokio::join!(worker.shutdown().within(secs(30)).into_future(), async {
        let goodbye = next(&mut other).await;
        while let Some(Ok(_)) = other.next().await {}
        goodbye
    });
    let Wire::Close(Some(close)) = goodbye else { panic!("{goodbye}") };
    assert_eq!(u16::from(close.code), 1001);
    assert_eq!(ended.unwrap().stats.accepted, 7);
    let stats = app.screen.stats();
    assert_eq!((stats.connections, stats.messages, stats.received), (2, 5, 4));
    serving.abort();
}

/// Goal: on a page of axum, a browser that left without a close is dropped, and one that is there is kept. Neither
/// needs a price. Method: two browsers of which one reads nothing, pings in quick succession, and no update at all.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_browser_is_not_counted() {
    for confirmed in [false, true] {
        let (feed, _worker) = Fanout::by(|quote: &Quote| quote.0.clone()).spawn();
        let screen = WebSocket::new(Frames::json()).ping_every(ms(20)).stall_after(secs(2));
        let screen = if confirmed { screen.confirmed() } else { screen };
        let (url, serving) = start(App { feed: feed.clone(), screen }).await;
        let (mut live, _silent) = (open(&url).await, open(&url).await);
        let reading = tokio::spawn(async move { while let Some(Ok(_)) = live.next().await {} });
        until("the silent one is gone", || feed.stats().failed == 1).await;
        assert_eq!((feed.stats().subscribers, feed.stats().subscribed), (1, 2));
        reading.abort();
        serving.abort();
    }
}

/// Goal: a client of ours speaks to axum, honors its close, and comes back. Method: a server that hangs up after each
/// message, with a code to come back after.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_writes_to_an_axum_server() {
    let (heard, mut hears) = mpsc::unbounded_channel();
    let handler = async move |upgrade: WebSocketUpgrade| -> Response {
        upgrade.on_upgrade(async move |mut socket| {
            if let Some(Ok(ws::Message::Text(text))) = socket.recv().await {
                heard.send(text.to_string()).unwrap();
                // The ping behind the message, which the client answers while it waits for the next message.
                assert!(matches!(socket.recv().await, Some(Ok(ws::Message::Ping(_)))));
                let nothing = tokio::time::timeout(ms(5), socket.recv()).await;
                assert!(nothing.is_err(), "{nothing:?}");
            }
            let restart = ws::CloseFrame { code: 1012, reason: "deploy".into() };
            socket.send(ws::Message::Close(Some(restart))).await.ok();
            while let Some(Ok(_)) = socket.recv().await {}
        })
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("ws://{}/", listener.local_addr().unwrap());
    let serving = tokio::spawn(async move { axum::serve(listener, Router::new().route("/", get(handler))).await });
    let retry = Retry::exponential(ms(1), ms(5)).max_attempts(u32::MAX);
    let sink =
        WebSocket::<u32>::new(Frames::json()).confirmed().retry(retry.clone()).connect(move || dial(url.clone()));
    let (desk, worker) = Batcher::new(sink).retry(retry).spawn();
    let mut delivered = Vec::new();
    while delivered.len() < 5 {
        let n = desk.stats().accepted as u32;
        desk.send(n).await.unwrap();
        let report = desk.flush().await.unwrap();
        // A batch that is written while the server hangs up is in doubt.
        assert_eq!(report.outcomes.delivered + report.outcomes.in_doubt, 1);
        if report.outcomes.delivered == 1 {
            delivered.push(format!("[{n}]"));
        }
    }
    worker.shutdown().await.unwrap();
    serving.abort();
    let mut heard = Vec::new();
    while let Ok(text) = hears.try_recv() {
        heard.push(text);
    }
    assert!(delivered.iter().all(|text| heard.contains(text)), "{delivered:?} {heard:?}");
}
