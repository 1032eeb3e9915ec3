//! Tests of panics in a user's functions in a fanout: each costs one op and no other.

use roundlot::{
    Batch, Fanout, Retry, Sink,
    sink::websocket::{Close, Frames, Message, Socket, WebSocket},
    testing::{Recorder, until_idle},
};

use super::{Seen, eventually, ms, read, served, text, write};

/// A quote whose topic, key or clone panics, as its fields say.
#[derive(Debug, PartialEq)]
struct Quote {
    symbol: u8,
    version: u32,
    fault: Option<Fault>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Fault {
    Topic,
    Key,
    Clone,
}

fn quote(symbol: u8, version: u32) -> Quote {
    Quote { symbol, version, fault: None }
}

impl Quote {
    fn check(&self, fault: Fault) {
        assert_ne!(self.fault, Some(fault), "a function of the user");
    }
}

impl Clone for Quote {
    fn clone(&self) -> Self {
        self.check(Fault::Clone);
        Self { ..*self }
    }
}

fn topic(quote: &Quote) -> u8 {
    quote.check(Fault::Topic);
    quote.symbol
}

/// Goal: an update at which a function panics is refused by itself, and every other one of its batch goes to all
/// subscribers. Method: each kind of fault in the middle of a batch, with and without keys, for subscribers by topic
/// and to all. A later subscriber gets a sound snapshot.
#[tokio::test(start_paused = true)]
async fn an_update_at_which_a_function_panics_is_refused_alone() {
    for keyed in [true, false] {
        for fault in [Fault::Topic, Fault::Key, Fault::Clone] {
            let key = move |quote: &Quote| {
                quote.check(Fault::Key);
                keyed.then_some(())
            };
            let (feed, _worker) = Fanout::by(topic).key_by(key).spawn();
            let (all, some) = (Recorder::new(), Recorder::new());
            let _all = feed.subscribe(all.clone()).to_all().start().await.unwrap();
            let _some = feed.subscribe(some.clone()).to([1, 2, 3]).start().await.unwrap();
            for quote in [quote(1, 1), Quote { fault: Some(fault), ..quote(2, 2) }, quote(3, 3)] {
                feed.publish(quote).unwrap();
            }
            feed.flush().await.unwrap();
            let case = format!("{fault:?}, keyed: {keyed}");
            for screen in [&all, &some] {
                assert_eq!(screen.wait_for(2).await, [quote(1, 1), quote(3, 3)], "{case}");
            }
            feed.publish(quote(2, 4)).unwrap();
            assert_eq!(all.wait_for(3).await[2], quote(2, 4), "{case}");
            assert_eq!(some.wait_for(3).await[2], quote(2, 4), "{case}");
            let stats = feed.stats();
            assert_eq!(
                (stats.feed.outcomes.refused, stats.feed.outcomes.in_doubt, stats.feed.outcomes.delivered),
                (1, 0, 3),
                "{case}"
            );
            let late = Recorder::new();
            let _late = feed.subscribe(late.clone()).to_all().start().await.unwrap();
            until_idle().await;
            let expected = if keyed { vec![quote(1, 1), quote(3, 3), quote(2, 4)] } else { vec![] };
            assert_eq!(late.ops(), expected, "{case}");
        }
    }
}

/// Goal: a message that cannot be encoded costs its own op. Method: an encoder that panics in the middle of a batch.
#[tokio::test(start_paused = true)]
async fn a_panic_of_an_encoder_refuses_one_op() {
    let (socket, mut client) = served(4096).await;
    let frames = Frames::text(|op: &u32, out| {
        out.extend(op.to_string().as_bytes());
        assert_ne!(*op, 13, "unlucky");
        Ok(())
    });
    let sink = WebSocket::new(frames.joined("[", ",", "]")).server(socket);
    let mut batch = Batch::for_test(vec![12, 13, 14]);
    assert!(sink.write(&mut batch).await.is_ok());
    assert!(batch.verdict(0).unwrap().is_ok() && batch.verdict(2).unwrap().is_ok());
    let chain = batch.verdict(1).unwrap().unwrap_err().chain();
    assert!(chain.starts_with("refused: the encoder of a message panicked: "), "{chain}");
    assert_eq!(read(&mut client).await, text("[12,14]"));
}

/// Goal: a function that converts messages and panics costs the connection and not the client, which comes back. Method: a
/// client whose first connection has such functions.
#[tokio::test(start_paused = true)]
async fn a_panic_of_a_conversion_ends_one_connection() {
    for outgoing in [true, false] {
        let (sender, mut peers) = tokio::sync::mpsc::unbounded_channel();
        let dials = std::sync::atomic::AtomicU32::new(0);
        let retry = Retry::exponential(ms(1), ms(1)).max_attempts(u32::MAX);
        let sink = WebSocket::<u32>::new(Frames::json()).retry(retry).connect(move || {
            let is_first = dials.fetch_add(1, std::sync::atomic::Ordering::Relaxed) == 0;
            let sender = sender.clone();
            async move {
                let (here, there) = tokio::io::duplex(4096);
                let role = tokio_tungstenite::tungstenite::protocol::Role::Client;
                let stream = tokio_tungstenite::WebSocketStream::from_raw_socket(here, role, None).await;
                sender.send(super::peer(there, fastwebsockets::Role::Server)).unwrap();
                let (sink, stream) = futures::StreamExt::split(stream);
                let to = move |message: Message| {
                    assert!(!(is_first && outgoing), "unlucky");
                    message.into()
                };
                let from = move |message: tokio_tungstenite::tungstenite::Message| {
                    assert!(!is_first || outgoing, "unlucky");
                    message.into()
                };
                Ok(Socket::mapped(sink, stream, to, from))
            }
        });
        eventually(sink.ready()).await.unwrap();
        let mut first = eventually(peers.recv()).await.unwrap();
        if outgoing {
            assert!(write(&sink, vec![1]).await[0].is_some());
        } else {
            super::say(&mut first, fastwebsockets::OpCode::Text, b"hello").await;
        }
        let mut second = eventually(peers.recv()).await.unwrap();
        eventually(sink.ready()).await.unwrap();
        assert_eq!(write(&sink, vec![2]).await, [None]);
        assert_eq!(read(&mut second).await, text("[2]"));
    }
}

/// Goal: a rule for closes that panics does not end the client. Method: such a rule.
#[tokio::test(start_paused = true)]
async fn the_default_rule_decides_after_a_panic_of_reconnect_on() {
    for (code, comes_back) in [(1012, true), (1000, false)] {
        let (sender, mut peers) = tokio::sync::mpsc::unbounded_channel();
        let settings = WebSocket::<u32>::new(Frames::json()).reconnect_on(|_: &Close| panic!("unlucky"));
        let sink = settings.connect(move || {
            let sender = sender.clone();
            async move {
                let (socket, there) = super::pipe(4096, tokio_tungstenite::tungstenite::protocol::Role::Client).await;
                sender.send(super::peer(there, fastwebsockets::Role::Server)).unwrap();
                Ok(socket)
            }
        });
        let mut first = eventually(peers.recv()).await.unwrap();
        first.write_frame(fastwebsockets::Frame::close(code, b"")).await.unwrap();
        assert!(matches!(read(&mut first).await, Seen::Close(..)));
        drop(first);
        assert_eq!(eventually(peers.recv()).await.is_some(), comes_back, "{code}");
        drop(sink);
    }
}
