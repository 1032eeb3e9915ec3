//! The rows `send_1`, `send_8` and `send_64`: `send` without stages, beside all peers that take ops one by one.

use roundlot::Stages;

use super::Row;
use crate::{
    Error,
    bench::Bench,
    load::Load,
    measure::{Variant, measure, named},
    op::Op,
    peers::{futures_batch, ours, raw, recv_many_loop, select_loop, std_thread, tokio_stream},
    report::Report,
};

pub(super) const ROWS: [Row; 3] = [
    Row {
        name: "send_1",
        about: "send, 1 producer",
        run: |bench| run(bench, 1, "send_1_vs_raw", Some("send_1_vs_peer")),
    },
    Row {
        name: "send_8",
        about: "send, 8 producers",
        run: |bench| run(bench, 8, "send_8_vs_raw", Some("send_8_vs_peer")),
    },
    Row { name: "send_64", about: "send, 64 producers", run: |bench| run(bench, 64, "send_64_vs_raw", None) },
];

const TOKIO_STREAM: &str = "tokio-stream chunks_timeout";
const FUTURES_BATCH: &str = "futures-batch";

const NO_SEND: &str = "each of their calls awaits an answer: see the row submit";

fn run(
    bench: &Bench,
    producers: u64,
    raw_figure: &'static str,
    peer_figure: Option<&'static str>,
) -> Result<Report, Error> {
    let on = |ops| Load { producers, ops };
    let runtime = &bench.runtime;
    let variants = vec![
        Variant::new("raw", |ops| {
            runtime.block_on(raw::send(on(ops), Op::numbered));
            ops
        }),
        Variant::new("roundlot send", |ops| {
            runtime.block_on(ours::send(on(ops), Stages::new(), Op::numbered));
            ops
        }),
        Variant::new("roundlot send, 65,536 on their way", |ops| {
            runtime.block_on(ours::send_within(ours::DEFAULT_PENDING, on(ops), Stages::new(), Op::numbered));
            ops
        }),
        Variant::new("raw, 65,536 slots", |ops| {
            runtime.block_on(raw::send_through(on(ops), ours::DEFAULT_PENDING, Op::numbered));
            ops
        }),
        Variant::new("recv_many by hand", |ops| {
            runtime.block_on(recv_many_loop::send(on(ops)));
            ops
        }),
        Variant::new("select! by hand", |ops| {
            runtime.block_on(select_loop::send(on(ops)));
            ops
        }),
        Variant::new(TOKIO_STREAM, |ops| {
            runtime.block_on(tokio_stream::send(on(ops)));
            ops
        }),
        Variant::new(FUTURES_BATCH, |ops| {
            runtime.block_on(futures_batch::send(on(ops)));
            ops
        }),
        Variant::new("std thread, recv_timeout", |ops| {
            std_thread::send(on(ops));
            ops
        }),
    ];
    let results = measure(bench, variants);
    let ours = named(&results, "roundlot send");
    let streams = [named(&results, TOKIO_STREAM), named(&results, FUTURES_BATCH)];
    let [one, other] = streams;
    let peer = if one.speed().median >= other.speed().median { one } else { other };
    let report = Report::of(&results)
        .left_out("batch-aint-one, ultra-batch, tower-batch-control", NO_SEND)
        .note("The producers of the std thread are threads, since its send blocks.")
        .note(format!("The faster stream peer is {}.", peer.name))
        .figure(raw_figure, ours.speed_against(named(&results, "raw")));
    Ok(match peer_figure {
        Some(name) => report.figure(name, ours.speed_against(peer)),
        None => report,
    })
}
