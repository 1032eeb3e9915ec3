//! The row `staged`: `send` with partitions, conflation and priorities, against the bare channel with the same ops.

use std::sync::OnceLock;

use roundlot::Stages;

use super::Row;
use crate::{
    Error,
    bench::Bench,
    load::Load,
    measure::{Variant, measure, named},
    op::{Op, mix},
    peers::{ours, raw, rules_by_hand},
    report::Report,
};

pub(super) const ROW: Row = Row { name: "staged", about: "send with all three stages, 1 producer", run };

/// The number of ops made before the run: a power of two for a cheap modulo, and few enough to stay in a cache.
const MADE: usize = 4096;

fn run(bench: &Bench) -> Result<Report, Error> {
    let runtime = &bench.runtime;
    let on = |ops| Load { producers: 1, ops };
    let variants = vec![
        Variant::new("raw", |ops| {
            runtime.block_on(raw::send(on(ops), made));
            ops
        }),
        Variant::new("roundlot, three stages", |ops| {
            runtime.block_on(ours::send(on(ops), ours::stages(), made));
            ops
        }),
        Variant::new("roundlot, three stages, 65,536 on their way", |ops| {
            runtime.block_on(ours::send_within(ours::DEFAULT_PENDING, on(ops), ours::stages(), made));
            ops
        }),
        Variant::new("the three rules by hand, behind a channel", |ops| {
            runtime.block_on(rules_by_hand::send(on(ops), made));
            ops
        }),
        Variant::new("roundlot, no stages", |ops| {
            runtime.block_on(ours::send(on(ops), Stages::new(), made));
            ops
        }),
    ];
    let results = measure(bench, variants);
    Ok(Report::of(&results)
        .left_out("all peers", "none has these rules")
        .note("100 symbols, four levels, and a third of the ops takes up the key of a recent one.")
        .figure("staged_vs_raw", named(&results, "roundlot, three stages").speed_against(named(&results, "raw"))))
}

/// Returns op `i` of the mix, repeated with new keys on each repetition.
fn made(i: u64) -> Op {
    static OPS: OnceLock<Vec<Op>> = OnceLock::new();
    let op = OPS.get_or_init(|| mix(MADE))[i as usize % MADE];
    Op { id: i, key: op.key + (i & !(MADE as u64 - 1)), ..op }
}
