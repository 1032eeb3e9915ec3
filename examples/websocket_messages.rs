//! Prices to browsers over WebSockets: one feed, one browser that reads all the time, and one that reads rarely and
//! then gets the latest prices. Neither browser slows the feed or the other browser, and many prices share a frame.
//!
//! Run it with `cargo run --example websocket_messages --features websocket`.
//! Server and browsers are one process on loopback. The docs of `Socket` show the same server side with axum.

use std::{error::Error, time::Duration};

use futures::{SinkExt, StreamExt};
use roundlot::{
    Fanout, Feed, Limits,
    market::{PriceUpdate, Symbol},
    sink::websocket::{Frames, Message, WebSocket},
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::mpsc,
    time::sleep,
};
use tokio_tungstenite::{accept_async, connect_async, tungstenite};

const PAIRS: [&str; 12] = ["BTC", "ETH", "SOL", "XRP", "ADA", "DOT", "LTC", "BCH", "UNI", "XLM", "ATOM", "NEAR"];

/// Serves one browser: its messages name the symbols that it wants, and their latest prices are sent first.
async fn serve(stream: TcpStream, feed: Feed<PriceUpdate, Symbol>, screen: WebSocket<PriceUpdate>) {
    let Ok(upgraded) = accept_async(stream).await else { return };
    let (sender, mut wishes) = mpsc::channel(16);
    let sink = screen.incoming(sender).server(upgraded);
    // At most fifty frames a second; prices that come in between are conflated.
    let limits = Limits::new(1000).linger(Duration::from_millis(20));
    let Ok(mut subscription) = feed.subscribe(sink).limits(limits).start().await else { return };
    drop(feed);
    while let Some(Message::Text(wish)) = wishes.recv().await {
        if let Ok(symbol) = wish.parse()
            && let Err(error) = subscription.add([symbol]).await
        {
            println!("server: {wish}: {error}");
        }
    }
}

/// A browser that looks at a frame, does something else for `busy`, and looks again.
async fn browse(url: String, name: &str, busy: Duration) -> Result<(), tungstenite::Error> {
    let (mut page, _) = connect_async(url).await?;
    for symbol in PAIRS {
        page.send(symbol.into()).await?;
    }
    let (mut frames, mut last) = (0, String::new());
    while let Some(message) = page.next().await {
        match message? {
            tungstenite::Message::Text(text) => (frames, last) = (frames + 1, text.to_string()),
            tungstenite::Message::Close(Some(close)) => println!("{name}: the server says goodbye: {}", close.code),
            _ => {}
        }
        sleep(busy).await;
    }
    println!("{name}: {frames} frames, the last with {}", last.get(..64).unwrap_or(&last));
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let (feed, worker) = Fanout::by(|update: &PriceUpdate| update.symbol).spawn();
    // A confirmed frame leaves when the last one was read, so that no stale frames wait in the network's buffers.
    let screen = WebSocket::new(Frames::json()).confirmed();
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("ws://{}/", listener.local_addr()?);
    let quick = tokio::spawn(browse(url.clone(), "quick", Duration::ZERO));
    let slow = tokio::spawn(browse(url, "slow", Duration::from_millis(150)));
    for _ in 0..2 {
        let (stream, _) = listener.accept().await?;
        tokio::spawn(serve(stream, feed.clone(), screen.clone()));
    }

    for n in 0..6000 {
        let price = format!("{}.{:02}", 61_000 + n / 100, n % 100).parse()?;
        feed.publish(PriceUpdate::new(Symbol::new(PAIRS[n % PAIRS.len()])?, price, n as i64))?; // never waits
        if n % 6 == 5 {
            sleep(Duration::from_millis(1)).await;
        }
    }
    let published = feed.stats().feed.accepted;
    drop(feed);
    worker.shutdown().within(Duration::from_secs(5)).await?; // each client gets the last price and a close frame
    quick.await??;
    slow.await??;
    let sent = screen.stats();
    println!("server: {published} prices for each of two browsers: {} messages were new when they left", sent.messages);
    println!(
        "server: {} frames, {} saved; {} bytes, {} saved",
        sent.frames,
        sent.frames_saved(),
        sent.bytes,
        sent.bytes_saved()
    );
    Ok(())
}
