//! Tests of answers to pings, and of the ways in which a connection ends.

use fastwebsockets::{Frame, OpCode};
use roundlot::{ErrorKind, Sink, sink::websocket::Close};
use tokio::time::Instant;

use super::{Seen, connected, eventually, numbers, read, say, secs, served, text, write, write_error};

/// Goal: pings are answered though nothing is written. Method: a foreign client pings twice.
#[tokio::test(start_paused = true)]
async fn pings_are_answered() {
    let (socket, mut client) = served(4096).await;
    let _sink = numbers().server(socket);
    for payload in [b"a", b"b"] {
        say(&mut client, OpCode::Ping, payload).await;
        assert_eq!(read(&mut client).await, Seen::Pong(payload.to_vec()));
    }
}

/// Goal: pings are answered between the frames of a peer that is slow. Method: the pipe is full while the ping comes.
#[tokio::test(start_paused = true)]
async fn pings_are_answered_during_a_write() {
    let (socket, mut client) = served(16).await;
    let sink = numbers().server(socket);
    let write = tokio::spawn(async move { write(&sink, (0..100).collect()).await });
    say(&mut client, OpCode::Ping, b"x").await;
    let (mut frames, mut pongs) = (0, 0);
    while frames + pongs < 2 {
        match read(&mut client).await {
            Seen::Text(_) => frames += 1,
            Seen::Pong(payload) if payload == b"x" => pongs += 1,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!((frames, pongs), (1, 1));
    assert_eq!(eventually(write).await.unwrap(), [None; 100]);
}

/// Goal: a close by the peer ends the sink, and the error names code and reason. Method: closes of several kinds.
#[tokio::test(start_paused = true)]
async fn a_close_by_the_peer_is_final_and_named() {
    let cases = [
        (Some((1000, "")), "1000 normal"),
        (Some((1001, "tab closed")), "1001 going away, \"tab closed\""),
        (Some((1008, "no")), "1008 policy violation, \"no\""),
        (Some((4007, "")), "4007 private code"),
        (None, "no code"),
    ];
    for (close, named) in cases {
        let (socket, mut client) = served(4096).await;
        let sink = numbers().server(socket);
        let frame =
            close.map_or(Frame::close_raw(vec![].into()), |(code, reason)| Frame::close(code, reason.as_bytes()));
        client.write_frame(frame).await.unwrap();
        // The peer's close is answered, and then the connection ends.
        assert!(matches!(read(&mut client).await, Seen::Close(..)));
        assert_eq!(read(&mut client).await, Seen::End);
        let error = write_error(&sink).await;
        assert_eq!(error.chain(), format!("refused: final: the peer closed the connection: {named}"));
        assert_eq!(eventually(sink.ready()).await.unwrap_err().kind(), ErrorKind::Refused);
        assert!(eventually(sink.close()).await.is_ok());
    }
}

/// Goal: ops that were under way when the peer closed are in doubt, the rest are not. Method: frames of which only some
/// fit.
#[tokio::test(start_paused = true)]
async fn a_close_during_a_write_leaves_what_was_fed_in_doubt() {
    let (socket, mut client) = served(64).await;
    let frames = roundlot::sink::websocket::Frames::<String>::json().each().max_bytes(200_000);
    let sink = roundlot::sink::websocket::WebSocket::new(frames).server(socket);
    // tungstenite holds 128 KiB before it begins to write, and the half of a split stream one message more.
    let ops = vec!["z".repeat(100_000); 6];
    let write = tokio::spawn(async move { write(&sink, ops).await });
    roundlot::testing::until_idle().await;
    client.write_frame(Frame::close(1001, b"")).await.unwrap();
    let verdicts = eventually(write).await.unwrap();
    let fed = verdicts.iter().take_while(|kind| **kind == Some(ErrorKind::Ambiguous)).count();
    assert_eq!(fed, 3);
    assert!(verdicts[fed..].iter().all(|kind| *kind == Some(ErrorKind::Refused)), "{verdicts:?}");
}

/// Goal: a connection that ends without a close is an end, too. Method: drop the peer.
#[tokio::test(start_paused = true)]
async fn a_server_connection_that_ends_without_a_close_is_final() {
    let (socket, client) = served(4096).await;
    let sink = numbers().server(socket);
    drop(client);
    assert!(eventually(sink.ready()).await.is_ok());
    roundlot::testing::until_idle().await;
    let error = write_error(&sink).await;
    assert_eq!(error.kind(), ErrorKind::Refused);
    assert!(error.chain().contains("final"), "{}", error.chain());
}

/// Goal: closing sends a close frame with the right code, after the written messages. Method: both sides, and a code
/// of one's own.
#[tokio::test(start_paused = true)]
async fn closing_does_the_close_handshake() {
    let own = numbers().farewell(Close::new(4000, "done"));
    let (socket, client) = served(4096).await;
    let (other, server) = connected(4096).await;
    let (third, last) = served(4096).await;
    let cases = [
        (numbers().server(socket), client, Seen::Close(1001, String::new())),
        (numbers().client(other), server, Seen::Close(1000, String::new())),
        (own.server(third), last, Seen::Close(4000, "done".into())),
    ];
    for (sink, mut peer, expected) in cases {
        assert_eq!(write(&sink, vec![1]).await, [None]);
        let before = Instant::now();
        let (closed, ()) = tokio::join!(sink.close(), async {
            assert_eq!(read(&mut peer).await, text("[1]"));
            assert_eq!(read(&mut peer).await, expected);
            drop(peer);
        });
        assert!(closed.is_ok());
        assert_eq!(before.elapsed(), secs(0), "a peer that answers is not waited for");
        assert_eq!(write_error(&sink).await.chain(), "refused: the WebSocket sink is closed");
    }
}

/// Goal: a peer that does not answer the close holds up the end for a limited time. Method: it never reads.
#[tokio::test(start_paused = true)]
async fn the_close_handshake_has_a_time_limit() {
    let (socket, _client) = served(4096).await;
    let sink = numbers().server(socket);
    let before = Instant::now();
    assert!(eventually(sink.close()).await.is_ok());
    assert_eq!(before.elapsed(), secs(10));
}

/// Goal: a sink that is dropped closes its connection. Method: the peer sees the end, without a close frame.
#[tokio::test(start_paused = true)]
async fn dropping_the_sink_closes_the_connection() {
    let (socket, mut client) = served(4096).await;
    drop(numbers().server(socket));
    assert_eq!(read(&mut client).await, Seen::End);
}

/// Goal: a peer that takes nothing is given up, and told why if it wakes up in time. Method: the pipe is full; the time
/// passes; then the peer reads.
#[tokio::test(start_paused = true)]
async fn a_connection_to_a_stuck_peer_is_closed() {
    let (socket, mut client) = served(16).await;
    let sink = numbers().stall_after(secs(5)).server(socket);
    let before = Instant::now();
    assert_eq!(eventually(write(&sink, (0..100).collect())).await, [Some(ErrorKind::Ambiguous); 100]);
    assert_eq!(before.elapsed(), secs(5));
    let error = write_error(&sink).await;
    assert_eq!(error.chain(), "refused: final: the peer took nothing for 5s");
    assert!(matches!(read(&mut client).await, Seen::Text(_)), "what was fed is whole");
    assert_eq!(read(&mut client).await, Seen::Close(1013, "too slow".into()));
}

/// Goal: the same holds when the batcher gave up on the write. Method: drop a write, then close.
#[tokio::test(start_paused = true)]
async fn a_sink_that_is_closed_in_mid_write_says_why() {
    let (socket, mut client) = served(16).await;
    let sink = numbers().server(socket);
    assert!(tokio::time::timeout(secs(1), write(&sink, (0..100).collect())).await.is_err());
    let (closed, ()) = tokio::join!(sink.close(), async {
        assert!(matches!(read(&mut client).await, Seen::Text(_)));
        assert_eq!(read(&mut client).await, Seen::Close(1013, "too slow".into()));
        drop(client);
    });
    assert!(closed.is_ok());
}
