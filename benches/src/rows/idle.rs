//! The row `idle`: wake-ups of an idle actor in an hour. It is counted on a paused clock.

use std::{cell::Cell, future::poll_fn, iter, pin::pin, time::Duration};

use futures::{StreamExt, stream::FuturesUnordered};
use roundlot::{Batcher, Limits};
use tokio::{runtime::Builder, task::yield_now, time::sleep};

use super::Row;
use crate::{
    Error,
    bench::Bench,
    child,
    op::Op,
    report::{Report, Table},
    target::Target,
};

pub(super) const ROW: Row = Row { name: "idle", about: "wake-ups of an idle actor in an hour", run };

/// The idle time in which wake-ups are counted.
const HOUR: Duration = Duration::from_secs(3600);

/// The name of the job in the child process; its size is the linger in milliseconds.
pub(super) const JOB: &str = "idle";

/// Counts in child processes, since pausing a clock makes every later clock read in the process slower.
fn run(_bench: &Bench) -> Result<Report, Error> {
    let natural = child::ask(JOB, 0)?;
    let lingering = child::ask(JOB, 10)?;
    let table = Table::new(["variant", "wake-ups per idle hour"])
        .row(["roundlot, natural batching".into(), natural.to_string()])
        .row(["roundlot, linger of 10 ms".into(), lingering.to_string()])
        .row(["select! by hand, interval of 10 ms".into(), "360,000 (by arithmetic)".into()]);
    let report = Report { table, ..Report::default() };
    Ok(report
        .note("Polls of the worker's future in a paused hour, after one op was sent and written.")
        .figure("idle_wakeups", natural.max(lingering)))
}

/// Counts the polls of the worker in an idle hour. Runs in a child.
pub(super) fn in_child(linger_ms: u64) -> Result<f64, Error> {
    let limits = Limits::new(1024).linger(Duration::from_millis(linger_ms));
    let runtime = Builder::new_current_thread().enable_all().start_paused(true).build()?;
    runtime.block_on(async {
        let target = Target::default();
        let (desk, worker) = Batcher::new(target.clone()).limits(limits).split();
        let polls = Cell::new(0_u32);
        let mut worker = pin!(worker);
        let counted = poll_fn(|cx| {
            polls.set(polls.get() + 1);
            worker.as_mut().poll(cx)
        });
        let idle = async {
            desk.send(Op::numbered(1)).await.expect("the batcher runs");
            while target.arrived() == 0 {
                sleep(Duration::from_millis(1)).await;
            }
            sleep(Duration::from_secs(1)).await;
            yield_now().await;
            let before = polls.get();
            sleep(HOUR).await;
            let after = polls.get();
            drop(desk);
            after - before
        };
        // The end of the hour wakes this task, too. `FuturesUnordered` polls the worker only if the worker was woken.
        let mut worker: FuturesUnordered<_> = iter::once(counted).collect();
        let (_summary, polled) = tokio::join!(worker.next(), idle);
        Ok(f64::from(polled))
    })
}
