//! The row `submit`: `submit` and its ack by 1,024 callers. Each caller awaits its answer before the next op.

use super::Row;
use crate::{
    Error,
    bench::Bench,
    load::Load,
    measure::{Measured, Variant, measure, named},
    peers::{CALLERS, batch_aint_one, ours, reply_loop, tower_batch_control, ultra_batch, wakes_alone},
    report::Report,
};

pub(super) const ROW: Row = Row { name: "submit", about: "submit and its ack, 1,024 callers", run };

const OURS: &str = "roundlot submit";
const ONE_AT_ONCE: &str = "batch-aint-one, 1 at once";
const TEN_AT_ONCE: &str = "batch-aint-one, 10 at once";

const WAKES_ALONE: &str = "waking the callers, and no op";

const NO_ANSWER: &str = "their callers get no answer";

fn run(bench: &Bench) -> Result<Report, Error> {
    let runtime = &bench.runtime;
    // Every caller has at least one op.
    let on = |ops: u64| Load { producers: CALLERS, ops: ops.max(CALLERS) };
    let variants = vec![
        Variant::new(OURS, |ops| {
            runtime.block_on(ours::submit(on(ops)));
            on(ops).ops
        }),
        Variant::new(ONE_AT_ONCE, |ops| {
            runtime.block_on(batch_aint_one::submit(on(ops), 1));
            on(ops).ops
        }),
        Variant::new(TEN_AT_ONCE, |ops| {
            runtime.block_on(batch_aint_one::submit(on(ops), 10));
            on(ops).ops
        }),
        Variant::new("ultra-batch", |ops| {
            runtime.block_on(ultra_batch::submit(on(ops)));
            on(ops).ops
        }),
        Variant::new("tower-batch-control", |ops| {
            runtime.block_on(tower_batch_control::submit(on(ops)));
            on(ops).ops
        }),
        Variant::new("recv_many and oneshot by hand", |ops| {
            runtime.block_on(reply_loop::submit(on(ops)));
            on(ops).ops
        }),
        Variant::new(WAKES_ALONE, |ops| {
            runtime.block_on(wakes_alone::submit(on(ops)));
            on(ops).ops
        }),
    ];
    let results = measure(bench, variants);
    let peer = faster(named(&results, ONE_AT_ONCE), named(&results, TEN_AT_ONCE));
    Ok(Report::of(&results)
        .left_out("tokio-stream, futures-batch, std thread", NO_ANSWER)
        .note(
            "ultra-batch and tower-batch-control begin a batch when it is full (128 here) or has waited (1 ms), and not \
             when the destination is free.",
        )
        .figure("submit_vs_peer", named(&results, OURS).speed_against(peer)))
}

fn faster<'a>(one: &'a Measured, other: &'a Measured) -> &'a Measured {
    if one.speed().median >= other.speed().median { one } else { other }
}
