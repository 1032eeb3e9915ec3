//! The row `alloc`: allocations per op of `send` and `submit` in steady state. It is counted, not timed.

use roundlot::Stages;

use super::Row;
use crate::{
    Error, alloc,
    bench::Bench,
    load::Load,
    op::Op,
    peers::{CALLERS, batch_aint_one, ours, raw, reply_loop, tokio_stream},
    report::{Report, Table},
    statistics::median,
};

pub(super) const ROW: Row = Row { name: "alloc", about: "allocations per op in steady state", run };

/// The number of ops of the short run. The long run has three times as many, and the difference is steady state.
const OPS: u64 = 200_000;

/// The number of pairs of runs, of which the median counts: odd, so that it is one of them.
const TRIES: usize = 5;

fn run(bench: &Bench) -> Result<Report, Error> {
    let runtime = &bench.runtime;
    let one = |ops| Load { producers: 1, ops };
    let many = |ops: u64| Load { producers: CALLERS, ops: ops.max(CALLERS) };
    let per_op = |run: &dyn Fn(u64)| steady(bench.sized(OPS).max(2 * CALLERS), run);
    let send = per_op(&|ops| runtime.block_on(ours::send(one(ops), Stages::new(), Op::numbered)));
    let submit = per_op(&|ops| runtime.block_on(ours::submit(many(ops))));
    let others: [(&str, f64); 6] = [
        ("roundlot send_all", per_op(&|ops| runtime.block_on(ours::send_all(one(ops), 100)))),
        (
            "roundlot send, three stages",
            per_op(&|ops| runtime.block_on(ours::send(one(ops), ours::stages(), Op::numbered))),
        ),
        ("raw", per_op(&|ops| runtime.block_on(raw::send(one(ops), Op::numbered)))),
        ("tokio-stream chunks_timeout", per_op(&|ops| runtime.block_on(tokio_stream::send(one(ops))))),
        ("recv_many and oneshot by hand", per_op(&|ops| runtime.block_on(reply_loop::submit(many(ops))))),
        ("batch-aint-one, 1 at once", per_op(&|ops| runtime.block_on(batch_aint_one::submit(many(ops), 1)))),
    ];
    let mut table = Table::new(["variant", "allocations/op"]);
    for (name, value) in [("roundlot send", send), ("roundlot submit", submit)].into_iter().chain(others) {
        table = table.row([name.into(), format!("{value:.5}")]);
    }
    let report = Report { table, ..Report::default() };
    Ok(report
        .note("Allocations of a run of 3 n ops less those of a run of n, over 2 n: start and end cancel out.")
        .figure("alloc_send", send)
        .figure("alloc_submit", submit))
}

/// The median of the allocations per op of a long run less a short one, at least zero.
///
/// A negative difference means that buffers grew less in the long run.
fn steady(ops: u64, run: &dyn Fn(u64)) -> f64 {
    let calls = |ops| alloc::counted(|| run(ops)).calls as f64;
    let tries = (0..TRIES).map(|_| (calls(3 * ops) - calls(ops)) / (2 * ops) as f64);
    median(&tries.collect::<Vec<_>>()).max(0.0)
}
