//! The row `memory`: the resident memory that is left by 1,000,000 symbols of one op each, in a child process.

use roundlot::{Batcher, Limits, Stages};
use tokio::runtime::Builder;

use super::Row;
use crate::{
    Error,
    bench::Bench,
    child, machine,
    op::Op,
    peers::BATCH,
    report::{Report, Table, thousands},
    target::Target,
};

pub(super) const ROW: Row = Row { name: "memory", about: "memory per symbol that was seen once", run };

/// The name of the job in the child process; its size is the number of symbols.
pub(super) const JOB: &str = "memory";

/// The number of symbols with one op each.
const SYMBOLS: u64 = 1_000_000;

/// The numbers of ops and symbols of the warm-up, after which memory is measured.
const WARM_UP: u64 = 10_000;
const WARM_SYMBOLS: u64 = 100;

fn run(bench: &Bench) -> Result<Report, Error> {
    let symbols = bench.sized(SYMBOLS);
    let grown = child::ask(JOB, symbols)?;
    let per_symbol = grown.max(0.0) / symbols as f64;
    let table = Table::new(["symbols", "bytes above the start", "bytes per symbol"]).row([
        thousands(symbols as f64),
        thousands(grown),
        format!("{per_symbol:.2}"),
    ]);
    let report = Report { table, ..Report::default() };
    Ok(report
        .note(
            "VmRSS of a process of its own after the last op was settled, less VmRSS after 10,000 ops of 100 symbols; \
             max_pending is 2,048.",
        )
        .figure("memory_per_dead_symbol", per_symbol))
}

/// The `max_pending` of the batcher, in ops.
///
/// The small value makes the figure show dead symbols, not memory that the allocator keeps from a past backlog.
const WAITING: usize = 2048;

/// Measures the growth of resident memory by `symbols` symbols, in bytes. Runs in a child.
pub(super) fn in_child(symbols: u64) -> Result<f64, Error> {
    let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        tokio::spawn(async move {
            let target = Target::default();
            let stages = Stages::new().partition_by(|op: &Op| op.symbol);
            let limits = Limits::new(BATCH).max_pending(WAITING);
            let (desk, worker) = Batcher::new(target.clone()).stages(stages).limits(limits).spawn();
            let of = |symbol| Op { symbol, ..Op::numbered(u64::from(symbol)) };
            for i in 0..WARM_UP {
                desk.send(of((i % WARM_SYMBOLS) as u32)).await?;
            }
            assert_eq!(desk.flush().await?.outcomes.delivered, WARM_UP, "ops of the warm-up");
            let before = machine::resident()?;
            for i in 0..symbols {
                desk.send(of((WARM_SYMBOLS + i) as u32)).await?;
            }
            assert_eq!(desk.flush().await?.outcomes.delivered, symbols, "ops of one symbol each");
            let after = machine::resident()?;
            worker.shutdown().await?;
            target.check(WARM_UP + symbols);
            Ok(after - before)
        })
        .await?
    })
}
