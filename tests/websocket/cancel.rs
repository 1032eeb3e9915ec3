//! Tests of writes that are dropped midway: they leave whole frames and a usable connection.

use std::future::Future;

use proptest::prelude::*;
use roundlot::{
    Batch, Sink,
    sink::websocket::{Frames, WebSocket},
};
use tokio::io::AsyncReadExt;

use super::{Seen, peer, pipe, read, secs};
use fastwebsockets::Role as PeerRole;
use tokio_tungstenite::tungstenite::protocol::Role;

/// Writes two batches, the first of which is dropped after `polls` polls, between which the peer reads `bytes` bytes.
/// Returns the ops that the peer saw.
async fn drop_after(polls: usize, bytes: usize, buffer: usize, length: usize, each: bool) -> Vec<String> {
    let (socket, mut there) = pipe(buffer, Role::Server).await;
    let frames = if each { Frames::<String>::json().each() } else { Frames::json().max_bytes(100 + length) };
    let sink = WebSocket::new(frames).server(socket);
    let op = move |batch: usize| {
        (0..20).map(move |n| format!("{batch:02}-{n:02}-{}", "x".repeat(length))).collect::<Vec<_>>()
    };

    let mut wire = Vec::new();
    let mut first = Batch::for_test(op(1));
    {
        let mut write = Box::pin(sink.write(&mut first));
        for _ in 0..polls {
            let done = std::future::poll_fn(|cx| std::task::Poll::Ready(write.as_mut().poll(cx).is_ready())).await;
            if done {
                break;
            }
            let mut some = vec![0; bytes];
            if let Ok(Ok(n)) = tokio::time::timeout(secs(1), there.read(&mut some)).await {
                wire.extend_from_slice(&some[..n]);
            }
        }
    }
    let second = tokio::spawn(async move {
        let mut batch = Batch::for_test(op(2));
        assert!(sink.write(&mut batch).await.is_ok());
        drop(sink);
    });
    there.read_to_end(&mut wire).await.unwrap();
    second.await.unwrap();

    // A foreign parser reads what came out of the pipe.
    let (end, mut other) = tokio::io::duplex(wire.len() + 1);
    tokio::io::AsyncWriteExt::write_all(&mut other, &wire).await.unwrap();
    drop(other);
    let mut client = peer(end, PeerRole::Client);
    let mut seen = Vec::new();
    loop {
        match read(&mut client).await {
            Seen::Text(frame) if each => seen.push(serde_json::from_str(&frame).unwrap()),
            Seen::Text(frame) => seen.extend(serde_json::from_str::<Vec<String>>(&frame).unwrap()),
            Seen::End => return seen,
            other => panic!("{other:?}"),
        }
    }
}

fn check(seen: &[String]) {
    assert!(seen.windows(2).all(|pair| pair[0] < pair[1]), "whole, once, in order: {seen:?}");
    let second: Vec<&String> = seen.iter().filter(|op| op.starts_with("02")).collect();
    assert_eq!(second.len(), 20, "the write behind it lands whole");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Goal: a write that is dropped anywhere corrupts no frame: fed frames are whole, and later ones too. Method: drop
    /// it after any number of polls, on pipes and with messages of any size, and let a foreign parser read.
    #[test]
    fn a_dropped_write_corrupts_nothing(
        polls in 0usize..12,
        bytes in 1usize..5000,
        buffer in 1usize..4000,
        // Above 128 KiB for a batch, tungstenite begins to write in the middle of it.
        length in prop_oneof![Just(5usize), Just(300), Just(20_000)],
        each: bool,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        check(&runtime.block_on(drop_after(polls, bytes, buffer, length, each)));
    }
}
