//! Tests of `confirmed`: a batch is accepted only after the peer has read it.

use fastwebsockets::OpCode;
use roundlot::{ErrorKind, testing::until_idle};
use tokio::time::Instant;

use super::{Seen, eventually, numbers, read, say, secs, served, text, write};

/// Goal: no verdict before the pong. Method: hold the pong back; then answer only the second of two pings, as the protocol
/// allows.
#[tokio::test(start_paused = true)]
async fn a_batch_is_accepted_after_its_pong() {
    let (socket, mut client) = served(4096).await;
    let sink = numbers().confirmed().server(socket);
    let task = tokio::spawn(async move { (write(&sink, vec![1]).await, write(&sink, vec![2]).await, sink.stats()) });

    assert_eq!(read(&mut client).await, text("[1]"));
    let Seen::Ping(first) = read(&mut client).await else { panic!("a ping comes behind each batch") };
    until_idle().await;
    assert!(!task.is_finished());
    say(&mut client, OpCode::Pong, b"unasked").await;
    say(&mut client, OpCode::Pong, &u64::MAX.to_be_bytes()).await;
    until_idle().await;
    assert!(!task.is_finished(), "a number that was not asked for proves nothing");
    say(&mut client, OpCode::Pong, &first).await;

    assert_eq!(read(&mut client).await, text("[2]"), "the next batch goes when the first is settled");
    let Seen::Ping(second) = read(&mut client).await else { panic!("a ping comes behind each batch") };
    assert!(second > first);
    say(&mut client, OpCode::Pong, &first).await;
    until_idle().await;
    assert!(!task.is_finished(), "an old pong proves nothing");
    say(&mut client, OpCode::Pong, &second).await;
    let (one, two, stats) = eventually(task).await.unwrap();
    assert_eq!((one, two), (vec![None], vec![None]));
    assert_eq!((stats.messages, stats.frames), (2, 2), "pings are not counted");
}

/// Goal: an unconfirmed op is in doubt. Method: no pong within the time; and a connection that ends before it.
#[tokio::test(start_paused = true)]
async fn a_batch_without_a_pong_is_in_doubt() {
    let (socket, _client) = served(4096).await;
    let sink = numbers().confirmed().stall_after(secs(3)).server(socket);
    let before = Instant::now();
    assert_eq!(write(&sink, vec![1, 2]).await, [Some(ErrorKind::Ambiguous); 2]);
    assert_eq!(before.elapsed(), secs(3));

    let (socket, mut client) = served(4096).await;
    let sink = numbers().confirmed().server(socket);
    let ((), verdicts) = tokio::join!(
        async {
            assert_eq!(read(&mut client).await, text("[1,2]"));
            drop(client);
        },
        write(&sink, vec![1, 2])
    );
    assert_eq!(verdicts, [Some(ErrorKind::Ambiguous); 2]);
    assert_eq!(sink.stats().messages, 0);
}
