//! Tests of messages from the peer: forwarded in order, or dropped without a receiver.

use fastwebsockets::OpCode;
use roundlot::{sink::websocket::Message, testing::until_idle};
use tokio::sync::mpsc;

use super::{Seen, eventually, numbers, read, say, served, write};

/// Goal: messages come in order, controls do not, and the end is seen. Method: a foreign client says all kinds of things.
#[tokio::test(start_paused = true)]
async fn messages_of_the_peer_come_in_order() {
    let (socket, mut client) = served(4096).await;
    let (sender, mut incoming) = mpsc::channel(8);
    let sink = numbers().incoming(sender).server(socket);
    say(&mut client, OpCode::Text, b"subscribe").await;
    say(&mut client, OpCode::Ping, b"").await;
    say(&mut client, OpCode::Binary, &[1, 2]).await;
    assert_eq!(eventually(incoming.recv()).await, Some(Message::Text("subscribe".into())));
    assert_eq!(eventually(incoming.recv()).await, Some(Message::Binary(vec![1, 2])));
    assert_eq!(sink.stats().received, 2);
    drop(client);
    assert_eq!(eventually(incoming.recv()).await, None, "the sink is over");
}

/// Goal: the channel is the bound: a peer that floods is held back by the connection. Method: a channel of one, a pipe of
/// few bytes, many messages; and writing goes on meanwhile.
#[tokio::test(start_paused = true)]
async fn a_full_channel_stops_reading() {
    let (socket, there) = super::pipe(64, tokio_tungstenite::tungstenite::protocol::Role::Server).await;
    let (sender, mut incoming) = mpsc::channel(1);
    let sink = numbers().incoming(sender).server(socket);
    let (mut reader, mut writer) = tokio::io::split(there);
    let flood = tokio::spawn(async move {
        for n in 0..1000u32 {
            // A masked text frame of four digits, with a mask of zeros.
            let frame = [&[0x81, 0x84, 0, 0, 0, 0][..], format!("{n:04}").as_bytes()].concat();
            tokio::io::AsyncWriteExt::write_all(&mut writer, &frame).await.unwrap();
        }
    });
    until_idle().await;
    assert!(!flood.is_finished());
    assert_eq!(write(&sink, vec![7]).await, [None], "the other way is free");
    let mut frame = [0; 5];
    tokio::io::AsyncReadExt::read_exact(&mut reader, &mut frame).await.unwrap();
    assert_eq!(&frame[2..], b"[7]");
    for n in 0..1000 {
        assert_eq!(eventually(incoming.recv()).await, Some(Message::Text(format!("{n:04}"))));
    }
}

/// Goal: a sink without a receiver is not held up. Method: no channel, and one whose receiver is gone.
#[tokio::test(start_paused = true)]
async fn messages_without_a_receiver_are_dropped() {
    let (sender, receiver) = mpsc::channel(1);
    drop(receiver);
    for settings in [numbers(), numbers().incoming(sender)] {
        let (socket, mut client) = served(64).await;
        let _sink = settings.server(socket);
        for _ in 0..100 {
            say(&mut client, OpCode::Text, b"hello").await;
        }
        say(&mut client, OpCode::Ping, b"still there?").await;
        assert_eq!(read(&mut client).await, Seen::Pong(b"still there?".to_vec()));
    }
}
