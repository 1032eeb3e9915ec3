//! One browser's socket: a subscriber of the feed, which ends with the connection. `server` hands over the upgraded
//! connection; `page.js` is at the other end.

use std::{sync::Arc, time::Duration};

use axum::extract::ws::{self, WebSocketUpgrade};
use axum::response::Response;
use futures::StreamExt;
use roundlot::{
    Feed, Limits,
    sink::websocket::{Close, Frames, Message, Socket, WebSocket},
};
use tokio::sync::OwnedSemaphorePermit;

use crate::event::Event;

/// Maximum time without progress before a browser is dropped.
pub(crate) const STUCK_AFTER: Duration = Duration::from_secs(15);

/// Minimum time between two frames, for at most twenty a second. A slower browser gets fewer, with the latest events.
const PACE: Duration = Duration::from_millis(50);

/// Maximum number of events that wait for one browser: more than a panel has topics.
const MAX_PENDING: usize = 20_000;

/// Maximum size of a message from a browser, in bytes. The page sends none.
const MAX_MESSAGE: usize = 1024;

pub(crate) fn frames() -> Frames<Event> {
    Frames::json()
}

/// Subscribes a browser to all topics. The latest event of each topic comes first; later events follow when the browser
/// has read the earlier ones.
pub(crate) fn serve(
    upgrade: WebSocketUpgrade,
    feed: Feed<Event, Arc<str>>,
    screen: WebSocket<Event>,
    seat: OwnedSemaphorePermit,
) -> Response {
    let upgrade = upgrade.max_message_size(MAX_MESSAGE).max_frame_size(MAX_MESSAGE);
    upgrade.on_upgrade(async move |socket| {
        let _seat = seat;
        let (sink, stream) = socket.split();
        let sink = screen.server(Socket::mapped(sink, stream, to_axum, from_axum));
        let limits = Limits::new(1000).linger(PACE).max_pending(MAX_PENDING);
        let subscriber = feed.subscribe(sink).to_all().limits(limits).stuck_after(STUCK_AFTER);
        drop(feed);
        // The feed is closed at the end of the run, and there is nothing to subscribe to.
        if let Ok(subscription) = subscriber.start().await {
            let ended = subscription.ended().await;
            tracing::debug!(%ended, "a browser has left");
        }
    })
}

fn to_axum(message: Message) -> ws::Message {
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

fn from_axum(message: ws::Message) -> Message {
    match message {
        ws::Message::Text(text) => Message::Text(text.to_string()),
        ws::Message::Binary(bytes) => Message::Binary(bytes.into()),
        ws::Message::Ping(bytes) => Message::Ping(bytes.into()),
        ws::Message::Pong(bytes) => Message::Pong(bytes.into()),
        ws::Message::Close(close) => Message::Close(close.map(|close| Close::new(close.code, close.reason.as_str()))),
    }
}
