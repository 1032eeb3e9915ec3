//! Sessions in other states than usual: defaults of the role, a client that stops in the middle of a message, many small frames.

use std::{
    io::{Read, Write},
    net::TcpStream,
};

use futures::future::join_all;

use super::*;

/// Goal: defaults of a role or database change nothing. Method: serializable transactions and read-only sessions by default, while
/// several processes join at once, send and remove frames.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a PostgreSQL server: tests/run.sh starts one"]
async fn defaults_of_a_role_change_nothing() {
    let place = Place::new().await;
    let defaults = "%20-cdefault_transaction_isolation%3Dserializable%20-cdefault_transaction_read_only%3Don";
    let url = place.url.replace("&application_name", &format!("{defaults}&application_name"));
    let engine = || PostgreSql::at(&url).lease(LEASE);
    let nodes = join_all((0..3).map(|_| async { try_join(engine(), 4, None).await.unwrap() })).await;
    let mut acks = Vec::new();
    for op in 0..300 {
        acks.push(nodes[op % 3].handle().submit(op as i64).await.unwrap());
    }
    for ack in acks {
        ack.await.unwrap();
    }
    place.until("SELECT 1 WHERE NOT EXISTS (SELECT FROM roundlot_frames)").await;
    assert_eq!(place.landed().await.len(), 300);
}

/// Refuses all that comes.
struct Refusing;

impl Sink<i64, i64> for Refusing {
    async fn write(&self, batch: &mut Batch<i64, i64>) -> Result<Settled, SinkError> {
        (0..batch.len()).for_each(|i| batch.refuse(i, SinkError::refused("no")));
        Ok(batch.accept_all_with(|_, op| *op))
    }
}

/// Goal: each dead letter has the bytes of its op, however many there are in a record. Method: ops in many frames, of which more than are
/// read at a time end together.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a PostgreSQL server: tests/run.sh starts one"]
async fn many_dead_letters_keep_their_ops() {
    let place = Place::new().await;
    let orders = Durable::new("orders", place.engine()).limits(Limits::new(200)).sink(|_| Refusing);
    let orders = orders.join().await.unwrap();
    let desk = orders.handle();
    desk.pause().await.unwrap();
    let mut ids = Vec::new();
    for op in 0..200 {
        ids.push((desk.submit(op).await.unwrap().id(), op));
    }
    assert!(place.number("SELECT count(*) FROM roundlot_frames").await > 100);
    desk.resume().await.unwrap();
    desk.flush().await.unwrap();
    let letters = orders.dead_letters().list(1000).await.unwrap();
    assert_eq!(letters.into_iter().map(|(id, letter)| (id, letter.op)).collect::<Vec<_>>(), ids);
}

/// A session by hand, without a client library.
struct Raw(TcpStream);

impl Raw {
    fn connect(url: &str, schema: &str) -> Self {
        let host =
            url.split('@').nth(1).and_then(|rest| rest.split('/').next()).expect("a URL with user, host and port");
        let mut startup = 196_608_u32.to_be_bytes().to_vec();
        let options = format!("-csearch_path={schema}");
        for text in ["user", "roundlot", "database", "postgres", "options", &options, ""] {
            startup.extend_from_slice(text.as_bytes());
            startup.push(0);
        }
        let mut raw = Self(TcpStream::connect(host).unwrap());
        raw.0.write_all(&(startup.len() as u32 + 4).to_be_bytes()).unwrap();
        raw.0.write_all(&startup).unwrap();
        raw.until_ready();
        raw
    }

    /// Writes a message, or the beginning of one whose length is a lie.
    fn send(&mut self, kind: u8, body: &[u8], missing: usize) {
        self.0.write_all(&[kind]).unwrap();
        self.0.write_all(&((body.len() + missing) as u32 + 4).to_be_bytes()).unwrap();
        self.0.write_all(body).unwrap();
    }

    /// Reads up to the message that says that the server is ready.
    fn until_ready(&mut self) {
        loop {
            let mut head = [0; 5];
            self.0.read_exact(&mut head).unwrap();
            let length = u32::from_be_bytes(head[1..].try_into().unwrap()) as usize - 4;
            let mut body = vec![0; length];
            self.0.read_exact(&mut body).unwrap();
            assert_ne!(head[0], b'E', "{}", String::from_utf8_lossy(&body));
            if head[0] == b'Z' {
                return;
            }
        }
    }
}

/// Goal: a client that stops in the middle of a message, with locks of the log, holds up nothing for long. Method: half of a message
/// behind a transaction that has locked all tails and fences, while an op is sent and a process joins.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a PostgreSQL server: tests/run.sh starts one"]
async fn a_client_that_stops_in_a_message_lets_go() {
    let place = Place::new().await;
    let first = join(&place, 1).await;
    first.handle().submit(0).await.unwrap().await.unwrap();
    let (url, schema) = (place.url.clone(), place.schema.clone());
    let _stopped = tokio::task::spawn_blocking(move || {
        let mut raw = Raw::connect(&url, &schema);
        let lock = "BEGIN; SELECT FROM roundlot_tails FOR UPDATE; SELECT FROM roundlot_shards FOR UPDATE\0";
        raw.send(b'Q', lock.as_bytes(), 0);
        raw.until_ready();
        raw.send(b'P', b"\0SELECT $1::text\0\0\0", 0);
        raw.send(b'B', b"\0\0", 1000);
        raw
    })
    .await
    .unwrap();
    place.until("SELECT 1 FROM pg_stat_activity WHERE state = 'active' AND wait_event = 'ClientRead'").await;
    first.handle().submit(1).await.unwrap().await.unwrap();
    assert_eq!(place.landed().await, [0, 1]);
}
