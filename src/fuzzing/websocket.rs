//! Words of a peer over a WebSocket, and the frames that it gets.

use std::{convert::Infallible, time::Duration};

use futures::{StreamExt, stream};
use tokio::{sync::mpsc, time::timeout};

use crate::{
    Batcher, Limits, Retry,
    sink::websocket::{Close, Frames, Message, Socket, WebSocket},
};

/// Ops that are sent, each a number and a text.
const OPS: u32 = 40;

/// Longer than anything takes that a peer can hold up.
const FOR_EVER: Duration = Duration::from_secs(24 * 3600);

/// A peer says whatever the bytes make of it, takes a part of the frames, and is gone. Each op ends once, all frames that it took are lists
/// of ops in their order, and the batcher ends.
pub fn websocket(bytes: &[u8]) -> bool {
    let Some((settings, script)) = bytes.split_first() else { return false };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    let runtime = runtime.expect("a runtime of one thread needs next to nothing");
    runtime.block_on(async {
        timeout(FOR_EVER, talk(*settings, script)).await.expect("a peer holds nothing up for ever")
    });
    !script.is_empty()
}

async fn talk(settings: u8, script: &[u8]) {
    let (frames, mut taken) = mpsc::channel(64);
    let outgoing = stream_sink(frames);
    let incoming = stream::iter(messages(script)).chain(stream::pending());
    let (heard, mut wishes) = mpsc::channel(4);
    let page = WebSocket::new(if settings & 1 == 0 { Frames::json() } else { Frames::json().each() });
    let page = if settings & 2 == 0 { page } else { page.confirmed() };
    let page = if settings & 4 == 0 { page } else { page.incoming(heard) };
    let limits = Limits::new(1 + usize::from(settings >> 4)).write_timeout(Duration::from_secs(60));
    let (desk, worker) = Batcher::new(page.server(Socket::new(outgoing, incoming)))
        .limits(limits)
        .retry(Retry::default().max_attempts(2).give_up_after(Duration::from_secs(60)))
        .spawn();
    // A peer that has closed closes the batcher.
    let sent = desk.send_all((0..OPS).map(|number| (number, "\u{20ac}\"\n"))).await.is_ok();
    let read = tokio::spawn(async move {
        let mut texts = Vec::new();
        while let Some(message) = taken.recv().await {
            texts.push(message);
        }
        texts
    });
    let read_wishes = tokio::spawn(async move { while wishes.recv().await.is_some() {} });
    let summary = worker.shutdown().within(Duration::from_secs(120)).await.expect("the task lives");
    let stats = summary.stats;
    assert_eq!(stats.accepted, stats.ended(), "each op has ended");
    assert!(!sent || stats.accepted == u64::from(OPS));
    let ops: Vec<u32> = read.await.expect("it does not panic").iter().flat_map(ops_of).collect();
    assert!(ops.is_sorted(), "ops leave in their order: {ops:?}");
    assert!(ops.len() as u64 >= stats.outcomes.delivered, "what was delivered was in a frame");
    read_wishes.abort();
}

/// The numbers of the ops in a frame.
fn ops_of(message: &Message) -> Vec<u32> {
    let Message::Text(text) = message else { return Vec::new() };
    let one = |value: &serde_json::Value| value[0].as_u64().expect("an op is a list with its number") as u32;
    match serde_json::from_str(text).expect("a frame is JSON") {
        serde_json::Value::Array(ops) if ops.iter().all(serde_json::Value::is_array) => ops.iter().map(one).collect(),
        op => vec![one(&op)],
    }
}

/// The messages of a script: a byte for the kind, one for the length, and the payload.
fn messages(mut script: &[u8]) -> Vec<Result<Message, &'static str>> {
    let mut messages = Vec::new();
    while let [kind, length, rest @ ..] = script {
        let (payload, rest) = rest.split_at(usize::from(*length).min(rest.len()));
        script = rest;
        let text = || String::from_utf8_lossy(payload).into_owned();
        let code = payload.iter().fold(0, |code: u16, byte| code.wrapping_mul(31).wrapping_add(u16::from(*byte)));
        messages.push(match kind % 7 {
            0 => Ok(Message::Text(text())),
            1 => Ok(Message::Binary(payload.to_vec())),
            2 => Ok(Message::Ping(payload.to_vec())),
            3 => Ok(Message::Pong(payload.to_vec())),
            4 => Ok(Message::Close(None)),
            5 => Ok(Message::Close(Some(Close::new(code, text())))),
            _ => Err("a broken connection"),
        });
    }
    messages
}

/// A sink whose frames are received elsewhere.
fn stream_sink(frames: mpsc::Sender<Message>) -> impl futures::Sink<Message, Error = Infallible> + Send + 'static {
    futures::sink::unfold(frames, |frames, message| async move {
        // The reader ends when the sink is gone, and not before.
        let _ = frames.send(message).await;
        Ok(frames)
    })
}
