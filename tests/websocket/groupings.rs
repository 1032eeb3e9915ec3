//! Tests of the content of frames, and of their size.

use roundlot::{
    Batch, ErrorKind, Sink,
    sink::websocket::{Frames, WebSocket},
};
use tokio::io::AsyncReadExt;
use tokio_tungstenite::tungstenite::protocol::Role;

use super::{Seen, numbers, pipe, read, served, text, write};

/// Goal: each grouping matches its documentation. Method: a foreign client reads three ops.
#[tokio::test(start_paused = true)]
async fn each_grouping_is_read_by_a_foreign_client() {
    let length_first = Frames::binary(|op: &u32, out| {
        out.extend([4]);
        out.extend(op.to_be_bytes());
        Ok(())
    });
    let cases = [
        (Frames::json(), vec![text("[1,2,3]")]),
        (Frames::json().lines(), vec![text("1\n2\n3")]),
        (Frames::json().each(), vec![text("1"), text("2"), text("3")]),
        (Frames::json().joined("{\"ops\":[", ",", "]}"), vec![text("{\"ops\":[1,2,3]}")]),
        (length_first, vec![Seen::Binary(vec![4, 0, 0, 0, 1, 4, 0, 0, 0, 2, 4, 0, 0, 0, 3])]),
    ];
    for (frames, expected) in cases {
        let (socket, mut client) = served(4096).await;
        let sink = WebSocket::new(frames).server(socket);
        assert_eq!(write(&sink, vec![1, 2, 3]).await, [None; 3]);
        for frame in expected {
            assert_eq!(read(&mut client).await, frame);
        }
    }
}

/// Goal: the cap is hard, whatever the batch; an op above it is refused alone. Method: numbers of all lengths.
#[tokio::test(start_paused = true)]
async fn no_frame_is_above_the_cap() {
    let (socket, mut client) = served(1 << 20).await;
    let sink = WebSocket::new(Frames::<String>::json().max_bytes(64)).server(socket);
    let ops: Vec<String> = (0..500).map(|i| "x".repeat(i % 64)).collect();
    let verdicts = write(&sink, ops.clone()).await;
    let fits = |op: &String| op.len() + 4 <= 64;
    for (op, verdict) in ops.iter().zip(verdicts) {
        assert_eq!(verdict, (!fits(op)).then_some(ErrorKind::Refused), "{} bytes", op.len());
    }
    let expected: Vec<&String> = ops.iter().filter(|op| fits(op)).collect();
    let mut seen: Vec<String> = Vec::new();
    while seen.len() < expected.len() {
        let Seen::Text(frame) = read(&mut client).await else { panic!("only text is sent") };
        assert!(frame.len() <= 64, "{} bytes", frame.len());
        seen.extend(serde_json::from_str::<Vec<String>>(&frame).unwrap());
    }
    assert_eq!(seen.iter().collect::<Vec<_>>(), expected);
    assert_eq!(sink.stats().messages, expected.len() as u64);
}

/// Goal: the statistics count the bytes on the wire. Method: count the bytes that leave the pipe, for both roles and
/// for frames whose length takes one, three and nine bytes in the header.
#[tokio::test(start_paused = true)]
async fn statistics_count_the_wire() {
    for (role, mask) in [(Role::Server, 0), (Role::Client, 4)] {
        let (socket, mut there) = pipe(1 << 20, role).await;
        let settings = WebSocket::new(Frames::<String>::json().max_bytes(1 << 20));
        let sink = if role == Role::Server { settings.server(socket) } else { settings.client(socket) };
        let mut apart = 0;
        for (ops, length) in [(3, 10), (50, 10), (50, 2000)] {
            let ops = vec!["y".repeat(length); ops];
            apart += ops.len() * (length + 2 + mask + if length > 123 { 4 } else { 2 });
            assert!(write(&sink, ops).await.iter().all(Option::is_none));
        }
        let stats = sink.stats();
        drop(sink);
        let mut wire = Vec::new();
        there.read_to_end(&mut wire).await.unwrap();
        assert_eq!((stats.messages, stats.frames, stats.connections), (103, 3, 1));
        assert_eq!(stats.frames_saved(), 100);
        assert_eq!(stats.bytes, wire.len() as u64);
        assert_eq!(stats.bytes_apart, apart as u64);
        assert_eq!(stats.bytes_saved(), apart as i64 - wire.len() as i64);
    }
}

/// Goal: one sum for all sinks of a kind. Method: two connections, one of which has ended.
#[tokio::test(start_paused = true)]
async fn statistics_are_summed_over_the_connections() {
    let page = numbers();
    for (ops, connections) in [(vec![1, 2], 1), (vec![3, 4, 5], 2)] {
        let (socket, _client) = served(4096).await;
        let sink = page.server(socket);
        write(&sink, ops.clone()).await;
        assert_eq!((sink.stats().messages, sink.stats().frames), (ops.len() as u64, 1));
        assert_eq!(page.stats().connections, connections);
    }
    assert_eq!((page.stats().messages, page.stats().frames), (5, 2));
    assert_eq!(page.clone().stats(), page.stats());
}

/// Goal: a batch whose ops are all refused sends nothing. Method: an encoder that fails.
#[tokio::test(start_paused = true)]
async fn a_refused_batch_sends_no_message() {
    let (socket, mut client) = served(4096).await;
    let sink = WebSocket::new(Frames::text(|_: &u32, _| Err("no".into()))).server(socket);
    let mut batch = Batch::for_test(vec![1, 2]);
    assert!(sink.write(&mut batch).await.is_ok());
    assert_eq!(batch.verdict(1).unwrap().unwrap_err().chain(), "refused: no");
    drop(sink);
    assert_eq!(read(&mut client).await, Seen::End);
}

/// Goal: an exporter sees the sums, under the name of all sinks of a kind. Method: two connections, one page of metrics.
#[tokio::test(start_paused = true)]
async fn metrics_have_one_series_for_all_connections() {
    let recorder = metrics_exporter_prometheus::PrometheusBuilder::new().build_recorder();
    let page = metrics::with_local_recorder(&recorder, || numbers().name("page"));
    for ops in [vec![1, 2], vec![3, 4, 5]] {
        let (socket, _client) = served(4096).await;
        assert!(write(&page.server(socket), ops).await.iter().all(Option::is_none));
    }
    let text = recorder.handle().render();
    for line in [
        "roundlot_websocket_messages_total{socket=\"page\"} 5",
        "roundlot_websocket_frames_total{socket=\"page\"} 2",
        "roundlot_websocket_bytes_total{socket=\"page\"} 16",
        "roundlot_websocket_connections_total{socket=\"page\"} 2",
    ] {
        assert!(text.contains(line), "{line} is not in\n{text}");
    }
}

/// Goal: a panic in an encoder costs its batch and nothing else. Method: a batcher, whose next batch lands.
#[tokio::test(start_paused = true)]
async fn a_panic_in_an_encoder_is_contained() {
    let (socket, mut client) = served(4096).await;
    let frames = Frames::text(|op: &u32, out| {
        assert_ne!(*op, 13);
        out.extend(op.to_string().as_bytes());
        Ok(())
    });
    let (desk, _worker) = roundlot::Batcher::new(WebSocket::new(frames).server(socket)).spawn();
    for op in [13, 14] {
        let landed = desk.submit(op).await.unwrap().await.is_ok();
        assert_eq!(landed, op == 14);
    }
    assert_eq!(read(&mut client).await, text("14"));
}

/// Goal: everything can be held and awaited on any thread. Method: the compiler.
#[test]
fn public_types_and_futures_are_send_and_sync() {
    fn both<T: Send + Sync>() {}
    both::<roundlot::sink::websocket::WebSocketSink<std::cell::Cell<u32>>>();
    both::<WebSocket<std::rc::Rc<u32>>>();
    both::<roundlot::Feed<u32, u32>>();
    both::<roundlot::Subscription<u32, u32>>();
}
