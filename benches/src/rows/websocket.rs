//! The row `websocket`: small messages over a WebSocket on loopback.
//!
//! roundlot writes many messages per frame. The baseline is tungstenite itself with a flushed frame per message.

use std::time::Duration;

use futures::SinkExt;
use roundlot::{
    Batch, Batcher, Limits, Sink,
    sink::websocket::{Frames, WebSocket},
};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{Message, Utf8Bytes, protocol::Role},
};

use super::Row;
use crate::{
    Error,
    bench::Bench,
    clock::{Span, Stopwatch},
    measure::{Variant, measure, named},
    report::Report,
    wire::{Counted, Peer},
};

pub(super) const ROW: Row = Row { name: "websocket", about: "small messages over a WebSocket on loopback", run };

/// The most messages in a batch, and the number that tungstenite feeds before a flush.
const BATCH: usize = 1000;

/// The number of messages in a call of `send_all`.
const CHUNK: usize = 100;

/// The number of messages of the runs whose bytes and calls are counted; they are not timed.
const COUNTED: u64 = 100_000;

/// Encoded messages of 70 bytes each, so that no encoder is measured.
const MESSAGES: [&str; 4] = [
    r#"{"s":"BTCUSDT","p":"64000.50","q":"0.2500","t":1723075200000,"b":true}"#,
    r#"{"s":"ETHUSDT","p":"02600.25","q":"1.5000","t":1723075200001,"b":null}"#,
    r#"{"s":"SOLUSDT","p":"00145.75","q":"9.7500","t":1723075200002,"b":true}"#,
    r#"{"s":"XRPUSDT","p":"00000.62","q":"500.00","t":1723075200003,"b":null}"#,
];

const SINGLE: &str = "tungstenite, a flushed frame each";
const SEND_ALL: &str = "roundlot send_all";
const SEND: &str = "roundlot send";
const SINK: &str = "roundlot, the sink alone";
const FED: &str = "tungstenite, one flush per 1,000";

type Op = &'static str;
type Ours = WebSocketStream<Counted>;

/// The costs of a run.
struct Run {
    span: Span,
    /// Bytes that the peer read.
    bytes: u64,
    /// Calls into the socket at the near end.
    calls: u64,
}

/// A variant: its name, and the function that sends a number of messages.
type Way = (&'static str, fn(&Bench, u64) -> Result<Run, Error>);

const WAYS: [Way; 5] = [
    (SINGLE, |bench, ops| on_a_wire(bench, ops, |socket| by_tungstenite(socket, ops, 1))),
    (SEND_ALL, |bench, ops| on_a_wire(bench, ops, |socket| through_roundlot(socket, ops, CHUNK))),
    (SEND, |bench, ops| on_a_wire(bench, ops, |socket| through_roundlot(socket, ops, 1))),
    (SINK, by_sink),
    (FED, |bench, ops| on_a_wire(bench, ops, |socket| by_tungstenite(socket, ops, BATCH as u64))),
];

fn run(bench: &Bench) -> Result<Report, Error> {
    let variant = |(name, way): Way| {
        Variant::timed(name, move |ops| {
            let run = way(bench, ops).unwrap_or_else(|error| panic!("the row websocket failed: {error}"));
            (ops, run.span)
        })
    };
    let results = measure(bench, WAYS.into_iter().map(variant).collect());
    let mut report = Report::of(&results)
        .note("Messages of 70 bytes, ready-made, over TCP on loopback without delay, from the side of the server.")
        .note("The peer, a thread in all of them, reads headers and counts frames, and newlines between messages.")
        .note("roundlot's messages are lines of frames of at most 65,535 bytes; batches have at most 1,000 of them.")
        .note("Until the peer has read all and the connection is closed.");
    for (name, way) in WAYS {
        let Run { bytes, calls, .. } = way(bench, COUNTED)?;
        let [bytes, calls] = [bytes, calls].map(|count| count as f64 / COUNTED as f64);
        report = report.note(format!("{name}: {bytes:.2} bytes and {calls:.4} system calls per message."));
    }
    let report = report.note("Such calls are those to read, write and shut down our end, also where it is not ready.");
    Ok(report.figure("websocket_vs_single", named(&results, SEND_ALL).speed_against(named(&results, SINGLE))))
}

/// Runs `write` on a new connection until the peer has seen its end, and checks that all messages arrived.
fn on_a_wire<F>(bench: &Bench, ops: u64, write: impl FnOnce(Ours) -> F) -> Result<Run, Error>
where
    F: Future<Output = Result<(), Error>> + Send + 'static,
{
    let inside = bench.runtime.enter();
    let (peer, stream, calls) = Peer::connect()?;
    let socket = bench.runtime.block_on(WebSocketStream::from_raw_socket(stream, Role::Server, None));
    let watch = Stopwatch::start();
    bench.runtime.block_on(bench.runtime.spawn(write(socket)))??;
    let seen = peer.end()?;
    let span = watch.stop();
    drop(inside);
    assert_eq!(seen.messages, ops, "messages that arrived");
    Ok(Run { span, bytes: seen.bytes, calls: calls.count() })
}

fn message(i: u64) -> Op {
    MESSAGES[i as usize % MESSAGES.len()]
}

/// Writes by tungstenite with a flush every `flush_each` messages: `send` flushes, `feed` does not.
async fn by_tungstenite(mut socket: Ours, ops: u64, flush_each: u64) -> Result<(), Error> {
    for i in 0..ops {
        let message = Message::Text(Utf8Bytes::from_static(message(i)));
        if (i + 1).is_multiple_of(flush_each) {
            socket.send(message).await?;
        } else {
            socket.feed(message).await?;
        }
    }
    Ok(socket.close(None).await?)
}

/// Makes a sink that writes messages as lines, without encoding.
fn lines() -> WebSocket<Op> {
    let copied = |op: &Op, out: &mut Vec<u8>| {
        out.extend_from_slice(op.as_bytes());
        Ok(())
    };
    WebSocket::new(Frames::text(copied).lines())
}

async fn through_roundlot(socket: Ours, ops: u64, chunk: usize) -> Result<(), Error> {
    // There is no linger, as for a screen. A batch has the messages that arrived while the one before was written.
    let (desk, worker) = Batcher::new(lines().server(socket)).limits(Limits::new(BATCH)).spawn();
    let mut numbers = 0..ops;
    while chunk > 1 && !numbers.is_empty() {
        desk.send_all(numbers.by_ref().take(chunk).map(message)).await?;
    }
    for i in numbers {
        desk.send(message(i)).await?;
    }
    let summary = worker.shutdown().within(Duration::from_secs(60)).await?;
    assert_eq!(summary.stats.outcomes.delivered, ops, "messages that were delivered");
    Ok(())
}

/// Writes by the sink alone, in batches made before the clock starts.
fn by_sink(bench: &Bench, ops: u64) -> Result<Run, Error> {
    let batch = |start: u64| Batch::for_test((start..ops.min(start + BATCH as u64)).map(message).collect());
    let batches: Vec<Batch<Op>> = (0..ops).step_by(BATCH).map(batch).collect();
    on_a_wire(bench, ops, |socket| async move {
        let sink = lines().server(socket);
        for mut batch in batches {
            let _settled = sink.write(&mut batch).await?;
        }
        Ok(sink.close().await?)
    })
}
