//! The rows `send_all_1` and `send_all_8`: `send_all` in chunks of 100, against one `send` of the bare channel per op.

use roundlot::Stages;

use super::Row;
use crate::{
    Error,
    bench::Bench,
    load::Load,
    measure::{Variant, measure, named},
    op::Op,
    peers::{ours, raw},
    report::Report,
};

pub(super) const ROWS: [Row; 2] = [
    Row { name: "send_all_1", about: "send_all, 1 producer", run: |bench| run(bench, 1, "send_all_1_vs_raw") },
    Row { name: "send_all_8", about: "send_all, 8 producers", run: |bench| run(bench, 8, "send_all_8_vs_raw") },
];

/// The number of ops in a call of `send_all` or `reserve_many`.
const CHUNK: usize = 100;

const NO_CHUNKS: &str = "they have no way to take many at once";

fn run(bench: &Bench, producers: u64, figure: &'static str) -> Result<Report, Error> {
    let on = |ops| Load { producers, ops };
    let runtime = &bench.runtime;
    let variants = vec![
        Variant::new("raw", |ops| {
            runtime.block_on(raw::send(on(ops), Op::numbered));
            ops
        }),
        Variant::new("roundlot send_all", |ops| {
            runtime.block_on(ours::send_all(on(ops), CHUNK));
            ops
        }),
        Variant::new("roundlot send", |ops| {
            runtime.block_on(ours::send(on(ops), Stages::new(), Op::numbered));
            ops
        }),
        Variant::new("raw, reserve_many(100)", |ops| {
            runtime.block_on(raw::send_chunks(on(ops), CHUNK));
            ops
        }),
    ];
    let results = measure(bench, variants);
    Ok(Report::of(&results)
        .left_out("tokio-stream, futures-batch, batch-aint-one", NO_CHUNKS)
        .note("ultra-batch has execute_many, whose answer is awaited: another job than this one.")
        .figure(figure, named(&results, "roundlot send_all").speed_against(named(&results, "raw"))))
}
