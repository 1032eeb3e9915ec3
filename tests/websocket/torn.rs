//! Tests of connections torn at random bytes by a proxy on loopback, between this client and a tokio-tungstenite
//! server.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use futures::StreamExt;
use roundlot::{
    AckError, Batcher, Retry,
    sink::websocket::{Frames, WebSocket, dial},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use tokio_tungstenite::tungstenite::Message;

use super::ms;

const OPS: u32 = 8000;
const TEARS: usize = 20;

/// SplitMix64: the tears repeat from run to run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % limit
    }
}

/// All whole messages that came, connection by connection. A message that is not one fails the test.
type Log = Arc<Mutex<Vec<String>>>;

async fn serve(listener: TcpListener, log: Log) {
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let log = Arc::clone(&log);
        tokio::spawn(async move {
            let Ok(mut socket) = tokio_tungstenite::accept_async(stream).await else { return };
            while let Some(Ok(message)) = socket.next().await {
                if let Message::Text(text) = message {
                    log.lock().unwrap().push(text.as_str().to_owned());
                }
            }
        });
    }
}

/// Passes bytes on, until a random number has gone one way; then both ends are torn.
async fn proxy(listener: TcpListener, server: std::net::SocketAddr, seed: u64, torn: Arc<AtomicUsize>) {
    let mut dice = Dice(seed);
    loop {
        let (mut client, _) = listener.accept().await.unwrap();
        let mut server = TcpStream::connect(server).await.unwrap();
        let tears = torn.load(Ordering::Relaxed) < TEARS;
        // The handshake has some 200 bytes: some tears hit it, most do not.
        let (up, down) = (dice.below(2500), dice.below(1000));
        if !tears {
            tokio::io::copy_bidirectional(&mut client, &mut server).await.ok();
            continue;
        }
        let (mut from_client, mut to_client) = client.split();
        let (mut from_server, mut to_server) = server.split();
        tokio::select! {
            () = pass(&mut from_client, &mut to_server, up) => {}
            () = pass(&mut from_server, &mut to_client, down) => {}
        }
        torn.fetch_add(1, Ordering::Relaxed);
    }
}

async fn pass(from: &mut (impl AsyncReadExt + Unpin), to: &mut (impl AsyncWriteExt + Unpin), mut left: u64) {
    let mut buffer = [0; 512];
    while left > 0 {
        let most = buffer.len().min(left as usize);
        match from.read(&mut buffer[..most]).await {
            Ok(0) | Err(_) => return,
            Ok(n) if to.write_all(&buffer[..n]).await.is_err() => return,
            Ok(n) => left -= n as u64,
        }
    }
}

/// Sends numbers through torn connections. Returns the outcome of each number, the messages that came, and the number
/// of torn connections.
async fn run(seed: u64, frames: Frames<u32>, idempotent: bool) -> (Vec<Result<(), AckError>>, Vec<String>, usize) {
    let (server, log) = (TcpListener::bind("127.0.0.1:0").await.unwrap(), Log::default());
    let address = server.local_addr().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("ws://{}/", listener.local_addr().unwrap());
    let torn = Arc::new(AtomicUsize::new(0));
    let serving = tokio::spawn(serve(server, Arc::clone(&log)));
    let proxying = tokio::spawn(proxy(listener, address, seed, Arc::clone(&torn)));

    let retry = Retry::exponential(ms(1), ms(10)).max_attempts(u32::MAX);
    let sink = WebSocket::new(frames).confirmed().retry(retry.clone()).connect(move || dial(url.clone()));
    let batcher = Batcher::new(sink).limits(50).retry(retry);
    let (desk, worker) = if idempotent { batcher.idempotent() } else { batcher }.spawn();
    let mut acks = Vec::new();
    for n in 0..OPS {
        acks.push(desk.submit(n).await.unwrap());
    }
    let mut told = Vec::new();
    for ack in acks {
        told.push(tokio::time::timeout(super::secs(60), ack).await.expect("it hangs"));
    }
    drop(desk);
    worker.join().await.unwrap();
    proxying.abort();
    serving.abort();
    let log = std::mem::take(&mut *log.lock().unwrap());
    (told, log, torn.load(Ordering::Relaxed))
}

fn count(messages: &[String], lines: bool) -> (Vec<u32>, HashMap<u32, usize>) {
    let parse = |text: &String| -> Vec<u32> {
        if lines {
            text.lines().map(|line| line.parse().unwrap()).collect()
        } else {
            serde_json::from_str(text).unwrap()
        }
    };
    let order: Vec<u32> = messages.iter().flat_map(parse).collect();
    let mut times = HashMap::new();
    order.iter().for_each(|n| *times.entry(*n).or_default() += 1);
    (order, times)
}

/// Goal: whatever a connection is torn at, each accepted message arrives whole and exactly once, each in doubt at most
/// once. Nothing else arrives, and order holds. Method: seeded tears, two groupings.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_accepted_op_arrives_once_and_one_in_doubt_at_most_once() {
    for (seed, lines) in [(1, false), (2, true), (3, false)] {
        let frames = if lines { Frames::json().lines() } else { Frames::json() };
        let (told, messages, torn) = run(seed, frames, false).await;
        let (order, times) = count(&messages, lines);
        assert!(order.is_sorted(), "seed {seed}: out of order");
        let mut doubt = 0;
        for (n, told) in (0..).zip(&told) {
            let times = times.get(&n).copied().unwrap_or(0);
            match told {
                Ok(()) => assert_eq!(times, 1, "seed {seed}: {n} was accepted"),
                Err(AckError::InDoubt(_)) => {
                    doubt += 1;
                    assert!(times <= 1, "seed {seed}: {n} was sent again");
                }
                Err(other) => panic!("seed {seed}: {n}: {other:?}"),
            }
        }
        assert!(torn >= TEARS, "seed {seed}: {torn} tears");
        assert!(doubt > 0 && doubt < OPS / 2, "seed {seed}: {doubt} in doubt");
    }
}

/// Goal: where repeats are harmless, every op arrives at least once. Method: the same, idempotent.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_idempotent_every_op_arrives_at_least_once() {
    let (told, messages, _) = run(4, Frames::json(), true).await;
    let (_, times) = count(&messages, false);
    assert!(told.iter().all(Result::is_ok));
    assert!((0..OPS).all(|n| times.contains_key(&n)));
}
